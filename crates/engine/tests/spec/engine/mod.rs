//! Engines as the suite needs them: with imports, linking and every type of value, which the contract does not have.

#[cfg(feature = "wasmer.singlepass")]
pub(crate) mod wasmer;
#[cfg(feature = "wasmi.lazy")]
pub(crate) mod wasmi;
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
pub(crate) mod wasmtime;

use std::fmt;

use remuda_engine::{Module, testing};
use remuda_model::TrapKind;

use crate::value::Value;

/// The instances of one file, which can import from each other.
pub(crate) trait WastEngine {
    /// Instantiates a module as the adapter would, rewriting included, with the imports that are registered. Returns
    /// the instance's number.
    fn instantiate(&mut self, module: &Module) -> Result<usize, Fault>;

    /// Lets later modules import the exports of `instance` from the module name `name`.
    fn register(&mut self, instance: usize, name: &str) -> Result<(), Fault>;

    /// Calls an exported function.
    fn invoke(&mut self, instance: usize, export: &str, args: &[Value]) -> Result<Vec<Value>, Fault>;

    /// Reads an exported global.
    fn global(&mut self, instance: usize, export: &str) -> Result<Value, Fault>;
}

/// What went wrong in an engine.
#[derive(Debug)]
pub(crate) enum Fault {
    /// A trap, of the kind that the adapter reports.
    Trap { kind: TrapKind, words: String },
    /// The module was refused before it could be instantiated.
    Compile(String),
    /// The module's imports are missing or have other types.
    Link(String),
    /// Anything else went wrong.
    Other(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trap { kind, words } => write!(f, "trapped: {kind} ({words})"),
            Self::Compile(words) => write!(f, "does not compile: {words}"),
            Self::Link(words) => write!(f, "does not link: {words}"),
            Self::Other(words) => f.write_str(words),
        }
    }
}

/// How much room a file's modules need together in the engine that they share.
#[derive(Clone, Copy, Default)]
pub(crate) struct Room {
    /// The number of modules.
    pub(crate) modules: usize,
    /// Whether one of them does not fit the adapter's pool.
    pub(crate) too_large_for_pool: bool,
}

impl Room {
    pub(crate) fn of<'a>(modules: impl Iterator<Item = &'a [u8]>) -> Self {
        modules.filter_map(|bytes| testing::parse(bytes.to_vec()).ok()).fold(Self::default(), |room, module| Self {
            modules: room.modules + 1,
            too_large_for_pool: room.too_large_for_pool || !fits_pool(&module),
        })
    }
}

#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
fn fits_pool(module: &Module) -> bool {
    testing::wasmtime::fits_pool(module)
}

#[cfg(not(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift")))]
fn fits_pool(_: &Module) -> bool {
    true
}
