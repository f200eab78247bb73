//! The functions of WASI previews 0 and 1 as data: an adapter links them in a loop and knows none of them by name.
//!
//! Old toolchains import preview 0, as `wasi_unstable`. It differs from preview 1 in how `fd_seek` numbers its origins,
//! and in how file attributes and subscriptions lie in memory. Functions that have nothing to do with these are the
//! same here.

use wasmtime_wasi::ResourceTableError;
use wasmtime_wasi::p0::wasi_unstable as p0;
use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as p1, WasiSnapshotPreview1 as _};
use wiggle::{GuestError, GuestMemory, GuestPtr, GuestType as _};

use crate::{COPY_BYTES_PER_CALL_MAX, PATH_BYTES_MAX, RANDOM_BYTES_AT_ONCE, Stop, Wasi, poll, stdin, stdio, wait};

/// The module name under which guests import preview 1.
pub const PREVIEW_1: &str = "wasi_snapshot_preview1";
/// The module name under which guests import preview 0.
pub const PREVIEW_0: &str = "wasi_unstable";

/// A function that a guest may import.
#[derive(Clone, Copy, Debug)]
pub struct Import {
    /// The module name, [`PREVIEW_1`] or [`PREVIEW_0`].
    pub module: &'static str,
    /// The function's name within that module.
    pub name: &'static str,
    /// The types of the parameters.
    pub params: &'static [Type],
    /// The result: an errno as `i32`, or nothing (`proc_exit`).
    pub result: Option<Type>,
    /// Carries out one call. `memory` is the guest's exported memory as it is now, empty if the guest exports none.
    /// `args` holds one element for each of `params`, an `i32` in its lower half.
    ///
    /// # Errors
    ///
    /// Returns an error if the call does not return to the guest.
    pub call: fn(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop>,
}

/// The types that WASI's functions use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
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

macro_rules! module_name {
    (p0) => {
        PREVIEW_0
    };
    (p1) => {
        PREVIEW_1
    };
}

/// Declares, preview by preview, first the functions that call a generated one and do nothing else, then, after the
/// `+`, those with code of their own. A generated `now` function returns its result, a generated `poll` function a
/// future that is ready at once. A `path_len` is an `i32` with an upper bound.
macro_rules! imports {
    ($($preview:ident {
        $($mode:ident $name:ident($($arg:ident: $ty:ident),*);)*
        + $($own:ident: $params:expr => $result:expr, $call:path;)*
    })*) => {
        &[
            $(
                $(Import {
                    module: module_name!($preview),
                    name: stringify!($name),
                    params: &[$(wasm_type!($ty)),*],
                    result: Some(Type::I32),
                    call: |wasi, memory, args| {
                        let [$($arg),*] = *args else { return Err(wrong_arity(stringify!($name), args)) };
                        $(imports!(@check $ty $arg);)*
                        let mut memory = begin(wasi, memory)?;
                        let ctx = &mut wasi.ctx;
                        imports!(@$mode $preview::$name(ctx, &mut memory $(, imports!(@arg $ty $arg))*))
                    },
                },)*
                $(Import {
                    module: module_name!($preview),
                    name: stringify!($own),
                    params: $params,
                    result: $result,
                    call: $call,
                },)*
            )*
        ]
    };
    (@now $call:expr) => { finish($call) };
    (@poll $call:expr) => { finish(wait::complete($call)?) };
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

/// Every function of both previews.
pub static IMPORTS: &[Import] = imports! {
    p1 {
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
        +
        path_open: PATH_OPEN => Some(Type::I32), path_open;
        fd_read: &[Type::I32; 4] => Some(Type::I32), fd_read;
        fd_pread: FD_PREAD => Some(Type::I32), fd_pread;
        random_get: &[Type::I32; 2] => Some(Type::I32), random_get;
        poll_oneoff: &[Type::I32; 4] => Some(Type::I32), poll::preview_1::poll_oneoff;
        proc_exit: &[Type::I32] => None, proc_exit;
    }
    p0 {
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
        now proc_raise(a: i32);
        +
        sock_recv: &[Type::I32; 6] => Some(Type::I32), sock_recv;
        sock_send: &[Type::I32; 5] => Some(Type::I32), sock_send;
        sock_shutdown: &[Type::I32; 2] => Some(Type::I32), sock_shutdown;
        path_open: PATH_OPEN => Some(Type::I32), path_open;
        fd_read: &[Type::I32; 4] => Some(Type::I32), fd_read;
        fd_pread: FD_PREAD => Some(Type::I32), fd_pread;
        random_get: &[Type::I32; 2] => Some(Type::I32), random_get;
        poll_oneoff: &[Type::I32; 4] => Some(Type::I32), poll::preview_0::poll_oneoff;
        proc_exit: &[Type::I32] => None, proc_exit;
    }
};

/// Declares functions of preview 0 that do what those of preview 1 do. The functions for sockets that are generated for
/// preview 0 would end the guest.
macro_rules! as_in_preview_1 {
    ($($name:ident($($arg:ident),*);)*) => {
        $(fn $name(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
            let [$($arg),*] = *args else { return Err(wrong_arity(stringify!($name), args)) };
            let mut memory = begin(wasi, memory)?;
            finish(p1::$name(&mut wasi.ctx, &mut memory $(, low($arg))*))
        })*
    };
}

as_in_preview_1! {
    sock_recv(a, b, c, d, e, f);
    sock_send(a, b, c, d, e);
    sock_shutdown(a, b);
}

/// The lower half of an argument, which holds an `i32`.
#[expect(clippy::cast_possible_truncation, reason = "the upper half of an i32 argument means nothing")]
pub(crate) fn low(arg: u64) -> i32 {
    arg as i32
}

pub(crate) fn wrong_arity(name: &str, args: &[u64]) -> Stop {
    Stop::Failed(format!("{name} was called with {} arguments", args.len()))
}

/// Begins every call: makes sure that the guest may still run, and gives it a fresh allowance of bytes that the host
/// copies for it.
pub(crate) fn begin<'memory>(wasi: &mut Wasi, memory: &'memory mut [u8]) -> Result<GuestMemory<'memory>, Stop> {
    wait::check(&wasi.interrupt)?;
    wasi.ctx.set_hostcall_fuel(COPY_BYTES_PER_CALL_MAX);
    Ok(GuestMemory::Unshared(memory))
}

