//! The slot of one engine's artifact of one module. The artifact is in memory already, or is loaded or compiled once
//! for all requests that wait for it. How that is done stands in `make`, and which artifacts stay in memory in
//! `memory`.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use remuda_engine::{Artifact, EngineError, Known, Module, Registry};
use remuda_model::{ArtifactState, Interrupt};

use super::compile::Failure;
use super::make::{Maker, Prepared, load, make, remember};
use super::memory::{Evictable, Key, Memory};
use super::store::ArtifactStore;
use crate::time::nanoseconds;

/// About how many nanoseconds it takes to load an artifact that was never loaded yet: to open and map it, and to
/// compute a MAC over its bytes.
const LOAD_NS: u64 = 200_000;
const LOAD_NS_PER_BYTE: u64 = 1;

/// The place of one engine's artifact of one module.
pub(crate) struct Slot {
    key: Key,
    state: Mutex<State>,
    changed: Condvar,
    /// Requests that found the artifact in memory since its last turn to be evicted. They are counted here so that they
    /// need no common lock.
    uses: AtomicU64,
    /// How many processes the engine has lost to guests of this module since the last one that ended well.
    losses: AtomicU32,
    memory: Weak<Memory<Slot>>,
}

/// How many processes an engine may lose to one module in a row before it is set aside for that module. A process that is killed
/// for another reason (an administrator, a kernel short of memory) is not the module's fault; if this is too low, such
/// accidents cost the engine, and if too high, a request may take that many attempts.
const LOSSES_MAX: u32 = 3;

struct State {
    place: Place,
    /// Whether the store may have the artifact, as far as is known.
    on_disk: bool,
    /// The times that the last compile and the last load took, in nanoseconds.
    compile_ns: Option<u64>,
    load_ns: Option<u64>,
}

enum Place {
    Nowhere,
    /// A thread has been loading or compiling the artifact since then.
    InTheMaking(Instant),
    Ready(Arc<dyn Artifact>),
    Failed(EngineError),
}

/// The reason why there is no artifact.
pub(crate) enum NotPrepared {
    /// The engine cannot make or load it, now or ever.
    Engine(EngineError),
    /// The request's time was up while it waited.
    Interrupted,
}

impl Slot {
    pub(crate) fn new(key: Key, on_disk: bool, memory: Weak<Memory<Self>>) -> Self {
        let state = State { place: Place::Nowhere, on_disk, compile_ns: None, load_ns: None };
        Self {
            key,
            state: Mutex::new(state),
            changed: Condvar::new(),
            uses: AtomicU64::new(0),
            losses: AtomicU32::new(0),
            memory,
        }
    }

    /// The state of the artifact, or `None` if the engine has failed on this module.
    pub(crate) fn artifact_state(&self) -> Option<ArtifactState> {
        self.state.lock().artifact_state()
    }

    /// The time since which a thread has been loading or compiling the artifact.
    pub(crate) fn making_since(&self) -> Option<Instant> {
        self.state.lock().making_since()
    }

    /// [`Slot::artifact_state`] and [`Slot::making_since`] of the same moment.
    pub(crate) fn state(&self) -> Option<(ArtifactState, Option<Instant>)> {
        let state = self.state.lock();
        Some((state.artifact_state()?, state.making_since()))
    }

    /// The time that the compile took, in nanoseconds, if the artifact was compiled here.
    pub(crate) fn compile_ns(&self) -> Option<u64> {
        self.state.lock().compile_ns
    }

