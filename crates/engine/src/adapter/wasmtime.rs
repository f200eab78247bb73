//! The adapters for Wasmtime, once with Cranelift and once with Winch.
//!
//! Guests are stopped by a flag in a shared memory that their rewritten code reads ([`crate::instrument`]): Wasmtime's
//! own epochs cost several times as much. A flag belongs to one instance at a time, and to another one afterwards.

mod code;
mod component;
mod part;

use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use remuda_model::{
    EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, Listener, ModuleLimits, Referent,
    TrapKind, Value,
};
use remuda_wasi::{IMPORTS, Import, Stop, Type};
use wasmtime::{
    Caller, Config, Enabled, Extern, FuncType, GcHeapOutOfMemory, InstanceAllocationStrategy, InstancePre, Linker,
    Memory, MemoryType, OptLevel, PoolConcurrencyLimitError, PoolingAllocationConfig, ResourceLimiter, SharedMemory,
    Store, Strategy, ThrownException, Trap, Val, ValRaw, ValType, WasmBacktrace,
};

use self::component::Components;
use self::part::{Arrival, Regions};
use super::enter::{Exports, enter};
use super::guest::{End, Guest, TABLE_ELEMENTS_MAX};
use crate::instrument::{FLAG_FIELD, FLAG_MODULE, instrument_within};
use crate::osr::moves::Failure;
use crate::{
    Artifact, Called, Capabilities, Engine, EngineError, Extent, Form, Instance, Instances, InstantiateError, Known,
    MachineCode, Module, Part, Point, Proposal, StoredArtifact,
};

/// The most instances that may exist in the pool at the same time; further ones are allocated on demand.
const POOL_INSTANCES: u32 = 256;
/// The most tables that a module in the pool may define; instances of one with more are allocated on demand.
const POOL_TABLES_PER_MODULE: u32 = 4;
/// How many bytes of a memory are cleared by hand between two guests, instead of given back to the operating system, of
/// which new pages cost five times as much. The pages that were written to are known, and only these are cleared. With
/// less, guests with more memory are slower (those of 2 MiB in PolyBench up to three times); with more, idle places take
/// more memory.
const POOL_KEEP_RESIDENT_BYTES: usize = 4 << 20;
/// The same where the kernel (before Linux 6.7) does not say which pages were written to: then all of them are cleared, by
/// each guest.
const POOL_KEEP_RESIDENT_BLINDLY_BYTES: usize = 256 << 10;
/// The most places of the pool that nobody uses and that keep the memory of their last guest, for the next guest of the
/// same module: so all of an engine together take 128 MiB at most. With fewer, modules in turn have to be laid out anew.
const POOL_WARM_PLACES: u32 = 32;
/// The most flags that an artifact keeps for its next instances.
const IDLE_SLOTS_MAX: usize = 64;

#[cfg(feature = "wasmtime.winch")]
pub(super) fn open_winch(instances: Instances) -> Result<Arc<dyn Engine>, EngineError> {
    if cfg!(target_arch = "aarch64") {
        let engine = super::WASMTIME_WINCH.id;
        let reason = "Winch has no shared memories on this processor, and the flag that stops guests is in one";
        return Err(EngineError::Unavailable { engine, reason: reason.into() });
    }
    Ok(Arc::new(WasmtimeEngine::open(&super::WASMTIME_WINCH, Strategy::Winch, instances)?))
}

#[cfg(feature = "wasmtime.cranelift")]
pub(super) fn open_cranelift(instances: Instances) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(WasmtimeEngine::open(&super::WASMTIME_CRANELIFT, Strategy::Cranelift, instances)?))
}

struct WasmtimeEngine {
    known: &'static Known,
    /// The host that takes instances from a pool, if there is to be one and the machine has the address space for it.
    pooled: Option<Host>,
    /// For modules that do not fit the pool, for instances that find it full, and for an engine without a pool.
    on_demand: Arc<OnDemand>,
    components: Components,
}

/// Wasmtime engines that allocate each instance on demand; each is started when it is first needed.
struct OnDemand {
    known: &'static Known,
    strategy: Strategy,
    host: OnceLock<Host>,
    /// The host for parts, whose memories other engines have made.
    parts: OnceLock<Host>,
}

impl OnDemand {
    fn new(known: &'static Known, strategy: Strategy) -> Self {
        Self { known, strategy, host: OnceLock::new(), parts: OnceLock::new() }
    }

    fn host(&self) -> Result<&Host, EngineError> {
        self.start(&self.host, |config| config)
    }

