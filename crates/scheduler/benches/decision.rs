//! What a decision costs, by what is known of the function.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use remuda_model::{ArtifactState, EngineId, ModuleDigest, Observation, Outcome, Phases};
use remuda_scheduler::{Candidate, Cost, FunctionProfile, Policy, Request, Scheduler};

const ENGINES: [EngineId; 6] = [
    EngineId::new("one"),
    EngineId::new("two"),
    EngineId::new("three"),
    EngineId::new("four"),
    EngineId::new("five"),
    EngineId::new("six"),
];

fn observation(engine: EngineId, execute_ns: u64) -> Observation {
    Observation {
        module: ModuleDigest::from_bytes([0; 32]),
        engine,
        phases: Phases { compile_ns: 1_000_000, instantiate_ns: 10_000, execute_ns, ..Phases::default() },
        artifact: ArtifactState::Absent,
        input_bytes: 0,
        output_bytes: 0,
        outcome: Outcome::Returned,
        unix_ms: 0,
    }
}

fn decision(criterion: &mut Criterion) {
    let candidates = ENGINES.map(|engine| Candidate { engine, artifact: ArtifactState::InMemory, cost: Cost::Native });
    let request = Request { input_bytes: Some(1024), candidates: &candidates };
    let mut learned = Scheduler::new(Policy::Profile, FunctionProfile::default());
    for (i, engine) in ENGINES.into_iter().enumerate() {
        learned.observe(&observation(engine, 1_000 * (i as u64 + 1)));
    }
    criterion.bench_function("decide/six engines, all measured", |bencher| {
        bencher.iter(|| learned.decide(black_box(&request)));
    });
    criterion.bench_function("observe", |bencher| {
        let seen = observation(ENGINES[2], 1_500);
        bencher.iter(|| learned.observe(black_box(&seen)));
    });
}

criterion_group!(benches, decision);
criterion_main!(benches);
