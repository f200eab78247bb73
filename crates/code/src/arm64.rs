//! Decoding 64-bit Arm (`aarch64`): from bytes to what [`crate::machine`] knows of an instruction.
//!
//! The decoder is `yaxpeax-arm`, because it is written in Rust alone, has a licence that asks for nothing (0BSD), is 11,000
//! lines long, and gives operands as values. `disarm64` is Rust, too, but writes no aliases (`orr` for `mov`), and is nine
//! times as long. `bad64` and `capstone` need a C compiler. Over the 276,001 instructions of a C library, it gives another
//! name than GNU `objdump` to 237, if `b.hs` and `b.cs` count as one name: 197 of these are of SVE, which it does not know
//! and no compiler here makes, and 40 are other aliases of the same instruction. The 57,788 targets of branches are equal.
//! None of the 2^32 words makes it panic. Its text leaves out the extension in `add x0, x1, w2, uxtw`, which is put back
//! here.
//!
//! The decoder does not say which operands an instruction reads and which it writes: [`accesses`] does. As a rule, the
//! first one is written and the others are read. Exceptions are listed there; whoever adds one that only half-writes a
//! register must list it, or a value would count as dead that is still read. Over 95,243 different instructions, the lists
//! were compared with those of Capstone 5.0.7; each kind of difference was looked at, and is a mistake of Capstone.

use yaxpeax_arch::{Decoder as _, U8Reader};
use yaxpeax_arm::armv8::a64::{
    InstDecoder, Instruction as Decoded, Opcode, Operand, SIMDSizeCode, ShiftStyle, SizeCode,
};

use crate::machine::{Class, Copy, Facts, Flow, Instruction, Registers};

/// Decodes instructions of one function.
pub(crate) struct Arm64<'a> {
    code: &'a [u8],
    decoder: InstDecoder,
    /// The name of what a call leads to, by its offset from the function's first byte.
    callee: &'a dyn Fn(i64) -> Option<String>,
    /// The registers that hold an address of the stack.
    stack: Registers,
}

/// The bytes of an instruction.
const LENGTH: u8 = 4;
/// Register 31 where it means the stack pointer; where it means zero, it is no register here.
const SP: u8 = 31;
/// The frame pointer.
const FP: u8 = 29;
/// The link register, into which calls write the address to return to.
const LR: u8 = 30;
/// The register that Winch uses as a second stack pointer, because `sp` itself must be a multiple of 16 whenever memory is
/// reached by it. In other compilers' code it is like any other: Singlepass keeps the instance there.
const SHADOW: u8 = 28;
/// The first of the vector registers in a set of registers, after the 32 general ones.
const VECTORS: u8 = 32;
/// How many instructions at the function's start are searched for where Winch saves its second stack pointer and sets it.
/// Winch does so by the third and fourth one; if there were more before them, its stack would count as other memory.
const PROLOGUE: usize = 8;
/// `str x28, [sp, #-16]!` and `mov x28, sp`.
const SETS_SHADOW: [u32; 2] = [0xf81f_0ffc, 0x9100_03fc];

/// What an instruction does with an operand.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
    /// Reads it, and writes it in whole or in part.
    Update,
}

impl<'a> Arm64<'a> {
    pub(crate) fn new(code: &'a [u8], callee: &'a dyn Fn(i64) -> Option<String>) -> Self {
        let mut stack = Registers::one(SP).with(Registers::one(FP));
        let first: Vec<u32> = (0..PROLOGUE).map_while(|index| word(code, index * usize::from(LENGTH))).collect();
        if first.windows(2).any(|two| two == SETS_SHADOW) {
            stack = stack.with(Registers::one(SHADOW));
        }
        Self { code, decoder: InstDecoder::default(), callee, stack }
    }

