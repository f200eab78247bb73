//! The store of artifacts: in memory and on disk, each under a budget.

use remuda_scheduler::{GreedyDual, WorthLess};

/// An artifact: the number of its function, and the number of its engine in the table.
pub(crate) type Key = (u32, usize);

/// The artifacts that left each tier of the store.
#[derive(Debug, Default)]
pub(crate) struct Evicted {
    pub(crate) memory: Vec<Key>,
    pub(crate) disk: Vec<Key>,
}

/// The two tiers of the store.
#[derive(Debug)]
pub(crate) struct Store {
    memory: GreedyDual<Key>,
    disk: GreedyDual<Key>,
}

impl Store {
    pub(crate) fn new(memory_bytes_max: u64, disk_bytes_max: u64) -> Self {
        Self { memory: GreedyDual::new(memory_bytes_max), disk: GreedyDual::new(disk_bytes_max) }
    }

    /// Keeps an artifact in memory. `cost_ns` is the time that it takes to have it there again, in nanoseconds.
    pub(crate) fn keep_in_memory(&mut self, key: Key, bytes: u64, cost_ns: u64) -> Evicted {
        Evicted { memory: self.memory.insert(key, bytes, cost_ns), ..Evicted::default() }
    }

    /// As [`keep_in_memory`](Self::keep_in_memory), for an artifact that is only expected to be used: it displaces
    /// nothing that is worth more.
    pub(crate) fn keep_expected(&mut self, key: Key, bytes: u64, cost_ns: u64) -> Evicted {
        let memory = self.memory.insert_expected(key, bytes, cost_ns, |_| 0).unwrap_or_else(|WorthLess| vec![key]);
        Evicted { memory, ..Evicted::default() }
    }

    /// Lets go of an artifact that was kept for a request that did not come. Says whether it is gone.
    pub(crate) fn release_unused(&mut self, key: Key) -> bool {
        // An artifact counts as used once when it comes in.
        self.memory.uses(&key) == Some(1) && self.memory.remove(&key)
    }

    /// Keeps an artifact on disk, where it costs a compile to have it again.
    pub(crate) fn keep_on_disk(&mut self, key: Key, bytes: u64, compile_ns: u64) -> Evicted {
        Evicted { disk: self.disk.insert(key, bytes, compile_ns), ..Evicted::default() }
    }

    /// Counts a use of an artifact that was in memory. One that has just come in counts as used once.
    pub(crate) fn touch(&mut self, key: Key) {
        self.memory.touch(&key);
    }

    /// Notes that one more guest runs on an artifact.
    pub(crate) fn pin(&mut self, key: Key) {
        self.memory.pin(&key);
    }

    /// Notes that one guest fewer runs on an artifact.
    pub(crate) fn unpin(&mut self, key: Key) {
        self.memory.unpin(&key);
    }

    /// Counts a use of an artifact that was loaded.
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
