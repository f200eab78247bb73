use std::fmt;

const WINDOW: usize = Estimate::WINDOW as usize;

/// A running estimate of one duration: the median of the last observations, and how far they spread.
///
/// A median, because durations on shared machines have outliers that are orders of magnitude away, and a mean follows
/// them; of a window, because functions and machines change. Reading an estimate does not change it.
#[derive(Clone, Copy, PartialEq)]
pub struct Estimate {
    recent: [u64; WINDOW],
    /// Where the next observation goes.
    next: usize,
    count: u64,
    median: u64,
    spread: f32,
}

impl Default for Estimate {
    fn default() -> Self {
        Self { recent: [0; WINDOW], next: 0, count: 0, median: 0, spread: 0.0 }
    }
}

impl Estimate {
    /// The number of observations that an estimate remembers.
    pub const WINDOW: u32 = 15;

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
        self.spread = spread(known);
    }

    /// The expected duration in nanoseconds, or `None` if nothing was observed.
    #[must_use]
    pub fn ns(&self) -> Option<u64> {
        (self.count > 0).then_some(self.median)
    }

    /// How uncertain the expected duration is: the standard deviation of its natural logarithm, or `None` if nothing
    /// was observed. It shrinks with the spread of the observations and with their number.
    #[must_use]
    pub fn sigma(&self) -> Option<f32> {
        let known = self.known();
        (known > 0).then(|| (self.spread + PRIOR_SPREAD / (known as f32)).max(SIGMA_MIN))
    }

    /// How far the expected duration may be from the one that very many observations would give: the standard error of
    /// its natural logarithm.
    #[must_use]
    pub fn error(&self) -> Option<f32> {
        /// A median's standard error beside a mean's, for a normal distribution.
        const MEDIAN: f32 = 1.253;
        Some(self.sigma()? * MEDIAN / (self.known() as f32).sqrt())
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

/// What a single observation leaves open, as the standard deviation of a logarithm: the first call of a function is
/// often half as long again as the next.
const PRIOR_SPREAD: f32 = 0.25;
/// No two runs take the same time.
const SIGMA_MIN: f32 = 0.02;

/// Half the distance between the quartiles of the logarithms, made a standard deviation as for a normal distribution.
fn spread(sorted: &[u64]) -> f32 {
    /// The quartiles of the normal distribution are so many standard deviations apart.
    const QUARTILES_APART: f64 = 1.349;
    let quartile = |quarters: usize| (sorted[(sorted.len() - 1) * quarters / 4].max(1) as f64).ln();
    #[expect(clippy::cast_possible_truncation, reason = "logarithms of 64-bit numbers are small")]
    let spread = ((quartile(3) - quartile(1)) / QUARTILES_APART) as f32;
    spread
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
        assert_eq!((Estimate::default().ns(), Estimate::default().sigma()), (None, None));
    }

    #[test]
    fn one_outlier_changes_nothing() {
        assert_eq!(of(&[10, 10, 10, 1_000_000_000, 10]).ns(), Some(10));
        assert_eq!(of(&[10, 10, 10, 1_000_000_000, 10]).sigma(), of(&[10; 5]).sigma());
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

    #[test]
    fn more_observations_make_surer_and_scattered_ones_less() {
        let sigma = |observations: &[u64]| of(observations).sigma().unwrap();
        assert!(sigma(&[100; 10]) < sigma(&[100]));
        assert!(sigma(&[100, 1_000, 10_000, 100, 1_000, 10_000]) > sigma(&[100; 6]));
    }
}
