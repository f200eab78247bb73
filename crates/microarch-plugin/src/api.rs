//! The functions of qemu that the plugin calls: API version 1 for plugins of TCG, as qemu's manual documents it ("QEMU TCG
//! Plugins", section "Plugin API"). These declarations are Remuda's own.

use std::ffi::{c_char, c_int, c_uint, c_void};

/// The version of the API that the plugin needs. qemu 7.2 has it; qemu 9.0 and later have only newer ones, in which
/// `qemu_plugin_insn_data` has other arguments.
pub(crate) const VERSION: c_int = 1;

/// A plugin's number, which it gets when it is loaded.
pub(crate) type PluginId = u64;

/// A description of an access, which only qemu can read.
pub(crate) type MemInfo = u32;

/// A block that is being translated.
#[repr(C)]
pub(crate) struct TranslationBlock {
    opaque: [u8; 0],
}

/// An instruction of such a block.
#[repr(C)]
pub(crate) struct Instruction {
    opaque: [u8; 0],
}

/// The beginning of what qemu says of itself when it loads a plugin. More follows, which this plugin has no use for.
#[repr(C)]
pub(crate) struct Info {
    /// The instruction set, as C string.
    pub(crate) target_name: *const c_char,
    /// The oldest API that this qemu has.
    pub(crate) version_min: c_int,
    /// The newest.
    pub(crate) version_cur: c_int,
    /// Whether a whole machine is emulated rather than one program.
    pub(crate) system_emulation: bool,
}

/// `QEMU_PLUGIN_CB_NO_REGS`: a callback that neither reads nor writes registers.
pub(crate) const NO_REGISTERS: c_int = 0;

/// `QEMU_PLUGIN_MEM_RW`: a callback for loads and stores. With one callback for each, qemu 7.2 calls the wrong one.
pub(crate) const LOADS_AND_STORES: c_int = 3;

pub(crate) type OnTranslate = extern "C" fn(PluginId, *mut TranslationBlock);
pub(crate) type OnExecute = extern "C" fn(c_uint, *mut c_void);
pub(crate) type OnAccess = extern "C" fn(c_uint, MemInfo, u64, *mut c_void);
pub(crate) type OnExit = extern "C" fn(PluginId, *mut c_void);
pub(crate) type OnSystemReturn = extern "C" fn(PluginId, c_uint, i64, i64);
pub(crate) type OnSystemCall = extern "C" fn(PluginId, c_uint, i64, u64, u64, u64, u64, u64, u64, u64, u64);

unsafe extern "C" {
    pub(crate) fn qemu_plugin_register_vcpu_tb_trans_cb(id: PluginId, callback: OnTranslate);
    pub(crate) fn qemu_plugin_register_vcpu_tb_exec_cb(
        block: *mut TranslationBlock,
        callback: OnExecute,
        flags: c_int,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_mem_cb(
        instruction: *mut Instruction,
        callback: OnAccess,
        flags: c_int,
        which: c_int,
        data: *mut c_void,
    );
    pub(crate) fn qemu_plugin_register_vcpu_syscall_cb(id: PluginId, callback: OnSystemCall);
    pub(crate) fn qemu_plugin_register_vcpu_syscall_ret_cb(id: PluginId, callback: OnSystemReturn);
    pub(crate) fn qemu_plugin_register_atexit_cb(id: PluginId, callback: OnExit, data: *mut c_void);
    pub(crate) fn qemu_plugin_tb_n_insns(block: *const TranslationBlock) -> usize;
    pub(crate) fn qemu_plugin_tb_vaddr(block: *const TranslationBlock) -> u64;
    pub(crate) fn qemu_plugin_tb_get_insn(block: *const TranslationBlock, number: usize) -> *mut Instruction;
    pub(crate) fn qemu_plugin_insn_data(instruction: *const Instruction) -> *const c_void;
    pub(crate) fn qemu_plugin_insn_size(instruction: *const Instruction) -> usize;
    pub(crate) fn qemu_plugin_mem_size_shift(info: MemInfo) -> c_uint;
    pub(crate) fn qemu_plugin_mem_is_store(info: MemInfo) -> bool;
    /// The address of the first executable byte of the program's own file. Only callbacks of a thread of the program may ask.
    pub(crate) fn qemu_plugin_start_code() -> u64;
    /// The address behind the last one.
    pub(crate) fn qemu_plugin_end_code() -> u64;
}
