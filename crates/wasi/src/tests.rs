//! Tests that call every function through the table, without an engine: whatever a guest passes, it gets an errno.

use std::time::{Duration, Instant};

use bytes::Bytes;
use remuda_model::{Cause, GuestContext, Interrupt, Preopen, Stdin};

use crate::{IMPORTS, Import, PREVIEW_0, PREVIEW_1, Span, Stop, Type, Wasi};

const MEMORY_BYTES: usize = 64 << 10;
/// The highest errno of preview 1, notcapable.
const ERRNO_MAX: i32 = 76;

fn import(name: &str) -> &'static Import {
    IMPORTS
        .iter()
        .find(|import| import.module == PREVIEW_1 && import.name == name)
        .unwrap_or_else(|| panic!("{name} is missing"))
}

fn wasi(folder: &tempfile::TempDir, interrupt: &Interrupt) -> Wasi {
    let preopen = Preopen { host: folder.path().to_owned(), guest: "/".to_owned(), writable: true };
    let context = GuestContext {
        args: vec!["program".to_owned(), "argument".to_owned()],
        env: vec![("NAME".to_owned(), "value".to_owned())],
        stdin: Stdin::Bytes(Bytes::from_static(b"input")),
        preopens: vec![preopen],
        ..GuestContext::default()
    };
    Wasi::new(remuda_model::EngineId::new("none"), &context, interrupt.clone()).unwrap()
}

#[test]
fn both_previews_are_complete_and_each_function_is_there_once() {
    for (module, functions) in [(PREVIEW_1, 46), (PREVIEW_0, 45)] {
        let mut names: Vec<_> =
            IMPORTS.iter().filter(|import| import.module == module).map(|import| import.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!((count, names.len()), (functions, functions), "{module}");
    }
}

/// A small generator of pseudo-random numbers (xorshift64), so that a failure can be repeated.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn pick(&mut self, values: &[u64]) -> u64 {
        values[usize::try_from(self.next() % values.len() as u64).unwrap()]
    }
}

/// Descriptors, flags, lengths and addresses, good and bad. The memory has path names at 1024 and zeros elsewhere.
/// Zeros are an empty vector, and a subscription to a clock that is due; no address in the list makes a vector or a
/// subscription of the names.
const VALUES_32: &[u64] = &[
    0,
    1,
    2,
    3,
    4,
    5,
    8,
    16,
    17,
    1001,
    1024,
    1026,
    1029,
    4096,
    MEMORY_BYTES as u64 - 1,
    MEMORY_BYTES as u64,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fff8,
    0xffff_ffff,
];
const VALUES_64: &[u64] = &[0, 1, 2, 0x42, 1 << 32, u64::MAX >> 1, 1 << 63, u64::MAX];

#[test]
fn whatever_is_passed_the_answer_is_an_errno() {
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    let mut wasi_now = wasi(&folder, &Interrupt::new());
    for round in 0..100_000 {
        // The guest may have closed all of its descriptors by now.
        if round % 50 == 0 {
            wasi_now = wasi(&folder, &Interrupt::new());
        }
        let import = &IMPORTS[round % IMPORTS.len()];
        let mut memory = vec![0; MEMORY_BYTES];
        memory[1024..1034].copy_from_slice(b"a/../b\0..\xff");
        let args: Vec<u64> = import
            .params
            .iter()
            .map(|ty| match ty {
                Type::I32 => numbers.pick(VALUES_32),
                Type::I64 => numbers.pick(VALUES_64),
            })
            .collect();
        match (import.call)(&mut wasi_now, &mut memory, &args) {
            Ok(errno) => assert!((0..=ERRNO_MAX).contains(&errno), "{} {args:x?}: {errno}", import.name),
            Err(Stop::Exit(_)) if import.name == "proc_exit" => {}
            Err(stop) => panic!("{} {args:x?}: {stop}", import.name),
        }
    }
}

/// The same calls on the whole memory, and on one of which only those bytes are right that the call is said to read:
/// both give the same errno, and what a successful call changes is what it is said to write.
#[test]
fn what_functions_touch_is_what_they_are_said_to() {
    const POISON: u8 = 0xaa;
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = || folders.each_ref().map(|folder| wasi(folder, &Interrupt::new()));
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let [mut whole_wasi, mut part_wasi] = start();
    let (mut succeeded, mut changed) = (0, 0);
    for round in 0..100_000 {
        if round % 50 == 0 {
            [whole_wasi, part_wasi] = start();
        }
        let import = &IMPORTS[round % IMPORTS.len()];
        let mut whole = vec![0; MEMORY_BYTES];
        whole[1024..1034].copy_from_slice(b"a/../b\0..\xff");
        // Two buffers for a `fd_read` or `fd_write`, one of them empty, and names to say what is where.
        whole[2048..2056].copy_from_slice(&[0, 16, 0, 0, 0, 0, 0, 0]);
        whole[2056..2064].copy_from_slice(&[0, 16, 0, 0, 3, 0, 0, 0]);
        let args: Vec<u64> = import
            .params
            .iter()
            .map(|ty| match ty {
                Type::I32 if numbers.next().is_multiple_of(8) => 2048,
                Type::I32 => numbers.pick(VALUES_32),
                Type::I64 => numbers.pick(VALUES_64),
            })
            .collect();
        let mut part = vec![POISON; MEMORY_BYTES];
        for Span { at, bytes } in import.read_spans(&whole, &args) {
            let span = at as usize..at as usize + bytes as usize;
            part[span.clone()].copy_from_slice(&whole[span]);
        }
        let before = part.clone();
        let buffers = import.buffers(&part, &args);
        let expected = (import.call)(&mut whole_wasi, &mut whole, &args);
        let result = (import.call)(&mut part_wasi, &mut part, &args);
        assert_eq!(result, expected, "{} {} {args:x?}", import.module, import.name);
        if result == Ok(0) {
            succeeded += 1;
            let mut rest = part.clone();
            part_wasi.written(import, &part, &args, &buffers, |Span { at, bytes }| {
                let span = at as usize..at as usize + bytes as usize;
                rest[span.clone()].copy_from_slice(&before[span]);
            });
            assert!(rest == before, "{} {} {args:x?}: it wrote more", import.module, import.name);
            changed += usize::from(part != before);
        }
    }
    assert!(succeeded > 1000 && changed > 1000, "{succeeded} calls succeeded, and {changed} wrote something");
}

