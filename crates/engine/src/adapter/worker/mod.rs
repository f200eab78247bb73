//! Engines that are programs of their own: a guest runs in a worker process, which has nothing but a socket to the host
//! (docs/workers.md).
//!
//! A worker has one guest at a time. The host keeps the guest's WASI state: a call of WASI comes as a report, with the
//! bytes of the guest's memory that it may read, is carried out here on a copy of the memory that has only these
//! bytes, and what it has written goes back with the answer. A worker is not trusted more than its guest.

mod installed;
#[cfg(feature = "node.v8")]
pub(super) mod node;
#[cfg(any(feature = "wasmer.cranelift", feature = "wasmer.llvm", feature = "wavm.llvm", feature = "lucet.cranelift"))]
pub(super) mod own;
mod pool;
mod process;
mod protocol;
mod rewrite;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_model::{Cause, EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, Listener, Value};
use remuda_wasi::{IMPORTS, Import, Span, Stop, TOO_MUCH};
use rustix::process::Signal;

use self::pool::{Lease, Pool};
use self::process::{Launch, NoReport, Worker};
use self::protocol::{Code, ImportCall, Malformed, MemoryOrder, ModuleNumber, Orders, Report, WorkerEnd};
use self::rewrite::Rewritten;
use super::enter::{Exports, enter};
use super::guest::{End, Guest};
use super::region::{PAGE_BYTES, Region};
use crate::{
    Artifact, Called, Capabilities, Engine, EngineError, Form, Instance, Instances, InstantiateError, Known,
    MachineCode, Module, StoredArtifact, start,
};

/// The time that a guest has to stop once its worker was told to. Workers stop in well under a millisecond, but not in
/// the middle of one long operation (a `memory.fill`, say). Then the worker is killed, and the next guest waits for
/// another one to start. If this is too short, workers are killed that would have stopped by themselves; if too long,
/// guests are late at their deadlines.
const STOP_TIMEOUT: Duration = Duration::from_millis(25);

/// The time after which a guest that has not called the host is taken to be busy with itself, so that it is told to stop
/// by a signal at once. One that calls the host more often is stopped at its next call: a signal might meet its worker
/// between the guest and the host, and then the worker has to be replaced. If this is too short, that happens more
/// often; if too long, some guests are stopped later, by as much as a thread takes to look again.
const BUSY_AFTER: Duration = Duration::from_millis(1);

/// The time after which a worker that compiles is killed. V8 only validates a module when it is to compile it, which
/// takes milliseconds for each megabyte. LLVM takes seconds for each 100 KB of code; a module of which that is expected is
/// compiled within a budget of its own, by a child of this process that can be ended at any time. So this only bounds
/// compiles that nobody expects to take long.
const COMPILE_TIMEOUT: Duration = Duration::from_mins(10);

/// The most arguments of a function of WASI.
const ARGS_MAX: usize = 16;

/// What is particular about one kind of worker.
struct Kind {
    known: &'static Known,
    /// Makes sure that the program's versions, as a worker tells them, will do, and returns the engine's version.
    check: fn(&[String]) -> Result<String, String>,
    /// Whether its programs can show machine code.
    shows_code: bool,
}

pub(super) struct WorkerEngine {
    kind: &'static Kind,
    pool: Arc<Pool>,
    /// For an engine that keeps artifacts: where modules are compiled. Each one is compiled in a new process, which then
    /// ends. No guest has been there before, and no other module, that could have a hand in the artifact.
    compilers: Option<Arc<Pool>>,
    version: String,
}

