//! The cost of being able to stop a guest, and how soon guests stop. First the times of the same functions with no way
//! to stop them, with the flag of `remuda_engine::instrument`, with epochs and with fuel, as ratios of the best of
//! several interleaved rounds. Then the time from the flag's write to the return of the host's call, for guests that
//! never end.
//!
//! `cargo bench --workspace --bench interruption [-- [--rounds N] [ENGINE | GUEST | costs | latency]...]`
#![allow(clippy::cast_possible_truncation, reason = "counts of a few thousand")]

#[path = "../support/mod.rs"]
mod support;
mod wasmer;
mod wasmi;
mod world;

use remuda_engine::{FLAG_FIELD, FLAG_MODULE, instrument};
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::Arguments;
use wasmtime::{Caller, Config, Engine, Extern, Linker, MemoryType, Module, SharedMemory, Store, Strategy, Trap};

struct Guest {
    name: &'static str,
    wasm: &'static str,
    args: &'static [&'static str],
    stdin_bytes: usize,
}

/// Guests that are short enough for the best of a few rounds to be undisturbed, and long enough that the time to start
/// does not matter.
const GUESTS: &[Guest] = &[
    Guest { name: "matmul", wasm: "matmul/matmul.wasm", args: &["200", "--type", "f64"], stdin_bytes: 0 },
    Guest { name: "sha256", wasm: "sha256/sha256.wasm", args: &[], stdin_bytes: 1 << 20 },
    Guest { name: "fib", wasm: "fib/fib.wasm", args: &["30"], stdin_bytes: 0 },
    Guest { name: "gemm", wasm: "polybench/gemm/gemm.wasm", args: &["medium"], stdin_bytes: 0 },
    Guest { name: "jacobi-2d", wasm: "polybench/jacobi-2d/jacobi-2d.wasm", args: &["small"], stdin_bytes: 0 },
    Guest { name: "cholesky", wasm: "polybench/cholesky/cholesky.wasm", args: &["small"], stdin_bytes: 0 },
    Guest {
        name: "floyd-warshall",
        wasm: "polybench/floyd-warshall/floyd-warshall.wasm",
        args: &["small"],
        stdin_bytes: 0,
    },
    Guest { name: "nussinov", wasm: "polybench/nussinov/nussinov.wasm", args: &["small"], stdin_bytes: 0 },
];

const ENGINES: &[(&str, Strategy)] =
    &[("wasmtime.cranelift", Strategy::Cranelift), ("wasmtime.winch", Strategy::Winch)];

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Never,
    Flag,
    Epoch,
    Fuel,
}

const WAYS: &[Way] = &[Way::Never, Way::Flag, Way::Epoch, Way::Fuel];

fn main() {
    let arguments = Arguments::parse(50);
    const PARTS: [&str; 2] = ["costs", "latency"];
    if arguments.has("costs", PARTS) {
        costs(&arguments);
    }
    if arguments.has("latency", PARTS) {
        latencies();
    }
}

fn costs(arguments: &Arguments) {
    let names = || GUESTS.iter().map(|guest| guest.name);
    let guests = GUESTS.iter().filter(|guest| arguments.has(guest.name, names()));
    let guests: Vec<(&Guest, Vec<u8>)> = guests.filter_map(|guest| Some((guest, read(guest)?))).collect();
    let others = ["wasmer.singlepass", "wasmi.lazy"];
    let is_chosen = |id: &str| arguments.has(id, ENGINES.iter().map(|(id, _)| *id).chain(others));
    let rounds = arguments.rounds;
    for (engine, strategy) in ENGINES.iter().filter(|(id, _)| is_chosen(id)) {
        let candidates: Vec<Candidate<'_>> =
            guests.iter().map(|(guest, wasm)| Candidate::new(guest, *strategy, wasm)).collect();
        report(engine, &best_of(rounds, candidates), rounds);
    }
    if is_chosen("wasmer.singlepass") {
        wasmer::costs(rounds, &guests);
    }
    // An interpreter is slower, and its times vary less: fewer rounds suffice.
    if is_chosen("wasmi.lazy") {
        wasmi::costs(rounds.div_ceil(5), &guests);
    }
}

fn geometric_mean(ratios: &[f64]) -> f64 {
    (ratios.iter().map(|ratio| ratio.ln()).sum::<f64>() / ratios.len() as f64).exp()
}

