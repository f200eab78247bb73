//! Writing the module in which a guest goes on: a part of its own module, entered in the middle.

#![expect(clippy::cast_possible_truncation, reason = "a module is smaller than 4 GiB: its indices fit 32 bits")]

use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType as NewBlockType, CodeSection, ElementSection, Encode, ExportKind, Function, Instruction, MemArg, Module,
    NameMap, NameSection, ValType,
};
use wasmparser::{
    BinaryReader, BlockType, ElementItems, ExternalKind, FuncType, FuncValidatorAllocations, FunctionBody, KnownCustom,
    Name, Operator, OperatorsReader, Parser, Payload, TypeRef, ValidPayload, Validator,
};

use super::frame::{SLOT_BYTES, load, locals, store, val_type};
use super::moves::Extent;
use super::places::{Place, Places, Point};
use super::sections::{Entries, Sections, id, push_section};
use super::{global_export, hidden};

/// The module name of the functions that a part leaves to the engine that its guest came from.
pub(crate) const COLD: &str = "remuda part";
/// The part's memory, whether or not the guest exports it.
pub(crate) const MEMORY_EXPORT: &str = hidden!("memory");
/// The memory through which locals and results are handed over: a value every [`SLOT_BYTES`] bytes.
pub(crate) const FRAME_EXPORT: &str = hidden!("frame");
/// The one way in: takes the number of an entry, finds its locals in the frame, and leaves its results there. Wasmtime
/// compiles a trampoline for each function that is exported, with Cranelift even where the code is Winch's; so it is one.
pub(crate) const ENTER: &str = hidden!("enter");

/// Entries of a part, at most: those that somebody asked for come first.
const ENTRIES_MAX: usize = 500;
/// Code of functions that a part takes along, in bytes. What a loop calls is taken breadth first; what is beyond this is
/// called where the guest came from. Cranelift compiles some 3 MB of code a second on one core: a part is to be ready within
/// some twenty milliseconds. More makes moves late, less makes loops that call much run in slow code.
const CODE_BYTES_MAX: usize = 48 << 10;
/// A part as a module, in bytes at most: it is compiled in this process, while a guest waits for it to be over. Modules with
/// more code than this are compiled in children that can be stopped.
const PART_BYTES_MAX: usize = 64 << 10;
/// Locals times loops of one of its functions, at most: an optimizing compiler may keep every local apart in every loop, so
/// that little code can be much work. Modules with more are compiled in children.
const LOCALS_IN_LOOPS_MAX: usize = 10_000;
/// Functions that a part calls where its guest came from, at most: each is an import, made anew for each instance.
const COLD_MAX: usize = 2_000;

/// A part as a module.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bytes: Vec<u8>,
    /// The points at which it can be entered, by the numbers that [`ENTER`] takes.
    pub(crate) points: Vec<Point>,
    /// Functions of the guest's module that it imports of [`COLD`], by their index there.
    pub(crate) cold: Vec<u32>,
    /// Globals that can change, by their index in the guest's module; see [`global_export`].
    pub(crate) globals: Vec<u32>,
    pub(crate) has_memory: bool,
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
    #[error("a guest cannot leave at any of these points: values are on the operand stack there")]
    Nowhere,
    #[error("it would be too much to compile while a guest waits: {what} is {found}, and {max} is the most")]
    TooLarge { what: &'static str, found: usize, max: usize },
    #[error("it would hand a reference to a function that is left where its guest comes from")]
    References,
    #[error("it would call {found} functions of the engine that its guest comes from, and {COLD_MAX} are the most")]
    TooManyCold { found: usize },
}

