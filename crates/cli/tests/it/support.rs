//! Helpers for tests: the binary, a folder to run it in, and the guests of the suite.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, LazyLock};

use remuda_engine::testing;
use remuda_model::TrapKind;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

/// The engines that a default build has and that run WebAssembly.
pub(crate) const ENGINES: [&str; 4] = ["wasmi.lazy", "wasmtime.winch", "wasmer.singlepass", "wasmtime.cranelift"];

/// The engines that run components.
pub(crate) const COMPONENT_ENGINES: [&str; 2] = ["wasmtime.winch", "wasmtime.cranelift"];

/// The engines that are programs of their own.
const WORKERS: [&str; 5] = ["node.v8", "wasmer.cranelift", "wasmer.llvm", "wavm.llvm", "lucet.cranelift"];

/// The engines that take half a second or more to compile a small module.
const SLOW_COMPILERS: [&str; 2] = ["wasmer.llvm", "wavm.llvm"];

/// Whether guests of an engine run in processes of their own.
pub(crate) fn has_workers(engine: &str) -> bool {
    WORKERS.contains(&engine)
}

/// Whether an engine has functions with several results.
pub(crate) fn has_multi_value(engine: &str) -> bool {
    engine != "lucet.cranelift"
}

/// The engines of [`ENGINES`], and those that are programs of their own and installed on this machine.
pub(crate) fn engines() -> &'static [&'static str] {
    static ALL: LazyLock<Vec<&str>> = LazyLock::new(|| {
        let out = output(remuda().args(["engines", "--json"]), b"");
        let rows: serde_json::Value = serde_json::from_slice(&out.stdout).expect("it is JSON");
        let rows = rows.as_array().expect("it is a list");
        let is_here = |engine: &&str| {
            let row = rows.iter().find(|row| row["engine"] == *engine).expect("every engine is listed");
            // Who names a folder with engines wants them tested.
            assert!(std::env::var_os("REMUDA_ENGINES").is_none() || row["status"] != "broken", "{row}");
            row["status"] == "available"
        };
        ENGINES.into_iter().chain(WORKERS.into_iter().filter(is_here)).collect()
    });
    &ALL
}

/// Whether a message says that a guest trapped in this way, as far as the engine tells traps apart.
pub(crate) fn says_trap(engine: &str, message: &str, kind: &str) -> bool {
    let is_told = |kind: &str| message.contains(&format!("trapped: {kind}"));
    let same_word = |(id, actual, _): &&(&str, TrapKind, TrapKind)| (engine, kind) == (*id, actual.as_str());
    is_told(kind) || testing::ONE_WORD.iter().filter(same_word).any(|(_, _, told)| is_told(told.as_str()))
}

/// A command that runs the binary under test.
pub(crate) fn remuda() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remuda"));
    command.env_remove("REMUDA_DATA_DIR").env_remove("REMUDA_LOG").env("NO_COLOR", "1");
    command
}

/// `remuda run` on an engine. Nothing is kept; only of an engine that compiles even a small module for long, its code is,
/// so that the next run of the module has it.
pub(crate) fn run_on(engine: &str) -> Command {
    let mut command = remuda();
    command.args(["run", "--engine", engine]);
    if SLOW_COMPILERS.contains(&engine) {
        command.arg("--data-dir").arg(concat!(env!("CARGO_TARGET_TMPDIR"), "/kept"));
    } else {
        command.arg("--no-data");
    }
    command
}

/// The path of a file of the suite.
pub(crate) fn guest(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests").join(path);
    assert!(path.exists(), "{} is missing; see guests/README.md", path.display());
    path.canonicalize().expect("it exists")
}

/// Makes a component of a core module, below `folder`, with the adapter that makes WASI 0.2 of its WASI preview 1. It has
/// the module's name.
pub(crate) fn component_of(module: &Path, folder: &Path) -> PathBuf {
    let bytes = std::fs::read(module).expect("the module can be read");
    let encoded = ComponentEncoder::default()
        .module(&bytes)
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("{}: {error:#}", module.display()));
    let path = folder.join(module.file_name().expect("a module is a file"));
    std::fs::write(&path, encoded).expect("it can be written");
    path
}

/// Runs a command to its end with `stdin` as its input.
pub(crate) fn output(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut pipe = child.stdin.take().expect("it was piped");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // A guest may end without having read everything.
            let _ = pipe.write_all(stdin);
        });
        child.wait_with_output().expect("it ends")
    })
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A server in a folder of its own, stopped when it is dropped.
pub(crate) struct Server {
    child: Child,
    /// The address where it listens for HTTP, if it does.
    pub(crate) address: String,
    /// The places where it listens, as it says them itself.
    pub(crate) places: Vec<String>,
    dir: Arc<TempDir>,
}

impl Server {
    /// Serves a manifest. `@guests` in it stands for the suite's folder. Extra arguments go to `remuda serve`.
    pub(crate) fn start(manifest: &str, args: &[&str]) -> Self {
        let dir = folder(manifest);
        let path = dir.path().to_owned();
        Self::spawn(&path, args, dir)
    }

    /// Serves a folder of the project.
    pub(crate) fn start_folder(folder: &Path) -> Self {
        Self::spawn(folder, &[], tempfile::tempdir().expect("there is a temporary folder"))
    }

    fn spawn(folder: &Path, args: &[&str], dir: TempDir) -> Self {
        let mut command = remuda();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]);
        command.arg(dir.path().join("data")).args(args).arg(folder);
        Self::of(&mut command, Arc::new(dir))
    }

    /// Serves the manifest in a folder, where it says itself, and takes over from another server if there is one.
    pub(crate) fn start_in(dir: &Arc<TempDir>, predecessor: Option<&Self>) -> Self {
        let mut command = remuda();
        command.args(["serve", "--data-dir"]).arg(dir.path().join("data")).arg(dir.path());
        if let Some(predecessor) = predecessor {
            command.arg("--take-over").arg(predecessor.pid().to_string());
        }
        Self::of(&mut command, Arc::clone(dir))
    }

    /// The server that a command starts.
    pub(crate) fn of(command: &mut Command, dir: Arc<TempDir>) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the binary starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        let mut places = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            stdout.read_line(&mut line).expect("it prints text");
            let Some(place) = line.trim().strip_prefix("listening on ") else { break };
            places.push(place.to_owned());
        }
        // Further output is read and dropped, so that the server never waits while it prints.
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        assert!(!places.is_empty(), "instead of a place: {line:?}");
        let address = places.iter().find_map(|place| place.strip_prefix("http://")).unwrap_or_default().to_owned();
        Self { child, address, places, dir }
    }

    /// The server's data directory.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends SIGTERM to the server.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it still runs");
    }

    /// Waits until the server ends.
    pub(crate) fn wait(mut self) -> std::process::ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder with a manifest in it.
pub(crate) fn folder(manifest: &str) -> TempDir {
    let dir = tempfile::tempdir().expect("there is a temporary folder");
    let guests = guest(".").display().to_string();
    std::fs::write(dir.path().join("remuda.toml"), manifest.replace("@guests", &guests)).expect("it can be written");
    dir
}

/// What `remuda serve` says of a manifest that it refuses.
pub(crate) fn refused_to_serve(manifest: &str) -> String {
    let dir = folder(manifest);
    let out = output(remuda().args(["serve", "--no-data", "--listen", "127.0.0.1:0"]).arg(dir.path()), b"");
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    text(&out.stderr)
}

/// Reads a stream to its end.
pub(crate) fn drain(mut stream: impl std::io::Read) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("it can be read");
    bytes
}

/// What stands in backticks in a document, in order.
pub(crate) fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}
