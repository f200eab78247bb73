//! What kind of branch an instruction is, from its bytes.
//!
//! x86-64 is decoded by iced-x86. The branches of `AArch64` are few regular encodings (Arm Architecture Reference Manual for
//! A-profile, C4.1, "Branches, exception generating and system instructions").

use iced_x86::{Decoder, DecoderError, DecoderOptions, Mnemonic};

/// An instruction set that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InstructionSet {
    /// x86-64 in 64-bit mode.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl InstructionSet {
    /// The instruction set that qemu calls so.
    #[must_use]
    pub fn from_qemu(target: &str) -> Option<Self> {
        match target {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// What qemu calls it, and Linux.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }
}

/// What an instruction does to the order of execution. Targets are given where the instruction's bytes say them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes on with the next instruction; so do system calls, and whatever is not known.
    Other,
    /// A string instruction of x86 with a repeat prefix: it is executed once for each element.
    Repeated,
    /// A branch that is taken or not.
    Conditional {
        /// Where it goes if it is taken.
        target: u64,
    },
    /// A direct jump.
    Jump {
        /// Where it goes.
        target: u64,
    },
    /// A direct call.
    Call {
        /// Where it goes.
        target: u64,
    },
    /// A jump to an address from a register or from memory.
    IndirectJump,
    /// A call of an address from a register or from memory.
    IndirectCall,
    /// A return.
    Return,
}

/// Decodes the instruction at `pc`, of which `bytes` are all bytes. Bytes that are no whole instruction are
/// [`Kind::Other`].
#[must_use]
pub fn decode(set: InstructionSet, pc: u64, bytes: &[u8]) -> Kind {
    match set {
        InstructionSet::X86_64 => x86_64(pc, bytes),
        InstructionSet::Aarch64 => aarch64(pc, bytes),
    }
}

/// Whether these bytes are but the beginning of an instruction.
#[must_use]
pub fn is_cut_off(set: InstructionSet, bytes: &[u8]) -> bool {
    match set {
        InstructionSet::X86_64 => {
            let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
            let _ = decoder.decode();
            decoder.last_error() == DecoderError::NoMoreBytes
        }
        InstructionSet::Aarch64 => bytes.len() < 4,
    }
}

fn x86_64(pc: u64, bytes: &[u8]) -> Kind {
    let instruction = Decoder::with_ip(64, bytes, pc, DecoderOptions::NONE).decode();
    let target = instruction.near_branch_target();
    if instruction.is_jcc_short_or_near()
        || instruction.is_jcx_short()
        || instruction.is_loop()
        || instruction.is_loopcc()
    {
        Kind::Conditional { target }
    } else if instruction.is_jmp_short_or_near() {
        Kind::Jump { target }
    } else if instruction.is_call_near() {
        Kind::Call { target }
    } else if instruction.is_jmp_near_indirect() || instruction.is_jmp_far_indirect() {
        Kind::IndirectJump
    } else if instruction.is_call_near_indirect() || instruction.is_call_far_indirect() {
        Kind::IndirectCall
    } else if matches!(instruction.mnemonic(), Mnemonic::Ret | Mnemonic::Retf) {
        Kind::Return
    } else if instruction.is_string_instruction() && (instruction.has_rep_prefix() || instruction.has_repne_prefix()) {
        Kind::Repeated
    } else {
        Kind::Other
    }
}

