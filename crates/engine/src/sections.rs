//! A module as the raw bytes of its sections, for rewriting that adds to sections and leaves their entries as they are.

use wasm_encoder::reencode::{Reencode as _, RoundtripReencoder};
use wasm_encoder::{Encode, Module, RawSection, ValType};
use wasmparser::{BinaryReader, Parser, Payload, Result};

/// The identifiers of sections, in the order in which sections appear in a module.
pub(crate) mod id {
    pub(crate) const TYPE: u8 = 1;
    pub(crate) const IMPORT: u8 = 2;
    pub(crate) const FUNCTION: u8 = 3;
    pub(crate) const TABLE: u8 = 4;
    pub(crate) const MEMORY: u8 = 5;
    pub(crate) const GLOBAL: u8 = 6;
    pub(crate) const EXPORT: u8 = 7;
    pub(crate) const START: u8 = 8;
    pub(crate) const ELEMENT: u8 = 9;
    pub(crate) const DATA_COUNT: u8 = 12;
    pub(crate) const CODE: u8 = 10;
    pub(crate) const DATA: u8 = 11;
    pub(crate) const ORDER: [u8; 12] =
        [TYPE, IMPORT, FUNCTION, TABLE, MEMORY, GLOBAL, EXPORT, START, ELEMENT, DATA_COUNT, CODE, DATA];
}

/// The sections of a valid module, except custom sections and the section of tags.
pub(crate) struct Sections<'a> {
    found: [Option<&'a [u8]>; 13],
}

impl<'a> Sections<'a> {
    pub(crate) fn of(module: &'a [u8]) -> Result<Self> {
        let mut found = [None; 13];
        for payload in Parser::new(0).parse_all(module) {
            let payload = payload?;
            if let Some((section, range)) = payload.as_section()
                && !matches!(payload, Payload::CustomSection(_))
                && let Some(slot) = found.get_mut(section as usize)
            {
                *slot = Some(&module[range]);
            }
        }
        Ok(Self { found })
    }

    pub(crate) fn get(&self, section: u8) -> Option<&'a [u8]> {
        self.found[section as usize]
    }

    /// The number of entries that a section has.
    pub(crate) fn count(&self, section: u8) -> Result<u32> {
        self.get(section).map_or(Ok(0), |bytes| BinaryReader::new(bytes, 0).read_var_u32())
    }

    /// Returns a section with its own entries, and after them `more`, which are `count` entries.
    pub(crate) fn with(&self, section: u8, more: &[u8], count: u32) -> Result<Vec<u8>> {
        let mut whole = Vec::new();
        let (old_count, old) = match self.get(section) {
            None => (0, &[][..]),
            Some(bytes) => {
                let mut reader = BinaryReader::new(bytes, 0);
                (reader.read_var_u32()?, &bytes[reader.original_position()..])
            }
        };
        (old_count + count).encode(&mut whole);
        whole.extend_from_slice(old);
        whole.extend_from_slice(more);
        Ok(whole)
    }
}

/// Entries for one section.
#[derive(Default)]
pub(crate) struct Entries {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: u32,
}

impl Entries {
    /// Adds one entry, which `write` writes.
    pub(crate) fn add(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.count += 1;
    }

    /// Adds the type of a function to a section of types.
    pub(crate) fn function_type(&mut self, params: &[ValType], results: &[ValType]) {
        self.add(|out| {
            out.push(0x60);
            params.encode(out);
            results.encode(out);
        });
    }

    /// Adds the body of a function, without its length, to a section of code.
    pub(crate) fn body(&mut self, body: &[u8]) {
        self.add(|out| body.encode(out));
    }

    pub(crate) fn export(&mut self, name: &str, kind: wasm_encoder::ExportKind, index: u32) {
        self.add(|out| {
            name.encode(out);
            kind.encode(out);
            index.encode(out);
        });
    }

    /// The section with these entries alone; `None` if there are none.
    pub(crate) fn section(&self) -> Option<Vec<u8>> {
        (self.count > 0).then(|| {
            let mut whole = Vec::with_capacity(self.bytes.len() + 5);
            self.count.encode(&mut whole);
            whole.extend_from_slice(&self.bytes);
            whole
        })
    }
}

pub(crate) fn push_section(module: &mut Module, section: u8, bytes: &[u8]) {
    module.section(&RawSection { id: section, data: bytes });
}

/// Value types for the encoder; references may be among them.
pub(crate) fn any_types(types: &[wasmparser::ValType]) -> Vec<ValType> {
    let written = |ty: &wasmparser::ValType| RoundtripReencoder.val_type(*ty);
    types.iter().map(written).collect::<Result<_, _>>().expect("a type that names no other can be written")
}
