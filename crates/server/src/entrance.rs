//! Where a connection comes in, and who is at its other end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Scheme;

use crate::tls::Tls;

/// The name of a server behind a Unix socket, for clients that do not say which server they mean (HTTP/1.0).
const LOCAL_NAME: &str = "localhost";

/// What a server's socket is to the requests that come by it.
#[derive(Debug, Default)]
pub(crate) struct Entrance {
    /// Its address; `None` for a Unix socket.
    pub(crate) address: Option<SocketAddr>,
    /// How clients are spoken to; `None`: in plain text.
    pub(crate) tls: Option<Arc<Tls>>,
}

impl Entrance {
    /// The scheme of URLs that lead here.
    pub(crate) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP }
    }

    /// The server's own name, for requests that name none.
    pub(crate) fn name(&self) -> String {
        self.address.map_or_else(|| LOCAL_NAME.to_owned(), |address| address.ip().to_string())
    }

    /// The port of URLs that name none; of a Unix socket, the one that its scheme usually has.
    pub(crate) fn port(&self) -> u16 {
        match self.address {
            Some(address) => address.port(),
            None if self.tls.is_some() => 443,
            None => 80,
        }
    }

    /// `host:port`, for requests that name no server; without a port for a Unix socket.
    pub(crate) fn authority(&self) -> String {
        self.address.map_or_else(|| LOCAL_NAME.to_owned(), |address| address.to_string())
    }
}

/// A connection's two ends.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) client: Client,
    pub(crate) entrance: Arc<Entrance>,
}

/// Who is at a connection's other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Client {
    Tcp(SocketAddr),
    /// A process of this machine, which has no address.
    Unix,
    /// Nobody: the server itself rehearses a request.
    Nobody,
}

impl Client {
    /// The address of a client, for CGI's `REMOTE_ADDR`.
    pub(crate) fn address(self) -> String {
        match self {
            Self::Tcp(address) => address.ip().to_string(),
            Self::Unix | Self::Nobody => "unix:".into(),
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix => f.write_str("unix"),
            Self::Nobody => f.write_str("nobody"),
        }
    }
}
