//! `remuda engines`

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;
use remuda_engine::{Availability, Known, Proposal, Registry};
use serde::Serialize;

/// List the engines: built or not, available or not and why, version, capabilities
#[derive(Args)]
pub(crate) struct Engines {
    /// Print JSON
    #[arg(long)]
    json: bool,

    /// Print the table of capabilities in docs/engines.md
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
}

#[derive(Serialize)]
struct Row {
    engine: &'static str,
    version: String,
    status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    automatic: bool,
    summary: &'static str,
    tier: String,
    artifacts: bool,
    interruption: String,
    proposals: Vec<&'static str>,
}

impl Engines {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let registry = Registry::default();
        let rows: Vec<Row> = registry.known().map(|known| row(&registry, known)).collect();
        let text = if self.json {
            serde_json::to_string_pretty(&rows)? + "\n"
        } else if self.markdown {
            markdown(&registry)
        } else {
            rows.iter().fold(HEADER.to_owned(), |table, row| table + &table_row(row))
        };
        match io::stdout().write_all(text.as_bytes()) {
            // The reader has closed the pipe: it has seen enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn row(registry: &Registry, known: &Known) -> Row {
    let (status, reason) = match registry.availability(known.id) {
        Availability::Available => ("available", None),
        Availability::Broken(reason) => ("broken", Some(reason)),
        Availability::NotInstalled(reason) => ("not here", Some(reason)),
        Availability::NotBuilt => ("not built", Some(format!("build with `--features {}`", known.id))),
    };
    Row {
        engine: known.id.as_str(),
        version: registry.version(known),
        status,
        reason,
        automatic: known.automatic,
        summary: known.summary,
        tier: known.capabilities.tier.to_string(),
        artifacts: known.capabilities.artifacts,
        interruption: known.capabilities.interruption.to_string(),
        proposals: known.capabilities.proposals.iter().map(Proposal::as_str).collect(),
    }
}

const HEADER: &str = "ENGINE               VERSION   STATUS     TIER         ARTIFACTS  INTERRUPTION\n";

fn table_row(row: &Row) -> String {
    let reason = row.reason.as_ref().map_or_else(String::new, |reason| format!("    {reason}\n"));
    format!(
        "{:<20} {:<9} {:<10} {:<12} {:<10} {}\n    {}{}\n{reason}    proposals: {}\n",
        row.engine,
        row.version,
        row.status,
        row.tier,
        if row.artifacts { "yes" } else { "no" },
        row.interruption,
        row.summary,
        if row.automatic { "" } else { "; only by name" },
        row.proposals.join(", ")
    )
}

/// The table of capabilities. They depend on neither the machine nor the build, so a test can compare this text with
/// the docs.
fn markdown(registry: &Registry) -> String {
    let engines: Vec<&Known> = registry.known().filter(|known| known.runs_wasm()).collect();
    let row = |label: &str, cell: &dyn Fn(&Known) -> String| {
        let cells: Vec<String> = engines.iter().map(|known| cell(known)).collect();
        format!("| {label} | {} |\n", cells.join(" | "))
    };
    let mut table = row("", &|known| format!("`{}`", known.id));
    table += &row("---", &|_| "---".into());
    table += &row("version", &|known| known.version.into());
    table += &row("tier", &|known| known.capabilities.tier.to_string());
    table += &row("artifacts on disk", &|known| yes_or_no(known.capabilities.artifacts));
    table += &row("stopped by", &|known| known.capabilities.interruption.to_string());
    for proposal in Proposal::ALL {
        table += &row(proposal.as_str(), &|known| yes_or_no(known.capabilities.proposals.contains(*proposal)));
    }
    table
}

fn yes_or_no(value: bool) -> String {
    if value { "yes" } else { "-" }.into()
}
