//! The slots of all modules on all engines.

use std::sync::Arc;

use remuda_engine::{EngineError, Known};
use remuda_model::{ArtifactState, ModuleDigest};

use super::compile::CompileBudget;
use super::memory::Memory;
use super::slot::Slot;
use super::store::{ArtifactStore, Refusal};

/// The slots of all modules on all engines, so that functions with the same module share their artifacts.
pub(crate) struct Slots {
    memory: Arc<Memory<Slot>>,
}

impl Slots {
    pub(crate) fn new(memory_budget_bytes: u64) -> Self {
        Self { memory: Arc::new(Memory::new(memory_budget_bytes)) }
    }

    /// Returns the slot of a module's artifact on an engine. The slot has failed already if an earlier process has set
    /// the engine aside for the module, and its note still holds for this budget.
    pub(crate) fn get_unless_refused(
        &self,
        module: ModuleDigest,
        known: &Known,
        store: Option<&ArtifactStore>,
        budget: CompileBudget,
    ) -> Arc<Slot> {
        let slot = self.get(module, known, store);
        if slot.state() == Some((ArtifactState::Absent, None))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use remuda_engine::{Module, Registry};
    use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome};

    use super::super::compile::{Compiler, Urgency};
    use super::super::make::{Maker, Prepared};
    use super::super::slot::NotPrepared;
    use super::*;
    use crate::artifact::compile::tests as tests_of_compile;

    /// The bytes of memory that the mock engine reports for each artifact.
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
            // A fixed cost, in place of the measured one.
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
            slots.get(module.digest(), mock(), Some(&store)).note_on_disk();
        }
        assert_eq!(states(&slots, &modules), [ArtifactState::OnDisk, ArtifactState::InMemory]);
        let loaded = prepare(&slots, &modules[0], Some(&store));
        assert!(!loaded.compiled_here && loaded.was == ArtifactState::OnDisk);
        assert_eq!(states(&slots, &modules), [ArtifactState::InMemory, ArtifactState::OnDisk]);
        // Another process evicts the artifact meanwhile.
        store.remove(modules[1].digest(), mock());
        let compiled = prepare(&slots, &modules[1], Some(&store));
        assert!(compiled.compiled_here && compiled.was == ArtifactState::Absent);
    }

    /// A compiler that notes in a file that it was started, and then does what `script` says.
    struct Fake {
        dir: tempfile::TempDir,
        compiler: Compiler,
    }

    const BUDGET: CompileBudget = CompileBudget { time_max: Duration::from_mins(1), memory_bytes_max: 1 << 30 };

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
        let again = |budget: CompileBudget| {
            let store = ArtifactStore::open(data.path(), u64::MAX).unwrap();
            let slot = Slots::new(u64::MAX).get_unless_refused(module.digest(), mock(), Some(&store), budget);
            (store, slot)
        };
        let (store, slot) = again(BUDGET);
        assert!(fake.prepare(&slot, &module, Some(&store)).is_err());
        let less = CompileBudget { time_max: Duration::from_secs(59), ..BUDGET };
        for budget in [BUDGET, less] {
            let (store, slot) = again(budget);
            let reason = fake.prepare(&slot, &module, Some(&store)).err().unwrap();
            assert!(reason.contains("too much") && reason.contains("remuda cache prune --all"), "{reason}");
        }
        assert_eq!(fake.starts(), 1);
        let more_time = CompileBudget { time_max: Duration::from_secs(61), ..BUDGET };
        let more_memory = CompileBudget { memory_bytes_max: 2 << 30, ..less };
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
