//! Work that no request waits for: compiling better code, having artifacts in memory in time, calibrating.

pub(crate) mod appointments;
pub(crate) mod background;
pub(crate) mod calibrator;
pub(crate) mod expectation;
pub(crate) mod finishing;
pub(crate) mod prewarm;
pub(crate) mod reaper;
pub(crate) mod tier_up;
