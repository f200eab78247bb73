//! Several engines at one request: the first that ends gives the answer, and the others are stopped and leave no trace.
//!
//! A [`Flight`] says which engine joins, which one has won and which ones have to go. This file drives a flight, with
//! threads, interrupts, gates and a lock around it, and keeps what the flight knows only by the engines' names.
//!
//! The thread that took the request runs the engine that was decided on. If the request is not answered after a while,
//! a *looker*, on another thread, asks the flight what to do: it stops engines that cannot win any more, and lets
//! others join. It runs a joining engine on its own thread, after it has sent another looker. A thread whose racer
//! was stopped becomes a looker itself. So there is always a looker, and as many racers as the scheduler wants.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SendError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use remuda_engine::{EngineError, Extent, Instance, Part};
use remuda_model::{
    ArtifactState, Cause, EngineId, Gate, GuestContext, HostStream, Interrupt, Outcome, Tier, wait_for_the_end,
};
use remuda_scheduler::flight::{Action, End, Ending, Event, Flight, Situation, Wanted};
use remuda_scheduler::moving::{Job, Step};
use remuda_scheduler::{Load, Request, Scheduler, World, tuning};

use super::attempt::{Attempt, prepare_for_request, run_prepared};
use super::mover::{self, Mover, Tried};
use crate::artifact::compile::Urgency;
use crate::artifact::make::Prepared;
use crate::call::{Answer, Call, CallError, Deliver};
use crate::function::Function;
use crate::idle::background::{CompileThread, Core};
use crate::panics::catching_panics;
use crate::prepare::prepare;
use crate::shared::Shared;
use crate::time::nanoseconds;

/// One request and the engines that race for its answer.
struct Race {
    shared: Arc<Shared>,
    function: Arc<Function>,
    call: Arc<Call>,
    began: Instant,
    /// Whether what guests write waits until the race is decided.
    is_held: bool,
    state: Mutex<State>,
    changed: Condvar,
}

/// The state of a race: what has happened so far, and what belongs to the engines that the flight knows only by name.
struct State {
    flight: Flight,
    /// The engines that were started, once each.
    entered: Vec<Entered>,
    /// The answers, until they are delivered.
    answers: Vec<(EngineId, Box<Answer>)>,
    failures: Vec<EngineError>,
    /// The error of the first engine that broke. It ends the request, unless another engine answers.
    broken: Option<CallError>,
    /// The compiles for engines that join, or for the guest to move.
    compiles: Vec<PendingCompile>,
    /// The moves of the first engine's guest, if it can move, and as long as no other engine has joined.
    mover: Option<Mover>,
    /// Whether that guest could move, and has not begun yet.
    will_move: bool,
    /// Whether a second engine has joined.
    was_joined: bool,
    /// Tells the caller the answer; `None` from when that is under way.
    deliver: Option<Deliver>,
}

/// An engine in the race: how to stop it, and how to let out what it writes.
#[derive(Clone)]
struct Entered {
    engine: EngineId,
    interrupt: Interrupt,
    /// Shut until the race is decided for this engine. Where guests have streams of their own, it has no effect.
    gate: Gate,
}

/// A compile that is under way for a race.
struct PendingCompile {
    thread: CompileThread,
    /// Wakes the thread that waits for the compile.
    wake: Box<dyn Fn() + Send>,
}

