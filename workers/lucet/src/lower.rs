//! What Lucet gets instead of a module: Lucet is of early 2020, when WebAssembly had no bulk memory operations, no passive
//! segments, and tables that nobody changes.
//!
//! - Instructions of the bulk memory proposal become calls of functions of the worker ([`Builtin`]).
//! - Element segments, passive ones too, become parts of the one table that is there from the start: what is active at the
//!   places that the guest sees, and what is passive after all of these ([`Table`]).
//! - Passive data segments stay with the worker.
//! - Code that is never reached is left out: the validator of that time does not know all of its rules.
//! - Whether a segment is out of bounds is found out here, since all offsets are constants.
//! - Imported and exported functions get names of ours, since Lucet makes the names of symbols from them, and two of its
//!   names may be the same.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{
    CodeSection, ConstExpr, DataSection, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
    FunctionSection, GlobalSection, ImportSection, Instruction, Module, StartSection, TableSection, TypeSection,
    ValType,
};
use wasmparser::{DataKind, ElementItems, ElementKind, ExternalKind, FunctionBody, Operator, Parser, Payload, TypeRef};

use crate::WASM_PAGE_BYTES;

/// The names of modules from which functions are imported after all: those of the host, and those of the worker.
pub(crate) const HOST: &str = "h";
pub(crate) const WORKER: &str = "w";

/// The most elements that all segments have together. The host allows as many in tables.
const ELEMENTS_MAX: u64 = 10_000_000;

/// A function of the worker that a module calls for an instruction that Lucet does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Builtin {
    /// `memory.copy`
    MemoryCopy,
    /// `memory.fill`
    MemoryFill,
    /// `memory.init`; the last parameter is the segment.
    MemoryInit,
    /// `data.drop`
    DataDrop,
    /// `table.copy`
    TableCopy,
    /// `table.init`; the last parameter is the segment.
    TableInit,
    /// `elem.drop`
    ElementDrop,
    /// `memory.size`, which Lucet calls a function for.
    MemorySize,
    /// `memory.grow`, which Lucet calls a function for.
    MemoryGrow,
}

impl Builtin {
    pub(crate) const ALL: [Self; 9] = [
        Self::MemoryCopy,
        Self::MemoryFill,
        Self::MemoryInit,
        Self::DataDrop,
        Self::TableCopy,
        Self::TableInit,
        Self::ElementDrop,
        Self::MemorySize,
        Self::MemoryGrow,
    ];

    /// How many of them lowered modules import, from the first on. Lucet itself adds calls of the others.
    pub(crate) const IMPORTED: usize = 7;

    /// The number of its parameters, which are `i32`.
    pub(crate) const fn params(self) -> usize {
        match self {
            Self::MemoryCopy | Self::MemoryFill | Self::TableCopy => 3,
            Self::MemoryInit | Self::TableInit => 4,
            Self::DataDrop | Self::ElementDrop | Self::MemoryGrow => 1,
            Self::MemorySize => 0,
        }
    }
}

/// What has to be known of a module besides its code.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The module and the name of each imported function.
    pub(crate) imports: Vec<(String, String)>,
    /// The names of exported functions. Each is exported as its position: [`exported`].
    pub(crate) exports: Vec<String>,
    pub(crate) table: Table,
    /// The data segments; active ones are empty.
    pub(crate) data: Vec<Vec<u8>>,
    /// The segment by which no instance gets past its start, because it does not fit.
    pub(crate) misfit: Option<Misfit>,
}

/// The table.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    /// The elements that the guest sees.
    pub(crate) elements: u32,
    /// How many of them, from the first on, are in Lucet's table before passive segments follow.
    pub(crate) active: u32,
    /// Where in Lucet's table each segment is; active ones are empty.
    pub(crate) segments: Vec<Range<u32>>,
    /// Whether the guest has instructions that change the table.
    pub(crate) changes: bool,
}

/// Which kind of segment does not fit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Misfit {
    Table,
    Memory,
}

/// The name that the exported function at a position is exported by.
pub(crate) fn exported(position: usize) -> String {
    format!("e{position}")
}

/// Lowers a valid module.
pub(crate) fn lower(source: &[u8]) -> Result<(Vec<u8>, Plan), String> {
    Lowering::default().module(source).map_err(|error| error.to_string())
}

#[derive(Default)]
struct Lowering {
    plan: Plan,
    imported_functions: u32,
    memory_bytes: u64,
    /// The functions in the table, by their places in Lucet's table.
    entries: BTreeMap<u32, u32>,
}

type Lowered<T> = Result<T, Error<String>>;

impl Reencode for Lowering {
    type Error = String;

    /// The worker's functions are imported after the host's.
    fn function_index(&mut self, function: u32) -> Lowered<u32> {
        let added = u32::try_from(Builtin::IMPORTED).expect("there are few");
        Ok(if function < self.imported_functions { function } else { function + added })
    }
}