    fn for_parts(&self) -> Result<&Host, EngineError> {
        self.start(&self.parts, |config| config.with_host_memory(Arc::new(Regions)))
    }

    fn start<'a>(
        &self,
        host: &'a OnceLock<Host>,
        configure: impl FnOnce(&mut Config) -> &mut Config,
    ) -> Result<&'a Host, EngineError> {
        get_or_start(self.known, host, || {
            let mut config = config(self.known, self.strategy, InstanceAllocationStrategy::OnDemand);
            configure(&mut config);
            Host::new(&config)
        })
    }
}

/// What a cell has, started first if it is empty.
fn get_or_start<'a, T>(
    known: &Known,
    cell: &'a OnceLock<T>,
    start: impl FnOnce() -> wasmtime::Result<T>,
) -> Result<&'a T, EngineError> {
    if let Some(started) = cell.get() {
        return Ok(started);
    }
    let started =
        start().map_err(|error| EngineError::Unavailable { engine: known.id, reason: format!("{error:#}") })?;
    Ok(cell.get_or_init(|| started))
}

/// A Wasmtime engine, with everything that a guest may import except its flag.
#[derive(Clone)]
struct Host {
    engine: wasmtime::Engine,
    linker: Arc<Linker<State>>,
}

impl WasmtimeEngine {
    fn open(known: &'static Known, strategy: Strategy, instances: Instances) -> Result<Self, EngineError> {
        let on_demand = Arc::new(OnDemand::new(known, strategy));
        let pooled = match instances {
            Instances::Pooled => {
                let pooled = Host::new(&config(known, strategy, InstanceAllocationStrategy::Pooling(pool()))).ok();
                if pooled.is_none() {
                    // A pool reserves terabytes of addresses, which a container may not have. If anything else is
                    // wrong, starting without a pool fails as well.
                    on_demand.host()?;
                }
                pooled
            }
            // The host is started when it is first needed: a process that runs one guest may need only that for parts.
            Instances::OnDemand => None,
        };
        Ok(Self { known, pooled, on_demand, components: Components::new(known, strategy, instances) })
    }

    fn host_for(&self, module: &Module) -> Result<&Host, EngineError> {
        match &self.pooled {
            Some(pooled) if fits_pool(module) => Ok(pooled),
            Some(_) | None => self.on_demand.host(),
        }
    }

    fn artifact(&self, host: &Host, module: wasmtime::Module) -> Arc<dyn Artifact> {
        Arc::new(WasmtimeArtifact {
            id: self.known.id,
            host: host.clone(),
            module,
            slots: Mutex::default(),
            on_demand: Arc::clone(&self.on_demand),
            unpooled: OnceLock::new(),
        })
    }
}

/// Whether instances of `module` may come from the pool.
pub(crate) fn fits_pool(module: &Module) -> bool {
    let stats = module.stats();
    stats.memories <= 1 && stats.tables <= POOL_TABLES_PER_MODULE
}

fn pool() -> PoolingAllocationConfig {
    let keep_resident_bytes = if PoolingAllocationConfig::is_pagemap_scan_available() {
        POOL_KEEP_RESIDENT_BYTES
    } else {
        POOL_KEEP_RESIDENT_BLINDLY_BYTES
    };
    let mut pool = PoolingAllocationConfig::default();
    pool.total_core_instances(POOL_INSTANCES)
        .total_memories(POOL_INSTANCES)
        .total_tables(POOL_INSTANCES * POOL_TABLES_PER_MODULE)
        .max_tables_per_module(POOL_TABLES_PER_MODULE)
        // As many elements as a table may have: this reserves addresses, but no memory.
        .table_elements(usize::try_from(TABLE_ELEMENTS_MAX).expect("ten millions fit an address"))
        .max_memory_size(4 << 30)
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(keep_resident_bytes)
        .max_unused_warm_slots(POOL_WARM_PLACES)
        .table_keep_resident(4 << 10);
    pool
}

