//! Tests of the documents: their links lead somewhere, the files that they name exist, and each promise of
//! SPECIFICATION.md names a test that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Folders in which documents stand; generated reports are none.
const FOLDERS: [&str; 4] = ["", "docs", "guests", "results"];
/// Written by `remuda report`: it has guests' names in backticks, not files.
const GENERATED: &str = "report.md";

/// The path and text of every document.
fn documents() -> Vec<(PathBuf, String)> {
    let mut documents = Vec::new();
    for folder in FOLDERS {
        for file in fs::read_dir(root().join(folder)).unwrap() {
            let path = file.unwrap().path();
            let is_document = path.extension().is_some_and(|extension| extension == "md") && !path.ends_with(GENERATED);
            if is_document {
                documents.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(documents.len() > 18, "only {} documents were found", documents.len());
    documents
}

/// The text without its blocks of code.
fn prose(text: &str) -> String {
    let mut is_code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            prose += line;
            prose.push('\n');
        }
    }
    prose
}

/// What stands between `open` and `close`, wherever that occurs within a line or two.
fn between<'a>(text: &'a str, open: &'a str, close: char) -> impl Iterator<Item = &'a str> {
    text.split(open).skip(1).filter_map(move |rest| rest.split_once(close).map(|(inner, _)| inner))
}

fn in_backticks(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The anchor of a heading, as code hosts make it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut links = 0;
    let mut dead = Vec::new();
    for (path, text) in documents() {
        let text = prose(&text);
        for target in between(&text, "](", ')') {
            if target.contains("://") {
                continue;
            }
            links += 1;
            let (file, fragment) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            let has_fragment = || {
                let text = fs::read_to_string(&file).unwrap_or_default();
                text.lines()
                    .filter_map(|line| line.strip_prefix('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == fragment)
            };
            if !file.exists() || !(fragment.is_empty() || has_fragment()) {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(links > 60, "only {links} links were found");
    assert!(dead.is_empty(), "{dead:#?}");
}

#[test]
fn every_file_that_is_named_exists() {
    /// Folders of this repository.
    const BEGINNINGS: [&str; 6] = ["crates/", "docs/", "examples/", "guests/", "scripts/", "fuzz/"];
    let mut files = 0;
    let mut missing = Vec::new();
    for (path, text) in documents() {
        for name in in_backticks(&prose(&text)) {
            let is_file = BEGINNINGS.iter().any(|beginning| name.starts_with(beginning));
            let has_placeholder = name.contains(['*', '<', ' ', '{']) || name.chars().any(|c| c.is_ascii_uppercase());
            if is_file && !has_placeholder {
                files += 1;
                if !root().join(name).exists() {
                    missing.push(format!("{}: {name}", path.display()));
                }
            }
        }
    }
    assert!(files > 40, "only {files} files were found");
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The names of all functions with `#[test]`, and of all modules that have any, with their files.
fn tests() -> (BTreeSet<String>, Vec<PathBuf>) {
    let (mut names, mut files) = (BTreeSet::new(), Vec::new());
    let mut folders = vec![root().join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                let mut lines = source.lines().peekable();
                let mut has_tests = false;
                while let Some(line) = lines.next() {
                    if line.trim() != "#[test]" {
                        continue;
                    }
                    let declaration = lines.by_ref().map(str::trim).find(|line| line.starts_with("fn ")).unwrap();
                    names.insert(declaration["fn ".len()..].split('(').next().unwrap().to_owned());
                    has_tests = true;
                }
                if has_tests {
                    files.push(path);
                }
            }
        }
    }
    (names, files)
}

#[test]
fn every_promise_names_a_test_or_a_benchmark_that_exists() {
    let (tests, files) = tests();
    // A module by the path of its file, as in `crates/host/src/artifact/store/tests` and `crates/scheduler/src/waste`.
    let modules: Vec<String> = files.iter().map(|file| file.with_extension("").display().to_string()).collect();
    let specification = fs::read_to_string(root().join("SPECIFICATION.md")).unwrap();
    let mut promises = 0;
    let mut wrong = Vec::new();
    for row in specification.lines().filter(|line| line.starts_with("| ")) {
        let [promise, keepers] = *row.trim_matches('|').split(" | ").collect::<Vec<_>>() else {
            panic!("a row has two cells: {row}")
        };
        if promise.trim() == "promise" {
            continue;
        }
        promises += 1;
        assert!(keepers.contains('`') || keepers.contains("checkers"), "nothing keeps the promise {promise}");
        for keeper in in_backticks(keepers) {
            let is_there = if let Some((_, bench)) = keeper.split_once("--bench ") {
                let bench = bench.split(' ').next().unwrap();
                fs::read_dir(root().join("crates")).unwrap().any(|krate| {
                    let benches = krate.unwrap().path().join("benches");
                    benches.join(format!("{bench}.rs")).exists() || benches.join(bench).join("main.rs").exists()
                })
            } else if keeper.contains('/') {
                root().join(keeper).exists()
            } else if keeper.starts_with("remuda ") {
                true
            } else {
                let segments: Vec<&str> = keeper.split("::").collect();
                let last = *segments.last().unwrap();
                let module: Vec<&str> = segments.iter().copied().filter(|segment| *segment != "tests").collect();
                let is_module = |module: &str| {
                    let module = format!("/{}", module.replace("::", "/"));
                    modules.iter().any(|path| {
                        [&module, &format!("{module}/tests"), &format!("{module}/mod")]
                            .iter()
                            .any(|end| path.ends_with(*end))
                    })
                };
                tests.contains(last) || is_module(&module.join("::"))
            };
            if !is_there {
                wrong.push(format!("{keeper} ({promise})"));
            }
        }
    }
    assert!(promises > 40, "only {promises} promises were found");
    assert!(wrong.is_empty(), "{wrong:#?}");
}
