//! A worker that runs guests in Lucet 0.6.1: `remuda-lucet cranelift`.

mod calls;
mod load;
mod lower;

use std::collections::HashMap;
use std::sync::Arc;

use lucet_module::bindings::Bindings;
use lucet_runtime_internals::alloc::Limits;
use lucet_runtime_internals::error::Error;
use lucet_runtime_internals::instance::{InstanceHandle, RunResult};
use lucet_runtime_internals::module::{ModuleInternal as _, TrapCode};
use lucet_runtime_internals::region::Region as _;
use lucet_runtime_internals::region::mmap::MmapRegion;
use lucet_runtime_internals::val::Val;
use lucetc::{Lucetc, LucetcOpts as _, OptLevel};
use remuda_worker::{End, Failure, HostFunction, Integer, MachineCode, MemoryType, Runtime};

use crate::load::Loaded;
use crate::lower::{Builtin, Misfit, Plan};

/// The version of Lucet, as `Cargo.toml` pins it.
const LUCET_VERSION: &str = "0.6.1";

/// Counts the changes to what artifacts are like, and to what orders there are. The host uses a program of its own revision only.
const REVISION: &str = "2";

/// The size of a guest's stack in bytes: that of Remuda's other engines.
const STACK_BYTES: usize = 512 << 10;

/// The size of the stack for signals in bytes. Lucet's own is of 8 KiB, which registers of today alone may fill.
const SIGNAL_STACK_BYTES: usize = 64 << 10;

/// The addresses that are set aside for a memory: all that an index and an offset of 32 bits each can name. So code need
/// check no bounds. What an access is beyond that meets the guard page that Lucet puts there.
const RESERVED_BYTES: u64 = 4 << 30;
const GUARD_BYTES: u64 = 4 << 30;

/// The size of WebAssembly's pages, and of the kernel's.
const WASM_PAGE_BYTES: usize = 64 << 10;
const PAGE_BYTES: usize = 4 << 10;

fn main() {
    calls::prepare().expect("there is memory for a stack");
    remuda_worker::serve(Worker { region: None });
}

struct Worker {
    /// The place for an instance, which the next one uses again if it has the same limits.
    region: Option<(Size, Arc<MmapRegion>)>,
}

/// What an instance needs at most, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    memory: usize,
    globals: usize,
}

struct Compiled {
    module: Arc<Loaded>,
    /// The code and the plan, as bytes, if they were made here: who has them loaded has them already.
    artifact: Option<Vec<u8>>,
}

struct Guest {
    instance: InstanceHandle,
    module: Arc<Loaded>,
}

impl Worker {
    fn region(&mut self, size: Size) -> Result<Arc<MmapRegion>, Failure> {
        if let Some((of, region)) = &self.region
            && *of == size
        {
            return Ok(Arc::clone(region));
        }
        let limits = Limits {
            heap_memory_size: size.memory,
            heap_address_space_size: usize::try_from(RESERVED_BYTES + GUARD_BYTES).expect("addresses have 64 bits"),
            stack_size: STACK_BYTES,
            globals_size: size.globals,
            signal_stack_size: SIGNAL_STACK_BYTES,
        };
        self.region = None;
        let region = MmapRegion::create(1, &limits).map_err(|error| ended(&error))?;
        self.region = Some((size, Arc::clone(&region)));
        Ok(region)
    }
}

impl Runtime for Worker {
    type Module = Compiled;
    type Instance = Guest;

    fn versions(&self) -> Vec<String> {
        vec!["lucet".into(), LUCET_VERSION.into(), "cranelift".into(), REVISION.into()]
    }

    // Lucet compiles on one thread.
    fn compile(&mut self, module: &[u8], _: usize) -> Result<Compiled, String> {
        let (lowered, plan) = lower::lower(module)?;
        let object = object_file(&lowered, &plan)?;
        let artifact = bincode::serialize(&(&plan, &object)).map_err(|error| error.to_string())?;
        Ok(Compiled { module: Arc::new(Loaded::new(&object, plan)?), artifact: Some(artifact) })
    }

    fn serialize(&mut self, compiled: &Compiled) -> Result<Vec<u8>, String> {
        compiled.artifact.clone().ok_or_else(|| "it was not compiled here".to_owned())
    }

    fn machine_code(&mut self, compiled: &Compiled) -> Result<MachineCode, String> {
        Ok(compiled.module.machine_code())
    }

    fn load(&mut self, artifact: &[u8]) -> Result<Compiled, String> {
        let (plan, object): (Plan, Vec<u8>) = bincode::deserialize(artifact).map_err(|error| error.to_string())?;
        Ok(Compiled { module: Arc::new(Loaded::new(&object, plan)?), artifact: None })
    }

