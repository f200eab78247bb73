//! Moving a request while it runs: finding out where its guest spends its time, compiling that part of its module, and
//! offering it to go on there.
//!
//! - The whole module is made at once by the compiler that is done first, with what cores have left, so that the guest has
//!   somewhere to go wherever it is ([`Job::Whole`]).
//! - Meanwhile, a guest that is where it began gets a part for wherever it is just then ([`Job::First`]): by the best compiler
//!   if that is little code, as loops of numbers are, and else by the one that is done first.
//! - When it has been in code of that one for a while, the best compiler makes a part for the place ([`Job::Better`]).
//!
//! Nothing is done twice by that, so it is tried before anybody races: who joined a race would have to do all that the guest
//! has done. As long as the guest can move, nobody joins; if it cannot, or stays where it began for all that, it is raced
//! as ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_engine::{Extent, Moves, Part, Point};
use remuda_model::{EngineId, Tier};
use remuda_scheduler::{Load, tuning};

use crate::Call;
use crate::background::Compiler;
use crate::execute::catching_panics;
use crate::function::{EngineSlot, Function};
use crate::host::Shared;

/// How long somebody waits for a guest to come to a point at which it could leave.
///
/// Source: a guest that computes comes to one within microseconds, and one that fills memory within a millisecond or two; one
/// that does not waits for something, or is in a loop that cannot be left. If it is too short, a guest in a long inner loop
/// is raced although it could move; if it is too long, guests that cannot move are raced that much later.
const PATIENCE: Duration = Duration::from_millis(3);
/// Tries after which a guest has to be away for half of the time: else there is nothing more to try.
///
/// Source: chosen. The first ones are for loops that may be over when their part is ready. Fewer, and programs of a few phases
/// are given up; more, and cores work for programs that no part helps.
const TRIES_FREE: usize = 6;
/// The same, as long as the whole module is being made: who makes a part meanwhile takes its core.
///
/// Source: chosen: many programs fill their memory first, and then have one place where the time goes by. Fewer, and these wait
/// for the whole module; more, and programs of many short phases do.
const TRIES_BEFORE_WHOLE: usize = 2;
/// How often one request is tried to be moved, at most: each time takes a core for some milliseconds.
const TRIES_MAX: usize = 24;
/// How often in a row it may be in vain to look for where a guest is that is where it began.
///
/// Source: chosen. A guest whose memory grows comes to no point for some milliseconds. Fewer, and such a one is raced; more, and
/// one that waits for something, or that cannot leave the loop that it is in, is raced late.
const IN_VAIN_MAX: usize = 3;
/// The share of its time that a guest may be in slower code without anybody minding.
///
/// Source: chosen. Smaller, and compilers work for what hardly matters; larger, and guests that come and go, a microsecond in a
/// part and as much where they began, stay like that.
const SHARE_MIN: f64 = 0.25;
/// Up to how many bytes of code the best compiler makes the part for a guest that is where it began: more is left to the one
/// that is done first.
///
/// Source: measured: for a part of 1 KB the best takes 3 to 4 ms and the other 1 to 2, and a guest that stays has its best code
/// that much sooner. Smaller, and kernels come to optimised code late; larger, and programs of short phases to compiled code.
const BEST_AT_ONCE_BYTES_MAX: usize = 1_000;
/// From which share of the whole module's code on a hot part is not made if the whole is being made anyway.
///
/// Source: chosen. Smaller, and guests wait for the whole in slow code; larger, and the whole is late for nothing.
const WHOLE_SHARE_MIN: f64 = 0.33;
/// How many bytes of code the best compiler may be given for each millisecond that a guest has spent in the code of the other
/// since that was ready. It takes half as long as that time.
///
/// Source: measured, 2 ms for 1 KB of a part; a guest that has been somewhere for so long will most likely stay for as long
/// again. Smaller, and guests stay in unoptimised code longer; larger, and the compiler is busy with one place when the guest
/// has come to the next.
const BEST_BYTES_PER_MS: u128 = 1_000;
/// How much longer a request has to have taken before it is looked at once more for the best compiler, if it was in vain. A
/// factor.
///
/// Source: chosen. Smaller, and a core is woken for nothing; larger, and a guest stays in unoptimised code that much longer.
const BEST_AGAIN: f64 = 1.25;
/// Parts that are kept for a function's next requests, at most, until better code of the whole module is ready. Each takes
/// some 50 KB.
const PARTS_KEPT_MAX: usize = 16;

