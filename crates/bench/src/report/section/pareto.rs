//! The cost of compiling against the speed that it brings.

use super::*;
use crate::report::plot::{Spot, Spots};
use crate::results::{BASELINE, NATIVE};
use crate::stats::geometric_mean;

const CLAIM: &str = "No runtime wins everywhere.";

pub(super) fn section(results: &Results, palette: &Palette) -> Section {
    let mut section = Section {
        id: "pareto",
        title: "Compile time against speed".into(),
        lead: format!(
            "Time to compile (or translate) a module, and time to execute it as a multiple of {BASELINE}; down and left is \
             better. Small marks are single guests, large marks the geometric means over guests that all of these engines \
             ran; the line joins the engines that no other beats in both."
        ),
        ..Section::default()
    };
    let spots = spots(results);
    let engines: Vec<String> = spots.iter().filter(|spot| spot.whole).map(|spot| spot.engine.clone()).collect();
    if engines.len() < 2 {
        let what = format!("It takes cold calls of {BASELINE} and of another engine on the same guests.");
        section.claims.push(missing("The paper", CLAIM, &what));
        return section;
    }
    let limit = native_limit(results).map(|limit| (limit, "native code".to_owned()));
    if limit.is_none() {
        section.parts.push(Part::Words("Native code, the physical limit, was not measured.".into()));
    }
    let plot = Spots { palette, spots: &spots, x_axis: "time to compile", y_axis: "time to execute", limit };
    let front: Vec<String> = plot.front().map(|spot| spot.engine.clone()).collect();
    let verdict = if front.len() > 1 { Verdict::Holds } else { Verdict::Fails };
    let finding = if front.len() > 1 {
        let beaten: Vec<String> = engines.iter().filter(|engine| !front.contains(engine)).cloned().collect();
        let rest =
            if beaten.is_empty() { String::new() } else { format!(" Beaten in both by another: {}.", list(&beaten)) };
        format!("No other engine beats {} in both.{rest}", list(&front))
    } else {
        format!("{} is the best in both.", list(&front))
    };
    section.claims.push(Claim { whose: "The paper", claim: CLAIM.into(), scope: String::new(), verdict, finding });
    section.parts.push(Part::Picture(plot.draw("Compile time and execution time of each engine".into())));
    let rows = spots
        .iter()
        .filter(|spot| spot.whole)
        .map(|spot| [spot.engine.clone(), units::time(spot.x), ratio(spot.y)].map(Cell::new).to_vec());
    section.parts.push(Part::Table(Table {
        caption: "Geometric means".into(),
        rows: rows.collect(),
        columns: ["Engine", "compile", "execute, over wasmtime.cranelift"].map(ToOwned::to_owned).to_vec(),
        folded: true,
    }));
    section
}

/// All single engines with a compile time, and the guests that each of these engines was measured on.
fn common(results: &Results) -> (Vec<String>, Vec<Workload>) {
    let engines = results.engines(|point| {
        kind(&point.engine) == Kind::Single
            && point.pattern == Pattern::Cold
            && results.estimate(point, Metric::Compile).is_some()
    });
    let workloads: Vec<Workload> = ["polybench", "edge"]
        .into_iter()
        .flat_map(|suite| results.workloads(suite))
        .filter(|workload| {
            engines
                .iter()
                .all(|engine| results.estimate(&workload.on(engine, Pattern::Cold), Metric::Compile).is_some())
        })
        .collect();
    (engines, workloads)
}

fn spots(results: &Results) -> Vec<Spot> {
    let (engines, workloads) = common(results);
    let mut spots = Vec::new();
    for engine in engines {
        let of_guests: Vec<(f64, f64)> = workloads
            .iter()
            .filter_map(|workload| {
                let point = workload.on(&engine, Pattern::Cold);
                let compile = results.estimate(&point, Metric::Compile)?;
                let execute = results.ratio(&point, &workload.on(BASELINE, Pattern::Cold), Metric::Execute)?;
                Some((compile.value, execute.value))
            })
            .collect();
        if of_guests.is_empty() {
            continue;
        }
        let spot = |x, y, whole| Spot { engine: engine.clone(), x, y, whole };
        spots.extend(of_guests.iter().map(|(x, y)| spot(*x, *y, false)));
        let (x, y): (Vec<f64>, Vec<f64>) = of_guests.into_iter().unzip();
        spots.push(spot(geometric_mean(&x), geometric_mean(&y), true));
    }
    spots
}

fn native_limit(results: &Results) -> Option<f64> {
    let (_, workloads) = common(results);
    let ratios: Vec<f64> = workloads
        .iter()
        .filter_map(|workload| {
            let (native, baseline) = (workload.on(NATIVE, Pattern::Cold), workload.on(BASELINE, Pattern::Cold));
            Some(results.ratio(&native, &baseline, Metric::Execute)?.value)
        })
        .collect();
    (!ratios.is_empty()).then(|| geometric_mean(&ratios))
}
