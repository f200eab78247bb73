//! Running a subject on several engines, and comparing what they did.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use remuda_engine::{
    Engine, Extent, Instance, InstantiateError, Known, Module, Proposal, Proposals, Registry, testing,
};
use remuda_model::{Entry, GuestContext, GuestLimits, Interrupt, Outcome, Sink, Stdin, Tier, TrapKind, Value};

use super::generate::Subject;

/// The end of a call's line if growth has been refused by then.
const REFUSED: &str = ", growth was refused";

/// Engines, and the proposals that all of them have.
pub(crate) struct Group {
    pub(crate) engines: Vec<Arc<dyn Engine>>,
    pub(crate) proposals: Proposals,
    /// Whether some of them are programs of their own. They have one word for some kinds of traps, and calls of WASI that
    /// fail leave the guest's memory as it was: docs/workers.md.
    has_workers: bool,
}

/// A fault of an engine's compiler, by which it refuses some modules: Wasmer's translation to LLVM takes a value of one
/// type for one of another. They run elsewhere, and are compared on the other engines.
const REFUSAL: (&str, &str) = ("wasmer.llvm", "it panicked: Found ");

/// What is told of a guest that left its memory.
const MEMORY_TRAP: &str = "trapped: memory_out_of_bounds";

impl Group {
    /// The engines of this build for which `belongs` holds.
    pub(crate) fn of(belongs: impl Fn(&Known) -> bool) -> Self {
        let registry = Registry::default();
        let known: Vec<_> =
            registry.known().filter(|known| known.automatic && known.is_built() && belongs(known)).collect();
        Self::open(&registry, &known)
    }

    /// The engines that are programs of their own and installed, beside all others: first those that have what every
    /// toolchain takes for granted, then the others, since a group is compared on what all of its engines have.
    pub(crate) fn with_workers() -> Vec<Self> {
        let registry = Registry::default();
        let is_complete = |known: &Known| Proposals::BASE.without(known.capabilities.proposals).is_empty();
        let groups = [true, false].map(|complete| {
            let known: Vec<_> =
                registry.usable().filter(|known| !known.has_workers() || is_complete(known) == complete).collect();
            let has_workers = known.iter().any(|known| known.has_workers());
            has_workers.then(|| Self { has_workers, ..Self::open(&registry, &known) })
        });
        groups.into_iter().flatten().collect()
    }

