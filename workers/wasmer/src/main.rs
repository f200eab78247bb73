//! A worker that runs guests in Wasmer: `remuda-wasmer COMPILER`, where COMPILER is `cranelift` or `llvm`.

mod code;
#[cfg(feature = "llvm")]
mod llvm;
mod memory;

use remuda_worker::{End, Failure, HostFunction, Integer, MachineCode, MemoryType, Runtime, Type, Unwound};
use wasmer::sys::{BaseTunables, CompilerConfig, Cranelift, EngineBuilder, Features, NativeEngineExt as _};
use wasmer::{
    Engine, Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, Instance, InstantiationError, Memory, Module,
    RuntimeError, Store, Value,
};
use wasmer_vm::{MemoryStyle, TrapCode, VMMemory};

use crate::memory::GuestMemory;

/// The version of Wasmer, as `Cargo.toml` pins it.
const WASMER_VERSION: &str = "4.4.0";

/// Counts the changes to what artifacts are like, and to what orders there are. The host uses a program of its own revision only.
const REVISION: &str = "2";

/// Stands in an artifact between the name of the compiler, by which Wasmer does not tell artifacts apart, and the code.
const SEPARATOR: &[u8] = b"\n";

/// The size of a guest's stack in bytes: that of Remuda's other engines.
const STACK_BYTES: usize = 512 << 10;

// What Wasmer names as the function that touches each page of a large frame, from the stack's top on, so that an overflow
// meets the guard. Rust's library had it under this name until it left that to the compiler. `rax` is the frame's size in
// bytes, and `r11` is free to use.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(
    ".globl __rust_probestack",
    "__rust_probestack:",
    "push rax",
    "mov r11, rsp",
    "2: cmp rax, 4096",
    "jbe 3f",
    "sub r11, 4096",
    "or qword ptr [r11], 0",
    "sub rax, 4096",
    "jmp 2b",
    "3: sub r11, rax",
    "or qword ptr [r11], 0",
    "pop rax",
    "ret",
);

fn main() {
    let compiler = std::env::args().nth(1).unwrap_or_default();
    wasmer_vm::set_stack_size(STACK_BYTES);
    remuda_worker::serve(Worker { compiler });
}

struct Worker {
    compiler: String,
}

/// A module and its engine. Code belongs to an engine and is not freed with its module, so that each module has an engine
/// of its own. Fields are dropped in their order here: a module must not outlive its engine.
struct Compiled {
    module: Module,
    engine: Engine,
}

struct Guest {
    store: Store,
    instance: Instance,
}

/// The stack of a thread that compiles, in bytes: what the first thread of a program has on Linux. LLVM goes as deep as the
/// code is nested that it compiles. Only what is used takes memory, but all of it counts against the limit.
const COMPILER_STACK_BYTES: usize = 8 << 20;
/// The most threads that compile one module, whatever the host says.
const COMPILE_THREADS_MAX: usize = 8;

/// What functions of the host see of the guest.
struct Env {
    /// The memory, if they see it.
    memory: Option<Memory>,
}

impl Worker {
    fn compiler(&self) -> Result<Box<dyn CompilerConfig>, String> {
        match &*self.compiler {
            "cranelift" => Ok(Box::new(Cranelift::new())),
            #[cfg(feature = "llvm")]
            "llvm" => Ok(Box::new(llvm::configured())),
            other => Err(format!("this program has no compiler {other:?}")),
        }
    }
}

/// What code may rely on.
fn tunables() -> BaseTunables {
    let MemoryStyle::Static { bound, offset_guard_size } = memory::STYLE else { unreachable!("it says so") };
    BaseTunables {
        static_memory_bound: bound,
        static_memory_offset_guard_size: offset_guard_size,
        // No memory is of the style that this is for.
        dynamic_memory_offset_guard_size: offset_guard_size,
    }
}

