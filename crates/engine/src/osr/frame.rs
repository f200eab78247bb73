//! How values are handed over: each in a slot of its own in the frame, a memory that the host and the code can access.

use wasm_encoder::{InstructionSink, MemArg, ValType};
use wasmparser::{FuncType, FunctionBody, Result};

/// The bytes from one slot to the next: as many as the largest values, vectors, take.
pub(crate) const SLOT_BYTES: u32 = 16;

/// The place of a value in the frame, which is this memory.
pub(super) fn slot(memory: u32, at: u64) -> MemArg {
    MemArg { offset: at * u64::from(SLOT_BYTES), align: 0, memory_index: memory }
}

/// Ends a function whose body has become a block within an outer block. Code that reaches the end of the inner block
/// returns. A jump to the end of the outer block leaves: the locals are handed over, `run` runs the rest of the
/// activation in a part, and its results are those of the function.
pub(super) fn hand_over(
    code: &mut InstructionSink<'_>,
    locals: &[wasmparser::ValType],
    results: &[wasmparser::ValType],
    memory: u32,
    run: impl FnOnce(&mut InstructionSink<'_>),
) {
    code.return_().end();
    for (index, ty) in (0..).zip(locals) {
        code.i32_const(0).local_get(index);
        store(code, *ty, slot(memory, index.into()));
    }
    run(code);
    for (index, ty) in (0..).zip(results) {
        code.i32_const(0);
        load(code, *ty, slot(memory, index));
    }
    code.end();
}

/// The types of a function's parameters and locals, in order.
pub(super) fn locals(ty: &FuncType, body: &FunctionBody<'_>) -> Result<Vec<wasmparser::ValType>> {
    let mut locals = ty.params().to_vec();
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.extend(std::iter::repeat_n(ty, count as usize));
    }
    Ok(locals)
}

/// Writes an instruction that reads a value from the address on top of the stack.
pub(super) fn load(code: &mut InstructionSink<'_>, ty: wasmparser::ValType, at: MemArg) {
    match ty {
        wasmparser::ValType::I32 => code.i32_load(at),
        wasmparser::ValType::I64 => code.i64_load(at),
        wasmparser::ValType::F32 => code.f32_load(at),
        wasmparser::ValType::F64 => code.f64_load(at),
        wasmparser::ValType::V128 => code.v128_load(at),
        wasmparser::ValType::Ref(_) => unreachable!("a function with references has no points"),
    };
}

/// Writes an instruction that stores the value on top of the stack at the address below it.
pub(super) fn store(code: &mut InstructionSink<'_>, ty: wasmparser::ValType, at: MemArg) {
    match ty {
        wasmparser::ValType::I32 => code.i32_store(at),
        wasmparser::ValType::I64 => code.i64_store(at),
        wasmparser::ValType::F32 => code.f32_store(at),
        wasmparser::ValType::F64 => code.f64_store(at),
        wasmparser::ValType::V128 => code.v128_store(at),
        wasmparser::ValType::Ref(_) => unreachable!("a function with references has no points"),
    };
}

pub(super) fn val_type(ty: wasmparser::ValType) -> ValType {
    match ty {
        wasmparser::ValType::I32 => ValType::I32,
        wasmparser::ValType::I64 => ValType::I64,
        wasmparser::ValType::F32 => ValType::F32,
        wasmparser::ValType::F64 => ValType::F64,
        wasmparser::ValType::V128 => ValType::V128,
        wasmparser::ValType::Ref(_) => unreachable!("a module with points hands no references over"),
    }
}
