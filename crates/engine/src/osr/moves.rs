//! What the thread that runs a guest shares with whoever compiles for it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use remuda_model::{EngineId, Tier};
#[cfg(feature = "wasi")]
use remuda_model::{Interrupt, Value};

use super::places::Point;
#[cfg(feature = "wasi")]
use crate::EngineError;
#[cfg(feature = "wasi")]
use crate::adapter::guest::{End, Guest};
#[cfg(feature = "wasi")]
use crate::adapter::region::Region;

/// How long a guest is watched from the first point that it comes to. A tenth of a millisecond passes an interpreter's
/// inner loops many times, and an outer one at least once if that is where the time goes; longer makes moves later.
const LOOK_TIME: Duration = Duration::from_micros(100);
/// A point does not count at which it comes along less often than once in so many times: what is rare is not worth compiling
/// for, and takes along all that it calls.
const RARE: u32 = 8;
/// Points that it is asked at, at most: each asks the host, which takes a tenth of a microsecond or two.
const LOOK_ASKS_MAX: u32 = 256;

/// Activations that have gone on elsewhere from the same point, after which it is asked whether that is worth it.
///
/// Source: chosen: some tens of microseconds of going to and fro. Fewer, and a few short ones in a row shut a way that is worth
/// it; more, and guests lose that much more time before it is shut.
const TRIAL: u32 = 64;
/// How long an activation that goes on elsewhere has to be there on average, handing it over included, in nanoseconds: from an
/// interpreter, and from code of a one-pass compiler.
///
/// Source: measured: handing over and back takes 1.2 us, of which half counts as being there. What takes 0.2 us in better code
/// takes 1.5 us in an interpreter, which is about as long as that; what takes 1.2 us takes 2.5 in one-pass code. Shorter, and
/// guests go to and fro for nothing; longer, and they stay in slow code.
const STAY_NS_MIN: [u64; 2] = [800, 1_800];
/// For how long a way is shut that is not worth it.
///
/// Source: chosen: trying again costs a hundredth of that. Shorter, and guests go to and fro; longer, and a function whose
/// calls become longer stays in slow code.
const SHUT_FOR: Duration = Duration::from_millis(10);

/// The moves of one guest, from both sides: its own thread asks at its points, and others find out where it is, and offer
/// parts to go on in.
#[derive(Default)]
pub struct Moves {
    /// Whether the guest has any reason to ask.
    is_wanted: AtomicBool,
    /// How often there has been a new one.
    news: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    look: Option<Look>,
    parts: Vec<Part>,
    /// The best way in for each point that has one.
    ways: HashMap<Point, Way>,
    /// For each part, how often the guest went on in it, and for how long.
    stays: Vec<Stay>,
    /// The activations that are under way in parts, each called by the one before through where the guest came from.
    under_way: Vec<Activation>,
    /// Whether the guest is in the last of them, and not in something that it has called where the guest came from.
    is_away: bool,
    /// When it last went there or came from there.
    since: Option<Instant>,
    /// The parts that the guest can leave as well, by a number of each.
    watched: BTreeMap<u64, Watched>,
    watched_before: u64,
    is_over: bool,
    /// Called at every point, for tests that move a guest at a moment of their choice.
    hook: Option<Hook>,
}

/// A way into a part.
struct Way {
    /// The part's number.
    part: usize,
    /// That of its entry.
    entry: usize,
    /// What came of taking it: from an interpreter, and from code of a one-pass compiler.
    from: [Taken; 2],
}

/// What came of taking a way.
#[derive(Clone, Copy, Default)]
struct Taken {
    activations: u32,
    ns: u64,
    shut_until: Option<Instant>,
}

/// An activation that has gone on in a part.
struct Activation {
    /// The part's number.
    part: usize,
    /// Where it left, and what kind of code.
    point: Point,
    from: Tier,
    /// How long it has been there.
    ns: u64,
}

/// The place in [`STAY_NS_MIN`] and [`Way::from`] of code from which guests leave; they do not leave the best.
fn place(from: Tier) -> usize {
    usize::from(from != Tier::Interpreter)
}

/// Is told a point, and may offer a part.
type Hook = Box<dyn FnMut(Point) -> Option<Part> + Send>;

