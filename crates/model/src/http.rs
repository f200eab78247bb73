use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri};

/// A request over HTTP, for a guest that takes it as it is. It is read whole before the guest begins.
#[derive(Clone, Debug)]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The target.
    pub uri: Uri,
    /// The header fields, without those that are between the client and the server.
    pub headers: HeaderMap,
    /// The name by which the client knows the server, and perhaps a port: `host[:port]`.
    pub authority: String,
    /// The body.
    pub body: Bytes,
    /// The trailer fields, if the client sent any.
    pub trailers: Option<HeaderMap>,
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
            Self::None | Self::Refused(_) => 0,
        }
    }
}
