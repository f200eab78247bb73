//! Predicts when a function's next request will come.
//!
//! This is the hybrid histogram of Shahrad et al. (Serverless in the Wild, USENIX ATC 2020): the idle times between a
//! function's requests are counted in bins; the head of the histogram says from when on the next request may come, and
//! the tail until when it is worth waiting for it. In the publication the bins are a minute wide and end at four hours.
//! Functions here answer in microseconds, and are called every few milliseconds or once a day, so the bins grow with
//! the logarithm instead.

use std::ops::Range;

use crate::nanoseconds::as_ns;

/// Bins for each doubling: a bin is 19 % wide.
const BINS_PER_OCTAVE: f64 = 4.0;
/// The scale of the bins, in nanoseconds: the first bin ends a quarter of an octave above this.
const IDLE_NS_MIN: f64 = 1e6;
/// The end of the last bin, in nanoseconds: a day.
const IDLE_NS_MAX: u64 = 24 * 3600 * 1_000_000_000;
/// The number of bins from the first to the last: 4 log2(86,400,000), rounded up.
const BINS: usize = 106;
/// When so many idle times have been counted, all counts are halved, so that old idle times weigh less and less.
const COUNTED_MAX: u32 = 1024;

/// The percentiles that the window begins and ends at, and the margin on both sides, as published.
const HEAD: f64 = 0.05;
const TAIL: f64 = 0.99;
const MARGIN: f64 = 0.10;
/// The least coefficient of variation of the bins' counts at which the histogram shows a pattern, as published: evenly
/// filled bins have 0, a single filled one has the square root of their number.
const VARIATION_MIN: f64 = 2.0;
/// The least number of idle times at which the histogram shows a pattern.
const COUNTED_MIN: u32 = 10;
/// The number of idle times longer than any horizon that are assumed beyond those that were counted.
const PAUSES_ASSUMED: f64 = 0.25;

/// The pattern in which a function's requests arrive: a histogram of the idle times between them, in 240 bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Arrivals {
    last_ns: Option<u64>,
    bins: [u16; BINS],
    /// Idle times of more than a day.
    beyond: u16,
    /// All counted idle times, those of more than a day included.
    counted: u32,
}

impl Default for Arrivals {
    fn default() -> Self {
        Self { last_ns: None, bins: [0; BINS], beyond: 0, counted: 0 }
    }
}

impl Arrivals {
    /// Takes one more arrival into account. If the clock has gone back, the time from the last request to this one is
    /// unknown and is not counted; the next idle time is measured from the new time.
    pub fn observe(&mut self, now_ns: u64) {
        let idle_ns = self.last_ns.and_then(|last_ns| now_ns.checked_sub(last_ns));
        self.last_ns = Some(now_ns);
        let Some(idle_ns) = idle_ns else { return };
        match bin_of(idle_ns) {
            Some(bin) => self.bins[bin] += 1,
            None => self.beyond += 1,
        }
        self.counted += 1;
        if self.counted >= COUNTED_MAX {
            self.bins.iter_mut().chain([&mut self.beyond]).for_each(|count| *count /= 2);
            self.counted = self.bins.iter().chain([&self.beyond]).map(|count| u32::from(*count)).sum();
        }
    }

    /// When artifacts should be ready for the next request, and until when it is worth keeping them: a span of the
    /// clock of [`observe`](Self::observe). `None` if there was no request, if the idle times have no pattern, or if the
    /// window has passed without a request.
    ///
    /// Between the last request and the beginning of the window, the memory is better used for other functions. The
    /// publication keeps artifacts for four hours where there is no pattern; here other functions may displace them.
    #[must_use]
    pub fn prewarm_window(&self, now_ns: u64) -> Option<Range<u64>> {
        let (last_ns, after) = (self.last_ns?, self.pattern()?);
        let window = last_ns.saturating_add(after.start)..last_ns.saturating_add(after.end);
        (now_ns < window.end).then_some(window)
    }

    /// The idle times between which the next one should lie, if there is a pattern.
    fn pattern(&self) -> Option<Range<u64>> {
        if !self.is_representative() {
            return None;
        }
        let (head, tail) = (self.percentile(HEAD)?, self.percentile(TAIL)?);
        Some(as_ns(bin_begin_ns(head) * (1.0 - MARGIN))..as_ns(bin_begin_ns(tail + 1) * (1.0 + MARGIN)))
    }

    /// The time of the last request, if there was one.
    #[must_use]
    pub fn last_ns(&self) -> Option<u64> {
        self.last_ns
    }

