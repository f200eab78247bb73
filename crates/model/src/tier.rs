use std::fmt;

use serde::{Deserialize, Serialize};

/// How much an engine invests in a module before it runs it, and so about how fast the guest then is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// An interpreter: ready at once, but about ten times slower than native code.
    Interpreter,
    /// A one-pass compiler: unoptimised native code.
    Baseline,
    /// A one-pass compiler, and an optimising one for what turns out to be hot while it runs.
    Dynamic,
    /// An optimising compiler: optimised native code.
    Optimizing,
    /// An optimising compiler that takes tens of times as long as others of its kind, for code that runs long.
    Peak,
}

impl Tier {
    /// Whether engines of this tier make something that is worth keeping on disk.
    #[must_use]
    pub fn keeps_artifacts(self) -> bool {
        match self {
            Self::Baseline | Self::Optimizing | Self::Peak => true,
            Self::Interpreter | Self::Dynamic => false,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Interpreter => "interpreter",
            Self::Baseline => "baseline",
            Self::Dynamic => "dynamic",
            Self::Optimizing => "optimizing",
            Self::Peak => "peak",
        })
    }
}
