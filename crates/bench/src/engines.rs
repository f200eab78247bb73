//! Everything that can be measured: the engines of this build, the choice among them, native code, and other programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use remuda_engine::{Availability, Known, Registry};

/// The choice among the engines, as `remuda serve` makes it.
pub const AUTO: &str = "remuda.auto";
/// The same choice, but guests stay on the engine that they began on. If a request takes long, other engines race it.
pub const RACING: &str = "remuda.racing";
/// A guest's native twin, made by the machine's own compiler: the physical limit.
pub const NATIVE: &str = "native";

/// An engine that can be measured here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Engine {
    /// Its id in results.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Everything else that decides how it is set up.
    pub flags: String,
    /// How a guest is run on it.
    pub launch: Launch,
}

/// How a guest is run on an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Launch {
    /// Calls go through a host, one after the other in one process.
    Hosted,
    /// The guest is a program of its own, in this folder.
    Native(PathBuf),
    /// The guest's module is an argument of another program.
    Peer(Peer),
}

/// Another program that runs modules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    program: PathBuf,
    args: Vec<String>,
}

/// An engine that is known, but cannot be measured here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// Its id.
    pub id: String,
    /// The reason, and the way to get it.
    pub reason: String,
}

/// The reason why an engine that was named cannot be measured.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine is known, but not here.
    #[error("cannot measure {id}: {reason}")]
    Absent {
        /// The engine's id, as it was named.
        id: String,
        /// The reason, and the way to get it.
        reason: String,
    },
    /// There is no engine of that name.
    #[error("there is no engine named {name:?}; known engines are {}", known.join(", "))]
    Unknown {
        /// The name, as it was given.
        name: String,
        /// The names of all engines.
        known: Vec<String>,
    },
}

impl Engine {
    /// Whether a guest can be called more than once in one process.
    #[must_use]
    pub fn is_hosted(&self) -> bool {
        self.launch == Launch::Hosted
    }
}

impl Peer {
    /// The command that runs a module.
    pub(crate) fn command(&self, module: &Path, args: &[String], env: &BTreeMap<String, String>) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for (name, value) in env {
            command.arg("--env").arg(format!("{name}={value}"));
        }
        command.arg(module).args(args);
        command
    }
}

/// Looks for everything that can be measured, and returns what is here and what is not. `root` is the project's folder,
/// below which native twins and installed programs lie; `scratch` is a folder that outlives the measurement.
///
/// # Errors
///
/// Returns an error if nothing can be written to `scratch`.
pub fn look(root: &Path, scratch: &Path) -> std::io::Result<(Vec<Engine>, Vec<Absent>)> {
    let (mut here, mut absent) = (Vec::new(), Vec::new());
    let registry = Registry::default();
    for known in registry.known() {
        let id = known.id.as_str().to_owned();
        match registry.availability(known.id) {
            Availability::Available => {
                let version = registry.version(known);
                here.push(Engine { id, version, flags: flags(known), launch: Launch::Hosted });
            }
            Availability::Broken(reason) | Availability::NotInstalled(reason) => absent.push(Absent { id, reason }),
            Availability::NotBuilt => {
                let reason = format!("it is not part of this build; build with `--features {id}`");
                absent.push(Absent { id, reason });
            }
        }
    }
    here.extend([AUTO, RACING].map(|id| choice(id, &registry)));
    match native(root) {
        Some(engine) => here.push(engine),
        None => absent.push(Absent {
            id: NATIVE.into(),
            reason: "there is nothing in target/native; run `python guests/build.py --native`".into(),
        }),
    }
    let shim = scratch.join("node-wasi.mjs");
    fs::write(&shim, include_str!("peer/node-wasi.mjs"))?;
    for program in PEERS {
        let found = search(program.name, root).and_then(|path| program.engine(path, &shim));
        match found {
            Some(engine) => here.push(engine),
            None => absent.push(Absent {
                id: format!("peer.{}", program.name),
                reason: format!("no {} that works is on PATH or installed; run scripts/install-peers.sh", program.name),
            }),
        }
    }
    Ok((here, absent))
}

/// The engines of these names; without names, all engines that run WebAssembly.
///
/// # Errors
///
/// Returns an error if an engine that was named is not here, or does not exist.
pub fn select(names: &[String], here: &[Engine], absent: &[Absent]) -> Result<Vec<Engine>, EngineError> {
    if names.is_empty() {
        let registry = Registry::default();
        let is_mock = |id: &str| registry.find(id).is_ok_and(|known| !known.runs_wasm());
        return Ok(here.iter().filter(|engine| !is_mock(&engine.id)).cloned().collect());
    }
    let mut selected: Vec<Engine> = Vec::new();
    for name in names {
        let engine = here.iter().find(|engine| engine.id == *name).ok_or_else(|| {
            let ids = here.iter().map(|engine| &engine.id).chain(absent.iter().map(|absent| &absent.id));
            match absent.iter().find(|absent| absent.id == *name) {
                Some(Absent { id, reason }) => EngineError::Absent { id: id.clone(), reason: reason.clone() },
                None => EngineError::Unknown { name: name.clone(), known: ids.cloned().collect() },
            }
        })?;
        if !selected.contains(engine) {
            selected.push(engine.clone());
        }
    }
    Ok(selected)
}