fn config(known: &Known, strategy: Strategy, allocation: InstanceAllocationStrategy) -> Config {
    let has = |proposal| known.capabilities.proposals.contains(proposal);
    let mut config = Config::new();
    config
        .strategy(strategy)
        .cranelift_opt_level(OptLevel::Speed)
        .allocation_strategy(allocation)
        .max_wasm_stack(usize::try_from(ModuleLimits::STACK_BYTES).expect("half a megabyte fits an address"))
        // Only native debuggers and profilers read these tables, which make artifacts larger and loading slower.
        .generate_address_map(false)
        .native_unwind_info(false)
        // Only components of WASI 0.3 need it, and have an engine of their own.
        .concurrency_support(false)
        .wasm_tail_call(has(Proposal::TailCall))
        .wasm_relaxed_simd(has(Proposal::RelaxedSimd))
        .wasm_memory64(has(Proposal::Memory64))
        .wasm_function_references(has(Proposal::FunctionReferences))
        .wasm_gc(has(Proposal::Gc))
        .wasm_exceptions(has(Proposal::Exceptions))
        .wasm_custom_page_sizes(has(Proposal::CustomPageSizes))
        .wasm_wide_arithmetic(has(Proposal::WideArithmetic))
        // The flag is an atomic in a shared second memory, which needs these proposals. Whether a guest's own module
        // keeps to the engine's capabilities is checked before.
        .wasm_multi_memory(true)
        .wasm_threads(true)
        .shared_memory(true);
    config
}

/// An engine with the adapter's configuration and nothing else, for the specification's test suite.
pub(crate) fn configured(id: EngineId, pooled: bool) -> wasmtime::Result<wasmtime::Engine> {
    let (known, strategy) = if id == super::WASMTIME_WINCH.id {
        (&super::WASMTIME_WINCH, Strategy::Winch)
    } else {
        (&super::WASMTIME_CRANELIFT, Strategy::Cranelift)
    };
    let allocation =
        if pooled { InstanceAllocationStrategy::Pooling(pool()) } else { InstanceAllocationStrategy::OnDemand };
    wasmtime::Engine::new(&config(known, strategy, allocation))
}

impl Host {
    fn new(config: &Config) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let mut linker = Linker::new(&engine);
        for import in IMPORTS {
            link(&mut linker, import)?;
        }
        Ok(Self { engine, linker: Arc::new(linker) })
    }
}

fn link(linker: &mut Linker<State>, import: &'static Import) -> wasmtime::Result<()> {
    let value_type = |ty: &Type| match ty {
        Type::I32 => ValType::I32,
        Type::I64 => ValType::I64,
    };
    let ty = FuncType::new(linker.engine(), import.params.iter().map(value_type), import.result.iter().map(value_type));
    let call = move |mut caller: Caller<'_, State>, values: &mut [MaybeUninit<ValRaw>]| {
        let mut args = [0; 9];
        let args = &mut args[..import.params.len()];
        for ((arg, value), ty) in args.iter_mut().zip(values.iter()).zip(import.params) {
            // SAFETY: Wasmtime initialises as many values as the function has parameters, with the types that the
            // function was given above, which are made of the same `import.params`.
            let value = unsafe { value.assume_init_ref() };
            *arg = match ty {
                Type::I32 => value.get_u32().into(),
                Type::I64 => value.get_u64(),
            };
        }
        let errno = call_wasi(&mut caller, import, args)?;
        if import.result.is_some() {
            values[0].write(ValRaw::i32(errno));
        }
        Ok(())
    };
    // SAFETY: `call` reads exactly the parameters that `ty` declares and writes the one result that it declares before
    // it returns `Ok`.
    unsafe { linker.func_new_unchecked(import.module, import.name, ty, call)? };
    Ok(())
}

fn call_wasi(caller: &mut Caller<'_, State>, import: &Import, args: &[u64]) -> wasmtime::Result<i32> {
    if caller.data().memory.is_none() {
        let memory = caller.get_export("memory").and_then(Extern::into_memory);
        caller.data_mut().memory = memory;
    }
    let result = match caller.data().memory {
        Some(memory) => {
            let (bytes, state) = memory.data_and_store_mut(caller);
            state.guest_mut().call(import, bytes, args)
        }
        None => caller.data_mut().guest_mut().call(import, &mut [], args),
    };
    result.map_err(wasmtime::Error::new)
}

