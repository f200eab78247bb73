//! The plugin's arguments: `key=value` each, as in `-plugin FILE,out=counts.json,icache=32k/64/8`.
//!
//! | key | value |
//! |---|---|
//! | `out` | the file that the report is written to when the program ends; needed |
//! | `range` | `told` (default): the code that the program tells, see [`crate::protocol`]; `generated`: code that the program has made at run time, see [`crate::system_calls`]; `program`: the program's own file without its shared libraries; `all`: everything from the first instruction; `START+LENGTH`: these addresses. The last may be given several times. Numbers are decimal, or hexadecimal with `0x` |
//! | `icache`, `dcache` | caches, with `:` between them, each `SIZE`, `SIZE/LINE` or `SIZE/LINE/WAYS` in bytes; sizes may end in `k` or `m`; or `none` |
//! | `predictor` | predictors, with `:` between them: `local`, `bimode`, `tournament`, `tage`, each with sizes such as `local/counters=2048/bits=2`; or `none` |
//! | `btb` | the branch target buffer: `ENTRIES` or `ENTRIES/WAYS`; or `none` |
//! | `ras` | the entries of the return address stack; or `none` |
//! | `shift` | the low bits of a branch's address that predictors and the branch target buffer ignore |
//! | `count` | `architecture` (default) or `cachegrind`, see [`Counting`] |

use std::path::PathBuf;

use crate::cache::CacheConfig;
use crate::core::{Core, Setup};
use crate::error::ConfigError;
use crate::predictor::{BiModeConfig, LocalConfig, PredictorConfig, TageConfig, TournamentConfig};
use crate::report::{CodeRange, Counting};
use crate::targets::{ReturnStackConfig, TargetBufferConfig};

/// The line of a cache for which none is given: that of today's x86-64 and most 64-bit Arm processors.
const LINE_BYTES: u32 = 64;

/// The ways of a cache for which none are given: those of the first-level caches of many of today's processors.
const WAYS: u32 = 8;

/// The smallest and the largest of the nine sizes that are simulated if none are given, each twice the one before.
const SIZES: (u64, u64) = (4 << 10, 1 << 20);

/// Which code is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RangeOption {
    /// What the program tells.
    Told,
    /// What the program has made at run time: memory that it makes executable, and that no file was mapped to.
    Generated,
    /// The program's own file, without the shared libraries that are loaded beside it.
    Program,
    /// Everything.
    All,
    /// These addresses.
    Fixed(Vec<CodeRange>),
}

/// All arguments of the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the report goes.
    pub out: PathBuf,
    /// Which code is counted.
    pub range: RangeOption,
    /// What is simulated.
    pub setup: Setup,
}

/// What is wrong with the arguments.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionError {
    /// No such key.
    #[error("{0:?} is no argument of this plugin; there are {keys}", keys = KEYS.join(", "))]
    Unknown(String),
    /// A key without a value, or a key that may be given once and was given again.
    #[error("{0:?} has to be given once, as {0}=VALUE")]
    Once(String),
    /// `out` is not there.
    #[error("the argument out=FILE is missing: it says where the counts are written to")]
    NoOut,
    /// A value that is none.
    #[error("{key}={value}: {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What would have been accepted.
        expected: &'static str,
    },
    /// A value that no hardware has.
    #[error("{key}={value}: {error}")]
    Config {
        /// The key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it.
        error: ConfigError,
    },
}

const KEYS: [&str; 9] = ["out", "range", "icache", "dcache", "predictor", "btb", "ras", "shift", "count"];
const NUMBER: &str = "expected a whole number such as 16";
const CACHES: &str = "expected caches such as 32k/64/8 (size/line/ways in bytes), with : between them, or none";
const PREDICTORS: &str = "expected local, bimode, tournament or tage, with : between them, or none";
const RANGE: &str = "expected told, generated, program, all, or START+LENGTH such as 0x401000+0x200, not ending beyond the \
                     address space";

