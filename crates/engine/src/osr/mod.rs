//! On-stack replacement across engines: a guest that is running goes on in better code, in the middle of its loops.
//!
//! The engine that a guest begins on keeps its stack. At a *point* (the head of a loop, the entry of a recursive
//! function) the guest asks whether there is better code for the rest of this activation. If there is, its locals are
//! handed to a function that another engine has compiled and that begins right there (a *part*), the two engines
//! work on the same memory, and when that function returns, its results are those of the activation. So only the
//! innermost function moves; those that have called it wait where they are, and move themselves when they come to a
//! point of their own. Nothing is unwound, nothing is done twice, and a call that does not move costs nothing.
//!
//! - [`places`] finds the points, in the pass that validates a module anyway.
//! - [`depart`] rewrites a module so that its guests can leave: the polls, and the code that hands locals over.
//! - [`part`] makes the module in which they go on: one function for each point, and what these call in their loops.
//!   All else stays with the engine that the guest came from, and is called there (*cold* calls). Or it has the whole module.
//! - [`moves`] is what the thread that runs a guest shares with whoever compiles for it.
//!
//! # What a part is
//!
//! A part is an ordinary module. It is instrumented, compiled, instantiated and stopped like any other; only its memory
//! is that of the guest, its data segments are empty, and its imports lead back. For a point in nested blocks, its
//! function is written by syntax alone: what is left of the innermost block, then what follows each block around it.
//! A loop around the point becomes `block { what is left of this turn } ; the loop in full`. No control-flow graph is
//! needed. In a whole part, functions are written once, and skip what comes before the loop that they are entered at.
//!
//! A part of a one-pass compiler can be left in turn: at each point it reads a byte that the host sets when there is
//! something better, and then hands its locals over as above. The engine that the guest began on runs the rest of the
//! activation elsewhere, so that parts know nothing of each other.
//!
//! # Which modules can
//!
//! Those whose state is one memory of 32 bits, numeric globals and locals, and tables that never change; see
//! [`places::Places`]. Others have no points, and are raced as before.

#[cfg(feature = "wasmi.lazy")]
pub(crate) mod depart;
#[cfg(feature = "wasi")]
pub(crate) mod frame;
pub(crate) mod moves;
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
pub(crate) mod part;
pub(crate) mod places;
#[cfg(feature = "wasi")]
mod sections;

/// The module name of what a rewritten module imports of the host.
#[cfg(feature = "wasi")]
pub(crate) const HOST: &str = "remuda";
/// The guest's memory, which the host makes so that two engines can have it.
#[cfg(feature = "wasi")]
pub(crate) const MEMORY: &str = "memory";
/// The prefix of names that only the host uses. WebAssembly allows any name; this one no toolchain makes.
#[cfg(feature = "wasi")]
macro_rules! hidden {
    ($name:literal) => {
        concat!("\u{0}remuda ", $name)
    };
}
#[cfg(feature = "wasi")]
pub(crate) use hidden;

/// A mutable global that whoever runs the guest's code has to keep in step.
#[cfg(feature = "wasi")]
pub(crate) fn global_export(index: u32) -> String {
    format!("{}{index}", hidden!("global "))
}
