//! A request's way through engines: tells its [`Flight`] what happens in the simulation, and carries out what that
//! says.

use std::cmp::Reverse;
use std::collections::VecDeque;

use remuda_scheduler::flight::{Action, End, Ending, Event, Situation, Wanted};
use remuda_scheduler::{Candidate, Request, Scheduler, World};

use super::{Racing, Simulation, engine_number};

/// A look at a race. Nothing is wanted, since guests have output of their own.
pub(super) const LOOK: Event = Event::Look { wanted: Wanted::Nothing };

/// The simulated host, as the flight of one of its requests asks it.
struct Asked<'s, 'a> {
    simulation: &'s Simulation<'a>,
    request: u32,
}

impl Situation for Asked<'_, '_> {
    fn ask<T>(&self, ask: impl FnOnce(&Scheduler, &Request<'_>, &World<'_>) -> T) -> T {
        let Self { simulation, request } = *self;
        let function = simulation.arrival(request).function;
        let candidates: Vec<Candidate> = simulation.candidates_of(function).collect();
        let scheduler = &simulation.functions[function as usize].scheduler;
        ask(scheduler, &simulation.request(request, &candidates), &simulation.world(0))
    }
}

impl Simulation<'_> {
    /// Tells a request's flight that something has happened to it.
    pub(super) fn happens(&mut self, request: u32, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Some(mut flight) = self.requests[request as usize].take() else { return };
            let now_ns = self.now_ns - flight.began_ns;
            let actions = flight.flight.on(event, now_ns, &Asked { simulation: self, request });
            self.requests[request as usize] = Some(flight);
            for action in actions {
                events.extend(self.carry_out(request, action));
            }
        }
        self.look_later(request);
        self.close_if_over(request);
    }

    /// Takes note that a guest has run to its end.
    pub(super) fn ended(&mut self, request: u32, engine: usize) {
        let racer = self.take_out(request, engine);
        if let Some(flight) = &mut self.requests[request as usize] {
            flight.answer = racer;
        }
        self.happens(request, Event::Ended { engine: self.table.engines[engine].id, how: End::Answered });
    }

    /// Carries out what a flight says; returns what happens because of it.
    fn carry_out(&mut self, request: u32, action: Action) -> Option<Event> {
        match action {
            Action::Start(engine) => {
                self.totals.hedges += 1;
                self.see(crate::checkers::Event::Joined { request });
                if let Some(flight) = &mut self.requests[request as usize] {
                    flight.was_joined = true;
                }
                return self.enter(request, engine_number(self.table, engine));
            }
            Action::Run(engine) => self.start_guest(request, engine_number(self.table, engine)),
            Action::Dismiss(engine) => drop(self.take_out(request, engine_number(self.table, engine))),
            Action::Stop(engine, _) => {
                let how = self.stop(request, engine_number(self.table, engine))?;
                return Some(Event::Ended { engine, how });
            }
            Action::Deliver(_) => {
                self.tell(request);
                return Some(Event::Delivered);
            }
            Action::GiveUpCompiles => self.give_up_compiles(request),
            Action::Earn(ns) => self.earn(ns),
            Action::Spend(ns) => self.waste(ns),
            // No guest writes to anything outside.
            Action::OpenGate(_) => {}
        }
        None
    }

    /// Stops an engine. A guest stops at once, and an engine that waits for a compiler does not wait for it any longer;
    /// except the first engine, for which the worker that took the request compiles itself.
    fn stop(&mut self, request: u32, engine: usize) -> Option<End> {
        let flight = self.requests[request as usize].as_ref()?;
        let racer = flight.racers.iter().find(|racer| racer.engine == engine)?;
        let how = match racer.running {
            Some((runner, _)) => {
                self.cores.stop(runner);
                End::Stopped
            }
            None if engine == flight.first => return None,
            None => End::Unready,
        };
        self.take_out(request, engine);
        Some(how)
    }

    fn take_out(&mut self, request: u32, engine: usize) -> Option<Racing> {
        let function = self.arrival(request).function;
        let flight = self.requests[request as usize].as_mut()?;
        let at = flight.racers.iter().position(|racer| racer.engine == engine)?;
        let racer = flight.racers.swap_remove(at);
        self.racing -= 1;
        if racer.running.is_some() {
            self.store.unpin((function, engine));
        }
        Some(racer)
    }

    /// Gives up the compiles that were begun for a race and are not done when it is over: they get what cores have
    /// left.
    fn give_up_compiles(&mut self, request: u32) {
        let Some(flight) = &mut self.requests[request as usize] else { return };
        let (first, parts) = (flight.first, std::mem::take(&mut flight.parts));
        self.give_up_parts(&parts);
        let slots = &self.functions[self.arrival(request).function as usize].slots;
        for (engine, slot) in slots.iter().enumerate() {
            if let Some(making) = &slot.making
                && making.owner == Some(request)
                && engine != first
            {
                self.cores.demote(making.runner);
            }
        }
    }

    /// Passes the answer on.
    fn tell(&mut self, request: u32) {
        let Some(mut flight) = self.requests[request as usize].take() else { return };
        if let Some(racer) = flight.answer.take() {
            self.answered(request, &flight, racer.engine, &racer);
        }
        self.requests[request as usize] = Some(flight);
    }

    /// Closes a request whose flight has ended, once the first engine, which its worker runs, has ended, too.
    fn close_if_over(&mut self, request: u32) {
        let Some(flight) = &self.requests[request as usize] else { return };
        let Some(ending) = flight.flight.ending() else { return };
        let first = self.table.engines[flight.first].id;
        if flight.flight.engines().any(|engine| engine == first) {
            return;
        }
        let took_ns = self.now_ns - flight.began_ns;
        if let Ending::Answered { .. } = ending {
            self.tell(request);
        }
        let function = self.arrival(request).function;
        let usual = &mut self.functions[function as usize].usual;
        *usual = usual.after(took_ns);
        self.requests[request as usize] = None;
        self.leave(request);
    }

    /// Remembers when a request is to be looked at.
    pub(super) fn look_later(&mut self, request: u32) {
        let Some(flight) = &mut self.requests[request as usize] else { return };
        flight.look = flight.look.wrapping_add(1);
        let of_flight = flight.flight.look_at_ns().map(|at_ns| flight.began_ns.saturating_add(at_ns));
        if let Some(at_ns) = flight.moves_until_ns.take().or(of_flight) {
            self.looks.push(Reverse((at_ns, request, flight.look)));
        }
    }
}
