//! Whose machine code is counted: that of engines in a build of Remuda, of engines that are programs of their own, and of native
//! twins.

use std::ffi::OsString;
use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use remuda_bench::engines::NATIVE;
use remuda_engine::{Availability, Instances, Known, Registry};
use remuda_microarch::counters::EventCount;
use remuda_microarch::{InstructionSet, PLUGIN_FILE, Ran, Run, emulator, instruction_set, wait};
use remuda_model::Tier;
use serde::{Deserialize, Serialize};

/// An engine in a build of Remuda that puts machine code into its own process.
#[derive(Serialize, Deserialize)]
pub(super) struct Built {
    id: String,
    version: String,
}

impl Built {
    /// Those of this build.
    pub(super) fn here(registry: &Registry) -> Vec<Self> {
        let has_code =
            |known: &&Known| known.is_built() && known.runs_wasm() && !known.has_workers() && is_compiler(known);
        let built = |known: &'static Known| Self { id: known.id.to_string(), version: registry.version(known) };
        let starts = |known: &&Known| matches!(registry.availability(known.id), Availability::Available);
        registry.known().filter(has_code).filter(starts).map(built).collect()
    }

    /// Those of another build, which may be for another instruction set: it is asked, in an emulator.
    fn of(build: &Path) -> anyhow::Result<Vec<Self>> {
        let words = emulator(build)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg(build).args(["microarch-child", "engines"]);
        let output = command.output().with_context(|| format!("cannot start {}", words[0].display()))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            bail!("{} does not say which engines it has: {}", build.display(), said.trim_end());
        }
        serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{} is no build of remuda as this one", build.display()))
    }
}

fn is_compiler(known: &Known) -> bool {
    known.capabilities.tier != Tier::Interpreter
}

/// Whose code is counted.
pub(super) struct Code {
    /// Its name in results: an engine's id, or `native`.
    pub(super) id: String,
    pub(super) place: Place,
}

impl Code {
    /// The version of the engine, or of the compiler. A worker is started to find out.
    pub(super) fn version(&self) -> String {
        match &self.place {
            Place::Build { version } | Place::Native { version, .. } => version.clone(),
            Place::Worker(known) => Registry::new(Instances::OnDemand).version(known),
        }
    }
}

/// Where the code comes to be.
pub(super) enum Place {
    /// In the process of the build that is looked at.
    Build { version: String },
    /// In processes of the engine's own programs.
    Worker(&'static Known),
    /// It was there before: a native twin for each guest, in this folder.
    Native { folder: PathBuf, version: String },
}

/// A module, its input, and what is beside it.
pub(super) struct Call<'a> {
    pub(super) module: &'a Path,
    /// The name of the native twin.
    pub(super) guest: &'a str,
    pub(super) args: &'a [String],
    pub(super) env: &'a [(String, String)],
    pub(super) stdin: Option<&'a Path>,
}

/// How code is looked at.
pub(super) struct Looker {
    /// The build of Remuda whose engines are looked at.
    build: PathBuf,
    set: InstructionSet,
    plugin: PathBuf,
    /// The plugin's arguments but `out` and `range`.
    options: Vec<String>,
    timeout: Duration,
}

impl Looker {
    /// `build` and `plugin` are this program and the plugin beside it if they are not given.
    pub(super) fn new(
        build: Option<PathBuf>,
        plugin: Option<PathBuf>,
        options: Vec<String>,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let this = std::env::current_exe().context("this program cannot be found")?;
        // Where cargo puts it for its own sake, and where it puts it if it was asked for.
        let in_deps = this.with_file_name("deps").join(PLUGIN_FILE);
        let beside = if in_deps.is_file() { in_deps } else { this.with_file_name(PLUGIN_FILE) };
        let plugin = plugin.unwrap_or(beside);
        let build = std::path::absolute(build.unwrap_or(this))?;
        let set = instruction_set(&build)?;
        // Workers start in another folder.
        Ok(Self { build, set, plugin: std::path::absolute(plugin)?, options, timeout })
    }

    /// All code that can be looked at, and what cannot, with the reason. `root` is the project's folder, below which native twins
    /// lie.
    pub(super) fn codes(&self, root: &Path) -> anyhow::Result<(Vec<Code>, Vec<(String, String)>)> {
        let registry = Registry::new(Instances::OnDemand);
        let is_this = std::env::current_exe().is_ok_and(|this| this == self.build);
        let built = if is_this { Built::here(&registry) } else { Built::of(&self.build)? };
        let mut codes: Vec<Code> =
            built.into_iter().map(|Built { id, version }| Code { id, place: Place::Build { version } }).collect();
        let mut absent = Vec::new();
        let folder = root.join(format!("target/native-{}-linux-musl", self.set.name()));
        for known in registry.known().filter(|known| known.has_workers()) {
            match known.programs().first().map(|program| instruction_set(program)) {
                None => {
                    absent.push((known.id.to_string(), known.missing().unwrap_or_else(|| "it was not built".into())));
                }
                Some(Ok(set)) if set == self.set => {
                    codes.push(Code { id: known.id.to_string(), place: Place::Worker(known) });
                }
                Some(_) => absent.push((known.id.to_string(), format!("its program is not for {}", self.set.name()))),
            }
        }
        match remuda_bench::engines::compiler_in(&folder) {
            Some(version) => codes.push(Code { id: NATIVE.into(), place: Place::Native { folder, version } }),
            None => absent.push((
                NATIVE.into(),
                format!(
                    "there is nothing in {}; run `python guests/build.py --native --native-cc zig --native-target {}-linux-musl`",
                    folder.display(),
                    self.set.name()
                ),
            )),
        }
        Ok((codes, absent))
    }

