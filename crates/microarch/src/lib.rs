//! Micro-architecture in simulation: first-level caches, branch predictors and branch targets, fed with what a program
//! executed.
//!
//! - [`CacheBank`] counts the misses of many caches in one pass; [`Cache`] is one cache, for comparison.
//! - [`Predictor`] is a predictor of conditional branches: local, bi-mode and tournament with the rules of gem5, and TAGE.
//! - [`TargetBuffer`] and [`ReturnStack`] are where branches go.
//! - [`Core`] is all of them for one thread, fed with [`Block`]s and accesses; [`Report`] what cores have counted.
//! - [`protocol`] is how a program under qemu says what is to be counted ([`tell`] does so), [`system_calls`] is how it makes code at
//!   run time, and [`options`] are the arguments of the plugin (crate `remuda-microarch-plugin`) that feeds cores with what qemu
//!   executes.
//! - [`counters`] are those of the processor itself.
//! - [`Run`] runs a program with that plugin, and reads the report.

#![deny(unsafe_code)]

mod bank;
mod cache;
mod core;
pub mod counters;
mod error;
mod instruction;
pub mod options;
mod predictor;
pub mod protocol;
mod report;
mod run;
pub mod system_calls;
mod targets;
mod tell;

pub use self::core::{AccessInfo, Block, BlockMaker, Core, Describe, InstructionTag, Setup};
pub use bank::{CacheBank, FetchPlan};
pub use cache::{Access, Cache, CacheConfig, CacheCounts};
pub use error::ConfigError;
pub use instruction::{InstructionSet, Kind, decode, is_cut_off};
pub use predictor::{
    BiModeConfig, Branch, BranchCounts, LocalConfig, Outcome, Predictor, PredictorConfig, TageConfig, TournamentConfig,
};
pub use report::{
    CacheResult, CodeRange, Counting, HotBlock, PredictorResult, REPORT_VERSION, ReadError, Report, ReturnStackResult,
    Scope, TargetBufferResult,
};
pub use run::{PLUGIN_FILE, Ran, Run, RunError, emulator, instruction_set, qemu_name, wait};
pub use targets::{ReturnStack, ReturnStackConfig, TargetBuffer, TargetBufferConfig, TargetCounts};
pub use tell::tell;
