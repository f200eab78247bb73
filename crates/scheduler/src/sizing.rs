/// How much a host does at once, and how much it keeps. The host and the simulator both start with these defaults.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    /// Threads that run requests.
    pub workers: usize,
    /// Threads that compile between requests.
    pub compilers: usize,
    /// Requests that may wait for a thread; further ones are sent away. See
    /// [`FairQueue::push`](crate::FairQueue::push).
    pub waiting_max: usize,
    /// Bytes of artifacts that stay in memory.
    pub memory_bytes_max: u64,
    /// Bytes of artifacts that stay on disk.
    pub disk_bytes_max: u64,
    /// How much CPU time races may waste, as a share of the CPU time that answers requests.
    pub waste_share_max: f64,
}

impl Sizing {
    /// The defaults for a host with so many cores.
    #[must_use]
    pub const fn of(cores: usize) -> Self {
        Self {
            workers: cores,
            // Compilers get what cores have left, so that more of them do no harm.
            compilers: cores,
            waiting_max: 128,
            memory_bytes_max: 512 << 20,
            disk_bytes_max: 4 << 30,
            waste_share_max: 0.5,
        }
    }
}
