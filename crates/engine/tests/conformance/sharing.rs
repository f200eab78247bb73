//! Artifacts are shared, instances are not: no guest sees what another one does to its memory, globals and tables, on
//! any thread. Artifacts and instances outlive the objects that they were made from.

use std::sync::Arc;
use std::thread;

use remuda_engine::Registry;
use remuda_model::Value;

use crate::support::{Setup, able, compile, engines, export, live, open, parse};

const THREADS: i32 = 8;
const ROUNDS: i32 = 50;

/// `touch(n)` writes `n` to the memory and to a global, sets an element of the table, and returns what was there before
/// and what is there afterwards.
const MODULE: &str = r#"(module
  (memory (export "memory") 2)
  (data (i32.const 70000) "\05")
  (global $g (mut i32) (i32.const 5))
  (table $t 2 funcref)
  (elem (i32.const 0) func $f)
  (func $f)
  (func (export "touch") (param $n i32) (result i32 i32 i32 i32 i32)
    (i32.load8_u (i32.const 70000))
    (global.get $g)
    (ref.is_null (table.get $t (i32.const 1)))
    (i32.store (i32.const 70000) (local.get $n))
    (memory.fill (i32.const 100) (i32.const 255) (i32.const 60000))
    (global.set $g (local.get $n))
    (table.set $t (i32.const 1) (ref.func $f))
    (i32.load (i32.const 70000))
    (global.get $g)))"#;

fn touched(n: i32) -> Vec<Value> {
    [5, 5, 1, n, n].map(Value::I32).to_vec()
}

#[test]
fn an_artifact_serves_many_threads_at_once() {
    let module = parse(MODULE);
    for known in able(&module) {
        let artifact = compile(known, &module);
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let artifact = &artifact;
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        let n = thread * ROUNDS + round;
                        let ended = live(artifact, &export("touch", &[Value::I32(n)]), &Setup::default()).unwrap();
                        assert_eq!(ended.called.values, touched(n), "{}", known.id);
                    }
                });
            }
        });
    }
}

#[test]
fn engines_compile_on_many_threads_at_once() {
    let module = parse(MODULE);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            for known in able(&module) {
                let module = &module;
                scope.spawn(move || {
                    let artifact = compile(known, module);
                    let ended = live(&artifact, &export("touch", &[Value::I32(thread)]), &Setup::default()).unwrap();
                    assert_eq!(ended.called.values, touched(thread), "{}", known.id);
                });
            }
        }
    });
}

/// An instance is made on one thread, called on another, and dropped on a third.
#[test]
fn an_instance_may_change_threads() {
    let module = parse(MODULE);
    for known in able(&module) {
        let artifact = compile(known, &module);
        let Setup { context, limits, interrupt } = Setup::default();
        let mut instance = Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap();
        let (instance, called) = thread::spawn(move || {
            let called = instance.call(&export("touch", &[Value::I32(9)])).unwrap();
            (instance, called)
        })
        .join()
        .unwrap();
        assert_eq!(called.values, touched(9), "{}", known.id);
        thread::spawn(move || drop(instance)).join().unwrap();
        let ended = live(&artifact, &export("touch", &[Value::I32(1)]), &Setup::default()).unwrap();
        assert_eq!(ended.called.values, touched(1), "{}", known.id);
    }
}

/// An artifact and an instance each keep alive what they need.
#[test]
fn parts_outlive_what_they_were_made_from() {
    let module = parse(MODULE);
    for known in able(&module) {
        let registry = Registry::default();
        let artifact = registry.open(known.id).unwrap().compile(&module).unwrap();
        drop(registry);
        let Setup { context, limits, interrupt } = Setup::default();
        let mut one = Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap();
        let mut other = artifact.instantiate(&context, &limits, &interrupt).unwrap();
        drop((context, limits, interrupt));
        for (n, instance) in [(1, &mut one), (2, &mut other)] {
            let called = instance.call(&export("touch", &[Value::I32(n)])).unwrap();
            assert_eq!(called.values, touched(n), "{}", known.id);
        }
        drop(one);
        assert!(other.into_output().stdout.is_empty(), "{}", known.id);
    }
}

/// The registry and the engines say the same about an engine.
#[test]
fn engines_are_what_the_registry_says() {
    for known in engines() {
        let engine = open(known);
        assert_eq!(engine.id(), known.id);
        assert_eq!(engine.capabilities(), known.capabilities, "{}", known.id);
    }
}
