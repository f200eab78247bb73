//! The bounded queue between the callers that bring requests and the threads that run guests.
//!
//! The queue is fair between functions: they take turns, by the time that their requests usually keep a thread. So a
//! function that is called without end does not make another wait for longer than a turn of each; and if it has filled
//! the queue, one request of every other function still has a place.
//!
//! There are as many places for guests that run as there are threads at first. A thread whose guest waits for something
//! outside (a client that reads slowly, say) lends its place to another thread, which is started if all are busy.

use std::cell::Cell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use remuda_model::{Cause, Interrupt, OnWait, on_wait};
use remuda_scheduler::FairQueue;

use super::execute::execute_for;
use crate::call::{Call, Done};
use crate::deadline::Armed;
use crate::function::Function;
use crate::shared::Shared;

/// The stack of a thread that runs guests: the guest's half a megabyte and the host functions on top of it, and as much
/// again for each activation that has gone on elsewhere and has called back. Only the part that is used takes memory.
const THREAD_STACK_BYTES: usize = 8 << 20;

/// The most threads beyond the first whose guests wait at the same time. Further guests that wait keep their places.
///
/// Source: chosen: each such thread takes some hundred KB. Fewer, and slow clients keep guests from running sooner; more,
/// and they make the host hold more memory.
const WAITING_MAX: usize = 256;

/// The reason why a request was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The queue is full: no more requests may wait.
    #[error("the queue is full")]
    QueueFull,
    /// The host finishes the requests that it has and takes no new ones.
    #[error("the host is shutting down")]
    Draining,
}

/// A request that has been admitted. Dropping the ticket before the answer came cancels the request.
#[derive(Debug)]
pub struct Ticket {
    interrupt: Option<Interrupt>,
}

impl Ticket {
    /// Gives the ticket back without cancelling the request, which then runs on until its end or its deadline.
    pub fn let_run(mut self) {
        self.interrupt = None;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(interrupt) = &self.interrupt {
            interrupt.raise(Cause::Cancelled);
        }
    }
}

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
}

struct Queue {
    state: Mutex<State>,
    /// There may be something to do for a thread that has nothing to do, or all threads have ended.
    changed: Condvar,
    /// There is a place for a thread whose guest could go on.
    may_go_on: Condvar,
    /// How many guests may run at the same time.
    places: usize,
}

struct State {
    /// The waiting requests, by their functions.
    jobs: FairQueue<u64, Job>,
    /// How many threads there are.
    threads: usize,
    /// How many of them have nothing to do.
    idle: usize,
    /// How many places are taken.
    running: usize,
    /// How many threads wait for a place, because their guests could go on. They come before new requests.
    going_on: usize,
    /// The work that each thread does once before its next request, and the number of threads that have done it.
    rehearsal: Option<Arc<Rehearsal>>,
    rehearsed: usize,
    closed: bool,
}

type Rehearsal = dyn Fn() + Send + Sync;

/// The next thing that a thread does.
enum Next {
    Job(Job),
    Rehearse(Arc<Rehearsal>),
}

impl Workers {
    pub(crate) fn start(shared: &Arc<Shared>, threads: usize, waiting_max: usize) -> io::Result<Self> {
        let state = State {
            jobs: FairQueue::new(waiting_max),
            threads: 0,
            idle: 0,
            running: 0,
            going_on: 0,
            rehearsal: None,
            rehearsed: 0,
            closed: false,
        };
        let (changed, may_go_on) = (Condvar::new(), Condvar::new());
        let workers = Self { queue: Arc::new(Queue { state: Mutex::new(state), changed, may_go_on, places: threads }) };
        for _ in 0..threads {
            workers.queue.start_thread(&mut workers.queue.state.lock(), shared)?;
        }
        Ok(workers)
    }

