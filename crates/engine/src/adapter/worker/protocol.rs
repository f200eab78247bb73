//! The host's side of the protocol of docs/workers.md: orders, which it writes, and reports, which it reads.
//!
//! A worker is not trusted: every report is checked, and one that makes no sense is an error.

use std::ops::Range;

use bytes::{Buf, BufMut, TryGetError};
use remuda_model::TrapKind;
use remuda_wasi::{Import, Read, Span, Type};

use super::rewrite::{ByIntegers, Integer};
use crate::adapter::region::PAGE_BYTES;

/// The version of the protocol. A worker of another version is not used.
pub(super) const VERSION: u32 = 2;

/// The size of the number before each frame, in bytes. It counts the bytes that follow it.
pub(super) const LENGTH_BYTES: usize = 4;

/// The longest frame that a worker may send, in bytes: a call of the host takes 128 MiB from the guest's memory at
/// most, and what is said about them is less than that.
pub(super) const REPORT_BYTES_MAX: usize = 256 << 20;

mod order {
    pub(super) const LINK: u8 = 1;
    pub(super) const COMPILE: u8 = 2;
    pub(super) const FORGET: u8 = 3;
    pub(super) const INSTANTIATE: u8 = 4;
    pub(super) const CALL: u8 = 5;
    pub(super) const RETURN: u8 = 6;
    pub(super) const UNWIND: u8 = 7;
    pub(super) const DROP: u8 = 8;
    pub(super) const SERIALIZE: u8 = 9;
    pub(super) const LOAD: u8 = 10;
    pub(super) const CODE: u8 = 11;
}

mod report {
    pub(super) const HELLO: u8 = 64;
    pub(super) const COMPILED: u8 = 65;
    pub(super) const REFUSED: u8 = 66;
    pub(super) const READY: u8 = 67;
    pub(super) const IMPORT: u8 = 68;
    pub(super) const RETURNED: u8 = 69;
    pub(super) const ENDED: u8 = 70;
    pub(super) const SERIALIZED: u8 = 71;
    pub(super) const CODE: u8 = 72;
}

mod code {
    pub(super) const I32: u8 = 0;
    pub(super) const I64: u8 = 1;
}

/// A module, by a number that the host has given it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ModuleNumber(pub(super) u32);

/// Writes orders, one after the other, to be sent together.
#[derive(Default)]
pub(super) struct Orders(Vec<u8>);

impl Orders {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn order(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let at = self.0.len();
        self.0.put_u32_le(0);
        self.0.put_u8(kind);
        write(&mut self.0);
        let bytes = self.0.len() - at - LENGTH_BYTES;
        (&mut self.0[at..at + LENGTH_BYTES]).put_u32_le(length(bytes));
    }

    /// Tells the functions that guests may import. The first order to each worker.
    pub(super) fn link(&mut self, imports: &[Import]) {
        self.order(order::LINK, |out| {
            out.put_u16_le(u16::try_from(imports.len()).expect("WASI has some hundred functions"));
            for import in imports {
                put_text(out, import.module);
                put_text(out, import.name);
                out.put_u8(count(import.params.len()));
                for param in import.params {
                    out.put_u8(match param {
                        Type::I32 => code::I32,
                        Type::I64 => code::I64,
                    });
                }
                out.put_u8(u8::from(import.result.is_some()));
                out.put_u8(count(import.reads().len()));
                for read in import.reads() {
                    let (gathered, at, number, item_bytes) = match *read {
                        Read::Items { at, count, item_bytes } => (0, at, count, item_bytes),
                        Read::Gathered { at, count } => (1, at, count, remuda_wasi::VECTOR_BYTES),
                    };
                    out.put_u8(gathered);
                    out.put_u8(count(at));
                    out.put_u8(count(number));
                    out.put_u8(u8::try_from(item_bytes).expect("an item is smaller than 256 bytes"));
                }
            }
        });
    }

    /// Has the worker make a module ready for instances.
    pub(super) fn make(&mut self, module: ModuleNumber, code: &Code) {
        match code {
            Code::Module(bytes) => self.order(order::COMPILE, |out| {
                out.put_u32_le(module.0);
                out.put_u8(threads());
                out.put_slice(bytes);
            }),
            Code::Artifact(bytes) => self.order(order::LOAD, |out| {
                out.put_u32_le(module.0);
                out.put_slice(bytes);
            }),
        }
    }

    /// Asks for the code of a module that the worker has compiled.
    pub(super) fn serialize(&mut self, module: ModuleNumber) {
        self.order(order::SERIALIZE, |out| out.put_u32_le(module.0));
    }

    /// Asks for the machine code of a module that the worker has compiled, to be looked at.
    pub(super) fn code(&mut self, module: ModuleNumber) {
        self.order(order::CODE, |out| out.put_u32_le(module.0));
    }

