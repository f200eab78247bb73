//! The report's sections. Each computes its own pictures, tables and sentences.
#![allow(clippy::wildcard_imports, reason = "the sections are chapters of one text and share its words")]

mod edge;
mod everywhere;
mod field;
mod hybrid;
mod matmul;
mod pareto;
mod polybench;
mod regret;
mod simulated;
mod start_up;
mod tables;

use std::collections::BTreeSet;
use std::rc::Rc;

use super::page::{Cell, Claim, Part, Section, Table, Verdict};
use super::plot::{Dot, Palette};
use super::units;
use crate::results::{AUTO, Kind, Metric, RACING, Results, Workload, kind};
use crate::row::{Pattern, Point};
use crate::stats::{Estimate, Interval};

/// All sections, in the order of the page.
pub(crate) fn all(results: &Results) -> Vec<Section> {
    let palette = Palette::new(&results.all_engines());
    let finding = [Some(everywhere::section(results)), field::section(results)];
    let sections = [
        polybench::section(results, &palette),
        start_up::section(results),
        matmul::section(results, &palette),
        edge::section(results, &palette),
        hybrid::section(results),
        regret::section(results),
        pareto::section(results, &palette),
    ];
    let simulated = simulated::sections(results, &palette);
    finding.into_iter().flatten().chain(sections).chain(simulated).chain([tables::section(results)]).collect()
}

/// A pattern in words.
fn pattern_words(pattern: Pattern) -> &'static str {
    match pattern {
        Pattern::Cold => "one cold call",
        Pattern::Fifty => "fifty calls",
        Pattern::Warm => "one call with a profile and artifacts on disk",
        Pattern::Steady => "a call in the steady state",
    }
}

/// The point that execution is taken from. Native twins and other programs run once a process, so they only have cold
/// calls.
fn executed(workload: &Workload, engine: &str, pattern: Pattern) -> Point {
    match kind(engine) {
        Kind::Native | Kind::Peer => workload.on(engine, Pattern::Cold),
        Kind::Single | Kind::Auto | Kind::Racing => workload.on(engine, pattern),
    }
}

/// The shortest name that tells a workload from the others in `among`.
fn label(workload: &Workload, among: &[Workload]) -> String {
    let same: Vec<&Workload> = among.iter().filter(|other| other.guest == workload.guest).collect();
    let variants: BTreeSet<&str> = same.iter().map(|other| other.variant.as_str()).collect();
    let cases: BTreeSet<&str> = same.iter().map(|other| other.case.as_str()).collect();
    let mut label = workload.guest.clone();
    if variants.len() > 1 && !workload.variant.is_empty() {
        label += &format!(".{}", workload.variant);
    }
    if cases.len() > 1 {
        label += &format!(" {}", workload.case);
    }
    label
}

/// The full name of a workload, without its suite.
pub(crate) fn long_label(workload: &Workload) -> String {
    let variant = if workload.variant.is_empty() { String::new() } else { format!(".{}", workload.variant) };
    format!("{}{variant} {}", workload.guest, workload.case).trim_end().to_owned()
}

/// The single engines of a suite: neither native code, nor Remuda's choice, nor other programs.
fn singles(results: &Results, suite: &str) -> Vec<String> {
    results.engines(|point| point.suite == suite && kind(&point.engine) == Kind::Single)
}

/// An engine counts as beaten if the ratio of its time to another's is above this at the interval's lower end. Among
/// hundreds of comparisons some intervals miss 1 by chance, but hardly by that much.
const CLEARLY: f64 = 1.05;

fn is_interpreter(engine: &str) -> bool {
    engine.starts_with("wasmi") || engine.starts_with("wasm3")
}

/// Whether `one` beats `other` on some workload.
fn beats(results: &Results, workloads: &[Workload], pattern: Pattern, one: &str, other: &str) -> bool {
    workloads.iter().any(|workload| {
        let ratio = results.ratio(&workload.on(other, pattern), &workload.on(one, pattern), Metric::Total);
        ratio.is_some_and(|ratio| ratio.interval().low > CLEARLY)
    })
}

