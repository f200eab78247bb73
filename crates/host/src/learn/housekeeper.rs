//! Keeping what requests leave behind, so that no request waits for a disk. A thread does that; or, in a process that
//! makes one call, the caller that leaves the host, after the answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_model::Observation;

use crate::cores::Cores;
use crate::learn::profile::Profiles;
use crate::learn::row::CompileObservation;
use crate::placement::lower_priority;

/// The most tasks that may wait for the disk. Further tasks are dropped, with a warning in the log.
const TASKS_MAX: usize = 4096;
/// The longest time that tasks wait for an idle core. They take a core for a millisecond, and would take it from a
/// request; but on a host that is never idle they have to be done, too.
///
/// Source: chosen, so that on a host without an idle core fewer than one of a hundred requests meets them. Shorter, and more do;
/// longer, and more is lost if the process is killed.
const PATIENCE: Duration = Duration::from_secs(1);
/// The time between two looks at the cores. A core counts as idle if it is so twice in a row: it may be idle for a
/// moment while an answer is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What becomes of the tasks that requests leave behind.
pub(crate) enum Keeper {
    /// They are dropped: nothing outlives the process.
    Nobody,
    /// A thread does them, by and by.
    Thread(Housekeeper),
    /// The caller that leaves the host does them. They wait here until then.
    Leaver(Mutex<Vec<Task>>),
}

impl Keeper {
    /// Hands over a task.
    pub(crate) fn hand_over(&self, task: Task) {
        match self {
            Self::Nobody => {}
            Self::Thread(housekeeper) => housekeeper.hand_over(task),
            Self::Leaver(tasks) => tasks.lock().push(task),
        }
    }
}

/// The thread that writes to disk what requests leave behind.
pub(crate) struct Housekeeper {
    tasks: Option<SyncSender<Task>>,
    /// The number of tasks that were dropped, and that the thread has not yet told of.
    dropped: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) enum Task {
    /// Observations of requests, for the profile.
    Observed(Vec<Observation>),
    /// A compile that no request waited for, for the profile.
    Compiled(CompileObservation),
    /// Other work, such as keeping an artifact.
    Do(Box<dyn FnOnce() -> Result<(), NotKept> + Send>),
    /// A message whose sender is answered when all tasks that came before are written.
    Flush(SyncSender<()>),
}

/// The error of something that was to be kept and could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep {what}: {reason}")]
pub struct NotKept {
    /// The thing that was to be kept.
    pub what: String,
    /// The reason.
    pub reason: String,
}

impl Housekeeper {
    pub(crate) fn start(profiles: Arc<Mutex<Profiles>>, cores: Arc<Cores>) -> std::io::Result<Self> {
        let (tasks, waiting) = sync_channel(TASKS_MAX);
        let dropped = Arc::<AtomicU64>::default();
        let to_tell = Arc::clone(&dropped);
        let run = move || {
            // Also on a core that nobody wanted a moment ago, a request is not to wait for this thread.
            lower_priority();
            run(&profiles, &waiting, &cores, &to_tell);
        };
        let thread = thread::Builder::new().name("remuda-disk".into()).spawn(run)?;
        Ok(Self { tasks: Some(tasks), dropped, thread: Some(thread) })
    }

    /// Hands over a task, or drops it if the disk is too far behind.
    pub(crate) fn hand_over(&self, task: Task) {
        if let Some(tasks) = &self.tasks
            && tasks.try_send(task).is_err()
        {
            // The thread tells of them with its next batch: one line for each of them would fill a log.
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until everything that was handed over before is written.
    pub(crate) fn flush(&self) {
        let (done, wait) = sync_channel(1);
        self.hand_over(Task::Flush(done));
        // If the message was dropped, the disk is so far behind that nobody should wait for it.
        let _ = wait.recv();
    }
}

/// Waits until everything is written.
impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Waits for a core that no request wants, for about [`PATIENCE`] at most, or until a caller waits in `flush`. Returns the
/// tasks that have come meanwhile.
fn collect_batch(first: Task, tasks: &Receiver<Task>, cores: &Cores) -> Vec<Task> {
    let began = Instant::now();
    let mut is_awaited = matches!(first, Task::Flush(_));
    let mut batch = vec![first];
    let mut was_idle = false;
    while batch.len() < TASKS_MAX && !is_awaited && began.elapsed() < PATIENCE {
        // Tasks that come meanwhile need not wake this thread.
        thread::sleep(LOOK_AGAIN);
        let before = batch.len();
        let no_more = loop {
            match tasks.try_recv() {
                Ok(task) => {
                    is_awaited |= matches!(task, Task::Flush(_));
                    batch.push(task);
                }
                Err(no_more) => break no_more,
            }
        };
        let is_idle = batch.len() == before && cores.load().idle_cores() > 0;
        if (is_idle && was_idle) || no_more == TryRecvError::Disconnected {
            break;
        }
        was_idle = is_idle;
    }
    batch
}

fn run(profiles: &Mutex<Profiles>, tasks: &Receiver<Task>, cores: &Cores, dropped: &AtomicU64) {
    let mut reported = false;
    while let Ok(first) = tasks.recv() {
        // One transaction holds all that has come meanwhile.
        let (mut observations, mut compiles, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        for task in collect_batch(first, tasks, cores) {
            match task {
                Task::Observed(more) => observations.extend(more),
                Task::Compiled(compile) => compiles.push(compile),
                Task::Do(work) => {
                    if let Err(error) = work() {
                        tracing::error!(%error, "requests go on without it");
                    }
                }
                Task::Flush(done) => waiting.push(done),
            }
        }
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "the disk is too slow: observations or artifacts were not kept");
        }
        let nothing = observations.is_empty() && compiles.is_empty();
        if nothing {
            waiting.clear();
            continue;
        }
        match profiles.lock().append(&observations, &compiles) {
            Ok(()) => reported = false,
            Err(error) if !reported => {
                // The error is reported once for each spell of trouble, not for each request.
                reported = true;
                tracing::error!(%error, "cannot write the profile; requests go on without it");
            }
            Err(_) => {}
        }
        // The callers that wait for these tasks see their channels close.
        drop(waiting);
    }
}

#[cfg(test)]
mod tests {
    use remuda_engine::Registry;
    use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, Outcome};

