//! The adapter for Wasmi, which translates each function when it is first called.
//!
//! Guests are stopped between slices of fuel: when a slice is used up, Wasmi hands control back, and later goes on
//! where it was.

mod away;

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use remuda_model::{
    EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, Referent, TrapKind, Value,
};
use remuda_wasi::{IMPORTS, Import, Stop, Type};
use wasmi::errors::{ErrorKind, InstantiationError, MemoryError, TableError};
use wasmi::{
    AsContextMut, Caller, CompilationMode, Config, CustomFuelCosts, Error, Extern, Func, FuncType, Linker, Memory,
    Nullable, OperatorCost, ResumableCall, Store, TrapCode, Val, ValType,
};

use self::away::Away;
use super::enter::{Exports, enter};
use super::guest::{End, Guest};
use crate::osr::depart::{self, Departing};
use crate::osr::moves::Failure;
use crate::{
    Artifact, Called, Capabilities, Engine, EngineError, Instance, Instances, InstantiateError, Module, Moves,
    Proposal, StoredArtifact, select, start,
};

const ID: EngineId = super::WASMI_LAZY.id;

/// Fuel between two looks at the interrupt, at least and at most: some microseconds of work, and less than a
/// millisecond.
const FUEL_SLICE: std::ops::RangeInclusive<u64> = 50_000..=200_000;
/// Between these bounds, a slice is this share (1/32) of the fuel used until now: an engine that is overtaken in a race
/// holds the answer back for as long as a slice takes, which is to be short beside the run as a whole.
const FUEL_SLICE_SHARE: u64 = 32;
/// Fuel for one `memory.grow` or `table.grow`: the most that Wasmi allows.
///
/// The handlers of these instructions do not tail-call the next instruction, as all others do: each leaves a frame of
/// 184 bytes on the host's stack until the guest is paused. The longest slice has fuel for fewer than 800 of them,
/// which is 144 KB of stack.
const FUEL_PER_GROW: u8 = u8::MAX;
/// For the same reason, the most `memory.grow` instructions of one function: fuel is taken for a straight line of
/// instructions at once, however long it is. Toolchains emit one or two.
const MEMORY_GROWS_PER_FUNCTION_MAX: u32 = 1_000;
/// Fuel for work that is not counted by single instructions.
const FUEL_COSTS: CustomFuelCosts = CustomFuelCosts {
    // The longest slice copies at most 1.6 MB, which takes no longer than a slice of other instructions. Only a single
    // instruction that copies more gets more fuel.
    bytes_copied_per_fuel: 8,
    // Wasmi cannot pause while it translates a function, and fails if the fuel runs out there. The size of functions is
    // bounded, and so is the time that translating one takes.
    fuel_per_bytes_translated: 0,
    fuel_per_bytes_validated: 0,
};
/// The most calls within calls. Wasmi keeps them on a stack of its own, so the host's stack is not at risk.
const RECURSION_MAX: usize = 50_000;
/// The size of Wasmi's stack, in bytes, with room for each guest frame's values.
const STACK_BYTES_MAX: usize = 16 << 20;

/// A Wasmi engine with the adapter's configuration, which translates a function when it is first called.
pub(crate) fn configured() -> wasmi::Engine {
    configured_with(CompilationMode::Lazy)
}

fn configured_with(mode: CompilationMode) -> wasmi::Engine {
    let has = |proposal| super::WASMI_LAZY.capabilities.proposals.contains(proposal);
    let mut config = Config::default();
    config
        .consume_fuel(true)
        .fuel_cost(FUEL_COSTS)
        .operator_cost(OperatorCost {
            memory_grow: FUEL_PER_GROW,
            table_grow: FUEL_PER_GROW,
            ..OperatorCost::default()
        })
        .compilation_mode(mode)
        .set_max_recursion_depth(RECURSION_MAX)
        .set_max_stack_height(STACK_BYTES_MAX)
        .ignore_custom_sections(true)
        .wasm_simd(has(Proposal::Simd))
        .wasm_relaxed_simd(has(Proposal::RelaxedSimd))
        .wasm_tail_call(has(Proposal::TailCall))
        .wasm_multi_memory(has(Proposal::MultiMemory))
        .wasm_memory64(has(Proposal::Memory64))
        .wasm_custom_page_sizes(has(Proposal::CustomPageSizes))
        .wasm_wide_arithmetic(has(Proposal::WideArithmetic));
    wasmi::Engine::new(&config)
}

