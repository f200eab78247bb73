//! Cost tables from what `remuda characterize` has measured: JSON Lines, a record a line. Only samples count, and of
//! these only single calls on the engines of a given table.

use std::collections::BTreeMap;
use std::io::BufRead;

use remuda_model::Tier;
use remuda_scheduler::Features;
use serde::Deserialize;

use crate::cost_table::{Case, engine_id};
use crate::{CostTable, Engine, Module, ModuleCost, TableError};

/// The error for results that make no table.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The results cannot be read.
    #[error("cannot read the results: {0}")]
    Io(#[from] std::io::Error),
    /// A line is not a record.
    #[error("line {line} is not a record of results: {source}")]
    Line {
        /// The line, from 1.
        line: usize,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// What was measured is not enough.
    #[error(transparent)]
    Table(#[from] TableError),
}

#[derive(Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Record {
    Sample(Sample),
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Sample {
    guest: String,
    #[serde(default)]
    variant: String,
    case: String,
    engine: String,
    #[serde(default)]
    wall_ns: BTreeMap<String, u64>,
    #[serde(default)]
    cpu_ns: BTreeMap<String, u64>,
    #[serde(default)]
    artifact_bytes: Option<u64>,
}

/// The measurements of one engine on one module.
#[derive(Default)]
struct Measured {
    compile_ns: Vec<u64>,
    load_ns: Vec<u64>,
    instantiate_ns: Vec<u64>,
    artifact_bytes: Option<u64>,
    /// Execution times in nanoseconds, by case.
    execute_ns: BTreeMap<String, Vec<u64>>,
}

/// Reads results into a table: of each figure, the median. The engines are those of `like`, which also has the features
/// of modules of the same name, as results have none of them. For other modules, the size of the code follows from what
/// the slowest compiler takes.
///
/// # Errors
///
/// Returns an error if the results cannot be read, or hold no module that an engine has run.
pub fn read_results(results: impl BufRead, like: &CostTable) -> Result<CostTable, ResultsError> {
    let mut measured: BTreeMap<String, BTreeMap<String, Measured>> = BTreeMap::new();
    for (at, line) in results.lines().enumerate() {
        let record = serde_json::from_str(&line?).map_err(|source| ResultsError::Line { line: at + 1, source })?;
        let Record::Sample(sample) = record else { continue };
        if like.engines.iter().any(|engine| engine.id.as_str() == sample.engine) {
            let name = [sample.guest.as_str(), &sample.variant].join(".");
            let engines = measured.entry(name.trim_end_matches('.').to_owned()).or_default();
            engines.entry(sample.engine.clone()).or_default().add(sample);
        }
    }
    let modules = measured.into_iter().filter_map(|(name, engines)| module(name, &engines, like)).collect();
    let source = "results of remuda characterize".to_owned();
    Ok(CostTable { source, engines: like.engines.clone(), modules }.checked()?)
}

impl Measured {
    fn add(&mut self, sample: Sample) {
        let phase = |name: &str| sample.wall_ns.get(name).copied().filter(|ns| *ns > 0);
        // On one core, a compile takes its CPU time.
        self.compile_ns.extend(sample.cpu_ns.get("compile").copied().filter(|ns| *ns > 0).or(phase("compile")));
        self.load_ns.extend(phase("load"));
        self.instantiate_ns.extend(phase("instantiate"));
        self.artifact_bytes = self.artifact_bytes.or(sample.artifact_bytes);
        if let Some(ns) = phase("execute") {
            self.execute_ns.entry(sample.case).or_default().push(ns);
        }
    }
}

fn module(name: String, engines: &BTreeMap<String, Measured>, like: &CostTable) -> Option<Module> {
    // A case counts if it was measured on every engine that has run the module at all.
    let complete = |case: &&String| engines.values().all(|measured| measured.execute_ns.contains_key(*case));
    let cases: Vec<&String> = engines.values().next()?.execute_ns.keys().filter(complete).collect();
    let of = |engine: &Engine| engines.get(engine.id.as_str());
    let costs: Vec<Option<ModuleCost>> = like
        .engines
        .iter()
        .map(|engine| {
            let measured = of(engine)?;
            Some(ModuleCost {
                compile_ns: median(&measured.compile_ns)?,
                load_ns: median(&measured.load_ns).filter(|_| engine.tier != Tier::Interpreter),
                instantiate_ns: median(&measured.instantiate_ns).unwrap_or(0),
                artifact_bytes: measured.artifact_bytes.unwrap_or(0),
            })
        })
        .collect();
    if cases.is_empty() || costs.iter().all(Option::is_none) {
        return None;
    }
    let cases = cases.into_iter().map(|case| Case {
        name: case.clone(),
        input_bytes: None,
        execute_ns: like
            .engines
            .iter()
            .map(|engine| of(engine).and_then(|measured| median(measured.execute_ns.get(case)?)).unwrap_or(0))
            .collect(),
    });
    let known =
        like.modules.iter().find(|module| name == module.name || name.starts_with(&format!("{}.", module.name)));
    let features = known.map_or_else(|| guess(&costs, like), |module| module.features);
    let part = known.and_then(|module| module.part);
    Some(Module { features, cases: cases.collect(), name, engines: costs, part })
}

/// Guesses a module's size from the time that it takes to compile it.
fn guess(costs: &[Option<ModuleCost>], like: &CostTable) -> Features {
    let calibration = like.calibration();
    let bytes = like.engines.iter().zip(costs).filter_map(|(engine, cost)| {
        let engine = calibration.engine(engine_id(engine.id.as_str()), engine.tier);
        let beyond_ns = ((*cost)?.compile_ns as f64 - engine.compile_fixed_ns).max(0.0);
        Some((engine.compile_ns_per_code_byte, beyond_ns / engine.compile_ns_per_code_byte.max(1e-9)))
    });
    let slowest = bytes.max_by(|(a, _), (b, _)| a.total_cmp(b)).map_or(0.0, |(_, bytes)| bytes);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size, and not negative")]
    Features { code_bytes: slowest as u64, functions: 1, loops: 1 }
}

fn median(values: &[u64]) -> Option<u64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: &str = r#"{"record":"run","schema":1,"run":"r","seed":1}
{"record":"sample","run":"r","guest":"fib","suite":"micro","variant":"","case":"20","engine":"wasmi.lazy","pattern":"cold","iteration":0,"wall_ns":{"compile":10,"instantiate":5,"execute":100},"cpu_ns":{"compile":9},"load":0.5}
{"record":"sample","run":"r","guest":"fib","suite":"micro","variant":"","case":"20","engine":"wasmi.lazy","pattern":"cold","iteration":0,"wall_ns":{"compile":10,"instantiate":5,"execute":300},"cpu_ns":{"compile":9},"load":0.5}
{"record":"sample","run":"r","guest":"fib","suite":"micro","variant":"","case":"20","engine":"wasmtime.cranelift","pattern":"cold","iteration":0,"wall_ns":{"compile":5000,"instantiate":5,"execute":10},"cpu_ns":{"compile":9000},"load":0.5}
{"record":"sample","run":"r","guest":"fib","suite":"micro","variant":"","case":"20","engine":"wasmtime.cranelift","pattern":"warm","iteration":0,"wall_ns":{"load":50,"instantiate":5,"execute":12},"cpu_ns":{},"load":0.5}
{"record":"sample","run":"r","guest":"fib","suite":"micro","variant":"","case":"20","engine":"native","pattern":"cold","iteration":null,"wall_ns":{"total":10},"cpu_ns":{},"load":0.5}
{"record":"failure","run":"r","guest":"fib","suite":"micro","variant":"","case":"20","engine":"wasmi.lazy","pattern":"cold","process":0,"reason":"x"}
"#;

    #[test]
    fn results_become_a_table() {
        let like = CostTable::built_in();
        let table = read_results(RESULTS.as_bytes(), &like).unwrap();
        let [fib] = table.modules.as_slice() else { panic!("{:?}", table.modules) };
        assert_eq!(fib.features, like.modules.iter().find(|module| module.name == "fib").unwrap().features);
        for (engine, expected) in [("wasmi.lazy", (9, None, 100)), ("wasmtime.cranelift", (9000, Some(50), 10))] {
            let at = table.engines.iter().position(|other| other.id.as_str() == engine).unwrap();
            let cost = fib.engines[at].unwrap();
            assert_eq!((cost.compile_ns, cost.load_ns, fib.cases[0].execute_ns[at]), expected, "{engine}");
        }
    }

    #[test]
    fn what_are_no_results_is_refused() {
        let like = CostTable::built_in();
        let error = |text: &str| read_results(text.as_bytes(), &like).unwrap_err().to_string();
        assert!(error("nothing").contains("line 1 is not a record"));
        assert!(error(RESULTS.lines().next().unwrap()).contains("no module"));
    }
}
