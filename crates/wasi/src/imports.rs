//! The 46 functions of WASI preview 1 as data: what an adapter links, in a loop, knowing none of them.

use remuda_model::Interrupt;
use wasmtime_wasi::ResourceTableError;
use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as p1, WasiSnapshotPreview1 as _};
use wiggle::{GuestError, GuestMemory, GuestPtr, GuestType as _};

use crate::{COPY_BYTES_PER_CALL_MAX, PATH_BYTES_MAX, RANDOM_BYTES_AT_ONCE, Stop, Wasi, stdio, wait};

/// The module name under which guests import these functions.
pub const MODULE: &str = "wasi_snapshot_preview1";

/// A function that a guest may import.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// Its name within [`MODULE`].
    pub name: &'static str,
    /// Its parameters.
    pub params: &'static [Type],
    /// Its result: an errno as `i32`, or nothing (`proc_exit`).
    pub result: Option<Type>,
    /// Carries out one call. `memory` is the guest's exported memory as it is now, empty if it
    /// exports none; `args` holds one element for each of
    /// `params`, an `i32` in its lower half.
    ///
    /// # Errors
    ///
    /// The call does not return to the guest.
    pub call: fn(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop>,
}

/// The types that WASI's functions use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// 32-bit integer.
    I32,
    /// 64-bit integer.
    I64,
}

macro_rules! wasm_type {
    (i32) => {
        Type::I32
    };
    (path_len) => {
        Type::I32
    };
    (i64) => {
        Type::I64
    };
}

/// Declares the functions that need nothing but to be called. `now` functions never wait; `poll` functions are
/// futures, almost always ready at once. A `path_len` is an `i32` with an upper bound.
macro_rules! imports {
    ($($mode:ident $name:ident($($arg:ident: $ty:ident),*);)*) => {
        &[
            $(Import {
                name: stringify!($name),
                params: &[$(wasm_type!($ty)),*],
                result: Some(Type::I32),
                call: |wasi, memory, args| {
                    let [$($arg),*] = *args else { return Err(wrong_arity(stringify!($name), args)) };
                    $(imports!(@check $ty $arg);)*
                    let mut memory = begin(wasi, memory)?;
                    imports!(@$mode wasi, p1::$name(&mut wasi.ctx, &mut memory $(, imports!(@arg $ty $arg))*))
                },
            },)*
            Import { name: "path_open", params: PATH_OPEN, result: Some(Type::I32), call: path_open },
            Import { name: "fd_read", params: &[Type::I32; 4], result: Some(Type::I32), call: fd_read },
            Import { name: "fd_pread", params: FD_PREAD, result: Some(Type::I32), call: fd_pread },
            Import { name: "random_get", params: &[Type::I32; 2], result: Some(Type::I32), call: random_get },
            Import { name: "poll_oneoff", params: &[Type::I32; 4], result: Some(Type::I32), call: poll_oneoff },
            Import { name: "proc_exit", params: &[Type::I32], result: None, call: proc_exit },
        ]
    };
    (@now $wasi:ident, $call:expr) => { finish($call) };
    (@poll $wasi:ident, $call:expr) => { finish(wait::complete(&$wasi.interrupt, $call)?) };
    (@check path_len $arg:ident) => {
        if is_too_long($arg) {
            return Ok(types::Errno::Nametoolong as i32);
        }
    };
    (@check $ty:ident $arg:ident) => {};
    (@arg i32 $arg:ident) => { low($arg) };
    (@arg path_len $arg:ident) => { low($arg) };
    (@arg i64 $arg:ident) => { $arg.cast_signed() };
}

