//! What is measured, and in which order.
//!
//! A block is one guest with one input, called in one way; a round measures each block once on every engine, each in a
//! process of its own. The order of blocks, and that of engines within a block, is drawn anew for each round. So whatever
//! changes on the machine in the course of a run meets all engines alike, and the engines of a block are measured close
//! together, so that their ratio within a round means something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64;
use remuda_model::ModuleDigest;
use serde::{Deserialize, Serialize};

use crate::engines::{Engine, Launch};
use crate::guests::{self, Case, Guest, GuestError};
use crate::measure::Output;
use crate::row::{Pattern, Point};

/// A request for measurements, as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Suites, folders with guests, modules. Empty: what the paper measured.
    pub what: Vec<String>,
    /// Engines. Empty: all that are here.
    pub engines: Vec<String>,
    /// How guests are called. Empty: each suite in its own ways.
    pub patterns: Vec<Pattern>,
    /// How large the inputs are.
    pub size: Size,
    /// Cases by name, in place of the cases of that size.
    pub cases: Vec<String>,
    /// The modules' variant; empty: the plain one.
    pub variant: String,
    /// Fresh processes for each point.
    pub processes: u32,
    /// Time limit of one call.
    pub timeout: Duration,
    /// The folder with the suite's guests.
    pub guests: PathBuf,
    /// How modules that are no guests of a suite are called.
    pub external: External,
}

/// How a module that is no guest of a suite is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    /// Arguments.
    pub args: Vec<String>,
    /// Standard input.
    pub stdin: Option<PathBuf>,
    /// The file with the output that it must write; `None`: what it wrote when it was first called.
    pub stdout: Option<PathBuf>,
    /// Whether the module may write something else each time.
    pub any_output: bool,
}

/// How large the suite's inputs are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Size {
    /// For a first look.
    Small,
    /// Inputs as the suite's applications have them in ordinary use.
    #[default]
    Medium,
    /// Minutes on an interpreter.
    Large,
}

/// The plan of a run: what is measured, and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed that the order is drawn from.
    pub seed: u64,
    /// The engines.
    pub engines: Vec<Engine>,
    /// The blocks that are measured in each round.
    pub blocks: Vec<Block>,
    /// The number of rounds.
    pub processes: u32,
    /// Time limit of one call.
    pub timeout: Duration,
    /// What is left out, and why.
    pub left_out: Vec<String>,
}

/// One guest with one input, called in one way, on some engines.
#[derive(Clone, Debug)]
pub struct Block {
    /// The guest and its input.
    pub subject: Subject,
    /// How it is called.
    pub pattern: Pattern,
    /// Indices into [`Plan::engines`].
    pub engines: Vec<usize>,
}

/// A module, its input, and the expected result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The guest's name.
    pub guest: String,
    /// Its suite.
    pub suite: String,
    /// The module's variant.
    pub variant: String,
    /// The case.
    pub case: String,
    /// The module.
    pub module: PathBuf,
    /// The SHA-256 of the module's bytes.
    pub digest: String,
    /// Arguments after the guest's name.
    pub args: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Standard input.
    pub stdin: Option<PathBuf>,
    /// The expected result.
    pub expected: Expected,
}

/// The expected result of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This exit code and this output.
    Exactly {
        /// The exit code.
        exit_code: i32,
        /// The output.
        output: Output,
    },
    /// The same each time, on every engine.
    TheSame,
    /// Any output, and exit code 0.
    Anything,
}

/// One process to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    /// Index into [`Plan::blocks`].
    pub block: usize,
    /// Index into [`Plan::engines`].
    pub engine: usize,
    /// The round.
    pub process: u32,
}

