//! The data file: how many steps pass and are skipped on each engine, and which steps fail for which reason.
//!
//! A failure that is not listed is an error, and so are a listed failure that does not happen and another count: every
//! change in what an engine, the rewriting or the harness does has to be looked at, for better or for worse.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::PathBuf;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::tally::Tally;

const UPDATE: &str = "REMUDA_UPDATE_EXPECTED";
const UNEXPLAINED: &str = "TODO: explain";
const HEAD: &str = "\
# What each engine makes of the WebAssembly specification's test suite: see tests/spec/main.rs.
# `lines = \"*\"` stands for any line of the file. Run the test with REMUDA_UPDATE_EXPECTED=1 to have the lines and counts
# written anew; every reason is written by hand.

";

#[derive(Default, Deserialize, Serialize)]
struct Book {
    #[serde(default)]
    counts: BTreeMap<String, Counts>,
    #[serde(default)]
    failure: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
struct Counts {
    passed: usize,
    skipped: usize,
}

#[derive(Deserialize, Serialize)]
struct Entry {
    engine: String,
    file: String,
    lines: Lines,
    reason: String,
}

#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Lines {
    Listed(BTreeSet<usize>),
    Every(Star),
}

#[derive(Deserialize, Serialize)]
enum Star {
    #[serde(rename = "*")]
    Star,
}

impl Entry {
    fn covers(&self, engine: &str, file: &str, line: usize) -> bool {
        self.engine == engine
            && self.file == file
            && match &self.lines {
                Lines::Every(_) => true,
                Lines::Listed(lines) => lines.contains(&line),
            }
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/spec/expected-failures.toml")
}

/// Compares an engine's results with the file.
///
/// # Panics
///
/// Panics if they differ, or if a reason is missing.
pub(crate) fn check(engine: &str, tally: &Tally) {
    // The tests of the engines run at the same time and write the same file.
    static FILE: Mutex<()> = Mutex::new(());
    let _one_at_a_time = FILE.lock();
    let text = std::fs::read_to_string(path()).expect("the data file can be read");
    let mut book: Book = toml::from_str(&text).expect("the data file is well-formed");
    if std::env::var_os(UPDATE).is_some() {
        book.update(engine, tally);
        let text = toml::to_string(&book).expect("a book can be written");
        std::fs::write(path(), format!("{HEAD}{text}")).expect("the data file can be written");
    }
    let problems = book.problems(engine, tally);
    assert!(
        problems.is_empty(),
        "{engine} differs from what tests/spec/expected-failures.toml expects:\n{problems}\
         Set {UPDATE}=1 to have the file written anew, then give every new entry its reason."
    );
    println!(
        "{engine}: {} passed, {} failed as expected, {} skipped",
        tally.passed,
        tally.failures.len(),
        tally.skipped
    );
}

impl Book {
    fn problems(&self, engine: &str, tally: &Tally) -> String {
        let mut text = String::new();
        for ((file, line), message) in &tally.failures {
            if !self.failure.iter().any(|entry| entry.covers(engine, file, *line)) {
                writeln!(text, "  new failure  {file}:{line}: {message}").expect("a string takes all");
            }
        }
        for entry in self.failure.iter().filter(|entry| entry.engine == engine) {
            Self::problems_of_entry(entry, tally, &mut text);
        }
        let counts = Counts { passed: tally.passed, skipped: tally.skipped };
        if self.counts.get(engine) != Some(&counts) {
            writeln!(text, "  other counts {counts:?}, expected {:?}", self.counts.get(engine))
                .expect("a string takes all");
        }
        text
    }

    fn problems_of_entry(entry: &Entry, tally: &Tally, text: &mut String) {
        let Entry { file, reason, .. } = entry;
        let mut say = |problem: String| writeln!(text, "  {problem}").expect("a string takes all");
        if reason.trim().is_empty() || reason.starts_with("TODO") {
            say(format!("no reason    {file}: an expected failure has a reason in words"));
        }
        match &entry.lines {
            Lines::Every(_) if !tally.failures.keys().any(|(failed, _)| failed == file) => {
                say(format!("new pass     {file}: nothing fails any more, of {reason:?}"));
            }
            Lines::Every(_) => {}
            Lines::Listed(lines) => {
                for line in lines.iter().filter(|line| !tally.failures.contains_key(&(file.clone(), **line))) {
                    say(format!("new pass     {file}:{line}: does not fail any more, of {reason:?}"));
                }
            }
        }
    }

