//! Guests of Wasmi that go on in another engine's code for a while: what [`crate::osr`] asks of the engine that a guest
//! begins on.

use std::sync::Arc;

use remuda_model::{Tier, Value};
use wasmi::{AsContextMut, Caller, Error, Func, Global, Linker, Memory, Nullable, Ref, Store, Table, Val};

use super::{HostStop, State, WasmiArtifact, call_in_slices, from_val, internal, to_val};
use crate::adapter::guest::Guest;
use crate::adapter::region::{PAGE_BYTES, Region};
use crate::osr::depart::{self, Departing};
use crate::osr::frame::SLOT_BYTES;
use crate::osr::moves::{Failure, Leaving, Moves, Origin, PartInstance, Told};
use crate::osr::places::Point;
use crate::osr::{HOST, MEMORY, global_export};

/// The most activations of one guest that may be under way in parts at the same time: one that has moved may call a
/// cold function back here, which moves in turn. Each takes up to half a megabyte of the thread's stack in the other
/// engine, and nearly as much here. The last one may only go to optimized code: otherwise a guest would be caught in
/// one-pass code that it could leave.
///
/// Source: a loop of a function that is called from the rest of another one is three or four deep, if both were first
/// in one-pass code; threads have room for eight. If this were smaller, guests would stay in slow code; if it were
/// larger, deep recursion would run out of stack.
const NESTED_MAX: usize = 5;

/// How often a guest may ask in vain between two pauses. Asking takes some 50 ns, and pauses are a tenth to half of a
/// millisecond apart. If this were smaller, a guest that has stopped asking would pass by entries of functions in which
/// it could go on.
const VAIN_ASKS_MAX: u32 = 500;

/// The most pauses until a guest that has asked in vain asks again: first one pause, then twice as many each time, up
/// to this number, which is some ten milliseconds. After news, such as a new part, it asks at the next pause. If this
/// were smaller, guests would keep asking that have left the places with parts for good; if it were larger, a guest
/// that comes back to such a place would stay in slow code for longer.
const VAIN_PAUSES_MAX: u32 = 32;

/// What the moves of one guest need.
pub(super) struct Away {
    departing: Arc<Departing>,
    moves: Arc<Moves>,
    /// The region in which the guest's memory lies; `None` if it has no memory, or none that another engine can use,
    /// too.
    region: Option<Arc<Region>>,
    memory: Option<Memory>,
    flag: Global,
    frame: Memory,
    functions: Table,
    globals: Vec<Global>,
    /// The answer that a point was given, until the guest has left from there.
    leaving: Option<(Point, Leaving)>,
    /// Instances of parts in which nothing is under way, each with its part's number.
    idle: Vec<(usize, Box<dyn PartInstance>)>,
    /// The number of activations under way in parts.
    nested: usize,
    /// How often the guest has asked in vain since it last began to ask.
    vain_asks: u32,
    /// For how many more pauses the guest does not begin to ask.
    pauses_left: u32,
    /// The number of pauses to wait after the guest has asked in vain the next time.
    pauses: u32,
    /// The number of news ([`Moves::news`]) when the guest last began to ask.
    news: u32,
}

impl Away {
    pub(super) fn moves(&self) -> Arc<Moves> {
        Arc::clone(&self.moves)
    }

    /// Whether one more activation may go on in a part, in code of this tier.
    fn can_move_to(&self, tier: Tier) -> bool {
        let nested_max = if tier == Tier::Optimizing { NESTED_MAX } else { NESTED_MAX - 1 };
        self.nested < nested_max && (self.memory.is_none() || self.region.is_some())
    }

    /// Makes sure that the first `bytes` of the memory can be accessed. Its region is confined to the memory's size
    /// once compiled code uses it, too.
    pub(super) fn make_accessible(&self, bytes: usize) -> bool {
        self.region.as_ref().is_none_or(|region| region.make_accessible(bytes).is_ok())
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        self.moves.end();
    }
}

