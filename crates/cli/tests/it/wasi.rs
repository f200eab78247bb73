//! The WASI suite. Its guests check every function of preview 1 from inside, on every engine. The test checks from
//! outside whether anything beside their granted folders was read, made, changed or removed.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use serde::Deserialize;
use tempfile::TempDir;

use crate::support::{engines, guest, output, run_on, text};

/// The content of a `guest.toml` of this suite.
#[derive(Deserialize)]
struct Guest {
    name: String,
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Clone, Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    args: Vec<String>,
    #[serde(default)]
    env: Vec<String>,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
    exit_code: Option<i32>,
    trap: Option<String>,
    /// The number of files that the whole host process may hold open.
    open_files_max: Option<u32>,
    #[serde(default)]
    dir: Vec<Dir>,
}

/// A folder made for a case and granted to its guest.
#[derive(Clone, Deserialize)]
struct Dir {
    name: String,
    #[serde(default)]
    writable: bool,
    /// A folder whose files are copied into it at the beginning, relative to the guest's folder.
    files: Option<PathBuf>,
    #[serde(default)]
    dirs: Vec<String>,
    /// Symbolic links: targets by name. `@root` stands for the folder that holds the granted folders and the canary.
    #[serde(default)]
    links: BTreeMap<String, String>,
    #[serde(default)]
    fifos: Vec<String>,
}

struct Task {
    engine: &'static str,
    folder: PathBuf,
    module: PathBuf,
    case: Case,
}

#[test]
fn every_wasi_guest_on_every_engine_checks_the_host_and_touches_nothing_else() {
    let tasks = tasks();
    assert!(tasks.len() >= 12 * engines().len(), "only {} cases were found", tasks.len());
    run_all(&tasks, |task| {
        let label = format!("{} {} on {}", task.module.display(), task.case.name, task.engine);
        check(task).map_err(|failure| format!("{label}: {failure}"))
    });
}

/// Codes from 126 on are not reserved either. A code that no process can exit with becomes a failure with a message.
#[test]
fn every_exit_code_passes_through_every_engine() {
    let module = guest("wasi/exit/exit.wasm");
    // Of the codes that do not fit a byte, only a sample is tested.
    let codes: Vec<u32> = (0..=256).chain([1 << 16, 0x1234_5678, u32::MAX >> 1, 1 << 31, u32::MAX]).collect();
    let tasks: Vec<_> = engines().iter().flat_map(|engine| codes.iter().map(move |code| (*engine, *code))).collect();
    run_all(&tasks, |(engine, code)| {
        let mut command = run_on(engine);
        command.arg(&module).arg(code.to_string());
        let out = output(&mut command, b"");
        let fits = u8::try_from(*code).is_ok();
        let expected = u8::try_from(*code).unwrap_or(1);
        if out.status.code() == Some(expected.into()) && out.stderr.is_empty() == fits {
            return Ok(());
        }
        Err(format!("{engine}: code {code} is {}, and it says {:?}", out.status, text(&out.stderr)))
    });
}

/// Checks all tasks on all cores and fails with every failure.
fn run_all<T: Sync>(tasks: &[T], check: impl Fn(&T) -> Result<(), String> + Sync) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = check(task) {
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), tasks.len(), failures.join("\n"));
}

fn tasks() -> Vec<Task> {
    let mut tasks = Vec::new();
    for entry in fs::read_dir(guest("wasi")).unwrap() {
        let folder = entry.unwrap().path();
        let manifest = folder.join("guest.toml");
        if !manifest.exists() {
            continue;
        }
        let parsed: Guest = toml::from_str(&fs::read_to_string(&manifest).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
        let module = folder.join(format!("{}.wasm", parsed.name));
        assert!(module.exists() && !parsed.case.is_empty(), "{} is not built or has no case", module.display());
        for engine in engines().iter().copied() {
            for case in &parsed.case {
                tasks.push(Task { engine, folder: folder.clone(), module: module.clone(), case: case.clone() });
            }
        }
    }
    tasks
}

fn check(task: &Task) -> Result<(), String> {
    let ground = Ground::new(task);
    let read = |path: &PathBuf| fs::read(task.folder.join(path)).unwrap();
    let expected = task.case.stdout.as_ref().map(read).unwrap_or_default();
    let (code, stdout, stderr) = match task.case.trap.as_deref() {
        None => {
            let input = task.case.stdin.as_ref().map(read).unwrap_or_default();
            let out = output(&mut command(task, &ground, Duration::from_mins(2)), &input);
            (out.status.code(), out.stdout, text(&out.stderr))
        }
        Some(kind) => {
            assert_eq!(kind, "interrupted", "no other trap is known here");
            stop_while_waiting(task, &ground, &expected)
        }
    };
    if stdout != expected {
        return Err(format!("{}; it ends with {code:?} and says {stderr:?}", first_difference(&stdout, &expected)));
    }
    let expected_code = task.case.exit_code.unwrap_or(EXIT_TIMED_OUT);
    if code != Some(expected_code) {
        return Err(format!("it ends with {code:?}, not with {expected_code}; it says {stderr:?}"));
    }
    ground.check()
}

/// The exit code of `remuda run --timeout` if the guest was stopped.
const EXIT_TIMED_OUT: i32 = 124;

fn command(task: &Task, ground: &Ground, timeout: Duration) -> Command {
    let mut command = run_on(task.engine);
    if let Some(max) = task.case.open_files_max {
        let run = command;
        command = Command::new("sh");
        command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &max.to_string()]);
        command.arg(run.get_program()).args(run.get_args());
    }
    command.arg("--timeout").arg(format!("{}ms", timeout.as_millis()));
    for variable in &task.case.env {
        command.arg("--env").arg(variable);
    }
    for dir in &task.case.dir {
        let access = if dir.writable { "rw" } else { "ro" };
        command.arg("--dir").arg(format!("{}::/{}::{access}", ground.path(&dir.name).display(), dir.name));
    }
    command.arg(&task.module).args(&task.case.args);
    command
}