    pub(crate) fn submit(
        &self,
        shared: &Shared,
        function: &Arc<Function>,
        call: Call,
        admitted: Instant,
        done: Done,
    ) -> Result<Ticket, Rejected> {
        let mut state = self.queue.state.lock();
        if state.closed {
            return Err(Rejected::Draining);
        }
        if !state.jobs.has_place(&function.id) {
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
        let pushed = state.jobs.push(function.id, function.usual_ns(), job);
        debug_assert!(pushed.is_ok(), "there was a place for it under the same lock");
        shared.cores.set_waiting(state.jobs.len());
        drop(state);
        self.queue.changed.notify_one();
        Ok(Ticket { interrupt: Some(interrupt) })
    }

    /// Has every thread do `work` once, and returns when that is done or after `patience`. It is to be called once
    /// only, before the first request.
    pub(crate) fn on_each_thread(&self, work: impl Fn() + Send + Sync + 'static, patience: Duration) {
        let began = Instant::now();
        let mut state = self.queue.state.lock();
        state.rehearsal = Some(Arc::new(work));
        self.queue.changed.notify_all();
        while state.rehearsed < self.queue.places {
            let Some(left) = patience.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) else { break };
            self.queue.changed.wait_for(&mut state, left);
        }
    }

    /// Takes no new requests, and returns when all that were admitted have been answered.
    pub(crate) fn drain(&mut self) {
        let mut state = self.queue.state.lock();
        state.closed = true;
        self.queue.changed.notify_all();
        while state.threads > 0 {
            self.queue.changed.wait(&mut state);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.drain();
    }
}

/// A thread of the queue; dropping this says that the thread has ended.
struct Thread<'a>(&'a Queue);

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        self.0.state.lock().threads -= 1;
        self.0.changed.notify_all();
    }
}

impl Queue {
    fn start_thread(self: &Arc<Self>, state: &mut State, shared: &Arc<Shared>) -> io::Result<()> {
        let (queue, shared) = (Arc::clone(self), Arc::clone(shared));
        // Threads beyond the first are there because others wait: their engines have been set up.
        let has_rehearsed = state.threads >= self.places;
        let work = move || {
            let _thread = Thread(&queue);
            queue.work(&shared, has_rehearsed);
        };
        let name = format!("remuda-guest-{}", state.threads);
        thread::Builder::new().name(name).stack_size(THREAD_STACK_BYTES).spawn(work)?;
        state.threads += 1;
        Ok(())
    }

    fn work(self: &Arc<Self>, shared: &Arc<Shared>, mut has_rehearsed: bool) {
        let place = Rc::new(Place::new(self, shared));
        on_wait(Rc::clone(&place) as Rc<dyn OnWait>);
        while let Some(next) = self.next(shared, has_rehearsed) {
            let job = match next {
                Next::Job(job) => job,
                Next::Rehearse(work) => {
                    has_rehearsed = true;
                    if catch_unwind(AssertUnwindSafe(|| work())).is_err() {
                        tracing::error!("panic in what threads do before their first request");
                    }
                    self.state.lock().rehearsed += 1;
                    self.changed.notify_all();
                    continue;
                }
            };
            let began = Instant::now();
            let queued = began.saturating_duration_since(job.admitted);
            execute_for(shared, &job.function, &job.call, &job.interrupt, queued, job.done);
            let lent = place.lent.take();
            job.function.observe_occupancy(began.elapsed().saturating_sub(lent));
            self.leave_place();
        }
    }

    /// What a thread does next. If that is a request, it has a place. `None`: the thread ends.
    fn next(&self, shared: &Shared, has_rehearsed: bool) -> Option<Next> {
        let mut state = self.state.lock();
        loop {
            if let Some(work) = state.rehearsal.as_ref().filter(|_| !has_rehearsed) {
                return Some(Next::Rehearse(Arc::clone(work)));
            }
            if state.running + state.going_on < self.places
                && let Some((_, job)) = state.jobs.pop()
            {
                state.running += 1;
                shared.cores.set_waiting(state.jobs.len());
                return Some(Next::Job(job));
            }
            let is_over = state.closed && state.jobs.is_empty();
            // More threads than that have nothing to do only if others have waited.
            if is_over || state.idle >= self.places {
                return None;
            }
            state.idle += 1;
            self.changed.wait(&mut state);
            state.idle -= 1;
        }
    }

