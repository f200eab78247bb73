//! `remuda microarch-child`: runs a module once on one engine, and tells the plugin of qemu, in which it runs, where the engine
//! has put the module's machine code. It is not for people.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use remuda_engine::{Instances, Module, Registry};
use remuda_host::read_module;
use remuda_microarch::protocol::Message;
use remuda_microarch::tell;
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome, Sink, Stdin};

use crate::run::entry;

/// Run a module once under qemu, and tell its plugin what to count
#[derive(Args)]
pub(crate) struct MicroarchChild {
    /// The engine
    engine: String,

    /// The module's file
    module: PathBuf,

    /// Standard input
    #[arg(long)]
    input: Option<PathBuf>,

    /// Arguments of the guest
    #[arg(last = true)]
    args: Vec<String>,
}

impl MicroarchChild {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let module = Module::parse(read_module(&self.module)?, &ModuleLimits::default())?;
        let entry = entry::entry(&module, None, &self.args)?;
        module.check_entry(&entry)?;
        // Instances in a pool would take address space that qemu has not.
        let registry = Registry::new(Instances::OnDemand);
        let known = registry.find(&self.engine)?;
        let engine = registry.open(known.id)?;
        let artifact = engine.compile(&module)?;
        let Some(code) = artifact.code_addresses() else {
            bail!("{} has put no machine code into this process", known.id);
        };
        tell(Message::Range { start: code.start as u64, length: code.len() as u64 });
        let interrupt = Interrupt::new();
        let context = self.context()?;
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
        Ok(ExitCode::SUCCESS)
    }

    fn context(&self) -> anyhow::Result<GuestContext> {
        let stdin = match &self.input {
            None => Stdin::Empty,
            Some(path) => {
                Stdin::Bytes(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into())
            }
        };
        let program = self.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let nothing = Sink::CaptureHead { bytes_max: 0 };
        Ok(GuestContext {
            args: std::iter::once(program).chain(self.args.iter().cloned()).collect(),
            stdin,
            stdout: nothing,
            stderr: nothing,
            ..GuestContext::default()
        })
    }
}