/// Runs a request on `engine`, and lets other engines join after `look_after` if it has not ended by then. If another
/// engine wins, its thread calls `deliver`: that thread has a core, and the thread that took the request would have to
/// be woken.
pub(crate) fn run(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    engine: EngineId,
    look_after: Duration,
    deliver: Deliver,
) -> Attempt {
    // No engine joins a request that must not run twice, so its output need not wait for that.
    let has_ways_out = call.context.uses_host_streams() || call.context.may_stream();
    let is_held = has_ways_out && function.may_race(&call.context);
    let flight = Flight::new(engine, Some(nanoseconds(look_after)), is_held);
    let race = Arc::new(Race {
        shared: Arc::clone(shared),
        function: Arc::clone(function),
        call: Arc::clone(call),
        began: Instant::now(),
        is_held,
        state: Mutex::new(State::new(flight, engine, Some(deliver))),
        changed: Condvar::new(),
    });
    let everybody = Arc::clone(&race);
    let stops_with_its_request = {
        let request = interrupt.clone();
        interrupt.listen(move || everybody.interrupted(request.cause().unwrap_or(Cause::Cancelled)))
    };
    let (entered, look_at_ns, will_move) = {
        let mut state = race.state.lock();
        let tier = function.engine(engine).known.capabilities.tier;
        state.will_move = shared.moves && tier == Tier::Interpreter && function.module.has_points();
        (state.entered[0].clone(), state.flight.look_at_ns(), state.will_move)
    };
    if will_move && !shared.are_parts_prepared.swap(true, Ordering::Relaxed) {
        let (shared, function) = (Arc::clone(shared), Arc::clone(function));
        race.shared.background.race(Core::Another, move || mover::prepare_parts(&shared, &function));
    }
    let (stays, here) = shared.background.stay_here();

    // The watch is kept until the answer: after that, no looker is needed.
    let watch = Interrupt::new();
    let looker = Arc::clone(&race);
    // The clock's thread sends the looker, and may be woken on the guest's core; a looker there would compile there.
    let _watched = watch.listen(move || looker.send_looker(Core::AnotherThan(here)));
    let _armed = match look_at_ns {
        Some(ns) if ns > tuning::EARLY_NS => {
            Some(shared.deadlines.arm(race.began, Duration::from_nanos(ns), watch.clone()))
        }
        Some(_) => {
            race.send_looker(Core::Another);
            None
        }
        // The request was interrupted already.
        None => None,
    };

    race.race(&entered, true);
    // The thread that answers wakes this thread, whose core may be taken by then.
    drop(stays);
    let ending = race.wait();
    drop(stops_with_its_request);
    race.close(ending)
}

/// Says, when dropped, that the caller has been told: the thread that took the request may go on.
struct Delivered<'a>(&'a Race);

impl Drop for Delivered<'_> {
    fn drop(&mut self) {
        self.0.happens(Event::Delivered);
    }
}

impl Race {
    /// Like [`Race::carry_out`], and wakes the threads that wait for something to happen.
    fn happens(&self, event: Event) -> Option<Action> {
        let left = self.carry_out(&mut self.state.lock(), event);
        self.changed.notify_all();
        left
    }

    /// Tells the flight what has happened, and does what the flight says; except what the calling thread has to do
    /// itself, which is returned.
    fn carry_out(&self, state: &mut State, event: Event) -> Option<Action> {
        let mut left = None;
        // The clock is read under the lock, so that time does not go back.
        for action in state.flight.on(event, nanoseconds(self.began.elapsed()), self) {
            if !matches!(action, Action::Earn(_) | Action::Spend(_) | Action::GiveUpCompiles) {
                tracing::debug!(request = %self.call.id, since = ?self.began.elapsed(), ?action, "race");
            }
            match action {
                Action::Stop(engine, cause) => {
                    for entered in state.entered(engine) {
                        entered.interrupt.raise(cause);
                    }
                }
                Action::OpenGate(engine) => {
                    for entered in state.entered(engine) {
                        entered.gate.open(write_through);
                    }
                    // The thread that took the request may lend its place now.
                    self.changed.notify_all();
                }
                Action::GiveUpCompiles => state.give_up_compiles(),
                Action::Earn(ns) => self.shared.cores.earn(Duration::from_nanos(ns)),
                Action::Spend(ns) => self.shared.cores.spend(Duration::from_nanos(ns)),
                Action::Start(_) | Action::Run(_) | Action::Dismiss(_) | Action::Deliver(_) => left = Some(action),
            }
        }
        left
    }

