//! Calls of a guest in the same way as `remuda serve` makes them: a host is opened, a function deployed, and requests
//! are submitted.
//!
//! Only this file opens a host and calls functions on it.

use std::collections::BTreeMap;
use std::fs;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use remuda_host::{Answer, Call, Function, FunctionSpec, Host, HostConfig};
use remuda_model::{Entry, GuestContext, GuestLimits, Outcome, Phases, Sink, Stdin};
use remuda_scheduler::Policy;

use super::steady::Steady;
use super::{CallJob, CallResult, Called, Clocks, OneCall, Output, Repeat, peak_memory_bytes};
use crate::engines;
use crate::row::Phase;

/// Memory that a guest may have, in bytes: all that WebAssembly can address.
const MEMORY_BYTES_MAX: u64 = 4 << 30;
/// Output that is kept to be checked, in bytes.
const OUTPUT_BYTES_MAX: u64 = 256 << 20;
/// Standard error that is kept for messages, in bytes.
const STDERR_BYTES_MAX: u64 = 4 << 10;
/// The number of calls after which even a choice among all engines has tried each of them.
const CALLS_UNTIL_KNOWN: usize = 12;
/// Time after which no further call is made for [`Repeat::UntilKnown`].
const UNTIL_KNOWN_MAX: Duration = Duration::from_secs(5);

pub(super) fn make(job: &CallJob, policy: Policy) -> anyhow::Result<Called> {
    let began = Clocks::at_start(job.started_ns);
    let host = open(job, policy)?;
    let bootstrap = began.elapsed();

    let began = Clocks::now();
    let function = host.deploy(spec(job), Some(&Entry::Command))?;
    let deploy = began.elapsed();

    let stdin = match &job.stdin {
        None => Stdin::Empty,
        Some(path) => Stdin::Bytes(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into()),
    };
    let mut outputs = Outputs::default();
    let mut calls = Vec::new();
    let mut enough = Enough::new(job.repeat);
    loop {
        let call = call_once(&host, &function, job, stdin.clone(), &mut outputs)?;
        let (total_ns, went_wrong) = (call.total.wall_ns, call.result.ended.is_err());
        calls.push(call);
        if went_wrong || enough.with(total_ns) {
            break;
        }
    }
    Ok(Called { bootstrap, deploy, calls, peak_memory_bytes: peak_memory_bytes() })
}

/// Opens a host as a server does, and starts the engines that the host may choose, as in a server that is ready.
fn open(job: &CallJob, policy: Policy) -> anyhow::Result<Host> {
    let host = Host::open(&HostConfig {
        data_dir: Some(job.data_dir.clone()),
        policy,
        workers: std::thread::available_parallelism().map_or(1, usize::from),
        queue_max: 1,
        // The same compiler as `serve` uses: this program in a child process.
        compiler: std::env::current_exe().ok(),
        moves: job.engine != engines::RACING,
        ..HostConfig::default()
    })?;
    let registry = host.registry();
    if let Policy::Single(engine) = policy {
        registry.open(engine)?;
    } else {
        for known in registry.known().filter(|known| known.automatic && known.is_built()) {
            // An engine that does not start is not chosen, so the error does not matter.
            let _ = registry.open(known.id);
        }
    }
    Ok(host)
}

fn spec(job: &CallJob) -> FunctionSpec {
    FunctionSpec {
        name: job.name.clone(),
        args: job.args.clone(),
        limits: limits(job),
        ..FunctionSpec::of_module(&job.module)
    }
}

fn limits(job: &CallJob) -> GuestLimits {
    GuestLimits {
        memory_bytes_max: MEMORY_BYTES_MAX,
        output_bytes_max: OUTPUT_BYTES_MAX,
        timeout: job.timeout,
        ..GuestLimits::default()
    }
}

