//! Within a request: which engine should join the race for the answer, and which should leave it.
//!
//! How long a request takes is its work times an engine's speed. The longer it has been running, the more work it must
//! be: of a request of which nothing was known, what has taken `t` will as likely as not take `t` again, and the share
//! of those that take ten times as long is a tenth (Lindy's law, a Pareto distribution with exponent 1). Of one that was
//! well known, overtime says less. So each engine's time is predicted under a common *multiple* of what was expected: a
//! usual one, and one of the tail.
//!
//! Cores that are idle are worth little: an engine is made ready, and run, as soon as it would win in the tail. Where no
//! core is idle, it must be clearly better in the usual case. And a racer that cannot win any more leaves.

use remuda_model::EngineId;

use crate::{Candidate, Prediction, Request, Scheduler, World};

/// A request that has not been answered yet.
#[derive(Clone, Copy, Debug)]
pub struct RaceView<'a> {
    /// The request, with its candidates as they are now.
    pub request: Request<'a>,
    /// Who is in the race.
    pub racers: &'a [Racer],
    /// Since the decision, in nanoseconds.
    pub elapsed_ns: u64,
}

/// An engine in the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Racer {
    /// Which one.
    pub engine: EngineId,
    /// Since when its guest has been running, on the clock of [`RaceView::elapsed_ns`]; `None` while it gets ready.
    pub running_since_ns: Option<u64>,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RaceStep {
    /// This engine joins: it is made ready, if it is not, and then runs.
    Start(EngineId),
    /// This engine cannot win any more, and its core is wanted.
    Stop(EngineId),
    /// Ask again after so many nanoseconds, or when something has happened.
    Wait {
        /// From now.
        ns: u64,
    },
    /// Nobody can beat who is racing.
    Settled,
}

/// How far into the tail an engine is made ready on an idle core, in multiples of the time that has passed.
const TAIL: f64 = 16.0;
/// How many standard deviations of what was expected the tail is away.
const TAIL_DEVIATIONS: f64 = 1.3;
/// Not more than this multiple of what was expected.
const TAIL_MAX: f64 = 200.0;
/// How much more work than is usual is counted on in choosing who joins.
const MIDDLE_MAX: f64 = 3.0;
/// How much better an engine must be, in the usual case, to join where no core is idle.
const DECISIVE: f64 = 2.0;
/// How wrong the rule about two engines' speeds may be for one of them to count as beaten.
const BEATEN_MARGIN: f64 = 1.3;
/// How long to wait before asking again.
const WAIT_NS: std::ops::RangeInclusive<u64> = 50_000..=20_000_000;

pub(crate) fn step(scheduler: &Scheduler, race: &RaceView<'_>, world: &World<'_>) -> RaceStep {
    // What joins now compiles on one core: the others are taken, or will be.
    let known = scheduler.known(race.request.candidates, world);
    let entries: Vec<Entry> = race
        .request
        .candidates
        .iter()
        .map(|candidate| {
            Entry::new(candidate, scheduler.profile.predict(candidate, race.request.input_bytes, 1, &known), race)
        })
        .collect();
    let multiples = Multiples::of(&entries);

    let racing = |x: f64| {
        entries.iter().filter(|entry| entry.is_racing).map(|entry| entry.finish_ns(x)).fold(f64::INFINITY, f64::min)
    };
    // Whether anybody should join is a question of the tail; who, one of the middle.
    let middle = (multiples.usual * multiples.tail).sqrt().min(multiples.usual * MIDDLE_MAX);
    let (racing_tail, racing_usual) = (racing(multiples.tail), racing(multiples.usual));
    let challenger = entries
        .iter()
        .filter(|entry| !entry.is_racing && entry.finish_ns(multiples.tail) < racing_tail)
        .min_by(|a, b| a.finish_ns(middle).total_cmp(&b.finish_ns(middle)));
    if let Some(challenger) = challenger {
        let is_idle = world.load.idle_cores() > 0;
        let is_decisive = challenger.finish_ns(multiples.usual) * DECISIVE < racing_usual;
        if world.load.may_waste && (is_idle || is_decisive) {
            return RaceStep::Start(challenger.engine);
        }
        if !is_idle && let Some(beaten) = beaten(&entries, &multiples) {
            return RaceStep::Stop(beaten);
        }
    }
    if world.load.waiting > 0
        && let Some(beaten) = beaten(&entries, &multiples)
    {
        return RaceStep::Stop(beaten);
    }
    if is_settled(&entries) {
        return RaceStep::Settled;
    }
    RaceStep::Wait { ns: (race.elapsed_ns / 4).clamp(*WAIT_NS.start(), *WAIT_NS.end()) }
}

