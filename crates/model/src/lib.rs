//! The terms that all parts of Remuda share.
//!
//! This crate knows of no engine and no I/O. It consists of plain data, the [`Gate`] between a racing guest and the host's
//! own streams, the one small synchronisation primitive that every engine has to obey, [`Interrupt`], and what becomes of
//! a thread while its guest waits, [`Waiting`].
#![forbid(unsafe_code)]

mod gate;
mod guest;
mod http;
mod id;
mod interrupt;
mod limits;
mod observation;
mod outbound;
mod outcome;
mod tier;
mod waiting;

pub use gate::{Gate, HostStream};
pub use guest::{Entry, GuestContext, GuestOutput, Preopen, Referent, Sink, Stdin, Value, ValueType};
pub use http::{Coming, HttpAnswer, HttpBody, HttpRequest, HttpResponse, Piece, Responder, StreamedResponse};
pub use id::{EngineId, ModuleDigest, RequestId};
pub use interrupt::{Cause, Interrupt, Listener};
pub use limits::{GuestLimits, ModuleLimits};
pub use observation::{ArtifactState, Observation, Phases};
pub use outbound::{NotAnOrigin, Origin, Outbound};
pub use outcome::{Limit, Outcome, TrapKind};
pub use tier::Tier;
pub use waiting::{OnWait, Waiting, on_wait, take_waited, wait_for_the_end};
