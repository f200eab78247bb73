//! Machine code of WebAssembly functions: read, counted, set side by side, and shown.
//!
//! [`wasm`] is the source: a module's functions, their names, loops and operators. [`function`] reads what one engine
//! made of a function: it decodes what control can reach, finds the loops, and counts ([`metrics`]). [`comparison`] sets
//! several engines' code side by side and says what follows from the counts; [`overview`] does so for a whole module.
//! [`render`] shows both. Nothing here runs code, reads files, or knows an engine.
#![forbid(unsafe_code)]

mod arm64;
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

/// The instructions of a straight run of machine code, as text. It ends where the bytes mean nothing.
#[must_use]
pub fn disassemble(architecture: Architecture, code: &[u8]) -> Vec<String> {
    let Architecture::X86_64 = architecture;
    let mut decoder = x86::X86::new(code, &|_| None);
    let mut at = 0;
    std::iter::from_fn(|| {
        let instruction = decoder.decode(at)?;
        at += u32::from(instruction.length);
        Some(instruction.text)
    })
    .collect()
}
