//! The policy of the least expected cost, with whatever is known; and, where two engines may race, of the one that
//! begins first.
//!
//! What was never observed is predicted, from other engines' observations of the function or from its module. A guess
//! may be wrong by orders of magnitude, so without a race its mean counts, which for something so uncertain is far
//! above what is usual: then an engine is chosen whose worst case is mild. With a race, or with a guest that goes on in
//! better code while it runs, another engine takes care of the worst case, and the engine that begins first is as good
//! a beginning as any.

use remuda_model::{ArtifactState, Tier};

use crate::nanoseconds::as_ns;
use crate::scheduler::is_ready;
use crate::tuning::{
    BAD_LUCK, COMPILE_DOUBT, HEAD_START_NS, KNOWN_MIN, LEAVE_ALONE_NS, LEAVE_ALONE_SHARE, LUCK, RACE_GAIN_NS_MIN,
    SHORT_NS, SIGMA_TRANSFER,
};
use crate::{Basis, Candidate, Decision, Prediction, Reason, Request, Scheduler, World};

pub(super) fn decide(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> Option<Decision> {
    let predicted: Vec<Predicted<'_>> = scheduler
        .predict(request, world)
        .map(|(candidate, prediction)| {
            let cost_ns = cost_ns(scheduler, request, world, candidate, &prediction);
            Predicted { candidate, prediction, cost_ns }
        })
        .collect();
    let favourite = predicted.iter().min_by(|a, b| a.cost_ns.total_cmp(&b.cost_ns))?;
    if can_be_helped(scheduler, request, world) {
        let begins_first = predicted
            .iter()
            .map(|one| (one.candidate, &one.prediction))
            .filter(|(candidate, _)| may_be_helped(scheduler, request, world, candidate))
            .min_by(|(_, a), (_, b)| a.before_execution_ns().total_cmp(&b.before_execution_ns()))
            .filter(|(_, first)| {
                // A request that is lucky on one engine is lucky on the other.
                let lucky =
                    |prediction: &Prediction| prediction.before_execution_ns() + prediction.execute_quantile_ns(LUCK);
                // A compile that was never seen may take many times as long: an engine that can run meanwhile bounds
                // the damage.
                first.before_execution_ns() + HEAD_START_NS < favourite.prediction.before_execution_ns()
                    && (lucky(first) < lucky(&favourite.prediction)
                        || is_guess(scheduler, favourite.candidate, &favourite.prediction))
            });
        if let Some((candidate, prediction)) = begins_first
            && candidate.engine != favourite.candidate.engine
            && (favourite.prediction.basis == Basis::Module
                || prediction.total_ns() as f64 > favourite.prediction.total_ns() as f64 + RACE_GAIN_NS_MIN)
        {
            return Some(Decision {
                engine: candidate.engine,
                look_again_after_ns: Some(leave_alone_ns(scheduler, &favourite.prediction)),
                reason: Reason::BeginsFirst {
                    prediction: *prediction,
                    favourite: (favourite.candidate.engine, favourite.prediction.total_ns()),
                },
            });
        }
    }
    let runner_up = predicted
        .iter()
        .filter(|one| one.candidate.engine != favourite.candidate.engine)
        .min_by(|a, b| a.cost_ns.total_cmp(&b.cost_ns))
        .map(|one| (one.candidate.engine, one.prediction.total_ns()));
    let look_again_after_ns = Some(look_again_ns(&favourite.prediction)).filter(|_| {
        may_be_helped(scheduler, request, world, favourite.candidate)
            && could_be_beaten(favourite, &predicted)
            && !is_known_to_be_short(&favourite.prediction)
    });
    Some(Decision {
        engine: favourite.candidate.engine,
        look_again_after_ns,
        reason: Reason::Soonest { prediction: favourite.prediction, runner_up },
    })
}

/// A candidate, and what it is expected to cost.
struct Predicted<'a> {
    candidate: &'a Candidate,
    prediction: Prediction,
    cost_ns: f64,
}

