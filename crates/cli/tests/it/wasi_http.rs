//! Tests of components that answer HTTP requests (`wasi:http` 0.2 and 0.3). What clients get is held against what
//! `wasmtime serve` answered to the same requests for the same component, which stands in `wasi_http/*.json`:
//!
//!     REMUDA_RECORD=path/to/wasmtime cargo test --release -p remuda --test it answers_are_those_of_wasmtime
//!
//! writes it anew.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::http::{Connection, get, head, parse, post, send};
use crate::support::{COMPONENT_ENGINES, Server, drain, guest, output, refused_to_serve, remuda, text};

/// The components that answer: of WASI 0.2 and of 0.3.
const COMPONENTS: [&str; 2] = ["http", "p3"];

/// A function that is one of these components; settings of the function can follow.
fn function(component: &str) -> String {
    format!("[[function]]\nname = \"http\"\nroute = \"/*\"\nmodule = \"@guests/{component}/{component}.wasm\"\n")
}

/// Each component with each of these engines.
fn each(engines: &[&'static str]) -> Vec<(&'static str, &'static str)> {
    COMPONENTS.iter().flat_map(|component| engines.iter().map(|engine| (*component, *engine))).collect()
}

/// The engines that run components, and all of them at once.
const ONE_AND_ALL: [&str; 3] = [COMPONENT_ENGINES[0], COMPONENT_ENGINES[1], "auto"];

/// The file with what `wasmtime serve` answered for a component.
fn record_of(component: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/wasi_http").join(format!("{component}.json"))
}

/// What a client got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Got {
    /// The request's first line and what is special about the request.
    request: String,
    /// The status; 0 if the connection was closed without an answer.
    pub(crate) status: u16,
    /// The header fields, without those that every server sets as it likes.
    headers: Vec<(String, String)>,
    /// The body, or its length if it is long.
    pub(crate) body: String,
    trailers: Vec<(String, String)>,
    /// Whether the body was there to its end.
    pub(crate) is_whole: bool,
}

/// The requests, with words for them if the first line does not say all.
fn requests() -> Vec<(String, String)> {
    let plain = |line: &str| {
        let request = format!("{line} HTTP/1.1\r\nhost: a.example:81\r\nte: trailers\r\nconnection: close\r\n\r\n");
        (line.to_owned(), request)
    };
    let mut requests: Vec<(String, String)> = [
        "GET /hello",
        "HEAD /hello",
        "GET /request?a=b%20c&d",
        "OPTIONS /request",
        "BREW /request",
        "GET /status/201",
        "GET /status/204",
        "GET /status/304",
        "GET /status/404",
        "GET /status/599",
        "GET /status/101",
        "GET /bytes/0",
        "GET /bytes/10",
        "GET /bytes/1000000",
        "GET /length/6",
        "GET /length/5",
        "GET /length/7",
        "GET /no-body/0",
        "HEAD /no-body/6",
        "GET /trailers",
        "GET /fields",
        "GET /count",
        "GET /nothing",
        "GET /error",
        "GET /trap",
        "GET /trap-midway",
        "GET /trap-afterwards",
        "GET /abort",
        "GET /leak",
        "GET /sleep/5",
        "GET /unknown",
    ]
    .map(plain)
    .into();
    requests.extend(
        [
            ("with fields", "GET /request HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\nx-a: 1\r\nX-B: 2\r\nx-a: 3\r\nx-c: \r\n\r\n"),
            ("with the target's authority", "GET http://b.example/request HTTP/1.1\r\nhost: a.example\r\nconnection: close\r\n\r\n"),
            ("with fields of the connection", "GET /request HTTP/1.1\r\nhost: a.example\r\nconnection: close, x-mine\r\nx-mine: 1\r\nkeep-alive: timeout=5\r\nproxy-authorization: Basic eA==\r\nupgrade: h2c\r\n\r\n"),
            ("with a body", "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"),
            ("with an empty body", "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"),
            ("with a body in pieces", "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"),
            ("with trailers", "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\nte: trailers\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n"),
            ("with a body that nobody reads", "POST /hello HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"),
        ]
        .map(|(words, request)| (words.to_owned(), request.to_owned())),
    );
    requests
}

