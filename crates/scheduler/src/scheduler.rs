use std::fmt;

use remuda_model::{ArtifactState, EngineId, Observation};

use crate::nanoseconds::as_ns;
use crate::policy::Policy;
use crate::prewarm::{Favourite, PrewarmLook};
use crate::profile::Known;
use crate::tier_up::{Losses, TierUp};
use crate::{Arrivals, Candidate, Features, FunctionProfile, Prediction, Request, World};

/// Everything that is known of one function, and the policy that chooses for it. The host keeps one for each function.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pub(crate) policy: Policy,
    pub(crate) features: Features,
    pub(crate) profile: FunctionProfile,
    pub(crate) arrivals: Arrivals,
    pub(crate) losses: Losses,
    /// Engines that a request is trying for the first time right now.
    pub(crate) exploring: Vec<EngineId>,
}

/// Which engine runs a request, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The engine.
    pub engine: EngineId,
    /// After how long, in nanoseconds, to look whether another engine should race it if the request is not answered by
    /// then ([`Flight`](crate::flight::Flight)); `None`: not at all.
    pub look_again_after_ns: Option<u64>,
    /// The reason, for people.
    pub reason: Reason,
}

/// Why an engine was chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// Nothing else was allowed or able.
    OnlyCandidate,
    /// The policy names it.
    Fixed,
    /// It has never run this function.
    Unobserved,
    /// Everything else is being tried for the first time by other requests, or would be.
    NothingKnownYet,
    /// It is expected to answer first.
    Soonest {
        /// Its expected cost.
        prediction: Prediction,
        /// The next best and its expected total in nanoseconds, where there is one.
        runner_up: Option<(EngineId, u64)>,
    },
    /// It can begin first, and another engine will race it if it does not end soon.
    BeginsFirst {
        /// Its expected cost.
        prediction: Prediction,
        /// What would be expected to answer first if only one engine could run, and its expected total in nanoseconds.
        favourite: (EngineId, u64),
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyCandidate => f.write_str("the only engine that is able and allowed"),
            Self::Fixed => f.write_str("asked for by name"),
            Self::Unobserved => f.write_str("not yet measured on this function"),
            Self::NothingKnownYet => f.write_str("nothing measured yet, and others are being tried"),
            Self::Soonest { prediction, runner_up } => {
                write!(f, "expected to answer in {}", Milliseconds(prediction.total_ns()))?;
                match runner_up {
                    Some((engine, ns)) => write!(f, ", {engine} in {}", Milliseconds(*ns)),
                    None => Ok(()),
                }
            }
            Self::BeginsFirst { prediction, favourite: (engine, ns) } => write!(
                f,
                "can begin in {}; {engine} races it if it runs for long (expected in {})",
                Milliseconds(prediction.ready_ns.saturating_add(prediction.instantiate_ns)),
                Milliseconds(*ns)
            ),
        }
    }
}

pub(crate) struct Milliseconds(pub(crate) u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3} ms", self.0 as f64 / 1e6)
    }
}

/// There is no engine that is able and allowed to run the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoCandidate;

impl fmt::Display for NoCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no engine is both able and allowed to run this function")
    }
}

impl std::error::Error for NoCandidate {}

impl Scheduler {
    /// A scheduler for a function of which `profile` is known.
    #[must_use]
    pub fn new(policy: Policy, features: Features, profile: FunctionProfile) -> Self {
        Self {
            policy,
            features,
            profile,
            arrivals: Arrivals::default(),
            losses: Losses::default(),
            exploring: Vec::new(),
        }
    }

    /// Notes that a request has come.
    pub fn arrived(&mut self, now_ns: u64) {
        self.arrivals.observe(now_ns);
    }