/// Runs every way of every guest once a round: a short disturbance affects all of them alike, and a longer one only
/// some rounds of each.
fn best_of(rounds: usize, mut candidates: Vec<Candidate<'_>>) -> Vec<Candidate<'_>> {
    for _ in 0..rounds {
        for candidate in &mut candidates {
            for (run, best) in candidate.runs.iter().zip(&mut candidate.best) {
                *best = run.time(candidate.guest).min(*best);
            }
        }
    }
    candidates
}

fn report(engine: &str, candidates: &[Candidate<'_>], rounds: usize) {
    println!("\n## {engine}, best of {rounds}\n");
    println!("| function | uninterruptible | flag | epoch | fuel | code bytes, flag | compile, flag |");
    println!("|---|---|---|---|---|---|---|");
    for candidate in candidates {
        let [never, flag, ..] = &candidate.runs[..] else { unreachable!("four ways") };
        println!(
            "| {} | {:.1} ms | {:.2} | {:.2} | {:.2} | {:.2} | {:.2} |",
            candidate.guest.name,
            candidate.best[0].as_secs_f64() * 1e3,
            candidate.ratio(1),
            candidate.ratio(2),
            candidate.ratio(3),
            flag.code_bytes() as f64 / never.code_bytes() as f64,
            flag.compile.as_secs_f64() / never.compile.as_secs_f64(),
        );
    }
    let mean =
        |way: usize| geometric_mean(&candidates.iter().map(|candidate| candidate.ratio(way)).collect::<Vec<_>>());
    println!("| geometric mean | | {:.2} | {:.2} | {:.2} | | |", mean(1), mean(2), mean(3));
}

/// A guest made ready to run in each of the ways, and the best time of each.
struct Candidate<'a> {
    guest: &'a Guest,
    runs: Vec<Prepared>,
    best: Vec<Duration>,
}

impl<'a> Candidate<'a> {
    fn new(guest: &'a Guest, strategy: Strategy, wasm: &[u8]) -> Self {
        let runs = WAYS.iter().map(|way| Prepared::new(strategy, *way, wasm)).collect();
        Candidate { guest, runs, best: vec![Duration::MAX; WAYS.len()] }
    }

    fn ratio(&self, way: usize) -> f64 {
        self.best[way].as_secs_f64() / self.best[0].as_secs_f64()
    }
}

fn read(guest: &Guest) -> Option<Vec<u8>> {
    let path = support::guests().join(guest.wasm);
    let wasm = std::fs::read(&path);
    if wasm.is_err() {
        eprintln!("{}: not there, left out", path.display());
    }
    wasm.ok()
}

struct Prepared {
    way: Way,
    engine: Engine,
    module: Module,
    linker: Linker<Wasi>,
    flag: SharedMemory,
    compile: Duration,
}

impl Prepared {
    fn new(strategy: Strategy, way: Way, wasm: &[u8]) -> Self {
        let mut config = Config::new();
        config.strategy(strategy).wasm_threads(true).shared_memory(true).wasm_multi_memory(true);
        config.epoch_interruption(way == Way::Epoch).consume_fuel(way == Way::Fuel);
        let engine = Engine::new(&config).expect("the configuration is one of ours");
        let compile = || {
            let begun = Instant::now();
            let module = if way == Way::Flag {
                Module::new(&engine, instrument(wasm).expect("a guest of ours can be rewritten").bytes)
            } else {
                Module::new(&engine, wasm)
            };
            (begun.elapsed(), module.expect("a guest of ours compiles"))
        };
        let (compile, module) = (0..5).map(|_| compile()).min_by_key(|(took, _)| *took).expect("five are not none");
        let flag = new_flag(&engine);
        let linker = wasi(&engine, &module);
        Prepared { way, engine, module, linker, flag, compile }
    }

    fn code_bytes(&self) -> usize {
        self.module.functions().map(|function| function.len).sum()
    }

    fn time(&self, guest: &Guest) -> Duration {
        let mut store = Store::new(&self.engine, Wasi::new(guest));
        match self.way {
            Way::Epoch => store.set_epoch_deadline(1 << 60),
            Way::Fuel => store.set_fuel(u64::MAX).expect("fuel is on"),
            Way::Never | Way::Flag => {}
        }
        let mut linker = self.linker.clone();
        if self.way == Way::Flag {
            linker.define(&store, FLAG_MODULE, FLAG_FIELD, self.flag.clone()).expect("nobody else defines it");
        }
        let instance = linker.instantiate(&mut store, &self.module).expect("every import is there");
        let start = instance.get_typed_func::<(), ()>(&mut store, "_start").expect("a command has _start");
        let begun = Instant::now();
        let ended = start.call(&mut store, ());
        let took = begun.elapsed();
        assert!(ended.is_ok() || store.data().exit_code == Some(0), "{}: {ended:?}", guest.name);
        assert!(store.data().written > 0, "{} wrote nothing", guest.name);
        took
    }
}

fn new_flag(engine: &Engine) -> SharedMemory {
    SharedMemory::new(engine, MemoryType::shared(1, 1)).expect("a page of memory")
}

fn set(flag: &SharedMemory, value: u8) {
    // SAFETY: this is the first byte of a page that lives as long as `flag`. The guest reads it by atomic loads of one
    // byte, and nothing else accesses it.
    unsafe { AtomicU8::from_ptr(flag.data()[0].get()) }.store(value, Ordering::Relaxed);
}

/// Guests that never end, or not in this century. `{chain}` makes 2^64 calls without a cycle, and `{work}` is a long
/// stretch of code.
const ENDLESS: &[(&str, &str)] = &[
    ("loop", r#"(func (export "run") (loop (br 0)))"#),
    ("loop of host calls", r#"(func (export "run") (loop (call $host) (br 0)))"#),
    (
        "loop of memory.fill, 64 MiB each",
        r#"(memory 1024) (func (export "run")
            (loop (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x4000000)) (br 0)))"#,
    ),
    (
        "exponential recursion",
        r#"(func $f (export "run") (if (i32.lt_u (global.get $depth) (i32.const 60)) (then
            (global.set $depth (i32.add (global.get $depth) (i32.const 1))) (call $f) (call $f)
            (global.set $depth (i32.sub (global.get $depth) (i32.const 1))))))"#,
    ),
    ("calls that double 64 times", r#"(func (export "run") (call $f0)) {chain}"#),
    (
        "return from 9000 frames",
        r#"(func (export "run") (loop (global.set $depth (i32.const 9000)) (call $f) (br 0)))
        (func $f (if (global.get $depth) (then
            (global.set $depth (i32.sub (global.get $depth) (i32.const 1))) (call $f))) {work})"#,
    ),
];

