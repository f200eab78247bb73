//! One engine's code of one function, read and counted.

use serde::Serialize;

use crate::arm64::Arm64;
use crate::flow::{Graph, Loop};
use crate::machine::{Architecture, Class, Flow};
use crate::metrics::{self, Mark, Metrics};
use crate::wasm::{SourceFunction, SourceOperator};
use crate::x86::X86;

/// Machine code of a function, as an engine gives it.
pub struct Code<'a> {
    /// What it is made for.
    pub architecture: Architecture,
    /// The function's bytes. They may hold constants and tables beside code.
    pub bytes: &'a [u8],
    /// For each place at which the code begins to belong to another operator: its offset in `bytes`, in ascending order,
    /// and the origin. `None` if the engine keeps no such map.
    pub origins: Option<&'a [(u32, Origin)]>,
    /// How polls read the flag, if no map says which instructions are a poll.
    pub flag: Option<Flag>,
    /// Gives the name of what a call leads to, by its offset from the function's first byte.
    pub callee: &'a dyn Fn(i64) -> Option<String>,
}

/// Where machine code comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the operator at this offset of the module.
    Operator(u32),
    /// From a poll that was put before the operator at this offset.
    Poll(u32),
    /// From none: the function's frame, say.
    None,
}

/// The memory operand by which code reads the flag: a register's number and a displacement in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// The register, as the architecture numbers it.
    pub register: u8,
    /// What is added to it.
    pub displacement: i64,
}

/// How an engine's loops were matched with those of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alignment {
    /// By the engine's map from machine code to WebAssembly.
    Offsets,
    /// By order: the engine keeps no map, and has as many loops as the source.
    Order,
    /// By order and depth: the engine keeps no map, and has another number of loops than the source.
    Guess,
}

/// An instruction, ready to be shown.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// Its offset from the function's first byte.
    pub offset: u32,
    /// Its bytes, in hexadecimal digits.
    pub bytes: String,
    /// Its text.
    pub text: String,
    /// What it is for.
    pub class: Class,
    /// The offset of the operator that it comes from.
    pub wasm_offset: Option<u32>,
    /// Whether it belongs to a poll.
    pub is_poll: bool,
    /// The innermost of the code's loops that it is in, as an index.
    #[serde(rename = "loop")]
    pub in_loop: Option<usize>,
    /// What is wrong with it.
    pub marks: Vec<Mark>,
}

/// A loop of the machine code.
#[derive(Clone, Debug, Serialize)]
pub struct CodeLoop {
    /// The loop of the source that it is, as an index.
    pub source: Option<usize>,
    /// The offset of its head from the function's first byte.
    pub head: u32,
    /// The loop right around it.
    pub parent: Option<usize>,
    /// 1 for a loop in no other.
    pub depth: u32,
    /// Whether there is no other loop in it.
    pub is_innermost: bool,
    /// Whether there are ways into it beside its head, so that it is no natural loop.
    pub is_irreducible: bool,
    /// Its counts, with those of the loops in it.
    pub metrics: Metrics,
    /// Its counts without those of the loops in it.
    pub own_metrics: Metrics,
}

/// What was found in the code.
#[derive(Clone, Debug, Serialize)]
pub struct Function {
    /// What the code is made for.
    pub architecture: Architecture,
    /// How loops were matched with those of the source.
    pub alignment: Alignment,
    /// The bytes of code and data together.
    pub bytes: usize,
    /// The bytes that no path reaches: constants, tables, padding.
    pub data_bytes: u32,
    /// Jumps whose targets could not be found, so that code behind them may be missing.
    pub unknown_jumps: u32,
    /// Counts over the whole function.
    pub metrics: Metrics,
    /// Its loops, in the order of their heads.
    pub loops: Vec<CodeLoop>,
    /// Its instructions, in the order of their offsets.
    pub lines: Vec<Line>,
}