    /// The instruction at `offset`; `None` if there is none: the bytes mean nothing, or are no whole instruction.
    pub(crate) fn decode(&self, offset: u32) -> Option<Instruction> {
        if !offset.is_multiple_of(LENGTH.into()) {
            return None;
        }
        let word = word(self.code, offset as usize)?;
        let decoded = self.decoder.decode(&mut U8Reader::new(&word.to_le_bytes())).ok()?;
        if decoded.opcode == Opcode::Invalid {
            return None;
        }
        let flow = self.flow(offset, &decoded);
        let facts = self.facts(offset, word, &decoded, flow);
        Some(Instruction {
            offset,
            length: LENGTH,
            text: self.text(offset, word, &decoded),
            class: class(flow, &facts),
            flow,
            facts,
        })
    }

    /// The offset that an instruction's relative address leads to, if that is in the function.
    fn within(&self, offset: u32, decoded: &Decoded) -> Option<u32> {
        let target = u32::try_from(i64::from(offset) + distance(decoded)?).ok()?;
        ((target as usize) < self.code.len()).then_some(target)
    }

    fn flow(&self, offset: u32, decoded: &Decoded) -> Flow {
        use Opcode::{
            B, BCcc, BL, BLR, BLRAA, BLRAAZ, BLRAB, BLRABZ, BR, BRAA, BRAAZ, BRAB, BRABZ, BRK, Bcc, CBNZ, CBZ, DCPS1,
            DCPS2, DCPS3, DRPS, ERET, ERETAA, ERETAB, HLT, HVC, RET, RETAA, RETAASPPC, RETAASPPCR, RETAB, RETABSPPC,
            RETABSPPCR, SMC, SVC, TBNZ, TBZ, UDF,
        };
        match decoded.opcode {
            B => Flow::Jump(self.within(offset, decoded)),
            Bcc(condition) | BCcc(condition) if is_always(condition) => Flow::Jump(self.within(offset, decoded)),
            Bcc(_) | BCcc(_) | CBZ | CBNZ | TBZ | TBNZ => Flow::Branch(self.within(offset, decoded)),
            BR | BRAA | BRAB | BRAAZ | BRABZ => Flow::Indirect,
            // The kernel may read all registers, as a function may.
            BL | BLR | BLRAA | BLRAB | BLRAAZ | BLRABZ | SVC | HVC | SMC => Flow::Call,
            RET | RETAA | RETAB | RETAASPPC | RETABSPPC | RETAASPPCR | RETABSPPCR | ERET | ERETAA | ERETAB | DRPS => {
                Flow::Out
            }
            UDF | BRK | HLT | DCPS1 | DCPS2 | DCPS3 => Flow::Out,
            _ => Flow::Next,
        }
    }

    fn text(&self, offset: u32, word: u32, decoded: &Decoded) -> String {
        let text = decoded.to_string();
        if let (Some(distance), Some((head, _))) = (distance(decoded), text.rsplit_once('$')) {
            let target = i64::from(offset) + distance;
            // `adrp` gives a page, which code that may lie anywhere does not know.
            if decoded.opcode == Opcode::ADRP {
                return text;
            }
            if self.within(offset, decoded).is_some() {
                return format!("{head}{target:#x}");
            }
            return head.to_owned() + &(self.callee)(target).unwrap_or_else(|| "outside".to_owned());
        }
        if let Some(extension) = hidden_extension(word).filter(|extension| !text.contains(extension)) {
            let (head, amount) = text.split_once(", lsl ").unwrap_or((&text, ""));
            return format!("{head}, {extension} {amount}").trim_end().to_owned();
        }
        if decoded.opcode == Opcode::DUP && matches!(decoded.operands[0], Operand::SIMDRegisterElements(..)) {
            return text.replacen("mov ", "dup ", 1);
        }
        // An extension without a shift.
        text.replace(" #0]", "]")
    }

