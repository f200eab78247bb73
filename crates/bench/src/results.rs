//! Records put in order: the numbers of each process of each point.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use crate::row::{Counters, Failure, Pattern, Phase, Point, Record, Run, Sample, Simulation};
use crate::stats::{Estimate, Steady, geometric_mean, median, mser_5};

pub use crate::engines::{AUTO, NATIVE, RACING};
/// The engine that others are compared with: a well-known optimizing compiler.
pub const BASELINE: &str = "wasmtime.cranelift";

/// The kind of thing that an engine's id stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One engine.
    Single,
    /// Remuda's choice.
    Auto,
    /// Remuda's choice, but guests stay on the engine that they began on.
    Racing,
    /// Native code: no WebAssembly at all.
    Native,
    /// Another program, of which only whole processes are known.
    Peer,
}

/// The kind of thing that the id `engine` stands for.
#[must_use]
pub fn kind(engine: &str) -> Kind {
    match engine {
        AUTO => Kind::Auto,
        RACING => Kind::Racing,
        NATIVE => Kind::Native,
        _ if engine.starts_with("peer.") => Kind::Peer,
        _ => Kind::Single,
    }
}

/// The name of a pattern in files and tables.
#[must_use]
pub fn pattern_name(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Cold => "cold",
        Pattern::Fifty => "fifty",
        Pattern::Warm => "warm",
        Pattern::Steady => "steady",
    }
}

/// A number of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Metric {
    /// Time from request to answer, of all calls of the process together; of a steady series, the time to execute one
    /// call.
    Total,
    /// Time to execute one call: the mean over the calls of a process; of a steady series, the median after the
    /// warm-up. Of a native twin, only the time of the whole process is known: the time of the twin that does nothing
    /// is subtracted from it.
    Execute,
    /// Time to compile or translate, of all calls together.
    Compile,
    /// Time of all phases before execution, of all calls together.
    StartUp,
    /// Time of the process as a whole, from its start to its end.
    Process,
    /// The peak of resident memory, in bytes.
    PeakMemory,
    /// Size of the code in memory, in bytes.
    Code,
    /// Size of the artifact on disk, in bytes.
    Artifact,
}

/// The phases before execution, in the order in which they happen.
pub const START_UP: [Phase; 5] = [Phase::Bootstrap, Phase::Deploy, Phase::Compile, Phase::Load, Phase::Instantiate];
/// The least ratio of a native process's time to that of a process that does nothing. Below it, their difference means
/// nothing.
const FLOORS_MIN: f64 = 1.25;
/// The guest that does nothing.
const FLOOR: &str = "noop";

/// The samples of one fresh process.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The process's calls, in the order in which they were made.
    pub calls: Vec<Sample>,
    /// The process as a whole.
    pub whole: Option<Sample>,
}

impl Process {
    /// The highest load average under which the process was measured.
    #[must_use]
    pub fn load(&self) -> f64 {
        self.calls.iter().chain(&self.whole).map(|sample| sample.load).fold(0.0, f64::max)
    }

    /// A phase's wall time over all calls, in nanoseconds. If no call has the phase, it is taken from the process as a
    /// whole.
    #[must_use]
    pub fn phase_ns(&self, phase: Phase) -> Option<f64> {
        let of_calls: Vec<f64> = series(&self.calls, phase);
        if !of_calls.is_empty() {
            return Some(of_calls.iter().sum());
        }
        self.whole.as_ref()?.wall_ns.get(&phase).map(|ns| *ns as f64)
    }

    /// The steady state of the process's executions.
    #[must_use]
    pub fn steady(&self) -> Option<Steady> {
        let executions = series(&self.calls, Phase::Execute);
        mser_5(&if executions.is_empty() { series(&self.calls, Phase::Total) } else { executions })
    }

