//! One request, on the thread that runs the guest: decide, prepare, instantiate, execute, observe.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use remuda_engine::{EngineError, Extent, Instance, InstantiateError, Part, Stay};
use remuda_model::{
    ArtifactState, EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Observation, Outcome, Phases,
    RequestId, Value,
};
use remuda_scheduler::Decision;

use crate::compile::Urgency;
use crate::function::{EngineSlot, Function};
use crate::host::Shared;
use crate::prepare::{Maker, NotPrepared, Prepared};
use crate::race;

/// What a caller wants of a function.
#[derive(Clone, Debug)]
pub struct Call {
    /// Joins the client's message and the log.
    pub id: RequestId,
    /// Where to enter the module.
    pub entry: Entry,
    /// The guest's world.
    pub context: GuestContext,
    /// What it may use.
    pub limits: GuestLimits,
}

impl Call {
    /// Bytes of input, if they are known beforehand.
    pub(crate) fn input_bytes(&self) -> Option<u64> {
        self.context.stdin.len()
    }
}

/// How a request was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The engine that ran it, or `None` if its time was up before one was chosen.
    pub engine: Option<EngineId>,
    /// Why that one.
    pub reason: String,
    /// How the guest ended.
    pub outcome: Outcome,
    /// What it wrote.
    pub output: GuestOutput,
    /// What the entry point returned.
    pub values: Vec<Value>,
    /// Whether the guest was refused memory or table elements on the way.
    pub refused_growth: bool,
    /// How long each phase took.
    pub phases: Phases,
    /// Where the artifact was when the request came.
    pub artifact: ArtifactState,
    /// The parts of the module, compiled by other engines, in which the guest went on for a while.
    pub stays: Vec<Stay>,
}

/// Why there is no answer from a guest: none of this is the guest's doing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Every engine that may run the function has failed on it, or none is able.
    #[error("no engine can run this function: {reasons}")]
    NoEngine {
        /// Engine by engine.
        reasons: String,
    },
    /// The engine, or the guest's surroundings, broke.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The host itself has a bug.
    #[error("the host failed on this request: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// Who is to be told how a request ended.
pub(crate) type Done = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

/// [`Done`], until it is called: by the thread that took the request, or by one that has won a race for it.
#[derive(Clone)]
struct Caller(Arc<Mutex<Option<Done>>>);

impl Caller {
    fn tell(&self, result: Result<Answer, CallError>) {
        let done = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(done) = done {
            done(result);
        }
    }
}

/// Runs a request from decision to observation, and returns how it ended. `queued` is how long it has waited until now.
pub(crate) fn execute(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    queued: Duration,
) -> Result<Answer, CallError> {
    let (done, told) = sync_channel(1);
    // There is room for it.
    let done = Box::new(move |result| drop(done.send(result)));
    execute_for(shared, function, call, interrupt, queued, done);
    told.recv().expect("the caller is told in any case")
}

/// As [`execute`], but calls `done` with how it ended: on this thread, or sooner, on that of a racer.
pub(crate) fn execute_for(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    queued: Duration,
    done: Done,
) {
    let caller = Caller(Arc::new(Mutex::new(Some(done))));
    match catching_panics(function, call, || run(shared, function, call, interrupt, queued, &caller)) {
        Ok(Some(result)) => caller.tell(result),
        // It has been told; if not, the thread that was to do so has panicked.
        Ok(None) => caller.tell(Err(CallError::Panicked { message: "an answer was lost on its way".into() })),
        Err(error) => caller.tell(Err(error)),
    }
}

/// Makes a panic in `work` the end of one request and of nothing else.
pub(crate) fn catching_panics<T>(function: &Function, call: &Call, work: impl FnOnce() -> T) -> Result<T, CallError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(request = %call.id, function = function.name(), %message, "panic while running a guest");
        CallError::Panicked { message }
    })
}

