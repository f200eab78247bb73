//! A plugin of qemu's user mode that counts what a program does to first-level caches, branch predictors and branch targets.
//!
//! This crate is what of that needs qemu; the rest is in `remuda-microarch`, and `docs/microarchitecture.md` says how it is used.
//!
//! # Threads
//! qemu runs each thread of the program in a thread of its own and numbers them. Each has a core of its own here, with caches
//! and predictors that nobody else sees, and only that thread touches it. A thread that begins after another has ended may get
//! its number, and so its core. The report sums up all cores.
//!
//! # What is counted
//! Once for each block of code, when qemu translates it, the plugin decides whether it is counted, and makes a record of it.
//! When it is executed, only that record is put into the core's batch. A block of which an exception or a signal
//! prevents the end is counted as a whole.

mod api;

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use remuda_microarch::options::{Options, RangeOption};
use remuda_microarch::protocol::Message;
use remuda_microarch::system_calls::Call;
use remuda_microarch::{
    Access, AccessInfo, Block, BlockMaker, CodeRange, Core, InstructionSet, InstructionTag, Report, Scope, is_cut_off,
};

/// How many threads of a program can be counted at the same time. Those beyond are not counted, and the plugin says so.
const CORES_MAX: usize = 1024;

/// All that the plugin knows. qemu loads a plugin into its process once.
struct Plugin {
    target: String,
    set: InstructionSet,
    options: Options,
    maker: BlockMaker,
    /// Records of blocks, by address and instructions. qemu may translate the same code several times.
    blocks: Mutex<HashMap<(u64, Vec<u8>), &'static Block>>,
    /// The code that is counted, if not all is.
    ranges: Mutex<Vec<CodeRange>>,
    /// Threads that have asked for executable memory and have not got it yet, with its length in bytes.
    mapping: Mutex<HashMap<c_uint, u64>>,
    /// The process in which the plugin was loaded. A child of it has all this, too, and is not to write the same report.
    process: u32,
}

static PLUGIN: OnceLock<Plugin> = OnceLock::new();

/// The core of each thread, once it has one. Apart from [`PLUGIN`], so that a callback finds its core with one look.
static CORES: [AtomicPtr<Core>; CORES_MAX] = [const { AtomicPtr::new(ptr::null_mut()) }; CORES_MAX];

/// Whether a thread got no core.
static TOO_MANY_THREADS: AtomicBool = AtomicBool::new(false);

/// Whether the report has been written.
static WRITTEN: AtomicBool = AtomicBool::new(false);

/// Whether what is executed now is counted.
static COUNTING: AtomicBool = AtomicBool::new(false);

/// The version of the API, which qemu looks at before it calls `qemu_plugin_install`.
#[unsafe(no_mangle)]
pub static qemu_plugin_version: c_int = api::VERSION;

/// What qemu calls when it has loaded the plugin. Anything but 0 as result ends qemu.
///
/// # Safety
/// `info` and the `count` strings of `arguments` have to be as qemu's manual says.
#[unsafe(no_mangle)]
unsafe extern "C" fn qemu_plugin_install(
    id: api::PluginId,
    info: *const api::Info,
    count: c_int,
    arguments: *const *const c_char,
) -> c_int {
    // SAFETY: qemu passes a description of itself that begins with these fields, and `target_name` is a C string that lives as
    // long as qemu does.
    let (info, target) = unsafe { (&*info, CStr::from_ptr((*info).target_name)) };
    let count = usize::try_from(count).unwrap_or_default();
    // SAFETY: qemu passes `count` C strings, which it frees only after this function has returned.
    let arguments: Vec<_> =
        (0..count).map(|at| unsafe { CStr::from_ptr(*arguments.add(at)) }.to_string_lossy()).collect();
    let installed = Plugin::new(info, &target.to_string_lossy(), arguments.iter().map(AsRef::as_ref))
        .and_then(|plugin| PLUGIN.set(plugin).map_err(|_| "it is loaded already; it can be loaded once".to_owned()));
    if let Err(error) = installed {
        eprintln!("remuda-microarch-plugin: {error}");
        return 1;
    }
    // SAFETY: `id` is the number that qemu gave this plugin, and the callbacks have the types that the API says.
    unsafe {
        api::qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
        api::qemu_plugin_register_vcpu_syscall_cb(id, on_system_call);
        api::qemu_plugin_register_vcpu_syscall_ret_cb(id, on_system_return);
        api::qemu_plugin_register_atexit_cb(id, on_exit, ptr::null_mut());
    }
    0
}

