use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use remuda_model::{EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Outcome, Value};

use crate::{Capabilities, Extent, Form, MachineCode, Module, Moves, Part, Point};

/// A runtime with a compiler. Its methods may be called from any thread, at the same time.
pub trait Engine: Send + Sync {
    /// The one name of this engine.
    fn id(&self) -> EngineId;

    /// What the engine can do.
    fn capabilities(&self) -> &'static Capabilities;

    /// The engine's version, if only the engine itself knows it: it is a program that comes from elsewhere.
    fn version(&self) -> Option<&str> {
        None
    }

    /// Makes an artifact. `module` has passed [`Module::parse`] and needs nothing that this engine lacks.
    ///
    /// # Errors
    ///
    /// [`EngineError::Compile`] if the engine refuses the module all the same.
    fn compile(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError>;

    /// Like [`Engine::compile`], for when nobody waits for the artifact: the engine does now what it would otherwise
    /// leave to the first call.
    ///
    /// # Errors
    ///
    /// See [`Engine::compile`].
    fn compile_ahead(&self, module: &Module) -> Result<Arc<dyn Artifact>, EngineError> {
        self.compile(module)
    }

    /// Makes an artifact of what [`Artifact::serialize`] gave for the same module.
    ///
    /// # Errors
    ///
    /// [`EngineError::Load`] if the engine does not accept it: another version, other CPU features. The way out is to
    /// compile again.
    fn load(&self, module: &Module, stored: &StoredArtifact) -> Result<Arc<dyn Artifact>, EngineError>;

    /// Starts what [`Engine::compile_part`] needs, so that the first part is ready sooner.
    fn prepare_parts(&self) {}

    /// Compiles the part of a module in which a guest that runs on another engine can go on, at some of these points
    /// ([`Moves::find`]). A whole module may also be entered at every function that may run for long.
    ///
    /// # Errors
    ///
    /// [`EngineError::Compile`] if there is no such part, or if this engine makes none; [`Capabilities::parts`] says
    /// whether it does.
    fn compile_part(&self, module: &Module, points: &[Point], extent: Extent) -> Result<Part, EngineError> {
        let _ = (module, points, extent);
        Err(EngineError::Compile { engine: self.id(), reason: "guests do not move to this engine".into() })
    }

    /// Compiles a module and hands over the machine code, to be looked at: nobody runs it. As it is served, it is the code
    /// that [`Engine::compile`] makes, byte for byte.
    ///
    /// `None` means that the engine has none to show: it interprets, or its code is in another process, or the module is
    /// a component.
    ///
    /// # Errors
    ///
    /// See [`Engine::compile`].
    fn machine_code(&self, module: &Module, form: Form) -> Result<Option<MachineCode>, EngineError> {
        let _ = (module, form);
        Ok(None)
    }
}

/// What an engine made of a module: ready to be instantiated, any number of times, from any thread.
pub trait Artifact: Send + Sync {
    /// The artifact as bytes for the store, or `None` if this engine has nothing that is worth keeping.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] if the engine fails to serialize an artifact that it could keep.
    fn serialize(&self) -> Result<Option<Vec<u8>>, EngineError>;

    /// About how much memory the artifact holds on to, in bytes.
    fn memory_bytes(&self) -> u64;

    /// Where the machine code of the artifact's guests lies in this process: the addresses of the first byte, and of the one
    /// after the last. `None` if there is none here.
    fn code_addresses(&self) -> Option<Range<usize>> {
        None
    }

    /// Makes an instance and runs its start function, if it has one.
    ///
    /// From here on until the instance is dropped, raising `interrupt` stops the guest.
    ///
    /// # Errors
    ///
    /// [`InstantiateError::Guest`] if the guest's own start failed, [`InstantiateError::Engine`] for the rest.
    fn instantiate(
        self: Arc<Self>,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Box<dyn Instance>, InstantiateError>;
}

/// One guest with memories and tables of its own.
pub trait Instance: Send {
    /// Calls an entry point that [`Module::check_entry`] has accepted.
    ///
    /// # Errors
    ///
    /// [`EngineError::Internal`] if the engine failed; whatever the guest did is an outcome, not an error.
    fn call(&mut self, entry: &Entry) -> Result<Called, EngineError>;

    /// The object that the guest's moves to other engines go through, or `None` if the guest cannot move.
    fn moves(&self) -> Option<Arc<Moves>> {
        None
    }

