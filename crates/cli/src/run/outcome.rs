//! The messages and exit codes at the end of a run.

use std::process::ExitCode;

use remuda_host::{Answer, Function};
use remuda_model::{Limit, Outcome};

use super::flags::Settings;
use super::{NO_TIMEOUT, Run};

/// The exit code for a guest that trapped: 128 and SIGABRT's number, with which a shell reports a program that crashed.
const EXIT_TRAPPED: u8 = 134;
/// The exit code for a guest that ran out of time, as the command `timeout` uses it.
const EXIT_TIMED_OUT: u8 = 124;
/// The exit code for a guest that exited with a code that no process can have.
const EXIT_NO_CODE: u8 = 1;

/// Returns the exit code of a run. Says on standard error how the guest ended, unless it returned or exited with a code
/// that a process can have.
pub(crate) fn exit_code(run: &Run, settings: &Settings, answer: &Answer) -> ExitCode {
    let complain = |what: &str| eprintln!("error: {} {what}", run.module().display());
    match &answer.outcome {
        Outcome::Returned => ExitCode::SUCCESS,
        Outcome::Exited { code } => match u8::try_from(*code) {
            Ok(code) => ExitCode::from(code),
            // Taking the lowest byte, as operating systems do, would turn 256 into success.
            Err(_) => {
                complain(&format!("exited with code {code}, and a process can only exit with 0 to 255"));
                ExitCode::from(EXIT_NO_CODE)
            }
        },
        Outcome::Interrupted { .. } => {
            let timeout = settings.timeout_with(run.timeout).unwrap_or(NO_TIMEOUT);
            let time = humantime::format_duration(timeout);
            if run.timeout == Some(timeout) {
                complain(&format!("was stopped after --timeout {time}"));
                ExitCode::from(EXIT_TIMED_OUT)
            } else {
                complain(&format!("was stopped after -W timeout={time}"));
                ExitCode::from(EXIT_TRAPPED)
            }
        }
        Outcome::LimitExceeded { limit } => {
            let option = match limit {
                Limit::Table => "-W max-table-elements",
                Limit::Memory | Limit::Output => "--max-memory",
            };
            complain(&format!("{}; allow it more with {option}", answer.outcome));
            ExitCode::from(EXIT_TRAPPED)
        }
        Outcome::Trapped { .. } => {
            complain(&answer.outcome.to_string());
            ExitCode::from(EXIT_TRAPPED)
        }
    }
}

/// Says on standard error which engine ran, and how long each phase took.
pub(crate) fn explain(function: &Function, answer: &Answer) {
    let engine = answer.engine.map_or("no engine", |engine| engine.as_str());
    eprintln!("engine       {engine}: {}", answer.reason);
    eprintln!("artifact     {}", answer.artifact);
    for (phase, ns) in answer.phases.named() {
        eprintln!("{phase:<12} {:>12.3} ms", milliseconds(ns));
    }
    eprintln!("total        {:>12.3} ms", milliseconds(answer.phases.total_ns()));
    for (known, artifact) in function.artifacts() {
        let state = artifact.map_or_else(|| "set aside".to_owned(), |artifact| artifact.to_string());
        eprintln!("candidate    {:<20} {state}", known.id);
    }
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}
