//! Carrying a WASI call through on the guest's own thread, until it ends or the guest is interrupted.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use remuda_model::{Interrupt, Waiting};

use crate::Stop;

/// Runs a call that is a future in name only: calls here do not wait for a runtime, but block their own thread.
pub(crate) fn complete<T>(call: impl Future<Output = T>) -> Result<T, Stop> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => Err(Stop::Failed("a call waits for a runtime, and there is none".into())),
    }
}

/// Sleeps on the guest's thread until `end`, or until the guest is interrupted; without an `end`, only the interrupt
/// ends the sleep.
pub(crate) fn sleep_until(interrupt: &Interrupt, end: Option<Instant>) -> Result<(), Stop> {
    let bell = Arc::new((Mutex::new(false), Condvar::new()));
    let ring = Arc::clone(&bell);
    let _listener = interrupt.listen(move || {
        *ring.0.lock() = true;
        ring.1.notify_one();
    });
    let (raised, rung) = &*bell;
    let mut raised = raised.lock();
    while !*raised {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(());
        }
        rung.wait_for(&mut raised, left);
    }
    Err(stopped(interrupt))
}

/// Waits on the guest's thread for a future that somebody else completes, until `until`, or until the guest is interrupted.
/// Returns `None` if it is not complete by then. Meanwhile, the thread's place is another guest's.
pub(crate) fn until_ready<T>(
    interrupt: &Interrupt,
    until: Option<Instant>,
    future: impl Future<Output = T>,
) -> Result<Option<T>, Stop> {
    let mut future = pin!(future);
    if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        return Ok(Some(value));
    }
    let bell = Arc::new(Unpark(thread::current()));
    let waker = Waker::from(Arc::clone(&bell));
    let _listener = interrupt.listen(move || bell.0.unpark());
    let _waiting = Waiting::begin(interrupt);
    loop {
        check(interrupt)?;
        // Whatever happens from here on wakes this thread, also before it parks.
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(Some(value));
        }
        match until.map(|until| until.saturating_duration_since(Instant::now())) {
            Some(Duration::ZERO) => return Ok(None),
            Some(left) => thread::park_timeout(left),
            None => thread::park(),
        }
    }
}

/// Wakes a thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Returns an error if the guest has to stop, so that no further call is begun for it.
pub(crate) fn check(interrupt: &Interrupt) -> Result<(), Stop> {
    match interrupt.cause() {
        None => Ok(()),
        Some(cause) => Err(Stop::Interrupted(cause)),
    }
}

fn stopped(interrupt: &Interrupt) -> Stop {
    match interrupt.cause() {
        Some(cause) => Stop::Interrupted(cause),
        None => Stop::Failed("a wait ended with nobody having ended it".into()),
    }
}
