//! `remuda cache`

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use bytesize::ByteSize;
use clap::{Args, Subcommand};
use remuda_engine::Registry;
use remuda_host::{ArtifactFile, ArtifactStore, FileState, Finishing, Prune};
use serde::Serialize;

use crate::EXIT_FAILURE;
use crate::options::{DataDir, start_log};

/// Look after the compiled modules in the data directory
#[derive(Args)]
pub(crate) struct Cache {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List them: module, engine, size, what it took to compile, uses, and whether this build would load it here; and what
    /// is being compiled in the background
    Ls {
        #[command(flatten)]
        data_dir: DataDir,

        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove some, also while servers run: what they have loaded stays with them
    Prune {
        #[command(flatten)]
        data_dir: DataDir,

        #[command(flatten)]
        what: What,
    },
    /// Check that each is as this host wrote it; exit with 1 and name those that are not
    Verify {
        #[command(flatten)]
        data_dir: DataDir,

        /// Remove what is not
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Args)]
#[group(required = true, multiple = true)]
struct What {
    /// Remove those that are least worth keeping, until no more than this is left
    #[arg(long, value_name = "BYTES")]
    max: Option<ByteSize>,

    /// Remove those that this build would not load here: made by another version, for another CPU, or in another format
    #[arg(long)]
    stale: bool,

    /// Remove all, and the notes of compiles that failed: they are tried again
    #[arg(long, conflicts_with_all = ["max", "stale"])]
    all: bool,
}

impl Cache {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("warn", false);
        match self.command {
            Command::Ls { data_dir, json } => list(&data_dir, json),
            Command::Prune { data_dir, what } => prune(&data_dir, &what),
            Command::Verify { data_dir, remove } => verify(&data_dir, remove),
        }
    }
}

/// The store, or `None` if nothing was kept there yet.
fn open(data_dir: &DataDir) -> anyhow::Result<Option<ArtifactStore>> {
    let Some(path) = data_dir.resolve() else { bail!("there is no data directory; name one with --data-dir") };
    Ok(ArtifactStore::open_existing(&path)?)
}

/// One artifact in the table and in JSON: one in the store, or one that a process is compiling in the background.
#[derive(Serialize)]
struct Row {
    module: Option<String>,
    engine: Option<String>,
    version: Option<String>,
    bytes: u64,
    compile_ns: Option<u64>,
    uses: u64,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
    /// The id of the process that compiles it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

impl From<Finishing> for Row {
    fn from(Finishing { pid, module, engine, .. }: Finishing) -> Self {
        Self {
            module: Some(module),
            engine: Some(engine),
            version: None,
            bytes: 0,
            compile_ns: None,
            uses: 0,
            state: "compiling",
            path: None,
            pid: Some(pid),
        }
    }
}

impl From<ArtifactFile> for Row {
    fn from(file: ArtifactFile) -> Self {
        let made = file.made_for.as_ref();
        Self {
            module: made.map(|made| made.module.to_string()),
            engine: made.map(|made| made.engine.clone()),
            version: made.map(|made| made.version.clone()),
            bytes: file.bytes,
            compile_ns: made.map(|made| made.compile_ns),
            uses: file.uses,
            state: match file.state {
                FileState::Ok => "ok",
                FileState::Stale => "stale",
            },
            path: Some(file.path),
            pid: None,
        }
    }
}

fn list(data_dir: &DataDir, json: bool) -> anyhow::Result<ExitCode> {
    let files = open(data_dir)?.map(|store| store.list(&Registry::default())).transpose()?.unwrap_or_default();
    let finishing = data_dir.resolve().and_then(|path| Finishing::current(&path));
    let rows: Vec<Row> = files.into_iter().map(Row::from).chain(finishing.map(Row::from)).collect();
    let text = if json { serde_json::to_string_pretty(&rows)? + "\n" } else { table(&rows) };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    const HEADER: &str = "MODULE        ENGINE               VERSION         SIZE     COMPILED IN    USES  STATE\n";
    let mut table = HEADER.to_owned();
    for row in rows {
        let compile_ms = row.compile_ns.map_or_else(|| "-".into(), |ns| format!("{:.3} ms", ns as f64 / 1e6));
        let text = |text: &Option<String>| text.as_deref().unwrap_or("-").to_owned();
        table += &format!(
            "{:<12.12}  {:<19}  {:<9} {:>10} {compile_ms:>15} {:>7}  {}{}\n",
            text(&row.module),
            text(&row.engine),
            text(&row.version),
            ByteSize::b(row.bytes).to_string(),
            row.uses,
            row.state,
            row.pid.map(|pid| format!(" by process {pid}")).unwrap_or_default(),
        );
    }
    let rows: Vec<&Row> = rows.iter().filter(|row| row.path.is_some()).collect();
    table + &total(rows.len(), rows.iter().map(|row| row.bytes).sum()) + "\n"
}

fn prune(data_dir: &DataDir, what: &What) -> anyhow::Result<ExitCode> {
    let what = Prune { all: what.all, stale: what.stale, bytes_max: what.max.map(|max| max.as_u64()) };
    let gone = open(data_dir)?.map(|store| store.prune(&Registry::default(), what)).transpose()?.unwrap_or_default();
    print(&format!("removed {}\n", total(gone.len(), gone.iter().map(|file| file.bytes).sum())))?;
    Ok(ExitCode::SUCCESS)
}

fn verify(data_dir: &DataDir, remove: bool) -> anyhow::Result<ExitCode> {
    let Some(store) = open(data_dir)? else {
        print("there are no artifacts\n")?;
        return Ok(ExitCode::SUCCESS);
    };
    let verified = store.verify()?;
    let bad: Vec<_> = verified.iter().filter_map(|(path, problem)| Some((path, problem.as_ref()?))).collect();
    let mut text: String = bad.iter().map(|(path, problem)| format!("{}: {problem}\n", path.display())).collect();
    if remove {
        store.delete(&bad.iter().map(|(path, _)| (*path).clone()).collect::<Vec<_>>())?;
    }
    text += &format!(
        "{} of {} artifacts are as this host wrote them{}\n",
        verified.len() - bad.len(),
        verified.len(),
        match (bad.is_empty(), remove) {
            (true, _) => "",
            (false, true) => "; the others were removed",
            (false, false) => "; the others are never run, and --remove removes them",
        }
    );
    print(&text)?;
    Ok(if bad.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAILURE) })
}

fn total(files: usize, bytes: u64) -> String {
    let plural = if files == 1 { "" } else { "s" };
    format!("{files} artifact{plural}, {}", ByteSize::b(bytes))
}

fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        // The reader has closed the pipe: it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}
