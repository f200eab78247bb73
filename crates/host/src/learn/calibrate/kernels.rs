//! What is compiled and run to measure an engine: modules of the suite, and kernels made for this.

use remuda_engine::{Module, Point};
use remuda_model::ModuleLimits;

/// A piece of work: an exported function of the kernels' module.
pub(super) struct Kernel {
    /// The name of its export.
    pub(super) export: &'static str,
    /// Its argument, which says how much work that is: some 10 ms on an interpreter.
    pub(super) argument: i32,
    /// The value that it returns.
    pub(super) answer: i64,
}

pub(super) const KERNELS: &[Kernel] = &[
    Kernel { export: "hash", argument: 60_000, answer: -8_260_241_621_083_508_973 },
    Kernel { export: "matmul", argument: 48, answer: 774_192 },
    Kernel { export: "calls", argument: 21, answer: 10_946 },
    Kernel { export: "traffic", argument: 65_536, answer: 35_888_059_538_735_104 },
    Kernel { export: "branches", argument: 100_000, answer: 3_760_555_952 },
];

/// The modules that are compiled and loaded, in ascending order of size. They come from the suite, because compilers
/// take two to four times as long for a byte of the kernels, which are all short functions and loops, as for a byte of
/// what toolchains emit.
const MATERIALS: [&[u8]; 4] = [
    include_bytes!("../../../../../guests/hello/hello.wasm"),
    include_bytes!("../../../../../guests/json/json.wasm"),
    include_bytes!("../../../../../guests/unzip/unzip.wasm"),
    include_bytes!("../../../../../guests/attitude/attitude.wasm"),
];

/// Modules to be compiled and loaded, in ascending order of size.
pub(super) fn materials() -> Vec<Module> {
    MATERIALS.into_iter().map(parse).collect()
}

/// The number of places that are measured at which guests go on in parts, from those with the least code to those with
/// the most.
const PARTS: usize = 8;

/// Places in these modules at which guests go on in parts, in ascending order of the bytes of code that are compiled
/// for them. There are none if no engine of this build makes parts.
pub(super) fn parts<'a>(modules: impl IntoIterator<Item = &'a Module>) -> Vec<(Module, Point, u64)> {
    let mut parts = Vec::new();
    for module in modules {
        for point in module.points() {
            if let Some(code_bytes) = module.part_code_bytes(&[point]) {
                parts.push((module.clone(), point, code_bytes));
            }
        }
    }
    parts.sort_by_key(|(_, point, code_bytes)| (*code_bytes, *point));
    parts.dedup_by_key(|(.., code_bytes)| *code_bytes);
    let step = parts.len().saturating_sub(1) / (PARTS - 1);
    parts.into_iter().step_by(step.max(1)).take(PARTS).collect()
}

/// The module with all kernels.
pub(super) fn kernels() -> Module {
    parse(&assemble(include_str!("kernels.wat")))
}

/// A WASI command that does nothing.
pub(super) fn noop() -> Module {
    parse(&assemble("(memory (export \"memory\") 1) (func (export \"_start\"))"))
}

fn assemble(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the text is part of the program, and a test assembles it")
}

fn parse(bytes: &[u8]) -> Module {
    Module::parse(bytes.to_vec(), &ModuleLimits::default()).expect("it is part of the program, and a test parses it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_can_be_used() {
        let code_bytes: Vec<u64> = materials().iter().map(|module| module.stats().code_bytes).collect();
        assert!(code_bytes.is_sorted() && code_bytes[3] > 10 * code_bytes[0], "{code_bytes:?}");
        assert!(noop().is_command());
        let kernels = kernels();
        assert!(KERNELS.iter().all(|kernel| kernels.function(kernel.export).is_some()));
    }

    /// Does the same work in Rust, as the compiler that made this test compiles it.
    #[test]
    fn the_answers_are_right() {
        for kernel in KERNELS {
            let argument = u32::try_from(kernel.argument).unwrap();
            let answer = match kernel.export {
                "hash" => hash(argument),
                "matmul" => matmul(argument),
                "calls" => fibonacci(argument).into(),
                "traffic" => traffic(argument),
                "branches" => branches(argument),
                other => panic!("{other} has no twin"),
            };
            assert_eq!(kernel.answer, answer.cast_signed(), "{}", kernel.export);
        }
    }

    fn hash(rounds: u32) -> u64 {
        let lane = |factor: u64| {
            (1..=rounds).rev().fold(0u64, |state, round| {
                let mixed = (state ^ u64::from(round)).wrapping_mul(factor);
                mixed ^ (mixed >> 29)
            })
        };
        [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53, 0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9]
            .into_iter()
            .fold(0, |all, factor| all ^ lane(factor))
    }

    fn matmul(n: u32) -> u64 {
        let product = |i: u32, j: u32| (0..n).map(|k| u64::from(((i * n + k) & 7) * ((k * n + j) % 5))).sum::<u64>();
        (0..n).flat_map(|i| (0..n).map(move |j| (i, j))).map(|(i, j)| product(i, j)).sum()
    }

    fn fibonacci(n: u32) -> u32 {
        (0..n).fold((0, 1), |(a, b), _| (b, a + b)).0
    }

    fn traffic(words: u32) -> u64 {
        (0..words).rev().fold(0u64, |sum, word| {
            let at = word * 8;
            sum.wrapping_add(u64::from(at & 0xff) | u64::from((at >> 3) & 0xff) << 32)
        })
    }

    fn branches(steps: u32) -> u64 {
        let (mut drive, mut state, mut count) = (12_345u32, 0u32, 0u64);
        for _ in 0..steps {
            drive = drive.wrapping_add(0x5_0003);
            match state {
                0 => state = (drive >> 16) & 3,
                1 if drive & 0x10_0000 != 0 => state = 3,
                1 => count = count.wrapping_add(1),
                2 => {
                    count ^= u64::from(drive);
                    state = u32::from(drive.cast_signed() <= 0);
                }
                _ if ((drive >> 16) & 255) < 60 => {
                    count = count.wrapping_add(3);
                    state = 2;
                }
                _ => state = (drive >> 20) & 1,
            }
        }
        count.wrapping_add(state.into())
    }
}
