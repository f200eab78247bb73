//! Between requests: what to have in memory when the next request comes, and from when until when.
//!
//! Where the idle times between a function's requests have a pattern ([`Arrivals`](crate::Arrivals)), the next request
//! is expected within a window. Before the window begins, an artifact is loaded: that of the engine that would be
//! chosen if everything that is on disk were in memory. Where better code is expected to pay by then, it is compiled.
//! Getting ready begins earlier by twice the time that it takes, as an artifact that is late helps nobody.
//!
//! Without a pattern nothing is done ahead: what is worth keeping in memory is then decided by use, not by guesses.

use remuda_model::{ArtifactState, EngineId};

use crate::nanoseconds::as_ns;
use crate::scheduler::is_ready;
use crate::tuning::{PREWARM_LOOK_AGAIN_NS, PREWARM_MARGIN};
use crate::{Candidate, Request, Scheduler, TierUp, World};

/// An engine to have ready for the next request, and when.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prewarm {
    /// The engine that the request is expected to run on.
    pub engine: EngineId,
    /// The time to begin, on the clock of [`World::now_ns`]. A time in the past means now.
    pub at_ns: u64,
    /// Until when the request is expected; after that the memory is better used for other functions.
    pub until_ns: u64,
    /// How to get the engine ready.
    pub how: PrewarmHow,
}

/// How to have an engine ready for the next request.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PrewarmHow {
    /// The engine is ready now, but may not be any more at [`Prewarm::at_ns`].
    Keep,
    /// By loading the engine's artifact.
    Load,
    /// By compiling, which is expected to pay.
    Compile(TierUp),
}

/// What to do for the next request now, and when to look again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PrewarmLook {
    /// The engine to load or compile at once.
    pub todo: Option<Prewarm>,
    /// The time of the next look, on the clock of [`World::now_ns`]; `None` if nothing is to be expected until the next
    /// request.
    pub again_at_ns: Option<u64>,
}

/// The engine that a request would run on if all artifacts that are on disk were in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Favourite {
    /// The engine.
    pub engine: EngineId,
    /// How long requests like those that were observed would wait for the engine to get ready, each on its own, in
    /// nanoseconds: the more, the sooner it should be made ready.
    pub worth_ns: f64,
}

pub(crate) fn favourite(scheduler: &Scheduler, candidates: &[Candidate], world: &World<'_>) -> Option<Favourite> {
    let loaded: Vec<Candidate> = candidates
        .iter()
        .map(|candidate| match candidate.artifact {
            ArtifactState::OnDisk => {
                Candidate { artifact: ArtifactState::InMemory, making_since_ns: None, ..*candidate }
            }
            ArtifactState::InMemory | ArtifactState::Absent => *candidate,
        })
        .collect();
    // Races are for engines that are not ready.
    let request = Request { input_bytes: None, candidates: &loaded, may_race: false, can_move: false };
    let engine = scheduler.clone().decide(&request, world).ok()?.engine;
    let candidate = candidates.iter().find(|candidate| candidate.engine == engine)?;
    let requests = 1 + scheduler.profile.engine(engine).map_or(0, |profile| profile.execute.count());
    let ready_ns = scheduler.profile.predict(candidate, None, 1, &scheduler.evidence(candidates, world)).ready_ns;
    Some(Favourite { engine, worth_ns: requests as f64 * ready_ns as f64 })
}

pub(crate) fn decide(scheduler: &Scheduler, candidates: &[Candidate], world: &World<'_>) -> Option<Prewarm> {
    let window = scheduler.arrivals.prewarm_window(world.now_ns)?;
    let evidence = scheduler.evidence(candidates, world);
    let before = |ns: u64| window.start.saturating_sub(ns.saturating_mul(PREWARM_MARGIN));
    let ready = favourite(scheduler, candidates, world)
        .and_then(|favourite| candidates.iter().find(|candidate| candidate.engine == favourite.engine))
        .and_then(|candidate| {
            let on_disk = Candidate { artifact: ArtifactState::OnDisk, making_since_ns: None, ..*candidate };
            let how = match candidate.artifact {
                ArtifactState::InMemory => PrewarmHow::Keep,
                ArtifactState::OnDisk => PrewarmHow::Load,
                // The request would compile it, or `better` below does.
                ArtifactState::Absent => return None,
            };
            let load_ns = scheduler.profile().predict(&on_disk, None, 1, &evidence).ready_ns;
            Some(Prewarm { engine: candidate.engine, at_ns: before(load_ns), until_ns: window.end, how })
        });
    // Whether a compile will pay is judged for the time when the request is near.
    let near = World { now_ns: window.start.max(world.now_ns), ..*world };
    let better = scheduler.tier_up(candidates, &near).and_then(|tier_up| {
        let candidate =
            candidates.iter().find(|candidate| candidate.engine == tier_up.engine && !is_ready(candidate))?;
        let (how, price_ns) = match candidate.artifact {
            ArtifactState::Absent => {
                let compile_ns = scheduler.profile().compile_ns(candidate, 1, &evidence);
                (PrewarmHow::Compile(tier_up), as_ns(compile_ns))
            }
            ArtifactState::OnDisk | ArtifactState::InMemory => {
                (PrewarmHow::Load, scheduler.profile().predict(candidate, None, 1, &evidence).ready_ns)
            }
        };
        Some(Prewarm { engine: tier_up.engine, at_ns: before(price_ns), until_ns: window.end, how })
    });
    // The engine that has to begin first comes first; the rest is asked for after that. Keeping is no work.
    let is_work = |prewarm: &&Prewarm| !matches!(prewarm.how, PrewarmHow::Keep);
    [better, ready].iter().flatten().filter(is_work).min_by_key(|prewarm| prewarm.at_ns).copied().or(ready)
}

