//! Many caches, simulated in one pass over the accesses.
//!
//! # Why one pass is enough
//! Caches of the same line size and the same number of sets differ only in their ways, and with LRU the lines of a cache
//! with few ways are always among those of a cache with more. So one stack of lines for each set, the most recently used on
//! top, serves them all: an access at depth *d* of its stack hits in each cache that has more than *d* ways (Mattson,
//! Gecsei, Slutz and Traiger, "Evaluation techniques for storage hierarchies", IBM Systems Journal 9(2), 1970).
//!
//! Caches with more sets split these sets further. A line that is on top of its stack at some number of sets was used after
//! all other lines of that set, so it is on top of its stack at each larger number of sets, too. It hits everywhere from
//! there on and changes nothing, so that the pass over the larger caches can stop (Hill and Smith, "Evaluating
//! associativity in CPU caches", IEEE Transactions on Computers 38(12), 1989). Most accesses stop at the smallest cache.

use crate::cache::{Access, CacheConfig, CacheCounts, lines_of};
use crate::error::ConfigError;

/// No line has this number, because lines have 8 bytes or more.
const NO_LINE: u64 = u64::MAX;

/// Many caches that see the same accesses.
#[derive(Debug, Clone)]
pub struct CacheBank {
    configs: Vec<CacheConfig>,
    /// One for each size of lines.
    groups: Vec<Group>,
    /// Where each of `configs` is counted: group and level.
    places: Vec<(usize, usize)>,
    loads: u64,
    stores: u64,
}

/// The caches with lines of one size.
#[derive(Debug, Clone)]
struct Group {
    line_shift: u32,
    /// By number of sets, the fewest first.
    levels: Vec<Level>,
    /// The depths of one access that crosses lines.
    depths: Vec<usize>,
}

/// The caches with one number of sets.
#[derive(Debug, Clone)]
struct Level {
    sets: u64,
    /// The ways of the cache that has most.
    ways: usize,
    /// A stack of `ways` lines for each set.
    stacks: Vec<u64>,
    /// Accesses by depth, loads and stores apart. Those at depth 0 hit everywhere and are not counted; depth `ways` means
    /// that the line was not there.
    depths: [Vec<u64>; 2],
}

impl Level {
    /// Puts a line on top of its stack; says how deep it was.
    #[inline]
    fn promote(&mut self, line: u64) -> usize {
        // The mask leaves less than the number of sets, all of which are in memory.
        #[expect(clippy::cast_possible_truncation, reason = "an index into a Vec")]
        let at = (line & (self.sets - 1)) as usize * self.ways;
        let stack = &mut self.stacks[at..at + self.ways];
        if stack[0] == line {
            return 0;
        }
        // Of the eight ways that most caches have, all are compared at once, in arithmetic: with comparisons, the compiler
        // makes a chain of branches that cannot be foreseen. A line that is not there is what costs most, since no larger
        // cache can be left out then.
        if let Ok(eight) = <&mut [u64; 8]>::try_from(&mut *stack) {
            // The highest bit of d | -d is set if d is not 0.
            let differs = |slot: &u64| (slot ^ line) | (slot ^ line).wrapping_neg();
            if eight.iter().map(differs).fold(u64::MAX, std::ops::BitAnd::bitand) >> 63 == 1 {
                eight.copy_within(0..7, 1);
                eight[0] = line;
                return 8;
            }
        }
        let mut carried = line;
        for (depth, slot) in stack.iter_mut().enumerate() {
            std::mem::swap(&mut carried, slot);
            if carried == line {
                return depth;
            }
        }
        self.ways
    }
}

impl Group {
    /// An access to one line.
    #[inline]
    fn touch(&mut self, line: u64, access: Access) {
        for level in &mut self.levels {
            let depth = level.promote(line);
            if depth == 0 {
                return;
            }
            level.depths[access as usize][depth] += 1;
        }
    }

    /// One access to several lines: it missed in a cache if one of them did.
    #[cold]
    fn touch_all(&mut self, first: u64, last: u64, access: Access) {
        self.depths.fill(0);
        for line in first..=last {
            for (level, deepest) in self.levels.iter_mut().zip(&mut self.depths) {
                let depth = level.promote(line);
                if depth == 0 {
                    break;
                }
                *deepest = depth.max(*deepest);
            }
        }
        for (level, &depth) in self.levels.iter_mut().zip(&self.depths) {
            if depth > 0 {
                level.depths[access as usize][depth] += 1;
            }
        }
    }
}

/// The lines that a straight run of instructions brings in, for a certain bank. Fetches that must hit, because the
/// instruction before has just been fetched from the same line, are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchPlan {
    instructions: u64,
    spans: Box<[Span]>,
}

