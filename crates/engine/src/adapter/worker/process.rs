//! One worker: a process with nothing but a socket to the host.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use remuda_sandbox::Rights;
use remuda_wasi::IMPORTS;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal};

use super::protocol::{Code, LENGTH_BYTES, Malformed, ModuleNumber, Orders, REPORT_BYTES_MAX, Report, VERSION};
use crate::adapter::region::Region;

/// The time after which a worker that has not said hello is given up. Node.js takes 50 ms on an idle core.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// How often a thread that waits for a worker looks whether it still has to. A guest that is busy with itself is stopped
/// without this; one that is not, and does not call the host either, is stopped this much later, and a worker that does
/// not react is killed this much later.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The time after which a worker is given up that does not read its orders. One that waits for orders reads them at once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The memory that a worker may write to beside that of its guest, in bytes: V8's heap and its compilers' code, data
/// and stacks. It bounds what a hostile module can take from the host by way of a worker; a worker that needs more
/// dies. Node.js has 0.2 GiB at its start, most of that stacks that it hardly touches.
const OWN_BYTES_MAX: u64 = 1 << 30;

/// The bytes of modules that a worker keeps compiled. If they are too few, modules are compiled again and again; if too
/// many, idle workers take memory.
const LOADED_BYTES_MAX: usize = 64 << 20;
/// The most modules that a worker keeps compiled.
const LOADED_MAX: usize = 256;

/// The bytes that a worker's input buffer has at least: most frames fit into it.
const INPUT_BYTES: usize = 64 << 10;

/// How a kind of worker is started.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    args: Vec<String>,
    /// The emulator that runs the program, and its arguments; empty without one. It needs files, and the program is only looked
    /// at, so that it is not walled in; and it has to end by itself, so that the emulator can say what it has seen.
    emulator: Vec<OsString>,
}

impl Launch {
    pub(super) fn new(program: PathBuf, args: Vec<String>) -> Self {
        Self { program, args, emulator: Vec::new() }
    }

    /// The same in an emulator.
    pub(super) fn emulated(self, emulator: &[OsString]) -> Self {
        Self { emulator: emulator.to_vec(), ..self }
    }

    fn is_emulated(&self) -> bool {
        !self.emulator.is_empty()
    }
}

/// Starts the workers of one kind, and sees them to their end, on a thread of its own. A worker is to die with the
/// host, and Linux has it die with the *thread* that started it: so that thread must last. It has also given up, before
/// it starts the first worker, what a worker has no use for ([`rights`]), since a process inherits that.
pub(super) struct Nursery {
    requests: Sender<Request>,
    is_emulated: bool,
}

/// A process that was asked for.
pub(super) struct Started(Receiver<io::Result<(Child, UnixStream)>>);

enum Request {
    Start(Sender<io::Result<(Child, UnixStream)>>),
    /// Wait for a process that has been killed.
    Bury(Child),
}

impl Nursery {
    pub(super) fn open(launch: Launch) -> io::Result<Self> {
        let (requests, received) = channel();
        let is_emulated = launch.is_emulated();
        std::thread::Builder::new().name("workers".into()).spawn(move || serve(&launch, &received))?;
        Ok(Self { requests, is_emulated })
    }

    /// Asks for a process, which starts meanwhile.
    pub(super) fn ask(&self) -> Started {
        let (answer, answered) = channel();
        // If the thread has ended, whoever waits for the answer is told.
        let _ = self.requests.send(Request::Start(answer));
        Started(answered)
    }

    fn bury(&self, child: Child) {
        // Without that thread, the process ends all the same, and stays in the process table until the host ends.
        let _ = self.requests.send(Request::Bury(child));
    }
}

/// What a worker has: its program and its libraries. On a kernel without Landlock it has more until it has started; from
/// then on, it can open no file or socket even there ([`Worker::confine`]).
pub(super) fn rights(program: &Path) -> Rights {
    Rights::to_start([program])
}

fn serve(launch: &Launch, requests: &Receiver<Request>) {
    let jailed = if launch.is_emulated() { Ok(()) } else { rights(&launch.program).enter().map(drop) };
    for request in requests {
        match request {
            Request::Start(answer) => {
                let started = match &jailed {
                    Ok(()) => spawn(launch),
                    Err(error) => Err(io::Error::other(format!("it cannot be kept from the host's files: {error}"))),
                };
                if let Err(unwanted) = answer.send(started)
                    && let Ok((mut child, _)) = unwanted.0
                {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
            Request::Bury(mut child) => {
                let _ = child.wait();
            }
        }
    }
}

fn spawn(launch: &Launch) -> io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut words = launch.emulator.iter().map(OsString::as_os_str).chain([launch.program.as_os_str()]);
    let mut command = Command::new(words.next().expect("there is a program"));
    command
        .args(words)
        .args(&launch.args)
        .current_dir("/")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null());
    if !launch.is_emulated() {
        command.env_clear().stderr(Stdio::null());
    }
    // SAFETY: between fork and exec, only this one system call is made; it allocates nothing and takes no lock.
    unsafe {
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?));
    }
    Ok((command.spawn()?, ours))
}

