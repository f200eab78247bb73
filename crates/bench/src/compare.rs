//! Compares two results, and says what changed.
//!
//! Two files were measured at different times, so nothing is paired: the ratio of a point is the ratio of the medians over
//! processes. Its logarithm's variance is the sum of both bootstrap variances, and the interval is Student's, with Welch's
//! degrees of freedom (B. L. Welch, The Generalization of "Student's" Problem when Several Different Population Variances
//! are Involved, Biometrika 34, 1947). A bootstrap's percentiles would not do, because the tails described below are
//! too small for its number of resamples.
//!
//! A comparison of a thousand points at 95 % would find fifty changes where nothing changed. So the intervals are
//! *simultaneous* after Bonferroni: the tail of each is divided by the number of comparisons, and with 95 % probability
//! not one of all intervals misses its true ratio. The geometric means are a family of their own.

use std::fmt::Write as _;

use crate::report::units::digits;
use crate::results::{Metric, Results, Workload, pattern_name};
use crate::row::{Pattern, Point};
use crate::stats::{Estimate, Interval, LEVEL, PROCESSES_MIN, student_quantile};

/// The judgement of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Slower beyond doubt, and by more than the threshold.
    Slower,
    /// Slower beyond doubt, but by no more than the threshold.
    SlowerWithin,
    /// Faster beyond doubt.
    Faster,
    /// No change beyond doubt: the interval holds 1.
    Same,
    /// There are too few processes to tell.
    Open,
}

/// The change of a point or of a geometric mean.
#[derive(Clone, Debug)]
pub struct Change {
    /// The name of the point or the geometric mean.
    pub name: String,
    /// The time in B over the time in A.
    pub ratio: f64,
    /// The ratio's simultaneous interval; `None` if there are too few processes.
    pub interval: Option<Interval>,
    /// The judgement of the change.
    pub verdict: Verdict,
}

/// A comparison of two results.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The points that both results have, sorted.
    pub points: Vec<Change>,
    /// The geometric mean of each engine in each pattern.
    pub means: Vec<Change>,
    /// The number of points that only A has; points that failed in B are not among them.
    pub only_in_a: usize,
    /// The number of points that only B has.
    pub only_in_b: usize,
    /// Points that A has numbers for and that failed in B, with the reason.
    pub broken: Vec<String>,
    /// Reasons to doubt the comparison.
    pub warnings: Vec<String>,
    /// How much slower something may be, as a share: 0.05 for 5 %.
    pub threshold: f64,
}

/// A ratio's logarithm, with the parts of its variance. Each part is a variance, and the degrees of freedom that it was
/// estimated with; the variance of the logarithm is their sum.
#[derive(Clone, Debug)]
struct LogRatio {
    value: f64,
    parts: Vec<(f64, f64)>,
    known: bool,
}

impl LogRatio {
    fn of(a: &Estimate, b: &Estimate) -> Self {
        // The bootstrap's variance is that of a population of n values; the variance of a sample is n / (n - 1) times
        // as large.
        let part = |estimate: &Estimate| {
            let degrees = (estimate.processes.max(2) - 1) as f64;
            (estimate.log_variance() * (degrees + 1.0) / degrees, degrees)
        };
        Self {
            value: (b.value / a.value).ln(),
            parts: vec![part(a), part(b)],
            known: a.processes.min(b.processes) >= PROCESSES_MIN,
        }
    }

    /// The mean of several logarithms, which is the logarithm of the geometric mean.
    fn mean(all: &[Self]) -> Self {
        let count = all.len() as f64;
        let parts = all.iter().flat_map(|one| &one.parts);
        Self {
            value: all.iter().map(|one| one.value).sum::<f64>() / count,
            parts: parts.map(|(variance, degrees)| (variance / (count * count), *degrees)).collect(),
            known: all.iter().all(|one| one.known),
        }
    }

