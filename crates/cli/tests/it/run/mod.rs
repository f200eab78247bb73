//! Tests of `remuda run`, a drop-in replacement for `wasmtime run`. The expected results are those of `wasmtime run` 49
//! with the same command line, unless a test says otherwise. docs/run.md names the test for each thing that is the
//! same.

mod command_line;
mod components;
mod docs;
mod entry;
mod exit;
mod flags;
mod learning;
mod preview_0;
mod stdin;
mod world;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Output;

use tempfile::TempDir;

use crate::support::{output, remuda, run_on, text};

/// Runs a guest on an engine and keeps nothing.
fn run(engine: &str, options: &[&str], module: &Path, args: &[&str], stdin: &[u8]) -> Output {
    output(run_on(engine).args(options).arg(module).args(args), stdin)
}

/// Runs `remuda run` with this command line, and keeps nothing.
fn typed<S: AsRef<OsStr>>(line: &[S]) -> Output {
    output(remuda().args(["run", "--no-data"]).args(line), b"")
}

/// A folder with a module in it, in the text format.
struct Written {
    dir: TempDir,
    path: PathBuf,
}

impl Written {
    fn new(module: &str) -> Self {
        let dir = tempfile::tempdir().expect("there is a temporary folder");
        let path = dir.path().join("module.wat");
        std::fs::write(&path, module).expect("it can be written");
        Self { dir, path }
    }

    fn text(&self) -> &str {
        self.path.to_str().expect("temporary folders have names in UTF-8")
    }
}

/// Returns the exit code, standard output and standard error.
fn seen(out: &Output) -> (Option<i32>, String, String) {
    (out.status.code(), text(&out.stdout), text(&out.stderr))
}

/// The text of a function that writes a line to standard output.
fn line(name: &str, address: u32) -> String {
    format!(
        r#"(func ${name}
            (i32.store (i32.const 0) (i32.const {address}))
            (i32.store (i32.const 4) (i32.const 5))
            (drop (call $fd_write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
           (data (i32.const {address}) "{name}\n")"#
    )
}

/// The text of a module that imports what [`line`] needs. It has three such functions, `$strt`, `$init` and `$main`,
/// and then `rest`.
fn with_lines(rest: &str) -> String {
    let lines: String =
        [("strt", 32), ("init", 48), ("main", 64)].iter().map(|(name, address)| line(name, *address)).collect();
    format!(
        r#"(module
            (import "wasi_snapshot_preview1" "fd_write"
                (func $fd_write (param i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1)
            {lines}
            {rest})"#
    )
}
