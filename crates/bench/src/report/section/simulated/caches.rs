//! Figure 11: misses by cache size.

use super::*;
use crate::report::plot::{Line, Lines};

const QUESTION: &str = "Larger first-level caches help one compiler's code more than another's.";
/// Fewer misses for each 1000 instructions than this are drawn as this: the axis is logarithmic, and so few cost nothing.
const LEAST: f64 = 0.01;
/// Code is taken to fit into a cache with fewer misses for each 1000 instructions than this: at 12 cycles for a miss, they cost
/// a processor that executes one instruction a cycle about 1 %.
const FITS: f64 = 1.0;

/// The kinds of caches, with their names in sentences.
/// The suites, with their names in sentences.
const SUITES: [(&str, &str); 2] = [(KERNELS, "PolyBench"), ("edge", "edge applications")];
const KINDS: [(&str, Caches); 2] = [("instruction", |one| &one.instruction_caches), ("data", |one| &one.data_caches)];

pub(super) fn section(sets: &[Set<'_>], palette: &Palette) -> Section {
    let mut section = Section {
        id: "fig11",
        title: "Figure 11: first-level caches by size".into(),
        lead: format!(
            "Misses for each 1000 instructions of the guest's own code in simulated caches (64-byte lines, 8 ways, LRU, no prefetching), \
             as means over the guests of a suite; less is better. Code that does more in one instruction has more misses for each \
             1000 of them, and not more misses: the tables have those, too. Less than {LEAST} is drawn as {LEAST}. The paper simulated such \
             caches with gem5; its curves, of 2021's engines, were not at hand to be put beside these."
        ),
        ..Section::default()
    };
    for (set, (suite, suite_words)) in sets.iter().flat_map(|set| SUITES.map(|suite| (set, suite))) {
        let guests = set.common(suite);
        for (kind, of) in KINDS {
            let lines: Vec<Line> = set.engines.iter().map(|engine| line(set, &guests, engine, of)).collect();
            if lines.iter().all(|line| line.points.len() < 2) {
                continue;
            }
            let scope = format!("{}, {suite_words}, {kind} caches", target_words(set.target));
            let words = format!("Misses for each 1000 instructions by the size of the cache for each engine: {scope}");
            section.claims.push(claim(&scope, &lines));
            section.parts.push(Part::Heading(scope.clone()));
            let ticks: Vec<f64> = set.cache_sizes(of).into_iter().map(|size| size as f64).collect();
            let plot = Lines {
                palette,
                lines: &lines,
                x_axis: "size of the cache, KiB",
                x_tick: |bytes| units::plain(bytes / 1024.0),
                x_ticks: &ticks,
                y_axis: "misses per 1000 instructions",
                y_tick: units::plain,
                best: &[],
            };
            section.parts.push(Part::Picture(plot.draw(words)));
            section.parts.push(Part::Table(table(set, &scope, &guests, of)));
        }
    }
    if section.claims.is_empty() {
        section.claims.push(missing("Question", QUESTION, NOTHING));
    }
    section
}

fn line(set: &Set<'_>, guests: &[Workload], engine: &str, of: Caches) -> Line {
    let point = |size: u64| {
        let rate = set.per_thousand(guests, engine, |one| misses(of(one), size))?.max(LEAST);
        Some((size as f64, rate, rate, rate))
    };
    Line { engine: engine.to_owned(), points: set.cache_sizes(of).into_iter().filter_map(point).collect() }
}

fn claim(scope: &str, lines: &[Line]) -> Claim {
    let fits = |line: &Line| line.points.iter().find(|point| point.1 < FITS).map(|point| point.0);
    let words: Vec<String> = lines
        .iter()
        .map(|line| match fits(line) {
            Some(size) => format!("{} {}", line.engine, kib(size)),
            None => format!("{} more than the largest", line.engine),
        })
        .collect();
    let distinct: BTreeSet<String> = lines.iter().map(|line| format!("{:?}", fits(line))).collect();
    Claim {
        whose: "Question",
        claim: QUESTION.into(),
        scope: scope.to_owned(),
        verdict: if distinct.len() > 1 { Verdict::Holds } else { Verdict::Fails },
        finding: format!(
            "To have less than {FITS} miss for each 1000 instructions, on average, the smallest cache that will do is: {}.",
            list(&words)
        ),
    }
}

fn table(set: &Set<'_>, scope: &str, guests: &[Workload], of: Caches) -> Table {
    let row = |size: u64| {
        let cell = |engine: &String| {
            let rate = set.per_thousand(guests, engine, |one| misses(of(one), size));
            let sum: u64 = guests.iter().filter_map(|kernel| misses(of(set.one(kernel, engine)?), size)).sum();
            Cell::new(rate.map_or_else(|| "-".into(), |rate| format!("{} ({sum})", units::digits(rate))))
        };
        std::iter::once(Cell::new(kib(size as f64))).chain(set.engines.iter().map(cell)).collect()
    };
    Table {
        caption: format!(
            "{scope}: misses for each 1000 instructions, mean over {} guests (and the sum of all misses)",
            guests.len()
        ),
        rows: set.cache_sizes(of).into_iter().map(row).collect(),
        columns: columns("Size", &set.engines),
        folded: true,
    }
}
