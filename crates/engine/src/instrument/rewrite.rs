//! Writing the new module: one memory more, polls in the code, everything else as it was.

use super::scan::{Body, Module};
use super::work::Walk;
use super::{FLAG_FIELD, FLAG_GLOBAL, FLAG_MODULE, InstrumentError, POLL_WORK_MAX};
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{
    BranchHint, BranchHints, CodeSection, ConstExpr, Encode, EntityType, ExportKind, ExportSection, GlobalSection,
    GlobalType, ImportSection, Instruction, MemArg, MemoryType, NameSection, SectionId, ValType,
};
use wasmparser::{CodeSectionReader, CustomSectionReader, KnownCustom, Name, Operator, Parser};

/// The work of a call beyond the callee's own operators: arguments, frame, return.
const CALL_WORK: u32 = 4;
/// The work of an operator that an engine may answer with a call into its runtime.
const LIBCALL_WORK: u32 = 16;
/// The most work of a function before its first poll. A function that may do more polls at its entry, and its callers
/// need not count it. This is a quarter of the limit, so that code which calls a function two or three times need not
/// poll for each call.
const CALLEE_WORK_MAX: u32 = POLL_WORK_MAX / 4;

/// The memory whose first byte is the flag.
pub(super) const FLAG_MEMORY: MemoryType =
    MemoryType { minimum: 1, maximum: Some(1), memory64: false, shared: true, page_size_log2: None };

/// One poll, as bytes to put between two instructions. It leaves the operand stack as it found it.
pub(super) struct Poll {
    bytes: Vec<u8>,
    /// The offset in `bytes` of the branch, which is not taken until the guest is to stop.
    branch: usize,
}

impl Poll {
    pub(super) fn of(flag_memory: u32) -> Self {
        let flag = MemArg { offset: 0, align: 0, memory_index: flag_memory };
        let mut bytes = Vec::new();
        Instruction::I32Const(0).encode(&mut bytes);
        Instruction::I32AtomicLoad8U(flag).encode(&mut bytes);
        let branch = bytes.len();
        Instruction::If(wasm_encoder::BlockType::Empty).encode(&mut bytes);
        Instruction::Unreachable.encode(&mut bytes);
        Instruction::End.encode(&mut bytes);
        Poll { bytes, branch }
    }

    fn of_global(flag: u32) -> Self {
        let mut bytes = Vec::new();
        Instruction::GlobalGet(flag).encode(&mut bytes);
        let branch = bytes.len();
        Instruction::If(wasm_encoder::BlockType::Empty).encode(&mut bytes);
        Instruction::Unreachable.encode(&mut bytes);
        Instruction::End.encode(&mut bytes);
        Poll { bytes, branch }
    }
}

/// A body with its polls.
pub(super) struct Rewritten {
    pub(super) bytes: Vec<u8>,
    pub(super) polls: u32,
    /// For each branch with a hint: its offset from the body's first byte, and whether it is likely to be taken.
    pub(super) branch_hints: Vec<(u32, bool)>,
    /// Work from the entry to the first poll, or to the end, on the worst path: at most `CALLEE_WORK_MAX`, and 0 if the
    /// function polls at its entry.
    pub(super) work: u32,
}

/// What an operator needs before it is executed.
enum Need {
    /// The operator does at most this much work.
    Work(u32),
    /// The operator is a call that goes back to a function that may be running. It does this much work, and needs a
    /// poll somewhere between the function's entry and here.
    Return(u32),
    /// The operator's work has no useful bound: it needs a poll right before it.
    Poll,
}

impl Need {
    fn work(&self) -> u32 {
        match self {
            Need::Work(work) | Need::Return(work) => *work,
            Need::Poll => CALL_WORK,
        }
    }

    /// Whether a poll must come before the operator.
    fn is_due(&self, work: u32, unpolled: bool) -> bool {
        let too_much = work > 0 && work.saturating_add(self.work()) > POLL_WORK_MAX;
        match self {
            Need::Work(_) => too_much,
            Need::Return(_) => too_much || unpolled,
            Need::Poll => true,
        }
    }
}

