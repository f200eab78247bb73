//! `remuda compile`

use std::fs::File;
use std::io::{IsTerminal as _, Seek as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;
use remuda_engine::{Known, Registry};
use remuda_host::{Finishing, Function, FunctionSpec, Host, lower_priority};
use remuda_model::{EngineId, Tier};
use remuda_scheduler::Policy;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::EXIT_FAILURE;
use crate::options::{CompileOptions, DataDir, compiler, duration, start_log};
use crate::run::{STDIN, read_module_from_stdin};

/// Compile modules ahead of time, so that their first run finds the code
#[derive(Args)]
pub(crate) struct Compile {
    /// The engine, also several times; "all" for all that keep code [default: the optimizing one that can run the module]
    #[arg(long = "engine", value_name = "ID")]
    engines: Vec<String>,

    /// Compile so many at a time [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Compile at the lowest priority, say nothing, and leave it if another process is doing so: what `remuda run` starts
    /// when it ends
    #[arg(long, hide = true)]
    in_background: bool,

    #[command(flatten)]
    data_dir: DataDir,

    #[command(flatten)]
    options: CompileOptions,

    /// The modules, in the binary or the text format; - for standard input
    #[arg(value_name = "MODULE", required = true)]
    modules: Vec<PathBuf>,
}

/// One artifact that is to be made.
struct Job {
    name: String,
    function: Arc<Function>,
    engine: &'static Known,
}

impl Compile {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        if self.in_background {
            // A session of its own keeps the terminal's signals away from this process. The call fails if the process
            // has one already, which does no harm.
            let _ = rustix::process::setsid();
            // With autogroups, Linux first shares cores between sessions, and considers priority only within a session:
            // a session of our own would get as much as the user's. Without autogroups, a low priority is enough.
            let _ = std::fs::write("/proc/self/autogroup", "19");
            lower_priority();
        }
        let Some(data_dir) = self.data_dir.resolve() else {
            bail!("without a data directory there is no place for compiled code; name one with --data-dir")
        };
        let host = Host::open(&self.options.config(Some(data_dir.clone()), Policy::Adaptive))?;
        let (mut jobs, mut failed) = (Vec::new(), 0);
        for module in &self.modules {
            match self.jobs_of(&host, module) {
                Ok(more) => jobs.extend(more),
                Err(error) => {
                    eprintln!("error: {error:#}");
                    failed += 1;
                }
            }
        }
        // The lock is held until the end of this function.
        let _finishing = match (self.in_background, jobs.first()) {
            (true, Some(job)) => match finishing(job).begin(&data_dir)? {
                Some(lock) => Some(lock),
                None => return Ok(ExitCode::SUCCESS),
            },
            _ => None,
        };
        failed += self.compile(&host, &jobs)?;
        host.leave()?;
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
    }

    /// The artifacts that are to be made of a module.
    fn jobs_of(&self, host: &Host, module: &Path) -> anyhow::Result<Vec<Job>> {
        let spec = FunctionSpec::of_module(module);
        let function = if module == Path::new(STDIN) {
            host.deploy_bytes(spec, read_module_from_stdin()?, None)?
        } else {
            host.deploy(spec, None)?
        };
        let engines = engines(host.registry(), &function, &self.engines)
            .with_context(|| format!("cannot compile {}", module.display()))?;
        let name = module.display().to_string();
        Ok(engines
            .into_iter()
            .map(|engine| Job { name: name.clone(), function: Arc::clone(&function), engine })
            .collect())
    }

    /// Makes all artifacts, and returns how many could not be made.
    fn compile(&self, host: &Host, jobs: &[Job]) -> anyhow::Result<usize> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // In the background, one thread is enough.
        let threads = if self.in_background { 1 } else { self.jobs.map_or(cores, usize::from) }.min(jobs.len().max(1));
        let progress = Progress::new(jobs.len(), self.in_background);
        let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = |alone: bool| -> anyhow::Result<()> {
            // If several artifacts are made at a time, or in the background, each compiler uses one thread.
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread();
            let _alone = alone.then(|| pool.build()).transpose()?;
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if !progress.tell(job, host.compile(&job.function, job.engine.id, !self.in_background)) {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(())
        };
        let alone = threads > 1 || self.in_background;
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(alone))).collect();
            workers
                .into_iter()
                .try_for_each(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })?;
        Ok(failed.into_inner())
    }
}

