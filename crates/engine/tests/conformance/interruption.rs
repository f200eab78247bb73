//! Guests that run away, in every way that there is, stop when they are told to, and no other guest stops.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use remuda_engine::{Artifact, Called, Known, Module};
use remuda_model::{Cause, Entry, Interrupt, Preopen, Value};

use crate::support::{End, Ended, Random, Setup, able, compile, export, live, parse, trap_guests};

pub(crate) const CAUSES: [Cause; 2] = [Cause::Deadline, Cause::Cancelled];

/// Ways to run away that the suite's guests do not have; `good` is in each module as in [`with_good`].
const RUNAWAYS: &[(&str, &str)] = &[
    ("loop", r#"(func (export "run") (loop $l (br $l)))"#),
    ("two loops", r#"(func (export "run") (loop $a (loop $b (br_if $b (global.get $zero)) (br $a))))"#),
    (
        "exponential recursion",
        r#"(func $f (export "run") (param i32)
        (if (local.get 0) (then
          (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))"#,
    ),
    (
        "memory.fill",
        r#"(func (export "run")
        (loop $l (memory.fill (i32.const 0) (i32.const 1) (i32.const 0x400000)) (br $l)))"#,
    ),
    (
        "memory.copy",
        r#"(func (export "run")
        (loop $l (memory.copy (i32.const 1) (i32.const 0) (i32.const 0x3fffff)) (br $l)))"#,
    ),
    (
        "table.fill",
        r#"(func (export "run")
        (loop $l (table.fill $t (i32.const 0) (ref.func $f) (i32.const 100000)) (br $l)))
        (func $f) (elem declare func $f)"#,
    ),
    (
        "growth that is refused",
        r#"(func (export "run")
        (loop $l (drop (memory.grow (i32.const 50000))) (br $l)))"#,
    ),
    (
        "growth by nothing",
        r#"(func (export "run") (param i32)
        (loop $l (drop (memory.grow (i32.eqz (local.get 0)))) (br $l)))"#,
    ),
    (
        "table growth that is refused",
        r#"(func (export "run")
        (loop $l (drop (table.grow $t (ref.null func) (i32.const 0x7000000))) (br $l)))"#,
    ),
    (
        "table growth by nothing",
        r#"(func (export "run") (param i32)
        (loop $l (drop (table.grow $t (ref.null func) (i32.eqz (local.get 0)))) (br $l)))"#,
    ),
    ("host calls", r#"(func (export "run") (loop $l (drop (call $sched_yield)) (br $l)))"#),
    (
        "host calls without loop",
        r#"(func $f (export "run") (param i32)
        (drop (call $sched_yield))
        (if (local.get 0) (then
          (call $f (i32.sub (local.get 0) (i32.const 1))) (call $f (i32.sub (local.get 0) (i32.const 1))))))"#,
    ),
    (
        "one host call",
        r#"(func (export "run")
        ;; A subscription of 2^62 ns to the monotonic clock.
        (i32.store (i32.const 16) (i32.const 1))
        (i64.store (i32.const 24) (i64.const 0x4000000000000000))
        (drop (call $poll_oneoff (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128))))"#,
    ),
    ("return_call", r#"(func $f (export "run") (return_call $f))"#),
    (
        "return_call_indirect",
        r#"(func $f (export "run") (return_call_indirect $r (i32.const 0)))
        (table $r funcref (elem $f))"#,
    ),
    (
        "return_call_ref",
        r#"(type $v (func)) (elem declare func $f)
        (func $f (export "run") (return_call_ref $v (ref.func $f)))"#,
    ),
    (
        "exceptions",
        r#"(tag $e) (func $f (throw $e))
        (func (export "run") (loop $l (block $c (try_table (catch_all $c) (call $f))) (br $l)))"#,
    ),
    (
        "garbage",
        r#"(type $a (array i64))
        (func (export "run") (loop $l (drop (array.new_default $a (i32.const 100))) (br $l)))"#,
    ),
    (
        "vectors",
        r#"(func (export "run") (local $v v128)
        (loop $l (local.set $v (i32x4.add (local.get $v) (v128.const i32x4 1 2 3 4)))
          (br_if $l (i32.ne (i32x4.extract_lane 3 (local.get $v)) (i32.const 3)))))"#,
    ),
    (
        "64-bit memory",
        r#"(memory $m i64 1)
        (func (export "run") (loop $l (memory.fill $m (i64.const 0) (i32.const 1) (i64.const 65536)) (br $l)))"#,
    ),
    ("_initialize", r#"(func (export "_initialize") (loop $l (br $l))) (func (export "run"))"#),
];

