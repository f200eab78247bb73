//! Azure Functions' traces as workloads (`AzurePublicDataset`, Microsoft, CC-BY 4.0).
//!
//! A trace says when a function was called and for how long it ran, and nothing of its code. So each function gets a
//! module of the cost table, by lot, and a call is as much work as takes its duration on the fastest engine, times a
//! *computing share*: the published durations include waiting for others, which no engine makes shorter, and were
//! measured on machines that were shared.

use std::collections::HashMap;
use std::io::Read;

use rand::RngExt;
use rand_pcg::Pcg64Mcg;
use serde::Deserialize;

use crate::workload::random;
use crate::{CostTable, Workload};

/// The error for a trace that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The trace is not the table that it should be.
    #[error("the trace is not valid: {0}")]
    Csv(#[from] csv::Error),
    /// A value is not a number.
    #[error("the trace is not valid: line {line} has {value:?} where a number belongs")]
    Number {
        /// The line, from 1.
        line: u64,
        /// The value that stands there.
        value: String,
    },
    /// A column is missing.
    #[error("the trace has no column {0}")]
    Column(String),
}

const S: f64 = 1e9;

/// A workload from a trace in the schema of 2021: `app,func,end_timestamp,duration`, a line for each call, in seconds.
///
/// # Errors
///
/// Returns an error if the trace cannot be read, or has another schema.
pub fn azure_2021(
    invocations: impl Read,
    table: &CostTable,
    computing_share: f64,
    seed: u64,
) -> Result<Workload, TraceError> {
    #[derive(Deserialize)]
    struct Row {
        app: String,
        func: String,
        end_timestamp: f64,
        duration: f64,
    }
    let mut functions = Functions::new(table, seed);
    let mut workload = Workload { name: "Azure Functions 2021".into(), ..Workload::default() };
    for row in csv::Reader::from_reader(invocations).deserialize() {
        let row: Row = row?;
        let (function, module) = functions.get(&mut workload, &[&row.app, &row.func]);
        let began_s = (row.end_timestamp - row.duration).max(0.0);
        workload.add_run(table, began_s * S, function, module, row.duration * computing_share * S);
    }
    Ok(workload.sorted())
}

/// A workload from a trace in the schema of 2019: `invocations` has a column for each minute of a day, and `durations`
/// has percentiles of the milliseconds that the calls took. Within its minute, a call comes at random; how long it runs
/// is drawn from the percentiles.
///
/// # Errors
///
/// Returns an error if one of the two cannot be read, or has another schema.
pub fn azure_2019(
    invocations: impl Read,
    durations: impl Read,
    table: &CostTable,
    computing_share: f64,
    seed: u64,
) -> Result<Workload, TraceError> {
    let percentiles = read_percentiles(durations)?;
    let mut functions = Functions::new(table, seed);
    let mut workload = Workload { name: "Azure Functions 2019".into(), ..Workload::default() };
    let mut reader = csv::Reader::from_reader(invocations);
    let names = key_columns(reader.headers()?)?;
    let first_minute = column(reader.headers()?, "1")?;
    for record in reader.records() {
        let record = record?;
        let key = names.map(|at| record.get(at).unwrap_or_default());
        // Some functions have no durations.
        let Some(durations) = percentiles.get(&key.map(str::to_owned)) else { continue };
        let (function, module) = functions.get(&mut workload, &key);
        for (minute, value) in record.iter().skip(first_minute).enumerate() {
            let calls: u32 = value.parse().map_err(|_| not_a_number(&record, value))?;
            for _ in 0..calls {
                let at_s = (minute as f64 + functions.random.random::<f64>()) * 60.0;
                let run_ms = durations.draw(functions.random.random());
                workload.add_run(table, at_s * S, function, module, run_ms * computing_share * 1e6);
            }
        }
    }
    Ok(workload.sorted())
}

/// The functions of a trace, and the modules that they were given.
struct Functions {
    known: HashMap<Vec<String>, (u32, usize)>,
    modules: usize,
    random: Pcg64Mcg,
}

impl Functions {
    fn new(table: &CostTable, seed: u64) -> Self {
        Self { known: HashMap::new(), modules: table.modules.len(), random: random(seed) }
    }

    fn get(&mut self, workload: &mut Workload, key: &[&str]) -> (u32, usize) {
        let key: Vec<String> = key.iter().map(ToString::to_string).collect();
        *self.known.entry(key).or_insert_with(|| {
            let module = self.random.random_range(0..self.modules);
            (workload.add_function(module, true), module)
        })
    }
}

/// A distribution, given by some of its percentiles, in ascending order of both share and value.
struct Percentiles(Vec<(f64, f64)>);

impl Percentiles {
    /// The value below which the share `at` lies, by straight lines between the percentiles.
    fn draw(&self, at: f64) -> f64 {
        let above = self.0.partition_point(|(share, _)| *share < at).clamp(1, self.0.len() - 1);
        let ((low, from), (high, to)) = (self.0[above - 1], self.0[above]);
        from + (to - from) * ((at - low) / (high - low)).clamp(0.0, 1.0)
    }
}

