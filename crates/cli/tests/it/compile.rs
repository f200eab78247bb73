//! Tests of compiling in a child process: budgets must hold, compilers may die, and artifacts must be the same as
//! without a child.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::http::get;
use crate::support::{Server, guest, output, remuda, text};

const CRANELIFT: &str = "wasmtime.cranelift";

/// A module of little code that is much work for an optimizing compiler, because it must keep `locals` variables apart
/// in each of `loops` nested loops. One-pass compilers and interpreters have no trouble with it. Its command counts up
/// to `count`.
fn bomb(dir: &Path, locals: usize, loops: usize, count: u32) -> PathBuf {
    let mut module = format!(
        "(module (memory (export \"memory\") 1)
           (func (export \"_start\") (local i32)
             (loop (br_if 0 (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const {count})))))
           (func (param i32) (local{}) {}",
        " i32".repeat(locals),
        "loop ".repeat(loops)
    );
    for local in 1..=locals {
        module += &format!("(local.set {local} (i32.add (local.get {local}) (local.get 0))) ");
    }
    let targets: String = (0..loops).map(|target| format!("{target} ")).collect();
    module += &format!("(br_table {targets} (local.get 0)) {} ))", "end ".repeat(loops));
    let path = dir.join("bomb.wat");
    fs::write(&path, module).unwrap();
    path
}

/// A module that no machine compiles within the tests' budgets.
fn big_bomb(dir: &Path, count: u32) -> PathBuf {
    bomb(dir, 1000, 1000, count)
}

/// Runs a module, and returns its output with the messages, and the exit code.
fn run(data: &Path, engine: &str, options: &[&str], module: &Path) -> (String, Option<i32>) {
    let mut command = remuda();
    command.env("REMUDA_LOG", "remuda_host::artifact::compile=debug,error").args([
        "run",
        "--engine",
        engine,
        "--data-dir",
    ]);
    let out = output(command.arg(data).args(options).arg(module), b"");
    (text(&out.stdout) + &text(&out.stderr), out.status.code())
}

/// The files that note which engines were set aside.
fn refusals(data: &Path) -> Vec<String> {
    let Ok(files) = fs::read_dir(data.join("artifacts")) else { return Vec::new() };
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".refused")).collect()
}

#[test]
fn a_compile_is_stopped_at_its_budgets_and_not_tried_again() {
    for (budget, said) in [
        (["--compile-timeout", "300ms"], "it took longer than its budget of 300ms"),
        (["--compile-memory", "48MiB"], "it needed more memory than its budget of 48.0 MiB"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let module = big_bomb(dir.path(), 1);
        let (first, code) = run(dir.path(), CRANELIFT, &budget, &module);
        assert!(code == Some(1) && first.contains(said) && first.contains(budget[0]), "{first}");
        assert!(first.contains("compiling in a child"), "{first}");
        let notes = refusals(dir.path());
        assert!(notes.len() == 1 && notes[0].contains(CRANELIFT), "{notes:?}");

        let (second, code) = run(dir.path(), CRANELIFT, &budget, &module);
        assert!(code == Some(1) && second.contains(said) && second.contains("less than a day ago"), "{second}");
        assert!(!second.contains("compiling in a child"), "{second}");

        let pruned = output(remuda().args(["cache", "prune", "--all", "--data-dir"]).arg(dir.path()), b"");
        assert!(pruned.status.success() && refusals(dir.path()).is_empty());
    }
}

#[test]
fn another_engine_answers_where_one_is_over_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let module = big_bomb(dir.path(), 200_000_000);
    let (said, code) = run(dir.path(), "auto", &["--compile-timeout", "100ms", "--explain"], &module);
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains(&format!("engine       {CRANELIFT}")), "{said}");
}

/// A server with a function for which an optimizing compiler would pay, if it ever finished.
fn serve_bomb(settings: &str) -> (Server, TempDir) {
    serve_bomb_on(&["wasmtime.winch", CRANELIFT], settings)
}

fn serve_bomb_on(engines: &[&str], settings: &str) -> (Server, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    // Compiling it takes long, but little memory.
    let module = bomb(dir.path(), 400, 400, 100_000_000);
    let manifest =
        format!("[server]\n{settings}\n[[function]]\nname = \"bomb\"\nmodule = {module:?}\nengines = {engines:?}");
    (Server::start(&manifest, &[]), dir)
}

/// Far more answers than are needed until the compile pays.
const ANSWERS_MAX: usize = 1000;

/// Sends requests until `done` returns something. Each must be answered, and never by Cranelift.
fn answer_until<T>(server: &Server, mut done: impl FnMut() -> Option<T>) -> T {
    for _ in 0..ANSWERS_MAX {
        let response = get(&server.address, "/bomb");
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.header("x-remuda-engine"), Some("wasmtime.winch"));
        if let Some(done) = done() {
            return done;
        }
    }
    panic!("{ANSWERS_MAX} answers, and still not done")
}

#[test]
fn a_server_answers_while_a_compile_runs_into_its_budget() {
    let (server, _module) = serve_bomb("compile_timeout = \"500ms\"");
    let data = server.data_dir();
    let note = answer_until(&server, || refusals(&data).pop());
    assert!(note.contains(CRANELIFT), "{note}");
    assert!(children(server.pid()).is_empty(), "it was ended and waited for");
    answer_until(&server, || Some(()));
    server.terminate();
    assert!(server.wait().success());
}

#[test]
fn a_server_s_budget_holds_for_a_function_that_has_only_one_engine() {
    let (server, _module) = serve_bomb_on(&[CRANELIFT], "compile_timeout = \"300ms\"");
    let response = get(&server.address, "/bomb");
    assert_eq!(response.status, 500, "{}", response.text());
    let notes = refusals(&server.data_dir());
    assert!(notes.len() == 1 && notes[0].contains(CRANELIFT), "{notes:?}");
    server.terminate();
    assert!(server.wait().success());
}

