//! Workers that are not what they should be: shell scripts in the place of Node.js.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use remuda_model::{Cause, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome};
use remuda_sandbox::Kept;

use super::process::Launch;
use super::process::rights;
use super::protocol::VERSION;
use super::{Kind, WorkerEngine};
use crate::adapter::NODE_V8;
use crate::{Artifact, Engine, EngineError, Instance, Instances, InstantiateError, Module};

static KIND: Kind = Kind { known: &NODE_V8, check: |versions| Ok(versions.join(" ")), shows_code: false };

fn engine(script: &str) -> Result<WorkerEngine, EngineError> {
    let launch = Launch::new(PathBuf::from("/bin/sh"), vec!["-c".into(), format!("exec >&0\n{script}")]);
    WorkerEngine::open(&KIND, launch, None, Instances::OnDemand)
}

fn frame(kind: u8, rest: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(rest.len() + 1).unwrap().to_le_bytes().to_vec();
    frame.push(kind);
    frame.extend_from_slice(rest);
    frame
}

fn text(text: &str) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

fn hello(protocol: u32) -> Vec<u8> {
    frame(64, &[&protocol.to_le_bytes()[..], &text("1.2.3")].concat())
}

/// A command of a shell that writes these bytes to the host.
fn say(bytes: &[u8]) -> String {
    let octal: String = bytes.iter().map(|byte| format!("\\{byte:03o}")).collect();
    format!("printf '{octal}'\n")
}

/// A command of a shell that waits for the order to compile [`module`].
const AWAIT_COMPILE: &str = "while read -r line; do case \"$line\" in *GO*) break;; esac; done\n";

/// A command of a shell that waits for the order to make an instance: [`module`] has a memory of 10 pages, and a 10 ends
/// a line.
const AWAIT_INSTANTIATE: &str = "read -r line\n";

/// A module that holds a line of text, for the shell to find.
fn module() -> Module {
    let text = r#"(module (memory (export "memory") 10) (data (i32.const 0) "\nGO\n") (func (export "_start")))"#;
    Module::parse(wat::parse_str(text).unwrap(), &ModuleLimits::default()).unwrap()
}

fn instantiate(artifact: &Arc<dyn Artifact>) -> Result<Box<dyn Instance>, InstantiateError> {
    Arc::clone(artifact).instantiate(&GuestContext::default(), &GuestLimits::default(), &Interrupt::new())
}

#[test]
fn a_worker_that_does_not_start_makes_the_engine_unavailable() {
    for (script, complaint) in [
        ("exit 3".to_owned(), "ended with code 3"),
        ("kill -9 $$".to_owned(), "ended by signal 9"),
        (say(&hello(99)) + "read -r line", "version 99 of the protocol"),
        (say(&frame(65, &[])) + "read -r line", "began with Compiled"),
        (say(&frame(200, &[])) + "read -r line", "no report"),
        (say(&frame(64, &[1])) + "read -r line", "no report"),
        (say(&[0xff; 8]) + "read -r line", "no report"),
    ] {
        let error = engine(&script).err().unwrap_or_else(|| panic!("it starts: {script}"));
        assert!(error.to_string().contains(complaint), "{script}: {error}");
    }
}

#[test]
fn nonsense_instead_of_an_answer_is_an_error_and_the_next_worker_is_tried() {
    let compiled = say(&hello(VERSION)) + AWAIT_COMPILE + &say(&frame(65, &[])) + AWAIT_INSTANTIATE;
    for (rest, complaint) in [
        ("exit 7".to_owned(), "ended with code 7"),
        // A call of a function that does not exist.
        (say(&frame(68, &[255, 255, 1, 0, 0, 0, 1])) + "read -r line", "no report"),
        // One with more memory than the guest may have.
        (say(&frame(68, &[0, 0, 255, 255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0])) + "read -r line", "no report"),
        // Bytes beyond the memory.
        (
            say(&frame(68, &[&[0, 0, 1, 0, 0, 0, 1][..], &[0; 16], &[255, 255, 255, 255, 1, 0, 0, 0, 9]].concat()))
                + "read -r line",
            "no report",
        ),
        // An end that nobody has ordered.
        (say(&frame(70, &[1, 0, 0, 0, 0, 0])) + "read -r line", "nobody has told it"),
        (say(&frame(70, &[0, 0, 0, 0, 0, 0])) + "read -r line", "does not fit"),
        (say(&frame(70, &[99, 0, 0, 0, 0, 0])) + "read -r line", "no report"),
    ] {
        let engine = engine(&(compiled.clone() + &rest)).unwrap();
        assert_eq!(engine.version(), Some("1.2.3"));
        let artifact = engine.compile(&module()).unwrap();
        match instantiate(&artifact) {
            Err(InstantiateError::Engine(error)) => assert!(error.to_string().contains(complaint), "{rest}: {error}"),
            Err(InstantiateError::Guest { outcome, .. }) => panic!("{rest}: {outcome}"),
            Ok(_) => panic!("{rest}: it is made"),
        }
    }
}