impl Engine for WasmtimeEngine {
    fn id(&self) -> EngineId {
        self.known.id
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.known.capabilities
    }

    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        if module.is_component() {
            return self.components.compile(module);
        }
        let failed = |reason: String| EngineError::Compile { engine: self.known.id, reason };
        let host = self.host_for(module)?;
        let bytes = rewritten(module).map_err(failed)?;
        let compiled =
            wasmtime::Module::from_binary(&host.engine, &bytes).map_err(|error| failed(format!("{error:#}")))?;
        Ok(self.artifact(host, compiled))
    }

    fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        if module.is_component() {
            return self.components.load(module, stored);
        }
        let failed = |reason: String| EngineError::Load { engine: self.known.id, reason };
        let host = self.host_for(module)?;
        let file = stored.file().map_err(|error| failed(error.to_string()))?;
        // SAFETY: the code that made the `StoredArtifact` vouched that its bytes came from `serialize` below, and that
        // nobody but the host changes the file. Bytes after them in the file are not part of the ELF image that
        // Wasmtime reads.
        let loaded = unsafe { wasmtime::Module::deserialize_open_file(&host.engine, file) }
            .map_err(|error| failed(format!("{error:#}")))?;
        Ok(self.artifact(host, loaded))
    }

    fn machine_code(&self, module: &Module, form: Form) -> Result<Option<MachineCode>, EngineError> {
        if module.is_component() {
            return Ok(None);
        }
        code::machine_code(self.known, self.on_demand.strategy, module, form).map(Some)
    }

    fn prepare_parts(&self) {
        // If this fails, compiling the first part fails in the same way, and reports the error.
        let _ = self.on_demand.for_parts();
    }

    fn compile_part(&self, module: &Module, points: &[Point], extent: Extent) -> Result<Part, EngineError> {
        part::compile(self, module, points, extent)
    }
}

/// The module as it is compiled: rewritten so that its guests can be stopped.
fn rewritten(module: &Module) -> Result<Vec<u8>, String> {
    let instrumented = instrument_within(module.bytes(), module.bytes_max()).map_err(|error| error.to_string())?;
    module.check_rewritten(&instrumented.bytes).map_err(|error| error.to_string())?;
    Ok(instrumented.bytes)
}

struct WasmtimeArtifact {
    id: EngineId,
    host: Host,
    module: wasmtime::Module,
    slots: Mutex<Vec<Slot>>,
    on_demand: Arc<OnDemand>,
    /// The same code for instances that find the pool full; made when the first one does.
    unpooled: OnceLock<Arc<WasmtimeArtifact>>,
}

/// What an instance needs beside its module: a flag, and the imports resolved with that flag among them.
struct Slot {
    flag: SharedMemory,
    pre: InstancePre<State>,
}

impl Slot {
    fn new(host: &Host, module: &wasmtime::Module) -> wasmtime::Result<Self> {
        let flag = SharedMemory::new(&host.engine, MemoryType::shared(1, 1))?;
        // `define` asks for a store, but keeps nothing of it if the import is a shared memory.
        let store = Store::new(&host.engine, State::default());
        let mut linker = Linker::clone(&host.linker);
        linker.define(&store, FLAG_MODULE, FLAG_FIELD, flag.clone())?;
        let pre = linker.instantiate_pre(module)?;
        Ok(Self { flag, pre })
    }
}

impl Artifact for WasmtimeArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        self.module.serialize().map(Some).map_err(|error| self.internal(&error))
    }

    fn memory_bytes(&self) -> u64 {
        let image = self.module.image_range();
        let image_bytes = (image.end as usize - image.start as usize) as u64;
        image_bytes + self.unpooled.get().map_or(0, |unpooled| unpooled.memory_bytes())
    }

    fn code_addresses(&self) -> Option<Range<usize>> {
        let text = self.module.text().as_ptr_range();
        Some(text.start as usize..text.end as usize)
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        let guest = Guest::new(self.id, context, limits, interrupt)?;
        let mut lease = self.lease(interrupt)?;
        let mut store = Store::new(&self.host.engine, State { guest: Some(guest), ..State::default() });
        store.limiter(|state| state);
        match lease.slot().pre.instantiate(&mut store) {
            Ok(instance) => Ok(Box::new(WasmtimeInstance { instance, store, id: self.id, _lease: lease })),
            // No code of the guest has run yet, so that it can start anew without the pool.
            Err(error) if error.is::<PoolConcurrencyLimitError>() => {
                drop((store, lease));
                self.unpooled()?.instantiate(context, limits, interrupt)
            }
            Err(error) => {
                let guest = store.into_data().into_guest();
                match end_of(&error).or(guest.budget.refused.map(End::NotGranted)) {
                    Some(end) => Err(guest.fail_to_start(end)),
                    None => Err(self.internal(&error).into()),
                }
            }
        }
    }
}

impl WasmtimeArtifact {
    fn internal(&self, error: &wasmtime::Error) -> EngineError {
        EngineError::Internal { engine: self.id, reason: format!("{error:#}") }
    }

