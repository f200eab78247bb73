//! One cache: set-associative, with true LRU replacement and write-allocate.
//!
//! This is the plain simulator, in which each way remembers when it was last used. [`crate::CacheBank`] counts exactly
//! the same for many caches at once; tests hold one against the other.
//!
//! Write-allocate: a store that misses brings the line in as a load does. Whether a store is written through or back makes
//! no difference to hits and misses, so that nothing is said about it. There is no prefetcher and no second level.
//!
//! # Accesses that cross a line
//! An access that lies in several lines touches each of them, in the order of their addresses. It is counted as one access
//! with one miss at most, which is how Valgrind's cachegrind counts.

use serde::{Deserialize, Serialize};

use crate::error::{ConfigError, power_of_two, within};

/// The largest cache that is simulated: 1 GiB. A larger one would need more memory for its simulation than most programs
/// that are measured.
const SIZE_BYTES_MAX: u64 = 1 << 30;

/// The most ways of a set. A set is searched from front to back, so that more would be slow rather than wrong.
const WAYS_MAX: u64 = 1024;

/// The least and the largest size of a line. Below 8 bytes an ordinary load would cross lines, above 4 KiB a line would be
/// larger than a page.
const LINE_BYTES: (u64, u64) = (8, 4096);

/// A cache's geometry. It has `size_bytes / (line_bytes * ways)` sets, which has to be a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CacheConfig {
    /// All data that the cache holds, in bytes.
    pub size_bytes: u64,
    /// The size of a line, in bytes: a power of two.
    pub line_bytes: u32,
    /// The lines of one set.
    pub ways: u32,
}

impl CacheConfig {
    /// A geometry that has been checked.
    ///
    /// # Errors
    /// If no cache has this geometry.
    pub fn new(size_bytes: u64, line_bytes: u32, ways: u32) -> Result<Self, ConfigError> {
        let config = Self { size_bytes, line_bytes, ways };
        config.sets().map(|_| config)
    }

    /// The number of sets.
    ///
    /// # Errors
    /// If no cache has this geometry.
    pub fn sets(&self) -> Result<u64, ConfigError> {
        let Self { size_bytes, line_bytes, ways } = *self;
        within("a cache's size in bytes", size_bytes, LINE_BYTES.0, SIZE_BYTES_MAX)?;
        within("a cache line in bytes", u64::from(line_bytes), LINE_BYTES.0, LINE_BYTES.1)?;
        power_of_two("a cache line in bytes", u64::from(line_bytes), LINE_BYTES.1)?;
        within("the number of ways", u64::from(ways), 1, WAYS_MAX)?;
        let set_bytes = u64::from(line_bytes) * u64::from(ways);
        if size_bytes % set_bytes == 0 && (size_bytes / set_bytes).is_power_of_two() {
            Ok(size_bytes / set_bytes)
        } else {
            Err(ConfigError::Sets { size_bytes, line_bytes, ways })
        }
    }
}

/// What an access does. A fetch of an instruction is a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Reads.
    Load,
    /// Writes.
    Store,
}

/// What was counted at one cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheCounts {
    /// Loads; of an instruction cache: instructions fetched.
    pub loads: u64,
    /// Loads of which at least one line was not there.
    pub load_misses: u64,
    /// Stores.
    pub stores: u64,
    /// Stores of which at least one line was not there.
    pub store_misses: u64,
}

impl CacheCounts {
    /// Loads and stores.
    #[must_use]
    pub fn accesses(&self) -> u64 {
        self.loads + self.stores
    }

    /// Accesses that missed.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.load_misses + self.store_misses
    }
}

impl std::ops::AddAssign for CacheCounts {
    fn add_assign(&mut self, other: Self) {
        self.loads += other.loads;
        self.load_misses += other.load_misses;
        self.stores += other.stores;
        self.store_misses += other.store_misses;
    }
}

/// The first and the last line of an access, as numbers of lines. An access of no bytes touches the line of its address,
/// and one that would pass the end of the address space ends there.
pub(crate) fn lines_of(address: u64, bytes: u32, line_shift: u32) -> (u64, u64) {
    let last = address.saturating_add(u64::from(bytes.max(1)) - 1);
    (address >> line_shift, last >> line_shift)
}

/// A line in a cache.
#[derive(Debug, Clone, Copy)]
struct Way {
    line: u64,
    used_at: u64,
}

/// One cache.
#[derive(Debug, Clone)]
pub struct Cache {
    line_shift: u32,
    ways: usize,
    sets: Vec<Vec<Way>>,
    now: u64,
    counts: CacheCounts,
}

impl Cache {
    /// An empty cache.
    ///
    /// # Errors
    /// If no cache has this geometry.
    pub fn new(config: CacheConfig) -> Result<Self, ConfigError> {
        let sets = config.sets()?;
        Ok(Self {
            line_shift: config.line_bytes.trailing_zeros(),
            ways: config.ways as usize,
            sets: (0..sets).map(|_| Vec::new()).collect(),
            now: 0,
            counts: CacheCounts::default(),
        })
    }

