//! The paper's policy, made to learn online: the argmin of the measured phases for the state that the artifacts are in.
//!
//! The paper profiles every engine before the first request. Here the requests themselves do so: an engine that was
//! never measured is tried, by one request at a time, unless even an optimistic guess says that it cannot win.

use remuda_model::{EngineId, Tier};

use crate::tuning::INTERPRETER_SLOWDOWN_MIN;
use crate::{Basis, Candidate, Decision, Prediction, Reason, Request, Scheduler, World};

pub(super) fn decide(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> Option<Decision> {
    let mut measured = Measured::default();
    for (candidate, prediction) in scheduler.predict(request, world) {
        if matches!(prediction.basis, Basis::Observed { .. }) {
            measured.add(candidate, prediction);
        }
    }
    let decision = |engine, reason| Some(Decision { engine, look_again_after_ns: None, reason });
    let unobserved = scheduler.predict(request, world).find(|(candidate, prediction)| {
        !matches!(prediction.basis, Basis::Observed { .. })
            && !scheduler.exploring.contains(&candidate.engine)
            && measured.could_lose_to(candidate)
    });
    if let Some((candidate, _)) = unobserved {
        return decision(candidate.engine, Reason::Unobserved);
    }
    match measured.best {
        Some((engine, prediction)) => decision(engine, Reason::Soonest { prediction, runner_up: measured.runner_up }),
        None => decision(request.candidates.first()?.engine, Reason::NothingKnownYet),
    }
}

/// A summary of what the measured candidates promise.
#[derive(Default)]
struct Measured {
    best: Option<(EngineId, Prediction)>,
    runner_up: Option<(EngineId, u64)>,
    /// The shortest execution in native code, in nanoseconds.
    execute_native_ns: Option<u64>,
}

impl Measured {
    fn add(&mut self, candidate: &Candidate, prediction: Prediction) {
        if candidate.tier != Tier::Interpreter {
            let shortest = self.execute_native_ns.unwrap_or(u64::MAX).min(prediction.execute_ns);
            self.execute_native_ns = Some(shortest);
        }
        let total = prediction.total_ns();
        match self.best {
            Some((_, best)) if best.total_ns() <= total => {
                if self.runner_up.is_none_or(|(_, ns)| total < ns) {
                    self.runner_up = Some((candidate.engine, total));
                }
            }
            best => {
                self.runner_up = best.map(|(engine, prediction)| (engine, prediction.total_ns()));
                self.best = Some((candidate.engine, prediction));
            }
        }
    }

    /// Whether this unmeasured candidate may turn out to be better than the best measured one.
    fn could_lose_to(&self, candidate: &Candidate) -> bool {
        match (candidate.tier, self.execute_native_ns, self.best) {
            (Tier::Interpreter, Some(native_ns), Some((_, best))) => {
                native_ns.saturating_mul(INTERPRETER_SLOWDOWN_MIN) < best.total_ns()
            }
            _ => true,
        }
    }
}
