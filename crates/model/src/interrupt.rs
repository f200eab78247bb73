use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// Why a guest was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The request's deadline passed.
    Deadline,
    /// The answer is no longer needed: the caller went away, or another engine answered first.
    Cancelled,
}

/// The order to stop one guest. It is shared by those that may give it (the deadline clock, the server that sees a
/// client leave) and those that must obey it (the engine that runs the guest, a host call that waits).
///
/// An interrupt is raised at most once; the first cause stands.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Inner>);

#[derive(Default)]
struct Inner {
    cause: AtomicU8,
    next_listener: AtomicU64,
    listeners: Mutex<Vec<(u64, Box<dyn Fn() + Send>)>>,
}

impl Interrupt {
    /// Makes an interrupt that has not been raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Why the guest has to stop, or `None` as long as it may run.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        match self.0.cause.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Cause::Deadline),
            _ => Some(Cause::Cancelled),
        }
    }

    /// Orders the guest to stop. When this returns, every listener has been called.
    pub fn raise(&self, cause: Cause) {
        let code = match cause {
            Cause::Deadline => 1,
            Cause::Cancelled => 2,
        };
        // The lock comes first, so that a listener registered meanwhile either sees the cause or is seen here.
        let listeners = self.0.listeners.lock();
        if self.0.cause.compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            for (_, listener) in listeners.iter() {
                listener();
            }
        }
    }

    /// Calls `listener` when the interrupt is raised, or at once if it has been raised already.
    ///
    /// After the returned guard is dropped, the listener is not running and will not run again; things that it refers
    /// to may then be given to another guest. The listener must not register or drop listeners itself.
    pub fn listen(&self, listener: impl Fn() + Send + 'static) -> Listener {
        let id = self.0.next_listener.fetch_add(1, Ordering::Relaxed);
        let mut listeners = self.0.listeners.lock();
        if self.cause().is_some() {
            listener();
        }
        listeners.push((id, Box::new(listener)));
        Listener { interrupt: self.clone(), id }
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.cause()).finish()
    }
}

/// Keeps a listener registered; dropping it takes the listener away.
#[must_use]
pub struct Listener {
    interrupt: Interrupt,
    id: u64,
}

impl Drop for Listener {
    fn drop(&mut self) {
        let mut listeners = self.interrupt.0.listeners.lock();
        listeners.retain(|(id, _)| *id != self.id);
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn counter() -> (Arc<AtomicUsize>, impl Fn() + Send + 'static) {
        let count = Arc::new(AtomicUsize::new(0));
        let theirs = Arc::clone(&count);
        (count, move || {
            theirs.fetch_add(1, Ordering::SeqCst);
        })
    }

    #[test]
    fn first_cause_stands_and_listeners_run_once() {
        let interrupt = Interrupt::new();
        let (count, listener) = counter();
        let _guard = interrupt.listen(listener);
        interrupt.raise(Cause::Deadline);
        interrupt.raise(Cause::Cancelled);
        assert_eq!(interrupt.cause(), Some(Cause::Deadline));
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn late_listener_is_called_at_once() {
        let interrupt = Interrupt::new();
        interrupt.raise(Cause::Cancelled);
        let (count, listener) = counter();
        let _guard = interrupt.listen(listener);
        assert_eq!(count.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn dropped_listener_is_never_called() {
        let interrupt = Interrupt::new();
        let (count, listener) = counter();
        drop(interrupt.listen(listener));
        interrupt.raise(Cause::Deadline);
        assert_eq!(count.load(Ordering::SeqCst), 0);
    }
}
