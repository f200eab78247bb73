//! Measures the warm path on a function that does nothing: from a call to its answer, with the artifact in memory, on
//! each engine.
//!
//! The engine `mock` runs nothing at all: its row is what the host itself costs.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use remuda_host::{Call, FunctionSpec, Host, HostConfig};
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt};
use remuda_scheduler::Policy;

fn function() -> FunctionSpec {
    FunctionSpec::of_module(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests/noop/noop.wasm"))
}

fn warm_path(criterion: &mut Criterion) {
    let known: Vec<_> =
        remuda_engine::Registry::default().known().filter(|known| known.is_built()).map(|known| known.id).collect();
    let mut group = criterion.benchmark_group("warm no-op");
    for engine in known {
        let host = Host::open(&HostConfig { data_dir: None, policy: Policy::Single(engine), ..HostConfig::default() })
            .expect("a host without a data directory opens");
        let function = host.deploy(function(), Some(&Entry::Command)).expect("the no-op runs everywhere");
        let call = Arc::new(Call {
            id: host.next_request_id(),
            entry: Entry::Command,
            context: GuestContext { args: vec!["noop".into()], ..GuestContext::default() },
            limits: GuestLimits::default(),
        });
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
