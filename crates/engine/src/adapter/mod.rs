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
pub(crate) const CONFIG_REVISION: u32 = 4;

/// The environment variables that say where the programs of engines are.
pub(crate) mod variable {
    /// The folder with engines, instead of the user's own.
    pub(crate) const ENGINES: &str = "REMUDA_ENGINES";
    /// The folder for the user's data, in which the user's own folder with engines is.
    pub(crate) const DATA: &str = "XDG_DATA_HOME";
    /// The user's folder, in which that for data is if nothing else is said.
    pub(crate) const HOME: &str = "HOME";
    /// Where all programs are.
    pub(crate) const PATH: &str = "PATH";

    pub(crate) const ALL: [&str; 4] = [ENGINES, DATA, HOME, PATH];
}

/// Every engine that Remuda knows of, in the order in which an unknown module tries them: the baseline compiler
/// first, because its worst case is the mildest; then the optimizing one; then the interpreter.
pub(crate) const KNOWN: &[Known] = &[
    WASMTIME_WINCH,
    WASMER_SINGLEPASS,
    WASMTIME_CRANELIFT,
    WASMI_LAZY,
    NODE_V8,
    WASMER_CRANELIFT,
    WASMER_LLVM,
    WAVM_LLVM,
    LUCET_CRANELIFT,
    MOCK,
];

/// What components of WASI 0.3 need, in a build that has it.
const WASI_0_3: Proposals =
    if cfg!(feature = "wasi-0.3") { Proposals::of(&[Proposal::ComponentModelAsync]) } else { Proposals::of(&[]) };