/// Every function of WASI preview 1.
pub static IMPORTS: &[Import] = imports! {
    now args_get(a: i32, b: i32);
    now args_sizes_get(a: i32, b: i32);
    now environ_get(a: i32, b: i32);
    now environ_sizes_get(a: i32, b: i32);
    now clock_res_get(a: i32, b: i32);
    now clock_time_get(a: i32, b: i64, c: i32);
    poll fd_advise(a: i32, b: i64, c: i64, d: i32);
    now fd_allocate(a: i32, b: i64, c: i64);
    poll fd_close(a: i32);
    poll fd_datasync(a: i32);
    poll fd_fdstat_get(a: i32, b: i32);
    now fd_fdstat_set_flags(a: i32, b: i32);
    now fd_fdstat_set_rights(a: i32, b: i64, c: i64);
    poll fd_filestat_get(a: i32, b: i32);
    poll fd_filestat_set_size(a: i32, b: i64);
    poll fd_filestat_set_times(a: i32, b: i64, c: i64, d: i32);
    now fd_prestat_get(a: i32, b: i32);
    now fd_prestat_dir_name(a: i32, b: i32, c: i32);
    poll fd_pwrite(a: i32, b: i32, c: i32, d: i64, e: i32);
    poll fd_readdir(a: i32, b: i32, c: i32, d: i64, e: i32);
    poll fd_renumber(a: i32, b: i32);
    poll fd_seek(a: i32, b: i64, c: i32, d: i32);
    poll fd_sync(a: i32);
    now fd_tell(a: i32, b: i32);
    poll fd_write(a: i32, b: i32, c: i32, d: i32);
    poll path_create_directory(a: i32, b: i32, c: path_len);
    poll path_filestat_get(a: i32, b: i32, c: i32, d: path_len, e: i32);
    poll path_filestat_set_times(a: i32, b: i32, c: i32, d: path_len, e: i64, f: i64, g: i32);
    poll path_link(a: i32, b: i32, c: i32, d: path_len, e: i32, f: i32, g: path_len);
    poll path_readlink(a: i32, b: i32, c: path_len, d: i32, e: i32, f: i32);
    poll path_remove_directory(a: i32, b: i32, c: path_len);
    poll path_rename(a: i32, b: i32, c: path_len, d: i32, e: i32, f: path_len);
    poll path_symlink(a: i32, b: path_len, c: i32, d: i32, e: path_len);
    poll path_unlink_file(a: i32, b: i32, c: path_len);
    now sched_yield();
    now sock_accept(a: i32, b: i32, c: i32);
    now sock_recv(a: i32, b: i32, c: i32, d: i32, e: i32, f: i32);
    now sock_send(a: i32, b: i32, c: i32, d: i32, e: i32);
    now sock_shutdown(a: i32, b: i32);
    now proc_raise(a: i32);
};

/// The lower half of an argument, which is where an `i32` stands.
#[expect(clippy::cast_possible_truncation, reason = "the upper half of an i32 argument means nothing")]
fn low(arg: u64) -> i32 {
    arg as i32
}

fn wrong_arity(name: &str, args: &[u64]) -> Stop {
    Stop::Failed(format!("{name} was called with {} arguments", args.len()))
}

/// What every call begins with: the guest may still run, and it gets a fresh allowance for what the host copies.
fn begin<'memory>(wasi: &mut Wasi, memory: &'memory mut [u8]) -> Result<GuestMemory<'memory>, Stop> {
    wait::check(&wasi.interrupt)?;
    wasi.ctx.set_hostcall_fuel(COPY_BYTES_PER_CALL_MAX);
    Ok(GuestMemory::Unshared(memory))
}

/// What a generated function's result means to the guest.
fn finish(result: wiggle::error::Result<i32>) -> Result<i32, Stop> {
    result.or_else(|error| {
        if let Some(hostile) = error.downcast_ref::<GuestError>() {
            return Ok(errno_of(hostile) as i32);
        }
        if error.downcast_ref::<stdio::OutputLimitExceeded>().is_some() {
            return Err(Stop::OutputLimit);
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return Ok(types::Errno::Mfile as i32);
        }
        Err(Stop::Failed(format!("{error:#}")))
    })
}

/// The errno for an argument that makes no sense. The generated functions trap on some of these; WASI's own words are
/// that a bad address is `fault` and a bad value `inval`.
fn errno_of(error: &GuestError) -> types::Errno {
    match error {
        GuestError::InFunc { err, .. } => errno_of(err),
        GuestError::PtrOverflow | GuestError::PtrOutOfBounds(_) | GuestError::PtrNotAligned(..) => types::Errno::Fault,
        GuestError::InvalidUtf8(_) => types::Errno::Ilseq,
        _ => types::Errno::Inval,
    }
}

