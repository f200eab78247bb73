//! `remuda cache`

use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{guest, output, remuda, text};

/// Runs `remuda cache ARGS --data-dir DATA` and returns what it prints, and its exit code.
fn cache(data: &Path, args: &[&str]) -> (String, Option<i32>) {
    let out = output(remuda().arg("cache").args(args).arg("--data-dir").arg(data), b"");
    (text(&out.stdout) + &text(&out.stderr), out.status.code())
}

fn list(data: &Path) -> Vec<Value> {
    let (json, code) = cache(data, &["ls", "--json"]);
    assert_eq!(code, Some(0), "{json}");
    serde_json::from_str(&json).expect("it is JSON")
}

fn run(data: &Path, engine: &str, options: &[&str]) {
    let mut command = remuda();
    command.args(["run", "--engine", engine, "--data-dir"]).arg(data).args(options).arg(guest("hello/hello.wasm"));
    let out = output(&mut command, b"");
    assert_eq!((out.status.code(), text(&out.stderr)), (Some(0), String::new()));
}

const ENGINES: [&str; 2] = ["wasmtime.winch", "wasmtime.cranelift"];

/// A data directory with an artifact of each engine.
fn filled() -> TempDir {
    let data = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        run(data.path(), engine, &[]);
    }
    data
}

fn path(row: &Value) -> PathBuf {
    row["path"].as_str().expect("a path").into()
}

#[test]
fn artifacts_are_listed_with_what_is_known_of_them() {
    let data = filled();
    run(data.path(), "wasmtime.winch", &[]);
    let rows = list(data.path());
    let engines = output(remuda().args(["engines", "--json"]), b"");
    let engines: Vec<Value> = serde_json::from_slice(&engines.stdout).unwrap();
    assert_eq!(rows.len(), ENGINES.len());
    for (engine, uses) in ENGINES.into_iter().zip([2, 1]) {
        let row = rows.iter().find(|row| row["engine"] == engine).unwrap_or_else(|| panic!("no {engine}: {rows:?}"));
        let known = engines.iter().find(|known| known["engine"] == engine).unwrap();
        assert_eq!((&row["version"], &row["state"]), (&known["version"], &"ok".into()), "{row}");
        assert_eq!(row["uses"], uses, "{row}");
        assert_eq!(row["bytes"], std::fs::metadata(path(row)).unwrap().len());
        assert!(row["compile_ns"].as_u64().is_some_and(|ns| ns > 0), "{row}");
        assert_eq!(row["module"], rows[0]["module"]);
    }
    let (table, _) = cache(data.path(), &["ls"]);
    let module: String = rows[0]["module"].as_str().unwrap().chars().take(12).collect();
    assert!(table.contains(&module) && table.contains("2 artifacts, "), "{table}");
}

#[test]
fn a_directory_without_artifacts_is_left_as_it_is() {
    let data = tempfile::tempdir().unwrap();
    assert!(list(data.path()).is_empty());
    for args in [&["prune", "--all"][..], &["verify"], &["ls"]] {
        let (said, code) = cache(data.path(), args);
        assert_eq!(code, Some(0), "{args:?}: {said}");
    }
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn damage_is_found_named_and_removed_only_if_asked_for() {
    let data = filled();
    let (said, code) = cache(data.path(), &["verify"]);
    assert!(code == Some(0) && said.contains("2 of 2 artifacts are as this host wrote them"), "{said}");
    let damaged = path(&list(data.path())[0]);
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    for (args, way_out) in [(&["verify"][..], "--remove removes them"), (&["verify", "--remove"], "were removed")] {
        assert!(damaged.exists());
        let (said, code) = cache(data.path(), args);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("{}: its MAC is wrong", damaged.display())), "{said}");
        assert!(said.contains("1 of 2 artifacts") && said.contains(way_out), "{said}");
    }
    assert!(!damaged.exists());
    let (said, code) = cache(data.path(), &["verify"]);
    assert!(code == Some(0) && said.contains("1 of 1 artifacts"), "{said}");
}

#[test]
fn pruning_removes_what_it_was_told_to() {
    let data = filled();
    let foreign = data.path().join("artifacts/foreign.artifact");
    std::fs::write(&foreign, "from another version").unwrap();
    let rows = list(data.path());
    let states: Vec<&str> = rows.iter().filter_map(|row| row["state"].as_str()).collect();
    assert_eq!(states.iter().filter(|state| **state == "stale").count(), 1, "{states:?}");
    let (said, code) = cache(data.path(), &["prune", "--stale"]);
    assert!(code == Some(0) && said.contains("removed 1 artifact, 20 B"), "{said}");
    assert!(!foreign.exists() && list(data.path()).len() == 2);

    let total: u64 = rows.iter().filter(|row| row["state"] == "ok").filter_map(|row| row["bytes"].as_u64()).sum();
    let (said, _) = cache(data.path(), &["prune", "--max", &total.to_string()]);
    assert!(said.contains("removed 0 artifacts"), "{said}");
    let (said, _) = cache(data.path(), &["prune", "--max", &(total - 1).to_string()]);
    assert!(said.contains("removed 1 artifact,"), "{said}");
    let (said, _) = cache(data.path(), &["prune", "--all"]);
    assert!(said.contains("removed 1 artifact,") && list(data.path()).is_empty(), "{said}");

    let (said, code) = cache(data.path(), &["prune"]);
    assert!(code == Some(2) && said.contains("--max") && said.contains("--stale") && said.contains("--all"), "{said}");
    // An artifact that was pruned is compiled and kept again.
    run(data.path(), "wasmtime.winch", &[]);
    assert_eq!(list(data.path()).len(), 1);
}

#[test]
fn the_budget_on_disk_is_kept_and_zero_keeps_nothing() {
    let total = |data: &Path| -> u64 { list(data).iter().filter_map(|row| row["bytes"].as_u64()).sum() };
    let alone = tempfile::tempdir().unwrap();
    run(alone.path(), "wasmer.singlepass", &[]);
    let data = filled();
    // The budget is one byte too small for all three artifacts.
    let budget = total(data.path()) + total(alone.path()) - 1;
    run(data.path(), "wasmer.singlepass", &["--artifact-disk", &budget.to_string()]);
    assert!(total(data.path()) <= budget);
    let rows = list(data.path());
    assert!(rows.len() < 3 && rows.iter().any(|row| row["engine"] == "wasmer.singlepass"), "{rows:?}");

    let empty = tempfile::tempdir().unwrap();
    run(empty.path(), "wasmtime.winch", &["--artifact-disk", "0"]);
    assert!(list(empty.path()).is_empty());

    let out = output(
        remuda()
            .args(["run", "--engine", "wasmtime.winch", "--artifact-disk", "1000", "--data-dir"])
            .arg(empty.path())
            .arg(guest("hello/hello.wasm")),
        b"",
    );
    let said = text(&out.stderr);
    assert!(out.status.success() && said.contains("exceeds the budget of 1000 B"), "{said}");
}
