//! Tests of `remuda inspect` on the real binary: the suite's guests, small modules, and what it has to refuse.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::support::remuda;

/// The engines in this program that make machine code which can be shown.
const COMPILERS: [&str; 3] = ["wasmtime.winch", "wasmer.singlepass", "wasmtime.cranelift"];

fn guests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests").join(path)
}

fn inspect(module: &Path, args: &[&str]) -> Output {
    remuda().arg("inspect").arg(module).args(args).env("COLUMNS", "200").output().expect("remuda runs")
}

fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout.clone()).expect("it is text")
}

/// What `--json` says.
#[track_caller]
fn json(module: &Path, args: &[&str]) -> Value {
    let output = inspect(module, &[&["--json"], args].concat());
    serde_json::from_str(&text(&output)).expect("it is JSON")
}

fn written(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("written");
    path
}

fn list(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

fn engine<'a>(found: &'a Value, id: &str) -> &'a Value {
    let engines = list(&found["engines"]);
    engines.iter().find(|column| column["engine"] == id).unwrap_or_else(|| panic!("{id} is not shown"))
}

/// In each compiler's code, each loop of the source that repeats is found exactly once; offsets of WebAssembly are those
/// of operators in the module's file; and polls are told from the rest.
#[track_caller]
fn check_aligned(module: &Path, args: &[&str], polls: bool) {
    let found = json(module, args);
    let shown = &found["function"];
    let source: BTreeSet<u64> =
        (0..).zip(list(&shown["loops"])).filter(|(_, it)| it["repeats"] == true).map(|(index, _)| index).collect();
    let offsets: BTreeSet<u64> = list(&shown["operators"]).iter().map(|it| number(&it["offset"])).collect();
    let bytes = std::fs::read(module).expect("the module");
    let body = number(&shown["start"])..number(&shown["end"]);
    assert!(body.end <= bytes.len() as u64 && offsets.iter().all(|offset| body.contains(offset)));
    for id in COMPILERS {
        let column = engine(&found, id);
        let mut matched = Vec::new();
        for found in list(&column["loops"]) {
            matched.push(number(&found["source"]));
        }
        matched.sort_unstable();
        assert_eq!(matched, source.iter().copied().collect::<Vec<_>>(), "{id} in {}", module.display());
        assert_eq!(column["unknown_jumps"], 0, "{id}");
        let lines = list(&column["lines"]);
        assert_eq!(lines.len() as u64, number(&column["metrics"]["instructions"]));
        for line in lines.iter().filter(|line| !line["wasm_offset"].is_null()) {
            assert!(offsets.contains(&number(&line["wasm_offset"])), "{id}: {line}");
        }
        let has_map = id != "wasmer.singlepass";
        assert_eq!(column["alignment"], if has_map { "offsets" } else { "order" }, "{id}");
        assert_eq!(lines.iter().any(|line| !line["wasm_offset"].is_null()), has_map, "{id}");
        for found in list(&column["loops"]) {
            let has_poll = number(&found["own_metrics"]["poll_instructions"]) > 0;
            assert_eq!(has_poll, polls, "{id}: {found}");
        }
    }
}

#[test]
fn loops_are_matched_in_every_compiler_s_code() {
    let gemm = guests("polybench/gemm/gemm.wasm");
    let hottest = json(&gemm, &["--function", "hottest", "--", "SMALL"]);
    let kernel = number(&hottest["function"]["index"]).to_string();
    assert!(list(&hottest["function"]["loops"]).len() >= 3, "a matrix product has three loops");
    check_aligned(&gemm, &["--function", &kernel], true);
    check_aligned(&gemm, &["--function", &kernel, "--plain"], false);
    let fib = guests("fib/fib.wasm");
    check_aligned(&fib, &["--function", "hottest"], true);
}

#[test]
fn the_run_is_counted_exactly() {
    let folder = tempfile::tempdir().expect("a folder");
    // 3 operators before the loop, ten turns of 6 and of 2, and 1 behind; `helper` executes 2 in each turn.
    let module = written(
        &folder,
        "counted.wat",
        br#"(module (memory (export "memory") 1) (global $n (mut i32) (i32.const 0))
        (func $helper i32.const 1 drop)
        (func (export "_start") (local i32)
            i32.const 10 local.set 0 nop nop i32.const 0 drop
            loop
                call $helper local.get 0 i32.const 1 i32.sub local.tee 0 br_if 0
            end
            i32.const 0 drop))"#,
    );
    let start = json(&module, &["--function", "hottest"]);
    assert_eq!(start["function"]["name"], "_start");
    let profile = &start["profile"];
    // 4 + 10 * 6 + 2, and ten times the 2 of the helper.
    assert_eq!((number(&profile["in_function"]), number(&profile["operators"])), (66, 86));
    assert_eq!(profile["in_loops"], serde_json::json!([60]));
    let all = json(&module, &["--count"]);
    let executed: Vec<u64> = list(&all["functions"]).iter().map(|row| number(&row["executed"])).collect();
    assert_eq!(executed, [20, 66]);
    // Without a run nothing is counted.
    assert!(json(&module, &["--function", "helper"])["profile"].is_null());
}