    /// Tells the flight that the request itself is interrupted.
    fn interrupted(&self, cause: Cause) {
        self.happens(Event::Interrupted(cause));
    }

    /// Waits until the request has ended. The thread that waits does not race again: it could be in the middle of a
    /// compile when another thread brings the answer.
    fn wait(self: &Arc<Self>) -> Ending {
        let mut state = self.state.lock();
        if state.flight.look_at_ns().is_some() {
            drop(state);
            self.send_looker(Core::ThisOne);
            state = self.state.lock();
        }
        let mut waiting = None;
        loop {
            if let Some(ending) = state.flight.ending() {
                return ending;
            }
            if waiting.is_none() && self.call.context.may_stream() && state.is_decided() {
                // Another thread's guest answers its client from now on, for as long as that takes.
                drop(state);
                waiting = Some(wait_for_the_end());
                state = self.state.lock();
                continue;
            }
            self.changed.wait(&mut state);
        }
    }

    /// Closes the race when nobody waits for it any more, and says how it ended.
    fn close(&self, ending: Ending) -> Attempt {
        let mut state = self.state.lock();
        self.carry_out(&mut state, Event::Closed);
        state.result(ending)
    }

    /// Sends a looker: has another thread look at the race.
    fn send_looker(self: &Arc<Self>, on: Core) {
        let race = Arc::clone(self);
        self.shared.background.race(on, move || race.look());
    }

    /// Looks at the race: does what the scheduler says whenever it is time to, and has the first engine's guest move,
    /// until there is nothing left to look for.
    fn look(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while state.flight.is_open() {
            let next = state.next_move(self.began.elapsed(), &self.shared.cores.load());
            if let Step::Make(job) = next {
                self.start_part(&mut state, job);
                continue;
            }
            let wanted = if self.is_held { state.wanted() } else { Wanted::Nothing };
            let left =
                state.flight.look_at_ns().map(|at| Duration::from_nanos(at).saturating_sub(self.began.elapsed()));
            let is_due = left == Some(Duration::ZERO);
            let event = match (next, left) {
                // No engine joins a guest that moves; but if a gate holds back something that is wanted, that has to be
                // decided.
                (Step::Wait(_), _) if is_due && wanted != Wanted::Nothing => Event::Moves { wanted },
                (Step::Race, _) if is_due => Event::Look { wanted },
                (Step::Race, None) => return,
                (_, left) => {
                    let of_mover = if let Step::Wait(wait) = next { Some(wait) } else { None };
                    let wait = of_mover.into_iter().chain(left.filter(|_| !is_due)).min().unwrap_or_default();
                    self.changed.wait_for(&mut state, wait);
                    continue;
                }
            };
            if let Some(Action::Start(engine)) = self.carry_out(&mut state, event) {
                if !std::mem::replace(&mut state.was_joined, true) {
                    self.shared.counters.races.add_one();
                }
                let entered = state.enter(engine);
                drop(state);
                // Another looker looks on meanwhile.
                self.send_looker(Core::Another);
                self.race(&entered, false);
                state = self.state.lock();
            }
        }
    }

