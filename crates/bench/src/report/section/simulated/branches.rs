//! Table III: branch predictors.

use super::*;

const QUESTION: &str = "A better predictor helps one compiler's code more than another's.";

pub(super) fn section(sets: &[Set<'_>]) -> Section {
    let mut section = Section {
        id: "table3",
        title: "Table III: branch predictors".into(),
        lead: "Mispredicted conditional branches of the guest's own code, for each 1000 instructions and (in brackets) of 100 such \
               branches, as means over the PolyBench kernels. The first three predictors follow gem5's rules at gem5's sizes; TAGE \
               stands for today's processors. The paper's percentages, of 2021's engines under gem5, were not at hand \
               to be put beside these."
            .into(),
        ..Section::default()
    };
    fill(&mut section, sets, QUESTION, claim, table);
    section
}

/// The predictors' names and sizes in bits.
fn predictors(set: &Set<'_>) -> Vec<(String, u64)> {
    let mut names: Vec<(String, u64)> = Vec::new();
    for predictor in set.all.iter().flat_map(|one| &one.predictors) {
        if !names.iter().any(|(name, _)| *name == predictor.name) {
            names.push((predictor.name.clone(), predictor.bits));
        }
    }
    names
}

/// The mean over kernels of mispredictions of 100 conditional branches.
fn percent(set: &Set<'_>, kernels: &[Workload], engine: &str, name: &str) -> Option<f64> {
    set.mean(kernels, engine, |one| {
        Some(mispredictions(one, name)? as f64 * 100.0 / one.conditional_branches.max(1) as f64)
    })
}

fn table(set: &Set<'_>) -> Table {
    let kernels = set.common(KERNELS);
    let row = |(name, bits): (String, u64)| {
        let cell = |engine: &String| {
            let rate = set.per_thousand(&kernels, engine, |one| mispredictions(one, &name));
            let percent = percent(set, &kernels, engine, &name);
            Cell::new(match (rate, percent) {
                (Some(rate), Some(percent)) => format!("{} ({} %)", units::digits(rate), units::digits(percent)),
                _ => "-".into(),
            })
        };
        let name = format!("{name}, {} Kbit", units::digits(bits as f64 / 1024.0));
        std::iter::once(Cell::new(name)).chain(set.engines.iter().map(cell)).collect()
    };
    Table {
        caption: format!("{}: mispredicted branches, means over {} kernels", target_words(set.target), kernels.len()),
        rows: predictors(set).into_iter().map(row).collect(),
        columns: columns("Predictor", &set.engines),
        folded: false,
    }
}

/// Each engine's mispredictions with the worst predictor, and with the best one.
fn claim(set: &Set<'_>) -> Option<Claim> {
    let (kernels, names) = (set.common(KERNELS), predictors(set));
    let gained = |engine: &String| {
        let rates: Vec<f64> = names
            .iter()
            .filter_map(|(name, _)| set.per_thousand(&kernels, engine, |one| mispredictions(one, name)))
            .collect();
        let most = rates.iter().copied().fold(0.0, f64::max);
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        (rates.len() > 1).then(|| (engine.clone(), most, least))
    };
    let gains: Vec<(String, f64, f64)> = set.engines.iter().filter_map(gained).collect();
    let saved: Vec<f64> = gains.iter().map(|(_, most, least)| most - least).collect();
    let (least, most) =
        (saved.iter().copied().fold(f64::INFINITY, f64::min), saved.iter().copied().fold(0.0, f64::max));
    if gains.len() < 2 {
        return None;
    }
    let words: Vec<String> = gains
        .iter()
        .map(|(engine, most, least)| format!("{engine} {} to {}", units::digits(*most), units::digits(*least)))
        .collect();
    Some(Claim {
        whose: "Question",
        claim: QUESTION.into(),
        scope: target_words(set.target).into(),
        verdict: if most > least * CLEARLY { Verdict::Holds } else { Verdict::Fails },
        finding: format!(
            "Mispredictions for each 1000 instructions with the worst and with the best predictor: {}.",
            list(&words)
        ),
    })
}