/// Turns a generated function's result into what it means to the guest.
pub(crate) fn finish(result: wiggle::error::Result<i32>) -> Result<i32, Stop> {
    result.or_else(|error| {
        if let Some(hostile) = error.downcast_ref::<GuestError>() {
            return Ok(errno_of(hostile) as i32);
        }
        if let Some(stop) = stop_within(&error) {
            return Err(stop);
        }
        if let Some(ResourceTableError::Full) = error.downcast_ref() {
            return Ok(types::Errno::Mfile as i32);
        }
        Err(Stop::Failed(format!("{error:#}")))
    })
}

/// Why one of a guest's own streams has stopped it, if it has.
pub(crate) fn stop_within(error: &wiggle::error::Error) -> Option<Stop> {
    if error.downcast_ref::<stdio::OutputLimitExceeded>().is_some() {
        return Some(Stop::OutputLimit);
    }
    if let Some(stdin::Interrupted(cause)) = error.downcast_ref() {
        return Some(Stop::Interrupted(*cause));
    }
    error.downcast_ref().cloned()
}

/// The errno for an argument that makes no sense. The generated functions trap on some of these; according to WASI a
/// bad address is `fault`, and a bad value `inval`.
pub(crate) fn errno_of(error: &GuestError) -> types::Errno {
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
    finish(wait::complete(call)?)
}

/// Whether a path names a FIFO or a socket. Opening a FIFO waits in the kernel until its other end is opened, and there
/// the guest's interrupt has no effect. No guest can make a FIFO, but the host may have one in a granted directory.
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
    let stat = wait::complete(wasi.ctx.path_filestat_get(memory, dir.into(), lookup, path))?;
    // If anything is wrong with the path, opening it will report that.
    Ok(stat.is_ok_and(|stat| stat.filetype == types::Filetype::Unknown))
}

fn fd_read(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [fd, iovs, count, got] = *args else { return Err(wrong_arity("fd_read", args)) };
    let (fd, iovs, count, got) = (low(fd), low(iovs), low(count), low(got));
    let mut memory = begin(wasi, memory)?;
    if are_empty(&memory, iovs, count) {
        return read_nothing(wasi, &mut memory, fd, got);
    }
    finish(wait::complete(p1::fd_read(&mut wasi.ctx, &mut memory, fd, iovs, count, got))?)
}

const FD_PREAD: &[Type] = &[Type::I32, Type::I32, Type::I32, Type::I64, Type::I32];

fn fd_pread(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [fd, iovs, count, offset, got] = *args else { return Err(wrong_arity("fd_pread", args)) };
    let (fd, iovs, count, got) = (low(fd), low(iovs), low(count), low(got));
    let mut memory = begin(wasi, memory)?;
    if are_empty(&memory, iovs, count) {
        // `fd_tell` tells streams and files apart: it fails on a stream.
        if let Err(error) = wasi.ctx.fd_tell(&mut memory, fd.into()) {
            return finish(error.downcast().map(|errno| errno as i32));
        }
        return read_nothing(wasi, &mut memory, fd, got);
    }
    let offset = offset.cast_signed();
    finish(wait::complete(p1::fd_pread(&mut wasi.ctx, &mut memory, fd, iovs, count, offset, got))?)
}

/// Whether a call's buffers have no room at all. Too many buffers to copy are not looked at: the call will refuse them.
fn are_empty(memory: &GuestMemory<'_>, iovs: i32, count: i32) -> bool {
    let (iovs, count) = (iovs.cast_unsigned(), count.cast_unsigned());
    u64::from(count) * u64::from(types::Iovec::guest_size()) <= COPY_BYTES_PER_CALL_MAX as u64
        && GuestPtr::<[types::Iovec]>::new((iovs, count))
            .iter()
            .all(|iov| iov.and_then(|iov| memory.read(iov)).is_ok_and(|iov| iov.buf_len == 0))
}

/// Carries out a read into buffers without room. The generated functions would wait for input all the same, and then
/// say that they were interrupted, so that a libc would try again for ever.
fn read_nothing(wasi: &mut Wasi, memory: &mut GuestMemory<'_>, fd: i32, got: i32) -> Result<i32, Stop> {
    let stat = match wait::complete(wasi.ctx.fd_fdstat_get(memory, fd.into()))? {
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

/// Fills a buffer with random bytes in slices: the host never copies more than one slice at a time, and a guest that
/// wants gigabytes can be stopped between two slices.
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

/// Ends the guest with any exit code; the generated function would refuse codes from 126 on.
fn proc_exit(_: &mut Wasi, _: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
    let [code] = *args else { return Err(wrong_arity("proc_exit", args)) };
    Err(Stop::Exit(low(code)))
}
