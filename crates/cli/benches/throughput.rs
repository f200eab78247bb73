//! Measures the HTTP throughput of a function that does nothing, beside the same server's answers without any guest.
//!
//! The server runs as its users run it, as a process of its own; the client keeps a few connections busy. Rounds of all
//! targets are interleaved, and each target's ratio to the floor (answers without a guest) is taken within its round,
//! so that a noisy machine disturbs both alike. Prints Markdown.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The number of connections that are kept busy. Each has a thread in the client.
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);

/// A server to measure: the guest that does nothing on one engine, or no guest at all.
struct Target {
    label: &'static str,
    /// The engine; `None`: the path has no function, and the server answers by itself.
    engine: Option<&'static str>,
}

const TARGETS: &[Target] = &[
    Target { label: "no guest (404)", engine: None },
    Target { label: "mock", engine: Some("mock") },
    Target { label: "wasmtime.cranelift", engine: Some("wasmtime.cranelift") },
    Target { label: "wasmtime.winch", engine: Some("wasmtime.winch") },
    Target { label: "wasmer.singlepass", engine: Some("wasmer.singlepass") },
    Target { label: "wasmi.lazy", engine: Some("wasmi.lazy") },
    Target { label: "auto", engine: Some("auto") },
];

fn main() {
    let targets: Vec<(&Target, Server)> =
        TARGETS.iter().map(|target| (target, Server::start(target.engine.unwrap_or("mock")))).collect();
    let path = |target: &Target| if target.engine.is_some() { "/noop" } else { "/" };
    for (target, server) in &targets {
        measure(&server.address, path(target), ROUND);
    }
    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); targets.len()];
    for _ in 0..ROUNDS {
        for ((target, server), rates) in targets.iter().zip(&mut rates) {
            rates.push(measure(&server.address, path(target), ROUND));
        }
    }
    println!("| answered by | requests/s (median of {ROUNDS}) | share of the floor |\n|---|---|---|");
    for ((target, _), own) in targets.iter().zip(&rates) {
        let shares = own.iter().zip(&rates[0]).map(|(rate, floor)| rate / floor).collect();
        println!("| {} | {:.0} | {:.2} |", target.label, median(own.clone()), median(shares));
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures the number of requests answered per second.
fn measure(address: &str, path: &str, duration: Duration) -> f64 {
    let began = Instant::now();
    let answered: usize = std::thread::scope(|scope| {
        let connections: Vec<_> =
            (0..CONNECTIONS).map(|_| scope.spawn(|| keep_busy(address, path, began + duration))).collect();
        connections.into_iter().map(|connection| connection.join().expect("a connection works")).sum()
    });
    answered as f64 / began.elapsed().as_secs_f64()
}

fn keep_busy(address: &str, path: &str, until: Instant) -> usize {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP stream");
    let mut reader = BufReader::new(&stream);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut answered = 0;
    while Instant::now() < until {
        (&stream).write_all(request.as_bytes()).expect("the server reads");
        read_response(&mut reader);
        answered += 1;
    }
    answered
}

fn read_response(reader: &mut impl std::io::BufRead) {
    let mut body_bytes = 0;
    let mut line = String::new();
    loop {
        line.clear();
        assert!(reader.read_line(&mut line).expect("the server answers") > 0, "the server closed the connection");
        if let Some(length) = line.strip_prefix("content-length: ") {
            body_bytes = length.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    std::io::copy(&mut reader.take(body_bytes), &mut std::io::sink()).expect("the body is whole");
}

struct Server {
    child: Child,
    address: String,
    _dir: tempfile::TempDir,
}

impl Server {
    fn start(engine: &str) -> Self {
        let dir = tempfile::tempdir().expect("there is a temporary folder");
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/noop/noop.wasm");
        let manifest = format!("[[function]]\nname = \"noop\"\nmodule = {:?}\n", module.display().to_string());
        std::fs::write(dir.path().join("remuda.toml"), manifest).expect("it can be written");
        let mut child = Command::new(env!("CARGO_BIN_EXE_remuda"))
            .args(["serve", "--listen", "127.0.0.1:0", "--engine", engine, "--data-dir"])
            .arg(dir.path().join("data"))
            .arg(dir.path())
            .env("REMUDA_LOG", "error")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        stdout.read_line(&mut line).expect("it prints text");
        std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
        let address = line.trim().strip_prefix("listening on http://").expect("an address").to_owned();
        Self { child, address, _dir: dir }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
