//! A simulation of one policy, one workload and one host: events in the order of time.
//!
//! Each request is a [`Flight`], as in the host, which `race` drives; its guest may move, which `moves` sees to.
//!
//! The real host may differ from this model: a compile and a load take one core; compilers cannot be interrupted, so
//! that one that was begun for a race goes on when the race is over, with what cores have left; artifacts for expected
//! requests are loaded several at a time; an artifact that no budget has room for is used once and dropped. Deciding
//! takes no time, and neither does stopping a guest. For the oracle, a compile that a request begins to wait for weighs
//! as much as a request.

mod moves;
mod prewarm;
mod race;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use remuda_model::{ArtifactState, ModuleDigest, Observation, Outcome, Phases, Tier};
use remuda_scheduler::flight::{self, Flight};
use remuda_scheduler::moving::Job;
use remuda_scheduler::{
    Calibration, Candidate, CompileQueue, FairQueue, FunctionProfile, Load, Request, Scheduler, Usual, WasteBudget,
    World, as_ns, tuning,
};

use crate::checkers::{Bounds, Checkers, Event, Violation};
use crate::cores::{Class, Cores, RunnerId};
use crate::oracle::{Option_, Oracle, run_ns};
use crate::store::{Evicted, Store};
use crate::{Arrival, Chooser, CostTable, ModuleCost, Setup, Workload};

/// The totals of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// The time of each request from its arrival to its answer, in nanoseconds; `None` if it was sent away.
    pub latencies_ns: Vec<Option<u64>>,
    /// The duration of the run on its own clock, in nanoseconds.
    pub elapsed_ns: u64,
    /// The time for which cores were used, all together, in nanoseconds.
    pub cpu_ns: f64,
    /// The time that racers which did not win have used, in nanoseconds, as the host counts it: from when they joined.
    pub wasted_ns: u64,
    /// The time that all compiles of artifacts took on cores, in nanoseconds.
    pub compile_ns: u64,
    /// The number of compiles.
    pub compiles: u64,
    /// The number of these that a compiler made between requests.
    pub compiles_background: u64,
    /// The number of artifacts at the end on which no guest has run since they were compiled.
    pub compiles_unused: u64,
    /// The number of artifacts that came from disk.
    pub loads: u64,
    /// The number of engines that joined a race.
    pub hedges: u64,
    /// The number of these that won.
    pub hedges_won: u64,
    /// The number of requests whose guests moved.
    pub moves: u64,
    /// The number of parts that were compiled for that.
    pub parts: u64,
    /// The number of artifacts that were made ready for an expected request, which then came in time and ran on them.
    pub prewarms_useful: u64,
    /// The number of artifacts that were made ready for an expected request in vain.
    pub prewarms_wasted: u64,
    /// The number of requests that had to wait for a worker.
    pub queued: u64,
}

/// Runs `workload` on a host, and checks what happened.
///
/// # Errors
///
/// Returns an error if something happened that must not: a bug in what decides, or in the simulation.
pub fn simulate(table: &CostTable, workload: &Workload, setup: &Setup, chooser: Chooser) -> Result<Totals, Violation> {
    let mut simulation = Simulation::new(table, workload, setup, chooser);
    simulation.run();
    simulation.finish()
}

struct Simulation<'a> {
    table: &'a CostTable,
    workload: &'a Workload,
    setup: &'a Setup,
    oracle: Option<Oracle>,
    calibration: Calibration,
    now_ns: u64,
    cores: Cores<Work>,
    functions: Vec<FunctionState>,
    requests: Vec<Option<Box<InFlight>>>,
    /// The looks at races that are to come: the time, the request, and the number of the look.
    looks: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// The index of the next request that comes by itself.
    next_arrival: usize,
    waiting: FairQueue<u32, Waiting>,
    workers_idle: usize,
    /// The number of engines that work on requests.
    racing: usize,
    /// The looks at what a function's next request will need: the time and the function.
    appointments: BinaryHeap<Reverse<(u64, u32)>>,
    compiles: CompileQueue<u32, (u32, usize)>,
    compilers_idle: usize,
    /// The number of compilers that make parts for a request, except those that have only what cores have left.
    part_makers: usize,
    store: Store,
    waste: WasteBudget,
    checkers: Checkers,
    totals: Totals,
    candidates: Vec<Candidate>,
}

/// The work that a runner does on a core.
#[derive(Clone, Copy, Debug)]
enum Work {
    Guest { request: u32, engine: usize },
    Make { function: u32, engine: usize },
    Part { request: u32, engine: usize, job: Job, cover: moves::Cover },
}

#[derive(Debug)]
struct Waiting {
    request: u32,
    arrived_ns: u64,
}

