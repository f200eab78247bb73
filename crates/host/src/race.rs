//! Several engines at one request: the first to end answers, and the others are stopped and leave no trace.
//!
//! The thread that took the request runs the engine that was decided on. If the request is not answered after a while, a
//! *looker*, on another thread, asks the scheduler what to do: it lets engines join, on its own thread, and stops those
//! that cannot win any more. A thread whose racer was stopped becomes a looker itself. So there is always one who looks,
//! and as many racers as the scheduler wants.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_engine::EngineError;
use remuda_model::{Cause, EngineId, Interrupt, Outcome};
use remuda_scheduler::{RaceStep, RaceView, Racer, Scheduler, World};

use crate::execute::{Answer, Attempt, Call, CallError, catching_panics, nanoseconds, prepare, run_prepared};
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
    /// Why nobody can answer, said by an engine that broke: unless another does.
    broken: Option<CallError>,
    /// Whether a second engine has joined.
    was_joined: bool,
    /// The winner's.
    answer: Option<Attempt>,
    /// Why the request was interrupted, if it was.
    cause: Option<Cause>,
    /// Nobody waits for an answer any more.
    closed: bool,
}

struct Entry {
    engine: EngineId,
    interrupt: Interrupt,
    running_since: Option<Instant>,
}

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
    let entered = race.lock().enter(engine);

    // Kept until the answer: after that nobody needs to look.
    let watch = Interrupt::new();
    let looker = Arc::clone(&race);
    let _watched = watch.listen(move || looker.send_looker());
    let _armed = (!look_after.is_zero()).then(|| shared.deadlines.arm(race.began, look_after, watch.clone()));
    if look_after.is_zero() {
        race.send_looker();
    }

    race.race(engine, &entered, true);
    race.wait();
    drop(stops_with_its_request);
    race.close()
}

/// How the race ended, from its state.
fn result(state: &mut State) -> Attempt {
    match (state.answer.take(), state.broken.take(), state.failures.pop()) {
        (Some(Attempt::Answered(mut answer)), ..) => {
            // One that the race had stopped, and that ended when its request was stopped, too: that is why there is no other.
            if let (true, Some(cause)) = (is_stopped(&answer), state.cause) {
                answer.outcome = Outcome::Interrupted { cause };
            }
            Attempt::Answered(answer)
        }
        (Some(answer), ..) => answer,
        (None, Some(error), _) => Attempt::Broken(error),
        (None, None, Some(failure)) => Attempt::Failed(failure),
        (None, None, None) => Attempt::Interrupted,
    }
}

