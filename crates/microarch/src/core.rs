//! One simulated core: private caches, predictors and branch targets, fed with blocks of instructions and with accesses to
//! memory as a program executes them.
//!
//! What is fed is kept and simulated in batches. The caches for instructions, those for data, and the predictors do not see
//! each other, so that only the order within each kind matters.

use crate::bank::{CacheBank, FetchPlan};
use crate::cache::{Access, CacheConfig};
use crate::error::ConfigError;
use crate::instruction::{InstructionSet, Kind, decode};
use crate::predictor::{Branch, Outcome, Predictor, PredictorConfig};
use crate::report::Counting;
use crate::targets::{ReturnStack, ReturnStackConfig, TargetBuffer, TargetBufferConfig};

/// How many blocks, and how many accesses, are kept before they are simulated. With 4096 of each, 8 and 16 bytes large, a
/// batch stays in the second-level cache of the machine; much smaller batches would pay more often for their beginning.
const BATCH: usize = 4096;

/// How many descriptions of accesses are remembered: a power of two, above what qemu has in one program.
const DESCRIBED: usize = 64;

/// What a core has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// Instruction caches, each of which sees all fetches.
    pub instruction_caches: Vec<CacheConfig>,
    /// Data caches, each of which sees all loads and stores.
    pub data_caches: Vec<CacheConfig>,
    /// Predictors, each of which sees all branches.
    pub predictors: Vec<PredictorConfig>,
    /// The branch target buffer.
    pub target_buffer: Option<TargetBufferConfig>,
    /// The return address stack.
    pub return_stack: Option<ReturnStackConfig>,
    /// What is an instruction, and what an access.
    pub counting: Counting,
}

/// A straight run of instructions, of which only the last may be a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Which one of the program's blocks it is: its place in [`Core::executions`].
    number: u32,
    pub(crate) start: u64,
    /// The address after the last instruction.
    end: u64,
    /// The address of the last instruction.
    last: u64,
    /// What the last instruction is.
    kind: Kind,
    plan: FetchPlan,
}

impl Block {
    /// Whether this is nothing but a string instruction that repeats.
    pub(crate) fn instructions(&self) -> u64 {
        self.plan.instructions()
    }

    #[inline]
    fn only_repeats(&self) -> bool {
        self.kind == Kind::Repeated && self.last == self.start
    }
}

/// Makes blocks for cores of one setup.
#[derive(Debug)]
pub struct BlockMaker {
    set: InstructionSet,
    bank: CacheBank,
}

impl BlockMaker {
    /// For cores that are made of this setup.
    ///
    /// # Errors
    /// If one of the instruction caches has a geometry that no cache has.
    pub fn new(set: InstructionSet, setup: &Setup) -> Result<Self, ConfigError> {
        Ok(Self { set, bank: CacheBank::new(&setup.instruction_caches)? })
    }

    /// The block of these instructions, given by their bytes. Blocks are numbered from 0 on.
    #[must_use]
    pub fn block(&self, number: u32, start: u64, instructions: &[&[u8]]) -> Block {
        #[expect(clippy::cast_possible_truncation, reason = "an instruction has at most 15 bytes")]
        let plan = self.bank.plan(start, instructions.iter().map(|bytes| bytes.len() as u32));
        let end = instructions.iter().fold(start, |at, bytes| at.wrapping_add(bytes.len() as u64));
        let (last, kind) = instructions.last().map_or((start, Kind::Other), |bytes| {
            let pc = end.wrapping_sub(bytes.len() as u64);
            (pc, decode(self.set, pc, bytes))
        });
        Block { number, start, end, last, kind, plan }
    }
}

/// What an opaque description of an access means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccessInfo {
    /// Whether it writes.
    pub access: Access,
    /// Its size in bytes.
    pub bytes: u32,
}

/// Translates an opaque description of an access. It has to give the same for the same number.
pub type Describe = fn(u32) -> AccessInfo;

/// An access that has not been simulated yet.
#[derive(Debug, Clone, Copy)]
struct Event {
    address: u64,
    info: u32,
    /// The number of blocks in the batch when it happened: accesses with the same number belong to one execution of a block.
    sequence: u16,
    tag: InstructionTag,
}

