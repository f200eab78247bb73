//! The policy that always takes the same engine.

use remuda_model::EngineId;

use crate::{Decision, Reason, Request};

pub(super) fn decide(engine: EngineId, request: &Request<'_>) -> Option<Decision> {
    let is_candidate = request.candidates.iter().any(|candidate| candidate.engine == engine);
    is_candidate.then_some(Decision { engine, look_again_after_ns: None, reason: Reason::Fixed })
}
