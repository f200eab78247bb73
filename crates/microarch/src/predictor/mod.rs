//! Predictors of conditional branches.
//!
//! Each says whether a branch will be taken, and learns at once what it did. In gem5, whose definitions the first three
//! follow, several branches may be under way at the same time: histories are updated when a branch is predicted, and
//! repaired when it turns out that the prediction was wrong; counters are updated when the branch retires. Here a branch is
//! over before the next is predicted, as in an in-order core whose branches resolve at once. The tables and the rules are the
//! same. What is not simulated is fetch: a branch that is predicted taken and is absent from the branch target buffer goes
//! wrong in gem5's core, and gem5 clears the youngest bit of its history then; here [`crate::TargetBuffer`] counts that apart.
//!
//! `pc_shift` is the number of low bits of a branch's address that no table looks at (gem5's `instShiftAmt`, 2 there for all
//! instruction sets). With 2, branches of x86-64 that lie within 4 bytes share their entries.

mod bimode;
mod counters;
mod local;
mod tage;
mod tournament;

use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, power_of_two, within};
use bimode::BiMode;
use local::Local;
use tage::Tage;
use tournament::Tournament;

pub use bimode::BiModeConfig;
pub use local::LocalConfig;
pub use tage::TageConfig;
pub use tournament::TournamentConfig;

/// The most entries of one table of a predictor: a bound on memory (16 MiB for each table), far above real hardware.
const ENTRIES_MAX: u64 = 1 << 24;

/// gem5's saturating counters have at most 8 bits.
const COUNTER_BITS_MAX: u64 = 8;

/// Instructions are at most 15 bytes long; more than 16 ignored bits would have most branches share one entry.
const PC_SHIFT_MAX: u64 = 16;

/// What an executed branch did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A conditional branch that was not taken.
    NotTaken,
    /// A conditional branch that was taken.
    Taken,
    /// A jump, call or return. It needs no prediction of its direction, but is part of the global histories.
    Unconditional,
}

/// An executed branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Branch {
    /// The address of its instruction.
    pub pc: u64,
    /// What it did.
    pub outcome: Outcome,
}

/// Which predictor, and how large.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "predictor", rename_all = "kebab-case")]
pub enum PredictorConfig {
    /// One counter for each branch.
    Local(LocalConfig),
    /// Two tables by global history; a third by address says which.
    BiMode(BiModeConfig),
    /// A local and a global predictor; a third says which.
    Tournament(TournamentConfig),
    /// Tables with ever longer histories.
    Tage(TageConfig),
}

impl PredictorConfig {
    /// The predictor's name, as the plugin's argument has it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::BiMode(_) => "bimode",
            Self::Tournament(_) => "tournament",
            Self::Tage(_) => "tage",
        }
    }

    /// The memory that the predictor learns in, in bits: its tables, without the few registers for histories.
    #[must_use]
    pub fn bits(&self) -> u64 {
        let of = |entries: u32, bits: u32| u64::from(entries) * u64::from(bits);
        match self {
            Self::Local(local) => of(local.counters, local.counter_bits),
            Self::BiMode(bimode) => {
                of(bimode.choice_counters, bimode.counter_bits) + 2 * of(bimode.direction_counters, bimode.counter_bits)
            }
            Self::Tournament(tournament) => {
                of(tournament.local_histories, tournament.local_counters.ilog2())
                    + of(tournament.local_counters, tournament.counter_bits)
                    + of(tournament.global_counters, tournament.counter_bits)
                    + of(tournament.choice_counters, tournament.counter_bits)
            }
            Self::Tage(tage) => {
                of(tage.base_counters, 2) + u64::from(tage.tables) * of(tage.table_entries, tage.tag_bits + 3 + 2)
            }
        }
    }
}

/// What was counted at one predictor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BranchCounts {
    /// Conditional branches.
    pub branches: u64,
    /// Those of which the predictor said the opposite of what they did.
    pub mispredictions: u64,
}

impl std::ops::AddAssign for BranchCounts {
    fn add_assign(&mut self, other: Self) {
        self.branches += other.branches;
        self.mispredictions += other.mispredictions;
    }
}

/// The rules of one predictor.
trait Direction {
    /// Predicts the conditional branch at `pc`, and learns that it was `taken` or not. Returns the prediction.
    fn conditional(&mut self, pc: u64, taken: bool) -> bool;

    /// Learns that a jump, call or return was executed at `pc`.
    fn unconditional(&mut self, pc: u64);
}

/// A predictor at work.
#[derive(Debug, Clone)]
pub struct Predictor {
    config: PredictorConfig,
    rules: Rules,
    counts: BranchCounts,
}

#[derive(Debug, Clone)]
enum Rules {
    Local(Local),
    BiMode(BiMode),
    Tournament(Tournament),
    Tage(Box<Tage>),
}

impl Predictor {
    /// A predictor that has seen nothing. All its counters and histories are 0, so that it says "not taken".
    ///
    /// # Errors
    /// If a size is none that the predictor can have.
    pub fn new(config: &PredictorConfig) -> Result<Self, ConfigError> {
        let rules = match config {
            PredictorConfig::Local(config) => Rules::Local(Local::new(config)?),
            PredictorConfig::BiMode(config) => Rules::BiMode(BiMode::new(config)?),
            PredictorConfig::Tournament(config) => Rules::Tournament(Tournament::new(config)?),
            PredictorConfig::Tage(config) => Rules::Tage(Box::new(Tage::new(config)?)),
        };
        Ok(Self { config: config.clone(), rules, counts: BranchCounts::default() })
    }

