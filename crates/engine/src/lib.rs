//! The contract that every engine keeps, the registry that knows them all, and one adapter for each.
//!
//! [`Module`] is what a deployed module looks like before any compiler has seen it: validated, bounded, its needs and
//! entry points known. An [`Engine`] makes an [`Artifact`] of it, an artifact makes [`Instance`]s, an instance is
//! called once. Each step is a call of its own, so that each can be timed apart, and whatever a guest does ends in an
//! [`Outcome`](remuda_model::Outcome).
//!
//! Nothing here knows of requests, functions, HTTP or the scheduler.

mod adapter;
mod capability;
mod contract;
mod instrument;
mod module;
mod osr;
mod registry;
mod select;
#[cfg(any(feature = "wasmi.lazy", feature = "wasmer.singlepass"))]
mod start;
#[doc(hidden)]
pub mod testing;

pub use capability::{Capabilities, Interruption, Proposal, Proposals};
pub use contract::{Artifact, Called, Engine, EngineError, Instance, InstantiateError, StoredArtifact};
pub use instrument::{FLAG_FIELD, FLAG_MODULE, InstrumentError, Instrumented, instrument};
pub use module::{EntryError, Findings, FunctionType, Module, ModuleError, ModuleStats};
pub use osr::moves::{Extent, Moves, Part, Stay, Whereabouts};
pub use osr::places::Point;
pub use registry::{Availability, Instances, Known, Registry, UnknownEngine};