/// Returns a module with `text` and a function `good`, which counts to 5050 in a loop with calls, so that it would be
/// stopped by a flag that was left set.
fn with_good(text: &str) -> String {
    format!(
        r#"(module
          (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
          (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 64)
          (table $t 100000 funcref)
          (global $zero (mut i32) (i32.const 0))
          (func $add (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
          (func (export "good") (result i32) (local $n i32) (local $sum i32)
            (loop $again
              (local.set $n (i32.add (local.get $n) (i32.const 1)))
              (local.set $sum (call $add (local.get $sum) (local.get $n)))
              (br_if $again (i32.lt_u (local.get $n) (i32.const 100))))
            (local.get $sum))
          {text})"#
    )
}

fn entry_of(text: &str) -> Entry {
    let depth = [Value::I32(64)];
    export("run", if text.contains(r#"(export "run") (param i32)"#) { &depth } else { &[] })
}

/// The moment at which the interrupt is raised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum When {
    BeforeInstantiation,
    BeforeCall,
    /// While the guest may run: another thread raises the interrupt, this many turns of an idle loop after the guest
    /// may begin.
    During(u32),
}

pub(crate) const WHENS: [When; 6] = [
    When::BeforeInstantiation,
    When::BeforeCall,
    When::During(0),
    When::During(1_000),
    When::During(100_000),
    When::During(2_000_000),
];

/// Runs a guest and interrupts it. Returns how it ended.
pub(crate) fn interrupted(
    artifact: &Arc<dyn Artifact>,
    entry: &Entry,
    at_start: bool,
    when: When,
    cause: Cause,
) -> End {
    let Setup { context, limits, interrupt } = Setup::default();
    let begun = AtomicBool::new(false);
    thread::scope(|scope| {
        if let When::During(turns) = when {
            let (interrupt, begun) = (&interrupt, &begun);
            scope.spawn(move || {
                while !begun.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                idle(turns);
                interrupt.raise(cause);
            });
        }
        if when == When::BeforeInstantiation {
            interrupt.raise(cause);
        }
        begun.store(at_start, Ordering::Release);
        let outcome = match Arc::clone(artifact).instantiate(&context, &limits, &interrupt) {
            Ok(mut instance) => {
                if when == When::BeforeCall {
                    interrupt.raise(cause);
                }
                begun.store(true, Ordering::Release);
                let called = instance.call(entry);
                called.map(|called| called.outcome)
            }
            Err(remuda_engine::InstantiateError::Guest { outcome, .. }) => Ok(outcome),
            Err(remuda_engine::InstantiateError::Engine(error)) => Err(error),
        };
        // However the guest ended, the other thread must not wait for ever.
        begun.store(true, Ordering::Release);
        End::from(&outcome.unwrap_or_else(|error| panic!("{error}")))
    })
}

fn idle(turns: u32) {
    for _ in 0..turns {
        std::hint::spin_loop();
    }
}

#[test]
fn guests_of_the_suite_that_run_away_are_stopped() {
    let guests = trap_guests("interrupted");
    assert!(guests.len() >= 10, "only {} guests run away", guests.len());
    for (name, module) in &guests {
        for known in able(module) {
            let artifact = compile(known, module);
            for (i, when) in WHENS.into_iter().enumerate() {
                // A guest that runs away while it is instantiated is never called, and cannot be stopped before its
                // call.
                if module.has_start() && when == When::BeforeCall {
                    continue;
                }
                let cause = CAUSES[i % 2];
                let end = interrupted(&artifact, &Entry::Command, module.has_start(), when, cause);
                assert_eq!(end, End::Interrupted(cause), "{name} {when:?} on {}", known.id);
            }
        }
    }
}

#[test]
fn every_way_to_run_away_is_stopped_and_the_next_guest_runs() {
    for (what, text) in RUNAWAYS {
        let module = parse(&with_good(text));
        for known in able(&module) {
            let artifact = compile(known, &module);
            for (i, when) in WHENS.into_iter().enumerate() {
                let cause = CAUSES[i % 2];
                let end = interrupted(&artifact, &entry_of(text), false, when, cause);
                assert_eq!(end, End::Interrupted(cause), "{what} {when:?} on {}", known.id);
                if !module.is_reactor() {
                    good(&artifact, known, what);
                }
            }
        }
    }
}

fn good(artifact: &Arc<dyn Artifact>, known: &Known, what: &str) {
    let ended = live(artifact, &export("good", &[]), &Setup::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(
        (ended.end(), &ended.called.values[..]),
        (End::Returned, &[Value::I32(5050)][..]),
        "{} after {what}",
        known.id
    );
}

/// This guest makes a file when it has begun, so that the interrupt surely comes during its call.
#[test]
fn a_guest_that_is_surely_running_is_stopped() {
    let module = parse(
        r#"(module
          (import "wasi_snapshot_preview1" "path_open"
            (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "begun")
          (func (export "run")
            (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 5)
                (i32.const 1) (i64.const 64) (i64.const 0) (i32.const 0) (i32.const 64))
              (then (unreachable)))
            (loop $l (br $l))))"#,
    );
    for known in able(&module) {
        let artifact = compile(known, &module);
        for cause in CAUSES {
            let folder = Folder::new(&format!("{}-{cause:?}", known.id));
            let begun = folder.0.join("begun");
            let mut setup = Setup::default();
            setup.context.preopens.push(Preopen { host: folder.0.clone(), guest: "/".into(), writable: true });
            let done = AtomicBool::new(false);
            let ended = thread::scope(|scope| {
                let (interrupt, done, begun) = (&setup.interrupt, &done, &begun);
                let guest = scope.spawn(|| {
                    let ended = live(&artifact, &export("run", &[]), &setup);
                    done.store(true, Ordering::Release);
                    ended
                });
                while !begun.exists() && !done.load(Ordering::Acquire) {
                    thread::yield_now();
                }
                interrupt.raise(cause);
                guest.join().unwrap()
            });
            let ended = ended.unwrap_or_else(|error| panic!("{error}"));
            assert!(begun.exists(), "{}: {ended:?}", known.id);
            assert_eq!(ended.end(), End::Interrupted(cause), "{}: {ended:?}", known.id);
        }
    }
}

/// A new folder, which is removed when the value is dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("interruption-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Output that a guest wrote before it was stopped is kept.
#[test]
fn a_stopped_guest_s_output_is_kept() {
    let module = parse(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
          (memory (export "memory") 1)
          (data (i32.const 0) "\10\00\00\00\06\00\00\00")
          (data (i32.const 16) "before")
          (func $begin
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))
            (drop (call $fd_write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))))
          (start $begin)
          (func (export "run") (loop $l (br $l))))"#,
    );
    for known in able(&module) {
        let Setup { context, limits, interrupt } = Setup::default();
        let mut instance = compile(known, &module).instantiate(&context, &limits, &interrupt).unwrap();
        interrupt.raise(Cause::Deadline);
        let called = instance.call(&export("run", &[])).unwrap();
        assert_eq!(End::from(&called.outcome), End::Interrupted(Cause::Deadline), "{}", known.id);
        let output = instance.into_output();
        assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"before"[..], &b"before"[..]), "{}", known.id);
    }
}

