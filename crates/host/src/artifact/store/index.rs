//! How often the artifacts on disk were used, and what they cost: a table beside them, for eviction.
//!
//! The index is advice. The folder alone says what there is; an index that is damaged, lost or behind makes eviction
//! choose less well, and nothing else. So nothing is synced to disk, and a damaged index is begun anew. Everything here
//! happens under the store's lock, and the file is opened anew each time: that takes a fraction of a millisecond, which
//! is little beside a compile, and no process goes on writing to an index that another process has replaced.

use std::path::Path;

use remuda_scheduler::GreedyDual;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::log::Entry;

const SCHEMA_VERSION: i64 = 1;

/// An entry without a credit was used since the last eviction, and the next eviction computes its credit. `L` only
/// changes in an eviction, so the result is the same.
const SCHEMA: &str = "
    CREATE TABLE artifact (
        name TEXT PRIMARY KEY,
        bytes INTEGER NOT NULL,
        cost_ns INTEGER NOT NULL,
        uses INTEGER NOT NULL,
        credit REAL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE inflation (l REAL NOT NULL) STRICT;
";

pub(super) struct Index {
    connection: Connection,
    /// Whether the index was never [settled](Self::settle), and so does not know yet what lies in the folder.
    pub(super) is_new: bool,
}

/// A row of the index.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) cost_ns: u64,
    pub(super) uses: u64,
    pub(super) credit: Option<f64>,
}

impl Index {
    /// Opens the index, or begins it anew; returns `None` if neither can be done now.
    pub(super) fn open(path: &Path) -> Option<Self> {
        match Self::try_open(path) {
            Ok(index) => return Some(index),
            Err(error) => tracing::warn!(path = %path.display(), %error, "the index of artifacts is begun anew"),
        }
        let removed = std::fs::remove_file(path);
        let _ = std::fs::remove_file(path.with_extension("db-journal"));
        match removed.map_err(|error| error.to_string()).and_then(|()| Self::try_open(path).map_err(|e| e.to_string()))
        {
            Ok(index) => Some(index),
            Err(error) => {
                tracing::warn!(path = %path.display(), error, "there is no index of artifacts: uses are not counted");
                None
            }
        }
    }

    fn try_open(path: &Path) -> rusqlite::Result<Self> {
        let mut connection = Connection::open(path)?;
        connection.pragma_update(None, "synchronous", "OFF")?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        if version != SCHEMA_VERSION {
            let transaction = connection.transaction()?;
            transaction.execute_batch("DROP TABLE IF EXISTS artifact; DROP TABLE IF EXISTS inflation;")?;
            transaction.execute_batch(SCHEMA)?;
            transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            transaction.commit()?;
        }
        let mut index = Self { connection, is_new: false };
        // If the file is damaged, this shows it, and a new index can still be begun.
        index.total_bytes()?;
        index.is_new = index.stored_inflation()?.is_none();
        Ok(index)
    }

    /// The `L` of [`GreedyDual`], as the last eviction left it.
    pub(super) fn inflation(&self) -> rusqlite::Result<f64> {
        Ok(self.stored_inflation()?.unwrap_or(0.0))
    }

    fn stored_inflation(&self) -> rusqlite::Result<Option<f64>> {
        self.connection.query_row("SELECT l FROM inflation", [], |row| row.get(0)).optional()
    }

    /// The bytes of all artifacts together.
    pub(super) fn total_bytes(&self) -> rusqlite::Result<u64> {
        self.connection.query_row("SELECT coalesce(sum(bytes), 0) FROM artifact", [], |row| {
            row.get::<_, i64>(0).map(i64::cast_unsigned)
        })
    }

    pub(super) fn rows(&self) -> rusqlite::Result<Vec<Row>> {
        let mut select = self.connection.prepare("SELECT name, bytes, cost_ns, uses, credit FROM artifact")?;
        let number = |row: &rusqlite::Row<'_>, at| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let rows = select.query_map([], |row| {
            Ok(Row {
                name: row.get(0)?,
                bytes: number(row, 1)?,
                cost_ns: number(row, 2)?,
                uses: number(row, 3)?,
                credit: row.get(4)?,
            })
        })?;
        rows.collect()
    }

    pub(super) fn bytes_of(&self, name: &str) -> rusqlite::Result<u64> {
        let bytes = self
            .connection
            .query_row("SELECT bytes FROM artifact WHERE name = ?1", [name], |row| row.get::<_, i64>(0))
            .optional()?;
        Ok(bytes.map_or(0, i64::cast_unsigned))
    }

    /// Notes an artifact that was just written. An artifact that is there already keeps its uses, and has one more.
    pub(super) fn put(&self, name: &str, bytes: u64, cost_ns: u64) -> rusqlite::Result<()> {
        put(&self.connection, name, bytes, cost_ns)
    }

    /// Counts uses of artifacts.
    pub(super) fn touch<'a>(&mut self, uses: impl IntoIterator<Item = (&'a String, &'a u64)>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for (name, uses) in uses {
            touch(&transaction, name, *uses)?;
        }
        transaction.commit()
    }

    /// Enters what was logged by processes that did not open the index.
    pub(super) fn take_over(&mut self, logged: &[Entry]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        for entry in logged {
            match entry {
                Entry::Saved { name, bytes, cost_ns } => put(&transaction, name, *bytes, *cost_ns)?,
                Entry::Loaded { name, uses } => touch(&transaction, name, *uses)?,
            }
        }
        transaction.commit()
    }

    /// Makes the index agree with the folder after an eviction.
    pub(super) fn settle(&mut self, rows: &[Row], cache: &GreedyDual<String>) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        transaction.execute("DELETE FROM artifact", [])?;
        {
            let mut insert = transaction.prepare("INSERT INTO artifact VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for Row { name, bytes, cost_ns, uses, .. } in rows.iter().filter(|row| cache.contains(&row.name)) {
                insert.execute(params![
                    name,
                    bytes.cast_signed(),
                    cost_ns.cast_signed(),
                    uses.cast_signed(),
                    cache.credit(name)
                ])?;
            }
        }
        transaction.execute("DELETE FROM inflation", [])?;
        transaction.execute("INSERT INTO inflation VALUES (?1)", [cache.inflation()])?;
        transaction.commit()
    }
}

fn put(connection: &Connection, name: &str, bytes: u64, cost_ns: u64) -> rusqlite::Result<()> {
    connection.execute(
        "INSERT INTO artifact VALUES (?1, ?2, ?3, 1, NULL) ON CONFLICT (name) DO UPDATE \
         SET bytes = excluded.bytes, cost_ns = excluded.cost_ns, uses = uses + 1, credit = NULL",
        params![name, bytes.cast_signed(), cost_ns.cast_signed()],
    )?;
    Ok(())
}

fn touch(connection: &Connection, name: &str, uses: u64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE artifact SET uses = uses + ?2, credit = NULL WHERE name = ?1",
        params![name, uses.cast_signed()],
    )?;
    Ok(())
}