/// A worker that has said hello.
pub(super) struct Worker {
    /// `None` only while the worker is dropped.
    child: Option<Child>,
    handle: Arc<OwnedFd>,
    socket: UnixStream,
    nursery: Arc<Nursery>,
    /// Orders that have not been sent.
    pub(super) orders: Orders,
    input: Vec<u8>,
    /// The bytes of the current report that have come.
    have: usize,
    /// The modules that the worker has compiled, with their sizes in bytes, the one used last at the end.
    loaded: Vec<(ModuleNumber, usize)>,
    /// The memory that its guest may have, in bytes, as the kernel was told last.
    guest_bytes_max: Option<u64>,
    /// What the worker says of its program's version.
    pub(super) versions: Vec<String>,
}

/// Why there is no report.
#[derive(Debug)]
pub(super) enum NoReport {
    /// The worker has not sent one yet.
    NotYet,
    /// The worker has ended, or sent nonsense.
    Lost(io::Error),
}

impl From<Malformed> for NoReport {
    fn from(malformed: Malformed) -> Self {
        Self::Lost(io::Error::new(io::ErrorKind::InvalidData, malformed))
    }
}

impl Worker {
    /// Waits until the process has said hello.
    pub(super) fn await_hello(started: &Started, nursery: &Arc<Nursery>) -> io::Result<Self> {
        let gone = |_| io::Error::other("the thread that starts workers has ended");
        let (child, socket) = started.0.recv().map_err(gone)??;
        let pid = Pid::from_child(&child);
        let mut worker = Self {
            // From here on, an error kills the process.
            child: Some(child),
            handle: Arc::new(rustix::process::pidfd_open(pid, PidfdFlags::empty())?),
            socket,
            nursery: Arc::clone(nursery),
            orders: Orders::default(),
            input: vec![0; INPUT_BYTES],
            have: 0,
            loaded: Vec::new(),
            guest_bytes_max: None,
            versions: Vec::new(),
        };
        worker.socket.set_read_timeout(Some(LOOK_EVERY))?;
        worker.socket.set_write_timeout(Some(WRITE_TIMEOUT))?;
        worker.orders.link(IMPORTS);
        worker.send()?;
        let began = Instant::now();
        let (protocol, versions) = loop {
            match worker.receive() {
                Ok((Report::Hello { protocol, versions }, _)) => break (protocol, versions),
                Ok((report, _)) => return Err(io::Error::other(format!("it began with {report:?}"))),
                Err(NoReport::NotYet) if began.elapsed() < START_TIMEOUT => {}
                Err(NoReport::NotYet) => {
                    return Err(io::Error::other(format!("it did not start within {} s", START_TIMEOUT.as_secs())));
                }
                Err(NoReport::Lost(error)) => return Err(worker.explain(&error)),
            }
        };
        if protocol != VERSION {
            return Err(io::Error::other(format!("it speaks version {protocol} of the protocol, not {VERSION}")));
        }
        worker.versions = versions;
        if !nursery.is_emulated {
            Self::confine(pid)?;
        }
        Ok(worker)
    }

    /// Takes from the process what it needed for its start: it can open nothing from now on, write no file, and leave
    /// no memory image.
    fn confine(pid: Pid) -> io::Result<()> {
        for resource in [Resource::Nofile, Resource::Fsize, Resource::Core] {
            set_limit(pid, resource, 0, 0)?;
        }
        Ok(())
    }

    /// Sets what the guest of the worker may have of memory, in bytes.
    pub(super) fn set_guest_bytes_max(&mut self, bytes_max: u64) -> io::Result<()> {
        if self.guest_bytes_max != Some(bytes_max)
            && !self.nursery.is_emulated
            && let Some(child) = &self.child
        {
            // Only the soft limit follows the guest: the hard one could not be raised again. It is this process's own, if
            // that is lower.
            let own = rustix::process::getrlimit(Resource::Data).maximum.unwrap_or(u64::MAX);
            let most = own.min(OWN_BYTES_MAX + Region::ADDRESSES as u64);
            let soft = most.min(OWN_BYTES_MAX.saturating_add(bytes_max));
            set_limit(Pid::from_child(child), Resource::Data, soft, most)?;
            self.guest_bytes_max = Some(bytes_max);
        }
        Ok(())
    }