    /// Gets the artifact ready. If another thread is making it already, this waits for that thread.
    pub(crate) fn prepare(
        &self,
        maker: Maker<'_>,
        known: &'static Known,
        module: &Module,
        store: Option<&ArtifactStore>,
        interrupt: &Interrupt,
    ) -> Result<Prepared, NotPrepared> {
        let began = Instant::now();
        let mut was = None;
        let mut state = self.state.lock();
        let on_disk = loop {
            let now = if state.on_disk { ArtifactState::OnDisk } else { ArtifactState::Absent };
            match &state.place {
                Place::Ready(artifact) => {
                    self.uses.fetch_add(1, Ordering::Relaxed);
                    let waited = began.elapsed();
                    let (compile, load) = match was {
                        None => (Duration::ZERO, Duration::ZERO),
                        Some(ArtifactState::OnDisk) => (Duration::ZERO, waited),
                        Some(_) => (waited, Duration::ZERO),
                    };
                    return Ok(Prepared {
                        compile,
                        load,
                        was: was.unwrap_or(ArtifactState::InMemory),
                        ..Prepared::in_memory(Arc::clone(artifact))
                    });
                }
                Place::Failed(error) => return Err(NotPrepared::Engine(error.clone())),
                Place::Nowhere => {
                    state.place = Place::InTheMaking(began);
                    break state.on_disk;
                }
                Place::InTheMaking(_) => {
                    was.get_or_insert(now);
                    self.wait(&mut state, interrupt)?;
                }
            }
        };
        drop(state);
        let made = make(maker, known, module, store.filter(|_| on_disk));
        let mut state = self.state.lock();
        let result = match made {
            Ok(prepared) => {
                state.place = Place::Ready(Arc::clone(&prepared.artifact));
                if prepared.compiled_here {
                    // The store did not have the artifact, whatever was believed before.
                    state.on_disk = false;
                    state.compile_ns = Some(nanoseconds(prepared.compile));
                } else {
                    state.load_ns = Some(nanoseconds(prepared.load));
                }
                Ok(prepared)
            }
            Err(Failure { error, will_recur }) => {
                tracing::warn!(engine = %known.id, module = %module.digest(), %error, "engine set aside for this module");
                if will_recur && let Some(store) = store {
                    remember(store, maker.compiler.budget(maker.urgency), known, module, &error);
                }
                state.place = Place::Failed(error.clone());
                Err(NotPrepared::Engine(error))
            }
        };
        let bytes = result.as_ref().map_or(0, |prepared| prepared.artifact.memory_bytes());
        let cost_ns = state.cost_ns(bytes);
        drop(state);
        self.changed.notify_all();
        if result.is_ok()
            && let Some(memory) = self.memory.upgrade()
        {
            memory.admit(self.key, bytes, cost_ns);
        }
        result
    }

    /// Loads the artifact for a request that is only expected, if it is on disk and not worth less than what it would
    /// displace. Returns whether it is in memory because of that.
    pub(crate) fn load_expected(
        &self,
        registry: &Registry,
        known: &'static Known,
        module: &Module,
        store: Option<&ArtifactStore>,
    ) -> bool {
        let Some(store) = store else { return false };
        let mut state = self.state.lock();
        if !state.on_disk || !matches!(state.place, Place::Nowhere) {
            return false;
        }
        state.place = Place::InTheMaking(Instant::now());
        drop(state);
        let attempt = || load(&**registry.open(known.id).ok()?, known, module, store);
        let loaded = catch_unwind(AssertUnwindSafe(attempt)).ok().flatten();
        let mut state = self.state.lock();
        let Some(Prepared { artifact, load, .. }) = loaded else {
            // A request that needs the artifact compiles it.
            (state.place, state.on_disk) = (Place::Nowhere, false);
            drop(state);
            self.changed.notify_all();
            return false;
        };
        state.load_ns = Some(nanoseconds(load));
        self.arrived(state, artifact)
    }

    /// Makes the artifact of an engine that keeps none, if no thread has yet: as complete as the engine can, so that
    /// the first call finds nothing left to do. In memory, too, it counts as an artifact that is only expected to be
    /// used.
    pub(crate) fn make_expected(&self, registry: &Registry, known: &'static Known, module: &Module) -> bool {
        let mut state = self.state.lock();
        if !matches!(state.place, Place::Nowhere) {
            return false;
        }
        state.place = Place::InTheMaking(Instant::now());
        drop(state);
        let began = Instant::now();
        let attempt = || registry.open(known.id).ok()?.compile_ahead(module).ok();
        let made = catch_unwind(AssertUnwindSafe(attempt)).ok().flatten();
        let mut state = self.state.lock();
        let Some(artifact) = made else {
            // A request that needs the artifact finds out why.
            state.place = Place::Nowhere;
            drop(state);
            self.changed.notify_all();
            return false;
        };
        state.compile_ns = Some(nanoseconds(began.elapsed()));
        self.arrived(state, artifact)
    }

    /// Puts an artifact that was made or loaded for an expected request in its place. Returns whether it stays in
    /// memory.
    fn arrived(&self, mut state: MutexGuard<'_, State>, artifact: Arc<dyn Artifact>) -> bool {
        let bytes = artifact.memory_bytes();
        let cost_ns = state.cost_ns(bytes);
        state.place = Place::Ready(artifact);
        drop(state);
        self.changed.notify_all();
        self.memory.upgrade().is_some_and(|memory| memory.admit_expected(self.key, bytes, cost_ns))
    }

    /// Drops an artifact that was loaded for a request that did not come.
    pub(crate) fn release_unused(&self) {
        let Some(memory) = self.memory.upgrade() else { return };
        let mut resident = memory.resident();
        // The artifact counts as used once when it comes in; and a function with the same module may have used it.
        let is_unused = resident.uses(&self.key) == Some(1) && self.uses.load(Ordering::Relaxed) == 0;
        if !is_unused || !self.state.lock().on_disk {
            return;
        }
        resident.remove(&self.key);
        let gone = self.evict();
        drop(resident);
        drop(gone);
    }

