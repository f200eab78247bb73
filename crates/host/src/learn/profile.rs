//! The profile on disk: a database of what was measured of every module, row by row. Profiles as files stand in
//! `exchange`.

mod exchange;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use remuda_engine::{Known, Registry};
use remuda_model::{ArtifactState, EngineId, ModuleDigest, Observation, Outcome, Phases};
use remuda_scheduler::{Estimate, FunctionProfile, SizeModel};
use rusqlite::{Connection, Row, Transaction, TransactionBehavior, params};

pub use exchange::{EngineSummary, ImportError, ModuleProfile, ProfileFile, SizeClassSummary, Summary};

use super::memo::Memos;
use super::row::Line;
pub use super::row::{CompileObservation, CompileRow, ObservationRow};

/// The number of rows that are kept of each kind (module, engine, arguments, size class): as many as an estimate
/// remembers.
const ROWS_PER_KIND: u32 = Estimate::WINDOW;
/// The number of latest rows of a function on an engine that a profile is made of: enough for all size classes that it
/// tells apart.
const ROWS_PER_ENGINE: u32 = SizeModel::CLASSES_MAX * ROWS_PER_KIND;
/// The number of rows that are kept in all; the oldest are forgotten.
const ROWS_MAX: u32 = 200_000;
/// The number of rows that are written between two looks at whether there are too many.
const PRUNE_EVERY: i64 = 1024;
/// The version of the layout of the tables below.
const SCHEMA_VERSION: i64 = 2;
const FILE_NAME: &str = "profile.db";

