//! Rewriting a module so that the host can stop it: a pure function over bytes.
//!
//! The new module imports one memory more, [`FLAG_MODULE`]`.`[`FLAG_FIELD`], shared, of one page. Its first byte is
//! the flag: 0 to run, anything else to stop. The code polls it:
//!
//! ```wat
//! (if (i32.atomic.load8_u $flag (i32.const 0)) (then unreachable))
//! ```
//!
//! A trap cannot be caught by the guest, and the flag cannot be written by it: no instruction, export or segment of
//! the guest can name the flag's memory. The host, which holds that memory, writes the flag from any thread, at any
//! time, and the guest traps as if it had reached an `unreachable` of its own; that the flag was set tells the host
//! which of the two it was.
//!
//! # Where it polls
//!
//! *Work* is counted in operators: those that become no machine code count 0, a call 4, what an engine may answer
//! with a call into its runtime 16, any other 1; the locals that a function sets to zero count 1 each. A poll is
//!
//! 1. at the head of every loop;
//! 2. before a direct call that goes back to a function through which a depth-first walk of the call graph is still
//!    going, unless all paths to the call have polled since the caller was entered. Every cycle of direct calls has
//!    such a call. Leaves of a recursion, half of the calls of a binary tree, so do not poll;
//! 3. before every operator whose duration only the run can tell: a call by table or reference, a call of the host,
//!    bulk operations and growth of memories, tables and arrays, allocation (the collector may run), `throw`;
//! 4. before any operator that would bring the work since the last poll above [`POLL_WORK_MAX`] on the worst path to
//!    it (the maximum over all paths, so that a poll which a branch can skip does not count), where a call counts as
//!    all that the callee may do from its entry to its first poll, or to its end. A function for which that is more
//!    than a quarter of the limit polls at its entry, and counts 0. A call of (2) counts as the quarter.
//!
//! # What follows
//!
//! Take any stretch of a run without a poll. In it, an activation that was on the stack when it began runs each of its
//! operators at most once (1), and does at most [`POLL_WORK_MAX`] of work together with the activations that begin
//! under it: these were called directly (3), have not polled, and so have not called back (2). Their calls go down an
//! acyclic graph, and their work was counted by their callers (4). Tail calls are calls here. An exception only jumps
//! ahead, to a handler that starts with the most work seen in the `try_table`. So the stretch is at most
//!
//! > frames on the stack x [`POLL_WORK_MAX`], and one operation of (3)
//!
//! The usual stretch is one turn of a loop. The worst is a return through a full stack: 512 KiB of stack hold at most
//! 32,768 frames of 16 bytes, so some 30 million operators, tens of milliseconds of a guest that was written for it.
//! Exponential call chains (f0 calls f1 twice, f1 calls f2 twice, ...) have no cycle and poll by (4).
//!
//! One operation of (3) is bounded by the caps on memory and tables, one call of the host by the host.
//! `memory.atomic.wait` on a shared memory would sleep where no poll is reached: it is refused
//! ([`InstrumentError::Waits`]). Not covered: compilation, and instantiation before the start function, both bounded
//! by the module's size.
//!
//! A shared memory of the guest's own is renumbered like any other, but Wasmtime does not ask a store's limiter when it
//! grows: a host that caps memory has to refuse the threads proposal beforehand.
//!
//! # Why this form
//!
//! The load is atomic because Cranelift (0.135) moves a plain load out of a loop without stores: it is the same value
//! as last time, as far as one thread can tell. Cranelift treats an atomic load as a fence. The load is one byte wide
//! because Winch then leaves out the check of alignment. A branch hint says that the branch is not taken, so that
//! Cranelift moves the trap out of the way. Measured alternatives that cost more: 32 bits, no hint, a second load at
//! an address made of the flag that faults instead of a branch.
//!
//! # What changes besides
//!
//! Memories that the module defines move up by one index; imported ones and everything else keep theirs. The `name`
//! section stays, without the names of labels; branch hints move along; `producers` and `target_features` stay.
//! Other custom sections go: debug information and source maps speak of offsets that are no longer there.

#![expect(
    clippy::cast_possible_truncation,
    reason = "a module is smaller than 4 GiB: its indices and offsets fit 32 bits"
)]

#[cfg(any(feature = "wasmtime.cranelift", test))]
mod component;
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift", test))]
pub(crate) mod origins;
mod rewrite;
mod scan;
#[cfg(test)]
mod tests;
mod work;

#[cfg(any(feature = "wasmtime.cranelift", test))]
pub(crate) use component::{FLAG_IMPORT, instrument_component};
use rewrite::{Renumber, Rewritten, rewrite_body, rewrite_module};
use scan::Module;

/// The module name of the flag's memory among the imports.
pub const FLAG_MODULE: &str = "remuda";
/// The field name of the flag's memory among the imports.
pub const FLAG_FIELD: &str = "interrupt";
/// The name of the flag's global among the exports of a module of [`instrument_with_global`]. WebAssembly allows any
/// name; this one no toolchain makes.
pub(crate) const FLAG_GLOBAL: &str = "\u{0}remuda interrupt";
/// Work, in operators, that one activation does between two polls at most; see the module's documentation.
pub(crate) const POLL_WORK_MAX: u32 = 1024;

/// A module that can be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instrumented {
    /// The new module. It needs the proposals multi-memory and threads. A poll is 11 bytes and a hint of about 5: a
    /// module of nothing but loops grows about sixfold.
    pub bytes: Vec<u8>,
    /// Index of the flag's memory: the number of memories that the module imported before.
    pub flag_memory: u32,
    /// Places in the code that poll.
    pub poll_points: u32,
}

