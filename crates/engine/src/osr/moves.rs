//! What the thread that runs a guest shares with the threads that compile for it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
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

/// How long a guest is watched from the first point that it comes to. In a tenth of a millisecond an interpreter comes
/// to the heads of inner loops many times, and to that of an outer loop at least once if that is where the time goes. A
/// longer time makes moves later.
const LOOK_TIME: Duration = Duration::from_micros(100);
/// A point counts only if at least one in so many asks comes from it: a rare one is not worth compiling for, and its
/// part would take along all functions that it calls.
const RARE: u32 = 8;
/// The most asks in one look: each calls the host, which takes a tenth of a microsecond or two.
const LOOK_ASKS_MAX: u32 = 256;

/// The number of activations that have gone on in a part from the same point, after which it is decided whether taking
/// this way is worth it.
///
/// Source: chosen: some tens of microseconds of going to and fro. If this were smaller, a few short activations in a
/// row would shut a way that is worth taking; if it were larger, guests would lose that much more time before it is
/// shut.
const TRIAL: u32 = 64;
/// How long an activation that goes on in a part has to stay there on average, handing it over included, in
/// nanoseconds: if it came from an interpreter, and if it came from code of a one-pass compiler.
///
/// Source: measured: handing over and back takes 1.2 us, of which half counts as time in the part. Work that takes 0.2
/// us in better code takes 1.5 us in an interpreter, about as long as in better code with the handing over. The same
/// holds for work that takes 1.2 us in better code, and 2.5 us in one-pass code. If these times were shorter, guests
/// would go to and fro for nothing; if they were longer, guests would stay in slow code.
const STAY_NS_MIN: [u64; 2] = [800, 1_800];
/// How long a way is shut that is not worth taking.
///
/// Source: chosen: trying again costs a hundredth of that. If this were shorter, guests would go to and fro; if it were
/// longer, a function whose calls become longer would stay in slow code.
const SHUT_FOR: Duration = Duration::from_millis(10);

/// The moves of one guest. Two sides use them: the guest's own thread asks at the guest's points, and other threads
/// find out where the guest is, and offer parts in which it can go on.
#[derive(Default)]
pub struct Moves {
    /// Whether the guest has any reason to ask.
    is_wanted: AtomicBool,
    /// How often there has been a new reason.
    news: AtomicU32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    look: Option<Look>,
    parts: Vec<Part>,
    /// For each point from which a way leads into a part, the best such way.
    ways: HashMap<Point, Way>,
    /// For each part, how often the guest went on in it, and for how long.
    stays: Vec<Stay>,
    /// The activations that are under way in parts. Each was started by the one before, through the engine that the
    /// guest came from.
    under_way: Vec<Activation>,
    /// Whether the guest is in the last of these activations, and not in a function that this has called in the engine
    /// that the guest came from.
    is_away: bool,
    /// When the guest last went into a part or came out of one; `None` if it has never moved.
    since: Option<Instant>,
    /// Until when its time in parts has been added up.
    counted_until: Option<Instant>,
    /// The instances of parts that the guest can leave again, each by a number of its own.
    watched: BTreeMap<u64, Watched>,
    /// The number of the next one.
    watched_before: u64,
    /// Whether the guest has ended.
    is_over: bool,
    /// The hook that is called at every point, for tests that move a guest at a moment of their choice.
    hook: Option<Hook>,
}

/// A way into a part.
struct Way {
    /// The part's number.
    part: usize,
    /// The number of the entry into the part.
    entry: usize,
    /// The results of taking the way: from an interpreter, and from code of a one-pass compiler.
    from: [Taken; 2],
}

/// The results of taking a way, since it was last judged.
#[derive(Clone, Copy, Default)]
struct Taken {
    /// How many activations have gone this way and have ended.
    activations: u32,
    /// How long they were in the part altogether, in nanoseconds.
    ns: u64,
    /// Until when the way is shut, if it was not worth taking.
    shut_until: Option<Instant>,
}

/// An activation that has gone on in a part.
struct Activation {
    /// The part's number.
    part: usize,
    /// The point at which the activation left.
    point: Point,
    /// The kind of code that it left.
    from: Tier,
    /// How long it has been in the part, in nanoseconds.
    ns: u64,
}

/// The index in [`STAY_NS_MIN`] and [`Way::from`] for code of a tier from which guests leave. They do not leave the
/// best tier.
fn place(from: Tier) -> usize {
    usize::from(from != Tier::Interpreter)
}

/// A function that is told each point that the guest comes to, and may offer a part.
type Hook = Box<dyn FnMut(Point) -> Option<Part> + Send>;

