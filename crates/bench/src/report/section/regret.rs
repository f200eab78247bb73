//! How far Remuda's choice is from the best single engine by hindsight.

use super::*;

/// What we aim at: the geometric mean, and the worst guest.
const AIMS: [(Pattern, f64, Option<f64>); 3] =
    [(Pattern::Cold, 1.15, Some(1.6)), (Pattern::Fifty, 1.05, None), (Pattern::Warm, 1.05, None)];

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section {
        id: "regret",
        title: "Regret: the choice against the best engine by hindsight".into(),
        lead: format!(
            "The total time of `{AUTO}`, which does not know beforehand which engine is the best, over the total time of the \
             single engine that turns out to be the best for the guest. 1 is perfect; less is possible where two engines \
             together beat each of them."
        ),
        ..Section::default()
    };
    for (pattern, geometric_max, worst_max) in AIMS {
        let regrets = regrets(results, pattern);
        let aim = |what: &str, bound: f64| format!("{what} at most {bound}.");
        let scope = capital(pattern_words(pattern));
        if regrets.is_empty() {
            let what = format!("The results do not have {AUTO} beside single engines in this pattern.");
            section
                .claims
                .push(Claim { scope, ..missing("Aim", &aim("Geometric mean over the guests", geometric_max), &what) });
            continue;
        }
        let parts: Vec<&Estimate> = regrets.iter().map(|regret| &regret.over_best).collect();
        let geometric = Estimate::geometric_mean(&parts);
        section.claims.push(Claim {
            whose: "Aim",
            claim: aim("Geometric mean over the guests", geometric_max),
            scope: scope.clone(),
            verdict: verdict(&geometric, geometric_max),
            finding: format!("It is {} over {}.", ratio_with(&geometric), plural(regrets.len(), "guest", "guests")),
        });
        if let Some(bound) = worst_max {
            let worst = Estimate::greatest(&parts);
            let worst_guest = regrets
                .iter()
                .max_by(|one, other| one.over_best.value.total_cmp(&other.over_best.value))
                .expect("there is a worst of at least one");
            section.claims.push(Claim {
                whose: "Aim",
                claim: aim("Worst guest", bound),
                scope,
                verdict: verdict(&worst, bound),
                finding: format!("It is {}, of {}.", ratio_with(&worst), worst_guest.guest),
            });
        }
        section.parts.push(Part::Table(table(&regrets, &geometric, pattern)));
    }
    section
}

/// What the choice was on a guest, and what it cost.
struct Regret {
    guest: String,
    /// The best engine by hindsight.
    best: String,
    /// Who answered instead, and how often.
    answered: String,
    over_best: Estimate,
}

fn regrets(results: &Results, pattern: Pattern) -> Vec<Regret> {
    let mut regrets = Vec::new();
    for suite in results.suites() {
        let workloads = results.workloads(&suite);
        for workload in &workloads {
            let mut engines = singles(results, &suite);
            engines.retain(|engine| results.estimate(&workload.on(engine, pattern), Metric::Total).is_some());
            let Some((winner, _)) = best(results, workload, pattern, &engines) else { continue };
            let points: Vec<_> = std::iter::once(AUTO)
                .chain(engines.iter().map(String::as_str))
                .map(|engine| workload.on(engine, pattern))
                .collect();
            // The best is picked anew in each resample: who was lucky once does not set the mark.
            let regret = results.paired(&points, Metric::Total, |values| {
                values[0] / values[1..].iter().copied().fold(f64::INFINITY, f64::min)
            });
            let shares = results.answered_by(&workload.on(AUTO, pattern));
            let shares = shares.iter().map(|(engine, share)| format!("{engine} {:.0} %", share * 100.0));
            let answered = shares.collect::<Vec<_>>().join(", ");
            regrets.extend(regret.map(|over_best| Regret {
                guest: label(workload, &workloads),
                best: winner,
                answered,
                over_best,
            }));
        }
    }
    regrets
}

fn verdict(estimate: &Estimate, bound: f64) -> Verdict {
    let Interval { low, high } = estimate.interval();
    if high <= bound {
        Verdict::Holds
    } else if low > bound {
        Verdict::Fails
    } else {
        Verdict::Open
    }
}

fn table(regrets: &[Regret], geometric: &Estimate, pattern: Pattern) -> Table {
    let mut sorted: Vec<&Regret> = regrets.iter().collect();
    sorted.sort_by(|one, other| other.over_best.value.total_cmp(&one.over_best.value));
    let mut rows = vec![vec![
        Cell::strong("geometric mean"),
        Cell::strong(ratio_with(geometric)),
        Cell::default(),
        Cell::default(),
    ]];
    rows.extend(sorted.iter().map(|regret| {
        [&regret.guest, &ratio_with(&regret.over_best), &regret.best, &regret.answered].map(Cell::new).to_vec()
    }));
    Table {
        caption: format!("Regret, {}, the worst first", pattern_words(pattern)),
        rows,
        columns: ["Guest", "auto / best", "best by hindsight", "answered by"].map(ToOwned::to_owned).to_vec(),
        folded: true,
    }
}