/// The moves of one request.
pub(crate) struct Mover {
    moves: Arc<Moves>,
    targets: Targets,
    /// Points for which there is a part of such an engine, or will never be one.
    known: Vec<(Point, Tier)>,
    /// What is being made, but for the whole module.
    under_way: Vec<Job>,
    whole: Whole,
    /// How often it was tried.
    tried: usize,
    /// How often in a row it was in vain to look for a place for a guest that is where it began.
    first_in_vain: usize,
    /// How long the request had taken when it was in vain to look for a place for the best compiler.
    best_in_vain: Duration,
    /// Since when there has been somewhere to go.
    offered_since: Option<Instant>,
    /// The last look at where it is, and the one when it was last offered something.
    looked: Look,
    offered: Look,
    /// It does not move any more.
    is_over: bool,
}

/// The engine whose parts are ready first, and the one with the best code, which may be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Targets {
    first: Target,
    best: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    engine: EngineId,
    tier: Tier,
}

/// How far the whole module is as a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    NotBegun,
    /// It is being made, and whether there is nothing else to do until it is ready.
    Coming {
        is_waited_for: bool,
    },
    Offered,
    /// There is none.
    Missing,
}

/// For how long a guest has been in parts until then.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    in_any: Duration,
    in_best: Duration,
}

/// A part that is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Of what is hot, for a guest that is where it began.
    First,
    /// By the best compiler, for a guest that is in a part of the other.
    Better,
    /// Of the whole module, by the compiler that is done first.
    Whole,
}

/// What to do about a request that could move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Have a part made: [`Mover::start`].
    Move(Job),
    /// Leave it alone for a while.
    Wait(Duration),
    /// Race it.
    Race,
}

impl Look {
    /// In parts of the compiler that is done first.
    fn in_first(&self) -> Duration {
        self.in_any.saturating_sub(self.in_best)
    }
}

impl Mover {
    /// For a guest that has not begun. It goes on in what its function's earlier guests have gone on in. `None` if there is
    /// nothing that it could move to.
    pub(crate) fn new(moves: Arc<Moves>, function: &Function) -> Option<Self> {
        let targets = Targets::of(function)?;
        let parts = function.parts.all();
        let ways =
            |(part, _): &(Part, Extent)| part.points().iter().map(|point| (*point, part.tier())).collect::<Vec<_>>();
        let known = parts.iter().flat_map(ways).collect();
        let has_whole = parts.iter().any(|(_, extent)| *extent == Extent::Whole);
        let offered_since = (!parts.is_empty()).then(Instant::now);
        for (part, _) in parts {
            moves.offer(part);
        }
        let look = Look { at: Instant::now(), in_any: Duration::ZERO, in_best: Duration::ZERO };
        Some(Self {
            looked: look,
            offered: look,
            moves,
            known,
            under_way: Vec::new(),
            whole: match has_whole {
                true => Whole::Offered,
                false if function.module.can_move_anywhere() => Whole::NotBegun,
                false => Whole::Missing,
            },
            targets,
            tried: 0,
            first_in_vain: 0,
            best_in_vain: Duration::ZERO,
            offered_since,
            is_over: false,
        })
    }

