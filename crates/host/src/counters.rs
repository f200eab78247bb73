//! Counts of what a host has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the host was opened.
#[derive(Debug, Default)]
pub struct Counters {
    /// Artifacts that were made ready for an expected request, if the request came in time and found them in memory.
    pub prewarms_useful: Counter,
    /// Artifacts that were made ready for an expected request that did not come in time, or was answered otherwise.
    pub prewarms_wasted: Counter,
    /// Requests that ran on the thread that brought them.
    pub inline: Counter,
    /// Guests that were stopped there, because they took unexpectedly long, and began anew on a thread for guests.
    pub inline_overruns: Counter,
    /// Requests that a second engine joined.
    pub races: Counter,
    /// Requests whose guest went on in another engine's code.
    pub moved: Counter,
    /// Requests that were answered by another engine than the one that began.
    pub races_overtaken: Counter,
    /// Artifacts that were compiled in the background.
    pub compiles_background: Counter,
    /// Background compiles that came to nothing.
    pub compiles_failed: Counter,
}

/// A number that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number as it is now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}
