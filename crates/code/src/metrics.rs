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
    /// Copies of one register to another, or of a register's lower half to the whole.
    pub moves: u64,
    /// Of the moves, those that could go: their source could be read in place of their target, or has been extended
    /// already.
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
        let before = &graph.instructions[block.first.max(index.saturating_sub(WINDOW))..index];
        if could_go(instruction, window, live_after) || extends_for_nothing(instruction, before) {
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
                if !marks[part].contains(&Mark::SetAndTest) {
                    marks[part].push(Mark::SetAndTest);
                }
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
    let Some(copy) = instruction.facts.copy.filter(|copy| !copy.is_frame && copy.to != copy.from) else { return false };
    let mut source_is_same = true;
    for next in window {
        if reads_of(next).has(copy.to) {
            let reads_more = match copy.bytes {
                0..=4 => next.facts.wide.has(copy.to),
                5..=8 => next.facts.wider.has(copy.to),
                _ => false,
            };
            let replaceable = source_is_same && next.facts.named.has(copy.to) && !reads_more;
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

/// Whether an instruction clears the upper half of a register that is clear already: the last one that wrote to the
/// register did so.
fn extends_for_nothing(instruction: &Instruction, before: &[Instruction]) -> bool {
    let Some(copy) = instruction.facts.copy.filter(|copy| copy.bytes <= 4 && copy.to == copy.from) else {
        return false;
    };
    let last = before.iter().rev().find(|it| matches!(it.flow, Flow::Call) || it.facts.writes.has(copy.to));
    last.is_some_and(|last| last.facts.clears_upper.has(copy.to))
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
            if next.facts.branches_on_equal {
                // One instruction tests and jumps.
                return Some((distance, distance));
            }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::function::{Code, Flag, Function, read};
    use crate::machine::Architecture;
    use crate::wasm::SourceFunction;

    fn code(bytes: &[u8]) -> Function {
        let code = Code {
            architecture: Architecture::X86_64,
            bytes,
            origins: None,
            flag: None,
            callee: &|_| Some("f".into()),
        };
        read(&code, &SourceFunction::default())
    }

    /// `of` gives `expected` for the pieces together, which end in `ret`.
    #[track_caller]
    fn check(of: fn(&Metrics) -> u64, pieces: &[&[u8]], expected: u64) {
        let function = code(&[&pieces.concat()[..], &[0xc3]].concat());
        let text: Vec<&str> = function.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(of(&function.metrics), expected, "{text:#?}");
        assert_eq!(function.data_bytes, 0, "{text:#?}");
    }

    const MOV_EAX_ECX: &[u8] = &[0x89, 0xc8];
    const MOV_EAX_0: &[u8] = &[0xb8, 0, 0, 0, 0];
    const ADD_EDX_EAX: &[u8] = &[0x01, 0xc2];
    const ADD_RDX_RAX: &[u8] = &[0x48, 0x01, 0xc2];
    const LOAD_EAX: &[u8] = &[0x8b, 0x03];
    const ADD_ECX_EAX: &[u8] = &[0x01, 0xc1];
    const STORE_ECX: &[u8] = &[0x89, 0x0e];
    const CMP_EAX_ECX: &[u8] = &[0x39, 0xc8];
    const SETE_AL: &[u8] = &[0x0f, 0x94, 0xc0];
    const MOVZX_EAX_AL: &[u8] = &[0x0f, 0xb6, 0xc0];
    const TEST_EAX_EAX: &[u8] = &[0x85, 0xc0];
    /// Over the `nop` behind it.
    const JNE_NOP: &[u8] = &[0x75, 0x01, 0x90];

    #[test]
    fn a_rex_prefix_that_changes_nothing() {
        for (bytes, redundant) in [
            (&[0x40, 0x89, 0xc8][..], 1),         // mov eax, ecx
            (&[0x48, 0x89, 0xc8], 0),             // mov rax, rcx
            (&[0x41, 0x89, 0xc8], 0),             // mov r8d, ecx
            (&[0x40, 0x88, 0xf8], 0),             // mov al, dil: without it, bh
            (&[0x40, 0x88, 0xc8], 1),             // mov al, cl
            (&[0x48, 0x31, 0xc0], 1),             // xor rax, rax
            (&[0x4d, 0x31, 0xc0], 0),             // xor r8, r8
            (&[0x48, 0x50], 1),                   // push rax
            (&[0x40, 0x8b, 0x05, 0, 0, 0, 0], 1), // mov eax, [rip]
            (&[0x48, 0x8b, 0x05, 0, 0, 0, 0], 0), // mov rax, [rip]
            (&[0xf2, 0x48, 0x0f, 0x58, 0xc1], 1), // addsd xmm0, xmm1
            (&[0xf2, 0x41, 0x0f, 0x58, 0xc1], 0), // addsd xmm0, xmm9
            (&[0x66, 0x48, 0x0f, 0x6e, 0xc0], 0), // movq xmm0, rax
            (&[0xb8, 0x48, 0x48, 0x48, 0x48], 0), // mov eax, 0x48484848: no prefix
        ] {
            check(|m| m.redundant_rex_prefixes, &[bytes], redundant);
            let has_prefix = bytes[0] != 0xb8;
            check(|m| m.rex_prefixes, &[bytes], u64::from(has_prefix));
        }
    }

    #[test]
    fn a_truth_value_that_is_tested_again() {
        let chains = |m: &Metrics| m.set_and_test_chains;
        check(chains, &[CMP_EAX_ECX, SETE_AL, MOVZX_EAX_AL, TEST_EAX_EAX, JNE_NOP], 1);
        check(chains, &[CMP_EAX_ECX, SETE_AL, &[0x84, 0xc0], JNE_NOP], 1); // test al, al
        check(chains, &[CMP_EAX_ECX, SETE_AL, &[0x83, 0xf8, 0x00], JNE_NOP], 1); // cmp eax, 0
        check(chains, &[CMP_EAX_ECX, SETE_AL, &[0x89, 0xc2, 0x85, 0xd2], JNE_NOP], 1); // mov edx, eax; test edx, edx
        check(chains, &[CMP_EAX_ECX, JNE_NOP], 0);
        check(chains, &[CMP_EAX_ECX, SETE_AL, MOV_EAX_0, TEST_EAX_EAX, JNE_NOP], 0);
        check(chains, &[CMP_EAX_ECX, SETE_AL, TEST_EAX_EAX], 0);
        check(chains, &[CMP_EAX_ECX, SETE_AL, &[0x83, 0xf8, 0x05], JNE_NOP], 0); // cmp eax, 5
        check(chains, &[CMP_EAX_ECX, SETE_AL, TEST_EAX_EAX, &[0x7f, 0x01, 0x90]], 0); // jg
        check(|m| m.conditional_jumps, &[CMP_EAX_ECX, SETE_AL, MOVZX_EAX_AL, TEST_EAX_EAX, JNE_NOP], 1);
    }

    #[test]
    fn a_load_apart_from_its_operation() {
        let pairs = |m: &Metrics| m.load_operate_pairs;
        check(pairs, &[LOAD_EAX, ADD_ECX_EAX, MOV_EAX_0], 1);
        // The value is still live at the function's end.
        check(pairs, &[LOAD_EAX, ADD_ECX_EAX], 0);
        check(pairs, &[LOAD_EAX, STORE_ECX, ADD_ECX_EAX, MOV_EAX_0], 0);
        check(pairs, &[LOAD_EAX, ADD_ECX_EAX, ADD_EDX_EAX, MOV_EAX_0], 0);
        // add rcx, rax: 8 bytes, of which the load read 4.
        check(pairs, &[LOAD_EAX, &[0x48, 0x01, 0xc1], MOV_EAX_0], 0);
        // The address is changed in between: mov ebx, 0.
        check(pairs, &[LOAD_EAX, &[0xbb, 0, 0, 0, 0], ADD_ECX_EAX, MOV_EAX_0], 0);
        // movsd xmm1, [rbx]; addsd xmm0, xmm1; movaps xmm1, xmm2
        let (load, add, kill) = (&[0xf2, 0x0f, 0x10, 0x0b], &[0xf2, 0x0f, 0x58, 0xc1], &[0x0f, 0x28, 0xca]);
        check(pairs, &[load, add, kill], 1);
        let folded = |m: &Metrics| m.folded_operands;
        check(folded, &[&[0x03, 0x0b]], 1); // add ecx, [rbx]
        check(folded, &[&[0xf2, 0x0f, 0x58, 0x03]], 1); // addsd xmm0, [rbx]
        check(folded, &[LOAD_EAX, ADD_ECX_EAX], 0);
    }

    #[test]
    fn a_copy_for_nothing() {
        let redundant = |m: &Metrics| m.redundant_moves;
        check(redundant, &[MOV_EAX_ECX, ADD_EDX_EAX, MOV_EAX_0], 1);
        // The function may return it.
        check(redundant, &[MOV_EAX_ECX, ADD_EDX_EAX], 0);
        // add eax, edx needs a register of its own.
        check(redundant, &[MOV_EAX_ECX, &[0x01, 0xd0], MOV_EAX_0], 0);
        // mov ecx, 0: the source is gone before the target is read.
        check(redundant, &[MOV_EAX_ECX, &[0xb9, 0, 0, 0, 0], ADD_EDX_EAX, MOV_EAX_0], 0);
        // The copy has cleared the upper half, which is read.
        check(redundant, &[MOV_EAX_ECX, ADD_RDX_RAX, MOV_EAX_0], 0);
        // mov rax, rcx
        check(redundant, &[&[0x48, 0x89, 0xc8], ADD_RDX_RAX, MOV_EAX_0], 1);
        // A call may read it.
        check(redundant, &[MOV_EAX_ECX, &[0xe8, 0, 1, 0, 0], MOV_EAX_0], 0);
        // mov rbp, rsp; pop rbp
        check(redundant, &[&[0x48, 0x89, 0xe5, 0x5d]], 0);
        // mov eax, eax: after a load of 32 bits, and after one of 64.
        check(redundant, &[LOAD_EAX, &[0x89, 0xc0]], 1);
        check(redundant, &[&[0x48, 0x8b, 0x03], &[0x89, 0xc0]], 0);
        check(redundant, &[&[0x89, 0xc0]], 0);
        check(|m| m.moves, &[MOV_EAX_ECX, &[0x48, 0x89, 0xe5], &[0x0f, 0x28, 0xca], LOAD_EAX, MOV_EAX_0], 3);
    }

    #[test]
    fn what_is_a_spill_and_what_a_store() {
        for (bytes, [loads, stores, spills, reloads]) in [
            (&[0x8b, 0x03][..], [1, 0, 0, 0]),            // mov eax, [rbx]
            (&[0x89, 0x03], [0, 1, 0, 0]),                // mov [rbx], eax
            (&[0x01, 0x03], [1, 1, 0, 0]),                // add [rbx], eax
            (&[0x48, 0x89, 0x44, 0x24, 8], [0, 0, 1, 0]), // mov [rsp+8], rax
            (&[0x48, 0x8b, 0x44, 0x24, 8], [0, 0, 0, 1]), // mov rax, [rsp+8]
            (&[0x48, 0x8b, 0x45, 0xf8], [0, 0, 0, 1]),    // mov rax, [rbp-8]
            (&[0x01, 0x44, 0x24, 8], [0, 0, 1, 1]),       // add [rsp+8], eax
            (&[0x55], [0, 0, 1, 0]),                      // push rbp
            (&[0x5d], [0, 0, 0, 1]),                      // pop rbp
            (&[0x48, 0x8d, 0x44, 0x24, 8], [0, 0, 0, 0]), // lea rax, [rsp+8]
            (&[0xe8, 0, 1, 0, 0], [0, 0, 0, 0]),          // call
        ] {
            let metrics = code(&[bytes, &[0xc3]].concat()).metrics;
            assert_eq!(
                [metrics.loads, metrics.stores, metrics.spills, metrics.reloads],
                [loads, stores, spills, reloads]
            );
        }
    }

    #[test]
    fn branches_calls_and_checks() {
        // cmp eax, ecx; ja to ud2; call; jmp to ret; ret; ud2
        let bytes = [&[0x39, 0xc8, 0x77, 0x08][..], &[0xe8, 0, 1, 0, 0], &[0xeb, 0], &[0xc3], &[0x0f, 0x0b]].concat();
        let metrics = code(&bytes).metrics;
        assert_eq!((metrics.instructions, metrics.bytes), (6, 14));
        assert_eq!((metrics.branches, metrics.conditional_jumps, metrics.calls, metrics.trap_checks), (2, 1, 1, 1));
        assert_eq!(metrics.poll_instructions, 0);
    }

    #[test]
    fn a_loop_has_the_counts_of_its_blocks() {
        // xor eax, eax; L: mov [rsp], eax; add eax, 1; cmp eax, ecx; jne L; ret
        let bytes = [0x31, 0xc0, 0x89, 0x04, 0x24, 0x83, 0xc0, 1, 0x39, 0xc8, 0x75, 0xf6, 0xc3];
        let function = code(&bytes);
        let [only] = &function.loops[..] else { panic!("{:?}", function.loops) };
        assert_eq!((only.head, only.depth, only.is_innermost), (2, 1, true));
        assert_eq!((only.metrics.instructions, only.metrics.spills, only.metrics.bytes), (4, 1, 10));
        assert_eq!(function.metrics.instructions, 6);
        assert_eq!(function.lines.iter().filter(|line| line.in_loop == Some(0)).count(), 4);
    }

    #[test]
    fn tables_and_constants_are_no_code() {
        // lea r8, [rip+10]; movsxd r9, [r8+rax*4]; add r8, r9; jmp r8; a table of two; ret; ud2; a constant
        let jump =
            [&[0x4c, 0x8d, 5, 10, 0, 0, 0][..], &[0x4d, 0x63, 0x0c, 0x80], &[0x4d, 1, 0xc8], &[0x41, 0xff, 0xe0]];
        let bytes = [&jump.concat()[..], &[8, 0, 0, 0, 9, 0, 0, 0], &[0xc3, 0x0f, 0x0b], &[0x3f; 8]].concat();
        let function = code(&bytes);
        let text: Vec<&str> = function.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(text[3..], ["jmp r8", "ret", "ud2"]);
        assert_eq!((function.data_bytes, function.unknown_jumps), (16, 0));
    }

    #[test]
    fn a_jump_to_nobody_knows_where_is_told() {
        let function = code(&[0xff, 0xe0, 0x90, 0x90]);
        assert_eq!((function.unknown_jumps, function.data_bytes, function.lines.len()), (1, 2, 1));
    }

    #[test]
    fn a_poll_without_a_map_is_found_by_its_flag() {
        // mov rax, [r15+0x40]; cmp eax, 0; je over ud2; ud2; mov rcx, [r15+0x48]; ret
        let bytes = [
            &[0x49, 0x8b, 0x47, 0x40][..],
            &[0x83, 0xf8, 0],
            &[0x74, 2],
            &[0x0f, 0x0b],
            &[0x49, 0x8b, 0x4f, 0x48],
            &[0xc3],
        ]
        .concat();
        let flag = Some(Flag { register: 15, displacement: 0x40 });
        let code = Code { architecture: Architecture::X86_64, bytes: &bytes, origins: None, flag, callee: &|_| None };
        let function = read(&code, &SourceFunction::default());
        let polls: Vec<bool> = function.lines.iter().map(|line| line.is_poll).collect();
        assert_eq!(polls, [true, true, true, true, false, false]);
        assert_eq!((function.metrics.poll_instructions, function.metrics.trap_checks), (4, 0));
        // The same, but what the jump skips is a call that does not return.
        let called = [&bytes[..7], &[0x74, 5], &[0xe8, 0, 1, 0, 0], &bytes[11..]].concat();
        let function = read(&Code { bytes: &called, ..code }, &SourceFunction::default());
        let polls: Vec<bool> = function.lines.iter().map(|line| line.is_poll).collect();
        assert_eq!(polls, [true, true, true, true, false, false]);
    }

    /// Whatever the bytes are, the result is consistent, and there is one.
    #[test]
    fn any_bytes_can_be_read() {
        use rand::{RngExt as _, SeedableRng as _};
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(7);
        for round in 0..5000 {
            let length = random.random_range(0..200);
            let mut bytes: Vec<u8> = (0..length).map(|_| random.random()).collect();
            // Half of the rounds have many short jumps, so that there are loops.
            if round % 2 == 0 {
                for at in (0..length).step_by(5) {
                    bytes[at] = 0x70 + (bytes[at] & 15);
                }
            }
            let function = code(&bytes);
            assert_eq!(function.lines.len() as u64, function.metrics.instructions, "{bytes:x?}");
            assert!(function.lines.is_sorted_by_key(|line| line.offset), "{bytes:x?}");
            assert!(u64::from(function.data_bytes) <= length as u64);
            for found in &function.loops {
                assert!(
                    found.metrics.instructions >= found.own_metrics.instructions && found.own_metrics.instructions > 0
                );
            }
        }
    }

    /// A function of a megabyte, of nothing but jumps: quadratic time would not end.
    #[test]
    fn a_huge_function_takes_linear_time() {
        // jne to the next one; every third jumps back to the one before.
        let bytes: Vec<u8> = (0..500_000).flat_map(|index| [0x75, if index % 3 == 2 { 0xfc } else { 0 }]).collect();
        let function = code(&bytes);
        assert_eq!(function.metrics.instructions, 500_000);
        assert_eq!(function.loops.len(), 166_666);
    }

    #[test]
    fn every_count_is_listed_and_documented() {
        let written = serde_json::to_value(Metrics::default()).unwrap();
        let keys: Vec<&String> = written.as_object().unwrap().keys().collect();
        assert_eq!(keys.len(), ALL.len());
        let document = include_str!("../../../docs/inspect.md");
        for (key, words, _) in ALL {
            assert!(keys.iter().any(|has| *has == key), "{key} is no field");
            assert!(document.contains(&format!("| `{key}` | {words} |")), "docs/inspect.md does not define {key}");
        }
    }
}