/// Rewrites `body`. `callee_work` gives `Rewritten::work` of a function of this module, or `None` if that is not yet
/// rewritten: then a call of it goes back to a function that may be running.
pub(super) fn rewrite_body(
    reencoder: &mut Renumber,
    poll: &Poll,
    body: &Body<'_>,
    hints: &[(u32, bool)],
    imported_functions: u32,
    callee_work: &dyn Fn(u32) -> Option<u32>,
) -> Result<Rewritten, InstrumentError> {
    let source = body.code.as_bytes();
    let base = body.code.range().start;
    let mut operators = body.code.get_operators_reader()?;
    let code_start = operators.original_position() - base;

    let mut walk = Walk::start(locals_work(body)?);
    let mut out = Output {
        source,
        copied: code_start,
        bytes: Vec::with_capacity(source.len() * 5 / 4),
        polls: 0,
        branches: Vec::new(),
    };
    let mut hints = hints.iter().peekable();
    while !operators.eof() {
        let at = operators.original_position() - base;
        let operator = operators.read()?;
        let next = operators.original_position() - base;

        let need = need(&operator, imported_functions, callee_work);
        if let Some(work) = walk.here().work()
            && need.is_due(work, walk.here().unpolled())
        {
            out.poll(poll, at);
            walk.poll();
        }
        while let Some((offset, taken)) = hints.next_if(|(offset, _)| *offset as usize <= at) {
            out.copy(at);
            if *offset as usize == at {
                out.branches.push((out.bytes.len(), *taken));
            }
        }
        if mentions_memory(&operator)? {
            out.copy(at);
            reencoder.instruction(operator.clone())?.encode(&mut out.bytes);
            out.copied = next;
        }
        walk.step(&operator, need.work());
        if matches!(operator, Operator::Loop { .. }) && walk.here().work().is_some() {
            out.poll(poll, next);
            walk.poll();
        }
    }
    out.copy(source.len());

    let head = walk.head();
    let entry = (head > CALLEE_WORK_MAX).then_some(poll);
    Ok(out.finish(code_start, entry, if entry.is_some() { 0 } else { head }))
}

fn need(operator: &Operator<'_>, imported_functions: u32, callee_work: &dyn Fn(u32) -> Option<u32>) -> Need {
    match operator {
        Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
            match function_index.checked_sub(imported_functions) {
                Some(body) => match callee_work(body) {
                    Some(work) => Need::Work(CALL_WORK + work),
                    None => Need::Return(CALL_WORK + CALLEE_WORK_MAX),
                },
                None => Need::Poll,
            }
        }
        // Any function may be called: one that is still running, or one of the host.
        Operator::CallIndirect { .. }
        | Operator::ReturnCallIndirect { .. }
        | Operator::CallRef { .. }
        | Operator::ReturnCallRef { .. }
        | Operator::Resume { .. }
        | Operator::ResumeThrow { .. }
        | Operator::ResumeThrowRef { .. }
        | Operator::Suspend { .. }
        | Operator::Switch { .. } => Need::Poll,
        // The size is only known at run time, or the stack is searched, or the garbage collector may run.
        Operator::MemoryFill { .. }
        | Operator::MemoryCopy { .. }
        | Operator::MemoryInit { .. }
        | Operator::MemoryGrow { .. }
        | Operator::MemoryDiscard { .. }
        | Operator::TableFill { .. }
        | Operator::TableCopy { .. }
        | Operator::TableInit { .. }
        | Operator::TableGrow { .. }
        | Operator::StructNew { .. }
        | Operator::StructNewDefault { .. }
        | Operator::StructNewDesc { .. }
        | Operator::StructNewDefaultDesc { .. }
        | Operator::ArrayNew { .. }
        | Operator::ArrayNewDefault { .. }
        | Operator::ArrayNewFixed { .. }
        | Operator::ArrayNewData { .. }
        | Operator::ArrayNewElem { .. }
        | Operator::ArrayFill { .. }
        | Operator::ArrayCopy { .. }
        | Operator::ArrayInitData { .. }
        | Operator::ArrayInitElem { .. }
        | Operator::ContNew { .. }
        | Operator::ContBind { .. }
        | Operator::Throw { .. }
        | Operator::ThrowRef
        | Operator::Rethrow { .. }
        | Operator::MemoryAtomicWait32 { .. }
        | Operator::MemoryAtomicWait64 { .. }
        | Operator::MemoryAtomicNotify { .. } => Need::Poll,
        Operator::RefFunc { .. }
        | Operator::TableGet { .. }
        | Operator::TableSet { .. }
        | Operator::RefTestNonNull { .. }
        | Operator::RefTestNullable { .. }
        | Operator::RefCastNonNull { .. }
        | Operator::RefCastNullable { .. }
        | Operator::BrOnCast { .. }
        | Operator::BrOnCastFail { .. } => Need::Work(LIBCALL_WORK),
        // These operators become no machine code.
        Operator::Nop
        | Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::Else
        | Operator::End
        | Operator::Try { .. }
        | Operator::TryTable { .. }
        | Operator::Catch { .. }
        | Operator::CatchAll
        | Operator::Delegate { .. } => Need::Work(0),
        _ => Need::Work(1),
    }
}

