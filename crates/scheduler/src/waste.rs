//! How much CPU time may be spent on what may turn out to be wasted.

use crate::tuning::SAVED_NS_MAX;

/// A budget for the losers of races: a share of the CPU time that answered requests have cost, and something to begin
/// with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WasteBudget {
    share: f64,
    left_ns: f64,
}

impl WasteBudget {
    /// A budget of `share` of the useful CPU time: 0 wastes nothing, 1 as much as is useful.
    #[must_use]
    pub fn new(share: f64) -> Self {
        Self { share, left_ns: if share > 0.0 { SAVED_NS_MAX } else { 0.0 } }
    }

    /// Whether anything is left.
    #[must_use]
    pub fn may_waste(&self) -> bool {
        self.left_ns > 0.0
    }

    /// Notes CPU time that answered a request.
    pub fn earn(&mut self, useful_ns: u64) {
        self.left_ns = (self.left_ns + self.share * useful_ns as f64).min(SAVED_NS_MAX);
    }

    /// Notes CPU time that answered nothing. What is under way may overdraw the budget, which is paid back before
    /// anything else may be wasted.
    ///
    /// Of several guests that race, all but one will have run for nothing, whoever wins. So that races cannot overdraw
    /// the budget by much, a [`Flight`](crate::flight::Flight) says at each look what has been wasted, and when the
    /// race is over, what the losers have used beyond it.
    pub fn spend(&mut self, wasted_ns: u64) {
        self.left_ns -= wasted_ns as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waste_is_at_most_the_share_and_what_there_was_to_begin_with() {
        let mut budget = WasteBudget::new(0.5);
        let (mut useful, mut wasted) = (0, 0);
        for _ in 0..1_000 {
            budget.earn(100_000_000);
            useful += 100_000_000_u64;
            if budget.may_waste() {
                budget.spend(300_000_000);
                wasted += 300_000_000_u64;
            }
        }
        let allowed = 0.5 * useful as f64 + SAVED_NS_MAX + 300e6;
        assert!(wasted as f64 <= allowed, "{wasted} of {allowed}");
        assert!(wasted as f64 > 0.4 * useful as f64, "{wasted}: the budget was not used");
    }

    #[test]
    fn no_share_wastes_nothing() {
        let mut budget = WasteBudget::new(0.0);
        budget.earn(1 << 40);
        assert!(!budget.may_waste());
    }
}
