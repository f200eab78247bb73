//! Machine code as engines hand it over to be looked at.

use std::ops::Range;

/// How a module is compiled before its machine code is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Rewritten so that its guests can be stopped, as it is served.
    AsServed,
    /// As it is, without polls: to see what they cost. Such code is never run.
    Plain,
}

/// The machine code that an engine made of a module.
#[derive(Clone, Debug)]
pub struct MachineCode {
    /// The architecture, as [`std::env::consts::ARCH`] spells it.
    pub architecture: &'static str,
    /// All code, in the order in which the engine lays it out.
    pub text: Vec<u8>,
    /// The functions that the module defines: the index of each, and where its code is in `text`. Beside code there may
    /// be constants and tables.
    pub functions: Vec<(u32, Range<usize>)>,
    /// For each place at which the code begins to belong to another operator, in ascending order: the offset in `text`,
    /// and where the code from there on comes from. `None` if the engine keeps no such map.
    pub origins: Option<Vec<(u32, CodeOrigin)>>,
    /// How code reads the flag of polls, if there is no map that says which instructions do. The register goes by the
    /// processor's own number; the displacement is in bytes.
    pub flag: Option<(u8, i64)>,
}

/// Where machine code comes from. Offsets are those of the module before it was rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeOrigin {
    /// From the operator at this offset.
    Operator(u32),
    /// From a poll that the rewriting put before the operator at this offset.
    Poll(u32),
    /// From no operator.
    None,
}
