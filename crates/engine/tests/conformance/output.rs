//! A guest's output is kept in order, whole or up to its cap, for each instance separately.

use remuda_model::{GuestContext, Limit, Sink, Value};

use crate::support::{End, Setup, able, compile, export, live, parse};

/// `write(fd, bytes, times)` writes the letters of the alphabet, beginning with `a` each time, and returns the sum of
/// the errnos.
const MODULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 2)
  (func (export "write") (param $fd i32) (param $bytes i32) (param $times i32) (result i32)
    (local $n i32) (local $errnos i32)
    (loop $fill
      (i32.store8 offset=64 (local.get $n) (i32.add (i32.const 97) (i32.rem_u (local.get $n) (i32.const 26))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (br_if $fill (i32.lt_u (local.get $n) (i32.const 100000))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (local.get $bytes))
    (loop $again
      (if (local.get $times) (then
        (local.set $errnos (i32.add (local.get $errnos)
          (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))))
        (local.set $times (i32.sub (local.get $times) (i32.const 1)))
        (br $again))))
    (local.get $errnos)))"#;

const OUT: i32 = 1;
const ERR: i32 = 2;

struct Case {
    fd: i32,
    bytes: i32,
    times: i32,
    sink: Sink,
    end: End,
    kept: usize,
}

const fn capture(bytes_max: u64) -> Sink {
    Sink::Capture { bytes_max }
}

const fn head(bytes_max: u64) -> Sink {
    Sink::CaptureHead { bytes_max }
}

const EXCEEDED: End = End::Exceeded(Limit::Output);

const CASES: &[Case] = &[
    Case { fd: OUT, bytes: 10, times: 3, sink: capture(1000), end: End::Returned, kept: 30 },
    Case { fd: ERR, bytes: 10, times: 3, sink: capture(1000), end: End::Returned, kept: 30 },
    Case { fd: OUT, bytes: 0, times: 5, sink: capture(0), end: End::Returned, kept: 0 },
    Case { fd: OUT, bytes: 10, times: 3, sink: capture(30), end: End::Returned, kept: 30 },
    Case { fd: OUT, bytes: 10, times: 3, sink: capture(29), end: EXCEEDED, kept: 20 },
    Case { fd: ERR, bytes: 10, times: 3, sink: capture(29), end: EXCEEDED, kept: 20 },
    Case { fd: OUT, bytes: 1, times: 1, sink: capture(0), end: EXCEEDED, kept: 0 },
    Case { fd: OUT, bytes: 65536, times: 100, sink: capture(64 * 65536), end: EXCEEDED, kept: 64 * 65536 },
    Case { fd: OUT, bytes: 65536, times: 64, sink: capture(64 * 65536), end: End::Returned, kept: 64 * 65536 },
    Case { fd: ERR, bytes: 10, times: 3, sink: head(25), end: End::Returned, kept: 25 },
    Case { fd: OUT, bytes: 10, times: 3, sink: head(0), end: End::Returned, kept: 0 },
    Case { fd: OUT, bytes: 10, times: 10_000, sink: head(7), end: End::Returned, kept: 7 },
];

#[test]
fn captured_streams_hold_what_was_written_up_to_their_caps() {
    let module = parse(MODULE);
    for known in able(&module) {
        let artifact = compile(known, &module);
        for (i, case) in CASES.iter().enumerate() {
            check(&format!("case {i} on {}", known.id), &artifact, case);
        }
    }
}

fn check(what: &str, artifact: &std::sync::Arc<dyn remuda_engine::Artifact>, case: &Case) {
    // The other stream has no room at all, so that a guest ends differently if the streams are mixed up.
    let context = match case.fd {
        OUT => GuestContext { stdout: case.sink, stderr: capture(0), ..GuestContext::default() },
        _ => GuestContext { stdout: capture(0), stderr: case.sink, ..GuestContext::default() },
    };
    let entry = export("write", &[Value::I32(case.fd), Value::I32(case.bytes), Value::I32(case.times)]);
    let ended = live(artifact, &entry, &Setup { context, ..Setup::default() }).unwrap();
    assert_eq!(ended.end(), case.end, "{what}");
    if case.end == End::Returned {
        assert_eq!(ended.called.values, [Value::I32(0)], "{what}: an errno");
    }
    let (written, other) = match case.fd {
        OUT => (ended.output.stdout, ended.output.stderr),
        _ => (ended.output.stderr, ended.output.stdout),
    };
    let chunk: Vec<u8> = (b'a'..=b'z').cycle().take(usize::try_from(case.bytes).unwrap()).collect();
    let expected: Vec<u8> = chunk.repeat(usize::try_from(case.times).unwrap()).into_iter().take(case.kept).collect();
    assert!(written[..] == expected[..], "{what}: {} bytes instead of {}", written.len(), expected.len());
    assert!(other.is_empty(), "{what}");
}

/// Two guests of one artifact that live at the same time have separate output, and the next guest finds none of it.
#[test]
fn streams_are_the_instance_s_own() {
    let module = parse(MODULE);
    let write = |bytes| export("write", &[Value::I32(OUT), Value::I32(bytes), Value::I32(1)]);
    for known in able(&module) {
        let artifact = compile(known, &module);
        let Setup { context, limits, interrupt } = Setup::default();
        let new = || std::sync::Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap();
        let (mut one, mut other) = (new(), new());
        one.call(&write(3)).unwrap();
        other.call(&write(2)).unwrap();
        one.call(&write(1)).unwrap();
        assert_eq!(&other.into_output().stdout[..], b"ab", "{}", known.id);
        assert_eq!(&one.into_output().stdout[..], b"abca", "{}", known.id);
        assert!(new().into_output().stdout.is_empty(), "{}", known.id);
    }
}
