//! Carrying a WASI call through to its end on the guest's own thread, or to the guest's interrupt.

use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use remuda_model::Interrupt;
use tokio::runtime::Runtime;
use tokio::sync::Notify;

use crate::Stop;

/// Drives the timers and the standard input of guests that wait for more than a span of time. Made by the first one
/// that does.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

fn runtime() -> Result<&'static Runtime, Stop> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let made = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("remuda-wasi")
        .enable_all()
        .build()
        // Perhaps a guest holds all the descriptors that there are. That fails this call and none after it.
        .map_err(|error| Stop::Failed(format!("the operating system has nothing left to wait with: {error}")))?;
    Ok(RUNTIME.get_or_init(|| made))
}

/// Whether there is something to wait with. A call that can say no in words of its own should ask first.
pub(crate) fn is_possible() -> bool {
    runtime().is_ok()
}

/// Runs a call that usually is ready at once and needs no runtime to find out.
pub(crate) fn complete<T>(interrupt: &Interrupt, call: impl Future<Output = T>) -> Result<T, Stop> {
    let mut call = pin!(call);
    match call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => wait(interrupt, call),
    }
}

/// Runs a call that is expected to wait.
pub(crate) fn wait<T>(interrupt: &Interrupt, call: impl Future<Output = T>) -> Result<T, Stop> {
    let raised = Arc::new(Notify::new());
    let notify = Arc::clone(&raised);
    let _listener = interrupt.listen(move || notify.notify_one());
    runtime()?.block_on(async {
        tokio::select! {
            biased;
            () = raised.notified() => Err(stopped(interrupt)),
            value = call => Ok(value),
        }
    })
}

/// Sleeps on the guest's thread, with no need of a runtime.
pub(crate) fn sleep(interrupt: &Interrupt, nanoseconds: u64) -> Result<(), Stop> {
    let end = Instant::now().checked_add(Duration::from_nanos(nanoseconds));
    let bell = Arc::new((Mutex::new(false), Condvar::new()));
    let ring = Arc::clone(&bell);
    let _listener = interrupt.listen(move || {
        *ring.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        ring.1.notify_one();
    });
    let (raised, rung) = &*bell;
    let mut raised = raised.lock().unwrap_or_else(PoisonError::into_inner);
    while !*raised {
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(());
        }
        raised = rung.wait_timeout(raised, left).unwrap_or_else(PoisonError::into_inner).0;
    }
    Err(stopped(interrupt))
}

/// Refuses to begin a call for a guest that has to stop.
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