fn is_too_long(path_len: u64) -> bool {
    low(path_len).cast_unsigned() > PATH_BYTES_MAX
}

const PATH_OPEN: &[Type] =
    &[Type::I32, Type::I32, Type::I32, Type::I32, Type::I32, Type::I64, Type::I64, Type::I32, Type::I32];

fn path_open(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [dir, lookup, path, path_len, oflags, base, inheriting, fdflags, opened] = *args else {
        return Err(wrong_arity("path_open", args));
    };
    if is_too_long(path_len) {
        return Ok(types::Errno::Nametoolong as i32);
    }
    let mut memory = begin(wasi, memory)?;
    if is_fifo(wasi, &mut memory, low(dir), low(lookup), low(path), low(path_len))? {
        return Ok(types::Errno::Notsup as i32);
    }
    let call = p1::path_open(
        &mut wasi.ctx,
        &mut memory,
        low(dir),
        low(lookup),
        low(path),
        low(path_len),
        low(oflags),
        base.cast_signed(),
        inheriting.cast_signed(),
        low(fdflags),
        low(opened),
    );
    finish(wait::complete(&wasi.interrupt, call)?)
}

/// Whether a path names a FIFO or a socket. Opening a FIFO waits for somebody to open its other end, in the kernel,
/// where the guest's interrupt is not heard. No guest can make one, but the host may have one in a granted folder.
fn is_fifo(
    wasi: &mut Wasi,
    memory: &mut GuestMemory<'_>,
    dir: i32,
    lookup: i32,
    path: i32,
    path_len: i32,
) -> Result<bool, Stop> {
    let Ok(lookup) = types::Lookupflags::try_from(lookup) else { return Ok(false) };
    let path = GuestPtr::<str>::new((path.cast_unsigned(), path_len.cast_unsigned()));
    let stat = wait::complete(&wasi.interrupt, wasi.ctx.path_filestat_get(memory, dir.into(), lookup, path))?;
    // Whatever is wrong with the path, opening it says so again.
    Ok(stat.is_ok_and(|stat| stat.filetype == types::Filetype::Unknown))
}

fn fd_read(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [fd, iovs, count, got] = *args else { return Err(wrong_arity("fd_read", args)) };
    let (fd, iovs, count, got) = (low(fd), low(iovs), low(count), low(got));
    let mut memory = begin(wasi, memory)?;
    if are_empty(&memory, iovs, count) {
        return read_nothing(wasi, &mut memory, fd, got);
    }
    finish(wait::complete(&wasi.interrupt, p1::fd_read(&mut wasi.ctx, &mut memory, fd, iovs, count, got))?)
}

const FD_PREAD: &[Type] = &[Type::I32, Type::I32, Type::I32, Type::I64, Type::I32];

fn fd_pread(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [fd, iovs, count, offset, got] = *args else { return Err(wrong_arity("fd_pread", args)) };
    let (fd, iovs, count, got) = (low(fd), low(iovs), low(count), low(got));
    let mut memory = begin(wasi, memory)?;
    if are_empty(&memory, iovs, count) {
        // Of all calls, this one tells streams and files apart.
        if let Err(error) = wasi.ctx.fd_tell(&mut memory, fd.into()) {
            return finish(error.downcast().map(|errno| errno as i32));
        }
        return read_nothing(wasi, &mut memory, fd, got);
    }
    let offset = offset.cast_signed();
    finish(wait::complete(&wasi.interrupt, p1::fd_pread(&mut wasi.ctx, &mut memory, fd, iovs, count, offset, got))?)
}

/// Whether buffers have no room at all. Too many to copy are not looked at: the call will refuse them.
fn are_empty(memory: &GuestMemory<'_>, iovs: i32, count: i32) -> bool {
    let (iovs, count) = (iovs.cast_unsigned(), count.cast_unsigned());
    u64::from(count) * u64::from(types::Iovec::guest_size()) <= COPY_BYTES_PER_CALL_MAX as u64
        && GuestPtr::<[types::Iovec]>::new((iovs, count))
            .iter()
            .all(|iov| iov.and_then(|iov| memory.read(iov)).is_ok_and(|iov| iov.buf_len == 0))
}

