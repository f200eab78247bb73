//! Decoding x86-64: from bytes to what [`crate::machine`] knows of an instruction.

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction as Decoded,
    InstructionInfoFactory, IntelFormatter, Mnemonic, OpAccess, OpKind, Register,
};

use crate::machine::{Class, Copy, Facts, Flow, Instruction, Registers};

/// Decodes instructions of one function.
pub(crate) struct X86<'a> {
    code: &'a [u8],
    info: InstructionInfoFactory,
    formatter: IntelFormatter,
    /// The name of what a call leads to, by its offset from the function's first byte.
    callee: &'a dyn Fn(i64) -> Option<String>,
}

/// The address at which the function is decoded: far enough from zero that no relative address wraps around.
const BASE: u64 = 1 << 40;
const RSP: u8 = 4;
const RBP: u8 = 5;
/// The first of the vector registers in a set of registers, after the 16 general ones.
const VECTORS: u8 = 16;

impl<'a> X86<'a> {
    pub(crate) fn new(code: &'a [u8], callee: &'a dyn Fn(i64) -> Option<String>) -> Self {
        let mut formatter = IntelFormatter::new();
        let options = formatter.options_mut();
        options.set_hex_prefix("0x");
        options.set_hex_suffix("");
        options.set_uppercase_hex(false);
        options.set_small_hex_numbers_in_decimal(true);
        options.set_space_after_operand_separator(true);
        options.set_rip_relative_addresses(true);
        options.set_memory_size_options(iced_x86::MemorySizeOptions::Minimal);
        options.set_branch_leading_zeros(false);
        options.set_show_branch_size(false);
        Self { code, info: InstructionInfoFactory::new(), formatter, callee }
    }

    /// The instruction at `offset`; `None` if there is none: the bytes mean nothing, or the function ends within it.
    pub(crate) fn decode(&mut self, offset: u32) -> Option<Instruction> {
        let bytes = self.code.get(offset as usize..)?;
        let mut decoder = Decoder::with_ip(64, bytes, BASE + u64::from(offset), DecoderOptions::NONE);
        if !decoder.can_decode() {
            return None;
        }
        let decoded = decoder.decode();
        if decoded.is_invalid() {
            return None;
        }
        let flow = self.flow(&decoded);
        let mut facts = self.facts(&decoded);
        let encoding = bytes.get(..decoded.len())?;
        facts.has_rex = rex_at(encoding).is_some();
        facts.rex_changes_nothing = rex_changes_nothing(encoding, &decoded);
        Some(Instruction {
            offset,
            length: u8::try_from(decoded.len()).ok()?,
            text: self.text(&decoded),
            class: class(&decoded, &facts),
            flow,
            facts,
        })
    }

    /// The offset of an address in the function.
    fn within(&self, address: u64) -> Option<u32> {
        let offset = address.checked_sub(BASE)?;
        (offset < self.code.len() as u64).then(|| u32::try_from(offset).ok()).flatten()
    }

    fn flow(&self, decoded: &Decoded) -> Flow {
        match decoded.flow_control() {
            FlowControl::Next => Flow::Next,
            FlowControl::UnconditionalBranch => Flow::Jump(self.within(decoded.near_branch_target())),
            FlowControl::ConditionalBranch | FlowControl::XbeginXabortXend => {
                Flow::Branch(self.within(decoded.near_branch_target()))
            }
            FlowControl::IndirectBranch => Flow::Indirect,
            FlowControl::Call | FlowControl::IndirectCall => Flow::Call,
            FlowControl::Return | FlowControl::Interrupt | FlowControl::Exception => Flow::Out,
        }
    }

    fn text(&mut self, decoded: &Decoded) -> String {
        let mut text = String::new();
        let is_near = decoded.op_count() > 0 && decoded.op0_kind() == OpKind::NearBranch64;
        if is_near {
            self.formatter.format_mnemonic(decoded, &mut text);
            let distance = decoded.near_branch_target().wrapping_sub(BASE).cast_signed();
            let target = if self.within(decoded.near_branch_target()).is_some() {
                format!("{distance:#x}")
            } else {
                (self.callee)(distance).unwrap_or_else(|| "outside".to_owned())
            };
            return format!("{text} {target}");
        }
        self.formatter.format(decoded, &mut text);
        text
    }

