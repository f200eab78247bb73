//! A guest's standard output and error: kept in memory up to a cap, or passed to the host's own streams.

use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use remuda_model::{Gate, HostStream, Interrupt, Sink};
use tokio::io::AsyncWrite;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamError, StreamResult};

/// The most bytes that one write may carry, which bounds how much `write_zeroes` allocates.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One output stream of a guest. Clones are the same stream.
#[derive(Clone)]
pub(crate) struct Output {
    sink: Sink,
    stream: HostStream,
    captured: Arc<Mutex<Captured>>,
    gate: Option<(Gate, Interrupt)>,
}

#[derive(Default)]
struct Captured {
    bytes: Vec<u8>,
    exceeded: bool,
}

/// The error of a write that goes past the cap; it ends the guest.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the guest wrote more output than its limit")]
pub(crate) struct OutputLimitExceeded;

impl Output {
    pub(crate) fn new(sink: Sink, stream: HostStream, gate: Option<(Gate, Interrupt)>) -> Self {
        Self { sink, stream, captured: Arc::default(), gate }
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
                let mut captured = self.captured();
                if captured.bytes.len() as u64 + bytes.len() as u64 > bytes_max {
                    captured.exceeded = true;
                    return Err(StreamError::Trap(OutputLimitExceeded.into()));
                }
                captured.bytes.extend_from_slice(bytes);
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
