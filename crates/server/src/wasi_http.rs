//! Requests and responses of components, as `wasi:http` has them.

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TE, TRAILER};
use http::{HeaderName, HeaderValue, Method, StatusCode, request};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, Incoming};
use remuda_model::{Coming, HttpBody, HttpRequest, HttpResponse, Piece, StreamedResponse};
use tokio::sync::{mpsc, oneshot};

use crate::body::{Body, ComingBody, Hold};
use crate::entrance::Entrance;
use crate::respond::{Refusal, Reply, has_content, reply};
use crate::rules::hop_by_hop;

/// The most bytes of a request's body that are read before its guest begins.
///
/// Source: chosen. Less, and requests with longer bodies are never raced, or given anew to another engine; more, and the
/// host holds that much more for each request.
const READ_FIRST_BYTES_MAX: usize = 1 << 20;

/// How long a body may take until its guest begins without the rest of it.
///
/// Source: chosen: bodies that a client has at hand are there by then, but over slow lines. Less, and those are not
/// either; more, and a client that waits for the first words of an answer before it goes on waits longer.
const READ_FIRST_TIME: Duration = Duration::from_millis(50);

/// A request as a guest gets it: without the fields that are between the client and this server.
pub(crate) fn request(head: &request::Parts, body: HttpBody, entrance: &Entrance) -> HttpRequest {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let authority = host.map_or_else(|| entrance.authority(), str::to_owned);
    let hop_by_hop = hop_by_hop(&head.headers);
    // The trailers themselves do reach the guest, and its own reach the client.
    let reaches = |name: &HeaderName| name == TRAILER || name == TE || !hop_by_hop.contains(name);
    let headers = head.headers.iter().filter(|(name, _)| reaches(name));
    let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
    let (method, uri) = (head.method.clone(), head.uri.clone());
    let scheme = uri.scheme().cloned().unwrap_or_else(|| entrance.scheme());
    HttpRequest { method, uri, headers, scheme, authority, body }
}

/// What becomes of a request's body that comes while its guest runs.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    /// What is wrong with it, as soon as that is known.
    fault: Arc<OnceLock<Refusal>>,
    /// Told if it breaks off: then its client has left.
    broken: Option<oneshot::Receiver<()>>,
}

impl Rest {
    /// What is wrong with the body, if that is known.
    pub(crate) fn fault(&self) -> Option<Refusal> {
        self.fault.get().copied()
    }

    /// Whether the body breaks off: ready as soon as it does.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(broken) = &mut self.broken {
            match ready!(Pin::new(broken).poll(cx)) {
                Ok(()) => return Poll::Ready(()),
                // All of it has come.
                Err(_) => self.broken = None,
            }
        }
        Poll::Pending
    }
}

/// Reads a request's body, if it is short and all there; else the guest gets it piece by piece.
pub(crate) async fn body(mut body: Incoming, bytes_max: u64, timeout: Duration) -> Result<(HttpBody, Rest), Refusal> {
    if body.is_end_stream() {
        return Ok((HttpBody::Whole(Bytes::new(), None), Rest::default()));
    }
    let size = body.size_hint();
    if size.lower() > bytes_max {
        return Err(Refusal::BodyTooLarge { bytes_max });
    }
    let mut first: Vec<Bytes> = Vec::new();
    let mut bytes = 0;
    let until = Instant::now() + READ_FIRST_TIME;
    while bytes <= READ_FIRST_BYTES_MAX
        && let Ok(piece) = tokio::time::timeout_at(until.into(), next_piece(&mut body)).await
    {
        match piece? {
            Piece::Data(data) => {
                bytes += data.len();
                first.push(data);
            }
            Piece::End(_) if bytes as u64 > bytes_max => return Err(Refusal::BodyTooLarge { bytes_max }),
            Piece::End(trailers) => {
                let whole = if first.len() == 1 { first.remove(0) } else { first.concat().into() };
                return Ok((HttpBody::Whole(whole, trailers), Rest::default()));
            }
        }
    }
    let (to, pieces) = Coming::new();
    let (breaks, broken) = oneshot::channel();
    let rest = Rest { fault: Arc::default(), broken: Some(broken) };
    let fault = Arc::clone(&rest.fault);
    tokio::spawn(async move {
        if let Err(refusal) = pass_on(first, body, bytes_max, timeout, &to).await {
            let _ = fault.set(refusal);
            if matches!(refusal, Refusal::BodyBroken) {
                // If nobody waits for this any more, the request has ended.
                let _ = breaks.send(());
            }
        }
    });
    Ok((HttpBody::Coming { pieces, len: size.exact() }, rest))
}

