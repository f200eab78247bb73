//! A queue of the compiles that are done between requests: the most worthwhile first, and modules take turns.

use std::collections::HashSet;
use std::hash::Hash;

/// Compiles that wait for a compiler. `K` names a module, `T` is the work.
///
/// The most worthwhile compile comes first, except those of modules that have had one in this round. So worth decides
/// the order, and a module whose compiles are worth less waits for one compile of each other module.
#[derive(Clone, Debug)]
pub struct CompileQueue<K, T> {
    waiting: Vec<(K, f64, T)>,
    /// Modules that have had their turn in this round.
    served: HashSet<K>,
}

impl<K, T> Default for CompileQueue<K, T> {
    fn default() -> Self {
        Self { waiting: Vec::new(), served: HashSet::new() }
    }
}

impl<K: Clone + Eq + Hash, T> CompileQueue<K, T> {
    /// Adds a compile that is worth `worth_ns` nanoseconds.
    pub fn push(&mut self, module: K, worth_ns: f64, compile: T) {
        self.waiting.push((module, worth_ns, compile));
    }

    /// Takes the compile whose turn it is, in time that is linear in the number of waiting compiles.
    pub fn pop(&mut self) -> Option<T> {
        if self.waiting.iter().all(|(module, ..)| self.served.contains(module)) {
            self.served.clear();
        }
        let waiting = self.waiting.iter().enumerate().filter(|(_, (module, ..))| !self.served.contains(module));
        let (at, _) = waiting.max_by(|(_, (_, a, _)), (_, (_, b, _))| a.total_cmp(b))?;
        let (module, _, compile) = self.waiting.swap_remove(at);
        self.served.insert(module);
        Some(compile)
    }

    /// The number of compiles that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether no compile waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(compiles: &[(u8, f64)]) -> Vec<(u8, f64)> {
        let mut queue = CompileQueue::default();
        for (module, worth_ns) in compiles {
            queue.push(*module, *worth_ns, (*module, *worth_ns));
        }
        let order: Vec<(u8, f64)> = std::iter::from_fn(|| queue.pop()).collect();
        assert!(queue.is_empty() && order.len() == compiles.len());
        order
    }

    #[test]
    fn the_most_worthwhile_comes_first() {
        assert_eq!(order(&[(1, 5.0), (2, 50.0), (3, 20.0)]), [(2, 50.0), (3, 20.0), (1, 5.0)]);
        assert_eq!(order(&[]), []);
    }

    #[test]
    fn modules_take_turns() {
        let order = order(&[(1, 1000.0), (1, 2000.0), (2, 1.0), (1, 3000.0), (3, 10.0), (2, 2.0)]);
        assert_eq!(order, [(1, 3000.0), (3, 10.0), (2, 2.0), (1, 2000.0), (2, 1.0), (1, 1000.0)]);
    }
}
