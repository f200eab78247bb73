//! Finding the points at which guests of a module may leave the engine that they run on.

use serde::{Deserialize, Serialize};
use wasmparser::{Operator, ValType};

use crate::{Proposal, Proposals};

/// The most locals of a function with points, parameters included: all of them are handed over when a guest leaves.
/// Toolchains stay far below; a function with more runs where it is.
const LOCALS_MAX: usize = 256;

/// The most bytes of a part as a module. A part is compiled in this process, while a guest waits for it to be ready.
/// Modules with more code than this are compiled in child processes, which can be stopped.
pub(crate) const PART_BYTES_MAX: usize = 64 << 10;

/// A place in the code of a module at which a guest may move: its number among all points of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Point(pub(crate) u32);

/// The place of one point in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The function's index among those that the module defines.
    pub(crate) function: u32,
    /// The offset in the module's bytes at which the body of the loop begins, or 0 for the function's entry.
    pub(crate) at: u32,
    /// The number of blocks around that body, the function's own and the loop among them.
    pub(crate) depth: u32,
}

impl Place {
    pub(crate) fn is_entry(self) -> bool {
        self.at == 0
    }
}

/// The points of a module, in the order of their places in its bytes; a function's entry comes before its loops.
///
/// A module has no points if its state is more than can be handed over: several memories, or one of 64 bits, shared or
/// with pages of another size; references in globals; tables or segments that the code changes. Nor has it any if
/// results may legally differ from one engine to the next in the middle of a run (relaxed SIMD).
///
/// A function has no points if there are references among its locals or results. A loop is no point if there are values
/// on the operand stack at it: they would have to be handed over, too, and toolchains hardly write such loops.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Places {
    places: Vec<Place>,
}

impl Places {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Point, Place)> {
        (0..).map(Point).zip(self.places.iter().copied())
    }

    pub(crate) fn get(&self, point: Point) -> Option<Place> {
        self.places.get(point.0 as usize).copied()
    }
}

/// The proposals that only modules need whose state cannot be handed over.
const NEVER: Proposals = Proposals::of(&[
    Proposal::MultiMemory,
    Proposal::Memory64,
    Proposal::CustomPageSizes,
    Proposal::Threads,
    Proposal::Atomics,
    Proposal::Externref,
    Proposal::FunctionReferences,
    Proposal::Gc,
    Proposal::Exceptions,
    Proposal::RelaxedSimd,
]);

/// Finds the points, operator by operator, while the module is validated.
#[derive(Default)]
pub(crate) struct Search {
    places: Vec<Place>,
    /// All direct calls: caller and callee, both as indices that count imports.
    calls: Vec<(u32, u32)>,
    /// For each defined function: whether it can be left at all.
    can_leave: Vec<bool>,
    /// The loops around the operator, outermost first.
    loops: Vec<Loop>,
    /// For each defined function: whether it has loops.
    has_loops: Vec<bool>,
    /// How many blocks are open inside the outermost open block that takes values from the operand stack; `None` if no
    /// open block takes any.
    takes_values: Option<u32>,
    /// The index in `places` of the function's first place.
    first: usize,
    /// Whether something makes the whole module immovable.
    never: bool,
}

struct Loop {
    /// The loop's index in `places`; `None` if a guest cannot leave there, because there are values on the operand
    /// stack, or one of the blocks around it takes some.
    place: Option<usize>,
    /// The number of blocks around the loop's body.
    depth: u32,
    /// Whether the loop contains a loop or a call, so that one turn may be long.
    is_long: bool,
}

impl Search {
    /// Notes that the module has a global of this type.
    pub(crate) fn global(&mut self, ty: ValType) {
        self.never |= matches!(ty, ValType::Ref(_));
    }

    /// Notes that a function begins. `locals` are its parameters and locals.
    pub(crate) fn begin(&mut self, mut locals: impl ExactSizeIterator<Item = ValType>, results: &[ValType]) {
        let can_leave = locals.len() <= LOCALS_MAX
            && !locals.any(|ty| matches!(ty, ValType::Ref(_)))
            && !results.iter().any(|ty| matches!(ty, ValType::Ref(_)));
        self.can_leave.push(can_leave);
        self.has_loops.push(false);
        self.takes_values = None;
        self.first = self.places.len();
        self.loops.clear();
    }

