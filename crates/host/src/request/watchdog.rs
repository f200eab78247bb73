//! Stops guests that hold up a thread that has other things to do: the watchdog looks at these threads at intervals, and
//! raises the interrupt of a guest that it has seen too often. Beginning and ending a run costs two stores; nobody
//! reads a clock for it.
//!
//! When no guest has run there for a while, the watchdog tells the threads so, and sleeps.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use nix::time::ClockId;
use parking_lot::Mutex;
use remuda_model::{Cause, Interrupt};
use rustix::thread::{Pid, gettid};

/// The time between two looks.
///
/// Source: chosen, at ten times what a guest may take that is run there. Shorter, and looking disturbs the threads;
/// longer, and a guest that runs away holds up its thread for longer: for twice this time.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// How long a guest must have used its core between two looks to be stopped. A guest that was seen twice may have waited
/// for its core most of the time.
///
/// Source: chosen, at half of the time between two looks. Shorter, and guests are stopped because the machine is busy;
/// longer, and some that run away are stopped a look later.
const RUNAWAY: Duration = Duration::from_micros(500);

/// The number of looks after which a guest is stopped that does not use its core: it may be waiting.
///
/// Source: chosen. Less, and guests are stopped because the machine is busy; more, and a guest that waits holds up its
/// thread for longer.
const LOOKS_MAX: u32 = 20;

/// The number of looks without any run after which the watchdog sleeps.
///
/// Source: chosen. Less, and requests pay for waking it; more, and an idle host is woken that often.
const LOOKS_IDLE: u32 = 20;

/// The watchdog's thread; dropping this ends it.
pub(crate) struct Watchdog {
    watch: Arc<Watch>,
    thread: Option<JoinHandle<()>>,
}

/// What the watchdog and the threads that it watches have in common.
#[derive(Default)]
pub(crate) struct Watch {
    threads: Mutex<Vec<Look>>,
    watchdog: OnceLock<Thread>,
    is_asleep: AtomicBool,
    is_closed: AtomicBool,
}

/// A thread that runs guests between other things.
pub(super) struct Watched {
    thread: Pid,
    /// Twice the number of runs that have ended, and one more while there is a run.
    runs: AtomicU64,
    /// Stops the run that there is. It is replaced once it was raised.
    interrupt: Mutex<Interrupt>,
    /// Called when there was no run for a while.
    idle: Box<dyn Fn() + Send + Sync>,
}

/// A run on a watched thread.
pub(super) struct Run<'a> {
    watched: &'a Watched,
    interrupt: Interrupt,
}

impl Watchdog {
    pub(crate) fn start() -> std::io::Result<Self> {
        let watch = Arc::<Watch>::default();
        let theirs = Arc::clone(&watch);
        let thread = thread::Builder::new().name("remuda-watchdog".into()).spawn(move || theirs.run())?;
        let _ = watch.watchdog.set(thread.thread().clone());
        Ok(Self { watch, thread: Some(thread) })
    }

    pub(crate) fn watch(&self) -> &Arc<Watch> {
        &self.watch
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.watch.is_closed.store(true, Ordering::SeqCst);
        self.watch.wake();
        if let Some(thread) = self.thread.take() {
            // The thread only ends early if it panicked, and then the panic has been reported.
            let _ = thread.join();
        }
    }
}

impl Watch {
    /// Watches the calling thread from now on, and calls `idle` whenever there was no run for a while.
    pub(super) fn this_thread(&self, idle: impl Fn() + Send + Sync + 'static) -> Arc<Watched> {
        let watched = Arc::new(Watched {
            thread: gettid(),
            runs: AtomicU64::new(0),
            interrupt: Mutex::default(),
            idle: Box::new(idle),
        });
        self.threads.lock().push(Look { watched: Arc::downgrade(&watched), runs: 0, times: 0, used: None });
        watched
    }

    fn wake(&self) {
        if let Some(watchdog) = self.watchdog.get() {
            watchdog.unpark();
        }
    }

    fn run(&self) {
        let mut idle = 0;
        while !self.is_closed.load(Ordering::SeqCst) {
            idle = if self.look() { 0 } else { idle + 1 };
            if idle < LOOKS_IDLE {
                thread::park_timeout(LOOK_EVERY);
                continue;
            }
            for watched in self.threads.lock().iter().filter_map(|look| look.watched.upgrade()) {
                (watched.idle)();
            }
            self.is_asleep.store(true, Ordering::SeqCst);
            // Either this sees a run that has begun meanwhile, or whoever begins it sees that the watchdog sleeps.
            if !self.look() && !self.is_closed.load(Ordering::SeqCst) {
                thread::park();
            }
            self.is_asleep.store(false, Ordering::SeqCst);
            idle = 0;
        }
    }

    /// Looks at all threads. Returns whether there were runs since the last look.
    fn look(&self) -> bool {
        let mut any = false;
        self.threads.lock().retain_mut(|look| match look.watched.upgrade() {
            Some(watched) => {
                any |= look.again(&watched);
                true
            }
            None => false,
        });
        any
    }
}

/// What the watchdog has seen of a thread.
struct Look {
    watched: Weak<Watched>,
    runs: u64,
    /// How often the same run was seen, and how much time the thread had used then.
    times: u32,
    used: Option<Duration>,
}

impl Look {
    /// Looks again, and stops a run that was seen too often. Returns whether there were runs since the last look.
    fn again(&mut self, watched: &Watched) -> bool {
        let runs = watched.runs.load(Ordering::SeqCst);
        if runs.is_multiple_of(2) {
            return std::mem::replace(&mut self.runs, runs) != runs;
        }
        let used = watched.used();
        if runs != self.runs {
            (self.runs, self.times, self.used) = (runs, 0, used);
            return true;
        }
        self.times += 1;
        let is_runaway = match (self.used, used) {
            (Some(before), Some(now)) => now.saturating_sub(before) >= RUNAWAY,
            // Without a clock, time on the core cannot be told from time without it.
            _ => true,
        };
        if is_runaway || self.times >= LOOKS_MAX {
            // If the run has ended just now, this stops the next one, which then runs elsewhere; no harm is done.
            watched.interrupt.lock().raise(Cause::Cancelled);
        }
        true
    }
}

impl Watched {
    /// Begins a run.
    pub(super) fn begin(&self, watch: &Watch) -> Run<'_> {
        let interrupt = self.interrupt.lock().clone();
        self.runs.fetch_add(1, Ordering::SeqCst);
        if watch.is_asleep.load(Ordering::SeqCst) {
            watch.wake();
        }
        Run { watched: self, interrupt }
    }

    /// How much time the thread has used a core for.
    fn used(&self) -> Option<Duration> {
        ClockId::from_raw(clock_of(self.thread)).now().ok().map(Duration::from)
    }
}

/// The clock of a thread's time on cores, as the kernel numbers them (`MAKE_THREAD_CPUCLOCK` in Linux,
/// include/linux/posix-timers_types.h).
fn clock_of(thread: Pid) -> i32 {
    const PER_THREAD: i32 = 4;
    const SCHEDULED: i32 = 2;
    (!thread.as_raw_nonzero().get() << 3) | PER_THREAD | SCHEDULED
}

impl Run<'_> {
    /// Stops the guest of this run.
    pub(super) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Ends the run. Returns whether its guest was told to stop.
    pub(super) fn end(self) -> bool {
        self.watched.runs.fetch_add(1, Ordering::SeqCst);
        let was_stopped = self.interrupt.cause().is_some();
        if was_stopped {
            *self.watched.interrupt.lock() = Interrupt::new();
        }
        was_stopped
    }
}