    /// Makes an engine that has entered the race ready and runs it, however that ends.
    fn race(&self, entered: &Entered, began_first: bool) {
        let Entered { engine, interrupt, gate } = entered;
        let engine = *engine;
        let _busy = self.shared.cores.work();
        // A guest whose engine joins later has no time to move.
        let begun = |instance: &dyn Instance, offered: &[(Part, Extent)]| {
            let mut state = self.state.lock();
            if let Some(moves) = instance.moves().filter(|_| state.will_move && began_first) {
                state.mover = Mover::new(moves, offered, &self.shared, &self.function, engine);
            }
            state.will_move &= !began_first;
        };
        // `None`: there was nothing left to win.
        let attempt = || {
            let prepared = match self.prepare(engine, interrupt, began_first) {
                Ok(prepared) => prepared,
                Err(ended) => return Some(ended),
            };
            if !self.may_run(engine, &prepared) {
                learn_compile(&self.function, engine, &prepared);
                return None;
            }
            if !self.is_held {
                return Some(run_prepared(
                    &self.function,
                    engine,
                    &self.call,
                    &self.call.context,
                    interrupt,
                    prepared,
                    begun,
                ));
            }
            let context = GuestContext { gate: Some(gate.clone()), ..self.call.context.clone() };
            Some(run_prepared(&self.function, engine, &self.call, &context, interrupt, prepared, begun))
        };
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "joins the race");
        let ended = catching_panics(self.function.name(), self.call.id, attempt);
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "leaves the race");
        if let Some(ended) = ended.unwrap_or_else(|error| Some(Attempt::Broken(error))) {
            self.end(engine, ended);
        }
    }

    /// Tells the flight that an engine is ready, and returns whether it is to run. A racer that is beaten by that
    /// has been stopped when this returns: no looker is needed for it.
    fn may_run(&self, engine: EngineId, prepared: &Prepared) -> bool {
        let event = Event::Ready { engine, made: !prepared.compile.is_zero() };
        let todo = self.carry_out(&mut self.state.lock(), event);
        let runs = todo == Some(Action::Run(engine));
        if !runs {
            // The engine has left the race.
            self.changed.notify_all();
        }
        runs
    }

    /// Gets an engine ready. For an engine that joins, the compile runs on a thread that can be told to give way, and
    /// the racer waits for it no longer than the race lasts. After that, the artifact is for later, and its compiler
    /// gets only the core time that no other thread wants.
    fn prepare(&self, engine: EngineId, interrupt: &Interrupt, began_first: bool) -> Result<Prepared, Attempt> {
        let is_ready = self.function.engine(engine).slot.artifact_state() == Some(ArtifactState::InMemory);
        if began_first || is_ready {
            return prepare_for_request(&self.shared, &self.function, engine, interrupt);
        }
        // There is room for both senders that may have something to say, so neither ever waits.
        let (waiter, wait) = sync_channel(2);
        let (shared, function, interrupt) = (Arc::clone(&self.shared), Arc::clone(&self.function), interrupt.clone());
        let (call, done) = (Arc::clone(&self.call), waiter.clone());
        let compile = move || {
            let prepared = || Ok(prepare(Urgency::Racer, &shared, &function, engine, &interrupt)?);
            let prepared = catching_panics(function.name(), call.id, prepared);
            let prepared = prepared.unwrap_or_else(|error| Err(Attempt::Broken(error)));
            if let Err(SendError(Ok(late))) = done.send(prepared) {
                learn_compile(&function, engine, &late);
            }
        };
        // Without a thread for the compile, the engine does not race.
        let thread = self.shared.background.compile_now(compile).ok_or(Attempt::Interrupted)?;
        // The thread that waits may have gone.
        self.under_way(PendingCompile { thread, wake: Box::new(move || drop(waiter.send(Err(Attempt::Interrupted)))) });
        wait.recv().unwrap_or(Err(Attempt::Interrupted))
    }

    /// Notes a compile that is under way. It is given up when the race is over.
    fn under_way(&self, compile: PendingCompile) {
        let mut state = self.state.lock();
        if state.flight.is_open() {
            state.compiles.push(compile);
        } else {
            compile.give_up();
        }
    }

    /// Has a part made for the first engine's guest.
    fn start_part(self: &Arc<Self>, state: &mut State, job: Job) {
        let Some(mover) = &mut state.mover else { return };
        let race = Arc::clone(self);
        let done = move |tried| {
            tracing::debug!(request = %race.call.id, since = ?race.began.elapsed(), ?job,
                "tried to have the guest move");
            if let Some(mover) = &mut race.state.lock().mover {
                mover.done(job, tried, race.began.elapsed());
            }
            race.changed.notify_all();
        };
        let elapsed = self.began.elapsed();
        match mover.start(&self.shared, &self.function, &self.call, job, done) {
            // No thread waits for this compile.
            Some(thread) => state.compiles.push(PendingCompile { thread, wake: Box::new(|| ()) }),
            None => mover.done(job, Tried::not(), elapsed),
        }
    }

    /// Notes how an engine's run ended, and tells the caller if that is the answer and this thread is to tell it.
    fn end(&self, engine: EngineId, ended: Attempt) {
        let mut state = self.state.lock();
        let how = state.keep(engine, ended);
        let todo = self.carry_out(&mut state, Event::Ended { engine, how });
        drop(state);
        self.changed.notify_all();
        if let Some(Action::Deliver(engine)) = todo {
            self.deliver(engine);
        }
    }

    /// Tells the caller an engine's answer.
    fn deliver(&self, engine: EngineId) {
        let mut state = self.state.lock();
        let (answer, deliver) = (state.take_answer(engine), state.deliver.take());
        drop(state);
        let _delivered = Delivered(self);
        if let (Some(answer), Some(deliver)) = (answer, deliver) {
            deliver(answer);
        }
    }
}

