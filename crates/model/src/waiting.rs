//! What becomes of a thread while its guest waits for something outside: the host may give its place to another thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::Interrupt;

/// What a host does when guests of a thread wait.
pub trait OnWait {
    /// The guest waits from now on.
    fn begin(&self);

    /// The guest could go on. When this returns, it does. A guest that `is_stopped` has nothing left to do but to end.
    fn end(&self, is_stopped: bool);
}

thread_local! {
    static ON_WAIT: RefCell<Option<Rc<dyn OnWait>>> = const { RefCell::new(None) };
    static WAITED: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Says what to do from now on when guests of this thread wait.
pub fn on_wait(on_wait: Rc<dyn OnWait>) {
    ON_WAIT.set(Some(on_wait));
}

/// How long guests of this thread have waited since this was asked for the last time, as far as their engines can tell.
/// Guests of WASI preview 1 that sleep are among them only if their output streams.
#[must_use]
pub fn take_waited() -> Duration {
    WAITED.take()
}

/// A thread that waits, for its guest or for another thread. Dropping this ends the wait.
#[must_use]
pub struct Waiting<'a> {
    since: Instant,
    /// `None`: the thread has nothing left to do but to end.
    interrupt: Option<&'a Interrupt>,
}

impl<'a> Waiting<'a> {
    /// The guest of this thread waits from now on, and has to end once this is raised.
    pub fn begin(interrupt: &'a Interrupt) -> Self {
        Self::begin_with(Some(interrupt))
    }

    fn begin_with(interrupt: Option<&'a Interrupt>) -> Self {
        let waiting = Self { since: Instant::now(), interrupt };
        tell(|on_wait| on_wait.begin());
        waiting
    }
}

/// Says that this thread waits for another one that runs its guest, until the returned value is dropped; then it only ends.
pub fn wait_for_the_end() -> Waiting<'static> {
    Waiting::begin_with(None)
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        tell(|on_wait| on_wait.end(self.interrupt.is_none_or(|interrupt| interrupt.cause().is_some())));
        WAITED.set(WAITED.get() + self.since.elapsed());
    }
}

fn tell(what: impl FnOnce(&dyn OnWait)) {
    let on_wait = ON_WAIT.with_borrow(Clone::clone);
    if let Some(on_wait) = on_wait {
        what(&*on_wait);
    }
}