pub(super) fn open(_: Instances) -> Result<Arc<dyn Engine>, EngineError> {
    let lazy = Linked::new(configured())?;
    Ok(Arc::new(WasmiEngine { lazy, eager: OnceLock::new() }))
}

/// A Wasmi engine, and the host's functions linked for it.
#[derive(Clone)]
struct Linked {
    engine: wasmi::Engine,
    linker: Arc<Linker<State>>,
}

impl Linked {
    fn new(engine: wasmi::Engine) -> Result<Self, EngineError> {
        let mut linker = Linker::new(&engine);
        for import in IMPORTS {
            link(&mut linker, import)
                .map_err(|error| EngineError::Unavailable { engine: ID, reason: error.to_string() })?;
        }
        Ok(Self { engine, linker: Arc::new(linker) })
    }

    /// The same engine, with only those of the host's functions that `module` imports: each instance copies the linker,
    /// to add a memory of its own, so that a small one saves time.
    fn with_imports_of(&self, module: &wasmi::Module) -> Result<Self, Error> {
        let mut linker = Linker::new(&self.engine);
        let is_wanted = |import: &Import| {
            module.imports().any(|wanted| wanted.module() == import.module && wanted.name() == import.name)
        };
        for import in IMPORTS.iter().filter(|import| is_wanted(import)) {
            link(&mut linker, import)?;
        }
        Ok(Self { engine: self.engine.clone(), linker: Arc::new(linker) })
    }
}

fn link(linker: &mut Linker<State>, import: &'static Import) -> Result<(), Error> {
    let value_type = |ty: &Type| match ty {
        Type::I32 => ValType::I32,
        Type::I64 => ValType::I64,
    };
    let ty = FuncType::new(import.params.iter().map(value_type), import.result.iter().map(value_type));
    linker.func_new(import.module, import.name, ty, move |mut caller, params, results| {
        let mut args = [0; 9];
        let args = &mut args[..params.len()];
        for (arg, value) in args.iter_mut().zip(params) {
            *arg = match value {
                Val::I32(n) => n.cast_unsigned().into(),
                Val::I64(n) => n.cast_unsigned(),
                _ => unreachable!("WASI has no other types"),
            };
        }
        let errno = call_wasi(&mut caller, import, args)?;
        if let Some(result) = results.first_mut() {
            *result = Val::I32(errno);
        }
        Ok(())
    })?;
    Ok(())
}

fn call_wasi(caller: &mut Caller<'_, State>, import: &Import, args: &[u64]) -> Result<i32, Error> {
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
    result.map_err(|stop| Error::host(HostStop(Failure::Ended(End::Stopped(stop)))))
}

/// Why a guest does not go on, as an error that Wasmi passes through: a host function ended it, or something happened
/// in the part to which it had moved.
#[derive(Debug)]
struct HostStop(Failure);

impl fmt::Display for HostStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failure::Ended(end) => write!(f, "the guest ended: {end:?}"),
            Failure::Engine(error) => error.fmt(f),
        }
    }
}

impl wasmi::errors::HostError for HostStop {}

struct WasmiEngine {
    lazy: Linked,
    /// The engine that translates every function at once; started when it is first needed.
    eager: OnceLock<Result<Linked, EngineError>>,
}

impl WasmiEngine {
    fn compile_with(linked: &Linked, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        let failed = |reason: String| EngineError::Compile { engine: ID, reason };
        check_growth(module).map_err(failed)?;
        let compile =
            |bytes: &[u8]| wasmi::Module::new(&linked.engine, bytes).map_err(|error| failed(error.to_string()));
        // Rewritten so that guests can leave, a module may be too large, or use names that belong to the host. Then its
        // guests stay.
        if let Some(departing) = departing(module)
            && let Ok(compiled) = compile(&departing.bytes)
        {
            let memory_bytes = departing.bytes.len() as u64;
            let departing = Some(Arc::new(departing));
            let linked = linked.with_imports_of(&compiled).map_err(|error| failed(error.to_string()))?;
            let has_start = module.has_start();
            return Ok(Arc::new(WasmiArtifact { linked, module: compiled, has_start, memory_bytes, departing }));
        }
        let bytes = rewritten(module).map_err(failed)?;
        Ok(Arc::new(WasmiArtifact {
            linked: linked.clone(),
            module: compile(&bytes)?,
            has_start: module.has_start(),
            memory_bytes: bytes.len() as u64,
            departing: None,
        }))
    }
}

