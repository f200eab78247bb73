use remuda_model::{ArtifactState, EngineId, Tier};

/// An engine that could run a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The engine.
    pub engine: EngineId,
    /// How much its compiler invests.
    pub tier: Tier,
    /// The place of its artifact of the module.
    pub artifact: ArtifactState,
    /// The time since which its artifact has been loaded or compiled, on the clock of [`World::now_ns`]; `None` if
    /// nobody does so.
    pub making_since_ns: Option<u64>,
    /// The engine in whose code its guests go on as soon as they come to a place where they can, if such code is ready.
    pub goes_on_in: Option<EngineId>,
}

/// A request, as far as the choice depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Bytes of input, if they are known beforehand.
    pub input_bytes: Option<u64>,
    /// The engines that are able and allowed to run the request, in the order in which they are tried for an unknown
    /// function.
    pub candidates: &'a [Candidate],
    /// Whether running it twice does no harm, so that two engines may race.
    pub may_race: bool,
    /// Whether a guest that begins on an interpreter can go on in better code while it runs, from any place in the
    /// module.
    pub can_move: bool,
}

/// The state of the host, on which a choice depends beside the function and the request.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The costs of the engines on this host.
    pub calibration: &'a crate::Calibration,
    /// How busy the host is.
    pub load: Load,
    /// The present time, in nanoseconds on a clock that does not go back.
    pub now_ns: u64,
}

/// How busy a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Cores that guests and compilers may use.
    pub cores: usize,
    /// How many of them run guests or compilers, the asking request's own included.
    pub busy: usize,
    /// Requests that wait for a core.
    pub waiting: usize,
    /// Whether there is still CPU time for what may turn out to be wasted.
    pub may_waste: bool,
}

impl Load {
    /// A host with nothing to do but one request.
    #[must_use]
    pub fn idle(cores: usize) -> Self {
        Self { cores, busy: 1, waiting: 0, may_waste: true }
    }

    /// The number of cores with nothing to do.
    #[must_use]
    pub fn idle_cores(&self) -> usize {
        self.cores.saturating_sub(self.busy + self.waiting)
    }

    /// How far the host is from idle (0) to as much work as it has cores (1).
    #[must_use]
    pub fn pressure(&self) -> f64 {
        let others = (self.busy + self.waiting).saturating_sub(1) as f64;
        (others / (self.cores.max(2) - 1) as f64).min(1.0)
    }
}