/// A guest's own `unreachable` is a trap, even if its interrupt is raised afterwards; and an interrupt that is raised
/// after a guest has returned changes nothing about that.
#[test]
fn an_interrupt_after_the_end_changes_nothing() {
    let module = parse(&with_good(r#"(func (export "run") (unreachable))"#));
    for known in able(&module) {
        let artifact = compile(known, &module);
        for (name, end) in [("good", End::Returned), ("run", End::Trapped(remuda_model::TrapKind::Unreachable))] {
            let Setup { context, limits, interrupt } = Setup::default();
            let mut instance = Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap();
            let called = instance.call(&export(name, &[])).unwrap();
            interrupt.raise(Cause::Deadline);
            assert_eq!(End::from(&called.outcome), end, "{}", known.id);
            good(&artifact, known, "an interrupt that came while a dead instance was kept");
            drop(instance);
            interrupt.raise(Cause::Cancelled);
            good(&artifact, known, "an interrupt that came after its instance was dropped");
        }
    }
}

/// Several guests may share one interrupt, which stops all of them.
#[test]
fn one_interrupt_stops_several_guests() {
    let module = parse(&with_good(RUNAWAYS[0].1));
    let stopped = AtomicU64::new(0);
    let interrupt = Interrupt::new();
    let ready = AtomicU64::new(0);
    let mut guests = 0;
    thread::scope(|scope| {
        let (ready, stopped, interrupt) = (&ready, &stopped, &interrupt);
        for known in able(&module) {
            let artifact = compile(known, &module);
            for _ in 0..3 {
                guests += 1;
                let artifact = Arc::clone(&artifact);
                scope.spawn(move || {
                    let Setup { context, limits, .. } = Setup::default();
                    let instance = artifact.instantiate(&context, &limits, interrupt);
                    ready.fetch_add(1, Ordering::AcqRel);
                    let called = instance.unwrap().call(&export("run", &[])).unwrap();
                    assert_eq!(End::from(&called.outcome), End::Interrupted(Cause::Cancelled), "{}", known.id);
                    stopped.fetch_add(1, Ordering::AcqRel);
                });
            }
        }
        while ready.load(Ordering::Acquire) < guests {
            thread::yield_now();
        }
        interrupt.raise(Cause::Cancelled);
    });
    assert_eq!(stopped.into_inner(), guests);
}

/// The kinds of rounds in the race between the interrupt and the guest's own end.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Round {
    /// The guest never ends by itself.
    Endless,
    /// The guest ends at about the time of the interrupt; either may come first.
    Race,
    /// The interrupt comes when the call has returned, while the instance is dropped.
    Late,
}

const ROUNDS: u64 = 2_000;
const PAIRS: u64 = 2;

/// Two guests at a time, each with a thread that raises its interrupt, take turns with one artifact, so that a later
/// guest would find anything that an earlier one leaves behind.
#[test]
fn an_interrupt_stops_its_own_guest_or_nobody() {
    let module = parse(&with_good(
        r#"(func (export "run") (param $n i32) (result i32) (local $i i32)
            (loop $again
              (local.set $i (call $add (local.get $i) (i32.const 1)))
              (br_if $again (i32.ne (local.get $i) (local.get $n))))
            (local.get $i))"#,
    ));
    for known in able(&module) {
        let artifact = compile(known, &module);
        let (mut returned, mut stopped) = (0, 0);
        thread::scope(|scope| {
            let artifact = &artifact;
            let pairs: Vec<_> = (0..PAIRS)
                .map(|pair| scope.spawn(move || race(artifact, known, &mut Random(pair), ROUNDS / PAIRS)))
                .collect();
            for pair in pairs {
                let (returns, stops) = pair.join().expect("no guest ended as it should not");
                returned += returns;
                stopped += stops;
            }
        });
        assert_eq!(returned + stopped, ROUNDS, "{}", known.id);
        // In some rounds only one of the two ends is possible.
        assert!(returned >= ROUNDS / 10 && stopped >= ROUNDS / 20, "{}: {returned} {stopped}", known.id);
    }
}