fn aarch64(pc: u64, bytes: &[u8]) -> Kind {
    let Some(word) = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes)) else { return Kind::Other };
    // The displacement of `bits` bits from bit `low` on, in instructions of four bytes.
    let target = |low: u32, bits: u32| {
        let field = (word << (32 - low - bits)).cast_signed() >> (32 - bits);
        pc.wrapping_add_signed(i64::from(field) * 4)
    };
    match word >> 24 {
        // B.cond and BC.cond; CBZ and CBNZ; TBZ and TBNZ.
        0x54 => Kind::Conditional { target: target(5, 19) },
        0x34 | 0x35 | 0xb4 | 0xb5 => Kind::Conditional { target: target(5, 19) },
        0x36 | 0x37 | 0xb6 | 0xb7 => Kind::Conditional { target: target(5, 14) },
        0x14..=0x17 => Kind::Jump { target: target(0, 26) },
        0x94..=0x97 => Kind::Call { target: target(0, 26) },
        // Branches to a register, with and without authentication of the pointer: the operation is in bits 21 to 24.
        0xd6 | 0xd7 => match (word >> 21) & 0xf {
            0b0000 | 0b1000 => Kind::IndirectJump,
            0b0001 | 0b1001 => Kind::IndirectCall,
            0b0010 => Kind::Return,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(set: InstructionSet, cases: &[(&[u8], Kind, &str)]) {
        for (bytes, expected, text) in cases {
            assert_eq!(decode(set, 0x1000, bytes), *expected, "{text}");
        }
    }

    #[test]
    fn x86_64_branches_are_told_apart() {
        check(
            InstructionSet::X86_64,
            &[
                (&[0x74, 0x05], Kind::Conditional { target: 0x1007 }, "je +5"),
                (&[0x75, 0xfe], Kind::Conditional { target: 0x1000 }, "jne to itself"),
                (&[0x0f, 0x8f, 0x00, 0x01, 0x00, 0x00], Kind::Conditional { target: 0x1106 }, "jg"),
                (&[0x2e, 0x74, 0x05], Kind::Conditional { target: 0x1008 }, "je with a branch hint"),
                (&[0xe3, 0x10], Kind::Conditional { target: 0x1012 }, "jrcxz"),
                (&[0xe2, 0xf0], Kind::Conditional { target: 0xff2 }, "loop"),
                (&[0xeb, 0x00], Kind::Jump { target: 0x1002 }, "jmp short"),
                (&[0xe9, 0xfb, 0xff, 0xff, 0xff], Kind::Jump { target: 0x1000 }, "jmp near"),
                (&[0xe8, 0x00, 0x00, 0x00, 0x00], Kind::Call { target: 0x1005 }, "call"),
                (&[0xff, 0xe0], Kind::IndirectJump, "jmp rax"),
                (&[0x41, 0xff, 0xe3], Kind::IndirectJump, "jmp r11"),
                (&[0x3e, 0xff, 0xe0], Kind::IndirectJump, "notrack jmp rax"),
                (&[0xff, 0x25, 0, 0, 0, 0], Kind::IndirectJump, "jmp [rip]"),
                (&[0xff, 0xd0], Kind::IndirectCall, "call rax"),
                (&[0x41, 0xff, 0x54, 0x24, 0x08], Kind::IndirectCall, "call [r12+8]"),
                (&[0xff, 0xc0], Kind::Other, "inc eax"),
                (&[0xff, 0x30], Kind::Other, "push [rax]"),
                (&[0xc3], Kind::Return, "ret"),
                (&[0xf3, 0xc3], Kind::Return, "rep ret"),
                (&[0xc2, 0x08, 0x00], Kind::Return, "ret 8"),
                (&[0xf3, 0xa4], Kind::Repeated, "rep movsb"),
                (&[0xf3, 0x48, 0xab], Kind::Repeated, "rep stosq"),
                (&[0xf2, 0xae], Kind::Repeated, "repne scasb"),
                (&[0xa4], Kind::Other, "movsb"),
                (&[0x0f, 0x05], Kind::Other, "syscall"),
                (&[0x0f, 0x18, 0x80, 0, 0, 0, 0], Kind::Other, "prefetch"),
                (&[0x66, 0x0f, 0x70, 0xc0, 0x00], Kind::Other, "pshufd"),
                (&[0xc5, 0xf8, 0x77], Kind::Other, "vzeroupper"),
                (&[0x48, 0x8b, 0x74, 0x24, 0x08], Kind::Other, "mov rsi, [rsp+8]"),
            ],
        );
    }

    #[test]
    fn aarch64_branches_are_told_apart() {
        let word = |word: u32| word.to_le_bytes();
        for (code, expected, text) in [
            (0x5400_0040, Kind::Conditional { target: 0x1008 }, "b.eq +8"),
            (0x54ff_ffe1, Kind::Conditional { target: 0xffc }, "b.ne -4"),
            (0xb400_0080, Kind::Conditional { target: 0x1010 }, "cbz x0, +16"),
            (0x35ff_ffa1, Kind::Conditional { target: 0xff4 }, "cbnz w1, -12"),
            (0x3600_0040, Kind::Conditional { target: 0x1008 }, "tbz w0, #0, +8"),
            (0xb7ff_ffe0, Kind::Conditional { target: 0xffc }, "tbnz x0, #63, -4"),
            (0x1400_0001, Kind::Jump { target: 0x1004 }, "b +4"),
            (0x17ff_ffff, Kind::Jump { target: 0xffc }, "b -4"),
            (0x9400_0100, Kind::Call { target: 0x1400 }, "bl +1024"),
            (0xd61f_0200, Kind::IndirectJump, "br x16"),
            (0xd63f_0100, Kind::IndirectCall, "blr x8"),
            (0xd65f_03c0, Kind::Return, "ret"),
            (0xd65f_0bff, Kind::Return, "retaa"),
            (0xd71f_0a11, Kind::IndirectJump, "braa x16, x17"),
            (0xd73f_0a11, Kind::IndirectCall, "blraa x16, x17"),
            (0xd69f_03e0, Kind::Other, "eret"),
            (0xd503_201f, Kind::Other, "nop"),
            (0xd400_0001, Kind::Other, "svc #0"),
            (0xb940_0020, Kind::Other, "ldr w0, [x1]"),
        ] {
            check(InstructionSet::Aarch64, &[(&word(code), expected, text)]);
        }
    }

    #[test]
    fn bytes_that_are_no_instruction_are_nothing_special() {
        for set in [InstructionSet::X86_64, InstructionSet::Aarch64] {
            for length in 0..=3 {
                for first in 0..=255 {
                    // Whatever comes out, nothing panics, and no target is made of bytes that are not there.
                    let kind = decode(set, u64::MAX, &[first, 0x80, 0xff][..length]);
                    if length == 0 || (set == InstructionSet::Aarch64) {
                        assert_eq!(kind, Kind::Other);
                    }
                }
            }
        }
        assert_eq!(decode(InstructionSet::X86_64, 0, &[0x0f, 0x84, 0x01]), Kind::Other);
        assert_eq!(decode(InstructionSet::X86_64, 0, &[0xf3; 15]), Kind::Other);
    }

    #[test]
    fn the_beginning_of_an_instruction_is_none() {
        let cut = |bytes: &[u8]| is_cut_off(InstructionSet::X86_64, bytes);
        for (whole, text) in [
            (&[0x48, 0x8b, 0x74, 0x24, 0x08][..], "mov rsi, [rsp+8]"),
            (&[0xc2, 0x08, 0x00], "ret 8"),
            (&[0xff, 0x25, 1, 2, 3, 4], "jmp [rip]"),
            (&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], "movabs rax"),
            (&[0x53], "push rbx"),
        ] {
            assert!(!cut(whole), "{text}");
            for length in 0..whole.len() {
                assert!(cut(&whole[..length]), "{length} bytes of {text}");
                assert_eq!(
                    decode(InstructionSet::X86_64, 0, &whole[..length]),
                    Kind::Other,
                    "{length} bytes of {text}"
                );
            }
        }
    }
}
