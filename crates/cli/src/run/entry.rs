//! Chooses the entry by which a run enters its module.

use anyhow::{anyhow, bail};
use remuda_engine::Module;
use remuda_model::{Entry, Value, ValueType};

/// The entry of a run: the export that was asked for; else the module's default function; else only the module's
/// initialisation.
pub(crate) fn entry(module: &Module, invoke: Option<&str>, args: &[String]) -> anyhow::Result<Entry> {
    if invoke.is_none() && module.is_component() {
        // If it is no command, the later check of the entry says so.
        return Ok(Entry::Command);
    }
    let Some(name) = invoke.or_else(|| module.default_function()) else { return Ok(Entry::Initialize) };
    // If there is no such function, the later check of the entry says so.
    let ty = module.function(name);
    if invoke.is_none() && name == "_start" && ty.is_some_and(remuda_engine::FunctionType::is_plain) {
        return Ok(Entry::Command);
    }
    let params = ty.map(|ty| ty.params.as_slice()).unwrap_or_default();
    if let Some(i) = params.iter().position(|ty| matches!(ty, ValueType::V128 | ValueType::Reference)) {
        bail!("parameter {} of {name:?} is a {}, which cannot be given on a command line", i + 1, params[i]);
    }
    // Words beyond the parameters are only arguments of the guest.
    let args = params.iter().zip(args).enumerate().map(|(i, (ty, text))| {
        Value::parse(text, *ty).ok_or_else(|| anyhow!("argument {} of {name}: {text:?} is no {ty}", i + 1))
    });
    Ok(Entry::Export { name: name.to_owned(), args: args.collect::<Result<_, _>>()? })
}
