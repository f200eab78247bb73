//! An engine that runs no WebAssembly: the guest's arguments say what it does, so that tests of the code around an
//! engine can be exact.
//!
//! | argument | effect |
//! |---|---|
//! | `--echo` | standard input, if it was given as bytes, goes to standard output |
//! | `--print TEXT` | `TEXT` goes to standard output |
//! | `--exit N` | the guest exits with code `N` |
//! | `--trap` | the guest executes `unreachable` |
//! | `--spin` | the guest runs until it is interrupted |
//! | `--panic` | the engine itself breaks |
//!
//! The arguments take effect one after the other. Exported functions return nothing.

use std::sync::Arc;
use std::sync::mpsc;

use remuda_model::{
    EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, Outcome, Sink, Stdin, TrapKind,
};

use crate::{
    Artifact, Called, Capabilities, Engine, EngineError, Instance, Instances, InstantiateError, Module, StoredArtifact,
};

const ID: EngineId = super::MOCK.id;

#[expect(clippy::unnecessary_wraps, reason = "all engines are opened alike")]
pub(super) fn open(_: Instances) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(MockEngine))
}

struct MockEngine;

impl Engine for MockEngine {
    fn id(&self) -> EngineId {
        ID
    }

    fn capabilities(&self) -> &'static Capabilities {
        super::MOCK.capabilities
    }

    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        Ok(Arc::new(MockArtifact { digest: *module.digest().as_bytes() }))
    }

    fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError> {
        if stored.artifact_bytes() != module.digest().as_bytes().len() {
            return Err(EngineError::Load { engine: ID, reason: "it is not 32 bytes long".into() });
        }
        self.compile(module)
    }
}

struct MockArtifact {
    digest: [u8; 32],
}

impl Artifact for MockArtifact {
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(Some(self.digest.to_vec()))
    }

    fn memory_bytes(&self) -> u64 {
        size_of::<Self>() as u64
    }

    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        _: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError> {
        Ok(Box::new(MockInstance { context: context.clone(), interrupt: interrupt.clone(), stdout: Vec::new() }))
    }
}

struct MockInstance {
    context: GuestContext,
    interrupt: Interrupt,
    stdout: Vec<u8>,
}

impl Instance for MockInstance {
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError> {
        let outcome = match entry {
            Entry::Command => self.run()?,
            Entry::Initialize | Entry::Export { .. } | Entry::HttpHandler => Outcome::Returned,
        };
        Ok(outcome.into())
    }

    fn into_output(self: Box<Self>) -> GuestOutput {
        GuestOutput { stdout: self.stdout.into(), ..GuestOutput::default() }
    }
}

impl MockInstance {
    fn run(&mut self) -> Result<Outcome, EngineError> {
        let args = self.context.args.clone();
        let mut args = args.iter().skip(1).map(String::as_str);
        while let Some(arg) = args.next() {
            let ended = match arg {
                "--echo" => match self.context.stdin.clone() {
                    Stdin::Bytes(bytes) => self.print(&bytes),
                    Stdin::Empty | Stdin::File { .. } | Stdin::Coming { .. } | Stdin::Inherit => None,
                },
                "--print" => self.print(args.next().unwrap_or_default().as_bytes()),
                "--exit" => Some(Outcome::Exited { code: args.next().and_then(|code| code.parse().ok()).unwrap_or(0) }),
                "--trap" => Some(Outcome::Trapped { kind: TrapKind::Unreachable, detail: String::new() }),
                "--spin" => self.spin(),
                "--panic" => panic!("the mock engine was told to panic"),
                other => {
                    return Err(EngineError::Internal { engine: ID, reason: format!("unknown argument {other:?}") });
                }
            };
            if let Some(outcome) = ended {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Returned)
    }

    fn print(&mut self, bytes: &[u8]) -> Option<Outcome> {
        if let Sink::Capture { bytes_max } = self.context.stdout
            && (self.stdout.len() + bytes.len()) as u64 > bytes_max
        {
            return Some(Outcome::LimitExceeded { limit: Limit::Output });
        }
        self.stdout.extend_from_slice(bytes);
        None
    }

    fn spin(&self) -> Option<Outcome> {
        let (raised, wait) = mpsc::channel();
        let _listener = self.interrupt.listen(move || {
            let _ = raised.send(());
        });
        // The sender lives as long as the listener: the wait ends when the interrupt is raised, and only then.
        let _ = wait.recv();
        self.interrupt.cause().map(|cause| Outcome::Interrupted { cause })
    }
}
