//! Writing the module in which a guest goes on: a part of the guest's own module, entered in the middle.

#![expect(clippy::cast_possible_truncation, reason = "a module is smaller than 4 GiB: its indices fit 32 bits")]

use std::cell::RefCell;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType as NewBlockType, CodeSection, ElementSection, Encode, ExportKind, Function, Instruction, InstructionSink,
    MemArg, Module, NameMap, NameSection, ValType,
};
use wasmparser::{
    BinaryReader, BlockType, ElementItems, ExternalKind, FuncType, FunctionBody, KnownCustom, Name, Operator, Parser,
    Payload, TypeRef,
};

use super::frame::{hand_over, load, locals, slot, store, val_type};
use super::moves::Extent;
use super::places::{PART_BYTES_MAX, Place, Places, Point};
use super::{global_export, hidden};
use crate::sections::{Entries, Sections, any_types, id, push_section};

/// The module name of the imported functions that a part leaves to the engine that its guest came from.
pub(crate) const COLD: &str = "remuda part";
/// The export name of the part's memory, whether or not the guest exports it.
pub(crate) const MEMORY_EXPORT: &str = hidden!("memory");
/// The export name of the one function by which a part is entered. It takes the number of an entry, finds the
/// activation's locals in the frame, and leaves its results there. There is only one because Wasmtime compiles a
/// trampoline for each exported function, and uses Cranelift for that even if the code is Winch's.
pub(crate) const ENTER: &str = hidden!("enter");

/// The name of the import from [`COLD`] that says whether to leave at an exit: `(param i32) (result i32)`. Only parts
/// that guests can leave again have it.
pub(crate) const ASK: &str = "ask";
/// The name of the import from [`COLD`] that runs the rest of an activation that leaves: `(func)`. The activation's
/// locals are in the frame, and its results are put there.
pub(crate) const RUN: &str = "run";
/// The offset of the flags in the frame's memory, one byte for each exit: 0 as long as there is no reason to ask there.
/// The values that are handed over lie below, and no function has more than a thousand.
pub(crate) const FLAGS_AT: u32 = 32 << 10;
/// The most exits of a part: this many flags fit the page.
pub(crate) const EXITS_MAX: usize = 32 << 10;

/// The most entries of a part. Those that were asked for come first.
const ENTRIES_MAX: usize = 500;
/// The most code of functions that a part takes along, in bytes: all functions that its loops may call, directly or
/// through others. If they are larger, there is no part: a call back to the engine that the guest came from takes a
/// microsecond, and a loop that makes many is slower than in an interpreter. With a larger limit some guests of large
/// modules could move, but their parts would be late.
const CODE_BYTES_MAX: usize = 48 << 10;
/// The largest product of locals and loops in one function of a part: an optimizing compiler may treat every local
/// separately in every loop, so that little code can be much work. Modules with more are compiled in child processes.
const LOCALS_IN_LOOPS_MAX: usize = 10_000;
/// The most functions that a part calls in the engine that its guest came from: each is an import, made anew for each
/// instance.
const COLD_MAX: usize = 2_000;

/// A part as a module.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bytes: Vec<u8>,
    /// The points at which the part can be entered, in the order of the numbers that [`ENTER`] takes.
    pub(crate) points: Vec<Point>,
    /// The functions of the guest's module that the part imports from [`COLD`], by their index in that module.
    pub(crate) cold: Vec<u32>,
    /// The globals that can change, by their index in the guest's module; see [`global_export`].
    pub(crate) globals: Vec<u32>,
    pub(crate) has_memory: bool,
    /// The exits at which guests can leave the part again, in the order of the numbers that they ask with.
    pub(crate) exits: Vec<Exit>,
}

/// A place at which a guest can leave a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) point: Point,
    /// The number of slots in the frame that the function's locals or its results take, whichever are more.
    pub(crate) values: u32,
}

pub(crate) fn cold_import(function: u32) -> String {
    function.to_string()
}

/// Why there is no part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPart {
    #[error("the module cannot be read: {0}")]
    Malformed(#[from] wasmparser::Error),
    #[error("the module cannot be written: {0}")]
    Encode(#[from] reencode::Error),
    #[error("there is no point to go on at")]
    Nowhere,
    #[error("it would be too much to compile while a guest waits: {what} is {found}, and {max} is the most")]
    TooLarge { what: &'static str, found: usize, max: usize },
    #[error(
        "what its loops may call is more than {CODE_BYTES_MAX} bytes of code, and calls back would cost more than is won"
    )]
    CallsTooMuch,
    #[error("it would hand a reference to a function that is left where its guest comes from")]
    References,
    #[error("it would call {found} functions of the engine that its guest comes from, and {COLD_MAX} are the most")]
    TooManyCold { found: usize },
}

/// Writes the part of `module` in which guests go on at `points`; points at which that is impossible are left out. If
/// `leaves`, guests can leave the part again at any point that it contains.
pub(crate) fn build(
    module: &[u8],
    places: &Places,
    points: &[Point],
    extent: Extent,
    leaves: bool,
) -> Result<Plan, NoPart> {
    let source = Source::read(module)?;
    let mut bodies = Bodies::default();
    let mut entries = entries_at(&source, &mut bodies, places, points)?;
    if entries.is_empty() && extent == Extent::Hot {
        return Err(NoPart::Nowhere);
    }
    let selection = Selection::of(&source, bodies, &entries, extent)?;
    let mut resumed = BTreeMap::new();
    if extent == Extent::Whole {
        resumed = resumable(&source, places, &selection);
        let is_resumed = |entry: &Entry| resumed.values().flatten().any(|loops| loops.point == entry.point);
        entries.retain(|entry| !is_resumed(entry));
    }
    if selection.cold.len() > COLD_MAX {
        return Err(NoPart::TooManyCold { found: selection.cold.len() });
    }
    // A function that is taken along can be entered at its beginning as well, when it is called in the engine that the
    // guest came from.
    for (point, place) in places.iter().filter(|(_, place)| place.is_entry()) {
        let is_taken = selection.taken.contains(&(source.imported_functions + place.function));
        if is_taken && entries.len() < ENTRIES_MAX && entries.iter().all(|entry| entry.point != point) {
            entries.push(Entry { point, place, way: Way::Beginning });
        }
    }
    for loops in resumed.values() {
        let within = |(number, resumed): (u32, &Resumed)| {
            let Resumed { point, place, .. } = *resumed;
            Entry { point, place, way: Way::Within(number) }
        };
        entries.extend((1..).zip(loops).map(within));
    }
    let exits = if leaves { Exits::of(&source, places, &selection)? } else { Exits::default() };
    write(module, &source, &entries, &selection, &resumed, exits)
}

