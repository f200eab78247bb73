//! One run of simulations: each guest of a plan once on each engine, with what it does to simulated caches and predictors.
//!
//! A count needs no repetition, and no quiet machine: so several are made at the same time, and the order says nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::Context as _;
use remuda_microarch::Report;
use remuda_microarch::counters::{Counters, EventCount};
use remuda_model::ModuleDigest;

use crate::engines::{Engine, Launch};
use crate::measure::{CallResult, Output};
use crate::plan::{Plan, Request, Subject, Task};
use crate::row::{self, Failure, NoCounters, Record, Simulation};
use crate::run::{Checker, ResultsFile};
use crate::session::{begin, draw};

/// What is to be simulated.
pub struct Simulations {
    /// The guests.
    pub request: Request,
    /// The engines.
    pub engines: Vec<Engine>,
    /// How many simulations run at the same time.
    pub jobs: usize,
    /// The command line, which is written into the results.
    pub command: String,
    /// The file that results go to; `-` means standard output.
    pub output: PathBuf,
}

/// What one run of a guest came to.
pub struct Simulated {
    /// What was counted.
    pub report: Report,
    /// What the guest wrote to its standard output.
    pub stdout: Vec<u8>,
}

/// How many points were simulated, and how many could not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Points with counts.
    pub simulated: usize,
    /// Points without.
    pub failed: usize,
}

/// A point that is done: what came of it, and how long it took.
type Done = (Task, anyhow::Result<Simulated>, Instant);

impl Simulations {
    /// Simulates everything: `simulate` runs a guest once on an engine, in a fresh process. A guest whose output is not the
    /// expected one has no counts. Where the machine has hardware counters, `count` runs each guest once more, with those.
    ///
    /// # Errors
    ///
    /// Returns an error if something that was asked for is not there, or results cannot be written. A point that cannot be
    /// simulated is no error, but a result.
    pub fn run(
        self,
        simulate: impl Fn(&Subject, &Engine) -> anyhow::Result<Simulated> + Sync,
        count: impl Fn(&Subject, &Engine) -> anyhow::Result<Vec<EventCount>>,
    ) -> anyhow::Result<Summary> {
        let plan = Plan::new(&self.request, self.engines, 0)?;
        for line in &plan.left_out {
            eprintln!("left out: {line}");
        }
        let tasks = in_order(&plan);
        eprintln!("simulating {} points, {} at a time, into {}", tasks.len(), self.jobs, self.output.display());
        let mut results = match &self.output {
            output if output == Path::new("-") => ResultsFile::stream(io::stdout()),
            output => ResultsFile::create(output)?,
        };
        let run = format!("{:08x}", draw());
        results.begin(begin(&run, 0, self.command, self.request))?;
        if let Err(reason) = Counters::open().map(drop) {
            eprintln!("not counted by the processor itself: {reason}");
            results.write(&[Record::NoCounters(NoCounters { run: run.clone(), reason: reason.to_string() })])?;
        } else {
            for task in &tasks {
                // A point that cannot be counted cannot be simulated either, and is a failure there.
                if let Ok(events) = count(&plan.blocks[task.block].subject, &plan.engines[task.engine]) {
                    let counters = row::Counters { run: run.clone(), point: plan.point(*task), events };
                    results.write(&[Record::Counters(counters)])?;
                }
            }
        }
        let (sender, done) = channel();
        let (next, mut checker, mut summary) = (AtomicUsize::new(0), Checker::default(), Summary::default());
        std::thread::scope(|scope| {
            for sender in vec![sender; self.jobs.max(1)] {
                scope.spawn(|| work(&plan, &tasks, &next, &simulate, sender));
            }
            for (count, (task, simulated, began)) in done.iter().enumerate() {
                let (point, engine) = (plan.point(task), &plan.engines[task.engine]);
                let subject = &plan.blocks[task.block].subject;
                let name = format!("{} {} on {}", point.guest, point.case, point.engine);
                let checked = simulated.map_err(|error| format!("{error:#}")).and_then(|simulated| {
                    let Simulated { report, stdout } = simulated;
                    let result = CallResult { ended: Ok(0), output: Output::of(&stdout), stderr: String::new() };
                    checker.check(subject, &engine.id, &result).map(|()| report)
                });
                let (record, said) = match checked {
                    Ok(report) => {
                        summary.simulated += 1;
                        let said = format!("{:.1} M instructions", report.instructions as f64 / 1e6);
                        let digest = digest(subject, engine)?;
                        (
                            Record::Simulation(Box::new(Simulation::new(
                                &run,
                                point,
                                &digest,
                                &engine.version,
                                &report,
                            ))),
                            said,
                        )
                    }
                    Err(reason) => {
                        summary.failed += 1;
                        let failure = Failure { run: run.clone(), point, process: 0, reason: reason.clone() };
                        (Record::Failure(failure), format!("failed: {reason}"))
                    }
                };
                eprintln!("{}/{}: {name}: {said}, {:.1} s", count + 1, tasks.len(), began.elapsed().as_secs_f64());
                if let Err(error) = results.write(&[record]) {
                    // Whoever works ends with its point.
                    next.store(tasks.len(), Ordering::Relaxed);
                    return Err(error).context("cannot write the results");
                }
            }
            Ok(summary)
        })
    }
}

/// All points, guest by guest.
fn in_order(plan: &Plan) -> Vec<Task> {
    let of_block =
        |block: usize| plan.blocks[block].engines.iter().map(move |&engine| Task { block, engine, process: 0 });
    (0..plan.blocks.len()).flat_map(of_block).collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the channel ends when the last thread that has this does")]
fn work(
    plan: &Plan,
    tasks: &[Task],
    next: &AtomicUsize,
    simulate: &(impl Fn(&Subject, &Engine) -> anyhow::Result<Simulated> + Sync),
    done: Sender<Done>,
) {
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let began = Instant::now();
        let simulated = simulate(&plan.blocks[task.block].subject, &plan.engines[task.engine]);
        if done.send((*task, simulated, began)).is_err() {
            return;
        }
    }
}

/// The digest of what was run: of the module, or of the native twin.
fn digest(subject: &Subject, engine: &Engine) -> anyhow::Result<String> {
    let Launch::Native(folder) = &engine.launch else { return Ok(subject.digest.clone()) };
    let twin = folder.join(&subject.guest);
    let bytes = std::fs::read(&twin).with_context(|| format!("cannot read {}", twin.display()))?;
    Ok(ModuleDigest::of(&bytes).to_string())
}