impl State {
    /// Adds the time until `now` that was not counted yet to that of the part that the guest is in, if it is in one.
    fn count(&mut self, now: Instant) {
        let counted_until = self.counted_until.replace(now);
        if let (true, Some(until), Some(activation)) = (self.is_away, counted_until, self.under_way.last_mut()) {
            let took = u64::try_from(now.saturating_duration_since(until).as_nanos()).unwrap_or(u64::MAX);
            activation.ns = activation.ns.saturating_add(took);
            let stay = &mut self.stays[activation.part];
            stay.ns = stay.ns.saturating_add(took);
        }
    }

    /// Notes that the last activation in a part has ended, and judges the way that it took if it was the last of a
    /// trial.
    fn end(&mut self) {
        self.change(false);
        let Some(Activation { part, point, from, ns }) = self.under_way.pop() else { return };
        self.stays[part].activations += 1;
        // If there is a better way by now, there is nothing to judge.
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

    /// Notes that the guest goes into a part or comes out of one at this moment.
    fn pass(&mut self) {
        let now = Instant::now();
        self.count(now);
        self.since = Some(now);
    }

    /// Notes that the guest goes to the last of the activations in parts, or to the engine that it came from.
    fn change(&mut self, is_away: bool) {
        self.pass();
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

    /// The way from a point in code of this tier into a part, if the part is of a better tier and the way is not shut.
    fn way(&self, point: Point, tier: Tier) -> Option<&Way> {
        let way = self.ways.get(&point).filter(|way| self.parts[way.part].tier() > tier)?;
        (!way.is_shut(tier)).then_some(way)
    }

    /// Makes parts that the guest can leave ask at those exits where there is a reason to.
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
    /// Whether the way is shut for now from code of this tier, because it was not worth taking.
    fn is_shut(&self, tier: Tier) -> bool {
        self.from[place(tier)].shut_until.is_some_and(|until| Instant::now() < until)
    }
}

/// An instance of a part that its guest can leave.
struct Watched {
    tier: Tier,
    /// The points of its exits, in order.
    points: Arc<[Point]>,
    flags: Arc<dyn Flags>,
}

/// The flags that the code of such a part reads at its exits.
pub(crate) trait Flags: Send + Sync {
    /// Says whether the code is to ask at this exit.
    fn set(&self, exit: usize, asks: bool);
}

/// As long as this value lives, the part is told where to ask.
#[cfg(feature = "wasi")]
pub(crate) struct Watch {
    moves: Arc<Moves>,
    number: u64,
}

#[cfg(feature = "wasi")]
impl Drop for Watch {
    fn drop(&mut self) {
        self.moves.state.lock().watched.remove(&self.number);
    }
}

/// Where a guest runs at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The tier of the code that it runs: the interpreter's if it has never moved, has come back, or is in a function
    /// that a part has called there.
    pub tier: Tier,
    /// For how long it has run there; `None` if it has never moved.
    pub since: Option<Duration>,
}

/// An attempt to find out where a guest spends its time.
struct Look {
    /// When the guest came to the first point; `None` if it has not yet.
    since: Option<Instant>,
    /// How often it has asked since.
    asks: u32,
    /// How often it has asked at each point that counts.
    seen: BTreeMap<Point, u32>,
}

/// How much a guest ran in one engine's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    /// The engine that compiled the part.
    pub engine: EngineId,
    /// How many of the guest's activations went on in the part and have ended.
    pub activations: u64,
    /// How long the guest was in the part altogether, in nanoseconds, without calls back to the engine that it came
    /// from.
    pub ns: u64,
}

