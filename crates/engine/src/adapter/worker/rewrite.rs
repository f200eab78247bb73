//! The module as a worker gets it.
//!
//! - Its memory is an import, so that the worker makes it within the guest's limit.
//! - Growth of the memory that this limit has refused is noted in a global that the module exports.
//! - Functions whose values JavaScript would change or does not have (floats that are no numbers, vectors, references)
//!   are exported a second time, with integers in the place of these values.

use std::collections::HashMap;

use remuda_model::{Limit, Referent, Value};
use wasm_encoder::{BlockType, Encode, EntityType, ExportKind, Function, InstructionSink, Module};
use wasmparser::{ExternalKind, FuncType, MemoryType, Operator, Parser, Payload, Result, TypeRef, ValType};

use super::protocol::MemoryOrder;
use crate::adapter::guest::Budget;
use crate::adapter::region::PAGE_BYTES;
use crate::osr::{HOST, MEMORY, hidden};
use crate::sections::{Entries, Sections, any_types, id, push_section};

/// The most pages of a memory with 32-bit addresses.
const PAGES_MAX: u64 = 1 << 16;

/// The most parameters of a function, and the most results, that engines accept.
const VALUES_MAX: usize = 1000;

/// The export name of the global that is not 0 once growth within the memory's own type was refused.
const REFUSED: &str = hidden!("refused");
/// Stands before the name of a function that is exported a second time.
const BY_INTEGERS: &str = hidden!("call ");

/// What the host has to know of a module that was rewritten for a worker.
pub(super) struct Rewritten {
    memory: Option<MemoryType>,
    /// The initial sizes of the module's own tables, in elements.
    tables: Vec<u64>,
    /// The types of the results of functions that are exported a second time, by their first name.
    by_integers: HashMap<String, Vec<ValType>>,
}

/// Rewrites a valid module with at most one memory, which has 32-bit addresses and is not shared. `grows` says whether
/// any code grows the memory.
pub(super) fn rewrite(source: &[u8], grows: bool) -> Result<(Vec<u8>, Rewritten)> {
    let sections = Sections::of(source)?;
    let shape = Shape::of(source)?;
    let (mut added, rewritten) = add_exports(&shape);
    let mut imports = Entries::default();
    if let Some(memory) = &shape.memory {
        imports.add(|out| import(memory, out));
    }
    let grow = match &shape.memory {
        Some(memory) if grows => Some(added.grow(memory)),
        Some(_) | None => None,
    };
    if imports.count == 0 && added.bodies.is_empty() {
        return Ok((source.to_vec(), rewritten));
    }
    let mut module = Module::new();
    for section in id::ORDER {
        let with = |more: &Entries| match more.count {
            0 => Ok(sections.get(section).map(<[u8]>::to_vec)),
            _ => sections.with(section, &more.bytes, more.count).map(Some),
        };
        let bytes = match section {
            id::MEMORY => None,
            id::IMPORT => with(&imports)?,
            id::TYPE => with(&added.types)?,
            id::FUNCTION => with(&added.functions)?,
            id::GLOBAL => with(&added.globals)?,
            id::EXPORT => with(&added.exports)?,
            id::CODE if !added.bodies.is_empty() => Some(code(source, grow, &added.bodies)?),
            _ => sections.get(section).map(<[u8]>::to_vec),
        };
        if let Some(bytes) = bytes {
            push_section(&mut module, section, &bytes);
        }
    }
    Ok((module.finish(), rewritten))
}

/// What [`rewrite`] tells of a module, for one whose code is there already.
pub(super) fn describe(source: &[u8]) -> Result<Rewritten> {
    Ok(add_exports(&Shape::of(source)?).1)
}

/// Adds the functions that are exported a second time.
fn add_exports(shape: &Shape<'_>) -> (Added, Rewritten) {
    let mut added = Added::of(shape);
    let mut by_integers = HashMap::new();
    for (name, function) in &shape.exports {
        let ty = shape.type_of(*function);
        if ty.params().iter().chain(ty.results()).any(|ty| !matches!(ty, ValType::I32 | ValType::I64))
            && added.by_integers(name, *function, ty)
        {
            by_integers.insert((*name).to_owned(), ty.results().to_vec());
        }
    }
    (added, Rewritten { memory: shape.memory, tables: shape.tables.clone(), by_integers })
}

