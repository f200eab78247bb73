//! Where threads run, and how they stand back: cores, priorities, pools.

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadId, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Leaves this thread, and all threads and processes that it starts from now on, what cores have left.
pub fn lower_priority() {
    stand_back(thread_native_id());
}

/// Leaves a thread what cores have left.
pub(crate) fn stand_back(thread: ThreadId) {
    // On Linux this is a thread's own.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread, ThreadPriority::Min, idle) {
        tracing::warn!(?error, "a background compiler runs at the priority of requests");
    }
}

/// The cores that a thread may use. A thread that is started late, by one that stays on its core for a race, would stay there
/// with it.
#[derive(Clone, Copy)]
pub(crate) struct Home(Option<CpuSet>);

impl Home {
    /// Those of the calling thread.
    pub(crate) fn of_this_thread() -> Self {
        Self(sched_getaffinity(None).ok())
    }

    /// Lets the calling thread use them.
    pub(crate) fn go(&self) {
        if let Some(cores) = &self.0 {
            // If it cannot, it stays where it is.
            let _ = sched_setaffinity(None, cores);
        }
    }

    /// Lets another thread of this process use them.
    pub(crate) fn send(&self, thread: Pid) {
        if let Some(cores) = &self.0 {
            // If it cannot, it stays where it is.
            let _ = sched_setaffinity(Some(thread), cores);
        }
    }
}

/// Keeps a thread on its core; dropping it, on the same thread, lets it go where it might go before.
pub(crate) struct Stays(CpuSet);

impl Stays {
    /// Keeps the calling thread on this core.
    pub(crate) fn on(core: usize) -> Option<Self> {
        let before = sched_getaffinity(None).ok()?;
        stay_on(core);
        Some(Self(before))
    }
}

impl Drop for Stays {
    fn drop(&mut self) {
        // It was allowed there before.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// Keeps this thread on one core. Where that is not allowed it goes where the system likes.
pub(crate) fn stay_on(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        tracing::debug!(%error, core, "a thread for races is not kept on a core");
    }
}

/// From here on what compiles in parallel on this thread does so on this thread alone.
pub(crate) fn compile_alone() -> Option<rayon::ThreadPool> {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    alone.inspect_err(|error| tracing::warn!(%error, "background compilers use every core")).ok()
}
