//! What guests call: functions of the host, and those of the worker that stand for instructions.
//!
//! Guests have a stack of their own, which may be almost full when they call. So each call changes to a stack that is only
//! for such calls.

use std::cell::{Cell, RefCell};
use std::io;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lucet_runtime_internals::instance::InstanceInternal as _;
use lucet_runtime_internals::vmctx::{instance_from_vmctx, lucet_vmctx};
use remuda_worker::{End, HostFunction, Type};

use crate::load::Loaded;
use crate::lower::Builtin;
use crate::{PAGE_BYTES, WASM_PAGE_BYTES};

/// The size of the stack for calls, in bytes: a fault there would end the worker. Its pages take memory only once they are
/// used.
const STACK_BYTES: usize = 256 << 10;

/// Builtins have numbers from this on; functions of the host have their positions among the module's imports.
const BUILTINS: u32 = 1 << 16;

/// The parameters that come in registers, after the instance.
const REGISTERS: usize = 5;

/// The parameters that a function of the host has at most.
const PARAMS_MAX: usize = 16;

/// The end of the stack for calls, where it begins to be used.
static STACK: AtomicUsize = AtomicUsize::new(0);

// The way from a guest to `call`: from its stack to the one for calls, with the number of the function, which is in `r10`,
// and with where its arguments are. The first instruction is the only one here that may fault.
std::arch::global_asm!(
    ".globl remuda_shim",
    "remuda_shim:",
    "push rbp",
    "mov rbp, rsp",
    "mov rsp, [rip + {stack}]",
    "sub rsp, 48",
    "mov [rsp], rsi",
    "mov [rsp + 8], rdx",
    "mov [rsp + 16], rcx",
    "mov [rsp + 24], r8",
    "mov [rsp + 32], r9",
    "mov rsi, r10",
    "mov rdx, rsp",
    "lea rcx, [rbp + 16]",
    "call {call}",
    "mov rsp, rbp",
    "pop rbp",
    "ret",
    stack = sym STACK,
    call = sym call,
);

unsafe extern "C" {
    #[link_name = "remuda_shim"]
    fn shim();
}

thread_local! {
    static ENDED: Cell<Option<End>> = const { Cell::new(None) };
    static GUEST: RefCell<Option<Guest>> = const { RefCell::new(None) };
}

/// What calls have to know of the guest that runs.
struct Guest {
    module: Arc<Loaded>,
    /// The position among the host's functions of each that the module imports.
    imports: Vec<usize>,
    functions: &'static [HostFunction],
    sees_memory: bool,
    /// Which data and element segments were dropped.
    dropped_data: Vec<bool>,
    dropped_elements: Vec<bool>,
}

/// Makes the stack for calls.
pub(crate) fn prepare() -> io::Result<()> {
    let bytes = PAGE_BYTES + STACK_BYTES;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping, wherever there is room for it.
    let base = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0) };
    // SAFETY: the first page of the mapping, which nobody uses: it is to be a guard.
    if base == libc::MAP_FAILED || unsafe { libc::mprotect(base, PAGE_BYTES, libc::PROT_NONE) } != 0 {
        return Err(io::Error::last_os_error());
    }
    STACK.store(base.addr() + bytes, Ordering::Relaxed);
    Ok(())
}

/// Calls are on behalf of this guest from now on.
///
/// # Errors
///
/// Returns the name of an import that the host does not have.
pub(crate) fn begin(module: &Arc<Loaded>, functions: &'static [HostFunction], sees_memory: bool) -> Result<(), String> {
    let position = |(module, name): &(String, String)| {
        let found = functions.iter().position(|function| function.module == *module && function.name == *name);
        found.ok_or_else(|| format!("there is no import {name:?}"))
    };
    let imports = module.plan.imports.iter().map(position).collect::<Result<_, _>>()?;
    module.reset_table();
    let guest = Guest {
        imports,
        functions,
        sees_memory,
        dropped_data: vec![false; module.plan.data.len()],
        dropped_elements: vec![false; module.plan.table.segments.len()],
        module: Arc::clone(module),
    };
    GUEST.set(Some(guest));
    ENDED.set(None);
    Ok(())
}

/// What stands in symbols before the position of a builtin, and before that of one of the module's imports.
const BUILTIN: &str = "remuda_builtin_";
const IMPORT: &str = "remuda_import_";

/// The symbol of the builtin at a position.
pub(crate) fn builtin_symbol(position: usize) -> String {
    format!("{BUILTIN}{position}")
}

/// The symbol of the host's function at a position among a module's imports.
pub(crate) fn import_symbol(position: usize) -> String {
    format!("{IMPORT}{position}")
}

/// The number that the shim expects for a symbol's function; `None` if there is no such function.
pub(crate) fn number(symbol: &str) -> Option<u32> {
    match symbol {
        "lucet_vmctx_current_memory" => return Some(BUILTINS + Builtin::MemorySize as u32),
        "lucet_vmctx_grow_memory" => return Some(BUILTINS + Builtin::MemoryGrow as u32),
        _ => {}
    }
    if let Some(position) = symbol.strip_prefix(BUILTIN) {
        return Some(BUILTINS + position.parse::<u32>().ok()?);
    }
    symbol.strip_prefix(IMPORT)?.parse().ok().filter(|position| *position < BUILTINS)
}

/// The address of the shim, which modules call with a number in `r10`.
pub(crate) fn shim_address() -> usize {
    (shim as *const ()).addr()
}

