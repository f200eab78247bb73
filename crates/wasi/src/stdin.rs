//! A guest's standard input, if it is the host process's own, or the body of a request that comes while the guest runs:
//! read on the guest's own thread, and never further than the guest asks.
//!
//! A file is read at a position that belongs to one guest, so that engines that race can read it at the same time. The
//! position of the descriptor itself is moved when the winner is known, by the owner of the descriptor. Other input can
//! only be read once: a read waits in the operating system, for input or for the guest's interrupt.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use parking_lot::Mutex;
use remuda_model::{Cause, Coming, Interrupt, Piece, Stdin};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdinStream};
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};

use crate::stdio::Output;
use crate::{Stop, wait};

/// The most bytes that one read returns, as a bound on what a guest can make the host allocate; the guest may read
/// again.
const READ_BYTES_MAX: usize = 1 << 20;

/// A standard input that has to be waited for. Clones are the same stream.
#[derive(Clone)]
pub(crate) struct Input {
    source: Source,
    interrupt: Interrupt,
    /// What the guest has written so far is sent before it waits for input.
    stdout: Output,
}

#[derive(Clone)]
enum Source {
    /// A file, with the position of the next read.
    File(Arc<AtomicU64>),
    Stream,
    /// A request's body.
    Body(Arc<Mutex<Body>>),
}

/// A request's body, as far as it has come.
struct Body {
    coming: Coming,
    /// `None` until the guest reads for the first time.
    pieces: Option<mpsc::Receiver<Piece>>,
    /// What has come and was not read.
    rest: Bytes,
    /// Whether nothing more comes, and if so, whether all of it has come.
    end: Option<bool>,
}

/// The error of a read that the guest's interrupt has cut short; it ends the guest.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the guest was stopped while it waited for input")]
pub(crate) struct Interrupted(pub(crate) Cause);

impl Input {
    /// Makes the stream for `stdin`; `None` if that never has to be waited for.
    pub(crate) fn new(stdin: &Stdin, stdout: Output, interrupt: Interrupt) -> Option<Self> {
        let source = match stdin {
            Stdin::Empty | Stdin::Bytes(_) => return None,
            Stdin::File { offset, .. } => Source::File(Arc::new(AtomicU64::new(*offset))),
            Stdin::Inherit => Source::Stream,
            Stdin::Coming { pieces, .. } => Source::Body(Arc::new(Mutex::new(Body {
                coming: pieces.clone(),
                pieces: None,
                rest: Bytes::new(),
                end: None,
            }))),
        };
        Some(Self { source, interrupt, stdout })
    }

    /// Whether a read may have to wait.
    pub(crate) fn is_stream(&self) -> bool {
        matches!(self.source, Source::Stream | Source::Body(_))
    }

    /// The position at which the next read begins, in bytes; `None` if the input is no file.
    pub(crate) fn position(&self) -> Option<u64> {
        match &self.source {
            Source::File(position) => Some(position.load(Ordering::Relaxed)),
            Source::Stream | Source::Body(_) => None,
        }
    }

