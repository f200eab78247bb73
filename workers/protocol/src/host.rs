//! Calls of the host: WASI is there, and only the bytes of the guest's memory travel that it reads and writes.

use std::sync::{LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::{Buf as _, BufMut as _};

use crate::connection::{Connection, take_text};
use crate::serve::{order, report};
use crate::stop;

/// The most bytes that one call of the host takes from the guest's memory: as many as the host copies for a call.
const READ_BYTES_MAX: usize = 128 << 20;

const PAGE_BYTES: usize = 64 << 10;

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `i32`
    I32,
    /// `i64`
    I64,
}

impl Type {
    pub(crate) fn take(frame: &mut &[u8]) -> Self {
        if frame.get_u8() == 0 { Self::I32 } else { Self::I64 }
    }
}

/// A function of the host that guests may import.
#[derive(Debug)]
pub struct HostFunction {
    /// The name of the module that it is imported from.
    pub module: String,
    /// Its name.
    pub name: String,
    /// The types of its parameters.
    pub params: Vec<Type>,
    /// Whether it returns an `i32`; otherwise it returns nothing.
    pub returns: bool,
    reads: Vec<Read>,
}

/// What a function reads of the memory.
#[derive(Debug)]
struct Read {
    /// Whether what is read are pointers and lengths of buffers, which are read, too.
    gathered: bool,
    /// The positions of the pointer and of the number of items among the arguments.
    at: usize,
    count: usize,
    item_bytes: usize,
}

/// The host has ordered the guest to end within its call.
#[derive(Clone, Copy, Debug)]
pub struct Unwound;

impl std::fmt::Display for Unwound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the host ends the guest")
    }
}

impl std::error::Error for Unwound {}

static CONNECTION: LazyLock<Mutex<Connection>> = LazyLock::new(|| Mutex::new(Connection::open()));
static FUNCTIONS: OnceLock<Vec<HostFunction>> = OnceLock::new();

pub(crate) fn connection() -> MutexGuard<'static, Connection> {
    CONNECTION.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The functions that the host has told of.
pub(crate) fn functions() -> &'static [HostFunction] {
    FUNCTIONS.get().map_or(&[], Vec::as_slice)
}

/// Notes the functions of the host.
pub(crate) fn link(mut frame: &[u8]) {
    let frame = &mut frame;
    let functions = (0..frame.get_u16_le()).map(|_| HostFunction {
        module: take_text(frame),
        name: take_text(frame),
        params: (0..frame.get_u8()).map(|_| Type::take(frame)).collect(),
        returns: frame.get_u8() == 1,
        reads: (0..frame.get_u8())
            .map(|_| Read {
                gathered: frame.get_u8() == 1,
                at: frame.get_u8().into(),
                count: frame.get_u8().into(),
                item_bytes: frame.get_u8().into(),
            })
            .collect(),
    });
    FUNCTIONS.set(functions.collect()).expect("the host links once");
}

/// Calls a function of the host, by its position among those that [`Runtime::instantiate`](crate::Runtime::instantiate)
/// gets. `memory` is the guest's, or empty if it has none that the host's functions see.
///
/// # Errors
///
/// Returns an error if the guest is to end.
///
/// # Panics
///
/// Panics if there is no such function, or if it has other parameters.
pub fn call(function: usize, args: &[u64], memory: &mut [u8]) -> Result<i32, Unwound> {
    stop::outside_of_guest(|| {
        let mut connection = connection();
        let out = connection.report.begin(report::IMPORT);
        out.put_u16_le(u16::try_from(function).expect("there are few"));
        out.put_u32_le(u32::try_from(memory.len() / PAGE_BYTES).expect("a memory has at most 65536 pages"));
        let complete = out.len();
        out.put_u8(0);
        for arg in args {
            out.put_u64_le(*arg);
        }
        out[complete] = u8::from(put_reads(&functions()[function].reads, args, memory, out));
        connection.send();
        let (order, _) = connection.receive();
        if order.kind != order::RETURN {
            return Err(Unwound);
        }
        let mut frame = order.rest;
        let result = frame.get_i32_le();
        while frame.has_remaining() {
            let (at, bytes) = (frame.get_u32_le() as usize, frame.get_u32_le() as usize);
            let (span, rest) = frame.split_at(bytes);
            memory[at..][..bytes].copy_from_slice(span);
            frame = rest;
        }
        Ok(result)
    })
}

/// Adds what a call may read of the memory. What does not lie within the memory is left out: the host sees by itself
/// that it does not. Returns whether there was room for everything.
fn put_reads(reads: &[Read], args: &[u64], memory: &[u8], out: &mut Vec<u8>) -> bool {
    for read in reads {
        // Pointers and lengths have 32 bits.
        let low = |arg: u64| usize::try_from(arg & u64::from(u32::MAX)).expect("32 bits fit an address");
        let from = low(args[read.at]);
        let wanted = low(args[read.count]).saturating_mul(read.item_bytes);
        let Some(there) = memory.get(from..) else { continue };
        let items = &there[..wanted.min(there.len())];
        if items.is_empty() {
            continue;
        }
        if !put_span(from, items, out) {
            return false;
        }
        if !read.gathered {
            continue;
        }
        for mut vector in items.chunks_exact(8) {
            let (pointer, bytes) = (vector.get_u32_le() as usize, vector.get_u32_le() as usize);
            match memory.get(pointer..pointer + bytes) {
                Some(buffer) if bytes > 0 && !put_span(pointer, buffer, out) => return false,
                Some(_) | None => {}
            }
        }
    }
    true
}

/// Adds bytes of the memory. Returns whether there was room for them.
fn put_span(at: usize, bytes: &[u8], out: &mut Vec<u8>) -> bool {
    if out.len() + bytes.len() > READ_BYTES_MAX {
        return false;
    }
    let short = |n: usize| u32::try_from(n).expect("memories have 32-bit addresses");
    out.put_u32_le(short(at));
    out.put_u32_le(short(bytes.len()));
    out.put_slice(bytes);
    true
}
