//! A deployed function: its module, what it may do, what is known of it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use remuda_engine::{Known, Module};
use remuda_model::ArtifactState;
use remuda_scheduler::{Candidate, Cost, Scheduler};

use crate::FunctionSpec;
use crate::prepare::Slot;

/// A function that has been deployed to a host.
pub struct Function {
    pub(crate) spec: FunctionSpec,
    pub(crate) module: Arc<Module>,
    /// The engines that are able and allowed to run it, in the order in which an unknown module tries them.
    pub(crate) engines: Vec<EngineSlot>,
    pub(crate) scheduler: Mutex<Scheduler>,
}

/// One of a function's engines, with the place for its artifact.
pub(crate) struct EngineSlot {
    pub(crate) known: &'static Known,
    pub(crate) slot: Arc<Slot>,
}

impl Function {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// As it was configured.
    #[must_use]
    pub fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    /// What it runs.
    #[must_use]
    pub fn module(&self) -> &Module {
        &self.module
    }

    pub(crate) fn scheduler(&self) -> MutexGuard<'_, Scheduler> {
        self.scheduler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The engines that have not failed on this module.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        self.engines
            .iter()
            .filter_map(|EngineSlot { known, slot }| {
                slot.artifact_state().map(|artifact| Candidate {
                    engine: known.id,
                    artifact,
                    cost: match known.capabilities.tier {
                        remuda_engine::Tier::Interpreter => Cost::Interpreted,
                        remuda_engine::Tier::Baseline | remuda_engine::Tier::Optimizing => Cost::Native,
                    },
                })
            })
            .collect()
    }

    /// Where each engine's artifact is; `None` for an engine that has failed on this module.
    pub fn artifacts(&self) -> impl Iterator<Item = (&'static Known, Option<ArtifactState>)> {
        self.engines.iter().map(|EngineSlot { known, slot }| (*known, slot.artifact_state()))
    }
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Function").field("name", &self.spec.name).finish_non_exhaustive()
    }
}