    /// Gives a place back: to a guest that could go on, or else to the next request.
    fn leave_place(&self) {
        let mut state = self.state.lock();
        state.running -= 1;
        self.give_place(&state);
    }

    fn give_place(&self, state: &State) {
        if state.going_on > 0 {
            self.may_go_on.notify_one();
        } else if !state.jobs.is_empty() {
            self.changed.notify_one();
        }
    }

    /// Gives a place back for as long as its guest waits, if there is a thread that could use it meanwhile. Returns
    /// whether that is so.
    fn lend_place(self: &Arc<Self>, shared: &Arc<Shared>) -> bool {
        let mut state = self.state.lock();
        if state.idle == 0 {
            let is_full = state.threads >= self.places + WAITING_MAX;
            if is_full || self.start_thread(&mut state, shared).is_err() {
                return false;
            }
        }
        state.running -= 1;
        self.give_place(&state);
        true
    }

    /// Waits for a place, for a guest that could go on. One that only has to end does not wait, so that deadlines hold.
    fn take_place(&self, is_stopped: bool) {
        let mut state = self.state.lock();
        state.going_on += 1;
        while state.running >= self.places && !is_stopped {
            self.may_go_on.wait(&mut state);
        }
        state.going_on -= 1;
        state.running += 1;
    }
}

/// A thread's place, which the thread lends while its guest waits.
struct Place {
    queue: Arc<Queue>,
    shared: Arc<Shared>,
    /// Since when the place is lent.
    lent_since: Cell<Option<Instant>>,
    /// For how long it was lent.
    lent: Cell<Duration>,
}

impl Place {
    fn new(queue: &Arc<Queue>, shared: &Arc<Shared>) -> Self {
        let (queue, shared) = (Arc::clone(queue), Arc::clone(shared));
        Self { queue, shared, lent_since: Cell::new(None), lent: Cell::default() }
    }
}

impl OnWait for Place {
    fn begin(&self) {
        if self.queue.lend_place(&self.shared) {
            self.shared.cores.pause();
            self.lent_since.set(Some(Instant::now()));
        }
    }

