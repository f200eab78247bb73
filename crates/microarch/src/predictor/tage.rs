//! TAGE (Seznec and Michaud, "A case for (partially) tagged geometric history length branch prediction", Journal of
//! Instruction-Level Parallelism 8, 2006), without what later predictors of the family added to it.

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::{Direction, check_entries, check_shift};
use crate::error::{ConfigError, within};

/// After so many conditional branches, one bit of all useful counters is cleared (section 3.2.4 of the paper: 256 K).
const USEFUL_RESET_BRANCHES: u64 = 256 * 1024;

/// A useful counter has two bits (section 3.1).
const USEFUL_MAX: u8 = 3;

/// An entry's prediction counter has three bits, and says "taken" from 0 on (section 3.1).
const COUNTER: (i8, i8) = (-4, 3);

/// The counter that says whether new entries are to be believed has four bits, and says "no" from 0 on (section 3.2.1).
const USE_ALTERNATE: (i8, i8) = (-8, 7);

/// The most entries of a tagged table: a bound on memory (4 MiB for each table), far above real hardware.
const TABLE_ENTRIES_MAX: u64 = 1 << 20;

/// The longest history that is kept, in branches: a bound on memory, above what published predictors use.
const HISTORY_MAX: u64 = 4096;

/// Sizes of TAGE.
///
/// - A base table, at `(pc >> pc_shift) % base_counters`, has a counter of 2 bits for each branch.
/// - Each of the tagged tables is looked up by a hash of the address and of the most recent *L(i)* branches, with *L(i)* growing
///   geometrically from `history_min` to `history_max` (section 3). An entry has a tag, a prediction counter of 3 bits and a
///   useful counter of 2 bits. An entry whose tag fits is a match. The tag is a hash of the address and of the same history,
///   folded to two other lengths (Michaud, "A PPM-like, tag-based branch predictor", JILP 7, 2005).
/// - The match with the longest history provides the prediction, and the next one (or the base) the alternate prediction. If
///   the provider's counter is weak, as that of a new entry is, the alternate prediction is used as long as it was the better
///   one for such entries recently (section 3.2.1).
/// - Then the provider's counter goes towards what the branch did. If provider and alternate differed, the provider's useful
///   counter goes up if it was right, and down if not (section 3.2.2).
/// - After a misprediction, one entry is allocated in a table with a longer history than the provider's, in which the entry's
///   useful counter is 0. With several such tables, each is twice as likely as the next longer one; with none, the useful counters
///   of all of them go down. A new entry's counter is weak and its useful counter 0 (section 3.2.3).
/// - Every 256 Ki branches the upper and the lower bit of all useful counters are cleared by turns (section 3.2.4).
/// - Jumps, calls and returns are in the history as taken. The paper's path history is left out, and so is the sharing of
///   bits between the base table's counters.
///
/// Random choices come from a generator with a fixed seed, so that the same branches are always counted alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TageConfig {
    /// Counters of the base table: a power of two.
    pub base_counters: u32,
    /// The number of tagged tables.
    pub tables: u32,
    /// Entries of each tagged table: a power of two.
    pub table_entries: u32,
    /// The bits of a tag.
    pub tag_bits: u32,
    /// The history of the first tagged table, in branches.
    pub history_min: u32,
    /// The history of the last tagged table, in branches.
    pub history_max: u32,
    /// The low bits of an address that are ignored.
    pub pc_shift: u32,
}

impl Default for TageConfig {
    /// About 60 Kbit, with the histories of the paper's predictor of eight tables and 64 Kbit (section 4): 8 Kbit for the
    /// base, and 7 tables of 512 entries of 9 + 3 + 2 bits.
    fn default() -> Self {
        Self {
            base_counters: 4096,
            tables: 7,
            table_entries: 512,
            tag_bits: 9,
            history_min: 5,
            history_max: 130,
            pc_shift: 2,
        }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    tag: u16,
    counter: i8,
    useful: u8,
}

/// The most recent branches of a history, folded to fewer bits by exclusive or. It is brought up to date with each branch
/// instead of being computed anew.
#[derive(Debug, Clone, Copy)]
struct Folded {
    value: u64,
    bits: u32,
    /// Where the oldest branch leaves.
    leaves_at: u32,
}

impl Folded {
    fn new(length: u32, bits: u32) -> Self {
        Self { value: 0, bits, leaves_at: length % bits }
    }

