//! Getting an artifact ready: in memory already, loaded from the store, or compiled, once for all who wait for it. What
//! is in memory stays there within a budget.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, Engine, EngineError, Known, Module, Registry, StoredArtifact};
use remuda_model::{ArtifactState, EngineId, Interrupt, ModuleDigest};
use remuda_scheduler::{GreedyDual, WorthLess};

use crate::compile::{Budget, Compiled, Compiler, Failure, Urgency};
use crate::execute::{nanoseconds, panic_message};
use crate::store::{ArtifactStore, Refusal};

/// What it takes to load an artifact that was never loaded yet, about: opening and mapping it, and a MAC over its bytes.
const LOAD_NS: u64 = 200_000;
const LOAD_NS_PER_BYTE: u64 = 1;

/// The place of one engine's artifact of one module.
pub(crate) struct Slot {
    key: Key,
    state: Mutex<State>,
    changed: Condvar,
    /// Requests that found it in memory since its last turn to be evicted. Counted here so that they need no common lock.
    uses: AtomicU64,
    memory: Weak<Memory>,
}

type Key = (ModuleDigest, EngineId);

struct State {
    place: Place,
    /// Whether the store may have it, as far as is known.
    on_disk: bool,
    /// What it took the last time to compile it, and to load it.
    compile_ns: Option<u64>,
    load_ns: Option<u64>,
}

enum Place {
    Nowhere,
    /// Somebody has been loading or compiling it since then.
    InTheMaking(Instant),
    Ready(Arc<dyn Artifact>),
    Failed(EngineError),
}

/// Who makes artifacts, and for whom.
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
    /// Where it was before.
    pub(crate) was: ArtifactState,
    /// Whether this request compiled it, and did not only wait for another that did.
    pub(crate) compiled_here: bool,
    /// Its bytes, if they are at hand because it was just compiled.
    pub(crate) serialized: Option<StoredArtifact>,
}

/// Why there is no artifact.
pub(crate) enum NotPrepared {
    /// The engine cannot, now or ever.
    Engine(EngineError),
    /// The request's time was up while it waited.
    Interrupted,
}