/// Everything beside engine and version that decides how a module is compiled: the engine's settings in this build, and
/// the CPU.
fn flags(known: &Known) -> String {
    let fingerprint = known.fingerprint();
    let named = format!("{} {} ", known.id, known.version);
    fingerprint.strip_prefix(&named).unwrap_or(&fingerprint).to_owned()
}

/// Whether the engine runs guests in processes of their own, whose CPU time and memory are not those of the host.
#[must_use]
pub fn is_in_worker(engine: &str) -> bool {
    let registry = Registry::default();
    registry.find(engine).is_ok_and(Known::has_workers)
}

/// Whether `engine` is the id of a choice: Remuda chooses the engine for each call.
#[must_use]
pub fn is_choice(engine: &str) -> bool {
    [AUTO, RACING].contains(&engine)
}

/// Stands in the flags of a choice before the engines that it chooses among, each with its version.
pub(crate) const AMONG: &str = "among";

fn choice(id: &str, registry: &Registry) -> Engine {
    let mut flags = String::from(AMONG);
    for known in registry.known().filter(|known| known.automatic && known.is_built()) {
        let _ = write!(flags, " {} {}", known.id, known.version);
    }
    Engine { id: id.into(), version: env!("CARGO_PKG_VERSION").into(), flags, launch: Launch::Hosted }
}

fn native(root: &Path) -> Option<Engine> {
    let folder = root.join("target/native");
    let version = compiler_in(&folder)?;
    Some(Engine { id: NATIVE.into(), version, flags: String::new(), launch: Launch::Native(folder) })
}

/// The compiler that has made the native twins in a folder; `None` if there are none.
#[must_use]
pub fn compiler_in(folder: &Path) -> Option<String> {
    let any = fs::read_dir(folder).ok()?.find_map(|entry| Some(entry.ok()?.path()).filter(|path| path.is_file()))?;
    Some(compiler_of(&fs::read(any).ok()?))
}

/// The compiler's name and version, as the compiler left them in a program.
fn compiler_of(program: &[u8]) -> String {
    let marks: [&[u8]; 2] = [b"GCC: (", b"clang version "];
    let found = marks.iter().find_map(|mark| program.windows(mark.len()).position(|bytes| bytes == *mark));
    let text = found.map(|at| program[at..].split(|byte| *byte == 0).next().unwrap_or_default());
    text.map_or_else(|| "unknown".into(), |text| String::from_utf8_lossy(text).into_owned())
}

struct Program {
    name: &'static str,
    /// Arguments before the variables (`--env NAME=value`) and the module; `SHIM` stands for the path of our shim.
    args: &'static [&'static str],
}

const SHIM: &str = "SHIM";

const PEERS: &[Program] = &[
    Program { name: "wasmtime", args: &["run", "-C", "cache=n"] },
    Program { name: "node", args: &["--no-warnings", SHIM] },
];

impl Program {
    /// The program as an engine; `None` if it does not tell its version.
    fn engine(&self, program: PathBuf, shim: &Path) -> Option<Engine> {
        let out = Command::new(&program).arg("--version").stdin(Stdio::null()).output().ok()?;
        let version = String::from_utf8(out.stdout).ok().filter(|_| out.status.success())?;
        let version = version.trim().trim_start_matches(self.name).trim_start().trim_start_matches('v');
        let shim = shim.display().to_string();
        let args = self.args.iter().map(|arg| if *arg == SHIM { shim.clone() } else { (*arg).to_owned() }).collect();
        Some(Engine {
            id: format!("peer.{}", self.name),
            version: version.into(),
            flags: self.args.join(" "),
            launch: Launch::Peer(Peer { program, args }),
        })
    }
}

/// Looks for a program on PATH, and then where scripts/install-peers.sh installs it.
fn search(name: &str, root: &Path) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).filter(|folder| folder.is_absolute());
    let mut candidates = folders.chain([root.join("target/peers/bin")]).map(|folder| folder.join(name));
    candidates.find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(id: &str) -> Engine {
        Engine { id: id.into(), version: String::new(), flags: String::new(), launch: Launch::Hosted }
    }

    #[test]
    fn names_choose_and_absent_ones_say_how_to_get_them() {
        let here = [engine("wasmi.lazy"), engine("mock"), engine(AUTO)];
        let absent = [Absent { id: "peer.node".into(), reason: "install it".into() }];
        let ids = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            select(&names, &here, &absent)
                .map(|engines| engines.into_iter().map(|engine| engine.id).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        assert_eq!(ids(&[]).unwrap(), ["wasmi.lazy", AUTO], "a mock is only measured by name");
        assert_eq!(ids(&["mock", "mock"]).unwrap(), ["mock"]);
        assert_eq!(ids(&["peer.node"]).unwrap_err(), "cannot measure peer.node: install it");
        assert!(ids(&["v8"]).unwrap_err().contains("known engines are wasmi.lazy, mock, remuda.auto, peer.node"));
    }

    #[test]
    fn a_program_tells_its_compiler() {
        assert_eq!(compiler_of(b"\x7fELF\0\0GCC: (Debian 12.2.0-14) 12.2.0\0more"), "GCC: (Debian 12.2.0-14) 12.2.0");
        assert_eq!(compiler_of(b"\x7fELF"), "unknown");
    }
}