    pub(super) fn has(&self, module: ModuleNumber) -> bool {
        self.loaded.iter().any(|(loaded, _)| *loaded == module)
    }

    /// Adds an order to make a module ready, and orders to forget others if there are too many.
    pub(super) fn order_make(&mut self, module: ModuleNumber, code: &Code) {
        self.orders.make(module, code);
        self.loaded.push((module, code.bytes()));
        while self.loaded.len() > LOADED_MAX
            || (self.loaded.len() > 1 && self.loaded.iter().map(|(_, bytes)| bytes).sum::<usize>() > LOADED_BYTES_MAX)
        {
            let (forgotten, _) = self.loaded.remove(0);
            self.orders.forget(forgotten);
        }
    }

    /// Notes that a module is used now, so that it is not the first to be forgotten.
    pub(super) fn note_use(&mut self, module: ModuleNumber) {
        if let Some(at) = self.loaded.iter().position(|(loaded, _)| *loaded == module) {
            let used = self.loaded.remove(at);
            self.loaded.push(used);
        }
    }

    /// A handle by which any thread can send the process a signal, also after it has ended.
    pub(super) fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.handle)
    }

    /// Sends the orders that have been added.
    pub(super) fn send(&mut self) -> io::Result<()> {
        let sent = self.socket.write_all(self.orders.bytes());
        self.orders.clear();
        sent.map_err(|error| self.explain(&error))
    }

    /// Waits for a report, for as long as [`LOOK_EVERY`].
    ///
    /// A worker sends one report for one order, or nothing while it carries an order out, so that no bytes of a second
    /// report can follow the first.
    ///
    /// With the report come the orders, so that the answer can be added to them while the report is being read.
    pub(super) fn receive(&mut self) -> Result<(Report<'_>, &mut Orders), NoReport> {
        loop {
            let frame_bytes = match self.input[..self.have].first_chunk::<LENGTH_BYTES>() {
                Some(length) => LENGTH_BYTES + u32::from_le_bytes(*length) as usize,
                None => LENGTH_BYTES,
            };
            if frame_bytes > REPORT_BYTES_MAX || self.have > frame_bytes {
                return Err(Malformed.into());
            }
            if self.have == frame_bytes && frame_bytes > LENGTH_BYTES {
                break;
            }
            if self.input.len() < frame_bytes {
                self.input.resize(frame_bytes, 0);
            }
            match self.socket.read(&mut self.input[self.have..]) {
                Ok(0) => return Err(NoReport::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => self.have += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(NoReport::NotYet),
                Err(error) => return Err(NoReport::Lost(error)),
            }
        }
        let frame = LENGTH_BYTES..std::mem::take(&mut self.have);
        Ok((Report::read(&self.input[frame])?, &mut self.orders))
    }

    /// Ends the process, and says how it ended if it had done so by itself.
    pub(super) fn explain(&mut self, lost: &io::Error) -> io::Error {
        let Some(mut child) = self.child.take() else { return io::Error::other(lost.to_string()) };
        if matches!(lost.kind(), io::ErrorKind::InvalidData | io::ErrorKind::TimedOut) {
            let _ = child.kill();
            self.nursery.bury(child);
            return io::Error::other(lost.to_string());
        }
        // It has closed its socket, so it has ended or is about to; the signal is for one that does neither.
        let ended = (0..50).find_map(|_| match child.try_wait() {
            Ok(None) => {
                std::thread::sleep(Duration::from_millis(1));
                None
            }
            Ok(Some(status)) => Some(Some(status)),
            Err(_) => Some(None),
        });
        let _ = child.kill();
        self.nursery.bury(child);
        io::Error::other(ended.flatten().map_or_else(|| lost.to_string(), describe))
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("its process ended with code {code}"),
        (None, Some(signal)) => format!("its process was ended by signal {signal}"),
        (None, None) => "its process ended".into(),
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // An error means that it has ended already.
        if self.nursery.is_emulated {
            // It ends when it reads that nobody is there any more.
            let _ = self.socket.shutdown(Shutdown::Both);
            let _ = child.wait();
        } else {
            let _ = child.kill();
            self.nursery.bury(child);
        }
    }
}

/// Sends a worker a signal; one that has ended gets none.
pub(super) fn signal(handle: &OwnedFd, signal: Signal) {
    let _ = rustix::process::pidfd_send_signal(handle.as_fd(), signal);
}

fn set_limit(pid: Pid, resource: Resource, soft: u64, hard: u64) -> io::Result<()> {
    let limit = Rlimit { current: Some(soft), maximum: Some(hard) };
    rustix::process::prlimit(Some(pid), resource, limit)?;
    Ok(())
}
