//! Carries out a plan: runs its processes one after the other, and checks and writes their results as they arrive.

mod check;
mod eta;
mod process;
mod progress;
mod results;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use self::eta::Eta;
use self::process::{Finished, Input};
use self::progress::Progress;
use crate::engines::{self, Engine, Launch};
use crate::machine;
use crate::measure::{CallJob, CallResult, Called, Job, Output, Repeat, Reply, Times, Weight, monotonic_ns};
use crate::plan::{Block, Plan, Subject, Task};
use crate::row::{Failure, Pattern, Phase, Point, Record, Sample};

pub(crate) use check::Checker;
pub use process::Stop;
pub use results::{Earlier, ResultsError, ResultsFile};

/// The number of calls of [`Pattern::Fifty`].
const FIFTY: u32 = 50;
/// Time that a process may take beyond its calls.
const PROCESS_EXTRA: Duration = Duration::from_mins(1);
/// The time limit of a process with an unknown number of calls is that of so many calls.
const CALLS_OF_UNKNOWN: u32 = 4;
/// The number of characters of a process's standard error that a message shows.
const STDERR_CHARS_MAX: usize = 300;

/// A plan, and how to carry it out.
pub struct Run<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// The run's id, which its samples carry.
    pub id: &'a str,
    /// The program that does a [`Job`], and its arguments.
    pub launcher: (PathBuf, Vec<OsString>),
    /// The processes that were measured before: the point, and the process's number.
    pub done: HashSet<(Point, u32)>,
    /// The time that the run may take; `None`: no limit.
    pub time_budget: Option<Duration>,
    /// The order to stop. The run ends when it is given.
    pub stop: &'a Stop,
}

/// The summary of a run.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of processes that were measured.
    pub measured: usize,
    /// The number of processes that an earlier run had measured.
    pub before: usize,
    /// The number of points that failed.
    pub failed: usize,
    /// The number of processes that were not measured, because time was up or the run was stopped.
    pub left: usize,
    /// The number of whole rounds that were dropped, because there was too little time.
    pub rounds_dropped: u32,
    /// Whether the run was stopped from outside.
    pub stopped: bool,
}

/// The reason why a run cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A result cannot be written.
    #[error("cannot write a result: {0}")]
    Results(io::Error),
    /// A temporary file of the run cannot be written.
    #[error("cannot use a temporary folder: {0}; name another by the variable TMPDIR")]
    Scratch(io::Error),
}

/// The reason why a process gave no result.
enum Trouble {
    /// The run was stopped.
    Stopped,
    /// The point cannot be measured.
    Failed(String),
    /// The run cannot go on.
    Fatal(RunError),
}

impl From<String> for Trouble {
    fn from(reason: String) -> Self {
        Self::Failed(reason)
    }
}

/// Values that a run keeps from process to process.
struct State<'a> {
    run: &'a Run<'a>,
    scratch: TempDir,
    checker: Checker,
    weights: HashMap<(String, usize), Option<Weight>>,
    /// Data directories that earlier processes have left, for [`Pattern::Warm`], by block and engine.
    known: HashMap<(usize, usize), PathBuf>,
    failed: HashSet<(usize, usize)>,
    eta: Eta,
}

