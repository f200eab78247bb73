//! Micro-architecture in simulation: first-level caches, branch predictors and branch targets, fed with what a program
//! executed.
//!
//! Nothing here knows where the instructions come from. The crate `remuda-microarch-plugin` brings them from qemu.

#![forbid(unsafe_code)]

mod bank;
mod cache;
mod error;
mod predictor;
mod targets;

pub use bank::{CacheBank, FetchPlan};
pub use cache::{Access, Cache, CacheConfig, CacheCounts};
pub use error::ConfigError;
pub use predictor::{
    BiModeConfig, Branch, BranchCounts, LocalConfig, Outcome, Predictor, PredictorConfig, TageConfig, TournamentConfig,
};
pub use targets::{ReturnStack, ReturnStackConfig, TargetBuffer, TargetBufferConfig, TargetCounts};
