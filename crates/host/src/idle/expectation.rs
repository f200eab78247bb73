//! The record of what was made ready for a function's next request, until that request comes or is overdue.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use remuda_model::EngineId;

/// A function's record of what was made ready for its next request.
#[derive(Default)]
pub(crate) struct Expectation {
    pub(super) has_appointment: AtomicBool,
    /// Whether `prewarmed` holds something, so that requests need not lock it to find nothing.
    is_prewarmed: AtomicBool,
    prewarmed: Mutex<Option<Prewarmed>>,
}

/// The engine whose artifact was made ready for the next request, and until when the request is expected.
#[derive(Clone, Copy, Debug)]
pub(super) struct Prewarmed {
    pub(super) engine: EngineId,
    pub(super) until_ns: u64,
}

impl Expectation {
    pub(super) fn put(&self, prewarmed: Prewarmed) {
        *self.prewarmed.lock() = Some(prewarmed);
        self.is_prewarmed.store(true, Ordering::Release);
    }

    pub(super) fn take(&self) -> Option<Prewarmed> {
        self.take_if(|_| true)
    }

    pub(super) fn take_if(&self, is_wanted: impl FnOnce(&mut Prewarmed) -> bool) -> Option<Prewarmed> {
        if !self.is_prewarmed.load(Ordering::Acquire) {
            return None;
        }
        let mut prewarmed = self.prewarmed.lock();
        let taken = prewarmed.take_if(is_wanted);
        self.is_prewarmed.store(prewarmed.is_some(), Ordering::Release);
        taken
    }
}
