//! `poll_oneoff`: waiting for clocks and for the host process's own standard input, on the guest's own thread.
//!
//! Files and a guest's output are always ready. The generated functions are not used: they need a runtime, a thread
//! that reads ahead, and descriptors, of which the host may have none left; and the one of preview 0 misreads all
//! subscriptions except the first.

use std::time::{Duration, Instant};

use remuda_model::Waiting;
use wasmtime_wasi::p1::types;
use wasmtime_wasi::p1::wasi_snapshot_preview1::WasiSnapshotPreview1 as _;
use wiggle::{GuestMemory, GuestPtr};

use crate::imports::errno_of;
use crate::{COPY_BYTES_PER_CALL_MAX, HANDLES_MAX, Stop, Wasi, wait};

/// An event that a guest subscribes to, in either preview.
enum Subscription {
    Clock { userdata: u64, clock: Option<Clock>, timeout_ns: u64, is_absolute: bool },
    Read { userdata: u64, fd: u32 },
    Write { userdata: u64, fd: u32 },
}

/// The clocks that a guest can wait for.
#[derive(Clone, Copy)]
enum Clock {
    Realtime,
    Monotonic,
}

/// Declares `poll_oneoff` for one preview: the two differ in how subscriptions lie in memory.
macro_rules! poll_oneoff {
    ($preview:ident: $types:path) => {
        pub(crate) mod $preview {
            use wiggle::{GuestError, GuestMemory, GuestPtr, GuestType as _};
            use $types as types;

            use super::{Clock, Subscription, errno_for_count, wait_for};
            use crate::imports::{begin, errno_of, low, wrong_arity};
            use crate::{Stop, Wasi};

            pub(crate) fn poll_oneoff(wasi: &mut Wasi, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
                let [subscriptions, events, count, ready] = *args else {
                    return Err(wrong_arity("poll_oneoff", args));
                };
                let [subscriptions, events, count, ready] =
                    [subscriptions, events, count, ready].map(|arg| low(arg).cast_unsigned());
                let mut memory = begin(wasi, memory)?;
                if let Some(errno) = errno_for_count(count, types::Subscription::guest_size()) {
                    return Ok(errno as i32);
                }
                match read(&memory, subscriptions, count) {
                    Ok(wanted) => Ok(wait_for(wasi, &mut memory, &wanted, events, ready)? as i32),
                    Err(hostile) => Ok(errno_of(&hostile) as i32),
                }
            }

            fn read(memory: &GuestMemory<'_>, at: u32, count: u32) -> Result<Vec<Subscription>, GuestError> {
                let subscriptions = GuestPtr::<types::Subscription>::new(at).as_array(count);
                subscriptions.iter().map(|subscription| Ok(decode(&memory.read(subscription?)?))).collect()
            }

            fn decode(subscription: &types::Subscription) -> Subscription {
                let userdata = subscription.userdata;
                match &subscription.u {
                    types::SubscriptionU::Clock(clock) => Subscription::Clock {
                        userdata,
                        clock: match clock.id {
                            types::Clockid::Realtime => Some(Clock::Realtime),
                            types::Clockid::Monotonic => Some(Clock::Monotonic),
                            _ => None,
                        },
                        timeout_ns: clock.timeout,
                        is_absolute: clock.flags.contains(types::Subclockflags::SUBSCRIPTION_CLOCK_ABSTIME),
                    },
                    types::SubscriptionU::FdRead(stream) => {
                        Subscription::Read { userdata, fd: stream.file_descriptor.into() }
                    }
                    types::SubscriptionU::FdWrite(stream) => {
                        Subscription::Write { userdata, fd: stream.file_descriptor.into() }
                    }
                }
            }
        }
    };
}

poll_oneoff!(preview_1: wasmtime_wasi::p1::types);
poll_oneoff!(preview_0: wasmtime_wasi::p0::types);

/// The errno with which this many subscriptions are refused; `None` if they are not.
fn errno_for_count(count: u32, subscription_bytes: u32) -> Option<types::Errno> {
    match u64::from(count) {
        // A guest may not sleep for ever.
        0 => Some(types::Errno::Inval),
        many if many * u64::from(subscription_bytes) > COPY_BYTES_PER_CALL_MAX as u64 => Some(types::Errno::Nomem),
        // The bound is the number of streams that one guest may hold open, so that no guest can make the host allocate
        // more.
        many if many > HANDLES_MAX as u64 => Some(types::Errno::Mfile),
        _ => None,
    }
}

/// What a guest waits for, as the host sees it.
enum Wanted {
    /// A moment; `None` if it is too far away to ever come.
    Moment { userdata: u64, due: Option<Instant> },
    /// Input on the host process's own standard input.
    Input { userdata: u64 },
    /// A file or stream that is always ready.
    Ready { userdata: u64, type_: types::Eventtype, flags: types::Eventrwflags },
}

