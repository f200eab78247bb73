//! `remuda microarch`

mod child;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use remuda_engine::{Instances, Known, Module, Registry};
use remuda_host::read_module;
use remuda_microarch::{PLUGIN_FILE, Report, Run};
use remuda_model::{ModuleLimits, Tier};
use serde::Serialize;

pub(crate) use child::MicroarchChild;

use crate::options::{print, start_log};

/// The options of the plugin that users may give, and what it simulates without them: see docs/microarchitecture.md.
const PREDICTORS: &str = "local:bimode:tournament:tage";

/// Simulate caches and branch predictors on the machine code that each compiler makes of a module
///
/// The module runs once for each engine, under qemu, whose plugin counts the guest's own code and nothing else.
/// docs/microarchitecture.md defines what is simulated.
#[derive(Args)]
pub(crate) struct Microarch {
    /// Engines [default: all compilers in this program]
    #[arg(long = "engine", value_name = "ID", value_delimiter = ',')]
    engines: Vec<String>,

    /// Standard input of the guest [default: empty]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// What one run may take
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// First-level instruction caches, as SIZE/LINE/WAYS in bytes with ":" between them [default: 4k to 1m, of 64-byte
    /// lines and 8 ways]
    #[arg(long, value_name = "CACHES")]
    icache: Option<String>,

    /// First-level data caches [default: as for instructions]
    #[arg(long, value_name = "CACHES")]
    dcache: Option<String>,

    /// Predictors of conditional branches, with their sizes, such as local/counters=2048:tage
    #[arg(long, value_name = "PREDICTORS", default_value = PREDICTORS)]
    predictor: String,

    /// The plugin of qemu [default: beside this program]
    #[arg(long, value_name = "FILE")]
    plugin: Option<PathBuf>,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,

    /// The module's file
    #[arg(value_name = "MODULE")]
    module: PathBuf,

    /// Arguments of the guest
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// What was counted of one engine's code.
#[derive(Serialize)]
struct Counted {
    engine: String,
    version: String,
    #[serde(flatten)]
    report: Report,
}

impl Microarch {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        let at = || self.module.display().to_string();
        let module = Module::parse(read_module(&self.module)?, &ModuleLimits::default()).with_context(at)?;
        let registry = Registry::new(Instances::OnDemand);
        let mut counted = Vec::new();
        for known in self.compilers(&registry, &module)? {
            let report = self.count(known).with_context(|| format!("{} on {}", at(), known.id))?;
            let version = registry.open(known.id)?.version().unwrap_or(known.version).to_owned();
            counted.push(Counted { engine: known.id.to_string(), version, report });
        }
        let words = if self.json { serde_json::to_string_pretty(&counted)? + "\n" } else { table::of(&counted) };
        print(&words)?;
        Ok(ExitCode::SUCCESS)
    }

    /// The engines whose code is counted.
    fn compilers(&self, registry: &Registry, module: &Module) -> anyhow::Result<Vec<&'static Known>> {
        let has_code =
            |known: &Known| known.runs_wasm() && !known.has_workers() && known.capabilities.tier != Tier::Interpreter;
        let mut compilers = Vec::new();
        for name in &self.engines {
            let known = registry.find(name)?;
            if !has_code(known) {
                bail!("{} has no machine code of the module in its own process", known.id);
            }
            if !compilers.iter().any(|engine: &&Known| engine.id == known.id) {
                compilers.push(known);
            }
        }
        if compilers.is_empty() {
            compilers.extend(registry.able(module).filter(|known| has_code(known) && known.is_here()));
        }
        if compilers.is_empty() {
            bail!("no compiler in this program can run the module");
        }
        Ok(compilers)
    }

    /// Runs the module on an engine, under qemu.
    fn count(&self, known: &Known) -> anyhow::Result<Report> {
        let program = std::env::current_exe().context("this program cannot be found")?;
        let plugin = self.plugin.clone().unwrap_or_else(|| program.with_file_name(PLUGIN_FILE));
        let folder = tempfile::tempdir().context("there is no temporary folder")?;
        let mut arguments =
            vec!["microarch-child".into(), known.id.as_str().into(), self.module.clone().into_os_string()];
        if let Some(input) = &self.input {
            arguments.extend(["--input".into(), input.clone().into_os_string()]);
        }
        arguments.push("--".into());
        arguments.extend(self.args.iter().map(Into::into));
        let options =
            [("icache", self.icache.as_ref()), ("dcache", self.dcache.as_ref()), ("predictor", Some(&self.predictor))];
        let options = options.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        let run = Run {
            program,
            arguments,
            plugin,
            options: options.collect(),
            report: folder.path().join("report.json"),
            timeout: self.timeout,
        };
        Ok(run.run()?.report)
    }
}
