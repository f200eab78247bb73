//! Artifacts on disk. They are machine code, so the store loads only what this host wrote: each file ends in a MAC
//! under a key of the host's own, over the artifact and over everything that it was made for. Any other file there
//! counts as absent, and the artifact is compiled anew.
//!
//! The folder holds up to a budget of bytes; when it is full, the artifacts with the least [`GreedyDual`] credit go.
//! Several processes may use it at once:
//! - A file appears by being renamed into its place, whole, and is never written to again. It may be unlinked at any
//!   time: a process that has it open or mapped keeps it.
//! - A process that adds or evicts holds `artifacts.lock` ([flock(2)]), which the kernel takes back from a process that
//!   died. Loading needs no lock.
//! - A draft is locked by its writer for as long as the writer lives, so a draft without a lock was certainly left
//!   behind.
//! - The index of uses is a database, which a process that makes one call has no time to open: such a process adds a
//!   line to `artifacts.log` instead, and the next process that enters the store reads that log into the index.
//!
//! No decision depends on a clock, nor on anything having reached the disk in order: after a power cut, a file that is
//! not whole has no valid MAC, and an index that is not valid is begun anew.
//!
//! [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html

pub(crate) mod file;
mod index;
mod key;
mod log;
mod refusal;

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytesize::ByteSize;
use parking_lot::{Mutex, MutexGuard};
use remuda_engine::{Known, Registry, StoredArtifact};
use remuda_model::ModuleDigest;
use remuda_scheduler::GreedyDual;
use rustix::fs::{FlockOperation, flock};
use tempfile::NamedTempFile;

use crate::artifact::seal::Key;
use crate::learn::memo::Memos;
use file::Made;
use index::{Index, Row};
pub(crate) use refusal::Refusal;

const DRAFT_PREFIX: &str = ".draft-";
/// An eviction frees this part of the budget beyond what is needed, so that not every new artifact needs an eviction.
const SLACK: u64 = 16;
/// More bytes than one more row takes in the index and its journal.
const INDEX_BYTES: u64 = 64 << 10;

/// The reason why the store itself, as opposed to a file in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A directory or file cannot be used.
    #[error("cannot use {path:?} for artifacts: {source}")]
    Io {
        /// The path of the directory or file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file of the key does not contain a key.
    #[error("{path:?} is not an artifact key of 32 bytes; delete it, and artifacts will be compiled anew")]
    BadKey {
        /// The path of the key.
        path: PathBuf,
    },
    /// Other users can read the key, and so could forge artifacts.
    #[error("{path:?} can be read by others, who could then forge machine code; run: chmod 600 {path:?}")]
    KeyExposed {
        /// The path of the key.
        path: PathBuf,
    },
    /// One artifact is larger than all artifacts together may be.
    #[error(
        "an artifact of {} exceeds the budget of {} for all of them; raise `artifact_disk` or --artifact-disk",
        ByteSize::b(*artifact_bytes), ByteSize::b(*budget_bytes)
    )]
    OverBudget {
        /// The artifact's size as a file, in bytes.
        artifact_bytes: u64,
        /// The bytes that the store may hold.
        budget_bytes: u64,
    },
}

/// The artifacts of one data directory. Several processes may use it at the same time.
pub struct ArtifactStore {
    data_dir: PathBuf,
    dir: PathBuf,
    key: Key,
    budget_bytes: u64,
    /// Loads that the index does not know of yet. A crash forgets them, which does no harm.
    loads: Mutex<HashMap<String, u64>>,
    accounts: Accounts,
    /// Whether this process has looked for what crashed processes left behind.
    swept: AtomicBool,
}

/// The way in which a process counts the artifacts that it adds and uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accounts {
    /// The process counts in the index.
    Index,
    /// The process adds a line to the log, for as long as the log is short and the budget is not spent.
    Log,
    /// The process does not count at all: it may only read.
    None,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactFile {
    /// The file's path.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub bytes: u64,
    /// What the file was made for; `None` if the file is not in this store's format.
    pub made_for: Option<MadeFor>,
    /// How often the artifact was written or loaded.
    pub uses: u64,
    /// Whether this build would load the file here.
    pub state: FileState,
}

