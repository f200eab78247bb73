use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Uri};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::EngineId;

/// The most pieces of a body that wait for whoever takes them; its writer waits then.
///
/// Source: chosen. Fewer, and writer and reader wait for each other more often; more, and a slow reader makes the host
/// hold more, up to as many pieces of 64 KiB for each body.
const PIECES_MAX: usize = 4;

/// A request over HTTP, for a guest that takes it as it is.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The header fields, without those that are between the client and the server.
    pub headers: HeaderMap,
    /// The scheme of the URL that led here: `http` or `https`.
    pub scheme: Scheme,
    /// The name by which the client knows the server, and perhaps a port: `host[:port]`.
    pub authority: String,
    /// The body.
    pub body: HttpBody,
}

/// The body of a request.
#[derive(Clone, Debug)]
pub enum HttpBody {
    /// All of it, and the trailer fields, if the client sent any.
    Whole(Bytes, Option<HeaderMap>),
    /// It comes while the guest runs: for one guest only.
    Coming {
        /// Its pieces.
        pieces: Coming,
        /// Its length in bytes, if the client has said it.
        len: Option<u64>,
    },
}

impl HttpBody {
    /// The number of bytes, if it is known.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Whole(data, _) => Some(data.len() as u64),
            Self::Coming { len, .. } => *len,
        }
    }

    /// Whether the body is known to be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// A piece of a body that comes piece by piece. A body whose sender is dropped before the end is broken off.
#[derive(Debug)]
pub enum Piece {
    /// Some bytes.
    Data(Bytes),
    /// The end, with trailer fields if there are any.
    End(Option<HeaderMap>),
}

/// A body that comes piece by piece, until somebody takes it. Clones are the same body.
#[derive(Clone, Debug)]
pub struct Coming(Arc<Mutex<Option<mpsc::Receiver<Piece>>>>);

impl Coming {
    /// Makes a body, and what its pieces are sent with.
    #[must_use]
    pub fn new() -> (mpsc::Sender<Piece>, Self) {
        let (sender, receiver) = mpsc::channel(PIECES_MAX);
        (sender, Self(Arc::new(Mutex::new(Some(receiver)))))
    }

    /// Takes the body, or returns `None` if somebody has it.
    #[must_use]
    pub fn take(&self) -> Option<mpsc::Receiver<Piece>> {
        self.0.lock().take()
    }
}

/// The way on which a response reaches the client while the guest still writes it. Clones are the same way, and only one
/// response takes it.
#[derive(Clone)]
pub struct Responder(Arc<Mutex<Option<oneshot::Sender<StreamedResponse>>>>);

/// A response of which the guest still writes the body. What a command writes to its standard output is nothing but body;
/// its status and header fields mean nothing.
#[derive(Debug)]
pub struct StreamedResponse {
    /// The engine that runs the guest.
    pub engine: EngineId,
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: mpsc::Receiver<Piece>,
}

impl Responder {
    /// Makes a way for a response, and the place where it arrives.
    #[must_use]
    pub fn new() -> (Self, oneshot::Receiver<StreamedResponse>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    /// Begins the response, and returns what its body is sent with; `None` if nobody wants it: the client has left, or there
    /// is a response already.
    #[must_use]
    pub fn begin(&self, engine: EngineId, status: StatusCode, headers: HeaderMap) -> Option<mpsc::Sender<Piece>> {
        let begin = self.0.lock().take()?;
        let (sender, body) = mpsc::channel(PIECES_MAX);
        begin.send(StreamedResponse { engine, status, headers, body }).ok()?;
        Some(sender)
    }

    /// Whether no response has taken the way.
    #[must_use]
    pub fn is_free(&self) -> bool {
        self.0.lock().is_some()
    }
}

impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("is_free", &self.is_free()).finish()
    }
}

/// A guest's response to an [`HttpRequest`], complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailer fields, if the guest sent any.
    pub trailers: Option<HeaderMap>,
}

/// What a guest made of an [`HttpRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HttpAnswer {
    /// Nothing that is complete: the guest ended before it had answered, or there was no request.
    #[default]
    None,
    /// A response. It counts even if the guest failed afterwards.
    Response(Box<HttpResponse>),
    /// A response that has taken the way of a [`Responder`].
    Streamed {
        /// The number of bytes of body that have gone there.
        body_bytes: u64,
    },
    /// The guest said that it cannot answer, or broke its response off. The reason is in the guest's words, or in the words
    /// of its error code.
    Refused(String),
}

impl HttpAnswer {
    /// The number of bytes in the response's body, if there is a response.
    #[must_use]
    pub fn body_bytes(&self) -> u64 {
        match self {
            Self::Response(response) => response.body.len() as u64,
            Self::Streamed { body_bytes } => *body_bytes,
            Self::None | Self::Refused(_) => 0,
        }
    }
}
