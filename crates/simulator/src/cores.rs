//! Cores that are shared by the runners on them.
//!
//! Every runner gets at most one core. Where there are more runners than cores, each gets a share by the weight of its
//! class, as on an operating system with priorities (processor sharing). All runners of a class advance at the same
//! rate, so each class has a clock of its own that goes at that rate, and the runner that ends next is at the top of a
//! heap.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The weight of a runner, class by class, as in Linux' scheduler: niceness 0 and 5, and `SCHED_IDLE`.
const WEIGHTS: [f64; 3] = [1.0, 335.0 / 1024.0, 3.0 / 1024.0];

/// The priority of a runner, by what it runs for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Requests, and engines that race for them.
    Foreground = 0,
    /// Loads for requests that are expected.
    Ahead = 1,
    /// Compiles that no request waits for.
    Background = 2,
}

/// The name of a runner. It means the same runner for ever: numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RunnerId(u64);

/// The machine: cores, and the runners on them. `T` is what the owner wants to know when a runner ends.
#[derive(Debug)]
pub(crate) struct Cores<T> {
    cores: f64,
    now_ns: f64,
    classes: [Clock; 3],
    runners: std::collections::HashMap<RunnerId, Runner<T>, Hasher>,
    next: u64,
    used_ns: f64,
}

#[derive(Debug, Default)]
struct Clock {
    /// The time that each runner of this class has had on a core since the beginning, in nanoseconds.
    now_ns: f64,
    ends: BinaryHeap<Reverse<(Nanoseconds, RunnerId)>>,
    running: usize,
}

#[derive(Debug)]
struct Runner<T> {
    class: Class,
    began_ns: f64,
    ends_ns: f64,
    owner: T,
}

/// A time, which is never NaN.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Nanoseconds(f64);

impl Eq for Nanoseconds {}

impl Ord for Nanoseconds {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl PartialOrd for Nanoseconds {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A hasher for ids. They count up, and nobody chooses them: multiplied, they are hash enough.
#[derive(Clone, Copy, Debug, Default)]
struct Hasher(u64);

impl std::hash::BuildHasher for Hasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl std::hash::Hasher for Hasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0 ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl<T> Cores<T> {
    pub(crate) fn new(cores: usize) -> Self {
        Self {
            cores: cores as f64,
            now_ns: 0.0,
            classes: Default::default(),
            runners: std::collections::HashMap::with_hasher(Hasher::default()),
            next: 0,
            used_ns: 0.0,
        }
    }

    /// Starts a runner that is to have a core for `work_ns`.
    pub(crate) fn start(&mut self, class: Class, work_ns: u64, owner: T) -> RunnerId {
        let id = RunnerId(self.next);
        self.next += 1;
        let clock = &mut self.classes[class as usize];
        clock.running += 1;
        let runner = Runner { class, began_ns: clock.now_ns, ends_ns: clock.now_ns + work_ns as f64, owner };
        clock.ends.push(Reverse((Nanoseconds(runner.ends_ns), id)));
        self.runners.insert(id, runner);
        id
    }

    /// Stops a runner before its end; returns the time that it had on a core, in nanoseconds.
    pub(crate) fn stop(&mut self, id: RunnerId) -> Option<f64> {
        let runner = self.runners.remove(&id)?;
        let clock = &mut self.classes[runner.class as usize];
        clock.running -= 1;
        Some((clock.now_ns - runner.began_ns).max(0.0))
    }

    /// Moves a runner into the foreground, because a request waits for it now.
    pub(crate) fn promote(&mut self, id: RunnerId) {
        self.move_to(Class::Foreground, id);
    }

    /// Moves a runner into the background, because no request waits for it any more.
    pub(crate) fn demote(&mut self, id: RunnerId) {
        self.move_to(Class::Background, id);
    }

    /// Moves a runner to another class. The time that it has had on a core, and the time that it still needs, stay.
    fn move_to(&mut self, class: Class, id: RunnerId) {
        let Some(runner) = self.runners.get_mut(&id).filter(|runner| runner.class != class) else { return };
        let (from_ns, to_ns) = (self.classes[runner.class as usize].now_ns, self.classes[class as usize].now_ns);
        self.classes[runner.class as usize].running -= 1;
        self.classes[class as usize].running += 1;
        runner.class = class;
        runner.ends_ns = to_ns + (runner.ends_ns - from_ns).max(0.0);
        runner.began_ns = to_ns - (from_ns - runner.began_ns);
        self.classes[class as usize].ends.push(Reverse((Nanoseconds(runner.ends_ns), id)));
    }