const SCHEMA: &str = "
    CREATE TABLE observation (
        id INTEGER PRIMARY KEY,
        module BLOB NOT NULL,
        engine TEXT NOT NULL,
        workload INTEGER NOT NULL,
        size_class INTEGER NOT NULL,
        artifact TEXT NOT NULL,
        queue_ns INTEGER NOT NULL,
        compile_ns INTEGER NOT NULL,
        load_ns INTEGER NOT NULL,
        instantiate_ns INTEGER NOT NULL,
        execute_ns INTEGER NOT NULL,
        input_bytes INTEGER,
        output_bytes INTEGER NOT NULL,
        success INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX observation_of_engine ON observation (module, engine, id);
    CREATE INDEX observation_of_kind ON observation (module, engine, workload, size_class, id);
    CREATE TABLE compile (
        id INTEGER PRIMARY KEY,
        module BLOB NOT NULL,
        engine TEXT NOT NULL,
        compile_ns INTEGER NOT NULL,
        unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX compile_of_engine ON compile (module, engine, id);
";

/// Takes over the rows of version 1, which had no workload, and 0 for a size that was not known. The latest rows of
/// each engine are kept, as rows of a workload that no function has: they tell how long the engine took to get ready.
const FROM_VERSION_1: &str = "
    INSERT INTO observation
    SELECT id, module, engine, -1, -1, artifact, queue_ns, compile_ns, load_ns, instantiate_ns, execute_ns,
        NULL, output_bytes, success, outcome, unix_ms
    FROM (SELECT *, row_number() OVER (PARTITION BY module, engine ORDER BY id DESC) AS age FROM observation_1)
    WHERE age <= 15
    ORDER BY id;
    DROP TABLE observation_1;
";

const COLUMNS: &str = "id, workload, artifact, queue_ns, compile_ns, load_ns, instantiate_ns, execute_ns, input_bytes, \
                       output_bytes, success, unix_ms";

/// The profiles of all functions, as rows of observations. The order of rows tells which row is newer, and never the
/// time of day, which may jump.
///
/// A process that makes one call does not open the database, and notes its rows elsewhere (`Memos`); they are taken
/// over whenever the database is opened, and before rows of the same module are added.
pub struct Profiles {
    connection: Connection,
    /// The files of single modules; `None` if nothing that is taken over from there would be kept.
    memos: Option<Memos>,
}

/// The error of a profile that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the profile {path:?}: {reason}")]
pub struct ProfileError {
    /// The file's path.
    pub path: PathBuf,
    /// The reason.
    pub reason: rusqlite::Error,
}

impl Profiles {
    /// Opens the profile of a data directory. A profile that is damaged, or of a later version, is put aside, and a new
    /// one is begun. If the disk is full or cannot be written, the profile is kept in memory.
    ///
    /// # Errors
    ///
    /// Returns an error if the profile can neither be used nor put aside.
    pub fn open(data_dir: &Path) -> Result<Self, ProfileError> {
        let mut profiles = Self::open_as_it_is(data_dir)?;
        if let Some(memos) = profiles.memos.clone() {
            profiles.take_over(&memos, &memos.modules_with_runs());
        }
        Ok(profiles)
    }

    /// Like [`open`](Self::open), but leaves rows that were noted elsewhere where they are.
    fn open_as_it_is(data_dir: &Path) -> Result<Self, ProfileError> {
        let path = data_dir.join(FILE_NAME);
        let with_memos = |connection| Self { connection, memos: Some(Memos::of(data_dir)) };
        match Self::open_file(&path) {
            Ok(connection) => Ok(with_memos(connection)),
            Err(reason) if is_damage(&reason) => {
                let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let aside = data_dir.join(format!("{FILE_NAME}.damaged-{}", since_epoch.as_secs()));
                tracing::warn!(path = %path.display(), %reason, aside = %aside.display(),
                    "the profile cannot be read: it was put aside, and measuring begins anew");
                if std::fs::rename(&path, &aside).is_err() {
                    return Err(ProfileError { path, reason });
                }
                for companion in ["-wal", "-shm"] {
                    let _ = std::fs::remove_file(data_dir.join(format!("{FILE_NAME}{companion}")));
                }
                Self::open_file(&path).map(with_memos).map_err(|reason| ProfileError { path, reason })
            }
            Err(reason) if is_disk_trouble(&reason) => {
                tracing::error!(path = %path.display(), %reason, "cannot write the profile; requests go on without it");
                let in_memory = Connection::open_in_memory().and_then(Self::prepare);
                in_memory
                    .map(|connection| Self { connection, memos: None })
                    .map_err(|reason| ProfileError { path, reason })
            }
            Err(reason) => Err(ProfileError { path, reason }),
        }
    }

    /// Opens the profile of a data directory if there is one.
    ///
    /// # Errors
    ///
    /// Returns an error in the cases of [`Profiles::open`].
    pub fn open_existing(data_dir: &Path) -> Result<Option<Self>, ProfileError> {
        let is_there = data_dir.join(FILE_NAME).exists() || !Memos::of(data_dir).modules_with_runs().is_empty();
        if is_there { Self::open(data_dir).map(Some) } else { Ok(None) }
    }

    /// Reads what the database of a data directory, if there is one, knows of a module, for a [memo](Memos) that
    /// begins.
    pub(crate) fn lines_of(data_dir: &Path, module: ModuleDigest, registry: &Registry) -> Vec<Line> {
        if !data_dir.join(FILE_NAME).exists() {
            return Vec::new();
        }
        let read = || -> Result<Vec<Line>, String> {
            let profiles = Self::open_as_it_is(data_dir).map_err(|error| error.to_string())?;
            let profile = profiles.export_module(module, registry).map_err(|error| error.to_string())?;
            let compiles = profile.compiles.into_iter().map(Line::KnownCompile);
            Ok(compiles.chain(profile.observations.into_iter().map(Line::KnownRun)).collect())
        };
        read().unwrap_or_else(|error| {
            tracing::warn!(%error, %module, "cannot read the profile; measuring begins anew");
            Vec::new()
        })
    }

    /// Adds the rows of these modules that were noted elsewhere.
    fn take_over(&mut self, memos: &Memos, modules: &[ModuleDigest]) {
        let registry = Registry::default();
        let (mut observations, mut compiles) = (Vec::new(), Vec::new());
        for module in modules {
            for line in memos.runs(*module).unwrap_or_default() {
                match line {
                    Line::Run(row) => observations.extend(row.observation(*module, &registry)),
                    Line::Compile(row) => compiles.extend(row.compile(*module, &registry)),
                    Line::KnownRun(_) | Line::KnownCompile(_) => {}
                }
            }
        }
        let mut add = || -> rusqlite::Result<()> {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            insert(&transaction, &observations, &compiles)?;
            transaction.commit()
        };
        match add() {
            // Rows that the database had already go with their files, too: it will know more soon, and the next file is
            // to begin with that.
            Ok(()) => modules.iter().for_each(|module| memos.forget_runs(*module)),
            Err(error) => tracing::warn!(%error, "measurements of single calls stay where they were noted"),
        }
    }

    fn open_file(path: &Path) -> rusqlite::Result<Connection> {
        let connection = Connection::open(path)?;
        // Another process may hold the file for a moment.
        connection.busy_timeout(Duration::from_secs(2))?;
        // A profile that loses its last rows in a power cut is still a profile.
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        Self::prepare(connection)
    }

    fn prepare(mut connection: Connection) -> rusqlite::Result<Connection> {
        if version(&connection)? != SCHEMA_VERSION {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // The version is asked again under the lock, because another process may have done the work.
            match version(&transaction)? {
                SCHEMA_VERSION => {}
                0 => transaction.execute_batch(SCHEMA)?,
                1 => {
                    transaction.execute_batch("ALTER TABLE observation RENAME TO observation_1;")?;
                    transaction.execute_batch(SCHEMA)?;
                    transaction.execute_batch(FROM_VERSION_1)?;
                }
                later => return Err(later_version(later)),
            }
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        Ok(connection)
    }

    /// Reads what is known of a module that runs with the arguments that `workload` stands for.
    pub(crate) fn load(
        &self,
        module: ModuleDigest,
        workload: u64,
        registry: &Registry,
    ) -> rusqlite::Result<FunctionProfile> {
        let mut profile = FunctionProfile::default();
        for known in registry.known() {
            for compile in self.compiles(module, known)? {
                profile.observe_compile(known.id, compile.ns);
            }
            let mut rows = self.own(module, workload, known)?;
            rows.extend(self.others(module, workload, known)?);
            rows.sort_unstable_by_key(|(id, _)| *id);
            for (_, observation) in rows {
                if observation.workload == workload {
                    profile.observe(&observation);
                } else {
                    profile.observe_relative(&observation);
                }
            }
        }
        Ok(profile)
    }

    /// The latest requests with these arguments.
    fn own(&self, module: ModuleDigest, workload: u64, known: &Known) -> rusqlite::Result<Vec<(i64, Observation)>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM observation WHERE module = ?1 AND engine = ?2 AND workload = ?3 \
             ORDER BY id DESC LIMIT ?4"
        ))?;
        let keys = params![module.as_bytes(), known.id.as_str(), workload.cast_signed(), ROWS_PER_ENGINE];
        select.query_map(keys, |row| read(row, module, known.id))?.collect()
    }

    /// The latest requests with other arguments.
    fn others(&self, module: ModuleDigest, workload: u64, known: &Known) -> rusqlite::Result<Vec<(i64, Observation)>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM observation INDEXED BY observation_of_engine \
             WHERE module = ?1 AND engine = ?2 AND workload <> ?3 ORDER BY id DESC LIMIT ?4"
        ))?;
        let keys = params![module.as_bytes(), known.id.as_str(), workload.cast_signed(), ROWS_PER_KIND];
        select.query_map(keys, |row| read(row, module, known.id))?.collect()
    }

    /// The latest compiles that no request waited for, oldest first.
    fn compiles(&self, module: ModuleDigest, known: &Known) -> rusqlite::Result<Vec<CompileObservation>> {
        let mut select = self.connection.prepare_cached(
            "SELECT compile_ns, unix_ms FROM compile WHERE module = ?1 AND engine = ?2 ORDER BY id DESC LIMIT ?3",
        )?;
        let rows = select.query_map(params![module.as_bytes(), known.id.as_str(), ROWS_PER_KIND], |row| {
            Ok(CompileObservation { module, engine: known.id, ns: unsigned(row, 0)?, unix_ms: unsigned(row, 1)? })
        })?;
        let mut compiles = rows.collect::<Result<Vec<_>, _>>()?;
        compiles.reverse();
        Ok(compiles)
    }

    /// Adds rows, and forgets the rows whose place they take.
    pub(crate) fn append(
        &mut self,
        observations: &[Observation],
        compiles: &[CompileObservation],
    ) -> rusqlite::Result<()> {
        let mut modules: Vec<ModuleDigest> = observations.iter().map(|observation| observation.module).collect();
        modules.extend(compiles.iter().map(|compile| compile.module));
        modules.sort_unstable();
        modules.dedup();
        if let Some(memos) = self.memos.clone() {
            modules.retain(|module| memos.has_runs(*module));
            if !modules.is_empty() {
                self.take_over(&memos, &modules);
            }
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        insert(&transaction, observations, compiles)?;
        transaction.commit()
    }

    /// The modules of which something is known; those that were seen last come first.
    ///
    /// # Errors
    ///
    /// Returns an error if the database cannot be read.
    pub fn modules(&self) -> rusqlite::Result<Vec<ModuleDigest>> {
        let mut select = self.connection.prepare(
            "SELECT module FROM (SELECT module, id FROM observation UNION ALL SELECT module, 0 FROM compile) \
             GROUP BY module ORDER BY max(id) DESC, module",
        )?;
        let rows = select.query_map([], |row| row.get::<_, [u8; 32]>(0).map(ModuleDigest::from_bytes))?;
        rows.collect()
    }

    /// Forgets what is known of a module, or everything; returns the number of rows.
    ///
    /// # Errors
    ///
    /// Returns an error if the database cannot be written.
    pub fn reset(&mut self, module: Option<ModuleDigest>) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let rows = forget(&transaction, module)?;
        transaction.commit()?;
        Ok(rows)
    }

    /// Keeps the file from growing, as on a full disk.
    #[cfg(test)]
    pub(crate) fn pretend_disk_is_full(&self, full: bool) {
        let pages: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let pages_max = if full { pages } else { i64::from(u32::MAX - 1) };
        self.connection.pragma_update_and_check(None, "max_page_count", pages_max, |_| Ok(())).unwrap();
    }
}