/// Carries out a plan.
///
/// # Errors
///
/// Returns an error if results cannot be written. A point that cannot be measured is no error, but a result.
pub fn carry_out(run: &Run<'_>, results: &mut ResultsFile) -> Result<Summary, RunError> {
    let began = Instant::now();
    let time_left = || run.time_budget.map(|budget| budget.saturating_sub(began.elapsed()));
    let mut state = State {
        run,
        scratch: tempfile::tempdir().map_err(RunError::Scratch)?,
        checker: Checker::default(),
        weights: HashMap::new(),
        known: HashMap::new(),
        failed: HashSet::new(),
        eta: Eta::default(),
    };
    let mut summary = Summary::default();
    let rounds = state.rounds(&mut summary);
    let mut left: usize = rounds.iter().map(Vec::len).sum();
    let progress = Progress::new(left);
    'rounds: for (i, round) in rounds.iter().enumerate() {
        let tasks: Vec<Task> = round.iter().copied().filter(|task| !state.has_failed(*task)).collect();
        left -= round.len() - tasks.len();
        progress.set_length(summary.measured + summary.failed + left);
        // A repetition is left out as a whole, so that no engine is measured more often than another.
        let is_repetition = i > 0;
        if is_repetition && time_left().is_some_and(|time| time < state.eta.of_all(run.plan, &tasks)) {
            summary.rounds_dropped = u32::try_from(rounds.len() - i).unwrap_or(u32::MAX);
            break;
        }
        for (j, task) in tasks.iter().enumerate() {
            if run.stop.is_ordered() || time_left().is_some_and(|time| time.is_zero()) {
                break 'rounds;
            }
            let point = run.plan.point(*task);
            let others = rounds[i + 1..].iter().flatten();
            let time = state.eta.of_all(run.plan, tasks[j..].iter().chain(others));
            progress.show(&name(&point), time_left().map_or(time, |limit| time.min(limit)));
            match state.measure(*task, &point) {
                Ok(records) => {
                    results.write(&records).map_err(RunError::Results)?;
                    summary.measured += 1;
                }
                Err(Trouble::Stopped) => break 'rounds,
                Err(Trouble::Fatal(error)) => return Err(error),
                Err(Trouble::Failed(reason)) => {
                    progress.say(&format!("{}: {reason}", name(&point)));
                    let failure = Failure { run: run.id.into(), point, process: task.process, reason };
                    results.write(&[Record::Failure(failure)]).map_err(RunError::Results)?;
                    state.failed.insert((task.block, task.engine));
                    summary.failed += 1;
                }
            }
            left -= 1;
            progress.advance();
        }
    }
    summary.left = left;
    summary.stopped = run.stop.is_ordered();
    Ok(summary)
}

/// A point in words, on one line.
fn name(point: &Point) -> String {
    let Point { guest, variant, case, engine, pattern, .. } = point;
    let variant = if variant.is_empty() { String::new() } else { format!(".{variant}") };
    let pattern = format!("{pattern:?}").to_lowercase();
    format!("{guest}{variant} {case} on {engine}, {pattern}")
}

