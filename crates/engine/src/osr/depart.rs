//! Rewriting a module so that its guests can leave the engine that runs them.
//!
//! At each point the code polls a global, which the host sets when guests have a reason to ask whether to leave:
//!
//! ```wat
//! (if (global.get $flag) (then
//!   (br_if $leave (call_indirect $host (type (func (param i32) (result i32))) (i32.const $point) (i32.const 0)))))
//! ```
//!
//! The host answers 1 if the guest is to leave. Then the function's locals are written to a memory of the host's own
//! (the frame), the host runs the rest of the activation in a part, and its results are read from the same place and
//! returned:
//!
//! ```wat
//! block $leave
//!   block $body (result ...)
//!     ;; the function as it was
//!   end
//!   return
//! end
//! ;; locals to the frame
//! (call_indirect $host (type (func)) (i32.const 1))
//! ;; results from the frame
//! ```
//!
//! The host's two functions are called through a table, so that no function gets another index: everything that is
//! added comes after the module's own items, and code is copied as it is. The guest's memory becomes an import, because
//! two engines are to work on it. The guest cannot name anything that is added.

#![expect(clippy::cast_possible_truncation, reason = "a module is smaller than 4 GiB: its indices fit 32 bits")]

use wasm_encoder::{BlockType, Encode, ExportKind, InstructionSink, Module, ValType};
use wasmparser::{BinaryReader, Parser, Payload, Result, TypeRef};

use super::frame::{hand_over, locals, val_type};
use super::places::{Place, Places, Point};
use super::{HOST, MEMORY, global_export, hidden};
use crate::sections::{Entries, Sections, id, push_section};
use crate::start;

/// The export name of the global that polls read: an `i32`, 0 as long as the guest has no reason to ask.
pub(crate) const FLAG: &str = hidden!("moves");
/// The export name of the table with the host's two functions, [`ASK`] and [`RUN`].
pub(crate) const TABLE: &str = hidden!("host");
/// The export name of a table with all functions of the module, by index.
pub(crate) const FUNCTIONS: &str = hidden!("functions");
/// The export name of the memory through which locals and results are handed over.
pub(crate) const FRAME: &str = hidden!("frame");
/// The element of [`TABLE`] that says whether to leave: `(param i32) (result i32)`.
pub(crate) const ASK: u32 = 0;
/// The element of [`TABLE`] that runs the rest of an activation: `(func)`.
pub(crate) const RUN: u32 = 1;

/// A module whose guests can leave.
pub(crate) struct Departing {
    pub(crate) bytes: Vec<u8>,
    /// For each point, what is handed over there.
    pub(crate) frames: Vec<Frame>,
    /// The indices of the globals that can change.
    pub(crate) globals: Vec<u32>,
    /// How many tables the guest has. The tables after them belong to the host, as does the one memory that is not
    /// imported.
    pub(crate) tables: u32,
}

/// The types of the values that are handed over at a point: its function's parameters and locals, and its results.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) locals: Vec<wasmparser::ValType>,
    pub(crate) results: Vec<wasmparser::ValType>,
}

/// Rewrites `source` so that its guests can leave. It also makes `insertions` in the code: bytes that go before an
/// offset, in ascending order. A start function becomes an export, as by [`start::start_as_export`].
pub(crate) fn depart(source: &[u8], places: &Places, insertions: &[(usize, &[u8])]) -> Result<Departing> {
    let sections = Sections::of(source)?;
    let shape = Shape::of(source)?;
    let added =
        Added { flag: shape.globals.len() as u32, host: sections.count(id::TABLE)?, types: sections.count(id::TYPE)? };
    let mut types = Entries::default();
    let (i32s, none): (&[ValType], &[ValType]) = (&[ValType::I32], &[]);
    types.function_type(i32s, i32s);
    types.function_type(none, none);
    let (code, frames) = code(source, &shape, places, insertions, &added, &mut types)?;

    let mut rewritten = Module::new();
    for section in id::ORDER {
        let bytes = match section {
            id::TYPE => Some(sections.with(section, &types.bytes, types.count)?),
            id::IMPORT => imports(&sections, &shape)?,
            id::TABLE => Some(tables(&sections, shape.functions())?),
            id::MEMORY => Some(frame_memory()),
            id::GLOBAL => Some(sections.with(section, &[0x7f, 1, 0x41, 0, 0x0b], 1)?),
            id::EXPORT => Some(exports(&sections, &shape, &added)?),
            id::START => None,
            id::ELEMENT => Some(elements(&sections, &shape, &added)?),
            id::CODE => Some(code.clone()),
            other => sections.get(other).map(<[u8]>::to_vec),
        };
        if let Some(bytes) = bytes {
            push_section(&mut rewritten, section, &bytes);
        }
    }
    let globals = (0..).zip(&shape.globals).filter(|(_, is_mutable)| **is_mutable).map(|(index, _)| index).collect();
    Ok(Departing { bytes: rewritten.finish(), frames, globals, tables: added.host })
}