    /// The time that a runner still needs on a core, in nanoseconds.
    pub(crate) fn left_ns(&self, id: RunnerId) -> Option<f64> {
        let runner = self.runners.get(&id)?;
        Some((runner.ends_ns - self.classes[runner.class as usize].now_ns).max(0.0))
    }

    /// The time at which the next runner ends if no other comes, in nanoseconds.
    pub(crate) fn next_end_ns(&mut self) -> Option<u64> {
        let rates = self.rates();
        let mut next = f64::INFINITY;
        for (class, rate) in rates.into_iter().enumerate() {
            if let Some((ends_ns, _)) = self.head(class) {
                next = next.min(self.now_ns + (ends_ns - self.classes[class].now_ns).max(0.0) / rate);
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "times are small and positive")]
        next.is_finite().then_some(next.ceil() as u64)
    }

    /// Lets time go by until `now_ns`, which is not later than the next end.
    pub(crate) fn advance(&mut self, now_ns: u64) {
        let passed = (now_ns as f64 - self.now_ns).max(0.0);
        let rates = self.rates();
        for (clock, rate) in self.classes.iter_mut().zip(rates) {
            clock.now_ns += passed * rate;
            self.used_ns += passed * rate * clock.running as f64;
        }
        self.now_ns = now_ns as f64;
    }

    /// Takes out a runner that has ended: its owner and its id.
    pub(crate) fn pop_ended(&mut self) -> Option<(T, RunnerId)> {
        /// Rounding to whole nanoseconds, and of sums of many numbers.
        const TOLERANCE_NS: f64 = 0.5;
        for class in 0..WEIGHTS.len() {
            let Some((ends_ns, id)) = self.head(class) else { continue };
            if ends_ns <= self.classes[class].now_ns + TOLERANCE_NS {
                self.classes[class].ends.pop();
                self.classes[class].running -= 1;
                return self.runners.remove(&id).map(|runner| (runner.owner, id));
            }
        }
        None
    }

    /// The number of runners.
    pub(crate) fn busy(&self) -> usize {
        self.runners.len()
    }

    /// The time for which cores were used, all together, in nanoseconds.
    pub(crate) fn used_ns(&self) -> f64 {
        self.used_ns
    }

    /// The runner of a class that ends first, and its end on the clock of the class.
    fn head(&mut self, class: usize) -> Option<(f64, RunnerId)> {
        loop {
            let Reverse((ends_ns, id)) = *self.classes[class].ends.peek()?;
            // Runners that were stopped or moved are left in the heap until they come up; and one may have come back.
            match self.runners.get(&id) {
                Some(runner) if runner.class as usize == class && Nanoseconds(runner.ends_ns) == ends_ns => {
                    return Some((ends_ns.0, id));
                }
                _ => {
                    self.classes[class].ends.pop();
                }
            }
        }
    }

