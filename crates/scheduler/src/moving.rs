//! Moving a request while it runs: which code is made for its guest to go on in, and when.
//!
//! A guest that takes long on an interpreter can go on in compiled code from where it is, if there is any for that
//! place (a *part* of its module, docs/moving.md). Two compilers make parts: the one that is done *first*, and the
//! *best* one, which may be the same.
//!
//! - The whole module is made early on by the first compiler, with what cores have left, so that the guest has
//!   somewhere to go wherever it is ([`Job::Whole`]).
//! - Meanwhile, a guest that is still where it began gets a part for the place where it is just then ([`Job::First`]).
//! - When the guest has been in code of the first compiler for a while, the best one makes a part for the place
//!   ([`Job::Better`]).
//!
//! A move does nothing twice, so it is tried before any engine races: an engine that joined a race would have to do all
//! that the guest has done. As long as the guest can move, no engine joins. A guest that cannot move, or that stays
//! where it began in spite of all this, is raced as usual.
//!
//! Like a [`Flight`](crate::flight::Flight), [`Moving`] is a state machine and nothing else: it is told what has come
//! of a job, and where the guest has been, and says what to do. The host drives it with threads, the simulator with its
//! heap of events. Times count from the beginning of the request.

use std::time::Duration;

use remuda_model::{EngineId, Tier};

use crate::calibration::{EngineCalibration, PartCosts};
use crate::tuning::{
    MOVING_BEST_AGAIN, MOVING_BETTER_PER_STAY, MOVING_BUSY_MIN, MOVING_HOME_MIN, MOVING_IN_VAIN_MAX, MOVING_LOOK,
    MOVING_PASSED_MAX, MOVING_SETTLE_MAX, MOVING_SHARE_MIN, MOVING_TRIES_BESIDE_WHOLE, MOVING_TRIES_FREE,
    MOVING_TRIES_MAX, MOVING_WHOLE_MIN, MOVING_WHOLE_SHARE_MIN,
};
use crate::{Calibration, Load};

/// The moves of one request.
#[derive(Clone, Debug)]
pub struct Moving {
    whole: Whole,
    /// The jobs that are under way, except the whole module.
    under_way: Vec<Job>,
    /// How many parts were offered or tried in vain, the whole module not counted.
    tried: usize,
    /// How often the guest had left a place a moment later.
    passed: usize,
    /// How often in a row the search for a place was in vain for a guest that is where it began.
    first_in_vain: usize,
    /// How long the request had taken when it was last in vain to look for a place for the best compiler.
    best_in_vain: Duration,
    /// The time since which the guest has had somewhere to go.
    offered_since: Option<Duration>,
    /// The guest's whereabouts at the last look.
    looked: Look,
    /// The guest's whereabouts when it was last offered something.
    offered: Look,
    /// Whether the guest does not move any more.
    is_over: bool,
}

/// How far the whole module has got as a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// Nobody has begun to make the part.
    NotBegun,
    /// The part is being made.
    Coming {
        /// Whether there is nothing else to do until it is ready.
        is_waited_for: bool,
    },
    /// The guest can go on in it.
    Offered,
    /// There is no such part, and there will be none.
    Missing,
}

/// A guest's whereabouts at a time.
#[derive(Clone, Copy, Debug, Default)]
struct Look {
    at: Duration,
    sight: Sight,
}

/// A guest's whereabouts until now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// How long the guest was in parts.
    pub in_any: Duration,
    /// How much of that time it was in parts of the best compiler.
    pub in_best: Duration,
    /// For how long the guest has been in its present part without a break, if that is a part of the best compiler.
    pub best_since: Option<Duration>,
}

impl Sight {
    /// How long the guest was in parts of the compiler that is done first.
    fn in_first(&self) -> Duration {
        self.in_any.saturating_sub(self.in_best)
    }
}

/// A part that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Job {
    /// A part of the hot code, for a guest that is where it began.
    First,
    /// A part by the best compiler, for a guest that is in a part of the other compiler.
    Better,
    /// A part that has the whole module, by the compiler that is done first, with what cores have left.
    Whole,
}

