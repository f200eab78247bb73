//! The instrument: it measures engines on guests, says how sure it is, and shows what it found.
//!
//! `row` is what is written down; everything that measures writes it, everything that reports reads it.
#![forbid(unsafe_code)]

pub mod row;
