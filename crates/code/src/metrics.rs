//! What is counted. docs/inspect.md defines each number, and a test holds the two together.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use serde::Serialize;

use crate::flow::{Block, Graph, reads_of};
use crate::machine::{Flow, Instruction, Registers};

/// Counts over a piece of machine code: a function, or a loop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metrics {
    /// Instructions.
    pub instructions: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the instructions, those that only ask whether the guest is to stop.
    pub poll_instructions: u64,
    /// Instructions that read memory other than the stack.
    pub loads: u64,
    /// Instructions that write memory other than the stack.
    pub stores: u64,
    /// Instructions that write the stack.
    pub spills: u64,
    /// Instructions that read the stack.
    pub reloads: u64,
    /// Copies of one register to another.
    pub moves: u64,
    /// Of the moves, those that could go: their source could be read in place of their target.
    pub redundant_moves: u64,
    /// Instructions with a REX prefix.
    pub rex_prefixes: u64,
    /// Of these, those that mean the same without it.
    pub redundant_rex_prefixes: u64,
    /// Jumps on a condition.
    pub conditional_jumps: u64,
    /// Of these, those that test a truth value that a comparison has just been turned into.
    pub set_and_test_chains: u64,
    /// Operations with an operand in memory.
    pub folded_operands: u64,
    /// Pairs of a load and an operation that one operation with an operand in memory could do.
    pub load_operate_pairs: u64,
    /// Jumps of all kinds.
    pub branches: u64,
    /// Calls.
    pub calls: u64,
    /// Jumps on a condition that end in a trap: checks of bounds, of divisors, of the stack.
    pub trap_checks: u64,
}

/// A metric's key, which is also its name in JSON, its words, and how to read it.
pub type Named = (&'static str, &'static str, fn(&Metrics) -> u64);

/// All metrics, in the order in which they are shown.
pub const ALL: [Named; 18] = [
    ("instructions", "instructions", |m| m.instructions),
    ("bytes", "bytes", |m| m.bytes),
    ("poll_instructions", "of them poll", |m| m.poll_instructions),
    ("loads", "loads", |m| m.loads),
    ("stores", "stores", |m| m.stores),
    ("spills", "spills", |m| m.spills),
    ("reloads", "reloads", |m| m.reloads),
    ("moves", "register moves", |m| m.moves),
    ("redundant_moves", "redundant moves", |m| m.redundant_moves),
    ("rex_prefixes", "REX prefixes", |m| m.rex_prefixes),
    ("redundant_rex_prefixes", "redundant REX", |m| m.redundant_rex_prefixes),
    ("conditional_jumps", "conditional jumps", |m| m.conditional_jumps),
    ("set_and_test_chains", "set-and-test chains", |m| m.set_and_test_chains),
    ("folded_operands", "folded operands", |m| m.folded_operands),
    ("load_operate_pairs", "load-operate pairs", |m| m.load_operate_pairs),
    ("branches", "branches", |m| m.branches),
    ("calls", "calls", |m| m.calls),
    ("trap_checks", "trap checks", |m| m.trap_checks),
];

impl Metrics {
    /// Bytes per instruction; 0 if there is none.
    #[must_use]
    pub fn bytes_per_instruction(&self) -> f64 {
        if self.instructions == 0 { 0.0 } else { self.bytes as f64 / self.instructions as f64 }
    }
}

impl Add for Metrics {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            instructions: self.instructions + other.instructions,
            bytes: self.bytes + other.bytes,
            poll_instructions: self.poll_instructions + other.poll_instructions,
            loads: self.loads + other.loads,
            stores: self.stores + other.stores,
            spills: self.spills + other.spills,
            reloads: self.reloads + other.reloads,
            moves: self.moves + other.moves,
            redundant_moves: self.redundant_moves + other.redundant_moves,
            rex_prefixes: self.rex_prefixes + other.rex_prefixes,
            redundant_rex_prefixes: self.redundant_rex_prefixes + other.redundant_rex_prefixes,
            conditional_jumps: self.conditional_jumps + other.conditional_jumps,
            set_and_test_chains: self.set_and_test_chains + other.set_and_test_chains,
            folded_operands: self.folded_operands + other.folded_operands,
            load_operate_pairs: self.load_operate_pairs + other.load_operate_pairs,
            branches: self.branches + other.branches,
            calls: self.calls + other.calls,
            trap_checks: self.trap_checks + other.trap_checks,
        }
    }
}

