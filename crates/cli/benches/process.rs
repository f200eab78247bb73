//! Measures whole processes, as a shell starts them: `remuda run` beside `wasmtime run`, which it replaces, and beside
//! its own engines.
//!
//! *Warm*: with a data directory that knows the program, against `wasmtime run -C cache=y` with a cache that has it.
//! *Cold*: with an empty data directory, against the best of the engines when they are named and nothing is kept. Runs
//! that are compared follow each other, in changing order, and ratios are taken within a round, so that a slow second
//! affects both sides. Every output is verified. Prints Markdown.
//!
//!     scripts/install-peers.sh                           the wasmtime command
//!     scripts/install-modules.sh                         other people's programs
//!     cargo bench --workspace --bench process
//!     cargo bench --workspace --bench process -- hello lenet --only warm --rounds 31

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use clap::{Parser, ValueEnum};
use remuda_bench::stats::{Estimate, PROCESSES_MIN};
use remuda_model::ModuleDigest;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// The default number of rounds. The interval of a median of 15 is narrow enough to tell 5 % on a machine at rest.
const ROUNDS: usize = 15;
/// Time after which no further round of a case begins, unless it is needed for an interval. Otherwise programs that
/// take seconds would make the benchmark take hours; and these scatter less.
const BUDGET: Duration = Duration::from_secs(90);
/// The number of runs after which a data directory knows a program: the first engine, a second one, better code, and a
/// run with it.
const WARM_UP_RUNS: usize = 4;
/// The number of runs after which wasmtime's cache has a program: one that compiles, and one that reads.
const CACHE_WARM_UP_RUNS: usize = 2;
/// The longest time to wait for a compile that a run left behind in the background. It is longer than Cranelift takes
/// for any program here that is not heavy.
const BACKGROUND_WAIT: Duration = Duration::from_mins(2);
/// Time between two checks whether that compile has ended.
const BACKGROUND_POLL: Duration = Duration::from_millis(20);
/// An engine that takes more than this many times as long as the best is measured no further. Even on a noisy machine
/// it will not turn out to be the best.
const HOPELESS: f64 = 4.0;
/// The time limit of an engine's first run. An engine that reaches it is not measured further.
const TIMEOUT: &str = "60s";
/// The time limit of a first run, for programs that take a minute to compile.
const HEAVY_TIMEOUT: &str = "600s";
/// The aims for a warm run's time over wasmtime's: for the geometric mean, and for each program by itself.
const WARM_AIM: f64 = 0.9;
const WARM_AIM_EACH: f64 = 1.0;
/// The aims for a cold run's time over the best engine's: for the geometric mean, and for each short program by itself.
const COLD_AIM: f64 = 1.05;
const COLD_AIM_SHORT: f64 = 1.15;
/// A program that takes at most this long with its best engine is short. The cost of choosing shows most there.
const SHORT_MS: f64 = 20.0;
/// The number of characters of a failed run's standard error that are shown.
const STDERR_SHOWN: usize = 200;
/// The path at which a program finds the folder into which it may write.
const SCRATCH_AT: &str = "/tmp";

const ENGINES: [&str; 3] = ["wasmi.lazy", "wasmtime.winch", "wasmtime.cranelift"];

