//! `remuda simulate`: runs the scheduler on measured costs, under a simulated clock.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use remuda_scheduler::{Policy, Sizing};
use remuda_simulator::{Chooser, CostTable, Setup, Workload, azure_2019, azure_2021, compare, read_results};

/// The sample of the trace of 2021 that comes with Remuda (AzurePublicDataset, Microsoft).
const SAMPLE_2021: &[u8] = include_bytes!("../../simulator/data/azure2021.csv");
/// The sample of the trace of 2019: invocations and durations.
const SAMPLE_2019: [&[u8]; 2] = [
    include_bytes!("../../simulator/data/azure2019_invocations.csv"),
    include_bytes!("../../simulator/data/azure2019_durations.csv"),
];

#[derive(Args)]
pub(crate) struct Simulate {
    /// What is asked of the host
    #[arg(long, value_enum, default_value_t = Kind::Azure2021)]
    workload: Kind,

    /// The trace instead of the sample that comes with Remuda; of 2019, the invocations per minute
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,

    /// The percentiles of the durations that belong to a trace of 2019
    #[arg(long, value_name = "FILE", requires = "trace")]
    durations: Option<PathBuf>,

    /// The share of a trace's durations that is computing: the rest is waiting, which no engine makes shorter
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    computing_share: f64,

    /// Functions, where the workload is generated
    #[arg(long, default_value_t = 1_000)]
    functions: usize,

    /// Requests, where the workload is generated
    #[arg(long, default_value_t = 100_000)]
    requests: usize,

    /// Requests a second of the workload "poisson"
    #[arg(long, default_value_t = 100.0)]
    rate: f64,

    /// The policies to compare: profile, adaptive, hedged, an engine's id, or all. The oracle always runs
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    policy: Vec<String>,

    /// Costs: a table (.json), or the results of `remuda characterize` (.jsonl) [default: measured ones that come with
    /// Remuda]
    #[arg(long, value_name = "FILE")]
    costs: Option<PathBuf>,

    /// The host's cores; several are simulated one after the other
    #[arg(long, value_delimiter = ',', default_value = "2")]
    cores: Vec<usize>,

    /// Threads that run requests [default: as many as cores]
    #[arg(long)]
    workers: Option<usize>,

    /// Compiled code that may be kept in memory
    #[arg(long, value_name = "BYTES", default_value_t = ByteSize::b(Sizing::of(1).memory_bytes_max))]
    memory: ByteSize,

    /// Compiled code that may be kept on disk
    #[arg(long, value_name = "BYTES", default_value_t = ByteSize::b(Sizing::of(1).disk_bytes_max))]
    disk: ByteSize,

    /// How much CPU time races may waste, as a share of what answers requests
    #[arg(long, value_name = "SHARE", default_value_t = Sizing::of(1).waste_share_max)]
    hedge_share: f64,

    /// Race guests that take long, and never move them to better code while they run
    #[arg(long)]
    no_moves: bool,

    /// What everything random is drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// Each module once, with nothing compiled and nothing known
    One,
    /// Each module fifty times, one request after the other
    Fifty,
    /// Requests at random times, of functions some of which are called more often
    Poisson,
    /// Requests in bursts, with minutes between them
    Bursts,
    /// A trace of Azure Functions in the schema of 2019
    Azure2019,
    /// A trace of Azure Functions in the schema of 2021
    Azure2021,
    /// Functions and requests by the distributions that were published of Azure Functions
    AzureLike,
}