/// Writes the part of `module` that goes on at `points`; those at which nobody can go on are left out.
pub(crate) fn build(module: &[u8], places: &Places, points: &[Point], extent: Extent) -> Result<Plan, NoPart> {
    let source = Source::read(module)?;
    let mut paths = Paths::default();
    let mut entries = Vec::new();
    let wanted: BTreeSet<Point> = points.iter().copied().collect();
    for point in wanted {
        let Some(place) = places.get(point) else { continue };
        if place.is_entry() {
            entries.push(Entry { point, place, path: None });
        } else if let Some(path) = paths.find(module, &source, place)? {
            entries.push(Entry { point, place, path: Some(path) });
        }
    }
    if entries.is_empty() && extent == Extent::Hot {
        return Err(NoPart::Nowhere);
    }
    let selection = Selection::of(&source, &entries, extent)?;
    if selection.cold.len() > COLD_MAX {
        return Err(NoPart::TooManyCold { found: selection.cold.len() });
    }
    // What is taken along can be entered from its beginning as well, whoever calls it where the guest came from.
    for (point, place) in places.iter().filter(|(_, place)| place.is_entry()) {
        let is_taken = selection.taken.contains(&(source.imported_functions + place.function));
        if is_taken && entries.len() < ENTRIES_MAX && entries.iter().all(|entry| entry.point != point) {
            entries.push(Entry { point, place, path: None });
        }
    }
    write(module, &source, &entries, &selection)
}

/// Where a part can be entered.
struct Entry {
    point: Point,
    place: Place,
    /// The operators that open the blocks around the loop, outermost first, and the loop itself; `None` at a function's
    /// entry.
    path: Option<Vec<usize>>,
}

/// The guest's module, as far as it is needed.
struct Source<'a> {
    sections: Sections<'a>,
    types: Vec<FuncType>,
    /// Module, name and type of the imported functions.
    imports: Vec<(&'a str, &'a str, u32)>,
    imported_functions: u32,
    /// Of all functions, imported ones first, as indices of types.
    function_types: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
    mutable_globals: Vec<u32>,
    has_memory: bool,
    exports_memory: bool,
    /// Functions that tables refer to.
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

    fn params(&self, ty: BlockType) -> usize {
        match ty {
            BlockType::FuncType(index) => self.types[index as usize].params().len(),
            BlockType::Empty | BlockType::Type(_) => 0,
        }
    }
}

/// An operator, as far as it is not copied as it is.
struct Op {
    kind: Kind,
    /// Offsets into the module.
    range: Range<usize>,
}

enum Kind {
    /// Blocks know their `end`; an `if` its `else`, too.
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
    /// It needs the tables, as what follows does.
    CallIndirect {
        ty: u32,
        table: u32,
    },
    ReturnCallIndirect {
        ty: u32,
        table: u32,
    },
    OfTable,
    /// It needs the data segments.
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

/// Finds the ways to loops, function by function.
#[derive(Default)]
struct Paths {
    /// By the offset of a loop's body.
    found: HashMap<u32, Option<Vec<usize>>>,
    read: BTreeSet<u32>,
}

impl Paths {
    /// The blocks around the loop at `place`, and the loop; `None` if there are values on the operand stack, or one of those
    /// blocks takes some.
    fn find(&mut self, module: &[u8], source: &Source<'_>, place: Place) -> Result<Option<Vec<usize>>, NoPart> {
        if self.read.insert(place.function) {
            self.read_function(module, source, place.function as usize)?;
        }
        Ok(self.found.get(&place.at).cloned().flatten())
    }

