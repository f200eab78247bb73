//! Bringing artifacts into memory before requests come: at start, and before each request that is expected.
//!
//! The scheduler decides what to have ready, and when; the thread in this file carries that out. It has one appointment
//! for each function that was called lately, sleeps until the next one, and loads artifacts itself: a load takes less
//! than a millisecond, and must not wait behind a compile. Compiles go to the threads for them.
//!
//! A request does not wait for any of that. It takes the lock of the appointments only if its function has no
//! appointment.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};

use remuda_engine::{Artifact, EngineError, InstantiateError, Module, Registry};
use remuda_model::{ArtifactState, EngineId, Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Sink};
use remuda_scheduler::PrewarmHow;
use remuda_scheduler::tuning::PREWARM_LOOK_AFTER_NS;

use super::appointments::Next;
use super::expectation::Prewarmed;
use super::tier_up;
use crate::function::{EngineSlot, Function};
use crate::shared::Shared;

/// The niceness of the prewarming thread. Source: chosen; a load takes less than a millisecond, and a guest beside it on the
/// same core should get most of that core meanwhile. If it is too high, artifacts come late on a busy host.
const NICENESS: i32 = 5;

/// The prewarming thread; dropping this ends the thread, and forgets its appointments.
pub(crate) struct Prewarmer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Prewarmer {
    /// Starts the thread.
    pub(crate) fn start(shared: &Arc<Shared>) -> std::io::Result<Self> {
        let theirs = Arc::clone(shared);
        let thread = thread::Builder::new().name("remuda-prewarm".into()).spawn(move || keep_appointments(&theirs))?;
        Ok(Self { shared: Arc::clone(shared), thread: Some(thread) })
    }
}

impl Drop for Prewarmer {
    fn drop(&mut self) {
        self.shared.appointments.close();
        if let Some(thread) = self.thread.take() {
            // The thread only ends early if it panicked, and then the panic has been reported.
            let _ = thread.join();
        }
    }
}

/// Notes that an engine has answered a request, in this time, with an artifact that was in this state; and makes an
/// appointment for its function if it has none.
pub(crate) fn answered(
    shared: &Shared,
    function: &Arc<Function>,
    engine: EngineId,
    artifact: ArtifactState,
    total_ns: u64,
) {
    let expectation = &function.expectation;
    if let Some(prewarmed) = expectation.take() {
        let is_useful = artifact == ArtifactState::InMemory
            && engine == prewarmed.engine
            && shared.cores.now_ns() < prewarmed.until_ns.saturating_add(total_ns);
        count(shared, function, prewarmed, is_useful);
    }
    if !expectation.has_appointment.load(Ordering::Relaxed) && !expectation.has_appointment.swap(true, Ordering::AcqRel)
    {
        let at_ns = shared.cores.now_ns().saturating_add(PREWARM_LOOK_AFTER_NS);
        shared.appointments.look_at(at_ns, Arc::downgrade(function));
    }
}

fn keep_appointments(shared: &Arc<Shared>) {
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS) {
        tracing::warn!(%error, "artifacts are loaded ahead at the priority of requests");
    }
    while let Some(next) = shared.appointments.next(&shared.cores) {
        match next {
            Next::Start(function) => {
                if let Some(function) = function.upgrade() {
                    make_ready(shared, &function);
                }
            }
            Next::Look(function) => {
                if let Some(function) = function.upgrade() {
                    look(shared, &function, shared.cores.now_ns());
                }
            }
        }
    }
}

/// Keeps an appointment with a function, and makes the next one.
fn look(shared: &Arc<Shared>, function: &Arc<Function>, now_ns: u64) {
    let has_appointment = &function.expectation.has_appointment;
    // The flag is cleared before anything is looked at: a request that comes from here on asks for an appointment by
    // itself.
    has_appointment.store(false, Ordering::Release);
    if let Some(next_ns) = prewarm(shared, function, now_ns)
        && !has_appointment.swap(true, Ordering::AcqRel)
    {
        shared.appointments.look_at(next_ns, Arc::downgrade(function));
    }
}

/// Makes ready what the next request of a function will want, if it is time for that. Returns when to look again.
fn prewarm(shared: &Arc<Shared>, function: &Arc<Function>, now_ns: u64) -> Option<u64> {
    if let Some(prewarmed) = function.expectation.take_if(|prewarmed| prewarmed.until_ns <= now_ns) {
        count(shared, function, prewarmed, false);
        function.engine(prewarmed.engine).slot.release_unused();
    }
    let candidates = function.candidates(&shared.cores);
    let look = shared
        .with_world_at(now_ns, |world| function.scheduler.with(|scheduler| scheduler.prewarm(&candidates, world)));
    if let Some(prewarm) = look.todo {
        let prewarmed = Prewarmed { engine: prewarm.engine, until_ns: prewarm.until_ns };
        match prewarm.how {
            PrewarmHow::Keep => {}
            PrewarmHow::Load => {
                let EngineSlot { known, slot, .. } = function.engine(prewarm.engine);
                let store = shared.store.as_deref();
                if slot.load_expected(&shared.registry, known, &function.module, store) {
                    tracing::debug!(function = function.name(), engine = %known.id, "loaded for the next request");
                    function.expectation.put(prewarmed);
                }
            }
            PrewarmHow::Compile(tier_up) => {
                tier_up::start(shared, function, &tier_up);
                function.expectation.put(prewarmed);
            }
        }
    }
    look.again_at_ns
}