fn ask(address: &str, (words, request): &(String, String)) -> Got {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(request.as_bytes()).expect("it takes the request");
    let bytes = drain(stream);
    let mut got = Got {
        request: words.clone(),
        status: 0,
        headers: Vec::new(),
        body: String::new(),
        trailers: Vec::new(),
        is_whole: false,
    };
    if bytes.is_empty() {
        return got;
    }
    let response = parse(&bytes);
    got.status = response.status;
    let is_chunked = response.header("transfer-encoding") == Some("chunked");
    let length: Option<usize> = response.header("content-length").and_then(|length| length.parse().ok());
    let has_body = !request.starts_with("HEAD ") && ![204, 304].contains(&response.status);
    let body = if is_chunked && has_body {
        let (body, trailers, is_whole) = unchunk(&response.body);
        (got.trailers, got.is_whole) = (trailers, is_whole);
        body
    } else {
        got.is_whole = !has_body || length.is_none_or(|length| length == response.body.len());
        response.body.clone()
    };
    let is_own = |name: &str| {
        ["date", "transfer-encoding", "connection", "server-timing"].contains(&name) || name.starts_with("x-remuda-")
    };
    // With a body that is there, its length says nothing new; and not every server knows it beforehand.
    let is_clear = |name: &str| name == "content-length" && has_body && length == Some(body.len());
    got.headers = response.headers.into_iter().filter(|(name, _)| !is_own(name) && !is_clear(name)).collect();
    got.body = if body.len() > 1000 { format!("{} bytes", body.len()) } else { text(&body) };
    if request.contains("/request") {
        // The order of fields means nothing, but for those of the same name.
        let mut lines: Vec<&str> = got.body.lines().collect();
        lines.get_mut(2..).unwrap_or_default().sort_by_key(|line| line.split(':').next());
        got.body = lines.join("\n");
    }
    got
}

/// What a client gets that only asks for a path.
pub(crate) fn ask_for(address: &str, path: &str) -> Got {
    ask(address, &(path.to_owned(), head(address, "GET", path, &[], 0)))
}

/// A body in the chunked coding: its bytes, its trailer fields, and whether its end was there.
pub(crate) fn unchunk(mut coded: &[u8]) -> (Vec<u8>, Vec<(String, String)>, bool) {
    let mut body = Vec::new();
    let line = |coded: &mut &[u8]| {
        let end = coded.windows(2).position(|window| window == b"\r\n")?;
        let line = text(&coded[..end]);
        *coded = &coded[end + 2..];
        Some(line)
    };
    loop {
        let Some(size) = line(&mut coded).and_then(|size| usize::from_str_radix(&size, 16).ok()) else {
            return (body, Vec::new(), false);
        };
        if size == 0 {
            break;
        }
        let Some((chunk, rest)) = coded.split_at_checked(size) else { return (body, Vec::new(), false) };
        body.extend_from_slice(chunk);
        coded = rest.strip_prefix(b"\r\n").unwrap_or_default();
    }
    let mut trailers = Vec::new();
    while let Some(field) = line(&mut coded) {
        let Some((name, value)) = field.split_once(": ") else { return (body, trailers, field.is_empty()) };
        trailers.push((name.to_owned(), value.to_owned()));
    }
    (body, trailers, false)
}

/// The requests that Remuda answers otherwise, and the status and the first words of its answer.
const OTHERWISE: [(&str, u16, &str); 11] = [
    // Faults of a function get 502, as with CGI, and say what is wrong.
    ("GET /status/101", 502, "the function gave no valid response: the status is not a final one"),
    ("GET /length/5", 502, "the function gave no valid response: it broke off"),
    ("GET /length/7", 502, "the function gave no valid response: it broke off"),
    ("GET /nothing", 502, "the function gave no valid response: it ended without one"),
    ("GET /error", 502, "the function gave no valid response: it answered with an error: "),
    ("GET /abort", 502, "the function gave no valid response: it broke off"),
    ("GET /trap", 500, "the function trapped: unreachable"),
    // The client of `wasmtime serve` takes what has come for the whole body.
    ("GET /trap-midway", 500, "the function trapped: unreachable"),
    // What Connection names goes no further.
    ("with fields of the connection", 200, "GET /request\nhttp://a.example"),
    // Trailers reach the client of HTTP/1.1 also if the guest has not announced them.
    ("with trailers", 200, "hello"),
    // The length of what a GET would have got is known.
    ("HEAD /hello", 200, ""),
];

