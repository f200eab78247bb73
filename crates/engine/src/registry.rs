use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use remuda_model::EngineId;

use crate::adapter;
use crate::{Capabilities, Engine, EngineError, Interruption, Module};

/// An engine that Remuda knows of, whether or not this build contains it.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The engine's one name; the cargo feature that builds the engine has the same name.
    pub id: EngineId,
    /// A description in a few words, for lists.
    pub summary: &'static str,
    /// The runtime's version. Of an engine that is a program from elsewhere, what will do; the engine itself knows more
    /// ([`Engine::version`]).
    pub version: &'static str,
    /// What the engine can do.
    pub capabilities: &'static Capabilities,
    /// Whether the engine may be chosen without being asked for by name.
    pub automatic: bool,
    /// The function that starts the engine; `None` if this build does not contain it.
    pub(crate) open: Option<fn(Instances) -> Result<Arc<dyn Engine>, EngineError>>,
    /// For an engine that is programs from elsewhere: finds them on this machine, or says which one is missing, and how to
    /// get it.
    pub(crate) programs: Option<fn() -> Result<Vec<PathBuf>, String>>,
    /// For such an engine: the function that starts it with these programs in an emulator.
    pub(crate) open_emulated: Option<fn(&Emulator) -> Result<Arc<dyn Engine>, EngineError>>,
}

/// An emulator of a processor, such as qemu's user mode, for programs of engines. They are looked at then, and not walled in:
/// what they may do is what the emulator may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Emulator {
    /// The emulator and its arguments where guests run; the program and its arguments follow.
    pub running: Vec<OsString>,
    /// The same where modules are compiled.
    pub compiling: Vec<OsString>,
}

/// Where the instances of an engine's artifacts come from, if the engine has the choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instances {
    /// From a pool that is set up when the engine starts: an instance then takes microseconds, but the pool itself
    /// takes milliseconds and terabytes of addresses.
    #[default]
    Pooled,
    /// Each instance is allocated when it is needed: for a process that makes few of them, or only compiles.
    OnDemand,
}

impl Known {
    /// Whether this build contains the engine.
    #[must_use]
    pub fn is_built(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the engine runs WebAssembly: all but the mock engine do.
    #[must_use]
    pub fn runs_wasm(&self) -> bool {
        self.id != adapter::MOCK.id
    }

    /// Whether guests of the engine run in processes of their own.
    #[must_use]
    pub fn has_workers(&self) -> bool {
        self.capabilities.interruption == Interruption::Signal
    }

    /// The environment variables by which the program that the engine may need is found.
    pub fn variables(&self) -> impl Iterator<Item = &'static str> {
        adapter::variable::ALL.into_iter().filter(|_| self.has_workers())
    }

    /// Whether this build contains the engine, and the program that it may need is on this machine.
    #[must_use]
    pub fn is_here(&self) -> bool {
        self.is_built() && self.missing().is_none()
    }

    /// The program that is missing on this machine, and how to get it.
    #[must_use]
    pub fn missing(&self) -> Option<String> {
        self.programs.and_then(|programs| programs().err())
    }

    /// The programs that the engine starts, if it is not in this one; none if one of them is missing.
    #[must_use]
    pub fn programs(&self) -> Vec<PathBuf> {
        self.programs.and_then(|programs| programs().ok()).unwrap_or_default()
    }

    /// Starts an engine whose guests run in processes of their own, with these in an emulator.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine has no such processes, is not part of this build, or does not start on this machine.
    pub fn open_emulated(&self, emulator: &Emulator) -> Result<Arc<dyn Engine>, EngineError> {
        let unavailable = |reason: &str| EngineError::Unavailable { engine: self.id, reason: reason.into() };
        self.open_emulated.ok_or_else(|| unavailable("this build has no programs of it to emulate"))?(emulator)
    }

    /// A text of all that decides, beside the module, whether a stored artifact can be used: the engine, its version,
    /// how this build configures it, and the CPU that it compiles for.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.fingerprint_on(adapter::cpu_features())
    }

    fn fingerprint_on(&self, cpu_features: &str) -> String {
        format!("{} {} config-{} {cpu_features}", self.id, self.version, adapter::CONFIG_REVISION)
    }
}

/// Whether an engine can be used here and now.
#[derive(Clone, Debug)]
pub enum Availability {
    /// The engine is part of this build, and starts.
    Available,
    /// The engine is part of this build, but does not start on this machine, for the given reason.
    Broken(String),
    /// The engine is a program that is not on this machine; the text says how to get it.
    NotInstalled(String),
    /// The engine is not part of this build.
    NotBuilt,
}

/// All known engines, each started when it is first needed.
pub struct Registry {
    slots: Vec<Slot>,
    instances: Instances,
}

