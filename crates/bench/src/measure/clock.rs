use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// Wall time and the CPU time of all threads of the process, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// Wall time.
    pub wall_ns: u64,
    /// CPU time on all cores together.
    pub cpu_ns: u64,
}

/// Both clocks of this process at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Clocks(Times);

impl Clocks {
    /// Reads both clocks.
    #[must_use]
    pub fn now() -> Self {
        Self(Times { wall_ns: monotonic_ns(), cpu_ns: read(ClockId::ProcessCPUTime) })
    }

    /// The moment when this process began, by the clock reading that its parent process took.
    #[must_use]
    pub fn at_start(started_ns: u64) -> Self {
        Self(Times { wall_ns: started_ns, cpu_ns: 0 })
    }

    /// The time that has passed since.
    #[must_use]
    pub fn elapsed(self) -> Times {
        let Times { wall_ns, cpu_ns } = Self::now().0;
        Times { wall_ns: wall_ns.saturating_sub(self.0.wall_ns), cpu_ns: cpu_ns.saturating_sub(self.0.cpu_ns) }
    }
}

/// Reads a clock that all processes of a machine share and that is never set, in nanoseconds.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read(ClockId::Monotonic)
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