/// What is different with WASI 0.3.
const OTHERWISE_P3: [(&str, u16, &str); 8] = [
    // The guest is told the scheme and the authority.
    ("GET /request?a=b%20c&d", 200, "GET /request?a=b%20c&d\nhttp://a.example:81"),
    ("OPTIONS /request", 200, "OPTIONS /request\nhttp://a.example:81"),
    ("BREW /request", 200, "BREW /request\nhttp://a.example:81"),
    ("with fields", 200, "GET /request\nhttp://a.example"),
    // As above.
    ("HEAD /no-body/6", 404, ""),
    // Instances are not used again, unless the manifest says so.
    ("GET /count", 200, "1"),
    // The component model does not let an asynchronous function end without a result.
    ("GET /nothing", 500, "the function trapped"),
    // The library notices what is too long, and not what is too short.
    ("GET /length/7", 502, "the function gave no valid response: the Content-Length is not the length of the body"),
];

#[test]
fn answers_are_those_of_wasmtime() {
    let requests = requests();
    for component in COMPONENTS {
        if let Some(program) = std::env::var_os("REMUDA_RECORD") {
            record(Path::new(&program), component, &requests);
        }
        let recorded = std::fs::read(record_of(component)).expect("it is recorded");
        let recorded: Vec<Got> = serde_json::from_slice(&recorded).expect("as JSON");
        assert_eq!(recorded.len(), requests.len(), "the requests have changed: record them anew");
        for engine in COMPONENT_ENGINES {
            let server = Server::start(&function(component), &["--engine", engine]);
            for (request, recorded) in requests.iter().zip(&recorded) {
                let got = ask(&server.address, request);
                let otherwise = OTHERWISE.iter().chain(if component == "p3" { &OTHERWISE_P3[..] } else { &[] });
                match otherwise.rev().find(|(words, ..)| *words == request.0) {
                    None => assert_eq!(got, *recorded, "{component} {engine}"),
                    Some((_, status, begins)) => {
                        assert_eq!(got.status, *status, "{component} {engine}: {got:?}");
                        assert!(got.body.starts_with(begins) && got.is_whole, "{component} {engine}: {got:?}");
                        assert_ne!(got, *recorded, "it is the same answer");
                    }
                }
            }
        }
    }
}

/// Asks a `wasmtime serve`, and writes its answers down.
fn record(program: &Path, component: &str, requests: &[(String, String)]) {
    let mut child = Command::new(program)
        .args(["serve", "-Scli,p3", "-Wcomponent-model-async", "--addr", "127.0.0.1:0"])
        .arg(guest(&format!("{component}/{component}.wasm")))
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("it was piped"));
    let mut line = String::new();
    stderr.read_line(&mut line).expect("it prints text");
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    let address = line.trim().strip_prefix("Serving HTTP on http://").expect("it listens").trim_end_matches('/');
    let got: Vec<Got> = requests.iter().map(|request| ask(address, request)).collect();
    child.kill().and_then(|()| child.wait()).expect("it ends");
    let text = serde_json::to_string_pretty(&got).expect("it is JSON") + "\n";
    std::fs::write(record_of(component), text).expect("it can be written");
}

