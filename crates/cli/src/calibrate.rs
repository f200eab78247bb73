//! `remuda calibrate`

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use remuda_engine::Registry;
use remuda_host::calibrate::{HostFingerprint, measure, save};
use remuda_model::Interrupt;
use remuda_scheduler::{Calibration, EngineCalibration, PartCosts};
use serde::Serialize;

use crate::options::{DataDir, duration, print, start_log};

/// Measure what each engine costs on this host, for functions that were never run
///
/// Takes a few seconds, in which the host should have nothing else to do. `remuda serve` does it by itself when it is
/// first started and no request runs.
#[derive(Args)]
pub(crate) struct Calibrate {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print what was measured and leave the stored calibration as it is
    #[arg(long)]
    no_save: bool,

    #[command(flatten)]
    data_dir: DataDir,
}

#[derive(Serialize)]
struct Report {
    host: HostFingerprint,
    engines: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    engine: &'static str,
    #[serde(flatten)]
    costs: EngineCalibration,
}

impl Calibrate {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("warn", false);
        let registry = Registry::default();
        let data_dir = self.data_dir.resolve().filter(|_| !self.no_save);
        if let Some(data_dir) = &data_dir {
            make_private_dir(data_dir)?;
        }
        let scratch = data_dir.clone().unwrap_or_else(std::env::temp_dir);
        let calibration = measure_with_progress(&registry, &scratch)?;
        if self.json {
            let report = Report {
                host: HostFingerprint::of(&registry),
                engines: calibration.measured().map(|(engine, costs)| Row { engine: engine.as_str(), costs }).collect(),
            };
            print(&(serde_json::to_string_pretty(&report)? + "\n"))?;
        } else {
            print(&table(&calibration))?;
        }
        if let Some(data_dir) = &data_dir {
            let path = save(data_dir, &registry, &calibration)
                .with_context(|| format!("cannot keep the calibration in {}", data_dir.display()))?;
            eprintln!("kept in {}", path.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Makes the data directory as the host does. It will hold machine code, so only its owner may write there.
pub(crate) fn make_private_dir(path: &std::path::Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("cannot make the data directory {}; name another with --data-dir", path.display()))
}

fn measure_with_progress(registry: &Registry, scratch: &std::path::Path) -> anyhow::Result<Calibration> {
    // Without a terminal, the bar draws nothing.
    let bar = ProgressBar::no_length().with_style(ProgressStyle::with_template("{bar:20} {pos}/{len} {msg}")?);
    let measured = measure(registry, scratch, &Interrupt::new(), |progress| {
        bar.set_length(progress.of as u64);
        bar.set_position(progress.done as u64);
        bar.set_message(progress.engine.map_or("all engines in turn", |engine| engine.as_str()));
    });
    bar.finish_and_clear();
    Ok(measured?)
}

fn table(calibration: &Calibration) -> String {
    let mut text = format!(
        "{:<20} {:>10} {:>12} {:>9} {:>10} {:>12} {:>10} {:>12} {:>12} {:>9}\n",
        "ENGINE",
        "COMPILE",
        "+ A KB CODE",
        "ALL CORES",
        "LOAD",
        "+ A KB CODE",
        "PART",
        "+ A KB CODE",
        "INSTANTIATE",
        "RUNS"
    );
    for (engine, costs) in calibration.measured() {
        let loads = costs.load_fixed_ns + costs.load_ns_per_code_byte > 0.0;
        let load = |ns: f64| if loads { duration(ns) } else { "-".into() };
        let part = |ns: fn(PartCosts) -> f64| costs.parts.map_or_else(|| "-".into(), |parts| duration(ns(parts)));
        text += &format!(
            "{:<20} {:>10} {:>12} {:>9} {:>10} {:>12} {:>10} {:>12} {:>12} {:>9}\n",
            engine.as_str(),
            duration(costs.compile_fixed_ns),
            duration(costs.compile_ns_per_code_byte * 1e3),
            format!("{:.2}x", costs.compile_parallelism),
            load(costs.load_fixed_ns),
            load(costs.load_ns_per_code_byte * 1e3),
            part(|parts| parts.fixed_ns),
            part(|parts| parts.ns_per_code_byte * 1e3),
            duration(costs.instantiate_ns),
            format!("{:.2}x", costs.slowdown),
        );
    }
    text + "ALL CORES: how many times sooner a compile is done on all of them than on one. PART: of a module, for\n\
            guests that move. RUNS: how many times as long code takes as on the fastest engine.\n"
}
