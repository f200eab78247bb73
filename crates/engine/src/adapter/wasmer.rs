//! The adapter for Wasmer with Singlepass.
//!
//! Guests are stopped by a flag in a global that their rewritten code reads ([`crate::instrument`]). Wasmer has a way
//! of its own, a signal that redirects the guest's thread. It is not used because the signal may arrive while that
//! thread holds a lock in Wasmer or the allocator, on the guest's stack, and then the lock is never released.
//!
//! Machine code belongs to a Wasmer engine, which only frees it when the engine itself is dropped. So each module has a
//! Wasmer engine of its own.

mod frame;
mod limits;

use std::num::NonZero;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::{Mutex, RwLock};
use remuda_model::{
    EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, Listener, Referent, TrapKind, Value,
};
use remuda_wasi::{IMPORTS, Import, Stop, Type};
use wasmer::sys::{CompilerConfig as _, EngineBuilder, Features, NativeEngineExt as _, Singlepass};
use wasmer::{
    AsStoreMut as _, ExportIndex, Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, InstantiationError,
    LinkError, Memory, RuntimeError, Store, StoreObjects,
};
use wasmer_vm::{TrapCode, VMGlobalDefinition, VMOffsets};

use self::frame::FrameRules;
use self::limits::{Limits, SharedGuest};
use super::enter::{Exports, enter};
use super::guest::{End, Guest};
use crate::instrument::{FLAG_GLOBAL, instrument_with_global};
use crate::{
    Artifact, Called, Capabilities, Engine, EngineError, Form, Instance, Instances, InstantiateError, MachineCode,
    Module, Proposal, StoredArtifact, start,
};

const ID: EngineId = super::WASMER_SINGLEPASS.id;

/// The smallest amount of code, in bytes, for which it pays to compile on several threads.
const PARALLEL_CODE_BYTES_MIN: u64 = 256 << 10;
/// The most `table.grow` instructions of a module. Toolchains emit one or two.
const TABLE_GROWS_MAX: u32 = 100_000;
/// The most threads that compile one module.
const COMPILE_THREADS_MAX: usize = 8;

#[expect(clippy::unnecessary_wraps, reason = "every adapter opens like this")]
pub(super) fn open(_: Instances) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(WasmerEngine))
}

/// A Wasmer engine for one module, with the adapter's configuration.
pub(crate) fn configured(code_bytes: u64) -> wasmer::Engine {
    let has = |proposal| super::WASMER_SINGLEPASS.capabilities.proposals.contains(proposal);
    let mut features = Features::none();
    features
        .multi_value(true)
        .bulk_memory(true)
        .reference_types(true)
        .extended_const(has(Proposal::ExtendedConst))
        .multi_memory(has(Proposal::MultiMemory))
        .simd(has(Proposal::Simd))
        .tail_call(has(Proposal::TailCall));
    let mut compiler = Singlepass::new();
    compiler
        // Artifacts are ELF images, which load several times as fast as the other format.
        .experimental_artifact(true)
        // The other engines do not spend time on this either.
        .canonicalize_nans(false)
        .num_threads(compile_threads(code_bytes));
    compiler.push_middleware(Arc::new(FrameRules::default()));
    EngineBuilder::new(compiler).set_features(Some(features)).engine().into()
}

fn compile_threads(code_bytes: u64) -> NonZero<usize> {
    if code_bytes < PARALLEL_CODE_BYTES_MIN {
        return NonZero::<usize>::MIN;
    }
    let processors = std::thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN);
    processors.min(NonZero::new(COMPILE_THREADS_MAX).unwrap_or(NonZero::<usize>::MIN))
}

struct WasmerEngine;

impl Engine for WasmerEngine {
    fn id(&self) -> EngineId {
        ID
    }

