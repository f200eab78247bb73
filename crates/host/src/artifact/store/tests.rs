use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::key::KEY_FILE;
use super::*;

const UNBOUNDED: u64 = u64::MAX;

fn engine() -> &'static Known {
    Registry::default().find("mock").unwrap()
}

fn module(i: u64) -> ModuleDigest {
    ModuleDigest::of(&i.to_le_bytes())
}

/// The size of the file of an artifact of `bytes` bytes.
fn file_bytes(bytes: usize) -> u64 {
    file::file_bytes(&vec![0; bytes], &Made::new(module(0), engine(), 0))
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir.join("artifacts")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn disk_bytes(dir: &Path) -> u64 {
    names(dir).iter().map(|name| fs::metadata(dir.join("artifacts").join(name)).map_or(0, |file| file.len())).sum()
}

fn only_file(dir: &Path) -> PathBuf {
    let names = names(dir);
    assert_eq!(names.len(), 1, "{names:?}");
    dir.join("artifacts").join(&names[0])
}

fn read(stored: &StoredArtifact) -> Vec<u8> {
    let mut bytes = vec![0; stored.artifact_bytes()];
    let mut file = stored.file().unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_saved_is_loaded_also_by_the_next_process() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    assert!(store.load(module(0), engine()).is_none());
    store.save(module(0), engine(), b"machine code", 1).unwrap();
    let again = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    assert_eq!(read(&again.load(module(0), engine()).unwrap()), b"machine code");
    again.remove(module(0), engine());
    assert!(!again.may_contain(module(0), engine()));
}

#[test]
fn a_flipped_bit_anywhere_is_never_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    store.save(module(0), engine(), b"machine code", 1).unwrap();
    let path = only_file(dir.path());
    let good = fs::read(&path).unwrap();
    assert_eq!(good.len() as u64, file_bytes(12));
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, &bad).unwrap();
        assert!(store.load(module(0), engine()).is_none(), "bit {bit}");
        assert!(store.verify().unwrap()[0].1.is_some(), "bit {bit}");
    }
    for length in 0..good.len() {
        fs::write(&path, &good[..length]).unwrap();
        assert!(store.load(module(0), engine()).is_none(), "cut to {length} bytes");
        assert!(store.verify().unwrap()[0].1.is_some(), "cut to {length} bytes");
    }
    fs::write(&path, &good).unwrap();
    assert!(store.load(module(0), engine()).is_some());
    assert_eq!(store.verify().unwrap(), [(path, None)]);
}

#[test]
fn an_artifact_is_only_good_for_what_it_was_made_for() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    store.save(module(0), engine(), b"machine code", 1).unwrap();
    fs::copy(store.path(module(0), engine()), store.path(module(1), engine())).unwrap();
    assert!(store.load(module(1), engine()).is_none());
    assert_eq!(store.verify().unwrap().iter().filter(|(_, problem)| problem.is_some()).count(), 1);
    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = ArtifactStore::open(elsewhere.path(), UNBOUNDED).unwrap();
    fs::copy(store.path(module(0), engine()), stranger.path(module(0), engine())).unwrap();
    assert!(stranger.load(module(0), engine()).is_none(), "another host's key");
    // The version stands for all of the engine's fingerprint, which has its configuration and CPU features, too.
    let mut newer = *engine();
    newer.version = "99.0.0";
    assert!(!store.may_contain(module(0), &newer));
    fs::copy(store.path(module(0), engine()), store.path(module(0), &newer)).unwrap();
    assert!(store.load(module(0), &newer).is_none(), "another version of the engine");
}

#[test]
fn bad_keys_are_named_with_a_way_out() {
    let dir = tempfile::tempdir().unwrap();
    ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    let key = dir.path().join(KEY_FILE);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let error = ArtifactStore::open(dir.path(), UNBOUNDED).err().unwrap();
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&key, b"short").unwrap();
    let error = ArtifactStore::open(dir.path(), UNBOUNDED).err().unwrap();
    assert!(error.to_string().contains("delete it"), "{error}");
}

