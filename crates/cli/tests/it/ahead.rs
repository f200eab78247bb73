//! Tests of code that is compiled before a request waits for it: by `remuda compile`, and in the background after a
//! run.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use remuda_host::Finishing;
use rustix::process::{Pid, WaitOptions, getpid, set_child_subreaper, wait};
use serde_json::Value;

use crate::support::{guest, output, remuda, text};

const CRANELIFT: &str = "wasmtime.cranelift";

/// The artifacts that `remuda cache ls` lists in a data directory: engine and state.
fn artifacts(data: &Path) -> Vec<(String, String)> {
    let out = output(remuda().args(["cache", "ls", "--json", "--data-dir"]).arg(data), b"");
    let rows: Vec<Value> = serde_json::from_slice(&out.stdout).expect("it is JSON");
    let word = |row: &Value, key: &str| row[key].as_str().expect("a word").to_owned();
    rows.iter().map(|row| (word(row, "engine"), word(row, "state"))).collect()
}

/// Runs a module with a data directory, and returns what `--explain` prints.
fn explain(data: &Path, options: &[&str], module: &Path, stdin: &[u8]) -> String {
    let mut command = remuda();
    command.args(["run", "--explain", "--data-dir"]).arg(data).args(options).arg(module);
    let out = output(&mut command, stdin);
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    text(&out.stderr)
}

fn compile(data: &Path, args: &[&str], modules: &[PathBuf]) -> (String, Option<i32>) {
    let out = output(remuda().arg("compile").args(args).arg("--data-dir").arg(data).args(modules), b"");
    (text(&out.stdout) + &text(&out.stderr), out.status.code())
}

#[test]
fn what_was_compiled_ahead_is_there_for_the_first_run() {
    let data = tempfile::tempdir().unwrap();
    let modules = [guest("hello/hello.wasm"), guest("lenet/lenet.wasm")];
    let (said, code) = compile(data.path(), &[], &modules);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("compiled for wasmtime.cranelift in ").count(), 2, "{said}");
    let first = explain(data.path(), &["--engine", CRANELIFT], &modules[0], b"");
    assert!(first.contains("artifact     on disk"), "{first}");
    let (said, code) = compile(data.path(), &["--engine", "all", "--jobs", "3"], &modules);
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(said.matches("wasmtime.cranelift has its code already").count(), 2, "{said}");
    assert_eq!(said.matches("compiled for wasmtime.winch in ").count(), 2, "{said}");
}

#[test]
fn what_cannot_be_compiled_is_named_and_the_rest_is() {
    let data = tempfile::tempdir().unwrap();
    let modules = [PathBuf::from("nowhere.wasm"), guest("hello/hello.wasm")];
    let (said, code) = compile(data.path(), &[], &modules);
    assert!(code == Some(1) && said.contains("nowhere.wasm") && said.contains("hello.wasm: compiled for"), "{said}");
    for (args, complaint) in [
        (&["--engine", "wasmi.lazy"][..], "wasmi.lazy keeps no code"),
        (&["--engine", "v8"], "known engines are"),
        (&["--no-data"], "name one with --data-dir"),
    ] {
        let (said, code) = compile(data.path(), args, &modules[1..]);
        assert!(code == Some(1) && said.contains(complaint), "{args:?}: {said}");
    }
    // A module may come from standard input, in the text format.
    let out =
        output(remuda().args(["compile", "--data-dir"]).arg(data.path()).arg("-"), b"(module (func (export \"f\")))");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
}

/// The default budgets apply only if another engine could run the module instead.
#[test]
fn a_module_that_only_one_engine_can_run_is_compiled_whatever_it_takes() {
    let data = tempfile::tempdir().unwrap();
    let module = data.path().join("gc.wat");
    // Only Cranelift has garbage collection. The module is so large that it is compiled in a child.
    let body = "(drop (struct.get $s 0 (struct.new $s (i32.const 7))))".repeat(60);
    let functions = format!("(func {body})").repeat(200);
    let text = format!("(module (type $s (struct (field i32))) (func (export \"_start\")) {functions})");
    std::fs::write(&module, text).unwrap();
    let run = |options: &[&str]| {
        let mut command = remuda();
        command.args(["run", "--data-dir"]).arg(data.path()).args(options).arg(&module);
        let out = output(&mut command, b"");
        (out.status.code(), self::text(&out.stderr))
    };
    let (code, said) = run(&["--compile-timeout", "1ms"]);
    assert!(code == Some(1) && said.contains("longer than its budget of 1ms"), "{said}");
    // The note about the failure holds only for that budget. Without a budget, the compile is tried again.
    assert_eq!(run(&[]), (Some(0), String::new()));
}

const ORPHANS_VARIABLE: &str = "REMUDA_TEST_ORPHANS";

