//! Tests of how a run ends: exit codes, traps and limits.

use super::{Written, run, seen, typed, with_lines};
use crate::support::{engines, guest, says_trap, text};

fn exits_with(code: i64) -> Written {
    Written::new(&format!(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (func (export "_start") (call $exit (i32.const {code})))
            (func (export "f") (result i32) (call $exit (i32.const {code})) (i32.const 9)))"#
    ))
}

/// `wasmtime run` turns every code above 125 into 1. Here, every code that a process can exit with is kept.
#[test]
fn exit_codes_are_the_guest_s_and_never_become_success() {
    for code in [0, 1, 2, 77, 101, 125, 126, 127, 128, 134, 200, 255] {
        let module = exits_with(code);
        for options in [&[][..], &["--invoke", "f"]] {
            let found = seen(&run("auto", options, &module.path, &[], b""));
            assert_eq!(found, (i32::try_from(code).ok(), String::new(), String::new()), "{options:?}");
        }
    }
    for code in [256, 300, 512, 65_536, i64::from(i32::MAX), -1, -128, -256, i64::from(i32::MIN)] {
        let module = exits_with(code);
        for engine in engines().iter().copied() {
            let (found, printed, message) = seen(&run(engine, &[], &module.path, &[], b""));
            assert_eq!((found, printed.as_str()), (Some(1), ""), "{engine} {code}: {message}");
            assert!(
                message.contains(&format!("exited with code {code}, and a process can only exit with 0 to 255")),
                "{message}"
            );
        }
    }
}

/// The message differs from that of `wasmtime run`. The exit code is the same, and both print on standard error only.
#[test]
fn a_trap_ends_with_134_and_says_which() {
    for (body, kind) in [
        ("unreachable", "unreachable"),
        ("(drop (i32.load (i32.const 10000000)))", "memory_out_of_bounds"),
        ("(drop (i32.div_s (i32.const 1) (i32.const 0)))", "integer_division_by_zero"),
        ("(call $f)", "stack_exhausted"),
        ("(call_indirect (i32.const 0))", "indirect_call_to_null"),
    ] {
        for place in [r#"(export "_start")"#, r#"(export "_initialize")"#, r#"(export "")"#, ""] {
            let start = if place.is_empty() { "(start $f)" } else { "" };
            let module = Written::new(&format!(
                r#"(module (memory (export "memory") 1) (table 1 funcref) (func $f {place} {body}) {start})"#
            ));
            for engine in engines().iter().copied() {
                let (code, printed, message) = seen(&run(engine, &[], &module.path, &[], b""));
                assert_eq!((code, printed.as_str()), (Some(134), ""), "{engine} {place} {body}: {message}");
                assert!(says_trap(engine, &message, kind), "{engine} {place} {body}: {message}");
            }
        }
    }
    // The output from before the trap is there.
    let module = Written::new(&with_lines(r#"(func (export "_start") (call $main) unreachable)"#));
    for engine in engines().iter().copied() {
        let (code, printed, _) = seen(&run(engine, &[], &module.path, &[], b""));
        assert_eq!((code, printed.as_str()), (Some(134), "main\n"), "{engine}");
    }
}

#[test]
fn limits_stop_a_guest_with_a_word_about_the_option() {
    for engine in engines().iter().copied() {
        let out = run(engine, &["--timeout", "100ms"], &guest("spin/spin.wasm"), &[], b"");
        assert_eq!(out.status.code(), Some(124), "{engine}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("was stopped after --timeout 100ms"), "{}", text(&out.stderr));
        let out = run(engine, &["--timeout", "100ms"], &guest("sleep/sleep.wasm"), &["3600000"], b"");
        assert_eq!(out.status.code(), Some(124), "{engine}: {}", text(&out.stderr));
        let out = run(engine, &["--max-memory", "64KiB"], &guest("cat/cat.wasm"), &[], b"");
        assert_eq!(out.status.code(), Some(134), "{engine}: {}", text(&out.stderr));
        assert!(text(&out.stderr).contains("--max-memory"), "{}", text(&out.stderr));
        // A guest that is refused memory may go on.
        let out = run(engine, &["--max-memory", "1MiB"], &guest("grow/grow.wasm"), &["1000"], b"");
        assert_eq!(out.status.code(), Some(0), "{engine}: {}", text(&out.stderr));
        let pages: u32 = text(&out.stdout).split_whitespace().find_map(|word| word.parse().ok()).unwrap();
        assert!(pages < 16, "{engine}: {pages}");
    }
}

/// The reader of a guest's output may close the pipe early.
#[test]
fn a_reader_that_goes_away_does_not_hang_a_guest() {
    use std::process::Stdio;
    let mut writes_for_ever = crate::support::remuda();
    let module = Written::new(&with_lines(
        r#"(func (export "_start")
            (loop $again
                (i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 5))
                (br_if $again (i32.eqz (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))))"#,
    ));
    writes_for_ever.args(["run", "--no-data"]).arg(&module.path).stdout(Stdio::piped()).stdin(Stdio::null());
    let mut child = writes_for_ever.spawn().unwrap();
    let mut first = [0; 5];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"main\n");
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_an_unknown_flag_says_is_misuse_and_not_a_trap() {
    let noop = guest("noop/noop.wasm");
    let (code, _, message) = seen(&typed(&["-W", "bogus", noop.to_str().unwrap()]));
    assert_eq!(code, Some(2), "{message}");
}
