//! The `remuda` command: one file for each subcommand. This crate decides which engines are built, and all exit codes
//! but those of a stopped measurement (see `remuda_bench::session`) and of a compiler's child process.
#![forbid(unsafe_code)]
#![allow(clippy::doc_markdown, reason = "comments on options are help texts, which have no backticks")]

mod cache;
mod calibrate;
mod characterize;
mod compare;
mod compile;
mod compile_child;
mod engines;
mod explain;
mod inspect;
mod microarch;
mod options;
mod profile;
mod report;
mod run;
mod second_wall;
mod serve;
mod simulate;
mod waiting;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Runs WebAssembly functions, each on the engine that will answer soonest.
#[derive(Parser)]
#[command(version, max_term_width = 100, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a module: a WASI command, or one of its exports with --invoke
    Run(run::Run),
    /// Serve functions over HTTP as a manifest describes them
    Serve(serve::Serve),
    /// Say what would run a function now, what every engine would cost, and why
    Explain(explain::Explain),
    /// Compile modules ahead of time, so that their first run finds the code
    Compile(compile::Compile),
    /// List the engines: built or not, available or not and why, version, capabilities
    Engines(engines::Engines),
    /// Look after the compiled modules in the data directory
    Cache(cache::Cache),
    #[command(hide = true)]
    CompileChild(compile_child::CompileChild),
    /// Try policies out: run the scheduler on measured costs and a workload, under a clock of its own
    Simulate(simulate::Simulate),
    /// Measure engines on guests, in fresh processes and random order, and write down every result
    Characterize(characterize::Characterize),
    #[command(name = characterize::MEASURE, hide = true)]
    MeasureChild(characterize::MeasureChild),
    /// Show what `remuda characterize` measured: a page with figures, Markdown or CSV
    Report(report::Report),
    /// Say what changed between two results. Exit code 3: something is slower by more than the threshold, or fails now
    Compare(compare::Compare),
    /// Show the machine code that each compiler makes of a function, side by side, and count what makes it slower
    Inspect(inspect::Inspect),
    /// Simulate caches and branch predictors on the machine code that each compiler makes of a module
    Microarch(microarch::Microarch),
    #[command(hide = true)]
    MicroarchChild(microarch::MicroarchChild),
    /// Measure what each engine costs on this host, for functions that were never run
    Calibrate(calibrate::Calibrate),
    /// Show, export, import or forget what was measured of functions
    Profile(profile::Profile),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(run) => run.execute(),
        Command::Serve(serve) => serve.execute(),
        Command::Explain(explain) => explain.execute(),
        Command::Engines(engines) => engines.execute(),
        Command::Cache(cache) => cache.execute(),
        Command::Compile(compile) => compile.execute(),
        Command::CompileChild(child) => child.execute(),
        Command::Simulate(simulate) => simulate.execute(),
        Command::Characterize(characterize) => characterize.execute(),
        Command::MeasureChild(child) => child.execute(),
        Command::Report(report) => report.execute(),
        Command::Compare(compare) => compare.execute(),
        Command::Inspect(inspect) => inspect.execute(),
        Command::Microarch(microarch) => microarch.execute(),
        Command::MicroarchChild(child) => child.execute(),
        Command::Calibrate(calibrate) => calibrate.execute(),
        Command::Profile(profile) => profile.execute(),
    };
    result.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::from(EXIT_FAILURE)
    })
}

/// The exit code if the command itself could not be carried out, as opposed to a guest that failed.
const EXIT_FAILURE: u8 = 1;
