//! What HTTP demands of a request beyond its syntax, which hyper checks: RFC 9110, 9112 and 9113. docs/http.md lists each rule
//! with its test.

use http::header::{
    CONNECTION, EXPECT, HOST, HeaderName, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Method, Version, request};

use crate::respond::Refusal;

/// Fields that are between a client and this server, and mean nothing to a guest (RFC 9110, section 7.6.1).
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Refuses a request that must be refused. Of others, the field `Host` becomes the target's authority, if it has one.
pub(crate) fn apply(head: &mut request::Parts) -> Result<(), Refusal> {
    let is_1_1 = head.version == Version::HTTP_11;
    if head.method == Method::TRACE || head.method == Method::CONNECT {
        return Err(Refusal::NotImplemented);
    }
    if let Some(expectation) = head.headers.get(EXPECT)
        && !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue")
    {
        return Err(Refusal::Expectation);
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    if other.is_some() {
        return Err(Refusal::Malformed("it has more than one Host field"));
    }
    if host.is_none() && is_1_1 {
        return Err(Refusal::Malformed("it has no Host field"));
    }
    if host.is_some_and(|host| !is_host(host)) {
        return Err(Refusal::Malformed("its Host field is no host"));
    }
    if let Some(authority) = head.uri.authority() {
        // The target counts, whatever the field says (RFC 9112, section 3.2.2); and HTTP/2 has no such field.
        let host = HeaderValue::from_str(authority.as_str());
        head.headers.insert(HOST, host.map_err(|_| Refusal::Malformed("its target has no valid authority"))?);
    }
    Ok(())
}

/// The fields that are between two programs that are connected: the usual ones, and those that `Connection` declares to be.
pub(crate) fn hop_by_hop(headers: &HeaderMap) -> Vec<HeaderName> {
    let declared = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok());
    declared.chain(HOP_BY_HOP).collect()
}

/// Whether the value of a field `Host` is a host and perhaps a port. It may be empty.
fn is_host(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    value.is_empty() || Authority::try_from(value).is_ok_and(|authority| !authority.as_str().contains('@'))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn applied(version: Version, uri: &str, fields: &[(&str, &str)]) -> Result<HeaderMap, Refusal> {
        let mut request = Request::builder().version(version).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        apply(&mut head).map(|()| head.headers)
    }

    #[test]
    fn a_request_of_http_1_1_has_exactly_one_valid_host() {
        for (version, fields, is_right) in [
            (Version::HTTP_11, &[("host", "a")][..], true),
            (Version::HTTP_11, &[("host", "a:80")], true),
            (Version::HTTP_11, &[("host", "[::1]:80")], true),
            (Version::HTTP_11, &[("host", "")], true),
            (Version::HTTP_11, &[], false),
            (Version::HTTP_11, &[("host", "a"), ("host", "a")], false),
            (Version::HTTP_11, &[("host", "a b")], false),
            (Version::HTTP_11, &[("host", "a/b")], false),
            (Version::HTTP_11, &[("host", "user@a")], false),
            (Version::HTTP_10, &[], true),
            (Version::HTTP_2, &[], true),
        ] {
            let applied = applied(version, "/", fields);
            assert_eq!(applied.is_ok(), is_right, "{version:?} {fields:?}: {applied:?}");
        }
    }

    #[test]
    fn the_target_s_authority_is_the_host() {
        let headers = applied(Version::HTTP_11, "http://b:81/path", &[("host", "a")]).unwrap();
        assert_eq!(headers[HOST], "b:81");
        let headers = applied(Version::HTTP_2, "http://b/path", &[]).unwrap();
        assert_eq!(headers[HOST], "b");
    }

    #[test]
    fn fields_of_the_connection_do_not_reach_guests() {
        let fields = [
            ("host", "a"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("proxy-authorization", "Basic eA=="),
        ];
        let headers = applied(Version::HTTP_11, "/", &fields).unwrap();
        let hop_by_hop = hop_by_hop(&headers);
        let left: Vec<&str> =
            headers.keys().filter(|name| !hop_by_hop.contains(name)).map(HeaderName::as_str).collect();
        assert_eq!(left, ["host", "x-other"]);
    }
}