    /// Runs a module with the plugin, and returns what was counted, and what the guest wrote.
    pub(super) fn simulate(&self, code: &Code, call: &Call<'_>) -> anyhow::Result<Ran> {
        let folder = tempfile::tempdir().context("there is no temporary folder")?;
        let run = |program: PathBuf, arguments: Vec<OsString>, range: &str| Run {
            program,
            arguments,
            stdin: call.stdin.map(ToOwned::to_owned),
            plugin: self.plugin.clone(),
            options: self.options.iter().cloned().chain([format!("range={range}")]).collect(),
            report: folder.path().join("report.json"),
            timeout: self.timeout,
        };
        match &code.place {
            Place::Build { .. } => {
                let arguments = child_arguments(&code.id, call, &[]);
                Ok(run(self.build.clone(), arguments, "told").run()?)
            }
            Place::Native { folder: twins, .. } => {
                let arguments = call.args.iter().map(Into::into).collect();
                let run = run(twins.join(call.guest), arguments, "program");
                let mut command = run.command()?;
                command.env_clear().envs(call.env.iter().cloned());
                Ok(run.watch(command)?)
            }
            Place::Worker(known) => {
                let programs = known.programs();
                let (Some(runs), Some(compiles)) = (programs.first(), programs.last()) else {
                    bail!("{}", known.missing().unwrap_or_else(|| "its program is missing".into()));
                };
                let run = run(runs.clone(), Vec::new(), "generated");
                let mut options: Vec<OsString> = Vec::new();
                for (option, words) in [("--running=", run.emulator()?), ("--compiling=", emulator(compiles)?)] {
                    options.extend(words.into_iter().map(|word| {
                        let mut option = OsString::from(option);
                        option.push(word);
                        option
                    }));
                }
                let mut command = Command::new(std::env::current_exe()?);
                command.args(child_arguments(&code.id, call, &options));
                Ok(run.watch(command)?)
            }
        }
    }

    /// Runs a module without an emulator, and returns what the processor's own counters counted.
    pub(super) fn count(&self, code: &Code, call: &Call<'_>) -> anyhow::Result<Vec<EventCount>> {
        if self.set.name() != std::env::consts::ARCH {
            bail!("{} is for another processor than this machine's", self.build.display());
        }
        let folder = tempfile::tempdir().context("there is no temporary folder")?;
        let counts = folder.path().join("counts.json");
        let mut command = Command::new(&self.build);
        match &code.place {
            Place::Native { folder: twins, .. } => {
                command.args(["microarch-child", "native"]).arg(&counts).arg(twins.join(call.guest)).arg("--");
                command.args(call.args).envs(call.env.iter().cloned());
            }
            Place::Build { .. } | Place::Worker(_) => {
                let mut option = OsString::from("--counts=");
                option.push(&counts);
                command.args(child_arguments(&code.id, call, &[option]));
            }
        }
        let stdin = match call.stdin {
            None => Stdio::null(),
            Some(path) => File::open(path).with_context(|| format!("cannot read {}", path.display()))?.into(),
        };
        let mut errors = tempfile::tempfile().context("there is no temporary folder")?;
        let stderr = errors.try_clone()?;
        let child = command.stdin(stdin).stdout(Stdio::null()).stderr(stderr).spawn();
        let mut child = child.context("this program cannot be started again")?;
        let Some(status) = wait(&mut child, self.timeout)? else {
            bail!("it did not end within {} s, and was ended", self.timeout.as_secs_f64());
        };
        if !status.success() {
            errors.rewind()?;
            bail!("{}", std::io::read_to_string(errors)?.trim_end());
        }
        Ok(serde_json::from_slice(&std::fs::read(&counts)?)?)
    }
}

/// The arguments of this program, or another build of it, to run a module once.
fn child_arguments(engine: &str, call: &Call<'_>, options: &[OsString]) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = ["microarch-child", "run"].map(Into::into).to_vec();
    arguments.extend(options.iter().cloned());
    arguments.extend(call.env.iter().map(|(name, value)| format!("--env={name}={value}").into()));
    arguments.extend([engine.into(), call.module.into(), "--".into()]);
    arguments.extend(call.args.iter().map(Into::into));
    arguments
}
