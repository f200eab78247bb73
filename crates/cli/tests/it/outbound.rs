//! Tests of requests that components send: only where they may, within their limits, and to no address that a name should
//! not lead to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::http::get;
use crate::support::{Server, refused_to_serve};

/// A server for guests' requests, which answers each connection's first request in one way.
struct Upstream {
    port: u16,
    /// How many requests have come.
    requests: Arc<AtomicUsize>,
}

impl Upstream {
    fn start(answer: impl Fn(&mut TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::<AtomicUsize>::default();
        let (count, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (count, answer, mut stream) = (Arc::clone(&count), Arc::clone(&answer), stream.unwrap());
                std::thread::spawn(move || {
                    let mut head = [0; 1024];
                    // A client may connect and send nothing.
                    if stream.read(&mut head).is_ok_and(|n| n > 0) {
                        count.fetch_add(1, Ordering::SeqCst);
                        answer(&mut stream);
                    }
                });
            }
        });
        Self { port, requests }
    }

    /// One that answers 204.
    fn empty() -> Self {
        Self::start(|stream| {
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        })
    }

    /// One that answers with a body of so many bytes.
    fn of_bytes(bytes: usize) -> Self {
        Self::start(move |stream| {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n");
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'~'; bytes]));
        })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn manifest(outbound: &str) -> String {
    manifest_of("http", outbound)
}

fn manifest_of(component: &str, outbound: &str) -> String {
    format!(
        "[[function]]\nname = \"http\"\nroute = \"/*\"\nmodule = \"@guests/{component}/{component}.wasm\"\n\
         outbound = {{ {outbound} }}\n"
    )
}

/// Numbers of error codes of `wasi:http`.
const IP_PROHIBITED: &str = "error 4";
const REFUSED: &str = "error 6";
const READ_TIMEOUT: &str = "error 9";
const LIMIT_REACHED: &str = "error 11";
const CERTIFICATE: &str = "13";
const DENIED: &str = "error 15";

#[test]
fn requests_go_where_they_are_allowed_to_and_once() {
    let (allowed, other) = (Upstream::empty(), Upstream::empty());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let allow = format!(
        "allow = [\"http://127.0.0.1:{}\", \"http://localhost:{0}\", \"http://127.0.0.1:{nobody}\"]",
        allowed.port
    );
    for (component, fetch) in [("http", "/fetch/1/"), ("p3", "/fetch/")] {
        let server = Server::start(&manifest_of(component, &allow), &[]);
        for (authority, expected) in [
            (format!("127.0.0.1:{}", allowed.port), "status 204"),
            (format!("localhost:{}", allowed.port), "status 204"),
            (format!("127.0.0.1:{}", other.port), DENIED),
            (format!("[::1]:{}", allowed.port), DENIED),
            (format!("127.0.0.1:{nobody}"), REFUSED),
        ] {
            let response = get(&server.address, &format!("{fetch}{authority}"));
            assert_eq!(response.text(), expected, "{component} {authority}");
        }
        // Nothing is sent twice: such a function is not raced, and not tried on a thread where it could not wait.
        let before = allowed.requests();
        for i in 1..=300 {
            let path = format!("{fetch}127.0.0.1:{}", allowed.port);
            assert_eq!(get(&server.address, &path).text(), "status 204", "{component}");
            assert_eq!(allowed.requests(), before + i, "{component}");
        }
    }
    assert_eq!(other.requests(), 0);
}

/// Names that are allowed, and lead to this machine: a name's owner must not be able to have guests reach it.
#[test]
fn names_that_lead_to_this_machine_lead_nowhere() {
    let upstream = Upstream::empty();
    let names = ["127.1", "2130706433", "0x7f.1", "0"];
    let allow: Vec<String> = names.iter().map(|name| format!("\"http://{name}:{}\"", upstream.port)).collect();
    let server = Server::start(&manifest(&format!("allow = [{}]", allow.join(", "))), &[]);
    for name in names {
        let response = get(&server.address, &format!("/fetch/1/{name}:{}", upstream.port));
        assert_eq!(response.text(), IP_PROHIBITED, "{name}");
    }
    assert_eq!(upstream.requests(), 0);
}

#[test]
fn each_limit_on_requests_is_kept() {
    let (upstream, large) = (Upstream::empty(), Upstream::of_bytes(200_000));
    let silent = Upstream::start(|stream| drop(stream.read(&mut [0])));
    let server = Server::start(
        &manifest(&format!(
            "allow = [\"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\", \"http://127.0.0.1:{}\"], requests = 3, \
             timeout = \"300ms\", body = \"100KiB\"",
            upstream.port, large.port, silent.port
        )),
        &[],
    );
    let get = |path: &str| get(&server.address, path);
    assert_eq!(get(&format!("/fetch/3/127.0.0.1:{}", upstream.port)).text(), "status 204");
    assert_eq!(get(&format!("/fetch/4/127.0.0.1:{}", upstream.port)).text(), LIMIT_REACHED);
    assert_eq!(get(&format!("/fetch/1/127.0.0.1:{}", silent.port)).text(), READ_TIMEOUT);
    // The guest traps on a body that is broken off.
    let relayed = get(&format!("/relay/http/127.0.0.1:{}", large.port));
    assert!(relayed.status == 500 || relayed.body.len() < 200_000, "{}", relayed.status);
}

#[test]
fn bodies_flow_from_one_server_to_the_next() {
    let upstream = Upstream::of_bytes(5_000_000);
    let server = Server::start(&manifest(&format!("allow = [\"http://127.0.0.1:{}\"]", upstream.port)), &[]);
    let relayed = get(&server.address, &format!("/relay/http/127.0.0.1:{}", upstream.port));
    let received: usize = relayed.body.iter().map(|byte| usize::from(*byte == b'~')).sum();
    assert_eq!((relayed.status, received), (200, 5_000_000));
}

#[test]
fn servers_are_known_by_their_certificates() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = tokio_rustls::rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = tokio_rustls::rustls::StreamOwned::new(tls, stream.unwrap());
            // A client that does not trust the certificate leaves.
            if stream.read(&mut [0; 1024]).is_ok() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret");
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    });
    let allow = format!("allow = [\"https://localhost:{port}\"]");
    let path = format!("/relay/https/localhost:{port}");

    let server = Server::start(&manifest(&allow), &[]);
    let response = get(&server.address, &path);
    assert!(response.status == 599 && response.text().contains(CERTIFICATE), "{}", response.text());

    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    std::fs::write(&pem, made.cert.pem()).unwrap();
    let server = Server::start(&manifest(&format!("{allow}, certificates = {pem:?}")), &[]);
    let response = get(&server.address, &path);
    assert!(response.status == 200 && response.text().contains("secret"), "{}", response.text());
}

#[test]
fn only_components_can_be_allowed_to() {
    let manifest = manifest("allow = []").replace("http/http.wasm", "hello/hello.wasm");
    let message = refused_to_serve(&manifest);
    assert!(message.contains("core module, which can send no requests"), "{message}");
}
