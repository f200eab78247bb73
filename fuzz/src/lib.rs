//! The bodies of the fuzz targets, one module each, as plain functions: `run` panics on a finding. Their input may come
//! from libFuzzer, or from a file that once broke something.
#![forbid(unsafe_code)]

#[cfg(feature = "host")]
pub mod artifact;
#[cfg(feature = "engines")]
pub mod differential;
#[cfg(feature = "host")]
pub mod manifest;
pub mod module_parse;
#[cfg(feature = "wasi")]
pub mod wasi_calls;
