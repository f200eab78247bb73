//! The decoder against GNU `objdump`, and counts against those that were taken from its listings by hand.

use super::*;
use crate::function::{Code, Flag, Function, read};
use crate::machine::Architecture;
use crate::metrics::{Mark, Metrics};
use crate::wasm::SourceFunction;

/// Listings by `objdump -d`; functions.c and functions.wat say of what.
const LISTINGS: [&str; 3] = [include_str!("gcc.txt"), include_str!("cranelift.txt"), include_str!("winch.txt")];

/// A line of a listing.
struct Line {
    address: u32,
    word: u32,
    text: String,
}

/// The functions of a listing, by name, with their lines.
fn functions(listing: &str) -> Vec<(&str, Vec<Line>)> {
    let mut functions = Vec::new();
    for line in listing.lines() {
        if let Some((_, name)) = line.strip_suffix(">:").and_then(|head| head.split_once(" <")) {
            functions.push((name.rsplit("::").next().unwrap(), Vec::new()));
        } else if let [address, word, text @ ..] = &line.split('\t').collect::<Vec<_>>()[..]
            && let Some(address) = address.trim().strip_suffix(':')
        {
            functions.last_mut().unwrap().1.push(Line {
                address: u32::from_str_radix(address, 16).unwrap(),
                word: u32::from_str_radix(word.trim(), 16).unwrap(),
                text: text.join(" "),
            });
        }
    }
    functions
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn code_of(bytes: &[u8]) -> Code<'_> {
    Code { architecture: Architecture::Aarch64, bytes, origins: None, flag: None, callee: &|_| Some("f".into()) }
}

fn code(words: &[u32]) -> Function {
    read(&code_of(&bytes(words)), &SourceFunction::default())
}

/// A function of a listing, read.
fn function(listing: usize, name: &str) -> Function {
    let (_, lines) = functions(LISTINGS[listing]).into_iter().find(|(has, _)| *has == name).unwrap();
    code(&lines.iter().map(|line| line.word).collect::<Vec<_>>())
}

fn one(word: u32) -> Instruction {
    let code = bytes(&[word]);
    Arm64::new(&code, &|_| None).decode(0).unwrap_or_else(|| panic!("{word:08x}"))
}

/// The words and numbers of an instruction, so that what is only spelled in another way is equal: numbers are decimal, and
/// of two names of a condition or of an alias, one is left.
fn words(text: &str) -> Vec<String> {
    let text = text.split("//").next().unwrap();
    // A target, and the name of the place.
    let (text, target) = match text.split_once('<') {
        Some((head, _)) => {
            let (head, target) = head.trim_end().rsplit_once(' ').unwrap();
            (head, i64::from_str_radix(target, 16).ok())
        }
        None => (text, None),
    };
    let spaced: String = text
        .chars()
        .map(|c| match c {
            '[' | ']' | '{' | '}' => format!(" {c} "),
            ',' | '#' => " ".to_owned(),
            _ => c.to_string(),
        })
        .collect();
    let word = |word: &str| {
        let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
        if let Some(value) = digits.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            return (sign * value.cast_signed()).to_string();
        }
        if let Ok(value) = word.parse::<f64>() {
            return value.to_string();
        }
        match word {
            "cs" | "b.cs" => word.replace("cs", "hs"),
            "cc" | "b.cc" => word.replace("cc", "lo"),
            _ => word.to_owned(),
        }
    };
    let mut words: Vec<String> = spaced.split_whitespace().map(word).collect();
    // A shift by nothing is named as an extension.
    if let Some(first) = words.first_mut()
        && let Some(rest) = first.strip_prefix("sxtl").or_else(|| first.strip_prefix("uxtl"))
    {
        *first = format!("{}shll{rest}", &first[..1]);
        words.push("0".to_owned());
    }
    words.extend(target.map(|target| target.to_string()));
    words
}