    fn facts(&self, offset: u32, word: u32, decoded: &Decoded, flow: Flow) -> Facts {
        let mut facts = Facts::default();
        let mut partly = Registers::default();
        // Registers that stand where no other can: in groups, in pairs, or beside a base that changes.
        let mut fixed = !matches!(flow, Flow::Next | Flow::Branch(_)) || is_exclusive(decoded.opcode);
        for (operand, access) in decoded.operands.iter().zip(accesses(decoded)) {
            let used = Used::of(operand);
            fixed |= used.is_fixed;
            if access != Access::Write {
                facts.reads = facts.reads.with(used.registers);
                facts.wide = facts.wide.with(if used.bytes > 4 { used.registers } else { Registers::default() });
                facts.wider = facts.wider.with(if used.bytes > 8 { used.registers } else { Registers::default() });
            }
            match access {
                Access::Read => {}
                Access::Write if used.is_whole => facts.kills = facts.kills.with(used.registers),
                Access::Write | Access::Update => partly = partly.with(used.registers),
            }
            if access != Access::Read && matches!(operand, Operand::Register(SizeCode::W, _)) {
                facts.clears_upper = facts.clears_upper.with(used.registers);
            }
            let Some(memory) = Memory::of(operand) else { continue };
            // The registers of an address are read, whatever happens to the memory.
            facts.reads = facts.reads.with(memory.registers());
            facts.wide = facts.wide.with(memory.wide());
            if memory.changes_base {
                partly = partly.with(Registers::one(memory.base));
                fixed = true;
            }
            if memory.index.is_none() {
                facts.base = Some((memory.base, memory.displacement));
            } else if decoded.opcode == Opcode::LDRSW && memory.shift == 2 {
                facts.table_entry = Some(memory.base);
            }
            let is_stack = self.stack.has(memory.base);
            let (reads, writes) = reaches_memory(decoded.opcode);
            facts.reloads |= reads && is_stack;
            facts.spills |= writes && is_stack;
            facts.loads |= reads && !is_stack;
            facts.stores |= writes && !is_stack;
        }
        // A load from an address relative to its own.
        facts.loads |= matches!(decoded.opcode, Opcode::LDR | Opcode::LDRSW) && distance(decoded).is_some();
        match decoded.opcode {
            _ if matches!(flow, Flow::Call) => facts.kills = facts.kills.with(Registers::one(LR)),
            opcode if signs_implicitly(opcode) => {
                partly = [16, 17, LR].iter().fold(partly, |all, register| all.with(Registers::one(*register)));
            }
            _ => {}
        }
        facts.writes = facts.kills.with(partly);
        facts.reads = facts.reads.with(partly);
        if !fixed {
            facts.named = facts.reads.without(facts.writes);
        }
        if decoded.opcode == Opcode::ADR {
            facts.points_to = self.within(offset, decoded);
        }
        facts.is_conditional = matches!(flow, Flow::Branch(_));
        facts.traps = traps(decoded.opcode);
        patterns(word, decoded, &mut facts);
        facts
    }
}

