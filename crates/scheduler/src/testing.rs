//! A small world for the tests of decisions: three engines, one of each tier, and a race whose true times are given.

use remuda_model::{ArtifactState, EngineId, ModuleDigest, Observation, Outcome, Phases, Tier};

use crate::flight::{Action, End, Ending, Event, Flight, Situation, Wanted};
use crate::{Calibration, Candidate, Decision, Features, FunctionProfile, Load, Policy, Request, Scheduler, World};

pub(crate) const INTERPRETER: EngineId = EngineId::new("interpreter");
pub(crate) const BASELINE: EngineId = EngineId::new("baseline");
pub(crate) const OPTIMIZING: EngineId = EngineId::new("optimizing");

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const HOUR: u64 = 3_600_000 * MS;

/// 100 KB of code: by the shipped calibration 0.3, 25 and 81 ms to compile.
pub(crate) const FEATURES: Features = Features { code_bytes: 100_000, functions: 100, loops: 50 };

/// A function, and the state of the host that it runs on.
pub(crate) struct Case {
    pub(crate) scheduler: Scheduler,
    pub(crate) calibration: Calibration,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) load: Load,
    pub(crate) now_ns: u64,
    pub(crate) may_race: bool,
    pub(crate) can_move: bool,
    pub(crate) input_bytes: Option<u64>,
}

impl Case {
    /// A function of which nothing is known and nothing is ready, on an idle host.
    pub(crate) fn new(policy: Policy, cores: usize) -> Self {
        let engines = [(BASELINE, Tier::Baseline), (OPTIMIZING, Tier::Optimizing), (INTERPRETER, Tier::Interpreter)];
        let candidates = engines.map(|(engine, tier)| Candidate {
            engine,
            tier,
            artifact: ArtifactState::Absent,
            making_since_ns: None,
            goes_on_in: None,
        });
        Self {
            scheduler: Scheduler::new(policy, FEATURES, FunctionProfile::default()),
            calibration: Calibration::default(),
            candidates: candidates.to_vec(),
            load: Load::idle(cores),
            now_ns: HOUR,
            may_race: true,
            can_move: false,
            input_bytes: Some(100),
        }
    }

    pub(crate) fn candidate(&mut self, engine: EngineId) -> &mut Candidate {
        self.candidates.iter_mut().find(|candidate| candidate.engine == engine).unwrap()
    }

    pub(crate) fn ready(&mut self, engines: &[EngineId]) {
        for engine in engines {
            self.candidate(*engine).artifact = ArtifactState::InMemory;
        }
    }

    pub(crate) fn world(&self) -> World<'_> {
        World { calibration: &self.calibration, load: self.load, now_ns: self.now_ns }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        let Self { input_bytes, may_race, can_move, .. } = *self;
        Request { input_bytes, candidates: &self.candidates, may_race, can_move }
    }

    pub(crate) fn decide(&self) -> Decision {
        self.scheduler.clone().decide(&self.request(), &self.world()).unwrap()
    }

    /// Observes a request that ran on `engine`, without any load or compile.
    pub(crate) fn observe(&mut self, engine: EngineId, execute_ns: u64) {
        self.observe_phases(engine, ArtifactState::InMemory, 10_000, execute_ns);
    }

    pub(crate) fn observe_phases(
        &mut self,
        engine: EngineId,
        artifact: ArtifactState,
        instantiate_ns: u64,
        execute_ns: u64,
    ) {
        let observation = Observation {
            module: ModuleDigest::from_bytes([0; 32]),
            engine,
            phases: Phases { instantiate_ns, execute_ns, ..Phases::default() },
            artifact,
            workload: 0,
            input_bytes: self.input_bytes,
            output_bytes: 0,
            outcome: Outcome::Returned,
            unix_ms: 0,
        };
        let mut scheduler = self.scheduler.clone();
        scheduler.observe(&observation, &self.candidates, &self.world());
        self.scheduler = scheduler;
    }

    /// Runs a request of which `truth` says how long each engine takes to get ready and to run, with no other load than
    /// the present one.
    pub(crate) fn race(&mut self, truth: &[(EngineId, u64, u64)]) -> Race {
        let decision = self.decide();
        let mut course = Course {
            truth,
            began_ns: self.now_ns,
            others: self.load.busy - 1,
            flight: Flight::new(decision.engine, decision.look_again_after_ns, false),
            racers: Vec::new(),
            race: Race { first: decision.engine, ..Race::default() },
        };
        course.enter(decision.engine, 0);
        while let Some((at_ns, event)) = course.next() {
            course.happens(self, event, at_ns);
        }
        course.race
    }
}

