//! Tests of what HTTP (RFC 9110, 9112 and 9113) and CGI (RFC 3875) demand of a server, as far as Remuda and not hyper decides
//! it. docs/http.md has a row for each rule, and names the test here.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use crate::http::{Response, parse, receive, send};
use crate::support::{Server, drain};

const FUNCTIONS: &str = r#"
    [[function]]
    name = "cgi"
    route = "/app/*"
    abi = "cgi"
    module = "@guests/cgi/cgi.wasm"
    [[function]]
    name = "cat"
    module = "@guests/cat/cat.wasm"
"#;

/// Sends bytes as they are, and returns every byte that comes back until the connection ends.
fn exchange(server: &Server, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(&server.address).expect("the server listens");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    drain(stream)
}

fn response(server: &Server, request: &str) -> Response {
    parse(&exchange(server, request))
}

/// The variables that the CGI guest was given.
fn variables(response: &Response) -> Vec<String> {
    response.text().lines().map(str::to_owned).collect()
}

#[test]
fn a_request_has_exactly_one_valid_host() {
    let server = Server::start(FUNCTIONS, &[]);
    for (request, status, words) in [
        ("GET /app HTTP/1.1\r\nconnection: close\r\n\r\n", 400, "no Host"),
        ("GET /app HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n", 400, "more than one Host"),
        ("GET /app HTTP/1.1\r\nhost: a b\r\nconnection: close\r\n\r\n", 400, "no host"),
        ("GET /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", 200, "HTTP_HOST=a"),
        ("GET /app HTTP/1.0\r\n\r\n", 200, "SERVER_PROTOCOL=HTTP/1.0"),
    ] {
        let response = response(&server, request);
        assert_eq!(response.status, status, "{request:?}: {}", response.text());
        assert!(response.text().contains(words), "{request:?}: {}", response.text());
    }
}

#[test]
fn the_authority_of_the_target_counts() {
    let server = Server::start(FUNCTIONS, &[]);
    let request = "GET http://other.example:81/app/x HTTP/1.1\r\nhost: example.org\r\nconnection: close\r\n\r\n";
    let variables = variables(&response(&server, request));
    for variable in ["HTTP_HOST=other.example:81", "SERVER_NAME=other.example", "SERVER_PORT=81", "PATH_INFO=/x"] {
        assert!(variables.iter().any(|found| found == variable), "{variable} is missing: {variables:#?}");
    }
}

#[test]
fn fields_of_the_connection_do_not_reach_guests() {
    let server = Server::start(FUNCTIONS, &[]);
    let request = "POST /app HTTP/1.1\r\nhost: a\r\nconnection: close, x-mine\r\nx-mine: 1\r\nx-other: 2\r\nte: trailers\r\n\
                   keep-alive: timeout=5\r\nproxy-authorization: Basic eA==\r\ntransfer-encoding: chunked\r\n\
                   \r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let variables = variables(&response(&server, request));
    let of_fields: Vec<&String> = variables.iter().filter(|variable| variable.starts_with("HTTP_")).collect();
    assert_eq!(of_fields, ["HTTP_HOST=a", "HTTP_X_OTHER=2"]);
    assert!(variables.iter().any(|variable| variable == "CONTENT_LENGTH=5"), "{variables:#?}");
}

#[test]
fn several_fields_of_a_name_become_one_variable() {
    let server = Server::start(FUNCTIONS, &[]);
    let request = "GET /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\naccept: a/b\r\naccept: c/d\r\ncookie: e=f\r\n\
                   cookie: g=h\r\n\r\n";
    let variables = variables(&response(&server, request));
    for variable in ["HTTP_ACCEPT=a/b, c/d", "HTTP_COOKIE=e=f; g=h"] {
        assert!(variables.iter().any(|found| found == variable), "{variable} is missing: {variables:#?}");
    }
}

