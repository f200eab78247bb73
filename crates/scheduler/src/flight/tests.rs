//! Tests of each transition that matters, with literal events. There are three engines: the interpreter begins, and by
//! the shipped calibration the others take 25 and 81 ms to be compiled.

use super::*;
use crate::Policy;
use crate::testing::{BASELINE, Case, INTERPRETER, MS, OPTIMIZING};

const CANCELLED: Cause = Cause::Cancelled;
const LOOK: Event = Event::Look { wanted: Wanted::Nothing };

fn ready(engine: EngineId) -> Event {
    Event::Ready { engine, made: false }
}

fn made(engine: EngineId) -> Event {
    Event::Ready { engine, made: true }
}

fn ended(engine: EngineId, how: End) -> Event {
    Event::Ended { engine, how }
}

/// The actions, without the accounts.
fn deeds(actions: &[Action]) -> Vec<Action> {
    actions.iter().filter(|action| !matches!(action, Action::Earn(_) | Action::Spend(_))).copied().collect()
}

/// A host that is idle except for the request: on eight cores an engine joins at the first look.
fn idle() -> Case {
    Case::new(Policy::Hedged, 8)
}

/// The interpreter runs, and the baseline compiler has joined after 1 ms.
fn raced(case: &Case, is_held: bool) -> Flight {
    let mut flight = Flight::new(INTERPRETER, Some(MS), is_held);
    assert_eq!(flight.on(ready(INTERPRETER), 0, case), [Action::Run(INTERPRETER)]);
    assert_eq!(flight.look_at_ns(), Some(MS));
    assert_eq!(flight.on(LOOK, MS, case), [Action::Start(BASELINE)]);
    assert_eq!(flight.look_at_ns(), Some(MS), "somebody else looks on");
    flight
}

#[test]
fn one_engine_alone_answers_and_who_took_the_request_says_so() {
    let case = idle();
    let mut flight = Flight::new(INTERPRETER, None, false);
    assert_eq!(flight.look_at_ns(), None);
    assert_eq!(flight.on(made(INTERPRETER), 5, &case), [Action::Run(INTERPRETER)]);
    assert_eq!(flight.ending(), None);
    let actions = flight.on(ended(INTERPRETER, End::Answered), 9, &case);
    assert_eq!(actions, [Action::GiveUpCompiles, Action::Earn(9)]);
    assert_eq!(flight.ending(), Some(Ending::Answered { engine: INTERPRETER, cause: None }));
    assert_eq!(flight.on(Event::Closed, 10, &case), [Action::GiveUpCompiles]);
}

#[test]
fn the_first_answer_counts_and_who_brings_it_delivers_it() {
    let case = idle();
    let mut flight = raced(&case, false);
    assert_eq!(flight.on(ready(BASELINE), 2 * MS, &case)[0], Action::Run(BASELINE));
    let actions = flight.on(ended(BASELINE, End::Answered), 3 * MS, &case);
    assert_eq!(
        actions,
        [Action::Stop(INTERPRETER, CANCELLED), Action::GiveUpCompiles, Action::Earn(2 * MS), Action::Deliver(BASELINE)]
    );
    assert_eq!(flight.ending(), None, "it is not over before the caller has been told");
    // An engine that ends late does not answer, and its time was for nothing.
    assert_eq!(flight.on(ended(INTERPRETER, End::Answered), 4 * MS, &case), [Action::Spend(4 * MS)]);
    assert_eq!(flight.ending(), None);
    assert_eq!(flight.on(Event::Delivered, 5 * MS, &case), []);
    assert_eq!(flight.ending(), Some(Ending::Delivered { engine: BASELINE }));
    assert_eq!(flight.engines().count(), 0);
}

#[test]
fn who_began_and_wins_leaves_the_answer_to_who_took_the_request() {
    let case = idle();
    let mut flight = raced(&case, false);
    let actions = flight.on(ended(INTERPRETER, End::Answered), 2 * MS, &case);
    assert_eq!(deeds(&actions), [Action::Stop(BASELINE, CANCELLED), Action::GiveUpCompiles]);
    assert_eq!(flight.ending(), Some(Ending::Answered { engine: INTERPRETER, cause: None }));
    // Its compile was given up: the time until then was for nothing.
    assert_eq!(flight.on(ended(BASELINE, End::Unready), 3 * MS, &case), [Action::Spend(2 * MS)]);
}