/// Why a module cannot be made stoppable. All but `UnknownOperator` are the module's fault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstrumentError {
    /// The bytes are not a module, or not as far as the rewriting reads them.
    #[error("the module cannot be read: {0}")]
    Malformed(#[from] wasmparser::Error),
    /// A component holds modules of its own, which this rewriting does not look for.
    #[error("a component cannot be rewritten, only a core module")]
    Component,
    /// The component has core modules or instances in components within it, which the flag's memory does not reach.
    #[error("components within the component have core modules")]
    Nested,
    /// The import would give the guest the flag, or the module has been rewritten already.
    #[error("the module imports `{FLAG_MODULE}.{FLAG_FIELD}`, which belongs to the host")]
    ReservedImport,
    /// `memory.atomic.wait` on a shared memory sleeps where it cannot be stopped.
    #[error("function {function} waits on a shared memory and could not be stopped there")]
    Waits {
        /// Index of the function, imports counted.
        function: u32,
    },
    /// An index would come to mean the flag's memory.
    #[error("memory {memory} is used but not defined")]
    UndefinedMemory {
        /// The index.
        memory: u32,
    },
    /// The new module would be larger than it may be.
    #[error("rewritten so that it can be stopped, the module is larger than {bytes_max} bytes")]
    TooLarge {
        /// The bound.
        bytes_max: u64,
    },
    /// A call of a function that does not exist.
    #[error("function {function} is called but not defined")]
    UndefinedFunction {
        /// The index.
        function: u64,
    },
    /// The parser knows an operator that this rewriting does not: it could name a memory.
    #[error("the rewriting does not know the operator {operator}")]
    UnknownOperator {
        /// The operator as the parser prints it.
        operator: String,
    },
    /// The sections cannot be written anew.
    #[error("the module cannot be written anew: {reason}")]
    Encode {
        /// The encoder's message.
        reason: String,
    },
}

impl From<wasm_encoder::reencode::Error<InstrumentError>> for InstrumentError {
    fn from(error: wasm_encoder::reencode::Error<InstrumentError>) -> Self {
        use wasm_encoder::reencode::Error;
        match error {
            Error::UserError(error) => error,
            Error::ParseError(error) => InstrumentError::Malformed(error),
            error => InstrumentError::Encode { reason: error.to_string() },
        }
    }
}

/// Rewrites `module` so that it stops soon after its flag is set; the module's documentation says how soon.
///
/// `module` should be valid: of an invalid one comes an error or another invalid module, never a panic, and never a
/// module that reaches the flag. The same bytes always give the same bytes.
///
/// # Errors
///
/// See [`InstrumentError`]; a valid core module fails only by `ReservedImport` and `Waits`.
pub fn instrument(module: &[u8]) -> Result<Instrumented, InstrumentError> {
    instrument_within(module, u64::MAX)
}

/// Like [`instrument`], but gives up before the functions together exceed `bytes_max`.
///
/// # Errors
///
/// See [`instrument`]; and `TooLarge`.
pub(crate) fn instrument_within(module: &[u8], bytes_max: u64) -> Result<Instrumented, InstrumentError> {
    let source = module;
    let module = Module::scan(source)?;
    let mut renumber = Renumber::of(&module);
    let flag_memory = renumber.flag_memory();
    let bodies = rewrite_bodies(&module, &mut renumber, bytes_max)?;
    let poll_points = bodies.iter().map(|body| body.polls).sum();
    let bytes = rewrite_module(source, &module, &bodies, renumber)?;
    Ok(Instrumented { bytes, flag_memory, poll_points })
}

/// Like [`instrument_within`], but the flag is a mutable global, an `i32` exported as [`FLAG_GLOBAL`], and a poll is
///
/// ```wat
/// (if (global.get $flag) (then unreachable))
/// ```
///
/// For engines that compile every read of a global to a load from memory, as one-pass compilers do, and whose host can
/// write that memory while the guest runs. The new module needs no proposal that the old one did not need. Nothing of
/// the guest runs before its host can reach the flag only if it has no start function: see [`crate::start`].
///
/// `module` must be valid: in an invalid one, an index that means nothing would come to mean the flag.
///
/// # Errors
///
/// See [`instrument_within`]. A module that already exports the flag's name gives no error here, but does not validate
/// afterwards.
#[cfg(any(feature = "wasmer.singlepass", test))]
pub(crate) fn instrument_with_global(module: &[u8], bytes_max: u64) -> Result<Vec<u8>, InstrumentError> {
    let source = module;
    let module = Module::scan(source)?;
    let mut renumber = Renumber::with_global(&module);
    let bodies = rewrite_bodies(&module, &mut renumber, bytes_max)?;
    rewrite_module(source, &module, &bodies, renumber)
}

/// Rewrites all bodies, callees before callers, so that a caller knows how much work its callees do without a poll.
fn rewrite_bodies(
    module: &Module<'_>,
    renumber: &mut Renumber,
    bytes_max: u64,
) -> Result<Vec<Rewritten>, InstrumentError> {
    let poll = renumber.poll();
    let mut bodies: Vec<Option<Rewritten>> = Vec::new();
    bodies.resize_with(module.bodies.len(), || None);
    let mut bytes_left = bytes_max;
    for index in module.callees_first() {
        let callee_work = |callee: u32| Some(bodies.get(callee as usize)?.as_ref()?.work);
        let body = &module.bodies[index as usize];
        let hints = module.hints_of(index);
        let rewritten = rewrite_body(renumber, &poll, body, hints, module.imported_functions, &callee_work)?;
        bytes_left =
            bytes_left.checked_sub(rewritten.bytes.len() as u64).ok_or(InstrumentError::TooLarge { bytes_max })?;
        bodies[index as usize] = Some(rewritten);
    }
    Ok(bodies.into_iter().flatten().collect())
}
