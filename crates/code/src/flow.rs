//! From bytes to blocks and loops: which bytes are code, where control goes, and what repeats.
//!
//! Code is found by control flow, from the function's first byte on: compilers put constants and tables of jumps among
//! or behind the code, and these must not be decoded. Loops are found by Tarjan's method with union-find (as in Havlak,
//! "Nesting of Reducible and Irreducible Loops", 1997), in time almost linear in the code. A loop that is entered only
//! at its head is a natural loop: the head dominates it. One with another entry is marked as irreducible.

use std::collections::{BTreeSet, HashMap};

use crate::machine::{Architecture, Flow, Instruction, Registers};

/// The instructions of a function in the order of their addresses, in blocks.
pub(crate) struct Graph {
    pub instructions: Vec<Instruction>,
    pub blocks: Vec<Block>,
    /// Bytes of the function that no path of control reaches: constants, tables, padding.
    pub data_bytes: u32,
    /// Indirect jumps whose targets are not known, so that code behind them may be missing.
    pub unknown_jumps: u32,
}

/// Instructions that are always executed one after another.
pub(crate) struct Block {
    /// The indices of the first instruction, and of the one after the last.
    pub first: usize,
    pub end: usize,
    pub successors: Vec<usize>,
    /// Registers that somebody may read after the block.
    pub live_out: Registers,
}

/// A loop. Loops stand in the order of their heads' addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loop {
    /// The block at which the loop begins.
    pub head: usize,
    /// The loop right around it.
    pub parent: Option<usize>,
    /// 1 for a loop in no other.
    pub depth: u32,
    pub has_loops: bool,
    /// Whether there are ways into the loop beside its head.
    pub irreducible: bool,
}

impl Graph {
    /// Decodes the code of a function by `decode`, which gives the instruction at an offset.
    pub(crate) fn of(
        architecture: Architecture,
        code: &[u8],
        mut decode: impl FnMut(u32) -> Option<Instruction>,
    ) -> Self {
        let mut found = Found {
            architecture,
            at: vec![NOWHERE; code.len()],
            instructions: Vec::new(),
            targets: BTreeSet::from([0]),
            tables: HashMap::new(),
            table_bytes: BTreeSet::new(),
        };
        let mut indirect: Vec<Vec<u32>> = Vec::new();
        found.walk(vec![0], &mut decode, &mut indirect);
        let mut unknown_jumps = 0;
        while let Some(before) = indirect.pop() {
            match found.table(code, &before) {
                Some(targets) => {
                    let jump = *before.last().unwrap_or(&0);
                    let new = targets.clone();
                    found.targets.extend(&targets);
                    found.tables.insert(jump, targets);
                    found.walk(new, &mut decode, &mut indirect);
                }
                None => unknown_jumps += 1,
            }
        }
        found.into_graph(code.len(), unknown_jumps)
    }
}

const NOWHERE: u32 = u32::MAX;
/// How many instructions before an indirect jump are searched for its table. Compilers write four to six; with a smaller
/// number tables are missed, with a larger one nothing changes.
const TABLE_WINDOW: usize = 12;

struct Found {
    architecture: Architecture,
    /// For each byte of the function, the index of the instruction that begins there.
    at: Vec<u32>,
    instructions: Vec<Instruction>,
    targets: BTreeSet<u32>,
    /// For each indirect jump, by its offset, where it leads.
    tables: HashMap<u32, Vec<u32>>,
    /// Where tables begin.
    table_bytes: BTreeSet<u32>,
}