impl State<'_> {
    /// The processes that are left to be measured, round by round.
    fn rounds(&self, summary: &mut Summary) -> Vec<Vec<Task>> {
        let plan = self.run.plan;
        let mut rounds = Vec::new();
        for process in 0..plan.processes {
            let (done, left): (Vec<_>, Vec<_>) = plan
                .round(process)
                .into_iter()
                .partition(|task| self.run.done.contains(&(plan.point(*task), task.process)));
            summary.before += done.len();
            if !left.is_empty() {
                rounds.push(left);
            }
        }
        rounds
    }

    fn has_failed(&self, task: Task) -> bool {
        self.failed.contains(&(task.block, task.engine))
    }

    fn engine(&self, task: Task) -> &Engine {
        &self.run.plan.engines[task.engine]
    }

    fn block(&self, task: Task) -> &Block {
        &self.run.plan.blocks[task.block]
    }

    /// Measures one process. Returns the records of its calls, and last its own.
    fn measure(&mut self, task: Task, point: &Point) -> Result<Vec<Record>, Trouble> {
        let load = machine::load();
        let engine = self.engine(task);
        let blank = Sample {
            run: self.run.id.to_owned(),
            point: point.clone(),
            digest: self.block(task).subject.digest.clone(),
            engine_version: engine.version.clone(),
            flags: engine.flags.clone(),
            process: task.process,
            iteration: None,
            wall_ns: BTreeMap::new(),
            cpu_ns: BTreeMap::new(),
            peak_memory_bytes: None,
            code_bytes: None,
            artifact_bytes: None,
            answered_by: None,
            load,
        };
        let samples = match engine.launch.clone() {
            Launch::Hosted => self.hosted(task, blank)?,
            Launch::Native(folder) => {
                let subject = &self.block(task).subject;
                let program = folder.join(&subject.guest);
                let mut command = Command::new(&program);
                command.args(&subject.args).env_clear().envs(&subject.env);
                let digest =
                    fs::read(&program).map_err(|error| format!("cannot read {}: {error}", program.display()))?;
                vec![self.outside(task, command, Sample { digest: Output::of(&digest).digest, ..blank })?]
            }
            Launch::Peer(peer) => {
                let subject = &self.block(task).subject;
                let command = peer.command(&subject.module, &subject.args, &subject.env);
                vec![self.outside(task, command, blank)?]
            }
        };
        Ok(samples.into_iter().map(Record::Sample).collect())
    }

    /// Measures a call that is a whole program: a native twin, or another program with the module.
    fn outside(&mut self, task: Task, command: Command, mut sample: Sample) -> Result<Sample, Trouble> {
        let stdin = self.block(task).subject.stdin.clone().map_or(Input::Nothing, Input::File);
        let finished = self.process(command, stdin, self.run.plan.timeout)?;
        let result = CallResult {
            ended: finished.status.code().ok_or_else(|| format!("ended by {}", finished.status)),
            output: Output::of(&finished.stdout),
            stderr: finished.stderr,
        };
        self.check(task, &result)?;
        self.eta.took(self.run.plan, task, Duration::from_nanos(finished.total.wall_ns));
        put(&mut sample, Phase::Total, finished.total);
        sample.peak_memory_bytes = finished.peak_memory_bytes;
        Ok(sample)
    }

    /// Measures calls that go through a host.
    fn hosted(&mut self, task: Task, blank: Sample) -> Result<Vec<Sample>, Trouble> {
        let weight = self.weight(task)?;
        let fresh = tempfile::tempdir_in(self.scratch.path()).map_err(scratch)?;
        let data_dir = fresh.path().join("data");
        let repeat = match self.block(task).pattern {
            Pattern::Cold => Repeat::Times(1),
            Pattern::Fifty => Repeat::Times(FIFTY),
            Pattern::Steady => Repeat::UntilSteady,
            Pattern::Warm => {
                copy_dir(&self.known(task)?, &data_dir).map_err(scratch)?;
                Repeat::Times(1)
            }
        };
        let (called, total) = self.call(task, repeat, &data_dir)?;
        self.eta.took(self.run.plan, task, Duration::from_nanos(total.wall_ns));

        let mut samples = Vec::new();
        for (i, call) in called.calls.into_iter().enumerate() {
            let mut sample = Sample {
                iteration: Some(u32::try_from(i).unwrap_or(u32::MAX)),
                wall_ns: call.phases_ns,
                answered_by: call.answered_by.filter(|_| engines::is_choice(&blank.point.engine)),
                ..blank.clone()
            };
            put(&mut sample, Phase::Total, call.total);
            samples.push(sample);
        }
        let in_worker = engines::is_in_worker(&blank.point.engine);
        let mut whole = Sample { peak_memory_bytes: called.peak_memory_bytes, ..blank };
        put(&mut whole, Phase::Bootstrap, called.bootstrap);
        put(&mut whole, Phase::Deploy, called.deploy);
        put(&mut whole, Phase::Total, total);
        if let Some(weight) = weight {
            put(&mut whole, Phase::Recompile, weight.compile);
            whole.code_bytes = Some(weight.code_bytes);
            whole.artifact_bytes = weight.artifact_bytes;
        }
        samples.push(whole);
        if in_worker {
            // What the operating system counted for this process is not what the guest and its engine have used.
            for sample in &mut samples {
                sample.cpu_ns.clear();
                (sample.peak_memory_bytes, sample.code_bytes) = (None, None);
            }
        }
        Ok(samples)
    }

    /// Makes the calls of one process, and checks the result of each.
    fn call(&mut self, task: Task, repeat: Repeat, data_dir: &Path) -> Result<(Called, Times), Trouble> {
        let Subject { guest, module, args, env, stdin, .. } = self.block(task).subject.clone();
        let timeout = self.run.plan.timeout;
        let job = Job::Call(CallJob {
            started_ns: monotonic_ns(),
            engine: self.engine(task).id.clone(),
            name: guest,
            module,
            args,
            env,
            stdin,
            data_dir: data_dir.to_owned(),
            repeat,
            timeout,
        });
        let calls = match repeat {
            Repeat::Times(times) => times,
            Repeat::UntilKnown | Repeat::UntilSteady => CALLS_OF_UNKNOWN,
        };
        match self.job(&job, timeout.saturating_mul(calls).saturating_add(PROCESS_EXTRA))? {
            (Reply::Called(called), total) => {
                for call in &called.calls {
                    self.check(task, &call.result)?;
                }
                Ok((called, total))
            }
            (other, _) => Err(Trouble::Failed(format!("the process answered with something else: {other:?}"))),
        }
    }

    /// The data directory that an earlier process of the point has left. If there is none yet, such a process runs
    /// first.
    fn known(&mut self, task: Task) -> Result<PathBuf, Trouble> {
        let key = (task.block, task.engine);
        if let Some(known) = self.known.get(&key) {
            return Ok(known.clone());
        }
        let dir = self.scratch.path().join(format!("known-{}-{}", task.block, task.engine));
        self.call(task, Repeat::UntilKnown, &dir)?;
        self.known.insert(key, dir.clone());
        Ok(dir)
    }

    /// Size and compile time of the module's artifact; `None` for a choice among engines.
    fn weight(&mut self, task: Task) -> Result<Option<Weight>, Trouble> {
        let Subject { digest, module, .. } = &self.block(task).subject;
        let key = (digest.clone(), task.engine);
        if let Some(weight) = self.weights.get(&key) {
            return Ok(*weight);
        }
        let engine = &self.engine(task).id;
        let weight = if engines::is_choice(engine) {
            None
        } else {
            let job = Job::Weigh { engine: engine.clone(), module: module.clone() };
            match self.job(&job, self.run.plan.timeout.saturating_add(PROCESS_EXTRA))? {
                (Reply::Weighed(weight), _) => Some(weight),
                (other, _) => {
                    return Err(Trouble::Failed(format!("the process answered with something else: {other:?}")));
                }
            }
        };
        self.weights.insert(key, weight);
        Ok(weight)
    }

    /// Lets a fresh process do a job, and returns its reply with the time that it took.
    fn job(&self, job: &Job, limit: Duration) -> Result<(Reply, Times), Trouble> {
        let (program, args) = &self.run.launcher;
        let mut command = Command::new(program);
        command.args(args);
        let bytes = serde_json::to_vec(job).map_err(|error| error.to_string())?;
        let finished = self.process(command, Input::Bytes(bytes), limit)?;
        match serde_json::from_slice(&finished.stdout) {
            Ok(Reply::Failed { reason }) => Err(Trouble::Failed(reason)),
            Ok(reply) => Ok((reply, finished.total)),
            Err(_) => {
                let Finished { status, stderr, .. } = finished;
                Err(Trouble::Failed(format!("the process ended without an answer: {status}{}", saying(&stderr))))
            }
        }
    }

    fn process(&self, command: Command, input: Input, limit: Duration) -> Result<Finished, Trouble> {
        let program = command.get_program().to_owned();
        let finished = process::run(command, input, limit, self.run.stop)
            .map_err(|error| format!("cannot run {}: {error}", program.display()))?;
        if self.run.stop.is_ordered() {
            return Err(Trouble::Stopped);
        }
        if finished.timed_out {
            let limit = limit.as_secs_f64();
            return Err(Trouble::Failed(format!("it was killed after {limit:.0} s; allow it more with --timeout")));
        }
        Ok(finished)
    }

    fn check(&mut self, task: Task, result: &CallResult) -> Result<(), Trouble> {
        let plan = self.run.plan;
        let (subject, engine) = (&plan.blocks[task.block].subject, &plan.engines[task.engine].id);
        self.checker.check(subject, engine, result).map_err(Trouble::Failed)
    }
}

fn put(sample: &mut Sample, phase: Phase, times: Times) {
    sample.wall_ns.insert(phase, times.wall_ns);
    sample.cpu_ns.insert(phase, times.cpu_ns);
}

fn scratch(error: io::Error) -> Trouble {
    Trouble::Fatal(RunError::Scratch(error))
}

/// A program's standard error, for the end of a message.
fn saying(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        said => format!("; it says {:?}", said.chars().take(STDERR_CHARS_MAX).collect::<String>()),
    }
}

/// Copies a folder with its permissions.
fn copy_dir(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    fs::set_permissions(to, fs::metadata(from)?.permissions())?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