/// The indices of what is added.
struct Added {
    /// The global that polls read.
    flag: u32,
    /// The table with the host's functions; the table with all functions follows it.
    host: u32,
    /// The first type that is added.
    types: u32,
}

/// What the rewriting must know of a module.
struct Shape {
    types: Vec<wasmparser::FuncType>,
    imported_functions: u32,
    /// For each function that the module defines, the index of its type.
    function_types: Vec<u32>,
    /// The memory's type as it is encoded.
    memory: Option<Vec<u8>>,
    /// For each global, whether it can change.
    globals: Vec<bool>,
    start: Option<u32>,
}

impl Shape {
    fn functions(&self) -> u32 {
        self.imported_functions + self.function_types.len() as u32
    }

    fn of(source: &[u8]) -> Result<Self> {
        let mut shape = Shape {
            types: Vec::new(),
            imported_functions: 0,
            function_types: Vec::new(),
            memory: None,
            globals: Vec::new(),
            start: None,
        };
        for payload in Parser::new(0).parse_all(source) {
            match payload? {
                Payload::TypeSection(types) => {
                    for ty in types.into_iter_err_on_gc_types() {
                        shape.types.push(ty?);
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        if let TypeRef::Func(_) = import?.ty {
                            shape.imported_functions += 1;
                        }
                    }
                }
                Payload::FunctionSection(functions) => {
                    for ty in functions {
                        shape.function_types.push(ty?);
                    }
                }
                Payload::MemorySection(memories) => {
                    let range = memories.range();
                    let mut reader = BinaryReader::new(&source[range.clone()], 0);
                    if reader.read_var_u32()? > 0 {
                        shape.memory = Some(source[range.start + reader.original_position()..range.end].to_vec());
                    }
                }
                Payload::GlobalSection(globals) => {
                    for global in globals {
                        shape.globals.push(global?.ty.mutable);
                    }
                }
                Payload::StartSection { func, .. } => shape.start = Some(func),
                _ => {}
            }
        }
        Ok(shape)
    }
}

fn imports(sections: &Sections<'_>, shape: &Shape) -> Result<Option<Vec<u8>>> {
    let Some(memory) = &shape.memory else { return Ok(sections.get(id::IMPORT).map(<[u8]>::to_vec)) };
    let mut import = Vec::new();
    HOST.encode(&mut import);
    MEMORY.encode(&mut import);
    import.push(2);
    import.extend_from_slice(memory);
    sections.with(id::IMPORT, &import, 1).map(Some)
}

/// The table section, with the host's table and the table of all functions added.
fn tables(sections: &Sections<'_>, functions: u32) -> Result<Vec<u8>> {
    let mut tables = Entries::default();
    for elements in [2, functions] {
        tables.add(|out| {
            out.extend_from_slice(&[0x70, 1]);
            elements.encode(out);
            elements.encode(out);
        });
    }
    sections.with(id::TABLE, &tables.bytes, tables.count)
}

/// The memory section, which has the frame alone. One page holds the locals of any function that can be left.
fn frame_memory() -> Vec<u8> {
    vec![1, 1, 1, 1]
}

fn exports(sections: &Sections<'_>, shape: &Shape, added: &Added) -> Result<Vec<u8>> {
    let mut exports = Entries::default();
    exports.export(FLAG, ExportKind::Global, added.flag);
    exports.export(TABLE, ExportKind::Table, added.host);
    exports.export(FUNCTIONS, ExportKind::Table, added.host + 1);
    exports.export(FRAME, ExportKind::Memory, u32::from(shape.memory.is_some()));
    for (index, is_mutable) in (0..).zip(&shape.globals) {
        if *is_mutable {
            exports.export(&global_export(index), ExportKind::Global, index);
        }
    }
    if let Some(start) = shape.start {
        exports.export(start::EXPORT, ExportKind::Func, start);
    }
    sections.with(id::EXPORT, &exports.bytes, exports.count)
}