    /// How many requests are to be expected within `horizon_ns` from `now_ns` on.
    ///
    /// The probability of a next request follows from the idle times that are longer than the present silence: it is
    /// the share of those that end within the horizon. From then on, requests follow one another until an idle time is
    /// longer than the horizon. A quarter of an idle time of that kind is assumed beyond those that were counted, so
    /// that a new function that is called often is expected to be called four times as often again as it was so far.
    /// That is the mean of Lindy's law, by which it is as likely as not that there will be as many again, if it is cut
    /// at some fifty times as many.
    #[must_use]
    pub fn expected(&self, now_ns: u64, horizon_ns: u64) -> f64 {
        let Some(last_ns) = self.last_ns else { return 0.0 };
        let silence_ns = now_ns.saturating_sub(last_ns) as f64;
        let horizon_ns = horizon_ns as f64;
        let (mut short, mut short_ns, mut next, mut next_ns, mut later) = (0.0, 0.0, 0.0, 0.0, f64::from(self.beyond));
        for (bin, count) in self.bins.iter().enumerate().filter(|(_, count)| **count > 0) {
            let (begin_ns, end_ns) = (bin_begin_ns(bin), bin_begin_ns(bin + 1));
            let (count, middle_ns) = (f64::from(*count), f64::midpoint(begin_ns, end_ns));
            if middle_ns <= horizon_ns {
                short += count;
                short_ns += count * middle_ns;
            }
            // The part of the bin that is longer than the silence.
            let longer = count * ((end_ns - silence_ns) / (end_ns - begin_ns)).clamp(0.0, 1.0);
            let wait_ns = f64::midpoint(begin_ns.max(silence_ns), end_ns) - silence_ns;
            if wait_ns <= horizon_ns {
                next += longer;
                next_ns += longer * wait_ns;
            } else {
                later += longer;
            }
        }
        if next <= 0.0 {
            return 0.0;
        }
        let next_probability = next / (next + later + PAUSES_ASSUMED);
        let following = short / (f64::from(self.counted) - short + PAUSES_ASSUMED);
        let left_ns = horizon_ns - next_ns / next;
        let following_max = if short > 0.0 { left_ns / (short_ns / short) } else { 0.0 };
        next_probability * (1.0 + following.min(following_max))
    }

    /// Whether there are enough idle times, and they fall into few enough bins.
    fn is_representative(&self) -> bool {
        let mean = f64::from(self.counted) / BINS as f64;
        let squares: f64 = self.bins.iter().map(|count| (f64::from(*count) - mean).powi(2)).sum();
        self.counted >= COUNTED_MIN && (squares / BINS as f64).sqrt() >= VARIATION_MIN * mean
    }

    /// The first bin up to which this share of the idle times lies; `None` if the share is only reached beyond a day.
    fn percentile(&self, share: f64) -> Option<usize> {
        let wanted = share * f64::from(self.counted);
        let mut below = 0.0;
        self.bins.iter().position(|count| {
            below += f64::from(*count);
            *count > 0 && below >= wanted
        })
    }
}

/// The bin of an idle time, or `None` if it is longer than a day.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the number of bins")]
fn bin_of(idle_ns: u64) -> Option<usize> {
    let bin = (idle_ns as f64 / IDLE_NS_MIN).log2() * BINS_PER_OCTAVE;
    (idle_ns <= IDLE_NS_MAX).then_some((bin.max(0.0) as usize).min(BINS - 1))
}

