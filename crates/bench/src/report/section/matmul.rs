//! Figure 8: the best engine changes with the size of the input.

use std::collections::BTreeMap;

use super::*;
use crate::report::plot::{Line, Lines};

const CLAIM: &str = "The best engine changes with the size of the matrices.";

pub(super) fn section(results: &Results, palette: &Palette) -> Section {
    let mut section = Section {
        id: "fig8",
        title: "Figure 8: matrix multiplication by size".into(),
        lead: "Total time from request to answer for the product of two square matrices; less is better. Of native code, it \
               is the process from its start to its end. Below: the single engine with the least time at each size."
            .into(),
        ..Section::default()
    };
    let workloads = results.workloads("matmul");
    let families = families(&workloads);
    for pattern in [Pattern::Cold, Pattern::Fifty, Pattern::Warm] {
        for (family, sizes) in &families {
            let lines = lines(results, sizes, pattern);
            if lines.iter().filter(|line| kind(&line.engine) == Kind::Single).count() < 2
                || lines.iter().all(|line| line.points.len() < 2)
            {
                continue;
            }
            let singles = singles(results, "matmul");
            let best: Vec<(f64, String)> = sizes
                .iter()
                .filter_map(|(size, workload)| Some((f64::from(*size), best(results, workload, pattern, &singles)?.0)))
                .collect();
            section.parts.push(Part::Heading(format!("{}, {}", capital(pattern_words(pattern)), family)));
            // The paper's claim is about single calls: other patterns count only if there are no cold calls.
            if pattern == Pattern::Cold || section.claims.is_empty() {
                section.claims.push(claim(results, sizes, pattern, family, &best));
            }
            let plot = Lines {
                palette,
                lines: &lines,
                x_axis: "rows and columns",
                x_tick: units::plain,
                x_ticks: &[],
                y_axis: "total time",
                y_tick: units::time_tick,
                best: &best,
            };
            let words = format!("Total time by matrix size of each engine, {}, {family}", pattern_words(pattern));
            section.parts.push(Part::Picture(plot.draw(words)));
            section.parts.push(Part::Table(table(results, sizes, pattern, family)));
        }
    }
    if section.claims.is_empty() {
        let what = "The results do not have two sizes of the guest `matmul` on two engines.";
        section.claims.push(missing("The paper", CLAIM, what));
    }
    section
}

/// The workloads of each kind of matrix, by size. A case's name, such as `f64-200`, is the kind's name and the number
/// of rows.
fn families(workloads: &[Workload]) -> BTreeMap<String, BTreeMap<u32, Workload>> {
    let mut families: BTreeMap<String, BTreeMap<u32, Workload>> = BTreeMap::new();
    for workload in workloads {
        let digits: String = workload.case.chars().rev().take_while(char::is_ascii_digit).collect();
        let Ok(size) = digits.chars().rev().collect::<String>().parse::<u32>() else { continue };
        if size == 0 {
            continue;
        }
        let kind = workload.case[..workload.case.len() - digits.len()].trim_end_matches(['-', '_', '.']);
        let mut family = if kind.is_empty() { "any type".to_owned() } else { kind.to_owned() };
        if !workload.variant.is_empty() {
            family += &format!(", {}", workload.variant);
        }
        families.entry(family).or_default().insert(size, workload.clone());
    }
    families
}

fn lines(results: &Results, sizes: &BTreeMap<u32, Workload>, pattern: Pattern) -> Vec<Line> {
    let engines = results.engines(|point| point.suite == "matmul" && kind(&point.engine) != Kind::Peer);
    let line = |engine: String| {
        let points = sizes
            .iter()
            .filter_map(|(size, workload)| {
                let estimate = results.estimate(&workload.on(&engine, pattern), Metric::Total)?;
                let (low, high) = ends(&estimate);
                Some((f64::from(*size), estimate.value, low, high))
            })
            .collect();
        Line { engine, points }
    };
    engines.into_iter().map(line).filter(|line| !line.points.is_empty()).collect()
}

fn claim(
    results: &Results,
    sizes: &BTreeMap<u32, Workload>,
    pattern: Pattern,
    family: &str,
    best: &[(f64, String)],
) -> Claim {
    let mut stretches: Vec<(f64, f64, String)> = Vec::new();
    for (size, engine) in best {
        match stretches.last_mut() {
            Some((_, end, of)) if of == engine => *end = *size,
            _ => stretches.push((*size, *size, engine.clone())),
        }
    }
    let words: Vec<String> = stretches
        .iter()
        .map(
            |(from, to, engine)| {
                if from < to { format!("{engine} from {from} to {to}") } else { format!("{engine} at {from}") }
            },
        )
        .collect();
    let winners: BTreeSet<&String> = best.iter().map(|(_, engine)| engine).collect();
    let verdict = changes(results, &sizes.values().cloned().collect::<Vec<_>>(), pattern, &winners);
    let doubt = if verdict == Verdict::Open { " The intervals leave it open whether that is chance." } else { "" };
    Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: format!("{}, {family}", capital(pattern_words(pattern))),
        verdict,
        finding: format!("The best is {}.{doubt}", list(&words)),
    }
}

fn table(results: &Results, sizes: &BTreeMap<u32, Workload>, pattern: Pattern, family: &str) -> Table {
    let engines = results.engines(|point| point.suite == "matmul" && kind(&point.engine) != Kind::Peer);
    let rows = sizes.iter().map(|(size, workload)| {
        std::iter::once(Cell::new(size.to_string())).chain(total_cells(results, workload, pattern, &engines)).collect()
    });
    Table {
        caption: format!("Total time by size, {}, {family}", pattern_words(pattern)),
        rows: rows.collect(),
        columns: columns("Size", &engines),
        folded: true,
    }
}