/// The profile that lines of a [memo](Memos) add up to for a workload, as [`Profiles::load`] makes it of the database.
pub(crate) fn fold(lines: &[Line], module: ModuleDigest, workload: u64, registry: &Registry) -> FunctionProfile {
    let mut profile = FunctionProfile::default();
    for line in lines {
        match line {
            Line::Compile(row) | Line::KnownCompile(row) => {
                if let Some(compile) = row.compile(module, registry) {
                    profile.observe_compile(compile.engine, compile.ns);
                }
            }
            Line::Run(row) | Line::KnownRun(row) => match row.observation(module, registry) {
                Some(observation) if observation.workload == workload => profile.observe(&observation),
                Some(observation) => profile.observe_relative(&observation),
                None => {}
            },
        }
    }
    profile
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

fn later_version(version: i64) -> rusqlite::Error {
    let text = format!("it has the layout {version} of a later version; this one knows {SCHEMA_VERSION}");
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB), Some(text))
}

fn unsigned(row: &Row<'_>, index: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(index).map(i64::cast_unsigned)
}

/// Reads a row of [`COLUMNS`].
fn read(row: &Row<'_>, module: ModuleDigest, engine: EngineId) -> rusqlite::Result<(i64, Observation)> {
    let observation = Observation {
        module,
        engine,
        workload: unsigned(row, 1)?,
        artifact: match row.get_ref(2)?.as_str()? {
            "in memory" => ArtifactState::InMemory,
            "on disk" => ArtifactState::OnDisk,
            _ => ArtifactState::Absent,
        },
        phases: Phases {
            queue_ns: unsigned(row, 3)?,
            compile_ns: unsigned(row, 4)?,
            load_ns: unsigned(row, 5)?,
            instantiate_ns: unsigned(row, 6)?,
            execute_ns: unsigned(row, 7)?,
        },
        input_bytes: row.get::<_, Option<i64>>(8)?.map(i64::cast_unsigned),
        output_bytes: unsigned(row, 9)?,
        outcome: Outcome::Exited { code: i32::from(!row.get::<_, bool>(10)?) },
        unix_ms: unsigned(row, 11)?,
    };
    Ok((row.get(0)?, observation))
}

