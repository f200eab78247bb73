//! What a function of WASI reads and writes of the guest's memory, as data: for guests whose memory is in another
//! process, so that only these bytes need to travel.
//!
//! Pointers are 32-bit addresses in the memory, and numbers of bytes and of items are 32-bit, too. A function gets both
//! as arguments, which are named here by their position, from 0 on.

use crate::{Import, PREVIEW_0, Wasi};

/// A part of the guest's memory that a function may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Items of one size. If they reach beyond the memory, those within it.
    Items {
        /// The argument that points to them.
        at: usize,
        /// The argument with their number.
        count: usize,
        /// The size of one item, in bytes.
        item_bytes: u32,
    },
    /// The pointers and lengths of several buffers, 8 bytes for each buffer, and what is in these buffers.
    Gathered {
        /// The argument that points to the pointers and lengths.
        at: usize,
        /// The argument with the number of buffers.
        count: usize,
    },
}

/// A part of the guest's memory that a function has written if it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Write {
    /// This many bytes.
    Fixed { at: usize, bytes: u32 },
    /// As many bytes as an argument says.
    Bytes { at: usize, count: usize },
    /// As many items as stands where the argument `used` points to.
    Used { at: usize, used: usize, item_bytes: u32 },
    /// As many bytes as stands where the argument `used` points to, spread over several buffers.
    Scattered { at: usize, count: usize, used: usize },
    /// Strings, each with a zero at its end, and a pointer to each.
    Strings { pointers: usize, bytes: usize, of: Strings },
}

/// Which strings a function writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strings {
    Args,
    Env,
}

/// How many strings there are, and their bytes together with a zero at the end of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StringSizes {
    count: u32,
    bytes: u32,
}

impl StringSizes {
    /// Measures strings by their lengths in bytes.
    pub(crate) fn of(lengths: impl Iterator<Item = usize>) -> Self {
        lengths.fold(Self::default(), |sizes, length| Self {
            count: sizes.count + 1,
            // A guest's memory is too small for 4 GiB of strings, so that a call with more of them does not succeed.
            bytes: sizes.bytes.saturating_add(u32::try_from(length + 1).unwrap_or(u32::MAX)),
        })
    }
}

/// Consecutive bytes of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The first byte's address.
    pub at: u32,
    /// The number of bytes.
    pub bytes: u32,
}

const fn bytes(at: usize, count: usize) -> Read {
    Read::Items { at, count, item_bytes: 1 }
}

const fn fixed(at: usize, bytes: u32) -> Write {
    Write::Fixed { at, bytes }
}

/// Declares for each function first what it reads, then what it writes.
macro_rules! touches {
    ($($($name:literal)|+ $(if $preview:ident)?: [$($read:expr),*] [$($write:expr),*];)*) => {
        impl Import {
            /// What the function may read of the guest's memory. If the function may leave some of the bytes of
            /// [`Wasi::written`] as they were, it counts as reading them.
            #[must_use]
            pub fn reads(&self) -> &'static [Read] {
                let is_p0 = self.module == PREVIEW_0;
                match self.name {
                    $($($name)|+ $(if touches!(@$preview is_p0))? => const { &[$($read),*] },)*
                    _ => &[],
                }
            }

            fn writes(&self) -> &'static [Write] {
                let is_p0 = self.module == PREVIEW_0;
                match self.name {
                    $($($name)|+ $(if touches!(@$preview is_p0))? => const { &[$($write),*] },)*
                    _ => &[],
                }
            }

            #[cfg(test)]
            fn is_declared(&self) -> bool {
                $(matches!(self.name, $($name)|+) ||)* false
            }
        }
    };
    (@p0 $is_p0:ident) => { $is_p0 };
    (@p1 $is_p0:ident) => { !$is_p0 };
}

