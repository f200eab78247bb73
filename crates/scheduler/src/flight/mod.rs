//! A request in flight: the engines that work on it, and what has to be done when something happens to it.
//!
//! A flight is a state machine and nothing else: it is told what has happened and when ([`Event`]), and says what is to
//! be done ([`Action`]). It has no clock, no lock, no thread, no engine and no answer. Its driver has those: the host,
//! with threads, interrupts and gates; the simulator, with a heap of events; a test, with a list of them. So these
//! three cannot disagree about which engine may join, which has won, and what was for nothing.
//!
//! One engine begins. The driver looks at the flight at [`Flight::look_at_ns`]; then the rules of the
//! module `race` say which engines join and which leave. The phases of a flight:
//!
//! ```text
//! Racing ----------- an engine's guest ends ------------> Delivering -> Ended -> Closed
//!   |  \                                                     (or Ended at once, if the first engine has won)
//!   |   `-- the world outside needs one of them --> Decided --^
//!   `------ the request is interrupted ---------> Interrupted -^
//! ```
//!
//! When all engines have ended without an answer, the flight has ended, too. An engine may end later than its flight:
//! it was told to stop, and the time that it used counts as waste when it ends.

#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;

use remuda_model::{Cause, EngineId};

use crate::race::{self, RaceStep, RaceView, Racer};
use crate::tuning::{HOLD_NS, HOLD_UNREADY_NS, LOOK_EVERY_NS_MAX};
use crate::{Candidate, Request, Scheduler, World};

/// One request's way through engines. All times are in nanoseconds since the decision on the first engine.
#[derive(Clone, Debug)]
pub struct Flight {
    first: EngineId,
    phase: Phase,
    output: Output,
    /// The engines at work, including those that were told to stop and have not ended yet.
    racers: Vec<Entry>,
    /// Engines that were stopped or have failed: they do not join again.
    out: Vec<EngineId>,
    waste: Waste,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No engine has won. `look_at_ns` is when to ask which engines join and which leave; `None` if that would change
    /// nothing.
    Racing { look_at_ns: Option<u64> },
    /// Only this engine can still answer, because the world outside has heard of it.
    Decided { winner: EngineId },
    /// The request's time is up, or nobody waits for it. The first guest that ends gives the answer, with this cause.
    Interrupted { cause: Cause },
    /// The winner passes its answer on.
    Delivering { winner: EngineId },
    /// The thread that took the request need not wait any more.
    Ended(Ending),
    /// The thread that took the request has gone.
    Closed,
}

/// The output of guests, and their input beyond the request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Each guest has its own output: nobody sees it before there is an answer.
    Own,
    /// The output is the process's own, behind a gate for each racer. `wanted_since_ns` is since when somebody outside
    /// may have been waiting for it.
    Held { wanted_since_ns: Option<u64> },
    /// One racer's gate is open.
    Open,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    engine: EngineId,
    entered_ns: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    GettingReady,
    Running {
        since_ns: u64,
    },
    /// The engine was told to stop; `running_since_ns` is as it was then.
    Stopping {
        running_since_ns: Option<u64>,
    },
}

/// The waste of the race: the time of all guests but one that run at a time, whichever wins.
#[derive(Clone, Copy, Debug, Default)]
struct Waste {
    /// Until when the waste has been accounted for.
    noted_until_ns: Option<u64>,
    /// How much of that waste has not been set off yet against the time of a loser that has ended.
    noted_ns: u64,
}

/// An event in the life of a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time of [`Flight::look_at_ns`] has come. A look that comes too early does nothing.
    Look {
        /// Whether what gates hold back is wanted.
        wanted: Wanted,
    },
    /// The same as a look, where the guest of the only racer goes on in better code while it runs, or is about to. No
    /// engine joins it, since that engine would have to do all that the guest has done; but what the guest writes and
    /// reads is seen to.
    Moves {
        /// Whether what gates hold back is wanted.
        wanted: Wanted,
    },
    /// An engine has got ready.
    Ready {
        /// The engine.
        engine: EngineId,
        /// Whether its artifact was made just now: the other racers have got on meanwhile.
        made: bool,
    },
    /// An engine that was started has ended.
    Ended {
        /// The engine.
        engine: EngineId,
        /// The way in which it ended.
        how: End,
    },
    /// The request's deadline has passed, or nobody waits for it any more.
    Interrupted(Cause),
    /// [`Action::Deliver`] has been carried out.
    Delivered,
    /// The thread that took the request has gone.
    Closed,
}

