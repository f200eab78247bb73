//! The instrument.
#![forbid(unsafe_code)]
