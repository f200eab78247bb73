use std::fmt;

use remuda_model::{ArtifactState, EngineId, Observation};

use crate::nanoseconds::as_ns;
use crate::policy::Policy;
use crate::prewarm::{Favourite, PrewarmLook};
use crate::profile::Evidence;
use crate::tier_up::{Losses, TierUp};
use crate::tuning::{INLINE_DEVIATIONS, INLINE_NS_MAX, KNOWN_MIN};
use crate::{Arrivals, Basis, Candidate, Features, FunctionProfile, Prediction, Request, World};

/// Everything that is known of one function, and the policy that chooses for it. The host keeps one for each function.
#[derive(Clone, Debug)]
pub struct Scheduler {
    pub(crate) policy: Policy,
    pub(crate) features: Features,
    pub(crate) profile: FunctionProfile,
    pub(crate) arrivals: Arrivals,
    pub(crate) losses: Losses,
    /// Engines that are being tried for the first time right now, each by a request.
    pub(crate) exploring: Vec<EngineId>,
}

/// The engine that was chosen for a request, and the reason.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The engine.
    pub engine: EngineId,
    /// The time in nanoseconds after which to look whether another engine should race the request, if it is not
    /// answered by then ([`Flight`](crate::flight::Flight)); `None` if nobody is to look.
    pub look_again_after_ns: Option<u64>,
    /// The reason, for people.
    pub reason: Reason,
}

