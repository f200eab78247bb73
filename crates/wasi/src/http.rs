//! `wasi:http`, for components that answer requests. The functions are wasmtime-wasi-http's own; here is what a request
//! becomes for a guest, what a guest's response becomes for the host, and what the functions may do beyond that.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Uri, response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Frame};
use remuda_model::{EngineId, HttpAnswer, HttpBody, HttpRequest, HttpResponse, Outbound, Piece, Responder};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::PollSender;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::Scheme;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use crate::component::table;
use crate::outbound::{Sender, Sent};
use crate::{ComponentWasi, Stop};

/// The most bytes of one set of header fields that a guest makes, counted as wasmtime-wasi-http counts them: with what the
/// host's tables take.
///
/// Source: chosen: eight times what programs that serve HTTP accept as a rule. A guest may hold a thousand sets
/// ([`HANDLES_MAX`](crate::HANDLES_MAX)). Less, and a guest cannot set what clients could read; more, and a guest can make
/// the host hold that much more.
const FIELDS_BYTES_MAX: usize = 64 << 10;

/// The most bytes that a guest writes to a body at once. The host holds two such pieces for each body.
///
/// Source: chosen. Less, and bodies take more calls; more, and a guest with a thousand bodies makes the host hold more.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The most bytes of a response that are kept until it is complete, if it can be sent while the guest still writes it.
///
/// Source: chosen. Less, and answers that are all there but for a moment cannot be raced or given anew any more; more, and
/// clients wait longer for the first byte of a long answer, and the host holds more of it.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 10;

/// What the functions of `wasi:http` work on, beside the guest's table.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    pub(crate) fn new(outbound: Option<&Arc<Outbound>>) -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS_BYTES_MAX);
        Self { ctx, hooks: Hooks { sender: outbound.map(|outbound| Sender::new(Arc::clone(outbound))) } }
    }

    pub(crate) fn sends_nothing(&self) -> bool {
        self.hooks.sender.as_ref().is_none_or(Sender::is_idle)
    }
}

/// What a guest may do.
struct Hooks {
    /// What it sends requests with, if it may send any.
    sender: Option<Sender>,
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        match &mut self.sender {
            Some(sender) => Box::new(sender.send(request, options)),
            None => Box::new(std::future::ready(Err(Error::HttpRequestDenied))),
        }
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE_BYTES_MAX
    }

    #[cfg(feature = "p3")]
    fn p3_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE_BYTES_MAX
    }
}

/// A request on its way to a guest.
pub struct Exchange {
    /// The guest's handle of the request.
    pub request: Resource<HostIncomingRequest>,
    /// The guest's handle of the place for its response.
    pub outparam: Resource<HostResponseOutparam>,
    /// The response, which the guest has yet to set.
    pub response: PendingResponse,
}

impl ComponentWasi {
    /// What the functions of `wasi:http` work on.
    pub fn http_view(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.http.hooks, table: &mut self.table, ctx: &mut self.http.ctx }
    }

    /// Gives the guest a request. Of its response, the host takes so many bytes of body at most.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest holds too many handles already, or if another guest has the request's body.
    pub fn exchange(&mut self, request: &HttpRequest, body_bytes_max: u64) -> wasmtime::Result<Exchange> {
        let body = body_of(request)?;
        let scheme = if request.scheme == http::uri::Scheme::HTTPS { Scheme::Https } else { Scheme::Http };
        // The target's own authority would be taken instead of what the host has found to be the client's.
        let path = request.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
        let mut guest = http::Request::new(body);
        (*guest.method_mut(), *guest.uri_mut(), *guest.headers_mut()) =
            (request.method.clone(), path, request.headers.clone());
        guest.headers_mut().insert(HOST, HeaderValue::try_from(request.authority.as_str())?);
        let request = self.http_view().new_incoming_request(scheme, guest)?;
        let (response, set) = PendingResponse::new(body_bytes_max);
        let outparam = self.http_view().new_response_outparam_from_callback(|answer| {
            // Nobody takes the answer if the guest is stopped.
            let _ = set.send(answer.map_err(|code| code.to_string()));
        })?;
        Ok(Exchange { request, outparam, response })
    }

    /// Ends everything that the guest has left open: a response of which it still held the body is complete now.
    pub fn close_all(&mut self) {
        self.table = table();
    }
}