#[test]
fn a_guest_without_memory_gets_errnos_too() {
    let folder = tempfile::tempdir().unwrap();
    for import in IMPORTS.iter().filter(|import| import.name != "proc_exit") {
        let mut wasi = wasi(&folder, &Interrupt::new());
        let errno = (import.call)(&mut wasi, &mut [], &vec![0; import.params.len()]);
        assert!(errno.as_ref().is_ok_and(|errno| (0..=ERRNO_MAX).contains(errno)), "{}: {errno:?}", import.name);
    }
}

#[test]
fn a_guest_that_has_to_stop_begins_no_call() {
    let folder = tempfile::tempdir().unwrap();
    let interrupt = Interrupt::new();
    let mut wasi = wasi(&folder, &interrupt);
    interrupt.raise(Cause::Deadline);
    for import in IMPORTS.iter().filter(|import| import.name != "proc_exit") {
        // All arguments are 1: wherever there is a length, it is not zero, so that the call would have something to do.
        let result = (import.call)(&mut wasi, &mut vec![0; MEMORY_BYTES], &vec![1; import.params.len()]);
        assert_eq!(result, Err(Stop::Interrupted(Cause::Deadline)), "{}", import.name);
    }
}

#[test]
fn subscriptions_are_bounded_in_both_previews() {
    const SUCCESS: i32 = 0;
    const INVAL: i32 = 28;
    const MFILE: i32 = 33;
    const NOMEM: i32 = 48;
    let folder = tempfile::tempdir().unwrap();
    for module in [PREVIEW_1, PREVIEW_0] {
        let is_it = |import: &&Import| import.module == module && import.name == "poll_oneoff";
        let poll = IMPORTS.iter().find(is_it).unwrap();
        // Zeros are subscriptions to a clock that is due.
        for (count, errno) in [(0, INVAL), (1, SUCCESS), (500, SUCCESS), (1025, MFILE), (0x1000_0000, NOMEM)] {
            let mut memory = vec![0; 2 * MEMORY_BYTES];
            let args = [0, MEMORY_BYTES as u64, count, 2 * MEMORY_BYTES as u64 - 4];
            let result = (poll.call)(&mut wasi(&folder, &Interrupt::new()), &mut memory, &args);
            assert_eq!(result, Ok(errno), "{module} {count}");
            let told = u32::from_le_bytes(memory[2 * MEMORY_BYTES - 4..].try_into().unwrap());
            assert_eq!(u64::from(told), if errno == SUCCESS { count } else { 0 }, "{module} {count}");
        }
    }
}

#[test]
fn every_exit_code_is_what_the_guest_said() {
    let folder = tempfile::tempdir().unwrap();
    let mut wasi = wasi(&folder, &Interrupt::new());
    for code in (0..=255).chain([256, 65_536, i32::MAX, -1]) {
        let result = (import("proc_exit").call)(&mut wasi, &mut [], &[u64::from(code.cast_unsigned())]);
        assert_eq!(result, Err(Stop::Exit(code)));
    }
}

#[test]
fn arguments_too_few_or_too_many_are_the_adapter_s_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let mut wasi = wasi(&folder, &Interrupt::new());
    for import in IMPORTS {
        let args = vec![0; import.params.len() + 1];
        let result = (import.call)(&mut wasi, &mut [0; 64], &args);
        assert!(matches!(result, Err(Stop::Failed(_))), "{}: {result:?}", import.name);
    }
}

#[test]
fn a_sleep_lasts_as_long_as_it_says_unless_it_is_ended() {
    let interrupt = Interrupt::new();
    let end = Instant::now() + Duration::from_millis(3);
    assert_eq!(crate::wait::sleep_until(&interrupt, Some(end)), Ok(()));
    assert!(Instant::now() >= end);
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| crate::wait::sleep_until(&interrupt, None));
        interrupt.raise(Cause::Cancelled);
        assert_eq!(sleeper.join().unwrap(), Err(Stop::Interrupted(Cause::Cancelled)));
    });
    assert_eq!(crate::wait::sleep_until(&interrupt, Some(Instant::now())), Err(Stop::Interrupted(Cause::Cancelled)));
}
