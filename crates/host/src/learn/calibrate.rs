//! Measures what each engine costs on this host: compiling, loading, instantiating, making parts for guests that move,
//! and how fast its code runs.
//!
//! Computing is measured in CPU time of its thread, and every figure is the best or the median of several tries, so
//! that other work on the host changes little. The whole takes a few seconds and is cut down on a slow host, but never
//! below one try.

mod file;
mod kernels;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};
use remuda_engine::{Artifact, Engine, EngineError, Extent, Known, Module, Point, Registry};
use remuda_model::{EngineId, Entry, GuestContext, GuestLimits, Interrupt, Outcome, Value};
use remuda_scheduler::{Calibration, EngineCalibration, PartCosts, Sizing};

pub use file::{HostFingerprint, LoadCalibrationError, load, save};
use kernels::{KERNELS, Kernel, kernels, materials, noop, parts};

use crate::artifact::store::{ArtifactStore, StoreError};
use crate::panics::panic_message;
use crate::time::nanoseconds;

/// When this much time has passed, a thing that was measured once is not measured again, unless that is cheap.
const BUDGET: Duration = Duration::from_secs(8);
/// Until then, everything is tried at least this often.
const TRIES_MIN: usize = 3;
/// More tries of a thing are only made as long as all its tries together take less than this.
const STEP: Duration = Duration::from_millis(250);
/// The same limit when [`BUDGET`] is spent.
const CHEAP: Duration = Duration::from_millis(20);
/// The number of tries of each compile; the best counts.
const COMPILES: usize = 9;
/// A compile that takes this many times its CPU time was held up by other work.
const BUSY: f64 = 1.25;
/// The number of tries of each load; the best counts.
const LOADS: usize = 9;
/// The number of instances of a module that does nothing; the median counts.
const INSTANCES: usize = 201;
/// The number of tries of each kernel; the best counts.
const RUNS: usize = 7;

