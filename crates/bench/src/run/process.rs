//! A fresh process: it is started, watched, killed if necessary, and its use of time and memory is measured.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use wait4::Wait4 as _;

use crate::measure::{Times, monotonic_ns, peak_memory_bytes};

/// An order to stop, which another thread may give at any time. It kills the process that runs at once.
#[derive(Debug, Default)]
pub struct Stop {
    ordered: AtomicBool,
    running: Mutex<Option<Pid>>,
}

impl Stop {
    /// Gives the order. Returns whether this was the first time.
    pub fn order(&self) -> bool {
        let first = !self.ordered.swap(true, Ordering::SeqCst);
        self.kill();
        first
    }

    /// Whether the order was given.
    #[must_use]
    pub fn is_ordered(&self) -> bool {
        self.ordered.load(Ordering::SeqCst)
    }

    /// Kills the process that runs, and all processes that it has started.
    fn kill(&self) {
        if let Some(pid) = *self.running() {
            // The process may have ended by itself. But it was not waited for yet, so no other process has its number.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }

    /// The process that runs. It is waited for only after its number was removed from here.
    fn running(&self) -> MutexGuard<'_, Option<Pid>> {
        self.running.lock()
    }
}

/// The standard input of a process.
pub(super) enum Input {
    Nothing,
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// A process that has ended.
pub(super) struct Finished {
    pub(super) status: ExitStatus,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: String,
    /// Time from the start of the process to its end.
    pub(super) total: Times,
    /// The most memory that the process had resident, in bytes, if that is known.
    pub(super) peak_memory_bytes: Option<u64>,
    /// Whether the process was killed because its time was up.
    pub(super) timed_out: bool,
}

/// Runs a command until it ends, or kills it after `limit` or on an order to stop.
pub(super) fn run(mut command: Command, input: Input, limit: Duration, stop: &Stop) -> io::Result<Finished> {
    let bytes = match input {
        Input::Nothing => {
            command.stdin(Stdio::null());
            Vec::new()
        }
        Input::File(path) => {
            command.stdin(File::open(path)?);
            Vec::new()
        }
        Input::Bytes(bytes) => {
            command.stdin(Stdio::piped());
            bytes
        }
    };
    // In a group of its own, the process does not get Ctrl-C from the terminal: only this program stops it.
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let own_peak = peak_memory_bytes();
    let began = monotonic_ns();
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    *stop.running() = Some(pid);
    if stop.is_ordered() {
        stop.kill();
    }
    if let Some(mut stdin) = child.stdin.take() {
        // An error is ignored: if the process ends without having read everything, its output says what was wrong.
        let _ = stdin.write_all(&bytes);
    }
    let (mut out, mut err) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        let stdout = scope.spawn(move || read_all(out.as_mut()));
        let stderr = scope.spawn(move || read_all(err.as_mut()));
        let (ended, watched) = mpsc::channel::<()>();
        let watchdog = scope.spawn(move || {
            let timed_out = watched.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
            if timed_out {
                stop.kill();
            }
            timed_out
        });
        // Waits until the process has ended, but leaves it its number.
        let waited = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let wall_ns = monotonic_ns() - began;
        *stop.running() = None;
        drop(ended);
        waited?;
        let used = child.wait4()?;
        // On Linux, a process inherits the peak of the process that started it. So a peak that is not above our own
        // says nothing.
        let peak = Some(used.rusage.maxrss).filter(|bytes| *bytes > own_peak.unwrap_or(u64::MAX));
        let cpu = used.rusage.utime + used.rusage.stime;
        let unpanicked = |_| io::Error::other("a thread that reads a process's output panicked");
        Ok(Finished {
            status: used.status,
            stdout: stdout.join().map_err(unpanicked)?,
            stderr: String::from_utf8_lossy(&stderr.join().map_err(unpanicked)?).into_owned(),
            total: Times { wall_ns, cpu_ns: u64::try_from(cpu.as_nanos()).unwrap_or(u64::MAX) },
            peak_memory_bytes: peak,
            timed_out: watchdog.join().map_err(unpanicked)?,
        })
    })
}

fn read_all(from: Option<&mut impl io::Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // After an error, the bytes that were read before it are the result.
        let _ = from.read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(10);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn streams_status_and_usage_come_back() {
        let input = Input::Bytes(b"question".to_vec());
        let finished = run(shell("cat; echo answer >&2; exit 3"), input, LONG, &Stop::default()).unwrap();
        assert_eq!((finished.stdout.as_slice(), finished.stderr.as_str()), (&b"question"[..], "answer\n"));
        assert_eq!((finished.status.code(), finished.timed_out), (Some(3), false));
        assert!(finished.total.wall_ns > 0);
    }

    #[test]
    fn one_that_is_given_nothing_does_not_read_the_terminal() {
        let finished = run(shell("readlink /proc/self/fd/0"), Input::Nothing, LONG, &Stop::default()).unwrap();
        assert_eq!(finished.stdout, b"/dev/null\n");
    }

    #[test]
    fn one_that_runs_too_long_is_killed_with_all_that_it_started() {
        let script = "sleep 600 & wait";
        let finished = run(shell(script), Input::Nothing, Duration::from_millis(1), &Stop::default()).unwrap();
        assert!(finished.timed_out && !finished.status.success());
    }

    #[test]
    fn an_order_to_stop_ends_what_runs_and_what_would_run_next() {
        let stop = Stop::default();
        thread::scope(|scope| {
            let running = scope.spawn(|| run(shell("sleep 600"), Input::Nothing, LONG, &stop).unwrap());
            while stop.running().is_none() {
                thread::yield_now();
            }
            assert!(stop.order(), "the first order");
            assert!(!running.join().unwrap().status.success());
        });
        assert!(!stop.order());
        assert!(!run(shell("sleep 600"), Input::Nothing, LONG, &stop).unwrap().status.success());
    }
}
