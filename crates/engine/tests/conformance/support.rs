//! What the topics share: the engines of this build, modules made from text or from the suite's guests, and a guest's
//! whole life in one call.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use remuda_engine::{Artifact, Called, Engine, EngineError, InstantiateError, Known, Module, Registry, testing};
use remuda_model::{
    Cause, EngineId, Entry, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, ModuleLimits, Outcome, TrapKind,
    Value,
};

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// The engines of this build, and those that are installed on this machine.
pub(crate) fn engines() -> Vec<&'static Known> {
    let engines: Vec<_> = REGISTRY.usable().collect();
    // Who names a folder with engines wants them tested.
    for known in REGISTRY.known().filter(|known| known.is_here() && std::env::var_os("REMUDA_ENGINES").is_some()) {
        REGISTRY.open(known.id).unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(
        !engines.is_empty(),
        "this build has no engine to test; build with `--workspace`, or name an engine's feature"
    );
    engines
}

/// Those of [`engines`] that have all proposals that the module needs.
pub(crate) fn able(module: &Module) -> Vec<&'static Known> {
    let engines = engines();
    REGISTRY.able(module).filter(|known| engines.iter().any(|engine| engine.id == known.id)).collect()
}

pub(crate) fn open(known: &Known) -> &'static Arc<dyn Engine> {
    REGISTRY.open(known.id).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn parse(text: &str) -> Module {
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    Module::parse(bytes, &ModuleLimits::default()).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// The folder of the suite's guests.
pub(crate) fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

pub(crate) fn guest(path: impl AsRef<Path>) -> Module {
    let path = guests().join(path);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Module::parse(bytes, &ModuleLimits::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every module of a folder below `trap`, with its name.
pub(crate) fn trap_guests(kind: &str) -> Vec<(String, Module)> {
    let folder = guests().join("trap").join(kind);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut modules: Vec<_> = files
        .map(|file| file.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .map(|path| (path.file_stem().expect("a file has a name").to_string_lossy().into_owned(), guest(&path)))
        .collect();
    modules.sort_by(|one, other| one.0.cmp(&other.0));
    assert!(!modules.is_empty(), "{} has no modules", folder.display());
    modules
}

pub(crate) fn compile(known: &Known, module: &Module) -> Arc<dyn Artifact> {
    open(known).compile(module).unwrap_or_else(|error| panic!("{error}"))
}

/// A guest's context, limits and interrupt.
#[derive(Clone, Default)]
pub(crate) struct Setup {
    pub(crate) context: GuestContext,
    pub(crate) limits: GuestLimits,
    pub(crate) interrupt: Interrupt,
}

impl Setup {
    pub(crate) fn limited(memory_bytes_max: u64, table_elements_max: u64) -> Self {
        let limits = GuestLimits { memory_bytes_max, table_elements_max, ..GuestLimits::default() };
        Self { limits, ..Self::default() }
    }
}

/// How a guest's life ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) called: Called,
    pub(crate) output: GuestOutput,
    /// Whether the guest ended while it was instantiated.
    pub(crate) at_start: bool,
}

/// Instantiates a guest, calls it once, and takes its output.
pub(crate) fn live(artifact: &Arc<dyn Artifact>, entry: &Entry, setup: &Setup) -> Result<Ended, EngineError> {
    match Arc::clone(artifact).instantiate(&setup.context, &setup.limits, &setup.interrupt) {
        Ok(mut instance) => {
            let called = instance.call(entry)?;
            Ok(Ended { called, output: instance.into_output(), at_start: false })
        }
        Err(InstantiateError::Guest { outcome, output }) => {
            Ok(Ended { called: outcome.into(), output: *output, at_start: true })
        }
        Err(InstantiateError::Engine(error)) => Err(error),
    }
}

pub(crate) fn export(name: &str, args: &[Value]) -> Entry {
    Entry::Export { name: name.into(), args: args.to_vec() }
}

/// An outcome without its detail, which differs between engines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Returned,
    Exited(i32),
    Trapped(TrapKind),
    Interrupted(Cause),
    Exceeded(Limit),
}

/// Demands that a guest ended as it should, as far as the engine tells ends apart.
#[track_caller]
pub(crate) fn assert_end(engine: EngineId, found: End, expected: End, what: &dyn std::fmt::Display) {
    let same_word = |(id, kind, reported): &(&str, TrapKind, TrapKind)| {
        engine.as_str() == *id && (expected, found) == (End::Trapped(*kind), End::Trapped(*reported))
    };
    assert!(
        found == expected || testing::ONE_WORD.iter().any(same_word),
        "{what} on {engine}: it ended with {found:?}, and should with {expected:?}"
    );
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Returned => Self::Returned,
            Outcome::Exited { code } => Self::Exited(*code),
            Outcome::Trapped { kind, .. } => Self::Trapped(*kind),
            Outcome::Interrupted { cause } => Self::Interrupted(*cause),
            Outcome::LimitExceeded { limit } => Self::Exceeded(*limit),
        }
    }
}

impl Ended {
    pub(crate) fn end(&self) -> End {
        End::from(&self.called.outcome)
    }
}

/// Random numbers that a seed reproduces (`SplitMix64`, Steele, Lea and Flood 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `end - 1`, distributed evenly enough for a test.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("a remainder is smaller than its divisor")
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