impl WorkerEngine {
    /// Starts the first worker, and so finds out whether the engine can be used. `compiler` is the program that compiles,
    /// if the engine keeps artifacts.
    fn open(
        kind: &'static Kind,
        launch: Launch,
        compiler: Option<Launch>,
        instances: Instances,
    ) -> Result<Self, EngineError> {
        let program = launch.program.clone();
        let unavailable = |reason: String| EngineError::Unavailable {
            engine: kind.known.id,
            reason: format!("{}: {reason}", program.display()),
        };
        let failed = |error: io::Error| unavailable(error.to_string());
        let compilers =
            compiler.map(|compiler| Pool::open(compiler, Instances::OnDemand)).transpose().map_err(failed)?;
        let pool = Pool::open(launch, instances).map_err(failed)?;
        let mut first = pool.start().map_err(failed)?;
        let version = (kind.check)(&first.worker().versions).map_err(unavailable)?;
        first.give_back();
        Ok(Self { kind, pool, compilers, version })
    }

    /// The module as workers get it.
    fn rewrite(&self, module: &Module) -> Result<(Vec<u8>, Rewritten), String> {
        // The program may be able to do more than the rewriting is made for.
        let missing = module.needs().without(self.kind.known.capabilities.proposals);
        if !missing.is_empty() {
            return Err(format!("it lacks {missing}"));
        }
        let grows = module.stats().memory_grows_per_function > 0;
        // What happens in the start function is known by an export, and there are none before an instance is made.
        let source = start::start_as_export(module.bytes()).map_err(|error| error.to_string())?;
        let (bytes, rewritten) = rewrite::rewrite(&source, grows).map_err(|error| error.to_string())?;
        module.check_rewritten(&bytes).map_err(|error| error.to_string())?;
        Ok((bytes, rewritten))
    }

    /// Compiles a module in a process of its own, and returns its code. The inner error is why it is refused.
    fn compile_apart(&self, compilers: &Arc<Pool>, module: Vec<u8>) -> Result<Result<Vec<u8>, String>, EngineError> {
        self.ask_apart(compilers, module, Orders::serialize, |report| match report {
            Report::Serialized { artifact } => Some(artifact.to_vec()),
            _ => None,
        })
    }

    /// Compiles a module in a process of its own, and asks that for something. The inner error is why it is refused.
    fn ask_apart<T>(
        &self,
        compilers: &Arc<Pool>,
        module: Vec<u8>,
        ask: impl FnOnce(&mut Orders, ModuleNumber),
        take: impl Fn(Report<'_>) -> Option<T>,
    ) -> Result<Result<T, String>, EngineError> {
        let engine = self.kind.known.id;
        let lost = |error: &io::Error| EngineError::Lost { engine, reason: error.to_string() };
        let mut lease = compilers.start().map_err(|error| lost(&error))?;
        let worker = lease.worker();
        let versions = (self.kind.check)(&worker.versions);
        versions.map_err(|reason| EngineError::Unavailable { engine, reason })?;
        worker.set_guest_bytes_max(0).map_err(|error| lost(&error))?;
        let number = compilers.number();
        if let Err(reason) = make_on(engine, worker, number, &Code::Module(module))? {
            return Ok(Err(reason));
        }
        ask(&mut worker.orders, number);
        answer(engine, worker, take)
    }

    /// Has a worker make the module ready. The inner error is why the worker refuses it.
    fn artifact(
        &self,
        module: &Module,
        code: Code,
        rewritten: Rewritten,
    ) -> Result<Result<Arc<dyn Artifact>, String>, EngineError> {
        let artifact = WorkerArtifact {
            engine: self.kind.known.id,
            pool: Arc::clone(&self.pool),
            number: self.pool.number(),
            module: module.clone(),
            code,
            rewritten,
        };
        let made = artifact.on_a_worker(|mut lease| {
            let made = artifact.make_on(&mut lease).map_err(|error| (error, Said::Nothing))?;
            lease.give_back();
            Ok(made)
        })?;
        Ok(made.map(|()| Arc::new(artifact) as Arc<dyn Artifact>))
    }
}

impl Engine for WorkerEngine {
    fn id(&self) -> EngineId {
        self.kind.known.id
    }

    fn capabilities(&self) -> &'static Capabilities {
        self.kind.known.capabilities
    }

