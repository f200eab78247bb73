//! Moving a request while it runs: finding out where its guest spends its time, compiling that part of its module with a
//! better compiler, and offering it to go on there.
//!
//! A move costs a few milliseconds of compiling on another core, does nothing twice, and is tried before anybody races: who
//! joined a race would have to do all that the guest has done. As long as the guest is away, nobody joins; if it cannot
//! move, or comes back and stays where it began, it is raced as ever.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_engine::{Extent, Moves, Part, Point};
use remuda_model::{EngineId, Tier};
use remuda_scheduler::tuning;

use crate::Call;
use crate::background::Compiler;
use crate::execute::catching_panics;
use crate::function::Function;
use crate::host::Shared;

/// How long somebody waits for a guest to come to a point at which it could leave.
///
/// Source: a guest that computes comes to one within microseconds, and one that fills memory within a millisecond or two; one
/// that does not waits for something, or is in a loop that cannot be left. If it is too short, a guest in a long inner loop
/// is raced although it could move; if it is too long, guests that cannot move are raced that much later.
const PATIENCE: Duration = Duration::from_millis(3);
/// Tries after which a guest has to be away for half of the time: else its request is raced.
///
/// Source: chosen. The first is for a loop that may be over when its part is ready. Fewer, and programs of two phases are
/// raced; more, and programs of many short phases, which a whole module serves better, are raced late.
const TRIES_FREE: usize = 2;
/// Points between which a guest goes to and fro for it to be worth while to compile their parts, at most: where there are
/// more, the time goes by in no one place.
///
/// Source: chosen, by the guests of the suite: kernels have one or two, parsers and decoders five and more.
const POINTS_MAX: usize = 3;
/// How often one request is tried to be moved, at most: each time takes a core for some milliseconds.
const TRIES_MAX: usize = 12;
/// Parts that are kept for a function's next requests, at most, until better code of the whole module is ready. Each takes
/// some 50 KB.
const PARTS_KEPT_MAX: usize = 16;

/// The moves of one request.
pub(crate) struct Mover {
    moves: Arc<Moves>,
    state: Phase,
    /// Points for which there is a part, or will never be one.
    known: Vec<Point>,
    /// How often it was tried.
    tried: usize,
    /// Since when there has been somewhere to go.
    offered_since: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody has looked yet.
    Untried,
    /// Somebody is at it.
    Busy,
    /// Parts have been offered; since when the guest is where it began, as far as anybody has seen.
    Offered { home_since: Option<Instant> },
    /// It does not move any more.
    Over,
}

/// What to do about a request that could move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try to have it moved: [`Mover::begin`].
    Move,
    /// Leave it alone for a while.
    Wait(Duration),
    /// Race it.
    Race,
}

impl Mover {
    /// For a guest that has not begun. It goes on in what its function's earlier guests have gone on in.
    pub(crate) fn new(moves: Arc<Moves>, parts: &Parts) -> Self {
        let parts = parts.all();
        let known = parts.iter().flat_map(|part| part.points().iter().copied()).collect();
        let state = if parts.is_empty() { Phase::Untried } else { Phase::Offered { home_since: None } };
        for part in parts {
            moves.offer(part);
        }
        Self { moves, state, known, tried: 0, offered_since: None }
    }

    /// What to do now, so long after the request began.
    pub(crate) fn next(&mut self, now: Instant, elapsed: Duration) -> Next {
        // The longer it takes, the less it matters.
        let wait = Next::Wait((elapsed / 16).clamp(*tuning::MOVING_LOOK.start(), *tuning::MOVING_LOOK.end()));
        match &mut self.state {
            Phase::Untried => Next::Move,
            Phase::Busy => wait,
            Phase::Offered { home_since } => {
                if self.moves.is_away() {
                    *home_since = None;
                    return wait;
                }
                let home = now.saturating_duration_since(*home_since.get_or_insert(now));
                if home < tuning::MOVING_HOME_MIN {
                    return wait;
                }
                let is_of_use = self.tried < TRIES_FREE || self.is_mostly_away(now);
                if self.tried < TRIES_MAX && is_of_use {
                    return Next::Move;
                }
                self.state = Phase::Over;
                Next::Race
            }
            Phase::Over => Next::Race,
        }
    }

    /// Somebody goes about it. Returns what that one needs.
    pub(crate) fn begin(&mut self) -> (Arc<Moves>, Vec<Point>) {
        self.state = Phase::Busy;
        (Arc::clone(&self.moves), self.known.clone())
    }

    /// What came of it.
    pub(crate) fn done(&mut self, tried: Tried) {
        match tried {
            Tried::Offered(points) => {
                self.tried += 1;
                self.known.extend(points);
                self.offered_since.get_or_insert_with(Instant::now);
                self.state = Phase::Offered { home_since: None };
            }
            Tried::NoPart(points) => {
                self.known.extend(points);
                self.stay();
            }
            Tried::Nowhere => self.stay(),
        }
    }

