//! Entering a guest: which exported functions are called, and in which order, is the same on every engine.

use remuda_model::{Entry, Value};

use super::guest::End;
use crate::EngineError;

/// The exported functions of an instance.
pub(crate) trait Exports {
    /// The engine's own error: the guest's end, or a failure of the engine.
    type Error;

    /// Whether the instance exports a function of this name.
    fn has_function(&mut self, name: &str) -> bool;

    /// Calls an exported function, and adds its results to `values`.
    fn call_function(&mut self, name: &str, args: &[Value], values: &mut Vec<Value>) -> Result<(), Self::Error>;

    /// The guest's end that an error stands for. Returns an error if the engine itself has failed.
    fn end_of(&self, error: Self::Error) -> Result<End, EngineError>;
}

/// Calls `_initialize`, if there is one, and then the entry. Returns how the guest ended, and the entry's results.
pub(crate) fn enter<I: Exports>(instance: &mut I, entry: &Entry) -> Result<(End, Vec<Value>), EngineError> {
    const INITIALIZE: &str = "_initialize";
    let mut values = Vec::new();
    let mut call = || {
        if instance.has_function(INITIALIZE) {
            // A module whose `_initialize` has results is refused.
            instance.call_function(INITIALIZE, &[], &mut Vec::new())?;
        }
        match entry {
            // No core module has a handler for HTTP, which is checked before.
            Entry::Initialize | Entry::HttpHandler => Ok(()),
            Entry::Command => instance.call_function("_start", &[], &mut values),
            Entry::Export { name, args } => instance.call_function(name, args, &mut values),
        }
    };
    let end = match call() {
        Ok(()) => End::Returned,
        Err(error) => instance.end_of(error)?,
    };
    Ok((end, values))
}