    fn facts(&mut self, decoded: &Decoded) -> Facts {
        let mut facts = Facts::default();
        let info = self.info.info(decoded);
        let mut partly = Registers::default();
        for used in info.used_registers() {
            let Some(register) = index(used.register()) else { continue };
            let one = Registers::one(register);
            let whole = used.register().is_vector_register() || used.register().size() >= 4;
            match used.access() {
                OpAccess::Read | OpAccess::CondRead => facts.reads = facts.reads.with(one),
                OpAccess::Write if whole => facts.kills = facts.kills.with(one),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
                    partly = partly.with(one);
                }
                _ => {}
            }
            if used.register().size() == 8 {
                facts.wide = facts.wide.with(one);
            }
        }
        if decoded.op_count() > 0
            && decoded.op0_kind() == OpKind::Register
            && decoded.op0_register().is_gpr32()
            && info.op0_access() == OpAccess::Write
            && let Some(register) = index(decoded.op0_register())
        {
            facts.clears_upper = Registers::one(register);
        }
        facts.writes = facts.kills.with(partly);
        facts.reads = facts.reads.with(partly);
        facts.wide = Registers(facts.wide.0 & facts.reads.0);
        for operand in 0..decoded.op_count() {
            if decoded.op_kind(operand) == OpKind::Register
                && info.op_access(operand) == OpAccess::Read
                && let Some(register) = index(decoded.op_register(operand))
            {
                facts.named = facts.named.with(Registers::one(register));
            }
        }
        for register in [decoded.memory_base(), decoded.memory_index()].into_iter().filter_map(index) {
            facts.named = facts.named.with(Registers::one(register));
        }
        if implicit(decoded) {
            facts.named = Registers::default();
        }
        facts.named = facts.named.without(facts.writes);
        for used in info.used_memory() {
            let read = matches!(
                used.access(),
                OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let write = matches!(
                used.access(),
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
            );
            let stack = index(used.base()).is_some_and(|base| base == RSP || base == RBP);
            facts.reloads |= read && stack;
            facts.spills |= write && stack;
            facts.loads |= read && !stack;
            facts.stores |= write && !stack;
        }
        if matches!(decoded.flow_control(), FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return) {
            // The address to return to is neither spilled nor reloaded.
            facts.spills = false;
            facts.reloads = false;
        }
        self.patterns(decoded, &mut facts);
        facts
    }

    fn patterns(&self, decoded: &Decoded, facts: &mut Facts) {
        let registers = [0, 1].map(|operand| {
            let is_register = decoded.op_count() > operand && decoded.op_kind(operand) == OpKind::Register;
            is_register.then(|| decoded.op_register(operand)).and_then(index)
        });
        let has_memory = (0..decoded.op_count()).any(|operand| decoded.op_kind(operand) == OpKind::Memory);
        if is_copy(decoded.mnemonic())
            && decoded.op_count() == 2
            && let [Some(to), Some(from)] = registers
            && (to < VECTORS) == (from < VECTORS)
        {
            let bytes = u8::try_from(decoded.op0_register().size().max(4)).unwrap_or(u8::MAX);
            facts.copy = Some(Copy { to, from, bytes, is_frame: to == RSP || from == RSP });
        }
        // Of what depends on a condition, only `setcc` has one operand and is no jump.
        let is_set = decoded.condition_code() != ConditionCode::None
            && decoded.flow_control() == FlowControl::Next
            && decoded.op_count() == 1;
        facts.sets = if is_set { registers[0] } else { None };
        facts.carries = match (decoded.mnemonic(), registers) {
            (Mnemonic::Movzx | Mnemonic::Mov, [Some(to), Some(from)]) => Some((to, from)),
            (Mnemonic::And, [Some(to), None]) if !has_memory => Some((to, to)),
            _ => None,
        };
        facts.tests = match (decoded.mnemonic(), registers) {
            (Mnemonic::Test, [Some(a), Some(b)]) if a == b => Some(a),
            (Mnemonic::Test, [Some(a), None]) if !has_memory => Some(a),
            (Mnemonic::Cmp, [Some(a), None]) if !has_memory && decoded.immediate(1) == 0 => Some(a),
            _ => None,
        };
        facts.is_conditional = decoded.flow_control() == FlowControl::ConditionalBranch;
        facts.branches_on_equal =
            facts.is_conditional && matches!(decoded.condition_code(), ConditionCode::e | ConditionCode::ne);
        let last = decoded.op_count().saturating_sub(1);
        if is_load(decoded.mnemonic()) && facts.loads | facts.reloads && decoded.op_kind(last) == OpKind::Memory {
            facts.only_loads = registers[0].map(|to| (to, loaded_bytes(decoded)));
        }
        if takes_memory(decoded.mnemonic()) {
            facts.folds = has_memory;
            if !has_memory
                && decoded.op_kind(last) == OpKind::Register
                && let Some(register) = index(decoded.op_register(last))
                && facts.named.has(register)
            {
                facts.could_fold = Some((register, operand_bytes(decoded, last)));
            }
        }
        facts.traps = decoded.flow_control() == FlowControl::Exception || decoded.mnemonic() == Mnemonic::Int3;
        if has_memory {
            if decoded.is_ip_rel_memory_operand() {
                facts.points_to = self.within(decoded.ip_rel_memory_address());
            } else if decoded.memory_index() == Register::None {
                let displacement = decoded.memory_displacement64().cast_signed();
                facts.base = index(decoded.memory_base()).map(|base| (base, displacement));
            } else if decoded.mnemonic() == Mnemonic::Movsxd && decoded.memory_index_scale() == 4 {
                facts.table_entry = index(decoded.memory_base());
            }
        }
    }
}

