//! Warns if a machine was not quiet enough for results to be trusted, and says what to do.

use std::collections::BTreeSet;

use crate::results::{Metric, Process, Results, pattern_name};
use crate::row::{Pattern, Phase, Point};
use crate::stats::{Interval, median, quantile};

/// A reason to doubt the measurements, and the way to better ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// A sentence that says what is wrong, without a full stop.
    pub what: String,
    /// The way to better measurements.
    pub remedy: String,
}

/// Half the width of an interval may be at most this share of its value.
const UNCERTAINTY_MAX: f64 = 0.10;
/// The number of processes that is enough. With fewer, an interval can be too narrow by chance.
const PROCESSES_ENOUGH: usize = 5;
/// Processes may differ by at most this share of their median.
const DISAGREEMENT_MAX: f64 = 0.15;

/// All warnings, the gravest first.
#[must_use]
pub fn warnings(results: &Results) -> Vec<Warning> {
    [machines, commits, modules, load, governor, processes, uncertainty, disagreement, steadiness]
        .iter()
        .filter_map(|check| check(results))
        .collect()
}

fn machines(results: &Results) -> Option<Warning> {
    let machines: BTreeSet<&str> = results.timed_runs().map(|run| run.machine.fingerprint.as_str()).collect();
    (machines.len() > 1).then(|| Warning {
        what: format!(
            "the results come from {} machines; times of different machines are put together in one median",
            machines.len()
        ),
        remedy: "report each machine by itself, and hold them against each other with `remuda compare`".into(),
    })
}

fn commits(results: &Results) -> Option<Warning> {
    let builds: BTreeSet<(&str, &str)> =
        results.timed_runs().map(|run| (run.remuda.as_str(), run.commit.as_str())).collect();
    (builds.len() > 1).then(|| Warning {
        what: format!("the results come from {} builds of Remuda", builds.len()),
        remedy: "report each build by itself, and hold them against each other with `remuda compare`".into(),
    })
}

fn modules(results: &Results) -> Option<Warning> {
    let mixed: Vec<&Point> = results
        .points()
        .filter(|point| {
            let samples = results.processes(point).flat_map(|process| process.calls.iter().chain(&process.whole));
            let kinds: BTreeSet<(&str, &str, &str)> = samples
                .map(|sample| (sample.digest.as_str(), sample.engine_version.as_str(), sample.flags.as_str()))
                .collect();
            kinds.len() > 1
        })
        .collect();
    (!mixed.is_empty()).then(|| Warning {
        what: format!("{} have processes that ran another module, engine version or flags", points(&mixed, results)),
        remedy: "do not put results of different guests or engines into one report".into(),
    })
}

fn load(results: &Results) -> Option<Warning> {
    let (mut loaded, mut all, mut highest) = (0, 0, 0.0_f64);
    let cores = results.timed_runs().map(|run| run.machine.cores).min().filter(|cores| *cores > 0)?;
    for process in results.points().flat_map(|point| results.processes(point)) {
        all += 1;
        if process.load() > f64::from(cores) {
            loaded += 1;
            highest = highest.max(process.load());
        }
    }
    (loaded > 0).then(|| Warning {
        what: format!(
            "{loaded} of {all} processes began while the load was above the number of cores ({cores}); it went up to \
             {highest:.1}"
        ),
        remedy: "stop what else runs on the machine, wait until `uptime` shows a load below 1, and measure again"
            .into(),
    })
}

fn governor(results: &Results) -> Option<Warning> {
    let other =
        results.timed_runs().filter_map(|run| run.machine.governor.as_deref()).find(|name| *name != "performance")?;
    Some(Warning {
        what: format!("the frequency governor is `{other}`: short runs may have been measured at a low frequency"),
        remedy: "set it to `performance` (`cpupower frequency-set -g performance`) and measure again".into(),
    })
}

