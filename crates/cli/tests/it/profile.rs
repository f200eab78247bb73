//! `remuda profile`

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::support::{ENGINES, guest, output, remuda, text};

fn profile(data: &Path, args: &[&str]) -> Output {
    output(remuda().arg("profile").args(args).arg("--data-dir").arg(data), b"")
}

/// Runs `remuda profile`, which must succeed, and returns its output.
fn profile_ok(data: &Path, args: &[&str]) -> String {
    let out = profile(data, args);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {}", text(&out.stderr));
    text(&out.stdout)
}

/// Runs `remuda profile`, which must fail, and returns its error message.
fn profile_fails(data: &Path, args: &[&str]) -> String {
    let out = profile(data, args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", text(&out.stdout));
    text(&out.stderr)
}

fn run(data: &Path, engine: &str, args: &[&str]) -> Output {
    let mut command = remuda();
    command.args(["run", "--explain", "--engine", engine, "--data-dir"]).arg(data).arg(guest("hello/hello.wasm"));
    let out = output(command.args(args), b"");
    assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
    out
}

/// A data directory in which every engine has run.
fn measured() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    for engine in ENGINES {
        run(data.path(), engine, &[]);
        run(data.path(), engine, &["with", "arguments"]);
    }
    data
}

fn export(data: &Path) -> Value {
    serde_json::from_str(&profile_ok(data, &["export"])).expect("it is JSON")
}

#[test]
fn nothing_is_known_at_first() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    assert!(profile_ok(&nowhere, &["show"]).contains("nothing is known yet"));
    assert!(profile_fails(&nowhere, &["export"]).contains("nothing is known yet"));
    profile_ok(&nowhere, &["reset"]);
    assert!(!nowhere.exists(), "looking changes nothing");
}

#[test]
fn what_is_known_is_shown_by_file_and_by_digest_and_forgotten_on_request() {
    let data = measured();
    let hello = guest("hello/hello.wasm").display().to_string();
    let list = profile_ok(data.path(), &["show"]);
    let digest = list.lines().nth(1).and_then(|line| line.split_whitespace().next()).expect("there is a module");
    assert_eq!(digest.len(), 64, "{list}");
    let by_file = profile_ok(data.path(), &["show", &hello]);
    assert_eq!(by_file, profile_ok(data.path(), &["show", &digest[..8]]));
    for engine in ENGINES {
        // One line has the engine's costs; two have its executions without arguments and with them.
        assert_eq!(by_file.lines().filter(|line| line.starts_with(engine)).count(), 3, "{by_file}");
    }
    assert!(by_file.contains(" none ") && by_file.contains("not known beforehand"), "{by_file}");
    let unknown = guest("noop/noop.wasm").display().to_string();
    assert!(profile_fails(data.path(), &["show", &unknown]).contains("nothing is known of"));
    assert!(profile_fails(data.path(), &["reset", "xyz"]).contains("remuda profile show"));
    profile_ok(data.path(), &["reset", &hello]);
    assert!(profile_ok(data.path(), &["show"]).contains("nothing is known yet"));
}

#[test]
fn an_export_is_what_the_schema_says() {
    let schema: Value = serde_json::from_str(include_str!("../../../../docs/profile.schema.json")).unwrap();
    let data = measured();
    let exported = export(data.path());
    assert_eq!(exported["modules"][0]["observations"].as_array().unwrap().len(), 2 * ENGINES.len());
    assert_eq!(complaint(&schema, &schema, &exported), None);
    // The schema must also refuse documents that break it.
    for (pointer, value) in [
        ("/schema_version", json!(2)),
        ("/modules/0/module_sha256", json!("abc")),
        ("/modules/0/observations/0/execute_ns", json!(-1)),
        ("/modules/0/observations/0/artifact", json!("lost")),
        ("/modules/0/observations/0", json!({})),
        ("/host", json!({ "cpu_model": "x", "cores": 1, "engines": [], "kernel": "y" })),
    ] {
        let mut changed = exported.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        assert!(complaint(&schema, &schema, &changed).is_some(), "{pointer}");
    }
}

#[test]
fn the_first_request_after_an_import_is_decided_by_it() {
    let exported = export(measured().path());
    for favourite in ENGINES {
        let mut shipped = exported.clone();
        let module = &mut shipped["modules"][0];
        module.as_object_mut().unwrap().remove("engines");
        for row in module["observations"].as_array_mut().unwrap() {
            let ns = if row["engine"] == favourite { 1_000 } else { 60_000_000_000u64 };
            for field in ["compile_ns", "instantiate_ns", "execute_ns"] {
                row[field] = json!(ns);
            }
        }
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("shipped.json");
        std::fs::write(&file, shipped.to_string()).unwrap();
        profile_ok(data.path(), &["import", &file.display().to_string()]);
        let explained = text(&run(data.path(), "auto", &[]).stderr);
        let chosen = explained.lines().next().expect("it is explained");
        assert!(chosen.starts_with(&format!("engine       {favourite}: ")), "{favourite}: {explained}");
    }
}

