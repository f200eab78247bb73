//! What every adapter for real WebAssembly keeps beside a running guest, and how it reports the guest's end.

use remuda_model::{
    Cause, EngineId, GuestContext, GuestLimits, GuestOutput, Interrupt, Limit, Outcome, TrapKind, Value,
};
#[cfg(feature = "worker")]
use remuda_wasi::Span;
use remuda_wasi::{Import, Stop, Wasi};

use crate::{Called, EngineError, InstantiateError};

/// The most elements that a guest's tables may have together, whatever its limit: Wasmtime's pool reserves addresses
/// for this many, and engines are not to differ.
pub(crate) const TABLE_ELEMENTS_MAX: u64 = 10_000_000;

/// A guest's state on the host's side.
pub(crate) struct Guest {
    pub(crate) wasi: Wasi,
    pub(crate) budget: Budget,
    interrupt: Interrupt,
}

impl Guest {
    pub(crate) fn new(
        engine: EngineId,
        context: &GuestContext,
        limits: &GuestLimits,
        interrupt: &Interrupt,
    ) -> Result<Self, EngineError> {
        Ok(Self {
            wasi: Wasi::new(engine, context, interrupt.clone())
                .map_err(|error| EngineError::Setup(error.to_string()))?,
            budget: Budget::new(limits),
            interrupt: interrupt.clone(),
        })
    }

    /// Carries out a WASI call on the guest's memory, which each adapter gets from its engine.
    pub(crate) fn call(&mut self, import: &Import, memory: &mut [u8], args: &[u64]) -> Result<i32, Stop> {
        self.wasi.call(import, memory, args)
    }

    /// The bytes of `memory` that a successful call has written.
    #[cfg(feature = "worker")]
    pub(crate) fn written(
        &self,
        import: &Import,
        memory: &[u8],
        args: &[u64],
        buffers: &[Span],
        span: impl FnMut(Span),
    ) {
        self.wasi.written(import, memory, args, buffers, span);
    }

    /// The interrupt by which the guest is told to stop.
    pub(crate) fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Why the guest has to stop, if it has to.
    pub(crate) fn stop_cause(&self) -> Option<Cause> {
        self.interrupt.cause()
    }

    /// What is reported of a call that has ended: `values` only if it returned.
    pub(crate) fn conclude_call(&self, end: End, values: Vec<Value>) -> Called {
        let outcome = self.conclude(end);
        self.wasi.end_output(outcome.is_success());
        let values = if outcome == Outcome::Returned { values } else { Vec::new() };
        Called { outcome, values, refused_growth: self.budget.refused.is_some() }
    }

    /// The outcome that callers see, for the end that an engine has reported.
    pub(crate) fn conclude(&self, end: End) -> Outcome {
        end.outcome(self.budget.refused, self.interrupt.cause())
    }

    /// The error for a guest that ended while it was instantiated.
    pub(crate) fn fail_to_start(self, end: End) -> InstantiateError {
        let outcome = self.conclude(end);
        InstantiateError::Guest { outcome, output: Box::new(self.into_output()) }
    }

    pub(crate) fn into_output(self) -> GuestOutput {
        self.wasi.into_output()
    }
}

/// The end of a guest, as an engine reports it.
#[derive(Clone, Debug)]
pub(crate) enum End {
    Returned,
    Stopped(Stop),
    Trapped { kind: TrapKind, detail: String },
    NotGranted(Limit),
}

impl End {
    /// The outcome that callers see, for a guest that was `refused` memory or table elements or not, and interrupted or
    /// not.
    pub(crate) fn outcome(self, refused: Option<Limit>, interrupted: Option<Cause>) -> Outcome {
        match self {
            Self::Returned => Outcome::Returned,
            Self::Stopped(Stop::Exit(code)) => Outcome::Exited { code },
            Self::Stopped(Stop::Interrupted(cause)) => Outcome::Interrupted { cause },
            Self::Stopped(Stop::OutputLimit) => Outcome::LimitExceeded { limit: Limit::Output },
            Self::Stopped(stop @ Stop::Failed(_)) => {
                Outcome::Trapped { kind: TrapKind::HostCall, detail: stop.to_string() }
            }
            Self::Trapped { kind, detail } => match (refused, interrupted) {
                // An interrupted guest traps like this, too.
                (_, Some(cause)) if kind == TrapKind::Unreachable => Outcome::Interrupted { cause },
                // Most guests that are refused memory give up with a trap.
                (Some(limit), _) => Outcome::LimitExceeded { limit },
                (None, _) => Outcome::Trapped { kind, detail },
            },
            Self::NotGranted(limit) => Outcome::LimitExceeded { limit },
        }
    }
}

/// How much a guest may still allocate.
///
/// All decisions on growth are made here, in one order. First the type of the memory or table: growth beyond its
/// maximum happens on no machine, so it does not count as refused by the limit, and costs nothing. Then the limit.
pub(crate) struct Budget {
    memory_bytes_left: u64,
    pub(crate) table_elements_left: u64,
    pub(crate) refused: Option<Limit>,
}

impl Budget {
    pub(crate) fn new(limits: &GuestLimits) -> Self {
        Self {
            memory_bytes_left: limits.memory_bytes_max,
            table_elements_left: limits.table_elements_max.min(TABLE_ELEMENTS_MAX),
            refused: None,
        }
    }

    /// Adds memory that the guest has without knowing it.
    #[cfg(feature = "wasmtime.cranelift")]
    pub(crate) fn add_memory(&mut self, bytes: u64) {
        self.memory_bytes_left = self.memory_bytes_left.saturating_add(bytes);
    }

    /// Decides whether a memory may grow. Sizes are in bytes; `maximum` is the memory's own.
    pub(crate) fn grant_memory(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        grant(&mut self.memory_bytes_left, current, desired, maximum, Limit::Memory, &mut self.refused)
    }

    /// How many more bytes of memory the guest may have.
    #[cfg(feature = "worker")]
    pub(crate) fn memory_bytes_left(&self) -> u64 {
        self.memory_bytes_left
    }

    /// Takes back what [`Self::grant_memory`] granted and the engine then did not use.
    pub(crate) fn return_memory(&mut self, bytes: usize) {
        self.memory_bytes_left += bytes as u64;
    }

    /// Takes back what [`Self::grant_table`] granted and the engine then did not use.
    pub(crate) fn return_table(&mut self, elements: usize) {
        self.table_elements_left += elements as u64;
    }

    /// Decides whether a table may grow. Sizes are in elements; `maximum` is the table's own, or one that an engine
    /// sets for all tables.
    pub(crate) fn grant_table(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> bool {
        let maximum = maximum.filter(|maximum| is_tables_own(*maximum as u64));
        grant(&mut self.table_elements_left, current, desired, maximum, Limit::Table, &mut self.refused)
    }
}

fn grant(
    left: &mut u64,
    current: usize,
    desired: usize,
    maximum: Option<usize>,
    limit: Limit,
    refused: &mut Option<Limit>,
) -> bool {
    if maximum.is_some_and(|maximum| desired > maximum) {
        return false;
    }
    let more = desired.saturating_sub(current) as u64;
    if more > *left {
        *refused = Some(limit);
        return false;
    }
    *left -= more;
    true
}

/// Whether a table's maximum must come from its type, and not from a bound that an engine has for all tables.
pub(crate) fn is_tables_own(maximum: u64) -> bool {
    maximum < TABLE_ELEMENTS_MAX
}