/// Whether the best engine changes from workload to workload: it does if two of the `winners` each beat the other.
fn changes(results: &Results, workloads: &[Workload], pattern: Pattern, winners: &BTreeSet<&String>) -> Verdict {
    let beats = |one: &str, other: &str| beats(results, workloads, pattern, one, other);
    let sure = winners.iter().any(|one| winners.iter().any(|other| beats(one, other) && beats(other, one)));
    // With too few processes, an engine that wins everywhere may only have been lucky.
    let known = workloads.iter().all(|workload| {
        let mut of_winners =
            winners.iter().filter_map(|engine| results.estimate(&workload.on(engine, pattern), Metric::Total));
        of_winners.all(|estimate| estimate.interval().is_known())
    });
    match (winners.len(), sure) {
        (_, true) => Verdict::Holds,
        (1, _) if known => Verdict::Fails,
        _ => Verdict::Open,
    }
}

/// The engine with the least total time, and that time.
fn best(
    results: &Results,
    workload: &Workload,
    pattern: Pattern,
    engines: &[String],
) -> Option<(String, Rc<Estimate>)> {
    engines
        .iter()
        .filter_map(|engine| Some((engine.clone(), results.estimate(&workload.on(engine, pattern), Metric::Total)?)))
        .min_by(|one, other| one.1.value.total_cmp(&other.1.value))
}

/// The verdict on a claim of two halves.
fn halves(one: bool, other: bool) -> Verdict {
    match (one, other) {
        (true, true) => Verdict::Holds,
        (false, false) => Verdict::Fails,
        _ => Verdict::InPart,
    }
}

/// The least and the greatest of some ratios.
fn span(ratios: &[f64]) -> String {
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(0.0, f64::max);
    format!("{} to {}", ratio(least), ratio(most))
}

fn ratio(value: f64) -> String {
    format!("{}×", units::digits(value))
}

/// A ratio with its interval.
fn ratio_with(estimate: &Estimate) -> String {
    format!("{} {}", units::digits(estimate.value), brackets(estimate.interval(), units::digits))
}

/// A time with its interval.
fn time_with(estimate: &Estimate) -> String {
    format!("{} {}", units::time(estimate.value), brackets(estimate.interval(), units::time))
}

fn brackets(interval: Interval, unit: fn(f64) -> String) -> String {
    if interval.is_known() { format!("[{}, {}]", unit(interval.low), unit(interval.high)) } else { "[?]".into() }
}

/// A value of an engine as a dot, with its interval if that is known.
fn dot(engine: &str, estimate: &Estimate) -> Dot {
    let (low, high) = ends(estimate);
    Dot { engine: engine.to_owned(), value: estimate.value, low, high }
}

/// The ends of the line that shows an interval; both are the value itself if the interval is unknown.
fn ends(estimate: &Estimate) -> (f64, f64) {
    let interval = estimate.interval();
    if interval.is_known() { (interval.low, interval.high) } else { (estimate.value, estimate.value) }
}

/// Names joined for a sentence: commas, and "and" before the last.
fn list(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        [one] => one.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

fn columns(first: &str, others: &[String]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(others.iter().cloned()).collect()
}

fn missing(whose: &'static str, claim: &str, what: &str) -> Claim {
    Claim { whose, claim: claim.into(), scope: String::new(), verdict: Verdict::Missing, finding: what.into() }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

fn capital(words: &str) -> String {
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// The total times of a workload, engine by engine, the least of the single engines in bold.
fn total_cells(results: &Results, workload: &Workload, pattern: Pattern, engines: &[String]) -> Vec<Cell> {
    let single: Vec<String> = engines.iter().filter(|engine| kind(engine) == Kind::Single).cloned().collect();
    let winner = best(results, workload, pattern, &single).map(|(engine, _)| engine);
    let cell = |engine: &String| match results.estimate(&workload.on(engine, pattern), Metric::Total) {
        Some(estimate) if winner.as_ref() == Some(engine) => Cell::strong(time_with(&estimate)),
        Some(estimate) => Cell::new(time_with(&estimate)),
        None => Cell::new("-"),
    };
    engines.iter().map(cell).collect()
}
