//! Estimates how long the processes that are left will take, from the processes that were measured so far.

use std::collections::HashMap;
use std::time::Duration;

use crate::plan::{Plan, Task};
use crate::row::Pattern;

/// The times that the processes of this run took.
#[derive(Debug, Default)]
pub(super) struct Eta {
    points: HashMap<(usize, usize), Duration>,
    patterns: HashMap<Pattern, (Duration, u32)>,
    /// Sum and count of all processes, for a process of which nothing is known.
    all: (Duration, u32),
}

impl Eta {
    /// Notes that a process took `time`.
    pub(super) fn took(&mut self, plan: &Plan, task: Task, time: Duration) {
        self.points.insert((task.block, task.engine), time);
        for (sum, count) in [self.patterns.entry(plan.blocks[task.block].pattern).or_default(), &mut self.all] {
            *sum += time;
            *count += 1;
        }
    }

    /// Estimates how long a process will take: as long as the last process of the same point; if there is none, the
    /// average of its pattern; else the average of all processes.
    pub(super) fn of(&self, plan: &Plan, task: Task) -> Duration {
        let mean = |(sum, count): (Duration, u32)| sum.checked_div(count);
        let pattern = || self.patterns.get(&plan.blocks[task.block].pattern).copied().and_then(mean);
        let point = self.points.get(&(task.block, task.engine)).copied();
        point.or_else(pattern).or_else(|| mean(self.all)).unwrap_or_default()
    }

    /// Estimates how long all of these processes will take.
    pub(super) fn of_all<'a>(&self, plan: &Plan, tasks: impl IntoIterator<Item = &'a Task>) -> Duration {
        tasks.into_iter().map(|task| self.of(plan, *task)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::mock_plan;

    #[test]
    fn what_was_not_measured_takes_as_long_as_what_resembles_it() {
        let plan = mock_plan(2, 2);
        let mut estimate = Eta::default();
        let task = |block, engine| Task { block, engine, process: 0 };
        let seconds = Duration::from_secs;
        assert_eq!(estimate.of(&plan, task(0, 0)), Duration::ZERO);
        estimate.took(&plan, task(0, 0), seconds(10));
        assert_eq!(estimate.of(&plan, task(1, 1)), seconds(10));
        estimate.took(&plan, task(0, 1), seconds(20));
        assert_eq!(estimate.of(&plan, task(1, 1)), seconds(15));
        estimate.took(&plan, task(0, 0), seconds(12));
        assert_eq!(estimate.of(&plan, task(0, 0)), seconds(12), "the last counts");
        assert_eq!(estimate.of_all(&plan, &[task(0, 0), task(0, 1)]), seconds(32));
    }
}