/// Carries out a call. `registers` are the first arguments, and `stack` are the others.
///
/// # Safety
///
/// Only the code of the guest that runs may call it, through the shim.
unsafe extern "C" fn call(vmctx: *mut lucet_vmctx, number: usize, registers: *const u64, stack: *const u64) -> u64 {
    let argument = |position: usize| {
        // SAFETY: the caller has put them there.
        unsafe { if position < REGISTERS { *registers.add(position) } else { *stack.add(position - REGISTERS) } }
    };
    // Nothing may have to be dropped where the guest is ended: its stack is left as it is.
    let done = match number.checked_sub(BUILTINS as usize) {
        // SAFETY: this is the guest's own context.
        Some(builtin) => unsafe { builtin_call(vmctx, Builtin::ALL[builtin], argument) },
        // SAFETY: as above.
        None => unsafe { host_call(vmctx, number, argument) },
    };
    match done {
        Ok(result) => result,
        Err(end) => {
            ENDED.set(Some(end));
            // Lucet has a way to end a guest from within a call, but lets nobody call a guest again that ended so.
            // SAFETY: Lucet leaves the guest there, as it does where the guest is stopped. Nothing on the stack for calls is
            // used any more.
            unsafe { std::mem::transmute::<usize, extern "C" fn() -> u64>(remuda_worker::stopped_at())() }
        }
    }
}

/// How the guest was ended within a call, if it was.
pub(crate) fn take_end() -> Option<End> {
    ENDED.take()
}

/// Calls a function of the host.
///
/// # Safety
///
/// `vmctx` has to be that of the guest that runs.
unsafe fn host_call(vmctx: *mut lucet_vmctx, import: usize, argument: impl Fn(usize) -> u64) -> Result<u64, End> {
    let (position, function, sees_memory) = GUEST.with_borrow(|guest| {
        let guest = guest.as_ref().expect("a guest runs");
        let position = guest.imports[import];
        (position, &guest.functions[position], guest.sees_memory)
    });
    let mut args = [0; PARAMS_MAX];
    for (at, (arg, ty)) in args.iter_mut().zip(&function.params).enumerate() {
        // The upper half of a register with an `i32` means nothing.
        *arg = argument(at) & if *ty == Type::I32 { u64::from(u32::MAX) } else { u64::MAX };
    }
    // SAFETY: as the caller says. The guest waits for this call.
    let memory = if sees_memory { unsafe { instance_from_vmctx(vmctx) }.heap_mut() } else { &mut [] };
    match remuda_worker::call(position, &args[..function.params.len()], memory) {
        Ok(result) => Ok(u64::from(result.cast_unsigned())),
        Err(_) => Err(End::Unwound),
    }
}

/// Does what an instruction is to do.
///
/// # Safety
///
/// `vmctx` has to be that of the guest that runs.
unsafe fn builtin_call(vmctx: *mut lucet_vmctx, builtin: Builtin, argument: impl Fn(usize) -> u64) -> Result<u64, End> {
    // SAFETY: as the caller says. The guest waits for this call.
    let instance = unsafe { instance_from_vmctx(vmctx) };
    let low = |at| usize::try_from(argument(at) & u64::from(u32::MAX)).expect("32 bits fit an address");
    let range = |from: usize, count: usize, len: usize, end: End| {
        if from <= len && count <= len - from { Ok(from..from + count) } else { Err(end) }
    };
    // Where something is copied to and from: the first three arguments are both places and the number of items.
    let ranges = |to: usize, from: usize, end| Ok((range(low(0), low(2), to, end)?, range(low(1), low(2), from, end)?));
    let (memory_end, table_end) = (End::MemoryOutOfBounds, End::TableOutOfBounds);
    match builtin {
        Builtin::MemorySize => return Ok((instance.alloc().heap_len() / WASM_PAGE_BYTES) as u64),
        Builtin::MemoryGrow => {
            let pages = u32::try_from(low(0)).expect("it has 32 bits");
            return Ok(u64::from(instance.grow_memory(pages).unwrap_or(u32::MAX)));
        }
        Builtin::MemoryCopy => {
            let memory = instance.heap_mut();
            let (to, from) = ranges(memory.len(), memory.len(), memory_end)?;
            memory.copy_within(from, to.start);
        }
        Builtin::MemoryFill => {
            let memory = instance.heap_mut();
            let to = range(low(0), low(2), memory.len(), memory_end)?;
            memory[to].fill(argument(1).to_le_bytes()[0]);
        }
        Builtin::MemoryInit => {
            return with_guest(|guest| {
                let (memory, segment) = (instance.heap_mut(), low(3));
                let data: &[u8] = if guest.dropped_data[segment] { &[] } else { &guest.module.plan.data[segment] };
                let (to, from) = ranges(memory.len(), data.len(), memory_end)?;
                memory[to].copy_from_slice(&data[from]);
                Ok(0)
            });
        }
        Builtin::DataDrop => with_guest(|guest| guest.dropped_data[low(0)] = true),
        Builtin::TableCopy => {
            return with_guest(|guest| {
                // SAFETY: the guest waits for this call.
                let table = unsafe { guest.module.table() };
                let (to, from) = ranges(table.len(), table.len(), table_end)?;
                table.copy_within(from, to.start);
                Ok(0)
            });
        }
        Builtin::TableInit => {
            return with_guest(|guest| {
                let segment = low(3);
                let elements = if guest.dropped_elements[segment] { &[] } else { guest.module.segment(segment) };
                // SAFETY: the guest waits for this call.
                let table = unsafe { guest.module.table() };
                let (to, from) = ranges(table.len(), elements.len(), table_end)?;
                table[to].copy_from_slice(&elements[from]);
                Ok(0)
            });
        }
        Builtin::ElementDrop => with_guest(|guest| guest.dropped_elements[low(0)] = true),
    }
    Ok(0)
}

fn with_guest<T>(work: impl FnOnce(&mut Guest) -> T) -> T {
    GUEST.with_borrow_mut(|guest| work(guest.as_mut().expect("a guest runs")))
}