/// Copies of registers, and what becomes of comparisons.
fn patterns(word: u32, decoded: &Decoded, facts: &mut Facts) {
    use Operand::{
        ConditionCode, Imm16, ImmShift, Immediate, RegShift, Register, RegisterOrSP, SIMDRegister, SIMDRegisterElements,
    };
    let copy = |to: u16, from: u16, bytes: u8| {
        let (to, from) = (number(to), number(from));
        Some(Copy { to, from, bytes, is_frame: to == SP || from == SP })
    };
    // Register 31 is zero in the first three, and the stack pointer in the fourth.
    facts.copy = match (decoded.opcode, decoded.operands) {
        (Opcode::ORR, [Register(size, to), Register(_, 31), RegShift(ShiftStyle::LSL, 0, _, from), _])
            if to != 31 && from != 31 =>
        {
            copy(to, from, general_bytes(size))
        }
        (Opcode::ADD, [RegisterOrSP(size, to), RegisterOrSP(_, from), Immediate(0) | ImmShift(0, _), _]) => {
            copy(to, from, general_bytes(size))
        }
        // Of 16 bits there are none in WebAssembly.
        (Opcode::FMOV, [SIMDRegister(SIMDSizeCode::S, to), SIMDRegister(SIMDSizeCode::S, from), ..]) => {
            copy(to + u16::from(VECTORS), from + u16::from(VECTORS), 4)
        }
        (Opcode::FMOV, [SIMDRegister(SIMDSizeCode::D, to), SIMDRegister(SIMDSizeCode::D, from), ..]) => {
            copy(to + u16::from(VECTORS), from + u16::from(VECTORS), 8)
        }
        (Opcode::ORR, [SIMDRegisterElements(size, to, _), SIMDRegisterElements(_, from, _), second, _])
            if second == decoded.operands[1] =>
        {
            copy(to + u16::from(VECTORS), from + u16::from(VECTORS), vector_bytes(size))
        }
        _ => None,
    };
    facts.sets = match (decoded.opcode, decoded.operands) {
        // `cset`
        (Opcode::CSINC, [Register(_, to), Register(_, 31), Register(_, 31), ConditionCode(_)])
            if to != 31 && !is_always(condition_of_select(word)) =>
        {
            Some(number(to))
        }
        _ => None,
    };
    facts.carries = match (decoded.opcode, decoded.operands) {
        // `uxtb`, `uxth`, and the same of 32 bits.
        (Opcode::UBFM, [Register(_, to), Register(_, from), Immediate(0), Immediate(7 | 15 | 31)])
            if to != 31 && from != 31 =>
        {
            Some((number(to), number(from)))
        }
        (Opcode::AND, [RegisterOrSP(_, to), Register(_, from), mask, _]) if to != 31 && from != 31 => {
            has_lowest_bit(mask).then(|| (number(to), number(from)))
        }
        _ => facts.copy.filter(|copy| copy.to < SP && copy.from < SP).map(|copy| (copy.to, copy.from)),
    };
    let tested = match (decoded.opcode, decoded.operands) {
        // `tst`
        (Opcode::ANDS, [Register(_, 31), Register(_, a), RegShift(ShiftStyle::LSL, 0, _, b), _]) if a == b => Some(a),
        (Opcode::ANDS, [Register(_, 31), Register(_, a), mask, _]) => has_lowest_bit(mask).then_some(a),
        // `cmp`
        (Opcode::SUBS, [Register(_, 31), RegisterOrSP(_, a), Immediate(0), _]) => Some(a),
        (Opcode::SUBS, [Register(_, 31), Register(_, a), RegShift(_, _, _, 31), _]) => Some(a),
        (Opcode::CBZ | Opcode::CBNZ, [Register(_, a), ..]) => Some(a),
        (Opcode::TBZ | Opcode::TBNZ, [Register(_, a), Imm16(0), ..]) => Some(a),
        _ => None,
    };
    facts.tests = tested.filter(|register| *register != 31).map(number);
    facts.branches_on_equal = match decoded.opcode {
        // The condition is `eq` or `ne`.
        Opcode::Bcc(_) | Opcode::BCcc(_) => word & 0b1110 == 0,
        Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ => facts.tests.is_some(),
        _ => false,
    };
}