/// The work at a function's entry: 1, and 1 for each local that is set to zero there.
fn locals_work(body: &Body<'_>) -> Result<u32, InstrumentError> {
    let mut work = 1u32;
    for group in body.code.get_locals_reader()? {
        work = work.saturating_add(group?.0);
    }
    Ok(work)
}

/// Whether `operator` names a memory, so that it may have to be renumbered; everything else is copied byte by byte.
fn mentions_memory(operator: &Operator<'_>) -> Result<bool, InstrumentError> {
    macro_rules! is_memory {
        (memarg) => {
            true
        };
        (mem) => {
            true
        };
        (src_mem) => {
            true
        };
        (dst_mem) => {
            true
        };
        ($other:ident) => {
            false
        };
    }
    macro_rules! any_field {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $ty:ty),* })? => $visit:ident ($($ann:tt)*))*) => {
            match operator {
                $( Operator::$op $({ $($arg: _),* })? => Ok(false $($(|| is_memory!($arg))*)?), )*
                // An operator newer than this code could name a memory in a field that it does not know.
                other => Err(InstrumentError::UnknownOperator { operator: format!("{other:?}") }),
            }
        };
    }
    wasmparser::for_each_operator!(any_field)
}

struct Output<'a> {
    source: &'a [u8],
    /// How many bytes of `source` have been copied to `bytes`, or replaced there.
    copied: usize,
    bytes: Vec<u8>,
    polls: u32,
    branches: Vec<(usize, bool)>,
}

impl Output<'_> {
    fn copy(&mut self, until: usize) {
        self.bytes.extend_from_slice(&self.source[self.copied..until]);
        self.copied = until;
    }

    fn poll(&mut self, poll: &Poll, at: usize) {
        self.copy(at);
        self.branches.push((self.bytes.len() + poll.branch, false));
        self.bytes.extend_from_slice(&poll.bytes);
        self.polls += 1;
    }

    /// Puts the locals' declarations before the code, and the poll at the entry if there is to be one.
    fn finish(self, code_start: usize, entry: Option<&Poll>, work: u32) -> Rewritten {
        let mut bytes = self.source[..code_start].to_vec();
        let mut branch_hints = Vec::new();
        if let Some(poll) = entry {
            branch_hints.push(((bytes.len() + poll.branch) as u32, false));
            bytes.extend_from_slice(&poll.bytes);
        }
        let shift = bytes.len();
        bytes.extend_from_slice(&self.bytes);
        branch_hints.extend(self.branches.iter().map(|(at, taken)| ((at + shift) as u32, *taken)));
        Rewritten { bytes, polls: self.polls + u32::from(entry.is_some()), branch_hints, work }
    }
}

/// Writes the module anew: the flag's import after the other imports, `bodies` for the code, every memory index that
/// follows the imported memories one higher.
pub(super) fn rewrite_module(
    source: &[u8],
    module: &Module<'_>,
    bodies: &[Rewritten],
    mut renumber: Renumber,
) -> Result<Vec<u8>, InstrumentError> {
    let mut branch_hints = BranchHints::new();
    for (body, index) in bodies.iter().zip(module.imported_functions..) {
        if !body.branch_hints.is_empty() {
            let hints = body.branch_hints.iter();
            let hints =
                hints.map(|(at, taken)| BranchHint { branch_func_offset: *at, branch_hint_value: u32::from(*taken) });
            branch_hints.function_hints(index, hints);
        }
    }
    let mut sections =
        Sections { renumber: &mut renumber, bodies, branch_hints, flag_imported: false, flag_exported: false };
    let mut out = wasm_encoder::Module::new();
    sections.parse_core_module(&mut out, Parser::new(0), source)?;
    Ok(out.finish())
}

/// Renumbers memories, so that the flag's memory has an index of its own.
pub(super) struct Renumber {
    imported: u32,
    memories: u32,
    /// The index of the flag, if the flag is a global. Then memories keep their indices.
    global: Option<u32>,
    /// Whether the flag's memory is shared.
    shared: bool,
}

impl Renumber {
    pub(super) fn of(module: &Module<'_>) -> Self {
        let memories = module.memories_shared.len() as u32;
        Renumber { imported: module.imported_memories, memories, global: None, shared: true }
    }

    #[cfg(any(feature = "wasmtime.cranelift", test))]
    pub(super) fn with_unshared_memory(module: &Module<'_>) -> Self {
        Renumber { shared: false, ..Renumber::of(module) }
    }

    #[cfg(any(feature = "wasmer.singlepass", test))]
    pub(super) fn with_global(module: &Module<'_>) -> Self {
        Renumber { global: Some(module.globals), ..Renumber::of(module) }
    }

    pub(super) fn poll(&self) -> Poll {
        self.global.map_or_else(|| Poll::of(self.flag_memory()), Poll::of_global)
    }

