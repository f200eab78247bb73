//! A call of a function, and its answer.

use std::sync::Arc;

use remuda_engine::{EngineError, Stay};
use remuda_model::{
    ArtifactState, EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Outcome, Phases, RequestId, Value,
};

/// A call of a function, as the caller describes it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request's id, which joins the client's message and the log.
    pub id: RequestId,
    /// The place where the module is entered.
    pub entry: Entry,
    /// The guest's world: arguments, environment, folders and streams.
    pub context: GuestContext,
    /// The limits on what the guest may use.
    pub limits: GuestLimits,
}

impl Call {
    /// The number of bytes of input, if it is known beforehand.
    pub(crate) fn input_bytes(&self) -> Option<u64> {
        let request_bytes = self.context.request.as_ref().map_or(Some(0), |request| request.body.len())?;
        self.context.stdin.len().map(|bytes| bytes + request_bytes)
    }
}

/// The answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The engine that ran the request, or `None` if the request's time was up before an engine was chosen.
    pub engine: Option<EngineId>,
    /// The reason for choosing that engine.
    pub reason: Arc<str>,
    /// The way in which the guest ended.
    pub outcome: Outcome,
    /// The output that the guest wrote.
    pub output: GuestOutput,
    /// The values that the entry point returned.
    pub values: Vec<Value>,
    /// Whether the guest was refused memory or table elements on the way.
    pub refused_growth: bool,
    /// The time that each phase took.
    pub phases: Phases,
    /// The state of the artifact when the request came.
    pub artifact: ArtifactState,
    /// The parts of the module, compiled by other engines, in which the guest went on for a while.
    pub stays: Vec<Stay>,
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

/// Makes an answer that contains nothing of the guest's.
pub(crate) fn cut_short(outcome: Outcome, artifact: Option<ArtifactState>, phases: Phases) -> Answer {
    Answer {
        engine: None,
        reason: Arc::default(),
        outcome,
        output: GuestOutput::default(),
        values: Vec::new(),
        refused_growth: false,
        phases,
        artifact: artifact.unwrap_or(ArtifactState::Absent),
        stays: Vec::new(),
    }
}

/// The reason why a guest gave no answer. None of these reasons is the guest's doing.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Every engine that may run the function has failed on it, or no engine is able to run it.
    #[error("no engine can run this function: {reasons}")]
    NoEngine {
        /// The reasons, engine by engine.
        reasons: String,
    },
    /// The engine, or the guest's surroundings, broke.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine lost the process that ran the guest, and the guest may have done something that must not be done twice.
    #[error(
        "{error}; the request was not repeated, since the function may have written to files or streams; say \
         `idempotent = true` of a function that may be run again"
    )]
    NotRepeated {
        /// The engine's error.
        error: EngineError,
    },
    /// The host itself has a bug.
    #[error("the host failed on this request: {message}")]
    Panicked {
        /// The panic's message.
        message: String,
    },
}

/// A callback that is told how a request ended.
pub(crate) type Done = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

/// A callback that tells the caller the answer of a race.
pub(crate) type Deliver = Box<dyn FnOnce(Box<Answer>) + Send>;
