use std::time::Duration;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// What one request may use of the host. Every engine enforces all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLimits {
    /// All linear memories of an instance together, in bytes.
    pub memory_bytes_max: u64,
    /// All tables of an instance together, in elements.
    pub table_elements_max: u64,
    /// Bytes that the guest may write to a captured standard output.
    pub output_bytes_max: u64,
    /// From admission to answer.
    pub timeout: Duration,
}

impl Default for GuestLimits {
    fn default() -> Self {
        Self {
            memory_bytes_max: 256 * MIB,
            table_elements_max: 1 << 20,
            output_bytes_max: 16 * MIB,
            timeout: Duration::from_secs(30),
        }
    }
}

/// Bounds on a module that are checked before any compiler sees it.
///
/// The defaults admit everything that real toolchains emit (a 21 MB text-to-speech engine, QuickJS, CPython) and
/// refuse what only an attacker would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLimits {
    /// The whole module, in bytes.
    pub module_bytes_max: u64,
    /// One function's body, in bytes: compile time grows faster than linearly in it.
    pub function_bytes_max: u64,
    /// Functions that the module defines.
    pub functions_max: u32,
    /// Locals of one function, parameters included.
    pub locals_max: u32,
    /// Blocks within blocks.
    pub nesting_max: u32,
    /// Types that the module declares.
    pub types_max: u32,
    /// Imports and exports, each.
    pub imports_and_exports_max: u32,
    /// Data and element segments, each.
    pub segments_max: u32,
    /// Memories and tables, each, imported ones included.
    pub memories_and_tables_max: u32,
    /// Globals that the module defines.
    pub globals_max: u32,
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            module_bytes_max: 128 * MIB,
            function_bytes_max: 2 * MIB,
            functions_max: 200_000,
            locals_max: 20_000,
            nesting_max: 5_000,
            types_max: 50_000,
            imports_and_exports_max: 50_000,
            segments_max: 100_000,
            memories_and_tables_max: 64,
            globals_max: 100_000,
        }
    }
}

impl ModuleLimits {
    /// Stack that a guest's own calls may use, in bytes; the same for every engine that runs native code.
    pub const STACK_BYTES: u64 = 512 * KIB;
}
