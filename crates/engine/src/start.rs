//! Turning a module's start function into an export, for engines that can stop a call but not an instantiation.

use std::borrow::Cow;

use wasm_encoder::reencode::{Error, RoundtripReencoder, utils};
use wasm_encoder::{ExportKind, ExportSection, RawSection};
use wasmparser::{Parser, Payload};

/// The export that calls the start function. WebAssembly allows any name; this one no toolchain makes.
pub(crate) const EXPORT: &str = "\u{0}remuda start";

/// Returns `module` with its start section, if it has one, replaced by an export named [`EXPORT`].
///
/// # Errors
///
/// Returns an error if the module cannot be read, or cannot be written anew.
pub(crate) fn start_as_export(module: &[u8]) -> Result<Cow<'_, [u8]>, Error> {
    let mut start = None;
    let mut has_exports = false;
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::StartSection { func, .. } => start = Some(func),
            Payload::ExportSection(_) => has_exports = true,
            _ => {}
        }
    }
    let Some(start) = start else { return Ok(Cow::Borrowed(module)) };
    let mut rewritten = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::ExportSection(section) => {
                let mut exports = ExportSection::new();
                utils::parse_export_section(&mut RoundtripReencoder, &mut exports, section)?;
                exports.export(EXPORT, ExportKind::Func, start);
                rewritten.section(&exports);
            }
            // The export section comes right before the start section, so a new one belongs here.
            Payload::StartSection { .. } if !has_exports => {
                rewritten.section(ExportSection::new().export(EXPORT, ExportKind::Func, start));
            }
            Payload::StartSection { .. } => {}
            other => {
                if let Some((id, range)) = other.as_section() {
                    rewritten.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(Cow::Owned(rewritten.finish()))
}

#[cfg(test)]
mod tests {
    use remuda_model::ModuleLimits;

    use super::*;
    use crate::Module;

    #[test]
    fn start_becomes_an_export_and_the_rest_stays() {
        for (text, exports) in [
            (r#"(module (func $f) (start $f))"#, 1),
            (
                r#"(module (func $f) (func (export "g")) (memory (export "memory") 1) (start $f) (data (i32.const 0) "x"))"#,
                3,
            ),
        ] {
            let bytes = start_as_export(&wat::parse_str(text).unwrap()).unwrap().into_owned();
            let rewritten = Module::parse(bytes, &ModuleLimits::default()).unwrap();
            assert!(!rewritten.has_start(), "{text}");
            assert!(rewritten.function(EXPORT).is_some(), "{text}");
            let count = Parser::new(0).parse_all(rewritten.bytes()).find_map(|payload| match payload.unwrap() {
                Payload::ExportSection(section) => Some(section.count()),
                _ => None,
            });
            assert_eq!(count, Some(exports), "{text}");
        }
    }

    #[test]
    fn a_module_without_start_is_left_alone() {
        let module = wat::parse_str("(module (func))").unwrap();
        assert!(matches!(start_as_export(&module).unwrap(), Cow::Borrowed(_)));
    }
}
