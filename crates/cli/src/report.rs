//! `remuda report`

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use remuda_bench::report::{self, Format};
use remuda_bench::results::Results;
use remuda_bench::row::{self, Record};

/// Show what `remuda characterize` measured: a page with figures, Markdown or CSV
#[derive(Args)]
pub(crate) struct Report {
    /// Files that `remuda characterize` wrote
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,

    /// Where to write the report; its ending (.html, .md, .csv) says as what. Default: standard output, as Markdown
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What to write, whatever the ending
    #[arg(long, value_enum)]
    format: Option<Form>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Html,
    Markdown,
    Csv,
}

impl Report {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let format = self.format()?;
        let text = report::render(&read(&self.results)?, format);
        match &self.output {
            Some(path) => fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?,
            None => print(&text)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn format(&self) -> anyhow::Result<Format> {
        if let Some(form) = self.format {
            return Ok(match form {
                Form::Html => Format::Html,
                Form::Markdown => Format::Markdown,
                Form::Csv => Format::Csv,
            });
        }
        let Some(path) = &self.output else { return Ok(Format::Markdown) };
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("html" | "htm") => Ok(Format::Html),
            Some("md" | "markdown") => Ok(Format::Markdown),
            Some("csv") => Ok(Format::Csv),
            _ => {
                bail!("the ending of {} says no format: end it in .html, .md or .csv, or give --format", path.display())
            }
        }
    }
}

/// Reads all records of all files.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Results> {
    let mut records = Vec::new();
    for path in paths {
        records.extend(read_file(path).with_context(|| path.display().to_string())?);
    }
    if !records.iter().any(|record| !matches!(record, Record::Run(_))) {
        let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
        bail!("{}: nothing was measured; write results with `remuda characterize -o FILE`", names.join(", "));
    }
    Ok(Results::new(records))
}

fn read_file(path: &Path) -> anyhow::Result<Vec<Record>> {
    Ok(row::read(&mut BufReader::new(File::open(path)?))?)
}

/// Prints a text. It is no error if the reader closes the pipe before the end.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
