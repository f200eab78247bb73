//! The format of results files: JSON Lines, one record a line, each written as soon as it is known.

use std::collections::BTreeMap;
use std::io::{BufRead, Write};

use serde::{Deserialize, Serialize};

/// The version of the layout of the records below.
pub const SCHEMA: u32 = 1;

/// One line of a results file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum Record {
    /// How a run was set up: the first line of each run. A file that was resumed has several.
    Run(Run),
    /// One measured call, or one process as a whole.
    Sample(Sample),
    /// A point of the plan that could not be measured.
    Failure(Failure),
}

/// How a run was set up, and on what machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The layout's version: [`SCHEMA`].
    pub schema: u32,
    /// The run's id, which its samples carry too.
    pub run: String,
    /// The seed that the order of the measurements was drawn from.
    pub seed: u64,
    /// The command line, to be typed again.
    pub command: String,
    /// The time when the run began, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Remuda's version.
    pub remuda: String,
    /// The commit that Remuda was built from, or `unknown`; with `+changes` if there were uncommitted changes.
    pub commit: String,
    /// The machine.
    pub machine: Machine,
    /// The request for measurements, so that an unfinished run can be resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<crate::plan::Request>,
}

/// The machine that measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// A digest of the fields that do not change from run to run.
    pub fingerprint: String,
    /// The processor's own name, with family and model.
    pub cpu: String,
    /// The number of logical processors.
    pub cores: u32,
    /// The size of memory, in bytes.
    pub memory_bytes: u64,
    /// Operating system and kernel.
    pub kernel: String,
    /// The frequency governor, where the kernel shows one.
    pub governor: Option<String>,
}

/// How a guest is called in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Once, with nothing compiled and nothing known.
    Cold,
    /// Fifty times, one after the other, with nothing compiled and nothing known before.
    Fifty,
    /// Once, with the artifact and the profile of an earlier process on disk.
    Warm,
    /// Until the time no longer changes, and then some more.
    Steady,
}

/// A phase of a call, or of a process as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Of a process: from its start until its engines have started.
    Bootstrap,
    /// Of a process: until the module was read and validated.
    Deploy,
    /// Of a call: waiting for a thread.
    Queue,
    /// Of a call: making the artifact.
    Compile,
    /// Of a call: getting the artifact from the data directory.
    Load,
    /// Of a call: making an instance.
    Instantiate,
    /// Of a call: running the guest.
    Execute,
    /// Of a process: compiling, once more and in a process of its own, for its CPU time.
    Recompile,
    /// Of a call: from the request to its answer. Of a process: from its start to its end.
    Total,
}

impl Phase {
    /// The phase's name in files and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Deploy => "deploy",
            Self::Queue => "queue",
            Self::Compile => "compile",
            Self::Load => "load",
            Self::Instantiate => "instantiate",
            Self::Execute => "execute",
            Self::Recompile => "recompile",
            Self::Total => "total",
        }
    }
}

/// The identity of one point of the plan. All measurements of the point have it in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Point {
    /// The guest's name; of an external file, its stem.
    pub guest: String,
    /// The guest's suite: `polybench`, `edge`, `matmul`, `micro`, or `external`.
    pub suite: String,
    /// The module's variant, empty for the plain one.
    pub variant: String,
    /// The name of the case, that is, of the input.
    pub case: String,
    /// The engine's id; `remuda.auto` for the choice among them, `native` for the twin made by the machine's own
    /// compiler, `peer.NAME` for another program.
    pub engine: String,
    /// How the guest is called.
    pub pattern: Pattern,
}

/// One measured call of a guest, or one process as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The id of the run.
    pub run: String,
    /// The point that was measured.
    #[serde(flatten)]
    pub point: Point,
    /// SHA-256 of the module's bytes; of a native twin, of its program.
    pub digest: String,
    /// The engine's version.
    pub engine_version: String,
    /// Everything else that decides how the engine was set up.
    pub flags: String,
    /// The number of the process among the point's fresh processes, from 0.
    pub process: u32,
    /// The number of the call in its process, from 0. `None`: the process as a whole.
    pub iteration: Option<u32>,
    /// Wall time of each phase that happened, in nanoseconds.
    pub wall_ns: BTreeMap<Phase, u64>,
    /// CPU time of all threads, in nanoseconds, of the phases for which it is known.
    pub cpu_ns: BTreeMap<Phase, u64>,
    /// The most memory that the process had resident, in bytes. Only of a process as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Machine code (or what the engine has instead) in memory, in bytes. Only of a process as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code_bytes: Option<u64>,
    /// The artifact on disk, in bytes. Only of a process as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_bytes: Option<u64>,
    /// The engine that answered, if Remuda made the choice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered_by: Option<String>,
    /// The load average over the last minute when the process began.
    pub load: f64,
}

/// A point that could not be measured. Its numbers do not count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// The id of the run.
    pub run: String,
    /// The point that was to be measured.
    #[serde(flatten)]
    pub point: Point,
    /// The number of the process among the point's fresh processes, from 0.
    pub process: u32,
    /// The reason: for example a wrong output, a refused module or a crash.
    pub reason: String,
}

/// The reason why a results file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the results: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not a record.
    #[error("line {line} is not a record of results: {source}")]
    Line {
        /// The line's number, from 1.
        line: usize,
        /// The parser's message.
        source: serde_json::Error,
    },
    /// The file was written by another version.
    #[error("line {line} has schema {found}, and this version reads schema {SCHEMA}")]
    Schema {
        /// The line's number, from 1.
        line: usize,
        /// The schema in the file.
        found: u32,
    },
}

/// Writes one record as one line.
///
/// # Errors
///
/// Returns an error if the record cannot be written.
pub fn write(to: &mut impl Write, record: &Record) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    to.write_all(&line)?;
    to.flush()
}

/// Reads all records. If the last line is not complete, a crash has cut it off, and it is left out.
///
/// # Errors
///
/// Returns an error if the input cannot be read, or is not a results file.
pub fn read(from: &mut impl BufRead) -> Result<Vec<Record>, ReadError> {
    let mut records = Vec::new();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let record = match serde_json::from_slice(&line) {
            Ok(record) => record,
            Err(_) if line.last() != Some(&b'\n') => break,
            Err(source) => return Err(ReadError::Line { line: number, source }),
        };
        if let Record::Run(Run { schema, .. }) = &record
            && *schema != SCHEMA
        {
            return Err(ReadError::Schema { line: number, found: *schema });
        }
        records.push(record);
    }
    Ok(records)
}
