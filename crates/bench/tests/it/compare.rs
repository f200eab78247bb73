//! Tests of the comparison of two results.

use remuda_bench::compare::{Comparison, Verdict};
use remuda_bench::results::Results;
use remuda_bench::row::Record;

use crate::synthetic::Synthetic;

fn compare(b: &Synthetic) -> Comparison {
    // The guests' times are drawn from the seed. Both results have the same seed, so that only the processes differ.
    Comparison::new(&Results::new(Synthetic::default().records()), &Results::new(b.records()), 0.05)
}

fn slower(comparison: &Comparison) -> Vec<&str> {
    let all = comparison.points.iter().chain(&comparison.means);
    all.filter(|change| change.verdict == Verdict::Slower).map(|change| change.name.as_str()).collect()
}

#[test]
fn nothing_changed() {
    let comparison = compare(&Synthetic::default());
    assert_eq!(slower(&comparison), [""; 0]);
    assert!(!comparison.is_worse());
    assert_eq!(comparison.warnings, [""; 0]);
    assert!(comparison.to_text().contains("no point changed beyond doubt"), "{}", comparison.to_text());
}

#[test]
fn an_engine_got_slower() {
    let comparison = compare(&Synthetic { slower: Some(("wasmtime.winch", 1.3)), ..Synthetic::default() });
    assert!(comparison.is_worse());
    let slower = slower(&comparison);
    assert!(slower.contains(&"wasmtime.winch (steady), geometric mean of 30"), "{slower:?}");
    // The synthetic times of Remuda's choice are computed from the other engines', so it is slower where they are.
    let by_itself = |name: &&&str| !name.contains("wasmtime.winch") && !name.contains("remuda.auto");
    assert_eq!(slower.iter().find(by_itself), None, "{slower:?}");
    let turned = Comparison::new(
        &Results::new(Synthetic { slower: Some(("wasmtime.winch", 1.3)), ..Synthetic::default() }.records()),
        &Results::new(Synthetic::default().records()),
        0.05,
    );
    assert!(!turned.is_worse(), "{}", turned.to_text());
}

#[test]
fn slower_within_the_threshold_is_no_regression() {
    let b = Synthetic { slower: Some(("wasmi.lazy", 1.04)), ..Synthetic::default() };
    let comparison = compare(&b);
    assert!(comparison.means.iter().any(|mean| mean.verdict == Verdict::SlowerWithin), "{}", comparison.to_text());
    assert!(!comparison.is_worse(), "{}", comparison.to_text());
}

#[test]
fn what_works_no_more_is_worse() {
    let mut records = Synthetic::default().records();
    let failed = records.iter().find_map(|record| match record {
        Record::Sample(sample) => Some(remuda_bench::row::Failure {
            run: sample.run.clone(),
            point: sample.point.clone(),
            process: 0,
            reason: "a wrong output".into(),
        }),
        _ => None,
    });
    records.push(Record::Failure(failed.expect("there is a sample")));
    let comparison = Comparison::new(&Results::new(Synthetic::default().records()), &Results::new(records), 0.05);
    assert_eq!(comparison.broken.len(), 1);
    assert!(comparison.is_worse());
}

#[test]
fn another_machine_is_told() {
    let comparison = compare(&Synthetic { machine: "fedcba9876543210", ..Synthetic::default() });
    assert!(comparison.warnings[0].contains("may be the machine's"), "{:?}", comparison.warnings);
}