#[test]
fn engines_that_fail_or_break_lose_no_request() {
    let case = idle();
    for how in [End::Failed, End::Broke] {
        let mut flight = raced(&case, false);
        assert_eq!(deeds(&flight.on(ended(INTERPRETER, how), 2 * MS, &case)), []);
        assert_eq!((flight.ending(), flight.look_at_ns()), (None, Some(2 * MS)), "its core is free");
        assert_eq!(flight.on(made(BASELINE), 26 * MS, &case), [Action::Run(BASELINE)]);
        let actions = flight.on(ended(BASELINE, End::Answered), 30 * MS, &case);
        assert_eq!(deeds(&actions), [Action::GiveUpCompiles, Action::Deliver(BASELINE)]);
    }
    let mut flight = raced(&case, false);
    for (engine, how) in [(INTERPRETER, End::Failed), (BASELINE, End::Broke)] {
        assert_eq!(flight.ending(), None);
        flight.on(ended(engine, how), 2 * MS, &case);
    }
    assert_eq!(flight.ending(), Some(Ending::Unanswered));
}

#[test]
fn who_has_failed_does_not_come_back() {
    let case = idle();
    let mut flight = raced(&case, false);
    flight.on(ended(BASELINE, End::Failed), 2 * MS, &case);
    let mut joined = Vec::new();
    for ms in 2..200 {
        for action in deeds(&flight.on(LOOK, ms * MS, &case)) {
            joined.push(action);
            flight.on(ended(OPTIMIZING, End::Unready), ms * MS, &case);
        }
    }
    assert_eq!(joined, [Action::Start(OPTIMIZING)]);
}

#[test]
fn an_interrupted_request_stops_everybody_and_says_why() {
    let case = idle();
    let mut flight = raced(&case, false);
    let actions = flight.on(Event::Interrupted(Cause::Deadline), 2 * MS, &case);
    assert_eq!(
        actions,
        [Action::Stop(INTERPRETER, Cause::Deadline), Action::Stop(BASELINE, Cause::Deadline), Action::GiveUpCompiles]
    );
    assert_eq!(flight.look_at_ns(), None);
    assert_eq!(flight.on(made(BASELINE), 3 * MS, &case)[0], Action::Dismiss(BASELINE));
    // That its guest was stopped is the answer; the thread that took the request gives it, whichever engine it is of.
    flight.on(ended(INTERPRETER, End::Stopped), 4 * MS, &case);
    let ending = Ending::Answered { engine: INTERPRETER, cause: Some(Cause::Deadline) };
    assert_eq!(flight.ending(), Some(ending));
    assert_eq!(flight.on(Event::Interrupted(CANCELLED), 5 * MS, &case), [], "the first cause stands");
    assert_eq!(flight.ending(), Some(ending));
}

#[test]
fn a_request_that_is_interrupted_before_any_guest_ran_has_no_answer() {
    let case = idle();
    let mut flight = Flight::new(INTERPRETER, None, false);
    let actions = flight.on(Event::Interrupted(Cause::Deadline), 1, &case);
    assert_eq!(actions, [Action::Stop(INTERPRETER, Cause::Deadline), Action::GiveUpCompiles]);
    assert_eq!(flight.on(made(INTERPRETER), 7, &case), [Action::Dismiss(INTERPRETER), Action::Spend(7)]);
    assert_eq!(flight.ending(), Some(Ending::Unanswered));
}

#[test]
fn who_comes_too_late_to_win_does_not_run() {
    let mut case = idle();
    let mut flight = raced(&case, false);
    // The interpreter is about to end.
    for _ in 0..10 {
        case.observe(INTERPRETER, 20 * MS);
        case.observe(BASELINE, 15 * MS);
    }
    case.ready(&[INTERPRETER, BASELINE]);
    // An engine that was there all the time is not weighed: it has lost no time.
    let mut other = flight.clone();
    assert_eq!(other.on(ready(BASELINE), 19 * MS, &case)[0], Action::Run(BASELINE));
    let actions = flight.on(made(BASELINE), 19 * MS, &case);
    assert_eq!(actions, [Action::Dismiss(BASELINE), Action::Spend(18 * MS)]);
    assert_eq!(flight.look_at_ns(), Some(19 * MS), "its core is free");
    // The engine that began is not weighed either,
    let mut other = Flight::new(BASELINE, Some(0), false);
    other.on(LOOK, 0, &Case::new(Policy::Hedged, 8));
    assert_eq!(other.engines().count(), 2);
    assert_eq!(other.on(made(BASELINE), 19 * MS, &case)[0], Action::Run(BASELINE));
    // nor is the only one.
    let mut alone = Flight::new(BASELINE, None, false);
    assert_eq!(alone.on(made(BASELINE), 19 * MS, &case), [Action::Run(BASELINE)]);
}

