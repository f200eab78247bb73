//! The capability table, compared with the engines: each proposal has a module that uses it, and an engine runs that
//! module if and only if the table says so.

use std::panic::AssertUnwindSafe;

use remuda_engine::{EngineError, Known, Module, Proposal};
use remuda_model::{Entry, Value};

use crate::support::{End, Setup, able, engines, export, live, open, parse};

/// Modules, each with the proposal that it needs and the number that its `probe` returns.
const PROBES: &[(Proposal, &str, i32)] = &[
    (
        Proposal::MutableGlobals,
        r#"(module (global $g (export "g") (mut i32) (i32.const 41))
          (func (export "probe") (result i32) (global.set $g (i32.add (global.get $g) (i32.const 1))) (global.get $g)))"#,
        42,
    ),
    (
        Proposal::SignExtension,
        r#"(module (func (export "probe") (result i32)
          (i32.add (i32.extend8_s (i32.const 0xd6)) (i32.wrap_i64 (i64.extend32_s (i64.const 0xfffffffe))))))"#,
        -44,
    ),
    (
        Proposal::SaturatingFloatToInt,
        r#"(module (func (export "probe") (result i32)
          (i32.sub (i32.trunc_sat_f64_s (f64.const 1e300)) (i32.trunc_sat_f32_u (f32.const nan)))))"#,
        i32::MAX,
    ),
    (
        Proposal::MultiValue,
        r#"(module (func $two (result i32 i32) (i32.const 50) (i32.const 8))
          (func (export "probe") (result i32) (call $two) (block (param i32 i32) (result i32) (i32.sub))))"#,
        42,
    ),
    (
        Proposal::BulkMemory,
        r#"(module (memory 1) (data $d "\2a")
          (func (export "probe") (result i32)
            (memory.init $d (i32.const 5) (i32.const 0) (i32.const 1)) (data.drop $d)
            (memory.fill (i32.const 8) (i32.const 9) (i32.const 8))
            (memory.copy (i32.const 9) (i32.const 5) (i32.const 1))
            (i32.add (i32.load8_u (i32.const 9)) (i32.load8_u (i32.const 10)))))"#,
        51,
    ),
    (
        Proposal::ReferenceTypes,
        r#"(module (table $a 1 funcref) (table $b 2 funcref) (elem declare func $f) (func $f)
          (func (export "probe") (result i32)
            (table.set $a (i32.const 0) (ref.func $f))
            (i32.add
              (i32.mul (i32.const 10) (ref.is_null (table.get $b (i32.const 1))))
              (i32.add (ref.is_null (table.get $a (i32.const 0))) (table.size $b)))))"#,
        12,
    ),
    (
        Proposal::Externref,
        r#"(module (table $t 2 externref)
          (func (export "probe") (result i32)
            (i32.add (ref.is_null (table.get $t (i32.const 1))) (table.size $t))))"#,
        3,
    ),
    (
        Proposal::TableGrow,
        r#"(module (table $t 2 10 funcref)
          (func (export "probe") (result i32)
            (i32.add
              (i32.mul (i32.const 100) (table.grow $t (ref.null func) (i32.const 3)))
              (i32.add (i32.mul (i32.const 10) (table.size $t)) (table.grow $t (ref.null func) (i32.const 9))))))"#,
        249,
    ),
    (
        Proposal::Simd,
        r#"(module (memory 1) (data (i32.const 0) "\01\02\03\04\05\06\07\08\09\0a\0b\0c\0d\0e\0f\10")
          (func (export "probe") (result i32)
            (i32x4.extract_lane 2 (i32x4.add (i32x4.splat (i32.const 40))
              (i32x4.extend_low_i16x8_u (i16x8.extend_low_i8x16_u (v128.load (i32.const 0))))))))"#,
        43,
    ),
    (
        Proposal::Simd,
        r#"(module (func (export "probe") (result i32)
            (i8x16.bitmask (i8x16.shuffle 15 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14
              (v128.const i64x2 0x80 0x8000000000000000) (v128.const i64x2 0 0)))))"#,
        3,
    ),
    (
        Proposal::ExtendedConst,
        r#"(module (global $g i32 (i32.mul (i32.const 6) (i32.add (i32.const 3) (i32.const 4))))
          (func (export "probe") (result i32) (global.get $g)))"#,
        42,
    ),
    (
        Proposal::RelaxedSimd,
        r#"(module (func (export "probe") (result i32)
          (i32x4.extract_lane 1 (i32x4.relaxed_trunc_f32x4_s
            (f32x4.relaxed_madd (f32x4.splat (f32.const 4)) (f32x4.splat (f32.const 10)) (f32x4.splat (f32.const 2)))))))"#,
        42,
    ),
    // This probe makes more calls than any stack holds.
    (
        Proposal::TailCall,
        r#"(module (func $f (param i32 i32) (result i32)
            (if (result i32) (local.get 0)
              (then (return_call $f (i32.sub (local.get 0) (i32.const 1)) (i32.add (local.get 1) (i32.const 1))))
              (else (local.get 1))))
          (func (export "probe") (result i32) (call $f (i32.const 1000000) (i32.const 0))))"#,
        1_000_000,
    ),
    (
        Proposal::MultiMemory,
        r#"(module (memory $a 1) (memory $b 1)
          (func (export "probe") (result i32)
            (i32.store $a (i32.const 0) (i32.const 40)) (i32.store $b (i32.const 0) (i32.const 2))
            (memory.copy $a $b (i32.const 4) (i32.const 0) (i32.const 4))
            (i32.add (i32.load $a (i32.const 0)) (i32.load $a (i32.const 4)))))"#,
        42,
    ),
    (
        Proposal::Memory64,
        r#"(module (memory i64 1)
          (func (export "probe") (result i32)
            (i64.store (i64.const 65528) (i64.const 41))
            (i32.add (i32.load (i64.const 65528)) (i32.wrap_i64 (memory.size)))))"#,
        42,
    ),
    (
        Proposal::Memory64,
        r#"(module (table $t i64 3 funcref)
          (func (export "probe") (result i32) (i32.wrap_i64 (table.size $t))))"#,
        3,
    ),
    (
        Proposal::FunctionReferences,
        r#"(module (type $f (func (param i32) (result i32))) (elem declare func $g)
          (func $g (type $f) (i32.add (local.get 0) (i32.const 2)))
          (func (export "probe") (result i32) (call_ref $f (i32.const 40) (ref.func $g))))"#,
        42,
    ),
    (
        Proposal::Gc,
        r#"(module (type $s (struct (field (mut i32)))) (type $a (array (mut i8)))
          (func (export "probe") (result i32) (local $s (ref null $s))
            (local.set $s (struct.new $s (i32.const 30)))
            (struct.set $s 0 (local.get $s)
              (i32.add (struct.get $s 0 (local.get $s)) (array.len (array.new_default $a (i32.const 7)))))
            (i32.add (struct.get $s 0 (local.get $s)) (i31.get_s (ref.i31 (i32.const 5))))))"#,
        42,
    ),
    (
        Proposal::Exceptions,
        r#"(module (tag $e (param i32)) (func $f (throw $e (i32.const 42)))
          (func (export "probe") (result i32)
            (block $caught (result i32) (try_table (catch $e $caught) (call $f)) (i32.const 0))))"#,
        42,
    ),
    (
        Proposal::Threads,
        r#"(module (memory 1 1 shared)
          (func (export "probe") (result i32)
            (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 40)))
            (i32.add (i32.atomic.load (i32.const 0)) (i32.atomic.rmw.cmpxchg (i32.const 4) (i32.const 0) (i32.const 1)))))"#,
        40,
    ),
    (
        Proposal::Atomics,
        r#"(module (memory 1)
          (func (export "probe") (result i32)
            (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 40))) (i32.atomic.load (i32.const 0))))"#,
        40,
    ),
    (
        Proposal::CustomPageSizes,
        r#"(module (memory 2 (pagesize 1))
          (func (export "probe") (result i32)
            (drop (memory.grow (i32.const 40))) (i32.store8 (i32.const 41) (i32.const 1)) (memory.size)))"#,
        42,
    ),
    (
        Proposal::WideArithmetic,
        r#"(module (func (export "probe") (result i32) (local $high i64)
          (i64.add128 (i64.const -1) (i64.const 40) (i64.const 1) (i64.const 1))
          (local.set $high)
          (i64.eqz)
          (i32.mul (i32.wrap_i64 (local.get $high)))))"#,
        42,
    ),
    (
        Proposal::ComponentModel,
        r#"(component
          (core module $m (func (export "run") (result i32) (i32.const 0)))
          (core instance $i (instantiate $m))
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $cli (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $cli)))"#,
        0,
    ),
    (
        Proposal::ComponentModelAsync,
        r#"(component
          (core func $return (canon task.return (result (result))))
          (core module $m
            (import "" "return" (func $return (param i32)))
            (func (export "run") (result i32) (call $return (i32.const 0)) (i32.const 0))
            (func (export "event") (param i32 i32 i32) (result i32) (unreachable)))
          (core instance $i (instantiate $m (with "" (instance (export "return" (func $return))))))
          (func $run async (result (result)) (canon lift (core func $i "run") async (callback (func $i "event"))))
          (instance $cli (export "run" (func $run)))
          (export "wasi:cli/run@0.3.0" (instance $cli)))"#,
        0,
    ),
];

