//! A test that opens the HTML page in a browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use remuda_bench::report::{Format, render};
use remuda_bench::results::Results;

use crate::synthetic::Synthetic;

/// Opens the report in headless Chromium. There must be no error on the console, every figure must be there, and
/// nothing may be wider than the window. `REMUDA_SCREENSHOTS=DIR` keeps pictures of the page.
#[test]
fn a_browser_shows_every_figure() {
    let Some(chromium) = chromium() else {
        eprintln!("SKIPPED: no Chromium on PATH, so the page was not opened (`apt-get install chromium`)");
        return;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let page = folder.path().join("report.html");
    let results = Results::new(Synthetic::default().records());
    std::fs::write(&page, render(&results, Format::Html)).expect("the page can be written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/check_page.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("--chromium").arg(chromium).arg(&page);
    for id in ["fig5", "fig7", "fig8", "fig9", "pareto"] {
        command.args(["--figure", id]);
    }
    for id in ["summary", "warnings", "finding", "table2", "regret", "guests", "failures"] {
        command.args(["--section", id]);
    }
    if let Some(screenshots) = std::env::var_os("REMUDA_SCREENSHOTS") {
        command.arg("--screenshots").arg(screenshots);
    }
    let output = command.output().expect("python3 runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|program| program.is_file())
}