/// Puts three artifacts of one size into a store for three; the second is dear and the third is used, so the first
/// makes room for a fourth.
#[test]
fn the_least_worthy_goes_whatever_the_clock_says_and_whoever_counted() {
    let jumps: [fn() -> Option<SystemTime>; 3] = [
        || None,
        || Some(SystemTime::UNIX_EPOCH),
        || SystemTime::now().checked_add(Duration::from_secs(1_000_000_000)),
    ];
    for (i, jump) in jumps.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        // The slack is a sixteenth of the budget: with room for it, one artifact has to go, and not two.
        let budget = 4 * file_bytes(1000) - 500;
        let open = || ArtifactStore::open(dir.path(), budget).unwrap();
        for (i, cost_ns) in [(0, 1000), (1, 5000), (2, 1000)] {
            open().save(module(i), engine(), &[0; 1000], cost_ns).unwrap();
        }
        for _ in 0..2 {
            assert!(open().load(module(2), engine()).is_some());
        }
        if let Some(time) = jump() {
            for name in names(dir.path()) {
                File::open(dir.path().join("artifacts").join(name)).unwrap().set_modified(time).unwrap();
            }
        }
        open().save(module(3), engine(), &[0; 1000], 1000).unwrap();
        let left: Vec<bool> = (0..4).map(|i| open().may_contain(module(i), engine())).collect();
        assert_eq!(left, [false, true, true, true], "jump {i}");
        let uses: u64 = open().list(&Registry::default()).unwrap().iter().map(|file| file.uses).sum();
        assert_eq!(uses, 1 + 3 + 1);
    }
}

#[test]
fn the_budget_holds_whatever_is_saved() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 10_000;
    let store = ArtifactStore::open(dir.path(), budget).unwrap();
    for i in 0..100 {
        let bytes = usize::try_from(i * 37 % 1500).unwrap();
        store.save(module(i % 40), engine(), &vec![1; bytes], i * 1000).unwrap();
        assert!(disk_bytes(dir.path()) <= budget, "after {i}");
        assert!(store.may_contain(module(i % 40), engine()), "what is new stays");
    }
    assert!(disk_bytes(dir.path()) > budget / 2, "most of it is used");
    let error = store.save(module(99), engine(), &[0; 10_000], 1).unwrap_err();
    assert!(matches!(error, StoreError::OverBudget { budget_bytes: 10_000, .. }), "{error}");
    assert!(error.to_string().contains("--artifact-disk"), "{error}");
    assert!(!store.may_contain(module(99), engine()));
}

#[test]
fn a_lost_or_damaged_index_is_begun_anew_and_the_budget_holds() {
    for damage in [None, Some(&b"certainly not a database, but long enough to pass for one"[..]), Some(b"")] {
        let dir = tempfile::tempdir().unwrap();
        let budget = 3 * file_bytes(1000);
        let store = ArtifactStore::open(dir.path(), budget).unwrap();
        for (i, cost_ns) in [(0, 3000), (1, 2000), (2, 1000)] {
            store.save(module(i), engine(), &[0; 1000], cost_ns).unwrap();
        }
        let path = store.index_path();
        match damage {
            None => fs::remove_file(&path).unwrap(),
            Some(bytes) => fs::write(&path, bytes.repeat(100)).unwrap(),
        }
        store.save(module(3), engine(), &[0; 1000], 4000).unwrap();
        assert!(disk_bytes(dir.path()) <= budget, "{damage:?}");
        // The costs stand in the files themselves.
        assert!(store.may_contain(module(0), engine()) && !store.may_contain(module(2), engine()), "{damage:?}");
        assert!(store.load(module(0), engine()).is_some());
    }
}

#[test]
fn listing_does_not_hide_from_a_new_index_what_lies_there() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 3 * file_bytes(1000);
    let store = ArtifactStore::open(dir.path(), budget).unwrap();
    for i in 0..3 {
        store.save(module(i), engine(), &[0; 1000], 1000).unwrap();
    }
    fs::remove_file(store.index_path()).unwrap();
    assert_eq!(store.list(&Registry::default()).unwrap().len(), 3);
    store.save(module(3), engine(), &[0; 1000], 1000).unwrap();
    assert!(disk_bytes(dir.path()) <= budget);
}

