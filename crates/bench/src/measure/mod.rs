//! What happens inside of a fresh process that is measured: it reads a [`Job`] on standard input, does it, and writes
//! one [`Reply`] on standard output when all is over, so that nothing is written while a clock runs.
//!
//! `calls` goes the way that `remuda serve` goes. `weigh` looks at an engine's artifact and runs no guest.

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

pub use clock::{Clocks, Times, monotonic_ns};

/// What a process is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Job {
    /// Call a guest.
    Call(CallJob),
    /// Compile a module and say what came of it.
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
    /// [`monotonic_ns`] just before the process was started.
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
    /// Where the host keeps profiles and artifacts.
    pub data_dir: PathBuf,
    /// How often.
    pub repeat: Repeat,
    /// What one call may take.
    pub timeout: Duration,
}

/// How often a guest is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Repeat {
    /// So many times.
    Times(u32),
    /// As often as it takes to leave artifacts and a profile behind.
    UntilKnown,
    /// Until the time no longer changes, and then some more.
    UntilSteady,
}

/// What a process found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reply {
    /// Of [`Job::Call`].
    Called(Called),
    /// Of [`Job::Weigh`].
    Weighed(Weight),
    /// It could not be done.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Calls that were made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Called {
    /// From the process's start until the host is open and its engines have started.
    pub bootstrap: Times,
    /// Reading and validating the module.
    pub deploy: Times,
    /// The calls, up to the first that went wrong.
    pub calls: Vec<OneCall>,
    /// The most memory that the process had resident until its last answer.
    pub peak_memory_bytes: Option<u64>,
}

/// One call.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneCall {
    /// The phases that the host measures, by their names.
    pub phases_ns: BTreeMap<String, u64>,
    /// From the request to its answer.
    pub total: Times,
    /// The engine that answered.
    pub answered_by: Option<String>,
    /// What came of it.
    pub result: CallResult,
}

/// What came of a call, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallResult {
    /// The exit code, or how else it ended.
    pub ended: Result<i32, String>,
    /// What it wrote.
    pub output: Output,
    /// The beginning of its standard error.
    pub stderr: String,
}

/// Bytes, told apart without keeping them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256.
    pub digest: String,
}

impl Output {
    /// Of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self { bytes: bytes.len() as u64, digest: remuda_model::ModuleDigest::of(bytes).to_string() }
    }
}

/// What an engine makes of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// Making it.
    pub compile: Times,
    /// What it holds on to in memory.
    pub code_bytes: u64,
    /// What goes to disk, if anything does.
    pub artifact_bytes: Option<u64>,
}

/// Does the job that comes on `input`. `policy` is what an engine's name means to the command line.
///
/// # Errors
///
/// There is no job on `input`, or the reply cannot be written. A job that fails is a reply.
pub fn in_process(
    input: &mut impl Read,
    output: &mut impl Write,
    policy: impl Fn(&str) -> anyhow::Result<Policy>,
) -> anyhow::Result<()> {
    // Whoever started this process is the only one who wants its reply.
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

/// From /proc, and not from the process's resource usage: there, a process inherits the peak of the one that started
/// it.
pub(crate) fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
