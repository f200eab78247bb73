//! A request in flight: the engines that are at it, and what has to be done when something happens to it.
//!
//! This is a state machine and nothing else: it is told what has happened and when ([`Event`]), and says what is to be done
//! ([`Action`]). It has no clock, no lock, no thread, no engine and no answer. Whoever drives it has those: the host, with
//! threads, interrupts and gates; the simulator, with a heap of events; a test, with a list of them. So the three of them
//! cannot disagree about who may join, who has won, and what was for nothing.
//!
//! One engine begins. Whoever drives the flight looks at it at [`Flight::look_at_ns`]; then the [`race`](crate::race)'s
//! rules say who joins and who leaves. Its phases:
//!
//! ```text
//! Racing ----------- an engine's guest ends ------------> Delivering -> Ended -> Closed
//!   |  \                                                     (or Ended at once, if who took the request tells)
//!   |   `-- the world outside needs one of them --> Decided --^
//!   `------ the request is interrupted ---------> Interrupted -^
//! ```
//!
//! Where all engines have ended without an answer, the flight has ended, too. An engine may end later than its flight: it
//! was told to stop, and what it used counts as waste when it does.

#[cfg(test)]
mod orders;
#[cfg(test)]
mod tests;

use remuda_model::{Cause, EngineId};

use crate::race::{self, RaceStep, RaceView, Racer};
use crate::tuning::{HOLD_NS, HOLD_UNREADY_NS, LOOK_EVERY_NS_MAX};
use crate::{Candidate, Request, Scheduler, World};

/// One request's way through engines. All times are in nanoseconds since its first engine was decided on.
#[derive(Clone, Debug)]
pub struct Flight {
    first: EngineId,
    phase: Phase,
    output: Output,
    /// Who is at it, those that were told to stop and have not ended yet included.
    racers: Vec<Entry>,
    /// Engines that were stopped or have failed: they do not come back.
    out: Vec<EngineId>,
    waste: Waste,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has won. `look_at_ns`: when to ask who joins and who leaves; `None` if that would change nothing.
    Racing { look_at_ns: Option<u64> },
    /// Only this engine can still answer, because the world outside has heard of it.
    Decided { winner: EngineId },
    /// The request's time is up, or nobody waits for it. Who ends first says so.
    Interrupted { cause: Cause },
    /// The winner passes its answer on.
    Delivering { winner: EngineId },
    /// Who took the request need not wait any more.
    Ended(Ending),
    /// And does not.
    Closed,
}

/// What guests write, and what they read beyond the request itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// Each has its own: nobody sees it before there is an answer.
    Own,
    /// It is the process's, behind a gate for each racer; and since when somebody outside may have been waiting for it.
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
    /// It was told to stop; `running_since_ns` as it was then.
    Stopping {
        running_since_ns: Option<u64>,
    },
}

/// What the race has wasted: all but one of the guests that run at a time, whoever wins.
#[derive(Clone, Copy, Debug, Default)]
struct Waste {
    /// Until when it has been accounted for.
    noted_until_ns: Option<u64>,
    /// How much of that is not yet some ended loser's.
    noted_ns: u64,
}

/// Something has happened to a request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The time of [`Flight::look_at_ns`] has come. Too early is too early, and does nothing.
    Look {
        /// Whether what gates hold back is wanted.
        wanted: Wanted,
    },
    /// In place of a look: the guest of the only racer goes on in better code while it runs, or is about to. Nobody joins it,
    /// since whoever did would have to do all that it has done; but what it writes and reads is seen to.
    Moves {
        /// Whether what gates hold back is wanted.
        wanted: Wanted,
    },
    /// An engine has got ready.
    Ready {
        /// Which one.
        engine: EngineId,
        /// Whether it was made just now: the others have got on meanwhile.
        made: bool,
    },
    /// An engine that was started has ended.
    Ended {
        /// Which one.
        engine: EngineId,
        /// How.
        how: End,
    },
    /// The request's deadline has passed, or nobody waits for it any more.
    Interrupted(Cause),
    /// [`Action::Deliver`] is done.
    Delivered,
    /// Who took the request has gone.
    Closed,
}

/// How an engine's try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its guest came to an end by itself: that is an answer.
    Answered,
    /// Its guest was stopped.
    Stopped,
    /// It could not, and another may.
    Failed,
    /// Its guest, or what it runs in, broke: another must not try, but one that is at it already may answer.
    Broke,
    /// It was let go before it was ready.
    Unready,
}

/// What is asked for of all that gates hold back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing is held back.
    Nothing,
    /// Something is: somebody outside may be waiting for it.
    Something,
    /// A guest cannot go on without it.
    Needed,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Get this engine ready, and say [`Event::Ready`].
    Start(EngineId),
    /// This engine, which is ready, runs the guest.
    Run(EngineId),
    /// This engine, which is ready, has nothing to win, and has left.
    Dismiss(EngineId),
    /// This engine is to stop, for this cause; it says [`Event::Ended`] when it has.
    Stop(EngineId, Cause),
    /// What this engine's guest writes goes out from here on; what it has written goes first.
    OpenGate(EngineId),
    /// Nobody waits for compiles any more: they get what cores have left.
    GiveUpCompiles,
    /// This engine's answer is to be passed on, by its thread; then comes [`Event::Delivered`].
    Deliver(EngineId),
    /// So many nanoseconds on a core have answered the request.
    Earn(u64),
    /// So many nanoseconds on a core have answered nothing.
    Spend(u64),
}

