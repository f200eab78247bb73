//! Tests of standard input: nothing is read that the guest does not read, and files are read to their end.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use super::{Written, seen};
use crate::support::{ENGINES, guest, output, remuda, text};

const ENGINES_AND_AUTO: [&str; 5] = ["auto", "wasmi.lazy", "wasmtime.winch", "wasmer.singlepass", "wasmtime.cranelift"];

/// A guest that reads once, at most `bytes` bytes, and writes what it got.
fn reads(bytes: u32) -> Written {
    Written::new(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (local $errno i32)
                (i32.store (i32.const 0) (i32.const 256))
                (i32.store (i32.const 4) (i32.const {bytes}))
                (local.set $errno (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
                (if (local.get $errno) (then (call $exit (local.get $errno))))
                (i32.store (i32.const 4) (i32.load (i32.const 8)))
                (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#
    ))
}

/// Runs a script in a shell, and returns what it prints. `$REMUDA` runs a module on an engine and keeps nothing, and
/// `$LINES_FILE` is a file of three lines.
fn shell(engine: &str, script: &str, arguments: &[&std::path::Path]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let lines = dir.path().join("lines");
    std::fs::write(&lines, "one\ntwo\nthree\n").unwrap();
    let program = remuda();
    let mut command = Command::new("sh");
    command
        .args(["-eu", "-c", script, "sh"])
        .args(arguments)
        .env("REMUDA", format!("{} run --no-data --engine {engine}", program.get_program().display()))
        .env("LINES_FILE", lines);
    let out = output(&mut command, b"");
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()), "{engine}: {script}");
    text(&out.stdout)
}

#[test]
fn a_loop_over_lines_goes_through_all_of_them() {
    let noop = guest("noop/noop.wasm");
    for engine in ENGINES_AND_AUTO {
        for script in [
            r#"while read line; do $REMUDA "$1"; echo "got $line"; done < "$LINES_FILE""#,
            r#"cat "$LINES_FILE" | while read line; do $REMUDA "$1"; echo "got $line"; done"#,
        ] {
            assert_eq!(shell(engine, script, &[&noop]), "got one\ngot two\ngot three\n", "{engine}: {script}");
        }
    }
}

