//! Threads beside those that run requests: some compile, others join races. What they are to do is decided elsewhere.
//!
//! Compilers that no request waits for get only the core time that no other thread wants (`SCHED_IDLE`): a thread that
//! has a request to run takes a core from them at once. A lower priority is not enough, because Linux lets a thread
//! that has begun finish its slice of some milliseconds, and a request that is woken beside a compiler would wait for
//! it. Each compiler's thread is a rayon pool of its own, so that a compiler that works in parallel stays on the one
//! core that the decision gave it.

use std::collections::{HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};
use remuda_model::{EngineId, ModuleDigest};
use remuda_scheduler::{CompileQueue, Sizing};
use rustix::thread::{Pid, gettid, sched_getcpu};
use thread_priority::{ThreadId, thread_native_id};

use crate::placement::{Home, Stays, compile_alone, stand_back, stay_on};

/// The stack of each thread: a compiler's recursion needs more than a thread's usual stack, and a racing guest needs
/// its own.
const STACK_BYTES: usize = 8 << 20;

/// The module and the engine of a compile. There is never more than one compile waiting or under way for the same key.
pub(crate) type CompileKey = (ModuleDigest, EngineId);

/// The threads, and the work that waits for them.
pub(crate) struct Background {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// The most threads at the same time, including those that compile for one race each.
    threads_max: usize,
    racers_per_lane: usize,
    compilers_max: usize,
    /// The cores that this process may use.
    home: Home,
    /// Whether the threads for races stay on some of these cores.
    is_pinned: bool,
}

type Work = Box<dyn FnOnce() + Send>;

struct Queue {
    state: Mutex<State>,
    /// Wakes compilers that wait for work.
    compiles: Condvar,
    /// Wakes racers that wait for work, lane by lane.
    lanes: Vec<Condvar>,
}

#[derive(Default)]
struct State {
    /// The races' work, lane by lane.
    races: Vec<VecDeque<Work>>,
    next_lane: usize,
    compiles: CompileQueue<ModuleDigest, QueuedCompile>,
    /// The threads for races, lane by lane, and the threads that compile.
    racers: Vec<Crew>,
    compilers: Crew,
    keys: HashSet<CompileKey>,
    closed: bool,
}

struct QueuedCompile {
    key: CompileKey,
    work: Work,
}

/// The threads of one kind.
#[derive(Clone, Copy, Default)]
struct Crew {
    threads: usize,
    /// The threads that have nothing to do, or are about to look for work.
    idle: usize,
}

impl Crew {
    /// Whether `waiting` pieces of work call for one more thread.
    fn wants_another(self, waiting: usize, threads_max: usize) -> bool {
        self.idle < waiting && self.threads < threads_max
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Race { lane: usize },
    Compile,
}

/// When threads are started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// All threads are started at once, so that no request waits for one to start.
    Ahead,
    /// Each thread is started when there is work that no other thread is free for. This is for a process that will most
    /// likely end before there is any.
    WhenNeeded,
}

/// The core on which something is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    /// The caller's core, which the caller is about to leave.
    ThisOne,
    /// Another core than the caller's, because the caller needs its own.
    Another,
    /// Another core than this one, which a guest needs, wherever the caller is.
    AnotherThan(usize),
}

/// Up to this number of cores, each core has a lane for races, whose threads stay on it. Linux hardly looks for an idle
/// core when few cores share a cache and half of them are busy: a racer would be woken on the core of the guest that it
/// is to race, and would wait there for some milliseconds.
const PINNED_CORES_MAX: usize = 4;
/// The threads of a lane: while one runs a racer, another looks on.
const THREADS_PER_LANE: usize = 2;
/// The most compiles for races that may be under way for each core, including those that stood back: each may take much
/// memory.
const RACE_COMPILES_PER_CORE_MAX: usize = 4;