/// The body of a request as a guest is given it.
pub(crate) fn body_of(request: &HttpRequest) -> wasmtime::Result<WasiBody> {
    Ok(match &request.body {
        HttpBody::Whole(data, trailers) => {
            let trailers = trailers.clone();
            Full::new(data.clone())
                .map_err(|never| match never {})
                .with_trailers(async { trailers.map(Ok) })
                .boxed_unsync()
        }
        HttpBody::Coming { pieces, .. } => {
            let pieces = pieces.take();
            let pieces = pieces.ok_or_else(|| wasmtime::format_err!("another guest has the body"))?;
            Incoming { pieces, has_ended: false }.boxed_unsync()
        }
    })
}

/// A request's body that comes piece by piece.
struct Incoming {
    pieces: mpsc::Receiver<Piece>,
    has_ended: bool,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.pieces.poll_recv(cx)) {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::End(trailers)) => {
                self.has_ended = true;
                trailers.map(|trailers| Ok(Frame::trailers(trailers)))
            }
            None => {
                self.has_ended = true;
                Some(Err(Error::ConnectionTerminated))
            }
        })
    }
}

/// A response that a guest has yet to set, or to write. It is kept until it is complete, or until [`Self::send`] has it
/// sent while the guest writes on.
pub struct PendingResponse {
    state: State,
    /// Whether the response is kept however long it is, since it cannot be sent before it is complete.
    keeps_all: bool,
    /// How many bytes of its body the guest has written.
    body_bytes: u64,
    body_bytes_max: u64,
    /// How often the response has come a step further.
    steps: u64,
}

/// What a guest answers: a response, of which the body may still come; or an error, in words.
pub(crate) type Answer = Result<http::Response<WasiBody>, String>;

enum State {
    Unset(oneshot::Receiver<Answer>),
    Kept {
        head: response::Parts,
        body: WasiBody,
        pieces: Vec<Bytes>,
    },
    /// It is complete, or there will be none.
    Over(HttpAnswer),
    /// It is being sent: first what was kept, and then what comes of the body.
    Sent {
        first: VecDeque<Piece>,
        body: Option<WasiBody>,
        to: PollSender<Piece>,
    },
    /// All of it has been sent, or its body was broken off, or nobody takes it any more.
    Gone,
}

impl PendingResponse {
    /// Makes one, and the place into which the guest's answer is put.
    pub(crate) fn new(body_bytes_max: u64) -> (Self, oneshot::Sender<Answer>) {
        let (set, answer) = oneshot::channel();
        let state = State::Unset(answer);
        (Self { state, keeps_all: true, body_bytes: 0, body_bytes_max, steps: 0 }, set)
    }

    /// Says that the response can be sent before it is complete. A long one then stops coming until it is sent.
    pub fn keep_little(&mut self) {
        self.keeps_all = false;
    }

    /// Says that the response is kept until it is complete, unless it is sent already.
    pub fn keep_all(&mut self) {
        self.keeps_all = true;
    }