impl Simulate {
    pub(crate) fn execute(self) -> anyhow::Result<ExitCode> {
        for (name, share) in [("--computing-share", self.computing_share), ("--hedge-share", self.hedge_share)] {
            if !(0.0..=1e6).contains(&share) || share.is_nan() {
                bail!("{name} {share} is no share: give a number from 0 on, such as 0.25");
            }
        }
        if self.functions == 0 || self.cores.contains(&0) || self.workers == Some(0) {
            bail!("without functions, cores or workers there is nothing to simulate: give at least 1");
        }
        let table = self.table()?;
        let workload = self.workload(&table)?;
        let choosers = self.choosers(&table)?;
        let mut compared = Vec::new();
        for cores in &self.cores {
            let setup = self.setup(*cores);
            let comparison = compare(&table, &workload, &setup, &choosers).map_err(|(chooser, violation)| {
                anyhow::anyhow!("{chooser} on {cores} cores broke a promise, which is a bug: {violation}")
            })?;
            if !self.json {
                println!("{comparison}");
            }
            compared.push(comparison);
        }
        if self.json {
            println!("{}", serde_json::to_string_pretty(&compared)?);
        } else {
            println!("Costs: {}.", table.source);
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The simulated host: a server's defaults, changed by the options that were given.
    fn setup(&self, cores: usize) -> Setup {
        let host = Sizing::of(cores);
        let size = Sizing {
            workers: self.workers.unwrap_or(host.workers),
            memory_bytes_max: self.memory.as_u64(),
            disk_bytes_max: self.disk.as_u64(),
            waste_share_max: self.hedge_share,
            ..host
        };
        Setup { cores, size, moves: !self.no_moves }
    }

    fn table(&self) -> anyhow::Result<CostTable> {
        let built_in = CostTable::built_in();
        let Some(path) = &self.costs else { return Ok(built_in) };
        let table = if path.extension().is_some_and(|extension| extension == "json") {
            let json = std::fs::read(path).with_context(|| format!("cannot read --costs {}", path.display()))?;
            CostTable::from_json(&json).map_err(anyhow::Error::from)
        } else {
            read_results(open(path, "--costs")?, &built_in).map_err(anyhow::Error::from)
        };
        table.with_context(|| format!("--costs {} cannot be used", path.display()))
    }

    fn workload(&self, table: &CostTable) -> anyhow::Result<Workload> {
        let &Self { functions, requests, computing_share, seed, .. } = self;
        Ok(match (self.workload, &self.trace) {
            (Kind::Azure2021, None) => azure_2021(SAMPLE_2021, table, computing_share, seed)?,
            (Kind::Azure2021, Some(trace)) => azure_2021(open(trace, "--trace")?, table, computing_share, seed)
                .with_context(|| format!("--trace {} cannot be used", trace.display()))?,
            (Kind::Azure2019, None) => {
                let [invocations, durations] = SAMPLE_2019;
                azure_2019(invocations, durations, table, computing_share, seed)?
            }
            (Kind::Azure2019, Some(trace)) => {
                let Some(durations) = &self.durations else { bail!("a trace of 2019 needs --durations as well") };
                azure_2019(open(trace, "--trace")?, open(durations, "--durations")?, table, computing_share, seed)
                    .with_context(|| format!("--trace {} cannot be used", trace.display()))?
            }
            (_, Some(_)) => bail!("--trace is for --workload azure2019 and azure2021"),
            (Kind::One, None) => Workload::calls(table, 1),
            (Kind::Fifty, None) => Workload::calls(table, 50),
            (Kind::Poisson, None) => Workload::poisson(table, functions, requests, self.rate, seed),
            (Kind::Bursts, None) => Workload::bursts(table, functions, requests, seed),
            (Kind::AzureLike, None) => Workload::azure_like(table, functions, requests, computing_share, seed),
        })
    }

    fn choosers(&self, table: &CostTable) -> anyhow::Result<Vec<Chooser>> {
        let mut policies = Vec::new();
        for name in &self.policy {
            let engine = table.engines.iter().find(|engine| engine.id.as_str() == name);
            match (name.as_str(), engine) {
                ("oracle", _) => {}
                ("all", _) => {
                    policies.extend([Policy::Profile, Policy::Adaptive, Policy::Hedged]);
                    policies.extend(table.engines.iter().map(|engine| Policy::Single(engine.id)));
                }
                (_, Some(engine)) => policies.push(Policy::Single(engine.id)),
                (_, None) => policies.push(name.parse().map_err(|error| {
                    let engines: Vec<&str> = table.engines.iter().map(|engine| engine.id.as_str()).collect();
                    anyhow::anyhow!(
                        "--policy {name}: {error}, and the engines of the cost table: {}",
                        engines.join(", ")
                    )
                })?),
            }
        }
        Ok(policies.into_iter().map(Chooser::Policy).collect())
    }
}

fn open(path: &Path, option: &str) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("cannot read {option} {}", path.display()))?;
    Ok(BufReader::new(file))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use remuda_host::HostConfig;
    use remuda_manifest::Deployment;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        simulate: Simulate,
    }

    #[test]
    fn the_simulated_host_is_the_one_that_serve_starts_by_default() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f.wasm"), b"\0asm\x01\0\0\0").unwrap();
        let manifest = "[[function]]\nname = \"f\"\nmodule = \"f.wasm\"\n";
        let server = Deployment::parse(manifest, &dir.path().join("remuda.toml")).unwrap().server;
        let config = HostConfig::default();
        let Command { simulate } = Command::parse_from(["simulate"]);
        for cores in [1, 2, 8, 64] {
            let Setup { size, moves, .. } = simulate.setup(cores);
            assert_eq!(simulate.setup(cores), Setup::new(cores));
            assert_eq!((server.workers, size.workers), (None, cores));
            assert_eq!((server.queue_max, config.moves), (size.waiting_max, moves));
            for (memory, disk, share) in [
                (server.artifact_memory_bytes, server.artifact_disk_bytes, server.hedge_share),
                (config.memory_budget_bytes, config.disk_budget_bytes, config.waste_share),
            ] {
                let simulated = (size.memory_bytes_max, size.disk_bytes_max, size.waste_share_max);
                assert_eq!((memory, disk, share), simulated);
            }
        }
    }
}