fn processes(results: &Results) -> Option<Warning> {
    let few: Vec<&Point> =
        results.points().filter(|point| results.processes(point).count() < PROCESSES_ENOUGH).collect();
    (!few.is_empty()).then(|| Warning {
        what: format!(
            "{} have fewer than {PROCESSES_ENOUGH} processes: their intervals are too narrow, as so few cannot show how far \
             they scatter",
            points(&few, results)
        ),
        remedy: "give a larger --time-budget, or fewer guests or engines".into(),
    })
}

fn uncertainty(results: &Results) -> Option<Warning> {
    let mut wide: Vec<(f64, &Point)> = results
        .points()
        .filter_map(|point| Some((results.estimate(point, Metric::Total)?.uncertainty(), point)))
        .filter(|(uncertainty, _)| uncertainty.is_finite() && *uncertainty > UNCERTAINTY_MAX)
        .collect();
    wide.sort_by(|one, other| other.0.total_cmp(&one.0));
    let (worst, _) = *wide.first()?;
    let named: Vec<&Point> = wide.iter().map(|(_, point)| *point).collect();
    Some(Warning {
        what: format!(
            "{} are known to no better than ±{:.0} % (the worst: ±{:.0} %)",
            points(&named, results),
            UNCERTAINTY_MAX * 100.0,
            worst * 100.0
        ),
        remedy:
            "give a larger --time-budget, so that each point gets more processes, on a machine that does nothing else"
                .into(),
    })
}

/// Warns of points whose calls agree within each process, while the processes differ. The cause is then something that
/// a process keeps for its whole life, such as the place of its memory, and more calls do not help.
fn disagreement(results: &Results) -> Option<Warning> {
    let disagree = |point: &&Point| {
        let mut middles: Vec<(f64, Interval)> = results
            .processes(point)
            .filter_map(|process| {
                let warm_up = process.steady()?.warm_up;
                let mut calls: Vec<f64> = process
                    .calls
                    .iter()
                    .skip(warm_up)
                    .filter_map(|call| call.wall_ns.get(&Phase::Execute))
                    .map(|ns| *ns as f64)
                    .collect();
                calls.sort_by(f64::total_cmp);
                (calls.len() >= 10).then(|| {
                    (quantile(&calls, 0.5), Interval { low: quantile(&calls, 0.25), high: quantile(&calls, 0.75) })
                })
            })
            .collect();
        middles.sort_by(|one, other| one.0.total_cmp(&other.0));
        let [(least, below), .., (most, above)] = middles.as_slice() else { return false };
        let middle = median(&middles.iter().map(|middle| middle.0).collect::<Vec<_>>());
        (most - least) / middle > DISAGREEMENT_MAX && below.high < above.low
    };
    let points_that: Vec<&Point> = results.points().filter(disagree).collect();
    (!points_that.is_empty()).then(|| Warning {
        what: format!(
            "{} have processes that are each steady, but differ from one another by more than {:.0} %",
            points(&points_that, results),
            DISAGREEMENT_MAX * 100.0
        ),
        remedy: "more processes help, more calls do not; look for a changing frequency, other virtual machines on the \
                 host, or another program that comes and goes"
            .into(),
    })
}

fn steadiness(results: &Results) -> Option<Warning> {
    let unsettled: Vec<&Point> = results
        .points()
        .filter(|point| {
            let settled: Vec<bool> =
                results.processes(point).filter_map(Process::steady).map(|steady| steady.settled).collect();
            point.pattern == Pattern::Steady && settled.iter().filter(|settled| !**settled).count() * 2 > settled.len()
        })
        .collect();
    (!unsettled.is_empty()).then(|| Warning {
        what: format!("{} had not settled when the measurement ended", points(&unsettled, results)),
        remedy: "give a larger --time-budget, so that the series get longer".into(),
    })
}

/// The number of these points among all points, and the names of the first of them.
fn points(some: &[&Point], results: &Results) -> String {
    let names: Vec<String> = some
        .iter()
        .take(3)
        .map(|point| {
            let pattern = pattern_name(point.pattern);
            format!("{} {} on {} ({pattern})", point.guest, point.case, point.engine)
        })
        .collect();
    let more = if some.len() > names.len() { ", ..." } else { "" };
    format!("{} of {} points ({}{more})", some.len(), results.points().count(), names.join(", "))
}
