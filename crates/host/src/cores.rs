//! How busy this host is, for decisions. The host counts that itself and does not ask the operating system, so that a
//! decision costs nothing.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_model::{Cause, Interrupt};
use remuda_scheduler::{Load, WasteBudget};

use crate::time::nanoseconds;

/// The host's cores, and how many of them are in use.
pub(crate) struct Cores {
    cores: usize,
    busy: AtomicUsize,
    waiting: AtomicUsize,
    /// The number of times that a core was taken.
    begun: AtomicUsize,
    is_lent: AtomicBool,
    /// The borrower that has the idle cores until there is work.
    borrower: Mutex<Option<Interrupt>>,
    waste: Mutex<WasteBudget>,
    may_waste: AtomicBool,
    epoch: Instant,
}

/// One core in use; dropping it gives it back.
pub(crate) struct Busy<'a>(&'a Cores);

/// All cores, lent as long as there is no work; dropping it gives them back.
pub(crate) struct Lent<'a>(&'a Cores);

impl Cores {
    pub(crate) fn new(cores: usize, waste_share: f64) -> Self {
        let waste = WasteBudget::new(waste_share);
        Self {
            cores,
            busy: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            is_lent: AtomicBool::new(false),
            borrower: Mutex::default(),
            may_waste: AtomicBool::new(waste.may_waste()),
            waste: Mutex::new(waste),
            epoch: Instant::now(),
        }
    }

    /// Takes a core, for as long as the guard lives.
    pub(crate) fn work(&self) -> Busy<'_> {
        // Either this sees that the cores are lent, or the thread that borrows them sees this.
        self.busy.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::Relaxed);
        if self.is_lent.load(Ordering::SeqCst) {
            self.recall();
        }
        Busy(self)
    }

    /// Gives back a core whose [`Busy`] lives on, until [`Cores::go_on`].
    pub(crate) fn pause(&self) {
        self.busy.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the core again that was given back by [`Cores::pause`].
    pub(crate) fn go_on(&self) {
        std::mem::forget(self.work());
    }

    /// The number of times that a core was taken until now.
    pub(crate) fn begun(&self) -> usize {
        self.begun.load(Ordering::Relaxed)
    }

    /// Lends the cores to a borrower that is stopped by `interrupt` as soon as there is work.
    pub(crate) fn lend(&self, interrupt: &Interrupt) -> Lent<'_> {
        *self.borrower.lock() = Some(interrupt.clone());
        self.is_lent.store(true, Ordering::SeqCst);
        if self.busy.load(Ordering::SeqCst) > 0 {
            self.recall();
        }
        Lent(self)
    }

    fn recall(&self) {
        self.is_lent.store(false, Ordering::SeqCst);
        if let Some(interrupt) = self.borrower.lock().take() {
            interrupt.raise(Cause::Cancelled);
        }
    }

    /// Notes how many requests wait for a core.
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

    /// Notes time on a core that answered a request. This is on the warm path, so it never waits for the lock.
    pub(crate) fn earn(&self, useful: Duration) {
        if let Some(mut waste) = self.waste.try_lock() {
            waste.earn(nanoseconds(useful));
            self.may_waste.store(waste.may_waste(), Ordering::Relaxed);
        }
    }

    /// Notes time on a core that answered nothing.
    pub(crate) fn spend(&self, wasted: Duration) {
        let mut waste = self.waste.lock();
        waste.spend(nanoseconds(wasted));
        self.may_waste.store(waste.may_waste(), Ordering::Relaxed);
    }

    /// Now, on the scheduler's clock.
    pub(crate) fn now_ns(&self) -> u64 {
        self.at_ns(Instant::now())
    }

    /// The time of `moment` on the scheduler's clock.
    pub(crate) fn at_ns(&self, moment: Instant) -> u64 {
        nanoseconds(moment.saturating_duration_since(self.epoch))
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        self.0.is_lent.store(false, Ordering::SeqCst);
        *self.0.borrower.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_borrows_the_cores_stops_when_there_is_work() {
        let cores = Cores::new(2, 0.5);
        let (first, second, third) = (Interrupt::new(), Interrupt::new(), Interrupt::new());
        let lent = cores.lend(&first);
        assert_eq!(first.cause(), None);
        drop(cores.work());
        assert_eq!(first.cause(), Some(Cause::Cancelled));
        drop(lent);
        let busy = cores.work();
        drop(cores.lend(&second));
        assert_eq!(second.cause(), Some(Cause::Cancelled), "there was work already");
        drop(busy);
        drop(cores.lend(&third));
        drop(cores.work());
        assert_eq!(third.cause(), None, "it had given them back");
    }
}
