//! The adapters: one file or folder for each engine, each behind a cargo feature with the engine's id as its name.
//!
//! All adapters have the same order: how the engine is configured and started, compiling, loading, instantiating,
//! calling, and what traps mean. What an engine is and can do stands here ([`Known`]).

#[cfg(feature = "wasi")]
mod enter;
#[cfg(feature = "wasi")]
pub(crate) mod guest;
#[cfg(feature = "mock")]
mod mock;
#[cfg(feature = "wasi")]
pub(crate) mod region;
#[cfg(feature = "wasmer.singlepass")]
pub(crate) mod wasmer;
#[cfg(feature = "wasmi.lazy")]
pub(crate) mod wasmi;
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
pub(crate) mod wasmtime;
#[cfg(feature = "worker")]
mod worker;

use remuda_model::{EngineId, Tier};

use crate::{Capabilities, Interruption, Known, Proposal, Proposals};

/// Counts the changes to how adapters configure engines and rewrite modules. An artifact of another revision is not
/// used; its module is compiled anew.
pub(crate) const CONFIG_REVISION: u32 = 3;

/// Every engine that Remuda knows of, in the order in which an unknown module tries them: the baseline compiler
/// first, because its worst case is the mildest; then the optimizing one; then the interpreter.
pub(crate) const KNOWN: &[Known] = &[WASMTIME_WINCH, WASMER_SINGLEPASS, WASMTIME_CRANELIFT, WASMI_LAZY, NODE_V8, MOCK];

const WASMTIME_WINCH: Known = Known {
    id: EngineId::new("wasmtime.winch"),
    summary: "Wasmtime with Winch, its one-pass compiler",
    version: WASMTIME_VERSION,
    capabilities: &Capabilities {
        proposals: Proposals::BASE.with(&[
            Proposal::TableGrow,
            Proposal::Simd,
            Proposal::ExtendedConst,
            Proposal::MultiMemory,
            Proposal::Memory64,
            Proposal::CustomPageSizes,
            Proposal::WideArithmetic,
        ]),
        tier: Tier::Baseline,
        artifacts: true,
        interruption: Interruption::Flag,
        parts: true,
    },
    automatic: true,
    #[cfg(feature = "wasmtime.winch")]
    open: Some(wasmtime::open_winch),
    #[cfg(not(feature = "wasmtime.winch"))]
    open: None,
    missing: None,
};

const WASMTIME_CRANELIFT: Known = Known {
    id: EngineId::new("wasmtime.cranelift"),
    summary: "Wasmtime with Cranelift, its optimizing compiler",
    version: WASMTIME_VERSION,
    capabilities: &Capabilities {
        proposals: Proposals::BASE.with(&[
            Proposal::Externref,
            Proposal::TableGrow,
            Proposal::Simd,
            Proposal::ExtendedConst,
            Proposal::RelaxedSimd,
            Proposal::TailCall,
            Proposal::MultiMemory,
            Proposal::Memory64,
            Proposal::FunctionReferences,
            Proposal::Gc,
            Proposal::Exceptions,
            Proposal::Atomics,
            Proposal::CustomPageSizes,
            Proposal::WideArithmetic,
        ]),
        tier: Tier::Optimizing,
        artifacts: true,
        interruption: Interruption::Flag,
        parts: true,
    },
    automatic: true,
    #[cfg(feature = "wasmtime.cranelift")]
    open: Some(wasmtime::open_cranelift),
    #[cfg(not(feature = "wasmtime.cranelift"))]
    open: None,
    missing: None,
};

const WASMER_SINGLEPASS: Known = Known {
    id: EngineId::new("wasmer.singlepass"),
    summary: "Wasmer with Singlepass, its one-pass compiler (Business Source License: no production use without a contract)",
    version: WASMER_VERSION,
    capabilities: &Capabilities {
        proposals: Proposals::BASE.with(&[
            Proposal::Externref,
            Proposal::TableGrow,
            Proposal::ExtendedConst,
            Proposal::MultiMemory,
        ]),
        tier: Tier::Baseline,
        artifacts: true,
        interruption: Interruption::Flag,
        parts: false,
    },
    automatic: true,
    #[cfg(feature = "wasmer.singlepass")]
    open: Some(wasmer::open),
    #[cfg(not(feature = "wasmer.singlepass"))]
    open: None,
    missing: None,
};

