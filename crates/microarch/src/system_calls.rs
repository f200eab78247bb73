//! How a program makes code at run time, as its system calls show it: it writes machine code to memory of its own and makes that
//! executable.
//!
//! That is how just-in-time compilers and loaders of compiled code work. Libraries are different: their files are mapped.

use crate::instruction::InstructionSet;

/// `PROT_EXEC`.
const EXECUTABLE: u64 = 4;
/// `MAP_ANONYMOUS`.
const ANONYMOUS: u64 = 0x20;

/// What a system call says of executable memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// `mmap` of executable memory without a file. Where it is, the call's result says.
    Map {
        /// Its length in bytes.
        length: u64,
    },
    /// `mprotect` or `pkey_mprotect` that makes memory executable.
    Protect {
        /// The address of its first byte.
        start: u64,
        /// Its length in bytes.
        length: u64,
    },
}

impl Call {
    /// What this call is, by its number and its first four arguments; `None` if it makes nothing executable.
    #[must_use]
    pub fn from_call(set: InstructionSet, number: i64, arguments: [u64; 4]) -> Option<Self> {
        let (mmap, mprotect, pkey_mprotect) = match set {
            InstructionSet::X86_64 => (9, 10, 329),
            InstructionSet::Aarch64 => (222, 226, 288),
        };
        let [start, length, protection, flags] = arguments;
        if protection & EXECUTABLE == 0 {
            None
        } else if number == mmap {
            (flags & ANONYMOUS != 0).then_some(Self::Map { length })
        } else {
            (number == mprotect || number == pkey_mprotect).then_some(Self::Protect { start, length })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_what_becomes_executable_without_a_file() {
        let x86 = |number, arguments| Call::from_call(InstructionSet::X86_64, number, arguments);
        assert_eq!(x86(9, [0, 4096, 7, 0x22]), Some(Call::Map { length: 4096 }));
        assert_eq!(x86(9, [0, 4096, 3, 0x22]), None, "it cannot be executed yet");
        assert_eq!(x86(9, [0, 4096, 5, 0x02]), None, "it is a file");
        assert_eq!(x86(10, [8192, 4096, 5, 0]), Some(Call::Protect { start: 8192, length: 4096 }));
        assert_eq!(x86(329, [8192, 4096, 5, 1]), Some(Call::Protect { start: 8192, length: 4096 }));
        assert_eq!(x86(10, [8192, 4096, 1, 0]), None, "it can be executed no more");
        assert_eq!(x86(226, [8192, 4096, 5, 0]), None, "it is another call there");
        let arm = Call::from_call(InstructionSet::Aarch64, 226, [8192, 4096, 5, 0]);
        assert_eq!(arm, Some(Call::Protect { start: 8192, length: 4096 }));
    }
}
