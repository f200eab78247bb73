//! The child process that compiles one module for its parent.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsFd;
use std::time::Instant;

use remuda_engine::{EngineError, Instances, Module, Registry};
use remuda_model::ModuleLimits;
use remuda_sandbox::{Calls, Rights};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit};

use crate::artifact::seal::Key;
use crate::artifact::store::file::{self, Made};
use crate::time::nanoseconds;

/// The file that tells a kernel that is short of memory which process to end first.
const OOM_SCORE: (&str, &str) = ("/proc/self/oom_score_adj", "1000");

/// No bounds: the parent has held the module to its bounds already.
const BOUNDLESS: ModuleLimits = ModuleLimits {
    module_bytes_max: u64::MAX,
    function_bytes_max: u64::MAX,
    functions_max: u32::MAX,
    locals_max: u32::MAX,
    nesting_max: u32::MAX,
    types_max: u32::MAX,
    imports_and_exports_max: u32::MAX,
    segments_max: u32::MAX,
    memories_and_tables_max: u32::MAX,
    globals_max: u32::MAX,
};

/// The reason why a compile in a child came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The module is the reason. This ends the child with [`ChildError::EXIT_REFUSED`].
    #[error("{0}")]
    Refused(String),
    /// Anything else is the reason.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ChildError {
    /// The exit code of a child whose engine does not compile the module; standard error says why, and nothing else.
    pub const EXIT_REFUSED: u8 = 3;
}

/// A limit for this process, or for a child of it, which has the same limits. The limit is never above the one that
/// holds already.
pub(super) fn limit(resource: Resource, value: u64) -> Rlimit {
    let value = getrlimit(resource).maximum.map_or(value, |maximum| maximum.min(value));
    Rlimit { current: Some(value), maximum: Some(value) }
}

/// Compiles one module for the process that started this one: reads a key and the module from `input`, and writes the
/// artifact, sealed with the key, to `output`.
///
/// # Errors
///
/// Returns an error if the engine cannot compile the module, or if a stream fails.
pub fn compile_for_parent(
    engine: &str,
    threads: usize,
    memory_bytes_max: Option<u64>,
    input: impl AsFd,
    output: impl AsFd,
) -> Result<(), ChildError> {
    if let Some(bytes) = memory_bytes_max {
        setrlimit(Resource::Data, limit(Resource::Data, bytes)).map_err(io::Error::from)?;
    }
    // When the parent has died, nobody is left who wants the artifact.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    rustix::thread::set_no_new_privs(true).map_err(io::Error::from)?;
    // A compile can be repeated; other work on this machine perhaps cannot. This is useful, but not necessary.
    let _ = std::fs::write(OOM_SCORE.0, OOM_SCORE.1);
    // No instance is ever made here.
    let registry = Registry::new(Instances::OnDemand);
    let known = registry.find(engine).map_err(io::Error::other)?;
    // Beside its input and output, it keeps what an engine reads to start.
    Rights::to_start(known.programs()).read(["/proc", "/sys"]).enter().map_err(io::Error::other)?;
    let mut input = File::from(input.as_fd().try_clone_to_owned()?);
    let output = File::from(output.as_fd().try_clone_to_owned()?);
    let (mut key, mut bytes) = (Key::default(), Vec::new());
    input.read_exact(&mut key)?;
    input.read_to_end(&mut bytes)?;

    let engine = registry.open(known.id).map_err(io::Error::other)?;
    let _pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .use_current_thread()
        .build()
        .map_err(io::Error::other)?;
    // From here on the child only computes: it can open no file and no socket, and start no process. What compiles in a
    // process of its own needs a socket to that, and files to start it. That process has neither.
    if !known.has_workers() {
        setrlimit(Resource::Nofile, limit(Resource::Nofile, 0)).map_err(io::Error::from)?;
        // A kernel without this has the limit above all the same.
        let _ = Calls::Computation.enter_with_all_threads();
    }

    let module = Module::parse(bytes, &BOUNDLESS).map_err(io::Error::other)?;
    let began = Instant::now();
    let refused = |error| match error {
        EngineError::Compile { reason, .. } => ChildError::Refused(reason),
        other => ChildError::Refused(other.to_string()),
    };
    let artifact = engine.compile(&module).and_then(|artifact| artifact.serialize()).map_err(refused)?;
    let artifact = artifact.ok_or_else(|| io::Error::other("the engine has no artifacts"))?;
    let made = Made::new(module.digest(), known, nanoseconds(began.elapsed()));
    Ok(file::write(output, &key, &artifact, &made)?)
}
