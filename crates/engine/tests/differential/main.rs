//! Every engine must do the same with the same module: results bit by bit, outcomes, output, and after each call the
//! contents of memories, tables and globals.
//!
//! Modules are generated from seeds. A failure names its seed, which runs alone with
//! `REMUDA_DIFFERENTIAL_SEED=n`; `REMUDA_DIFFERENTIAL_MODULES=n` runs that many modules instead of the default. Modules
//! on which engines once disagreed stay in `regressions/`.

mod appended;
mod compare;
mod generate;
mod imported;
mod random;
mod regressions;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use compare::{Agreement, Group};
use remuda_engine::{Extent, Proposal};
use remuda_model::EngineId;

/// The number of modules in the test that all engines share.
const MODULES: u64 = 2_000;
/// The number of modules in the test with moves. Each takes several compiles.
const MOVING_MODULES: usize = 300;
/// The number of failures after which a run is given up.
const FAILURES_MAX: usize = 5;

#[test]
fn all_engines_agree() {
    check(&Group::of(|_| true), MODULES);
}

/// Engines that are programs of their own, where they are installed.
#[test]
fn workers_agree_with_the_others() {
    for group in Group::with_workers() {
        check(&group, MODULES / 4);
    }
}

/// Engines with more proposals than the others are compared on modules that need these proposals.
#[test]
fn engines_with_more_proposals_agree() {
    let mut seen = HashSet::from([ids(&Group::of(|_| true))]);
    for proposal in Proposal::ALL {
        let group = Group::of(|known| known.capabilities.proposals.contains(*proposal));
        if group.engines.len() > 1 && seen.insert(ids(&group)) {
            check(&group, MODULES / 2);
        }
    }
}

/// Guests that move while they run do the same as those that stay.
#[test]
fn guests_that_move_agree() {
    let Some(group) = Group::moving() else { return };
    let wanted =
        number("REMUDA_DIFFERENTIAL_MODULES").map_or(MOVING_MODULES, |modules| usize::try_from(modules).unwrap());
    let (modules, moved) = (AtomicUsize::new(0), AtomicU64::new(0));
    let tally = Tally::default();
    for seed in 0.. {
        if modules.load(Ordering::Relaxed) >= wanted {
            break;
        }
        let Some(subject) = generate::subject(&generate::bytes_of(seed), group.proposals) else { continue };
        if !subject.module.has_points() {
            continue;
        }
        modules.fetch_add(1, Ordering::Relaxed);
        let extent = [Extent::Hot, Extent::Whole][usize::try_from(seed % 2).unwrap()];
        match group.compare_moved(&subject, seed % 7, extent) {
            Ok((agreement, went)) => {
                tally.count(agreement);
                moved.fetch_add(went, Ordering::Relaxed);
            }
            Err(problem) => {
                panic!("seed {seed}, {extent:?}: {problem}\nthe module: {}", keep(seed, subject.module.bytes()))
            }
        }
    }
    println!("{} moves", moved.load(Ordering::Relaxed));
    conclude(&group, tally);
    assert!(moved.load(Ordering::Relaxed) > 1000, "hardly anybody moved");
}

fn ids(group: &Group) -> Vec<EngineId> {
    group.engines.iter().map(|engine| engine.id()).collect()
}

/// The results of all modules.
#[derive(Default)]
struct Tally {
    modules: AtomicUsize,
    whole: AtomicUsize,
    calls: AtomicUsize,
    returned: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Tally {
    fn count(&self, agreement: Agreement) {
        self.modules.fetch_add(1, Ordering::Relaxed);
        self.whole.fetch_add(usize::from(agreement.whole), Ordering::Relaxed);
        self.calls.fetch_add(agreement.calls, Ordering::Relaxed);
        self.returned.fetch_add(agreement.returned, Ordering::Relaxed);
    }
}

fn check(group: &Group, modules: u64) {
    assert!(group.engines.len() > 1, "this build has too few engines to compare: {}", group.names());
    if let Some(seed) = number("REMUDA_DIFFERENTIAL_SEED") {
        return check_one(group, seed);
    }
    let modules = number("REMUDA_DIFFERENTIAL_MODULES").unwrap_or(modules);
    let tally = Tally::default();
    let seeds = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, Into::into) {
            scope.spawn(|| {
                while tally.modules.load(Ordering::Relaxed) < usize::try_from(modules).expect("it is a count")
                    && tally.failures.lock().expect("nobody panics with it").len() < FAILURES_MAX
                {
                    try_seed(group, seeds.fetch_add(1, Ordering::Relaxed), &tally);
                }
            });
        }
    });
    conclude(group, tally);
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text:?}")))
}

fn try_seed(group: &Group, seed: u64, tally: &Tally) {
    let attempt = || {
        let subject = generate::subject(&generate::bytes_of(seed), group.proposals)?;
        group.can_compare(&subject).then(|| (group.compare(&subject), subject))
    };
    let problem = match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(None) => return,
        Ok(Some((Ok(agreement), _))) => return tally.count(agreement),
        Ok(Some((Err(problem), subject))) => format!("{problem}\nthe module: {}", keep(seed, subject.module.bytes())),
        Err(panic) => format!("panic: {:?}", panic.downcast_ref::<String>()),
    };
    let problem = format!("REMUDA_DIFFERENTIAL_SEED={seed} on {}: {problem}", group.names());
    tally.failures.lock().expect("nobody panics with it").push(problem);
}

fn keep(seed: u64, wasm: &[u8]) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("differential-{seed}.wasm"));
    match std::fs::write(&path, wasm) {
        Ok(()) => path.display().to_string(),
        Err(error) => format!("not kept: {error}"),
    }
}

fn conclude(group: &Group, tally: Tally) {
    let failures = tally.failures.into_inner().expect("nobody panics with it");
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    let (modules, whole) = (tally.modules.into_inner(), tally.whole.into_inner());
    let (calls, returned) = (tally.calls.into_inner(), tally.returned.into_inner());
    println!(
        "{}: {modules} modules, {whole} of them to the end; {calls} calls, {returned} of them returned",
        group.names()
    );
    // The other modules ran out of stack, of which engines have different amounts, or only some engines refused growth.
    assert!(whole * 5 >= modules * 4, "only {whole} of {modules} modules were compared to the end");
    // If most calls trapped at once, little would be compared.
    assert!(returned * 3 >= calls, "only {returned} of {calls} calls returned");
}

fn check_one(group: &Group, seed: u64) {
    let Some(subject) = generate::subject(&generate::bytes_of(seed), group.proposals) else {
        println!("seed {seed} stands for no module on {}", group.names());
        return;
    };
    let path = keep(seed, subject.module.bytes());
    println!("seed {seed}: {path}");
    match group.compare(&subject) {
        Ok(agreement) => println!("{} agree: {agreement:?}", group.names()),
        Err(problem) => panic!("{problem}"),
    }
}