/// The reason why there is no plan for a request.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The suite cannot be read.
    #[error(transparent)]
    Guest(#[from] GuestError),
    /// A file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A name is neither a suite nor a path.
    #[error(
        "there is no suite, folder or module {what:?}; suites are polybench, edge, matmul and micro, and lie in {guests:?}"
    )]
    Unknown {
        /// The name as it was asked for.
        what: String,
        /// The folder in which suites are looked for.
        guests: PathBuf,
    },
    /// The results of two modules could not be told apart.
    #[error(
        "{first:?} and {second:?} would both be {name:?} in the results; measure one after the other, or rename one"
    )]
    SameName {
        /// The name of both.
        name: String,
        /// One module.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Nothing is left to be measured.
    #[error("there is nothing to measure: {reason}")]
    Nothing {
        /// What was left out, and why.
        reason: String,
    },
}

/// What the paper measured: PolyBench, the edge applications, and one program at growing sizes.
const PAPER: [&str; 3] = ["polybench", "edge", "matmul"];
/// The suites whose guests are measured; the others are for tests.
pub const SUITES: [&str; 4] = ["polybench", "edge", "matmul", "micro"];

/// The cases of the guests that have inputs of several kinds and not only of several sizes: small, medium, large. The
/// medium one is what the application is for, as README.md shows it.
const CASES: &[(&str, [&str; 3])] = &[
    ("attitude", ["small", "medium", "large"]),
    ("canny", ["camera-128", "camera", "camera"]),
    ("lenet", ["digit", "digit", "1000"]),
    ("plate", ["scene-320", "scene-640", "scene-960"]),
    ("unzip", ["licence", "reference", "library"]),
    ("fib", ["20", "default", "38"]),
    ("hello", ["world", "world", "world"]),
    ("json", ["small", "medium", "large"]),
    ("noop", ["nothing", "nothing", "nothing"]),
    ("sha256", ["abc", "million", "million"]),
    ("spin", ["million", "million", "billion"]),
];

/// Sides of the matrices, up to those of each size.
const MATMUL: [&[&str]; 3] = [
    &["f64-10", "f64-50", "f64-100", "f64-200"],
    &["f64-10", "f64-50", "f64-100", "f64-200", "f64-500", "f64-1000"],
    &["f64-10", "f64-50", "f64-100", "f64-200", "f64-500", "f64-1000", "f64-2000"],
];

impl Plan {
    /// Plans what was asked for, on these engines.
    ///
    /// # Errors
    ///
    /// Returns an error if something that was asked for is not there.
    pub fn new(request: &Request, engines: Vec<Engine>, seed: u64) -> Result<Self, PlanError> {
        let mut left_out = Vec::new();
        let mut blocks: Vec<Block> = Vec::new();
        let mut patterns_used = BTreeSet::new();
        for subject in subjects(request, &mut left_out)? {
            let own = own_patterns(&subject.suite);
            let patterns = if request.patterns.is_empty() { own } else { &request.patterns };
            for pattern in patterns {
                patterns_used.insert(*pattern);
                add(&mut blocks, block(subject.clone(), *pattern, &engines, &mut left_out))?;
            }
        }
        if let Some(floor) = floor(request)? {
            for pattern in patterns_used {
                add(&mut blocks, block(floor.clone(), pattern, &engines, &mut left_out))?;
            }
        }
        blocks.retain(|block| !block.engines.is_empty());
        left_out.sort();
        left_out.dedup();
        if blocks.is_empty() {
            return Err(PlanError::Nothing { reason: left_out.join("; ") });
        }
        Ok(Self { seed, engines, blocks, processes: request.processes, timeout: request.timeout, left_out })
    }

    /// The processes of one round, in the order in which they are measured. It depends on the seed, the round and the
    /// plan, so that a resumed run goes on in the same order.
    #[must_use]
    pub fn round(&self, process: u32) -> Vec<Task> {
        let mut random = Pcg64::new(u128::from(self.seed), u128::from(process));
        let mut blocks: Vec<usize> = (0..self.blocks.len()).collect();
        blocks.shuffle(&mut random);
        let mut tasks = Vec::new();
        for block in blocks {
            let mut engines = self.blocks[block].engines.clone();
            engines.shuffle(&mut random);
            tasks.extend(engines.into_iter().map(|engine| Task { block, engine, process }));
        }
        tasks
    }