async fn next_piece(body: &mut Incoming) -> Result<Piece, Refusal> {
    let frame = body.frame().await.transpose().map_err(|_| Refusal::BodyBroken)?;
    Ok(match frame.map(Frame::into_data) {
        Some(Ok(data)) => Piece::Data(data),
        Some(Err(frame)) => Piece::End(frame.into_trailers().ok()),
        None => Piece::End(None),
    })
}

/// Passes a body on to its guest, as fast as the guest takes it. If this fails, the guest sees a body that is broken off.
async fn pass_on(
    first: Vec<Bytes>,
    mut rest: Incoming,
    bytes_max: u64,
    timeout: Duration,
    to: &mpsc::Sender<Piece>,
) -> Result<(), Refusal> {
    let mut bytes = 0;
    let mut first = first.into_iter();
    loop {
        let piece = match first.next() {
            Some(data) => Piece::Data(data),
            None => tokio::time::timeout(timeout, next_piece(&mut rest)).await.map_err(|_| Refusal::BodyTooSlow)??,
        };
        let is_end = matches!(piece, Piece::End(_));
        if let Piece::Data(data) = &piece {
            bytes += data.len() as u64;
        }
        if bytes > bytes_max {
            return Err(Refusal::BodyTooLarge { bytes_max });
        }
        // The guest need not take all of it.
        if to.send(piece).await.is_err() || is_end {
            return Ok(());
        }
    }
}

/// The beginning of a response of which the guest still writes the body.
pub(crate) fn streamed(
    response: StreamedResponse,
    request: &request::Parts,
    hold: Hold,
) -> Result<Reply, &'static str> {
    let StreamedResponse { status, mut headers, body: pieces, .. } = response;
    check_status(status)?;
    for name in hop_by_hop(&headers) {
        // This announces trailers that the guest has yet to write.
        if name != TRAILER {
            headers.remove(name);
        }
    }
    let body = ComingBody::new(Bytes::new(), pieces, hold);
    Ok(reply(status, headers, coming(body, request, status)))
}

/// A body that a guest still writes, in a response to a request. If it has no place there, it is taken all the same, so that
/// the guest can write it.
pub(crate) fn coming(body: ComingBody, request: &request::Parts, status: StatusCode) -> Body {
    let mut body = Body::Coming(body);
    if request.method == Method::HEAD || !has_content(status) {
        tokio::spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
        body = Body::default();
    }
    body
}

fn check_status(status: StatusCode) -> Result<(), &'static str> {
    if status.is_informational() { Err("the status is not a final one") } else { Ok(()) }
}

/// A guest's response, on its way to the client. The reason for refusing it is for the client, too.
///
/// The length is that of the body, which is here as a whole. Where there is no body by the rules of HTTP, the guest may say
/// how long it would be.
pub(crate) fn response(response: HttpResponse, request: &request::Parts) -> Result<Reply, &'static str> {
    let HttpResponse { status, mut headers, body, trailers } = response;
    check_status(status)?;
    for name in hop_by_hop(&headers) {
        headers.remove(name);
    }
    let is_without_body = request.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    if !is_without_body && let Some(declared) = headers.remove(CONTENT_LENGTH) {
        let declared = declared.to_str().ok().and_then(|declared| declared.parse().ok());
        if has_content(status) && declared != Some(body.len()) {
            return Err("the Content-Length is not the length of the body");
        }
    }
    let body = match trailers.filter(|trailers| !trailers.is_empty()) {
        _ if !has_content(status) => Body::default(),
        None => body.into(),
        Some(trailers) => {
            headers.insert(TRAILER, names(trailers.keys()));
            Body::Whole { data: body, trailers: Some(trailers) }
        }
    };
    Ok(reply(status, headers, body))
}

fn names<'a>(names: impl Iterator<Item = &'a HeaderName>) -> HeaderValue {
    let names: Vec<&str> = names.map(HeaderName::as_str).collect();
    HeaderValue::try_from(names.join(", ")).expect("names of fields are valid in a field")
}