impl Found {
    /// Decodes everything that can be reached from `open`. Of each indirect jump, the offsets of the instructions before
    /// it are added to `indirect`, its own last.
    fn walk(
        &mut self,
        mut open: Vec<u32>,
        decode: &mut impl FnMut(u32) -> Option<Instruction>,
        indirect: &mut Vec<Vec<u32>>,
    ) {
        while let Some(start) = open.pop() {
            let mut before: Vec<u32> = Vec::new();
            let mut offset = start;
            while self.at.get(offset as usize) == Some(&NOWHERE) {
                let Some(instruction) = decode(offset) else { break };
                let (flow, end) = (instruction.flow, instruction.end());
                self.at[offset as usize] = u32::try_from(self.instructions.len()).unwrap_or(NOWHERE);
                self.instructions.push(instruction);
                before.push(offset);
                let mut goes_on = true;
                match flow {
                    Flow::Next | Flow::Call => {}
                    Flow::Branch(target) | Flow::Jump(target) => {
                        open.extend(target);
                        self.targets.extend(target);
                        self.targets.insert(end);
                        goes_on = matches!(flow, Flow::Branch(_));
                    }
                    Flow::Indirect => {
                        self.targets.insert(end);
                        indirect.push(before.split_off(before.len().saturating_sub(TABLE_WINDOW)));
                        goes_on = false;
                    }
                    Flow::Out => {
                        self.targets.insert(end);
                        goes_on = false;
                    }
                }
                if !goes_on {
                    break;
                }
                offset = end;
            }
        }
    }

    fn instruction(&self, offset: u32) -> Option<&Instruction> {
        self.instructions.get(*self.at.get(offset as usize)? as usize)
    }

    /// The targets of an indirect jump through a table of its own function; `before` holds the offsets of the jump and
    /// of what comes before it. Two forms are known: a table of 4-byte distances from the table's start, and a row of
    /// jumps right behind the jump.
    fn table(&mut self, code: &[u8], before: &[u32]) -> Option<Vec<u32>> {
        let window: Vec<&Instruction> = before.iter().filter_map(|offset| self.instruction(*offset)).collect();
        let jump = *window.last()?;
        let start = window.iter().rev().find_map(|instruction| instruction.facts.points_to)?;
        let is_table = window.iter().any(|instruction| instruction.facts.table_entry.is_some());
        let targets = if is_table {
            self.distances(code, start)
        } else {
            row_of_jumps(self.architecture, code, start.max(jump.end()))
        };
        if is_table {
            self.table_bytes.insert(start);
        }
        (!targets.is_empty()).then_some(targets)
    }

    /// Reads a table of distances. It ends where code begins, where another table begins, or at the first number that is
    /// no distance to a place in the function.
    fn distances(&self, code: &[u8], start: u32) -> Vec<u32> {
        let mut end = u32::try_from(code.len()).unwrap_or(u32::MAX);
        end = self.table_bytes.range(start + 1..).next().map_or(end, |next| end.min(*next));
        end = self
            .targets
            .range(start + 1..)
            .find(|t| self.instruction(**t).is_some())
            .map_or(end, |next| end.min(*next));
        let mut targets = Vec::new();
        let mut at = start;
        while at + 4 <= end {
            let bytes = &code[at as usize..at as usize + 4];
            let distance = i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
            let Ok(target) = u32::try_from(i64::from(start) + distance) else { break };
            let in_table = target >= start && target < at + 4;
            if target as usize >= code.len() || in_table {
                break;
            }
            if target > at {
                end = end.min(target);
            }
            targets.push(target);
            at += 4;
        }
        targets
    }