fn race(artifact: &Arc<dyn Artifact>, known: &Known, random: &mut Random, rounds: u64) -> (u64, u64) {
    let raiser = Raiser::default();
    thread::scope(|scope| {
        scope.spawn(|| raiser.serve());
        // The raiser is told to stop even if a round panics.
        let _stop = StopOnDrop(&raiser);
        let (mut returned, mut stopped) = (0, 0);
        for i in 0..rounds {
            let round = match i % 20 {
                0 => Round::Endless,
                1..4 => Round::Late,
                _ => Round::Race,
            };
            let n = match round {
                Round::Endless => -1,
                Round::Late => 10,
                Round::Race => 1 << random.below(15),
            };
            let magnitude = random.below(12);
            let turns = u32::try_from(random.below(1 << magnitude)).unwrap();
            let cause = CAUSES[random.below(2)];
            let called = race_once(artifact, &raiser, round, n, turns, cause);
            good(artifact, known, &format!("round {i}, {round:?}"));
            raiser.settle();
            match End::from(&called.outcome) {
                End::Returned if round != Round::Endless => {
                    assert_eq!(called.values, [Value::I32(n)], "{} round {i}", known.id);
                    returned += 1;
                }
                End::Interrupted(met) if round != Round::Late => {
                    assert_eq!(met, cause, "{} round {i}", known.id);
                    stopped += 1;
                }
                other => panic!("{} round {i}, {round:?}: {other:?}", known.id),
            }
        }
        (returned, stopped)
    })
}

