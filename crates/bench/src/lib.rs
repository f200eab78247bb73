//! The instrument: it measures engines on guests, says how sure it is, and shows what it found.
//!
//! `plan` says what is measured and in which order, `run` carries it out in fresh processes, `measure` is what happens
//! inside of such a process; `session` is one run from its request to its last result. `row` is what is written down;
//! everything that measures writes it, everything that reports reads it. `results` puts rows in order, `stats` says how
//! sure one can be of them, `noise` warns, `report` shows and `compare` compares.
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
pub mod stats;

/// The commit that this was built from, or `unknown`; with `+changes` if there were any.
pub const COMMIT: &str = env!("REMUDA_COMMIT");
