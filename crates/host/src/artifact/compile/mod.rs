//! Compiling, in a child process where that is possible: only there can a compile be held to budgets of time and
//! memory, and a compiler that crashes there takes nothing else with it.
//!
//! The child is the host's own program, started anew. It reads the module and writes the artifact, sealed with a key
//! that is made for this one compile; the store's key never leaves the host. Both streams are files in memory, so that
//! neither side has to wait for the other, and a child that writes nonsense, or without end, is an error like any
//! other. When the child has ended, its file is closed to every further change before the host looks at it.
//!
//! The child is not a jail. See docs/security.md.

pub(crate) mod child;

use std::any::Any;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use remuda_engine::{Artifact, Engine, EngineError, Known, Module, StoredArtifact};
use remuda_model::{Cause, EngineId, Interrupt, Tier};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::process::{Pid, PidfdFlags, Resource, Signal, pidfd_open, pidfd_send_signal, prlimit};

use self::child::{ChildError, limit};
use crate::artifact::seal;
use crate::artifact::store::file;
use crate::deadline::Deadlines;

/// The subcommand of the compiler's program.
const SUBCOMMAND: &str = "compile-child";
/// The bytes of code from which on an optimizing compile that a request waits for is done in a child, too. A child
/// costs some milliseconds of start-up; from this size on the compile takes longer by far, and below it the bounds on
/// modules are the only budget.
const CHILD_CODE_BYTES_MIN_OPTIMIZING: u64 = 64 << 10;
/// The same limit for a compile that nobody waits for: there the child's start-up only delays the better code.
const CHILD_CODE_BYTES_MIN_BACKGROUND: u64 = 48 << 10;
/// The limit on [`ModuleStats::locals_in_loops_per_function`](remuda_engine::ModuleStats) for the same purpose: 10,000
/// of them take Cranelift a fifth of a second, and nine times as many take it sixty times as long, for 4 KiB of code.
const CHILD_LOCALS_IN_LOOPS_MIN_OPTIMIZING: u64 = 10_000;
/// The limit on bytes of code for one-pass compilers, which are ten times as fast and take time in proportion to the
/// code.
const CHILD_CODE_BYTES_MIN_BASELINE: u64 = 512 << 10;
/// The bytes of a child's standard error that are worth reporting.
const WORDS_BYTES_MAX: u64 = 1 << 10;

/// The budget of one compile in a child process. The `MAX` of a field stands for "whatever it takes".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileBudget {
    /// The time from the start of the child to its end. A compile that takes longer is ended, and its engine is set
    /// aside for that module.
    pub time_max: Duration,
    /// The child's memory in bytes.
    pub memory_bytes_max: u64,
}

impl CompileBudget {
    /// No bounds.
    pub const UNLIMITED: Self = Self { time_max: Duration::MAX, memory_bytes_max: u64::MAX };
}

/// A minute and 1 GiB.
impl Default for CompileBudget {
    fn default() -> Self {
        Self { time_max: Duration::from_mins(1), memory_bytes_max: 1 << 30 }
    }
}

/// A compile in a child that a request waits for, while nothing else runs for it.
#[derive(Clone, Copy, Debug)]
pub struct CompileNotice {
    /// The engine that compiles.
    pub engine: EngineId,
    /// The size of the module's code in bytes.
    pub code_bytes: u64,
}

/// A callback that is told of such a compile. The value that it returns is dropped when the compile has ended.
pub type Announce = fn(&CompileNotice) -> Box<dyn Any>;

/// Makes artifacts, in this process or in children of it.
pub(crate) struct Compiler {
    /// The program that a child runs; `None`: everything is compiled in this process.
    program: Option<PathBuf>,
    budget: CompileBudget,
    /// The budget of compiles without which a request cannot be answered at all.
    only_way_budget: CompileBudget,
    announce: Option<Announce>,
    deadlines: Arc<Deadlines>,
    /// Raised when the host ends.
    closing: Interrupt,
    /// The bytes of code from which on a compile that nobody waits for is done in a child.
    background_code_bytes_min: u64,
    /// The same, for a compile that a request waits for; `None`: this depends on the tier of the engine.
    waited_for_code_bytes_min: Option<u64>,
}