    pub(super) fn forget(&mut self, module: ModuleNumber) {
        self.order(order::FORGET, |out| out.put_u32_le(module.0));
    }

    pub(super) fn instantiate(&mut self, module: ModuleNumber, memory: Option<MemoryOrder>) {
        self.order(order::INSTANTIATE, |out| {
            out.put_u32_le(module.0);
            out.put_u8(u8::from(memory.is_some()));
            let memory = memory.unwrap_or_default();
            out.put_u8(u8::from(memory.is_exported));
            out.put_u32_le(memory.initial_pages);
            out.put_u32_le(memory.maximum_pages);
        });
    }

    /// Calls an exported function.
    pub(super) fn call(&mut self, call: &ByIntegers) {
        self.order(order::CALL, |out| {
            put_text(out, &call.name);
            out.put_u16_le(short(call.args.len()));
            for arg in &call.args {
                let (code, bits) = match arg {
                    Integer::I32(n) => (code::I32, u64::from(*n)),
                    Integer::I64(n) => (code::I64, *n),
                };
                out.put_u8(code);
                out.put_u64_le(bits);
            }
            out.put_u16_le(short(call.results.len()));
            out.extend(call.results.iter().map(|is_64| if *is_64 { code::I64 } else { code::I32 }));
        });
    }

    /// Ends a call of the host: `spans` are the bytes of `memory` that have changed.
    pub(super) fn return_(&mut self, errno: i32, memory: &[u8], spans: &[Span]) {
        self.order(order::RETURN, |out| {
            out.put_i32_le(errno);
            for Span { at, bytes } in spans {
                out.put_u32_le(*at);
                out.put_u32_le(*bytes);
                out.put_slice(&memory[*at as usize..*at as usize + *bytes as usize]);
            }
        });
    }

    /// Ends a call of the host together with the guest that made it.
    pub(super) fn unwind(&mut self) {
        self.order(order::UNWIND, |_| {});
    }

    pub(super) fn drop(&mut self) {
        self.order(order::DROP, |_| {});
    }
}

/// What a worker makes a module ready from.
pub(super) enum Code {
    /// The module, which is compiled.
    Module(Vec<u8>),
    /// What a worker has made of the module before, which is loaded.
    Artifact(Vec<u8>),
}

impl Code {
    pub(super) fn bytes(&self) -> usize {
        let (Self::Module(bytes) | Self::Artifact(bytes)) = self;
        bytes.len()
    }
}

/// The number of threads on which a module is compiled: as many as compile on behalf of the calling thread in this
/// process.
fn threads() -> u8 {
    u8::try_from(rayon::current_num_threads()).unwrap_or(u8::MAX)
}

/// The memory of an instance that is to be made.
#[derive(Clone, Copy, Default)]
pub(super) struct MemoryOrder {
    /// Whether functions of the host get to see the memory.
    pub(super) is_exported: bool,
    pub(super) initial_pages: u32,
    pub(super) maximum_pages: u32,
}

impl MemoryOrder {
    /// The most bytes that the memory may grow to.
    pub(super) fn bytes_max(&self) -> u64 {
        u64::from(self.maximum_pages) * PAGE_BYTES as u64
    }
}

fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("modules and what calls of the host copy are smaller than 4 GiB")
}

fn count(items: usize) -> u8 {
    u8::try_from(items).expect("there are fewer than 256 of them")
}

fn short(items: usize) -> u16 {
    u16::try_from(items).expect("a function has at most 1,000 parameters and as many results, a vector counting twice")
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u32_le(length(text.len()));
    out.put_slice(text.as_bytes());
}

/// What a worker reports.
#[derive(Debug)]
pub(super) enum Report<'a> {
    /// The worker has started: its first report.
    Hello { protocol: u32, versions: Vec<String> },
    /// The module can be instantiated.
    Compiled,
    /// The code of a module.
    Serialized { artifact: &'a [u8] },
    /// The machine code of a module: the functions, each with its index and its place, and all code.
    Code { functions: Vec<(u32, Range<usize>)>, text: &'a [u8] },
    /// The order could not be carried out, although no guest is to blame.
    Refused { reason: String },
    /// The instance is made, and its start function has returned.
    Ready,
    /// The guest calls the host, and waits.
    Import(ImportCall<'a>),
    /// The called function has returned.
    Returned { values: Vec<u64>, refused_growth: bool },
    /// The guest ended in another way.
    Ended { end: WorkerEnd, detail: String, refused_growth: bool },
}

/// A guest's call of a function of the host.
#[derive(Debug)]
pub(super) struct ImportCall<'a> {
    /// The position of the function among those that were linked.
    pub(super) index: u16,
    pub(super) memory_pages: u32,
    /// Whether all that the call may read of the memory has come along; if not, it was too much.
    pub(super) is_complete: bool,
    /// The arguments, and after them the bytes of the memory.
    rest: &'a [u8],
}

impl<'a> ImportCall<'a> {
    /// Takes the arguments, and leaves the bytes of the memory.
    pub(super) fn args(&mut self, args: &mut [u64]) -> Result<(), Malformed> {
        for arg in args {
            *arg = self.rest.try_get_u64_le()?;
        }
        Ok(())
    }

    /// Takes the next bytes of the memory, with their address.
    pub(super) fn span(&mut self) -> Result<Option<(usize, &'a [u8])>, Malformed> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let at = self.rest.try_get_u32_le()? as usize;
        Ok(Some((at, take_bytes(&mut self.rest)?)))
    }
}

/// How a guest ended that did not return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WorkerEnd {
    /// The host has ordered it during a call of the host.
    Unwound,
    /// By a signal.
    Interrupted,
    /// By a trap.
    Trapped(TrapKind),
    /// The worker has no memory for the guest.
    OutOfMemory,
}

