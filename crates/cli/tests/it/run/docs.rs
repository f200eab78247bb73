//! Tests of docs/run.md: each row that says "same" names a test, each option of `wasmtime run` has a row, and each key
//! of its grouped options is treated as its row says.

use std::path::Path;

use super::{seen, typed};
use crate::support::{guest, in_backticks};

/// One row of a table.
struct Row {
    what: String,
    verdict: String,
    why: String,
    tests: Vec<String>,
}

impl Row {
    /// The names that stand in backticks.
    fn names(&self) -> Vec<String> {
        quoted(&self.what)
    }
}

fn quoted(text: &str) -> Vec<String> {
    in_backticks(text).map(str::to_owned).collect()
}

const VERDICTS: [&str; 4] = ["same", "different", "accepted", "not supported"];

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/run.md");
    let page = std::fs::read_to_string(path).unwrap();
    let row = |line: &str| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, verdict, why, tests] = *cells else { panic!("a row has four cells: {line}") };
        if verdict == "here" || verdict.starts_with("--") {
            return None;
        }
        assert!(VERDICTS.contains(&verdict), "{verdict:?} is no verdict: {line}");
        Some(Row { what: what.into(), verdict: verdict.into(), why: why.into(), tests: quoted(tests) })
    };
    page.lines().filter(|line| line.starts_with('|')).filter_map(row).collect()
}

#[test]
fn each_row_has_what_it_needs() {
    let rows = rows();
    assert!(rows.len() > 80, "only {} rows were found", rows.len());
    for Row { what, verdict, why, tests } in &rows {
        match verdict.as_str() {
            "same" => assert!(!tests.is_empty(), "{what}: which test shows it?"),
            "different" | "not supported" => assert!(!why.is_empty(), "{what}: why?"),
            _ => {}
        }
        for test in tests {
            let path: Vec<&str> = test.split("::").collect();
            let ["run", file, name] = *path else { panic!("{test} is no test of this folder") };
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/run").join(format!("{file}.rs"));
            let source = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            assert!(source.contains(&format!("#[test]\nfn {name}() {{")), "{what}: there is no test {test}");
        }
    }
}

/// The options that `wasmtime run --help` of version 49 lists.
const OPTIONS: [&str; 17] = [
    "-W",
    "-S",
    "-C",
    "-O",
    "-D",
    "-R",
    "-g",
    "-h",
    "--target",
    "--config",
    "--allow-precompiled",
    "--profile",
    "--dir",
    "--env",
    "--invoke",
    "--preload",
    "--argv0",
];

#[test]
fn each_option_has_a_row() {
    let rows = rows();
    for option in OPTIONS {
        let is_of = |name: &String| name.split([' ', '=']).next() == Some(option);
        assert!(rows.iter().any(|row| row.names().iter().any(is_of)), "{option} has no row");
    }
}

/// The keys of a grouped option with their descriptions, as `-W help` lists them.
fn keys(option: &str) -> Vec<(String, String)> {
    let (code, printed, _) = seen(&typed(&[option, "help"]));
    assert_eq!(code, Some(0));
    let key = |line: &str| {
        let rest = line.trim().strip_prefix(option)?.trim_start();
        let (key, says) = rest.split_once(char::is_whitespace)?;
        let name = key.split(['=', '[']).next().unwrap_or_default();
        Some((name.to_owned(), says.trim().to_owned()))
    };
    printed.lines().filter_map(key).collect()
}

#[test]
fn each_key_has_one_row_and_is_treated_as_that_says() {
    let rows = rows();
    let noop = guest("noop/noop.wasm");
    let noop = noop.to_str().unwrap();
    let mut count = 0;
    for option in ["-W", "-S", "-C", "-O", "-D"] {
        for (key, says) in keys(option) {
            let name = format!("{option} {key}");
            let [row] = rows.iter().filter(|row| row.names().contains(&name)).collect::<Vec<_>>()[..] else {
                panic!("{name} has no row, or several");
            };
            let verdict = row.verdict.as_str();
            let run = |value: &str| seen(&typed(&[option, &format!("{}{value}", key.replace('*', "x")), noop]));
            let refused = |value: &str| {
                let (code, _, message) = run(value);
                assert_eq!(code, Some(2), "{name}{value}: {message}");
                assert!(message.contains(&format!("{name}{value}: not supported: ")), "{name}{value}: {message}");
            };
            let accepted = |value: &str| {
                assert_eq!(run(value), (Some(0), String::new(), String::new()), "{name}{value}");
            };
            match says.split(':').next().unwrap() {
                "as in `wasmtime run`" => assert!(["same", "different"].contains(&verdict), "{name} is {verdict}"),
                "no effect" => {
                    assert_eq!(verdict, "accepted", "{name}");
                    // A value that the key accepts.
                    accepted(match key.as_str() {
                        "max-wasm-stack" => "=65536",
                        "opt-level" => "=1",
                        "regalloc-algorithm" => "=single-pass",
                        _ => "=y",
                    });
                }
                "=y is not supported" => {
                    assert_eq!(verdict, "not supported", "{name}");
                    refused("");
                    refused("=y");
                    accepted("=n");
                }
                "=n is not supported" => {
                    assert_eq!(verdict, "accepted", "{name}");
                    refused("=n");
                    accepted("");
                    accepted("=y");
                }
                "not supported" => {
                    assert_eq!(verdict, "not supported", "{name}");
                    refused("=1");
                }
                other => panic!("{name}: {other:?} is nothing that is said of a key"),
            }
            count += 1;
        }
    }
    assert!(count > 110, "only {count} keys were found");
    // Each name in a row must be a key that exists.
    for row in &rows {
        for name in row.names() {
            if let Some((option @ ("-W" | "-S" | "-C" | "-O" | "-D"), key)) = name.split_once(' ') {
                assert!(key == "help" || keys(option).iter().any(|(known, _)| known == key), "{name} is no key");
            }
        }
    }
}