/// The urgency of a compile: who waits for its artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// A request that no other engine can run.
    OnlyWay,
    /// A request that another engine could run, too.
    Request,
    /// A request that is being run by another engine meanwhile.
    Racer,
    Nobody,
}

/// An artifact that was just compiled.
pub(crate) struct Compiled {
    pub(crate) artifact: Arc<dyn Artifact>,
    /// The artifact's bytes, if they are at hand.
    pub(crate) serialized: Option<StoredArtifact>,
}

/// A compile that came to nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: EngineError,
    /// Whether another try would most likely end the same way, and take as long.
    pub(crate) will_recur: bool,
}

impl From<EngineError> for Failure {
    fn from(error: EngineError) -> Self {
        Self { error, will_recur: false }
    }
}

impl Compiler {
    pub(crate) fn new(program: Option<PathBuf>, budget: CompileBudget, deadlines: Arc<Deadlines>) -> Self {
        Self {
            program,
            budget,
            only_way_budget: budget,
            announce: None,
            deadlines,
            closing: Interrupt::new(),
            background_code_bytes_min: CHILD_CODE_BYTES_MIN_BACKGROUND,
            waited_for_code_bytes_min: None,
        }
    }

    /// Gives another budget to compiles without which a request cannot be answered.
    pub(crate) fn with_only_way_budget(self, only_way_budget: CompileBudget) -> Self {
        Self { only_way_budget, ..self }
    }

    /// Has `announce` told of long compiles that a request waits for.
    pub(crate) fn announcing(self, announce: Option<Announce>) -> Self {
        Self { announce, ..self }
    }

    #[cfg(test)]
    pub(crate) fn in_process() -> Self {
        Self::new(None, CompileBudget::UNLIMITED, Arc::default())
    }

    /// Ends all compiles in children, now and from now on: no request is answered by them any more.
    pub(crate) fn close(&self) {
        self.closing.raise(Cause::Cancelled);
    }

    pub(crate) fn budget(&self, urgency: Urgency) -> CompileBudget {
        match urgency {
            Urgency::OnlyWay => self.only_way_budget,
            Urgency::Request | Urgency::Racer | Urgency::Nobody => self.budget,
        }
    }

    pub(crate) fn compile(
        &self,
        engine: &dyn Engine,
        known: &'static Known,
        module: &Module,
        urgency: Urgency,
    ) -> Result<Compiled, Failure> {
        match &self.program {
            Some(program) if self.is_for_a_child(known, module, urgency) => {
                let is_waited_for = matches!(urgency, Urgency::OnlyWay | Urgency::Request);
                let notice = CompileNotice { engine: known.id, code_bytes: module.stats().code_bytes };
                let _announced = self.announce.filter(|_| is_waited_for).map(|announce| announce(&notice));
                self.compile_in_child(program, engine, known, module, self.budget(urgency))
            }
            Some(_) | None => Ok(Compiled { artifact: engine.compile(module)?, serialized: None }),
        }
    }

    fn is_for_a_child(&self, known: &Known, module: &Module, urgency: Urgency) -> bool {
        let stats = module.stats();
        let (code_bytes_min, locals_in_loops_min) = match known.capabilities.tier {
            // Even the smallest module takes much longer than a child does to start.
            Tier::Peak => (0, 0),
            Tier::Optimizing => (CHILD_CODE_BYTES_MIN_OPTIMIZING, CHILD_LOCALS_IN_LOOPS_MIN_OPTIMIZING),
            Tier::Baseline | Tier::Dynamic | Tier::Interpreter => (CHILD_CODE_BYTES_MIN_BASELINE, u64::MAX),
        };
        // The code that compilers make for a component's types, and for calls between its modules, is in none of its bytes.
        let takes_long = module.is_component()
            || stats.code_bytes >= self.waited_for_code_bytes_min.unwrap_or(code_bytes_min)
            || stats.locals_in_loops_per_function >= locals_in_loops_min;
        // If nobody waits, a child's start-up costs little; but a module that is compiled in less time than that needs
        // no child.
        // What compiles in a process of its own would do so at full priority if it were not started by a child.
        let nobody_waits =
            urgency == Urgency::Nobody && (stats.code_bytes >= self.background_code_bytes_min || known.has_workers());
        known.capabilities.artifacts && (takes_long || nobody_waits)
    }