impl WorkerEnd {
    fn of(code: u8) -> Result<Self, Malformed> {
        Ok(match code {
            0 => Self::Unwound,
            1 => Self::Interrupted,
            2 => Self::Trapped(TrapKind::Unreachable),
            3 => Self::Trapped(TrapKind::MemoryOutOfBounds),
            4 => Self::Trapped(TrapKind::TableOutOfBounds),
            5 => Self::Trapped(TrapKind::IntegerDivisionByZero),
            6 => Self::Trapped(TrapKind::IntegerOverflow),
            7 => Self::Trapped(TrapKind::BadConversionToInteger),
            8 => Self::Trapped(TrapKind::BadSignature),
            9 => Self::Trapped(TrapKind::StackExhausted),
            10 => Self::Trapped(TrapKind::Other),
            11 => Self::OutOfMemory,
            12 => Self::Trapped(TrapKind::IndirectCallToNull),
            _ => return Err(Malformed),
        })
    }
}

/// A report that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker sent something that is no report")]
pub(super) struct Malformed;

impl From<TryGetError> for Malformed {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

impl<'a> Report<'a> {
    /// Reads a frame without its length.
    pub(super) fn read(mut frame: &'a [u8]) -> Result<Self, Malformed> {
        let frame = &mut frame;
        let report = match frame.try_get_u8()? {
            report::HELLO => {
                let protocol = frame.try_get_u32_le()?;
                let mut versions = Vec::new();
                while frame.has_remaining() {
                    versions.push(take_text(frame)?);
                }
                Self::Hello { protocol, versions }
            }
            report::COMPILED => Self::Compiled,
            report::SERIALIZED => return Ok(Self::Serialized { artifact: frame }),
            report::CODE => {
                let mut functions = Vec::new();
                for _ in 0..frame.try_get_u32_le()? {
                    let (index, start) = (frame.try_get_u32_le()?, frame.try_get_u32_le()? as usize);
                    let length = frame.try_get_u32_le()? as usize;
                    functions.push((index, start..start.checked_add(length).ok_or(Malformed)?));
                }
                let text = *frame;
                let is_right = |(_, range): &(u32, Range<usize>)| range.end <= text.len();
                let is_sorted = functions.is_sorted_by(|(one, _), (other, _)| one < other);
                return if is_sorted && functions.iter().all(is_right) {
                    Ok(Self::Code { functions, text })
                } else {
                    Err(Malformed)
                };
            }
            report::REFUSED => Self::Refused { reason: take_text(frame)? },
            report::READY => Self::Ready,
            report::IMPORT => {
                let (index, memory_pages) = (frame.try_get_u16_le()?, frame.try_get_u32_le()?);
                let is_complete = take_flag(frame)?;
                return Ok(Self::Import(ImportCall { index, memory_pages, is_complete, rest: frame }));
            }
            report::RETURNED => {
                let refused_growth = take_flag(frame)?;
                let values = (0..frame.try_get_u16_le()?)
                    .map(|_| Ok(frame.try_get_u64_le()?))
                    .collect::<Result<_, Malformed>>()?;
                Self::Returned { values, refused_growth }
            }
            report::ENDED => {
                let end = WorkerEnd::of(frame.try_get_u8()?)?;
                let refused_growth = take_flag(frame)?;
                Self::Ended { end, refused_growth, detail: take_text(frame)? }
            }
            _ => return Err(Malformed),
        };
        if frame.is_empty() { Ok(report) } else { Err(Malformed) }
    }
}

fn take_flag(frame: &mut &[u8]) -> Result<bool, Malformed> {
    match frame.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed),
    }
}

fn take_bytes<'a>(frame: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let bytes = frame.try_get_u32_le()? as usize;
    let (taken, rest) = frame.split_at_checked(bytes).ok_or(Malformed)?;
    *frame = rest;
    Ok(taken)
}

fn take_text(frame: &mut &[u8]) -> Result<String, Malformed> {
    Ok(String::from_utf8_lossy(take_bytes(frame)?).into_owned())
}
