//! The results of a run in numbers, beside the oracle's.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Chooser, CostTable, Setup, Totals, Violation, Workload, simulate};

/// A comparison of several policies on the same workload and host.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The workload's name.
    pub workload: String,
    /// The number of its functions.
    pub functions: usize,
    /// The number of its requests.
    pub requests: usize,
    /// The number of the host's cores.
    pub cores: usize,
    /// The reports, policy by policy; the last is the oracle's.
    pub reports: Vec<Report>,
}

/// The report of one policy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The policy's name.
    pub policy: String,
    /// Mean time from arrival to answer, in nanoseconds.
    pub latency_ns_mean: f64,
    /// The median time, in nanoseconds.
    pub latency_ns_p50: u64,
    /// The time that one request in ten exceeds, in nanoseconds.
    pub latency_ns_p90: u64,
    /// The time that one request in a hundred exceeds, in nanoseconds.
    pub latency_ns_p99: u64,
    /// The longest time, in nanoseconds.
    pub latency_ns_max: u64,
    /// How much longer than the oracle's a request takes, as a share of the oracle's: 0.05 is 5 %. The mean over
    /// requests.
    pub regret_mean: f64,
    /// The regret that one request in a hundred exceeds.
    pub regret_p99: f64,
    /// How much longer all requests together take than the oracle's, as a share of the oracle's.
    pub regret_total: f64,
    /// For each function, the ratio of what all its requests take together to the oracle's; of these the geometric
    /// mean.
    pub function_ratio_geomean: f64,
    /// The worst of these ratios.
    pub function_ratio_max: f64,
    /// CPU time, in seconds.
    pub cpu_s: f64,
    /// The part of it that racers used which lost, in seconds.
    pub wasted_s: f64,
    /// The CPU time of all compiles of artifacts, in seconds.
    pub compile_s: f64,
    /// The number of compiles.
    pub compiles: u64,
    /// The number of these that a compiler made between requests.
    pub compiles_background: u64,
    /// The number of artifacts at the end on which no guest has run since they were compiled.
    pub compiles_unused: u64,
    /// The number of loads from disk.
    pub loads: u64,
    /// The number of engines that joined a race.
    pub hedges: u64,
    /// The number of these that won.
    pub hedges_won: u64,
    /// The number of requests whose guests moved.
    pub moves: u64,
    /// The number of parts that were compiled for that.
    pub parts: u64,
    /// The number of artifacts that were made ready for an expected request, which then came in time and ran on them.
    pub prewarms_useful: u64,
    /// The number of artifacts that were made ready for an expected request in vain.
    pub prewarms_wasted: u64,
    /// The number of requests that had to wait for a worker.
    pub queued: u64,
    /// The number of requests that were sent away.
    pub rejected: u64,
}

/// Runs `choosers` and the oracle, side by side.
///
/// # Errors
///
/// Returns an error if something happened that must not: a bug in what decides, or in the simulation. It comes with the
/// chooser in whose run it happened.
pub fn compare(
    table: &CostTable,
    workload: &Workload,
    setup: &Setup,
    choosers: &[Chooser],
) -> Result<Comparison, (Chooser, Violation)> {
    let choosers = choosers.iter().copied().filter(|chooser| *chooser != Chooser::Oracle).chain([Chooser::Oracle]);
    // Each run is on its own, so the runs may go on at once without changing anything.
    let runs: Vec<(Chooser, Result<Totals, Violation>)> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            choosers.map(|chooser| (chooser, scope.spawn(move || simulate(table, workload, setup, chooser)))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(|(chooser, thread)| (chooser, join(thread))).collect()
    });
    let mut totals = Vec::new();
    for (chooser, run) in runs {
        totals.push((chooser, run.map_err(|violation| (chooser, violation))?));
    }
    let oracle = totals.last().map(|(_, oracle)| oracle.latencies_ns.clone()).unwrap_or_default();
    Ok(Comparison {
        workload: workload.name.clone(),
        functions: workload.functions.len(),
        requests: workload.arrivals.len(),
        cores: setup.cores,
        reports: totals.iter().map(|(chooser, totals)| Report::new(*chooser, workload, totals, &oracle)).collect(),
    })
}