/// Which instruction of its block makes an access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InstructionTag(u16);

impl InstructionTag {
    /// A repeated string instruction: each of its accesses is one, even where they follow each other in memory.
    const REPEATED: u16 = u16::MAX;

    /// The instruction with this number in its block.
    #[must_use]
    pub fn new(set: InstructionSet, number: usize, bytes: &[u8]) -> Self {
        match decode(set, 0, bytes) {
            Kind::Repeated => Self(Self::REPEATED),
            _ => Self(u16::try_from(number).unwrap_or(Self::REPEATED)),
        }
    }

    /// A number that stands for this tag.
    #[must_use]
    pub fn to_number(self) -> u16 {
        self.0
    }

    /// The tag of a number.
    #[must_use]
    pub fn from_number(number: u16) -> Self {
        Self(number)
    }
}

/// An access that may still grow by parts that are yet to come.
#[derive(Debug, Clone, Copy)]
struct Pending {
    address: u64,
    bytes: u32,
    access: Access,
    sequence: u16,
    tag: InstructionTag,
}

/// One simulated core.
#[derive(Debug)]
pub struct Core {
    counting: Counting,
    describe: Describe,
    /// Descriptions that have been translated, by some of their bits.
    described: Box<[(u32, AccessInfo); DESCRIBED]>,
    pub(crate) fetches: CacheBank,
    pub(crate) data: CacheBank,
    pub(crate) predictors: Vec<Predictor>,
    pub(crate) target_buffer: Option<TargetBuffer>,
    pub(crate) return_stack: Option<ReturnStack>,
    pub(crate) totals: Totals,
    /// How often each block was executed, by its number.
    executions: Vec<u64>,
    /// `BATCH` places for blocks to be simulated; `None` stands for code that is not counted.
    blocks: Box<[Option<&'static Block>]>,
    blocks_count: usize,
    events: Box<[Event]>,
    events_count: usize,
    branches: Vec<Branch>,
    /// Branches that were taken, with their targets.
    targets: Vec<(u64, u64)>,
    /// The last block of the previous batch.
    previous: Option<&'static Block>,
    pending: Option<Pending>,
}

/// What a core counts whatever its caches and predictors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) instructions: u64,
    pub(crate) loads: u64,
    pub(crate) stores: u64,
    pub(crate) conditional_branches: u64,
    pub(crate) taken_branches: u64,
    pub(crate) unresolved_branches: u64,
}

impl Core {
    /// A core that has executed nothing.
    ///
    /// # Errors
    /// If the setup has something that no hardware has.
    pub fn new(setup: &Setup, describe: Describe) -> Result<Self, ConfigError> {
        Ok(Self {
            counting: setup.counting,
            describe,
            described: Box::new([(0, describe(0)); DESCRIBED]),
            fetches: CacheBank::new(&setup.instruction_caches)?,
            data: CacheBank::new(&setup.data_caches)?,
            predictors: setup.predictors.iter().map(Predictor::new).collect::<Result<_, _>>()?,
            target_buffer: setup.target_buffer.map(TargetBuffer::new).transpose()?,
            return_stack: setup.return_stack.map(ReturnStack::new).transpose()?,
            totals: Totals::default(),
            executions: Vec::new(),
            blocks: vec![None; BATCH].into(),
            blocks_count: 0,
            events: vec![Event { address: 0, info: 0, sequence: 0, tag: InstructionTag(0) }; BATCH].into(),
            events_count: 0,
            branches: Vec::with_capacity(BATCH),
            targets: Vec::with_capacity(BATCH),
            previous: None,
            pending: None,
        })
    }

    /// A block begins.
    #[inline]
    pub fn execute(&mut self, block: &'static Block) {
        self.push(Some(block));
    }

    /// Code that is not counted begins.
    #[inline]
    pub fn leave(&mut self) {
        // Only the first such block after a counted one says anything.
        let last = match self.blocks_count {
            0 => self.previous,
            count => self.blocks[count - 1],
        };
        if last.is_some() {
            self.push(None);
        }
    }

