//! `remuda run`

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytesize::ByteSize;
use clap::Args;
use remuda_host::{Answer, COMPILE_MEMORY_MIN, Call, Function, FunctionSpec, Host, HostConfig};
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, Outcome, Preopen, Sink, Stdin, Value};

use crate::options::{DataDir, EngineChoice, compiler, start_log};

/// The exit code for a guest that trapped: 128 and SIGABRT's number, as a shell reports a program that crashed.
const EXIT_TRAPPED: u8 = 134;
/// The exit code for a guest that ran out of time, as `timeout` has it.
const EXIT_TIMED_OUT: u8 = 124;
/// A guest that is never told to stop.
const NO_TIMEOUT: Duration = Duration::MAX;

/// Run a module: a WASI command, or one of its exports with --invoke
#[derive(Args)]
pub(crate) struct Run {
    #[command(flatten)]
    engine: EngineChoice,

    /// Let the guest open a folder: HOST, or HOST::GUEST to give it another name; read-only unless ::rw follows
    #[arg(long = "dir", value_name = "HOST[::GUEST[::rw]]")]
    dirs: Vec<String>,

    /// Set a variable of the guest's environment; NAME alone takes it from ours
    #[arg(long = "env", value_name = "NAME[=VALUE]")]
    env: Vec<String>,

    /// Call this export instead of `_start`; the arguments are its parameters, and its results are printed
    #[arg(long, value_name = "NAME")]
    invoke: Option<String>,

    /// Stop the guest after this time, for example 500ms or 10s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// Memory that the guest may have
    #[arg(long, value_name = "BYTES", default_value = "4GiB")]
    max_memory: ByteSize,

    /// Say on standard error which engine ran, why, and how long each phase took
    #[arg(long)]
    explain: bool,

    #[command(flatten)]
    data_dir: DataDir,

    /// Artifacts that the data directory may hold; those that are least worth keeping are removed beyond it
    #[arg(long, value_name = "BYTES", default_value = "4GiB", env = "REMUDA_ARTIFACT_DISK")]
    artifact_disk: ByteSize,

    /// Stop a compiler after this time, and let another engine try
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    compile_timeout: Duration,

    /// Memory that a compiler may have
    #[arg(long, value_name = "BYTES", default_value = "1GiB", value_parser = parse_compile_memory)]
    compile_memory: ByteSize,

    /// The module, in the binary or the text format
    #[arg(value_name = "MODULE")]
    module: PathBuf,

    /// The guest's arguments
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Run {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        let policy = self.engine.policy()?;
        let host = Host::open(&HostConfig {
            data_dir: self.data_dir.resolve(),
            policy,
            disk_budget_bytes: self.artifact_disk.as_u64(),
            compiler: compiler(),
            compile_time_max: self.compile_timeout,
            compile_memory_bytes_max: self.compile_memory.as_u64(),
            ..HostConfig::default()
        })?;
        let function = host.deploy(self.spec(), None)?;
        let call = Arc::new(Call {
            id: host.next_request_id(),
            entry: self.entry(&function)?,
            context: self.context()?,
            limits: self.limits(),
        });
        function.module().check_entry(&call.entry).with_context(|| format!("{}", self.module.display()))?;

        let interrupt = Interrupt::new();
        let armed = self.timeout.map(|timeout| host.arm(timeout, interrupt.clone()));
        let answer = host.call(&function, &call, &interrupt)?;
        drop(armed);

        let results: String = answer.values.iter().map(|value| format!("{value}\n")).collect();
        std::io::stdout().write_all(results.as_bytes()).context("cannot print the results")?;
        if self.explain {
            explain(&function, &answer);
        }
        host.leave();
        Ok(self.exit_code(&answer))
    }

    fn spec(&self) -> FunctionSpec {
        FunctionSpec {
            // They tell one workload of the module from another.
            args: self.args.clone(),
            limits: self.limits(),
            ..FunctionSpec::of_module(&self.module)
        }
    }

    fn limits(&self) -> GuestLimits {
        GuestLimits {
            memory_bytes_max: self.max_memory.as_u64(),
            table_elements_max: 10_000_000,
            output_bytes_max: u64::MAX,
            timeout: self.timeout.unwrap_or(NO_TIMEOUT),
        }
    }

    fn entry(&self, function: &Function) -> anyhow::Result<Entry> {
        let Some(name) = &self.invoke else { return Ok(Entry::Command) };
        let ty = function.module().function(name);
        let params = ty.map(|ty| ty.params.as_slice()).unwrap_or_default();
        let args =
            self.args
                .iter()
                .enumerate()
                .map(|(i, text)| match params.get(i) {
                    Some(Some(ty)) => Value::parse(text, *ty)
                        .ok_or_else(|| anyhow!("argument {} of {name}: {text:?} is no {ty}", i + 1)),
                    // A number too many, or of a type that cannot be given: the entry's check says so better.
                    Some(None) | None => Ok(Value::I32(0)),
                })
                .collect::<Result<_, _>>()?;
        Ok(Entry::Export { name: name.clone(), args })
    }

