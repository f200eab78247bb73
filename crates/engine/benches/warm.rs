//! The time of a request when everything is ready: making an instance of a guest that does nothing, calling it and
//! ending it, from one artifact in memory, on one thread and on two. Each step is timed separately, to show how much of
//! the time is the host's (the guest's WASI state) and how much the engine's.
//!
//! `cargo bench --workspace --bench warm [-- [--rounds N] [ENGINE | host]...]`

mod support;

use std::sync::Arc;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, Module, Registry};
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome};
use support::Arguments;

const THREADS: [usize; 2] = [1, 2];

fn main() {
    let arguments = Arguments::parse(20_000);
    let rounds = arguments.rounds;
    let registry = Registry::default();
    let module = noop();
    println!("\n## Instantiate, call and drop noop.wasm: microseconds, {rounds} rounds a thread\n");
    println!("| engine | threads | p50 | p99 | instantiate p50 | call p50 | output and drop p50 |");
    println!("|---|---:|---:|---:|---:|---:|---:|");
    let able: Vec<_> = registry.usable().collect();
    let parts = || able.iter().map(|known| known.id.as_str()).chain(["host"]);
    for known in able.iter().filter(|known| arguments.has(known.id.as_str(), parts())) {
        let artifact = registry.open(known.id).and_then(|engine| engine.compile(&module)).expect("the engine starts");
        for threads in THREADS {
            report(known.id.as_str(), threads, &on_threads(threads, rounds, |rounds| rounds_of(&artifact, rounds)));
        }
    }
    if arguments.has("host", parts()) {
        host_parts(rounds);
    }
}

/// The times of a round's steps: instantiate, call, output and drop.
type Parts = [Duration; 3];

fn rounds_of(artifact: &Arc<dyn Artifact>, rounds: usize) -> Vec<Parts> {
    let (context, limits) = (context(), GuestLimits::default());
    let round = |_| {
        let begun = Instant::now();
        let interrupt = Interrupt::new();
        let instance = Arc::clone(artifact).instantiate(&context, &limits, &interrupt);
        let mut instance = instance.unwrap_or_else(|error| panic!("{error}"));
        let instantiated = Instant::now();
        let called = instance.call(&Entry::Command).expect("the engine does its part");
        let returned = Instant::now();
        assert_eq!(called.outcome, Outcome::Returned);
        let output = instance.into_output();
        let ended = Instant::now();
        assert!(output.stdout.is_empty());
        [instantiated - begun, returned - instantiated, ended - returned]
    };
    (0..rounds / 10).map(round).for_each(drop);
    (0..rounds).map(round).collect()
}

/// A context like those that the host makes: a name, an environment, nothing to read.
fn context() -> GuestContext {
    GuestContext {
        args: vec!["noop".into()],
        env: vec![("REQUEST_METHOD".into(), "GET".into()), ("PATH_INFO".into(), "/".into())],
        ..GuestContext::default()
    }
}

fn on_threads<T: Send>(threads: usize, rounds: usize, run: impl Fn(usize) -> Vec<T> + Sync) -> Vec<T> {
    let barrier = Barrier::new(threads);
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    barrier.wait();
                    run(rounds)
                })
            })
            .collect();
        handles.into_iter().flat_map(|handle| handle.join().expect("no round panics")).collect()
    })
}

fn report(engine: &str, threads: usize, rounds: &[Parts]) {
    let whole = rounds.iter().map(|parts| parts.iter().sum()).collect();
    let (p50, p99) = percentiles(whole);
    let [instantiate, call, end] =
        [0, 1, 2].map(|part| percentiles(rounds.iter().map(|parts| parts[part]).collect()).0);
    println!("| {engine} | {threads} | {p50:.2} | {p99:.2} | {instantiate:.2} | {call:.2} | {end:.2} |");
}

/// The median and the 99th percentile, in microseconds.
fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let us = |time: Duration| time.as_secs_f64() * 1e6;
    (us(times[times.len() / 2]), us(times[(times.len() * 99).div_ceil(100) - 1]))
}

/// Times what the host does for every guest, whatever the engine, and, for comparison, looking at the clock twice.
fn host_parts(rounds: usize) {
    println!("\n## The host's part: microseconds, {rounds} rounds a thread\n");
    println!("| part | threads | p50 | p99 |\n|---|---:|---:|---:|");
    for threads in THREADS {
        part("clock", threads, rounds, || ());
        part("interrupt", threads, rounds, || drop(Interrupt::new()));
        part("interrupt with a listener", threads, rounds, || {
            let interrupt = Interrupt::new();
            drop(interrupt.listen(|| ()));
        });
        #[cfg(feature = "wasi")]
        {
            let context = context();
            part("WASI state", threads, rounds, || {
                let wasi = remuda_wasi::Wasi::new(remuda_model::EngineId::new("none"), &context, Interrupt::new())
                    .expect("nothing is granted");
                drop(wasi.into_output());
            });
        }
    }
}

fn part(name: &str, threads: usize, rounds: usize, run: impl Fn() + Sync) {
    let timed = |_| {
        let begun = Instant::now();
        run();
        begun.elapsed()
    };
    let (p50, p99) = percentiles(on_threads(threads, rounds, |rounds| (0..rounds).map(timed).collect()));
    println!("| {name} | {threads} | {p50:.2} | {p99:.2} |");
}

fn noop() -> Module {
    let path = support::guests().join("noop/noop.wasm");
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Module::parse(bytes, &ModuleLimits::default()).expect("the guest is a module")
}