#[test]
fn who_begins_to_run_stops_who_is_beaten_at_once() {
    let mut case = idle();
    let mut flight = raced(&case, false);
    for _ in 0..10 {
        case.observe(INTERPRETER, 1000 * MS);
        case.observe(BASELINE, 10 * MS);
    }
    case.ready(&[INTERPRETER, BASELINE]);
    let actions = flight.on(made(BASELINE), 26 * MS, &case);
    assert_eq!(actions, [Action::Run(BASELINE), Action::Stop(INTERPRETER, CANCELLED)]);
    // The interpreter had ended before it heard of that: an answer is an answer.
    let mut lucky = flight.clone();
    let actions = lucky.on(ended(INTERPRETER, End::Answered), 27 * MS, &case);
    assert_eq!(deeds(&actions), [Action::Stop(BASELINE, CANCELLED), Action::GiveUpCompiles]);
    // Otherwise the interpreter leaves no trace.
    assert_eq!(flight.on(ended(INTERPRETER, End::Stopped), 27 * MS, &case), [Action::Spend(27 * MS)]);
    assert_eq!(flight.ending(), None);
}

#[test]
fn all_but_one_of_those_who_run_are_waste_while_they_run() {
    let case = idle();
    let mut flight = raced(&case, false);
    flight.on(ready(BASELINE), MS, &case);
    let spent = |flight: &mut Flight, at_ns: u64| -> u64 {
        let spent = |action: Action| if let Action::Spend(ns) = action { ns } else { 0 };
        flight.on(LOOK, at_ns, &case).into_iter().map(spent).sum()
    };
    let mut noted_ns = 0;
    while noted_ns == 0 {
        let at_ns = flight.look_at_ns().unwrap();
        noted_ns = spent(&mut flight, at_ns.max(MS + 1));
    }
    let at_ns = MS + noted_ns;
    // What was noted is not counted again when the loser ends, and the winner's time is not waste.
    let actions = flight.on(ended(BASELINE, End::Answered), at_ns + 10, &case);
    assert!(actions.contains(&Action::Earn(noted_ns + 10)), "{actions:?}");
    let actions = flight.on(ended(INTERPRETER, End::Stopped), at_ns + 10, &case);
    assert_eq!(actions, [Action::Spend(MS + 10)]);
}

#[test]
fn output_that_is_wanted_decides_the_race() {
    let case = idle();
    // An engine gets ready that would overtake on a long request: output waits for that, but not for ever, and not if
    // the guest waits, too.
    for (wanted, after_ns) in [(Wanted::Needed, 0), (Wanted::Something, HOLD_UNREADY_NS)] {
        let mut flight = raced(&case, true);
        let mut opened = None;
        let mut at_ns = MS;
        while opened.is_none() {
            at_ns = flight.look_at_ns().unwrap().max(at_ns);
            let actions = flight.on(Event::Look { wanted }, at_ns, &case);
            if actions.contains(&Action::OpenGate(INTERPRETER)) {
                opened = Some((at_ns, actions));
            }
        }
        let (at_ns, actions) = opened.unwrap();
        assert!((after_ns..=after_ns + LOOK_EVERY_NS_MAX + MS).contains(&at_ns), "{wanted:?}: after {at_ns}");
        assert!(actions.contains(&Action::Stop(BASELINE, CANCELLED)), "{actions:?}");
        assert_eq!(flight.look_at_ns(), None, "nobody joins any more");
        // The output of two engines must not be mixed: a loser that had ended nevertheless does not answer.
        assert_eq!(deeds(&flight.on(ended(BASELINE, End::Answered), at_ns + 1, &case)), []);
        assert_eq!(flight.ending(), None);
        flight.on(ended(INTERPRETER, End::Answered), at_ns + 2, &case);
        assert_eq!(flight.ending(), Some(Ending::Answered { engine: INTERPRETER, cause: None }));
        assert_eq!(flight.on(Event::Closed, at_ns + 3, &case), [Action::GiveUpCompiles], "its gate is open");
    }
}

#[test]
fn output_does_not_wait_for_long_where_nobody_gets_ready() {
    let case = idle();
    let mut flight = raced(&case, true);
    assert_eq!(flight.on(ready(BASELINE), 10 * MS, &case)[0], Action::Run(BASELINE));
    let mut at_ns = 10 * MS;
    loop {
        at_ns = flight.look_at_ns().expect("it is not decided").max(at_ns);
        let actions = flight.on(Event::Look { wanted: Wanted::Something }, at_ns, &case);
        for action in &actions {
            if let Action::Start(engine) = action {
                flight.on(ready(*engine), at_ns, &case);
            }
        }
        if actions.iter().any(|action| matches!(action, Action::OpenGate(_))) {
            break;
        }
    }
    assert!(at_ns <= HOLD_NS + LOOK_EVERY_NS_MAX + 10 * MS, "after {at_ns}");
}