impl Situation for Race {
    fn ask<T>(&self, ask: impl FnOnce(&Scheduler, &Request<'_>, &World<'_>) -> T) -> T {
        let candidates = self.function.candidates(&self.shared.cores);
        let request = self.function.request(&self.call, &candidates);
        self.shared.with_world(|world| self.function.scheduler.with(|scheduler| ask(scheduler, &request, world)))
    }
}

/// Notes what a compile took, which is worth knowing even if the artifact came too late.
fn learn_compile(function: &Function, engine: EngineId, prepared: &Prepared) {
    if prepared.compiled_here {
        function.scheduler.with(|scheduler| scheduler.observe_compile(engine, nanoseconds(prepared.compile)));
    }
}

impl PendingCompile {
    /// Gives the compile up, because the race is over: its thread stands back, and the thread that waits for it is
    /// woken.
    fn give_up(&self) {
        self.thread.stand_back();
        (self.wake)();
    }
}

impl State {
    fn new(flight: Flight, first: EngineId, deliver: Option<Deliver>) -> Self {
        Self {
            flight,
            entered: vec![Entered::new(first)],
            answers: Vec::new(),
            failures: Vec::new(),
            broken: None,
            compiles: Vec::new(),
            mover: None,
            will_move: false,
            was_joined: false,
            deliver,
        }
    }

    fn enter(&mut self, engine: EngineId) -> Entered {
        // The engine may have been in the race before, and have left before it ran.
        self.entered.retain(|entered| entered.engine != engine);
        let entered = Entered::new(engine);
        self.entered.push(entered.clone());
        entered
    }

    fn entered(&self, engine: EngineId) -> impl Iterator<Item = &Entered> {
        self.entered.iter().filter(move |entered| entered.engine == engine)
    }

    /// Says what to do about the first engine's guest.
    fn next_move(&mut self, elapsed: Duration, load: &Load) -> Step {
        if self.will_move && elapsed < tuning::MOVING_BEGIN_MAX {
            return Step::Wait(*tuning::MOVING_LOOK.start());
        }
        let is_alone = !self.was_joined;
        let mover = self.mover.as_mut().filter(|_| is_alone);
        mover.map_or(Step::Race, |mover| mover.next(elapsed, load))
    }

    /// Whether a gate is open: the race is decided, and its winner goes on.
    fn is_decided(&self) -> bool {
        self.entered.iter().any(|entered| entered.gate.is_open())
    }

    fn give_up_compiles(&mut self) {
        for compile in self.compiles.drain(..) {
            compile.give_up();
        }
    }

