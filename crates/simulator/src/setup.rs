use remuda_scheduler::Policy;

/// Who chooses engines in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// A policy of the production scheduler.
    Policy(Policy),
    /// Hindsight: the yardstick.
    Oracle,
}

impl std::fmt::Display for Chooser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(policy) => policy.fmt(f),
            Self::Oracle => f.write_str("oracle"),
        }
    }
}

/// The host that is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    /// Cores.
    pub cores: usize,
    /// Threads that run requests; more requests wait.
    pub workers: usize,
    /// Threads that compile between requests.
    pub compilers: usize,
    /// Requests that may wait; more are sent away.
    pub waiting_max: usize,
    /// Bytes of artifacts in memory.
    pub memory_bytes_max: u64,
    /// Bytes of artifacts on disk.
    pub disk_bytes_max: u64,
    /// The share of useful time that races may waste.
    pub waste_share_max: f64,
}

impl Setup {
    /// What a host with so many cores has by default.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self {
            cores,
            workers: cores,
            compilers: cores.div_ceil(4),
            waiting_max: 1 << 20,
            memory_bytes_max: 256 << 20,
            disk_bytes_max: 1 << 30,
            waste_share_max: 0.25,
        }
    }
}
