use std::fmt;

use serde::{Deserialize, Serialize};

use crate::interrupt::Cause;

/// How a guest's call ended. Whatever a guest does, it ends in one of these ways, on every engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// The entry point returned.
    Returned,
    /// The guest called `proc_exit`; 0 is success.
    Exited {
        /// The exit code that the guest gave.
        code: i32,
    },
    /// The guest did something that WebAssembly forbids.
    Trapped {
        /// The rule that it broke.
        kind: TrapKind,
        /// More about the trap, if the engine can tell, else empty: for the operator, not for the client.
        detail: String,
    },
    /// The guest was stopped from outside.
    Interrupted {
        /// The reason.
        cause: Cause,
    },
    /// The guest needed more than its limit, and ended because it was refused.
    LimitExceeded {
        /// The limit.
        limit: Limit,
    },
}

impl Outcome {
    /// Whether the guest ended as its author meant it to.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Returned | Self::Exited { code: 0 })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("returned"),
            Self::Exited { code } => write!(f, "exited with code {code}"),
            Self::Trapped { kind, detail } if detail.is_empty() => write!(f, "trapped: {kind}"),
            Self::Trapped { kind, detail } => write!(f, "trapped: {kind} ({detail})"),
            Self::Interrupted { cause: Cause::Deadline } => f.write_str("stopped at its deadline"),
            Self::Interrupted { cause: Cause::Cancelled } => f.write_str("stopped because nobody waits for it"),
            Self::LimitExceeded { limit } => write!(f, "exceeded its {limit} limit"),
        }
    }
}

/// The kinds of trap that WebAssembly's specification distinguishes, and those of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrapKind {
    /// The `unreachable` instruction.
    Unreachable,
    /// A load, store or bulk operation outside a memory, or a data segment that does not fit.
    MemoryOutOfBounds,
    /// A table access outside a table, or an element segment that does not fit.
    TableOutOfBounds,
    /// Integer division or remainder by zero.
    IntegerDivisionByZero,
    /// Integer division whose quotient has no representation.
    IntegerOverflow,
    /// A float that is not a number, or out of range, was converted to an integer.
    BadConversionToInteger,
    /// An indirect call or a dereference of a null reference.
    IndirectCallToNull,
    /// An indirect call to a function of another type, or a failed cast.
    BadSignature,
    /// Calls nested too deeply, or with frames that are too large.
    StackExhausted,
    /// An exception that the guest did not catch.
    UncaughtException,
    /// A host function refused to go on: a broken memory export, say.
    HostCall,
    /// Another trap that an engine knows and this list does not.
    Other,
}

impl TrapKind {
    /// The kind's name in configuration, metrics and results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::MemoryOutOfBounds => "memory_out_of_bounds",
            Self::TableOutOfBounds => "table_out_of_bounds",
            Self::IntegerDivisionByZero => "integer_division_by_zero",
            Self::IntegerOverflow => "integer_overflow",
            Self::BadConversionToInteger => "bad_conversion_to_integer",
            Self::IndirectCallToNull => "indirect_call_to_null",
            Self::BadSignature => "bad_signature",
            Self::StackExhausted => "stack_exhausted",
            Self::UncaughtException => "uncaught_exception",
            Self::HostCall => "host_call",
            Self::Other => "other",
        }
    }
}

impl fmt::Display for TrapKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits that a guest can run into while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// [`GuestLimits::memory_bytes_max`](crate::GuestLimits::memory_bytes_max).
    Memory,
    /// [`GuestLimits::table_elements_max`](crate::GuestLimits::table_elements_max).
    Table,
    /// [`GuestLimits::output_bytes_max`](crate::GuestLimits::output_bytes_max).
    Output,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Output => "output",
        })
    }
}