    /// What to do now, so long after the request began.
    pub(crate) fn next(&mut self, elapsed: Duration, load: &Load) -> Next {
        if self.is_over {
            return Next::Race;
        }
        // The longer it takes, the less it matters.
        let wait = Next::Wait((elapsed / 16).clamp(*tuning::MOVING_LOOK.start(), *tuning::MOVING_LOOK.end()));
        // Whoever compiles for this request takes nothing from another one.
        let has_idle_core = load.busy.saturating_sub(self.under_way.len()) < load.cores;
        if !has_idle_core && elapsed < tuning::MOVING_BUSY_MIN {
            return wait;
        }
        if self.whole == Whole::NotBegun && has_idle_core && elapsed >= tuning::MOVING_WHOLE_MIN {
            self.whole = Whole::Coming { is_waited_for: false };
            return Next::Move(Job::Whole);
        }
        if self.offered_since.is_none() {
            return self.next_at_home(elapsed).unwrap_or(wait);
        }
        let (now, then) = (self.look(), self.looked);
        let passed = now.at.saturating_duration_since(then.at);
        if passed < tuning::MOVING_HOME_MIN {
            return wait;
        }
        self.looked = now;
        let share = |now: Duration, then: Duration| now.saturating_sub(then).div_duration_f64(passed);
        let whereabouts = self.moves.whereabouts();
        let is_settled = whereabouts.since.is_some_and(|since| since >= tuning::MOVING_HOME_MIN / 2);
        if whereabouts.tier == self.targets.best.tier && is_settled
            || share(now.in_best, then.in_best) > 1.0 - SHARE_MIN
        {
            return wait;
        }
        if share(now.in_any, then.in_any) < 1.0 - SHARE_MIN {
            return self.next_at_home(elapsed).unwrap_or(wait);
        }
        if self.under_way.is_empty() && self.tried < TRIES_MAX && elapsed >= self.best_in_vain.mul_f64(BEST_AGAIN) {
            return self.begin(Job::Better);
        }
        wait
    }

    /// What to do about a guest that is where it began, or mostly; `None` if something is being done.
    fn next_at_home(&mut self, elapsed: Duration) -> Option<Next> {
        if self.under_way.contains(&Job::First) || self.whole == (Whole::Coming { is_waited_for: true }) {
            return None;
        }
        let is_whole_coming = self.is_whole_coming();
        let tries_free = if is_whole_coming { TRIES_BEFORE_WHOLE } else { TRIES_FREE };
        let is_mostly_away = self.is_mostly_away();
        let is_of_use = (self.tried < tries_free || is_mostly_away) && self.first_in_vain < IN_VAIN_MAX;
        if is_of_use && self.tried < TRIES_MAX {
            return Some(self.begin(Job::First));
        }
        let will_whole_come = match self.whole {
            Whole::NotBegun => elapsed < tuning::MOVING_WHOLE_MIN,
            Whole::Coming { .. } | Whole::Offered => true,
            Whole::Missing => false,
        };
        if will_whole_come || !self.under_way.is_empty() || is_mostly_away {
            return None;
        }
        self.is_over = true;
        Some(Next::Race)
    }

    fn is_whole_coming(&self) -> bool {
        matches!(self.whole, Whole::Coming { .. })
    }

    fn begin(&mut self, job: Job) -> Next {
        self.under_way.push(job);
        Next::Move(job)
    }

    /// What came of it, so long after the request began.
    pub(crate) fn done(&mut self, job: Job, tried: Tried, elapsed: Duration) {
        self.under_way.retain(|under_way| *under_way != job);
        let is_offered = tried.how == How::Offered;
        let is_in_vain = matches!(tried.how, How::InVain | How::Refused);
        if let Whole::Coming { is_waited_for } = &mut self.whole {
            *is_waited_for |= tried.how == How::WaitsForWhole;
        }
        match job {
            // Where one part is too much, others will be, and there is no whole either.
            Job::First if tried.how == How::Refused && self.whole == Whole::Missing => self.first_in_vain = IN_VAIN_MAX,
            Job::First => self.first_in_vain = if is_in_vain { self.first_in_vain + 1 } else { 0 },
            Job::Better if !is_offered => self.best_in_vain = elapsed,
            Job::Better => {}
            Job::Whole => self.whole = if is_offered { Whole::Offered } else { Whole::Missing },
        }
        self.tried += usize::from(job != Job::Whole && (is_offered || is_in_vain));
        if is_offered {
            self.offered_since.get_or_insert_with(Instant::now);
            // Where it has been until now says nothing of where it will be.
            self.looked = self.look();
            self.offered = self.looked;
        }
        self.known.extend(tried.points.into_iter().map(|point| (point, tried.tier)));
    }

    fn look(&self) -> Look {
        let (mut in_any, mut in_best) = (0, 0);
        for stay in self.moves.stays() {
            in_any += stay.ns;
            in_best += if stay.engine == self.targets.best.engine { stay.ns } else { 0 };
        }
        Look { at: Instant::now(), in_any: Duration::from_nanos(in_any), in_best: Duration::from_nanos(in_best) }
    }

