//! One clock for all deadlines: a thread that sleeps until the next deadline and raises the interrupt of a request that
//! is late. The first deadline starts the thread, if the host has not started it ahead.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use remuda_model::{Cause, Interrupt};

use crate::placement::Home;

/// The deadlines of all requests that have been admitted and not yet answered.
pub(crate) struct Deadlines {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    home: Home,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { shared: Arc::default(), thread: Mutex::default(), home: Home::of_this_thread() }
    }
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Holes are kept for the next deadlines, so that a token stays an index.
    armed: Vec<Option<(Instant, Interrupt)>>,
    free: Vec<usize>,
    /// The time at which the thread will wake by itself; `None`: it will not.
    wakes_at: Option<Instant>,
    /// Whether the thread was started.
    runs: bool,
    closed: bool,
}

/// An armed deadline; dropping it disarms it.
pub(crate) struct Armed {
    shared: Arc<Shared>,
    token: usize,
}

impl Deadlines {
    /// Starts the clock, if nobody has yet.
    pub(crate) fn start(&self) -> std::io::Result<()> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let (theirs, home) = (Arc::clone(&self.shared), self.home);
            let run = move || {
                home.go();
                theirs.run();
            };
            *thread = Some(thread::Builder::new().name("remuda-deadline".into()).spawn(run)?);
            self.shared.state.lock().runs = true;
        }
        Ok(())
    }

    /// Raises `interrupt` when `timeout` has passed since `begin`, unless the guard is dropped before. If the operating
    /// system has no thread for the clock, the deadline cannot be kept, and `interrupt` is raised at once.
    pub(crate) fn arm(&self, begin: Instant, timeout: Duration, interrupt: Interrupt) -> Armed {
        // A timeout beyond the clock's range stands for no deadline.
        let deadline = begin.checked_add(timeout).unwrap_or(begin + FAR_AWAY);
        let mut state = self.shared.state.lock();
        let token = state.free.pop().unwrap_or_else(|| {
            state.armed.push(None);
            state.armed.len() - 1
        });
        state.armed[token] = Some((deadline, interrupt));
        let must_wake = state.wakes_at.is_none_or(|wakes_at| deadline < wakes_at);
        let runs = state.runs;
        drop(state);
        if !runs && let Err(error) = self.start() {
            tracing::error!(%error, "cannot start the thread that keeps deadlines; a request with a deadline is ended");
            let ours = self.shared.state.lock().armed[token].as_ref().map(|(_, interrupt)| interrupt.clone());
            if let Some(interrupt) = ours {
                interrupt.raise(Cause::Deadline);
            }
        }
        if must_wake {
            self.shared.changed.notify_one();
        }
        Armed { shared: Arc::clone(&self.shared), token }
    }
}

impl Drop for Deadlines {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.get_mut().take() {
            // The thread only ends early if it panicked, and then the panic has been reported.
            let _ = thread.join();
        }
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.armed[self.token] = None;
        state.free.push(self.token);
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock();
        while !state.closed {
            let now = Instant::now();
            let late: Vec<Interrupt> = state
                .armed
                .iter_mut()
                .filter(|entry| entry.as_ref().is_some_and(|(deadline, _)| *deadline <= now))
                .filter_map(Option::as_mut)
                .map(|(deadline, interrupt)| {
                    // The interrupt is raised only once; the guard still owns the place.
                    *deadline = now + FAR_AWAY;
                    interrupt.clone()
                })
                .collect();
            if !late.is_empty() {
                // Listeners run outside the lock.
                drop(state);
                for interrupt in &late {
                    interrupt.raise(Cause::Deadline);
                }
                state = self.state.lock();
                continue;
            }
            let next = state.armed.iter().flatten().map(|(deadline, _)| *deadline).min();
            state.wakes_at = next;
            match next {
                None => self.changed.wait(&mut state),
                Some(next) => {
                    let wait = next.saturating_duration_since(now);
                    self.changed.wait_for(&mut state, wait);
                }
            }
        }
    }
}

/// Longer than any process lives.
const FAR_AWAY: Duration = Duration::from_hours(100 * 365 * 24);

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn late_requests_are_interrupted_and_disarmed_ones_are_not() {
        let deadlines = Deadlines::default();
        let now = Instant::now();
        let patient = Interrupt::new();
        let _patient = deadlines.arm(now, Duration::MAX, patient.clone());
        let disarmed = Interrupt::new();
        drop(deadlines.arm(now, Duration::from_hours(1), disarmed.clone()));
        let (raised, wait) = mpsc::channel();
        let late = Interrupt::new();
        let _listener = late.listen(move || raised.send(()).unwrap());
        let _late = deadlines.arm(now, Duration::ZERO, late.clone());
        wait.recv().unwrap();
        assert_eq!(late.cause(), Some(Cause::Deadline));
        assert_eq!((patient.cause(), disarmed.cause()), (None, None));
        assert_eq!(deadlines.shared.state.lock().armed.len(), 2, "a disarmed deadline leaves its place to the next");
    }
}