    fn version(&self) -> Option<&str> {
        Some(&self.version)
    }

    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        let engine = self.kind.known.id;
        let failed = |reason: String| EngineError::Compile { engine, reason };
        let (bytes, rewritten) = self.rewrite(module).map_err(failed)?;
        let code = match &self.compilers {
            None => Code::Module(bytes),
            Some(compilers) => Code::Artifact(self.compile_apart(compilers, bytes)?.map_err(failed)?),
        };
        self.artifact(module, code, rewritten)?.map_err(failed)
    }

    /// Guests here have no polls, so that there is one form of their code.
    fn machine_code(&self, module: &Module, _: Form) -> Result<Option<MachineCode>, EngineError> {
        let Some(compilers) = self.compilers.as_ref().filter(|_| self.kind.shows_code) else { return Ok(None) };
        let failed = |reason: String| EngineError::Compile { engine: self.kind.known.id, reason };
        let (bytes, _) = self.rewrite(module).map_err(failed)?;
        let code = self.ask_apart(compilers, bytes, Orders::code, |report| match report {
            Report::Code { functions, text } => Some(MachineCode {
                architecture: std::env::consts::ARCH,
                text: text.to_vec(),
                functions,
                origins: None,
                flag: None,
            }),
            _ => None,
        })?;
        code.map(Some).map_err(failed)
    }

    fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        let engine = self.kind.known.id;
        let failed = |reason: String| EngineError::Load { engine, reason };
        if self.compilers.is_none() {
            return Err(failed("it keeps no artifacts".into()));
        }
        let rewritten = rewrite::describe(module.bytes()).map_err(|error| failed(error.to_string()))?;
        let mut bytes = vec![0; stored.artifact_bytes()];
        stored.file().and_then(|file| file.read_exact_at(&mut bytes, 0)).map_err(|error| failed(error.to_string()))?;
        self.artifact(module, Code::Artifact(bytes), rewritten)?.map_err(failed)
    }
}

/// Has a worker make a module ready. The inner error is why the worker refuses it.
fn make_on(
    engine: EngineId,
    worker: &mut Worker,
    number: ModuleNumber,
    code: &Code,
) -> Result<Result<(), String>, EngineError> {
    worker.order_make(number, code);
    answer(engine, worker, |report| matches!(report, Report::Compiled).then_some(()))
}

/// Sends a worker its orders, and waits for the report on them, which `take` takes if it is the right one. The inner
/// error is why the worker refuses.
fn answer<T>(
    engine: EngineId,
    worker: &mut Worker,
    take: impl Fn(Report<'_>) -> Option<T>,
) -> Result<Result<T, String>, EngineError> {
    let lost = |error: &io::Error| EngineError::Lost { engine, reason: error.to_string() };
    worker.send().map_err(|error| lost(&error))?;
    let began = Instant::now();
    let error = loop {
        match worker.receive() {
            Ok((Report::Refused { reason }, _)) => return Ok(Err(reason)),
            Ok((report, _)) => match take(report) {
                Some(taken) => return Ok(Ok(taken)),
                None => break Malformed.into(),
            },
            Err(NoReport::NotYet) if began.elapsed() < COMPILE_TIMEOUT => {}
            Err(NoReport::NotYet) => {
                let reason = format!("it did not end within {} s", COMPILE_TIMEOUT.as_secs());
                return Err(EngineError::Compile { engine, reason });
            }
            Err(NoReport::Lost(error)) => break error,
        }
    };
    Err(lost(&worker.explain(&error)))
}

struct WorkerArtifact {
    engine: EngineId,
    pool: Arc<Pool>,
    number: ModuleNumber,
    module: Module,
    code: Code,
    rewritten: Rewritten,
}

/// Whether a worker has told anything of the guest, so that it cannot be begun again elsewhere unnoticed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Something,
}