struct FunctionState {
    scheduler: Scheduler,
    /// The slots, by the engine's number in the table.
    slots: Vec<Slot>,
    /// Requests that wait for the answer to the one before.
    pending: VecDeque<u32>,
    /// The number of requests that have come.
    came: usize,
    usual: Usual,
    has_appointment: bool,
    prewarmed: Option<prewarm::Prewarmed>,
    parts: moves::Parts,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Slot {
    in_memory: bool,
    on_disk: bool,
    making: Option<Making>,
    /// Whether a compile for it waits for a compiler.
    is_queued: bool,
    /// Whether a guest has run on what was compiled last.
    is_used: bool,
}

struct Making {
    since_ns: u64,
    work_ns: u64,
    is_load: bool,
    runner: RunnerId,
    /// The request whose worker makes it; `None` for a compiler's thread.
    owner: Option<u32>,
    /// The expected request for which it is loaded, if it is loaded for one.
    expected: Option<prewarm::Prewarmed>,
    waiters: Vec<u32>,
}

/// A request that a worker has taken.
struct InFlight {
    arrived_ns: u64,
    began_ns: u64,
    first: usize,
    flight: Flight,
    /// The engines that work on the request.
    racers: Vec<Racing>,
    /// The engine that has brought the answer, until the answer is delivered.
    answer: Option<Racing>,
    /// The number of the look that is due, of those that were asked for.
    look: u32,
    /// Whether its guest can move once it has begun.
    will_move: bool,
    mover: Option<moves::Mover>,
    /// The time at which it is looked at again as long as its guest can move, in nanoseconds.
    moves_until_ns: Option<u64>,
    /// The runners that make parts for it.
    parts: Vec<RunnerId>,
    /// Whether a second engine has joined.
    was_joined: bool,
}

struct Racing {
    engine: usize,
    was: ArtifactState,
    /// The time that it spent on loading, in nanoseconds.
    load_ns: u64,
    running: Option<(RunnerId, u64)>,
}

impl<'a> Simulation<'a> {
    fn new(table: &'a CostTable, workload: &'a Workload, setup: &'a Setup, chooser: Chooser) -> Self {
        let (oracle, policy) = match chooser {
            Chooser::Oracle => (Some(Oracle::new(table, workload)), remuda_scheduler::Policy::Adaptive),
            Chooser::Policy(policy) => (None, policy),
        };
        let bounds = Bounds {
            requests: workload.arrivals.len(),
            cores: setup.cores,
            memory_bytes_max: setup.size.memory_bytes_max,
            disk_bytes_max: setup.size.disk_bytes_max,
            waste_share_max: setup.size.waste_share_max,
            waste_ns_free: as_ns(tuning::SAVED_NS_MAX),
        };
        let functions = workload.functions.iter().map(|function| {
            let features = table.modules[function.module as usize].features;
            FunctionState {
                scheduler: Scheduler::new(policy, features, FunctionProfile::default()),
                slots: table.engines.iter().map(|_| Slot::default()).collect(),
                pending: VecDeque::new(),
                came: 0,
                usual: Usual::default(),
                has_appointment: false,
                prewarmed: None,
                parts: moves::Parts::default(),
            }
        });
        Self {
            table,
            workload,
            setup,
            oracle,
            calibration: table.calibration(),
            now_ns: 0,
            cores: Cores::new(setup.cores),
            functions: functions.collect(),
            requests: workload.arrivals.iter().map(|_| None).collect(),
            looks: BinaryHeap::new(),
            next_arrival: 0,
            waiting: FairQueue::new(setup.size.waiting_max),
            workers_idle: setup.size.workers,
            racing: 0,
            appointments: BinaryHeap::new(),
            compiles: CompileQueue::default(),
            compilers_idle: setup.size.compilers,
            part_makers: 0,
            store: Store::new(setup.size.memory_bytes_max, setup.size.disk_bytes_max),
            waste: WasteBudget::new(setup.size.waste_share_max),
            checkers: Checkers::new(bounds),
            totals: Totals { latencies_ns: vec![None; workload.arrivals.len()], ..Totals::default() },
            candidates: Vec::new(),
        }
    }

    fn run(&mut self) {
        loop {
            let end = self.cores.next_end_ns();
            let look = self.looks.peek().map(|Reverse((at_ns, ..))| *at_ns);
            let arrival = self.workload.arrivals.get(self.next_arrival).map(|arrival| arrival.at_ns);
            // Nothing is prewarmed for requests that do not come.
            let appointment = self.appointments.peek().map(|Reverse((at_ns, _))| *at_ns).filter(|_| arrival.is_some());
            let Some(next_ns) = [end, look, arrival, appointment].into_iter().flatten().min() else { return };
            self.now_ns = self.now_ns.max(next_ns);
            self.cores.advance(self.now_ns);
            if end == Some(next_ns) {
                while let Some((work, _)) = self.cores.pop_ended() {
                    match work {
                        Work::Guest { request, engine } if self.comes_to_next_place(request, engine) => {}
                        Work::Guest { request, engine } => self.ended(request, engine),
                        Work::Make { function, engine } => self.made(function, engine),
                        Work::Part { request, engine, job, cover } => self.part_made(request, engine, job, cover),
                    }
                }
            } else if look == Some(next_ns) {
                let Some(Reverse((_, request, number))) = self.looks.pop() else { continue };
                if self.requests[request as usize].as_ref().is_some_and(|flight| flight.look == number) {
                    self.look(request);
                }
            } else if arrival == Some(next_ns) {
                self.comes();
            } else if let Some(Reverse((_, function))) = self.appointments.pop() {
                self.keep_appointment(function);
            }
        }
    }

