//! Every way in which a guest can end, at every place where it can: what the caller is told, what the guest wrote until
//! then, and that the engine, its thread and the instance can be used afterwards as if nothing had happened.

use std::sync::Arc;

use remuda_engine::{Artifact, InstantiateError, Known, Module};
use remuda_model::{Limit, Tier, TrapKind, Value};

use crate::support::{End, Setup, able, assert_end, compile, export, live, open, parse, trap_guests};
use remuda_model::Entry;

/// A guest's last instructions, and how the guest must end.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    body: &'static str,
    pub(crate) end: End,
}

const fn case(name: &'static str, body: &'static str, end: End) -> Case {
    Case { name, body, end }
}

const fn trap(name: &'static str, body: &'static str, kind: TrapKind) -> Case {
    case(name, body, End::Trapped(kind))
}

pub(crate) const CASES: &[Case] = &[
    case("returns", "(nop)", End::Returned),
    case("exits with 0", "(call $exit (i32.const 0))", End::Exited(0)),
    case("exits with 1", "(call $exit (i32.const 1))", End::Exited(1)),
    case("exits with 126", "(call $exit (i32.const 126))", End::Exited(126)),
    case("exits with -1", "(call $exit (i32.const -1))", End::Exited(-1)),
    case("exits with the largest code", "(call $exit (i32.const 0x7fffffff))", End::Exited(i32::MAX)),
    case("exits with the smallest code", "(call $exit (i32.const 0x80000000))", End::Exited(i32::MIN)),
    trap("unreachable", "(unreachable)", TrapKind::Unreachable),
    trap("load", "(drop (i32.load (i32.const 0x7fffffff)))", TrapKind::MemoryOutOfBounds),
    trap("store", "(i64.store (i32.const 65529) (i64.const 1))", TrapKind::MemoryOutOfBounds),
    trap("fill", "(memory.fill (i32.const 1) (i32.const 0) (i32.const 65536))", TrapKind::MemoryOutOfBounds),
    trap("table.get", "(drop (table.get $t (i32.const 3)))", TrapKind::TableOutOfBounds),
    trap("call beyond the table", "(call_indirect $t (type $none) (i32.const -1))", TrapKind::TableOutOfBounds),
    trap("division", "(drop (i32.div_u (i32.const 1) (global.get $zero)))", TrapKind::IntegerDivisionByZero),
    trap("remainder", "(drop (i64.rem_s (i64.const 1) (i64.const 0)))", TrapKind::IntegerDivisionByZero),
    trap("quotient", "(drop (i32.div_s (i32.const 0x80000000) (i32.const -1)))", TrapKind::IntegerOverflow),
    trap("truncation", "(drop (i32.trunc_f64_s (f64.const 1e10)))", TrapKind::IntegerOverflow),
    trap("NaN", "(drop (i64.trunc_f32_u (f32.const nan)))", TrapKind::BadConversionToInteger),
    trap("null", "(call_indirect $t (type $none) (i32.const 0))", TrapKind::IndirectCallToNull),
    trap("signature", "(call_indirect $t (type $none) (i32.const 1))", TrapKind::BadSignature),
    trap("recursion", "(drop (call $deep (i64.const 1)))", TrapKind::StackExhausted),
    trap("recursion through a table", "(call $indirect)", TrapKind::StackExhausted),
    case(
        "hears of a bad pointer by errno 21, fault",
        "(if (i32.ne (call $random_get (i32.const 65530) (i32.const 7)) (i32.const 21)) (then (unreachable)))",
        End::Returned,
    ),
    case(
        "gives up without memory",
        "(if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable)))",
        End::Exceeded(Limit::Memory),
    ),
    case(
        "gives up without table",
        "(if (i32.eq (table.grow $t (ref.null func) (i32.const 0x7000000)) (i32.const -1)) (then (unreachable)))",
        End::Exceeded(Limit::Table),
    ),
];

/// The function of a module that contains the last instructions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Place {
    /// An export.
    Export,
    /// `_start`.
    Command,
    /// A reactor's `_initialize`, which runs before the export that was asked for.
    Initialize,
    /// The start function.
    Start,
}

pub(crate) const PLACES: &[Place] = &[Place::Export, Place::Command, Place::Initialize, Place::Start];

