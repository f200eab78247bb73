//! Load at a rate of its own: requests are due at even intervals, and are sent then, on the connection that has been free
//! for the longest, or as soon as one is free. Latency counts from when a request was due, so that a server that stalls is charged with all the requests
//! that had to wait for it.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::thread::set_current_timer_slack;

use crate::servers::{Server, request};

/// What was measured in one run.
pub(crate) struct Figures {
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

struct Connection {
    stream: TcpStream,
    /// When the request was due whose answer is awaited, and what has come of the answer.
    awaited: Option<Instant>,
    received: Vec<u8>,
}

/// Sends `rate` requests a second over `connections` connections.
pub(crate) fn run(server: &Server, connections: usize, rate: f64, duration: Duration) -> Figures {
    // Otherwise the operating system wakes this thread up to 50 us later than asked.
    set_current_timer_slack(NonZeroU64::new(1)).expect("a thread may ask to be woken in time");
    let mut connections: Vec<Connection> = (0..connections).map(|_| Connection::open(&server.address)).collect();
    let request = request(server, "keep-alive");
    let interval = Duration::from_secs_f64(1.0 / rate);
    let began = Instant::now();
    let mut next = began;
    let mut due: VecDeque<Instant> = VecDeque::new();
    let mut free: VecDeque<usize> = (0..connections.len()).collect();
    let mut latencies: Vec<Duration> = Vec::new();
    loop {
        let now = Instant::now();
        while next <= now && next < began + duration {
            due.push_back(next);
            next += interval;
        }
        while let (Some(at), Some(connection)) = (due.front(), free.front()) {
            connections[*connection].send(&request, *at);
            due.pop_front();
            free.pop_front();
        }
        if next >= began + duration && due.is_empty() && free.len() == connections.len() {
            break;
        }
        for i in wait(&connections, next.saturating_duration_since(Instant::now())) {
            if let Some(latency) = connections[i].receive() {
                latencies.push(latency);
                free.push_back(i);
            }
        }
    }
    latencies.sort_unstable();
    let percentile = |percent: usize| latencies[(latencies.len() - 1) * percent / 100].as_secs_f64() * 1e6;
    Figures { p50_us: percentile(50), p99_us: percentile(99) }
}

/// Waits until something has come, or for `patience`. Returns the connections on which it has.
fn wait(connections: &[Connection], patience: Duration) -> Vec<usize> {
    let mut streams: Vec<PollFd<'_>> =
        connections.iter().map(|connection| PollFd::new(&connection.stream, PollFlags::IN)).collect();
    let patience = Timespec::try_from(patience).expect("an interval is short");
    poll(&mut streams, Some(&patience)).expect("the operating system can wait");
    streams.iter().enumerate().filter(|(_, stream)| !stream.revents().is_empty()).map(|(i, _)| i).collect()
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server listens");
        stream.set_nodelay(true).expect("a TCP stream");
        stream.set_nonblocking(true).expect("a TCP stream");
        Self { stream, awaited: None, received: Vec::new() }
    }

    /// Sends a request that was due at that time.
    fn send(&mut self, request: &str, due: Instant) {
        self.stream.write_all(request.as_bytes()).expect("the server reads");
        self.awaited = Some(due);
    }

    /// Reads what has come. Returns the latency if that completes an answer.
    fn receive(&mut self) -> Option<Duration> {
        let due = self.awaited?;
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(0) => panic!("the server closed a connection"),
            Ok(n) => self.received.extend_from_slice(&buffer[..n]),
            Err(error) => panic!("a connection broke: {error}"),
        }
        if !is_whole(&self.received) {
            return None;
        }
        self.received.clear();
        self.awaited = None;
        Some(due.elapsed())
    }
}

/// Whether an answer is there to its end, which its length tells, or its last chunk.
fn is_whole(received: &[u8]) -> bool {
    const END: &[u8] = b"\r\n\r\n";
    let Some(end) = received.windows(END.len()).position(|window| window == END) else { return false };
    let (head, body) = (&received[..end], &received[end + END.len()..]);
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let value = line[colon + 1..].trim_ascii();
        if line[..colon].eq_ignore_ascii_case(b"content-length") {
            let length = std::str::from_utf8(value).ok().and_then(|value| value.parse().ok());
            return body.len() >= length.expect("a length");
        }
        if line[..colon].eq_ignore_ascii_case(b"transfer-encoding") {
            return body.ends_with(b"0\r\n\r\n");
        }
    }
    true
}
