//! How busy this host is, for decisions: counted, not asked of the operating system, so that a decision costs nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use remuda_scheduler::{Load, WasteBudget};

use crate::execute::nanoseconds;

/// The host's cores, and who is on them.
pub(crate) struct Cores {
    cores: usize,
    busy: AtomicUsize,
    waiting: AtomicUsize,
    waste: Mutex<WasteBudget>,
    may_waste: AtomicBool,
    epoch: Instant,
}

/// One core in use; dropping it gives it back.
pub(crate) struct Busy<'a>(&'a Cores);

impl Cores {
    pub(crate) fn new(cores: usize, waste_share: f64) -> Self {
        let waste = WasteBudget::new(waste_share);
        Self {
            cores,
            busy: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            may_waste: AtomicBool::new(waste.may_waste()),
            waste: Mutex::new(waste),
            epoch: Instant::now(),
        }
    }

    /// Takes a core, for as long as the guard lives.
    pub(crate) fn work(&self) -> Busy<'_> {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(self)
    }

    /// Notes how many requests wait for one.
    pub(crate) fn set_waiting(&self, requests: usize) {
        self.waiting.store(requests, Ordering::Relaxed);
    }

    pub(crate) fn load(&self) -> Load {
        Load {
            cores: self.cores,
            busy: self.busy.load(Ordering::Relaxed),
            waiting: self.waiting.load(Ordering::Relaxed),
            may_waste: self.may_waste.load(Ordering::Relaxed),
        }
    }

    /// Notes time on a core that answered a request. On the warm path: never waits for the lock.
    pub(crate) fn earn(&self, useful: Duration) {
        if let Ok(mut waste) = self.waste.try_lock() {
            waste.earn(nanoseconds(useful));
            self.may_waste.store(waste.may_waste(), Ordering::Relaxed);
        }
    }

    /// Notes time on a core that answered nothing.
    pub(crate) fn spend(&self, wasted: Duration) {
        let mut waste = self.waste.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        waste.spend(nanoseconds(wasted));
        self.may_waste.store(waste.may_waste(), Ordering::Relaxed);
    }

    /// Now, on the scheduler's clock.
    pub(crate) fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    /// A moment on the scheduler's clock.
    pub(crate) fn at_ns(&self, moment: Instant) -> u64 {
        nanoseconds(moment.saturating_duration_since(self.epoch))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}
