//! Which engine runs this request? Pure choice: (state, event, now) -> decision.
//!
//! Nothing in here reads a clock, takes a lock, does I/O or has ever heard of an engine: candidates come with what the
//! choice needs to know, observations come with their time, and what a decision is for carries it out. The same code
//! runs in the host and in a simulator.
#![forbid(unsafe_code)]

mod estimate;
mod greedy_dual;
mod policy;
mod profile;
mod scheduler;

pub use estimate::Estimate;
pub use greedy_dual::GreedyDual;
pub use policy::Policy;
pub use profile::{EngineProfile, FunctionProfile, Prediction};
pub use scheduler::{Candidate, Cost, Decision, NoCandidate, Reason, Request, Scheduler};
