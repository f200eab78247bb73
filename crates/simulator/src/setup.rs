use remuda_scheduler::{Policy, Sizing};

/// The part that chooses engines in a simulation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chooser {
    /// A policy of the production scheduler.
    Policy(Policy),
    /// The oracle, which has hindsight: the yardstick.
    Oracle,
}

impl std::fmt::Display for Chooser {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(policy) => policy.fmt(f),
            Self::Oracle => f.write_str("oracle"),
        }
    }
}

/// The host that is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setup {
    /// The number of cores.
    pub cores: usize,
    /// How much the host does at once, and how much it keeps.
    pub size: Sizing,
    /// Whether guests move while they run.
    pub moves: bool,
}

impl Setup {
    /// The host with so many cores that has all defaults.
    #[must_use]
    pub fn new(cores: usize) -> Self {
        Self { cores, size: Sizing::of(cores), moves: true }
    }
}
