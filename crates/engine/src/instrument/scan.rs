//! Reading what the rewriting must know of a module before it changes a byte: its imports, which memories are shared,
//! and which functions call which.

use super::{FLAG_FIELD, FLAG_MODULE, InstrumentError};
use wasmparser::{Encoding, FunctionBody, KnownCustom, Operator, Parser, Payload, TypeRef};

pub(super) struct Module<'a> {
    pub(super) imported_functions: u32,
    pub(super) imported_memories: u32,
    /// For each memory, imported ones first: whether it is shared.
    pub(super) memories_shared: Vec<bool>,
    /// The number of globals, imported ones included.
    pub(super) globals: u32,
    pub(super) bodies: Vec<Body<'a>>,
    /// For each function with hints, in ascending order of its index: the offset of each hint, and whether the branch
    /// is likely to be taken.
    pub(super) branch_hints: Vec<(u32, Vec<(u32, bool)>)>,
}

pub(super) struct Body<'a> {
    pub(super) code: FunctionBody<'a>,
    /// Functions of this module that this one calls by name, as indices into `Module::bodies`.
    pub(super) callees: Vec<u32>,
}

impl<'a> Module<'a> {
    pub(super) fn scan(bytes: &'a [u8]) -> Result<Self, InstrumentError> {
        let mut module = Module {
            imported_functions: 0,
            imported_memories: 0,
            memories_shared: Vec::new(),
            globals: 0,
            bodies: Vec::new(),
            branch_hints: Vec::new(),
        };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload? {
                Payload::Version { encoding: Encoding::Component, .. } => return Err(InstrumentError::Component),
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        module.import(import?)?;
                    }
                }
                Payload::MemorySection(section) => {
                    for memory in section {
                        module.memories_shared.push(memory?.shared);
                    }
                }
                Payload::GlobalSection(section) => module.globals += section.count(),
                Payload::CodeSectionEntry(code) => {
                    let callees = module.direct_callees(&code)?;
                    module.bodies.push(Body { code, callees });
                }
                Payload::CustomSection(section) => {
                    if let KnownCustom::BranchHints(hints) = section.as_known() {
                        // Hints are only advice: a section that does not parse is dropped, as an engine would do.
                        module.branch_hints = read_branch_hints(hints).unwrap_or_default();
                    }
                }
                _ => {}
            }
        }
        let defined = module.bodies.len() as u64;
        for callee in module.bodies.iter().flat_map(|body| &body.callees) {
            if u64::from(*callee) >= defined {
                return Err(InstrumentError::UndefinedFunction {
                    function: u64::from(*callee) + u64::from(module.imported_functions),
                });
            }
        }
        Ok(module)
    }

    /// The guest's own branch hints for the body with this index.
    pub(super) fn hints_of(&self, body: u32) -> &[(u32, bool)] {
        let function = self.imported_functions + body;
        let found = self.branch_hints.binary_search_by_key(&function, |(function, _)| *function);
        found.map_or(&[], |at| &self.branch_hints[at].1)
    }

    fn import(&mut self, import: wasmparser::Import<'_>) -> Result<(), InstrumentError> {
        if import.module == FLAG_MODULE && import.name == FLAG_FIELD {
            return Err(InstrumentError::ReservedImport);
        }
        match import.ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => self.imported_functions += 1,
            TypeRef::Memory(memory) => {
                self.imported_memories += 1;
                self.memories_shared.push(memory.shared);
            }
            TypeRef::Global(_) => self.globals += 1,
            TypeRef::Table(_) | TypeRef::Tag(_) => {}
        }
        Ok(())
    }

    /// The functions of this module that `code` calls by name.
    fn direct_callees(&self, code: &FunctionBody<'_>) -> Result<Vec<u32>, InstrumentError> {
        let mut callees = Vec::new();
        let mut operators = code.get_operators_reader()?;
        while !operators.eof() {
            match operators.read()? {
                Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
                    callees.extend(function_index.checked_sub(self.imported_functions));
                }
                // Waiting on a memory that is not shared traps at once, and is no problem.
                Operator::MemoryAtomicWait32 { memarg } | Operator::MemoryAtomicWait64 { memarg }
                    if self.memories_shared.get(memarg.memory as usize) == Some(&true) =>
                {
                    let function = self.imported_functions + self.bodies.len() as u32;
                    return Err(InstrumentError::Waits { function });
                }
                _ => {}
            }
        }
        callees.sort_unstable();
        callees.dedup();
        Ok(callees)
    }

    /// Indices of bodies in the order in which a depth-first walk of the direct calls leaves them: callees before their
    /// callers, except for calls that go back to a function which the walk has not left yet. Every cycle of calls has
    /// such a call, just as every cycle in a function has a jump back to a loop.
    pub(super) fn callees_first(&self) -> Vec<u32> {
        let mut seen = vec![false; self.bodies.len()];
        let mut order = Vec::with_capacity(seen.len());
        // The walk keeps its own stack instead of recursing: a chain of calls through a million functions is legal.
        let mut open: Vec<(u32, usize)> = Vec::new();
        for root in 0..self.bodies.len() {
            if !std::mem::replace(&mut seen[root], true) {
                open.push((root as u32, 0));
            }
            while let Some((body, next)) = open.last_mut() {
                match self.bodies[*body as usize].callees.get(*next) {
                    Some(&callee) => {
                        *next += 1;
                        if !std::mem::replace(&mut seen[callee as usize], true) {
                            open.push((callee, 0));
                        }
                    }
                    None => {
                        order.push(*body);
                        open.pop();
                    }
                }
            }
        }
        order
    }
}

fn read_branch_hints(
    section: wasmparser::BranchHintSectionReader<'_>,
) -> Result<Vec<(u32, Vec<(u32, bool)>)>, wasmparser::Error> {
    let mut functions = Vec::new();
    for function in section {
        let function = function?;
        let mut hints = Vec::new();
        for hint in function.hints {
            let hint = hint?;
            hints.push((hint.func_offset, hint.taken));
        }
        functions.push((function.func, hints));
    }
    functions.sort_by_key(|(function, _)| *function);
    Ok(functions)
}
