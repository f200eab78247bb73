use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::ops::Bound;

/// A cache under a budget of bytes, which decides by GreedyDual-Size-Frequency what stays when not everything fits.
///
/// An entry's credit is `L + uses * cost / bytes`, and the entry with the least credit goes first. `L` is the credit of
/// what went last: it rises as entries go, so that an entry which is never used again is overtaken by new ones, however
/// costly it was. `L` stands in for the time: no clock is read, and none can jump.
///
/// GreedyDual-Size is P. Cao and S. Irani, "Cost-Aware WWW Proxy Caching Algorithms", USITS 1997; the frequency was
/// added by L. Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy",
/// HPL-98-69, 1998.
///
/// Every operation takes O(log n) for each entry that it changes.
#[derive(Clone, Debug)]
pub struct GreedyDual<K> {
    budget_bytes: u64,
    used_bytes: u64,
    pinned_bytes: u64,
    inflation: f64,
    entries: HashMap<K, Entry>,
    /// The entries that may go, least credit first; among equals the one that was used longest ago.
    queue: BTreeMap<Place, K>,
    uses_total: u64,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    bytes: u64,
    cost_ns: u64,
    uses: u64,
    place: Place,
    pins: u32,
}

/// The error for an entry that is only expected to be used and is worth less than what it would displace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorthLess;

#[derive(Clone, Copy, Debug)]
struct Place {
    credit: f64,
    /// Counts the uses of all entries: no two places are equal.
    used: u64,
}

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.credit.total_cmp(&other.credit).then(self.used.cmp(&other.used))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Place {}

impl<K: Clone + Eq + Hash> GreedyDual<K> {
    /// An empty cache that holds up to `budget_bytes`.
    #[must_use]
    pub fn new(budget_bytes: u64) -> Self {
        Self::resume(budget_bytes, 0.0)
    }

    /// An empty cache that goes on from another's [`inflation`](Self::inflation); [`restore`](Self::restore) fills it.
    #[must_use]
    pub fn resume(budget_bytes: u64, inflation: f64) -> Self {
        Self {
            budget_bytes,
            used_bytes: 0,
            pinned_bytes: 0,
            inflation: if inflation.is_finite() { inflation.max(0.0) } else { 0.0 },
            entries: HashMap::new(),
            queue: BTreeMap::new(),
            uses_total: 0,
        }
    }

    /// The bytes that the cache may hold.
    #[must_use]
    pub fn budget_bytes(&self) -> u64 {
        self.budget_bytes
    }

    /// The bytes that the cache holds.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// The number of entries that the cache holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the cache holds no entry.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the cache holds this entry.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// `L`: the credit of the entry that was evicted last.
    #[must_use]
    pub fn inflation(&self) -> f64 {
        self.inflation
    }

    /// An entry's credit.
    #[must_use]
    pub fn credit(&self, key: &K) -> Option<f64> {
        self.entries.get(key).map(|entry| entry.place.credit)
    }

    /// How often an entry was used, its insertion included.
    #[must_use]
    pub fn uses(&self, key: &K) -> Option<u64> {
        self.entries.get(key).map(|entry| entry.uses)
    }

    /// Counts a use, and says whether there is such an entry.
    pub fn touch(&mut self, key: &K) -> bool {
        self.touch_times(key, 1)
    }

