//! The budget of memory that the artifacts of a host share.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use remuda_engine::Artifact;
use remuda_model::{EngineId, ModuleDigest};
use remuda_scheduler::{GreedyDual, WorthLess};

/// An artifact's module and engine.
pub(crate) type Key = (ModuleDigest, EngineId);

/// A place whose artifact can be evicted from memory.
pub(crate) trait Evictable {
    /// The number of requests that found the artifact in memory since this was asked last.
    fn take_uses(&self) -> u64;

    /// Takes the artifact out of its place and returns it; requests that run it keep it until they end.
    fn evict(&self) -> Option<Arc<dyn Artifact>>;
}

/// The artifacts that are in memory, under a budget. When it is spent, those with the least [`GreedyDual`] credit go.
pub(crate) struct Memory<S> {
    slots: Mutex<HashMap<Key, Arc<S>>>,
    /// The credits of the artifacts in memory. This is locked before a slot, and never while a slot is locked.
    resident: Mutex<GreedyDual<Key>>,
}

impl<S: Evictable> Memory<S> {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self { slots: Mutex::default(), resident: Mutex::new(GreedyDual::new(budget_bytes)) }
    }

    /// Counts an artifact that has come into memory, and lets others go if there are too many.
    pub(crate) fn admit(&self, key: Key, bytes: u64, cost_ns: u64) {
        let mut resident = self.resident();
        let slots = self.slots();
        let uses_since = |key: &Key| slots.get(key).map_or(0, |slot| slot.take_uses());
        let evicted = resident.insert_counting(key, bytes, cost_ns, uses_since);
        // The artifacts are evicted while `resident` is locked, so that nobody can have made one of them again.
        let gone: Vec<_> = evicted.iter().filter_map(|key| slots.get(key)?.evict()).collect();
        drop(slots);
        drop(resident);
        if !gone.is_empty() {
            tracing::debug!(evicted = gone.len(), "artifacts left the memory, which its budget demands");
        }
        // The memory is given back here, with no lock held.
        drop(gone);
    }

    /// Like [`Memory::admit`], for an artifact that is only expected to be used: it displaces nothing that is worth
    /// more. Returns whether it is in memory now.
    pub(crate) fn admit_expected(&self, key: Key, bytes: u64, cost_ns: u64) -> bool {
        let mut resident = self.resident();
        let slots = self.slots();
        let uses_since = |key: &Key| slots.get(key).map_or(0, |slot| slot.take_uses());
        let (evicted, is_in) = match resident.insert_expected(key, bytes, cost_ns, uses_since) {
            Ok(evicted) => (evicted, true),
            Err(WorthLess) => (vec![key], false),
        };
        let gone: Vec<_> = evicted.iter().filter_map(|key| slots.get(key)?.evict()).collect();
        drop(slots);
        drop(resident);
        drop(gone);
        is_in
    }

    pub(crate) fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<S>>> {
        self.slots.lock()
    }

    pub(crate) fn resident(&self) -> MutexGuard<'_, GreedyDual<Key>> {
        self.resident.lock()
    }
}
