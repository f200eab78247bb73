//! A guest that moves to another engine while it runs ends like one that stays where it is.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use remuda_engine::{Artifact, Engine, Extent, Instance, InstantiateError, Module, Part, Point, testing};
use remuda_model::{Cause, EngineId, Entry, GuestContext, Stdin};
use serde::Deserialize;

use crate::support::{End, Ended, Random, Setup, able, engines, guest, guests, live, open, parse};

/// The engine that guests begin on and leave.
const ORIGIN: EngineId = EngineId::new("wasmi.lazy");

/// The number of moments at which each case moves, for each engine. To look for faults, set more: `MOVES=1000`.
static MOMENTS: LazyLock<usize> =
    LazyLock::new(|| std::env::var("MOVES").ok().map_or(3, |text| text.parse().expect("MOVES is a number")));

/// The most asks of a case. Cases that ask more often take long, and their guests have other cases.
const ASKS_MAX: u64 = 150_000;

#[derive(Deserialize)]
struct Guest {
    name: String,
    suite: String,
    #[serde(default)]
    variant: Vec<Variant>,
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Variant {
    name: String,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    tier: String,
    #[serde(default)]
    args: Vec<String>,
    stdin: Option<PathBuf>,
    exit_code: Option<i32>,
    trap: Option<String>,
    #[serde(default)]
    dir: Vec<toml::Value>,
}

impl Case {
    /// Whether the case is to be run here: its guest ends by itself, needs no folders, and is short.
    fn is_meant(&self) -> bool {
        let ends = self.exit_code.is_some() || self.trap.as_ref().is_some_and(|trap| trap != "interrupted");
        self.tier == "test" && self.dir.is_empty() && ends
    }
}

/// One guest with one input.
struct Subject {
    label: String,
    module: Module,
    setup: Setup,
}

fn subjects() -> Vec<Subject> {
    let mut subjects = Vec::new();
    let mut folders = vec![guests()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if path.ends_with("guest.toml") {
                subjects_of(&path, &mut subjects);
            }
        }
    }
    assert!(subjects.len() > 50, "the suite has more cases than {}", subjects.len());
    subjects
}

fn subjects_of(manifest: &std::path::Path, subjects: &mut Vec<Subject>) {
    let described: Guest = toml::from_str(&std::fs::read_to_string(manifest).unwrap()).unwrap();
    // Guests of the suite "wasi" need folders, and wait.
    if described.suite == "wasi" || described.name == "sleep" {
        return;
    }
    let folder = manifest.parent().unwrap();
    let variants = described.variant.iter().map(|variant| format!(".{}", variant.name));
    for variant in [String::new()].into_iter().chain(variants) {
        let path = folder.join(format!("{}{variant}.wasm", described.name));
        if !path.is_file() {
            continue;
        }
        let module = guest(path);
        for case in described.case.iter().filter(|case| case.is_meant()) {
            let stdin = match &case.stdin {
                Some(file) => Stdin::Bytes(std::fs::read(folder.join(file)).unwrap().into()),
                None => Stdin::Empty,
            };
            let args = [described.name.clone()].into_iter().chain(case.args.iter().cloned()).collect();
            let context = GuestContext { args, stdin, ..GuestContext::default() };
            let setup = Setup { context, ..Setup::default() };
            subjects.push(Subject {
                label: format!("{}{variant} {}", described.name, case.name),
                module: module.clone(),
                setup,
            });
        }
    }
}

/// The parts that one engine has compiled of one module, by point and extent.
#[derive(Clone, Default)]
struct Parts(Arc<Mutex<HashMap<(Point, Extent), Part>>>);

impl Parts {
    fn get(&self, engine: &dyn Engine, module: &Module, point: Point, extent: Extent) -> Part {
        let mut known = self.0.lock().unwrap();
        known
            .entry((point, extent))
            .or_insert_with(|| engine.compile_part(module, &[point], extent).unwrap_or_else(|error| panic!("{error}")))
            .clone()
    }
}

