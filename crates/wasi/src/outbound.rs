//! Requests that a guest sends: only to servers that its function lists, and within limits.
//!
//! A connection is made to an address that was checked, and not to a name that would be looked up again. What a name
//! leads to is not the operator's word: loopback and link-local addresses, where a machine's own services and a cloud's
//! secrets are, are only reached if the list says so itself.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use remuda_model::{Origin, Outbound};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

/// A response, and what goes on until its body has come.
pub(crate) type Sent = (http::Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

/// What one guest may send, and what it has sent.
pub(crate) struct Sender {
    outbound: Arc<Outbound>,
    sent: u32,
    at_once: Arc<Semaphore>,
}

impl Sender {
    pub(crate) fn new(outbound: Arc<Outbound>) -> Self {
        let at_once = Arc::new(Semaphore::new(outbound.concurrent_max as usize));
        Self { outbound, sent: 0, at_once }
    }

    /// Whether no request is under way: each response has come, and its body was dropped.
    pub(crate) fn is_idle(&self) -> bool {
        self.at_once.available_permits() == self.outbound.concurrent_max as usize
    }

    /// Sends a request, if it may be sent.
    pub(crate) fn send(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
    ) -> impl Future<Output = Result<Sent, Error>> + Send + use<> {
        let admitted = self.admit(&request);
        let (outbound, at_once) = (Arc::clone(&self.outbound), Arc::clone(&self.at_once));
        async move {
            let (origin, is_explicit) = admitted?;
            // An error is impossible: nobody closes it.
            let permit = at_once.acquire_owned().await.map_err(|_| Error::ConnectionLimitReached)?;
            send(&outbound, &origin, is_explicit, request, options.unwrap_or_default(), permit).await
        }
    }

    /// The server that a request goes to, and whether the list names its address itself.
    fn admit(&mut self, request: &http::Request<WasiBody>) -> Result<(Origin, bool), Error> {
        let origin = Origin::of(request.uri()).ok_or(Error::HttpRequestUriInvalid)?;
        let allowed =
            self.outbound.allow.iter().find(|allowed| allowed.has(&origin)).ok_or(Error::HttpRequestDenied)?;
        if self.sent >= self.outbound.requests_max {
            return Err(Error::ConnectionLimitReached);
        }
        self.sent += 1;
        let is_explicit = allowed.is_explicit();
        Ok((origin, is_explicit))
    }
}

async fn send(
    outbound: &Outbound,
    origin: &Origin,
    is_explicit: bool,
    request: http::Request<WasiBody>,
    options: RequestOptions,
    permit: OwnedSemaphorePermit,
) -> Result<Sent, Error> {
    let at_most = |asked: Option<Duration>| asked.map_or(outbound.timeout, |asked| asked.min(outbound.timeout));
    let until = Instant::now() + at_most(options.connect_timeout);
    let connect = async {
        let stream = connect(origin, is_explicit).await?;
        let stream: Box<dyn Stream> =
            if origin.is_https() { Box::new(encrypt(outbound, origin, stream).await?) } else { Box::new(stream) };
        Ok::<_, Error>(hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?)
    };
    let (mut sender, connection) = timeout_at(until, connect).await.map_err(|_| Error::ConnectionTimeout)??;

    let (mut head, body) = request.into_parts();
    // The target's scheme and authority are for proxies.
    head.uri = head.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
    let bytes_max = outbound.body_bytes_max;
    let body = Bounded { body, bytes_left: bytes_max, error: move || Error::HttpRequestBodySize(Some(bytes_max)) };
    let request = http::Request::from_parts(head, body);
    // The connection goes on by itself from here on, also while the response's body comes.
    let io = Connection(tokio::spawn(connection));
    let response = timeout(at_most(options.first_byte_timeout), sender.send_request(request));
    let response = response.await.map_err(|_| Error::ConnectionReadTimeout)??;
    let idle = at_most(options.between_bytes_timeout);
    let response = response.map(|body| {
        let body = Bounded { body, bytes_left: bytes_max, error: move || Error::HttpResponseBodySize(Some(bytes_max)) };
        Timed { body, idle, until: Box::pin(sleep_until(Instant::now() + idle)), _permit: permit }.boxed_unsync()
    });
    Ok((response, Box::new(io.finish())))
}

/// Connects to a server, at an address that is not prohibited.
async fn connect(origin: &Origin, is_explicit: bool) -> Result<TcpStream, Error> {
    let addresses: Vec<SocketAddr> = match origin.host().parse::<IpAddr>() {
        Ok(address) => vec![(address, origin.port()).into()],
        Err(_) => {
            let found = tokio::net::lookup_host((origin.host(), origin.port())).await;
            found.map_err(|error| Error::DnsError { rcode: Some(error.to_string()), info_code: None })?.collect()
        }
    };
    if addresses.is_empty() {
        return Err(Error::DestinationNotFound);
    }
    let allowed: Vec<SocketAddr> =
        addresses.into_iter().filter(|address| is_explicit || !is_prohibited(address.ip())).collect();
    if allowed.is_empty() {
        return Err(Error::DestinationIpProhibited);
    }
    TcpStream::connect(&allowed[..]).await.map_err(|error| match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        _ => Error::Connect(error),
    })
}