    fn capabilities(&self) -> &'static Capabilities {
        super::WASMER_SINGLEPASS.capabilities
    }

    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        let failed = |reason: String| EngineError::Compile { engine: ID, reason };
        check_growth(module).map_err(failed)?;
        let bytes = rewritten(module).map_err(failed)?;
        let _making = CODE.read();
        let engine = configured(module.stats().code_bytes);
        let compiled = wasmer::Module::new(&engine, bytes).map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(WasmerArtifact::new(engine, compiled, module.has_start()).map_err(failed)?))
    }

    fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        let failed = |reason: String| EngineError::Load { engine: ID, reason };
        let mut bytes = vec![0; stored.artifact_bytes()];
        stored.file().and_then(|file| file.read_exact_at(&mut bytes, 0)).map_err(|error| failed(error.to_string()))?;
        let _making = CODE.read();
        let engine: wasmer::Engine = EngineBuilder::headless().engine().into();
        // SAFETY: the code that made the `StoredArtifact` vouched that its bytes came from `serialize` below.
        let loaded =
            unsafe { wasmer::Module::deserialize(&engine, bytes) }.map_err(|error| failed(error.to_string()))?;
        Ok(Arc::new(WasmerArtifact::new(engine, loaded, module.has_start()).map_err(failed)?))
    }

    fn machine_code(&self, module: &Module, form: Form) -> Result<Option<MachineCode>, EngineError> {
        let failed = |reason: String| EngineError::Compile { engine: ID, reason };
        check_growth(module).map_err(failed)?;
        let bytes = match form {
            Form::AsServed => rewritten(module).map_err(failed)?,
            Form::Plain => module.bytes().to_vec(),
        };
        let engine = configured(module.stats().code_bytes);
        let making = CODE.read();
        let compiled = wasmer::Module::new(&engine, bytes).map_err(|error| failed(error.to_string()))?;
        drop(making);
        let code = Code { module: compiled, engine };
        let copied = copy_of(&code).ok_or_else(|| internal(&"its code is not in memory"));
        let _dropping = CODE.write();
        drop(code);
        copied.map(Some)
    }
}

/// A copy of the machine code of a module. Wasmer keeps no map from code to operators in artifacts of this format.
fn copy_of(code: &Code) -> Option<MachineCode> {
    let info = code.module.info();
    let extents = code.module.sys_artifact()?.finished_function_extents()?;
    let (mut text, mut functions) = (Vec::new(), Vec::new());
    for (local, extent) in extents {
        // SAFETY: Wasmer says that a function of this many bytes begins here, in memory that belongs to the engine, which
        // outlives this function, and that nobody writes to once the code is made.
        let bytes = unsafe { std::slice::from_raw_parts(extent.ptr.cast::<u8>(), extent.length) };
        let start = text.len();
        text.extend_from_slice(bytes);
        functions.push((info.func_index(local).as_u32(), start..text.len()));
    }
    let flag = match info.exports.get(FLAG_GLOBAL) {
        Some(ExportIndex::Global(global)) => info.local_global_index(*global),
        _ => None,
    };
    let flag = flag.map(|flag| {
        let offsets = VMOffsets::new(u8::try_from(size_of::<usize>()).unwrap_or(8), info);
        (INSTANCE_REGISTER, i64::from(offsets.vmctx_vmglobal_definition(flag)))
    });
    Some(MachineCode { architecture: std::env::consts::ARCH, text, functions, origins: None, flag })
}

/// The number of the register that points at the instance in Singlepass's code: r15, and on 64-bit ARM x28.
const INSTANCE_REGISTER: u8 = if cfg!(target_arch = "aarch64") { 28 } else { 15 };

/// The lock that keeps machine code from being made while any is dropped. Wasmer has one table of all machine code in
/// the process, by address, and an artifact that is dropped gives its addresses back before it leaves that table: a new
/// one may then be entered at the same place, which breaks the table for good. So the lock is held shared while code is
/// made, and exclusively while code is dropped.
static CODE: RwLock<()> = RwLock::new(());

/// A compiled module and its engine. Fields are dropped in their order here: a module must not outlive its engine.
struct Code {
    module: wasmer::Module,
    engine: wasmer::Engine,
}

struct WasmerArtifact {
    /// The code; `None` only while the artifact is dropped.
    code: Option<Code>,
    /// The imports in the module's order, in which Wasmer takes them.
    imports: Vec<&'static Import>,
    has_start: bool,
    memory_bytes: u64,
}