fn may_race(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> bool {
    scheduler.policy.may_race() && request.may_race && world.load.may_waste
}

/// Whether a request that begins on the wrong engine may be helped: by a race, or by moving its guest. A move does
/// nothing twice, and is for guests of interpreters.
fn may_be_helped(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>, begun_on: &Candidate) -> bool {
    let moves = scheduler.policy.may_race() && request.can_move && begun_on.tier == Tier::Interpreter;
    moves || may_race(scheduler, request, world)
}

/// Whether a request can be helped from its beginning, on some engine. That takes another core: without one, the
/// request may stay on the wrong engine for as long as it takes.
fn can_be_helped(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> bool {
    let may = |candidate| may_be_helped(scheduler, request, world, candidate);
    world.load.idle_cores() > 0 && request.candidates.iter().any(may)
}

/// The expected cost of a candidate: the time to the answer on an idle host, and more for its CPU time the busier the
/// host is.
fn cost_ns(
    scheduler: &Scheduler,
    request: &Request<'_>,
    world: &World<'_>,
    candidate: &Candidate,
    prediction: &Prediction,
) -> f64 {
    let execute_ns = match prediction.basis {
        Basis::Module => return prediction.mean_ns() + extra_cpu_ns(scheduler, request, world, candidate, prediction),
        // A ready engine may be tried for the price of a try: being wrong once is how one learns. That requests differ
        // is no reason to try one: they do so on all engines.
        Basis::Observed { .. } | Basis::Transferred { .. } if is_ready(candidate) => {
            prediction.execute_ns as f64 * (-0.5 * f64::from(prediction.error.min(SIGMA_TRANSFER))).exp()
        }
        Basis::Observed { .. } | Basis::Transferred { .. } => prediction.execute_ns as f64,
    };
    // Where a known engine can run meanwhile, a compile that takes longer costs nobody anything.
    let is_doubtful = is_guess(scheduler, candidate, prediction) && !can_be_helped(scheduler, request, world);
    let doubt = if is_doubtful { COMPILE_DOUBT } else { 1.0 };
    prediction.before_execution_ns() * doubt
        + execute_ns
        + extra_cpu_ns(scheduler, request, world, candidate, prediction)
}

/// Whether nobody knows how long an engine's compile takes, while it is known how long the function runs.
fn is_guess(scheduler: &Scheduler, candidate: &Candidate, prediction: &Prediction) -> bool {
    candidate.artifact == ArtifactState::Absent
        && candidate.making_since_ns.is_none()
        && prediction.basis != Basis::Module
        && scheduler.profile.engine(candidate.engine).is_none_or(|own| own.compile.ns().is_none())
}

/// The cost of compiling on all cores for others, weighed by how much they want the cores.
fn extra_cpu_ns(
    scheduler: &Scheduler,
    request: &Request<'_>,
    world: &World<'_>,
    candidate: &Candidate,
    prediction: &Prediction,
) -> f64 {
    if candidate.artifact != ArtifactState::Absent || candidate.making_since_ns.is_some() {
        return 0.0;
    }
    let one_core = scheduler.profile.compile_ns(candidate, 1, &scheduler.evidence(request.candidates, world));
    (one_core - prediction.ready_ns as f64).max(0.0) * world.load.pressure()
}

/// How long a request is left alone on an engine that was only chosen because it can begin first, in nanoseconds.
fn leave_alone_ns(scheduler: &Scheduler, favourite: &Prediction) -> u64 {
    match favourite.basis {
        // The favourite is known to be better: there is nothing to wait for.
        Basis::Observed { .. } | Basis::Transferred { .. } => 0,
        // Nothing in the module should take long.
        Basis::Module if scheduler.features.loops == 0 => as_ns(*LEAVE_ALONE_NS.end()),
        Basis::Module => {
            let share = favourite.ready_ns as f64 * LEAVE_ALONE_SHARE;
            as_ns(share.clamp(*LEAVE_ALONE_NS.start(), *LEAVE_ALONE_NS.end()))
        }
    }
}

/// The time at which a request that should have ended long ago is looked at again, in nanoseconds after its decision.
fn look_again_ns(favourite: &Prediction) -> u64 {
    as_ns(favourite.before_execution_ns() + favourite.execute_quantile_ns(BAD_LUCK) + LEAVE_ALONE_NS.start())
}

/// Whether a request is over before a second look at it would be worth the microseconds that arming a clock costs. If,
/// against all experience, such a request is not over by then, the next requests learn from it.
fn is_known_to_be_short(favourite: &Prediction) -> bool {
    let over_ns = favourite.execute_quantile_ns(BAD_LUCK) + LEAVE_ALONE_NS.start();
    matches!(favourite.basis, Basis::Observed { count } if count >= KNOWN_MIN) && over_ns < SHORT_NS
}

/// Whether another engine runs the function faster once it is ready. If the guest goes on in another engine's code,
/// this is taken to be so, since the guest may be at a place where it cannot go on.
fn could_be_beaten(favourite: &Predicted<'_>, predicted: &[Predicted<'_>]) -> bool {
    if favourite.candidate.goes_on_in.is_some() {
        return true;
    }
    predicted.iter().any(|one| one.prediction.execute_ns < favourite.prediction.execute_ns)
}

#[cfg(test)]
mod tests {
    use remuda_model::EngineId;

    use super::*;
    use crate::Policy;
    use crate::testing::{BASELINE, Case, HOUR, INTERPRETER, MS, OPTIMIZING};

    /// A function that each engine has run `times` times for so long, with everything ready.
    fn observed(times: usize, execute_ns: [(EngineId, u64); 3]) -> Case {
        let mut case = Case::new(Policy::Adaptive, 2);
        case.ready(&[INTERPRETER, BASELINE, OPTIMIZING]);
        for (engine, ns) in execute_ns {
            for _ in 0..times {
                case.observe(engine, ns);
            }
        }
        case
    }

    #[test]
    fn of_observed_engines_the_fastest_runs() {
        for (fastest, ns) in [
            (INTERPRETER, [(INTERPRETER, MS), (BASELINE, 2 * MS), (OPTIMIZING, 3 * MS)]),
            (BASELINE, [(INTERPRETER, 9 * MS), (BASELINE, 2 * MS), (OPTIMIZING, 3 * MS)]),
            (OPTIMIZING, [(INTERPRETER, 9 * MS), (BASELINE, 2 * MS), (OPTIMIZING, MS)]),
        ] {
            for times in [3, 20] {
                assert_eq!(observed(times, ns).decide().engine, fastest, "{times} times");
            }
        }
    }

    #[test]
    fn where_it_may_not_be_raced_the_worst_case_counts() {
        // The more code, the more a compile costs; the more input, the longer the request may run.
        for (code_bytes, input_bytes, expected) in
            [(1_000_000, 0, INTERPRETER), (100_000, 5_000, BASELINE), (100_000, 1_000_000, OPTIMIZING)]
        {
            let mut case = Case::new(Policy::Hedged, 2);
            case.may_race = false;
            case.input_bytes = Some(input_bytes);
            case.scheduler.features.code_bytes = code_bytes;
            let decision = case.decide();
            assert_eq!((decision.engine, decision.look_again_after_ns), (expected, None), "{code_bytes} {input_bytes}");
        }
    }

    #[test]
    fn a_request_whose_guest_goes_on_elsewhere_is_looked_at_as_it_may_come_to_where_it_cannot() {
        let is_looked_at = |goes_on_in| {
            let mut case = observed(5, [(INTERPRETER, 80 * MS), (BASELINE, 30 * MS), (OPTIMIZING, 20 * MS)]);
            case.scheduler.policy = Policy::Hedged;
            // No engine is known to be faster than the code that the guest goes on in.
            for engine in [BASELINE, OPTIMIZING] {
                case.candidate(engine).artifact = ArtifactState::Absent;
            }
            case.candidate(INTERPRETER).goes_on_in = goes_on_in;
            let decision = case.decide();
            assert_eq!(decision.engine, INTERPRETER);
            decision.look_again_after_ns.is_some()
        };
        assert!(is_looked_at(Some(OPTIMIZING)));
        assert!(is_looked_at(None), "others run it faster");
    }

    #[test]
    fn what_may_not_be_raced_begins_on_the_interpreter_if_its_guest_can_move() {
        let unknown = |can_move, busy| {
            let mut case = Case::new(Policy::Hedged, 2);
            (case.may_race, case.can_move, case.load.busy) = (false, can_move, busy);
            case.input_bytes = Some(1_000_000);
            case
        };
        for (can_move, busy, expected) in [(true, 1, INTERPRETER), (false, 1, OPTIMIZING), (true, 2, OPTIMIZING)] {
            let decision = unknown(can_move, busy).decide();
            assert_eq!(decision.engine, expected, "{can_move} {busy}");
            assert_eq!(decision.look_again_after_ns.is_some(), expected == INTERPRETER, "{can_move} {busy}");
        }
        // No engine joins it.
        let truth = [INTERPRETER, BASELINE, OPTIMIZING].map(|engine| (engine, MS, 60_000 * MS));
        assert_eq!(unknown(true, 1).race(&truth).joiners(), []);
        // A known function needs no help.
        let mut case = unknown(true, 1);
        case.ready(&[INTERPRETER, OPTIMIZING]);
        for _ in 0..5 {
            case.observe(OPTIMIZING, 10 * MS);
        }
        assert_eq!(case.decide().engine, OPTIMIZING);
    }

    #[test]
    fn without_an_idle_core_no_request_begins_on_a_slow_engine() {
        let mut case = Case::new(Policy::Hedged, 2);
        case.input_bytes = Some(1_000_000);
        assert_eq!(case.decide().engine, INTERPRETER);
        case.load.busy = 2;
        assert_eq!(case.decide().engine, OPTIMIZING);
    }

    #[test]
    fn a_function_seen_on_one_engine_predicts_the_others() {
        let mut case = Case::new(Policy::Adaptive, 2);
        case.ready(&[INTERPRETER]);
        case.observe(INTERPRETER, 1_000 * MS);
        let decision = case.decide();
        assert_eq!(decision.engine, OPTIMIZING, "{}", decision.reason);
        let Reason::Soonest { prediction, .. } = decision.reason else { panic!("{:?}", decision.reason) };
        assert_eq!(prediction.basis, Basis::Transferred { from: INTERPRETER });
        assert!((50 * MS..200 * MS).contains(&prediction.execute_ns), "{prediction:?}");
        // A short request stays where it is.
        let mut case = Case::new(Policy::Adaptive, 2);
        case.ready(&[INTERPRETER]);
        case.observe(INTERPRETER, MS);
        assert_eq!(case.decide().engine, INTERPRETER);
    }

    #[test]
    fn nobody_waits_for_a_compile_that_was_never_seen_and_may_take_longer_than_what_is_known() {
        // 1 MB of code: Cranelift is thought to take 0.5 s for it on two cores, and may take twice as long.
        let large = |may_race, known_ns| {
            let mut case = Case::new(Policy::Hedged, 2);
            case.scheduler.features.code_bytes = 1_000_000;
            case.candidates.retain(|candidate| candidate.engine != BASELINE);
            case.may_race = may_race;
            case.observe(INTERPRETER, known_ns);
            case
        };
        for may_race in [true, false] {
            let decision = large(may_race, 800 * MS).decide();
            // Where the request may be raced, the better engine is compiled meanwhile, from the beginning.
            assert_eq!((decision.engine, decision.look_again_after_ns), (INTERPRETER, may_race.then_some(0)));
            // Where the compile was seen to take a little less, it is worth its price.
            let mut seen = large(may_race, 800 * MS);
            seen.scheduler.observe_compile(OPTIMIZING, 400 * MS);
            assert_eq!(seen.decide().engine, OPTIMIZING, "{may_race}");
        }
        // Where the known engine takes ten seconds, there is no doubt; but compiling on another core costs nothing.
        assert_eq!(large(false, 10_000 * MS).decide().engine, OPTIMIZING);
        assert_eq!(large(true, 10_000 * MS).decide().engine, INTERPRETER);
    }

    #[test]
    fn the_best_engine_changes_with_the_input() {
        let mut case = Case::new(Policy::Adaptive, 2);
        case.ready(&[BASELINE, OPTIMIZING]);
        // The baseline engine starts at once and takes 100 ns a byte; the optimizing one sets up for 10 ms and takes 10
        // ns a byte.
        for bytes in [1_000, 10_000, 100_000, 1_000_000] {
            case.input_bytes = Some(bytes);
            for _ in 0..3 {
                case.observe(BASELINE, 100 * bytes);
                case.observe(OPTIMIZING, 10 * MS + 10 * bytes);
            }
        }
        for (bytes, expected) in
            [(1_000, BASELINE), (30_000, BASELINE), (300_000, OPTIMIZING), (10_000_000, OPTIMIZING)]
        {
            case.input_bytes = Some(bytes);
            assert_eq!(case.decide().engine, expected, "{bytes} bytes");
        }
    }

    #[test]
    fn what_is_in_the_making_costs_what_is_left_of_it() {
        let mut case = observed(3, [(INTERPRETER, 90 * MS), (BASELINE, 30 * MS), (OPTIMIZING, 10 * MS)]);
        case.ready(&[BASELINE]);
        case.candidate(OPTIMIZING).artifact = ArtifactState::Absent;
        assert_eq!(case.decide().engine, BASELINE, "48 ms of compiling do not pay");
        for (since_ns, expected) in [(5 * MS, BASELINE), (40 * MS, OPTIMIZING), (200 * MS, BASELINE)] {
            case.candidate(OPTIMIZING).making_since_ns = Some(HOUR - since_ns);
            assert_eq!(case.decide().engine, expected, "under way for {since_ns}: late ones may take as long again");
        }
    }

    #[test]
    fn requests_that_differ_for_no_visible_reason_do_not_make_a_slow_engine_look_fast() {
        let mut case = Case::new(Policy::Adaptive, 2);
        case.ready(&[INTERPRETER, BASELINE, OPTIMIZING]);
        // The work varies from 1 to 1,000, and it so happened that the fast engine had the long requests.
        for work in [1, 1_000, 2, 500, 1, 3, 700, 1, 2, 1] {
            case.observe(INTERPRETER, 10 * work * MS);
        }
        for work in [800, 900] {
            case.observe(OPTIMIZING, work * MS);
        }
        assert_ne!(case.decide().engine, INTERPRETER);
        // The slower engine had two short requests, and the faster one all the long ones, as races have it.
        let mut case = Case::new(Policy::Adaptive, 2);
        case.ready(&[INTERPRETER, BASELINE, OPTIMIZING]);
        for _ in 0..2 {
            case.observe(BASELINE, 45 * MS);
        }
        for _ in 0..14 {
            case.observe(OPTIMIZING, 3_500 * MS);
        }
        assert_eq!(case.decide().engine, OPTIMIZING);
    }
}
