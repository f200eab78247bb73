//! RFC 3875: a request as environment variables, and an answer as header fields, an empty line and a body.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode, Version, request};

use crate::entrance::{Ends, Entrance};
use crate::route::Routed;
use crate::rules::hop_by_hop;

/// The most header fields of one answer.
const FIELDS_MAX: usize = 100;
/// The most bytes of all header fields of one answer.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// What a guest's output says about the response.
#[derive(Debug)]
pub(crate) struct CgiResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// The request's meta-variables (RFC 3875, section 4.1).
///
/// A client's header field reaches the guest as `HTTP_...`, with four exceptions: `Proxy`, which many programs take
/// for their own configuration; names with an underscore, which could pass for another field; fields that are between
/// the client and the server; and values that are no text.
pub(crate) fn variables(
    head: &request::Parts,
    routed: &Routed<'_>,
    body_bytes: Option<u64>,
    Ends { client, entrance }: &Ends,
) -> Vec<(String, String)> {
    let text = |name: HeaderName| head.headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).unwrap_or_default();
    let (server_name, server_port) = split_host(host, entrance);
    let mut variables: Vec<(String, String)> = [
        ("GATEWAY_INTERFACE", "CGI/1.1".to_owned()),
        ("PATH_INFO", percent_decode(routed.path_info)),
        ("QUERY_STRING", head.uri.query().unwrap_or_default().to_owned()),
        ("REMOTE_ADDR", client.address()),
        ("REQUEST_METHOD", head.method.to_string()),
        ("SCRIPT_NAME", routed.script_name.to_owned()),
        ("SERVER_NAME", server_name),
        ("SERVER_PORT", server_port),
        ("SERVER_PROTOCOL", protocol(head.version).to_owned()),
        ("SERVER_SOFTWARE", concat!("remuda/", env!("CARGO_PKG_VERSION")).to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    // The length of a body that is still coming may be unknown.
    if let Some(body_bytes) = body_bytes
        && (body_bytes > 0 || head.headers.contains_key(CONTENT_LENGTH))
    {
        variables.push(("CONTENT_LENGTH".into(), body_bytes.to_string()));
    }
    if let Some(content_type) = text(CONTENT_TYPE) {
        variables.push(("CONTENT_TYPE".into(), content_type.to_owned()));
    }
    if entrance.tls.is_some() {
        variables.push(("HTTPS".into(), "on".into()));
    }
    let hop_by_hop = hop_by_hop(&head.headers);
    for name in head.headers.keys() {
        let has_own = *name == CONTENT_LENGTH || *name == CONTENT_TYPE;
        let hidden = has_own || name == "proxy" || name.as_str().contains('_') || hop_by_hop.contains(name);
        if hidden {
            continue;
        }
        let values: Vec<&str> = head.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        let separator = if name == "cookie" { "; " } else { ", " };
        let variable = format!("HTTP_{}", name.as_str().to_ascii_uppercase().replace('-', "_"));
        variables.push((variable, values.join(separator)));
    }
    variables
}

/// `host[:port]` as the client wrote it, with the server's own port where it wrote none.
fn split_host(host: &str, entrance: &Entrance) -> (String, String) {
    let after_literal = host.rfind(']').unwrap_or(0);
    match host[after_literal..].rfind(':') {
        Some(colon) => {
            let (name, port) = host.split_at(after_literal + colon);
            (name.to_owned(), port[1..].to_owned())
        }
        None if host.is_empty() => (entrance.name(), entrance.port().to_string()),
        None => (host.to_owned(), entrance.port().to_string()),
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}

/// Decodes `%41` to `A`. Text that is no escape, or would become NUL, stays as it is; bytes that are no UTF-8 are
/// replaced.
fn percent_decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let escaped = (bytes[i] == b'%')
            .then(|| path.get(i + 1..i + 3))
            .flatten()
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .filter(|byte| *byte != 0);
        decoded.push(escaped.unwrap_or(bytes[i]));
        i += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Reads a guest's output (RFC 3875, section 6), which must have a whole header. The reason for refusing it is for the client,
/// too.
///
/// A `Location` without a `Status` redirects the client (302), also where the RFC has the server follow a local path
/// itself: the client does that as well, and sees where it is.
pub(crate) fn parse_response(output: &Bytes) -> Result<CgiResponse, &'static str> {
    parse_beginning(output)?.ok_or("its header has no end")
}

/// As [`parse_response`], for an output that may go on; `None`: its header does.
pub(crate) fn parse_beginning(output: &Bytes) -> Result<Option<CgiResponse>, &'static str> {
    let mut status = None;
    let mut headers = HeaderMap::new();
    let mut at = 0;
    loop {
        let Some(line_end) = output[at..].iter().position(|byte| *byte == b'\n') else {
            return if output.len() > HEAD_BYTES_MAX { Err("its header is too long") } else { Ok(None) };
        };
        let line = output[at..at + line_end].strip_suffix(b"\r").unwrap_or(&output[at..at + line_end]);
        at += line_end + 1;
        if at > HEAD_BYTES_MAX || headers.len() > FIELDS_MAX {
            return Err("its header is too long");
        }
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or("a header line has no colon")?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| "a header field has a bad name")?;
        let value = line[colon + 1..].trim_ascii();
        if name == "status" {
            status = Some(parse_status(value).ok_or("its status is none")?);
            continue;
        }
        headers.append(name, HeaderValue::from_bytes(value).map_err(|_| "a header field has a bad value")?);
    }
    // These are between the server and its client.
    for name in hop_by_hop(&headers).iter().chain(&[CONTENT_LENGTH]) {
        headers.remove(name);
    }
    let body = output.slice(at..);
    if !headers.contains_key(CONTENT_TYPE) && !headers.contains_key(LOCATION) && status.is_none() {
        return Err("its header has no Content-Type, Location or Status");
    }
    let implied = if headers.contains_key(LOCATION) { StatusCode::FOUND } else { StatusCode::OK };
    Ok(Some(CgiResponse { status: status.unwrap_or(implied), headers, body }))
}