const WASMI_LAZY: Known = Known {
    id: EngineId::new("wasmi.lazy"),
    summary: "Wasmi, an interpreter that translates a function when it is first called",
    version: WASMI_VERSION,
    capabilities: &Capabilities {
        proposals: Proposals::BASE.with(&[
            Proposal::Externref,
            Proposal::Simd,
            Proposal::ExtendedConst,
            Proposal::RelaxedSimd,
            Proposal::TailCall,
            Proposal::MultiMemory,
            Proposal::Memory64,
            Proposal::CustomPageSizes,
            Proposal::WideArithmetic,
        ]),
        tier: Tier::Interpreter,
        artifacts: false,
        interruption: Interruption::Fuel,
        parts: false,
    },
    automatic: true,
    #[cfg(feature = "wasmi.lazy")]
    open: Some(wasmi::open),
    #[cfg(not(feature = "wasmi.lazy"))]
    open: None,
    missing: None,
};

const NODE_V8: Known = Known {
    id: EngineId::new("node.v8"),
    summary: "V8 in a process of Node.js: compiles functions when they are first called, and again once they are hot",
    version: "24 or newer",
    capabilities: &Capabilities {
        // Several memories, 64-bit memories and growing tables would need more rewriting. Exceptions are left out since a
        // guest could catch the one by which it is stopped during a call of WASI.
        proposals: Proposals::BASE.with(&[
            Proposal::Externref,
            Proposal::Simd,
            Proposal::ExtendedConst,
            Proposal::RelaxedSimd,
            Proposal::TailCall,
        ]),
        tier: Tier::Dynamic,
        artifacts: false,
        interruption: Interruption::Signal,
        parts: false,
    },
    automatic: false,
    #[cfg(feature = "node.v8")]
    open: Some(worker::node::open),
    #[cfg(not(feature = "node.v8"))]
    open: None,
    #[cfg(feature = "node.v8")]
    missing: Some(worker::node::missing),
    #[cfg(not(feature = "node.v8"))]
    missing: None,
};

pub(crate) const MOCK: Known = Known {
    id: EngineId::new("mock"),
    summary: "answers what its arguments say and runs no WebAssembly, for exact tests",
    version: env!("CARGO_PKG_VERSION"),
    capabilities: &Capabilities {
        proposals: Proposals::BASE,
        tier: Tier::Interpreter,
        artifacts: true,
        interruption: Interruption::Cooperative,
        parts: false,
    },
    automatic: false,
    #[cfg(feature = "mock")]
    open: Some(mock::open),
    #[cfg(not(feature = "mock"))]
    open: None,
    missing: None,
};

/// The version that the workspace pins; a test compares it with the lock file.
const WASMTIME_VERSION: &str = "48.0.8";
/// The version that the workspace pins; a test compares it with the lock file.
const WASMER_VERSION: &str = "7.4.2";
/// The version in the lock file; a test compares the two.
const WASMI_VERSION: &str = "2.0.0";

/// The CPU features that decide which machine code may run here, as a short stable text.
pub(crate) fn cpu_features() -> &'static str {
    static FEATURES: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let mut features = vec![std::env::consts::ARCH];
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! detect {
                ($($name:tt),*) => {
                    $(if std::arch::is_x86_feature_detected!($name) { features.push($name); })*
                };
            }
            detect!(
                "sse3",
                "ssse3",
                "sse4.1",
                "sse4.2",
                "popcnt",
                "avx",
                "avx2",
                "fma",
                "bmi1",
                "bmi2",
                "lzcnt",
                "avx512f",
                "avx512dq",
                "avx512vl",
                "avx512bitalg",
                "avx512vbmi",
                "cmpxchg16b"
            );
        }
        features.join("+")
    });
    &FEATURES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock")).unwrap();
        for (name, version) in [("wasmtime", WASMTIME_VERSION), ("wasmer", WASMER_VERSION), ("wasmi", WASMI_VERSION)] {
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            assert!(lock.contains(&entry), "Cargo.lock has another version of {name} than {version}");
        }
    }

    #[test]
    fn ids_are_unique() {
        for (i, known) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..i].iter().all(|other| other.id != known.id), "{}", known.id);
        }
    }
}