    pub(super) fn flag_memory(&self) -> u32 {
        self.imported
    }
}

impl Reencode for Renumber {
    type Error = InstrumentError;

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error<InstrumentError>> {
        // An invalid module must not become a valid one that reaches the flag.
        if memory >= self.memories {
            return Err(Error::UserError(InstrumentError::UndefinedMemory { memory }));
        }
        Ok(if memory < self.imported || self.global.is_some() { memory } else { memory + 1 })
    }
}

struct Sections<'a> {
    renumber: &'a mut Renumber,
    bodies: &'a [Rewritten],
    branch_hints: BranchHints,
    /// Whether the new module has the flag already: imported, or defined as the last global.
    flag_imported: bool,
    flag_exported: bool,
}

impl Sections<'_> {
    fn import_flag(&mut self, imports: &mut ImportSection) {
        let flag = MemoryType { shared: self.renumber.shared, ..FLAG_MEMORY };
        imports.import(FLAG_MODULE, FLAG_FIELD, EntityType::Memory(flag));
        self.flag_imported = true;
    }

    fn define_flag(&mut self, globals: &mut GlobalSection) {
        let ty = GlobalType { val_type: ValType::I32, mutable: true, shared: false };
        globals.global(ty, &ConstExpr::i32_const(0));
        self.flag_imported = true;
    }

    fn export_flag(&mut self, exports: &mut ExportSection) {
        if let Some(flag) = self.renumber.global {
            exports.export(FLAG_GLOBAL, ExportKind::Global, flag);
        }
        self.flag_exported = true;
    }

    /// Writes sections for the flag's global and export, if the module has none to which they could be added. It is
    /// called before each section, and `before` tells which one is next.
    fn add_global_sections(&mut self, module: &mut wasm_encoder::Module, before: Option<SectionId>) {
        use SectionId::{Export, Function, Global, Import, Memory, Table, Tag, Type};
        if matches!(before, Some(Type | Import | Function | Table | Memory | Tag | Global)) {
            return;
        }
        if !self.flag_imported {
            let mut globals = GlobalSection::new();
            self.define_flag(&mut globals);
            module.section(&globals);
        }
        if !self.flag_exported && before != Some(Export) {
            let mut exports = ExportSection::new();
            self.export_flag(&mut exports);
            module.section(&exports);
        }
    }
}

impl Reencode for Sections<'_> {
    type Error = InstrumentError;

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error<InstrumentError>> {
        self.renumber.memory_index(memory)
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: wasmparser::ImportSectionReader<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        utils::parse_import_section(self, imports, section)?;
        if self.renumber.global.is_none() {
            self.import_flag(imports);
        }
        Ok(())
    }

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: wasmparser::GlobalSectionReader<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        utils::parse_global_section(self, globals, section)?;
        if self.renumber.global.is_some() {
            self.define_flag(globals);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        utils::parse_export_section(self, exports, section)?;
        self.export_flag(exports);
        Ok(())
    }

    fn intersperse_section_hook(
        &mut self,
        module: &mut wasm_encoder::Module,
        _after: Option<SectionId>,
        before: Option<SectionId>,
    ) -> Result<(), Error<InstrumentError>> {
        if self.renumber.global.is_some() {
            self.add_global_sections(module, before);
        } else if !self.flag_imported && !matches!(before, Some(SectionId::Type | SectionId::Import)) {
            let mut imports = ImportSection::new();
            self.import_flag(&mut imports);
            module.section(&imports);
        }
        if before == Some(SectionId::Code) && !self.branch_hints.is_empty() {
            module.section(&self.branch_hints);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        _section: CodeSectionReader<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        for body in self.bodies {
            code.raw(&body.bytes);
        }
        Ok(())
    }

    fn parse_custom_section(
        &mut self,
        module: &mut wasm_encoder::Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        match section.as_known() {
            // Names are for people: a section that does not parse is dropped.
            KnownCustom::Name(names) => {
                if let Ok(names) = self.custom_name_section(names) {
                    module.section(&names);
                }
            }
            KnownCustom::Producers(_) => {
                module.section(&self.custom_section(section)?);
            }
            _ if section.name() == "target_features" => {
                module.section(&self.custom_section(section)?);
            }
            // Debug information, source maps, code metadata and relocations are only right for the old offsets.
            _ => {}
        }
        Ok(())
    }

    fn parse_custom_name_subsection(
        &mut self,
        names: &mut NameSection,
        section: Name<'_>,
    ) -> Result<(), Error<InstrumentError>> {
        match section {
            // Labels are numbered by the blocks of a function, and each poll adds a block.
            Name::Label(_) => Ok(()),
            section => utils::parse_custom_name_subsection(self, names, section),
        }
    }
}
