//! Rewriting a component so that the host can stop it.
//!
//! A component imports no core memories, and none of its memories may be shared. So the flag's memory belongs to the
//! component itself: to a small core module that comes before all others. Each of the component's own core modules is rewritten
//! as the module's documentation has it, and imports that memory. Where it lies, a second small module tells the host as soon as
//! it is instantiated: its start function calls [`FLAG_IMPORT`], a function that the new component imports, with the first
//! byte of that memory as a list.
//!
//! ```wat
//! (import "remuda-interrupt" (func $tell (param "flag" (list u8))))
//! (core module $flag (memory (export "interrupt") 1 1))
//! (core module $teller (import "host" "tell" (func $tell (param i32 i32)))
//!   (func $start (call $tell (i32.const 0) (i32.const 1))) (start $start))
//! (core instance $flag (instantiate $flag))
//! (core func $tell (canon lower (func $tell) (memory $flag "interrupt")))
//! (core instance (instantiate $teller (with "host" (instance (export "tell" (func $tell))))))
//! ;; ...
//! (core instance (instantiate $own (with "remuda" (instance $flag)) (; ... ;)))
//! ```
//!
//! All of that comes first, so that every index of the component moves up by the same number. A component whose own components
//! have core modules is left alone ([`InstrumentError::Nested`]): what is defined in one is not seen in another.

use wasm_encoder::reencode::{Error, Reencode, ReencodeComponent, component_utils};
use wasm_encoder::{
    Alias, CanonicalFunctionSection, CanonicalOption, CodeSection, Component, ComponentAliasSection,
    ComponentImportSection, ComponentSectionId, ComponentTypeRef, ComponentTypeSection, ComponentValType, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, ImportSection, InstanceSection, MemorySection, MemoryType,
    Module, ModuleArg, ModuleSection, PrimitiveValType, RawSection, StartSection, TypeSection, ValType,
};
use wasmparser::{CustomSectionReader, Instance, Parser};

use super::rewrite::{FLAG_MEMORY, Renumber, rewrite_module};
use super::{FLAG_FIELD, FLAG_MODULE, InstrumentError, rewrite_bodies, scan};

/// The name of the function that the new component imports, to tell the host where the flag is.
pub(crate) const FLAG_IMPORT: &str = "remuda-interrupt";

/// How far the indices of a component's own definitions move up.
const TYPES: u32 = 2;
const FUNCTIONS: u32 = 1;
const CORE_MODULES: u32 = 2;
const CORE_INSTANCES: u32 = 3;
const CORE_FUNCTIONS: u32 = 1;
const CORE_MEMORIES: u32 = 1;

/// The core instance that exports the flag's memory.
const FLAG_INSTANCE: u32 = 0;

/// Rewrites `component` so that its guests stop soon after their flag is set. Gives up before the functions of one of its core
/// modules together exceed `bytes_max`.
///
/// `component` must be valid.
///
/// # Errors
///
/// See [`InstrumentError`]; `Nested` and `ReservedImport` say that a valid component cannot be rewritten.
pub(crate) fn instrument_component(component: &[u8], bytes_max: u64) -> Result<Vec<u8>, InstrumentError> {
    let mut new = Component::new();
    begin(&mut new);
    let mut shift = Shift { depth: 0, bytes_max };
    shift.parse_component(&mut new, Parser::new(0), component)?;
    Ok(new.finish())
}

/// Writes what comes first.
fn begin(component: &mut Component) {
    let mut types = ComponentTypeSection::new();
    types.defined_type().list(ComponentValType::Primitive(PrimitiveValType::U8));
    types.function().params([("flag", ComponentValType::Type(0))]).result(None);
    component.section(&types);
    let mut imports = ComponentImportSection::new();
    imports.import(FLAG_IMPORT, ComponentTypeRef::Func(1));
    component.section(&imports);
    component.section(&ModuleSection(&flag_module()));
    component.section(&ModuleSection(&teller_module()));
    let mut instances = InstanceSection::new();
    instances.instantiate::<[(&str, ModuleArg); 0], _>(0, []);
    component.section(&instances);
    let mut aliases = ComponentAliasSection::new();
    aliases.alias(Alias::CoreInstanceExport { instance: FLAG_INSTANCE, kind: ExportKind::Memory, name: FLAG_FIELD });
    component.section(&aliases);
    let mut functions = CanonicalFunctionSection::new();
    functions.lower(0, [CanonicalOption::Memory(0)]);
    component.section(&functions);
    let mut instances = InstanceSection::new();
    instances.export_items([("tell", ExportKind::Func, 0)]);
    instances.instantiate(1, [("host", ModuleArg::Instance(1))]);
    component.section(&instances);
}

