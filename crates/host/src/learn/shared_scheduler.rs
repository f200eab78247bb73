//! One function's scheduler among many threads: on the warm path, a thread that finds it taken does not wait.

use std::sync::mpsc::{Receiver, Sender, channel};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use remuda_model::{EngineId, Observation};
use remuda_scheduler::{Candidate, Decision, NoCandidate, Reason, Request, Scheduler, TierUp, World};
use std::sync::Arc;

/// A scheduler that any thread may ask for decisions, and teach.
///
/// One thread at a time has it. On the warm path no other thread waits for that one: a request goes by the decision
/// that was made last, as long as that holds, and an observation is left for the next thread to pick up.
pub(crate) struct SharedScheduler {
    state: Mutex<State>,
    /// The last decision that needs no race, for requests that come while another thread is deciding.
    standing: ArcSwapOption<Decision>,
    lessons: Sender<Observation>,
}

/// What follows from requests that have run.
pub(crate) struct Learnt {
    /// What to make ready.
    pub(crate) tier_up: Option<TierUp>,
    /// How the next requests run, if they are known to be short.
    pub(crate) short: Option<Decision>,
}

struct State {
    scheduler: Scheduler,
    lessons: Receiver<Observation>,
}

impl SharedScheduler {
    pub(crate) fn new(scheduler: Scheduler) -> Self {
        let (sender, lessons) = channel();
        Self { state: Mutex::new(State { scheduler, lessons }), standing: ArcSwapOption::empty(), lessons: sender }
    }

    /// Chooses an engine.
    pub(crate) fn decide(&self, request: &Request<'_>, world: &World<'_>) -> Result<Decision, NoCandidate> {
        let mut state = match self.state.try_lock() {
            Some(state) => state,
            None => match self.standing_decision(request) {
                Some(decision) => return Ok(decision),
                None => self.state.lock(),
            },
        };
        state.learn(request.candidates, world);
        state.scheduler.arrived(world.now_ns);
        let decision = state.scheduler.decide(request, world)?;
        let may_stand = decision.look_again_after_ns.is_none() && !matches!(decision.reason, Reason::Unobserved);
        let stands = self.standing.load().as_ref().is_some_and(|standing| standing.engine == decision.engine);
        if may_stand && !stands {
            self.standing.store(Some(Arc::new(decision.clone())));
        } else if !may_stand && stands {
            self.standing.store(None);
        }
        Ok(decision)
    }

    fn standing_decision(&self, request: &Request<'_>) -> Option<Decision> {
        let standing = self.standing.load_full()?;
        let is_ready = |candidate: &&Candidate| {
            candidate.engine == standing.engine && candidate.artifact == remuda_model::ArtifactState::InMemory
        };
        request.candidates.iter().find(is_ready).map(|_| Decision::clone(&standing))
    }

    /// Learns from a request, now or when the next one comes. Returns what to make ready because of it.
    pub(crate) fn observe(
        &self,
        observation: Observation,
        candidates: &[Candidate],
        world: &World<'_>,
    ) -> Option<TierUp> {
        match self.state.try_lock() {
            Some(mut state) => {
                state.learn(candidates, world);
                state.scheduler.observe(&observation, candidates, world);
                state.scheduler.tier_up(candidates, world)
            }
            None => {
                // The receiver lives as long as this scheduler.
                let _ = self.lessons.send(observation);
                None
            }
        }
    }

    /// Learns from requests, each with the time at which it came, and chooses for more like `request`. If another thread
    /// has the scheduler, it learns when the next request comes, and this returns `None`.
    pub(crate) fn observe_batch(
        &self,
        requests: Vec<(Observation, u64)>,
        request: &Request<'_>,
        world: &World<'_>,
    ) -> Option<Learnt> {
        let Some(mut state) = self.state.try_lock() else {
            for (observation, _) in requests {
                // The receiver lives as long as this scheduler.
                let _ = self.lessons.send(observation);
            }
            return None;
        };
        state.learn(request.candidates, world);
        let scheduler = &mut state.scheduler;
        for (observation, came_ns) in &requests {
            scheduler.arrived(*came_ns);
            scheduler.observe(observation, request.candidates, world);
        }
        let tier_up = scheduler.tier_up(request.candidates, world);
        let decision = scheduler.decide(request, world).ok();
        if let Some(decision) = &decision {
            // No request runs by it: it is what the next ones would run by.
            scheduler.abandon(decision.engine);
        }
        let short = decision.filter(|decision| scheduler.is_short(decision.engine, request, world));
        Some(Learnt { tier_up, short })
    }

    /// Whether requests on `engine` are known to be short; no, if another thread has the scheduler.
    pub(crate) fn is_short(&self, engine: EngineId, request: &Request<'_>, world: &World<'_>) -> bool {
        self.state.try_lock().is_some_and(|state| state.scheduler.is_short(engine, request, world))
    }

    /// Forgets a decision that came to nothing.
    pub(crate) fn abandon(&self, engine: EngineId) {
        self.state.lock().scheduler.abandon(engine);
    }

    /// Asks or tells the scheduler something. This waits for the lock, so it is not for the warm path.
    pub(crate) fn with<T>(&self, ask: impl FnOnce(&mut Scheduler) -> T) -> T {
        ask(&mut self.state.lock().scheduler)
    }
}

impl State {
    fn learn(&mut self, candidates: &[Candidate], world: &World<'_>) {
        while let Ok(observation) = self.lessons.try_recv() {
            self.scheduler.observe(&observation, candidates, world);
        }
    }
}