#[test]
fn what_a_process_only_logs_counts_for_whoever_enters_next() {
    let dir = tempfile::tempdir().unwrap();
    let budget = 3 * file_bytes(1000) + 500;
    let open = |accounts| ArtifactStore::open_with(dir.path(), budget, accounts).unwrap();
    let uses =
        || -> Vec<u64> { open(Accounts::Index).list(&Registry::default()).unwrap().iter().map(|f| f.uses).collect() };
    open(Accounts::Log).save(module(0), engine(), &[0; 1000], 1000).unwrap();
    assert!(!open(Accounts::Index).index_path().exists(), "no database was needed");
    for _ in 0..3 {
        assert!(open(Accounts::Log).load(module(0), engine()).is_some());
    }
    assert_eq!(uses(), [4]);
    assert!(!open(Accounts::Index).log_path().exists());
    assert_eq!(uses(), [4], "counted once");
    // A process that may only read counts nothing.
    assert!(open(Accounts::None).load(module(0), engine()).is_some());
    assert_eq!(uses(), [4]);
    // The budget holds, too: the artifact that was never used goes, and not the one that was.
    for i in 1..4 {
        open(Accounts::Log).save(module(i), engine(), &[0; 1000], 1000).unwrap();
        assert!(disk_bytes(dir.path()) <= budget, "after {i}");
    }
    assert!(
        open(Accounts::Log).may_contain(module(0), engine()) && open(Accounts::Log).may_contain(module(3), engine())
    );
    // Lines that nobody can read do no harm.
    fs::write(open(Accounts::None).log_path(), b"{\"loaded\":{\"name\":\"x\"}}\n\xff\xfe\n{").unwrap();
    open(Accounts::Index).list(&Registry::default()).unwrap();
    // A log that has grown too long is read in by the process that wrote the last line.
    fs::write(open(Accounts::None).log_path(), vec![b'\n'; usize::try_from(log::BYTES_MAX).unwrap()]).unwrap();
    assert!(open(Accounts::Log).load(module(3), engine()).is_some());
    assert!(!open(Accounts::None).log_path().exists());
}

#[test]
fn only_the_drafts_of_the_dead_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let open = || ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    let living = open();
    let draft = living.draft(b"machine code", &Made::new(module(0), engine(), 1)).unwrap();
    // The draft of a writer that crashed: a file without a lock.
    fs::write(dir.path().join("artifacts").join(format!("{DRAFT_PREFIX}dead")), "half").unwrap();
    assert_eq!(names(dir.path()).len(), 2);
    open().enter().unwrap();
    assert_eq!(only_file(dir.path()), draft.path());
    let made = Made::new(module(0), engine(), 1);
    living.enter().unwrap().admit(draft, &made.file_name(), file_bytes(12), 1).unwrap();
    assert!(open().load(module(0), engine()).is_some());
}

#[test]
fn what_was_opened_outlives_its_removal() {
    let dir = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    store.save(module(0), engine(), b"machine code", 1).unwrap();
    let stored = store.load(module(0), engine()).unwrap();
    let gone = store.prune(&Registry::default(), Prune { all: true, ..Prune::default() }).unwrap();
    assert_eq!(gone.len(), 1);
    assert!(names(dir.path()).is_empty());
    assert_eq!(read(&stored), b"machine code");
}

/// A file system of its own, of the size that the test asks for.
struct SmallDisk {
    dir: tempfile::TempDir,
}

impl SmallDisk {
    fn mount(bytes: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "none"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .status();
        mounted.is_ok_and(|status| status.success()).then_some(Self { dir })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.dir.path()).status();
    }
}

#[test]
fn a_full_disk_costs_an_eviction_or_the_artifact_and_leaves_nothing_half_written() {
    let Some(disk) = SmallDisk::mount(256 << 10) else {
        eprintln!("skipped: a small file system is needed, and mounting one needs privileges");
        return;
    };
    let data = disk.dir.path();
    let store = ArtifactStore::open(data, UNBOUNDED).unwrap();
    let whole = |when: &str| {
        for (path, problem) in store.verify().unwrap() {
            assert_eq!(problem, None, "{when}: {}", path.display());
        }
        assert!(!names(data).iter().any(|name| name.starts_with(DRAFT_PREFIX)), "{when}: {:?}", names(data));
    };
    // This budget is far more than the file system holds, so only the disk sets a limit.
    for i in 0..20 {
        store.save(module(i), engine(), &vec![7; 40_000], 1000).unwrap();
        whole("after an artifact that fits");
        assert_eq!(read(&store.load(module(i), engine()).unwrap()), vec![7; 40_000]);
    }
    let error = store.save(module(99), engine(), &vec![7; 300_000], 1000).unwrap_err();
    let StoreError::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    whole("after one that does not");
    assert!(store.load(module(19), engine()).is_some(), "nothing made room in vain");
    // A file that is not the store's takes the space that is left.
    store.prune(&Registry::default(), Prune { all: true, ..Prune::default() }).unwrap();
    let mut other = File::create(data.join("other")).unwrap();
    while other.write_all(&[0; 4096]).is_ok() {}
    store.save(module(0), engine(), &vec![7; 40_000], 1000).unwrap_err();
    whole("after one for which nothing could make room");
    other.set_len(0).unwrap();
    store.save(module(0), engine(), &vec![7; 40_000], 1000).unwrap();
    assert!(store.load(module(0), engine()).is_some());
}

