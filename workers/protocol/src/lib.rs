//! The worker's side of the protocol in docs/workers.md, for engines that are libraries: a program implements [`Runtime`]
//! and calls [`serve`].
//!
//! A worker is one thread that runs one guest at a time. It has nothing but its socket to the host, which is file
//! descriptor 0. The host is trusted: an order that makes no sense is a fault of one of the two programs, and ends this
//! one.

mod connection;
mod host;
mod serve;
mod stop;

pub use host::{HostFunction, Type, Unwound, call};
pub use serve::{End, Failure, Integer, MachineCode, MemoryType, Runtime, serve};
pub use stop::{block_signal, stopped_at};