    #[inline]
    fn push(&mut self, block: Option<&'static Block>) {
        if self.blocks_count == BATCH {
            self.simulate();
        }
        self.blocks[self.blocks_count] = block;
        self.blocks_count += 1;
    }

    /// An instruction of the block that began last accesses memory.
    #[inline]
    pub fn access(&mut self, address: u64, info: u32, tag: InstructionTag) {
        if self.events_count == BATCH {
            self.simulate();
        }
        #[expect(clippy::cast_possible_truncation, reason = "a batch has at most 4096 blocks")]
        let sequence = self.blocks_count as u16;
        self.events[self.events_count] = Event { address, info, sequence, tag };
        self.events_count += 1;
    }

    /// Simulates what is left of a batch, and the last access of the program, which cannot grow any more. What comes after
    /// that is counted as if it were a new beginning.
    pub fn finish(&mut self) {
        self.simulate();
        if let Some(last) = self.pending.take() {
            self.touch(last);
        }
        self.previous = None;
    }

    #[cold]
    fn simulate(&mut self) {
        #[expect(clippy::cast_possible_truncation, reason = "a batch has at most 4096 blocks")]
        let last_sequence = self.blocks_count as u16;
        self.simulate_accesses();
        // The block that is being executed may have more accesses in the next batch, which counts its blocks from 0.
        if let Some(pending) = &mut self.pending {
            if pending.sequence == last_sequence {
                pending.sequence = 0;
            } else if let Some(done) = self.pending.take() {
                self.touch(done);
            }
        }
        self.simulate_blocks();
        for predictor in &mut self.predictors {
            predictor.run(&self.branches);
        }
        self.branches.clear();
        if let Some(buffer) = &mut self.target_buffer {
            for &(pc, target) in &self.targets {
                buffer.taken(pc, target);
            }
        }
        self.targets.clear();
    }

    /// Puts together what one instruction does at one place: a translator may split an access of 16 bytes into two of 8.
    fn simulate_accesses(&mut self) {
        let cachegrind = self.counting == Counting::Cachegrind;
        let mut pending = self.pending;
        for at in 0..std::mem::take(&mut self.events_count) {
            let Event { address, info, sequence, tag } = self.events[at];
            let AccessInfo { access, bytes } = self.described(info);
            if let Some(earlier) = &mut pending {
                let same = earlier.sequence == sequence && earlier.tag == tag && tag.0 != InstructionTag::REPEATED;
                if same {
                    let offset = address.wrapping_sub(earlier.address);
                    if earlier.access == access && offset == u64::from(earlier.bytes) {
                        earlier.bytes = earlier.bytes.saturating_add(bytes);
                        continue;
                    }
                    let modifies = earlier.access == Access::Load && access == Access::Store;
                    if modifies && offset < u64::from(earlier.bytes) && cachegrind {
                        continue;
                    }
                }
                let done = *earlier;
                self.touch(done);
            }
            pending = Some(Pending { address, bytes, access, sequence, tag });
        }
        self.pending = pending;
    }

    #[inline]
    fn described(&mut self, info: u32) -> AccessInfo {
        // A program has few different descriptions (size, sign, direction). Two that share a place are translated anew.
        // The multiplier is 2^32 divided by the golden ratio (Knuth, The Art of Computer Programming 3, section 6.4), whose
        // highest bits depend on all bits of the number.
        let known = &mut self.described[(info.wrapping_mul(0x9e37_79b1) >> 16) as usize % DESCRIBED];
        if known.0 != info {
            *known = (info, (self.describe)(info));
        }
        known.1
    }

    #[inline]
    fn touch(&mut self, done: Pending) {
        match done.access {
            Access::Load => self.totals.loads += 1,
            Access::Store => self.totals.stores += 1,
        }
        self.data.access(done.address, done.bytes, done.access);
    }

