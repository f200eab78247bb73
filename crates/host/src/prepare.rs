//! Getting an artifact ready: in memory already, loaded from the store, or compiled, once for all who wait for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, EngineError, Known, Module, Registry};
use remuda_model::{ArtifactState, Interrupt, ModuleDigest};

use crate::execute::panic_message;
use crate::store::ArtifactStore;

/// The place of one engine's artifact of one module.
pub(crate) struct Slot {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    place: Place,
    /// Whether the store may have it, as far as is known.
    on_disk: bool,
}

enum Place {
    Nowhere,
    /// Somebody has been loading or compiling it since then.
    InTheMaking(Instant),
    Ready(Arc<dyn Artifact>),
    Failed(EngineError),
}

/// An artifact, and what it took to get it.
pub(crate) struct Prepared {
    pub(crate) artifact: Arc<dyn Artifact>,
    pub(crate) compile: Duration,
    pub(crate) load: Duration,
    /// Where it was before.
    pub(crate) was: ArtifactState,
    /// Whether this request compiled it, and did not only wait for another that did.
    pub(crate) compiled_here: bool,
}

/// Why there is no artifact.
pub(crate) enum NotPrepared {
    /// The engine cannot, now or ever.
    Engine(EngineError),
    /// The request's time was up while it waited.
    Interrupted,
}

impl Slot {
    pub(crate) fn new(on_disk: bool) -> Self {
        Self { state: Mutex::new(State { place: Place::Nowhere, on_disk }), changed: Condvar::new() }
    }

    /// Where the artifact is, or `None` if the engine has failed on this module.
    pub(crate) fn artifact_state(&self) -> Option<ArtifactState> {
        let state = self.lock();
        match state.place {
            Place::Ready(_) => Some(ArtifactState::InMemory),
            Place::Failed(_) => None,
            Place::Nowhere | Place::InTheMaking(_) if state.on_disk => Some(ArtifactState::OnDisk),
            Place::Nowhere | Place::InTheMaking(_) => Some(ArtifactState::Absent),
        }
    }

    /// Since when somebody has been loading or compiling it.
    pub(crate) fn making_since(&self) -> Option<Instant> {
        match self.lock().place {
            Place::InTheMaking(since) => Some(since),
            Place::Nowhere | Place::Ready(_) | Place::Failed(_) => None,
        }
    }

    /// Both of these.
    pub(crate) fn state(&self) -> Option<(ArtifactState, Option<Instant>)> {
        Some((self.artifact_state()?, self.making_since()))
    }

    /// Gets the artifact ready. If somebody else is at it already, waits for them.
    pub(crate) fn prepare(
        &self,
        registry: &Registry,
        known: &'static Known,
        module: &Module,
        store: Option<&ArtifactStore>,
        interrupt: &Interrupt,
    ) -> Result<Prepared, NotPrepared> {
        let began = Instant::now();
        let mut was = None;
        let mut state = self.lock();
        let on_disk = loop {
            let now = if state.on_disk { ArtifactState::OnDisk } else { ArtifactState::Absent };
            match &state.place {
                Place::Ready(artifact) => {
                    let waited = began.elapsed();
                    let (compile, load) = match was {
                        None => (Duration::ZERO, Duration::ZERO),
                        Some(ArtifactState::OnDisk) => (Duration::ZERO, waited),
                        Some(_) => (waited, Duration::ZERO),
                    };
                    return Ok(Prepared {
                        artifact: Arc::clone(artifact),
                        compile,
                        load,
                        was: was.unwrap_or(ArtifactState::InMemory),
                        compiled_here: false,
                    });
                }
                Place::Failed(error) => return Err(NotPrepared::Engine(error.clone())),
                Place::Nowhere => {
                    state.place = Place::InTheMaking(began);
                    break state.on_disk;
                }
                Place::InTheMaking(_) => {
                    was.get_or_insert(now);
                    state = self.wait(state, interrupt).ok_or(NotPrepared::Interrupted)?;
                }
            }
        };
        drop(state);
        let made = make(registry, known, module, store.filter(|_| on_disk));
        let mut state = self.lock();
        let result = match made {
            Ok(prepared) => {
                state.place = Place::Ready(Arc::clone(&prepared.artifact));
                Ok(prepared)
            }
            Err(error) => {
                tracing::warn!(engine = %known.id, module = %module.digest(), %error, "engine set aside for this module");
                state.place = Place::Failed(error.clone());
                Err(NotPrepared::Engine(error))
            }
        };
        drop(state);
        self.changed.notify_all();
        result
    }

    /// Notes that the store has the artifact now.
    pub(crate) fn is_on_disk(&self) {
        self.lock().on_disk = true;
    }

    /// Why the engine was set aside for this module, if it was.
    pub(crate) fn failure(&self) -> Option<EngineError> {
        match &self.lock().place {
            Place::Failed(error) => Some(error.clone()),
            Place::Nowhere | Place::InTheMaking(_) | Place::Ready(_) => None,
        }
    }

    /// Sets the engine aside for this module.
    pub(crate) fn fail(&self, error: EngineError) {
        self.lock().place = Place::Failed(error);
    }

    /// Waits until somebody has finished, or the request's time is up.
    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, interrupt: &Interrupt) -> Option<MutexGuard<'a, State>> {
        /// How long a raised interrupt can go unnoticed here.
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let (state, _) = self.changed.wait_timeout(state, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
        interrupt.cause().is_none().then_some(state)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Loads or compiles. A panicking compiler is a failed one.
fn make(
    registry: &Registry,
    known: &'static Known,
    module: &Module,
    store: Option<&ArtifactStore>,
) -> Result<Prepared, EngineError> {
    let attempt = || -> Result<Prepared, EngineError> {
        let engine = registry.open(known.id)?;
        if let Some(store) = store {
            let began = Instant::now();
            if let Some(stored) = store.load(module.digest(), known) {
                match engine.load(module, &stored) {
                    Ok(artifact) => {
                        return Ok(Prepared {
                            artifact,
                            compile: Duration::ZERO,
                            load: began.elapsed(),
                            was: ArtifactState::OnDisk,
                            compiled_here: false,
                        });
                    }
                    Err(error) => {
                        tracing::warn!(engine = %known.id, %error, "compiling anew what could not be loaded");
                        store.remove(module.digest(), known);
                    }
                }
            }
        }
        let began = Instant::now();
        let artifact = engine.compile(module)?;
        Ok(Prepared {
            artifact,
            compile: began.elapsed(),
            load: Duration::ZERO,
            was: ArtifactState::Absent,
            compiled_here: true,
        })
    };
    catch_unwind(AssertUnwindSafe(attempt)).unwrap_or_else(|panic| {
        Err(EngineError::Internal { engine: known.id, reason: format!("it panicked: {}", panic_message(&*panic)) })
    })
}

/// The slots of all modules on all engines, so that functions with the same module share their artifacts.
#[derive(Default)]
pub(crate) struct Slots {
    slots: Mutex<std::collections::HashMap<(ModuleDigest, remuda_model::EngineId), Arc<Slot>>>,
}

impl Slots {
    pub(crate) fn get(&self, module: ModuleDigest, known: &Known, store: Option<&ArtifactStore>) -> Arc<Slot> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry((module, known.id)).or_insert_with(|| {
            let keeps = known.capabilities.artifacts;
            Arc::new(Slot::new(keeps && store.is_some_and(|store| store.may_contain(module, known))))
        });
        Arc::clone(slot)
    }
}
