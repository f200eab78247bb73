//! Several engines at one request: the first to end answers, and the others are stopped and leave no trace.
//!
//! The thread that took the request runs the engine that was decided on. If the request is not answered after a while, a
//! *looker*, on another thread, asks the scheduler what to do: it lets engines join, on its own thread, and stops those
//! that cannot win any more. A thread whose racer was stopped becomes a looker itself. So there is always one who looks,
//! and as many racers as the scheduler wants.

use std::io::Write as _;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_engine::EngineError;
use remuda_model::{Cause, EngineId, Gate, GuestContext, HostStream, Interrupt, Outcome};
use remuda_scheduler::{RaceStep, RaceView, Racer, Scheduler, World};

use crate::execute::{Answer, Attempt, Call, catching_panics, nanoseconds, prepare, run_prepared};
use crate::function::Function;
use crate::host::Shared;
use crate::prepare::Prepared;

/// One request and those who race for its answer.
struct Race {
    shared: Arc<Shared>,
    function: Arc<Function>,
    call: Arc<Call>,
    began: Instant,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// Engines that were stopped or have failed: they do not come back.
    left: Vec<EngineId>,
    failures: Vec<EngineError>,
    /// The winner's.
    answer: Option<Attempt>,
    /// Why the request was interrupted, if it was.
    cause: Option<Cause>,
    /// The winner's gate.
    gate: Option<Gate>,
    /// Since when somebody outside may have been waiting for what a gate holds back.
    wanted_since: Option<Instant>,
    /// The race is decided: nobody joins any more.
    decided: bool,
    /// Nobody waits for an answer any more.
    closed: bool,
}

struct Entry {
    engine: EngineId,
    interrupt: Interrupt,
    running_since: Option<Instant>,
    /// Shut until the race is decided for this one; where guests have streams of their own, nobody minds it.
    gate: Gate,
}

/// How long output, or a wish to read input, is held back at most: people begin to notice after that.
const HOLD: Duration = Duration::from_millis(100);