/// What a file says of the artifact in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeFor {
    /// The module.
    pub module: ModuleDigest,
    /// The engine's name.
    pub engine: String,
    /// The engine's version.
    pub version: String,
    /// The time that the compile took, in nanoseconds.
    pub compile_ns: u64,
}

/// Whether an artifact's file is of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileState {
    /// The artifact was made by an engine as this build has it, for this CPU.
    Ok,
    /// The artifact was made by another version or configuration of an engine, for another CPU, or in another format.
    /// It is never loaded.
    Stale,
}

/// What [`ArtifactStore::prune`] removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prune {
    /// All artifacts, all notes of engines that were set aside, and what was found out about modules.
    pub all: bool,
    /// The artifacts that are [stale](FileState::Stale).
    pub stale: bool,
    /// Of the rest, the artifacts with the least credit, until at most this many bytes are left.
    pub bytes_max: Option<u64>,
}

impl ArtifactStore {
    /// Opens the store in a data directory, making it and its key if there is none.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be used, or if the key in it is not safe to use.
    pub fn open(data_dir: &Path, budget_bytes: u64) -> Result<Self, StoreError> {
        Self::open_with(data_dir, budget_bytes, Accounts::Index)
    }

    /// Like [`open`](Self::open), for a caller that chooses how uses are counted.
    pub(crate) fn open_with(data_dir: &Path, budget_bytes: u64, accounts: Accounts) -> Result<Self, StoreError> {
        let dir = data_dir.join("artifacts");
        let key = if accounts == Accounts::None {
            key::read(data_dir)?
        } else {
            let make = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
            make.map_err(|source| StoreError::Io { path: dir.clone(), source })?;
            key::obtain(data_dir)?
        };
        Ok(Self {
            key,
            data_dir: data_dir.to_owned(),
            dir,
            budget_bytes,
            loads: Mutex::default(),
            accounts,
            swept: AtomicBool::new(false),
        })
    }

    /// Opens the store of a data directory to look after it; returns `None` if there is none. The store has no budget
    /// then.
    ///
    /// # Errors
    ///
    /// Returns an error in the cases of [`open`](Self::open).
    pub fn open_existing(data_dir: &Path) -> Result<Option<Self>, StoreError> {
        if !data_dir.join("artifacts").is_dir() {
            return Ok(None);
        }
        Self::open(data_dir, u64::MAX).map(Some)
    }

    /// The key under which this host vouches for what it keeps.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether the budget leaves room for any artifact.
    pub(crate) fn keeps_any(&self) -> bool {
        self.budget_bytes > 0
    }

    /// Whether there is a file that may be the artifact; only loading it tells for certain.
    pub(crate) fn may_contain(&self, module: ModuleDigest, engine: &Known) -> bool {
        self.path(module, engine).exists()
    }

    /// Gets an artifact; returns `None` if there is none that this host wrote.
    pub(crate) fn load(&self, module: ModuleDigest, engine: &Known) -> Option<StoredArtifact> {
        let name = file::file_name(module, engine.id.as_str(), &engine.fingerprint());
        let path = self.dir.join(&name);
        match File::open(&path).and_then(|file| file::open_authentic(file, &self.key, module, engine)) {
            Ok(stored) => {
                *self.loads().entry(name).or_default() += 1;
                Some(stored)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring an artifact that cannot be trusted");
                None
            }
        }
    }

    /// Writes down the uses that were only counted in memory so far.
    pub(crate) fn flush(&self) {
        if self.loads().is_empty() {
            return;
        }
        let counted = match self.accounts {
            Accounts::Index => self.enter().map(drop),
            Accounts::Log => self.log_loads(),
            Accounts::None => Ok(()),
        };
        if let Err(error) = counted {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot count the uses of artifacts");
        }
    }