    /// How urgently guests want what their gates hold back.
    fn wanted(&self) -> Wanted {
        let gates = || self.flight.engines().flat_map(|engine| self.entered(engine)).map(|entered| &entered.gate);
        if gates().any(Gate::is_needed) {
            Wanted::Needed
        } else if gates().any(Gate::is_wanted) {
            Wanted::Something
        } else {
            Wanted::Nothing
        }
    }

    /// Keeps what an engine has brought, and says how it ended.
    fn keep(&mut self, engine: EngineId, ended: Attempt) -> End {
        match ended {
            Attempt::Answered(answer) => {
                let how = if is_stopped(&answer) { End::Stopped } else { End::Answered };
                self.answers.push((engine, answer));
                how
            }
            // The other engines in the race are not touched by this.
            Attempt::Broken(error) => {
                self.broken.get_or_insert(error);
                End::Broke
            }
            Attempt::Failed(error) => {
                self.failures.push(error);
                End::Failed
            }
            Attempt::Interrupted | Attempt::Delivered => End::Unready,
        }
    }

    fn take_answer(&mut self, engine: EngineId) -> Option<Box<Answer>> {
        let at = self.answers.iter().position(|(by, _)| *by == engine)?;
        Some(self.answers.swap_remove(at).1)
    }

    /// Turns the flight's end into what it means to the thread that took the request.
    fn result(&mut self, ending: Ending) -> Attempt {
        match ending {
            Ending::Delivered { .. } => Attempt::Delivered,
            Ending::Answered { engine, cause } => {
                let Some(mut answer) = self.take_answer(engine) else {
                    return Attempt::Broken(CallError::Panicked { message: "an answer was lost on its way".into() });
                };
                // The race had stopped this engine, and the request itself was stopped, too: that is why there is no
                // other answer.
                if let (true, Some(cause)) = (is_stopped(&answer), cause) {
                    answer.outcome = Outcome::Interrupted { cause };
                }
                Attempt::Answered(answer)
            }
            Ending::Unanswered => match (self.broken.take(), self.failures.pop()) {
                (Some(error), _) => Attempt::Broken(error),
                (None, Some(failure)) => Attempt::Failed(failure),
                (None, None) => Attempt::Interrupted,
            },
        }
    }
}

impl Entered {
    fn new(engine: EngineId) -> Self {
        Self { engine, interrupt: Interrupt::new(), gate: Gate::default() }
    }
}

fn write_through(stream: HostStream, bytes: &[u8]) {
    let written = match stream {
        HostStream::Stdout => std::io::stdout().write_all(bytes),
        HostStream::Stderr => std::io::stderr().write_all(bytes),
    };
    // The reader of the stream may have gone: the guest finds out by its next write.
    let _ = written;
}

fn is_stopped(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Interrupted { .. })
}

#[cfg(test)]
mod tests {
    use remuda_model::{GuestContext, GuestLimits};
    use remuda_scheduler::{Calibration, Candidate, Features, FunctionProfile, Load, Policy};

    use super::*;
    use crate::call::cut_short;
    use crate::{FunctionSpec, Host, HostConfig};

    const ENGINES: [EngineId; 3] = [EngineId::new("first"), EngineId::new("second"), EngineId::new("third")];

    /// An idle host, on which all three engines join.
    struct Idle;

    impl Situation for Idle {
        fn ask<T>(&self, ask: impl FnOnce(&Scheduler, &Request<'_>, &World<'_>) -> T) -> T {
            let features = Features { code_bytes: 100_000, functions: 100, loops: 50 };
            let scheduler = Scheduler::new(Policy::Hedged, features, FunctionProfile::default());
            let tiers = [Tier::Interpreter, Tier::Baseline, Tier::Optimizing];
            let candidate = |(engine, tier)| Candidate {
                engine,
                tier,
                artifact: ArtifactState::Absent,
                making_since_ns: None,
                goes_on_in: None,
            };
            let candidates: Vec<Candidate> = ENGINES.into_iter().zip(tiers).map(candidate).collect();
            let request = Request { input_bytes: None, candidates: &candidates, may_race: true, can_move: false };
            let world = World { calibration: &Calibration::default(), load: Load::idle(8), now_ns: 0 };
            ask(&scheduler, &request, &world)
        }
    }