fn word(code: &[u8], offset: usize) -> Option<u32> {
    code.get(offset..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn number(register: u16) -> u8 {
    (register & 63) as u8
}

/// The distance in an instruction's operand that is an address relative to its own.
fn distance(decoded: &Decoded) -> Option<i64> {
    decoded.operands.iter().find_map(|operand| match operand {
        Operand::PCOffset(distance) => Some(*distance),
        _ => None,
    })
}

/// Whether a condition, as instructions encode it, is always true.
fn is_always(condition: u8) -> bool {
    condition >= 14
}

/// The condition of a conditional select, from its encoding.
fn condition_of_select(word: u32) -> u8 {
    (word >> 12 & 15) as u8
}

fn has_lowest_bit(mask: Operand) -> bool {
    match mask {
        Operand::Immediate(mask) => mask & 1 == 1,
        Operand::Imm64(mask) => mask & 1 == 1,
        _ => false,
    }
}

/// The extension of a register in an addition, a subtraction or a comparison, where the decoder's text has none or calls it
/// a shift: it is the right one only where `sp` is an operand.
fn hidden_extension(word: u32) -> Option<&'static str> {
    let is_extended = word & 0x1fe0_0000 == 0x0b20_0000;
    let (is_64, option) = (word >> 31 == 1, word >> 13 & 7);
    let has_sp = word & 31 == 31 && word >> 29 & 1 == 0 || word >> 5 & 31 == 31;
    match option {
        _ if !is_extended => None,
        2 if !has_sp || is_64 => Some("uxtw"),
        3 if !has_sp || !is_64 => Some("uxtx"),
        _ => None,
    }
}

fn general_bytes(size: SizeCode) -> u8 {
    match size {
        SizeCode::W => 4,
        SizeCode::X => 8,
    }
}

fn vector_bytes(size: SIMDSizeCode) -> u8 {
    match size {
        SIMDSizeCode::B => 1,
        SIMDSizeCode::H => 2,
        SIMDSizeCode::S => 4,
        SIMDSizeCode::D => 8,
        SIMDSizeCode::Q => 16,
    }
}

/// The registers of an operand, but not those of an address.
struct Used {
    registers: Registers,
    /// How many bytes of each are read, at most.
    bytes: u8,
    /// If the operand is written, nothing is left of the register's old value.
    is_whole: bool,
    /// Another register could not stand there.
    is_fixed: bool,
}

impl Used {
    fn of(operand: &Operand) -> Self {
        let none = Self { registers: Registers::default(), bytes: 0, is_whole: true, is_fixed: false };
        // The registers of a group follow on one another, and 0 on 31.
        let vectors = |first: u16, count: u8| {
            (0..u16::from(count)).fold(Registers::default(), |all, index| {
                all.with(Registers::one(VECTORS + number((first + index) % 32)))
            })
        };
        match *operand {
            Operand::Register(_, 31) | Operand::RegShift(_, _, _, 31) => none,
            Operand::Register(size, register)
            | Operand::RegShift(_, _, size, register)
            | Operand::RegisterOrSP(size, register) => {
                Self { registers: Registers::one(number(register)), bytes: general_bytes(size), ..none }
            }
            Operand::RegisterPair(size, first) => {
                let registers = [first, first + 1].map(|register| match register {
                    31 => Registers::default(),
                    _ => Registers::one(number(register)),
                });
                let registers = registers[0].with(registers[1]);
                Self { registers, bytes: general_bytes(size), is_fixed: true, ..none }
            }
            Operand::SIMDRegister(size, register) | Operand::SIMDRegisterElements(size, register, _) => {
                Self { registers: vectors(register, 1), bytes: vector_bytes(size), ..none }
            }
            // By-element operations on 16 bits know the first 16 registers only.
            Operand::SIMDRegisterElementsLane(_, register, element, _)
            | Operand::SIMDRegisterElementsMultipleLane(_, register, element, _, _) => Self {
                registers: vectors(register, 1),
                bytes: 16,
                is_whole: false,
                is_fixed: element == SIMDSizeCode::H,
            },
            Operand::SIMDRegisterGroup(size, first, _, count) => {
                Self { registers: vectors(first, count), bytes: vector_bytes(size), is_fixed: true, ..none }
            }
            Operand::SIMDRegisterGroupLane(first, _, count, _) => {
                Self { registers: vectors(first, count), bytes: 16, is_whole: false, is_fixed: true }
            }
            _ => none,
        }
    }
}

/// An operand in memory.
struct Memory {
    /// 31 is the stack pointer.
    base: u8,
    displacement: i64,
    /// The index, and whether its 64 bits count; 31 is zero.
    index: Option<(u8, bool)>,
    /// By how many bits the index is shifted.
    shift: u8,
    /// The base is set to another address, before or afterwards.
    changes_base: bool,
}

impl Memory {
    fn of(operand: &Operand) -> Option<Self> {
        let at = |base, displacement: i32, changes_base| Self {
            base: number(base),
            displacement: displacement.into(),
            index: None,
            shift: 0,
            changes_base,
        };
        match *operand {
            Operand::RegPreIndex(base, displacement, changes_base) => Some(at(base, displacement, changes_base)),
            Operand::RegPostIndex(base, _) => Some(at(base, 0, true)),
            Operand::RegPostIndexReg(base, index) => {
                Some(Self { index: Some((number(index), true)), ..at(base, 0, true) })
            }
            Operand::RegRegOffset(base, index, size, _, shift) => {
                Some(Self { index: Some((number(index), size == SizeCode::X)), shift, ..at(base, 0, false) })
            }
            _ => None,
        }
    }

    fn registers(&self) -> Registers {
        let index = self.index.filter(|(index, _)| *index != 31);
        Registers::one(self.base).with(index.map_or(Registers::default(), |(index, _)| Registers::one(index)))
    }

    /// Those of which more than the lower 32 bits count.
    fn wide(&self) -> Registers {
        let index = self.index.filter(|(index, is_wide)| *index != 31 && *is_wide);
        Registers::one(self.base).with(index.map_or(Registers::default(), |(index, _)| Registers::one(index)))
    }
}

/// What an instruction does with each of its operands.
fn accesses(decoded: &Decoded) -> [Access; 4] {
    use Access::{Read, Update, Write};
    use Opcode::{
        BLR, BLRAA, BLRAAZ, BLRAB, BLRABZ, BR, BRAA, BRAAZ, BRAB, BRABZ, CAS, CASB, CASH, CASP, CBNZ, CBZ, CCMN, CCMP,
        FCCMP, FCCMPE, FCMP, FCMPE, LDAXP, LDNP, LDP, LDPSW, LDXP, PRFM, PRFUM, RET, RMIF, SETF8, SETF16, STLXP, STLXR,
        STLXRB, STLXRH, STXP, STXR, STXRB, STXRH, SYS, TBNZ, TBZ,
    };
    match decoded.opcode {
        // The register that says whether it was done.
        STXR | STXRB | STXRH | STLXR | STLXRB | STLXRH | STXP | STLXP => [Write, Read, Read, Read],
        CAS(_) | CASB(_) | CASH(_) | CASP(_) => [Update, Read, Read, Read],
        opcode if is_atomic(opcode) => [Read, Write, Read, Read],
        opcode if is_store(opcode) => [Read; 4],
        LDP | LDNP | LDPSW | LDXP | LDAXP => [Write, Write, Read, Read],
        BR | BLR | RET | BRAA | BRAB | BRAAZ | BRABZ | BLRAA | BLRAB | BLRAAZ | BLRABZ | CBZ | CBNZ | TBZ | TBNZ => {
            [Read; 4]
        }
        FCMP | FCMPE | FCCMP | FCCMPE | CCMP | CCMN | SYS(_) | SETF8 | SETF16 | RMIF | PRFM | PRFUM => [Read; 4],
        Opcode::SYSL(_) => [Write; 4],
        opcode if updates(opcode) => [Update, Read, Read, Read],
        // `orr` and `bic` of a vector and a constant.
        Opcode::ORR | Opcode::BIC
            if matches!(decoded.operands[0], Operand::SIMDRegisterElements(..))
                && matches!(decoded.operands[2], Operand::Nothing) =>
        {
            [Update, Read, Read, Read]
        }
        _ => [Write, Read, Read, Read],
    }
}

/// Whether an instruction reads and writes memory, if it has an operand there.
fn reaches_memory(opcode: Opcode) -> (bool, bool) {
    match opcode {
        // Hints.
        Opcode::PRFM | Opcode::PRFUM => (false, false),
        _ if is_atomic(opcode) => (true, true),
        _ if is_store(opcode) => (false, true),
        _ => (true, false),
    }
}

fn is_store(opcode: Opcode) -> bool {
    use Opcode::{
        ST1, ST2, ST2G, ST3, ST4, STG, STGM, STLLR, STLLRB, STLLRH, STLR, STLRB, STLRH, STLUR, STLURB, STLURH, STLXP,
        STLXR, STLXRB, STLXRH, STNP, STP, STR, STRB, STRH, STRW, STTR, STTRB, STTRH, STUR, STURB, STURH, STXP, STXR,
        STXRB, STXRH, STZ2G, STZG, STZGM,
    };
    matches!(
        opcode,
        STR | STRB | STRH | STRW | STUR | STURB | STURH | STP | STNP | STTR | STTRB | STTRH | ST1 | ST2 | ST3 | ST4
    ) || matches!(opcode, STLR | STLRB | STLRH | STLLR | STLLRB | STLLRH | STLUR | STLURB | STLURH)
        || matches!(opcode, STXR | STXRB | STXRH | STXP | STLXR | STLXRB | STLXRH | STLXP)
        || matches!(opcode, STG | STGM | STZG | STZGM | ST2G | STZ2G)
}

/// Whether an instruction reads memory and writes it in one.
fn is_atomic(opcode: Opcode) -> bool {
    use Opcode::{
        CAS, CASB, CASH, CASP, LDADD, LDADDB, LDADDH, LDCLR, LDCLRB, LDCLRH, LDEOR, LDEORB, LDEORH, LDSET, LDSETB,
        LDSETH, LDSMAX, LDSMAXB, LDSMAXH, LDSMIN, LDSMINB, LDSMINH, LDUMAX, LDUMAXB, LDUMAXH, LDUMIN, LDUMINB, LDUMINH,
        SWP, SWPB, SWPH,
    };
    matches!(
        opcode,
        CAS(_) | CASB(_) | CASH(_) | CASP(_) | SWP(_) | SWPB(_) | SWPH(_) | LDADD(_) | LDADDB(_) | LDADDH(_)
    ) || matches!(opcode, LDCLR(_) | LDCLRB(_) | LDCLRH(_) | LDEOR(_) | LDEORB(_) | LDEORH(_))
        || matches!(opcode, LDSET(_) | LDSETB(_) | LDSETH(_) | LDSMAX(_) | LDSMAXB(_) | LDSMAXH(_))
        || matches!(opcode, LDSMIN(_) | LDSMINB(_) | LDSMINH(_) | LDUMAX(_) | LDUMAXB(_) | LDUMAXH(_))
        || matches!(opcode, LDUMIN(_) | LDUMINB(_) | LDUMINH(_))
}

/// Whether the registers of an exclusive access must differ from one another.
fn is_exclusive(opcode: Opcode) -> bool {
    use Opcode::{STLXP, STLXR, STLXRB, STLXRH, STXP, STXR, STXRB, STXRH};
    matches!(opcode, STXR | STXRB | STXRH | STLXR | STLXRB | STLXRH | STXP | STLXP)
}

/// Whether the result depends on what was in the register that the instruction writes: it adds to it, or writes a part.
fn updates(opcode: Opcode) -> bool {
    use Opcode::{
        ADDHN2, AESD, AESE, AUTDA, AUTDB, AUTDZA, AUTDZB, AUTIA, AUTIB, AUTIZA, AUTIZB, BFM, BIF, BIT, BSL, FCMLA,
        FCVTN2, FCVTXN2, FMLA, FMLAL, FMLAL2, FMLS, FMLSL, FMLSL2, INS, LDG, MLA, MLS, MOVK, PACDA, PACDB, PACDZA,
        PACDZB, PACIA, PACIB, PACIZA, PACIZB, RADDHN2, RSHRN2, RSUBHN2, SABA, SABAL, SABAL2, SADALP, SDOT, SHA1C,
        SHA1M, SHA1P, SHA1SU0, SHA1SU1, SHA256H, SHA256H2, SHA256SU0, SHA256SU1, SHA512H, SHA512H2, SHA512SU0,
        SHA512SU1, SHRN2, SLI, SM3PARTW1, SM3PARTW2, SM3TT1A, SM3TT1B, SM3TT2A, SM3TT2B, SM4E, SMLAL, SMLAL2, SMLSL,
        SMLSL2, SQDMLAL, SQDMLAL2, SQDMLSL, SQDMLSL2, SQRDMLAH, SQRDMLSH, SQRSHRN2, SQRSHRUN2, SQSHRN2, SQSHRUN2,
        SQXTN2, SQXTUN2, SRI, SRSRA, SSRA, SUBHN2, SUQADD, TBX, UABA, UABAL, UABAL2, UADALP, UDOT, UMLAL, UMLAL2,
        UMLSL, UMLSL2, UQRSHRN2, UQSHRN2, UQXTN2, URSRA, USQADD, USRA, XPACD, XPACI, XTN2,
    };
    matches!(opcode, MOVK | BFM | INS | LDG | BSL | BIT | BIF | SLI | SRI | TBX)
        || matches!(opcode, MLA | MLS | FMLA | FMLS | FMLAL | FMLAL2 | FMLSL | FMLSL2 | FCMLA | SDOT | UDOT)
        || matches!(opcode, SMLAL | SMLAL2 | SMLSL | SMLSL2 | UMLAL | UMLAL2 | UMLSL | UMLSL2)
        || matches!(opcode, SQDMLAL | SQDMLAL2 | SQDMLSL | SQDMLSL2 | SQRDMLAH | SQRDMLSH)
        || matches!(opcode, SABA | SABAL | SABAL2 | UABA | UABAL | UABAL2 | SADALP | UADALP)
        || matches!(opcode, SSRA | SRSRA | USRA | URSRA | SUQADD | USQADD)
        // Those that write the upper half.
        || matches!(opcode, XTN2 | SQXTN2 | SQXTUN2 | UQXTN2 | FCVTN2 | FCVTXN2 | SHRN2 | RSHRN2 | SQSHRN2 | SQRSHRN2)
        || matches!(opcode, SQSHRUN2 | SQRSHRUN2 | UQSHRN2 | UQRSHRN2 | ADDHN2 | SUBHN2 | RADDHN2 | RSUBHN2)
        || matches!(opcode, AESE | AESD | SHA1C | SHA1P | SHA1M | SHA1SU0 | SHA1SU1 | SHA256H | SHA256H2 | SHA256SU0)
        || matches!(opcode, SHA256SU1 | SHA512H | SHA512H2 | SHA512SU0 | SHA512SU1 | SM4E | SM3PARTW1 | SM3PARTW2)
        || matches!(opcode, SM3TT1A | SM3TT1B | SM3TT2A | SM3TT2B)
        // Signatures of pointers.
        || matches!(opcode, PACIA | PACIB | PACDA | PACDB | PACIZA | PACIZB | PACDZA | PACDZB | XPACI | XPACD)
        || matches!(opcode, AUTIA | AUTIB | AUTDA | AUTDB | AUTIZA | AUTIZB | AUTDZA | AUTDZB)
}

/// Whether an instruction signs a pointer, or checks or strips a signature, in registers that it does not name.
fn signs_implicitly(opcode: Opcode) -> bool {
    use Opcode::{
        AUTIA1716, AUTIA171615, AUTIASP, AUTIASPPC, AUTIASPPCR, AUTIAZ, AUTIB1716, AUTIB171615, AUTIBSP, AUTIBSPPC,
        AUTIBSPPCR, AUTIBZ, PACIA1716, PACIA171615, PACIASP, PACIASPPC, PACIAZ, PACIB1716, PACIB171615, PACIBSP,
        PACIBSPPC, PACIBZ, PACNBIASPPC, PACNBIBSPPC, XPACLRI,
    };
    matches!(opcode, PACIASP | PACIAZ | PACIA1716 | PACIA171615 | PACIASPPC | PACNBIASPPC | XPACLRI)
        || matches!(opcode, PACIBSP | PACIBZ | PACIB1716 | PACIB171615 | PACIBSPPC | PACNBIBSPPC)
        || matches!(opcode, AUTIASP | AUTIAZ | AUTIA1716 | AUTIA171615 | AUTIASPPC | AUTIASPPCR)
        || matches!(opcode, AUTIBSP | AUTIBZ | AUTIB1716 | AUTIB171615 | AUTIBSPPC | AUTIBSPPCR)
}

fn traps(opcode: Opcode) -> bool {
    matches!(opcode, Opcode::UDF | Opcode::BRK | Opcode::HLT | Opcode::DCPS1 | Opcode::DCPS2 | Opcode::DCPS3)
}

fn class(flow: Flow, facts: &Facts) -> Class {
    match flow {
        _ if facts.traps => Class::Trap,
        Flow::Call | Flow::Out => Class::Call,
        Flow::Jump(_) | Flow::Branch(_) | Flow::Indirect => Class::Branch,
        Flow::Next if facts.spills || facts.reloads => Class::Stack,
        Flow::Next if facts.stores => Class::Store,
        Flow::Next if facts.loads => Class::Load,
        Flow::Next if facts.copy.is_some() => Class::Move,
        Flow::Next => Class::Compute,
    }
}

#[cfg(test)]
mod tests;