/// Runs a request on `engine`, and lets others join after `look_after` if it has not ended by then.
pub(crate) fn run(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    engine: EngineId,
    look_after: Duration,
) -> Attempt {
    let race = Arc::new(Race {
        shared: Arc::clone(shared),
        function: Arc::clone(function),
        call: Arc::clone(call),
        began: Instant::now(),
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let everybody = Arc::clone(&race);
    let stops_with_its_request = {
        let request = interrupt.clone();
        interrupt.listen(move || everybody.stop_all(request.cause().unwrap_or(Cause::Cancelled)))
    };
    let entered = race.enter(&mut race.lock(), engine);
    let look_after = if call.context.uses_host_streams() { look_after.min(HOLD) } else { look_after };

    // Kept until the answer: after that nobody needs to look.
    let watch = Interrupt::new();
    let looker = Arc::clone(&race);
    let _watched = watch.listen(move || looker.send_looker());
    let _armed = (!look_after.is_zero()).then(|| shared.deadlines.arm(race.began, look_after, watch.clone()));
    if look_after.is_zero() {
        race.send_looker();
    }

    race.race(&entered, true);
    race.wait();
    drop(stops_with_its_request);
    let mut state = race.lock();
    state.closed = true;
    if let Some(gate) = state.gate.take() {
        gate.open(write_through);
    }
    match (state.answer.take(), state.failures.pop()) {
        (Some(answer), _) => answer,
        (None, Some(failure)) => Attempt::Failed(failure),
        (None, None) => Attempt::Interrupted,
    }
}

impl Race {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, state: &mut State, engine: EngineId) -> Entered {
        let (interrupt, gate) = (Interrupt::new(), Gate::default());
        if let Some(cause) = state.cause {
            interrupt.raise(cause);
        }
        state.entries.push(Entry { engine, interrupt: interrupt.clone(), running_since: None, gate: gate.clone() });
        Entered { engine, interrupt, gate }
    }

    /// The request itself is interrupted.
    fn stop_all(&self, cause: Cause) {
        let mut state = self.lock();
        state.cause = Some(cause);
        for entry in &state.entries {
            entry.interrupt.raise(cause);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Has another thread look at the race.
    fn send_looker(self: &Arc<Self>) {
        let race = Arc::clone(self);
        self.shared.background.race(move || race.look());
    }

    /// Makes an engine that has entered ready and runs it, to whatever end.
    fn race(&self, entered: &Entered, began_first: bool) {
        let Entered { engine, interrupt, gate } = entered;
        let engine = *engine;
        let _busy = self.shared.cores.work();
        let began = Instant::now();
        let attempt = || {
            let prepared = match prepare(&self.shared, &self.function, engine, interrupt) {
                Ok(prepared) => prepared,
                Err(ended) => return ended,
            };
            if !self.may_run(engine, !began_first && !prepared.compile.is_zero()) {
                self.learn_compile(engine, &prepared);
                return Attempt::Interrupted;
            }
            if !self.call.context.uses_host_streams() {
                return run_prepared(&self.function, engine, &self.call, &self.call.context, interrupt, prepared);
            }
            let context = GuestContext { gate: Some(gate.clone()), ..self.call.context.clone() };
            run_prepared(&self.function, engine, &self.call, &context, interrupt, prepared)
        };
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "joins the race");
        let ended = catching_panics(&self.function, &self.call, attempt).unwrap_or_else(Attempt::Broken);
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "leaves the race");
        self.end(entered, ended, began.elapsed());
    }

    /// Notes that an engine is ready, and says whether there is still something to win. One that was compiled meanwhile is
    /// weighed anew, unless it is the only one.
    fn may_run(&self, engine: EngineId, weigh: bool) -> bool {
        let mut state = self.lock();
        if state.is_over() || (weigh && state.entries.len() > 1 && !self.still_wins(&state, engine)) {
            return false;
        }
        if let Some(entry) = state.entries.iter_mut().find(|entry| entry.engine == engine) {
            entry.running_since = Some(Instant::now());
        }
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "runs");
        true
    }

    /// What a compile took is worth knowing even where the artifact came too late.
    fn learn_compile(&self, engine: EngineId, prepared: &Prepared) {
        if prepared.compiled_here {
            self.function.brain.with(|scheduler| scheduler.observe_compile(engine, nanoseconds(prepared.compile)));
        }
    }

    fn end(&self, entered: &Entered, ended: Attempt, took: Duration) {
        let engine = entered.engine;
        let mut state = self.lock();
        state.entries.retain(|entry| entry.engine != engine);
        let mut is_useful = false;
        match ended {
            Attempt::Answered(answer) if is_stopped(&answer) && state.cause.is_none() => {
                // Stopped by the race, for one who does better.
            }
            Attempt::Answered(_) | Attempt::Broken(_) if state.is_over() && state.cause.is_none() => {}
            Attempt::Answered(answer) => {
                is_useful = state.answer.is_none();
                if is_useful {
                    state.answer = Some(Attempt::Answered(answer));
                    state.gate = Some(entered.gate.clone());
                }
            }
            Attempt::Broken(error) => {
                state.answer.get_or_insert(Attempt::Broken(error));
            }
            Attempt::Failed(error) => {
                state.left.push(engine);
                state.failures.push(error);
            }
            // It only got ready.
            Attempt::Interrupted => {}
        }
        if state.answer.is_some() {
            for entry in &state.entries {
                entry.interrupt.raise(Cause::Cancelled);
            }
        }
        drop(state);
        self.changed.notify_all();
        if is_useful {
            self.shared.cores.earn(took);
        } else {
            self.shared.cores.spend(took);
        }
    }

    /// Does what the scheduler says, until the race is over or nothing is left to do.
    fn look(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.is_over() && !state.decided {
            let step = self.step(&state);
            if self.call.context.uses_host_streams() && state.must_be_decided(step == RaceStep::Settled) {
                self.decide(&mut state);
                return;
            }
            match step {
                RaceStep::Start(engine) => {
                    let entered = self.enter(&mut state, engine);
                    drop(state);
                    // Somebody else looks on meanwhile.
                    self.send_looker();
                    self.race(&entered, false);
                    state = self.lock();
                }
                RaceStep::Stop(engine) => {
                    state.left.push(engine);
                    if let Some(entry) = state.entries.iter().find(|entry| entry.engine == engine) {
                        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(),
                            "stopped: it cannot win any more");
                        entry.interrupt.raise(Cause::Cancelled);
                    }
                }
                RaceStep::Settled => return,
                RaceStep::Wait { .. } if state.entries.is_empty() => return,
                RaceStep::Wait { ns } => {
                    let wait = Duration::from_nanos(ns).min(HOLD / 10);
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// Ends the race in favour of who is expected to end first, because the world outside cannot wait for its end.
    fn decide(&self, state: &mut State) {
        let running: Vec<EngineId> =
            state.entries.iter().filter(|entry| entry.running_since.is_some()).map(|entry| entry.engine).collect();
        let best = self.ask(state, |scheduler, view, world| scheduler.soonest_racer(view, world));
        let Some(winner) = best.filter(|best| running.contains(best)).or_else(|| running.first().copied()) else {
            return;
        };
        state.decided = true;
        for entry in &state.entries {
            if entry.engine == winner {
                entry.gate.open(write_through);
            } else {
                state.left.push(entry.engine);
                entry.interrupt.raise(Cause::Cancelled);
            }
        }
        tracing::debug!(request = %self.call.id, engine = %winner, since = ?self.began.elapsed(), "decided for");
    }

    /// Waits for the answer, or until nobody is left to bring one. The thread that waits does not race again: it could
    /// be in the middle of a compile when another brings the answer.
    fn wait(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.is_over() {
            drop(state);
            self.send_looker();
            state = self.lock();
        }
        while state.answer.is_none() && !state.entries.is_empty() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn step(&self, state: &State) -> RaceStep {
        self.ask(state, |scheduler, view, world| scheduler.race_step(view, world))
    }

    fn still_wins(&self, state: &State, engine: EngineId) -> bool {
        self.ask(state, |scheduler, view, world| scheduler.may_run(engine, view, world))
    }

    fn ask<T>(&self, state: &State, ask: impl FnOnce(&Scheduler, &RaceView<'_>, &World<'_>) -> T) -> T {
        let mut candidates = self.function.candidates(&self.shared.cores);
        candidates.retain(|candidate| !state.left.contains(&candidate.engine));
        let nanoseconds_since_begin = |moment: Instant| nanoseconds(moment.saturating_duration_since(self.began));
        let racers: Vec<Racer> = state
            .entries
            .iter()
            .filter(|entry| !state.left.contains(&entry.engine))
            .map(|entry| Racer {
                engine: entry.engine,
                running_since_ns: entry.running_since.map(nanoseconds_since_begin),
            })
            .collect();
        let view = RaceView {
            request: self.function.request(&self.call, &candidates),
            racers: &racers,
            elapsed_ns: nanoseconds(self.began.elapsed()),
        };
        self.shared.with_world(|world| self.function.brain.with(|scheduler| ask(scheduler, &view, world)))
    }
}

impl State {
    /// Whether there is an answer, or will be none.
    fn is_over(&self) -> bool {
        self.answer.is_some() || self.cause.is_some() || self.closed
    }

    /// Whether somebody must get the host's own streams now: because nobody can beat who is racing, or because what is
    /// held back has been for long enough.
    fn must_be_decided(&mut self, is_settled: bool) -> bool {
        if is_settled || self.entries.iter().any(|entry| entry.gate.is_needed()) {
            return true;
        }
        if !self.entries.iter().any(|entry| entry.gate.is_wanted()) {
            self.wanted_since = None;
            return false;
        }
        self.wanted_since.get_or_insert_with(Instant::now).elapsed() >= HOLD
    }
}

/// Who is in the race, as its own thread knows it.
struct Entered {
    engine: EngineId,
    interrupt: Interrupt,
    gate: Gate,
}

fn write_through(stream: HostStream, bytes: &[u8]) {
    let written = match stream {
        HostStream::Stdout => std::io::stdout().write_all(bytes),
        HostStream::Stderr => std::io::stderr().write_all(bytes),
    };
    // Whoever read it has gone: the guest finds out by its next write.
    let _ = written;
}

fn is_stopped(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Interrupted { .. })
}