impl Background {
    /// Sets up threads for `cores` cores: compilers, and racers if there are races.
    pub(crate) fn start(cores: usize, may_race: bool, threads: Threads) -> std::io::Result<Self> {
        let is_pinned = (2..=PINNED_CORES_MAX).contains(&cores);
        let lanes = if is_pinned { cores } else { 1 };
        let state = State {
            races: (0..lanes).map(|_| VecDeque::new()).collect(),
            racers: vec![Crew::default(); lanes],
            ..State::default()
        };
        let queue = Arc::new(Queue {
            state: Mutex::new(state),
            compiles: Condvar::new(),
            lanes: (0..lanes).map(|_| Condvar::new()).collect(),
        });
        let racers_per_lane = if may_race { THREADS_PER_LANE * cores / lanes } else { 0 };
        let compilers_max = Sizing::of(cores).compilers;
        let threads_max = racers_per_lane * lanes + compilers_max + RACE_COMPILES_PER_CORE_MAX * cores;
        let background = Self {
            queue,
            threads: Mutex::default(),
            threads_max,
            racers_per_lane,
            compilers_max,
            home: Home::of_this_thread(),
            is_pinned,
        };
        if threads == Threads::Ahead {
            for lane in 0..lanes {
                for _ in 0..racers_per_lane {
                    background.spawn(Kind::Race { lane })?;
                }
            }
            for _ in 0..background.compilers_max {
                background.spawn(Kind::Compile)?;
            }
        }
        Ok(background)
    }

    /// Starts one more thread.
    fn spawn(&self, kind: Kind) -> std::io::Result<()> {
        let name = match kind {
            Kind::Race { lane } => format!("remuda-race-{lane}"),
            Kind::Compile => "remuda-comp".into(),
        };
        let (queue, home) = (Arc::clone(&self.queue), self.home);
        let mut threads = self.threads.lock();
        let mut state = self.queue.state.lock();
        if state.closed {
            return Ok(());
        }
        let thread = thread::Builder::new().name(name).stack_size(STACK_BYTES).spawn(move || queue.run(kind, home))?;
        let crew = state.crew(kind);
        crew.threads += 1;
        crew.idle += 1;
        drop(state);
        threads.push(thread);
        Ok(())
    }

    /// Starts one more thread for work that waits for it.
    fn spawn_for_work(&self, kind: Kind) {
        if let Err(error) = self.spawn(kind) {
            // Another thread of this kind comes to the work by and by, if there is one; requests do without the work.
            tracing::warn!(%error, "cannot start a thread for work in the background");
        }
    }

    /// Keeps the calling thread on its core, if the threads for races stay on theirs: otherwise it might be moved to
    /// the core of a thread that sleeps, which would then be woken late. Also returns which core that is.
    pub(crate) fn stay_here(&self) -> (Option<Stays>, usize) {
        let here = sched_getcpu();
        if self.queue.lanes.len() < 2 {
            return (None, here);
        }
        (Stays::on(here), here)
    }

    /// Has a thread for races do `work` at once; if there are lanes, on the core that `on` names.
    pub(crate) fn race(&self, on: Core, work: impl FnOnce() + Send + 'static) {
        let lanes = self.queue.lanes.len();
        let here = if lanes > 1 { sched_getcpu() % lanes } else { 0 };
        let mut state = self.queue.state.lock();
        let next = state.next_lane % lanes;
        let beside = |lane: usize| if next == lane { (lane + 1) % lanes } else { next };
        let lane = match on {
            Core::ThisOne => here,
            Core::Another => beside(here),
            Core::AnotherThan(core) => beside(core % lanes),
        };
        state.next_lane = lane + 1;
        state.races[lane].push_back(Box::new(work));
        let wants_another = state.racers[lane].wants_another(state.races[lane].len(), self.racers_per_lane);
        drop(state);
        if wants_another {
            self.spawn_for_work(Kind::Race { lane });
        }
        self.queue.lanes[lane].notify_one();
    }

