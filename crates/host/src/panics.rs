//! Catching panics, so that each ends one piece of work and nothing else.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use remuda_model::RequestId;

use crate::call::CallError;

/// Runs `work`, so that a panic in it ends one request and nothing else.
pub(crate) fn catching_panics<T>(function: &str, request: RequestId, work: impl FnOnce() -> T) -> Result<T, CallError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic_message(&*panic);
        tracing::error!(%request, function, %message, "panic while running a guest");
        CallError::Panicked { message }
    })
}

pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".into())
}