impl WasmerArtifact {
    fn new(engine: wasmer::Engine, module: wasmer::Module, has_start: bool) -> Result<Self, String> {
        let find = |wanted: &wasmer::ImportType| {
            IMPORTS.iter().find(|import| import.module == wanted.module() && import.name == wanted.name())
        };
        let imports = module
            .imports()
            .map(|import| find(&import).ok_or_else(|| format!("it imports {} {}", import.module(), import.name())))
            .collect::<Result<_, _>>()?;
        let extents = module.sys_artifact().and_then(wasmer::sys::Artifact::finished_function_extents);
        let code_bytes: usize = extents.iter().flatten().map(|(_, extent)| extent.length).sum();
        // The code is in memory twice: mapped, and in the image that it came from.
        Ok(Self { code: Some(Code { module, engine }), imports, has_start, memory_bytes: 2 * code_bytes as u64 })
    }
}

impl WasmerArtifact {
    fn code(&self) -> &Code {
        self.code.as_ref().expect("an artifact has its code until it is dropped")
    }
}

impl Drop for WasmerArtifact {
    fn drop(&mut self) {
        let _dropping = CODE.write();
        self.code = None;
    }
}

impl Artifact for WasmerArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        match self.code().module.serialize() {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(error) => Err(internal(&error)),
        }
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn code_addresses(&self) -> Option<Range<usize>> {
        let extents = self.code().module.sys_artifact()?.finished_function_extents()?;
        let addresses =
            extents.into_iter().map(|(_, extent)| (*extent.ptr as usize, *extent.ptr as usize + extent.length));
        addresses.reduce(|all, one| (all.0.min(one.0), all.1.max(one.1))).map(|(start, end)| start..end)
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        let guest = Arc::new(Mutex::new(Guest::new(ID, context, limits, interrupt)?));
        // Limits are set as tunables. A copy of an engine has tunables of its own.
        let mut engine = self.code().engine.clone();
        engine.set_tunables(Limits::new(Arc::clone(&guest)));
        let mut store = Store::new(engine);
        let env = FunctionEnv::new(&mut store, State { guest: Arc::clone(&guest), memory: None });
        let imports: Vec<Extern> = self.imports.iter().map(|import| link(&mut store, &env, import).into()).collect();
        let instance = match wasmer::Instance::new_by_index(&mut store, &self.code().module, &imports) {
            Ok(instance) => instance,
            Err(error) => {
                let end = end_of_instantiation(&error);
                drop(store);
                return Err(fail_to_start(guest, end, &error));
            }
        };
        env.as_mut(&mut store).memory = instance.exports.get_memory("memory").ok().cloned();
        let globals = Globals::of(&mut store).ok_or_else(|| internal(&"its globals are missing"))?;
        globals.left.set(limits::table_elements_left(&guest));
        let flag = globals.flag;
        let mut instance = WasmerInstance {
            listener: interrupt.listen(move || flag.set(1)),
            instance,
            globals,
            store,
            guest,
            artifact: Arc::clone(&self),
        };
        if self.has_start
            && let Err(error) = instance.call_function(start::EXPORT, &[], &mut Vec::new())
        {
            let end = end_of(&error);
            return Err(fail_to_start(instance.into_guest(), end, &error));
        }
        Ok(Box::new(instance))
    }
}

fn fail_to_start(guest: SharedGuest, end: Option<End>, error: &impl ToString) -> InstantiateError {
    let guest = sole_owner(guest);
    match end.or(guest.budget.refused.map(End::NotGranted)) {
        Some(end) => guest.fail_to_start(end),
        None => internal(error).into(),
    }
}

/// Takes the guest out of its shared pointer, once the store that shared it is gone.
fn sole_owner(guest: SharedGuest) -> Guest {
    Arc::into_inner(guest).expect("a store takes everything with it that was made for it").into_inner()
}

fn internal(error: &impl ToString) -> EngineError {
    EngineError::Internal { engine: ID, reason: error.to_string() }
}

/// What a WASI call needs.
struct State {
    guest: SharedGuest,
    /// The exported memory.
    memory: Option<Memory>,
}

