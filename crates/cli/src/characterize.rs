//! `remuda characterize`, and the process that it starts for each measurement.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::{Args, ValueEnum};
use remuda_bench::plan::{External, Request, Size};
use remuda_bench::row::Pattern;
use remuda_bench::run::Summary;
use remuda_bench::session::{Begin, EXIT_INTERRUPTED, Session};
use remuda_bench::{engines, measure};

use crate::EXIT_FAILURE;
use crate::options::EngineChoice;

/// The subcommand that the processes are started with.
pub(crate) const MEASURE: &str = "measure-child";
/// The folder for results, if it exists and no file is named.
const RESULTS_DIR: &str = "results";

/// Measure engines on guests, in fresh processes and random order, and write down every result
#[derive(Args)]
#[command(after_help = "Without --suite, it is what the paper measured. docs/measuring.md tells the method.")]
pub(crate) struct Characterize {
    /// What to run: polybench, edge, matmul, micro, a folder with guests, or a module [default: the first three]
    #[arg(long = "suite", value_name = "SUITE|DIR|FILE.wasm", num_args = 1.., value_delimiter = ',')]
    suites: Vec<String>,

    /// Engines to measure: ids of `remuda engines`, remuda.auto, remuda.racing, native, peer.wasmtime, peer.node [default: all here]
    #[arg(long, value_name = "ID", num_args = 1.., value_delimiter = ',')]
    engines: Vec<String>,

    /// How guests are called in a process [default: as each suite needs it]
    #[arg(long = "pattern", value_enum, num_args = 1.., value_delimiter = ',')]
    patterns: Vec<PatternChoice>,

    /// How large the suite's inputs are
    #[arg(long, value_enum, default_value_t = SizeChoice::Medium)]
    size: SizeChoice,

    /// Cases of guest.toml by name, instead of those of that size
    #[arg(long = "case", value_name = "NAME", num_args = 1.., value_delimiter = ',')]
    cases: Vec<String>,

    /// The modules' variant, for example simd
    #[arg(long, value_name = "NAME", default_value = "")]
    variant: String,

    /// Fresh processes for each point
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    processes: u32,

    /// What the order of the measurements is drawn from [default: drawn, and printed]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Time for all of it, for example 10m, or "none"; if it is short, repetitions are dropped first
    #[arg(long, value_name = "TIME", default_value = "20m", value_parser = parse_budget)]
    time_budget: Budget,

    /// What one call may take
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Go on with the run that FILE was left by; what to measure stands there
    #[arg(long, value_name = "FILE", conflicts_with_all = [
        "suites", "engines", "patterns", "size", "cases", "variant", "processes", "seed", "timeout", "guests", "stdin",
        "expect", "any_output", "output", "args",
    ])]
    resume: Option<PathBuf>,

    /// Where results are written, "-" for standard output [default: a new file in results/ or here]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// The suite's folder [default: guests/ here or above]
    #[arg(long, value_name = "DIR", env = "REMUDA_GUESTS")]
    guests: Option<PathBuf>,

    /// Standard input of a module of your own
    #[arg(long, value_name = "FILE")]
    stdin: Option<PathBuf>,

    /// What a module of your own must write [default: what it wrote when it was first called]
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,

    /// A module of your own may write something else each time
    #[arg(long, conflicts_with = "expect")]
    any_output: bool,

    /// Arguments of a module of your own
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PatternChoice {
    /// Once, with nothing compiled and nothing known
    Cold,
    /// Fifty times, with nothing compiled and nothing known before
    Fifty,
    /// Once, with the artifact and the profile of an earlier process on disk
    Warm,
    /// Until the time no longer changes, and then some more
    Steady,
}