pub(crate) fn look(scheduler: &Scheduler, candidates: &[Candidate], world: &World<'_>) -> PrewarmLook {
    let now_ns = world.now_ns;
    let soon_ns = now_ns.saturating_add(PREWARM_LOOK_AGAIN_NS);
    let Some(prewarm) = decide(scheduler, candidates, world) else {
        // The function has no pattern, or not yet; or it has one, and the request did not come.
        let is_recent = |last_ns: &u64| now_ns.saturating_sub(*last_ns) < PREWARM_LOOK_AGAIN_NS;
        return PrewarmLook {
            todo: None,
            again_at_ns: scheduler.arrivals.last_ns().filter(is_recent).map(|_| soon_ns),
        };
    };
    if now_ns < prewarm.at_ns {
        return PrewarmLook { todo: None, again_at_ns: Some(prewarm.at_ns) };
    }
    let (todo, again_at_ns) = match prewarm.how {
        PrewarmHow::Keep => (None, prewarm.until_ns.max(soon_ns)),
        PrewarmHow::Load => (Some(prewarm), prewarm.until_ns.max(soon_ns)),
        // There may be something to load beside the compile.
        PrewarmHow::Compile(_) => (Some(prewarm), soon_ns),
    };
    PrewarmLook { todo, again_at_ns: Some(again_at_ns) }
}

#[cfg(test)]
mod tests {
    use remuda_model::{ModuleDigest, Observation, Outcome, Phases, Tier};

    use super::*;
    use crate::{Calibration, Features, FunctionProfile, Load, Policy};

    const MS: u64 = 1_000_000;
    const S: u64 = 1000 * MS;
    const FAST: EngineId = EngineId::new("fast");
    const SLOW: EngineId = EngineId::new("slow");

    fn candidates(fast: ArtifactState, slow: ArtifactState) -> [Candidate; 2] {
        [(FAST, Tier::Optimizing, fast), (SLOW, Tier::Interpreter, slow)].map(|(engine, tier, artifact)| Candidate {
            engine,
            tier,
            artifact,
            making_since_ns: None,
            goes_on_in: None,
        })
    }

    fn observation(engine: EngineId, phases: Phases) -> Observation {
        Observation {
            module: ModuleDigest::from_bytes([0; 32]),
            workload: 0,
            engine,
            phases,
            artifact: ArtifactState::InMemory,
            input_bytes: None,
            output_bytes: 0,
            outcome: Outcome::Returned,
            unix_ms: 0,
        }
    }

    /// A function that is known on `engines` and was called with these idle times, and the time of its last call.
    fn scheduler(idle_ns: &[u64], engines: &[(EngineId, u64)]) -> (Scheduler, u64) {
        let mut profile = FunctionProfile::default();
        for (engine, execute_ns) in engines {
            let phases =
                Phases { compile_ns: 100 * MS, load_ns: 3 * MS, instantiate_ns: MS / 100, ..Phases::default() };
            for _ in 0..5 {
                profile.observe(&observation(*engine, Phases { execute_ns: *execute_ns, ..phases }));
            }
        }
        let features = Features { code_bytes: 1_000_000, ..Features::default() };
        let mut scheduler = Scheduler::new(Policy::Hedged, features, profile);
        let mut now_ns = S;
        scheduler.arrived(now_ns);
        for idle_ns in idle_ns {
            now_ns += idle_ns;
            scheduler.arrived(now_ns);
        }
        (scheduler, now_ns)
    }

    fn decide(scheduler: &Scheduler, candidates: &[Candidate], now_ns: u64) -> Option<Prewarm> {
        let calibration = Calibration::default();
        super::decide(scheduler, candidates, &World { calibration: &calibration, load: Load::idle(2), now_ns })
    }

    use ArtifactState::{Absent, InMemory, OnDisk};

