//! Any sequence of WASI calls with any arguments on any memory: each call must give an errno or a stop and never panic,
//! and a call that waits must be interruptible.

use std::fs;
use std::sync::LazyLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use remuda_model::{Cause, EngineId, GuestContext, Interrupt, Preopen, Sink, Stdin};
use remuda_wasi::{IMPORTS, Import, Stop, Type, Wasi};
use tempfile::TempDir;

const MEMORY_BYTES: usize = 64 << 10;
/// The highest descriptor that a call is likely to use. Only the first descriptors exist.
const DESCRIPTORS: u64 = 8;
/// The addresses up to which most paths, vectors and results lie, so that calls read what other calls have written.
const COMMON_ADDRESSES: u64 = 256;
/// How long a call may wait before it is interrupted.
const PATIENCE: Duration = Duration::from_millis(5);
const CALLS_MAX: usize = 64;
const OUTPUT_BYTES_MAX: u64 = 1 << 20;

/// One step of a guest.
enum Step {
    /// The guest writes into its memory.
    Write { at: usize, bytes: Vec<u8> },
    /// The guest calls WASI.
    Call { import: &'static Import, args: Vec<u64> },
}

impl Step {
    fn arbitrary(input: &mut Unstructured<'_>) -> Result<Self> {
        if input.ratio(1, 3)? {
            let at = address(input)? as usize % MEMORY_BYTES;
            return Ok(Self::Write { at, bytes: Vec::arbitrary(input)? });
        }
        let import = input.choose(IMPORTS)?;
        let args = import.params.iter().map(|ty| argument(input, *ty)).collect::<Result<_>>()?;
        Ok(Self::Call { import, args })
    }
}

fn argument(input: &mut Unstructured<'_>, ty: Type) -> Result<u64> {
    Ok(match input.int_in_range(0..=7)? {
        0..=2 => input.int_in_range(0..=DESCRIPTORS)?,
        3..=5 => address(input)?,
        6 => match ty {
            Type::I32 => u32::arbitrary(input)?.into(),
            Type::I64 => u64::arbitrary(input)?,
        },
        _ => *input.choose(&[0, 1, 0xffff, MEMORY_BYTES as u64, 0x7fff_ffff, 0xffff_ffff, u64::MAX])?,
    })
}

fn address(input: &mut Unstructured<'_>) -> Result<u64> {
    Ok(input.int_in_range(0..=COMMON_ADDRESSES / 8)? * 8)
}

/// A thread that raises each interrupt that it is sent, after [`PATIENCE`], so that no call waits for longer.
static WATCH: LazyLock<Sender<Interrupt>> = LazyLock::new(|| {
    let (sender, interrupts) = mpsc::channel::<Interrupt>();
    thread::spawn(move || {
        for interrupt in interrupts {
            thread::sleep(PATIENCE);
            interrupt.raise(Cause::Deadline);
        }
    });
    sender
});

/// Carries out one sequence of calls.
///
/// # Panics
///
/// Panics on a finding.
pub fn run(input: &[u8]) {
    let mut input = Unstructured::new(input);
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    prepare(&home);
    let interrupt = Interrupt::new();
    let mut wasi = Wasi::new(EngineId::new("none"), &context(&home), interrupt.clone()).expect("the folder is there");
    let mut memory = vec![0; MEMORY_BYTES];
    for _ in 0..CALLS_MAX {
        if input.is_empty() {
            break;
        }
        match Step::arbitrary(&mut input) {
            Ok(Step::Write { at, bytes }) => {
                let bytes = &bytes[..bytes.len().min(MEMORY_BYTES - at)];
                memory[at..at + bytes.len()].copy_from_slice(bytes);
            }
            Ok(Step::Call { import, args }) => {
                if import.name == "poll_oneoff" {
                    WATCH.send(interrupt.clone()).expect("the watch never ends");
                }
                if !call(&mut wasi, import, &mut memory, &args, &interrupt) {
                    break;
                }
            }
            Err(_) => break,
        }
    }
    let output = wasi.into_output();
    assert!(output.stdout.len() as u64 <= OUTPUT_BYTES_MAX && output.stderr.len() as u64 <= OUTPUT_BYTES_MAX);
}

/// Carries out one call. Returns false if the call does not return to the guest.
fn call(wasi: &mut Wasi, import: &Import, memory: &mut [u8], args: &[u64], interrupt: &Interrupt) -> bool {
    match (import.call)(wasi, memory, args) {
        Ok(errno) => {
            assert!((0..=76).contains(&errno), "{} gives {errno}, which is no errno", import.name);
            true
        }
        Err(Stop::Exit(_)) => {
            assert_eq!(import.name, "proc_exit");
            false
        }
        Err(Stop::Interrupted(cause)) => {
            assert_eq!(interrupt.cause(), Some(cause));
            false
        }
        Err(Stop::OutputLimit) => {
            assert!(wasi.output_limit_exceeded(), "{} says that there was too much output", import.name);
            false
        }
        Err(Stop::Failed(reason)) => {
            // A guest gets here only if preview 1 has no errno for what it did.
            assert!(!reason.is_empty(), "{} fails without a reason", import.name);
            false
        }
    }
}

fn prepare(home: &TempDir) {
    fs::write(home.path().join("file"), b"some text in a file").expect("a file can be written there");
    fs::create_dir(home.path().join("folder")).expect("a folder can be made there");
}

fn context(home: &TempDir) -> GuestContext {
    let sink = Sink::Capture { bytes_max: OUTPUT_BYTES_MAX };
    GuestContext {
        args: vec!["program".into(), "argument".into()],
        env: vec![("NAME".into(), "value".into())],
        stdin: Stdin::Bytes((&b"some input"[..]).into()),
        stdout: sink,
        stderr: sink,
        preopens: vec![Preopen { host: home.path().to_owned(), guest: "/".into(), writable: true }],
        ..GuestContext::default()
    }
}
