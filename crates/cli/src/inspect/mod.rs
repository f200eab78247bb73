//! `remuda inspect`

mod hottest;
mod listing;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use remuda_code::comparison::{Comparison, Given, NotShown, Profile};
use remuda_code::overview::Overview;
use remuda_code::render::html;
use remuda_code::render::text::{self, Layout};
use remuda_code::wasm::Source;
use remuda_engine::{Form, Instances, Known, Module, Registry};
use remuda_host::read_module;
use remuda_model::ModuleLimits;

use self::hottest::{Counts, Run};
use self::listing::{FunctionCode, Listing};
use crate::options::{print, start_log};

/// The width of lines if nobody says how wide the terminal is, in characters.
const WIDTH_DEFAULT: usize = 160;

/// Show the machine code that each compiler makes of a function, side by side, and count what makes it slower
///
/// Without --function, count over the whole module and list its largest functions. docs/inspect.md defines what is
/// counted.
#[derive(Args)]
pub(crate) struct Inspect {
    /// The function: its name, its index, or "hottest" for the one that executes most in a run with --input and ARGS
    #[arg(long, value_name = "NAME|INDEX|hottest")]
    function: Option<String>,

    /// Run the module once to count what each function and loop executes, as "hottest" does
    #[arg(long)]
    count: bool,

    /// Standard input of that run [default: empty]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// What that run may take
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = humantime::parse_duration)]
    timeout: Duration,

    /// Engines whose code is shown [default: all compilers in this program]
    #[arg(long = "engine", value_name = "ID", num_args = 1, value_delimiter = ',')]
    engines: Vec<String>,

    /// Compile the module as it is, without the polls by which Remuda stops guests
    #[arg(long)]
    plain: bool,

    /// Print JSON instead of text
    #[arg(long, conflicts_with = "html")]
    json: bool,

    /// Write a page instead of printing text
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// The module's file, in the binary or the text format
    #[arg(value_name = "MODULE")]
    module: PathBuf,

    /// Arguments of that run
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

/// The word that stands for the function that executes most.
const HOTTEST: &str = "hottest";

impl Inspect {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        start_log("error", false);
        let bytes = read_module(&self.module)?;
        let at = || self.module.display().to_string();
        let module = Module::parse(bytes, &ModuleLimits::default()).with_context(at)?;
        let source = Source::of(module.bytes()).with_context(at)?;
        let wanted = self.function.as_deref().filter(|wanted| *wanted != HOTTEST);
        // A name that nobody has is reported before anything is compiled.
        let named = wanted.map(|wanted| source.find(wanted)).transpose().with_context(at)?;
        let registry = Registry::new(Instances::OnDemand);
        let counts = self.counts(&registry, &source, &module).with_context(at)?;
        let hottest = counts.as_ref().filter(|_| self.function.is_some()).map(|counts| counts.hottest(&source));

        let (listings, not_shown) = self.listings(&registry, &module)?;
        let name = self.module.file_name().unwrap_or(self.module.as_os_str()).to_string_lossy().into_owned();
        match named.or(hottest) {
            None => {
                let mut overview = Overview::new(&source, &name, !self.plain, not_shown);
                for listing in &listings {
                    overview.add(listing.engine.id.as_str(), &listing.version, listing.read_all(&source))?;
                }
                if let Some(counts) = &counts {
                    overview.count(&counts.by_function());
                }
                self.write(&overview, text::overview, html::overview)?;
            }
            Some(index) => {
                let profile = counts.map(|counts| counts.profile(&source, index));
                let comparison = self.compare(&source, &name, index, &listings, not_shown, profile)?;
                self.write(&comparison, |it| text::comparison(it, layout()), html::comparison)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// Runs the module and counts, if that is asked for.
    fn counts(&self, registry: &Registry, source: &Source, module: &Module) -> anyhow::Result<Option<Counts>> {
        if !self.count && self.function.as_deref() != Some(HOTTEST) {
            if self.input.is_some() || !self.args.is_empty() {
                bail!("--input and arguments are for a run: add --count or --function hottest");
            }
            return Ok(None);
        }
        let input = match &self.input {
            None => Vec::new(),
            Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?,
        };
        let run = Run { module: &self.module, args: &self.args, input: input.into(), timeout: self.timeout };
        run.count(registry, source, module).map(Some)
    }

    /// What each engine made of the module, and which engines made nothing that can be shown.
    fn listings(&self, registry: &Registry, module: &Module) -> anyhow::Result<(Vec<Listing>, Vec<NotShown>)> {
        let mut engines: Vec<&'static Known> = Vec::new();
        for name in &self.engines {
            let known = registry.find(name)?;
            if !engines.iter().any(|engine| engine.id == known.id) {
                engines.push(known);
            }
        }
        if engines.is_empty() {
            // Those that are programs of their own are there for comparison, and some compile for long.
            let is_here = |known: &&Known| known.runs_wasm() && known.is_here() && !known.has_workers();
            engines.extend(registry.known().filter(is_here));
        }
        let form = if self.plain { Form::Plain } else { Form::AsServed };
        let (mut listings, mut not_shown) = (Vec::new(), Vec::new());
        for engine in engines {
            match Listing::of(registry, engine, module, form) {
                Ok(listing) => listings.push(listing),
                Err(reason) => not_shown.push(reason),
            }
        }
        if listings.is_empty() {
            let reasons: Vec<String> = not_shown.iter().map(|it| format!("{}: {}", it.engine, it.reason)).collect();
            bail!("there is no machine code to show; {}", reasons.join("; "));
        }
        Ok((listings, not_shown))
    }

    fn compare(
        &self,
        source: &Source,
        name: &str,
        index: u32,
        listings: &[Listing],
        not_shown: Vec<NotShown>,
        profile: Option<Profile>,
    ) -> anyhow::Result<Comparison> {
        let found = |listing| -> anyhow::Result<(&Listing, FunctionCode<'_>)> {
            let listing: &Listing = listing;
            let code = listing.function(index);
            Ok((listing, code.with_context(|| format!("{} made no code of function {index}", listing.engine.id))?))
        };
        let codes = listings.iter().map(found).collect::<anyhow::Result<Vec<_>>>()?;
        let callees: Vec<_> =
            codes.iter().map(|(listing, code)| move |distance: i64| listing.callee(source, code, distance)).collect();
        let given: Vec<Given<'_>> = codes
            .iter()
            .zip(&callees)
            .map(|((listing, code), callee)| Given {
                engine: listing.engine.id.to_string(),
                version: listing.version.clone(),
                code: listing.code(code, callee),
            })
            .collect();
        Ok(Comparison::of(source, name, index, !self.plain, &given, not_shown, profile)?)
    }

    /// Writes what was found as it was asked for: as JSON, as a page, or as text.
    fn write<T: serde::Serialize>(
        &self,
        found: &T,
        text: impl Fn(&T) -> String,
        page: impl Fn(&T) -> String,
    ) -> anyhow::Result<()> {
        if let Some(path) = &self.html {
            return std::fs::write(path, page(found)).with_context(|| format!("cannot write {}", path.display()));
        }
        let words = if self.json { serde_json::to_string_pretty(found)? + "\n" } else { text(found) };
        Ok(print(&words)?)
    }
}

/// How text is laid out on this terminal.
fn layout() -> Layout {
    let stdout = std::io::stdout();
    let columns = || std::env::var("COLUMNS").ok()?.parse::<usize>().ok();
    let terminal = terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0));
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    Layout { width: terminal.or_else(columns).unwrap_or(WIDTH_DEFAULT), colours: stdout.is_terminal() && !no_colour }
}
