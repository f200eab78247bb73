//! A simple HTTP client: one request on a connection of its own, with every byte under the test's control.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use crate::support::drain;

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        crate::support::text(&self.body)
    }
}

/// Opens a connection and sends a request's head and body, and nothing more.
pub(crate) fn send(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(head(address, method, path, headers, body.len()).as_bytes()).expect("it takes the head");
    // The server may refuse a body, and close before it has all of it.
    let _ = stream.write_all(body);
    stream
}

pub(crate) fn head(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body_bytes: usize) -> String {
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head + &format!("content-length: {body_bytes}\r\n\r\n")
}

/// Reads a response to the end of its connection.
pub(crate) fn receive(stream: TcpStream) -> Response {
    parse(&drain(stream))
}

pub(crate) fn parse(bytes: &[u8]) -> Response {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("the response has a head");
    let head = String::from_utf8(bytes[..end].to_vec()).expect("a head is text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    Response { status: status.expect("a status"), headers, body: bytes[end + 4..].to_vec() }
}

/// A connection for one request after another.
pub(crate) struct Connection {
    address: String,
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Self {
        let stream = BufReader::new(TcpStream::connect(address).expect("the server listens"));
        Self { address: address.to_owned(), stream }
    }

    /// Sends a request, and does not wait for its answer.
    pub(crate) fn send(&mut self, path: &str, body: &[u8]) {
        let head = format!("POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n", self.address, body.len());
        let request = [head.as_bytes(), body].concat();
        self.stream.get_mut().write_all(&request).expect("the server takes the request");
    }

    /// Sends a request, and reads its answer.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Response {
        self.send(path, body);
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            assert!(self.stream.read_until(b'\n', &mut bytes).expect("the server answers") > 0, "it has closed");
        }
        let mut response = parse(&bytes);
        let length = response.header("content-length").and_then(|length| length.parse().ok()).expect("a length");
        response.body = vec![0; length];
        self.stream.read_exact(&mut response.body).expect("the body is whole");
        response
    }
}

pub(crate) fn get(address: &str, path: &str) -> Response {
    receive(send(address, "GET", path, &[], b""))
}

pub(crate) fn post(address: &str, path: &str, body: &[u8]) -> Response {
    receive(send(address, "POST", path, &[], body))
}
