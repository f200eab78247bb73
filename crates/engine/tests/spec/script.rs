//! Running one file on one engine.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use remuda_engine::{Module, Proposals, testing};
use remuda_model::TrapKind;
use wasmparser::{Parser, Payload};

use crate::engine::{Fault, Room, WastEngine};
use crate::suite::{Action, Binary, File, Step};
use crate::tally::{Tally, Verdict, panic_message};
use crate::value::{Expected, Value};

/// The module `spectest` that the suite imports from. `TABLE64` stands for an export that only some engines can have.
const SPECTEST: &str = r#"(module
    (func (export "print"))
    (func (export "print_i32") (param i32))
    (func (export "print_i64") (param i64))
    (func (export "print_f32") (param f32))
    (func (export "print_f64") (param f64))
    (func (export "print_i32_f32") (param i32 f32))
    (func (export "print_f64_f64") (param f64 f64))
    (global (export "global_i32") i32 (i32.const 666))
    (global (export "global_i64") i64 (i64.const 666))
    (global (export "global_f32") f32 (f32.const 666.6))
    (global (export "global_f64") f64 (f64.const 666.6))
    (table (export "table") 10 20 funcref)
    (memory (export "memory") 1 2)
    TABLE64)"#;

/// An engine that runs the suite.
pub(crate) struct Subject<'a> {
    /// The proposals that modules may use. Modules that need more are skipped, as the host would not give them to this
    /// engine.
    pub(crate) proposals: Proposals,
    /// Makes a world for the instances of one file.
    pub(crate) open: &'a (dyn Fn(Room) -> Box<dyn WastEngine> + Sync),
}

impl Subject<'_> {
    /// Runs every step of `file`.
    pub(crate) fn run(&self, file: &File) -> Tally {
        let mut tally = Tally::default();
        let room = Room::of(file.steps.iter().filter_map(|(_, step)| binary_of(step)));
        let mut script = Script::new((self.open)(room), self.proposals);
        for (done, (line, step)) in file.steps.iter().enumerate() {
            // A panic in an engine is a failure like any other, but nothing is known of the engine's state afterwards.
            match catch_unwind(AssertUnwindSafe(|| script.step(step))) {
                Ok(verdict) => tally.record(&file.name, *line, verdict),
                Err(panic) => {
                    tally.record(&file.name, *line, Verdict::Failed(panic_message(&*panic)));
                    tally.skipped += file.steps.len() - done - 1;
                    break;
                }
            }
        }
        tally
    }
}

fn binary_of(step: &Step) -> Option<&[u8]> {
    match step {
        Step::Module { module, .. }
        | Step::Definition { module, .. }
        | Step::AssertUnlinkable(module)
        | Step::AssertTrap(Action::Instantiate(module), _)
        | Step::AssertReturn(Action::Instantiate(module), _)
        | Step::AssertException(Action::Instantiate(module)) => module.as_deref().ok(),
        _ => None,
    }
}

/// What has become of a module.
#[derive(Clone, Copy)]
enum Place {
    /// The engine has an instance of the module under this number.
    Ready(usize),
    /// The module needs a proposal that the engine does not claim, or imports from a module that was skipped or failed.
    Skipped,
    /// The module failed. This has been reported; failures that follow from it are not.
    Failed,
}

/// Why a step did not get to its end.
enum Obstacle {
    /// The step, or a module that it builds on, is not for this engine, or has failed before.
    Skip,
    /// Something went wrong in the engine.
    Fault(Fault),
}

struct Script {
    engine: Box<dyn WastEngine>,
    proposals: Proposals,
    current: Option<Place>,
    named: HashMap<String, Place>,
    registered: HashMap<String, Place>,
    definitions: HashMap<Option<String>, Binary>,
}

