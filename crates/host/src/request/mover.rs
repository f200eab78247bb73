//! Moving a request while it runs: finding out where its guest spends its time, compiling that part of its module, and
//! offering the part to the guest. When to do what is decided by [`remuda_scheduler::moving`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use remuda_engine::{Extent, Moves, Part, Point};
use remuda_model::{EngineId, Tier};
use remuda_scheduler::moving::{Job, Made, Maker, Makers, Moving, Sight, Step, Whole};
use remuda_scheduler::{Load, tuning};

use crate::call::Call;
use crate::function::{EngineSlot, Function};
use crate::idle::background::CompileThread;
use crate::panics::catching_panics;
use crate::shared::Shared;

/// The time that a thread waits for a guest to come to a point at which it could leave.
///
/// Source: a guest that computes comes to a point within microseconds, and one that fills memory within a millisecond
/// or two; a guest that does not come to one waits for something, or is in a loop that cannot be left. If this is too
/// short, a guest in a long inner loop is raced although it could move; if it is too long, guests that cannot move are
/// raced that much later.
const PATIENCE: Duration = Duration::from_millis(3);

/// The moves of one request.
pub(crate) struct Mover {
    moves: Arc<Moves>,
    targets: Targets,
    makers: Makers,
    moving: Moving,
    /// Points for which there is a part of an engine of this tier, or will never be one.
    known: Vec<(Point, Tier)>,
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

impl Mover {
    /// Makes a mover for a guest that has not begun, on `home`, and has been offered these parts. Returns `None` if
    /// there is no engine that it could move to.
    pub(crate) fn new(
        moves: Arc<Moves>,
        offered: &[(Part, Extent)],
        shared: &Shared,
        function: &Function,
        home: EngineId,
    ) -> Option<Self> {
        let targets = Targets::of(function)?;
        let tier = function.engine(home).known.capabilities.tier;
        let makers = shared.with_world(|world| {
            let Targets { first, best } = targets;
            Makers::of(world.calibration, (home, tier), (first.engine, first.tier), (best.engine, best.tier))
        });
        let ways =
            |(part, _): &(Part, Extent)| part.points().iter().map(|point| (*point, part.tier())).collect::<Vec<_>>();
        let known = offered.iter().flat_map(ways).collect();
        let has_whole = offered.iter().any(|(_, extent)| *extent == Extent::Whole);
        let moving = Moving::new(!offered.is_empty(), has_whole, function.module.can_move_anywhere());
        Some(Self { moves, targets, makers, moving, known })
    }

    /// Says what to do now, when `elapsed` has passed since the request began.
    pub(crate) fn next(&mut self, elapsed: Duration, load: &Load) -> Step {
        let sight = self.sight();
        self.moving.next(elapsed, sight, load)
    }

    /// Notes what came of a job, when `elapsed` has passed since the request began.
    pub(crate) fn done(&mut self, job: Job, tried: Tried, elapsed: Duration) {
        let sight = self.sight();
        self.moving.done(job, tried.made, elapsed, sight);
        self.known.extend(tried.points.into_iter().map(|point| (point, tried.tier)));
    }

    fn sight(&self) -> Sight {
        let Target { engine, tier } = self.targets.best;
        let (mut in_any, mut in_best) = (0, 0);
        for stay in self.moves.stays() {
            in_any += stay.ns;
            in_best += if stay.engine == engine { stay.ns } else { 0 };
        }
        let whereabouts = self.moves.whereabouts();
        Sight {
            in_any: Duration::from_nanos(in_any),
            in_best: Duration::from_nanos(in_best),
            best_since: whereabouts.since.filter(|_| whereabouts.tier == tier),
        }
    }

