//! Tests of the command line: which words are options and which the guest's arguments, and which module is run.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use super::{Written, run, seen, typed};
use crate::support::{ENGINES, guest, output, remuda, text};

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
fn everything_after_the_module_is_the_guest_s() {
    let args = guest("args/args.wasm");
    let args = args.to_str().unwrap();
    for (line, printed) in [
        (&[args, "--help"][..], &["--help"][..]),
        (&[args, "-h"], &["-h"]),
        (&[args, "--version"], &["--version"]),
        (&[args, "--env", "A=B"], &["--env", "A=B"]),
        (&[args, "--timeout", "5"], &["--timeout", "5"]),
        (&[args, "--explain"], &["--explain"]),
        (&[args, "-W", "help"], &["-W", "help"]),
        (&[args, "--invoke", "x"], &["--invoke", "x"]),
        (&[args, "--bogus"], &["--bogus"]),
        (&[args, "--", "--help"], &["--", "--help"]),
        (&["--", args, "--help"], &["--help"]),
        (&["--", args, "--", "x"], &["--", "x"]),
        (&[args, "--", "--", "x"], &["--", "--", "x"]),
        (&[args, "", " "], &["", " "]),
        (&[args, "x", "--engine", "none"], &["x", "--engine", "none"]),
    ] {
        let expected: String = printed.iter().enumerate().map(|(i, arg)| format!("arg {}: {arg}\n", i + 1)).collect();
        assert_eq!(seen(&typed(line)), (Some(0), expected, String::new()), "{line:?}");
    }
}

#[test]
fn options_that_nobody_knows_and_a_missing_module_are_misuse() {
    let noop = guest("noop/noop.wasm");
    for (line, complaint) in [
        (&["--bogus", noop.to_str().unwrap()][..], "unexpected argument '--bogus'"),
        (&[], "MODULE"),
        (&["--invoke"], "--invoke <NAME>"),
    ] {
        let (code, _, message) = seen(&typed(line));
        assert_eq!(code, Some(2), "{line:?}: {message}");
        assert!(message.contains(complaint), "{line:?}: {message}");
    }
}

#[test]
fn a_guest_s_own_name_is_its_file_s_unless_it_is_given_another() {
    let args = guest("args/args.wasm");
    let folder = args.parent().unwrap().display();
    let detour = format!("{folder}/../args/./args.wasm");
    for (line, name) in [
        (&[args.to_str().unwrap(), "--program"][..], "args.wasm"),
        (&[&detour, "--program"], "args.wasm"),
        (&["--argv0", "me and you", args.to_str().unwrap(), "--program"], "me and you"),
    ] {
        let (code, printed, message) = seen(&typed(line));
        assert_eq!((code, printed), (Some(0), format!("arg 0: {name}\narg 1: --program\n")), "{line:?}: {message}");
    }
}

#[test]
fn a_module_may_come_from_standard_input() {
    let module = std::fs::read(guest("args/args.wasm")).unwrap();
    let printed = "arg 0: -\narg 1: --program\narg 2: a\n";
    let piped = output(remuda().args(["run", "--no-data", "-", "--program", "a"]), &module);
    assert_eq!(seen(&piped), (Some(0), printed.into(), String::new()));
    let file = std::fs::File::open(guest("args/args.wasm")).unwrap();
    let from_file = remuda().args(["run", "--no-data", "-", "--program", "a"]).stdin(file).output().unwrap();
    assert_eq!(seen(&from_file), (Some(0), printed.into(), String::new()));

    // The module may be in the text format, too. Nothing of standard input is left for the guest to read.
    let cat = copies();
    let text = output(remuda().args(["run", "--no-data", "-"]), cat.as_bytes());
    assert_eq!(seen(&text), (Some(0), String::new(), String::new()));
}

/// A guest in the text format that copies its input to its output. A comment stands before the module, as it may.
fn copies() -> &'static str {
    r#"
    ;; Copies.
    (module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1)
      (data (i32.const 0) "\10\00\00\00\00\01\00\00")
      (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
}

/// `wasmtime run` refuses a file whose name is not UTF-8, unless --argv0 gives the guest another name.
#[test]
fn names_need_not_be_utf8_but_a_guest_s_words_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(OsStr::from_bytes(b"\xff.wasm"));
    std::fs::copy(guest("args/args.wasm"), &path).unwrap();
    for (options, name) in [(&[][..], "\u{fffd}.wasm"), (&["--argv0", "x"], "x")] {
        let line: Vec<OsString> =
            options.iter().map(OsString::from).chain([path.clone().into(), "--program".into()]).collect();
        let (code, printed, message) = seen(&typed(&line));
        assert_eq!((code, printed), (Some(0), format!("arg 0: {name}\narg 1: --program\n")), "{options:?}: {message}");
    }
    let args = guest("args/args.wasm");
    let (code, printed, message) = seen(&typed(&[args.as_os_str(), OsStr::new("a"), OsStr::from_bytes(b"x\xffy")]));
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{message}");
    assert!(message.contains("argument 2 of the guest is not UTF-8"), "{message}");
    let (code, _, message) = seen(&typed(&[OsStr::new("--env"), OsStr::from_bytes(b"A=\xff"), args.as_os_str()]));
    assert_eq!(code, Some(2), "{message}");
}