    fn end(&self, is_stopped: bool) {
        if let Some(since) = self.lent_since.take() {
            self.queue.take_place(is_stopped);
            self.shared.cores.go_on();
            self.lent.set(self.lent.get() + since.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use remuda_model::{Entry, GuestContext, GuestLimits, Outcome, Sink};
    use remuda_scheduler::Policy;
    use tempfile::TempDir;

    use super::*;
    use crate::{FunctionSpec, Host, HostConfig};

    /// A host with one thread and `functions` functions on the mock engine.
    fn host(functions: usize, queue_max: usize) -> (TempDir, Host, Vec<Arc<Function>>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.wat");
        std::fs::write(&path, "(module (func (export \"_start\")))").unwrap();
        let config = HostConfig { policy: Policy::Hedged, workers: 1, queue_max, ..HostConfig::default() };
        let host = Host::open(&config).unwrap();
        let deploy = |_| {
            let engines = Some(vec!["mock".to_owned()]);
            host.deploy(FunctionSpec { engines, ..FunctionSpec::of_module(&path) }, None).unwrap()
        };
        let functions = (0..functions).map(deploy).collect();
        (dir, host, functions)
    }

    /// Submits a request that has the mock engine do `args`; sends `name` when it is answered.
    fn submit(
        host: &Host,
        function: &Arc<Function>,
        args: &[&str],
        name: &'static str,
        done: &Sender<&'static str>,
    ) -> Result<Ticket, Rejected> {
        let context = GuestContext {
            args: std::iter::once("f").chain(args.iter().copied()).map(str::to_owned).collect(),
            stdout: Sink::Capture { bytes_max: 100 },
            ..GuestContext::default()
        };
        let limits = GuestLimits::default();
        let call = Call { id: host.next_request_id(), entry: Entry::Command, context, limits };
        let done = done.clone();
        host.submit(function, call, Instant::now(), move |answer| {
            let name = match answer.unwrap().outcome {
                Outcome::Returned => name,
                Outcome::Interrupted { .. } => "interrupted",
                other => panic!("{other}"),
            };
            done.send(name).unwrap();
        })
    }

    /// Keeps the host's thread until the ticket is dropped.
    fn block(host: &Host, function: &Arc<Function>, done: &Sender<&'static str>) -> Ticket {
        let ticket = submit(host, function, &["--spin"], "spun", done).unwrap();
        // A request only takes a place in the queue while it waits.
        while host.shared().cores.load().waiting > 0 {
            std::thread::yield_now();
        }
        ticket
    }

    #[test]
    fn a_busy_function_does_not_make_others_wait_and_every_request_is_answered() {
        const QUEUE: usize = 100;
        let (_dir, host, functions) = host(3, QUEUE);
        let (done, order): (_, Receiver<&str>) = channel();
        let blocking = block(&host, &functions[0], &done);
        let mut tickets: Vec<Ticket> =
            (0..QUEUE).map(|_| submit(&host, &functions[0], &[], "busy", &done).unwrap()).collect();
        let refused = |function| submit(&host, function, &[], "refused", &done).err();
        assert_eq!(refused(&functions[0]), Some(Rejected::QueueFull));
        for (function, name) in [(&functions[1], "second"), (&functions[2], "third")] {
            tickets.push(submit(&host, function, &[], name, &done).expect("one of each other function has a place"));
            assert_eq!(refused(function), Some(Rejected::QueueFull), "{name}");
        }
        drop(blocking);
        drop(host);
        drop(done);
        let order: Vec<&str> = order.iter().collect();
        assert_eq!(order[..4], ["interrupted", "busy", "second", "third"]);
        assert_eq!(order.len(), 1 + QUEUE + 2);
        assert!(order[4..].iter().all(|name| *name == "busy"));
        drop(tickets);
    }

    #[test]
    fn functions_share_time_not_requests() {
        let (_dir, host, functions) = host(2, 100);
        let (done, order): (_, Receiver<&str>) = channel();
        let blocking = block(&host, &functions[0], &done);
        let [slow, fast] = [&functions[0], &functions[1]];
        for _ in 0..50 {
            slow.observe_occupancy(Duration::from_millis(100));
        }
        let slow_tickets: Vec<_> = (0..3).map(|_| submit(&host, slow, &[], "slow", &done).unwrap()).collect();
        let fast_tickets: Vec<_> = (0..60).map(|_| submit(&host, fast, &[], "fast", &done).unwrap()).collect();
        drop(blocking);
        drop(host);
        drop(done);
        let order: Vec<&str> = order.iter().collect();
        // Sixty short requests take less time than one long one.
        assert_eq!(order.iter().rev().take_while(|name| **name == "slow").count(), 3, "{order:?}");
        drop((slow_tickets, fast_tickets));
    }

    #[test]
    fn a_queue_of_no_length_refuses_everybody() {
        let (_dir, host, functions) = host(1, 0);
        let (done, _order) = channel();
        assert_eq!(submit(&host, &functions[0], &[], "refused", &done).err(), Some(Rejected::QueueFull));
    }

    #[test]
    fn every_thread_rehearses_once() {
        let (_dir, host, functions) = host(1, 10);
        let (done, heard) = channel();
        let workers = host.workers().unwrap();
        let rehearsed = done.clone();
        workers.on_each_thread(move || rehearsed.send("rehearsed").unwrap(), Duration::MAX);
        let ticket = submit(&host, &functions[0], &[], "answered", &done).unwrap();
        drop(host);
        drop(done);
        assert_eq!(heard.iter().collect::<Vec<_>>(), ["rehearsed", "answered"]);
        drop(ticket);
    }
}