fn count(shared: &Shared, function: &Function, prewarmed: Prewarmed, is_useful: bool) {
    let Prewarmed { engine, .. } = prewarmed;
    let counters = &shared.counters;
    let counter = if is_useful { &counters.prewarms_useful } else { &counters.prewarms_wasted };
    counter.add_one();
    tracing::debug!(function = function.name(), %engine, is_useful, "the expected request came, or did not");
}

/// Brings into memory what the first request of a function will run on, and touches what that request will touch.
fn make_ready(shared: &Arc<Shared>, function: &Arc<Function>) {
    let candidates = function.candidates(&shared.cores);
    let favourite =
        shared.with_world(|world| function.scheduler.with(|scheduler| scheduler.favourite(&candidates, world)));
    let Some(favourite) = favourite else { return };
    let EngineSlot { known, slot, .. } = function.engine(favourite.engine);
    let (registry, store) = (&shared.registry, shared.store.as_deref());
    match slot.artifact_state() {
        Some(ArtifactState::OnDisk) => {
            slot.load_expected(registry, known, &function.module, store);
        }
        // An engine that keeps no artifacts makes them in no time.
        Some(ArtifactState::Absent) if !known.capabilities.artifacts => {
            slot.make_expected(registry, known, &function.module);
        }
        Some(ArtifactState::InMemory | ArtifactState::Absent) | None => {}
    }
    if let Some(artifact) = slot.in_memory()
        && let Err(error) = touch(function, artifact)
    {
        tracing::debug!(function = function.name(), engine = %known.id, %error, "no instance can be made ahead");
    }
    // The start of an engine costs a request milliseconds, whichever engine it is.
    for EngineSlot { known, .. } in &function.engines {
        // A request that wants the engine hears of the error.
        let _ = registry.open(known.id);
    }
}

/// A module of the host's own, which does what every guest does: it writes.
const REHEARSAL: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "\08\00\00\00\06\00\00\00ready\n")
    (func (export "_start")
        (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 16)))))"#;

/// Returns what a thread does once before its first request on these engines. After it, everything is there that the
/// engines, WASI and the thread itself set up when they are first used. No guest runs, but a module of the host's own.
pub(crate) fn rehearsal(registry: &Registry, engines: &[EngineId]) -> Option<impl Fn() + Send + Sync + use<>> {
    let bytes = wat::parse_str(REHEARSAL).ok()?;
    let module = Module::parse(bytes, &ModuleLimits::default()).ok()?;
    let artifacts: Vec<_> =
        engines.iter().filter_map(|engine| registry.open(*engine).ok()?.compile_ahead(&module).ok()).collect();
    let context = GuestContext { stdout: Sink::Capture { bytes_max: 64 }, ..GuestContext::default() };
    Some(move || {
        for artifact in &artifacts {
            let instance = Arc::clone(artifact).instantiate(&context, &GuestLimits::default(), &Interrupt::new());
            // If this fails, a request will find out.
            let _ = instance.map(|mut instance| instance.call(&Entry::Command).map(|_| instance.into_output()));
        }
    })
}

