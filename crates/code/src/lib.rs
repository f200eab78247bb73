//! Machine code of WebAssembly functions: read, counted, set side by side, and shown.
//!
//! [`wasm`] is the source: a module's functions, their names, loops and operators. [`function`] reads what one engine
//! made of a function: it decodes what control can reach, finds the loops, and counts ([`metrics`]). [`comparison`] sets
//! several engines' code side by side and says what follows from the counts; [`overview`] does so for a whole module.
//! [`render`] shows both. Nothing here runs code, reads files, or knows an engine.
#![forbid(unsafe_code)]

pub mod comparison;
pub mod counting;
mod flow;
pub mod function;
mod judge;
mod machine;
pub mod metrics;
pub mod overview;
pub mod render;
pub mod wasm;
mod x86;

pub use machine::{Architecture, Class};
