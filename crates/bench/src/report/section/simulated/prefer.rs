//! Which engine a machine with given caches should prefer: hardware and software, optimised together.

use super::*;

const QUESTION: &str = "Which engine is the best hangs on the processor's first-level caches.";

/// The cycles of the model that engines are compared by: of a small core that executes one instruction a cycle in order and waits
/// for each miss. Source: the second-level latencies and pipeline lengths in Arm's and AMD's optimization guides for such cores lie
/// between 9 and 14 cycles, and between 8 and 15. If they are too high, caches seem to matter more than they do.
const MISS_CYCLES: u64 = 12;
const MISPREDICTION_CYCLES: u64 = 12;
/// The predictor of such a core.
const PREDICTOR: &str = "tournament";
/// One engine counts as better than another if it takes this much less: the model is not more exact than that.
const BETTER: f64 = 1.02;

pub(super) fn section(sets: &[Set<'_>]) -> Section {
    let mut section = Section {
        id: "prefer",
        title: "Hardware and software together: the engine to prefer by cache size".into(),
        lead: format!(
            "The paper leaves open how hardware and engines could be optimised together. A model of a small in-order core turns the \
             simulated counts into cycles: one for each instruction, {MISS_CYCLES} for each miss of either first-level cache (both of \
             the same size), {MISPREDICTION_CYCLES} for each branch that a tournament predictor gets wrong. For each guest, it names \
             the engine with the fewest cycles at each size. Only execution counts, not compiling; native code does not take part."
        ),
        ..Section::default()
    };
    fill(&mut section, sets, QUESTION, claim, table);
    section
}

/// The sizes that caches of both kinds have.
fn sizes(set: &Set<'_>) -> BTreeSet<u64> {
    &set.cache_sizes(|one| &one.instruction_caches) & &set.cache_sizes(|one| &one.data_caches)
}

/// The cycles of a guest on the model's core with caches of this size.
fn cycles(one: &Simulation, size: u64) -> Option<u64> {
    let missed = misses(&one.instruction_caches, size)? + misses(&one.data_caches, size)?;
    Some(one.instructions + MISS_CYCLES * missed + MISPREDICTION_CYCLES * mispredictions(one, PREDICTOR)?)
}

/// The engines by their cycles at each size, the best first.
fn ranked(set: &Set<'_>, workload: &Workload, size: u64) -> Vec<(String, u64)> {
    let engines = set.engines.iter().filter(|engine| kind(engine) == Kind::Single);
    let mut ranked: Vec<(String, u64)> =
        engines.filter_map(|engine| Some((engine.clone(), cycles(set.one(workload, engine)?, size)?))).collect();
    ranked.sort_by_key(|(_, cycles)| *cycles);
    ranked
}

/// A guest for which one engine is better with small caches, and another with large ones.
struct Flip {
    guest: String,
    small: (u64, String, String, f64),
    large: (u64, String, String, f64),
}

/// The flip of a guest, if there is one: two engines, each of which is better than the other at some size.
fn flip(set: &Set<'_>, workload: &Workload) -> Option<Flip> {
    let sizes: Vec<u64> = sizes(set).into_iter().collect();
    let lead = |size: u64, one: &str, other: &str| {
        let of = |engine: &str| cycles(set.one(workload, engine)?, size).map(|cycles| cycles as f64);
        Some(of(other)? / of(one)?)
    };
    for (at, small) in sizes.iter().enumerate() {
        let best = ranked(set, workload, *small).into_iter().next()?.0;
        for large in &sizes[at + 1..] {
            let other = ranked(set, workload, *large).into_iter().next()?.0;
            if other == best {
                continue;
            }
            let (here, there) = (lead(*small, &best, &other)?, lead(*large, &other, &best)?);
            if here > BETTER && there > BETTER {
                return Some(Flip {
                    guest: workload.guest.clone(),
                    small: (*small, best.clone(), other.clone(), here),
                    large: (*large, other, best, there),
                });
            }
        }
    }
    None
}

fn guests(set: &Set<'_>) -> Vec<Workload> {
    let all: BTreeSet<Workload> =
        set.all.iter().filter(|one| one.point.guest != "noop").map(|one| Workload::from(&one.point)).collect();
    all.into_iter().collect()
}

fn claim(set: &Set<'_>) -> Option<Claim> {
    let guests = guests(set);
    let able = |workload: &&Workload| sizes(set).iter().any(|size| ranked(set, workload, *size).len() > 1);
    let compared = guests.iter().filter(able).count();
    let flips: Vec<Flip> = guests.iter().filter_map(|workload| flip(set, workload)).collect();
    let example = flips.iter().max_by(|one, other| {
        let weakest = |flip: &Flip| flip.small.3.min(flip.large.3);
        weakest(one).total_cmp(&weakest(other))
    });
    let finding = match example {
        None => format!(
            "For none of {compared} guests: the engine that is the best with the smallest caches is so with the largest, or the model \
             cannot tell it from the others.{}",
            closest(set, &guests).unwrap_or_default()
        ),
        Some(Flip { guest, small, large }) => {
            let words = |(size, better, worse, lead): &(u64, String, String, f64)| {
                format!(
                    "with {}, {better} takes {:.0} % fewer cycles than {worse}",
                    kib(*size as f64),
                    (1.0 - 1.0 / lead) * 100.0
                )
            };
            format!(
                "For {} of {compared} guests. The clearest is {guest}: {}; {}.",
                flips.len(),
                words(small),
                words(large)
            )
        }
    };
    (compared > 0).then(|| Claim {
        whose: "Question",
        claim: QUESTION.into(),
        scope: target_words(set.target).into(),
        verdict: match flips.len() {
            0 => Verdict::Fails,
            all if all == compared => Verdict::Holds,
            _ => Verdict::InPart,
        },
        finding,
    })
}

/// The guest for which the best engine's lead over the next one changes most between the smallest caches and the largest.
fn closest(set: &Set<'_>, guests: &[Workload]) -> Option<String> {
    let sizes = sizes(set);
    let (small, large) = (*sizes.first()?, *sizes.last()?);
    let lead = |workload: &Workload, size: u64| {
        let ranked = ranked(set, workload, size);
        Some((ranked.first()?.0.clone(), ranked.get(1)?.1 as f64 / ranked.first()?.1 as f64))
    };
    let change = |workload: &Workload| {
        let (before, after) = (lead(workload, small)?, lead(workload, large)?);
        (before.0 == after.0).then(|| (workload.guest.clone(), before.0, before.1, after.1))
    };
    let most = guests.iter().filter_map(change).max_by(|one, other| {
        let change = |(.., before, after): &(String, String, f64, f64)| (before / after).ln().abs();
        change(one).total_cmp(&change(other))
    });
    let (guest, best, before, after) = most?;
    Some(format!(
        " The lead changes most for {guest}: the best engine, {best}, has one of {} with {} and of {} with {}.",
        ratio(before),
        kib(small as f64),
        ratio(after),
        kib(large as f64)
    ))
}

fn table(set: &Set<'_>) -> Table {
    let sizes = sizes(set);
    let row = |workload: &Workload| {
        let cell = |size: &u64| {
            let ranked = ranked(set, workload, *size);
            let Some((best, least)) = ranked.first() else { return Cell::new("-") };
            let lead = ranked.get(1).map_or(1.0, |(_, next)| *next as f64 / *least as f64);
            let text = format!("{best} ({})", ratio(lead));
            if lead > BETTER { Cell::strong(text) } else { Cell::new(text) }
        };
        std::iter::once(Cell::new(long_label(workload))).chain(sizes.iter().map(cell)).collect()
    };
    let names: Vec<String> = sizes.iter().map(|size| kib(*size as f64)).collect();
    Table {
        caption: format!(
            "{}: the engine with the fewest cycles by cache size, and its lead over the next (in bold if that counts)",
            target_words(set.target)
        ),
        rows: guests(set).iter().map(row).collect(),
        columns: columns("Guest", &names),
        folded: true,
    }
}
