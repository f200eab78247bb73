//! Where taken branches go: the branch target buffer and the return address stack.

use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, within};

/// The most entries of a branch target buffer: a bound on memory, far above real hardware.
const TARGETS_MAX: u64 = 1 << 20;

/// The most entries of a return address stack, likewise.
const RETURNS_MAX: u64 = 1 << 16;

/// Sizes of a branch target buffer: set-associative, with true LRU replacement, and the whole address as its tag.
///
/// Each taken branch except returns is looked up by its address when it has been executed, in set
/// `(pc >> pc_shift) % (entries / ways)`. Then its target is written there, in place of the entry that was not used for longest.
/// Branches that are not taken neither look up nor write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetBufferConfig {
    /// All entries. `entries / ways` is a power of two.
    pub entries: u32,
    /// The entries of one set.
    pub ways: u32,
    /// The low bits of an address that do not choose the set.
    pub pc_shift: u32,
}

impl Default for TargetBufferConfig {
    /// As gem5 has it without further options.
    fn default() -> Self {
        Self { entries: 4096, ways: 1, pc_shift: 2 }
    }
}

/// What was counted at a branch target buffer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetCounts {
    /// Taken branches that were looked up.
    pub lookups: u64,
    /// Those that had no entry.
    pub misses: u64,
    /// Those whose entry had another target, as only indirect branches can.
    pub wrong_targets: u64,
}

impl std::ops::AddAssign for TargetCounts {
    fn add_assign(&mut self, other: Self) {
        self.lookups += other.lookups;
        self.misses += other.misses;
        self.wrong_targets += other.wrong_targets;
    }
}

/// A branch target buffer.
#[derive(Debug, Clone)]
pub struct TargetBuffer {
    config: TargetBufferConfig,
    /// Each set's entries (address and target), the most recently used first.
    sets: Box<[Option<(u64, u64)>]>,
    counts: TargetCounts,
}

impl TargetBuffer {
    /// An empty buffer.
    ///
    /// # Errors
    /// If no buffer has these sizes.
    pub fn new(config: TargetBufferConfig) -> Result<Self, ConfigError> {
        let TargetBufferConfig { entries, ways, pc_shift } = config;
        within("the entries of a branch target buffer", u64::from(entries), 1, TARGETS_MAX)?;
        within("the ways of a branch target buffer", u64::from(ways), 1, u64::from(entries))?;
        within("the pc shift of a branch target buffer", u64::from(pc_shift), 0, 16)?;
        if entries % ways != 0 || !(entries / ways).is_power_of_two() {
            return Err(ConfigError::TargetSets { entries, ways });
        }
        Ok(Self { config, sets: vec![None; entries as usize].into(), counts: TargetCounts::default() })
    }

    /// A branch at `pc` was taken to `target`.
    pub fn taken(&mut self, pc: u64, target: u64) {
        let ways = self.config.ways as usize;
        #[expect(clippy::cast_possible_truncation, reason = "masked by the number of sets")]
        let at = ((pc >> self.config.pc_shift) as usize & (self.sets.len() / ways - 1)) * ways;
        let set = &mut self.sets[at..at + ways];
        self.counts.lookups += 1;
        let found = set.iter().position(|entry| entry.is_some_and(|(address, _)| address == pc));
        match found.and_then(|way| set[way]) {
            None => self.counts.misses += 1,
            Some((_, known)) => self.counts.wrong_targets += u64::from(known != target),
        }
        set[..=found.unwrap_or(ways - 1)].rotate_right(1);
        set[0] = Some((pc, target));
    }

    /// Its sizes.
    #[must_use]
    pub fn config(&self) -> TargetBufferConfig {
        self.config
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> TargetCounts {
        self.counts
    }
}

/// The size of a return address stack.
///
/// A call pushes the address after it; if the stack is full, its oldest entry is lost. A return pops the address that it is
/// predicted to go to; from an empty stack nothing is predicted, which is counted as a misprediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnStackConfig {
    /// The number of addresses: any number, not only a power of two.
    pub entries: u32,
}

impl Default for ReturnStackConfig {
    /// As gem5 has it without further options.
    fn default() -> Self {
        Self { entries: 16 }
    }
}

/// A return address stack.
#[derive(Debug, Clone)]
pub struct ReturnStack {
    /// A ring: `depth` addresses, of which the youngest is just before `next`.
    addresses: Box<[u64]>,
    next: usize,
    depth: usize,
    counts: crate::BranchCounts,
}

impl ReturnStack {
    /// An empty stack.
    ///
    /// # Errors
    /// If it has no entries, or too many.
    pub fn new(config: ReturnStackConfig) -> Result<Self, ConfigError> {
        within("the entries of a return address stack", u64::from(config.entries), 1, RETURNS_MAX)?;
        let addresses = vec![0; config.entries as usize].into();
        Ok(Self { addresses, next: 0, depth: 0, counts: crate::BranchCounts::default() })
    }