    /// Adds the uses to the log, for the next process that opens the index.
    fn log_loads(&self) -> io::Result<()> {
        let entries: Vec<log::Entry> =
            self.loads().drain().map(|(name, uses)| log::Entry::Loaded { name, uses }).collect();
        let log_bytes = log::add(&self.log_path(), &entries)?;
        if log_bytes > log::BYTES_MAX {
            self.enter()?;
        }
        Ok(())
    }

    /// Keeps an artifact that took `cost_ns` to compile. The file is there whole or not at all, also after a crash and
    /// with other writers. Other artifacts go if the budget demands it, or once if the disk is full.
    pub(crate) fn save(
        &self,
        module: ModuleDigest,
        engine: &Known,
        artifact: &[u8],
        cost_ns: u64,
    ) -> Result<(), StoreError> {
        let made = Made::new(module, engine, cost_ns);
        let bytes = file::file_bytes(artifact, &made);
        if bytes > self.budget_bytes {
            return Err(StoreError::OverBudget { artifact_bytes: bytes, budget_bytes: self.budget_bytes });
        }
        let name = made.file_name();
        let attempt = || {
            let draft = self.draft(artifact, &made)?;
            if self.accounts == Accounts::Log && self.has_room_for(bytes)? {
                // The log's line comes first, then the file: see `admit`.
                let entry = log::Entry::Saved { name: name.clone(), bytes, cost_ns };
                log::add(&self.log_path(), &[entry])?;
                draft.persist(self.dir.join(&name)).map_err(|error| error.error)?;
                return Ok(());
            }
            self.enter()?.admit(draft, &name, bytes, cost_ns)
        };
        let save = || match attempt() {
            Err(error) if is_full(&error) => {
                if self.free(bytes + INDEX_BYTES)? {
                    attempt()
                } else {
                    Err(error)
                }
            }
            other => other,
        };
        save().map_err(|source| StoreError::Io { path: self.dir.join(&name), source })
    }

    /// Removes an artifact that its engine did not accept.
    pub(crate) fn remove(&self, module: ModuleDigest, engine: &Known) {
        unlink(&self.path(module, engine));
    }

    /// Notes that an engine was set aside for a module.
    pub(crate) fn refuse(&self, module: ModuleDigest, engine: &Known, refusal: &Refusal) -> Result<(), StoreError> {
        let path = self.path(module, engine).with_extension(refusal::SUFFIX);
        // While this process holds the lock, no sweep takes the draft for one that was left behind.
        let write = || refusal::write(&self.dir, DRAFT_PREFIX, &path, refusal, &self.lock()?);
        write().map_err(|source| StoreError::Io { path: path.clone(), source })
    }

    /// The reason why an engine was set aside for a module, as long as the note holds.
    pub(crate) fn refusal(&self, module: ModuleDigest, engine: &Known) -> Option<Refusal> {
        refusal::read(&self.path(module, engine).with_extension(refusal::SUFFIX))
    }

