//! `remuda microarch`: what is counted of a guest's own code, under a real qemu with the plugin that cargo built beside these
//! tests.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{guest, output, remuda, text};

/// The plugin, if this machine can use it. Says what is missing otherwise, and fails if `REMUDA_REQUIRE_TOOLS` is set.
fn plugin() -> Option<PathBuf> {
    let missing = |what: &str| {
        assert!(std::env::var_os("REMUDA_REQUIRE_TOOLS").is_none(), "{what}");
        eprintln!("skipped: {what}");
        None
    };
    let qemu = Command::new("qemu-x86_64").arg("--version").stdout(Stdio::null()).status();
    if !cfg!(target_arch = "x86_64") || !qemu.is_ok_and(|status| status.success()) {
        return missing("this needs qemu-x86_64, of Debian's package qemu-user, on x86-64");
    }
    let this = std::env::current_exe().expect("the test is a file");
    let beside = this.ancestors().skip(1).take(2).map(|folder| folder.join("libremuda_microarch_plugin.so"));
    let found = beside.into_iter().find(|file| file.is_file());
    found.or_else(|| missing("the plugin is not built; `cargo test --workspace` builds it"))
}

fn counts(plugin: &Path, module: &Path, args: &[&str]) -> Vec<Value> {
    let out = output(remuda().args(["microarch", "--json", "--plugin"]).arg(plugin).arg(module).args(args), b"");
    assert!(out.status.success(), "{}", text(&out.stderr));
    serde_json::from_slice(&out.stdout).expect("it is JSON")
}

fn number(counted: &Value, name: &str) -> u64 {
    counted[name].as_u64().unwrap_or_else(|| panic!("there is no {name} in {counted}"))
}

/// Of a loop that runs a thousand times more, every count grows by a thousand times what is in it.
#[test]
fn a_loop_is_counted_to_the_last_instruction() {
    let Some(plugin) = plugin() else { return };
    let dir = tempfile::tempdir().unwrap();
    let of_turns = |turns: u32| {
        let path = dir.path().join(format!("{turns}.wat"));
        let module = format!(
            r#"(module (memory (export "memory") 1)
              (func (export "_start") (local $i i32)
                (local.set $i (i32.const {turns}))
                (loop $again
                  (i32.store (local.get $i) (i32.add (i32.load (local.get $i)) (i32.const 1)))
                  (br_if $again (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))))"#
        );
        std::fs::write(&path, module).unwrap();
        counts(&plugin, &path, &[])
    };
    let (few, many) = (of_turns(1000), of_turns(2000));
    assert_eq!(few.len(), many.len());
    assert!(few.len() >= 2, "the compilers of this program are counted: {few:?}");
    for (few, many) in few.iter().zip(&many) {
        let engine = &few["engine"];
        let more = |name| number(many, name) - number(few, name);
        for name in ["instructions", "loads", "stores", "conditional_branches"] {
            assert_eq!(more(name) % 1000, 0, "{engine} {name}");
        }
        // The guest's own load, addition, store, subtraction and branch, and the poll's load and branch; on x86-64, the first
        // three may be one instruction.
        assert!(more("instructions") >= 6000, "{engine}");
        assert!(more("loads") >= 2000 && more("stores") >= 1000, "{engine}");
        // The loop's and the poll's; engines that compare each address with the memory's end have more.
        let branches = more("conditional_branches");
        assert!(branches == 2000 || branches > 2000 && engine == "wasmer.singlepass", "{engine}: {branches}");
        // At both ends of the nine sizes: the guest reads and writes less than the largest holds.
        let caches = many["data_caches"].as_array().unwrap();
        let misses = |cache: &Value| number(&cache["counts"], "load_misses");
        assert_eq!(caches.len(), 9, "{engine}");
        assert!(misses(&caches[0]) >= misses(&caches[8]) && misses(&caches[8]) > 0, "{engine}: {caches:?}");
    }
}

#[test]
fn it_prints_a_column_for_each_engine_that_is_asked_for() {
    let Some(plugin) = plugin() else { return };
    let run = |engines: &str| {
        let mut command = remuda();
        command.args(["microarch", "--engine", engines, "--icache", "16k/64/4:32k/64/8", "--predictor", "local:tage"]);
        output(command.arg("--plugin").arg(&plugin).arg(guest("fib/fib.wasm")), b"")
    };
    let out = run("wasmtime.winch,wasmtime.cranelift");
    let printed = text(&out.stdout);
    assert!(out.status.success(), "{}", text(&out.stderr));
    for words in
        ["wasmtime.winch", "wasmtime.cranelift", "instructions", "16 KiB, 64 B, 4 ways", "TAGE", "return address stack"]
    {
        assert!(printed.contains(words), "{words}: {printed}");
    }
    let refused = run("wasmi.lazy");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no machine code of the module"), "{}", text(&refused.stderr));
}

