//! Exports appended to a generated module, so that a caller outside can call every function and see all state:
//!
//! - [`STATE`] returns a hash of every memory, table and global, and then fills up the fuel.
//! - Each function is exported under a name of its own. Functions with parameters or results that are no numbers, and
//!   imports, are called by an appended function without parameters, which returns a hash of the results.
//! - The first memory is exported as `memory`, where WASI looks for it.
//!
//! Everything is appended at the end of its section, so that no index changes.

use remuda_model::{Entry, Value};
use wasm_encoder::{BlockType, Encode, Function, HeapType, Ieee32, Ieee64, InstructionSink, MemArg};
use wasmparser::{
    CompositeInnerType, ExternalKind, FuncType, Parser, Payload, TypeRef, ValType, Validator, WasmFeatures,
};

use super::generate::FUEL;
use super::random::Random;

/// The beginning of the names of appended functions.
const PREFIX: &str = "remuda ";
/// The export that returns a hash of the state.
pub(crate) const STATE: &str = "remuda state";
/// The most functions of a module that are called.
const CALLS_MAX: usize = 12;

pub(crate) const SECTION_TYPE: u8 = 1;
pub(crate) const SECTION_IMPORT: u8 = 2;
const SECTION_FUNCTION: u8 = 3;
const SECTION_EXPORT: u8 = 7;
const SECTION_CODE: u8 = 10;

/// Locals of an appended function. Between these two are a cursor and an end for each width of an index (see
/// [`Index`]).
const HASH: u32 = 0;
const VECTOR: u32 = 5;

/// Returns `module` with the exports appended, and the calls to make; `None` if it has no function of its own, or
/// already exports something under one of their names. To look at tables takes reference types: `sees_tables` says whether
/// the module may have them.
pub(crate) fn with_exports(
    module: &[u8],
    fuel_global: u32,
    sees_tables: bool,
    random: &mut Random,
) -> Option<(Vec<u8>, Vec<Entry>)> {
    let types = Validator::new_with_features(WasmFeatures::all()).validate_all(module).expect("wasm-smith is right");
    let types = types.as_ref();
    let mut sections = Sections::of(module);
    let imported = sections.imported_functions;
    let own = types.function_count() - imported;
    if own == 0 || sections.takes_a_name {
        return None;
    }
    let mut appended = Appended {
        sections: &mut sections,
        hash_type: types.core_type_count_in_module(),
        functions: types.function_count(),
    };
    // The type `() -> i64`.
    appended.sections.append(SECTION_TYPE, &[0x60, 0, 1, 0x7e]);

    let mut calls = Vec::new();
    for index in 0..types.function_count() {
        let CompositeInnerType::Func(ty) = &types[types.core_function_at(index)].composite_type.inner else { continue };
        let name = format!("remuda function {index}");
        match numbers(ty, random) {
            // An import is called by a function in the module.
            Some(args) if index >= imported => {
                appended.export(&name, 0, index);
                calls.push(Entry::Export { name, args });
            }
            _ => {
                if let Some(function) = caller(index, ty, random) {
                    appended.function(&name, &function);
                    calls.push(Entry::Export { name, args: Vec::new() });
                }
            }
        }
    }
    appended.function(STATE, &state(&types, fuel_global, sees_tables));
    if types.memory_count() > 0 && !appended.sections.exports_memory {
        appended.export("memory", 2, 0);
    }
    while calls.len() > CALLS_MAX {
        calls.swap_remove(usize::try_from(random.next() % CALLS_MAX as u64).expect("it is small"));
    }
    Some((sections.module(), watched(calls)))
}

/// Adds a call of [`STATE`] before, between and after all calls.
fn watched(calls: Vec<Entry>) -> Vec<Entry> {
    let look = || Entry::Export { name: STATE.into(), args: Vec::new() };
    let mut all = vec![look()];
    for call in calls {
        all.push(call);
        all.push(look());
    }
    all
}

