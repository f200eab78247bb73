//! `remuda microarch --suite`: all guests of a suite, for the report.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use remuda_bench::engines::{Engine, Launch};
use remuda_bench::plan::{External, Request, Subject};
use remuda_bench::row::Pattern;
use remuda_bench::simulate::{Simulated, Simulations};

use super::Microarch;
use super::code::{Call, Code, Looker, Place};
use crate::EXIT_FAILURE;
use crate::characterize::{command_line, results_file};

/// The suites that are simulated if none is named.
const SUITES: [&str; 2] = ["polybench", "edge"];

impl Microarch {
    pub(super) fn suite(&self, looker: &Looker, guests: PathBuf) -> anyhow::Result<ExitCode> {
        let codes = self.codes(looker, &guests, |_| true)?;
        let named = self.suites.clone().unwrap_or_default();
        let simulations = Simulations {
            engines: codes.iter().map(engine).collect(),
            jobs: self.jobs.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from),
            command: command_line(),
            output: self.output.clone().unwrap_or_else(|| results_file("microarch")),
            request: Request {
                what: if named.is_empty() { SUITES.map(str::to_owned).to_vec() } else { named },
                engines: self.engines.clone(),
                patterns: vec![Pattern::Cold],
                size: self.size.into(),
                cases: Vec::new(),
                variant: String::new(),
                processes: 1,
                timeout: self.timeout,
                guests,
                external: External::default(),
            },
        };
        let code = |engine: &Engine| codes.iter().find(|code| code.id == engine.id).context("it is one of these");
        let summary = simulations.run(
            |subject, engine| {
                let ran = with_call(subject, |call| looker.simulate(code(engine)?, call))?;
                Ok(Simulated { report: ran.report, stdout: ran.stdout })
            },
            |subject, engine| with_call(subject, |call| looker.count(code(engine)?, call)),
        )?;
        eprintln!("{} points were simulated, {} failed", summary.simulated, summary.failed);
        Ok(if summary.simulated == 0 { ExitCode::from(EXIT_FAILURE) } else { ExitCode::SUCCESS })
    }
}

fn engine(code: &Code) -> Engine {
    let launch = match &code.place {
        Place::Native { folder, .. } => Launch::Native(folder.clone()),
        Place::Build { .. } | Place::Worker(_) => Launch::Hosted,
    };
    Engine { id: code.id.clone(), version: code.version(), flags: String::new(), launch }
}

/// Does something with the call that a subject stands for.
fn with_call<T>(subject: &Subject, work: impl FnOnce(&Call<'_>) -> anyhow::Result<T>) -> anyhow::Result<T> {
    let env: Vec<(String, String)> = subject.env.clone().into_iter().collect();
    work(&Call {
        module: &subject.module,
        guest: &subject.guest,
        args: &subject.args,
        env: &env,
        stdin: subject.stdin.as_deref(),
    })
}
