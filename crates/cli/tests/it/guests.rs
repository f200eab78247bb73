//! Runs every guest of the suite on every engine, and as a component where components run: all must give the expected
//! bytes, exit codes and traps.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;

use crate::support::{COMPONENT_ENGINES, component_of, engines, guest, output, run_on, says_trap, text};

/// The content of a `guest.toml`, as far as the test needs it.
#[derive(Deserialize)]
struct Guest {
    name: String,
    suite: String,
    #[serde(default)]
    variant: Vec<Variant>,
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Variant {
    name: String,
}

#[derive(Clone, Deserialize)]
struct Case {
    name: String,
    tier: String,
    #[serde(default)]
    args: Vec<String>,
    stdin: Option<PathBuf>,
    stdout: Option<PathBuf>,
    exit_code: Option<i32>,
    trap: Option<String>,
}

struct Task {
    label: String,
    engine: &'static str,
    module: PathBuf,
    /// Whether the module is run as a component, with the adapter that makes WASI 0.2 of its WASI preview 1.
    as_component: bool,
    folder: PathBuf,
    case: Case,
}

#[test]
fn every_guest_on_every_engine_gives_the_expected_bytes() {
    let tasks = tasks();
    let modules: std::collections::BTreeSet<_> = tasks.iter().map(|task| &task.module).collect();
    let built = find(&guest("."), "wasm");
    let left_out: Vec<_> = built.iter().filter(|module| !modules.contains(module) && !has_no_case(module)).collect();
    assert!(left_out.is_empty(), "no test case runs {left_out:?}");

    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(failure) = check(task) {
                        failures.lock().unwrap().push(format!("{} on {}: {failure}", task.label, task.engine));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {} cases fail:\n{}", failures.len(), tasks.len(), failures.join("\n"));
}

/// Whether a module needs no case. A reactor does not run by itself: `run/entry.rs` calls its exports. Components have tests of
/// their own: `wasi_http.rs`. The suite "wasi" needs folders: `wasi.rs` runs it.
fn has_no_case(module: &Path) -> bool {
    let elsewhere = ["reactor/reactor.wasm", "http/http.wasm", "p3/p3.wasm"];
    elsewhere.iter().any(|other| module.ends_with(other)) || module.starts_with(guest("wasi"))
}

/// The tasks: every case of tier `test`, for every variant, on every engine that can run it.
fn tasks() -> Vec<Task> {
    let mut tasks = Vec::new();
    for manifest in find(&guest("."), "toml") {
        let folder = manifest.parent().unwrap().to_owned();
        let parsed: Guest = toml::from_str(&std::fs::read_to_string(&manifest).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", manifest.display()));
        if parsed.suite == "wasi" {
            continue;
        }
        let plain = format!("{}.wasm", parsed.name);
        let variants = parsed.variant.iter().map(|variant| format!("{}.{}.wasm", parsed.name, variant.name));
        for (i, file) in std::iter::once(plain).chain(variants).enumerate() {
            let module = folder.join(&file);
            if !module.exists() {
                // A guest that traps may consist of variants only.
                continue;
            }
            for case in parsed.case.iter().filter(|case| case.tier == "test") {
                for engine in engines().iter().copied().filter(|engine| can_run(engine, &file)) {
                    tasks.push(Task {
                        label: format!("{file} {}", case.name),
                        engine,
                        module: module.clone(),
                        as_component: false,
                        folder: folder.clone(),
                        case: case.clone(),
                    });
                }
                for engine in COMPONENT_ENGINES.into_iter().filter(|_| i == 0 && parsed.suite != "trap") {
                    tasks.push(Task {
                        label: format!("{file} as a component {}", case.name),
                        engine,
                        module: module.clone(),
                        as_component: true,
                        folder: folder.clone(),
                        case: case.clone(),
                    });
                }
            }
        }
    }
    assert!(tasks.len() > 300, "only {} cases were found", tasks.len());
    tasks
}

const WITH_FUNCTIONS_AS_VALUES: [&str; 4] = [
    "indirect_call_to_null.reset.wasm",
    "table_out_of_bounds.wasm",
    "table_out_of_bounds.set.wasm",
    "table_out_of_bounds.fill.wasm",
];

/// Whether an engine can run a module.
fn can_run(engine: &str, file: &str) -> bool {
    match engine {
        // They have no SIMD, as `remuda engines` says.
        "wasmer.singlepass" | "wavm.llvm" => !file.ends_with(".simd.wasm"),
        // Nor has it functions as values.
        "lucet.cranelift" => !file.ends_with(".simd.wasm") && !WITH_FUNCTIONS_AS_VALUES.contains(&file),
        // LLVM 15 crashes when it is to make machine code of a function in there, whatever was optimized before.
        "wasmer.llvm" => file != "canny.simd.wasm",
        _ => true,
    }
}

fn check(task: &Task) -> Result<(), String> {
    let Case { args, stdin, stdout, exit_code, trap, .. } = &task.case;
    let read =
        |path: &PathBuf| std::fs::read(task.folder.join(path)).map_err(|error| format!("{}: {error}", path.display()));
    let input = stdin.as_ref().map(read).transpose()?.unwrap_or_default();
    let runs_away = trap.as_deref() == Some("interrupted");
    let mut command = run_on(task.engine);
    if runs_away {
        command.args(["--timeout", "50ms"]);
    }
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    let module = if task.as_component { component_of(&task.module, scratch.path()) } else { task.module.clone() };
    let out = output(command.arg(&module).args(args), &input);

    let stderr = text(&out.stderr);
    let expected_code = match trap.as_deref() {
        // WASI 0.2 only tells success from failure.
        None if task.as_component => exit_code.map_or(0, |code| i32::from(code != 0)),
        None => exit_code.unwrap_or(0),
        Some("interrupted") => 124,
        Some(_) => 134,
    };
    if out.status.code() != Some(expected_code) {
        return Err(format!("it ends with {}, not with {expected_code}; it says {stderr:?}", out.status));
    }
    if let Some(kind) = trap.as_deref().filter(|_| !runs_away)
        && !says_trap(task.engine, &stderr, kind)
    {
        return Err(format!("it does not trap as {kind}: {stderr:?}"));
    }
    let expected = stdout.as_ref().map(read).transpose()?.unwrap_or_default();
    if trap.is_none() && out.stdout != expected {
        return Err(format!("{} bytes of output are not the {} expected", out.stdout.len(), expected.len()));
    }
    Ok(())
}

/// Finds all files below `folder` with this extension.
fn find(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