fn elements(sections: &Sections<'_>, shape: &Shape, added: &Added) -> Result<Vec<u8>> {
    let mut segment = vec![2];
    (added.host + 1).encode(&mut segment);
    segment.extend_from_slice(&[0x41, 0, 0x0b, 0]);
    shape.functions().encode(&mut segment);
    for function in 0..shape.functions() {
        function.encode(&mut segment);
    }
    sections.with(id::ELEMENT, &segment, 1)
}

fn code(
    source: &[u8],
    shape: &Shape,
    places: &Places,
    insertions: &[(usize, &[u8])],
    added: &Added,
    types: &mut Entries,
) -> Result<(Vec<u8>, Vec<Frame>)> {
    let mut places = places.iter().peekable();
    let mut insertions = insertions.iter().copied().peekable();
    let (mut bodies, mut frames) = (Entries::default(), Vec::new());
    let memory = u32::from(shape.memory.is_some());
    for payload in Parser::new(0).parse_all(source) {
        let Payload::CodeSectionEntry(body) = payload? else { continue };
        let function = bodies.count;
        let range = body.range();
        let mut out = Vec::with_capacity(range.len() + range.len() / 8);
        let mut splice = Splice { source, copied: range.start, insertions: &mut insertions };
        if places.peek().is_some_and(|(_, place)| place.function == function) {
            let ty = &shape.types[shape.function_types[function as usize] as usize];
            let frame = Frame { locals: locals(ty, &body)?, results: ty.results().to_vec() };
            let code_start = body.get_operators_reader()?.original_position();
            splice.copy(code_start, &mut out);
            InstructionSink::new(&mut out).block(BlockType::Empty).block(block_type(&frame.results, added, types));
            while let Some((point, place)) = places.next_if(|(_, place)| place.function == function) {
                if !place.is_entry() {
                    splice.copy(place.at as usize, &mut out);
                }
                poll(point, place, added, &mut out);
                frames.push(frame.clone());
            }
            splice.copy(range.end, &mut out);
            leave(&frame, added, memory, &mut out);
        } else {
            splice.copy(range.end, &mut out);
        }
        bodies.body(&out);
    }
    Ok((bodies.section().unwrap_or_else(|| vec![0]), frames))
}

/// Copies a body piece by piece, and makes the insertions on the way.
struct Splice<'a, 'b, I: Iterator<Item = (usize, &'a [u8])>> {
    source: &'a [u8],
    copied: usize,
    insertions: &'b mut std::iter::Peekable<I>,
}

impl<'a, I: Iterator<Item = (usize, &'a [u8])>> Splice<'a, '_, I> {
    fn copy(&mut self, until: usize, out: &mut Vec<u8>) {
        while let Some((at, bytes)) = self.insertions.next_if(|(at, _)| *at < until) {
            out.extend_from_slice(&self.source[self.copied..at]);
            out.extend_from_slice(bytes);
            self.copied = at;
        }
        out.extend_from_slice(&self.source[self.copied..until]);
        self.copied = until;
    }
}

fn block_type(results: &[wasmparser::ValType], added: &Added, types: &mut Entries) -> BlockType {
    match results {
        [] => BlockType::Empty,
        [one] => BlockType::Result(val_type(*one)),
        several => {
            let index = added.types + types.count;
            let several: Vec<ValType> = several.iter().copied().map(val_type).collect();
            types.function_type(&[], &several);
            BlockType::FunctionType(index)
        }
    }
}

fn poll(point: Point, place: Place, added: &Added, out: &mut Vec<u8>) {
    let mut code = InstructionSink::new(out);
    code.global_get(added.flag).if_(BlockType::Empty);
    code.i32_const(point.0.cast_signed()).i32_const(ASK.cast_signed()).call_indirect(added.host, added.types);
    // Depth 0 is the `if`. Then come the blocks that were there, of which `$body` is the function's own, then `$leave`.
    code.br_if(place.depth + 1).end();
}

/// Writes what follows the function's own code: handing locals over, and returning the results.
fn leave(frame: &Frame, added: &Added, memory: u32, out: &mut Vec<u8>) {
    let mut code = InstructionSink::new(out);
    hand_over(&mut code, &frame.locals, &frame.results, memory, |code| {
        code.i32_const(RUN.cast_signed()).call_indirect(added.host, added.types + 1);
    });
}
