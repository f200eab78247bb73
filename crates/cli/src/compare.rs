//! `remuda compare`

use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;

use anyhow::ensure;
use clap::Args;
use remuda_bench::compare::Comparison;

use crate::report;

/// Say what changed between two results. Exit code 3: something is slower by more than the threshold, or fails now
#[derive(Args)]
pub(crate) struct Compare {
    /// What was measured before
    #[arg(value_name = "A")]
    before: PathBuf,

    /// What was measured after
    #[arg(value_name = "B")]
    after: PathBuf,

    /// By how much a point or a geometric mean may get slower
    #[arg(long, value_name = "PERCENT", default_value = "5%", value_parser = percent)]
    threshold: f64,
}

/// The exit code if something got slower or fails now. It differs from 1, which means an error, and from 2, which means
/// a mistake on the command line.
const EXIT_SLOWER: u8 = 3;

impl Compare {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let [before, after] = [&self.before, &self.after].map(|path| report::read(slice::from_ref(path)));
        let (before, after) = (before?, after?);
        let comparison = Comparison::new(&before, &after, self.threshold);
        ensure!(
            !comparison.points.is_empty() || !comparison.broken.is_empty(),
            "{} and {} have no point in common: measure the same guests, cases, engines and patterns in both",
            self.before.display(),
            self.after.display()
        );
        report::print(&comparison.to_text())?;
        Ok(if comparison.is_worse() { ExitCode::from(EXIT_SLOWER) } else { ExitCode::SUCCESS })
    }
}

/// Parses a percentage, and returns it as a share. The percent sign is required, because `0.05` could mean either.
fn percent(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').map(str::trim).and_then(|number| number.parse::<f64>().ok());
    match number {
        Some(number) if number.is_finite() && number >= 0.0 => Ok(number / 100.0),
        _ => Err("give a percentage that is not negative, such as `5%`".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn percentages() {
        for (text, expected) in [("5%", Some(0.05)), ("2.5 %", Some(0.025)), ("0%", Some(0.0))] {
            assert_eq!(percent(text).ok(), expected, "{text}");
        }
        for text in ["5", "0.05", "-1%", "%", "NaN%", "inf%", ""] {
            assert!(percent(text).is_err(), "{text}");
        }
    }
}
