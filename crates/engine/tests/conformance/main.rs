//! The contract of this crate, held against every engine of the build: what [`remuda_engine::Engine`] and its kin
//! promise is tried here through the public interface alone, so that a new adapter has to do nothing to be tested.
//!
//! Each file is a topic. Its cases are data, and one `check` runs them on every engine that can run them.

mod artifacts;
mod capabilities;
mod entries;
mod interruption;
mod limits;
mod moves;
mod outcomes;
mod output;
mod sharing;
mod stress;
mod support;