impl WorkerArtifact {
    /// Does something on an idle worker, or else on a new one. An idle worker may have ended without anybody's notice;
    /// then the next one is taken.
    fn on_a_worker<T>(&self, mut work: impl FnMut(Lease) -> Result<T, (EngineError, Said)>) -> Result<T, EngineError> {
        while let Some(lease) = self.pool.idle(self.number) {
            match work(lease) {
                Err((EngineError::Lost { .. }, Said::Nothing)) => {}
                result => return result.map_err(|(error, _)| error),
            }
        }
        let lease = self.pool.start().map_err(|error| self.lost(&error))?;
        work(lease).map_err(|(error, _)| error)
    }

    fn lost(&self, error: &io::Error) -> EngineError {
        EngineError::Lost { engine: self.engine, reason: error.to_string() }
    }

    fn internal(&self, reason: &str) -> EngineError {
        EngineError::Internal { engine: self.engine, reason: reason.into() }
    }

    /// Has a worker make the module ready. The inner error is why the worker refuses it.
    fn make_on(&self, lease: &mut Lease) -> Result<Result<(), String>, EngineError> {
        make_on(self.engine, lease.worker(), self.number, &self.code)
    }
}

impl From<Malformed> for io::Error {
    fn from(malformed: Malformed) -> Self {
        Self::new(io::ErrorKind::InvalidData, malformed)
    }
}

impl Artifact for WorkerArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(match &self.code {
            Code::Module(_) => None,
            Code::Artifact(bytes) => Some(bytes.clone()),
        })
    }

    fn memory_bytes(&self) -> u64 {
        self.code.bytes() as u64
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        let mut guest = Guest::new(self.engine, context, limits, interrupt)?;
        let memory = match self.rewritten.grant(&mut guest.budget, self.module.exports_memory()) {
            Ok(memory) => memory,
            Err(limit) => return Err(guest.fail_to_start(End::NotGranted(limit))),
        };
        let mut guest = Some(guest);
        let bytes_max = memory.map_or(0, |memory| memory.bytes_max());
        let started = self.on_a_worker(|mut lease| {
            let limited = lease.worker().set_guest_bytes_max(bytes_max);
            limited.map_err(|error| (self.lost(&error), Said::Nothing))?;
            let told = guest.take().expect("it is given back whenever this is tried again");
            let mut instance =
                WorkerInstance::new(&self, lease, told, memory).map_err(|error| (error, Said::Something))?;
            match instance.start(memory) {
                Ok(end) => Ok((instance, end)),
                Err(error) => {
                    let said = instance.said;
                    guest = instance.guest.take();
                    Err((error, said))
                }
            }
        });
        let (mut instance, end) = started?;
        match (end, instance.guest.take()) {
            (End::Returned, started) => {
                instance.guest = started;
                Ok(Box::new(instance))
            }
            (end, Some(guest)) => Err(guest.fail_to_start(end)),
            (_, None) => Err(self.internal("the guest got lost").into()),
        }
    }
}

struct WorkerInstance {
    artifact: Arc<WorkerArtifact>,
    /// `None` once the worker is lost, or the guest has ended so that the worker is not to be used again.
    lease: Option<Lease>,
    /// `None` only while the instance is taken apart.
    guest: Option<Guest>,
    /// What the host sees of the guest's memory: `None` if it has none that is exported.
    memory: Option<Region>,
    said: Said,
    signaller: Arc<Signaller>,
    _listener: Listener,
}

/// Tells a worker to stop its guest, from any thread.
struct Signaller {
    worker: Arc<OwnedFd>,
    state: Mutex<SignalState>,
}

#[derive(Default)]
struct SignalState {
    /// Since when the guest's code has been running; `None` while it is not.
    running_since: Option<Instant>,
    /// Whether the worker was told to stop.
    told: bool,
}

impl Signaller {
    /// Tells the worker to stop its guest if the guest has been running for some time.
    fn stop(&self, running_for: Duration) {
        let mut state = self.state.lock();
        if !state.told && state.running_since.is_some_and(|since| since.elapsed() >= running_for) {
            process::signal(&self.worker, Signal::INT);
            state.told = true;
        }
    }
}

/// A report that ends an order: how the guest ended, and the integers that it returned.
type Answer = (End, Vec<u64>);

