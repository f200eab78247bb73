//! Figure 5: PolyBench, normalised.

use super::*;
use crate::report::canvas::Picture;
use crate::report::plot::{Dots, Row};
use crate::results::{BASELINE, NATIVE};

const CLAIM: &str = "No runtime wins everywhere.";

pub(super) fn section(results: &Results, palette: &Palette) -> Section {
    let mut section = Section {
        id: "fig5",
        title: "Figure 5: PolyBench, normalised to wasmtime.cranelift".into(),
        ..Section::default()
    };
    let workloads = results.workloads("polybench");
    let Some(pattern) = pattern_to_show(results, &workloads) else {
        let what = format!("The results have no PolyBench kernel on {BASELINE} and another engine.");
        section.claims.push(missing("The paper", CLAIM, &what));
        return section;
    };
    section.lead = format!(
        "Time to execute each kernel ({}), without compiling and starting, as a multiple of what {BASELINE} takes; less is \
         better. Native code is the physical limit: of its process, what it takes longer than an empty one. Lines are 95 % \
         intervals.",
        pattern_words(pattern)
    );
    let engines = results.engines(|point| point.suite == "polybench" && kind(&point.engine) != Kind::Peer);
    let ratios = |engine: &String| -> Vec<(usize, Estimate)> {
        let of = |workload: &Workload| {
            results.ratio(&executed(workload, engine, pattern), &workload.on(BASELINE, pattern), Metric::Execute)
        };
        workloads.iter().enumerate().filter_map(|(index, workload)| Some((index, of(workload)?))).collect()
    };
    let all: Vec<(String, Vec<(usize, Estimate)>)> = engines
        .iter()
        .map(|engine| (engine.clone(), ratios(engine)))
        .filter(|(_, ratios)| !ratios.is_empty())
        .collect();
    let means: Vec<(String, usize, Estimate)> = all
        .iter()
        .map(|(engine, ratios)| {
            let parts: Vec<&Estimate> = ratios.iter().map(|(_, ratio)| ratio).collect();
            (engine.clone(), parts.len(), Estimate::geometric_mean(&parts))
        })
        .collect();
    section.claims.push(claim(&all, &means));
    section.parts.push(Part::Picture(picture(&workloads, &all, &means, palette)));
    section.parts.push(Part::Table(means_table(results, &workloads, pattern, &means)));
    section.parts.push(Part::Table(table(&workloads, &all)));
    section
}

/// The pattern that shows execution best, of the patterns that were measured.
fn pattern_to_show(results: &Results, workloads: &[Workload]) -> Option<Pattern> {
    [Pattern::Steady, Pattern::Fifty, Pattern::Cold].into_iter().find(|pattern| {
        workloads.iter().any(|workload| {
            let measured = |engine: &str| results.estimate(&workload.on(engine, *pattern), Metric::Execute).is_some();
            measured(BASELINE)
                && singles(results, "polybench").iter().any(|engine| engine != BASELINE && measured(engine))
        })
    })
}

