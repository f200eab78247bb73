//! The profile on disk, and the thread that keeps it and the artifacts, so that no request waits for a disk.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remuda_engine::{Known, Registry};
use remuda_model::{ArtifactState, ModuleDigest, Observation, Outcome, Phases};
use remuda_scheduler::FunctionProfile;
use rusqlite::{Connection, params};

/// Rows that a profile keeps; older ones are forgotten when it is opened.
const ROWS_MAX: u32 = 200_000;
/// The latest rows of a module on an engine that a profile is made of.
const ROWS_PER_ENGINE: u32 = 15;
/// Tasks that may wait for the disk. Observations beyond are dropped, and counted.
const TASKS_MAX: usize = 4096;
/// The layout of the tables below.
const SCHEMA_VERSION: i64 = 1;

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS observation (
        id INTEGER PRIMARY KEY,
        module BLOB NOT NULL,
        engine TEXT NOT NULL,
        artifact TEXT NOT NULL,
        queue_ns INTEGER NOT NULL,
        compile_ns INTEGER NOT NULL,
        load_ns INTEGER NOT NULL,
        instantiate_ns INTEGER NOT NULL,
        execute_ns INTEGER NOT NULL,
        input_bytes INTEGER NOT NULL,
        output_bytes INTEGER NOT NULL,
        success INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX IF NOT EXISTS observation_of ON observation (module, engine, id);
";

/// The profiles of all functions, as rows of observations.
pub(crate) struct Profiles {
    connection: Connection,
}

/// The profile cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the profile {path:?}: {reason}")]
pub struct ProfileError {
    /// Where it is.
    pub path: PathBuf,
    /// Why.
    pub reason: rusqlite::Error,
}

impl Profiles {
    /// Opens the profile of a data directory. One that is damaged is put aside, and a new one begun.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, ProfileError> {
        let path = data_dir.join("profile.db");
        match Self::open_file(&path) {
            Ok(profiles) => Ok(profiles),
            Err(reason) if is_damage(&reason) => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let aside = data_dir.join(format!("profile.db.damaged-{}", since_epoch.as_secs()));
                tracing::warn!(path = %path.display(), %reason, aside = %aside.display(),
                    "the profile is damaged: it was put aside, and measuring begins anew");
                if std::fs::rename(&path, &aside).is_err() {
                    return Err(ProfileError { path, reason });
                }
                for companion in ["profile.db-wal", "profile.db-shm"] {
                    let _ = std::fs::remove_file(data_dir.join(companion));
                }
                Self::open_file(&path).map_err(|reason| ProfileError { path, reason })
            }
            Err(reason) => Err(ProfileError { path, reason }),
        }
    }

    fn open_file(path: &Path) -> rusqlite::Result<Self> {
        let connection = Connection::open(path)?;
        // Another process may hold the file for a moment.
        connection.busy_timeout(Duration::from_secs(2))?;
        // A profile that loses its last rows in a power cut is still a profile.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Self::prepare(connection)
    }

    fn prepare(connection: Connection) -> rusqlite::Result<Self> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != SCHEMA_VERSION {
            connection.execute_batch("DROP TABLE IF EXISTS observation;")?;
            connection.execute_batch(SCHEMA)?;
            connection.pragma_update(None, "user_version", SCHEMA_VERSION)?;
        }
        connection
            .execute("DELETE FROM observation WHERE id <= (SELECT max(id) FROM observation) - ?1", params![ROWS_MAX])?;
        Ok(Self { connection })
    }

    /// What the latest observations of a module add up to.
    pub(crate) fn load(&self, module: ModuleDigest, registry: &Registry) -> rusqlite::Result<FunctionProfile> {
        let mut profile = FunctionProfile::default();
        for known in registry.known() {
            for observation in self.latest(module, known)? {
                profile.observe(&observation);
            }
        }
        Ok(profile)
    }

    /// The latest observations, oldest first.
    fn latest(&self, module: ModuleDigest, known: &Known) -> rusqlite::Result<Vec<Observation>> {
        let mut select = self.connection.prepare_cached(
            "SELECT artifact, queue_ns, compile_ns, load_ns, instantiate_ns, execute_ns, input_bytes, output_bytes, \
             success, unix_ms FROM observation WHERE module = ?1 AND engine = ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let rows = select.query_map(params![module.as_bytes(), known.id.as_str(), ROWS_PER_ENGINE], |row| {
            let ns = |index| row.get::<_, i64>(index).map(i64::cast_unsigned);
            Ok(Observation {
                module,
                engine: known.id,
                artifact: match row.get_ref(0)?.as_str()? {
                    "in memory" => ArtifactState::InMemory,
                    "on disk" => ArtifactState::OnDisk,
                    _ => ArtifactState::Absent,
                },
                phases: Phases {
                    queue_ns: ns(1)?,
                    compile_ns: ns(2)?,
                    load_ns: ns(3)?,
                    instantiate_ns: ns(4)?,
                    execute_ns: ns(5)?,
                },
                workload: 0,
                input_bytes: Some(ns(6)?),
                output_bytes: ns(7)?,
                outcome: Outcome::Exited { code: i32::from(!row.get::<_, bool>(8)?) },
                unix_ms: ns(9)?,
            })
        })?;
        let mut observations = rows.collect::<Result<Vec<_>, _>>()?;
        observations.reverse();
        Ok(observations)
    }

    fn append(&mut self, observations: &[Observation]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO observation (module, engine, artifact, queue_ns, compile_ns, load_ns, instantiate_ns, \
                 execute_ns, input_bytes, output_bytes, success, outcome, unix_ms) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
            )?;
            for observation in observations {
                let Observation {
                    module, engine, phases, artifact, input_bytes, output_bytes, outcome, unix_ms, ..
                } = observation;
                insert.execute(params![
                    module.as_bytes(),
                    engine.as_str(),
                    artifact.to_string(),
                    phases.queue_ns.cast_signed(),
                    phases.compile_ns.cast_signed(),
                    phases.load_ns.cast_signed(),
                    phases.instantiate_ns.cast_signed(),
                    phases.execute_ns.cast_signed(),
                    input_bytes.unwrap_or(0).cast_signed(),
                    output_bytes.cast_signed(),
                    outcome.is_success(),
                    outcome.to_string(),
                    unix_ms.cast_signed(),
                ])?;
            }
        }
        transaction.commit()
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

