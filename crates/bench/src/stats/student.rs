//! Student's t distribution: how wide an interval must be if its variance is itself an estimate.

/// The probability that a value of Student's t distribution is at most `t`.
#[must_use]
pub fn student_cdf(t: f64, degrees: f64) -> f64 {
    let tail = 0.5 * regularized_beta(degrees / (degrees + t * t), degrees / 2.0, 0.5);
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// The value above which a tail of probability `tail` (at most one half) lies. It is found by bisection, which is fast
/// enough: a report needs it only a few times, and each tail has one answer.
#[must_use]
pub fn student_quantile(tail: f64, degrees: f64) -> f64 {
    let above = |t: f64| 0.5 * regularized_beta(degrees / (degrees + t * t), degrees / 2.0, 0.5);
    let (mut low, mut high) = (0.0, 1.0);
    while above(high) > tail && high < 1e12 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if above(middle) > tail {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularized incomplete beta function by its continued fraction (NIST Digital Library of Mathematical Functions,
/// 8.17.22), evaluated by the method of Lentz. Where it converges slowly, the symmetry 8.17.4 is used.
#[allow(clippy::many_single_char_names, reason = "the names of the formula")]
fn regularized_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - regularized_beta(1.0 - x, b, a);
    }
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let (mut fraction, mut c, mut d) = (1.0, 1.0, 0.0);
    for step in 0..10_000_u32 {
        let m = f64::from(step / 2);
        let numerator = if step == 0 {
            1.0
        } else if step % 2 == 0 {
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m))
        } else {
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0))
        };
        d = 1.0 / away_from_zero(1.0 + numerator * d);
        c = away_from_zero(1.0 + numerator / c);
        fraction *= c * d;
        if (c * d - 1.0).abs() < 1e-15 {
            break;
        }
    }
    let front = a * x.ln() + b * (-x).ln_1p() - (log_gamma(a) + log_gamma(b) - log_gamma(a + b));
    front.exp() / a * (fraction - 1.0)
}

/// The logarithm of the gamma function of a positive number, by Stirling's series (DLMF 5.11.1). First, the recurrence
/// makes the argument so large that five terms of the series are exact to the last digits.
fn log_gamma(x: f64) -> f64 {
    let mut shift = 0.0;
    let mut x = x;
    while x < 12.0 {
        shift += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse
        * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square * (1.0 / 1680.0 - square / 1188.0))));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_degree_of_freedom_is_cauchys_distribution() {
        for t in [-3.0_f64, -0.5, 0.0, 0.1, 1.0, 40.0] {
            let expected = 0.5 + t.atan() / std::f64::consts::PI;
            assert!((student_cdf(t, 1.0) - expected).abs() < 1e-12, "at {t}: {}", student_cdf(t, 1.0));
        }
        assert!((student_quantile(0.25, 1.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn the_logarithm_of_factorials() {
        let mut factorial = 1.0_f64;
        for n in 1..30 {
            assert!((log_gamma(f64::from(n)) - factorial.ln()).abs() < 1e-11, "at {n}");
            factorial *= f64::from(n);
        }
        assert!((log_gamma(0.5) - std::f64::consts::PI.sqrt().ln()).abs() < 1e-12);
    }
}
