//! A queue in which a busy function cannot starve another.
//!
//! Deficit round robin (M. Shreedhar, G. Varghese: Efficient Fair Queuing Using Deficit Round Robin, SIGCOMM 1995):
//! each key has a lane of its own, lanes take turns, and a turn gives a lane credit for a *quantum* of work. An item
//! leaves when its lane's credit covers its cost; what is left of the credit stays with the lane until the lane is
//! empty. So lanes share work, not items: a function with long requests does not get more than one with short ones.
//!
//! There, the quantum is the cost of the largest item. Here, costs differ by eight orders of magnitude, and a quantum
//! so large would let a lane of short items run for seconds in one turn. The quantum is the mean cost of what is queued
//! instead, anew for each round: then as many turns as there are items pay for all of them, so that `pop` still takes
//! constant time on average.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Costs are cut to this: an absurd estimate must not lock its lane for hours.
const COST_NS: std::ops::RangeInclusive<u64> = 1_000..=100_000_000_000;

/// Items that wait, fair between their keys by cost.
///
/// While two keys both have items waiting, what one gets in work exceeds what the other gets by at most two of the most
/// expensive items and a quantum, which is never more than one of them. Items of one key leave in the order in which
/// they came.
#[derive(Clone, Debug)]
pub struct FairQueue<K, T> {
    lanes: HashMap<K, Lane<T>>,
    /// Lanes with items, in the order of their turns; the first has the turn.
    turns: VecDeque<K>,
    /// Whether the first lane got this turn's credit.
    is_credited: bool,
    /// How many lanes, from the first on, have their turn in this round.
    round_left: usize,
    /// The credit of each turn in this round.
    quantum_ns: u64,
    len: usize,
    len_max: usize,
    cost_ns: u64,
    #[cfg(test)]
    turns_given: usize,
}

#[derive(Clone, Debug)]
struct Lane<T> {
    items: VecDeque<(u64, T)>,
    credit_ns: u64,
}