/// Whether a process that this one has started has used the CPU for 50 ms: the others here only wait.
fn a_child_is_busy() -> bool {
    let own = std::process::id().to_string();
    let is_busy = |entry: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        // After the program's name in brackets come the state, the parent and, as the 12th, the CPU time in user mode.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        Some(fields.get(1) == Some(&own.as_str()) && fields.get(11)?.parse::<u64>().ok()? >= 5)
    };
    std::fs::read_dir("/proc").unwrap().any(|entry| is_busy(entry).unwrap_or(false))
}

#[test]
fn a_worker_that_says_nothing_is_left_when_its_guest_has_to_stop() {
    let silent = say(&hello(VERSION)) + AWAIT_COMPILE + &say(&frame(65, &[])) + AWAIT_INSTANTIATE;
    // The first one does not react to the signal; the second one is in the middle of a report.
    for rest in ["trap '' INT; while :; do :; done".to_owned(), say(&[9, 0, 0, 0, 67]) + "while :; do :; done"] {
        let engine = engine(&(silent.clone() + &rest)).unwrap();
        let artifact = engine.compile(&module()).unwrap();
        let interrupt = Interrupt::new();
        let raiser = std::thread::spawn({
            let interrupt = interrupt.clone();
            move || {
                while !a_child_is_busy() {
                    std::thread::yield_now();
                }
                interrupt.raise(Cause::Deadline);
            }
        });
        let made = artifact.instantiate(&GuestContext::default(), &GuestLimits::default(), &interrupt);
        raiser.join().unwrap();
        match made {
            Err(InstantiateError::Guest { outcome, .. }) => {
                assert_eq!(outcome, Outcome::Interrupted { cause: Cause::Deadline });
            }
            Err(InstantiateError::Engine(error)) => panic!("{rest}: {error}"),
            Ok(_) => panic!("{rest}: it is made"),
        }
    }
}

#[test]
fn a_report_that_nobody_waits_for_is_an_error() {
    let ready = say(&hello(VERSION)) + AWAIT_COMPILE + &say(&[frame(65, &[]), frame(67, &[])].concat());
    let error = engine(&ready).unwrap().compile(&module()).err().expect("it is out of step");
    assert!(error.to_string().contains("no report"), "{error}");
}

/// What a shell can do in a worker's place: nothing beyond its socket.
#[test]
fn a_worker_reaches_no_file_no_program_and_no_other_process() {
    // What the kernel does not know cannot be tested there. The rules bind a thread, so this takes one of its own.
    let is_jailed = || matches!(rights(Path::new("/bin/sh")).enter(), Ok(Kept::All));
    let is_jailed = std::thread::spawn(is_jailed).join().unwrap();
    let attempts = [
        ("read -r x < /etc/passwd", "reads a file", false),
        ("read -r x < /proc/self/maps", "reads what it is allowed to as a process", false),
        ("echo made 2>/dev/null > /tmp/remuda-worker-was-here", "makes a file", false),
        ("/bin/ls", "starts a program", true),
        ("kill -0 $PPID", "sends a signal", true),
    ];
    for (attempt, what, _) in attempts.into_iter().filter(|(_, _, by_landlock)| is_jailed || !by_landlock) {
        let script = say(&hello(VERSION))
            + AWAIT_COMPILE
            + &format!(
                "if {attempt}; then\n{}\nelse\n{}\nfi\nread -r line",
                say(&frame(65, &[])),
                say(&frame(66, &text("denied")))
            );
        let error = engine(&script).unwrap().compile(&module()).err().unwrap_or_else(|| panic!("a worker {what}"));
        assert!(error.to_string().contains("denied"), "{what}: {error}");
    }
}