/// The test runs in a process of its own. That becomes the parent of processes that a run leaves behind, and waits for
/// them.
#[test]
fn a_run_leaves_better_code_behind_for_the_next() {
    let name = "ahead::a_run_leaves_better_code_behind_for_the_next";
    if std::env::var_os(ORPHANS_VARIABLE).is_none() {
        let own = std::env::current_exe().unwrap();
        let out = Command::new(own).args(["--exact", name, "--nocapture"]).env(ORPHANS_VARIABLE, "1").output().unwrap();
        assert!(out.status.success(), "{}", text(&out.stdout) + &text(&out.stderr));
        return;
    }
    set_child_subreaper(Some(getpid())).unwrap();
    let orphans = || -> Vec<Pid> {
        std::iter::from_fn(|| wait(WaitOptions::empty()).ok().flatten().map(|(pid, _)| pid)).collect()
    };
    let mut digit = Vec::new();
    std::fs::File::open(guest("lenet/input/digit.pgm")).unwrap().read_to_end(&mut digit).unwrap();
    let lenet = guest("lenet/lenet.wasm");

    let switched_off = tempfile::tempdir().unwrap();
    for options in [&["--no-background-compile"][..], &["--engine", "wasmi.lazy"]] {
        explain(switched_off.path(), options, &lenet, &digit);
        assert_eq!(orphans(), [], "{options:?}");
    }

    let data = tempfile::tempdir().unwrap();
    // Each run makes one engine ready in the background, until nothing is left to do.
    let mut runs = 0;
    loop {
        explain(data.path(), &[], &lenet, &digit);
        runs += 1;
        // A short first run starts no compile, whether or not one would pay.
        if orphans().is_empty() && runs > 2 {
            break;
        }
        assert!(runs < 10, "{:?}", artifacts(data.path()));
    }
    assert!(artifacts(data.path()).contains(&(CRANELIFT.to_owned(), "ok".to_owned())), "{:?}", artifacts(data.path()));
    let last = explain(data.path(), &[], &lenet, &digit);
    assert!(last.contains("artifact     on disk"), "{last}");
}

#[test]
fn what_is_being_compiled_in_the_background_is_listed() {
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("artifacts")).unwrap();
    let finishing = Finishing { pid: 4711, module: "ab".repeat(32), engine: CRANELIFT.to_owned(), since_unix_ms: 1 };
    let list = || text(&output(remuda().args(["cache", "ls", "--data-dir"]).arg(data.path()), b"").stdout);
    let lock = finishing.begin(data.path()).unwrap().expect("nobody else compiles here");
    let table = list();
    assert!(
        table.contains("abababababab  wasmtime.cranelift") && table.contains("compiling by process 4711"),
        "{table}"
    );
    assert!(table.contains("0 artifacts, "), "{table}");
    assert_eq!(artifacts(data.path()), [(CRANELIFT.to_owned(), "compiling".to_owned())]);
    drop(lock);
    assert!(!list().contains("4711"), "{}", list());
}

#[test]
fn a_data_directory_that_cannot_be_used_is_said_once_and_the_guest_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    for (data, home) in [(Some(file.join("data")), None), (None, Some("/proc/nonexistent"))] {
        let mut command = remuda();
        command.arg("run");
        if let Some(data) = data {
            command.arg("--data-dir").arg(data);
        }
        if let Some(home) = home {
            command.env("HOME", home).env_remove("XDG_DATA_HOME");
        }
        let out = output(command.arg(guest("hello/hello.wasm")), b"you");
        let said = text(&out.stderr);
        assert_eq!((out.status.code(), text(&out.stdout).contains("you")), (Some(0), true), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.starts_with("warning: cannot make or write the data directory"), "{said}");
    }
    // The option overrides the variable.
    let mut command = remuda();
    command.env("REMUDA_DATA_DIR", file.join("data")).args(["run", "--no-data"]).arg(guest("hello/hello.wasm"));
    let out = output(&mut command, b"you");
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()));
}

/// A warm run of a small guest opens only the files that it needs.
#[test]
fn a_warm_run_starts_no_thread_and_opens_no_database() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("skipped: strace is not installed");
        return;
    }
    let data = tempfile::tempdir().unwrap();
    let noop = guest("noop/noop.wasm");
    let add = |command: &mut Command| {
        command.args(["run", "--no-background-compile", "--data-dir"]).arg(data.path());
        output(command.args(["--invoke", "add"]).arg(&noop).args(["1", "2"]), b"")
    };
    for _ in 0..6 {
        assert_eq!(text(&add(&mut remuda()).stdout), "3\n");
    }
    let log = data.path().join("calls");
    // On a busy machine, a run may seem long, and then another thread watches it. But that hardly happens in all of ten
    // runs.
    let is_alone = (0..10).any(|_| {
        let mut strace = Command::new("strace");
        // Cargo sets the variable, and the dynamic linker would then look in many places.
        strace.env_remove("LD_LIBRARY_PATH").args(["-f", "-e", "trace=clone,clone3,fork,vfork,openat", "-o"]).arg(&log);
        let out = add(strace.arg(env!("CARGO_BIN_EXE_remuda")));
        assert_eq!(text(&out.stdout), "3\n", "{}", text(&out.stderr));
        let calls = std::fs::read_to_string(&log).unwrap();
        assert!(calls.contains("openat(") && !calls.contains(".db"), "{calls}");
        ["clone(", "clone3(", "fork("].iter().all(|begun| !calls.contains(begun))
    });
    assert!(is_alone, "{}", std::fs::read_to_string(&log).unwrap());
}
