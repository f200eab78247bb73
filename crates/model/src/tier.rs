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
    /// An optimising compiler: optimised native code.
    Optimizing,
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Interpreter => "interpreter",
            Self::Baseline => "baseline",
            Self::Optimizing => "optimizing",
        })
    }
}
