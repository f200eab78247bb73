//! Checks that Singlepass lacks, made while it reads a function's operators.
//!
//! # Frames
//!
//! A guest's stack ends in one page that faults. Singlepass moves the stack pointer over locals and over the results of
//! blocks and calls without touching the stack in between, and its probes start 4 KiB and a little below the frame: a
//! function with many locals or results could write beyond that page, into memory that is not the guest's. So a
//! function is refused if it declares more than [`LOCALS_MAX`] locals, as many as the page covers, or if its open
//! blocks and a call together reserve more than [`SLOTS_MAX`] values.
//!
//! # Tables
//!
//! Wasmer does not ask the host before a table grows. So `table.grow` is surrounded by code that enforces the limit: if
//! the guest wants more elements than are left, that code asks for more than any table may have, so that `table.grow`
//! answers -1; otherwise it subtracts the new elements from those that are left. It decides in the order of
//! [`Budget`](crate::adapter::guest::Budget): growth beyond the table's own maximum does not count as refused by the
//! limit.
//!
//! ```wat
//! (global.set $delta)
//! (select (global.get $delta) (i32.const -1) (i32.le_u (global.get $delta) (global.get $left)))
//! (table.grow $table)
//! (global.set $result)
//! (global.set $refused (i32.or (global.get $refused) (i32.and
//!     (i32.gt_u (global.get $delta) (global.get $left))
//!     (i32.ge_u (i32.sub (i32.const maximum) (table.size $table)) (global.get $delta)))))
//! (global.set $left (i32.sub (global.get $left)
//!     (select (i32.const 0) (global.get $delta) (i32.eq (global.get $result) (i32.const -1)))))
//! (global.get $result)
//! ```

use std::sync::{Arc, OnceLock};

use wasmer::sys::wasmparser::{BlockType, Operator, ValType};
use wasmer::sys::{FunctionMiddleware, MiddlewareError, MiddlewareReaderState, ModuleMiddleware};
use wasmer::{GlobalInit, GlobalType, LocalFunctionIndex, ModuleInfo, Mutability, Type};

use crate::adapter::guest::is_tables_own;

/// The most locals that a function may declare: a page of them.
const LOCALS_MAX: usize = 512;
/// The most results of open blocks and of a call that may be reserved at the same time. Together with all else that is
/// pushed they stay within a page.
const SLOTS_MAX: u32 = 400;

/// The number of globals that are added behind the guest's own and the flag; the next constants number them.
pub(super) const ADDED_GLOBALS: u32 = 4;
/// The global with the number of elements by which tables may still grow.
pub(super) const LEFT: u32 = 0;
/// The global that says whether the limit has refused growth of a table.
pub(super) const REFUSED: u32 = 1;
/// The global that holds by how many elements a table is to grow.
const DELTA: u32 = 2;
/// The global that holds the answer of `table.grow`.
const RESULT: u32 = 3;

/// The checks for one module. The types that are learnt from the module serve the checks of all its functions.
#[derive(Debug, Default)]
pub(super) struct FrameRules(OnceLock<Arc<Types>>);

#[derive(Debug, Default)]
struct Types {
    /// The numbers of parameters and of results of each type.
    signatures: Vec<(u32, u32)>,
    /// The type of each function, as an index.
    functions: Vec<u32>,
    /// Each table's own maximum, if it has one.
    table_maximums: Vec<Option<u32>>,
    first_added_global: u32,
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

impl ModuleMiddleware for FrameRules {
    fn generate_function_middleware<'a>(&self, _: LocalFunctionIndex) -> Box<dyn FunctionMiddleware<'a> + 'a> {
        let types = self.0.get().cloned().unwrap_or_default();
        Box::new(FunctionRules { types, open: Vec::new(), slots: 0, locals: 0 })
    }

    fn transform_module_info(&self, module: &mut ModuleInfo) -> Result<(), MiddlewareError> {
        let types = Types {
            signatures: module
                .signatures
                .values()
                .map(|ty| (count(ty.params().len()), count(ty.results().len())))
                .collect(),
            functions: module.functions.values().map(|ty| ty.as_u32()).collect(),
            table_maximums: module
                .tables
                .values()
                .map(|ty| ty.maximum.filter(|maximum| is_tables_own((*maximum).into())))
                .collect(),
            first_added_global: count(module.globals.len()),
        };
        for _ in 0..ADDED_GLOBALS {
            module.globals.push(GlobalType::new(Type::I32, Mutability::Var));
            module.global_initializers.push(GlobalInit::I32Const(0));
        }
        self.0.set(Arc::new(types)).map_err(|_| refuse("it serves one module only"))
    }
}