/// About how many bytes of code a part has in which guests go on at `points` and which takes along only what is hot.
/// The time to compile the part goes by this number.
pub(crate) fn code_bytes(module: &[u8], places: &Places, points: &[Point]) -> Result<usize, NoPart> {
    let source = Source::read(module)?;
    let mut bodies = Bodies::default();
    let entries = entries_at(&source, &mut bodies, places, points)?;
    let selection = Selection::of(&source, bodies, &entries, Extent::Hot)?;
    let taken = selection.taken.iter().filter_map(|function| source.defined(*function));
    let whole: usize = taken.map(|index| source.bodies[index].range().len()).sum();
    let begun = entries.iter().filter(|entry| matches!(entry.way, Way::Rest(_)));
    let rest = |entry: &Entry| {
        source.bodies[entry.place.function as usize].range().end.saturating_sub(entry.place.at as usize)
    };
    Ok(whole + begun.map(rest).sum::<usize>())
}

/// The entries into a part at these points.
fn entries_at(
    source: &Source<'_>,
    bodies: &mut Bodies,
    places: &Places,
    points: &[Point],
) -> Result<Vec<Entry>, NoPart> {
    let mut entries = Vec::new();
    let wanted: BTreeSet<Point> = points.iter().copied().collect();
    for point in wanted {
        let Some(place) = places.get(point) else { continue };
        let way = if place.is_entry() {
            Way::Beginning
        } else {
            let ops = bodies.read(source, source.imported_functions + place.function)?;
            let Some(path) = paths(ops).remove(&place.at) else { continue };
            Way::Rest(path)
        };
        entries.push(Entry { point, place, way });
    }
    Ok(entries)
}

/// The loops at which the functions of a whole part can be entered, in their order in the code, by the function's index
/// in the guest's module. A loop counts only if neither it nor a block around it has a result.
fn resumable(source: &Source<'_>, places: &Places, selection: &Selection) -> BTreeMap<u32, Vec<Resumed>> {
    let mut resumed: BTreeMap<u32, Vec<Resumed>> = BTreeMap::new();
    let mut found = HashMap::new();
    let mut count = 0;
    for (point, place) in places.iter().filter(|(_, place)| !place.is_entry()) {
        let function = source.imported_functions + place.function;
        let Some(ops) = selection.bodies.0.get(&function) else { continue };
        let Some(path) = found.entry(function).or_insert_with(|| paths(ops)).remove(&place.at) else { continue };
        let is_plain = |at: &usize| match ops[*at].kind {
            Kind::Block { ty, .. } | Kind::Loop { ty, .. } | Kind::If { ty, .. } => ty == BlockType::Empty,
            _ => false,
        };
        if path.iter().all(is_plain) && count < ENTRIES_MAX {
            count += 1;
            resumed.entry(function).or_default().push(Resumed { point, place, path });
        }
    }
    resumed
}

/// A loop at which a function that is written only once can be entered.
struct Resumed {
    point: Point,
    place: Place,
    /// The operators that open the blocks around the loop, outermost first, and the loop itself.
    path: Vec<usize>,
}

/// A point at which a part can be entered.
struct Entry {
    point: Point,
    place: Place,
    way: Way,
}

/// How an activation gets to the point at which it is to go on.
enum Way {
    /// The function is called, since the point is its entry.
    Beginning,
    /// A function is called that is written for this point and has only what is left from the loop on. Given are the
    /// operators that open the blocks around the loop, outermost first, and the loop itself.
    Rest(Vec<usize>),
    /// The function itself is called, and goes to the loop with this number at once.
    Within(u32),
}

/// The operators of those functions that are written, by their index in the guest's module; each is read when it is
/// first needed.
#[derive(Default)]
struct Bodies(HashMap<u32, Vec<Op>>);

impl Bodies {
    fn read(&mut self, source: &Source<'_>, function: u32) -> Result<&[Op], NoPart> {
        match self.0.entry(function) {
            Slot::Occupied(slot) => Ok(slot.into_mut()),
            Slot::Vacant(slot) => {
                let index = source.defined(function).unwrap_or_default();
                Ok(slot.insert(operators(&source.bodies[index])?))
            }
        }
    }
}

/// The guest's module, as far as it is needed here.
struct Source<'a> {
    sections: Sections<'a>,
    types: Vec<FuncType>,
    /// The module, name and type of each imported function.
    imports: Vec<(&'a str, &'a str, u32)>,
    imported_functions: u32,
    /// For each function, imported ones first, the index of its type.
    function_types: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
    mutable_globals: Vec<u32>,
    has_memory: bool,
    exports_memory: bool,
    /// The functions that element segments refer to.
    in_tables: Vec<u32>,
    names: HashMap<u32, &'a str>,
}

