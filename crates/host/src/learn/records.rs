//! What a host knows beyond its process, and where that is kept: in a data directory's database, or, for a process that
//! makes one call, in the files of single modules. Their formats stand in `profile` and `memo`.

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use remuda_engine::{Module, ModuleError, Registry};
use remuda_model::{ModuleDigest, ModuleLimits};
use remuda_scheduler::FunctionProfile;
use rustix::fs::{Access, access};

use super::memo::Memos;
use super::profile::{Profiles, fold};
use super::row::{CompileRow, Line, ObservationRow};
use crate::artifact::store::{Accounts, ArtifactStore};
use crate::config::{HostConfig, OpenError};
use crate::cores::Cores;
use crate::learn::housekeeper::{Housekeeper, Keeper, NotKept, Task};

/// The place where a host finds what is known of functions.
pub(crate) enum Records {
    /// There is no such place.
    None,
    /// The database.
    Database(Arc<Mutex<Profiles>>),
    /// The files of single modules.
    Memos(ModuleMemos),
}

/// The files of the modules of a process that makes one call, and what is to be written to them in the end.
pub(crate) struct ModuleMemos {
    memos: Memos,
    data_dir: PathBuf,
    store: Arc<ArtifactStore>,
    /// Modules whose files have to be begun, with what the database knows of them.
    begun: Mutex<HashMap<ModuleDigest, Vec<Line>>>,
    /// Modules that were parsed, because no file said what parsing finds.
    parsed: Mutex<Vec<Arc<Module>>>,
}

/// The parts of a host that keep something beyond its process.
pub(crate) struct Kept {
    pub(crate) store: Option<Arc<ArtifactStore>>,
    pub(crate) records: Records,
    pub(crate) keeper: Keeper,
}

impl Kept {
    pub(crate) fn open(config: &HostConfig, cores: &Arc<Cores>) -> Result<Self, OpenError> {
        let Some(path) = &config.data_dir else {
            return Ok(Self { store: None, records: Records::None, keeper: Keeper::Nobody });
        };
        let unusable = |source| OpenError::DataDir { path: path.clone(), source };
        if !config.read_only {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
            access(path, Access::WRITE_OK).map_err(|error| unusable(error.into()))?;
        }
        let open_store = |accounts| ArtifactStore::open_with(path, config.disk_budget_bytes, accounts).map(Arc::new);
        if !config.one_call {
            let profiles = Arc::new(Mutex::new(Profiles::open(path)?));
            let housekeeper =
                Housekeeper::start(Arc::clone(&profiles), Arc::clone(cores)).map_err(OpenError::Thread)?;
            let store = open_store(Accounts::Index)?;
            return Ok(Self {
                store: Some(store),
                records: Records::Database(profiles),
                keeper: Keeper::Thread(housekeeper),
            });
        }
        let (keeper, accounts) = if config.read_only {
            (Keeper::Nobody, Accounts::None)
        } else {
            (Keeper::Leaver(Mutex::default()), Accounts::Log)
        };
        let store = open_store(accounts)?;
        let memos = ModuleMemos {
            memos: Memos::of(path),
            data_dir: path.clone(),
            store: Arc::clone(&store),
            begun: Mutex::default(),
            parsed: Mutex::default(),
        };
        Ok(Self { store: Some(store), records: Records::Memos(memos), keeper })
    }
}

impl Records {
    /// Returns a valid module. It was validated now, or an earlier process has found it to be valid.
    pub(crate) fn module(&self, bytes: Bytes, limits: &ModuleLimits) -> Result<Arc<Module>, ModuleError> {
        let Self::Memos(ModuleMemos { memos, store, parsed, .. }) = self else {
            return Module::parse(bytes, limits).map(Arc::new);
        };
        let digest = ModuleDigest::of(&bytes);
        if let Some(findings) = memos.findings(store.key(), digest, limits) {
            return Ok(Arc::new(Module::recall(bytes, digest, findings, limits)));
        }
        let module = Arc::new(Module::parse_digested(bytes, digest, limits)?);
        parsed.lock().push(Arc::clone(&module));
        Ok(module)
    }

    /// Finds what is known of a module that runs with the arguments that `workload` stands for.
    pub(crate) fn profile(&self, module: ModuleDigest, workload: u64, registry: &Registry) -> FunctionProfile {
        match self {
            Self::None => FunctionProfile::default(),
            Self::Database(profiles) => profiles.lock().load(module, workload, registry).unwrap_or_else(|error| {
                tracing::warn!(%error, %module, "cannot read the profile; measuring begins anew");
                FunctionProfile::default()
            }),
            Self::Memos(ModuleMemos { memos, data_dir, begun, .. }) => {
                let lines = memos.runs(module).unwrap_or_else(|| {
                    let lines = Profiles::lines_of(data_dir, module, registry);
                    begun.lock().insert(module, lines.clone());
                    lines
                });
                fold(&lines, module, workload, registry)
            }
        }
    }

    /// Does the tasks that requests have left behind, where no thread does them. The first error stands for all.
    pub(crate) fn keep(&self, tasks: Vec<Task>) -> Result<(), NotKept> {
        let mut kept = Ok(());
        let mut lines = HashMap::<ModuleDigest, Vec<Line>>::new();
        for task in tasks {
            match task {
                Task::Observed(observations) => {
                    for observation in observations {
                        lines.entry(observation.module).or_default().push(Line::Run(ObservationRow::of(&observation)));
                    }
                }
                Task::Compiled(compile) => {
                    lines.entry(compile.module).or_default().push(Line::Compile(CompileRow::of(&compile)));
                }
                Task::Do(work) => kept = kept.and(work()),
                // A flush waits for the housekeeper's thread, and there is none.
                Task::Flush(_) => {}
            }
        }
        let Self::Memos(ModuleMemos { memos, data_dir, store, begun, parsed }) = self else { return kept };
        let not_kept = |error: std::io::Error| NotKept {
            what: format!("what was learnt in {}", data_dir.display()),
            reason: error.to_string(),
        };
        for (module, lines) in lines {
            let mut all = begun.lock().remove(&module).unwrap_or_default();
            all.extend(lines);
            kept = kept.and(memos.add_runs(module, &all).map_err(not_kept));
        }
        for module in parsed.lock().drain(..) {
            kept = kept.and(memos.keep_findings(store.key(), &module).map_err(not_kept));
        }
        kept
    }
}
