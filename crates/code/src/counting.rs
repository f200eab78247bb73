//! Rewriting a module so that it counts the operators that it executes, by function and by loop.
//!
//! Code is cut into straight pieces: each begins where control can arrive (a function's entry, a loop's head, the arms
//! and the end of a block, behind a branch that may not be taken). At the head of each piece, a global is increased by
//! the number of the piece's operators. There is one such global for each function, for what is in none of its loops, and
//! one for each loop. Operators that only give structure (`block`, `loop`, `else`, `end`, `nop`) do not count.
//!
//! The count is the same in each run with the same input, whatever the machine does. It is no time: a division counts as
//! much as an addition. Where a guest ends in the middle of a piece (a trap, `proc_exit`), the rest of that piece is
//! counted too, once for each function that was being executed.

use std::ops::Range;

use wasm_encoder::{Encode as _, ExportKind, InstructionSink, Module, RawSection, ValType};
use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::comparison::Profile;
use crate::wasm::{Source, SourceError};

/// A module that counts.
#[derive(Debug)]
pub struct Counting {
    /// The new module.
    pub bytes: Vec<u8>,
    /// The exported functions that return the counts, 64-bit integers, in the order of the counters.
    pub readers: Vec<String>,
    /// The export that was `_initialize`, if there was one: it must be called first, and once.
    pub initialize: Option<&'static str>,
    /// For each function that the module defines, its counters: first its own, then those of its loops.
    counters: Vec<Range<usize>>,
}

/// The most results that a function may have, by the limits that all engines share.
const RESULTS_MAX: usize = 1000;
/// The prefix of the names of what is added. WebAssembly allows any name; this one no toolchain makes.
const PREFIX: &str = "\0remuda counts ";
/// The name under which a module's `_initialize` is exported.
const INITIALIZE: &str = "\0remuda initialize";

impl Counting {
    /// Rewrites a valid core module.
    ///
    /// # Errors
    ///
    /// Returns an error if the module cannot be read.
    pub fn of(module: &[u8], source: &Source) -> Result<Self, SourceError> {
        let mut counters = Vec::new();
        let mut count = 0;
        for index in source.functions() {
            let next = count + 1 + source.loops(index)?;
            counters.push(count..next);
            count = next;
        }
        let shape = Shape::of(module)?;
        let first_global = shape.globals;
        let readers: Vec<usize> = (0..count).step_by(RESULTS_MAX).map(|first| RESULTS_MAX.min(count - first)).collect();
        let names: Vec<String> = (0..readers.len()).map(|index| format!("{PREFIX}{index}")).collect();

        let (mut types, mut functions, mut globals, mut exports) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (index, results) in (0..).zip(&readers) {
            types.push(0x60);
            0_u32.encode(&mut types);
            vec![ValType::I64; *results].as_slice().encode(&mut types);
            (shape.types + index).encode(&mut functions);
            names[index as usize].as_str().encode(&mut exports);
            ExportKind::Func.encode(&mut exports);
            (source.functions().end + index).encode(&mut exports);
        }
        for _ in 0..count {
            // A mutable i64 that begins with `i64.const 0; end`.
            globals.extend_from_slice(&[0x7e, 1, 0x42, 0, 0x0b]);
        }
        let readers_count = number(readers.len());
        let mut sections: Vec<(u8, Vec<u8>)> = Vec::new();
        let mut code = Code { first_global, counters: &counters, bodies: Vec::new(), done: 0 };
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            match &payload {
                Payload::CodeSectionEntry(body) => code.rewrite(module, body)?,
                Payload::CustomSection(_) => {}
                _ => {
                    if let Some((id, range)) = payload.as_section() {
                        sections.push((id, module[range].to_vec()));
                    }
                }
            }
        }
        let mut first = 0;
        for results in &readers {
            let mut body = vec![0];
            let mut sink = InstructionSink::new(&mut body);
            for counter in first..first + results {
                sink.global_get(first_global + number(counter));
            }
            sink.end();
            body.encode(&mut code.bodies);
            first += results;
        }
        let renamed = rename_initialize(module)?;
        let initialize = renamed.is_some().then_some(INITIALIZE);
        if let Some(renamed) = renamed {
            sections.retain(|(id, _)| *id != section::EXPORT);
            sections.push((section::EXPORT, renamed));
        }
        add(&mut sections, section::TYPE, &types, readers_count)?;
        add(&mut sections, section::FUNCTION, &functions, readers_count)?;
        add(&mut sections, section::GLOBAL, &globals, number(count))?;
        add(&mut sections, section::EXPORT, &exports, readers_count)?;
        let mut whole = Vec::new();
        (number(counters.len()) + readers_count).encode(&mut whole);
        whole.extend_from_slice(&code.bodies);
        sections.retain(|(id, _)| *id != section::CODE);
        sections.push((section::CODE, whole));
        sections.sort_by_key(|(id, _)| section::ORDER.iter().position(|in_order| in_order == id));
        let mut rewritten = Module::new();
        for (id, data) in &sections {
            rewritten.section(&RawSection { id: *id, data });
        }
        Ok(Self { bytes: rewritten.finish(), readers: names, initialize, counters })
    }

    /// The operators that each function has executed, without those that it called, from the counts that the readers
    /// returned.
    #[must_use]
    pub fn by_function(&self, counts: &[u64]) -> Vec<u64> {
        self.counters.iter().map(|range| counts.get(range.clone()).unwrap_or_default().iter().sum()).collect()
    }

    /// What was counted of the `index`th function that the module defines.
    #[must_use]
    pub fn profile(&self, counts: &[u64], index: usize) -> Profile {
        let range = self.counters.get(index).cloned().unwrap_or_default();
        let own = counts.get(range).unwrap_or_default();
        Profile {
            operators: counts.iter().sum(),
            in_function: own.iter().sum(),
            in_loops: own.get(1..).unwrap_or_default().to_vec(),
        }
    }
}