impl Place {
    fn text(self) -> &'static str {
        match self {
            Self::Export => r#"(func (export "run") (call $end))"#,
            Self::Command => r#"(func (export "_start") (call $end))"#,
            Self::Initialize => r#"(func (export "_initialize") (call $end)) (func (export "run"))"#,
            Self::Start => r#"(start $end) (func (export "run"))"#,
        }
    }

    pub(crate) fn entry(self) -> Entry {
        match self {
            Self::Command => Entry::Command,
            Self::Export | Self::Initialize | Self::Start => export("run", &[]),
        }
    }
}

/// A module that writes "before" to both streams and then ends as the case says; `good` returns 5050.
pub(crate) fn module(case: &Case, place: Place) -> Module {
    parse(&format!(
        r#"(module
          (type $none (func))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00\06\00\00\00")
          (data (i32.const 16) "before")
          (table $t 3 funcref)
          (elem (table $t) (i32.const 1) func $deep $indirect)
          (global $zero (mut i32) (i32.const 0))
          (func $deep (param i64) (result i64) (i64.add (i64.const 1) (call $deep (local.get 0))))
          (func $indirect (call_indirect $t (type $none) (i32.const 2)) (global.set $zero (i32.const 0)))
          (func $end
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8)))
            {})
          (func (export "good") (result i32) (local $n i32) (local $sum i32)
            (loop $again
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (local.set $sum (i32.add (local.get $sum) (local.get $n)))
              (br_if $again (i32.lt_u (local.get $n) (i32.const 100))))
            (local.get $sum))
          {})"#,
        case.body,
        place.text()
    ))
}

#[test]
fn every_end_at_every_place() {
    for case in CASES {
        for place in PLACES {
            let module = module(case, *place);
            module.check_entry(&place.entry()).unwrap();
            for known in able(&module) {
                check(&format!("{} in {place:?}", case.name), known, &compile(known, &module), case, *place);
            }
        }
    }
}

fn check(what: &str, known: &Known, artifact: &Arc<dyn Artifact>, case: &Case, place: Place) {
    let ended = live(artifact, &place.entry(), &Setup::default()).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_end(known.id, ended.end(), case.end, &what);
    let what = &format!("{what} on {}", known.id);
    assert_eq!(ended.at_start, place == Place::Start && case.end != End::Returned, "{what}: {ended:?}");
    assert!(ended.called.values.is_empty(), "{what}: {ended:?}");
    assert_eq!((&ended.output.stdout[..], &ended.output.stderr[..]), (&b"before"[..], &b"before"[..]), "{what}");
    if matches!(place, Place::Export | Place::Command) {
        check_afterwards(what, artifact, place);
    }
}

/// Makes sure that the instance can still be called, and that its artifact can still be used on this thread.
fn check_afterwards(what: &str, artifact: &Arc<dyn Artifact>, place: Place) {
    let Setup { context, limits, interrupt } = Setup::default();
    let mut instance = Arc::clone(artifact).instantiate(&context, &limits, &interrupt).unwrap();
    instance.call(&place.entry()).unwrap();
    for _ in 0..2 {
        let good = instance.call(&export("good", &[])).unwrap();
        assert_eq!((End::from(&good.outcome), &good.values[..]), (End::Returned, &[Value::I32(5050)][..]), "{what}");
    }
    assert_eq!(&instance.into_output().stdout[..], b"before", "{what}");
    let fresh = live(artifact, &export("good", &[]), &Setup::default()).unwrap();
    assert_eq!(fresh.called.values, [Value::I32(5050)], "{what}: a fresh instance");
}

