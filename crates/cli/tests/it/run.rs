//! `remuda run`: a drop-in for a runtime's `run`.

use std::path::Path;

use crate::support::{ENGINES, guest, output, remuda, text};

/// Runs a guest on an engine and keeps nothing.
fn run(engine: &str, options: &[&str], module: &Path, args: &[&str], stdin: &[u8]) -> std::process::Output {
    output(remuda().args(["run", "--no-data", "--engine", engine]).args(options).arg(module).args(args), stdin)
}

#[test]
fn streams_arguments_and_exit_code_pass_through() {
    for engine in ENGINES {
        let out = run(engine, &[], &guest("cat/cat.wasm"), &[], b"line\n\0\xff");
        assert_eq!((out.stdout.as_slice(), out.status.code()), (&b"line\n\0\xff"[..], Some(0)), "{engine}");
        let out = run(engine, &["--env", "A=b c"], &guest("args/args.wasm"), &["--exit", "77", "-x", "--help"], b"");
        let lines = text(&out.stdout);
        assert_eq!(out.status.code(), Some(77), "{engine}: {lines}");
        for line in ["-x", "--help", "A=b c"] {
            assert!(lines.lines().any(|found| found.contains(line)), "{engine}: {lines}");
        }
    }
}

#[test]
fn nothing_is_inherited_that_was_not_granted() {
    for engine in ENGINES {
        let mut command = remuda();
        command
            .env("SECRET_OF_THE_HOST", "1")
            .args(["run", "--no-data", "--engine", engine])
            .arg(guest("args/args.wasm"));
        let out = output(&mut command, b"");
        assert!(!text(&out.stdout).contains("SECRET_OF_THE_HOST"), "{engine}: {}", text(&out.stdout));
    }
}

#[test]
fn exports_are_called_with_numbers() {
    let noop = guest("noop/noop.wasm");
    for engine in ENGINES {
        for (name, args, printed) in [
            ("add", &["2", "3"][..], "5\n"),
            ("add", &["-1", "0xffffffff"], "-2\n"),
            ("addl", &["9223372036854775807", "1"], "-9223372036854775808\n"),
            ("mulf", &["1.5", "-4"], "-6\n"),
            ("halff", &["3"], "1.5\n"),
            ("nothing", &[], ""),
        ] {
            let out = run(engine, &["--invoke", name], &noop, args, b"");
            assert_eq!(text(&out.stdout), printed, "{engine}: {name} {args:?}: {}", text(&out.stderr));
        }
        for (name, args, complaint) in [
            ("add", &["1"][..], "takes 2 arguments, and 1 are given"),
            ("add", &["1", "x"], "argument 2 of add: \"x\" is no i32"),
            ("sub", &[], "exports no function named \"sub\"; it exports "),
        ] {
            let out = run(engine, &["--invoke", name], &noop, args, b"");
            assert_eq!(out.status.code(), Some(1));
            assert!(text(&out.stderr).contains(complaint), "{engine}: {}", text(&out.stderr));
        }
        // A reactor is initialised before its export is called.
        let out = run(engine, &["--invoke", "sum"], &guest("reactor/reactor.wasm"), &["10"], b"");
        assert_eq!(out.status.code(), Some(0), "{engine}: {}", text(&out.stderr));
        assert!(!out.stdout.is_empty());
    }
}

#[test]
fn folders_are_seen_if_granted_and_written_if_granted_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.txt"), "content").unwrap();
    let module = dir.path().join("files.wat");
    // Opens "in.txt" or makes "out.txt" in the first granted folder, and exits with the errno.
    let open = |name: &str, oflags: u32, rights: u64| {
        format!(
            r#"(module
                (import "wasi_snapshot_preview1" "path_open"
                    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
                (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
                (memory (export "memory") 1)
                (data (i32.const 100) "{name}")
                (func (export "_start")
                    (call $exit (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const {})
                        (i32.const {oflags}) (i64.const {rights}) (i64.const {rights}) (i32.const 0) (i32.const 0)))))"#,
            name.len()
        )
    };
    const CREAT: u32 = 1;
    const FD_READ: u64 = 1 << 1;
    const FD_WRITE: u64 = 1 << 6;
    let granted = dir.path().display().to_string();
    let writable = format!("{granted}::/d::rw");
    for engine in ENGINES {
        for (options, name, oflags, rights, errno) in [
            (&["--dir", granted.as_str()][..], "in.txt", 0, FD_READ, 0),
            (&[], "in.txt", 0, FD_READ, 8), // badf: nothing was granted
            (&["--dir", &granted], "out.txt", CREAT, FD_WRITE, 63), // perm
            (&["--dir", &writable], "out.txt", CREAT, FD_WRITE, 0),
            (&["--dir", &granted], "../etc/passwd", 0, FD_READ, 63), // perm: outside the folder
            (&["--dir", &granted], "/etc/passwd", 0, FD_READ, 63),
            (&["--dir", &granted], "missing", 0, FD_READ, 44), // noent
        ] {
            std::fs::write(&module, open(name, oflags, rights)).unwrap();
            let _ = std::fs::remove_file(dir.path().join("out.txt"));
            let out = run(engine, options, &module, &[], b"");
            assert_eq!(out.status.code(), Some(errno), "{engine}: {options:?} {name}: {}", text(&out.stderr));
            let made = dir.path().join("out.txt").exists();
            assert_eq!(made, oflags == CREAT && errno == 0, "{engine}: {options:?} {name}");
        }
    }
}

