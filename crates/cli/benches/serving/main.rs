//! Measures HTTP servers that run a function that does nothing: Remuda beside its peers, and beside the same server
//! answering without any guest, the *bare* server.
//!
//! Each server runs as its users run it, as a process of its own, on the same cores as the client. First wrk keeps a few
//! connections busy, for the most requests per second that a server answers. Then requests come at half of that rate,
//! at times of their own (`open_loop`), for the latency that clients see. Rounds of all servers are interleaved, and
//! ratios are taken within a round, so that a noisy machine disturbs all alike. Prints Markdown.
//!
//!     cargo bench --workspace --bench serving [-- WORD...]
//!
//! With words, only the servers are measured whose names contain one of them, beside the first two.
//!
//! `scripts/install-peers.sh --serving` installs the peers; those that are missing are left out, and named.

mod open_loop;
mod servers;
mod wrk;

use std::time::Duration;

use servers::{SERVERS, Server};

/// The number of connections that are kept busy.
const CONNECTIONS: usize = 8;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);

/// The bare server and Remuda's own no-op stand first in [`SERVERS`].
const BARE: usize = 0;
const REMUDA: usize = 1;

/// What was measured of one server, round by round.
#[derive(Default)]
struct Measured {
    busy: Vec<wrk::Figures>,
    paced: Vec<open_loop::Figures>,
}

fn main() {
    let mut running: Vec<Server> = Vec::new();
    let words: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let is_asked_for = |label: &str| words.is_empty() || words.iter().any(|word| label.contains(word.as_str()));
    for (i, spec) in SERVERS.iter().enumerate() {
        if i > REMUDA && !is_asked_for(spec.label) {
            continue;
        }
        match Server::start(spec) {
            Ok(server) => running.push(server),
            Err(problem) => println!("{} is left out: {problem}\n", spec.label),
        }
    }
    let mut measured: Vec<Measured> = running.iter().map(|_| Measured::default()).collect();
    for server in &running {
        wrk::run(server, CONNECTIONS, ROUND);
    }
    for _ in 0..ROUNDS {
        for (server, measured) in running.iter().zip(&mut measured) {
            measured.busy.push(wrk::run(server, CONNECTIONS, ROUND));
        }
    }
    println!(
        "Busy: {CONNECTIONS} connections, each sending its next request when it has its answer (medians of {ROUNDS}).\n"
    );
    println!("| answered by | requests/s | share of the bare server | p50, us | p99, us |\n|---|---:|---:|---:|---:|");
    for (server, own) in running.iter().zip(&measured) {
        let rates = own.busy.iter().map(|figures| figures.rate);
        let shares = own.busy.iter().zip(&measured[BARE].busy).map(|(own, bare)| own.rate / bare.rate);
        println!(
            "| {} | {:.0} | {:.2} | {:.0} | {:.0} |",
            server.spec.label,
            median(rates),
            median(shares),
            median(own.busy.iter().map(|figures| figures.p50_us)),
            median(own.busy.iter().map(|figures| figures.p99_us)),
        );
    }
    let most = median(measured[REMUDA].busy.iter().map(|figures| figures.rate));
    let rate = most / 2.0;
    for _ in 0..ROUNDS {
        for (server, measured) in running.iter().zip(&mut measured) {
            let sustains = median(measured.busy.iter().map(|figures| figures.rate)) > rate;
            if sustains {
                measured.paced.push(open_loop::run(server, CONNECTIONS, rate, ROUND));
            }
        }
    }
    println!(
        "\nPaced: {rate:.0} requests/s, at even intervals, however long the answers take (medians of {ROUNDS}).\n"
    );
    println!("| answered by | p50, us | p99, us | p99 over the bare server's |\n|---|---:|---:|---:|");
    for (server, own) in running.iter().zip(&measured) {
        if own.paced.is_empty() {
            println!("| {} | it does not answer as many | | |", server.spec.label);
            continue;
        }
        let ratios = own.paced.iter().zip(&measured[BARE].paced).map(|(own, bare)| own.p99_us / bare.p99_us);
        println!(
            "| {} | {:.0} | {:.0} | {:.2} |",
            server.spec.label,
            median(own.paced.iter().map(|figures| figures.p50_us)),
            median(own.paced.iter().map(|figures| figures.p99_us)),
            median(ratios),
        );
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