    /// The point that a process measures.
    #[must_use]
    pub fn point(&self, task: Task) -> Point {
        let Block { subject, pattern, .. } = &self.blocks[task.block];
        Point {
            guest: subject.guest.clone(),
            suite: subject.suite.clone(),
            variant: subject.variant.clone(),
            case: subject.case.clone(),
            engine: self.engines[task.engine].id.clone(),
            pattern: *pattern,
        }
    }
}

/// How the guests of a suite are called if nothing else is asked for.
fn own_patterns(suite: &str) -> &'static [Pattern] {
    match suite {
        "edge" => &[Pattern::Cold, Pattern::Fifty, Pattern::Warm],
        "polybench" | "matmul" => &[Pattern::Cold],
        _ => &[Pattern::Cold, Pattern::Steady],
    }
}

/// Adds a block unless it is there already.
fn add(blocks: &mut Vec<Block>, block: Block) -> Result<(), PlanError> {
    let names = |block: &Block| {
        let Block { subject: Subject { guest, suite, variant, case, .. }, pattern, .. } = block.clone();
        (guest, suite, variant, case, pattern)
    };
    match blocks.iter().find(|other| names(other) == names(&block)) {
        None => blocks.push(block),
        // The same module by another path is the same.
        Some(same) if same.subject.digest == block.subject.digest => {}
        Some(other) => {
            let [first, second] = [other, &block].map(|block| block.subject.module.clone());
            return Err(PlanError::SameName { name: block.subject.guest, first, second });
        }
    }
    Ok(())
}

fn block(subject: Subject, pattern: Pattern, engines: &[Engine], left_out: &mut Vec<String>) -> Block {
    let mut able = Vec::new();
    for (i, engine) in engines.iter().enumerate() {
        let is_plain_guest = subject.variant.is_empty() && subject.suite != "external";
        match &engine.launch {
            Launch::Hosted => able.push(i),
            // Each call is a process of its own: there is no other way to call it.
            Launch::Peer(_) | Launch::Native(_) if pattern != Pattern::Cold => {}
            Launch::Peer(_) => able.push(i),
            Launch::Native(folder) if is_plain_guest && folder.join(&subject.guest).is_file() => able.push(i),
            Launch::Native(_) => left_out.push(format!("{} has no native twin", subject.guest)),
        }
    }
    Block { subject, pattern, engines: able }
}

fn subjects(request: &Request, left_out: &mut Vec<String>) -> Result<Vec<Subject>, PlanError> {
    let paper: Vec<String> = PAPER.iter().map(|suite| (*suite).to_owned()).collect();
    let what = if request.what.is_empty() { &paper } else { &request.what };
    let mut subjects: Vec<Subject> = Vec::new();
    for what in what {
        let path = Path::new(what);
        let found = if SUITES.contains(&what.as_str()) {
            let guests = suite_folder(request, what)?;
            of_guests(guests.iter().filter(|guest| guest.suite == *what), request, left_out)?
        } else if path.is_dir() {
            of_guests(guests::find(path)?.iter(), request, left_out)?
        } else if path.is_file() {
            vec![external(path, &request.external)?]
        } else {
            return Err(PlanError::Unknown { what: what.clone(), guests: request.guests.clone() });
        };
        for subject in found {
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
    }
    Ok(subjects)
}

fn suite_folder(request: &Request, what: &str) -> Result<Vec<Guest>, PlanError> {
    if !request.guests.is_dir() {
        return Err(PlanError::Unknown { what: what.to_owned(), guests: request.guests.clone() });
    }
    Ok(guests::find(&request.guests)?)
}

fn of_guests<'a>(
    guests: impl Iterator<Item = &'a Guest>,
    request: &Request,
    left_out: &mut Vec<String>,
) -> Result<Vec<Subject>, PlanError> {
    let mut subjects = Vec::new();
    for guest in guests {
        let module = guest.module(&request.variant);
        if !module.is_file() {
            left_out.push(format!("{} has no module {}", guest.name, module.display()));
            continue;
        }
        for case in cases(guest, request) {
            match subject(guest, case, &module, &request.variant) {
                // Large inputs are made when the guests are built, and not committed.
                Err(PlanError::Io { path, .. }) => {
                    let path = path.display();
                    left_out.push(format!(
                        "{} {}: there is no {path}; run `python guests/build.py`",
                        guest.name, case.name
                    ));
                }
                subject => subjects.push(subject?),
            }
        }
    }
    Ok(subjects)
}

