//! Events in any order: what must hold is checked by books that are kept apart from the state machine, and that know
//! nothing of its phases.

use std::collections::{HashMap, HashSet};

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use remuda_model::{ArtifactState, Tier};

use super::*;
use crate::testing::{Case, HOUR, MS};
use crate::{Load, Policy};

const ENGINES: [EngineId; 6] = [
    EngineId::new("a"),
    EngineId::new("b"),
    EngineId::new("c"),
    EngineId::new("d"),
    EngineId::new("e"),
    EngineId::new("f"),
];

/// An engine, as the driver of a flight sees it.
#[derive(Clone, Copy, Debug)]
struct Running {
    entered_ns: u64,
    is_running: bool,
    is_told: bool,
}

/// The promises that must hold, checked event by event.
struct Books {
    flight: Flight,
    is_held: bool,
    now_ns: u64,
    /// Engines that were started and have not ended.
    running: HashMap<EngineId, Running>,
    /// Engines that were told to stop, have run, or have failed.
    spent: HashSet<EngineId>,
    /// The engine that has to answer now, because its guest has ended and no other guest ended before.
    must_win: Option<EngineId>,
    /// Whether no engine may begin any more.
    is_over: bool,
    is_interrupted: bool,
    opened: Vec<EngineId>,
    delivering: Option<EngineId>,
    conclusions: Vec<EngineId>,
    earned_ns: Vec<u64>,
    spent_ns: u64,
    lost_ns: u64,
    seen: HashSet<&'static str>,
}

impl Books {
    fn new(first: EngineId, look_after_ns: Option<u64>, is_held: bool) -> Self {
        let entered = Running { entered_ns: 0, is_running: false, is_told: false };
        Self {
            flight: Flight::new(first, look_after_ns, is_held),
            is_held,
            now_ns: 0,
            running: HashMap::from([(first, entered)]),
            spent: HashSet::new(),
            must_win: None,
            is_over: false,
            is_interrupted: false,
            opened: Vec::new(),
            delivering: None,
            conclusions: Vec::new(),
            earned_ns: Vec::new(),
            spent_ns: 0,
            lost_ns: 0,
            seen: HashSet::new(),
        }
    }

    fn happens(&mut self, case: &Case, event: Event) {
        let mut has_ended = None;
        match event {
            Event::Ended { engine, how } => {
                if let Some(running) = self.running.remove(&engine) {
                    has_ended = Some(engine);
                    self.spent.insert(engine);
                    self.lost_ns += self.now_ns - running.entered_ns;
                }
                let is_first_answer = has_ended.is_some() && how == End::Answered && !self.is_over;
                self.must_win = (is_first_answer && self.opened.is_empty()).then_some(engine);
            }
            Event::Interrupted(_) => {
                self.is_interrupted |= !self.is_over;
                self.is_over = true;
            }
            Event::Closed => {
                self.is_over = true;
                if let Some(Ending::Answered { engine, .. }) = self.flight.ending() {
                    self.conclude(engine);
                }
            }
            Event::Delivered => self.delivering = None,
            Event::Look { .. } | Event::Moves { .. } | Event::Ready { .. } => {}
        }
        let actions = self.flight.on(event, self.now_ns, case);
        for action in &actions {
            self.check(event, *action, has_ended, &actions);
        }
        if let Some(engine) = self.must_win.take() {
            let is_answer = matches!(self.flight.ending(), Some(Ending::Answered { engine: by, .. }) if by == engine);
            assert!(is_answer || self.delivering == Some(engine), "{engine} was the first to answer: {actions:?}");
        }
        if event == Event::Closed {
            assert!(self.running.values().all(|running| running.is_told), "some go on for nobody: {:?}", self.running);
        }
        if let Event::Ready { engine, .. } = event
            && self.running.get(&engine).is_some_and(|running| !running.is_running)
        {
            panic!("{engine} is ready and was told neither to run nor to go: {actions:?}");
        }
    }