#[test]
fn what_a_module_initialises_is_counted_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = written(
        &folder,
        "reactor.wat",
        br#"(module (func (export "_initialize") i32.const 1 drop) (func (export "other") i32.const 1 drop))"#,
    );
    let executed: Vec<u64> =
        list(&json(&module, &["--count"])["functions"]).iter().map(|row| number(&row["executed"])).collect();
    assert_eq!(executed, [2, 0]);
}

#[test]
fn the_input_reaches_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let total = |input: &str| {
        let input = written(&folder, "input", input.as_bytes());
        let input = input.to_str().expect("a path");
        let found = json(&guests("cat/cat.wasm"), &["--count", "--input", input, "--engine", "wasmtime.winch"]);
        list(&found["functions"]).iter().map(|row| number(&row["executed"])).sum::<u64>()
    };
    let (short, again, long) = (total("a"), total("b"), total(&"a".repeat(200_000)));
    assert_eq!(short, again, "the count depends on the input alone");
    assert!(long > short);
}

/// Engines that are programs of their own hand over the code of the functions that the module defines, under their own indices.
#[test]
fn code_of_other_programs_is_that_of_the_same_functions() {
    let folder = tempfile::tempdir().expect("a folder");
    // The import comes first in the order of indices. Only `$many` has loops, and only `$calls` calls.
    let module = br#"(module
        (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (func $none (param i32) (result i32) (i32.add (local.get 0) (i32.const 1)))
        (func $calls (export "calls") (param i32) (result i32)
          (i32.add (call $many (local.get 0)) (call $many (call $yield))))
        (func $many (export "many") (param i32) (result i32)
          (loop $again
            (local.set 0 (i32.rotl (i32.sub (local.get 0) (i32.const 1)) (i32.const 3)))
            (br_if $again (local.get 0)))
          (local.get 0)))"#;
    let module = written(&folder, "three.wat", module);
    for engine in ["wasmer.cranelift", "wasmer.llvm", "lucet.cranelift"] {
        if !crate::support::engines().contains(&engine) {
            continue;
        }
        let json = |function: &str| -> serde_json::Value {
            let output = inspect(&module, &["--json", "--engine", engine, "--function", function]);
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{engine}: {errors}");
            serde_json::from_slice(&output.stdout).expect("it is JSON")
        };
        let of = |function: &str| json(function)["engines"][0].clone();
        let loops = |function: &str| of(function)["loops"].as_array().unwrap().len();
        assert_eq!((loops("calls"), loops("many")), (0, 1), "{engine}");
        assert_eq!(of("many")["alignment"], "order", "{engine}");
        let calls = of("calls");
        assert!(calls["metrics"]["calls"].as_u64().unwrap() >= 2, "{engine}: {calls}");
        assert_eq!(of("many")["metrics"]["calls"], 0, "{engine}");
    }
}

#[test]
fn engines_without_machine_code_say_so() {
    let noop = guests("noop/noop.wasm");
    let out = text(&inspect(&noop, &["--engine", "wasmi.lazy,wasmtime.winch"]));
    assert!(out.contains("wasmi.lazy: it interprets, and makes no machine code\n"), "{out}");
    for (id, reason) in [
        ("wasmi.lazy", "wasmi.lazy: it interprets, and makes no machine code"),
        ("node.v8", "node.v8: "),
        ("mock", "mock: it runs no WebAssembly"),
        ("wasm2c", "there is no engine named \"wasm2c\""),
    ] {
        let output = inspect(&noop, &["--engine", id]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(reason), "{errors}");
    }
}