/// The next step for a request whose guest could move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Have a part made, and tell [`Moving::done`] what has come of it.
    Make(Job),
    /// Leave the request alone for a while.
    Wait(Duration),
    /// Race the request.
    Race,
}

/// The result of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Made {
    /// The guest was offered a part.
    Offered,
    /// The guest will soon come to a point for which it was offered a part before, or is in a part.
    AboutToLeave,
    /// The whole module, which is being made, will serve the guest better.
    WaitsForWhole,
    /// The guest has left the place at which it was a moment ago.
    Passing,
    /// The guest comes to no point, or nobody had the time to look.
    InVain,
    /// There is no part for the place where the guest is.
    Refused,
}

impl Moving {
    /// The moves of a guest that has not begun. `is_offered` says whether earlier guests of its function have left
    /// something to go on in; `has_whole`, whether that is so for every place in the module; `can_be_whole`, whether
    /// the whole module can be made.
    #[must_use]
    pub fn new(is_offered: bool, has_whole: bool, can_be_whole: bool) -> Self {
        Self {
            whole: match (has_whole, can_be_whole) {
                (true, _) => Whole::Offered,
                (false, true) => Whole::NotBegun,
                (false, false) => Whole::Missing,
            },
            under_way: Vec::new(),
            tried: 0,
            passed: 0,
            first_in_vain: 0,
            best_in_vain: Duration::ZERO,
            offered_since: (is_offered || has_whole).then_some(Duration::ZERO),
            looked: Look::default(),
            offered: Look::default(),
            is_over: false,
        }
    }

    /// Says what to do now.
    pub fn next(&mut self, now: Duration, sight: Sight, load: &Load) -> Step {
        if self.is_over {
            return Step::Race;
        }
        // The longer the request takes, the less it matters when it is looked at.
        let wait = Step::Wait((now / 16).clamp(*MOVING_LOOK.start(), *MOVING_LOOK.end()));
        // A compiler that works for this request takes nothing from another one.
        let has_idle_core = load.busy.saturating_sub(self.under_way.len()) < load.cores;
        if !has_idle_core && now < MOVING_BUSY_MIN {
            return wait;
        }
        if self.whole == Whole::NotBegun && has_idle_core && now >= MOVING_WHOLE_MIN {
            self.whole = Whole::Coming { is_waited_for: false };
            return Step::Make(Job::Whole);
        }
        if self.offered_since.is_none() {
            return self.next_at_home(now, sight).unwrap_or(wait);
        }
        let then = self.looked;
        let passed = now.saturating_sub(then.at);
        if passed < MOVING_HOME_MIN {
            return wait;
        }
        self.looked = Look { at: now, sight };
        let share = |now: Duration, then: Duration| now.saturating_sub(then).div_duration_f64(passed);
        let is_settled = sight.best_since.is_some_and(|since| since >= MOVING_HOME_MIN / 2);
        if is_settled || share(sight.in_best, then.sight.in_best) > 1.0 - MOVING_SHARE_MIN {
            return wait;
        }
        if share(sight.in_any, then.sight.in_any) < 1.0 - MOVING_SHARE_MIN {
            return self.next_at_home(now, sight).unwrap_or(wait);
        }
        if self.under_way.is_empty()
            && self.tried < MOVING_TRIES_MAX
            && now >= self.best_in_vain.mul_f64(MOVING_BEST_AGAIN)
        {
            return self.begin(Job::Better);
        }
        wait
    }