    fn check(&mut self, event: Event, action: Action, has_ended: Option<EngineId>, actions: &[Action]) {
        let is_ready = |engine| matches!(event, Event::Ready { engine: ready, .. } if ready == engine);
        let now_ns = self.now_ns;
        match action {
            Action::Start(engine) => {
                self.seen.insert("start");
                assert!(!self.is_over && self.opened.is_empty(), "{engine} is started after the end");
                assert!(!matches!(event, Event::Moves { .. }), "{engine} joins a guest that moves");
                assert!(!self.spent.contains(&engine), "{engine} comes back");
                let entered = Running { entered_ns: now_ns, is_running: false, is_told: false };
                assert!(self.running.insert(engine, entered).is_none(), "{engine} is started twice");
            }
            Action::Run(engine) => {
                self.seen.insert("run");
                assert!(is_ready(engine) && !self.is_over, "{engine} runs");
                let running = self.running.get_mut(&engine).unwrap();
                assert!(!running.is_told && !running.is_running, "{engine} runs: {running:?}");
                running.is_running = true;
                self.spent.insert(engine);
            }
            Action::Dismiss(engine) => {
                self.seen.insert("dismiss");
                assert!(is_ready(engine));
                let running = self.running.remove(&engine).unwrap();
                assert!(!running.is_running);
                self.lost_ns += now_ns - running.entered_ns;
            }
            Action::Stop(engine, _) => {
                self.seen.insert("stop");
                let running = self.running.get_mut(&engine).expect("it has not ended");
                assert!(!running.is_told, "{engine} is told twice");
                running.is_told = true;
                self.spent.insert(engine);
            }
            Action::OpenGate(engine) => {
                self.seen.insert("open");
                assert!(self.is_held);
                self.opened.push(engine);
                assert_eq!(self.opened.len(), 1, "two gates are open, or one twice: {:?}", self.opened);
            }
            Action::Deliver(engine) => {
                self.seen.insert("deliver");
                assert_eq!(has_ended, Some(engine));
                assert!(!self.is_interrupted, "why a request was interrupted is said by who took it");
                self.delivering = Some(engine);
                self.conclude(engine);
            }
            Action::Earn(ns) => {
                let engine = has_ended.expect("only who has ended has earned");
                self.earned_ns.push(ns);
                self.lost_ns -= ns;
                self.is_over = true;
                assert!(actions.contains(&Action::GiveUpCompiles), "{engine}: {actions:?}");
            }
            Action::Spend(ns) => self.spent_ns += ns,
            Action::GiveUpCompiles => {}
        }
    }

    fn conclude(&mut self, engine: EngineId) {
        self.conclusions.push(engine);
        assert_eq!(self.conclusions.len(), 1, "it is answered twice: {:?}", self.conclusions);
    }
}

/// A random state of the host, and of what is known.
fn case(random: &mut Pcg64Mcg) -> Case {
    let mut case = Case::new(Policy::Hedged, random.random_range(1..=8));
    let engines = random.random_range(1..=ENGINES.len());
    let tiers = [Tier::Interpreter, Tier::Baseline, Tier::Optimizing];
    case.candidates = ENGINES[..engines]
        .iter()
        .map(|engine| Candidate {
            engine: *engine,
            tier: tiers[random.random_range(0..3)],
            artifact: ArtifactState::Absent,
            making_since_ns: None,
            goes_on_in: None,
        })
        .collect();
    for _ in 0..random.random_range(0..6) {
        let engine = ENGINES[random.random_range(0..engines)];
        case.observe(engine, 1 << random.random_range(14..34));
    }
    case
}

/// Lets the world go on: time, load, budget.
fn turn(case: &mut Case, books: &mut Books, random: &mut Pcg64Mcg) {
    books.now_ns += if random.random_bool(0.3) { 0 } else { 1 << random.random_range(10..30) };
    case.now_ns = HOUR + books.now_ns;
    let cores = case.load.cores;
    let (waiting, may_waste) = (random.random_range(0..2), random.random_bool(0.8));
    case.load = Load { cores, busy: random.random_range(0..=cores), waiting, may_waste };
    for candidate in &mut case.candidates {
        let running = books.running.get(&candidate.engine);
        let is_ready = running.is_some_and(|running| running.is_running) || random.random_bool(0.1);
        candidate.artifact = if is_ready { ArtifactState::InMemory } else { ArtifactState::Absent };
        candidate.making_since_ns = running.filter(|_| !is_ready).map(|running| HOUR + running.entered_ns);
    }
}