    /// Lists all files of the store. It does not check MACs; [`verify`](Self::verify) does that.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read.
    pub fn list(&self, registry: &Registry) -> Result<Vec<ArtifactFile>, StoreError> {
        let fingerprints = fingerprints(registry);
        let rows = self.enter().and_then(|entered| entered.survey()).map_err(|source| self.error(source))?;
        let mut files: Vec<_> = rows.iter().map(|row| self.describe(row, &fingerprints)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// Removes artifacts, and returns them.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read or changed.
    pub fn prune(&self, registry: &Registry, what: Prune) -> Result<Vec<ArtifactFile>, StoreError> {
        let fingerprints = fingerprints(registry);
        let prune = || -> io::Result<Vec<ArtifactFile>> {
            let mut entered = self.enter()?;
            let rows = entered.survey()?;
            let files: HashMap<String, ArtifactFile> =
                rows.iter().map(|row| (row.name.clone(), self.describe(row, &fingerprints))).collect();
            let is_doomed = |file: &ArtifactFile| what.all || what.stale && file.state == FileState::Stale;
            let doomed = files.iter().filter(|(_, file)| is_doomed(file)).map(|(name, _)| name.clone()).collect();
            let gone = entered.evict(&rows, what.bytes_max.unwrap_or(u64::MAX), &doomed, None);
            let mut gone: Vec<_> = gone.iter().filter_map(|name| files.get(name).cloned()).collect();
            gone.sort_by(|a, b| a.path.cmp(&b.path));
            if what.all {
                self.forget_refusals(|_| true)?;
                Memos::of(&self.data_dir).forget_findings()?;
            }
            Ok(gone)
        };
        prune().map_err(|source| self.error(source))
    }

    /// Checks the MAC of every file, and that the file stands where it belongs. Returns each path, and what is wrong
    /// with the file if anything is.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read.
    pub fn verify(&self) -> Result<Vec<(PathBuf, Option<String>)>, StoreError> {
        let mut names = self.names().map_err(|source| self.error(source))?;
        names.sort();
        let check = |name: &str| -> io::Result<()> {
            let file = File::open(self.dir.join(name))?;
            let trailer = file::read_trailer(&file)?;
            file::check(&file, &self.key, &trailer)?;
            if trailer.made.file_name() != name {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "it was made for something else"));
            }
            Ok(())
        };
        let verified = names.into_iter().filter_map(|name| match check(&name) {
            // Another process has evicted it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            checked => Some((self.dir.join(&name), checked.err().map(|error| error.to_string()))),
        });
        Ok(verified.collect())
    }

    /// Removes files in which [`verify`](Self::verify) has found something wrong.
    ///
    /// # Errors
    ///
    /// Returns an error if the directory cannot be read or changed.
    pub fn delete(&self, paths: &[PathBuf]) -> Result<(), StoreError> {
        let doomed = paths.iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        let delete = || -> io::Result<()> {
            let mut entered = self.enter()?;
            let rows = entered.survey()?;
            entered.evict(&rows, u64::MAX, &doomed, None);
            Ok(())
        };
        delete().map_err(|source| self.error(source))
    }

    fn describe(&self, row: &Row, fingerprints: &HashSet<String>) -> ArtifactFile {
        let path = self.dir.join(&row.name);
        let made = File::open(&path).and_then(|file| file::read_trailer(&file)).ok().map(|trailer| trailer.made);
        let is_ok = made.as_ref().is_some_and(|made| fingerprints.contains(&made.fingerprint));
        ArtifactFile {
            path,
            bytes: row.bytes,
            uses: row.uses,
            state: if is_ok { FileState::Ok } else { FileState::Stale },
            made_for: made.map(|made| {
                let (engine, version) = made.engine_and_version();
                MadeFor {
                    module: made.module,
                    engine: engine.to_owned(),
                    version: version.to_owned(),
                    compile_ns: made.cost_ns,
                }
            }),
        }
    }

    /// Writes an artifact beside its place. The draft is deleted when it is dropped, or by the next sweep if this
    /// process crashes.
    fn draft(&self, artifact: &[u8], made: &Made) -> io::Result<NamedTempFile> {
        let draft = {
            // A sweep holds this lock, so it sees the draft locked, or not at all.
            let _lock = self.lock()?;
            let draft = tempfile::Builder::new().prefix(DRAFT_PREFIX).tempfile_in(&self.dir)?;
            flock(draft.as_file(), FlockOperation::NonBlockingLockExclusive)?;
            draft
        };
        file::write(draft.as_file(), &self.key, artifact, made)?;
        Ok(draft)
    }