    /// The artifact for a request, if it is in memory.
    pub(crate) fn use_in_memory(&self) -> Option<Arc<dyn Artifact>> {
        let artifact = self.in_memory()?;
        self.uses.fetch_add(1, Ordering::Relaxed);
        Some(artifact)
    }

    /// The artifact, if it is in memory. This does not count as a use.
    pub(crate) fn in_memory(&self) -> Option<Arc<dyn Artifact>> {
        match &self.state.lock().place {
            Place::Ready(artifact) => Some(Arc::clone(artifact)),
            Place::Nowhere | Place::InTheMaking(_) | Place::Failed(_) => None,
        }
    }

    /// Notes that the store has the artifact now.
    pub(crate) fn note_on_disk(&self) {
        let mut state = self.state.lock();
        state.on_disk = true;
        let Place::Ready(artifact) = &state.place else { return };
        let cost_ns = state.cost_ns(artifact.memory_bytes());
        drop(state);
        if let Some(memory) = self.memory.upgrade() {
            memory.resident().set_cost(&self.key, cost_ns);
        }
    }

    /// The reason why the engine was set aside for this module, if it was.
    pub(crate) fn failure(&self) -> Option<EngineError> {
        match &self.state.lock().place {
            Place::Failed(error) => Some(error.clone()),
            Place::Nowhere | Place::InTheMaking(_) | Place::Ready(_) => None,
        }
    }

    /// Sets the engine aside for this module.
    pub(crate) fn fail(&self, error: EngineError) {
        self.state.lock().place = Place::Failed(error);
        if let Some(memory) = self.memory.upgrade() {
            memory.resident().remove(&self.key);
        }
    }

    /// Sets the engine aside for this module because it failed on a guest. An engine that has lost its process is set aside
    /// only once that has happened too often: the module may be what kills it.
    pub(crate) fn fail_on_guest(&self, error: EngineError) {
        let is_lost = matches!(error, EngineError::Lost { .. });
        if !is_lost || self.losses.fetch_add(1, Ordering::Relaxed) + 1 >= LOSSES_MAX {
            self.fail(error);
        }
    }

    /// Notes that a guest has ended without costing the engine its process.
    pub(crate) fn note_no_loss(&self) {
        // In most hosts no process is ever lost, and then this writes nothing.
        if self.losses.load(Ordering::Relaxed) > 0 {
            self.losses.store(0, Ordering::Relaxed);
        }
    }

    /// Waits for a while for the thread that makes the artifact, unless the request's time is up.
    fn wait(&self, state: &mut MutexGuard<'_, State>, interrupt: &Interrupt) -> Result<(), NotPrepared> {
        /// The longest time that a raised interrupt can go unnoticed here.
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        self.changed.wait_for(state, LOOK_EVERY);
        if interrupt.cause().is_some() { Err(NotPrepared::Interrupted) } else { Ok(()) }
    }
}

impl Evictable for Slot {
    fn take_uses(&self) -> u64 {
        self.uses.swap(0, Ordering::Relaxed)
    }

    fn evict(&self) -> Option<Arc<dyn Artifact>> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut state.place, Place::Nowhere) {
            Place::Ready(artifact) => Some(artifact),
            other => {
                state.place = other;
                None
            }
        }
    }
}

impl State {
    fn artifact_state(&self) -> Option<ArtifactState> {
        match self.place {
            Place::Ready(_) => Some(ArtifactState::InMemory),
            Place::Failed(_) => None,
            Place::Nowhere | Place::InTheMaking(_) if self.on_disk => Some(ArtifactState::OnDisk),
            Place::Nowhere | Place::InTheMaking(_) => Some(ArtifactState::Absent),
        }
    }

    fn making_since(&self) -> Option<Instant> {
        match self.place {
            Place::InTheMaking(since) => Some(since),
            Place::Nowhere | Place::Ready(_) | Place::Failed(_) => None,
        }
    }

    /// The cost of getting the artifact back, in nanoseconds.
    fn cost_ns(&self, artifact_bytes: u64) -> u64 {
        let compile_ns = self.compile_ns.unwrap_or(u64::MAX);
        if !self.on_disk {
            return compile_ns;
        }
        let load_ns =
            self.load_ns.unwrap_or_else(|| LOAD_NS.saturating_add(artifact_bytes.saturating_mul(LOAD_NS_PER_BYTE)));
        load_ns.min(compile_ns)
    }
}
