//! Within a request: which engine should join the race for the answer, and which should leave it.
//!
//! How long a request takes depends on its work and on the engine's speed. The longer it has been running, the more
//! work it must be: of requests of which nothing was known, one that has taken `t` will as likely as not take `t`
//! again, and a tenth of them take ten times as long (Lindy's law, a Pareto distribution with exponent 1). Of a request
//! that was well known, overtime says less. So each engine's time is predicted under a common *multiple* of the work
//! that was expected: a usual multiple, and one of the tail.
//!
//! Cores that are idle are worth little: an engine is made ready, and run, as soon as it would win in the tail. Where
//! no core is idle, it must be clearly better in the usual case. A racer that cannot win any more leaves: at once where
//! its core is wanted, and otherwise when there is little doubt. When nothing more may be wasted, only the best racer
//! stays; so what a race wastes has to be counted while it runs ([`WasteBudget`](crate::WasteBudget)).

use std::ops::RangeInclusive;

use remuda_model::EngineId;

use crate::tuning::{
    BEATEN_MARGIN, BEATEN_MARGIN_IDLE, DECISIVE, NEARLY_DONE, TAIL, TAIL_DEVIATIONS, TAIL_MAX, WAIT_NS,
};
use crate::{Candidate, Prediction, Request, Scheduler, World};

/// A request that has not been answered yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RaceView<'a> {
    /// The request, with its candidates as they are now.
    pub(crate) request: Request<'a>,
    /// The engines that are in the race.
    pub(crate) racers: &'a [Racer],
    /// The time since the decision, in nanoseconds.
    pub(crate) elapsed_ns: u64,
}

/// An engine in the race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Racer {
    /// The engine.
    pub(crate) engine: EngineId,
    /// The time since which its guest has been running, on the clock of [`RaceView::elapsed_ns`]; `None` while it gets
    /// ready.
    pub(crate) running_since_ns: Option<u64>,
}

/// The next step in a race.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RaceStep {
    /// The engine joins: it is made ready, if it is not, and then runs.
    Start(EngineId),
    /// The engine stops: it cannot win any more, or nothing more may be wasted.
    Stop(EngineId),
    /// Ask again after so many nanoseconds, or when something has happened.
    Wait {
        /// The time from now, in nanoseconds.
        ns: u64,
    },
    /// No engine can beat those that are racing.
    Settled,
}

pub(crate) fn step(scheduler: &Scheduler, race: &RaceView<'_>, world: &World<'_>) -> RaceStep {
    if !race.request.may_race {
        return RaceStep::Settled;
    }
    let entries = entries(scheduler, race, world);
    let multiples = Multiples::of(&entries);
    let racing = |x: f64| {
        entries.iter().filter(|entry| entry.is_racing).map(|entry| entry.finish_ns(x)).fold(f64::INFINITY, f64::min)
    };
    let (racing_usual, racing_tail) = (racing(multiples.usual), racing(multiples.tail));
    // The tail decides whether any engine should join, and the usual case decides which one: a better engine can still
    // join later, and loses little by that; whereas one that joins first is not there in time if the request turns out
    // to be shorter.
    let challenger = entries
        .iter()
        .filter(|entry| !entry.is_racing && entry.finish_ns(multiples.tail) < racing_tail)
        .min_by(|a, b| a.finish_ns(multiples.usual).total_cmp(&b.finish_ns(multiples.usual)));
    let idle = world.load.idle_cores() > 0;
    let mut is_core_wanted = world.load.waiting > 0;
    if let Some(challenger) = challenger {
        // Two racers on one core only slow each other down; but a racer that is getting nowhere may be joined all the
        // same.
        let is_decisive = race.racers.len() <= 1 && challenger.finish_ns(multiples.usual) * DECISIVE < racing_usual;
        if world.load.may_waste && (idle || is_decisive) {
            return RaceStep::Start(challenger.engine);
        }
        is_core_wanted |= !idle;
    }
    let loser = if is_core_wanted {
        beaten(&entries, multiples.least * NEARLY_DONE..=multiples.tail, BEATEN_MARGIN)
    } else {
        beaten(&entries, multiples.least..=multiples.tail, BEATEN_MARGIN_IDLE)
    };
    if let Some(loser) = loser.or_else(|| if world.load.may_waste { None } else { worst(&entries, &multiples) }) {
        return RaceStep::Stop(loser);
    }
    if is_settled(&entries) {
        return RaceStep::Settled;
    }
    RaceStep::Wait { ns: (race.elapsed_ns / 4).clamp(*WAIT_NS.start(), *WAIT_NS.end()) }
}