/// A program with its input and the expected output.
struct Case {
    name: &'static str,
    /// Whether it is a guest of the suite; else it is a program that `scripts/install-modules.sh` installs.
    is_guest: bool,
    /// The arguments, separated by spaces.
    args: &'static str,
    /// The file with its standard input, in its folder of inputs; empty: there is none.
    stdin: &'static str,
    /// The path at which it finds its folder of inputs; empty: the folder is not granted.
    data_at: &'static str,
    /// The expected standard output.
    stdout: Expected,
    /// The file that it writes below [`SCRATCH_AT`], and the file's expected content.
    product: Option<(&'static str, Expected)>,
    /// Whether it takes minutes, so that it is left out unless it is named.
    is_heavy: bool,
}

#[derive(Clone, Copy)]
enum Expected {
    /// The content of this file below `guests`.
    File(&'static str),
    /// Bytes with this SHA-256.
    Digest(&'static str),
}

/// An empty output.
const NOTHING: Expected = Expected::Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");

const fn guest(name: &'static str, stdin: &'static str, stdout: &'static str) -> Case {
    Case { is_guest: true, stdin, stdout: Expected::File(stdout), ..program(name, "") }
}

const fn program(name: &'static str, stdout: &'static str) -> Case {
    Case {
        name,
        is_guest: false,
        args: "",
        stdin: "",
        data_at: "",
        stdout: Expected::Digest(stdout),
        product: None,
        is_heavy: false,
    }
}

/// The edge applications are called as `examples/edge/README.md` calls them.
const CASES: &[Case] = &[
    guest("hello", "name.txt", "hello/expected/name.txt"),
    Case { args: "--format png", ..guest("canny", "camera.png", "canny/expected/camera.png") },
    guest("plate", "scene-640.png", "plate/expected/scene-640.json"),
    guest("attitude", "small.csv", "attitude/expected/small.csv"),
    guest("lenet", "digits-10.idx3", "lenet/expected/10.jsonl"),
    guest("unzip", "licence.zip", "unzip/expected/licence.txt"),
    Case {
        stdin: "line.txt",
        ..program("reverse", "dd58fc1d1c0d125e32484ad5f08d95335c1c19c81f2687477ad7b32b2eeab3c8")
    },
    Case {
        args: "-i 12 -o 60",
        ..program("icepll", "ae15db359752aa5b8b1feb6dce956c4db4e294029eb96b5de20544364ea8e713")
    },
    Case {
        args: "-g -s 1 32 4096",
        ..program("icebram", "b933b11c7c5eb5ffe12cf9b9b7cf9b749335b92dd51c364049c27663353a02d2")
    },
    Case {
        stdin: "tiles.asc",
        ..program("icepack", "1b3bd672b90f777517cd073bfa7ecff1fc73e93257849f68b26049c59b67a809")
    },
    Case {
        args: "-mmcu=avr5 -al -o /tmp/delay.o /data/delay.s",
        data_at: "/data",
        product: Some((
            "delay.o",
            Expected::Digest("7421cd38f134d468cf5466c741520ff0074c9bdf4217c630fff3d428cca491cd"),
        )),
        ..program("avr-as", "5ce3e474f62faf05a46bddeb6c70427c2efa4b15fa4ef87851bda34fc3d1be03")
    },
    // This program imports from `wasi_unstable`, WASI's preview 0.
    Case { args: "moo", ..program("cowsay", "75741bd2c2a8f0837108f7025ec5d8a82c1702d2074560ac5af7f2f79cec511c") },
    Case {
        args: "-m --exit-codes=0",
        stdin: "factors.smt2",
        ..program("boolector", "8ae941f46ff3e47b76c2050214bb2b4f7a9de2cc0853690a529b0a4ce9b5a330")
    },
    Case {
        args: "/data/primes.js",
        data_at: "/data",
        ..program("quickjs", "d7e64149d4d9f2347f09dd439fc58f1249aaa33439292afb5b5016682fa0300f")
    },
    Case {
        args: "-q --lp384 --package qn32 --seed 1 --threads 1 --json /share/register.json --asc /tmp/register.asc",
        data_at: "/share",
        stdout: NOTHING,
        product: Some((
            "register.asc",
            Expected::Digest("10e0b7639c937fc8dbebaec96df8fadebf7035e02775650aac96a21372c1d484"),
        )),
        ..program("nextpnr", "")
    },
    Case {
        args: "--no-pin-check --frameworks_dir /data/share/frameworks \
            -f /data/share/frameworks/boards/bare/bare.v -o /tmp/out.v /data/quotient.si",
        data_at: "/data",
        product: Some(("out.v", Expected::Digest("ca5c01c4acdc2894df3863dbdfc6b895189dcedca99c455da92675ee3f11308c"))),
        ..program("silice", "e3b167b6a5e3b2cc6432a9c2d2d78739b3a5af751d45d36fde2bca7f44e1b42f")
    },
    Case {
        args: "- -c",
        stdin: "drawing.svg",
        ..program("resvg", "1a61389f3122978747e55face6ad9636e6eaa82eb58dbf3866af2982cdefa70a")
    },
    Case {
        args: "-s",
        stdin: "print.go",
        ..program("gofmt", "10d7cd625d83a15f70b6e61641d3cebd4e4d49d7e0f2a24d5d2b59988074d2f7")
    },
    Case {
        args: "--no-usvg -o gerber /dev/drawing.svg /tmp/drawing.gbr",
        data_at: "/dev",
        stdout: NOTHING,
        product: Some((
            "drawing.gbr",
            Expected::Digest("902d9c2282a0511657155e1d2bdaf5c521fc7730140f818c5c59aac3d4648f53"),
        )),
        ..program("svg-flatten", "")
    },
    Case {
        args: "-voice slt -f /data/sentence.txt -o /tmp/sentence.wav",
        data_at: "/data",
        stdout: NOTHING,
        product: Some((
            "sentence.wav",
            Expected::Digest("e35d90287ef2a91c981dc136abdd3937f811630e6d3519ee413af4bead10be57"),
        )),
        ..program("flite", "")
    },
    Case {
        args: "-quiet -O2 -mmcu=avr5 /data/queens.c -o -",
        data_at: "/data",
        ..program("avr-cc1", "ccafe6d02ead1034adc97f8b9de92be3aba7f3420a33f47fb4efeb27438d0a2f")
    },
    Case {
        args: "/data/words.py",
        stdin: "text.txt",
        data_at: "/data",
        ..program("cpython", "959b0398300abe85b289e312017b44d3f0e094b103f4f245a8aaf76c1d91950e")
    },
    Case {
        args: "-q -Q -T -s /share/alu.ys",
        data_at: "/share",
        stdout: NOTHING,
        product: Some((
            "alu.blif",
            Expected::Digest("56bab02a017cb6fc4e71699581aa292c562bd66346c65dbf440ad65f686c84db"),
        )),
        is_heavy: true,
        ..program("yosys", "")
    },
];

impl Case {
    fn module(&self) -> PathBuf {
        if self.is_guest {
            root().join("guests").join(self.name).join(format!("{}.wasm", self.name))
        } else {
            root().join("target/modules").join(format!("{}.wasm", self.name))
        }
    }

    fn inputs(&self) -> PathBuf {
        if self.is_guest {
            root().join("guests").join(self.name).join("input")
        } else {
            root().join("target/modules/data").join(self.name)
        }
    }

    fn is_installed(&self) -> bool {
        self.module().is_file() && self.inputs().is_dir()
    }

    fn timeout(&self) -> &'static str {
        if self.is_heavy { HEAVY_TIMEOUT } else { TIMEOUT }
    }
}

impl Expected {
    fn verify(self, what: &str, got: &[u8]) -> Result<(), Failure> {
        let is_right = match self {
            Self::File(path) => fs::read(root().join("guests").join(path)).is_ok_and(|bytes| bytes == got),
            Self::Digest(digest) => ModuleDigest::of(got).to_string() == digest,
        };
        if is_right {
            return Ok(());
        }
        Err(Failure::Wrong(format!("{what} is wrong: {} bytes with the SHA-256 {}", got.len(), ModuleDigest::of(got))))
    }
}

/// Measure whole processes of `remuda run`
#[derive(Parser)]
struct Options {
    /// Only these cases
    #[arg(value_name = "CASE")]
    cases: Vec<String>,

