//! The cost of moving, and the time that it saves. Each number is the median of interleaved rounds. For each guest:
//!
//! - `polls`: the time of a guest that can leave Wasmi but stays, as a ratio to that of the same guest without points;
//! - `whole` and `part`: milliseconds to compile the module, and the part of it that is hot, on one core;
//! - `wasmi`, `winch`, `cranelift`: milliseconds to compile and run the guest there, cold, on all cores;
//! - `moved`: the same on Wasmi, while another thread finds out where the guest is and compiles a part with Cranelift;
//! - `ratio`: the ratio of `moved` to the best of these three.
//!
//! `cargo bench --workspace --bench moves [-- [--rounds N] [GUEST]...]`

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use remuda_engine::{Artifact, Engine, Extent, Module, Moves, Registry, testing};
use remuda_model::{EngineId, Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome, Sink, Stdin};
use support::{Arguments, guests};

const WASMI: EngineId = EngineId::new("wasmi.lazy");
const WINCH: EngineId = EngineId::new("wasmtime.winch");
const CRANELIFT: EngineId = EngineId::new("wasmtime.cranelift");

/// How long the compiling thread waits for the guest to come to a point.
const PATIENCE: Duration = Duration::from_millis(20);
/// How long the compiling thread sleeps after the guest has come to no new point.
const LOOK_EVERY: Duration = Duration::from_millis(1);

struct Guest {
    name: String,
    module: Module,
    context: GuestContext,
}

fn main() {
    let arguments = Arguments::parse(5);
    let registry = Registry::default();
    let open = |id| Arc::clone(registry.open(id).expect("the engine is built"));
    let (wasmi, winch, cranelift) = (open(WASMI), open(WINCH), open(CRANELIFT));
    println!(
        "{:<22}{:>7}{:>8}{:>8}{:>9}{:>9}{:>10}{:>9}{:>7}  moved for",
        "guest", "polls", "whole", "part", "wasmi", "winch", "cranelift", "moved", "ratio"
    );
    let (mut ratios, mut polls) = (Vec::new(), Vec::new());
    let all = all_guests();
    for guest in all.iter().filter(|guest| arguments.has(&guest.name, all.iter().map(|guest| &guest.name[..]))) {
        let staying = testing::without_points(&guest.module);
        let mut times: [Vec<f64>; 7] = Default::default();
        let mut stays = Vec::new();
        for _ in 0..arguments.rounds {
            times[0].push(cold(&*wasmi, &guest.module, guest, None).0);
            times[1].push(cold(&*wasmi, &staying, guest, None).0);
            times[2].push(cold(&*winch, &guest.module, guest, None).0);
            times[3].push(cold(&*cranelift, &guest.module, guest, None).0);
            let (ms, report) = cold(&*wasmi, &guest.module, guest, Some(&cranelift));
            times[4].push(ms);
            times[5].push(report.part_ms);
            stays = report.stays;
            let one = one_core();
            times[6].push(one.install(|| timed(|| drop(cranelift.compile(&guest.module)))));
        }
        let [departing, staying, winch, cranelift, moved, part, whole] = times.map(median);
        let ratio = moved / staying.min(winch).min(cranelift);
        ratios.push(ratio);
        polls.push(departing / staying);
        println!(
            "{:<22}{:>7.2}{whole:>8.1}{part:>8.1}{staying:>9.1}{winch:>9.1}{cranelift:>10.1}{moved:>9.1}{ratio:>7.2}  {}",
            guest.name,
            departing / staying,
            stays.join(", "),
        );
    }
    println!("geometric means: polls {:.3}, ratio {:.3}", geomean(&polls), geomean(&ratios));
}

#[derive(Default)]
struct Report {
    part_ms: f64,
    stays: Vec<String>,
}

