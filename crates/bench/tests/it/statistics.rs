//! Compares our statistics with numpy and scipy (`tests/scipy/make_reference.py`).
//!
//! Values of formulas must agree to ten digits. Bootstrap intervals are drawn by chance on both sides: with a fixed
//! seed and 2,000 resamples here, with 100,000 there. The 2.5 % end of our interval must lie between the reference's
//! 1.5 % and 3.5 % percentiles, which is what 2,000 resamples allow (see the script); the other end correspondingly.

use remuda_bench::stats::{
    Estimate, Interval, geometric_mean, mean, median, mser_5, quantile, student_cdf, student_quantile,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    series: Vec<Series>,
    ratios: Vec<Ratio>,
    geometric_means: Vec<GeometricMean>,
    student_quantiles: Vec<StudentQuantile>,
    student_probabilities: Vec<StudentProbability>,
    warm_ups: Vec<WarmUp>,
}

#[derive(Debug, Deserialize)]
struct Ends {
    low: f64,
    high: f64,
    low_between: (f64, f64),
    high_between: (f64, f64),
}

#[derive(Deserialize)]
struct Series {
    name: String,
    values: Vec<f64>,
    median: f64,
    mean: f64,
    geometric_mean: f64,
    quantiles: Vec<(f64, f64)>,
    median_interval: Ends,
}

#[derive(Deserialize)]
struct Ratio {
    above: Vec<f64>,
    below: Vec<f64>,
    ratio: f64,
    interval: Ends,
}

#[derive(Deserialize)]
struct GeometricMean {
    pairs: Vec<(Vec<f64>, Vec<f64>)>,
    value: f64,
    interval: Ends,
}

#[derive(Deserialize)]
struct StudentQuantile {
    tail: f64,
    degrees: f64,
    t: f64,
}

#[derive(Deserialize)]
struct StudentProbability {
    t: f64,
    degrees: f64,
    p: f64,
}

#[derive(Deserialize)]
struct WarmUp {
    values: Vec<f64>,
    warm_up: usize,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../scipy/reference.json")).expect("the reference is as its script writes it")
}

/// Compares a formula's value with the reference.
#[track_caller]
fn check(found: f64, expected: f64, what: &str) {
    let apart = (found - expected).abs();
    assert!(apart <= 1e-10 * expected.abs().max(1e-3), "{what}: {found}, and by the reference {expected}");
}

/// Compares an interval with the reference.
#[track_caller]
fn check_interval(found: Interval, expected: &Ends, what: &str) {
    let within = |value: f64, (from, to): (f64, f64)| from <= value && value <= to;
    assert!(within(expected.low, expected.low_between) && within(expected.high, expected.high_between), "{expected:?}");
    let agrees = within(found.low, expected.low_between) && within(found.high, expected.high_between);
    assert!(agrees, "{what}: {found:?}, and by the reference {expected:?}");
}

fn estimate(values: &[f64], stream: u64) -> Estimate {
    Estimate::median(values, stream).expect("has values")
}

#[test]
fn medians_means_and_quantiles() {
    for Series { name, values, median: middle, mean: average, geometric_mean: geometric, quantiles, .. } in
        reference().series
    {
        check(median(&values), middle, &name);
        check(mean(&values), average, &name);
        check(geometric_mean(&values), geometric, &name);
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        for (p, expected) in quantiles {
            check(quantile(&sorted, p), expected, &format!("{name}, quantile {p}"));
        }
    }
}

#[test]
fn intervals_of_medians() {
    for series in reference().series {
        let found = estimate(&series.values, 1);
        check(found.value, series.median, &series.name);
        check_interval(found.interval(), &series.median_interval, &series.name);
    }
}

#[test]
fn intervals_of_ratios() {
    for Ratio { above, below, ratio, interval } in reference().ratios {
        let found = estimate(&above, 1).over(&estimate(&below, 2));
        check(found.value, ratio, "ratio");
        check_interval(found.interval(), &interval, "ratio");
    }
}

#[test]
fn intervals_of_geometric_means() {
    for GeometricMean { pairs, value, interval } in reference().geometric_means {
        let ratios: Vec<Estimate> = (0_u64..)
            .zip(&pairs)
            .map(|(index, (above, below))| estimate(above, 2 * index).over(&estimate(below, 2 * index + 1)))
            .collect();
        let found = Estimate::geometric_mean(&ratios.iter().collect::<Vec<_>>());
        check(found.value, value, "geometric mean");
        check_interval(found.interval(), &interval, "geometric mean");
    }
}

#[test]
fn students_distribution() {
    for StudentQuantile { tail, degrees, t } in reference().student_quantiles {
        let found = student_quantile(tail, degrees);
        assert!((found / t - 1.0).abs() < 1e-8, "tail {tail}, {degrees} degrees: {found}, and by the reference {t}");
    }
    for StudentProbability { t, degrees, p } in reference().student_probabilities {
        check(student_cdf(t, degrees), p, &format!("t {t}, {degrees} degrees"));
    }
}

#[test]
fn warm_ups() {
    for WarmUp { values, warm_up } in reference().warm_ups {
        assert_eq!(mser_5(&values).expect("has values").warm_up, warm_up, "{values:?}");
    }
}