/// Guests that need a proposal which not every engine has, and how they must end.
const PROPOSED: &[(&str, End)] = &[
    (r#"(module (tag) (func (export "run") (throw 0)))"#, End::Trapped(TrapKind::UncaughtException)),
    (
        r#"(module (tag (param i32)) (func $f (throw 0 (i32.const 1))) (func (export "run") (call $f)))"#,
        End::Trapped(TrapKind::UncaughtException),
    ),
    (
        r#"(module (type $f (func)) (func (export "run") (call_ref $f (ref.null $f))))"#,
        End::Trapped(TrapKind::IndirectCallToNull),
    ),
    (
        r#"(module (func (export "run") (drop (ref.as_non_null (ref.null func)))))"#,
        End::Trapped(TrapKind::IndirectCallToNull),
    ),
    (
        r#"(module (type $s (struct (field i32))) (func (export "run") (drop (struct.get $s 0 (ref.null $s)))))"#,
        End::Trapped(TrapKind::IndirectCallToNull),
    ),
    (
        r#"(module (type $a (array i32))
          (func (export "run") (drop (array.get $a (array.new_default $a (i32.const 3)) (i32.const 3)))))"#,
        End::Trapped(TrapKind::MemoryOutOfBounds),
    ),
    (
        r#"(module (type $s (struct (field i32))) (type $a (array i32))
          (func (export "run") (drop (ref.cast (ref $a) (struct.new $s (i32.const 1))))))"#,
        End::Trapped(TrapKind::BadSignature),
    ),
    (
        r#"(module (type $none (func)) (table $t 1 funcref) (func (export "run") (return_call_indirect (type $none) (i32.const 0))))"#,
        End::Trapped(TrapKind::IndirectCallToNull),
    ),
    (
        r#"(module (memory $a 1) (memory $b 2) (func (export "run") (drop (i32.load $a (i32.const 65536)))))"#,
        End::Trapped(TrapKind::MemoryOutOfBounds),
    ),
    (
        r#"(module (memory i64 1) (func (export "run") (drop (i32.load (i64.const 0x100000000)))))"#,
        End::Trapped(TrapKind::MemoryOutOfBounds),
    ),
    (
        r#"(module (memory i64 1) (func (export "run") (drop (i32.load offset=0xffffffffffffff00 (i64.const 0x200)))))"#,
        End::Trapped(TrapKind::MemoryOutOfBounds),
    ),
    (
        r#"(module (memory 5 (pagesize 1)) (func (export "run") (drop (i32.load8_u (i32.const 5)))))"#,
        End::Trapped(TrapKind::MemoryOutOfBounds),
    ),
    (
        r#"(module (memory 1) (func (export "run") (drop (v128.load (i32.const 65521)))))"#,
        End::Trapped(TrapKind::MemoryOutOfBounds),
    ),
];

#[test]
fn every_end_that_needs_a_proposal() {
    for (text, end) in PROPOSED {
        let module = parse(text);
        for known in able(&module) {
            let ended = live(&compile(known, &module), &export("run", &[]), &Setup::default())
                .unwrap_or_else(|error| panic!("{error}\n{text}"));
            assert_end(known.id, ended.end(), *end, text);
        }
    }
}

