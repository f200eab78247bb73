use std::fmt;

use serde::{Deserialize, Serialize};

/// How much an engine invests before it runs, and so about how fast it then is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// Ready at once, about ten times slower than native code.
    Interpreter,
    /// One pass, unoptimised native code.
    Baseline,
    /// Optimised native code.
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
