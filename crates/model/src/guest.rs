use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Coming, Gate, HttpAnswer, HttpBody, HttpRequest, Outbound, Responder};

/// The world as one guest sees it. Anything that is not listed here does not exist for the guest.
#[derive(Clone, Debug, Default)]
pub struct GuestContext {
    /// The program's arguments, its own name first.
    pub args: Vec<String>,
    /// The environment; nothing is inherited from the host.
    pub env: Vec<(String, String)>,
    /// Standard input.
    pub stdin: Stdin,
    /// Standard output.
    pub stdout: Sink,
    /// Standard error.
    pub stderr: Sink,
    /// Directories that the guest may open.
    pub preopens: Vec<Preopen>,
    /// The requests that the guest may send; `None`: none.
    pub outbound: Option<Arc<Outbound>>,
    /// The request that the guest is to answer, for [`Entry::HttpHandler`].
    pub request: Option<Arc<HttpRequest>>,
    /// The way on which the guest's response, or what it writes to a captured standard output, reaches a client while the guest
    /// still writes it; `None`: all of it is kept until it is complete.
    pub responder: Option<Responder>,
    /// The gate that keeps the guest from the host's own streams until it has won a race; `None` if it may use them at
    /// once.
    pub gate: Option<Gate>,
}

impl GuestContext {
    /// Whether the guest uses any of the host process's own streams, except a standard input that is a file.
    #[must_use]
    pub fn uses_host_streams(&self) -> bool {
        let is_host = |sink| sink == Sink::Inherit;
        matches!(self.stdin, Stdin::Inherit) || is_host(self.stdout) || is_host(self.stderr)
    }

    /// Whether the guest reads a request's body that only one guest can read.
    #[must_use]
    pub fn reads_coming_body(&self) -> bool {
        let comes = |request: &Arc<HttpRequest>| matches!(request.body, HttpBody::Coming { .. });
        matches!(self.stdin, Stdin::Coming { .. }) || self.request.as_ref().is_some_and(comes)
    }

    /// Whether the guest's response may reach the client while the guest still writes it.
    #[must_use]
    pub fn may_stream(&self) -> bool {
        self.responder.is_some()
    }

    /// Whether something of the guest's response has reached its client.
    #[must_use]
    pub fn has_streamed(&self) -> bool {
        self.responder.as_ref().is_some_and(|responder| !responder.is_free())
    }
}

/// A guest's standard input.
#[derive(Clone, Debug, Default)]
pub enum Stdin {
    /// Nothing: the input is at its end from the start.
    #[default]
    Empty,
    /// These bytes.
    Bytes(Bytes),
    /// The body of a request, which comes while the guest runs: for one guest only.
    Coming {
        /// Its pieces.
        pieces: Coming,
        /// Its length in bytes, if the client has said it.
        len: Option<u64>,
    },
    /// The host process's own input, which is a file: each guest reads it from `offset` on, at a position of its own.
    File {
        /// The position at which a guest begins to read, in bytes.
        offset: u64,
        /// The number of bytes from there to the file's end; `None` if the operating system does not say.
        len: Option<u64>,
    },
    /// The host process's own input, which is no file: input that one guest has read is gone for all others.
    Inherit,
}

impl Stdin {
    /// The input's length in bytes, if that is known beforehand.
    #[must_use]
    pub fn len(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::File { len, .. } | Self::Coming { len, .. } => *len,
            Self::Inherit => None,
        }
    }

    /// Whether the input is known to be empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == Some(0)
    }
}

/// The destination of a guest's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sink {
    /// The output is kept in memory for the host. A guest that writes more than `bytes_max` is stopped.
    Capture {
        /// The most bytes that are kept.
        bytes_max: u64,
    },
    /// The output is kept in memory up to `bytes_max`. Further output is dropped, and the guest does not notice.
    CaptureHead {
        /// The most bytes that are kept.
        bytes_max: u64,
    },
    /// The output goes to the host process's own stream of the same name.
    Inherit,
}

impl Default for Sink {
    fn default() -> Self {
        Self::Capture { bytes_max: 16 << 20 }
    }
}

/// A directory of the host that the guest may open, under a name of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preopen {
    /// The directory's path on the host.
    pub host: PathBuf,
    /// The directory's name for the guest.
    pub guest: String,
    /// Whether files and directories below it may be made, changed and removed.
    pub writable: bool,
}

/// What a guest wrote to its captured streams, how much input it read, and what it answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestOutput {
    /// Standard output.
    pub stdout: Bytes,
    /// Standard error, perhaps cut at its cap.
    pub stderr: Bytes,
    /// The number of bytes that the guest read from a [`Stdin::File`].
    pub stdin_bytes_read: u64,
    /// The answer to an HTTP request.
    pub answer: HttpAnswer,
}

/// The function by which a call enters a module. If the module exports `_initialize`, that runs before.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// WASI's command entry point, `_start`.
    Command,
    /// None: only the start function runs, when the module is instantiated, and `_initialize`.
    Initialize,
    /// An exported function with arguments of its own, as `--invoke` gives them.
    Export {
        /// The export's name.
        name: String,
        /// The arguments, one for each parameter.
        args: Vec<Value>,
    },
    /// The function by which a component answers HTTP requests, of `wasi:http/incoming-handler`. The request is part of
    /// the guest's context.
    HttpHandler,
}