fn refuse(reason: impl Into<String>) -> MiddlewareError {
    MiddlewareError::new("remuda", reason)
}

#[derive(Debug)]
struct FunctionRules {
    types: Arc<Types>,
    /// The number of slots that each open block reserves.
    open: Vec<u32>,
    slots: u32,
    locals: usize,
}

impl<'a> FunctionMiddleware<'a> for FunctionRules {
    fn locals_info(&mut self, locals: &[ValType]) {
        self.locals = locals.len();
    }

    fn feed(&mut self, operator: Operator<'a>, state: &mut MiddlewareReaderState<'a>) -> Result<(), MiddlewareError> {
        // This is checked at the first operator, since `locals_info` cannot return an error.
        if self.locals > LOCALS_MAX {
            return Err(refuse(format!(
                "a function declares {} locals, and Singlepass guards its stack against {LOCALS_MAX}",
                self.locals
            )));
        }
        match &operator {
            Operator::Block { blockty } | Operator::If { blockty } => self.enter(self.signature(*blockty).1)?,
            Operator::Loop { blockty } => {
                let (params, results) = self.signature(*blockty);
                self.enter(params.saturating_add(results))?;
            }
            Operator::End => self.slots -= self.open.pop().unwrap_or(0),
            Operator::Call { function_index } => {
                let ty = self.types.functions.get(*function_index as usize);
                self.call(ty.copied())?;
            }
            Operator::CallIndirect { type_index, .. } => self.call(Some(*type_index))?,
            Operator::TableGrow { table } => {
                self.grow_table(*table, state);
                return Ok(());
            }
            _ => {}
        }
        state.push_operator(operator);
        Ok(())
    }
}

impl FunctionRules {
    fn signature(&self, block: BlockType) -> (u32, u32) {
        match block {
            BlockType::Empty => (0, 0),
            BlockType::Type(_) => (0, 1),
            BlockType::FuncType(index) => self.signature_of_type(index),
        }
    }

    fn signature_of_type(&self, index: u32) -> (u32, u32) {
        self.types.signatures.get(index as usize).copied().unwrap_or((u32::MAX, u32::MAX))
    }

    fn enter(&mut self, slots: u32) -> Result<(), MiddlewareError> {
        self.check(slots)?;
        self.open.push(slots);
        self.slots += slots;
        Ok(())
    }

    /// Checks a call, which reserves its results twice: once where the callee writes them, and once where it keeps
    /// them.
    fn call(&self, ty: Option<u32>) -> Result<(), MiddlewareError> {
        let results = ty.map_or(u32::MAX, |ty| self.signature_of_type(ty).1);
        self.check(results.saturating_mul(2))
    }

    fn check(&self, more: u32) -> Result<(), MiddlewareError> {
        match self.slots.saturating_add(more) {
            0..=SLOTS_MAX => Ok(()),
            slots => Err(refuse(format!(
                "a function's blocks and calls have {slots} results at once, and Singlepass guards its stack against \
                 {SLOTS_MAX}"
            ))),
        }
    }

    fn grow_table(&self, table: u32, state: &mut MiddlewareReaderState<'_>) {
        let get = |global: u32| Operator::GlobalGet { global_index: self.types.first_added_global + global };
        let set = |global: u32| Operator::GlobalSet { global_index: self.types.first_added_global + global };
        state.extend([
            set(DELTA),
            get(DELTA),
            Operator::I32Const { value: -1 },
            get(DELTA),
            get(LEFT),
            Operator::I32LeU,
            Operator::Select,
            Operator::TableGrow { table },
            set(RESULT),
            get(REFUSED),
            get(DELTA),
            get(LEFT),
            Operator::I32GtU,
        ]);
        if let Some(maximum) = self.types.table_maximums.get(table as usize).copied().flatten() {
            state.extend([
                Operator::I32Const { value: maximum.cast_signed() },
                Operator::TableSize { table },
                Operator::I32Sub,
                get(DELTA),
                Operator::I32GeU,
                Operator::I32And,
            ]);
        }
        state.extend([
            Operator::I32Or,
            set(REFUSED),
            get(LEFT),
            Operator::I32Const { value: 0 },
            get(DELTA),
            get(RESULT),
            Operator::I32Const { value: -1 },
            Operator::I32Eq,
            Operator::Select,
            Operator::I32Sub,
            set(LEFT),
            get(RESULT),
        ]);
    }
}
