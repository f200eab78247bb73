use std::fmt;

/// Observations that an estimate remembers.
const WINDOW: usize = 15;

/// A running estimate of one phase's duration: the median of the last observations.
///
/// A median, because durations on shared machines have outliers that are orders of magnitude away, and a mean follows
/// them; of a window, because functions and machines change. Reading an estimate does not change it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    recent: [u64; WINDOW],
    /// Where the next observation goes.
    next: usize,
    count: u64,
    median: u64,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { recent: [0; WINDOW], next: 0, count: 0, median: 0 }
    }
}

impl Estimate {
    /// Takes one more observation into account, in nanoseconds.
    pub fn observe(&mut self, ns: u64) {
        self.recent[self.next] = ns;
        self.next = (self.next + 1) % WINDOW;
        self.count += 1;
        let mut sorted = self.recent;
        let known = &mut sorted[..self.known()];
        known.sort_unstable();
        // Of an even number the lower middle: a duration that was observed.
        self.median = known[(known.len() - 1) / 2];
    }

    /// The expected duration in nanoseconds, or `None` if nothing was observed.
    #[must_use]
    pub fn ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.median)
    }

    /// How many observations there were, forgotten ones included.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    fn known(&self) -> usize {
        usize::try_from(self.count).map_or(WINDOW, |count| count.min(WINDOW))
    }
}

impl fmt::Debug for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ns() {
            Some(ns) => write!(f, "{ns} ns of {}", self.count),
            None => f.write_str("nothing observed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(observations: &[u64]) -> Estimate {
        let mut estimate = Estimate::default();
        for ns in observations {
            estimate.observe(*ns);
        }
        estimate
    }

    #[test]
    fn nothing_is_known_at_first() {
        assert_eq!(Estimate::default().ns(), None);
    }

    #[test]
    fn one_outlier_changes_nothing() {
        assert_eq!(of(&[10, 10, 10, 1_000_000_000, 10]).ns(), Some(10));
    }

    #[test]
    fn an_even_number_takes_the_lower_middle() {
        assert_eq!(of(&[1, 2, 3, 4]).ns(), Some(2));
    }

    #[test]
    fn old_observations_are_forgotten() {
        let mut observations = vec![1_000; 50];
        observations.extend([5; WINDOW]);
        let estimate = of(&observations);
        assert_eq!((estimate.ns(), estimate.count()), (Some(5), 50 + WINDOW as u64));
    }
}