/// The types of values that may cross the boundary between a caller and an exported function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ValueType {
    /// A 32-bit integer.
    I32,
    /// A 64-bit integer.
    I64,
    /// A 32-bit float.
    F32,
    /// A 64-bit float.
    F64,
    /// A 128-bit vector.
    V128,
    /// A reference to anything.
    Reference,
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
            Self::V128 => "v128",
            Self::Reference => "reference",
        })
    }
}

/// A value that crosses the boundary between a caller and an exported function.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A 32-bit integer.
    I32(i32),
    /// A 64-bit integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A 128-bit vector, its first lane in the lowest bits.
    V128(u128),
    /// A reference. The thing that it refers to stays with the instance, so that a reference can be shown but not
    /// passed as an argument.
    Reference {
        /// The kind of thing that the reference refers to.
        to: Referent,
        /// Whether the reference is null.
        is_null: bool,
    },
}

/// What references refer to: the top types of WebAssembly's hierarchies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Referent {
    /// Functions.
    Func,
    /// Things of the host.
    Extern,
    /// Structs, arrays and small integers on a managed heap.
    Any,
    /// Exceptions.
    Exception,
    /// Continuations.
    Continuation,
}

impl fmt::Display for Referent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Func => "funcref",
            Self::Extern => "externref",
            Self::Any => "anyref",
            Self::Exception => "exnref",
            Self::Continuation => "contref",
        })
    }
}

impl Value {
    /// The value's type.
    #[must_use]
    pub fn ty(&self) -> ValueType {
        match self {
            Self::I32(_) => ValueType::I32,
            Self::I64(_) => ValueType::I64,
            Self::F32(_) => ValueType::F32,
            Self::F64(_) => ValueType::F64,
            Self::V128(_) => ValueType::V128,
            Self::Reference { .. } => ValueType::Reference,
        }
    }

    /// Reads a number as a user types it. Integers may be signed or unsigned and may be hexadecimal (`0x...`). Vectors
    /// and references cannot be typed.
    #[must_use]
    pub fn parse(text: &str, ty: ValueType) -> Option<Self> {
        match ty {
            ValueType::I32 => parse_integer(text).and_then(|n| {
                i32::try_from(n).ok().or_else(|| u32::try_from(n).ok().map(u32::cast_signed)).map(Self::I32)
            }),
            ValueType::I64 => parse_integer(text).and_then(|n| {
                i64::try_from(n).ok().or_else(|| u64::try_from(n).ok().map(u64::cast_signed)).map(Self::I64)
            }),
            ValueType::F32 => f32::from_str(text).ok().map(Self::F32),
            ValueType::F64 => f64::from_str(text).ok().map(Self::F64),
            ValueType::V128 | ValueType::Reference => None,
        }
    }
}

fn parse_integer(text: &str) -> Option<i128> {
    let (sign, digits) = match (text.strip_prefix('-'), text.strip_prefix('+')) {
        (Some(rest), _) => (-1, rest),
        (None, Some(rest)) => (1, rest),
        (None, None) => (1, text),
    };
    // The standard library would accept a second sign.
    if digits.contains(['+', '-']) {
        return None;
    }
    let magnitude = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    magnitude.ok().map(|n| sign * i128::from(n))
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::I32(n) => n.fmt(f),
            Self::I64(n) => n.fmt(f),
            Self::F32(n) => n.fmt(f),
            Self::F64(n) => n.fmt(f),
            Self::V128(n) => n.fmt(f),
            Self::Reference { to, is_null: true } => write!(f, "<null {to}>"),
            Self::Reference { to, is_null: false } => write!(f, "<{to}>"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_signed_unsigned_or_hexadecimal() {
        for (text, ty, expected) in [
            ("-1", ValueType::I32, Some(Value::I32(-1))),
            ("4294967295", ValueType::I32, Some(Value::I32(-1))),
            ("0xffffffff", ValueType::I32, Some(Value::I32(-1))),
            ("4294967296", ValueType::I32, None),
            ("-2147483649", ValueType::I32, None),
            ("18446744073709551615", ValueType::I64, Some(Value::I64(-1))),
            ("+5", ValueType::I32, Some(Value::I32(5))),
            ("0X10", ValueType::I64, Some(Value::I64(16))),
            ("+-5", ValueType::I32, None),
            ("0x-5", ValueType::I32, None),
            ("--5", ValueType::I32, None),
            ("0", ValueType::V128, None),
            ("null", ValueType::Reference, None),
            ("1.5", ValueType::I64, None),
            ("", ValueType::I64, None),
            ("1e3", ValueType::F64, Some(Value::F64(1000.0))),
            ("-inf", ValueType::F32, Some(Value::F32(f32::NEG_INFINITY))),
        ] {
            assert_eq!(Value::parse(text, ty), expected, "{text} as {ty}");
        }
    }
}
