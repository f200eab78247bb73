//! One function by several engines, side by side.

use serde::Serialize;

use crate::function::{self, Code, Function};
use crate::judge::{self, Criticism};
use crate::metrics::Metrics;
use crate::wasm::{Source, SourceError, SourceFunction, SourceLoop, SourceOperator};

/// Counts the changes to what is written as JSON: a program that reads it should look at this first.
pub const SCHEMA: u32 = 1;

/// A function as several engines compile it.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// The module's name.
    pub module: String,
    /// Whether the code has the polls with which it is served.
    pub has_polls: bool,
    /// The function in WebAssembly.
    pub function: Shown,
    /// What each engine made of it, in the order in which they were given.
    pub engines: Vec<Column>,
    /// Engines that have nothing to show, and why.
    pub not_shown: Vec<NotShown>,
    /// Why some engines' code is longer, in sentences.
    pub reasons: Vec<String>,
    /// What was counted in a run, if there was one.
    pub profile: Option<Profile>,
}

/// A function in WebAssembly.
#[derive(Clone, Debug, Serialize)]
pub struct Shown {
    /// Its index, imports counted.
    pub index: u32,
    /// Its name, if the module has one for it.
    pub name: Option<String>,
    /// The offset of its body in the module's bytes.
    pub start: usize,
    /// The offset of the byte after its body.
    pub end: usize,
    /// Its loops, in the order of the code.
    pub loops: Vec<SourceLoop>,
    /// Its operators, in order.
    pub operators: Vec<SourceOperator>,
}

/// One engine's code.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// The engine's id.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// The code, read and counted.
    #[serde(flatten)]
    pub code: Function,
    /// The five criticisms, checked on this code.
    pub criticisms: Vec<Criticism>,
}

/// An engine without code to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotShown {
    /// The engine's id.
    pub engine: String,
    /// Why there is none.
    pub reason: String,
}

/// How many operators of WebAssembly a run has executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// In the whole run.
    pub operators: u64,
    /// In this function, without those that it called.
    pub in_function: u64,
    /// In each of its loops, without the loops in it.
    pub in_loops: Vec<u64>,
}

/// One engine's code of a function, still to be read.
pub struct Given<'a> {
    /// The engine's id.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// The code.
    pub code: Code<'a>,
}

impl Comparison {
    /// Reads the code of a function and sets it side by side.
    ///
    /// # Errors
    ///
    /// Returns an error if the module has no such function, or if its body cannot be read.
    pub fn of(
        source: &Source,
        module: &str,
        index: u32,
        has_polls: bool,
        given: &[Given<'_>],
        not_shown: Vec<NotShown>,
        profile: Option<Profile>,
    ) -> Result<Self, SourceError> {
        let function = source.function(index)?;
        let range = source.body(index).unwrap_or_default();
        let engines: Vec<Column> = given.iter().map(|given| column(given, &function)).collect();
        let SourceFunction { loops, operators } = function;
        let name = source.name(index).map(str::to_owned);
        let mut comparison = Self {
            schema: SCHEMA,
            module: module.to_owned(),
            has_polls,
            function: Shown { index, name, start: range.start, end: range.end, loops, operators },
            engines,
            not_shown,
            reasons: Vec::new(),
            profile,
        };
        comparison.reasons = comparison.find_reasons();
        Ok(comparison)
    }

    /// For each place where a program spends its time: an innermost loop, or the function if it has none.
    fn find_reasons(&self) -> Vec<String> {
        let mut places: Vec<usize> =
            (0..self.function.loops.len()).filter(|index| self.function.loops[*index].is_innermost).collect();
        if let Some(profile) = &self.profile {
            places.sort_by_key(|index| std::cmp::Reverse(profile.in_loops.get(*index).copied().unwrap_or(0)));
        }
        let mut sentences = Vec::new();
        for index in places {
            let columns: Vec<(&str, &Metrics)> = self
                .engines
                .iter()
                .filter_map(|column| Some((column.engine.as_str(), &column.code_loop(index)?.metrics)))
                .collect();
            if columns.len() > 1 {
                sentences.extend(judge::reasons(&format!("in {}", self.loop_words(index)), &columns));
            }
        }
        if sentences.is_empty() {
            let columns: Vec<(&str, &Metrics)> =
                self.engines.iter().map(|column| (column.engine.as_str(), &column.code.metrics)).collect();
            sentences = judge::reasons("in the whole function", &columns);
        }
        sentences
    }

    /// A loop of the source in a few words.
    #[must_use]
    pub fn loop_words(&self, index: usize) -> String {
        match self.function.loops.get(index) {
            Some(found) => {
                let kind = if found.is_innermost { "innermost loop" } else { "loop" };
                format!("{kind} {index} ({:#x} to {:#x})", found.start, found.end)
            }
            None => format!("loop {index}"),
        }
    }

    /// The share of a loop without the loops in it, in percent of all operators of the run.
    #[must_use]
    pub fn share(&self, index: Option<usize>) -> Option<f64> {
        let profile = self.profile.as_ref()?;
        let count = match index {
            Some(index) => *profile.in_loops.get(index)?,
            None => profile.in_function.saturating_sub(profile.in_loops.iter().sum()),
        };
        (profile.operators > 0).then(|| 100.0 * count as f64 / profile.operators as f64)
    }
}

impl Column {
    /// The loop of this code that is a loop of the source.
    #[must_use]
    pub fn code_loop(&self, source: usize) -> Option<&function::CodeLoop> {
        self.code.loops.iter().find(|found| found.source == Some(source))
    }
}

fn column(given: &Given<'_>, source: &SourceFunction) -> Column {
    let code = function::read(&given.code, source);
    let (innermost, loops) = judge::innermost(&code);
    let criticisms = judge::criticisms(&code.metrics, &innermost, loops).map(|it| it.on(code.architecture)).to_vec();
    Column { engine: given.engine.clone(), version: given.version.clone(), code, criticisms }
}
