//! The body of a response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Frame, SizeHint};
use remuda_host::Ticket;
use remuda_model::Piece;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::wasi_http::Rest;

/// A response's body.
#[derive(Debug)]
pub(crate) enum Body {
    /// It is there as a whole, with perhaps trailer fields after it.
    Whole { data: Bytes, trailers: Option<HeaderMap> },
    /// A guest still writes it.
    Coming(ComingBody),
}

/// A body that a guest still writes. Dropping it before its end stops the guest.
#[derive(Debug)]
pub(crate) struct ComingBody {
    /// What was taken of it before.
    first: Bytes,
    pieces: mpsc::Receiver<Piece>,
    /// Whether the guest has broken it off, and the client is about to be told.
    is_broken: bool,
    hold: Hold,
}

/// What a request has as long as its response is on its way.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Dropping it stops the guest. `None` from the end of the response's body on.
    pub(crate) ticket: Option<Ticket>,
    /// The request's place among those whose bodies may be in memory.
    pub(crate) _permit: OwnedSemaphorePermit,
    /// What is still to come of the request's own body.
    pub(crate) rest: Rest,
}

impl ComingBody {
    pub(crate) fn new(first: Bytes, pieces: mpsc::Receiver<Piece>, hold: Hold) -> Self {
        Self { first, pieces, is_broken: false, hold }
    }
}

/// The error of a body that its guest has broken off: the client must not take it for whole.
#[derive(Debug, thiserror::Error)]
#[error("the function has broken off its response")]
pub(crate) struct BrokenOff;

impl Default for Body {
    fn default() -> Self {
        Bytes::new().into()
    }
}

impl From<Bytes> for Body {
    fn from(data: Bytes) -> Self {
        Self::Whole { data, trailers: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            Self::Whole { data, trailers } => {
                let data = std::mem::take(data);
                if !data.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Poll::Ready(trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
            }
            Self::Coming(coming) => {
                if !coming.first.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut coming.first)))));
                }
                // A client that breaks off its request has left, and wants no response.
                if coming.hold.rest.poll_broken(cx).is_ready() {
                    return Poll::Ready(Some(Err(BrokenOff)));
                }
                let trailers = match ready!(coming.pieces.poll_recv(cx)) {
                    Some(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Some(Piece::End(trailers)) => trailers,
                    // The error would have hyper drop what it has not written yet. It writes before it asks again.
                    None if !std::mem::replace(&mut coming.is_broken, true) => {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    None => return Poll::Ready(Some(Err(BrokenOff))),
                };
                // The guest may have something to do after its response.
                if let Some(ticket) = coming.hold.ticket.take() {
                    ticket.let_run();
                }
                *self = Self::default();
                Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole { data, trailers: None } if data.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            // A body whose length is known is sent with that length, in HTTP/1.1, and has no place for trailers.
            Self::Whole { data, trailers: None } => SizeHint::with_exact(data.len() as u64),
            Self::Whole { .. } | Self::Coming { .. } => SizeHint::default(),
        }
    }
}