#[test]
fn what_the_guest_leaves_is_there_for_the_next() {
    let (cat, two) = (guest("cat/cat.wasm"), reads(2));
    for engine in ENGINES_AND_AUTO {
        for (script, printed) in [
            (r#"($REMUDA "$2"; echo; cat) < "$LINES_FILE""#, "on\ne\ntwo\nthree\n"),
            (r#"cat "$LINES_FILE" | ($REMUDA "$2"; echo; cat)"#, "on\ne\ntwo\nthree\n"),
            (r#"($REMUDA "$2"; $REMUDA "$2"; $REMUDA "$2"; echo; cat) < "$LINES_FILE""#, "one\ntw\no\nthree\n"),
            (r#"(read line; $REMUDA "$1"; echo "after $line"; cat) < "$LINES_FILE""#, "two\nthree\nafter one\n"),
            (r#"cat "$LINES_FILE" | (read line; $REMUDA "$1"; echo "after $line"; cat)"#, "two\nthree\nafter one\n"),
        ] {
            assert_eq!(shell(engine, script, &[&cat, &two.path]), printed, "{engine}: {script}");
        }
    }
}

#[test]
fn files_of_every_kind_are_read_to_their_end() {
    let cat = guest("cat/cat.wasm");
    let dir = tempfile::tempdir().unwrap();
    let large = dir.path().join("large");
    // The file is larger than one read returns, and its size is no multiple of a page.
    let bytes: Vec<u8> = (0..5_000_011_u32).map(|i| (i % 251) as u8).collect();
    std::fs::write(&large, &bytes).unwrap();
    let read = |file: File, engine: &str| {
        let out = remuda().args(["run", "--no-data", "--engine", engine]).arg(&cat).stdin(file).output().unwrap();
        assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()), "{engine}");
        out.stdout
    };
    for engine in ENGINES_AND_AUTO {
        assert!(read(File::open(&large).unwrap(), engine) == bytes, "{engine}");
        assert_eq!(read(File::open("/dev/null").unwrap(), engine), b"", "{engine}");
        // The kernel generates this file while it is read, and says that it is empty.
        assert_eq!(
            text(&read(File::open("/proc/version").unwrap(), engine)),
            std::fs::read_to_string("/proc/version").unwrap()
        );
        assert!(
            output(remuda().args(["run", "--no-data", "--engine", engine]).arg(&cat), &bytes).stdout == bytes,
            "{engine}"
        );
    }
}

#[test]
fn what_cannot_be_read_is_an_errno() {
    let two = reads(2);
    let dir = tempfile::tempdir().unwrap();
    let written_only = File::create(dir.path().join("new")).unwrap();
    let out = remuda().args(["run", "--no-data"]).arg(&two.path).stdin(written_only).output().unwrap();
    let (code, printed, message) = seen(&out);
    assert!(code.is_some_and(|errno| (1..=76).contains(&errno)), "{code:?} {message}");
    assert_eq!(printed, "");
}

/// The guest runs on the process's only thread, and its reading does too: the first line has been read when the threads
/// are counted.
#[test]
fn reading_starts_no_thread() {
    for engine in ENGINES {
        // An earlier run compiles the module, so that the run below does not.
        let data = tempfile::tempdir().unwrap();
        let line = |command: &mut Command| {
            let out = output(
                command
                    .args(["run", "--no-background-compile", "--data-dir"])
                    .arg(data.path())
                    .args(["--engine", engine])
                    .arg(guest("cat/cat.wasm")),
                b"first\n",
            );
            assert_eq!(text(&out.stdout), "first\n", "{engine}: {}", text(&out.stderr));
        };
        line(&mut remuda());
        let mut child = remuda()
            .args(["run", "--no-background-compile", "--data-dir"])
            .arg(data.path())
            .args(["--engine", engine])
            .arg(guest("cat/cat.wasm"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdin.write_all(b"first\n").unwrap();
        let mut first = String::new();
        stdout.read_line(&mut first).unwrap();
        let threads: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", child.id()))
            .unwrap()
            .map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap())
            .collect();
        drop(stdin);
        let mut rest = String::new();
        stdout.read_to_string(&mut rest).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!((first.as_str(), rest.as_str()), ("first\n", ""), "{engine}");
        assert_eq!(threads.len(), 1, "{engine}: {threads:?}");
    }
}

#[test]
fn a_guest_that_waits_for_input_is_stopped_in_time() {
    for engine in ENGINES {
        let mut child = remuda()
            .args(["run", "--no-data", "--timeout", "50ms", "--engine", engine])
            .arg(guest("cat/cat.wasm"))
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let silent = child.stdin.take();
        let out = child.wait_with_output().unwrap();
        drop(silent);
        assert_eq!(out.status.code(), Some(124), "{engine}: {}", text(&out.stderr));
    }
}

/// A guest that waits for input and for a clock. It exits with 10 for input, 20 for the clock, and 30 for both.
fn polls(clock_ns: u64) -> Written {
    Written::new(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (local $i i32) (local $sum i32)
                ;; Input, by its number 7.
                (i64.store (i32.const 0) (i64.const 7))
                (i32.store8 (i32.const 8) (i32.const 1))
                (i32.store (i32.const 16) (i32.const 0))
                ;; The monotonic clock, by its number 8.
                (i64.store (i32.const 48) (i64.const 8))
                (i32.store8 (i32.const 56) (i32.const 0))
                (i32.store (i32.const 64) (i32.const 1))
                (i64.store (i32.const 72) (i64.const {clock_ns}))
                (if (call $poll (i32.const 0) (i32.const 256) (i32.const 2) (i32.const 512)) (then (call $exit (i32.const 99))))
                (block $done (loop $next
                    (br_if $done (i32.eq (local.get $i) (i32.load (i32.const 512))))
                    (local.set $sum (i32.add (local.get $sum)
                        ;; Numbers and types of events belong together: 7 and 1, 8 and 0.
                        (if (result i32) (i64.eq
                                (i64.load (i32.add (i32.const 256) (i32.mul (local.get $i) (i32.const 32))))
                                (i64.sub (i64.const 8) (i64.load8_u (i32.add (i32.const 266) (i32.mul (local.get $i) (i32.const 32))))))
                            (then (select (i32.const 10) (i32.const 20)
                                (i32.load8_u (i32.add (i32.const 266) (i32.mul (local.get $i) (i32.const 32))))))
                            (else (i32.const 50)))))
                    (local.set $i (i32.add (local.get $i) (i32.const 1)))
                    (br $next)))
                (call $exit (local.get $sum))))"#
    ))
}

const HOUR_NS: u64 = 3_600_000_000_000;

#[test]
fn a_guest_may_wait_for_input_and_a_clock_at_once() {
    let (an_hour, a_moment) = (polls(HOUR_NS), polls(1_000_000));
    for engine in ENGINES_AND_AUTO {
        let run = |module: &Written, stdin: Stdio| {
            let mut command = remuda();
            let out = command.args(["run", "--no-data", "--engine", engine]).arg(&module.path).stdin(stdin).output();
            seen(&out.unwrap())
        };
        let pipe = |bytes: &[u8]| -> (OwnedFd, std::io::PipeWriter) {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(bytes).unwrap();
            (reader.into(), writer)
        };
        let (reader, writer) = pipe(b"x");
        assert_eq!(run(&an_hour, reader.into()).0, Some(10), "{engine}: there is input");
        drop(writer);
        let (reader, writer) = pipe(b"");
        drop(writer);
        assert_eq!(run(&an_hour, reader.into()).0, Some(10), "{engine}: the end is input");
        let (reader, writer) = pipe(b"");
        assert_eq!(run(&a_moment, reader.into()).0, Some(20), "{engine}: nothing comes");
        drop(writer);
        assert_eq!(run(&an_hour, File::open(&an_hour.path).unwrap().into()).0, Some(10), "{engine}: a file");
        assert_eq!(run(&an_hour, Stdio::null()).0, Some(10), "{engine}: nothing is an end, too");
    }
}

#[test]
fn a_guest_that_waits_for_input_and_a_clock_is_stopped_in_time() {
    let an_hour = polls(HOUR_NS);
    for engine in ENGINES {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut command = remuda();
        command.args(["run", "--no-data", "--timeout", "50ms", "--engine", engine]).arg(&an_hour.path).stdin(reader);
        let (code, _, message) = seen(&command.output().unwrap());
        drop(writer);
        assert_eq!(code, Some(124), "{engine}: {message}");
    }
}
