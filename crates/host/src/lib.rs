//! The way of a request through the host, without HTTP: a request is [admitted](Host::submit), an engine is chosen, its
//! artifact is prepared, the guest runs, and what that cost is recorded.
//!
//! The host knows functions, engines and the scheduler. It does not know who brings the requests: a server, a command
//! line or a benchmark. Its folders are `request` (the phases of a request), `artifact` (compiled code), `learn` (what
//! was measured) and `idle` (work that no request waits for). No two of its files import each other, directly or by way
//! of others, except a file and the parts that it is split into.
#![deny(unsafe_code)]

mod artifact;
mod call;
mod config;
mod cores;
mod counters;
mod deadline;
mod explain;
mod function;
mod host;
mod idle;
#[cfg(test)]
mod layers;
mod learn;
mod module_file;
mod panics;
mod placement;
mod prepare;
mod request;
mod shared;
mod time;

pub use artifact::compile::child::{ChildError, compile_for_parent};
pub use artifact::compile::{Announce, CompileBudget, CompileNotice};
pub use artifact::store::{ArtifactFile, ArtifactStore, FileState, MadeFor, Prune, StoreError};
pub use call::{Answer, Call, CallError};
pub use config::{
    ARTIFACT_DISK_BYTES_DEFAULT, ARTIFACT_MEMORY_BYTES_DEFAULT, COMPILE_MEMORY_MIN, HostConfig, OpenError,
    WASTE_SHARE_DEFAULT,
};
pub use counters::{Counter, Counters};
pub use explain::{ExplainedEngine, Explanation};
pub use function::{Function, FunctionSpec};
pub use host::{CompileError, DeployError, Host};
pub use idle::finishing::Finishing;
pub use learn::housekeeper::NotKept;
pub use learn::profile::{ProfileError, Profiles};
pub use learn::{calibrate, profile};
pub use module_file::{ReadModuleError, decode_module, read_module};
pub use placement::lower_priority;
pub use request::admit::{Rejected, Ticket};
pub use request::inline::{Inline, InlineThread};
pub use request::reuse::Reuse;