/// The number of a register in a set; `None` for flags, segments and others that no metric asks for.
fn index(register: Register) -> Option<u8> {
    let whole = register.full_register();
    let number = |first: Register, offset: usize| u8::try_from(whole as usize - first as usize + offset).ok();
    if whole.is_gpr64() {
        number(Register::RAX, 0)
    } else if whole.is_zmm() {
        number(Register::ZMM0, VECTORS.into())
    } else {
        None
    }
}

/// Whether an instruction reads registers that it does not name: another register could not stand in their place.
fn implicit(decoded: &Decoded) -> bool {
    use Mnemonic::{
        Cdq, Cmpxchg, Cmpxchg8b, Cmpxchg16b, Cqo, Cwd, Div, Idiv, Mul, Rcl, Rcr, Rol, Ror, Sar, Shl, Shld, Shr, Shrd,
    };
    matches!(
        decoded.mnemonic(),
        Cdq | Cqo | Cwd | Div | Idiv | Mul | Rol | Ror | Rcl | Rcr | Sar | Shl | Shr | Shld | Shrd | Cmpxchg
            | Cmpxchg8b | Cmpxchg16b
    ) || decoded.flow_control() != FlowControl::Next
        // Without a REX prefix, no byte of these registers can be read but the lowest of the first four.
        || (0..decoded.op_count()).any(|operand| {
            decoded.op_kind(operand) == OpKind::Register && decoded.op_register(operand).is_gpr8()
        })
}

fn is_copy(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{
        Mov, Movapd, Movaps, Movdqa, Movdqu, Movupd, Movups, Vmovapd, Vmovaps, Vmovdqa, Vmovdqu, Vmovupd, Vmovups,
    };
    matches!(
        mnemonic,
        Mov | Movaps
            | Movapd
            | Movups
            | Movupd
            | Movdqa
            | Movdqu
            | Vmovaps
            | Vmovapd
            | Vmovups
            | Vmovupd
            | Vmovdqa
            | Vmovdqu
    )
}

fn is_load(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{Mov, Movsd, Movss, Vmovdqu, Vmovsd, Vmovss, Vmovupd, Vmovups};
    matches!(mnemonic, Mov | Movss | Movsd | Vmovss | Vmovsd | Vmovdqu | Vmovups | Vmovupd)
}

/// The size of what a load puts into its register, in bytes.
fn loaded_bytes(decoded: &Decoded) -> u8 {
    u8::try_from(decoded.memory_size().size()).unwrap_or(u8::MAX)
}

/// The size of the memory operand that could stand in place of a register, in bytes.
fn operand_bytes(decoded: &Decoded, operand: u32) -> u8 {
    let register = decoded.op_register(operand);
    let bytes = if register.is_vector_register() {
        // A scalar operation reads one element of its register, and as much of memory.
        let name = format!("{:?}", decoded.mnemonic()).to_lowercase();
        match name.as_bytes() {
            [.., b's', b's'] => 4,
            [.., b's', b'd'] => 8,
            _ if name.contains("ss2") => 4,
            _ if name.contains("sd2") => 8,
            _ => register.size(),
        }
    } else {
        register.size()
    };
    u8::try_from(bytes).unwrap_or(u8::MAX)
}