    /// Has a compiler's thread of its own do `work`, at the priority of requests until the thread is told to
    /// [stand back](CompileThread::stand_back). Returns `None` if no such thread can be had, or if too many are at
    /// work.
    pub(crate) fn compile_now(&self, work: impl FnOnce() + Send + 'static) -> Option<CompileThread> {
        self.compile_apart(false, work)
    }

    /// Like [`Background::compile_now`], but the thread stands back from the beginning.
    pub(crate) fn compile_behind(&self, work: impl FnOnce() + Send + 'static) -> Option<CompileThread> {
        self.compile_apart(true, work)
    }

    fn compile_apart(&self, stands_back: bool, work: impl FnOnce() + Send + 'static) -> Option<CompileThread> {
        let compiler = CompileThread { thread: Arc::default(), home: self.is_pinned.then_some(self.home) };
        let theirs = compiler.clone();
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        // No request would wait for it any more, or there are enough threads that were told to stand back.
        if self.queue.state.lock().closed || threads.len() >= self.threads_max {
            return None;
        }
        let spawned = thread::Builder::new().name("remuda-comp".into()).stack_size(STACK_BYTES).spawn(move || {
            theirs.begin();
            if stands_back {
                // The thread stays on the core of the thread that started it: on another one, Linux may leave it behind
                // a guest.
                stand_back(thread_native_id());
            }
            let _alone = compile_alone();
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("panic in a compile for a race");
            }
            theirs.end();
        });
        threads.push(spawned.ok()?);
        Some(compiler)
    }

    /// Has `work` done when a compiler's thread is free, unless it waits or is under way already. The most worthwhile
    /// compile comes first, as long as modules take turns.
    pub(crate) fn compile(&self, key: CompileKey, worth_ns: f64, work: impl FnOnce() + Send + 'static) {
        let mut state = self.queue.state.lock();
        if state.closed || !state.keys.insert(key) {
            return;
        }
        state.compiles.push(key.0, worth_ns, QueuedCompile { key, work: Box::new(work) });
        let wants_another = state.compilers.wants_another(state.compiles.len(), self.compilers_max);
        drop(state);
        if wants_another {
            self.spawn_for_work(Kind::Compile);
        }
        self.queue.compiles.notify_one();
    }

    /// Waits for work that is under way, and drops work that waits: no request is answered by it any more.
    ///
    /// Work that waits may keep the owner of this value alive, so closing it cannot be left to `drop`.
    pub(crate) fn close(&self) {
        let mut state = self.queue.state.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.compiles);
        drop(state);
        drop(waiting);
        self.queue.compiles.notify_all();
        for lane in &self.queue.lanes {
            lane.notify_all();
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // A panic of its work was caught where it happened.
            let _ = thread.join();
        }
    }

    /// Whether this compile waits or is under way.
    pub(crate) fn is_compiling(&self, key: CompileKey) -> bool {
        self.queue.state.lock().keys.contains(&key)
    }
}

impl Queue {
    fn run(&self, kind: Kind, home: Home) {
        let _alone = match kind {
            Kind::Compile => {
                home.go();
                stand_back(thread_native_id());
                compile_alone()
            }
            Kind::Race { lane } => {
                if self.lanes.len() > 1 {
                    stay_on(lane);
                }
                None
            }
        };
        let changed = match kind {
            Kind::Race { lane } => &self.lanes[lane],
            Kind::Compile => &self.compiles,
        };
        loop {
            let mut state = self.state.lock();
            let (key, work) = loop {
                let next = match kind {
                    Kind::Race { lane } => state.races[lane].pop_front().map(|work| (None, work)),
                    Kind::Compile => state.compiles.pop().map(|compile| (Some(compile.key), compile.work)),
                };
                match next {
                    Some(next) => {
                        state.crew(kind).idle -= 1;
                        break next;
                    }
                    None if state.closed => return,
                    None => changed.wait(&mut state),
                }
            };
            drop(state);
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                tracing::error!("panic in the background; no request depends on it");
            }
            let mut state = self.state.lock();
            state.crew(kind).idle += 1;
            if let Some(key) = key {
                state.keys.remove(&key);
            }
        }
    }
}

