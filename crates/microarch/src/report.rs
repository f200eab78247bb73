//! What was counted, with the configuration beside each count.

use std::cmp::Reverse;
use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cache::{CacheConfig, CacheCounts};
use crate::core::{Block, Core};
use crate::predictor::{BranchCounts, PredictorConfig};
use crate::targets::{ReturnStackConfig, TargetBufferConfig, TargetCounts};

/// The version of a report's format.
pub const REPORT_VERSION: u32 = 2;

/// How many blocks of code a report names. The loop in which a program spends its time is a few of them; more make reports larger.
const HOTTEST_MAX: usize = 64;

/// What is an instruction, and what an access to memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Counting {
    /// As the instruction set defines it: an instruction that modifies memory loads and stores, and a string instruction of
    /// x86 is one instruction however often it repeats.
    #[default]
    Architecture,
    /// As Valgrind's cachegrind does: an instruction that modifies memory makes one access, a load; and each round of a
    /// string instruction is an instruction. For comparisons with it.
    Cachegrind,
}

/// Code that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeRange {
    /// The address of its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
}

impl CodeRange {
    /// Whether this address lies in it.
    #[must_use]
    pub fn contains(&self, address: u64) -> bool {
        address.wrapping_sub(self.start) < self.length
    }

    /// Adds this code to ranges that are sorted and apart from each other, and keeps them so.
    pub fn add_to(self, ranges: &mut Vec<Self>) {
        if self.length == 0 {
            return;
        }
        let end = |range: &Self| range.start.saturating_add(range.length);
        let first = ranges.partition_point(|range| end(range) < self.start);
        let touched = ranges[first..].iter().take_while(|range| range.start <= end(&self)).count();
        let all = ranges[first..first + touched].iter().chain([&self]);
        let (start, after) = all.fold((u64::MAX, 0), |(start, after), one| (start.min(one.start), after.max(end(one))));
        ranges.splice(first..first + touched, [Self { start, length: after - start }]);
    }
}

/// Which code was counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// All of it.
    All,
    /// The code in these ranges.
    Ranges(Vec<CodeRange>),
}

/// All that was counted in one program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The instruction set, as qemu calls it.
    pub target: String,
    /// What is an instruction, and what an access.
    pub counting: Counting,
    /// Which code was counted.
    pub scope: Scope,
    /// Threads, each with a core of its own. All counts are sums over them.
    pub cores: usize,
    /// Instructions.
    pub instructions: u64,
    /// Loads from memory.
    pub loads: u64,
    /// Stores to memory.
    pub stores: u64,
    /// Conditional branches.
    pub conditional_branches: u64,
    /// Conditional branches that were taken.
    pub taken_branches: u64,
    /// Branches that were counted nowhere else, because what came next was a signal or code that is not counted.
    pub unresolved_branches: u64,
    /// The blocks of code with the most executed instructions, the first with the most.
    pub hottest: Vec<HotBlock>,
    /// Instruction caches.
    pub instruction_caches: Vec<CacheResult>,
    /// Data caches.
    pub data_caches: Vec<CacheResult>,
    /// Predictors.
    pub predictors: Vec<PredictorResult>,
    /// The branch target buffer.
    pub target_buffer: Option<TargetBufferResult>,
    /// The return address stack.
    pub return_stack: Option<ReturnStackResult>,
}

/// A block of code: a straight run of instructions as qemu has translated it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotBlock {
    /// The address of its first byte.
    pub start: u64,
    /// Its bytes, in hexadecimal.
    pub code: String,
    /// How many instructions it has.
    pub instructions: u64,
    /// How often it was executed.
    pub executions: u64,
}

impl HotBlock {
    /// Instructions that were executed of it.
    #[must_use]
    pub fn executed(&self) -> u64 {
        self.executions * self.instructions
    }
}

/// The hottest of these blocks, each of which is given with its bytes.
fn hottest<'a>(blocks: impl Iterator<Item = (&'a Block, &'a [u8])>, cores: &[&Core]) -> Vec<HotBlock> {
    let executions = |block: &Block| cores.iter().map(|core| core.executions(block)).sum::<u64>();
    let mut all: Vec<_> = blocks.map(|(block, bytes)| (block, bytes, executions(block))).collect();
    all.retain(|(.., executions)| *executions > 0);
    all.sort_unstable_by_key(|(block, _, executions)| (Reverse(executions * block.instructions()), block.start));
    let named = all.into_iter().take(HOTTEST_MAX).map(|(block, bytes, executions)| HotBlock {
        start: block.start,
        code: hex::encode(bytes),
        instructions: block.instructions(),
        executions,
    });
    named.collect()
}

/// What was counted at one cache.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheResult {
    /// The cache.
    pub config: CacheConfig,
    /// Its accesses and misses.
    pub counts: CacheCounts,
    /// Misses for 1000 instructions.
    pub misses_per_thousand_instructions: f64,
    /// Misses for 100 accesses.
    pub miss_percent: f64,
}

/// What was counted at one predictor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PredictorResult {
    /// The predictor.
    pub config: PredictorConfig,
    /// Its branches and mispredictions.
    pub counts: BranchCounts,
    /// Mispredictions for 1000 instructions.
    pub mispredictions_per_thousand_instructions: f64,
    /// Mispredictions for 100 conditional branches.
    pub misprediction_percent: f64,
}

/// What was counted at a branch target buffer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetBufferResult {
    /// The buffer.
    pub config: TargetBufferConfig,
    /// Its lookups, misses and wrong targets.
    pub counts: TargetCounts,
    /// Misses and wrong targets for 1000 instructions.
    pub wrong_per_thousand_instructions: f64,
    /// Misses and wrong targets for 100 lookups.
    pub wrong_percent: f64,
}