/// Runs a guest that asks at every point. `offer` is told how often it has asked before, and may offer a part. Returns
/// how the guest ended, how often it asked, and how many activations went on in parts.
fn run(
    artifact: &Arc<dyn Artifact>,
    setup: &Setup,
    mut offer: impl FnMut(u64, Point) -> Option<Part> + Send + 'static,
) -> (Ended, u64, u64) {
    let asked = Arc::new(AtomicU64::new(0));
    let mut instance: Box<dyn Instance> =
        match Arc::clone(artifact).instantiate(&setup.context, &setup.limits, &setup.interrupt) {
            Ok(instance) => instance,
            Err(InstantiateError::Guest { outcome, output }) => {
                return (Ended { called: outcome.into(), output: *output, at_start: true }, 0, 0);
            }
            Err(InstantiateError::Engine(error)) => panic!("{error}"),
        };
    let moves = instance.moves();
    if let Some(moves) = &moves {
        let asked = Arc::clone(&asked);
        testing::at_every_point(moves, move |point| offer(asked.fetch_add(1, Ordering::Relaxed), point));
    }
    let called = instance.call(&Entry::Command).unwrap_or_else(|error| panic!("{error}"));
    let activations = moves.map_or(0, |moves| moves.stays().iter().map(|stay| stay.activations).sum());
    (Ended { called, output: instance.into_output(), at_start: false }, asked.load(Ordering::Relaxed), activations)
}

#[test]
fn every_guest_moves_to_every_engine_at_random_moments() {
    let targets = targets();
    if targets.is_empty() || !engines().iter().any(|known| known.id == ORIGIN) {
        return;
    }
    let origin = engines().into_iter().find(|known| known.id == ORIGIN).map(open).unwrap();
    let (mut movable, mut moved, mut activations) = (0, 0, 0);
    for subject in subjects() {
        if !able(&subject.module).iter().any(|known| known.id == ORIGIN) {
            continue;
        }
        let artifact = origin.compile(&subject.module).unwrap();
        let unmoved = live(&artifact, &Entry::Command, &subject.setup).unwrap();
        // The number of asks says which moments there are.
        let (watched, asks, _) = run(&artifact, &subject.setup, |_, _| None);
        assert_same(&watched, &unmoved, &format!("{} while it asks", subject.label));
        // A case that asks more often takes long, and its guest has smaller cases.
        if asks == 0 || asks > ASKS_MAX {
            continue;
        }
        movable += 1;
        let parts: Vec<(EngineId, Parts)> = targets.iter().map(|known| (known.id, Parts::default())).collect();
        let mut random = Random(subject.label.bytes().fold(7, |seed, byte| seed * 31 + u64::from(byte)));
        // The guest moves to each engine alone, and to all engines one after the other.
        for route in parts.chunks(1).chain([&parts[..]]) {
            for _ in 0..*MOMENTS {
                let mut moments: Vec<u64> = route.iter().map(|_| random.next() % asks).collect();
                moments.sort_unstable();
                let extent = [Extent::Hot, Extent::Whole][random.below(2)];
                let label = format!("{} moved at points {moments:?} of {asks} ({extent:?})", subject.label);
                let (module, route) = (subject.module.clone(), route.to_vec());
                let (ended, _, went) = run(&artifact, &subject.setup, move |before, point| {
                    let at = moments.iter().position(|moment| *moment == before)?;
                    let (engine, parts) = &route[at];
                    Some(parts.get(&**open(known(*engine)), &module, point, extent))
                });
                assert_same(&ended, &unmoved, &label);
                moved += u64::from(went > 0);
                activations += went;
            }
        }
    }
    println!("{movable} guests, {moved} moves, {activations} activations");
    assert!(moved > 100, "only {moved} runs moved");
}

fn assert_same(ended: &Ended, unmoved: &Ended, label: &str) {
    assert_eq!(End::from(&ended.called.outcome), End::from(&unmoved.called.outcome), "{label}: {ended:?}");
    assert!(ended.output == unmoved.output, "{label}: other output");
    assert_eq!(ended.called.values, unmoved.called.values, "{label}");
    assert_eq!(ended.called.refused_growth, unmoved.called.refused_growth, "{label}");
}