/// The cases of a guest that are measured.
fn cases<'a>(guest: &'a Guest, request: &Request) -> Vec<&'a Case> {
    if !request.cases.is_empty() {
        return request.cases.iter().filter_map(|name| guest.case(name)).collect();
    }
    let size = request.size as usize;
    let by_table = CASES.iter().find(|(name, _)| *name == guest.name).and_then(|(_, cases)| guest.case(cases[size]));
    let by_size = || guest.case(["small", "medium", "large"][size]);
    match guest.suite.as_str() {
        "matmul" => MATMUL[size].iter().filter_map(|name| guest.case(name)).collect(),
        // The other guests of this suite are for tests of their behaviour, not of their speed.
        "micro" => by_table.into_iter().collect(),
        _ => {
            let ordinary = || guest.measurable().find(|case| case.exit_code == Some(0) && case.stdout.is_some());
            by_table.or_else(by_size).or_else(ordinary).into_iter().collect()
        }
    }
}

fn subject(guest: &Guest, case: &Case, module: &Path, variant: &str) -> Result<Subject, PlanError> {
    let stdin = case.stdin.as_ref().map(|path| guest.folder.join(path));
    if let Some(path) = &stdin {
        std::fs::metadata(path).map_err(|source| PlanError::Io { path: path.clone(), source })?;
    }
    let output = match &case.stdout {
        None => Output::of(b""),
        Some(path) => Output::of(&read(&guest.folder.join(path))?),
    };
    Ok(Subject {
        guest: guest.name.clone(),
        suite: guest.suite.clone(),
        variant: variant.to_owned(),
        case: case.name.clone(),
        module: module.to_owned(),
        digest: ModuleDigest::of(&read(module)?).to_string(),
        args: case.args.clone(),
        env: case.env(),
        stdin,
        expected: Expected::Exactly { exit_code: case.exit_code.unwrap_or(0), output },
    })
}

fn external(module: &Path, how: &External) -> Result<Subject, PlanError> {
    let stdin = how.stdin.as_ref().map(|path| format!("< {}", path.file_name().unwrap_or_default().display()));
    let case: Vec<&str> = how.args.iter().chain(&stdin).map(String::as_str).collect();
    let case = case.join(" ");
    let expected = match &how.stdout {
        Some(path) => Expected::Exactly { exit_code: 0, output: Output::of(&read(path)?) },
        None if how.any_output => Expected::Anything,
        None => Expected::TheSame,
    };
    if let Some(path) = &how.stdin {
        std::fs::metadata(path).map_err(|source| PlanError::Io { path: path.clone(), source })?;
    }
    Ok(Subject {
        guest: module.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        suite: "external".into(),
        variant: String::new(),
        case: if case.is_empty() { "plain".into() } else { case },
        module: module.to_owned(),
        digest: ModuleDigest::of(&read(module)?).to_string(),
        args: how.args.clone(),
        env: BTreeMap::new(),
        stdin: how.stdin.clone(),
        expected,
    })
}

/// The guest that does nothing. Every other measurement contains what this one takes.
fn floor(request: &Request) -> Result<Option<Subject>, PlanError> {
    let folder = request.guests.join("noop");
    if !folder.is_dir() {
        return Ok(None);
    }
    let guests = guests::find(&folder)?;
    let found = guests.first().and_then(|guest| Some((guest, guest.case("nothing")?)));
    found.map(|(guest, case)| subject(guest, case, &guest.module(""), "")).transpose()
}

