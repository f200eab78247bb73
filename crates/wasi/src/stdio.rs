//! A guest's standard output and error: kept in memory up to a cap, sent to a client, or passed to the host's own streams.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::{Mutex, MutexGuard};
use remuda_model::{EngineId, Gate, HostStream, Interrupt, Piece, Responder, Sink};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

use crate::http::KEPT_BYTES_MAX;
use crate::{Stop, wait};

/// The most bytes that one write may carry, which bounds how much `write_zeroes` allocates.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One output stream of a guest. Clones are the same stream.
#[derive(Clone)]
pub(crate) struct Output {
    sink: Sink,
    stream: HostStream,
    captured: Arc<Mutex<Captured>>,
    gate: Option<(Gate, Interrupt)>,
    way: Option<Arc<Way>>,
}

/// The way on which what a guest writes reaches a client while the guest still runs.
pub(crate) struct Way {
    responder: Responder,
    engine: EngineId,
    interrupt: Interrupt,
    body: Mutex<Body>,
}

/// What has become of the body that a guest writes.
enum Body {
    NotBegun,
    Sending(mpsc::Sender<Piece>),
    /// The client takes no more of it, or it has ended.
    Gone,
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    /// The number of bytes that were here and are on their way to a client.
    sent: u64,
    exceeded: bool,
}

/// The error of a write that goes past the cap; it ends the guest.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the guest wrote more output than its limit")]
pub(crate) struct OutputLimitExceeded;

impl Output {
    pub(crate) fn new(sink: Sink, stream: HostStream, gate: Option<(Gate, Interrupt)>) -> Self {
        Self { sink, stream, captured: Arc::default(), gate, way: None }
    }

    /// Has what is captured sent to a client from when the guest waits for something, or has written much.
    pub(crate) fn stream_to(&mut self, responder: &Responder, engine: EngineId, interrupt: &Interrupt) {
        self.way = Some(Arc::new(Way {
            responder: responder.clone(),
            engine,
            interrupt: interrupt.clone(),
            body: Mutex::new(Body::NotBegun),
        }));
    }

    /// Whether what is captured may reach a client while the guest still runs.
    pub(crate) fn may_stream(&self) -> bool {
        self.way.is_some()
    }

    /// The number of bytes that were sent to a client; `None` if everything is still here.
    pub(crate) fn sent(&self) -> Option<u64> {
        let way = self.way.as_ref()?;
        let has_begun = !matches!(*way.body.lock(), Body::NotBegun);
        has_begun.then(|| self.captured().sent)
    }

    /// Sends what was captured, and waits until the client has room for it. In a race, this decides for the guest, or ends
    /// it.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest has to stop.
    pub(crate) fn send_captured(&self) -> Result<(), Stop> {
        let Some(way) = &self.way else { return Ok(()) };
        let mut body = way.body.lock();
        let data = Bytes::from(std::mem::take(&mut self.captured().bytes));
        if data.is_empty() {
            return Ok(());
        }
        if matches!(*body, Body::NotBegun) {
            if let Some((gate, interrupt)) = &self.gate {
                gate.await_opening(|| interrupt.cause().is_some());
            }
            if let Err(stop) = wait::check(&way.interrupt) {
                // Nothing has reached the client.
                self.captured().bytes = data.into();
                return Err(stop);
            }
            let sender = way.responder.begin(way.engine, StatusCode::OK, HeaderMap::new());
            *body = sender.map_or(Body::Gone, Body::Sending);
        }
        self.captured().sent += data.len() as u64;
        way.send(&mut body, Piece::Data(data))
    }

    /// Ends what is sent to a client, if that has begun: as complete if the guest `has_succeeded`, and else as broken off.
    pub(crate) fn end(&self, has_succeeded: bool) {
        let Some(way) = self.way.as_ref().filter(|_| self.sent().is_some()) else { return };
        // A client that is not there any more, or a guest that is to stop, has nothing to wait for.
        if has_succeeded && self.send_captured().is_ok() {
            let _ = way.send(&mut way.body.lock(), Piece::End(None));
        }
        *way.body.lock() = Body::Gone;
    }

    pub(crate) fn take(&self) -> Bytes {
        Bytes::from(std::mem::take(&mut self.captured().bytes))
    }

    pub(crate) fn exceeded(&self) -> bool {
        self.captured().exceeded
    }

    fn captured(&self) -> MutexGuard<'_, Captured> {
        self.captured.lock()
    }

    fn write_now(&self, bytes: &[u8]) -> StreamResult<()> {
        match self.sink {
            Sink::Capture { bytes_max } => {
                let is_much = {
                    let mut captured = self.captured();
                    if captured.sent + captured.bytes.len() as u64 + bytes.len() as u64 > bytes_max {
                        captured.exceeded = true;
                        return Err(StreamError::Trap(OutputLimitExceeded.into()));
                    }
                    captured.bytes.extend_from_slice(bytes);
                    captured.bytes.len() > KEPT_BYTES_MAX
                };
                if is_much {
                    self.send_captured().map_err(|stop| StreamError::Trap(stop.into()))?;
                }
                Ok(())
            }
            Sink::CaptureHead { bytes_max } => {
                let mut captured = self.captured();
                let room = bytes_max.saturating_sub(captured.bytes.len() as u64);
                let kept = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
                captured.bytes.extend_from_slice(&bytes[..kept]);
                Ok(())
            }
            Sink::Inherit if self.is_held_back(bytes) => Ok(()),
            Sink::Inherit => self.pass_through(|stream| stream.write_all(bytes)),
        }
    }

    fn is_held_back(&self, bytes: &[u8]) -> bool {
        let gate = self.gate.as_ref();
        gate.is_some_and(|(gate, interrupt)| gate.holds(self.stream, bytes, || interrupt.cause().is_some()))
    }

    fn pass_through(&self, action: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> StreamResult<()> {
        let result = match self.stream {
            HostStream::Stdout => action(&mut io::stdout().lock()),
            HostStream::Stderr => action(&mut io::stderr().lock()),
        };
        result.map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => StreamError::Closed,
            _ => StreamError::LastOperationFailed(error.into()),
        })
    }
}

impl Way {
    fn send(&self, body: &mut Body, piece: Piece) -> Result<(), Stop> {
        let Body::Sending(sender) = body else { return Ok(()) };
        // Without one: the client has left, so the guest will be told to stop.
        let room = wait::until_ready(&self.interrupt, None, sender.reserve())?.and_then(Result::ok);
        let is_gone = room.map(|room| room.send(piece)).is_none();
        if is_gone {
            *body = Body::Gone;
        }
        Ok(())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.write_now(&bytes)
    }

    fn flush(&mut self) -> StreamResult<()> {
        match self.sink {
            Sink::Inherit => self.pass_through(|stream| stream.flush()),
            Sink::Capture { .. } | Sink::CaptureHead { .. } => Ok(()),
        }
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

/// The same stream for asynchronous use, which the traits ask for; preview 1 does not need it.
impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(match self.write_now(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(StreamError::Closed) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(io::Error::other(error.to_string())),
        })
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        matches!(self.sink, Sink::Inherit)
            && match self.stream {
                HostStream::Stdout => std::io::IsTerminal::is_terminal(&io::stdout()),
                HostStream::Stderr => std::io::IsTerminal::is_terminal(&io::stderr()),
            }
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}