    use super::*;
    use crate::learn::profile::testing::{MODULE, WINCH, observation};
    use crate::{Call, FunctionSpec, Host, HostConfig};

    fn start(profiles: Arc<Mutex<Profiles>>) -> Housekeeper {
        Housekeeper::start(profiles, Arc::new(Cores::new(1, 0.0))).unwrap()
    }

    #[test]
    fn a_profile_survives_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let housekeeper = start(Arc::new(Mutex::new(Profiles::open(dir.path()).unwrap())));
        for ns in [100, 200, 300] {
            housekeeper.hand_over(Task::Observed(vec![observation(ns)]));
        }
        housekeeper
            .hand_over(Task::Observed(vec![Observation { outcome: Outcome::Exited { code: 1 }, ..observation(9) }]));
        housekeeper.hand_over(Task::Compiled(CompileObservation { module: MODULE, engine: WINCH, ns: 5, unix_ms: 1 }));
        drop(housekeeper);
        let profile = Profiles::open(dir.path()).unwrap().load(MODULE, 1, &Registry::default()).unwrap();
        let winch = profile.engine(WINCH).unwrap();
        assert_eq!((winch.execute.predict(Some(10)).unwrap().ns, winch.execute.count()), (200.0, 3));
        assert_eq!((winch.compile.ns(), winch.compile.count()), (Some(5), 5));
    }

    #[test]
    fn what_requests_left_is_on_disk_when_the_host_is_gone_whoever_still_knows_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.wat");
        std::fs::write(&path, "(module (func (export \"_start\")))").unwrap();
        let config = HostConfig { data_dir: Some(dir.path().join("data")), workers: 1, ..HostConfig::default() };
        let host = Host::open(&config).unwrap();
        let engines = Some(vec!["mock".to_owned()]);
        let spec = FunctionSpec { engines, ..FunctionSpec::of_module(&path) };
        let function = host.deploy(spec, Some(&Entry::Command)).unwrap();
        let context = GuestContext { args: vec!["f".into()], ..GuestContext::default() };
        let call = Call { id: host.next_request_id(), entry: Entry::Command, context, limits: GuestLimits::default() };
        host.call(&function, &Arc::new(call), &Interrupt::new()).unwrap();
        let known = host.shared().registry.find("mock").unwrap();
        let shared = Arc::clone(host.shared());
        drop(host);
        assert!(shared.store.as_ref().unwrap().may_contain(function.module.digest(), known));
    }

    #[test]
    fn a_full_disk_stops_nobody_and_what_was_kept_stays() {
        let dir = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::open(dir.path()).unwrap();
        profiles.append(&[observation(100)], &[]).unwrap();
        profiles.pretend_disk_is_full(true);
        let profiles = Arc::new(Mutex::new(profiles));
        let housekeeper = start(Arc::clone(&profiles));
        // Each row is of another module, so that none of these rows takes another's place.
        let other = |n: u32| {
            let module = remuda_model::ModuleDigest::of(&n.to_le_bytes());
            Observation { module, ..observation(1) }
        };
        for n in 0..2_000 {
            housekeeper.hand_over(Task::Observed(vec![other(n)]));
        }
        let (done, is_done) = std::sync::mpsc::channel();
        housekeeper.hand_over(Task::Do(Box::new(move || {
            done.send(()).unwrap();
            Ok(())
        })));
        is_done.recv().expect("the thread goes on");
        drop(housekeeper);

        let mut profiles = profiles.lock();
        assert!((0..2_000).map(other).collect::<Vec<_>>().chunks(100).any(|rows| profiles.append(rows, &[]).is_err()));
        let registry = Registry::default();
        assert!(profiles.load(MODULE, 1, &registry).unwrap().engine(WINCH).is_some());
        profiles.pretend_disk_is_full(false);
        profiles.append(&[observation(300)], &[]).unwrap();
        assert_eq!(profiles.load(MODULE, 1, &registry).unwrap().engine(WINCH).unwrap().execute.count(), 2);
    }
}