fn claim(all: &[(String, Vec<(usize, Estimate)>)], means: &[(String, usize, Estimate)]) -> Claim {
    let faster: Vec<String> = all
        .iter()
        .filter(|(engine, _)| kind(engine) == Kind::Single && engine != BASELINE)
        .filter_map(|(engine, ratios)| {
            let count = ratios.iter().filter(|(_, ratio)| ratio.interval().high < 1.0).count();
            (count > 0).then(|| format!("{engine} on {}", plural(count, "kernel", "kernels")))
        })
        .collect();
    let means: Vec<String> = means
        .iter()
        .filter(|(engine, ..)| engine != BASELINE)
        .map(|(engine, _, mean)| format!("{engine} {}", ratio(mean.value)))
        .collect();
    let geometric = format!("Geometric means of execution: {}.", list(&means));
    let singles = || all.iter().filter(|(engine, _)| kind(engine) == Kind::Single && engine != BASELINE);
    if faster.is_empty() && singles().flat_map(|(_, ratios)| ratios).any(|(_, ratio)| ratio.interval().low < 1.0) {
        return Claim {
            whose: "The paper",
            claim: CLAIM.into(),
            scope: String::new(),
            verdict: Verdict::Open,
            finding: format!("{BASELINE} may be beaten on some kernel: the intervals leave it open. {geometric}"),
        };
    }
    if faster.is_empty() {
        return Claim {
            whose: "The paper",
            claim: CLAIM.into(),
            scope: String::new(),
            verdict: Verdict::Fails,
            finding: format!(
                "Of execution alone, {BASELINE} is beaten beyond doubt on no kernel: what it loses, it loses by compiling \
                 (see Figure 7). {geometric}"
            ),
        };
    }
    Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope: String::new(),
        verdict: Verdict::Holds,
        finding: format!("{BASELINE} is beaten beyond doubt by {}. {geometric}", list(&faster)),
    }
}

fn picture(
    workloads: &[Workload],
    all: &[(String, Vec<(usize, Estimate)>)],
    means: &[(String, usize, Estimate)],
    palette: &Palette,
) -> Picture {
    let mut rows = vec![Row {
        label: "geomean".into(),
        strong: true,
        dots: means.iter().map(|(engine, _, mean)| dot(engine, mean)).collect(),
    }];
    rows.extend(workloads.iter().enumerate().map(|(index, workload)| {
        let of = |(engine, ratios): &(String, Vec<(usize, Estimate)>)| {
            ratios.iter().find(|(of, _)| *of == index).map(|(_, ratio)| dot(engine, ratio))
        };
        Row { label: label(workload, workloads), strong: false, dots: all.iter().filter_map(of).collect() }
    }));
    let plot = Dots {
        palette,
        rows: &rows,
        tick: units::ratio_tick,
        axis: "times as long as wasmtime.cranelift",
        reference: Some(1.0),
    };
    plot.draw("For each PolyBench kernel, each engine's time to execute over wasmtime.cranelift's".into())
}

fn means_table(
    results: &Results,
    workloads: &[Workload],
    pattern: Pattern,
    means: &[(String, usize, Estimate)],
) -> Table {
    let rows = means.iter().map(|(engine, count, mean)| {
        let native: Vec<Estimate> = workloads
            .iter()
            .filter_map(|workload| {
                results.ratio(
                    &executed(workload, engine, pattern),
                    &workload.on(NATIVE, Pattern::Cold),
                    Metric::Execute,
                )
            })
            .collect();
        let over_native = if native.is_empty() {
            "native was not measured".to_owned()
        } else {
            ratio_with(&Estimate::geometric_mean(&native.iter().collect::<Vec<_>>()))
        };
        [engine.clone(), count.to_string(), ratio_with(mean), over_native].map(Cell::new).to_vec()
    });
    Table {
        caption: "Geometric means over the kernels, with 95 % intervals".into(),
        rows: rows.collect(),
        columns: ["Engine", "Kernels", "over wasmtime.cranelift", "over native code"].map(ToOwned::to_owned).to_vec(),
        folded: false,
    }
}

fn table(workloads: &[Workload], all: &[(String, Vec<(usize, Estimate)>)]) -> Table {
    let rows = workloads.iter().enumerate().map(|(index, workload)| {
        let cells = all.iter().map(|(_, ratios)| {
            let ratio = ratios.iter().find(|(of, _)| *of == index);
            Cell::new(ratio.map_or_else(|| "-".to_owned(), |(_, ratio)| ratio_with(ratio)))
        });
        std::iter::once(Cell::new(label(workload, workloads))).chain(cells).collect()
    });
    let engines: Vec<String> = all.iter().map(|(engine, _)| engine.clone()).collect();
    Table {
        caption: "The same in numbers".into(),
        rows: rows.collect(),
        columns: columns("Kernel", &engines),
        folded: true,
    }
}