    /// Whether the guest has been away for most of the time in which it could.
    fn is_mostly_away(&self, now: Instant) -> bool {
        let away = Duration::from_nanos(self.moves.stays().iter().map(|stay| stay.ns).sum());
        self.offered_since.is_some_and(|since| 2 * away >= now.saturating_duration_since(since))
    }

    /// The guest stays where it is: for now, if it has moved before, since who joined it now would have to do all that it
    /// has done in better code already.
    fn stay(&mut self) {
        self.tried += 1;
        let goes_on = self.is_mostly_away(Instant::now());
        self.state = if goes_on { Phase::Offered { home_since: None } } else { Phase::Over };
    }
}

/// How an attempt to have a guest moved has ended.
pub(crate) enum Tried {
    /// A part for these points was offered.
    Offered(Vec<Point>),
    /// There is none for these.
    NoPart(Vec<Point>),
    /// The guest has ended, or comes to no point that is not known.
    Nowhere,
}

/// Finds out where the guest is and compiles a part for that. `began` is told who compiles, so that it can be told to stand
/// back; the part is of use for later requests all the same.
pub(crate) fn try_to_move(
    shared: &Arc<Shared>,
    function: &Arc<Function>,
    call: &Arc<Call>,
    moves: &Arc<Moves>,
    known: &[Point],
    began: impl FnOnce(Compiler, Box<dyn Fn() + Send>),
) -> Tried {
    let Some(target) = best_compiler(function) else { return Tried::Nowhere };
    // Room for both who may have something to say: neither ever waits.
    let (waiter, wait) = sync_channel(2);
    let (shared_too, function, call) = (Arc::clone(shared), Arc::clone(function), Arc::clone(call));
    let (moves, known, done) = (Arc::clone(moves), known.to_vec(), waiter.clone());
    let compile = move || {
        let tried = catching_panics(&function, &call, || {
            // An engine may have to be started first. Where the guest is, is asked after that.
            let engine = shared_too.registry.open(target).ok()?;
            let points: Vec<Point> = moves.find(PATIENCE).into_iter().filter(|point| !known.contains(point)).collect();
            tracing::debug!(request = %call.id, ?points, "the guest has come to");
            if points.is_empty() || points.len() > POINTS_MAX {
                return None;
            }
            Some(match engine.compile_part(&function.module, &points, Extent::Hot) {
                Ok(part) => {
                    moves.offer(part.clone());
                    function.parts.keep(part);
                    Tried::Offered(points)
                }
                Err(reason) => {
                    tracing::debug!(request = %call.id, %reason, "the guest stays where it is");
                    Tried::NoPart(points)
                }
            })
        });
        // Nobody may be waiting any more.
        let _ = done.send(tried.ok().flatten().unwrap_or(Tried::Nowhere));
    };
    let Some(compiler) = shared.background.compile_now(compile) else { return Tried::Nowhere };
    began(compiler, Box::new(move || drop(waiter.send(Tried::Nowhere))));
    wait.recv().unwrap_or(Tried::Nowhere)
}

/// Of the function's engines, the one with the best code.
fn best_compiler(function: &Function) -> Option<EngineId> {
    let able = function.engines.iter().filter(|engine| engine.slot.failure().is_none());
    let best = able.max_by_key(|engine| engine.known.capabilities.tier)?;
    (best.known.capabilities.tier > Tier::Interpreter).then_some(best.known.id)
}

/// The parts of a function's module that are kept for its next requests.
#[derive(Default)]
pub(crate) struct Parts {
    /// So that who finds none, which is usual, need not take the lock.
    are_any: AtomicBool,
    kept: Mutex<Vec<Part>>,
}

impl Parts {
    fn lock(&self) -> MutexGuard<'_, Vec<Part>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Part> {
        self.lock().clone()
    }

    fn keep(&self, part: Part) {
        let mut parts = self.lock();
        if parts.len() < PARTS_KEPT_MAX {
            parts.push(part);
            self.are_any.store(true, Ordering::Release);
        }
    }

    /// The engine whose code a guest would go on in, and its kind.
    pub(crate) fn best(&self) -> Option<(EngineId, Tier)> {
        if !self.are_any.load(Ordering::Acquire) {
            return None;
        }
        self.lock().iter().max_by_key(|part| part.tier()).map(|part| (part.engine(), part.tier()))
    }

    /// There is code of the whole module that is as good.
    pub(crate) fn forget(&self) {
        self.lock().clear();
        self.are_any.store(false, Ordering::Release);
    }
}