    fn into_graph(mut self, length: usize, unknown_jumps: u32) -> Graph {
        self.instructions.sort_unstable_by_key(|instruction| instruction.offset);
        let instructions = self.instructions;
        let code_bytes: u64 = instructions.iter().map(|instruction| u64::from(instruction.length)).sum();
        let mut blocks = Vec::new();
        let mut block_at: HashMap<u32, usize> = HashMap::new();
        let mut first = 0;
        for (index, instruction) in instructions.iter().enumerate() {
            let next = instructions.get(index + 1);
            let ends = next.is_none_or(|next| next.offset != instruction.end() || self.targets.contains(&next.offset))
                || !matches!(instruction.flow, Flow::Next | Flow::Call);
            if ends {
                block_at.insert(instructions[first].offset, blocks.len());
                blocks.push(Block { first, end: index + 1, successors: Vec::new(), live_out: Registers::default() });
                first = index + 1;
            }
        }
        for block in &mut blocks {
            let last = &instructions[block.end - 1];
            let find = |offset: u32| block_at.get(&offset).copied();
            let successors = match last.flow {
                Flow::Next | Flow::Call => vec![find(last.end())],
                Flow::Jump(target) => vec![target.and_then(find)],
                Flow::Branch(target) => vec![find(last.end()), target.and_then(find)],
                Flow::Indirect => {
                    self.tables.get(&last.offset).map_or_else(Vec::new, |all| all.iter().map(|t| find(*t)).collect())
                }
                Flow::Out => Vec::new(),
            };
            block.successors = successors.into_iter().flatten().collect();
            block.successors.sort_unstable();
            block.successors.dedup();
        }
        let data_bytes = u32::try_from((length as u64).saturating_sub(code_bytes)).unwrap_or(u32::MAX);
        let mut graph = Graph { instructions, blocks, data_bytes, unknown_jumps };
        graph.find_live();
        graph
    }
}

/// The offsets of jumps of one length that stand one after another.
fn row_of_jumps(architecture: Architecture, code: &[u8], start: u32) -> Vec<u32> {
    let (bytes, is_jump): (usize, fn(&[u8]) -> bool) = match architecture {
        // A near jump.
        Architecture::X86_64 => (5, |at| at[0] == 0xe9),
        // `b`: its first six bits, in the last byte.
        Architecture::Aarch64 => (4, |at| at.get(3).is_some_and(|last| last >> 2 == 0b00_0101)),
    };
    let end = u32::try_from(code.len()).unwrap_or(u32::MAX);
    (start..end).step_by(bytes).take_while(|at| is_jump(&code[*at as usize..])).collect()
}

impl Graph {
    /// Finds which registers are live after each block. At the end of the function, and at jumps to nobody knows where,
    /// all are: so what is called dead is dead.
    fn find_live(&mut self) {
        let count = self.blocks.len();
        let mut predecessors = vec![Vec::new(); count];
        let mut reads_first = Vec::with_capacity(count);
        for (index, block) in self.blocks.iter().enumerate() {
            for successor in &block.successors {
                predecessors[*successor].push(index);
            }
            let (mut reads, mut kills) = (Registers::default(), Registers::default());
            for instruction in &self.instructions[block.first..block.end] {
                reads = reads.with(reads_of(instruction).without(kills));
                kills = kills.with(instruction.facts.kills);
            }
            reads_first.push((reads, kills));
        }
        for block in &mut self.blocks {
            let last = &self.instructions[block.end - 1];
            let leaves = block.successors.is_empty() || matches!(last.flow, Flow::Jump(None) | Flow::Branch(None));
            if leaves && !last.facts.traps {
                block.live_out = Registers::ALL;
            }
        }
        let mut open: Vec<usize> = (0..count).collect();
        let mut is_open = vec![true; count];
        while let Some(index) = open.pop() {
            is_open[index] = false;
            let (reads, kills) = reads_first[index];
            let live_in = reads.with(self.blocks[index].live_out.without(kills));
            for &before in &predecessors[index] {
                let live = self.blocks[before].live_out.with(live_in);
                if live != self.blocks[before].live_out {
                    self.blocks[before].live_out = live;
                    if !std::mem::replace(&mut is_open[before], true) {
                        open.push(before);
                    }
                }
            }
        }
    }

    /// The loops, and for each block the innermost loop that it is in.
    pub(crate) fn loops(&self) -> (Vec<Loop>, Vec<Option<usize>>) {
        let successors: Vec<&[usize]> = self.blocks.iter().map(|block| block.successors.as_slice()).collect();
        loops(&successors)
    }
}

/// The registers that an instruction reads; a call may read all.
pub(crate) fn reads_of(instruction: &Instruction) -> Registers {
    match instruction.flow {
        Flow::Call => Registers::ALL,
        _ => instruction.facts.reads,
    }
}

