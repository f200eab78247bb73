//! A deployed function: its module, what it may do, and what is known of it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use remuda_engine::{Known, Module};
use remuda_model::{ArtifactState, EngineId, GuestContext, GuestLimits, Outbound, Preopen, Stdin, Tier};
use remuda_scheduler::{Candidate, Request, Scheduler, Usual};

use crate::artifact::parts::Parts;
use crate::artifact::slot::Slot;
use crate::call::Call;
use crate::cores::Cores;
use crate::idle::expectation::Expectation;
use crate::learn::shared_scheduler::SharedScheduler;
use crate::request::plan::Inlining;
use crate::request::reuse::{IdleInstances, Reuse};
use crate::time::nanoseconds;

/// A function to be deployed: what it runs, and with which rights and limits. How requests reach it is not its concern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionSpec {
    /// The function's name in logs and metrics.
    pub name: String,
    /// The module's file.
    pub module: PathBuf,
    /// The names of the engines that may run the function; `None`: all engines may.
    pub engines: Option<Vec<String>>,
    /// Arguments after the program's name.
    pub args: Vec<String>,
    /// The environment variables.
    pub env: Vec<(String, String)>,
    /// The directories that the guest may open.
    pub preopens: Vec<Preopen>,
    /// The requests that guests may send; `None`: none.
    pub outbound: Option<Arc<Outbound>>,
    /// The limits on what one request may use.
    pub limits: GuestLimits,
    /// Whether running a request twice does no harm, although it may write files.
    pub idempotent: bool,
    /// How instances may answer further requests; `None`: each request has an instance of its own.
    pub reuse: Option<Reuse>,
}

impl FunctionSpec {
    /// Makes a function of a module's file, with nothing configured.
    #[must_use]
    pub fn of_module(module: &Path) -> Self {
        let name = module.file_stem().map_or_else(|| "module".into(), |stem| stem.to_string_lossy().into_owned());
        Self {
            name,
            module: module.to_owned(),
            engines: None,
            args: Vec::new(),
            env: Vec::new(),
            preopens: Vec::new(),
            outbound: None,
            limits: GuestLimits::default(),
            idempotent: false,
            reuse: None,
        }
    }
}

/// A function that has been deployed to a host.
pub struct Function {
    pub(crate) spec: FunctionSpec,
    pub(crate) module: Arc<Module>,
    /// The engines that are able and allowed to run it, in the order in which an unknown module tries them.
    pub(crate) engines: Vec<EngineSlot>,
    /// A hash of the arguments with which the function runs.
    pub(crate) workload: u64,
    pub(crate) scheduler: SharedScheduler,
    /// A number that no other function of this host has.
    pub(crate) id: u64,
    pub(crate) expectation: Expectation,
    pub(crate) inlining: Inlining,
    /// Whether guests can go on in better code while they run, wherever they are.
    can_move: bool,
    /// Parts of the module in which guests have gone on.
    pub(crate) parts: Arc<Parts>,
    /// About how long a request keeps a thread, in nanoseconds.
    usual_ns: AtomicU64,
}

/// One of a function's engines, with the place for its artifact.
pub(crate) struct EngineSlot {
    pub(crate) known: &'static Known,
    pub(crate) slot: Arc<Slot>,
    /// Instances that wait for their next request.
    pub(crate) idle: IdleInstances,
}

impl Function {
    pub(crate) fn new(
        id: u64,
        spec: FunctionSpec,
        module: Arc<Module>,
        engines: Vec<EngineSlot>,
        scheduler: Scheduler,
        moves: bool,
        parts: Arc<Parts>,
    ) -> Self {
        let has_parts = engines.iter().any(|engine| engine.known.capabilities.parts);
        Self {
            can_move: moves && has_parts && module.can_move_anywhere(),
            workload: workload_of(&spec.args),
            spec,
            module,
            engines,
            scheduler: SharedScheduler::new(scheduler),
            id,
            expectation: Expectation::default(),
            inlining: Inlining::default(),
            parts,
            usual_ns: AtomicU64::new(Usual::default().ns),
        }
    }

    /// The function's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The function as it was configured.
    #[must_use]
    pub fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    /// The module that the function runs.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Finds one of the function's engines.
    ///
    /// # Panics
    ///
    /// Panics if the function has no such engine. The scheduler chooses among the candidates that it is given.
    pub(crate) fn engine(&self, id: EngineId) -> &EngineSlot {
        self.engines
            .iter()
            .find(|engine| engine.known.id == id)
            .expect("the engine is one of the function's candidates")
    }

    /// About how long a request keeps a thread, in nanoseconds.
    pub(crate) fn usual_ns(&self) -> u64 {
        self.usual_ns.load(Ordering::Relaxed)
    }

