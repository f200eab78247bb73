//! Numbers written for people.

/// A number with three significant digits; large numbers keep all digits before the point, tiny ones have two digits.
pub(crate) fn digits(value: f64) -> String {
    if !value.is_finite() {
        return "-".into();
    }
    match value.abs() {
        size if size >= 99.95 => format!("{value:.0}"),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        size if size >= 0.099_95 => format!("{value:.3}"),
        size if size >= 0.009_995 => format!("{value:.4}"),
        0.0 => "0".into(),
        _ => format!("{value:.1e}"),
    }
}

/// A time in nanoseconds, written in the unit that fits.
pub(crate) fn time(ns: f64) -> String {
    scaled(ns, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")])
}

/// A number of bytes, written in the unit that fits.
pub(crate) fn bytes(bytes: f64) -> String {
    scaled(bytes, &[(f64::from(1 << 30), "GiB"), (f64::from(1 << 20), "MiB"), (1024.0, "KiB"), (1.0, "B")])
}

/// A tick on an axis of times (nanoseconds), as short as possible.
pub(crate) fn time_tick(ns: f64) -> String {
    let (unit, name) = unit(ns * 1.000_001, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]);
    format!("{} {name}", plain(ns / unit))
}

/// A tick on an axis of ratios.
pub(crate) fn ratio_tick(ratio: f64) -> String {
    format!("{}×", plain(ratio))
}

/// A number without superfluous digits, for ticks.
pub(crate) fn plain(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    format!("{rounded}")
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let (size, name) = unit(value, units);
    format!("{} {name}", digits(value / size))
}

fn unit<'a>(value: f64, units: &[(f64, &'a str)]) -> (f64, &'a str) {
    // The limit lies half a unit of the last digit lower, so that 999.9 ns are written as a microsecond.
    let fits = units.iter().find(|(size, _)| value.abs() >= size * 0.9995);
    *fits.unwrap_or(&units[units.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        for (value, expected) in [
            (1234.6, "1235"),
            (99.96, "100"),
            (12.34, "12.3"),
            (1.234, "1.23"),
            (0.9994, "0.999"),
            (0.1234, "0.123"),
            (0.0, "0"),
        ] {
            assert_eq!(digits(value), expected);
        }
    }

    #[test]
    fn units_fit() {
        for (ns, expected) in
            [(1.5e9, "1.50 s"), (12.3e6, "12.3 ms"), (999.9, "1.00 µs"), (7.0, "7.00 ns"), (0.0, "0 ns")]
        {
            assert_eq!(time(ns), expected);
        }
        assert_eq!(bytes(1536.0), "1.50 KiB");
        assert_eq!(time_tick(1e6), "1 ms");
        assert_eq!(time_tick(200e3), "200 µs");
        assert_eq!(ratio_tick(0.5), "0.5×");
    }
}
