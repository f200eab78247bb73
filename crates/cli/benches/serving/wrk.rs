//! Load by wrk: a few connections, each of which is never without a request.

use std::process::Command;
use std::time::Duration;

use crate::servers::{Server, peer_file};

/// What wrk reports of one run.
pub(crate) struct Figures {
    /// Requests answered per second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Keeps `connections` connections to a server busy.
pub(crate) fn run(server: &Server, connections: usize, duration: Duration) -> Figures {
    let out = Command::new("wrk")
        .args(["--threads", "1", "--connections", &connections.to_string()])
        .args(["--duration", &format!("{}s", duration.as_secs())])
        .arg("--script")
        .arg(peer_file("report.lua"))
        .arg(format!("http://{}{}", server.address, server.spec.path))
        .output()
        .unwrap_or_else(|error| {
            panic!("wrk cannot be started ({error}); install it, for example with `apt install wrk`")
        });
    let text = String::from_utf8_lossy(&out.stdout);
    let figures = text.lines().find_map(|line| line.strip_prefix("figures "));
    let figures = figures.unwrap_or_else(|| panic!("wrk failed: {text}{}", String::from_utf8_lossy(&out.stderr)));
    let figures: Vec<f64> = figures.split(' ').map(|figure| figure.parse().expect("a number")).collect();
    let [requests, us, refused, broken, p50_us, p99_us] = figures[..] else { panic!("wrk printed {text}") };
    let expected = if server.spec.is_bare { requests } else { 0.0 };
    assert_eq!((refused, broken), (expected, 0.0), "{} did not answer all: {text}", server.spec.label);
    Figures { rate: requests / (us / 1e6), p50_us, p99_us }
}
