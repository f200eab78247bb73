//! What several subcommands share.

use std::path::{Path, PathBuf};

use clap::Args;
use remuda_engine::{Known, Registry};
use remuda_scheduler::Policy;
use tracing_subscriber::EnvFilter;

/// Where the host keeps what it learns and compiles.
#[derive(Args)]
pub(crate) struct DataDir {
    /// Where profiles and artifacts are kept [default: $XDG_DATA_HOME/remuda or ~/.local/share/remuda]
    #[arg(long, value_name = "DIR", env = "REMUDA_DATA_DIR")]
    data_dir: Option<PathBuf>,

    /// Keep nothing: neither read nor write profiles and artifacts
    #[arg(long, conflicts_with = "data_dir")]
    no_data: bool,
}

impl DataDir {
    /// The directory, or `None` for nothing that outlives the process.
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

/// The program in whose children modules are compiled: this one, whatever has become of its file since it was started.
pub(crate) fn compiler() -> Option<PathBuf> {
    let program = Path::new("/proc/self/exe");
    if !program.exists() {
        tracing::warn!("without /proc, modules are compiled in this process, where nothing can stop a compiler");
        return None;
    }
    Some(program.to_owned())
}

/// Which engine runs a request.
#[derive(Args)]
pub(crate) struct EngineChoice {
    /// The engine, or "auto" for the one that is expected to answer soonest (see `remuda engines`)
    #[arg(long, value_name = "ID", default_value = "auto")]
    pub(crate) engine: String,
}

impl EngineChoice {
    /// The policy that carries it out.
    pub(crate) fn policy(&self) -> anyhow::Result<Policy> {
        if self.engine == "auto" {
            return Ok(Policy::Hedged);
        }
        let known: &Known = Registry::default().find(&self.engine)?;
        Ok(Policy::Single(known.id))
    }
}

/// Sends the log to standard error; `REMUDA_LOG` chooses what is in it, as `RUST_LOG` does elsewhere.
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

/// Prints a command's result. Whoever reads may have seen enough before its end.
pub(crate) fn print(text: &str) -> std::io::Result<()> {
    use std::io::{ErrorKind, Write as _};
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// A duration for tables, with three digits.
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
