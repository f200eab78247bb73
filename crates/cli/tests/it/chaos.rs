//! Clients of every kind at once, good and bad ones: each good one gets its answer, and the server ends in order; also if
//! compilers are killed and the disk is full. A short form runs with the other tests, and a long one by itself, which also
//! looks at the server's memory:
//!
//!     REMUDA_SOAK_MINUTES=30 cargo test --release --workspace --test it a_soak -- --ignored --nocapture

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::http::{get, head, post, send};
use crate::support::{Server, folder, remuda};
use crate::wasi_http::{ask_for, read_until, resident_bytes};

const FUNCTIONS: &str = r#"
    [[function]]
    name = "http"
    route = "/*"
    module = "@guests/http/http.wasm"
    limits = { timeout = "30s", output = "1GiB" }
    [[function]]
    name = "reused"
    route = "/count"
    module = "@guests/http/http.wasm"
    reuse = { uses = 50 }
    limits = { timeout = "30s" }
    [[function]]
    name = "noop"
    module = "@guests/noop/noop.wasm"
    [[function]]
    name = "cat"
    module = "@guests/cat/cat.wasm"
    [[function]]
    name = "streamed"
    module = "@guests/cat/cat.wasm"
    stream = true
    limits = { timeout = "30s" }
    [[function]]
    name = "spin"
    module = "@guests/spin/spin.wasm"
    limits = { timeout = "50ms" }
"#;

/// Clients at the same time.
const CLIENTS: usize = 8;

/// The kinds of clients. Each makes one request, the `i`th, and panics if it does not get the answer that it should get.
const KINDS: [fn(&str, usize); 11] = [short, core, copied, echoed, long, slow, leaves, gives_up, spins, traps, waits];

fn short(address: &str, _: usize) {
    assert_eq!(get(address, "/hello").text(), "hello\n");
    let count: u32 = get(address, "/count").text().parse().expect("it is a number");
    assert!((1..=50).contains(&count), "{count}");
}

fn core(address: &str, _: usize) {
    assert_eq!(get(address, "/noop").status, 200);
}

fn copied(address: &str, i: usize) {
    let body = format!("{i}.").repeat(i * 7919 % 30_000);
    let response = post(address, "/cat", body.as_bytes());
    assert!(response.status == 200 && response.body == body.as_bytes(), "{}", response.status);
}

/// Its body comes in pieces, and so does its response, from a component or from a command.
fn echoed(address: &str, i: usize) {
    let piece = "x".repeat(1 + i * 4973 % 60_000);
    let pieces = 1 + i % 40;
    let path = ["/echo", "/streamed"][i % 2];
    let head = format!("POST {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
    let mut stream = TcpStream::connect(address).expect("the server listens");
    stream.write_all(head.as_bytes()).expect("it takes the head");
    let mut upload = stream.try_clone().expect("it can be cloned");
    let (length, coded) = (piece.len() * pieces, format!("{:x}\r\n{piece}\r\n", piece.len()));
    let sender = std::thread::spawn(move || {
        for _ in 0..pieces {
            upload.write_all(coded.as_bytes()).expect("the guest reads it");
        }
        upload.write_all(b"0\r\n\r\n").expect("the guest reads it");
    });
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the guest answers");
    sender.join().expect("the body was sent");
    let body = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("there is a head");
    let received: usize = bytes[body..].iter().map(|byte| usize::from(*byte == b'x')).sum();
    assert_eq!(received, length);
}

fn long(address: &str, i: usize) {
    let length = 1001 + i * 104_729 % 3_000_000;
    let path = format!("/bytes/{length}");
    let got = ask_for(address, &path);
    assert_eq!((got.status, got.body, got.is_whole), (200, format!("{length} bytes"), true));
}

/// It reads little at a time, and lets others go first.
fn slow(address: &str, _: usize) {
    let mut stream = send(address, "GET", "/bytes/300000", &[], b"");
    let (mut received, mut piece) = (0, [0; 512]);
    loop {
        match stream.read(&mut piece).expect("the guest answers") {
            0 => break,
            n => received += n,
        }
        std::thread::yield_now();
    }
    assert!(received > 300_000, "{received}");
}

/// It leaves when the response has begun.
fn leaves(address: &str, _: usize) {
    let mut stream = send(address, "GET", "/bytes/900000000", &[], b"");
    read_until(&mut stream, b"\r\n\r\n");
}

/// It leaves in the middle of its request.
fn gives_up(address: &str, i: usize) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let request = head(address, "POST", ["/echo", "/streamed"][i % 2], &[], 1000) + "the beginning of a body";
    stream.write_all(&request.as_bytes()[..i * 31 % request.len()]).expect("it takes the bytes");
}

fn spins(address: &str, _: usize) {
    assert_eq!(get(address, "/spin").status, 504);
}