    /// Only this table
    #[arg(long)]
    only: Option<Table>,

    /// How often each pair is measured
    #[arg(long, value_name = "N", default_value_t = ROUNDS)]
    rounds: usize,

    /// The binary to measure, if not this project's; relative to its root
    #[arg(long, env = "REMUDA", value_name = "FILE")]
    remuda: Option<PathBuf>,

    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    Warm,
    Cold,
}

fn main() -> anyhow::Result<ExitCode> {
    let options = Options::parse();
    let cases = pick(&options.cases)?;
    let mut bench = Bench::new(&options)?;
    println!("{}, {}; {} rounds.", version(&bench.remuda)?, version(&bench.wasmtime)?, options.rounds);
    if options.only != Some(Table::Cold) {
        warm(&mut bench, &cases)?;
    }
    if options.only != Some(Table::Warm) {
        cold(&mut bench, &cases)?;
    }
    if bench.failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    println!("\nFailed:\n");
    for failure in &bench.failures {
        println!("- {failure}");
    }
    Ok(ExitCode::FAILURE)
}

/// The cases with these names, or all that are not heavy. Prints which of them are not installed.
fn pick(names: &[String]) -> anyhow::Result<Vec<&'static Case>> {
    if let Some(unknown) = names.iter().find(|name| CASES.iter().all(|case| case.name != **name)) {
        let known: Vec<&str> = CASES.iter().map(|case| case.name).collect();
        bail!("there is no case {unknown}; there are {}", known.join(", "));
    }
    let is_wanted = |case: &Case| {
        if names.is_empty() { !case.is_heavy } else { names.iter().any(|name| name == case.name) }
    };
    let (found, missing): (Vec<&Case>, Vec<&Case>) =
        CASES.iter().filter(|case| is_wanted(case)).partition(|case| case.is_installed());
    if !missing.is_empty() {
        let missing: Vec<&str> = missing.iter().map(|case| case.name).collect();
        println!("Missing, and installed by scripts/install-modules.sh: {}.\n", missing.join(", "));
    }
    Ok(found)
}

/// The name and version that a program prints of itself.
fn version(binary: &Path) -> anyhow::Result<String> {
    let output =
        Command::new(binary).arg("--version").output().with_context(|| format!("cannot start {}", binary.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.ancestors().nth(2).unwrap_or(crate_dir).to_path_buf()
}

/// How a program is run.
#[derive(Clone, Copy)]
enum Way<'a> {
    /// `remuda run`, which chooses the engine, with a data directory that stays.
    Kept(&'a Path),
    /// `remuda run`, which chooses the engine, with an empty data directory.
    Fresh,
    /// `remuda run` with this engine, with nothing kept, and with this time limit if there is one.
    Engine(&'a str, Option<&'a str>),
    /// `wasmtime run`, with the cache that this file configures, or with no cache.
    Wasmtime(Option<&'a Path>),
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kept(_) => f.write_str("remuda run, warm"),
            Self::Fresh => f.write_str("remuda run, cold"),
            Self::Engine(engine, _) => write!(f, "remuda run --no-data --engine {engine}"),
            Self::Wasmtime(Some(_)) => f.write_str("wasmtime run -C cache=y"),
            Self::Wasmtime(None) => f.write_str("wasmtime run -C cache=n"),
        }
    }
}

/// The reason why a run does not count.
#[derive(Debug)]
enum Failure {
    /// The program did not succeed. With a named engine, this means that the engine cannot run it.
    Failed(String),
    /// The program succeeded, but its output is wrong; or the machine is at fault.
    Wrong(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(why) | Self::Wrong(why)) = self;
        f.write_str(why)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Wrong(format!("cannot be measured: {error}"))
    }
}

/// The programs that are measured, the settings, and the failures so far.
struct Bench {
    remuda: PathBuf,
    wasmtime: PathBuf,
    rounds: usize,
    /// The folder for standard output and for files that programs write. It is in memory if possible, so that no disk
    /// is measured.
    memory: TempDir,
    failures: Vec<String>,
}

impl Bench {
    fn new(options: &Options) -> anyhow::Result<Self> {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_remuda"));
        Ok(Self {
            remuda: options.remuda.as_ref().map_or(own, |path| root().join(path)),
            wasmtime: find_wasmtime()?,
            rounds: options.rounds,
            memory: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .context("cannot make a temporary folder")?,
            failures: Vec::new(),
        })
    }