impl State {
    /// Adds the time until now to that of the part that the guest is in.
    fn account(&mut self) {
        let now = Instant::now();
        let since = self.since.replace(now);
        if let (true, Some(since), Some(activation)) = (self.is_away, since, self.under_way.last_mut()) {
            let took = u64::try_from(now.saturating_duration_since(since).as_nanos()).unwrap_or(u64::MAX);
            activation.ns = activation.ns.saturating_add(took);
            let stay = &mut self.stays[activation.part];
            stay.ns = stay.ns.saturating_add(took);
        }
    }

    /// The last activation in a part has ended there.
    fn end(&mut self) {
        self.change(false);
        let Some(Activation { part, point, from, ns }) = self.under_way.pop() else { return };
        self.stays[part].activations += 1;
        // There may be a better way by now.
        let Some(way) = self.ways.get_mut(&point).filter(|way| way.part == part) else { return };
        let taken = &mut way.from[place(from)];
        taken.activations += 1;
        taken.ns = taken.ns.saturating_add(ns);
        if taken.activations == TRIAL {
            let is_worth_it = taken.ns / u64::from(TRIAL) >= STAY_NS_MIN[place(from)];
            let shut_until = (!is_worth_it).then(|| Instant::now() + SHUT_FOR);
            *taken = Taken { shut_until, ..Taken::default() };
            if shut_until.is_some() {
                self.tell_watched();
            }
        }
    }

    /// The guest goes to the last of the parts that are under way, or to where it came from.
    fn change(&mut self, is_away: bool) {
        self.account();
        self.is_away = is_away && !self.under_way.is_empty();
    }

    fn add(&mut self, part: Part) {
        let number = self.parts.len();
        for (entry, point) in part.points().iter().enumerate() {
            let is_better = |way: &Way| part.tier() >= self.parts[way.part].tier();
            if self.ways.get(point).is_none_or(is_better) {
                self.ways.insert(*point, Way { part: number, entry, from: Default::default() });
            }
        }
        self.stays.push(Stay { engine: part.engine(), activations: 0, ns: 0 });
        self.parts.push(part);
        self.tell_watched();
    }

    /// The way in from a point for who runs code of this tier, if it leads to a better one and is not shut.
    fn way(&self, point: Point, tier: Tier) -> Option<&Way> {
        let way = self.ways.get(&point).filter(|way| self.parts[way.part].tier() > tier)?;
        (!way.is_shut(tier)).then_some(way)
    }

    /// Has parts that can be left ask where there is a reason to.
    fn tell_watched(&self) {
        let asks_everywhere = self.look.is_some() || self.hook.is_some();
        for watched in self.watched.values() {
            for (exit, point) in watched.points.iter().enumerate() {
                watched.flags.set(exit, asks_everywhere || self.way(*point, watched.tier).is_some());
            }
        }
    }
}

impl Way {
    /// Whether it is not worth it for now to take it from code of this tier.
    fn is_shut(&self, tier: Tier) -> bool {
        self.from[place(tier)].shut_until.is_some_and(|until| Instant::now() < until)
    }
}

/// A part that its guest can leave.
struct Watched {
    tier: Tier,
    points: Arc<[Point]>,
    flags: Arc<dyn Flags>,
}

/// What the code of such a part reads.
pub(crate) trait Flags: Send + Sync {
    /// Has it ask at this exit, or not.
    fn set(&self, exit: usize, asks: bool);
}

/// A part is watched as long as this lives.
#[cfg(feature = "wasi")]
pub(crate) struct Watch {
    moves: Arc<Moves>,
    number: u64,
}

#[cfg(feature = "wasi")]
impl Drop for Watch {
    fn drop(&mut self) {
        self.moves.lock().watched.remove(&self.number);
    }
}

/// Where a guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The kind of engine whose code it is in: an interpreter's where it began, be it that it has come back or that a part
    /// has called a function there.
    pub tier: Tier,
    /// For how long it has been there; `None` if it has never left.
    pub since: Option<Duration>,
}

struct Look {
    /// When the guest came to the first point.
    since: Option<Instant>,
    asks: u32,
    seen: BTreeMap<Point, u32>,
}

/// What a guest did in one engine's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The engine that compiled it.
    pub engine: EngineId,
    /// How many of its activations went on there and have ended.
    pub activations: u64,
    /// For how long altogether, in nanoseconds, without what it called where it came from.
    pub ns: u64,
}

