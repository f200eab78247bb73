//! Measures what a decision costs among ten thousand functions, which are asked in an order that no cache foresees. The
//! target is at most two microseconds for deciding and learning together.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use remuda_model::{ArtifactState, EngineId, ModuleDigest, Observation, Outcome, Phases, Tier};
use remuda_scheduler::{
    Calibration, Candidate, FairQueue, Features, FunctionProfile, Load, Policy, Request, Scheduler, World,
};

const ENGINES: [(EngineId, Tier); 4] = [
    (EngineId::new("one"), Tier::Baseline),
    (EngineId::new("two"), Tier::Baseline),
    (EngineId::new("three"), Tier::Optimizing),
    (EngineId::new("four"), Tier::Interpreter),
];
const FUNCTIONS: usize = 10_000;

fn observation(engine: EngineId, execute_ns: u64) -> Observation {
    Observation {
        module: ModuleDigest::from_bytes([0; 32]),
        engine,
        phases: Phases { instantiate_ns: 10_000, execute_ns, ..Phases::default() },
        artifact: ArtifactState::InMemory,
        workload: 0,
        input_bytes: Some(1024),
        output_bytes: 0,
        outcome: Outcome::Returned,
        unix_ms: 0,
    }
}

fn decision(criterion: &mut Criterion) {
    let candidates = ENGINES.map(|(engine, tier)| Candidate {
        engine,
        tier,
        artifact: ArtifactState::InMemory,
        making_since_ns: None,
        goes_on_in: None,
    });
    let request = Request { input_bytes: Some(1024), candidates: &candidates, may_race: true, can_move: false };
    let calibration = Calibration::default();
    let world = |now_ns| World { calibration: &calibration, load: Load::idle(8), now_ns };
    let features = Features { code_bytes: 100_000, functions: 100, loops: 50 };
    let mut functions: Vec<Scheduler> =
        vec![Scheduler::new(Policy::Hedged, features, FunctionProfile::default()); FUNCTIONS];
    for (i, function) in (0_u64..).zip(&mut functions) {
        for times in 0..3 {
            for (engine, _) in ENGINES {
                function.observe(&observation(engine, 100_000 + i * 100 + times), &candidates, &world(0));
            }
        }
    }
    // A full period of a linear congruence (Hull and Dobell 1962), modulo a power of two; numbers beyond the functions
    // are skipped.
    let mut at = 0_usize;
    let mut next = || {
        loop {
            at = (at * 5 + 4_093) % 16_384;
            if at < FUNCTIONS {
                return at;
            }
        }
    };
    let mut now_ns = 0;
    criterion.bench_function("10,000 functions/decide", |bencher| {
        bencher.iter(|| functions[next()].decide(black_box(&request), &world(1)));
    });
    let seen = observation(ENGINES[2].0, 150_000);
    criterion.bench_function("10,000 functions/arrived, decide, observe, tier up", |bencher| {
        bencher.iter(|| {
            now_ns += 100_000;
            let function = &mut functions[next()];
            function.arrived(now_ns);
            let decision = function.decide(black_box(&request), &world(now_ns));
            function.observe(black_box(&seen), &candidates, &world(now_ns));
            (decision, function.tier_up(&candidates, &world(now_ns)))
        });
    });
    criterion.bench_function("fair queue/push and pop among 1,000", |bencher| {
        let mut queue = FairQueue::new(usize::MAX);
        for i in 0..1_000_u64 {
            let _ = queue.push(i % 50, 1_000_000 * (1 + i % 7), i);
        }
        bencher.iter(|| {
            let (key, item) = queue.pop()?;
            queue.push(key, 1_000_000 * (1 + item % 7), item).ok()
        });
    });
}

criterion_group!(benches, decision);
criterion_main!(benches);