    fn compile_in_child(
        &self,
        program: &Path,
        engine: &dyn Engine,
        known: &'static Known,
        module: &Module,
        budget: CompileBudget,
    ) -> Result<Compiled, Failure> {
        let failed = |Ended { reason, will_recur }| Failure {
            error: EngineError::Compile { engine: known.id, reason },
            will_recur,
        };
        let here = |error: io::Error| failed(Ended::once(format!("cannot start the compiler {program:?}: {error}")));
        let mut key = seal::Key::default();
        getrandom::fill(&mut key).map_err(|error| here(io::Error::other(error.to_string())))?;
        let (artifact, said) = (memory_file().map_err(here)?, memory_file().map_err(here)?);
        let child = start(program, known, &key, module, budget, &artifact, &said).map_err(here)?;
        self.wait(child, budget, &said).map_err(failed)?;
        let garbage =
            |error: io::Error| failed(Ended::once(format!("what the compiler wrote is no artifact: {error}")));
        seal(&artifact).map_err(garbage)?;
        let stored = file::open_authentic(artifact, &key, module.digest(), known).map_err(garbage)?;
        Ok(Compiled { artifact: engine.load(module, &stored)?, serialized: Some(stored) })
    }

    /// Waits for a child's end within its budget of time.
    fn wait(&self, mut running: Running, budget: CompileBudget, said: &File) -> Result<(), Ended> {
        let cannot = |error: io::Error| Ended::once(format!("cannot wait for the compiler: {error}"));
        let pidfd =
            pidfd_open(Pid::from_child(&running.0), PidfdFlags::empty()).map_err(|error| cannot(error.into()))?;
        let pidfd = Arc::new(pidfd);
        let kill_when = |interrupt: &Interrupt| {
            let pidfd = Arc::clone(&pidfd);
            interrupt.listen(move || {
                // The signal can only fail to be sent if the child has ended meanwhile.
                let _ = pidfd_send_signal(&*pidfd, Signal::KILL);
            })
        };
        let late = Interrupt::new();
        let listeners = (kill_when(&late), kill_when(&self.closing));
        let is_bounded = budget.time_max < Duration::MAX;
        let armed = is_bounded.then(|| self.deadlines.arm(Instant::now(), budget.time_max, late.clone()));
        let status = running.0.wait().map_err(cannot)?;
        drop((armed, listeners));
        if status.success() {
            return Ok(());
        }
        let killed = status.signal() == Some(Signal::KILL.as_raw());
        if killed && self.closing.cause().is_some() {
            return Err(Ended::once("the host ends".into()));
        }
        if killed && late.cause().is_some() {
            let budget = humantime::format_duration(budget.time_max);
            return Err(Ended::again(format!(
                "it took longer than its budget of {budget}; allow more with `compile_timeout` or --compile-timeout"
            )));
        }
        Err(explain(status, budget, &last_words(said)))
    }
}

/// Says why a child ended that the host did not end.
fn explain(status: ExitStatus, budget: CompileBudget, words: &str) -> Ended {
    /// The words of Rust's standard library before it aborts, and of the operating system when it refuses a mapping.
    const OUT_OF_MEMORY: [&str; 2] = ["memory allocation of ", "Cannot allocate memory"];
    let is = |signal: Signal| status.signal() == Some(signal.as_raw());
    if OUT_OF_MEMORY.iter().any(|sign| words.contains(sign)) || is(Signal::XFSZ) {
        let budget = ByteSize::b(budget.memory_bytes_max);
        return Ended::again(format!(
            "it needed more memory than its budget of {budget}; allow more with `compile_memory` or --compile-memory"
        ));
    }
    match status.code() {
        Some(code) if code == i32::from(ChildError::EXIT_REFUSED) => Ended::again(words.to_owned()),
        Some(code) => Ended::once(format!("the compiler ended with exit code {code}: {words}")),
        // Somebody else sent these signals: an administrator, or a kernel short of memory. All others are the
        // compiler's own.
        None if is(Signal::KILL) || is(Signal::TERM) || is(Signal::INT) => {
            Ended::once(format!("the compiler was killed ({status})"))
        }
        None => Ended::again(format!("the compiler crashed ({status}): {words}")),
    }
}