fn link(store: &mut Store, env: &FunctionEnv<State>, import: &'static Import) -> Function {
    let value_type = |ty: &Type| match ty {
        Type::I32 => wasmer::Type::I32,
        Type::I64 => wasmer::Type::I64,
    };
    let params: Vec<_> = import.params.iter().map(value_type).collect();
    let results: Vec<_> = import.result.iter().map(value_type).collect();
    Function::new_with_env(store, env, FunctionType::new(params, results), move |env, values| {
        let mut args = [0; 9];
        let args = &mut args[..values.len()];
        for (arg, value) in args.iter_mut().zip(values) {
            *arg = match value {
                wasmer::Value::I32(n) => n.cast_unsigned().into(),
                wasmer::Value::I64(n) => n.cast_unsigned(),
                _ => unreachable!("WASI has no other types"),
            };
        }
        let errno = call_wasi(env, import, args).map_err(|stop| RuntimeError::user(Box::new(stop)))?;
        Ok(import.result.map(|_| wasmer::Value::I32(errno)).into_iter().collect())
    })
}

fn call_wasi(mut env: FunctionEnvMut<'_, State>, import: &Import, args: &[u64]) -> Result<i32, Stop> {
    let (state, store) = env.data_and_store_mut();
    let view = state.memory.as_ref().map(|memory| memory.view(&store));
    let bytes = match &view {
        // SAFETY: the store is lent to this call, so that no code of the guest runs and its memory does not grow until
        // the call is done. No other thread has the memory, because shared memories are not accepted.
        Some(view) => unsafe { view.data_unchecked_mut() },
        None => &mut [],
    };
    state.guest.lock().call(import, bytes, args)
}

/// The globals that were added to a module, where the host can reach them.
#[derive(Clone, Copy)]
struct Globals {
    flag: Cell,
    left: Cell,
    refused: Cell,
}

/// An `i32` of the guest's, read and written by its machine code and by the host.
#[derive(Clone, Copy)]
struct Cell(NonNull<VMGlobalDefinition>);

// SAFETY: a cell is only accessed by atomic operations, and everything that holds one is dropped before the store: see
// `WasmerInstance`.
unsafe impl Send for Cell {}

impl Globals {
    /// Finds them among the globals of the only instance in `store`: they are the last ones, in the order in which they
    /// were added.
    fn of(store: &mut Store) -> Option<Self> {
        let StoreObjects::Sys(objects) = store.objects_mut();
        let added = frame::ADDED_GLOBALS as usize + 1;
        let all: Vec<_> = objects.iter_globals().map(|global| Cell(global.vmglobal())).collect();
        let first = all.len().checked_sub(added)?;
        Some(Self {
            flag: all[first],
            left: all[first + 1 + frame::LEFT as usize],
            refused: all[first + 1 + frame::REFUSED as usize],
        })
    }
}

impl Cell {
    fn word(&self) -> &AtomicU32 {
        // SAFETY: a global's definition lies in its instance, which the store keeps in place until the store is
        // dropped; no `Cell` outlives the store. The definition is 16 bytes, aligned to 16, and begins with the low
        // half of the value.
        unsafe { AtomicU32::from_ptr(self.0.as_ptr().cast()) }
    }

    fn set(self, value: u32) {
        self.word().store(value, Ordering::Release);
    }

    fn get(self) -> u32 {
        self.word().load(Ordering::Acquire)
    }
}

/// An instance. Fields are dropped in their order here: the listener first, since it must not set the flag of a store
/// that is gone, and the artifact last, since the code belongs to it.
struct WasmerInstance {
    listener: Listener,
    instance: wasmer::Instance,
    globals: Globals,
    store: Store,
    guest: SharedGuest,
    artifact: Arc<WasmerArtifact>,
}

// SAFETY: a store is not `Send` only because of raw pointers, and these point at memory on the heap that the store
// owns. Wasmer ties a store to a thread while a call is running in it, and a call borrows the instance. For the
// listener's copy of the flag, see `Cell`.
unsafe impl Send for WasmerInstance {}

impl Instance for WasmerInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        let (end, values) = enter(self, entry)?;
        Ok(self.guest.lock().conclude_call(end, values))
    }

    fn into_output(self: Box<Self>) -> GuestOutput {
        sole_owner(self.into_guest()).into_output()
    }
}

impl Exports for WasmerInstance {
    type Error = RuntimeError;

    fn has_function(&mut self, name: &str) -> bool {
        self.instance.exports.get_function(name).is_ok()
    }