    /// Reads what is there, and waits if there is nothing yet. An empty result means the end of the input.
    fn read_waiting(&self, size: usize) -> StreamResult<Vec<u8>> {
        if let Source::Body(body) = &self.source {
            self.await_input(None)?;
            let mut body = body.lock();
            if body.rest.is_empty() && body.end == Some(false) {
                return Err(failed(Errno::CONNRESET));
            }
            let size = size.min(body.rest.len());
            return Ok(body.rest.split_to(size).into());
        }
        let mut bytes = Vec::with_capacity(size.min(READ_BYTES_MAX));
        let stdin = io::stdin();
        loop {
            let spare = rustix::buffer::spare_capacity(&mut bytes);
            let result = match &self.source {
                Source::File(position) => {
                    let at = position.load(Ordering::Relaxed);
                    let result = rustix::io::pread(&stdin, spare, at);
                    // No other thread uses this position: a guest makes one call at a time.
                    result.inspect(|count| position.store(at + *count as u64, Ordering::Relaxed))
                }
                Source::Stream => {
                    self.await_input(None)?;
                    rustix::io::read(&stdin, spare)
                }
                Source::Body(_) => unreachable!("it was read above"),
            };
            match result {
                Ok(_) => return Ok(bytes),
                // Another reader of the same pipe or terminal was faster, or a signal came: try again.
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Waits until a read would not have to wait any more, or until `until`. Returns whether a read would return at
    /// once.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest has to stop ([`Interrupted`]), or if the operating system cannot wait, for lack of
    /// descriptors, say.
    pub(crate) fn await_input(&self, until: Option<Instant>) -> StreamResult<bool> {
        if let Source::Body(body) = &self.source {
            let awaited = body.lock().await_piece(until, &self.stdout, &self.interrupt);
            return awaited.map_err(|stop| StreamError::Trap(stop.into()));
        }
        if is_readable() {
            return Ok(true);
        }
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(failed)?);
        let ringer = Arc::clone(&bell);
        let _listener = self.interrupt.listen(move || ring(&ringer));
        let stdin = io::stdin();
        loop {
            let mut polled = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&*bell, PollFlags::IN)];
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            // A time that does not fit is as good as for ever.
            let timeout = left.and_then(|left| Timespec::try_from(left).ok());
            let result = poll(&mut polled, timeout.as_ref());
            if let Some(cause) = self.interrupt.cause() {
                return Err(StreamError::Trap(Interrupted(cause).into()));
            }
            match result {
                Ok(_) if !polled[0].revents().is_empty() => return Ok(true),
                Ok(_) if left.is_some_and(|left| left.is_zero()) => return Ok(false),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
}

impl Body {
    /// Waits until there is something to read, or the end, or until `until`. Returns whether a read would return at once.
    fn await_piece(&mut self, until: Option<Instant>, stdout: &Output, interrupt: &Interrupt) -> Result<bool, Stop> {
        while self.rest.is_empty() && self.end.is_none() {
            if self.pieces.is_none() {
                self.pieces = self.coming.take();
            }
            let Some(pieces) = &mut self.pieces else {
                // Another guest has it.
                self.end = Some(false);
                break;
            };
            let piece = match pieces.try_recv() {
                Ok(piece) => Some(piece),
                Err(TryRecvError::Disconnected) => None,
                Err(TryRecvError::Empty) => {
                    stdout.send_captured()?;
                    match wait::until_ready(interrupt, until, pieces.recv())? {
                        Some(piece) => piece,
                        None => return Ok(false),
                    }
                }
            };
            match piece {
                Some(Piece::Data(data)) => self.rest = data,
                // A command has no place for trailer fields.
                Some(Piece::End(_)) => self.end = Some(true),
                None => self.end = Some(false),
            }
        }
        Ok(true)
    }
}

/// Whether a read would return at once: there is input, or its end, or an error.
fn is_readable() -> bool {
    let stdin = io::stdin();
    let mut polled = [PollFd::new(&stdin, PollFlags::IN)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut polled, Some(&at_once)).is_ok() && !polled[0].revents().is_empty()
}

fn ring(bell: &OwnedFd) {
    // The write only fails if the bell has been rung some 2^64 times.
    let _ = rustix::io::write(bell.as_fd(), &1_u64.to_ne_bytes());
}

fn failed(error: Errno) -> StreamError {
    StreamError::LastOperationFailed(io::Error::from(error).into())
}

#[async_trait]
impl Pollable for Input {
    /// Never called: [`crate::poll`] waits for input itself, and so does a read.
    async fn ready(&mut self) {}
}

#[async_trait]
impl InputStream for Input {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        let bytes = self.read_waiting(size)?;
        if bytes.is_empty() && size > 0 { Err(StreamError::Closed) } else { Ok(bytes.into()) }
    }

    /// The same as [`Self::read`], which waits itself.
    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.read(size)
    }
}

/// The same stream for asynchronous use, which the traits ask for; preview 1 does not need it.
impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.read_waiting(buffer.remaining()) {
            Ok(bytes) => {
                buffer.put_slice(&bytes);
                Ok(())
            }
            Err(error) => Err(io::Error::other(error.to_string())),
        })
    }
}

impl IsTerminal for Input {
    fn is_terminal(&self) -> bool {
        matches!(self.source, Source::Stream) && io::IsTerminal::is_terminal(&io::stdin())
    }
}

impl StdinStream for Input {
    fn async_stream(&self) -> Box<dyn AsyncRead + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn InputStream> {
        Box::new(self.clone())
    }
}