impl WorkerInstance {
    fn new(
        artifact: &Arc<WorkerArtifact>,
        mut lease: Lease,
        guest: Guest,
        memory: Option<MemoryOrder>,
    ) -> Result<Self, EngineError> {
        let failed = |error: io::Error| artifact.internal(&error.to_string());
        let region = match memory {
            Some(memory) if memory.is_exported => {
                let mut region = Region::new(memory.bytes_max()).map_err(failed)?;
                region.clear().map_err(failed)?;
                Some(region)
            }
            Some(_) | None => None,
        };
        let signaller = Arc::new(Signaller { worker: lease.worker().handle(), state: Mutex::default() });
        let listener = guest.interrupt().listen({
            let signaller = Arc::clone(&signaller);
            move || signaller.stop(BUSY_AFTER)
        });
        Ok(Self {
            artifact: Arc::clone(artifact),
            lease: Some(lease),
            guest: Some(guest),
            memory: region,
            said: Said::Nothing,
            signaller,
            _listener: listener,
        })
    }

    fn guest(&mut self) -> &mut Guest {
        self.guest.as_mut().expect("an instance has its guest until it is taken apart")
    }

    /// Makes the instance on the worker.
    fn start(&mut self, memory: Option<MemoryOrder>) -> Result<End, EngineError> {
        let Some(lease) = &mut self.lease else { return Ok(self.without_worker()?.0) };
        let number = self.artifact.number;
        if lease.worker().has(number) {
            lease.worker().note_use(number);
        } else {
            let made = self.artifact.make_on(lease)?;
            // Another worker has made it ready.
            made.map_err(|reason| self.artifact.internal(&reason))?;
        }
        lease.worker().orders.instantiate(number, memory);
        let end = self.converse()?.0;
        if let (true, End::Returned, Some(lease)) = (self.artifact.module.has_start(), &end, &mut self.lease) {
            lease.worker().orders.call(&self.artifact.rewritten.call(start::EXPORT, &[], &[]));
            return Ok(self.converse()?.0);
        }
        Ok(end)
    }

    /// The end of a guest that has no worker any more. If the interrupt was raised just when the guest came back, its
    /// worker may have been told to stop too late, and was given up.
    fn without_worker(&mut self) -> Result<Answer, EngineError> {
        match self.guest().stop_cause() {
            Some(cause) => Ok((End::Stopped(Stop::Interrupted(cause)), Vec::new())),
            None => Err(self.artifact.internal("the instance has no worker any more")),
        }
    }

    /// Sends the orders, and does what the guest asks of the host until the last order has been carried out.
    fn converse(&mut self) -> Result<Answer, EngineError> {
        let stopped = |cause: Cause| Ok((End::Stopped(Stop::Interrupted(cause)), Vec::new()));
        // What the guest is being unwound for.
        let mut stop = None;
        let mut has_begun = false;
        loop {
            if stop.is_none()
                && let Some(cause) = self.let_run()
                && let Some(lease) = &mut self.lease
            {
                lease.worker().orders.clear();
                if !has_begun {
                    return stopped(cause);
                }
                // The guest waits for an answer.
                lease.worker().orders.unwind();
                stop = Some(Stop::Interrupted(cause));
            }
            has_begun = true;
            let Some(lease) = &mut self.lease else { return self.without_worker() };
            let sent = lease.worker().send();
            let received = match sent {
                Ok(()) => self.await_report(),
                Err(error) => Err(error),
            };
            let heard = match received {
                Ok(heard) => heard,
                Err(error) => {
                    let told = self.cease();
                    let lease = self.lease.take();
                    return match self.guest().stop_cause() {
                        // It has not stopped in time, or was told at a moment when it could not go on.
                        Some(cause) if told || error.kind() == io::ErrorKind::TimedOut => stopped(cause),
                        _ => {
                            let explained = lease.map(|mut lease| lease.worker().explain(&error));
                            Err(self.artifact.lost(&explained.unwrap_or(error)))
                        }
                    };
                }
            };
            let told = self.cease();
            match heard {
                Heard::Import(answer) => {
                    self.said = Said::Something;
                    if told && let Some(cause) = self.guest().stop_cause() {
                        // The signal is on its way, and would meet the worker where it is not to be met.
                        self.lease = None;
                        return stopped(cause);
                    }
                    stop = answer;
                }
                Heard::Returned(values) => {
                    if told {
                        self.lease = None;
                    }
                    return Ok((End::Returned, values));
                }
                Heard::Ended(WorkerEnd::Interrupted, _) => {
                    return match self.guest().stop_cause() {
                        Some(cause) => stopped(cause),
                        None => Err(self.artifact.internal("it says that it was told to stop, and nobody has told it")),
                    };
                }
                Heard::Ended(end, detail) => {
                    if told {
                        self.lease = None;
                    }
                    let end = match (end, stop.take()) {
                        (WorkerEnd::Unwound, Some(stop)) => End::Stopped(stop),
                        (WorkerEnd::Trapped(kind), None) => End::Trapped { kind, detail },
                        (WorkerEnd::OutOfMemory, None) => End::NotGranted(Limit::Memory),
                        _ => return Err(self.artifact.internal("its report does not fit what it was told")),
                    };
                    return Ok((end, Vec::new()));
                }
                Heard::Refused(reason) => return Err(self.artifact.internal(&reason)),
            }
        }
    }