    /// Predicts each of these branches and learns from it, in their order.
    pub fn run(&mut self, branches: &[Branch]) {
        let counted = match &mut self.rules {
            Rules::Local(rules) => run(rules, branches),
            Rules::BiMode(rules) => run(rules, branches),
            Rules::Tournament(rules) => run(rules, branches),
            Rules::Tage(rules) => run(rules.as_mut(), branches),
        };
        self.counts += counted;
    }

    /// Which predictor this is.
    #[must_use]
    pub fn config(&self) -> &PredictorConfig {
        &self.config
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> BranchCounts {
        self.counts
    }
}

fn run(rules: &mut impl Direction, branches: &[Branch]) -> BranchCounts {
    let mut counts = BranchCounts::default();
    for branch in branches {
        if branch.outcome == Outcome::Unconditional {
            rules.unconditional(branch.pc);
            continue;
        }
        let taken = branch.outcome == Outcome::Taken;
        counts.branches += 1;
        counts.mispredictions += u64::from(rules.conditional(branch.pc, taken) != taken);
    }
    counts
}

/// Checks what all predictors have.
fn check_common(counter_bits: u32, pc_shift: u32) -> Result<(), ConfigError> {
    within("the bits of a predictor's counter", u64::from(counter_bits), 1, COUNTER_BITS_MAX)?;
    check_shift(pc_shift)
}

fn check_shift(pc_shift: u32) -> Result<(), ConfigError> {
    within("a predictor's pc shift", u64::from(pc_shift), 0, PC_SHIFT_MAX)
}

fn check_entries(what: &'static str, entries: u32) -> Result<(), ConfigError> {
    power_of_two(what, u64::from(entries), ENTRIES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unconditional_branches_are_learnt_and_not_counted() {
        let mut predictor = Predictor::new(&PredictorConfig::Local(LocalConfig::default())).unwrap();
        predictor.run(&[
            Branch { pc: 0, outcome: Outcome::Unconditional },
            Branch { pc: 4, outcome: Outcome::NotTaken },
            Branch { pc: 4, outcome: Outcome::Taken },
        ]);
        assert_eq!(predictor.counts(), BranchCounts { branches: 2, mispredictions: 1 });
    }

    #[test]
    fn predictors_say_how_large_they_are() {
        let sizes = [
            PredictorConfig::Local(LocalConfig::default()),
            PredictorConfig::BiMode(BiModeConfig::default()),
            PredictorConfig::Tournament(TournamentConfig::default()),
            PredictorConfig::Tage(TageConfig::default()),
        ]
        .map(|config| (config.name(), config.bits()));
        let tournament = 2048 * 11 + 2048 * 2 + 8192 * 2 + 8192 * 2;
        assert_eq!(
            sizes,
            [
                ("local", 1024 * 2),
                ("bimode", 3 * 8192 * 2),
                ("tournament", tournament),
                ("tage", 4096 * 2 + 7 * 512 * (9 + 3 + 2))
            ]
        );
    }

    #[test]
    fn sizes_that_no_table_has_are_refused_by_name() {
        let refused = |config: PredictorConfig| Predictor::new(&config).unwrap_err().to_string();
        assert_eq!(
            refused(PredictorConfig::Local(LocalConfig { counters: 1000, ..LocalConfig::default() })),
            "the counters of the local predictor is 1000; it has to be a power of two"
        );
        assert_eq!(
            refused(PredictorConfig::Local(LocalConfig { counter_bits: 9, ..LocalConfig::default() })),
            "the bits of a predictor's counter is 9; it has to be between 1 and 8"
        );
        assert_eq!(
            refused(PredictorConfig::BiMode(BiModeConfig { pc_shift: 17, ..BiModeConfig::default() })),
            "a predictor's pc shift is 17; it has to be between 0 and 16"
        );
        assert_eq!(
            refused(PredictorConfig::BiMode(BiModeConfig { direction_counters: 0, ..BiModeConfig::default() })),
            "each direction table of the bi-mode predictor is 0; it has to be between 1 and 16777216"
        );
        let large = TournamentConfig { local_histories: 1 << 25, ..TournamentConfig::default() };
        assert!(refused(PredictorConfig::Tournament(large)).contains("local histories"));
        let tage = TageConfig { history_min: 100, history_max: 100, ..TageConfig::default() };
        assert!(refused(PredictorConfig::Tage(tage)).contains("the longest has to be longer"));
    }

    #[test]
    fn a_config_is_the_same_after_json() {
        for config in [
            PredictorConfig::Local(LocalConfig::default()),
            PredictorConfig::BiMode(BiModeConfig::default()),
            PredictorConfig::Tournament(TournamentConfig::default()),
            PredictorConfig::Tage(TageConfig::default()),
        ] {
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<PredictorConfig>(&text).unwrap(), config, "{text}");
        }
    }
}