#[test]
fn handlers_are_held_to_their_limits() {
    for (component, engine) in each(&COMPONENT_ENGINES) {
        let manifest = function(component)
            + r#"limits = { timeout = "400ms", output = "32KiB", body = "1KiB", memory = "10MiB" }"#;
        let server = Server::start(&manifest, &["--engine", engine]);
        let address = &server.address;
        // The first request waits for the compiler.
        assert_eq!(get(address, "/hello").status, 200);
        for (path, status, words) in [
            ("/spin", 504, "in time"),
            ("/sleep/60000", 504, "in time"),
            ("/bytes/32768", 200, ""),
            ("/bytes/32769", 502, "output limit"),
            ("/bytes/99999999999", 502, "output limit"),
            ("/hoard", 500, "trapped"),
            // The answer was complete before.
            ("/spin-afterwards", 200, "hello"),
            ("/sleep-afterwards/60000", 200, "hello"),
            ("/hello", 200, "hello"),
        ] {
            let response = get(address, path);
            assert_eq!(response.status, status, "{component} {engine} {path}: {}", response.text());
            assert!(response.text().contains(words), "{component} {engine} {path}: {}", response.text());
        }
        assert_eq!(post(address, "/echo", &[b'x'; 1024]).body.len(), 1024);
        assert_eq!(post(address, "/echo", &[b'x'; 1025]).status, 413);
    }
}

/// Reads until `bytes` have come, or the connection ends.
pub(crate) fn read_until(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    while !read.windows(bytes.len()).any(|window| window == bytes) {
        let n = stream.read(&mut buffer).expect("the server answers");
        assert!(n > 0, "it has closed after {:?}", text(&read));
        read.extend_from_slice(&buffer[..n]);
    }
    read
}

/// Each side waits for what the other one sends: nothing is held back on either way, also in a race.
#[test]
fn bodies_flow_both_ways_at_once() {
    for (component, engine) in each(&ONE_AND_ALL) {
        let server = Server::start(&function(component), &["--engine", engine]);
        let mut stream = TcpStream::connect(&server.address).unwrap();
        let head = "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes()).unwrap();
        for i in 0..20 {
            let word = format!("word {i}.");
            stream.write_all(format!("{:x}\r\n{word}\r\n", word.len()).as_bytes()).unwrap();
            read_until(&mut stream, word.as_bytes());
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert!(drain(stream).ends_with(b"0\r\n\r\n"), "{component} {engine}: the end comes");
    }
}

/// The resident memory of a process, in bytes.
pub(crate) fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Sends a body of 300 MiB to a guest that sends it back, and looks how much of it the server holds meanwhile.
pub(crate) fn have_much_flow_through(server: &Server, path: &str) {
    const BYTES: usize = 300 << 20;
    let before = resident_bytes(server.pid());
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(head(&server.address, "POST", path, &[], BYTES).as_bytes()).unwrap();
    let mut upload = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        let block = vec![b'~'; 64 << 10];
        for _ in 0..BYTES / block.len() {
            upload.write_all(&block).unwrap();
        }
    });
    let (mut received, mut more_max) = (0, 0);
    let mut block = vec![0; 1 << 20];
    loop {
        let n = stream.read(&mut block).unwrap();
        if n == 0 {
            break;
        }
        received += block[..n].iter().map(|byte| usize::from(*byte == b'~')).sum::<usize>();
        more_max = more_max.max(resident_bytes(server.pid()).saturating_sub(before));
    }
    sender.join().unwrap();
    assert_eq!(received, BYTES);
    assert!(more_max < (BYTES / 4) as u64, "the server held {more_max} bytes");
}

#[test]
fn bodies_larger_than_memory_flow_through() {
    for component in COMPONENTS {
        let manifest = function(component) + r#"limits = { timeout = "5min", output = "1GiB", body = "1GiB" }"#;
        let server = Server::start(&manifest, &[]);
        assert_eq!(get(&server.address, "/hello").status, 200);
        have_much_flow_through(&server, "/echo");
        if component == "p3" {
            // Without any task of the guest that moves its bytes.
            have_much_flow_through(&server, "/through");
        }
    }
}

