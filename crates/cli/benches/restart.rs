//! Measures the first answer after a restart beside the second: `remuda serve` runs twice on one data directory.
//!
//! The server runs as its users run it, as a process of its own. The first server is called until it knows the function
//! and has the artifacts on disk. Then it is stopped, and another one is started in its place, which gets requests over
//! one connection that stays open. Each round has a data directory of its own. Prints Markdown.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

const ROUNDS: usize = 11;
/// The number of requests to the first server.
const REQUESTS_BEFORE: usize = 100;
/// The number of requests to the second server. The median of those after the second request is the function's usual
/// time.
const REQUESTS_AFTER: usize = 20;

struct Workload {
    name: &'static str,
    /// The module's file below `guests/`.
    module: &'static str,
    /// The file with the request's body, below `guests/`; empty: no body.
    body: &'static str,
}

const WORKLOADS: &[Workload] = &[
    Workload { name: "noop", module: "noop/noop.wasm", body: "" },
    Workload { name: "hello", module: "hello/hello.wasm", body: "hello/input/name.txt" },
    Workload { name: "lenet", module: "lenet/lenet.wasm", body: "lenet/input/digit.pgm" },
    Workload { name: "canny", module: "canny/canny.wasm", body: "canny/input/camera.png" },
];

fn main() {
    println!("| function | first, ms | second, ms | later, ms | first / second | least and most |");
    println!("|---|---:|---:|---:|---:|---|");
    for workload in WORKLOADS {
        let rounds: Vec<Vec<f64>> = (0..ROUNDS).map(|_| round(workload)).collect();
        let median_of = |at: usize| median(rounds.iter().map(|round| round[at]).collect());
        let later = median(rounds.iter().map(|round| median(round[2..].to_vec())).collect());
        let ratios: Vec<f64> = rounds.iter().map(|round| round[0] / round[1]).collect();
        let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let most = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "| {} | {:.3} | {:.3} | {later:.3} | {:.2} | {least:.2} to {most:.2} |",
            workload.name,
            median_of(0),
            median_of(1),
            median(ratios.clone()),
        );
    }
}

/// Measures one round. Returns how long each request to the second server took, in milliseconds.
fn round(workload: &Workload) -> Vec<f64> {
    let dir = tempfile::tempdir().expect("there is a temporary folder");
    let name = workload.name;
    let manifest = format!("[[function]]\nname = {name:?}\nmodule = {:?}\n", guests().join(workload.module));
    std::fs::write(dir.path().join("remuda.toml"), manifest).expect("it can be written");
    let body = match workload.body {
        "" => Vec::new(),
        path => std::fs::read(guests().join(path)).expect("the guest has its input"),
    };
    let before = Server::start(dir.path());
    ask(&before.address, name, &body, REQUESTS_BEFORE);
    before.stop();
    let after = Server::start(dir.path());
    let took = ask(&after.address, name, &body, REQUESTS_AFTER);
    after.stop();
    took
}

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests").canonicalize().expect("the suite is there")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Sends requests one after the other on one connection. Returns how long each answer took, in milliseconds.
fn ask(address: &str, name: &str, body: &[u8], requests: usize) -> Vec<f64> {
    let stream = TcpStream::connect(address).expect("the server listens");
    stream.set_nodelay(true).expect("a TCP stream");
    let mut reader = BufReader::new(&stream);
    let mut request =
        format!("POST /{name} HTTP/1.1\r\nhost: {address}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    request.extend_from_slice(body);
    let show = std::env::var_os("VERBOSE").is_some();
    (0..requests)
        .map(|i| {
            let began = Instant::now();
            (&stream).write_all(&request).expect("the server reads");
            let head = read_response(&mut reader);
            let took_ms = began.elapsed().as_secs_f64() * 1e3;
            if show && i < 3 {
                eprintln!("{name} {i}: {took_ms:.3} ms\n{head}");
            }
            took_ms
        })
        .collect()
}

/// Reads a response, and returns its head.
fn read_response(reader: &mut impl std::io::BufRead) -> String {
    let mut body_bytes = 0;
    let mut head = String::new();
    loop {
        let begin = head.len();
        assert!(reader.read_line(&mut head).expect("the server answers") > 0, "the server closed the connection");
        let line = &head[begin..];
        assert!(begin > 0 || line.contains(" 200 "), "{line}");
        if let Some(length) = line.strip_prefix("content-length: ") {
            body_bytes = length.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
    }
    std::io::copy(&mut reader.take(body_bytes), &mut std::io::sink()).expect("the body is whole");
    head
}

struct Server {
    child: Child,
    address: String,
    /// Kept open, so that the server can print.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_remuda"))
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
            .arg(dir.join("data"))
            .arg(dir)
            .env("REMUDA_LOG", std::env::var_os("REMUDA_LOG").unwrap_or("error".into()))
            .stdout(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it was piped"));
        stdout.read_line(&mut line).expect("it prints text");
        let address = line.trim().strip_prefix("listening on http://").expect("an address").to_owned();
        Self { child, address, _stdout: stdout }
    }

    /// Stops the server by SIGTERM, so that it keeps what it has learned.
    fn stop(mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("it still runs");
        assert!(self.child.wait().expect("it ends").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