/// How it ended, or `None` if the caller has been told.
fn run(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    queued: Duration,
    caller: &Caller,
) -> Option<Result<Answer, CallError>> {
    let mut failures: Vec<EngineError> = Vec::new();
    loop {
        if let Some(cause) = interrupt.cause() {
            let phases = Phases { queue_ns: nanoseconds(queued), ..Phases::default() };
            return Some(Ok(cut_short(Outcome::Interrupted { cause }, None, phases)));
        }
        let busy = shared.cores.work();
        let candidates = function.candidates(&shared.cores);
        let request = function.request(call, &candidates);
        let decided = shared.with_world(|world| function.brain.decide(&request, world));
        let Ok(decision) = decided else {
            return Some(Err(CallError::NoEngine { reasons: why_none(function, &failures) }));
        };
        tracing::debug!(request = %call.id, function = function.name(), engine = %decision.engine, reason = %decision.reason,
            "decided");
        let undecided = Undecided { function, engine: decision.engine };
        let ended = match decision.look_again_after_ns {
            None => {
                let began = Instant::now();
                let ended = attempt(shared, function, decision.engine, call, interrupt);
                shared.cores.earn(began.elapsed());
                ended
            }
            Some(after_ns) => {
                // Each racer takes a core of its own.
                drop(busy);
                let deliver: Deliver = {
                    let (shared, function, call) = (Arc::clone(shared), Arc::clone(function), Arc::clone(call));
                    let (caller, decision) = (caller.clone(), decision.clone());
                    Box::new(move |mut answer| {
                        conclude(&shared, &function, &call, queued, &decision, &mut answer);
                        caller.tell(Ok(*answer));
                    })
                };
                let look_after = Duration::from_nanos(after_ns);
                race::run(shared, function, call, interrupt, decision.engine, look_after, deliver)
            }
        };
        match ended {
            Attempt::Answered(mut answer) => {
                if answer.engine == Some(decision.engine) {
                    std::mem::forget(undecided);
                }
                conclude(shared, function, call, queued, &decision, &mut answer);
                return Some(Ok(*answer));
            }
            Attempt::Delivered => return None,
            Attempt::Failed(error) => failures.push(error),
            Attempt::Broken(error) => return Some(Err(error)),
            Attempt::Interrupted => {}
        }
    }
}

/// Completes an answer and learns from it.
fn conclude(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Call,
    queued: Duration,
    decision: &Decision,
    answer: &mut Answer,
) {
    answer.phases.queue_ns = nanoseconds(queued);
    answer.reason = reason(decision, answer);
    if !answer.stays.is_empty() {
        shared.counters.moved.add_one();
        answer.reason = format!("{}; then its guest moved: {}", answer.reason, went_on(answer));
    }
    if answer.engine.is_some_and(|engine| engine != decision.engine) {
        shared.counters.races_overtaken.add_one();
    }
    observe(shared, function, call, answer);
}

fn reason(decision: &Decision, answer: &Answer) -> String {
    match answer.engine {
        Some(engine) if engine != decision.engine => {
            format!("{} began ({}), and {engine} overtook it", decision.engine, decision.reason)
        }
        _ => decision.reason.to_string(),
    }
}

impl Answer {
    /// The engines in whose code the guest went on, the first one first, and for how many nanoseconds.
    #[must_use]
    pub fn went_on_in(&self) -> Vec<(EngineId, u64)> {
        let mut engines: Vec<(EngineId, u64)> = Vec::new();
        for stay in &self.stays {
            match engines.iter_mut().find(|(engine, _)| *engine == stay.engine) {
                Some((_, ns)) => *ns += stay.ns,
                None => engines.push((stay.engine, stay.ns)),
            }
        }
        engines
    }
}

/// For people: where else the guest went on, and for how long.
fn went_on(answer: &Answer) -> String {
    let engines = answer.went_on_in().into_iter();
    let words = engines.map(|(engine, ns)| format!("{:.1} ms in {engine}", ns as f64 / 1e6));
    words.collect::<Vec<_>>().join(", ")
}

