//! Tests of the server over HTTP: answers are right, each limit is hit once, and no request is lost.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::http::{Connection, get, head, parse, post, receive, send};
use crate::support::{ENGINES, Server, drain, folder, guest, output, remuda, text};

const CANNY: &str = r#"
    [[function]]
    name = "canny"
    module = "@guests/canny/canny.wasm"
    content_type = "image/png"
"#;

#[test]
fn the_picture_is_right_whichever_engine_is_forced() {
    let photograph = std::fs::read(guest("canny/input/camera-palette.png")).unwrap();
    let edges = std::fs::read(guest("canny/expected/camera-palette.png")).unwrap();
    for engine in ENGINES {
        let server = Server::start(CANNY, &["--engine", engine]);
        let response = post(&server.address, "/canny", &photograph);
        assert_eq!(response.status, 200, "{engine}: {}", response.text());
        assert!(response.body == edges, "{engine} answers another picture");
        assert_eq!(response.header("x-remuda-engine"), Some(engine));
        assert_eq!(response.header("content-type"), Some("image/png"));
        let timing = response.header("server-timing").unwrap();
        // An engine that keeps no artifacts is made ready before the socket opens.
        let is_compiled = engine != "wasmi.lazy";
        assert_eq!((timing.contains("compile;dur="), timing.contains("execute;dur=")), (is_compiled, true), "{timing}");
    }
}

#[test]
fn many_clients_at_once_get_their_own_answers() {
    let server = Server::start(
        r#"
        [[function]]
        name = "sha256"
        module = "@guests/sha256/sha256.wasm"
        [[function]]
        name = "cat"
        route = "/echo/*"
        module = "@guests/cat/cat.wasm"
        "#,
        &[],
    );
    std::thread::scope(|scope| {
        for client in 0..40 {
            let address = &server.address;
            scope.spawn(move || {
                let body = format!("client {client}").repeat(client * 50 + 1);
                let echoed = post(address, "/echo/anything/below", body.as_bytes());
                assert_eq!((echoed.status, echoed.text()), (200, body));
                let abc = post(address, "/sha256", b"abc");
                assert!(
                    abc.text().starts_with("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
                    "{}",
                    abc.text()
                );
                assert!(abc.header("x-remuda-engine").is_some());
            });
        }
    });
}

#[test]
fn each_limit_has_its_status_and_its_reason() {
    let server = Server::start(
        r#"
        [[function]]
        name = "late"
        module = "@guests/spin/spin.wasm"
        limits = { timeout = "100ms" }
        [[function]]
        name = "asleep"
        module = "@guests/sleep/sleep.wasm"
        args = ["3600000"]
        limits = { timeout = "100ms" }
        [[function]]
        name = "memory"
        module = "@guests/cat/cat.wasm"
        limits = { memory = "64KiB" }
        [[function]]
        name = "body"
        module = "@guests/cat/cat.wasm"
        limits = { body = "1KiB" }
        [[function]]
        name = "output"
        module = "@guests/flood/flood.wasm"
        limits = { output = "1MiB" }
        [[function]]
        name = "trap"
        module = "@guests/trap/unreachable/unreachable.wasm"
        [[function]]
        name = "exit"
        module = "@guests/args/args.wasm"
        args = ["--exit", "3"]
        "#,
        &[],
    );
    // The requests are repeated, so that every engine is tried.
    for round in 0..4 {
        for (path, body_bytes, status, reason) in [
            ("/late", 0, 504, "did not answer in time"),
            ("/asleep", 0, 504, "did not answer in time"),
            ("/memory", 0, 500, "memory limit"),
            ("/body", 2048, 413, "larger than this function takes (1024 bytes)"),
            ("/output", 0, 502, "output limit"),
            ("/trap", 0, 500, "trapped: unreachable"),
            ("/exit", 0, 500, "exited with code 3"),
            ("/nowhere", 0, 404, "no function has this route"),
        ] {
            let response = post(&server.address, path, &vec![b'x'; body_bytes]);
            let body = response.text();
            assert_eq!(response.status, status, "round {round}, {path}: {body}");
            assert!(body.contains(reason), "round {round}, {path}: {body}");
            let id = response.header("x-remuda-request").expect("every answer has a request id");
            assert!(body.contains(id), "{body}");
        }
        assert_eq!(post(&server.address, "/body", b"x").status, 200, "the server goes on");
    }
}

#[test]
fn a_chunked_body_is_held_to_the_same_limit() {
    let server = Server::start(
        r#"
        [[function]]
        name = "cat"
        module = "@guests/cat/cat.wasm"
        limits = { body = "1KiB" }
        "#,
        &[],
    );
    let chunked = |chunks: usize| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head = "POST /cat HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        let body = format!("100\r\n{}\r\n", "y".repeat(256)).repeat(chunks) + "0\r\n\r\n";
        stream.write_all((head.to_owned() + &body).as_bytes()).unwrap();
        receive(stream)
    };
    assert_eq!(chunked(3).body, "y".repeat(768).as_bytes());
    assert_eq!(chunked(5).status, 413);
}

