use crate::tuning::USUAL_NS;

/// About how long requests of a function keep their thread: their cost in the [`FairQueue`](crate::FairQueue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usual {
    /// The usual time, in nanoseconds.
    pub ns: u64,
}

impl Default for Usual {
    /// The usual time of a function that was never called.
    fn default() -> Self {
        Self { ns: USUAL_NS }
    }
}

impl Usual {
    /// The usual time after one more request: a moving average in which the last request weighs a quarter.
    #[must_use]
    pub fn after(self, took_ns: u64) -> Self {
        Self { ns: self.ns - self.ns / 4 + took_ns / 4 }
    }
}
