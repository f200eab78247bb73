//! The policies, each in a file of its own; this file knows them all.

mod adaptive;
mod profile;
mod single;

use std::fmt;
use std::str::FromStr;

use remuda_model::EngineId;

use crate::{Decision, Request, Scheduler, World};

/// How an engine is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Always this engine.
    Single(EngineId),
    /// The engine whose measured phases promise the soonest answer; an engine that was never measured is tried first.
    /// This is the paper's policy.
    Profile,
    /// The engine with the least expected cost, by what was observed, transferred or guessed; better code is compiled
    /// in the background.
    Adaptive,
    /// As [`Policy::Adaptive`], and a request that runs for long is raced by better engines on idle cores.
    Hedged,
}

impl Policy {
    /// Whether better engines may race a request.
    #[must_use]
    pub fn may_race(self) -> bool {
        self == Self::Hedged
    }

    /// Whether better code is compiled in the background.
    #[must_use]
    pub fn tiers_up(self) -> bool {
        matches!(self, Self::Adaptive | Self::Hedged)
    }

    /// Chooses among several candidates; `None` if the policy's engine is not among them.
    pub(crate) fn decide(self, scheduler: &Scheduler, request: &Request<'_>, world: &World<'_>) -> Option<Decision> {
        match self {
            Self::Single(engine) => single::decide(engine, request),
            Self::Profile => profile::decide(scheduler, request, world),
            Self::Adaptive | Self::Hedged => adaptive::decide(scheduler, request, world),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(engine) => write!(f, "single({engine})"),
            Self::Profile => f.write_str("profile"),
            Self::Adaptive => f.write_str("adaptive"),
            Self::Hedged => f.write_str("hedged"),
        }
    }
}

/// The error for a name that no policy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownPolicy(String);

impl fmt::Display for UnknownPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no policy {:?}; there are profile, adaptive and hedged", self.0)
    }
}

impl std::error::Error for UnknownPolicy {}

/// Parses the names of the policies that choose among engines.
impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "profile" => Ok(Self::Profile),
            "adaptive" => Ok(Self::Adaptive),
            "hedged" => Ok(Self::Hedged),
            other => Err(UnknownPolicy(other.to_owned())),
        }
    }
}
