//! What a process gives up for good, so that a guest that has broken out of its engine is still nowhere: files and TCP
//! ports by Landlock ([`Rights`]), and system calls by seccomp ([`Calls`]).
//!
//! Both bind the calling thread and everything that it starts from then on, threads and processes alike, and nobody can
//! take them back. So a process enters them before it has threads. This crate knows nothing of WebAssembly.
#![forbid(unsafe_code)]

mod calls;
mod rights;

pub use calls::{Calls, CallsError};
pub use rights::{Kept, Rights, RightsError};
