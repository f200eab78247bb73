//! The host's outer face: functions are deployed to it and called on it. The work itself is done in the other files.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use remuda_engine::{EngineError, EntryError, Instances, Known, Module, ModuleError, Registry, UnknownEngine};
use remuda_model::{EngineId, Entry, Interrupt, ModuleLimits, RequestId};
use remuda_scheduler::{Favourite, Features, Policy, Scheduler, TierUp, World};

use crate::artifact::compile::{Compiler, Urgency};
use crate::artifact::parts::{Parts, PartsMemory};
use crate::artifact::slot::NotPrepared;
use crate::artifact::slots::Slots;
use crate::call::{Answer, Call, CallError};
use crate::config::{HostConfig, OpenError};
use crate::cores::Cores;
use crate::counters::Counters;
use crate::deadline::Deadlines;
use crate::function::{EngineSlot, Function, FunctionSpec, workload_of};
use crate::idle::appointments::Appointments;
use crate::idle::background::{Background, Threads};
use crate::idle::calibrator::Calibrator;
use crate::idle::prewarm::{Prewarmer, rehearsal};
use crate::idle::reaper::Reaper;
use crate::learn::housekeeper::{Keeper, NotKept};
use crate::learn::records::{Kept, Records};
use crate::module_file::{ReadModuleError, read_module};
use crate::prepare::prepare;
use crate::request::admit::{Rejected, Ticket, Workers};
use crate::request::execute::execute;
use crate::request::inline::InlineThread;
use crate::request::reuse::IdleInstances;
use crate::request::watchdog::Watchdog;
use crate::shared::Shared;
use crate::time::nanoseconds;

/// Functions, engines, artifacts and profiles of one process.
pub struct Host {
    // The fields are dropped in this order: requests end first, then what they left behind is written.
    workers: Option<Workers>,
    calibrator: Option<Calibrator>,
    prewarmer: Option<Prewarmer>,
    watchdog: Option<Watchdog>,
    shared: Arc<Shared>,
    policy: Policy,
    module_limits: ModuleLimits,
    records: Records,
    slots: Slots,
    parts_memory: Arc<PartsMemory>,
    process: u32,
    sequence: AtomicU64,
    functions: AtomicU64,
    reaper: Reaper,
}

/// The reason why a function cannot be deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The function's file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadModuleError),
    /// The function's file is not a module that can be run here.
    #[error("{path:?}: {reason}")]
    Module {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: ModuleError,
    },
    /// An engine is named that does not exist.
    #[error(transparent)]
    UnknownEngine(#[from] UnknownEngine),
    /// The module cannot be entered.
    #[error("{path:?}: {reason}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: EntryError,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// None of the engines that may run the function is able to.
    #[error("{reason}")]
    NoEngine {
        /// The reasons, engine by engine.
        reason: String,
    },
}

/// The reason why an artifact could not be made ahead.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The engine does not compile the module.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine compiled the module, and the artifact cannot be kept.
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

