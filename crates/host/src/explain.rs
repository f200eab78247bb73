//! Says which engine would run a request now, and why.

use remuda_engine::Known;
use remuda_model::{ArtifactState, EngineId};
use remuda_scheduler::{Prediction, TierUpReason};

use crate::function::Function;
use crate::host::Host;

/// The expected cost of a request on every engine of a function, and what follows from that.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The engines; those that would answer first come first.
    pub engines: Vec<ExplainedEngine>,
    /// The engine that would run a request now and the reason, or `None` if no engine could.
    pub decision: Option<(EngineId, String)>,
    /// The time after which other engines may join the race for the answer, in nanoseconds.
    pub look_again_after_ns: Option<u64>,
    /// The engine that should be made ready in the background now, and the reason.
    pub tier_up: Option<(EngineId, TierUpReason)>,
}

/// The expected cost of a request on one engine.
#[derive(Clone, Debug)]
pub struct ExplainedEngine {
    /// The engine.
    pub known: &'static Known,
    /// The state of its artifact, or the reason why the engine was set aside for this module.
    pub artifact: Result<ArtifactState, String>,
    /// Whether its artifact is being loaded or compiled, or waits to be.
    pub in_the_making: bool,
    /// The expected cost of a request on it; `None` if it cannot run one.
    pub prediction: Option<Prediction>,
}

impl Host {
    /// Says which engine would run a request with `input_bytes` bytes of input now, and why. Asking changes nothing.
    #[must_use]
    pub fn explain(&self, function: &Function, input_bytes: Option<u64>) -> Explanation {
        let shared = self.shared();
        let candidates = function.candidates(&shared.cores);
        let request = function.request_when_served(input_bytes, &candidates);
        shared.with_world(|world| {
            let mut world = *world;
            // The request that is asked about would be one more on the cores.
            world.load.busy += 1;
            function.scheduler.with(|scheduler| {
                let predictions: Vec<_> = scheduler
                    .predict(&request, &world)
                    .map(|(candidate, prediction)| (candidate.engine, prediction))
                    .collect();
                let mut engines: Vec<ExplainedEngine> = function
                    .engines
                    .iter()
                    .map(|engine| ExplainedEngine {
                        known: engine.known,
                        artifact: engine.slot.artifact_state().ok_or_else(|| {
                            engine.slot.failure().map_or_else(|| "set aside".to_owned(), |error| error.to_string())
                        }),
                        in_the_making: engine.slot.making_since().is_some()
                            || shared.background.is_compiling((function.module.digest(), engine.known.id)),
                        prediction: predictions
                            .iter()
                            .find(|(id, _)| *id == engine.known.id)
                            .map(|(_, prediction)| *prediction),
                    })
                    .collect();
                engines.sort_by_key(|engine| engine.prediction.map_or(u64::MAX, |prediction| prediction.total_ns()));
                // A copy decides, so that asking leaves nothing behind.
                let decision = scheduler.clone().decide(&request, &world).ok();
                Explanation {
                    engines,
                    look_again_after_ns: decision.as_ref().and_then(|decision| decision.look_again_after_ns),
                    decision: decision.map(|decision| (decision.engine, decision.reason.to_string())),
                    tier_up: scheduler.tier_up(&candidates, &world).map(|tier_up| (tier_up.engine, tier_up.reason)),
                }
            })
        })
    }
}
