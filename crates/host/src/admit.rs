//! The bounded queue between those who bring requests and the threads that run guests.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use remuda_model::{Cause, Interrupt};

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

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Workers {
    pub(crate) fn start(shared: &Arc<Shared>, threads: usize, waiting_max: usize) -> std::io::Result<Self> {
        let queue = Arc::new(Queue { state: Mutex::default(), changed: Condvar::new(), waiting_max });
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
        if state.jobs.len() >= self.queue.waiting_max {
            return Err(Rejected::QueueFull);
        }
        let interrupt = Interrupt::new();
        let deadline = shared.deadlines.arm(admitted, call.limits.timeout, interrupt.clone());
        state.jobs.push_back(Job {
            function: Arc::clone(function),
            call: Arc::new(call),
            interrupt: interrupt.clone(),
            admitted,
            done,
            _deadline: deadline,
        });
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

    fn work(&self, shared: &Arc<Shared>) {
        while let Some(job) = self.next(shared) {
            let queued = job.admitted.elapsed();
            let result = execute(shared, &job.function, &job.call, &job.interrupt, queued);
            (job.done)(result);
        }
    }

    fn next(&self, shared: &Shared) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(job) = state.jobs.pop_front() {
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