/// The loops of a graph of which node 0 is the entry, in the order of their heads, and for each node the innermost loop
/// that it is in. Nodes that cannot be reached are in no loop.
pub(crate) fn loops(successors: &[&[usize]]) -> (Vec<Loop>, Vec<Option<usize>>) {
    let walk = Walk::of(successors);
    let mut predecessors = vec![Vec::new(); walk.order.len()];
    for (number, node) in walk.order.iter().enumerate() {
        for successor in successors[*node] {
            if let Some(target) = walk.number[*successor] {
                predecessors[target].push(number);
            }
        }
    }
    // From here on, nodes go by their numbers in the walk.
    let count = walk.order.len();
    let mut sets = Sets((0..count).collect());
    let mut head_of: Vec<Option<usize>> = vec![None; count];
    let mut is_head = vec![false; count];
    let mut irreducible = vec![false; count];
    let mut seen = vec![usize::MAX; count];
    for head in (0..count).rev() {
        let mut body: Vec<usize> = Vec::new();
        for &from in &predecessors[head] {
            if walk.is_below(head, from) {
                is_head[head] = true;
                let from = sets.find(from);
                if from != head && std::mem::replace(&mut seen[from], head) != head {
                    body.push(from);
                }
            }
        }
        let mut next = 0;
        while let Some(&node) = body.get(next) {
            next += 1;
            for &from in &predecessors[node] {
                // Jumps back to `node` come from its own loop, which is collapsed into it.
                if walk.is_below(node, from) {
                    continue;
                }
                let from = sets.find(from);
                if !walk.is_below(head, from) {
                    irreducible[head] = true;
                } else if from != head && std::mem::replace(&mut seen[from], head) != head {
                    body.push(from);
                }
            }
        }
        for node in body {
            head_of[node] = Some(head);
            sets.join(node, head);
        }
    }
    let mut heads: Vec<usize> = (0..count).filter(|number| is_head[*number]).collect();
    heads.sort_unstable_by_key(|number| walk.order[*number]);
    let mut loop_of_head = vec![None; count];
    for (index, head) in heads.iter().enumerate() {
        loop_of_head[*head] = Some(index);
    }
    let loop_around = |number: usize| head_of[number].and_then(|head| loop_of_head[head]);
    let mut found: Vec<Loop> = heads
        .iter()
        .map(|head| Loop {
            head: walk.order[*head],
            parent: loop_around(*head),
            depth: 0,
            has_loops: false,
            irreducible: irreducible[*head],
        })
        .collect();
    // A loop comes after the loop around it in the walk, so that depths can be counted in its order.
    let mut in_walk: Vec<usize> = (0..found.len()).collect();
    in_walk.sort_unstable_by_key(|index| heads[*index]);
    for index in in_walk {
        let parent = found[index].parent;
        found[index].depth = parent.map_or(1, |parent| found[parent].depth + 1);
        if let Some(parent) = parent {
            found[parent].has_loops = true;
        }
    }
    let mut innermost = vec![None; successors.len()];
    for (number, node) in walk.order.iter().enumerate() {
        innermost[*node] = loop_of_head[number].or_else(|| loop_around(number));
    }
    (found, innermost)
}

/// A depth-first walk from node 0.
struct Walk {
    /// The nodes in the order in which they are reached.
    order: Vec<usize>,
    /// Each node's place in that order, if it is reached.
    number: Vec<Option<usize>>,
    /// By a node's place: the place of the last node that was reached from it.
    last: Vec<usize>,
}