fn traps(address: &str, _: usize) {
    assert_eq!(get(address, "/trap").status, 500);
    // What has begun breaks off. While engines race for a request, all of it is kept, and the guest's end is the answer.
    let ended = ask_for(address, "/trap-after/200000");
    assert!([(200, false), (500, true)].contains(&(ended.status, ended.is_whole)), "{ended:?}");
}

fn waits(address: &str, _: usize) {
    let got = ask_for(address, "/sleep-midway/20");
    assert_eq!((got.body.as_str(), got.is_whole), ("hello\n", true));
}

/// Has clients of all kinds come until that is enough; `enough` is asked after each request, with how many there were.
fn clients(server: &Server, enough: impl Fn(usize) -> bool + Sync) -> usize {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    KINDS[i % KINDS.len()](&server.address, i / KINDS.len());
                    if enough(i + 1) {
                        is_over.store(true, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    next.into_inner()
}

#[test]
fn clients_of_all_kinds_get_what_they_should() {
    let server = Server::start(FUNCTIONS, &[]);
    clients(&server, |requests| requests >= 40 * KINDS.len());
    server.terminate();
    assert!(server.wait().success());
}

/// A file system of its own at a server's data directory.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf, bytes: u64) -> Option<Self> {
        std::fs::create_dir(&at).expect("there is no such folder yet");
        let size = format!("size={bytes},mode=700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&at).output();
        mount.is_ok_and(|mount| mount.status.success()).then_some(Self(at))
    }

    fn fill(&self) {
        let mut file = File::create(self.0.join("filler")).expect("there is room for a file");
        while file.write_all(&[0; 4096]).is_ok() {}
    }

    fn clear(&self) {
        std::fs::remove_file(self.0.join("filler")).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may not have ended yet.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Kills children of a process that compile for an engine. Returns how many there were.
fn kill_compilers(parent: u32, engine: &str) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{parent}/task")).expect("the server runs").flatten();
    let children: String =
        threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok()).collect();
    let of_engine = children.split_whitespace().filter(|child| {
        let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        command.split('\0').skip(1).take(2).eq(["compile-child", engine])
    });
    let pids = of_engine.filter_map(|child| child.parse().ok().and_then(Pid::from_raw));
    pids.filter(|pid| kill_process(*pid, Signal::KILL).is_ok()).count()
}

/// The compilers of the better code are killed as soon as they begin, and the disk is full: nobody is to notice.
#[test]
fn clients_get_what_they_should_from_a_machine_in_trouble() {
    let dir = Arc::new(folder(&format!("[server]\nlisten = \"127.0.0.1:0\"\n{FUNCTIONS}")));
    let disk = SmallDisk::mount(dir.path().join("data"), 1 << 20);
    let server = Server::start_in(&dir, None);
    match &disk {
        Some(disk) => disk.fill(),
        None => eprintln!("the disk is not full: mounting a small one needs privileges"),
    }
    let is_over = AtomicBool::new(false);
    let killed = std::thread::scope(|scope| {
        let saboteur = scope.spawn(|| {
            let mut killed = 0;
            while !is_over.load(Ordering::Relaxed) {
                killed += kill_compilers(server.pid(), "wasmtime.cranelift");
                std::thread::yield_now();
            }
            killed
        });
        clients(&server, |requests| requests >= 20 * KINDS.len());
        is_over.store(true, Ordering::Relaxed);
        saboteur.join().expect("it kills whom it finds")
    });
    assert!(killed > 0, "no compiler was there to be killed");
    // The trouble is over, and leaves nothing behind.
    if let Some(disk) = &disk {
        disk.clear();
    }
    clients(&server, |requests| requests >= 10 * KINDS.len());
    server.terminate();
    assert!(server.wait().success());
    let cache =
        remuda().args(["cache", "verify", "--data-dir"]).arg(dir.path().join("data")).output().expect("it runs");
    assert!(cache.status.success(), "{}", String::from_utf8_lossy(&cache.stderr));
}

#[test]
#[ignore = "it takes as long as REMUDA_SOAK_MINUTES says, or half an hour"]
fn a_soak_loses_nothing_and_keeps_nothing() {
    let minutes = std::env::var("REMUDA_SOAK_MINUTES").map_or(30, |minutes| minutes.parse().expect("it is a number"));
    let server = Server::start(FUNCTIONS, &[]);
    let mut resident = Vec::new();
    for minute in 1..=minutes {
        let began = Instant::now();
        let requests = clients(&server, |_| began.elapsed() >= Duration::from_mins(1));
        resident.push(resident_bytes(server.pid()));
        println!("minute {minute}: {requests} requests, {} MiB", resident.last().unwrap_or(&0) >> 20);
    }
    // What a server has after a while, it may have for good; but not more and more of it.
    let (first, second) = resident.split_at(resident.len() / 2);
    if let (Some(early), Some(late)) = (first.iter().max(), second.iter().min()) {
        assert!(late <= &(early + early / 4), "memory grows: {resident:?}");
    }
    server.terminate();
    assert!(server.wait().success());
}