    fn finish(mut self) -> Result<Totals, Violation> {
        self.totals.elapsed_ns = self.now_ns;
        self.totals.cpu_ns = self.cores.used_ns();
        for slot in self.functions.iter().flat_map(|function| &function.slots) {
            self.totals.compiles_unused += u64::from((slot.in_memory || slot.on_disk) && !slot.is_used);
        }
        self.checkers.finish(self.now_ns, self.totals.cpu_ns)?;
        debug_assert_eq!(self.racing, 0, "an engine is counted that is at nothing any more");
        Ok(self.totals)
    }

    fn see(&mut self, event: Event) {
        self.checkers.see(self.now_ns, &event);
    }

    // A request's way.

    /// Lets the next request of the workload come.
    fn comes(&mut self) {
        let request = self.next_arrival;
        self.next_arrival += 1;
        let function = self.workload.arrivals[request].function as usize;
        let request = u32::try_from(request).unwrap_or(u32::MAX);
        if self.workload.is_closed {
            // The answer to the request before brings it.
            self.functions[function].pending.push_back(request);
            if self.functions[function].pending.len() > 1 || self.functions[function].came > 0 {
                return;
            }
            self.functions[function].pending.pop_front();
        }
        self.arrive(request);
    }

    fn arrive(&mut self, request: u32) {
        self.see(Event::Arrived { request });
        let function = self.arrival(request).function;
        let state = &mut self.functions[function as usize];
        state.scheduler.arrived(self.now_ns);
        state.came += 1;
        if self.workers_idle > 0 && self.waiting.is_empty() {
            self.begin(request, self.now_ns);
            return;
        }
        let cost_ns = self.expected_ns(request);
        let waiting = Waiting { request, arrived_ns: self.now_ns };
        if self.waiting.push(function, cost_ns, waiting).is_ok() {
            self.totals.queued += 1;
            self.see(Event::Queued { request, function, cost_ns });
        } else {
            self.see(Event::Rejected { request });
            self.next_pending(function);
        }
    }

    /// Has a worker take a request.
    fn begin(&mut self, request: u32, arrived_ns: u64) {
        self.workers_idle -= 1;
        let function = self.arrival(request).function;
        self.find_candidates(function);
        let (engine, look_ns) = if self.oracle.is_some() {
            (self.ask_oracle(request), None)
        } else {
            let request = self.request(request, &self.candidates);
            // The cores do not know of this request yet.
            let world = World { calibration: &self.calibration, load: self.load(1), now_ns: self.now_ns };
            let scheduler = &mut self.functions[function as usize].scheduler;
            let decided = scheduler.decide(&request, &world);
            match decided {
                Ok(decision) => (engine_number(self.table, decision.engine), decision.look_again_after_ns),
                // The policy's single engine cannot run it: the request is sent away.
                Err(_) => (usize::MAX, None),
            }
        };
        if engine == usize::MAX {
            self.see(Event::Rejected { request });
            self.workers_idle += 1;
            self.next_pending(function);
            return;
        }
        let flight = InFlight {
            arrived_ns,
            began_ns: self.now_ns,
            first: engine,
            flight: Flight::new(self.table.engines[engine].id, look_ns, false),
            racers: Vec::new(),
            answer: None,
            look: 0,
            will_move: self.will_move(request, engine),
            mover: None,
            moves_until_ns: None,
            parts: Vec::new(),
            was_joined: false,
        };
        self.requests[request as usize] = Some(Box::new(flight));
        match self.enter(request, engine) {
            Some(event) => self.happens(request, event),
            None => self.look_later(request),
        }
    }

    /// Has an engine begin to answer a request: it is ready, or gets ready.
    fn enter(&mut self, request: u32, engine: usize) -> Option<flight::Event> {
        let function = self.arrival(request).function;
        let slot = &self.functions[function as usize].slots[engine];
        let (was, is_made) = (slot.artifact(), slot.making.is_some());
        if let Some(flight) = &mut self.requests[request as usize] {
            flight.racers.push(Racing { engine, was, load_ns: 0, running: None });
            self.racing += 1;
        }
        if was == ArtifactState::InMemory {
            self.store.touch((function, engine));
            return Some(flight::Event::Ready { engine: self.table.engines[engine].id, made: false });
        }
        if !is_made {
            self.make(function, engine, Class::Foreground, Some(request), None);
        }
        if let Some(making) = &mut self.functions[function as usize].slots[engine].making {
            making.waiters.push(request);
            if self.oracle.is_some() {
                self.cores.promote(making.runner);
            }
        }
        None
    }

    fn start_guest(&mut self, request: u32, engine: usize) {
        let arrival = *self.arrival(request);
        let work_ns = as_ns(run_ns(self.table, self.workload, &arrival, engine).unwrap_or(0.0)).max(1);
        self.store.pin((arrival.function, engine));
        self.functions[arrival.function as usize].slots[engine].is_used = true;
        let runner = self.cores.start(Class::Foreground, work_ns, Work::Guest { request, engine });
        let now_ns = self.now_ns;
        if let Some(racer) = self.racer(request, engine) {
            racer.running = Some((runner, now_ns));
        }
        if self.requests[request as usize].as_ref().is_some_and(|flight| flight.will_move && flight.first == engine) {
            self.begin_to_move(request, engine);
        }
    }