    /// Notes that the guest runs from now on, so that it is told to stop at once; or returns why it has to stop.
    fn let_run(&mut self) -> Option<Cause> {
        let signaller = Arc::clone(&self.signaller);
        let mut state = signaller.state.lock();
        let cause = self.guest().stop_cause();
        // Under the lock: whoever raises the interrupt after this finds that the guest is running.
        state.running_since = cause.is_none().then(Instant::now);
        cause
    }

    /// Notes that the guest's code does not run, and returns whether it has been told to stop.
    fn cease(&self) -> bool {
        let mut state = self.signaller.state.lock();
        state.running_since = None;
        state.told
    }

    /// Waits for a report, and carries out a call of WASI if it is one.
    fn await_report(&mut self) -> io::Result<Heard> {
        let Some(lease) = &mut self.lease else { return Err(io::ErrorKind::NotConnected.into()) };
        let worker = lease.worker();
        let guest = self.guest.as_mut().expect("an instance has its guest until it is taken apart");
        // When it was first seen here that the guest has to stop.
        let mut seen_at = None;
        loop {
            let (report, orders) = match worker.receive() {
                Ok(report) => report,
                Err(NoReport::Lost(error)) => return Err(error),
                Err(NoReport::NotYet) => {
                    if guest.stop_cause().is_some() {
                        self.signaller.stop(Duration::ZERO);
                        // Also a worker that is not in its guest's code gets no more time than this.
                        if seen_at.get_or_insert_with(Instant::now).elapsed() > STOP_TIMEOUT {
                            return Err(io::ErrorKind::TimedOut.into());
                        }
                    }
                    continue;
                }
            };
            return Ok(match report {
                Report::Import(call) => {
                    // From here on, the interrupt is obeyed by the call itself.
                    self.signaller.state.lock().running_since = None;
                    Heard::Import(carry_out(call, guest, self.memory.as_mut(), orders)?)
                }
                Report::Ready => Heard::Returned(Vec::new()),
                Report::Returned { values, refused_growth } => {
                    note_refused(guest, refused_growth);
                    Heard::Returned(values)
                }
                Report::Ended { end, detail, refused_growth } => {
                    note_refused(guest, refused_growth);
                    Heard::Ended(end, detail)
                }
                Report::Refused { reason } => Heard::Refused(reason),
                Report::Hello { .. } | Report::Compiled | Report::Serialized { .. } | Report::Code { .. } => {
                    return Err(Malformed.into());
                }
            });
        }
    }
}