#[test]
fn every_instruction_reads_as_objdump_reads_it() {
    let mut compared = 0;
    for listing in LISTINGS {
        let lines: Vec<Line> = functions(listing).into_iter().flat_map(|(_, lines)| lines).collect();
        // Gaps are of zeros, which the listing leaves out.
        let mut all = vec![0; lines.last().unwrap().address as usize / 4 + 1];
        for line in &lines {
            all[line.address as usize / 4] = line.word;
        }
        let all = bytes(&all);
        let decoder = Arm64::new(&all, &|distance| Some(format!("{distance:#x}")));
        for line in &lines {
            let decoded = decoder.decode(line.address).unwrap_or_else(|| panic!("{:x}: {}", line.address, line.text));
            assert_eq!(words(&decoded.text), words(&line.text), "{:x}: {:08x}", line.address, line.word);
            compared += 1;
        }
    }
    assert_eq!(compared, 277 + 129 + 349);
}

/// Counts of the functions in the listings. They were taken from these by hand, and by a script that knows mnemonics alone.
#[test]
fn counts_are_those_of_the_listings() {
    // Loads, stores, spills, reloads; moves; conditional jumps, branches, calls, trap checks; set-and-test chains.
    for (listing, name, counts) in [
        (0, "sum", [1, 0, 0, 0, 1, 2, 2, 0, 0, 0]),
        (0, "dot", [8, 0, 0, 0, 0, 6, 7, 0, 0, 0]),
        (0, "scale", [2, 2, 0, 0, 2, 4, 5, 0, 0, 0]),
        (0, "widen", [4, 5, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0, "calls", [0, 0, 4, 8, 10, 1, 2, 2, 0, 0]),
        (0, "add_atomically", [3, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
        (0, "fields", [5, 1, 0, 0, 0, 2, 2, 0, 1, 0]),
        (0, "choose", [0, 0, 0, 0, 1, 7, 7, 0, 0, 0]),
        (0, "convert", [0, 0, 0, 0, 0, 1, 1, 0, 0, 0]),
        (0, "copy_out", [2, 8, 9, 9, 0, 2, 2, 0, 0, 0]),
        (1, "sum", [3, 0, 1, 1, 3, 2, 2, 0, 1, 0]),
        (1, "select", [1, 0, 1, 5, 1, 0, 1, 0, 0, 0]),
        (1, "divide", [0, 0, 1, 1, 1, 2, 2, 0, 2, 0]),
        (1, "indirect", [10, 0, 2, 2, 11, 3, 4, 2, 2, 0]),
        (1, "floats", [0, 0, 1, 1, 1, 0, 0, 0, 0, 0]),
        (1, "test_twice", [0, 0, 1, 1, 1, 1, 2, 0, 0, 0]),
        (1, "store", [1, 2, 1, 1, 1, 0, 0, 0, 0, 0]),
        (2, "sum", [5, 0, 9, 7, 6, 3, 5, 0, 1, 1]),
        (2, "select", [3, 0, 5, 3, 6, 1, 6, 0, 1, 0]),
        (2, "divide", [2, 0, 6, 4, 8, 3, 3, 0, 3, 0]),
        (2, "indirect", [10, 0, 9, 10, 25, 5, 7, 2, 4, 0]),
        (2, "floats", [2, 0, 6, 5, 7, 1, 1, 0, 1, 0]),
        (2, "test_twice", [2, 0, 8, 6, 6, 2, 4, 0, 1, 0]),
        (2, "store", [4, 2, 7, 7, 7, 1, 1, 0, 1, 0]),
    ] {
        let read = function(listing, name);
        let m = &read.metrics;
        let found = [
            m.loads,
            m.stores,
            m.spills,
            m.reloads,
            m.moves,
            m.conditional_jumps,
            m.branches,
            m.calls,
            m.trap_checks,
            m.set_and_test_chains,
        ];
        assert_eq!(found, counts, "{name} of listing {listing}");
        assert_eq!((m.rex_prefixes, m.redundant_rex_prefixes, m.folded_operands, m.load_operate_pairs), (0, 0, 0, 0));
        assert_eq!((m.bytes, read.unknown_jumps), (4 * m.instructions, 0), "{name} of listing {listing}");
    }
}

#[test]
fn loops_have_the_counts_of_their_blocks() {
    // From 0x10 to 0x20; from 0x18 to 0x30; from 0x50 to 0x58 and from 0x64 to 0x9c.
    for (listing, head, instructions, loads, stack) in [(0, 0x10, 5, 1, 0), (1, 0x18, 7, 2, 0), (2, 0x50, 18, 3, 6)] {
        let found = function(listing, "sum");
        let [only] = &found.loops[..] else { panic!("{:?}", found.loops) };
        let metrics = &only.metrics;
        assert_eq!((only.head, metrics.instructions, metrics.loads), (head, instructions, loads), "{listing}");
        assert_eq!(metrics.spills + metrics.reloads, stack, "{listing}");
    }
}

#[test]
fn tables_of_jumps_are_followed() {
    // Of Cranelift, 9 instructions before the table, 4 times 3, and 3; of Winch, 26 before it, 9 up to 0x17c, 6, and a trap.
    for (listing, instructions, table_and_padding) in [(1, 9 + 4 * 3 + 3, 20), (2, 26 + 9 + 6 + 1, 20 + 4)] {
        let found = function(listing, "select");
        assert_eq!(found.metrics.instructions, instructions, "{listing}");
        assert_eq!((found.data_bytes, found.unknown_jumps), (table_and_padding, 0), "{listing}");
    }
    // As Singlepass: adr x0, the row; add x1, x0, x1, lsl #2; br x1; two jumps; ret; udf.
    let found = code(&[0x1000_0060, 0x8b01_0801, 0xd61f_0020, 0x1400_0002, 0x1400_0002, 0xd65f_03c0, 0x0000_00c1]);
    let text: Vec<&str> = found.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(text[..4], ["adr x0, 0xc", "add x1, x0, x1, lsl #2", "br x1", "b 0x14"]);
    assert_eq!((found.lines.len(), found.data_bytes, found.unknown_jumps), (7, 0, 0));
    // br x0; nop
    let found = code(&[0xd61f_0000, 0xd503_201f]);
    assert_eq!((found.unknown_jumps, found.data_bytes, found.lines.len()), (1, 4, 1));
}

#[test]
fn what_is_a_spill_and_what_a_store() {
    for (word, [loads, stores, spills, reloads]) in [
        (0xa9bf_7bfd, [0, 0, 1, 0]), // stp x29, x30, [sp, #-16]!
        (0xa8c1_7bfd, [0, 0, 0, 1]), // ldp x29, x30, [sp], #16
        (0x3c9f_0fe0, [0, 0, 1, 0]), // str q0, [sp, #-16]!
        (0xf85f_83a0, [0, 0, 0, 1]), // ldur x0, [x29, #-8]
        (0xf940_0380, [1, 0, 0, 0]), // ldr x0, [x28]
        (0xfc62_7820, [1, 0, 0, 0]), // ldr d0, [x1, x2, lsl #3]
        (0xf867_6be0, [0, 0, 0, 1]), // ldr x0, [sp, x7]
        (0x5800_0040, [1, 0, 0, 0]), // ldr x0, of a constant
        (0x889f_fc20, [0, 1, 0, 0]), // stlr w0, [x1]
        (0xc800_fc41, [0, 1, 0, 0]), // stlxr w0, x1, [x2]
        (0xc85f_fc20, [1, 0, 0, 0]), // ldaxr x0, [x1]
        (0xc8e0_fc41, [1, 1, 0, 0]), // casal x0, x1, [x2]
        (0xb8e0_0041, [1, 1, 0, 0]), // ldaddal w0, w1, [x2]
        (0x4cdf_a000, [1, 0, 0, 0]), // ld1 {v0.16b, v1.16b}, [x0], #32
        (0x0d00_9000, [0, 1, 0, 0]), // st1 {v0.s}[1], [x0]
        (0xf980_0400, [0, 0, 0, 0]), // prfm pldl1keep, [x0, #8]
        (0x1000_0000, [0, 0, 0, 0]), // adr x0, .
        (0x9100_43e0, [0, 0, 0, 0]), // add x0, sp, #16
        (0x9400_0000, [0, 0, 0, 0]), // bl .
    ] {
        let facts = one(word).facts;
        let found = [facts.loads, facts.stores, facts.spills, facts.reloads].map(u64::from);
        assert_eq!(found, [loads, stores, spills, reloads], "{word:08x}");
    }
    // x28 is of the stack only where Winch says so: str x28, [sp, #-16]!; mov x28, sp; ldr x0, [x28]; ret
    let [load, ret] = [0xf940_0380, 0xd65f_03c0];
    let winch = code(&[SETS_SHADOW[0], SETS_SHADOW[1], load, ret]).metrics;
    assert_eq!((winch.loads, winch.reloads, winch.spills), (0, 1, 1));
    let other = code(&[SETS_SHADOW[0], load, ret]).metrics;
    assert_eq!((other.loads, other.reloads, other.spills), (1, 0, 1));
}

fn set(registers: &[u8]) -> Registers {
    registers.iter().fold(Registers::default(), |all, register| all.with(Registers::one(*register)))
}

/// The number of a vector register in sets.
const fn v(number: u8) -> u8 {
    VECTORS + number
}

#[test]
fn registers_that_are_read_and_written() {
    const NONE: &[u8] = &[];
    // Read, written, and of the written ones those of which nothing is left.
    for (word, reads, writes, kills) in [
        (0x8b02_0c20, &[1, 2][..], &[0][..], &[0][..]), // add x0, x1, x2, lsl #3
        (0x8b22_4820, &[1, 2], &[0], &[0]),             // add x0, x1, w2, uxtw #2
        (0x9b02_0c20, &[1, 2, 3], &[0], &[0]),          // madd x0, x1, x2, x3
        (0xaa1f_03e0, NONE, &[0], &[0]),                // mov x0, xzr
        (0x9100_039f, &[28], &[SP], &[SP]),             // mov sp, x28
        (0xf2a0_0020, &[0], &[0], NONE),                // movk x0, #1, lsl #16
        (0xb37d_0c20, &[0, 1], &[0], NONE),             // bfi x0, x1, #3, #4
        (0x7100_001f, &[0], NONE, NONE),                // cmp w0, #0
        (0x7a41_0880, &[4], NONE, NONE),                // ccmp w4, #1, #0, eq
        (0x1a9f_07e0, NONE, &[0], &[0]),                // cset w0, ne
        (0x9a82_0020, &[1, 2], &[0], &[0]),             // csel x0, x1, x2, eq
        (0x3600_0000, &[0], NONE, NONE),                // tbz w0, #0, .
        (0xa9bf_7bfd, &[29, 30, SP], &[SP], NONE),      // stp x29, x30, [sp, #-16]!
        (0xa8c1_7bfd, &[SP], &[29, 30, SP], &[29, 30]), // ldp x29, x30, [sp], #16
        (0x6940_0440, &[2], &[0, 1], &[0, 1]),          // ldpsw x0, x1, [x2]
        (0xfc62_7820, &[1, 2], &[v(0)], &[v(0)]),       // ldr d0, [x1, x2, lsl #3]
        (0x4cc3_a000, &[0, 3], &[0, v(0), v(1)], &[v(0), v(1)]), // ld1 {v0.16b, v1.16b}, [x0], x3
        (0x0d40_9000, &[0, v(0)], &[v(0)], NONE),       // ld1 {v0.s}[1], [x0]
        (0x0d00_9000, &[0, v(0)], NONE, NONE),          // st1 {v0.s}[1], [x0]
        (0x4820_7c82, &[0, 1, 2, 3, 4], &[0, 1], NONE), // casp x0, x1, x2, x3, [x4]
        (0xc8e0_fc41, &[0, 1, 2], &[0], NONE),          // casal x0, x1, [x2]
        (0xb8e0_0041, &[0, 2], &[1], &[1]),             // ldaddal w0, w1, [x2]
        (0xb820_005f, &[0, 2], NONE, NONE),             // stadd w0, [x2]
        (0xc820_0c41, &[1, 2, 3], &[0], &[0]),          // stxp w0, x1, x3, [x2]
        (0xf980_0400, &[0], NONE, NONE),                // prfm pldl1keep, [x0, #8]
        (0x9e66_0020, &[v(1)], &[0], &[0]),             // fmov x0, d1
        (0x9eaf_0020, &[1, v(0)], &[v(0)], NONE),       // fmov v0.d[1], x1
        (0x4e0c_1c60, &[3, v(0)], &[v(0)], NONE),       // mov v0.s[1], w3
        (0x4e03_2020, &[v(1), v(2), v(3)], &[v(0)], &[v(0)]), // tbl v0.16b, {v1.16b, v2.16b}, v3.16b
        (0x4f00_1420, &[v(0)], &[v(0)], NONE),          // orr v0.4s, #1
        (0x4e62_cc20, &[v(0), v(1), v(2)], &[v(0)], NONE), // fmla v0.2d, v1.2d, v2.2d
        (0x0e21_2820, &[v(1)], &[v(0)], &[v(0)]),       // xtn v0.8b, v1.8h
        (0x4e21_2820, &[v(0), v(1)], &[v(0)], NONE),    // xtn2 v0.16b, v1.8h
        (0x6e62_1c20, &[v(0), v(1), v(2)], &[v(0)], NONE), // bsl v0.16b, v1.16b, v2.16b
        (0x1e61_2000, &[v(0), v(1)], NONE, NONE),       // fcmp d0, d1
        (0xd51b_d040, &[0], NONE, NONE),                // msr tpidr_el0, x0
        (0xd53b_d040, NONE, &[0], &[0]),                // mrs x0, tpidr_el0
        (0xd50b_7420, &[0], NONE, NONE),                // dc zva, x0
        (0xd52d_3051, NONE, &[17], &[17]),              // sysl x17, #5, C3, C0, #2
        (0x9400_0000, NONE, &[30], &[30]),              // bl .
        (0xd63f_0000, &[0], &[30], &[30]),              // blr x0
        (0xd65f_03c0, &[30], NONE, NONE),               // ret
        (0xd503_233f, &[16, 17, 30], &[16, 17, 30], NONE), // paciasp
        (0xd503_201f, NONE, NONE, NONE),                // nop
    ] {
        let facts = one(word).facts;
        let found = (facts.reads, facts.writes, facts.kills);
        assert_eq!(found, (set(reads), set(writes), set(kills)), "{}", one(word).text);
    }
}

#[test]
fn where_control_goes() {
    for (word, flow, class) in [
        (0x1400_0000, Flow::Jump(Some(0)), Class::Branch),   // b .
        (0x1400_0001, Flow::Jump(None), Class::Branch),      // b out of the function
        (0x5400_000e, Flow::Jump(Some(0)), Class::Branch),   // b.al .
        (0x5400_0001, Flow::Branch(Some(0)), Class::Branch), // b.ne .
        (0xb708_0000, Flow::Branch(Some(0)), Class::Branch), // tbnz x0, #33, .
        (0x3400_0020, Flow::Branch(None), Class::Branch),    // cbz w0 out of the function
        (0xd61f_0000, Flow::Indirect, Class::Branch),        // br x0
        (0x9400_0000, Flow::Call, Class::Call),              // bl .
        (0xd63f_0000, Flow::Call, Class::Call),              // blr x0
        (0xd65f_03c0, Flow::Out, Class::Call),               // ret
        (0xd65f_0bff, Flow::Out, Class::Call),               // retaa
        (0x0000_c11f, Flow::Out, Class::Trap),               // udf, as Wasmtime's compilers trap
        (0xd420_0020, Flow::Out, Class::Trap),               // brk #1
        (0xd503_201f, Flow::Next, Class::Compute),           // nop
        (0xaa01_03e0, Flow::Next, Class::Move),              // mov x0, x1
    ] {
        let found = one(word);
        assert_eq!((found.flow, found.class), (flow, class), "{}", found.text);
    }
    for word in [0xffff_ffff, 0x3333_3333, 0xedb8_8320, 0xa400_a020] {
        assert!(Arm64::new(&bytes(&[word]), &|_| None).decode(0).is_none(), "{word:08x}");
    }
    let code = bytes(&[0xd65f_03c0]);
    let decoder = Arm64::new(&code, &|_| None);
    assert!([1, 2, 4, u32::MAX].iter().all(|offset| decoder.decode(*offset).is_none()));
    assert!(Arm64::new(&code[..3], &|_| None).decode(0).is_none());
}

/// `of` gives `expected` for the words and a `ret`.
#[track_caller]
fn check(of: fn(&Metrics) -> u64, words: &[u32], expected: u64) {
    let function = code(&[words, &[0xd65f_03c0]].concat());
    let text: Vec<&str> = function.lines.iter().map(|line| line.text.as_str()).collect();
    assert_eq!(of(&function.metrics), expected, "{text:#?}");
}

const NOP: u32 = 0xd503_201f;
const MOV_X0_0: u32 = 0xd280_0000;
const MOV_W0_W1: u32 = 0x2a01_03e0;
const MOV_X0_X1: u32 = 0xaa01_03e0;
const ADD_X2_X2_X0: u32 = 0x8b00_0042;
const ADD_W2_W2_W0: u32 = 0x0b00_0042;

#[test]
fn a_copy_for_nothing() {
    let redundant = |m: &Metrics| m.redundant_moves;
    check(redundant, &[MOV_X0_X1, ADD_X2_X2_X0, MOV_X0_0], 1);
    // The function may return it.
    check(redundant, &[MOV_X0_X1, ADD_X2_X2_X0], 0);
    // The copy has cleared the upper half, which is read; or not.
    check(redundant, &[MOV_W0_W1, ADD_X2_X2_X0, MOV_X0_0], 0);
    check(redundant, &[MOV_W0_W1, ADD_W2_W2_W0, MOV_X0_0], 1);
    // mov x1, #0: the source is gone.
    check(redundant, &[MOV_X0_X1, 0xd280_0001, ADD_X2_X2_X0, MOV_X0_0], 0);
    // movk x0, #1, lsl #16 needs a register of its own; so does ldr x2, [x0], #8.
    check(redundant, &[MOV_X0_X1, 0xf2a0_0020, MOV_X0_0], 0);
    check(redundant, &[MOV_X0_X1, 0xf840_8402, MOV_X0_0], 0);
    // ldr x2, [x0, #8]
    check(redundant, &[MOV_X0_X1, 0xf940_0402, MOV_X0_0], 1);
    // bl: it may read the register.
    check(redundant, &[MOV_X0_X1, 0x9400_0004, MOV_X0_0], 0);
    // mov x29, sp; mov x29, #0
    check(redundant, &[0x9100_03fd, 0xd280_001d], 0);
    // fmov d0, d1; then fadd d2, d2, d0, or fadd v2.2d, v2.2d, v0.2d, which reads what the copy cleared; movi v0.2d, #0
    check(redundant, &[0x1e60_4020, 0x1e60_2842, 0x6f00_e400], 1);
    check(redundant, &[0x1e60_4020, 0x4e60_d442, 0x6f00_e400], 0);
    // mov v0.16b, v1.16b; the same addition; movi v0.2d, #0
    check(redundant, &[0x4ea1_1c20, 0x4e60_d442, 0x6f00_e400], 1);
    // fmov s0, s1; fadd d2, d2, d0; movi v0.2d, #0
    check(redundant, &[0x1e20_4020, 0x1e60_2842, 0x6f00_e400], 0);
    // mov w0, w0: after ldr w0, [x1]; after ldr x0, [x1]; and after nothing.
    check(redundant, &[0xb940_0020, 0x2a00_03e0], 1);
    check(redundant, &[0xf940_0020, 0x2a00_03e0], 0);
    check(redundant, &[0x2a00_03e0], 0);
    // A move: mov sp, x28; add x0, x1, #0. None: mov x0, xzr; fmov x0, d1; mov x0, #0; orr x0, x1, x2; mov d0, v1.d[0]
    check(|m| m.moves, &[0x9100_039f, 0x9100_0020], 2);
    check(|m| m.moves, &[0xaa1f_03e0, 0x9e66_0020, MOV_X0_0, 0xaa02_0020, 0x5e08_0420], 0);
}

#[test]
fn a_truth_value_that_is_tested_again() {
    let chains = |m: &Metrics| m.set_and_test_chains;
    const CMP_W1_W2: u32 = 0x6b02_003f;
    const CSET_W0_NE: u32 = 0x1a9f_07e0;
    const CBNZ_W0: u32 = 0x3500_0040; // Over the `nop` behind it.
    check(chains, &[CMP_W1_W2, CSET_W0_NE, CBNZ_W0, NOP], 1);
    // cbz w0; tbnz w0, #0
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x3400_0040, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x3700_0040, NOP], 1);
    // tbnz w0, #1: of a truth value, that bit says nothing.
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x3708_0040, NOP], 0);
    // cmp w0, #0; b.ne. tst w0, w0; b.eq. tst w0, #1; b.ne. cmp w0, #0; b.gt
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x7100_001f, 0x5400_0041, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x6a00_001f, 0x5400_0040, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x7200_001f, 0x5400_0041, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x7100_001f, 0x5400_004c, NOP], 0);
    // cmp w0, #1; b.eq
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x7100_041f, 0x5400_0040, NOP], 0);
    // uxtb w0, w0; and w0, w0, #1; mov w3, w0 and cbnz w3
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x5300_1c00, CBNZ_W0, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x1200_0000, CBNZ_W0, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, 0x2a00_03e3, 0x3500_0043, NOP], 1);
    check(chains, &[CMP_W1_W2, CSET_W0_NE, MOV_X0_0, CBNZ_W0, NOP], 0);
    check(chains, &[CMP_W1_W2, 0x5400_0041, NOP], 0);
    // csel w0, w1, w2, eq
    check(chains, &[CMP_W1_W2, 0x1a82_0020, CBNZ_W0, NOP], 0);
    let marks: Vec<usize> = code(&[CMP_W1_W2, CSET_W0_NE, CBNZ_W0, NOP, 0xd65f_03c0])
        .lines
        .iter()
        .map(|line| line.marks.iter().filter(|mark| **mark == Mark::SetAndTest).count())
        .collect();
    assert_eq!(marks, [0, 1, 1, 0, 0]);
}

