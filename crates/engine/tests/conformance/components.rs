//! Components keep the promises that core modules keep. The components are the suite's core modules, each with the
//! adapter that makes WASI 0.2 of its WASI preview 1, so that what they must do is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use remuda_engine::{Artifact, Known, Module};
use remuda_model::{Cause, Entry, GuestLimits, Limit, ModuleLimits, Sink, TrapKind};
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

use crate::artifacts::reload;
use crate::interruption::{CAUSES, WHENS, When, interrupted};
use crate::support::{End, Setup, able, assert_end, compile, guest, live, parse, trap_guests};

/// The component of a core module that is a command.
fn component(module: &Module) -> Module {
    let encoded = ComponentEncoder::default()
        .module(module.bytes())
        .and_then(|encoder| {
            encoder.adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER)
        })
        .and_then(|mut encoder| encoder.encode())
        .unwrap_or_else(|error| panic!("{error:#}"));
    Module::parse(encoded, &ModuleLimits::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// The engines that run components, which are not all engines.
fn engines_for(component: &Module) -> Vec<&'static Known> {
    assert!(component.is_component());
    assert_eq!(component.check_entry(&Entry::Command), Ok(()));
    able(component)
}

#[test]
fn components_trap_as_core_modules_do() {
    for (folder, kind) in [
        ("unreachable", TrapKind::Unreachable),
        ("table_out_of_bounds", TrapKind::TableOutOfBounds),
        ("integer_division_by_zero", TrapKind::IntegerDivisionByZero),
        ("integer_overflow", TrapKind::IntegerOverflow),
        ("bad_conversion_to_integer", TrapKind::BadConversionToInteger),
        ("indirect_call_to_null", TrapKind::IndirectCallToNull),
        ("bad_signature", TrapKind::BadSignature),
        ("stack_exhausted", TrapKind::StackExhausted),
    ] {
        for (name, module) in trap_guests(folder) {
            // Component model's own rules forbid calls out of a core module while it is instantiated.
            if module.has_start() {
                continue;
            }
            let component = component(&module);
            for known in engines_for(&component) {
                let artifact = compile(known, &component);
                for _ in 0..2 {
                    let ended = live(&artifact, &Entry::Command, &Setup::default()).unwrap();
                    assert_end(known.id, ended.end(), End::Trapped(kind), &name);
                }
            }
        }
    }
}

/// The suite's guests trap just beyond their memory, in which the adapter takes a page for itself.
#[test]
fn components_are_kept_to_their_memory() {
    for body in ["(drop (i32.load (i32.const 0x7fffffff)))", "(i64.store (i32.const -8) (i64.const 1))"] {
        let component =
            component(&parse(&format!(r#"(module (memory (export "memory") 1) (func (export "_start") {body}))"#)));
        for known in engines_for(&component) {
            let ended = live(&compile(known, &component), &Entry::Command, &Setup::default()).unwrap();
            assert_end(known.id, ended.end(), End::Trapped(TrapKind::MemoryOutOfBounds), &body);
        }
    }
}

#[test]
fn components_that_run_away_are_stopped() {
    let guests = trap_guests("interrupted");
    for (name, module) in guests.iter().filter(|(_, module)| !module.has_start()) {
        let component = component(module);
        for known in engines_for(&component) {
            let artifact = compile(known, &component);
            for (i, when) in WHENS.into_iter().enumerate() {
                let cause = CAUSES[i % 2];
                let end = interrupted(&artifact, &Entry::Command, false, when, cause);
                assert_eq!(end, End::Interrupted(cause), "{name} {when:?} on {}", known.id);
            }
        }
    }
}

/// The flag does not reach core modules of components within the component; start functions run before anything is called.
#[test]
fn components_are_stopped_wherever_they_run() {
    let within = parse(
        r#"(component
          (component $inner
            (core module $m (func (export "run") (result i32) (loop (br 0)) (unreachable)))
            (core instance $i (instantiate $m))
            (func $run (result (result)) (canon lift (core func $i "run")))
            (instance $cli (export "run" (func $run)))
            (export "cli" (instance $cli)))
          (instance $inner (instantiate $inner))
          (alias export $inner "cli" (instance $cli))
          (export "wasi:cli/run@0.2.0" (instance $cli)))"#,
    );
    let at_start = parse(
        r#"(component
          (core module $m
            (func $spin (loop (br 0)))
            (func (export "run") (result i32) (i32.const 0))
            (start $spin))
          (core instance $i (instantiate $m))
          (func $run (result (result)) (canon lift (core func $i "run")))
          (instance $cli (export "run" (func $run)))
          (export "wasi:cli/run@0.2.0" (instance $cli)))"#,
    );
    for (component, is_at_start) in [(within, false), (at_start, true)] {
        for known in engines_for(&component) {
            let artifact = compile(known, &component);
            for (i, when) in WHENS.into_iter().enumerate() {
                if is_at_start && when == When::BeforeCall {
                    // There is no call.
                    continue;
                }
                let cause = CAUSES[i % 2];
                let end = interrupted(&artifact, &Entry::Command, is_at_start, when, cause);
                assert_eq!(end, End::Interrupted(cause), "{when:?} on {}", known.id);
            }
        }
    }
}

#[test]
fn a_component_that_waits_is_stopped() {
    let component = component(&guest("sleep/sleep.wasm"));
    for known in engines_for(&component) {
        let artifact = compile(known, &component);
        for cause in CAUSES {
            let mut setup = Setup::default();
            setup.context.args = vec!["sleep".into(), "3600000".into()];
            let ended = thread::scope(|scope| {
                let guest = scope.spawn(|| live(&artifact, &Entry::Command, &setup));
                setup.interrupt.raise(cause);
                guest.join().unwrap().unwrap()
            });
            assert_eq!(ended.end(), End::Interrupted(cause), "{}: {ended:?}", known.id);
        }
    }
}

/// All components of an engine look up when one is interrupted; only that one may stop.
#[test]
fn who_is_not_meant_goes_on() {
    let spinning = component(&guest("spin/spin.wasm"));
    let working = component(&guest("fib/fib.wasm"));
    for known in engines_for(&spinning) {
        let (spinning, working) = (compile(known, &spinning), compile(known, &working));
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                let mut setup = Setup::default();
                setup.context.args = vec!["fib".into()];
                let ended = live(&working, &Entry::Command, &setup).unwrap();
                is_done.store(true, Ordering::Release);
                ended
            });
            let mut stopped = 0;
            while stopped < 3 || !is_done.load(Ordering::Acquire) {
                let mut setup = Setup::default();
                setup.context.args = vec!["spin".into()];
                let ended = thread::scope(|scope| {
                    let guest = scope.spawn(|| live(&spinning, &Entry::Command, &setup).unwrap());
                    setup.interrupt.raise(Cause::Cancelled);
                    guest.join().unwrap()
                });
                assert_eq!(ended.end(), End::Interrupted(Cause::Cancelled), "{}", known.id);
                stopped += 1;
            }
            let ended = worker.join().unwrap();
            assert_eq!(ended.end(), End::Returned, "{}: {ended:?}", known.id);
        });
    }
}

