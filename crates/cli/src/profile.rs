//! `remuda profile`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use remuda_engine::Registry;
use remuda_host::calibrate::HostFingerprint;
use remuda_host::profile::{EngineSummary, ModuleProfile, ProfileFile, SizeClassSummary, Summary};
use remuda_host::{Profiles, read_module};
use remuda_model::ModuleDigest;

use crate::options::{DataDir, duration, print, start_log};

/// Show, export, import or forget what was measured of functions
#[derive(Args)]
pub(crate) struct Profile {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the modules of which something is known, or show what is known of one
    Show(Show),
    /// Write what is known as JSON, to be imported on another host or by another data directory
    Export(Export),
    /// Take over an exported profile, in place of what is known of its modules
    Import(Import),
    /// Forget what is known of a module, or of all
    Reset(Reset),
}

#[derive(Args)]
struct Show {
    /// A module's file, or the first digits of its SHA-256
    #[arg(value_name = "MODULE")]
    module: Option<String>,

    #[command(flatten)]
    data_dir: DataDir,
}

#[derive(Args)]
struct Export {
    /// The file to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Only what is known of these: files of modules, or first digits of their SHA-256 [default: all]
    #[arg(value_name = "MODULE")]
    modules: Vec<String>,

    #[command(flatten)]
    data_dir: DataDir,
}

#[derive(Args)]
struct Import {
    /// A file that `remuda profile export` wrote
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    data_dir: DataDir,
}

#[derive(Args)]
struct Reset {
    /// A module's file, or the first digits of its SHA-256 [default: all modules]
    #[arg(value_name = "MODULE")]
    module: Option<String>,

    #[command(flatten)]
    data_dir: DataDir,
}

