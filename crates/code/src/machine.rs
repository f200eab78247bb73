//! What the analysis knows of an instruction, whatever the architecture: where it is, where control goes after it, and
//! which registers and what memory it touches.

use serde::Serialize;

/// An instruction set whose machine code can be read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Architecture {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl Architecture {
    /// The architecture of this name, as `std::env::consts::ARCH` spells it; `None` if there is no decoder for it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }
}

/// A set of registers, one bit each. A register counts whole: a write to a part of it is also a read of the rest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers(pub u64);

impl Registers {
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(crate) fn one(register: u8) -> Self {
        Self(1 << (register & 63))
    }

    pub(crate) fn has(self, register: u8) -> bool {
        self.0 & Self::one(register).0 != 0
    }

    pub(crate) fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(crate) fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    pub(crate) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

/// What an instruction is for; it gives the instruction its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Reads memory other than the stack.
    Load,
    /// Writes memory other than the stack.
    Store,
    /// Reads or writes the stack.
    Stack,
    /// Copies a register.
    Move,
    /// Computes.
    Compute,
    /// May go elsewhere.
    Branch,
    /// Calls a function, or returns from one.
    Call,
    /// Stops the guest.
    Trap,
}

/// Where control goes after an instruction. Targets are offsets from the function's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    Next,
    /// To the target only; `None` if that lies outside of the function.
    Jump(Option<u32>),
    /// To the target or to the next instruction; `None` if the target lies outside of the function.
    Branch(Option<u32>),
    /// To where a register or memory says.
    Indirect,
    /// To another function, and then to the next instruction.
    Call,
    /// Nowhere in this function: it returns or traps.
    Out,
}

/// What an instruction does that the metrics ask for.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "they are as many separate properties")]
pub(crate) struct Facts {
    /// Registers that it reads, implicit ones too.
    pub reads: Registers,
    /// Of `reads`, those that it does not also write and names as operands, so that another register could stand there.
    pub named: Registers,
    /// Of `reads`, those of which it reads more than the lower 32 bits.
    pub wide: Registers,
    /// Of `reads`, the vector registers of which it reads more than the lower 64 bits, on architectures whose copies of a
    /// scalar clear the rest of the register.
    pub wider: Registers,
    /// Registers that it writes, in whole or in part.
    pub writes: Registers,
    /// Registers whose old value is gone afterwards.
    pub kills: Registers,
    /// Registers of which it sets the lower 32 bits, and with them the upper ones to zero.
    pub clears_upper: Registers,
    pub loads: bool,
    pub stores: bool,
    pub spills: bool,
    pub reloads: bool,
    pub has_rex: bool,
    /// Without its REX prefix, the instruction would mean the same.
    pub rex_changes_nothing: bool,
    /// It copies a register to another one, or one's lower half to its whole.
    pub copy: Option<Copy>,
    /// It sets this register to 0 or 1, as a condition says.
    pub sets: Option<u8>,
    /// It carries a truth value from one register to another, or widens it in place.
    pub carries: Option<(u8, u8)>,
    /// It compares this register with zero.
    pub tests: Option<u8>,
    /// It branches if the last comparison was, or was not, equal.
    pub branches_on_equal: bool,
    /// It branches on a condition.
    pub is_conditional: bool,
    /// It only loads a value that an operation could take from memory itself: the register, and its size in bytes.
    pub only_loads: Option<(u8, u8)>,
    /// It computes with this register where a memory operand of this size could stand.
    pub could_fold: Option<(u8, u8)>,
    /// It computes with a memory operand.
    pub folds: bool,
    /// It traps when it is reached.
    pub traps: bool,
    /// The register and displacement of its memory operand, if it has one with a base and no index.
    pub base: Option<(u8, i64)>,
    /// The address of its memory operand, if that is in the function itself (a table of jumps or a constant).
    pub points_to: Option<u32>,
    /// It loads 4 bytes at a base and four times an index, as jumps by a table do: the base.
    pub table_entry: Option<u8>,
}

/// A copy of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub to: u8,
    pub from: u8,
    /// How many of the lower bytes are kept, but no fewer than 4.
    pub bytes: u8,
    /// The stack pointer is copied: whoever walks the stack needs it.
    pub is_frame: bool,
}

/// A decoded instruction.
#[derive(Clone, Debug)]
pub(crate) struct Instruction {
    /// Its offset from the function's first byte.
    pub offset: u32,
    pub length: u8,
    pub text: String,
    pub class: Class,
    pub flow: Flow,
    pub facts: Facts,
}

impl Instruction {
    /// The offset of the byte after it.
    pub(crate) fn end(&self) -> u32 {
        self.offset + u32::from(self.length)
    }
}
