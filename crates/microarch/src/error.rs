//! What can be wrong with the parameters of a simulator.

/// A parameter that no simulator can be made of. The message names the parameter, its value and what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The hardware indexes its tables with bits of an address, so that their sizes are powers of two.
    #[error("{what} is {value}; it has to be a power of two")]
    NotPowerOfTwo {
        /// The parameter, in words.
        what: &'static str,
        /// What was given.
        value: u64,
    },
    /// A number that is too small or too large.
    #[error("{what} is {value}; it has to be between {min} and {max}")]
    OutOfRange {
        /// The parameter, in words.
        what: &'static str,
        /// What was given.
        value: u64,
        /// The least that is accepted.
        min: u64,
        /// The most that is accepted.
        max: u64,
    },
    /// Size, line and ways of a cache do not go together.
    #[error(
        "a cache of {size_bytes} bytes cannot have {ways} ways of lines of {line_bytes} bytes: \
         size / (line * ways) is its number of sets, which has to be a whole power of two"
    )]
    Sets {
        /// The cache's size.
        size_bytes: u64,
        /// The size of a line.
        line_bytes: u32,
        /// Lines in a set.
        ways: u32,
    },
    /// The same for entries of a branch target buffer.
    #[error(
        "a branch target buffer of {entries} entries cannot have {ways} ways: entries / ways is its number of sets, \
         which has to be a whole power of two"
    )]
    TargetSets {
        /// All entries.
        entries: u32,
        /// Entries in a set.
        ways: u32,
    },
    /// TAGE's histories grow geometrically from the shortest to the longest.
    #[error("TAGE's shortest history is {min} and its longest {max}; the longest has to be longer than the shortest")]
    Histories {
        /// The shortest history, in branches.
        min: u32,
        /// The longest history, in branches.
        max: u32,
    },
}

/// Checks `min <= value <= max`.
pub(crate) fn within(what: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { what, value, min, max }) }
}

/// Checks that `value` is a power of two that is at least 1 and at most `max`.
pub(crate) fn power_of_two(what: &'static str, value: u64, max: u64) -> Result<(), ConfigError> {
    within(what, value, 1, max)?;
    if value.is_power_of_two() { Ok(()) } else { Err(ConfigError::NotPowerOfTwo { what, value }) }
}