    /// Accesses `bytes` bytes at `address`; says whether that missed.
    pub fn access(&mut self, address: u64, bytes: u32, access: Access) -> bool {
        let (first, last) = lines_of(address, bytes, self.line_shift);
        let mut missed = false;
        for line in first..=last {
            missed |= self.touch(line);
        }
        let (accesses, misses) = match access {
            Access::Load => (&mut self.counts.loads, &mut self.counts.load_misses),
            Access::Store => (&mut self.counts.stores, &mut self.counts.store_misses),
        };
        *accesses += 1;
        *misses += u64::from(missed);
        missed
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> CacheCounts {
        self.counts
    }

    fn touch(&mut self, line: u64) -> bool {
        self.now += 1;
        // The remainder is less than the number of sets, which is in memory.
        #[expect(clippy::cast_possible_truncation, reason = "an index into a Vec")]
        let index = (line % self.sets.len() as u64) as usize;
        let set = &mut self.sets[index];
        if let Some(way) = set.iter_mut().find(|way| way.line == line) {
            way.used_at = self.now;
            return false;
        }
        let new = Way { line, used_at: self.now };
        if set.len() < self.ways {
            set.push(new);
        } else if let Some(oldest) = set.iter_mut().min_by_key(|way| way.used_at) {
            *oldest = new;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(size: u64, line: u32, ways: u32) -> Cache {
        Cache::new(CacheConfig::new(size, line, ways).unwrap()).unwrap()
    }

    #[test]
    fn the_line_that_was_not_used_for_longest_leaves() {
        // One set of two ways.
        let mut cache = cache(128, 64, 2);
        assert!(cache.access(0, 4, Access::Load));
        assert!(cache.access(64, 4, Access::Load));
        assert!(!cache.access(0, 4, Access::Load), "used again, so that line 1 is the older one");
        assert!(cache.access(128, 4, Access::Load), "takes the place of line 1");
        assert!(!cache.access(0, 4, Access::Load));
        assert!(cache.access(64, 4, Access::Load), "takes the place of line 2");
        assert!(cache.access(128, 4, Access::Load));
        assert_eq!(cache.counts(), CacheCounts { loads: 7, load_misses: 5, stores: 0, store_misses: 0 });
    }

    #[test]
    fn lines_of_different_sets_do_not_displace_each_other() {
        // Two sets of one way: even lines in one, odd lines in the other.
        let mut cache = cache(128, 64, 1);
        assert!(cache.access(0, 1, Access::Load));
        assert!(cache.access(64, 1, Access::Load));
        assert!(!cache.access(63, 1, Access::Load));
        assert!(!cache.access(127, 1, Access::Load));
        assert!(cache.access(128, 1, Access::Load), "aliases with line 0");
        assert!(!cache.access(64, 1, Access::Load));
        assert!(cache.access(0, 1, Access::Load));
    }

    #[test]
    fn a_store_that_misses_brings_its_line_in() {
        let mut cache = cache(128, 64, 2);
        assert!(cache.access(0, 8, Access::Store));
        assert!(!cache.access(8, 8, Access::Load));
        assert!(!cache.access(16, 8, Access::Store));
        assert_eq!(cache.counts(), CacheCounts { loads: 1, load_misses: 0, stores: 2, store_misses: 1 });
    }

    #[test]
    fn an_access_that_crosses_a_line_is_one_access_and_one_miss_at_most() {
        let mut cache = cache(256, 64, 4);
        assert!(cache.access(60, 8, Access::Load), "both lines are missing");
        assert_eq!(cache.counts().misses(), 1);
        assert!(!cache.access(0, 4, Access::Load), "the first line came in");
        assert!(!cache.access(64, 4, Access::Load), "and so did the second");
        assert!(cache.access(124, 8, Access::Load), "one of the two is missing");
        assert_eq!(cache.counts(), CacheCounts { loads: 4, load_misses: 2, stores: 0, store_misses: 0 });
    }

    #[test]
    fn the_ends_of_the_address_space_are_addresses_as_others() {
        let mut cache = cache(256, 64, 4);
        assert!(cache.access(u64::MAX, 8, Access::Load), "ends with the address space");
        assert!(!cache.access(u64::MAX - 1, 0, Access::Load), "no bytes touch the line of their address");
        assert!(cache.access(0, 0, Access::Store));
    }

    #[test]
    fn impossible_geometries_are_refused_by_name() {
        let refused = |size, line, ways| CacheConfig::new(size, line, ways).unwrap_err().to_string();
        assert_eq!(refused(0, 64, 1), "a cache's size in bytes is 0; it has to be between 8 and 1073741824");
        assert_eq!(
            refused(1 << 40, 64, 1),
            "a cache's size in bytes is 1099511627776; it has to be between 8 and 1073741824"
        );
        assert_eq!(refused(1024, 0, 1), "a cache line in bytes is 0; it has to be between 8 and 4096");
        assert_eq!(refused(1024, 48, 1), "a cache line in bytes is 48; it has to be a power of two");
        assert_eq!(refused(1024, 64, 0), "the number of ways is 0; it has to be between 1 and 1024");
        assert!(refused(1000, 64, 1).starts_with("a cache of 1000 bytes cannot have 1 ways of lines of 64 bytes"));
        assert!(refused(3 * 1024, 64, 1).contains("power of two"), "48 sets");
        assert!(refused(64, 64, 2).contains("power of two"), "less than one set");
        assert_eq!(CacheConfig::new(48 * 1024, 64, 12).unwrap().sets().unwrap(), 64);
    }
}