/// The lines of one fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u64,
    last: u64,
    group: usize,
}

impl FetchPlan {
    /// The number of instructions.
    pub(crate) fn instructions(&self) -> u64 {
        self.instructions
    }
}

impl CacheBank {
    /// Empty caches.
    ///
    /// # Errors
    /// If one of them has a geometry that no cache has.
    pub fn new(configs: &[CacheConfig]) -> Result<Self, ConfigError> {
        let mut groups: Vec<Group> = Vec::new();
        for config in configs {
            let (sets, line_shift) = (config.sets()?, config.line_bytes.trailing_zeros());
            let at = groups.iter().position(|group| group.line_shift == line_shift).unwrap_or_else(|| {
                groups.push(Group { line_shift, levels: Vec::new(), depths: Vec::new() });
                groups.len() - 1
            });
            let levels = &mut groups[at].levels;
            let ways = config.ways as usize;
            match levels.iter_mut().find(|level| level.sets == sets) {
                Some(level) => level.ways = level.ways.max(ways),
                None => levels.push(Level { sets, ways, stacks: Vec::new(), depths: [Vec::new(), Vec::new()] }),
            }
        }
        for group in &mut groups {
            group.levels.sort_by_key(|level| level.sets);
            group.depths = vec![0; group.levels.len()];
            for level in &mut group.levels {
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a cache of at most 1 GiB has fewer lines than that"
                )]
                let lines = level.sets as usize * level.ways;
                level.stacks = vec![NO_LINE; lines];
                level.depths = [vec![0; level.ways + 1], vec![0; level.ways + 1]];
            }
        }
        let mut places = Vec::with_capacity(configs.len());
        for config in configs {
            let sets = config.sets()?;
            let place = groups.iter().enumerate().find_map(|(at, group)| {
                let level = group.levels.iter().position(|level| level.sets == sets)?;
                (group.line_shift == config.line_bytes.trailing_zeros()).then_some((at, level))
            });
            places.extend(place);
        }
        Ok(Self { configs: configs.to_vec(), groups, places, loads: 0, stores: 0 })
    }

    /// Accesses `bytes` bytes at `address`.
    #[inline]
    pub fn access(&mut self, address: u64, bytes: u32, access: Access) {
        match access {
            Access::Load => self.loads += 1,
            Access::Store => self.stores += 1,
        }
        for group in &mut self.groups {
            let (first, last) = lines_of(address, bytes, group.line_shift);
            if first == last {
                group.touch(first, access);
            } else {
                group.touch_all(first, last, access);
            }
        }
    }

    /// What fetching a straight run of instructions will bring in: the first is at `start`, and each is as long as
    /// `lengths` says, in bytes.
    pub fn plan(&self, start: u64, lengths: impl Iterator<Item = u32> + Clone) -> FetchPlan {
        let mut spans = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            let (mut address, mut previous) = (start, None);
            for bytes in lengths.clone() {
                let (first, last) = lines_of(address, bytes, group.line_shift);
                // A line that the previous instruction touched last is on top of every stack.
                let first = if previous == Some(first) { first + 1 } else { first };
                if first <= last {
                    spans.push(Span { first, last, group: at });
                }
                (address, previous) = (address.wrapping_add(u64::from(bytes)), Some(last));
            }
        }
        FetchPlan { instructions: lengths.count() as u64, spans: spans.into() }
    }

    /// Fetches what was planned, and counts each of its instructions as a load.
    #[inline]
    pub fn fetch(&mut self, plan: &FetchPlan) {
        self.loads += plan.instructions;
        self.bring(plan);
    }

    /// Fetches what was planned, and counts nothing but misses: for an instruction that goes on with what it was doing.
    #[inline]
    pub(crate) fn bring(&mut self, plan: &FetchPlan) {
        for span in &plan.spans {
            let group = &mut self.groups[span.group];
            if span.first == span.last {
                group.touch(span.first, Access::Load);
            } else {
                group.touch_all(span.first, span.last, Access::Load);
            }
        }
    }

    /// What was counted, with each cache's geometry, in the order in which they were given.
    pub fn counts(&self) -> impl Iterator<Item = (CacheConfig, CacheCounts)> {
        self.configs.iter().zip(&self.places).map(|(&config, &(group, level))| {
            let depths = &self.groups[group].levels[level].depths;
            let misses = |access: Access| depths[access as usize].iter().skip(config.ways as usize).sum();
            let counts = CacheCounts {
                loads: self.loads,
                load_misses: misses(Access::Load),
                stores: self.stores,
                store_misses: misses(Access::Store),
            };
            (config, counts)
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::cache::Cache;

    fn configs() -> Vec<CacheConfig> {
        let mut configs = Vec::new();
        for (size, line, ways) in [
            (64, 64, 1),
            (128, 64, 1),
            (128, 64, 2),
            (256, 64, 1),
            (512, 64, 8),
            (1024, 64, 2),
            (4096, 64, 8),
            (4096, 64, 4),
            (3 * 1024, 64, 6),
            (8192, 64, 8),
            (65536, 64, 8),
            (1024, 32, 2),
            (2048, 32, 4),
            (2048, 128, 16),
            (256, 8, 4),
        ] {
            configs.push(CacheConfig::new(size, line, ways).unwrap());
        }
        configs
    }

    fn check_against_plain_caches(bank: &CacheBank, plain: &[Cache]) {
        let counted: Vec<_> = bank.counts().collect();
        assert_eq!(counted.len(), plain.len());
        for ((config, counts), cache) in counted.iter().zip(plain) {
            assert_eq!(*counts, cache.counts(), "{config:?}");
        }
    }

    #[test]
    fn a_bank_counts_what_each_cache_alone_counts() {
        let mut random = rand_pcg::Pcg64::seed_from_u64(7);
        for round in 0..60 {
            let configs = configs();
            let mut bank = CacheBank::new(&configs).unwrap();
            let mut plain: Vec<_> = configs.iter().map(|&config| Cache::new(config).unwrap()).collect();
            // Reuse at every distance: small and large ranges, strides, and accesses that cross lines.
            let range = 1_u64 << random.random_range(6..18);
            let (mut walk, stride) = (0_u64, random.random_range(1..200_u64));
            for _ in 0..4000 {
                walk = (walk + stride) % range;
                let address = if random.random_bool(0.5) { random.random_range(0..range) } else { walk };
                let address = if round % 10 == 9 { address.wrapping_sub(range / 2) } else { address };
                let bytes = 1 << random.random_range(0..9_u32);
                let access = if random.random_bool(0.3) { Access::Store } else { Access::Load };
                bank.access(address, bytes, access);
                for cache in &mut plain {
                    cache.access(address, bytes, access);
                }
            }
            check_against_plain_caches(&bank, &plain);
        }
    }

    #[test]
    fn a_plan_counts_what_its_instructions_one_by_one_count() {
        let mut random = rand_pcg::Pcg64::seed_from_u64(8);
        for _ in 0..40 {
            let configs = configs();
            let mut bank = CacheBank::new(&configs).unwrap();
            let mut plain: Vec<_> = configs.iter().map(|&config| Cache::new(config).unwrap()).collect();
            let blocks: Vec<_> = (0..30)
                .map(|_| {
                    let start = random.random_range(0..8192_u64);
                    let lengths: Vec<u32> =
                        (0..random.random_range(1..40)).map(|_| random.random_range(1..16)).collect();
                    (start, bank.plan(start, lengths.iter().copied()), lengths)
                })
                .collect();
            for _ in 0..400 {
                let (start, plan, lengths) = &blocks[random.random_range(0..blocks.len())];
                bank.fetch(plan);
                let mut address = *start;
                for &bytes in lengths {
                    for cache in &mut plain {
                        cache.access(address, bytes, Access::Load);
                    }
                    address += u64::from(bytes);
                }
            }
            check_against_plain_caches(&bank, &plain);
        }
    }

    #[test]
    fn a_plan_leaves_out_what_must_hit() {
        let bank = CacheBank::new(&[CacheConfig::new(1024, 64, 2).unwrap()]).unwrap();
        let span = |first, last| Span { first, last, group: 0 };
        let plan = |start, lengths: &[u32]| bank.plan(start, lengths.iter().copied()).spans.to_vec();
        assert_eq!(plan(0, &[4, 4, 4]), [span(0, 0)]);
        assert_eq!(plan(56, &[4, 4, 4]), [span(0, 0), span(1, 1)]);
        assert_eq!(plan(58, &[4, 4, 4]), [span(0, 0), span(1, 1)], "the second crosses, and its first line is there");
        assert_eq!(plan(62, &[4, 4]), [span(0, 1)], "the first crosses: one fetch of two lines");
        assert_eq!(plan(0, &[]), []);
    }

    #[test]
    fn no_caches_count_nothing_and_impossible_ones_are_refused() {
        let mut none = CacheBank::new(&[]).unwrap();
        none.access(0, 8, Access::Load);
        assert_eq!(none.counts().count(), 0);
        let bad = CacheConfig { size_bytes: 1000, line_bytes: 64, ways: 1 };
        assert_eq!(
            CacheBank::new(&[bad]).unwrap_err(),
            ConfigError::Sets { size_bytes: 1000, line_bytes: 64, ways: 1 }
        );
    }
}
