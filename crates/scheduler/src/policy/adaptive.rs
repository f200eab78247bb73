//! The least expected cost, with whatever is known; and, where two engines may race, the one that begins first.
//!
//! What was never observed is predicted: from other engines' observations of the function, or from its module. A guess
//! may be wrong by orders of magnitude, so without a race its mean counts, which for something so uncertain is far above
//! what is usual: then an engine is chosen whose worst case is mild. With a race the worst case is somebody else's
//! business, and what begins first is as good a beginning as any.

use remuda_model::ArtifactState;

use crate::scheduler::is_ready;
use crate::{Basis, Candidate, Decision, Prediction, Reason, Request, Scheduler, World};

/// How many standard deviations lucky an engine has to be thought to beat the favourite, to be let begin.
const LUCK: f64 = -1.5;
/// How many standard deviations unlucky a request has to be for us to look again whether another engine would do better.
const BAD_LUCK: f64 = 1.5;
/// The least and the most time that a request is left alone: waking another thread costs microseconds on both cores,
/// and a request that is done by then costs nothing more.
const LEAVE_ALONE_NS: std::ops::RangeInclusive<f64> = 50e3..=1e6;
/// The share of the favourite's preparation that a request of which nothing is known is left alone.
const LEAVE_ALONE_SHARE: f64 = 0.02;

pub(super) fn decide(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> Option<Decision> {
    let predicted: Vec<(&Candidate, Prediction)> = scheduler.predict(request, world).collect();
    let cost =
        |(candidate, prediction): &(&Candidate, Prediction)| cost_ns(scheduler, request, world, candidate, prediction);
    let favourite = predicted.iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?;
    // It needs another core to be raced on: else it may be the wrong engine for as long as the request takes.
    if may_race(scheduler, request, world) && world.load.idle_cores() > 0 {
        let begins_first = predicted
            .iter()
            .min_by(|(_, a), (_, b)| a.before_execution_ns().total_cmp(&b.before_execution_ns()))
            .filter(|(_, first)| first.before_execution_ns() + first.execute_quantile_ns(LUCK) < cost(favourite));
        if let Some((candidate, prediction)) = begins_first
            && candidate.engine != favourite.0.engine
        {
            return Some(Decision {
                engine: candidate.engine,
                look_again_after_ns: Some(leave_alone_ns(&favourite.1)),
                reason: Reason::BeginsFirst {
                    prediction: *prediction,
                    favourite: (favourite.0.engine, favourite.1.total_ns()),
                },
            });
        }
    }
    let runner_up = predicted
        .iter()
        .filter(|(candidate, _)| candidate.engine != favourite.0.engine)
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .map(|(candidate, prediction)| (candidate.engine, prediction.total_ns()));
    let look_again_after_ns = (may_race(scheduler, request, world) && could_be_beaten(favourite, &predicted))
        .then(|| look_again_ns(&favourite.1));
    Some(Decision {
        engine: favourite.0.engine,
        look_again_after_ns,
        reason: Reason::Soonest { prediction: favourite.1, runner_up },
    })
}

fn may_race(scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> bool {
    scheduler.policy.may_race() && request.may_race && world.load.may_waste
}

/// What a candidate is expected to cost: time to the answer on an idle host, and the more CPU time the busier it is.
fn cost_ns(
    scheduler: &Scheduler,
    request: &Request<'_>,
    world: &World<'_>,
    candidate: &Candidate,
    prediction: &Prediction,
) -> f64 {
    let execute_ns = match prediction.basis {
        Basis::Module => return prediction.mean_ns() + extra_cpu_ns(scheduler, request, world, candidate, prediction),
        // What is ready may be tried for the price of a try: being wrong once is how one learns.
        Basis::Observed { .. } | Basis::Transferred { .. } if is_ready(candidate) => {
            prediction.execute_quantile_ns(-0.5)
        }
        Basis::Observed { .. } | Basis::Transferred { .. } => prediction.execute_ns as f64,
    };
    prediction.before_execution_ns() + execute_ns + extra_cpu_ns(scheduler, request, world, candidate, prediction)
}

/// What compiling on all cores costs others, weighed by how much they want them.
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
    let one_core = scheduler.profile.compile_ns(candidate, 1, &scheduler.known(request.candidates, world));
    (one_core - prediction.ready_ns as f64).max(0.0) * world.load.pressure()
}

/// How long a request is left alone on an engine that was only chosen because it can begin.
fn leave_alone_ns(favourite: &Prediction) -> u64 {
    match favourite.basis {
        // It is known to be better: there is nothing to wait for.
        Basis::Observed { .. } | Basis::Transferred { .. } => 0,
        Basis::Module => {
            let share = favourite.ready_ns as f64 * LEAVE_ALONE_SHARE;
            as_ns(share.clamp(*LEAVE_ALONE_NS.start(), *LEAVE_ALONE_NS.end()))
        }
    }
}

/// When a request that should have ended long ago is looked at again.
fn look_again_ns(favourite: &Prediction) -> u64 {
    as_ns(favourite.before_execution_ns() + favourite.execute_quantile_ns(BAD_LUCK) + LEAVE_ALONE_NS.start())
}

/// Whether another engine runs the function faster, once it is ready.
fn could_be_beaten(favourite: &(&Candidate, Prediction), predicted: &[(&Candidate, Prediction)]) -> bool {
    predicted.iter().any(|(candidate, prediction)| {
        candidate.engine != favourite.0.engine && prediction.execute_ns < favourite.1.execute_ns
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and durations are not negative"
)]
fn as_ns(ns: f64) -> u64 {
    ns as u64
}
