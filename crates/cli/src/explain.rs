//! `remuda explain`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use remuda_host::{ExplainedEngine, Explanation, Function, FunctionSpec, Host, HostConfig};
use remuda_manifest::Deployment;
use remuda_scheduler::Basis;

use crate::options::{DataDir, start_log};

/// Say what would run a function now, what every engine would cost, and why
#[derive(Args)]
pub(crate) struct Explain {
    /// Bytes of the request's input
    #[arg(long, value_name = "N")]
    input_bytes: Option<u64>,

    /// Look for FUNCTION in this remuda.toml, or in the one of this folder, instead of taking it for a module's file
    #[arg(long, value_name = "DIR|remuda.toml")]
    manifest: Option<PathBuf>,

    #[command(flatten)]
    data_dir: DataDir,

    /// A module's file, or with --manifest a function's name
    #[arg(value_name = "FUNCTION")]
    function: PathBuf,

    /// The arguments that the module runs with
    #[arg(value_name = "ARGS", trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Explain {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        let host = Host::open(&HostConfig { data_dir: self.data_dir.resolve(), ..HostConfig::default() })?;
        let function = host.deploy(self.spec()?, None)?;
        print(&function, &host.explain(&function, self.input_bytes));
        Ok(ExitCode::SUCCESS)
    }

    fn spec(&self) -> anyhow::Result<FunctionSpec> {
        let Some(manifest) = &self.manifest else {
            return Ok(FunctionSpec { args: self.args.clone(), ..FunctionSpec::of_module(&self.function) });
        };
        if !self.args.is_empty() {
            bail!("a function of a manifest has its arguments there; leave {:?} out", self.args.join(" "));
        }
        let Deployment { functions, .. } = Deployment::read(manifest)?;
        let names: Vec<String> = functions.iter().map(|served| served.spec.name.clone()).collect();
        let name = self.function.to_string_lossy();
        functions
            .into_iter()
            .map(|served| served.spec)
            .find(|spec| spec.name == name)
            .with_context(|| format!("{manifest:?} has no function {name:?}; it has {}", names.join(", ")))
    }
}

fn print(function: &Arc<Function>, explanation: &Explanation) {
    let stats = function.module().stats();
    println!(
        "module       {:.12}, {} bytes of code in {} functions, {} loops",
        function.module().digest(),
        stats.code_bytes,
        stats.functions,
        stats.loops
    );
    match &explanation.decision {
        Some((engine, reason)) => println!("would run    {engine}: {reason}"),
        None => println!("would run    nothing: no engine is able"),
    }
    if let Some(ns) = explanation.look_again_after_ns {
        println!("race         others may join after {:.3} ms", milliseconds(ns));
    }
    match &explanation.tier_up {
        Some((engine, reason)) => println!("background   {engine}: {reason}"),
        None => println!("background   nothing is worth being made ready"),
    }
    println!();
    println!(
        "{:<20} {:<10} {:>10} {:>12} {:>12} {:>12} {:>8}  FROM",
        "ENGINE", "ARTIFACT", "READY ms", "INSTANT. ms", "EXECUTE ms", "TOTAL ms", "x/÷"
    );
    for engine in &explanation.engines {
        println!("{}", row(engine));
    }
}

fn row(engine: &ExplainedEngine) -> String {
    let artifact = match &engine.artifact {
        Err(reason) => return format!("{:<20} cannot run it: {reason}", engine.known.id),
        Ok(_) if engine.in_the_making => "in the making".to_owned(),
        Ok(artifact) => artifact.to_string(),
    };
    let Some(prediction) = engine.prediction else { return format!("{:<20} {artifact}", engine.known.id) };
    let basis = match prediction.basis {
        Basis::Observed { count } => format!("{count} observed"),
        Basis::Transferred { from } => format!("{from}, and how the two compare"),
        Basis::Module => "the module's bytes".to_owned(),
    };
    format!(
        "{:<20} {artifact:<10} {:>10.3} {:>12.3} {:>12.3} {:>12.3} {:>8.2}  {basis}",
        engine.known.id,
        milliseconds(prediction.ready_ns),
        milliseconds(prediction.instantiate_ns),
        milliseconds(prediction.execute_ns),
        milliseconds(prediction.total_ns()),
        prediction.sigma.exp(),
    )
}

fn milliseconds(ns: u64) -> f64 {
    ns as f64 / 1e6
}
