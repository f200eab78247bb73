//! The front door: a module that must be refused is refused, a valid one is not, and rewriting changes neither.

use std::panic::{AssertUnwindSafe, catch_unwind};

use remuda_engine::{instrument, testing};

use crate::suite::{Action, Binary, File, Step};
use crate::tally::{Tally, Verdict, panic_message};

/// Validates every module of `file`.
pub(crate) fn run(file: &File) -> Tally {
    let mut tally = Tally::default();
    for (line, step) in &file.steps {
        let verdict = catch_unwind(AssertUnwindSafe(|| check(step)));
        let verdict = verdict.unwrap_or_else(|panic| Verdict::Failed(panic_message(&*panic)));
        tally.record(&file.name, *line, verdict);
    }
    tally
}

fn check(step: &Step) -> Verdict {
    match step {
        Step::AssertRefused(Ok(bytes)) => must_be_refused(bytes),
        Step::Module { module, .. }
        | Step::Definition { module, .. }
        | Step::AssertUnlinkable(module)
        | Step::AssertTrap(Action::Instantiate(module), _) => must_be_valid(module),
        // A module that the text format refuses never becomes bytes.
        _ => Verdict::NotMine,
    }
}

fn must_be_refused(bytes: &[u8]) -> Verdict {
    if testing::parse(bytes.to_vec()).is_ok() {
        return Verdict::Failed("is taken for valid".into());
    }
    match instrument(bytes).map(|rewritten| is_valid(rewritten.bytes)) {
        Ok(true) => Verdict::Failed("becomes valid by rewriting".into()),
        Ok(false) | Err(_) => Verdict::Passed,
    }
}

fn must_be_valid(module: &Binary) -> Verdict {
    let bytes = match module {
        Ok(bytes) => bytes,
        Err(error) => return Verdict::Failed(format!("the text cannot be encoded: {error}")),
    };
    if let Err(error) = testing::parse(bytes.clone()) {
        return Verdict::Failed(error.to_string());
    }
    match instrument(bytes).map(|rewritten| is_valid(rewritten.bytes)) {
        Ok(true) => Verdict::Passed,
        Ok(false) => Verdict::Failed("becomes invalid by rewriting".into()),
        Err(error) => Verdict::Failed(format!("cannot be rewritten: {error}")),
    }
}

fn is_valid(bytes: Vec<u8>) -> bool {
    testing::parse(bytes).is_ok()
}