    /// Returns this artifact for the Wasmtime engine without a pool. Machine code does not depend on where instances
    /// come from, but a `wasmtime::Module` belongs to one engine.
    fn unpooled(&self) -> Result<Arc<Self>, EngineError> {
        if let Some(unpooled) = self.unpooled.get() {
            return Ok(Arc::clone(unpooled));
        }
        let host = self.on_demand.host()?;
        let image = self.module.serialize().map_err(|error| self.internal(&error))?;
        // SAFETY: these are the bytes that `serialize` has just returned.
        let module = unsafe { wasmtime::Module::deserialize(&host.engine, image) };
        let unpooled = Arc::new(Self {
            id: self.id,
            host: host.clone(),
            module: module.map_err(|error| self.internal(&error))?,
            slots: Mutex::default(),
            on_demand: Arc::clone(&self.on_demand),
            unpooled: OnceLock::new(),
        });
        Ok(Arc::clone(self.unpooled.get_or_init(|| unpooled)))
    }

    fn lease(self: &Arc<Self>, interrupt: &Interrupt) -> Result<Lease, EngineError> {
        let idle = self.slots.lock().pop();
        let slot = match idle {
            Some(slot) => slot,
            None => Slot::new(&self.host, &self.module).map_err(|error| self.internal(&error))?,
        };
        let flag = slot.flag.clone();
        let listener = interrupt.listen(move || set(&flag, 1));
        Ok(Lease { listener: Some(listener), slot: Some(slot), artifact: Arc::clone(self) })
    }
}

/// A slot in the hands of one instance.
struct Lease {
    listener: Option<Listener>,
    slot: Option<Slot>,
    artifact: Arc<WasmtimeArtifact>,
}

impl Lease {
    fn slot(&mut self) -> &Slot {
        self.slot.as_ref().expect("a lease has its slot until it is dropped")
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // Once the listener is gone, nothing sets the flag: it can be cleared for the next instance.
        self.listener = None;
        if let Some(slot) = self.slot.take() {
            set(&slot.flag, 0);
            let mut slots = self.artifact.slots.lock();
            if slots.len() < IDLE_SLOTS_MAX {
                slots.push(slot);
            }
        }
    }
}

fn set(flag: &SharedMemory, value: u8) {
    // SAFETY: a shared memory of one page is never moved or freed while `flag` lives, and its first byte is only ever
    // accessed by atomic operations, by the guest's rewritten code, too.
    let byte = unsafe { AtomicU8::from_ptr(flag.data().as_ptr().cast::<u8>().cast_mut()) };
    byte.store(value, Ordering::Release);
}

/// What a store keeps for its guest.
#[derive(Default)]
struct State {
    /// The guest; `None` if none is running here, or as long as it is in another engine's code.
    guest: Option<Guest>,
    /// The exported memory, found at the first WASI call.
    memory: Option<Memory>,
    /// In a part: what a guest that comes from another engine needs here.
    arrival: Option<Arrival>,
}

impl State {
    fn guest(&self) -> &Guest {
        self.guest.as_ref().expect("a guest is where its code is running")
    }

    fn guest_mut(&mut self) -> &mut Guest {
        self.guest.as_mut().expect("a guest is where its code is running")
    }

    fn into_guest(self) -> Guest {
        self.guest.expect("a guest stays in the store that was made for it")
    }
}

impl ResourceLimiter for State {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let Some(guest) = &mut self.guest else {
            // This is a part whose guest is not there yet, or is in another engine's code, where the growth was
            // granted.
            return Ok(true);
        };
        if !guest.budget.grant_memory(current, desired, maximum) {
            return Ok(false);
        }
        if self.arrival.as_mut().is_none_or(|arrival| arrival.grow_origin(desired)) {
            return Ok(true);
        }
        guest.budget.return_memory(desired - current);
        Ok(false)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        // A part has no guest while it is made. Its tables are copies of the guest's own, which were granted before.
        Ok(self.guest.as_mut().is_none_or(|guest| guest.budget.grant_table(current, desired, maximum)))
    }

    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

struct WasmtimeInstance {
    id: EngineId,
    instance: wasmtime::Instance,
    store: Store<State>,
    _lease: Lease,
}

impl Instance for WasmtimeInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        let (end, values) = enter(self, entry)?;
        Ok(self.store.data().guest().conclude_call(end, values))
    }

    fn into_output(self: Box<Self>) -> GuestOutput {
        self.store.into_data().into_guest().into_output()
    }
}

impl Exports for WasmtimeInstance {
    type Error = wasmtime::Error;

    fn has_function(&mut self, name: &str) -> bool {
        self.instance.get_func(&mut self.store, name).is_some()
    }

