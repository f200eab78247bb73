//! Guests that move: tells a request's [`Moving`] what happens in the simulation, and carries out what that says.
//!
//! A simulated guest does its work at a few places, one after the other, and as much at each. Finding out at which
//! place it is, and moving it, take no time.

use std::time::Duration;

use remuda_model::{EngineId, Tier};
use remuda_scheduler::moving::{Job, Made, Maker, Makers, Moving, Sight, Step};
use remuda_scheduler::{Calibration, tuning};

use super::{Simulation, Work, as_ns, race};
use crate::CostTable;
use crate::cores::{Class, RunnerId};
use crate::oracle::run_ns;

/// The moves of one request.
pub(super) struct Mover {
    moving: Moving,
    makers: Makers,
    targets: Targets,
    /// The place at which the guest is, from 0.
    place: u32,
    /// The number of places.
    places: u32,
    /// The engine in whose code the guest is, by its number in the table; `None` where it began.
    at: Option<usize>,
    /// The time since which it has been there, in nanoseconds on the simulation's clock.
    since_ns: u64,
    /// The share of its work at this place that was left then.
    left: f64,
    /// How long that share takes on this engine, in nanoseconds.
    left_ns: u64,
    /// The engines in whose code the guest was before, and for how many nanoseconds.
    stays: Vec<(usize, u64)>,
}

/// The engine whose parts are ready first, and the one with the best code, by their numbers in the table.
#[derive(Clone, Copy)]
struct Targets {
    first: usize,
    best: usize,
}

impl Targets {
    fn of(table: &CostTable) -> Option<Self> {
        let make_parts = (0..table.engines.len()).filter(|engine| table.engines[*engine].parts.is_some());
        Some(Self {
            first: make_parts.clone().min_by_key(|engine| table.engines[*engine].tier)?,
            best: make_parts.max_by_key(|engine| table.engines[*engine].tier)?,
        })
    }
}

impl Mover {
    fn new(table: &CostTable, calibration: &Calibration, home: usize, moving: Moving, places: u32) -> Option<Self> {
        let targets = Targets::of(table)?;
        let known = |engine: usize| (table.engines[engine].id, table.engines[engine].tier);
        let makers = Makers::of(calibration, known(home), known(targets.first), known(targets.best));
        let (at, since_ns, left, left_ns, stays) = (None, 0, 1.0, 0, Vec::new());
        Some(Self { moving, makers, targets, place: 0, places: places.max(1), at, since_ns, left, left_ns, stays })
    }

    fn sight(&self, table: &CostTable, now_ns: u64) -> Sight {
        let ns = |is_counted: &dyn Fn(usize) -> bool| {
            let counted = self.stays_until(now_ns).filter(|(engine, _)| is_counted(*engine));
            Duration::from_nanos(counted.map(|(_, ns)| ns).sum())
        };
        let best = table.engines[self.targets.best].tier;
        let is_in_best = self.at.is_some_and(|engine| table.engines[engine].tier == best);
        Sight {
            in_any: ns(&|_| true),
            in_best: ns(&|engine| engine == self.targets.best),
            best_since: is_in_best.then(|| Duration::from_nanos(now_ns - self.since_ns)),
        }
    }

    /// The engines in whose code the guest was until now, and for how many nanoseconds.
    fn stays_until(&self, now_ns: u64) -> impl Iterator<Item = (usize, u64)> {
        let present = self.at.map(|engine| (engine, now_ns - self.since_ns));
        self.stays.iter().copied().chain(present)
    }

    /// The same, as the scheduler learns of it.
    pub(super) fn went_on_in(&self, table: &CostTable, now_ns: u64) -> Vec<(EngineId, u64)> {
        self.stays_until(now_ns).map(|(engine, ns)| (table.engines[engine].id, ns)).collect()
    }
}

/// The places at which guests can go on in a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cover {
    Everywhere,
    /// At the place with this number.
    Place(u32),
}

/// Parts of a function's module that its guests go on in.
#[derive(Default)]
pub(super) struct Parts {
    /// The engines that made the parts, and what each covers.
    made: Vec<(usize, Cover)>,
}

impl Parts {
    /// The best engine in whose code a guest goes on somewhere.
    fn best(&self, table: &CostTable) -> Option<usize> {
        self.made.iter().map(|(engine, _)| *engine).max_by_key(|engine| table.engines[*engine].tier)
    }

    /// The best engine in whose code a guest goes on at this place.
    fn best_at(&self, table: &CostTable, place: u32) -> Option<usize> {
        let covers = |cover: &Cover| [Cover::Everywhere, Cover::Place(place)].contains(cover);
        let there = self.made.iter().filter(|(_, cover)| covers(cover)).map(|(engine, _)| *engine);
        there.max_by_key(|engine| table.engines[*engine].tier)
    }
}