impl Engine for WasmiEngine {
    fn id(&self) -> EngineId {
        ID
    }

    fn capabilities(&self) -> &'static Capabilities {
        super::WASMI_LAZY.capabilities
    }

    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        Self::compile_with(&self.lazy, module)
    }

    fn compile_ahead(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        let eager = self.eager.get_or_init(|| Linked::new(configured_with(CompilationMode::Eager)));
        Self::compile_with(eager.as_ref().map_err(Clone::clone)?, module)
    }

    fn load(&self, _: &Module, _: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        Err(EngineError::Load { engine: ID, reason: "it keeps no artifacts".into() })
    }
}

/// The module as it is given to Wasmi if its guests can move; `None` if they cannot.
fn departing(module: &Module) -> Option<Departing> {
    if module.findings().places().is_empty() {
        return None;
    }
    let guards: Vec<(usize, &[u8])> = module.selects_on_zero().iter().map(|at| (*at, select::GUARD)).collect();
    let departing = depart::depart(module.bytes(), module.findings().places(), &guards).ok()?;
    module.check_rewritten(&departing.bytes).ok()?;
    Some(departing)
}

/// The module as it is given to Wasmi if its guests do not move.
pub(crate) fn rewritten(module: &Module) -> Result<Cow<'_, [u8]>, String> {
    let guarded = select::guard_selects(module).map_err(|error| error.to_string())?;
    // Wasmi cannot run a start function in slices of fuel, so it becomes an export that is called like any other.
    let bytes = if module.has_start() {
        Cow::Owned(start::start_as_export(&guarded).map_err(|error| error.to_string())?.into_owned())
    } else {
        guarded
    };
    module.check_rewritten(&bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// Refuses modules that could leave too many frames on the host's stack within one slice.
fn check_growth(module: &Module) -> Result<(), String> {
    let grows = module.stats().memory_grows_per_function;
    if grows > MEMORY_GROWS_PER_FUNCTION_MAX {
        return Err(format!(
            "a function contains memory.grow {grows} times, and {MEMORY_GROWS_PER_FUNCTION_MAX} times are the most"
        ));
    }
    Ok(())
}

struct WasmiArtifact {
    linked: Linked,
    module: wasmi::Module,
    has_start: bool,
    memory_bytes: u64,
    /// What is known of the rewritten module, if its guests can move.
    departing: Option<Arc<Departing>>,
}

impl Artifact for WasmiArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(None)
    }

    fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        let guest = Guest::new(ID, context, limits, interrupt)?;
        let mut store = Store::new(
            &self.linked.engine,
            State { guest: Some(guest), memory: None, granted: 0, away: None, tables_to_come: None },
        );
        store.limiter(|state| state);
        // No code of the guest runs while it is instantiated: this fuel only pays for its segments.
        store.set_fuel(u64::MAX).map_err(|error| internal(&error))?;
        let instantiated = match &self.departing {
            Some(departing) => away::instantiate(&self, departing, &mut store, limits.memory_bytes_max),
            None => self.linked.linker.instantiate_and_start(&mut store, &self.module),
        };
        let mut instance = match instantiated {
            Ok(instance) => WasmiInstance { instance, store, _artifact: Arc::clone(&self) },
            Err(error) => return Err(fail_to_start(store, &error)),
        };
        if self.has_start
            && let Err(error) = instance.call_function(start::EXPORT, &[], &mut Vec::new())
        {
            return Err(fail_to_start(instance.store, &error));
        }
        Ok(Box::new(instance))
    }
}

fn fail_to_start(store: Store<State>, error: &Error) -> InstantiateError {
    let guest = store.into_data().into_guest();
    match end_of(error).or(guest.budget.refused.map(End::NotGranted)) {
        Some(end) => guest.fail_to_start(end),
        None => internal(error).into(),
    }
}

fn internal(error: &Error) -> EngineError {
    EngineError::Internal { engine: ID, reason: error.to_string() }
}

/// What a store keeps for its guest.
struct State {
    /// The guest; `None` only while it is in another engine's code, or on its way.
    guest: Option<Guest>,
    /// The exported memory, found at the first WASI call.
    memory: Option<Memory>,
    /// How much the last request for growth was granted, in bytes or elements, in case the growth itself fails.
    granted: usize,
    /// What the guest's moves need, if it can move.
    away: Option<Box<Away>>,
    /// While a module to which the host has added is instantiated: how many of the tables that are yet to be made are
    /// the guest's. The host's own tables and memory are not charged to the guest.
    tables_to_come: Option<u32>,
}