/// What is sent of a body whose guest fails must not look like the whole.
#[test]
fn a_body_that_ends_early_is_seen_to() {
    for (component, engine) in each(&ONE_AND_ALL) {
        let manifest = function(component) + r#"limits = { timeout = "500ms", output = "1MiB" }"#;
        let server = Server::start(&manifest, &["--engine", engine]);
        assert_eq!(get(&server.address, "/hello").status, 200);
        for (path, is_whole, body) in [
            // It traps.
            ("/trap-after/400000", false, " bytes"),
            // It writes more than it may.
            ("/bytes/99999999", false, " bytes"),
            // Its time is up.
            ("/sleep-midway/60000", false, "hel"),
            ("/sleep-midway/10", true, "hello\n"),
            ("/bytes/1000000", true, "1000000 bytes"),
        ] {
            let got = ask_for(&server.address, path);
            assert_eq!((got.status, got.is_whole), (200, is_whole), "{component} {engine} {got:?}");
            assert!(got.body.ends_with(body), "{component} {engine} {got:?}");
        }
    }
}

/// A guest stops when its client leaves in the middle of the response: else the server would wait for it in the end.
#[test]
fn a_guest_whose_client_leaves_midway_is_stopped() {
    for component in COMPONENTS {
        let manifest = function(component) + r#"limits = { timeout = "1h", output = "1TiB" }"#;
        let server = Server::start(&manifest, &[]);
        for path in ["/bytes/999999999999", "/sleep-midway/9999999"] {
            let mut stream = send(&server.address, "GET", path, &[], b"");
            read_until(&mut stream, b"\r\n\r\n");
        }
        server.terminate();
        assert!(server.wait().success());
    }
}

/// A client that reads nothing keeps its guest waiting, and nobody else's.
#[test]
fn slow_clients_keep_no_other_guest_from_running() {
    let manifest = "[server]\nworkers = 1\ninline = false\n".to_owned()
        + &function("http")
        + r#"limits = { timeout = "1h", output = "1TiB" }"#;
    let server = Server::start(&manifest, &[]);
    let slow: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = send(&server.address, "GET", "/bytes/999999999999", &[], b"");
            read_until(&mut stream, b"\r\n\r\n");
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(&server.address, "/hello").text(), "hello\n");
    }
    drop(slow);
    server.terminate();
    assert!(server.wait().success());
}

/// A guest whose time is up while it waits needs no place to end in.
#[test]
fn a_guest_that_waits_ends_in_time_although_others_run() {
    let manifest = "[server]\nworkers = 1\ninline = false\n".to_owned()
        + &function("http")
        + r#"
            limits = { timeout = "500ms" }
            [[function]]
            name = "spin"
            module = "@guests/spin/spin.wasm"
            limits = { timeout = "30s" }
        "#;
    let server = Server::start(&manifest, &[]);
    let mut waits = send(&server.address, "GET", "/sleep-midway/60000", &[], b"");
    read_until(&mut waits, b"\r\n\r\n");
    let mut runs = send(&server.address, "GET", "/spin", &[], b"");
    drain(waits);
    runs.set_nonblocking(true).unwrap();
    let still_runs = runs.read(&mut [0]).unwrap_err();
    assert_eq!(still_runs.kind(), std::io::ErrorKind::WouldBlock);
}

/// A body that comes piece by piece is held to the same limit as others.
#[test]
fn a_body_that_turns_out_too_large_is_refused() {
    let manifest = function("http") + r#"limits = { body = "2MiB" }"#;
    let server = Server::start(&manifest, &[]);
    let body = |chunks: usize| {
        let chunk = "x".repeat(1 << 16);
        let head = "POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
        head.to_owned() + &format!("10000\r\n{chunk}\r\n").repeat(chunks) + "0\r\n\r\n"
    };
    let got = ask(&server.address, &("32".into(), body(32)));
    assert_eq!((got.status, got.body.as_str(), got.is_whole), (200, "2097152 bytes", true));
    let mut stream = TcpStream::connect(&server.address).unwrap();
    // The server may close before it has all of it.
    let mut upload = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || drop(upload.write_all(body(100).as_bytes())));
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    sender.join().unwrap();
    let response = parse(&bytes);
    // By then, the guest may have answered with the beginning.
    let (_, _, is_whole) = unchunk(&response.body);
    assert!(response.status == 413 || !is_whole, "{}", response.status);
}