/// Whether an address leads to this machine, or to its immediate surroundings: nobody's name should.
fn is_prohibited(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast() || v4.is_multicast()
                // "This network": Linux takes it for this machine.
                || v4.octets()[0] == 0
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unspecified() || v6.is_multicast(),
    }
}

async fn encrypt(
    outbound: &Outbound,
    origin: &Origin,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
    let name = ServerName::try_from(origin.host().to_owned()).map_err(|_| Error::HttpRequestUriInvalid)?;
    let config = tls(&outbound.certificates)?;
    TlsConnector::from(config).connect(name, stream).await.map_err(|error| {
        let is_certificate = matches!(
            error.get_ref().and_then(|error| error.downcast_ref()),
            Some(rustls::Error::InvalidCertificate(_))
        );
        if is_certificate { Error::TlsCertificateError } else { Error::Tls(error) }
    })
}

/// The configuration for clients that trust the usual certificates and these, as PEM. Those of a few functions are kept:
/// making one takes a millisecond.
fn tls(certificates: &Bytes) -> Result<Arc<ClientConfig>, Error> {
    static CONFIGS: LazyLock<Mutex<HashMap<Bytes, Arc<ClientConfig>>>> = LazyLock::new(Mutex::default);
    let mut configs = CONFIGS.lock();
    if let Some(config) = configs.get(certificates) {
        return Ok(Arc::clone(config));
    }
    let failed = |reason: String| Error::InternalError(Some(reason));
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        let certificate = certificate.map_err(|error| failed(error.to_string()))?;
        roots.add(certificate).map_err(|error| failed(error.to_string()))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let config = Arc::new(config);
    configs.insert(certificates.clone(), Arc::clone(&config));
    Ok(config)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that goes on by itself, until it is dropped.
struct Connection(tokio::task::JoinHandle<hyper::Result<()>>);

impl Connection {
    async fn finish(mut self) -> Result<(), Error> {
        match (&mut self.0).await {
            Ok(ended) => Ok(ended?),
            Err(_) => Err(Error::ConnectionTerminated),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A body that may have so many bytes.
struct Bounded<B, E> {
    body: B,
    bytes_left: u64,
    error: E,
}

impl<B, E> Body for Bounded<B, E>
where
    B: Body<Data = Bytes, Error: Into<Error>> + Unpin,
    E: Fn() -> Error + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(error)) => return Poll::Ready(Some(Err(BodyError(error.into())))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
        match self.bytes_left.checked_sub(bytes) {
            Some(left) => self.bytes_left = left,
            None => return Poll::Ready(Some(Err(BodyError((self.error)())))),
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// An error of `wasi:http` in the form that hyper takes.
#[derive(Debug)]
struct BodyError(Error);

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BodyError {}

/// A body of which each piece has so much time. It counts as a request at the same time until it is dropped.
struct Timed<B> {
    body: B,
    idle: Duration,
    until: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl<B: Body<Data = Bytes, Error = BodyError> + Unpin> Body for Timed<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                let until = Instant::now() + self.idle;
                self.until.as_mut().reset(until);
                Poll::Ready(frame.map(|frame| frame.map_err(|BodyError(error)| error)))
            }
            Poll::Pending => {
                ready!(self.until.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_and_its_surroundings_are_prohibited() {
        for (address, expected) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("0.0.0.0", true),
            ("0.1.2.3", true),
            ("169.254.169.254", true),
            ("224.0.0.1", true),
            ("255.255.255.255", true),
            ("::1", true),
            ("::", true),
            ("fe80::1", true),
            ("ff02::1", true),
            ("::ffff:127.0.0.1", true),
            ("::ffff:169.254.169.254", true),
            ("10.0.0.1", false),
            ("192.0.2.1", false),
            ("2001:db8::1", false),
            ("::ffff:192.0.2.1", false),
        ] {
            assert_eq!(is_prohibited(address.parse().unwrap()), expected, "{address}");
        }
    }
}
