//! Requests and responses of components, as `wasi:http` has them.

use std::net::SocketAddr;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, TE, TRAILER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, request};
use remuda_model::{HttpRequest, HttpResponse};

use crate::body::Body;
use crate::respond::{Reply, has_content};
use crate::rules::hop_by_hop;

/// A request as a guest gets it: without the fields that are between the client and this server.
pub(crate) fn request(
    head: &request::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
    server: SocketAddr,
) -> HttpRequest {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let authority = host.map_or_else(|| server.to_string(), str::to_owned);
    let hop_by_hop = hop_by_hop(&head.headers);
    // The trailers themselves do reach the guest, and its own reach the client.
    let reaches = |name: &HeaderName| name == TRAILER || name == TE || !hop_by_hop.contains(name);
    let headers = head.headers.iter().filter(|(name, _)| reaches(name));
    let headers = headers.map(|(name, value)| (name.clone(), value.clone())).collect();
    HttpRequest { method: head.method.clone(), uri: head.uri.clone(), headers, authority, body, trailers }
}

/// A guest's response, on its way to the client. The reason for refusing it is for the client, too.
///
/// The length is that of the body, which is here as a whole. Where there is no body by the rules of HTTP, the guest may say
/// how long it would be.
pub(crate) fn response(response: HttpResponse, request: &request::Parts) -> Result<Reply, &'static str> {
    let HttpResponse { status, mut headers, body, trailers } = response;
    if status.is_informational() {
        return Err("its status is not a final one");
    }
    for name in hop_by_hop(&headers) {
        headers.remove(name);
    }
    let is_without_body = request.method == Method::HEAD || status == StatusCode::NOT_MODIFIED;
    if !is_without_body && let Some(declared) = headers.remove(CONTENT_LENGTH) {
        let declared = declared.to_str().ok().and_then(|declared| declared.parse().ok());
        if has_content(status) && declared != Some(body.len()) {
            return Err("its Content-Length is not the length of its body");
        }
    }
    let body = match trailers.filter(|trailers| !trailers.is_empty()) {
        _ if !has_content(status) => Body::default(),
        None => body.into(),
        Some(trailers) => {
            headers.insert(TRAILER, names(trailers.keys()));
            Body::with_trailers(body, trailers)
        }
    };
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    *reply.headers_mut() = headers;
    Ok(reply)
}

fn names<'a>(names: impl Iterator<Item = &'a HeaderName>) -> HeaderValue {
    let names: Vec<&str> = names.map(HeaderName::as_str).collect();
    HeaderValue::try_from(names.join(", ")).expect("names of fields are valid in a field")
}