mod section {
    pub(super) const TYPE: u8 = 1;
    pub(super) const FUNCTION: u8 = 3;
    pub(super) const GLOBAL: u8 = 6;
    pub(super) const EXPORT: u8 = 7;
    pub(super) const CODE: u8 = 10;
    /// All sections in the order in which they stand in a module: tags between memories and globals, the number of data
    /// segments before the code.
    pub(super) const ORDER: [u8; 13] = [1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Adds `count` entries to a section, which is made if the module has none.
fn add(sections: &mut Vec<(u8, Vec<u8>)>, id: u8, entries: &[u8], count: u32) -> Result<(), SourceError> {
    let old = sections.iter().position(|(section, _)| *section == id);
    let old = old.map_or_else(|| vec![0], |at| sections.remove(at).1);
    let mut reader = wasmparser::BinaryReader::new(&old, 0);
    let old_count = reader.read_var_u32()?;
    let mut whole = Vec::new();
    (old_count + count).encode(&mut whole);
    whole.extend_from_slice(&old[reader.original_position()..]);
    whole.extend_from_slice(entries);
    sections.push((id, whole));
    Ok(())
}

/// The numbers of types and globals, which tell the indices of what is added.
#[derive(Default)]
struct Shape {
    types: u32,
    globals: u32,
}

impl Shape {
    fn of(module: &[u8]) -> Result<Self, SourceError> {
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        shape.types += number(group?.types().len());
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        shape.globals += u32::from(matches!(import?.ty, wasmparser::TypeRef::Global(_)));
                    }
                }
                Payload::GlobalSection(section) => shape.globals += section.count(),
                _ => {}
            }
        }
        Ok(shape)
    }
}

/// The export section with another name for `_initialize`; `None` if the module does not export that.
fn rename_initialize(module: &[u8]) -> Result<Option<Vec<u8>>, SourceError> {
    for payload in Parser::new(0).parse_all(module) {
        let Payload::ExportSection(section) = payload? else { continue };
        let mut found = false;
        let mut whole = Vec::new();
        section.count().encode(&mut whole);
        for export in section {
            let export = export?;
            let is_it = export.name == "_initialize";
            found |= is_it;
            (if is_it { INITIALIZE } else { export.name }).encode(&mut whole);
            let kind = match export.kind {
                wasmparser::ExternalKind::Func | wasmparser::ExternalKind::FuncExact => ExportKind::Func,
                wasmparser::ExternalKind::Table => ExportKind::Table,
                wasmparser::ExternalKind::Memory => ExportKind::Memory,
                wasmparser::ExternalKind::Global => ExportKind::Global,
                wasmparser::ExternalKind::Tag => ExportKind::Tag,
            };
            kind.encode(&mut whole);
            export.index.encode(&mut whole);
        }
        return Ok(found.then_some(whole));
    }
    Ok(None)
}

/// The bodies, one after another.
struct Code<'a> {
    first_global: u32,
    counters: &'a [Range<usize>],
    bodies: Vec<u8>,
    done: usize,
}

