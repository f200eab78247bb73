//! Tests of `remuda characterize` with real processes, cheap guests, and results that can be counted.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use remuda_bench::row::{self, Failure, Pattern, Phase, Record, Run, Sample};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::support::{engines, guest, has_workers, output, remuda, text};

/// The ids that stand for a choice of the engine at each call: with guests that move, and with guests that stay.
const CHOICES: [&str; 2] = ["remuda.auto", "remuda.racing"];

/// A folder with a module. The mock engine does what the module's arguments say.
fn mock_module() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("guest.wat"), "(module (memory (export \"memory\") 1) (func (export \"_start\")))")
        .unwrap();
    dir
}

/// Runs `remuda characterize` to its end, and reads what it wrote.
fn characterize(dir: &TempDir, args: &[&str]) -> (std::process::Output, Vec<Record>) {
    let results = dir.path().join("results.jsonl");
    let mut command = remuda();
    command.current_dir(dir.path()).arg("characterize").arg("-o").arg(&results).args(args);
    let out = output(&mut command, b"");
    (out, read(&results))
}

fn resume(dir: &TempDir) -> (std::process::Output, Vec<Record>) {
    let mut command = remuda();
    command.current_dir(dir.path()).args(["characterize", "--resume", "results.jsonl"]);
    let out = output(&mut command, b"");
    (out, read(&dir.path().join("results.jsonl")))
}

fn read(results: &Path) -> Vec<Record> {
    fs::read(results).map_or_else(|_| Vec::new(), |bytes| row::read(&mut bytes.as_slice()).expect("records"))
}

fn runs(records: &[Record]) -> Vec<&Run> {
    records.iter().filter_map(|record| if let Record::Run(run) = record { Some(run) } else { None }).collect()
}

fn samples(records: &[Record]) -> Vec<&Sample> {
    records.iter().filter_map(|record| if let Record::Sample(sample) = record { Some(sample) } else { None }).collect()
}

fn failures(records: &[Record]) -> Vec<&Failure> {
    records
        .iter()
        .filter_map(|record| if let Record::Failure(failure) = record { Some(failure) } else { None })
        .collect()
}

/// The processes that were measured, in the order in which they were measured.
fn processes(records: &[Record]) -> Vec<(&str, &str, u32)> {
    let whole = samples(records).into_iter().filter(|sample| sample.iteration.is_none());
    whole.map(|sample| (sample.point.guest.as_str(), sample.point.engine.as_str(), sample.process)).collect()
}

fn hello() -> String {
    guest("hello").display().to_string()
}

fn suite() -> String {
    guest(".").display().to_string()
}

#[test]
fn every_engine_goes_through_every_pattern_with_its_phases() {
    let dir = tempfile::tempdir().unwrap();
    let mut engines = engines().to_vec();
    engines.extend(CHOICES);
    let (out, records) = characterize(
        &dir,
        &[
            &["--suite", &hello(), "--guests", &suite(), "--processes", "1", "--pattern", "cold,fifty,warm,steady"][..],
            &["--engines"],
            &engines,
        ]
        .concat(),
    );
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(failures(&records).is_empty(), "{:?}", failures(&records));
    let samples = samples(&records);
    for engine in engines {
        for guest in ["hello", "noop"] {
            for pattern in [Pattern::Cold, Pattern::Fifty, Pattern::Warm, Pattern::Steady] {
                let of_point: Vec<&&Sample> = samples
                    .iter()
                    .filter(|sample| sample.point.engine == engine && sample.point.guest == guest)
                    .filter(|sample| sample.point.pattern == pattern)
                    .collect();
                check_point(engine, pattern, &of_point);
            }
        }
    }
}