/// The thread that writes to disk what requests leave behind.
pub(crate) struct Housekeeper {
    tasks: Option<SyncSender<Task>>,
    thread: Option<JoinHandle<()>>,
}

pub(crate) enum Task {
    /// Another row for the profile.
    Observed(Observation),
    /// An artifact to be kept, say.
    Do(Box<dyn FnOnce() + Send>),
}

impl Housekeeper {
    pub(crate) fn start(profiles: Arc<Mutex<Profiles>>) -> std::io::Result<Self> {
        let (tasks, waiting) = sync_channel(TASKS_MAX);
        let thread = thread::Builder::new().name("remuda-disk".into()).spawn(move || keep(&profiles, &waiting))?;
        Ok(Self { tasks: Some(tasks), thread: Some(thread) })
    }

    /// Hands over a task, or drops it if the disk is that far behind.
    pub(crate) fn hand(&self, task: Task) {
        if let Some(tasks) = &self.tasks
            && tasks.try_send(task).is_err()
        {
            tracing::warn!("the disk is too slow: an observation or artifact was not kept");
        }
    }
}

/// Waits until everything is written.
impl Drop for Housekeeper {
    fn drop(&mut self) {
        self.tasks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(profiles: &Mutex<Profiles>, tasks: &Receiver<Task>) {
    let mut reported = false;
    while let Ok(first) = tasks.recv() {
        // One transaction for all that has come meanwhile.
        let mut observations = Vec::new();
        for task in std::iter::once(first).chain(tasks.try_iter().take(TASKS_MAX)) {
            match task {
                Task::Observed(observation) => observations.push(observation),
                Task::Do(work) => work(),
            }
        }
        match profiles.lock().unwrap_or_else(PoisonError::into_inner).append(&observations) {
            Ok(()) => reported = false,
            Err(error) if !reported => {
                // Once for each spell of trouble, not for each request.
                reported = true;
                tracing::error!(%error, "cannot write the profile; requests go on without it");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use remuda_model::EngineId;

    use super::*;

    const MODULE: ModuleDigest = ModuleDigest::from_bytes([7; 32]);
    const MOCK: EngineId = EngineId::new("mock");

    fn observation(execute_ns: u64, outcome: Outcome) -> Observation {
        Observation {
            module: MODULE,
            engine: MOCK,
            phases: Phases { compile_ns: 5, instantiate_ns: 3, execute_ns, ..Phases::default() },
            artifact: ArtifactState::Absent,
            workload: 0,
            input_bytes: Some(10),
            output_bytes: 20,
            outcome,
            unix_ms: 1,
        }
    }

    #[test]
    fn a_profile_survives_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let housekeeper = Housekeeper::start(Arc::new(Mutex::new(Profiles::open(dir.path()).unwrap()))).unwrap();
        for ns in [100, 200, 300] {
            housekeeper.hand(Task::Observed(observation(ns, Outcome::Returned)));
        }
        housekeeper.hand(Task::Observed(observation(9, Outcome::Exited { code: 1 })));
        drop(housekeeper);
        let profile = Profiles::open(dir.path()).unwrap().load(MODULE, &Registry::default()).unwrap();
        let mock = profile.engine(MOCK).unwrap();
        let usual_ns = mock.execute.predict(None).map(|sized| sized.ns.round());
        assert_eq!((usual_ns, mock.execute.count()), (Some(200.0), 3));
        assert_eq!((mock.compile.ns(), mock.compile.count()), (Some(5), 4));
    }

    #[test]
    fn a_damaged_profile_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("profile.db"), "certainly not a database, but long enough".repeat(100)).unwrap();
        let profiles = Profiles::open(dir.path()).unwrap();
        assert!(profiles.load(MODULE, &Registry::default()).unwrap().engine(MOCK).is_none());
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(names.iter().any(|name| name.starts_with("profile.db.damaged-")), "{names:?}");
    }
}
