//! What a process that makes one call remembers of a module for the next process. A server has a database for that, but
//! a process of a few milliseconds cannot afford to open one. So it reads and writes two small files for each module,
//! in the data directory's folder `modules`:
//!
//! - `<digest>.module`: what parsing the module has found ([`Findings`]), so that it need not be validated again. The
//!   file is sealed with a MAC under the store's key: the promise that a module is valid and within bounds is only
//!   taken from this host.
//! - `<digest>.runs`: what was measured, a line of JSON for each row. Rows are added by one appending write. A line
//!   that cannot be read is left out.
//!
//! The database is the record, and a `.runs` file is a note of what the database may not know yet. A process that opens
//! the database takes over the rows that came from here, and removes the file; a module without a file gets one that
//! begins with what the database knows. A row that is written between taking over and removing is lost, which costs one
//! measurement.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use remuda_engine::{Findings, Module};
use remuda_model::{ModuleDigest, ModuleLimits};
use tempfile::NamedTempFile;

use super::row::{Line, parse_digest};
use crate::artifact::seal::Key;

const FOLDER: &str = "modules";
const FINDINGS_SUFFIX: &str = "module";
const RUNS_SUFFIX: &str = "runs";
const MAC_BYTES: usize = blake3::OUT_LEN;
/// Sets these MACs apart from those of artifacts, under the same key.
const FINDINGS_DOMAIN: &[u8] = b"remuda: findings of a module\0";
/// Modules below this size are parsed sooner than a file is read.
const FINDINGS_MODULE_BYTES_MIN: usize = 4 << 10;
/// A larger file was not written by this program: a module of 128 MiB has findings of a few megabytes.
const FINDINGS_FILE_BYTES_MAX: u64 = 64 << 20;
/// A `.runs` file that has grown beyond this is cut to its latest rows, of half as many bytes. Reading a file of this
/// size takes about 0.1 ms, and it holds a hundred rows; an estimate remembers fifteen.
const RUNS_BYTES_MAX: u64 = 32 << 10;
/// The number of modules that are remembered; beyond it, those that ran longest ago are forgotten, a quarter at a time.
const MODULES_MAX: usize = 4096;
/// One in this many new modules looks whether there are too many.
const LOOK_EVERY: u8 = 64;

/// The folder `modules` of a data directory.
#[derive(Clone, Debug)]
pub(crate) struct Memos {
    dir: PathBuf,
}