/// The size class of a request, as the database has it: -1 if the size was not known beforehand.
fn size_class(input_bytes: Option<u64>) -> i64 {
    input_bytes.map_or(-1, |bytes| i64::from(SizeModel::class_of(bytes)))
}

/// The observations that will not have been forgotten again when all are written, oldest first. A busy host makes
/// thousands while the few are written that stay.
fn latest(observations: &[Observation]) -> Vec<&Observation> {
    let mut kept: HashMap<Kind, u32> = HashMap::new();
    let mut stays = |observation: &&Observation| {
        let later = kept.entry(kind(observation)).or_default();
        *later += 1;
        *later <= ROWS_PER_KIND
    };
    let mut latest: Vec<_> = observations.iter().rev().filter(|observation| stays(observation)).collect();
    latest.reverse();
    latest
}

/// The rows among which the latest are kept: module, engine, arguments and size class.
type Kind = (ModuleDigest, EngineId, u64, i64);

fn kind(observation: &Observation) -> Kind {
    (observation.module, observation.engine, observation.workload, size_class(observation.input_bytes))
}

fn insert(
    transaction: &Transaction<'_>,
    observations: &[Observation],
    compiles: &[CompileObservation],
) -> rusqlite::Result<()> {
    let mut add = transaction.prepare_cached(
        "INSERT INTO observation (module, engine, workload, size_class, artifact, queue_ns, compile_ns, load_ns, \
         instantiate_ns, execute_ns, input_bytes, output_bytes, success, outcome, unix_ms) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
    )?;
    let mut kinds = Vec::new();
    let mut prune = false;
    for observation in latest(observations) {
        let Observation { module, engine, phases, artifact, workload, input_bytes, output_bytes, outcome, unix_ms } =
            observation;
        let kind = kind(observation);
        let id = add.insert(params![
            module.as_bytes(),
            engine.as_str(),
            workload.cast_signed(),
            kind.3,
            artifact.to_string(),
            phases.queue_ns.cast_signed(),
            phases.compile_ns.cast_signed(),
            phases.load_ns.cast_signed(),
            phases.instantiate_ns.cast_signed(),
            phases.execute_ns.cast_signed(),
            input_bytes.map(u64::cast_signed),
            output_bytes.cast_signed(),
            outcome.is_success(),
            outcome.to_string(),
            unix_ms.cast_signed(),
        ])?;
        prune |= id % PRUNE_EVERY == 0;
        kinds.push(kind);
    }
    kinds.sort_unstable();
    kinds.dedup();
    let mut bound = transaction.prepare_cached(
        "DELETE FROM observation WHERE module = ?1 AND engine = ?2 AND workload = ?3 AND size_class = ?4 AND id <= (\
         SELECT id FROM observation WHERE module = ?1 AND engine = ?2 AND workload = ?3 AND size_class = ?4 \
         ORDER BY id DESC LIMIT 1 OFFSET ?5)",
    )?;
    for (module, engine, workload, size_class) in kinds {
        bound.execute(params![
            module.as_bytes(),
            engine.as_str(),
            workload.cast_signed(),
            size_class,
            ROWS_PER_KIND
        ])?;
    }
    prune |= insert_compiles(transaction, compiles)?;
    if prune {
        for table in ["observation", "compile"] {
            let oldest = format!("SELECT id FROM {table} ORDER BY id DESC LIMIT 1 OFFSET ?1");
            transaction.execute(&format!("DELETE FROM {table} WHERE id <= ({oldest})"), params![ROWS_MAX])?;
        }
    }
    Ok(())
}

