//! Tests of WASI's preview 0, which old toolchains import as `wasi_unstable`.

use super::{Written, run, seen};
use crate::support::engines;

/// A guest that checks where preview 0 differs from preview 1: origins of `fd_seek` (0 is the current position, 2 the
/// beginning), file attributes (the size stands at 24), and subscriptions (a clock has a number of its own). It exits
/// with the number of the first check that fails, or with 42.
const DIFFERENCES: &str = r#"(module
  (import "wasi_unstable" "path_open" (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_unstable" "fd_seek" (func $seek (param i32 i64 i32 i32) (result i32)))
  (import "wasi_unstable" "fd_filestat_get" (func $stat (param i32 i32) (result i32)))
  (import "wasi_unstable" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_unstable" "sock_send" (func $send (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 1024) "hello.txt")
  (func $must (param $ok i32) (param $number i32)
    (if (i32.eqz (local.get $ok)) (then (call $exit (local.get $number)))))
  (func (export "_start")
    (call $must (i32.eqz (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 9) (i32.const 0)
      (i64.const 0x200026) (i64.const 0) (i32.const 0) (i32.const 0))) (i32.const 1))
    ;; From the end, and then one back from there.
    (call $must (i32.eqz (call $seek (i32.load (i32.const 0)) (i64.const -5) (i32.const 1) (i32.const 8))) (i32.const 2))
    (call $must (i64.eq (i64.load (i32.const 8)) (i64.const 8)) (i32.const 3))
    (call $must (i32.eqz (call $seek (i32.load (i32.const 0)) (i64.const -1) (i32.const 0) (i32.const 8))) (i32.const 4))
    (call $must (i64.eq (i64.load (i32.const 8)) (i64.const 7)) (i32.const 5))
    (call $must (i32.eqz (call $seek (i32.load (i32.const 0)) (i64.const 7) (i32.const 2) (i32.const 8))) (i32.const 6))
    (call $must (i64.eq (i64.load (i32.const 8)) (i64.const 7)) (i32.const 7))
    (call $must (i32.eqz (call $stat (i32.load (i32.const 0)) (i32.const 64))) (i32.const 8))
    (call $must (i64.eq (i64.load (i32.const 88)) (i64.const 13)) (i32.const 9))
    (call $must (i32.eq (i32.load (i32.const 84)) (i32.const 1)) (i32.const 10))
    ;; What is left of the file goes to standard output.
    (i32.store (i32.const 16) (i32.const 2048)) (i32.store (i32.const 20) (i32.const 100))
    (call $must (i32.eqz (call $read (i32.load (i32.const 0)) (i32.const 16) (i32.const 1) (i32.const 24))) (i32.const 11))
    (i32.store (i32.const 20) (i32.load (i32.const 24)))
    (call $must (i32.eqz (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))) (i32.const 12))
    ;; A millisecond alone, and beside a file.
    (i64.store (i32.const 256) (i64.const 7))
    (i64.store (i32.const 272) (i64.const 99)) (i32.store (i32.const 280) (i32.const 1))
    (i64.store (i32.const 288) (i64.const 1000000))
    (call $must (i32.eqz (call $poll (i32.const 256) (i32.const 512) (i32.const 1) (i32.const 640))) (i32.const 13))
    (call $must (i32.eq (i32.load (i32.const 640)) (i32.const 1)) (i32.const 14))
    (call $must (i64.eq (i64.load (i32.const 512)) (i64.const 7)) (i32.const 15))
    (i64.store (i32.const 312) (i64.const 8)) (i32.store8 (i32.const 320) (i32.const 2))
    (i32.store (i32.const 328) (i32.const 1))
    (call $must (i32.eqz (call $poll (i32.const 256) (i32.const 512) (i32.const 2) (i32.const 640))) (i32.const 16))
    (call $must (i64.eq (i64.load (i32.const 512)) (i64.const 8)) (i32.const 17))
    (call $must (i64.eq (i64.load (i32.const 272)) (i64.const 99)) (i32.const 18))
    (call $must (i32.eqz (call $random (i32.const 4096) (i32.const 64))) (i32.const 19))
    ;; No socket, but no trap either.
    (call $must (call $send (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 0) (i32.const 24)) (i32.const 20))
    (call $exit (i32.const 42))))"#;

#[test]
fn the_functions_are_those_of_preview_0_on_every_engine() {
    let module = Written::new(DIFFERENCES);
    std::fs::write(module.dir.path().join("hello.txt"), "hello, world\n").unwrap();
    let folder = format!("{}::/", module.dir.path().display());
    for engine in engines().iter().copied() {
        for options in [&["--dir", &folder][..], &["--dir", &folder, "-S", "preview0"]] {
            let out = run(engine, options, &module.path, &[], b"");
            assert_eq!(seen(&out), (Some(42), "world\n".into(), String::new()), "{engine}");
        }
        let (code, printed, message) =
            seen(&run(engine, &["--dir", &folder, "-S", "preview0=n"], &module.path, &[], b""));
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{engine}: {message}");
        assert!(message.contains("wasi_unstable"), "{engine}: {message}");
    }
}

/// Both previews share the guest's files: a file that is opened through one preview can be used through the other.
#[test]
fn both_previews_may_be_imported_at_once() {
    let module = Written::new(
        r#"(module
            (import "wasi_unstable" "fd_seek" (func $seek_0 (param i32 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "fd_seek" (func $seek_1 (param i32 i64 i32 i32) (result i32)))
            (import "wasi_snapshot_preview1" "path_open"
                (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
            (import "wasi_unstable" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1)
            (data (i32.const 1024) "module.wat")
            (func (export "_start")
                (drop (call $open (i32.const 3) (i32.const 0) (i32.const 1024) (i32.const 10) (i32.const 0)
                    (i64.const 0x26) (i64.const 0) (i32.const 0) (i32.const 0)))
                ;; 2 is the beginning in preview 0, and the end in preview 1.
                (drop (call $seek_0 (i32.load (i32.const 0)) (i64.const 20) (i32.const 2) (i32.const 8)))
                ;; 1 is the end in preview 0, and the current position in preview 1.
                (drop (call $seek_1 (i32.load (i32.const 0)) (i64.const 3) (i32.const 1) (i32.const 8)))
                (call $exit (i32.load (i32.const 8)))))"#,
    );
    for engine in engines().iter().copied() {
        let folder = format!("{}::/", module.dir.path().display());
        let out = run(engine, &["--dir", &folder], &module.path, &[], b"");
        assert_eq!(seen(&out), (Some(23), String::new(), String::new()), "{engine}");
    }
}