/// Checks the samples of one process on any engine: the samples of its calls, then that of the whole process.
fn check_point(engine: &str, pattern: Pattern, samples: &[&&Sample]) {
    let (whole, calls) = samples.split_last().unwrap_or_else(|| panic!("{engine} {pattern:?} was not measured"));
    let context = format!("{engine} {pattern:?}: {whole:?}");
    let expected = match pattern {
        Pattern::Cold | Pattern::Warm => 1..=1,
        Pattern::Fifty => 50..=50,
        Pattern::Steady => 40..=1000,
    };
    assert!(expected.contains(&calls.len()), "{} calls; {context}", calls.len());
    for (i, call) in calls.iter().enumerate() {
        assert_eq!(call.iteration, u32::try_from(i).ok(), "{context}");
        let parts: u64 = call.wall_ns.iter().filter(|(phase, _)| **phase != Phase::Total).map(|(_, ns)| ns).sum();
        assert!(call.wall_ns[&Phase::Total] >= parts && call.wall_ns[&Phase::Execute] > 0, "{call:?}");
        // What runs in another process is not counted.
        assert_eq!(call.cpu_ns.get(&Phase::Total).is_some_and(|ns| *ns > 0), !has_workers(engine), "{call:?}");
        assert_eq!(call.answered_by.is_some(), CHOICES.contains(&engine), "{call:?}");
    }
    assert_eq!(whole.iteration, None, "{context}");
    assert!(whole.wall_ns[&Phase::Total] > whole.wall_ns[&Phase::Bootstrap], "{context}");
    assert_eq!(whole.peak_memory_bytes > Some(1 << 20), !has_workers(engine), "{context}");
    assert_eq!(whole.digest.len(), 64);
    let compiles = calls[0].wall_ns.contains_key(&Phase::Compile);
    let is_single = !CHOICES.contains(&engine);
    if is_single {
        // The artifact of an earlier process is loaded, if the engine keeps artifacts.
        let keeps_artifacts = !["wasmi.lazy", "node.v8"].contains(&engine);
        let loads = pattern == Pattern::Warm && keeps_artifacts;
        assert_eq!((compiles, calls[0].wall_ns.contains_key(&Phase::Load)), (!loads, loads), "{context}");
        assert!(whole.wall_ns[&Phase::Recompile] > 0, "{context}");
        assert_eq!(whole.code_bytes > Some(0), !has_workers(engine), "{context}");
        assert_eq!(whole.artifact_bytes.is_some(), keeps_artifacts, "{context}");
    }
}

#[test]
fn the_order_comes_from_the_seed() {
    let orders: Vec<Vec<(String, String, u32)>> = ["7", "7", "8"]
        .map(|seed| {
            let dir = mock_module();
            let guests = suite();
            let asked =
                ["--suite", "guest.wat", "--engines", "mock", "wasmi.lazy", "--pattern", "cold", "--seed", seed];
            let (out, records) = characterize(&dir, &[&asked[..], &["--processes", "4", "--guests", &guests]].concat());
            assert_eq!(runs(&records)[0].seed.to_string(), seed);
            assert!(text(&out.stderr).contains(&format!("--seed {seed}")));
            let owned = |(guest, engine, process): (&str, &str, u32)| (guest.to_owned(), engine.to_owned(), process);
            processes(&records).into_iter().map(owned).collect()
        })
        .into();
    assert_eq!(orders[0].len(), 2 * 2 * 4);
    assert_eq!(orders[0], orders[1]);
    assert_ne!(orders[0], orders[2]);
}

