//! Tests of the entry by which a run enters its module, and of what `--invoke` passes and prints.

use super::{Written, run, seen, with_lines};
use crate::support::{ENGINES, engines, guest, has_multi_value, text};

#[test]
fn what_runs_without_invoke() {
    let call = |export: &str, line: &str| format!(r#"(func (export "{export}") (call ${line}))"#);
    for (module, args, code, printed) in [
        ("(module)".to_owned(), &[][..], 0, ""),
        (with_lines("(start $strt)"), &[], 0, "strt\n"),
        (with_lines(&call("_initialize", "init")), &[], 0, "init\n"),
        (with_lines(&(call("_initialize", "init") + &call("_start", "main"))), &[], 0, "init\nmain\n"),
        (
            with_lines(&(call("_start", "main") + &call("_initialize", "init") + "(start $strt)")),
            &[],
            0,
            "strt\ninit\nmain\n",
        ),
        (with_lines(&call("", "main")), &[], 0, "main\n"),
        (with_lines(&(call("", "main") + &call("_start", "strt"))), &[], 0, "main\n"),
        (with_lines(&(call("_initialize", "init") + &call("", "main"))), &[], 0, "init\nmain\n"),
        // A library, and no option says what to call.
        (with_lines(&call("f", "main")), &[], 0, ""),
        (with_lines(&call("f", "main")), &["f"], 0, ""),
        (r#"(module (memory (export "_start") 1) (global (export "") i32 (i32.const 1)))"#.into(), &[], 0, ""),
        // Functions with parameters and results.
        (r#"(module (func (export "") (result i32 f32) (i32.const 7) (f32.const 1.5)))"#.into(), &[], 0, "7\n1.5\n"),
        (r#"(module (func (export "_start") (result i32) (i32.const 5)))"#.into(), &[], 0, "5\n"),
        (r#"(module (func (export "_start") (param i32) (result i32) (local.get 0)))"#.into(), &["5", "6"], 0, "5\n"),
        (r#"(module (func (export "_start") (param i32) (result i32) (local.get 0)))"#.into(), &[], 1, ""),
        (r#"(module (func (export "") (param i32) (result i32) (local.get 0)))"#.into(), &["5"], 0, "5\n"),
        (r#"(module (func (export "_initialize") (param i32)) (func (export "_start")))"#.into(), &[], 1, ""),
    ] {
        let written = Written::new(&module);
        let has_two_results = module.contains("(result i32 f32)");
        for engine in engines().iter().copied().filter(|engine| !has_two_results || has_multi_value(engine)) {
            let (found, output, message) = seen(&run(engine, &[], &written.path, args, b""));
            assert_eq!((found, output.as_str()), (Some(code), printed), "{engine} {args:?}: {message}\n{module}");
            assert_eq!(message.is_empty(), code == 0, "{engine} {args:?}: {message}\n{module}");
        }
    }
}

#[test]
fn invoke_initializes_and_then_calls_the_export() {
    let module = with_lines(
        r#"(func (export "_initialize") (call $init)) (func (export "_start") (call $main))
           (func (export "f") (result i32) (i32.const 7)) (func (export "") (call $strt))"#,
    );
    let written = Written::new(&module);
    for engine in engines().iter().copied() {
        for (name, code, printed) in [
            ("f", 0, "init\n7\n"),
            ("_start", 0, "init\nmain\n"),
            ("", 0, "init\nstrt\n"),
            // It is called twice: before any export, as always, and because it was asked for.
            ("_initialize", 0, "init\ninit\n"),
            ("g", 1, ""),
        ] {
            let (found, output, message) = seen(&run(engine, &["--invoke", name], &written.path, &[], b""));
            assert_eq!((found, output.as_str()), (Some(code), printed), "{engine} {name:?}: {message}");
        }
    }
}

#[test]
fn a_guest_that_is_invoked_has_its_arguments_too() {
    for engine in engines().iter().copied() {
        let out = run(engine, &["--invoke", "_start"], &guest("args/args.wasm"), &["a", "--b"], b"");
        assert_eq!(seen(&out), (Some(0), "arg 1: a\narg 2: --b\n".into(), String::new()), "{engine}");
    }
}

#[test]
fn exports_are_called_with_numbers() {
    let noop = guest("noop/noop.wasm");
    for engine in engines().iter().copied() {
        for (name, args, printed) in [
            ("add", &["2", "3"][..], "5\n"),
            ("add", &["-1", "0x10"], "15\n"),
            ("add", &["+5", "0X10"], "21\n"),
            ("add", &["017", "0"], "17\n"),
            // `wasmtime run` refuses a number that does not fit a signed integer.
            ("add", &["-1", "0xffffffff"], "-2\n"),
            ("addl", &["9223372036854775807", "1"], "-9223372036854775808\n"),
            ("mulf", &["1.5", "-4"], "-6\n"),
            ("halff", &["3"], "1.5\n"),
            ("halff", &["nan"], "NaN\n"),
            ("halff", &["inf"], "inf\n"),
            ("halff", &["-0"], "-0\n"),
            ("nothing", &[], ""),
            // Words beyond the parameters are only arguments of the guest.
            ("nothing", &["more", "words"], ""),
            ("add", &["2", "3", "x"], "5\n"),
        ] {
            let out = run(engine, &["--invoke", name], &noop, args, b"");
            assert_eq!(text(&out.stdout), printed, "{engine}: {name} {args:?}: {}", text(&out.stderr));
            assert_eq!((out.status.code(), out.stderr.is_empty()), (Some(0), true), "{engine}: {name} {args:?}");
        }
        for (name, args, complaint) in [
            ("add", &["1"][..], "takes 2 arguments, and 1 are given"),
            ("add", &["1", "x"], "argument 2 of add: \"x\" is no i32"),
            ("add", &["1", "4294967296"], "is no i32"),
            ("add", &["1", "1_000"], "is no i32"),
            ("mulf", &["1", "0x1p3"], "is no f"),
            ("sub", &[], "exports no function named \"sub\"; it exports "),
        ] {
            let (code, printed, message) = seen(&run(engine, &["--invoke", name], &noop, args, b""));
            assert_eq!((code, printed.as_str()), (Some(1), ""), "{engine}: {message}");
            assert!(message.contains(complaint), "{engine}: {message}");
        }
        // A reactor is initialised before its export is called.
        let out = run(engine, &["--invoke", "sum"], &guest("reactor/reactor.wasm"), &["10"], b"");
        assert_eq!(out.status.code(), Some(0), "{engine}: {}", text(&out.stderr));
        assert!(!out.stdout.is_empty());
    }
}

/// Each case is a module of its own, because an engine that lacks one type refuses the whole module.
#[test]
fn vectors_and_references_are_printed_and_cannot_be_given() {
    const ALL: &[&str] = &ENGINES;
    const WITH_VECTORS: &[&str] = &["auto", "wasmi.lazy", "wasmtime.winch", "wasmtime.cranelift"];
    const WITH_HOST_REFERENCES: &[&str] = &["auto", "wasmi.lazy", "wasmer.singlepass", "wasmtime.cranelift"];
    const CRANELIFT: &[&str] = &["auto", "wasmtime.cranelift"];
    for (engines, function, printed) in [
        (WITH_VECTORS, "(result v128) (v128.const i64x2 1 2)", "36893488147419103233\n"),
        (WITH_VECTORS, "(result v128) (v128.const i64x2 -1 -1)", "340282366920938463463374607431768211455\n"),
        (WITH_VECTORS, "(result i32 v128) (i32.const 3) (v128.const i32x4 5 0 0 0)", "3\n5\n"),
        (ALL, "(result funcref) (ref.null func)", "<null funcref>\n"),
        (ALL, "(result funcref) (ref.func $f)", "<funcref>\n"),
        (WITH_HOST_REFERENCES, "(result externref) (ref.null extern)", "<null externref>\n"),
        (CRANELIFT, "(result anyref) (ref.null any)", "<null anyref>\n"),
        (CRANELIFT, "(result anyref) (ref.i31 (i32.const 4))", "<anyref>\n"),
        (CRANELIFT, "(result exnref) (ref.null exn)", "<null exnref>\n"),
        (
            ALL,
            "(result i32 i64 f32 f64) (i32.const 1) (i64.const 2) (f32.const 0.1) (f64.const 1e30)",
            "1\n2\n0.1\n1000000000000000000000000000000\n",
        ),
        (ALL, "(result f32 f64 f64) (f32.const nan) (f64.const -0) (f64.const inf)", "NaN\n-0\ninf\n"),
    ] {
        let written = Written::new(&format!(r#"(module (func $f (export "f") {function}))"#));
        for engine in engines {
            let out = run(engine, &["--invoke", "f"], &written.path, &[], b"");
            assert_eq!(seen(&out), (Some(0), printed.into(), String::new()), "{engine}: {function}");
        }
        for engine in ENGINES.iter().filter(|engine| !engines.contains(engine)) {
            let (code, output, message) = seen(&run(engine, &["--invoke", "f"], &written.path, &[], b""));
            assert_eq!((code, output.as_str()), (Some(1), ""), "{engine}: {function}: {message}");
            assert!(message.contains(&format!("{engine} lacks")), "{engine}: {function}: {message}");
        }
    }
    for (ty, kind) in [("v128", "v128"), ("externref", "reference"), ("funcref", "reference"), ("anyref", "reference")]
    {
        let written = Written::new(&format!(r#"(module (func (export "f") (param i32 {ty}) unreachable))"#));
        let (code, _, message) = seen(&run("auto", &["--invoke", "f"], &written.path, &["1", "null"], b""));
        assert_eq!(code, Some(1), "{ty}: {message}");
        let complaint = format!("parameter 2 of \"f\" is a {kind}, which cannot be given on a command line");
        assert!(message.contains(&complaint), "{ty}: {message}");
    }
}

#[test]
fn an_engine_that_lacks_a_proposal_is_never_chosen_and_says_so_when_asked_for() {
    let module = Written::new(
        r#"(module (memory (export "memory") 1)
            (func $loop (param i32) (if (local.get 0) (then (return_call $loop (i32.sub (local.get 0) (i32.const 1))))))
            (func (export "_start") (call $loop (i32.const 1000000))))"#,
    );
    let (code, _, message) = seen(&run("wasmtime.winch", &[], &module.path, &[], b""));
    assert_eq!(code, Some(1));
    assert!(message.contains("wasmtime.winch lacks tail-call") && message.contains("wasmtime.cranelift"), "{message}");
    for engine in ["auto", "wasmtime.cranelift", "wasmi.lazy"] {
        let out = run(engine, &[], &module.path, &[], b"");
        assert_eq!(out.status.code(), Some(0), "{engine}: {}", text(&out.stderr));
    }
}