/// Whether the table withholds a proposal that the engine itself has. The comments give the reasons.
fn is_withheld(known: &Known, proposal: Proposal) -> bool {
    // Wasmtime reads the interrupt's flag from a shared memory, so threads are on. Guests do not get them, because the
    // limiter is not asked when a shared memory grows, and the flag cannot end a wait on one. (In a memory that is not
    // shared, waiting traps.)
    let threads = known.id.as_str().starts_with("wasmtime.") && proposal == Proposal::Threads;
    // Winch has most of the atomic instructions, but one probe does not tell which ones it lacks.
    let atomics = known.id.as_str() == "wasmtime.winch" && proposal == Proposal::Atomics;
    // Wasmi's `table.grow` does not store its position when its slice of fuel runs out: the guest would go on at an
    // earlier instruction, perhaps for ever.
    let table_grow = known.id.as_str() == "wasmi.lazy" && proposal == Proposal::TableGrow;
    threads || atomics || table_grow
}

#[test]
fn every_proposal_has_a_probe_that_needs_it() {
    for proposal in Proposal::ALL {
        assert!(PROBES.iter().any(|(probed, ..)| probed == proposal), "{}", proposal.as_str());
    }
    for (proposal, text, _) in PROBES {
        let needs = parse(text).needs();
        assert!(needs.contains(*proposal), "{} needs {needs}: {text}", proposal.as_str());
    }
}

