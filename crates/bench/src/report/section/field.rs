//! What the paper says of single runtimes, held against what stands for them today.

use super::*;
use crate::results::BASELINE;

/// The paper's runtimes, with the engines that stand for them.
const FIELD: [(&str, &str); 5] =
    [("Wasmtime", WASMTIME), ("Wasmer", WASMER), ("Lucet", LUCET), ("WAVM", WAVM), ("NodeJS", NODE)];

/// The four of them that the paper's hybrid chose among.
pub(super) const HYBRIDS: [&str; 4] = [WASMTIME, WASMER, LUCET, WAVM];

const WASMTIME: &str = BASELINE;
const WASMER: &str = "wasmer.cranelift";
const LUCET: &str = "lucet.cranelift";
const WAVM: &str = "wavm.llvm";
const NODE: &str = "node.v8";

/// The share of the guests that counts as short, and the share that counts as long. A larger share would count guests in
/// the middle; a smaller one would have a few guests decide.
const END_SHARE: usize = 4;

/// The section, if the results have two engines of the field or more.
pub(super) fn section(results: &Results) -> Option<Section> {
    let field = present(results);
    if field.len() < 2 {
        return None;
    }
    let contests = contests(results, &field);
    let mut claims = Vec::new();
    if field.contains(&WAVM) {
        claims.push(wavm(results, &contests, &field));
    }
    if field.contains(&LUCET) {
        claims.push(lucet(results, &contests, &field));
    }
    if field.contains(&NODE) {
        claims.push(node(results, &contests, &field));
    }
    let names: Vec<String> = FIELD
        .iter()
        .filter(|(_, engine)| field.contains(engine))
        .map(|(name, engine)| format!("{engine} for {name}"))
        .collect();
    Some(Section {
        id: "field",
        title: "The paper's runtimes".into(),
        lead: format!(
            "The runtimes that the paper measured, as they can be had today: {}. Ratios are geometric means over guests, with \
             {BASELINE} as 1.",
            list(&names)
        ),
        claims,
        parts: vec![Part::Table(table(results, &contests, &field))],
    })
}

/// The engines of the field that were measured.
fn present(results: &Results) -> Vec<&'static str> {
    let measured = results.engines(|point| kind(&point.engine) == Kind::Single);
    FIELD.iter().map(|(_, engine)| *engine).filter(|engine| measured.iter().any(|one| one == engine)).collect()
}

/// The workloads of which all engines of the field made a cold call, those first that the first of these engines executes
/// fastest.
fn contests(results: &Results, field: &[&str]) -> Vec<Workload> {
    let suites = results.suites();
    let workloads = suites.iter().filter(|suite| suite.as_str() != "micro").flat_map(|suite| results.workloads(suite));
    let measured = |workload: &Workload, engine: &str| {
        results.estimate(&workload.on(engine, Pattern::Cold), Metric::Total).is_some()
    };
    let mut contests: Vec<(f64, Workload)> = workloads
        .filter(|workload| field.iter().all(|engine| measured(workload, engine)))
        .filter_map(|workload| {
            let execute = results.estimate(&workload.on(field[0], Pattern::Cold), Metric::Execute)?.value;
            Some((execute, workload))
        })
        .collect();
    contests.sort_by(|one, other| one.0.total_cmp(&other.0));
    contests.into_iter().map(|(_, workload)| workload).collect()
}

/// The engines of the field by their time on a workload, the fastest first.
fn order<'a>(results: &Results, workload: &Workload, field: &[&'a str], metric: Metric) -> Vec<&'a str> {
    let mut order: Vec<(f64, &str)> = field
        .iter()
        .filter_map(|engine| {
            let estimate = results.estimate(&workload.on(engine, Pattern::Cold), metric)?;
            Some((estimate.value, *engine))
        })
        .collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    order.into_iter().map(|(_, engine)| engine).collect()
}

/// The ratio of an engine's times to those of the baseline, as the geometric mean over workloads.
fn over_baseline(
    results: &Results,
    workloads: &[Workload],
    engine: &str,
    pattern: Pattern,
    metric: Metric,
) -> Option<Estimate> {
    let ratio =
        |workload: &Workload| results.ratio(&workload.on(engine, pattern), &workload.on(BASELINE, pattern), metric);
    let ratios: Vec<Estimate> = workloads.iter().filter_map(ratio).collect();
    let parts: Vec<&Estimate> = ratios.iter().collect();
    (!parts.is_empty()).then(|| Estimate::geometric_mean(&parts))
}

fn paper(claim: &str, verdict: Verdict, finding: String) -> Claim {
    Claim { whose: "The paper", claim: claim.into(), scope: String::new(), verdict, finding }
}