impl Profile {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("warn", false);
        match self.command {
            Command::Show(show) => show.execute(),
            Command::Export(export) => export.execute(),
            Command::Import(import) => import.execute(),
            Command::Reset(reset) => reset.execute(),
        }?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Show {
    fn execute(&self) -> anyhow::Result<()> {
        let Some(profiles) = open_existing(&self.data_dir)? else { return Ok(print(NOTHING_KNOWN)?) };
        let registry = Registry::default();
        let all = profiles.modules()?;
        if let Some(name) = &self.module {
            let module = find(name, &all)?;
            let file = profiles.export(&[module], &registry)?;
            return Ok(print(&file.modules.iter().map(details).collect::<String>())?);
        }
        if all.is_empty() {
            return Ok(print(NOTHING_KNOWN)?);
        }
        let mut text = format!("{:<64} {:>8}  ENGINES\n", "MODULE (SHA-256)", "REQUESTS");
        for module in all {
            // Modules are read one at a time, because all profiles together may take much memory.
            for module in &profiles.export(&[module], &registry)?.modules {
                let engines: Vec<&str> = module.engines.iter().map(|engine| engine.engine.as_str()).collect();
                text +=
                    &format!("{:<64} {:>8}  {}\n", module.module_sha256, module.observations.len(), engines.join(", "));
            }
        }
        Ok(print(&text)?)
    }
}

const NOTHING_KNOWN: &str = "nothing is known yet: run a module, or import a profile\n";

fn details(module: &ModuleProfile) -> String {
    let mut text = format!("module {}\n\n", module.module_sha256);
    text += &format!("{:<20} {:>20} {:>20} {:>20}\n", "ENGINE", "COMPILE", "LOAD", "INSTANTIATE");
    for EngineSummary { engine, compile, load, instantiate, .. } in &module.engines {
        text += &format!("{engine:<20} {:>20} {:>20} {:>20}\n", cell(*compile), cell(*load), cell(*instantiate));
    }
    text += &format!("\n{:<20} {:<16} {:<24} {:>20}\n", "ENGINE", "ARGUMENTS", "INPUT BYTES", "EXECUTE");
    for EngineSummary { engine, size_classes, .. } in &module.engines {
        for SizeClassSummary { workload, input_bytes_min, input_bytes_max, execute } in size_classes {
            let sizes = match (input_bytes_min, input_bytes_max) {
                (Some(min), Some(max)) if min == max => min.to_string(),
                (Some(min), Some(max)) => format!("{min} to {max}"),
                _ => "not known beforehand".into(),
            };
            // In profiles, only zeros stand for no arguments.
            let arguments = if workload.bytes().all(|digit| digit == b'0') { "none" } else { workload };
            text += &format!("{engine:<20} {arguments:<16} {sizes:<24} {:>20}\n", cell(*execute));
        }
    }
    text + "\nMedians of the latest requests, and how many those were.\n"
}

fn cell(summary: Summary) -> String {
    match summary.median_ns {
        Some(ns) => format!("{} ({})", duration(ns as f64), summary.count),
        None => "-".into(),
    }
}

impl Export {
    fn execute(&self) -> anyhow::Result<()> {
        let registry = Registry::default();
        let file = match open_existing(&self.data_dir)? {
            Some(profiles) => {
                let all = profiles.modules()?;
                let chosen = self.modules.iter().map(|name| find(name, &all)).collect::<Result<Vec<_>, _>>()?;
                let mut modules = if self.modules.is_empty() { all } else { chosen };
                modules.sort_unstable();
                modules.dedup();
                profiles.export(&modules, &registry)?
            }
            None => bail!("{}", NOTHING_KNOWN.trim_end()),
        };
        match &self.output {
            Some(path) => file.write(path).with_context(|| format!("cannot write {}", path.display())),
            None => match file.write_to(&mut std::io::BufWriter::new(std::io::stdout().lock())) {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
                written => Ok(written?),
            },
        }
    }
}

impl Import {
    fn execute(&self) -> anyhow::Result<()> {
        let Some(data_dir) = self.data_dir.resolve() else {
            bail!("there is nowhere to keep it: leave --no-data out, or name a folder with --data-dir")
        };
        let registry = Registry::default();
        let file = ProfileFile::read(&self.file, &registry)?;
        crate::calibrate::make_private_dir(&data_dir)?;
        let rows = Profiles::open(&data_dir)?.import(&file, &registry)?;
        if file.host != HostFingerprint::of(&registry) {
            eprintln!(
                "this was measured on another host or with other engines ({}, {} cores): it is a start, and is replaced \
                 by what is measured here",
                file.host.cpu_model, file.host.cores
            );
        }
        eprintln!("imported {rows} measurements of {} modules", file.modules.len());
        Ok(())
    }
}

impl Reset {
    fn execute(&self) -> anyhow::Result<()> {
        let rows = match open_existing(&self.data_dir)? {
            Some(mut profiles) => {
                let module = match &self.module {
                    Some(name) => Some(find(name, &profiles.modules()?)?),
                    None => None,
                };
                profiles.reset(module)?
            }
            None => 0,
        };
        eprintln!("forgot {rows} measurements");
        Ok(())
    }
}

fn open_existing(data_dir: &DataDir) -> anyhow::Result<Option<Profiles>> {
    Ok(match data_dir.resolve() {
        Some(data_dir) => Profiles::open_existing(&data_dir)?,
        None => None,
    })
}

/// Finds the module that the user named by its file or by the first digits of its digest.
fn find(name: &str, known: &[ModuleDigest]) -> anyhow::Result<ModuleDigest> {
    let path = Path::new(name);
    if path.is_file() {
        let digest = ModuleDigest::of(&read_module(path)?);
        if !known.contains(&digest) {
            bail!("nothing is known of {name} (SHA-256 {digest})");
        }
        return Ok(digest);
    }
    let matching: Vec<ModuleDigest> =
        known.iter().copied().filter(|digest| digest.to_string().starts_with(name)).collect();
    match matching.as_slice() {
        [only] if !name.is_empty() => Ok(*only),
        [] => {
            bail!("{name:?} is neither a file nor the beginning of a known module's SHA-256; see `remuda profile show`")
        }
        several => bail!("{name:?} is the beginning of {} modules' SHA-256: give more digits", several.len()),
    }
}