    fn read_function(&mut self, module: &[u8], source: &Source<'_>, function: usize) -> Result<(), NoPart> {
        let mut validator = Validator::new_with_features(wasmparser::WasmFeatures::all());
        let mut bodies = 0;
        for payload in Parser::new(0).parse_all(module) {
            let ValidPayload::Func(to_validate, body) = validator.payload(&payload?)? else { continue };
            bodies += 1;
            if bodies <= function {
                continue;
            }
            let mut stack = to_validate.into_validator(FuncValidatorAllocations::default());
            let mut reader = body.get_binary_reader();
            stack.read_locals(&mut reader)?;
            let mut operators = OperatorsReader::new(reader);
            // The operators that opened the blocks, and whether all of them can be opened anew.
            let mut open: Vec<(usize, bool)> = Vec::new();
            let mut at = 0;
            while !operators.eof() {
                let start = operators.original_position();
                let operator = operators.read()?;
                let height = stack.operand_stack_height();
                match operator {
                    Operator::Loop { blockty } | Operator::Block { blockty } | Operator::If { blockty } => {
                        let can = open.last().is_none_or(|(_, can)| *can) && source.params(blockty) == 0;
                        open.push((at, can));
                        if matches!(operator, Operator::Loop { .. }) {
                            let path = (can && height == 0).then(|| open.iter().map(|(at, _)| *at).collect());
                            let body = u32::try_from(operators.original_position()).unwrap_or_default();
                            self.found.insert(body, path);
                        }
                    }
                    Operator::End => drop(open.pop()),
                    _ => {}
                }
                stack.op(start, &operator)?;
                at += 1;
            }
            return Ok(());
        }
        Ok(())
    }
}

/// What a part consists of.
struct Selection {
    /// Functions that it takes along, as indices in the guest's module.
    taken: BTreeSet<u32>,
    /// Functions that it calls where its guest came from.
    cold: BTreeSet<u32>,
    /// Imports that it needs.
    imported: BTreeSet<u32>,
    needs_tables: bool,
    needs_data: bool,
    /// The operators of all functions that are written.
    ops: HashMap<u32, Vec<Op>>,
}

impl Selection {
    fn of(source: &Source<'_>, entries: &[Entry], extent: Extent) -> Result<Self, NoPart> {
        let mut selection = Self {
            taken: BTreeSet::new(),
            cold: BTreeSet::new(),
            imported: BTreeSet::new(),
            needs_tables: false,
            needs_data: false,
            ops: HashMap::new(),
        };
        if extent == Extent::Whole {
            let code_bytes = source.bodies.iter().map(|body| body.range().len()).sum();
            within("its size in bytes", code_bytes, PART_BYTES_MAX)?;
            for function in (source.imported_functions..).take(source.bodies.len()) {
                selection.taken.insert(function);
                selection.read(source, function)?;
            }
            selection.find_cold(source);
            return Ok(selection);
        }
        let mut bytes_left = CODE_BYTES_MAX;
        let mut next = VecDeque::new();
        let mut calls_by_table = false;
        for entry in entries {
            let function = source.imported_functions + entry.place.function;
            let ops = selection.read(source, function)?;
            match &entry.path {
                // Whoever enters a function pays for it, whatever its size.
                None => {
                    bytes_left = bytes_left.max(source.bodies[entry.place.function as usize].range().len());
                    next.push_front(function);
                }
                Some(path) => {
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
                let Some(left) = bytes_left.checked_sub(source.bodies[index].range().len()) else { continue };
                bytes_left = left;
                selection.taken.insert(function);
                let ops = selection.read(source, function)?;
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

    fn read(&mut self, source: &Source<'_>, function: u32) -> Result<&[Op], NoPart> {
        use std::collections::hash_map::Entry as Slot;
        match self.ops.entry(function) {
            Slot::Occupied(slot) => Ok(slot.into_mut()),
            Slot::Vacant(slot) => {
                let index = source.defined(function).unwrap_or_default();
                Ok(slot.insert(operators(&source.bodies[index])?))
            }
        }
    }

    /// Notes what the code that is written needs beside what is taken along.
    fn find_cold(&mut self, source: &Source<'_>) {
        let ops = || self.ops.values().flatten();
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

/// New indices: for functions, imports that are needed, then cold ones, then what is taken along, then the ways in; for
/// types, in the order in which they are first needed. Wasmtime compiles a trampoline for every type that there is, so
/// there are no others.
struct Indices<'a> {
    source: &'a Source<'a>,
    functions: HashMap<u32, u32>,
    types: RefCell<Types>,
}

#[derive(Default)]
struct Types {
    new: HashMap<(Vec<wasmparser::ValType>, Vec<wasmparser::ValType>), u32>,
    written: Entries,
}

impl<'a> Indices<'a> {
    fn of(source: &'a Source<'a>, selection: &Selection) -> Self {
        let all = selection.imported.iter().chain(&selection.cold).chain(&selection.taken);
        Self { source, functions: all.copied().zip(0..).collect(), types: RefCell::default() }
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
            written.add(|out| {
                out.push(0x60);
                any_types(params)[..].encode(out);
                any_types(results)[..].encode(out);
            });
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

/// Types as they are written, references among them: functions that take some may be taken along.
fn any_types(types: &[wasmparser::ValType]) -> Vec<ValType> {
    let written = |ty: &wasmparser::ValType| reencode::RoundtripReencoder.val_type(*ty);
    types.iter().map(written).collect::<Result<_, _>>().expect("a type that names no other can be written")
}

impl Reencode for &Indices<'_> {
    type Error = std::convert::Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, reencode::Error> {
        Ok(self.function(function))
    }
}

fn write(module: &[u8], source: &Source<'_>, entries: &[Entry], selection: &Selection) -> Result<Plan, NoPart> {
    let indices = Indices::of(source, selection);
    let (mut imports, mut functions) = (Entries::default(), Entries::default());
    for function in &selection.imported {
        let (module, name, ty) = source.imports[*function as usize];
        import(&mut imports, module, name, indices.ty(ty));
    }
    for function in &selection.cold {
        let ty = &source.types[source.function_type(*function) as usize];
        if ty.params().iter().chain(ty.results()).any(|ty| matches!(ty, wasmparser::ValType::Ref(_))) {
            return Err(NoPart::References);
        }
        import(&mut imports, COLD, &cold_import(*function), indices.ty(source.function_type(*function)));
    }
    let mut code = CodeSection::new();
    for function in &selection.taken {
        functions.add(|out| indices.ty(source.function_type(*function)).encode(out));
        let ops = &selection.ops[function];
        let loops = ops.iter().filter(|op| matches!(op.kind, Kind::Loop { .. })).count();
        let body = &source.bodies[source.defined(*function).unwrap_or_default()];
        let ty = &source.types[source.function_type(*function) as usize];
        within("locals times loops of a function", count_locals(ty, body)? * loops, LOCALS_IN_LOOPS_MAX)?;
        let function = whole(module, body, &indices, ops)?;
        within("its size in bytes", code.byte_len() + function.len(), PART_BYTES_MAX)?;
        code.raw(&function);
    }
    let mut exports = Entries::default();
    let mut enter = Enter { frame: u32::from(source.has_memory), entries: Vec::new() };
    for entry in entries {
        let function = source.imported_functions + entry.place.function;
        let ty = &source.types[source.function_type(function) as usize];
        let results = ty.results().to_vec();
        let Some(path) = &entry.path else {
            enter.entries.push((indices.function(function), ty.params().to_vec(), results));
            continue;
        };
        let locals = locals(ty, &source.bodies[entry.place.function as usize])?;
        enter.entries.push((imports.count + functions.count, Vec::new(), results));
        functions.add(|out| indices.type_of(&[], ty.results()).encode(out));
        let ops = &selection.ops[&function];
        let loops = ops.iter().filter(|op| matches!(op.kind, Kind::Loop { .. })).count() + path.len();
        within("locals times loops of a function", locals.len() * loops, LOCALS_IN_LOOPS_MAX)?;
        let rest = Rest::write(module, &indices, ops, path, &locals, enter.frame);
        within("its size in bytes", code.byte_len() + rest.len(), PART_BYTES_MAX)?;
        code.raw(&rest);
    }
    exports.export(ENTER, ExportKind::Func, imports.count + functions.count);
    exports.export(FRAME_EXPORT, ExportKind::Memory, enter.frame);
    functions.add(|out| indices.type_of(&[wasmparser::ValType::I32], &[]).encode(out));
    code.raw(&enter.write());
    for global in &source.mutable_globals {
        exports.export(&global_export(*global), ExportKind::Global, *global);
    }
    if source.has_memory {
        exports.export(MEMORY_EXPORT, ExportKind::Memory, 0);
    }
    if source.exports_memory {
        exports.export("memory", ExportKind::Memory, 0);
    }

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
            id::GLOBAL => copied(section),
            id::EXPORT => exports.section(),
            id::ELEMENT if selection.needs_tables => {
                write_elements(sections, &indices, &mut part)?;
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
    write_names(entries, &indices, &mut part);
    Ok(Plan {
        bytes: part.finish(),
        points: entries.iter().map(|entry| entry.point).collect(),
        cold: selection.cold.iter().copied().collect(),
        globals: source.mutable_globals.clone(),
        has_memory: source.has_memory,
    })
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

/// The data segments: passive ones as they were, and in place of each active one, which was written to memory long ago and
/// dropped, an empty one.
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

/// The names of the guest's functions, for those who read traps and profiles.
fn write_names(entries: &[Entry], indices: &Indices<'_>, part: &mut Module) {
    let source = indices.source;
    let mut named: Vec<(u32, &str)> =
        indices.functions.iter().filter_map(|(old, new)| Some((*new, *source.names.get(old)?))).collect();
    let rests = entries.iter().filter(|entry| entry.path.is_some());
    for (index, entry) in (indices.functions.len() as u32..).zip(rests) {
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

/// A function as it was, but for indices.
fn whole(module: &[u8], body: &FunctionBody<'_>, indices: &Indices<'_>, ops: &[Op]) -> Result<Vec<u8>, NoPart> {
    let code_start = body.get_operators_reader()?.original_position();
    let mut out = module[body.range().start..code_start].to_vec();
    for op in ops {
        if !with_indices(op, indices, &mut out) {
            out.extend_from_slice(&module[op.range.clone()]);
        }
    }
    Ok(out)
}

fn within(what: &'static str, found: usize, max: usize) -> Result<(), NoPart> {
    if found > max { Err(NoPart::TooLarge { what, found, max }) } else { Ok(()) }
}

/// How many parameters and locals a function has, which may be more than one would want to list.
fn count_locals(ty: &FuncType, body: &FunctionBody<'_>) -> Result<usize, wasmparser::Error> {
    body.get_locals_reader()?.into_iter().try_fold(ty.params().len(), |sum, group| Ok(sum + group?.0 as usize))
}

/// Writes an operator that names a function or a type; says whether it was one.
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

/// Writes the one way in.
struct Enter {
    /// The index of the frame's memory.
    frame: u32,
    /// The function of each entry, with its parameters and results.
    entries: Vec<(u32, Vec<wasmparser::ValType>, Vec<wasmparser::ValType>)>,
}

impl Enter {
    fn write(&self) -> Vec<u8> {
        // One local for a value on its way to the frame, of each type that results have.
        let mut scratch: Vec<wasmparser::ValType> = Vec::new();
        for ty in self.entries.iter().flat_map(|(_, _, results)| results) {
            if !scratch.contains(ty) {
                scratch.push(*ty);
            }
        }
        let mut function = Function::new(scratch.iter().map(|ty| (1, val_type(*ty))).collect::<Vec<_>>());
        let mut code = function.instructions();
        // A block for each entry, the first one innermost, and one around them for numbers that nobody has.
        let count = self.entries.len() as u32;
        for _ in 0..=count {
            code.block(NewBlockType::Empty);
        }
        code.local_get(0).br_table(0..count, count).end();
        for (function, params, results) in &self.entries {
            for (at, ty) in (0..).zip(params) {
                code.i32_const(0);
                load(&mut code, *ty, slot(self.frame, at));
            }
            code.call(*function);
            // The last result is on top of the stack, and a value's address goes below it.
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

/// Where a value lies in the frame, which is this memory.
fn slot(frame: u32, at: u64) -> MemArg {
    MemArg { offset: at * u64::from(SLOT_BYTES), align: 0, memory_index: frame }
}

/// Writes a function that begins at a loop within another: it finds its locals in the frame.
struct Rest<'a> {
    module: &'a [u8],
    indices: &'a Indices<'a>,
    ops: &'a [Op],
    out: Vec<u8>,
    /// How many blocks are open.
    height: u32,
    /// For each label of the original that is in scope, outermost first, the height of the block that it is now.
    labels: Vec<u32>,
}

impl<'a> Rest<'a> {
    fn write(
        module: &'a [u8],
        indices: &'a Indices<'a>,
        ops: &'a [Op],
        path: &[usize],
        locals: &[wasmparser::ValType],
        frame: u32,
    ) -> Vec<u8> {
        let mut function = Function::new_with_locals_types(locals.iter().copied().map(val_type));
        let mut code = function.instructions();
        for (local, ty) in (0..).zip(locals) {
            code.i32_const(0);
            load(&mut code, *ty, slot(frame, local.into()));
            code.local_set(local);
        }
        let mut rest = Self { module, indices, ops, out: function.into_raw_body(), height: 0, labels: vec![0] };
        rest.level(path, ops.len() - 1);
        rest.out.push(END);
        rest.out
    }

    /// What is left of the sequence of operators that ends at `end` and in which `path` begins.
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
            // Only the arm that one is in is left.
            Kind::If { ty, otherwise, end } => {
                self.open(Opener::Block, ty);
                self.level(inner, otherwise.filter(|otherwise| next < otherwise).unwrap_or(end));
                self.close();
                end
            }
            Kind::Loop { ty, end } => {
                // The rest of this turn; a jump to the loop's head goes on with the loop in full, and its end skips that.
                self.open_unlabelled(Opener::Block, ty);
                let done = self.height;
                self.open(Opener::Block, BlockType::Empty);
                self.level(inner, end);
                self.labels.pop();
                self.branch(BR, done);
                self.out.push(END);
                self.height -= 1;
                self.operator(*at);
                self.out.push(END);
                self.height -= 1;
                end
            }
            _ => unreachable!("a path consists of blocks"),
        };
        self.sequence(after + 1..end);
    }

    fn sequence(&mut self, range: Range<usize>) {
        let mut at = range.start;
        // What is too long is given up by whoever asked for it.
        while at < range.end && self.out.len() <= PART_BYTES_MAX {
            at = self.operator(at);
        }
    }

    /// Writes the operator, with all that is in it, and returns the next one.
    fn operator(&mut self, at: usize) -> usize {
        let op = &self.ops[at];
        match &op.kind {
            Kind::Block { ty, end } => self.block(Opener::Block, *ty, at, *end),
            Kind::Loop { ty, end } => self.block(Opener::Loop, *ty, at, *end),
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

    fn block(&mut self, opener: Opener, ty: BlockType, at: usize, end: usize) -> usize {
        self.open(opener, ty);
        self.sequence(at + 1..end);
        self.close();
        end + 1
    }

    fn open(&mut self, opener: Opener, ty: BlockType) {
        self.open_unlabelled(opener, ty);
        self.labels.push(self.height);
    }

    /// Opens a block that no label of the original means.
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

#[derive(Clone, Copy)]
enum Opener {
    Block,
    Loop,
    If,
}

const ELSE: u8 = 0x05;
const END: u8 = 0x0b;
const BR: u8 = 0x0c;
const BR_IF: u8 = 0x0d;
const BR_TABLE: u8 = 0x0e;
