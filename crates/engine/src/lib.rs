//! The contract that every engine keeps, the registry that knows all engines, and one adapter for each.
//!
//! A [`Module`] is a deployed module before any compiler has seen it: validated, within bounds, its needs and entry
//! points known. An [`Engine`] compiles it to an [`Artifact`], an artifact makes [`Instance`]s, and an instance is
//! called once. Each step is a call of its own, so that each can be timed separately. Whatever a guest does ends in an
//! [`Outcome`](remuda_model::Outcome).
//!
//! Nothing here knows of requests, functions, HTTP or the scheduler.

mod adapter;
mod capability;
mod contract;
mod instrument;
mod machine_code;
mod module;
mod osr;
mod registry;
#[cfg(feature = "wasi")]
mod sections;
mod select;
#[cfg(any(feature = "wasmi.lazy", feature = "wasmer.singlepass", feature = "worker"))]
mod start;
#[doc(hidden)]
pub mod testing;

pub use capability::{Capabilities, Interruption, Proposal, Proposals};
pub use contract::{Artifact, Called, Engine, EngineError, Idle, Instance, InstantiateError, StoredArtifact};
pub use instrument::{FLAG_FIELD, FLAG_MODULE, InstrumentError, Instrumented, instrument};
pub use machine_code::{CodeOrigin, Form, MachineCode};
pub use module::{EntryError, Findings, FunctionType, Module, ModuleError, ModuleStats};
pub use osr::moves::{Extent, Moves, Part, Stay, Whereabouts};
pub use osr::places::Point;
pub use registry::{Availability, Emulator, Instances, Known, Registry, UnknownEngine};
