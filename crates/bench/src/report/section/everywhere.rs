//! The paper's finding: no runtime wins everywhere.

use std::collections::BTreeMap;

use super::*;
use crate::results::BASELINE;
use crate::stats::geometric_mean;

pub(super) fn section(results: &Results) -> Section {
    Section {
        id: "finding",
        title: "The finding".into(),
        lead: "What the paper found in 2021, held against what was measured here. The sections below show the same in \
               full."
            .into(),
        claims: vec![nowhere(results), interpreter(results), optimizing(results)],
        parts: vec![Part::Table(wins(results))],
    }
}

/// All combinations of a workload and a pattern that at least two engines were measured on, with these engines.
fn contests(results: &Results) -> Vec<(Workload, Pattern, Vec<String>)> {
    let mut contests = Vec::new();
    for suite in results.suites() {
        for pattern in results.patterns(&suite) {
            for workload in results.workloads(&suite) {
                let mut engines = singles(results, &suite);
                engines.retain(|engine| results.estimate(&workload.on(engine, pattern), Metric::Total).is_some());
                if engines.len() > 1 {
                    contests.push((workload, pattern, engines));
                }
            }
        }
    }
    contests
}

fn nowhere(results: &Results) -> Claim {
    const CLAIM: &str = "No runtime wins everywhere.";
    let contests = contests(results);
    let engines = results.engines(|point| kind(&point.engine) == Kind::Single);
    if engines.len() < 2 || contests.is_empty() {
        return missing("The paper", CLAIM, "It takes at least two engines on the same guest.");
    }
    // The claim holds if for each engine there is a contest that another engine wins beyond doubt.
    let loses = |engine: &String| {
        contests.iter().any(|(workload, pattern, among)| {
            among.contains(engine)
                && among.iter().filter(|other| *other != engine).any(|other| {
                    let ratio =
                        results.ratio(&workload.on(engine, *pattern), &workload.on(other, *pattern), Metric::Total);
                    ratio.is_some_and(|ratio| ratio.interval().low > CLEARLY)
                })
        })
    };
    let unbeaten: Vec<String> = engines.iter().filter(|engine| !loses(engine)).cloned().collect();
    let finding = if unbeaten.is_empty() {
        format!(
            "Each of the {} engines is beaten on some of the {} combinations of guest and pattern by another one, by more \
             than 5 % at the interval's lower end.",
            engines.len(),
            contests.len()
        )
    } else {
        format!(
            "On none of the {} combinations of guest and pattern is {} beaten by more than 5 % beyond doubt.",
            contests.len(),
            list(&unbeaten)
        )
    };
    let verdict = match unbeaten.len() {
        0 => Verdict::Holds,
        // Each engine but this one is beaten somewhere.
        1 => Verdict::Fails,
        _ => Verdict::Open,
    };
    Claim { whose: "The paper", claim: CLAIM.into(), scope: String::new(), verdict, finding }
}

fn interpreter(results: &Results) -> Claim {
    const CLAIM: &str = "An interpreter starts in microseconds and runs ten times slower.";
    let Some(engine) =
        results.engines(|point| kind(&point.engine) == Kind::Single).into_iter().find(|engine| is_interpreter(engine))
    else {
        return missing("The paper", CLAIM, "The results have no interpreter.");
    };
    let mut starts = Vec::new();
    let mut slower = Vec::new();
    for point in results.points().filter(|point| point.engine == engine && point.pattern == Pattern::Cold) {
        let (compile, workload) = (results.estimate(point, Metric::Compile), Workload::from(point));
        starts.extend(compile.map(|estimate| estimate.value));
        if matches!(point.suite.as_str(), "polybench" | "edge" | "matmul") {
            let against = workload.on(BASELINE, Pattern::Cold);
            slower.extend(results.ratio(point, &against, Metric::Execute).map(|ratio| ratio.value));
        }
    }
    if starts.is_empty() || slower.is_empty() {
        return missing(
            "The paper",
            CLAIM,
            &format!("It takes cold calls of {engine} beside {BASELINE}, on PolyBench, edge applications or matrices."),
        );
    }
    let (start_ns, slower_by) = (geometric_mean(&starts), geometric_mean(&slower));
    let microseconds = start_ns < 1e6;
    // "Ten times" is a round number: everything from half of it (five) to twice as much (twenty) counts as ten times.
    let ten_times = (5.0..=20.0).contains(&slower_by);
    let verdict = halves(microseconds, ten_times);
    Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: String::new(),
        verdict,
        finding: format!(
            "{engine} makes a module ready in {} (geometric mean over {}), and executes {} as slowly as {BASELINE} \
             (geometric mean over {}; from {}).",
            units::time(start_ns),
            plural(starts.len(), "guest", "guests"),
            ratio(slower_by),
            plural(slower.len(), "guest", "guests"),
            span(&slower),
        ),
    }
}