impl Race {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits any more: says how it ended.
    fn close(&self) -> Attempt {
        let mut state = self.lock();
        state.closed = true;
        result(&mut state)
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
    fn race(&self, engine: EngineId, interrupt: &Interrupt, began_first: bool) {
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
            run_prepared(&self.function, engine, &self.call, interrupt, prepared)
        };
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "joins the race");
        let ended = catching_panics(&self.function, &self.call, attempt).unwrap_or_else(Attempt::Broken);
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "leaves the race");
        self.end(engine, ended, began.elapsed());
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

    fn end(&self, engine: EngineId, ended: Attempt, took: Duration) {
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
                state.answer.get_or_insert(Attempt::Answered(answer));
            }
            // The others in the race know nothing of it.
            Attempt::Broken(error) => {
                state.left.push(engine);
                state.broken.get_or_insert(error);
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
        while !state.is_over() {
            match self.step(&state) {
                RaceStep::Start(engine) => {
                    if !std::mem::replace(&mut state.was_joined, true) {
                        self.shared.counters.races.add_one();
                    }
                    let interrupt = state.enter(engine);
                    drop(state);
                    // Somebody else looks on meanwhile.
                    self.send_looker();
                    self.race(engine, &interrupt, false);
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
                    let wait = Duration::from_nanos(ns);
                    state = self.changed.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
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
        self.ask(state, Scheduler::race_step)
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
    fn enter(&mut self, engine: EngineId) -> Interrupt {
        let interrupt = Interrupt::new();
        if let Some(cause) = self.cause {
            interrupt.raise(cause);
        }
        self.entries.push(Entry { engine, interrupt: interrupt.clone(), running_since: None });
        interrupt
    }

    /// Whether there is an answer, or will be none.
    fn is_over(&self) -> bool {
        self.answer.is_some() || self.cause.is_some() || self.closed
    }
}

fn is_stopped(answer: &Answer) -> bool {
    matches!(answer.outcome, Outcome::Interrupted { .. })
}

#[cfg(test)]
mod tests {
    use remuda_model::{GuestContext, GuestLimits};

    use super::*;
    use crate::execute::cut_short;
    use crate::{FunctionSpec, Host, HostConfig};

    const ENGINES: [EngineId; 3] = [EngineId::new("first"), EngineId::new("second"), EngineId::new("third")];

    /// A race between these three, of which none runs by itself.
    fn race() -> (Host, Race) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.wat");
        std::fs::write(&path, "(module (func (export \"_start\")))").unwrap();
        let host = Host::open(&HostConfig::default()).unwrap();
        let engines = Some(vec!["mock".to_owned()]);
        let function = host.deploy(FunctionSpec { engines, ..FunctionSpec::of_module(&path) }, None).unwrap();
        let (context, limits) = (GuestContext::default(), GuestLimits::default());
        let call = Call { id: host.next_request_id(), entry: remuda_model::Entry::Command, context, limits };
        let race = Race {
            shared: Arc::clone(host.shared()),
            function,
            call: Arc::new(call),
            began: Instant::now(),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        (host, race)
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

    /// Ends the engines one after the other, and says who answered or what else came of it, and who was stopped.
    fn ends(endings: [Attempt; 3]) -> (String, Vec<bool>) {
        let (_host, race) = race();
        let interrupts = ENGINES.map(|engine| race.lock().enter(engine));
        for (engine, ending) in ENGINES.into_iter().zip(endings) {
            race.end(engine, ending, Duration::ZERO);
        }
        let result = match race.close() {
            Attempt::Answered(answer) => answer.engine.unwrap().to_string(),
            Attempt::Failed(error) => error.to_string(),
            Attempt::Broken(error) => error.to_string(),
            Attempt::Interrupted => "interrupted".into(),
        };
        (result, interrupts.iter().map(|interrupt| interrupt.cause().is_some()).collect())
    }

    #[test]
    fn the_first_answer_counts_and_engines_that_fail_lose_no_request() {
        let [first, second, third] = ENGINES;
        let ok = |engine| answered(engine, Outcome::Returned);
        let stopped = |engine| answered(engine, Outcome::Interrupted { cause: Cause::Cancelled });
        for (endings, expected, are_stopped) in [
            ([ok(first), stopped(second), stopped(third)], "first", [false, true, true]),
            ([broken(), ok(second), stopped(third)], "second", [false, false, true]),
            ([failed(first), broken(), ok(third)], "third", [false, false, false]),
            // One that was stopped for another does not answer, and one that comes late does not either.
            ([stopped(first), ok(second), ok(third)], "second", [false, false, true]),
            ([ok(first), broken(), failed(third)], "first", [false, true, true]),
            // A trap is an answer.
            (
                [answered(first, Outcome::Exited { code: 3 }), stopped(second), stopped(third)],
                "first",
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
    fn an_interrupted_request_stops_everybody_and_says_why() {
        let (_host, race) = race();
        let first = race.lock().enter(ENGINES[0]);
        race.stop_all(Cause::Deadline);
        let late = race.lock().enter(ENGINES[1]);
        assert_eq!((first.cause(), late.cause()), (Some(Cause::Deadline), Some(Cause::Deadline)));
        race.end(ENGINES[1], Attempt::Interrupted, Duration::ZERO);
        // The race had stopped it before.
        race.end(ENGINES[0], answered(ENGINES[0], Outcome::Interrupted { cause: Cause::Cancelled }), Duration::ZERO);
        let Attempt::Answered(answer) = race.close() else { panic!("the guest was interrupted, which is an answer") };
        assert_eq!(answer.outcome, Outcome::Interrupted { cause: Cause::Deadline });
    }
}
