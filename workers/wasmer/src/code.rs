//! The machine code in an artifact of Wasmer, to be looked at.

use remuda_worker::MachineCode;
use wasmer_types::entity::EntityRef as _;
use wasmer_types::{MetadataHeader, RelocationKind, RelocationTarget, SerializableModule};

/// What an artifact begins with: a name of Wasmer's, and a header that says how long the rest is.
const MAGIC: &[u8] = b"wasmer-universal";

/// The code of a serialized module.
pub(crate) fn of(artifact: &[u8]) -> Result<MachineCode, String> {
    let rest = artifact.strip_prefix(MAGIC).ok_or("the artifact is of another kind")?;
    let length = MetadataHeader::parse(rest).map_err(|error| error.to_string())?;
    let module =
        rest.get(MetadataHeader::LEN..).and_then(|rest| rest.get(..length)).ok_or("the artifact is cut off")?;
    // SAFETY: Wasmer has just serialized these bytes, and nothing in them is executed here.
    let module = unsafe { SerializableModule::deserialize(module) }.map_err(|error| error.to_string())?;
    let imported = module.compile_info.module.num_imported_functions;
    let compilation = module.compilation;
    let mut code = MachineCode::default();
    for (local, body) in &compilation.function_bodies {
        let start = code.text.len();
        code.text.extend_from_slice(&body.body);
        let index = u32::try_from(imported + local.index()).map_err(|error| error.to_string())?;
        code.functions.push((index, start..code.text.len()));
    }
    // Calls among these functions go where they lie here.
    for (from, relocations) in &compilation.function_relocations {
        for relocation in relocations {
            let is_relative = matches!(
                relocation.kind,
                RelocationKind::X86CallPCRel4 | RelocationKind::X86CallPLTRel4 | RelocationKind::X86PCRel4
            );
            let RelocationTarget::LocalFunc(to) = relocation.reloc_target else { continue };
            if !is_relative {
                continue;
            }
            let at = code.functions[from.index()].1.start + relocation.offset as usize;
            let to = code.functions[to.index()].1.start;
            let signed = |place: usize| i64::try_from(place).map_err(|error| error.to_string());
            let distance = (signed(to)? - signed(at)?).wrapping_add(relocation.addend);
            if let (Ok(distance), Some(field)) = (i32::try_from(distance), code.text.get_mut(at..at + 4)) {
                field.copy_from_slice(&distance.to_le_bytes());
            }
        }
    }
    Ok(code)
}