impl AddAssign for Metrics {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Metrics {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// What is wrong with an instruction, in the words of the paper's five criticisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// It has a REX prefix that changes nothing.
    RedundantRex,
    /// It is part of a comparison that is turned into a truth value and tested again.
    SetAndTest,
    /// It is a load, or the operation that uses it, which could be one instruction.
    LoadOperate,
    /// It copies a register for nothing.
    RedundantMove,
    /// It puts a value onto the stack.
    Spill,
    /// It takes a value from the stack.
    Reload,
}

/// How many instructions further a pattern is searched for. Beyond it none is counted, which makes counts a lower bound:
/// compilers put the two ends of these patterns next to each other or a few instructions apart.
const WINDOW: usize = 32;

/// Counts each block, and marks instructions. `is_poll` says by an instruction's index whether it belongs to a poll.
pub(crate) fn count(graph: &Graph, is_poll: &[bool]) -> (Vec<Metrics>, Vec<Vec<Mark>>) {
    let mut marks: Vec<Vec<Mark>> = vec![Vec::new(); graph.instructions.len()];
    let metrics = graph.blocks.iter().map(|block| count_block(graph, block, is_poll, &mut marks)).collect();
    (metrics, marks)
}

fn count_block(graph: &Graph, block: &Block, is_poll: &[bool], marks: &mut [Vec<Mark>]) -> Metrics {
    let mut metrics = Metrics::default();
    for index in block.first..block.end {
        let instruction = &graph.instructions[index];
        let facts = &instruction.facts;
        metrics.instructions += 1;
        metrics.bytes += u64::from(instruction.length);
        metrics.poll_instructions += u64::from(is_poll[index]);
        metrics.loads += u64::from(facts.loads);
        metrics.stores += u64::from(facts.stores);
        metrics.spills += u64::from(facts.spills);
        metrics.reloads += u64::from(facts.reloads);
        metrics.moves += u64::from(facts.copy.is_some());
        metrics.rex_prefixes += u64::from(facts.has_rex);
        metrics.redundant_rex_prefixes += u64::from(facts.rex_changes_nothing);
        metrics.conditional_jumps += u64::from(facts.is_conditional);
        metrics.folded_operands += u64::from(facts.folds);
        metrics.branches += u64::from(matches!(instruction.flow, Flow::Jump(_) | Flow::Branch(_) | Flow::Indirect));
        metrics.calls += u64::from(matches!(instruction.flow, Flow::Call));
        for (is, mark) in [
            (facts.rex_changes_nothing, Mark::RedundantRex),
            (facts.spills, Mark::Spill),
            (facts.reloads, Mark::Reload),
        ] {
            if is {
                marks[index].push(mark);
            }
        }
        let window = &graph.instructions[index + 1..block.end.min(index + 1 + WINDOW)];
        let live_after = (index + 1 + window.len() == block.end).then_some(block.live_out);
        if could_go(instruction, window, live_after) {
            metrics.redundant_moves += 1;
            marks[index].push(Mark::RedundantMove);
        }
        if let Some(length) = could_be_one(instruction, window, live_after) {
            metrics.load_operate_pairs += 1;
            marks[index].push(Mark::LoadOperate);
            marks[index + length].push(Mark::LoadOperate);
        }
        if let Some((test, jump)) = set_and_test(instruction, window) {
            metrics.set_and_test_chains += 1;
            for part in [index, index + test, index + jump] {
                marks[part].push(Mark::SetAndTest);
            }
        }
    }
    let ends_in_trap = |successor: &usize| {
        let first = graph.blocks[*successor].first;
        graph.instructions[first].facts.traps && !is_poll[first]
    };
    let last = block.end - 1;
    if graph.instructions[last].facts.is_conditional && !is_poll[last] && block.successors.iter().any(ends_in_trap) {
        metrics.trap_checks += 1;
    }
    metrics
}

/// Whether a copy could go, since whoever reads its target until that is overwritten could read its source instead.
/// `live_after` are the registers that may be read after the window, if the window ends with the block.
fn could_go(instruction: &Instruction, window: &[Instruction], live_after: Option<Registers>) -> bool {
    let Some(copy) = instruction.facts.copy.filter(|copy| !copy.is_frame) else { return false };
    let mut source_is_same = true;
    for next in window {
        if reads_of(next).has(copy.to) {
            let replaceable =
                source_is_same && next.facts.named.has(copy.to) && !(copy.narrows && next.facts.wide.has(copy.to));
            if !replaceable {
                return false;
            }
        }
        if next.facts.kills.has(copy.to) {
            return true;
        }
        if next.facts.writes.has(copy.to) {
            return false;
        }
        source_is_same &= !next.facts.writes.has(copy.from);
    }
    live_after.is_some_and(|live| !live.has(copy.to))
}

/// Whether a load and the operation that uses its value could be one instruction; if so, how far on the operation is.
fn could_be_one(instruction: &Instruction, window: &[Instruction], live_after: Option<Registers>) -> Option<usize> {
    let (register, bytes) = instruction.facts.only_loads?;
    let address = instruction.facts.reads;
    let mut user = None;
    for (distance, next) in (1..).zip(window) {
        if reads_of(next).has(register) {
            // Only one reader, and one that can read memory itself.
            if user.is_some() || next.facts.could_fold != Some((register, bytes)) {
                return None;
            }
            user = Some(distance);
        }
        if next.facts.kills.has(register) {
            return user;
        }
        if user.is_none() {
            let may_change_it = next.facts.stores || next.facts.spills || matches!(next.flow, Flow::Call);
            if may_change_it || next.facts.writes.meets(address) {
                return None;
            }
        }
    }
    user.filter(|_| live_after.is_some_and(|live| !live.has(register)))
}

/// Whether a comparison's result, which this instruction turns into a truth value, is tested again for a jump; if so, how
/// far on the test and the jump are.
fn set_and_test(instruction: &Instruction, window: &[Instruction]) -> Option<(usize, usize)> {
    let mut carriers = Registers::one(instruction.facts.sets?);
    for (distance, next) in (1..).zip(window) {
        if next.facts.tests.is_some_and(|register| carriers.has(register)) {
            // The jump follows at once, or after an instruction that leaves the flags alone.
            let jump = window[distance..].iter().take(2).position(|after| after.facts.branches_on_equal)?;
            return Some((distance, distance + 1 + jump));
        }
        match next.facts.carries {
            Some((to, from)) if carriers.has(from) => carriers = carriers.with(Registers::one(to)),
            _ => carriers = carriers.without(next.facts.writes),
        }
        if carriers == Registers::default() {
            return None;
        }
    }
    None
}
