//! The functions by which a call may enter a module, and what runs before them.

use remuda_model::{Entry, Referent, Value};

use crate::support::{End, Setup, able, compile, export, live, parse};

/// Each function appends its digit to a number, so that the result tells which functions ran, and in what order.
const MODULE: &str = r#"(module
  (memory (export "memory") 1)
  (global $trace (mut i32) (i32.const 0))
  (func $mark (param i32)
    (global.set $trace (i32.add (i32.mul (global.get $trace) (i32.const 10)) (local.get 0))))
  (func $start (call $mark (i32.const 1)))
  (start $start)
  (func (export "_initialize") (call $mark (i32.const 2)))
  (func (export "_start") (call $mark (i32.const 3)))
  (func (export "trace") (result i32) (call $mark (i32.const 4)) (global.get $trace))
  (func (export "raw") (result i32) (global.get $trace))
  (func (export "add") (param i32 i64) (result i64) (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))
  (func (export "reference") (param externref) (result externref) (local.get 0))
  (func (export "") (result i32) (i32.const 11))
  (func (export "na\c3\afve \f0\9f\90\8e") (result i32) (i32.const 12)))"#;

#[test]
fn start_runs_first_then_initialize_then_the_export() {
    let module = parse(MODULE);
    for known in able(&module) {
        let ended = live(&compile(known, &module), &export("trace", &[]), &Setup::default()).unwrap();
        assert_eq!(ended.called.values, [Value::I32(124)], "{}", known.id);
    }
}

#[test]
fn a_command_is_initialized_too_and_an_initialization_is_all_that_runs() {
    // The trace until then; reading it by an export runs `_initialize` once more, if there is one.
    for (text, entry, trace) in [
        (MODULE.to_owned(), Entry::Command, 1232),
        (MODULE.to_owned(), Entry::Initialize, 122),
        (MODULE.replace("_initialize", "other"), Entry::Command, 13),
        (MODULE.replace("_initialize", "other"), Entry::Initialize, 1),
    ] {
        let module = parse(&text);
        module.check_entry(&entry).unwrap();
        for known in able(&module) {
            let Setup { context, limits, interrupt } = Setup::default();
            let mut instance = compile(known, &module).instantiate(&context, &limits, &interrupt).unwrap();
            let called = instance.call(&entry).unwrap();
            assert_eq!((End::from(&called.outcome), called.values), (End::Returned, vec![]), "{}", known.id);
            assert_eq!(instance.call(&export("raw", &[])).unwrap().values, [Value::I32(trace)], "{}", known.id);
        }
    }
}

#[test]
fn vectors_cross_the_boundary_and_references_are_looked_at() {
    let reference = |to, is_null| Value::Reference { to, is_null };
    let vector = Value::V128(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
    for (function, args, values) in [
        ("(param v128) (result v128) (local.get 0)", &[vector][..], &[vector][..]),
        (
            "(param i32 v128) (result v128 i32) (local.get 1) (local.get 0)",
            &[Value::I32(7), vector],
            &[vector, Value::I32(7)],
        ),
        ("(result funcref) (ref.null func)", &[], &[reference(Referent::Func, true)]),
        ("(result funcref) (ref.func $f)", &[], &[reference(Referent::Func, false)]),
        ("(result externref) (ref.null extern)", &[], &[reference(Referent::Extern, true)]),
        ("(result anyref) (ref.i31 (i32.const 3))", &[], &[reference(Referent::Any, false)]),
    ] {
        let module = parse(&format!(r#"(module (func $f (export "f") {function}))"#));
        module.check_entry(&export("f", args)).unwrap();
        let mut engines = 0;
        for known in able(&module) {
            let ended = live(&compile(known, &module), &export("f", args), &Setup::default()).unwrap();
            assert_eq!(ended.called.values, values, "{} {function}", known.id);
            engines += 1;
        }
        assert!(engines > 0, "no engine runs {function}");
    }
}

#[test]
fn any_name_that_webassembly_allows_can_be_called() {
    let module = parse(MODULE);
    for known in able(&module) {
        let artifact = compile(known, &module);
        for (name, value) in [("", 11), ("naïve \u{1f40e}", 12)] {
            module.check_entry(&export(name, &[])).unwrap();
            let ended = live(&artifact, &export(name, &[]), &Setup::default()).unwrap();
            assert_eq!(ended.called.values, [Value::I32(value)], "{} {name:?}", known.id);
        }
    }
}

/// An entry that `check_entry` refuses never reaches an engine; if it does all the same, that is an error, not a crash.
#[test]
fn entries_that_do_not_fit_are_refused() {
    let module = parse(MODULE);
    let entries = [
        export("absent", &[]),
        export("memory", &[]),
        export("add", &[]),
        export("add", &[Value::I32(1)]),
        export("add", &[Value::I32(1), Value::I32(2)]),
        export("add", &[Value::I64(1), Value::I64(2)]),
        export("add", &[Value::F32(1.0), Value::F64(2.0)]),
        export("add", &[Value::I32(1), Value::I64(2), Value::I64(3)]),
    ];
    for entry in &entries {
        assert!(module.check_entry(entry).is_err(), "{entry:?}");
    }
    assert!(module.check_entry(&export("reference", &[Value::I32(0)])).is_err());
    for known in able(&module) {
        let artifact = compile(known, &module);
        for entry in &entries {
            let ended = live(&artifact, entry, &Setup::default());
            assert!(ended.is_err(), "{} {entry:?}: {ended:?}", known.id);
        }
        let ended = live(&artifact, &export("add", &[Value::I32(-1), Value::I64(3)]), &Setup::default()).unwrap();
        assert_eq!(ended.called.values, [Value::I64(2)], "{}", known.id);
    }
}

#[test]
fn a_module_without_start_is_no_command() {
    for text in [
        "(module)",
        r#"(module (func (export "_start") (param i32)))"#,
        r#"(module (func (export "_start") (result i32) (i32.const 1)))"#,
        r#"(module (memory (export "_start") 1))"#,
    ] {
        assert!(parse(text).check_entry(&Entry::Command).is_err(), "{text}");
    }
}