fn features() -> Features {
    let mut features = Features::new();
    features.multi_value(true).bulk_memory(true).reference_types(true).simd(true).threads(false);
    features
}

impl Runtime for Worker {
    type Module = Compiled;
    type Instance = Guest;

    fn versions(&self) -> Vec<String> {
        vec!["wasmer".into(), WASMER_VERSION.into(), self.compiler.clone(), REVISION.into()]
    }

    fn compile(&mut self, module: &[u8], threads: usize) -> Result<Compiled, String> {
        let compiler: Box<dyn CompilerConfig> = self.compiler()?;
        let mut engine: Engine = EngineBuilder::new(compiler).set_features(Some(features())).engine().into();
        engine.set_tunables(tunables());
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.min(COMPILE_THREADS_MAX))
            .stack_size(COMPILER_STACK_BYTES)
            .start_handler(|_| remuda_worker::block_signal())
            .build()
            // There is no other reason than the limit. The host knows these words.
            .map_err(|error| format!("Cannot allocate memory for the threads that compile: {error}"))?;
        let module = threads.install(|| Module::new(&engine, module)).map_err(|error| error.to_string())?;
        Ok(Compiled { module, engine })
    }

    fn serialize(&mut self, compiled: &Compiled) -> Result<Vec<u8>, String> {
        let code = compiled.module.serialize().map_err(|error| error.to_string())?;
        Ok([self.compiler.as_bytes(), SEPARATOR, &*code].concat())
    }

    fn machine_code(&mut self, compiled: &Compiled) -> Result<MachineCode, String> {
        let bytes = compiled.module.serialize().map_err(|error| error.to_string())?;
        code::of(&bytes)
    }

    fn load(&mut self, artifact: &[u8]) -> Result<Compiled, String> {
        let own = artifact.strip_prefix(self.compiler.as_bytes()).and_then(|rest| rest.strip_prefix(SEPARATOR));
        let artifact = own.ok_or("it is not of this compiler")?;
        let engine: Engine = EngineBuilder::headless().engine().into();
        // SAFETY: the host vouches that a worker like this one has made these bytes.
        let module = unsafe { Module::deserialize(&engine, artifact) }.map_err(|error| error.to_string())?;
        Ok(Compiled { module, engine })
    }

    fn instantiate(
        &mut self,
        compiled: &Compiled,
        memory: Option<MemoryType>,
        functions: &'static [HostFunction],
    ) -> Result<Guest, Failure> {
        let mut store = Store::new(compiled.engine.clone());
        let made = memory.map(|ty| {
            let memory = GuestMemory::new(ty)
                .map_err(|error| Failure::Ended(End::OutOfMemory, format!("no memory for the guest: {error}")))?;
            Ok(Memory::new_from_existing(&mut store, VMMemory(Box::new(memory))))
        });
        let made = made.transpose()?;
        let seen = made.clone().filter(|_| memory.is_some_and(|memory| memory.is_exported));
        let env = FunctionEnv::new(&mut store, Env { memory: seen });
        let mut imports: Vec<Extern> = Vec::new();
        for import in compiled.module.imports() {
            let function = functions.iter().position(|f| f.module == import.module() && f.name == import.name());
            imports.push(match (function, &made) {
                (Some(function), _) => host_function(&mut store, &env, function, &functions[function]).into(),
                (None, Some(memory)) => memory.clone().into(),
                (None, None) => return Err(Failure::Refused(format!("there is no import {:?}", import.name()))),
            });
        }
        match Instance::new_by_index(&mut store, &compiled.module, &imports) {
            Ok(instance) => Ok(Guest { store, instance }),
            Err(InstantiationError::Start(error) | InstantiationError::Link(wasmer::LinkError::Trap(error))) => {
                Err(ended(&error))
            }
            Err(error) => Err(Failure::Refused(error.to_string())),
        }
    }

    fn call(&mut self, guest: &mut Guest, name: &str, args: &[Integer]) -> Result<Vec<u64>, Failure> {
        let args: Vec<Value> = args
            .iter()
            .map(|arg| match *arg {
                Integer::I32(bits) => Value::I32(bits.cast_signed()),
                Integer::I64(bits) => Value::I64(bits.cast_signed()),
            })
            .collect();
        let refused = |reason: String| Failure::Refused(reason);
        let function = guest.instance.exports.get_function(name).map_err(|error| refused(error.to_string()))?.clone();
        let values = function.call(&mut guest.store, &args).map_err(|error| ended(&error))?;
        values
            .iter()
            .map(|value| match value {
                Value::I32(n) => Ok(u64::from(n.cast_unsigned())),
                Value::I64(n) => Ok(n.cast_unsigned()),
                other => Err(refused(format!("{name:?} returns {other:?}, which is no integer"))),
            })
            .collect()
    }

    fn global(&mut self, guest: &mut Guest, name: &str) -> Option<i32> {
        let global = guest.instance.exports.get_global(name).ok()?.clone();
        global.get(&mut guest.store).i32()
    }
}