/// Adds compiles. Returns whether it is time to look at how many rows there are.
fn insert_compiles(transaction: &Transaction<'_>, compiles: &[CompileObservation]) -> rusqlite::Result<bool> {
    let mut add = transaction
        .prepare_cached("INSERT INTO compile (module, engine, compile_ns, unix_ms) VALUES (?1, ?2, ?3, ?4)")?;
    let mut bound = transaction.prepare_cached(
        "DELETE FROM compile WHERE module = ?1 AND engine = ?2 AND id <= (\
         SELECT id FROM compile WHERE module = ?1 AND engine = ?2 ORDER BY id DESC LIMIT 1 OFFSET ?3)",
    )?;
    let mut prune = false;
    for CompileObservation { module, engine, ns, unix_ms } in compiles {
        let id = add.insert(params![module.as_bytes(), engine.as_str(), ns.cast_signed(), unix_ms.cast_signed()])?;
        prune |= id % PRUNE_EVERY == 0;
        bound.execute(params![module.as_bytes(), engine.as_str(), ROWS_PER_KIND])?;
    }
    Ok(prune)
}

fn forget(transaction: &Transaction<'_>, module: Option<ModuleDigest>) -> rusqlite::Result<usize> {
    let mut rows = 0;
    for table in ["observation", "compile"] {
        rows += match module {
            Some(module) => {
                transaction.execute(&format!("DELETE FROM {table} WHERE module = ?1"), params![module.as_bytes()])?
            }
            None => transaction.execute(&format!("DELETE FROM {table}"), [])?,
        };
    }
    Ok(rows)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
}