    /// Makes room for `bytes` on a full disk, and says whether that could be done.
    fn free(&self, bytes: u64) -> io::Result<bool> {
        let mut entered = self.enter()?;
        self.sweep()?;
        let rows = entered.survey()?;
        let total: u64 = rows.iter().map(|row| row.bytes).sum();
        let disk = rustix::fs::statvfs(&self.dir)?;
        let missing = match bytes.saturating_sub(disk.f_bavail.saturating_mul(disk.f_frsize)) {
            // A quota is spent then, and the file system does not say how much of it is left.
            0 => bytes,
            missing => missing,
        };
        if total < missing {
            return Ok(false);
        }
        let gone = entered.evict(&rows, total - missing, &HashSet::new(), None);
        tracing::warn!(dir = %self.dir.display(), evicted = gone.len(), "the disk is full: artifacts made room");
        Ok(true)
    }

    /// Removes the drafts of processes that have died, and notes that no longer hold.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with(DRAFT_PREFIX) {
                continue;
            }
            let Ok(draft) = File::open(entry.path()) else { continue };
            if flock(&draft, FlockOperation::NonBlockingLockExclusive).is_ok() {
                unlink(&entry.path());
            }
        }
        self.forget_refusals(|path| !refusal::is_fresh(path))
    }

    /// Removes notes of engines that were set aside.
    fn forget_refusals(&self, is_doomed: impl Fn(&Path) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == refusal::SUFFIX) && is_doomed(&path) {
                unlink(&path);
            }
        }
        Ok(())
    }

    /// Whether the budget leaves room for `bytes` more, judged by the folder alone.
    fn has_room_for(&self, bytes: u64) -> io::Result<bool> {
        let mut total = bytes;
        for name in self.names()? {
            total += self.dir.join(name).metadata().map_or(0, |metadata| metadata.len());
        }
        Ok(total <= self.budget_bytes)
    }

    /// The names of the files that are artifacts, or pass for such.
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            if let Ok(name) = entry?.file_name().into_string()
                && name.ends_with(file::SUFFIX)
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// Takes the lock, and brings the index up to date.
    fn enter(&self) -> io::Result<Entered<'_>> {
        let lock = self.lock()?;
        if !self.swept.swap(true, Ordering::Relaxed) {
            self.sweep()?;
        }
        let mut index = Index::open(&self.index_path());
        if let Some(index) = index.as_mut() {
            let mut loads = self.loads();
            match self.bring_up_to_date(index, &loads) {
                Ok(()) => loads.clear(),
                Err(error) => tracing::warn!(%error, "cannot count the uses of artifacts now"),
            }
        }
        Ok(Entered { store: self, index, _lock: lock })
    }

    /// Enters into the index what this process has used, and what other processes have logged.
    fn bring_up_to_date(&self, index: &mut Index, loads: &HashMap<String, u64>) -> rusqlite::Result<()> {
        if !loads.is_empty() {
            index.touch(loads.iter())?;
        }
        let logged = log::take(&self.log_path());
        if !logged.is_empty() {
            index.take_over(&logged)?;
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<File> {
        let path = self.data_dir.join("artifacts.lock");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(file)
    }

    fn loads(&self) -> MutexGuard<'_, HashMap<String, u64>> {
        self.loads.lock()
    }

    fn index_path(&self) -> PathBuf {
        self.data_dir.join("artifacts.db")
    }

    fn log_path(&self) -> PathBuf {
        self.data_dir.join("artifacts.log")
    }

    fn path(&self, module: ModuleDigest, engine: &Known) -> PathBuf {
        self.dir.join(file::file_name(module, engine.id.as_str(), &engine.fingerprint()))
    }

    fn error(&self, source: io::Error) -> StoreError {
        StoreError::Io { path: self.dir.clone(), source }
    }
}

/// Notes the uses that were only counted in memory so far.
impl Drop for ArtifactStore {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The store while no other process changes it.
struct Entered<'a> {
    store: &'a ArtifactStore,
    index: Option<Index>,
    _lock: File,
}

