//! Where threads run, and how they give way to others: cores, priorities, pools.

use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};
use thread_priority::{
    NormalThreadSchedulePolicy, ThreadId, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Leaves this thread, and all threads and processes that it starts from now on, only the core time that no other
/// thread wants.
pub fn lower_priority() {
    stand_back(thread_native_id());
}

/// Leaves a thread only the core time that no other thread wants.
pub(crate) fn stand_back(thread: ThreadId) {
    // On Linux each thread has a policy of its own.
    let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
    if let Err(error) = set_thread_priority_and_policy(thread, ThreadPriority::Min, idle) {
        tracing::warn!(?error, "a background compiler runs at the priority of requests");
    }
}

/// The cores that a thread may use. They are kept for threads that are started late: a thread that is started by one
/// that stays on its core for a race would otherwise stay there, too.
#[derive(Clone, Copy)]
pub(crate) struct Home(Option<CpuSet>);

impl Home {
    /// The cores that the calling thread may use.
    pub(crate) fn of_this_thread() -> Self {
        Self(sched_getaffinity(None).ok())
    }

    /// Lets the calling thread use these cores.
    pub(crate) fn go(&self) {
        if let Some(cores) = &self.0 {
            // If this fails, the thread stays where it is.
            let _ = sched_setaffinity(None, cores);
        }
    }

    /// Lets another thread of this process use these cores.
    pub(crate) fn send(&self, thread: Pid) {
        if let Some(cores) = &self.0 {
            // If this fails, the thread stays where it is.
            let _ = sched_setaffinity(Some(thread), cores);
        }
    }
}

/// Keeps a thread on its core. Dropping this, on the same thread, lets the thread go where it could go before.
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
        // The thread was allowed on these cores before.
        let _ = sched_setaffinity(None, &self.0);
    }
}

/// Keeps this thread on one core. If that is not allowed, the thread goes where the system likes.
pub(crate) fn stay_on(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    if let Err(error) = sched_setaffinity(None, &cores) {
        tracing::debug!(%error, core, "a thread for races is not kept on a core");
    }
}

/// Makes compilers that are called on this thread, and would work in parallel, work on this thread alone from here on.
pub(crate) fn compile_alone() -> Option<rayon::ThreadPool> {
    let alone = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
    alone.inspect_err(|error| tracing::warn!(%error, "background compilers use every core")).ok()
}
