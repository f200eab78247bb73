//! The instrument: it measures engines on guests, says how sure it is, and shows what it found.
//!
//! `plan` says what is measured and in which order, `run` carries a plan out in fresh processes, and `measure` works
//! inside of such a process; `session` is one run from its request to its last result, and `simulate`
//! one of simulations. `row` defines the records of a
//! results file: all modules that measure write them, and all modules that report read them. `results` puts records in
//! order, `stats` says how sure one can be of them, `noise` warns, `report` shows and `compare` compares.
#![forbid(unsafe_code)]

pub mod compare;
pub mod engines;
pub mod guests;
pub mod machine;
pub mod measure;
pub mod noise;
pub mod plan;
pub mod report;
pub mod results;
pub mod row;
pub mod run;
pub mod session;
pub mod simulate;
pub mod stats;

/// The commit that this crate was built from, or `unknown`; with `+changes` if there were uncommitted changes.
pub const COMMIT: &str = env!("REMUDA_COMMIT");
