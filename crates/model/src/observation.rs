use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{EngineId, ModuleDigest, Outcome};

/// Where an engine's artifact of a module was when a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactState {
    /// The artifact was nowhere: it had to be compiled.
    Absent,
    /// The artifact was in the store: it had to be loaded.
    OnDisk,
    /// The artifact was in memory, ready to be instantiated.
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
    /// Time from admission until a worker took the request.
    pub queue_ns: u64,
    /// Time to compile the module to an artifact.
    pub compile_ns: u64,
    /// Time to load the artifact from the store.
    pub load_ns: u64,
    /// Time to make an instance, its start function included.
    pub instantiate_ns: u64,
    /// Time of the call of the entry point, without what a component has waited for something outside.
    pub execute_ns: u64,
}

impl Phases {
    /// The time of all phases together, in nanoseconds.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.queue_ns + self.compile_ns + self.load_ns + self.instantiate_ns + self.execute_ns
    }

    /// The phases in order, with their names in `server-timing` headers and tables, and their times in nanoseconds.
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

/// One measured request. Profiles are made of these.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// The module that ran.
    pub module: ModuleDigest,
    /// The engine that ran it.
    pub engine: EngineId,
    /// How long each phase took.
    pub phases: Phases,
    /// Where the artifact was when the request came.
    pub artifact: ArtifactState,
    /// A hash of the guest's arguments: executions with different arguments tell nothing about each other.
    pub workload: u64,
    /// The size of the request's body, or of standard input, in bytes, if it was known beforehand.
    pub input_bytes: Option<u64>,
    /// The size of the guest's answer, in bytes.
    pub output_bytes: u64,
    /// How the request ended.
    pub outcome: Outcome,
    /// When the request ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}