    /// The share of a core that each runner of a class has.
    fn rates(&self) -> [f64; 3] {
        let (mut cores, mut rates) = (self.cores, [0.0; 3]);
        for class in 0..WEIGHTS.len() {
            // Heavier classes have their share; those that are left share what is left.
            let weight: f64 = (class..WEIGHTS.len()).map(|at| self.classes[at].running as f64 * WEIGHTS[at]).sum();
            let share = cores / weight.max(f64::MIN_POSITIVE);
            if share * WEIGHTS[class] < 1.0 {
                // No runner that weighs less gets a whole core either.
                for at in class..WEIGHTS.len() {
                    rates[at] = share * WEIGHTS[at];
                }
                return rates;
            }
            rates[class] = 1.0;
            cores -= self.classes[class].running as f64;
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets all runners run to the end; returns each with the time at which it ended.
    fn run(cores: &mut Cores<&'static str>) -> Vec<(&'static str, u64)> {
        let mut ended = Vec::new();
        while let Some(now_ns) = cores.next_end_ns() {
            cores.advance(now_ns);
            while let Some((name, _)) = cores.pop_ended() {
                ended.push((name, now_ns));
            }
        }
        ended
    }

    #[test]
    fn who_has_a_core_runs_at_full_speed() {
        let mut cores = Cores::new(2);
        cores.start(Class::Foreground, 100, "a");
        cores.start(Class::Background, 300, "b");
        assert_eq!(run(&mut cores), [("a", 100), ("b", 300)]);
        assert!((cores.used_ns() - 400.0).abs() < 1.0);
    }

    #[test]
    fn too_many_share() {
        let mut cores = Cores::new(1);
        cores.start(Class::Foreground, 100, "a");
        cores.start(Class::Foreground, 200, "b");
        assert_eq!(run(&mut cores), [("a", 200), ("b", 300)]);
        assert!((cores.used_ns() - 300.0).abs() < 1.0, "a core was used twice");
    }

    #[test]
    fn the_background_stands_back() {
        let mut cores = Cores::new(1);
        cores.start(Class::Foreground, 1_000, "a");
        cores.start(Class::Background, 1_000, "b");
        assert_eq!(run(&mut cores), [("a", 1_003), ("b", 2_001)]);
        let mut cores = Cores::new(1);
        cores.start(Class::Foreground, 1_000, "a");
        cores.start(Class::Ahead, 1_000, "b");
        assert_eq!(run(&mut cores), [("a", 1_328), ("b", 2_001)]);
        // A runner that weighs little has a core of its own, if there is one.
        let mut cores = Cores::new(3);
        for (class, name) in [(Class::Foreground, "a"), (Class::Ahead, "b"), (Class::Background, "c")] {
            cores.start(class, 1_000, name);
        }
        assert_eq!(run(&mut cores).iter().map(|(_, ns)| *ns).max(), Some(1_000));
    }

    #[test]
    fn who_is_stopped_makes_room_and_has_used_its_share() {
        let mut cores = Cores::new(1);
        let a = cores.start(Class::Foreground, 1_000, "a");
        cores.start(Class::Foreground, 1_000, "b");
        cores.advance(100);
        assert_eq!(cores.stop(a), Some(50.0));
        assert_eq!(cores.stop(a), None);
        assert_eq!(run(&mut cores), [("b", 1_050)]);
    }

    #[test]
    fn who_is_waited_for_comes_to_the_front() {
        let mut cores = Cores::new(1);
        cores.start(Class::Foreground, 1_000, "a");
        let b = cores.start(Class::Background, 1_000, "b");
        cores.advance(500);
        cores.promote(b);
        assert!((cores.left_ns(b).unwrap() - 998.5).abs() < 1.0);
        let ended = run(&mut cores);
        assert_eq!((ended[0].0, ended[1].0), ("a", "b"));
        assert!(ended[1].1.abs_diff(2_000) <= 1, "{ended:?}");
    }

    #[test]
    fn who_is_not_waited_for_any_more_stands_back_and_may_come_to_the_front_again() {
        let mut cores = Cores::new(1);
        cores.start(Class::Foreground, 1_000, "a");
        let b = cores.start(Class::Foreground, 1_000, "b");
        cores.advance(1_000);
        cores.demote(b);
        assert_eq!(cores.left_ns(b), Some(500.0));
        let mut again = cores.start(Class::Foreground, 10, "c");
        assert_eq!(cores.stop(again), Some(0.0));
        let ended = run(&mut cores);
        assert_eq!((ended[0].0, ended[1].0), ("a", "b"));
        assert!(ended[0].1.abs_diff(1_501) <= 1 && ended[1].1.abs_diff(2_000) <= 1, "{ended:?}");
        // A runner that is moved back and forth does not end before its work is done.
        let mut cores = Cores::new(1);
        cores.start(Class::Foreground, 1_000, "a");
        again = cores.start(Class::Background, 1_000, "b");
        for now_ns in [100, 200, 300, 400] {
            cores.advance(now_ns);
            cores.promote(again);
            cores.advance(now_ns + 50);
            cores.demote(again);
        }
        let ended = run(&mut cores);
        assert!(ended[1].0 == "b" && ended[1].1.abs_diff(2_000) <= 1, "{ended:?}");
    }
}