    fn metric(&self, metric: Metric, pattern: Pattern, floor_ns: Option<f64>) -> Option<f64> {
        let of_whole =
            |field: fn(&Sample) -> Option<u64>| self.whole.as_ref().and_then(field).map(|bytes| bytes as f64);
        match metric {
            Metric::Total | Metric::Execute if pattern == Pattern::Steady => self.steady().map(|steady| steady.value),
            Metric::Total => self.phase_ns(Phase::Total),
            Metric::Execute if self.calls.is_empty() => {
                // A time that is not clearly longer than that of a process that does nothing cannot be told from it.
                let (total_ns, floor_ns) = (self.phase_ns(Phase::Total)?, floor_ns?);
                (total_ns > FLOORS_MIN * floor_ns).then_some(total_ns - floor_ns)
            }
            Metric::Execute => Some(self.phase_ns(Phase::Execute)? / self.calls.len() as f64),
            Metric::Compile => self.phase_ns(Phase::Compile),
            Metric::StartUp => {
                let phases: Vec<f64> = START_UP.iter().filter_map(|phase| self.phase_ns(*phase)).collect();
                (!phases.is_empty()).then(|| phases.iter().sum())
            }
            Metric::Process => self.whole.as_ref()?.wall_ns.get(&Phase::Total).map(|ns| *ns as f64),
            Metric::PeakMemory => of_whole(|whole| whole.peak_memory_bytes),
            Metric::Code => of_whole(|whole| whole.code_bytes),
            Metric::Artifact => of_whole(|whole| whole.artifact_bytes),
        }
    }
}

/// The wall time of a phase, in nanoseconds, of each call that has the phase.
fn series(calls: &[Sample], phase: Phase) -> Vec<f64> {
    calls.iter().filter_map(|call| call.wall_ns.get(&phase)).map(|ns| *ns as f64).collect()
}

/// A guest's module with one of its inputs.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// The suite.
    pub suite: String,
    /// The guest.
    pub guest: String,
    /// The module's variant.
    pub variant: String,
    /// The input.
    pub case: String,
}

impl Workload {
    /// The point that measures this workload on `engine`, called in `pattern`.
    #[must_use]
    pub fn on(&self, engine: &str, pattern: Pattern) -> Point {
        Point {
            guest: self.guest.clone(),
            suite: self.suite.clone(),
            variant: self.variant.clone(),
            case: self.case.clone(),
            engine: engine.to_owned(),
            pattern,
        }
    }
}

impl From<&Point> for Workload {
    fn from(point: &Point) -> Self {
        let Point { guest, suite, variant, case, .. } = point.clone();
        Self { suite, guest, variant, case }
    }
}

/// Everything that was measured.
pub struct Results {
    /// The runs, in the order of the files.
    pub runs: Vec<Run>,
    /// The points that could not be measured.
    pub failures: Vec<Failure>,
    /// What was counted in simulation, by instruction set and point. If a point was simulated twice, the last one counts.
    simulations: BTreeMap<(String, Point), Simulation>,
    /// What the processor's own counters counted.
    pub counters: Vec<Counters>,
    /// Why a machine had no counters.
    pub without_counters: BTreeSet<String>,
    processes: BTreeMap<Point, BTreeMap<(String, u32), Process>>,
    estimates: RefCell<HashMap<(Point, Metric, Option<String>), Option<Rc<Estimate>>>>,
}