/// Compiles a module and runs its guest. Returns the milliseconds from module to answer.
fn cold(engine: &dyn Engine, module: &Module, guest: &Guest, target: Option<&Arc<dyn Engine>>) -> (f64, Report) {
    let began = Instant::now();
    let artifact: Arc<dyn Artifact> = engine.compile(module).expect("it compiles");
    let (limits, interrupt) = (GuestLimits::default(), Interrupt::new());
    let mut instance = artifact.instantiate(&guest.context, &limits, &interrupt).expect("it can be instantiated");
    let moves = target.and_then(|_| instance.moves());
    let mover = moves.clone().zip(target.cloned()).map(|(moves, target)| {
        let module = module.clone();
        std::thread::spawn(move || one_core().install(|| compile_parts(&moves, &*target, &module)))
    });
    let called = instance.call(&Entry::Command).expect("the engine works");
    assert!(matches!(called.outcome, Outcome::Returned | Outcome::Exited { code: 0 }), "{}: {called:?}", guest.name);
    let ms = began.elapsed().as_secs_f64() * 1e3;
    drop(instance);
    let part_ms = mover.map_or(0.0, |mover| mover.join().expect("it does not panic"));
    let stays = moves.map(|moves| moves.stays()).unwrap_or_default();
    let words = |stay: &remuda_engine::Stay| format!("{} x {:.1} ms", stay.activations, stay.ns as f64 / 1e6);
    (ms, Report { part_ms, stays: stays.iter().map(words).collect() })
}

/// Compiles parts for new points as long as the guest runs. Returns the milliseconds that the first part took.
fn compile_parts(moves: &Moves, target: &dyn Engine, module: &Module) -> f64 {
    let mut known = Vec::new();
    let mut first = None;
    while !moves.is_over() {
        let new: Vec<_> = moves.find(PATIENCE).into_iter().filter(|point| !known.contains(point)).collect();
        if new.is_empty() {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        let began = Instant::now();
        if let Ok(part) = target.compile_part(module, &new, Extent::Hot) {
            first.get_or_insert_with(|| began.elapsed().as_secs_f64() * 1e3);
            moves.offer(part);
        }
        known.extend(new);
    }
    first.unwrap_or(f64::NAN)
}

/// A pool of one thread, to which a parallel compiler is confined.
fn one_core() -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread can be started")
}

fn timed(work: impl FnOnce()) -> f64 {
    let began = Instant::now();
    work();
    began.elapsed().as_secs_f64() * 1e3
}

fn median(mut values: Vec<f64>) -> f64 {
    values.retain(|value| !value.is_nan());
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn geomean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

fn all_guests() -> Vec<Guest> {
    let command = |name: &str, path: &str, args: &[&str], stdin: Option<&str>| {
        let file = |path: &str| {
            let path = guests().join(path);
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        let module = Module::parse(file(path), &ModuleLimits::default()).expect("a guest is valid");
        let stdin = stdin.map_or(Stdin::Empty, |path| Stdin::Bytes(file(path).into()));
        let args = [name].iter().chain(args).map(ToString::to_string).collect();
        let stdout = Sink::Capture { bytes_max: 64 << 20 };
        Guest { name: name.into(), module, context: GuestContext { args, stdin, stdout, ..GuestContext::default() } }
    };
    let mut all = Vec::new();
    let mut kernels: Vec<String> = std::fs::read_dir(guests().join("polybench"))
        .expect("the suite is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| guests().join(format!("polybench/{name}/{name}.wasm")).is_file())
        .collect();
    kernels.sort();
    for name in kernels {
        all.push(command(&name, &format!("polybench/{name}/{name}.wasm"), &["medium"], None));
    }
    all.push(command("matmul", "matmul/matmul.wasm", &["200", "--type", "f64"], None));
    all.push(command("fib", "fib/fib.wasm", &["30"], None));
    all.push(command("sha256", "sha256/sha256.wasm", &[], Some("lenet/lenet.wasm")));
    all.push(command("canny", "canny/canny.wasm", &[], Some("canny/input/camera.png")));
    all.push(command("lenet", "lenet/lenet.wasm", &[], Some("lenet/input/digit.pgm")));
    all.push(command("plate", "plate/plate.wasm", &[], Some("plate/input/scene-640.png")));
    all.push(command("unzip", "unzip/unzip.wasm", &[], Some("unzip/input/reference.zip")));
    all.push(command("attitude", "attitude/attitude.wasm", &[], Some("attitude/input/inertial.csv")));
    all.push(command("json", "json/json.wasm", &[], Some("json/input/large.json")));
    all
}
