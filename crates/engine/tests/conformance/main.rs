//! The contract of this crate, tested on every engine of the build: the promises of [`remuda_engine::Engine`] and the
//! other traits are tested through the public interface alone, so that a new adapter is tested without further work.
//!
//! Each file is a topic. Its cases are data, and one `check` runs them on every engine that can run them.

mod artifacts;
mod capabilities;
#[cfg(any(feature = "wasmtime.winch", feature = "wasmtime.cranelift"))]
mod components;
mod entries;
mod interruption;
mod limits;
mod moves;
mod outcomes;
mod output;
mod sharing;
mod stress;
mod support;