#[test]
fn a_full_queue_answers_503_and_loses_nothing() {
    let server = Server::start(
        r#"
        [server]
        workers = 1
        queue = 1
        [[function]]
        name = "spin"
        module = "@guests/spin/spin.wasm"
        limits = { timeout = "2s" }
        "#,
        &[],
    );
    // One request can run and one can wait. So of five, at least three are refused, and at most two run until their
    // time limit.
    let clients: Vec<_> = (0..5).map(|_| send(&server.address, "POST", "/spin", &[], b"")).collect();
    let responses: Vec<_> = clients.into_iter().map(receive).collect();
    let full: Vec<_> = responses.iter().filter(|response| response.status == 503).collect();
    let late = responses.iter().filter(|response| response.status == 504).count();
    assert_eq!(full.len() + late, 5, "{responses:?}");
    assert!(full.len() >= 3 && late >= 1, "{responses:?}");
    for response in full {
        assert_eq!(response.header("retry-after"), Some("1"));
        assert!(response.text().contains("the queue is full"), "{}", response.text());
    }
}

#[test]
fn a_guest_whose_client_has_left_is_stopped() {
    for engine in ENGINES {
        let server = Server::start(
            r#"
            [server]
            workers = 1
            [[function]]
            name = "spin"
            module = "@guests/spin/spin.wasm"
            limits = { timeout = "1h" }
            [[function]]
            name = "noop"
            module = "@guests/noop/noop.wasm"
            "#,
            &["--engine", engine],
        );
        // There is one thread for guests. If it were still busy with the first guest, the second would wait for an
        // hour.
        drop(send(&server.address, "POST", "/spin", &[], b""));
        assert_eq!(post(&server.address, "/noop", b"").status, 200, "{engine}");
    }
}

#[test]
fn a_request_that_breaks_off_harms_nobody() {
    let server = Server::start(CANNY, &[]);
    for broken in [
        &b"GET"[..],
        b"GET /canny HTTP/1.1\r\n",
        b"POST /canny HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\nonly this",
        b"POST /canny HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ] {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(broken).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", text(&answer));
    }
    assert_eq!(get(&server.address, "/canny").status, 500, "no picture is no picture, but it is answered");
}

#[test]
fn sigterm_answers_all_that_has_come() {
    let server = Server::start(
        r#"
        [server]
        workers = 1
        [[function]]
        name = "cat"
        module = "@guests/cat/cat.wasm"
        "#,
        &[],
    );
    let mut clients: Vec<TcpStream> = (0..8)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            let expect = [("expect", "100-continue")];
            stream.write_all(head(&server.address, "POST", "/cat", &expect, 4).as_bytes()).unwrap();
            // When this arrives, the server has accepted the request and waits for its body.
            let mut go_on = [0; 25];
            stream.read_exact(&mut go_on).unwrap();
            assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
            stream
        })
        .collect();
    server.terminate();
    for (i, stream) in clients.iter_mut().enumerate() {
        write!(stream, "{i:04}").unwrap();
    }
    for (i, stream) in clients.into_iter().enumerate() {
        let response = parse(&drain(stream));
        assert_eq!((response.status, response.text()), (200, format!("{i:04}")));
    }
    let address = server.address.clone();
    assert!(server.wait().success());
    assert!(TcpStream::connect(address).is_err(), "nobody listens any more");
}

#[test]
fn cgi_functions_see_the_request_and_choose_the_response() {
    let server = Server::start(
        r#"
        [[function]]
        name = "cgi"
        route = "/app/*"
        abi = "cgi"
        module = "@guests/cgi/cgi.wasm"
        env = { SETTING = "from the manifest" }
        "#,
        &[],
    );
    let headers = [("x-Custom", "1"), ("proxy", "http://evil"), ("content-type", "text/plain"), ("a_b", "hidden")];
    let response = receive(send(&server.address, "POST", "/app/one/two%20three?q=1&r=%20", &headers, b"the body"));
    let body = response.text();
    assert_eq!(response.status, 200, "{body}");
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert!(response.header("x-remuda-guest").is_some(), "{:?}", response.headers);
    for line in [
        "REQUEST_METHOD=POST",
        "SCRIPT_NAME=/app",
        "PATH_INFO=/one/two three",
        "QUERY_STRING=q=1&r=%20",
        "CONTENT_LENGTH=8",
        "CONTENT_TYPE=text/plain",
        "GATEWAY_INTERFACE=CGI/1.1",
        "SERVER_PROTOCOL=HTTP/1.1",
        "REMOTE_ADDR=127.0.0.1",
        "HTTP_X_CUSTOM=1",
    ] {
        assert!(body.lines().any(|found| found == line), "{line} is missing:\n{body}");
    }
    assert!(!body.contains("evil") && !body.contains("hidden"), "{body}");
    assert_eq!(get(&server.address, "/app?status=404").status, 404);
    let redirect = get(&server.address, "/app?redirect=/x");
    assert_eq!((redirect.status, redirect.header("location")), (302, Some("/x")));
    for query in ["bad=1", "empty=1"] {
        let response = get(&server.address, &format!("/app?{query}"));
        assert_eq!(response.status, 502, "{query}: {}", response.text());
        assert!(response.text().contains("CGI response is malformed"), "{}", response.text());
    }
}

