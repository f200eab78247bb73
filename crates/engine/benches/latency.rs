//! How soon a guest that runs away is stopped: the time from the interrupt's being raised by another thread to the
//! return of the guest's call (or of its instantiation, if it runs away there), for each engine and each such guest.
//!
//! `cargo bench --workspace --bench latency [-- [--rounds N] [GUEST]...]`

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, InstantiateError, Module, Registry};
use remuda_model::{Cause, Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome};

/// How long a guest runs before it is interrupted: enough for it to be well on its way.
const HEAD_START: Duration = Duration::from_millis(3);

/// What the design asks for.
const MEDIAN_MAX: Duration = Duration::from_millis(50);

fn main() {
    let (rounds, names) = arguments();
    let registry = Registry::default();
    println!("\n## From raising the interrupt to the call's return, {rounds} rounds\n");
    println!("| engine | guest | median us | p99 us | max us | |\n|---|---|---:|---:|---:|---|");
    for known in registry.known().filter(|known| known.automatic && known.is_built()) {
        let engine = registry.open(known.id).expect("the engine starts");
        for (name, module) in guests().iter().filter(|(name, _)| names.is_empty() || names.contains(name)) {
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
    let folder = std::env::var_os("REMUDA_GUESTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests"), PathBuf::from)
        .join("trap/interrupted");
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

fn arguments() -> (usize, Vec<String>) {
    let mut rounds = 50;
    let mut names = Vec::new();
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        if arg == "--rounds" {
            rounds = args.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0).expect("--rounds takes a number");
        } else {
            names.push(arg);
        }
    }
    (rounds, names)
}