/// Guests that do something special in a part, or on the way there and back. `_start` comes to a point at least once.
const WAYS: &[(&str, &str)] = &[
    (
        "writes before, in and after a loop",
        r#"(import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (data (i32.const 0) "\10\00\00\00\01\00\00\00") (data (i32.const 16) "abcdef")
        (func $put (param i32)
            (i32.store8 (i32.const 16) (local.get 0))
            (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
        (func (export "_start") (local $i i32)
            (call $put (i32.const 65))
            (loop $again
                (call $put (i32.add (local.get $i) (i32.const 97)))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10))))
            (call $put (i32.const 90)))"#,
    ),
    (
        "exits in a loop",
        r#"(import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
        (memory (export "memory") 1)
        (func (export "_start") (local $i i32)
            (loop $again
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (if (i32.eq (local.get $i) (i32.const 7)) (then (call $exit (local.get $i))))
                (br $again)))"#,
    ),
    (
        "is refused memory in a loop",
        r#"(memory (export "memory") 1)
        (func (export "_start")
            (loop $again (br_if $again (i32.ne (memory.grow (i32.const 3)) (i32.const -1))))
            (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (i32.const 1))
            (if (i32.ne (i32.load (i32.const 65532)) (i32.const 0)) (then unreachable)))"#,
    ),
    (
        "grows memory in a function that is not in the part, and uses it in a loop",
        r#"(memory (export "memory") 1)
        (global $end (mut i32) (i32.const 65536))
        (func $more (drop (memory.grow (i32.const 1))) (global.set $end (i32.mul (memory.size) (i32.const 65536))))
        (func (export "_start") (local $i i32)
            (block $out
                (loop $wait (br_if $out (i32.ge_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 3))) (br $wait)))
            (call $more)
            (i32.store (i32.sub (global.get $end) (i32.const 4)) (i32.const 5))
            (call $more)
            (loop $fill
                (i32.store (i32.sub (global.get $end) (i32.const 8)) (local.get $i))
                (br_if $fill (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 30))))
            (if (i32.ne (i32.load (i32.const 131068)) (i32.const 5)) (then unreachable)))"#,
    ),
    (
        "reads beyond its memory in a loop",
        r#"(memory (export "memory") 1)
        (func (export "_start") (local $i i32)
            (loop $again
                (drop (i32.load (local.get $i)))
                (local.set $i (i32.add (local.get $i) (i32.const 16)))
                (br $again)))"#,
    ),
    (
        "traps in a function that is not in the part",
        r#"(memory (export "memory") 1)
        (func $divide (param i32) (result i32) (i32.div_u (i32.const 1) (local.get 0)))
        (func (export "_start") (local $i i32)
            (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
            (drop (call $divide (i32.const 0))))"#,
    ),
    (
        "moves again in a function that a part has called",
        r#"(memory (export "memory") 1)
        (global $sum (mut i64) (i64.const 0))
        (func $inner (param $n i32) (result i64)
            (loop $again
                (global.set $sum (i64.add (global.get $sum) (i64.extend_i32_u (local.get $n))))
                (br_if $again (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
            (global.get $sum))
        (func (export "_start") (local $i i32)
            (loop $again (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 9))))
            (if (i64.ne (call $inner (i32.const 100)) (i64.const 5050)) (then unreachable)))"#,
    ),
    (
        "calls by table in a loop",
        r#"(memory (export "memory") 1)
        (type $op (func (param i32) (result i32)))
        (table 3 funcref) (elem (i32.const 0) $one $two $trap)
        (func $one (type $op) (i32.add (local.get 0) (i32.const 1)))
        (func $two (type $op) (i32.mul (local.get 0) (i32.const 3)))
        (func $trap (type $op) unreachable)
        (func (export "_start") (local $i i32) (local $n i32)
            (loop $again
                (local.set $n (call_indirect (type $op) (local.get $n) (i32.and (local.get $i) (i32.const 1))))
                (br_if $again (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 12))))
            (if (i32.ne (local.get $n) (i32.const 1092)) (then (drop (call_indirect (type $op) (local.get $n) (i32.const 2))))))"#,
    ),
    (
        "leaves nested loops and blocks of every kind",
        r#"(memory (export "memory") 1)
        (func $f (param $n i32) (result i32 i64) (local $i i32) (local $j i32) (local $k f64)
            (loop $outer (result i32 i64)
                (local.set $j (i32.const 0))
                (block $done
                    (loop $inner
                        (if (i32.and (local.get $j) (i32.const 1))
                            (then (loop $deep
                                (local.set $k (f64.add (local.get $k) (f64.const 0.5)))
                                (br_if $deep (f64.lt (local.get $k) (f64.convert_i32_u (local.get $j))))
                                (br_table $inner $done $deep
                                    (i32.and (i32.const 3) (local.tee $j (i32.add (local.get $j) (i32.const 1)))))))
                            (else (local.set $j (i32.add (local.get $j) (i32.const 1)))))
                        (br_if $inner (i32.lt_u (local.get $j) (i32.const 6)))))
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $outer (i32.lt_u (local.get $i) (local.get $n)))
                (local.get $i) (i64.trunc_f64_u (local.get $k))))
        (func (export "_start")
            (call $f (i32.const 20))
            (drop) (if (i32.ne (i32.const 20)) (then unreachable)))"#,
    ),
];