impl From<PatternChoice> for Pattern {
    fn from(choice: PatternChoice) -> Self {
        match choice {
            PatternChoice::Cold => Self::Cold,
            PatternChoice::Fifty => Self::Fifty,
            PatternChoice::Warm => Self::Warm,
            PatternChoice::Steady => Self::Steady,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SizeChoice {
    /// For a first look
    Small,
    /// What the applications do in ordinary use; PolyBench's MEDIUM
    Medium,
    /// Minutes on an interpreter; PolyBench's LARGE
    Large,
}

impl From<SizeChoice> for Size {
    fn from(choice: SizeChoice) -> Self {
        match choice {
            SizeChoice::Small => Self::Small,
            SizeChoice::Medium => Self::Medium,
            SizeChoice::Large => Self::Large,
        }
    }
}

/// The time that a run may take; `None`: as much as it needs.
#[derive(Clone, Copy)]
struct Budget(Option<Duration>);

fn parse_budget(text: &str) -> Result<Budget, humantime::DurationError> {
    if text == "none" {
        return Ok(Budget(None));
    }
    humantime::parse_duration(text).map(|time| Budget(Some(time)))
}

impl Characterize {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let begin = match &self.resume {
            Some(output) => Begin::Resume { output: output.clone() },
            None => Begin::Anew {
                request: Box::new(self.request()),
                seed: self.seed,
                output: self.output.clone().unwrap_or_else(|| results_file("characterize")),
            },
        };
        let session = Session {
            begin,
            time_budget: self.time_budget.0,
            command: command_line(),
            launcher: (std::env::current_exe()?, vec![MEASURE.into()]),
        };
        let Summary { measured, before, stopped, .. } = session.run()?;
        Ok(match measured + before {
            _ if stopped => ExitCode::from(EXIT_INTERRUPTED),
            0 => ExitCode::from(EXIT_FAILURE),
            _ => ExitCode::SUCCESS,
        })
    }

    fn request(&self) -> Request {
        Request {
            what: self.suites.clone(),
            engines: self.engines.clone(),
            patterns: self.patterns.iter().map(|pattern| (*pattern).into()).collect(),
            size: self.size.into(),
            cases: self.cases.clone(),
            variant: self.variant.clone(),
            processes: self.processes,
            timeout: self.timeout,
            guests: self.guests.clone().unwrap_or_else(find_guests),
            external: External {
                args: self.args.clone(),
                stdin: self.stdin.clone(),
                stdout: self.expect.clone(),
                any_output: self.any_output,
            },
        }
    }
}

/// A new file for results of this kind.
pub(crate) fn results_file(kind: &str) -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string().replace(':', "");
    let name = format!("{kind}-{now}.jsonl");
    if Path::new(RESULTS_DIR).is_dir() { Path::new(RESULTS_DIR).join(name) } else { name.into() }
}

/// Finds the suite's folder here or in a folder above. The path is relative, so that results name no folders of the
/// machine.
pub(crate) fn find_guests() -> PathBuf {
    let depth = std::env::current_dir().map_or(0, |here| here.ancestors().count());
    let above = (0..depth).map(|levels| std::iter::repeat_n("..", levels).collect::<PathBuf>().join("guests"));
    above.into_iter().find(|guests| guests.join("noop").is_dir()).unwrap_or_else(|| "guests".into())
}

/// The command line, quoted for a shell.
pub(crate) fn command_line() -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    let quote = |arg: String| {
        if !arg.is_empty() && arg.chars().all(plain) { arg } else { format!("'{}'", arg.replace('\'', r"'\''")) }
    };
    let args = std::env::args_os().skip(1).map(|arg| quote(arg.to_string_lossy().into_owned()));
    std::iter::once("remuda".to_owned()).chain(args).collect::<Vec<_>>().join(" ")
}

/// Does one measurement in this process: the job comes on standard input
#[derive(Args)]
pub(crate) struct MeasureChild {}

impl MeasureChild {
    #[expect(clippy::unused_self, reason = "all subcommands are executed alike")]
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        measure::in_process(&mut std::io::stdin().lock(), &mut std::io::stdout().lock(), |engine| {
            let engine = if engines::is_choice(engine) { "auto" } else { engine };
            EngineChoice { engine: engine.into() }.policy()
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
