//! A request's way without HTTP. The modules are the phases of a request's life, in order:
//! [`admit`](Host::submit) -> decide -> prepare -> instantiate and execute -> observe.
//!
//! The host knows functions, engines and the scheduler. It does not know who brought the request: a server, a command
//! line, a benchmark.
#![deny(unsafe_code)]

mod admit;
mod background;
mod brain;
pub mod calibrate;
mod compile;
mod counters;
mod deadline;
mod deploy;
mod execute;
mod explain;
mod finish;
mod function;
mod host;
mod load;
mod memo;
mod moving;
mod observe;
mod prepare;
mod prewarm;
pub mod profile;
mod race;
mod records;
mod store;

pub use admit::{Rejected, Ticket};
pub use background::lower_priority;
pub use compile::child::{ChildError, compile_for_parent};
pub use compile::{Announce, CompileNotice};
pub use counters::{Counter, Counters};
pub use deploy::{
    Abi, COMPILE_MEMORY_MIN, Deployment, FunctionSpec, ManifestError, ReadModuleError, ServerSettings, decode_module,
    read_module,
};
pub use execute::{Answer, Call, CallError};
pub use explain::{ExplainedEngine, Explanation};
pub use finish::Finishing;
pub use function::Function;
pub use host::{
    ARTIFACT_DISK_BYTES_DEFAULT, ARTIFACT_MEMORY_BYTES_DEFAULT, COMPILE_MEMORY_BYTES_DEFAULT, COMPILE_TIME_DEFAULT,
    CompileError, DeployError, Host, HostConfig, OpenError, WASTE_SHARE_DEFAULT,
};
pub use observe::NotKept;
pub use profile::{ProfileError, Profiles};
pub use store::{ArtifactFile, ArtifactStore, FileState, MadeFor, Prune, StoreError};
