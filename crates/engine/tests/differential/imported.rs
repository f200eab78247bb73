//! WASI functions as imports of a generated module.
//!
//! The module's own code does not call them. Functions that [`super::appended`] adds do, so that the imports read and
//! write the module's memory between calls of its own functions.

use std::convert::Infallible;

use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{Encode, Module};
use wasmparser::Parser;

use super::appended::{SECTION_IMPORT, SECTION_TYPE, Sections};
use super::random::Random;

/// The number of imports that a module gets.
const IMPORTS: u32 = 4;
pub(crate) const MODULE: &str = "wasi_snapshot_preview1";
/// Functions whose answers depend on nothing outside the guest, with their parameters: `i` is 32 bits wide, `I` is 64.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "iIIi"),
    ("fd_allocate", "iII"),
    ("fd_close", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_rights", "iII"),
    ("fd_pread", "iiiIi"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiiIi"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiiIi"),
    ("fd_renumber", "ii"),
    ("fd_seek", "iIii"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_filestat_set_times", "iiiiIIi"),
    ("path_open", "iiiiiIIii"),
    ("proc_exit", "i"),
    ("sched_yield", ""),
];

/// Adds imports to `module`, which has none.
pub(crate) fn with_wasi(module: &[u8], random: &mut Random) -> Vec<u8> {
    let mut shifted = Module::new();
    Shift.parse_core_module(&mut shifted, Parser::new(0), module).expect("wasm-smith is right");
    let mut sections = Sections::of(&shifted.finish());
    for _ in 0..IMPORTS {
        let (name, params) = random.pick(FUNCTIONS);
        let ty = sections.count(SECTION_TYPE);
        sections.append(SECTION_TYPE, &function_type(params, name != "proc_exit"));
        let mut import = Vec::new();
        MODULE.encode(&mut import);
        name.encode(&mut import);
        import.push(0);
        ty.encode(&mut import);
        sections.append(SECTION_IMPORT, &import);
    }
    sections.module()
}

fn function_type(params: &str, has_result: bool) -> Vec<u8> {
    let mut ty = vec![0x60];
    params.len().encode(&mut ty);
    ty.extend(params.chars().map(|param| if param == 'I' { 0x7e } else { 0x7f }));
    ty.extend(if has_result { &[1, 0x7f][..] } else { &[0] });
    ty
}

/// Renumbers functions to make room for the imports, which come first among the functions.
struct Shift;

impl Reencode for Shift {
    type Error = Infallible;

    fn function_index(&mut self, function: u32) -> Result<u32, Error<Infallible>> {
        Ok(function + IMPORTS)
    }
}