    /// Chooses an engine. Every decision is followed by [`Scheduler::observe`] or [`Scheduler::abandon`].
    ///
    /// # Errors
    ///
    /// There is nothing to choose from.
    pub fn decide(&mut self, request: &Request<'_>, world: &World<'_>) -> Result<Decision, NoCandidate> {
        let decision = match request.candidates {
            [] => return Err(NoCandidate),
            [only] if !matches!(self.policy, Policy::Single(_)) => {
                Decision { engine: only.engine, look_again_after_ns: None, reason: Reason::OnlyCandidate }
            }
            _ => self.policy.decide(self, request, world).ok_or(NoCandidate)?,
        };
        if decision.reason == Reason::Unobserved {
            self.exploring.push(decision.engine);
        }
        Ok(decision)
    }

    /// What a request would cost on each candidate, in their order.
    pub fn predict<'a>(
        &'a self,
        request: &'a Request<'a>,
        world: &'a World<'a>,
    ) -> impl Iterator<Item = (&'a Candidate, Prediction)> {
        let cores = world.load.idle_cores() + 1;
        let known = self.known(request.candidates, world);
        let observed = self.profile.observed(request.input_bytes, &known);
        request.candidates.iter().map(move |candidate| {
            (candidate, self.profile.predict_from(&observed, candidate, request.input_bytes, cores, &known))
        })
    }

    pub(crate) fn known<'a>(&'a self, candidates: &'a [Candidate], world: &World<'a>) -> Known<'a> {
        Known { features: &self.features, calibration: world.calibration, candidates, now_ns: world.now_ns }
    }

    /// Learns from a request that has run. `candidates` are as they were when it ended.
    pub fn observe(&mut self, observation: &Observation, candidates: &[Candidate], world: &World<'_>) {
        self.abandon(observation.engine);
        self.profile.observe(observation);
        if observation.outcome.is_success() {
            let mut losses = std::mem::take(&mut self.losses);
            losses.observe(self, observation, candidates, world);
            self.losses = losses;
        }
    }

    /// Learns from a request that began on the observation's engine and went on in code of others, for so many nanoseconds of
    /// its time each. What it would have taken from the beginning on the one of these where it was longest follows from the
    /// engines' usual ratios; of the engine that it began on it tells only how soon that was ready.
    pub fn observe_moved(
        &mut self,
        observation: &Observation,
        stays: &[(EngineId, u64)],
        candidates: &[Candidate],
        world: &World<'_>,
    ) {
        self.abandon(observation.engine);
        self.profile.observe_relative(observation);
        if !observation.outcome.is_success() {
            return;
        }
        let slowdown = |engine: EngineId| {
            let candidate = candidates.iter().find(|candidate| candidate.engine == engine)?;
            Some(world.calibration.engine(engine, candidate.tier).slowdown)
        };
        let Some((to, _)) = stays.iter().copied().max_by_key(|(_, ns)| *ns) else { return };
        let away_ns: u64 = stays.iter().map(|(_, ns)| *ns).sum();
        let home = (observation.engine, observation.phases.execute_ns.saturating_sub(away_ns));
        // As much work as each of them did, in the time of that one.
        let work = |(engine, ns): (EngineId, u64)| Some(ns as f64 / slowdown(engine)?);
        let work: Option<f64> = stays.iter().copied().chain([home]).map(work).sum();
        let (Some(work), Some(slowdown)) = (work, slowdown(to)) else { return };
        let would_ns = as_ns(work * slowdown);
        self.profile.note_execution(to, observation.input_bytes, would_ns);
        let mut losses = std::mem::take(&mut self.losses);
        losses.observe_moved(self, observation, candidates, world);
        self.losses = losses;
    }

    /// Learns from a compile that no request waited for.
    pub fn observe_compile(&mut self, engine: EngineId, ns: u64) {
        self.profile.observe_compile(engine, ns);
    }

    /// Whether an engine should be made ready in the background now, and which.
    #[must_use]
    pub fn tier_up(&self, candidates: &[Candidate], world: &World<'_>) -> Option<TierUp> {
        crate::tier_up::decide(self, candidates, world)
    }

    /// For a process that ends after a request of this size of input: the engine whose code should be finished for the next
    /// process, if the runs to come will pay for it.
    #[must_use]
    pub fn after_one_call(
        &self,
        input_bytes: Option<u64>,
        candidates: &[Candidate],
        world: &World<'_>,
    ) -> Option<TierUp> {
        crate::tier_up::after_one_call(self, input_bytes, candidates, world)
    }

    /// What to make ready for the next request now, and when to look again.
    #[must_use]
    pub fn prewarm(&self, candidates: &[Candidate], world: &World<'_>) -> PrewarmLook {
        crate::prewarm::look(self, candidates, world)
    }

    /// The engine that a request would run on if all artifacts that are on disk were in memory.
    #[must_use]
    pub fn favourite(&self, candidates: &[Candidate], world: &World<'_>) -> Option<Favourite> {
        crate::prewarm::favourite(self, candidates, world)
    }

    /// Forgets a decision that came to nothing.
    pub fn abandon(&mut self, engine: EngineId) {
        if let Some(at) = self.exploring.iter().position(|other| *other == engine) {
            self.exploring.swap_remove(at);
        }
    }

    /// What is known of the function.
    #[must_use]
    pub fn profile(&self) -> &FunctionProfile {
        &self.profile
    }

    /// When its requests come.
    #[must_use]
    pub fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// How engines are chosen.
    #[must_use]
    pub fn policy(&self) -> Policy {
        self.policy
    }
}