impl Simulation<'_> {
    /// The engine in whose code guests go on that begin on an interpreter. Parts are forgotten when there is code of
    /// the whole module that is as good.
    pub(super) fn goes_on_in(&self, function: u32) -> Option<EngineId> {
        let state = &self.functions[function as usize];
        let engine = state.parts.best(self.table)?;
        let is_as_good = |(other, slot): (usize, &super::Slot)| {
            slot.in_memory && self.table.engines[other].tier >= self.table.engines[engine].tier
        };
        let is_forgotten = state.slots.iter().enumerate().any(is_as_good);
        (!is_forgotten).then(|| self.table.engines[engine].id)
    }

    /// Whether a function's guests can move wherever they are, if they begin on an interpreter.
    pub(super) fn can_move_anywhere(&self, function: u32) -> bool {
        let module = self.workload.functions[function as usize].module;
        let has_whole = self.table.modules[module as usize].part.is_some_and(|part| part.has_whole);
        self.setup.moves && has_whole && Targets::of(self.table).is_some()
    }

    /// Whether a request's guest may move once it has begun.
    pub(super) fn will_move(&self, request: u32, engine: usize) -> bool {
        let module = self.workload.functions[self.arrival(request).function as usize].module;
        let has_points = self.table.modules[module as usize].part.is_some();
        self.setup.moves && has_points && self.table.engines[engine].tier == Tier::Interpreter && self.oracle.is_none()
    }

    /// Takes note that a guest that can move has begun.
    pub(super) fn begin_to_move(&mut self, request: u32, engine: usize) {
        let function = self.arrival(request).function;
        let can_be_whole = self.can_move_anywhere(function);
        let goes_on_in = self.goes_on_in(function);
        let state = &mut self.functions[function as usize];
        if goes_on_in.is_none() {
            state.parts.made.clear();
        }
        let has_whole = state.parts.made.iter().any(|(_, cover)| *cover == Cover::Everywhere);
        let moving = Moving::new(goes_on_in.is_some(), has_whole, can_be_whole);
        let module = self.workload.functions[function as usize].module;
        let places = self.table.modules[module as usize].part.map_or(1, |part| part.places);
        let mover = Mover::new(self.table, &self.calibration, engine, moving, places);
        if let Some(flight) = &mut self.requests[request as usize] {
            flight.mover = mover;
        }
        self.begin_place(request, 0);
    }

    /// Has a guest that has done its work where it is come to the next place, if there is one, and says whether there
    /// is.
    pub(super) fn comes_to_next_place(&mut self, request: u32, engine: usize) -> bool {
        let flight = self.requests[request as usize].as_ref().filter(|flight| flight.first == engine);
        let next = match flight.and_then(|flight| flight.mover.as_ref()) {
            Some(mover) if mover.place + 1 < mover.places => mover.place + 1,
            _ => return false,
        };
        self.begin_place(request, next);
        true
    }

    /// Has the guest do its work at this place in the best code that there is for it.
    fn begin_place(&mut self, request: u32, place: u32) {
        let function = self.arrival(request).function;
        let at = self.functions[function as usize].parts.best_at(self.table, place);
        self.run_on(request, place, 1.0, at);
    }

    /// Has the guest go on with the share `left` of its work at a place, in the code of the engine `at`; `None` where
    /// it began.
    fn run_on(&mut self, request: u32, place: u32, left: f64, at: Option<usize>) {
        let (arrival, now_ns) = (*self.arrival(request), self.now_ns);
        let Some(flight) = &mut self.requests[request as usize] else { return };
        let first = flight.first;
        let racer = flight.racers.iter_mut().find(|racer| racer.engine == first);
        let (Some(mover), Some(racer)) = (&mut flight.mover, racer) else { return };
        let Some((runner, began_ns)) = racer.running else { return };
        self.cores.stop(runner);
        if let Some(at) = mover.at {
            mover.stays.push((at, now_ns - mover.since_ns));
        }
        self.totals.moves += u64::from(at.is_some() && mover.stays.is_empty());
        let whole_ns = run_ns(self.table, self.workload, &arrival, at.unwrap_or(first)).unwrap_or(0.0);
        (mover.place, mover.at, mover.since_ns, mover.left) = (place, at, now_ns, left);
        mover.left_ns = as_ns(whole_ns * left / f64::from(mover.places)).max(1);
        let runner = self.cores.start(Class::Foreground, mover.left_ns, Work::Guest { request, engine: first });
        racer.running = Some((runner, began_ns));
    }

    /// Looks at a request: has its guest move, or asks whether other engines join.
    pub(super) fn look(&mut self, request: u32) {
        loop {
            match self.next_move(request) {
                Step::Make(job) => self.make_part(request, job),
                Step::Wait(wait) => {
                    let until_ns = self.now_ns.saturating_add(as_ns(wait.as_nanos() as f64).max(1));
                    if let Some(flight) = &mut self.requests[request as usize] {
                        flight.moves_until_ns = Some(until_ns);
                    }
                    return self.look_later(request);
                }
                Step::Race => return self.happens(request, race::LOOK),
            }
        }
    }

    fn next_move(&mut self, request: u32) -> Step {
        let (now_ns, load, table) = (self.now_ns, self.load(0), self.table);
        let Some(flight) = &mut self.requests[request as usize] else { return Step::Race };
        let elapsed = Duration::from_nanos(now_ns - flight.began_ns);
        if !flight.flight.is_open() || flight.was_joined {
            return Step::Race;
        }
        match &mut flight.mover {
            Some(mover) => {
                let sight = mover.sight(table, now_ns);
                mover.moving.next(elapsed, sight, &load)
            }
            None if flight.will_move && elapsed < tuning::MOVING_BEGIN_MAX => Step::Wait(*tuning::MOVING_LOOK.start()),
            None => Step::Race,
        }
    }

    /// Begins to make a part, or says at once that there will be none.
    fn make_part(&mut self, request: u32, job: Job) {
        let function = self.arrival(request).function;
        let module = &self.table.modules[self.workload.functions[function as usize].module as usize];
        let (Some(part), module_bytes) = (module.part, module.features.code_bytes) else { return };
        let now_ns = self.now_ns;
        let Some(mover) = self.requests[request as usize].as_ref().and_then(|flight| flight.mover.as_ref()) else {
            return;
        };
        let Targets { first, best } = mover.targets;
        let sight = mover.sight(self.table, now_ns);
        let there = self.functions[function as usize].parts.best_at(self.table, mover.place);
        let is_there = |target: usize| {
            there.is_some_and(|engine| self.table.engines[engine].tier >= self.table.engines[target].tier)
        };
        let cover = if job == Job::Whole { Cover::Everywhere } else { Cover::Place(mover.place) };
        let made = match job {
            Job::Whole => Ok((first, module_bytes)),
            Job::First if is_there(first) => Err(Made::AboutToLeave),
            Job::First => match mover.makers.for_first(part.hot_code_bytes, module_bytes, mover.moving.whole()) {
                Maker::First => Ok((first, part.hot_code_bytes)),
                Maker::Best => Ok((best, part.hot_code_bytes)),
                Maker::WaitForWhole => Err(Made::WaitsForWhole),
                Maker::Nobody => Err(Made::Refused),
            },
            Job::Better if is_there(best) => Err(Made::AboutToLeave),
            Job::Better => {
                let stayed = mover.moving.stayed_in_first(&sight);
                let is_worth_it = mover.makers.is_worth_better(part.hot_code_bytes, stayed);
                if is_worth_it { Ok((best, part.hot_code_bytes)) } else { Err(Made::InVain) }
            }
        };
        match made {
            Ok((engine, code_bytes)) => {
                let cost = self.table.engines[engine].parts.map_or(0.0, |parts| parts.compile_ns(code_bytes));
                let class = if job == Job::Whole { Class::Background } else { Class::Foreground };
                let work = Work::Part { request, engine, job, cover };
                let runner = self.cores.start(class, as_ns(cost).max(1), work);
                self.part_makers += usize::from(job != Job::Whole);
                self.totals.parts += 1;
                if let Some(flight) = &mut self.requests[request as usize] {
                    flight.parts.push(runner);
                }
            }
            Err(made) => self.part_done(request, job, made),
        }
    }

    /// Takes note that a part is ready.
    pub(super) fn part_made(&mut self, request: u32, engine: usize, job: Job, cover: Cover) {
        self.part_makers -= usize::from(job != Job::Whole);
        let function = self.arrival(request).function;
        self.functions[function as usize].parts.made.push((engine, cover));
        let flight = self.requests[request as usize].as_ref();
        let Some(place) = flight.and_then(|flight| flight.mover.as_ref()).map(|mover| mover.place) else { return };
        if [Cover::Everywhere, Cover::Place(place)].contains(&cover) {
            self.go_on(request, engine);
        }
        self.part_done(request, job, Made::Offered);
        self.look(request);
    }

    fn part_done(&mut self, request: u32, job: Job, made: Made) {
        let (now_ns, table) = (self.now_ns, self.table);
        let Some(flight) = &mut self.requests[request as usize] else { return };
        let elapsed = Duration::from_nanos(now_ns - flight.began_ns);
        if let Some(mover) = &mut flight.mover {
            let sight = mover.sight(table, now_ns);
            mover.moving.done(job, made, elapsed, sight);
        }
    }

    /// Has the guest go on in this engine's code, if that is better than the code that it is in.
    fn go_on(&mut self, request: u32, engine: usize) {
        if run_ns(self.table, self.workload, self.arrival(request), engine).is_none() {
            return;
        }
        let Some(flight) = &self.requests[request as usize] else { return };
        let racer = flight.racers.iter().find(|racer| racer.engine == flight.first);
        let (Some(mover), Some((runner, _))) = (&flight.mover, racer.and_then(|racer| racer.running)) else { return };
        let present = self.table.engines[mover.at.unwrap_or(flight.first)].tier;
        if self.table.engines[engine].tier > present {
            let left_ns = self.cores.left_ns(runner).unwrap_or(0.0);
            let (place, left) = (mover.place, mover.left * left_ns / mover.left_ns.max(1) as f64);
            self.run_on(request, place, left, Some(engine));
        }
    }

    /// Leaves only what cores have left to the runners that make parts for a request that is over.
    pub(super) fn give_up_parts(&mut self, parts: &[RunnerId]) {
        for runner in parts {
            self.cores.demote(*runner);
        }
    }
}