impl Report {
    fn new(chooser: Chooser, workload: &Workload, totals: &Totals, oracle: &[Option<u64>]) -> Self {
        // The precision is one part in a thousand, and no time is too long.
        let mut latencies = Histogram::<u64>::new(3).expect("three digits are possible");
        latencies.auto(true);
        let mut regrets: Vec<f64> = Vec::new();
        let mut functions = vec![(0.0, 0.0); workload.functions.len()];
        for ((latency, best), arrival) in totals.latencies_ns.iter().zip(oracle).zip(&workload.arrivals) {
            let Some(latency) = latency else { continue };
            // The histogram grows as it has to, so there is nothing to refuse.
            let _ = latencies.record(*latency);
            let Some(best) = best else { continue };
            let (latency, best) = (*latency as f64, (*best as f64).max(1.0));
            let (total, best_total) = &mut functions[arrival.function as usize];
            *total += latency;
            *best_total += best;
            regrets.push(latency / best - 1.0);
        }
        regrets.sort_by(f64::total_cmp);
        let count = (regrets.len() as f64).max(1.0);
        let total = functions.iter().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let ratios: Vec<f64> =
            functions.iter().filter(|(_, best)| *best > 0.0).map(|(took, best)| took / best).collect();
        let logarithms: f64 = ratios.iter().map(|ratio| ratio.max(1e-9).ln()).sum();
        Self {
            policy: chooser.to_string(),
            latency_ns_mean: latencies.mean(),
            latency_ns_p50: latencies.value_at_quantile(0.5),
            latency_ns_p90: latencies.value_at_quantile(0.9),
            latency_ns_p99: latencies.value_at_quantile(0.99),
            latency_ns_max: latencies.max(),
            regret_mean: regrets.iter().sum::<f64>() / count,
            regret_p99: regrets.get((regrets.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0.0),
            regret_total: if total.1 > 0.0 { total.0 / total.1 - 1.0 } else { 0.0 },
            function_ratio_geomean: (logarithms / (ratios.len() as f64).max(1.0)).exp(),
            function_ratio_max: ratios.iter().copied().fold(0.0, f64::max),
            cpu_s: totals.cpu_ns / 1e9,
            wasted_s: totals.wasted_ns as f64 / 1e9,
            compile_s: totals.compile_ns as f64 / 1e9,
            compiles: totals.compiles,
            compiles_background: totals.compiles_background,
            compiles_unused: totals.compiles_unused,
            loads: totals.loads,
            hedges: totals.hedges,
            hedges_won: totals.hedges_won,
            moves: totals.moves,
            parts: totals.parts,
            prewarms_useful: totals.prewarms_useful,
            prewarms_wasted: totals.prewarms_wasted,
            queued: totals.queued,
            rejected: totals.latencies_ns.iter().filter(|latency| latency.is_none()).count() as u64,
        }
    }
}

/// Formats the comparison as a table, as in Markdown.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, functions, requests, cores, reports } = self;
        writeln!(f, "{workload}: {requests} requests of {functions} functions on {cores} cores\n")?;
        let head = [
            "policy", "p50 ms", "p90 ms", "p99 ms", "mean ms", "regret", "p99", "total", "function", "worst", "CPU s",
            "wasted s", "compiles", "unused", "loads", "hedges", "won", "moved", "queued", "rejected",
        ];
        let ms = |ns: u64| format!("{:.2}", ns as f64 / 1e6);
        let percent = |share: f64| format!("{:.1} %", share * 100.0);
        let rows: Vec<Vec<String>> = reports
            .iter()
            .map(|r| {
                vec![
                    r.policy.clone(),
                    ms(r.latency_ns_p50),
                    ms(r.latency_ns_p90),
                    ms(r.latency_ns_p99),
                    format!("{:.2}", r.latency_ns_mean / 1e6),
                    percent(r.regret_mean),
                    percent(r.regret_p99),
                    percent(r.regret_total),
                    format!("{:.3}", r.function_ratio_geomean),
                    format!("{:.2}", r.function_ratio_max),
                    format!("{:.2}", r.cpu_s),
                    format!("{:.2}", r.wasted_s),
                    r.compiles.to_string(),
                    r.compiles_unused.to_string(),
                    r.loads.to_string(),
                    r.hedges.to_string(),
                    r.hedges_won.to_string(),
                    r.moves.to_string(),
                    r.queued.to_string(),
                    r.rejected.to_string(),
                ]
            })
            .collect();
        let width = |at: usize| rows.iter().map(|row| row[at].len()).chain([head[at].len()]).max().unwrap_or(0);
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut line = |cells: &mut dyn Iterator<Item = &str>| {
            for (at, cell) in cells.enumerate() {
                let width = widths[at];
                if at == 0 { write!(f, "| {cell:<width$} |")? } else { write!(f, " {cell:>width$} |")? }
            }
            writeln!(f)
        };
        line(&mut head.iter().copied())?;
        let rules: Vec<String> = widths
            .iter()
            .enumerate()
            .map(|(at, width)| if at == 0 { "-".repeat(*width) } else { format!("{}:", "-".repeat(width - 1)) })
            .collect();
        line(&mut rules.iter().map(String::as_str))?;
        for row in &rows {
            line(&mut row.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regret_is_against_the_same_request() {
        let mut workload = Workload::default();
        for function in [0, 0, 1, 1] {
            workload.arrivals.push(crate::Arrival { at_ns: 0, function, case: 0, work: 1.0 });
        }
        workload.add_function(0, true);
        workload.add_function(0, true);
        let totals = Totals { latencies_ns: vec![Some(200), Some(300), None, Some(110)], ..Totals::default() };
        let oracle = [Some(100), Some(300), Some(5), Some(100)];
        let report = Report::new(Chooser::Oracle, &workload, &totals, &oracle);
        for (name, found, expected) in [
            ("mean", report.regret_mean, 1.1 / 3.0),
            ("p99", report.regret_p99, 1.0),
            ("total", report.regret_total, 0.22),
            ("functions", report.function_ratio_geomean, (1.25_f64 * 1.1).sqrt()),
            ("worst", report.function_ratio_max, 1.25),
        ] {
            assert!((found - expected).abs() < 1e-9, "{name}: {found} instead of {expected}");
        }
        assert_eq!((report.rejected, report.latency_ns_max), (1, 300));
    }
}