/// Instantiates a module that was rewritten so that its guests can leave.
pub(super) fn instantiate(
    artifact: &WasmiArtifact,
    departing: &Arc<Departing>,
    store: &mut Store<State>,
    memory_bytes_max: u64,
) -> Result<wasmi::Instance, Error> {
    let mut linker = Linker::clone(&artifact.linked.linker);
    let (mut memory, mut region) = (None, None);
    let imported = artifact.module.imports().find(|import| import.module() == HOST && import.name() == MEMORY);
    if let Some(ty) = imported.as_ref().and_then(|import| import.ty().memory()) {
        // If no addresses can be reserved, the guest cannot move, but runs all the same.
        region = Region::new(memory_bytes_max).ok().map(Arc::new);
        let made = match &region {
            Some(region) => {
                // SAFETY: this store keeps the region, so that it outlives the memory. Until a part is begun, only this
                // memory uses the region. From then on machine code accesses it as well, but on this thread, while
                // Wasmi is in a call of the host and holds no reference to the bytes.
                let bytes = unsafe { std::slice::from_raw_parts_mut(region.base().as_ptr(), region.capacity()) };
                Memory::new_static(&mut *store, *ty, bytes)?
            }
            None => Memory::new(&mut *store, *ty)?,
        };
        linker.define(HOST, MEMORY, made)?;
        memory = Some(made);
    }
    store.data_mut().tables_to_come = Some(departing.tables);
    let instance = linker.instantiate_and_start(&mut *store, &artifact.module)?;
    store.data_mut().tables_to_come = None;
    let missing = || Error::new("a module lacks what was added to it");
    let table = instance.get_table(&*store, depart::TABLE).ok_or_else(missing)?;
    let asked = Func::wrap(&mut *store, ask);
    let ran = Func::wrap(&mut *store, run);
    for (index, function) in [(depart::ASK, asked), (depart::RUN, ran)] {
        let function = Ref::from(Nullable::Val(function));
        table.set(&mut *store, index.into(), function).map_err(|error| Error::new(error.to_string()))?;
    }
    let global = |name: &str| instance.get_global(&*store, name).ok_or_else(missing);
    let away = Away {
        departing: Arc::clone(departing),
        moves: Arc::default(),
        memory,
        region,
        flag: global(depart::FLAG)?,
        frame: instance.get_memory(&*store, depart::FRAME).ok_or_else(missing)?,
        functions: instance.get_table(&*store, depart::FUNCTIONS).ok_or_else(missing)?,
        globals: departing.globals.iter().map(|index| global(&global_export(*index))).collect::<Result<_, _>>()?,
        leaving: None,
        idle: Vec::new(),
        nested: 0,
        vain_asks: 0,
        pauses_left: 0,
        pauses: 1,
        news: 0,
    };
    store.data_mut().away = Some(Box::new(away));
    Ok(instance)
}

/// Makes the guest ask at its points if there is a reason to. Called while the guest pauses.
pub(super) fn look_for_moves(mut store: impl AsContextMut<Data = State>) -> Result<(), Error> {
    let mut store = store.as_context_mut();
    let Some(away) = store.data_mut().away.as_mut().filter(|away| away.moves.is_wanted()) else { return Ok(()) };
    let news = away.moves.news();
    if news == away.news && away.pauses_left > 0 {
        away.pauses_left -= 1;
        return Ok(());
    }
    if news != away.news {
        (away.news, away.pauses) = (news, 1);
    }
    away.vain_asks = 0;
    let flag = away.flag;
    set(store, flag, Val::I32(1))
}

fn set(mut store: impl AsContextMut, global: Global, value: Val) -> Result<(), Error> {
    global.set(&mut store, value).map_err(|error| Error::new(error.to_string()))
}

fn away<'a>(caller: &'a mut Caller<'_, State>) -> &'a mut Away {
    caller.data_mut().away.as_mut().expect("only a guest that can move has points")
}

/// Answers a guest that has come to a point and asks whether to leave: 1 for yes, 0 for no.
fn ask(mut caller: Caller<'_, State>, point: i32) -> Result<i32, Error> {
    let point = Point(point.cast_unsigned());
    let away = away(&mut caller);
    let told = away.moves.ask(point, Tier::Interpreter);
    match told {
        Told::Leave(leaving) if away.can_move_to(leaving.part.tier()) => {
            away.pauses = 1;
            away.leaving = Some((point, leaving));
            return Ok(1);
        }
        Told::AskOn => {}
        Told::Leave(_) | Told::Stay => {
            away.vain_asks += 1;
            if away.vain_asks >= VAIN_ASKS_MAX || !away.moves.is_wanted() {
                away.pauses_left = away.pauses;
                away.pauses = (2 * away.pauses).min(VAIN_PAUSES_MAX);
                let flag = away.flag;
                set(&mut caller, flag, Val::I32(0))?;
            }
        }
    }
    Ok(0)
}

/// Runs the rest of an activation in a part. The activation's locals are in the frame, and its results are put there.
fn run(mut caller: Caller<'_, State>) -> Result<(), Error> {
    let away = away(&mut caller);
    let (point, leaving) = away.leaving.take().ok_or_else(|| Error::new("nobody was told to leave"))?;
    let (departing, memory) = (Arc::clone(&away.departing), away.frame);
    let handed_over = &departing.frames[point.0 as usize];
    let values = handed_over.locals.len().max(handed_over.results.len());
    let mut frame = memory.data(&caller)[..values * SLOT_BYTES as usize].to_vec();
    go_on(&mut caller, &leaving, &mut frame).map_err(failed)?;
    memory.data_mut(&mut caller)[..frame.len()].copy_from_slice(&frame);
    Ok(())
}