fn read_percentiles(durations: impl Read) -> Result<HashMap<[String; 3], Percentiles>, TraceError> {
    const SHARES: [(&str, f64); 7] =
        [("0", 0.0), ("1", 0.01), ("25", 0.25), ("50", 0.5), ("75", 0.75), ("99", 0.99), ("100", 1.0)];
    let mut reader = csv::Reader::from_reader(durations);
    let names = key_columns(reader.headers()?)?;
    let mut columns = Vec::new();
    for (name, share) in SHARES {
        columns.push((column(reader.headers()?, &format!("percentile_Average_{name}"))?, share));
    }
    let mut read = HashMap::new();
    for record in reader.records() {
        let record = record?;
        let mut values = Vec::new();
        for (at, share) in &columns {
            let value = record.get(*at).unwrap_or_default();
            values.push((*share, value.parse().map_err(|_| not_a_number(&record, value))?));
        }
        read.insert(names.map(|at| record.get(at).unwrap_or_default().to_owned()), Percentiles(values));
    }
    Ok(read)
}

fn key_columns(header: &csv::StringRecord) -> Result<[usize; 3], TraceError> {
    Ok([column(header, "HashOwner")?, column(header, "HashApp")?, column(header, "HashFunction")?])
}

fn column(header: &csv::StringRecord, name: &str) -> Result<usize, TraceError> {
    header.iter().position(|other| other == name).ok_or_else(|| TraceError::Column(name.to_owned()))
}

fn not_a_number(record: &csv::StringRecord, value: &str) -> TraceError {
    let line = record.position().map_or(0, csv::Position::line);
    TraceError::Number { line, value: value.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS_2021: &[u8] = include_bytes!("../data/azure2021.csv");
    const CALLS_2019: &[u8] = include_bytes!("../data/azure2019_invocations.csv");
    const DURATIONS_2019: &[u8] = include_bytes!("../data/azure2019_durations.csv");

    #[test]
    fn the_sample_of_2021_is_read() {
        let table = CostTable::built_in();
        let workload = azure_2021(CALLS_2021, &table, 0.5, 1).unwrap();
        assert_eq!((workload.arrivals.len(), workload.functions.len()), (199, 31));
        assert!(workload.arrivals.is_sorted_by_key(|arrival| arrival.at_ns));
        // The durations add up to what the file says.
        let best_ns = |arrival: &crate::Arrival| {
            let module = &table.modules[workload.functions[arrival.function as usize].module as usize];
            module.execute_ns_min(&module.cases[arrival.case as usize]) as f64 * f64::from(arrival.work)
        };
        let total_s: f64 = workload.arrivals.iter().map(best_ns).sum::<f64>() / S;
        assert!((total_s / (0.5 * 10_599.17) - 1.0).abs() < 1e-3, "{total_s}");
    }

    #[test]
    fn the_sample_of_2019_is_read() {
        let table = CostTable::built_in();
        let workload = azure_2019(CALLS_2019, DURATIONS_2019, &table, 1.0, 1).unwrap();
        let reader = csv::Reader::from_reader(CALLS_2019);
        let calls = |record: csv::StringRecord| record.iter().skip(4).filter_map(|v| v.parse::<usize>().ok()).sum();
        let expected: usize = reader.into_records().map(|record| -> usize { calls(record.unwrap()) }).sum();
        assert_eq!(workload.arrivals.len(), expected);
        assert!(expected > 0);
        assert_eq!(workload, azure_2019(CALLS_2019, DURATIONS_2019, &table, 1.0, 1).unwrap());
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let table = CostTable::built_in();
        let error = |csv: &str| azure_2021(csv.as_bytes(), &table, 1.0, 1).unwrap_err().to_string();
        assert!(error("a,b\n1,2\n").contains("missing field"));
        assert!(error("app,func,end_timestamp,duration\na,b,x,1\n").contains("invalid float"));
        let bad = String::from_utf8_lossy(CALLS_2019).replacen(",0,", ",many,", 1);
        let error = azure_2019(bad.as_bytes(), DURATIONS_2019, &table, 1.0, 1).unwrap_err().to_string();
        assert!(error.contains("\"many\" where a number belongs"), "{error}");
        let error = azure_2019(CALLS_2019, &b"HashOwner,HashApp\n"[..], &table, 1.0, 1).unwrap_err().to_string();
        assert!(error.contains("no column HashFunction"), "{error}");
    }

    #[test]
    fn values_are_drawn_from_percentiles() {
        let percentiles = Percentiles(vec![(0.0, 10.0), (0.5, 20.0), (1.0, 100.0)]);
        for (at, expected) in [(0.0, 10.0), (0.25, 15.0), (0.5, 20.0), (0.75, 60.0), (1.0, 100.0)] {
            assert!((percentiles.draw(at) - expected).abs() < 1e-9, "{at}");
        }
    }
}