impl Slot {
    fn new(key: Key, on_disk: bool, memory: Weak<Memory>) -> Self {
        let state = State { place: Place::Nowhere, on_disk, compile_ns: None, load_ns: None };
        Self { key, state: Mutex::new(state), changed: Condvar::new(), uses: AtomicU64::new(0), memory }
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

    /// What it took to compile it, if that was done here.
    pub(crate) fn compile_ns(&self) -> Option<u64> {
        self.lock().compile_ns
    }

    /// Gets the artifact ready. If somebody else is at it already, waits for them.
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
        let mut state = self.lock();
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
                        artifact: Arc::clone(artifact),
                        compile,
                        load,
                        was: was.unwrap_or(ArtifactState::InMemory),
                        compiled_here: false,
                        serialized: None,
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
        let made = make(maker, known, module, store.filter(|_| on_disk));
        let mut state = self.lock();
        let result = match made {
            Ok(prepared) => {
                state.place = Place::Ready(Arc::clone(&prepared.artifact));
                if prepared.compiled_here {
                    // The store did not have it, whatever was believed before.
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
    /// displace. Says whether it is in memory because of that.
    pub(crate) fn load_expected(
        &self,
        registry: &Registry,
        known: &'static Known,
        module: &Module,
        store: Option<&ArtifactStore>,
    ) -> bool {
        let Some(store) = store else { return false };
        let mut state = self.lock();
        if !state.on_disk || !matches!(state.place, Place::Nowhere) {
            return false;
        }
        state.place = Place::InTheMaking(Instant::now());
        drop(state);
        let attempt = || load(&**registry.open(known.id).ok()?, known, module, store);
        let loaded = catch_unwind(AssertUnwindSafe(attempt)).ok().flatten();
        let mut state = self.lock();
        let Some(Prepared { artifact, load, .. }) = loaded else {
            // Whoever needs it compiles it.
            (state.place, state.on_disk) = (Place::Nowhere, false);
            drop(state);
            self.changed.notify_all();
            return false;
        };
        state.load_ns = Some(nanoseconds(load));
        self.arrived(state, artifact)
    }

    /// Makes the artifact of an engine that keeps none, if nobody has yet: as complete as the engine can, so that the first
    /// call finds nothing left to do. It has the place of what is only expected, too.
    pub(crate) fn make_expected(&self, registry: &Registry, known: &'static Known, module: &Module) -> bool {
        let mut state = self.lock();
        if !matches!(state.place, Place::Nowhere) {
            return false;
        }
        state.place = Place::InTheMaking(Instant::now());
        drop(state);
        let began = Instant::now();
        let attempt = || registry.open(known.id).ok()?.compile_ahead(module).ok();
        let made = catch_unwind(AssertUnwindSafe(attempt)).ok().flatten();
        let mut state = self.lock();
        let Some(artifact) = made else {
            // Whoever needs it finds out why.
            state.place = Place::Nowhere;
            drop(state);
            self.changed.notify_all();
            return false;
        };
        state.compile_ns = Some(nanoseconds(began.elapsed()));
        self.arrived(state, artifact)
    }

    /// What was made or loaded for an expected request is there. Says whether it stays.
    fn arrived(&self, mut state: MutexGuard<'_, State>, artifact: Arc<dyn Artifact>) -> bool {
        let bytes = artifact.memory_bytes();
        let cost_ns = state.cost_ns(bytes);
        state.place = Place::Ready(artifact);
        drop(state);
        self.changed.notify_all();
        self.memory.upgrade().is_some_and(|memory| memory.admit_expected(self.key, bytes, cost_ns))
    }

    /// Lets go of an artifact that was loaded for a request that did not come.
    pub(crate) fn release_unused(&self) {
        let Some(memory) = self.memory.upgrade() else { return };
        let mut resident = memory.resident();
        // It counts as used once when it comes in; and another function may have the same module.
        let is_unused = resident.uses(&self.key) == Some(1) && self.uses.load(Ordering::Relaxed) == 0;
        if !is_unused || !self.lock().on_disk {
            return;
        }
        resident.remove(&self.key);
        let gone = self.evict();
        drop(resident);
        drop(gone);
    }

    /// The artifact, if it is in memory. That is no use of it.
    pub(crate) fn in_memory(&self) -> Option<Arc<dyn Artifact>> {
        match &self.lock().place {
            Place::Ready(artifact) => Some(Arc::clone(artifact)),
            Place::Nowhere | Place::InTheMaking(_) | Place::Failed(_) => None,
        }
    }

    /// Notes that the store has the artifact now.
    pub(crate) fn is_on_disk(&self) {
        let mut state = self.lock();
        state.on_disk = true;
        let Place::Ready(artifact) = &state.place else { return };
        let cost_ns = state.cost_ns(artifact.memory_bytes());
        drop(state);
        if let Some(memory) = self.memory.upgrade() {
            memory.resident().set_cost(&self.key, cost_ns);
        }
    }

    /// Lets go of the artifact and returns it; requests that run it keep it until they end.
    fn evict(&self) -> Option<Arc<dyn Artifact>> {
        let mut state = self.lock();
        match std::mem::replace(&mut state.place, Place::Nowhere) {
            Place::Ready(artifact) => Some(artifact),
            other => {
                state.place = other;
                None
            }
        }
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
        if let Some(memory) = self.memory.upgrade() {
            memory.resident().remove(&self.key);
        }
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

impl State {
    /// What it would take to get the artifact back.
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

/// Loads or compiles. A panicking compiler is a failed one.
fn make(
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

/// Loads from the store, and takes out of it what cannot be loaded.
fn load(engine: &dyn Engine, known: &'static Known, module: &Module, store: &ArtifactStore) -> Option<Prepared> {
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
fn remember(store: &ArtifactStore, budget: Budget, known: &Known, module: &Module, error: &EngineError) {
    let EngineError::Compile { reason, .. } = error else { return };
    let Budget { time_max, memory_bytes_max } = budget;
    let refusal = Refusal { reason: reason.clone(), time_max, memory_bytes_max };
    if let Err(error) = store.refuse(module.digest(), known, &refusal) {
        tracing::error!(%error, "cannot note that an engine was set aside; the next process will try it again");
    }
}

/// The slots of all modules on all engines, so that functions with the same module share their artifacts.
pub(crate) struct Slots {
    memory: Arc<Memory>,
}

/// Which artifacts are in memory, under a budget. When it is spent, those with the least [`GreedyDual`] credit go.
struct Memory {
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    /// Locked before a slot, never while one is locked.
    resident: Mutex<GreedyDual<Key>>,
}

impl Slots {
    pub(crate) fn new(memory_budget_bytes: u64) -> Self {
        let resident = Mutex::new(GreedyDual::new(memory_budget_bytes));
        Self { memory: Arc::new(Memory { slots: Mutex::default(), resident }) }
    }

    /// The place of a module's artifact on an engine, which may have been set aside for it by an earlier process.
    pub(crate) fn get_unless_refused(
        &self,
        module: ModuleDigest,
        known: &Known,
        store: Option<&ArtifactStore>,
        budget: Budget,
    ) -> Arc<Slot> {
        let slot = self.get(module, known, store);
        if slot.artifact_state() == Some(ArtifactState::Absent)
            && slot.making_since().is_none()
            && let Some(Refusal { reason, time_max, memory_bytes_max }) =
                store.and_then(|store| store.refusal(module, known))
            && budget.time_max <= time_max
            && budget.memory_bytes_max <= memory_bytes_max
        {
            let way_out = "tried less than a day ago; `remuda cache prune --all` forgets that";
            slot.fail(EngineError::Compile { engine: known.id, reason: format!("{reason} ({way_out})") });
        }
        slot
    }

    pub(crate) fn get(&self, module: ModuleDigest, known: &Known, store: Option<&ArtifactStore>) -> Arc<Slot> {
        let key = (module, known.id);
        let mut slots = self.memory.slots();
        let slot = slots.entry(key).or_insert_with(|| {
            let on_disk = known.capabilities.artifacts && store.is_some_and(|store| store.may_contain(module, known));
            Arc::new(Slot::new(key, on_disk, Arc::downgrade(&self.memory)))
        });
        Arc::clone(slot)
    }
}

impl Memory {
    /// Counts an artifact that has come into memory, and lets others go if there are too many.
    fn admit(&self, key: Key, bytes: u64, cost_ns: u64) {
        let mut resident = self.resident();
        let slots = self.slots();
        let uses_since = |key: &Key| slots.get(key).map_or(0, |slot| slot.uses.swap(0, Ordering::Relaxed));
        let evicted = resident.insert_counting(key, bytes, cost_ns, uses_since);
        // While `resident` is locked: nobody can have made one of them again.
        let gone: Vec<_> = evicted.iter().filter_map(|key| slots.get(key)?.evict()).collect();
        drop(slots);
        drop(resident);
        if !gone.is_empty() {
            tracing::debug!(evicted = gone.len(), "artifacts left the memory, which its budget demands");
        }
        // Here at last the memory is given back, with no lock held.
        drop(gone);
    }

    /// As [`Memory::admit`], for what is only expected to be used: it displaces nothing that is worth more. Says whether it
    /// is in.
    fn admit_expected(&self, key: Key, bytes: u64, cost_ns: u64) -> bool {
        let mut resident = self.resident();
        let slots = self.slots();
        let uses_since = |key: &Key| slots.get(key).map_or(0, |slot| slot.uses.swap(0, Ordering::Relaxed));
        let (evicted, is_in) = match resident.insert_expected(key, bytes, cost_ns, uses_since) {
            Ok(evicted) => (evicted, true),
            Err(WorthLess) => (vec![key], false),
        };
        let gone: Vec<_> = evicted.iter().filter_map(|key| slots.get(key)?.evict()).collect();
        drop(slots);
        drop(resident);
        drop(gone);
        is_in
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn resident(&self) -> MutexGuard<'_, GreedyDual<Key>> {
        self.resident.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use remuda_model::{Entry, GuestContext, GuestLimits, ModuleLimits, Outcome};

    use super::*;
    use crate::compile::tests as tests_of_compile;

    /// What the mock engine's artifacts say of themselves.
    const ARTIFACT_BYTES: u64 = 32;

    fn mock() -> &'static Known {
        Registry::default().find("mock").unwrap()
    }

    fn module(i: u32) -> Module {
        let text = format!("(module (func (export \"_start\")) (func (export \"f{i}\")))");
        Module::parse(wat::parse_str(text).unwrap(), &ModuleLimits::default()).unwrap()
    }

    /// Makes the artifact of a module ready.
    fn prepare(slots: &Slots, module: &Module, store: Option<&ArtifactStore>) -> Prepared {
        let slot = slots.get(module.digest(), mock(), store);
        let (registry, compiler) = (Registry::default(), Compiler::in_process());
        let maker = Maker { registry: &registry, compiler: &compiler, urgency: Urgency::Request };
        let prepared = slot.prepare(maker, mock(), module, store, &Interrupt::new());
        assert!(slot.making_since().is_none());
        prepared.unwrap_or_else(|_| panic!("the mock engine compiles anything"))
    }

    fn states(slots: &Slots, modules: &[Module]) -> Vec<ArtifactState> {
        let state = |module: &Module| slots.get(module.digest(), mock(), None).artifact_state();
        modules.iter().map(|module| state(module).unwrap()).collect()
    }

    #[test]
    fn the_memory_budget_holds_and_use_keeps_an_artifact() {
        let slots = Slots::new(3 * ARTIFACT_BYTES - 1);
        let modules: Vec<_> = (0..3).map(module).collect();
        for module in &modules[..2] {
            assert!(prepare(&slots, module, None).compiled_here);
            // Instead of what the clock said.
            slots.memory.resident().set_cost(&(module.digest(), mock().id), 1000);
        }
        for _ in 0..5 {
            assert_eq!(prepare(&slots, &modules[0], None).was, ArtifactState::InMemory);
        }
        prepare(&slots, &modules[2], None);
        assert_eq!(
            states(&slots, &modules),
            [ArtifactState::InMemory, ArtifactState::Absent, ArtifactState::InMemory],
            "the second was never used again"
        );
        for i in 0..100 {
            prepare(&slots, &modules[i % 3], None);
            let in_memory = states(&slots, &modules).iter().filter(|state| **state == ArtifactState::InMemory).count();
            assert_eq!(in_memory, 2);
            assert_eq!(slots.memory.resident().used_bytes(), 2 * ARTIFACT_BYTES);
        }
    }

    #[test]
    fn an_evicted_artifact_runs_on_and_is_given_back_after_its_last_request() {
        let slots = Slots::new(ARTIFACT_BYTES);
        let modules = [module(0), module(1)];
        let running = prepare(&slots, &modules[0], None).artifact;
        prepare(&slots, &modules[1], None);
        assert_eq!(states(&slots, &modules), [ArtifactState::Absent, ArtifactState::InMemory]);
        let weak = Arc::downgrade(&running);
        let context = GuestContext { args: vec!["a".into(), "--exit".into(), "7".into()], ..GuestContext::default() };
        let instance = running.instantiate(&context, &GuestLimits::default(), &Interrupt::new());
        let called = instance.ok().unwrap().call(&Entry::Command).unwrap();
        assert_eq!(called.outcome, Outcome::Exited { code: 7 });
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn without_any_budget_each_request_makes_its_own() {
        let slots = Slots::new(0);
        let module = module(0);
        for _ in 0..3 {
            assert!(prepare(&slots, &module, None).compiled_here);
            assert_eq!(states(&slots, std::slice::from_ref(&module)), [ArtifactState::Absent]);
        }
    }

    #[test]
    fn what_left_the_memory_comes_back_from_the_disk_as_long_as_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(dir.path(), 1 << 20).unwrap();
        let slots = Slots::new(ARTIFACT_BYTES);
        let modules = [module(0), module(1)];
        for module in &modules {
            let prepared = prepare(&slots, module, Some(&store));
            let bytes = prepared.artifact.serialize().unwrap().unwrap();
            store.save(module.digest(), mock(), &bytes, 1).unwrap();
            slots.get(module.digest(), mock(), Some(&store)).is_on_disk();
        }
        assert_eq!(states(&slots, &modules), [ArtifactState::OnDisk, ArtifactState::InMemory]);
        let loaded = prepare(&slots, &modules[0], Some(&store));
        assert!(!loaded.compiled_here && loaded.was == ArtifactState::OnDisk);
        assert_eq!(states(&slots, &modules), [ArtifactState::InMemory, ArtifactState::OnDisk]);
        // Another process evicts it meanwhile.
        store.remove(modules[1].digest(), mock());
        let compiled = prepare(&slots, &modules[1], Some(&store));
        assert!(compiled.compiled_here && compiled.was == ArtifactState::Absent);
    }

    /// A compiler that notes in a file that it was started, and then does what `script` says.
    struct Fake {
        dir: tempfile::TempDir,
        compiler: Compiler,
    }

    const BUDGET: Budget = Budget { time_max: Duration::from_mins(1), memory_bytes_max: 1 << 30 };

    impl Fake {
        fn new(script: &str) -> Self {
            let (dir, program) = tests_of_compile::fake(&format!("echo started >> \"${{0%/*}}/starts\"\n{script}"));
            Self { dir, compiler: tests_of_compile::compiler(program, BUDGET) }
        }

        fn starts(&self) -> usize {
            std::fs::read_to_string(self.dir.path().join("starts")).map_or(0, |starts| starts.lines().count())
        }

        fn prepare(&self, slot: &Slot, module: &Module, store: Option<&ArtifactStore>) -> Result<Prepared, String> {
            let registry = Registry::default();
            let maker = Maker { registry: &registry, compiler: &self.compiler, urgency: Urgency::Nobody };
            slot.prepare(maker, mock(), module, store, &Interrupt::new()).map_err(|reason| match reason {
                NotPrepared::Engine(error) => error.to_string(),
                NotPrepared::Interrupted => "interrupted".into(),
            })
        }
    }

    #[test]
    fn a_compile_that_fails_fails_once_for_all_who_wait_and_all_who_come() {
        let fake = Fake::new("sleep 0.1; exit 1");
        let slots = Slots::new(u64::MAX);
        let module = module(0);
        let slot = slots.get(module.digest(), mock(), None);
        std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| fake.prepare(&slot, &module, None).err().unwrap())).collect();
            for reason in all.into_iter().map(|one| one.join().unwrap()) {
                assert!(reason.contains("exit code 1"), "{reason}");
            }
        });
        assert!(fake.prepare(&slot, &module, None).is_err() && slot.artifact_state().is_none());
        assert_eq!(fake.starts(), 1);
    }

    #[test]
    fn what_will_recur_is_not_tried_again_by_the_next_process_unless_the_budget_is_raised() {
        let data = tempfile::tempdir().unwrap();
        let module = module(0);
        let fake = Fake::new("echo 'too much' >&2; exit 3");
        let again = |budget: Budget| {
            let store = ArtifactStore::open(data.path(), u64::MAX).unwrap();
            let slot = Slots::new(u64::MAX).get_unless_refused(module.digest(), mock(), Some(&store), budget);
            (store, slot)
        };
        let (store, slot) = again(BUDGET);
        assert!(fake.prepare(&slot, &module, Some(&store)).is_err());
        let less = Budget { time_max: Duration::from_secs(59), ..BUDGET };
        for budget in [BUDGET, less] {
            let (store, slot) = again(budget);
            let reason = fake.prepare(&slot, &module, Some(&store)).err().unwrap();
            assert!(reason.contains("too much") && reason.contains("remuda cache prune --all"), "{reason}");
        }
        assert_eq!(fake.starts(), 1);
        let more_time = Budget { time_max: Duration::from_secs(61), ..BUDGET };
        let more_memory = Budget { memory_bytes_max: 2 << 30, ..less };
        for budget in [more_time, more_memory] {
            assert_eq!(again(budget).1.artifact_state(), Some(ArtifactState::Absent));
        }
        store.prune(&Registry::default(), crate::Prune { all: true, ..crate::Prune::default() }).unwrap();
        assert_eq!(again(BUDGET).1.artifact_state(), Some(ArtifactState::Absent));
    }

    #[test]
    fn what_may_go_better_next_time_is_not_noted() {
        let data = tempfile::tempdir().unwrap();
        let store = ArtifactStore::open(data.path(), u64::MAX).unwrap();
        let module = module(0);
        let slot = Slots::new(u64::MAX).get(module.digest(), mock(), Some(&store));
        assert!(Fake::new("kill -KILL $$").prepare(&slot, &module, Some(&store)).is_err());
        assert_eq!(store.refusal(module.digest(), mock()), None);
    }
}