    /// Notes that a request is answered.
    fn answered(&mut self, request: u32, flight: &InFlight, engine: usize, racer: &Racing) {
        let arrival = *self.arrival(request);
        self.totals.latencies_ns[request as usize] = Some(self.now_ns - flight.arrived_ns);
        self.see(Event::Answered { request, engine: self.table.engines[engine].id });
        self.totals.hedges_won += u64::from(engine != flight.first);
        if self.oracle.is_none() {
            self.observe(flight, &arrival, engine, racer);
        }
    }

    /// Notes that a worker has done with a request.
    fn leave(&mut self, request: u32) {
        let function = self.arrival(request).function;
        self.workers_idle += 1;
        self.next_pending(function);
        self.next_waiting();
    }

    fn earn(&mut self, ns: u64) {
        self.waste.earn(ns);
        self.see(Event::Earned { ns });
    }

    fn waste(&mut self, ns: u64) {
        if ns > 0 {
            self.totals.wasted_ns += ns;
            self.waste.spend(ns);
            self.see(Event::Wasted { ns });
        }
    }

    fn observe(&mut self, flight: &InFlight, arrival: &Arrival, engine: usize, racer: &Racing) {
        let ran_ns = racer.running.map_or(0, |(_, since_ns)| self.now_ns - since_ns);
        let cost = self.cost(arrival.function, engine);
        let work_ns = run_ns(self.table, self.workload, arrival, engine).unwrap_or(1.0).max(1.0);
        // On a busy host both took longer, by the same factor.
        let instantiate_ns = as_ns(ran_ns as f64 * cost.instantiate_ns as f64 / work_ns).min(ran_ns);
        let observation = Observation {
            module: ModuleDigest::from_bytes([0; 32]),
            engine: self.table.engines[engine].id,
            phases: Phases {
                queue_ns: flight.began_ns - flight.arrived_ns,
                // Compiles are observed when they end, whichever request waits for them.
                compile_ns: 0,
                load_ns: racer.load_ns,
                instantiate_ns,
                execute_ns: ran_ns - instantiate_ns,
            },
            artifact: racer.was,
            workload: u64::from(arrival.function),
            input_bytes: self.input_bytes(arrival),
            output_bytes: 0,
            outcome: Outcome::Returned,
            unix_ms: self.now_ns / 1_000_000,
        };
        self.find_candidates(arrival.function);
        let world = World { calibration: &self.calibration, load: self.load(0), now_ns: self.now_ns };
        let scheduler = &mut self.functions[arrival.function as usize].scheduler;
        if flight.first != engine {
            scheduler.abandon(self.table.engines[flight.first].id);
        }
        match flight.mover.as_ref().map(|mover| mover.went_on_in(self.table, self.now_ns)) {
            Some(stays) if engine == flight.first && !stays.is_empty() => {
                scheduler.observe_moved(&observation, &stays, &self.candidates, &world);
            }
            _ => scheduler.observe(&observation, &self.candidates, &world),
        }
        if let Some(tier_up) = scheduler.tier_up(&self.candidates, &world) {
            self.want(arrival.function, engine_number(self.table, tier_up.engine), tier_up.worth_ns);
        }
        self.expect_next(arrival.function, engine, racer.was);
    }

    fn next_waiting(&mut self) {
        while self.workers_idle > 0
            && let Some((_, Waiting { request, arrived_ns })) = self.waiting.pop()
        {
            self.see(Event::Dequeued { request });
            self.begin(request, arrived_ns);
        }
    }

    fn next_pending(&mut self, function: u32) {
        if let Some(request) = self.functions[function as usize].pending.pop_front() {
            self.arrive(request);
        }
    }

    // Artifacts.

    /// Asks for an engine to be made ready between requests, which is worth `worth_ns` nanoseconds.
    fn want(&mut self, function: u32, engine: usize, worth_ns: f64) {
        let slot = &mut self.functions[function as usize].slots[engine];
        if slot.in_memory || slot.is_queued || slot.making.is_some() {
            return;
        }
        slot.is_queued = true;
        self.compiles.push(function, worth_ns, (function, engine));
        self.next_compile();
    }

    fn next_compile(&mut self) {
        while self.compilers_idle > 0
            && let Some((function, engine)) = self.compiles.pop()
        {
            let slot = &mut self.functions[function as usize].slots[engine];
            slot.is_queued = false;
            // A request may have been quicker to make it.
            if !slot.in_memory && slot.making.is_none() {
                self.compilers_idle -= 1;
                self.make(function, engine, Class::Background, None, None);
            }
        }
    }

    /// Begins to load or compile an artifact.
    fn make(
        &mut self,
        function: u32,
        engine: usize,
        class: Class,
        owner: Option<u32>,
        expected: Option<prewarm::Prewarmed>,
    ) {
        let cost = self.cost(function, engine);
        let slot = &mut self.functions[function as usize].slots[engine];
        let load_ns = cost.load_ns.filter(|_| slot.on_disk);
        let work_ns = load_ns.unwrap_or(cost.compile_ns).max(1);
        let runner = self.cores.start(class, work_ns, Work::Make { function, engine });
        let is_load = load_ns.is_some();
        let (since_ns, waiters) = (self.now_ns, Vec::new());
        slot.making = Some(Making { since_ns, work_ns, is_load, runner, owner, expected, waiters });
    }

