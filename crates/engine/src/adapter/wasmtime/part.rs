//! Parts of modules, in which guests that come from another engine go on, as [`crate::osr`] describes it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::ptr::NonNull;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use remuda_model::{EngineId, Interrupt, Tier, Value};
use wasmtime::{Caller, Global, LinearMemory, Linker, Memory, MemoryCreator, MemoryType, Store, TypedFunc, Val};

use super::{Host, Lease, State, WasmtimeArtifact, WasmtimeEngine, end_of, from_val, to_val};
use crate::adapter::region::{GUARD_BYTES, PAGE_BYTES, Region};
use crate::instrument::instrument_within;
use crate::osr::frame::SLOT_BYTES;
use crate::osr::global_export;
use crate::osr::moves::{Failure, Flags, Leaving, Moves, Origin, Part, PartCode, PartInstance, Told, Watch};
use crate::osr::part::{self, ASK, COLD, ENTER, MEMORY_EXPORT, Plan, RUN, cold_import};
use crate::{Artifact as _, EngineError, Extent, Module, Point};

/// Compiles the part of `module` that goes on at `points`.
pub(super) fn compile(
    engine: &WasmtimeEngine,
    module: &Module,
    points: &[Point],
    extent: Extent,
) -> Result<Part, EngineError> {
    let id = engine.known.id;
    let failed = |reason: String| EngineError::Compile { engine: id, reason };
    let Host { engine: compiler, linker } = engine.on_demand.for_parts()?;
    let tier = engine.known.capabilities.tier;
    // From the best tier there is nothing better to go on to.
    let leaves = tier < Tier::Optimizing;
    let plan = part::build(module.bytes(), module.findings().places(), points, extent, leaves)
        .map_err(|error| failed(error.to_string()))?;
    let bytes = instrument_within(&plan.bytes, module.bytes_max()).map_err(|error| failed(error.to_string()))?.bytes;
    module.check_rewritten(&bytes).map_err(|error| failed(error.to_string()))?;
    let compiled = wasmtime::Module::from_binary(compiler, &bytes).map_err(|error| failed(format!("{error:#}")))?;
    let linker = with_cold(linker, &compiled, &plan).map_err(|error| failed(format!("{error:#}")))?;
    let host = Host { engine: compiler.clone(), linker: Arc::new(linker) };
    let code = Arc::new(WasmtimeArtifact {
        id,
        host,
        module: compiled,
        slots: Mutex::default(),
        on_demand: Arc::clone(&engine.on_demand),
        unpooled: OnceLock::new(),
    });
    let exits = plan.exits.iter().map(|exit| exit.point).collect();
    Ok(Part(Arc::new(WasmtimePart { code, plan, tier, exits })))
}

/// The imports of a part: those of all guests, the functions that stay with the engine that the guest came from, and
/// what guests need to leave the part again.
fn with_cold(linker: &Linker<State>, module: &wasmtime::Module, plan: &Plan) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::clone(linker);
    if !plan.exits.is_empty() {
        linker.func_wrap(COLD, ASK, ask)?;
        linker.func_wrap(COLD, RUN, run)?;
    }
    let cold = module.imports().filter(|import| import.module() == COLD);
    let types: Vec<_> = cold.filter_map(|import| import.ty().func().cloned()).collect();
    for (function, ty) in plan.cold.iter().copied().zip(types) {
        let call = move |caller: Caller<'_, State>, args: &[Val], results: &mut [Val]| {
            call_cold(caller, function, args, results)
        };
        linker.func_new(COLD, &cold_import(function), ty, call)?;
    }
    Ok(linker)
}

struct WasmtimePart {
    code: Arc<WasmtimeArtifact>,
    plan: Plan,
    tier: Tier,
    /// The points of the plan's exits.
    exits: Arc<[Point]>,
}

impl PartCode for WasmtimePart {
    fn engine(&self) -> EngineId {
        self.code.id
    }

    fn tier(&self) -> Tier {
        self.tier
    }

    fn points(&self) -> &[Point] {
        &self.plan.points
    }

    fn memory_bytes(&self) -> u64 {
        self.code.memory_bytes()
    }