impl Options {
    /// Understands the arguments.
    ///
    /// # Errors
    /// If they cannot be understood, or describe hardware that cannot be.
    pub fn parse<'a>(arguments: impl Iterator<Item = &'a str>) -> Result<Self, OptionError> {
        let mut given: Vec<(&str, &str)> = Vec::new();
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or_else(|| unknown_or_bare(argument))?;
            if !KEYS.contains(&key) {
                return Err(OptionError::Unknown(key.to_owned()));
            }
            if value.is_empty() || key != "range" && given.iter().any(|&(earlier, _)| earlier == key) {
                return Err(OptionError::Once(key.to_owned()));
            }
            given.push((key, value));
        }
        let one = |key: &str| given.iter().find(|(name, _)| *name == key).map(|&(_, value)| value);
        let shift = one("shift").map(|value| number("shift", value)).transpose()?;
        let setup = Setup {
            instruction_caches: one("icache").map_or_else(|| Ok(default_caches()), |value| caches("icache", value))?,
            data_caches: one("dcache").map_or_else(|| Ok(default_caches()), |value| caches("dcache", value))?,
            predictors: predictors(one("predictor").unwrap_or("local:bimode:tournament"), shift)?,
            target_buffer: target_buffer(one("btb"), shift)?,
            return_stack: match one("ras") {
                None => Some(ReturnStackConfig::default()),
                Some("none") => None,
                Some(value) => Some(ReturnStackConfig { entries: number("ras", value)? }),
            },
            counting: match one("count") {
                None | Some("architecture") => Counting::Architecture,
                Some("cachegrind") => Counting::Cachegrind,
                Some(value) => return Err(wrong("count", value, "expected architecture or cachegrind")),
            },
        };
        check(&setup, &one)?;
        let ranges: Vec<&str> = given.iter().filter(|(key, _)| *key == "range").map(|&(_, value)| value).collect();
        Ok(Self { out: one("out").ok_or(OptionError::NoOut)?.into(), range: range(&ranges)?, setup })
    }
}

fn unknown_or_bare(argument: &str) -> OptionError {
    if KEYS.contains(&argument) {
        OptionError::Once(argument.to_owned())
    } else {
        OptionError::Unknown(argument.to_owned())
    }
}

fn wrong(key: &'static str, value: &str, expected: &'static str) -> OptionError {
    OptionError::Value { key, value: value.to_owned(), expected }
}

/// Makes each part of the hardware once, so that what cannot be is refused before the program starts, by its argument.
fn check<'a>(setup: &Setup, given: &impl Fn(&str) -> Option<&'a str>) -> Result<(), OptionError> {
    let nothing = || Setup {
        instruction_caches: Vec::new(),
        data_caches: Vec::new(),
        predictors: Vec::new(),
        target_buffer: None,
        return_stack: None,
        counting: setup.counting,
    };
    let parts = [
        ("icache", Setup { instruction_caches: setup.instruction_caches.clone(), ..nothing() }),
        ("dcache", Setup { data_caches: setup.data_caches.clone(), ..nothing() }),
        ("predictor", Setup { predictors: setup.predictors.clone(), ..nothing() }),
        ("btb", Setup { target_buffer: setup.target_buffer, ..nothing() }),
        ("ras", Setup { return_stack: setup.return_stack, ..nothing() }),
    ];
    // Nothing is described: these cores see no access.
    let describe = |_| crate::AccessInfo { access: crate::Access::Load, bytes: 1 };
    for (key, part) in parts {
        if let Err(error) = Core::new(&part, describe) {
            // A shift that is too large is found in what it was given to.
            let (key, value) = match (given(key), given("shift")) {
                (Some(value), _) => (key, value),
                (None, value) => ("shift", value.unwrap_or_default()),
            };
            return Err(OptionError::Config { key, value: value.to_owned(), error });
        }
    }
    Ok(())
}