    /// Notes how long a request has kept its thread. If several threads note a time at once, one of these may be lost,
    /// which does no harm.
    pub(crate) fn observe_occupancy(&self, time: Duration) {
        let usual = Usual { ns: self.usual_ns() };
        self.usual_ns.store(usual.after(nanoseconds(time)).ns, Ordering::Relaxed);
    }

    /// The engines that have not failed on this module.
    pub(crate) fn candidates(&self, cores: &Cores) -> Vec<Candidate> {
        let goes_on_in = self.goes_on_in();
        let candidate = |EngineSlot { known, slot, .. }: &EngineSlot| {
            let (artifact, making_since) = slot.state()?;
            Some(Candidate {
                engine: known.id,
                tier: known.capabilities.tier,
                artifact,
                making_since_ns: making_since.map(|since| cores.at_ns(since)),
                goes_on_in: goes_on_in.filter(|_| known.capabilities.tier == Tier::Interpreter),
            })
        };
        self.engines.iter().filter_map(candidate).collect()
    }

    /// The engine in whose code guests go on that begin on an interpreter. Parts are forgotten as soon as there is code
    /// of the whole module that is as good.
    fn goes_on_in(&self) -> Option<EngineId> {
        let (engine, tier) = self.parts.best()?;
        let is_better = |EngineSlot { known, slot, .. }: &EngineSlot| {
            known.capabilities.tier >= tier && slot.artifact_state() == Some(ArtifactState::InMemory)
        };
        if self.engines.iter().any(is_better) {
            self.parts.forget();
            return None;
        }
        Some(engine)
    }

    /// Says what a decision has to know of a call.
    pub(crate) fn request<'a>(&self, call: &Call, candidates: &'a [Candidate]) -> Request<'a> {
        Request {
            may_race: self.may_race(&call.context),
            ..self.request_with(call.input_bytes(), &call.context.preopens, candidates)
        }
    }

    /// Whether two engines may run the same request, because nobody outside can tell that they did. A gate keeps the
    /// host's own streams from them.
    pub(crate) fn may_race(&self, context: &GuestContext) -> bool {
        // No gate is between a component and input that only one guest can read.
        let reads_ungated = self.module.is_component() && matches!(context.stdin, Stdin::Inherit);
        self.is_harmless(&context.preopens) && !reads_ungated && !context.reads_coming_body()
    }

    /// Whether a request whose engine was lost in the middle of the guest's run may begin again: then nobody can tell that
    /// it has run before.
    pub(crate) fn may_repeat(&self, context: &GuestContext) -> bool {
        self.is_harmless(&context.preopens)
            && !context.uses_host_streams()
            && !context.reads_coming_body()
            && !context.has_streamed()
    }

    /// Like [`Function::request`], for a request over the network with `input_bytes` bytes of input.
    pub(crate) fn request_when_served<'a>(&self, input_bytes: Option<u64>, candidates: &'a [Candidate]) -> Request<'a> {
        self.request_with(input_bytes, &self.spec.preopens, candidates)
    }

    fn request_with<'a>(
        &self,
        input_bytes: Option<u64>,
        preopens: &[Preopen],
        candidates: &'a [Candidate],
    ) -> Request<'a> {
        Request { input_bytes, candidates, may_race: self.is_harmless(preopens), can_move: self.can_move }
    }

    fn is_harmless(&self, preopens: &[Preopen]) -> bool {
        let writes = preopens.iter().any(|preopen| preopen.writable) || self.spec.outbound.is_some();
        self.spec.idempotent || !writes
    }

    /// The state of each engine's artifact; `None` for an engine that has failed on this module.
    pub fn artifacts(&self) -> impl Iterator<Item = (&'static Known, Option<ArtifactState>)> {
        self.engines.iter().map(|EngineSlot { known, slot, .. }| (*known, slot.artifact_state()))
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.spec.name).finish_non_exhaustive()
    }
}

/// A number that tells functions apart whose executions cannot be compared: the same module with other arguments may do
/// something else entirely. It is a hash of the arguments, or 0 without arguments.
pub(crate) fn workload_of(args: &[String]) -> u64 {
    if args.is_empty() {
        return 0;
    }
    // The hash is a published one, because profiles are shipped between hosts and versions.
    let mut hasher = blake3::Hasher::new();
    for arg in args {
        hasher.update(&(arg.len() as u64).to_le_bytes()).update(arg.as_bytes());
    }
    let mut hash = [0; 8];
    hasher.finalize_xof().fill(&mut hash);
    u64::from_le_bytes(hash)
}