fn race_once(artifact: &Arc<dyn Artifact>, raiser: &Raiser, round: Round, n: i32, turns: u32, cause: Cause) -> Called {
    let Setup { context, limits, interrupt } = Setup::default();
    let mut instance = Arc::clone(artifact).instantiate(&context, &limits, &interrupt).unwrap();
    let order = Order { interrupt, turns, cause };
    if round == Round::Late {
        let called = instance.call(&export("run", &[Value::I32(n)])).unwrap();
        raiser.give(order);
        return called;
    }
    raiser.give(order);
    instance.call(&export("run", &[Value::I32(n)])).unwrap()
}

struct Order {
    interrupt: Interrupt,
    turns: u32,
    cause: Cause,
}

/// What a thread shares with one that raises interrupts as soon as it is told to.
#[derive(Default)]
struct Raiser {
    order: Mutex<Option<Order>>,
    given: AtomicU64,
    done: AtomicU64,
    stop: AtomicBool,
}

impl Raiser {
    fn give(&self, order: Order) {
        *self.order.lock().unwrap() = Some(order);
        self.given.fetch_add(1, Ordering::AcqRel);
    }

    /// Waits until the last order is carried out.
    fn settle(&self) {
        while self.done.load(Ordering::Acquire) != self.given.load(Ordering::Acquire) {
            thread::yield_now();
        }
    }

    fn serve(&self) {
        while !self.stop.load(Ordering::Acquire) {
            if self.done.load(Ordering::Acquire) == self.given.load(Ordering::Acquire) {
                thread::yield_now();
                continue;
            }
            if let Some(Order { interrupt, turns, cause }) = self.order.lock().unwrap().take() {
                idle(turns);
                interrupt.raise(cause);
            }
            self.done.fetch_add(1, Ordering::AcqRel);
        }
    }
}

struct StopOnDrop<'a>(&'a Raiser);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

/// A guest that calls the host needs no loop to meet its interrupt.
#[test]
fn an_interrupt_before_a_host_call_is_met_in_it() {
    let module: Module = parse(
        r#"(module
          (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
          (memory (export "memory") 1)
          (func (export "_start") (drop (call $sched_yield))))"#,
    );
    for known in able(&module) {
        let Setup { context, limits, interrupt } = Setup::default();
        let mut instance = compile(known, &module).instantiate(&context, &limits, &interrupt).unwrap();
        interrupt.raise(Cause::Cancelled);
        let called = instance.call(&Entry::Command).unwrap();
        let ended = Ended { called, output: instance.into_output(), at_start: false };
        assert_eq!(ended.end(), End::Interrupted(Cause::Cancelled), "{}", known.id);
    }
}
