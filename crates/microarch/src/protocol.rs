//! How a program under qemu says which of its code is to be counted, and when.
//!
//! A plugin of qemu (API version 1) cannot read the program's memory, but sees its system calls with their arguments. So the
//! program calls `getpid`, which takes no arguments and has no effect, with four arguments that the kernel ignores: [`MAGIC`],
//! an operation, and two numbers. Outside qemu, or without the plugin, the call does nothing.
//!
//! ```c
//! syscall(SYS_getpid, MAGIC, 1, start, length);  // count the code from start on, length bytes
//! syscall(SYS_getpid, MAGIC, 2, 0, 0);           // count from here on
//! syscall(SYS_getpid, MAGIC, 3, 0, 0);           // stop counting
//! ```
//!
//! - A range has to be told before its code runs for the first time, because qemu translates code once, and the plugin decides
//!   then. Code that was executed before is counted only if its memory is mapped or protected anew.
//! - Ranges add up, and may overlap. Counting may begin and end any number of times; it is on or off for all threads.
//! - What was executed while counting was off leaves no trace in the simulated caches and predictors.

use crate::instruction::InstructionSet;

/// The first argument of each message: "remuda" in ASCII, and the protocol's version, 1.
pub const MAGIC: u64 = 0x7265_6d75_6461_0001;

/// What a program says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message {
    /// Count the code that lies here.
    Range {
        /// The address of its first byte.
        start: u64,
        /// Its length in bytes.
        length: u64,
    },
    /// Count from here on.
    Begin,
    /// Stop counting.
    End,
}

impl Message {
    /// The first four arguments of the system call that says this.
    #[must_use]
    pub fn arguments(self) -> [u64; 4] {
        match self {
            Self::Range { start, length } => [MAGIC, 1, start, length],
            Self::Begin => [MAGIC, 2, 0, 0],
            Self::End => [MAGIC, 3, 0, 0],
        }
    }

    /// The message in a system call, if it is one. An unknown operation is an error, because the program was written for
    /// another version.
    ///
    /// # Errors
    /// If the call is a message that this version does not know.
    pub fn from_call(set: InstructionSet, number: i64, arguments: [u64; 4]) -> Result<Option<Self>, UnknownMessage> {
        if number != call_number(set) || arguments[0] != MAGIC {
            return Ok(None);
        }
        match arguments {
            [_, 1, start, length] => Ok(Some(Self::Range { start, length })),
            [_, 2, 0, 0] => Ok(Some(Self::Begin)),
            [_, 3, 0, 0] => Ok(Some(Self::End)),
            [_, operation, first, second] => Err(UnknownMessage { operation, first, second }),
        }
    }
}

/// A message with an operation or arguments that this version does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the program sent message {operation} ({first:#x}, {second:#x}), which this version does not know: \
     1 is a range, 2 begins and 3 ends, both with two zeros"
)]
pub struct UnknownMessage {
    operation: u64,
    first: u64,
    second: u64,
}

/// The number of `getpid` on Linux.
#[must_use]
pub fn call_number(set: InstructionSet) -> i64 {
    match set {
        InstructionSet::X86_64 => 39,
        InstructionSet::Aarch64 => 172,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_is_heard() {
        for set in [InstructionSet::X86_64, InstructionSet::Aarch64] {
            for message in [Message::Range { start: 0x7000_0000, length: 4096 }, Message::Begin, Message::End] {
                assert_eq!(Message::from_call(set, call_number(set), message.arguments()), Ok(Some(message)));
            }
        }
    }

    #[test]
    fn other_calls_are_no_messages() {
        let set = InstructionSet::X86_64;
        assert_eq!(Message::from_call(set, 1, Message::Begin.arguments()), Ok(None));
        assert_eq!(Message::from_call(set, 39, [0, 2, 0, 0]), Ok(None));
        let unknown = Message::from_call(set, 39, [MAGIC, 7, 8, 9]).unwrap_err().to_string();
        assert!(unknown.starts_with("the program sent message 7 (0x8, 0x9)"), "{unknown}");
        assert!(Message::from_call(set, 39, [MAGIC, 2, 1, 0]).is_err());
    }
}