    /// Drops entries of steps that pass, adds entries for steps that fail, and keeps every reason.
    fn update(&mut self, engine: &str, tally: &Tally) {
        for entry in self.failure.iter_mut().filter(|entry| entry.engine == engine) {
            let failed = |line: usize| tally.failures.contains_key(&(entry.file.clone(), line));
            match &mut entry.lines {
                Lines::Listed(lines) => lines.retain(|line| failed(*line)),
                Lines::Every(_) if !tally.failures.keys().any(|(file, _)| *file == entry.file) => {
                    entry.lines = Lines::Listed(BTreeSet::new());
                }
                Lines::Every(_) => {}
            }
        }
        self.failure.retain(|entry| !matches!(&entry.lines, Lines::Listed(lines) if lines.is_empty()));
        for (file, line) in tally.failures.keys() {
            if !self.failure.iter().any(|entry| entry.covers(engine, file, *line)) {
                self.add(engine, file, *line);
            }
        }
        self.failure.sort_by(|a, b| (&a.engine, &a.file, &a.reason).cmp(&(&b.engine, &b.file, &b.reason)));
        self.counts.insert(engine.to_owned(), Counts { passed: tally.passed, skipped: tally.skipped });
    }

    fn add(&mut self, engine: &str, file: &str, line: usize) {
        let unexplained =
            |entry: &&mut Entry| entry.engine == engine && entry.file == file && entry.reason == UNEXPLAINED;
        match self.failure.iter_mut().find(unexplained) {
            Some(Entry { lines: Lines::Listed(lines), .. }) => {
                lines.insert(line);
            }
            _ => self.failure.push(Entry {
                engine: engine.to_owned(),
                file: file.to_owned(),
                lines: Lines::Listed(BTreeSet::from([line])),
                reason: UNEXPLAINED.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[usize]) -> Tally {
        let failures = lines.iter().map(|line| (("a.wast".to_owned(), *line), "wrong".to_owned())).collect();
        Tally { passed: 3, skipped: 1, failures }
    }

    fn book(text: &str) -> Book {
        toml::from_str(&format!("counts.e = {{ passed = 3, skipped = 1 }}\n{text}")).unwrap()
    }

    #[test]
    fn new_failures_new_passes_other_counts_and_missing_reasons_are_all_errors() {
        let listed = "[[failure]]\nengine = 'e'\nfile = 'a.wast'\nlines = [7]\nreason = 'why'\n";
        assert_eq!(book(listed).problems("e", &tally(&[7])), "");
        assert!(book(listed).problems("e", &tally(&[7, 8])).contains("new failure  a.wast:8: wrong"));
        assert!(book(listed).problems("e", &tally(&[])).contains("new pass     a.wast:7"));
        let unexplained = listed.replace("why", UNEXPLAINED);
        assert!(book(&unexplained).problems("e", &tally(&[7])).contains("no reason"));
        let every = listed.replace("[7]", "'*'");
        assert_eq!(book(&every).problems("e", &tally(&[1, 9])), "");
        assert!(book(&every).problems("e", &tally(&[])).contains("new pass"));
        let other = Tally { passed: 2, ..tally(&[7]) };
        assert!(book(listed).problems("e", &other).contains("other counts"));
    }

    #[test]
    fn an_update_keeps_reasons_and_asks_for_new_ones() {
        let mut book = book("[[failure]]\nengine = 'e'\nfile = 'a.wast'\nlines = [7, 8]\nreason = 'why'\n");
        book.update("e", &tally(&[8, 9]));
        let text = toml::to_string(&book).unwrap();
        let again: Book = toml::from_str(&text).unwrap();
        let entries: Vec<_> = again.failure.iter().map(|entry| (entry.reason.as_str(), &entry.lines)).collect();
        assert!(matches!(
            &entries[..],
            [(UNEXPLAINED, Lines::Listed(new)), ("why", Lines::Listed(old))]
                if *new == BTreeSet::from([9]) && *old == BTreeSet::from([8])
        ));
    }
}