    /// The next step for a guest that is where it began, or mostly so; `None` if something is being done already.
    fn next_at_home(&mut self, now: Duration, sight: Sight) -> Option<Step> {
        if self.under_way.contains(&Job::First) || self.whole == (Whole::Coming { is_waited_for: true }) {
            return None;
        }
        let tries_free = if self.whole == Whole::NotBegun { MOVING_TRIES_FREE } else { MOVING_TRIES_BESIDE_WHOLE };
        // Half of the time in which it could be away.
        let is_mostly_away = self.offered_since.is_some_and(|since| 2 * sight.in_any >= now.saturating_sub(since));
        let is_of_use = (self.tried < tries_free || is_mostly_away) && self.first_in_vain < MOVING_IN_VAIN_MAX;
        if is_of_use && self.tried < MOVING_TRIES_MAX {
            return Some(self.begin(Job::First));
        }
        let will_whole_come = match self.whole {
            Whole::NotBegun => now < MOVING_WHOLE_MIN,
            Whole::Coming { .. } => true,
            // The whole module is there, but the guest is not in it yet, or never will be.
            Whole::Offered => now.saturating_sub(self.offered.at) < MOVING_SETTLE_MAX,
            Whole::Missing => false,
        };
        if will_whole_come || !self.under_way.is_empty() || is_mostly_away {
            return None;
        }
        self.is_over = true;
        Some(Step::Race)
    }

    /// How far the whole module is.
    #[must_use]
    pub fn whole(&self) -> Whole {
        self.whole
    }

    /// Whether a part is only made for a place at which the guest still is [a moment](crate::tuning::MOVING_CONFIRM)
    /// later; if it is not, the job is [`Made::Passing`].
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.passed < MOVING_PASSED_MAX
    }

    fn begin(&mut self, job: Job) -> Step {
        self.under_way.push(job);
        Step::Make(job)
    }

    /// Takes note of what has come of a job.
    pub fn done(&mut self, job: Job, made: Made, now: Duration, sight: Sight) {
        self.under_way.retain(|under_way| *under_way != job);
        let is_offered = made == Made::Offered;
        let is_in_vain = matches!(made, Made::InVain | Made::Refused);
        if let Whole::Coming { is_waited_for } = &mut self.whole {
            *is_waited_for |= made == Made::WaitsForWhole;
        }
        match job {
            // Where one part is too large, others will be, and there will be no other whole either.
            Job::First if made == Made::Refused && matches!(self.whole, Whole::Missing | Whole::Offered) => {
                self.first_in_vain = MOVING_IN_VAIN_MAX;
            }
            // A guest that is about to leave again and again does not leave.
            Job::First if is_in_vain || made == Made::AboutToLeave => self.first_in_vain += 1,
            Job::First => self.first_in_vain = 0,
            Job::Better if !is_offered => self.best_in_vain = now,
            Job::Better => {}
            Job::Whole => self.whole = if is_offered { Whole::Offered } else { Whole::Missing },
        }
        self.tried += usize::from(job != Job::Whole && (is_offered || is_in_vain));
        self.passed += usize::from(made == Made::Passing);
        if is_offered {
            self.offered_since.get_or_insert(now);
            // Where the guest has been until now says nothing of where it will be.
            self.looked = Look { at: now, sight };
            self.offered = self.looked;
        }
    }

    /// How long the guest has been in parts of the first compiler since it was last offered something.
    #[must_use]
    pub fn stayed_in_first(&self, sight: &Sight) -> Duration {
        sight.in_first().saturating_sub(self.offered.sight.in_first())
    }
}

/// The compiler that makes the part for a guest that is where it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The compiler that is done first.
    First,
    /// The compiler with the best code.
    Best,
    /// No compiler: the whole module will be there soon enough.
    WaitForWhole,
    /// No compiler: the part would be too much for what may be only a moment, and a race gains more.
    Nobody,
}

/// The costs of the two compilers of parts, and the worth of their code.
#[derive(Clone, Copy, Debug)]
pub struct Makers {
    first: PartCosts,
    best: PartCosts,
    /// How many times as long as in the best compiler's code something takes where guests begin.
    home_slowdown: f64,
    /// How many times as long as in the best compiler's code something takes in the first compiler's code.
    first_slowdown: f64,
}