#[test]
fn an_import_gives_what_was_exported() {
    let data = measured();
    let file = data.path().join("exported.json");
    profile_ok(data.path(), &["export", "-o", &file.display().to_string()]);
    let exported: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(exported, export(data.path()));
    let fresh = tempfile::tempdir().unwrap();
    let import = ["import", &file.display().to_string()];
    profile_ok(fresh.path(), &import);
    assert_eq!(export(fresh.path()), exported);
    // A second import changes nothing.
    profile_ok(fresh.path(), &import);
    assert_eq!(export(fresh.path()), exported);
}

#[test]
fn what_is_no_profile_is_refused_and_changes_nothing() {
    let data = measured();
    let before = export(data.path());
    let file = data.path().join("hostile.json");
    let name = file.display().to_string();
    assert!(profile_fails(data.path(), &["import", &name]).contains("cannot read"));
    let mut half = before.clone();
    half["modules"][0]["observations"][3]["engine"] = json!("v8");
    for (content, complaint) in [
        (String::new(), "is not a profile"),
        ("[".repeat(100_000), "is not a profile"),
        (json!({ "schema_version": 7 }).to_string(), "schema version 7"),
        (half.to_string(), "observations[3].engine: there is no engine named \"v8\""),
    ] {
        std::fs::write(&file, content).unwrap();
        let said = profile_fails(data.path(), &["import", &name]);
        assert!(said.contains(complaint), "{said}");
        assert_eq!(export(data.path()), before);
    }
}

/// Checks a value against a JSON Schema, and returns what is wrong. It knows only the keywords that our schema uses.
fn complaint(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let wrong = |what: &str| Some(format!("{what}: {value}"));
    for (keyword, rule) in schema.as_object().expect("a schema is an object") {
        let found = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" => None,
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#')).expect("a local reference");
                complaint(root, root.pointer(pointer).unwrap_or_else(|| panic!("{pointer} is not there")), value)
            }
            "type" => {
                let is = match rule.as_str().expect("one type") {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_u64() || value.is_i64(),
                    "boolean" => value.is_boolean(),
                    "null" => value.is_null(),
                    other => panic!("the type {other}"),
                };
                if is { None } else { wrong("type") }
            }
            "const" => {
                if value == rule {
                    None
                } else {
                    wrong("const")
                }
            }
            "enum" => {
                if rule.as_array().expect("a list").contains(value) {
                    None
                } else {
                    wrong("enum")
                }
            }
            "anyOf" => {
                let any = rule.as_array().expect("a list").iter().any(|rule| complaint(root, rule, value).is_none());
                if any { None } else { wrong("anyOf") }
            }
            "minimum" => {
                if value.as_f64() >= rule.as_f64() {
                    None
                } else {
                    wrong("minimum")
                }
            }
            "maximum" => {
                if value.as_f64() <= rule.as_f64() {
                    None
                } else {
                    wrong("maximum")
                }
            }
            "pattern" => {
                let digits: usize = rule
                    .as_str()
                    .and_then(|pattern| pattern.strip_prefix("^[0-9a-f]{")?.strip_suffix("}$")?.parse().ok())
                    .expect("a number of hexadecimal digits");
                let is = value.as_str().is_some_and(|text| {
                    text.len() == digits && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
                });
                if is { None } else { wrong("pattern") }
            }
            "items" => value.as_array().and_then(|items| items.iter().find_map(|item| complaint(root, rule, item))),
            "required" => {
                let has = |name: &Value| value.get(name.as_str().expect("a name")).is_some();
                if rule.as_array().expect("a list").iter().all(has) { None } else { wrong("required") }
            }
            "properties" => rule
                .as_object()
                .expect("an object")
                .iter()
                .find_map(|(name, rule)| value.get(name).and_then(|value| complaint(root, rule, value))),
            "additionalProperties" => {
                assert_eq!(*rule, json!(false));
                let allowed = schema["properties"].as_object().expect("an object");
                let mut names = value.as_object().into_iter().flat_map(serde_json::Map::keys);
                names.find(|name| !allowed.contains_key(*name)).and_then(|name| wrong(name))
            }
            other => panic!("the keyword {other}"),
        };
        if found.is_some() {
            return found;
        }
    }
    None
}