touches! {
    "args_get": [] [Write::Strings { pointers: 0, bytes: 1, of: Strings::Args }];
    "environ_get": [] [Write::Strings { pointers: 0, bytes: 1, of: Strings::Env }];
    "args_sizes_get" | "environ_sizes_get": [] [fixed(0, 4), fixed(1, 4)];
    "clock_res_get": [] [fixed(1, 8)];
    "clock_time_get": [] [fixed(2, 8)];
    "fd_fdstat_get": [] [fixed(1, 24)];
    "fd_filestat_get" if p0: [] [fixed(1, 56)];
    "fd_filestat_get" if p1: [] [fixed(1, 64)];
    "fd_prestat_get": [] [fixed(1, 8)];
    "fd_prestat_dir_name": [bytes(1, 2)] [Write::Bytes { at: 1, count: 2 }];
    "fd_tell": [] [fixed(1, 8)];
    "fd_seek": [] [fixed(3, 8)];
    "fd_read": [bytes_of_vectors(1, 2)] [Write::Scattered { at: 1, count: 2, used: 3 }, fixed(3, 4)];
    "fd_pread": [bytes_of_vectors(1, 2)] [Write::Scattered { at: 1, count: 2, used: 4 }, fixed(4, 4)];
    "fd_write": [Read::Gathered { at: 1, count: 2 }] [fixed(3, 4)];
    "fd_pwrite": [Read::Gathered { at: 1, count: 2 }] [fixed(4, 4)];
    "fd_readdir": [] [Write::Used { at: 1, used: 4, item_bytes: 1 }, fixed(4, 4)];
    "path_create_directory" | "path_remove_directory" | "path_unlink_file": [bytes(1, 2)] [];
    "path_filestat_get" if p0: [bytes(2, 3)] [fixed(4, 56)];
    "path_filestat_get" if p1: [bytes(2, 3)] [fixed(4, 64)];
    "path_filestat_set_times": [bytes(2, 3)] [];
    "path_link": [bytes(2, 3), bytes(5, 6)] [];
    "path_open": [bytes(2, 3)] [fixed(8, 4)];
    "path_readlink": [bytes(1, 2)] [Write::Used { at: 3, used: 5, item_bytes: 1 }, fixed(5, 4)];
    "path_rename": [bytes(1, 2), bytes(4, 5)] [];
    "path_symlink": [bytes(0, 1), bytes(3, 4)] [];
    "poll_oneoff" if p0: [Read::Items { at: 0, count: 2, item_bytes: 56 }]
        [Write::Used { at: 1, used: 3, item_bytes: EVENT_BYTES }, fixed(3, 4)];
    "poll_oneoff" if p1: [Read::Items { at: 0, count: 2, item_bytes: 48 }]
        [Write::Used { at: 1, used: 3, item_bytes: EVENT_BYTES }, fixed(3, 4)];
    "random_get": [] [Write::Bytes { at: 0, count: 1 }];
    "sock_accept": [] [fixed(2, 4)];
    "sock_recv": [bytes_of_vectors(1, 2)] [Write::Scattered { at: 1, count: 2, used: 4 }, fixed(4, 4), fixed(5, 4)];
    "sock_send": [Read::Gathered { at: 1, count: 2 }] [fixed(4, 4)];
    "fd_advise" | "fd_allocate" | "fd_close" | "fd_datasync" | "fd_fdstat_set_flags" | "fd_fdstat_set_rights": [] [];
    "fd_filestat_set_size" | "fd_filestat_set_times" | "fd_renumber" | "fd_sync": [] [];
    "proc_exit" | "proc_raise" | "sched_yield" | "sock_shutdown": [] [];
}

/// The size of an event of `poll_oneoff`, in bytes.
const EVENT_BYTES: u32 = 32;
/// The size of a pointer and a length, in bytes.
pub const VECTOR_BYTES: u32 = 8;

const fn bytes_of_vectors(at: usize, count: usize) -> Read {
    Read::Items { at, count, item_bytes: VECTOR_BYTES }
}

impl Import {
    /// The buffers into which a call with these arguments may read something. This must be asked before the call, which
    /// may write over the place where they are named.
    #[must_use]
    pub fn buffers(&self, memory: &[u8], args: &[u64]) -> Vec<Span> {
        let arg = |position: usize| low(args.get(position).copied().unwrap_or(0));
        let mut buffers = Vec::new();
        for write in self.writes() {
            if let Write::Scattered { at, count, .. } = *write {
                buffers.extend(vectors(memory, arg(at), arg(count)));
            }
        }
        buffers
    }
}

