use remuda_model::{ArtifactState, EngineId, Observation};

use crate::Estimate;

/// What the observations of one function add up to, engine by engine.
#[derive(Clone, Debug, Default)]
pub struct FunctionProfile {
    engines: Vec<(EngineId, EngineProfile)>,
}

/// What the observations of one function on one engine add up to.
#[derive(Clone, Copy, Debug, Default)]
pub struct EngineProfile {
    /// Making the artifact.
    pub compile: Estimate,
    /// Getting the artifact from the store.
    pub load: Estimate,
    /// Making an instance.
    pub instantiate: Estimate,
    /// Running it.
    pub execute: Estimate,
}

/// What a request is expected to cost on one engine, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prediction {
    /// Until an artifact is in memory.
    pub ready_ns: u64,
    /// Making an instance.
    pub instantiate_ns: u64,
    /// Running it.
    pub execute_ns: u64,
}

impl Prediction {
    /// All of it.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.ready_ns.saturating_add(self.instantiate_ns).saturating_add(self.execute_ns)
    }
}

impl FunctionProfile {
    /// What is known of one engine.
    #[must_use]
    pub fn engine(&self, id: EngineId) -> Option<&EngineProfile> {
        self.engines.iter().find(|(engine, _)| *engine == id).map(|(_, profile)| profile)
    }

    /// Takes one more request into account.
    ///
    /// Requests that were cut short (interrupted, trapped, refused) tell how long an engine took to get ready, and not
    /// how long the function runs.
    pub fn observe(&mut self, observation: &Observation) {
        let profile = self.entry(observation.engine);
        let phases = &observation.phases;
        for (estimate, ns) in [(&mut profile.compile, phases.compile_ns), (&mut profile.load, phases.load_ns)] {
            if ns > 0 {
                estimate.observe(ns);
            }
        }
        if observation.outcome.is_success() {
            profile.instantiate.observe(phases.instantiate_ns);
            profile.execute.observe(phases.execute_ns);
        }
    }

    fn entry(&mut self, id: EngineId) -> &mut EngineProfile {
        let at = self.engines.iter().position(|(engine, _)| *engine == id).unwrap_or_else(|| {
            self.engines.push((id, EngineProfile::default()));
            self.engines.len() - 1
        });
        &mut self.engines[at].1
    }
}

impl EngineProfile {
    /// What a request is expected to cost, or `None` as long as the engine has never finished one.
    ///
    /// A phase that was never observed counts as nothing: where no artifact was ever loaded, say, loading looks free
    /// until it has been tried once.
    #[must_use]
    pub fn predict(&self, artifact: ArtifactState) -> Option<Prediction> {
        let ready = match artifact {
            ArtifactState::InMemory => 0,
            ArtifactState::OnDisk => self.load.ns().unwrap_or(0),
            ArtifactState::Absent => self.compile.ns().unwrap_or(0),
        };
        Some(Prediction { ready_ns: ready, instantiate_ns: self.instantiate.ns()?, execute_ns: self.execute.ns()? })
    }
}