    fn call_function(&mut self, name: &str, args: &[Value], values: &mut Vec<Value>) -> Result<(), RuntimeError> {
        let function = self
            .instance
            .exports
            .get_function(name)
            .map_err(|error| RuntimeError::new(format!("{name:?}: {error}")))?;
        let params: Vec<_> = args.iter().copied().map(to_val).collect();
        let result = function.call(&mut self.store, &params);
        if self.globals.refused.get() != 0 {
            self.guest.lock().budget.refused.get_or_insert(Limit::Table);
        }
        values.extend(result?.iter().map(from_val));
        Ok(())
    }

    fn end_of(&self, error: RuntimeError) -> Result<End, EngineError> {
        end_of(&error).ok_or_else(|| internal(&error))
    }
}

impl WasmerInstance {
    fn into_guest(self) -> SharedGuest {
        let Self { listener, instance, globals: _, store, guest, artifact } = self;
        drop(listener);
        drop(instance);
        drop(store);
        drop(artifact);
        guest
    }
}

fn to_val(value: Value) -> wasmer::Value {
    match value {
        Value::I32(n) => wasmer::Value::I32(n),
        Value::I64(n) => wasmer::Value::I64(n),
        Value::F32(n) => wasmer::Value::F32(n),
        Value::F64(n) => wasmer::Value::F64(n),
        Value::V128(n) => wasmer::Value::V128(n),
        // No entry with a reference is accepted (`Module::check_entry`). If one came, the call would report that the
        // types differ.
        Value::Reference { .. } => wasmer::Value::ExternRef(None),
    }
}

fn from_val(value: &wasmer::Value) -> Value {
    let reference = |to, is_null| Value::Reference { to, is_null };
    match value {
        wasmer::Value::I32(n) => Value::I32(*n),
        wasmer::Value::I64(n) => Value::I64(*n),
        wasmer::Value::F32(n) => Value::F32(*n),
        wasmer::Value::F64(n) => Value::F64(*n),
        wasmer::Value::V128(n) => Value::V128(*n),
        wasmer::Value::FuncRef(function) => reference(Referent::Func, function.is_none()),
        wasmer::Value::ExternRef(host) => reference(Referent::Extern, host.is_none()),
        wasmer::Value::ExceptionRef(exception) => reference(Referent::Exception, exception.is_none()),
    }
}

/// How the guest ended according to a failed instantiation; `None` if it neither trapped nor was stopped. A limit that
/// refused it shows in its budget.
fn end_of_instantiation(error: &InstantiationError) -> Option<End> {
    match error {
        InstantiationError::Start(error) | InstantiationError::Link(LinkError::Trap(error)) => end_of(error),
        _ => None,
    }
}

/// How the guest ended according to an error; `None` if the engine itself failed.
fn end_of(error: &RuntimeError) -> Option<End> {
    if let Some(stop) = error.downcast_ref::<Stop>() {
        return Some(End::Stopped(stop.clone()));
    }
    let kind = match error.clone().to_trap()? {
        TrapCode::UnreachableCodeReached => TrapKind::Unreachable,
        TrapCode::HeapAccessOutOfBounds => TrapKind::MemoryOutOfBounds,
        TrapCode::TableAccessOutOfBounds => TrapKind::TableOutOfBounds,
        TrapCode::IntegerDivisionByZero => TrapKind::IntegerDivisionByZero,
        TrapCode::IntegerOverflow => TrapKind::IntegerOverflow,
        TrapCode::BadConversionToInteger => TrapKind::BadConversionToInteger,
        TrapCode::IndirectCallToNull => TrapKind::IndirectCallToNull,
        TrapCode::BadSignature => TrapKind::BadSignature,
        TrapCode::StackOverflow => TrapKind::StackExhausted,
        TrapCode::UncaughtException => TrapKind::UncaughtException,
        _ => TrapKind::Other,
    };
    Some(End::Trapped { kind, detail: place_of(error) })
}

/// The function in which a guest trapped: its name if that is known, else its index.
fn place_of(error: &RuntimeError) -> String {
    match error.trace().first() {
        None => String::new(),
        Some(frame) => match frame.function_name() {
            Some(name) => format!("in {name}"),
            None => format!("in function {}", frame.func_index()),
        },
    }
}