#[test]
fn methods_that_no_function_can_have_are_not_implemented() {
    let server = Server::start(FUNCTIONS, &[]);
    for (line, status) in [
        ("TRACE /app HTTP/1.1", 501),
        ("CONNECT example.org:443 HTTP/1.1", 501),
        ("DELETE /app HTTP/1.1", 200),
        ("BREW /app HTTP/1.1", 200),
        ("OPTIONS * HTTP/1.1", 404),
    ] {
        let response = response(&server, &format!("{line}\r\nhost: example.org:443\r\nconnection: close\r\n\r\n"));
        assert_eq!(response.status, status, "{line}: {}", response.text());
    }
}

#[test]
fn expectations_are_met_or_refused() {
    let server = Server::start(FUNCTIONS, &[]);
    let request = |expect: &str, body: &str| {
        format!(
            "POST /cat HTTP/1.1\r\nhost: a\r\nconnection: close\r\nexpect: {expect}\r\ncontent-length: 5\r\n\r\n{body}"
        )
    };
    let refused = response(&server, &request("a-miracle", "hello"));
    assert_eq!(refused.status, 417, "{}", refused.text());
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(request("100-continue", "").as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"hello").unwrap();
    let response = parse(&drain(stream));
    assert_eq!((response.status, response.text().as_str()), (200, "hello"));
}

#[test]
fn responses_that_have_no_content_have_none() {
    let server = Server::start(FUNCTIONS, &[]);
    for status in [204, 205, 304] {
        let request = format!("GET /app?status={status} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let response = response(&server, &request);
        assert_eq!((response.status, response.text().as_str()), (status, ""));
    }
    let get = response(&server, "GET /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    let head = response(&server, "HEAD /app HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    assert_eq!((head.status, head.text().as_str()), (200, ""));
    assert_eq!(head.header("content-type"), get.header("content-type"));
    for response in [&get, &head] {
        assert!(response.header("date").is_some() && response.header("content-length").is_some(), "{response:?}");
    }
}

#[test]
fn a_client_that_stops_sending_has_left() {
    let endless = r#"
        [[function]]
        name = "spin"
        module = "@guests/spin/spin.wasm"
        "#;
    let server = Server::start(endless, &[]);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /spin HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    // Were it still waited for, its answer would be that its time was up.
    assert_eq!(drain(stream), b"");
}

#[test]
fn http2_has_the_same_rules() {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::client::legacy::{Client, connect::HttpConnector};
    use hyper_util::rt::TokioExecutor;

    let server = Server::start(FUNCTIONS, &[]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client: Client<HttpConnector, Empty<bytes::Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let answer = async |path: &str| {
            let uri: http::Uri = format!("http://{}{path}", server.address).parse().unwrap();
            let request = http::Request::get(uri).header("cookie", "a=b").header("cookie", "c=d").body(Empty::new());
            let response = client.request(request.unwrap()).await.unwrap();
            let status = response.status().as_u16();
            (status, String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap())
        };
        let (status, text) = answer("/app").await;
        assert_eq!(status, 200);
        for variable in [&format!("HTTP_HOST={}", server.address), "HTTP_COOKIE=a=b; c=d", "SERVER_PROTOCOL=HTTP/2.0"] {
            assert!(text.lines().any(|line| line == variable), "{variable} is missing:\n{text}");
        }
        assert_eq!(answer("/app?status=204").await, (204, String::new()));
    });
}

/// W3C Trace Context: the parts of a system that a request goes through know that it is the same one.
#[test]
fn trace_context_goes_through() {
    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let server = Server::start(
        r#"
        [[function]]
        name = "cgi"
        abi = "cgi"
        module = "@guests/cgi/cgi.wasm"
        [[function]]
        name = "http"
        route = "/*"
        module = "@guests/http/http.wasm"
        "#,
        &[],
    );
    let fields = [("traceparent", PARENT), ("tracestate", "a=b,c=d")];
    for (path, expected) in [
        ("/cgi", [format!("HTTP_TRACEPARENT={PARENT}"), "HTTP_TRACESTATE=a=b,c=d".into()]),
        ("/request", [format!("traceparent: {PARENT}"), "tracestate: a=b,c=d".into()]),
    ] {
        let text = receive(send(&server.address, "GET", path, &fields, b"")).text();
        for line in expected {
            assert!(text.lines().any(|found| found == line), "{line} is missing:\n{text}");
        }
    }
}
