//! Artifacts: compiled code of one module by one engine, in memory and on disk.

pub(crate) mod compile;
pub(crate) mod make;
pub(crate) mod memory;
pub(crate) mod parts;
pub(crate) mod seal;
pub(crate) mod slot;
pub(crate) mod slots;
pub(crate) mod store;
