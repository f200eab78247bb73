use std::fmt;

use remuda_model::Tier;
use serde::{Deserialize, Serialize};
use wasmparser::WasmFeatures;

/// What an engine can do, as data: the scheduler only considers engines that can run the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The WebAssembly proposals that modules for this engine may use.
    pub proposals: Proposals,
    /// How much the compiler invests.
    pub tier: Tier,
    /// Whether artifacts can be kept on disk.
    pub artifacts: bool,
    /// How a running guest is stopped.
    pub interruption: Interruption,
    /// Whether the engine makes parts ([`Engine::compile_part`](crate::Engine)), so that guests of another engine can
    /// go on in its code.
    pub parts: bool,
}

/// How a running guest is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interruption {
    /// The module is rewritten so that its code reads a flag at the head of each loop, and wherever else much work may
    /// lie ahead.
    Flag,
    /// The engine hands back control when a slice of fuel is used up.
    Fuel,
    /// The engine's process gets a signal, and is killed if it does not stop its guest.
    Signal,
    /// The guest's script itself checks whether it has to stop; only the mock engine works like this.
    Cooperative,
}

impl fmt::Display for Interruption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Flag => "flag",
            Self::Fuel => "fuel",
            Self::Signal => "signal",
            Self::Cooperative => "cooperative",
        })
    }
}

macro_rules! proposals {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $features:expr;)*) => {
        /// An extension of WebAssembly 1.0 that a module may need.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Proposal {
            $($(#[$doc])* $variant,)*
        }

        impl Proposal {
            /// All proposals.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The proposal's name in messages and tables.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The parser's flags for this proposal.
            pub(crate) fn features(self) -> WasmFeatures {
                match self {
                    $(Self::$variant => $features,)*
                }
            }
        }
    };
}

proposals! {
    /// Imported and exported globals may be mutable.
    MutableGlobals = "mutable-globals", WasmFeatures::MUTABLE_GLOBAL;
    /// `i32.extend8_s` and its kin.
    SignExtension = "sign-extension", WasmFeatures::SIGN_EXTENSION;
    /// Float-to-integer conversions that do not trap.
    SaturatingFloatToInt = "saturating-float-to-int", WasmFeatures::SATURATING_FLOAT_TO_INT;
    /// Several results and block parameters.
    MultiValue = "multi-value", WasmFeatures::MULTI_VALUE;
    /// `memory.copy`, `memory.fill`, passive segments.
    BulkMemory = "bulk-memory", WasmFeatures::BULK_MEMORY | WasmFeatures::BULK_MEMORY_OPT;
    /// `funcref`, several tables, and `externref` as far as [`Proposal::Externref`] goes.
    ReferenceTypes = "reference-types", WasmFeatures::REFERENCE_TYPES | WasmFeatures::CALL_INDIRECT_OVERLONG;
    /// `externref` and all else that a garbage collector traces: a part of reference-types that Winch does not have.
    Externref = "externref", WasmFeatures::GC_TYPES;
    /// `table.grow`: a part of reference-types that Wasmi 2.0.0 cannot be paused in.
    TableGrow = "table-grow", WasmFeatures::empty();
    /// 128-bit vectors.
    Simd = "simd", WasmFeatures::SIMD;
    /// Arithmetic in constant expressions.
    ExtendedConst = "extended-const", WasmFeatures::EXTENDED_CONST;
    /// Vector instructions whose result may differ between machines.
    RelaxedSimd = "relaxed-simd", WasmFeatures::RELAXED_SIMD;
    /// `return_call`.
    TailCall = "tail-call", WasmFeatures::TAIL_CALL;
    /// Several memories.
    MultiMemory = "multi-memory", WasmFeatures::MULTI_MEMORY;
    /// 64-bit memories and tables.
    Memory64 = "memory64", WasmFeatures::MEMORY64;
    /// Typed function references.
    FunctionReferences = "function-references", WasmFeatures::FUNCTION_REFERENCES;
    /// Structs and arrays on a managed heap.
    Gc = "gc", WasmFeatures::GC;
    /// `try_table` and `throw`.
    Exceptions = "exceptions", WasmFeatures::EXCEPTIONS;
    /// Shared memories.
    Threads = "threads", WasmFeatures::THREADS;
    /// Atomic instructions: the part of threads that is of use in a memory that is not shared.
    Atomics = "atomics", WasmFeatures::THREADS;
    /// Memories whose pages are not 64 KiB.
    CustomPageSizes = "custom-page-sizes", WasmFeatures::CUSTOM_PAGE_SIZES;
    /// 128-bit integer arithmetic.
    WideArithmetic = "wide-arithmetic", WasmFeatures::WIDE_ARITHMETIC;
    /// Components instead of modules: core modules inside, and interfaces of typed values around them.
    ComponentModel = "component-model", WasmFeatures::COMPONENT_MODEL;
    /// Functions of components that wait without holding up others, with streams and futures between them; and the
    /// interfaces that are made of them: WASI 0.3.
    ComponentModelAsync = "component-model-async", WasmFeatures::CM_ASYNC;
}

/// A set of proposals.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Proposals(u32);

impl Proposals {
    /// The proposals that every toolchain of today takes for granted. Every engine has them that remuda uses by itself.
    pub const BASE: Self = Self::of(&[
        Proposal::MutableGlobals,
        Proposal::SignExtension,
        Proposal::SaturatingFloatToInt,
        Proposal::MultiValue,
        Proposal::BulkMemory,
        Proposal::ReferenceTypes,
    ]);

    /// The set of the listed proposals.
    #[must_use]
    pub const fn of(proposals: &[Proposal]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < proposals.len() {
            bits |= 1 << proposals[i] as u32;
            i += 1;
        }
        Self(bits)
    }

    /// This set with `proposals` added.
    #[must_use]
    pub const fn with(self, proposals: &[Proposal]) -> Self {
        Self(self.0 | Self::of(proposals).0)
    }

    /// The union of this set and `other`.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// This set without the proposals of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `proposal` is in the set.
    #[must_use]
    pub const fn contains(self, proposal: Proposal) -> bool {
        self.0 & (1 << proposal as u32) != 0
    }

    /// The proposals of the set, one after the other.
    pub fn iter(self) -> impl Iterator<Item = Proposal> {
        Proposal::ALL.iter().copied().filter(move |proposal| self.contains(*proposal))
    }

    /// The parser's flags for the set, together with those of WebAssembly 1.0.
    pub(crate) fn features(self) -> WasmFeatures {
        self.iter().fold(WasmFeatures::FLOATS, |features, proposal| features | proposal.features())
    }
}

impl FromIterator<Proposal> for Proposals {
    fn from_iter<I: IntoIterator<Item = Proposal>>(iter: I) -> Self {
        iter.into_iter().fold(Self::default(), |set, proposal| set.with(&[proposal]))
    }
}

/// Writes the names with commas between them, or `none`.
impl fmt::Display for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        for (i, proposal) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            f.write_str(proposal.as_str())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
