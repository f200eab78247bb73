//! Tests of what a guest is granted: folders, variables and streams.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;

use super::{Written, run, seen, typed};
use crate::support::{engines, guest, output, remuda, text};

#[test]
fn nothing_is_inherited_that_was_not_granted() {
    for engine in engines().iter().copied() {
        let mut command = remuda();
        command
            .env("SECRET_OF_THE_HOST", "1")
            .args(["run", "--no-data", "--engine", engine])
            .arg(guest("args/args.wasm"));
        let out = output(&mut command, b"");
        assert!(!text(&out.stdout).contains("SECRET_OF_THE_HOST"), "{engine}: {}", text(&out.stdout));
    }
}

/// The guest prints its variables in sorted order.
#[test]
fn variables_are_set_or_taken_from_ours() {
    let args = guest("args/args.wasm");
    for (options, printed) in [
        (&["--env", "A=b c"][..], "env: A=b c\n"),
        (&["--env", "A="], "env: A=\n"),
        (&["--env", "A=1=2"], "env: A=1=2\n"),
        (&["--env=A=1"], "env: A=1\n"),
        (&["--env", "=x"], "env: =x\n"),
        (&["--env", "A=1", "--env", "A=2"], "env: A=1\nenv: A=2\n"),
        (&["--env", "OURS"], "env: OURS=o\n"),
        (&["--env", "OURS", "--env", "NOT_OURS"], "env: OURS=o\n"),
        (&["--env", "NOT_OURS"], ""),
        (&["--env", "EMPTY"], "env: EMPTY=\n"),
        (&["-S", "inherit-env"], "env: EMPTY=\nenv: OURS=o\n"),
        (&["-S", "inherit-env=y", "--env", "OURS=p"], "env: EMPTY=\nenv: OURS=o\nenv: OURS=p\n"),
        (&["-S", "inherit-env=n"], ""),
        (&["-S", "inherit-env=y", "-S", "inherit-env=n"], ""),
    ] {
        let mut command = remuda();
        command.env_clear().env("OURS", "o").env("EMPTY", "").args(["run", "--no-data"]).args(options).arg(&args);
        assert_eq!(seen(&output(&mut command, b"")), (Some(0), printed.into(), String::new()), "{options:?}");
    }
    for options in [&["--env", "ODD"][..], &["-S", "inherit-env"]] {
        let mut command = remuda();
        command.env_clear().env("ODD", OsStr::from_bytes(b"\xff")).args(["run", "--no-data"]).args(options).arg(&args);
        let (code, printed, message) = seen(&output(&mut command, b""));
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{options:?}: {message}");
        assert!(message.contains("ODD") && message.contains("not UTF-8"), "{options:?}: {message}");
    }
}

#[test]
fn streams_that_are_not_inherited_are_empty_and_lead_nowhere() {
    let cat = guest("cat/cat.wasm");
    let cat = cat.to_str().unwrap();
    let trap = Written::new(r#"(module (func (export "_start") unreachable))"#);
    for engine in engines().iter().copied() {
        for (options, printed) in [
            ("inherit-stdin", "in"),
            ("inherit-stdin=y,inherit-stdout=y,inherit-stderr=y", "in"),
            ("inherit-stdin=n", ""),
            ("inherit-stdout=n", ""),
            ("inherit-stderr=n", "in"),
        ] {
            let out = output(remuda().args(["run", "--no-data", "--engine", engine, "-S", options, cat]), b"in");
            assert_eq!(seen(&out), (Some(0), printed.into(), String::new()), "{engine} {options}");
        }
        // The option silences only the guest: our own error message is still printed.
        let (code, _, message) = seen(&run(engine, &["-S", "inherit-stderr=n"], &trap.path, &[], b""));
        assert_eq!((code, message.is_empty()), (Some(134), false), "{engine}");
    }
}

/// In contrast, `wasmtime run` lets a guest write in every folder that it may open.
#[test]
fn folders_are_seen_if_granted_and_written_if_granted_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("in.txt"), "content").unwrap();
    let module = dir.path().join("files.wat");
    // The guest opens or makes the file `name` in the first granted folder, and exits with the errno.
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
    for engine in engines().iter().copied() {
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
fn folders_have_the_names_that_they_are_given() {
    let args = guest("args/args.wasm");
    let dir = tempfile::tempdir().unwrap();
    let host = dir.path().to_str().unwrap();
    let (named, unnamed, written) = (format!("{host}::/x"), format!("{host}::"), format!("{host}::/x::rw"));
    for (options, printed) in [
        (&["--dir", host][..], format!("preopen 3: {host}\n")),
        (&["--dir", &named], "preopen 3: /x\n".into()),
        (&["--dir", &written], "preopen 3: /x\n".into()),
        (&["--dir", &unnamed], "preopen 3: \n".into()),
        (&["--dir", &named, "--dir", host], format!("preopen 3: /x\npreopen 4: {host}\n")),
    ] {
        let line: Vec<&str> = options.iter().copied().chain([args.to_str().unwrap()]).collect();
        assert_eq!(seen(&typed(&line)), (Some(0), printed, String::new()), "{options:?}");
    }
    for (dir, complaint) in [("/nonexistent/folder", "/nonexistent/folder"), ("::x", "--dir"), ("", "--dir")] {
        let (code, printed, message) = seen(&typed(&["--dir", dir, args.to_str().unwrap()]));
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{dir:?}: {message}");
        assert!(message.contains(complaint), "{dir:?}: {message}");
    }
}