/// Whether an operation can take its last operand from memory.
fn takes_memory(mnemonic: Mnemonic) -> bool {
    use Mnemonic::{
        Adc, Add, Addsd, Addss, And, Cmp, Comisd, Comiss, Cvtsd2si, Cvtsd2ss, Cvtsi2sd, Cvtsi2ss, Cvtss2sd, Cvtss2si,
        Cvttsd2si, Cvttss2si, Divsd, Divss, Imul, Lzcnt, Maxsd, Maxss, Minsd, Minss, Mulsd, Mulss, Or, Popcnt, Sbb,
        Sqrtsd, Sqrtss, Sub, Subsd, Subss, Test, Tzcnt, Ucomisd, Ucomiss, Vaddpd, Vaddps, Vaddsd, Vaddss, Vcvtsd2ss,
        Vcvtsi2sd, Vcvtsi2ss, Vcvtss2sd, Vcvttsd2si, Vcvttss2si, Vdivpd, Vdivps, Vdivsd, Vdivss, Vmaxsd, Vmaxss,
        Vminsd, Vminss, Vmulpd, Vmulps, Vmulsd, Vmulss, Vpaddb, Vpaddd, Vpaddq, Vpaddw, Vpand, Vpmulld, Vpmullw, Vpor,
        Vpsubb, Vpsubd, Vpsubq, Vpsubw, Vpxor, Vsqrtsd, Vsqrtss, Vsubpd, Vsubps, Vsubsd, Vsubss, Vucomisd, Vucomiss,
        Xor,
    };
    matches!(
        mnemonic,
        Add | Adc
            | Sub
            | Sbb
            | And
            | Or
            | Xor
            | Cmp
            | Test
            | Imul
            | Popcnt
            | Lzcnt
            | Tzcnt
            | Addsd
            | Addss
            | Subsd
            | Subss
            | Mulsd
            | Mulss
            | Divsd
            | Divss
            | Minsd
            | Minss
            | Maxsd
            | Maxss
            | Sqrtsd
            | Sqrtss
            | Ucomisd
            | Ucomiss
            | Comisd
            | Comiss
            | Cvtsi2sd
            | Cvtsi2ss
            | Cvtss2sd
            | Cvtsd2ss
            | Cvttsd2si
            | Cvttss2si
            | Cvtsd2si
            | Cvtss2si
            | Vaddsd
            | Vaddss
            | Vsubsd
            | Vsubss
            | Vmulsd
            | Vmulss
            | Vdivsd
            | Vdivss
            | Vminsd
            | Vminss
            | Vmaxsd
            | Vmaxss
            | Vsqrtsd
            | Vsqrtss
            | Vucomisd
            | Vucomiss
            | Vcvtsi2sd
            | Vcvtsi2ss
            | Vcvtss2sd
            | Vcvtsd2ss
            | Vcvttsd2si
            | Vcvttss2si
            | Vaddpd
            | Vaddps
            | Vsubpd
            | Vsubps
            | Vmulpd
            | Vmulps
            | Vdivpd
            | Vdivps
            | Vpaddb
            | Vpaddw
            | Vpaddd
            | Vpaddq
            | Vpsubb
            | Vpsubw
            | Vpsubd
            | Vpsubq
            | Vpmulld
            | Vpmullw
            | Vpand
            | Vpor
            | Vpxor
    )
}

fn class(decoded: &Decoded, facts: &Facts) -> Class {
    match decoded.flow_control() {
        _ if facts.traps => Class::Trap,
        FlowControl::Call | FlowControl::IndirectCall | FlowControl::Return => Class::Call,
        FlowControl::Next if facts.spills || facts.reloads => Class::Stack,
        FlowControl::Next if facts.stores => Class::Store,
        FlowControl::Next if facts.loads => Class::Load,
        FlowControl::Next if facts.copy.is_some() => Class::Move,
        FlowControl::Next => Class::Compute,
        _ => Class::Branch,
    }
}

/// Where the REX prefix stands among the bytes of an instruction, if it has one: after all other prefixes.
fn rex_at(encoding: &[u8]) -> Option<usize> {
    const OTHERS: [u8; 11] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];
    let at = encoding.iter().position(|byte| !OTHERS.contains(byte))?;
    matches!(encoding[at], 0x40..=0x4f).then_some(at)
}

/// Whether the instruction means the same without its REX prefix: the other bytes alone decode to the same instruction,
/// or both set the same register to zero.
fn rex_changes_nothing(encoding: &[u8], decoded: &Decoded) -> bool {
    let Some(at) = rex_at(encoding) else { return false };
    let mut shorter = encoding.to_vec();
    shorter.remove(at);
    // Relative addresses count from the instruction's end, which stays where it is.
    let mut decoder = Decoder::with_ip(64, &shorter, decoded.ip() + 1, DecoderOptions::NONE);
    let without = decoder.decode();
    if without.is_invalid() || without.len() + 1 != encoding.len() {
        return false;
    }
    without == *decoded || (zeroes(&without).is_some() && zeroes(&without) == zeroes(decoded))
}

/// The register that an instruction sets to zero by `xor` with itself.
fn zeroes(decoded: &Decoded) -> Option<Register> {
    let is_xor =
        matches!(decoded.code(), Code::Xor_rm32_r32 | Code::Xor_r32_rm32 | Code::Xor_rm64_r64 | Code::Xor_r64_rm64);
    let same = decoded.op0_kind() == OpKind::Register
        && decoded.op1_kind() == OpKind::Register
        && decoded.op0_register() == decoded.op1_register();
    (is_xor && same).then(|| decoded.op0_register().full_register())
}