    fn push(&mut self, youngest: u64, leaving: u64) {
        let shifted = (self.value << 1) | youngest;
        let rotated = shifted ^ (shifted >> self.bits) ^ (leaving << self.leaves_at);
        self.value = rotated & ((1 << self.bits) - 1);
    }
}

#[derive(Debug, Clone)]
struct Table {
    length: u32,
    entries: Box<[Entry]>,
    index: Folded,
    tags: [Folded; 2],
    /// Where the branch under way was looked up, and with which tag.
    at: usize,
    tag: u16,
}

/// A ring of the most recent branches.
#[derive(Debug, Clone)]
struct History {
    taken: Box<[u8]>,
    next: usize,
}

impl History {
    /// The branch that was `age` branches ago; the last one has age 1.
    fn ago(&self, age: u32) -> u64 {
        u64::from(self.taken[(self.next.wrapping_sub(age as usize)) & (self.taken.len() - 1)])
    }

    fn push(&mut self, taken: bool) {
        self.taken[self.next] = u8::from(taken);
        self.next = (self.next + 1) & (self.taken.len() - 1);
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tage {
    base: Counters,
    tables: Vec<Table>,
    history: History,
    use_alternate: i8,
    branches: u64,
    random: u64,
    tag_mask: u64,
    pc_shift: u32,
}

/// The length of each table's history: geometric from the shortest to the longest (section 3), each longer than the one before.
fn lengths(config: &TageConfig) -> Vec<u32> {
    let (min, max) = (f64::from(config.history_min), f64::from(config.history_max));
    let mut lengths: Vec<u32> = Vec::new();
    for at in 0..config.tables {
        let exponent = f64::from(at) / f64::from((config.tables - 1).max(1));
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between the shortest and the longest"
        )]
        let length = (min * (max / min).powf(exponent) + 0.5) as u32;
        let longer = lengths.last().map_or(0, |previous| previous + 1);
        lengths.push(length.max(longer));
    }
    lengths
}

impl Tage {
    pub(super) fn new(config: &TageConfig) -> Result<Self, ConfigError> {
        check_entries("the base table of TAGE", config.base_counters)?;
        check_entries("each tagged table of TAGE", config.table_entries)?;
        within("each tagged table of TAGE", u64::from(config.table_entries), 2, TABLE_ENTRIES_MAX)?;
        within("the number of TAGE's tagged tables", u64::from(config.tables), 1, 32)?;
        within("the bits of TAGE's tags", u64::from(config.tag_bits), 2, 16)?;
        within("TAGE's shortest history", u64::from(config.history_min), 1, HISTORY_MAX)?;
        within("TAGE's longest history", u64::from(config.history_max), 1, HISTORY_MAX)?;
        check_shift(config.pc_shift)?;
        if config.history_min >= config.history_max {
            return Err(ConfigError::Histories { min: config.history_min, max: config.history_max });
        }
        let index_bits = config.table_entries.trailing_zeros();
        let lengths = lengths(config);
        let longest = lengths.last().copied().unwrap_or_default();
        let table = |length| Table {
            length,
            entries: vec![Entry::default(); config.table_entries as usize].into(),
            index: Folded::new(length, index_bits),
            tags: [Folded::new(length, config.tag_bits), Folded::new(length, config.tag_bits - 1)],
            at: 0,
            tag: 0,
        };
        Ok(Self {
            base: Counters::new(config.base_counters, 2),
            tables: lengths.into_iter().map(table).collect(),
            history: History { taken: vec![0; (longest as usize + 1).next_power_of_two()].into(), next: 0 },
            use_alternate: 0,
            branches: 0,
            random: 0x9e37_79b9_7f4a_7c15,
            tag_mask: (1 << config.tag_bits) - 1,
            pc_shift: config.pc_shift,
        })
    }

    /// Marsaglia's xorshift generator (Journal of Statistical Software 8(14), 2003).
    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn remember(&mut self, taken: bool) {
        for table in &mut self.tables {
            let leaving = self.history.ago(table.length);
            table.index.push(u64::from(taken), leaving);
            for tag in &mut table.tags {
                tag.push(u64::from(taken), leaving);
            }
        }
        self.history.push(taken);
    }