/// Arguments for a call from outside; `None` if a parameter or result is no number.
fn numbers(ty: &FuncType, random: &mut Random) -> Option<Vec<Value>> {
    let is_number = |ty: &ValType| matches!(ty, ValType::I32 | ValType::I64 | ValType::F32 | ValType::F64);
    if !ty.params().iter().chain(ty.results()).all(is_number) {
        return None;
    }
    let argument = |ty: &ValType| {
        Some(match ty {
            ValType::I32 => Value::I32(low(random.integer())),
            ValType::I64 => Value::I64(random.integer().cast_signed()),
            ValType::F32 => Value::F32(f32::from_bits(random.f32_bits())),
            ValType::F64 => Value::F64(f64::from_bits(random.f64_bits())),
            ValType::V128 | ValType::Ref(_) => return None,
        })
    };
    ty.params().iter().map(argument).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
fn low(bits: u64) -> i32 {
    bits as i32
}

/// A function that calls the function `index` and returns a hash of the results.
fn caller(index: u32, ty: &FuncType, random: &mut Random) -> Option<Function> {
    let vectors = ty.results().contains(&ValType::V128);
    let mut function = appended_function(vectors);
    let mut code = function.instructions();
    for param in ty.params() {
        match param {
            ValType::I32 => code.i32_const(low(random.integer())),
            ValType::I64 => code.i64_const(random.integer().cast_signed()),
            ValType::F32 => code.f32_const(Ieee32::new(random.f32_bits())),
            ValType::F64 => code.f64_const(Ieee64::new(random.f64_bits())),
            ValType::V128 => code.v128_const((i128::from(random.integer()) << 64) | i128::from(random.integer())),
            ValType::Ref(reference) if reference.is_func_ref() => code.ref_null(HeapType::FUNC),
            ValType::Ref(reference) if reference.is_extern_ref() => code.ref_null(HeapType::EXTERN),
            ValType::Ref(_) => return None,
        };
    }
    code.call(index);
    for result in ty.results().iter().rev() {
        mix(&mut code, *result);
    }
    code.local_get(HASH).end();
    Some(function)
}

fn appended_function(vectors: bool) -> Function {
    use wasm_encoder::ValType;
    let locals = [ValType::I64, ValType::I32, ValType::I32, ValType::I64, ValType::I64];
    Function::new_with_locals_types(locals.into_iter().chain(vectors.then_some(ValType::V128)))
}

/// Takes a value from the stack and mixes it into the hash.
fn mix(code: &mut InstructionSink<'_>, ty: ValType) {
    match ty {
        ValType::I32 => code.i64_extend_i32_u(),
        ValType::I64 => code,
        ValType::F32 => code.i32_reinterpret_f32().i64_extend_i32_u(),
        ValType::F64 => code.i64_reinterpret_f64(),
        ValType::Ref(_) => code.ref_is_null().i64_extend_i32_u(),
        ValType::V128 => {
            code.local_tee(VECTOR).i64x2_extract_lane(0);
            mix(code, ValType::I64);
            code.local_get(VECTOR).i64x2_extract_lane(1)
        }
    };
    code.local_get(HASH).i64_xor().i64_const(0x2545_f491_4f6c_dd1d).i64_mul().i64_const(27).i64_rotl().local_set(HASH);
}

/// The function that returns a hash of all state, and fills up the fuel.
fn state(types: &wasmparser::types::TypesRef<'_>, fuel_global: u32, sees_tables: bool) -> Function {
    let vectors = (0..types.global_count()).any(|global| types.global_at(global).content_type == ValType::V128);
    let mut function = appended_function(vectors);
    let mut code = function.instructions();
    for global in 0..types.global_count() {
        code.global_get(global);
        mix(&mut code, types.global_at(global).content_type);
    }
    for table in (0..types.table_count()).filter(|_| sees_tables) {
        let ty = types.table_at(table);
        let index = Index::of(ty.table64);
        code.table_size(table).local_set(index.end());
        index.mix_end(&mut code);
        index.for_each(&mut code, 1, |code| {
            code.local_get(index.cursor()).table_get(table);
            mix(code, ValType::Ref(ty.element_type));
        });
    }
    for memory in 0..types.memory_count() {
        let ty = types.memory_at(memory);
        let index = Index::of(ty.memory64);
        code.memory_size(memory);
        index.shift_left(&mut code, ty.page_size_log2.unwrap_or(16));
        code.local_set(index.end());
        index.mix_end(&mut code);
        let at = MemArg { offset: 0, align: 0, memory_index: memory };
        index.for_each(&mut code, 8, |code| {
            code.local_get(index.cursor()).i64_load(at);
            mix(code, ValType::I64);
        });
        // A memory with small pages may end within a word of 8 bytes: its last bytes are taken one by one.
        index.for_the_rest(&mut code, |code| {
            code.local_get(index.cursor()).i64_load8_u(at);
            mix(code, ValType::I64);
        });
    }
    code.i32_const(FUEL.cast_signed()).global_set(fuel_global);
    code.local_get(HASH).end();
    function
}

/// The type of a memory's or table's indices, with its locals for walking over them.
#[derive(Clone, Copy)]
enum Index {
    I32,
    I64,
}

impl Index {
    fn of(is_64: bool) -> Self {
        if is_64 { Self::I64 } else { Self::I32 }
    }

    fn cursor(self) -> u32 {
        match self {
            Self::I32 => 1,
            Self::I64 => 3,
        }
    }

    fn end(self) -> u32 {
        self.cursor() + 1
    }

    fn mix_end(self, code: &mut InstructionSink<'_>) {
        code.local_get(self.end());
        mix(code, if matches!(self, Self::I32) { ValType::I32 } else { ValType::I64 });
    }

    fn constant(self, code: &mut InstructionSink<'_>, value: u32) {
        match self {
            Self::I32 => code.i32_const(value.cast_signed()),
            Self::I64 => code.i64_const(value.into()),
        };
    }

    fn shift_left(self, code: &mut InstructionSink<'_>, by: u32) {
        self.constant(code, by);
        match self {
            Self::I32 => code.i32_shl(),
            Self::I64 => code.i64_shl(),
        };
    }

    fn add_to_cursor(self, code: &mut InstructionSink<'_>, value: u32) {
        code.local_get(self.cursor());
        self.constant(code, value);
        match self {
            Self::I32 => code.i32_add(),
            Self::I64 => code.i64_add(),
        };
    }

    /// Writes a loop that runs `body` with the cursor at 0, `step` and so on, as long as a whole step is left.
    fn for_each(self, code: &mut InstructionSink<'_>, step: u32, body: impl FnOnce(&mut InstructionSink<'_>)) {
        self.constant(code, 0);
        code.local_set(self.cursor());
        self.go_on(code, step, body);
    }

    fn for_the_rest(self, code: &mut InstructionSink<'_>, body: impl FnOnce(&mut InstructionSink<'_>)) {
        self.go_on(code, 1, body);
    }

    fn go_on(self, code: &mut InstructionSink<'_>, step: u32, body: impl FnOnce(&mut InstructionSink<'_>)) {
        code.block(BlockType::Empty).loop_(BlockType::Empty);
        self.add_to_cursor(code, step);
        code.local_get(self.end());
        match self {
            Self::I32 => code.i32_gt_u(),
            Self::I64 => code.i64_gt_u(),
        };
        code.br_if(1);
        body(code);
        self.add_to_cursor(code, step);
        code.local_set(self.cursor()).br(0).end().end();
    }
}

