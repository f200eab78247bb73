//! Options and functions that several subcommands share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use clap::Args;
use remuda_engine::{Known, Registry};
use remuda_host::{COMPILE_MEMORY_MIN, CompileBudget, Host, HostConfig, OpenError};
use remuda_scheduler::Policy;
use tracing_subscriber::EnvFilter;

use crate::waiting;

/// The folder in which the host keeps profiles and artifacts.
#[derive(Args)]
pub(crate) struct DataDir {
    /// Where profiles and artifacts are kept [default: $XDG_DATA_HOME/remuda or ~/.local/share/remuda]
    #[arg(long, value_name = "DIR", env = "REMUDA_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Keep nothing: neither read nor write profiles and artifacts, whatever --data-dir and the environment say
    #[arg(long)]
    no_data: bool,
}

impl DataDir {
    /// The directory; `None` if nothing is to outlive the process.
    pub(crate) fn resolve(&self) -> Option<PathBuf> {
        if self.no_data {
            return None;
        }
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        self.data_dir
            .clone()
            .or_else(|| absolute("XDG_DATA_HOME").map(|home| home.join("remuda")))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/share/remuda")))
    }
}

/// Limits for compiles, and for the artifacts that they make.
#[derive(Args, Clone)]
pub(crate) struct CompileOptions {
    /// Artifacts that the data directory may hold; those that are least worth keeping are removed beyond it
    #[arg(long, value_name = "BYTES", default_value = "4GiB", env = "REMUDA_ARTIFACT_DISK")]
    artifact_disk: ByteSize,

    /// Stop a compiler after this time, and let another engine try [default: 1m; none if a run waits for it and only this
    /// engine can run the module]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    compile_timeout: Option<Duration>,

    /// Memory that a compiler may have [default: 1GiB; whatever it takes if a run waits for it and only this engine can run
    /// the module]
    #[arg(long, value_name = "BYTES", value_parser = parse_compile_memory)]
    compile_memory: Option<ByteSize>,
}

impl CompileOptions {
    /// The configuration of a host for one call, with these options.
    pub(crate) fn config(&self, data_dir: Option<PathBuf>, policy: Policy) -> HostConfig {
        let budget = |default: CompileBudget| CompileBudget {
            time_max: self.compile_timeout.unwrap_or(default.time_max),
            memory_bytes_max: self.compile_memory.map_or(default.memory_bytes_max, |memory| memory.as_u64()),
        };
        HostConfig {
            data_dir,
            policy,
            disk_budget_bytes: self.artifact_disk.as_u64(),
            compiler: compiler(),
            compile_budget: budget(CompileBudget::default()),
            only_way_budget: Some(budget(CompileBudget::UNLIMITED)),
            announce: Some(waiting::announce),
            one_call: true,
            ..HostConfig::default()
        }
    }

    /// The same options as arguments for a child of this process.
    pub(crate) fn as_args(&self) -> Vec<String> {
        let mut args = vec![format!("--artifact-disk={}B", self.artifact_disk.as_u64())];
        args.extend(self.compile_timeout.map(|time| format!("--compile-timeout={}ns", time.as_nanos())));
        args.extend(self.compile_memory.map(|memory| format!("--compile-memory={}B", memory.as_u64())));
        args
    }
}

fn parse_compile_memory(text: &str) -> Result<ByteSize, String> {
    let memory: ByteSize = text.parse()?;
    if memory < COMPILE_MEMORY_MIN {
        return Err(format!("a compiler does not start with less than {COMPILE_MEMORY_MIN}"));
    }
    Ok(memory)
}

/// Opens a host for one call. If the data directory cannot be used, the call is made all the same: a warning says so
/// once, and everything that can be read of the directory is used.
pub(crate) fn open_for_one_call(config: &HostConfig) -> anyhow::Result<Host> {
    let error = match Host::open(config) {
        Err(error @ (OpenError::DataDir { .. } | OpenError::Store(_))) => error,
        opened => return Ok(opened?),
    };
    eprintln!("warning: {error}; nothing is kept of this run");
    let read_only = HostConfig { read_only: true, ..config.clone() };
    let nowhere = HostConfig { data_dir: None, ..config.clone() };
    Ok(Host::open(&read_only).or_else(|_| Host::open(&nowhere))?)
}

/// The program that is started as a child to compile modules: this one, even if its file was replaced or removed since
/// it was started.
pub(crate) fn compiler() -> Option<PathBuf> {
    let program = Path::new("/proc/self/exe");
    if !program.exists() {
        tracing::warn!("without /proc, modules are compiled in this process, where nothing can stop a compiler");
        return None;
    }
    Some(program.to_owned())
}

/// The choice of the engine that runs requests.
#[derive(Args)]
pub(crate) struct EngineChoice {
    /// The engine, or "auto" for the one that is expected to answer soonest (see `remuda engines`)
    #[arg(long, value_name = "ID", default_value = "auto")]
    pub(crate) engine: String,
}

impl EngineChoice {
    /// The scheduler's policy for this choice.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        if self.engine == "auto" {
            return Ok(Policy::Hedged);
        }
        let known: &Known = Registry::default().find(&self.engine)?;
        Ok(Policy::Single(known.id))
    }
}

/// Sends the log to standard error. The variable `REMUDA_LOG` filters it, as `RUST_LOG` does in other programs.
pub(crate) fn start_log(default: &str, json: bool) {
    let filter =
        EnvFilter::builder().with_env_var("REMUDA_LOG").try_from_env().unwrap_or_else(|_| EnvFilter::new(default));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if json {
        log.json().init();
    } else {
        log.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(false).init();
    }
}

/// Prints a command's result. It is no error if the reader closes the pipe before the end.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write as _};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A time in nanoseconds as text for tables, with three digits.
pub(crate) fn duration(ns: f64) -> String {
    let (value, unit) = match ns {
        ns if ns < 1e3 => (ns, "ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_three_digits_and_a_unit() {
        for (ns, text) in [
            (0.0, "0.00 ns"),
            (1.234, "1.23 ns"),
            (99.96, "100 ns"),
            (12_340.0, "12.3 us"),
            (5e6, "5.00 ms"),
            (7.5e10, "75.0 s"),
        ] {
            assert_eq!(duration(ns), text);
        }
    }
}