    /// Runs the program once in each way per round, in changing order. Returns the times of each way, in milliseconds;
    /// times with the same index are from the same round.
    fn measure(&self, case: &Case, ways: &[Way]) -> Result<Vec<Vec<f64>>, (String, Failure)> {
        let began = Instant::now();
        let mut times = vec![Vec::new(); ways.len()];
        for round in 0..self.rounds {
            if round >= PROCESSES_MIN && began.elapsed() > BUDGET {
                break;
            }
            for at in order(ways.len(), round) {
                let took = self.run(case, ways[at]).map_err(|failure| (ways[at].to_string(), failure))?;
                times[at].push(took);
            }
        }
        Ok(times)
    }

    /// Runs a program once and verifies its output. Returns how long it took, in milliseconds.
    fn run(&self, case: &Case, way: Way) -> Result<f64, Failure> {
        let scratch = self.memory.path().join("scratch");
        if scratch.exists() {
            fs::remove_dir_all(&scratch)?;
        }
        fs::create_dir(&scratch)?;
        let fresh = if matches!(way, Way::Fresh) { Some(DataDir::new()?) } else { None };
        let mut command = self.command(case, way, fresh.as_ref(), &scratch);
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.memory.path().join(name));
        let stdin = if case.stdin.is_empty() { PathBuf::from("/dev/null") } else { case.inputs().join(case.stdin) };
        command.stdin(File::open(stdin)?).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        if let Way::Kept(data_dir) = way {
            wait_for_background(data_dir);
        }

