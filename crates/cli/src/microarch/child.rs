//! `remuda microarch-child`: runs a module once on one engine, and has it seen by the plugin of qemu. It is not for people.
//!
//! Of an engine in this program, this process runs in qemu, and tells the plugin where the engine has put the module's machine
//! code. Of an engine with programs of its own, those run in qemu, and the plugin finds the code by itself.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use remuda_engine::{Emulator, Engine, Instances, Module, Registry};
use remuda_host::read_module;
use remuda_microarch::counters::Counters;
use remuda_microarch::protocol::Message;
use remuda_microarch::tell;
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome, Sink, Stdin};

use super::code::Built;
use crate::run::entry;

/// The most that a guest may write, in bytes. It is kept in memory and then verified; the suite's largest output is some MB.
const OUTPUT_BYTES_MAX: u64 = 256 << 20;

/// Run a module once to be seen by qemu's plugin
#[derive(Args)]
pub(crate) struct MicroarchChild {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Print the engines of this build with machine code in its own process, as JSON
    Engines,
    /// Run a module
    Run(Box<Run>),
    /// Run a program, and count what it does to the processor
    Native(Native),
}

#[derive(Args)]
struct Native {
    /// Where hardware counts are written
    counts: PathBuf,

    /// The program
    program: PathBuf,

    /// Its arguments
    #[arg(last = true)]
    args: Vec<String>,
}

#[derive(Args)]
struct Run {
    /// The engine
    engine: String,

    /// The module's file
    module: PathBuf,

    /// Variables of the guest, NAME=VALUE
    #[arg(long)]
    env: Vec<String>,

    /// The emulator where guests run, word by word, if the engine has programs of its own
    #[arg(long, allow_hyphen_values = true)]
    running: Vec<OsString>,

    /// The emulator where modules are compiled
    #[arg(long, allow_hyphen_values = true)]
    compiling: Vec<OsString>,

    /// Where hardware counts are written, if the processor is to be looked at, and no plugin
    #[arg(long)]
    counts: Option<PathBuf>,

    /// Arguments of the guest
    #[arg(last = true)]
    args: Vec<String>,
}

impl MicroarchChild {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        match self.what {
            What::Engines => {
                serde_json::to_writer(std::io::stdout(), &Built::here(&Registry::new(Instances::OnDemand)))?;
                Ok(ExitCode::SUCCESS)
            }
            What::Run(run) => run.execute(),
            What::Native(native) => native.execute(),
        }
    }
}

impl Native {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let mut counters = Counters::open()?;
        counters.start()?;
        let status = Command::new(&self.program).args(&self.args).status();
        write_counts(&mut counters, &self.counts)?;
        let status = status.with_context(|| format!("cannot start {}", self.program.display()))?;
        if !status.success() {
            bail!("{} ended with {status}", self.program.display());
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write_counts(counters: &mut Counters, path: &Path) -> anyhow::Result<()> {
    let counts = serde_json::to_vec(&counters.stop()?)?;
    std::fs::write(path, counts).with_context(|| format!("cannot write {}", path.display()))
}

impl Run {
    fn execute(self) -> anyhow::Result<ExitCode> {
        let module = Module::parse(read_module(&self.module)?, &ModuleLimits::default())?;
        let entry = entry::entry(&module, None, &self.args)?;
        module.check_entry(&entry)?;
        // Instances in a pool would take address space that qemu has not.
        let registry = Registry::new(Instances::OnDemand);
        let known = registry.find(&self.engine)?;
        // Before there is a thread that starts workers: what it starts is counted.
        let mut counters = self.counts.as_ref().map(|_| Counters::open()).transpose()?;
        let engine: Arc<dyn Engine> = if known.has_workers() && counters.is_none() {
            known.open_emulated(&Emulator { running: self.running.clone(), compiling: self.compiling.clone() })?
        } else {
            Arc::clone(registry.open(known.id)?)
        };
        let artifact = engine.compile(&module)?;
        if !known.has_workers() && counters.is_none() {
            let Some(code) = artifact.code_addresses() else {
                bail!("{} has put no machine code into this process", known.id);
            };
            tell(Message::Range { start: code.start as u64, length: code.len() as u64 });
        }
        let interrupt = Interrupt::new();
        let context = self.context()?;
        if let Some(counters) = &mut counters {
            counters.start()?;
        }
        tell(Message::Begin);
        let mut instance = artifact.instantiate(&context, &GuestLimits::default(), &interrupt)?;
        let first = (entry != Entry::Initialize && module.is_reactor()).then_some(Entry::Initialize);
        for entry in first.into_iter().chain([entry]) {
            match instance.call(&entry)?.outcome {
                Outcome::Returned | Outcome::Exited { code: 0 } => {}
                outcome => bail!("the guest {outcome}"),
            }
        }
        tell(Message::End);
        if let (Some(counters), Some(path)) = (&mut counters, &self.counts) {
            write_counts(counters, path)?;
        }
        std::io::stdout()
            .write_all(&instance.into_output().stdout)
            .context("cannot write what the guest has written")?;
        Ok(ExitCode::SUCCESS)
    }

    fn context(&self) -> anyhow::Result<GuestContext> {
        // All of it is read before the guest runs: what reads it is this process, which is not counted.
        let mut stdin = Vec::new();
        std::io::stdin().read_to_end(&mut stdin).context("cannot read standard input")?;
        let env = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        let program = self.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(GuestContext {
            args: std::iter::once(program).chain(self.args.iter().cloned()).collect(),
            env: self.env.iter().map(env).collect(),
            stdin: Stdin::Bytes(stdin.into()),
            stdout: Sink::Capture { bytes_max: OUTPUT_BYTES_MAX },
            stderr: Sink::CaptureHead { bytes_max: 0 },
            ..GuestContext::default()
        })
    }
}