impl Plugin {
    fn new<'a>(info: &api::Info, target: &str, arguments: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        if info.system_emulation {
            return Err("it counts programs, not whole machines: load it into qemu-x86_64 or qemu-aarch64".to_owned());
        }
        if !(info.version_min..=info.version_cur).contains(&api::VERSION) {
            let (min, cur) = (info.version_min, info.version_cur);
            return Err(format!("it needs version 1 of the plugin API, and this qemu has versions {min} to {cur}"));
        }
        let set = InstructionSet::from_qemu(target)
            .ok_or_else(|| format!("it knows the branches of x86_64 and aarch64, and this qemu is for {target}"))?;
        let options = Options::parse(arguments).map_err(|error| error.to_string())?;
        let maker = BlockMaker::new(set, &options.setup).map_err(|error| error.to_string())?;
        let ranges = match &options.range {
            RangeOption::Fixed(ranges) => ranges.clone(),
            RangeOption::All | RangeOption::Told | RangeOption::Generated | RangeOption::Program => Vec::new(),
        };
        COUNTING.store(options.range != RangeOption::Told, Ordering::Relaxed);
        Ok(Self {
            target: target.to_owned(),
            set,
            options,
            maker,
            blocks: Mutex::default(),
            ranges: Mutex::new(ranges),
            mapping: Mutex::default(),
            process: std::process::id(),
        })
    }

    /// Whether the code at this address is counted. Only threads of the program may ask.
    fn covers(&self, address: u64) -> bool {
        let mut ranges = lock(&self.ranges);
        if self.options.range == RangeOption::Program && ranges.is_empty() {
            // SAFETY: qemu is translating for a thread of the program, so that it knows whose file is meant.
            let (start, end) = unsafe { (api::qemu_plugin_start_code(), api::qemu_plugin_end_code()) };
            ranges.push(CodeRange { start, length: end.saturating_sub(start) });
        }
        self.options.range == RangeOption::All || ranges.iter().any(|range| range.contains(address))
    }

    /// The record of a block; the same for the same code.
    fn block(&self, start: u64, instructions: &[&[u8]]) -> &'static Block {
        // Where one instruction ends and the next begins follows from the bytes.
        let key = (start, instructions.concat());
        let mut blocks = lock(&self.blocks);
        let number = u32::try_from(blocks.len()).expect("a process has no memory for so many blocks");
        blocks.entry(key).or_insert_with(|| Box::leak(Box::new(self.maker.block(number, start, instructions))))
    }

    fn report(&self) -> Report {
        let cores: Vec<&Core> = CORES
            .iter()
            // SAFETY: qemu calls the callback for its end after it has removed all others and has seen all threads leave the
            // code with callbacks, so that nobody uses a core any more.
            .filter_map(|slot| unsafe { slot.load(Ordering::Acquire).as_mut() })
            .map(|core| {
                core.finish();
                &*core
            })
            .collect();
        let scope = match self.options.range {
            RangeOption::All => Scope::All,
            _ => Scope::Ranges(lock(&self.ranges).clone()),
        };
        let blocks = lock(&self.blocks);
        let with_bytes = blocks.iter().map(|((_, bytes), block)| (*block, bytes.as_slice()));
        Report::new(&self.target, self.options.setup.counting, scope, with_bytes, &cores)
    }
}

