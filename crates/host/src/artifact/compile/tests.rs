use std::path::PathBuf;

use remuda_engine::Registry;
use remuda_model::ModuleLimits;
use tempfile::TempDir;

use super::*;

const BUDGET: CompileBudget = CompileBudget { time_max: Duration::from_hours(1), memory_bytes_max: 32 << 20 };

/// A program that does what `script` says, instead of compiling.
pub(crate) fn fake(script: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("compiler");
    // Another process writes the file: a file that a thread of this process has open for writing cannot be started, and
    // neither while a child that another test has just forked still has it open.
    let write = r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1""#;
    let status = Command::new("/bin/sh").args(["-c", write, "sh"]).arg(&path).arg(script).status().unwrap();
    assert!(status.success());
    (dir, path)
}

pub(crate) fn compiler(program: PathBuf, budget: CompileBudget) -> Compiler {
    // Background compiles are done in a child, however small the module is.
    let deadlines = Arc::new(Deadlines::default());
    Compiler { background_code_bytes_min: 0, ..Compiler::new(Some(program), budget, deadlines) }
}

fn compile(program: PathBuf, budget: CompileBudget, urgency: Urgency) -> Result<Compiled, Failure> {
    let registry = Registry::default();
    let known = registry.find("mock").unwrap();
    let module = Module::parse(wat::parse_str("(module)").unwrap(), &ModuleLimits::default()).unwrap();
    compiler(program, budget).compile(&**registry.open(known.id).unwrap(), known, &module, urgency)
}

fn failure(program: PathBuf, budget: CompileBudget) -> (String, bool) {
    let Failure { error, will_recur } = compile(program, budget, Urgency::Nobody).err().expect("it has no artifact");
    assert!(matches!(error, EngineError::Compile { .. }), "{error:?}");
    (error.to_string(), will_recur)
}

#[test]
fn however_a_compiler_ends_it_is_an_error_that_says_so() {
    for (script, said, will_recur) in [
        ("kill -KILL $$", "the compiler was killed", false),
        ("kill -TERM $$", "the compiler was killed", false),
        ("kill -SEGV $$", "the compiler crashed (signal: 11", true),
        ("echo 'too many tables' >&2; exit 3", "cannot compile the module: too many tables", true),
        ("echo 'oh\nno' >&2; exit 1", "exit code 1: oh no", false),
        ("exit 1", "exit code 1: it said nothing", false),
        ("echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$", "its budget of 32.0 MiB", true),
        // The child writes without end, into a file in memory, which is held to the budget, too.
        ("exec cat /dev/zero", "its budget of 32.0 MiB", true),
        ("exit 0", "is no artifact: it is too short", false),
        ("head -c 1000 /dev/urandom", "is no artifact: it has no trailer", false),
        // The child writes back the key and the module.
        ("exec cat", "is no artifact: it is too short", false),
    ] {
        let (_dir, program) = fake(script);
        let (reason, recurs) = failure(program, BUDGET);
        assert!(reason.contains(said), "{script:?}: {reason}");
        assert_eq!(recurs, will_recur, "{script:?}: {reason}");
    }
    let (reason, will_recur) = failure("/nonexistent".into(), BUDGET);
    assert!(reason.contains("cannot start the compiler \"/nonexistent\": No such file"), "{reason}");
    assert!(!will_recur);
}

#[test]
fn a_compiler_that_takes_too_long_is_ended() {
    let (_dir, program) = fake("exec sleep 3600");
    let (reason, will_recur) = failure(program, CompileBudget { time_max: Duration::from_millis(30), ..BUDGET });
    assert!(reason.contains("longer than its budget of 30ms") && reason.contains("--compile-timeout"), "{reason}");
    assert!(will_recur);
}