/// The reason why the host could not be calibrated.
#[derive(Debug, thiserror::Error)]
pub enum CalibrateError {
    /// The calibration was interrupted, because its time was wanted for something else.
    #[error("the calibration was stopped")]
    Interrupted,
    /// No engine did what was asked of it.
    #[error("no engine could be measured: {reasons}")]
    NoEngine {
        /// The reasons, engine by engine.
        reasons: String,
    },
    /// The folder for artifacts cannot be made.
    #[error("cannot make a folder in {path:?} for the calibration: {source}")]
    Folder {
        /// The folder in which it was to be made.
        path: std::path::PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// Artifacts cannot be kept in that folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system has no threads left.
    #[error("cannot start threads for the calibration: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// The progress of a calibration.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// The number of steps that are done.
    pub done: usize,
    /// The number of all steps.
    pub of: usize,
    /// The engine that is measured next; `None`: all engines in turn.
    pub engine: Option<EngineId>,
}

/// Measures every engine of this build that is chosen without being asked for. An engine that fails is left out, with a
/// warning in the log.
///
/// Meanwhile artifacts are kept in a temporary folder within `scratch`, so that loading is measured from the disk that
/// artifacts will be loaded from. The threads that compile inherit the calling thread's priority.
///
/// # Errors
///
/// Returns an error if the interrupt was raised, if nothing could be measured, or if the operating system refused
/// something.
pub fn measure(
    registry: &Registry,
    scratch: &Path,
    interrupt: &Interrupt,
    mut progress: impl FnMut(Progress),
) -> Result<Calibration, CalibrateError> {
    let folder = tempfile::Builder::new()
        .prefix("calibration-")
        .tempdir_in(scratch)
        .map_err(|source| CalibrateError::Folder { path: scratch.to_owned(), source })?;
    let (materials, kernels) = (materials(), kernels());
    let bench = Bench {
        store: ArtifactStore::open(folder.path(), Sizing::of(1).disk_bytes_max)?,
        one_core: ThreadPoolBuilder::new().num_threads(1).build()?,
        all_cores: ThreadPoolBuilder::new().num_threads(cores()).build()?,
        parts: parts(materials.iter().chain([&kernels])),
        materials,
        noop: noop(),
        kernels,
        interrupt,
        began: Instant::now(),
    };
    let engines: Vec<&'static Known> = automatic(registry).collect();
    let of = engines.len() + 1;
    let mut reasons = Vec::new();
    let mut leave_out = |known: &Known, reason: &str| {
        tracing::warn!(engine = %known.id, reason, "the engine is left out of the calibration");
        reasons.push(format!("{}: {reason}", known.id));
    };

    let mut subjects = Vec::new();
    for (done, known) in engines.iter().enumerate() {
        progress(Progress { done, of, engine: Some(known.id) });
        match guarded(|| bench.subject(registry, known)) {
            Ok(subject) => subjects.push(subject),
            Err(Stop::Interrupted) => return Err(CalibrateError::Interrupted),
            Err(Stop::Failed(reason)) => leave_out(known, &reason),
        }
    }
    progress(Progress { done: engines.len(), of, engine: None });
    bench.speeds(&mut subjects, &mut leave_out)?;
    progress(Progress { done: of, of, engine: None });

    let fastest = subjects.iter().map(Subject::kernels_ns).fold(f64::INFINITY, f64::min);
    let measured: Vec<_> = subjects
        .iter()
        .map(|subject| (subject.known, EngineCalibration { slowdown: subject.kernels_ns() / fastest, ..subject.costs }))
        .filter(|(known, costs)| {
            let plausible = costs.is_plausible();
            if !plausible {
                leave_out(known, &format!("what was measured is not plausible: {costs:?}"));
            }
            plausible
        })
        .map(|(known, costs)| (known.id, costs))
        .collect();
    if measured.is_empty() {
        return Err(CalibrateError::NoEngine { reasons: reasons.join("; ") });
    }
    Ok(Calibration::new(measured))
}

/// The engines of this build that are chosen without being asked for.
fn automatic(registry: &Registry) -> impl Iterator<Item = &'static Known> {
    registry.known().filter(|known| known.automatic && known.is_built())
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Everything that the measurements share.
struct Bench<'a> {
    store: ArtifactStore,
    one_core: ThreadPool,
    all_cores: ThreadPool,
    /// The modules that are compiled and loaded, in ascending order of size.
    materials: Vec<Module>,
    /// The parts that are made: a module, the point to go on at, and about how many bytes of code that is.
    parts: Vec<(Module, Point, u64)>,
    noop: Module,
    kernels: Module,
    interrupt: &'a Interrupt,
    began: Instant,
}

/// An engine that is measured.
struct Subject {
    known: &'static Known,
    /// The engine's costs; the `slowdown` is still to be found.
    costs: EngineCalibration,
    /// The kernels' artifact.
    artifact: Arc<dyn Artifact>,
    /// The best time of each kernel, in nanoseconds.
    best_ns: HashMap<&'static str, u64>,
}

impl Subject {
    /// The geometric mean of the kernels' best times, in nanoseconds.
    fn kernels_ns(&self) -> f64 {
        let sum_ln: f64 = self.best_ns.values().map(|ns| (*ns as f64).ln()).sum();
        (sum_ln / self.best_ns.len() as f64).exp()
    }
}

/// The result of a compile, and how long that took.
struct Compiled<T> {
    wall: Duration,
    /// The CPU time of the thread that began the compile; on a pool of one thread that is all of it.
    cpu: Duration,
    made: T,
}

fn compile<T: Send>(
    pool: &ThreadPool,
    make: impl FnOnce() -> Result<T, EngineError> + Send,
) -> Result<Compiled<T>, Stop> {
    // A compiler that works in parallel does so on the pool whose thread calls it.
    pool.install(|| {
        let (began, began_cpu) = (Instant::now(), thread_cpu());
        let made = make()?;
        Ok(Compiled { wall: began.elapsed(), cpu: thread_cpu().saturating_sub(began_cpu), made })
    })
}

/// The CPU time of this thread until now.
fn thread_cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(now).unwrap_or_default()
}

