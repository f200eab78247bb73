//! gem5's `LocalBP`: one saturating counter for each branch.

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::{Direction, check_common, check_entries};
use crate::error::ConfigError;

/// Sizes of the local predictor.
///
/// The counter at `(pc >> pc_shift) % counters` says "taken" in the upper half of its range. A branch that is taken counts it
/// up, one that is not counts it down. There is no history.
///
/// gem5's parameter `localPredictorSize` is all its bits: 2048 there are 1024 counters of 2 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// The number of counters: a power of two.
    pub counters: u32,
    /// The bits of a counter.
    pub counter_bits: u32,
    /// The low bits of an address that are ignored.
    pub pc_shift: u32,
}

impl Default for LocalConfig {
    /// As gem5 has it without further options: 2048 bits.
    fn default() -> Self {
        Self { counters: 1024, counter_bits: 2, pc_shift: 2 }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Local {
    counters: Counters,
    pc_shift: u32,
}

impl Local {
    pub(super) fn new(config: &LocalConfig) -> Result<Self, ConfigError> {
        check_entries("the counters of the local predictor", config.counters)?;
        check_common(config.counter_bits, config.pc_shift)?;
        Ok(Self { counters: Counters::new(config.counters, config.counter_bits), pc_shift: config.pc_shift })
    }
}

impl Direction for Local {
    #[inline]
    fn conditional(&mut self, pc: u64, taken: bool) -> bool {
        let at = pc >> self.pc_shift;
        let predicted = self.counters.taken(at);
        self.counters.train(at, taken);
        predicted
    }

    fn unconditional(&mut self, _pc: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn predictions(local: &mut Local, pc: u64, outcomes: &str) -> String {
        outcomes.chars().map(|outcome| if local.conditional(pc, outcome == 'T') { 'T' } else { 'n' }).collect()
    }

    #[test]
    fn two_bits_change_their_mind_at_the_second_surprise() {
        let mut local = Local::new(&LocalConfig::default()).unwrap();
        // Counter before each prediction:            0123 3232 1012
        assert_eq!(predictions(&mut local, 0x400, "TTTTnTnnnTTT"), "nnTTTTTTnnnT");
    }

    #[test]
    fn branches_share_a_counter_where_their_addresses_do() {
        let mut local = Local::new(&LocalConfig { counters: 4, ..LocalConfig::default() }).unwrap();
        assert_eq!(predictions(&mut local, 0, "TTT"), "nnT");
        assert_eq!(predictions(&mut local, 3, "T"), "T", "the two low bits are ignored");
        assert_eq!(predictions(&mut local, 16, "T"), "T", "four counters of four bytes each");
        assert_eq!(predictions(&mut local, 4, "T"), "n", "the next counter has seen nothing");
    }
}