        let began = Instant::now();
        let status = command.spawn()?.wait()?;
        let took_ms = began.elapsed().as_secs_f64() * 1e3;

        if !status.success() {
            let said = fs::read(&stderr)?;
            let said = String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ");
            return Err(Failure::Failed(format!("{status}: {}", said.chars().take(STDERR_SHOWN).collect::<String>())));
        }
        case.stdout.verify("standard output", &fs::read(&stdout)?)?;
        if let Some((name, expected)) = case.product {
            // A missing file counts as an empty one.
            expected.verify(name, &fs::read(scratch.join(name)).unwrap_or_default())?;
        }
        Ok(took_ms)
    }

    fn command(&self, case: &Case, way: Way, fresh: Option<&DataDir>, scratch: &Path) -> Command {
        let is_wasmtime = matches!(way, Way::Wasmtime(_));
        let mut command = Command::new(if is_wasmtime { &self.wasmtime } else { &self.remuda });
        for (name, _) in std::env::vars_os() {
            if [b"REMUDA".as_slice(), b"WASMTIME"].iter().any(|prefix| name.as_bytes().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.arg("run");
        match (way, fresh) {
            (Way::Kept(data_dir), _) => drop(command.arg("--data-dir").arg(data_dir)),
            (Way::Fresh, Some(data_dir)) => drop(command.arg("--data-dir").arg(data_dir.path())),
            (Way::Fresh, None) => {}
            (Way::Engine(engine, timeout), _) => {
                command.args(["--no-data", "--engine", engine]);
                command.args(timeout.map(|timeout| ["--timeout", timeout]).into_iter().flatten());
            }
            (Way::Wasmtime(Some(config)), _) => {
                let mut setting = OsString::from("cache-config=");
                setting.push(config);
                command.args(["-C", "cache=y", "-C"]).arg(setting);
            }
            // Without this option, wasmtime keeps a cache in the user's home.
            (Way::Wasmtime(None), _) => drop(command.args(["-C", "cache=n"])),
        }
        if !case.data_at.is_empty() {
            command.arg("--dir").arg(mapping(&case.inputs(), case.data_at));
        }
        if case.product.is_some() {
            // With wasmtime, guests may always write to granted folders.
            let suffix = if is_wasmtime { "" } else { "::rw" };
            command.arg("--dir").arg(mapping(scratch, &format!("{SCRATCH_AT}{suffix}")));
        }
        command.arg(case.module()).args(case.args.split_whitespace());
        command
    }

    fn fail(&mut self, case: &Case, way: &impl fmt::Display, failure: &Failure) {
        self.failures.push(format!("{} ({way}): {failure}", case.name));
    }
}

fn mapping(host: &Path, guest: &str) -> OsString {
    let mut mapping = host.as_os_str().to_owned();
    mapping.push("::");
    mapping.push(guest);
    mapping
}

/// The order of the ways in a round: each way comes first and last equally often.
fn order(ways: usize, round: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ways).map(|at| (at + round / 2) % ways).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

fn find_wasmtime() -> anyhow::Result<PathBuf> {
    let installed = root().join("target/peers/bin/wasmtime");
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(installed)
        .chain(std::env::split_paths(&on_path).map(|dir| dir.join("wasmtime")))
        .find(|path| path.is_file())
        .ok_or_else(|| anyhow!("there is no wasmtime command; scripts/install-peers.sh installs it"))
}

/// A temporary data directory. Compiles that still run for it in the background are killed when it is dropped.
struct DataDir(TempDir);

impl DataDir {
    /// Makes the directory on the disk for temporary files, because the time to read and write there is to be measured
    /// too.
    fn new() -> io::Result<Self> {
        tempfile::Builder::new().prefix("remuda-bench-").tempdir().map(Self)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        for pid in processes_with(self.path()) {
            // The process may have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
        wait_for_background(self.path());
    }
}

/// Waits until no process uses a data directory any more.
fn wait_for_background(data_dir: &Path) {
    let began = Instant::now();
    while !processes_with(data_dir).is_empty() {
        if began.elapsed() > BACKGROUND_WAIT {
            eprintln!(
                "something still runs in the background after {BACKGROUND_WAIT:?}: what follows was measured beside it"
            );
            return;
        }
        std::thread::sleep(BACKGROUND_POLL);
    }
}

/// The processes that have this path in their command line or environment.
fn processes_with(path: &Path) -> Vec<Pid> {
    let path = path.as_os_str().as_bytes();
    let mentions = |pid: i32, file: &str| {
        fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|bytes| bytes.windows(path.len()).any(|part| part == path))
    };
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&pid| mentions(pid, "cmdline") || mentions(pid, "environ"))
        .filter_map(Pid::from_raw)
        .collect()
}

/// The ratio in a line of a table.
struct Ratio {
    name: &'static str,
    ratio: Estimate,
    /// The median of the ratio's denominators, in milliseconds.
    denominator_ms: f64,
}

impl Ratio {
    /// The median of the rounds' ratios. `stream` picks the random numbers for its interval.
    fn new(case: &Case, numerator: &[f64], denominator: &[f64], stream: usize) -> anyhow::Result<Self> {
        let ratios: Vec<f64> = numerator.iter().zip(denominator).map(|(a, b)| a / b).collect();
        let ratio =
            Estimate::median(&ratios, stream as u64).context("there is no round; --rounds must be at least 1")?;
        Ok(Self { name: case.name, ratio, denominator_ms: median(denominator) })
    }
}

fn median(values: &[f64]) -> f64 {
    remuda_bench::stats::median(values)
}

/// A ratio with its interval, or with `[?]` if there are too few rounds for an interval.
fn show(ratio: &Estimate) -> String {
    let interval = ratio.interval();
    if interval.is_known() {
        format!("{:.2} [{:.2}, {:.2}]", ratio.value, interval.low, interval.high)
    } else {
        format!("{:.2} [?]", ratio.value)
    }
}

/// Whether an aim is met. This can be told only if the whole interval is on one side of the aim.
fn verdict(ratio: &Estimate, aim: f64) -> &'static str {
    let interval = ratio.interval();
    if interval.is_known() && interval.high <= aim {
        "is met"
    } else if interval.is_known() && interval.low > aim {
        "is missed"
    } else {
        "cannot be told"
    }
}