    fn simulate_blocks(&mut self) {
        let architecture = self.counting == Counting::Architecture;
        let mut previous = self.previous;
        for at in 0..std::mem::take(&mut self.blocks_count) {
            let next = self.blocks[at];
            if let Some(last) = previous {
                self.follow(last, next);
            } else {
                self.enter(next.map(|block| block.start));
            }
            if let Some(block) = next {
                // Another round of the string instruction that the block before ended with is no instruction.
                if architecture && block.only_repeats() && previous.is_some_and(|last| last.last == block.last) {
                    self.fetches.bring(&block.plan);
                } else {
                    self.totals.instructions += block.plan.instructions();
                    self.count(block.number);
                    self.fetches.fetch(&block.plan);
                }
            }
            previous = next;
        }
        self.previous = previous;
    }

    #[inline]
    fn count(&mut self, number: u32) {
        let at = number as usize;
        if let Some(executions) = self.executions.get_mut(at) {
            *executions += 1;
        } else {
            self.executions.resize(at + 1, 0);
            self.executions[at] = 1;
        }
    }

    /// How often this core has executed a block.
    pub(crate) fn executions(&self, block: &Block) -> u64 {
        self.executions.get(block.number as usize).copied().unwrap_or(0)
    }

    /// What the branch at the end of a block did is known by what comes next.
    #[inline]
    fn follow(&mut self, last: &Block, next: Option<&'static Block>) {
        let (pc, next) = (last.last, next.map(|block| block.start));
        match last.kind {
            Kind::Other | Kind::Repeated => {}
            Kind::Conditional { target } => {
                let taken = next != Some(last.end);
                // Otherwise: a signal, an exception, or code that is not counted.
                if !taken || next == Some(target) {
                    self.totals.conditional_branches += 1;
                    self.totals.taken_branches += u64::from(taken);
                    self.branches.push(Branch { pc, outcome: if taken { Outcome::Taken } else { Outcome::NotTaken } });
                    // Whether a branch is taken is what a processor cannot foresee, that of this simulation neither: so it
                    // is written in any case, and taken back.
                    self.targets.push((pc, target));
                    self.targets.truncate(self.targets.len() - usize::from(!taken));
                } else {
                    self.totals.unresolved_branches += 1;
                }
            }
            Kind::Jump { target } => self.jumps(pc, Some(target)),
            Kind::Call { target } => {
                self.jumps(pc, Some(target));
                self.calls(last.end);
            }
            Kind::IndirectJump => self.jumps(pc, next),
            Kind::IndirectCall => {
                self.jumps(pc, next);
                self.calls(last.end);
            }
            Kind::Return => {
                self.branches.push(Branch { pc, outcome: Outcome::Unconditional });
                match (&mut self.return_stack, next) {
                    (Some(stack), Some(target)) => stack.ret(target),
                    (Some(stack), None) => drop(stack.pop()),
                    (None, _) => {}
                }
            }
        }
    }

    /// Counted code begins after code that is not counted. That is the return of a call that went out, or a call that comes
    /// in; in hardware, the return address stack would have seen either.
    #[inline]
    fn enter(&mut self, next: Option<u64>) {
        if let (Some(stack), Some(address)) = (&mut self.return_stack, next) {
            if stack.top() == Some(address) {
                stack.pop();
            } else {
                stack.call(UNKNOWN_CALLER);
            }
        }
    }

    fn jumps(&mut self, pc: u64, target: Option<u64>) {
        self.branches.push(Branch { pc, outcome: Outcome::Unconditional });
        match target {
            Some(target) => self.targets.push((pc, target)),
            None => self.totals.unresolved_branches += 1,
        }
    }

    fn calls(&mut self, back: u64) {
        if let Some(stack) = &mut self.return_stack {
            stack.call(back);
        }
    }
}