impl Host {
    /// Sets up a host and starts its threads.
    ///
    /// # Errors
    ///
    /// Returns an error if the data directory cannot be used, or if threads cannot be started.
    pub fn open(config: &HostConfig) -> Result<Self, OpenError> {
        let all_cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let core_count = config.cores.unwrap_or_else(all_cores).max(1);
        let cores = Arc::new(Cores::new(core_count, config.waste_share));
        let kept = Kept::open(config, &cores)?;
        let deadlines = Arc::<Deadlines>::default();
        let (instances, threads) = if config.one_call {
            (Instances::OnDemand, Threads::WhenNeeded)
        } else {
            deadlines.start().map_err(OpenError::Thread)?;
            (Instances::Pooled, Threads::Ahead)
        };
        let compiler = Compiler::new(config.compiler.clone(), config.compile_budget, Arc::clone(&deadlines))
            .with_only_way_budget(config.only_way_budget.unwrap_or(config.compile_budget))
            .announcing(config.announce);
        let shared = Arc::new(Shared {
            registry: Registry::new(instances),
            store: kept.store,
            compiler,
            one_call: config.one_call,
            moves: config.moves,
            inline: config.inline,
            are_parts_prepared: AtomicBool::new(false),
            deadlines,
            cores,
            background: Background::start(core_count, config.policy.may_race(), threads).map_err(OpenError::Thread)?,
            appointments: Appointments::default(),
            counters: Counters::default(),
            calibration: ArcSwap::default(),
            keeper: kept.keeper,
        });
        let is_calibrated = config.data_dir.as_deref().is_some_and(|data_dir| shared.load_calibration(data_dir));
        let calibrator = if config.calibrate_in_background && !is_calibrated {
            Some(Calibrator::start(&shared, config.data_dir.clone()).map_err(OpenError::Thread)?)
        } else {
            None
        };
        let workers = match config.workers {
            0 => None,
            threads => Some(Workers::start(&shared, threads, config.queue_max).map_err(OpenError::Thread)?),
        };
        let prewarmer = workers.is_some().then(|| Prewarmer::start(&shared)).transpose().map_err(OpenError::Thread)?;
        let watchdog = config.inline.then(Watchdog::start).transpose().map_err(OpenError::Thread)?;
        Ok(Self {
            workers,
            calibrator,
            prewarmer,
            watchdog,
            shared,
            policy: config.policy,
            module_limits: config.module_limits,
            records: kept.records,
            slots: Slots::new(config.memory_budget_bytes),
            parts_memory: PartsMemory::beside(config.memory_budget_bytes),
            process: process_id(),
            sequence: AtomicU64::new(0),
            functions: AtomicU64::new(0),
            reaper: Reaper::default(),
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[cfg(test)]
    pub(crate) fn workers(&self) -> Option<&Workers> {
        self.workers.as_ref()
    }

    /// Counts of what the host has done so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// Makes functions ready for their first requests: loads the artifacts on which these requests will run, and starts
    /// the engines. An artifact is loaded if it is on disk and the memory budget allows it; the function that gains
    /// most comes first. The method returns when all is done, or after `patience`, and the rest is then done in the
    /// background. No code of a guest is run.
    ///
    /// This is for hosts with [workers](HostConfig::workers); on others nothing happens.
    pub fn make_ready(&self, functions: &[Arc<Function>], patience: Duration) {
        let Some(workers) = &self.workers else { return };
        let began = Instant::now();
        let favourite = |function: &Arc<Function>| {
            let candidates = function.candidates(&self.shared.cores);
            self.shared.with_world(|world| function.scheduler.with(|scheduler| scheduler.favourite(&candidates, world)))
        };
        let mut functions: Vec<(Favourite, &Arc<Function>)> =
            functions.iter().filter_map(|function| Some((favourite(function)?, function))).collect();
        functions.sort_by(|(a, _), (b, _)| b.worth_ns.total_cmp(&a.worth_ns));
        let mut engines: Vec<EngineId> = Vec::new();
        for (Favourite { engine, .. }, _) in &functions {
            if !engines.contains(engine) {
                engines.push(*engine);
            }
        }
        let in_order = functions.into_iter().map(|(_, function)| Arc::downgrade(function));
        self.shared.appointments.make_ready(in_order, patience);
        if let Some(left) = patience.checked_sub(began.elapsed())
            && let Some(work) = rehearsal(&self.shared.registry, &engines)
        {
            workers.on_each_thread(work, left);
        }
    }

    /// The engines that this host knows.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.shared.registry
    }

    /// Reads a function's module, checks that it can be entered at `entry`, and finds the engines for it.
    ///
    /// # Errors
    ///
    /// Returns an error if the function cannot be run; the error says why and what to do.
    pub fn deploy(&self, spec: FunctionSpec, entry: Option<&Entry>) -> Result<Arc<Function>, DeployError> {
        let bytes = read_module(&spec.module)?;
        self.deploy_bytes(spec, bytes, entry)
    }

    /// Like [`deploy`](Self::deploy), for a module that was read already, in the binary format.
    ///
    /// # Errors
    ///
    /// Returns an error if the function cannot be run; the error says why and what to do.
    pub fn deploy_bytes(
        &self,
        spec: FunctionSpec,
        bytes: Bytes,
        entry: Option<&Entry>,
    ) -> Result<Arc<Function>, DeployError> {
        let module = self
            .records
            .module(bytes, &self.module_limits)
            .map_err(|reason| DeployError::Module { path: spec.module.clone(), reason })?;
        if let Some(entry) = entry {
            module.check_entry(entry).map_err(|reason| DeployError::Entry { path: spec.module.clone(), reason })?;
        }
        let engines = self.engines_for(&spec, &module)?;
        let urgency = if engines.len() > 1 { Urgency::Request } else { Urgency::OnlyWay };
        let budget = self.shared.compiler.budget(urgency);
        let store = self.shared.store.as_deref();
        let slot = |known| self.slots.get_unless_refused(module.digest(), known, store, budget);
        let engine_slot = |known| EngineSlot { known, slot: slot(known), idle: IdleInstances::default() };
        let engines: Vec<_> = engines.into_iter().map(engine_slot).collect();
        let stats = module.stats();
        let features = Features { code_bytes: stats.code_bytes, functions: stats.functions, loops: stats.loops };
        let workload = workload_of(&spec.args);
        let scheduler = Scheduler::new(
            self.policy,
            features,
            self.records.profile(module.digest(), workload, &self.shared.registry),
        );
        let id = self.functions.fetch_add(1, Ordering::Relaxed);
        let parts = Parts::new(&self.parts_memory);
        let function = Arc::new(Function::new(id, spec, module, engines, scheduler, self.shared.moves, parts));
        self.reaper.watch(&function).map_err(DeployError::Thread)?;
        Ok(function)
    }

    /// The engines that are allowed to run the module and are able to.
    fn engines_for(&self, spec: &FunctionSpec, module: &Module) -> Result<Vec<&'static Known>, DeployError> {
        let registry = &self.shared.registry;
        let named = match (self.policy, &spec.engines) {
            (Policy::Single(engine), _) => Some(vec![registry.find(engine.as_str())?]),
            (Policy::Profile | Policy::Adaptive | Policy::Hedged, None) => None,
            (Policy::Profile | Policy::Adaptive | Policy::Hedged, Some(names)) => {
                Some(names.iter().map(|name| registry.find(name)).collect::<Result<Vec<_>, _>>()?)
            }
        };
        let allowed = match named {
            None => registry.known().filter(|known| known.automatic && known.is_built()).collect(),
            Some(named) => named,
        };
        let is_able = |known: &&Known| registry.able(module).any(|able| able.id == known.id);
        let (able, unable): (Vec<_>, Vec<_>) = allowed.into_iter().partition(is_able);
        if able.is_empty() {
            return Err(DeployError::NoEngine { reason: self.why_unable(spec, module, &unable) });
        }
        Ok(able)
    }

    /// Says what each engine lacks, and which engines lack nothing.
    fn why_unable(&self, spec: &FunctionSpec, module: &Module, unable: &[&'static Known]) -> String {
        let reasons: Vec<String> = unable
            .iter()
            .map(|known| {
                let lacks = module.needs().without(known.capabilities.proposals);
                if !known.is_built() {
                    format!("{0} is not part of this build; build with `--features {0}`", known.id)
                } else if let Some(missing) = known.missing() {
                    format!("{} cannot be used here: {missing}", known.id)
                } else {
                    format!("{} lacks {lacks}, which the module needs", known.id)
                }
            })
            .collect();
        let able: Vec<&str> =
            self.shared.registry.able(module).filter(|known| known.automatic).map(|known| known.id.as_str()).collect();
        let way_out = match able.as_slice() {
            [] => "no engine of this build can run it".to_owned(),
            able => format!("engines that can run it: {}", able.join(", ")),
        };
        format!("{}: {}; {way_out}", spec.module.display(), reasons.join("; "))
    }

    /// Makes an id for the next request.
    #[must_use]
    pub fn next_request_id(&self) -> RequestId {
        RequestId { process: self.process, sequence: self.sequence.fetch_add(1, Ordering::Relaxed) + 1 }
    }

    /// Runs a request on the calling thread. This sets no deadline: the caller holds the interrupt.
    ///
    /// # Errors
    ///
    /// Returns an error if no engine could run the request, or if one broke.
    pub fn call(&self, function: &Arc<Function>, call: &Arc<Call>, interrupt: &Interrupt) -> Result<Answer, CallError> {
        execute(&self.shared, function, call, interrupt, Duration::ZERO)
    }

    /// Makes an engine's artifact of a function, for later processes. Returns how long the compile took, or `None` if
    /// the artifact was there already.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine cannot compile the module, or if the artifact cannot be kept.
    pub fn compile(
        &self,
        function: &Function,
        engine: EngineId,
        is_waited_for: bool,
    ) -> Result<Option<Duration>, CompileError> {
        let urgency = if is_waited_for { Urgency::OnlyWay } else { Urgency::Nobody };
        let prepared = prepare(urgency, &self.shared, function, engine, &Interrupt::new());
        let prepared = prepared.map_err(|reason| match reason {
            NotPrepared::Engine(error) => error,
            // No request waits here that could be interrupted.
            NotPrepared::Interrupted => EngineError::Internal { engine, reason: "it was interrupted".into() },
        })?;
        if !prepared.compiled_here {
            return Ok(None);
        }
        self.shared.observe_compile(function.module.digest(), engine, nanoseconds(prepared.compile));
        if let Keeper::Leaver(tasks) = &self.shared.keeper {
            self.records.keep(std::mem::take(&mut *tasks.lock()))?;
        }
        Ok(Some(prepared.compile))
    }

    /// For a process that is about to end, after a call: the engine whose code should be finished for the next process.
    #[must_use]
    pub fn worth_finishing(&self, function: &Function, call: &Call) -> Option<TierUp> {
        if !matches!(self.shared.keeper, Keeper::Leaver(_)) {
            // The next process would not find the code.
            return None;
        }
        let candidates = function.candidates(&self.shared.cores);
        let ask = |scheduler: &mut Scheduler, world: &World<'_>| {
            scheduler.after_one_call(call.input_bytes(), &candidates, world)
        };
        self.shared.with_world(|world| function.scheduler.with(|scheduler| ask(scheduler, world)))
    }

    /// For a process that is about to end: writes down what was learnt, and waits for nothing that was begun in the
    /// background.
    ///
    /// # Errors
    ///
    /// Returns an error if something could not be written. Everything else was written.
    pub fn leave(self) -> Result<(), NotKept> {
        let kept = match &self.shared.keeper {
            Keeper::Nobody => Ok(()),
            Keeper::Thread(housekeeper) => {
                housekeeper.flush();
                Ok(())
            }
            Keeper::Leaver(tasks) => self.records.keep(std::mem::take(&mut *tasks.lock())),
        };
        if let Some(store) = &self.shared.store {
            store.flush();
        }
        // The host's threads end with the process.
        std::mem::forget(self);
        kept
    }

    /// Raises `interrupt` when `timeout` has passed, unless the returned guard is dropped before that.
    #[must_use]
    pub fn arm(&self, timeout: Duration, interrupt: Interrupt) -> impl Drop + use<> {
        self.shared.deadlines.arm(Instant::now(), timeout, interrupt)
    }

    /// For a thread that brings requests and may run short ones itself; `None` if the host's configuration does not
    /// want that.
    #[must_use]
    pub fn inline_thread(&self) -> Option<InlineThread> {
        self.watchdog.as_ref().map(|watchdog| InlineThread::new(&self.shared, watchdog.watch()))
    }

    /// Admits a request; a thread of the host runs it and calls `done`. The request's time runs since it was `brought`.
    ///
    /// # Errors
    ///
    /// Returns an error if the queue is full, or if the host is shutting down.
    pub fn submit(
        &self,
        function: &Arc<Function>,
        call: Call,
        brought: Instant,
        done: impl FnOnce(Result<Answer, CallError>) + Send + 'static,
    ) -> Result<Ticket, Rejected> {
        let workers = self.workers.as_ref().ok_or(Rejected::Draining)?;
        workers.submit(&self.shared, function, call, brought, Box::new(done))
    }
}

/// Ends the requests first, then what was begun in the background.
impl Drop for Host {
    fn drop(&mut self) {
        self.workers = None;
        self.watchdog = None;
        self.calibrator = None;
        self.prewarmer = None;
        self.shared.compiler.close();
        self.shared.background.close();
        // A thread that is about to end may still know what is shared, which then is not dropped before the process ends.
        if let Keeper::Thread(housekeeper) = &self.shared.keeper {
            housekeeper.flush();
        }
    }
}

/// Four random bytes, so that request ids of different processes differ; the process's number if no random bytes can be
/// had.
fn process_id() -> u32 {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u32::from_le_bytes(bytes),
        Err(_) => std::process::id(),
    }
}