fn wait_for(
    wasi: &mut Wasi,
    memory: &mut GuestMemory<'_>,
    subscriptions: &[Subscription],
    events: u32,
    ready: u32,
) -> Result<types::Errno, Stop> {
    let mut wanted = Vec::with_capacity(subscriptions.len());
    for subscription in subscriptions {
        match want(wasi, memory, subscription)? {
            Ok(one) => wanted.push(one),
            Err(errno) => return Ok(errno),
        }
    }
    let now = Instant::now();
    let until = wanted.iter().filter_map(|wanted| match wanted {
        Wanted::Moment { due, .. } => *due,
        Wanted::Input { .. } => None,
        Wanted::Ready { .. } => Some(now),
    });
    let until = until.min();
    let has_input = match &wasi.streams.stdin {
        Some(input) if wanted.iter().any(|wanted| matches!(wanted, Wanted::Input { .. })) => {
            match input.await_input(until) {
                Ok(has_input) => has_input,
                Err(_) => {
                    wait::check(&wasi.interrupt)?;
                    return Ok(types::Errno::Nfile);
                }
            }
        }
        _ => {
            // Until then, a client has what there is for it, and another guest the thread's place.
            wasi.streams.stdout.send_captured()?;
            let _waiting = wasi.streams.stdout.may_stream().then(|| Waiting::begin(&wasi.interrupt));
            wait::sleep_until(&wasi.interrupt, until)?;
            false
        }
    };
    Ok(tell(memory, &wanted, has_input, events, ready))
}

fn want(
    wasi: &mut Wasi,
    memory: &mut GuestMemory<'_>,
    subscription: &Subscription,
) -> Result<Result<Wanted, types::Errno>, Stop> {
    Ok(match *subscription {
        Subscription::Clock { clock: None, .. } => Err(types::Errno::Inval),
        Subscription::Clock { userdata, clock: Some(clock), timeout_ns, is_absolute } => {
            let now_ns = if is_absolute { now(wasi, memory, clock)? } else { 0 };
            let left = Duration::from_nanos(timeout_ns.saturating_sub(now_ns));
            Ok(Wanted::Moment { userdata, due: Instant::now().checked_add(left) })
        }
        Subscription::Read { userdata, fd } => {
            if !has_right(wasi, memory, fd, types::Rights::FD_READ)? {
                return Ok(Err(types::Errno::Badf));
            }
            // Only a stream has no position, and standard input is the only stream that can be read.
            match wasi.ctx.fd_tell(memory, fd.into()) {
                Err(_) if wasi.streams.stdin.as_ref().is_some_and(crate::stdin::Input::is_stream) => {
                    Ok(Wanted::Input { userdata })
                }
                position => {
                    let stat = wait::complete(wasi.ctx.fd_filestat_get(memory, fd.into()))?;
                    let is_at_end = matches!((position, stat), (Ok(position), Ok(stat)) if position >= stat.size);
                    let flags =
                        if is_at_end { types::Eventrwflags::FD_READWRITE_HANGUP } else { types::Eventrwflags::empty() };
                    Ok(Wanted::Ready { userdata, type_: types::Eventtype::FdRead, flags })
                }
            }
        }
        Subscription::Write { userdata, fd } => {
            if !has_right(wasi, memory, fd, types::Rights::FD_WRITE)? {
                return Ok(Err(types::Errno::Badf));
            }
            let flags = types::Eventrwflags::empty();
            Ok(Wanted::Ready { userdata, type_: types::Eventtype::FdWrite, flags })
        }
    })
}

/// Whether a descriptor is a file or stream with this right.
fn has_right(wasi: &mut Wasi, memory: &mut GuestMemory<'_>, fd: u32, right: types::Rights) -> Result<bool, Stop> {
    let stat = wait::complete(wasi.ctx.fd_fdstat_get(memory, fd.into()))?;
    Ok(stat.is_ok_and(|stat| stat.fs_filetype != types::Filetype::Directory && stat.fs_rights_base.contains(right)))
}

fn now(wasi: &mut Wasi, memory: &mut GuestMemory<'_>, clock: Clock) -> Result<u64, Stop> {
    let id = match clock {
        Clock::Realtime => types::Clockid::Realtime,
        Clock::Monotonic => types::Clockid::Monotonic,
    };
    wasi.ctx.clock_time_get(memory, id, 0).map_err(|error| Stop::Failed(format!("a clock cannot be read: {error}")))
}

/// Writes an event for everything that is ready. Events are the same in both previews.
fn tell(memory: &mut GuestMemory<'_>, wanted: &[Wanted], has_input: bool, events: u32, ready: u32) -> types::Errno {
    let now = Instant::now();
    let nothing = types::Eventrwflags::empty();
    let came = wanted.iter().filter_map(|wanted| match *wanted {
        Wanted::Moment { userdata, due } => {
            due.is_some_and(|due| due <= now).then_some((userdata, types::Eventtype::Clock, nothing, 0))
        }
        // There is at least one byte, or the end of the input.
        Wanted::Input { userdata } => has_input.then_some((userdata, types::Eventtype::FdRead, nothing, 1)),
        Wanted::Ready { userdata, type_, flags } => Some((userdata, type_, flags, 1)),
    });
    let mut count: types::Size = 0;
    for (userdata, type_, flags, nbytes) in came {
        let fd_readwrite = types::EventFdReadwrite { flags, nbytes };
        let event = types::Event { userdata, error: types::Errno::Success, type_, fd_readwrite };
        let written = GuestPtr::<types::Event>::new(events).add(count).and_then(|at| memory.write(at, event));
        if let Err(hostile) = written {
            return errno_of(&hostile);
        }
        count += 1;
    }
    match memory.write(GuestPtr::<types::Size>::new(ready), count) {
        Ok(()) => types::Errno::Success,
        Err(hostile) => errno_of(&hostile),
    }
}
