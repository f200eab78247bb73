//! Decides when a series of calls has gone on for long enough.

use std::time::Duration;

/// The number of calls in a window. The last window is compared with the one before.
const WINDOW: usize = 10;
/// How much two windows' medians may differ in a steady state, as a share of the earlier one.
const TOLERANCE: f64 = 0.02;
/// The number of calls that are made after the series has become steady.
const THEN: usize = 20;
/// The number of calls at most.
const CALLS_MAX: usize = 1000;
/// Time after which a series makes no further call.
const LASTS_MAX: Duration = Duration::from_secs(10);

/// A series of calls so far, and whether it has become steady.
#[derive(Debug, Default)]
pub(super) struct Steady {
    calls_ns: Vec<u64>,
    since: Option<usize>,
}

impl Steady {
    /// Takes account of one more call, which took `call_ns` nanoseconds, and returns whether it was the last.
    pub(super) fn ends_with(&mut self, call_ns: u64) -> bool {
        self.calls_ns.push(call_ns);
        let count = self.calls_ns.len();
        if self.since.is_none() && count >= 2 * WINDOW {
            let (before, last) = self.calls_ns[count - 2 * WINDOW..].split_at(WINDOW);
            let (before, last) = (median(before), median(last));
            self.since = ((last - before).abs() <= TOLERANCE * before).then_some(count);
        }
        let lasts_ns: u64 = self.calls_ns.iter().sum();
        self.since.is_some_and(|since| count >= since + THEN)
            || count >= CALLS_MAX
            || Duration::from_nanos(lasts_ns) >= LASTS_MAX
    }
}

fn median(values: &[u64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable();
    let middle = values.len() / 2;
    f64::midpoint(values[middle - 1] as f64, values[middle] as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The number of calls that a series takes if call `i` takes `ns(i)`.
    fn length(ns: impl Fn(usize) -> u64) -> usize {
        let mut steady = Steady::default();
        (0..=CALLS_MAX).find(|i| steady.ends_with(ns(*i))).expect("every series ends") + 1
    }

    #[test]
    fn a_series_ends_some_calls_after_it_has_become_steady() {
        assert_eq!(length(|_| 1000), 2 * WINDOW + THEN);
        // The time falls until call 100. The windows agree once most of their calls come after that.
        let warming = length(|i| 1000 + 100 * 100_usize.saturating_sub(i) as u64);
        assert!((100 + THEN..150).contains(&warming), "{warming}");
    }

    #[test]
    fn a_series_that_never_becomes_steady_ends_all_the_same() {
        let grows = |i| {
            let i = i32::try_from(i).expect("a series is short");
            Duration::from_secs_f64(1e-6 * 1.01_f64.powi(i)).as_nanos().try_into().expect("it is short")
        };
        assert_eq!(length(grows), CALLS_MAX);
        assert_eq!(length(|_| 6_000_000_000), 2, "ten seconds are enough");
    }
}