impl Moves {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Finds out at which points the guest is spending its time, the most frequent first. Blocks for as long as that takes:
    /// until the guest comes to a point, and a little longer. Empty if it has ended before, or comes to none within
    /// `patience`.
    #[must_use]
    pub fn find(&self, patience: Duration) -> Vec<Point> {
        let mut until = Instant::now() + patience;
        let mut state = self.lock();
        state.look = Some(Look { since: None, asks: 0, seen: BTreeMap::new() });
        state.tell_watched();
        self.want();
        loop {
            let Some(look) = &state.look else { return Vec::new() };
            if let Some(since) = look.since {
                until = until.min(since + LOOK_TIME);
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.is_over || look.asks >= LOOK_ASKS_MAX || left.is_zero() {
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let seen = state.look.take().map(|look| look.seen).unwrap_or_default();
        self.is_wanted.store(!state.parts.is_empty(), Ordering::Release);
        state.tell_watched();
        let all: u32 = seen.values().sum();
        let mut points: Vec<(Point, u32)> = seen.into_iter().filter(|(_, asks)| asks * RARE >= all).collect();
        points.sort_by_key(|(point, asks)| (std::cmp::Reverse(*asks), *point));
        points.into_iter().map(|(point, _)| point).collect()
    }

    /// From now on the guest goes on in `part` when it comes to one of its points. Of several parts with the same point, one
    /// of the best tier counts, and of these the latest.
    pub fn offer(&self, part: Part) {
        self.lock().add(part);
        self.want();
    }

    /// Has the guest ask `hook` at every point from now on.
    pub(crate) fn at_every_point(&self, hook: impl FnMut(Point) -> Option<Part> + Send + 'static) {
        let mut state = self.lock();
        state.hook = Some(Box::new(hook));
        state.tell_watched();
        self.want();
    }

    /// There is something to ask or to offer.
    fn want(&self) {
        self.news.fetch_add(1, Ordering::Release);
        self.is_wanted.store(true, Ordering::Release);
    }

    /// The guest has ended: nobody has to wait for it.
    pub(crate) fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Whether the guest has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Where the guest is now.
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        let state = self.lock();
        let activation = state.under_way.last().filter(|_| state.is_away);
        let tier = activation.map_or(Tier::Interpreter, |activation| state.parts[activation.part].tier());
        Whereabouts { tier, since: state.since.map(|since| since.elapsed()) }
    }

    /// What came of it: the parts in which the guest went on, in the order in which they were offered.
    #[must_use]
    pub fn stays(&self) -> Vec<Stay> {
        let mut state = self.lock();
        // Only the time that has passed since is added.
        if state.is_away {
            state.account();
        }
        state.stays.iter().copied().filter(|stay| stay.ns > 0).collect()
    }
}

impl fmt::Debug for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moves").field("stays", &self.lock().stays).finish_non_exhaustive()
    }
}

/// What a guest is told at a point.
#[cfg(feature = "wasi")]
pub(crate) enum Told {
    /// Go on where you are, and ask at the next point in any case.
    AskOn,
    /// Go on where you are.
    Stay,
    /// Go on there.
    Leave(Leaving),
}

/// Where an activation goes on: a part, its number among those offered, and the way in; and where it leaves, in code of which
/// tier.
#[cfg(feature = "wasi")]
pub(crate) struct Leaving {
    pub(crate) number: usize,
    pub(crate) part: Part,
    pub(crate) entry: usize,
    point: Point,
    from: Tier,
}

#[cfg(feature = "wasi")]
impl Moves {
    /// Whether the guest has any reason to ask. Cheap enough to be asked often.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// How often there has been a new reason to ask.
    pub(crate) fn news(&self) -> u32 {
        self.news.load(Ordering::Acquire)
    }

    /// As long as what is returned lives, a part is asked at its exits for these points whenever there is a reason to.
    pub(crate) fn watch(self: &Arc<Self>, tier: Tier, points: Arc<[Point]>, flags: Arc<dyn Flags>) -> Watch {
        let mut state = self.lock();
        let number = state.watched_before;
        state.watched_before += 1;
        state.watched.insert(number, Watched { tier, points, flags });
        state.tell_watched();
        Watch { moves: Arc::clone(self), number }
    }

    /// An activation goes on in a part.
    pub(crate) fn leave(&self, leaving: &Leaving) {
        let Leaving { number, point, from, .. } = *leaving;
        let mut state = self.lock();
        state.account();
        state.under_way.push(Activation { part: number, point, from, ns: 0 });
        state.is_away = true;
    }

    /// The part has called where the guest came from.
    pub(crate) fn called_back(&self) {
        self.lock().change(false);
    }