/// Starts a process that compiles one module for one engine when cores have nothing else to do, and that outlives this
/// process. If such a process runs already, nothing is started.
pub(crate) fn start_in_background(
    engine: EngineId,
    data_dir: &Path,
    options: &CompileOptions,
    module: &[u8],
) -> anyhow::Result<()> {
    if Finishing::current(data_dir).is_some() {
        return Ok(());
    }
    let Some(program) = compiler() else { return Ok(()) };
    let mut input = File::from(memfd_create("remuda-module", MemfdFlags::CLOEXEC)?);
    input.write_all(module)?;
    input.rewind()?;
    Command::new(program)
        .arg0("remuda")
        .args(["compile", "--in-background", "--engine", engine.as_str(), "--data-dir"])
        // The process has another current folder, so the path must be absolute.
        .arg(std::path::absolute(data_dir)?)
        .args(options.as_args())
        .arg(STDIN)
        .env_clear()
        .current_dir("/")
        .stdin(input)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(())
}

/// The engines that were asked for; without a wish, the one that makes the best code.
fn engines(registry: &Registry, function: &Function, names: &[String]) -> anyhow::Result<Vec<&'static Known>> {
    let able: Vec<&'static Known> =
        registry.able(function.module()).filter(|known| known.automatic && known.capabilities.artifacts).collect();
    let mut engines = Vec::new();
    for name in names {
        if name == "all" {
            engines.extend(able.iter().copied());
            continue;
        }
        let known = registry.find(name)?;
        if !known.capabilities.artifacts {
            bail!("{name} keeps no code: there is nothing to compile ahead");
        }
        if !registry.able(function.module()).any(|able| able.id == known.id) {
            bail!("{name} cannot run the module; `remuda engines` says what it lacks, or how to get it");
        }
        engines.push(known);
    }
    if names.is_empty() {
        let best = able.iter().find(|known| known.capabilities.tier == Tier::Optimizing).or(able.first());
        engines.extend(best);
    }
    if engines.is_empty() {
        bail!("no engine of this build that keeps code can run it");
    }
    engines.sort_by_key(|known| known.id);
    engines.dedup_by_key(|known| known.id);
    Ok(engines)
}

/// The note that tells other processes what this one compiles.
fn finishing(job: &Job) -> Finishing {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Finishing {
        pid: std::process::id(),
        module: job.function.module().digest().to_string(),
        engine: job.engine.id.to_string(),
        since_unix_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Shows progress: a bar on a terminal, and a line for each artifact on standard output.
struct Progress {
    bar: ProgressBar,
    is_silent: bool,
    lines: Mutex<()>,
}

impl Progress {
    fn new(jobs: usize, is_silent: bool) -> Self {
        let bar = if is_silent || !std::io::stderr().is_terminal() {
            ProgressBar::hidden()
        } else {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg} {elapsed}");
            let bar = ProgressBar::new(jobs as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        };
        Self { bar, is_silent, lines: Mutex::default() }
    }

    /// Prints the result of a job, and returns whether the job succeeded.
    fn tell(&self, job: &Job, result: Result<Option<Duration>, remuda_host::CompileError>) -> bool {
        let Job { name, engine, .. } = job;
        let _whole_lines = self.lines.lock();
        self.bar.inc(1);
        let is_done = result.is_ok();
        if !self.is_silent {
            let (said, is_error) = match result {
                Ok(Some(took)) => {
                    (format!("{name}: compiled for {} in {}", engine.id, duration(took.as_nanos() as f64)), false)
                }
                Ok(None) => (format!("{name}: {} has its code already", engine.id), false),
                Err(error) => (format!("error: {name}: {error}"), true),
            };
            self.bar.suspend(|| if is_error { eprintln!("{said}") } else { println!("{said}") });
        }
        is_done
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