impl Results {
    /// Puts records in order. A point that failed in one of its processes has no numbers: an engine that gave a wrong
    /// output once did not do the work that was to be measured.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        let mut runs: Vec<Run> = Vec::new();
        let mut failures = Vec::new();
        let (mut simulations, mut counters, mut without_counters) = (BTreeMap::new(), Vec::new(), BTreeSet::new());
        let mut processes: BTreeMap<Point, BTreeMap<(String, u32), Process>> = BTreeMap::new();
        // What cannot be simulated may well have been timed.
        let mut simulating: BTreeSet<String> = BTreeSet::new();
        for record in records {
            match record {
                Record::Run(run) => runs.push(run),
                Record::Failure(failure) => failures.push(failure),
                Record::Simulation(simulation) => {
                    simulating.insert(simulation.run.clone());
                    simulations.insert((simulation.target.clone(), simulation.point.clone()), *simulation);
                }
                Record::Counters(counted) => {
                    simulating.insert(counted.run.clone());
                    counters.push(counted);
                }
                Record::NoCounters(none) => {
                    simulating.insert(none.run);
                    without_counters.insert(none.reason);
                }
                Record::Sample(sample) => {
                    let of_point = processes.entry(sample.point.clone()).or_default();
                    let process = of_point.entry((sample.run.clone(), sample.process)).or_default();
                    if sample.iteration.is_some() {
                        process.calls.push(sample);
                    } else {
                        process.whole = Some(sample);
                    }
                }
            }
        }
        for failure in failures.iter().filter(|failure| !simulating.contains(&failure.run)) {
            processes.remove(&failure.point);
        }
        for process in processes.values_mut().flat_map(BTreeMap::values_mut) {
            process.calls.sort_by_key(|call| call.iteration);
        }
        Self { runs, failures, simulations, counters, without_counters, processes, estimates: RefCell::default() }
    }

    /// The runs that measured times. Counts of simulations do not hang on the machine.
    pub fn timed_runs(&self) -> impl Iterator<Item = &Run> {
        let ids: BTreeSet<&str> =
            self.processes.values().flat_map(BTreeMap::keys).map(|(run, _)| run.as_str()).collect();
        self.runs.iter().filter(move |run| ids.contains(run.run.as_str()))
    }

    /// The points that have numbers.
    pub fn points(&self) -> impl Iterator<Item = &Point> {
        self.processes.keys()
    }

    /// What was counted in simulation for an instruction set, by point.
    pub fn simulations(&self, target: &str) -> impl Iterator<Item = &Simulation> {
        self.simulations.iter().filter(move |((of, _), _)| of == target).map(|(_, simulation)| simulation)
    }

    /// A point's processes.
    pub fn processes(&self, point: &Point) -> impl Iterator<Item = &Process> {
        self.processes.get(point).into_iter().flat_map(BTreeMap::values)
    }

    /// The flags that a point's engine ran with.
    #[must_use]
    pub fn flags(&self, point: &Point) -> Option<&str> {
        self.processes(point).flat_map(|process| &process.calls).map(|sample| sample.flags.as_str()).next()
    }

    /// The engines that answered a point's calls, and the share of calls that each answered, the most frequent first.
    #[must_use]
    pub fn answered_by(&self, point: &Point) -> Vec<(String, f64)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let calls = self.processes(point).flat_map(|process| &process.calls);
        for engine in calls.filter_map(|call| call.answered_by.as_deref()) {
            *counts.entry(engine).or_default() += 1;
        }
        let all: usize = counts.values().sum();
        let mut shares: Vec<(String, f64)> =
            counts.into_iter().map(|(engine, count)| (engine.to_owned(), count as f64 / all as f64)).collect();
        shares.sort_by(|one, other| other.1.total_cmp(&one.1));
        shares
    }

    /// All workloads of a suite, sorted.
    #[must_use]
    pub fn workloads(&self, suite: &str) -> Vec<Workload> {
        let set: BTreeSet<Workload> = self.points().filter(|point| point.suite == suite).map(Workload::from).collect();
        set.into_iter().collect()
    }

    /// The names of all suites, sorted.
    #[must_use]
    pub fn suites(&self) -> Vec<String> {
        let set: BTreeSet<String> = self.points().map(|point| point.suite.clone()).collect();
        set.into_iter().collect()
    }

    /// The engines of those points for which `matches` holds: native code first, then compilers (the one that optimizes
    /// most first) and interpreters, then Remuda's choice, then other programs.
    #[must_use]
    pub fn engines(&self, matches: impl Fn(&Point) -> bool) -> Vec<String> {
        let set: BTreeSet<&str> =
            self.points().filter(|point| matches(point)).map(|point| point.engine.as_str()).collect();
        in_order(set)
    }

    /// All engines that were measured or simulated, in the same order.
    #[must_use]
    pub fn all_engines(&self) -> Vec<String> {
        let simulated = self.simulations.keys().map(|(_, point)| point);
        in_order(self.points().chain(simulated).map(|point| point.engine.as_str()).collect())
    }

    /// The patterns of a suite, in the order of [`Pattern`].
    #[must_use]
    pub fn patterns(&self, suite: &str) -> Vec<Pattern> {
        let set: BTreeSet<Pattern> =
            self.points().filter(|point| point.suite == suite).map(|point| point.pattern).collect();
        set.into_iter().collect()
    }

    /// A point's estimate: the median over its processes, from all runs together.
    #[must_use]
    pub fn estimate(&self, point: &Point, metric: Metric) -> Option<Rc<Estimate>> {
        self.estimate_in(point, metric, None)
    }

    /// A function of several points that were measured beside each other. The function is computed within each run that
    /// has all the points, and the geometric mean over these runs is taken, each run weighted by its number of
    /// processes. So no time is divided by a time from another day. Only if no run has all the points, the processes of
    /// all runs are taken together.
    #[must_use]
    pub fn paired(&self, points: &[Point], metric: Metric, function: impl Fn(&[f64]) -> f64) -> Option<Estimate> {
        let within = |run: Option<&str>| -> Option<Estimate> {
            let parts: Option<Vec<Rc<Estimate>>> =
                points.iter().map(|point| self.estimate_in(point, metric, run)).collect();
            let parts = parts?;
            Some(Estimate::combine(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>(), &function))
        };
        let runs: BTreeSet<&str> = self.runs.iter().map(|run| run.run.as_str()).collect();
        let of_runs: Vec<Estimate> = runs.into_iter().filter_map(|run| within(Some(run))).collect();
        match of_runs.len() {
            0 => within(None),
            1 => of_runs.into_iter().next(),
            _ => {
                let weights: Vec<usize> = of_runs.iter().map(|estimate| estimate.processes).collect();
                let mut all = Estimate::combine(&of_runs.iter().collect::<Vec<_>>(), |values| {
                    let weighted = values.iter().zip(&weights).flat_map(|(value, weight)| vec![*value; *weight]);
                    geometric_mean(&weighted.collect::<Vec<_>>())
                });
                all.processes = weights.iter().sum();
                Some(all)
            }
        }
    }

    /// The ratio of `point` to `reference`.
    #[must_use]
    pub fn ratio(&self, point: &Point, reference: &Point, metric: Metric) -> Option<Estimate> {
        self.paired(&[point.clone(), reference.clone()], metric, |values| values[0] / values[1])
    }

    /// The time of a process that does nothing, on the point's engine and in its pattern, in nanoseconds.
    fn floor_ns(&self, point: &Point) -> Option<f64> {
        let empty = self.points().find(|other| {
            other.guest == FLOOR
                && other.engine == point.engine
                && other.pattern == point.pattern
                && other.variant.is_empty()
        })?;
        let values: Vec<f64> = self.processes(empty).filter_map(|process| process.phase_ns(Phase::Total)).collect();
        (!values.is_empty()).then(|| median(&values))
    }

    fn estimate_in(&self, point: &Point, metric: Metric, run: Option<&str>) -> Option<Rc<Estimate>> {
        let key = (point.clone(), metric, run.map(ToOwned::to_owned));
        if let Some(known) = self.estimates.borrow().get(&key) {
            return known.clone();
        }
        let floor_ns = (metric == Metric::Execute).then(|| self.floor_ns(point)).flatten();
        let values: Vec<f64> = self
            .processes
            .get(point)
            .into_iter()
            .flatten()
            .filter(|((of, _), _)| run.is_none_or(|run| of == run))
            .filter_map(|(_, process)| process.metric(metric, point.pattern, floor_ns))
            // A phase that was too short for the clock would have no ratio; so a value is at least 1.
            .map(|value| value.max(1.0))
            .collect();
        let estimate = Estimate::median(&values, stream(&key)).map(Rc::new);
        self.estimates.borrow_mut().insert(key, estimate.clone());
        estimate
    }
}

