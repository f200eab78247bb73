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
    /// What was counted in simulated caches and predictors.
    Simulation(Box<Simulation>),
    /// What the processor's own counters counted.
    Counters(Counters),
    /// Why there is nothing that the processor's own counters counted.
    NoCounters(NoCounters),
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

/// What one call of a guest did to simulated caches and branch predictors (`docs/microarchitecture.md`). Only the guest's own
/// machine code counts. Unlike a time, a count is the same whenever the same code has the same input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Simulation {
    /// The id of the run.
    pub run: String,
    /// The point that was counted.
    #[serde(flatten)]
    pub point: Point,
    /// SHA-256 of the module's bytes; of a native twin, of its program.
    pub digest: String,
    /// The engine's version.
    pub engine_version: String,
    /// The instruction set, as qemu calls it: `x86_64` or `aarch64`.
    pub target: String,
    /// Instructions.
    pub instructions: u64,
    /// Loads.
    pub loads: u64,
    /// Stores.
    pub stores: u64,
    /// Conditional branches.
    pub conditional_branches: u64,
    /// Conditional branches that were taken.
    pub taken_branches: u64,
    /// Instruction caches, each of which has seen all fetches.
    pub instruction_caches: Vec<SimulatedCache>,
    /// Data caches, each of which has seen all loads and stores.
    pub data_caches: Vec<SimulatedCache>,
    /// Predictors, each of which has seen all branches.
    pub predictors: Vec<SimulatedPredictor>,
    /// Taken branches of which the branch target buffer knew no target, or a wrong one.
    pub target_buffer_misses: Option<u64>,
    /// Returns that the return address stack had predicted wrongly.
    pub return_stack_misses: Option<u64>,
    /// The blocks of code with the most executed instructions.
    pub hottest: Vec<HotCode>,
}

/// What the processor's own counters counted of one call of a guest: of the process or thread that ran the guest, in user mode.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// The id of the run.
    pub run: String,
    /// The point that was counted.
    #[serde(flatten)]
    pub point: Point,
    /// The events, each with its count.
    pub events: Vec<remuda_microarch::counters::EventCount>,
}

/// A machine without hardware counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoCounters {
    /// The id of the run.
    pub run: String,
    /// Why there are none.
    pub reason: String,
}

/// A simulated cache, and its misses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedCache {
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The size of a line in bytes.
    pub line_bytes: u32,
    /// The lines of a set.
    pub ways: u32,
    /// Accesses that missed.
    pub misses: u64,
}

/// A simulated predictor, and what it predicted wrongly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SimulatedPredictor {
    /// Its name, as the plugin's argument has it.
    pub name: String,
    /// The memory that it learns in, in bits.
    pub bits: u64,
    /// Conditional branches that it predicted wrongly.
    pub mispredictions: u64,
}

/// A straight run of machine code that was executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotCode {
    /// The address of its first byte.
    pub start: u64,
    /// Its bytes, in hexadecimal.
    pub code: String,
    /// How many instructions it has.
    pub instructions: u64,
    /// How often it was executed.
    pub executions: u64,
}

impl Simulation {
    /// How many of the hottest blocks are written down: enough for a kernel's innermost loop, of which optimizing compilers make
    /// several copies.
    const HOTTEST_MAX: usize = 12;

    /// What a report says of a point.
    #[must_use]
    pub fn new(run: &str, point: Point, digest: &str, engine_version: &str, report: &remuda_microarch::Report) -> Self {
        let caches = |caches: &[remuda_microarch::CacheResult]| {
            let cache = |cache: &remuda_microarch::CacheResult| SimulatedCache {
                size_bytes: cache.config.size_bytes,
                line_bytes: cache.config.line_bytes,
                ways: cache.config.ways,
                misses: cache.counts.misses(),
            };
            caches.iter().map(cache).collect()
        };
        let predictor = |predictor: &remuda_microarch::PredictorResult| SimulatedPredictor {
            name: predictor.config.name().to_owned(),
            bits: predictor.config.bits(),
            mispredictions: predictor.counts.mispredictions,
        };
        let hot = |block: &remuda_microarch::HotBlock| HotCode {
            start: block.start,
            code: block.code.clone(),
            instructions: block.instructions,
            executions: block.executions,
        };
        let wrong = |buffer: &remuda_microarch::TargetBufferResult| buffer.counts.misses + buffer.counts.wrong_targets;
        Self {
            run: run.to_owned(),
            point,
            digest: digest.to_owned(),
            engine_version: engine_version.to_owned(),
            target: report.target.clone(),
            instructions: report.instructions,
            loads: report.loads,
            stores: report.stores,
            conditional_branches: report.conditional_branches,
            taken_branches: report.taken_branches,
            instruction_caches: caches(&report.instruction_caches),
            data_caches: caches(&report.data_caches),
            predictors: report.predictors.iter().map(predictor).collect(),
            target_buffer_misses: report.target_buffer.as_ref().map(wrong),
            return_stack_misses: report.return_stack.as_ref().map(|stack| stack.counts.mispredictions),
            hottest: report.hottest.iter().take(Self::HOTTEST_MAX).map(hot).collect(),
        }
    }
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
