//! The costs of each module on each engine: the world that a simulation runs in.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use parking_lot::Mutex;
use remuda_model::{EngineId, Tier};
use remuda_scheduler::{Calibration, EngineCalibration, Features, PartCosts};
use serde::{Deserialize, Serialize};

/// The version of the layout of the file below.
const SCHEMA: u32 = 1;

/// Measured costs of modules on engines.
#[derive(Clone, Debug, PartialEq)]
pub struct CostTable {
    /// The source of the figures, for people.
    pub source: String,
    /// The engines, in the order in which they are tried for an unknown function.
    pub engines: Vec<Engine>,
    /// The modules.
    pub modules: Vec<Module>,
}

/// An engine of the table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Engine {
    /// The engine's name.
    pub id: EngineId,
    /// How much its compiler invests.
    pub tier: Tier,
    /// The costs of the parts that it makes for guests that move; `None` if it makes none.
    pub parts: Option<PartCosts>,
}

/// A module, and its costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    /// The guest's name.
    pub name: String,
    /// The features of its code.
    pub features: Features,
    /// The cost of getting ready on each engine of the table; `None` if the engine cannot run the module.
    pub engines: Vec<Option<ModuleCost>>,
    /// The code that its guests go on in when they move; `None` if they cannot.
    pub part: Option<ModulePart>,
    /// The inputs that the module was measured with.
    pub cases: Vec<Case>,
}

/// The code that a module's guests go on in when they move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModulePart {
    /// The number of places at which its guests spend their time, one after the other; at least 1.
    pub places: u32,
    /// The size of the code that is hot at one of these places, in bytes.
    pub hot_code_bytes: u64,
    /// Whether a part may have the whole module.
    pub has_whole: bool,
}

/// The cost of getting an engine ready to run a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleCost {
    /// Time to make the artifact on one core, in nanoseconds.
    pub compile_ns: u64,
    /// Time to load it from the store, in nanoseconds; `None` if the engine's artifacts cannot be kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load_ns: Option<u64>,
    /// Time to make and drop an instance, in nanoseconds.
    pub instantiate_ns: u64,
    /// The artifact's size, in bytes.
    pub artifact_bytes: u64,
}

/// An input of a module.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The case's name.
    pub name: String,
    /// The size of the input in bytes, if it is known before the request runs.
    pub input_bytes: Option<u64>,
    /// How long each engine of the table runs, in nanoseconds; 0 for an engine that cannot run it.
    pub execute_ns: Vec<u64>,
}