impl<'a> Source<'a> {
    fn read(module: &'a [u8]) -> Result<Self, NoPart> {
        let mut source = Self {
            sections: Sections::of(module)?,
            types: Vec::new(),
            imports: Vec::new(),
            imported_functions: 0,
            function_types: Vec::new(),
            bodies: Vec::new(),
            mutable_globals: Vec::new(),
            has_memory: false,
            exports_memory: false,
            in_tables: Vec::new(),
            names: HashMap::new(),
        };
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(types) => {
                    source.types = types.into_iter_err_on_gc_types().collect::<Result<_, _>>()?;
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        if let TypeRef::Func(ty) = import.ty {
                            source.imports.push((import.module, import.name, ty));
                            source.imported_functions += 1;
                            source.function_types.push(ty);
                        }
                    }
                }
                Payload::FunctionSection(functions) => {
                    for ty in functions {
                        source.function_types.push(ty?);
                    }
                }
                Payload::MemorySection(memories) => source.has_memory = memories.count() > 0,
                Payload::GlobalSection(globals) => {
                    for (index, global) in (0..).zip(globals) {
                        if global?.ty.mutable {
                            source.mutable_globals.push(index);
                        }
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        source.exports_memory |= export.kind == ExternalKind::Memory && export.name == "memory";
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        source.element(element?.items)?;
                    }
                }
                Payload::CodeSectionEntry(body) => source.bodies.push(body),
                Payload::CustomSection(custom) => {
                    if let KnownCustom::Name(names) = custom.as_known() {
                        // Names are for people: a section that does not parse is dropped.
                        for functions in names.into_iter().filter_map(Result::ok) {
                            if let Name::Function(functions) = functions {
                                let functions = functions.into_iter().filter_map(Result::ok);
                                source.names.extend(functions.map(|naming| (naming.index, naming.name)));
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(source)
    }

    fn element(&mut self, items: ElementItems<'a>) -> Result<(), NoPart> {
        match items {
            ElementItems::Functions(functions) => {
                for function in functions {
                    self.in_tables.push(function?);
                }
            }
            ElementItems::Expressions(_, expressions) => {
                for expression in expressions {
                    for operator in expression?.get_operators_reader() {
                        if let Operator::RefFunc { function_index } = operator? {
                            self.in_tables.push(function_index);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn defined(&self, function: u32) -> Option<usize> {
        let index = function.checked_sub(self.imported_functions)? as usize;
        (index < self.bodies.len()).then_some(index)
    }

    fn function_type(&self, function: u32) -> u32 {
        self.function_types[function as usize]
    }
}

/// An operator.
struct Op {
    kind: Kind,
    /// The operator's bytes, as offsets into the module.
    range: Range<usize>,
}

/// What an operator is, as far as it is not simply copied.
enum Kind {
    /// A block has the index of the operator that ends it; an `if` that of its `else`, too.
    Block {
        ty: BlockType,
        end: usize,
    },
    Loop {
        ty: BlockType,
        end: usize,
    },
    If {
        ty: BlockType,
        otherwise: Option<usize>,
        end: usize,
    },
    Else,
    End,
    Br(u32),
    BrIf(u32),
    BrTable(Vec<u32>),
    Call(u32),
    ReturnCall(u32),
    RefFunc(u32),
    /// An operator that needs the tables, as do the next two kinds.
    CallIndirect {
        ty: u32,
        table: u32,
    },
    ReturnCallIndirect {
        ty: u32,
        table: u32,
    },
    OfTable,
    /// An operator that needs the data segments.
    OfData,
    Other,
}

/// Reads a body's operators.
fn operators(body: &FunctionBody<'_>) -> Result<Vec<Op>, wasmparser::Error> {
    let mut reader = body.get_operators_reader()?;
    let mut ops: Vec<Op> = Vec::new();
    let mut open = Vec::new();
    while !reader.eof() {
        let start = reader.original_position();
        let operator = reader.read()?;
        let at = ops.len();
        let kind = match operator {
            Operator::Block { blockty: ty } => {
                open.push(at);
                Kind::Block { ty, end: 0 }
            }
            Operator::Loop { blockty: ty } => {
                open.push(at);
                Kind::Loop { ty, end: 0 }
            }
            Operator::If { blockty: ty } => {
                open.push(at);
                Kind::If { ty, otherwise: None, end: 0 }
            }
            Operator::Else => {
                if let Some(Op { kind: Kind::If { otherwise, .. }, .. }) = open.last().and_then(|at| ops.get_mut(*at)) {
                    *otherwise = Some(at);
                }
                Kind::Else
            }
            Operator::End => {
                if let Some(Kind::Block { end, .. } | Kind::Loop { end, .. } | Kind::If { end, .. }) =
                    open.pop().map(|at: usize| &mut ops[at].kind)
                {
                    *end = at;
                }
                Kind::End
            }
            Operator::Br { relative_depth } => Kind::Br(relative_depth),
            Operator::BrIf { relative_depth } => Kind::BrIf(relative_depth),
            Operator::BrTable { targets } => {
                Kind::BrTable(targets.targets().chain([Ok(targets.default())]).collect::<Result<_, _>>()?)
            }
            Operator::Call { function_index } => Kind::Call(function_index),
            Operator::ReturnCall { function_index } => Kind::ReturnCall(function_index),
            Operator::RefFunc { function_index } => Kind::RefFunc(function_index),
            Operator::CallIndirect { type_index: ty, table_index: table } => Kind::CallIndirect { ty, table },
            Operator::ReturnCallIndirect { type_index: ty, table_index: table } => {
                Kind::ReturnCallIndirect { ty, table }
            }
            Operator::TableGet { .. } | Operator::TableSize { .. } => Kind::OfTable,
            Operator::MemoryInit { .. } => Kind::OfData,
            _ => Kind::Other,
        };
        ops.push(Op { kind, range: start..reader.original_position() });
    }
    Ok(ops)
}

/// For each loop, by the offset of its body in the module: the operators that open the blocks around the loop,
/// outermost first, and the loop itself.
fn paths(ops: &[Op]) -> HashMap<u32, Vec<usize>> {
    let (mut paths, mut open) = (HashMap::new(), Vec::new());
    for (at, op) in ops.iter().enumerate() {
        match op.kind {
            Kind::Block { .. } | Kind::If { .. } => open.push(at),
            Kind::Loop { .. } => {
                open.push(at);
                paths.insert(op.range.end as u32, open.clone());
            }
            Kind::End => _ = open.pop(),
            _ => {}
        }
    }
    paths
}

/// What a part consists of.
struct Selection {
    /// The functions that the part takes along, as indices in the guest's module.
    taken: BTreeSet<u32>,
    /// The functions that the part calls in the engine that its guest came from.
    cold: BTreeSet<u32>,
    /// The guest's imports that the part needs.
    imported: BTreeSet<u32>,
    needs_tables: bool,
    needs_data: bool,
    /// The operators of all functions that are written.
    bodies: Bodies,
}

impl Selection {
    fn of(source: &Source<'_>, bodies: Bodies, entries: &[Entry], extent: Extent) -> Result<Self, NoPart> {
        let mut selection = Self {
            taken: BTreeSet::new(),
            cold: BTreeSet::new(),
            imported: BTreeSet::new(),
            needs_tables: false,
            needs_data: false,
            bodies,
        };
        if extent == Extent::Whole {
            let code_bytes = source.bodies.iter().map(|body| body.range().len()).sum();
            within("its size in bytes", code_bytes, PART_BYTES_MAX)?;
            for function in (source.imported_functions..).take(source.bodies.len()) {
                selection.taken.insert(function);
                selection.bodies.read(source, function)?;
            }
            selection.find_cold(source);
            return Ok(selection);
        }
        let mut bytes_left = CODE_BYTES_MAX;
        let mut next = VecDeque::new();
        let mut calls_by_table = false;
        for entry in entries {
            let function = source.imported_functions + entry.place.function;
            let ops = selection.bodies.read(source, function)?;
            match &entry.way {
                // A function whose entry is asked for is taken along, whatever its size.
                Way::Beginning | Way::Within(_) => {
                    bytes_left = bytes_left.max(source.bodies[entry.place.function as usize].range().len());
                    next.push_front(function);
                }
                Way::Rest(path) => {
                    let outermost = path.iter().find_map(|at| match ops[*at].kind {
                        Kind::Loop { end, .. } => Some(*at..end),
                        _ => None,
                    });
                    let hot = &ops[outermost.unwrap_or(0..0)];
                    calls_by_table |= hot.iter().any(is_call_by_table);
                    next.extend(callees(hot));
                }
            }
        }
        let mut has_followed_tables = false;
        loop {
            while let Some(function) = next.pop_front() {
                let Some(index) = source.defined(function) else { continue };
                if selection.taken.contains(&function) {
                    continue;
                }
                let left = bytes_left.checked_sub(source.bodies[index].range().len());
                bytes_left = left.ok_or(NoPart::CallsTooMuch)?;
                selection.taken.insert(function);
                let ops = selection.bodies.read(source, function)?;
                calls_by_table |= ops.iter().any(is_call_by_table);
                next.extend(callees(ops));
            }
            if !calls_by_table || std::mem::replace(&mut has_followed_tables, true) {
                break;
            }
            next.extend(&source.in_tables);
        }
        selection.find_cold(source);
        Ok(selection)
    }

    /// Notes what the code needs beside the functions that are taken along.
    fn find_cold(&mut self, source: &Source<'_>) {
        let ops = || self.bodies.0.values().flatten();
        self.needs_tables = ops().any(|op| is_call_by_table(op) || matches!(op.kind, Kind::OfTable));
        self.needs_data = ops().any(|op| matches!(op.kind, Kind::OfData));
        let mentioned = ops().filter_map(|op| match op.kind {
            Kind::Call(function) | Kind::ReturnCall(function) | Kind::RefFunc(function) => Some(function),
            _ => None,
        });
        let in_tables = self.needs_tables.then_some(&source.in_tables).into_iter().flatten().copied();
        let mentioned: BTreeSet<u32> = mentioned.chain(in_tables).collect();
        let is_cold = |function: &u32| source.defined(*function).is_some() && !self.taken.contains(function);
        self.cold = mentioned.iter().copied().filter(is_cold).collect();
        self.imported = mentioned.into_iter().filter(|function| *function < source.imported_functions).collect();
    }
}

fn is_call_by_table(op: &Op) -> bool {
    matches!(op.kind, Kind::CallIndirect { .. } | Kind::ReturnCallIndirect { .. })
}

fn callees(ops: &[Op]) -> impl Iterator<Item = u32> {
    ops.iter().filter_map(|op| match op.kind {
        Kind::Call(function) | Kind::ReturnCall(function) | Kind::RefFunc(function) => Some(function),
        _ => None,
    })
}

/// The new indices. Functions come in this order: imports that are needed, cold functions, the two imports for leaving,
/// functions that are taken along, functions that begin at a loop, and last the function by which the part is entered.
/// Types come in the order in which they are first needed. There are no others, since Wasmtime compiles a trampoline
/// for every type that a module has.
struct Indices<'a> {
    source: &'a Source<'a>,
    functions: HashMap<u32, u32>,
    /// The index of the first function that begins at a loop.
    rests: u32,
    types: RefCell<Types>,
}

#[derive(Default)]
struct Types {
    new: HashMap<(Vec<wasmparser::ValType>, Vec<wasmparser::ValType>), u32>,
    written: Entries,
}

impl<'a> Indices<'a> {
    /// Numbers the functions, with so many more imports after the cold ones.
    fn of(source: &'a Source<'a>, selection: &Selection, imports: u32) -> Self {
        let mut functions: HashMap<u32, u32> =
            selection.imported.iter().chain(&selection.cold).copied().zip(0..).collect();
        let taken = functions.len() as u32 + imports;
        functions.extend(selection.taken.iter().copied().zip(taken..));
        Self { source, functions, rests: taken + selection.taken.len() as u32, types: RefCell::default() }
    }

    fn function(&self, function: u32) -> u32 {
        self.functions.get(&function).copied().unwrap_or(u32::MAX)
    }

    fn ty(&self, ty: u32) -> u32 {
        let ty = &self.source.types[ty as usize];
        self.type_of(ty.params(), ty.results())
    }

    fn type_of(&self, params: &[wasmparser::ValType], results: &[wasmparser::ValType]) -> u32 {
        let mut types = self.types.borrow_mut();
        let Types { new, written } = &mut *types;
        *new.entry((params.to_vec(), results.to_vec())).or_insert_with(|| {
            written.function_type(&any_types(params), &any_types(results));
            written.count - 1
        })
    }

    fn block_type(&self, ty: BlockType) -> NewBlockType {
        match ty {
            BlockType::Empty => NewBlockType::Empty,
            BlockType::Type(ty) => NewBlockType::Result(any_types(&[ty])[0]),
            BlockType::FuncType(ty) => NewBlockType::FunctionType(self.ty(ty)),
        }
    }
}

impl Reencode for &Indices<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        Ok(self.function(function))
    }
}

fn write(
    module: &[u8],
    source: &Source<'_>,
    entries: &[Entry],
    selection: &Selection,
    resumed: &BTreeMap<u32, Vec<Resumed>>,
    exits: Exits,
) -> Result<Plan, NoPart> {
    let indices = Indices::of(source, selection, if exits.all.is_empty() { 0 } else { 2 });
    let mut draft = Draft {
        module,
        source,
        selection,
        resumed,
        indices: &indices,
        imports: Entries::default(),
        functions: Entries::default(),
        code: CodeSection::new(),
        frame: u32::from(source.has_memory),
        resume: source.sections.count(id::GLOBAL)?,
    };
    let leaving = draft.imports(&exits)?;
    draft.taken(leaving.as_ref())?;
    draft.entries(entries, leaving.as_ref())?;
    Ok(Plan {
        bytes: draft.finish(entries)?,
        points: entries.iter().map(|entry| entry.point).collect(),
        cold: selection.cold.iter().copied().collect(),
        globals: source.mutable_globals.clone(),
        has_memory: source.has_memory,
        exits: exits.all,
    })
}

/// A part that is being written.
struct Draft<'a> {
    module: &'a [u8],
    source: &'a Source<'a>,
    selection: &'a Selection,
    resumed: &'a BTreeMap<u32, Vec<Resumed>>,
    indices: &'a Indices<'a>,
    imports: Entries,
    functions: Entries,
    code: CodeSection,
    /// The index of the frame's memory.
    frame: u32,
    /// The index of the global that says where a function is to go on.
    resume: u32,
}

impl<'a> Draft<'a> {
    /// Writes the imports. Returns what the code needs at `exits`, if there are any.
    fn imports<'e>(&mut self, exits: &'e Exits) -> Result<Option<Leaving<'e>>, NoPart> {
        let Self { source, selection, indices, imports, .. } = self;
        for function in &selection.imported {
            let (module, name, ty) = source.imports[*function as usize];
            import(imports, module, name, indices.ty(ty));
        }
        for function in &selection.cold {
            let ty = &source.types[source.function_type(*function) as usize];
            if ty.params().iter().chain(ty.results()).any(|ty| matches!(ty, wasmparser::ValType::Ref(_))) {
                return Err(NoPart::References);
            }
            import(imports, COLD, &cold_import(*function), indices.ty(source.function_type(*function)));
        }
        if exits.all.is_empty() {
            return Ok(None);
        }
        for (name, params) in [(ASK, &[wasmparser::ValType::I32][..]), (RUN, &[])] {
            import(imports, COLD, name, indices.type_of(params, params));
        }
        Ok(Some(Leaving { ask: imports.count - 2, run: imports.count - 1, frame: self.frame, exits }))
    }

    /// Writes the functions that the part takes along.
    fn taken(&mut self, leaving: Option<&Leaving<'a>>) -> Result<(), NoPart> {
        for function in &self.selection.taken {
            let Self { module, source, indices, .. } = *self;
            self.functions.add(|out| indices.ty(source.function_type(*function)).encode(out));
            let ops = &self.selection.bodies.0[function];
            let body = &source.bodies[source.defined(*function).unwrap_or_default()];
            let ty = &source.types[source.function_type(*function) as usize];
            within("locals times loops of a function", count_locals(ty, body)? * loops(ops), LOCALS_IN_LOOPS_MAX)?;
            let leaving = leaving.map(|leaving| leaving.of(*function, ty, body)).transpose()?.flatten();
            let written = match self.resumed.get(function) {
                Some(loops) => {
                    let locals = (&locals(ty, body)?[..], ty.params().len());
                    Writer::resumable(module, indices, ops, loops, locals, (self.frame, self.resume), leaving)
                }
                None => Writer::whole(module, body, indices, ops, leaving)?,
            };
            self.add_code(&written)?;
        }
        Ok(())
    }

    /// Writes the functions that begin at a loop, and the function by which the part is entered.
    fn entries(&mut self, entries: &[Entry], leaving: Option<&Leaving<'a>>) -> Result<(), NoPart> {
        let mut enter = Enter { frame: self.frame, resume: self.resume, entries: Vec::new() };
        for entry in entries {
            let Self { module, source, indices, .. } = *self;
            let function = source.imported_functions + entry.place.function;
            let ty = &source.types[source.function_type(function) as usize];
            let mut entered = Entered {
                function: indices.function(function),
                params: ty.params().to_vec(),
                results: ty.results().to_vec(),
                resumed: None,
            };
            match &entry.way {
                Way::Beginning => {}
                Way::Within(number) => entered.resumed = Some(*number),
                Way::Rest(path) => {
                    entered.function = self.imports.count + self.functions.count;
                    entered.params = Vec::new();
                    self.functions.add(|out| indices.type_of(&[], ty.results()).encode(out));
                    let body = &source.bodies[entry.place.function as usize];
                    let locals = locals(ty, body)?;
                    let ops = &self.selection.bodies.0[&function];
                    let loops = loops(ops) + path.len();
                    within("locals times loops of a function", locals.len() * loops, LOCALS_IN_LOOPS_MAX)?;
                    let leaving = leaving.map(|leaving| leaving.of(function, ty, body)).transpose()?.flatten();
                    let rest = Writer::rest(module, indices, ops, path, &locals, self.frame, leaving);
                    self.add_code(&rest)?;
                }
            }
            enter.entries.push(entered);
        }
        self.functions.add(|out| self.indices.type_of(&[wasmparser::ValType::I32], &[]).encode(out));
        self.code.raw(&enter.write());
        Ok(())
    }

    fn add_code(&mut self, function: &[u8]) -> Result<(), NoPart> {
        within("its size in bytes", self.code.byte_len() + function.len(), PART_BYTES_MAX)?;
        self.code.raw(function);
        Ok(())
    }

    fn exports(&self) -> Entries {
        let mut exports = Entries::default();
        // The last function is the one by which the part is entered.
        exports.export(ENTER, ExportKind::Func, self.imports.count + self.functions.count - 1);
        for global in &self.source.mutable_globals {
            exports.export(&global_export(*global), ExportKind::Global, *global);
        }
        if self.source.has_memory {
            exports.export(MEMORY_EXPORT, ExportKind::Memory, 0);
        }
        if self.source.exports_memory {
            exports.export("memory", ExportKind::Memory, 0);
        }
        exports
    }

    fn finish(self, entries: &[Entry]) -> Result<Vec<u8>, NoPart> {
        let exports = self.exports();
        let Self { source, selection, resumed, indices, imports, functions, code, .. } = self;
        let sections = &source.sections;
        let mut part = Module::new();
        let copied = |section: u8| sections.get(section).map(<[u8]>::to_vec);
        for section in id::ORDER {
            let bytes = match section {
                id::TYPE => indices.types.borrow().written.section(),
                id::IMPORT => imports.section(),
                id::FUNCTION => functions.section(),
                id::TABLE if selection.needs_tables => copied(section),
                // One page holds the locals of any function that can be left.
                id::MEMORY => Some(sections.with(section, &[1, 1, 1], 1)?),
                id::GLOBAL if resumed.is_empty() => copied(section),
                id::GLOBAL => Some(sections.with(section, &[0x7f, 1, 0x41, 0, 0x0b], 1)?),
                id::EXPORT => exports.section(),
                id::ELEMENT if selection.needs_tables => {
                    write_elements(sections, indices, &mut part)?;
                    None
                }
                id::DATA_COUNT if selection.needs_data => copied(section),
                id::CODE => {
                    part.section(&code);
                    None
                }
                id::DATA if selection.needs_data => emptied_data(sections)?,
                _ => None,
            };
            if let Some(bytes) = bytes {
                push_section(&mut part, section, &bytes);
            }
        }
        write_names(entries, indices, &mut part);
        Ok(part.finish())
    }
}

fn loops(ops: &[Op]) -> usize {
    ops.iter().filter(|op| matches!(op.kind, Kind::Loop { .. })).count()
}

fn import(imports: &mut Entries, module: &str, name: &str, ty: u32) {
    imports.add(|out| {
        module.encode(out);
        name.encode(out);
        out.push(0);
        ty.encode(out);
    });
}

fn write_elements(sections: &Sections<'_>, mut indices: &Indices<'_>, part: &mut Module) -> Result<(), NoPart> {
    if let Some(bytes) = sections.get(id::ELEMENT) {
        let mut elements = ElementSection::new();
        let reader = wasmparser::ElementSectionReader::new(BinaryReader::new(bytes, 0))?;
        indices.parse_element_section(&mut elements, reader)?;
        part.section(&elements);
    }
    Ok(())
}

/// The data segments: passive ones as they were, and an empty one in place of each active one, which was written to
/// memory and dropped long ago.
fn emptied_data(sections: &Sections<'_>) -> Result<Option<Vec<u8>>, NoPart> {
    let Some(bytes) = sections.get(id::DATA) else { return Ok(None) };
    let mut segments = Entries::default();
    for segment in wasmparser::DataSectionReader::new(BinaryReader::new(bytes, 0))? {
        let segment = segment?;
        let data: &[u8] = match segment.kind {
            wasmparser::DataKind::Passive => segment.data,
            wasmparser::DataKind::Active { .. } => &[],
        };
        segments.add(|out| {
            out.push(1);
            data.encode(out);
        });
    }
    Ok(segments.section())
}

/// Writes the names of the guest's functions, for people who read traps and profiles.
fn write_names(entries: &[Entry], indices: &Indices<'_>, part: &mut Module) {
    let source = indices.source;
    let mut named: Vec<(u32, &str)> =
        indices.functions.iter().filter_map(|(old, new)| Some((*new, *source.names.get(old)?))).collect();
    let rests = entries.iter().filter(|entry| matches!(entry.way, Way::Rest(_)));
    for (index, entry) in (indices.rests..).zip(rests) {
        let name = source.names.get(&(source.imported_functions + entry.place.function));
        named.extend(name.map(|name| (index, *name)));
    }
    named.sort_unstable();
    let mut functions = NameMap::new();
    for (index, name) in named {
        functions.append(index, name);
    }
    let mut names = NameSection::new();
    names.functions(&functions);
    part.section(&names);
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), NoPart> {
    if found > max { Err(NoPart::TooLarge { what, found, max }) } else { Ok(()) }
}

/// The number of a function's parameters and locals. They are only counted, since listing them could take much memory.
fn count_locals(ty: &FuncType, body: &FunctionBody<'_>) -> Result<usize, wasmparser::Error> {
    body.get_locals_reader()?.into_iter().try_fold(ty.params().len(), |sum, group| Ok(sum + group?.0 as usize))
}

/// Writes the operator if it names a function or a type, with the new indices. Returns whether it does.
fn with_indices(op: &Op, indices: &Indices<'_>, out: &mut Vec<u8>) -> bool {
    let instruction = match op.kind {
        Kind::Block { ty: ty @ BlockType::FuncType(_), .. } => Instruction::Block(indices.block_type(ty)),
        Kind::Loop { ty: ty @ BlockType::FuncType(_), .. } => Instruction::Loop(indices.block_type(ty)),
        Kind::If { ty: ty @ BlockType::FuncType(_), .. } => Instruction::If(indices.block_type(ty)),
        Kind::Call(function) => Instruction::Call(indices.function(function)),
        Kind::ReturnCall(function) => Instruction::ReturnCall(indices.function(function)),
        Kind::RefFunc(function) => Instruction::RefFunc(indices.function(function)),
        Kind::CallIndirect { ty, table } => {
            Instruction::CallIndirect { type_index: indices.ty(ty), table_index: table }
        }
        Kind::ReturnCallIndirect { ty, table } => {
            Instruction::ReturnCallIndirect { type_index: indices.ty(ty), table_index: table }
        }
        _ => return false,
    };
    instruction.encode(out);
    true
}

/// Writes the function by which the part is entered.
struct Enter {
    /// The index of the frame's memory.
    frame: u32,
    /// The index of the global that says where a function is to go on.
    resume: u32,
    entries: Vec<Entered>,
}

/// The function that one entry calls.
struct Entered {
    function: u32,
    params: Vec<wasmparser::ValType>,
    results: Vec<wasmparser::ValType>,
    /// The number of the loop at which the function is to go on, if it is to; then it reads its locals from the frame
    /// itself.
    resumed: Option<u32>,
}

impl Enter {
    fn write(&self) -> Vec<u8> {
        // For each type that results have, one local, which holds a value on its way to the frame.
        let mut scratch: Vec<wasmparser::ValType> = Vec::new();
        for ty in self.entries.iter().flat_map(|entered| &entered.results) {
            if !scratch.contains(ty) {
                scratch.push(*ty);
            }
        }
        let mut function = Function::new(scratch.iter().map(|ty| (1, val_type(*ty))).collect::<Vec<_>>());
        let mut code = function.instructions();
        // A block for each entry, the first one innermost, and a block around them for numbers that no entry has.
        let count = self.entries.len() as u32;
        for _ in 0..=count {
            code.block(NewBlockType::Empty);
        }
        code.local_get(0).br_table(0..count, count).end();
        let resumes = self.entries.iter().any(|entered| entered.resumed.is_some());
        for Entered { function, params, results, resumed } in &self.entries {
            // The number is set each time: a function that trapped before it read the number has left it there.
            if resumes {
                code.i32_const(resumed.unwrap_or_default().cast_signed()).global_set(self.resume);
            }
            for (at, ty) in (0..).zip(params) {
                code.i32_const(0);
                load(&mut code, *ty, slot(self.frame, at));
            }
            code.call(*function);
            // The last result is on top of the stack. A store needs the address below the value, hence the local.
            for (at, ty) in results.iter().enumerate().rev() {
                let local = 1 + scratch.iter().position(|of_scratch| of_scratch == ty).unwrap_or_default() as u32;
                code.local_set(local).i32_const(0).local_get(local);
                store(&mut code, *ty, slot(self.frame, at as u64));
            }
            code.return_().end();
        }
        code.unreachable().end();
        function.into_raw_body()
    }
}

/// The exits at which guests can leave the part.
#[derive(Default)]
struct Exits {
    all: Vec<Exit>,
    /// For each function with exits, by its index in the guest's module: the number of each exit by the offset of its
    /// place.
    numbers: HashMap<u32, HashMap<u32, u32>>,
}

impl Exits {
    /// Finds the exits: all points of the functions that are written, up to [`EXITS_MAX`].
    fn of(source: &Source<'_>, places: &Places, selection: &Selection) -> Result<Self, NoPart> {
        let mut exits = Self::default();
        for (point, place) in places.iter() {
            let function = source.imported_functions + place.function;
            if !selection.bodies.0.contains_key(&function) || exits.all.len() == EXITS_MAX {
                continue;
            }
            let ty = &source.types[source.function_type(function) as usize];
            let locals = count_locals(ty, &source.bodies[place.function as usize])?;
            exits.numbers.entry(function).or_default().insert(place.at, exits.all.len() as u32);
            exits.all.push(Exit { point, values: locals.max(ty.results().len()) as u32 });
        }
        Ok(exits)
    }
}

/// What the code at exits needs.
struct Leaving<'a> {
    /// The index of the import [`ASK`].
    ask: u32,
    /// The index of the import [`RUN`].
    run: u32,
    /// The index of the frame's memory.
    frame: u32,
    exits: &'a Exits,
}

impl<'a> Leaving<'a> {
    /// The same for one function, by its index in the guest's module; `None` if it has no exits.
    fn of(
        &'a self,
        function: u32,
        ty: &FuncType,
        body: &FunctionBody<'_>,
    ) -> Result<Option<LeavingFunction<'a>>, NoPart> {
        let Some(exits) = self.exits.numbers.get(&function) else { return Ok(None) };
        Ok(Some(LeavingFunction { leaving: self, exits, locals: locals(ty, body)?, results: ty.results().to_vec() }))
    }
}

/// What the code at the exits of one function needs.
struct LeavingFunction<'a> {
    leaving: &'a Leaving<'a>,
    /// The numbers of the function's exits by the offsets of their places.
    exits: &'a HashMap<u32, u32>,
    locals: Vec<wasmparser::ValType>,
    results: Vec<wasmparser::ValType>,
}

