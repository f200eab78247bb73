//! Machine code of WebAssembly functions: read, counted, set side by side, and shown.
//!
//! [`wasm`] is the source: a module's functions, their names, loops and operators. [`function`] reads what one engine
//! made of a function: it decodes what control can reach, finds the loops, and counts ([`metrics`]). [`comparison`] sets
//! several engines' code side by side and says what follows from the counts; [`overview`] does so for a whole module.
//! [`render`] shows both. Nothing here runs code, reads files, or knows an engine.
#![forbid(unsafe_code)]

mod arm64;
pub mod comparison;
pub mod counting;
mod flow;
pub mod function;
mod judge;
mod machine;
pub mod metrics;
pub mod overview;
pub mod render;
pub mod wasm;
mod x86;

pub use machine::{Architecture, Class};

/// The instructions of a straight run of machine code, as text. It ends where the bytes mean nothing. Where a jump leads is given
/// as the distance from the first byte, in bytes.
#[must_use]
pub fn disassemble(architecture: Architecture, code: &[u8]) -> Vec<String> {
    let distance = |distance: i64| {
        let sign = if distance < 0 { "-" } else { "" };
        Some(format!("{sign}{:#x}", distance.unsigned_abs()))
    };
    let mut decode: Box<dyn FnMut(u32) -> Option<machine::Instruction> + '_> = match architecture {
        Architecture::X86_64 => {
            let mut decoder = x86::X86::new(code, &distance);
            Box::new(move |at| decoder.decode(at))
        }
        Architecture::Aarch64 => {
            let decoder = arm64::Arm64::new(code, &distance);
            Box::new(move |at| decoder.decode(at))
        }
    };
    let mut at = 0;
    std::iter::from_fn(|| {
        let instruction = decode(at)?;
        at += u32::from(instruction.length);
        Some(instruction.text)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn straight_code_is_shown_with_its_jumps() {
        // add eax, 1; cmp eax, ecx; jne -7; je +0x10; then a byte that begins nothing.
        let x86 = [0x83, 0xc0, 0x01, 0x39, 0xc8, 0x75, 0xf9, 0x74, 0x10, 0x06];
        assert_eq!(disassemble(Architecture::X86_64, &x86), ["add eax, 1", "cmp eax, ecx", "jne 0x0", "je 0x19"]);
        // add w0, w0, #1; b.ne to 8 bytes before the first
        let arm: Vec<u8> = [0x1100_0400_u32, 0x54ff_ffa1].into_iter().flat_map(u32::to_le_bytes).collect();
        assert_eq!(disassemble(Architecture::Aarch64, &arm), ["add w0, w0, #0x1", "b.ne -0x8"]);
    }
}