/// Cargo starts the program that `CARGO_TARGET_WASM32_WASIP1_RUNNER` names in the package's folder, with Cargo's own
/// variables. The arguments are the built file's path and the words of `cargo run -- ...` or `cargo test -- ...`.
#[test]
fn cargo_can_run_what_it_builds() {
    let module = guest("args/args.wasm");
    let (folder, file) = (module.parent().unwrap(), module.file_name().unwrap());
    let runner = "run --no-data --dir .";
    let mut command = remuda();
    command
        .current_dir(folder)
        .env("CARGO_TARGET_WASM32_WASIP1_RUNNER", "remuda run")
        .env("CARGO_MANIFEST_DIR", folder)
        .args(runner.split(' '))
        .arg(file)
        .args(["some_test", "--nocapture", "--test-threads=1", "--exact"]);
    let (code, printed, message) = seen(&output(&mut command, b""));
    assert_eq!(code, Some(0), "{message}");
    let words = "arg 1: some_test\narg 2: --nocapture\narg 3: --test-threads=1\narg 4: --exact\n";
    assert_eq!(printed, format!("{words}preopen 3: .\n"), "{message}");
    // The exit code of a failing test binary must reach Cargo.
    let out = output(remuda().current_dir(folder).args(runner.split(' ')).arg(file).args(["--exit", "101"]), b"");
    assert_eq!(out.status.code(), Some(101));
}

#[test]
fn what_is_no_module_is_said_plainly() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("module.wasm");
    for (bytes, complaint) in [
        (&b"#!/bin/sh"[..], "not a WebAssembly module"),
        (b"", "not a WebAssembly module"),
        (b"\0asm\x01\0\0\0\x0a", "not a valid WebAssembly module"),
        (b"\0asm\x0d\0\x01\0\x0a", "not a valid WebAssembly module"),
        (b"\x7fELF\x02\x01\x01", "machine code that another program compiled"),
        (b"(module (fun))", "expected"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        for options in [&[][..], &["--allow-precompiled"], &["--invoke", "f()"]] {
            let (code, printed, message) = seen(&run("auto", options, &file, &[], b""));
            assert_eq!((code, printed.as_str()), (Some(1), ""), "{message}");
            assert!(message.contains(complaint), "{message}");
        }
    }
    for (path, complaint) in [(dir.path().join("nowhere.wasm"), "nowhere.wasm"), (dir.path().into(), "directory")] {
        let (code, _, message) = seen(&run("auto", &[], &path, &[], b""));
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains(complaint), "{message}");
    }
    let out = run("wasmtime", &[], &guest("noop/noop.wasm"), &[], b"");
    assert!(text(&out.stderr).contains("known engines are"), "{}", text(&out.stderr));
}

#[test]
fn an_import_that_nobody_provides_is_named_and_nothing_runs() {
    let module = Written::new(
        &super::with_lines(r#"(func (export "_start") (call $main))"#)
            .replace(r#"(memory (export "memory") 1)"#, r#"(import "env" "puts" (func)) (memory (export "memory") 1)"#),
    );
    let (code, printed, message) = seen(&typed(&[module.text()]));
    assert_eq!((code, printed.as_str()), (Some(1), ""), "{message}");
    assert!(message.contains("\"env\" \"puts\""), "{message}");
}

#[test]
fn options_that_cannot_be_carried_out_are_named_with_a_way_out() {
    let noop = guest("noop/noop.wasm");
    let noop = noop.to_str().unwrap();
    for (options, complaint) in [
        (&["--preload", "env=lib.wasm"][..], "for '--preload"),
        (&["--profile", "guest"], "for '--profile"),
        (&["--profile=perfmap"], "for '--profile"),
        (&["-g", "1234"], "for '--gdbstub"),
        (&["--gdbstub", "localhost:1234"], "for '--gdbstub"),
        (&["-R", "path=trace"], "for '--record"),
        (&["--target", "riscv64gc-unknown-linux-gnu"], "only compiled for the machine that runs it"),
    ] {
        let line: Vec<&str> = options.iter().copied().chain([noop]).collect();
        let (code, _, message) = seen(&typed(&line));
        assert_eq!(code, Some(2), "{line:?}: {message}");
        assert!(message.contains(complaint), "{line:?}: {message}");
    }
    let here = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    for options in [&["--allow-precompiled"][..], &["--target", &here]] {
        let line: Vec<&str> = options.iter().copied().chain([noop]).collect();
        assert_eq!(seen(&typed(&line)), (Some(0), String::new(), String::new()), "{line:?}");
    }
}