/// What was counted at a return address stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReturnStackResult {
    /// The stack.
    pub config: ReturnStackConfig,
    /// Its returns and mispredictions.
    pub counts: BranchCounts,
    /// Mispredictions for 1000 instructions.
    pub mispredictions_per_thousand_instructions: f64,
    /// Mispredictions for 100 returns.
    pub misprediction_percent: f64,
}

/// `part` for `unit` of `whole`; 0 of nothing.
fn share(part: u64, whole: u64, unit: f64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * unit / whole as f64 }
}

/// The sums of the counts at the same place of each core.
fn summed<C: Copy, N: Copy + std::ops::AddAssign>(lists: impl Iterator<Item = Vec<(C, N)>>) -> Vec<(C, N)> {
    let mut sums: Vec<(C, N)> = Vec::new();
    for list in lists {
        if sums.is_empty() {
            sums = list;
        } else {
            for (sum, (_, counts)) in sums.iter_mut().zip(list) {
                sum.1 += counts;
            }
        }
    }
    sums
}

impl Report {
    /// What these cores counted, which have the same setup and have finished. `blocks` are those that they were fed with, with
    /// their bytes.
    #[must_use]
    pub fn new<'a>(
        target: &str,
        counting: Counting,
        scope: Scope,
        blocks: impl Iterator<Item = (&'a Block, &'a [u8])>,
        cores: &[&Core],
    ) -> Self {
        let total = |count: fn(&Core) -> u64| cores.iter().map(|core| count(core)).sum::<u64>();
        let instructions = total(|core| core.totals.instructions);
        let caches = |bank: fn(&Core) -> Vec<(CacheConfig, CacheCounts)>| {
            let result = |(config, counts): (CacheConfig, CacheCounts)| CacheResult {
                config,
                counts,
                misses_per_thousand_instructions: share(counts.misses(), instructions, 1000.0),
                miss_percent: share(counts.misses(), counts.accesses(), 100.0),
            };
            summed(cores.iter().map(|core| bank(core))).into_iter().map(result).collect()
        };
        let branches = summed(cores.iter().map(|core| core.predictors.iter().map(|one| ((), one.counts())).collect()));
        let configs = cores.first().map(|core| core.predictors.iter().map(|one| one.config().clone()));
        let predictors = configs.into_iter().flatten().zip(branches).map(|(config, ((), counts))| PredictorResult {
            config,
            counts,
            mispredictions_per_thousand_instructions: share(counts.mispredictions, instructions, 1000.0),
            misprediction_percent: share(counts.mispredictions, counts.branches, 100.0),
        });
        let buffers = summed(cores.iter().map(|core| {
            core.target_buffer.iter().map(|buffer| (buffer.config(), buffer.counts())).collect::<Vec<_>>()
        }));
        let stacks =
            summed(cores.iter().map(|core| {
                core.return_stack.iter().map(|stack| (stack.config(), stack.counts())).collect::<Vec<_>>()
            }));
        Self {
            version: REPORT_VERSION,
            target: target.to_owned(),
            counting,
            scope,
            cores: cores.len(),
            instructions,
            loads: total(|core| core.totals.loads),
            stores: total(|core| core.totals.stores),
            conditional_branches: total(|core| core.totals.conditional_branches),
            taken_branches: total(|core| core.totals.taken_branches),
            unresolved_branches: total(|core| core.totals.unresolved_branches),
            hottest: hottest(blocks, cores),
            instruction_caches: caches(|core| core.fetches.counts().collect()),
            data_caches: caches(|core| core.data.counts().collect()),
            predictors: predictors.collect(),
            target_buffer: buffers.first().map(|&(config, counts)| TargetBufferResult {
                config,
                counts,
                wrong_per_thousand_instructions: share(counts.misses + counts.wrong_targets, instructions, 1000.0),
                wrong_percent: share(counts.misses + counts.wrong_targets, counts.lookups, 100.0),
            }),
            return_stack: stacks.first().map(|&(config, counts)| ReturnStackResult {
                config,
                counts,
                mispredictions_per_thousand_instructions: share(counts.mispredictions, instructions, 1000.0),
                misprediction_percent: share(counts.mispredictions, counts.branches, 100.0),
            }),
        }
    }

    /// Writes the report as JSON, all of it or nothing: into a file beside `path`, which then takes its place.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // As other new files: what the umask leaves of this.
        let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If the file cannot be read, or is no report of this version.
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let text = std::fs::read(path).map_err(|source| ReadError::Io { path: path.to_owned(), source })?;
        let report: Self =
            serde_json::from_slice(&text).map_err(|source| ReadError::Format { path: path.to_owned(), source })?;
        if report.version == REPORT_VERSION {
            Ok(report)
        } else {
            Err(ReadError::Version { path: path.to_owned(), version: report.version })
        }
    }
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("cannot read the report {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is no report.
    #[error("{} is no report of the plugin: {source}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where it is not.
        source: serde_json::Error,
    },
    /// The report was written by another version.
    #[error("{} is a report of version {version}, and this version reads {REPORT_VERSION}: use the plugin that belongs to it", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_meet_become_one() {
        let mut ranges = Vec::new();
        for (start, length) in [(100, 10), (300, 10), (0, 0), (200, 10), (110, 5), (295, 5), (u64::MAX - 1, 1)] {
            CodeRange { start, length }.add_to(&mut ranges);
        }
        let range = |start, length| CodeRange { start, length };
        assert_eq!(ranges, [range(100, 15), range(200, 10), range(295, 15), range(u64::MAX - 1, 1)]);
        range(90, 215).add_to(&mut ranges);
        assert_eq!(ranges, [range(90, 220), range(u64::MAX - 1, 1)]);
    }
}
