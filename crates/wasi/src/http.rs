//! `wasi:http` 0.2, for components that answer requests. The functions are wasmtime-wasi-http's own; here is what a request
//! becomes for a guest, what a guest's response becomes for the host, and what the functions may do beyond that.

use std::pin::pin;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderValue, Uri};
use http_body_util::{BodyExt as _, Full};
use remuda_model::{HttpAnswer, HttpRequest, HttpResponse};
use tokio::sync::oneshot;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::p2::types::{HostIncomingRequest, HostResponseOutparam};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks};

use crate::component::table;
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

/// What the functions of `wasi:http` work on, beside the guest's table.
pub(crate) struct Http {
    ctx: WasiHttpCtx,
    hooks: Hooks,
}

impl Http {
    pub(crate) fn new() -> Self {
        let mut ctx = WasiHttpCtx::new();
        ctx.set_field_size_limit(FIELDS_BYTES_MAX);
        Self { ctx, hooks: Hooks }
    }
}

/// What a guest may do. It may send no requests.
struct Hooks;

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        _: http::Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        PIECE_BYTES_MAX
    }
}

/// A response to a request that a guest has sent, and what goes on until its body has come.
type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// A request on its way to a guest.
pub struct Exchange {
    /// The guest's handle of the request.
    pub request: Resource<HostIncomingRequest>,
    /// The guest's handle of the place for its response.
    pub outparam: Resource<HostResponseOutparam>,
    /// The response, as soon as the guest sets it.
    pub response: PendingResponse,
}

/// A response that a guest has yet to set, or to write.
pub struct PendingResponse {
    set: oneshot::Receiver<Result<http::Response<HyperOutgoingBody>, ErrorCode>>,
    body_bytes_max: u64,
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
    /// Returns an error if the guest holds too many handles already.
    pub fn exchange(&mut self, request: &HttpRequest, body_bytes_max: u64) -> wasmtime::Result<Exchange> {
        let trailers = request.trailers.clone();
        let body = Full::new(request.body.clone()).with_trailers(async { trailers.map(Ok) });
        let scheme = match request.uri.scheme_str() {
            Some("https") => Scheme::Https,
            _ => Scheme::Http,
        };
        // The target's own authority would be taken instead of what the host has found to be the client's.
        let path = request.uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
        let mut guest = http::Request::new(body);
        (*guest.method_mut(), *guest.uri_mut(), *guest.headers_mut()) =
            (request.method.clone(), path, request.headers.clone());
        guest.headers_mut().insert(HOST, HeaderValue::try_from(request.authority.as_str())?);
        let request = self.http_view().new_incoming_request(scheme, guest)?;
        let (send, set) = oneshot::channel();
        let outparam = self.http_view().new_response_outparam(send)?;
        Ok(Exchange { request, outparam, response: PendingResponse { set, body_bytes_max } })
    }

    /// Ends everything that the guest has left open: a response of which it still held the body is complete now.
    pub fn close_all(&mut self) {
        self.table = table();
    }
}

impl PendingResponse {
    /// Waits for the guest's response, and for its end.
    ///
    /// # Errors
    ///
    /// [`Stop::OutputLimit`] if the guest has written more than it may, and has to be stopped.
    pub async fn complete(self) -> Result<HttpAnswer, Stop> {
        let (head, body) = match self.set.await {
            Ok(Ok(response)) => response.into_parts(),
            Ok(Err(code)) => return Ok(HttpAnswer::Refused(code.to_string())),
            // The guest has let go of the place for its response.
            Err(_) => return Ok(HttpAnswer::None),
        };
        let mut pieces: Vec<Bytes> = Vec::new();
        let (mut bytes, mut trailers) = (0, None);
        let mut body = pin!(body);
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else {
                return Ok(HttpAnswer::Refused("it broke off the body of its response".into()));
            };
            match frame.into_data() {
                Ok(piece) => {
                    bytes += piece.len() as u64;
                    if bytes > self.body_bytes_max {
                        return Err(Stop::OutputLimit);
                    }
                    pieces.push(piece);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        let body = match &mut pieces[..] {
            [] => Bytes::new(),
            [whole] => std::mem::take(whole),
            pieces => pieces.concat().into(),
        };
        Ok(HttpAnswer::Response(Box::new(HttpResponse { status: head.status, headers: head.headers, body, trailers })))
    }
}
