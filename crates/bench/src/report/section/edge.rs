//! Figure 9: the edge applications.

use super::*;
use crate::report::plot::{Dots, Row};
use crate::results::NATIVE;

const CLAIM: &str = "No runtime wins everywhere.";

pub(super) fn section(results: &Results, palette: &Palette) -> Section {
    let mut section = Section {
        id: "fig9",
        title: "Figure 9: edge applications".into(),
        lead: "Total time of each engine on each application, from request to answer; less is better. Of native code, it is \
               the process from its start to its end. Lines are 95 % intervals."
            .into(),
        ..Section::default()
    };
    let workloads = results.workloads("edge");
    let engines = results.engines(|point| point.suite == "edge" && kind(&point.engine) != Kind::Peer);
    for pattern in [Pattern::Cold, Pattern::Fifty, Pattern::Warm] {
        let rows = rows(results, &workloads, &engines, pattern);
        if rows.is_empty() {
            continue;
        }
        section.claims.extend(claim(results, &workloads, pattern));
        section.parts.push(Part::Heading(capital(pattern_words(pattern))));
        let plot = Dots { palette, rows: &rows, tick: units::time_tick, axis: "total time", reference: None };
        let words = format!("Total time of each engine on each edge application, {}", pattern_words(pattern));
        section.parts.push(Part::Picture(plot.draw(words)));
        let table_rows = workloads.iter().map(|workload| {
            let name = Cell::new(label(workload, &workloads));
            std::iter::once(name).chain(total_cells(results, workload, pattern, &engines)).collect()
        });
        section.parts.push(Part::Table(Table {
            caption: format!("Total time, {}", pattern_words(pattern)),
            rows: table_rows.collect(),
            columns: columns("Application", &engines),
            folded: true,
        }));
    }
    if section.claims.is_empty() {
        let what = "The results do not have an edge application on two engines.";
        section.claims.push(missing("The paper", CLAIM, what));
        return section;
    }
    section.parts.extend(native(results, &workloads));
    section.parts.push(whole_processes(results));
    section
}

fn rows(results: &Results, workloads: &[Workload], engines: &[String], pattern: Pattern) -> Vec<Row> {
    let dots = |workload: &Workload| -> Vec<Dot> {
        engines
            .iter()
            .filter_map(|engine| {
                let estimate = results.estimate(&workload.on(engine, pattern), Metric::Total)?;
                Some(dot(engine, &estimate))
            })
            .collect()
    };
    workloads
        .iter()
        .map(|workload| Row { label: label(workload, workloads), strong: false, dots: dots(workload) })
        .filter(|row| !row.dots.is_empty())
        .collect()
}

fn claim(results: &Results, workloads: &[Workload], pattern: Pattern) -> Option<Claim> {
    let engines = singles(results, "edge");
    let winners: Vec<(String, String)> = workloads
        .iter()
        .filter_map(|workload| Some((label(workload, workloads), best(results, workload, pattern, &engines)?.0)))
        .collect();
    let different: BTreeSet<&String> = winners.iter().map(|(_, engine)| engine).collect();
    if engines.len() < 2 || winners.is_empty() {
        return None;
    }
    let words: Vec<String> = different
        .iter()
        .map(|engine| {
            let of_engine = winners.iter().filter(|(_, winner)| winner == *engine);
            let applications: Vec<String> = of_engine.map(|(application, _)| application.clone()).collect();
            format!("{engine} on {}", list(&applications))
        })
        .collect();
    Some(Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: capital(pattern_words(pattern)),
        verdict: changes(results, workloads, pattern, &different),
        finding: format!("The fastest: {}.", words.join("; ")),
    })
}

/// A sentence that says how far each engine is from native code.
fn native(results: &Results, workloads: &[Workload]) -> Option<Part> {
    let engines =
        results.engines(|point| point.suite == "edge" && !matches!(kind(&point.engine), Kind::Native | Kind::Peer));
    let of_native = |workload: &Workload| results.estimate(&workload.on(NATIVE, Pattern::Cold), Metric::Execute);
    if !workloads.iter().any(|workload| of_native(workload).is_some()) {
        return Some(Part::Words(
            "Native code, the physical limit, was not measured on the edge applications, or not with the twin of `noop`, \
             which tells what a process takes by itself."
                .into(),
        ));
    }
    let pattern = [Pattern::Steady, Pattern::Fifty, Pattern::Cold]
        .into_iter()
        .find(|pattern| results.patterns("edge").contains(pattern))?;
    let words: Vec<String> = engines
        .iter()
        .filter_map(|engine| {
            let ratios: Vec<Estimate> = workloads
                .iter()
                .filter_map(|workload| {
                    let native = workload.on(NATIVE, Pattern::Cold);
                    results.ratio(&workload.on(engine, pattern), &native, Metric::Execute)
                })
                .collect();
            let mean = || Estimate::geometric_mean(&ratios.iter().collect::<Vec<_>>());
            (!ratios.is_empty()).then(|| format!("{engine} {}", ratio_with(&mean())))
        })
        .collect();
    (!words.is_empty()).then(|| {
        Part::Words(format!(
            "The physical limit: executing takes, as a multiple of native code (geometric mean over the applications, {}): \
             {}.",
            pattern_words(pattern),
            list(&words)
        ))
    })
}

/// A table of other programs that a user could run instead. All are compared as whole processes, from start to end.
fn whole_processes(results: &Results) -> Part {
    let engines = results.engines(|point| {
        point.suite == "edge" && point.pattern == Pattern::Cold && results.estimate(point, Metric::Process).is_some()
    });
    if !engines.iter().any(|engine| kind(engine) == Kind::Peer) {
        return Part::Words("No other program was measured beside Remuda (`peer.NAME` as an engine).".into());
    }
    let workloads = results.workloads("edge");
    let rows = workloads.iter().map(|workload| {
        let cells = engines.iter().map(|engine| {
            let estimate = results.estimate(&workload.on(engine, Pattern::Cold), Metric::Process);
            Cell::new(estimate.map_or_else(|| "-".to_owned(), |estimate| time_with(&estimate)))
        });
        std::iter::once(Cell::new(label(workload, &workloads))).chain(cells).collect()
    });
    Part::Table(Table {
        caption: "Whole processes from start to end, other programs too (one cold call)".into(),
        rows: rows.collect(),
        columns: columns("Application", &engines),
        folded: false,
    })
}
