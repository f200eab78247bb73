use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;

/// The requests that guests of a function may send, and what one guest may use for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outbound {
    /// The servers to which requests may go.
    pub allow: Vec<Origin>,
    /// The most requests.
    pub requests_max: u32,
    /// The most requests at the same time; further ones wait.
    pub concurrent_max: u32,
    /// The longest time until a response begins, and between two pieces of its body.
    pub timeout: Duration,
    /// The most bytes in the body of a request, and in that of a response.
    pub body_bytes_max: u64,
    /// Certificates, as PEM, that are trusted beside the usual ones.
    pub certificates: Bytes,
}

impl Default for Outbound {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            requests_max: 32,
            concurrent_max: 8,
            timeout: Duration::from_secs(10),
            body_bytes_max: 16 << 20,
            certificates: Bytes::new(),
        }
    }
}

/// A server, or servers, as a URL names them: `https://api.example.com`, `https://*.example.com`, `http://10.1.2.3:8080`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    is_https: bool,
    /// The host's name in lower case, or its address as text without brackets; after `*.`, all names below.
    host: String,
    port: u16,
}

/// Text that names no origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is a scheme, a host and perhaps a port: https://api.example.com, https://*.example.com or http://10.1.2.3:8080"
)]
pub struct NotAnOrigin;

impl Origin {
    /// The origin of a URL of `http` or `https`.
    #[must_use]
    pub fn of(url: &Uri) -> Option<Self> {
        let is_https = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return None,
        };
        let host = url.host()?.trim_matches(['[', ']']).to_ascii_lowercase();
        let has_userinfo = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
        let port = url.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        (!host.is_empty() && !has_userinfo).then_some(Self { is_https, host, port })
    }

    /// Whether connections to the server are encrypted.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.is_https
    }

    /// The host's name or address.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether `other`, which names one server, is this one or one of these.
    #[must_use]
    pub fn has(&self, other: &Self) -> bool {
        let is_host = match self.host.strip_prefix("*.") {
            Some(below) => other.host.strip_suffix(below).is_some_and(|name| name.len() > 1 && name.ends_with('.')),
            None => self.host == other.host,
        };
        is_host && (self.is_https, self.port) == (other.is_https, other.port)
    }

    /// Whether this names an address, or this machine by name: nobody else's answer leads there.
    #[must_use]
    pub fn is_explicit(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok() || self.host == "localhost"
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        // `*` is no part of a host's name to the parser of URLs.
        let (text, is_wildcard) = match text.split_once("://*.") {
            Some((scheme, rest)) => (format!("{scheme}://{rest}"), true),
            None => (text.to_owned(), false),
        };
        let url: Uri = text.parse().map_err(|_| NotAnOrigin)?;
        let mut origin = Self::of(&url).ok_or(NotAnOrigin)?;
        let is_only_origin = matches!(url.path(), "" | "/") && url.query().is_none() && !origin.host.contains('*');
        if !is_only_origin || (is_wildcard && origin.is_explicit()) {
            return Err(NotAnOrigin);
        }
        if is_wildcard {
            origin.host.insert_str(0, "*.");
        }
        Ok(origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host) = (if self.is_https { "https" } else { "http" }, &self.host);
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{}", self.port)
        } else {
            write!(f, "{scheme}://{host}:{}", self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_read_and_matched() {
        for (allowed, url, is_allowed) in [
            ("https://api.example.com", "https://api.example.com/a?b", true),
            ("https://api.example.com", "https://API.example.com:443/", true),
            ("https://api.example.com", "http://api.example.com/", false),
            ("https://api.example.com", "https://api.example.com:8443/", false),
            ("https://api.example.com", "https://api.example.com.evil.example/", false),
            ("https://api.example.com", "https://api.example.com@evil.example/", false),
            ("https://api.example.com", "https://user@api.example.com/", false),
            ("https://*.example.com", "https://a.example.com/", true),
            ("https://*.example.com", "https://a.b.example.com/", true),
            ("https://*.example.com", "https://example.com/", false),
            ("https://*.example.com", "https://evilexample.com/", false),
            ("https://*.example.com", "https://.example.com/", false),
            ("http://10.1.2.3:8080", "http://10.1.2.3:8080/", true),
            ("http://[::1]:8080", "http://[::1]:8080/", true),
            ("http://[::1]", "http://[::1]:80/", true),
            ("http://localhost", "http://localhost/", true),
        ] {
            let origin: Origin = allowed.parse().unwrap();
            let asked = Origin::of(&url.parse().unwrap());
            assert_eq!(asked.is_some_and(|asked| origin.has(&asked)), is_allowed, "{allowed} {url}");
        }
        for wrong in [
            "",
            "example.com",
            "ftp://a",
            "https://",
            "https://a/path",
            "https://a?b",
            "https://*",
            "https://*.1.2.3.4",
            "https://a.*.b",
            "https://u@a",
            "*",
        ] {
            assert_eq!(wrong.parse::<Origin>(), Err(NotAnOrigin), "{wrong}");
        }
    }
}