    fn change(&self, name: String, comparisons: usize, threshold: f64) -> Change {
        let ratio = self.value.exp();
        if !self.known {
            return Change { name, ratio, interval: None, verdict: Verdict::Open };
        }
        let variance: f64 = self.parts.iter().map(|(variance, _)| variance).sum();
        let half = if variance > 0.0 {
            let squares: f64 = self.parts.iter().map(|(variance, degrees)| variance * variance / degrees).sum();
            let tail = (1.0 - LEVEL) / 2.0 / comparisons as f64;
            variance.sqrt() * student_quantile(tail, variance * variance / squares)
        } else {
            0.0
        };
        let interval = Interval { low: (self.value - half).exp(), high: (self.value + half).exp() };
        let verdict = if interval.low > 1.0 {
            if ratio > 1.0 + threshold { Verdict::Slower } else { Verdict::SlowerWithin }
        } else if interval.high < 1.0 {
            Verdict::Faster
        } else {
            Verdict::Same
        };
        Change { name, ratio, interval: Some(interval), verdict }
    }
}

impl Comparison {
    /// Compares `a` with `b`; `threshold` is a share: 0.05 for 5 %.
    #[must_use]
    pub fn new(a: &Results, b: &Results, threshold: f64) -> Self {
        let mut ratios: Vec<(&Point, LogRatio)> = Vec::new();
        for point in a.points() {
            if let (Some(before), Some(after)) = (a.estimate(point, Metric::Total), b.estimate(point, Metric::Total)) {
                ratios.push((point, LogRatio::of(&before, &after)));
            }
        }
        let mut groups: Vec<((Pattern, &str), Vec<LogRatio>)> = Vec::new();
        for (point, ratio) in &ratios {
            let key = (point.pattern, point.engine.as_str());
            match groups.iter_mut().find(|(known, _)| *known == key) {
                Some((_, of_group)) => of_group.push(ratio.clone()),
                None => groups.push((key, vec![ratio.clone()])),
            }
        }
        groups.sort_by_key(|(key, _)| *key);
        let change = |(point, ratio): &(&Point, LogRatio)| ratio.change(name(point), ratios.len(), threshold);
        let mean = |((pattern, engine), of_group): &((Pattern, &str), Vec<LogRatio>)| {
            let name = format!("{engine} ({}), geometric mean of {}", pattern_name(*pattern), of_group.len());
            LogRatio::mean(of_group).change(name, groups.len(), threshold)
        };
        let failed = |point: &Point| b.failures.iter().find(|failure| failure.point == *point);
        let missing = || a.points().filter(|point| b.processes(point).next().is_none());
        let broken = missing().filter_map(|point| Some(format!("{}: {}", name(point), failed(point)?.reason)));
        Self {
            broken: broken.collect(),
            only_in_a: missing().filter(|point| failed(point).is_none()).count(),
            only_in_b: b.points().filter(|point| a.processes(point).next().is_none()).count(),
            warnings: warnings(a, b),
            points: ratios.iter().map(change).collect(),
            means: groups.iter().map(mean).collect(),
            threshold,
        }
    }

    /// Whether something is slower beyond doubt and by more than the threshold, or no longer works.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        !self.broken.is_empty() || self.points.iter().chain(&self.means).any(|change| change.verdict == Verdict::Slower)
    }

    /// The comparison as text. Of the points, only those that changed are named.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let mut line = |words: &str| writeln!(text, "{words}").expect("a string takes everything");
        for warning in &self.warnings {
            line(&format!("warning: {warning}"));
        }
        line("B over A, less than 1 is faster; brackets: 95 % that all of them hold");
        line("");
        for mean in &self.means {
            line(&row(mean));
        }
        line("");
        let mut changed: Vec<&Change> = self
            .points
            .iter()
            .filter(|change| matches!(change.verdict, Verdict::Slower | Verdict::SlowerWithin | Verdict::Faster))
            .collect();
        changed.sort_by(|one, other| other.ratio.total_cmp(&one.ratio));
        for change in &changed {
            line(&row(change));
        }
        for broken in &self.broken {
            line(&format!("failed in B   {broken}"));
        }
        if changed.is_empty() {
            line("no point changed beyond doubt");
        }
        line("");
        let count = |verdict| self.points.iter().filter(|change| change.verdict == verdict).count();
        line(&format!(
            "{} points: {} slower by more than {} %, {} slower by less, {} faster, {} unchanged, {} with too few processes to \
             tell; {} only in A, {} only in B, {} failed in B",
            self.points.len(),
            count(Verdict::Slower),
            digits(self.threshold * 100.0),
            count(Verdict::SlowerWithin),
            count(Verdict::Faster),
            count(Verdict::Same),
            count(Verdict::Open),
            self.only_in_a,
            self.only_in_b,
            self.broken.len(),
        ));
        text
    }
}