impl Situation for Case {
    fn ask<T>(&self, ask: impl FnOnce(&Scheduler, &Request<'_>, &World<'_>) -> T) -> T {
        ask(&self.scheduler, &self.request(), &self.world())
    }
}

/// A flight whose engines take the times of `truth`.
struct Course<'a> {
    truth: &'a [(EngineId, u64, u64)],
    began_ns: u64,
    /// Cores that other requests use.
    others: usize,
    flight: Flight,
    racers: Vec<Runner>,
    race: Race,
}

struct Runner {
    engine: EngineId,
    entered_ns: u64,
    ready_ns: u64,
    is_running: bool,
}

impl Course<'_> {
    fn of(&self, engine: EngineId) -> (EngineId, u64, u64) {
        self.truth.iter().find(|(id, ..)| *id == engine).copied().unwrap()
    }

    fn enter(&mut self, engine: EngineId, now_ns: u64) {
        let (_, ready_ns, _) = self.of(engine);
        self.racers.push(Runner { engine, entered_ns: now_ns, ready_ns: now_ns + ready_ns, is_running: false });
    }

    /// The next event and its time, if the flight goes on.
    fn next(&self) -> Option<(u64, Event)> {
        let engines = self.racers.iter().map(|racer| {
            let (engine, make_ns, run_ns) = self.of(racer.engine);
            if racer.is_running {
                (racer.ready_ns + run_ns, Event::Ended { engine, how: End::Answered })
            } else {
                (racer.ready_ns, Event::Ready { engine, made: make_ns > 0 })
            }
        });
        let look = self.flight.look_at_ns().map(|at_ns| (at_ns, Event::Look { wanted: Wanted::Nothing }));
        // Of two events at the same time, the engine's comes first.
        engines.chain(look).min_by_key(|(at_ns, _)| *at_ns)
    }

    /// Brings the world up to date, and carries out what the flight says.
    fn happens(&mut self, case: &mut Case, event: Event, now_ns: u64) {
        case.now_ns = self.began_ns + now_ns;
        case.load.busy = self.others + self.racers.len();
        for candidate in &mut case.candidates {
            let Some(racer) = self.racers.iter().find(|racer| racer.engine == candidate.engine) else { continue };
            let is_ready = racer.ready_ns <= now_ns;
            candidate.artifact = if is_ready { ArtifactState::InMemory } else { ArtifactState::Absent };
            candidate.making_since_ns = (!is_ready).then_some(self.began_ns + racer.entered_ns);
        }
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            if let Event::Ended { engine, .. } = event {
                self.leave(engine);
            }
            for action in self.flight.on(event, now_ns, case) {
                match action {
                    Action::Start(engine) => {
                        self.race.joined.push((engine, now_ns));
                        self.enter(engine, now_ns);
                    }
                    Action::Run(engine) => {
                        for racer in self.racers.iter_mut().filter(|racer| racer.engine == engine) {
                            racer.is_running = true;
                        }
                    }
                    Action::Dismiss(engine) => self.leave(engine),
                    Action::Stop(engine, _) => {
                        self.race.stopped.push((engine, now_ns));
                        events.push(Event::Ended { engine, how: End::Stopped });
                    }
                    Action::Deliver(_) => events.push(Event::Delivered),
                    Action::Earn(_) | Action::Spend(_) | Action::GiveUpCompiles | Action::OpenGate(_) => {}
                }
            }
        }
        if let Some(Ending::Answered { engine, .. } | Ending::Delivered { engine }) = self.flight.ending() {
            self.race.answer = Some((engine, now_ns));
        }
    }

    fn leave(&mut self, engine: EngineId) {
        self.racers.retain(|racer| racer.engine != engine);
    }
}

/// The course of a race, for the tests to judge.
#[derive(Debug)]
pub(crate) struct Race {
    pub(crate) first: EngineId,
    /// The engines that joined, each with the time after which it did, in nanoseconds.
    pub(crate) joined: Vec<(EngineId, u64)>,
    pub(crate) stopped: Vec<(EngineId, u64)>,
    pub(crate) answer: Option<(EngineId, u64)>,
}

impl Default for Race {
    fn default() -> Self {
        Self { first: INTERPRETER, joined: Vec::new(), stopped: Vec::new(), answer: None }
    }
}

impl Race {
    pub(crate) fn joiners(&self) -> Vec<EngineId> {
        self.joined.iter().map(|(engine, _)| *engine).collect()
    }
}