/// Whether an engine that has got ready for a race should run: whether there is still something to win for it if the
/// request is short, usual or long.
pub(crate) fn may_run(scheduler: &Scheduler, engine: EngineId, race: &RaceView<'_>, world: &World<'_>) -> bool {
    let entries = entries(scheduler, race, world);
    let multiples = Multiples::of(&entries);
    let Some(ready) = entries.iter().find(|entry| entry.engine == engine) else { return false };
    let others = || entries.iter().filter(|entry| entry.is_racing && entry.engine != engine);
    let wins = |x: f64| others().all(|other| ready.finish_ns(x) < other.finish_ns(x));
    wins(multiples.least) || wins(multiples.usual) || wins(multiples.tail)
}

/// Whether a racer that is getting ready would end before the only one that runs, if the request is long.
pub(crate) fn may_be_overtaken(scheduler: &Scheduler, race: &RaceView<'_>, world: &World<'_>) -> bool {
    if race.racers.iter().filter(|racer| racer.running_since_ns.is_some()).count() != 1 {
        return false;
    }
    let entries = entries(scheduler, race, world);
    let tail = Multiples::of(&entries).tail;
    let finish = |runs: bool| {
        let racing = entries.iter().filter(|entry| entry.is_racing && entry.running_ns.is_some() == runs);
        racing.map(|entry| entry.finish_ns(tail)).fold(f64::INFINITY, f64::min)
    };
    finish(false) < finish(true)
}

/// The racer that is expected to end first.
pub(crate) fn soonest(scheduler: &Scheduler, race: &RaceView<'_>, world: &World<'_>) -> Option<EngineId> {
    let entries = entries(scheduler, race, world);
    let usual = Multiples::of(&entries).usual;
    let racing = entries.iter().filter(|entry| entry.is_racing);
    racing.min_by(|a, b| a.finish_ns(usual).total_cmp(&b.finish_ns(usual))).map(|entry| entry.engine)
}

fn entries(scheduler: &Scheduler, race: &RaceView<'_>, world: &World<'_>) -> Vec<Entry> {
    let evidence = scheduler.evidence(race.request.candidates, world);
    // An engine that joins now compiles on one core: the others are taken, or will be.
    let observed = scheduler.profile.observed(race.request.input_bytes, &evidence);
    let predict =
        |candidate| scheduler.profile.predict_from(&observed, candidate, race.request.input_bytes, 1, &evidence);
    race.request.candidates.iter().map(|candidate| Entry::new(candidate, predict(candidate), race)).collect()
}

struct Entry {
    engine: EngineId,
    prediction: Prediction,
    is_racing: bool,
    /// How long its guest has been running, in nanoseconds; `None` if it does not run.
    running_ns: Option<f64>,
}

impl Entry {
    fn new(candidate: &Candidate, prediction: Prediction, race: &RaceView<'_>) -> Self {
        let racer = race.racers.iter().find(|racer| racer.engine == candidate.engine);
        let running_ns =
            racer.and_then(|racer| racer.running_since_ns).map(|since| race.elapsed_ns.saturating_sub(since) as f64);
        Self { engine: candidate.engine, prediction, is_racing: racer.is_some(), running_ns }
    }

    /// The time from now to the answer, in nanoseconds, if the request is `x` times the work that was expected.
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

/// How many times the expected work a request may be, after what has been seen of it.
struct Multiples {
    /// The least multiple that is still possible.
    least: f64,
    usual: f64,
    tail: f64,
}

impl Multiples {
    fn of(entries: &[Entry]) -> Self {
        let running = || entries.iter().filter_map(|entry| Some((entry, entry.running_ns?)));
        let outlived = running().map(|(entry, ns)| ns / entry.execute_ns()).fold(0.0, f64::max);
        let racing = entries.iter().filter(|entry| entry.is_racing);
        let sigma = racing.map(|entry| f64::from(entry.prediction.sigma)).fold(f64::INFINITY, f64::min);
        let sigma = if sigma.is_finite() { sigma } else { 1.0 };
        // A request that has outlived every expectation was misjudged: it is at most two standard deviations away.
        let sigma = sigma.max(outlived.max(1.0).ln() / 2.0);
        let expected_tail = (TAIL_DEVIATIONS * sigma).exp().min(TAIL_MAX);
        Self {
            least: outlived.max((-sigma).exp()),
            usual: (outlived * (1.0 + (0.7 * sigma).min(1.0))).max(1.0),
            tail: (outlived * (1.0 + TAIL * (sigma / 3.0).min(1.0))).max(expected_tail),
        }
    }
}

/// A running racer that another running racer beats for all these multiples, by a factor of `margin`.
fn beaten(entries: &[Entry], multiples: RangeInclusive<f64>, margin: f64) -> Option<EngineId> {
    let running = || entries.iter().filter(|entry| entry.running_ns.is_some());
    // Both finish times grow with the work in a straight line: what holds at the ends holds between them.
    let beats = |winner: &Entry, loser: &Entry| {
        [multiples.start(), multiples.end()].iter().all(|x| winner.finish_ns(**x) * margin < loser.finish_ns(**x))
    };
    running()
        .find(|loser| running().any(|winner| winner.engine != loser.engine && beats(winner, loser)))
        .map(|loser| loser.engine)
}

/// Of several running racers, the one that is expected to end last.
fn worst(entries: &[Entry], multiples: &Multiples) -> Option<EngineId> {
    let running = || entries.iter().filter(|entry| entry.running_ns.is_some());
    let last = running().max_by(|a, b| a.finish_ns(multiples.usual).total_cmp(&b.finish_ns(multiples.usual)))?;
    (running().count() > 1).then_some(last.engine)
}

/// Whether no engine outside the race is faster than the fastest in it, and there is nobody to stop.
fn is_settled(entries: &[Entry]) -> bool {
    let racing = || entries.iter().filter(|entry| entry.is_racing);
    let fastest = racing().map(Entry::execute_ns).fold(f64::INFINITY, f64::min);
    racing().count() <= 1 && entries.iter().all(|entry| entry.is_racing || entry.execute_ns() >= fastest)
}

#[cfg(test)]
mod tests {
    use remuda_model::ArtifactState;