#[test]
fn a_poll_without_a_map_is_found_by_its_flag() {
    // ldr w0, [x28, #0x40]; cbz w0 over udf; udf; ldr w0, [x28, #0x48]; ret
    let words = [0xb940_4380, 0x3400_0040, 0x0000_00c1, 0xb940_4b80, 0xd65f_03c0];
    let bytes = bytes(&words);
    let code = Code { flag: Some(Flag { register: 28, displacement: 0x40 }), ..code_of(&bytes) };
    let function = read(&code, &SourceFunction::default());
    let polls: Vec<bool> = function.lines.iter().map(|line| line.is_poll).collect();
    assert_eq!(polls, [true, true, true, false, false]);
    assert_eq!((function.metrics.poll_instructions, function.metrics.trap_checks), (3, 0));
}

/// As Singlepass writes it: the jump on the condition skips another one, which a distance of any length fits.
#[test]
fn a_poll_that_jumps_over_a_jump_is_found() {
    // ldr x8, [x28, #16]; mov x9, x8; cmp w9, #0; b.ne to the second ldr; b to ret;
    // ldr x27, [x28, #128]; sub sp, sp, #0; mov x0, #9; blr x27, which does not return; ret
    let words = [
        0xf940_0b88,
        0xaa08_03e9,
        0x7100_013f,
        0x5400_0041,
        0x1400_0005,
        0xf940_439b,
        0xd100_03ff,
        0xd280_0120,
        0xd63f_0360,
        0xd65f_03c0,
    ];
    let bytes = bytes(&words);
    let code = Code { flag: Some(Flag { register: 28, displacement: 16 }), ..code_of(&bytes) };
    let polls =
        |code: &Code<'_>| read(code, &SourceFunction::default()).lines.iter().filter(|line| line.is_poll).count();
    assert_eq!(polls(&code), 9);
    // If what it leads to goes on elsewhere, it is no `unreachable`: in place of the call, b to the first instruction.
    let goes_on = [&bytes[..32], &0x17ff_fff8_u32.to_le_bytes(), &bytes[36..]].concat();
    assert_eq!(polls(&Code { bytes: &goes_on[..], ..code }), 4);
}