/// The beginning of a bin, which is the end of the one before it, in nanoseconds; the first bin begins at 0.
fn bin_begin_ns(bin: usize) -> f64 {
    if bin == 0 { 0.0 } else { IDLE_NS_MIN * (bin as f64 / BINS_PER_OCTAVE).exp2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    const HOUR: u64 = 3600 * S;

    /// Arrivals with these idle times, `times` times over, and the time of the last arrival.
    fn after(idle_ns: &[u64], times: usize) -> (Arrivals, u64) {
        let (mut arrivals, mut now_ns) = (Arrivals::default(), 5 * HOUR);
        arrivals.observe(now_ns);
        for idle_ns in idle_ns.iter().cycle().take(idle_ns.len() * times) {
            now_ns += idle_ns;
            arrivals.observe(now_ns);
        }
        (arrivals, now_ns)
    }

    #[test]
    fn bins_cover_a_day() {
        assert_eq!((bin_of(0), bin_of(1_000_000), bin_of(IDLE_NS_MAX + 1)), (Some(0), Some(0), None));
        assert_eq!(bin_of(IDLE_NS_MAX), Some(BINS - 1));
        assert!(bin_begin_ns(BINS) >= IDLE_NS_MAX as f64, "the last bin ends too early");
        assert!(bin_begin_ns(BINS - 1) < IDLE_NS_MAX as f64, "the last bin is never used");
        for idle_ns in [2_000_000, 50 * S, HOUR, 23 * HOUR] {
            let bin = bin_of(idle_ns).unwrap();
            assert!((bin_begin_ns(bin)..bin_begin_ns(bin + 1)).contains(&(idle_ns as f64)), "{idle_ns}");
        }
        assert!(size_of::<Arrivals>() <= 240);
    }

    #[test]
    fn the_window_is_around_the_usual_idle_time() {
        // Idle times, and what must lie within the window (after the last request), and what must not.
        let cases: [(&[u64], &[u64], &[u64]); 4] = [
            (&[60 * S], &[60 * S], &[0, 30 * S, 90 * S]),
            (&[3600 * S], &[HOUR], &[0, HOUR / 2, 2 * HOUR]),
            (&[S, 2 * S, 4 * S], &[S, 4 * S], &[S / 2, 10 * S]),
            // The end of a burst is not the end of the requests: the tail holds the pause.
            (&[S / 10, S / 10, S / 10, S / 10, 60 * S], &[S / 10, S, 60 * S], &[120 * S]),
        ];
        for (idle, inside, outside) in cases {
            let (arrivals, now_ns) = after(idle, 20);
            let window = arrivals.prewarm_window(now_ns).unwrap();
            for ns in inside {
                assert!(window.contains(&(now_ns + ns)), "{idle:?}: {ns} is not in {window:?}");
            }
            for ns in outside {
                assert!(!window.contains(&(now_ns + ns)), "{idle:?}: {ns} is in {window:?}");
            }
            assert_eq!(arrivals.prewarm_window(window.end), None, "{idle:?}: the window has passed");
        }
    }

    #[test]
    fn without_a_pattern_no_time_is_expected() {
        let everything: Vec<u64> = (0..25).map(|octave| 1_000_000 << octave).collect();
        for (idle, times, why) in [
            (&[60 * S][..], 3, "too few"),
            (&everything, 4, "all over the range"),
            (&[30 * HOUR], 20, "longer than a day"),
        ] {
            let (arrivals, now_ns) = after(idle, times);
            assert_eq!(arrivals.prewarm_window(now_ns), None, "{why}");
        }
        assert_eq!(Arrivals::default().prewarm_window(0), None);
    }

    #[test]
    fn what_is_expected_follows_the_pattern() {
        // Idle times, how often, silence since the last, horizon, and how many requests are to be expected within it.
        let cases: [(&[u64], usize, u64, u64, Range<f64>); 8] = [
            (&[], 0, 0, 10 * S, 0.0..0.01),
            (&[S], 100, 0, 10 * S, 8.0..12.0),
            // Four times as often again as so far.
            (&[S / 100], 4, 0, 10 * S, 14.0..17.0),
            (&[60 * S], 100, 0, 10 * S, 0.0..0.01),
            (&[60 * S], 100, 55 * S, 10 * S, 0.9..1.1),
            // The function is silent for longer than ever before.
            (&[60 * S], 100, 600 * S, 10 * S, 0.0..0.01),
            // In a burst, and after it.
            (&[S / 10, S / 10, S / 10, S / 10, HOUR], 20, S / 100, 10 * S, 2.0..5.0),
            (&[S / 10, S / 10, S / 10, S / 10, HOUR], 20, S, 10 * S, 0.0..0.1),
        ];
        for (idle, times, silence_ns, horizon_ns, expected) in cases {
            let (arrivals, now_ns) = after(idle, times);
            let found = arrivals.expected(now_ns + silence_ns, horizon_ns);
            assert!(expected.contains(&found), "{idle:?} x {times}, silent for {silence_ns}: {found}");
        }
    }

    #[test]
    fn a_new_pattern_replaces_the_old_one() {
        let (mut arrivals, mut now_ns) = after(&[HOUR], 2_000);
        for _ in 0..6_000 {
            now_ns += S;
            arrivals.observe(now_ns);
        }
        assert!(arrivals.prewarm_window(now_ns).unwrap().end < now_ns + HOUR);
    }

    #[test]
    fn a_clock_that_goes_back_does_no_harm() {
        let (mut arrivals, now_ns) = after(&[60 * S], 20);
        let before = arrivals.clone();
        arrivals.observe(now_ns - HOUR);
        assert_eq!(arrivals.bins, before.bins);
        arrivals.observe(now_ns - HOUR + 60 * S);
        assert!(arrivals.prewarm_window(now_ns - HOUR + 60 * S).unwrap().contains(&(now_ns - HOUR + 120 * S)));
        assert!(arrivals.expected(0, 10 * S).is_finite());
        arrivals.observe(u64::MAX);
        assert_eq!(arrivals.prewarm_window(u64::MAX - 1), None, "an idle time of centuries is no pattern");
        let mut at_the_end = Arrivals::default();
        (0..=20).rev().for_each(|minute| at_the_end.observe(u64::MAX - minute * 60 * S));
        assert!(at_the_end.prewarm_window(u64::MAX - 1).is_some_and(|window| window.end == u64::MAX));
    }
}
