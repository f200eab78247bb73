//! Where artifacts are kept: in memory and on disk, each under a budget.

use remuda_scheduler::GreedyDual;

/// An artifact: the function's number, and the engine's in the table.
pub(crate) type Key = (u32, usize);

/// What left a tier.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    pub(crate) memory: Vec<Key>,
    pub(crate) disk: Vec<Key>,
}

/// The two tiers.
#[derive(Debug)]
pub(crate) struct Store {
    memory: GreedyDual<Key>,
    disk: GreedyDual<Key>,
}

impl Store {
    pub(crate) fn new(memory_bytes_max: u64, disk_bytes_max: u64) -> Self {
        Self { memory: GreedyDual::new(memory_bytes_max), disk: GreedyDual::new(disk_bytes_max) }
    }

    /// Keeps an artifact in memory. `cost_ns` is what it takes to have it there again.
    pub(crate) fn keep_in_memory(&mut self, key: Key, bytes: u64, cost_ns: u64) -> Evicted {
        Evicted { memory: self.memory.insert(key, bytes, cost_ns), ..Evicted::default() }
    }

    /// Keeps it on disk, where it costs a compile to have it again.
    pub(crate) fn keep_on_disk(&mut self, key: Key, bytes: u64, compile_ns: u64) -> Evicted {
        Evicted { disk: self.disk.insert(key, bytes, compile_ns), ..Evicted::default() }
    }

    /// Somebody runs on it.
    pub(crate) fn pin(&mut self, key: Key) {
        self.memory.touch(&key);
        self.memory.pin(&key);
    }

    /// Nobody does any more.
    pub(crate) fn unpin(&mut self, key: Key) {
        self.memory.unpin(&key);
    }

    /// Counts a use of what was loaded.
    pub(crate) fn touch_on_disk(&mut self, key: Key) {
        self.disk.touch(&key);
    }

    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.used_bytes()
    }

    pub(crate) fn disk_bytes(&self) -> u64 {
        self.disk.used_bytes()
    }
}