impl Makers {
    /// The compilers for guests that begin on `home`.
    #[must_use]
    pub fn of(
        calibration: &Calibration,
        home: (EngineId, Tier),
        first: (EngineId, Tier),
        best: (EngineId, Tier),
    ) -> Self {
        let cost = |(engine, tier)| calibration.engine(engine, tier);
        let parts = |(engine, tier)| cost((engine, tier)).parts.unwrap_or_else(|| PartCosts::shipped(tier));
        let slowdown = |of: EngineCalibration| (of.slowdown / cost(best).slowdown).max(1.0);
        Self {
            first: parts(first),
            best: parts(best),
            home_slowdown: slowdown(cost(home)),
            first_slowdown: slowdown(cost(first)),
        }
    }

    /// The compiler that makes a part of `part_bytes` of code, in a module of `module_bytes`, for a guest that is where
    /// it began.
    #[must_use]
    pub fn for_first(&self, part_bytes: u64, module_bytes: u64, whole: Whole) -> Maker {
        if self.is_best_at_once(part_bytes) {
            return Maker::Best;
        }
        let share = part_bytes as f64 / module_bytes.max(1) as f64;
        match whole {
            Whole::Coming { .. } if share > MOVING_WHOLE_SHARE_MIN => Maker::WaitForWhole,
            Whole::NotBegun | Whole::Coming { .. } => Maker::First,
            Whole::Offered | Whole::Missing => Maker::Nobody,
        }
    }

    /// Whether a guest that stays where it is loses less by waiting in slow code for the best compiler than by going on
    /// meanwhile in the other compiler's code, where the best compiler only begins once that code is made.
    fn is_best_at_once(&self, part_bytes: u64) -> bool {
        let (first_ns, best_ns) = (self.first.compile_ns(part_bytes), self.best.compile_ns(part_bytes));
        // The share of its time that a guest loses in code that is so much slower.
        let lost = |slowdown: f64| 1.0 - 1.0 / slowdown;
        let (at_home, in_first) = (lost(self.home_slowdown), lost(self.first_slowdown));
        best_ns * at_home < first_ns * at_home + best_ns * in_first
    }

