//! Rows: what was measured of one request or one compile, as it is written to files.

use remuda_engine::Registry;
use remuda_model::{ArtifactState, EngineId, ModuleDigest, Observation, Outcome, Phases};
use serde::{Deserialize, Serialize};

/// The most nanoseconds of a phase in a row, which are eleven days: no phase takes longer, and sums of a few stay far
/// from overflowing.
const NS_MAX: u64 = 1_000_000_000_000_000;

/// The largest integer that every reader of JSON can represent.
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The time of a compile that no request waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileObservation {
    /// The module that was compiled.
    pub module: ModuleDigest,
    /// The engine that compiled it.
    pub engine: EngineId,
    /// The time that the compile took, in nanoseconds.
    pub ns: u64,
    /// The time at which the compile ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// What was measured of one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObservationRow {
    /// The engine that ran the request.
    pub engine: String,
    /// A hash of the arguments that the guest ran with, in hexadecimal.
    pub workload: String,
    /// The state of the artifact when the request came.
    pub artifact: ArtifactState,
    /// The time that the request waited for a worker, in nanoseconds.
    pub queue_ns: u64,
    /// The time to make the artifact, in nanoseconds; 0 if that did not happen.
    pub compile_ns: u64,
    /// The time to get the artifact from the store, in nanoseconds; 0 if that did not happen.
    pub load_ns: u64,
    /// The time to make an instance, in nanoseconds.
    pub instantiate_ns: u64,
    /// The time of the call itself, in nanoseconds.
    pub execute_ns: u64,
    /// Bytes of input, or `null` if they were not known beforehand.
    pub input_bytes: Option<u64>,
    /// The number of bytes that the guest answered.
    pub output_bytes: u64,
    /// Whether the guest ended as its author meant it to.
    pub success: bool,
    /// The time at which the request ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// What was measured of one compile that no request waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompileRow {
    /// The engine that compiled.
    pub engine: String,
    /// The time that the compile took, in nanoseconds.
    pub compile_ns: u64,
    /// The time at which the compile ended, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// A row of a `.runs` file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    /// A request.
    Run(ObservationRow),
    /// A compile that no request waited for.
    Compile(CompileRow),
    /// A request, as in `Run`, that the database has already.
    KnownRun(ObservationRow),
    /// A compile, as in `Compile`, that the database has already.
    KnownCompile(CompileRow),
}

impl ObservationRow {
    pub(super) fn check(&self, registry: &Registry) -> Result<(), Wrong> {
        check_engine(&self.engine, registry)?;
        if parse_workload(&self.workload).is_none() {
            return Err(wrong("workload", "is not 16 hexadecimal digits"));
        }
        for (place, ns) in [
            ("queue_ns", self.queue_ns),
            ("compile_ns", self.compile_ns),
            ("load_ns", self.load_ns),
            ("instantiate_ns", self.instantiate_ns),
            ("execute_ns", self.execute_ns),
        ] {
            at_most(place, ns, NS_MAX)?;
        }
        at_most("input_bytes", self.input_bytes.unwrap_or(0), INTEGER_MAX)?;
        at_most("output_bytes", self.output_bytes, INTEGER_MAX)?;
        at_most("unix_ms", self.unix_ms, INTEGER_MAX)
    }

    /// The row of an observation.
    pub(crate) fn of(observation: &Observation) -> Self {
        let Observation { phases, .. } = observation;
        let ns = |ns: u64| ns.min(NS_MAX);
        Self {
            engine: observation.engine.as_str().to_owned(),
            workload: format!("{:016x}", observation.workload),
            artifact: observation.artifact,
            queue_ns: ns(phases.queue_ns),
            compile_ns: ns(phases.compile_ns),
            load_ns: ns(phases.load_ns),
            instantiate_ns: ns(phases.instantiate_ns),
            execute_ns: ns(phases.execute_ns),
            input_bytes: observation.input_bytes.map(|bytes| bytes.min(INTEGER_MAX)),
            output_bytes: observation.output_bytes.min(INTEGER_MAX),
            success: observation.outcome.is_success(),
            unix_ms: observation.unix_ms.min(INTEGER_MAX),
        }
    }

    /// The row as it goes into the database, or `None` if its values make no sense.
    pub(crate) fn observation(&self, module: ModuleDigest, registry: &Registry) -> Option<Observation> {
        self.check(registry).ok()?;
        Some(Observation {
            module,
            engine: registry.find(&self.engine).ok()?.id,
            phases: Phases {
                queue_ns: self.queue_ns,
                compile_ns: self.compile_ns,
                load_ns: self.load_ns,
                instantiate_ns: self.instantiate_ns,
                execute_ns: self.execute_ns,
            },
            artifact: self.artifact,
            workload: parse_workload(&self.workload)?,
            input_bytes: self.input_bytes,
            output_bytes: self.output_bytes,
            outcome: Outcome::Exited { code: i32::from(!self.success) },
            unix_ms: self.unix_ms,
        })
    }
}

impl CompileRow {
    pub(super) fn check(&self, registry: &Registry) -> Result<(), Wrong> {
        check_engine(&self.engine, registry)?;
        at_most("compile_ns", self.compile_ns, NS_MAX)?;
        at_most("unix_ms", self.unix_ms, INTEGER_MAX)
    }

    /// The row of a compile.
    pub(crate) fn of(compile: &CompileObservation) -> Self {
        Self {
            engine: compile.engine.as_str().to_owned(),
            compile_ns: compile.ns.min(NS_MAX),
            unix_ms: compile.unix_ms.min(INTEGER_MAX),
        }
    }

    /// The compile of a row, or `None` if its values make no sense.
    pub(crate) fn compile(&self, module: ModuleDigest, registry: &Registry) -> Option<CompileObservation> {
        self.check(registry).ok()?;
        let engine = registry.find(&self.engine).ok()?.id;
        Some(CompileObservation { module, engine, ns: self.compile_ns, unix_ms: self.unix_ms })
    }
}

/// A value in a row that makes no sense.
pub(super) struct Wrong {
    pub(super) place: String,
    pub(super) problem: String,
}

pub(super) fn wrong(place: impl Into<String>, problem: impl Into<String>) -> Wrong {
    Wrong { place: place.into(), problem: problem.into() }
}

impl Wrong {
    pub(super) fn within(self, outer: &str) -> Self {
        Self { place: format!("{outer}.{}", self.place), ..self }
    }
}

fn at_most(place: &str, value: u64, max: u64) -> Result<(), Wrong> {
    if value > max { Err(wrong(place, format!("is {value}, and can be {max} at most"))) } else { Ok(()) }
}

pub(super) fn check_engine(engine: &str, registry: &Registry) -> Result<EngineId, Wrong> {
    registry.find(engine).map(|known| known.id).map_err(|error| wrong("engine", error.to_string()))
}

/// Whether `text` is this number of hexadecimal digits, as they are written: in lower case.
fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn parse_workload(text: &str) -> Option<u64> {
    if is_hex(text, 16) { u64::from_str_radix(text, 16).ok() } else { None }
}

pub(crate) fn parse_digest(text: &str) -> Option<ModuleDigest> {
    if !is_hex(text, 64) {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(ModuleDigest::from_bytes(bytes))
}
