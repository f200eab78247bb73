//! Tests of where a server listens: Unix sockets, sockets from systemd, TLS, and a server that takes over from another.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use tempfile::TempDir;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::http::{Connection, Response, get, head, parse};
use crate::support::{Server, drain, folder, output, refused_to_serve, remuda, text};

const FUNCTIONS: &str = r#"
    [[function]]
    name = "cat"
    module = "@guests/cat/cat.wasm"
    [[function]]
    name = "cgi"
    route = "/cgi"
    abi = "cgi"
    module = "@guests/cgi/cgi.wasm"
    [[function]]
    name = "http"
    route = "/*"
    module = "@guests/http/http.wasm"
"#;

/// A folder with a manifest of these settings and functions.
fn deployment(settings: &str) -> Arc<TempDir> {
    Arc::new(folder(&format!("[server]\n{settings}\n{FUNCTIONS}")))
}

fn get_by(mut stream: impl Read + Write, path: &str) -> Response {
    stream.write_all(head("a.example", "GET", path, &[], 0).as_bytes()).expect("the server listens");
    let mut bytes = Vec::new();
    // A peer that closes without TLS's own goodbye has still sent everything.
    let _ = stream.read_to_end(&mut bytes);
    parse(&bytes)
}

#[test]
fn a_unix_socket_serves_and_leaves_no_file() {
    let dir = deployment("listen = [\"127.0.0.1:0\", \"unix:remuda.sock\"]");
    let path = dir.path().join("remuda.sock");
    // A server that was killed has left its file.
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let server = Server::start_in(&dir, None);
    assert_eq!(server.places.len(), 2, "{:?}", server.places);
    assert_eq!(server.places[1], format!("unix:{}", path.display()));
    assert_eq!(get(&server.address, "/hello").status, 200);

    let answer = get_by(UnixStream::connect(&path).unwrap(), "/cgi");
    for variable in ["REMOTE_ADDR=unix:", "SERVER_NAME=a.example", "SERVER_PORT=80"] {
        assert!(answer.text().lines().any(|line| line == variable), "{variable} is missing:\n{}", answer.text());
    }
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /request HTTP/1.0\r\n\r\n").unwrap();
    let answer = parse(&drain(stream));
    assert!(answer.text().contains("localhost"), "{}", answer.text());

    // A server that lives keeps its file.
    let out = output(remuda().args(["serve", "--no-data", "--listen"]).arg(&server.places[1]).arg(dir.path()), b"");
    assert_eq!(out.status.code(), Some(1));
    let message = text(&out.stderr);
    assert!(message.contains("cannot listen on unix:") && message.contains("--listen"), "{message}");
    assert_eq!(get_by(UnixStream::connect(&path).unwrap(), "/hello").status, 200);

    server.terminate();
    assert!(server.wait().success());
    assert!(!path.exists());
}

