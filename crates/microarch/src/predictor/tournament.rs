//! gem5's `TournamentBP`, a predictor such as that of the Alpha 21264 (Kessler, "The Alpha 21264 microprocessor", IEEE Micro
//! 19(2), 1999).

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::{Direction, check_common, check_entries};
use crate::error::ConfigError;

/// Sizes of the tournament predictor.
///
/// - Local: `(pc >> pc_shift) % local_histories` finds the branch's own history, and the history, as a number, the counter that
///   says "taken" or not. A history has as many bits as that takes.
/// - Global: the history of all branches finds a counter in a second table. It does not depend on the branch's address.
/// - Choice: the same history finds a counter in a third table; its upper half stands for "global".
/// - Then the counters that local and global looked up go towards what the branch did, and the choice counter towards the one
///   that was right, if they differed. Both histories get what the branch did as their youngest bit.
/// - A jump, call or return counts up the global counter and is in the global history; local and choice do not see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TournamentConfig {
    /// Histories of single branches: a power of two. gem5: `localHistoryTableSize`.
    pub local_histories: u32,
    /// Counters of the local table: a power of two. gem5: `localPredictorSize`.
    pub local_counters: u32,
    /// Counters of the global table: a power of two. gem5: `globalPredictorSize`.
    pub global_counters: u32,
    /// Counters of the choice table: a power of two. gem5: `choicePredictorSize`.
    pub choice_counters: u32,
    /// The bits of a counter, in all three tables.
    pub counter_bits: u32,
    /// The low bits of an address that are ignored.
    pub pc_shift: u32,
}

impl Default for TournamentConfig {
    /// As gem5 has it without further options. (The Alpha had 1024 histories of 10 bits with counters of 3 bits, and 4096
    /// counters of 2 bits in each of the other tables.)
    fn default() -> Self {
        Self {
            local_histories: 2048,
            local_counters: 2048,
            global_counters: 8192,
            choice_counters: 8192,
            counter_bits: 2,
            pc_shift: 2,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Tournament {
    histories: Box<[u32]>,
    local: Counters,
    global: Counters,
    choice: Counters,
    history: u64,
    local_mask: u32,
    global_mask: u64,
    pc_shift: u32,
}

impl Tournament {
    pub(super) fn new(config: &TournamentConfig) -> Result<Self, ConfigError> {
        check_entries("the local histories of the tournament predictor", config.local_histories)?;
        check_entries("the local counters of the tournament predictor", config.local_counters)?;
        check_entries("the global counters of the tournament predictor", config.global_counters)?;
        check_entries("the choice counters of the tournament predictor", config.choice_counters)?;
        check_common(config.counter_bits, config.pc_shift)?;
        Ok(Self {
            histories: vec![0; config.local_histories as usize].into(),
            local: Counters::new(config.local_counters, config.counter_bits),
            global: Counters::new(config.global_counters, config.counter_bits),
            choice: Counters::new(config.choice_counters, config.counter_bits),
            history: 0,
            local_mask: config.local_counters - 1,
            global_mask: u64::from(config.global_counters.max(config.choice_counters)) - 1,
            pc_shift: config.pc_shift,
        })
    }

    fn remember(&mut self, taken: bool) {
        self.history = ((self.history << 1) | u64::from(taken)) & self.global_mask;
    }
}

impl Direction for Tournament {
    #[inline]
    fn conditional(&mut self, pc: u64, taken: bool) -> bool {
        #[expect(clippy::cast_possible_truncation, reason = "an index into a table, whose size masks it")]
        let at = (pc >> self.pc_shift) as usize & (self.histories.len() - 1);
        let own = &mut self.histories[at];
        let (own_index, history) = (u64::from(*own), self.history);
        let (local, global) = (self.local.taken(own_index), self.global.taken(history));
        let predicted = if self.choice.taken(history) { global } else { local };
        self.choice.train_if(local != global, history, global == taken);
        self.local.train(own_index, taken);
        self.global.train(history, taken);
        *own = ((*own << 1) | u32::from(taken)) & self.local_mask;
        self.remember(taken);
        predicted
    }

    fn unconditional(&mut self, _pc: u64) {
        self.global.train(self.history, true);
        self.remember(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Histories of two bits everywhere.
    fn small() -> Tournament {
        Tournament::new(&TournamentConfig {
            local_histories: 4,
            local_counters: 4,
            global_counters: 4,
            choice_counters: 4,
            ..TournamentConfig::default()
        })
        .unwrap()
    }

    #[test]
    fn the_local_history_learns_a_pattern() {
        // Taken, not taken, and so on. The histories before each branch are 00, 01, 10, 01, 10, ...; counters start at 0:
        //   00 -> T: said n, counter 1      01 -> n: said n, 0      10 -> T: said n, 1
        //   01 -> n: said n, 0              10 -> T: said n, 2      01 -> n: said n      10 -> T: said T from here on
        let mut tournament = small();
        let said: String =
            (0..10).map(|step| if tournament.conditional(0, step % 2 == 0) { 'T' } else { 'n' }).collect();
        assert_eq!(said, "nnnnnnTnTn");
    }

    #[test]
    fn the_choice_goes_to_the_one_that_was_right() {
        let mut tournament = small();
        // At history 00, global has learnt "taken" and local has not.
        tournament.global.train(0, true);
        tournament.global.train(0, true);
        assert!(!tournament.conditional(0, true), "the choice is local at first, and local says not taken");
        tournament.history = 0;
        assert!(
            !tournament.conditional(4, true),
            "another branch: local at history 00 is at 1, so the choice goes to 2"
        );
        tournament.history = 0;
        assert!(tournament.choice.taken(0), "global was right twice");
        assert!(tournament.conditional(8, true));
    }

    #[test]
    fn the_choice_stays_if_both_say_the_same() {
        let mut tournament = small();
        for _ in 0..4 {
            tournament.conditional(0, false);
            assert!(!tournament.choice.taken(0));
        }
        tournament.choice.train(0, true);
        tournament.choice.train(0, true);
        tournament.conditional(0, true);
        tournament.history = 0;
        assert!(tournament.choice.taken(0), "both were wrong, so that neither is to be preferred");
    }

    #[test]
    fn branches_have_histories_of_their_own_and_counters_in_common() {
        let mut tournament = small();
        tournament.conditional(0, true);
        tournament.conditional(4, false);
        assert_eq!(tournament.histories[..], [1, 0, 0, 0]);
        assert_eq!(tournament.history, 0b10);
        tournament.conditional(16, true);
        assert_eq!(tournament.histories[0], 0b11, "the fifth branch shares the first one's history");
    }

    #[test]
    fn a_jump_is_in_the_global_history_only() {
        let mut tournament = small();
        tournament.unconditional(0);
        tournament.history = 0;
        tournament.unconditional(0);
        assert_eq!(tournament.history, 1);
        assert!(tournament.global.taken(0));
        assert!(!tournament.local.taken(0));
        assert_eq!(tournament.histories[0], 0);
    }
}