    fn open(registry: &Registry, known: &[&'static Known]) -> Self {
        let every: Proposals = remuda_engine::Proposal::ALL.iter().copied().collect();
        let lacking = |known: &&Known| every.without(known.capabilities.proposals);
        let proposals = known.iter().fold(every, |common, known| common.without(lacking(known)));
        let open = |known: &&Known| {
            Arc::clone(registry.open(known.id).unwrap_or_else(|error| panic!("every engine starts here: {error}")))
        };
        Self { engines: known.iter().map(open).collect(), proposals, has_workers: false }
    }

    /// The engine whose guests move, and the engines that they can move to, the best last; `None` if this build has too
    /// few. The group's proposals leave out those that keep guests from moving.
    pub(crate) fn moving() -> Option<Self> {
        let begins = |known: &Known| known.capabilities.tier == Tier::Interpreter;
        let mut group = Self::of(|known| begins(known) || known.capabilities.parts);
        group.engines.sort_by_key(|engine| engine.capabilities().tier);
        let never = [Proposal::MultiMemory, Proposal::Memory64, Proposal::CustomPageSizes, Proposal::Externref];
        group.proposals = group.proposals.without(Proposals::of(&never));
        (group.engines.len() > 1).then_some(group)
    }

    /// Whether all of the group's engines are to do the same with a subject.
    pub(crate) fn can_compare(&self, subject: &Subject) -> bool {
        !self.has_workers || !subject.module.imports_from(super::imported::MODULE)
    }

    /// The engines' names, for messages.
    pub(crate) fn names(&self) -> String {
        self.engines.iter().map(|engine| engine.id().to_string()).collect::<Vec<_>>().join(", ")
    }

    /// Runs a subject on every engine.
    ///
    /// # Errors
    ///
    /// Returns an error if the engines disagree, or if one refuses a module that it is able to run; the message says
    /// what each of them did.
    pub(crate) fn compare(&self, subject: &Subject) -> Result<Agreement, String> {
        let (mut runs, mut engines) = (Vec::new(), Vec::new());
        for engine in &self.engines {
            let mut run = match run(&**engine, &subject.module, &subject.calls) {
                Ok(run) => run,
                Err(error) if engine.id().as_str() == REFUSAL.0 && error.contains(REFUSAL.1) => continue,
                Err(error) => return Err(format!("{}: {error}", engine.id())),
            };
            if self.has_workers {
                for (_, actual, told) in testing::ONE_WORD {
                    let [actual, told] = [actual, told].map(|kind| format!("trapped: {kind}"));
                    run.lines.iter_mut().for_each(|line| *line = line.replace(&actual, &told));
                }
            }
            runs.push(run);
            engines.push(Arc::clone(engine));
        }
        Self { engines, ..*self }.agreement(&runs)
    }

    /// Runs a subject on the first engine, once without moves and then with moves from the `moment`-th point on that
    /// the guest comes to: to each of the other engines alone, and to all of them one after the other, each time to the
    /// next one as soon as the guest may leave the code of the one before. Returns how far the runs could be compared,
    /// and how many parts were offered.
    ///
    /// # Errors
    ///
    /// Returns an error if a run with moves differs from the one without.
    pub(crate) fn compare_moved(
        &self,
        subject: &Subject,
        moment: u64,
        extent: Extent,
    ) -> Result<(Agreement, u64), String> {
        let [origin, targets @ ..] = &self.engines[..] else { return Err("there is no engine".into()) };
        let mut runs = vec![run(&**origin, &subject.module, &subject.calls)?];
        let moved = Arc::new(AtomicU64::new(0));
        let one_after_the_other = (targets.len() > 1).then_some(targets);
        for route in targets.chunks(1).chain(one_after_the_other) {
            let (route, module, moved) = (route.to_vec(), subject.module.clone(), Arc::clone(&moved));
            let prepare = move |instance: &dyn Instance| {
                let Some(moves) = instance.moves() else { return };
                let (mut asked, mut offered) = (0, HashSet::new());
                testing::at_every_point(&moves, move |point| {
                    asked += 1;
                    let asked_since = usize::try_from(u64::checked_sub(asked, moment)?).ok()?;
                    let at = asked_since.min(route.len() - 1);
                    // A part is made only once for each point: the guest asks again at a point that it does not leave.
                    let part =
                        offered.insert((point, at)).then(|| route[at].compile_part(&module, &[point], extent).ok());
                    let part = part.flatten();
                    moved.fetch_add(part.is_some().into(), Ordering::Relaxed);
                    part
                });
            };
            runs.push(run_prepared(&**origin, &subject.module, &subject.calls, prepare)?);
        }
        Ok((self.agreement(&runs)?, moved.load(Ordering::Relaxed)))
    }

    fn agreement(&self, runs: &[Run]) -> Result<Agreement, String> {
        // If one engine runs out of stack, another may have more: from there on nothing can be compared.
        let stack = runs.iter().filter(|run| run.out_of_stack).map(|run| run.lines.len()).min();
        // Growth beyond all bounds may be refused by the memory's type on one engine, and by the limit on another.
        let refused = |run: &Run, i: usize| run.lines.get(i).is_some_and(|line| line.ends_with(REFUSED));
        let lines = runs.iter().map(|run| run.lines.len()).min().unwrap_or(0);
        let limit = (0..lines).find(|i| runs.iter().any(|run| refused(run, *i) != refused(&runs[0], *i)));
        // LLVM does not write what nobody reads any more when the guest traps: no host runs a guest on that has trapped.
        let traps = |run: &Run| run.lines.iter().position(|line| line.contains(MEMORY_TRAP));
        let trapped = runs.iter().filter(|_| self.has_workers).filter_map(|run| Some(traps(run)? + 1)).min();
        let cut = stack.into_iter().chain(limit).chain(trapped).min();
        let shown = |run: &Run| match cut {
            Some(cut) => run.lines[..run.lines.len().min(cut)].to_vec(),
            None => run.lines.clone(),
        };
        let first = shown(&runs[0]);
        if runs.iter().all(|run| shown(run) == first) {
            return Ok(Agreement { whole: cut.is_none(), calls: runs[0].calls, returned: runs[0].returned });
        }
        let mut message = String::from("the engines disagree\n");
        for (engine, run) in self.engines.iter().zip(runs) {
            let _ = writeln!(message, "{}{}", engine.id(), if run.out_of_stack { " (out of stack)" } else { "" });
            for (i, line) in run.lines.iter().enumerate() {
                let differs = runs.iter().any(|other| other.lines.get(i) != Some(line));
                let _ = writeln!(message, "  {} {line}", if differs { ">" } else { " " });
            }
        }
        Err(message)
    }
}

/// How far engines that agree could be compared.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Agreement {
    /// Whether they could be compared to the end: no engine ran out of stack, and all of them met the same limits.
    pub(crate) whole: bool,
    /// The number of calls of the module's functions.
    pub(crate) calls: usize,
    /// The number of these calls that returned.
    pub(crate) returned: usize,
}