/// An event that may happen now, sensible or not.
fn event(books: &Books, random: &mut Pcg64Mcg) -> Event {
    let wanted = [Wanted::Nothing, Wanted::Nothing, Wanted::Something, Wanted::Needed][random.random_range(0..4)];
    let mut running: Vec<(EngineId, Running)> = books.running.iter().map(|(id, running)| (*id, *running)).collect();
    // The order of a map does not follow from the seed.
    running.sort_by_key(|(engine, _)| engine.as_str());
    match random.random_range(0..100) {
        0..10 => Event::Moves { wanted },
        10..40 => Event::Look { wanted },
        40..43 => Event::Interrupted(Cause::Deadline),
        43..45 => Event::Delivered,
        45 => Event::Closed,
        // The engine need not be in the race.
        46..49 => Event::Ended { engine: ENGINES[random.random_range(0..ENGINES.len())], how: End::Unready },
        _ if running.is_empty() => Event::Look { wanted },
        _ => {
            let (engine, state) = running[random.random_range(0..running.len())];
            match (state.is_running, random.random_range(0..10)) {
                (false, 0..7) => Event::Ready { engine, made: random.random_bool(0.7) },
                (false, 7) => Event::Ended { engine, how: End::Failed },
                (false, 8) => Event::Ended { engine, how: End::Broke },
                (false, _) => Event::Ended { engine, how: End::Unready },
                (true, 0) => Event::Ended { engine, how: End::Broke },
                (true, 1) => Event::Ended { engine, how: End::Failed },
                (true, 2 | 3) => Event::Ended { engine, how: End::Answered },
                (true, _) if state.is_told => Event::Ended { engine, how: End::Stopped },
                (true, _) => Event::Look { wanted },
            }
        }
    }
}

fn run(seed: u64) -> (Books, Option<Ending>) {
    let mut random = Pcg64Mcg::new(u128::from(seed) << 64 | 0xcafe_f00d_d15e_a5e5);
    let mut case = case(&mut random);
    let first = case.candidates[random.random_range(0..case.candidates.len())].engine;
    let look_after_ns = random.random_bool(0.9).then(|| random.random_range(0..4) * MS);
    let mut books = Books::new(first, look_after_ns, random.random_bool(0.5));
    for _ in 0..random.random_range(0..60) {
        turn(&mut case, &mut books, &mut random);
        let event = event(&books, &mut random);
        let is_early = event == Event::Delivered && books.delivering.is_none();
        if !is_early {
            books.happens(&case, event);
        }
    }
    // All engines come to their end, told to stop or not.
    while let Some(engine) = books.running.keys().min_by_key(|engine| engine.as_str()).copied() {
        turn(&mut case, &mut books, &mut random);
        let how = if books.running[&engine].is_told { End::Stopped } else { End::Broke };
        books.happens(&case, Event::Ended { engine, how });
    }
    if books.delivering.is_some() {
        books.happens(&case, Event::Delivered);
    }
    let ending = books.flight.ending();
    books.happens(&case, Event::Closed);
    (books, ending)
}

#[test]
fn whatever_the_order_one_answer_is_delivered_and_nobody_is_left_behind() {
    let (mut seen, mut endings) = (HashSet::new(), HashMap::<&str, usize>::new());
    for seed in 0..20_000 {
        let (books, ending) = run(seed);
        assert!(books.flight.engines().next().is_none() && books.flight.look_at_ns().is_none(), "seed {seed}");
        let (name, answers) = match ending {
            Some(Ending::Answered { cause: None, .. }) => ("answered", 1),
            Some(Ending::Answered { cause: Some(_), .. }) => ("interrupted", 1),
            Some(Ending::Delivered { .. }) => ("delivered", 1),
            Some(Ending::Unanswered) => ("unanswered", 0),
            // The flight was closed in the middle.
            None => ("closed", books.conclusions.len()),
        };
        *endings.entry(name).or_default() += 1;
        assert_eq!(books.conclusions.len(), answers, "seed {seed}: {ending:?}");
        assert!(books.earned_ns.len() <= 1 && books.earned_ns.len() >= answers, "seed {seed}");
        assert!(books.spent_ns >= books.lost_ns, "seed {seed}: losers are not accounted for");
        seen.extend(books.seen);
    }
    // Each action and each ending must have occurred, or the checks above mean nothing.
    assert_eq!(seen.len(), 6, "{seen:?}");
    assert_eq!(endings.len(), 5, "{endings:?}");
    assert!(endings.values().all(|count| *count > 100), "{endings:?}");
}