    /// How often the response has come a step further.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Whether there is something to send: a response that is complete, or at least its head.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        matches!(self.state, State::Kept { .. } | State::Over(HttpAnswer::Response(_)))
    }

    /// Whether the response has become so long that it has to be sent now.
    #[must_use]
    pub fn is_long(&self) -> bool {
        !self.keeps_all && matches!(self.state, State::Kept { .. }) && self.body_bytes > KEPT_BYTES_MAX as u64
    }

    /// Goes on as far as the guest, and the client, have come. Ready as soon as the response is over: it is complete, and
    /// sent if it is to be; or there will be none.
    ///
    /// # Errors
    ///
    /// [`Stop::OutputLimit`] if the guest has written more than it may, and has to be stopped.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        while !matches!(self.state, State::Over(_) | State::Gone) {
            if self.is_long() {
                return Poll::Pending;
            }
            self.body_bytes += ready!(self.step(cx));
            if self.body_bytes > self.body_bytes_max {
                self.state = match self.state {
                    State::Sent { .. } | State::Gone => State::Gone,
                    _ => State::Over(HttpAnswer::None),
                };
                return Poll::Ready(Err(Stop::OutputLimit));
            }
            self.steps += 1;
        }
        Poll::Ready(Ok(()))
    }

    /// Goes a step further. Returns how many bytes of body have come by that.
    fn step(&mut self, cx: &mut Context<'_>) -> Poll<u64> {
        match &mut self.state {
            State::Unset(set) => {
                self.state = match ready!(Pin::new(set).poll(cx)) {
                    Ok(Ok(response)) => {
                        let (head, body) = response.into_parts();
                        State::Kept { head, body, pieces: Vec::new() }
                    }
                    Ok(Err(code)) => State::Over(HttpAnswer::Refused(format!("it answered with an error: {code}"))),
                    // The guest has let go of the place for its response.
                    Err(_) => State::Over(HttpAnswer::None),
                };
                Poll::Ready(0)
            }
            State::Kept { head, body, pieces } => {
                let answer = match ready!(next_piece(body, cx)) {
                    Some(Piece::Data(data)) => {
                        let bytes = data.len() as u64;
                        pieces.push(data);
                        return Poll::Ready(bytes);
                    }
                    Some(Piece::End(trailers)) => HttpAnswer::Response(Box::new(HttpResponse {
                        status: head.status,
                        headers: std::mem::take(&mut head.headers),
                        body: joined(pieces),
                        trailers,
                    })),
                    None => HttpAnswer::Refused("it broke off the body of its response".into()),
                };
                self.state = State::Over(answer);
                Poll::Ready(0)
            }
            State::Sent { first, body, to } => {
                // An error: nobody takes the response any more. The guest finds out by its next write.
                let is_taken = ready!(to.poll_reserve(cx)).is_ok();
                let (piece, bytes) = match (first.pop_front(), body) {
                    // These bytes are counted already.
                    (Some(piece), _) => (Some(piece), 0),
                    (None, Some(body)) => {
                        let piece = ready!(next_piece(body, cx));
                        let bytes = if let Some(Piece::Data(data)) = &piece { data.len() as u64 } else { 0 };
                        (piece, bytes)
                    }
                    (None, None) => (None, 0),
                };
                let goes_on = is_taken && matches!(piece, Some(Piece::Data(_)));
                if let Some(piece) = piece.filter(|_| is_taken) {
                    let _ = to.send_item(piece);
                }
                if !goes_on {
                    // Without an end before, this tells the client that the body is broken off.
                    self.state = State::Gone;
                }
                Poll::Ready(bytes)
            }
            State::Over(_) | State::Gone => Poll::Ready(0),
        }
    }

    /// Has what there is of the response sent, and what comes of it from now on ([`Self::has_begun`]).
    pub fn send(&mut self, engine: EngineId, responder: &Responder) {
        let (status, headers, first, body) = match std::mem::replace(&mut self.state, State::Gone) {
            State::Kept { head, body, pieces } => {
                (head.status, head.headers, pieces.into_iter().map(Piece::Data).collect(), Some(body))
            }
            State::Over(HttpAnswer::Response(response)) => {
                let HttpResponse { status, headers, body, trailers } = *response;
                (status, headers, VecDeque::from([Piece::Data(body), Piece::End(trailers)]), None)
            }
            state => {
                self.state = state;
                return;
            }
        };
        self.steps += 1;
        if let Some(to) = responder.begin(engine, status, headers) {
            self.state = State::Sent { first, body, to: PollSender::new(to) };
        }
    }

    /// Takes what the guest has finished before it ended, although nothing else of its response will come. Returns whether
    /// some of that has yet to be sent.
    pub fn settle(&mut self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        match &mut self.state {
            State::Sent { first, body, .. } => {
                let mut rest = body.take();
                while let Some(body) = &mut rest
                    && let Poll::Ready(piece) = next_piece(body, cx)
                {
                    if !matches!(piece, Some(Piece::Data(_))) {
                        rest = None;
                    }
                    first.extend(piece);
                }
                matches!(first.back(), Some(Piece::End(_)))
            }
            _ => {
                // A guest that has written too much has ended already.
                let _ = self.poll(cx);
                false
            }
        }
    }

    /// What has become of the response.
    #[must_use]
    pub fn into_answer(self) -> HttpAnswer {
        match self.state {
            State::Unset(_) | State::Kept { .. } => HttpAnswer::None,
            State::Over(answer) => answer,
            State::Sent { .. } | State::Gone => HttpAnswer::Streamed { body_bytes: self.body_bytes },
        }
    }
}

/// The next piece of a body; `None` if the body is broken off.
fn next_piece(body: &mut WasiBody, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
    let frame = match ready!(Pin::new(body).poll_frame(cx)) {
        None => return Poll::Ready(Some(Piece::End(None))),
        Some(Err(_)) => return Poll::Ready(None),
        Some(Ok(frame)) => frame,
    };
    Poll::Ready(Some(match frame.into_data() {
        Ok(data) => Piece::Data(data),
        Err(frame) => Piece::End(frame.into_trailers().ok()),
    }))
}

fn joined(pieces: &mut [Bytes]) -> Bytes {
    match pieces {
        [] => Bytes::new(),
        [whole] => std::mem::take(whole),
        pieces => pieces.concat().into(),
    }
}