fn row(change: &Change) -> String {
    let verdict = match change.verdict {
        Verdict::Slower => "SLOWER",
        Verdict::SlowerWithin => "a bit slower",
        Verdict::Faster => "faster",
        Verdict::Same => "unchanged",
        Verdict::Open => "cannot tell",
    };
    let interval = change.interval.map_or_else(
        || "[too few processes]".to_owned(),
        |interval| format!("[{:.3}, {:.3}]", interval.low, interval.high),
    );
    format!("{verdict:<13} {:>7.3} {interval:<18} {}", change.ratio, change.name)
}

fn name(point: &Point) -> String {
    let workload = crate::report::long_label(&Workload::from(point));
    format!("{workload} on {} ({})", point.engine, pattern_name(point.pattern))
}

fn warnings(a: &Results, b: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    let machines = |results: &Results| {
        let mut machines: Vec<String> =
            results.runs.iter().map(|run| format!("{} ({})", run.machine.cpu, run.machine.fingerprint)).collect();
        machines.sort();
        machines.dedup();
        machines.join(" and ")
    };
    if machines(a) != machines(b) {
        warnings.push(format!(
            "A was measured on {} and B on {}: a change may be the machine's; measure both on the same one",
            machines(a),
            machines(b)
        ));
    }
    let differs = a.points().filter(|point| {
        let digest = |results: &Results| {
            let first = results.processes(point).next()?;
            first.calls.iter().chain(&first.whole).next().map(|sample| sample.digest.clone())
        };
        digest(b).is_some_and(|after| digest(a) != Some(after))
    });
    let differing = differs.count();
    if differing > 0 {
        warnings.push(format!(
            "{differing} points ran another module in B than in A: the guest changed, not only the engine"
        ));
    }
    for (which, results) in [("A", a), ("B", b)] {
        for warning in crate::noise::warnings(results) {
            warnings.push(format!("{which}: {}; {}", warning.what, warning.remedy));
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(a: &[f64], b: &[f64], comparisons: usize, expected: Verdict) {
        let estimate = |values: &[f64], stream| Estimate::median(values, stream).expect("has values");
        let ratio = LogRatio::of(&estimate(a, 1), &estimate(b, 2));
        let change = ratio.change("this".into(), comparisons, 0.05);
        assert_eq!(change.verdict, expected, "{a:?} {b:?} {change:?}");
    }

    #[test]
    fn a_change_must_stand_out_from_the_scatter() {
        let quiet = [100.0, 100.5, 99.5, 100.2, 99.8, 100.1, 99.9];
        let slower = quiet.map(|value| value * 1.1);
        check(&quiet, &slower, 1, Verdict::Slower);
        check(&slower, &quiet, 1, Verdict::Faster);
        check(&quiet, &quiet, 1, Verdict::Same);
        check(&quiet, &quiet.map(|value| value * 1.03), 1, Verdict::SlowerWithin);
        let noisy = [80.0, 120.0, 100.0, 90.0, 110.0, 130.0, 70.0];
        check(&noisy, &noisy.map(|value| value * 1.1), 1, Verdict::Same);
        check(&quiet[..2], &slower[..2], 1, Verdict::Open);
    }

    #[test]
    fn among_many_comparisons_the_same_change_must_stand_out_more() {
        let before = [100.0, 104.0, 96.0, 102.0, 98.0, 101.0, 99.0];
        let after = before.map(|value| value * 1.08);
        check(&before, &after, 1, Verdict::Slower);
        check(&before, &after, 100_000, Verdict::Same);
    }

    /// Compares 400 families of 20 points in which nothing changed. About 5 % of the families may report a change.
    #[test]
    fn nothing_changes_where_nothing_changed() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(3);
        let mut draw = || -> Vec<f64> { (0..7).map(|_| 100.0 + 10.0 * random.random::<f64>()).collect() };
        let wolves = (0..400_u64)
            .filter(|family| {
                (0..20).any(|point| {
                    let stream = family * 40 + point * 2;
                    let before = Estimate::median(&draw(), stream).expect("has values");
                    let after = Estimate::median(&draw(), stream + 1).expect("has values");
                    let change = LogRatio::of(&before, &after).change(String::new(), 20, 0.0);
                    change.verdict != Verdict::Same
                })
            })
            .count();
        assert!(wolves <= 28, "{wolves} of 400 families found a change");
    }
}