/// Engines with programs of their own run their guests in the emulator, too, and what they write is what it should be.
#[test]
fn guests_of_every_engine_are_counted_and_verified() {
    let Some(plugin) = plugin() else { return };
    let dir = tempfile::tempdir().unwrap();
    let results = dir.path().join("results.jsonl");
    let mut command = remuda();
    command.args(["microarch", "--size", "small", "--jobs", "2", "--plugin"]).arg(&plugin);
    let folders = [guest("fib"), guest("sha256")];
    let out = output(command.arg("--output").arg(&results).arg("--suite").args(&folders), b"");
    let said = text(&out.stderr);
    assert!(out.status.success() && said.contains(", 0 failed"), "{said}");
    let records: Vec<Value> =
        std::fs::read_to_string(&results).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let simulated: Vec<&Value> = records.iter().filter(|record| record["record"] == "simulation").collect();
    let engines: BTreeSet<&str> = simulated.iter().map(|one| one["engine"].as_str().unwrap()).collect();
    let compilers: BTreeSet<&str> =
        crate::support::engines().iter().copied().filter(|engine| *engine != "wasmi.lazy").collect();
    assert!(compilers.is_subset(&engines), "{engines:?}");
    // fib, sha256 and noop, which is in every plan.
    assert_eq!(simulated.len(), 3 * engines.len(), "{said}");
    for one in simulated.iter().filter(|one| one["guest"] == "fib") {
        // fib(20) makes 21,891 calls, each of which compares, adds and returns.
        assert!(number(one, "instructions") > 21_891 * 3, "{one}");
        assert!(number(one, "conditional_branches") > 10_000, "{one}");
    }
    let report = output(remuda().arg("report").arg(&results), b"");
    let page = text(&report.stdout);
    assert!(report.status.success() && page.contains("Table I: what the code asks of a processor"), "{page}");
    // The file is not overwritten.
    let mut again = remuda();
    again.args(["microarch", "--suite", "--plugin"]).arg(&plugin).arg("--output").arg(&results);
    let refused = output(&mut again, b"");
    assert!(text(&refused.stderr).contains("is there already"), "{}", text(&refused.stderr));
}

/// A machine counts, or says that it does not and what there is instead.
#[test]
fn hardware_counters_are_read_or_said_to_be_missing() {
    let out = output(remuda().args(["microarch", "--counters", "--json"]).arg(guest("fib/fib.wasm")), b"");
    if out.status.success() {
        let counted: Vec<Value> = serde_json::from_slice(&out.stdout).expect("it is JSON");
        assert!(counted.len() >= 2, "{counted:?}");
        for one in &counted {
            let events = one["events"].as_array().unwrap();
            let instructions = events.iter().find(|event| event["event"] == "instructions").unwrap();
            assert!(number(instructions, "count") > 1_000_000, "{one}");
        }
    } else {
        let message = text(&out.stderr);
        let says = ["no hardware counters", "are refused"].iter().any(|words| message.contains(words));
        assert!(says && message.contains("without --counters, caches and predictors are simulated"), "{message}");
    }
}

#[test]
fn what_cannot_be_counted_is_said() {
    let Some(plugin) = plugin() else { return };
    let refused = |plugin: &Path, args: &[&str], module: &str| {
        let out = output(remuda().args(["microarch", "--plugin"]).arg(plugin).args(args).arg(guest(module)), b"");
        assert_eq!(out.status.code(), Some(1), "{args:?}: {}", text(&out.stdout));
        text(&out.stderr)
    };
    let message = refused(Path::new("/nonexistent.so"), &[], "fib/fib.wasm");
    assert!(message.contains("cargo build --release -p remuda-microarch-plugin"), "{message}");
    let message = refused(&plugin, &["--icache", "17"], "fib/fib.wasm");
    assert!(message.contains("icache"), "{message}");
    let message = refused(&plugin, &["--timeout", "500ms", "--engine", "wasmtime.winch"], "spin/spin.wasm");
    assert!(message.contains("did not end within 0.5 s"), "{message}");
    let message = refused(&plugin, &["--engine", "wasmtime.winch"], "trap/unreachable/unreachable.wasm");
    assert!(message.contains("unreachable"), "{message}");
}