/// The reason why a measurement came to nothing.
enum Stop {
    Interrupted,
    Failed(String),
}

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Does `work`; an engine that panics counts as one that failed.
fn guarded<T>(work: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Stop::Failed(format!("it panicked: {}", panic_message(&*panic)))))
}

impl Bench<'_> {
    /// Measures everything but the speed of the code.
    fn subject(&self, registry: &Registry, known: &'static Known) -> Result<Subject, Stop> {
        let engine = &**registry.open(known.id)?;
        let mut compiles = Vec::new();
        let mut loads = Vec::new();
        for module in &self.materials {
            let (cpu_ns, artifact) = self.best(COMPILES, || {
                let compiled = compile(&self.one_core, || engine.compile(module))?;
                Ok((compiled.cpu, compiled.made))
            })?;
            compiles.push((module.stats().code_bytes, cpu_ns));
            if let Some(bytes) = artifact.serialize()? {
                self.store.save(module.digest(), known, &bytes, 0)?;
                let (ns, _) = self.best(LOADS, || self.load(engine, known, module))?;
                loads.push((module.stats().code_bytes, ns));
            }
        }
        let (compile_fixed_ns, compile_ns_per_code_byte) = fit_line(&compiles);
        let (load_fixed_ns, load_ns_per_code_byte) = fit_line(&loads);
        Ok(Subject {
            known,
            costs: EngineCalibration {
                compile_fixed_ns,
                compile_ns_per_code_byte,
                compile_parallelism: self.parallelism(engine, known)?,
                load_fixed_ns,
                load_ns_per_code_byte,
                instantiate_ns: self.instantiate_ns(&engine.compile(&self.noop)?)?,
                slowdown: 1.0,
                parts: if known.capabilities.parts { Some(self.parts(engine)?) } else { None },
            },
            artifact: engine.compile(&self.kernels)?,
            best_ns: HashMap::new(),
        })
    }

    /// Measures what it costs to make parts that guests go on in.
    fn parts(&self, engine: &dyn Engine) -> Result<PartCosts, Stop> {
        let mut compiles = Vec::new();
        for (module, point, code_bytes) in &self.parts {
            let (cpu_ns, _) = self.best(COMPILES, || {
                let compiled = compile(&self.one_core, || engine.compile_part(module, &[*point], Extent::Hot))?;
                Ok((compiled.cpu, compiled.made))
            })?;
            compiles.push((*code_bytes, cpu_ns));
        }
        let (fixed_ns, ns_per_code_byte) = fit_line(&compiles);
        Ok(PartCosts { fixed_ns, ns_per_code_byte })
    }

    /// Measures how many times sooner a compile is done on all cores than on one. The tries of both alternate.
    fn parallelism(&self, engine: &dyn Engine, known: &Known) -> Result<f64, Stop> {
        let cores = cores();
        if cores == 1 {
            return Ok(1.0);
        }
        let module = self.materials.last().expect("there are several");
        let (mut one, mut one_cpu, mut all) = (Duration::MAX, Duration::MAX, Duration::MAX);
        self.repeat(COMPILES, || {
            let compiled = compile(&self.one_core, || engine.compile(module))?;
            (one, one_cpu) = (one.min(compiled.wall), one_cpu.min(compiled.cpu));
            all = all.min(compile(&self.all_cores, || engine.compile(module))?.wall);
            Ok(())
        })?;
        let measured = if one.as_secs_f64() > one_cpu.as_secs_f64() * BUSY {
            tracing::warn!(engine = %known.id, "other work keeps the host busy: how well compiling goes in parallel was \
                not measured; calibrate again when it is idle");
            EngineCalibration::shipped(known.capabilities.tier).compile_parallelism
        } else {
            one.as_secs_f64() / all.as_secs_f64()
        };
        Ok(measured.clamp(1.0, cores as f64))
    }

    fn load(&self, engine: &dyn Engine, known: &Known, module: &Module) -> Result<(Duration, Arc<dyn Artifact>), Stop> {
        let began = Instant::now();
        let stored = self
            .store
            .load(module.digest(), known)
            .ok_or_else(|| Stop::Failed("the store does not have what was just put there".into()))?;
        let artifact = engine.load(module, &stored)?;
        Ok((began.elapsed(), artifact))
    }

    fn instantiate_ns(&self, artifact: &Arc<dyn Artifact>) -> Result<f64, Stop> {
        let (context, limits) = (GuestContext::default(), GuestLimits::default());
        let mut tries_ns = Vec::new();
        self.repeat(INSTANCES, || {
            let began = Instant::now();
            let mut instance = Arc::clone(artifact).instantiate(&context, &limits, self.interrupt)?;
            let called = instance.call(&Entry::Command)?;
            drop(instance);
            tries_ns.push(nanoseconds(began.elapsed()));
            self.expect_returned(&called.outcome)
        })?;
        tries_ns.sort_unstable();
        Ok(tries_ns[tries_ns.len() / 2] as f64)
    }

    /// Runs the kernels on all engines in turn, so that a spell of other work on the host slows all of them.
    fn speeds(
        &self,
        subjects: &mut Vec<Subject>,
        leave_out: &mut impl FnMut(&Known, &str),
    ) -> Result<(), CalibrateError> {
        for run in 0..RUNS {
            if run > 0 && self.is_late() {
                break;
            }
            let mut failed = Vec::new();
            for subject in subjects.iter_mut() {
                for kernel in KERNELS {
                    match guarded(|| self.run(&subject.artifact, kernel)) {
                        Ok(ns) => {
                            let best = subject.best_ns.entry(kernel.export).or_insert(u64::MAX);
                            *best = (*best).min(ns);
                        }
                        Err(Stop::Interrupted) => return Err(CalibrateError::Interrupted),
                        Err(Stop::Failed(reason)) => {
                            leave_out(subject.known, &format!("{}: {reason}", kernel.export));
                            failed.push(subject.known.id);
                            break;
                        }
                    }
                }
            }
            subjects.retain(|subject| !failed.contains(&subject.known.id));
        }
        Ok(())
    }

    /// The CPU time of one run of a kernel, in nanoseconds.
    fn run(&self, artifact: &Arc<dyn Artifact>, kernel: &Kernel) -> Result<u64, Stop> {
        let mut instance =
            Arc::clone(artifact).instantiate(&GuestContext::default(), &GuestLimits::default(), self.interrupt)?;
        let entry = Entry::Export { name: kernel.export.to_owned(), args: vec![Value::I32(kernel.argument)] };
        let began = thread_cpu();
        let called = instance.call(&entry)?;
        let ns = nanoseconds(thread_cpu().saturating_sub(began));
        self.expect_returned(&called.outcome)?;
        if called.values != [Value::I64(kernel.answer)] {
            return Err(Stop::Failed(format!("it answered {:?} instead of {}", called.values, kernel.answer)));
        }
        Ok(ns.max(1))
    }

    fn expect_returned(&self, outcome: &Outcome) -> Result<(), Stop> {
        match outcome {
            Outcome::Returned => Ok(()),
            _ if self.interrupt.cause().is_some() => Err(Stop::Interrupted),
            other => Err(Stop::Failed(format!("a guest {other}"))),
        }
    }

    /// The best of several tries in nanoseconds, and what the last try made.
    fn best<T>(&self, tries: usize, mut work: impl FnMut() -> Result<(Duration, T), Stop>) -> Result<(f64, T), Stop> {
        let mut best = Duration::MAX;
        let mut made = None;
        self.repeat(tries, || {
            let (took, this) = work()?;
            best = best.min(took);
            made = Some(this);
            Ok(())
        })?;
        Ok((nanoseconds(best) as f64, made.expect("there is at least one try")))
    }

    /// Does `work` several times, but fewer times if that takes long, and once if the time of the whole calibration is
    /// up.
    fn repeat(&self, tries: usize, mut work: impl FnMut() -> Result<(), Stop>) -> Result<(), Stop> {
        let began = Instant::now();
        for done in 0..tries {
            if self.interrupt.cause().is_some() {
                return Err(Stop::Interrupted);
            }
            let (enough, took) = (if self.is_late() { 1 } else { TRIES_MIN }, began.elapsed());
            if done >= enough && took > if self.is_late() { CHEAP } else { STEP } {
                break;
            }
            work()?;
        }
        Ok(())
    }

    fn is_late(&self) -> bool {
        self.began.elapsed() > BUDGET
    }
}