/// As systemd starts a service with sockets: they are open files 3 and up, and three variables tell of them.
#[test]
fn sockets_that_systemd_has_opened_are_served() {
    const START: &str = "exec 3<&0 4<&2 2>/dev/null </dev/null
        export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=web:local
        exec \"$@\"";
    let dir = deployment("listen = \"127.0.0.1:1\"");
    let (tcp, path) = (TcpListener::bind("127.0.0.1:0").unwrap(), dir.path().join("activated.sock"));
    let (address, unix) = (tcp.local_addr().unwrap(), UnixListener::bind(&path).unwrap());
    let notified = UnixDatagram::bind(dir.path().join("notify.sock")).unwrap();
    // The sockets listen before there is a server, so nobody who comes early is turned away.
    let early = TcpStream::connect(address).unwrap();

    let mut command = std::process::Command::new("sh");
    command.args(["-c", START, "sh"]).arg(env!("CARGO_BIN_EXE_remuda"));
    command.args(["serve", "--data-dir"]).arg(dir.path().join("data")).arg(dir.path());
    command.env("NOTIFY_SOCKET", dir.path().join("notify.sock"));
    command.stdin(Stdio::from(OwnedFd::from(tcp.try_clone().unwrap())));
    command.stderr(Stdio::from(OwnedFd::from(unix.try_clone().unwrap())));
    let server = Server::of(&mut command, Arc::clone(&dir));
    assert_eq!(server.places, [format!("http://{address}"), format!("unix:{}", path.display())]);
    let told = || {
        let mut bytes = [0; 256];
        let n = notified.recv(&mut bytes).unwrap();
        text(&bytes[..n])
    };
    assert_eq!(told().trim(), "READY=1");
    assert_eq!(get_by(early, "/hello").status, 200);
    assert_eq!(get_by(UnixStream::connect(&path).unwrap(), "/hello").status, 200);

    // It is systemd that has the sockets, so nobody else takes them over, and they outlive the server.
    let args = ["serve", "--take-over", &server.pid().to_string(), "--data-dir"];
    let out = output(remuda().args(args).arg(dir.path().join("data")).arg(dir.path()), b"");
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("systemd"), "{}", text(&out.stderr));
    server.terminate();
    assert_eq!(told().trim(), "STOPPING=1");
    assert!(server.wait().success());
    let late = TcpStream::connect(address).expect("the socket still listens");
    assert!(path.exists());
    let (mut next, _) = tcp.accept().unwrap();
    next.write_all(b"next").unwrap();
    drop(next);
    assert_eq!(drain(late), b"next");
}

/// Writes a new certificate for `localhost` and its key to a folder.
fn certify(dir: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.join("chain.pem"), made.cert.pem()).unwrap();
    std::fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

fn client(certificate: &CertificateDer<'static>, protocols: &[&str]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    Arc::new(config)
}

fn tls(address: &str, config: &Arc<ClientConfig>) -> StreamOwned<ClientConnection, TcpStream> {
    let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost").unwrap()).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).expect("the server listens"))
}

/// Whether a server has a certificate that such clients trust.
fn is_trusted(address: &str, config: &Arc<ClientConfig>) -> bool {
    let mut stream = tls(address, config);
    stream.write_all(head("localhost", "GET", "/hello", &[], 0).as_bytes()).is_ok()
}

#[test]
fn clients_that_speak_tls_are_served_with_the_certificate_as_it_is() {
    let dir = deployment(
        "listen = [\"127.0.0.1:0\", \"https://127.0.0.1:0\"]\ntls = { certificate = \"chain.pem\", key = \"key.pem\" }\n\
         client_timeout = \"1s\"",
    );
    let certificate = certify(dir.path());
    let server = Server::start_in(&dir, None);
    let address = server.places[1].strip_prefix("https://").expect("it is for TLS");
    let http1 = client(&certificate, &[]);

    // Guests know how their client came.
    let answer = get_by(tls(address, &http1), "/cgi");
    let port = address.rsplit(':').next().unwrap();
    for variable in ["HTTPS=on", "SERVER_PROTOCOL=HTTP/1.1", &format!("SERVER_PORT={port}")] {
        assert!(answer.text().lines().any(|line| line == variable), "{variable} is missing:\n{}", answer.text());
    }
    let answer = get_by(tls(address, &http1), "/request");
    assert!(answer.text().contains("https"), "{}", answer.text());
    let answer = get(&server.address, "/request");
    assert!(answer.text().contains("http") && !answer.text().contains("https"), "{}", answer.text());

    // HTTP/2 is agreed on while hands are shaken.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(client(&certificate, &["h2", "http/1.1"]));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("https://localhost/cgi").body(Empty::<Bytes>::new()).unwrap();
        let body = sender.send_request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        assert!(text(&body).contains("SERVER_PROTOCOL=HTTP/2.0"), "{}", text(&body));
    });

    // Clients that do not shake hands, or not in time, harm nobody.
    let mut silent = TcpStream::connect(address).unwrap();
    let mut plain = TcpStream::connect(address).unwrap();
    plain.write_all(head("localhost", "GET", "/hello", &[], 0).as_bytes()).unwrap();
    assert!(!text(&drain(plain)).contains("HTTP"), "what is plain is not answered");
    assert_eq!(silent.read(&mut [0]).unwrap_or(0), 0, "a client that says nothing is not waited for");

    // A certificate that cannot be used does not replace one that can.
    std::fs::write(dir.path().join("key.pem"), "no key").unwrap();
    server.signal(Signal::HUP);
    assert!(is_trusted(address, &http1));
    let renewed = client(&certify(dir.path()), &[]);
    server.signal(Signal::HUP);
    while !is_trusted(address, &renewed) {
        std::thread::yield_now();
    }
    // A client that has been here before may resume its session, which no certificate is needed for.
    assert!(!is_trusted(address, &client(&certificate, &[])));
}

