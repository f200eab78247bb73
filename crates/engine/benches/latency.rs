//! How soon a guest that runs away is stopped: the time from the moment at which another thread raises the interrupt to
//! the return of the guest's call (or of its instantiation, if it runs away there), for each engine and each such
//! guest.
//!
//! `cargo bench --workspace --bench latency [-- [--rounds N] [ENGINE | GUEST]...]`

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, InstantiateError, Module, Registry};
use remuda_model::{Cause, Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome};
use support::Arguments;

/// How long a guest runs before it is interrupted: enough for it to be well on its way.
const HEAD_START: Duration = Duration::from_millis(3);

/// The largest median that the design allows.
const MEDIAN_MAX: Duration = Duration::from_millis(50);

fn main() {
    let arguments = Arguments::parse(50);
    let rounds = arguments.rounds;
    let registry = Registry::default();
    println!("\n## From raising the interrupt to the call's return, {rounds} rounds\n");
    println!("| engine | guest | median us | p99 us | max us | |\n|---|---|---:|---:|---:|---|");
    let engines: Vec<_> = registry.usable().collect();
    let ids = || engines.iter().map(|known| known.id.as_str());
    let guests = guests();
    let names = || guests.iter().map(|(name, _)| name.as_str());
    for known in engines.iter().filter(|known| arguments.has(known.id.as_str(), ids())) {
        let engine = registry.open(known.id).expect("the engine starts");
        for (name, module) in guests.iter().filter(|(name, _)| arguments.has(name, names())) {
            let artifact = engine.compile(module).expect("the guest compiles");
            let mut took: Vec<Duration> = (0..rounds).map(|_| stop_once(&artifact)).collect();
            took.sort();
            report(known.id.as_str(), name, &took);
        }
    }
}

fn report(engine: &str, guest: &str, took: &[Duration]) {
    let median = took[took.len() / 2];
    let p99 = took[(took.len() * 99).div_ceil(100) - 1];
    let max = took[took.len() - 1];
    let verdict = if median < MEDIAN_MAX { "" } else { "over 50 ms" };
    let (median, p99, max) = (median.as_micros(), p99.as_micros(), max.as_micros());
    println!("| {engine} | {guest} | {median} | {p99} | {max} | {verdict} |");
}

fn stop_once(artifact: &Arc<dyn Artifact>) -> Duration {
    let interrupt = Interrupt::new();
    let (begun, begins) = mpsc::channel();
    let raiser = {
        let interrupt = interrupt.clone();
        thread::spawn(move || {
            begins.recv().expect("the guest begins");
            thread::sleep(HEAD_START);
            let raised = Instant::now();
            interrupt.raise(Cause::Deadline);
            raised
        })
    };
    begun.send(()).expect("the raiser listens");
    let instance = Arc::clone(artifact).instantiate(&GuestContext::default(), &GuestLimits::default(), &interrupt);
    let outcome = match instance {
        Ok(mut instance) => instance.call(&Entry::Command).expect("the engine does its part").outcome,
        Err(InstantiateError::Guest { outcome, .. }) => outcome,
        Err(InstantiateError::Engine(error)) => panic!("{error}"),
    };
    let returned = Instant::now();
    assert_eq!(outcome, Outcome::Interrupted { cause: Cause::Deadline });
    returned - raiser.join().expect("the raiser does not panic")
}

/// The suite's guests that run away, by name.
fn guests() -> Vec<(String, Module)> {
    let folder = support::guests().join("trap/interrupted");
    let files = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut guests: Vec<_> = files
        .map(|file| file.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .map(|path| {
            let stem = path.file_stem().expect("a file has a name").to_string_lossy();
            let name = stem.strip_prefix("interrupted.").unwrap_or("loop").to_owned();
            let bytes = fs::read(&path).expect("the guest can be read");
            (name, Module::parse(bytes, &ModuleLimits::default()).expect("the guest is a module"))
        })
        .collect();
    guests.sort_by(|one, other| one.0.cmp(&other.0));
    guests
}