    /// Takes note that an artifact is ready.
    fn made(&mut self, function: u32, engine: usize) {
        let Some(making) = self.functions[function as usize].slots[engine].making.take() else { return };
        let is_kept = self.keep(function, engine, making.is_load, making.expected.is_some());
        let took_ns = self.now_ns - making.since_ns;
        if making.is_load {
            self.totals.loads += 1;
        } else {
            self.totals.compiles += 1;
            self.totals.compile_ns += making.work_ns;
            let id = self.table.engines[engine].id;
            self.functions[function as usize].scheduler.observe_compile(id, took_ns);
        }
        match making.owner {
            None if making.expected.is_some() => {
                self.functions[function as usize].prewarmed = making.expected.filter(|_| is_kept);
            }
            None => {
                self.totals.compiles_background += u64::from(!making.is_load);
                self.compilers_idle += 1;
            }
            Some(owner) => {
                if let Some(racer) = self.racer(owner, engine) {
                    racer.load_ns = if making.is_load { took_ns } else { 0 };
                }
            }
        }
        for request in making.waiters {
            let event = flight::Event::Ready { engine: self.table.engines[engine].id, made: !making.is_load };
            self.happens(request, event);
        }
        self.next_compile();
    }

    /// Keeps what was made, within the budgets. An artifact that is only expected to be used displaces nothing that is
    /// worth more. Says whether the artifact is in memory.
    fn keep(&mut self, function: u32, engine: usize, is_load: bool, is_expected: bool) -> bool {
        let cost = self.cost(function, engine);
        let slot = &mut self.functions[function as usize].slots[engine];
        slot.in_memory = true;
        let key = (function, engine);
        if is_load {
            self.store.touch_on_disk(key);
        } else {
            slot.is_used = false;
            if cost.load_ns.is_some() {
                slot.on_disk = true;
                let evicted = self.store.keep_on_disk(key, cost.artifact_bytes, cost.compile_ns);
                self.evict(&evicted);
            }
        }
        let again_ns = cost.load_ns.unwrap_or(cost.compile_ns);
        let evicted = if is_expected {
            self.store.keep_expected(key, cost.artifact_bytes, again_ns)
        } else {
            self.store.keep_in_memory(key, cost.artifact_bytes, again_ns)
        };
        self.evict(&evicted);
        let (memory_bytes, disk_bytes) = (self.store.memory_bytes(), self.store.disk_bytes());
        self.see(Event::Kept { memory_bytes, disk_bytes });
        self.functions[function as usize].slots[engine].in_memory
    }

    fn evict(&mut self, evicted: &Evicted) {
        for (function, engine) in &evicted.memory {
            self.functions[*function as usize].slots[*engine].in_memory = false;
        }
        for (function, engine) in &evicted.disk {
            self.functions[*function as usize].slots[*engine].on_disk = false;
        }
    }

    // The world as the scheduler and the oracle see it.

    fn arrival(&self, request: u32) -> &'a Arrival {
        &self.workload.arrivals[request as usize]
    }

    fn cost(&self, function: u32, engine: usize) -> ModuleCost {
        let module = self.workload.functions[function as usize].module;
        // Only engines that can run a module are candidates.
        self.table.modules[module as usize].engines[engine].unwrap_or(ModuleCost {
            compile_ns: 0,
            load_ns: None,
            instantiate_ns: 0,
            artifact_bytes: 0,
        })
    }

    fn racer(&mut self, request: u32, engine: usize) -> Option<&mut Racing> {
        self.requests[request as usize].as_mut()?.racers.iter_mut().find(|racer| racer.engine == engine)
    }

    fn input_bytes(&self, arrival: &Arrival) -> Option<u64> {
        let module = self.workload.functions[arrival.function as usize].module;
        self.table.modules[module as usize].cases[arrival.case as usize].input_bytes
    }