/// The line that costs follow, as its value at zero and its slope, neither of which is negative. It has the least
/// squares of the relative errors, because a microsecond matters for a small module and not for a large one.
fn fit_line(points: &[(u64, f64)]) -> (f64, f64) {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in points {
        let (x, weight) = (*x as f64, 1.0 / (y * y).max(1.0));
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    if points.is_empty() {
        return (0.0, 0.0);
    }
    let determinant = w * wxx - wx * wx;
    let slope = if determinant > 0.0 { ((w * wxy - wx * wy) / determinant).max(0.0) } else { 0.0 };
    let fixed = (wy - slope * wx) / w;
    if fixed < 0.0 { (0.0, wxy / wxx) } else { (fixed, slope) }
}

#[cfg(test)]
mod tests {
    use remuda_model::Cause;

    use super::*;

    fn near(actual: f64, expected: f64) -> bool {
        (actual / expected - 1.0).abs() < 1e-6
    }

    #[test]
    fn a_line_is_found_again() {
        let (fixed, slope) = fit_line(&[(0, 500.0), (1_000, 2_500.0), (50_000, 100_500.0)]);
        assert!(near(fixed, 500.0) && near(slope, 2.0), "{fixed} {slope}");
    }

    #[test]
    fn neither_part_of_a_line_is_negative() {
        let (fixed, slope) = fit_line(&[(100, 900.0), (10_000, 1_000.0), (100_000, 700.0)]);
        assert!(slope == 0.0 && (700.0..1_000.0).contains(&fixed), "{fixed} {slope}");
        let (fixed, slope) = fit_line(&[(100, 10.0), (10_000, 50_000.0), (100_000, 500_000.0)]);
        assert!(fixed == 0.0 && slope > 0.0, "{fixed} {slope}");
        assert_eq!(fit_line(&[]), (0.0, 0.0));
    }

    #[test]
    fn every_automatic_engine_is_measured() {
        let registry = Registry::default();
        let expected: Vec<_> = automatic(&registry).map(|known| known.id).collect();
        let scratch = tempfile::tempdir().unwrap();
        let mut last = None;
        let measured = measure(&registry, scratch.path(), &Interrupt::new(), |progress| last = Some(progress));
        let last = last.unwrap();
        assert_eq!((last.done, last.of), (expected.len() + 1, expected.len() + 1));
        if expected.is_empty() {
            assert!(matches!(measured, Err(CalibrateError::NoEngine { .. })));
            return;
        }
        let measured = measured.unwrap();
        assert_eq!(measured.measured().map(|(id, _)| id).collect::<Vec<_>>(), expected);
        assert!(measured.measured().any(|(_, costs)| (costs.slowdown - 1.0).abs() < 1e-9));
        for (id, costs) in measured.measured() {
            assert!(costs.is_plausible(), "{id}: {costs:?}");
            assert!(costs.compile_ns_per_code_byte > 0.0 && costs.instantiate_ns > 0.0, "{id}: {costs:?}");
            let keeps = registry.find(id.as_str()).unwrap().capabilities.artifacts;
            assert_eq!(keeps, costs.load_ns(1_000) > 0.0, "{id}: {costs:?}");
            let makes_parts = registry.find(id.as_str()).unwrap().capabilities.parts;
            assert_eq!(makes_parts, costs.parts.is_some(), "{id}: {costs:?}");
        }
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
    }

    #[test]
    fn it_can_be_stopped() {
        let registry = Registry::default();
        if automatic(&registry).next().is_none() {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let interrupt = Interrupt::new();
        let mut steps = 0;
        let measured = measure(&registry, scratch.path(), &interrupt, |_| {
            steps += 1;
            interrupt.raise(Cause::Cancelled);
        });
        assert!(matches!(measured, Err(CalibrateError::Interrupted)));
        assert_eq!(steps, 1);
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