#[test]
fn a_compiler_that_is_killed_harms_nobody() {
    let (server, _module) = serve_bomb("");
    let child = answer_until(&server, || children(server.pid()).pop());
    kill_process(child, Signal::KILL).unwrap();
    answer_until(&server, || children(server.pid()).is_empty().then_some(()));
    answer_until(&server, || Some(()));
    // The death may have been bad luck, so nothing is noted: the next process may try again.
    assert!(refusals(&server.data_dir()).is_empty());
    server.terminate();
    assert!(server.wait().success());
}

/// The children of a process, that is, the compilers that it has started.
fn children(parent: u32) -> Vec<Pid> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{parent}/task")).unwrap() {
        // A thread may have ended meanwhile.
        let pids = fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
        children.extend(pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)));
    }
    children
}

fn is_gone(pid: Pid) -> bool {
    // The state stands after the name in parentheses. A zombie has ended, and only waits for its parent to read its
    // exit status.
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])))
}

#[test]
fn a_compiler_does_not_outlive_who_wants_its_artifact() {
    let dir = tempfile::tempdir().unwrap();
    let module = big_bomb(dir.path(), 1);
    let mut parent = remuda()
        .args(["run", "--no-data", "--engine", CRANELIFT])
        .arg(module)
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let child = loop {
        if let Some(child) = children(parent.id()).pop()
            // As its first step, a compiler arranges to die with its parent. Once it has raised its score, that is
            // done.
            && fs::read_to_string(format!("/proc/{}/oom_score_adj", child.as_raw_nonzero()))
                .is_ok_and(|score| score.trim() == "1000")
        {
            break child;
        }
        std::thread::yield_now();
    };
    // Before it looks at the module, it gives up all system calls but those of a computation.
    let status =
        || fs::read_to_string(format!("/proc/{}/status", child.as_raw_nonzero())).expect("it compiles for long");
    while !status().contains("Seccomp:\t2") {
        std::thread::yield_now();
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    while !is_gone(child) {
        std::thread::yield_now();
    }
}

/// The artifact in an artifact's file: the part before the file's trailer (see the store's format).
fn artifact(file: &[u8]) -> &[u8] {
    let (rest, _magic) = file.split_last_chunk::<8>().expect("a trailer");
    let (_, length) = rest.split_last_chunk::<8>().expect("a trailer");
    &file[..usize::try_from(u64::from_le_bytes(*length)).unwrap()]
}

#[test]
fn a_child_makes_the_same_artifact_as_the_process_itself() {
    for engine in ["wasmtime.winch", "wasmer.singlepass", CRANELIFT] {
        for path in [guest("hello/hello.wasm"), guest("canny/canny.wasm")] {
            let data = tempfile::tempdir().unwrap();
            // Without a picture, canny fails, but it is compiled all the same.
            let (said, _) = run(data.path(), engine, &[], &path);
            assert!(!said.contains("compiling in a child"), "{engine}: {said}");
            let file = fs::read_dir(data.path().join("artifacts")).unwrap().next().unwrap().unwrap();
            let here = fs::read(file.path()).unwrap();

            let input = [&[7; 32], &*fs::read(&path).unwrap()].concat();
            let out = output(remuda().args(["compile-child", engine]), &input);
            assert!(out.status.success(), "{engine}: {}", text(&out.stderr));
            assert!(artifact(&out.stdout) == artifact(&here), "{engine} makes another artifact in a child");
            // The MACs differ, because the child got another key than the store's.
            assert_ne!(out.stdout[out.stdout.len() - 48..], here[here.len() - 48..]);
        }
    }
}

#[test]
fn what_a_child_has_compiled_runs_is_kept_and_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    // This is enough code to be compiled in a child, and it is soon done.
    let optimizing = bomb(dir.path(), 100, 100, 1);
    let baseline = dir.path().join("long.wat");
    let mut long = fs::File::create(&baseline).unwrap();
    write!(long, "(module (func (export \"_start\")) (func {}))", "(drop (i32.const 1000000))".repeat(120_000))
        .unwrap();
    for (engine, module) in [("wasmtime.winch", &baseline), ("wasmer.singlepass", &baseline), (CRANELIFT, &optimizing)]
    {
        let data = tempfile::tempdir().unwrap();
        for (artifact, in_child) in [("absent", true), ("on disk", false)] {
            let (said, code) = run(data.path(), engine, &["--explain", "--compile-memory", "100MiB"], module);
            assert_eq!(code, Some(0), "{engine}: {said}");
            assert_eq!(said.contains("compiling in a child"), in_child, "{engine}: {said}");
            assert!(said.contains(&format!("artifact     {artifact}")), "{engine}: {said}");
        }
    }
}

#[test]
fn a_child_without_a_parent_says_so_and_options_that_make_no_sense_are_refused() {
    let out = output(remuda().args(["compile-child", CRANELIFT]), b"too short for a key");
    assert!(!out.status.success() && out.stdout.is_empty());
    let out = output(remuda().args(["compile-child", "v8"]), &[0; 40]);
    assert!(text(&out.stderr).contains("there is no engine named \"v8\""), "{}", text(&out.stderr));
    let out = output(remuda().args(["run", "--compile-memory", "1MB", "x.wasm"]), b"");
    assert!(text(&out.stderr).contains("does not start with less than 32.0 MiB"), "{}", text(&out.stderr));
    let help = output(Command::new(env!("CARGO_BIN_EXE_remuda")).arg("--help"), b"");
    assert!(!text(&help.stdout).contains("compile-child"));
}