    fn request<'c>(&self, request: u32, candidates: &'c [Candidate]) -> Request<'c> {
        let arrival = self.arrival(request);
        let may_race = self.workload.functions[arrival.function as usize].may_race;
        let can_move = self.can_move_anywhere(arrival.function);
        Request { input_bytes: self.input_bytes(arrival), candidates, may_race, can_move }
    }

    /// Puts the engines that can run a function into `self.candidates`.
    fn find_candidates(&mut self, function: u32) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        candidates.extend(self.candidates_of(function));
        self.candidates = candidates;
    }

    /// The engines that can run a function.
    fn candidates_of(&self, function: u32) -> impl Iterator<Item = Candidate> {
        let module = &self.table.modules[self.workload.functions[function as usize].module as usize];
        let slots = &self.functions[function as usize].slots;
        let goes_on_in = self.goes_on_in(function);
        let able = self.table.engines.iter().zip(&module.engines).zip(slots).filter(|((_, cost), _)| cost.is_some());
        able.map(move |((engine, _), slot)| Candidate {
            engine: engine.id,
            tier: engine.tier,
            artifact: slot.artifact(),
            making_since_ns: slot.making.as_ref().map(|making| making.since_ns),
            goes_on_in: goes_on_in.filter(|_| engine.tier == Tier::Interpreter),
        })
    }

    fn world(&self, about_to_run: usize) -> World<'_> {
        World { calibration: &self.calibration, load: self.load(about_to_run), now_ns: self.now_ns }
    }

    fn load(&self, about_to_run: usize) -> Load {
        Load {
            cores: self.setup.cores,
            busy: self.racing + (self.setup.size.compilers - self.compilers_idle) + self.part_makers + about_to_run,
            waiting: self.waiting.len(),
            may_waste: self.waste.may_waste(),
        }
    }

    /// The work that a request is expected to be, in nanoseconds: what the function's requests usually take; for the
    /// oracle, what its best engine takes.
    fn expected_ns(&mut self, request: u32) -> u64 {
        let arrival = *self.arrival(request);
        if self.oracle.is_some() {
            let engines = 0..self.table.engines.len();
            let runs = engines.filter_map(|engine| run_ns(self.table, self.workload, &arrival, engine));
            return as_ns(runs.fold(f64::INFINITY, f64::min));
        }
        self.functions[arrival.function as usize].usual.ns
    }

    /// Asks the oracle for the engine of this request. What it wants for later requests is then on its way.
    fn ask_oracle(&mut self, request: u32) -> usize {
        let arrival = *self.arrival(request);
        let state = &self.functions[arrival.function as usize];
        let options: Vec<Option_> = (0..self.table.engines.len())
            .map(|engine| {
                let (slot, cost) = (&state.slots[engine], self.cost(arrival.function, engine));
                let left_ns = slot.making.as_ref().and_then(|making| self.cores.left_ns(making.runner));
                let ready_ns = match (slot.artifact(), left_ns) {
                    (ArtifactState::InMemory, _) => 0.0,
                    (_, Some(left_ns)) => left_ns,
                    (ArtifactState::OnDisk, None) => cost.load_ns.unwrap_or(0) as f64,
                    (ArtifactState::Absent, None) => cost.compile_ns as f64,
                };
                let is_able = run_ns(self.table, self.workload, &arrival, engine).is_some();
                let is_coming = slot.artifact() != ArtifactState::Absent || slot.making.is_some() || slot.is_queued;
                Option_ { ready_ns: is_able.then_some(ready_ns), is_coming: is_able && is_coming }
            })
            .collect();
        let total = |(engine, option): (usize, &Option_)| {
            Some((engine, option.ready_ns? + run_ns(self.table, self.workload, &arrival, engine)?))
        };
        let best = options.iter().enumerate().filter_map(total).min_by(|(_, a), (_, b)| a.total_cmp(b));
        let chosen = best.map_or(usize::MAX, |(engine, _)| engine);
        let is_idle = self.cores.busy() + 1 < self.setup.cores;
        let nth = self.functions[arrival.function as usize].came - 1;
        let wanted = self
            .oracle
            .as_ref()
            .and_then(|oracle| oracle.tier_up(arrival.function, nth, chosen, &options, self.now_ns, is_idle));
        if let Some((engine, worth_ns)) = wanted {
            self.want(arrival.function, engine, worth_ns);
        }
        chosen
    }
}

impl Slot {
    fn artifact(&self) -> ArtifactState {
        match (self.in_memory, self.on_disk) {
            (true, _) => ArtifactState::InMemory,
            (false, true) => ArtifactState::OnDisk,
            (false, false) => ArtifactState::Absent,
        }
    }
}

