//! What was counted, as tables: one column an engine.

use std::fmt::Write as _;

use remuda_microarch::{CacheConfig, CacheResult, PredictorConfig};

use super::{Counted, HardwareCounted};

/// The width of the first column, in characters.
const NAMES: usize = 34;
/// The width of an engine's column.
const COLUMN: usize = 34;

pub(super) fn of(counted: &[Counted]) -> String {
    let mut out = String::new();
    row(&mut out, "", counted.iter().map(|it| it.engine.clone()));
    let totals: [(&str, fn(&Counted) -> u64); 5] = [
        ("instructions", |it| it.report.instructions),
        ("loads", |it| it.report.loads),
        ("stores", |it| it.report.stores),
        ("conditional branches", |it| it.report.conditional_branches),
        ("  taken", |it| it.report.taken_branches),
    ];
    for (name, total) in totals {
        row(&mut out, name, counted.iter().map(|it| total(it).to_string()));
    }
    caches(&mut out, "instruction cache: misses, per 1000 instructions (% of fetches)", counted, |it| {
        &it.report.instruction_caches
    });
    caches(&mut out, "data cache: misses, per 1000 instructions (% of accesses)", counted, |it| &it.report.data_caches);
    out.push_str(
        "\nbranches mispredicted, per 1000 instructions (% of conditional branches, of taken ones, of returns)\n",
    );
    let predictors = counted.first().map_or(0, |it| it.report.predictors.len());
    for i in 0..predictors {
        let results = counted.iter().filter_map(|it| it.report.predictors.get(i));
        let name = counted[0].report.predictors.get(i).map_or("", |it| predictor(&it.config));
        row(
            &mut out,
            name,
            results.map(|it| {
                rate(it.counts.mispredictions, it.mispredictions_per_thousand_instructions, it.misprediction_percent)
            }),
        );
    }
    row(
        &mut out,
        "branch target buffer",
        counted.iter().map(|it| {
            let buffer = it.report.target_buffer.as_ref();
            buffer.map_or_else(String::new, |it| {
                rate(it.counts.misses + it.counts.wrong_targets, it.wrong_per_thousand_instructions, it.wrong_percent)
            })
        }),
    );
    row(
        &mut out,
        "return address stack",
        counted.iter().map(|it| {
            let stack = it.report.return_stack.as_ref();
            stack.map_or_else(String::new, |it| {
                rate(it.counts.mispredictions, it.mispredictions_per_thousand_instructions, it.misprediction_percent)
            })
        }),
    );
    out
}

/// What the processor's own counters counted.
pub(super) fn hardware(counted: &[HardwareCounted]) -> String {
    let mut out = String::new();
    row(&mut out, "events, per 1000 instructions", counted.iter().map(|it| it.engine.clone()));
    let count =
        |it: &HardwareCounted, event: &str| it.events.iter().find(|one| one.event == event).map(|one| one.count);
    for event in counted.first().map_or(&[][..], |it| &it.events) {
        let cell = |it: &HardwareCounted| match (count(it, &event.event), count(it, "instructions")) {
            (Some(events), Some(instructions)) => {
                format!("{events}, {:.3}", events as f64 * 1000.0 / instructions.max(1) as f64)
            }
            _ => "-".to_owned(),
        };
        row(&mut out, &event.event, counted.iter().map(cell));
    }
    out
}

fn caches(out: &mut String, title: &str, counted: &[Counted], of: fn(&Counted) -> &[CacheResult]) {
    let _ = writeln!(out, "\n{title}");
    for (i, first) in counted.first().map_or(&[][..], |it| of(it)).iter().enumerate() {
        let results = counted.iter().filter_map(|it| of(it).get(i));
        row(
            out,
            &cache(&first.config),
            results.map(|it| rate(it.counts.misses(), it.misses_per_thousand_instructions, it.miss_percent)),
        );
    }
}

fn row(out: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>COLUMN$}")).collect();
    let _ = writeln!(out, "{}", format!("{name:NAMES$}{cells}").trim_end());
}

fn rate(count: u64, per_thousand: f64, percent: f64) -> String {
    format!("{count}, {per_thousand:.3} ({percent:.2} %)")
}

fn cache(config: &CacheConfig) -> String {
    format!("{} KiB, {} B, {} ways", config.size_bytes as f64 / 1024.0, config.line_bytes, config.ways)
}

fn predictor(config: &PredictorConfig) -> &'static str {
    match config {
        PredictorConfig::Local(_) => "local, 2-bit counters",
        PredictorConfig::BiMode(_) => "bi-mode",
        PredictorConfig::Tournament(_) => "tournament",
        PredictorConfig::Tage(_) => "TAGE",
    }
}