/// Runs the rest of an activation in a part, whether the activation comes from this engine's code or from another part.
fn go_on(caller: &mut Caller<'_, State>, leaving: &Leaving, frame: &mut [u8]) -> Result<(), Failure> {
    let internal = |error: Error| Failure::Engine(internal(&error));
    let fuel = caller.get_fuel().map_err(internal)?;
    let mut instance = begin(caller, leaving)?;
    let setting_out = away(caller);
    setting_out.nested += 1;
    setting_out.moves.leave(leaving);
    let ran = instance.run(leaving.entry, frame, &mut WasmiOrigin { caller });
    caller.set_fuel(fuel).map_err(internal)?;
    let away = away(caller);
    away.nested -= 1;
    away.moves.come_back();
    away.idle.push((leaving.number, instance));
    ran
}

fn failed(failure: Failure) -> Error {
    Error::host(HostStop(failure))
}

/// Returns an instance of the part in which nothing is under way: an idle one, or a new one.
fn begin(caller: &mut Caller<'_, State>, leaving: &Leaving) -> Result<Box<dyn PartInstance>, Failure> {
    let away = away(caller);
    if let Some(at) = away.idle.iter().position(|(number, _)| *number == leaving.number) {
        return Ok(away.idle.swap_remove(at).1);
    }
    let (region, memory, moves) = (away.region.clone(), away.memory, away.moves());
    let bytes = memory.map_or(0, |memory| memory.data_size(&*caller));
    let interrupt = caller.data().guest().interrupt().clone();
    let memory = region.map(|region| (region, bytes));
    Arc::clone(&leaving.part.0).begin(memory, &interrupt, &moves).map_err(Failure::Engine)
}

/// Wasmi, as a part that is called from here sees it.
struct WasmiOrigin<'a, 'b> {
    caller: &'a mut Caller<'b, State>,
}

impl Origin for WasmiOrigin<'_, '_> {
    fn take_guest(&mut self) -> Guest {
        self.caller.data_mut().guest.take().expect("a guest is where its code is running")
    }

    fn put_guest(&mut self, guest: Guest) {
        self.caller.data_mut().guest = Some(guest);
    }

    fn globals(&mut self) -> Vec<Value> {
        let globals = away(self.caller).globals.clone();
        globals.iter().map(|global| from_val(&global.get(&*self.caller))).collect()
    }

    fn set_globals(&mut self, values: &[Value]) {
        let globals = away(self.caller).globals.clone();
        for (global, value) in globals.iter().zip(values) {
            global.set(&mut *self.caller, to_val(*value)).expect("a global that can change keeps its type");
        }
    }

    fn memory_bytes(&mut self) -> usize {
        let memory = away(self.caller).memory;
        memory.map_or(0, |memory| memory.data_size(&*self.caller))
    }

    fn grow_memory(&mut self, bytes: usize) -> bool {
        let away = away(self.caller);
        let Some(memory) = away.memory else { return false };
        if !away.make_accessible(bytes) {
            return false;
        }
        let more = bytes.saturating_sub(memory.data_size(&*self.caller));
        memory.grow(&mut *self.caller, (more / PAGE_BYTES) as u64).is_ok()
    }

    fn can_move_to(&mut self, tier: Tier) -> bool {
        away(self.caller).can_move_to(tier)
    }

    fn go_on(&mut self, leaving: &Leaving, frame: &mut [u8]) -> Result<(), Failure> {
        let moves = away(self.caller).moves();
        moves.called_back();
        let went = go_on(self.caller, leaving, frame);
        moves.go_on();
        went
    }

    fn call(&mut self, function: u32, args: &[Value], results: &mut Vec<Value>) -> Result<(), Failure> {
        let functions = away(self.caller).functions;
        let Some(Ref::Func(Nullable::Val(function))) = functions.get(&*self.caller, function.into()) else {
            return Err(Failure::Engine(internal(&Error::new("a function is missing in the table of all"))));
        };
        let params: Vec<Val> = args.iter().copied().map(to_val).collect();
        let mut returned = vec![Val::I32(0); function.ty(&*self.caller).results().len()];
        // As long as this call runs, the guest is in Wasmi's code, and may move again.
        let moves = away(self.caller).moves();
        moves.called_back();
        let called = call_in_slices(&mut *self.caller, function, &params, &mut returned);
        moves.go_on();
        called
            .map_err(|error| super::end_of(&error).map_or_else(|| Failure::Engine(internal(&error)), Failure::Ended))?;
        results.extend(returned.iter().map(from_val));
        Ok(())
    }
}