impl State {
    fn guest(&self) -> &Guest {
        self.guest.as_ref().expect("a guest is where its code is running")
    }

    fn guest_mut(&mut self) -> &mut Guest {
        self.guest.as_mut().expect("a guest is where its code is running")
    }

    fn into_guest(self) -> Guest {
        self.guest.expect("a guest that has gone somewhere else is back when the call there has ended")
    }
}

impl wasmi::ResourceLimiter for State {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, wasmi_core::LimiterError> {
        if self.tables_to_come.is_some() {
            // The guest's own memory is there already.
            self.granted = 0;
            return Ok(true);
        }
        let Some(guest) = &mut self.guest else {
            // The other engine, which has the guest, has granted it.
            self.granted = 0;
            return Ok(true);
        };
        let mut granted = guest.budget.grant_memory(current, desired, maximum);
        if granted && !self.away.as_ref().is_none_or(|away| away.make_accessible(desired)) {
            guest.budget.return_memory(desired - current);
            granted = false;
        }
        self.granted = if granted { desired - current } else { 0 };
        Ok(granted)
    }

    /// Takes back what was granted. A growth for which the slice's fuel does not suffice fails, too, and asks again
    /// when the guest is resumed.
    fn memory_grow_failed(&mut self, _: &MemoryError) -> Result<(), wasmi_core::LimiterError> {
        let granted = std::mem::take(&mut self.granted);
        if let Some(guest) = &mut self.guest {
            guest.budget.return_memory(granted);
        }
        Ok(())
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> Result<bool, wasmi_core::LimiterError> {
        match &mut self.tables_to_come {
            Some(0) => {
                self.granted = 0;
                return Ok(true);
            }
            Some(to_come) => *to_come -= 1,
            None => {}
        }
        let granted = self.guest_mut().budget.grant_table(current, desired, maximum);
        self.granted = if granted { desired - current } else { 0 };
        Ok(granted)
    }

    /// Takes back what was granted, as for memories.
    fn table_grow_failed(&mut self, _: &TableError) -> Result<(), wasmi_core::LimiterError> {
        let granted = std::mem::take(&mut self.granted);
        self.guest_mut().budget.return_table(granted);
        Ok(())
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

struct WasmiInstance {
    instance: wasmi::Instance,
    store: Store<State>,
    _artifact: Arc<WasmiArtifact>,
}

impl Instance for WasmiInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        let (end, values) = enter(self, entry)?;
        Ok(self.store.data().guest().conclude_call(end, values))
    }

    fn moves(&self) -> Option<Arc<Moves>> {
        self.store.data().away.as_ref().map(|away| away.moves())
    }

    fn into_output(self: Box<Self>) -> GuestOutput {
        self.store.into_data().into_guest().into_output()
    }
}

impl Exports for WasmiInstance {
    type Error = Error;

    fn has_function(&mut self, name: &str) -> bool {
        self.instance.get_func(&self.store, name).is_some()
    }

    fn call_function(&mut self, name: &str, args: &[Value], values: &mut Vec<Value>) -> Result<(), Error> {
        let function = self
            .instance
            .get_func(&self.store, name)
            .ok_or_else(|| Error::new(format!("no exported function {name:?}")))?;
        let params: Vec<Val> = args.iter().copied().map(to_val).collect();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        call_in_slices(&mut self.store, function, &params, &mut results)?;
        values.extend(results.iter().map(from_val));
        Ok(())
    }