const HAMMER_VARIABLE: &str = "REMUDA_TEST_HAMMER";
const HAMMER_BUDGET_BYTES: u64 = 60_000;

/// The work of one of several processes on one directory; each process starts from a number of its own.
fn hammer(dir: &Path, seed: u64) {
    let content = |i: u64| vec![u8::try_from(i % 251).unwrap(); usize::try_from(1 + i * 97 % 9000).unwrap()];
    let registry = Registry::default();
    for round in 0..150 {
        // The store is reopened now and then, as by a process that starts.
        let store = ArtifactStore::open(dir, HAMMER_BUDGET_BYTES).unwrap();
        for step in 0..4 {
            let i = (seed * 7 + round * 13 + step * 5) % 23;
            store.save(module(i), engine(), &content(i), 1000 * (1 + i)).unwrap();
            let i = (seed * 11 + round * 3 + step) % 23;
            if let Some(stored) = store.load(module(i), engine()) {
                assert_eq!(read(&stored), content(i), "module {i}");
            }
        }
        if round % 20 == 7 {
            store.prune(&registry, Prune { bytes_max: Some(20_000), ..Prune::default() }).unwrap();
        }
        if round % 10 == 3 {
            for (path, problem) in store.verify().unwrap() {
                assert_eq!(problem, None, "{}", path.display());
            }
        }
        if round == 10 {
            println!("under way");
        }
    }
}

/// Runs two processes to the end, and kills a third in the middle.
#[test]
fn several_processes_share_a_directory_and_one_is_killed() {
    if let Ok(task) = std::env::var(HAMMER_VARIABLE) {
        let (seed, dir) = task.split_once(' ').unwrap();
        return hammer(Path::new(dir), seed.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    // The test's path without the crate's name, as the test harness wants it.
    let (_, this_module) = module_path!().split_once("::").unwrap();
    let this_test = format!("{this_module}::several_processes_share_a_directory_and_one_is_killed");
    let start = |seed: u64| -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &this_test, "--nocapture"])
            .env(HAMMER_VARIABLE, format!("{seed} {}", dir.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let (first, second, mut doomed) = (start(1), start(2), start(3));
    let mut seen = Vec::new();
    let mut stdout = doomed.stdout.take().unwrap();
    while !String::from_utf8_lossy(&seen).contains("under way") {
        let mut byte = [0];
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "it ended: {}", String::from_utf8_lossy(&seen));
        seen.extend(byte);
    }
    doomed.kill().unwrap();
    doomed.wait().unwrap();
    for child in [first, second] {
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
    }
    let store = ArtifactStore::open(dir.path(), HAMMER_BUDGET_BYTES).unwrap();
    store.save(module(0), engine(), b"", 1).unwrap();
    assert!(disk_bytes(dir.path()) <= HAMMER_BUDGET_BYTES);
    assert!(names(dir.path()).iter().all(|name| name.ends_with(file::SUFFIX)), "{:?}", names(dir.path()));
    for (path, problem) in store.verify().unwrap() {
        assert_eq!(problem, None, "{}", path.display());
    }
}

#[test]
fn a_refusal_holds_for_a_day_and_is_swept_then() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = Refusal { reason: "slow".into(), time_max: Duration::from_secs(1), memory_bytes_max: 5 };
    let (hour, day) = (Duration::from_hours(1), Duration::from_hours(24));
    let now = SystemTime::now();
    for (made, holds) in [(now - day + hour, true), (now - day, false), (now + hour, false)] {
        let store = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
        store.refuse(module(0), engine(), &refusal).unwrap();
        assert_eq!(store.refusal(module(0), engine()), Some(refusal.clone()));
        assert_eq!(store.refusal(module(1), engine()), None);
        File::open(only_file(dir.path())).unwrap().set_modified(made).unwrap();
        assert_eq!(store.refusal(module(0), engine()), holds.then(|| refusal.clone()));
        // A note is no artifact, and the next process that adds or evicts removes an old one.
        assert!(store.list(&Registry::default()).unwrap().is_empty());
        assert_eq!(names(dir.path()).len(), usize::from(holds));
    }
    let store = ArtifactStore::open(dir.path(), UNBOUNDED).unwrap();
    store.refuse(module(0), engine(), &refusal).unwrap();
    std::fs::write(only_file(dir.path()), "{").unwrap();
    assert_eq!(store.refusal(module(0), engine()), None, "a damaged one says nothing");
}