impl Walk {
    fn of(successors: &[&[usize]]) -> Self {
        let mut walk = Self { order: Vec::new(), number: vec![None; successors.len()], last: Vec::new() };
        let mut open: Vec<(usize, usize)> = Vec::new();
        if !successors.is_empty() {
            walk.reach(0);
            open.push((0, 0));
        }
        while let Some((node, next)) = open.last_mut() {
            match successors[*node].get(*next) {
                Some(&successor) => {
                    *next += 1;
                    if walk.number[successor].is_none() {
                        walk.reach(successor);
                        open.push((successor, 0));
                    }
                }
                None => {
                    if let Some(number) = walk.number[*node] {
                        walk.last[number] = walk.order.len() - 1;
                    }
                    open.pop();
                }
            }
        }
        walk
    }

    fn reach(&mut self, node: usize) {
        self.number[node] = Some(self.order.len());
        self.order.push(node);
        self.last.push(0);
    }

    /// Whether `node` was reached from `above`, or is the same.
    fn is_below(&self, above: usize, node: usize) -> bool {
        above <= node && node <= self.last[above]
    }
}

/// Sets of nodes, each with one node that stands for it.
struct Sets(Vec<usize>);

impl Sets {
    fn find(&mut self, node: usize) -> usize {
        let mut top = node;
        while self.0[top] != top {
            top = self.0[top];
        }
        let mut at = node;
        while self.0[at] != top {
            at = std::mem::replace(&mut self.0[at], top);
        }
        top
    }

    fn join(&mut self, node: usize, into: usize) {
        self.0[node] = into;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(edges: &[&[usize]], expected: &[(usize, u32, bool)], innermost: &[Option<usize>]) {
        let (found, of_nodes) = loops(edges);
        let found: Vec<_> = found.iter().map(|it| (it.head, it.depth, it.irreducible)).collect();
        assert_eq!(found, expected);
        assert_eq!(of_nodes, innermost);
    }

    #[test]
    fn a_straight_line_has_no_loop() {
        check(&[&[1], &[2], &[]], &[], &[None, None, None]);
    }

    #[test]
    fn a_block_that_jumps_to_itself_is_a_loop() {
        check(&[&[1], &[1, 2], &[]], &[(1, 1, false)], &[None, Some(0), None]);
    }

    #[test]
    fn a_loop_in_a_loop() {
        // 0 -> 1 -> 2 -> 2, 2 -> 3 -> 1, 3 -> 4
        let inner = [None, Some(0), Some(1), Some(0), None];
        check(&[&[1], &[2], &[2, 3], &[1, 4], &[]], &[(1, 1, false), (2, 2, false)], &inner);
    }

    #[test]
    fn two_jumps_back_to_one_head_are_one_loop() {
        let inner = [None, Some(0), Some(0), Some(0), None];
        check(&[&[1], &[2, 3], &[1], &[1, 4], &[]], &[(1, 1, false)], &inner);
    }

    #[test]
    fn a_loop_with_two_entries_is_irreducible() {
        // 0 -> 1, 0 -> 2, 1 <-> 2
        let (found, _) = loops(&[&[1, 2], &[2], &[1, 3], &[]]);
        assert_eq!(found.len(), 1);
        assert!(found[0].irreducible);
    }

    #[test]
    fn what_cannot_be_reached_is_in_no_loop() {
        check(&[&[], &[1]], &[], &[None, None]);
        check(&[], &[], &[]);
    }

    /// Every node of a long ladder may leave to the same end: methods that walk up the tree of dominators for each of
    /// them take quadratic time here.
    #[test]
    fn a_hundred_thousand_nested_and_sequential_blocks() {
        const COUNT: usize = 100_000;
        let edges: Vec<Vec<usize>> = (0..COUNT)
            .map(|node| match node {
                _ if node + 1 == COUNT => vec![],
                _ if node % 3 == 2 => vec![node + 1, node - 1, COUNT - 1],
                _ => vec![node + 1, COUNT - 1],
            })
            .collect();
        let edges: Vec<&[usize]> = edges.iter().map(Vec::as_slice).collect();
        let (found, _) = loops(&edges);
        assert_eq!(found.len(), COUNT / 3);
        assert!(found.iter().all(|it| it.depth == 1 && !it.irreducible));
    }
}
