//! What a host learns, and where that is kept.

pub mod calibrate;
pub(crate) mod housekeeper;
pub(crate) mod memo;
pub mod profile;
pub(crate) mod records;
pub(crate) mod row;
pub(crate) mod shared_scheduler;
