//! Where a server listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;

/// A place where a server listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Listen {
    /// An address and a port: `127.0.0.1:8080`, or `http://127.0.0.1:8080`.
    Http(SocketAddr),
    /// An address and a port, for clients that speak TLS: `https://0.0.0.0:8443`.
    Https(SocketAddr),
    /// A Unix socket in the file system: `unix:/run/remuda.sock`.
    Unix(PathBuf),
}

/// The error of a text that names no place to listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "it is an address with a port, like \"127.0.0.1:8080\" or \"[::]:8080\", \"https://0.0.0.0:8443\" for TLS, or a \
     Unix socket, like \"unix:/run/remuda.sock\""
)]
pub struct NoPlaceToListen;

impl Listen {
    /// The same place, with an absolute path of a Unix socket; it was relative to this folder.
    #[must_use]
    pub fn within(self, home: &Path) -> Self {
        match self {
            Self::Unix(path) => {
                let path = home.join(path);
                Self::Unix(std::path::absolute(&path).unwrap_or(path))
            }
            tcp @ (Self::Http(_) | Self::Https(_)) => tcp,
        }
    }
}

impl FromStr for Listen {
    type Err = NoPlaceToListen;

    fn from_str(text: &str) -> Result<Self, NoPlaceToListen> {
        let address = |text: &str| text.parse::<SocketAddr>().map_err(|_| NoPlaceToListen);
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() { Err(NoPlaceToListen) } else { Ok(Self::Unix(path.into())) };
        }
        if let Some(text) = text.strip_prefix("https://") {
            return address(text).map(Self::Https);
        }
        address(text.strip_prefix("http://").unwrap_or(text)).map(Self::Http)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(address) => write!(f, "http://{address}"),
            Self::Https(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One text, or several.
#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a list of texts")]
pub(crate) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(crate) fn as_slice(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_written_as_they_are_shown() {
        for text in ["http://127.0.0.1:8080", "https://[::1]:443", "unix:/run/remuda.sock", "unix:a/b.sock"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
        assert_eq!("[::]:80".parse(), Ok(Listen::Http("[::]:80".parse().unwrap())));
        for text in ["", "8080", "localhost", "unix:", "https://", "ftp://127.0.0.1:21", "https://127.0.0.1:1/path"] {
            assert_eq!(text.parse::<Listen>(), Err(NoPlaceToListen), "{text:?}");
        }
    }
}
