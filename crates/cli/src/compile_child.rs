//! `remuda compile-child`: the child process in which a host compiles. It is not for people, and its protocol may
//! change with every version, because parent and child are the same program.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use remuda_host::{ChildError, compile_for_parent};

/// Compile one module for the process that started this one: standard input to standard output
#[derive(Args)]
pub(crate) struct CompileChild {
    /// The engine
    engine: String,

    /// How many threads may compile
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,

    /// Memory that it may have
    #[arg(long, value_name = "BYTES")]
    memory_bytes: Option<u64>,
}

impl CompileChild {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        let Self { engine, threads, memory_bytes } = self;
        match compile_for_parent(&engine, threads, memory_bytes, std::io::stdin(), std::io::stdout()) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            // The parent passes this on as the engine's own message.
            Err(ChildError::Refused(reason)) => {
                eprintln!("{reason}");
                Ok(ExitCode::from(ChildError::EXIT_REFUSED))
            }
            Err(ChildError::Io(error)) => Err(error).context("cannot compile for a parent"),
        }
    }
}
