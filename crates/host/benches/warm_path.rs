//! The warm path on a function that does nothing: from a call to its answer, artifact in memory, on each engine.
//!
//! `mock` runs nothing at all: its row is what the host itself costs.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use remuda_host::{Abi, Call, FunctionSpec, Host, HostConfig};
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits};
use remuda_scheduler::Policy;

fn function() -> FunctionSpec {
    FunctionSpec {
        name: "noop".into(),
        route: "/noop".into(),
        module: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/noop/noop.wasm"),
        abi: Abi::Stdio,
        engines: None,
        args: Vec::new(),
        env: Vec::new(),
        preopens: Vec::new(),
        limits: GuestLimits::default(),
        body_bytes_max: 0,
        content_type: String::new(),
    }
}

fn warm_path(criterion: &mut Criterion) {
    let known: Vec<_> =
        remuda_engine::Registry::default().known().filter(|known| known.is_built()).map(|known| known.id).collect();
    let mut group = criterion.benchmark_group("warm no-op");
    for engine in known {
        let host = Host::open(&HostConfig {
            data_dir: None,
            policy: Policy::Single(engine),
            workers: 0,
            queue_max: 0,
            module_limits: ModuleLimits::default(),
            memory_budget_bytes: remuda_host::ARTIFACT_MEMORY_BYTES_DEFAULT,
            disk_budget_bytes: remuda_host::ARTIFACT_DISK_BYTES_DEFAULT,
        })
        .expect("a host without a data directory opens");
        let function = host.deploy(function(), Some(&Entry::Command)).expect("the no-op runs everywhere");
        let call = Call {
            id: host.next_request_id(),
            entry: Entry::Command,
            context: GuestContext { args: vec!["noop".into()], ..GuestContext::default() },
            limits: GuestLimits::default(),
        };
        group.bench_function(engine.as_str(), |bencher| {
            bencher.iter(|| {
                let answer = host.call(&function, black_box(&call), &Interrupt::new()).expect("it runs");
                assert!(answer.outcome.is_success(), "{}", answer.outcome);
                answer
            });
        });
    }
    group.finish();
}

criterion_group!(benches, warm_path);
criterion_main!(benches);
