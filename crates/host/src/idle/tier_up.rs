//! Tier-up: better code of a module is compiled while no request waits for it. The scheduler decides which.

use std::sync::Arc;

use remuda_model::Interrupt;
use remuda_scheduler::TierUp;

use crate::artifact::compile::Urgency;
use crate::function::Function;
use crate::prepare::prepare;
use crate::shared::Shared;
use crate::time::nanoseconds;

/// Makes an engine ready for a function in the background.
pub(crate) fn start(shared: &Arc<Shared>, function: &Arc<Function>, tier_up: &TierUp) {
    let TierUp { engine, worth_ns, reason } = tier_up;
    let (theirs, function, engine) = (Arc::clone(shared), Arc::clone(function), *engine);
    tracing::debug!(function = function.name(), %engine, %reason, "to be made ready in the background");
    shared.background.compile((function.module.digest(), engine), *worth_ns, move || {
        let _busy = theirs.cores.work();
        match prepare(Urgency::Nobody, &theirs, &function, engine, &Interrupt::new()) {
            Ok(prepared) if prepared.compiled_here => {
                let ns = nanoseconds(prepared.compile);
                tracing::debug!(function = function.name(), %engine, ns, "compiled in the background");
                theirs.counters.compiles_background.add_one();
                function.scheduler.with(|scheduler| scheduler.observe_compile(engine, ns));
                theirs.observe_compile(function.module.digest(), engine, ns);
            }
            // The artifact was loaded, or another thread has made it meanwhile.
            Ok(_) => {}
            // The slot has noted the failure.
            Err(_) => theirs.counters.compiles_failed.add_one(),
        }
    });
}