    /// That call has returned.
    pub(crate) fn go_on(&self) {
        self.lock().change(true);
    }

    /// The activation has ended.
    pub(crate) fn come_back(&self) {
        self.lock().end();
    }

    /// The guest has come to a point in code of this tier.
    pub(crate) fn ask(&self, point: Point, tier: Tier) -> Told {
        let mut state = self.lock();
        let state = &mut *state;
        if let Some(part) = state.hook.as_mut().and_then(|hook| hook(point)) {
            state.add(part);
        }
        if let Some(look) = &mut state.look {
            let now = Instant::now();
            let is_first = look.since.is_none();
            look.since.get_or_insert(now);
            look.asks += 1;
            // Somewhere around that it may be worth it.
            if !state.ways.get(&point).is_some_and(|way| way.is_shut(tier)) {
                *look.seen.entry(point).or_default() += 1;
            }
            if is_first || look.asks >= LOOK_ASKS_MAX {
                self.changed.notify_all();
            }
        }
        match state.way(point, tier) {
            Some(way) => {
                let (number, entry) = (way.part, way.entry);
                Told::Leave(Leaving { number, part: state.parts[number].clone(), entry, point, from: tier })
            }
            None if state.look.as_ref().is_some_and(|look| look.asks < LOOK_ASKS_MAX) => Told::AskOn,
            None if state.hook.is_some() => Told::AskOn,
            None => Told::Stay,
        }
    }
}

/// How much of a module a part takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// What the loops around its points call.
    Hot,
    /// Every function.
    Whole,
}

/// A part of a module, compiled by one engine for guests that run on another.
#[derive(Clone)]
pub struct Part(pub(crate) Arc<dyn PartCode>);

impl Part {
    /// The engine that compiled it.
    #[must_use]
    pub fn engine(&self) -> EngineId {
        self.0.engine()
    }

    /// What kind of compiler that is.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.0.tier()
    }

    /// The points at which it can be entered.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        self.0.points()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("engine", &self.engine()).field("points", &self.points()).finish()
    }
}

/// What an engine makes of a part.
pub(crate) trait PartCode: Send + Sync {
    fn engine(&self) -> EngineId;
    fn tier(&self) -> Tier;
    fn points(&self) -> &[Point];

    /// An instance for a guest whose memory is `memory`, if it has one, with so many bytes by now.
    #[cfg(feature = "wasi")]
    fn begin(
        self: Arc<Self>,
        memory: Option<(Arc<Region>, usize)>,
        interrupt: &Interrupt,
        moves: &Arc<Moves>,
    ) -> Result<Box<dyn PartInstance>, EngineError>;
}

/// A part that a guest goes on in.
#[cfg(feature = "wasi")]
pub(crate) trait PartInstance: Send {
    /// Runs the rest of an activation whose locals are in `frame`, from the way in with the number `entry`, and leaves its
    /// results there. The guest is taken from `origin`, and is back there when this returns, whatever it returns.
    fn run(&mut self, entry: usize, frame: &mut [u8], origin: &mut dyn Origin) -> Result<(), Failure>;
}

/// The engine that a guest came from, as a part needs it.
#[cfg(feature = "wasi")]
pub(crate) trait Origin {
    fn take_guest(&mut self) -> Guest;
    fn put_guest(&mut self, guest: Guest);
    /// The values of all globals that can change, in the order of their indices.
    fn globals(&mut self) -> Vec<Value>;
    fn set_globals(&mut self, values: &[Value]);
    /// The size of the memory in bytes, as the origin knows it.
    fn memory_bytes(&mut self) -> usize;
    /// The part has been granted a memory of this size; nobody has written beyond the old one yet.
    fn grow_memory(&mut self, bytes: usize) -> bool;
    /// Whether another activation may go on elsewhere, in such code.
    fn can_move_to(&mut self, tier: Tier) -> bool;
    /// Has the rest of an activation that leaves a part go on in another one, as [`PartInstance::run`] does. The guest has
    /// been put back.
    fn go_on(&mut self, leaving: &Leaving, frame: &mut [u8]) -> Result<(), Failure>;
    /// Calls a function of the guest's module by its index there. The guest has been put back.
    fn call(&mut self, function: u32, args: &[Value], results: &mut Vec<Value>) -> Result<(), Failure>;
}

/// Why the rest of an activation did not return.
#[cfg(feature = "wasi")]
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The guest has ended.
    Ended(End),
    /// The engine broke.
    Engine(EngineError),
}