impl Code<'_> {
    fn rewrite(&mut self, module: &[u8], body: &FunctionBody<'_>) -> Result<(), SourceError> {
        let first = self.counters.get(self.done).map_or(0, |range| range.start);
        self.done += 1;
        let range = body.range();
        let mut operators = body.get_operators_reader()?;
        let mut piece = Piece { at: operators.original_position(), counter: first, operators: 0 };
        let mut pieces = Vec::new();
        // For each open block, the counter of what is behind its end, if it is a loop.
        let mut open: Vec<Option<usize>> = vec![None];
        let mut next_loop = first + 1;
        while !operators.eof() {
            let operator = operators.read()?;
            let next = operators.original_position();
            let mut counter = piece.counter;
            let ends = match &operator {
                Operator::Loop { .. } => {
                    open.push(Some(counter));
                    counter = next_loop;
                    next_loop += 1;
                    true
                }
                Operator::Block { .. } => {
                    open.push(None);
                    false
                }
                Operator::If { .. } | Operator::Try { .. } | Operator::TryTable { .. } => {
                    open.push(None);
                    true
                }
                Operator::End | Operator::Delegate { .. } => {
                    counter = open.pop().flatten().unwrap_or(counter);
                    true
                }
                Operator::Else | Operator::Catch { .. } | Operator::CatchAll => true,
                Operator::BrIf { .. }
                | Operator::BrOnNull { .. }
                | Operator::BrOnNonNull { .. }
                | Operator::BrOnCast { .. }
                | Operator::BrOnCastFail { .. } => true,
                _ => false,
            };
            let is_structure = matches!(
                operator,
                Operator::Block { .. } | Operator::Loop { .. } | Operator::Else | Operator::End | Operator::Nop
            );
            piece.operators += u32::from(!is_structure);
            if ends {
                pieces.push(std::mem::replace(&mut piece, Piece { at: next, counter, operators: 0 }));
            }
        }
        let mut out = Vec::new();
        let mut copied = range.start;
        for piece in pieces.iter().filter(|piece| piece.operators > 0) {
            out.extend_from_slice(&module[copied..piece.at]);
            copied = piece.at;
            let global = self.first_global + number(piece.counter);
            InstructionSink::new(&mut out)
                .global_get(global)
                .i64_const(piece.operators.into())
                .i64_add()
                .global_set(global);
        }
        out.extend_from_slice(&module[copied..range.end]);
        out.encode(&mut self.bodies);
        Ok(())
    }
}

/// A straight piece of code.
struct Piece {
    at: usize,
    counter: usize,
    operators: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_module_is_valid_and_has_a_counter_for_each_loop() {
        for (text, counters) in [
            ("(module (func))", 1),
            (r#"(module (func (export "_initialize")) (func $f (param i32) (loop (loop (br_if 1 (local.get 0))))))"#, 4),
            (
                "(module (import \"h\" \"g\" (global i64)) (type (func)) (tag (type 0)) (memory 1) (global i32 (i32.const 1))
                (func (param i32) (result i32) (if (local.get 0) (then (br 0)) (else unreachable)) (loop (br 0)) i32.const 1)
                (data (i32.const 0) \"x\"))",
                2,
            ),
        ] {
            let module = wat::parse_str(text).unwrap();
            let counting = Counting::of(&module, &Source::of(&module).unwrap()).unwrap();
            wasmparser::Validator::new_with_features(wasmparser::WasmFeatures::all())
                .validate_all(&counting.bytes)
                .unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(counting.counters.last().unwrap().end, counters, "{text}");
            assert_eq!(counting.readers.len(), 1);
            assert_eq!(counting.initialize.is_some(), text.contains("_initialize"));
        }
    }

    #[test]
    fn more_loops_than_a_function_may_have_results() {
        let text = format!("(module (func {}))", "(loop)".repeat(RESULTS_MAX + 1));
        let module = wat::parse_str(text).unwrap();
        let counting = Counting::of(&module, &Source::of(&module).unwrap()).unwrap();
        wasmparser::Validator::new().validate_all(&counting.bytes).unwrap();
        assert_eq!(counting.readers.len(), 2);
    }

    #[test]
    fn counts_are_told_by_function_and_loop() {
        let module = wat::parse_str("(module (func (loop) (loop)) (func))").unwrap();
        let counting = Counting::of(&module, &Source::of(&module).unwrap()).unwrap();
        let counts = [1, 20, 300, 4000];
        assert_eq!(counting.by_function(&counts), [321, 4000]);
        let profile = counting.profile(&counts, 0);
        assert_eq!((profile.operators, profile.in_function, profile.in_loops), (4321, 321, vec![20, 300]));
    }
}
