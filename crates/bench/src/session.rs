//! One run of the instrument from its request to its last result.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use crate::engines::{self, Absent};
use crate::plan::{Plan, Request};
use crate::row::{self, Machine};
use crate::run::{self, Earlier, ResultsFile, Stop, Summary};
use crate::{COMMIT, machine};

/// The exit code of a run that was stopped: 128 and SIGINT's number.
pub const EXIT_INTERRUPTED: u8 = 130;

/// A run that is to be done, and how.
pub struct Session {
    /// The beginning of the run: anew, or where an earlier run stopped.
    pub begin: Begin,
    /// The time that the run may take; `None`: no limit.
    pub time_budget: Option<Duration>,
    /// The command line, which is written into the results.
    pub command: String,
    /// The program that does a [job](crate::measure::Job), and its arguments.
    pub launcher: (PathBuf, Vec<OsString>),
}

/// The beginning of a run.
pub enum Begin {
    /// A new run.
    Anew {
        /// The request: what to measure.
        request: Box<Request>,
        /// The seed that the order is drawn from; `None`: a random one.
        seed: Option<u64>,
        /// The file that results go to; `-` means standard output.
        output: PathBuf,
    },
    /// The run goes on where an earlier run has stopped.
    Resume {
        /// The results file of the earlier run.
        output: PathBuf,
    },
}

impl Session {
    /// Measures everything. Ctrl-C or SIGTERM ends the run, and its results so far are kept; a second one ends the
    /// process at once.
    ///
    /// # Errors
    ///
    /// Returns an error if something that was asked for is not there, or results cannot be written. A point that cannot
    /// be measured is no error, but a result.
    pub fn run(self) -> anyhow::Result<Summary> {
        let machine = machine::look();
        let mut earlier = None;
        let (request, seed, output) = match self.begin {
            Begin::Anew { request, seed, output } => (*request, seed.unwrap_or_else(draw), output),
            Begin::Resume { output } => {
                let (results, Earlier { run, done }) = ResultsFile::resume(&output)?;
                check_same(&run, &machine, &output)?;
                earlier = Some((results, done));
                let request = run.request.context("a run that is taken up again says what was to be measured")?;
                (request, run.seed, output)
            }
        };
        let scratch = tempfile::tempdir().context("there is no temporary folder; name one by the variable TMPDIR")?;
        let root = request.guests.parent().unwrap_or(Path::new("."));
        let (here, absent) = engines::look(root, scratch.path())?;
        let selected = engines::select(&request.engines, &here, &absent)?;
        let plan = Plan::new(&request, selected, seed)?;
        announce(&plan, if request.engines.is_empty() { &absent } else { &[] }, &output);

        let (mut results, done) = match earlier {
            Some(earlier) => earlier,
            None if output == Path::new("-") => (ResultsFile::stream(std::io::stdout()), HashSet::new()),
            None => (ResultsFile::create(&output)?, HashSet::new()),
        };
        // Before anything is written: whoever sees the first line may stop the run.
        let stop = Arc::new(Stop::default());
        let handler = Arc::clone(&stop);
        ctrlc::set_handler(move || {
            if !handler.order() {
                std::process::exit(i32::from(EXIT_INTERRUPTED));
            }
        })?;
        let id = format!("{:08x}", draw());
        results.begin(begin(&id, seed, self.command, request))?;

        let Self { time_budget, launcher, .. } = self;
        let run = run::Run { plan: &plan, id: &id, launcher, done, time_budget, stop: &stop };
        let summary = run::carry_out(&run, &mut results)?;
        conclude(&summary, &output);
        Ok(summary)
    }
}

/// Returns an error if another machine began the run; notes on standard error if another commit did.
fn check_same(run: &row::Run, machine: &Machine, output: &Path) -> anyhow::Result<()> {
    let file = output.display();
    let row::Run { commit, machine: earlier, .. } = run;
    if earlier.fingerprint != machine.fingerprint {
        bail!("{file} was measured on another machine ({}, {}); begin a new file here", earlier.cpu, earlier.kernel);
    }
    if commit != COMMIT {
        eprintln!("note: {file} was begun by commit {commit}, and this is {COMMIT}");
    }
    Ok(())
}

/// Says on standard error what is going to be measured.
fn announce(plan: &Plan, absent: &[Absent], output: &Path) {
    for Absent { id, reason } in absent {
        eprintln!("not measured: {id}: {reason}");
    }
    for line in &plan.left_out {
        eprintln!("left out: {line}");
    }
    let points: usize = plan.blocks.iter().map(|block| block.engines.len()).sum();
    eprintln!(
        "measuring {points} points in {} fresh processes each, in an order drawn from --seed {}, into {}",
        plan.processes,
        plan.seed,
        output.display()
    );
}

/// Says on standard error what was measured, and how to see it or go on.
fn conclude(summary: &Summary, output: &Path) {
    let file = output.display();
    let Summary { measured, before, failed, left, rounds_dropped, stopped } = *summary;
    let total = measured + before;
    eprintln!("{total} processes were measured, {failed} points failed");
    if rounds_dropped > 0 {
        eprintln!("--time-budget was too short for the last {rounds_dropped} repetitions: they were dropped");
    }
    if left > 0 {
        let why = if stopped { "stopped" } else { "--time-budget is used up" };
        eprintln!("{why}: {left} processes are left; go on with: remuda characterize --resume {file}");
    }
    if total > 0 && output != Path::new("-") {
        eprintln!("results are in {file}; see them with: remuda report {file} -o report.html");
    }
}

/// The record that a run begins with.
pub(crate) fn begin(id: &str, seed: u64, command: String, request: Request) -> row::Run {
    row::Run {
        schema: row::SCHEMA,
        run: id.to_owned(),
        seed,
        command,
        unix_ms: unix_ms(),
        remuda: env!("CARGO_PKG_VERSION").into(),
        commit: COMMIT.into(),
        machine: machine::look(),
        request: Some(request),
    }
}

/// A random number, short enough to be typed again.
pub(crate) fn draw() -> u64 {
    u64::from(rand::random::<u32>())
}

fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}