/// The module as it is compiled: rewritten so that its guests can be stopped.
pub(crate) fn rewritten(module: &Module) -> Result<Vec<u8>, String> {
    // The host can only reach the flag once there is an instance: the start function has to wait until then.
    let bytes = start::start_as_export(module.bytes()).map_err(|error| error.to_string())?;
    let bytes = instrument_with_global(&bytes, module.bytes_max()).map_err(|error| error.to_string())?;
    module.check_rewritten(&bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Refuses modules with too many `table.grow` instructions: each becomes two dozen operators or more (see [`frame`]),
/// and the code that a compiler is given has to be bounded.
fn check_growth(module: &Module) -> Result<(), String> {
    let grows = module.stats().table_grows;
    if grows > TABLE_GROWS_MAX {
        return Err(format!("the module contains table.grow {grows} times, and {TABLE_GROWS_MAX} times are the most"));
    }
    Ok(())
}

/// A store with the adapter's configuration and no limit, for the specification's test suite.
pub(crate) fn unlimited_store() -> Result<Store, EngineError> {
    Ok(Store::new(unlimited(EngineBuilder::headless().engine().into())?))
}

/// `engine` with no limit on what guests have.
pub(crate) fn unlimited(mut engine: wasmer::Engine) -> Result<wasmer::Engine, EngineError> {
    let limits = GuestLimits { memory_bytes_max: u64::MAX, table_elements_max: u64::MAX, ..GuestLimits::default() };
    let guest = Guest::new(ID, &GuestContext::default(), &limits, &Interrupt::new())?;
    engine.set_tunables(Limits::new(Arc::new(Mutex::new(guest))));
    Ok(engine)
}

/// A module that can be linked with others in `store`: compiled by an engine of its own, and loaded from its artifact.
pub(crate) fn compile_into(store: &Store, module: &Module) -> Result<wasmer::Module, String> {
    let engine = configured(module.stats().code_bytes);
    let compiled = wasmer::Module::new(&engine, rewritten(module)?).map_err(|error| error.to_string())?;
    let artifact = compiled.serialize().map_err(|error| error.to_string())?;
    // SAFETY: these are the bytes that `serialize` has just returned.
    unsafe { wasmer::Module::deserialize(store, artifact) }.map_err(|error| error.to_string())
}

/// Lifts the limit on the growth of tables for the instance that was made last in `store`.
pub(crate) fn lift_table_limit(store: &mut Store) {
    if let Some(globals) = Globals::of(store) {
        globals.left.set(u32::MAX);
    }
}

/// How the adapter reports a trap; `None` if the error is not a trap.
pub(crate) fn trap_kind(error: &RuntimeError) -> Option<TrapKind> {
    kind_of(&end_of(error)?)
}

/// How the adapter reports a trap that happened while an instance was made; `None` if the error is not a trap.
pub(crate) fn trap_kind_of_instantiation(error: &InstantiationError) -> Option<TrapKind> {
    kind_of(&end_of_instantiation(error)?)
}

fn kind_of(end: &End) -> Option<TrapKind> {
    match end {
        End::Trapped { kind, .. } => Some(*kind),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use remuda_model::Outcome;

    use super::*;

    /// Artifacts are made and dropped on several threads while guests run: the process-wide table of code stays intact.
    #[test]
    fn code_may_be_dropped_while_other_threads_make_some() {
        let text = r#"(module (func (export "f") (param i32) (result i32) (i32.div_u (i32.const 6) (local.get 0))))"#;
        let module = Module::parse(wat::parse_str(text).unwrap(), &remuda_model::ModuleLimits::default()).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for divisor in [1, 0].repeat(50) {
                        let artifact = WasmerEngine.compile(&module).unwrap();
                        let (context, limits) = (GuestContext::default(), GuestLimits::default());
                        let mut instance = artifact.instantiate(&context, &limits, &Interrupt::new()).unwrap();
                        let entry = Entry::Export { name: "f".into(), args: vec![Value::I32(divisor)] };
                        let called = instance.call(&entry).unwrap();
                        assert_eq!(called.outcome == Outcome::Returned, divisor == 1, "{called:?}");
                    }
                });
            }
        });
    }
}