impl<K: Clone + Eq + Hash, T> FairQueue<K, T> {
    /// An empty queue for `len_max` items of all keys together, and one more of each key of which none waits.
    #[must_use]
    pub fn new(len_max: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            turns: VecDeque::new(),
            is_credited: false,
            round_left: 0,
            quantum_ns: 0,
            len: 0,
            len_max,
            cost_ns: 0,
            #[cfg(test)]
            turns_given: 0,
        }
    }

    /// Appends an item to its key's lane. `cost_ns` is the work that it is expected to be.
    ///
    /// # Errors
    ///
    /// Returns the item if there is [no place](Self::has_place) for it.
    pub fn push(&mut self, key: K, cost_ns: u64, item: T) -> Result<(), T> {
        if !self.has_place(&key) {
            return Err(item);
        }
        let cost_ns = cost_ns.clamp(*COST_NS.start(), *COST_NS.end());
        self.len += 1;
        self.cost_ns = self.cost_ns.saturating_add(cost_ns);
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.items.push_back((cost_ns, item));
        } else {
            self.turns.push_back(key.clone());
            self.lanes.insert(key, Lane { items: VecDeque::from([(cost_ns, item)]), credit_ns: 0 });
        }
        Ok(())
    }

    /// Takes the item whose turn it is. Constant time on average.
    pub fn pop(&mut self) -> Option<(K, T)> {
        loop {
            if self.round_left == 0 {
                self.begin_round()?;
            }
            let key = self.turns.front()?;
            let lane = self.lanes.get_mut(key)?;
            if !self.is_credited {
                lane.credit_ns = lane.credit_ns.saturating_add(self.quantum_ns);
                self.is_credited = true;
                #[cfg(test)]
                {
                    self.turns_given += 1;
                }
            }
            if let Some((cost_ns, item)) = lane.items.pop_front_if(|(cost_ns, _)| *cost_ns <= lane.credit_ns) {
                lane.credit_ns -= cost_ns;
                let is_empty = lane.items.is_empty();
                let key = if is_empty { self.end_lane()? } else { key.clone() };
                self.len -= 1;
                self.cost_ns = self.cost_ns.saturating_sub(cost_ns);
                return Some((key, item));
            }
            self.turns.rotate_left(1);
            self.is_credited = false;
            self.round_left -= 1;
        }
    }

    /// Takes out all items for which `remove` says so, in no order between keys: requests that nobody waits for any
    /// more. Linear in what is queued.
    pub fn remove_if(&mut self, mut remove: impl FnMut(&K, &T) -> bool) -> Vec<(K, T)> {
        let mut removed = Vec::new();
        let first = self.turns.front().cloned();
        self.lanes.retain(|key, lane| {
            for (cost_ns, item) in std::mem::take(&mut lane.items) {
                if remove(key, &item) {
                    self.len -= 1;
                    self.cost_ns = self.cost_ns.saturating_sub(cost_ns);
                    removed.push((key.clone(), item));
                } else {
                    lane.items.push_back((cost_ns, item));
                }
            }
            !lane.items.is_empty()
        });
        self.round_left = self.turns.iter().take(self.round_left).filter(|key| self.lanes.contains_key(key)).count();
        self.turns.retain(|key| self.lanes.contains_key(key));
        self.is_credited &= self.turns.front() == first.as_ref();
        removed
    }

    /// How many items wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether another item of that key may wait. Where other keys have filled the queue, one item of a key of which
    /// none waits still may, so that no key is kept out by a busy one. A queue of no length at all has no place for any
    /// item.
    #[must_use]
    pub fn has_place(&self, key: &K) -> bool {
        self.len < self.len_max || (self.len_max > 0 && !self.lanes.contains_key(key))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The work that waits, in nanoseconds.
    #[must_use]
    pub fn cost_ns(&self) -> u64 {
        self.cost_ns
    }

    /// Gives all lanes a turn of the same credit; `None` if nothing waits.
    fn begin_round(&mut self) -> Option<()> {
        self.quantum_ns = self.cost_ns.checked_div(self.len as u64)? + 1;
        self.round_left = self.turns.len();
        Some(())
    }

    /// Ends the turn of a lane that has become empty, and with it its claim to credit.
    fn end_lane(&mut self) -> Option<K> {
        let key = self.turns.pop_front()?;
        self.lanes.remove(&key);
        self.is_credited = false;
        self.round_left -= 1;
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn queue(lanes: &[(&'static str, u64, usize)]) -> FairQueue<&'static str, usize> {
        let mut queue = FairQueue::new(usize::MAX);
        for (key, cost_ns, count) in lanes {
            for i in 0..*count {
                queue.push(*key, *cost_ns, i).unwrap();
            }
        }
        queue
    }

    /// The work that leaves before the first item of `key` does.
    fn work_before(queue: &mut FairQueue<&'static str, usize>, key: &str) -> u64 {
        let before = queue.cost_ns();
        while let Some((popped, _)) = queue.pop() {
            if popped == key {
                return before - queue.cost_ns();
            }
        }
        panic!("{key} was lost")
    }

    #[test]
    fn nothing_is_lost_and_keys_keep_their_order() {
        let mut queue = queue(&[("a", MS, 50), ("b", 7 * MS, 20), ("c", 0, 100)]);
        let mut next = HashMap::from([("a", 0), ("b", 0), ("c", 0)]);
        while let Some((key, item)) = queue.pop() {
            let expected = next.get_mut(key).unwrap();
            assert_eq!(item, *expected, "{key}");
            *expected += 1;
        }
        assert_eq!(next, HashMap::from([("a", 50), ("b", 20), ("c", 100)]));
        assert_eq!((queue.len(), queue.cost_ns(), queue.lanes.len()), (0, 0, 0));
    }

    #[test]
    fn a_full_queue_gives_the_item_back_unless_none_of_its_key_waits() {
        let mut queue = FairQueue::new(2);
        assert_eq!((queue.push(1, MS, 'a'), queue.push(1, MS, 'b')), (Ok(()), Ok(())));
        assert_eq!((queue.push(1, MS, 'c'), queue.push(2, MS, 'd')), (Err('c'), Ok(())));
        assert_eq!((queue.push(2, MS, 'e'), queue.push(3, MS, 'f')), (Err('e'), Ok(())));
        assert!(!queue.has_place(&1) && !queue.has_place(&3) && queue.has_place(&4));
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 4);
        assert!(queue.has_place(&1));
        let mut none = FairQueue::new(0);
        assert_eq!(none.push(1, MS, 'a'), Err('a'));
    }

    #[test]
    fn a_busy_function_cannot_starve_another() {
        let cases = [
            // The busy lane, the other one's item.
            (MS, 1_000, MS),
            (MS, 1_000, 100 * MS),
            (100 * MS, 1_000, MS),
            (10, 10_000, 10_000 * MS),
        ];
        for (busy_ns, count, other_ns) in cases {
            let mut queue = queue(&[("busy", busy_ns, count), ("other", other_ns, 1)]);
            let waited = work_before(&mut queue, "other");
            let bound = 3 * busy_ns.max(other_ns).max(*COST_NS.start()) + other_ns;
            assert!(waited <= bound, "{busy_ns} {other_ns}: waited for {waited} ns of work, at most {bound}");
        }
    }

    #[test]
    fn who_comes_late_waits_for_one_turn_of_each() {
        let lanes = ["a", "b", "c", "d"].map(|key| (key, MS, 100));
        let mut queue = queue(&lanes);
        for _ in 0..50 {
            queue.pop();
        }
        queue.push("late", MS, 0).unwrap();
        assert!(work_before(&mut queue, "late") <= 2 * (lanes.len() as u64 + 1) * MS);
    }

    #[test]
    fn lanes_share_work_not_items() {
        let mut queue = queue(&[("short", MS, 10_000), ("long", 50 * MS, 1_000)]);
        let mut work = HashMap::from([("short", 0), ("long", 0)]);
        while queue.lanes.len() == 2 {
            let before = queue.cost_ns();
            let (key, _) = queue.pop().unwrap();
            *work.get_mut(key).unwrap() += before - queue.cost_ns();
            let apart = work["short"].abs_diff(work["long"]);
            assert!(apart <= 3 * 50 * MS, "{work:?}");
        }
    }

    #[test]
    fn turns_are_about_as_many_as_items() {
        // Dear heads before cheap items: the credit for the heads takes many turns.
        let mut queue = FairQueue::new(usize::MAX);
        for key in 0..20 {
            queue.push(key, 10_000 * MS, ()).unwrap();
            for _ in 0..1_000 {
                queue.push(key, MS, ()).unwrap();
            }
        }
        let items = queue.len();
        while queue.pop().is_some() {}
        let turns = queue.turns_given;
        assert!(turns <= 3 * items, "{turns} turns for {items} items");
    }

    #[test]
    fn what_nobody_waits_for_is_taken_out() {
        let mut queue = queue(&[("a", MS, 3), ("b", MS, 2), ("c", MS, 3)]);
        queue.pop();
        let mut removed = queue.remove_if(|key, item| *key == "b" || *item == 2);
        removed.sort_unstable();
        assert_eq!(removed, [("a", 2), ("b", 0), ("b", 1), ("c", 2)]);
        let mut left: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        left.sort_unstable();
        assert_eq!(left, [("a", 1), ("c", 0), ("c", 1)]);
        assert_eq!(queue.cost_ns(), 0);
    }

    #[test]
    fn absurd_costs_do_no_harm() {
        let mut queue = queue(&[("a", u64::MAX, 5), ("b", 0, 5)]);
        assert_eq!(std::iter::from_fn(|| queue.pop()).count(), 10);
    }
}