fn latencies() {
    const RUNS: usize = 50;
    let chain: String = (0..64).map(|n| format!("(func $f{n} (call $f{0}) (call $f{0}))", n + 1)).collect();
    let work = "(global.set $work (i32.add (global.get $work) (i32.const 1)))".repeat(250);
    println!("\n## From the flag's write to the return, {RUNS} runs\n");
    println!("| engine | guest | median | worst |\n|---|---|---|---|");
    for (name, strategy) in ENGINES {
        for (what, text) in ENDLESS {
            let text = text.replace("{chain}", &format!("{chain} (func $f64)")).replace("{work}", &work);
            let wat = format!(
                r#"(module (import "env" "host" (func $host))
                (global $depth (mut i32) (i32.const 0)) (global $work (mut i32) (i32.const 0)) {text})"#
            );
            let mut took = stop_times(*strategy, &wat, RUNS);
            took.sort();
            let us = |at: usize| took[at].as_secs_f64() * 1e6;
            println!("| {name} | {what} | {:.0} us | {:.0} us |", us(took.len() / 2), us(took.len() - 1));
        }
    }
}

fn stop_times(strategy: Strategy, wat: &str, runs: usize) -> Vec<Duration> {
    let mut config = Config::new();
    config.strategy(strategy).wasm_threads(true).shared_memory(true).wasm_multi_memory(true);
    let engine = Engine::new(&config).expect("the configuration is one of ours");
    let wasm = wat::parse_str(wat).expect("a module of ours parses");
    let module = instrument(&wasm).expect("it can be rewritten");
    let module = Module::new(&engine, module.bytes).expect("it compiles");
    let flag = new_flag(&engine);
    let stop_once = |_| {
        set(&flag, 0);
        let mut store = Store::new(&engine, ());
        let mut linker = Linker::new(&engine);
        linker.func_wrap("env", "host", || {}).expect("a new name");
        linker.define(&store, FLAG_MODULE, FLAG_FIELD, flag.clone()).expect("a new name");
        let instance = linker.instantiate(&mut store, &module).expect("every import is there");
        let run = instance.get_typed_func::<(), ()>(&mut store, "run").expect("it exports run");
        let writer = flag.clone();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            let written = Instant::now();
            set(&writer, 1);
            written
        });
        let trap = run.call(&mut store, ()).expect_err("it never ends");
        let ended = Instant::now();
        assert_eq!(trap.downcast_ref::<Trap>(), Some(&Trap::UnreachableCodeReached), "{trap:?}");
        ended - writer.join().expect("the writer does not panic")
    };
    (0..runs).map(stop_once).collect()
}

/// The state of as much of WASI preview 1 as the guests of this file call.
struct Wasi {
    args: Vec<Vec<u8>>,
    stdin: Vec<u8>,
    read: usize,
    written: usize,
    exit_code: Option<i32>,
}