fn wavm(results: &Results, contests: &[Workload], field: &[&str]) -> Claim {
    const CLAIM: &str = "WAVM is the slowest on short programs, and the best on long ones.";
    let count = contests.len() / END_SHARE;
    if count == 0 {
        return missing(
            "The paper",
            CLAIM,
            "It takes cold calls of all these engines on the same four guests or more.",
        );
    }
    let (short, long) = (&contests[..count], &contests[contests.len() - count..]);
    let times = |workloads: &[Workload], metric: Metric, last: bool| {
        let is_there = |workload: &&Workload| {
            let order = order(results, workload, field, metric);
            let end = if last { order.last() } else { order.first() };
            end == Some(&WAVM)
        };
        workloads.iter().filter(is_there).count()
    };
    let slowest = times(short, Metric::Total, true);
    let (best, fastest_code) = (times(long, Metric::Total, false), times(long, Metric::Execute, false));
    // Most of the guests, since noise decides where two engines are close.
    let verdict = halves(2 * slowest > count, 2 * best > count);
    let finding = format!(
        "Of the {count} guests with the shortest executions, {WAVM} takes longest on {slowest}, from request to answer. Of the \
         {count} with the longest, it takes least on {best}; of execution alone, on {fastest_code}."
    );
    paper(CLAIM, verdict, finding)
}

fn lucet(results: &Results, contests: &[Workload], field: &[&str]) -> Claim {
    const CLAIM: &str = "Lucet starts fast, and its code is poor.";
    let warm = results.workloads("edge");
    let mean = |engine: &str, pattern: Pattern, metric: Metric| {
        let workloads = if pattern == Pattern::Warm { &warm } else { contests };
        over_baseline(results, workloads, engine, pattern, metric).map(|estimate| estimate.value)
    };
    let start = mean(LUCET, Pattern::Warm, Metric::StartUp);
    let (Some(start), Some(execute)) = (start, mean(LUCET, Pattern::Cold, Metric::Execute)) else {
        return missing(
            "The paper",
            CLAIM,
            &format!(
                "It takes {BASELINE} and {LUCET} on edge applications with artifacts on disk, and cold calls of both."
            ),
        );
    };
    let others = |pattern: Pattern, metric: Metric, left_out: &[&str]| {
        let others = field.iter().filter(|engine| **engine != LUCET && !left_out.contains(engine));
        others.filter_map(|engine| mean(engine, pattern, metric)).collect()
    };
    // V8 compiles while it executes, so that its executions do not tell how good its code is.
    let (starts, executes): (Vec<f64>, Vec<f64>) =
        (others(Pattern::Warm, Metric::StartUp, &[]), others(Pattern::Cold, Metric::Execute, &[NODE]));
    let verdict = halves(starts.iter().all(|other| start < *other), executes.iter().all(|other| execute > *other));
    let finding = format!(
        "With its artifact made beforehand, as in the paper, {LUCET} takes {} as long as {BASELINE} until a guest begins (the \
         others of the field: {}), and its code takes {} as long (that of the others \
         that compile beforehand: {}).",
        ratio(start),
        span(&starts),
        ratio(execute),
        span(&executes),
    );
    paper(CLAIM, verdict, finding)
}

fn node(results: &Results, contests: &[Workload], field: &[&str]) -> Claim {
    const CLAIM: &str = "No runtime wins everywhere, NodeJS included.";
    if contests.is_empty() {
        return missing("The paper", CLAIM, "It takes cold calls of all these engines on the same guests.");
    }
    let wins = |metric: Metric| {
        contests.iter().filter(|workload| order(results, workload, field, metric).first() == Some(&NODE)).count()
    };
    let (total, execute) = (wins(Metric::Total), wins(Metric::Execute));
    let verdict = if total == contests.len() { Verdict::Fails } else { Verdict::Holds };
    let finding = format!(
        "Of the paper's field, {NODE} takes least on {total} of {}, from request to answer; of execution alone, on {execute}. \
         (A process of Node.js that runs is there before the call, as in a server.)",
        plural(contests.len(), "guest", "guests"),
    );
    paper(CLAIM, verdict, finding)
}

fn table(results: &Results, contests: &[Workload], field: &[&str]) -> Table {
    let warm = results.workloads("edge");
    let cell =
        |estimate: Option<Estimate>| Cell::new(estimate.map_or_else(|| "-".to_owned(), |ratio| ratio_with(&ratio)));
    let rows = field.iter().map(|engine| {
        let mean =
            |workloads: &[Workload], pattern, metric| cell(over_baseline(results, workloads, engine, pattern, metric));
        vec![
            Cell::new(*engine),
            mean(contests, Pattern::Cold, Metric::Total),
            mean(contests, Pattern::Cold, Metric::Compile),
            mean(contests, Pattern::Cold, Metric::Execute),
            mean(&warm, Pattern::Warm, Metric::StartUp),
        ]
    });
    let names = ["cold: total", "compile", "execute", "start-up with artifacts on disk"].map(str::to_owned);
    Table {
        caption: format!(
            "Over {BASELINE}: one cold call of {}, and edge applications with artifacts on disk",
            plural(contests.len(), "guest", "guests")
        ),
        rows: rows.collect(),
        columns: columns("Engine", &names),
        folded: false,
    }
}
