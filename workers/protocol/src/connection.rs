//! Frames: a length of 32 bits, which counts what follows it, a byte for the kind, and the rest. All numbers are
//! little-endian.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd as _;
use std::process;

use bytes::{Buf as _, BufMut as _};

/// The descriptor of the socket to the host.
const SOCKET: i32 = 0;

const LENGTH_BYTES: usize = 4;

/// The bytes that the input buffer has at least: most frames fit into it.
const INPUT_BYTES: usize = 64 << 10;

/// The socket, and the bytes that have come but were not asked for yet.
pub(crate) struct Connection {
    socket: ManuallyDrop<File>,
    input: Vec<u8>,
    /// Where the next frame begins, and where the bytes that have come end.
    next: usize,
    end: usize,
    pub(crate) report: Report,
}

/// An order without its length.
pub(crate) struct Order<'a> {
    pub(crate) kind: u8,
    pub(crate) rest: &'a [u8],
}

/// The report that is being written.
#[derive(Default)]
pub(crate) struct Report(Vec<u8>);

impl Connection {
    pub(crate) fn open() -> Self {
        // SAFETY: the host starts a worker with its socket as this descriptor. It is not closed when the file is dropped,
        // and nothing else uses it.
        let socket = ManuallyDrop::new(unsafe { File::from_raw_fd(SOCKET) });
        Self { socket, input: vec![0; INPUT_BYTES], next: 0, end: 0, report: Report::default() }
    }

    /// Waits for the next order. The process ends when the host has gone.
    pub(crate) fn receive(&mut self) -> (Order<'_>, &mut Report) {
        self.fill(LENGTH_BYTES);
        let bytes = (&self.input[self.next..]).get_u32_le() as usize;
        self.fill(LENGTH_BYTES + bytes);
        let mut frame = &self.input[self.next + LENGTH_BYTES..][..bytes];
        self.next += LENGTH_BYTES + bytes;
        let kind = frame.get_u8();
        (Order { kind, rest: frame }, &mut self.report)
    }

    /// Makes sure that so many bytes have come.
    fn fill(&mut self, bytes: usize) {
        if self.input.len() - self.next < bytes {
            self.input.copy_within(self.next..self.end, 0);
            self.end -= self.next;
            self.next = 0;
            if self.input.len() < bytes {
                self.input.resize(bytes, 0);
            }
        }
        while self.end - self.next < bytes {
            match self.socket.read(&mut self.input[self.end..]) {
                Ok(0) => process::exit(0),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => process::exit(1),
            }
        }
    }

    /// Frees the input buffer if a large frame has made it grow.
    pub(crate) fn shrink(&mut self) {
        if self.next == self.end && self.input.len() > INPUT_BYTES {
            self.input = vec![0; INPUT_BYTES];
            (self.next, self.end) = (0, 0);
        }
    }

    /// Sends the report.
    pub(crate) fn send(&mut self) {
        let Report(frame) = &mut self.report;
        let bytes = u32::try_from(frame.len() - LENGTH_BYTES).expect("reports are smaller than 4 GiB");
        frame[..LENGTH_BYTES].copy_from_slice(&bytes.to_le_bytes());
        if self.socket.write_all(frame).is_err() {
            process::exit(1);
        }
        if frame.len() > INPUT_BYTES {
            *frame = Vec::new();
        }
    }
}

impl Report {
    /// Begins a report, in the place of the last one.
    pub(crate) fn begin(&mut self, kind: u8) -> &mut Vec<u8> {
        self.0.clear();
        self.0.put_bytes(0, LENGTH_BYTES);
        self.0.put_u8(kind);
        &mut self.0
    }
}

/// Adds a text, or other bytes of which the length has to be told.
pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.put_u32_le(u32::try_from(bytes.len()).expect("texts are short"));
    out.put_slice(bytes);
}

/// Takes bytes of which the length is told.
pub(crate) fn take_bytes<'a>(frame: &mut &'a [u8]) -> &'a [u8] {
    let bytes = frame.get_u32_le() as usize;
    let (taken, rest) = frame.split_at(bytes);
    *frame = rest;
    taken
}

/// Takes a text.
pub(crate) fn take_text(frame: &mut &[u8]) -> String {
    String::from_utf8_lossy(take_bytes(frame)).into_owned()
}