fn call_once(
    host: &Host,
    function: &std::sync::Arc<Function>,
    job: &CallJob,
    stdin: Stdin,
    outputs: &mut Outputs,
) -> anyhow::Result<OneCall> {
    let call = Call {
        id: host.next_request_id(),
        entry: Entry::Command,
        context: GuestContext {
            args: std::iter::once(&job.name).chain(&job.args).cloned().collect(),
            env: job.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            stdin,
            stdout: Sink::Capture { bytes_max: OUTPUT_BYTES_MAX },
            stderr: Sink::CaptureHead { bytes_max: STDERR_BYTES_MAX },
            ..GuestContext::default()
        },
        limits: limits(job),
    };
    let (done, answered) = mpsc::sync_channel(1);
    let began = Clocks::now();
    let ticket = host.submit(function, call, Instant::now(), move |answer| {
        // The receiver waits for the answer below, so sending cannot fail.
        let _ = done.send(answer);
    })?;
    let answer = answered.recv();
    let total = began.elapsed();
    drop(ticket);
    let answer: Answer = answer.context("the host gave no answer")??;
    Ok(OneCall {
        phases_ns: phases_ns(&answer),
        total,
        answered_by: answer.engine.map(|engine| engine.as_str().to_owned()),
        result: CallResult {
            ended: match answer.outcome {
                Outcome::Returned => Ok(0),
                Outcome::Exited { code } => Ok(code),
                other => Err(other.to_string()),
            },
            output: outputs.tell(&answer.output.stdout),
            stderr: String::from_utf8_lossy(&answer.output.stderr).into_owned(),
        },
    })
}

/// The phases that happened, in nanoseconds. Every call instantiates and executes, even if the clock shows 0.
fn phases_ns(answer: &Answer) -> BTreeMap<Phase, u64> {
    let Phases { queue_ns, compile_ns, load_ns, instantiate_ns, execute_ns } = answer.phases;
    let phases = [
        (Phase::Queue, queue_ns),
        (Phase::Compile, compile_ns),
        (Phase::Load, load_ns),
        (Phase::Instantiate, instantiate_ns),
        (Phase::Execute, execute_ns),
    ];
    let always = [Phase::Instantiate, Phase::Execute];
    phases.into_iter().filter(|(phase, ns)| *ns > 0 || always.contains(phase)).collect()
}

/// Digests outputs. Most outputs are the same as the one before, and comparing two is faster than digesting one; and
/// the work between two calls should be short.
#[derive(Default)]
struct Outputs {
    last: Option<(Vec<u8>, Output)>,
}

impl Outputs {
    fn tell(&mut self, bytes: &[u8]) -> Output {
        match &self.last {
            Some((last, output)) if last == bytes => output.clone(),
            _ => {
                let output = Output::of(bytes);
                self.last = Some((bytes.to_vec(), output.clone()));
                output
            }
        }
    }
}

/// The rule that ends a series of calls.
enum Enough {
    After(usize),
    Known { calls: usize, lasted: Duration },
    Steady(Steady),
}

impl Enough {
    fn new(repeat: Repeat) -> Self {
        match repeat {
            Repeat::Times(times) => Self::After(times as usize),
            Repeat::UntilKnown => Self::Known { calls: 0, lasted: Duration::ZERO },
            Repeat::UntilSteady => Self::Steady(Steady::default()),
        }
    }

    /// Takes account of one more call, which took `call_ns` nanoseconds, and returns whether it was the last.
    fn with(&mut self, call_ns: u64) -> bool {
        match self {
            Self::After(left) => {
                *left = left.saturating_sub(1);
                *left == 0
            }
            Self::Known { calls, lasted } => {
                *calls += 1;
                *lasted += Duration::from_nanos(call_ns);
                *calls >= CALLS_UNTIL_KNOWN || *lasted >= UNTIL_KNOWN_MAX
            }
            Self::Steady(steady) => steady.ends_with(call_ns),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peak_memory_counts_what_was_touched_and_given_back() {
        let before = peak_memory_bytes().unwrap();
        let ballast = vec![1_u8; 64 << 20];
        assert_eq!(ballast.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 64 << 20);
        drop(ballast);
        assert!(peak_memory_bytes().unwrap() >= before.max(64 << 20));
    }

    #[test]
    fn equal_outputs_are_told_the_same() {
        let mut outputs = Outputs::default();
        let first = outputs.tell(b"abc");
        assert_eq!(first.digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(outputs.tell(b"abc"), first);
        assert_ne!(outputs.tell(b"abd"), first);
    }
}