/// Writes a function: as it was, or so that it begins at one of its loops and reads its locals from the frame.
struct Writer<'a> {
    module: &'a [u8],
    indices: &'a Indices<'a>,
    ops: &'a [Op],
    out: Vec<u8>,
    /// The number of blocks that are open.
    height: u32,
    /// For each label of the original that is in scope, outermost first, the height of its block in the new function.
    labels: Vec<u32>,
    /// What the code at the function's exits needs, if it has any.
    leaving: Option<LeavingFunction<'a>>,
}

impl<'a> Writer<'a> {
    /// Writes a function as it was, except for indices and exits.
    fn whole(
        module: &'a [u8],
        body: &FunctionBody<'_>,
        indices: &'a Indices<'a>,
        ops: &'a [Op],
        leaving: Option<LeavingFunction<'a>>,
    ) -> Result<Vec<u8>, NoPart> {
        let code_start = body.get_operators_reader()?.original_position();
        let out = module[body.range().start..code_start].to_vec();
        let mut function = Self { module, indices, ops, out, height: 0, labels: Vec::new(), leaving };
        function.begin();
        // The function's entry has the offset 0.
        function.exit(0);
        // Jumps keep their depths: the blocks around the body are further out than any block that a jump means.
        for op in &ops[..ops.len() - 1] {
            if !with_indices(op, indices, &mut function.out) {
                function.out.extend_from_slice(&module[op.range.clone()]);
            }
            match op.kind {
                Kind::Block { .. } | Kind::If { .. } => function.height += 1,
                Kind::Loop { .. } => {
                    function.height += 1;
                    function.exit(op.range.end);
                }
                Kind::End => function.height -= 1,
                _ => {}
            }
        }
        Ok(function.finish())
    }

