//! Decides which engine runs a request. The choice is pure: (state, event, now) -> decision.
//!
//! Nothing in this crate reads a clock, takes a lock, does I/O or knows an engine: candidates come with what the choice
//! needs to know, observations come with their time, and the caller carries decisions out. The same code runs in the
//! host and in the simulator.
//!
//! A [`Scheduler`] belongs to one function. It decides between requests ([`Scheduler::decide`], [`Scheduler::tier_up`])
//! and within one request, which is a [`flight::Flight`] and may be [`moving::Moving`].
#![forbid(unsafe_code)]

mod arrivals;
mod calibration;
mod candidate;
mod compile_queue;
mod estimate;
mod fair_queue;
mod features;
pub mod flight;
mod greedy_dual;
pub mod moving;
mod nanoseconds;
mod policy;
mod prewarm;
mod profile;
mod race;
mod scheduler;
mod sizes;
mod sizing;
#[cfg(test)]
mod testing;
mod tier_up;
pub mod tuning;
mod usual;
mod waste;

pub use arrivals::Arrivals;
pub use calibration::{Calibration, EngineCalibration, PartCosts};
pub use candidate::{Candidate, Load, Request, World};
pub use compile_queue::CompileQueue;
pub use estimate::Estimate;
pub use fair_queue::FairQueue;
pub use features::Features;
pub use greedy_dual::{GreedyDual, WorthLess};
pub use nanoseconds::as_ns;
pub use policy::Policy;
pub use prewarm::{Favourite, Prewarm, PrewarmHow, PrewarmLook};
pub use profile::{Basis, EngineProfile, Evidence, FunctionProfile, Prediction};
pub use scheduler::{Decision, NoCandidate, Reason, Scheduler};
pub use sizes::{SizeModel, Sized};
pub use sizing::Sizing;
pub use tier_up::{TierUp, TierUpReason};
pub use usual::Usual;
pub use waste::WasteBudget;