fn host_function(store: &mut Store, env: &FunctionEnv<Env>, number: usize, function: &HostFunction) -> Function {
    let ty = |ty: &Type| match ty {
        Type::I32 => wasmer::Type::I32,
        Type::I64 => wasmer::Type::I64,
    };
    let params: Vec<_> = function.params.iter().map(ty).collect();
    let returns = function.returns;
    let results = if returns { vec![wasmer::Type::I32] } else { Vec::new() };
    Function::new_with_env(
        store,
        env,
        FunctionType::new(params, results),
        move |env: FunctionEnvMut<'_, Env>, args: &[Value]| {
            let mut bits = [0; 16];
            for (bits, arg) in bits.iter_mut().zip(args) {
                *bits = match arg {
                    Value::I32(n) => u64::from(n.cast_unsigned()),
                    Value::I64(n) => n.cast_unsigned(),
                    other => unreachable!("the host's functions take integers, not {other:?}"),
                };
            }
            let view = env.data().memory.as_ref().map(|memory| memory.view(&env));
            let memory: &mut [u8] = match &view {
                // SAFETY: these are the bytes of the memory, which stays where it is and is used by nobody else while the
                // guest waits for this function.
                Some(view) => unsafe {
                    std::slice::from_raw_parts_mut(view.data_ptr(), usize::try_from(view.data_size()).unwrap_or(0))
                },
                None => &mut [],
            };
            let result = remuda_worker::call(number, &bits[..args.len()], memory)
                .map_err(|unwound| RuntimeError::user(Box::new(unwound)))?;
            Ok(if returns { vec![Value::I32(result)] } else { Vec::new() })
        },
    )
}

/// How a guest ended, by the engine's error.
fn ended(error: &RuntimeError) -> Failure {
    let ended = |end| Failure::Ended(end, String::new());
    let code = match error.clone().to_trap() {
        Some(code) => code,
        None if error.is::<Unwound>() => return ended(End::Unwound),
        None => return Failure::Ended(End::OtherTrap, error.message()),
    };
    ended(match code {
        TrapCode::StackOverflow => End::StackExhausted,
        TrapCode::HeapAccessOutOfBounds => End::MemoryOutOfBounds,
        TrapCode::TableAccessOutOfBounds => End::TableOutOfBounds,
        TrapCode::IndirectCallToNull => End::CallToNull,
        TrapCode::BadSignature => End::BadSignature,
        TrapCode::IntegerOverflow => End::IntegerOverflow,
        TrapCode::IntegerDivisionByZero => End::DivisionByZero,
        TrapCode::BadConversionToInteger => End::BadConversion,
        TrapCode::UnreachableCodeReached => End::Unreachable,
        TrapCode::HeapMisaligned | TrapCode::UnalignedAtomic => {
            return Failure::Ended(End::OtherTrap, code.to_string());
        }
    })
}
