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
    start: u64,
    /// The address after the last instruction.
    end: u64,
    /// The address of the last instruction, and what it is.
    last: (u64, Kind),
    instructions: u64,
    plan: FetchPlan,
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

    /// The block of these instructions, given by their bytes.
    #[must_use]
    pub fn block(&self, start: u64, instructions: &[&[u8]]) -> Block {
        #[expect(clippy::cast_possible_truncation, reason = "an instruction has at most 15 bytes")]
        let plan = self.bank.plan(start, instructions.iter().map(|bytes| bytes.len() as u32));
        let end = instructions.iter().fold(start, |at, bytes| at.wrapping_add(bytes.len() as u64));
        let last = instructions.last().map_or((start, Kind::Other), |bytes| {
            let pc = end.wrapping_sub(bytes.len() as u64);
            (pc, decode(self.set, pc, bytes))
        });
        Block { start, end, last, instructions: instructions.len() as u64, plan }
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
    /// Descriptions that have been translated.
    described: Vec<(u32, AccessInfo)>,
    pub(crate) fetches: CacheBank,
    pub(crate) data: CacheBank,
    pub(crate) predictors: Vec<Predictor>,
    pub(crate) target_buffer: Option<TargetBuffer>,
    pub(crate) return_stack: Option<ReturnStack>,
    pub(crate) totals: Totals,
    /// Blocks to be simulated; `None` stands for code that is not counted.
    blocks: Vec<Option<&'static Block>>,
    events: Vec<Event>,
    branches: Vec<Branch>,
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
            described: Vec::new(),
            fetches: CacheBank::new(&setup.instruction_caches)?,
            data: CacheBank::new(&setup.data_caches)?,
            predictors: setup.predictors.iter().map(Predictor::new).collect::<Result<_, _>>()?,
            target_buffer: setup.target_buffer.map(TargetBuffer::new).transpose()?,
            return_stack: setup.return_stack.map(ReturnStack::new).transpose()?,
            totals: Totals::default(),
            blocks: Vec::with_capacity(BATCH),
            events: Vec::with_capacity(BATCH),
            branches: Vec::with_capacity(BATCH),
            previous: None,
            pending: None,
        })
    }

    /// A block begins.
    #[inline]
    pub fn execute(&mut self, block: &'static Block) {
        if self.blocks.len() == BATCH {
            self.simulate();
        }
        self.blocks.push(Some(block));
    }

    /// Code that is not counted begins.
    #[inline]
    pub fn leave(&mut self) {
        // Only the first such block after a counted one says anything.
        if let Some(None) = self.blocks.last() {
            return;
        }
        if self.blocks.is_empty() && self.previous.is_none() {
            return;
        }
        if self.blocks.len() == BATCH {
            self.simulate();
        }
        self.blocks.push(None);
    }

    /// An instruction of the block that began last accesses memory.
    #[inline]
    pub fn access(&mut self, address: u64, info: u32, tag: InstructionTag) {
        if self.events.len() == BATCH {
            self.simulate();
        }
        #[expect(clippy::cast_possible_truncation, reason = "a batch has at most 4096 blocks")]
        let sequence = self.blocks.len() as u16;
        self.events.push(Event { address, info, sequence, tag });
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

    fn simulate(&mut self) {
        #[expect(clippy::cast_possible_truncation, reason = "a batch has at most 4096 blocks")]
        let last_sequence = self.blocks.len() as u16;
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
        let branches = std::mem::take(&mut self.branches);
        for predictor in &mut self.predictors {
            predictor.run(&branches);
        }
        self.branches = branches;
        self.branches.clear();
    }

    /// Puts together what one instruction does at one place: a translator may split an access of 16 bytes into two of 8.
    fn simulate_accesses(&mut self) {
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let AccessInfo { access, bytes } = self.described(event.info);
            let Event { address, sequence, tag, .. } = *event;
            if let Some(pending) = &mut self.pending {
                let same = pending.sequence == sequence && pending.tag == tag && tag.0 != InstructionTag::REPEATED;
                let offset = address.wrapping_sub(pending.address);
                if same && pending.access == access && offset == u64::from(pending.bytes) {
                    pending.bytes = pending.bytes.saturating_add(bytes);
                    continue;
                }
                let modifies = pending.access == Access::Load && access == Access::Store;
                if same && modifies && offset < u64::from(pending.bytes) && self.counting == Counting::Cachegrind {
                    continue;
                }
            }
            if let Some(done) = self.pending.replace(Pending { address, bytes, access, sequence, tag }) {
                self.touch(done);
            }
        }
        self.events = events;
        self.events.clear();
    }

    #[inline]
    fn described(&mut self, info: u32) -> AccessInfo {
        // A program has few different descriptions (size, sign, direction), so that a search is short.
        if let Some((_, known)) = self.described.iter().find(|(number, _)| *number == info) {
            return *known;
        }
        let described = (self.describe)(info);
        self.described.push((info, described));
        described
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
        let blocks = std::mem::take(&mut self.blocks);
        for &next in &blocks {
            self.follow(next);
            if let Some(block) = next {
                if self.goes_on(block) {
                    self.fetches.bring(&block.plan);
                } else {
                    self.totals.instructions += block.instructions;
                    self.fetches.fetch(&block.plan);
                }
            }
            self.previous = next;
        }
        self.blocks = blocks;
        self.blocks.clear();
    }

    /// Whether a block is but another round of the string instruction that the previous block ended with.
    #[inline]
    fn goes_on(&self, block: &Block) -> bool {
        block.last == (block.start, Kind::Repeated)
            && self.counting == Counting::Architecture
            && self.previous.is_some_and(|previous| previous.last == block.last)
    }

    /// What the branch at the end of the previous block did is known by what came next.
    #[inline]
    fn follow(&mut self, next: Option<&'static Block>) {
        let next = next.map(|block| block.start);
        let Some(Block { end, last: (pc, kind), .. }) = self.previous else {
            return self.enter(next);
        };
        match *kind {
            Kind::Other | Kind::Repeated => {}
            Kind::Conditional { target } => match next {
                Some(address) if address == *end => {
                    self.totals.conditional_branches += 1;
                    self.branches.push(Branch { pc: *pc, outcome: Outcome::NotTaken });
                }
                Some(address) if address == target => {
                    self.totals.conditional_branches += 1;
                    self.totals.taken_branches += 1;
                    self.branches.push(Branch { pc: *pc, outcome: Outcome::Taken });
                    self.goes_to(*pc, target);
                }
                // A signal, an exception, or code that is not counted.
                _ => self.totals.unresolved_branches += 1,
            },
            Kind::Jump { target } => self.jumps(*pc, Some(target)),
            Kind::Call { target } => {
                self.jumps(*pc, Some(target));
                self.calls(*end);
            }
            Kind::IndirectJump => self.jumps(*pc, next),
            Kind::IndirectCall => {
                self.jumps(*pc, next);
                self.calls(*end);
            }
            Kind::Return => {
                self.branches.push(Branch { pc: *pc, outcome: Outcome::Unconditional });
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
            Some(target) => self.goes_to(pc, target),
            None => self.totals.unresolved_branches += 1,
        }
    }

    fn goes_to(&mut self, pc: u64, target: u64) {
        if let Some(buffer) = &mut self.target_buffer {
            buffer.taken(pc, target);
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
        Box::leak(Box::new(maker.block(start, instructions)))
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
