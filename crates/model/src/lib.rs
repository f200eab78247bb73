//! The words that every part of Remuda shares.
//!
//! This crate knows nobody: no engine, no clock, no I/O. What stands here is plain data, and the one small
//! synchronisation primitive that every engine has to obey, [`Interrupt`].
#![forbid(unsafe_code)]

mod gate;
mod guest;
mod id;
mod interrupt;
mod limits;
mod observation;
mod outcome;
mod tier;

pub use gate::{Gate, HostStream};
pub use guest::{Entry, GuestContext, GuestOutput, Preopen, Referent, Sink, Stdin, Value, ValueType};
pub use id::{EngineId, ModuleDigest, RequestId};
pub use interrupt::{Cause, Interrupt, Listener};
pub use limits::{GuestLimits, ModuleLimits};
pub use observation::{ArtifactState, Observation, Phases};
pub use outcome::{Limit, Outcome, TrapKind};
pub use tier::Tier;
