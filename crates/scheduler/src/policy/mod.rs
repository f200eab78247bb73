//! One policy in each file; this one knows them all.

mod profile;
mod single;

use std::fmt;

use remuda_model::EngineId;

use crate::{Decision, FunctionProfile, Request};

/// How an engine is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Always this one.
    Single(EngineId),
    /// The one whose measured phases promise the soonest answer; one that was never measured is tried first.
    Profile,
}

impl Policy {
    /// Chooses among several candidates, or not at all if the policy's engine is not among them.
    pub(crate) fn decide(
        self,
        request: &Request<'_>,
        profile: &FunctionProfile,
        exploring: &[EngineId],
    ) -> Option<Decision> {
        match self {
            Self::Single(engine) => single::decide(engine, request),
            Self::Profile => profile::decide(request, profile, exploring),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(engine) => write!(f, "single({engine})"),
            Self::Profile => f.write_str("profile"),
        }
    }
}