/// Prints one line of a table at once, so that the user sees the progress.
fn print_row(cells: &[String]) -> anyhow::Result<()> {
    println!("| {} |", cells.join(" | "));
    io::stdout().flush().context("cannot print")
}

fn print_mean(ratios: &[Ratio], aim: f64) {
    let parts: Vec<&Estimate> = ratios.iter().map(|ratio| &ratio.ratio).collect();
    if parts.is_empty() {
        return;
    }
    let mean = Estimate::geometric_mean(&parts);
    println!(
        "\nGeometric mean of {}: {}; the aim, at most {aim:.2}, {}.",
        parts.len(),
        show(&mean),
        verdict(&mean, aim)
    );
}

fn print_worst<'a>(ratios: impl Iterator<Item = &'a Ratio>, what: &str, aim: f64) {
    if let Some(Ratio { name, ratio, .. }) = ratios.max_by(|a, b| a.ratio.value.total_cmp(&b.ratio.value)) {
        println!("Worst{what}: {name}, {}; the aim, at most {aim:.2}, {}.", show(ratio), verdict(ratio, aim));
    }
}

fn warm(bench: &mut Bench, cases: &[&Case]) -> anyhow::Result<()> {
    println!("\n## Warm\n");
    println!("| program | remuda run, ms | wasmtime run -C cache=y, ms | ratio | rounds |");
    println!("|---|---:|---:|---|---:|");
    let mut ratios = Vec::new();
    for (stream, case) in cases.iter().enumerate() {
        match warm_times(bench, case)? {
            Ok(times) => {
                let ratio = Ratio::new(case, &times[0], &times[1], stream)?;
                print_row(&[
                    case.name.to_owned(),
                    format!("{:.1}", median(&times[0])),
                    format!("{:.1}", median(&times[1])),
                    show(&ratio.ratio),
                    times[0].len().to_string(),
                ])?;
                ratios.push(ratio);
            }
            Err((way, failure)) => {
                print_row(&[case.name.to_owned(), "failed".to_owned(), String::new(), String::new(), String::new()])?;
                bench.fail(case, &way, &failure);
            }
        }
    }
    print_mean(&ratios, WARM_AIM);
    print_worst(ratios.iter(), "", WARM_AIM_EACH);
    Ok(())
}