/// How an engine's attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its guest came to an end by itself: that is an answer.
    Answered,
    /// Its guest was stopped.
    Stopped,
    /// The engine could not run the request, and another engine may.
    Failed,
    /// Its guest, or what the guest runs in, broke: the request is not tried again after this flight, but engines in
    /// the race may still answer it.
    Broke,
    /// The engine was let go before it was ready.
    Unready,
}

/// How much somebody wants what the gates hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing is held back.
    Nothing,
    /// Something is held back: somebody outside may be waiting for it.
    Something,
    /// A guest cannot go on without what is held back.
    Needed,
}

/// Something that the driver of a flight has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Get this engine ready, and report [`Event::Ready`].
    Start(EngineId),
    /// Run the guest on this engine, which is ready.
    Run(EngineId),
    /// Let this engine go: it is ready but has nothing to win, and has left the race.
    Dismiss(EngineId),
    /// Stop this engine, for this cause; it reports [`Event::Ended`] when it has stopped.
    Stop(EngineId, Cause),
    /// Let out what this engine's guest writes from here on; what it has written before goes first.
    OpenGate(EngineId),
    /// Give up compiles: nobody waits for them any more, and they get what cores have left.
    GiveUpCompiles,
    /// Have this engine's answer passed on by its thread; then comes [`Event::Delivered`].
    Deliver(EngineId),
    /// So many nanoseconds on a core have answered the request.
    Earn(u64),
    /// So many nanoseconds on a core have answered nothing.
    Spend(u64),
}

/// How a flight has ended, for the thread that took the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The thread that took the request is to pass on this engine's answer.
    Answered {
        /// The engine.
        engine: EngineId,
        /// The cause of an earlier interruption of the request, if there was one.
        cause: Option<Cause>,
    },
    /// This engine's answer was passed on.
    Delivered {
        /// The engine.
        engine: EngineId,
    },
    /// No engine has brought an answer.
    Unanswered,
}

/// The host's present state, which a flight asks when something is to be decided.
pub trait Situation {
    /// Asks the function's scheduler, with all engines that could run the request as they are now.
    fn ask<T>(&self, ask: impl FnOnce(&Scheduler, &Request<'_>, &World<'_>) -> T) -> T;
}

impl Flight {
    /// A flight whose request `first` begins. The driver looks at it for the first time after `look_after_ns`, or
    /// never. `is_held` says whether what guests write is held back behind gates.
    #[must_use]
    pub fn new(first: EngineId, look_after_ns: Option<u64>, is_held: bool) -> Self {
        let (look_at_ns, output) = if is_held {
            (look_after_ns.map(|ns| ns.min(HOLD_NS)), Output::Held { wanted_since_ns: None })
        } else {
            (look_after_ns, Output::Own)
        };
        Self {
            first,
            phase: Phase::Racing { look_at_ns },
            output,
            racers: vec![Entry { engine: first, entered_ns: 0, stage: Stage::GettingReady }],
            out: Vec::new(),
            waste: Waste::default(),
        }
    }

    /// The time of the next look; `None` if there is nothing to look for until something else happens.
    #[must_use]
    pub fn look_at_ns(&self) -> Option<u64> {
        match self.phase {
            Phase::Racing { look_at_ns } => look_at_ns,
            _ => None,
        }
    }