    /// Writes what is left of a function from the loop at the end of `path` on.
    fn rest(
        module: &'a [u8],
        indices: &'a Indices<'a>,
        ops: &'a [Op],
        path: &[usize],
        locals: &[wasmparser::ValType],
        frame: u32,
        leaving: Option<LeavingFunction<'a>>,
    ) -> Vec<u8> {
        let mut function = Function::new_with_locals_types(locals.iter().copied().map(val_type));
        let mut code = function.instructions();
        for (local, ty) in (0..).zip(locals) {
            code.i32_const(0);
            load(&mut code, *ty, slot(frame, local.into()));
            code.local_set(local);
        }
        let out = function.into_raw_body();
        let mut rest = Self { module, indices, ops, out, height: 0, labels: Vec::new(), leaving };
        rest.begin();
        rest.level(path, ops.len() - 1);
        rest.finish()
    }

    /// Writes a function as it was that can also be entered at these loops: if the global `resume` has the number of
    /// one of them, the locals are in the frame, and all code before that loop is skipped. Each turn of a loop that
    /// contains one of these loops checks the number again, which takes little time beside the loop within.
    fn resumable(
        module: &'a [u8],
        indices: &'a Indices<'a>,
        ops: &'a [Op],
        loops: &[Resumed],
        (locals, params): (&[wasmparser::ValType], usize),
        (frame, resume): (u32, u32),
        leaving: Option<LeavingFunction<'a>>,
    ) -> Vec<u8> {
        let number = locals.len() as u32;
        let more = locals[params..].iter().copied().map(val_type).chain([ValType::I32]);
        let mut function = Function::new_with_locals_types(more);
        let mut code = function.instructions();
        code.global_get(resume).local_tee(number).if_(NewBlockType::Empty);
        for (local, ty) in (0..).zip(locals) {
            code.i32_const(0);
            load(&mut code, *ty, slot(frame, local.into()));
            code.local_set(local);
        }
        code.i32_const(0).global_set(resume).end();
        let out = function.into_raw_body();
        let mut function = Self { module, indices, ops, out, height: 0, labels: Vec::new(), leaving };
        function.begin();
        function.open_skipped(number);
        function.exit(0);
        function.close_unlabelled();
        let targets: Vec<Target<'_>> = (1..).zip(loops).map(|(id, resumed)| (id, &resumed.path[..])).collect();
        function.find(&targets, 0..ops.len() - 1, number, loops.len() as u32);
        function.finish()
    }