/// Appends functions and exports, and knows their indices.
struct Appended<'a> {
    sections: &'a mut Sections,
    /// The type `() -> i64`.
    hash_type: u32,
    functions: u32,
}

impl Appended<'_> {
    fn function(&mut self, name: &str, function: &Function) {
        let mut ty = Vec::new();
        self.hash_type.encode(&mut ty);
        self.sections.append(SECTION_FUNCTION, &ty);
        let mut body = Vec::new();
        function.encode(&mut body);
        self.sections.append(SECTION_CODE, &body);
        self.export(name, 0, self.functions);
        self.functions += 1;
    }

    fn export(&mut self, name: &str, kind: u8, index: u32) {
        let mut export = Vec::new();
        name.encode(&mut export);
        export.push(kind);
        index.encode(&mut export);
        self.sections.append(SECTION_EXPORT, &export);
    }
}

/// A module's sections. If something may be appended to a section, the number of its entries is kept apart.
pub(crate) struct Sections {
    sections: Vec<Section>,
    imported_functions: u32,
    exports_memory: bool,
    /// Whether the module exports something under a name that is needed here: a fuzzer finds such names.
    takes_a_name: bool,
}

struct Section {
    id: u8,
    /// The number of entries, if the section can be appended to.
    count: Option<u32>,
    bytes: Vec<u8>,
}