    /// Counts several uses at once.
    pub fn touch_times(&mut self, key: &K, times: u64) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let uses = entry.uses.saturating_add(times);
        self.replace(key, |entry| entry.uses = uses);
        true
    }

    /// Puts an entry in, and returns the entries that had to leave for it. That is the new entry itself if it does not
    /// fit beside the pinned ones. An entry that is there already gets the new size and cost, and counts a use; if it
    /// is pinned, it only counts the use.
    #[must_use = "what was evicted is to be dropped"]
    pub fn insert(&mut self, key: K, bytes: u64, cost_ns: u64) -> Vec<K> {
        self.insert_counting(key, bytes, cost_ns, |_| 0)
    }

    /// As [`insert`](Self::insert), for a caller that counts uses elsewhere, without coming here for each. `uses_since`
    /// is asked about each entry that is about to go, and answers how often it was used since it was last asked: if at
    /// all, the entry gets its credit and stays in line. Credit never falls by a use, so no entry goes before its turn.
    #[must_use = "what was evicted is to be dropped"]
    pub fn insert_counting(
        &mut self,
        key: K,
        bytes: u64,
        cost_ns: u64,
        mut uses_since: impl FnMut(&K) -> u64,
    ) -> Vec<K> {
        let mut uses = 1;
        if let Some(entry) = self.entries.get(&key) {
            if entry.pins > 0 {
                self.touch(&key);
                return Vec::new();
            }
            uses += entry.uses;
            self.remove(&key);
        }
        if self.pinned_bytes.saturating_add(bytes) > self.budget_bytes {
            return vec![key];
        }
        let evicted = self.shrink(self.budget_bytes - bytes, &mut uses_since);
        self.put(key, bytes, cost_ns, uses, None);
        evicted
    }

    /// As [`insert_counting`](Self::insert_counting), for an entry that is not used yet and only expected to be: it
    /// takes free room, and the room of entries whose credit is no more than what it would have now. An entry that is
    /// used evicts whatever has the least credit, however much that is; a guess does not.
    ///
    /// # Errors
    ///
    /// Returns [`WorthLess`] if the entry is worth less than what it would displace.
    pub fn insert_expected(
        &mut self,
        key: K,
        bytes: u64,
        cost_ns: u64,
        mut uses_since: impl FnMut(&K) -> u64,
    ) -> Result<Vec<K>, WorthLess> {
        if self.entries.contains_key(&key) {
            return Ok(Vec::new());
        }
        let credit = self.fresh_credit(1, cost_ns, bytes);
        let mut room = self.budget_bytes.saturating_sub(self.used_bytes);
        let mut settled: Option<Place> = None;
        while room < bytes {
            let next = match settled {
                None => self.queue.first_key_value(),
                Some(place) => self.queue.range((Bound::Excluded(place), Bound::Unbounded)).next(),
            };
            let (place, victim) = next.map(|(place, victim)| (*place, victim.clone())).ok_or(WorthLess)?;
            if place.credit > credit {
                return Err(WorthLess);
            }
            match uses_since(&victim) {
                // Its credit has risen: its turn comes later, if at all.
                uses @ 1.. => {
                    self.touch_times(&victim, uses);
                }
                0 => {
                    room += self.entries.get(&victim).map_or(0, |entry| entry.bytes);
                    settled = Some(place);
                }
            }
        }
        Ok(self.insert_counting(key, bytes, cost_ns, uses_since))
    }

    /// Puts an entry back as it was in a cache that was kept elsewhere; without a credit, as one that was just used.
    /// The budget is not looked at: [`shrink_to`](Self::shrink_to) does that when all are in.
    pub fn restore(&mut self, key: K, bytes: u64, cost_ns: u64, uses: u64, credit: Option<f64>) {
        self.remove(&key);
        self.put(key, bytes, cost_ns, uses, credit.filter(|credit| credit.is_finite()));
    }

    /// Evicts until no more than `bytes` are held, or what is left is pinned.
    pub fn shrink_to(&mut self, bytes: u64) -> Vec<K> {
        self.shrink(bytes, &mut |_| 0)
    }

    /// Changes what it would take to get an entry back. This does not count as a use.
    pub fn set_cost(&mut self, key: &K, cost_ns: u64) {
        self.replace(key, |entry| entry.cost_ns = cost_ns);
    }

    /// Takes an entry out, and says whether it was there. This is no eviction: `L` stays.
    pub fn remove(&mut self, key: &K) -> bool {
        let Some(entry) = self.entries.remove(key) else { return false };
        self.queue.remove(&entry.place);
        self.used_bytes -= entry.bytes;
        if entry.pins > 0 {
            self.pinned_bytes -= entry.bytes;
        }
        true
    }

    /// Holds an entry until [`unpin`](Self::unpin) was called as often, and says whether there is such an entry.
    pub fn pin(&mut self, key: &K) -> bool {
        let Some(entry) = self.entries.get_mut(key) else { return false };
        entry.pins += 1;
        if entry.pins == 1 {
            self.pinned_bytes += entry.bytes;
            self.queue.remove(&entry.place);
        }
        true
    }

    /// Takes a pin back.
    pub fn unpin(&mut self, key: &K) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if entry.pins == 1 {
            self.pinned_bytes -= entry.bytes;
            self.queue.insert(entry.place, key.clone());
        }
        entry.pins = entry.pins.saturating_sub(1);
    }

    fn put(&mut self, key: K, bytes: u64, cost_ns: u64, uses: u64, credit: Option<f64>) {
        let credit = credit.unwrap_or_else(|| self.fresh_credit(uses, cost_ns, bytes));
        let place = self.place(credit);
        self.queue.insert(place, key.clone());
        self.entries.insert(key, Entry { bytes, cost_ns, uses, place, pins: 0 });
        self.used_bytes += bytes;
    }

    fn shrink(&mut self, bytes: u64, uses_since: &mut impl FnMut(&K) -> u64) -> Vec<K> {
        let mut evicted = Vec::new();
        while self.used_bytes > bytes {
            let Some((place, key)) = self.queue.first_key_value() else { break };
            let (credit, key) = (place.credit, key.clone());
            match uses_since(&key) {
                0 => {
                    self.remove(&key);
                    // The credit of an entry that was pinned for long, or restored, may lie below.
                    self.inflation = self.inflation.max(credit);
                    evicted.push(key);
                }
                uses => {
                    self.touch_times(&key, uses);
                }
            }
        }
        evicted
    }

    /// Changes an entry and computes its credit anew.
    fn replace(&mut self, key: &K, change: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.entries.get(key).copied() else { return };
        change(&mut entry);
        let was = entry.place;
        entry.place = self.place(self.fresh_credit(entry.uses, entry.cost_ns, entry.bytes));
        if self.queue.remove(&was).is_some() {
            self.queue.insert(entry.place, key.clone());
        }
        self.entries.insert(key.clone(), entry);
    }

    fn fresh_credit(&self, uses: u64, cost_ns: u64, bytes: u64) -> f64 {
        self.inflation + uses as f64 * cost_ns as f64 / bytes.max(1) as f64
    }

    fn place(&mut self, credit: f64) -> Place {
        self.uses_total += 1;
        Place { credit, used: self.uses_total }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    /// The same rules, written down as plainly as they can be.
    #[derive(Default)]
    struct Naive {
        budget: u64,
        inflation: f64,
        clock: u64,
        entries: Vec<NaiveEntry>,
    }

    #[derive(Clone)]
    struct NaiveEntry {
        key: u32,
        bytes: u64,
        cost: u64,
        uses: u64,
        credit: f64,
        used: u64,
        pins: u32,
    }

    impl Naive {
        fn get(&mut self, key: u32) -> Option<&mut NaiveEntry> {
            self.entries.iter_mut().find(|entry| entry.key == key)
        }

        fn used(&self) -> u64 {
            self.entries.iter().map(|entry| entry.bytes).sum()
        }

        fn refresh(&mut self, key: u32) {
            self.clock += 1;
            let (clock, inflation) = (self.clock, self.inflation);
            let entry = self.get(key).unwrap();
            entry.used = clock;
            entry.credit = inflation + entry.uses as f64 * entry.cost as f64 / entry.bytes.max(1) as f64;
        }

        fn touch(&mut self, key: u32) -> bool {
            let Some(entry) = self.get(key) else { return false };
            entry.uses += 1;
            self.refresh(key);
            true
        }

        fn insert(&mut self, key: u32, bytes: u64, cost: u64) -> Vec<u32> {
            let mut uses = 1;
            if let Some(entry) = self.get(key) {
                if entry.pins > 0 {
                    self.touch(key);
                    return vec![];
                }
                uses += entry.uses;
                self.entries.retain(|entry| entry.key != key);
            }
            let pinned: u64 = self.entries.iter().filter(|entry| entry.pins > 0).map(|entry| entry.bytes).sum();
            if pinned + bytes > self.budget {
                return vec![key];
            }
            let mut evicted = vec![];
            while self.used() + bytes > self.budget {
                let free = self.entries.iter().filter(|entry| entry.pins == 0);
                let victim = free
                    .min_by(|a, b| a.credit.partial_cmp(&b.credit).unwrap().then(a.used.cmp(&b.used)))
                    .unwrap()
                    .clone();
                // An entry that was pinned for long may have less credit.
                self.inflation = self.inflation.max(victim.credit);
                self.entries.retain(|entry| entry.key != victim.key);
                evicted.push(victim.key);
            }
            self.entries.push(NaiveEntry { key, bytes, cost, uses, credit: 0.0, used: 0, pins: 0 });
            self.refresh(key);
            evicted
        }
    }

    /// Numbers that look random (Knuth's MMIX generator) and are the same for the same seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) % bound
        }
    }

    #[test]
    fn it_does_what_the_naive_one_does() {
        for seed in 0..50 {
            let mut random = Random(seed);
            let budget = 1 + random.below(500);
            let mut model = Naive { budget, ..Naive::default() };
            let mut cache = GreedyDual::new(budget);
            let mut pins: HashMap<u32, u32> = HashMap::new();
            for step in 0..2000 {
                let key = u32::try_from(random.below(40)).unwrap();
                let context = format!("seed {seed}, step {step}, key {key}");
                match random.below(10) {
                    0..4 => {
                        let (bytes, cost) = (random.below(120), random.below(1000));
                        let evicted = cache.insert(key, bytes, cost);
                        assert_eq!(evicted, model.insert(key, bytes, cost), "{context}");
                        for gone in evicted {
                            assert!(!pins.contains_key(&gone), "{context}: {gone} is pinned and went");
                        }
                    }
                    4..7 => assert_eq!(cache.touch(&key), model.touch(key), "{context}"),
                    7 if pins.len() < 3 && cache.pin(&key) => {
                        *pins.entry(key).or_default() += 1;
                        model.get(key).unwrap().pins += 1;
                    }
                    8 => {
                        if let Some(count) = pins.get_mut(&key) {
                            cache.unpin(&key);
                            model.get(key).unwrap().pins -= 1;
                            *count -= 1;
                            if *count == 0 {
                                pins.remove(&key);
                            }
                        }
                    }
                    _ => {
                        let cost = random.below(1000);
                        cache.set_cost(&key, cost);
                        if let Some(entry) = model.get(key) {
                            entry.cost = cost;
                            model.refresh(key);
                        }
                    }
                }
                assert_eq!(cache.used_bytes(), model.used(), "{context}");
                assert!(cache.used_bytes() <= budget, "{context}");
                assert_eq!(cache.len(), model.entries.len(), "{context}");
                for entry in &model.entries {
                    assert_eq!(cache.credit(&entry.key), Some(entry.credit), "{context}");
                }
            }
        }
    }

    #[test]
    fn the_inflation_only_rises_and_no_credit_lies_below_it() {
        let mut random = Random(7);
        let mut cache = GreedyDual::new(1000);
        let mut before = 0.0;
        for _ in 0..10_000 {
            let _ = cache.insert(random.below(100), 1 + random.below(200), random.below(1_000_000));
            cache.touch(&random.below(100));
            assert!(cache.inflation() >= before);
            before = cache.inflation();
            assert!(cache.entries.values().all(|entry| entry.place.credit >= before));
        }
        assert!(before > 0.0, "something was evicted");
    }

    #[test]
    fn what_is_dear_small_or_often_used_stays() {
        for (name, dear, cheap, touches) in [
            ("cost", (100, 1000), (100, 10), 0),
            ("size", (10, 100), (100, 100), 0),
            ("frequency", (100, 100), (100, 100), 1),
        ] {
            let mut cache = GreedyDual::new(200);
            assert!(cache.insert("stays", dear.0, dear.1).is_empty());
            assert!(cache.insert("goes", cheap.0, cheap.1).is_empty());
            for _ in 0..touches {
                cache.touch(&"stays");
            }
            assert_eq!(cache.insert("new", 100, 500), ["goes"], "{name}");
        }
    }

    #[test]
    fn what_is_never_used_again_goes_in_the_end() {
        let mut cache = GreedyDual::new(1000);
        let _ = cache.insert(0, 100, 1_000_000);
        let gone = (1..2_000_000).find(|key| cache.insert(*key, 100, 10_000).contains(&0));
        assert!(gone.is_some());
    }

    #[test]
    fn what_does_not_fit_displaces_nothing() {
        let mut cache = GreedyDual::new(100);
        let _ = cache.insert("a", 60, 1);
        assert_eq!(cache.insert("too large", 101, 1_000_000), ["too large"]);
        cache.pin(&"a");
        assert_eq!(cache.insert("too large beside a", 41, 1_000_000), ["too large beside a"]);
        assert!(cache.contains(&"a"));
        cache.unpin(&"a");
        assert_eq!(cache.insert("b", 41, 1), ["a"]);
    }

    #[test]
    fn what_is_only_expected_displaces_nothing_of_more_worth() {
        // The cost of the newcomer, uses that are pending for the cheaper one, and what is in the cache afterwards.
        for (cost, pending, expected) in [
            (1000, 0, ["dear", "new"]),
            (50, 0, ["dear", "new"]),
            (20, 0, ["cheap", "dear"]),
            (1000, 100, ["cheap", "new"]),
            (50, 100, ["cheap", "dear"]),
        ] {
            let mut cache = GreedyDual::new(200);
            let _ = cache.insert("cheap", 100, 30);
            let _ = cache.insert("dear", 100, 500);
            let mut pending = HashMap::from([("cheap", pending)]);
            let inserted = cache.insert_expected("new", 100, cost, |key| pending.remove(key).unwrap_or(0));
            let mut held: Vec<_> = cache.entries.keys().copied().collect();
            held.sort_unstable();
            assert_eq!(held, expected, "cost {cost}");
            assert_eq!(inserted.is_ok(), held.contains(&"new"), "cost {cost}");
            assert!(cache.used_bytes() <= 200);
        }
        let mut cache = GreedyDual::new(200);
        let _ = cache.insert("a", 100, 1);
        assert_eq!(cache.insert_expected("b", 100, 0, |_| 0), Ok(vec![]), "there is room");
        cache.pin(&"a");
        assert_eq!(cache.insert_expected("c", 101, 1_000_000, |_| 0), Err(WorthLess));
        assert!(cache.contains(&"a") && cache.contains(&"b"));
    }

    #[test]
    fn uses_that_were_counted_elsewhere_count() {
        let mut cache = GreedyDual::new(200);
        let _ = cache.insert("used", 100, 10);
        let _ = cache.insert("unused", 100, 20);
        let mut pending = HashMap::from([("used", 5)]);
        let evicted = cache.insert_counting("new", 100, 10, |key| pending.remove(key).unwrap_or(0));
        assert_eq!(evicted, ["unused"]);
        assert_eq!(cache.uses(&"used"), Some(6));
    }

    #[test]
    fn a_restored_cache_goes_on_where_it_was() {
        let mut first = GreedyDual::new(1000);
        let mut random = Random(3);
        for _ in 0..500 {
            let _ = first.insert(random.below(50), 1 + random.below(100), random.below(1000));
            first.touch(&random.below(50));
        }
        let mut second = GreedyDual::resume(1000, first.inflation());
        // In the order of use, as ties are broken by it.
        let mut entries: Vec<_> = first.entries.iter().collect();
        entries.sort_by_key(|(_, entry)| entry.place.used);
        for (key, entry) in entries {
            second.restore(*key, entry.bytes, entry.cost_ns, entry.uses, Some(entry.place.credit));
        }
        for _ in 0..500 {
            let (key, bytes, cost) = (random.below(50), 1 + random.below(100), random.below(1000));
            assert_eq!(first.insert(key, bytes, cost), second.insert(key, bytes, cost));
        }
        assert_eq!(first.shrink_to(100), second.shrink_to(100));
        assert!(first.used_bytes() <= 100);
        assert_eq!(GreedyDual::<u8>::resume(1, f64::NAN).inflation().to_bits(), 0);
    }
}
