//! Modules on which engines once disagreed, each with the one right answer.
//!
//! A file is a module as text. Its lines that begin with `;; ` are calls with their expected results, all on one
//! instance: `;; EXPORT ARGUMENT... -> OUTCOME VALUE...`.

use std::fs;
use std::path::Path;

use remuda_engine::{Module, Registry};
use remuda_model::{Entry, ModuleLimits, Value, ValueType};

use super::compare::run;

#[test]
fn what_was_found_stays_right() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/regressions");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "wat"));
    files.sort();
    assert!(!files.is_empty(), "there are none in {folder:?}");
    for file in files {
        check(&file);
    }
}

fn check(file: &Path) {
    let text = fs::read_to_string(file).unwrap();
    let wasm = wat::parse_str(&text).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let module = Module::parse(wasm, &ModuleLimits::default()).unwrap_or_else(|error| panic!("{file:?}: {error}"));
    let lines: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix(";; ")).collect();
    let expected: Vec<(&str, &str)> = lines.iter().filter_map(|line| line.split_once(" -> ")).collect();
    assert!(!expected.is_empty(), "{file:?} expects nothing");
    let calls: Vec<Entry> = expected.iter().map(|(call, _)| entry(&module, call)).collect();

    let registry = Registry::default();
    let able = registry.able(&module).filter(|known| known.automatic);
    let mut engines = 0;
    for known in able {
        engines += 1;
        let engine = registry.open(known.id).unwrap_or_else(|error| panic!("{error}"));
        let run = run(&**engine, &module, &calls).unwrap_or_else(|error| panic!("{file:?} on {}: {error}", known.id));
        let found: Vec<&str> = run.lines.iter().filter_map(|line| Some(line.split_once(" -> ")?.1)).collect();
        let expected: Vec<&str> = expected.iter().map(|(_, outcome)| *outcome).collect();
        assert_eq!(found, expected, "{file:?} on {}", known.id);
    }
    assert!(engines > 0, "no engine of this build can run {file:?}");
}

fn entry(module: &Module, call: &str) -> Entry {
    let mut words = call.split(' ');
    let name = words.next().unwrap_or_default().to_owned();
    let ty = module.function(&name).unwrap_or_else(|| panic!("there is no export {name:?}"));
    let types = ty.params.iter().copied();
    let args = types.zip(words).map(|(ty, word)| argument(ty, word)).collect();
    let entry = Entry::Export { name, args };
    module.check_entry(&entry).unwrap_or_else(|error| panic!("{error}"));
    entry
}

fn argument(ty: ValueType, word: &str) -> Value {
    Value::parse(word, ty).unwrap_or_else(|| panic!("{word:?} is no {ty}"))
}
