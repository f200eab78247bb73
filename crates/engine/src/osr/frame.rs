//! How values are handed over: each in a slot of its own, in a memory that both sides have.

use wasm_encoder::{InstructionSink, MemArg, ValType};
use wasmparser::{FuncType, FunctionBody, Result};

/// Bytes from one value to the next: the largest are vectors.
pub(crate) const SLOT_BYTES: u32 = 16;

/// The types of a function's parameters and locals.
pub(super) fn locals(ty: &FuncType, body: &FunctionBody<'_>) -> Result<Vec<wasmparser::ValType>> {
    let mut locals = ty.params().to_vec();
    for group in body.get_locals_reader()? {
        let (count, ty) = group?;
        locals.extend(std::iter::repeat_n(ty, count as usize));
    }
    Ok(locals)
}

/// Reads a value from an address on the stack.
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

/// Writes a value to the address below it on the stack.
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