    fn begin(
        self: Arc<Self>,
        memory: Option<(Arc<Region>, usize)>,
        interrupt: &Interrupt,
        moves: &Arc<Moves>,
    ) -> Result<Box<dyn PartInstance>, EngineError> {
        let internal = |error: wasmtime::Error| self.code.internal(&error);
        if let Some((region, bytes)) = &memory {
            region.confine(*bytes).map_err(|error| internal(error.into()))?;
        }
        let mut lease = self.code.lease(interrupt)?;
        let mut store = Store::new(&self.code.host.engine, State::default());
        store.limiter(|state| state);
        let frame = Arc::new(Region::new(PAGE_BYTES as u64).map_err(|error| internal(error.into()))?);
        let instance = {
            let _offered = Offered::new(memory.into_iter().chain([(Arc::clone(&frame), PAGE_BYTES)]));
            lease.slot().pre.instantiate(&mut store).map_err(internal)?
        };
        let missing = || internal(wasmtime::Error::msg("a part lacks what was added to it"));
        let enter = instance.get_typed_func::<i32, ()>(&mut store, ENTER).map_err(internal)?;
        let globals = self.plan.globals.iter().map(|index| instance.get_global(&mut store, &global_export(*index)));
        let globals = globals.collect::<Option<Vec<Global>>>().ok_or_else(missing)?;
        let memory = instance.get_memory(&mut store, MEMORY_EXPORT);
        if memory.is_some() != self.plan.has_memory {
            return Err(missing());
        }
        let departure = (!self.exits.is_empty()).then(|| {
            let flags = Arc::new(ExitFlags(Arc::clone(&frame)));
            let watch = moves.watch(self.tier, Arc::clone(&self.exits), flags.clone());
            Departure { part: Arc::clone(&self), moves: Arc::clone(moves), flags, leaving: None, _watch: watch }
        });
        store.data_mut().arrival = Some(Arrival { origin: None, globals, memory, departure });
        Ok(Box::new(WasmtimePartInstance { id: self.code.id, store, enter, frame, _lease: lease }))
    }
}

/// What a guest that came from another engine needs here.
pub(super) struct Arrival {
    /// The engine that the guest came from; `None` as long as no guest runs here.
    origin: Option<OriginPointer>,
    /// The globals that can change, in the order of the guest's module.
    globals: Vec<Global>,
    memory: Option<Memory>,
    /// What the guest needs to leave again, if it can.
    departure: Option<Departure>,
}

/// What a guest needs to leave a part for a better one.
struct Departure {
    part: Arc<WasmtimePart>,
    moves: Arc<Moves>,
    flags: Arc<ExitFlags>,
    /// The number of an exit and the answer that it was given, until the guest has left from there.
    leaving: Option<(usize, Leaving)>,
    _watch: Watch,
}

/// The flags that a part reads at its exits; they lie in the memory of its frame.
struct ExitFlags(Arc<Region>);

impl Flags for ExitFlags {
    fn set(&self, exit: usize, asks: bool) {
        self.0.flag(part::FLAGS_AT as usize + exit).store(asks.into(), Ordering::Relaxed);
    }
}

impl Arrival {
    /// Makes the memory, which is about to grow to so many bytes here, grow in the engine that the guest came from,
    /// too, before anything is written to the new bytes.
    pub(super) fn grow_origin(&mut self, bytes: usize) -> bool {
        self.origin.as_mut().is_none_or(|origin| origin.get().grow_memory(bytes))
    }
}

/// The engine that a guest came from, for the duration of the call that brought the guest.
struct OriginPointer(NonNull<dyn Origin>);

// SAFETY: `run` below puts the pointer into the store and takes it away before it returns. In between, only code on the
// thread of `run` uses the store, and so the pointer.
unsafe impl Send for OriginPointer {}

