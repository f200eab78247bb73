//! Running the suite on several threads, and counting the results.

use std::any::Any;
use std::collections::BTreeMap;
use std::num::NonZero;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::suite::File;

/// The result of one step.
pub(crate) enum Verdict {
    Passed,
    /// The engine does not claim a proposal that the step needs.
    Skipped,
    /// The step is tested elsewhere, and is not counted here.
    NotMine,
    Failed(String),
}

/// The numbers of steps that passed and were skipped, and every failure.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) skipped: usize,
    /// The messages of all failures, by file and line.
    pub(crate) failures: BTreeMap<(String, usize), String>,
}

impl Tally {
    pub(crate) fn record(&mut self, file: &str, line: usize, verdict: Verdict) {
        match verdict {
            Verdict::Passed => self.passed += 1,
            Verdict::Skipped => self.skipped += 1,
            Verdict::NotMine => {}
            Verdict::Failed(message) => {
                // A line can hold two assertions: both messages are kept.
                let slot = self.failures.entry((file.to_owned(), line)).or_default();
                if !slot.is_empty() {
                    slot.push_str("; ");
                }
                slot.push_str(&message);
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }
}

/// The stack of a thread, in bytes: enough for a compiler that recurses over the suite's deepest modules, and for 512
/// KiB of a guest's calls.
const THREAD_STACK_BYTES: usize = 32 << 20;

/// The number of cores, as a number of threads.
pub(crate) fn all_cores() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Runs `each` over `files` on `threads` threads.
pub(crate) fn over_files(threads: usize, files: &[File], each: impl Fn(&File) -> Tally + Sync) -> Tally {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut tally = Tally::default();
        while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            tally.merge(each(file));
        }
        tally
    };
    let mut tally = Tally::default();
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().stack_size(THREAD_STACK_BYTES).spawn_scoped(scope, work);
        let workers: Vec<_> = (0..threads).map(spawn).collect();
        for worker in workers {
            tally.merge(worker.expect("a thread starts").join().unwrap_or_else(|panic| resume_unwind(panic)));
        }
    });
    tally
}

/// The message of a panic.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", words.unwrap_or("without words"))
}
