//! Tests of commands whose bodies flow while they run (`stream = true`), by `stdio` and by CGI, on every engine.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::http::{get, parse, post, send};
use crate::support::{Server, drain, engines, refused_to_serve};
use crate::wasi_http::{have_much_flow_through, read_until, unchunk};

const CAT: &str = r#"
    [[function]]
    name = "cat"
    module = "@guests/cat/cat.wasm"
    stream = true
"#;

/// A CGI program that says something for each line of its input, which it gets byte by byte. `!` makes it trap, `?` sleep for
/// an hour, and `$` exit with code 3. Its header comes in two pieces, and something is read between them.
const CGI: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 256) "Status: 201 Made\0aContent-Type: text/event-stream\0a\0adata: ")
    ;; A subscription to the monotonic clock, for 3,600 s.
    (data (i32.const 512) "\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\01\00\00\00\00\00\00\00\00\a0\b8\30\46\03\00\00")
    (func $write (param $at i32) (param $bytes i32)
        (i32.store (i32.const 0) (local.get $at))
        (i32.store (i32.const 4) (local.get $bytes))
        (if (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)) (then unreachable)))
    ;; The next byte of the input, or 0 at its end.
    (func $next (result i32)
        (i32.store (i32.const 0) (i32.const 128))
        (i32.store (i32.const 4) (i32.const 1))
        (if (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)) (then (call $proc_exit (i32.const 4))))
        (if (result i32) (i32.load (i32.const 8)) (then (i32.load8_u (i32.const 128))) (else (i32.const 0))))
    (func (export "_start") (local $byte i32)
        (call $write (i32.const 256) (i32.const 10))
        (drop (call $next))
        (call $write (i32.const 266) (i32.const 46))
        (loop $again
            (local.set $byte (call $next))
            (if (i32.eqz (local.get $byte)) (then (return)))
            (if (i32.eq (local.get $byte) (i32.const 33)) (then unreachable))
            (if (i32.eq (local.get $byte) (i32.const 36)) (then (call $proc_exit (i32.const 3))))
            (if (i32.eq (local.get $byte) (i32.const 63))
                (then (drop (call $poll_oneoff (i32.const 512) (i32.const 640) (i32.const 1) (i32.const 8)))))
            (call $write (i32.const 128) (i32.const 1))
            (br $again))))"#;

/// Serves [`CGI`], with these lines in its function.
fn serve_cgi(settings: &str, more: &str, args: &[&str]) -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let module = dir.path().join("cgi.wat");
    std::fs::write(&module, CGI).unwrap();
    let manifest = format!(
        "{more}\n[[function]]\nname = \"cgi\"\nmodule = {module:?}\nabi = \"cgi\"\nstream = true\n{settings}\n"
    );
    (Server::start(&manifest, args), dir)
}