#[test]
fn nobody_joins_a_guest_that_moves_and_what_it_writes_is_let_out() {
    let case = idle();
    for (wanted, after_ns) in [(Wanted::Nothing, u64::MAX), (Wanted::Needed, 0), (Wanted::Something, HOLD_NS)] {
        let mut flight = Flight::new(INTERPRETER, Some(MS), true);
        flight.on(ready(INTERPRETER), 0, &case);
        let mut opened_ns = u64::MAX;
        // Ordinary looks for that long would have let others join.
        while let Some(at_ns) = flight.look_at_ns().filter(|at_ns| *at_ns < 2 * HOLD_NS) {
            let actions = flight.on(Event::Moves { wanted }, at_ns, &case);
            if actions == [Action::OpenGate(INTERPRETER)] {
                opened_ns = at_ns;
            } else {
                assert_eq!(actions, []);
            }
        }
        let latest_ns = after_ns.saturating_add(LOOK_EVERY_NS_MAX + MS);
        assert!((after_ns..=latest_ns).contains(&opened_ns), "{wanted:?}: after {opened_ns}");
        // If the guest does not move any more, it is raced like any other, unless its output is out.
        let joined = flight.look_at_ns().map(|at_ns| flight.on(LOOK, at_ns, &case));
        assert_eq!(joined.is_some_and(|actions| !actions.is_empty()), wanted == Wanted::Nothing);
        flight.on(ended(INTERPRETER, End::Answered), 3 * HOLD_NS, &case);
        assert_eq!(flight.ending(), Some(Ending::Answered { engine: INTERPRETER, cause: None }));
    }
}

#[test]
fn what_is_held_back_goes_out_when_there_is_an_answer() {
    let case = idle();
    let mut flight = raced(&case, true);
    flight.on(ready(BASELINE), 2 * MS, &case);
    flight.on(ended(BASELINE, End::Answered), 3 * MS, &case);
    flight.on(Event::Delivered, 4 * MS, &case);
    assert_eq!(flight.on(Event::Closed, 5 * MS, &case), [Action::GiveUpCompiles, Action::OpenGate(BASELINE)]);
}

#[test]
fn nobody_is_decided_for_who_has_not_begun_and_somebody_looks_on() {
    // No engine could beat the only one, which is still getting ready.
    let mut case = idle();
    case.candidates.retain(|candidate| candidate.engine == INTERPRETER);
    let mut flight = Flight::new(INTERPRETER, Some(MS), true);
    assert_eq!(flight.on(LOOK, MS, &case), []);
    let at_ns = flight.look_at_ns().expect("its guest may want to read, and wait for ever");
    flight.on(made(INTERPRETER), at_ns, &case);
    assert_eq!(flight.on(LOOK, at_ns, &case), [Action::OpenGate(INTERPRETER)]);
    assert_eq!(flight.look_at_ns(), None);
}

#[test]
fn held_output_is_looked_after_early() {
    assert_eq!(Flight::new(INTERPRETER, Some(10 * HOLD_NS), true).look_at_ns(), Some(HOLD_NS));
    assert_eq!(Flight::new(INTERPRETER, Some(10 * HOLD_NS), false).look_at_ns(), Some(10 * HOLD_NS));
}

#[test]
fn where_nobody_could_do_better_nobody_looks_until_something_happens() {
    let mut case = idle();
    case.candidates.retain(|candidate| candidate.engine == INTERPRETER);
    let mut flight = Flight::new(INTERPRETER, Some(MS), false);
    flight.on(ready(INTERPRETER), 0, &case);
    assert_eq!(flight.on(LOOK, MS - 1, &case), []);
    assert_eq!(flight.look_at_ns(), Some(MS), "too early is too early");
    assert_eq!(flight.on(LOOK, MS, &case), []);
    assert_eq!(flight.look_at_ns(), None);
}

#[test]
fn a_flight_that_is_closed_too_soon_stops_everybody() {
    let case = idle();
    let mut flight = raced(&case, false);
    let actions = flight.on(Event::Closed, 2 * MS, &case);
    let stop = |engine| Action::Stop(engine, CANCELLED);
    assert_eq!(actions, [stop(INTERPRETER), stop(BASELINE), Action::GiveUpCompiles]);
    assert_eq!(flight.on(ended(INTERPRETER, End::Answered), 3 * MS, &case), [Action::Spend(3 * MS)]);
    assert_eq!(flight.on(Event::Closed, 4 * MS, &case), [Action::GiveUpCompiles]);
}