/// Parses three digits and perhaps a reason, for which HTTP/2 has no place.
fn parse_status(value: &[u8]) -> Option<StatusCode> {
    let digits = value.get(..3)?;
    let rest_is_apart = value.get(3).is_none_or(|byte| *byte == b' ');
    let status = StatusCode::from_bytes(digits).ok()?;
    // An informational status is not a final one.
    (rest_is_apart && status.as_u16() >= 200 && status.as_u16() < 600).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(output: &str) -> Result<(u16, usize, String), &'static str> {
        let response = parse_response(&Bytes::copy_from_slice(output.as_bytes()))?;
        let body = String::from_utf8(response.body.to_vec()).unwrap();
        Ok((response.status.as_u16(), response.headers.len(), body))
    }

    #[test]
    fn answers_are_read_as_the_rfc_has_them() {
        for (output, expected) in [
            ("Content-Type: text/plain\n\nhello", Ok((200, 1, "hello".into()))),
            ("Content-Type: text/plain\r\n\r\nhello\r\n", Ok((200, 1, "hello\r\n".into()))),
            ("Status: 404 Not Found\nContent-Type: text/plain\n\n", Ok((404, 1, String::new()))),
            ("Status: 204\n\n", Ok((204, 0, String::new()))),
            ("Location: /there\n\n", Ok((302, 1, String::new()))),
            ("Status: 301\nLocation: /there\n\n", Ok((301, 1, String::new()))),
            ("Content-Type: a/b\nContent-Length: 999\nTransfer-Encoding: chunked\n\nx", Ok((200, 1, "x".into()))),
            ("Set-Cookie: a\nSet-Cookie: b\nContent-Type: a/b\n\n", Ok((200, 3, String::new()))),
            ("", Err("its header has no end")),
            ("\n", Err("its header has no Content-Type, Location or Status")),
            ("Content-Type: text/plain\nno end", Err("its header has no end")),
            ("hello\n\n", Err("a header line has no colon")),
            ("Bad Name: x\n\n", Err("a header field has a bad name")),
            ("X: a\0b\n\n", Err("a header field has a bad value")),
            ("Status: 99\n\n", Err("its status is none")),
            ("Status: 101 Switching\n\n", Err("its status is none")),
            ("Status: 2000\n\n", Err("its status is none")),
        ] {
            assert_eq!(parse(output), expected, "{output:?}");
        }
        let long = format!("{}\n", "X: y\n".repeat(FIELDS_MAX + 10));
        assert_eq!(parse(&long), Err("its header is too long"));
    }

    #[test]
    fn paths_are_decoded_but_for_what_would_harm() {
        for (path, expected) in
            [("/a%20b", "/a b"), ("/%41%2F", "/A/"), ("/%00", "/%00"), ("/%", "/%"), ("/%+1", "/%+1")]
        {
            assert_eq!(percent_decode(path), expected);
        }
    }

    #[test]
    fn hosts_are_split_from_their_ports() {
        let server = Entrance { address: Some(([127, 0, 0, 1], 8080).into()), tls: None };
        for (host, expected) in [
            ("example.org", ("example.org", "8080")),
            ("example.org:1234", ("example.org", "1234")),
            ("[::1]", ("[::1]", "8080")),
            ("[::1]:99", ("[::1]", "99")),
            ("", ("127.0.0.1", "8080")),
        ] {
            let (name, port) = split_host(host, &server);
            assert_eq!((name.as_str(), port.as_str()), expected, "{host}");
        }
    }
}
