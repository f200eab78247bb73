//! All functions of a module by several engines: counts, and what holds of the five criticisms.

use serde::Serialize;

use crate::comparison::{NotShown, SCHEMA};
use crate::function::Function;
use crate::judge::{self, Criticism};
use crate::machine::Architecture;
use crate::metrics::Metrics;
use crate::wasm::Source;

/// A module as several engines compile it.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The module's name.
    pub module: String,
    /// Whether the code has the polls with which it is served.
    pub has_polls: bool,
    /// What each engine made of it.
    pub engines: Vec<Total>,
    /// Engines that have nothing to show, and why.
    pub not_shown: Vec<NotShown>,
    /// The functions, in the order of their indices.
    pub functions: Vec<Row>,
}

/// One engine's code of a module.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// The engine's id.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// What the code is made for; nothing if there is no function.
    pub architecture: Option<Architecture>,
    /// Counts over all functions.
    pub metrics: Metrics,
    /// Bytes that no path reaches.
    pub data_bytes: u64,
    /// Jumps whose targets could not be found.
    pub unknown_jumps: u64,
    /// Counts over all innermost loops.
    pub innermost_metrics: Metrics,
    /// How many innermost loops there are.
    pub innermost_loops: usize,
    /// The five criticisms, checked on this code.
    pub criticisms: Vec<Criticism>,
}

/// A function.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its index, imports counted.
    pub index: u32,
    /// Its name, if the module has one for it.
    pub name: Option<String>,
    /// The length of its body in WebAssembly, in bytes.
    pub wasm_bytes: usize,
    /// Counts of each engine's code, in the order of the engines.
    pub metrics: Vec<Metrics>,
    /// The operators of WebAssembly that a run has executed in it, if there was one.
    pub executed: Option<u64>,
}

impl Overview {
    /// An overview without an engine yet.
    #[must_use]
    pub fn new(source: &Source, module: &str, has_polls: bool, not_shown: Vec<NotShown>) -> Self {
        let row = |index| Row {
            index,
            name: source.name(index).map(str::to_owned),
            wasm_bytes: source.body(index).map_or(0, |range| range.len()),
            metrics: Vec::new(),
            executed: None,
        };
        Self {
            schema: SCHEMA,
            module: module.to_owned(),
            has_polls,
            engines: Vec::new(),
            not_shown,
            functions: source.functions().map(row).collect(),
        }
    }

    /// Adds what an engine made of the functions, which come in the order of their indices.
    ///
    /// # Errors
    ///
    /// Returns the error of the first function that has one.
    pub fn add<E>(
        &mut self,
        engine: &str,
        version: &str,
        functions: impl Iterator<Item = Result<Function, E>>,
    ) -> Result<(), E> {
        let mut total = Total {
            engine: engine.to_owned(),
            version: version.to_owned(),
            architecture: None,
            metrics: Metrics::default(),
            data_bytes: 0,
            unknown_jumps: 0,
            innermost_metrics: Metrics::default(),
            innermost_loops: 0,
            criticisms: Vec::new(),
        };
        for (row, function) in self.functions.iter_mut().zip(functions) {
            let function = function?;
            let (innermost, loops) = judge::innermost(&function);
            total.architecture = Some(function.architecture);
            total.metrics += function.metrics;
            total.innermost_metrics += innermost;
            total.innermost_loops += loops;
            total.data_bytes += u64::from(function.data_bytes);
            total.unknown_jumps += u64::from(function.unknown_jumps);
            row.metrics.push(function.metrics);
        }
        let found = judge::criticisms(&total.metrics, &total.innermost_metrics, total.innermost_loops);
        total.criticisms = found.map(|it| if let Some(on) = total.architecture { it.on(on) } else { it }).to_vec();
        self.engines.push(total);
        Ok(())
    }

    /// Adds what a run has executed, in the order of the functions.
    pub fn count(&mut self, operators: &[u64]) {
        for (row, count) in self.functions.iter_mut().zip(operators) {
            row.executed = Some(*count);
        }
    }
}
