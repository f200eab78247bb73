//! A call of a function, and its answer.

use remuda_engine::{EngineError, Stay};
use remuda_model::{
    ArtifactState, EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Outcome, Phases, RequestId, Value,
};

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

/// Tells the caller the answer of a race.
pub(crate) type Deliver = Box<dyn FnOnce(Box<Answer>) + Send>;