/// What a worker has reported, once the host has done its part.
enum Heard {
    /// A call of WASI was carried out, and the answer is among the orders. If the guest is to be stopped, this is why.
    Import(Option<Stop>),
    Returned(Vec<u64>),
    Ended(WorkerEnd, String),
    Refused(String),
}

fn note_refused(guest: &mut Guest, refused: bool) {
    if refused {
        guest.budget.refused = Some(Limit::Memory);
    }
}

/// Carries out a call of WASI, and adds its answer to the orders. Returns why the guest is to be stopped, if it is.
fn carry_out(
    mut call: ImportCall<'_>,
    guest: &mut Guest,
    memory: Option<&mut Region>,
    orders: &mut protocol::Orders,
) -> Result<Option<Stop>, Malformed> {
    let import: &Import = IMPORTS.get(usize::from(call.index)).ok_or(Malformed)?;
    let mut args = [0; ARGS_MAX];
    let args = args.get_mut(..import.params.len()).ok_or(Malformed)?;
    call.args(args)?;
    let bytes = call.memory_pages as usize * PAGE_BYTES;
    let memory: &mut [u8] = match memory {
        Some(region) if bytes <= region.capacity() => region.bytes_mut(bytes),
        None if bytes == 0 => &mut [],
        Some(_) | None => return Err(Malformed),
    };
    while let Some((at, span)) = call.span()? {
        let end = at.checked_add(span.len()).ok_or(Malformed)?;
        memory.get_mut(at..end).ok_or(Malformed)?.copy_from_slice(span);
    }
    let buffers = import.buffers(memory, args);
    let result = if call.is_complete { guest.call(import, memory, args) } else { Ok(TOO_MUCH) };
    match result {
        Ok(errno) => {
            let mut spans: Vec<Span> = Vec::new();
            if errno == 0 {
                guest.written(import, memory, args, &buffers, |span| spans.push(span));
            }
            orders.return_(errno, memory, &spans);
            Ok(None)
        }
        Err(stop) => {
            orders.unwind();
            Ok(Some(stop))
        }
    }
}

impl Instance for WorkerInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        // The worker would not notice an argument too many.
        self.artifact.module.check_entry(entry).map_err(|error| self.artifact.internal(&error.to_string()))?;
        let (end, values) = enter(self, entry)?;
        Ok(self.guest().conclude_call(end, values))
    }

    fn into_output(mut self: Box<Self>) -> GuestOutput {
        let guest = self.guest.take().expect("an instance has its guest until it is taken apart");
        guest.into_output()
    }
}

impl Drop for WorkerInstance {
    fn drop(&mut self) {
        // A worker whose guest is still running is not used again: its lease ends here.
        let Some(mut lease) = self.lease.take() else { return };
        lease.worker().orders.drop();
        if lease.worker().send().is_ok() {
            lease.give_back();
        }
    }
}

/// How a call of an exported function failed.
enum Failure {
    Ended(End),
    Engine(EngineError),
}

impl Exports for WorkerInstance {
    type Error = Failure;

    fn has_function(&mut self, name: &str) -> bool {
        self.artifact.module.function(name).is_some()
    }

    fn call_function(&mut self, name: &str, args: &[Value], values: &mut Vec<Value>) -> Result<(), Failure> {
        let artifact = Arc::clone(&self.artifact);
        let results = artifact.module.function(name).map_or(&[][..], |ty| &ty.results);
        let call = artifact.rewritten.call(name, args, results);
        if let Some(lease) = &mut self.lease {
            lease.worker().orders.call(&call);
        }
        match self.converse() {
            Ok((End::Returned, integers)) => {
                let missing = || Failure::Engine(self.artifact.internal("its report has too few results"));
                values.extend(call.values(&integers).ok_or_else(missing)?);
                Ok(())
            }
            Ok((end, _)) => Err(Failure::Ended(end)),
            Err(error) => Err(Failure::Engine(error)),
        }
    }

    fn end_of(&self, error: Failure) -> Result<End, EngineError> {
        match error {
            Failure::Ended(end) => Ok(end),
            Failure::Engine(error) => Err(error),
        }
    }
}