impl Moves {
    /// Finds out at which points the guest is spending its time, the most frequent first. Blocks for as long as that
    /// takes: until the guest comes to a point, and a little longer. Returns nothing if the guest ends before, or comes
    /// to no point within `patience`.
    #[must_use]
    pub fn find(&self, patience: Duration) -> Vec<Point> {
        let mut until = Instant::now() + patience;
        let mut state = self.state.lock();
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
            self.changed.wait_for(&mut state, left);
        }
        let seen = state.look.take().map(|look| look.seen).unwrap_or_default();
        self.is_wanted.store(!state.parts.is_empty(), Ordering::Release);
        state.tell_watched();
        let all: u32 = seen.values().sum();
        let mut points: Vec<(Point, u32)> = seen.into_iter().filter(|(_, asks)| asks * RARE >= all).collect();
        points.sort_by_key(|(point, asks)| (std::cmp::Reverse(*asks), *point));
        points.into_iter().map(|(point, _)| point).collect()
    }

    /// Offers a part: from now on the guest goes on in it when it comes to one of its points. If several parts have the
    /// same point, the latest of those of the best tier counts.
    pub fn offer(&self, part: Part) {
        self.state.lock().add(part);
        self.want();
    }

    /// Makes the guest ask `hook` at every point from now on.
    pub(crate) fn at_every_point(&self, hook: impl FnMut(Point) -> Option<Part> + Send + 'static) {
        let mut state = self.state.lock();
        state.hook = Some(Box::new(hook));
        state.tell_watched();
        self.want();
    }

    /// Notes that the guest has a new reason to ask.
    fn want(&self) {
        self.news.fetch_add(1, Ordering::Release);
        self.is_wanted.store(true, Ordering::Release);
    }

    /// Notes that the guest has ended, so that no thread goes on waiting for it.
    pub(crate) fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Whether the guest has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state.lock().is_over
    }

    /// Where the guest runs now.
    #[must_use]
    pub fn whereabouts(&self) -> Whereabouts {
        let state = self.state.lock();
        let activation = state.under_way.last().filter(|_| state.is_away);
        let tier = activation.map_or(Tier::Interpreter, |activation| state.parts[activation.part].tier());
        Whereabouts { tier, since: state.since.map(|since| since.elapsed()) }
    }

    /// The guest's stays in parts: those in which it went on, in the order in which they were offered.
    #[must_use]
    pub fn stays(&self) -> Vec<Stay> {
        let mut state = self.state.lock();
        if state.is_away {
            state.count(Instant::now());
        }
        state.stays.iter().copied().filter(|stay| stay.ns > 0).collect()
    }
}

impl fmt::Debug for Moves {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Moves").field("stays", &self.state.lock().stays).finish_non_exhaustive()
    }
}

/// The answer to a guest that asks at a point.
#[cfg(feature = "wasi")]
pub(crate) enum Told {
    /// The guest goes on where it is, and asks at the next point in any case.
    AskOn,
    /// The guest goes on where it is.
    Stay,
    /// The guest goes on in a part.
    Leave(Leaving),
}

/// What is known of an activation that leaves: the part in which it goes on, with its number among those offered and
/// the entry that is used, and the point and the tier of the code that it leaves.
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
    /// Whether the guest has any reason to ask. This is cheap enough to be called often.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Ordering::Acquire)
    }

    /// How often there has been a new reason to ask.
    pub(crate) fn news(&self) -> u32 {
        self.news.load(Ordering::Acquire)
    }

    /// Watches an instance of a part that guests can leave: as long as the returned value lives, `flags` are kept set
    /// so that the part asks at its exits, which are these points, whenever there is a reason to.
    pub(crate) fn watch(self: &Arc<Self>, tier: Tier, points: Arc<[Point]>, flags: Arc<dyn Flags>) -> Watch {
        let mut state = self.state.lock();
        let number = state.watched_before;
        state.watched_before += 1;
        state.watched.insert(number, Watched { tier, points, flags });
        state.tell_watched();
        Watch { moves: Arc::clone(self), number }
    }

    /// Notes that an activation leaves, to go on in a part.
    pub(crate) fn leave(&self, leaving: &Leaving) {
        let Leaving { number, point, from, .. } = *leaving;
        let mut state = self.state.lock();
        state.pass();
        state.under_way.push(Activation { part: number, point, from, ns: 0 });
        state.is_away = true;
    }

    /// Notes that the part has called a function in the engine that the guest came from.
    pub(crate) fn called_back(&self) {
        self.state.lock().change(false);
    }

    /// Notes that this call has returned to the part.
    pub(crate) fn go_on(&self) {
        self.state.lock().change(true);
    }

    /// Notes that the last activation in a part has ended.
    pub(crate) fn come_back(&self) {
        self.state.lock().end();
    }

    /// Answers the guest, which has come to a point in code of this tier.
    pub(crate) fn ask(&self, point: Point, tier: Tier) -> Told {
        let mut state = self.state.lock();
        let state = &mut *state;
        if let Some(part) = state.hook.as_mut().and_then(|hook| hook(point)) {
            state.add(part);
        }
        if let Some(look) = &mut state.look {
            let now = Instant::now();
            let is_first = look.since.is_none();
            look.since.get_or_insert(now);
            look.asks += 1;
            // A point whose way is shut does not count: moving at another point around it may be worth it.
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

/// How many functions of a module a part takes along.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extent {
    /// The functions that the loops around the part's points call.
    Hot,
    /// Every function of the module.
    Whole,
}

/// A part of a module, compiled by one engine for guests that run on another.
#[derive(Clone)]
pub struct Part(pub(crate) Arc<dyn PartCode>);

impl Part {
    /// The engine that compiled the part.
    #[must_use]
    pub fn engine(&self) -> EngineId {
        self.0.engine()
    }

    /// The tier of that engine.
    #[must_use]
    pub fn tier(&self) -> Tier {
        self.0.tier()
    }

    /// The points at which the part can be entered.
    #[must_use]
    pub fn points(&self) -> &[Point] {
        self.0.points()
    }

    /// The memory that the part's code takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.0.memory_bytes()
    }
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("engine", &self.engine()).field("points", &self.points()).finish()
    }
}

