//! `remuda run`: a drop-in replacement for `wasmtime run`. docs/run.md says for each option whether it is the same.

pub(crate) mod entry;
mod flags;
mod outcome;
mod refused;
mod world;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytesize::ByteSize;
use clap::Args;
use remuda_host::{Call, Function, FunctionSpec, Host};
use remuda_model::{GuestLimits, Interrupt};
use remuda_scheduler::TierUp;

use self::flags::{Flags, Settings};
use self::refused::Refused;
use self::world::WorldOptions;
pub(crate) use self::world::read_module_from_stdin;
use crate::compile;
use crate::options::{CompileOptions, DataDir, EngineChoice, open_for_one_call, start_log};

/// The time limit of a guest that may run for ever.
const NO_TIMEOUT: Duration = Duration::MAX;
/// The number of elements that all tables of a guest may have together, unless `-W max-table-elements` sets another
/// limit. No engine here allows more.
const TABLE_ELEMENTS_MAX: u64 = 10_000_000;
/// The file name that stands for standard input where a module is named.
pub(crate) const STDIN: &str = "-";

/// Run a module: a WASI command, or one of its exports with --invoke
///
/// What stands behind MODULE is the guest's, whatever it looks like; options for remuda stand before it.
#[derive(Args)]
#[command(override_usage = "remuda run [OPTIONS] MODULE [ARGS]...")]
pub(crate) struct Run {
    #[command(flatten)]
    engine: EngineChoice,

    #[command(flatten)]
    world: WorldOptions,

    /// Call this export instead of `_start`; the arguments are its parameters, and its results are printed
    #[arg(long, value_name = "NAME")]
    invoke: Option<String>,

    /// Stop the guest after this time, for example 500ms or 10s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,

    /// Memory that the guest may have
    #[arg(long, value_name = "BYTES", default_value = "4GiB")]
    max_memory: ByteSize,

    /// Say on standard error which engine ran, why, and how long each phase took
    #[arg(long)]
    explain: bool,

    #[command(flatten)]
    data_dir: DataDir,

    #[command(flatten)]
    compile: CompileOptions,

    /// Do not finish better code in the background, after a run whose module will pay for it
    #[arg(long, env = "REMUDA_NO_BACKGROUND_COMPILE", value_parser = clap::builder::FalseyValueParser::new())]
    no_background_compile: bool,

    #[command(flatten)]
    flags: Flags,

    #[command(flatten)]
    refused: Refused,

    /// The module's file, in the binary or the text format, or - for standard input; then the guest's arguments
    #[arg(value_name = "MODULE", required = true, trailing_var_arg = true)]
    module_and_args: Vec<OsString>,
}

impl Run {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        let settings = self.flags.settings()?;
        let args = self.args()?;
        let host = self.host(&settings)?;
        let function = self.deploy(&host, &settings, &args)?;
        let module = function.module();
        let at = || self.module().display().to_string();
        settings.check(module).with_context(at)?;
        let entry = entry::entry(module, self.invoke.as_deref(), &args).with_context(at)?;
        module.check_entry(&entry).with_context(at)?;
        let call = Arc::new(Call {
            id: host.next_request_id(),
            entry,
            context: self.world.context(self.module(), &args, &settings)?,
            limits: self.limits(&settings),
        });

        let interrupt = Interrupt::new();
        let armed = settings.timeout_with(self.timeout).map(|timeout| host.arm(timeout, interrupt.clone()));
        let answer = host.call(&function, &call, &interrupt)?;
        drop(armed);

        world::consume(&call.context.stdin, answer.output.stdin_bytes_read)?;
        let results: String = answer.values.iter().map(|value| format!("{value}\n")).collect();
        std::io::stdout().write_all(results.as_bytes()).context("cannot print the results")?;
        if self.explain {
            outcome::explain(&function, &answer);
        }
        let code = outcome::exit_code(&self, &settings, &answer);
        self.leave(host, function, &settings, &call);
        // The end of the process frees the memory faster than dropping it piece by piece.
        std::mem::forget(answer);
        Ok(code)
    }

    fn host(&self, settings: &Settings) -> anyhow::Result<Host> {
        let engine = settings.engine(&self.engine)?;
        open_for_one_call(&self.compile.config(self.data_dir(settings), engine.policy()?))
    }

    /// The data directory; `None` if the run is to keep nothing.
    fn data_dir(&self, settings: &Settings) -> Option<PathBuf> {
        self.data_dir.resolve().filter(|_| settings.keeps_artifacts)
    }

    /// Keeps what the run has learnt, and starts a compile in the background if better code will pay.
    fn leave(&self, host: Host, function: Arc<Function>, settings: &Settings, call: &Call) {
        let worth = if self.no_background_compile { None } else { host.worth_finishing(&function, call) };
        let kept = host.leave();
        let started = match (worth, self.data_dir(settings), &kept) {
            (Some(TierUp { engine, .. }), Some(data_dir), Ok(())) => {
                compile::start_in_background(engine, &data_dir, &self.compile, function.module().bytes())
                    .context("cannot finish better code in the background")
            }
            _ => Ok(()),
        };
        if let Err(error) = kept.map_err(anyhow::Error::from).and(started) {
            eprintln!("warning: {error:#}");
        }
        std::mem::forget(function);
    }

    /// The module's file, as the user named it.
    fn module(&self) -> &Path {
        Path::new(self.module_and_args.first().map_or(OsStr::new(""), OsString::as_os_str))
    }

    /// The guest's arguments.
    fn args(&self) -> anyhow::Result<Vec<String>> {
        let text = |(i, arg): (usize, &OsString)| {
            let text = arg.to_str().map(str::to_owned);
            text.with_context(|| format!("argument {} of the guest is not UTF-8: {}", i + 1, arg.display()))
        };
        self.module_and_args.iter().skip(1).enumerate().map(text).collect()
    }

    fn deploy(&self, host: &Host, settings: &Settings, args: &[String]) -> anyhow::Result<Arc<Function>> {
        let spec = FunctionSpec {
            // The arguments tell one workload of the module from another.
            args: args.to_vec(),
            limits: self.limits(settings),
            ..FunctionSpec::of_module(self.module())
        };
        if self.module() == Path::new(STDIN) {
            let bytes = read_module_from_stdin()?;
            return Ok(host.deploy_bytes(spec, bytes, None)?);
        }
        Ok(host.deploy(spec, None)?)
    }

    fn limits(&self, settings: &Settings) -> GuestLimits {
        GuestLimits {
            memory_bytes_max: settings.memory_bytes_max.unwrap_or(u64::MAX).min(self.max_memory.as_u64()),
            table_elements_max: settings.table_elements_max.unwrap_or(TABLE_ELEMENTS_MAX),
            output_bytes_max: u64::MAX,
            timeout: settings.timeout_with(self.timeout).unwrap_or(NO_TIMEOUT),
        }
    }
}
