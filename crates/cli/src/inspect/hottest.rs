//! Which function and which loop are executed most: the module is run once, rewritten so that it counts its operators.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use remuda_code::comparison::Profile;
use remuda_code::counting::Counting;
use remuda_code::wasm::Source;
use remuda_engine::{Instance, Module, Registry};
use remuda_model::{Cause, Entry, GuestContext, GuestLimits, Interrupt, ModuleLimits, Outcome, Sink, Stdin, Value};

use crate::run::entry;

/// A run to be counted.
pub(crate) struct Run<'a> {
    pub(crate) module: &'a Path,
    pub(crate) args: &'a [String],
    pub(crate) input: Bytes,
    pub(crate) timeout: Duration,
}

/// What was counted.
pub(crate) struct Counts {
    counting: Counting,
    counts: Vec<u64>,
}

impl Counts {
    /// The operators that each function has executed, in the order of the functions.
    pub(crate) fn by_function(&self) -> Vec<u64> {
        self.counting.by_function(&self.counts)
    }

    /// The function that has executed most; of several, the first.
    pub(crate) fn hottest(&self, source: &Source) -> u32 {
        let counts = self.by_function();
        let most = source.functions().zip(&counts).max_by_key(|(index, count)| (**count, std::cmp::Reverse(*index)));
        most.map_or(source.functions().start, |(index, _)| index)
    }

    /// What was counted of a function.
    pub(crate) fn profile(&self, source: &Source, function: u32) -> Profile {
        let index = function.saturating_sub(source.functions().start);
        self.counting.profile(&self.counts, usize::try_from(index).unwrap_or(usize::MAX))
    }
}

impl Run<'_> {
    /// Runs the module once. What the guest writes is dropped, and how it ends does not matter as long as it ends.
    pub(crate) fn count(&self, registry: &Registry, source: &Source, module: &Module) -> anyhow::Result<Counts> {
        let entry = entry::entry(module, None, self.args)?;
        module.check_entry(&entry)?;
        let counting = Counting::of(module.bytes(), source)?;
        let rewritten = Module::parse(counting.bytes.clone(), &ModuleLimits::default())
            .context("with its counters, the module is not accepted")?;
        let engine = registry
            .able(&rewritten)
            .find(|known| known.runs_wasm() && !known.has_workers() && registry.open(known.id).is_ok())
            .context("no engine in this program can run the module")?;
        let failed = || format!("cannot count with {}", engine.id);
        let artifact = registry.open(engine.id)?.compile(&rewritten).with_context(failed)?;

        let interrupt = Interrupt::new();
        let armed = self.arm(&interrupt);
        let limits = GuestLimits { timeout: self.timeout, ..GuestLimits::default() };
        let mut instance =
            artifact.instantiate(&self.context(), &limits, &interrupt).context("the guest cannot be started")?;
        let first = counting.initialize.map(|name| Entry::Export { name: name.to_owned(), args: Vec::new() });
        // A reactor without a default function is initialised, and that is all.
        let then = (entry != Entry::Initialize).then_some(entry);
        for entry in first.into_iter().chain(then) {
            let called = instance.call(&entry).with_context(failed)?;
            if matches!(called.outcome, Outcome::Interrupted { .. }) {
                bail!(
                    "the guest did not end within {}: give it more time with --timeout, or less to do with --input and \
                     arguments",
                    humantime::format_duration(self.timeout)
                );
            }
        }
        drop(armed);
        let counts = read(instance.as_mut(), &counting).with_context(failed)?;
        Ok(Counts { counting, counts })
    }

    /// Has the guest stopped after the time that it may take, unless the result is dropped before.
    fn arm(&self, interrupt: &Interrupt) -> Sender<()> {
        let (armed, ended) = mpsc::channel();
        let (interrupt, timeout) = (interrupt.clone(), self.timeout);
        std::thread::spawn(move || {
            if ended.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                interrupt.raise(Cause::Deadline);
            }
        });
        armed
    }

    fn context(&self) -> GuestContext {
        let nothing = Sink::CaptureHead { bytes_max: 0 };
        let program = self.module.file_name().unwrap_or_default().to_string_lossy().into_owned();
        GuestContext {
            args: std::iter::once(&program).chain(self.args).cloned().collect(),
            stdin: if self.input.is_empty() { Stdin::Empty } else { Stdin::Bytes(self.input.clone()) },
            stdout: nothing,
            stderr: nothing,
            ..GuestContext::default()
        }
    }
}

fn read(instance: &mut dyn Instance, counting: &Counting) -> anyhow::Result<Vec<u64>> {
    let mut counts = Vec::new();
    for name in &counting.readers {
        let called = instance.call(&Entry::Export { name: name.clone(), args: Vec::new() })?;
        if called.outcome != Outcome::Returned {
            bail!("the counts cannot be read: the guest {}", called.outcome);
        }
        for value in called.values {
            let Value::I64(count) = value else { bail!("a count is no integer") };
            counts.push(count.cast_unsigned());
        }
    }
    Ok(counts)
}