#[test]
fn limits_stop_a_guest_with_a_word_about_the_option() {
    for engine in ENGINES {
        let out = run(engine, &["--timeout", "100ms"], &guest("spin/spin.wasm"), &[], b"");
        assert_eq!(out.status.code(), Some(124), "{engine}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("was stopped after --timeout 100ms"), "{}", text(&out.stderr));
        let out = run(engine, &["--timeout", "100ms"], &guest("sleep/sleep.wasm"), &["3600000"], b"");
        assert_eq!(out.status.code(), Some(124), "{engine}: {}", text(&out.stderr));
        let out = run(engine, &["--max-memory", "64KiB"], &guest("cat/cat.wasm"), &[], b"");
        assert_eq!(out.status.code(), Some(134), "{engine}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("--max-memory"), "{}", text(&out.stderr));
        // A guest that is refused memory and can live with it, does.
        let out = run(engine, &["--max-memory", "1MiB"], &guest("grow/grow.wasm"), &["1000"], b"");
        assert_eq!(out.status.code(), Some(0), "{engine}: {}", text(&out.stderr));
        let pages: u32 = text(&out.stdout).split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!(pages < 16, "{engine}: {pages}");
    }
}

#[test]
fn what_is_no_module_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("module.wasm");
    for (bytes, complaint) in [
        (&b"#!/bin/sh"[..], "not a WebAssembly module"),
        (b"", "not a WebAssembly module"),
        (b"\0asm\x01\0\0\0\x0a", "not a valid WebAssembly module"),
        (b"\0asm\x0d\0\x01\0", "this is a component"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let out = run("auto", &[], &file, &[], b"");
        assert_eq!(out.status.code(), Some(1));
        assert!(text(&out.stderr).contains(complaint), "{}", text(&out.stderr));
    }
    let out = run("auto", &[], &dir.path().join("nowhere.wasm"), &[], b"");
    assert!(text(&out.stderr).contains("nowhere.wasm"), "{}", text(&out.stderr));
    let out = run("wasmtime", &[], &guest("noop/noop.wasm"), &[], b"");
    assert!(text(&out.stderr).contains("known engines are"), "{}", text(&out.stderr));
}

#[test]
fn an_engine_that_lacks_a_proposal_is_never_chosen_and_says_so_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("tail.wat");
    std::fs::write(
        &module,
        r#"(module (memory (export "memory") 1)
            (func $loop (param i32) (if (local.get 0) (then (return_call $loop (i32.sub (local.get 0) (i32.const 1))))))
            (func (export "_start") (call $loop (i32.const 1000000))))"#,
    )
    .unwrap();
    let out = run("wasmtime.winch", &[], &module, &[], b"");
    let message = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1));
    assert!(message.contains("wasmtime.winch lacks tail-call") && message.contains("wasmtime.cranelift"), "{message}");
    for engine in ["auto", "wasmtime.cranelift", "wasmi.lazy"] {
        let out = run(engine, &[], &module, &[], b"");
        assert_eq!(out.status.code(), Some(0), "{engine}: {}", text(&out.stderr));
    }
}

/// Runs with a data directory and returns what `--explain` says.
fn explain(data: &Path, engine: &str, module: &Path) -> String {
    let mut command = remuda();
    command.args(["run", "--explain", "--engine", engine, "--data-dir"]).arg(data).arg(module);
    let out = output(&mut command, b"");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    text(&out.stderr)
}

#[test]
fn artifacts_are_kept_and_damaged_ones_are_compiled_anew() {
    let hello = guest("hello/hello.wasm");
    for engine in ["wasmtime.winch", "wasmer.singlepass", "wasmtime.cranelift"] {
        let data = tempfile::tempdir().unwrap();
        assert!(explain(data.path(), engine, &hello).contains("artifact     absent"));
        let second = explain(data.path(), engine, &hello);
        assert!(second.contains("artifact     on disk"), "{second}");
        let files: Vec<_> = std::fs::read_dir(data.path().join("artifacts")).unwrap().collect();
        assert_eq!(files.len(), 1);
        let file = files[0].as_ref().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let third = explain(data.path(), engine, &hello);
        assert!(third.contains("artifact     absent"), "{third}");
        assert!(explain(data.path(), engine, &hello).contains("artifact     on disk"));
    }
}

#[test]
fn auto_begins_with_what_begins_first_and_then_goes_by_what_it_has_measured() {
    let data = tempfile::tempdir().unwrap();
    let hello = guest("hello/hello.wasm");
    let first = explain(data.path(), "auto", &hello);
    assert!(first.contains("can begin in"), "{first}");
    let mut command = remuda();
    let out = output(command.args(["explain", "--data-dir"]).arg(data.path()).arg(&hello), b"");
    let explained = text(&out.stdout);
    assert!(explained.contains("1 observed"), "{explained}");
}