impl Memos {
    /// The folder of a data directory; nothing is read or made before it is needed.
    pub(crate) fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join(FOLDER) }
    }

    /// Reads what an earlier process has found out about a module, within these limits.
    pub(crate) fn findings(&self, key: &Key, module: ModuleDigest, limits: &ModuleLimits) -> Option<Findings> {
        let mut file = File::open(self.path(module, FINDINGS_SUFFIX)).ok()?;
        let file_bytes = file.metadata().ok().filter(|metadata| metadata.len() <= FINDINGS_FILE_BYTES_MAX)?.len();
        let mut bytes = Vec::with_capacity(usize::try_from(file_bytes).ok()?);
        file.read_to_end(&mut bytes).ok()?;
        let (body, mac) = bytes.split_last_chunk::<MAC_BYTES>()?;
        if findings_mac(key, module, limits, body) != blake3::Hash::from_bytes(*mac) {
            tracing::debug!(%module, "what was found out about the module holds no longer; it is parsed again");
            return None;
        }
        postcard::from_bytes(body).ok()
    }

    /// Notes what was found out about a module, if reading that is quicker than finding it out again.
    pub(crate) fn keep_findings(&self, key: &Key, module: &Module) -> io::Result<()> {
        if module.bytes().len() < FINDINGS_MODULE_BYTES_MIN {
            return Ok(());
        }
        let mut bytes = postcard::to_allocvec(module.findings()).map_err(io::Error::other)?;
        let mac = findings_mac(key, module.digest(), module.limits(), &bytes);
        bytes.extend_from_slice(mac.as_bytes());
        self.replace(module.digest(), FINDINGS_SUFFIX, &bytes)?;
        if module.digest().as_bytes()[0].is_multiple_of(LOOK_EVERY) {
            self.forget_oldest(MODULES_MAX)?;
        }
        Ok(())
    }

    /// Reads what was measured of a module, oldest first; returns `None` if there is no file.
    pub(crate) fn runs(&self, module: ModuleDigest) -> Option<Vec<Line>> {
        fs::read(self.path(module, RUNS_SUFFIX)).ok().map(|text| lines(&text))
    }

    /// Adds rows to what was measured of a module.
    pub(crate) fn add_runs(&self, module: ModuleDigest, lines: &[Line]) -> io::Result<()> {
        let text = text(lines)?;
        let path = self.path(module, RUNS_SUFFIX);
        let open = || OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
        let mut file = match open() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_dir()?;
                open()?
            }
            opened => opened?,
        };
        // The lines are written in one write, so that lines of other processes do not get in between.
        file.write_all(&text)?;
        if file.metadata()?.len() <= RUNS_BYTES_MAX {
            return Ok(());
        }
        let all = fs::read(&path)?;
        let cut = all.len() - usize::try_from(RUNS_BYTES_MAX / 2).unwrap_or(usize::MAX).min(all.len());
        let begin = all[cut..].iter().position(|byte| *byte == b'\n').map_or(all.len(), |end| cut + end + 1);
        self.replace(module, RUNS_SUFFIX, &all[begin..])
    }

    /// Forgets what was measured of a module, because the database has it.
    pub(crate) fn forget_runs(&self, module: ModuleDigest) {
        let path = self.path(module, RUNS_SUFFIX);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove rows that the database has taken over");
        }
    }

    /// Whether something was measured of a module since the database was opened last.
    pub(crate) fn has_runs(&self, module: ModuleDigest) -> bool {
        self.path(module, RUNS_SUFFIX).exists()
    }

    /// The modules of which something was measured.
    pub(crate) fn modules_with_runs(&self) -> Vec<ModuleDigest> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let digest = |entry: io::Result<fs::DirEntry>| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            parse_digest(name.strip_suffix(RUNS_SUFFIX)?.strip_suffix('.')?)
        };
        entries.filter_map(digest).collect()
    }

    /// Keeps the files of `modules_max` modules; if there are more, forgets those that were written longest ago.
    fn forget_oldest(&self, modules_max: usize) -> io::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            files.push((entry.metadata()?.modified()?, entry.path()));
        }
        // A module has two files at most.
        let files_max = 2 * modules_max;
        if files.len() <= files_max {
            return Ok(());
        }
        files.sort_unstable();
        for (_, path) in &files[..files.len() - files_max * 3 / 4] {
            fs::remove_file(path)?;
        }
        Ok(())
    }

    /// Forgets what was found out about modules; what was measured stays.
    pub(crate) fn forget_findings(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == FINDINGS_SUFFIX) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Puts a whole file in its place.
    fn replace(&self, module: ModuleDigest, suffix: &str, bytes: &[u8]) -> io::Result<()> {
        let draft = || tempfile::Builder::new().prefix(".draft-").tempfile_in(&self.dir);
        let mut draft: NamedTempFile = match draft() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_dir()?;
                draft()?
            }
            draft => draft?,
        };
        draft.write_all(bytes)?;
        draft.persist(self.path(module, suffix)).map_err(|error| error.error)?;
        Ok(())
    }

    fn make_dir(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    fn path(&self, module: ModuleDigest, suffix: &str) -> PathBuf {
        self.dir.join(format!("{module}.{suffix}"))
    }
}

