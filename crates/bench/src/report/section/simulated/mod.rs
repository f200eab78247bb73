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

    /// The mean over kernels of a count for each 1000 instructions.
    fn per_thousand(
        &self,
        kernels: &[Workload],
        engine: &str,
        count: impl Fn(&Simulation) -> Option<u64>,
    ) -> Option<f64> {
        let rates: Option<Vec<f64>> =
            kernels.iter().map(|kernel| self.one(kernel, engine).and_then(|one| rate(one, count(one)?))).collect();
        rates.filter(|rates| !rates.is_empty()).map(|rates| rates.iter().sum::<f64>() / rates.len() as f64)
    }

    /// The engines whose code LLVM has made, the one to be compared with first: engines as in the paper, else native code.
    fn llvm(&self) -> Option<&str> {
        let is_here = |name: &&&str| self.engines.iter().any(|engine| engine == **name);
        ["wasmer.llvm", "wavm.llvm", NATIVE].iter().find(is_here).copied()
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
