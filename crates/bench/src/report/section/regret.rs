//! Regret: the distance of Remuda's choice from the best single engine by hindsight.

use super::*;
use crate::engines::AMONG;

/// The aims: pattern, greatest geometric mean, and greatest regret of the worst guest.
const AIMS: [(Pattern, f64, Option<f64>); 3] =
    [(Pattern::Cold, 0.95, Some(1.2)), (Pattern::Fifty, 0.98, None), (Pattern::Warm, 1.05, None)];

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section {
        id: "regret",
        title: "Regret: the choice against the best engine by hindsight".into(),
        lead: format!(
            "The total time of `{AUTO}`, which does not know beforehand which engine is the best, over the total time of the \
             single engine that turns out to be the best for the guest, of those that it chooses among. 1 is perfect; less is \
             possible where a guest begins on \
             one engine and goes on in the code of another. `{RACING}` is the same choice without that: its guests stay where \
             they began, and others race them."
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
        section.parts.push(Part::Table(beside_single_engines(&regrets, pattern)));
        section.parts.push(Part::Table(table(&regrets, &geometric, pattern)));
    }
    section
}

/// The choice on one guest, and its cost.
struct Regret {
    guest: String,
    /// The best engine by hindsight.
    best: String,
    /// The engines that answered instead, and how often.
    answered: String,
    over_best: Estimate,
    /// The same for the choice whose guests stay on the engine that they began on.
    racing_over_best: Option<Estimate>,
    /// The same for each engine alone.
    single_over_best: Vec<(String, Estimate)>,
}

fn regrets(results: &Results, pattern: Pattern) -> Vec<Regret> {
    let mut regrets = Vec::new();
    for suite in results.suites() {
        let workloads = results.workloads(&suite);
        for workload in &workloads {
            let mut engines = singles(results, &suite);
            engines.retain(|engine| results.estimate(&workload.on(engine, pattern), Metric::Total).is_some());
            let among = chosen_among(results, workload, pattern, &engines);
            let Some((winner, _)) = best(results, workload, pattern, &among) else { continue };
            let regret = |choice: &str| {
                let points: Vec<_> = std::iter::once(choice)
                    .chain(among.iter().map(String::as_str))
                    .map(|engine| workload.on(engine, pattern))
                    .collect();
                // The best is picked anew in each resample, so that an engine that was lucky once does not set the
                // mark.
                results.paired(&points, Metric::Total, |values| {
                    values[0] / values[1..].iter().copied().fold(f64::INFINITY, f64::min)
                })
            };
            let shares = results.answered_by(&workload.on(AUTO, pattern));
            let shares = shares.iter().map(|(engine, share)| format!("{engine} {:.0} %", share * 100.0));
            let answered = shares.collect::<Vec<_>>().join(", ");
            regrets.extend(regret(AUTO).map(|over_best| Regret {
                guest: label(workload, &workloads),
                best: winner,
                answered,
                over_best,
                racing_over_best: regret(RACING),
                single_over_best: engines.iter().filter_map(|engine| Some((engine.clone(), regret(engine)?))).collect(),
            }));
        }
    }
    regrets
}

/// Those of `engines` that the choice chooses among: it does not use engines that have to be asked for by name. All of
/// them, if the results do not say.
fn chosen_among(results: &Results, workload: &Workload, pattern: Pattern, engines: &[String]) -> Vec<String> {
    let flags = results.flags(&workload.on(AUTO, pattern));
    let Some(among) = flags.and_then(|flags| flags.strip_prefix(AMONG)) else { return engines.to_vec() };
    engines.iter().filter(|engine| among.split(' ').any(|word| word == engine.as_str())).cloned().collect()
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

/// The choice beside those who always take the same engine, over all guests.
fn beside_single_engines(regrets: &[Regret], pattern: Pattern) -> Table {
    let mut rows: Vec<(&str, Vec<&Estimate>)> = vec![(AUTO, regrets.iter().map(|regret| &regret.over_best).collect())];
    let racing: Vec<&Estimate> = regrets.iter().filter_map(|regret| regret.racing_over_best.as_ref()).collect();
    if !racing.is_empty() {
        rows.push((RACING, racing));
    }
    for (engine, over_best) in regrets.iter().flat_map(|regret| &regret.single_over_best) {
        match rows.iter_mut().find(|(name, _)| name == engine) {
            Some((_, parts)) => parts.push(over_best),
            None => rows.push((engine, vec![over_best])),
        }
    }
    let cells = |(name, parts): (&str, Vec<&Estimate>)| {
        let (mean, worst) = (Estimate::geometric_mean(&parts), Estimate::greatest(&parts));
        [name.to_owned(), ratio_with(&mean), ratio_with(&worst), parts.len().to_string()]
            .map(|text| Cell::new(&text))
            .into()
    };
    Table {
        caption: format!("Time over that of the best engine by hindsight, {}", pattern_words(pattern)),
        rows: rows.into_iter().map(cells).collect(),
        columns: ["Engine", "geometric mean", "worst guest", "guests"].map(ToOwned::to_owned).into(),
        folded: false,
    }
}

fn table(regrets: &[Regret], geometric: &Estimate, pattern: Pattern) -> Table {
    let mut sorted: Vec<&Regret> = regrets.iter().collect();
    sorted.sort_by(|one, other| other.over_best.value.total_cmp(&one.over_best.value));
    let racing: Option<Vec<&Estimate>> = regrets.iter().map(|regret| regret.racing_over_best.as_ref()).collect();
    let racing = racing.map(|parts| Estimate::geometric_mean(&parts));
    let mut rows = vec![vec![Cell::strong("geometric mean"), Cell::strong(ratio_with(geometric))]];
    rows[0].extend(racing.iter().map(|mean| Cell::strong(ratio_with(mean))));
    rows[0].extend([Cell::default(), Cell::default()]);
    rows.extend(sorted.iter().map(|regret| {
        let racing = regret.racing_over_best.as_ref().filter(|_| racing.is_some()).map(ratio_with);
        let over_best = [regret.guest.clone(), ratio_with(&regret.over_best)];
        let cells = over_best.into_iter().chain(racing).chain([regret.best.clone(), regret.answered.clone()]);
        cells.map(|text| Cell::new(&text)).collect()
    }));
    let columns = ["Guest", "auto / best"].into_iter().chain(racing.map(|_| "racing / best"));
    Table {
        caption: format!("Regret, {}, the worst first", pattern_words(pattern)),
        rows,
        columns: columns.chain(["best by hindsight", "answered by"]).map(ToOwned::to_owned).collect(),
        folded: true,
    }
}
