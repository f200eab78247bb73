//! A number that was measured, with an estimate of its error.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

use super::{geometric_mean, mean, median, quantile};

/// How often each set of processes is drawn anew. The interval's ends are the 50th and the 1951st resample, so that
/// drawing again with another seed moves a tail's probability by 0.35 percentage points (one standard deviation): far
/// less than the doubt that a handful of processes leaves.
pub const RESAMPLES: usize = 2_000;

/// The probability with which an interval is meant to hold the true value.
pub const LEVEL: f64 = 0.95;

/// The least number of processes that shows how far they scatter.
pub const PROCESSES_MIN: usize = 3;

/// The range in which a value probably lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

impl Interval {
    /// The interval of a value of which nothing is known.
    pub const UNKNOWN: Self = Self { low: 0.0, high: f64::INFINITY };

    /// Whether anything is known of the value.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.high.is_finite()
    }

    /// Whether `value` is in the interval, the ends included.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }
}

/// A value, and the values that it would have if chance had picked other processes (B. Efron, Bootstrap
/// Methods: Another Look at the Jackknife, The Annals of Statistics 7(1), 1979).
///
/// Everything that is computed from estimates is computed from each of their resamples too. So the error of a ratio, of
/// the best of several engines or of a mean over guests needs no formula of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// The value itself.
    pub value: f64,
    /// The number of processes that the value was computed from; if it was combined from several values, the least
    /// number among them.
    pub processes: usize,
    resamples: Vec<f64>,
}

impl Estimate {
    /// The median of one number for each process. `stream` identifies what was measured, and picks the random numbers:
    /// two estimates have independent errors if, and only if, their streams differ. Returns `None` without processes.
    #[must_use]
    pub fn median(values: &[f64], stream: u64) -> Option<Self> {
        if values.is_empty() {
            return None;
        }
        let mut random = Pcg64Mcg::seed_from_u64(stream);
        let mut drawn = vec![0.0; values.len()];
        let resamples = (0..RESAMPLES)
            .map(|_| {
                drawn.fill_with(|| values[random.random_range(0..values.len())]);
                drawn.sort_by(f64::total_cmp);
                quantile(&drawn, 0.5)
            })
            .collect();
        Some(Self { value: median(values), processes: values.len(), resamples })
    }

    /// Computes any function of several estimates.
    ///
    /// # Panics
    ///
    /// Panics if there are no estimates.
    #[must_use]
    pub fn combine(parts: &[&Self], function: impl Fn(&[f64]) -> f64) -> Self {
        let mut values: Vec<f64> = parts.iter().map(|part| part.value).collect();
        let value = function(&values);
        let resamples = (0..RESAMPLES)
            .map(|index| {
                for (value, part) in values.iter_mut().zip(parts) {
                    *value = part.resamples[index];
                }
                function(&values)
            })
            .collect();
        let processes = parts.iter().map(|part| part.processes).min().expect("at least one estimate");
        Self { value, processes, resamples }
    }

    /// The ratio of this estimate to `other`.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self::combine(&[self, other], |values| values[0] / values[1])
    }

    /// The least of several: the best engine by hindsight. The best is picked anew in each resample, so that being
    /// lucky once does not make an engine the best.
    #[must_use]
    pub fn least(parts: &[&Self]) -> Self {
        Self::combine(parts, |values| values.iter().copied().fold(f64::INFINITY, f64::min))
    }

    /// The greatest of several.
    #[must_use]
    pub fn greatest(parts: &[&Self]) -> Self {
        Self::combine(parts, |values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    /// The geometric mean over guests. The guests stay as they are in every resample: a suite is no random sample of
    /// all programs, and the interval says how well *these* guests were measured.
    #[must_use]
    pub fn geometric_mean(parts: &[&Self]) -> Self {
        Self::combine(parts, geometric_mean)
    }

    /// The arithmetic mean over guests, as the paper took it of its speed-ups.
    #[must_use]
    pub fn mean(parts: &[&Self]) -> Self {
        Self::combine(parts, mean)
    }

    /// The interval between the resamples' percentiles, at [`LEVEL`]; [`Interval::UNKNOWN`] if there are fewer than
    /// [`PROCESSES_MIN`] processes.
    #[must_use]
    pub fn interval(&self) -> Interval {
        if self.processes < PROCESSES_MIN {
            return Interval::UNKNOWN;
        }
        let mut sorted = self.resamples.clone();
        sorted.sort_by(f64::total_cmp);
        let tail = (1.0 - LEVEL) / 2.0;
        Interval { low: quantile(&sorted, tail), high: quantile(&sorted, 1.0 - tail) }
    }

    /// Half of the interval's width, as a share of the value.
    #[must_use]
    pub fn uncertainty(&self) -> f64 {
        let Interval { low, high } = self.interval();
        (high - low) / 2.0 / self.value
    }

    /// The variance of the value's logarithm over the resamples.
    #[must_use]
    pub fn log_variance(&self) -> f64 {
        let logs: Vec<f64> = self.resamples.iter().map(|value| value.ln()).collect();
        let middle = mean(&logs);
        logs.iter().map(|log| (log - middle).powi(2)).sum::<f64>() / (logs.len() - 1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_stream_gives_the_same_interval_and_another_one_another() {
        let values = [9.0, 11.0, 10.0, 14.0, 9.5];
        let [one, again, other] = [1, 1, 2].map(|stream| Estimate::median(&values, stream).expect("has values"));
        assert_eq!(one, again);
        assert_ne!(one, other);
        assert!(one.interval().contains(10.0));
        assert_eq!(Estimate::median(&[], 1), None);
    }

    #[test]
    fn of_what_was_measured_once_nothing_is_known() {
        let once = Estimate::median(&[3.0], 1).expect("has a value");
        assert_eq!(once.interval(), Interval::UNKNOWN);
        let thrice = Estimate::median(&[3.0, 3.0, 3.0], 1).expect("has values");
        assert_eq!(thrice.interval(), Interval { low: 3.0, high: 3.0 });
        assert_eq!(once.over(&thrice).interval(), Interval::UNKNOWN);
        assert_eq!(once.processes, 1);
    }

    #[test]
    fn a_ratio_to_itself_is_one_without_doubt() {
        let estimate = Estimate::median(&[9.0, 11.0, 10.0], 1).expect("has values");
        assert_eq!(estimate.over(&estimate).interval(), Interval { low: 1.0, high: 1.0 });
    }

    /// The interval must hold the true median about as often as it says. With 15 values and this seed it is known how
    /// often it does. The test asserts that no change breaks this, with room for another random number generator.
    #[test]
    fn intervals_cover_the_truth() {
        let mut random = Pcg64Mcg::seed_from_u64(7);
        let held = (0..400)
            .filter(|trial| {
                let values: Vec<f64> = (0..15).map(|_| random.random::<f64>()).collect();
                Estimate::median(&values, *trial).expect("has values").interval().contains(0.5)
            })
            .count();
        assert!((360..=396).contains(&held), "{held} of 400 intervals hold the median");
    }
}
