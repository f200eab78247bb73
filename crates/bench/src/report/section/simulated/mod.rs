//! What simulated caches and predictors counted: Table I's stand-in, Figures 6 and 11, Table III, and which engine a machine
//! should prefer.

mod branches;
mod caches;
mod code;
mod front;
mod prefer;

use super::*;
use crate::results::{BASELINE, NATIVE};
use crate::row::Simulation;

/// The instruction sets, in the order in which they are shown.
const TARGETS: [&str; 2] = ["x86_64", "aarch64"];
/// The suite that the paper's microarchitectural studies are about.
const KERNELS: &str = "polybench";
/// What to run where there are no counts.
const NOTHING: &str = "The results have no counts of simulations: `remuda microarch --suite` makes them.";

pub(super) fn sections(results: &Results, palette: &Palette) -> Vec<Section> {
    let sets: Vec<Set<'_>> = TARGETS.iter().filter_map(|target| Set::new(results, target)).collect();
    vec![
        front::section(results, &sets),
        code::section(&sets),
        caches::section(&sets, palette),
        branches::section(&sets),
        prefer::section(&sets),
    ]
}

/// The caches of one kind, of a simulation.
type Caches = fn(&Simulation) -> &[crate::row::SimulatedCache];

/// All counts for one instruction set.
struct Set<'a> {
    target: &'static str,
    /// Engines and native code, in the order of the report.
    engines: Vec<String>,
    all: Vec<&'a Simulation>,
}

impl<'a> Set<'a> {
    fn new(results: &'a Results, target: &'static str) -> Option<Self> {
        let all: Vec<&Simulation> = results.simulations(target).collect();
        let engines: BTreeSet<&str> = all.iter().map(|one| one.point.engine.as_str()).collect();
        let engines = crate::results::in_order(engines);
        (!all.is_empty()).then_some(Self { target, engines, all })
    }

    /// The counts of a guest on an engine.
    fn one(&self, workload: &Workload, engine: &str) -> Option<&'a Simulation> {
        let is = |one: &&Simulation| one.point.engine == engine && Workload::from(&one.point) == *workload;
        self.all.iter().copied().find(is)
    }

    fn workloads(&self, suite: &str) -> Vec<Workload> {
        let of_suite = self.all.iter().filter(|one| one.point.suite == suite);
        of_suite.map(|one| Workload::from(&one.point)).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The kernels that all of these engines have counts of.
    fn kernels(&self, engines: &[&str]) -> Vec<Workload> {
        let mut kernels = self.workloads(KERNELS);
        kernels.retain(|kernel| engines.iter().all(|engine| self.one(kernel, engine).is_some()));
        kernels
    }

    /// The guests of a suite that every engine has counts of, so that means over them can be compared.
    fn common(&self, suite: &str) -> Vec<Workload> {
        let mut guests = self.workloads(suite);
        guests.retain(|guest| self.engines.iter().all(|engine| self.one(guest, engine).is_some()));
        guests
    }

    /// The geometric mean over kernels of one engine's count over another's, and the number of kernels with the count of both.
    fn ratio(&self, one: &str, other: &str, count: impl Fn(&Simulation) -> u64) -> Option<(f64, usize)> {
        let ratios: Vec<f64> = self
            .kernels(&[one, other])
            .iter()
            .filter_map(|kernel| {
                let (one, other) = (count(self.one(kernel, one)?), count(self.one(kernel, other)?));
                (one > 0 && other > 0).then(|| one as f64 / other as f64)
            })
            .collect();
        (!ratios.is_empty()).then(|| (crate::stats::geometric_mean(&ratios), ratios.len()))
    }

    /// The mean over guests of a number of an engine; `None` if a guest does not have it.
    fn mean(&self, guests: &[Workload], engine: &str, number: impl Fn(&Simulation) -> Option<f64>) -> Option<f64> {
        let numbers: Option<Vec<f64>> = guests.iter().map(|guest| self.one(guest, engine).and_then(&number)).collect();
        numbers.filter(|numbers| !numbers.is_empty()).map(|numbers| numbers.iter().sum::<f64>() / numbers.len() as f64)
    }

    /// The sizes of the caches of one kind, in bytes.
    fn cache_sizes(&self, of: Caches) -> BTreeSet<u64> {
        self.all.iter().flat_map(|one| of(one)).map(|cache| cache.size_bytes).collect()
    }

    /// The mean over guests of a count for each 1000 instructions.
    fn per_thousand(
        &self,
        guests: &[Workload],
        engine: &str,
        count: impl Fn(&Simulation) -> Option<u64>,
    ) -> Option<f64> {
        self.mean(guests, engine, |one| rate(one, count(one)?))
    }

    /// The engines whose code LLVM has made, the one to be compared with first: engines as in the paper, else native code.
    fn llvm(&self) -> Option<&str> {
        let is_here = |name: &&&str| self.engines.iter().any(|engine| engine == **name);
        ["wasmer.llvm", "wavm.llvm", NATIVE].iter().find(is_here).copied()
    }
}

