//! The paper's policy made to learn on line: the argmin of the measured phases for the state that the artifacts are in.
//!
//! The paper profiles every engine before the first request. Here the requests themselves do: an engine that was never
//! measured is tried, by one request at a time, unless even an optimistic guess says that it cannot win.

use remuda_model::EngineId;

use crate::{Candidate, Cost, Decision, FunctionProfile, Prediction, Reason, Request};

/// The least by which an interpreter is slower than native code. The paper's Fig. 5 and our own tables have it between
/// 5 and 20 for real work.
const INTERPRETER_SLOWDOWN_MIN: u64 = 3;

pub(super) fn decide(request: &Request<'_>, profile: &FunctionProfile, exploring: &[EngineId]) -> Option<Decision> {
    let known = Known::of(request.candidates, profile);
    let unobserved = request.candidates.iter().find(|candidate| {
        predict(candidate, profile).is_none()
            && !exploring.contains(&candidate.engine)
            && known.could_lose_to(candidate)
    });
    if let Some(candidate) = unobserved {
        return Some(Decision { engine: candidate.engine, reason: Reason::Unobserved });
    }
    match known.best {
        Some((engine, prediction)) => {
            Some(Decision { engine, reason: Reason::Soonest { prediction, runner_up: known.runner_up } })
        }
        None => request
            .candidates
            .first()
            .map(|candidate| Decision { engine: candidate.engine, reason: Reason::NothingKnownYet }),
    }
}

fn predict(candidate: &Candidate, profile: &FunctionProfile) -> Option<Prediction> {
    profile.engine(candidate.engine)?.predict(candidate.artifact)
}

/// What the measured candidates promise.
#[derive(Default)]
struct Known {
    best: Option<(EngineId, Prediction)>,
    runner_up: Option<(EngineId, u64)>,
    /// The shortest execution in native code.
    execute_native_ns: Option<u64>,
}

impl Known {
    fn of(candidates: &[Candidate], profile: &FunctionProfile) -> Self {
        let mut known = Self::default();
        for candidate in candidates {
            let Some(prediction) = predict(candidate, profile) else { continue };
            if candidate.cost == Cost::Native {
                let shortest = known.execute_native_ns.unwrap_or(u64::MAX).min(prediction.execute_ns);
                known.execute_native_ns = Some(shortest);
            }
            let total = prediction.total_ns();
            match known.best {
                Some((_, best)) if best.total_ns() <= total => {
                    if known.runner_up.is_none_or(|(_, ns)| total < ns) {
                        known.runner_up = Some((candidate.engine, total));
                    }
                }
                best => {
                    known.runner_up = best.map(|(engine, prediction)| (engine, prediction.total_ns()));
                    known.best = Some((candidate.engine, prediction));
                }
            }
        }
        known
    }

    /// Whether an unmeasured engine may turn out to be better than the best measured one.
    fn could_lose_to(&self, candidate: &Candidate) -> bool {
        match (candidate.cost, self.execute_native_ns, self.best) {
            (Cost::Interpreted, Some(native_ns), Some((_, best))) => {
                native_ns.saturating_mul(INTERPRETER_SLOWDOWN_MIN) < best.total_ns()
            }
            _ => true,
        }
    }
}