/// Starts a child on a module, within its budget of memory.
fn start(
    program: &Path,
    known: &Known,
    key: &seal::Key,
    module: &Module,
    budget: CompileBudget,
    artifact: &File,
    said: &File,
) -> io::Result<Running> {
    let mut input = memory_file()?;
    input.write_all(key)?;
    input.write_all(module.bytes())?;
    input.seek(SeekFrom::Start(0))?;
    let mut command = Command::new(program);
    command.arg0("remuda").args([SUBCOMMAND, known.id.as_str(), "--threads", &threads().to_string()]);
    let memory_bytes_max = Some(budget.memory_bytes_max).filter(|bytes| *bytes < u64::MAX);
    if let Some(bytes) = memory_bytes_max {
        // The child sets this limit itself before it starts an engine, and the host sets it in case the child does not.
        command.args(["--memory-bytes", &bytes.to_string()]);
    }
    let child = command
        // The child gets nothing of this process's environment, which may hold secrets, and works in nobody's folder.
        .env_clear()
        .envs(known.variables().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .current_dir("/")
        .stdin(input)
        .stdout(artifact.try_clone()?)
        .stderr(said.try_clone()?)
        // Ctrl-C asks this process to end, and a compile that it waits for must not die of that. The child dies with
        // this process: see `child`.
        .process_group(0)
        // The child has the calling thread's priority.
        .spawn()?;
    let running = Running(child);
    tracing::debug!(pid = running.0.id(), engine = %known.id, module = %module.digest(), "compiling in a child");
    let pid = Some(Pid::from_child(&running.0));
    if let Some(bytes) = memory_bytes_max {
        // The first limit covers all memory that is the child's own and can be written: what an allocator takes, and
        // not the addresses that engines reserve. A file in memory is not part of it, so it has a limit of its own.
        prlimit(pid, Resource::Data, limit(Resource::Data, bytes))?;
        prlimit(pid, Resource::Fsize, limit(Resource::Fsize, bytes))?;
    }
    prlimit(pid, Resource::Core, limit(Resource::Core, 0))?;
    Ok(running)
}

/// The end of a child that brought no artifact.
struct Ended {
    reason: String,
    will_recur: bool,
}

impl Ended {
    fn once(reason: String) -> Self {
        Self { reason, will_recur: false }
    }

    fn again(reason: String) -> Self {
        Self { reason, will_recur: true }
    }
}

/// A child that does not outlive the compile, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both calls do nothing if the child was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The number of threads for a child: as many as the calling thread would compile with. That is one in the background
/// and in races, which have a core each.
fn threads() -> usize {
    match rayon::current_thread_index() {
        Some(_) => rayon::current_num_threads(),
        None => std::thread::available_parallelism().map_or(1, usize::from),
    }
}

/// The bytes of an artifact that was just compiled.
pub(crate) fn read(stored: &StoredArtifact) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; stored.artifact_bytes()];
    stored.file()?.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

fn memory_file() -> io::Result<File> {
    Ok(memfd_create("remuda", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?.into())
}

/// Keeps everybody from changing a file in memory any more, even a process that has it open.
fn seal(file: &File) -> io::Result<()> {
    Ok(fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?)
}

/// The end of what a child wrote on standard error, on one line.
fn last_words(said: &File) -> String {
    let mut said = said;
    let mut words = Vec::new();
    let read = (|| -> io::Result<()> {
        let from = said.metadata()?.len().saturating_sub(WORDS_BYTES_MAX);
        said.seek(SeekFrom::Start(from))?;
        said.take(WORDS_BYTES_MAX).read_to_end(&mut words)?;
        Ok(())
    })();
    let words = String::from_utf8_lossy(&words);
    let words: Vec<&str> =
        words.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    match read {
        Ok(()) if words.is_empty() => "it said nothing".into(),
        Ok(()) => words.join(" "),
        Err(error) => format!("what it said cannot be read: {error}"),
    }
}

#[cfg(test)]
pub(crate) mod tests;