/// Whether an artifact is ready to be instantiated.
pub(crate) fn is_ready(candidate: &Candidate) -> bool {
    candidate.artifact == ArtifactState::InMemory
}

#[cfg(test)]
mod tests {
    use remuda_model::{ModuleDigest, Outcome, Phases};

    use super::*;
    use crate::testing::{Case, INTERPRETER, MS, OPTIMIZING};

    #[test]
    fn a_request_that_moved_tells_how_long_it_would_have_run_where_it_went() {
        let mut case = Case::new(Policy::Hedged, 2);
        case.ready(&[INTERPRETER]);
        let observation = Observation {
            module: ModuleDigest::from_bytes([0; 32]),
            engine: INTERPRETER,
            phases: Phases { instantiate_ns: 1, execute_ns: 30 * MS, ..Phases::default() },
            artifact: ArtifactState::InMemory,
            workload: 0,
            input_bytes: case.input_bytes,
            output_bytes: 0,
            outcome: Outcome::Returned,
            unix_ms: 0,
        };
        let mut scheduler = case.scheduler.clone();
        scheduler.observe_moved(&observation, &[(OPTIMIZING, 15 * MS)], &case.candidates, &case.world());
        case.scheduler = scheduler;
        // The other half would have been 7.5 times as fast, by the shipped calibration.
        let execute_ns = |case: &Case, engine| {
            let (request, world) = (case.request(), case.world());
            let mut predicted = case.scheduler.predict(&request, &world);
            predicted.find(|(candidate, _)| candidate.engine == engine).unwrap().1.execute_ns
        };
        assert_eq!(execute_ns(&case, OPTIMIZING), 17 * MS);
        assert_eq!(execute_ns(&case, INTERPRETER), 17 * MS * 15 / 2, "as if it had stayed");
        case.candidate(INTERPRETER).goes_on_in = Some(OPTIMIZING);
        assert_eq!(execute_ns(&case, INTERPRETER), 17 * MS, "it will go on there again");
        // What it lost by beginning where it did, it loses again and again, until better code is made.
        for _ in 0..20 {
            let mut scheduler = case.scheduler.clone();
            scheduler.observe_moved(&observation, &[(OPTIMIZING, 15 * MS)], &case.candidates, &case.world());
            case.scheduler = scheduler;
        }
        let tier_up = case.scheduler.tier_up(&case.candidates, &case.world()).expect("13 ms a request pay for it");
        assert_eq!(tier_up.engine, OPTIMIZING);
    }
}
