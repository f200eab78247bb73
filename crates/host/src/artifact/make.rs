//! Making an artifact: loading it from the store, or compiling it. That this is done once for all requests that wait is
//! seen to in `slot`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, Engine, EngineError, Known, Module, Registry, StoredArtifact};
use remuda_model::ArtifactState;

use super::compile::{CompileBudget, Compiled, Compiler, Failure, Urgency};
use super::store::{ArtifactStore, Refusal};
use crate::panics::panic_message;

/// The tools that make artifacts, and how urgent that is.
#[derive(Clone, Copy)]
pub(crate) struct Maker<'a> {
    pub(crate) registry: &'a Registry,
    pub(crate) compiler: &'a Compiler,
    pub(crate) urgency: Urgency,
}

/// An artifact, and what it took to get it.
pub(crate) struct Prepared {
    pub(crate) artifact: Arc<dyn Artifact>,
    pub(crate) compile: Duration,
    pub(crate) load: Duration,
    /// The state of the artifact before that.
    pub(crate) was: ArtifactState,
    /// Whether this request compiled the artifact, and did not only wait for another request that did.
    pub(crate) compiled_here: bool,
    /// The artifact's bytes, if they are at hand because it was just compiled.
    pub(crate) serialized: Option<StoredArtifact>,
}

impl Prepared {
    /// An artifact that was there.
    pub(crate) fn in_memory(artifact: Arc<dyn Artifact>) -> Self {
        let (compile, load) = (Duration::ZERO, Duration::ZERO);
        Self { artifact, compile, load, was: ArtifactState::InMemory, compiled_here: false, serialized: None }
    }
}

/// Loads or compiles an artifact. A compiler that panics counts as one that failed.
pub(crate) fn make(
    maker: Maker<'_>,
    known: &'static Known,
    module: &Module,
    store: Option<&ArtifactStore>,
) -> Result<Prepared, Failure> {
    let attempt = || -> Result<Prepared, Failure> {
        let engine = maker.registry.open(known.id)?;
        if let Some(loaded) = store.and_then(|store| load(&**engine, known, module, store)) {
            return Ok(loaded);
        }
        let began = Instant::now();
        let Compiled { artifact, serialized } = maker.compiler.compile(&**engine, known, module, maker.urgency)?;
        Ok(Prepared {
            artifact,
            compile: began.elapsed(),
            load: Duration::ZERO,
            was: ArtifactState::Absent,
            compiled_here: true,
            serialized,
        })
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        let reason = format!("it panicked: {}", panic_message(&*panic));
        Err(EngineError::Internal { engine: known.id, reason }.into())
    })
}

/// Loads an artifact from the store, and removes it from there if it cannot be loaded.
pub(crate) fn load(
    engine: &dyn Engine,
    known: &'static Known,
    module: &Module,
    store: &ArtifactStore,
) -> Option<Prepared> {
    let began = Instant::now();
    let stored = store.load(module.digest(), known)?;
    match engine.load(module, &stored) {
        Ok(artifact) => Some(Prepared {
            artifact,
            compile: Duration::ZERO,
            load: began.elapsed(),
            was: ArtifactState::OnDisk,
            compiled_here: false,
            serialized: None,
        }),
        Err(error) => {
            tracing::warn!(engine = %known.id, %error, "to be compiled anew, as it could not be loaded");
            store.remove(module.digest(), known);
            None
        }
    }
}

/// Notes for the next process that a compile is not worth another try.
pub(crate) fn remember(
    store: &ArtifactStore,
    budget: CompileBudget,
    known: &Known,
    module: &Module,
    error: &EngineError,
) {
    let EngineError::Compile { reason, .. } = error else { return };
    let CompileBudget { time_max, memory_bytes_max } = budget;
    let refusal = Refusal { reason: reason.clone(), time_max, memory_bytes_max };
    if let Err(error) = store.refuse(module.digest(), known, &refusal) {
        tracing::error!(%error, "cannot note that an engine was set aside; the next process will try it again");
    }
}