    fn call_function(&mut self, name: &str, args: &[Value], values: &mut Vec<Value>) -> wasmtime::Result<()> {
        let function = self
            .instance
            .get_func(&mut self.store, name)
            .ok_or_else(|| wasmtime::Error::msg(format!("no exported function {name:?}")))?;
        let params: Vec<Val> = args.iter().copied().map(to_val).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        function.call(&mut self.store, &params, &mut results)?;
        values.extend(results.iter().map(from_val));
        Ok(())
    }

    fn end_of(&self, error: wasmtime::Error) -> Result<End, EngineError> {
        end_of(&error).ok_or_else(|| EngineError::Internal { engine: self.id, reason: format!("{error:#}") })
    }
}

fn to_val(value: Value) -> Val {
    match value {
        Value::I32(n) => Val::I32(n),
        Value::I64(n) => Val::I64(n),
        Value::F32(n) => Val::F32(n.to_bits()),
        Value::F64(n) => Val::F64(n.to_bits()),
        Value::V128(n) => Val::V128(n.into()),
        // No entry with a reference is accepted (`Module::check_entry`). If one came, `call` would report that the
        // types differ.
        Value::Reference { .. } => Val::ExternRef(None),
    }
}

fn from_val(value: &Val) -> Value {
    let reference = |to, is_null| Value::Reference { to, is_null };
    match value {
        Val::I32(n) => Value::I32(*n),
        Val::I64(n) => Value::I64(*n),
        Val::F32(bits) => Value::F32(f32::from_bits(*bits)),
        Val::F64(bits) => Value::F64(f64::from_bits(*bits)),
        Val::V128(n) => Value::V128(n.as_u128()),
        Val::FuncRef(function) => reference(Referent::Func, function.is_none()),
        Val::ExternRef(host) => reference(Referent::Extern, host.is_none()),
        Val::AnyRef(any) => reference(Referent::Any, any.is_none()),
        Val::ExnRef(exception) => reference(Referent::Exception, exception.is_none()),
        Val::ContRef(continuation) => reference(Referent::Continuation, continuation.is_none()),
    }
}

/// How the guest ended according to an error; `None` if the engine itself failed.
fn end_of(error: &wasmtime::Error) -> Option<End> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return Some(End::Stopped(stop.clone()));
    }
    if let Some(part::Stopped(Failure::Ended(end))) = error.downcast_ref::<part::Stopped>() {
        return Some(end.clone());
    }
    if error.is::<ThrownException>() {
        return Some(End::Trapped { kind: TrapKind::UncaughtException, detail: place_of(error) });
    }
    if error.is::<GcHeapOutOfMemory<()>>() {
        // The managed heap is a memory like any other: the limiter has refused to let it grow.
        return Some(End::NotGranted(Limit::Memory));
    }
    let kind = match error.downcast_ref::<Trap>()? {
        Trap::UnreachableCodeReached => TrapKind::Unreachable,
        Trap::MemoryOutOfBounds | Trap::ArrayOutOfBounds => TrapKind::MemoryOutOfBounds,
        Trap::TableOutOfBounds => TrapKind::TableOutOfBounds,
        Trap::IntegerDivisionByZero => TrapKind::IntegerDivisionByZero,
        Trap::IntegerOverflow => TrapKind::IntegerOverflow,
        Trap::BadConversionToInteger => TrapKind::BadConversionToInteger,
        Trap::IndirectCallToNull | Trap::NullReference => TrapKind::IndirectCallToNull,
        Trap::BadSignature | Trap::CastFailure => TrapKind::BadSignature,
        Trap::StackOverflow => TrapKind::StackExhausted,
        _ => TrapKind::Other,
    };
    Some(End::Trapped { kind, detail: place_of(error) })
}

/// How the adapter reports a trap; `None` if the error is not a trap.
pub(crate) fn trap_kind(error: &wasmtime::Error) -> Option<TrapKind> {
    match end_of(error)? {
        End::Trapped { kind, .. } => Some(kind),
        _ => None,
    }
}

/// The function in which a guest trapped: its name if that is known, else its index.
fn place_of(error: &wasmtime::Error) -> String {
    let frame = error.downcast_ref::<WasmBacktrace>().and_then(|backtrace| backtrace.frames().first());
    match frame {
        None => String::new(),
        Some(frame) => match frame.func_name() {
            Some(name) => format!("in {name}"),
            None => format!("in function {}", frame.func_index()),
        },
    }
}