/// A request whose body comes in chunks.
fn begin(server: &Server, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn send_chunk(stream: &mut TcpStream, bytes: &str) {
    stream.write_all(format!("{:x}\r\n{bytes}\r\n", bytes.len()).as_bytes()).unwrap();
}

#[test]
fn bodies_of_commands_flow_both_ways_at_once() {
    for engine in engines().iter().copied().chain(["auto"]) {
        let server = Server::start(CAT, &["--engine", engine]);
        let mut stream = begin(&server, "/cat");
        for i in 0..20 {
            let word = format!("word {i}.");
            send_chunk(&mut stream, &word);
            read_until(&mut stream, word.as_bytes());
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert!(drain(stream).ends_with(b"0\r\n\r\n"), "{engine}: the end comes");
        // What is there as a whole is answered as a whole.
        let whole = post(&server.address, "/cat", b"whole");
        assert_eq!((whole.text().as_str(), whole.header("content-length")), ("whole", Some("5")), "{engine}");
        assert_eq!(get(&server.address, "/cat").text(), "");
    }
}

#[test]
fn events_reach_a_client_while_a_cgi_program_waits_for_the_next() {
    for engine in engines().iter().copied().chain(["auto"]) {
        let (server, _dir) = serve_cgi("", "", &["--engine", engine]);
        let mut stream = begin(&server, "/cgi");
        for letter in ["x", "a", "b"] {
            send_chunk(&mut stream, letter);
            if letter == "x" {
                let head = read_until(&mut stream, b"data: ");
                let response = parse(&head);
                assert_eq!((response.status, response.header("content-type")), (201, Some("text/event-stream")));
                assert!(response.header("x-remuda-engine").is_some_and(|id| engine == "auto" || id == engine));
            } else {
                read_until(&mut stream, letter.as_bytes());
            }
        }
        stream.write_all(b"0\r\n\r\n").unwrap();
        assert!(drain(stream).ends_with(b"0\r\n\r\n"), "{engine}: the end comes");
    }
}

/// What is sent of a body whose guest fails must not look like the whole, however it fails; before anything is sent, a failure
/// has a status.
#[test]
fn a_command_that_fails_after_its_first_bytes_is_seen_to() {
    for engine in engines().iter().copied().chain(["auto"]) {
        let cat = CAT.to_owned() + "limits = { output = 200000 }";
        let (server, _dir) = serve_cgi("limits = { timeout = \"2s\" }", &cat, &["--engine", engine]);
        for (after, is_whole) in [("!", false), ("$", false), ("?", false), ("ok", true)] {
            let mut stream = begin(&server, "/cgi");
            send_chunk(&mut stream, "x");
            let begun = read_until(&mut stream, b"data: ");
            send_chunk(&mut stream, after);
            stream.write_all(b"0\r\n\r\n").unwrap();
            let mut bytes = begun;
            // A body that is broken off may end with a reset.
            let _ = stream.read_to_end(&mut bytes);
            let response = parse(&bytes);
            assert_eq!((response.status, unchunk(&response.body).2), (201, is_whole), "{engine} {after}");
        }
        assert_eq!(post(&server.address, "/cgi", b"x!").status, 500, "{engine}");
        // More than it may write.
        let long = "x".repeat(300_000);
        let mut stream = send(&server.address, "POST", "/cat", &[], long.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let response = parse(&bytes);
        assert!(response.status == 200 && !unchunk(&response.body).2, "{engine}: {}", response.status);
    }
}

#[test]
fn bodies_of_commands_may_be_larger_than_memory() {
    let server = Server::start(
        &(CAT.to_owned() + r#"limits = { timeout = "5min", output = "1GiB", body = "1GiB" }"#),
        &["--engine", "wasmtime.winch"],
    );
    assert_eq!(post(&server.address, "/cat", b"first").text(), "first");
    have_much_flow_through(&server, "/cat");
}

/// A client that reads nothing, or sends nothing, keeps its guest waiting, and nobody else's; and its guest ends when it
/// leaves.
#[test]
fn slow_clients_of_commands_keep_no_other_guest_from_running() {
    let more = "[server]\nworkers = 1\n".to_owned()
        + CAT
        + "limits = { timeout = \"1h\", output = \"1TiB\", body = \"1TiB\" }";
    let (server, _dir) = serve_cgi("limits = { timeout = \"2h\" }", &more, &[]);
    let mut slow = Vec::new();
    for i in 0..20 {
        let mut stream = begin(&server, if i % 2 == 0 { "/cat" } else { "/cgi" });
        send_chunk(&mut stream, if i % 4 == 3 { "x?" } else { "x" });
        read_until(&mut stream, b"\r\n\r\n");
        slow.push(stream);
    }
    // These take more than a client that reads nothing has room for.
    for stream in slow.iter().step_by(2) {
        let mut upload = stream.try_clone().unwrap();
        std::thread::spawn(move || {
            let block = "~".repeat(64 << 10);
            while upload.write_all(format!("10000\r\n{block}\r\n").as_bytes()).is_ok() {}
        });
    }
    for _ in 0..20 {
        assert_eq!(post(&server.address, "/cat", b"quick").text(), "quick");
    }
    for stream in slow {
        stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    server.terminate();
    assert!(server.wait().success());
}

#[test]
fn a_body_of_a_command_is_held_to_its_limit() {
    let server = Server::start(&(CAT.to_owned() + "limits = { body = \"2MiB\" }"), &[]);
    let block = "x".repeat(1 << 16);
    let mut stream = begin(&server, "/cat");
    let mut upload = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || {
        // The server may close before it has all of it.
        for _ in 0..100 {
            if upload.write_all(format!("10000\r\n{block}\r\n").as_bytes()).is_err() {
                break;
            }
        }
        let _ = upload.write_all(b"0\r\n\r\n");
    });
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    sender.join().unwrap();
    let response = parse(&bytes);
    assert!(response.status == 413 || !unchunk(&response.body).2, "{}", response.status);
}

#[test]
fn components_that_answer_http_stream_without_being_told_to() {
    let message =
        refused_to_serve("[[function]]\nname = \"http\"\nmodule = \"@guests/http/http.wasm\"\nstream = true\n");
    assert!(message.contains("leave `stream` out"), "{message}");
}