    use super::*;
    use crate::Policy;
    use crate::testing::{BASELINE, Case, INTERPRETER, MS, OPTIMIZING};

    /// How long each engine takes to get ready and to run a request that takes an interpreter `interpreted_ns`.
    fn truth(interpreted_ns: u64) -> [(EngineId, u64, u64); 3] {
        [
            (INTERPRETER, MS / 3, interpreted_ns),
            (BASELINE, 25 * MS, interpreted_ns / 4),
            (OPTIMIZING, 81 * MS, interpreted_ns / 10),
        ]
    }

    #[test]
    fn a_long_request_of_an_unknown_function_is_raced_by_better_and_better_engines() {
        for (cores, stopped) in [(2, true), (4, false)] {
            let race = Case::new(Policy::Hedged, cores).race(&truth(20_000 * MS));
            assert_eq!(race.first, INTERPRETER, "{cores} cores");
            assert_eq!(race.joiners(), [BASELINE, OPTIMIZING], "{cores} cores: {race:?}");
            let (_, baseline_ns) = race.joined[0];
            assert!(baseline_ns < 25 * MS / 5, "{cores} cores: the baseline compiler began after {baseline_ns}");
            let (_, optimizing_ns) = race.joined[1];
            if stopped {
                assert_eq!(race.stopped[0].0, INTERPRETER, "{race:?}");
                assert!(optimizing_ns >= race.stopped[0].1, "it takes the core of who was beaten: {race:?}");
            } else {
                assert!(optimizing_ns < 81 * MS * 2 / 3, "there was a core for it: {race:?}");
            }
            let (winner, total_ns) = race.answer.unwrap();
            assert_eq!(winner, OPTIMIZING, "{cores} cores");
            assert!(total_ns < (2_000 + 81) * MS * 5 / 4, "{cores} cores: {race:?}");
        }
    }

    #[test]
    fn a_short_request_is_never_raced() {
        for interpreted_ns in [1_000, 10_000, 100_000, MS / 5] {
            let race = Case::new(Policy::Hedged, 4).race(&truth(interpreted_ns));
            assert_eq!((race.first, race.joiners()), (INTERPRETER, vec![]), "{interpreted_ns}");
        }
        // A request that is known to be short on a ready engine is not raced either.
        let mut case = Case::new(Policy::Hedged, 4);
        case.ready(&[BASELINE]);
        for _ in 0..5 {
            case.observe(BASELINE, 2 * MS);
        }
        let race = case.race(&[(BASELINE, 0, 2 * MS), (OPTIMIZING, 81 * MS, MS), (INTERPRETER, MS, 9 * MS)]);
        assert_eq!((race.first, race.joiners()), (BASELINE, vec![]));
    }

    #[test]
    fn without_an_idle_core_only_what_is_clearly_better_joins() {
        let mut case = Case::new(Policy::Hedged, 2);
        case.load.busy = 2;
        case.ready(&[INTERPRETER]);
        case.observe(INTERPRETER, 20 * MS);
        // The request was thought to take 20 ms and takes 20 s.
        let race = case.race(&truth(20_000 * MS));
        assert_eq!(race.first, INTERPRETER);
        assert!(race.joined.iter().all(|(_, ns)| *ns > 60 * MS), "{race:?}");
        assert_ne!(race.answer.unwrap().0, INTERPRETER, "{race:?}");
        // A request that ends not much later than it should is not raced.
        let mut case = Case::new(Policy::Hedged, 2);
        case.load.busy = 2;
        case.ready(&[INTERPRETER]);
        case.observe(INTERPRETER, 20 * MS);
        assert_eq!(case.race(&truth(35 * MS)).joiners(), []);
    }