/// A server's own process is within a wall. A certificate's folder is inside, and what it links to later is not.
#[test]
fn a_server_reaches_no_file_that_its_manifest_does_not_name() {
    for sandbox in [true, false] {
        let dir = deployment(&format!(
            "listen = \"https://127.0.0.1:0\"\ntls = {{ certificate = \"tls/chain.pem\", key = \"tls/key.pem\" }}\nsandbox = {sandbox}"
        ));
        let (tls, elsewhere) = (dir.path().join("tls"), tempfile::tempdir().unwrap());
        std::fs::create_dir(&tls).unwrap();
        certify(&tls);
        let log = dir.path().join("log");
        let mut command = remuda();
        command.args(["serve", "--data-dir"]).arg(dir.path().join("data")).arg(dir.path());
        let server = Server::of(command.stderr(std::fs::File::create(&log).unwrap()), Arc::clone(&dir));
        let log = || std::fs::read_to_string(&log).unwrap();
        let address = server.places[0].strip_prefix("https://").unwrap();

        // All of its threads are in it.
        for thread in std::fs::read_dir(format!("/proc/{}/task", server.pid())).unwrap() {
            let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
            for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
                assert_eq!(status.contains(line), sandbox, "{line}:\n{status}");
            }
        }
        let certificate = certify(elsewhere.path());
        for file in ["chain.pem", "key.pem"] {
            std::fs::remove_file(tls.join(file)).unwrap();
            std::os::unix::fs::symlink(elsewhere.path().join(file), tls.join(file)).unwrap();
        }
        server.signal(Signal::HUP);
        if sandbox {
            assert!(log().contains("the process keeps"), "{}", log());
            if log().contains("files_and_ports=\"only those in use\"") {
                while !log().contains("ermission denied") {
                    std::thread::yield_now();
                }
            }
        } else {
            while !is_trusted(address, &client(&certificate, &[])) {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn what_tls_needs_is_said_before_the_socket_opens() {
    let manifest = format!("[server]\ntls = {{ certificate = \"chain.pem\", key = \"key.pem\" }}\n{FUNCTIONS}");
    let message = refused_to_serve(&manifest);
    assert!(message.contains("chain.pem") && message.contains("server.tls"), "{message}");
    let dir = deployment("tls = { certificate = \"chain.pem\", key = \"other.pem\" }");
    certify(dir.path());
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("other.pem"), other.signing_key.serialize_pem()).unwrap();
    let out = output(remuda().args(["serve", "--no-data"]).arg(dir.path()), b"");
    assert!(!out.status.success() && text(&out.stderr).contains("other.pem"), "{}", text(&out.stderr));
    let out = output(
        remuda().args(["serve", "--no-data", "--listen", "https://127.0.0.1:0"]).arg(folder(FUNCTIONS).path()),
        b"",
    );
    assert!(!out.status.success() && text(&out.stderr).contains("no certificate"), "{}", text(&out.stderr));
}

/// A hundred thousand requests, on connections that are kept and on new ones, while servers take over from each other.
#[test]
fn no_request_is_lost_while_a_server_takes_over() {
    const REQUESTS: usize = 100_000;
    const CLIENTS: usize = 16;
    const TAKE_OVERS: usize = 3;
    let dir = deployment("listen = [\"127.0.0.1:0\", \"unix:remuda.sock\"]");
    let mut server = Server::start_in(&dir, None);
    let (address, places) = (server.address.clone(), server.places.clone());
    let (answered, closed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for i in 0..CLIENTS {
            let (address, answered, closed) = (&address, &answered, &closed);
            scope.spawn(move || {
                let mut connection = Connection::open(address);
                for n in 0..REQUESTS / CLIENTS {
                    let body = format!("{i}.{n}");
                    let response = connection.post("/cat", body.as_bytes());
                    assert_eq!((response.status, response.text()), (200, body));
                    answered.fetch_add(1, Ordering::Relaxed);
                    let is_last = response.header("connection") == Some("close");
                    closed.fetch_add(usize::from(is_last), Ordering::Relaxed);
                    if is_last || n % 100 == 99 {
                        connection = Connection::open(address);
                    }
                }
            });
        }
        for i in 1..=TAKE_OVERS {
            while answered.load(Ordering::Relaxed) < REQUESTS * i / (TAKE_OVERS + 1) {
                std::thread::yield_now();
            }
            // This request, and one that is sent after the take-over on a connection from before it, are answered by
            // the server that was there when it connected.
            let (address, path) = (address.clone(), dir.path().join("remuda.sock"));
            let slow = scope.spawn(move || get(&address, "/sleep/500").status);
            let mut idle = Connection::open(&server.address);
            assert_eq!(idle.post("/cat", b"first").text(), "first");
            let successor = Server::start_in(&dir, Some(&server));
            assert_eq!(successor.places, places);
            let response = idle.post("/cat", b"second");
            assert_eq!(response.text(), "second");
            // It may have been answered before the server knew of its successor. Such a connection stays open for a while.
            drop(idle);
            assert_eq!(get_by(UnixStream::connect(&path).unwrap(), "/hello").status, 200);
            assert_eq!(slow.join().unwrap(), 200);
            let predecessor = std::mem::replace(&mut server, successor);
            assert!(predecessor.wait().success());
        }
    });
    assert_eq!(answered.into_inner(), REQUESTS / CLIENTS * CLIENTS);
    assert!(closed.into_inner() > 0, "no connection was open during a take-over: nothing was tested");
    assert!(dir.path().join("remuda.sock").exists());
    assert_eq!(std::fs::read_dir(dir.path().join("data/serve")).unwrap().count(), 1, "control sockets are left");
}

#[test]
fn a_server_that_cannot_be_taken_over_goes_on() {
    let dir = deployment("listen = \"127.0.0.1:0\"");
    let server = Server::start_in(&dir, None);
    // The successor fails before it serves: its manifest has become wrong.
    let manifest = dir.path().join("remuda.toml");
    let right = std::fs::read_to_string(&manifest).unwrap();
    let take_over = |pid: u32| {
        let mut command = remuda();
        command.args(["serve", "--data-dir"]).arg(dir.path().join("data")).args(["--take-over", &pid.to_string()]);
        output(command.arg(dir.path()), b"")
    };
    std::fs::write(&manifest, format!("{right}\nnonsense = 1")).unwrap();
    assert_eq!(take_over(server.pid()).status.code(), Some(1));
    // It fails when it has the sockets already: another place where it should listen is taken.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let _holder = TcpListener::bind(taken).unwrap();
    let places = format!("listen = [\"127.0.0.1:0\", \"{taken}\"]");
    std::fs::write(&manifest, right.replace("listen = \"127.0.0.1:0\"", &places)).unwrap();
    let out = take_over(server.pid());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains(&taken.to_string()), "{}", text(&out.stderr));
    // There is no such server.
    std::fs::write(&manifest, right).unwrap();
    let out = take_over(std::process::id());
    assert_eq!(out.status.code(), Some(1));
    assert!(text(&out.stderr).contains("--take-over wants"), "{}", text(&out.stderr));
    // What somebody else says to the control socket is no take-over either.
    let control = dir.path().join(format!("data/serve/{}.sock", server.pid()));
    for words in ["", "nonsense\n", "{\"version\":2}\n"] {
        let mut stream = UnixStream::connect(&control).unwrap();
        stream.write_all(words.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = drain(stream);
    }
    assert_eq!(get(&server.address, "/hello").status, 200);
    let successor = Server::start_in(&dir, Some(&server));
    assert_eq!(get(&successor.address, "/hello").status, 200);
    assert!(server.wait().success());
}
