//! When a function's next request is to be expected.

/// The pattern in which a function's requests arrive.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arrivals {
    last_ns: Option<u64>,
    count: u64,
    /// Mean time between requests, recent ones weighing more.
    interval_ns: f64,
}

impl Arrivals {
    /// Takes one more arrival into account. Times are on any clock that does not go back; one that does counts as now.
    pub fn observe(&mut self, now_ns: u64) {
        if let Some(last_ns) = self.last_ns {
            let interval = now_ns.saturating_sub(last_ns) as f64;
            let weight = 1.0 / (self.count.min(8) as f64);
            self.interval_ns += (interval - self.interval_ns) * weight;
        }
        self.last_ns = Some(self.last_ns.map_or(now_ns, |last_ns| last_ns.max(now_ns)));
        self.count += 1;
    }

    /// How many requests are to be expected within `horizon_ns` from `now_ns` on.
    #[must_use]
    pub fn expected(&self, now_ns: u64, horizon_ns: u64) -> f64 {
        let Some(last_ns) = self.last_ns.filter(|_| self.count >= 3) else { return 0.0 };
        // A function that has been silent for longer than usual may never come back.
        let silence = now_ns.saturating_sub(last_ns) as f64;
        horizon_ns as f64 / self.interval_ns.max(silence).max(1.0)
    }
}