fn optimizing(results: &Results) -> Claim {
    const CLAIM: &str = "An LLVM build takes seconds and then wins for ever after.";
    let engines = results.engines(|point| kind(&point.engine) == Kind::Single);
    let llvm = engines.iter().find(|engine| engine.contains("llvm"));
    let engine = llvm.cloned().unwrap_or_else(|| BASELINE.to_owned());
    let mut compiles = Vec::new();
    let (mut wins, mut contests) = (0, 0);
    for point in results.points().filter(|point| point.engine == engine && point.pattern == Pattern::Cold) {
        let Some(compile) = results.estimate(point, Metric::Compile) else { continue };
        compiles.push(compile.value);
        let workload = Workload::from(point);
        let others = singles(results, &point.suite).into_iter().filter(|other| *other != engine);
        let ratios: Vec<f64> = others
            .filter_map(|other| results.ratio(point, &workload.on(&other, Pattern::Cold), Metric::Execute))
            .map(|ratio| ratio.value)
            .collect();
        if !ratios.is_empty() {
            contests += 1;
            wins += usize::from(ratios.iter().all(|ratio| *ratio <= 1.0));
        }
    }
    if contests == 0 {
        return missing(
            "The paper",
            CLAIM,
            "The results have neither an engine with LLVM nor another optimizing compiler.",
        );
    }
    let most = compiles.iter().copied().fold(0.0, f64::max);
    let measured = format!(
        "{engine} compiles for {} (geometric mean; up to {}), and then executes fastest on {wins} of {}",
        units::time(geometric_mean(&compiles)),
        units::time(most),
        plural(contests, "guest", "guests"),
    );
    let (verdict, finding) = if llvm.is_none() {
        (Verdict::Missing, format!("The results have no engine with LLVM. The nearest to it: {measured}."))
    } else {
        (halves(most >= 1e9, wins == contests), format!("{measured}."))
    };
    Claim { whose: "The paper", claim: CLAIM.into(), scope: String::new(), verdict, finding }
}

/// The table that says on how many guests each engine is the best, pattern by pattern.
fn wins(results: &Results) -> Table {
    let engines = results.engines(|point| kind(&point.engine) == Kind::Single);
    let mut counts: BTreeMap<(Pattern, String), usize> = BTreeMap::new();
    let mut totals: BTreeMap<Pattern, usize> = BTreeMap::new();
    for (workload, pattern, among) in contests(results) {
        if let Some((winner, _)) = best(results, &workload, pattern, &among) {
            *counts.entry((pattern, winner)).or_default() += 1;
            *totals.entry(pattern).or_default() += 1;
        }
    }
    let rows = totals.iter().map(|(of, total)| {
        let most = engines.iter().filter_map(|engine| counts.get(&(*of, engine.clone()))).max();
        let cells = engines.iter().map(|engine| {
            let count = counts.get(&(*of, engine.clone()));
            let text = count.map_or_else(|| "0".to_owned(), ToString::to_string);
            if count.is_some() && count == most { Cell::strong(text) } else { Cell::new(text) }
        });
        let name = format!("{} ({total} guests)", pattern_words(*of));
        std::iter::once(Cell::new(name)).chain(cells).collect()
    });
    Table {
        caption: "On how many guests each engine has the least total time".into(),
        rows: rows.collect(),
        columns: columns("Pattern", &engines),
        folded: false,
    }
}