fn number(key: &'static str, value: &str) -> Result<u32, OptionError> {
    value.parse().map_err(|_| wrong(key, value, NUMBER))
}

fn default_caches() -> Vec<CacheConfig> {
    let sizes = std::iter::successors(Some(SIZES.0), |size| (*size < SIZES.1).then_some(size * 2));
    sizes.map(|size_bytes| CacheConfig { size_bytes, line_bytes: LINE_BYTES, ways: WAYS }).collect()
}

fn caches(key: &'static str, value: &str) -> Result<Vec<CacheConfig>, OptionError> {
    if value == "none" {
        return Ok(Vec::new());
    }
    let one = |text: &str| {
        let mut parts = text.split('/');
        let size = parts.next()?;
        let (digits, unit) = match size.strip_suffix(['k', 'K']) {
            Some(digits) => (digits, 1 << 10),
            None => size.strip_suffix(['m', 'M']).map_or((size, 1), |digits| (digits, 1 << 20)),
        };
        let size_bytes = digits.parse::<u64>().ok()?.checked_mul(unit)?;
        let line_bytes = parts.next().map_or(Some(LINE_BYTES), |line| line.parse().ok())?;
        let ways = parts.next().map_or(Some(WAYS), |ways| ways.parse().ok())?;
        parts.next().is_none().then_some(CacheConfig { size_bytes, line_bytes, ways })
    };
    value.split(':').map(|text| one(text).ok_or_else(|| wrong(key, value, CACHES))).collect()
}

fn target_buffer(value: Option<&str>, shift: Option<u32>) -> Result<Option<TargetBufferConfig>, OptionError> {
    let mut config = TargetBufferConfig::default();
    config.pc_shift = shift.unwrap_or(config.pc_shift);
    match value {
        None => {}
        Some("none") => return Ok(None),
        Some(value) => {
            let (entries, ways) = value.split_once('/').unwrap_or((value, "1"));
            config.entries = number("btb", entries)?;
            config.ways = number("btb", ways)?;
        }
    }
    Ok(Some(config))
}

fn predictors(value: &str, shift: Option<u32>) -> Result<Vec<PredictorConfig>, OptionError> {
    if value == "none" {
        return Ok(Vec::new());
    }
    value.split(':').map(|text| predictor(value, text, shift)).collect()
}

fn predictor(value: &str, text: &str, shift: Option<u32>) -> Result<PredictorConfig, OptionError> {
    let mut parts = text.split('/');
    let name = parts.next().unwrap_or_default();
    let mut local = LocalConfig::default();
    let mut bimode = BiModeConfig::default();
    let mut tournament = TournamentConfig::default();
    let mut tage = TageConfig::default();
    let mut fields: Vec<(&str, &mut u32)> = match name {
        "local" => {
            vec![("counters", &mut local.counters), ("bits", &mut local.counter_bits), ("shift", &mut local.pc_shift)]
        }
        "bimode" => vec![
            ("choice", &mut bimode.choice_counters),
            ("direction", &mut bimode.direction_counters),
            ("bits", &mut bimode.counter_bits),
            ("shift", &mut bimode.pc_shift),
        ],
        "tournament" => vec![
            ("histories", &mut tournament.local_histories),
            ("local", &mut tournament.local_counters),
            ("global", &mut tournament.global_counters),
            ("choice", &mut tournament.choice_counters),
            ("bits", &mut tournament.counter_bits),
            ("shift", &mut tournament.pc_shift),
        ],
        "tage" => vec![
            ("base", &mut tage.base_counters),
            ("tables", &mut tage.tables),
            ("entries", &mut tage.table_entries),
            ("tag", &mut tage.tag_bits),
            ("min", &mut tage.history_min),
            ("max", &mut tage.history_max),
            ("shift", &mut tage.pc_shift),
        ],
        _ => return Err(wrong("predictor", value, PREDICTORS)),
    };
    for (key, field) in &mut fields {
        if *key == "shift" {
            **field = shift.unwrap_or(**field);
        }
    }
    for part in parts {
        let field = part.split_once('=').and_then(|(key, size)| {
            let field = fields.iter_mut().find(|(name, _)| *name == key)?;
            size.parse::<u32>().ok().map(|size| *field.1 = size)
        });
        field.ok_or_else(|| wrong("predictor", value, sizes_of(name)))?;
    }
    Ok(match name {
        "local" => PredictorConfig::Local(local),
        "bimode" => PredictorConfig::BiMode(bimode),
        "tournament" => PredictorConfig::Tournament(tournament),
        _ => PredictorConfig::Tage(tage),
    })
}