    #[test]
    fn the_better_artifact_is_loaded_before_the_window_and_kept_until_its_end() {
        let (scheduler, last_ns) = scheduler(&[60 * S; 20], &[(FAST, 10 * MS), (SLOW, 80 * MS)]);
        let window = scheduler.arrivals().prewarm_window(last_ns).unwrap();
        let found = decide(&scheduler, &candidates(OnDisk, InMemory), last_ns).unwrap();
        assert_eq!((found.engine, found.how, found.until_ns), (FAST, PrewarmHow::Load, window.end));
        assert_eq!(found.at_ns, window.start - PREWARM_MARGIN * 3 * MS, "as early as loading takes, twice");
        assert!(window.contains(&(last_ns + 60 * S)));
        // The decision stands while the window lasts, and ends with it.
        assert_eq!(decide(&scheduler, &candidates(OnDisk, InMemory), window.end - 1), Some(found));
        assert_eq!(decide(&scheduler, &candidates(OnDisk, InMemory), window.end), None);
    }

    #[test]
    fn what_is_ready_is_only_looked_after() {
        let (scheduler, last_ns) = scheduler(&[60 * S; 20], &[(FAST, 10 * MS), (SLOW, 80 * MS)]);
        let found = decide(&scheduler, &candidates(InMemory, OnDisk), last_ns).unwrap();
        assert_eq!((found.engine, found.how), (FAST, PrewarmHow::Keep));
        assert!(found.at_ns > last_ns + 30 * S);
    }

    #[test]
    fn without_a_pattern_nothing_is_done_ahead() {
        let spread: Vec<u64> = (0..25).map(|octave| MS << octave).collect();
        for (why, idle_ns) in [("too few", &[60 * S; 3][..]), ("no pattern", &spread), ("called once", &[])] {
            let (scheduler, last_ns) = scheduler(idle_ns, &[(FAST, 10 * MS), (SLOW, 80 * MS)]);
            assert_eq!(decide(&scheduler, &candidates(OnDisk, Absent), last_ns), None, "{why}");
        }
    }

    #[test]
    fn nothing_is_compiled_that_does_not_pay() {
        // The function is called once a minute, and there is little to gain: the interpreter will do.
        let (scheduler, last_ns) = scheduler(&[60 * S; 20], &[(SLOW, 2 * MS)]);
        let found = decide(&scheduler, &candidates(Absent, InMemory), last_ns).unwrap();
        assert_eq!((found.engine, found.how), (SLOW, PrewarmHow::Keep));
    }

    #[test]
    fn what_pays_is_compiled_before_the_request() {
        let (mut scheduler, mut last_ns) = scheduler(&[60 * S; 20], &[(SLOW, 800 * MS), (FAST, 10 * MS)]);
        let calibration = Calibration::default();
        let candidates = candidates(Absent, InMemory);
        assert_eq!(decide(&scheduler, &candidates, last_ns), None, "nothing was lost yet: a request would compile it");
        let phases = Phases { execute_ns: 800 * MS, instantiate_ns: MS, ..Phases::default() };
        last_ns += 60 * S;
        scheduler.arrived(last_ns);
        let world = World { calibration: &calibration, load: Load::idle(2), now_ns: last_ns };
        scheduler.observe(&observation(SLOW, phases), &candidates, &world);
        let found = decide(&scheduler, &candidates, last_ns).unwrap();
        assert!(matches!(found.how, PrewarmHow::Compile(_)) && found.engine == FAST, "{found:?}");
        let window = scheduler.arrivals().prewarm_window(last_ns).unwrap();
        assert_eq!(found.at_ns, window.start - PREWARM_MARGIN * 100 * MS);
    }

    #[test]
    fn at_start_the_favourite_is_what_would_run_were_everything_loaded() {
        let calibration = Calibration::default();
        let world = World { calibration: &calibration, load: Load::idle(2), now_ns: 0 };
        let (known, _) = scheduler(&[], &[(FAST, 10 * MS), (SLOW, 80 * MS)]);
        let favourite = |fast, slow| known.favourite(&candidates(fast, slow), &world).unwrap();
        assert_eq!(favourite(OnDisk, InMemory).engine, FAST);
        assert!((favourite(OnDisk, Absent).worth_ns / (6 * 3 * MS) as f64 - 1.0).abs() < 1e-9);
        assert!(favourite(InMemory, Absent).worth_ns <= 0.0, "there is nothing to do");
        assert_eq!(favourite(Absent, InMemory).engine, SLOW, "a compile is no load");
        assert_eq!(known.favourite(&[], &world), None);
    }

    #[test]
    fn a_policy_of_one_engine_prewarms_that_one() {
        let (scheduler, last_ns) = scheduler(&[60 * S; 20], &[(FAST, 10 * MS), (SLOW, 80 * MS)]);
        let scheduler = Scheduler { policy: Policy::Single(SLOW), ..scheduler };
        let found = decide(&scheduler, &candidates(OnDisk, OnDisk), last_ns).unwrap();
        assert_eq!((found.engine, found.how), (SLOW, PrewarmHow::Load));
    }
}
