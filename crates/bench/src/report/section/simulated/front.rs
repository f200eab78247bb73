//! Table I: events of the front end and what else costs cycles, in simulation.

use super::*;

const CLAIM: &str = "Cranelift's code loads the front end more than LLVM's.";
/// The first-level caches that are looked at, in bytes: the size that most processors have had for twenty years.
const CACHE_BYTES: u64 = 32 << 10;
/// The predictor that is closest to today's processors.
const PREDICTOR: &str = "tage";

pub(super) fn section(results: &Results, sets: &[Set<'_>]) -> Section {
    let mut section = Section {
        id: "table1",
        title: "Table I: what the code asks of a processor".into(),
        lead: format!(
            "The paper read hardware counters. Where a machine has them, they stand first. The other figures are simulated: the guest's own code in first-level caches of {} (64-byte \
             lines, 8 ways) and with a TAGE predictor of some 57 Kbit, without prefetching or speculation. The counts are means over \
             the PolyBench kernels, for each 1000 instructions; instructions, loads and stores are geometric means of ratios. The \
             paper's numbers, of 2021's engines, were not at hand to be put beside these.",
            kib(CACHE_BYTES as f64)
        ),
        ..Section::default()
    };
    section.parts.extend(hardware(results));
    for set in sets {
        section.claims.extend(claim(set));
        section.parts.push(Part::Table(table(set)));
        section.parts.push(Part::Table(absolute(set)));
    }
    if section.claims.is_empty() {
        section.claims.push(missing("The paper", CLAIM, NOTHING));
    }
    section
}

/// What the processor's own counters counted, or why they did not.
fn hardware(results: &Results) -> Vec<Part> {
    let counted: Vec<_> = results.counters.iter().filter(|counters| counters.point.suite == KERNELS).collect();
    if counted.is_empty() {
        let words = |reason: &String| Part::Words(format!("Hardware counters: {reason}. What follows is simulated."));
        return results.without_counters.iter().map(words).collect();
    }
    let engines = crate::results::in_order(counted.iter().map(|one| one.point.engine.as_str()).collect());
    let events: BTreeSet<&str> = counted.iter().flat_map(|one| &one.events).map(|event| event.event.as_str()).collect();
    // Sums over the kernels that every engine has counts of.
    let has_all = |guest: &str| {
        engines.iter().all(|engine| counted.iter().any(|one| one.point.guest == guest && one.point.engine == *engine))
    };
    let sum = |engine: &str, event: &str| -> u64 {
        let of_engine = counted.iter().filter(|one| one.point.engine == engine && has_all(&one.point.guest));
        of_engine.flat_map(|one| &one.events).filter(|it| it.event == event).map(|it| it.count).sum()
    };
    let row = |event: &&str| {
        let cell = |engine: &String| {
            let (count, instructions) = (sum(engine, event), sum(engine, "instructions"));
            let rate = count as f64 * 1000.0 / instructions.max(1) as f64;
            Cell::new(format!("{} ({count})", units::digits(rate)))
        };
        std::iter::once(Cell::new(*event)).chain(engines.iter().map(cell)).collect()
    };
    vec![Part::Table(Table {
        caption: "Hardware counters: events for each 1000 instructions, over all kernels (and the sum of all)".into(),
        columns: columns("Event", &engines),
        rows: events.iter().map(row).collect(),
        folded: false,
    })]
}

fn claim(set: &Set<'_>) -> Option<Claim> {
    let llvm = set.llvm()?;
    let (instructions, kernels) = set.ratio(BASELINE, llvm, |one| one.instructions)?;
    let (fetched, _) = set.ratio(BASELINE, llvm, |one| misses(&one.instruction_caches, CACHE_BYTES).unwrap_or(0))?;
    Some(Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: format!("{}, simulated", target_words(set.target)),
        verdict: halves(instructions > CLEARLY, fetched > CLEARLY),
        finding: format!(
            "{BASELINE} executes {} as many instructions as {llvm} (geometric mean over {kernels} kernels), and has {} as many misses of \
             the instruction cache.",
            ratio(instructions),
            ratio(fetched)
        ),
    })
}

/// A count of a simulation, if it was made.
type Count = fn(&Simulation) -> Option<u64>;

const RATES: [(&str, Count); 6] = [
    ("instruction cache misses", |one| misses(&one.instruction_caches, CACHE_BYTES)),
    ("data cache misses", |one| misses(&one.data_caches, CACHE_BYTES)),
    ("conditional branches", |one| Some(one.conditional_branches)),
    ("mispredicted branches", |one| mispredictions(one, PREDICTOR)),
    ("branch target misses", |one| one.target_buffer_misses),
    ("mispredicted returns", |one| one.return_stack_misses),
];

fn table(set: &Set<'_>) -> Table {
    let kernels = set.common(KERNELS);
    let over = if set.engines.iter().any(|engine| engine == NATIVE) { NATIVE } else { BASELINE };
    let totals: [(&str, fn(&Simulation) -> u64); 3] =
        [("instructions", |one| one.instructions), ("loads", |one| one.loads), ("stores", |one| one.stores)];
    let mut rows = Vec::new();
    for (name, count) in totals {
        let cell = |engine: &String| {
            set.ratio(engine, over, count).map_or_else(|| Cell::new("-"), |it| Cell::new(ratio(it.0)))
        };
        rows.push(
            std::iter::once(Cell::new(format!("{name}, over {over}"))).chain(set.engines.iter().map(cell)).collect(),
        );
    }
    for (name, count) in RATES {
        let cell = |engine: &String| number(set.per_thousand(&kernels, engine, count));
        rows.push(
            std::iter::once(Cell::new(format!("{name}, per 1000"))).chain(set.engines.iter().map(cell)).collect(),
        );
    }
    Table {
        caption: format!("{}: means over {} kernels", target_words(set.target), kernels.len()),
        columns: columns("", &set.engines),
        rows,
        folded: false,
    }
}

/// The counts themselves, summed over the kernels.
fn absolute(set: &Set<'_>) -> Table {
    let kernels = set.common(KERNELS);
    let sum = |engine: &str, count: &dyn Fn(&Simulation) -> Option<u64>| -> Option<u64> {
        kernels.iter().map(|kernel| set.one(kernel, engine).and_then(count)).sum()
    };
    let totals: [(&str, Count); 3] = [
        ("instructions", |one| Some(one.instructions)),
        ("loads", |one| Some(one.loads)),
        ("stores", |one| Some(one.stores)),
    ];
    let row = |(name, count): (&str, Count)| {
        let cell = |engine: &String| Cell::new(sum(engine, &count).map_or_else(|| "-".into(), |sum| sum.to_string()));
        std::iter::once(Cell::new(name)).chain(set.engines.iter().map(cell)).collect()
    };
    Table {
        caption: format!("{}: absolute counts, summed over the kernels", target_words(set.target)),
        columns: columns("", &set.engines),
        rows: totals.into_iter().chain(RATES).map(row).collect(),
        folded: true,
    }
}