    fn instantiate(
        &mut self,
        compiled: &Compiled,
        memory: Option<MemoryType>,
        functions: &'static [HostFunction],
    ) -> Result<Guest, Failure> {
        let module = &compiled.module;
        let sees_memory = memory.is_some_and(|memory| memory.is_exported);
        calls::begin(module, functions, sees_memory).map_err(Failure::Refused)?;
        if let Some(misfit) = module.plan.misfit {
            let end = match misfit {
                Misfit::Table => End::TableOutOfBounds,
                Misfit::Memory => End::MemoryOutOfBounds,
            };
            return Err(Failure::Ended(end, String::new()));
        }
        let globals = module.globals().len() * size_of::<u64>();
        let region = self.region(Size {
            memory: memory.map_or(0, |memory| memory.maximum_pages as usize * WASM_PAGE_BYTES),
            globals: globals.max(1).next_multiple_of(PAGE_BYTES),
        })?;
        let instance = region.new_instance(Arc::clone(module) as _).map_err(|error| {
            // Lucet does not give a place back if it refuses it.
            self.region = None;
            ended(&error)
        })?;
        Ok(Guest { instance, module: Arc::clone(module) })
    }

    fn call(&mut self, guest: &mut Guest, name: &str, args: &[Integer]) -> Result<Vec<u64>, Failure> {
        let args: Vec<Val> = args
            .iter()
            .map(|arg| match *arg {
                Integer::I32(bits) => Val::U32(bits),
                Integer::I64(bits) => Val::U64(bits),
            })
            .collect();
        let function = guest.module.get_export_func(name).map_err(|error| ended(&error))?;
        let returns = guest.module.get_signature(function.id).ret_ty.is_some();
        match guest.instance.run(name, &args).map_err(|error| ended(&error))? {
            RunResult::Returned(value) => Ok(returns.then(|| value.as_u64()).into_iter().collect()),
            RunResult::Yielded(_) => Err(Failure::Refused("it has yielded, which nothing here does".to_owned())),
        }
    }

    fn global(&mut self, guest: &mut Guest, name: &str) -> Option<i32> {
        let global = guest.module.global(name)?;
        // SAFETY: the host asks for globals that are an `i32`, and any bits are one.
        Some(unsafe { guest.instance.globals()[global].i_32 })
    }
}

/// Compiles a module that was lowered.
fn object_file(module: &[u8], plan: &Plan) -> Result<Vec<u8>, String> {
    let symbols = |count, symbol: fn(usize) -> String| {
        (0..count).map(|position: usize| (position.to_string(), symbol(position))).collect()
    };
    let bindings = Bindings::new(HashMap::from([
        (lower::HOST.to_owned(), symbols(plan.imports.len(), calls::import_symbol)),
        (lower::WORKER.to_owned(), symbols(Builtin::ALL.len(), calls::builtin_symbol)),
    ]));
    Lucetc::try_from_bytes(module)
        .map_err(|error| error.to_string())?
        .with_bindings(bindings)
        .with_opt_level(OptLevel::SpeedAndSize)
        .with_reserved_size(RESERVED_BYTES)
        .with_guard_size(GUARD_BYTES)
        .object()
        .map_err(|error| error.to_string())
}

/// How a guest ended, by the engine's error.
fn ended(error: &Error) -> Failure {
    if let Some(end) = calls::take_end() {
        return Failure::Ended(end, String::new());
    }
    let end = match error {
        Error::RuntimeFault(details) => match details.trapcode {
            Some(TrapCode::StackOverflow) => End::StackExhausted,
            Some(TrapCode::HeapOutOfBounds) => End::MemoryOutOfBounds,
            Some(TrapCode::TableOutOfBounds | TrapCode::OutOfBounds) => End::TableOutOfBounds,
            Some(TrapCode::IndirectCallToNull) => End::CallToNull,
            Some(TrapCode::BadSignature) => End::BadSignature,
            Some(TrapCode::IntegerOverflow) => End::IntegerOverflow,
            Some(TrapCode::IntegerDivByZero) => End::DivisionByZero,
            Some(TrapCode::BadConversionToInteger) => End::BadConversion,
            Some(TrapCode::Interrupt) => End::Interrupted,
            Some(TrapCode::Unreachable) => End::Unreachable,
            None => return Failure::Ended(End::OtherTrap, details.to_string()),
        },
        Error::InternalError(_) | Error::LimitsExceeded(_) => End::OutOfMemory,
        other => return Failure::Refused(other.to_string()),
    };
    Failure::Ended(end, String::new())
}
