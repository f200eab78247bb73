//! The instrument: it measures engines on guests, says how sure it is, and shows what it found.
//!
//! `row` is what is written down; everything that measures writes it, everything that reports reads it. `results` puts rows
//! in order, `stats` says how sure one can be of them, `noise` warns, `report` shows and `compare` compares.
#![forbid(unsafe_code)]

pub mod compare;
pub mod noise;
pub mod report;
pub mod results;
pub mod row;
pub mod stats;
