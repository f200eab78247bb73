//! Tests of `remuda report` and `remuda compare`: files, formats and exit codes. The texts are tested in
//! `remuda-bench`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use remuda_bench::row::{Pattern, Phase, Point, Record, SCHEMA, Sample, write};

fn remuda(args: &[&str], files: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remuda")).args(args).args(files).output().expect("remuda runs")
}

/// Writes a results file: seven processes of one guest on two engines.
fn results(folder: &Path, name: &str, winch_ns: u64) -> PathBuf {
    let path = folder.join(name);
    let mut file = File::create(&path).expect("a file");
    let run = serde_json::json!({
        "schema": SCHEMA, "run": "one", "seed": 1, "command": "remuda characterize", "unix_ms": 0, "remuda": "0.1.0",
        "commit": "unknown",
        "machine": {"fingerprint": "same", "cpu": "some", "cores": 2, "memory_bytes": 1, "kernel": "some"},
    });
    let run = serde_json::from_value(run).expect("a run");
    write(&mut file, &Record::Run(run)).expect("written");
    for (engine, ns) in [("wasmtime.cranelift", 1_000_000), ("wasmtime.winch", winch_ns)] {
        for process in 0..7 {
            let sample = Sample {
                run: "one".into(),
                point: Point {
                    guest: "canny".into(),
                    suite: "edge".into(),
                    variant: String::new(),
                    case: "camera".into(),
                    engine: engine.into(),
                    pattern: Pattern::Cold,
                },
                digest: "d".into(),
                engine_version: "1".into(),
                flags: String::new(),
                process,
                iteration: Some(0),
                wall_ns: BTreeMap::from([(Phase::Total, ns + u64::from(process) * 1000)]),
                cpu_ns: BTreeMap::new(),
                peak_memory_bytes: None,
                code_bytes: None,
                artifact_bytes: None,
                answered_by: None,
                load: 0.0,
            };
            write(&mut file, &Record::Sample(sample)).expect("written");
        }
    }
    path
}

#[test]
fn the_ending_says_the_format() {
    let folder = tempfile::tempdir().expect("a folder");
    let results = results(folder.path(), "results.jsonl", 2_000_000);
    for (name, beginning) in
        [("r.html", "<!DOCTYPE html>"), ("r.md", "# WebAssembly engines"), ("r.csv", "suite,guest,")]
    {
        let output = folder.path().join(name);
        let done = remuda(&["report"], &[&results, Path::new("-o"), &output]);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        let text = fs::read_to_string(&output).expect("the report was written");
        assert!(text.starts_with(beginning), "{name} begins with {text:.40}");
    }
    let done = remuda(&["report", "--format", "csv"], &[&results]);
    assert!(done.stdout.starts_with(b"suite,guest,"));
}

#[track_caller]
fn check_refused(args: &[&str], files: &[&Path], message: &str) {
    let done = remuda(args, files);
    let errors = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(1), "{errors}");
    assert!(errors.contains(message), "{errors}");
}

#[test]
fn what_cannot_be_done_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let good = results(folder.path(), "results.jsonl", 2_000_000);
    let [bad, empty] = ["bad.jsonl", "empty.jsonl"].map(|name| folder.path().join(name));
    fs::write(&bad, "{\"record\":\"nothing\"}\n").expect("written");
    fs::write(&empty, "").expect("written");
    check_refused(&["report"], &[&bad], "line 1 is not a record of results");
    check_refused(&["report"], &[&empty], "nothing was measured");
    check_refused(&["report"], &[&good, Path::new("-o"), &folder.path().join("report")], "give --format");
    check_refused(&["compare"], &[&good, &folder.path().join("absent.jsonl")], "absent.jsonl");
}

#[test]
fn the_exit_code_of_a_comparison() {
    let folder = tempfile::tempdir().expect("a folder");
    let before = results(folder.path(), "before.jsonl", 2_000_000);
    let after = results(folder.path(), "after.jsonl", 2_400_000);
    let code = |args: &[&str], files: &[&Path]| remuda(args, files).status.code();
    assert_eq!(code(&["compare"], &[&before, &before]), Some(0));
    assert_eq!(code(&["compare"], &[&before, &after]), Some(3));
    assert_eq!(code(&["compare"], &[&after, &before]), Some(0));
    assert_eq!(code(&["compare", "--threshold", "30%"], &[&before, &after]), Some(0));
    assert_eq!(code(&["compare", "--threshold", "0.3"], &[&before, &after]), Some(2));
}