#[test]
fn http2_without_tls_is_spoken_too() {
    use http_body_util::{BodyExt as _, Full};
    use hyper_util::client::legacy::{Client, connect::HttpConnector};
    use hyper_util::rt::TokioExecutor;

    let server = Server::start(
        r#"
        [[function]]
        name = "cat"
        module = "@guests/cat/cat.wasm"
        "#,
        &[],
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client: Client<HttpConnector, Full<bytes::Bytes>> =
            Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let uri: http::Uri = format!("http://{}/cat", server.address).parse().unwrap();
        let requests = (0..20).map(|i| {
            let (client, uri) = (client.clone(), uri.clone());
            tokio::spawn(async move {
                let body = format!("stream {i}");
                let request = http::Request::post(uri).body(Full::from(body.clone())).unwrap();
                let response = client.request(request).await.unwrap();
                assert_eq!((response.status(), response.version()), (http::StatusCode::OK, http::Version::HTTP_2));
                let answer = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(answer, body.as_bytes());
            })
        });
        for request in requests.collect::<Vec<_>>() {
            request.await.unwrap();
        }
    });
}

#[test]
fn what_cannot_be_served_is_said_before_the_socket_opens() {
    for (manifest, expected) in [
        ("", vec!["remuda.toml", "add a [[function]]"]),
        (
            "[[function]]\nname = \"a\"\nmodule = \"missing.wasm\"",
            vec!["function[0].module", "missing.wasm", "relative to"],
        ),
        (
            "[[function]]\nname = \"a\"\nmodule = \"remuda.toml\"",
            vec!["not a WebAssembly module", "is this the right file?"],
        ),
        (
            "[[function]]\nname = \"a\"\nmodule = \"@guests/noop/noop.wasm\"\nengines = [\"v8\"]",
            vec!["no engine named \"v8\"", "wasmtime.cranelift"],
        ),
        ("[[function]]\nname = \"a\"\nmodule = \"@guests/reactor/reactor.wasm\"", vec!["no `_start`", "counter"]),
        (
            "[[function]]\nname = \"a\"\nmodule = \"@guests/noop/noop.wasm\"\ntimeout = \"1s\"",
            vec!["unknown field `timeout`"],
        ),
    ] {
        let dir = folder(manifest);
        let out = output(remuda().args(["serve", "--no-data"]).arg(dir.path()), b"");
        let message = text(&out.stderr);
        assert_eq!(out.status.code(), Some(1), "{manifest}: {message}");
        for part in expected {
            assert!(message.contains(part), "{part:?} is not in the message for {manifest:?}:\n{message}");
        }
        assert!(out.stdout.is_empty(), "it did not get as far as listening");
    }
}

#[test]
fn the_reason_of_a_choice_is_told_to_who_asks() {
    let server = Server::start(CANNY, &["--engine", "wasmi.lazy"]);
    let response = receive(send(&server.address, "POST", "/canny", &[("x-remuda-explain", "1")], b""));
    assert_eq!(response.header("x-remuda-reason"), Some("asked for by name"));
    assert_eq!(post(&server.address, "/canny", b"").header("x-remuda-reason"), None);
}

/// Returns at once, unless its input begins with an `x`: then it runs for ever.
const FICKLE: &str = r#"
    (module
        (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
        (memory (export "memory") 1)
        (func (export "_start")
            (i32.store (i32.const 0) (i32.const 100))
            (i32.store (i32.const 4) (i32.const 1))
            (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
            (loop $again
                (br_if $again (i32.eq (i32.load8_u (i32.const 100)) (i32.const 120))))))
"#;

#[test]
fn a_guest_that_runs_away_where_it_arrived_holds_up_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fickle.wat");
    std::fs::write(&path, FICKLE).unwrap();
    // If the guest kept the thread of other connections, these would wait for an hour.
    let manifest = format!(
        "[server]\nworkers = 2\n[[function]]\nname = \"fickle\"\nmodule = {path:?}\nlimits = {{ timeout = \"1h\" }}\n"
    );
    for engine in ENGINES {
        let server = Server::start(&manifest, &["--engine", engine]);
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let mut connections: Vec<_> = (0..2 * threads).map(|_| Connection::open(&server.address)).collect();
        for connection in &mut connections {
            let runs_inline = |connection: &mut Connection| {
                let response = connection.post("/fickle", b"s");
                assert_eq!(response.status, 200, "{engine}: {}", response.text());
                !response.header("server-timing").unwrap().contains("queue;")
            };
            while !runs_inline(connection) {}
        }
        let mut runaway = connections.remove(0);
        runaway.send("/fickle", b"x");
        for connection in &mut connections {
            let response = connection.post("/fickle", b"s");
            assert_eq!(response.status, 200, "{engine}: {}", response.text());
        }
    }
}