/// The error for a cost table that is not valid.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The table is not the JSON that it should be.
    #[error("the cost table is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// The table was written for another version.
    #[error("the cost table has schema {0}, and this version reads schema {SCHEMA}")]
    Schema(u32),
    /// A module has costs for an engine that the table does not list.
    #[error("{module} has costs for {engine:?}, which is not among the table's engines")]
    UnknownEngine {
        /// The module.
        module: String,
        /// The engine.
        engine: String,
    },
    /// A case lacks an engine that can run the module, or there is no case.
    #[error("{module} can run on {engine}, but one of its cases has no execution time for it, or there is no case")]
    Incomplete {
        /// The module.
        module: String,
        /// The engine.
        engine: EngineId,
    },
    /// The table has no module that an engine can run, or has one that no engine can run.
    #[error("the cost table has no module that an engine can run")]
    Empty,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    source: String,
    engines: Vec<FileEngine>,
    modules: Vec<FileModule>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileEngine {
    id: String,
    tier: Tier,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parts: Option<PartCosts>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileModule {
    name: String,
    code_bytes: u64,
    functions: u32,
    loops: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    part: Option<ModulePart>,
    engines: BTreeMap<String, ModuleCost>,
    cases: Vec<FileCase>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileCase {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input_bytes: Option<u64>,
    execute_ns: BTreeMap<String, u64>,
}

impl CostTable {
    /// The table that comes with Remuda; its `source` says where it was measured.
    ///
    /// # Panics
    ///
    /// Never: a test reads the same bytes.
    #[must_use]
    pub fn built_in() -> Self {
        Self::from_json(include_bytes!("../data/costs.json")).expect("the table that was built in is valid")
    }

    /// Reads a table from JSON.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are no table, or one that lacks costs.
    pub fn from_json(json: &[u8]) -> Result<Self, TableError> {
        let file: File = serde_json::from_slice(json)?;
        if file.schema != SCHEMA {
            return Err(TableError::Schema(file.schema));
        }
        let engines: Vec<Engine> =
            file.engines.iter().map(|e| Engine { id: engine_id(&e.id), tier: e.tier, parts: e.parts }).collect();
        let modules = file.modules.into_iter().map(|module| read_module(module, &engines)).collect::<Result<_, _>>()?;
        Self { source: file.source, engines, modules }.checked()
    }

    /// The table as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        let named = |values: &[u64], module: &Module| -> BTreeMap<String, u64> {
            let able = self.engines.iter().zip(&module.engines).zip(values);
            able.filter(|((_, cost), _)| cost.is_some()).map(|((engine, _), ns)| (engine.id.to_string(), *ns)).collect()
        };
        let modules = self.modules.iter().map(|module| FileModule {
            name: module.name.clone(),
            code_bytes: module.features.code_bytes,
            functions: module.features.functions,
            loops: module.features.loops,
            part: module.part,
            engines: self
                .engines
                .iter()
                .zip(&module.engines)
                .filter_map(|(engine, cost)| Some((engine.id.to_string(), (*cost)?)))
                .collect(),
            cases: module
                .cases
                .iter()
                .map(|case| FileCase {
                    name: case.name.clone(),
                    input_bytes: case.input_bytes,
                    execute_ns: named(&case.execute_ns, module),
                })
                .collect(),
        });
        let file = File {
            schema: SCHEMA,
            source: self.source.clone(),
            engines: self
                .engines
                .iter()
                .map(|e| FileEngine { id: e.id.to_string(), tier: e.tier, parts: e.parts })
                .collect(),
            modules: modules.collect(),
        };
        serde_json::to_string_pretty(&file).unwrap_or_default()
    }

    /// What `remuda calibrate` would find on a host whose engines cost this much: the straight line through the compile
    /// times with the least relative errors, and geometric means.
    #[must_use]
    pub fn calibration(&self) -> Calibration {
        let engines = self.engines.iter().enumerate().map(|(at, engine)| (engine.id, self.calibrate(at)));
        Calibration::new(engines.collect())
    }

    fn calibrate(&self, engine: usize) -> EngineCalibration {
        let tier = self.engines[engine].tier;
        let costs: Vec<(f64, ModuleCost)> = self
            .modules
            .iter()
            .filter_map(|module| Some((module.features.code_bytes as f64, module.engines[engine]?)))
            .collect();
        let compile = line(costs.iter().map(|(bytes, cost)| (*bytes, cost.compile_ns as f64)));
        let load = line(costs.iter().filter_map(|(bytes, cost)| Some((*bytes, cost.load_ns? as f64))));
        let slowdowns = self.modules.iter().filter(|module| module.engines[engine].is_some()).flat_map(|module| {
            module.cases.iter().map(move |case| case.execute_ns[engine] as f64 / module.execute_ns_min(case) as f64)
        });
        EngineCalibration {
            compile_fixed_ns: compile.0,
            compile_ns_per_code_byte: compile.1,
            // A compile takes one core in a simulation.
            compile_parallelism: 1.0,
            load_fixed_ns: load.0,
            load_ns_per_code_byte: load.1,
            instantiate_ns: geometric_mean(costs.iter().map(|(_, cost)| cost.instantiate_ns as f64))
                .unwrap_or_else(|| EngineCalibration::shipped(tier).instantiate_ns),
            slowdown: geometric_mean(slowdowns).unwrap_or_else(|| EngineCalibration::shipped(tier).slowdown),
            parts: self.engines[engine].parts,
        }
    }

    pub(crate) fn checked(self) -> Result<Self, TableError> {
        for module in &self.modules {
            for (engine, _) in self.engines.iter().zip(&module.engines).filter(|(_, cost)| cost.is_some()) {
                let at = self.engines.iter().position(|other| other.id == engine.id).unwrap_or_default();
                if module.cases.is_empty() || module.cases.iter().any(|case| case.execute_ns[at] == 0) {
                    return Err(TableError::Incomplete { module: module.name.clone(), engine: engine.id });
                }
            }
        }
        let can_run = |module: &Module| module.engines.iter().any(Option::is_some);
        if self.modules.is_empty() || !self.modules.iter().all(can_run) {
            return Err(TableError::Empty);
        }
        Ok(self)
    }
}

impl Module {
    /// How long a case runs on the engine that runs it fastest, in nanoseconds.
    pub(crate) fn execute_ns_min(&self, case: &Case) -> u64 {
        let able = self.engines.iter().zip(&case.execute_ns).filter(|(cost, _)| cost.is_some());
        able.map(|(_, ns)| *ns).min().unwrap_or(1).max(1)
    }

    /// The number of the case that runs longest.
    pub(crate) fn longest_case(&self) -> usize {
        (0..self.cases.len()).max_by_key(|at| self.execute_ns_min(&self.cases[*at])).unwrap_or(0)
    }
}