/// All extents that a part can have.
const EXTENTS: [Extent; 2] = [Extent::Hot, Extent::Whole];

fn targets() -> Vec<&'static remuda_engine::Known> {
    engines().into_iter().filter(|known| known.capabilities.parts).collect()
}

fn known(engine: EngineId) -> &'static remuda_engine::Known {
    engines().into_iter().find(|known| known.id == engine).expect("it is one of the engines")
}

/// One of [`WAYS`], with its end if the guest stays where it begins.
struct Way {
    what: &'static str,
    module: Module,
    artifact: Arc<dyn Artifact>,
    unmoved: Ended,
    asks: u64,
}

fn ways(setup: &Setup) -> Vec<Way> {
    let Some(origin) = engines().into_iter().find(|known| known.id == ORIGIN).map(open) else { return Vec::new() };
    let way = |(what, text): &(&'static str, &str)| {
        let module = parse(&format!("(module {text})"));
        let artifact = origin.compile(&module).unwrap();
        let unmoved = live(&artifact, &Entry::Command, setup).unwrap();
        let (_, asks, _) = run(&artifact, setup, |_, _| None);
        assert!(asks > 0, "{what}: it comes to no point");
        Way { what, module, artifact, unmoved, asks }
    };
    WAYS.iter().map(way).collect()
}

#[test]
fn whatever_a_guest_does_where_it_has_moved_ends_alike() {
    let setup = Setup::limited(1 << 20, 1000);
    for Way { what, module, artifact, unmoved, asks } in ways(&setup) {
        for (known, extent) in targets().into_iter().flat_map(|known| EXTENTS.map(|extent| (known, extent))) {
            let mut moved = 0;
            for moment in 0..asks.min(40) {
                let (engine, module, parts) = (open(known), module.clone(), Parts::default());
                // From that moment on the guest moves at every point: functions that a part calls move, too.
                let (ended, _, went) = run(&artifact, &setup, move |before, point| {
                    (before >= moment).then(|| parts.get(&**engine, &module, point, extent))
                });
                let label = format!("{what}, moved to {} ({extent:?}) at point {moment} of {asks}", known.id);
                assert_same(&ended, &unmoved, &label);
                moved += went;
            }
            assert!(moved > 0, "{what}: nobody moved to {} ({extent:?})", known.id);
        }
    }
}

#[test]
fn whatever_a_guest_does_on_its_way_from_part_to_part_ends_alike() {
    let targets = targets();
    let [first, next] = targets[..] else { return };
    assert!(first.capabilities.tier < next.capabilities.tier);
    let setup = Setup::limited(1 << 20, 1000);
    for Way { what, module, artifact, unmoved, asks } in ways(&setup) {
        let parts = [first, next].map(|known| (open(known), Parts::default()));
        for extent in EXTENTS {
            let mut moved_on = 0;
            for moment in 0..asks.min(20) {
                for stays in 1..4 {
                    let (module, parts) = (module.clone(), parts.clone());
                    let moved = Arc::new(AtomicU64::new(0));
                    let has_moved = Arc::clone(&moved);
                    let (ended, ..) = run(&artifact, &setup, move |before, point| {
                        let since = before.checked_sub(moment)?;
                        has_moved.store(since, Ordering::Relaxed);
                        let (engine, parts) = &parts[usize::from(since >= stays)];
                        Some(parts.get(&***engine, &module, point, extent))
                    });
                    let label = format!("{what}, moved ({extent:?}) at points {moment} and {stays} later of {asks}");
                    assert_same(&ended, &unmoved, &label);
                    // The guest has come to a point after it had moved.
                    moved_on += u64::from(moved.load(Ordering::Relaxed) >= stays);
                }
            }
            assert!(asks < 2 || moved_on > 0, "{what}: nobody moved on ({extent:?})");
        }
    }
}