impl Sections {
    pub(crate) fn of(module: &[u8]) -> Self {
        let mut all = Self { sections: Vec::new(), imported_functions: 0, exports_memory: false, takes_a_name: false };
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload.expect("it has just been validated");
            let count = match &payload {
                Payload::TypeSection(section) => Some(section.count()),
                Payload::FunctionSection(section) => Some(section.count()),
                Payload::ExportSection(section) => {
                    for export in section.clone() {
                        let export = export.expect("it is valid");
                        match (export.name, export.kind) {
                            ("memory", ExternalKind::Memory) => all.exports_memory = true,
                            ("memory", _) => all.takes_a_name = true,
                            (name, _) => all.takes_a_name |= name.starts_with(PREFIX),
                        }
                    }
                    Some(section.count())
                }
                Payload::CodeSectionStart { count, .. } => Some(*count),
                Payload::ImportSection(section) => {
                    let imports = section.clone().into_imports().map(|import| import.expect("it is valid"));
                    let functions = imports.filter(|import| matches!(import.ty, TypeRef::Func(_))).count();
                    all.imported_functions = u32::try_from(functions).expect("their number fits a section");
                    Some(section.count())
                }
                _ => None,
            };
            if let Some((id, range)) = payload.as_section() {
                let mut bytes = &module[range];
                if count.is_some() {
                    bytes = &bytes[leb128_bytes(bytes)..];
                }
                all.sections.push(Section { id, count, bytes: bytes.to_vec() });
            }
        }
        all
    }

    /// The number of entries of a section that can be appended to.
    pub(crate) fn count(&self, id: u8) -> u32 {
        self.sections.iter().find(|section| section.id == id).and_then(|section| section.count).unwrap_or(0)
    }

    /// Appends one entry to a section, which is made if there is none.
    pub(crate) fn append(&mut self, id: u8, entry: &[u8]) {
        let section = match self.sections.iter().position(|section| section.id == id) {
            Some(at) => &mut self.sections[at],
            None => {
                let at = self.sections.iter().position(|section| order(section.id) > order(id));
                let at = at.unwrap_or(self.sections.len());
                self.sections.insert(at, Section { id, count: Some(0), bytes: Vec::new() });
                &mut self.sections[at]
            }
        };
        *section.count.as_mut().expect("only sections with a count are appended to") += 1;
        section.bytes.extend_from_slice(entry);
    }

    pub(crate) fn module(self) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        for section in self.sections {
            let mut bytes = Vec::new();
            if let Some(count) = section.count {
                count.encode(&mut bytes);
            }
            bytes.extend_from_slice(&section.bytes);
            module.push(section.id);
            bytes.encode(&mut module);
        }
        module
    }
}

/// The rank of a section in a module: tags come after memories, and the number of data segments before the code.
fn order(id: u8) -> u8 {
    const ORDER: [u8; 14] = [0, 1, 2, 3, 4, 5, 13, 6, 7, 8, 9, 12, 10, 11];
    let at = ORDER.iter().position(|other| *other == id).expect("wasm-smith writes no other section");
    u8::try_from(at).expect("there are 14")
}

fn leb128_bytes(bytes: &[u8]) -> usize {
    1 + bytes.iter().take_while(|byte| **byte & 0x80 != 0).count()
}