    /// A race between these three engines, none of which runs by itself.
    fn race(deliver: Option<Deliver>) -> (Host, Arc<Race>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.wat");
        std::fs::write(&path, "(module (func (export \"_start\")))").unwrap();
        let host = Host::open(&HostConfig::default()).unwrap();
        let engines = Some(vec!["mock".to_owned()]);
        let function = host.deploy(FunctionSpec { engines, ..FunctionSpec::of_module(&path) }, None).unwrap();
        let (context, limits) = (GuestContext::default(), GuestLimits::default());
        let call = Call { id: host.next_request_id(), entry: remuda_model::Entry::Command, context, limits };
        let [first, ..] = ENGINES;
        let mut flight = Flight::new(first, Some(0), false);
        flight.on(Event::Ready { engine: first, made: false }, 0, &Idle);
        // The longer the request takes, the more engines want to join.
        let look = Event::Look { wanted: Wanted::Nothing };
        let joined: Vec<Action> = (0..1000).flat_map(|ms| flight.on(look, ms * 1_000_000, &Idle)).collect();
        let started = |engine: &EngineId| joined.contains(&Action::Start(*engine));
        assert!(ENGINES[1..].iter().all(started), "{joined:?}");
        let mut state = State::new(flight, first, deliver);
        for engine in &ENGINES[1..] {
            state.enter(*engine);
        }
        let race = Race {
            shared: Arc::clone(host.shared()),
            function,
            call: Arc::new(call),
            // The looks above take a second of the race's time, so it must have begun longer ago than that.
            began: Instant::now().checked_sub(Duration::from_secs(2)).unwrap(),
            is_held: false,
            state: Mutex::new(state),
            changed: Condvar::new(),
        };
        (host, Arc::new(race))
    }

    fn answered(engine: EngineId, outcome: Outcome) -> Attempt {
        let phases = remuda_model::Phases::default();
        Attempt::Answered(Box::new(Answer { engine: Some(engine), ..cut_short(outcome, None, phases) }))
    }

    fn broken() -> Attempt {
        Attempt::Broken(CallError::Panicked { message: "broken".into() })
    }

    fn failed(engine: EngineId) -> Attempt {
        Attempt::Failed(EngineError::Compile { engine, reason: "failed".into() })
    }

    /// Ends the engines one after the other. Returns which engine answered or what else came of it, and which engines
    /// were stopped.
    fn ends(endings: [Attempt; 3]) -> (String, Vec<bool>) {
        let delivered = Arc::new(Mutex::new(None));
        let deliver: Deliver = {
            let delivered = Arc::clone(&delivered);
            Box::new(move |answer| *delivered.lock() = answer.engine)
        };
        let (_host, race) = race(Some(deliver));
        let all = race.state.lock().entered.clone();
        for (entered, ending) in all.iter().zip(endings) {
            race.end(entered.engine, ending);
        }
        let ending = race.wait();
        let result = match race.close(ending) {
            Attempt::Answered(answer) => format!("{} tells", answer.engine.unwrap()),
            Attempt::Failed(error) => error.to_string(),
            Attempt::Broken(error) => error.to_string(),
            Attempt::Interrupted => "interrupted".into(),
            Attempt::Delivered => format!("{} has told", delivered.lock().unwrap()),
        };
        (result, all.iter().map(|entered| entered.interrupt.cause().is_some()).collect())
    }