    /// A call whose return goes to `back`.
    pub fn call(&mut self, back: u64) {
        self.addresses[self.next] = back;
        self.next = (self.next + 1) % self.addresses.len();
        self.depth = (self.depth + 1).min(self.addresses.len());
    }

    /// A return that went to `target`.
    pub fn ret(&mut self, target: u64) {
        self.counts.branches += 1;
        self.counts.mispredictions += u64::from(self.pop() != Some(target));
    }

    /// Takes the youngest address off, and counts nothing.
    pub fn pop(&mut self) -> Option<u64> {
        let address = self.top()?;
        self.next = (self.next + self.addresses.len() - 1) % self.addresses.len();
        self.depth -= 1;
        Some(address)
    }

    /// The youngest address.
    #[must_use]
    pub fn top(&self) -> Option<u64> {
        let len = self.addresses.len();
        (self.depth > 0).then(|| self.addresses[(self.next + len - 1) % len])
    }

    /// Its size.
    #[must_use]
    pub fn config(&self) -> ReturnStackConfig {
        #[expect(clippy::cast_possible_truncation, reason = "made from a u32")]
        let entries = self.addresses.len() as u32;
        ReturnStackConfig { entries }
    }

    /// Returns, and those of which the stack said something else than they did.
    #[must_use]
    pub fn counts(&self) -> crate::BranchCounts {
        self.counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_known_from_the_second_time_on() {
        let mut buffer = TargetBuffer::new(TargetBufferConfig { entries: 4, ways: 2, pc_shift: 0 }).unwrap();
        buffer.taken(0, 100);
        buffer.taken(0, 100);
        buffer.taken(0, 200);
        buffer.taken(0, 200);
        assert_eq!(buffer.counts(), TargetCounts { lookups: 4, misses: 1, wrong_targets: 1 });
    }

    #[test]
    fn the_entry_that_was_not_used_for_longest_leaves() {
        // Two sets of two ways; even addresses share the first.
        let mut buffer = TargetBuffer::new(TargetBufferConfig { entries: 4, ways: 2, pc_shift: 0 }).unwrap();
        buffer.taken(0, 1);
        buffer.taken(2, 1);
        buffer.taken(1, 1);
        buffer.taken(0, 1);
        assert_eq!(buffer.counts().misses, 3, "address 1 is in the other set");
        buffer.taken(4, 1);
        buffer.taken(0, 1);
        assert_eq!(buffer.counts().misses, 4, "address 4 took the place of 2");
        buffer.taken(2, 1);
        assert_eq!(buffer.counts().misses, 5);
        buffer.taken(4, 1);
        assert_eq!(buffer.counts(), TargetCounts { lookups: 8, misses: 6, wrong_targets: 0 });
    }

    #[test]
    fn returns_go_back_to_their_calls() {
        let mut stack = ReturnStack::new(ReturnStackConfig { entries: 3 }).unwrap();
        stack.ret(1);
        assert_eq!(stack.counts(), crate::BranchCounts { branches: 1, mispredictions: 1 }, "from an empty stack");
        for back in 1..=4 {
            stack.call(back);
        }
        for back in [4, 3, 2] {
            stack.ret(back);
        }
        assert_eq!(stack.counts(), crate::BranchCounts { branches: 4, mispredictions: 1 });
        stack.ret(1);
        assert_eq!(stack.counts().mispredictions, 2, "the oldest was lost to the fourth call");
        stack.call(9);
        stack.ret(8);
        assert_eq!(stack.counts().mispredictions, 3);
        assert_eq!(stack.top(), None);
    }

    #[test]
    fn impossible_sizes_are_refused_by_name() {
        let buffer = |entries, ways| {
            TargetBuffer::new(TargetBufferConfig { entries, ways, pc_shift: 0 }).map(|_| ()).unwrap_err().to_string()
        };
        assert_eq!(buffer(0, 1), "the entries of a branch target buffer is 0; it has to be between 1 and 1048576");
        assert_eq!(buffer(4, 8), "the ways of a branch target buffer is 8; it has to be between 1 and 4");
        assert!(buffer(12, 4).contains("power of two"));
        assert!(buffer(12, 5).contains("power of two"));
        assert!(TargetBuffer::new(TargetBufferConfig { entries: 12, ways: 3, pc_shift: 0 }).is_ok());
        let stack = ReturnStack::new(ReturnStackConfig { entries: 0 }).map(|_| ()).unwrap_err().to_string();
        assert_eq!(stack, "the entries of a return address stack is 0; it has to be between 1 and 65536");
    }
}