/// Where a call from code that is not counted returns to: no code lies at address 0.
const UNKNOWN_CALLER: u64 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::predictor::{BranchCounts, LocalConfig};
    use crate::targets::TargetCounts;

    const NOP: &[u8] = &[0x90];

    fn setup(counting: Counting) -> Setup {
        Setup {
            instruction_caches: vec![CacheConfig::new(1024, 64, 2).unwrap()],
            data_caches: vec![CacheConfig::new(1024, 64, 2).unwrap()],
            predictors: vec![PredictorConfig::Local(LocalConfig::default())],
            target_buffer: Some(TargetBufferConfig::default()),
            return_stack: Some(ReturnStackConfig::default()),
            counting,
        }
    }

    /// In these tests a description is the size in bytes, and 256 more for a store.
    fn describe(info: u32) -> AccessInfo {
        let access = if info & 256 == 0 { Access::Load } else { Access::Store };
        AccessInfo { access, bytes: info & 255 }
    }

    fn core(counting: Counting) -> Core {
        Core::new(&setup(counting), describe).unwrap()
    }

    fn block(start: u64, instructions: &[&[u8]]) -> &'static Block {
        let maker = BlockMaker::new(InstructionSet::X86_64, &setup(Counting::Architecture)).unwrap();
        Box::leak(Box::new(maker.block(0, start, instructions)))
    }

    #[test]
    fn each_block_is_counted_by_its_number() {
        let maker = BlockMaker::new(InstructionSet::X86_64, &setup(Counting::Architecture)).unwrap();
        let made = |number, start, instructions: &[&[u8]]| -> &'static Block {
            Box::leak(Box::new(maker.block(number, start, instructions)))
        };
        // More executions than fit into one batch; then blocks with higher and with lower numbers; and one never.
        let (loops, once, never) = (made(7, 0x1000, &[NOP, NOP]), made(2, 0x2000, &[NOP]), made(9, 0x3000, &[NOP]));
        let mut core = core(Counting::Architecture);
        for _ in 0..BATCH + 300 {
            core.execute(loops);
        }
        core.execute(once);
        core.finish();
        assert_eq!(core.executions(loops), BATCH as u64 + 300);
        assert_eq!((core.executions(once), core.executions(never)), (1, 0));
    }

    #[test]
    fn a_branch_did_what_the_next_block_says() {
        let mut core = core(Counting::Architecture);
        // je from 0x1000 to 0x1010
        let (branch, next, target) = (block(0x1000, &[&[0x74, 0x0e]]), block(0x1002, &[NOP]), block(0x1010, &[NOP]));
        for follower in [next, target, target, next] {
            core.execute(branch);
            core.execute(follower);
        }
        core.execute(branch);
        core.execute(block(0x9000, &[NOP]));
        core.execute(branch);
        core.leave();
        core.finish();
        assert_eq!(core.totals.instructions, 11);
        assert_eq!((core.totals.conditional_branches, core.totals.taken_branches), (4, 2));
        assert_eq!(
            core.totals.unresolved_branches, 2,
            "one went elsewhere, one was followed by code that is not counted"
        );
        // The counter: 0 n, 0 T, 1 T, 2 n.
        assert_eq!(core.predictors[0].counts(), BranchCounts { branches: 4, mispredictions: 3 });
        let buffer = core.target_buffer.as_ref().unwrap();
        assert_eq!(buffer.counts(), TargetCounts { lookups: 2, misses: 1, wrong_targets: 0 });
    }

    #[test]
    fn calls_and_returns_match_across_code_that_is_not_counted() {
        let mut core = core(Counting::Architecture);
        // call 0x2000; the function calls what rax says, which is not counted; then it returns.
        let call = block(0x1000, &[&[0xe8, 0xfb, 0x0f, 0, 0]]);
        let (out, ret) = (block(0x2000, &[&[0xff, 0xd0]]), block(0x2002, &[&[0xc3]]));
        let after = block(0x1005, &[&[0xc3]]);
        for _ in 0..3 {
            for block in [call, out] {
                core.execute(block);
            }
            core.leave();
            core.leave();
            for block in [ret, after] {
                core.execute(block);
            }
            core.leave();
        }
        core.finish();
        let stack = core.return_stack.as_ref().unwrap();
        assert_eq!(stack.counts(), BranchCounts { branches: 3, mispredictions: 0 }, "those into counted code");
        assert_eq!(stack.top(), None, "nothing is left over");
        assert_eq!(core.totals.unresolved_branches, 3, "the calls out");
        assert_eq!(core.totals.instructions, 12);
    }

    #[test]
    fn parts_of_one_access_are_one() {
        let tag = |number| InstructionTag::new(InstructionSet::X86_64, number, NOP);
        let count = |counting, accesses: &[(u64, u32, u16)]| {
            let mut core = core(counting);
            core.execute(block(0, &[NOP]));
            for &(address, info, number) in accesses {
                core.access(address, info, InstructionTag::from_number(number));
            }
            core.finish();
            (core.totals.loads, core.totals.stores)
        };
        assert_eq!(tag(3).to_number(), 3);
        let both = [Counting::Architecture, Counting::Cachegrind];
        for counting in both {
            assert_eq!(count(counting, &[(0, 8, 1), (8, 8, 1)]), (1, 0), "16 bytes in two halves");
            assert_eq!(count(counting, &[(0, 8, 1), (8, 8, 2)]), (2, 0), "two instructions");
            assert_eq!(count(counting, &[(8, 8, 1), (0, 8, 1)]), (2, 0), "not one after the other");
            assert_eq!(count(counting, &[(0, 8, 1), (8, 8 + 256, 1)]), (1, 1), "a load and a store elsewhere");
            let repeated = InstructionTag::new(InstructionSet::X86_64, 0, &[0xf3, 0xaa]).to_number();
            assert_eq!(count(counting, &[(0, 257, repeated), (1, 257, repeated)]), (0, 2));
        }
        let modify = [(0, 4, 1), (0, 4 + 256, 1)];
        assert_eq!(count(Counting::Architecture, &modify), (1, 1));
        assert_eq!(count(Counting::Cachegrind, &modify), (1, 0), "an access that modifies is a load");
        let halves = [(0, 8, 1), (8, 8, 1), (0, 264, 1), (8, 264, 1)];
        assert_eq!(count(Counting::Architecture, &halves), (1, 1));
        assert_eq!(count(Counting::Cachegrind, &halves), (1, 0));
    }

    #[test]
    fn each_execution_of_a_block_has_accesses_of_its_own() {
        let mut core = core(Counting::Architecture);
        let body = block(0, &[NOP]);
        for step in 0..100_000_u64 {
            core.execute(body);
            core.access(step * 8, 8, InstructionTag::from_number(0));
        }
        core.finish();
        assert_eq!(core.totals.loads, 100_000, "a walk through memory is not one long access");
        let (_, counts) = core.data.counts().next().unwrap();
        assert_eq!((counts.loads, counts.load_misses), (100_000, 12_500));
    }

    #[test]
    fn a_batch_may_end_anywhere() {
        // Two halves in each of many executions, with an odd access before, so that batches end between halves, too.
        let mut core = core(Counting::Cachegrind);
        let body = block(0, &[NOP]);
        core.execute(body);
        core.access(0, 8, InstructionTag::from_number(9));
        for step in 0..50_000_u64 {
            if step % 3 == 0 {
                core.execute(body);
            }
            let tag = InstructionTag::from_number((step % 3) as u16);
            core.access(step * 64, 8, tag);
            core.access(step * 64 + 8, 8, tag);
            core.access(step * 64, 8 + 256, tag);
        }
        core.finish();
        assert_eq!((core.totals.loads, core.totals.stores), (50_001, 0));
    }

    #[test]
    fn a_string_instruction_is_one_instruction_however_often_it_repeats() {
        let count = |counting| {
            let mut core = core(counting);
            let (first, again) = (block(0x0ff0, &[NOP, &[0xf3, 0xa4]]), block(0x0ff1, &[&[0xf3, 0xa4]]));
            let next = block(0x0ff3, &[NOP]);
            for _ in 0..2 {
                core.execute(first);
                for _ in 0..4 {
                    core.execute(again);
                }
                core.execute(next);
            }
            core.finish();
            let (_, counts) = core.fetches.counts().next().unwrap();
            assert_eq!(counts.loads, core.totals.instructions);
            core.totals.instructions
        };
        assert_eq!(count(Counting::Architecture), 6);
        assert_eq!(count(Counting::Cachegrind), 14);
    }
}