/// The stream of random numbers for an estimate. It depends only on the key of the estimate: neither on the order of
/// the points nor on what other points there are.
fn stream(of: &impl Hash) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    of.hash(&mut hasher);
    hasher.finish()
}

/// The FNV-1a hash (RFC 9923). The same records must always give the same page, and the standard library's hasher may
/// change.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Native code first, then compilers, interpreters, Remuda's choice, and other programs.
pub(crate) fn in_order(engines: BTreeSet<&str>) -> Vec<String> {
    let mut engines: Vec<String> = engines.into_iter().map(ToOwned::to_owned).collect();
    engines.sort_by_key(|engine| rank(engine));
    engines
}

fn rank(engine: &str) -> (usize, String) {
    const ORDER: [&str; 12] = [
        "native",
        "wasmer.llvm",
        "wavm.llvm",
        "wasmtime.cranelift",
        "wasmer.cranelift",
        "lucet.cranelift",
        "node.v8",
        "wasmtime.winch",
        "wasmer.singlepass",
        "wasmi.lazy",
        "wasmi.eager",
        "wasm3",
    ];
    let known = ORDER.iter().position(|known| *known == engine);
    let place = match kind(engine) {
        Kind::Racing => ORDER.len() + 1,
        Kind::Auto => ORDER.len() + 2,
        Kind::Peer => ORDER.len() + 3,
        Kind::Native | Kind::Single => known.unwrap_or(ORDER.len()),
    };
    (place, engine.to_owned())
}