struct Slot {
    known: &'static Known,
    engine: OnceLock<Result<Arc<dyn Engine>, EngineError>>,
}

/// The error for a name that no engine has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no engine named {name:?}; known engines are {}", known.join(", "))]
pub struct UnknownEngine {
    /// The name as it was given.
    pub name: String,
    /// The names of all known engines.
    pub known: Vec<&'static str>,
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Instances::default())
    }
}

impl Registry {
    /// Makes a registry whose engines take their instances from where `instances` says.
    #[must_use]
    pub fn new(instances: Instances) -> Self {
        let slots = adapter::KNOWN.iter().map(|known| Slot { known, engine: OnceLock::new() }).collect();
        Self { slots, instances }
    }

    /// Every engine that Remuda knows of, in the order in which an unknown module would try them.
    pub fn known(&self) -> impl Iterator<Item = &'static Known> {
        self.slots.iter().map(|slot| slot.known)
    }

    /// Finds the engine with this name.
    ///
    /// # Errors
    ///
    /// Returns an error if no engine has this name.
    pub fn find(&self, name: &str) -> Result<&'static Known, UnknownEngine> {
        self.known().find(|known| known.id.as_str() == name).ok_or_else(|| UnknownEngine {
            name: name.to_owned(),
            known: self.known().map(|known| known.id.as_str()).collect(),
        })
    }

    /// Returns the engine, and starts it first if it has not been started yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the engine is not part of this build, or does not start on this machine.
    pub fn open(&self, id: EngineId) -> Result<&Arc<dyn Engine>, EngineError> {
        let unavailable = |reason: String| EngineError::Unavailable { engine: id, reason };
        let slot =
            self.slots.iter().find(|slot| slot.known.id == id).ok_or_else(|| unavailable("no such engine".into()))?;
        let open = slot
            .known
            .open
            .ok_or_else(|| unavailable(format!("this build does not contain it; build with `--features {id}`")))?;
        slot.engine.get_or_init(|| open(self.instances)).as_ref().map_err(Clone::clone)
    }

    /// Whether the engine can be used. To find out, it is started.
    #[must_use]
    pub fn availability(&self, id: EngineId) -> Availability {
        let Err(error) = self.open(id) else { return Availability::Available };
        match self.known().find(|known| known.id == id && known.is_built()) {
            None => Availability::NotBuilt,
            Some(known) => match known.missing() {
                Some(reason) => Availability::NotInstalled(reason),
                None => Availability::Broken(error.to_string()),
            },
        }
    }

    /// The engine's version. To find out, an engine that is a program from elsewhere is started.
    #[must_use]
    pub fn version(&self, known: &Known) -> String {
        let told = self.open(known.id).ok().and_then(|engine| engine.version().map(str::to_owned));
        told.unwrap_or_else(|| known.version.to_owned())
    }

    /// The engines that run WebAssembly here: those of this build, and of the programs on this machine those that start.
    pub fn usable(&self) -> impl Iterator<Item = &'static Known> {
        self.known()
            .filter(|known| known.runs_wasm() && known.is_here())
            .filter(|known| matches!(self.availability(known.id), Availability::Available))
    }

    /// The engines on this machine that can run `module`, in order of preference for an unknown module.
    pub fn able(&self, module: &Module) -> impl Iterator<Item = &'static Known> {
        let needs = module.needs();
        self.known().filter(move |known| known.is_here() && needs.without(known.capabilities.proposals).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_are_answered_with_the_known_ones() {
        let error = Registry::default().find("v8").unwrap_err();
        assert!(error.to_string().contains("wasmtime.cranelift"), "{error}");
    }

    #[test]
    fn fingerprints_tell_apart_what_artifacts_must_not_cross() {
        let known: Vec<Known> = Registry::default().known().copied().collect();
        let mut fingerprints: Vec<String> = known.iter().map(Known::fingerprint).collect();
        for known in &known {
            fingerprints.push(Known { version: "0.0.0", ..*known }.fingerprint());
            fingerprints.push(known.fingerprint_on("another CPU"));
        }
        for (i, fingerprint) in fingerprints.iter().enumerate() {
            assert!(!fingerprints[..i].contains(fingerprint), "{fingerprint}");
        }
        assert!(adapter::cpu_features().starts_with(std::env::consts::ARCH), "{}", adapter::cpu_features());
    }

    #[test]
    fn engines_that_were_not_built_say_how_to_get_them() {
        let registry = Registry::default();
        for known in registry.known().filter(|known| !known.is_built()) {
            let error = registry.open(known.id).err().expect("not built");
            assert!(error.to_string().contains(&format!("--features {}", known.id)), "{error}");
        }
    }
}
