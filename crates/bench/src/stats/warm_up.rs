//! Finds where a series of calls stops getting faster.

use super::median;

/// The number of consecutive calls that are averaged to one value.
const BATCH: usize = 5;
/// How far the medians of the rest's two halves may be apart, as a share of the rest's median.
const LEVEL_WITHIN: f64 = 0.02;

/// A series of calls after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Steady {
    /// The number of calls at the beginning that are left out.
    pub warm_up: usize,
    /// Whether the rest is level. It is `false` if the rule leaves out as much as it may (half of the series) and the
    /// medians of the rest's two halves still differ by more than 2 %, or if there are too few calls for the rule.
    pub settled: bool,
    /// The median of the rest.
    pub value: f64,
}

/// MSER-5: leaves out as many batches of five calls at the beginning as make the standard error of the rest's mean
/// least, but at most half of all batches (K. P. White, An Effective Truncation Heuristic for Bias Reduction in
/// Simulation Output, Simulation 69(6), 1997; K. P. White, M. J. Cobb, S. C. Spratt, A Comparison of Five Steady-State
/// Truncation Heuristics for Simulation, Winter Simulation Conference 2000).
///
/// Returns `None` if there are no calls.
#[must_use]
pub fn mser_5(values: &[f64]) -> Option<Steady> {
    if values.is_empty() {
        return None;
    }
    let batches: Vec<f64> = values.chunks_exact(BATCH).map(|batch| batch.iter().sum::<f64>() / BATCH as f64).collect();
    if batches.len() < 4 {
        return Some(Steady { warm_up: 0, settled: false, value: median(values) });
    }
    // The loop goes from the end to the beginning, so that one pass gives the sum and the sum of squares of every rest.
    // It sums deviations from the last batch, because squares of large numbers that hardly differ would cancel.
    let half = batches.len() / 2;
    let origin = batches[batches.len() - 1];
    let (mut sum, mut squares) = (0.0, 0.0);
    let (mut best, mut least) = (half, f64::INFINITY);
    for (index, batch) in batches.iter().enumerate().rev() {
        sum += batch - origin;
        squares += (batch - origin).powi(2);
        let left = (batches.len() - index) as f64;
        let error = (squares - sum * sum / left) / (left * left);
        // Of equal errors, the one that leaves out the fewest batches wins.
        if index <= half && error <= least {
            (best, least) = (index, error);
        }
    }
    let warm_up = best * BATCH;
    let rest = &values[warm_up..];
    let (early, late) = rest.split_at(rest.len() / 2);
    let value = median(rest);
    // If the best cut lies at the bound, a later one might be better still: the series may still be falling. In a short
    // series, noise alone can lead there too, so this counts only if the rest does not look level.
    let settled = best < half || (median(early) - median(late)).abs() <= LEVEL_WITHIN * value;
    Some(Steady { warm_up, settled, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], expected: Steady) {
        assert_eq!(mser_5(values), Some(expected), "{values:?}");
    }

    fn wobbling(calls: usize, level: f64) -> Vec<f64> {
        (0..calls).map(|call| level + [0.0, 0.2, -0.1, 0.1, -0.2, 0.05, -0.05][call % 7]).collect()
    }

    #[test]
    fn warm_up_is_left_out() {
        let level = wobbling(60, 10.0);
        check(&level, Steady { warm_up: 0, settled: true, value: median(&level) });
        let mut slow_start = vec![40.0, 30.0, 25.0, 20.0, 15.0, 14.0, 13.0];
        slow_start.extend(&level);
        let found = mser_5(&slow_start).expect("has values");
        assert_eq!((found.warm_up, found.settled), (10, true));
        assert!((found.value - 10.0).abs() < 0.1);
    }

    #[test]
    fn what_never_settles_is_told() {
        let falling: Vec<f64> = (0..60).map(|call| 100.0 - f64::from(call)).collect();
        assert!(!mser_5(&falling).expect("has values").settled);
        check(&[1.0, 2.0, 3.0], Steady { warm_up: 0, settled: false, value: 2.0 });
        assert_eq!(mser_5(&[]), None);
    }
}