/// A part as an engine has compiled it.
pub(crate) trait PartCode: Send + Sync {
    fn engine(&self) -> EngineId;
    fn tier(&self) -> Tier;
    fn points(&self) -> &[Point];
    fn memory_bytes(&self) -> u64;

    /// Makes an instance for a guest. `memory` is the guest's memory and its current size in bytes, if it has one.
    #[cfg(feature = "wasi")]
    fn begin(
        self: Arc<Self>,
        memory: Option<(Arc<Region>, usize)>,
        interrupt: &Interrupt,
        moves: &Arc<Moves>,
    ) -> Result<Box<dyn PartInstance>, EngineError>;
}

/// An instance of a part, in which one guest goes on.
#[cfg(feature = "wasi")]
pub(crate) trait PartInstance: Send {
    /// Runs the rest of an activation whose locals are in `frame`, from the entry with the number `entry`, and leaves
    /// its results in `frame`. The guest is taken from `origin`, and is given back before this returns, even with an
    /// error.
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
    /// The size of the memory in bytes, as this engine knows it.
    fn memory_bytes(&mut self) -> usize;
    /// Makes the memory grow here, too. The part has been granted a memory of this size in bytes, and nothing has been
    /// written beyond the old size yet. Returns whether this succeeded.
    fn grow_memory(&mut self, bytes: usize) -> bool;
    /// Whether one more activation may go on in a part, in code of this tier.
    fn can_move_to(&mut self, tier: Tier) -> bool;
    /// Runs the rest of an activation that leaves a part in another part, as [`PartInstance::run`] does. The guest has
    /// to be put back before.
    fn go_on(&mut self, leaving: &Leaving, frame: &mut [u8]) -> Result<(), Failure>;
    /// Calls a function of the guest's module by its index there. The guest has to be put back before.
    fn call(&mut self, function: u32, args: &[Value], results: &mut Vec<Value>) -> Result<(), Failure>;
}

/// Why the rest of an activation did not return.
#[cfg(feature = "wasi")]
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The guest has ended.
    Ended(End),
    /// An engine failed.
    Engine(EngineError),
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl PartCode for Nothing {
        fn engine(&self) -> EngineId {
            EngineId::new("nothing")
        }

        fn tier(&self) -> Tier {
            Tier::Optimizing
        }

        fn points(&self) -> &[Point] {
            &[]
        }

        fn memory_bytes(&self) -> u64 {
            0
        }

        #[cfg(feature = "wasi")]
        fn begin(
            self: Arc<Self>,
            _: Option<(Arc<Region>, usize)>,
            _: &Interrupt,
            _: &Arc<Moves>,
        ) -> Result<Box<dyn PartInstance>, EngineError> {
            unreachable!("nobody runs it")
        }
    }

    #[test]
    fn how_long_a_guest_has_been_somewhere_does_not_depend_on_who_asks() {
        let (moves, part) = (Moves::default(), Part(Arc::new(Nothing)));
        moves.offer(part.clone());
        assert_eq!(moves.whereabouts(), Whereabouts { tier: Tier::Interpreter, since: None });
        moves.leave(&Leaving { number: 0, part, entry: 0, point: Point(0), from: Tier::Interpreter });
        let left = Instant::now();
        while moves.stays().iter().map(|stay| stay.ns).sum::<u64>() < 100_000 {}
        let at_least = left.elapsed();
        let whereabouts = moves.whereabouts();
        assert!(whereabouts.tier == Tier::Optimizing && whereabouts.since >= Some(at_least), "{whereabouts:?}");
        moves.called_back();
        let stays = moves.stays();
        assert_eq!(moves.whereabouts().tier, Tier::Interpreter);
        moves.go_on();
        moves.come_back();
        assert!(moves.stays()[0].ns >= stays[0].ns && moves.stays()[0].activations == 1);
    }
}