impl Entered<'_> {
    /// Puts a draft in its place, and evicts the artifacts that have to make room for it.
    fn admit(&mut self, draft: NamedTempFile, name: &str, bytes: u64, cost_ns: u64) -> io::Result<()> {
        let budget = self.store.budget_bytes;
        let known = self.index.as_ref().filter(|index| !index.is_new);
        let after = known.and_then(|index| {
            let (total, replaced) = index.total_bytes().and_then(|total| Ok((total, index.bytes_of(name)?))).ok()?;
            Some((total - replaced).saturating_add(bytes))
        });
        if after.is_none_or(|after| after > budget) {
            let rows = self.survey()?;
            let total: u64 = rows.iter().filter(|row| row.name != name).map(|row| row.bytes).sum();
            // Perhaps everything fits, and the index only did not know what is there.
            let target = if total.saturating_add(bytes) > budget { budget - budget / SLACK } else { budget };
            self.evict(&rows, target.saturating_sub(bytes), &HashSet::new(), Some(name));
        }
        if let Some(index) = &self.index {
            // The row comes first, then the file: a crash in between makes an eviction come too early, and never too
            // late.
            index.put(name, bytes, cost_ns).map_err(index_error)?;
        }
        draft.persist(self.store.dir.join(name)).map_err(|error| error.error)?;
        Ok(())
    }

    /// Lists what the folder holds, with what the index knows of it.
    fn survey(&self) -> io::Result<Vec<Row>> {
        let rows = self.index.as_ref().map_or(Ok(Vec::new()), Index::rows).unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot read the index of artifacts; it is begun anew");
            unlink(&self.store.index_path());
            Vec::new()
        });
        let mut rows: HashMap<String, Row> = rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        let mut found = Vec::new();
        for name in self.store.names()? {
            let path = self.store.dir.join(&name);
            // The file may be gone: an artifact that an engine does not accept is removed without the lock.
            let Ok(metadata) = path.metadata() else { continue };
            let row = rows.remove(&name).unwrap_or_else(|| {
                let made = File::open(&path).and_then(|file| file::read_trailer(&file));
                Row { name, bytes: 0, cost_ns: made.map_or(0, |trailer| trailer.made.cost_ns), uses: 1, credit: None }
            });
            found.push(Row { bytes: metadata.len(), ..row });
        }
        Ok(found)
    }

    /// Removes the doomed artifacts, and then those with the least credit until at most `bytes_max` are left. One
    /// artifact may be spared because it is about to be replaced; its bytes do not count. Returns the names of the
    /// artifacts that were removed.
    fn evict(&mut self, rows: &[Row], bytes_max: u64, doomed: &HashSet<String>, spared: Option<&str>) -> Vec<String> {
        let inflation = self.index.as_ref().and_then(|index| index.inflation().ok()).unwrap_or(0.0);
        let mut cache = GreedyDual::resume(u64::MAX, inflation);
        let mut bytes_max = bytes_max;
        for row in rows {
            if doomed.contains(&row.name) {
                continue;
            }
            cache.restore(row.name.clone(), row.bytes, row.cost_ns, row.uses, row.credit);
            if spared == Some(row.name.as_str()) {
                cache.pin(&row.name);
                bytes_max = bytes_max.saturating_add(row.bytes);
            }
        }
        let mut gone = cache.shrink_to(bytes_max);
        gone.extend(rows.iter().filter(|row| doomed.contains(&row.name)).map(|row| row.name.clone()));
        for name in &gone {
            unlink(&self.store.dir.join(name));
        }
        if let Some(index) = self.index.as_mut()
            && let Err(error) = index.settle(rows, &cache)
        {
            tracing::warn!(%error, "cannot write the index of artifacts; the next eviction puts it right");
        }
        gone
    }
}

/// The fingerprints of the engines of this build, on this CPU.
fn fingerprints(registry: &Registry) -> HashSet<String> {
    registry.known().filter(|known| known.is_built()).map(Known::fingerprint).collect()
}

fn index_error(error: rusqlite::Error) -> io::Error {
    match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DiskFull) => io::Error::new(io::ErrorKind::StorageFull, error),
        _ => io::Error::other(error),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn unlink(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot remove an artifact");
    }
}

#[cfg(test)]
mod tests;