impl Wasi {
    /// The bytes of `memory` that a call of `import` with these arguments and [buffers](Import::buffers) has written, if
    /// it succeeded. Spans that would not lie within the memory are left out. A call that failed may have written some
    /// of these bytes before it did; a guest in another process does not see them.
    pub fn written(&self, import: &Import, memory: &[u8], args: &[u64], buffers: &[Span], mut span: impl FnMut(Span)) {
        let arg = |position: usize| low(args.get(position).copied().unwrap_or(0));
        let mut within = |at: u32, bytes: u64| {
            if bytes > 0 && u64::from(at) + bytes <= memory.len() as u64 {
                span(Span { at, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
            }
        };
        for write in import.writes() {
            match *write {
                Write::Fixed { at, bytes } => within(arg(at), bytes.into()),
                Write::Bytes { at, count } => {
                    // A buffer that reaches beyond the memory may be longer than what is written.
                    let inside = (memory.len() as u64).saturating_sub(arg(at).into());
                    within(arg(at), inside.min(arg(count).into()));
                }
                Write::Used { at, used, item_bytes } => {
                    let items = word(memory, arg(used).into()).unwrap_or(0);
                    within(arg(at), u64::from(items) * u64::from(item_bytes));
                }
                Write::Scattered { used, .. } => {
                    let mut left = word(memory, arg(used).into()).unwrap_or(0);
                    for Span { at, bytes } in buffers {
                        within(*at, left.min(*bytes).into());
                        left -= left.min(*bytes);
                    }
                }
                Write::Strings { pointers, bytes, of } => {
                    let sizes = match of {
                        Strings::Args => self.args,
                        Strings::Env => self.env,
                    };
                    within(arg(pointers), u64::from(sizes.count) * 4);
                    within(arg(bytes), sizes.bytes.into());
                }
            }
        }
    }
}

/// What a call comes to that is given more bytes than the host copies for one call: an errno.
pub const TOO_MUCH: i32 = wasmtime_wasi::p1::types::Errno::Nomem as i32;

/// The lower half of an argument, which holds a pointer or a number.
fn low(arg: u64) -> u32 {
    crate::imports::low(arg).cast_unsigned()
}

/// The buffers that pointers and lengths in the memory name, as far as these lie within the memory.
fn vectors(memory: &[u8], at: u32, count: u32) -> impl Iterator<Item = Span> {
    (0..u64::from(count)).map_while(move |vector| {
        let place = u64::from(at) + vector * u64::from(VECTOR_BYTES);
        Some(Span { at: word(memory, place)?, bytes: word(memory, place + 4)? })
    })
}

/// The 32-bit number at an address.
fn word(memory: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    let bytes = memory.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
impl Import {
    /// The bytes of `memory` that a call with these arguments may read: what another process would send.
    pub(crate) fn read_spans(&self, memory: &[u8], args: &[u64]) -> Vec<Span> {
        let arg = |position: usize| low(args.get(position).copied().unwrap_or(0));
        let mut spans = Vec::new();
        for read in self.reads() {
            let (Read::Items { at, count, .. } | Read::Gathered { at, count }) = *read;
            let item_bytes = if let Read::Items { item_bytes, .. } = *read { item_bytes } else { VECTOR_BYTES };
            let inside = (memory.len() as u64).saturating_sub(arg(at).into());
            let bytes = (u64::from(arg(count)) * u64::from(item_bytes)).min(inside);
            if bytes == 0 {
                continue;
            }
            spans.push(Span { at: arg(at), bytes: u32::try_from(bytes).unwrap() });
            if matches!(read, Read::Gathered { .. }) {
                let is_inside = |span: &Span| u64::from(span.at) + u64::from(span.bytes) <= memory.len() as u64;
                spans.extend(vectors(memory, arg(at), arg(count)).filter(is_inside));
            }
        }
        spans
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IMPORTS, Type};

    #[test]
    fn every_function_is_declared_with_arguments_that_it_has() {
        for import in IMPORTS {
            assert!(import.is_declared(), "{}", import.name);
            let is_word = |position: usize| import.params.get(position) == Some(&Type::I32);
            for read in import.reads() {
                let (Read::Items { at, count, .. } | Read::Gathered { at, count }) = *read;
                assert!(is_word(at) && is_word(count), "{} {}: {read:?}", import.module, import.name);
            }
            for write in import.writes() {
                let arguments = match *write {
                    Write::Fixed { at, .. } => vec![at],
                    Write::Bytes { at, count } => vec![at, count],
                    Write::Used { at, used, .. } => vec![at, used],
                    Write::Scattered { at, count, used } => vec![at, count, used],
                    Write::Strings { pointers, bytes, .. } => vec![pointers, bytes],
                };
                assert!(arguments.into_iter().all(is_word), "{} {}: {write:?}", import.module, import.name);
            }
        }
    }
}