/// Makes an instance and drops it, unless that would run code of the guest's.
fn touch(function: &Function, artifact: Arc<dyn Artifact>) -> Result<(), EngineError> {
    if function.module.has_start() {
        return Ok(());
    }
    match artifact.instantiate(&GuestContext::default(), &function.spec.limits, &Interrupt::new()) {
        Ok(_) | Err(InstantiateError::Guest { .. }) => Ok(()),
        Err(InstantiateError::Engine(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use remuda_scheduler::Policy;
    use tempfile::TempDir;

    use super::*;
    use crate::call::Call;
    use crate::{FunctionSpec, Host, HostConfig};

    const S: u64 = 1_000_000_000;
    /// The bytes of memory that the mock engine reports for each artifact.
    const ARTIFACT_BYTES: u64 = 32;

    /// A data directory with the artifacts of `count` functions on disk and none in memory, and these functions.
    fn known_functions(count: usize, memory_budget_bytes: u64) -> (TempDir, Host, Vec<Arc<Function>>) {
        let dir = tempfile::tempdir().unwrap();
        let open = || {
            let config = HostConfig {
                data_dir: Some(dir.path().join("data")),
                policy: Policy::Hedged,
                workers: 1,
                queue_max: 10,
                memory_budget_bytes,
                ..HostConfig::default()
            };
            let host = Host::open(&config).unwrap();
            let functions = (0..count).map(|i| {
                let path = dir.path().join(format!("f{i}.wat"));
                std::fs::write(&path, format!("(module (func (export \"_start\")) (func (export \"f{i}\")))")).unwrap();
                let engines = Some(vec!["mock".to_owned()]);
                host.deploy(FunctionSpec { engines, ..FunctionSpec::of_module(&path) }, Some(&Entry::Command)).unwrap()
            });
            let functions: Vec<_> = functions.collect();
            (host, functions)
        };
        // Everything that a host leaves behind is on disk when it has been dropped.
        let (host, functions) = open();
        for function in &functions {
            call(&host, function);
        }
        drop((host, functions));
        let (host, functions) = open();
        for function in &functions {
            assert_eq!(state(function), ArtifactState::OnDisk);
        }
        (dir, host, functions)
    }

    fn call(host: &Host, function: &Arc<Function>) {
        let context = GuestContext { args: vec!["f".into()], ..GuestContext::default() };
        let limits = GuestLimits::default();
        let call = Arc::new(Call { id: host.next_request_id(), entry: Entry::Command, context, limits });
        assert!(host.call(function, &call, &Interrupt::new()).unwrap().outcome.is_success());
    }

    fn state(function: &Function) -> ArtifactState {
        function.engines[0].slot.artifact_state().unwrap()
    }

    /// Lets a request arrive every minute; returns the time of the last one.
    fn called_every_minute(function: &Function) -> u64 {
        function.scheduler.with(|scheduler| (0..=20).for_each(|i| scheduler.arrived(60 * S * i)));
        60 * S * 20
    }

    fn counts(host: &Host) -> (u64, u64) {
        (host.counters().prewarms_useful.get(), host.counters().prewarms_wasted.get())
    }

    #[test]
    fn an_artifact_is_there_before_the_expected_request_and_counts_as_useful() {
        let (_dir, host, functions) = known_functions(1, 1 << 20);
        let (shared, function) = (host.shared(), &functions[0]);
        let last_ns = called_every_minute(function);
        let at_ns = prewarm(shared, function, last_ns).unwrap();
        assert!((last_ns + 30 * S..last_ns + 60 * S).contains(&at_ns), "{at_ns}");
        assert_eq!(state(function), ArtifactState::OnDisk, "it is too early");
        let until_ns = prewarm(shared, function, at_ns).unwrap();
        assert!(until_ns > last_ns + 60 * S);
        assert_eq!(state(function), ArtifactState::InMemory);
        call(&host, function);
        assert_eq!(counts(&host), (1, 0));
        call(&host, function);
        assert_eq!(counts(&host), (1, 0), "only the first request was expected");
    }

    #[test]
    fn what_nobody_came_for_is_given_back_and_counts_as_wasted() {
        let (_dir, host, functions) = known_functions(1, 1 << 20);
        let (shared, function) = (host.shared(), &functions[0]);
        let at_ns = prewarm(shared, function, called_every_minute(function)).unwrap();
        let until_ns = prewarm(shared, function, at_ns).unwrap();
        assert_eq!((state(function), counts(&host)), (ArtifactState::InMemory, (0, 0)));
        assert_eq!(prewarm(shared, function, until_ns), None, "nothing is expected any more");
        assert_eq!((state(function), counts(&host)), (ArtifactState::OnDisk, (0, 1)));
    }

    #[test]
    fn what_is_used_is_not_displaced_by_what_is_expected() {
        let (_dir, host, functions) = known_functions(2, ARTIFACT_BYTES);
        let (shared, used, expected) = (host.shared(), &functions[0], &functions[1]);
        for _ in 0..1000 {
            call(&host, used);
        }
        let at_ns = prewarm(shared, expected, called_every_minute(expected)).unwrap();
        assert!(prewarm(shared, expected, at_ns).is_some());
        assert_eq!((state(used), state(expected)), (ArtifactState::InMemory, ArtifactState::OnDisk));
        assert_eq!(counts(&host), (0, 0));
    }

    #[test]
    fn a_lost_artifact_is_left_to_the_request() {
        let (dir, host, functions) = known_functions(1, 1 << 20);
        let function = &functions[0];
        std::fs::remove_dir_all(dir.path().join("data")).unwrap();
        let at_ns = prewarm(host.shared(), function, called_every_minute(function)).unwrap();
        prewarm(host.shared(), function, at_ns);
        assert_eq!(state(function), ArtifactState::Absent);
        call(&host, function);
        assert_eq!((state(function), counts(&host)), (ArtifactState::InMemory, (0, 0)));
    }

    #[test]
    fn functions_are_ready_before_their_first_request() {
        let (_dir, host, functions) = known_functions(5, 3 * ARTIFACT_BYTES);
        host.make_ready(&functions, Duration::MAX);
        let ready = functions.iter().filter(|function| state(function) == ArtifactState::InMemory).count();
        assert_eq!(ready, 3, "as many as fit");
        assert_eq!(counts(&host), (0, 0), "nobody was expected");
    }
}