/// How a flight has ended, for who took the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// This engine's answer is to be passed on by who took the request.
    Answered {
        /// The engine.
        engine: EngineId,
        /// Why the request was interrupted before, if it was.
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

/// Whom a flight asks when something is to be decided.
pub trait Situation {
    /// Asks the function's scheduler, with all that could run the request as they are now.
    fn ask<T>(&self, ask: impl FnOnce(&Scheduler, &Request<'_>, &World<'_>) -> T) -> T;
}

impl Flight {
    /// A request that `first` begins. It is looked at for the first time after `look_after_ns`, or never. `is_held` says
    /// whether what guests write is held back behind gates.
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

    /// When to look next; `None` if there is nothing to look for, unless something else happens.
    #[must_use]
    pub fn look_at_ns(&self) -> Option<u64> {
        match self.phase {
            Phase::Racing { look_at_ns } => look_at_ns,
            _ => None,
        }
    }

    /// How it has ended, once who took the request need not wait any more.
    #[must_use]
    pub fn ending(&self) -> Option<Ending> {
        match self.phase {
            Phase::Ended(ending) => Some(ending),
            _ => None,
        }
    }

    /// Whether an answer can still be won: else nobody begins anything for it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Racing { .. } | Phase::Decided { .. })
    }

    /// Who is at it: those that were started and have not ended, told to stop or not.
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

    /// Asks who joins and who leaves.
    fn look(&mut self, wanted: Wanted, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        if self.look_at_ns().is_none_or(|at_ns| now_ns < at_ns) {
            return;
        }
        let wasted_ns = self.note_waste(now_ns);
        self.follow(wanted, now_ns, situation, todo);
        // Last, as this look did not know of it.
        if wasted_ns > 0 {
            todo.push(Action::Spend(wasted_ns));
        }
    }

    /// Sees to what is wanted of a guest that nobody joins.
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
                    // One at a time: whoever starts it is busy, and somebody else looks on.
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

    /// Whether somebody must get the host's own streams now: because nobody can beat who is racing, or because what is
    /// held back has been for long enough. That is longer if somebody gets ready who would overtake a long request: whoever is
    /// decided for keeps it, however long it is, and alone the other one would not have written anything yet either.
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

    /// Ends the race in favour of who is expected to end first, because the world outside cannot wait for its end.
    fn decide(&mut self, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
        let running: Vec<EngineId> = self.running().collect();
        let soonest = self.ask(now_ns, situation, race::soonest);
        let Some(winner) = soonest.filter(|soonest| running.contains(soonest)).or(running.first().copied()) else {
            // Nobody has begun: there is nobody to decide for yet.
            self.phase = Phase::Racing { look_at_ns: Some(now_ns.saturating_add(LOOK_EVERY_NS_MAX)) };
            return;
        };
        self.phase = Phase::Decided { winner };
        self.output = Output::Open;
        todo.push(Action::OpenGate(winner));
        self.stop_all_but(Some(winner), Cause::Cancelled, todo);
    }

    /// An engine that has got ready runs if there is still something to win. One that was made meanwhile is weighed anew,
    /// unless it is the only one; who began is not, as others only joined because it was late.
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
            self.stop_who_is_beaten(now_ns, situation, todo);
        } else {
            todo.push(Action::Dismiss(engine));
            self.leave(engine, now_ns, todo);
        }
    }

    /// Who has just begun to run may have made others hopeless. That does not wait for the next look: a core that is
    /// wanted is soonest free if they are told at once.
    fn stop_who_is_beaten(&mut self, now_ns: u64, situation: &impl Situation, todo: &mut Vec<Action>) {
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
            // Also if it was told to stop and had not heard: it is an answer all the same.
            (Phase::Racing { .. }, End::Answered) => true,
            // The output of another one is out.
            (Phase::Decided { winner }, End::Answered) => winner == engine,
            // Why it was stopped is the answer.
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
        // Before anybody is woken: they may be on a compiler's core.
        todo.push(Action::GiveUpCompiles);
        todo.push(Action::Earn(now_ns.saturating_sub(entry.entered_ns)));
        self.phase = match self.phase {
            // Why a request was interrupted is said by who took it.
            Phase::Interrupted { cause } => Phase::Ended(Ending::Answered { engine, cause: Some(cause) }),
            // And the engine that began runs on its thread.
            _ if engine == self.first => Phase::Ended(Ending::Answered { engine, cause: None }),
            // It has a core; who took the request would have to be woken.
            _ => {
                todo.push(Action::Deliver(engine));
                Phase::Delivering { winner: engine }
            }
        };
    }

    /// An engine ends that has not won.
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

    /// The waste since the last time: all but one of those that run.
    fn note_waste(&mut self, now_ns: u64) -> u64 {
        let running = self.racers.iter().filter(|entry| entry.stage.running_since_ns().is_some()).count();
        let since_ns = self.waste.noted_until_ns.replace(now_ns).unwrap_or(now_ns);
        let wasted_ns = now_ns.saturating_sub(since_ns) * running.saturating_sub(1) as u64;
        self.waste.noted_ns += wasted_ns;
        wasted_ns
    }

    /// Those that may still win.
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

    /// Of these, those whose guests run.
    fn running(&self) -> impl Iterator<Item = EngineId> {
        self.active().filter(|racer| racer.running_since_ns.is_some()).map(|racer| racer.engine)
    }

    /// Asks the scheduler, leaving those aside that do not come back.
    fn ask<T>(
        &self,
        now_ns: u64,
        situation: &impl Situation,
        ask: impl FnOnce(&Scheduler, &RaceView<'_>, &World<'_>) -> T,
    ) -> T {
        let racers: Vec<Racer> = self.active().collect();
        situation.ask(|scheduler, request, world| {
            let is_in = |candidate: &&Candidate| !self.out.contains(&candidate.engine);
            // A guest that is raced is one that does not go on elsewhere.
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
