//! LLVM, as Wasmer configures it, with a fault of that mended and with better code.
//!
//! Wasmer has LLVM treat each access of the guest's memory as `volatile`, and each operation with floats as one whose
//! flags are looked at later, and it does not tell the optimizer which processor the code is for. So LLVM does little of
//! what it could do with loops. Here, most accesses are ordinary ones, operations with floats are ordinary ones (guests
//! cannot see flags or change the rounding), and the optimizer is LLVM's own for `-O3`.
//!
//! What becomes different: an access out of bounds of which the program does not use the value may not trap, if LLVM only
//! finds that after it has begun to merge accesses (`x - y`, where both are read from one address, say). Where the
//! program itself plainly does not use a value, its access stays volatile, and traps.

use std::cell::OnceCell;
use std::sync::Arc;

use inkwell::attributes::AttributeLoc;
use inkwell::builder::Builder;
use inkwell::passes::PassBuilderOptions;
use inkwell::targets::TargetMachine;
use inkwell::values::{
    AnyValue as _, AnyValueEnum, AsValueRef as _, BasicValueEnum, FunctionValue, InstructionOpcode, InstructionValue,
};
use wasmer::Target;
use wasmer_compiler_llvm::{CompiledKind, InkwellMemoryBuffer, InkwellModule, LLVM, LLVMCallbacks};

/// The alignment that Rust wants of 128-bit integers, in bytes.
const VALUE_ALIGNMENT: u32 = 16;

/// Passes after which a value that the program does not use has no uses any more.
const FIND_UNUSED: &str = "function(sroa,early-cse,instcombine,simplifycfg,sccp,adce)";

/// What LLVM may not do with a guest's function.
const ATTRIBUTES: [(&str, &str); 2] = [
    // Call functions of a C library: there is none.
    ("no-builtins", ""),
    // Make a loop of a recursion: one that has no end is to exhaust the stack.
    ("disable-tail-calls", "true"),
];

pub(crate) fn configured() -> LLVM {
    let mut llvm = LLVM::new();
    llvm.callbacks(Some(Arc::new(Improved)));
    llvm
}

#[derive(Debug)]
struct Improved;

thread_local! {
    /// The processor that code is for, which takes a while to set up.
    static MACHINE: OnceCell<TargetMachine> = const { OnceCell::new() };
}

impl LLVMCallbacks for Improved {
    fn preopt_ir(&self, function: &CompiledKind, module: &InkwellModule) {
        match function {
            CompiledKind::DynamicFunctionTrampoline(_) => align_values(module),
            CompiledKind::Local(_) => optimize(module),
            CompiledKind::FunctionCallTrampoline(_) | CompiledKind::Module => {}
        }
    }

    fn postopt_ir(&self, _: &CompiledKind, _: &InkwellModule) {}

    fn obj_memory_buffer(&self, _: &CompiledKind, _: &InkwellMemoryBuffer) {}
}

fn each_instruction<'ctx>(module: &InkwellModule<'ctx>, mut work: impl FnMut(InstructionValue<'ctx>)) {
    for block in module.get_functions().flat_map(FunctionValue::get_basic_blocks) {
        let mut next = block.get_first_instruction();
        while let Some(instruction) = next {
            // The work may remove the instruction.
            next = instruction.get_next_instruction();
            work(instruction);
        }
    }
}

/// Mends code that calls a function of the host: it passes the arguments in memory, as 128-bit integers. LLVM 15 aligns
/// them to 8 bytes where the C ABI and Rust since 1.77 want 16, and the function of the host would fault.
fn align_values(module: &InkwellModule) {
    each_instruction(module, |instruction| {
        if instruction.get_opcode() == InstructionOpcode::Alloca {
            instruction.set_alignment(VALUE_ALIGNMENT).expect("16 is a power of two");
        }
    });
}

fn optimize(module: &InkwellModule) {
    let builder = module.get_context().create_builder();
    each_instruction(module, |instruction| {
        if instruction.get_opcode() == InstructionOpcode::Call {
            make_ordinary(&builder, instruction);
        }
    });
    let context = module.get_context();
    for function in module.get_functions().filter(|function| function.count_basic_blocks() > 0) {
        for (attribute, value) in ATTRIBUTES {
            function.add_attribute(AttributeLoc::Function, context.create_string_attribute(attribute, value));
        }
    }
    run(module, FIND_UNUSED);
    each_instruction(module, |instruction| {
        let must_stay = match instruction.get_opcode() {
            // A store only goes where a later one writes to the same place.
            InstructionOpcode::Store => false,
            InstructionOpcode::Load => instruction.get_first_use().is_none() && !is_repeated_by_store(instruction),
            _ => return,
        };
        instruction.set_volatile(must_stay).expect("loads and stores may be volatile");
    });
    run(module, "default<O3>");
}

/// Whether a load is followed by a store to the same place, which traps where the load does. Wasmer has such a load before
/// each store, for processors that write a part of a value before they trap.
fn is_repeated_by_store(load: InstructionValue<'_>) -> bool {
    let pointer = |instruction: InstructionValue<'_>, operand| match instruction.get_operand(operand)?.left()? {
        BasicValueEnum::PointerValue(pointer) => Some(pointer.as_value_ref()),
        _ => None,
    };
    load.get_next_instruction().is_some_and(|next| {
        next.get_opcode() == InstructionOpcode::Store && pointer(next, 1).is_some_and(|to| pointer(load, 0) == Some(to))
    })
}

fn run(module: &InkwellModule, passes: &str) {
    let options = PassBuilderOptions::create();
    options.set_loop_vectorization(true);
    options.set_loop_slp_vectorization(true);
    options.set_loop_interleaving(true);
    options.set_loop_unrolling(true);
    MACHINE.with(|machine| {
        let machine = machine.get_or_init(|| LLVM::new().target_machine(&Target::default()));
        module.run_passes(passes, machine, options).expect("LLVM knows these passes");
    });
}

/// Puts an ordinary operation with floats in the place of a constrained one.
fn make_ordinary<'ctx>(builder: &Builder<'ctx>, call: InstructionValue<'ctx>) {
    let operand = |at| call.get_operand(at)?.left();
    let Some(BasicValueEnum::PointerValue(callee)) = operand(call.get_num_operands() - 1) else { return };
    let name = callee.get_name().to_string_lossy();
    let Some(operation) = name.strip_prefix("llvm.experimental.constrained.") else { return };
    builder.position_before(&call);
    macro_rules! build {
        ($build:ident) => {
            match (operand(0), operand(1)) {
                (Some(BasicValueEnum::FloatValue(left)), Some(BasicValueEnum::FloatValue(right))) => {
                    builder.$build(left, right, "").as_any_value_enum()
                }
                (Some(BasicValueEnum::VectorValue(left)), Some(BasicValueEnum::VectorValue(right))) => {
                    builder.$build(left, right, "").as_any_value_enum()
                }
                _ => return,
            }
        };
    }
    let ordinary = match operation.split('.').next() {
        Some("fadd") => build!(build_float_add),
        Some("fsub") => build!(build_float_sub),
        Some("fmul") => build!(build_float_mul),
        Some("fdiv") => build!(build_float_div),
        _ => return,
    };
    // An operation with constants is a constant, and stays as it was: instructions can only stand for instructions.
    let ordinary = match ordinary {
        AnyValueEnum::FloatValue(value) => value.as_instruction(),
        AnyValueEnum::VectorValue(value) => value.as_instruction(),
        _ => None,
    };
    if let Some(ordinary) = ordinary {
        call.replace_all_uses_with(&ordinary);
        call.erase_from_basic_block();
    }
}