/// Fills a section with a claim and a table for each instruction set. Without any, it says that the question is open.
fn fill(
    section: &mut Section,
    sets: &[Set<'_>],
    question: &str,
    claim: fn(&Set<'_>) -> Option<Claim>,
    table: fn(&Set<'_>) -> Table,
) {
    for set in sets {
        section.claims.extend(claim(set));
        section.parts.push(Part::Table(table(set)));
    }
    if section.claims.is_empty() {
        section.claims.push(missing("Question", question, NOTHING));
    }
}

/// A count for each 1000 instructions.
fn rate(one: &Simulation, count: u64) -> Option<f64> {
    (one.instructions > 0).then(|| count as f64 * 1000.0 / one.instructions as f64)
}

/// The misses of the cache of this size in bytes.
fn misses(caches: &[crate::row::SimulatedCache], size_bytes: u64) -> Option<u64> {
    caches.iter().find(|cache| cache.size_bytes == size_bytes).map(|cache| cache.misses)
}

/// The mispredictions of the predictor of this name.
fn mispredictions(one: &Simulation, name: &str) -> Option<u64> {
    one.predictors.iter().find(|predictor| predictor.name == name).map(|predictor| predictor.mispredictions)
}

fn kib(bytes: f64) -> String {
    format!("{} KiB", units::plain(bytes / 1024.0))
}

fn number(value: Option<f64>) -> Cell {
    Cell::new(value.map_or_else(|| "-".to_owned(), units::digits))
}

/// What an instruction set is called in sentences.
fn target_words(target: &str) -> &'static str {
    if target == "aarch64" { "64-bit Arm" } else { "x86-64" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{HotCode, Point, Record, SimulatedCache, SimulatedPredictor};

    /// What the counts of a made-up point are.
    #[derive(Clone, Copy)]
    struct Made {
        target: &'static str,
        guest: &'static str,
        engine: &'static str,
        instructions: u64,
        /// Misses of an instruction cache of 4 KiB, and of one of 1 MiB.
        misses: [u64; 2],
    }

    fn record(made: Made) -> Record {
        let Made { target, guest, engine, instructions, misses } = made;
        let cache = |size_bytes, misses| SimulatedCache { size_bytes, line_bytes: 64, ways: 8, misses };
        let predictor =
            |name: &str, mispredictions| SimulatedPredictor { name: name.into(), bits: 2048, mispredictions };
        Record::Simulation(Box::new(Simulation {
            run: "r".into(),
            point: Point {
                guest: guest.into(),
                suite: KERNELS.into(),
                variant: String::new(),
                case: "medium".into(),
                engine: engine.into(),
                pattern: Pattern::Cold,
            },
            digest: String::new(),
            engine_version: "1".into(),
            target: target.into(),
            instructions,
            loads: 10,
            stores: 5,
            conditional_branches: 20,
            taken_branches: 10,
            instruction_caches: vec![cache(4 << 10, misses[0]), cache(32 << 10, misses[1]), cache(1 << 20, misses[1])],
            data_caches: vec![cache(4 << 10, 0), cache(32 << 10, 0), cache(1 << 20, 0)],
            predictors: vec![predictor("local", 4), predictor("tournament", 0), predictor("tage", 1)],
            target_buffer_misses: Some(1),
            return_stack_misses: Some(0),
            hottest: vec![
                // add eax, 1 and ret, executed 300 times and once.
                HotCode { start: 64, code: "83c001".into(), instructions: 1, executions: 300 },
                HotCode { start: 0, code: "c3".into(), instructions: 1, executions: 1 },
            ],
        }))
    }

    const CRANELIFT: Made =
        Made { target: "x86_64", guest: "gemm", engine: "wasmtime.cranelift", instructions: 1500, misses: [0, 0] };
    const LLVM: Made = Made { engine: "wasmer.llvm", instructions: 1000, misses: [100, 0], ..CRANELIFT };

    fn shown(made: &[Made]) -> Vec<Section> {
        let results = Results::new(made.iter().copied().map(record));
        sections(&results, &Palette::new(&results.all_engines()))
    }

    fn claims<'a>(sections: &'a [Section], id: &str) -> Vec<&'a Claim> {
        sections.iter().filter(|section| section.id == id).flat_map(|section| &section.claims).collect()
    }

    #[test]
    fn without_counts_nothing_is_claimed() {
        for section in shown(&[]) {
            assert!(section.parts.is_empty(), "{}", section.id);
            assert!(section.claims.iter().all(|claim| claim.verdict == Verdict::Missing), "{}", section.id);
        }
    }

    #[test]
    fn the_engine_to_prefer_flips_where_caches_make_up_for_instructions() {
        // With 4 KiB: 1000 + 12 * 100 = 2200 cycles against 1500; with 1 MiB: 1000 against 1500.
        let sections = shown(&[CRANELIFT, LLVM]);
        let [claim] = claims(&sections, "prefer")[..] else { panic!("one instruction set, one claim") };
        assert_eq!(claim.verdict, Verdict::Holds);
        let words = "with 4 KiB, wasmtime.cranelift takes 32 % fewer cycles than wasmer.llvm; with 32 KiB, wasmer.llvm takes 33 %";
        assert!(claim.finding.contains(words), "{}", claim.finding);

        // With 20 misses, it is 1240 against 1500.
        let sections = shown(&[CRANELIFT, Made { misses: [20, 0], ..LLVM }]);
        let [claim] = claims(&sections, "prefer")[..] else { panic!("one instruction set, one claim") };
        assert_eq!(claim.verdict, Verdict::Fails);
        let words = "For none of 1 guests";
        let lead = "wasmer.llvm, has one of 1.21× with 4 KiB and of 1.50× with 1024 KiB";
        assert!(claim.finding.contains(words) && claim.finding.contains(lead), "{}", claim.finding);
    }

    #[test]
    fn llvm_is_held_against_cranelift_on_both_instruction_sets() {
        let native = |target, instructions| Made { target, engine: NATIVE, instructions, misses: [0, 0], ..CRANELIFT };
        let arm = Made { target: "aarch64", instructions: 1200, ..CRANELIFT };
        let sections = shown(&[CRANELIFT, LLVM, native("x86_64", 500), arm, native("aarch64", 800)]);
        let [x86, on_arm, gap] = claims(&sections, "fig6")[..] else { panic!("two instruction sets, and the gap") };
        assert!(x86.finding.starts_with("wasmer.llvm executes clearly fewer"), "{}", x86.finding);
        assert!(on_arm.finding.starts_with("native executes clearly fewer"), "{}", on_arm.finding);
        assert_eq!((x86.verdict, on_arm.verdict, gap.verdict), (Verdict::Holds, Verdict::Holds, Verdict::Holds));
        assert!(
            gap.finding.contains("3.00× as many instructions as native code on x86-64, and 1.50×"),
            "{}",
            gap.finding
        );
    }

    #[test]
    fn the_hottest_code_is_shown_until_it_is_half_of_all() {
        let sections = shown(&[Made { instructions: 400, ..CRANELIFT }, Made { instructions: 1000, ..LLVM }]);
        let section = sections.iter().find(|section| section.id == "fig6").unwrap();
        let listing = section.parts.iter().filter_map(|part| match part {
            Part::Table(table) if table.caption.contains("hottest") => Some(table),
            _ => None,
        });
        let [listing] = listing.collect::<Vec<_>>()[..] else { panic!("one listing") };
        let texts: Vec<Vec<&str>> =
            listing.rows.iter().map(|row| row.iter().map(|cell| cell.text.as_str()).collect()).collect();
        assert_eq!(listing.columns, ["", "wasmer.llvm", "wasmtime.cranelift"]);
        // 300 of 1000 are not half of it: the second block is shown, too, and lies before the first.
        assert_eq!(texts, [vec!["1", "ret", "add eax, 1"], vec!["2", "...", ""], vec!["3", "add eax, 1", ""]]);
    }

    #[test]
    fn what_cannot_be_simulated_keeps_its_times() {
        let Record::Simulation(simulation) = record(CRANELIFT) else { unreachable!() };
        let point = simulation.point.clone();
        let sample = |iteration| {
            Record::Sample(crate::row::Sample {
                run: "timed".into(),
                point: point.clone(),
                digest: String::new(),
                engine_version: String::new(),
                flags: String::new(),
                process: 0,
                iteration,
                wall_ns: [(crate::row::Phase::Total, 5)].into(),
                cpu_ns: std::collections::BTreeMap::default(),
                peak_memory_bytes: None,
                code_bytes: None,
                artifact_bytes: None,
                answered_by: None,
                load: 0.0,
            })
        };
        let failure = |run: &str| {
            Record::Failure(crate::row::Failure {
                run: run.into(),
                point: point.clone(),
                process: 0,
                reason: "x".into(),
            })
        };
        let none = || Record::NoCounters(crate::row::NoCounters { run: "simulated".into(), reason: "none".into() });
        let points = |run| Results::new([sample(Some(0)), sample(None), none(), failure(run)]).points().count();
        assert_eq!((points("simulated"), points("timed")), (1, 0));
    }

    #[test]
    fn a_machine_without_counters_says_so_and_one_with_them_shows_them() {
        let none = Record::NoCounters(crate::row::NoCounters { run: "r".into(), reason: "there are none".into() });
        let results = Results::new([record(CRANELIFT), none]);
        let table1 = |results: &Results| {
            let sections = sections(results, &Palette::new(&results.all_engines()));
            sections.into_iter().find(|section| section.id == "table1").unwrap()
        };
        let said = |part: &Part| matches!(part, Part::Words(words) if words.contains("there are none"));
        assert!(table1(&results).parts.iter().any(said));

        let Record::Simulation(simulation) = record(CRANELIFT) else { unreachable!() };
        let event =
            |name: &str, count| remuda_microarch::counters::EventCount { event: name.into(), count, counted: 1.0 };
        let events = vec![event("instructions", 2000), event("IDQ.MITE_UOPS", 500)];
        let counters = crate::row::Counters { run: "r".into(), point: simulation.point.clone(), events };
        let results = Results::new([Record::Simulation(simulation), Record::Counters(counters)]);
        let section = table1(&results);
        let Part::Table(table) = &section.parts[0] else { panic!("counters stand first") };
        let row = &table.rows.iter().find(|row| row[0].text == "IDQ.MITE_UOPS").unwrap()[1];
        assert_eq!(row.text, "250 (500)");
    }
}
