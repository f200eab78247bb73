//! Figure 7: start-up against execution.

use super::*;
use crate::report::plot::{Bar, Group, Shares};
use crate::results::{NATIVE, START_UP};
use crate::row::Phase;

const CLAIM: &str = "An interpreter starts in microseconds and runs ten times slower.";

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section {
        id: "fig7",
        title: "Figure 7: start-up against execution".into(),
        lead:
            "What each engine spends the time of an edge application on: as shares of all phases of one cold call, and \
               of fifty calls from the same cold start. `bootstrap` is the start of the process and its engine, `deploy` reading and \
               validating the module. The number at a bar's end is the sum, in median."
                .into(),
        ..Section::default()
    };
    let measured: Vec<(Pattern, Vec<Group>)> = [Pattern::Cold, Pattern::Fifty]
        .into_iter()
        .map(|pattern| (pattern, groups(results, pattern)))
        .filter(|(_, groups)| !groups.is_empty())
        .collect();
    if measured.is_empty() {
        let what = "The results have no cold and no fifty calls of edge applications with their phases.";
        section.claims.push(missing("The paper", CLAIM, what));
        return section;
    }
    section.claims.push(claim(&measured));
    for (pattern, groups) in &measured {
        let title = if *pattern == Pattern::Cold { "One cold call" } else { "Fifty calls" };
        section.parts.push(Part::Heading(title.into()));
        let phases: Vec<&str> = START_UP.into_iter().chain([Phase::Execute]).map(Phase::name).collect();
        let shares = Shares { groups, phases: &phases };
        let words = format!("Shares of the phases in {}, by application and engine", pattern_words(*pattern));
        section.parts.push(Part::Picture(shares.draw(words)));
        section.parts.push(Part::Table(table(groups, *pattern)));
    }
    for pattern in [Pattern::Cold, Pattern::Fifty] {
        if !measured.iter().any(|(of, _)| *of == pattern) {
            section.parts.push(Part::Words(format!("The results do not have {}.", pattern_words(pattern))));
        }
    }
    section
}

fn groups(results: &Results, pattern: Pattern) -> Vec<Group> {
    let workloads = results.workloads("edge");
    let engines = results.engines(|point| point.suite == "edge" && kind(&point.engine) != Kind::Peer);
    let bar = |workload: &Workload, engine: &String| -> Option<Bar> {
        let point = workload.on(engine, pattern);
        let median_of = |phase: Phase| -> Option<f64> {
            let values: Vec<f64> = results.processes(&point).filter_map(|process| process.phase_ns(phase)).collect();
            (!values.is_empty()).then(|| crate::stats::median(&values))
        };
        let start_up = START_UP.iter().map(|phase| median_of(*phase).unwrap_or(0.0));
        let execute = median_of(Phase::Execute)?;
        let parts_ns: Vec<f64> = start_up.chain([execute]).collect();
        Some(Bar { engine: engine.clone(), total_ns: parts_ns.iter().sum(), parts_ns })
    };
    workloads
        .iter()
        .map(|workload| Group {
            label: label(workload, &workloads),
            bars: engines
                .iter()
                .filter(|engine| engine.as_str() != NATIVE)
                .filter_map(|engine| bar(workload, engine))
                .collect(),
        })
        .filter(|group| !group.bars.is_empty())
        .collect()
}

/// The share of start-up in a bar.
fn start_up_share(bar: &Bar) -> f64 {
    bar.parts_ns[..START_UP.len()].iter().sum::<f64>() / bar.parts_ns.iter().sum::<f64>()
}

fn claim(measured: &[(Pattern, Vec<Group>)]) -> Claim {
    let sentences: Vec<String> = measured
        .iter()
        .map(|(pattern, groups)| {
            let mut shares: Vec<(String, f64)> = Vec::new();
            for engine in engines(groups) {
                let of_engine: Vec<f64> = groups
                    .iter()
                    .flat_map(|group| &group.bars)
                    .filter(|bar| bar.engine == engine)
                    .map(start_up_share)
                    .collect();
                shares.push((engine, crate::stats::median(&of_engine)));
            }
            let words: Vec<String> =
                shares.iter().map(|(engine, share)| format!("{engine} {:.0} %", share * 100.0)).collect();
            format!("Start-up takes, of {}, in the median application: {}.", pattern_words(*pattern), list(&words))
        })
        .collect();
    // Both halves of the claim say that an interpreter spends its time on executing.
    let share_of = |matches: &dyn Fn(&str) -> bool| -> Vec<f64> {
        let bars = measured[0].1.iter().flat_map(|group| &group.bars);
        bars.filter(|bar| kind(&bar.engine) == Kind::Single && matches(&bar.engine)).map(start_up_share).collect()
    };
    let (interpreter, compilers) = (share_of(&is_interpreter), share_of(&|engine| !is_interpreter(engine)));
    let (verdict, conclusion) = if interpreter.is_empty() || compilers.is_empty() {
        (Verdict::Missing, "The results do not have both an interpreter and a compiler.")
    } else if crate::stats::median(&interpreter) < crate::stats::median(&compilers) {
        (Verdict::Holds, "The interpreter spends a smaller share on starting than the compilers.")
    } else {
        (Verdict::Fails, "The interpreter spends no smaller share on starting than the compilers.")
    };
    Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: String::new(),
        verdict,
        finding: format!("{conclusion} {}", sentences.join(" ")),
    }
}

fn engines(groups: &[Group]) -> Vec<String> {
    let mut engines: Vec<String> = Vec::new();
    for bar in groups.iter().flat_map(|group| &group.bars) {
        if !engines.contains(&bar.engine) {
            engines.push(bar.engine.clone());
        }
    }
    engines
}

fn table(groups: &[Group], pattern: Pattern) -> Table {
    let mut rows = Vec::new();
    for group in groups {
        for bar in &group.bars {
            let mut row = vec![Cell::new(&group.label), Cell::new(&bar.engine)];
            row.extend(
                bar.parts_ns.iter().map(|part| Cell::new(if *part > 0.0 { units::time(*part) } else { "-".into() })),
            );
            row.push(Cell::new(units::time(bar.total_ns)));
            row.push(Cell::strong(format!("{:.0} %", start_up_share(bar) * 100.0)));
            rows.push(row);
        }
    }
    let names = ["Application", "Engine"].into_iter().chain(START_UP.map(Phase::name)).chain([
        Phase::Execute.name(),
        "all phases",
        "start-up",
    ]);
    Table {
        caption: format!("Phases of {}, medians", pattern_words(pattern)),
        rows,
        columns: names.map(ToOwned::to_owned).collect(),
        folded: true,
    }
}