#[test]
fn segments_that_do_not_fit_are_the_guest_s_end() {
    for (text, end) in [
        (r#"(module (memory 1) (data (i32.const 65535) "ab"))"#, End::Trapped(TrapKind::MemoryOutOfBounds)),
        (r#"(module (memory 0) (data (i32.const 0) "a"))"#, End::Trapped(TrapKind::MemoryOutOfBounds)),
        (r#"(module (memory 1) (data (i32.const -1) ""))"#, End::Trapped(TrapKind::MemoryOutOfBounds)),
        (
            r"(module (table 1 funcref) (elem (i32.const 1) func $f) (func $f))",
            End::Trapped(TrapKind::TableOutOfBounds),
        ),
        (r"(module (table 0 funcref) (elem (i32.const -1) func))", End::Trapped(TrapKind::TableOutOfBounds)),
        // The first segment is in bounds and the second is not; the start function must not run.
        (
            r#"(module (memory 1) (data (i32.const 0) "a") (data (i32.const 65536) "b") (func $f (unreachable)) (start $f))"#,
            End::Trapped(TrapKind::MemoryOutOfBounds),
        ),
    ] {
        let module = parse(text);
        for known in able(&module) {
            let Setup { context, limits, interrupt } = Setup::default();
            match compile(known, &module).instantiate(&context, &limits, &interrupt) {
                Err(InstantiateError::Guest { outcome, .. }) => {
                    assert_eq!(End::from(&outcome), end, "{} {text}", known.id);
                }
                Err(InstantiateError::Engine(error)) => panic!("{error} {text}"),
                Ok(_) => panic!("{} instantiates {text}", known.id),
            }
        }
    }
}

/// Every guest of the suite that traps in the way that its folder's name says.
#[test]
fn trap_guests_end_as_their_folders_say() {
    for (folder, kind) in TRAP_FOLDERS {
        for (name, module) in trap_guests(folder) {
            for known in able(&module) {
                let ended = live(&compile(known, &module), &Entry::Command, &Setup::default()).unwrap();
                assert_end(known.id, ended.end(), End::Trapped(*kind), &name);
                assert!(
                    !ended.at_start || module.has_start() || name.contains("data") || name.contains("elem"),
                    "{name}"
                );
            }
        }
    }
}

pub(crate) const TRAP_FOLDERS: &[(&str, TrapKind)] = &[
    ("bad_conversion_to_integer", TrapKind::BadConversionToInteger),
    ("bad_signature", TrapKind::BadSignature),
    ("indirect_call_to_null", TrapKind::IndirectCallToNull),
    ("integer_division_by_zero", TrapKind::IntegerDivisionByZero),
    ("integer_overflow", TrapKind::IntegerOverflow),
    ("memory_out_of_bounds", TrapKind::MemoryOutOfBounds),
    ("stack_exhausted", TrapKind::StackExhausted),
    ("table_out_of_bounds", TrapKind::TableOutOfBounds),
    ("unreachable", TrapKind::Unreachable),
];

#[test]
fn numbers_of_all_four_types_come_back_bit_for_bit() {
    let module = parse(
        r#"(module
          (func (export "i32") (param i32) (result i32) (local.get 0))
          (func (export "i64") (param i64) (result i64) (local.get 0))
          (func (export "f32") (param f32) (result f32) (local.get 0))
          (func (export "f64") (param f64) (result f64) (local.get 0))
          (func (export "turned") (param i32 i64 f32 f64) (result f64 f32 i64 i32)
            (local.get 3) (local.get 2) (local.get 1) (local.get 0))
          (func (export "none")))"#,
    );
    let mut calls: Vec<(&str, Vec<Value>, Vec<Value>)> = vec![("none", vec![], vec![])];
    for n in [0, 1, -1, i32::MIN, i32::MAX] {
        calls.push(("i32", vec![Value::I32(n)], vec![Value::I32(n)]));
    }
    for n in [0, 1, -1, i64::MIN, i64::MAX, 1 << 32] {
        calls.push(("i64", vec![Value::I64(n)], vec![Value::I64(n)]));
    }
    for n in
        [0.0, -0.0, 1.5, f32::MIN_POSITIVE, f32::from_bits(1), f32::MAX, f32::NEG_INFINITY, f32::from_bits(0x7fc0_1234)]
    {
        calls.push(("f32", vec![Value::F32(n)], vec![Value::F32(n)]));
    }
    for n in [
        0.0,
        -0.0,
        1.5,
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::MAX,
        f64::INFINITY,
        f64::from_bits(0xfff8_0000_0000_1234),
    ] {
        calls.push(("f64", vec![Value::F64(n)], vec![Value::F64(n)]));
    }
    let (a, b, c, d) = (Value::I32(-7), Value::I64(1 << 40), Value::F32(0.25), Value::F64(-1e300));
    calls.push(("turned", vec![a, b, c, d], vec![d, c, b, a]));
    for known in able(&module) {
        let artifact = compile(known, &module);
        for (name, args, expected) in &calls {
            let entry = export(name, args);
            module.check_entry(&entry).unwrap();
            let ended = live(&artifact, &entry, &Setup::default()).unwrap();
            assert_eq!(ended.end(), End::Returned, "{} {name} {args:?}", known.id);
            assert_eq!(bits(&ended.called.values), bits(expected), "{} {name} {args:?}", known.id);
        }
    }
}

/// The values' types and bits, which are equal only if every bit is: a NaN is not equal to itself.
fn bits(values: &[Value]) -> Vec<(remuda_model::ValueType, u128)> {
    let bits = |value: &Value| match value {
        Value::I32(n) => n.cast_unsigned().into(),
        Value::I64(n) => n.cast_unsigned().into(),
        Value::F32(n) => n.to_bits().into(),
        Value::F64(n) => n.to_bits().into(),
        Value::V128(n) => *n,
        Value::Reference { is_null, .. } => u128::from(*is_null),
    };
    values.iter().map(|value| (value.ty(), bits(value))).collect()
}

/// The steps are independent: an artifact that is never instantiated and an instance that is never called are no error.
#[test]
fn steps_may_end_anywhere() {
    let module = module(&CASES[0], Place::Export);
    for known in able(&module) {
        let Setup { context, limits, interrupt } = Setup::default();
        let artifact = open(known).compile(&module).unwrap();
        assert!(artifact.memory_bytes() > 0, "{}", known.id);
        let is_compiler = !known.has_workers() && known.capabilities.tier != Tier::Interpreter;
        let code = artifact.code_addresses();
        assert_eq!(code.is_some_and(|code| !code.is_empty()), is_compiler, "{}", known.id);
        let instance = Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap();
        assert_eq!(instance.into_output(), remuda_model::GuestOutput::default(), "{}", known.id);
        drop(Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap());
        drop(artifact);
    }
}
