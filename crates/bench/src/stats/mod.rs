//! Statistics: what measured numbers say, and how sure one can be of it.
//!
//! The unit is the *process*. Calls within one process share its memory layout, its machine code and its luck, so they
//! are first summed up to one number (T. Kalibera, R. Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013), and
//! only processes are resampled.

mod estimate;
mod student;
mod warm_up;

pub use estimate::{Estimate, Interval, LEVEL, PROCESSES_MIN, RESAMPLES};
pub use student::{student_cdf, student_quantile};
pub use warm_up::{Steady, mser_5};

/// The quantile `p` (0 to 1) of sorted values, by linear interpolation between the two nearest: definition 7 of
/// R. J. Hyndman, Y. Fan, Sample Quantiles in Statistical Packages, The American Statistician 50(4), 1996. It is
/// numpy's default.
///
/// # Panics
///
/// Panics if there are no values.
#[must_use]
pub fn quantile(sorted: &[f64], p: f64) -> f64 {
    assert!(!sorted.is_empty(), "no quantile of no values");
    let place = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index, and not negative")]
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    let share = place - place.floor();
    sorted[below] + share * (sorted[above] - sorted[below])
}

/// The median.
///
/// # Panics
///
/// Panics if there are no values.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    quantile(&sorted, 0.5)
}

/// The arithmetic mean; NaN if there are no values.
#[must_use]
pub fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The geometric mean: the mean for ratios, as the result does not depend on which engine is the denominator
/// (P. J. Fleming, J. J. Wallace, How Not to Lie with Statistics, CACM 29(3), 1986). NaN if there are no
/// values.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> f64 {
    (values.iter().map(|value| value.ln()).sum::<f64>() / values.len() as f64).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[f64], p: f64, expected: f64) {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let found = quantile(&sorted, p);
        assert!((found - expected).abs() < 1e-12, "{p} of {values:?}: {found}, not {expected}");
    }

    #[test]
    fn quantiles_interpolate() {
        check(&[3.0, 1.0, 2.0], 0.5, 2.0);
        check(&[4.0, 1.0, 2.0, 3.0], 0.5, 2.5);
        check(&[1.0, 2.0], 0.25, 1.25);
        check(&[7.0], 0.9, 7.0);
        check(&[1.0, 2.0, 3.0], 0.0, 1.0);
        check(&[1.0, 2.0, 3.0], 1.0, 3.0);
    }

    #[test]
    fn the_geometric_mean_of_ratios_does_not_care_which_way_they_are_taken() {
        let ratios = [0.5, 2.0, 8.0];
        let turned: Vec<f64> = ratios.iter().map(|ratio| 1.0 / ratio).collect();
        assert!((geometric_mean(&ratios) * geometric_mean(&turned) - 1.0).abs() < 1e-12);
        assert!((geometric_mean(&ratios) - 2.0).abs() < 1e-12);
    }
}