    /// Whether the guest has been away for most of the time in which it could.
    fn is_mostly_away(&self) -> bool {
        self.offered_since.is_some_and(|since| 2 * self.look().in_any >= since.elapsed())
    }

    /// Has a part made, by a thread of its own, which tells `done` what came of it. `None` if there is no such thread: then
    /// `done` is not told.
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        function: &Arc<Function>,
        call: &Arc<Call>,
        job: Job,
        done: impl FnOnce(Tried) + Send + 'static,
    ) -> Option<Compiler> {
        let attempt = Attempt {
            shared: Arc::clone(shared),
            function: Arc::clone(function),
            call: Arc::clone(call),
            moves: Arc::clone(&self.moves),
            known: self.known.clone(),
            targets: self.targets,
            is_whole_coming: self.is_whole_coming(),
            stayed: self.look().in_first().saturating_sub(self.offered.in_first()),
        };
        let make = move || {
            // What takes only what cores have left keeps none busy.
            let _busy = (job != Job::Whole).then(|| attempt.shared.cores.work());
            let tried = catching_panics(&attempt.function, &attempt.call, || attempt.make(job));
            done(tried.unwrap_or_else(|_| Tried::not()));
        };
        match job {
            Job::First | Job::Better => shared.background.compile_now(make),
            Job::Whole => shared.background.compile_behind(make),
        }
    }
}

impl Targets {
    fn of(function: &Function) -> Option<Self> {
        let able = function.engines.iter().filter(|engine| engine.slot.failure().is_none());
        let make_parts = able.filter(|engine| engine.known.capabilities.parts);
        let target = |engine: &EngineSlot| Target { engine: engine.known.id, tier: engine.known.capabilities.tier };
        let targets: Vec<Target> = make_parts.map(target).collect();
        Some(Self {
            first: *targets.iter().min_by_key(|target| target.tier)?,
            best: *targets.iter().max_by_key(|target| target.tier)?,
        })
    }
}

/// What has come of an attempt to have a guest moved.
pub(crate) struct Tried {
    how: How,
    /// Points for which there is a part now of an engine of this tier, or will never be one.
    points: Vec<Point>,
    tier: Tier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// It was offered a part.
    Offered,
    /// It will soon come to a point for which it was offered one before, or is in one.
    AboutToLeave,
    /// The whole module will serve it better, and is being made.
    WaitsForWhole,
    /// It comes to no point, or the compiler failed.
    InVain,
    /// There is no part for where it is.
    Refused,
}

impl Tried {
    fn of(how: How) -> Self {
        Self { how, points: Vec::new(), tier: Tier::Interpreter }
    }

    /// Nobody had the time for it.
    pub(crate) fn not() -> Self {
        Self::of(How::InVain)
    }
}

/// What making a part needs.
struct Attempt {
    shared: Arc<Shared>,
    function: Arc<Function>,
    call: Arc<Call>,
    moves: Arc<Moves>,
    known: Vec<(Point, Tier)>,
    targets: Targets,
    /// Whether the whole module will be ready.
    is_whole_coming: bool,
    /// How long the guest has been in parts of the compiler that is done first since there was one more.
    stayed: Duration,
}

impl Attempt {
    /// Finds out where the guest is, and compiles a part for that.
    fn make(&self, job: Job) -> Tried {
        let Targets { first, best } = self.targets;
        match job {
            // It can be entered anywhere.
            Job::Whole => self.compile(job, first, &[], Extent::Whole),
            Job::First => {
                let points = match self.find(first) {
                    Ok(points) => points,
                    Err(tried) => return tried,
                };
                let Some(bytes) = self.function.module.part_code_bytes(&points) else {
                    return Tried { how: How::Refused, points, tier: best.tier };
                };
                let share = bytes as f64 / self.function.module.stats().code_bytes as f64;
                if bytes <= BEST_AT_ONCE_BYTES_MAX {
                    self.compile(job, best, &points, Extent::Hot)
                } else if self.is_whole_coming && share > WHOLE_SHARE_MIN {
                    Tried::of(How::WaitsForWhole)
                } else {
                    self.compile(job, first, &points, Extent::Hot)
                }
            }
            Job::Better => {
                let mut points = match self.find(best) {
                    Ok(points) => points,
                    Err(tried) => return tried,
                };
                let bytes_max = self.stayed.as_micros() * BEST_BYTES_PER_MS / 1_000;
                let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
                // The most frequent first: as many as there is time for.
                let bytes = |points: &[Point]| self.function.module.part_code_bytes(points).unwrap_or(usize::MAX);
                while !points.is_empty() && bytes(&points) > bytes_max.max(BEST_AT_ONCE_BYTES_MAX) {
                    points.truncate(points.len() / 2);
                }
                if points.is_empty() { Tried::of(How::InVain) } else { self.compile(job, best, &points, Extent::Hot) }
            }
        }
    }