fn flag_module() -> Module {
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { shared: false, ..FLAG_MEMORY });
    let mut exports = ExportSection::new();
    exports.export(FLAG_FIELD, ExportKind::Memory, 0);
    let mut module = Module::new();
    module.section(&memories).section(&exports);
    module
}

fn teller_module() -> Module {
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32, ValType::I32], []);
    types.ty().function([], []);
    let mut imports = ImportSection::new();
    imports.import("host", "tell", EntityType::Function(0));
    let mut functions = FunctionSection::new();
    functions.function(1);
    let mut start = Function::new([]);
    start.instructions().i32_const(0).i32_const(1).call(0).end();
    let mut code = CodeSection::new();
    code.function(&start);
    let mut module = Module::new();
    module.section(&types).section(&imports).section(&functions);
    module.section(&StartSection { function_index: 1 }).section(&code);
    module
}

/// A core module, rewritten.
fn instrument_module(source: &[u8], bytes_max: u64) -> Result<Vec<u8>, InstrumentError> {
    let module = scan::Module::scan(source)?;
    let mut renumber = Renumber::with_unshared_memory(&module);
    let bodies = rewrite_bodies(&module, &mut renumber, bytes_max)?;
    rewrite_module(source, &module, &bodies, renumber)
}

/// Moves the indices of the outermost component up.
struct Shift {
    /// How many components and types there are around what is being written.
    depth: u32,
    bytes_max: u64,
}

impl Shift {
    fn by(&self, index: u32, number: u32) -> u32 {
        self.outer(0, index, number)
    }

    /// An index of the component that is `count` components further out.
    fn outer(&self, count: u32, index: u32, number: u32) -> u32 {
        if count == self.depth { index.saturating_add(number) } else { index }
    }

    fn refuse_within(&self) -> Result<(), Error<InstrumentError>> {
        if self.depth == 0 { Ok(()) } else { Err(Error::UserError(InstrumentError::Nested)) }
    }
}

impl Reencode for Shift {
    type Error = InstrumentError;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<InstrumentError>> {
        Ok(self.by(function, CORE_FUNCTIONS))
    }

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error<InstrumentError>> {
        Ok(self.by(memory, CORE_MEMORIES))
    }
}

impl ReencodeComponent for Shift {
    fn component_type_index(&mut self, ty: u32) -> u32 {
        self.by(ty, TYPES)
    }

    fn component_func_index(&mut self, function: u32) -> u32 {
        self.by(function, FUNCTIONS)
    }

    fn module_index(&mut self, module: u32) -> u32 {
        self.by(module, CORE_MODULES)
    }

    fn instance_index(&mut self, instance: u32) -> u32 {
        self.by(instance, CORE_INSTANCES)
    }

    fn outer_component_type_index(&mut self, count: u32, ty: u32) -> u32 {
        self.outer(count, ty, TYPES)
    }

    fn outer_module_index(&mut self, count: u32, module: u32) -> u32 {
        self.outer(count, module, CORE_MODULES)
    }

    fn push_depth(&mut self) {
        self.depth += 1;
    }

    fn pop_depth(&mut self) {
        self.depth -= 1;
    }

    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        _: Parser,
        module: &[u8],
    ) -> Result<(), Error<InstrumentError>> {
        self.refuse_within()?;
        let bytes = instrument_module(module, self.bytes_max).map_err(Error::UserError)?;
        component.section(&RawSection { id: ComponentSectionId::CoreModule.into(), data: &bytes });
        Ok(())
    }

    /// Nobody reads the component's own names, and they may be malformed in a valid component.
    fn parse_component_custom_section(
        &mut self,
        _: &mut Component,
        _: CustomSectionReader<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        Ok(())
    }

    fn parse_instance(
        &mut self,
        instances: &mut InstanceSection,
        instance: Instance<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        self.refuse_within()?;
        let Instance::Instantiate { module_index, args } = instance else {
            return component_utils::parse_instance(self, instances, instance);
        };
        if args.iter().any(|arg| arg.name == FLAG_MODULE) {
            return Err(Error::UserError(InstrumentError::ReservedImport));
        }
        let own = args.iter().map(|arg| (arg.name, ModuleArg::Instance(self.by(arg.index, CORE_INSTANCES))));
        let args: Vec<_> = own.chain([(FLAG_MODULE, ModuleArg::Instance(FLAG_INSTANCE))]).collect();
        instances.instantiate(self.by(module_index, CORE_MODULES), args);
        Ok(())
    }
}
