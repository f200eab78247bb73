use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EngineId, ModuleDigest, Outcome};

/// Where an engine's artifact of a module was when a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactState {
    /// Nowhere: it has to be compiled.
    Absent,
    /// In the store: it has to be loaded.
    OnDisk,
    /// Ready to be instantiated.
    InMemory,
}

impl fmt::Display for ArtifactState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::OnDisk => "on disk",
            Self::InMemory => "in memory",
        })
    }
}

/// How long each phase of a request took, in nanoseconds of wall time; 0 for a phase that did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// From admission to a worker taking the request.
    pub queue_ns: u64,
    /// Making the artifact from the module's bytes.
    pub compile_ns: u64,
    /// Getting the artifact from the store.
    pub load_ns: u64,
    /// Making an instance, its start function included.
    pub instantiate_ns: u64,
    /// The entry point's call.
    pub execute_ns: u64,
}

impl Phases {
    /// All phases together.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.queue_ns + self.compile_ns + self.load_ns + self.instantiate_ns + self.execute_ns
    }

    /// The phases that have a name of their own in `server-timing` headers and tables, in order.
    #[must_use]
    pub fn named(&self) -> [(&'static str, u64); 5] {
        [
            ("queue", self.queue_ns),
            ("compile", self.compile_ns),
            ("load", self.load_ns),
            ("instantiate", self.instantiate_ns),
            ("execute", self.execute_ns),
        ]
    }
}

/// One measured request: what the profile is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The module that ran.
    pub module: ModuleDigest,
    /// The engine that ran it.
    pub engine: EngineId,
    /// How long it took.
    pub phases: Phases,
    /// Where the artifact was when the request came.
    pub artifact: ArtifactState,
    /// Which arguments the guest ran with, as a hash: executions with different arguments tell nothing of each other.
    pub workload: u64,
    /// Bytes of the request's body, or of standard input, if they were known beforehand.
    pub input_bytes: Option<u64>,
    /// Bytes that the guest answered.
    pub output_bytes: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}
