//! One engine's attempt at a request: prepare, instantiate, execute. Which engine that is, and what follows from a
//! failure, is decided in `execute` and `race`.

use std::time::Instant;

use remuda_engine::{EngineError, Extent, Instance, InstantiateError, Part};
use remuda_model::{EngineId, GuestContext, HttpAnswer, Interrupt, Outcome, Phases, take_waited};

use super::reuse::Kept;
use crate::artifact::compile::Urgency;
use crate::artifact::make::Prepared;
use crate::artifact::slot::NotPrepared;
use crate::call::{Answer, Call, CallError, cut_short};
use crate::function::{EngineSlot, Function};
use crate::prepare::prepare;
use crate::shared::Shared;
use crate::time::nanoseconds;

/// The end of one engine's attempt at a request.
pub(crate) enum Attempt {
    /// The guest ended, one way or another.
    Answered(Box<Answer>),
    /// The guest ended, and the caller has been told.
    Delivered,
    /// The engine could not run the request, and another engine may try.
    Failed(EngineError),
    /// No engine can answer any more.
    Broken(CallError),
    /// The request's time was up before a guest ran.
    Interrupted,
}

impl From<NotPrepared> for Attempt {
    fn from(reason: NotPrepared) -> Self {
        match reason {
            NotPrepared::Engine(error) => Self::Failed(error),
            NotPrepared::Interrupted => Self::Interrupted,
        }
    }
}

pub(crate) fn attempt(
    shared: &Shared,
    function: &Function,
    engine: EngineId,
    call: &Call,
    interrupt: &Interrupt,
) -> Attempt {
    match prepare_for_request(shared, function, engine, interrupt) {
        Ok(prepared) => run_prepared(function, engine, call, &call.context, interrupt, prepared, |_, _| ()),
        Err(ended) => ended,
    }
}

/// Gets an engine ready to run a request that waits for it.
pub(crate) fn prepare_for_request(
    shared: &Shared,
    function: &Function,
    engine: EngineId,
    interrupt: &Interrupt,
) -> Result<Prepared, Attempt> {
    let is_other = |other: &&EngineSlot| other.known.id != engine && other.slot.failure().is_none();
    let urgency =
        if function.engines.iter().any(|other| is_other(&other)) { Urgency::Request } else { Urgency::OnlyWay };
    Ok(prepare(urgency, shared, function, engine, interrupt)?)
}

/// Makes an instance and calls it, in a world that may be narrower than the call's own. `begun` is shown the instance
/// before that is called, and the parts that it was offered.
pub(crate) fn run_prepared(
    function: &Function,
    engine: EngineId,
    call: &Call,
    context: &GuestContext,
    interrupt: &Interrupt,
    prepared: Prepared,
    begun: impl FnOnce(&dyn Instance, &[(Part, Extent)]),
) -> Attempt {
    let Prepared { artifact, compile, load, was, .. } = prepared;
    let phases = Phases { compile_ns: nanoseconds(compile), load_ns: nanoseconds(load), ..Phases::default() };
    let mut answer = Box::new(Answer { engine: Some(engine), ..cut_short(Outcome::Returned, Some(was), phases) });
    let idle = &function.engine(engine).idle;
    let began = Instant::now();
    if let Some(Kept { instance, uses, .. }) = function.spec.reuse.and_then(|_| idle.take()) {
        let instance = instance.wake(context, interrupt);
        answer.phases.instantiate_ns = nanoseconds(began.elapsed());
        let ended = call_instance(function, call, instance, uses, answer.clone());
        // What an earlier request has left behind may be why it failed.
        let has_failed = matches!(&ended, Attempt::Answered(answer) if has_failed(answer));
        if !has_failed || !function.may_repeat(&call.context) {
            return ended;
        }
        if interrupt.cause().is_some() {
            // There is no time left for that here.
            return Attempt::Interrupted;
        }
    }
    let began = Instant::now();
    let instantiated = artifact.instantiate(context, &call.limits, interrupt);
    answer.phases.instantiate_ns = nanoseconds(began.elapsed());
    match instantiated {
        Ok(instance) => {
            begun(&*instance, &function.parts.offer_to(&*instance));
            call_instance(function, call, instance, 0, answer)
        }
        Err(InstantiateError::Guest { outcome, output }) => {
            answer.outcome = outcome;
            answer.output = *output;
            Attempt::Answered(answer)
        }
        Err(InstantiateError::Engine(error)) => {
            // No code of the guest has run unless it has a start function: another engine may try.
            let is_over = !error.another_engine_may_do() || function.module.has_start();
            if is_over || matches!(error, EngineError::WouldWait { .. }) {
                return Attempt::Broken(error.into());
            }
            function.engine(engine).slot.fail_on_guest(error.clone());
            Attempt::Failed(error)
        }
    }
}

/// Whether a guest has failed, and nothing of it has reached its client.
fn has_failed(answer: &Answer) -> bool {
    !answer.outcome.is_success() && matches!(answer.output.answer, HttpAnswer::None | HttpAnswer::Refused(_))
}

/// Calls an instance that has answered so many requests before, and completes `answer`.
fn call_instance(
    function: &Function,
    call: &Call,
    mut instance: Box<dyn Instance>,
    uses: u32,
    mut answer: Box<Answer>,
) -> Attempt {
    let slot = function.engine(answer.engine.expect("an attempt has an engine"));
    let _ = take_waited();
    let began = Instant::now();
    let called = instance.call(&call.entry);
    answer.phases.execute_ns = nanoseconds(began.elapsed().saturating_sub(take_waited()));
    answer.stays = instance.moves().map(|moves| moves.stays()).unwrap_or_default();
    answer.output = if function.spec.reuse.is_some_and(|reuse| uses + 1 < reuse.uses_max) {
        let (output, instance) = instance.into_idle();
        if let Some(instance) = instance {
            slot.idle.put(Kept::new(instance, uses + 1));
        }
        output
    } else {
        instance.into_output()
    };
    match called {
        Ok(called) => {
            slot.slot.note_no_loss();
            answer.outcome = called.outcome;
            answer.values = called.values;
            answer.refused_growth = called.refused_growth;
            Attempt::Answered(answer)
        }
        Err(error @ EngineError::Lost { .. }) => {
            slot.slot.fail_on_guest(error.clone());
            if function.may_repeat(&call.context) {
                return Attempt::Failed(error);
            }
            Attempt::Broken(CallError::NotRepeated { error })
        }
        Err(error) => Attempt::Broken(error.into()),
    }
}