impl OriginPointer {
    fn new(origin: &mut (dyn Origin + '_)) -> Self {
        let origin: NonNull<dyn Origin + '_> = NonNull::from(origin);
        // SAFETY: only the lifetime changes. `run` holds the reference from which the pointer is made, does not use it
        // as long as the pointer is in the store, and takes the pointer away before it returns.
        Self(unsafe { std::mem::transmute::<NonNull<dyn Origin + '_>, NonNull<dyn Origin + 'static>>(origin) })
    }

    fn get(&mut self) -> &mut dyn Origin {
        // SAFETY: the pointer is valid, as above. The store has only one, and `&mut self` means that only one reference
        // is made from it at a time.
        unsafe { self.0.as_mut() }
    }
}

struct WasmtimePartInstance {
    id: EngineId,
    store: Store<State>,
    enter: TypedFunc<i32, ()>,
    /// The memory in which locals and results are handed over.
    frame: Arc<Region>,
    _lease: Lease,
}

impl PartInstance for WasmtimePartInstance {
    fn run(&mut self, entry: usize, frame: &mut [u8], origin: &mut dyn Origin) -> Result<(), Failure> {
        let internal = |error: wasmtime::Error| {
            Failure::Engine(EngineError::Internal { engine: self.id, reason: format!("{error:#}") })
        };
        if let Err(error) = arrive(&mut self.store, OriginPointer::new(origin)) {
            depart(&mut self.store);
            return Err(internal(error));
        }
        self.frame.write(frame);
        let entry = i32::try_from(entry).expect("a part has few entries");
        let called = self.enter.call(&mut self.store, entry);
        depart(&mut self.store);
        match called {
            Ok(()) => {
                self.frame.read(frame);
                Ok(())
            }
            Err(error) => match (end_of(&error), error.downcast::<Stopped>()) {
                (Some(end), _) => Err(Failure::Ended(end)),
                (None, Ok(Stopped(failure))) => Err(failure),
                (None, Err(error)) => Err(internal(error)),
            },
        }
    }
}

/// Takes the guest over, with the values of its globals and the size to which its memory has grown. Even after an error
/// the guest is here, and has to be given back by [`depart`].
fn arrive(mut store: impl wasmtime::AsContextMut<Data = State>, mut origin: OriginPointer) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let kept_in_step = keep_in_step(&mut store, &mut origin);
    let state = store.data_mut();
    state.guest = Some(origin.get().take_guest());
    arrival(state).origin = Some(origin);
    kept_in_step
}

/// Gives the globals and the memory the values and the size that they have in the engine that the guest comes from.
fn keep_in_step(
    mut store: impl wasmtime::AsContextMut<Data = State>,
    origin: &mut OriginPointer,
) -> wasmtime::Result<()> {
    let mut store = store.as_context_mut();
    let arrival = arrival(store.data_mut());
    let (globals, memory) = (arrival.globals.clone(), arrival.memory);
    let values = origin.get().globals();
    for (global, value) in globals.iter().zip(&values) {
        global.set(&mut store, to_val(*value))?;
    }
    if let Some(memory) = memory {
        let more = origin.get().memory_bytes().saturating_sub(memory.data_size(&store)) as u64;
        if more > 0 {
            let pages = more / memory.page_size(&store);
            memory.grow(&mut store, pages)?;
        }
    }
    Ok(())
}

/// Gives the guest back to the engine that it came from, with the values of its globals.
fn depart(mut store: impl wasmtime::AsContextMut<Data = State>) -> OriginPointer {
    let mut store = store.as_context_mut();
    let globals = arrival(store.data_mut()).globals.clone();
    let values: Vec<Value> = globals.iter().map(|global| from_val(&global.get(&mut store))).collect();
    let state = store.data_mut();
    let guest = state.guest.take().expect("a guest is where its code is running");
    let mut origin = arrival(state).origin.take().expect("a guest has come from somewhere");
    origin.get().set_globals(&values);
    origin.get().put_guest(guest);
    origin
}

fn arrival(state: &mut State) -> &mut Arrival {
    state.arrival.as_mut().expect("only parts are given guests of other engines")
}

/// Calls a function in the engine that the guest came from.
fn call_cold(mut caller: Caller<'_, State>, function: u32, args: &[Val], results: &mut [Val]) -> wasmtime::Result<()> {
    let args: Vec<Value> = args.iter().map(from_val).collect();
    let mut returned = Vec::with_capacity(results.len());
    let mut origin = depart(&mut caller);
    let called = origin.get().call(function, &args, &mut returned);
    arrive(&mut caller, origin)?;
    called.map_err(|failure| wasmtime::Error::new(Stopped(failure)))?;
    for (result, value) in results.iter_mut().zip(returned) {
        *result = to_val(value);
    }
    Ok(())
}

