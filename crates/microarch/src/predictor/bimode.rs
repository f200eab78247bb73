//! gem5's `BiModeBP`, the bi-mode predictor (Lee, Chen and Mudge, "The bi-mode branch predictor", MICRO 1997).

use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::{Direction, check_common, check_entries};
use crate::error::ConfigError;

/// Sizes of the bi-mode predictor.
///
/// - The choice table, at `(pc >> pc_shift) % choice_counters`, says which direction table decides: that of branches that are
///   mostly taken, or that of branches that mostly are not.
/// - Both direction tables are looked up at `((pc >> pc_shift) ^ history) % direction_counters`. The history has as many bits
///   as that index; its youngest bit is the last branch.
/// - Then the counter of the direction table that decided goes towards what the branch did; the other stays. The choice
///   counter does so, too, unless it had chosen the opposite of what the branch did and the prediction was right all the same.
/// - A jump, call or return counts as a taken branch for which the taken table decided rightly: it counts up the counters of
///   the taken table and the choice table, and is in the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BiModeConfig {
    /// Counters of the choice table: a power of two. gem5: `choicePredictorSize`.
    pub choice_counters: u32,
    /// Counters of each of the two direction tables: a power of two. gem5: `globalPredictorSize`.
    pub direction_counters: u32,
    /// The bits of a counter, in all three tables.
    pub counter_bits: u32,
    /// The low bits of an address that are ignored.
    pub pc_shift: u32,
}

impl Default for BiModeConfig {
    /// As gem5 has it without further options.
    fn default() -> Self {
        Self { choice_counters: 8192, direction_counters: 8192, counter_bits: 2, pc_shift: 2 }
    }
}

#[derive(Debug, Clone)]
pub(super) struct BiMode {
    choice: Counters,
    /// Of branches that are mostly not taken, and of those that mostly are.
    directions: [Counters; 2],
    history: u64,
    history_mask: u64,
    pc_shift: u32,
}

impl BiMode {
    pub(super) fn new(config: &BiModeConfig) -> Result<Self, ConfigError> {
        check_entries("the choice table of the bi-mode predictor", config.choice_counters)?;
        check_entries("each direction table of the bi-mode predictor", config.direction_counters)?;
        check_common(config.counter_bits, config.pc_shift)?;
        let direction = Counters::new(config.direction_counters, config.counter_bits);
        Ok(Self {
            choice: Counters::new(config.choice_counters, config.counter_bits),
            directions: [direction.clone(), direction],
            history: 0,
            history_mask: u64::from(config.direction_counters) - 1,
            pc_shift: config.pc_shift,
        })
    }

    fn remember(&mut self, taken: bool) {
        self.history = ((self.history << 1) | u64::from(taken)) & self.history_mask;
    }
}

impl Direction for BiMode {
    #[inline]
    fn conditional(&mut self, pc: u64, taken: bool) -> bool {
        let at = pc >> self.pc_shift;
        let chosen = self.choice.taken(at);
        let direction = &mut self.directions[usize::from(chosen)];
        let predicted = direction.taken(at ^ self.history);
        direction.train(at ^ self.history, taken);
        #[expect(clippy::needless_bitwise_bool, reason = "neither is to be a branch, see Counters::train_if")]
        let learns = (predicted != taken) | (chosen == taken);
        self.choice.train_if(learns, at, taken);
        self.remember(taken);
        predicted
    }

    fn unconditional(&mut self, pc: u64) {
        let at = pc >> self.pc_shift;
        self.directions[1].train(at ^ self.history, true);
        self.choice.train(at, true);
        self.remember(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> BiMode {
        BiMode::new(&BiModeConfig { choice_counters: 4, direction_counters: 4, ..BiModeConfig::default() }).unwrap()
    }

    #[test]
    fn a_branch_moves_to_the_taken_table_and_learns_there() {
        // Choice and history decide which counter of which table is looked up. At pc 0 the index is the history:
        //   branch  choice  history  table, counter  says
        //   T       0       00       not taken, 0    n     choice 1, history 01
        //   T       1       01       not taken, 0    n     choice 2, history 11
        //   T       2       11       taken, 0        n     choice 3, history 11
        //   T       3       11       taken, 1        n
        //   T       3       11       taken, 2        T
        let mut bimode = small();
        let said: Vec<_> = (0..5).map(|_| bimode.conditional(0, true)).collect();
        assert_eq!(said, [false, false, false, false, true]);
    }

    #[test]
    fn the_choice_stays_if_its_table_was_right_against_it() {
        // Choice says "not taken" for branch 0, whose counter at history 00 in the not-taken table has learnt "taken".
        let mut bimode = small();
        bimode.directions[0].train(0, true);
        bimode.directions[0].train(0, true);
        assert!(bimode.conditional(0, true), "the table says taken");
        bimode.choice.train(0, true);
        assert!(!bimode.choice.taken(0), "the choice has not moved before: one step up is still the lower half");
        bimode.choice.train(0, true);
        assert!(bimode.choice.taken(0), "and a second step is the upper half");
    }

    #[test]
    fn only_the_table_that_decided_learns() {
        let mut bimode = small();
        bimode.conditional(0, true);
        bimode.conditional(0, true);
        assert!(!bimode.directions[1].taken(0) && !bimode.directions[1].taken(1));
        bimode.directions[0].train(0, true);
        assert!(bimode.directions[0].taken(0), "one step from the first branch, and one from this test");
    }

    #[test]
    fn a_jump_counts_as_taken_by_the_taken_table() {
        let mut bimode = small();
        bimode.unconditional(0);
        assert_eq!(bimode.history, 1);
        bimode.unconditional(4);
        assert_eq!(bimode.history, 3, "index 1 ^ 1 = 0, where the first jump has been");
        assert!(bimode.directions[1].taken(0));
        assert!(!bimode.directions[0].taken(0));
        bimode.unconditional(0);
        assert!(bimode.choice.taken(0));
        assert_eq!(bimode.history, 3, "the history has two bits");
    }
}
