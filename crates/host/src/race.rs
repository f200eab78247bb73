//! Several engines at one request: the first to end answers, and the others are stopped and leave no trace.
//!
//! The thread that took the request runs the engine that was decided on. If the request is not answered after a while, a
//! *looker*, on another thread, asks the scheduler what to do: it lets engines join, on its own thread, and stops those
//! that cannot win any more. A thread whose racer was stopped becomes a looker itself. So there is always one who looks,
//! and as many racers as the scheduler wants.

use std::io::Write as _;
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_engine::EngineError;
use remuda_model::{ArtifactState, Cause, EngineId, Gate, GuestContext, HostStream, Interrupt, Outcome};
use remuda_scheduler::tuning::{EARLY_NS, HOLD_NS};
use remuda_scheduler::{RaceStep, RaceView, Racer, Scheduler, World};

use crate::background::{Compiler, Core};
use crate::compile::Urgency;
use crate::execute::{
    Answer, Attempt, Call, CallError, Deliver, catching_panics, nanoseconds, prepare, prepare_for, run_prepared,
};
use crate::function::Function;
use crate::host::Shared;
use crate::load::Cores;
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
    answer: Option<Box<Answer>>,
    /// Why the request was interrupted, if it was.
    cause: Option<Cause>,
    /// Who compiles for those who join.
    compiles: Vec<Compile>,
    /// The winner's gate.
    gate: Option<Gate>,
    /// Since when somebody outside may have been waiting for what a gate holds back.
    wanted_since: Option<Instant>,
    /// When somebody looked last, and how much of the waste since has been accounted for.
    looked: Option<Instant>,
    accounted: Duration,
    /// The race is decided: nobody joins any more.
    decided: bool,
    /// Nobody waits for an answer any more.
    closed: bool,
    /// Tells the caller, until it has been called.
    deliver: Option<Deliver>,
    /// Whether the winner tells the caller, or has told it.
    delivery: Delivery,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Delivery {
    #[default]
    None,
    UnderWay,
    Done,
}

/// A compile for somebody who joins.
struct Compile {
    compiler: Compiler,
    /// Wakes who waits for it.
    waiter: SyncSender<Result<Prepared, Attempt>>,
}

struct Entry {
    engine: EngineId,
    interrupt: Interrupt,
    running_since: Option<Instant>,
    /// Shut until the race is decided for this one; where guests have streams of their own, nobody minds it.
    gate: Gate,
}

const EARLY: Duration = Duration::from_nanos(EARLY_NS);
const HOLD: Duration = Duration::from_nanos(HOLD_NS);

/// Runs a request on `engine`, and lets others join after `look_after` if it has not ended by then. If another one wins,
/// it is that one's thread which calls `deliver`: it has a core, and who took the request would have to be woken.
pub(crate) fn run(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    engine: EngineId,
    look_after: Duration,
    deliver: Deliver,
) -> Attempt {
    let race = Arc::new(Race {
        shared: Arc::clone(shared),
        function: Arc::clone(function),
        call: Arc::clone(call),
        began: Instant::now(),
        state: Mutex::new(State { deliver: Some(deliver), ..State::default() }),
        changed: Condvar::new(),
    });
    let everybody = Arc::clone(&race);
    let stops_with_its_request = {
        let request = interrupt.clone();
        interrupt.listen(move || everybody.stop_all(request.cause().unwrap_or(Cause::Cancelled)))
    };
    let entered = race.lock().enter(engine);
    let stays = shared.background.stay_here();
    let look_after = if call.context.uses_host_streams() { look_after.min(HOLD) } else { look_after };

    // Kept until the answer: after that nobody needs to look.
    let watch = Interrupt::new();
    let looker = Arc::clone(&race);
    let _watched = watch.listen(move || looker.send_looker(Core::ThisOne));
    let is_early = look_after <= EARLY;
    let _armed = (!is_early).then(|| shared.deadlines.arm(race.began, look_after, watch.clone()));
    if is_early {
        let looker = Arc::clone(&race);
        shared.background.race(Core::Another, move || {
            looker.rest_until(look_after);
            looker.look();
        });
    }

    race.race(&entered, true);
    // Whoever answers wakes this thread, and its core may be taken by then.
    drop(stays);
    race.wait();
    drop(stops_with_its_request);
    race.close()
}

/// The caller has been told: who took the request may go on.
struct Delivered<'a>(&'a Race);

impl Drop for Delivered<'_> {
    fn drop(&mut self) {
        self.0.lock().delivery = Delivery::Done;
        self.0.changed.notify_all();
    }
}