/// The reason for which an engine was chosen.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// No other engine was allowed or able.
    OnlyCandidate,
    /// The policy names the engine.
    Fixed,
    /// The engine has never run this function.
    Unobserved,
    /// No engine has run this function, and other requests are trying each of them for the first time.
    NothingKnownYet,
    /// The engine is expected to answer first.
    Soonest {
        /// The engine's expected cost.
        prediction: Prediction,
        /// The next best engine and its expected total in nanoseconds, where there is one.
        runner_up: Option<(EngineId, u64)>,
    },
    /// The engine can begin first, and another engine will race it if it does not end soon.
    BeginsFirst {
        /// The engine's expected cost.
        prediction: Prediction,
        /// The engine that would be expected to answer first if only one could run, and its expected total in
        /// nanoseconds.
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

/// The error if no engine is able and allowed to run the request.
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

    /// Notes that a request has come at `now_ns`.
    pub fn arrived(&mut self, now_ns: u64) {
        self.arrivals.observe(now_ns);
    }

    /// Chooses an engine. Every decision is followed by [`Scheduler::observe`] or [`Scheduler::abandon`].
    ///
    /// # Errors
    ///
    /// Returns an error if there is no candidate that the policy may choose.
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

    /// Predicts what a request would cost on each candidate, in their order.
    pub fn predict<'a>(
        &'a self,
        request: &'a Request<'a>,
        world: &'a World<'a>,
    ) -> impl Iterator<Item = (&'a Candidate, Prediction)> {
        let cores = world.load.idle_cores() + 1;
        let evidence = self.evidence(request.candidates, world);
        let observed = self.profile.observed(request.input_bytes, &evidence);
        request.candidates.iter().map(move |candidate| {
            (candidate, self.profile.predict_from(&observed, candidate, request.input_bytes, cores, &evidence))
        })
    }

    /// Whether a request on `engine` is known to be so short that the thread that brings it should run it itself.
    #[must_use]
    pub fn is_short(&self, engine: EngineId, request: &Request<'_>, world: &World<'_>) -> bool {
        let mut predicted = self.predict(request, world);
        let Some((candidate, prediction)) = predicted.find(|(candidate, _)| candidate.engine == engine) else {
            return false;
        };
        let bad_case_ns = prediction.before_execution_ns() + prediction.execute_quantile_ns(INLINE_DEVIATIONS);
        is_ready(candidate)
            && matches!(prediction.basis, Basis::Observed { count } if count >= KNOWN_MIN)
            && bad_case_ns <= INLINE_NS_MAX
    }

    pub(crate) fn evidence<'a>(&'a self, candidates: &'a [Candidate], world: &World<'a>) -> Evidence<'a> {
        Evidence { features: &self.features, calibration: world.calibration, candidates, now_ns: world.now_ns }
    }

    /// Learns from a request that has run. `candidates` are as they were when the request ended.
    pub fn observe(&mut self, observation: &Observation, candidates: &[Candidate], world: &World<'_>) {
        self.abandon(observation.engine);
        self.profile.observe(observation);
        if observation.outcome.is_success() {
            let mut losses = std::mem::take(&mut self.losses);
            losses.observe(self, observation, candidates, world);
            self.losses = losses;
        }
    }

    /// Learns from a request that began on the observation's engine and went on in code of others: `stays` has these
    /// engines, and for how many nanoseconds of its time it was in code of each. For the one of them where it was
    /// longest, the time that it would have taken there from the beginning follows from the engines' usual ratios. Of
    /// the engine that the request began on, it tells only how soon that engine was ready.
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
        // The work that an engine did in its time, as the time that the fastest engine would take for it.
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

    /// Chooses, for a process that ends after a request with this size of input, the engine whose code should be
    /// finished for the next process, if the runs to come will pay for it.
    #[must_use]
    pub fn after_one_call(
        &self,
        input_bytes: Option<u64>,
        candidates: &[Candidate],
        world: &World<'_>,
    ) -> Option<TierUp> {
        crate::tier_up::after_one_call(self, input_bytes, candidates, world)
    }

    /// Says what to make ready for the next request now, and when to look again.
    #[must_use]
    pub fn prewarm(&self, candidates: &[Candidate], world: &World<'_>) -> PrewarmLook {
        crate::prewarm::look(self, candidates, world)
    }

    /// The engine that a request would run on if all artifacts that are on disk were in memory.
    #[must_use]
    pub fn favourite(&self, candidates: &[Candidate], world: &World<'_>) -> Option<Favourite> {
        crate::prewarm::favourite(self, candidates, world)
    }

    /// Forgets a decision after which no request ran.
    pub fn abandon(&mut self, engine: EngineId) {
        if let Some(at) = self.exploring.iter().position(|other| *other == engine) {
            self.exploring.swap_remove(at);
        }
    }

    /// Everything that is known of the function.
    #[must_use]
    pub fn profile(&self) -> &FunctionProfile {
        &self.profile
    }

    /// The pattern in which the function's requests come.
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
    fn what_is_short_was_seen_to_be_short_on_an_engine_that_is_ready() {
        let is_short = |case: &Case, engine| case.scheduler.is_short(engine, &case.request(), &case.world());
        let seen = |times: &[u64]| {
            let mut case = Case::new(Policy::Hedged, 2);
            case.ready(&[INTERPRETER]);
            for ns in times {
                case.observe(INTERPRETER, *ns);
            }
            case
        };
        let us = MS / 1_000;
        assert!(!is_short(&seen(&[]), INTERPRETER), "nothing is known");
        assert!(!is_short(&seen(&[us; 2]), INTERPRETER), "it could have been luck");
        assert!(is_short(&seen(&[us; 3]), INTERPRETER));
        assert!(!is_short(&seen(&[200 * us; 10]), INTERPRETER));
        assert!(is_short(&seen(&[20 * us; 10]), INTERPRETER));
        assert!(!is_short(&seen(&[5 * us, 20 * us, 80 * us].repeat(5)), INTERPRETER), "some are not");
        let mut case = seen(&[us; 3]);
        assert!(!is_short(&case, OPTIMIZING), "that is another engine");
        case.candidate(INTERPRETER).artifact = ArtifactState::OnDisk;
        assert!(!is_short(&case, INTERPRETER), "the artifact would have to be loaded");
    }

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
        // In the optimizing engine's code, the other half would have been 7.5 times as fast, by the shipped
        // calibration.
        let execute_ns = |case: &Case, engine| {
            let (request, world) = (case.request(), case.world());
            let mut predicted = case.scheduler.predict(&request, &world);
            predicted.find(|(candidate, _)| candidate.engine == engine).unwrap().1.execute_ns
        };
        assert_eq!(execute_ns(&case, OPTIMIZING), 17 * MS);
        assert_eq!(execute_ns(&case, INTERPRETER), 17 * MS * 15 / 2, "as if it had stayed");
        case.candidate(INTERPRETER).goes_on_in = Some(OPTIMIZING);
        assert_eq!(execute_ns(&case, INTERPRETER), 17 * MS, "it will go on there again");
        // What the request lost by beginning where it did is lost again and again, until better code is made.
        for _ in 0..20 {
            let mut scheduler = case.scheduler.clone();
            scheduler.observe_moved(&observation, &[(OPTIMIZING, 15 * MS)], &case.candidates, &case.world());
            case.scheduler = scheduler;
        }
        let tier_up = case.scheduler.tier_up(&case.candidates, &case.world()).expect("13 ms a request pay for it");
        assert_eq!(tier_up.engine, OPTIMIZING);
    }
}
