//! Tests that the next run has what one run learns.

use std::path::Path;

use crate::support::{guest, output, remuda, text};

/// Runs a module with a data directory, and returns what `--explain` prints.
fn explain(data: &Path, engine: &str, module: &Path) -> String {
    let mut command = remuda();
    command.args(["run", "--explain", "--engine", engine, "--data-dir"]).arg(data).arg(module);
    let out = output(&mut command, b"");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    text(&out.stderr)
}

#[test]
fn artifacts_are_kept_and_damaged_ones_are_compiled_anew() {
    let hello = guest("hello/hello.wasm");
    for engine in ["wasmtime.winch", "wasmer.singlepass", "wasmtime.cranelift"] {
        let data = tempfile::tempdir().unwrap();
        assert!(explain(data.path(), engine, &hello).contains("artifact     absent"));
        let second = explain(data.path(), engine, &hello);
        assert!(second.contains("artifact     on disk"), "{second}");
        let files: Vec<_> = std::fs::read_dir(data.path().join("artifacts")).unwrap().collect();
        assert_eq!(files.len(), 1);
        let file = files[0].as_ref().unwrap().path();
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).unwrap();
        let third = explain(data.path(), engine, &hello);
        assert!(third.contains("artifact     absent"), "{third}");
        assert!(explain(data.path(), engine, &hello).contains("artifact     on disk"));
    }
}

#[test]
fn auto_begins_with_what_begins_first_and_then_goes_by_what_it_has_measured() {
    let data = tempfile::tempdir().unwrap();
    let hello = guest("hello/hello.wasm");
    let first = explain(data.path(), "auto", &hello);
    assert!(first.contains("can begin in"), "{first}");
    let mut command = remuda();
    let out = output(command.args(["explain", "--data-dir"]).arg(data.path()).arg(&hello), b"");
    let explained = text(&out.stdout);
    assert!(explained.contains("1 observed"), "{explained}");
}