/// How the race ended, from its state.
fn result(state: &mut State) -> Attempt {
    if state.delivery != Delivery::None {
        return Attempt::Delivered;
    }
    match (state.answer.take(), state.broken.take(), state.failures.pop()) {
        (Some(mut answer), ..) => {
            // One that the race had stopped, and that ended when its request was stopped, too: that is why there is no other.
            if let (true, Some(cause)) = (is_stopped(&answer), state.cause) {
                answer.outcome = Outcome::Interrupted { cause };
            }
            Attempt::Answered(answer)
        }
        (None, Some(error), _) => Attempt::Broken(error),
        (None, None, Some(failure)) => Attempt::Failed(failure),
        (None, None, None) => Attempt::Interrupted,
    }
}

impl Race {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody waits any more: says how it ended. Who delivers the answer is waited for, so that the request has ended when
    /// this returns.
    fn close(&self) -> Attempt {
        let mut state = self.lock();
        while state.delivery == Delivery::UnderWay {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.closed = true;
        state.give_up_compiles();
        if let Some(gate) = state.gate.take() {
            gate.open(write_through);
        }
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
    fn send_looker(self: &Arc<Self>, on: Core) {
        let race = Arc::clone(self);
        self.shared.background.race(on, move || race.look());
    }

    /// Makes an engine that has entered ready and runs it, to whatever end.
    fn race(&self, entered: &Entered, began_first: bool) {
        let Entered { engine, interrupt, gate } = entered;
        let engine = *engine;
        let _busy = self.shared.cores.work();
        let began = Instant::now();
        let attempt = || {
            let prepared = match self.prepare(engine, interrupt, began_first) {
                Ok(prepared) => prepared,
                Err(ended) => return ended,
            };
            if !self.may_run(engine, !began_first && !prepared.compile.is_zero()) {
                learn_compile(&self.function, engine, &prepared);
                return Attempt::Interrupted;
            }
            self.stop_who_is_beaten();
            if !self.call.context.uses_host_streams() {
                return run_prepared(&self.function, engine, &self.call, &self.call.context, interrupt, prepared);
            }
            let context = GuestContext { gate: Some(gate.clone()), ..self.call.context.clone() };
            run_prepared(&self.function, engine, &self.call, &context, interrupt, prepared)
        };
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "joins the race");
        let ended = catching_panics(&self.function, &self.call, attempt).unwrap_or_else(Attempt::Broken);
        tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(), "leaves the race");
        let has_won = self.end(entered, ended, began.elapsed());
        if has_won && !began_first {
            self.deliver();
        }
    }

    /// Tells the caller the answer, unless who took the request is about to.
    fn deliver(&self) {
        let mut state = self.lock();
        // Why a request was interrupted is said by who took it.
        if state.cause.is_some() {
            return;
        }
        let Some(answer) = state.answer.take() else { return };
        state.delivery = Delivery::UnderWay;
        let deliver = state.deliver.take();
        drop(state);
        let _delivered = Delivered(self);
        if let Some(deliver) = deliver {
            deliver(answer);
        }
    }

