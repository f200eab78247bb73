//! `remuda microarch`

mod child;
mod code;
mod suite;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use remuda_microarch::Report;
use remuda_microarch::counters::{Counters, EventCount};
use serde::Serialize;

pub(crate) use child::MicroarchChild;
use code::{Call, Code, Looker, Place};

use crate::characterize::{SizeChoice, find_guests};
use crate::options::{print, start_log};

/// The predictors that are simulated if none are named: those of the paper's Table III, and a modern one.
const PREDICTORS: &str = "local:bimode:tournament:tage";

/// Simulate caches and branch predictors on the machine code that each compiler makes of a module
///
/// The module runs once for each engine, under qemu, whose plugin counts the guest's own code and nothing else.
/// docs/microarchitecture.md defines what is simulated.
#[derive(Args)]
pub(crate) struct Microarch {
    /// Engines, or native [default: all compilers in this program, or all that are here with --suite]
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

    /// The build of remuda whose engines are looked at, also one for AArch64 [default: this one]
    #[arg(long, value_name = "FILE")]
    build: Option<PathBuf>,

    /// Read the processor's own counters, where it has them, instead of simulating. With --suite, both are done
    #[arg(long, conflicts_with_all = ["icache", "dcache", "build", "suites"])]
    counters: bool,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,

    /// Simulate guests, for `remuda report`: polybench, edge, matmul, micro, a folder with guests, or modules [default: the
    /// first two]
    #[arg(long = "suite", value_name = "SUITE|DIR|FILE.wasm", num_args = 0.., value_delimiter = ',', conflicts_with_all = ["module", "args", "input", "json"])]
    suites: Option<Vec<String>>,

    /// How large the suite's inputs are
    #[arg(long, value_enum, default_value_t = SizeChoice::Medium, requires = "suites")]
    size: SizeChoice,

    /// Simulations at the same time [default: one for each core]
    #[arg(long, value_name = "N", requires = "suites", value_parser = clap::value_parser!(u16).range(1..))]
    jobs: Option<u16>,

    /// Where the suite's results are written, "-" for standard output [default: a new file in results/ or here]
    #[arg(short, long, value_name = "FILE", requires = "suites")]
    output: Option<PathBuf>,

    /// The suite's folder [default: guests/ here or above]
    #[arg(long, value_name = "DIR", env = "REMUDA_GUESTS")]
    guests: Option<PathBuf>,

    /// The module's file
    #[arg(value_name = "MODULE", required_unless_present = "suites")]
    module: Option<PathBuf>,

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

/// What the processor counted of one engine.
#[derive(Serialize)]
struct HardwareCounted {
    engine: String,
    version: String,
    events: Vec<EventCount>,
}

impl Microarch {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        let options =
            [("icache", self.icache.as_ref()), ("dcache", self.dcache.as_ref()), ("predictor", Some(&self.predictor))];
        let options = options.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
        let looker = Looker::new(self.build.clone(), self.plugin.clone(), options.collect(), self.timeout)?;
        let guests = self.guests.clone().unwrap_or_else(find_guests);
        match &self.module {
            Some(module) => self.one(&looker, module, &guests),
            None => self.suite(&looker, guests),
        }
    }

    /// Counts one module, and prints what was counted.
    fn one(&self, looker: &Looker, module: &Path, guests: &Path) -> anyhow::Result<ExitCode> {
        let name = module.file_stem().unwrap_or_default().to_string_lossy();
        let call = Call { module, guest: &name, args: &self.args, env: &[], stdin: self.input.as_deref() };
        std::fs::metadata(module).with_context(|| module.display().to_string())?;
        if self.counters {
            Counters::open().context("without --counters, caches and predictors are simulated")?;
            let count = |code: &Code| {
                let events = looker.count(code, &call)?;
                Ok(HardwareCounted { engine: code.id.clone(), version: code.version(), events })
            };
            self.show(looker, module, guests, count, table::hardware)
        } else {
            let simulate = |code: &Code| {
                let report = looker.simulate(code, &call)?.report;
                Ok(Counted { engine: code.id.clone(), version: code.version(), report })
            };
            self.show(looker, module, guests, simulate, table::of)
        }
    }

    /// Has the code of each engine counted, and prints what was counted.
    fn show<T: Serialize>(
        &self,
        looker: &Looker,
        module: &Path,
        guests: &Path,
        count: impl Fn(&Code) -> anyhow::Result<T>,
        table: fn(&[T]) -> String,
    ) -> anyhow::Result<ExitCode> {
        let mut counted = Vec::new();
        for code in self.codes(looker, guests, |code| matches!(code.place, Place::Build { .. }))? {
            counted.push(count(&code).with_context(|| format!("{} on {}", module.display(), code.id))?);
        }
        print(&if self.json { serde_json::to_string_pretty(&counted)? + "\n" } else { table(&counted) })?;
        Ok(ExitCode::SUCCESS)
    }

    /// The code that is asked for; without names, that of which `by_default` holds.
    fn codes(&self, looker: &Looker, guests: &Path, by_default: fn(&Code) -> bool) -> anyhow::Result<Vec<Code>> {
        let root = guests.parent().unwrap_or(Path::new("."));
        let (mut here, absent) = looker.codes(root)?;
        if self.engines.is_empty() {
            here.retain(by_default);
        } else {
            for name in &self.engines {
                if here.iter().any(|code| code.id == *name) {
                    continue;
                }
                match absent.iter().find(|(id, _)| id == name) {
                    Some((_, reason)) => bail!("the code of {name} cannot be looked at: {reason}"),
                    None => bail!(
                        "{name} has no machine code of the module here; there is that of {}",
                        here.iter().map(|code| code.id.as_str()).collect::<Vec<_>>().join(", ")
                    ),
                }
            }
            here.retain(|code| self.engines.contains(&code.id));
        }
        if here.is_empty() {
            bail!("no compiler in this program can run the module");
        }
        Ok(here)
    }
}
