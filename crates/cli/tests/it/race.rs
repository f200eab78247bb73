//! Races between the real engines, on a host that assumes more cores than this machine may have: each request must get
//! one answer, losers must leave no trace, and their threads must be free again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use remuda_host::{Answer, Call, CallError, Function, FunctionSpec, Host, HostConfig, Ticket};
use remuda_model::{Cause, Entry, GuestContext, GuestLimits, Outcome, Preopen, Sink, Stdin};
use remuda_scheduler::Policy;
use tempfile::TempDir;

const ENGINES: [&str; 3] = ["wasmi.lazy", "wasmtime.winch", "wasmtime.cranelift"];

/// A guest that writes its input, works for a while, and writes its input again. `@WORK` is the number of rounds of its
/// loop, and each round counts down by `@STEP`; `@FIRST` is code that runs before anything else; and `@NAME` makes it a
/// module that no host has seen.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open"
        (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 2048) "log")
    (data (i32.const 2052) "x\n")
    (func $write (param $fd i32) (param $at i32) (param $bytes i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $bytes))
        (if (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
    (func $append
        (if (call $path_open (i32.const 3) (i32.const 0) (i32.const 2048) (i32.const 3) (i32.const 1)
                (i64.const 64) (i64.const 64) (i32.const 1) (i32.const 12))
            (then unreachable))
        (call $write (i32.load (i32.const 12)) (i32.const 2052) (i32.const 2)))
    (func (export "_start") (local $left i32) (local $bytes i32)
        @FIRST
        (i32.store (i32.const 0) (i32.const 1024))
        (i32.store (i32.const 4) (i32.const 64))
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (local.set $bytes (i32.load (i32.const 8)))
        (call $write (i32.const 1) (i32.const 1024) (local.get $bytes))
        (local.set $left (i32.const @WORK))
        (loop $again
            (local.set $left (i32.sub (local.get $left) (i32.const @STEP)))
            (br_if $again (local.get $left)))
        (call $write (i32.const 1) (i32.const 1024) (local.get $bytes)))
    (func (export "@NAME")))"#;

/// Rounds of work that take an interpreter about a tenth of a second.
const LONG: u32 = 20_000_000;
/// Work that never ends: the loop counts down by 0.
const ENDLESS: u32 = 0;

struct Fixture {
    dir: TempDir,
    host: Host,
    modules: u32,
}

impl Fixture {
    /// A host that races requests.
    fn new(workers: usize, cores: usize) -> Self {
        Self::open(workers, cores, false)
    }

    /// A host that moves guests, and races requests whose guests do not move.
    fn moving(workers: usize, cores: usize) -> Self {
        Self::open(workers, cores, true)
    }

    fn open(workers: usize, cores: usize, moves: bool) -> Self {
        let config = HostConfig {
            moves,
            policy: Policy::Hedged,
            workers,
            queue_max: 1000,
            cores: Some(cores),
            // The CPU time that races waste is not limited here.
            waste_share: 1e6,
            ..HostConfig::default()
        };
        let host = Host::open(&config).expect("a host in memory opens");
        Self { dir: tempfile::tempdir().expect("there is a temporary folder"), host, modules: 0 }
    }

    /// A new function that was never called.
    fn function(&mut self, work: u32, first: &str, change: impl FnOnce(&mut FunctionSpec)) -> Arc<Function> {
        self.modules += 1;
        let name = format!("f{}", self.modules);
        let (step, work) = if work == ENDLESS { ("0", 1) } else { ("1", work) };
        let text = GUEST.replace("@WORK", &work.to_string()).replace("@STEP", step);
        let text = text.replace("@FIRST", first).replace("@NAME", &name);
        let path = self.dir.path().join(name + ".wat");
        std::fs::write(&path, text).expect("it can be written");
        let mut spec = FunctionSpec {
            engines: Some(ENGINES.map(str::to_owned).to_vec()),
            // The limit must be long enough for a busy machine.
            limits: GuestLimits { timeout: Duration::from_mins(10), ..GuestLimits::default() },
            ..FunctionSpec::of_module(&path)
        };
        change(&mut spec);
        self.host.deploy(spec, Some(&Entry::Command)).expect("every engine can run it")
    }

    fn submit(&self, function: &Arc<Function>, input: &str) -> (Ticket, Receiver<Result<Answer, CallError>>) {
        let context = GuestContext {
            args: vec!["f".into()],
            stdin: Stdin::Bytes(Bytes::copy_from_slice(input.as_bytes())),
            stdout: Sink::Capture { bytes_max: 1 << 10 },
            stderr: Sink::CaptureHead { bytes_max: 1 << 10 },
            preopens: function.spec().preopens.clone(),
            ..GuestContext::default()
        };
        let limits = function.spec().limits;
        let call = Call { id: self.host.next_request_id(), entry: Entry::Command, context, limits };
        let (done, answer) = channel();
        let done = move |result| done.send(result).expect("the test waits for its answers");
        (self.host.submit(function, call, Instant::now(), done).expect("there is room in the queue"), answer)
    }

    fn answer(&self, function: &Arc<Function>, input: &str) -> Answer {
        let (_ticket, answer) = self.submit(function, input);
        answer.recv().expect("every request is answered").expect("an engine can run it")
    }

    fn races(&self) -> u64 {
        self.host.counters().races.get()
    }
}

fn is_exact(answer: &Answer, input: &str) -> bool {
    answer.outcome.is_success() && answer.output.stdout == format!("{input}{input}") && answer.output.stderr.is_empty()
}

#[test]
fn five_hundred_requests_that_race_get_one_answer_each_and_nothing_of_the_losers() {
    let mut fixture = Fixture::new(8, 64);
    let functions: Vec<_> = (0..50).map(|_| fixture.function(LONG / 10, "", |_| {})).collect();
    let mut engines: HashMap<String, usize> = HashMap::new();
    // The requests are not submitted all at once: if more requests wait than there are cores, none is raced.
    for round in 0..10 {
        let submit = |(i, function)| {
            let input = format!("<request {round}.{i}>");
            let (ticket, answer) = fixture.submit(function, &input);
            (input, ticket, answer)
        };
        let requests: Vec<_> = functions.iter().enumerate().map(submit).collect();
        for (input, ticket, answers) in requests {
            // The sender is dropped once the callback was called. So the channel ends, and there is no second answer.
            let all: Vec<_> = answers.iter().collect();
            assert_eq!(all.len(), 1, "{input}");
            let answer = all[0].as_ref().expect("an engine can run it");
            assert!(is_exact(answer, &input), "{input}: {answer:?}");
            *engines.entry(answer.engine.expect("a guest ran").to_string()).or_default() += 1;
            drop(ticket);
        }
    }
    assert!(fixture.races() > 0, "nothing was tested: {engines:?}");
    let overtaken = fixture.host.counters().races_overtaken.get();
    assert!(overtaken <= fixture.races(), "{overtaken} of {}", fixture.races());
}

#[test]
fn what_can_write_files_is_not_raced_unless_it_says_that_it_may_be() {
    const REQUESTS: usize = 6;
    for (idempotent, writable, expected) in [(false, true, false), (true, true, true)] {
        let mut fixture = Fixture::new(2, 8);
        let folder = fixture.dir.path().join("folder");
        std::fs::create_dir(&folder).expect("it can be made");
        for i in 0..REQUESTS {
            let function = fixture.function(LONG, "(call $append)", |spec| {
                spec.preopens = vec![Preopen { host: folder.clone(), guest: "/folder".into(), writable }];
                spec.idempotent = idempotent;
            });
            let input = format!("<{i}>");
            let answer = fixture.answer(&function, &input);
            assert!(is_exact(&answer, &input), "{answer:?}");
        }
        let races = fixture.races();
        // After this, losers that were still about to write have ended.
        drop(fixture.host);
        let lines = lines(&folder.join("log"));
        if expected {
            assert!(races > 0 && lines > REQUESTS, "{races} races, {lines} lines: nothing was tested");
        } else {
            assert_eq!((races, lines), (0, REQUESTS));
        }
    }
}

fn lines(path: &Path) -> usize {
    let text = std::fs::read_to_string(path).expect("the guest has made it");
    assert!(text.lines().all(|line| line == "x"), "{text:?}");
    text.lines().count()
}

#[test]
fn a_client_that_leaves_during_a_race_leaves_no_racer_behind() {
    // There are more races here than threads for them (two for each core), so the threads must be given back.
    const CORES: usize = 4;
    const RACES: u64 = 12;
    let mut fixture = Fixture::new(1, CORES);
    // The host learns that requests are long here. It may then begin with the engine that is best at that, which no
    // engine joins; such a request ends at its deadline, and another one is tried.
    for _ in 0..3 * RACES {
        let before = fixture.races();
        if before >= RACES {
            break;
        }
        let endless = fixture.function(ENDLESS, "", |spec| spec.limits.timeout = Duration::from_secs(10));
        let (ticket, answers) = fixture.submit(&endless, "");
        let alone = loop {
            if fixture.races() > before {
                break None;
            }
            if let Ok(answer) = answers.try_recv() {
                break Some(answer);
            }
            std::thread::yield_now();
        };
        drop(ticket);
        let (cause, answer) = match alone {
            Some(answer) => (Cause::Deadline, answer),
            None => (Cause::Cancelled, answers.recv().expect("every request is answered")),
        };
        assert_eq!(answer.expect("an engine can run it").outcome, Outcome::Interrupted { cause });
        // This request needs the host's only worker thread.
        let short = fixture.function(1, "", |_| {});
        assert!(is_exact(&fixture.answer(&short, "next"), "next"));
    }
    assert!(fixture.races() >= RACES, "too few requests were raced");
    // Dropping the host waits for every thread. A racer that still ran would keep it waiting.
    drop(fixture.host);
}

#[test]
fn a_deadline_during_a_race_stops_all_racers() {
    let mut fixture = Fixture::new(1, 16);
    for _ in 0..6 {
        let endless = fixture.function(ENDLESS, "", |spec| {
            spec.limits = GuestLimits { timeout: Duration::from_millis(250), ..spec.limits };
        });
        assert_eq!(fixture.answer(&endless, "").outcome, Outcome::Interrupted { cause: Cause::Deadline });
        let short = fixture.function(1, "", |_| {});
        assert!(is_exact(&fixture.answer(&short, "next"), "next"));
    }
    assert!(fixture.races() > 0, "nothing was tested");
    drop(fixture.host);
}

#[test]
fn a_request_that_takes_long_moves_and_is_answered_as_if_it_had_not() {
    let mut fixture = Fixture::moving(1, 4);
    // On a busy machine, a guest may get no time to run for so long that the host believes that it reaches no point at
    // which it could move. Then it is raced, so the test tries again.
    let (function, answer) = (0..20)
        .find_map(|_| {
            let function = fixture.function(LONG * 5, "", |_| {});
            let answer = fixture.answer(&function, "<moved>");
            assert!(is_exact(&answer, "<moved>"), "{answer:?}");
            (fixture.host.counters().moved.get() > 0).then_some((function, answer))
        })
        .expect("one of twenty moves");
    assert!(!answer.stays.is_empty() && answer.reason.contains("its guest moved"), "{}", answer.reason);
    // The code that was compiled helps the next request, whatever engine that begins on.
    let begun_on = answer.engine;
    let answer = fixture.answer(&function, "<next>");
    assert!(is_exact(&answer, "<next>"), "{answer:?}");
    assert!(answer.engine != begun_on || !answer.stays.is_empty(), "it stayed where it began: {answer:?}");
}

#[test]
fn what_can_write_files_moves_and_writes_once() {
    let mut fixture = Fixture::moving(1, 4);
    let folder = fixture.dir.path().join("folder");
    std::fs::create_dir(&folder).expect("it can be made");
    let mut requests = 0;
    // As above, a guest may be raced on a busy machine, so the test tries again.
    while fixture.host.counters().moved.get() == 0 {
        assert!(requests < 20, "one of twenty moves");
        let function = fixture.function(LONG * 5, "(call $append)", |spec| {
            spec.preopens = vec![Preopen { host: folder.clone(), guest: "/folder".into(), writable: true }];
        });
        let answer = fixture.answer(&function, "<writes>");
        assert!(is_exact(&answer, "<writes>"), "{answer:?}");
        requests += 1;
    }
    assert_eq!(fixture.races(), 0);
    drop(fixture.host);
    assert_eq!(lines(&folder.join("log")), requests);
}

#[test]
fn three_hundred_requests_that_may_move_get_one_answer_each() {
    let mut fixture = Fixture::moving(4, 8);
    for round in 0..10 {
        // Only the first call of a function is sure to begin on an engine that it would better leave.
        let functions: Vec<_> = (0..30).map(|_| fixture.function(LONG / 4, "", |_| {})).collect();
        let requests: Vec<_> = functions
            .iter()
            .enumerate()
            .map(|(i, function)| {
                let input = format!("<request {round}.{i}>");
                let submitted = fixture.submit(function, &input);
                (input, submitted)
            })
            .collect();
        for (input, (_ticket, answers)) in requests {
            let all: Vec<_> = answers.iter().collect();
            assert_eq!(all.len(), 1, "{input}");
            let answer = all[0].as_ref().expect("an engine can run it");
            assert!(is_exact(answer, &input), "{input}: {answer:?}");
        }
    }
    assert!(fixture.host.counters().moved.get() > 0, "nothing was tested");
}

#[test]
fn a_guest_that_has_moved_is_stopped_at_its_deadline() {
    let mut fixture = Fixture::moving(1, 4);
    let timeout = Duration::from_secs(2);
    let function = fixture.function(ENDLESS, "", |spec| spec.limits.timeout = timeout);
    let answer = fixture.answer(&function, "<endless>");
    assert_eq!(answer.outcome, Outcome::Interrupted { cause: Cause::Deadline });
    // The worker thread is free again.
    let function = fixture.function(1000, "", |_| {});
    assert!(is_exact(&fixture.answer(&function, "<next>"), "<next>"));
}
