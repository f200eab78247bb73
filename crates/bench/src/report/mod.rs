//! The report: what was measured, as pictures, tables and sentences, each beside the paper's claim.
//!
//! `section` computes the content, `html` and `markdown` write it as text, and `csv` writes the numbers.

mod canvas;
mod csv;
mod html;
mod markdown;
mod page;
mod plot;
mod section;
pub(crate) mod units;

use crate::noise;
use crate::results::{Results, pattern_name};
use page::{Cell, Fact, Page, Table};
pub(crate) use section::long_label;

/// The format of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One HTML page that needs no other file.
    Html,
    /// Markdown without pictures.
    Markdown,
    /// Numbers only: one line for each point and metric.
    Csv,
}

/// The report of `results`.
#[must_use]
pub fn render(results: &Results, format: Format) -> String {
    match format {
        Format::Html => html::render(&page(results)),
        Format::Markdown => markdown::render(&page(results)),
        Format::Csv => csv::render(results),
    }
}

fn page(results: &Results) -> Page {
    Page {
        title: "WebAssembly engines, characterized".into(),
        facts: facts(results),
        warnings: noise::warnings(results),
        failures: failures(results),
        sections: section::all(results),
    }
}

fn facts(results: &Results) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut fact = |name, value: String, literal| facts.push(Fact { name, value, literal });
    let distinct = |of: &dyn Fn(&crate::row::Run) -> String| {
        let mut values: Vec<String> = Vec::new();
        for run in &results.runs {
            let value = of(run);
            if !values.contains(&value) {
                values.push(value);
            }
        }
        values.join("; ")
    };
    if results.runs.is_empty() {
        fact("Run", "the results do not say how they were measured".into(), false);
        return facts;
    }
    fact(
        "Machine",
        distinct(&|run| {
            let machine = &run.machine;
            format!("{}, {} cores, {} of memory", machine.cpu, machine.cores, units::bytes(machine.memory_bytes as f64))
        }),
        false,
    );
    fact(
        "System",
        distinct(&|run| {
            let governor = run.machine.governor.as_deref().unwrap_or("not shown by the kernel");
            format!("{}, frequency governor: {governor}", run.machine.kernel)
        }),
        false,
    );
    fact("Fingerprint", distinct(&|run| run.machine.fingerprint.clone()), true);
    fact("Remuda", distinct(&|run| run.remuda.clone()), false);
    fact("Commit", distinct(&|run| run.commit.clone()), true);
    fact("Measured", distinct(&|run| utc(run.unix_ms)), false);
    fact("Seed", distinct(&|run| run.seed.to_string()), true);
    fact("To reproduce", distinct(&|run| run.command.clone()), true);
    let processes: usize = results.points().map(|point| results.processes(point).count()).sum();
    fact("Size", format!("{} points, {processes} fresh processes", results.points().count()), false);
    facts
}

fn failures(results: &Results) -> Table {
    let row = |failure: &crate::row::Failure| {
        let point = &failure.point;
        let workload = long_label(&point.into());
        [workload, point.engine.clone(), pattern_name(point.pattern).into(), failure.reason.clone()]
            .map(Cell::new)
            .to_vec()
    };
    Table {
        caption: "Points without numbers, and why".into(),
        columns: ["Guest", "Engine", "Pattern", "Reason"].map(ToOwned::to_owned).to_vec(),
        rows: results.failures.iter().map(row).collect(),
        folded: false,
    }
}

/// A time in milliseconds since the Unix epoch as a date of the proleptic Gregorian calendar, by the algorithm
/// `civil_from_days` of H. Hinnant (chrono-Compatible Low-Level Date Algorithms).
fn utc(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let days = seconds / 86_400 + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (seconds % 86_400 / 3600, seconds % 3600 / 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        assert_eq!(super::utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(super::utc(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(super::utc(1_764_021_600_000), "2025-11-24 22:00 UTC");
    }
}