    /// Where the guest is: those of the points for which there is nothing as good as such an engine's part.
    fn find(&self, target: Target) -> Result<Vec<Point>, Tried> {
        let found = self.moves.find(PATIENCE);
        let is_known = |point: &Point| self.known.iter().any(|(known, tier)| known == point && *tier >= target.tier);
        let points: Vec<Point> = found.iter().copied().filter(|point| !is_known(point)).collect();
        tracing::debug!(request = %self.call.id, ?points, known = found.len() - points.len(), "the guest has come to");
        if !points.is_empty() {
            return Ok(points);
        }
        let is_away = self.moves.whereabouts().tier > Tier::Interpreter;
        Err(Tried::of(if is_away || !found.is_empty() { How::AboutToLeave } else { How::InVain }))
    }

    fn compile(&self, job: Job, target: Target, points: &[Point], extent: Extent) -> Tried {
        if self.moves.is_over() {
            return Tried::of(How::InVain);
        }
        let began = Instant::now();
        let engine = self.shared.registry.open(target.engine).map_err(|error| error.to_string());
        let part = engine.and_then(|engine| {
            let part = engine.compile_part(&self.function.module, points, extent);
            part.map_err(|error| error.to_string())
        });
        let took = began.elapsed();
        match part {
            Ok(part) => {
                tracing::debug!(request = %self.call.id, ?job, engine = %target.engine, ?took, "a part is ready");
                let tried = Tried { how: How::Offered, points: part.points().to_vec(), tier: target.tier };
                self.moves.offer(part.clone());
                self.function.parts.keep(part, extent);
                tried
            }
            Err(reason) => {
                tracing::debug!(request = %self.call.id, ?job, engine = %target.engine, %reason, "there is no part for that");
                Tried { how: How::Refused, points: points.to_vec(), tier: target.tier }
            }
        }
    }
}

/// Starts what making parts for guests of this function will need, so that the first part is ready sooner.
pub(crate) fn prepare(shared: &Shared, function: &Function) {
    let Some(Targets { first, best }) = Targets::of(function) else { return };
    for target in [best, first] {
        if let Ok(engine) = shared.registry.open(target.engine) {
            engine.prepare_parts();
        }
    }
}

/// The parts of a function's module that are kept for its next requests.
#[derive(Default)]
pub(crate) struct Parts {
    /// So that who finds none, which is usual, need not take the lock.
    are_any: AtomicBool,
    kept: Mutex<Vec<(Part, Extent)>>,
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, Vec<(Part, Extent)>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<(Part, Extent)> {
        self.lock().clone()
    }

    fn keep(&self, part: Part, extent: Extent) {
        let mut parts = self.lock();
        if parts.len() < PARTS_KEPT_MAX {
            parts.push((part, extent));
            self.are_any.store(true, Ordering::Release);
        }
    }

    /// The engine whose code a guest would go on in, and its kind.
    pub(crate) fn best(&self) -> Option<(EngineId, Tier)> {
        if !self.are_any.load(Ordering::Acquire) {
            return None;
        }
        self.lock().iter().map(|(part, _)| (part.engine(), part.tier())).max_by_key(|(_, tier)| *tier)
    }

    /// There is code of the whole module that is as good.
    pub(crate) fn forget(&self) {
        self.lock().clear();
        self.are_any.store(false, Ordering::Release);
    }
}