fn is_disk_trouble(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(CannotOpen | DiskFull | ReadOnly | SystemIoFailure))
}

/// Rows for tests.
#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) const MODULE: ModuleDigest = ModuleDigest::from_bytes([7; 32]);
    pub(crate) const WINCH: EngineId = EngineId::new("wasmtime.winch");

    /// A successful request with workload 1 and 10 bytes of input.
    pub(crate) fn observation(execute_ns: u64) -> Observation {
        Observation {
            module: MODULE,
            engine: WINCH,
            phases: Phases { compile_ns: 5, instantiate_ns: 3, execute_ns, ..Phases::default() },
            artifact: ArtifactState::Absent,
            workload: 1,
            input_bytes: Some(10),
            output_bytes: 20,
            outcome: Outcome::Returned,
            unix_ms: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{MODULE, WINCH, observation};
    use super::*;

    fn load(profiles: &Profiles, workload: u64) -> FunctionProfile {
        profiles.load(MODULE, workload, &Registry::default()).unwrap()
    }

    /// The time of a request with workload `workload` and 10 bytes of input, in whole nanoseconds.
    fn execute_ns(profiles: &Profiles, workload: u64) -> i64 {
        let profile = load(profiles, workload);
        let ns = profile.engine(WINCH).unwrap().execute.predict(Some(10)).unwrap().ns;
        #[expect(clippy::cast_possible_truncation, reason = "the tests' durations are short")]
        let ns = ns.round() as i64;
        ns
    }

    fn rows(profiles: &Profiles) -> i64 {
        profiles.connection.query_row("SELECT count(*) FROM observation", [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn other_arguments_tell_only_how_long_getting_ready_takes() {
        let dir = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::open(dir.path()).unwrap();
        profiles.append(&[Observation { workload: 2, ..observation(900) }], &[]).unwrap();
        let relative = load(&profiles, 1);
        let winch = relative.engine(WINCH).unwrap();
        assert_eq!((winch.compile.ns(), winch.instantiate.ns(), winch.execute.count()), (Some(5), Some(3), 0));
        profiles.append(&[observation(100)], &[]).unwrap();
        assert_eq!(load(&profiles, 1).engine(WINCH).unwrap().execute.count(), 1);
        assert_eq!(load(&profiles, 1).engine(WINCH).unwrap().compile.count(), 2);
        assert_eq!(execute_ns(&profiles, 2), 900);
    }

    #[test]
    fn rows_are_bounded_for_each_kind_and_the_latest_stay() {
        let dir = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::open(dir.path()).unwrap();
        let kept = i64::from(ROWS_PER_KIND);
        profiles.append(&(1..=100).map(observation).collect::<Vec<_>>(), &[]).unwrap();
        assert_eq!(rows(&profiles), kept);
        // The median of 86 to 100.
        assert_eq!(execute_ns(&profiles, 1), 93);
        let of_size = |input_bytes| Observation { input_bytes, ..observation(7) };
        profiles.append(&[of_size(None), of_size(Some(0)), of_size(Some(1 << 20))], &[]).unwrap();
        assert_eq!(rows(&profiles), kept + 3);
        let large = load(&profiles, 1).engine(WINCH).unwrap().execute.predict(Some(1 << 20)).unwrap().ns;
        assert!((large - 7.0).abs() < 1e-6, "{large}");
        let compile = CompileObservation { module: MODULE, engine: WINCH, ns: 5, unix_ms: 1 };
        profiles.append(&[], &[compile; 100]).unwrap();
        assert_eq!(profiles.compiles(MODULE, Registry::default().find("wasmtime.winch").unwrap()).unwrap().len(), 15);
    }

    #[test]
    fn a_busy_function_does_not_make_others_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::open(dir.path()).unwrap();
        profiles.append(&[Observation { workload: 2, ..observation(42) }], &[]).unwrap();
        profiles.connection.execute("UPDATE observation SET id = 1", []).unwrap();
        let far = Observation { unix_ms: 0, ..observation(1) };
        profiles.append(std::slice::from_ref(&far), &[]).unwrap();
        profiles.connection.execute("UPDATE observation SET id = 99999999 WHERE id = 2", []).unwrap();
        profiles.append(&vec![far; 2 * usize::try_from(PRUNE_EVERY).unwrap()], &[]).unwrap();
        assert_eq!(load(&profiles, 2).engine(WINCH).unwrap().execute.count(), 1);
    }

    #[test]
    fn clocks_may_jump() {
        let dir = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::open(dir.path()).unwrap();
        let at = |ns, unix_ms| Observation { unix_ms, ..observation(ns) };
        let future: Vec<_> = (0..15).map(|_| at(1_000, u64::MAX)).collect();
        profiles.append(&future, &[]).unwrap();
        let past: Vec<_> = (0..15).map(|_| at(10, 0)).collect();
        profiles.append(&past, &[]).unwrap();
        assert_eq!(execute_ns(&profiles, 1), 10);
    }

    #[test]
    fn what_is_read_for_a_request_is_found_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let profiles = Profiles::open(dir.path()).unwrap();
        for (query, index) in [
            ("SELECT * FROM observation WHERE module = 1 AND engine = 2 AND workload = 3", "observation_of_kind"),
            (
                "SELECT * FROM observation INDEXED BY observation_of_engine WHERE module = 1 AND engine = 2 \
                 AND workload <> 3 ORDER BY id DESC LIMIT 15",
                "observation_of_engine",
            ),
            ("SELECT * FROM compile WHERE module = 1 AND engine = 2 ORDER BY id DESC LIMIT 15", "compile_of_engine"),
        ] {
            let plan: String =
                profiles.connection.query_row(&format!("EXPLAIN QUERY PLAN {query}"), [], |row| row.get(3)).unwrap();
            assert!(plan.starts_with("SEARCH") && plan.contains(index), "{plan}");
        }
    }

    #[test]
    fn a_damaged_profile_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let damage = "certainly not a database, but long enough".repeat(100);
        std::fs::write(dir.path().join(FILE_NAME), damage).unwrap();
        assert!(load(&Profiles::open(dir.path()).unwrap(), 1).engine(WINCH).is_none());
        assert!(was_put_aside(dir.path()));
    }

    #[test]
    fn a_profile_of_a_later_version_is_put_aside() {
        let dir = tempfile::tempdir().unwrap();
        let profiles = Profiles::open(dir.path()).unwrap();
        profiles.connection.pragma_update(None, "user_version", SCHEMA_VERSION + 1).unwrap();
        drop(profiles);
        assert!(load(&Profiles::open(dir.path()).unwrap(), 1).engine(WINCH).is_none());
        assert!(was_put_aside(dir.path()));
    }

    fn was_put_aside(dir: &Path) -> bool {
        let mut names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
        names.any(|name| name.to_string_lossy().starts_with("profile.db.damaged-"))
    }

    #[test]
    fn a_data_directory_that_cannot_be_written_stops_nobody() {
        let mut profiles = Profiles::open(Path::new("/proc/no-such-folder")).unwrap();
        profiles.append(&[observation(1)], &[]).unwrap();
        assert!(load(&profiles, 1).engine(WINCH).is_some());
    }

    #[test]
    fn rows_of_the_first_version_tell_how_long_getting_ready_takes() {
        const VERSION_1: &str = "
            CREATE TABLE observation (
                id INTEGER PRIMARY KEY, module BLOB NOT NULL, engine TEXT NOT NULL, artifact TEXT NOT NULL,
                queue_ns INTEGER NOT NULL, compile_ns INTEGER NOT NULL, load_ns INTEGER NOT NULL,
                instantiate_ns INTEGER NOT NULL, execute_ns INTEGER NOT NULL, input_bytes INTEGER NOT NULL,
                output_bytes INTEGER NOT NULL, success INTEGER NOT NULL, outcome TEXT NOT NULL,
                unix_ms INTEGER NOT NULL
            ) STRICT;
            CREATE INDEX observation_of ON observation (module, engine, id);";
        let dir = tempfile::tempdir().unwrap();
        let connection = Connection::open(dir.path().join(FILE_NAME)).unwrap();
        connection.execute_batch(VERSION_1).unwrap();
        for compile_ns in 1..=40 {
            let row = params![MODULE.as_bytes(), WINCH.as_str(), compile_ns];
            let insert = "INSERT INTO observation (module, engine, artifact, queue_ns, compile_ns, load_ns, \
                instantiate_ns, execute_ns, input_bytes, output_bytes, success, outcome, unix_ms) \
                VALUES (?1, ?2, 'absent', 0, ?3, 0, 4, 1000, 0, 0, 1, 'returned', 7)";
            connection.execute(insert, row).unwrap();
        }
        connection.pragma_update(None, "user_version", 1).unwrap();
        drop(connection);

        let mut profiles = Profiles::open(dir.path()).unwrap();
        assert_eq!(rows(&profiles), 15);
        let profile = load(&profiles, 1);
        let winch = profile.engine(WINCH).unwrap();
        assert_eq!((winch.compile.ns(), winch.instantiate.ns(), winch.execute.count()), (Some(33), Some(4), 0));
        profiles.append(&[observation(1)], &[]).unwrap();
        drop(profiles);
        assert_eq!(rows(&Profiles::open(dir.path()).unwrap()), 16, "done once");
    }
}