fn read(path: &Path) -> Result<Vec<u8>, PlanError> {
    std::fs::read(path).map_err(|source| PlanError::Io { path: path.to_owned(), source })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn suite() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
    }

    pub(crate) fn request(what: &[&str]) -> Request {
        Request {
            what: what.iter().map(|what| (*what).to_owned()).collect(),
            engines: Vec::new(),
            patterns: Vec::new(),
            size: Size::Medium,
            cases: Vec::new(),
            variant: String::new(),
            processes: 3,
            timeout: Duration::from_mins(1),
            guests: suite(),
            external: External::default(),
        }
    }

    pub(crate) fn subject(expected: Expected) -> Subject {
        Subject {
            guest: "g".into(),
            suite: "external".into(),
            variant: String::new(),
            case: "plain".into(),
            module: PathBuf::from("g.wasm"),
            digest: "d".into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            stdin: None,
            expected,
        }
    }

    /// A plan of `blocks` blocks, each on `engines` engines.
    pub(crate) fn mock_plan(blocks: usize, engines: usize) -> Plan {
        let block = |i| Block {
            subject: Subject { guest: format!("g{i}"), ..subject(Expected::Anything) },
            pattern: if i % 2 == 0 { Pattern::Cold } else { Pattern::Fifty },
            engines: (0..engines).collect(),
        };
        Plan {
            seed: 1,
            engines: (0..engines).map(|i| hosted(&format!("e{i}"))).collect(),
            blocks: (0..blocks).map(block).collect(),
            processes: 2,
            timeout: Duration::from_secs(1),
            left_out: Vec::new(),
        }
    }

    fn hosted(id: &str) -> Engine {
        Engine { id: id.into(), version: String::new(), flags: String::new(), launch: Launch::Hosted }
    }

    fn plan(request: &Request) -> Plan {
        let peer = Engine { launch: Launch::Native(PathBuf::from("absent")), ..hosted("native") };
        Plan::new(request, vec![hosted("wasmi.lazy"), peer], 1).unwrap()
    }

    /// Guest, case and pattern of each block.
    fn blocks(plan: &Plan) -> Vec<(&str, &str, Pattern)> {
        plan.blocks.iter().map(|block| (&*block.subject.guest, &*block.subject.case, block.pattern)).collect()
    }

    #[test]
    fn the_order_is_drawn_from_the_seed_and_the_round() {
        let mut plan = mock_plan(8, 4);
        let first = plan.round(0);
        assert_eq!(first, plan.round(0));
        let order = |tasks: &[Task]| tasks.iter().map(|task| (task.block, task.engine)).collect::<Vec<_>>();
        assert_ne!(order(&first), order(&plan.round(1)));
        let mut sorted = order(&first);
        sorted.sort_unstable();
        assert_eq!(sorted, (0..8).flat_map(|block| (0..4).map(move |engine| (block, engine))).collect::<Vec<_>>());
        // The engines of a block stand together, and not always in the same order.
        let orders: BTreeSet<Vec<usize>> = first
            .chunks(4)
            .map(|tasks| {
                assert!(tasks.iter().all(|task| task.block == tasks[0].block));
                tasks.iter().map(|task| task.engine).collect()
            })
            .collect();
        assert!(orders.len() > 1);
        plan.seed = 2;
        assert_ne!(order(&first), order(&plan.round(0)));
    }

    #[test]
    fn without_a_wish_it_is_what_the_paper_measured() {
        let plan = plan(&request(&[]));
        let blocks = blocks(&plan);
        let count = |suite| plan.blocks.iter().filter(|block| block.subject.suite == suite).count();
        assert_eq!((count("polybench"), count("edge"), count("matmul")), (30, 5 * 3, 6));
        for expected in [
            ("gemm", "medium", Pattern::Cold),
            ("canny", "camera", Pattern::Fifty),
            ("lenet", "digit", Pattern::Warm),
            ("matmul", "f64-1000", Pattern::Cold),
        ] {
            assert!(blocks.contains(&expected), "{expected:?} is not in {blocks:?}");
        }
        for pattern in [Pattern::Cold, Pattern::Fifty, Pattern::Warm] {
            assert!(blocks.contains(&("noop", "nothing", pattern)), "the floor of {pattern:?}");
        }
        assert!(plan.left_out.iter().any(|line| line == "gemm has no native twin"), "{:?}", plan.left_out);
    }

    #[test]
    fn sizes_cases_and_patterns_are_a_matter_of_choice() {
        let small = Request { size: Size::Small, patterns: vec![Pattern::Steady], ..request(&["matmul"]) };
        let small = plan(&small);
        assert_eq!(blocks(&small).last(), Some(&("noop", "nothing", Pattern::Steady)));
        assert_eq!(small.blocks.len(), 5);
        let cases = Request { cases: vec!["camera-256".into(), "10".into()], ..request(&["edge"]) };
        let guests: BTreeSet<_> = plan(&cases).blocks.iter().map(|block| block.subject.guest.clone()).collect();
        assert_eq!(guests.into_iter().collect::<Vec<_>>(), ["canny", "lenet", "noop"]);
        let folder = suite().join("canny");
        let variant = Request { variant: "simd".into(), ..request(&[folder.to_str().unwrap()]) };
        let simd = &plan(&variant).blocks[0].subject;
        assert!(simd.module.ends_with("canny.simd.wasm") && simd.variant == "simd");
        // Each call of a whole process is cold: there is no other block for it.
        let fifty = Request { patterns: vec![Pattern::Fifty], ..request(&["micro"]) };
        assert!(plan(&fifty).blocks.iter().all(|block| block.engines == [0]));
    }

    #[test]
    fn every_size_of_the_table_is_there() {
        let guests = guests::find(&suite()).unwrap();
        for (name, cases) in CASES {
            let guest = guests.iter().find(|guest| guest.name == *name).unwrap();
            for case in cases {
                let case = guest.case(case).unwrap_or_else(|| panic!("{name} has no case {case}"));
                assert_eq!(case.exit_code, Some(0));
            }
        }
        let matmul = guests.iter().find(|guest| guest.name == "matmul").unwrap();
        assert!(MATMUL.iter().copied().flatten().all(|case| matmul.case(case).is_some()));
    }

    #[test]
    fn a_module_of_ones_own_is_called_as_it_was_said() {
        let dir = tempfile::tempdir().unwrap();
        let module = dir.path().join("mine.wasm");
        std::fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
        std::fs::write(dir.path().join("in.txt"), "in").unwrap();
        let stdin = Some(dir.path().join("in.txt"));
        let how = External { args: vec!["-n".into(), "3".into()], stdin, ..External::default() };
        let asked = Request { external: how, ..request(&[module.to_str().unwrap()]) };
        let subject = plan(&asked).blocks[0].subject.clone();
        assert_eq!((subject.guest.as_str(), subject.suite.as_str()), ("mine", "external"));
        assert_eq!((subject.case.as_str(), subject.expected), ("-n 3 < in.txt", Expected::TheSame));
    }

    #[test]
    fn nothing_is_measured_twice_and_nothing_under_the_name_of_another() {
        let twice = Request { patterns: vec![Pattern::Cold, Pattern::Cold], ..request(&["edge", "edge"]) };
        assert_eq!(plan(&twice).blocks.len(), 5 + 1);
        let dir = tempfile::tempdir().unwrap();
        let modules = ["a", "b"].map(|folder| {
            std::fs::create_dir(dir.path().join(folder)).unwrap();
            let path = dir.path().join(folder).join("same.wasm");
            std::fs::write(&path, folder).unwrap();
            path.display().to_string()
        });
        let asked = request(&[&modules[0], &modules[1]]);
        let error = Plan::new(&asked, vec![hosted("wasmi.lazy")], 1).unwrap_err().to_string();
        assert!(error.contains("a/same.wasm") && error.contains("rename one"), "{error}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let error = |request: &Request| Plan::new(request, vec![hosted("wasmi.lazy")], 1).unwrap_err().to_string();
        let unknown = error(&request(&["polybnch"]));
        assert!(unknown.contains("\"polybnch\"") && unknown.contains("polybench, edge, matmul and micro"), "{unknown}");
        let nothing = error(&Request {
            cases: vec!["absent".into()],
            guests: "absent".into(),
            ..request(&[suite().to_str().unwrap()])
        });
        assert!(nothing.contains("nothing to measure"), "{nothing}");
    }
}
