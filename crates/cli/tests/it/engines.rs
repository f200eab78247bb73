//! `remuda engines`

use crate::support::{ENGINES, output, remuda, text};

#[test]
fn every_engine_is_listed_with_the_truth_about_it() {
    let out = output(remuda().args(["engines", "--json"]), b"");
    let rows: serde_json::Value = serde_json::from_slice(&out.stdout).expect("it is JSON");
    for engine in ENGINES {
        let row = rows
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["engine"] == engine))
            .unwrap_or_else(|| panic!("{engine} is not listed"));
        assert_eq!(row["status"], "available", "{row}");
        assert!(
            row["proposals"].as_array().is_some_and(|proposals| proposals.contains(&"bulk-memory".into())),
            "{row}"
        );
    }
    let table = text(&output(remuda().arg("engines"), b"").stdout);
    assert!(table.contains("wasmtime.cranelift   48.0.8    available"), "{table}");
}

#[test]
fn the_docs_have_the_table_of_capabilities_as_it_is() {
    let table = text(&output(remuda().args(["engines", "--markdown"]), b"").stdout);
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/engines.md");
    let docs = std::fs::read_to_string(path).unwrap();
    assert!(
        docs.contains(&table),
        "docs/engines.md does not contain what `remuda engines --markdown` prints:\n{table}"
    );
}