/// The times of Remuda and of wasmtime, after both have got to know the program.
fn warm_times(bench: &Bench, case: &Case) -> anyhow::Result<Result<Vec<Vec<f64>>, (String, Failure)>> {
    let data_dir = DataDir::new().context("cannot make a data directory")?;
    let cache = tempfile::tempdir().context("cannot make a folder for wasmtime's cache")?;
    let config = cache.path().join("config.toml");
    fs::write(&config, format!("[cache]\ndirectory = {:?}\n", cache.path().join("modules")))
        .with_context(|| format!("cannot write {}", config.display()))?;
    let ways = [Way::Kept(data_dir.path()), Way::Wasmtime(Some(&config))];
    for (way, runs) in [(ways[0], WARM_UP_RUNS), (ways[1], CACHE_WARM_UP_RUNS)] {
        for _ in 0..runs {
            if let Err(failure) = bench.run(case, way) {
                return Ok(Err((way.to_string(), failure)));
            }
        }
    }
    Ok(bench.measure(case, &ways))
}

fn cold(bench: &mut Bench, cases: &[&Case]) -> anyhow::Result<()> {
    println!("\n## Cold\n");
    println!(
        "| program | remuda run, ms | {}, ms | remuda run / best | wasmtime run -C cache=n, ms | rounds |",
        ENGINES.join(", ms | ")
    );
    println!("|---|---:|{}---|---:|---:|", "---:|".repeat(ENGINES.len()));
    let mut ratios = Vec::new();
    for (stream, case) in cases.iter().enumerate() {
        match cold_times(bench, case) {
            Ok(times) => {
                let best = times.best().context("no engine was measured")?;
                let ratio = Ratio::new(case, &times.auto, best, stream)?;
                let mut cells = vec![case.name.to_owned(), format!("{:.1}", median(&times.auto))];
                cells.extend(times.engines.iter().map(ToString::to_string));
                cells.extend([show(&ratio.ratio), times.wasmtime.to_string(), times.auto.len().to_string()]);
                print_row(&cells)?;
                ratios.push(ratio);
            }
            Err((way, failure)) => {
                let mut cells = vec![String::new(); ENGINES.len() + 5];
                [cells[0], cells[1]] = [case.name, "failed"].map(str::to_owned);
                print_row(&cells)?;
                bench.fail(case, &way, &failure);
            }
        }
    }
    println!(
        "\n*: more than {HOPELESS} times as slow as the best engine, and measured once. –: cannot run it, or not \
         within {TIMEOUT}."
    );
    print_mean(&ratios, COLD_AIM);
    let short = ratios.iter().filter(|ratio| ratio.denominator_ms <= SHORT_MS);
    print_worst(short, &format!(" that takes at most {SHORT_MS} ms"), COLD_AIM_SHORT);
    print_worst(ratios.iter(), " of all", COLD_AIM_SHORT);
    Ok(())
}

