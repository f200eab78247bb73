//! Parts of a function's module that are kept for its next requests, and the memory that those of all functions may take.
//! They are made in `request::mover`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use remuda_engine::{Extent, Instance, Part};
use remuda_model::{EngineId, Tier};

/// The most parts that are kept for a function's next requests, until better code of the whole module is ready. Each
/// part takes some 50 KB.
///
/// Source: chosen. With fewer, the next request of a program of many phases waits for parts again; with more, a function
/// has more parts in memory than its guests will go on in.
const PARTS_KEPT_MAX: usize = 16;
/// The parts of all functions may take this part of the memory that artifacts may take, beside it.
///
/// Source: chosen. By default that is 64 MiB, for some thousand parts. If it is too small, functions that are called rarely
/// wait for parts again; parts of a function serve until the code of its whole module is ready, so few are needed for long.
const MEMORY_DIVISOR: u64 = 8;

/// The parts of a function's module that are kept for its next requests. `P` is [`Part`], but for tests.
pub(crate) struct Parts<P = Part> {
    /// Lets a request that finds no parts, which is usual, do without the lock.
    are_any: AtomicBool,
    kept: Mutex<Vec<Kept<P>>>,
    memory: Arc<PartsMemory<P>>,
}

struct Kept<P> {
    part: P,
    extent: Extent,
    bytes: u64,
}

/// The memory that the parts of all functions of a host take. If they take too much, the parts of the function that has had
/// them for the longest time are forgotten; guests that go on in them keep them until they end.
pub(crate) struct PartsMemory<P = Part> {
    bytes_max: u64,
    state: Mutex<State<P>>,
}

struct State<P> {
    bytes: u64,
    /// Functions with parts, in the order in which they got their first one.
    functions: VecDeque<Weak<Parts<P>>>,
}

impl<P> PartsMemory<P> {
    /// For a host whose artifacts may take so many bytes of memory.
    pub(crate) fn beside(artifact_bytes_max: u64) -> Arc<Self> {
        let state = State { bytes: 0, functions: VecDeque::new() };
        Arc::new(Self { bytes_max: artifact_bytes_max / MEMORY_DIVISOR, state: Mutex::new(state) })
    }
}

impl<P> Parts<P> {
    pub(crate) fn new(memory: &Arc<PartsMemory<P>>) -> Arc<Self> {
        Arc::new(Self { are_any: AtomicBool::new(false), kept: Mutex::default(), memory: Arc::clone(memory) })
    }

    /// Keeps a part that takes so many bytes of memory, unless there are enough.
    pub(crate) fn keep(self: &Arc<Self>, part: P, extent: Extent, bytes: u64) {
        let mut kept = self.kept.lock();
        if kept.len() >= PARTS_KEPT_MAX {
            return;
        }
        let is_first = kept.is_empty();
        kept.push(Kept { part, extent, bytes });
        self.are_any.store(true, Ordering::Release);
        // The lock of the memory is taken before that of a function.
        drop(kept);
        let mut state = self.memory.state.lock();
        state.bytes += bytes;
        if is_first {
            state.functions.push_back(Arc::downgrade(self));
        }
        let mut cleared = Vec::new();
        while state.bytes > self.memory.bytes_max
            && let Some(oldest) = state.functions.pop_front()
        {
            if let Some(oldest) = oldest.upgrade() {
                state.bytes -= oldest.clear();
                cleared.push(oldest);
            }
        }
        // A function that was let go of meanwhile is dropped here, which takes the lock.
        drop(state);
        drop(cleared);
    }

    /// Forgets the parts, because there is code of the whole module that is as good.
    pub(crate) fn forget(self: &Arc<Self>) {
        let mut state = self.memory.state.lock();
        state.bytes -= self.clear();
        let this = Arc::downgrade(self);
        state.functions.retain(|function| !function.ptr_eq(&this));
    }

    /// Forgets the parts, and returns how many bytes they took.
    fn clear(&self) -> u64 {
        let mut kept = self.kept.lock();
        self.are_any.store(false, Ordering::Release);
        kept.drain(..).map(|kept| kept.bytes).sum()
    }
}

impl<P> Drop for Parts<P> {
    fn drop(&mut self) {
        let bytes: u64 = self.kept.get_mut().iter().map(|kept| kept.bytes).sum();
        let mut state = self.memory.state.lock();
        state.bytes -= bytes;
        state.functions.retain(|function| function.strong_count() > 0);
    }
}

impl Parts {
    /// Has a guest that has not begun go on in the parts in which its function's earlier guests went on, if it can
    /// move. Returns these parts.
    pub(crate) fn offer_to(&self, instance: &dyn Instance) -> Vec<(Part, Extent)> {
        if !self.are_any.load(Ordering::Acquire) {
            return Vec::new();
        }
        let Some(moves) = instance.moves() else { return Vec::new() };
        let parts: Vec<_> = self.kept.lock().iter().map(|kept| (kept.part.clone(), kept.extent)).collect();
        for (part, _) in &parts {
            moves.offer(part.clone());
        }
        parts
    }

    /// The engine in whose code a guest would go on, and its tier.
    pub(crate) fn best(&self) -> Option<(EngineId, Tier)> {
        if !self.are_any.load(Ordering::Acquire) {
            return None;
        }
        self.kept.lock().iter().map(|kept| (kept.part.engine(), kept.part.tier())).max_by_key(|(_, tier)| *tier)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(parts: &Parts<u32>) -> usize {
        let count = parts.kept.lock().len();
        assert_eq!(parts.are_any.load(Ordering::Acquire), count > 0);
        count
    }

    /// The bytes that all parts take, and the number of functions that have any.
    fn used(memory: &PartsMemory<u32>) -> (u64, usize) {
        let state = memory.state.lock();
        (state.bytes, state.functions.len())
    }

    #[test]
    fn parts_of_all_functions_stay_within_their_memory_and_the_oldest_go_first() {
        let memory = PartsMemory::beside(100 * MEMORY_DIVISOR);
        let functions: Vec<_> = (0..3).map(|_| Parts::new(&memory)).collect();
        for (function, bytes) in [(0, 30), (1, 30), (0, 30)] {
            functions[function].keep(0_u32, Extent::Hot, bytes);
        }
        assert_eq!((count(&functions[0]), count(&functions[1]), used(&memory)), (2, 1, (90, 2)));
        functions[2].keep(0, Extent::Hot, 20);
        assert_eq!(functions.iter().map(|function| count(function)).collect::<Vec<_>>(), [0, 1, 1]);
        assert_eq!(used(&memory), (50, 2));
        functions[2].keep(0, Extent::Hot, 1000);
        assert_eq!(functions.iter().map(|function| count(function)).sum::<usize>(), 0, "it is larger than all may be");
        assert_eq!(used(&memory), (0, 0));
    }

    #[test]
    fn parts_that_are_forgotten_or_whose_function_is_gone_take_no_memory() {
        let memory = PartsMemory::beside(100 * MEMORY_DIVISOR);
        let function = Parts::new(&memory);
        for _ in 0..3 {
            function.keep(0_u32, Extent::Whole, 40);
            function.forget();
        }
        assert_eq!(used(&memory), (0, 0));
        for _ in 0..2 * PARTS_KEPT_MAX {
            function.keep(0, Extent::Whole, 1);
        }
        assert_eq!((count(&function), used(&memory)), (PARTS_KEPT_MAX, (PARTS_KEPT_MAX as u64, 1)));
        drop(function);
        assert_eq!(used(&memory), (0, 0));
    }
}