#[test]
fn components_are_held_to_their_limits() {
    let growing = component(&parse(
        r#"(module (memory (export "memory") 1)
          (func (export "_start")
            (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable)))))"#,
    ));
    let flooding = component(&guest("flood/flood.wasm"));
    for known in engines_for(&growing) {
        let artifact = compile(known, &growing);
        let ended = live(&artifact, &Entry::Command, &Setup::default()).unwrap();
        assert_eq!((ended.end(), ended.at_start), (End::Exceeded(Limit::Memory), false), "{}", known.id);
        let ended = live(&artifact, &Entry::Command, &Setup::limited(1000, 1000)).unwrap();
        assert_eq!((ended.end(), ended.at_start), (End::Exceeded(Limit::Memory), true), "{}", known.id);

        let mut setup = Setup { limits: GuestLimits::default(), ..Setup::default() };
        setup.context.args = vec!["flood".into()];
        setup.context.stdout = Sink::Capture { bytes_max: 1 << 20 };
        let ended = live(&compile(known, &flooding), &Entry::Command, &setup).unwrap();
        assert_eq!(ended.end(), End::Exceeded(Limit::Output), "{}", known.id);
        assert!(ended.output.stdout.len() <= 1 << 20);
    }
}

#[test]
fn components_are_kept_and_loaded() {
    let component = component(&guest("hello/hello.wasm"));
    for known in engines_for(&component) {
        let artifact: Arc<dyn Artifact> = compile(known, &component);
        let loaded = reload(known, &component, &artifact, "component");
        for artifact in [artifact, loaded] {
            let ended = live(&artifact, &Entry::Command, &Setup::default()).unwrap();
            assert_eq!(ended.end(), End::Returned, "{}", known.id);
            assert!(!ended.output.stdout.is_empty(), "{}", known.id);
        }
    }
}

/// The same for a command of WASI 0.3, which no adapter makes of a core module: the arguments say what it does.
#[test]
fn commands_of_wasi_0_3_keep_the_same_promises() {
    let component = guest("p3/p3.wasm");
    let setup = |what: &str| {
        let mut setup = Setup { limits: GuestLimits::default(), ..Setup::default() };
        setup.context.args = vec!["p3".into(), what.into()];
        setup.context.stdout = Sink::Capture { bytes_max: 1 << 20 };
        setup
    };
    for known in engines_for(&component) {
        let compiled: Arc<dyn Artifact> = compile(known, &component);
        let loaded = reload(known, &component, &compiled, "p3");
        for artifact in [compiled, loaded] {
            for (what, end) in [
                ("hello", End::Returned),
                ("something else", End::Exited(1)),
                ("exit", End::Exited(7)),
                ("trap", End::Trapped(TrapKind::Unreachable)),
                ("flood", End::Exceeded(Limit::Output)),
            ] {
                let ended = live(&artifact, &Entry::Command, &setup(what)).unwrap();
                assert_end(known.id, ended.end(), end, &what);
                assert!(ended.output.stdout.len() <= 1 << 20, "{}", known.id);
                assert!(what != "hello" || *ended.output.stdout == *b"hello\n", "{}", known.id);
            }
            for (what, cause) in [("sleep", CAUSES[0]), ("spin", CAUSES[1]), ("flood", CAUSES[0])] {
                let mut setup = setup(what);
                if what == "flood" {
                    // Nobody stops it but its interrupt.
                    setup.context.stdout = Sink::CaptureHead { bytes_max: 1 };
                }
                let ended = thread::scope(|scope| {
                    let guest = scope.spawn(|| live(&artifact, &Entry::Command, &setup));
                    setup.interrupt.raise(cause);
                    guest.join().unwrap().unwrap()
                });
                assert_end(known.id, ended.end(), End::Interrupted(cause), &what);
            }
        }
    }
}