#[test]
fn a_wrong_output_is_a_failure_and_no_sample() {
    let dir = mock_module();
    fs::rename(dir.path().join("guest.wat"), dir.path().join("liar.wasm")).unwrap();
    fs::write(dir.path().join("expected.txt"), "the truth").unwrap();
    let case = |name: &str, args: &str| {
        format!("[[case]]\nname = \"{name}\"\nargs = {args}\nstdout = \"expected.txt\"\nexit_code = 0\n")
    };
    let manifest = format!(
        "name = \"liar\"\nsuite = \"test\"\n{}{}{}",
        case("honest", r#"["--print", "the truth"]"#),
        case("lying", r#"["--print", "a lie"]"#),
        case("trapping", r#"["--print", "the truth", "--trap"]"#),
    );
    fs::write(dir.path().join("guest.toml"), manifest).unwrap();
    let asked = ["--suite", ".", "--engines", "mock", "--processes", "3", "--pattern", "cold", "fifty"];
    let (out, records) = characterize(&dir, &[&asked[..], &["--case", "honest", "lying", "trapping"]].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    let cases: BTreeSet<&str> = samples(&records).iter().map(|sample| sample.point.case.as_str()).collect();
    assert_eq!(cases, BTreeSet::from(["honest"]));
    // A point that fails is not tried again in the same run.
    let mut failed: Vec<(&str, u32)> =
        failures(&records).iter().map(|failure| (failure.point.case.as_str(), failure.process)).collect();
    failed.sort_unstable();
    assert_eq!(failed, [("lying", 0), ("lying", 0), ("trapping", 0), ("trapping", 0)]);
    for failure in failures(&records) {
        let expected = if failure.point.case == "lying" { "wrong output: 5 bytes" } else { "trapped: unreachable" };
        assert!(failure.reason.contains(expected), "{}", failure.reason);
        assert!(text(&out.stderr).contains(&failure.reason));
    }
}

#[test]
fn nothing_but_failures_is_a_failure() {
    let dir = mock_module();
    let asked = ["--suite", "guest.wat", "--engines", "mock", "--", "--panic"];
    let (out, records) = characterize(&dir, &asked);
    assert_eq!(out.status.code(), Some(1), "{}", text(&out.stderr));
    assert!(!failures(&records).is_empty() && samples(&records).is_empty());
}

#[test]
fn a_module_of_ones_own_gets_its_arguments_and_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let cat = guest("cat/cat.wasm").display().to_string();
    fs::write(dir.path().join("in.txt"), "some input").unwrap();
    fs::write(dir.path().join("other.txt"), "some output").unwrap();
    let asked =
        ["--suite", &cat, "--engines", "wasmi.lazy", "--processes", "1", "--pattern", "cold", "--stdin", "in.txt"];
    let (out, records) = characterize(&dir, &[&asked[..], &["--expect", "in.txt"]].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    let sample = samples(&records)[0];
    assert_eq!((sample.point.suite.as_str(), sample.point.case.as_str()), ("external", "< in.txt"));
    fs::remove_file(dir.path().join("results.jsonl")).unwrap();
    let (out, records) = characterize(&dir, &[&asked[..], &["--expect", "other.txt"]].concat());
    assert_eq!(out.status.code(), Some(1));
    assert!(failures(&records)[0].reason.contains("10 bytes"), "{}", failures(&records)[0].reason);

    // Arguments decide what `args` does; without an expectation, all engines must do the same.
    let args = guest("args/args.wasm").display().to_string();
    fs::remove_file(dir.path().join("results.jsonl")).unwrap();
    let asked =
        ["--suite", &args, "--engines", "wasmi.lazy", "wasmtime.winch", "--processes", "2", "--pattern", "cold"];
    let (out, records) = characterize(&dir, &[&asked[..], &["--", "--exit", "7"]].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert_eq!((processes(&records).len(), samples(&records)[0].point.case.as_str()), (4, "--exit 7"));
}

#[test]
fn a_time_budget_drops_repetitions_first_and_a_resumed_run_makes_them_good() {
    let dir = mock_module();
    let asked = ["--suite", "guest.wat", "--engines", "mock", "wasmi.lazy", "--pattern", "cold", "--any-output"];
    let (out, records) = characterize(&dir, &[&asked[..], &["--processes", "1000", "--time-budget", "3s"]].concat());
    assert!(out.status.success(), "{}", text(&out.stderr));
    let before = processes(&records).len();
    assert!((2..2000).contains(&before), "{before} processes");
    let said = text(&out.stderr);
    let dropped = said.contains("repetitions: they were dropped") || said.contains("--time-budget is used up");
    assert!(dropped, "{said}");
    assert!(said.contains("--resume"), "{said}");

    // Shorten the plan in the file, so that this test has time for the rest.
    let rounds = u32::try_from(before.div_ceil(2)).unwrap() + 1;
    let results = dir.path().join("results.jsonl");
    let shorter =
        fs::read_to_string(&results).unwrap().replace("\"processes\":1000", &format!("\"processes\":{rounds}"));
    fs::write(&results, shorter).unwrap();
    let (out, records) = resume(&dir);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let all: BTreeSet<_> = processes(&records).into_iter().collect();
    assert_eq!(all.len(), processes(&records).len(), "nothing was measured twice");
    assert_eq!(all.len(), 2 * rounds as usize);
    let runs = runs(&records);
    assert_eq!(runs.len(), 2);
    assert_eq!((runs[0].seed, &runs[0].machine), (runs[1].seed, &runs[1].machine));
    assert_ne!(runs[0].run, runs[1].run);
}

/// Starts a run in the background.
fn start(dir: &TempDir, args: &[&str]) -> (Child, PathBuf) {
    let mut command = remuda();
    command.current_dir(dir.path()).args(["characterize", "-o", "results.jsonl"]).args(args);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    (child, dir.path().join("results.jsonl"))
}

/// Waits until the results have this number of lines. The run must still be going on then.
fn wait_for(child: &mut Child, results: &Path, lines: usize) {
    let count = || fs::read_to_string(results).map_or(0, |text| text.matches('\n').count());
    while count() < lines {
        assert!(child.try_wait().unwrap().is_none(), "the run ended after {} lines", count());
        std::thread::yield_now();
    }
}

fn interrupt(child: Child) -> std::process::Output {
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn ctrl_c_keeps_what_is_done() {
    let dir = mock_module();
    let asked = ["--suite", "guest.wat", "--engines", "mock", "--pattern", "cold", "--time-budget", "none"];
    let (mut child, results) = start(&dir, &[&asked[..], &["--processes", "100000", "--", "--print", "x"]].concat());
    wait_for(&mut child, &results, 5);
    let out = interrupt(child);
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    let said = text(&out.stderr);
    assert!(said.contains("stopped: ") && said.contains("remuda characterize --resume results.jsonl"), "{said}");
    let records = read(&results);
    let kept = processes(&records).len();
    assert!(kept >= 2);
    assert!(failures(&records).is_empty(), "a process that was stopped is no failure");
    // The records are the run's, and two for each process: its call and itself. Nothing is cut off.
    assert_eq!(records.len(), 1 + 2 * kept);
    assert!(said.contains(&format!("{kept} processes were measured")), "{said}");
}

#[test]
fn ctrl_c_does_not_wait_for_a_guest_that_does_not_end() {
    let dir = mock_module();
    let asked =
        ["--suite", "guest.wat", "--engines", "mock", "--timeout", "1h", "--time-budget", "none", "--", "--spin"];
    let (mut child, results) = start(&dir, &asked);
    wait_for(&mut child, &results, 1);
    let out = interrupt(child);
    assert_eq!(out.status.code(), Some(130), "{}", text(&out.stderr));
    assert_eq!(read(&results).len(), 1, "only the run itself");
}

#[test]
fn a_guest_that_does_not_end_is_a_failure_at_its_time_limit() {
    let dir = mock_module();
    let asked = ["--suite", "guest.wat", "--engines", "mock", "--pattern", "cold", "--timeout", "20ms", "--", "--spin"];
    let (_, records) = characterize(&dir, &asked);
    assert!(failures(&records)[0].reason.contains("stopped at its deadline"), "{:?}", failures(&records));
}

#[test]
fn what_cannot_be_measured_is_said_with_the_way_out() {
    let dir = mock_module();
    for (args, complaint) in [
        (&["--engines", "v8"][..], "there is no engine named \"v8\"; known engines are "),
        (&["--suite", "absent"], "there is no suite, folder or module \"absent\""),
        (&["--engines", "native"], "python guests/build.py --native"),
        (&["--suite", "guest.wat", "--stdin", "absent.txt"], "absent.txt"),
        (&["--resume", "absent.jsonl"], "cannot go on with \"absent.jsonl\""),
        (&["--resume", "a", "--seed", "1"], "cannot be used with"),
        (&["--processes", "0"], "--processes"),
    ] {
        let mut command = remuda();
        let out = output(command.current_dir(dir.path()).arg("characterize").args(args), b"");
        assert!(!out.status.success(), "{args:?}");
        assert!(text(&out.stderr).contains(complaint), "{args:?}: {}", text(&out.stderr));
    }
    fs::write(dir.path().join("results.jsonl"), "").unwrap();
    let (out, _) = characterize(&dir, &["--suite", "guest.wat", "--engines", "mock"]);
    assert!(text(&out.stderr).contains("is there already"), "{}", text(&out.stderr));
}

#[test]
fn results_go_to_standard_output_if_asked() {
    let dir = mock_module();
    let mut command = remuda();
    command.current_dir(dir.path()).args(["characterize", "-o", "-", "--suite", "guest.wat", "--engines", "mock"]);
    let out = output(command.args(["--processes", "1", "--pattern", "cold"]), b"");
    let records = row::read(&mut out.stdout.as_slice()).unwrap();
    assert_eq!(records.len(), 3, "{records:?}");
    let Run { machine, commit, command, .. } = runs(&records)[0];
    assert!(machine.cores > 0 && machine.memory_bytes > 0 && !machine.kernel.is_empty() && !commit.is_empty());
    assert!(command.starts_with("remuda characterize -o - --suite guest.wat"), "{command}");
}

/// Measures native twins and other programs, as far as they are installed here.
#[test]
fn programs_of_their_own_are_measured_as_a_whole() {
    let dir = tempfile::tempdir().unwrap();
    let asked = ["--suite", &hello(), "--processes", "1", "--pattern", "cold", "fifty", "--guests", &suite()];
    let (out, records) = characterize(&dir, &asked);
    assert!(out.status.success(), "{}", text(&out.stderr));
    assert!(failures(&records).is_empty(), "{:?}", failures(&records));
    let said = text(&out.stderr);
    for engine in ["native", "peer.wasmtime", "peer.node"] {
        let of_engine: Vec<_> = samples(&records).into_iter().filter(|sample| sample.point.engine == engine).collect();
        // Either the engine is here, or a message says how to get it.
        let is_said = said.contains(&format!("not measured: {engine}: "));
        assert_eq!(of_engine.is_empty(), is_said, "{engine}: {said}");
        for sample in of_engine {
            assert_eq!((sample.iteration, sample.point.pattern), (None, Pattern::Cold), "{sample:?}");
            assert!(sample.wall_ns[&Phase::Total] > 0 && sample.cpu_ns[&Phase::Total] > 0, "{sample:?}");
            assert!(!sample.engine_version.is_empty(), "{sample:?}");
        }
    }
}