/// Writes the import of the memory: without a maximum, so that a memory with any maximum will do.
fn import(memory: &MemoryType, out: &mut Vec<u8>) {
    HOST.encode(out);
    MEMORY.encode(out);
    let ty = wasm_encoder::MemoryType {
        minimum: memory.initial,
        maximum: None,
        memory64: false,
        shared: false,
        page_size_log2: None,
    };
    EntityType::Memory(ty).encode(out);
}

/// What a module has, as far as it matters here.
#[derive(Default)]
struct Shape<'a> {
    types: Vec<FuncType>,
    /// The type of each function, imported ones first.
    functions: Vec<u32>,
    globals: u32,
    memory: Option<MemoryType>,
    tables: Vec<u64>,
    /// The exported functions.
    exports: Vec<(&'a str, u32)>,
}

impl<'a> Shape<'a> {
    fn of(source: &'a [u8]) -> Result<Self> {
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(source) {
            match payload? {
                Payload::TypeSection(section) => {
                    shape.types = section.into_iter_err_on_gc_types().collect::<Result<_>>()?;
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        match import?.ty {
                            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => shape.functions.push(ty),
                            TypeRef::Global(_) => shape.globals += 1,
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(section) => {
                    for ty in section {
                        shape.functions.push(ty?);
                    }
                }
                Payload::TableSection(section) => {
                    for table in section {
                        shape.tables.push(table?.ty.initial);
                    }
                }
                Payload::MemorySection(section) => shape.memory = section.into_iter().next().transpose()?,
                Payload::GlobalSection(section) => shape.globals += section.count(),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        if export.kind == ExternalKind::Func {
                            shape.exports.push((export.name, export.index));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    fn type_of(&self, function: u32) -> &FuncType {
        &self.types[self.functions[function as usize] as usize]
    }
}

/// What is added to a module.
struct Added {
    types: Entries,
    functions: Entries,
    globals: Entries,
    exports: Entries,
    bodies: Vec<Function>,
    /// The numbers of types, functions and globals that the module has itself.
    own_types: u32,
    own_functions: u32,
    own_globals: u32,
}

impl Added {
    fn of(shape: &Shape<'_>) -> Self {
        let count = |items: usize| u32::try_from(items).unwrap_or(u32::MAX);
        Self {
            types: Entries::default(),
            functions: Entries::default(),
            globals: Entries::default(),
            exports: Entries::default(),
            bodies: Vec::new(),
            own_types: count(shape.types.len()),
            own_functions: count(shape.functions.len()),
            own_globals: shape.globals,
        }
    }

    /// Adds a function, and returns its index.
    fn function(&mut self, params: &[ValType], results: &[ValType], body: Function) -> u32 {
        let ty = self.own_types + self.types.count;
        self.types.function_type(&any_types(params), &any_types(results));
        let function = self.own_functions + self.functions.count;
        self.functions.add(|out| ty.encode(out));
        self.bodies.push(body);
        function
    }

    /// Adds the function that grows the memory, and the global that it sets if that fails although the memory's own
    /// type allows it: then the limit has refused it.
    fn grow(&mut self, memory: &MemoryType) -> u32 {
        let refused = self.own_globals + self.globals.count;
        // A mutable `i32` that is 0 at first.
        self.globals.add(|out| out.extend_from_slice(&[0x7f, 1, 0x41, 0, 0x0b]));
        self.exports.export(REFUSED, ExportKind::Global, refused);
        let (wanted, before) = (0, 1);
        let mut body = Function::new([(1, wasm_encoder::ValType::I32)]);
        body.instructions()
            .local_get(wanted)
            .memory_grow(0)
            .local_tee(before)
            .i32_const(-1)
            .i32_eq()
            .if_(BlockType::Empty)
            .local_get(wanted)
            .i64_extend_i32_u()
            .memory_size(0)
            .i64_extend_i32_u()
            .i64_add()
            .i64_const(own_maximum(memory).cast_signed())
            .i64_le_u()
            .if_(BlockType::Empty)
            .i32_const(1)
            .global_set(refused)
            .end()
            .end()
            .local_get(before)
            .end();
        self.function(&[ValType::I32], &[ValType::I32], body)
    }

    /// Adds a function that takes and returns integers for what `function` takes and returns: the bits of floats, two
    /// halves of a vector, and whether a reference is null. Returns false if it takes references: nobody calls it.
    fn by_integers(&mut self, name: &str, function: u32, ty: &FuncType) -> bool {
        let Some(params) = ty.params().iter().map(|ty| as_param(*ty)).collect::<Option<Vec<_>>>() else { return false };
        let params = params.concat();
        let results = ty.results().iter().flat_map(|ty| as_result(*ty)).copied().collect::<Vec<_>>();
        if params.len().max(results.len()) > VALUES_MAX {
            return false;
        }
        let locals = any_types(ty.results()).into_iter().map(|ty| (1, ty)).collect::<Vec<_>>();
        let mut body = Function::new(locals);
        let mut code = body.instructions();
        let mut param = 0;
        for ty in ty.params() {
            code.local_get(param);
            match ty {
                ValType::F32 => drop(code.f32_reinterpret_i32()),
                ValType::F64 => drop(code.f64_reinterpret_i64()),
                ValType::V128 => drop(code.i64x2_splat().local_get(param + 1).i64x2_replace_lane(1)),
                ValType::I32 | ValType::I64 | ValType::Ref(_) => {}
            }
            param += if *ty == ValType::V128 { 2 } else { 1 };
        }
        code.call(function);
        let result_locals: Vec<u32> = (param..).take(ty.results().len()).collect();
        for local in result_locals.iter().rev() {
            code.local_set(*local);
        }
        for (local, ty) in result_locals.into_iter().zip(ty.results()) {
            code.local_get(local);
            match ty {
                ValType::F32 => drop(code.i32_reinterpret_f32()),
                ValType::F64 => drop(code.i64_reinterpret_f64()),
                ValType::V128 => drop(code.i64x2_extract_lane(0).local_get(local).i64x2_extract_lane(1)),
                ValType::Ref(_) => drop(code.ref_is_null()),
                ValType::I32 | ValType::I64 => {}
            }
        }
        code.end();
        let index = self.function(&params, &results, body);
        self.exports.export(&format!("{BY_INTEGERS}{name}"), ExportKind::Func, index);
        true
    }
}

/// The integers that stand for a parameter; `None` for a reference.
fn as_param(ty: ValType) -> Option<&'static [ValType]> {
    if let ValType::Ref(_) = ty { None } else { Some(as_result(ty)) }
}

/// The integers that stand for a result.
fn as_result(ty: ValType) -> &'static [ValType] {
    match ty {
        ValType::I32 | ValType::F32 | ValType::Ref(_) => &[ValType::I32],
        ValType::I64 | ValType::F64 => &[ValType::I64],
        ValType::V128 => &[ValType::I64, ValType::I64],
    }
}

/// The code section, with a call of `grow` in the place of each `memory.grow`, and with the functions that are added.
fn code(source: &[u8], grow: Option<u32>, added: &[Function]) -> Result<Vec<u8>> {
    let mut bodies = Entries::default();
    let mut out = Vec::new();
    for payload in Parser::new(0).parse_all(source) {
        let Payload::CodeSectionEntry(body) = payload? else { continue };
        let range = body.range();
        out.clear();
        let mut copied = range.start;
        if let Some(grow) = grow {
            let mut operators = body.get_operators_reader()?;
            while !operators.eof() {
                let at = operators.original_position();
                if let Operator::MemoryGrow { .. } = operators.read()? {
                    out.extend_from_slice(&source[copied..at]);
                    InstructionSink::new(&mut out).call(grow);
                    copied = operators.original_position();
                }
            }
        }
        out.extend_from_slice(&source[copied..range.end]);
        bodies.body(&out);
    }
    for body in added {
        bodies.add(|code| body.encode(code));
    }
    Ok(bodies.section().unwrap_or_else(|| vec![0]))
}

/// The most pages that a memory's own type allows.
fn own_maximum(memory: &MemoryType) -> u64 {
    memory.maximum.unwrap_or(PAGES_MAX).min(PAGES_MAX)
}

impl Rewritten {
    /// What the guest gets of memory, within its budget. Returns the limit if that is too little for its start.
    pub(super) fn grant(&self, budget: &mut Budget, is_exported: bool) -> Result<Option<MemoryOrder>, Limit> {
        let size = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        for elements in &self.tables {
            if !budget.grant_table(0, size(*elements), None) {
                return Err(Limit::Table);
            }
        }
        let Some(memory) = self.memory else { return Ok(None) };
        if !budget.grant_memory(0, size(memory.initial.saturating_mul(PAGE_BYTES as u64)), None) {
            return Err(Limit::Memory);
        }
        let maximum = own_maximum(&memory).min(memory.initial + budget.memory_bytes_left() / PAGE_BYTES as u64);
        let pages = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
        Ok(Some(MemoryOrder { is_exported, initial_pages: pages(memory.initial), maximum_pages: pages(maximum) }))
    }

    /// How a worker is to call an exported function: the name of the export, and arguments and results as integers.
    pub(super) fn call(&self, name: &str, args: &[Value], results: &[remuda_model::ValueType]) -> ByIntegers {
        let args = args.iter().flat_map(|arg| integers(*arg)).collect();
        match self.by_integers.get(name) {
            Some(types) => ByIntegers {
                name: format!("{BY_INTEGERS}{name}"),
                args,
                results: types.iter().flat_map(|ty| as_result(*ty)).map(|ty| *ty == ValType::I64).collect(),
                types: types.clone(),
            },
            None => {
                let types: Vec<_> = results
                    .iter()
                    .map(|ty| if *ty == remuda_model::ValueType::I64 { ValType::I64 } else { ValType::I32 })
                    .collect();
                let results = types.iter().map(|ty| *ty == ValType::I64).collect();
                ByIntegers { name: name.to_owned(), args, results, types }
            }
        }
    }
}

/// A call whose values are integers.
pub(super) struct ByIntegers {
    pub(super) name: String,
    pub(super) args: Vec<Integer>,
    /// For each result, whether it has 64 bits.
    pub(super) results: Vec<bool>,
    /// The types of the results of the function itself.
    types: Vec<ValType>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Integer {
    I32(u32),
    I64(u64),
}

impl ByIntegers {
    /// The results of the function itself, made of integers; `None` if there are too few.
    pub(super) fn values(&self, integers: &[u64]) -> Option<Vec<Value>> {
        let mut integers = integers.iter().copied();
        let mut next = || integers.next();
        #[expect(clippy::cast_possible_truncation, reason = "of a 32-bit result, the upper half means nothing")]
        let value = |ty: &ValType| {
            let bits = next()?;
            Some(match ty {
                ValType::I32 => Value::I32((bits as u32).cast_signed()),
                ValType::I64 => Value::I64(bits.cast_signed()),
                ValType::F32 => Value::F32(f32::from_bits(bits as u32)),
                ValType::F64 => Value::F64(f64::from_bits(bits)),
                ValType::V128 => Value::V128(u128::from(bits) | u128::from(next()?) << 64),
                ValType::Ref(ty) => {
                    let to = if ty.is_extern_ref() { Referent::Extern } else { Referent::Func };
                    Value::Reference { to, is_null: bits as u32 != 0 }
                }
            })
        };
        self.types.iter().map(value).collect()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a vector is passed in halves")]
fn integers(value: Value) -> Vec<Integer> {
    match value {
        Value::I32(n) => vec![Integer::I32(n.cast_unsigned())],
        Value::I64(n) => vec![Integer::I64(n.cast_unsigned())],
        Value::F32(n) => vec![Integer::I32(n.to_bits())],
        Value::F64(n) => vec![Integer::I64(n.to_bits())],
        Value::V128(n) => vec![Integer::I64(n as u64), Integer::I64((n >> 64) as u64)],
        // No entry with a reference is accepted (`Module::check_entry`).
        Value::Reference { .. } => Vec::new(),
    }
}