const WASMTIME_WINCH: Known = Known {
    id: EngineId::new("wasmtime.winch"),
    summary: "Wasmtime with Winch, its one-pass compiler",
    version: WASMTIME_VERSION,
    capabilities: &Capabilities {
        proposals: Proposals::BASE
            .with(&[
                Proposal::TableGrow,
                Proposal::Simd,
                Proposal::ExtendedConst,
                Proposal::MultiMemory,
                Proposal::Memory64,
                Proposal::CustomPageSizes,
                Proposal::WideArithmetic,
                Proposal::ComponentModel,
            ])
            .union(WASI_0_3),
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
    programs: None,
    open_emulated: None,
};

const WASMTIME_CRANELIFT: Known = Known {
    id: EngineId::new("wasmtime.cranelift"),
    summary: "Wasmtime with Cranelift, its optimizing compiler",
    version: WASMTIME_VERSION,
    capabilities: &Capabilities {
        proposals: Proposals::BASE
            .with(&[
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
                Proposal::ComponentModel,
            ])
            .union(WASI_0_3),
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
    programs: None,
    open_emulated: None,
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
    programs: None,
    open_emulated: None,
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
    programs: None,
    open_emulated: None,
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
    programs: Some(worker::node::programs),
    #[cfg(not(feature = "node.v8"))]
    programs: None,
    #[cfg(feature = "node.v8")]
    open_emulated: Some(worker::node::open_emulated),
    #[cfg(not(feature = "node.v8"))]
    open_emulated: None,
};

/// Engines of ours that run guests in workers. Whether this build can open one hangs on the feature with its name.
macro_rules! workers {
    ($($own:ident = $id:literal, $version:expr, $tier:expr, $proposals:expr, $summary:literal;)*) => {$(
        const $own: Known = Known {
            id: EngineId::new($id),
            summary: $summary,
            version: $version,
            capabilities: &Capabilities {
                proposals: $proposals,
                tier: $tier,
                artifacts: true,
                interruption: Interruption::Signal,
                parts: false,
            },
            automatic: false,
            #[cfg(feature = $id)]
            open: Some(|instances| worker::own::$own.open(instances)),
            #[cfg(not(feature = $id))]
            open: None,
            #[cfg(feature = $id)]
            programs: Some(|| worker::own::$own.programs()),
            #[cfg(not(feature = $id))]
            programs: None,
            #[cfg(feature = $id)]
            open_emulated: Some(|emulator| worker::own::$own.open_emulated(emulator)),
            #[cfg(not(feature = $id))]
            open_emulated: None,
        };
    )*};
}

workers! {
    WASMER_CRANELIFT = "wasmer.cranelift", WASMER_WORKER_VERSION, Tier::Optimizing, WASMER_WORKER_PROPOSALS,
        "Wasmer 4 with the Cranelift of its time, in a process of its own";
    WASMER_LLVM = "wasmer.llvm", WASMER_WORKER_VERSION, Tier::Peak, WASMER_WORKER_PROPOSALS,
        "Wasmer 4 with LLVM, in a process of its own: the slowest compiler, and the fastest code";
    WAVM_LLVM = "wavm.llvm", WAVM_VERSION, Tier::Peak, Proposals::BASE,
        "WAVM of 2019 with LLVM 14, in a process of its own, for comparison";
    LUCET_CRANELIFT = "lucet.cranelift", LUCET_VERSION, Tier::Optimizing, LUCET_PROPOSALS,
        "Lucet of 2020 with the Cranelift of its time, in a process of its own, for comparison";
}

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
    programs: None,
    open_emulated: None,
};

/// The version that the workspace pins; a test compares it with the lock file.
const WASMTIME_VERSION: &str = "48.0.8";
/// The version that the workspace pins; a test compares it with the lock file.
const WASMER_VERSION: &str = "7.4.2";
/// The version that the workspace of the workers pins; a test compares it with the lock file there.
const WASMER_WORKER_VERSION: &str = "4.4.0";
/// The version of WAVM's source.
const WAVM_VERSION: &str = "0.0.0-prerelease";
/// The version that the worker's package pins; a test compares it with the lock file there.
const LUCET_VERSION: &str = "0.6.1";
/// The proposals that Wasmer 4 has, and that the rewriting for workers is made for.
const WASMER_WORKER_PROPOSALS: Proposals = Proposals::BASE.with(&[Proposal::Simd]);
/// What Lucet has, with what its worker adds: of the proposals that every toolchain takes for granted, all but those for
/// several results and for references.
const LUCET_PROPOSALS: Proposals = Proposals::of(&[
    Proposal::MutableGlobals,
    Proposal::SignExtension,
    Proposal::SaturatingFloatToInt,
    Proposal::BulkMemory,
]);
/// The version in the lock file; a test compares the two.
const WASMI_VERSION: &str = "2.0.0";

/// The CPU features that decide which machine code may run here, as a short stable text.
pub(crate) fn cpu_features() -> &'static str {
    static FEATURES: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let mut features = vec![std::env::consts::ARCH];
        #[cfg(target_arch = "aarch64")]
        {
            use std::arch::is_aarch64_feature_detected as has;
            let all = [("lse", has!("lse")), ("paca", has!("paca")), ("fp16", has!("fp16"))];
            features.extend(all.into_iter().filter_map(|(name, is_here)| is_here.then_some(name)));
        }
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
    fn versions_are_those_of_the_lock_files() {
        for (lock, name, version) in [
            ("Cargo.lock", "wasmtime", WASMTIME_VERSION),
            ("Cargo.lock", "wasmer", WASMER_VERSION),
            ("Cargo.lock", "wasmi", WASMI_VERSION),
            ("workers/Cargo.lock", "wasmer", WASMER_WORKER_VERSION),
            ("workers/lucet/Cargo.lock", "lucetc", LUCET_VERSION),
        ] {
            let path = format!("{}/../../{lock}", env!("CARGO_MANIFEST_DIR"));
            let entry = format!("name = \"{name}\"\nversion = \"{version}\"\n");
            let has_it = std::fs::read_to_string(path).unwrap().contains(&entry);
            assert!(has_it, "{lock} has another version of {name} than {version}");
        }
    }

    #[test]
    fn ids_are_unique() {
        for (i, known) in KNOWN.iter().enumerate() {
            assert!(KNOWN[..i].iter().all(|other| other.id != known.id), "{}", known.id);
        }
    }
}