#[test]
fn what_cannot_be_shown_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let two = br#"(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
        (func $f) (func (export "f")) (func (export "only")))"#;
    let two = written(&folder, "two.wat", two);
    let stripped = written(&folder, "stripped.wat", b"(module (func))");
    let endless = written(&folder, "endless.wat", br#"(module (func (export "_start") (loop (br 0))))"#);
    for (module, args, message) in [
        (written(&folder, "no.wasm", b"\0asm\x01\0\0\0\x0a\xff"), &[][..], "not a valid WebAssembly module"),
        (written(&folder, "text", b"hello"), &[], "is this the right file?"),
        (folder.path().join("absent.wasm"), &[], "absent.wasm"),
        (written(&folder, "empty.wat", b"(module)"), &[], "the module defines no functions"),
        (written(&folder, "component.wat", b"(component)"), &[], "take one out (`wasm-tools component unbundle`"),
        (two.clone(), &["--function", "0"], "function 0 is imported (wasi_snapshot_preview1.sched_yield)"),
        (two.clone(), &["--function", "4"], "the functions of the module itself have the indices 1 to 3"),
        (two.clone(), &["--function", "99999999999"], "no function is named"),
        (two.clone(), &["--function", "f"], "2 functions are named \"f\": give one of the indices 1, 2"),
        (two.clone(), &["--function", "onl"], "do you mean only?"),
        (two.clone(), &["--input", "x"], "add --count or --function hottest"),
        (two.clone(), &["--count", "--input", "/nonexistent/x"], "cannot read /nonexistent/x"),
        (stripped, &["--function", "main"], "the module names no function (it is stripped)"),
        (endless, &["--function", "hottest", "--timeout", "50ms"], "the guest did not end within 50ms"),
    ] {
        let output = inspect(&module, args);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {errors}");
        assert!(errors.contains(message), "{args:?}: {errors}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn columns_stand_side_by_side_if_the_width_allows() {
    let fib = guests("fib/fib.wasm");
    let at = |columns: &str| {
        let mut command = remuda();
        command.arg("inspect").arg(&fib).args(["--function", "_start"]).env("COLUMNS", columns);
        text(&command.output().expect("remuda runs"))
    };
    let (wide, narrow) = (at("200"), at("60"));
    assert!(wide.contains(" │ ") && !narrow.contains(" │ "));
    assert!(wide.lines().filter(|line| line.contains(" │ ")).all(|line| line.chars().count() <= 200));
    for engine in COMPILERS {
        assert!(narrow.lines().any(|line| line == engine), "{engine} has a part of its own");
    }
    assert!(!wide.contains('\x1b'), "no colours for what is no terminal");
    for words in
        ["set-and-test chains", "what holds today of 2021's criticisms: wasmtime.cranelift", "why code is longer"]
    {
        assert!(wide.contains(words), "{words}");
    }
}

/// A name from a module cannot give the terminal orders.
#[test]
fn names_are_shown_without_control_characters() {
    let folder = tempfile::tempdir().expect("a folder");
    let module = written(&folder, "evil.wat", b"(module (func (export \"\\1b[2Jevil<script>\")))");
    let out = text(&inspect(&module, &[]));
    assert!(out.contains("evil<script>") && !out.contains('\x1b'), "{out}");
    let page = folder.path().join("evil.html");
    text(&inspect(&module, &["--function", "0", "--html", page.to_str().expect("a path")]));
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains("evil&lt;script&gt;") && !page.contains("evil<script>"));
}

/// A function of 10,000 loops: anything that is quadratic in them would take minutes.
#[test]
fn a_huge_function_can_be_inspected() {
    const LOOPS: usize = 10_000;
    let mut module = String::from("(module (func (export \"big\") (param i32)");
    for _ in 0..LOOPS {
        let _ = write!(module, "(loop (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0)))");
    }
    module += "))";
    let folder = tempfile::tempdir().expect("a folder");
    let module = written(&folder, "big.wat", module.as_bytes());
    let found = json(&module, &["--function", "big"]);
    for id in COMPILERS {
        assert_eq!(list(&engine(&found, id)["loops"]).len(), LOOPS, "{id}");
    }
}

/// Opens the page in headless Chromium. There must be no error on the console, nothing wider than the window, and a loop
/// that is pointed at or walked to is shown in all columns. `REMUDA_SCREENSHOTS=DIR` keeps pictures of the page.
#[test]
fn a_browser_shows_the_page() {
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: no Chromium on PATH, so the page was not opened (`apt-get install chromium`)");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("inspect.html");
    let args = ["--function", "hottest", "--html", page.to_str().expect("a path")];
    let output = inspect(&guests("polybench/gemm/gemm.wasm"), &args);
    assert_eq!(text(&output), "");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("python3");
    command.arg(here.join("../bench/tests/page/check_page.py")).arg("--chromium").arg(chromium).arg(&page);
    command.arg("--probe").arg(here.join("tests/it/inspect/probe.js"));
    for id in ["engines", "reasons", "criticisms", "code", "counts"] {
        command.args(["--section", id]);
    }
    if let Some(screenshots) = std::env::var_os("REMUDA_SCREENSHOTS") {
        command.arg("--screenshots").arg(screenshots);
    }
    let output = command.output().expect("python3 runs");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", said(&output.stdout), said(&output.stderr));
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|program| program.is_file())
}
