//! The WebAssembly specification's test suite, on every engine as its adapter configures it.
//!
//! Modules run as the adapters run them: on Wasmtime rewritten to read the interrupt flag, on Wasmi with their start
//! function as an export and paused again and again for lack of fuel. A guest must not notice any of this, and the
//! suite would show it if one did. A module that needs a proposal which an engine does not claim is skipped on that
//! engine, just as the host would not give it to that engine. Other failures are listed in expected-failures.toml, with
//! their reasons.

mod engine;
mod expected;
mod script;
mod suite;
mod tally;
mod validation;
mod value;

use remuda_engine::{Proposals, Registry};
use script::Subject;

use crate::engine::{Fault, Room, WastEngine};
use crate::suite::files;
use crate::tally::{all_cores, over_files};

fn claimed(id: &str) -> Proposals {
    Registry::default().find(id).expect("the engine is known").capabilities.proposals
}

fn run(id: &str, threads: usize, open: &(dyn Fn(Room) -> Box<dyn WastEngine> + Sync)) {
    let subject = Subject { proposals: claimed(id), open };
    expected::check(id, &over_files(threads, files(), |file| subject.run(file)));
}

#[test]
fn the_front_door_refuses_what_is_invalid_and_nothing_else() {
    expected::check("validation", &over_files(all_cores(), files(), validation::run));
}

#[cfg(feature = "wasmtime.winch")]
#[test]
fn wasmtime_winch() {
    let engines = engine::wasmtime::Engines::new(remuda_model::EngineId::new("wasmtime.winch"));
    run("wasmtime.winch", all_cores(), &|room| engines.open(room));
}

#[cfg(feature = "wasmtime.cranelift")]
#[test]
fn wasmtime_cranelift() {
    let engines = engine::wasmtime::Engines::new(remuda_model::EngineId::new("wasmtime.cranelift"));
    run("wasmtime.cranelift", all_cores(), &|room| engines.open(room));
}

#[cfg(feature = "wasmer.singlepass")]
#[test]
fn wasmer_singlepass() {
    // Wasmer 7.4.2 unmaps an artifact before it takes the artifact's functions off a list that the whole process
    // shares. If another thread maps an artifact at the same address in between, an assertion fails and poisons the
    // list's lock for good. So one thread runs all files.
    run("wasmer.singlepass", 1, &|_| engine::wasmer::open());
}

#[cfg(feature = "wasmi.lazy")]
#[test]
fn wasmi_lazy() {
    let engine = remuda_engine::testing::wasmi::configured();
    run("wasmi.lazy", all_cores(), &|_| engine::wasmi::open(&engine));
}

/// Makes sure that a new engine is not forgotten here.
#[test]
fn every_engine_that_is_built_runs_the_suite() {
    let tested = ["wasmtime.winch", "wasmtime.cranelift", "wasmer.singlepass", "wasmi.lazy"];
    let registry = Registry::default();
    let built: Vec<_> = registry.known().filter(|known| known.automatic && known.is_built()).collect();
    assert!(!built.is_empty(), "no engine is built, so nothing is tested");
    for known in built {
        assert!(tested.contains(&known.id.as_str()), "{} does not run the specification's suite", known.id);
    }
}

/// A test of the harness itself: each script has one wrong step, and the harness must find it.
#[cfg(feature = "wasmi.lazy")]
#[test]
fn the_harness_finds_what_is_wrong() {
    let engine = remuda_engine::testing::wasmi::configured();
    let open = |_: Room| engine::wasmi::open(&engine);
    let subject = Subject { proposals: claimed("wasmi.lazy"), open: &open };
    let module = r#"(module
        (func (export "one") (result i32) (i32.const 1))
        (func (export "nan") (result f32) (f32.const nan:0x600000))
        (func (export "lanes") (result v128) (v128.const i32x4 1 2 3 4))
        (func (export "trap") unreachable))"#;
    for (step, wrong) in [
        (r#"(assert_return (invoke "one") (i32.const 2))"#, "returned (I32(1))"),
        (r#"(assert_return (invoke "one"))"#, "returned (I32(1))"),
        (r#"(assert_return (invoke "nan") (f32.const nan:canonical))"#, "0x7fe00000"),
        (r#"(assert_return (invoke "lanes") (v128.const i32x4 1 2 3 5))"#, "V128"),
        (r#"(assert_return (invoke "trap"))"#, "trapped: unreachable"),
        (r#"(assert_trap (invoke "one") "unreachable")"#, "returned, expected the trap"),
        (r#"(assert_trap (invoke "trap") "integer overflow")"#, "trapped: unreachable"),
        (r#"(assert_unlinkable (module) "unknown import")"#, "links"),
        (r#"(module (import "nobody" "f" (func)))"#, "does not link"),
    ] {
        let tally = subject.run(&suite::script(&format!("{module}\n{step}")));
        let messages: Vec<_> = tally.failures.values().map(String::as_str).collect();
        assert!(matches!(messages[..], [message] if message.contains(wrong)), "{step}: {messages:?}");
        assert_eq!((tally.passed, tally.skipped), (1, 0), "{step}");
    }
    let right = r#"(assert_return (invoke "nan") (f32.const nan:arithmetic))"#;
    assert!(subject.run(&suite::script(&format!("{module}\n{right}"))).failures.is_empty());
    let foreign = "(module (memory 1 1 shared))";
    assert_eq!(subject.run(&suite::script(foreign)).skipped, 1, "{foreign}");
}

/// The message of a [`Fault`], which the data file does not contain: a link error is not called a trap.
#[test]
fn faults_say_what_they_are() {
    assert_eq!(Fault::Link("x".into()).to_string(), "does not link: x");
}