/// Tells the caller the answer of a race.
pub(crate) type Deliver = Box<dyn FnOnce(Box<Answer>) + Send>;

/// How one engine's try at a request ended.
pub(crate) enum Attempt {
    /// The guest ended, one way or another.
    Answered(Box<Answer>),
    /// And the caller has been told.
    Delivered,
    /// The engine could not, and another may try.
    Failed(EngineError),
    /// Nobody can.
    Broken(CallError),
    /// The request's time was up before a guest ran.
    Interrupted,
}

fn attempt(shared: &Shared, function: &Function, engine: EngineId, call: &Call, interrupt: &Interrupt) -> Attempt {
    match prepare(shared, function, engine, interrupt) {
        Ok(prepared) => run_prepared(function, engine, call, &call.context, interrupt, prepared, |_, _| ()),
        Err(ended) => ended,
    }
}

/// Gets an engine ready to run a request that waits for it.
pub(crate) fn prepare(
    shared: &Shared,
    function: &Function,
    engine: EngineId,
    interrupt: &Interrupt,
) -> Result<Prepared, Attempt> {
    let is_other = |other: &&EngineSlot| other.known.id != engine && other.slot.failure().is_none();
    let urgency =
        if function.engines.iter().any(|other| is_other(&other)) { Urgency::Request } else { Urgency::OnlyWay };
    prepare_for(urgency, shared, function, engine, interrupt)
}

/// Gets an engine ready to run a function.
pub(crate) fn prepare_for(
    urgency: Urgency,
    shared: &Shared,
    function: &Function,
    engine: EngineId,
    interrupt: &Interrupt,
) -> Result<Prepared, Attempt> {
    let EngineSlot { known, slot } = function.engine(engine);
    let maker = Maker { registry: &shared.registry, compiler: &shared.compiler, urgency };
    match slot.prepare(maker, known, &function.module, shared.store.as_deref(), interrupt) {
        Ok(mut prepared) => {
            if prepared.compiled_here && known.capabilities.artifacts {
                let serialized = prepared.serialized.take();
                shared.keep(function, known, slot, &prepared.artifact, serialized);
            }
            Ok(prepared)
        }
        Err(NotPrepared::Engine(error)) => Err(Attempt::Failed(error)),
        Err(NotPrepared::Interrupted) => Err(Attempt::Interrupted),
    }
}

/// Instantiates and calls, in a world that may be narrower than the call's own. `begun` is shown the instance before it is
/// called.
pub(crate) fn run_prepared(
    function: &Function,
    engine: EngineId,
    call: &Call,
    context: &GuestContext,
    interrupt: &Interrupt,
    prepared: Prepared,
    begun: impl FnOnce(&dyn Instance, &[(Part, Extent)]),
) -> Attempt {
    let Prepared { artifact, compile, load, was, .. } = prepared;
    let phases = Phases { compile_ns: nanoseconds(compile), load_ns: nanoseconds(load), ..Phases::default() };
    let mut answer = Answer { engine: Some(engine), ..cut_short(Outcome::Returned, Some(was), phases) };
    let began = Instant::now();
    let instantiated = artifact.instantiate(context, &call.limits, interrupt);
    answer.phases.instantiate_ns = nanoseconds(began.elapsed());
    match instantiated {
        Ok(mut instance) => {
            begun(&*instance, &function.parts.offer_to(&*instance));
            let began = Instant::now();
            let called = instance.call(&call.entry);
            answer.phases.execute_ns = nanoseconds(began.elapsed());
            answer.stays = instance.moves().map(|moves| moves.stays()).unwrap_or_default();
            answer.output = instance.into_output();
            match called {
                Ok(called) => {
                    answer.outcome = called.outcome;
                    answer.values = called.values;
                    answer.refused_growth = called.refused_growth;
                }
                Err(error) => return Attempt::Broken(error.into()),
            }
        }
        Err(InstantiateError::Guest { outcome, output }) => {
            answer.outcome = outcome;
            answer.output = output;
        }
        Err(InstantiateError::Engine(error)) => {
            // Nothing of the guest has run unless it has a start function: another engine may try.
            if !error.another_engine_may_do() || function.module.has_start() {
                return Attempt::Broken(error.into());
            }
            function.engine(engine).slot.fail(error.clone());
            return Attempt::Failed(error);
        }
    }
    Attempt::Answered(Box::new(answer))
}

