//! Parts of a function's module that are kept for its next requests. They are made in `request::mover`.

use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use remuda_engine::{Extent, Instance, Part};
use remuda_model::{EngineId, Tier};

/// The most parts that are kept for a function's next requests, until better code of the whole module is ready. Each
/// part takes some 50 KB.
///
/// Source: chosen. With fewer, the next request of a program of many phases waits for parts again; with more, each
/// function may take more memory that no budget knows of.
const PARTS_KEPT_MAX: usize = 16;

/// The parts of a function's module that are kept for its next requests.
#[derive(Default)]
pub(crate) struct Parts {
    /// Lets a request that finds no parts, which is usual, do without the lock.
    are_any: AtomicBool,
    kept: Mutex<Vec<(Part, Extent)>>,
}

impl Parts {
    /// Has a guest that has not begun go on in the parts in which its function's earlier guests went on, if it can
    /// move. Returns these parts.
    pub(crate) fn offer_to(&self, instance: &dyn Instance) -> Vec<(Part, Extent)> {
        if !self.are_any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let Some(moves) = instance.moves() else { return Vec::new() };
        let parts = self.kept.lock().clone();
        for (part, _) in &parts {
            moves.offer(part.clone());
        }
        parts
    }

    pub(crate) fn keep(&self, part: Part, extent: Extent) {
        let mut parts = self.kept.lock();
        if parts.len() < PARTS_KEPT_MAX {
            parts.push((part, extent));
            self.are_any.store(true, Ordering::Release);
        }
    }

    /// The engine in whose code a guest would go on, and its tier.
    pub(crate) fn best(&self) -> Option<(EngineId, Tier)> {
        if !self.are_any.load(Ordering::Acquire) {
            return None;
        }
        self.kept.lock().iter().map(|(part, _)| (part.engine(), part.tier())).max_by_key(|(_, tier)| *tier)
    }

    /// Forgets the parts, because there is code of the whole module that is as good.
    pub(crate) fn forget(&self) {
        self.kept.lock().clear();
        self.are_any.store(false, Ordering::Release);
    }
}