impl Wasi {
    fn new(guest: &Guest) -> Self {
        let args = [guest.name].iter().chain(guest.args).map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        let stdin = (0..guest.stdin_bytes).map(|at| at as u8).collect();
        Wasi { args, stdin, read: 0, written: 0, exit_code: None }
    }
}

fn wasi(engine: &Engine, module: &Module) -> Linker<Wasi> {
    const WASI: &str = "wasi_snapshot_preview1";
    let mut linker = Linker::new(engine);
    linker.func_wrap(WASI, "args_sizes_get", args_sizes_get).expect("a new name");
    linker.func_wrap(WASI, "args_get", args_get).expect("a new name");
    linker.func_wrap(WASI, "fd_read", fd_read).expect("a new name");
    linker.func_wrap(WASI, "fd_write", fd_write).expect("a new name");
    linker.func_wrap(WASI, "fd_close", |_: i32| 0).expect("a new name");
    linker.func_wrap(WASI, "fd_seek", |_: i32, _: i64, _: i32, _: i32| 70).expect("a new name");
    linker.func_wrap(WASI, "fd_fdstat_get", fd_fdstat_get).expect("a new name");
    linker.func_wrap(WASI, "clock_time_get", clock_time_get).expect("a new name");
    linker.func_wrap(WASI, "proc_exit", proc_exit).expect("a new name");
    // These guests call nothing else. The flag is defined later, for each store.
    linker.define_unknown_imports_as_traps(module).expect("new names");
    linker
}

fn with_memory<R>(mut caller: Caller<'_, Wasi>, act: impl FnOnce(&mut [u8], &mut Wasi) -> R) -> R {
    let Some(Extern::Memory(memory)) = caller.get_export("memory") else { panic!("a WASI command exports its memory") };
    let (bytes, wasi) = memory.data_and_store_mut(&mut caller);
    act(bytes, wasi)
}

fn word(memory: &[u8], at: u32) -> u32 {
    u32::from_le_bytes(memory[at as usize..][..4].try_into().expect("four bytes"))
}

fn put(memory: &mut [u8], at: u32, value: u32) {
    memory[at as usize..][..4].copy_from_slice(&value.to_le_bytes());
}

fn args_sizes_get(caller: Caller<'_, Wasi>, count: u32, bytes: u32) -> i32 {
    with_memory(caller, |memory, wasi| {
        put(memory, count, wasi.args.len() as u32);
        put(memory, bytes, wasi.args.iter().map(Vec::len).sum::<usize>() as u32);
        0
    })
}

fn args_get(caller: Caller<'_, Wasi>, mut pointers: u32, mut bytes: u32) -> i32 {
    with_memory(caller, |memory, wasi| {
        for arg in &wasi.args {
            put(memory, pointers, bytes);
            memory[bytes as usize..][..arg.len()].copy_from_slice(arg);
            pointers += 4;
            bytes += arg.len() as u32;
        }
        0
    })
}

fn fd_read(caller: Caller<'_, Wasi>, _fd: i32, vectors: u32, count: u32, read: u32) -> i32 {
    with_memory(caller, |memory, wasi| {
        let mut total = 0;
        for at in (0..count).map(|n| vectors + 8 * n) {
            let (to, len) = (word(memory, at) as usize, word(memory, at + 4) as usize);
            let len = len.min(wasi.stdin.len() - wasi.read);
            memory[to..to + len].copy_from_slice(&wasi.stdin[wasi.read..][..len]);
            wasi.read += len;
            total += len as u32;
        }
        put(memory, read, total);
        0
    })
}

fn fd_write(caller: Caller<'_, Wasi>, _fd: i32, vectors: u32, count: u32, written: u32) -> i32 {
    with_memory(caller, |memory, wasi| {
        let total = (0..count).map(|n| word(memory, vectors + 8 * n + 4)).sum();
        wasi.written += total as usize;
        put(memory, written, total);
        0
    })
}

fn fd_fdstat_get(caller: Caller<'_, Wasi>, _fd: i32, stat: u32) -> i32 {
    with_memory(caller, |memory, _| {
        memory[stat as usize..][..24].fill(0);
        memory[stat as usize] = 6;
        0
    })
}

fn clock_time_get(caller: Caller<'_, Wasi>, _clock: i32, _precision: i64, time: u32) -> i32 {
    with_memory(caller, |memory, _| {
        memory[time as usize..][..8].fill(0);
        0
    })
}

fn proc_exit(mut caller: Caller<'_, Wasi>, code: i32) -> wasmtime::Result<()> {
    caller.data_mut().exit_code = Some(code);
    Err(Trap::Interrupt.into())
}