impl Script {
    fn new(mut engine: Box<dyn WastEngine>, proposals: Proposals) -> Self {
        let has_table64 = proposals.contains(remuda_engine::Proposal::Memory64);
        let table64 = if has_table64 { r#"(table (export "table64") i64 10 20 funcref)"# } else { "" };
        let spectest = wat::parse_str(SPECTEST.replace("TABLE64", table64)).expect("it is WebAssembly");
        let spectest = testing::parse(spectest).expect("it is valid");
        let instance = engine.instantiate(&spectest).unwrap_or_else(|fault| panic!("spectest: {fault}"));
        engine.register(instance, "spectest").unwrap_or_else(|fault| panic!("spectest: {fault}"));
        let registered = HashMap::from([("spectest".to_owned(), Place::Ready(instance))]);
        Self { engine, proposals, current: None, named: HashMap::new(), registered, definitions: HashMap::new() }
    }

    fn step(&mut self, step: &Step) -> Verdict {
        let result = match step {
            Step::Module { name, module } => self.module(name.as_deref(), module),
            Step::Definition { name, module } => {
                self.definitions.insert(name.clone(), module.clone());
                return Verdict::Passed;
            }
            Step::Instance { name, module } => match self.definitions.get(module).cloned() {
                Some(module) => self.module(name.as_deref(), &module),
                None => Err(Fault::Other("no such definition".into()).into()),
            },
            Step::Register { instance, name } => self.register(instance.as_deref(), name),
            Step::Action(action) => self.act(action).map(drop),
            Step::AssertReturn(action, expected) => {
                self.act(action).and_then(|values| Ok(check_results(&values, expected)?))
            }
            Step::AssertTrap(action, message) => return must_trap(self.act(action), message),
            Step::AssertException(action) => return must_trap(self.act(action), "uncaught exception"),
            Step::AssertUnlinkable(module) => return must_not_link(self.instantiate(module)),
            // The validator does this for every engine; see the test of the front door.
            Step::AssertRefused(_) => return Verdict::NotMine,
            Step::Unsupported => Err(Obstacle::Skip),
        };
        match result {
            Ok(()) => Verdict::Passed,
            Err(Obstacle::Skip) => Verdict::Skipped,
            Err(Obstacle::Fault(fault)) => Verdict::Failed(fault.to_string()),
        }
    }

    fn module(&mut self, name: Option<&str>, module: &Binary) -> Result<(), Obstacle> {
        let result = self.instantiate(module);
        let place = match &result {
            Ok(instance) => Place::Ready(*instance),
            Err(Obstacle::Skip) => Place::Skipped,
            Err(Obstacle::Fault(_)) => Place::Failed,
        };
        self.current = Some(place);
        if let Some(name) = name {
            self.named.insert(name.to_owned(), place);
        }
        result.map(drop)
    }

    fn instantiate(&mut self, module: &Binary) -> Result<usize, Obstacle> {
        let bytes = module.clone().map_err(|error| Fault::Other(format!("the text cannot be encoded: {error}")))?;
        let module = testing::parse(bytes).map_err(|error| Fault::Compile(format!("the front door: {error}")))?;
        if !module.needs().without(self.proposals).is_empty() || self.imports_from_missing(&module) {
            return Err(Obstacle::Skip);
        }
        Ok(self.engine.instantiate(&module)?)
    }

    fn imports_from_missing(&self, module: &Module) -> bool {
        imported_modules(module.bytes())
            .iter()
            .any(|name| matches!(self.registered.get(name), Some(Place::Skipped | Place::Failed)))
    }

    fn register(&mut self, instance: Option<&str>, name: &str) -> Result<(), Obstacle> {
        let place = self.place(instance)?;
        self.registered.insert(name.to_owned(), place);
        let instance = ready(place)?;
        Ok(self.engine.register(instance, name)?)
    }

    fn act(&mut self, action: &Action) -> Result<Vec<Value>, Obstacle> {
        match action {
            Action::Invoke { instance, export, args } => {
                let instance = ready(self.place(instance.as_deref())?)?;
                Ok(self.engine.invoke(instance, export, args)?)
            }
            Action::Get { instance, global } => {
                let instance = ready(self.place(instance.as_deref())?)?;
                Ok(vec![self.engine.global(instance, global)?])
            }
            Action::Instantiate(module) => self.instantiate(module).map(|_| Vec::new()),
        }
    }

    fn place(&self, name: Option<&str>) -> Result<Place, Fault> {
        let place = match name {
            Some(name) => self.named.get(name).copied(),
            None => self.current,
        };
        place.ok_or_else(|| Fault::Other(format!("no instance {name:?}")))
    }
}

fn ready(place: Place) -> Result<usize, Obstacle> {
    match place {
        Place::Ready(instance) => Ok(instance),
        Place::Skipped | Place::Failed => Err(Obstacle::Skip),
    }
}

impl From<Fault> for Obstacle {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

fn imported_modules(bytes: &[u8]) -> Vec<String> {
    let payloads = Parser::new(0).parse_all(bytes).map(|payload| payload.expect("the module is valid"));
    let imports = payloads.filter_map(|payload| match payload {
        Payload::ImportSection(section) => Some(section),
        _ => None,
    });
    let names = imports.flat_map(|section| section.into_imports().map(|import| import.map(|it| it.module.to_owned())));
    names.map(|name| name.expect("the module is valid")).collect()
}

fn check_results(values: &[Value], expected: &[Expected]) -> Result<(), Fault> {
    let same_length = values.len() == expected.len();
    if same_length && values.iter().zip(expected).all(|(value, expected)| expected.accepts(value)) {
        return Ok(());
    }
    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
    Err(Fault::Other(format!("returned ({}), expected {expected:?}", values.join(", "))))
}

fn must_trap(result: Result<Vec<Value>, Obstacle>, message: &str) -> Verdict {
    match result {
        Ok(_) => Verdict::Failed(format!("returned, expected the trap {message:?}")),
        Err(Obstacle::Skip) => Verdict::Skipped,
        Err(Obstacle::Fault(Fault::Trap { kind, .. })) if trap_kinds(message).contains(&kind) => Verdict::Passed,
        Err(Obstacle::Fault(fault)) => Verdict::Failed(format!("{fault}, expected the trap {message:?}")),
    }
}

fn must_not_link(result: Result<usize, Obstacle>) -> Verdict {
    match result {
        Err(Obstacle::Fault(Fault::Link(_))) => Verdict::Passed,
        Err(Obstacle::Skip) => Verdict::Skipped,
        Err(Obstacle::Fault(fault)) => Verdict::Failed(format!("{fault}, expected that it does not link")),
        Ok(_) => Verdict::Failed("links".into()),
    }
}

/// The host's trap kinds for a message of the suite, which has several messages for some kinds.
fn trap_kinds(message: &str) -> &'static [TrapKind] {
    match message {
        "unreachable" => &[TrapKind::Unreachable],
        "integer divide by zero" => &[TrapKind::IntegerDivisionByZero],
        "integer overflow" => &[TrapKind::IntegerOverflow],
        "invalid conversion to integer" => &[TrapKind::BadConversionToInteger],
        "out of bounds memory access" | "out of bounds array access" => &[TrapKind::MemoryOutOfBounds],
        "out of bounds table access" | "undefined element" | "undefined" => &[TrapKind::TableOutOfBounds],
        // Proposals from before WebAssembly 2.0 do not say whether a memory or a table is meant.
        "out of bounds" => &[TrapKind::MemoryOutOfBounds, TrapKind::TableOutOfBounds],
        "call stack exhausted" => &[TrapKind::StackExhausted],
        "cast failure" => &[TrapKind::BadSignature],
        "uncaught exception" => &[TrapKind::UncaughtException],
        _ if message.starts_with("uninitialized") => &[TrapKind::IndirectCallToNull],
        _ if message.starts_with("indirect call") => &[TrapKind::BadSignature],
        _ if message.starts_with("null ") && message.ends_with(" reference") => &[TrapKind::IndirectCallToNull],
        "null reference" => &[TrapKind::IndirectCallToNull],
        _ => panic!("the harness does not know the trap {message:?}"),
    }
}
