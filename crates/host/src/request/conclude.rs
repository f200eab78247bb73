//! The end of a request: its answer is completed, and the host learns from it.

use std::sync::Arc;
use std::time::Duration;

use remuda_model::Observation;
use remuda_scheduler::Decision;

use crate::call::{Answer, Call};
use crate::function::Function;
use crate::idle::{prewarm, tier_up};
use crate::shared::Shared;
use crate::time::{nanoseconds, unix_ms};

/// Completes an answer and learns from it.
pub(crate) fn conclude(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Call,
    queued: Duration,
    decision: &Decision,
    answer: &mut Answer,
) {
    answer.phases.queue_ns = nanoseconds(queued);
    let mut reason = reason(decision, answer);
    if !answer.stays.is_empty() {
        shared.counters.moved.add_one();
        reason = format!("{reason}; then its guest moved: {}", went_on(answer));
    }
    answer.reason = reason.into();
    if answer.engine.is_some_and(|engine| engine != decision.engine) {
        shared.counters.races_overtaken.add_one();
    }
    observe(shared, function, call, answer);
}

fn reason(decision: &Decision, answer: &Answer) -> String {
    match answer.engine {
        Some(engine) if engine != decision.engine => {
            format!("{} began ({}), and {engine} overtook it", decision.engine, decision.reason)
        }
        _ => decision.reason.to_string(),
    }
}

/// Says for people in which other engines' code the guest went on, and for how long.
fn went_on(answer: &Answer) -> String {
    let engines = answer.went_on_in().into_iter();
    let words = engines.map(|(engine, ns)| format!("{:.1} ms in {engine}", ns as f64 / 1e6));
    words.collect::<Vec<_>>().join(", ")
}

/// What an answer tells of the engine that gave it.
pub(super) fn observation(function: &Function, call: &Call, answer: &Answer) -> Option<Observation> {
    Some(Observation {
        module: function.module.digest(),
        workload: function.workload,
        engine: answer.engine?,
        phases: answer.phases,
        artifact: answer.artifact,
        input_bytes: call.input_bytes(),
        output_bytes: answer.output.stdout.len() as u64 + answer.output.answer.body_bytes(),
        outcome: answer.outcome.clone(),
        unix_ms: unix_ms(),
    })
}

fn observe(shared: &Arc<Shared>, function: &Arc<Function>, call: &Call, answer: &Answer) {
    let Some(observation) = observation(function, call, answer) else { return };
    let engine = observation.engine;
    let candidates = function.candidates(&shared.cores);
    let stays = answer.went_on_in();
    let tier_up = if stays.is_empty() {
        shared.observe(vec![observation.clone()]);
        if shared.one_call {
            function.scheduler.with(|scheduler| {
                shared.with_world(|world| scheduler.observe(&observation, &candidates, world));
            });
            None
        } else {
            shared.with_world(|world| function.scheduler.observe(observation, &candidates, world))
        }
    } else {
        // Several engines have run the request, so it counts for none of them alone.
        function.scheduler.with(|scheduler| {
            shared.with_world(|world| {
                scheduler.observe_moved(&observation, &stays, &candidates, world);
                scheduler.tier_up(&candidates, world)
            })
        })
    };
    if shared.one_call {
        // The process asks what is worth making ready for later when it is about to end.
        return;
    }
    if let Some(tier_up) = tier_up {
        tier_up::start(shared, function, &tier_up);
    }
    prewarm::answered(shared, function, engine, answer.artifact, answer.phases.total_ns());
}