    #[test]
    fn the_first_answer_counts_and_engines_that_fail_lose_no_request() {
        let [first, second, third] = ENGINES;
        let ok = |engine| answered(engine, Outcome::Returned);
        let stopped = |engine| answered(engine, Outcome::Interrupted { cause: Cause::Cancelled });
        for (endings, expected, are_stopped) in [
            ([ok(first), stopped(second), stopped(third)], "first tells", [false, true, true]),
            ([broken(), ok(second), stopped(third)], "second has told", [false, false, true]),
            ([failed(first), broken(), ok(third)], "third has told", [false, false, false]),
            // An engine that was stopped for another does not answer, and one that comes late does not either.
            ([stopped(first), ok(second), ok(third)], "second has told", [false, false, true]),
            ([ok(first), broken(), failed(third)], "first tells", [false, true, true]),
            // A guest's failure is an answer.
            (
                [answered(first, Outcome::Exited { code: 3 }), stopped(second), stopped(third)],
                "first tells",
                [false, true, true],
            ),
        ] {
            assert_eq!(ends(endings), (expected.to_owned(), are_stopped.to_vec()), "{expected}");
        }
        let (result, _) = ends([broken(), failed(second), failed(third)]);
        assert!(result.contains("broken"), "{result}");
        let (result, _) = ends([failed(first), failed(second), failed(third)]);
        assert!(result.contains("third"), "{result}");
    }

    #[test]
    fn who_waits_for_a_compile_waits_no_longer_than_the_race_lasts() {
        type End = fn(&Race);
        let ends: [End; 3] = [
            |race| race.end(ENGINES[0], answered(ENGINES[0], Outcome::Returned)),
            |race| race.interrupted(Cause::Deadline),
            |race| _ = race.close(Ending::Unanswered),
        ];
        for end in ends {
            let (_host, race) = race(None);
            let (waiter, wait) = sync_channel::<Result<Prepared, Attempt>>(2);
            let (go_on, blocked) = sync_channel::<()>(0);
            let thread = race.shared.background.compile_now(move || _ = blocked.recv()).unwrap();
            let wake = Box::new(move || drop(waiter.send(Err(Attempt::Interrupted))));
            race.state.lock().compiles.push(PendingCompile { thread, wake });
            end(&race);
            assert!(matches!(wait.recv().unwrap(), Err(Attempt::Interrupted)));
            drop(go_on);
        }
    }

    #[test]
    fn a_race_is_not_over_before_the_answer_is_delivered() {
        let (begun, has_begun) = sync_channel(0);
        let (go_on, may_go_on) = sync_channel::<()>(0);
        let is_told = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&is_told);
        let (_host, race) = race(Some(Box::new(move |_| {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            told.store(true, std::sync::atomic::Ordering::SeqCst);
        })));
        std::thread::scope(|scope| {
            scope.spawn(|| race.end(ENGINES[1], answered(ENGINES[1], Outcome::Returned)));
            has_begun.recv().unwrap();
            let closing = scope.spawn(|| {
                let ending = race.wait();
                let ended = race.close(ending);
                (matches!(ended, Attempt::Delivered), is_told.load(std::sync::atomic::Ordering::SeqCst))
            });
            go_on.send(()).unwrap();
            assert_eq!(closing.join().unwrap(), (true, true));
        });
    }

    #[test]
    fn an_interrupted_request_stops_everybody_and_says_why() {
        let (_host, race) = race(None);
        race.interrupted(Cause::Deadline);
        let causes: Vec<_> = race.state.lock().entered.iter().map(|entered| entered.interrupt.cause()).collect();
        assert_eq!(causes, [Some(Cause::Deadline); 3]);
        race.end(ENGINES[1], Attempt::Interrupted);
        // The race had stopped this engine before.
        race.end(ENGINES[0], answered(ENGINES[0], Outcome::Interrupted { cause: Cause::Cancelled }));
        let ending = race.wait();
        let Attempt::Answered(answer) = race.close(ending) else {
            panic!("the guest was interrupted, which is an answer")
        };
        assert_eq!(answer.outcome, Outcome::Interrupted { cause: Cause::Deadline });
    }
}