impl Lowering {
    fn module(mut self, source: &[u8]) -> Lowered<(Vec<u8>, Plan)> {
        let mut types = TypeSection::new();
        let mut imports = ImportSection::new();
        let mut functions = FunctionSection::new();
        let mut globals = GlobalSection::new();
        let mut exports = ExportSection::new();
        let mut start = None;
        let mut code = CodeSection::new();
        let mut data = DataSection::new();
        let mut has_table = false;
        let mut segments: Vec<Segment> = Vec::new();
        for payload in Parser::new(0).parse_all(source) {
            match payload? {
                Payload::TypeSection(section) => self.parse_type_section(&mut types, section)?,
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        self.import(&import?, &mut imports)?;
                    }
                }
                Payload::FunctionSection(section) => self.parse_function_section(&mut functions, section)?,
                Payload::TableSection(section) => {
                    for one in section {
                        let one = one?;
                        self.plan.table.elements =
                            u32::try_from(one.ty.initial).map_err(|_| refused("a table's size"))?;
                        if std::mem::replace(&mut has_table, true) {
                            return Err(refused("more than one table"));
                        }
                    }
                }
                Payload::MemorySection(_) => return Err(refused("a memory that it does not import")),
                Payload::GlobalSection(section) => self.parse_global_section(&mut globals, section)?,
                Payload::ExportSection(section) => {
                    for export in section {
                        self.export(&export?, &mut exports)?;
                    }
                }
                Payload::StartSection { func, .. } => start = Some(self.function_index(func)?),
                Payload::ElementSection(section) => {
                    for element in section {
                        segments.push(self.element(element?)?);
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    code.function(&self.body(&body)?);
                }
                Payload::DataSection(section) => {
                    for segment in section {
                        self.data(&segment?, &mut data)?;
                    }
                }
                _ => {}
            }
        }
        for (position, builtin) in Builtin::ALL[..Builtin::IMPORTED].iter().enumerate() {
            imports.import(WORKER, &position.to_string(), EntityType::Function(types.len()));
            types.ty().function(vec![ValType::I32; builtin.params()], []);
        }
        if !has_table {
            // All that can be done with a segment is to drop it.
            for segment in &mut segments {
                segment.functions.clear();
            }
        }
        self.place(&segments)?;
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions);
        if has_table {
            let entries = self.entries.last_key_value().map_or(0, |(last, _)| u64::from(*last) + 1);
            let mut tables = TableSection::new();
            tables.table(wasm_encoder::TableType {
                element_type: wasm_encoder::RefType::FUNCREF,
                minimum: entries,
                maximum: None,
                table64: false,
                shared: false,
            });
            module.section(&tables);
        }
        module.section(&globals).section(&exports);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&self.elements()).section(&code).section(&data);
        Ok((module.finish(), self.plan))
    }

    fn import(&mut self, import: &wasmparser::Import<'_>, imports: &mut ImportSection) -> Lowered<()> {
        match import.ty {
            TypeRef::Func(ty) | TypeRef::FuncExact(ty) => {
                imports.import(HOST, &self.imported_functions.to_string(), EntityType::Function(ty));
                self.plan.imports.push((import.module.to_owned(), import.name.to_owned()));
                self.imported_functions += 1;
            }
            TypeRef::Memory(ty) => {
                self.memory_bytes = ty.initial.saturating_mul(WASM_PAGE_BYTES as u64);
                imports.import(import.module, import.name, EntityType::Memory(self.memory_type(ty)?));
            }
            _ => return Err(refused("an import that is neither a function nor the memory")),
        }
        Ok(())
    }

    fn export(&mut self, export: &wasmparser::Export<'_>, exports: &mut ExportSection) -> Lowered<()> {
        match export.kind {
            ExternalKind::Func => {
                let name = exported(self.plan.exports.len());
                exports.export(&name, ExportKind::Func, self.function_index(export.index)?);
                self.plan.exports.push(export.name.to_owned());
            }
            ExternalKind::Global => {
                exports.export(export.name, ExportKind::Global, export.index);
            }
            _ => {}
        }
        Ok(())
    }

    /// The functions of a segment, and where it is to be put, if it is active.
    fn element(&mut self, element: wasmparser::Element<'_>) -> Lowered<Segment> {
        // References as values are of a proposal that this engine does not have.
        let ElementItems::Functions(section) = element.items else {
            return Err(refused("a segment of references"));
        };
        let mut functions = Vec::new();
        for function in section {
            functions.push(self.function_index(function?)?);
        }
        Ok(match element.kind {
            ElementKind::Passive => Segment { functions, at: None },
            // Like one that is dropped at once.
            ElementKind::Declared => Segment { functions: Vec::new(), at: None },
            ElementKind::Active { offset_expr, .. } => Segment { functions, at: Some(constant(&offset_expr)?) },
        })
    }

    /// Gives each element its place in Lucet's table.
    fn place(&mut self, segments: &[Segment]) -> Lowered<()> {
        let table = &mut self.plan.table;
        for Segment { functions, at } in segments {
            let Some(at) = at else { continue };
            if u64::from(*at) + functions.len() as u64 > u64::from(table.elements) {
                self.plan.misfit = Some(Misfit::Table);
                break;
            }
            for (place, function) in (*at..).zip(functions) {
                self.entries.insert(place, *function);
            }
        }
        table.active = self.entries.last_key_value().map_or(0, |(last, _)| last + 1);
        let mut next = table.active;
        for Segment { functions, at } in segments {
            let first = next;
            if at.is_none() {
                for function in functions {
                    self.entries.insert(next, *function);
                    next += 1;
                    if u64::from(next) > ELEMENTS_MAX {
                        return Err(refused("more than ten million elements"));
                    }
                }
            }
            table.segments.push(first..next);
        }
        Ok(())
    }

    /// The table's elements, as one segment for each run of functions.
    fn elements(&self) -> ElementSection {
        let mut section = ElementSection::new();
        let entries: Vec<(u32, u32)> = self.entries.iter().map(|(place, function)| (*place, *function)).collect();
        for run in entries.chunk_by(|one, other| other.0 == one.0 + 1) {
            let functions: Vec<u32> = run.iter().map(|(_, function)| *function).collect();
            let offset = ConstExpr::i32_const(run[0].0.cast_signed());
            section.active(None, &offset, Elements::Functions(functions.into()));
        }
        section
    }

    fn data(&mut self, segment: &wasmparser::Data<'_>, data: &mut DataSection) -> Lowered<()> {
        let kept = match &segment.kind {
            DataKind::Passive => segment.data.to_vec(),
            DataKind::Active { offset_expr, .. } => {
                let at = constant(offset_expr)?;
                if u64::from(at) + segment.data.len() as u64 > self.memory_bytes {
                    self.plan.misfit.get_or_insert(Misfit::Memory);
                } else if !segment.data.is_empty() {
                    data.active(0, &ConstExpr::i32_const(at.cast_signed()), segment.data.iter().copied());
                }
                Vec::new()
            }
        };
        self.plan.data.push(kept);
        Ok(())
    }

    fn body(&mut self, body: &FunctionBody<'_>) -> Lowered<Function> {
        let mut function = self.new_function_with_parsed_locals(body)?;
        // How many blocks were opened in code that is never reached; `None` in code that may be.
        let mut unreached: Option<usize> = None;
        for operator in body.get_operators_reader()? {
            let operator = operator?;
            unreached = match (unreached, &operator) {
                (None, Operator::Br { .. } | Operator::BrTable { .. } | Operator::Return | Operator::Unreachable) => {
                    function.instruction(&self.instruction(operator)?);
                    unreached = Some(0);
                    continue;
                }
                (Some(0), Operator::Else | Operator::End) | (None, _) => None,
                (Some(blocks), Operator::Block { .. } | Operator::Loop { .. } | Operator::If { .. }) => {
                    Some(blocks + 1)
                }
                (Some(blocks), Operator::End) => Some(blocks - 1),
                (Some(blocks), _) => Some(blocks),
            };
            if unreached.is_some() {
                continue;
            }
            let (builtin, segment) = match operator {
                Operator::MemoryCopy { .. } => (Builtin::MemoryCopy, None),
                Operator::MemoryFill { .. } => (Builtin::MemoryFill, None),
                Operator::MemoryInit { data_index, .. } => (Builtin::MemoryInit, Some(data_index)),
                Operator::DataDrop { data_index } => (Builtin::DataDrop, Some(data_index)),
                Operator::TableCopy { .. } => (Builtin::TableCopy, None),
                Operator::TableInit { elem_index, .. } => (Builtin::TableInit, Some(elem_index)),
                Operator::ElemDrop { elem_index } => (Builtin::ElementDrop, Some(elem_index)),
                other => {
                    function.instruction(&self.instruction(other)?);
                    continue;
                }
            };
            self.plan.table.changes |= matches!(builtin, Builtin::TableCopy | Builtin::TableInit);
            if let Some(segment) = segment {
                function.instruction(&Instruction::I32Const(segment.cast_signed()));
            }
            function.instruction(&Instruction::Call(self.imported_functions + builtin as u32));
        }
        Ok(function)
    }
}

/// An element segment.
struct Segment {
    functions: Vec<u32>,
    /// Where an active one begins.
    at: Option<u32>,
}

/// The value of a constant expression, as an unsigned number.
fn constant(expression: &wasmparser::ConstExpr<'_>) -> Lowered<u32> {
    match expression.get_operators_reader().read()? {
        Operator::I32Const { value } => Ok(value.cast_unsigned()),
        _ => Err(refused("a segment whose place is no constant")),
    }
}

fn refused(what: &str) -> Error<String> {
    Error::UserError(format!("this engine has no modules with {what}"))
}