/// A request that waits must not do so on a thread that serves connections.
#[test]
fn a_handler_that_waits_is_answered_also_where_it_may_not_wait() {
    for component in COMPONENTS {
        let server = Server::start(&function(component), &[]);
        let mut connection = Connection::open(&server.address);
        for i in 0..2000 {
            // Most are short and the same; one in a hundred waits.
            let path = if i % 100 == 99 { "/sleep/2" } else { "/hello" };
            let response = connection.post(path, b"");
            assert_eq!((response.status, response.text().as_str()), (200, "hello\n"), "{component} {i}");
        }
    }
}

#[test]
fn each_request_has_an_instance_of_its_own() {
    for component in COMPONENTS {
        let server = Server::start(&function(component), &[]);
        let mut connection = Connection::open(&server.address);
        for _ in 0..500 {
            assert_eq!(connection.post("/count", b"").text(), "1", "{component}");
        }
    }
}

/// An operator may allow instances to be used again: as often as that, and not after the guest has failed.
#[test]
fn instances_are_used_again_if_that_is_allowed() {
    let manifest = |component: &str, reuse: &str| {
        function(component) + &format!("reuse = {{ {reuse} }}\nlimits = {{ timeout = \"1s\" }}")
    };
    for (component, engine) in each(&ONE_AND_ALL) {
        let server = Server::start(&manifest(component, "uses = 5"), &["--engine", engine]);
        let mut connection = Connection::open(&server.address);
        let counts: Vec<u64> = (0..200).map(|_| connection.post("/count", b"").text().parse().unwrap()).collect();
        assert!(counts.iter().all(|count| (1..=5).contains(count)), "{component} {engine}: {counts:?}");
        assert!(counts.iter().filter(|count| **count > 1).count() > 100, "{component} {engine}: {counts:?}");
        // What ends badly is not used again, nor what has left its response open.
        for path in ["/trap", "/trap-afterwards", "/spin-afterwards", "/abort", "/leak", "/nothing"] {
            get(&server.address, path);
            let ended = get(&server.address, "/hello");
            assert_eq!((ended.status, ended.text().as_str()), (200, "hello\n"), "{component} {engine} {path}");
        }
    }
    // A guest that has used up what an instance may hold gets a new one.
    let server = Server::start(&manifest("http", "uses = 1000000"), &[]);
    let mut connection = Connection::open(&server.address);
    let counts: Vec<u64> = (0..2000).map(|_| connection.post("/count", b"").text().parse().unwrap()).collect();
    assert!(counts.iter().any(|count| *count > 50) && counts.iter().all(|count| *count < 1500), "{counts:?}");
}

#[test]
fn a_handler_sends_no_requests_by_itself() {
    for (component, path) in [("http", "/fetch/1/"), ("p3", "/fetch/")] {
        let server = Server::start(&function(component), &[]);
        // 15: HTTP-request-denied.
        assert_eq!(get(&server.address, &format!("{path}{}", server.address)).text(), "error 15", "{component}");
    }
}

#[test]
fn modules_are_served_as_their_exports_have_it() {
    let refused = |abi: &str, module: &str| {
        refused_to_serve(&format!("[[function]]\nname = \"f\"\nmodule = \"@guests/{module}\"\n{abi}"))
    };
    let message = refused("abi = \"http\"", "hello/hello.wasm");
    assert!(message.contains("core module") && message.contains("abi = \"stdio\""), "{message}");
    let message = refused("abi = \"stdio\"", "http/http.wasm");
    assert!(message.contains("wasi:cli/run") && message.contains("answers HTTP requests"), "{message}");
    let message = refused("reuse = {}", "hello/hello.wasm");
    assert!(message.contains("cannot be used again") && message.contains("leave `reuse` out"), "{message}");
    let out = output(remuda().args(["run", "--no-data"]).arg(guest("http/http.wasm")), b"");
    assert!(text(&out.stderr).contains("remuda serve"), "{}", text(&out.stderr));
}