fn read_module(module: FileModule, engines: &[Engine]) -> Result<Module, TableError> {
    let name = module.name;
    let position = |id: &String| {
        let unknown = || TableError::UnknownEngine { module: name.clone(), engine: id.clone() };
        engines.iter().position(|engine| engine.id.as_str() == id).ok_or_else(unknown)
    };
    let mut costs = vec![None; engines.len()];
    for (id, cost) in &module.engines {
        costs[position(id)?] = Some(*cost);
    }
    let mut cases = Vec::new();
    for case in module.cases {
        let mut execute_ns = vec![0; engines.len()];
        for (id, ns) in &case.execute_ns {
            execute_ns[position(id)?] = *ns;
        }
        cases.push(Case { name: case.name, input_bytes: case.input_bytes, execute_ns });
    }
    let features = Features { code_bytes: module.code_bytes, functions: module.functions, loops: module.loops };
    Ok(Module { name, features, engines: costs, part: module.part, cases })
}

/// The id of an engine that a file names. Ids live as long as the process, and there is only one for each name.
pub(crate) fn engine_id(name: &str) -> EngineId {
    static IDS: LazyLock<Mutex<HashMap<String, EngineId>>> = LazyLock::new(Mutex::default);
    let mut ids = IDS.lock();
    *ids.entry(name.to_owned()).or_insert_with(|| EngineId::new(Box::leak(name.to_owned().into_boxed_str())))
}

/// The straight line through points with the least squares of relative errors: the value at 0, and the slope. Neither
/// is negative.
fn line(points: impl Iterator<Item = (f64, f64)>) -> (f64, f64) {
    let (mut w, mut wx, mut wy, mut wxx, mut wxy) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (x, y) in points.filter(|(_, y)| *y > 0.0) {
        let weight = 1.0 / (y * y);
        w += weight;
        wx += weight * x;
        wy += weight * y;
        wxx += weight * x * x;
        wxy += weight * x * y;
    }
    let determinant = w * wxx - wx * wx;
    if determinant <= f64::EPSILON * w * wxx {
        return (if w > 0.0 { wy / w } else { 0.0 }, 0.0);
    }
    let slope = ((w * wxy - wx * wy) / determinant).max(0.0);
    let at_zero = (wy - slope * wx) / w;
    if at_zero >= 0.0 { (at_zero, slope) } else { (0.0, wxy / wxx) }
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (mut sum, mut count) = (0.0, 0_u32);
    for value in values.filter(|value| *value > 0.0) {
        sum += value.ln();
        count += 1;
    }
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_is_valid_and_reads_as_it_is_written() {
        let table = CostTable::built_in();
        assert!(table.modules.len() >= 15 && table.engines.len() >= 3, "{} modules", table.modules.len());
        assert_eq!(CostTable::from_json(table.to_json().as_bytes()).unwrap(), table);
        for (engine, calibration) in table.calibration().measured() {
            assert!(calibration.is_plausible(), "{engine}: {calibration:?}");
        }
    }

    #[test]
    fn what_is_no_table_is_refused() {
        let valid = r#"{"schema":1,"source":"s","engines":[{"id":"a","tier":"baseline"}],"modules":[{"name":"m",
            "code_bytes":1,"functions":1,"loops":0,"engines":{"a":{"compile_ns":5,"instantiate_ns":1,"artifact_bytes":9}},
            "cases":[{"name":"c","execute_ns":{"a":7}}]}]}"#;
        assert!(CostTable::from_json(valid.as_bytes()).is_ok());
        for (from, to, message) in [
            ("\"schema\":1", "\"schema\":9", "schema 9"),
            ("{\"a\":7}", "{\"b\":7}", "\"b\", which is not among"),
            ("{\"a\":7}", "{}", "no execution time"),
            ("\"loops\":0", "\"loops\":-1", "not valid"),
            ("{\"a\":{\"compile_ns\":5,\"instantiate_ns\":1,\"artifact_bytes\":9}}", "{}", "no module"),
        ] {
            let error = CostTable::from_json(valid.replace(from, to).as_bytes()).unwrap_err().to_string();
            assert!(error.contains(message), "{from} -> {to}: {error}");
        }
    }

    #[test]
    fn a_line_is_found_again() {
        let (at_zero, slope) = line([1.0, 10.0, 1_000.0].map(|x| (x, 50.0 + 3.0 * x)).into_iter());
        assert!((at_zero - 50.0).abs() < 1e-6 && (slope - 3.0).abs() < 1e-6, "{at_zero} {slope}");
        assert_eq!(line([(1.0, 7.0)].into_iter()), (7.0, 0.0));
    }
}