    /// Gets an engine ready. Who joins compiles on a thread that can be told to give way, and does not wait for it longer
    /// than the race lasts: then the artifact is for later, and its compiler has only what cores have left.
    fn prepare(&self, engine: EngineId, interrupt: &Interrupt, began_first: bool) -> Result<Prepared, Attempt> {
        let is_ready = self.function.engine(engine).slot.artifact_state() == Some(ArtifactState::InMemory);
        if began_first || is_ready {
            return prepare(&self.shared, &self.function, engine, interrupt);
        }
        // Room for both who may have something to say: neither ever waits.
        let (waiter, wait) = sync_channel(2);
        let (shared, function, interrupt) = (Arc::clone(&self.shared), Arc::clone(&self.function), interrupt.clone());
        let (call, done) = (Arc::clone(&self.call), waiter.clone());
        let compile = move || {
            let prepared = || prepare_for(Urgency::Racer, &shared, &function, engine, &interrupt);
            let prepared = catching_panics(&function, &call, prepared);
            let prepared = prepared.unwrap_or_else(|error| Err(Attempt::Broken(error)));
            if let Err(SendError(Ok(late))) = done.send(prepared) {
                learn_compile(&function, engine, &late);
            }
        };
        let Some(compiler) = self.shared.background.compile_now(compile) else {
            self.lock().left.push(engine);
            return Err(Attempt::Interrupted);
        };
        let compile = Compile { compiler, waiter };
        let mut state = self.lock();
        if state.is_over() {
            compile.give_up();
        } else {
            state.compiles.push(compile);
        }
        drop(state);
        wait.recv().unwrap_or(Err(Attempt::Interrupted))
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

    /// Who has just begun to run may have made others hopeless. It does not wait for somebody who looks: a core that is
    /// wanted is soonest free if it is told from here.
    fn stop_who_is_beaten(&self) {
        let mut state = self.lock();
        while !state.is_over() && !state.decided && state.entries.len() > 1 {
            match self.step(&state) {
                RaceStep::Stop(engine) => self.stop(&mut state, engine),
                RaceStep::Start(_) | RaceStep::Wait { .. } | RaceStep::Settled => return,
            }
        }
    }

    fn stop(&self, state: &mut State, engine: EngineId) {
        state.left.push(engine);
        if let Some(entry) = state.entries.iter().find(|entry| entry.engine == engine) {
            tracing::debug!(request = %self.call.id, %engine, since = ?self.began.elapsed(),
                "stopped: it cannot win any more");
            entry.interrupt.raise(Cause::Cancelled);
        }
    }

    /// Notes how an engine's run ended, and says whether it has won.
    fn end(&self, entered: &Entered, ended: Attempt, took: Duration) -> bool {
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
                is_useful = state.answer.is_none() && state.delivery == Delivery::None;
                if is_useful {
                    state.answer = Some(answer);
                    state.gate = Some(entered.gate.clone());
                }
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
            Attempt::Interrupted | Attempt::Delivered => {}
        }
        if state.answer.is_some() {
            for entry in &state.entries {
                entry.interrupt.raise(Cause::Cancelled);
            }
            // Before anybody is woken: it may be on a compiler's core.
            state.give_up_compiles();
        }
        let accounted = state.accounted.min(took);
        if !is_useful {
            state.accounted -= accounted;
        }
        drop(state);
        self.changed.notify_all();
        if is_useful {
            self.shared.cores.earn(took);
        } else {
            self.shared.cores.spend(took.saturating_sub(accounted));
        }
        is_useful
    }