#[test]
fn an_engine_runs_what_its_capabilities_say_and_nothing_else() {
    let mut failures = Vec::new();
    for (proposal, text, number) in PROBES {
        let module = parse(text);
        for known in engines() {
            if let Err(failure) = check(known, *proposal, &module, *number) {
                failures.push(format!("{} on {}: {failure}", proposal.as_str(), known.id));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(known: &'static Known, proposal: Proposal, module: &Module, number: i32) -> Result<(), String> {
    let claimed = known.capabilities.proposals.contains(proposal);
    let is_able = able(module).iter().any(|able| able.id == known.id);
    // An engine must not panic on a module that it was never meant to get.
    let ran = std::panic::catch_unwind(AssertUnwindSafe(|| probe(known, module, number)))
        .map_err(|_| "it panics".to_owned())?;
    match (claimed, ran) {
        (true, Ok(())) if is_able => Ok(()),
        (true, Ok(())) => Err("it is claimed and runs, and the registry keeps the module from it".into()),
        (true, Err(why)) => Err(format!("it is claimed, and does not run: {why}")),
        (false, _) if is_able => Err("it is not claimed, and the registry hands the module to it".into()),
        (false, Ok(())) if !is_withheld(known, proposal) => Err("it runs, and is not claimed".into()),
        (false, _) => Ok(()),
    }
}

fn probe(known: &Known, module: &Module, number: i32) -> Result<(), String> {
    let artifact = open(known).compile(module).map_err(|error| {
        assert!(matches!(error, EngineError::Compile { .. }), "{error:?}");
        error.to_string()
    })?;
    // A component is run, and returns nothing.
    let (entry, values) =
        if module.is_component() { (Entry::Command, vec![]) } else { (export("probe", &[]), vec![Value::I32(number)]) };
    let ended = live(&artifact, &entry, &Setup::default()).map_err(|error| error.to_string())?;
    if ended.end() == End::Returned && ended.called.values == values {
        return Ok(());
    }
    Err(format!("{:?} instead of {number}", ended.called))
}
