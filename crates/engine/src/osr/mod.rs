//! On-stack replacement across engines: a guest that is running goes on in better code, in the middle of its loops.
//!
//! The engine that a guest begins on keeps its stack. At a *point* (the head of a loop, the entry of a function that
//! may run for long) the guest asks whether there is better code for the rest of this activation. If there is, its
//! locals are handed to a function that another engine has compiled and that begins right there; the module with that
//! function is a *part*. The two engines work on the same memory, and when that function returns, its results are those
//! of the activation. So only the innermost function moves. The functions that have called it wait where they are, and
//! move themselves when they come to a point of their own. Nothing is unwound, nothing is done twice, and a call that
//! does not move costs nothing.
//!
//! - [`places`] finds the points, in the pass that validates a module anyway.
//! - [`depart`] rewrites a module so that its guests can leave: the polls, and the code that hands locals over.
//! - [`part`] writes the module in which guests go on: one function for each point, and the functions that these call
//!   in their loops. All other functions stay with the engine that the guest came from, and are called there (*cold*
//!   calls). Or the part has every function of the module (a *whole* part).
//! - [`moves`] is what the thread that runs a guest shares with the threads that compile for it.
//!
//! # What a part is
//!
//! A part is an ordinary module. It is instrumented, compiled, instantiated and stopped like any other; but its memory
//! is the guest's, its active data segments are empty, and its imports lead back to the engine that the guest came
//! from. The function for a point in nested blocks is written by syntax alone: what is left of the innermost block,
//! then what follows each block around it. A loop around the point becomes `block { what is left of this turn } ; the
//! loop in full`. No control-flow graph is needed. In a whole part, functions are written once, and skip what comes
//! before the loop that they are entered at.
//!
//! A guest can leave a part of a one-pass compiler again: at each point the part reads a byte that the host sets when
//! there is something better, and then hands its locals over as above. The engine that the guest began on starts the
//! rest of the activation in the other part, so that parts know nothing of each other.
//!
//! # Which modules have points
//!
//! Modules whose state is one memory of 32 bits, numeric globals and locals, and tables that never change; see
//! [`places::Places`]. Other modules have no points, and their guests are raced without moving.

#[cfg(feature = "wasmi.lazy")]
pub(crate) mod depart;
#[cfg(feature = "wasi")]
pub(crate) mod frame;
pub(crate) mod moves;
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
pub(crate) mod part;
pub(crate) mod places;

/// The module name of what a rewritten module imports from the host.
#[cfg(feature = "wasi")]
pub(crate) const HOST: &str = "remuda";
/// The import name of the guest's memory, which the host makes so that two engines can use it.
#[cfg(feature = "wasi")]
pub(crate) const MEMORY: &str = "memory";
/// Makes a name that only the host uses, by a prefix. WebAssembly allows any name; no toolchain makes one with this
/// prefix.
#[cfg(feature = "wasi")]
macro_rules! hidden {
    ($name:literal) => {
        concat!("\u{0}remuda ", $name)
    };
}
#[cfg(feature = "wasi")]
pub(crate) use hidden;

/// The export name of a mutable global, whose value moves with the guest from engine to engine.
#[cfg(feature = "wasi")]
pub(crate) fn global_export(index: u32) -> String {
    format!("{}{index}", hidden!("global "))
}