    fn end_of(&self, error: Error) -> Result<End, EngineError> {
        end_of(&error).ok_or_else(|| internal(&error))
    }
}

/// Calls a function in slices of fuel. Between two slices it looks at the interrupt, and whether the guest has a reason
/// to ask at its points.
fn call_in_slices(
    mut store: impl AsContextMut<Data = State>,
    function: Func,
    params: &[Val],
    results: &mut [Val],
) -> Result<(), Error> {
    let mut used = 0;
    let mut slice = *FUEL_SLICE.start();
    away::look_for_moves(&mut store)?;
    store.as_context_mut().set_fuel(slice)?;
    let mut call = function.call_resumable(&mut store, params, results)?;
    loop {
        call = match call {
            ResumableCall::Finished => return Ok(()),
            ResumableCall::HostTrap(trapped) => return Err(trapped.into_host_error()),
            ResumableCall::OutOfFuel(paused) => {
                if let Some(cause) = store.as_context().data().guest().stop_cause() {
                    return Err(Error::host(HostStop(Failure::Ended(End::Stopped(Stop::Interrupted(cause))))));
                }
                away::look_for_moves(&mut store)?;
                used += slice;
                slice = (used / FUEL_SLICE_SHARE).clamp(*FUEL_SLICE.start(), *FUEL_SLICE.end());
                // One instruction (a large memory.fill, say) may need more fuel than a slice.
                store.as_context_mut().set_fuel(slice.max(paused.required_fuel()))?;
                paused.resume(&mut store, results)?
            }
        };
    }
}

fn to_val(value: Value) -> Val {
    match value {
        Value::I32(n) => Val::I32(n),
        Value::I64(n) => Val::I64(n),
        Value::F32(n) => Val::F32(n.into()),
        Value::F64(n) => Val::F64(n.into()),
        Value::V128(n) => Val::V128(n.into()),
        // No entry with a reference is accepted (`Module::check_entry`). If one came, the call would report that the
        // types differ.
        Value::Reference { .. } => Val::ExternRef(Nullable::Null),
    }
}

fn from_val(value: &Val) -> Value {
    let reference = |to, is_null| Value::Reference { to, is_null };
    match value {
        Val::I32(n) => Value::I32(*n),
        Val::I64(n) => Value::I64(*n),
        Val::F32(n) => Value::F32(n.to_float()),
        Val::F64(n) => Value::F64(n.to_float()),
        Val::V128(n) => Value::V128(n.as_u128()),
        Val::FuncRef(function) => reference(Referent::Func, function.is_null()),
        Val::ExternRef(host) => reference(Referent::Extern, host.is_null()),
    }
}

/// How the guest ended according to an error; `None` if the engine itself failed.
fn end_of(error: &Error) -> Option<End> {
    if let Some(HostStop(failure)) = error.downcast_ref::<HostStop>() {
        return match failure {
            Failure::Ended(end) => Some(end.clone()),
            Failure::Engine(_) => None,
        };
    }
    let trapped = |kind| Some(End::Trapped { kind, detail: String::new() });
    match error.kind() {
        ErrorKind::TrapCode(code) => match code {
            TrapCode::UnreachableCodeReached => trapped(TrapKind::Unreachable),
            TrapCode::MemoryOutOfBounds => trapped(TrapKind::MemoryOutOfBounds),
            TrapCode::TableOutOfBounds => trapped(TrapKind::TableOutOfBounds),
            TrapCode::IndirectCallToNull => trapped(TrapKind::IndirectCallToNull),
            TrapCode::IntegerDivisionByZero => trapped(TrapKind::IntegerDivisionByZero),
            TrapCode::IntegerOverflow => trapped(TrapKind::IntegerOverflow),
            TrapCode::BadConversionToInteger => trapped(TrapKind::BadConversionToInteger),
            TrapCode::StackOverflow => trapped(TrapKind::StackExhausted),
            TrapCode::BadSignature => trapped(TrapKind::BadSignature),
            TrapCode::GrowthOperationLimited => Some(End::NotGranted(Limit::Memory)),
            _ => trapped(TrapKind::Other),
        },
        ErrorKind::Instantiation(InstantiationError::ElementSegmentDoesNotFit { .. }) => {
            trapped(TrapKind::TableOutOfBounds)
        }
        ErrorKind::Memory(MemoryError::OutOfBoundsAccess) => trapped(TrapKind::MemoryOutOfBounds),
        ErrorKind::Memory(_) => Some(End::NotGranted(Limit::Memory)),
        ErrorKind::Table(TableError::ResourceLimiterDeniedAllocation | TableError::OutOfSystemMemory) => {
            Some(End::NotGranted(Limit::Table))
        }
        ErrorKind::Table(_) => trapped(TrapKind::TableOutOfBounds),
        _ => None,
    }
}

/// How the adapter reports a trap; `None` if the error is not a trap.
pub(crate) fn trap_kind(error: &Error) -> Option<TrapKind> {
    match end_of(error)? {
        End::Trapped { kind, .. } => Some(kind),
        _ => None,
    }
}
