//! What it costs that an engine is another process: starting one, and each call of WASI, beside the engines within the
//! process. A call that moves no bytes shows the price of the way to the host and back; the bytes show what a memory
//! that both processes share could save.
//!
//! `cargo bench --workspace --bench workers [-- [--rounds N] [ENGINE]...]`

#[expect(dead_code, reason = "the guest of this benchmark is none of the suite's")]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, Known, Module, Registry};
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome, Sink, Value};
use support::Arguments;

/// A guest that calls a function of WASI `$times` times: `write` with a buffer of `$bytes`, to a stream that drops it,
/// and `now` with nothing.
const CALLS: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
    (memory (export "memory") 32)
    (func (export "write") (param $times i32) (param $bytes i32)
        (i32.store (i32.const 0) (i32.const 65536))
        (i32.store (i32.const 4) (local.get $bytes))
        (loop $again
            (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1))))))
    (func (export "now") (param $times i32)
        (loop $again
            (if (call $clock_time_get (i32.const 1) (i64.const 0) (i32.const 16)) (then unreachable))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))"#;

/// The sizes of the buffers that are written, in bytes.
const WRITES: [i32; 4] = [0, 4 << 10, 64 << 10, 1 << 20];

fn main() {
    let arguments = Arguments::parse(2_000);
    let rounds = i32::try_from(arguments.rounds).expect("it is a small number");
    let registry = Registry::default();
    let module = parse(CALLS);
    let able: Vec<&Known> = registry.usable().collect();
    let names = || able.iter().map(|known| known.id.as_str());
    println!("\n## Start of an engine: milliseconds, the best of 10\n");
    println!("| engine | start |\n|---|---:|");
    for known in able.iter().filter(|known| arguments.has(known.id.as_str(), names())) {
        // Each registry starts its engines anew.
        let start = || {
            let (fresh, began) = (Registry::default(), Instant::now());
            fresh.open(known.id).expect("it has started before");
            began.elapsed()
        };
        let best = (0..10).map(|_| start()).min().unwrap_or_default();
        println!("| {} | {:.2} |", known.id, best.as_secs_f64() * 1e3);
    }
    println!("\n## A call of WASI: microseconds, the mean of {rounds} calls, the best of 5 runs\n");
    println!(
        "| engine | clock_time_get | {} |",
        WRITES.map(|bytes| format!("fd_write {} KiB", bytes >> 10)).join(" | ")
    );
    println!("|---|---:|{}", "---:|".repeat(WRITES.len()));
    for known in able.iter().filter(|known| arguments.has(known.id.as_str(), names())) {
        let artifact = registry.open(known.id).and_then(|engine| engine.compile(&module)).expect("the engine starts");
        let now = best_us(&artifact, "now", &[Value::I32(rounds)], rounds);
        let writes = WRITES.map(|bytes| {
            // As many bytes as 2,000 calls with 64 KiB have, so that a run does not take minutes.
            let times = rounds.min(rounds * (64 << 10) / bytes.max(64 << 10));
            format!("{:.2}", best_us(&artifact, "write", &[Value::I32(times), Value::I32(bytes)], times))
        });
        println!("| {} | {now:.2} | {} |", known.id, writes.join(" | "));
    }
}

fn parse(text: &str) -> Module {
    let bytes = wat::parse_str(text).expect("it is a module");
    Module::parse(bytes, &ModuleLimits::default()).expect("it is within all bounds")
}

/// The best time of five runs, in microseconds for each of `times` calls.
fn best_us(artifact: &Arc<dyn Artifact>, name: &str, args: &[Value], times: i32) -> f64 {
    let run = || {
        let context = GuestContext { stdout: Sink::CaptureHead { bytes_max: 0 }, ..GuestContext::default() };
        let instance = Arc::clone(artifact).instantiate(&context, &GuestLimits::default(), &Interrupt::new());
        let mut instance = instance.unwrap_or_else(|error| panic!("{error}"));
        let began = Instant::now();
        let called = instance
            .call(&Entry::Export { name: name.into(), args: args.to_vec() })
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(called.outcome, Outcome::Returned);
        began.elapsed()
    };
    let best = (0..5).map(|_| run()).min().unwrap_or(Duration::ZERO);
    best.as_secs_f64() * 1e6 / f64::from(times)
}
