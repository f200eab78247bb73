//! Keeping Wasmi 2.0.0 from a wrong translation of `select`.
//!
//! Where the condition is `i32.eqz` of a local (or `i32.eq` or `i32.ne` with 0), Wasmi drops the comparison and lets
//! the `select` test the register that it keeps temporary values in, as if the local were there
//! (`FuncTranslator::try_fuse_select`, the arms `I32Eq_Rsi` and `I32NotEq_Rsi`). An `i32.popcnt` between the two, which is
//! zero exactly for zero, leaves nothing to fuse.

use std::borrow::Cow;

use wasm_encoder::{CodeSection, RawSection};
use wasmparser::{FunctionBody, Operator, Parser, Payload};

const I32_POPCNT: u8 = 0x69;

/// `module` with an `i32.popcnt` before each `select` that Wasmi could translate wrongly.
///
/// # Errors
///
/// The module cannot be read.
pub(crate) fn guard_selects(module: &[u8]) -> Result<Cow<'_, [u8]>, wasmparser::Error> {
    let mut bodies = Vec::new();
    let mut places = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CodeSectionEntry(body) = payload? {
            find(&body, &mut places)?;
            bodies.push(body.range());
        }
    }
    if places.is_empty() {
        return Ok(Cow::Borrowed(module));
    }
    let mut code = CodeSection::new();
    let mut places = places.into_iter().peekable();
    for range in bodies {
        let mut body = Vec::with_capacity(range.len() + 16);
        let mut copied = range.start;
        while let Some(place) = places.next_if(|place| *place < range.end) {
            body.extend_from_slice(&module[copied..place]);
            body.push(I32_POPCNT);
            copied = place;
        }
        body.extend_from_slice(&module[copied..range.end]);
        code.raw(&body);
    }
    let mut guarded = wasm_encoder::Module::new();
    for payload in Parser::new(0).parse_all(module) {
        match payload? {
            Payload::CodeSectionStart { .. } => {
                guarded.section(&code);
            }
            other => {
                if let Some((id, range)) = other.as_section() {
                    guarded.section(&RawSection { id, data: &module[range] });
                }
            }
        }
    }
    Ok(Cow::Owned(guarded.finish()))
}

/// The places in the module before which there is to be a guard.
fn find(body: &FunctionBody<'_>, places: &mut Vec<usize>) -> Result<(), wasmparser::Error> {
    let mut operators = body.get_operators_reader()?;
    let mut compared = false;
    while !operators.eof() {
        let at = operators.original_position();
        compared = match operators.read()? {
            Operator::I32Eqz | Operator::I32Eq | Operator::I32Ne => true,
            // These make no instruction of their own that would stand between a comparison and a `select`.
            Operator::Nop
            | Operator::Block { .. }
            | Operator::End
            | Operator::Drop
            | Operator::LocalGet { .. }
            | Operator::GlobalGet { .. }
            | Operator::I32Const { .. }
            | Operator::I64Const { .. }
            | Operator::F32Const { .. }
            | Operator::F64Const { .. }
            | Operator::RefNull { .. } => compared,
            Operator::Select | Operator::TypedSelect { .. } | Operator::TypedSelectMulti { .. } => {
                if compared {
                    places.push(at);
                }
                false
            }
            _ => false,
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn popcnts(text: &str) -> usize {
        let module = wat::parse_str(text).unwrap();
        let guarded = guard_selects(&module).unwrap();
        wasmparser::Validator::new().validate_all(&guarded).unwrap();
        wasmprinter::print_bytes(&guarded).unwrap().matches("i32.popcnt").count()
    }

    #[test]
    fn only_selects_on_a_comparison_are_guarded() {
        for (condition, guards) in [
            ("(i32.eqz (local.get 0))", 1),
            ("(i32.eq (local.get 0) (i32.const 0))", 1),
            ("(i32.ne (local.get 0) (i32.const 0)) nop", 1),
            ("(local.get 0)", 0),
            ("(i32.lt_s (local.get 0) (i32.const 3))", 0),
            ("(i32.wrap_i64 (i64.extend_i32_u (i32.eqz (local.get 0))))", 0),
        ] {
            let function = format!("(func (param i32) (result i32) i32.const 1 i32.const 2 {condition} select)");
            let text = format!("(module (func) {function} (memory 1) {function} (data (i32.const 0) \"x\"))");
            assert_eq!(popcnts(&text), 2 * guards, "{condition}");
        }
    }
}