    /// Waits until so long after the beginning, or until the race is over.
    fn rest_until(&self, after: Duration) {
        let mut state = self.lock();
        while !state.is_over() {
            let left = after.saturating_sub(self.began.elapsed());
            if left.is_zero() {
                return;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Does what the scheduler says, until the race is over or nothing is left to do.
    fn look(self: &Arc<Self>) {
        let mut state = self.lock();
        while !state.is_over() && !state.decided {
            state.account(&self.shared.cores);
            let step = self.step(&state);
            if self.call.context.uses_host_streams() && state.must_be_decided(step == RaceStep::Settled) {
                self.decide(&mut state);
                return;
            }
            match step {
                RaceStep::Start(engine) => {
                    if !std::mem::replace(&mut state.was_joined, true) {
                        self.shared.counters.races.add_one();
                    }
                    let entered = state.enter(engine);
                    drop(state);
                    // Somebody else looks on meanwhile.
                    self.send_looker(Core::Another);
                    self.race(&entered, false);
                    state = self.lock();
                }
                RaceStep::Stop(engine) => self.stop(&mut state, engine),
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
        let best = self.ask(state, Scheduler::soonest_racer);
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
            self.send_looker(Core::ThisOne);
            state = self.lock();
        }
        while state.delivery == Delivery::None && state.answer.is_none() && !state.entries.is_empty() {
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

/// What a compile took is worth knowing even where the artifact came too late.
fn learn_compile(function: &Function, engine: EngineId, prepared: &Prepared) {
    if prepared.compiled_here {
        function.brain.with(|scheduler| scheduler.observe_compile(engine, nanoseconds(prepared.compile)));
    }
}

impl Compile {
    /// The race is over.
    fn give_up(&self) {
        self.compiler.stand_back();
        // Who waited may have gone.
        let _ = self.waiter.send(Err(Attempt::Interrupted));
    }
}

impl State {
    fn enter(&mut self, engine: EngineId) -> Entered {
        let (interrupt, gate) = (Interrupt::new(), Gate::default());
        if let Some(cause) = self.cause {
            interrupt.raise(cause);
        }
        self.entries.push(Entry { engine, interrupt: interrupt.clone(), running_since: None, gate: gate.clone() });
        Entered { engine, interrupt, gate }
    }

    fn give_up_compiles(&mut self) {
        for compile in self.compiles.drain(..) {
            compile.give_up();
        }
    }

    /// Whether there is an answer, or will be none.
    fn is_over(&self) -> bool {
        self.answer.is_some() || self.cause.is_some() || self.closed || self.delivery != Delivery::None
    }

    /// Accounts for the waste of the race so far: all but one of those that run.
    fn account(&mut self, cores: &Cores) {
        let now = Instant::now();
        let running = self.entries.iter().filter(|entry| entry.running_since.is_some()).count();
        if let (Some(looked), Some(losers)) = (self.looked, running.checked_sub(1))
            && losers > 0
        {
            let wasted = (now - looked) * u32::try_from(losers).unwrap_or(u32::MAX);
            self.accounted += wasted;
            cores.spend(wasted);
        }
        self.looked = Some(now);
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

#[cfg(test)]
mod tests {
    use remuda_model::{GuestContext, GuestLimits};

    use super::*;
    use crate::execute::cut_short;
    use crate::{FunctionSpec, Host, HostConfig};

    const ENGINES: [EngineId; 3] = [EngineId::new("first"), EngineId::new("second"), EngineId::new("third")];

    /// A race between these three, of which none runs by itself.
    fn race() -> (Host, Arc<Race>) {
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

    /// Ends the engines one after the other, and says who answered or what else came of it, and who was stopped.
    fn ends(endings: [Attempt; 3]) -> (String, Vec<bool>) {
        let (_host, race) = race();
        let all = ENGINES.map(|engine| race.lock().enter(engine));
        for (entered, ending) in all.iter().zip(endings) {
            race.end(entered, ending, Duration::ZERO);
        }
        let result = match race.close() {
            Attempt::Answered(answer) => answer.engine.unwrap().to_string(),
            Attempt::Failed(error) => error.to_string(),
            Attempt::Broken(error) => error.to_string(),
            Attempt::Interrupted => "interrupted".into(),
            Attempt::Delivered => "delivered".into(),
        };
        (result, all.iter().map(|entered| entered.interrupt.cause().is_some()).collect())
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
    fn who_waits_for_a_compile_waits_no_longer_than_the_race_lasts() {
        let (_host, race) = race();
        for is_answered in [true, false] {
            let (waiter, wait) = sync_channel(2);
            let (go_on, blocked) = sync_channel::<()>(0);
            let compiler = race.shared.background.compile_now(move || _ = blocked.recv()).unwrap();
            race.lock().compiles.push(Compile { compiler, waiter });
            if is_answered {
                let first = race.lock().enter(ENGINES[0]);
                race.end(&first, answered(ENGINES[0], Outcome::Returned), Duration::ZERO);
            } else {
                race.close();
            }
            assert!(matches!(wait.recv().unwrap(), Err(Attempt::Interrupted)));
            drop(go_on);
        }
    }

    #[test]
    fn a_race_is_not_over_before_the_answer_is_delivered() {
        let (_host, race) = race();
        let (begun, has_begun) = sync_channel(0);
        let (go_on, may_go_on) = sync_channel::<()>(0);
        let is_told = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let told = Arc::clone(&is_told);
        race.lock().deliver = Some(Box::new(move |_| {
            begun.send(()).unwrap();
            may_go_on.recv().unwrap();
            told.store(true, std::sync::atomic::Ordering::SeqCst);
        }));
        let second = race.lock().enter(ENGINES[1]);
        race.end(&second, answered(ENGINES[1], Outcome::Returned), Duration::ZERO);
        std::thread::scope(|scope| {
            scope.spawn(|| race.deliver());
            has_begun.recv().unwrap();
            let closing = scope.spawn(|| {
                race.wait();
                let ended = race.close();
                (matches!(ended, Attempt::Delivered), is_told.load(std::sync::atomic::Ordering::SeqCst))
            });
            go_on.send(()).unwrap();
            assert_eq!(closing.join().unwrap(), (true, true));
        });
    }

    #[test]
    fn an_interrupted_request_stops_everybody_and_says_why() {
        let (_host, race) = race();
        let first = race.lock().enter(ENGINES[0]);
        race.stop_all(Cause::Deadline);
        let late = race.lock().enter(ENGINES[1]);
        assert_eq!((first.interrupt.cause(), late.interrupt.cause()), (Some(Cause::Deadline), Some(Cause::Deadline)));
        race.end(&late, Attempt::Interrupted, Duration::ZERO);
        // The race had stopped it before.
        race.end(&first, answered(ENGINES[0], Outcome::Interrupted { cause: Cause::Cancelled }), Duration::ZERO);
        let Attempt::Answered(answer) = race.close() else { panic!("the guest was interrupted, which is an answer") };
        assert_eq!(answer.outcome, Outcome::Interrupted { cause: Cause::Deadline });
    }
}