#[test]
fn a_guest_is_stopped_wherever_it_is() {
    let Some(origin) = engines().into_iter().find(|known| known.id == ORIGIN).map(open) else { return };
    let endless = [
        // The guest loops in the part.
        "(func (export \"_start\") (local i32) (loop $a (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br $a)))",
        // The guest loops in a function that the part calls in the engine that the guest came from.
        "(func $end (local i32) (loop $b (br $b)))
         (func (export \"_start\") (local i32)
            (loop $a (br_if $a (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 9))))
            (call $end))",
    ];
    let targets = targets();
    // The guest moves to each engine alone, and through all of them.
    let routes: Vec<_> = targets.chunks(1).chain([&targets[..]]).filter(|route| !route.is_empty()).collect();
    for (text, route) in endless.iter().flat_map(|text| routes.iter().map(move |route| (text, *route))) {
        let module = parse(&format!("(module {text})"));
        let artifact = origin.compile(&module).unwrap();
        for cause in [Cause::Deadline, Cause::Cancelled] {
            let setup = Setup::default();
            let (to_move, interrupt) = (module.clone(), setup.interrupt.clone());
            let engines: Vec<_> = route.iter().map(|known| open(known)).collect();
            let (ended, ..) = run(&artifact, &setup, move |before, point| {
                if before == 0 {
                    // The interrupt may come before the guest moves, while it moves, or when it has moved.
                    let interrupt = interrupt.clone();
                    std::thread::spawn(move || interrupt.raise(cause));
                }
                let engine = engines[usize::try_from(before).unwrap().min(engines.len() - 1)];
                engine.compile_part(&to_move, &[point], Extent::Hot).ok()
            });
            let ids: Vec<_> = route.iter().map(|known| known.id).collect();
            assert_eq!(ended.end(), End::Interrupted(cause), "{text} on {ids:?}");
        }
    }
}

#[test]
fn what_cannot_be_handed_over_has_no_points() {
    let counted = "(func (export \"_start\") (local i32)
        (loop $a (br_if $a (i32.lt_u (local.tee 0 (i32.add (local.get 0) (i32.const 1))) (i32.const 9)))))";
    let points = |more: &str| parse(&format!("(module {more} {counted})")).points().len();
    assert!(points("") > 0);
    for more in [
        "(memory 1) (memory 1)",
        "(memory i64 1)",
        "(global (mut funcref) (ref.null func))",
        "(table 1 funcref) (func (table.set (i32.const 0) (ref.null func)))",
        "(table 1 funcref) (func (drop (table.grow (ref.null func) (i32.const 1))))",
        "(table 1 externref)",
        "(memory 1) (data \"x\") (func (data.drop 0))",
        "(table 1 funcref) (elem funcref (ref.null func)) (func (elem.drop 0))",
        "(func (drop (i32x4.relaxed_trunc_f32x4_s (v128.const i32x4 0 0 0 0))))",
    ] {
        assert_eq!(points(more), 0, "{more}");
    }
    // A loop with values on the operand stack, or in a block that takes some, is no point; other loops are.
    for around in [
        "(i32.const 1) (loop (br_if 0 (i32.const 0))) (drop)",
        "(i32.const 1) (block (param i32) (drop) (loop (br_if 0 (i32.const 0))))",
        "(i32.const 1) (loop (param i32) (drop))",
    ] {
        let alone = parse(&format!("(module (func {around}))")).points().len();
        let without = parse("(module (func (loop (br_if 0 (i32.const 0)))))").points().len();
        assert_eq!((alone, without), (1, 2), "{around}");
    }
    // A function with references has no points; other functions have.
    assert!(points("(func (local funcref) (loop))") > 0);
    let of_references = "(module (func (export \"_start\") (local funcref) (loop (br_if 0 (i32.const 0)))))";
    assert_eq!(parse(of_references).points().len(), 0);
}

#[test]
fn a_part_that_would_be_too_much_to_compile_is_refused() {
    let Some(known) = targets().into_iter().next() else { return };
    let long = "(drop (i32.const 1))".repeat(40_000);
    let many = (0..250).map(|_| "i64 ").collect::<String>();
    let loops = "(loop (br_if 0 (i32.const 0)))".repeat(100);
    for (text, what) in [
        (format!("(func (export \"_start\") (loop $a {long} (br_if $a (i32.const 0))))"), "size"),
        (format!("(func (export \"_start\") (local {many}) {loops})"), "locals"),
    ] {
        let module = parse(&format!("(module {text})"));
        let error = open(known).compile_part(&module, &module.points()[1..2], Extent::Hot).unwrap_err();
        assert!(error.to_string().contains("while a guest waits") && error.to_string().contains(what), "{error}");
    }
}