/// Answers a guest that has come to an exit and asks whether to leave: 1 for yes, 0 for no.
fn ask(mut caller: Caller<'_, State>, exit: i32) -> i32 {
    let Arrival { origin: Some(origin), departure: Some(departure), .. } = arrival(caller.data_mut()) else { return 0 };
    let exit = exit.cast_unsigned() as usize;
    match departure.moves.ask(departure.part.exits[exit], departure.part.tier) {
        Told::Leave(leaving) if origin.get().can_move_to(leaving.part.tier()) => {
            departure.leaving = Some((exit, leaving));
            1
        }
        Told::AskOn => 0,
        Told::Leave(_) | Told::Stay => {
            departure.flags.set(exit, false);
            0
        }
    }
}

/// Runs the rest of an activation in another part. The activation's locals are in the frame, and its results are put
/// there.
fn run(mut caller: Caller<'_, State>) -> wasmtime::Result<()> {
    let told = arrival(caller.data_mut()).departure.as_mut().and_then(|departure| {
        let (exit, leaving) = departure.leaving.take()?;
        Some((departure.part.plan.exits[exit], leaving, Arc::clone(&departure.flags.0)))
    });
    let Some((exit, leaving, memory)) = told else { return Err(wasmtime::Error::msg("nobody was told to leave")) };
    let mut frame = vec![0; exit.values as usize * SLOT_BYTES as usize];
    memory.read(&mut frame);
    let mut origin = depart(&mut caller);
    let went = origin.get().go_on(&leaving, &mut frame);
    arrive(&mut caller, origin)?;
    went.map_err(|failure| wasmtime::Error::new(Stopped(failure)))?;
    memory.write(&frame);
    Ok(())
}

/// Why a guest does not go on, as an error that Wasmtime passes through.
#[derive(Debug)]
pub(super) struct Stopped(pub(super) Failure);

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Failure::Ended(end) => write!(f, "the guest ended: {end:?}"),
            Failure::Engine(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Stopped {}

thread_local! {
    /// The memories for the instance that this thread is about to make, in the order of the module's memories, with
    /// their sizes in bytes.
    static OFFERED: RefCell<VecDeque<(Arc<Region>, usize)>> = const { RefCell::new(VecDeque::new()) };
}

/// As long as this value lives, memories are offered to the next instance that its thread makes.
struct Offered;

impl Offered {
    fn new(memories: impl IntoIterator<Item = (Arc<Region>, usize)>) -> Self {
        OFFERED.set(memories.into_iter().collect());
        Self
    }
}

impl Drop for Offered {
    fn drop(&mut self) {
        OFFERED.set(VecDeque::new());
    }
}

/// A memory creator that makes no memories, but takes those that are offered.
pub(super) struct Regions;

// SAFETY: a region never moves. It is checked below that it has as many addresses, and as large a guard, as Wasmtime
// asks for. Bytes beyond the memory's size cannot be accessed (`Region::confine` sees to it before an instance is made,
// `make_accessible` as the memory grows). The memory is not zero at first, on purpose: the instance has no data of its
// own, and the guest's data is already there.
unsafe impl MemoryCreator for Regions {
    fn new_memory(
        &self,
        _: MemoryType,
        minimum: usize,
        _: Option<usize>,
        reserved_bytes: Option<usize>,
        guard_bytes: usize,
    ) -> Result<Box<dyn LinearMemory>, String> {
        let offered = OFFERED.with_borrow_mut(VecDeque::pop_front);
        let (region, bytes) = offered.ok_or("no guest's memory is there to be taken")?;
        if reserved_bytes.is_some_and(|reserved| reserved > Region::ADDRESSES) || guard_bytes > GUARD_BYTES {
            return Err("a guest's memory has fewer addresses than compiled code counts on".into());
        }
        if bytes < minimum {
            return Err("a guest's memory is smaller than its module says".into());
        }
        Ok(Box::new(Taken { region, bytes }))
    }
}

/// A guest's memory, as one part has it.
struct Taken {
    region: Arc<Region>,
    bytes: usize,
}

// SAFETY: see `Regions`.
unsafe impl LinearMemory for Taken {
    fn byte_size(&self) -> usize {
        self.bytes
    }

    fn byte_capacity(&self) -> usize {
        Region::ADDRESSES
    }

    fn grow_to(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.region.make_accessible(bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    fn as_ptr(&self) -> *mut u8 {
        self.region.base().as_ptr()
    }
}