#[test]
fn a_host_that_ends_waits_for_no_compiler() {
    let (_dir, program) = fake("exec sleep 3600");
    let registry = Registry::default();
    let known = registry.find("mock").unwrap();
    let module = Module::parse(wat::parse_str("(module)").unwrap(), &ModuleLimits::default()).unwrap();
    let compiler = compiler(program, BUDGET);
    let engine = &**registry.open(known.id).unwrap();
    std::thread::scope(|scope| {
        let compiling = scope.spawn(|| compiler.compile(engine, known, &module, Urgency::Nobody).err());
        compiler.close();
        let failure = compiling.join().unwrap().expect("it has no artifact");
        assert!(failure.error.to_string().contains("the host ends") && !failure.will_recur, "{failure:?}");
    });
}

#[test]
fn a_compiler_gets_the_module_its_limits_and_nothing_of_ours() {
    let (_dir, program) = fake(
        "while [ $(ulimit -d) = unlimited ] || [ $(ulimit -c) != 0 ]; do :; done
        tail -c +33 | od -A n -t x1 >&2; env >&2; pwd >&2; ulimit -d >&2; ulimit -f >&2; ulimit -c >&2; echo $@ >&2",
    );
    // Cargo sets this variable for the programs that it runs.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let registry = Registry::default();
    let module = Module::parse(wat::parse_str("(module)").unwrap(), &ModuleLimits::default()).unwrap();
    let known = registry.find("mock").unwrap();
    let (artifact, said) = (memory_file().unwrap(), memory_file().unwrap());
    let compiler = compiler(program, BUDGET);
    let child = start(compiler.program.as_ref().unwrap(), known, &[7; 32], &module, BUDGET, &artifact, &said).unwrap();
    compiler.wait(child, BUDGET, &said).ok().expect("it succeeds");
    let words = last_words(&said);
    assert!(words.starts_with("00 61 73 6d 01 00 00 00 "), "{words}");
    assert!(!words.contains("CARGO"), "{words}");
    let kib = BUDGET.memory_bytes_max >> 10;
    assert!(
        words.ends_with(&format!(
            " / {kib} {} 0 compile-child mock --threads {} --memory-bytes {}",
            2 * kib,
            threads(),
            kib << 10
        )),
        "{words}"
    );
}

#[test]
fn who_waits_for_little_code_does_not_wait_for_a_child() {
    let compiled = compile("/nonexistent".into(), BUDGET, Urgency::Request);
    assert!(compiled.is_ok_and(|compiled| compiled.serialized.is_none()));
}

#[test]
fn what_was_sealed_cannot_be_changed() {
    let mut file = memory_file().unwrap();
    file.write_all(b"machine code").unwrap();
    let mut other = file.try_clone().unwrap();
    seal(&file).unwrap();
    assert!(other.write_all(b"!").is_err() && other.set_len(1).is_err());
    assert!(
        File::options()
            .write(true)
            .open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&other)))
            .is_ok_and(|mut again| again.write_all(b"?").is_err())
    );
}

#[test]
fn what_is_the_only_way_has_a_budget_of_its_own() {
    let (_dir, program) = fake("sleep 0.05; printf '%s' \"$*\" >&2; exit 3");
    let registry = Registry::default();
    let known = registry.find("mock").unwrap();
    let module = Module::parse(wat::parse_str("(module)").unwrap(), &ModuleLimits::default()).unwrap();
    let little = CompileBudget { time_max: Duration::from_millis(1), ..BUDGET };
    let boundless = CompileBudget { time_max: Duration::MAX, memory_bytes_max: u64::MAX };
    let compiler = Compiler { waited_for_code_bytes_min: Some(0), ..compiler(program, little) };
    let compiler = compiler.with_only_way_budget(boundless);
    let said = |urgency| {
        let failure = compiler.compile(&**registry.open(known.id).unwrap(), known, &module, urgency).err();
        failure.expect("it has no artifact").error.to_string()
    };
    for urgency in [Urgency::Request, Urgency::Racer, Urgency::Nobody] {
        assert!(said(urgency).contains("longer than its budget of 1ms"), "{urgency:?}");
    }
    let only_way = said(Urgency::OnlyWay);
    assert!(only_way.contains("compile-child mock") && !only_way.contains("--memory-bytes"), "{only_way}");
}
