//! Tests of `remuda calibrate`, and of the calibration that a server does by itself.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::support::{ENGINES, folder, output, remuda, text};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("it is JSON")
}

fn engines(calibration: &Value) -> Vec<&str> {
    let mut engines: Vec<&str> = calibration["engines"]
        .as_array()
        .expect("there are engines")
        .iter()
        .map(|row| row["engine"].as_str().expect("it has a name"))
        .collect();
    engines.sort_unstable();
    engines
}

fn all_engines() -> Vec<&'static str> {
    let mut engines = ENGINES.to_vec();
    engines.sort_unstable();
    engines
}

#[test]
fn what_is_measured_is_printed_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("new/data");
    let out = output(remuda().args(["calibrate", "--json", "--data-dir"]).arg(&data), b"");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let printed: Value = serde_json::from_slice(&out.stdout).expect("it is JSON");
    assert_eq!(engines(&printed), all_engines());
    for row in printed["engines"].as_array().unwrap() {
        for field in ["compile_ns_per_code_byte", "compile_parallelism", "instantiate_ns", "slowdown"] {
            assert!(row[field].as_f64().is_some_and(|value| value > 0.0), "{field}: {row}");
        }
    }
    // An optimizing compiler takes longer than an interpreter's translation, and its code runs faster.
    let of = |engine: &str, field: &str| {
        let rows = printed["engines"].as_array().unwrap();
        rows.iter().find(|row| row["engine"] == engine).and_then(|row| row[field].as_f64()).unwrap()
    };
    for (field, more, less) in [
        ("compile_ns_per_code_byte", "wasmtime.cranelift", "wasmi.lazy"),
        ("slowdown", "wasmi.lazy", "wasmtime.cranelift"),
    ] {
        assert!(of(more, field) > of(less, field), "{field} of {more} and {less}: {printed}");
    }
    let kept = read(&data.join("calibration.json"));
    assert_eq!((&kept["engines"], &kept["host"]), (&printed["engines"], &printed["host"]));
    let left = std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["calibration.json"], "nothing else is left behind");
}

#[test]
fn nothing_is_kept_if_nobody_wants_it() {
    let data = tempfile::tempdir().unwrap();
    let out = output(remuda().args(["calibrate", "--no-save", "--data-dir"]).arg(data.path()), b"");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    let table = text(&out.stdout);
    for engine in ENGINES {
        assert!(table.contains(engine), "{table}");
    }
    assert!(table.contains(" us") && table.contains(" ms") && table.contains('x'), "units: {table}");
    assert_eq!(std::fs::read_dir(data.path()).unwrap().count(), 0);
}

#[test]
fn a_server_calibrates_by_itself_and_once() {
    let dir = folder("[[function]]\nname = \"hello\"\nmodule = \"@guests/hello/hello.wasm\"\n");
    let data = dir.path().join("data");
    std::fs::create_dir(&data).unwrap();
    // An editor or a crash of another program may leave such a file.
    std::fs::write(data.join("calibration.json"), "{\"schema_version\": 1, ").unwrap();
    let serve = || {
        let mut command = remuda();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(&data).arg(dir.path());
        command.env("REMUDA_LOG", "info").stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().expect("the binary starts")
    };
    let mut server = serve();
    let said = BufReader::new(server.stderr.take().expect("it was piped"));
    let mut lines = said.lines().map(|line| line.expect("it prints text"));
    let damaged = lines.find(|line| line.contains("damaged")).expect("it says so");
    assert!(damaged.contains("remuda calibrate"), "{damaged}");
    // On a busy host, the server also logs that the host is busy; such lines are skipped.
    let outcome = lines.find(|line| line.contains("was calibrated") || line.contains("cannot calibrate"));
    assert!(outcome.as_ref().is_some_and(|line| line.contains("the host was calibrated")), "{outcome:?}");
    let _ = server.kill();
    server.wait().unwrap();
    assert_eq!(engines(&read(&data.join("calibration.json"))), all_engines());
}
