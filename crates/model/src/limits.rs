use std::time::Duration;

use serde::{Deserialize, Serialize};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Limits on what one request may use of the host. They hold on every engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestLimits {
    /// The most memory of an instance, all linear memories together, in bytes.
    pub memory_bytes_max: u64,
    /// The most elements of an instance's tables, all together.
    pub table_elements_max: u64,
    /// The most bytes that the guest may write to a captured standard output.
    pub output_bytes_max: u64,
    /// The longest time from admission to answer.
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
/// refuse modules that only an attacker would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleLimits {
    /// The largest size of the whole module, in bytes.
    pub module_bytes_max: u64,
    /// The largest size of one function's body, in bytes: compile time grows faster than linearly in it.
    pub function_bytes_max: u64,
    /// The most functions that the module may define.
    pub functions_max: u32,
    /// The most locals of one function, parameters included.
    pub locals_max: u32,
    /// The deepest nesting of blocks in a function.
    pub nesting_max: u32,
    /// The most types that the module may declare.
    pub types_max: u32,
    /// The most imports, and the most exports.
    pub imports_and_exports_max: u32,
    /// The most data segments, and the most element segments.
    pub segments_max: u32,
    /// The most memories, and the most tables, that the module may define.
    pub memories_and_tables_max: u32,
    /// The most globals that the module may define.
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
    /// The size of the stack for a guest's own calls, in bytes; the same for every engine that runs native code.
    pub const STACK_BYTES: u64 = 512 * KIB;
}