/// A thread that compiles for a race.
#[derive(Clone)]
pub(crate) struct CompileThread {
    /// The thread's ids, while it is at work.
    thread: Arc<Mutex<Option<(ThreadId, Pid)>>>,
    /// The cores that it may use when the race is over. Until then it is on the core of the thread that joined the
    /// race.
    home: Option<Home>,
}

impl CompileThread {
    fn begin(&self) {
        *self.thread.lock() = Some((thread_native_id(), gettid()));
    }

    fn end(&self) {
        *self.thread.lock() = None;
    }

    /// Makes the thread give way to requests, because the race is over: what it compiles is for later.
    pub(crate) fn stand_back(&self) {
        // The thread cannot end while this is locked.
        if let Some((thread, id)) = *self.thread.lock() {
            stand_back(thread);
            if let Some(home) = &self.home {
                home.send(id);
            }
        }
    }
}

impl State {
    fn crew(&mut self, kind: Kind) -> &mut Crew {
        match kind {
            Kind::Race { lane } => &mut self.racers[lane],
            Kind::Compile => &mut self.compilers,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn key(n: u8) -> CompileKey {
        (ModuleDigest::from_bytes([n; 32]), EngineId::new("mock"))
    }

    #[test]
    fn the_most_worthwhile_compile_comes_first_and_each_only_once() {
        let background = Background::start(1, false, Threads::WhenNeeded).unwrap();
        let (done, order) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        background.compile(key(0), 0.0, move || wait.recv().unwrap());
        for (n, worth_ns) in [(1, 5.0), (2, 50.0), (1, 500.0), (3, 20.0)] {
            let done = done.clone();
            background.compile(key(n), worth_ns, move || done.send(n).unwrap());
        }
        assert!(background.is_compiling(key(0)) && background.is_compiling(key(3)));
        go.send(()).unwrap();
        drop(done);
        assert_eq!(order.iter().collect::<Vec<_>>(), [2, 3, 1]);
        background.close();
    }

    #[test]
    fn a_module_worth_much_does_not_keep_others_waiting() {
        let background = Background::start(1, false, Threads::WhenNeeded).unwrap();
        let (done, order) = mpsc::channel();
        let (go, wait) = mpsc::channel::<()>();
        background.compile(key(0), 0.0, move || wait.recv().unwrap());
        let engines = ["a", "b", "c"].map(EngineId::new);
        for (module, worth_ns) in [(1, 1000.0), (2, 1.0), (3, 10.0)] {
            for (at, engine) in engines.into_iter().enumerate() {
                let done = done.clone();
                let key = (ModuleDigest::from_bytes([module; 32]), engine);
                let worth_ns = worth_ns * (at + 1) as f64;
                background.compile(key, worth_ns, move || done.send((module, engine.as_str())).unwrap());
            }
        }
        go.send(()).unwrap();
        drop(done);
        let round = |engine| [(1, engine), (3, engine), (2, engine)];
        assert_eq!(order.iter().collect::<Vec<_>>(), ["c", "b", "a"].map(round).concat());
        background.close();
    }

    #[test]
    fn a_panic_takes_nobody_with_it() {
        let background = Background::start(1, true, Threads::Ahead).unwrap();
        let (done, wait) = mpsc::channel();
        let again = done.clone();
        background.compile(key(1), 0.0, || panic!("the compiler"));
        background.compile(key(2), 0.0, move || done.send("compile").unwrap());
        background.race(Core::Another, || panic!("the racer"));
        background.race(Core::Another, move || again.send("race").unwrap());
        let mut heard = [wait.recv().unwrap(), wait.recv().unwrap()];
        heard.sort_unstable();
        assert_eq!(heard, ["compile", "race"]);
        background.close();
    }
}