/// The core of a thread; made when it is first asked for.
///
/// # Safety
/// Nobody else may use this core as long as the result is used: only callbacks of the thread with this number call this.
#[inline]
unsafe fn core_of<'a>(thread: c_uint) -> Option<&'a mut Core> {
    let slot = CORES.get(thread as usize)?;
    // Only this thread stores into its slot, and whoever reads it after its end has waited for it.
    // SAFETY: the pointer comes from `Box::into_raw` and is never freed; that nobody else uses it, the caller promises.
    let core = unsafe { slot.load(Ordering::Relaxed).as_mut() };
    if core.is_some() { core } else { new_core(slot) }
}

#[cold]
fn new_core<'a>(slot: &AtomicPtr<Core>) -> Option<&'a mut Core> {
    let plugin = PLUGIN.get()?;
    // `Options::parse` has made a core of this setup.
    let core = Box::into_raw(Box::new(Core::new(&plugin.options.setup, describe).ok()?));
    slot.store(core, Ordering::Release);
    // SAFETY: the pointer comes from `Box::into_raw` just now, and the slot's owner is the only one that calls this.
    unsafe { core.as_mut() }
}

/// A lock that was poisoned by a panic is used all the same: a panic in a callback ends the process.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn describe(info: api::MemInfo) -> AccessInfo {
    // SAFETY: the description comes from a callback of qemu; the functions only look at its bits.
    let (shift, stores) = unsafe { (api::qemu_plugin_mem_size_shift(info), api::qemu_plugin_mem_is_store(info)) };
    AccessInfo { access: if stores { Access::Store } else { Access::Load }, bytes: 1 << shift }
}

extern "C" fn on_translate(_id: api::PluginId, block: *mut api::TranslationBlock) {
    let Some(plugin) = PLUGIN.get() else { return };
    // SAFETY: qemu passes a block that is valid during this callback.
    let (count, start) = unsafe { (api::qemu_plugin_tb_n_insns(block), api::qemu_plugin_tb_vaddr(block)) };
    if !plugin.covers(start) {
        // Whoever leaves counted code has to be seen leaving it.
        // SAFETY: as above; the callback has the type that the API says.
        unsafe { api::qemu_plugin_register_vcpu_tb_exec_cb(block, on_leave, api::NO_REGISTERS, ptr::null_mut()) };
        return;
    }
    // SAFETY: the block has `count` instructions, and each knows its bytes; all are valid during this callback.
    let mut instructions: Vec<(*mut api::Instruction, &[u8])> = (0..count)
        .map(|number| unsafe {
            let instruction = api::qemu_plugin_tb_get_insn(block, number);
            let (data, size) = (api::qemu_plugin_insn_data(instruction), api::qemu_plugin_insn_size(instruction));
            (instruction, std::slice::from_raw_parts(data.cast::<u8>(), size))
        })
        .collect();
    // qemu 7.2 takes an instruction that crosses a page out of a block that has others before it, and begins the next block with
    // it; but the plugin still sees the bytes of it here that lie on the first page.
    if instructions.len() > 1 {
        instructions.pop_if(|(_, bytes)| is_cut_off(plugin.set, bytes));
    }
    let bytes: Vec<&[u8]> = instructions.iter().map(|(_, bytes)| *bytes).collect();
    let record = ptr::from_ref(plugin.block(start, &bytes)).cast_mut().cast();
    // SAFETY: as above. What is registered is a record that is never freed, which `on_execute` only reads.
    unsafe { api::qemu_plugin_register_vcpu_tb_exec_cb(block, on_execute, api::NO_REGISTERS, record) };
    for (number, (instruction, bytes)) in instructions.into_iter().enumerate() {
        let tag = InstructionTag::new(plugin.set, number, bytes).to_number();
        // SAFETY: as above. What is registered is a number, which `on_access` does not follow as a pointer.
        unsafe {
            api::qemu_plugin_register_vcpu_mem_cb(
                instruction,
                on_access,
                api::NO_REGISTERS,
                api::LOADS_AND_STORES,
                ptr::without_provenance_mut(tag.into()),
            );
        }
    }
}