fn engine_number(table: &CostTable, id: remuda_model::EngineId) -> usize {
    table.engines.iter().position(|engine| engine.id == id).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use remuda_scheduler::{PartCosts, Policy, Sizing};

    use super::*;
    use crate::ModulePart;
    use crate::cost_table::engine_id;
    use crate::{azure_2021, compare};

    /// A module that three engines run in 1,000, 300 and 100 ms, and compile in 0.1, 10 and 100 ms.
    fn table() -> CostTable {
        CostTable::from_json(
            br#"{"schema":1,"source":"s","engines":[{"id":"base","tier":"baseline"},{"id":"opt","tier":"optimizing"},
            {"id":"interp","tier":"interpreter"}],"modules":[{"name":"m","code_bytes":40000,"functions":9,"loops":9,"engines":{
            "interp":{"compile_ns":100000,"instantiate_ns":10000,"artifact_bytes":1000},
            "base":{"compile_ns":10000000,"load_ns":500000,"instantiate_ns":10000,"artifact_bytes":1000},
            "opt":{"compile_ns":100000000,"load_ns":500000,"instantiate_ns":10000,"artifact_bytes":1000}},
            "cases":[{"name":"c","execute_ns":{"interp":1000000000,"base":300000000,"opt":100000000}}]}]}"#,
        )
        .unwrap()
    }

    fn run(table: &CostTable, workload: &Workload, setup: &Setup, chooser: Chooser) -> Totals {
        simulate(table, workload, setup, chooser).unwrap_or_else(|violation| panic!("{chooser}: {violation}"))
    }

    fn single(engine: &str) -> Chooser {
        Chooser::Policy(Policy::Single(engine_id(engine)))
    }

    fn ms(totals: &Totals) -> Vec<f64> {
        totals.latencies_ns.iter().map(|ns| (ns.unwrap() as f64 / 1e5).round() / 10.0).collect()
    }

    #[test]
    fn one_engine_takes_what_the_table_says() {
        let setup = Setup::new(2);
        for (engine, expected) in [("interp", [1000.1, 1000.0]), ("base", [310.0, 300.0]), ("opt", [200.0, 100.0])] {
            let totals = run(&table(), &Workload::calls(&table(), 2), &setup, single(engine));
            assert_eq!(ms(&totals), expected, "{engine}");
            assert_eq!((totals.compiles, totals.hedges, totals.wasted_ns), (1, 0, 0), "{engine}");
        }
    }

    #[test]
    fn the_oracle_knows_what_will_pay() {
        let setup = Setup::new(2);
        // For one call, the sum of compiling and running is least; for several, the best engine is made meanwhile.
        assert_eq!(ms(&run(&table(), &Workload::calls(&table(), 1), &setup, Chooser::Oracle)), [200.0]);
        let totals = run(&table(), &Workload::calls(&table(), 3), &setup, Chooser::Oracle);
        assert_eq!(ms(&totals), [200.0, 100.0, 100.0]);
    }

    #[test]
    fn requests_wait_for_workers_and_share_cores() {
        let mut workload = Workload::default();
        workload.add_function(0, true);
        workload.arrivals = vec![Arrival { at_ns: 0, function: 0, case: 0, work: 1.0 }; 4];
        let setup = Setup { size: Sizing { workers: 2, ..Sizing::of(1) }, ..Setup::new(1) };
        let totals = run(&table(), &workload, &setup, single("base"));
        // One request compiles, and the other waits for that; then both run at half the speed.
        assert_eq!(ms(&totals), [610.0, 610.0, 1210.0, 1210.0]);
        assert_eq!((totals.queued, totals.compiles), (2, 1));
        let full = Setup { size: Sizing { waiting_max: 1, ..setup.size }, ..setup };
        let totals = run(&table(), &workload, &full, single("base"));
        assert_eq!(totals.latencies_ns.iter().filter(|latency| latency.is_none()).count(), 1);
    }

    #[test]
    fn artifacts_leave_when_there_is_no_room() {
        let mut workload = Workload::calls(&table(), 1);
        workload.add_function(0, true);
        let call = |at_s: u64, function| Arrival { at_ns: at_s * 1_000_000_000, function, case: 0, work: 1.0 };
        workload.arrivals = vec![call(0, 0), call(10, 1), call(20, 0), call(30, 1)];
        workload.is_closed = false;
        let cases = [(1500, 1 << 20, [310.0, 310.0, 300.5, 300.5], 2), (1500, 1500, [310.0, 310.0, 310.0, 310.0], 4)];
        for (memory_bytes_max, disk_bytes_max, expected, compiles) in cases {
            let setup = Setup { size: Sizing { memory_bytes_max, disk_bytes_max, ..Sizing::of(1) }, ..Setup::new(1) };
            let totals = run(&table(), &workload, &setup, single("base"));
            assert_eq!((ms(&totals), totals.compiles), (expected.to_vec(), compiles), "{disk_bytes_max}");
        }
    }

    #[test]
    fn a_race_is_won_by_who_is_faster_and_costs_what_it_wastes() {
        let hedged = run(&table(), &Workload::calls(&table(), 1), &Setup::new(4), Chooser::Policy(Policy::Hedged));
        assert!(hedged.hedges >= 1 && hedged.hedges_won == 1, "{hedged:?}");
        assert!(hedged.wasted_ns > 0);
        assert!(hedged.latencies_ns[0].unwrap() < 320_000_000, "{hedged:?}");
        let lonely = Setup { size: Sizing { waste_share_max: 0.0, ..Sizing::of(4) }, ..Setup::new(4) };
        let alone = run(&table(), &Workload::calls(&table(), 1), &lonely, Chooser::Policy(Policy::Hedged));
        assert_eq!((alone.hedges, alone.wasted_ns), (0, 0));
    }

    /// [`table`], whose guests can move: parts are made in 1 and 5 ms.
    fn table_with_parts(places: u32) -> CostTable {
        let mut table = table();
        let parts = |fixed_ns| Some(PartCosts { fixed_ns, ns_per_code_byte: 0.0 });
        for engine in &mut table.engines {
            engine.parts = match engine.tier {
                Tier::Interpreter | Tier::Dynamic | Tier::Peak => None,
                Tier::Baseline => parts(1e6),
                Tier::Optimizing => parts(5e6),
            };
        }
        table.modules[0].part = Some(ModulePart { places, hot_code_bytes: 1_000, has_whole: true });
        table
    }

    #[test]
    fn a_guest_moves_to_better_code_while_it_runs() {
        let hedged = Chooser::Policy(Policy::Hedged);
        let totals = run(&table_with_parts(1), &Workload::calls(&table(), 1), &Setup::new(2), hedged);
        // A millisecond until the first look, one for the first part, one or two until that part is known to be used,
        // five for the better part, and then nearly all of 100 ms of work.
        let [latency_ms] = ms(&totals)[..] else { panic!("{totals:?}") };
        assert!((100.0..110.0).contains(&latency_ms), "{totals:?}");
        assert_eq!((totals.moves, totals.hedges, totals.wasted_ns), (1, 0, 0), "{totals:?}");
        assert_eq!(totals.parts, 3, "the first, the better one, and the whole module: {totals:?}");
        let raced =
            run(&table_with_parts(1), &Workload::calls(&table(), 1), &Setup { moves: false, ..Setup::new(2) }, hedged);
        assert!(raced.hedges > 0 && raced.moves == 0 && ms(&raced)[0] > latency_ms, "{raced:?}");
    }

    #[test]
    fn a_guest_that_comes_to_another_place_is_helped_there_too() {
        let hedged = Chooser::Policy(Policy::Hedged);
        let totals = run(&table_with_parts(4), &Workload::calls(&table(), 1), &Setup::new(2), hedged);
        let [latency_ms] = ms(&totals)[..] else { panic!("{totals:?}") };
        // The whole module is there by the second place, and the guest waits for better code at each place.
        assert!((110.0..150.0).contains(&latency_ms), "{totals:?}");
        assert_eq!((totals.moves, totals.hedges), (1, 0), "{totals:?}");
        assert_eq!(totals.parts, 6, "the whole module, two at the first place, one at each other: {totals:?}");
    }

    #[test]
    fn the_next_guest_goes_on_in_the_parts_that_there_are() {
        let hedged = Chooser::Policy(Policy::Hedged);
        let totals = run(&table_with_parts(1), &Workload::calls(&table(), 3), &Setup::new(2), hedged);
        assert_eq!(ms(&totals)[1..], [100.0, 100.0], "{totals:?}");
        assert_eq!((totals.hedges, totals.parts), (0, 3), "{totals:?}");
    }

    #[test]
    fn who_waits_for_a_compiler_in_the_background_gets_what_cores_have_left() {
        // Two functions on one core: while one runs, the other's compile hardly gets on.
        let mut workload = Workload::default();
        workload.add_function(0, true);
        workload.add_function(0, true);
        let call = |at_ms: u64, function| Arrival { at_ns: at_ms * 1_000_000, function, case: 0, work: 1.0 };
        workload.arrivals = vec![call(0, 0), call(0, 1), call(1_000, 0), call(2_000, 1)];
        let totals = run(&table(), &workload, &Setup::new(1), Chooser::Policy(Policy::Adaptive));
        assert!(totals.latencies_ns.iter().all(Option::is_some), "{totals:?}");
        assert!(totals.compiles_background > 0, "{totals:?}");
    }

    #[test]
    fn what_was_displaced_is_loaded_before_the_expected_request() {
        let mut workload = Workload::calls(&table(), 1);
        workload.add_function(0, true);
        workload.is_closed = false;
        let call = |at_s: u64, function| Arrival { at_ns: at_s * 1_000_000_000, function, case: 0, work: 1.0 };
        workload.arrivals = (0..20).map(|minute| call(60 * minute, 0)).collect();
        // The other function's artifact takes the only place.
        workload.arrivals.insert(16, call(60 * 15 + 30, 1));
        let setup = Setup { size: Sizing { memory_bytes_max: 1_500, ..Sizing::of(1) }, ..Setup::new(1) };
        let totals = run(&table(), &workload, &setup, single("base"));
        assert_eq!((totals.prewarms_useful, totals.prewarms_wasted), (1, 0), "{totals:?}");
        assert_eq!(ms(&totals)[15..19], [300.0, 310.0, 300.0, 300.0]);
        let none = Setup { size: Sizing { disk_bytes_max: 0, ..setup.size }, ..setup };
        let totals = run(&table(), &workload, &none, single("base"));
        assert_eq!((totals.prewarms_useful, ms(&totals)[17]), (0, 310.0), "there is nothing to load");
    }

    #[test]
    fn every_policy_keeps_every_promise_on_every_workload() {
        let table = CostTable::built_in();
        let workloads = [
            Workload::calls(&table, 3),
            Workload::poisson(&table, 40, 3_000, 200.0, 1),
            Workload::bursts(&table, 40, 3_000, 2),
            Workload::azure_like(&table, 200, 3_000, 0.01, 3),
            azure_2021(&include_bytes!("../data/azure2021.csv")[..], &table, 0.1, 4).unwrap(),
        ];
        let size = Sizing { memory_bytes_max: 300_000, disk_bytes_max: 1_000_000, waiting_max: 100, ..Sizing::of(1) };
        let small = Setup { size, ..Setup::new(1) };
        let choosers = [Policy::Profile, Policy::Adaptive, Policy::Hedged, Policy::Single(table.engines[0].id)];
        for workload in &workloads {
            for setup in [small, Setup::new(2), Setup::new(8)] {
                let compared = compare(&table, workload, &setup, &choosers.map(Chooser::Policy));
                let compared = compared.unwrap_or_else(|(chooser, violation)| {
                    panic!("{} on {} cores, {chooser}: {violation}", workload.name, setup.cores)
                });
                assert_eq!(compared.reports.len(), 5);
                assert_eq!(compared, compare(&table, workload, &setup, &choosers.map(Chooser::Policy)).unwrap());
            }
        }
    }
}