/// Reads the code of a function. It never fails: bytes that are no code count as data.
#[must_use]
pub fn read(code: &Code<'_>, source: &SourceFunction) -> Function {
    let graph = match code.architecture {
        Architecture::X86_64 => {
            let mut decoder = X86::new(code.bytes, code.callee);
            Graph::of(code.architecture, code.bytes, |offset| decoder.decode(offset))
        }
        Architecture::Aarch64 => {
            let decoder = Arm64::new(code.bytes, code.callee);
            Graph::of(code.architecture, code.bytes, |offset| decoder.decode(offset))
        }
    };
    let (loops, innermost) = graph.loops();
    let origins: Vec<Origin> =
        graph.instructions.iter().map(|at| origin(code.origins, at.offset, &source.operators)).collect();
    let is_poll = polls(&graph, code, &origins);
    let (by_block, mut marks) = metrics::count(&graph, &is_poll);
    let mut loop_of = vec![None; graph.instructions.len()];
    for (block, in_loop) in graph.blocks.iter().zip(&innermost) {
        loop_of[block.first..block.end].fill(*in_loop);
    }
    let (alignment, matched) = if code.origins.is_some() {
        (Alignment::Offsets, match_by_offsets(&loops, &loop_of, &origins, &source.operators))
    } else {
        match_by_order(&loops, source)
    };
    let lines = graph
        .instructions
        .iter()
        .enumerate()
        .map(|(index, instruction)| Line {
            offset: instruction.offset,
            bytes: hex(&code.bytes[instruction.offset as usize..instruction.end() as usize]),
            text: instruction.text.clone(),
            class: instruction.class,
            wasm_offset: match origins[index] {
                Origin::Operator(at) | Origin::Poll(at) => Some(at),
                Origin::None => None,
            },
            is_poll: is_poll[index],
            in_loop: loop_of[index],
            marks: std::mem::take(&mut marks[index]),
        })
        .collect();
    Function {
        architecture: code.architecture,
        alignment,
        bytes: code.bytes.len(),
        data_bytes: graph.data_bytes,
        unknown_jumps: graph.unknown_jumps,
        metrics: by_block.iter().copied().sum(),
        loops: code_loops(&graph, &loops, &innermost, &by_block, &matched),
        lines,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the instruction at an offset comes from. Maps also name places that are no operators, such as the declarations of
/// locals.
fn origin(origins: Option<&[(u32, Origin)]>, offset: u32, operators: &[SourceOperator]) -> Origin {
    let Some(origins) = origins else { return Origin::None };
    let after = origins.partition_point(|(at, _)| *at <= offset);
    let origin = after.checked_sub(1).map_or(Origin::None, |index| origins[index].1);
    match origin {
        Origin::Operator(at) if operators.binary_search_by_key(&at, |operator| operator.offset).is_err() => {
            Origin::None
        }
        _ => origin,
    }
}

/// Which instructions are polls: those that the map calls so, or without a map those from a read of the flag to the jump
/// that depends on it, and what that jump skips.
fn polls(graph: &Graph, code: &Code<'_>, origins: &[Origin]) -> Vec<bool> {
    let mut is_poll: Vec<bool> = origins.iter().map(|origin| matches!(origin, Origin::Poll(_))).collect();
    let Some(flag) = code.flag else { return is_poll };
    for (block_index, block) in graph.blocks.iter().enumerate() {
        let mut reads_flag = false;
        for index in block.first..block.end {
            let facts = &graph.instructions[index].facts;
            reads_flag |= facts.base == Some((flag.register, flag.displacement));
            is_poll[index] |= reads_flag;
            if !reads_flag || !facts.is_conditional {
                continue;
            }
            // The poll's `unreachable` is what the jump skips: a trap, or a call that does not return.
            let skipped = block_index + 1;
            let Some(after) = graph.blocks.get(skipped).filter(|_| block.successors.contains(&skipped)) else {
                continue;
            };
            if after.successors.iter().all(|next| block.successors.contains(next)) {
                is_poll[after.first..after.end].fill(true);
                continue;
            }
            // Or it skips a jump, which goes further than one on a condition can, and `unreachable` is behind that.
            let target = skipped + 1;
            if after.end == after.first + 1
                && matches!(graph.instructions[after.first].flow, Flow::Jump(_))
                && let Some(trap) = graph.blocks.get(target)
                && block.successors.contains(&target)
                && trap.successors.iter().all(|next| after.successors.contains(next))
            {
                is_poll[after.first..trap.end].fill(true);
            }
        }
    }
    is_poll
}

fn code_loops(
    graph: &Graph,
    loops: &[Loop],
    innermost: &[Option<usize>],
    by_block: &[Metrics],
    matched: &[Option<usize>],
) -> Vec<CodeLoop> {
    let mut own = vec![Metrics::default(); loops.len()];
    for (in_loop, metrics) in innermost.iter().zip(by_block) {
        if let Some(in_loop) = in_loop {
            own[*in_loop] += *metrics;
        }
    }
    let mut all = own.clone();
    let mut inner_first: Vec<usize> = (0..loops.len()).collect();
    inner_first.sort_unstable_by_key(|index| std::cmp::Reverse(loops[*index].depth));
    for index in inner_first {
        if let Some(parent) = loops[index].parent {
            let inner = all[index];
            all[parent] += inner;
        }
    }
    let code_loop = |(index, found): (usize, &Loop)| CodeLoop {
        source: matched[index],
        head: graph.instructions[graph.blocks[found.head].first].offset,
        parent: found.parent,
        depth: found.depth,
        is_innermost: !found.has_loops,
        is_irreducible: found.irreducible,
        metrics: all[index],
        own_metrics: own[index],
    };
    loops.iter().enumerate().map(code_loop).collect()
}

/// Matches loops by the map: the poll at a loop's head says which loop it is; without polls, most of the loop's own
/// instructions come from operators of that loop.
fn match_by_offsets(
    loops: &[Loop],
    loop_of: &[Option<usize>],
    origins: &[Origin],
    operators: &[SourceOperator],
) -> Vec<Option<usize>> {
    let at = |offset: u32| operators.binary_search_by_key(&offset, |operator| operator.offset).ok();
    let mut by_poll = vec![None; loops.len()];
    let mut votes: Vec<std::collections::BTreeMap<usize, usize>> = vec![std::collections::BTreeMap::new(); loops.len()];
    for (in_loop, origin) in loop_of.iter().zip(origins) {
        let Some(in_loop) = *in_loop else { continue };
        match *origin {
            Origin::Operator(offset) => {
                if let Some(source) = at(offset).and_then(|index| operators[index].in_loop) {
                    *votes[in_loop].entry(source).or_default() += 1;
                }
            }
            Origin::Poll(offset) => {
                let before = at(offset).and_then(|index| index.checked_sub(1)).map(|index| &operators[index]);
                if let Some(operator) = before.filter(|operator| operator.text == "loop") {
                    by_poll[in_loop] = by_poll[in_loop].or(operator.in_loop);
                }
            }
            Origin::None => {}
        }
    }
    let elected = |votes: &std::collections::BTreeMap<usize, usize>| {
        votes.iter().max_by_key(|(source, count)| (**count, std::cmp::Reverse(**source))).map(|(source, _)| *source)
    };
    by_poll.iter().zip(&votes).map(|(poll, votes)| poll.or_else(|| elected(votes))).collect()
}

/// Matches loops by their order, which a compiler of one pass keeps.
fn match_by_order(loops: &[Loop], source: &SourceFunction) -> (Alignment, Vec<Option<usize>>) {
    let wanted: Vec<usize> = (0..source.loops.len()).filter(|index| source.loops[*index].repeats).collect();
    if wanted.len() == loops.len() {
        return (Alignment::Order, wanted.into_iter().map(Some).collect());
    }
    let mut left = wanted.into_iter().peekable();
    let mut matched = Vec::new();
    for found in loops {
        while left.next_if(|index| source.loops[*index].depth > found.depth).is_some() {}
        matched.push(left.next_if(|index| source.loops[*index].depth == found.depth));
    }
    (Alignment::Guess, matched)
}
