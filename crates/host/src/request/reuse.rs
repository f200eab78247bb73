//! Instances that are kept after a request, for the next one: for functions whose operator says that requests may share
//! state. A guest then saves its start, and the host makes no instance.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use remuda_engine::Idle;

/// The most idle instances of a function on one engine.
///
/// Source: chosen: as many as run at the same time on a large machine. Fewer, and requests that come together make new
/// ones; more, and a burst leaves memory behind for as long as instances may be idle.
const IDLE_MAX: usize = 32;

/// How an operator allows a function's instances to be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reuse {
    /// The most requests that one instance answers.
    pub uses_max: u32,
    /// The longest time that an instance waits for its next request.
    pub idle_max: Duration,
}

impl Default for Reuse {
    fn default() -> Self {
        Self { uses_max: 100, idle_max: Duration::from_secs(10) }
    }
}

/// An instance that waits for its next request.
pub(crate) struct Kept {
    pub(crate) instance: Box<dyn Idle>,
    /// How many requests it has answered.
    pub(crate) uses: u32,
    since: Instant,
}

impl Kept {
    pub(crate) fn new(instance: Box<dyn Idle>, uses: u32) -> Self {
        Self { instance, uses, since: Instant::now() }
    }
}

/// A function's idle instances on one engine, those that have waited longest first.
#[derive(Default)]
pub(crate) struct IdleInstances(Mutex<Vec<Kept>>);

impl IdleInstances {
    /// Takes the instance that has waited for the shortest time, so that others can go.
    pub(crate) fn take(&self) -> Option<Kept> {
        self.0.lock().pop()
    }

    /// Keeps an instance, unless there are enough.
    pub(crate) fn put(&self, kept: Kept) {
        let mut idle = self.0.lock();
        if idle.len() < IDLE_MAX {
            idle.push(kept);
            return;
        }
        drop(idle);
        // Dropping an instance takes a while, during which nobody should wait for the lock.
        drop(kept);
    }

    /// Drops the instances that have waited for longer than that.
    pub(crate) fn drop_idle(&self, idle_max: Duration) {
        let now = Instant::now();
        let is_over = |kept: &mut Kept| now.saturating_duration_since(kept.since) > idle_max;
        // As above.
        let over: Vec<Kept> = self.0.lock().extract_if(.., is_over).collect();
        drop(over);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use remuda_engine::Instance;
    use remuda_model::{GuestContext, Interrupt};

    use super::*;

    /// An instance that says when it is dropped.
    struct Marked(#[expect(dead_code, reason = "its count is looked at")] Arc<()>);

    impl Idle for Marked {
        fn wake(self: Box<Self>, _: &GuestContext, _: &Interrupt) -> Box<dyn Instance> {
            unreachable!("nobody calls it")
        }
    }

    #[test]
    fn idle_instances_are_few_and_do_not_stay() {
        let (idle, mark) = (IdleInstances::default(), Arc::new(()));
        for i in 0..IDLE_MAX + 10 {
            idle.put(Kept::new(Box::new(Marked(Arc::clone(&mark))), u32::try_from(i).unwrap()));
        }
        assert_eq!(Arc::strong_count(&mark), IDLE_MAX + 1);
        idle.drop_idle(Duration::from_hours(1));
        assert_eq!(idle.take().map(|kept| kept.uses), u32::try_from(IDLE_MAX - 1).ok(), "the last one is used first");
        idle.drop_idle(Duration::ZERO);
        assert!(idle.take().is_none());
        assert_eq!(Arc::strong_count(&mark), 1);
    }
}
