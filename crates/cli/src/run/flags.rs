//! wasmtime's grouped options (`-W timeout=1s,simd=n`), as data: each key with its meaning here.
//!
//! A key means the same as in wasmtime, or it changes nothing that a guest could notice, or it cannot be carried out.
//! In the last case it is refused with the reason, and never silently dropped. docs/run.md lists all keys, and a test
//! compares it with this module.

mod keys;
mod parse;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use remuda_engine::{Module, Proposal, Proposals};

use self::keys::{CODEGEN, DEBUG, OPTIMIZE, WASI, WASM};
use self::parse::{Keys, changes_of_file};
use crate::options::EngineChoice;

/// The grouped options.
#[derive(Args)]
pub(crate) struct Flags {
    /// What guests may do and use, as in `wasmtime run`; -W help lists the keys and what they mean here
    #[arg(short = 'W', long = "wasm", value_name = WASM.value_name, value_parser = Keys(&WASM))]
    wasm: Vec<Changes>,

    /// What WASI gives them; -S help
    #[arg(short = 'S', long = "wasi", value_name = WASI.value_name, value_parser = Keys(&WASI))]
    wasi: Vec<Changes>,

    /// Which compiler, and whether code is kept; -C help
    #[arg(short = 'C', long = "codegen", value_name = CODEGEN.value_name, value_parser = Keys(&CODEGEN))]
    codegen: Vec<Changes>,

    /// Tuning, which changes nothing here; -O help
    #[arg(short = 'O', long = "optimize", value_name = OPTIMIZE.value_name, value_parser = Keys(&OPTIMIZE))]
    optimize: Vec<Changes>,

    /// Debugging; -D help
    #[arg(short = 'D', long = "debug", value_name = DEBUG.value_name, value_parser = Keys(&DEBUG))]
    debug: Vec<Changes>,

    /// Take -W, -S, -C, -O and -D from a TOML file, with a table for each; the command line overrides it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The changes that one occurrence of an option makes.
type Changes = Vec<Change>;

/// The change that one key makes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Change {
    Nothing,
    Timeout(Duration),
    Memory(u64),
    TableElements(u64),
    Instances(u64),
    Tables(u64),
    Memories(u64),
    Proposals(&'static [Proposal], bool),
    Preview0(bool),
    Network(bool),
    InheritEnv(bool),
    InheritStdin(bool),
    InheritStdout(bool),
    InheritStderr(bool),
    Engine(&'static str),
    KeepArtifacts(bool),
}

/// The result of all options together.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "they are as many switches, each of its own")]
pub(crate) struct Settings {
    timeout: Option<Duration>,
    pub(crate) memory_bytes_max: Option<u64>,
    pub(crate) table_elements_max: Option<u64>,
    instances_max: u64,
    tables_max: u64,
    memories_max: u64,
    forbidden: Proposals,
    has_preview_0: bool,
    wants_network: bool,
    pub(crate) inherits_env: bool,
    pub(crate) inherits_stdin: bool,
    pub(crate) inherits_stdout: bool,
    pub(crate) inherits_stderr: bool,
    engine: Option<&'static str>,
    pub(crate) keeps_artifacts: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: None,
            memory_bytes_max: None,
            table_elements_max: None,
            instances_max: u64::MAX,
            tables_max: u64::MAX,
            memories_max: u64::MAX,
            forbidden: Proposals::default(),
            has_preview_0: true,
            wants_network: false,
            inherits_env: false,
            inherits_stdin: true,
            inherits_stdout: true,
            inherits_stderr: true,
            engine: None,
            keeps_artifacts: true,
        }
    }
}

impl Flags {
    /// Applies first the file, then the command line, each in order. Later changes override earlier ones.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let from_file = match &self.config {
            None => Vec::new(),
            Some(path) => changes_of_file(path).with_context(|| format!("--config {}", path.display()))?,
        };
        let groups = [&self.wasm, &self.wasi, &self.codegen, &self.optimize, &self.debug];
        let mut settings = Settings::default();
        for change in from_file.iter().chain(groups.into_iter().flatten().flatten()) {
            settings.apply(*change);
        }
        Ok(settings)
    }
}

impl Settings {
    fn apply(&mut self, change: Change) {
        match change {
            Change::Nothing => {}
            Change::Timeout(timeout) => self.timeout = Some(timeout),
            Change::Memory(bytes) => self.memory_bytes_max = Some(bytes),
            Change::TableElements(elements) => self.table_elements_max = Some(elements),
            Change::Instances(instances) => self.instances_max = instances,
            Change::Tables(tables) => self.tables_max = tables,
            Change::Memories(memories) => self.memories_max = memories,
            Change::Proposals(proposals, true) => self.forbidden = self.forbidden.without(Proposals::of(proposals)),
            Change::Proposals(proposals, false) => self.forbidden = self.forbidden.with(proposals),
            Change::Preview0(has) => self.has_preview_0 = has,
            Change::Network(wanted) => self.wants_network = wanted,
            Change::InheritEnv(inherits) => self.inherits_env = inherits,
            Change::InheritStdin(inherits) => self.inherits_stdin = inherits,
            Change::InheritStdout(inherits) => self.inherits_stdout = inherits,
            Change::InheritStderr(inherits) => self.inherits_stderr = inherits,
            Change::Engine(engine) => self.engine = Some(engine),
            Change::KeepArtifacts(keeps) => self.keeps_artifacts = keeps,
        }
    }

    /// The guest's time limit: the shorter of `-W timeout` and `--timeout`, if both are given.
    pub(crate) fn timeout_with(&self, timeout: Option<Duration>) -> Option<Duration> {
        self.timeout.into_iter().chain(timeout).min()
    }

    /// The engine that `-C compiler` or `--engine` asks for.
    pub(crate) fn engine(&self, choice: &EngineChoice) -> anyhow::Result<EngineChoice> {
        let Some(engine) = self.engine else { return Ok(EngineChoice { engine: choice.engine.clone() }) };
        if choice.engine != "auto" && choice.engine != engine {
            bail!("-C compiler asks for {engine} and --engine for {}; leave one of them out", choice.engine);
        }
        Ok(EngineChoice { engine: engine.to_owned() })
    }

    /// Returns an error if the module needs something that the options forbid.
    pub(crate) fn check(&self, module: &Module) -> anyhow::Result<()> {
        if !self.forbidden.is_empty() {
            let without = module.check_without(self.forbidden);
            without.with_context(|| format!("the module needs something that -W switches off ({})", self.forbidden))?;
        }
        if !self.has_preview_0 && module.imports_from(PREVIEW_0) {
            bail!("the module imports {PREVIEW_0}, which -S preview0=n switches off");
        }
        if self.wants_network && module.is_component() {
            bail!("components are given no network here; leave out -S inherit-network and -S allow-ip-name-lookup");
        }
        let stats = module.stats();
        for (what, has, max, option) in [
            ("instances", 1, self.instances_max, "max-instances"),
            ("tables", stats.tables.into(), self.tables_max, "max-tables"),
            ("memories", stats.memories.into(), self.memories_max, "max-memories"),
        ] {
            if has > max {
                bail!("the module makes {has} {what}, and -W {option}={max} allows fewer");
            }
        }
        Ok(())
    }
}

/// The module name under which guests import WASI's preview 0.
const PREVIEW_0: &str = "wasi_unstable";
