use std::fmt;

use remuda_model::{ArtifactState, EngineId, Observation};

use crate::policy::Policy;
use crate::{FunctionProfile, Prediction};

/// Everything that is known of one function, and the policy that chooses for it. The host keeps one for each function.
#[derive(Clone, Debug)]
pub struct Scheduler {
    policy: Policy,
    profile: FunctionProfile,
    /// Engines that a request is trying for the first time right now.
    exploring: Vec<EngineId>,
}

/// A request, as far as the choice depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Bytes of input, if they are known beforehand.
    pub input_bytes: Option<u64>,
    /// The engines that are able and allowed to run it, in the order in which a function that nobody knows tries them.
    pub candidates: &'a [Candidate],
}

/// An engine that could run a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which one.
    pub engine: EngineId,
    /// Where its artifact of the module is.
    pub artifact: ArtifactState,
    /// What its code costs by nature.
    pub cost: Cost,
}

/// What an engine's code costs by nature, before anything is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Native code.
    Native,
    /// Several times what native code costs.
    Interpreted,
}

/// Which engine runs a request, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The engine.
    pub engine: EngineId,
    /// The reason, for people.
    pub reason: Reason,
}

/// Why an engine was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        }
    }
}

struct Milliseconds(u64);

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
    pub fn new(policy: Policy, profile: FunctionProfile) -> Self {
        Self { policy, profile, exploring: Vec::new() }
    }

    /// Chooses an engine. Every decision is followed by [`Scheduler::observe`] or [`Scheduler::abandon`].
    ///
    /// # Errors
    ///
    /// There is nothing to choose from.
    pub fn decide(&mut self, request: &Request<'_>) -> Result<Decision, NoCandidate> {
        let decision = match request.candidates {
            [] => return Err(NoCandidate),
            [only] if self.policy == Policy::Profile => Decision { engine: only.engine, reason: Reason::OnlyCandidate },
            _ => self.policy.decide(request, &self.profile, &self.exploring).ok_or(NoCandidate)?,
        };
        if decision.reason == Reason::Unobserved {
            self.exploring.push(decision.engine);
        }
        Ok(decision)
    }

    /// Learns from a request that has run.
    pub fn observe(&mut self, observation: &Observation) {
        self.abandon(observation.engine);
        self.profile.observe(observation);
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
}

#[cfg(test)]
mod tests {
    use remuda_model::{ModuleDigest, Outcome, Phases};

    use super::*;

    const FAST: EngineId = EngineId::new("fast");
    const QUICK: EngineId = EngineId::new("quick");
    const SLOW: EngineId = EngineId::new("slow");

    fn candidate(engine: EngineId, artifact: ArtifactState) -> Candidate {
        let cost = if engine == SLOW { Cost::Interpreted } else { Cost::Native };
        Candidate { engine, artifact, cost }
    }

    fn everywhere(artifact: ArtifactState) -> [Candidate; 3] {
        [QUICK, FAST, SLOW].map(|engine| candidate(engine, artifact))
    }

    fn observation(engine: EngineId, compile_ms: u64, execute_ms: u64) -> Observation {
        Observation {
            module: ModuleDigest::from_bytes([0; 32]),
            engine,
            phases: Phases {
                compile_ns: compile_ms * 1_000_000,
                instantiate_ns: 10_000,
                execute_ns: execute_ms * 1_000_000,
                ..Phases::default()
            },
            artifact: ArtifactState::Absent,
            input_bytes: 0,
            output_bytes: 0,
            outcome: Outcome::Returned,
            unix_ms: 0,
        }
    }

    fn decide(scheduler: &mut Scheduler, candidates: &[Candidate]) -> Decision {
        scheduler.decide(&Request { input_bytes: None, candidates }).unwrap()
    }

    #[test]
    fn nothing_to_choose_from_is_an_error() {
        let mut scheduler = Scheduler::new(Policy::Profile, FunctionProfile::default());
        assert_eq!(scheduler.decide(&Request { input_bytes: None, candidates: &[] }), Err(NoCandidate));
    }

    #[test]
    fn single_runs_what_it_names_or_nothing() {
        let mut scheduler = Scheduler::new(Policy::Single(FAST), FunctionProfile::default());
        let decision = decide(&mut scheduler, &everywhere(ArtifactState::Absent));
        assert_eq!(decision, Decision { engine: FAST, reason: Reason::Fixed });
        let others = [candidate(QUICK, ArtifactState::Absent), candidate(SLOW, ArtifactState::Absent)];
        assert_eq!(scheduler.decide(&Request { input_bytes: None, candidates: &others }), Err(NoCandidate));
    }

    #[test]
    fn profile_tries_each_engine_once_and_then_takes_the_soonest() {
        let mut scheduler = Scheduler::new(Policy::Profile, FunctionProfile::default());
        let absent = everywhere(ArtifactState::Absent);
        assert_eq!(decide(&mut scheduler, &absent).engine, QUICK);
        scheduler.observe(&observation(QUICK, 10, 3));
        assert_eq!(decide(&mut scheduler, &absent).engine, FAST);
        scheduler.observe(&observation(FAST, 100, 1));
        assert_eq!(decide(&mut scheduler, &absent).engine, SLOW);
        scheduler.observe(&observation(SLOW, 1, 30));
        // Nothing compiled: 10 + 3 against 100 + 1 against 1 + 30. Everything compiled: 3 against 1 against 30.
        assert_eq!(decide(&mut scheduler, &absent).engine, QUICK);
        let decision = decide(&mut scheduler, &everywhere(ArtifactState::InMemory));
        assert_eq!(decision.engine, FAST);
        assert!(decision.reason.to_string().contains("quick in 3.010 ms"), "{}", decision.reason);
    }

    #[test]
    fn an_engine_is_tried_by_one_request_at_a_time() {
        let mut scheduler = Scheduler::new(Policy::Profile, FunctionProfile::default());
        let absent = everywhere(ArtifactState::Absent);
        let engines: Vec<_> = (0..4).map(|_| decide(&mut scheduler, &absent)).collect();
        assert_eq!(engines.iter().map(|d| d.engine).collect::<Vec<_>>(), [QUICK, FAST, SLOW, QUICK]);
        assert_eq!(engines[3].reason, Reason::NothingKnownYet);
        scheduler.abandon(FAST);
        assert_eq!(decide(&mut scheduler, &absent).engine, FAST);
    }

    #[test]
    fn an_interpreter_that_cannot_win_is_not_tried() {
        let mut scheduler = Scheduler::new(Policy::Profile, FunctionProfile::default());
        scheduler.observe(&observation(QUICK, 10, 500));
        scheduler.observe(&observation(FAST, 100, 400));
        // Even without any compile time, three times 400 ms is more than 510 ms.
        assert_eq!(decide(&mut scheduler, &everywhere(ArtifactState::Absent)).engine, FAST);
        let decision = decide(&mut scheduler, &everywhere(ArtifactState::InMemory));
        assert_eq!(decision.engine, FAST);
    }

    #[test]
    fn failures_say_nothing_about_how_long_a_function_runs() {
        let mut scheduler = Scheduler::new(Policy::Profile, FunctionProfile::default());
        let mut failed = observation(QUICK, 10, 1);
        failed.outcome = Outcome::Exited { code: 1 };
        scheduler.observe(&failed);
        let profile = scheduler.profile().engine(QUICK).unwrap();
        assert_eq!(profile.execute.ns(), None);
        assert_eq!(profile.compile.ns(), Some(10_000_000));
    }
}
