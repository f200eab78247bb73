//! Functions for the specification's test suite, which has to treat a module exactly as the adapters do, but with
//! imports and linking that the contract does not have; and what all tests have to know of engines. Not for hosts.

use bytes::Bytes;
use remuda_model::{ModuleDigest, ModuleLimits, TrapKind};

use crate::{Module, ModuleError, Moves, Part, Point};

/// Traps that an engine reports as those of another kind, since it has one word for both: the engine, the kind, and the
/// kind that is reported. No test may expect less of an engine than this.
pub const ONE_WORD: [(&str, TrapKind, TrapKind); 4] = [
    // "float unrepresentable in integer range"; what a division cannot represent has a word of its own.
    ("node.v8", TrapKind::IntegerOverflow, TrapKind::BadConversionToInteger),
    // "null function or function signature mismatch"
    ("node.v8", TrapKind::IndirectCallToNull, TrapKind::BadSignature),
    // The processor's own trap for both.
    ("lucet.cranelift", TrapKind::IntegerOverflow, TrapKind::IntegerDivisionByZero),
    // No function has the type of an element without one.
    ("lucet.cranelift", TrapKind::IndirectCallToNull, TrapKind::BadSignature),
];

/// Parses a module as [`Module::parse`] does, but does not check its imports.
///
/// # Errors
///
/// See [`Module::parse`].
pub fn parse(bytes: Vec<u8>) -> Result<Module, ModuleError> {
    let digest = ModuleDigest::of(&bytes);
    Module::parse_with_any_imports(Bytes::from(bytes), digest, &ModuleLimits::default())
}

/// Makes a guest ask `hook` at every point that it comes to. If the hook returns a part, this is offered from then on.
pub fn at_every_point(moves: &Moves, hook: impl FnMut(Point) -> Option<Part> + Send + 'static) {
    moves.at_every_point(hook);
}

/// Returns the same module without points, so that its guests cannot move.
pub fn without_points(module: &Module) -> Module {
    module.without_points()
}

/// What the adapter for Wasmtime does; see the functions of the same names there.
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
pub mod wasmtime {
    use remuda_model::{EngineId, TrapKind};

    use crate::Module;
    use crate::adapter::wasmtime as adapter;

    /// Wasmtime as the adapter `id` configures it, with instances from a pool or on demand.
    ///
    /// # Errors
    ///
    /// Returns an error if Wasmtime refuses the configuration on this machine.
    pub fn configured(id: EngineId, pooled: bool) -> Result<::wasmtime::Engine, ::wasmtime::Error> {
        adapter::configured(id, pooled)
    }

    /// Whether the adapter takes instances of `module` from the pool.
    #[must_use]
    pub fn fits_pool(module: &Module) -> bool {
        adapter::fits_pool(module)
    }

    /// How the adapter reports a trap; `None` if the error is not a trap.
    #[must_use]
    pub fn trap_kind(error: &::wasmtime::Error) -> Option<TrapKind> {
        adapter::trap_kind(error)
    }
}

/// What the adapter for Wasmi does; see the functions of the same names there.
#[cfg(feature = "wasmi.lazy")]
pub mod wasmi {
    use std::borrow::Cow;

    use remuda_model::TrapKind;

    use crate::adapter::wasmi as adapter;
    use crate::{Module, start};

    /// Wasmi as the adapter configures it.
    #[must_use]
    pub fn configured() -> ::wasmi::Engine {
        adapter::configured()
    }

    /// The name of the export by which the adapter calls a module's start function.
    pub const START: &str = start::EXPORT;

    /// The module as the adapter gives it to Wasmi: its start function is an export, and some `select`s are guarded.
    ///
    /// # Panics
    ///
    /// Panics if the module cannot be written anew.
    #[must_use]
    pub fn rewritten(module: &Module) -> Cow<'_, [u8]> {
        adapter::rewritten(module).expect("a valid module can be written anew")
    }

    /// How many `select`s the adapter guards.
    #[must_use]
    pub fn guarded_selects(module: &Module) -> usize {
        module.selects_on_zero().len()
    }

    /// How the adapter reports a trap; `None` if the error is not a trap.
    #[must_use]
    pub fn trap_kind(error: &::wasmi::Error) -> Option<TrapKind> {
        adapter::trap_kind(error)
    }
}

/// What the adapter for Wasmer does; see the functions of the same names there.
#[cfg(feature = "wasmer.singlepass")]
pub mod wasmer {
    use remuda_model::TrapKind;

    use crate::adapter::wasmer as adapter;
    use crate::{Module, start};

    /// The name of the export by which the adapter calls a module's start function.
    pub const START: &str = start::EXPORT;

    /// A store as the adapter makes it, but without limits.
    ///
    /// # Panics
    ///
    /// Panics if the store cannot be made on this machine.
    #[must_use]
    pub fn unlimited_store() -> ::wasmer::Store {
        adapter::unlimited_store().expect("a store without limits can be made")
    }

    /// A Wasmer engine for `module` as the adapter makes it, but without limits.
    ///
    /// # Panics
    ///
    /// Panics if the engine cannot be made on this machine.
    #[must_use]
    pub fn unlimited_engine(module: &Module) -> ::wasmer::Engine {
        let engine = adapter::configured(module.stats().code_bytes);
        adapter::unlimited(engine).expect("an engine without limits can be made")
    }

    /// The module as the adapter gives it to Wasmer.
    ///
    /// # Panics
    ///
    /// Panics if the module cannot be written anew.
    #[must_use]
    pub fn rewritten(module: &Module) -> Vec<u8> {
        adapter::rewritten(module).expect("a valid module can be written anew")
    }

    /// Compiles the module as the adapter does, for a store that it shares with other modules.
    ///
    /// # Errors
    ///
    /// Returns an error if Wasmer refuses the module.
    pub fn compile_into(store: &::wasmer::Store, module: &Module) -> Result<::wasmer::Module, String> {
        adapter::compile_into(store, module)
    }

    /// Lifts the limit on the growth of tables for the instance that was made last in `store`.
    pub fn lift_table_limit(store: &mut ::wasmer::Store) {
        adapter::lift_table_limit(store);
    }

    /// How the adapter reports a trap; `None` if the error is not a trap.
    #[must_use]
    pub fn trap_kind(error: &::wasmer::RuntimeError) -> Option<TrapKind> {
        adapter::trap_kind(error)
    }

    /// How the adapter reports a trap that happened while an instance was made; `None` if the error is not a trap.
    #[must_use]
    pub fn trap_kind_of_instantiation(error: &::wasmer::InstantiationError) -> Option<TrapKind> {
        adapter::trap_kind_of_instantiation(error)
    }
}