    /// Takes the function's next operator into account. It ends at the offset `end`, and after it `depth` blocks are
    /// open, the function's own among them. If it opens a block, this takes so many `params` from the operand stack,
    /// and `is_empty` says whether the block begins with nothing on that stack.
    pub(crate) fn next(
        &mut self,
        caller: u32,
        operator: &Operator<'_>,
        end: usize,
        depth: u32,
        params: usize,
        is_empty: bool,
    ) {
        if self.takes_values.is_some_and(|outermost| depth < outermost) {
            self.takes_values = None;
        }
        if params > 0 {
            self.takes_values.get_or_insert(depth);
        }
        while self.loops.last().is_some_and(|innermost| depth < innermost.depth) {
            self.close();
        }
        match operator {
            Operator::Loop { .. } => self.open(end, depth, is_empty && self.takes_values.is_none()),
            Operator::Call { function_index: callee } | Operator::ReturnCall { function_index: callee } => {
                self.calls.push((caller, *callee));
                self.lengthen();
            }
            Operator::CallIndirect { .. } | Operator::ReturnCallIndirect { .. } => self.lengthen(),
            Operator::TableSet { .. }
            | Operator::TableGrow { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableInit { .. }
            | Operator::ElemDrop { .. }
            | Operator::DataDrop { .. } => self.never = true,
            _ => {}
        }
    }

    fn lengthen(&mut self) {
        if let Some(innermost) = self.loops.last_mut() {
            innermost.is_long = true;
        }
    }

    fn open(&mut self, at: usize, depth: u32, can_leave: bool) {
        self.lengthen();
        if let Some(has_loops) = self.has_loops.last_mut() {
            *has_loops = true;
        }
        // A module is smaller than 4 GiB, as its own section sizes say.
        let at = u32::try_from(at).unwrap_or_default();
        let function = u32::try_from(self.can_leave.len() - 1).unwrap_or_default();
        let place = can_leave.then_some(self.places.len());
        self.loops.push(Loop { place, depth, is_long: false });
        self.places.extend(place.map(|_| Place { function, at, depth }));
    }

    /// Ends the innermost loop. A loop within another one is a point only if it contains a loop or a call itself: else
    /// the turns of the outer loop are short enough, and a poll in the innermost loop would cost most.
    fn close(&mut self) {
        let Some(ended) = self.loops.pop() else { return };
        if let Some(place) = ended.place.filter(|_| !ended.is_long && !self.loops.is_empty()) {
            self.places.remove(place);
        }
    }

    /// Notes that the function has ended.
    pub(crate) fn end(&mut self) {
        while !self.loops.is_empty() {
            self.close();
        }
        if self.can_leave.last() == Some(&false) {
            self.places.truncate(self.first);
        }
    }

    /// Returns the points, once all functions have been seen.
    pub(crate) fn finish(self, imported_functions: u32, needs: Proposals) -> Places {
        if self.never || Proposal::ALL.iter().any(|proposal| NEVER.contains(*proposal) && needs.contains(*proposal)) {
            return Places::default();
        }
        // A function that may run for long can also be left at its entry.
        let mut is_long = recursive(&self.calls, imported_functions, self.can_leave.len());
        for (is_long, has_loops) in is_long.iter_mut().zip(&self.has_loops) {
            *is_long |= *has_loops;
        }
        let entries = (0..).zip(&is_long).zip(&self.can_leave).filter(|((_, is_long), can)| **is_long && **can);
        let entries = entries.map(|((function, _), _)| Place { function, at: 0, depth: 1 });
        let mut places: Vec<Place> = self.places.into_iter().chain(entries).collect();
        places.sort_by_key(|place| (place.function, place.at));
        Places { places }
    }
}

/// Says of each defined function whether it can call itself, directly or through others: whether it is in a strongly
/// connected component with an edge inside (Tarjan 1972). Calls by table do not count: functions that they reach have
/// loops, or are not worth moving.
fn recursive(calls: &[(u32, u32)], imported: u32, functions: usize) -> Vec<bool> {
    let mut callees: Vec<Vec<usize>> = vec![Vec::new(); functions];
    for (caller, callee) in calls {
        if let (Some(caller), Some(callee)) = (caller.checked_sub(imported), callee.checked_sub(imported))
            && let Some(of_caller) = callees.get_mut(caller as usize)
        {
            of_caller.push(callee as usize);
        }
    }
    const NEW: usize = usize::MAX;
    let mut is_recursive = vec![false; functions];
    let (mut order, mut low, mut on_stack) = (vec![NEW; functions], vec![0; functions], vec![false; functions]);
    let (mut stack, mut next) = (Vec::new(), 0);
    // The walk keeps its own stack instead of recursing: a chain of calls through a million functions is legal.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for root in 0..functions {
        if order[root] != NEW {
            continue;
        }
        open.push((root, 0));
        while let Some((function, at)) = open.last().copied() {
            if at == 0 {
                (order[function], low[function], on_stack[function]) = (next, next, true);
                stack.push(function);
                next += 1;
            }
            match callees[function].get(at) {
                Some(&callee) => {
                    open.last_mut().expect("it was just looked at").1 += 1;
                    if callee >= functions {
                        continue;
                    }
                    is_recursive[function] |= callee == function;
                    if order[callee] == NEW {
                        open.push((callee, 0));
                    } else if on_stack[callee] {
                        low[function] = low[function].min(order[callee]);
                    }
                }
                None => {
                    open.pop();
                    if let Some((caller, _)) = open.last() {
                        low[*caller] = low[*caller].min(low[function]);
                    }
                    if low[function] == order[function] {
                        let from = stack.iter().rposition(|member| *member == function).unwrap_or(0);
                        let component = stack.split_off(from);
                        for member in &component {
                            on_stack[*member] = false;
                            is_recursive[*member] |= component.len() > 1;
                        }
                    }
                }
            }
        }
    }
    is_recursive
}