extern "C" fn on_execute(thread: c_uint, record: *mut c_void) {
    // SAFETY: qemu calls this in the thread with this number.
    let Some(core) = (unsafe { core_of(thread) }) else {
        TOO_MANY_THREADS.store(true, Ordering::Relaxed);
        return;
    };
    if COUNTING.load(Ordering::Relaxed) {
        // SAFETY: `on_translate` registered this callback with a record that is never freed or written.
        core.execute(unsafe { &*record.cast::<Block>() });
    } else {
        core.leave();
    }
}

extern "C" fn on_leave(thread: c_uint, _nothing: *mut c_void) {
    // SAFETY: qemu calls this in the thread with this number.
    if let Some(core) = unsafe { core_of(thread) } {
        core.leave();
    }
}

extern "C" fn on_access(thread: c_uint, info: api::MemInfo, address: u64, tag: *mut c_void) {
    if !COUNTING.load(Ordering::Relaxed) {
        return;
    }
    // SAFETY: qemu calls this in the thread with this number.
    if let Some(core) = unsafe { core_of(thread) } {
        #[expect(clippy::cast_possible_truncation, reason = "made from a u16")]
        core.access(address, info, InstructionTag::from_number(tag.addr() as u16));
    }
}

extern "C" fn on_system_call(
    _id: api::PluginId,
    thread: c_uint,
    number: i64,
    a1: u64,
    a2: u64,
    a3: u64,
    a4: u64,
    _a5: u64,
    _a6: u64,
    _a7: u64,
    _a8: u64,
) {
    let Some(plugin) = PLUGIN.get() else { return };
    if plugin.options.range == RangeOption::Generated {
        match Call::from_call(plugin.set, number, [a1, a2, a3, a4]) {
            None => {}
            Some(Call::Map { length }) => {
                lock(&plugin.mapping).insert(thread, length);
            }
            Some(Call::Protect { start, length }) => CodeRange { start, length }.add_to(&mut lock(&plugin.ranges)),
        }
        return;
    }
    if plugin.options.range != RangeOption::Told {
        return;
    }
    match Message::from_call(plugin.set, number, [a1, a2, a3, a4]) {
        Ok(None) => {}
        Ok(Some(Message::Range { start, length })) => lock(&plugin.ranges).push(CodeRange { start, length }),
        // What this thread has executed stays before this in its batch, since its next block comes after it.
        Ok(Some(Message::Begin)) => COUNTING.store(true, Ordering::Relaxed),
        Ok(Some(Message::End)) => COUNTING.store(false, Ordering::Relaxed),
        Err(error) => eprintln!("remuda-microarch-plugin: {error}"),
    }
}

extern "C" fn on_system_return(_id: api::PluginId, thread: c_uint, _number: i64, result: i64) {
    let Some(plugin) = PLUGIN.get() else { return };
    let Some(length) = lock(&plugin.mapping).remove(&thread) else { return };
    // A negative result is an error.
    if let Ok(start) = u64::try_from(result) {
        CodeRange { start, length }.add_to(&mut lock(&plugin.ranges));
    }
}

extern "C" fn on_exit(_id: api::PluginId, _nothing: *mut c_void) {
    let Some(plugin) = PLUGIN.get() else { return };
    // qemu calls this when the program ends, and once more when its own process does.
    if std::process::id() != plugin.process || WRITTEN.swap(true, Ordering::Relaxed) {
        return;
    }
    if TOO_MANY_THREADS.load(Ordering::Relaxed) {
        eprintln!(
            "remuda-microarch-plugin: there were more than {CORES_MAX} threads at once; the others were not counted"
        );
    }
    let out = &plugin.options.out;
    if let Err(error) = plugin.report().write(out) {
        eprintln!("remuda-microarch-plugin: cannot write {}: {error}", out.display());
    }
}