    /// Finds the entries for a branch; says which table provides, and which the alternate.
    fn look_up(&mut self, pc: u64) -> (Option<usize>, Option<usize>) {
        let (mut provider, mut alternate) = (None, None);
        for (number, table) in self.tables.iter_mut().enumerate() {
            let index = pc ^ (pc >> table.index.bits) ^ table.index.value;
            let tag = (pc ^ table.tags[0].value ^ (table.tags[1].value << 1)) & self.tag_mask;
            #[expect(clippy::cast_possible_truncation, reason = "masked by the sizes of the table and of its tags")]
            {
                table.at = index as usize & (table.entries.len() - 1);
                table.tag = tag as u16;
            }
            // A new table is full of entries with tag 0 and a weak counter; they do as others, since hardware has no
            // valid bits either.
            if table.entries[table.at].tag == table.tag {
                (alternate, provider) = (provider, Some(number));
            }
        }
        (provider, alternate)
    }

    fn entry(&mut self, table: usize) -> &mut Entry {
        let table = &mut self.tables[table];
        &mut table.entries[table.at]
    }

    /// One entry for the branch under way, in a table after `provider`.
    fn allocate(&mut self, provider: Option<usize>, taken: bool) {
        let first = provider.map_or(0, |provider| provider + 1);
        let free: Vec<usize> = (first..self.tables.len()).filter(|&table| self.entry(table).useful == 0).collect();
        if free.is_empty() {
            for table in first..self.tables.len() {
                self.entry(table).useful -= 1;
            }
            return;
        }
        // Weights 2^(n-1), ..., 2, 1 for the n tables that are free.
        let draw = self.random() % ((1 << free.len()) - 1);
        let chosen = free.len() - 1 - (draw + 1).ilog2() as usize;
        let table = &mut self.tables[free[chosen]];
        table.entries[table.at] = Entry { tag: table.tag, counter: if taken { 0 } else { -1 }, useful: 0 };
    }

    /// Clears the upper or the lower bit of all useful counters.
    fn age(&mut self) {
        let keep = if (self.branches / USEFUL_RESET_BRANCHES) % 2 == 1 { 0b01 } else { 0b10 };
        for entry in self.tables.iter_mut().flat_map(|table| &mut table.entries) {
            entry.useful &= keep;
        }
    }
}

/// Counts up or down, within a range.
fn step(value: i8, up: bool, (min, max): (i8, i8)) -> i8 {
    if up { (value + 1).min(max) } else { (value - 1).max(min) }
}

impl Direction for Tage {
    fn conditional(&mut self, pc: u64, taken: bool) -> bool {
        let at = pc >> self.pc_shift;
        let (provider, alternate) = self.look_up(at);
        let predicted = if let Some(provider) = provider {
            let other = match alternate {
                Some(alternate) => self.entry(alternate).counter >= 0,
                None => self.base.taken(at),
            };
            let use_alternate = self.use_alternate;
            let entry = self.entry(provider);
            let own = entry.counter >= 0;
            let weak = matches!(entry.counter, -1 | 0);
            entry.counter = step(entry.counter, taken, COUNTER);
            if own != other {
                entry.useful =
                    if own == taken { (entry.useful + 1).min(USEFUL_MAX) } else { entry.useful.saturating_sub(1) };
                if weak {
                    self.use_alternate = step(use_alternate, other == taken, USE_ALTERNATE);
                }
            }
            if weak && use_alternate >= 0 { other } else { own }
        } else {
            let predicted = self.base.taken(at);
            self.base.train(at, taken);
            predicted
        };
        if predicted != taken {
            self.allocate(provider, taken);
        }
        self.branches += 1;
        if self.branches.is_multiple_of(USEFUL_RESET_BRANCHES) {
            self.age();
        }
        self.remember(taken);
        predicted
    }