    /// Writes a sequence of operators that contains `targets`, the loops at which the function can be entered. At run
    /// time the local `number` has the number of the loop to go to, or 0 if there is none. `last` is the highest number
    /// in the function.
    fn find(&mut self, targets: &[Target<'_>], range: Range<usize>, number: u32, last: u32) {
        let mut at = range.start;
        let mut left = targets;
        while let Some((_, path)) = left.first() {
            let next = path[0];
            let (within, after) = left.split_at(left.partition_point(|(_, path)| path[0] <= next));
            left = after;
            match self.ops[next].kind {
                Kind::Loop { end, .. } => {
                    let own = within.iter().find(|(_, path)| path.len() == 1).map(|(id, _)| *id);
                    let inner = inner(within);
                    let highest = within.last().map_or(0, |(id, _)| *id);
                    self.skipped(at..next, number);
                    // An activation that goes to a later loop skips this one.
                    if highest < last {
                        self.open_unlabelled(Opener::Block, BlockType::Empty);
                        let mut code = InstructionSink::new(&mut self.out);
                        code.local_get(number).i32_const(highest.cast_signed()).i32_gt_u().br_if(0);
                    }
                    if let Some(own) = own {
                        let mut code = InstructionSink::new(&mut self.out);
                        code.local_get(number).i32_const(own.cast_signed()).i32_eq().if_(NewBlockType::Empty);
                        code.i32_const(0).local_set(number).end();
                    }
                    if inner.is_empty() {
                        self.operator(next);
                    } else {
                        self.open(Opener::Loop, BlockType::Empty);
                        // An activation that goes to a loop within this one is not at the head of this one, and does
                        // not ask.
                        self.open_skipped(number);
                        self.exit(self.ops[next].range.end);
                        self.close_unlabelled();
                        self.find(&inner, next + 1..end, number, last);
                        self.close();
                    }
                    if highest < last {
                        self.close_unlabelled();
                    }
                    at = end + 1;
                }
                Kind::Block { ty, end } => {
                    self.skipped(at..next, number);
                    self.open(Opener::Block, ty);
                    self.find(&inner(within), next + 1..end, number, last);
                    self.close();
                    at = end + 1;
                }
                Kind::If { ty, otherwise, end } => {
                    let (then, or_else) = within.split_at(
                        within.partition_point(|(_, path)| otherwise.is_none_or(|otherwise| path[1] < otherwise)),
                    );
                    // The condition is computed by the operators before it. An activation that goes to a loop skips
                    // them, and takes the arm with that loop.
                    self.open_unlabelled(Opener::Block, BlockType::Type(wasmparser::ValType::I32));
                    let mut code = InstructionSink::new(&mut self.out);
                    match (then.last(), or_else.is_empty()) {
                        (Some((id, _)), false) => code.local_get(number).i32_const(id.cast_signed()).i32_le_u(),
                        (is_then, _) => code.i32_const(is_then.is_some().into()),
                    };
                    code.local_get(number).br_if(0).drop();
                    self.sequence(at..next);
                    self.close_unlabelled();
                    self.open(Opener::If, ty);
                    self.find(&inner(then), next + 1..otherwise.unwrap_or(end), number, last);
                    if let Some(otherwise) = otherwise {
                        self.out.push(ELSE);
                        self.find(&inner(or_else), otherwise + 1..end, number, last);
                    }
                    self.close();
                    at = end + 1;
                }
                _ => unreachable!("a path consists of blocks"),
            }
        }
        match targets.last() {
            Some((id, _)) if *id < last => self.skipped(at..range.end, number),
            // No activation comes here that still has to go to a loop.
            _ => self.sequence(at..range.end),
        }
    }

    /// Writes a sequence that leaves the operand stack as it was; an activation that goes to a loop skips it.
    fn skipped(&mut self, range: Range<usize>, number: u32) {
        if !range.is_empty() {
            self.open_skipped(number);
            self.sequence(range);
            self.close_unlabelled();
        }
    }

    fn open_skipped(&mut self, number: u32) {
        self.open_unlabelled(Opener::Block, BlockType::Empty);
        InstructionSink::new(&mut self.out).local_get(number).br_if(0);
    }

    /// If the function can be left, opens the two blocks that [`hand_over`] expects: the inner one holds the body.
    fn begin(&mut self) {
        if let Some(leaving) = &self.leaving {
            let results = match &leaving.results[..] {
                [] => NewBlockType::Empty,
                [one] => NewBlockType::Result(val_type(*one)),
                several => NewBlockType::FunctionType(self.indices.type_of(&[], several)),
            };
            InstructionSink::new(&mut self.out).block(NewBlockType::Empty).block(results);
            self.height = BODY_HEIGHT;
        }
        self.labels.push(self.height);
    }

    fn finish(mut self) -> Vec<u8> {
        self.out.push(END);
        if let Some(LeavingFunction { leaving, locals, results, .. }) = &self.leaving {
            let mut code = InstructionSink::new(&mut self.out);
            hand_over(&mut code, locals, results, leaving.frame, |code| _ = code.call(leaving.run));
        }
        self.out
    }

    /// Asks whether to leave, if there is an exit at this offset in the guest's module.
    fn exit(&mut self, at: usize) {
        let Some(LeavingFunction { leaving, exits, .. }) = &self.leaving else { return };
        let Some(number) = exits.get(&(at as u32)) else { return };
        let flag = MemArg { offset: u64::from(FLAGS_AT + number), align: 0, memory_index: leaving.frame };
        let mut code = InstructionSink::new(&mut self.out);
        code.i32_const(0).i32_load8_u(flag).if_(NewBlockType::Empty);
        // All open blocks are around the `if`; a jump to the end of the outermost leaves.
        code.i32_const(number.cast_signed()).call(leaving.ask).br_if(self.height).end();
    }

    /// Writes what is left of the sequence of operators that ends at `end` and in which `path` begins.
    fn level(&mut self, path: &[usize], end: usize) {
        let [at, inner @ ..] = path else { return };
        let Some(next) = inner.first() else { return self.sequence(*at..end) };
        let after = match self.ops[*at].kind {
            Kind::Block { ty, end } => {
                self.open(Opener::Block, ty);
                self.level(inner, end);
                self.close();
                end
            }
            // Of an `if`, only the arm with the point is left.
            Kind::If { ty, otherwise, end } => {
                self.open(Opener::Block, ty);
                self.level(inner, otherwise.filter(|otherwise| next < otherwise).unwrap_or(end));
                self.close();
                end
            }
            Kind::Loop { ty, end } => {
                // First comes the rest of this turn. A jump to the loop's head goes on with the loop in full, which
                // follows; the end of the turn skips it.
                self.open_unlabelled(Opener::Block, ty);
                let done = self.height;
                self.open(Opener::Block, BlockType::Empty);
                self.level(inner, end);
                self.labels.pop();
                self.branch(BR, done);
                self.close_unlabelled();
                self.operator(*at);
                self.close_unlabelled();
                end
            }
            _ => unreachable!("a path consists of blocks"),
        };
        self.sequence(after + 1..end);
    }

    fn sequence(&mut self, range: Range<usize>) {
        let mut at = range.start;
        // A function that gets too long is not finished: the caller gives up the part.
        while at < range.end && self.out.len() <= PART_BYTES_MAX {
            at = self.operator(at);
        }
    }

    /// Writes the operator, with everything inside it if it is a block, and returns the index of the next one.
    fn operator(&mut self, at: usize) -> usize {
        let op = &self.ops[at];
        match &op.kind {
            Kind::Block { ty, end } => {
                self.open(Opener::Block, *ty);
                self.sequence(at + 1..*end);
                self.close();
                end + 1
            }
            Kind::Loop { ty, end } => {
                self.open(Opener::Loop, *ty);
                self.exit(op.range.end);
                self.sequence(at + 1..*end);
                self.close();
                end + 1
            }
            Kind::If { ty, otherwise, end } => {
                self.open(Opener::If, *ty);
                self.sequence(at + 1..otherwise.unwrap_or(*end));
                if let Some(otherwise) = otherwise {
                    self.out.push(ELSE);
                    self.sequence(otherwise + 1..*end);
                }
                self.close();
                end + 1
            }
            Kind::Br(depth) => {
                self.branch(BR, self.target(*depth));
                at + 1
            }
            Kind::BrIf(depth) => {
                self.branch(BR_IF, self.target(*depth));
                at + 1
            }
            Kind::BrTable(depths) => {
                self.out.push(BR_TABLE);
                (depths.len() - 1).encode(&mut self.out);
                for depth in depths {
                    (self.height - self.target(*depth)).encode(&mut self.out);
                }
                at + 1
            }
            _ => {
                if !with_indices(op, self.indices, &mut self.out) {
                    self.out.extend_from_slice(&self.module[op.range.clone()]);
                }
                at + 1
            }
        }
    }

    fn open(&mut self, opener: Opener, ty: BlockType) {
        self.open_unlabelled(opener, ty);
        self.labels.push(self.height);
    }

    /// Opens a block that the original does not have, so that no label of the original means it.
    fn open_unlabelled(&mut self, opener: Opener, ty: BlockType) {
        let ty = self.indices.block_type(ty);
        match opener {
            Opener::Block => Instruction::Block(ty),
            Opener::Loop => Instruction::Loop(ty),
            Opener::If => Instruction::If(ty),
        }
        .encode(&mut self.out);
        self.height += 1;
    }

    fn close(&mut self) {
        self.labels.pop();
        self.close_unlabelled();
    }

    fn close_unlabelled(&mut self) {
        self.out.push(END);
        self.height -= 1;
    }

    fn target(&self, depth: u32) -> u32 {
        self.labels[self.labels.len() - 1 - depth as usize]
    }

    fn branch(&mut self, opcode: u8, target: u32) {
        self.out.push(opcode);
        (self.height - target).encode(&mut self.out);
    }
}

/// The number of a loop that a function can go to at once, and the rest of the path to it.
type Target<'a> = (u32, &'a [usize]);

/// The targets that are within the block that comes first on their paths, with that block taken off the paths.
fn inner<'a>(targets: &[Target<'a>]) -> Vec<Target<'a>> {
    targets.iter().map(|(id, path)| (*id, &path[1..])).filter(|(_, path)| !path.is_empty()).collect()
}

#[derive(Clone, Copy)]
enum Opener {
    Block,
    Loop,
    If,
}

/// The number of blocks that are open where the body of a function that can be left begins.
const BODY_HEIGHT: u32 = 2;
const ELSE: u8 = 0x05;
const END: u8 = 0x0b;
const BR: u8 = 0x0c;
const BR_IF: u8 = 0x0d;
const BR_TABLE: u8 = 0x0e;