    /// Whether the best compiler makes a part of `part_bytes` of code for a guest that has been in the other compiler's
    /// code for the time `stayed`.
    #[must_use]
    pub fn is_worth_better(&self, part_bytes: u64, stayed: Duration) -> bool {
        let compile_ns = self.best.ns_per_code_byte * part_bytes as f64;
        self.is_best_at_once(part_bytes) || compile_ns <= stayed.as_nanos() as f64 * MOVING_BETTER_PER_STAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::EngineCalibration;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A guest that has been in parts for these times.
    fn sight(in_first: Duration, in_best: Duration) -> Sight {
        Sight { in_any: in_first + in_best, in_best, best_since: None }
    }

    const HOME: Sight = Sight { in_any: Duration::ZERO, in_best: Duration::ZERO, best_since: None };

    /// Two cores, of which one is idle.
    fn idle() -> Load {
        Load::idle(2)
    }

    fn busy() -> Load {
        Load { busy: 2, ..idle() }
    }

    /// A guest of a module that no part can have as a whole.
    fn without_whole() -> Moving {
        Moving::new(false, false, false)
    }

    #[test]
    fn a_guest_gets_code_for_where_it_is_and_then_better_code() {
        let mut moving = Moving::new(false, false, true);
        assert_eq!(moving.next(us(500), HOME, &idle()), Step::Make(Job::First));
        // The request's own compiler takes the other core from nobody.
        assert_eq!(moving.next(us(750), HOME, &busy()), Step::Wait(us(250)));
        assert_eq!(moving.next(ms(3), HOME, &busy()), Step::Make(Job::Whole));
        moving.done(Job::First, Made::Offered, ms(4), HOME);
        assert_eq!(moving.next(us(4_400), sight(us(300), us(0)), &idle()), Step::Wait(us(275)));
        // The guest was in the other compiler's code for most of the time: that code is to be better.
        assert_eq!(moving.next(us(4_600), sight(us(550), us(0)), &idle()), Step::Make(Job::Better));
        assert_eq!(moving.stayed_in_first(&sight(us(900), us(0))), us(900));
        moving.done(Job::Better, Made::Offered, ms(7), sight(ms(3), us(0)));
        assert_eq!(moving.next(ms(8), sight(ms(3), ms(1)), &idle()), Step::Wait(us(500)));
        assert_eq!(moving.stayed_in_first(&sight(ms(3), ms(1))), Duration::ZERO);
    }

    #[test]
    fn a_guest_that_is_in_the_best_code_is_left_alone_even_if_it_has_just_come() {
        let mut moving = without_whole();
        assert_eq!(moving.next(ms(1), HOME, &idle()), Step::Make(Job::First));
        moving.done(Job::First, Made::Offered, ms(3), HOME);
        let settled = Sight { best_since: Some(us(300)), ..sight(us(0), us(300)) };
        assert_eq!(moving.next(ms(4), settled, &idle()), Step::Wait(us(250)));
        let passing = Sight { best_since: Some(us(10)), ..sight(us(0), us(310)) };
        assert_eq!(moving.next(ms(5), passing, &idle()), Step::Make(Job::First));
    }

    #[test]
    fn on_a_busy_host_only_long_requests_are_helped_and_have_no_whole_module_made() {
        let mut moving = Moving::new(false, false, true);
        assert_eq!(moving.next(us(9_999), HOME, &busy()), Step::Wait(us(9_999) / 16));
        assert_eq!(moving.next(ms(10), HOME, &busy()), Step::Make(Job::First));
        let alone = Load { cores: 1, ..idle() };
        let mut moving = Moving::new(false, false, true);
        assert_eq!(moving.next(us(9_999), HOME, &alone), Step::Wait(us(9_999) / 16));
        assert_eq!(moving.next(ms(10), HOME, &alone), Step::Make(Job::First));
    }

    #[test]
    fn no_part_is_made_for_places_that_a_guest_passes_but_not_for_ever() {
        let mut moving = without_whole();
        for passed in 0..MOVING_PASSED_MAX as u64 {
            assert!(moving.is_confirmed(), "{passed}");
            assert_eq!(moving.next(ms(1 + passed), HOME, &idle()), Step::Make(Job::First));
            moving.done(Job::First, Made::Passing, ms(1 + passed), HOME);
        }
        assert!(!moving.is_confirmed(), "it passes everything");
        assert_eq!(moving.next(ms(100), HOME, &idle()), Step::Make(Job::First), "these were no tries");
    }

    #[test]
    fn a_guest_that_comes_to_no_point_is_raced_after_two_looks() {
        let mut moving = without_whole();
        for at in [1, 4] {
            assert_eq!(moving.next(ms(at), HOME, &idle()), Step::Make(Job::First));
            moving.done(Job::First, Made::InVain, ms(at + 2), HOME);
        }
        assert_eq!(moving.next(ms(10), HOME, &idle()), Step::Race);
        assert_eq!(moving.next(ms(11), sight(ms(1), us(0)), &idle()), Step::Race, "and it is not asked again");
    }

    #[test]
    fn where_a_part_is_too_much_and_there_is_no_whole_the_guest_is_raced_at_once() {
        let refused = |can_be_whole| {
            let mut moving = Moving::new(false, false, can_be_whole);
            assert_eq!(moving.next(ms(1), HOME, &idle()), Step::Make(Job::First));
            moving.done(Job::First, Made::Refused, ms(2), HOME);
            moving.next(ms(2), HOME, &idle())
        };
        assert_eq!(refused(false), Step::Race);
        assert_eq!(refused(true), Step::Make(Job::First), "somewhere else there may be one");
    }

    #[test]
    fn a_guest_that_is_always_about_to_leave_and_never_does_is_raced() {
        let mut moving = Moving::new(false, false, true);
        assert_eq!(moving.next(ms(3), HOME, &idle()), Step::Make(Job::Whole));
        moving.done(Job::Whole, Made::Offered, ms(20), HOME);
        for at in [21, 22, 23] {
            assert_eq!(moving.next(ms(at), HOME, &idle()), Step::Make(Job::First));
            moving.done(Job::First, Made::AboutToLeave, ms(at), HOME);
        }
        assert!(matches!(moving.next(ms(24), HOME, &idle()), Step::Wait(_)), "it may take its time");
        assert_eq!(moving.next(ms(30), HOME, &idle()), Step::Race);
    }

    #[test]
    fn a_guest_that_parts_do_not_help_is_raced() {
        let mut moving = without_whole();
        let mut at = ms(1);
        for _ in 0..MOVING_TRIES_BESIDE_WHOLE {
            assert_eq!(moving.next(at, HOME, &idle()), Step::Make(Job::First), "{at:?}");
            moving.done(Job::First, Made::Offered, at + ms(2), HOME);
            at += ms(3);
        }
        assert_eq!(moving.next(at, HOME, &idle()), Step::Race);
        // A guest that is away for half of the time gets more tries.
        let mut moving = without_whole();
        let (mut at, mut away) = (ms(1), us(0));
        for _ in 0..MOVING_TRIES_MAX {
            assert_eq!(moving.next(at, sight(away, us(0)), &idle()), Step::Make(Job::First), "{at:?}");
            moving.done(Job::First, Made::Offered, at + ms(2), sight(away + ms(2), us(0)));
            (at, away) = (at + ms(3), away + ms(2));
        }
        assert!(matches!(moving.next(at, sight(away, us(0)), &idle()), Step::Wait(_)), "there is an end to it");
    }

    #[test]
    fn who_waits_for_the_whole_module_has_no_other_part_made() {
        let mut moving = Moving::new(false, false, true);
        assert_eq!(moving.next(ms(3), HOME, &idle()), Step::Make(Job::Whole));
        assert_eq!(moving.next(ms(3), HOME, &idle()), Step::Make(Job::First));
        moving.done(Job::First, Made::WaitsForWhole, ms(4), HOME);
        assert!(matches!(moving.next(ms(9), HOME, &idle()), Step::Wait(_)));
        moving.done(Job::Whole, Made::Offered, ms(20), HOME);
        assert!(matches!(moving.next(ms(20), HOME, &idle()), Step::Wait(_)));
        assert_eq!(moving.next(ms(21), sight(ms(1), us(0)), &idle()), Step::Make(Job::Better));
    }

    #[test]
    fn a_guest_goes_on_in_what_there_is() {
        let mut moving = Moving::new(true, false, true);
        assert!(matches!(moving.next(us(400), HOME, &idle()), Step::Wait(_)), "it has not had the time to");
        assert_eq!(moving.next(ms(1), sight(us(900), us(0)), &idle()), Step::Make(Job::Better));
        let mut moving = Moving::new(true, true, true);
        assert_eq!(moving.next(ms(5), sight(us(0), ms(4)), &idle()), Step::Wait(us(312) + Duration::from_nanos(500)));
    }

    #[test]
    fn in_vain_for_better_code_is_asked_again_when_the_request_has_taken_a_quarter_longer() {
        let mut moving = without_whole();
        assert_eq!(moving.next(ms(1), HOME, &idle()), Step::Make(Job::First));
        moving.done(Job::First, Made::Offered, ms(3), HOME);
        assert_eq!(moving.next(ms(4), sight(ms(1), us(0)), &idle()), Step::Make(Job::Better));
        moving.done(Job::Better, Made::InVain, ms(8), sight(ms(5), us(0)));
        assert!(matches!(moving.next(ms(9), sight(ms(6), us(0)), &idle()), Step::Wait(_)));
        assert_eq!(moving.next(ms(10), sight(ms(7), us(0)), &idle()), Step::Make(Job::Better));
    }

    const COMING: Whole = Whole::Coming { is_waited_for: false };

    /// Two compilers with these costs in milliseconds: fixed, and for each KB.
    fn makers(first: (f64, f64), best: (f64, f64), slowdowns: [f64; 3]) -> Makers {
        let parts = |(fixed_ms, ms_per_kb): (f64, f64)| PartCosts {
            fixed_ns: fixed_ms * 1e6,
            ns_per_code_byte: ms_per_kb * 1e3,
        };
        let [home_slowdown, first_slowdown, best_slowdown] = slowdowns;
        let calibrated =
            |tier, slowdown, parts| EngineCalibration { slowdown, parts, ..EngineCalibration::shipped(tier) };
        let (home_id, first_id, best_id) = (EngineId::new("home"), EngineId::new("first"), EngineId::new("best"));
        let calibration = Calibration::new(vec![
            (home_id, calibrated(Tier::Interpreter, home_slowdown, None)),
            (first_id, calibrated(Tier::Baseline, first_slowdown, Some(parts(first)))),
            (best_id, calibrated(Tier::Optimizing, best_slowdown, Some(parts(best)))),
        ]);
        let (home, first) = ((home_id, Tier::Interpreter), (first_id, Tier::Baseline));
        Makers::of(&calibration, home, first, (best_id, Tier::Optimizing))
    }

    #[test]
    fn the_best_compiler_makes_small_parts_at_once() {
        let makers = makers((1.0, 0.5), (1.0, 2.0), [8.0, 2.0, 1.0]);
        // With 1 KB: 3 ms at seven eighths lost, or 1.5 ms at that and 3 ms at a half.
        assert_eq!(makers.for_first(1_000, 10_000, Whole::NotBegun), Maker::Best);
        // With 2 KB: 5 ms, or 2 ms and 5 ms.
        assert_eq!(makers.for_first(2_000, 10_000, Whole::NotBegun), Maker::First);
        assert_eq!(makers.for_first(2_000, 10_000, COMING), Maker::First);
        assert_eq!(makers.for_first(4_000, 10_000, COMING), Maker::WaitForWhole, "it is two fifths of it");
        assert_eq!(makers.for_first(4_000, 10_000, Whole::NotBegun), Maker::First);
        for whole in [Whole::Missing, Whole::Offered] {
            assert_eq!(makers.for_first(1_000, 10_000, whole), Maker::Best);
            assert_eq!(makers.for_first(2_000, 10_000, whole), Maker::Nobody);
        }
    }

    #[test]
    fn who_makes_parts_goes_by_what_this_host_costs() {
        let best = |first, best, slowdowns| {
            makers(first, best, slowdowns).for_first(2_000, 10_000, Whole::NotBegun) == Maker::Best
        };
        assert!(!best((1.0, 0.5), (1.0, 2.0), [8.0, 2.0, 1.0]));
        assert!(best((1.0, 0.5), (1.0, 1.0), [8.0, 2.0, 1.0]), "a faster compiler");
        assert!(best((1.0, 0.5), (1.0, 2.0), [8.0, 4.0, 1.0]), "worse code of the other");
        assert!(!best((1.0, 0.5), (1.0, 2.0), [80.0, 20.0, 10.0]), "only ratios count");
    }

    #[test]
    fn there_is_one_compiler_if_only_one_makes_parts() {
        let only = (EngineId::new("only"), Tier::Optimizing);
        let calibration = Calibration::default();
        let makers = Makers::of(&calibration, (EngineId::new("home"), Tier::Interpreter), only, only);
        assert_eq!(makers.for_first(2_000, 10_000, COMING), Maker::First, "which is the best, too");
        assert_eq!(makers.for_first(5_000, 10_000, COMING), Maker::WaitForWhole);
    }

    #[test]
    fn better_code_is_made_for_who_has_been_there_for_half_as_long_as_that_takes() {
        let makers = makers((1.0, 0.5), (1.0, 2.0), [8.0, 2.0, 1.0]);
        assert!(makers.is_worth_better(1_000, Duration::ZERO), "so little is made at once");
        assert!(!makers.is_worth_better(10_000, us(9_999)));
        assert!(makers.is_worth_better(10_000, ms(10)));
    }
}
