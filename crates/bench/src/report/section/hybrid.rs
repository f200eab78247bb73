//! Table II: the hybrid against each single engine.

use super::field::HYBRIDS;
use super::*;

const CLAIM: &str = "The hybrid is 1.5× to 16.9× faster than any single runtime, over five edge applications.";

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section {
        id: "table2",
        title: "Table II: the hybrid against each single engine".into(),
        lead: format!(
            "How many times as long each engine takes as `{AUTO}`, over the edge applications: as the average of the \
             speed-ups of the applications, which is how the paper counted, and as the geometric mean, which does not \
             depend on who is divided by whom."
        ),
        ..Section::default()
    };
    for pattern in [Pattern::Cold, Pattern::Fifty, Pattern::Warm] {
        let speed_ups = speed_ups(results, pattern);
        if speed_ups.is_empty() {
            section.parts.push(Part::Words(format!(
                "The results do not have {AUTO} beside another engine for {}.",
                pattern_words(pattern)
            )));
            continue;
        }
        let all: Vec<&SpeedUp> = speed_ups.iter().collect();
        section.claims.push(claim(&all, capital(pattern_words(pattern))));
        let of_paper: Vec<&SpeedUp> = all.into_iter().filter(|one| HYBRIDS.contains(&one.engine.as_str())).collect();
        if of_paper.len() == HYBRIDS.len() {
            section
                .claims
                .push(claim(&of_paper, format!("{}, over the paper's four", capital(pattern_words(pattern)))));
        }
        section.parts.push(Part::Table(table(&speed_ups, pattern)));
    }
    if section.claims.is_empty() {
        section.parts.clear();
        let what = format!("The results do not have {AUTO} beside another engine on edge applications.");
        section.claims.push(missing("The paper", CLAIM, &what));
    }
    section
}

/// The hybrid's speed-up over one engine: the engine's time over the hybrid's.
struct SpeedUp {
    engine: String,
    applications: Vec<(String, Estimate)>,
    average: Estimate,
    geometric: Estimate,
}

fn speed_ups(results: &Results, pattern: Pattern) -> Vec<SpeedUp> {
    let workloads = results.workloads("edge");
    let speed_up = |engine: String| {
        let applications: Vec<(String, Estimate)> = workloads
            .iter()
            .filter_map(|workload| {
                let ratio =
                    results.ratio(&workload.on(&engine, pattern), &workload.on(AUTO, pattern), Metric::Total)?;
                Some((label(workload, &workloads), ratio))
            })
            .collect();
        if applications.is_empty() {
            return None;
        }
        let parts: Vec<&Estimate> = applications.iter().map(|(_, ratio)| ratio).collect();
        let (average, geometric) = (Estimate::mean(&parts), Estimate::geometric_mean(&parts));
        Some(SpeedUp { engine, applications, average, geometric })
    };
    singles(results, "edge").into_iter().filter_map(speed_up).collect()
}

fn claim(speed_ups: &[&SpeedUp], scope: String) -> Claim {
    let averages = || speed_ups.iter().map(|speed_up| speed_up.average.value);
    let least = averages().fold(f64::INFINITY, f64::min);
    let most = averages().fold(0.0, f64::max);
    let faster = speed_ups.iter().filter(|speed_up| speed_up.average.interval().low > 1.0).count();
    let slower = speed_ups.iter().filter(|speed_up| speed_up.average.interval().high < 1.0).count();
    let verdict = if faster == speed_ups.len() && least >= 1.5 {
        Verdict::Holds
    } else if faster > 0 {
        Verdict::InPart
    } else if slower > 0 {
        Verdict::Fails
    } else {
        Verdict::Open
    };
    Claim {
        whose: "The paper",
        claim: CLAIM.into(),
        scope,
        verdict,
        finding: format!(
            "On average over the applications, the single engines take from {} to {} as long as {AUTO}, which is faster \
             than {faster} of {} beyond doubt.",
            ratio(least),
            ratio(most),
            plural(speed_ups.len(), "engine", "engines"),
        ),
    }
}

fn table(speed_ups: &[SpeedUp], pattern: Pattern) -> Table {
    let mut applications: Vec<String> = Vec::new();
    for (application, _) in speed_ups.iter().flat_map(|speed_up| &speed_up.applications) {
        if !applications.contains(application) {
            applications.push(application.clone());
        }
    }
    let rows = speed_ups.iter().map(|speed_up| {
        let mut row = vec![Cell::new(&speed_up.engine)];
        row.extend(applications.iter().map(|application| {
            let ratio = speed_up.applications.iter().find(|(of, _)| of == application);
            Cell::new(ratio.map_or_else(|| "-".to_owned(), |(_, ratio)| units::digits(ratio.value)))
        }));
        row.push(Cell::strong(ratio_with(&speed_up.average)));
        row.push(Cell::strong(ratio_with(&speed_up.geometric)));
        row
    });
    let ends = ["average".to_owned(), "geometric mean".to_owned()];
    Table {
        caption: format!("{}: times as long as {AUTO}, more is better for it", capital(pattern_words(pattern))),
        rows: rows.collect(),
        columns: columns("Engine", &[applications.as_slice(), &ends].concat()),
        folded: false,
    }
}