/// Whatever the words are, the result is consistent, and there is one.
#[test]
fn any_words_can_be_read() {
    use rand::{RngExt as _, SeedableRng as _};
    let mut random = rand_pcg::Pcg64Mcg::seed_from_u64(11);
    for round in 0..5000 {
        let length = random.random_range(0..60);
        let mut words: Vec<u32> = (0..length).map(|_| random.random()).collect();
        // Half of the rounds have many short jumps, so that there are loops.
        if round % 2 == 0 {
            for word in words.iter_mut().step_by(3) {
                *word = 0x3500_0000 | (*word & 0x00ff_ffff).wrapping_mul(0x20) & 0x1e0 | *word & 31;
            }
        }
        let function = code(&words);
        assert_eq!(function.lines.len() as u64, function.metrics.instructions, "{words:x?}");
        assert!(function.lines.is_sorted_by_key(|line| line.offset), "{words:x?}");
        assert!(function.data_bytes as usize <= 4 * words.len());
    }
}

/// The function `sum` of functions.wat by Cranelift, with the map that Wasmtime would give: its poll is a load, a jump and
/// the trap at its end.
#[test]
fn a_poll_with_a_map_and_what_is_said_of_it() {
    use crate::comparison::{Comparison, Given};
    use crate::function::Origin;
    use crate::overview::Overview;
    use crate::render::text::Layout;
    use crate::render::{html, text};
    use crate::wasm::Source;

    let source = Source::of(&wat::parse_str(include_str!("functions.wat")).unwrap()).unwrap();
    let index = source.find("sum").unwrap();
    let operators = source.function(index).unwrap().operators;
    let flag = operators.iter().find(|operator| operator.text.starts_with("global.get")).unwrap().offset;
    let load = operators.iter().find(|operator| operator.text.starts_with("i32.load")).unwrap().offset;
    let origins =
        [(0, Origin::None), (0x18, Origin::Poll(flag)), (0x20, Origin::Operator(load)), (0x3c, Origin::Poll(flag))];
    let (_, lines) = functions(LISTINGS[1]).into_iter().find(|(name, _)| *name == "sum").unwrap();
    let bytes = bytes(&lines.iter().map(|line| line.word).collect::<Vec<_>>());
    let code = Code { origins: Some(&origins), ..code_of(&bytes) };
    let given = Given { engine: "engine".to_owned(), version: "1".to_owned(), code };
    let comparison = Comparison::of(&source, "m", index, true, &[given], Vec::new(), None).unwrap();
    let column = &comparison.engines[0];
    assert_eq!((column.code.metrics.poll_instructions, column.code.metrics.trap_checks), (3, 0));
    assert_eq!(column.code_loop(0).map(|found| (found.head, found.metrics.poll_instructions)), Some((0x18, 2)));

    let applies: Vec<bool> = column.criticisms.iter().map(|criticism| criticism.applies).collect();
    assert_eq!(applies, [false, true, false, true, true]);
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["engines"][0]["architecture"], "aarch64");
    let shown = text::comparison(&comparison, Layout { width: 100, colours: false });
    assert!(shown.contains("REX prefixes that change nothing: does not apply: AArch64 has no prefixes"), "{shown}");
    assert!(shown.contains("does not apply: AArch64 computes with registers and constants alone"), "{shown}");
    assert_eq!(html::comparison(&comparison).matches(r#"<td class="apart">does not apply: "#).count(), 2);

    let mut overview = Overview::new(&source, "m", true, Vec::new());
    let read = crate::function::read(&code_of(&bytes), &SourceFunction::default());
    overview.add("engine", "1", std::iter::once(Ok::<_, ()>(read))).unwrap();
    assert_eq!(overview.engines[0].architecture, Some(Architecture::Aarch64));
    assert_eq!(overview.engines[0].criticisms.iter().filter(|criticism| !criticism.applies).count(), 2);
}