struct Entry {
    engine: EngineId,
    prediction: Prediction,
    is_racing: bool,
    /// How long its guest has been running.
    running_ns: Option<f64>,
}

impl Entry {
    fn new(candidate: &Candidate, prediction: Prediction, race: &RaceView<'_>) -> Self {
        let racer = race.racers.iter().find(|racer| racer.engine == candidate.engine);
        let running_ns =
            racer.and_then(|racer| racer.running_since_ns).map(|since| race.elapsed_ns.saturating_sub(since) as f64);
        Self { engine: candidate.engine, prediction, is_racing: racer.is_some(), running_ns }
    }

    /// From now until it answers, in nanoseconds, if the request is `x` times the work that was expected.
    fn finish_ns(&self, x: f64) -> f64 {
        let execute_ns = self.execute_ns() * x;
        match self.running_ns {
            Some(running_ns) => (execute_ns - running_ns).max(0.0),
            None => self.prediction.before_execution_ns() + execute_ns,
        }
    }

    fn execute_ns(&self) -> f64 {
        self.prediction.execute_ns.max(1) as f64
    }
}

/// How much more work than expected a request may be, after what has been seen of it.
struct Multiples {
    /// It is at least this.
    least: f64,
    usual: f64,
    tail: f64,
}

impl Multiples {
    fn of(entries: &[Entry]) -> Self {
        let running = || entries.iter().filter_map(|entry| Some((entry, entry.running_ns?)));
        let outlived = running().map(|(entry, ns)| ns / entry.execute_ns()).fold(0.0, f64::max);
        let sigma = running().map(|(entry, _)| f64::from(entry.prediction.sigma)).fold(f64::INFINITY, f64::min);
        let sigma = if sigma.is_finite() { sigma } else { 1.0 };
        let expected_tail = (TAIL_DEVIATIONS * sigma).exp().min(TAIL_MAX);
        Self {
            least: outlived.max((-sigma).exp()),
            usual: (outlived * (1.0 + (0.7 * sigma).min(1.0))).max(1.0),
            tail: (outlived * (1.0 + TAIL * (sigma / 3.0).min(1.0))).max(expected_tail),
        }
    }
}

/// A running racer that another running one beats however much work is left.
fn beaten(entries: &[Entry], multiples: &Multiples) -> Option<EngineId> {
    let running = || entries.iter().filter(|entry| entry.running_ns.is_some());
    // Both finishes grow with the work in a straight line: what holds at the ends holds between them.
    let beats = |winner: &Entry, loser: &Entry| {
        [multiples.least, multiples.tail].iter().all(|x| winner.finish_ns(*x) * BEATEN_MARGIN < loser.finish_ns(*x))
    };
    running()
        .find(|loser| running().any(|winner| winner.engine != loser.engine && beats(winner, loser)))
        .map(|loser| loser.engine)
}

/// Whether no engine that is not racing is faster than the fastest that is, and there is nobody to stop.
fn is_settled(entries: &[Entry]) -> bool {
    let racing = || entries.iter().filter(|entry| entry.is_racing);
    let fastest = racing().map(Entry::execute_ns).fold(f64::INFINITY, f64::min);
    racing().count() <= 1 && entries.iter().all(|entry| entry.is_racing || entry.execute_ns() >= fastest)
}