/// Lets a guest wait with its standard input open and silent until its time is up. If the guest was stopped before it
/// began to wait, it gets more time in another run, so that in the end its wait is what is stopped.
fn stop_while_waiting(task: &Task, ground: &Ground, expected: &[u8]) -> (Option<i32>, Vec<u8>, String) {
    let mut timeout = Duration::from_millis(50);
    loop {
        let mut child = command(task, ground, timeout)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let silent = child.stdin.take();
        let out = child.wait_with_output().expect("it ends");
        drop(silent);
        timeout *= 2;
        if out.stdout == expected || timeout > Duration::from_secs(30) {
            return (out.status.code(), out.stdout, text(&out.stderr));
        }
    }
}

fn first_difference(found: &[u8], expected: &[u8]) -> String {
    let (found, expected) = (text(found), text(expected));
    let failed: Vec<_> = found.lines().filter(|line| line.starts_with("FAIL")).collect();
    if !failed.is_empty() {
        return format!("{} checks fail: {}", failed.len(), failed.join("; "));
    }
    let mut lines = found.lines().zip(expected.lines());
    match lines.find(|(found, expected)| found != expected) {
        Some((found, expected)) => format!("the output says {found:?} instead of {expected:?}"),
        None => format!("the output has {} lines instead of {}", found.lines().count(), expected.lines().count()),
    }
}

/// A fresh folder with the granted folders in it, and a canary (a secret file) beside them.
struct Ground {
    root: TempDir,
    /// The folders that are granted read-only, and their state at the beginning.
    kept: Vec<(PathBuf, BTreeMap<PathBuf, Seen>)>,
    listing: Vec<PathBuf>,
}

const CANARY: &str = "canary/secret.txt";
const SECRET: &str = "known to the host alone\n";

impl Ground {
    fn new(task: &Task) -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("canary")).unwrap();
        fs::write(root.path().join(CANARY), SECRET).unwrap();
        let mut kept = Vec::new();
        for dir in &task.case.dir {
            let path = root.path().join(&dir.name);
            furnish(dir, &path, task, root.path());
            if !dir.writable {
                let seen = look(&path);
                kept.push((path, seen));
            }
        }
        for path in [CANARY, "canary"] {
            File::open(root.path().join(path)).unwrap().set_times(canary_times()).unwrap();
        }
        let listing = list(root.path());
        Self { root, kept, listing }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Checks that everything but the writable folders is as it was.
    fn check(&self) -> Result<(), String> {
        let secret = fs::metadata(self.path(CANARY)).map_err(|error| format!("the canary is gone: {error}"))?;
        // The time of access is checked first, because reading the content changes it.
        if secret.accessed().unwrap() != canary_accessed() {
            return Err("the canary was read".to_owned());
        }
        let folder = fs::metadata(self.path("canary")).unwrap();
        if [&secret, &folder].iter().any(|found| found.modified().unwrap() != canary_modified()) || secret.nlink() != 1
        {
            return Err("the canary was touched".to_owned());
        }
        if fs::read(self.path(CANARY)).unwrap() != SECRET.as_bytes() {
            return Err("the canary was written".to_owned());
        }
        if list(self.root.path()) != self.listing {
            return Err(format!("beside the granted folders there is now {:?}", list(self.root.path())));
        }
        for (path, before) in &self.kept {
            let after = look(path);
            if after != *before {
                return Err(format!("a folder granted for reading was changed: {before:?} became {after:?}"));
            }
        }
        Ok(())
    }
}

/// Times that are long past, with the access before the change. With these, a file system records the next access even
/// if it is mounted with `relatime`, that is, so that it records few of them.
fn canary_times() -> FileTimes {
    FileTimes::new().set_accessed(canary_accessed()).set_modified(canary_modified())
}

fn canary_accessed() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)
}

fn canary_modified() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_100_000_000)
}

fn furnish(dir: &Dir, path: &Path, task: &Task, root: &Path) {
    match &dir.files {
        Some(files) => copy(&task.folder.join(files), path),
        None => fs::create_dir(path).unwrap(),
    }
    for name in &dir.dirs {
        fs::create_dir(path.join(name)).unwrap();
    }
    for (name, target) in &dir.links {
        symlink(target.replace("@root", &root.display().to_string()), path.join(name)).unwrap();
    }
    for name in &dir.fifos {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path.join(name), rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// The state of a file: its metadata, and its content.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    mode: u32,
    links: u64,
    modified: SystemTime,
    content: Vec<u8>,
}

/// The state of a folder and of everything below it, by path.
fn look(folder: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    let mut paths = vec![folder.to_owned()];
    while let Some(path) = paths.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = if metadata.is_dir() {
            paths.extend(list(&path));
            Vec::new()
        } else if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        let modified = metadata.modified().unwrap();
        seen.insert(path, Seen { mode: metadata.mode(), links: metadata.nlink(), modified, content });
    }
    seen
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
