//! A small world for the tests of decisions: three engines, one of each tier, and a race whose true times are given.

use remuda_model::{ArtifactState, EngineId, ModuleDigest, Observation, Outcome, Phases, Tier};

use crate::{
    Calibration, Candidate, Decision, Features, FunctionProfile, Load, Policy, RaceStep, RaceView, Racer, Request,
    Scheduler, World,
};

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
    pub(crate) input_bytes: Option<u64>,
}

impl Case {
    /// Nothing is known, nothing is ready, and the host is idle.
    pub(crate) fn new(policy: Policy, cores: usize) -> Self {
        let engines = [(BASELINE, Tier::Baseline), (OPTIMIZING, Tier::Optimizing), (INTERPRETER, Tier::Interpreter)];
        let candidates = engines.map(|(engine, tier)| Candidate {
            engine,
            tier,
            artifact: ArtifactState::Absent,
            making_since_ns: None,
        });
        Self {
            scheduler: Scheduler::new(policy, FEATURES, FunctionProfile::default()),
            calibration: Calibration::default(),
            candidates: candidates.to_vec(),
            load: Load::idle(cores),
            now_ns: HOUR,
            may_race: true,
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
        Request { input_bytes: self.input_bytes, candidates: &self.candidates, may_race: self.may_race }
    }

    pub(crate) fn decide(&self) -> Decision {
        self.scheduler.clone().decide(&self.request(), &self.world()).unwrap()
    }

    /// A request that ran on `engine`, without any load or compile.
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

    /// Runs a request of which `truth` says how long each engine takes to be ready and to run, without any other
    /// load than what there is.
    pub(crate) fn race(&mut self, truth: &[(EngineId, u64, u64)]) -> Race {
        let of = |engine: EngineId| truth.iter().find(|(id, ..)| *id == engine).copied().unwrap();
        let (began_ns, others) = (self.now_ns, self.load.busy - 1);
        let decision = self.decide();
        let mut race = Race { first: decision.engine, ..Race::default() };
        // Who is in, since when, and when it runs.
        let mut racers: Vec<(EngineId, u64)> = vec![(decision.engine, of(decision.engine).1)];
        let mut look_ns = decision.look_again_after_ns;
        loop {
            let finish = |(engine, ready_ns): &(EngineId, u64)| ready_ns + of(*engine).2;
            let winner = *racers.iter().min_by_key(|racer| finish(racer)).unwrap();
            let elapsed_ns = look_ns.unwrap_or(u64::MAX);
            if finish(&winner) <= elapsed_ns {
                self.now_ns = began_ns + finish(&winner);
                race.answer = Some((winner.0, finish(&winner)));
                return race;
            }
            self.now_ns = began_ns + elapsed_ns;
            self.load.busy = others + racers.len();
            for candidate in &mut self.candidates {
                let racer = racers.iter().find(|(engine, _)| *engine == candidate.engine);
                if let Some((_, ready_ns)) = racer {
                    let is_ready = *ready_ns <= elapsed_ns;
                    candidate.artifact = if is_ready { ArtifactState::InMemory } else { ArtifactState::Absent };
                    candidate.making_since_ns = (!is_ready).then_some(began_ns + ready_ns - of(candidate.engine).1);
                }
            }
            let in_race: Vec<Racer> = racers
                .iter()
                .map(|(engine, ready_ns)| Racer {
                    engine: *engine,
                    running_since_ns: (*ready_ns <= elapsed_ns).then_some(*ready_ns),
                })
                .collect();
            let left = |candidate: &&Candidate| !race.stopped.iter().any(|(engine, _)| *engine == candidate.engine);
            let candidates: Vec<Candidate> = self.candidates.iter().filter(left).copied().collect();
            let request = Request { candidates: &candidates, ..self.request() };
            let view = RaceView { request, racers: &in_race, elapsed_ns };
            match self.scheduler.race_step(&view, &self.world()) {
                RaceStep::Start(engine) => {
                    race.joined.push((engine, elapsed_ns));
                    racers.push((engine, elapsed_ns + of(engine).1));
                }
                RaceStep::Stop(engine) => {
                    race.stopped.push((engine, elapsed_ns));
                    racers.retain(|(other, _)| *other != engine);
                }
                RaceStep::Wait { ns } => look_ns = Some(elapsed_ns + ns.max(1)),
                RaceStep::Settled => look_ns = None,
            }
        }
    }
}

/// What happened in a race.
#[derive(Debug)]
pub(crate) struct Race {
    pub(crate) first: EngineId,
    /// Who joined, and after how many nanoseconds.
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
    pub(crate) fn who_joined(&self) -> Vec<EngineId> {
        self.joined.iter().map(|(engine, _)| *engine).collect()
    }
}
