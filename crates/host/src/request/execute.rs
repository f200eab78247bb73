//! One request, on the thread that runs the guest: decide, attempt, conclude. If the decision allows a race, `race`
//! runs the request.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_engine::EngineError;
use remuda_model::{EngineId, Interrupt, Outcome, Phases};

use super::attempt::{Attempt, attempt};
use super::conclude::conclude;
use super::{inline, race};
use crate::call::{Answer, Call, CallError, Deliver, Done, cut_short};
use crate::function::Function;
use crate::panics::catching_panics;
use crate::shared::Shared;
use crate::time::nanoseconds;

/// The request's [`Done`], until it is called: by the thread that took the request, or by a thread that has won a race
/// for it.
#[derive(Clone)]
struct Caller(Arc<Mutex<Option<Done>>>);

impl Caller {
    fn tell(&self, result: Result<Answer, CallError>) {
        let done = self.0.lock().take();
        if let Some(done) = done {
            done(result);
        }
    }
}

/// Runs a request from decision to observation, and returns how it ended. `queued` is how long the request has waited
/// until now.
pub(crate) fn execute(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    queued: Duration,
) -> Result<Answer, CallError> {
    let (done, told) = sync_channel(1);
    // The channel has room for the result.
    let done = Box::new(move |result| drop(done.send(result)));
    execute_for(shared, function, call, interrupt, queued, done);
    told.recv().expect("the caller is told in any case")
}

/// Like [`execute`], but calls `done` with how the request ended: on this thread, or sooner, on the thread of a racer.
pub(crate) fn execute_for(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    queued: Duration,
    done: Done,
) {
    let caller = Caller(Arc::new(Mutex::new(Some(done))));
    match catching_panics(function.name(), call.id, || run(shared, function, call, interrupt, queued, &caller)) {
        Ok(Some(result)) => caller.tell(result),
        // The caller has been told; if not, the thread that was to do so has panicked.
        Ok(None) => caller.tell(Err(CallError::Panicked { message: "an answer was lost on its way".into() })),
        Err(error) => caller.tell(Err(error)),
    }
}

/// Runs a request, and returns how it ended, or `None` if the caller has been told.
fn run(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    interrupt: &Interrupt,
    queued: Duration,
    caller: &Caller,
) -> Option<Result<Answer, CallError>> {
    let mut failures: Vec<EngineError> = Vec::new();
    loop {
        if let Some(cause) = interrupt.cause() {
            let phases = Phases { queue_ns: nanoseconds(queued), ..Phases::default() };
            return Some(Ok(cut_short(Outcome::Interrupted { cause }, None, phases)));
        }
        let busy = shared.cores.work();
        let candidates = function.candidates(&shared.cores);
        let request = function.request(call, &candidates);
        let decided = shared.with_world(|world| function.scheduler.decide(&request, world));
        let Ok(decision) = decided else {
            return Some(Err(CallError::NoEngine { reasons: why_none(function, &failures) }));
        };
        tracing::debug!(request = %call.id, function = function.name(), engine = %decision.engine, reason = %decision.reason,
            "decided");
        let pending = PendingDecision { function, engine: Some(decision.engine) };
        let ended = match decision.look_again_after_ns {
            None => {
                let began = Instant::now();
                let ended = attempt(shared, function, decision.engine, call, interrupt);
                shared.cores.earn(began.elapsed());
                ended
            }
            Some(after_ns) => {
                // Each racer takes a core of its own.
                drop(busy);
                let deliver: Deliver = {
                    let (shared, function, call) = (Arc::clone(shared), Arc::clone(function), Arc::clone(call));
                    let (caller, decision) = (caller.clone(), decision.clone());
                    Box::new(move |mut answer| {
                        conclude(&shared, &function, &call, queued, &decision, &mut answer);
                        caller.tell(Ok(*answer));
                    })
                };
                let look_after = Duration::from_nanos(after_ns);
                race::run(shared, function, call, interrupt, decision.engine, look_after, deliver)
            }
        };
        match ended {
            Attempt::Answered(mut answer) => {
                if answer.engine == Some(decision.engine) {
                    pending.commit();
                }
                conclude(shared, function, call, queued, &decision, &mut answer);
                inline::plan(shared, function, call, &decision);
                return Some(Ok(*answer));
            }
            Attempt::Delivered => return None,
            Attempt::Failed(error) => failures.push(error),
            Attempt::Broken(error) => return Some(Err(error)),
            Attempt::Interrupted => {}
        }
    }
}

/// A decision whose engine has not answered yet. Unless it is committed, the scheduler is told to forget the decision.
struct PendingDecision<'a> {
    function: &'a Function,
    /// `None` once the decision is committed.
    engine: Option<EngineId>,
}

impl PendingDecision<'_> {
    /// Notes that the engine has answered: the scheduler will observe that.
    fn commit(mut self) {
        self.engine = None;
    }
}

impl Drop for PendingDecision<'_> {
    fn drop(&mut self) {
        if let Some(engine) = self.engine {
            self.function.scheduler.abandon(engine);
        }
    }
}

/// Says what stands in each engine's way.
fn why_none(function: &Function, failures: &[EngineError]) -> String {
    let mut reasons: Vec<String> = failures.iter().map(ToString::to_string).collect();
    if reasons.is_empty() {
        let set_aside = function.engines.iter().filter_map(|engine| engine.slot.failure());
        reasons.extend(set_aside.map(|error| error.to_string()));
    }
    if reasons.is_empty() {
        reasons.push("none is both able and allowed".into());
    }
    reasons.join("; ")
}