    /// Ends the instance and hands over what it wrote.
    fn into_output(self: Box<Self>) -> GuestOutput;

    /// Hands over what the instance wrote, and the instance itself, if it can be called again: for another request of the
    /// same function, in which the guest finds everything as it left it.
    #[must_use]
    fn into_idle(self: Box<Self>) -> (GuestOutput, Option<Box<dyn Idle>>) {
        (self.into_output(), None)
    }
}

/// An instance between two calls.
pub trait Idle: Send {
    /// Makes the instance ready for a call. Arguments, environment, folders, streams and limits stay those of its first
    /// call; the request, and what the guest may send, are those of `context`.
    ///
    /// From here on until the instance is dropped or idle again, raising `interrupt` stops the guest.
    fn wake(self: Box<Self>, context: &GuestContext, interrupt: &Interrupt) -> Box<dyn Instance>;
}

/// How a call ended and what it returned.
#[derive(Clone, Debug, PartialEq)]
pub struct Called {
    /// How the call ended.
    pub outcome: Outcome,
    /// The function's results, if it returned.
    pub values: Vec<Value>,
    /// Whether a request for more memory or table elements was refused on the way, however the call ended.
    pub refused_growth: bool,
}

impl From<Outcome> for Called {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, values: Vec::new(), refused_growth: false }
    }
}

/// What an engine could not do.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not compile this module.
    #[error("{engine} cannot compile the module: {reason}")]
    Compile {
        /// The engine.
        engine: EngineId,
        /// The engine's own words.
        reason: String,
    },
    /// The engine does not accept this artifact.
    #[error("{engine} cannot load the artifact: {reason}")]
    Load {
        /// The engine.
        engine: EngineId,
        /// The engine's own words.
        reason: String,
    },
    /// The guest's world could not be set up: a directory is missing, say.
    #[error("{0}")]
    Setup(String),
    /// The engine could not be started on this machine.
    #[error("{engine} cannot start: {reason}")]
    Unavailable {
        /// The engine.
        engine: EngineId,
        /// The engine's own words.
        reason: String,
    },
    /// The process in which the engine ran the guest has ended. The next guest gets another one.
    #[error("{engine} lost the process that ran the guest: {reason}")]
    Lost {
        /// The engine.
        engine: EngineId,
        /// How the process ended.
        reason: String,
    },
    /// The guest has to wait, on a thread that must not: it serves connections. The guest was given up.
    #[error("the guest has to wait for something, and {engine} was not to wait")]
    WouldWait {
        /// The engine.
        engine: EngineId,
    },
    /// The engine broke its own promises.
    #[error("{engine} failed: {reason}")]
    Internal {
        /// The engine.
        engine: EngineId,
        /// The engine's own words.
        reason: String,
    },
}

impl EngineError {
    /// Whether another engine may succeed where this one failed.
    #[must_use]
    pub fn another_engine_may_do(&self) -> bool {
        !matches!(self, Self::Setup(_))
    }
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub enum InstantiateError {
    /// The guest failed in its start function, its segments do not fit, or it needs more than its limits from the
    /// start. An outcome like any other.
    #[error("the guest {outcome}")]
    Guest {
        /// How the guest ended.
        outcome: Outcome,
        /// What the guest wrote until then.
        output: Box<GuestOutput>,
    },
    /// The engine's or the host's fault.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// An artifact as it came out of the store, known to be authentic.
#[derive(Debug)]
pub struct StoredArtifact {
    file: File,
    artifact_bytes: usize,
}

impl StoredArtifact {
    /// Vouches for the first `artifact_bytes` of `file`.
    ///
    /// # Safety
    ///
    /// Engines execute what they are given here as machine code. The caller has proof (a keyed MAC over the bytes and
    /// their key) that exactly these bytes came from [`Artifact::serialize`] on this host for the same engine,
    /// version, flags and module, and that nobody but the host can change the file from now on.
    #[must_use]
    pub unsafe fn assume_authentic(file: File, artifact_bytes: usize) -> Self {
        Self { file, artifact_bytes }
    }

    /// The file, for engines that map it into memory; what follows the artifact's bytes is not theirs.
    ///
    /// # Errors
    ///
    /// Returns an error if the operating system has no more file handles.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// The artifact's length.
    #[must_use]
    pub fn artifact_bytes(&self) -> usize {
        self.artifact_bytes
    }
}