    fn unconditional(&mut self, _pc: u64) {
        self.remember(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tage() -> Tage {
        Tage::new(&TageConfig::default()).unwrap()
    }

    #[test]
    fn histories_grow_geometrically() {
        assert_eq!(lengths(&TageConfig::default()), [5, 9, 15, 25, 44, 76, 130]);
        let dense = TageConfig { tables: 8, history_min: 1, history_max: 4, ..TageConfig::default() };
        assert_eq!(lengths(&dense), [1, 2, 3, 4, 5, 6, 7, 8], "no two tables have the same history");
        assert_eq!(lengths(&TageConfig { tables: 1, ..TageConfig::default() }), [5]);
    }

    #[test]
    fn a_folded_history_is_what_folding_it_anew_gives() {
        for (length, bits) in [(5, 9), (9, 9), (25, 8), (130, 9), (130, 8), (44, 1), (7, 11)] {
            let (mut folded, mut all) = (Folded::new(length, bits), vec![0_u64; length as usize]);
            for step in 0..1000_u64 {
                let youngest = step.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63;
                let leaving = all[all.len() - length as usize];
                folded.push(youngest, leaving);
                all.push(youngest);
                // The branch of age a, counted from 0, is bit a of the history; bit b is folded onto bit b % bits.
                let anew = (0..length as usize)
                    .fold(0, |value, age| value ^ (all[all.len() - 1 - age] << (age % bits as usize)));
                assert_eq!(folded.value, anew, "length {length}, {bits} bits, step {step}");
            }
        }
    }

    #[test]
    fn a_misprediction_allocates_one_weak_entry() {
        let mut tage = tage();
        // Fill with tags that match nothing, so that the base provides.
        for entry in tage.tables.iter_mut().flat_map(|table| &mut table.entries) {
            *entry = Entry { tag: u16::MAX, counter: 3, useful: 0 };
        }
        assert!(!tage.conditional(0x40_0000, true), "the base says not taken at first");
        let new: Vec<_> =
            tage.tables.iter().flat_map(|table| &table.entries).filter(|entry| entry.tag != u16::MAX).collect();
        assert_eq!(new.len(), 1);
        assert_eq!((new[0].counter, new[0].useful), (0, 0));
        assert!(!tage.conditional(0x40_0000, false), "a right prediction");
        let count = tage.tables.iter().flat_map(|table| &table.entries).filter(|entry| entry.tag != u16::MAX).count();
        assert_eq!(count, 1, "allocates nothing");
    }

    #[test]
    fn without_a_free_entry_the_useful_counters_go_down() {
        let mut tage = tage();
        for entry in tage.tables.iter_mut().flat_map(|table| &mut table.entries) {
            *entry = Entry { tag: u16::MAX, counter: 3, useful: 2 };
        }
        tage.conditional(0x40_0000, true);
        for table in &tage.tables {
            assert_eq!(table.entries.iter().filter(|entry| entry.useful == 1).count(), 1);
            assert!(table.entries.iter().all(|entry| entry.tag == u16::MAX));
        }
    }

    #[test]
    fn shorter_histories_are_allocated_twice_as_often_as_the_next() {
        let mut counts = [0_u32; 7];
        let mut tage = tage();
        for _ in 0..12_700 {
            for table in &mut tage.tables {
                table.entries.fill(Entry { tag: u16::MAX, counter: 3, useful: 0 });
            }
            tage.look_up(0);
            tage.allocate(None, true);
            let chosen = tage.tables.iter().position(|table| table.entries[table.at].tag != u16::MAX).unwrap();
            counts[chosen] += 1;
        }
        // Expected: 6400, 3200, ..., 100. The seed is fixed, so that this cannot fail by chance.
        for (at, &count) in counts.iter().enumerate() {
            let expected = f64::from(6400 >> at);
            assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn useful_bits_are_cleared_by_turns() {
        let mut tage = tage();
        let fill = |tage: &mut Tage| {
            for table in &mut tage.tables {
                table.entries.fill(Entry { tag: 0, counter: 3, useful: 3 });
            }
        };
        fill(&mut tage);
        tage.branches = USEFUL_RESET_BRANCHES - 1;
        tage.conditional(0, true);
        assert_eq!(tage.tables[0].entries[9].useful, 0b01);
        fill(&mut tage);
        tage.branches = 2 * USEFUL_RESET_BRANCHES - 1;
        tage.conditional(0, true);
        assert_eq!(tage.tables[0].entries[9].useful, 0b10);
    }

    #[test]
    fn a_long_loop_is_learnt_that_a_counter_cannot_learn() {
        // Taken 19 times, then not: only a history of 20 branches or more tells the last round apart.
        let mut tage = tage();
        let mut wrong = 0;
        for round in 0..2000 {
            for step in 0..20 {
                let taken = step < 19;
                wrong += u32::from(tage.conditional(0x1234, taken) != taken && round >= 1000);
            }
        }
        assert!(wrong <= 10, "{wrong} of 20,000 branches; a counter of 2 bits has 1,000");
    }
}