    /// How the flight has ended, once the thread that took the request need not wait any more.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        match self.phase {
            Phase::Ended(ending) => Some(ending),
            _ => None,
        }
    }

    /// Whether an answer can still be won. If not, nobody begins anything for it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Racing { .. } | Phase::Decided { .. })
    }

    /// The engines at work: those that were started and have not ended, whether or not they were told to stop.
    pub fn engines(&self) -> impl Iterator<Item = EngineId> {
        self.racers.iter().map(|entry| entry.engine)
    }

    /// Takes note of what has happened, and says what is to be done, in this order.
    pub fn on(&mut self, event: Event, now_ns: u64, situation: &impl Situation) -> Vec<Action> {
        let mut todo = Vec::new();
        match event {
            Event::Look { wanted } => self.look(wanted, now_ns, situation, &mut todo),
            Event::Moves { wanted } => self.moves(wanted, now_ns, situation, &mut todo),
            Event::Ready { engine, made } => self.ready(engine, made, now_ns, situation, &mut todo),
            Event::Ended { engine, how } => self.ended(engine, how, now_ns, &mut todo),
            Event::Interrupted(cause) => self.interrupted(cause, &mut todo),
            Event::Delivered => {
                if let Phase::Delivering { winner } = self.phase {
                    self.phase = Phase::Ended(Ending::Delivered { engine: winner });
                }
            }
            Event::Closed => self.close(&mut todo),
        }
        todo
    }

    /// Asks which engines join and which leave.
    fn look(&mut self, wanted: Wanted, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        if self.look_at_ns().is_none_or(|at_ns| now_ns < at_ns) {
            return;
        }
        let wasted_ns = self.note_waste(now_ns);
        self.follow(wanted, now_ns, situation, todo);
        // This comes last, as this look did not know of it.
        if wasted_ns > 0 {
            todo.push(Action::Spend(wasted_ns));
        }
    }

    /// Sees to what is wanted of a guest that no engine joins.
    fn moves(&mut self, wanted: Wanted, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        if self.look_at_ns().is_none_or(|at_ns| now_ns < at_ns) || self.active().count() != 1 {
            return;
        }
        if self.must_be_decided(wanted, false, now_ns, situation) {
            return self.decide(now_ns, situation, todo);
        }
        self.phase = Phase::Racing { look_at_ns: Some(now_ns.saturating_add(LOOK_EVERY_NS_MAX)) };
    }

    /// Does what the scheduler says, until it says when to look again.
    fn follow(&mut self, wanted: Wanted, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        loop {
            let step = self.ask(now_ns, situation, race::step);
            if self.must_be_decided(wanted, step == RaceStep::Settled, now_ns, situation) {
                return self.decide(now_ns, situation, todo);
            }
            let look_at_ns = match step {
                RaceStep::Start(engine) => {
                    self.racers.push(Entry { engine, entered_ns: now_ns, stage: Stage::GettingReady });
                    todo.push(Action::Start(engine));
                    // One at a time: the looker that starts it is busy then, and another one looks on.
                    Some(now_ns)
                }
                RaceStep::Stop(engine) => {
                    self.stop(engine, Cause::Cancelled, todo);
                    continue;
                }
                RaceStep::Wait { ns } => Some(now_ns.saturating_add(ns.clamp(1, LOOK_EVERY_NS_MAX))),
                RaceStep::Settled => None,
            };
            self.phase = Phase::Racing { look_at_ns };
            return;
        }
    }

    /// Whether one racer must get the host's own streams now: because no engine can beat those that are racing, or
    /// because output has been held back for long enough. That takes longer if a racer gets ready that would overtake
    /// the running one on a long request: the racer that is chosen keeps the streams, however long the request is, and
    /// the other one, had it run alone, would not have written anything yet either.
    fn must_be_decided(&mut self, wanted: Wanted, is_settled: bool, now_ns: u64, situation: &impl Situation) -> bool {
        let Output::Held { wanted_since_ns } = &mut self.output else { return false };
        match wanted {
            _ if is_settled => true,
            Wanted::Needed => true,
            Wanted::Something => {
                let held_ns = now_ns.saturating_sub(*wanted_since_ns.get_or_insert(now_ns));
                held_ns >= HOLD_UNREADY_NS || held_ns >= HOLD_NS && !self.ask(now_ns, situation, race::may_be_overtaken)
            }
            Wanted::Nothing => {
                *wanted_since_ns = None;
                false
            }
        }
    }

    /// Ends the race in favour of the racer that is expected to end first, because the world outside cannot wait for
    /// the end.
    fn decide(&mut self, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        let running: Vec<EngineId> = self.running().collect();
        let soonest = self.ask(now_ns, situation, race::soonest);
        let Some(winner) = soonest.filter(|soonest| running.contains(soonest)).or(running.first().copied()) else {
            // No guest has begun: there is no racer to decide for yet.
            self.phase = Phase::Racing { look_at_ns: Some(now_ns.saturating_add(LOOK_EVERY_NS_MAX)) };
            return;
        };
        self.phase = Phase::Decided { winner };
        self.output = Output::Open;
        todo.push(Action::OpenGate(winner));
        self.stop_all_but(Some(winner), Cause::Cancelled, todo);
    }

    /// An engine that has got ready runs if there is still something to win. An engine that was made meanwhile is
    /// weighed anew, unless it is the only one. The engine that began is not weighed, as others only joined because it
    /// was late.
    fn ready(&mut self, engine: EngineId, made: bool, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        let is_waited_for = self.active().any(|racer| racer.engine == engine);
        let is_weighed = made && engine != self.first && self.active().count() > 1;
        let may_run = is_waited_for
            && (!is_weighed
                || self.ask(now_ns, situation, |scheduler, view, world| race::may_run(scheduler, engine, view, world)));
        let Some(entry) = self.racers.iter_mut().find(|entry| entry.engine == engine) else { return };
        if may_run {
            entry.stage = Stage::Running { since_ns: now_ns };
            todo.push(Action::Run(engine));
            self.stop_beaten(now_ns, situation, todo);
        } else {
            todo.push(Action::Dismiss(engine));
            self.leave(engine, now_ns, todo);
        }
    }

    /// An engine that has just begun to run may have made others hopeless. They are told at once and not at the next
    /// look, so that a core that is wanted is free soonest.
    fn stop_beaten(&mut self, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        while matches!(self.phase, Phase::Racing { .. }) && self.active().count() > 1 {
            match self.ask(now_ns, situation, race::step) {
                RaceStep::Stop(engine) => self.stop(engine, Cause::Cancelled, todo),
                RaceStep::Start(_) | RaceStep::Wait { .. } | RaceStep::Settled => return,
            }
        }
    }

    fn ended(&mut self, engine: EngineId, how: End, now_ns: u64, todo: &mut Vec<Action>) {
        if !self.racers.iter().any(|entry| entry.engine == engine) {
            return;
        }
        let wins = match (self.phase, how) {
            // This also holds for an engine that was told to stop and had not heard: it is an answer all the same.
            (Phase::Racing { .. }, End::Answered) => true,
            // The output of the winner is out, so no other engine may answer.
            (Phase::Decided { winner }, End::Answered) => winner == engine,
            // The reason for which it was stopped is the answer.
            (Phase::Interrupted { .. }, End::Answered | End::Stopped) => true,
            _ => false,
        };
        if wins {
            return self.answered(engine, now_ns, todo);
        }
        if !self.out.contains(&engine) {
            self.out.push(engine);
        }
        self.leave(engine, now_ns, todo);
    }

    /// The first answer counts.
    fn answered(&mut self, engine: EngineId, now_ns: u64, todo: &mut Vec<Action>) {
        let Some(entry) = self.take_out(engine) else { return };
        self.stop_all_but(None, Cause::Cancelled, todo);
        // This comes before any thread is woken, as that thread may be on a compiler's core.
        todo.push(Action::GiveUpCompiles);
        todo.push(Action::Earn(now_ns.saturating_sub(entry.entered_ns)));
        self.phase = match self.phase {
            // The thread that took a request says why the request was interrupted.
            Phase::Interrupted { cause } => Phase::Ended(Ending::Answered { engine, cause: Some(cause) }),
            // The engine that began runs on that thread, too.
            _ if engine == self.first => Phase::Ended(Ending::Answered { engine, cause: None }),
            // The winner's thread has a core; the thread that took the request would have to be woken.
            _ => {
                todo.push(Action::Deliver(engine));
                Phase::Delivering { winner: engine }
            }
        };
    }

    /// Notes the end of an engine that has not won.
    fn leave(&mut self, engine: EngineId, now_ns: u64, todo: &mut Vec<Action>) {
        let Some(entry) = self.take_out(engine) else { return };
        let took_ns = now_ns.saturating_sub(entry.entered_ns);
        let noted_ns = self.waste.noted_ns.min(took_ns);
        self.waste.noted_ns -= noted_ns;
        todo.push(Action::Spend(took_ns - noted_ns));
        let is_empty = self.racers.is_empty();
        match &mut self.phase {
            Phase::Racing { .. } | Phase::Decided { .. } | Phase::Interrupted { .. } if is_empty => {
                self.phase = Phase::Ended(Ending::Unanswered);
            }
            // Its core is free.
            Phase::Racing { look_at_ns } => *look_at_ns = Some(now_ns),
            _ => {}
        }
    }

    fn interrupted(&mut self, cause: Cause, todo: &mut Vec<Action>) {
        if self.is_open() {
            self.phase = Phase::Interrupted { cause };
            self.stop_all_but(None, cause, todo);
            todo.push(Action::GiveUpCompiles);
        }
    }

    fn close(&mut self, todo: &mut Vec<Action>) {
        self.stop_all_but(None, Cause::Cancelled, todo);
        todo.push(Action::GiveUpCompiles);
        let winner = match self.phase {
            Phase::Ended(Ending::Answered { engine, .. } | Ending::Delivered { engine }) => Some(engine),
            _ => None,
        };
        if let (Some(winner), Output::Held { .. }) = (winner, self.output) {
            todo.push(Action::OpenGate(winner));
        }
        self.phase = Phase::Closed;
    }

    fn stop_all_but(&mut self, winner: Option<EngineId>, cause: Cause, todo: &mut Vec<Action>) {
        let others: Vec<EngineId> =
            self.active().map(|racer| racer.engine).filter(|engine| Some(*engine) != winner).collect();
        for engine in others {
            self.stop(engine, cause, todo);
        }
    }

    fn stop(&mut self, engine: EngineId, cause: Cause, todo: &mut Vec<Action>) {
        let Some(entry) = self.racers.iter_mut().find(|entry| entry.engine == engine) else { return };
        entry.stage = Stage::Stopping { running_since_ns: entry.stage.running_since_ns() };
        self.out.push(engine);
        todo.push(Action::Stop(engine, cause));
    }

    fn take_out(&mut self, engine: EngineId) -> Option<Entry> {
        let at = self.racers.iter().position(|entry| entry.engine == engine)?;
        Some(self.racers.remove(at))
    }

    /// The waste since the last time: the time of all running guests but one.
    fn note_waste(&mut self, now_ns: u64) -> u64 {
        let running = self.racers.iter().filter(|entry| entry.stage.running_since_ns().is_some()).count();
        let since_ns = self.waste.noted_until_ns.replace(now_ns).unwrap_or(now_ns);
        let wasted_ns = now_ns.saturating_sub(since_ns) * running.saturating_sub(1) as u64;
        self.waste.noted_ns += wasted_ns;
        wasted_ns
    }

    /// The engines that may still win.
    fn active(&self) -> impl Iterator<Item = Racer> {
        self.racers.iter().filter_map(|entry| {
            let running_since_ns = match entry.stage {
                Stage::GettingReady => None,
                Stage::Running { since_ns } => Some(since_ns),
                Stage::Stopping { .. } => return None,
            };
            Some(Racer { engine: entry.engine, running_since_ns })
        })
    }

    /// The engines that may still win and whose guests run.
    fn running(&self) -> impl Iterator<Item = EngineId> {
        self.active().filter(|racer| racer.running_since_ns.is_some()).map(|racer| racer.engine)
    }

    /// Asks the scheduler, leaving aside the engines that do not join again.
    fn ask<T>(
        &self,
        now_ns: u64,
        situation: &impl Situation,
        ask: impl FnOnce(&Scheduler, &RaceView<'_>, &World<'_>) -> T,
    ) -> T {
        let racers: Vec<Racer> = self.active().collect();
        situation.ask(|scheduler, request, world| {
            let is_in = |candidate: &&Candidate| !self.out.contains(&candidate.engine);
            // A guest that is raced does not go on in another engine's code.
            let stays = |candidate: &Candidate| Candidate { goes_on_in: None, ..*candidate };
            let candidates: Vec<Candidate> = request.candidates.iter().filter(is_in).map(stays).collect();
            let request = Request { candidates: &candidates, ..*request };
            ask(scheduler, &RaceView { request, racers: &racers, elapsed_ns: now_ns }, world)
        })
    }
}

impl Stage {
    fn running_since_ns(self) -> Option<u64> {
        match self {
            Self::GettingReady => None,
            Self::Running { since_ns } => Some(since_ns),
            Self::Stopping { running_since_ns } => running_since_ns,
        }
    }
}