/// A decision that has not come to anything yet; dropping it tells the scheduler that it did not.
struct Undecided<'a> {
    function: &'a Function,
    engine: EngineId,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.function.brain.abandon(self.engine);
    }
}

/// An answer without anything of the guest's in it.
pub(crate) fn cut_short(outcome: Outcome, artifact: Option<ArtifactState>, phases: Phases) -> Answer {
    Answer {
        engine: None,
        reason: String::new(),
        outcome,
        output: GuestOutput::default(),
        values: Vec::new(),
        refused_growth: false,
        phases,
        artifact: artifact.unwrap_or(ArtifactState::Absent),
        stays: Vec::new(),
    }
}

fn observe(shared: &Arc<Shared>, function: &Arc<Function>, call: &Call, answer: &Answer) {
    let Some(engine) = answer.engine else { return };
    let observation = Observation {
        module: function.module.digest(),
        workload: function.workload,
        engine,
        phases: answer.phases,
        artifact: answer.artifact,
        input_bytes: call.input_bytes(),
        output_bytes: answer.output.stdout.len() as u64,
        outcome: answer.outcome.clone(),
        unix_ms: unix_ms(),
    };
    let stays = answer.went_on_in();
    if !stays.is_empty() {
        // It was no single engine's doing: nobody's measurements are to have it.
        observe_moved(shared, function, &observation, &stays);
        if !shared.one_call {
            shared.prewarmer.answered(shared, function, answer);
        }
        return;
    }
    shared.observe(observation.clone());
    if shared.one_call {
        // What is worth being made ready for later is asked when the process is about to end.
        let candidates = function.candidates(&shared.cores);
        return shared
            .with_world(|world| function.brain.with(|scheduler| scheduler.observe(&observation, &candidates, world)));
    }
    let candidates = function.candidates(&shared.cores);
    let tier_up = shared.with_world(|world| function.brain.observe(observation, &candidates, world));
    if let Some(tier_up) = tier_up {
        shared.tier_up(function, &tier_up);
    }
    shared.prewarmer.answered(shared, function, answer);
}

/// Learns from a request whose guest went on in code of these engines, for so many nanoseconds.
fn observe_moved(shared: &Arc<Shared>, function: &Arc<Function>, observation: &Observation, stays: &[(EngineId, u64)]) {
    let candidates = function.candidates(&shared.cores);
    let tier_up = shared.with_world(|world| {
        function.brain.with(|scheduler| {
            scheduler.observe_moved(observation, stays, &candidates, world);
            scheduler.tier_up(&candidates, world)
        })
    });
    if let Some(tier_up) = tier_up.filter(|_| !shared.one_call) {
        shared.tier_up(function, &tier_up);
    }
}

/// Names what stands in each engine's way.
fn why_none(function: &Function, failures: &[EngineError]) -> String {
    let mut reasons: Vec<String> = failures.iter().map(ToString::to_string).collect();
    if reasons.is_empty() {
        let set_aside = function.engines.iter().filter_map(|engine| engine.slot.failure());
        reasons.extend(set_aside.map(|error| error.to_string()));
    }
    if reasons.is_empty() {
        reasons.push("none is both able and allowed".into());
    }
    reasons.join("; ")
}

pub(crate) fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