/// What a guest did on one engine, with a line for each step.
pub(crate) struct Run {
    pub(crate) lines: Vec<String>,
    out_of_stack: bool,
    calls: usize,
    returned: usize,
}

/// Runs all calls on one instance of `module`.
///
/// # Errors
///
/// Returns an error if the engine failed; whatever the guest did is no error.
pub(crate) fn run(engine: &dyn Engine, module: &Module, calls: &[Entry]) -> Result<Run, String> {
    run_prepared(engine, module, calls, |_| ())
}

fn run_prepared(
    engine: &dyn Engine,
    module: &Module,
    calls: &[Entry],
    prepare: impl FnOnce(&dyn Instance),
) -> Result<Run, String> {
    let artifact = engine.compile(module).map_err(|error| error.to_string())?;
    let mut run = Run { lines: Vec::new(), out_of_stack: false, calls: 0, returned: 0 };
    let mut instance = match artifact.instantiate(&context(), &limits(), &Interrupt::new()) {
        Ok(instance) => instance,
        Err(InstantiateError::Guest { outcome, output }) => {
            run.out_of_stack = is_out_of_stack(&outcome);
            if !run.out_of_stack {
                run.lines.push(format!("instantiate -> {}", without_detail(&outcome)));
                run.lines.push(format!("output {:?} {:?}", output.stdout, output.stderr));
            }
            return Ok(run);
        }
        Err(InstantiateError::Engine(error)) => return Err(error.to_string()),
    };
    prepare(&*instance);
    for entry in calls {
        let called = instance.call(entry).map_err(|error| format!("{}: {error}", line_start(entry)))?;
        if is_out_of_stack(&called.outcome) {
            run.out_of_stack = true;
            return Ok(run);
        }
        if !is_look(entry) {
            run.calls += 1;
            run.returned += usize::from(called.outcome == Outcome::Returned);
        }
        let refused = if called.refused_growth { REFUSED } else { "" };
        let outcome = without_detail(&called.outcome);
        run.lines.push(format!("{} -> {outcome}{}{refused}", line_start(entry), values(&called.values)));
        if matches!(called.outcome, Outcome::Exited { .. }) {
            break;
        }
    }
    let output = instance.into_output();
    run.lines.push(format!("output {:?} {:?}", output.stdout, output.stderr));
    Ok(run)
}

fn is_look(entry: &Entry) -> bool {
    matches!(entry, Entry::Export { name, .. } if name == super::appended::STATE)
}

fn is_out_of_stack(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Trapped { kind: TrapKind::StackExhausted, .. })
}

/// The outcome without the place of a trap, which only some engines report.
fn without_detail(outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Trapped { kind, .. } => Outcome::Trapped { kind: *kind, detail: String::new() },
        other => other.clone(),
    }
}

fn line_start(entry: &Entry) -> String {
    match entry {
        Entry::Command => "_start".into(),
        Entry::Initialize => "_initialize".into(),
        Entry::HttpHandler => unreachable!("no core module has a handler for HTTP"),
        Entry::Export { name, args } => format!("{name}({})", values(args).trim_start()),
    }
}

/// Values as text, with all their bits: two NaNs need not be the same.
fn values(values: &[Value]) -> String {
    values.iter().fold(String::new(), |mut text, value| {
        let _ = match value {
            Value::I32(n) => write!(text, " i32:{n:#x}"),
            Value::I64(n) => write!(text, " i64:{n:#x}"),
            Value::F32(n) => write!(text, " f32:{:#x}", n.to_bits()),
            Value::F64(n) => write!(text, " f64:{:#x}", n.to_bits()),
            Value::V128(n) => write!(text, " v128:{n:#x}"),
            Value::Reference { .. } => write!(text, " {value}"),
        };
        text
    })
}

fn context() -> GuestContext {
    let sink = Sink::Capture { bytes_max: 64 << 10 };
    GuestContext {
        args: vec!["program".into(), "argument".into()],
        env: vec![("NAME".into(), "value".into())],
        stdin: Stdin::Bytes((&b"some input"[..]).into()),
        stdout: sink,
        stderr: sink,
        ..GuestContext::default()
    }
}

/// Limits that are small enough for growth to be refused now and then, and at the same place on every engine.
fn limits() -> GuestLimits {
    GuestLimits { memory_bytes_max: 1 << 20, table_elements_max: 1000, ..GuestLimits::default() }
}
