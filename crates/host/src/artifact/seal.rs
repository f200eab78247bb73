//! The key that seals what this host writes for itself: artifacts, and what it has found out about modules.

/// The key of a store, or of one compile in a child process.
pub(crate) type Key = [u8; 32];