fn sizes_of(name: &str) -> &'static str {
    match name {
        "local" => "local has the sizes counters, bits and shift, as in local/counters=2048",
        "bimode" => "bimode has the sizes choice, direction, bits and shift, as in bimode/choice=4096",
        "tournament" => {
            "tournament has the sizes histories, local, global, choice, bits and shift, as in tournament/global=4096"
        }
        _ => "tage has the sizes base, tables, entries, tag, min, max and shift, as in tage/tables=4",
    }
}

fn range(values: &[&str]) -> Result<RangeOption, OptionError> {
    match values {
        [] | ["told"] => return Ok(RangeOption::Told),
        ["generated"] => return Ok(RangeOption::Generated),
        ["program"] => return Ok(RangeOption::Program),
        ["all"] => return Ok(RangeOption::All),
        _ => {}
    }
    let address = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let one = |text: &str| {
        let (start, length) = text.split_once('+')?;
        let (start, length) = (address(start)?, address(length)?);
        start.checked_add(length)?;
        Some(CodeRange { start, length })
    };
    let ranges = values.iter().map(|text| one(text).ok_or_else(|| wrong("range", text, RANGE)));
    Ok(RangeOption::Fixed(ranges.collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, OptionError> {
        Options::parse(arguments.iter().copied())
    }

    fn refused(arguments: &[&str]) -> String {
        parse(arguments).unwrap_err().to_string()
    }

    #[test]
    fn without_further_arguments_there_are_nine_sizes_and_three_predictors() {
        let options = parse(&["out=x.json"]).unwrap();
        assert_eq!(options.out, PathBuf::from("x.json"));
        assert_eq!(options.range, RangeOption::Told);
        let sizes: Vec<_> = options.setup.data_caches.iter().map(|cache| cache.size_bytes >> 10).collect();
        assert_eq!(sizes, [4, 8, 16, 32, 64, 128, 256, 512, 1024]);
        assert_eq!(options.setup.instruction_caches, options.setup.data_caches);
        assert_eq!(options.setup.predictors.len(), 3);
    }

    #[test]
    fn arguments_say_what_is_simulated() {
        let options = parse(&[
            "out=x",
            "icache=32k:48k/64/12:1m/128",
            "dcache=none",
            "predictor=local/counters=2048/bits=3:tage/tables=4:bimode/shift=1",
            "btb=512/4",
            "ras=none",
            "shift=0",
            "count=cachegrind",
            "range=0x1000+0x10",
            "range=4096+16",
        ])
        .unwrap();
        let cache = |size_bytes, line_bytes, ways| CacheConfig { size_bytes, line_bytes, ways };
        let caches = [cache(32 << 10, 64, 8), cache(48 << 10, 64, 12), cache(1 << 20, 128, 8)];
        assert_eq!(options.setup.instruction_caches, caches);
        assert_eq!(options.setup.data_caches, []);
        let local = LocalConfig { counters: 2048, counter_bits: 3, pc_shift: 0 };
        let tage = TageConfig { tables: 4, pc_shift: 0, ..TageConfig::default() };
        let bimode = BiModeConfig { pc_shift: 1, ..BiModeConfig::default() };
        let predictors = [PredictorConfig::Local(local), PredictorConfig::Tage(tage), PredictorConfig::BiMode(bimode)];
        assert_eq!(options.setup.predictors, predictors);
        let buffer = TargetBufferConfig { entries: 512, ways: 4, pc_shift: 0 };
        assert_eq!(options.setup.target_buffer, Some(buffer));
        assert_eq!(options.setup.return_stack, None);
        assert_eq!(options.setup.counting, Counting::Cachegrind);
        let range = CodeRange { start: 4096, length: 16 };
        assert_eq!(options.range, RangeOption::Fixed(vec![range, range]));
        for (name, range) in [
            ("all", RangeOption::All),
            ("generated", RangeOption::Generated),
            ("program", RangeOption::Program),
            ("told", RangeOption::Told),
        ] {
            assert_eq!(parse(&["out=x", &format!("range={name}")]).unwrap().range, range);
        }
    }

    #[test]
    fn what_cannot_be_understood_is_refused_by_name() {
        for (arguments, message) in [
            (&["range=all"][..], "the argument out=FILE is missing"),
            (&["out=x", "cache=1"], "\"cache\" is no argument of this plugin; there are out, range, "),
            (&["out=x", "and=1"], "\"and\" is no argument"),
            (&["out=x", ""], "\"\" is no argument"),
            (&["out=x", "ras"], "\"ras\" has to be given once, as ras=VALUE"),
            (&["out=", "ras=1"], "\"out\" has to be given once"),
            (&["out=x", "out=y"], "\"out\" has to be given once"),
            (&["out=x", "icache=32q"], "icache=32q: expected caches such as 32k/64/8"),
            (&["out=x", "icache=32k/64/8/1"], "icache=32k/64/8/1: expected caches"),
            (&["out=x", "icache=99999999999999999999m"], "icache=99999999999999999999m: expected caches"),
            (&["out=x", "icache=18446744073709551615m"], "icache=18446744073709551615m: expected caches"),
            (&["out=x", "dcache=32k:"], "dcache=32k:: expected caches"),
            (&["out=x", "dcache=33k"], "dcache=33k: a cache of 33792 bytes cannot have 8 ways"),
            (&["out=x", "dcache=32k/0"], "dcache=32k/0: a cache line in bytes is 0; it has to be between 8 and 4096"),
            (&["out=x", "predictor=best"], "predictor=best: expected local, bimode, tournament or tage"),
            (&["out=x", "predictor=local/size=1"], "predictor=local/size=1: local has the sizes counters, bits"),
            (&["out=x", "predictor=tage/tables=x"], "predictor=tage/tables=x: tage has the sizes base"),
            (
                &["out=x", "predictor=local/counters=3"],
                "predictor=local/counters=3: the counters of the local predictor is 3",
            ),
            (&["out=x", "shift=40"], "shift=40: a predictor's pc shift is 40; it has to be between 0 and 16"),
            (&["out=x", "shift=-1"], "shift=-1: expected a whole number"),
            (&["out=x", "btb=0"], "btb=0: the entries of a branch target buffer is 0"),
            (&["out=x", "btb=8/x"], "btb=x: expected a whole number"),
            (&["out=x", "ras=0"], "ras=0: the entries of a return address stack is 0"),
            (&["out=x", "count=gem5"], "count=gem5: expected architecture or cachegrind"),
            (
                &["out=x", "range=all", "range=told"],
                "range=all: expected told, generated, program, all, or START+LENGTH",
            ),
            (&["out=x", "range=0x10"], "range=0x10: expected told, generated"),
            (&["out=x", "range=0xffffffffffffffff+2"], "range=0xffffffffffffffff+2: expected told"),
        ] {
            let said = refused(arguments);
            assert!(said.starts_with(message), "{arguments:?}: {said}");
        }
    }
}