/// Reads no bytes. The generated functions would wait for input all the same, and then say that they were
/// interrupted, so that a libc tries again for ever.
fn read_nothing(wasi: &mut Wasi, memory: &mut GuestMemory<'_>, fd: i32, got: i32) -> Result<i32, Stop> {
    let stat = match wait::complete(&wasi.interrupt, wasi.ctx.fd_fdstat_get(memory, fd.into()))? {
        Ok(stat) => stat,
        Err(error) => return finish(error.downcast().map(|errno| errno as i32)),
    };
    if !stat.fs_rights_base.contains(types::Rights::FD_READ) || stat.fs_filetype == types::Filetype::Directory {
        return Ok(types::Errno::Badf as i32);
    }
    Ok(match memory.write(GuestPtr::<types::Size>::new(got.cast_unsigned()), 0) {
        Ok(()) => types::Errno::Success as i32,
        Err(hostile) => errno_of(&hostile) as i32,
    })
}

/// Fills in slices: the host keeps no copy of more than one, and a guest that wants gigabytes can be stopped between
/// two of them.
fn random_get(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [buffer, length] = *args else { return Err(wrong_arity("random_get", args)) };
    let (start, length) = (u64::from(low(buffer).cast_unsigned()), u64::from(low(length).cast_unsigned()));
    if start + length > memory.len() as u64 {
        return Ok(types::Errno::Fault as i32);
    }
    for at in (start..start + length).step_by(RANDOM_BYTES_AT_ONCE) {
        let slice = (start + length - at).min(RANDOM_BYTES_AT_ONCE as u64);
        let mut memory = begin(wasi, memory)?;
        let errno = finish(p1::random_get(&mut wasi.ctx, &mut memory, low(at), low(slice)))?;
        if errno != types::Errno::Success as i32 {
            return Ok(errno);
        }
    }
    Ok(types::Errno::Success as i32)
}

/// Ends the guest with any code; the generated function would refuse those from 126 on.
fn proc_exit(_: &mut Wasi, _: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [code] = *args else { return Err(wrong_arity("proc_exit", args)) };
    Err(Stop::Exit(low(code)))
}

fn poll_oneoff(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [subscriptions, events, count, ready] = *args else { return Err(wrong_arity("poll_oneoff", args)) };
    let (subscriptions, events, count, ready) = (low(subscriptions), low(events), low(count), low(ready));
    let mut memory = begin(wasi, memory)?;
    if count == 1
        && let Ok(subscription) = memory.read(GuestPtr::<types::Subscription>::new(subscriptions.cast_unsigned()))
        && let types::SubscriptionU::Clock(clock) = &subscription.u
        && !clock.flags.contains(types::Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME)
    {
        if !matches!(clock.id, types::Clockid::Realtime | types::Clockid::Monotonic) {
            return Ok(types::Errno::Inval as i32);
        }
        // The generated function would block the thread here, deaf to the interrupt.
        return sleep(&wasi.interrupt, &mut memory, &subscription, clock.timeout, events, ready);
    }
    if !wait::is_possible() {
        return Ok(types::Errno::Nfile as i32);
    }
    finish(wait::wait(
        &wasi.interrupt,
        p1::poll_oneoff(&mut wasi.ctx, &mut memory, subscriptions, events, count, ready),
    )?)
}

fn sleep(
    interrupt: &Interrupt,
    memory: &mut GuestMemory<'_>,
    subscription: &types::Subscription,
    nanoseconds: u64,
    events: i32,
    ready: i32,
) -> Result<i32, Stop> {
    wait::sleep(interrupt, nanoseconds)?;
    let event = types::Event {
        userdata: subscription.userdata,
        error: types::Errno::Success,
        type_: types::Eventtype::Clock,
        fd_readwrite: types::EventFdReadwrite { flags: types::Eventrwflags::empty(), nbytes: 0 },
    };
    let written = memory
        .write(GuestPtr::new(events.cast_unsigned()), event)
        .and_then(|()| memory.write(GuestPtr::<types::Size>::new(ready.cast_unsigned()), 1));
    Ok(match written {
        Ok(()) => types::Errno::Success as i32,
        Err(hostile) => errno_of(&hostile) as i32,
    })
}
