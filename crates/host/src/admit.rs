//! The bounded queue between those who bring requests and the threads that run guests.
//!
//! It is fair between functions: they take turns, by the time that their requests usually keep a thread. So one that is
//! called without end does not make another wait for longer than a turn of each; and where it has filled the queue, one
//! request of every other function still has a place.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use remuda_model::{Cause, Interrupt};
use remuda_scheduler::FairQueue;

use crate::deadline::Armed;
use crate::execute::{Answer, Call, CallError, execute};
use crate::function::Function;
use crate::host::Shared;

/// A guest thread's own stack: the guest's half a megabyte and the host functions on top of it.
const THREAD_STACK_BYTES: usize = 4 << 20;

/// Why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// As many requests wait as may.
    #[error("the queue is full")]
    QueueFull,
    /// The host finishes what it has and takes nothing new.
    #[error("the host is shutting down")]
    Draining,
}

/// A request that has been admitted. Dropping the ticket before the answer came cancels the request.
#[derive(Debug)]
pub struct Ticket {
    interrupt: Interrupt,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.interrupt.raise(Cause::Cancelled);
    }
}

pub(crate) type Done = Box<dyn FnOnce(Result<Answer, CallError>) + Send>;

struct Job {
    function: Arc<Function>,
    call: Arc<Call>,
    interrupt: Interrupt,
    admitted: Instant,
    done: Done,
    _deadline: Armed,
}

/// The queue and its threads.
pub(crate) struct Workers {
    queue: Arc<Queue>,
    threads: Vec<JoinHandle<()>>,
}

struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    waiting_max: usize,
}

struct State {
    /// By their function.
    jobs: FairQueue<u64, Job>,
    closed: bool,
}

impl Workers {
    pub(crate) fn start(shared: &Arc<Shared>, threads: usize, waiting_max: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue {
            // How many may wait is decided here, where it is known whose turn to wait it is.
            state: Mutex::new(State { jobs: FairQueue::new(usize::MAX), closed: false }),
            changed: Condvar::new(),
            waiting_max,
        });
        let threads = (0..threads)
            .map(|i| {
                let (queue, shared) = (Arc::clone(&queue), Arc::clone(shared));
                thread::Builder::new()
                    .name(format!("remuda-guest-{i}"))
                    .stack_size(THREAD_STACK_BYTES)
                    .spawn(move || queue.work(&shared))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { queue, threads })
    }

    pub(crate) fn submit(
        &self,
        shared: &Shared,
        function: &Arc<Function>,
        call: Call,
        done: Done,
    ) -> Result<Ticket, Rejected> {
        let admitted = Instant::now();
        let mut state = self.queue.lock();
        if state.closed {
            return Err(Rejected::Draining);
        }
        if !self.queue.has_place(&state, function) {
            return Err(Rejected::QueueFull);
        }
        let interrupt = Interrupt::new();
        let deadline = shared.deadlines.arm(admitted, call.limits.timeout, interrupt.clone());
        let job = Job {
            function: Arc::clone(function),
            call: Arc::new(call),
            interrupt: interrupt.clone(),
            admitted,
            done,
            _deadline: deadline,
        };
        // It has no bound of its own.
        let pushed = state.jobs.push(function.id, function.usual_ns(), job);
        debug_assert!(pushed.is_ok(), "the queue itself is never full");
        shared.cores.set_waiting(state.jobs.len());
        drop(state);
        self.queue.changed.notify_one();
        Ok(Ticket { interrupt })
    }

    /// Takes nothing new, and returns when all that was admitted has been answered.
    pub(crate) fn drain(&mut self) {
        self.queue.lock().closed = true;
        self.queue.changed.notify_all();
        for thread in self.threads.drain(..) {
            // Panics of guests and engines are caught within a request.
            let _ = thread.join();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.drain();
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether another request of the function may wait. A queue of no length at all has no place for anybody.
    fn has_place(&self, state: &State, function: &Function) -> bool {
        state.jobs.len() < self.waiting_max || (self.waiting_max > 0 && !state.jobs.has(&function.id))
    }

    fn work(&self, shared: &Arc<Shared>) {
        while let Some(job) = self.next(shared) {
            let began = Instant::now();
            let queued = began.saturating_duration_since(job.admitted);
            let result = execute(shared, &job.function, &job.call, &job.interrupt, queued);
            job.function.took(began.elapsed());
            (job.done)(result);
        }
    }

    fn next(&self, shared: &Shared) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some((_, job)) = state.jobs.pop() {
                shared.cores.set_waiting(state.jobs.len());
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
