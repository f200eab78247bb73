//! `wasi:http` 0.3, as far as it differs from 0.2: a guest returns its response from an asynchronous function, and its tasks may
//! go on after that, to write the body, for instance.

use std::pin::Pin;

use http::uri::{Authority, PathAndQuery};
use http_body_util::BodyExt as _;
use remuda_model::HttpRequest;
use tokio::sync::oneshot;
use wasmtime::AsContextMut;
use wasmtime_wasi_http::p3::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p3::{Request, Response};
use wasmtime_wasi_http::{Error, FieldMap, WasiHttpView};

use crate::ComponentWasi;
use crate::http::{Answer, PendingResponse, body_of};

/// A request on its way to a guest of WASI 0.3.
pub struct P3Exchange {
    /// The request.
    pub request: Request,
    /// The place for the guest's response.
    pub response: ResponsePlace,
}

/// Ready when a response has been taken to its end, or broken off.
pub type Taken = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The place for a guest's response ([`PendingResponse`]).
pub struct ResponsePlace {
    set: oneshot::Sender<Answer>,
    /// What the guest says about the request's body. Its response then counts as received.
    received: Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>,
}

impl ComponentWasi {
    /// As [`exchange`](Self::exchange), for a guest of WASI 0.3.
    ///
    /// # Errors
    ///
    /// Returns an error if another guest has the request's body.
    pub fn p3_exchange(
        &mut self,
        request: &HttpRequest,
        body_bytes_max: u64,
    ) -> wasmtime::Result<(P3Exchange, PendingResponse)> {
        let body = body_of(request)?;
        // A client of HTTP/1.0 need not say whom it asks.
        let authority = Some(request.authority.as_str()).filter(|authority| !authority.is_empty());
        let (request, received) = Request::new(
            request.method.clone(),
            Some(request.scheme.clone()),
            authority.map(Authority::try_from).transpose()?,
            request.uri.path_and_query().cloned().or_else(|| Some(PathAndQuery::from_static("/"))),
            FieldMap::new_immutable(self.http_view().hooks, request.headers.clone()),
            None,
            body,
        );
        let (pending, set) = PendingResponse::new(body_bytes_max);
        Ok((P3Exchange { request, response: ResponsePlace { set, received: Box::pin(received) } }, pending))
    }
}

impl ResponsePlace {
    /// Puts the guest's answer in its place.
    ///
    /// # Errors
    ///
    /// Returns an error if the guest has written a `content-length` that is no number.
    pub fn fill<T: WasiHttpView + 'static>(
        self,
        answer: Result<Response, ErrorCode>,
        store: impl AsContextMut<Data = T>,
    ) -> wasmtime::Result<Taken> {
        let (taken, end) = oneshot::channel::<()>();
        let answer = match answer {
            Ok(response) => Ok(response.into_http(store, self.received)?.map(|body| {
                // Whoever is done with the body drops it, and this with it.
                let body = body.map_frame(move |frame| {
                    let _ = &taken;
                    frame
                });
                body.boxed_unsync()
            })),
            Err(code) => Err(code.to_string()),
        };
        // Nobody takes the answer if the guest is stopped.
        let _ = self.set.send(answer);
        Ok(Box::pin(async {
            // An error is the end that was awaited.
            let _ = end.await;
        }))
    }
}
