//! The work of a fresh process that is measured. The process reads a [`Job`] on standard input, does it, and writes one
//! [`Reply`] on standard output at the end, so that nothing is written while a clock runs.
//!
//! `calls` calls a guest as `remuda serve` does. `weigh` measures an engine's artifact and runs no guest.

mod calls;
mod clock;
mod steady;
mod weigh;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::Duration;

use remuda_scheduler::Policy;
use serde::{Deserialize, Serialize};

use crate::row::Phase;

pub use clock::{Clocks, Times, monotonic_ns};

/// The work that a process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Call a guest.
    Call(CallJob),
    /// Compile a module and measure its artifact.
    Weigh {
        /// The engine's id.
        engine: String,
        /// The module.
        module: PathBuf,
    },
}

/// Calls of one guest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CallJob {
    /// The reading of [`monotonic_ns`] just before the process was started.
    pub started_ns: u64,
    /// The engine's id, or that of a choice: `remuda.auto` or `remuda.racing`.
    pub engine: String,
    /// The guest's name, which is its first argument.
    pub name: String,
    /// The module.
    pub module: PathBuf,
    /// Arguments after the name.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Option<PathBuf>,
    /// The folder in which the host keeps profiles and artifacts.
    pub data_dir: PathBuf,
    /// How often the guest is called.
    pub repeat: Repeat,
    /// Time limit of one call.
    pub timeout: Duration,
}

/// How often a guest is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeat {
    /// This number of times.
    Times(u32),
    /// As often as it takes to leave artifacts and a profile behind.
    UntilKnown,
    /// Until the time no longer changes, and then some more.
    UntilSteady,
}

/// The answer of a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The answer to [`Job::Call`].
    Called(Called),
    /// The answer to [`Job::Weigh`].
    Weighed(Weight),
    /// The job could not be done.
    Failed {
        /// The reason.
        reason: String,
    },
}

/// Calls that were made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Called {
    /// Time from the process's start until the host is open and its engines have started.
    pub bootstrap: Times,
    /// Time to read and validate the module.
    pub deploy: Times,
    /// The calls, up to the first that went wrong.
    pub calls: Vec<OneCall>,
    /// The most memory that the process had resident until its last answer, in bytes.
    pub peak_memory_bytes: Option<u64>,
}

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneCall {
    /// The phases that the host measures, by their names, in nanoseconds.
    pub phases_ns: BTreeMap<Phase, u64>,
    /// Time from the request to its answer.
    pub total: Times,
    /// The engine that answered.
    pub answered_by: Option<String>,
    /// The result.
    pub result: CallResult,
}

/// The result of a call, whether through a host or of a whole program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallResult {
    /// The exit code, or a message that says how else the call ended.
    pub ended: Result<i32, String>,
    /// What the guest wrote on standard output.
    pub output: Output,
    /// The guest's standard error; of a call through a host, only its beginning.
    pub stderr: String,
}

/// An output's size and digest, to compare it without keeping its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// The number of bytes.
    pub bytes: u64,
    /// The SHA-256 of the bytes.
    pub digest: String,
}

impl Output {
    /// Size and digest of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: remuda_model::ModuleDigest::of(bytes).to_string() }
    }
}

/// Compile time and sizes of an engine's artifact of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Time to compile the module.
    pub compile: Times,
    /// Size of the artifact in memory, in bytes.
    pub code_bytes: u64,
    /// Size of the artifact on disk, in bytes; `None` if the engine does not write one.
    pub artifact_bytes: Option<u64>,
}

/// Does the job that comes on `input`, and writes the reply to `output`. `policy` turns an engine's name, as on the
/// command line, into a policy.
///
/// # Errors
///
/// Returns an error if there is no job on `input`, or if the reply cannot be written. A job that fails is no error, but
/// a reply.
pub fn in_process(
    input: &mut impl Read,
    output: &mut impl Write,
    policy: impl Fn(&str) -> anyhow::Result<Policy>,
) -> anyhow::Result<()> {
    // Only the parent process wants the reply, so this process ends with its parent.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let done = match serde_json::from_reader(input)? {
        Job::Call(job) => policy(&job.engine).and_then(|policy| calls::make(&job, policy)).map(Reply::Called),
        Job::Weigh { engine, module } => weigh::weigh(&engine, &module).map(Reply::Weighed),
    };
    let reply = done.unwrap_or_else(|error| Reply::Failed { reason: format!("{error:#}") });
    serde_json::to_writer(&mut *output, &reply)?;
    output.flush()?;
    Ok(())
}

/// The peak of this process's resident memory, in bytes. It comes from /proc and not from the resource usage, because
/// there a process inherits the peak of its parent.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
