//! One request, on the thread that runs the guest: decide, prepare, instantiate, execute, observe.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use remuda_engine::{EngineError, InstantiateError};
use remuda_model::{
    ArtifactState, EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Observation, Outcome, Phases,
    RequestId, Value,
};
use remuda_scheduler::{Decision, Request};

use crate::function::{EngineSlot, Function};
use crate::host::Shared;
use crate::prepare::{NotPrepared, Prepared};

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

/// Runs a request from decision to observation. `queued` is how long it has waited until now.
pub(crate) fn execute(
    shared: &Shared,
    function: &Function,
    call: &Call,
    interrupt: &Interrupt,
    queued: Duration,
) -> Result<Answer, CallError> {
    let attempt = || run(shared, function, call, interrupt, queued);
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(request = %call.id, function = function.name(), %message, "panic while running a guest");
        Err(CallError::Panicked { message })
    })
}

fn run(
    shared: &Shared,
    function: &Function,
    call: &Call,
    interrupt: &Interrupt,
    queued: Duration,
) -> Result<Answer, CallError> {
    let mut failures: Vec<EngineError> = Vec::new();
    loop {
        let mut phases = Phases { queue_ns: nanoseconds(queued), ..Phases::default() };
        if let Some(cause) = interrupt.cause() {
            return Ok(cut_short(Outcome::Interrupted { cause }, None, phases));
        }
        let candidates = function.candidates();
        let request = Request { input_bytes: call.context.stdin.len(), candidates: &candidates };
        let Ok(decision) = function.scheduler().decide(&request) else {
            return Err(CallError::NoEngine { reasons: why_none(function, &failures) });
        };
        let undecided = Undecided { function, engine: decision.engine };
        let EngineSlot { known, slot } = function
            .engines
            .iter()
            .find(|engine| engine.known.id == decision.engine)
            .expect("the scheduler chooses among the candidates it is given");

        let prepared = slot.prepare(&shared.registry, known, &function.module, shared.store.as_deref(), interrupt);
        let Prepared { artifact, compile, load, was, compiled_here } = match prepared {
            Ok(prepared) => prepared,
            Err(NotPrepared::Engine(error)) => {
                failures.push(error);
                continue;
            }
            Err(NotPrepared::Interrupted) => continue,
        };
        phases.compile_ns = nanoseconds(compile);
        phases.load_ns = nanoseconds(load);
        if compiled_here && known.capabilities.artifacts {
            shared.keep(function, known, slot, &artifact);
        }

        let began = Instant::now();
        let instantiated = artifact.instantiate(&call.context, &call.limits, interrupt);
        phases.instantiate_ns = nanoseconds(began.elapsed());
        let mut answer = Answer {
            engine: Some(decision.engine),
            reason: decision.reason.to_string(),
            ..cut_short(Outcome::Returned, Some(was), phases)
        };
        match instantiated {
            Ok(mut instance) => {
                let began = Instant::now();
                let called = instance.call(&call.entry);
                answer.phases.execute_ns = nanoseconds(began.elapsed());
                answer.output = instance.into_output();
                let called = called?;
                answer.outcome = called.outcome;
                answer.values = called.values;
                answer.refused_growth = called.refused_growth;
            }
            Err(InstantiateError::Guest { outcome, output }) => {
                answer.outcome = outcome;
                answer.output = output;
            }
            Err(InstantiateError::Engine(error)) => {
                // Nothing of the guest has run unless it has a start function: another engine may try.
                if !error.another_engine_may_do() || function.module.has_start() {
                    return Err(error.into());
                }
                slot.fail(error.clone());
                failures.push(error);
                continue;
            }
        }
        std::mem::forget(undecided);
        observe(shared, function, call, &decision, &answer);
        return Ok(answer);
    }
}

/// A decision that has not come to anything yet; dropping it tells the scheduler that it did not.
struct Undecided<'a> {
    function: &'a Function,
    engine: EngineId,
}

impl Drop for Undecided<'_> {
    fn drop(&mut self) {
        self.function.scheduler().abandon(self.engine);
    }
}

/// An answer without anything of the guest's in it.
fn cut_short(outcome: Outcome, artifact: Option<ArtifactState>, phases: Phases) -> Answer {
    Answer {
        engine: None,
        reason: String::new(),
        outcome,
        output: GuestOutput::default(),
        values: Vec::new(),
        refused_growth: false,
        phases,
        artifact: artifact.unwrap_or(ArtifactState::Absent),
    }
}

fn observe(shared: &Shared, function: &Function, call: &Call, decision: &Decision, answer: &Answer) {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let observation = Observation {
        module: function.module.digest(),
        engine: decision.engine,
        phases: answer.phases,
        artifact: answer.artifact,
        input_bytes: call.context.stdin.len().unwrap_or(0),
        output_bytes: answer.output.stdout.len() as u64,
        outcome: answer.outcome.clone(),
        unix_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
    };
    function.scheduler().observe(&observation);
    shared.observe(observation);
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

pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