/// The times of a program, in milliseconds.
struct Cold {
    auto: Vec<f64>,
    engines: Vec<Contender>,
    wasmtime: Contender,
}

impl Cold {
    /// The times of the engine with the least median.
    fn best(&self) -> Option<&[f64]> {
        let measured = self.engines.iter().filter_map(|engine| match engine {
            Contender::Measured(times) => Some(times.as_slice()),
            Contender::Hopeless(_) | Contender::Unable => None,
        });
        measured.min_by(|a, b| median(a).total_cmp(&median(b)))
    }
}

/// The result of one engine, or of wasmtime.
enum Contender {
    Measured(Vec<f64>),
    /// It took too long in its first run: so many milliseconds.
    Hopeless(f64),
    Unable,
}

impl fmt::Display for Contender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Measured(times) => write!(f, "{:.1}", median(times)),
            Self::Hopeless(took) => write!(f, "{took:.1}*"),
            Self::Unable => f.write_str("–"),
        }
    }
}

fn cold_times(bench: &Bench, case: &Case) -> Result<Cold, (String, Failure)> {
    // A first run, which does not count, brings everything into the page cache, and shows which engines are worth
    // measuring.
    let timeout = Some(case.timeout());
    let mut tried = Vec::new();
    for engine in ENGINES {
        tried.push(attempt(bench, case, Way::Engine(engine, timeout))?);
    }
    let Some(best) = tried.iter().flatten().copied().min_by(f64::total_cmp) else {
        return Err(("any engine".to_owned(), Failure::Failed("none can run it".to_owned())));
    };
    bench.run(case, Way::Fresh).map_err(|failure| (Way::Fresh.to_string(), failure))?;
    tried.push(attempt(bench, case, Way::Wasmtime(None))?);

    let ways: Vec<Way> =
        ENGINES.map(|engine| Way::Engine(engine, None)).into_iter().chain([Way::Wasmtime(None)]).collect();
    let is_measured = |took: &Option<f64>| took.is_some_and(|took| took <= HOPELESS * best);
    let measured = ways.iter().zip(&tried).filter(|(_, took)| is_measured(took)).map(|(way, _)| *way);
    let mut times = bench.measure(case, &std::iter::once(Way::Fresh).chain(measured).collect::<Vec<_>>())?.into_iter();
    let auto = times.next().unwrap_or_default();
    let mut engines: Vec<Contender> = tried
        .into_iter()
        .map(|took| match took {
            None => Contender::Unable,
            Some(took) if took <= HOPELESS * best => Contender::Measured(times.next().unwrap_or_default()),
            Some(took) => Contender::Hopeless(took),
        })
        .collect();
    let wasmtime = engines.pop().unwrap_or(Contender::Unable);
    Ok(Cold { auto, engines, wasmtime })
}

/// Runs the program once, and returns how long it took, in milliseconds. Returns `None` if it cannot be run in this
/// way, which is allowed; a wrong output is an error.
fn attempt(bench: &Bench, case: &Case, way: Way) -> Result<Option<f64>, (String, Failure)> {
    match bench.run(case, way) {
        Ok(took) => Ok(Some(took)),
        Err(Failure::Failed(_)) => Ok(None),
        Err(failure) => Err((way.to_string(), failure)),
    }
}