    #[test]
    fn nothing_is_raced_where_nothing_may_be_wasted_or_run_twice() {
        type Change = fn(&mut Case);
        let cases: [(&str, Policy, Change); 3] = [
            ("no budget", Policy::Hedged, |case| case.load.may_waste = false),
            ("side effects", Policy::Hedged, |case| case.may_race = false),
            ("another policy", Policy::Adaptive, |_| ()),
        ];
        for (name, policy, change) in cases {
            let mut case = Case::new(policy, 4);
            change(&mut case);
            assert_eq!(case.decide().look_again_after_ns, None, "{name}");
            assert_eq!(case.race(&truth(60_000 * MS)).joiners(), [], "{name}");
        }
    }

    /// The next step for two racers that have run for `elapsed_ns`; the first was expected to take 100 ms, and the
    /// other a tenth.
    fn running(case: &mut Case, elapsed_ns: u64) -> RaceStep {
        case.ready(&[INTERPRETER, OPTIMIZING]);
        for _ in 0..10 {
            case.observe(INTERPRETER, 100 * MS);
            case.observe(OPTIMIZING, 10 * MS);
        }
        let racers = [INTERPRETER, OPTIMIZING].map(|engine| Racer { engine, running_since_ns: Some(0) });
        case.candidates.retain(|candidate| candidate.engine != BASELINE);
        let view = RaceView { request: case.request(), racers: &racers, elapsed_ns };
        step(&case.scheduler, &view, &case.world())
    }

    #[test]
    fn who_cannot_win_any_more_leaves_even_if_its_core_is_not_wanted() {
        let mut case = Case::new(Policy::Hedged, 8);
        case.load.busy = 2;
        assert_eq!(running(&mut case, MS), RaceStep::Stop(INTERPRETER));
    }

    #[test]
    fn when_the_budget_is_used_up_one_stays() {
        let mut case = Case::new(Policy::Hedged, 8);
        case.load.may_waste = false;
        assert_eq!(running(&mut case, MS), RaceStep::Stop(INTERPRETER));
        let mut case = Case::new(Policy::Hedged, 8);
        case.load.may_waste = false;
        // Where nothing is known, either of the two may be the last to end.
        case.ready(&[INTERPRETER, BASELINE]);
        let racers = [INTERPRETER, BASELINE].map(|engine| Racer { engine, running_since_ns: Some(0) });
        let view = RaceView { request: case.request(), racers: &racers, elapsed_ns: MS };
        assert_eq!(step(&case.scheduler, &view, &case.world()), RaceStep::Stop(INTERPRETER));
        let view = RaceView { racers: &racers[1..], ..view };
        assert!(matches!(step(&case.scheduler, &view, &case.world()), RaceStep::Wait { .. }), "one has to stay");
    }

    #[test]
    fn who_is_ready_first_runs_and_who_comes_too_late_does_not() {
        let mut case = Case::new(Policy::Hedged, 8);
        case.ready(&[INTERPRETER]);
        for engine in [BASELINE, OPTIMIZING] {
            case.candidate(engine).making_since_ns = Some(case.now_ns);
        }
        case.now_ns += MS;
        let racers = [INTERPRETER, BASELINE, OPTIMIZING].map(|engine| Racer { engine, running_since_ns: None });
        let view = RaceView { request: case.request(), racers: &racers, elapsed_ns: MS };
        assert!(may_run(&case.scheduler, INTERPRETER, &view, &case.world()), "nobody else runs yet");

        let mut case = Case::new(Policy::Hedged, 8);
        case.ready(&[BASELINE, OPTIMIZING]);
        for _ in 0..10 {
            case.observe(BASELINE, 100 * MS);
            case.observe(OPTIMIZING, 60 * MS);
        }
        for (elapsed_ns, expected) in [(10 * MS, true), (90 * MS, false)] {
            let racers = [
                Racer { engine: BASELINE, running_since_ns: Some(0) },
                Racer { engine: OPTIMIZING, running_since_ns: None },
            ];
            let view = RaceView { request: case.request(), racers: &racers, elapsed_ns };
            let may_run = super::may_run(&case.scheduler, OPTIMIZING, &view, &case.world());
            assert_eq!(may_run, expected, "after {elapsed_ns}");
        }
        assert_eq!(case.candidate(INTERPRETER).artifact, ArtifactState::Absent);
    }
}