/// A MAC over everything that findings depend on, including the version of the code that found them.
fn findings_mac(key: &Key, module: ModuleDigest, limits: &ModuleLimits, body: &[u8]) -> blake3::Hash {
    let mut mac = blake3::Hasher::new_keyed(key);
    mac.update(FINDINGS_DOMAIN)
        .update(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes())
        .update(&Findings::VERSION.to_le_bytes())
        .update(module.as_bytes());
    let limits = postcard::to_allocvec(limits).expect("numbers can be written to memory");
    // The length comes first, so that no byte of one part can pass for one of another.
    mac.update(&(limits.len() as u64).to_le_bytes()).update(&limits);
    mac.update(body).finalize()
}

fn lines(text: &[u8]) -> Vec<Line> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

fn text(lines: &[Line]) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use remuda_engine::Registry;

    use super::*;
    use crate::learn::profile::testing::{MODULE, WINCH, observation};
    use crate::learn::profile::{Profiles, fold};
    use crate::learn::row::ObservationRow;

    const KEY: Key = [3; 32];

    /// A module that is large enough for its findings to be kept.
    fn module() -> Module {
        let functions: String = (0..400).map(|i| format!("(func (export \"f{i}\") (param i32 i64) (loop))")).collect();
        let text = format!("(module (memory (export \"memory\") 1) (func (export \"_start\")) {functions})");
        Module::parse(wat::parse_str(text).unwrap(), &ModuleLimits::default()).unwrap()
    }

    fn only_file(data_dir: &Path, suffix: &str) -> PathBuf {
        let files = fs::read_dir(data_dir.join(FOLDER)).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|it| it == suffix)).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    #[test]
    fn what_was_found_out_is_found_again_and_only_within_the_same_limits() {
        let (dir, module, limits) = (tempfile::tempdir().unwrap(), module(), ModuleLimits::default());
        let memos = Memos::of(dir.path());
        assert_eq!(memos.findings(&KEY, module.digest(), &limits), None);
        memos.keep_findings(&KEY, &module).unwrap();
        let findings = memos.findings(&KEY, module.digest(), &limits).unwrap();
        assert_eq!(&findings, module.findings());
        let recalled = Module::recall(module.bytes().clone(), module.digest(), findings, &limits);
        assert_eq!((recalled.stats(), recalled.function("f7")), (module.stats(), module.function("f7")));
        let stricter = ModuleLimits { functions_max: 400, ..limits };
        assert_eq!(memos.findings(&KEY, module.digest(), &stricter), None);
        assert_eq!(memos.findings(&[4; 32], module.digest(), &limits), None, "another host's");
        memos.forget_findings().unwrap();
        assert_eq!(memos.findings(&KEY, module.digest(), &limits), None);
    }

    #[test]
    fn a_flipped_bit_in_what_was_found_out_has_the_module_parsed_again() {
        let (dir, module, limits) = (tempfile::tempdir().unwrap(), module(), ModuleLimits::default());
        let memos = Memos::of(dir.path());
        memos.keep_findings(&KEY, &module).unwrap();
        let path = only_file(dir.path(), FINDINGS_SUFFIX);
        let good = fs::read(&path).unwrap();
        for at in (0..good.len()).step_by(13).chain([good.len() - 1]) {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert_eq!(memos.findings(&KEY, module.digest(), &limits), None, "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert_eq!(memos.findings(&KEY, module.digest(), &limits), None, "cut at {at}");
        }
    }

    #[test]
    fn rows_add_up_as_they_would_in_the_database_and_damaged_lines_are_left_out() {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let memos = Memos::of(dir.path());
        assert_eq!(memos.runs(MODULE), None);
        let rows: Vec<_> = [100, 200, 300].map(|ns| Line::Run(ObservationRow::of(&observation(ns)))).into();
        for row in &rows {
            memos.add_runs(MODULE, std::slice::from_ref(row)).unwrap();
        }
        assert_eq!(memos.runs(MODULE), Some(rows.clone()));
        let in_database = tempfile::tempdir().unwrap();
        let mut profiles = Profiles::open(in_database.path()).unwrap();
        profiles.append(&[100, 200, 300].map(observation), &[]).unwrap();
        for workload in [1, 2] {
            let expected = profiles.load(MODULE, workload, &registry).unwrap();
            assert_eq!(fold(&rows, MODULE, workload, &registry), expected, "workload {workload}");
        }
        let path = only_file(dir.path(), RUNS_SUFFIX);
        let mut text = fs::read(&path).unwrap();
        text.truncate(text.len() - 5);
        fs::write(&path, [b"{\"run\":17}\n\xff\n".as_slice(), &text].concat()).unwrap();
        assert_eq!(memos.runs(MODULE), Some(rows[..2].to_vec()));
    }

    #[test]
    fn a_file_of_rows_does_not_grow_without_end_and_keeps_the_latest() {
        let dir = tempfile::tempdir().unwrap();
        let memos = Memos::of(dir.path());
        for ns in 0..1_000 {
            memos.add_runs(MODULE, &[Line::Run(ObservationRow::of(&observation(ns)))]).unwrap();
            assert!(fs::metadata(only_file(dir.path(), RUNS_SUFFIX)).unwrap().len() <= RUNS_BYTES_MAX);
        }
        let rows = memos.runs(MODULE).unwrap();
        assert!(rows.len() > 20, "{}", rows.len());
        assert_eq!(rows.last(), Some(&Line::Run(ObservationRow::of(&observation(999)))));
    }

    #[test]
    fn whoever_opens_the_database_takes_rows_over_once_and_the_next_file_begins_with_them() {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let memos = Memos::of(dir.path());
        assert_eq!(Profiles::lines_of(dir.path(), MODULE, &registry), []);
        memos.add_runs(MODULE, &[Line::Run(ObservationRow::of(&observation(100)))]).unwrap();
        for _ in 0..2 {
            let mut profiles = Profiles::open(dir.path()).unwrap();
            let profile = profiles.load(MODULE, 1, &registry).unwrap();
            assert_eq!(profile.engine(WINCH).unwrap().execute.count(), 1);
            assert_eq!(memos.runs(MODULE), None);
            // This row is noted while the database is open, and is taken over before the database learns more of the
            // module.
            memos.add_runs(MODULE, &[Line::Run(ObservationRow::of(&observation(200)))]).unwrap();
            profiles.append(&[observation(300)], &[]).unwrap();
            assert_eq!(profiles.load(MODULE, 1, &registry).unwrap().engine(WINCH).unwrap().execute.count(), 3);
            profiles.reset(None).unwrap();
            profiles.append(&[observation(100)], &[]).unwrap();
        }
        let lines = Profiles::lines_of(dir.path(), MODULE, &registry);
        assert_eq!(lines, [Line::KnownRun(ObservationRow::of(&observation(100)))]);
        memos.add_runs(MODULE, &lines).unwrap();
        let profiles = Profiles::open(dir.path()).unwrap();
        assert_eq!(profiles.load(MODULE, 1, &registry).unwrap().engine(WINCH).unwrap().execute.count(), 1);
    }

    #[test]
    fn of_too_many_modules_those_that_ran_longest_ago_are_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let memos = Memos::of(dir.path());
        let row = [Line::Run(ObservationRow::of(&observation(1)))];
        for n in 0..20_u8 {
            let module = ModuleDigest::from_bytes([n; 32]);
            memos.add_runs(module, &row).unwrap();
            let age = std::time::Duration::from_secs(1000 - u64::from(n));
            let file = File::options().append(true).open(memos.path(module, RUNS_SUFFIX)).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        memos.forget_oldest(10).unwrap();
        assert_eq!(memos.modules_with_runs().len(), 20, "there is room for two files of each");
        memos.forget_oldest(8).unwrap();
        let mut left = memos.modules_with_runs();
        left.sort_unstable();
        assert_eq!(left, (8..20).map(|n| ModuleDigest::from_bytes([n; 32])).collect::<Vec<_>>());
    }
}
