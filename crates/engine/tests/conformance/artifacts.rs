//! Artifacts that are written to a file and loaded, as the store does it: with other bytes after them. The guest must
//! be the same before and after.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use remuda_engine::{Artifact, EngineError, Known, Module, StoredArtifact};
use remuda_model::{Entry, Value};

use crate::outcomes::{self, CASES, PLACES};
use crate::support::{End, Setup, able, assert_end, compile, engines, export, guest, live, open, parse};

/// Bytes that a store may append, long enough to be mistaken for a part of the artifact.
const TRAILER: &[u8] = &[0xa5; 4096 + 7];

fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("conformance-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Writes `bytes` and a trailer, and opens them as the store would.
fn stored(name: &str, bytes: &[u8]) -> StoredArtifact {
    let path = scratch(name);
    std::fs::write(&path, [bytes, TRAILER].concat()).unwrap();
    let file = File::open(&path).unwrap();
    // The file exists as long as it is open.
    std::fs::remove_file(&path).unwrap();
    // SAFETY: the bytes are what a test below has just got from `serialize`, or bytes that the engine must refuse
    // before it executes anything. The file has no name any more, so that nobody else can change it.
    unsafe { StoredArtifact::assume_authentic(file, bytes.len()) }
}

fn keeping(module: &Module) -> impl Iterator<Item = &'static Known> {
    able(module).into_iter().filter(|known| known.capabilities.artifacts)
}

pub(crate) fn reload(known: &Known, module: &Module, artifact: &Arc<dyn Artifact>, name: &str) -> Arc<dyn Artifact> {
    let bytes = artifact.serialize().unwrap_or_else(|error| panic!("{error}"));
    let bytes = bytes.unwrap_or_else(|| panic!("{} says that it keeps artifacts, and gives none", known.id));
    let stored = stored(&format!("{name}-{}", known.id), &bytes);
    open(known).load(module, &stored).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_end_is_the_same_after_a_round_trip() {
    for (i, case) in CASES.iter().enumerate() {
        let place = PLACES[i % PLACES.len()];
        let module = outcomes::module(case, place);
        for known in keeping(&module) {
            let loaded = reload(known, &module, &compile(known, &module), "ends");
            let ended = live(&loaded, &place.entry(), &Setup::default()).unwrap_or_else(|error| panic!("{error}"));
            assert_end(known.id, ended.end(), case.end, &format_args!("{} in {place:?}", case.name));
            assert_eq!(&ended.output.stdout[..], b"before", "{} in {place:?} on {}", case.name, known.id);
        }
    }
}

#[test]
fn real_guests_are_the_same_after_a_round_trip() {
    for (path, args) in [("hello/hello.wasm", "name"), ("sha256/sha256.wasm", ""), ("fib/fib.wasm", "20")] {
        let module = guest(path);
        for known in keeping(&module) {
            let mut setup = Setup::default();
            setup.context.args = vec![path.into()];
            setup.context.args.extend((!args.is_empty()).then(|| args.into()));
            setup.context.stdin = remuda_model::Stdin::Bytes(b"abc"[..].into());
            let artifact = compile(known, &module);
            let loaded = reload(known, &module, &artifact, "guests");
            let run = |artifact| live(artifact, &Entry::Command, &setup).unwrap_or_else(|error| panic!("{error}"));
            let (before, after) = (run(&artifact), run(&loaded));
            assert!(!before.output.stdout.is_empty(), "{path} on {}: {before:?}", known.id);
            assert_eq!(before, after, "{path} on {}", known.id);
        }
    }
}

/// A loaded artifact can be written and loaded once more.
#[test]
fn a_loaded_artifact_is_an_artifact() {
    let module =
        parse(r#"(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"#);
    for known in keeping(&module) {
        let first = reload(known, &module, &compile(known, &module), "first");
        assert!(first.memory_bytes() > 0, "{}", known.id);
        let second = reload(known, &module, &first, "second");
        drop(first);
        let ended = live(&second, &export("add", &[Value::I32(40), Value::I32(2)]), &Setup::default()).unwrap();
        assert_eq!(ended.called.values, [Value::I32(42)], "{}", known.id);
    }
}

/// Wasmtime maps an artifact's file into memory and runs the code there, so that loading does not read all of it.
#[cfg(target_os = "linux")]
#[test]
fn wasmtime_maps_the_file() {
    let module = parse(r#"(module (func (export "run") (result i32) (i32.const 1)))"#);
    for known in keeping(&module).filter(|known| known.id.as_str().starts_with("wasmtime.")) {
        let name = format!("mapped-{}", known.id);
        let is_mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().any(|line| line.contains(&name));
        let loaded = reload(known, &module, &compile(known, &module), "mapped");
        assert!(is_mapped(), "{}", known.id);
        let ended = live(&loaded, &export("run", &[]), &Setup::default()).unwrap();
        assert_eq!(ended.called.values, [Value::I32(1)], "{}", known.id);
        drop(loaded);
        assert!(!is_mapped(), "{}", known.id);
    }
}

#[test]
fn engines_that_keep_no_artifacts_say_so() {
    let module = parse(r#"(module (func (export "run")))"#);
    for known in engines().into_iter().filter(|known| !known.capabilities.artifacts) {
        assert!(compile(known, &module).serialize().unwrap().is_none(), "{}", known.id);
        refuses(known, &module, "none", b"anything");
    }
}

#[test]
fn what_is_no_artifact_is_refused() {
    let module = parse(r#"(module (func (export "run")))"#);
    let wasm = module.bytes().to_vec();
    for known in keeping(&module) {
        for (name, bytes) in [
            ("empty", Vec::new()),
            ("zeros", vec![0; 5000]),
            ("text", b"not an artifact\n".repeat(300)),
            ("the module itself", wasm.clone()),
        ] {
            refuses(known, &module, name, &bytes);
        }
        // The engine still works after these errors.
        let ended = live(&compile(known, &module), &export("run", &[]), &Setup::default()).unwrap();
        assert_eq!(ended.end(), End::Returned, "{}", known.id);
    }
}

#[test]
fn another_engine_s_artifact_is_refused() {
    let module = parse(r#"(module (func (export "run")))"#);
    for from in keeping(&module) {
        let bytes = compile(from, &module).serialize().unwrap().unwrap();
        for to in able(&module).into_iter().filter(|to| to.id != from.id) {
            refuses(to, &module, "foreign", &bytes);
        }
    }
}

fn refuses(known: &Known, module: &Module, name: &str, bytes: &[u8]) {
    match open(known).load(module, &stored(&format!("{name}-{}", known.id), bytes)) {
        Err(EngineError::Load { engine, reason }) => {
            assert_eq!(engine, known.id);
            assert!(!reason.is_empty(), "{name} on {}", known.id);
        }
        Err(other) => panic!("{name} on {}: {other:?}", known.id),
        Ok(_) => panic!("{} loads {name}", known.id),
    }
}
