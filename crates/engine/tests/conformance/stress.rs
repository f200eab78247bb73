//! Thousands of traps: every kind, on every engine, on several threads, in any order, with instances of several engines
//! alive on each thread. Engines that share a process share its signal handlers. An engine that mistakes another
//! engine's fault for its own, or for a crash, is found here.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;

use remuda_engine::{Artifact, Instance, InstantiateError, Module};
use remuda_model::{EngineId, Entry, GuestContext, Limit, Sink, TrapKind, Value};

use crate::outcomes::{self, CASES, Place, TRAP_FOLDERS};
use crate::support::{End, Random, Setup, able, assert_end, compile, engines, export, parse, trap_guests};

const SEED: u64 = 0x7265_6d75_6461;
const THREADS: usize = 8;
const TRAPS_MIN: usize = 10_000;
/// The most instances that wait for their call at the same time, on each thread.
const LIVE_MAX: usize = 6;

/// A guest that does not return, compiled by one engine.
#[derive(Clone)]
struct Job {
    what: Arc<str>,
    engine: EngineId,
    artifact: Arc<dyn Artifact>,
    entry: Entry,
    setup: Setup,
    end: End,
}

fn jobs() -> Vec<Job> {
    let mut jobs = Vec::new();
    for (folder, kind) in TRAP_FOLDERS {
        for (name, module) in trap_guests(folder) {
            add(&mut jobs, &name, &module, &Entry::Command, &Setup::default(), End::Trapped(*kind));
        }
    }
    for case in CASES.iter().filter(|case| case.end != End::Returned) {
        for place in [Place::Export, Place::Start] {
            let module = outcomes::module(case, place);
            add(&mut jobs, case.name, &module, &place.entry(), &Setup::default(), case.end);
        }
    }
    let proposed: [(&str, End); 3] = [
        (r#"(module (tag) (func (export "_start") (throw 0)))"#, End::Trapped(TrapKind::UncaughtException)),
        (
            r#"(module (memory 1) (memory 1) (func (export "_start") (i32.store8 1 (i32.const 65536) (i32.const 1))))"#,
            End::Trapped(TrapKind::MemoryOutOfBounds),
        ),
        (
            r#"(module (memory i64 1) (func (export "_start") (i32.store8 (i64.const 0x8000000000) (i32.const 1))))"#,
            End::Trapped(TrapKind::MemoryOutOfBounds),
        ),
    ];
    for (text, end) in proposed {
        add(&mut jobs, text, &parse(text), &Entry::Command, &Setup::default(), end);
    }
    let floods = outcomes::module(&CASES[0], Place::Export);
    let stdout = Sink::Capture { bytes_max: 5 };
    let setup = Setup { context: GuestContext { stdout, ..GuestContext::default() }, ..Setup::default() };
    add(&mut jobs, "writes too much", &floods, &export("run", &[]), &setup, End::Exceeded(Limit::Output));
    jobs
}

fn add(jobs: &mut Vec<Job>, what: &str, module: &Module, entry: &Entry, setup: &Setup, end: End) {
    for known in able(module) {
        jobs.push(Job {
            what: what.into(),
            engine: known.id,
            artifact: compile(known, module),
            entry: entry.clone(),
            setup: setup.clone(),
            end,
        });
    }
}

#[test]
fn thousands_of_traps_on_many_threads() {
    let kinds = jobs();
    let mut jobs: Vec<Job> =
        kinds.iter().cycle().take(kinds.len() * TRAPS_MIN.div_ceil(kinds.len())).cloned().collect();
    let expected = count(jobs.iter().map(|job| (job.engine, job.end)));
    assert_eq!(
        engines().len(),
        expected.keys().map(|(engine, _)| engine).collect::<std::collections::HashSet<_>>().len()
    );
    Random(SEED).shuffle(&mut jobs);

    let ended: Vec<(EngineId, End)> = thread::scope(|scope| {
        let threads: Vec<_> = jobs
            .chunks(jobs.len().div_ceil(THREADS))
            .enumerate()
            .map(|(i, jobs)| scope.spawn(move || trap_all(jobs, &mut Random(SEED + i as u64))))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("every guest ends as it should")).collect()
    });
    assert!(ended.len() >= TRAPS_MIN);
    assert_eq!(count(ended.into_iter()), expected);
}

fn count(ends: impl Iterator<Item = (EngineId, End)>) -> HashMap<(EngineId, End), usize> {
    ends.fold(HashMap::new(), |mut counts, end| {
        *counts.entry(end).or_default() += 1;
        counts
    })
}

/// Runs one thread's share of the jobs. Instances are called in another order than they were made in, while others
/// live.
fn trap_all(jobs: &[Job], random: &mut Random) -> Vec<(EngineId, End)> {
    let mut innocents = innocents();
    let mut live: Vec<(&Job, Box<dyn Instance>)> = Vec::new();
    let mut ended = Vec::new();
    for job in jobs {
        if live.len() == LIVE_MAX || (!live.is_empty() && random.below(3) == 0) {
            let (job, instance) = live.swap_remove(random.below(live.len()));
            ended.push(call(job, instance));
        }
        match Arc::clone(&job.artifact).instantiate(&job.setup.context, &job.setup.limits, &job.setup.interrupt) {
            Ok(instance) => live.push((job, instance)),
            Err(InstantiateError::Guest { outcome, .. }) => ended.push(right(job, End::from(&outcome))),
            Err(InstantiateError::Engine(error)) => panic!("{}: {error}", job.what),
        }
        // An instance may also be dropped without ever being called.
        if let Some((job, _)) = live.last()
            && random.below(50) == 0
        {
            drop(Arc::clone(&job.artifact).instantiate(&job.setup.context, &job.setup.limits, &job.setup.interrupt));
        }
        let (engine, innocent) = &mut innocents[random.below(engines().len())];
        let called = innocent.call(&export("good", &[])).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(called.values, [Value::I32(5050)], "a bystander on {engine}");
    }
    ended.extend(live.into_iter().map(|(job, instance)| call(job, instance)));
    ended
}

/// One instance on each engine that lives among the others and does nothing wrong.
fn innocents() -> Vec<(EngineId, Box<dyn Instance>)> {
    let module = outcomes::module(&CASES[0], Place::Export);
    let Setup { context, limits, interrupt } = Setup::default();
    let new = |known: &'static remuda_engine::Known| {
        let instance = compile(known, &module).instantiate(&context, &limits, &interrupt);
        (known.id, instance.unwrap_or_else(|error| panic!("{error}")))
    };
    engines().into_iter().map(new).collect()
}

fn call(job: &Job, mut instance: Box<dyn Instance>) -> (EngineId, End) {
    let called = instance.call(&job.entry).unwrap_or_else(|error| panic!("{}: {error}", job.what));
    right(job, End::from(&called.outcome))
}

fn right(job: &Job, end: End) -> (EngineId, End) {
    assert_end(job.engine, end, job.end, &job.what);
    (job.engine, job.end)
}