    /// Has a part made, by a thread of its own, which tells `done` what came of it. Returns `None` if there is no such
    /// thread: then `done` is not told.
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        function: &Arc<Function>,
        call: &Arc<Call>,
        job: Job,
        done: impl FnOnce(Tried) + Send + 'static,
    ) -> Option<CompileThread> {
        let attempt = PartAttempt {
            shared: Arc::clone(shared),
            function: Arc::clone(function),
            call: Arc::clone(call),
            moves: Arc::clone(&self.moves),
            known: self.known.clone(),
            targets: self.targets,
            makers: self.makers,
            whole: self.moving.whole(),
            is_confirmed: self.moving.is_confirmed(),
            stayed: self.moving.stayed_in_first(&self.sight()),
        };
        let make = move || {
            // A compile that takes only the core time that no other thread wants keeps no core busy.
            let _busy = (job != Job::Whole).then(|| attempt.shared.cores.work());
            let tried = catching_panics(attempt.function.name(), attempt.call.id, || attempt.make(job));
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

/// The result of an attempt to have a guest move.
pub(crate) struct Tried {
    made: Made,
    /// Points for which there is now a part of an engine of this tier, or will never be one.
    points: Vec<Point>,
    tier: Tier,
}

impl Tried {
    fn of(made: Made) -> Self {
        Self { made, points: Vec::new(), tier: Tier::Interpreter }
    }

    /// The attempt was not made, because no thread had the time for it.
    pub(crate) fn not() -> Self {
        Self::of(Made::InVain)
    }
}

/// Everything that a thread needs to make a part.
struct PartAttempt {
    shared: Arc<Shared>,
    function: Arc<Function>,
    call: Arc<Call>,
    moves: Arc<Moves>,
    known: Vec<(Point, Tier)>,
    targets: Targets,
    makers: Makers,
    /// The progress in making the whole part.
    whole: Whole,
    /// Whether a place counts only if the guest is still there a moment later.
    is_confirmed: bool,
    /// The time that the guest has been in parts of the compiler that is done first, since it was last offered a part.
    stayed: Duration,
}

impl PartAttempt {
    /// Finds out where the guest is, and compiles a part for that place.
    fn make(&self, job: Job) -> Tried {
        let Targets { first, best } = self.targets;
        let module = &self.function.module;
        match job {
            // A whole part can be entered anywhere.
            Job::Whole => self.compile(job, first, &[], Extent::Whole),
            Job::First => {
                let points = match self.find_twice(first) {
                    Ok(points) => points,
                    Err(tried) => return tried,
                };
                let Some(bytes) = module.part_code_bytes(&points) else {
                    return Tried { made: Made::Refused, points, tier: best.tier };
                };
                tracing::debug!(request = %self.call.id, code_bytes = bytes, "so much code is hot");
                match self.makers.for_first(bytes, module.stats().code_bytes, self.whole) {
                    Maker::Best => self.compile(job, best, &points, Extent::Hot),
                    Maker::First => self.compile(job, first, &points, Extent::Hot),
                    Maker::WaitForWhole => Tried::of(Made::WaitsForWhole),
                    Maker::Nobody => Tried { made: Made::Refused, points, tier: first.tier },
                }
            }
            Job::Better => {
                let mut points = match self.find(best) {
                    Ok(points) => points,
                    Err(tried) => return tried,
                };
                let is_worth_it = |points: &[Point]| {
                    let bytes = module.part_code_bytes(points);
                    bytes.is_some_and(|bytes| self.makers.is_worth_better(bytes, self.stayed))
                };
                // The most frequent points come first: as many are kept as there is time for.
                while !points.is_empty() && !is_worth_it(&points) {
                    points.truncate(points.len() / 2);
                }
                if points.is_empty() { Tried::of(Made::InVain) } else { self.compile(job, best, &points, Extent::Hot) }
            }
        }
    }

    /// Finds out where the guest is, without points for which there is a part already that is as good as the target's.
    fn find(&self, target: Target) -> Result<Vec<Point>, Tried> {
        let found = self.moves.find(PATIENCE);
        let is_known = |point: &Point| self.known.iter().any(|(known, tier)| known == point && *tier >= target.tier);
        let points: Vec<Point> = found.iter().copied().filter(|point| !is_known(point)).collect();
        tracing::debug!(request = %self.call.id, ?points, known = found.len() - points.len(), "the guest has come to");
        if !points.is_empty() {
            return Ok(points);
        }
        let is_away = self.moves.whereabouts().tier > Tier::Interpreter;
        Err(Tried::of(if is_away || !found.is_empty() { Made::AboutToLeave } else { Made::InVain }))
    }

    /// Like [`PartAttempt::find`], if the guest is still there a moment later.
    fn find_twice(&self, target: Target) -> Result<Vec<Point>, Tried> {
        let points = self.find(target)?;
        if !self.is_confirmed {
            return Ok(points);
        }
        std::thread::sleep(tuning::MOVING_CONFIRM);
        let again = self.find(target)?;
        let is_still_there = again.iter().any(|point| points.contains(point));
        if is_still_there { Ok(again) } else { Err(Tried::of(Made::Passing)) }
    }

    fn compile(&self, job: Job, target: Target, points: &[Point], extent: Extent) -> Tried {
        if self.moves.is_over() {
            return Tried::of(Made::InVain);
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
                let tried = Tried { made: Made::Offered, points: part.points().to_vec(), tier: target.tier };
                self.moves.offer(part.clone());
                let bytes = part.memory_bytes();
                self.function.parts.keep(part, extent, bytes);
                tried
            }
            Err(reason) => {
                tracing::debug!(request = %self.call.id, ?job, engine = %target.engine, %reason, "there is no part for that");
                Tried { made: Made::Refused, points: points.to_vec(), tier: target.tier }
            }
        }
    }
}

/// Sets up what making parts for guests of this function will need, so that the first part is ready sooner.
pub(crate) fn prepare_parts(shared: &Shared, function: &Function) {
    let Some(Targets { first, best }) = Targets::of(function) else { return };
    for target in [best, first] {
        if let Ok(engine) = shared.registry.open(target.engine) {
            engine.prepare_parts();
        }
    }
}
