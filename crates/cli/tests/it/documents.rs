//! Tests of the documents: their links lead somewhere, the files that they name exist, and each promise of
//! SPECIFICATION.md names a test that exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::in_backticks;

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

/// Everything that can keep a promise.
struct Keepers {
    /// The names of all functions with `#[test]`.
    tests: BTreeSet<String>,
    /// The modules that have any, by the paths of their files, as in `crates/host/src/artifact/store/tests` and
    /// `crates/scheduler/src/waste`.
    modules: Vec<String>,
}

impl Keepers {
    fn of_all_crates() -> Self {
        let (mut tests, mut modules) = (BTreeSet::new(), Vec::new());
        let mut folders = vec![root().join("crates")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let source = fs::read_to_string(&path).unwrap();
                    let mut lines = source.lines().map(str::trim);
                    let mut has_tests = false;
                    while lines.by_ref().any(|line| line == "#[test]") {
                        let declaration = lines.by_ref().find_map(|line| line.strip_prefix("fn ")).unwrap();
                        tests.insert(declaration.split('(').next().unwrap().to_owned());
                        has_tests = true;
                    }
                    if has_tests {
                        modules.push(path.with_extension("").display().to_string());
                    }
                }
            }
        }
        Self { tests, modules }
    }

    /// Whether there is a test, a module with tests, a file or a benchmark of this name.
    fn have(&self, keeper: &str) -> bool {
        if let Some((_, bench)) = keeper.split_once("--bench ") {
            let bench = bench.split(' ').next().unwrap();
            return fs::read_dir(root().join("crates")).unwrap().any(|krate| {
                let benches = krate.unwrap().path().join("benches");
                benches.join(format!("{bench}.rs")).exists() || benches.join(bench).join("main.rs").exists()
            });
        }
        if keeper.contains('/') {
            return root().join(keeper).exists();
        }
        if keeper.starts_with("remuda ") {
            return true;
        }
        let segments: Vec<&str> = keeper.split("::").filter(|segment| *segment != "tests").collect();
        let module = format!("/{}", segments.join("/"));
        let ends = [module.clone(), format!("{module}/tests"), format!("{module}/mod")];
        self.tests.contains(*segments.last().unwrap())
            || self.modules.iter().any(|path| ends.iter().any(|end| path.ends_with(end)))
    }
}

/// The rows of the tables of a document that have so many cells, without their heads.
fn rows<const CELLS: usize>(document: &str, head: &str) -> Vec<[String; CELLS]> {
    let text = fs::read_to_string(root().join(document)).unwrap();
    let cells = |row: &str| -> [String; CELLS] {
        let cells: Vec<String> = row.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
        cells.try_into().unwrap_or_else(|cells| panic!("a row of {document} has {CELLS} cells: {cells:?}"))
    };
    text.lines().filter(|line| line.starts_with("| ")).map(cells).filter(|cells| cells[0] != head).collect()
}

#[test]
fn every_promise_names_a_test_or_a_benchmark_that_exists() {
    let keepers = Keepers::of_all_crates();
    let promises = rows::<2>("SPECIFICATION.md", "promise");
    let mut wrong = Vec::new();
    for [promise, kept_by] in &promises {
        assert!(kept_by.contains('`') || kept_by.contains("checkers"), "nothing keeps the promise {promise}");
        wrong.extend(
            in_backticks(kept_by).filter(|keeper| !keepers.have(keeper)).map(|name| format!("{name} ({promise})")),
        );
    }
    assert!(promises.len() > 40, "only {} promises were found", promises.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_rule_of_http_names_its_test() {
    let keepers = Keepers::of_all_crates();
    let rules = rows::<4>("docs/http.md", "rule");
    for [rule, _, _, tests] in &rules {
        assert!(tests.contains('`'), "{rule}: which test shows it?");
        for test in in_backticks(tests) {
            assert!(keepers.have(test), "{rule}: there is no test {test}");
        }
    }
    assert!(rules.len() > 15, "only {} rules were found", rules.len());
}
