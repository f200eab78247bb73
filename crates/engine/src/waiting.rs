//! What becomes of a thread while its guest waits for something outside: the host may give its place to another thread.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
#[cfg(feature = "wasmtime")]
use std::time::Instant;

/// What a host does when guests of a thread wait.
pub trait OnWait {
    /// The guest waits from now on.
    fn begin(&self);

    /// The guest could go on. When this returns, it does.
    fn end(&self);
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
/// Guests of WASI preview 1 that sleep are not among them.
#[must_use]
pub fn take_waited() -> Duration {
    WAITED.take()
}

/// A guest that waits. Dropping this ends the wait.
#[cfg(feature = "wasmtime")]
pub(crate) struct Waiting(Instant);

#[cfg(feature = "wasmtime")]
impl Waiting {
    pub(crate) fn begin() -> Self {
        let waiting = Self(Instant::now());
        tell(|on_wait| on_wait.begin());
        waiting
    }
}

#[cfg(feature = "wasmtime")]
impl Drop for Waiting {
    fn drop(&mut self) {
        tell(|on_wait| on_wait.end());
        WAITED.set(WAITED.get() + self.0.elapsed());
    }
}

#[cfg(feature = "wasmtime")]
fn tell(what: impl FnOnce(&dyn OnWait)) {
    let on_wait = ON_WAIT.with_borrow(Clone::clone);
    if let Some(on_wait) = on_wait {
        what(&*on_wait);
    }
}