    fn context(&self) -> anyhow::Result<GuestContext> {
        let program = self.module.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let guest_args = if self.invoke.is_some() { &[][..] } else { &self.args };
        Ok(GuestContext {
            args: std::iter::once(&program).chain(guest_args).cloned().collect(),
            env: self.env.iter().map(|variable| parse_variable(variable)).collect::<Result<_, _>>()?,
            stdin: stdin()?,
            stdout: Sink::Inherit,
            stderr: Sink::Inherit,
            preopens: self.dirs.iter().map(|dir| parse_dir(dir)).collect::<Result<_, _>>()?,
            gate: None,
        })
    }

    fn exit_code(&self, answer: &Answer) -> ExitCode {
        let complain = |what: &str| eprintln!("error: {} {what}", self.module.display());
        match &answer.outcome {
            Outcome::Returned => ExitCode::SUCCESS,
            // As every operating system of the Unix family does, the lowest byte is what others see.
            Outcome::Exited { code } => ExitCode::from(code.to_le_bytes()[0]),
            Outcome::Interrupted { .. } => {
                let timeout = self.timeout.unwrap_or(NO_TIMEOUT);
                complain(&format!("was stopped after --timeout {}", humantime::format_duration(timeout)));
                ExitCode::from(EXIT_TIMED_OUT)
            }
            Outcome::LimitExceeded { .. } => {
                complain(&format!("{}; allow it more with --max-memory", answer.outcome));
                ExitCode::from(EXIT_TRAPPED)
            }
            Outcome::Trapped { .. } => {
                complain(&answer.outcome.to_string());
                ExitCode::from(EXIT_TRAPPED)
            }
        }
    }
}

fn parse_compile_memory(text: &str) -> Result<ByteSize, String> {
    let memory: ByteSize = text.parse()?;
    if memory < COMPILE_MEMORY_MIN {
        return Err(format!("a compiler does not start with less than {COMPILE_MEMORY_MIN}"));
    }
    Ok(memory)
}

/// A file is read beforehand, up to a size: then its length is known, and engines that race can both read it.
fn stdin() -> anyhow::Result<Stdin> {
    const READ_BEFOREHAND_MAX: u64 = 64 << 20;
    let stdin = std::io::stdin();
    let stat = rustix::fs::fstat(&stdin).context("cannot use standard input")?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile;
    if !is_file || u64::try_from(stat.st_size).is_ok_and(|bytes| bytes > READ_BEFOREHAND_MAX) {
        return Ok(Stdin::Inherit);
    }
    let mut bytes = Vec::new();
    stdin.lock().read_to_end(&mut bytes).context("cannot read standard input")?;
    Ok(if bytes.is_empty() { Stdin::Empty } else { Stdin::Bytes(bytes.into()) })
}

fn parse_variable(text: &str) -> anyhow::Result<(String, String)> {
    match text.split_once('=') {
        Some(("", _)) => bail!("--env {text}: a variable needs a name"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => {
            let value = std::env::var(text)
                .with_context(|| format!("--env {text}: our own environment does not have it; write {text}=VALUE"))?;
            Ok((text.to_owned(), value))
        }
    }
}

fn parse_dir(text: &str) -> anyhow::Result<Preopen> {
    let mut parts = text.split("::");
    let host = parts.next().unwrap_or_default();
    let guest = parts.next().unwrap_or(host);
    let writable = match parts.next() {
        None | Some("ro") => false,
        Some("rw") => true,
        Some(other) => bail!("--dir {text}: {other:?} is neither ro nor rw"),
    };
    if host.is_empty() || parts.next().is_some() {
        bail!("--dir {text}: write HOST, HOST::GUEST or HOST::GUEST::rw");
    }
    Ok(Preopen { host: host.into(), guest: guest.to_owned(), writable })
}

fn explain(function: &Function, answer: &Answer) {
    let engine = answer.engine.map_or("no engine", |engine| engine.as_str());
    eprintln!("engine       {engine}: {}", answer.reason);
    eprintln!("artifact     {}", answer.artifact);
    for (phase, ns) in answer.phases.named() {
        eprintln!("{phase:<12} {:>12.3} ms", milliseconds(ns));
    }
    eprintln!("total        {:>12.3} ms", milliseconds(answer.phases.total_ns()));
    for (known, artifact) in function.artifacts() {
        let state = artifact.map_or_else(|| "set aside".to_owned(), |artifact| artifact.to_string());
        eprintln!("candidate    {:<20} {state}", known.id);
    }
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_read_only_unless_they_say_so() {
        let preopen = |host: &str, guest: &str, writable| Preopen { host: host.into(), guest: guest.into(), writable };
        for (text, expected) in [
            ("data", Some(preopen("data", "data", false))),
            ("data::/in", Some(preopen("data", "/in", false))),
            ("data::/in::ro", Some(preopen("data", "/in", false))),
            ("data::/in::rw", Some(preopen("data", "/in", true))),
            ("data::/in::x", None),
            ("::/in", None),
            ("a::b::rw::c", None),
        ] {
            assert_eq!(parse_dir(text).ok(), expected, "{text}");
        }
    }
}
