//! Stopping a guest by a signal, wherever its code is, so that code needs no checks of its own.
//!
//! The handler sends a thread that is in a guest's code to an illegal instruction, which is a trap like any other to the
//! engine. The guest's code holds no locks and has no destructors, so that the engine can give it up anywhere. If the
//! thread is in the engine's own code on the guest's behalf (it fills the memory, say), the handler has a timer ask again.

use std::cell::UnsafeCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ops::Range;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

/// The time after which a thread that was not in its guest's code is asked again. A guest that is in the engine's code
/// is stopped up to this much later; a shorter time has the handler take a larger share of the thread's time.
const AGAIN_NANOSECONDS: i64 = 500_000;

/// Whether the thread runs a guest, and is to be stopped.
static IN_GUEST: AtomicBool = AtomicBool::new(false);
/// Whether the guest was sent to the illegal instruction.
static STOPPED: AtomicBool = AtomicBool::new(false);
/// Whether the timer was set for the guest.
static ASKS_AGAIN: AtomicBool = AtomicBool::new(false);
/// The timer that asks again. It sends the same signal as the host, since engines have uses of their own for others.
static TIMER: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
/// Where the program and its libraries have their code: all other code is a guest's.
static OWN_CODE: OnceLock<Vec<Range<usize>>> = OnceLock::new();

/// Lets SIGINT stop guests from now on. All libraries of the program are to be loaded.
pub(crate) fn install() {
    OWN_CODE.set(own_code()).expect("this is called once");
    // SAFETY: the structures are made of integers, null pointers and an empty set; the handler keeps to what handlers may
    // do; and the timer's name goes to a variable of this function.
    unsafe {
        let mut event: libc::sigevent = MaybeUninit::zeroed().assume_init();
        event.sigev_notify = libc::SIGEV_SIGNAL;
        event.sigev_signo = libc::SIGINT;
        let mut timer = ptr::null_mut();
        assert_eq!(libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer), 0, "there is a timer");
        TIMER.store(timer, Ordering::Relaxed);
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = on_signal as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        libc::sigemptyset(&raw mut action.sa_mask);
        assert_eq!(libc::sigaction(libc::SIGINT, &raw const action, ptr::null_mut()), 0, "SIGINT can be handled");
    }
}

/// Keeps the signal that stops guests from the calling thread: each thread but the one that runs guests has to do so.
pub fn block_signal() {
    // SAFETY: the set is made here, and belongs to this function.
    unsafe {
        let mut set = MaybeUninit::zeroed().assume_init();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
    }
}

/// Runs a guest.
pub(crate) fn in_guest<T>(run: impl FnOnce() -> T) -> T {
    STOPPED.store(false, Ordering::Relaxed);
    IN_GUEST.store(true, Ordering::SeqCst);
    let result = run();
    IN_GUEST.store(false, Ordering::SeqCst);
    if ASKS_AGAIN.swap(false, Ordering::Relaxed) {
        set_timer(0);
    }
    result
}

/// Does something of our own in the middle of a guest.
pub(crate) fn outside_of_guest<T>(work: impl FnOnce() -> T) -> T {
    IN_GUEST.store(false, Ordering::SeqCst);
    let result = work();
    IN_GUEST.store(true, Ordering::SeqCst);
    result
}

/// Whether the last guest was stopped by a signal.
pub(crate) fn was_stopped() -> bool {
    STOPPED.load(Ordering::Relaxed)
}

extern "C" fn on_signal(_: c_int, _: *mut libc::siginfo_t, context: *mut c_void) {
    // A signal that comes too late is not for the next guest: the host does not use this worker again.
    if !IN_GUEST.load(Ordering::SeqCst) {
        return;
    }
    // SAFETY: the kernel passes a handler with SA_SIGINFO the context of the thread, and takes it back from there.
    let at = unsafe { program_counter(&mut *context.cast::<libc::ucontext_t>()) };
    let is_own = OWN_CODE.get().is_none_or(|own| own.iter().any(|code| code.contains(&at.cast_unsigned())));
    if is_own {
        ASKS_AGAIN.store(true, Ordering::Relaxed);
        set_timer(AGAIN_NANOSECONDS);
    } else {
        STOPPED.store(true, Ordering::Relaxed);
        *at = stopped_at().cast_signed();
    }
}

/// Where the thread is, as a number of the size of an address.
#[cfg(target_arch = "x86_64")]
fn program_counter(context: &mut libc::ucontext_t) -> &mut isize {
    let register: &mut i64 = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    // SAFETY: on this processor, the two types are the same.
    unsafe { &mut *ptr::from_mut(register).cast() }
}

/// Where the thread is, as a number of the size of an address.
#[cfg(target_arch = "aarch64")]
fn program_counter(context: &mut libc::ucontext_t) -> &mut isize {
    let register: &mut u64 = &mut context.uc_mcontext.pc;
    // SAFETY: on this processor, the two types are the same but for the sign.
    unsafe { &mut *ptr::from_mut(register).cast() }
}

// An illegal instruction that Wasmer takes for an overflow of the stack: only then does it not look for the frames of the
// stack, for which this is no place. Other engines see an illegal instruction.
#[cfg(target_arch = "x86_64")]
std::arch::global_asm!(".globl remuda_illegal_instruction", "remuda_illegal_instruction:", ".byte 0x0f, 0xb9, 0xc0");
#[cfg(target_arch = "aarch64")]
std::arch::global_asm!(".globl remuda_illegal_instruction", "remuda_illegal_instruction:", "udf #0xc0");

unsafe extern "C" {
    #[link_name = "remuda_illegal_instruction"]
    fn illegal_instruction();
}

/// The address of the instruction that a guest is sent to when it is stopped, for engines that have to know it.
#[must_use]
pub fn stopped_at() -> usize {
    (illegal_instruction as *const ()).addr()
}

/// Has the process get the signal after so many nanoseconds; 0 sets the timer back.
fn set_timer(nanoseconds: i64) {
    let never = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let time = libc::itimerspec { it_interval: never, it_value: libc::timespec { tv_sec: 0, tv_nsec: nanoseconds } };
    // SAFETY: the value is ours, and the old one is not asked for. Handlers may do this.
    unsafe { libc::timer_settime(TIMER.load(Ordering::Relaxed), 0, &raw const time, ptr::null_mut()) };
}

/// The addresses of the code of the program, of its libraries, and of what the kernel adds.
fn own_code() -> Vec<Range<usize>> {
    unsafe extern "C" fn each(info: *mut libc::dl_phdr_info, _: usize, found: *mut c_void) -> c_int {
        // SAFETY: the C library passes a valid structure, whose headers are as many as it says, and the pointer that it
        // was given below.
        let (info, found) = unsafe { (&*info, &*found.cast::<UnsafeCell<Vec<Range<usize>>>>()) };
        // SAFETY: as above.
        let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        for header in headers.iter().filter(|header| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0)
        {
            let address = |n: u64| usize::try_from(n).expect("addresses have 64 bits here");
            let from = address(info.dlpi_addr + header.p_vaddr);
            // SAFETY: nobody else has this vector.
            unsafe { (*found.get()).push(from..from + address(header.p_memsz)) };
        }
        0
    }
    let found = UnsafeCell::new(Vec::new());
    // SAFETY: the callback gets the vector, and is not called any more when this returns.
    unsafe { libc::dl_iterate_phdr(Some(each), ptr::from_ref(&found).cast_mut().cast()) };
    found.into_inner()
}
