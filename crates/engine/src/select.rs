//! Keeping Wasmi 2.0.0 from a wrong translation of `select`.
//!
//! Where the condition is `i32.eqz` of a local (or `i32.eq` or `i32.ne` with 0), Wasmi drops the comparison and lets
//! the `select` test the register that holds temporary values, as if the local were there
//! (`FuncTranslator::try_fuse_select`, the arms `I32Eq_Rsi` and `I32NotEq_Rsi`). An `i32.popcnt` between the comparison
//! and the `select` prevents this: its result is zero exactly if its operand is, and Wasmi finds nothing to fuse.

#[cfg(feature = "wasmi.lazy")]
pub(crate) use guard::{GUARD, guard_selects};
use wasmparser::Operator;

/// Finds, operator by operator, the `select`s that need a guard. The search is part of the pass that validates a module
/// anyway: a lazy interpreter exists to avoid reading all code once more at each start.
#[derive(Default)]
pub(crate) struct Selects {
    /// The offsets of these `select`s in the module, in ascending order.
    pub(crate) places: Vec<usize>,
    compared: bool,
}

impl Selects {
    /// Notes that a function begins.
    pub(crate) fn begin(&mut self) {
        self.compared = false;
    }

    /// Takes the function's next operator, which begins at the offset `at`, into account.
    pub(crate) fn next(&mut self, at: usize, operator: &Operator<'_>) {
        self.compared = match operator {
            Operator::I32Eqz | Operator::I32Eq | Operator::I32Ne => true,
            // Wasmi makes no instruction of these operators that would stand between a comparison and a `select`.
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
            | Operator::RefNull { .. } => self.compared,
            Operator::Select | Operator::TypedSelect { .. } | Operator::TypedSelectMulti { .. } => {
                if self.compared {
                    self.places.push(at);
                }
                false
            }
            _ => false,
        };
    }
}

#[cfg(feature = "wasmi.lazy")]
mod guard {
    use std::borrow::Cow;

    use wasm_encoder::{CodeSection, RawSection};
    use wasmparser::{Parser, Payload};

    use crate::Module;

    /// The guard, an `i32.popcnt`, as bytes to put before such a `select`.
    pub(crate) const GUARD: &[u8] = &[0x69];

    /// Returns `module` with an `i32.popcnt` before each `select` that Wasmi could translate wrongly.
    ///
    /// # Errors
    ///
    /// Returns an error if the module cannot be read.
    pub(crate) fn guard_selects(module: &Module) -> Result<Cow<'_, [u8]>, wasmparser::Error> {
        let (source, places) = (&module.bytes()[..], module.selects_on_zero());
        if places.is_empty() {
            return Ok(Cow::Borrowed(source));
        }
        let mut code = CodeSection::new();
        let mut places = places.iter().copied().peekable();
        let mut body = Vec::new();
        let mut bodies_left = 0;
        let mut guarded = wasm_encoder::Module::new();
        for payload in Parser::new(0).parse_all(source) {
            match payload? {
                Payload::CodeSectionStart { count, .. } => bodies_left = count,
                Payload::CodeSectionEntry(function) => {
                    let range = function.range();
                    body.clear();
                    let mut copied = range.start;
                    while let Some(place) = places.next_if(|place| *place < range.end) {
                        body.extend_from_slice(&source[copied..place]);
                        body.extend_from_slice(GUARD);
                        copied = place;
                    }
                    body.extend_from_slice(&source[copied..range.end]);
                    code.raw(&body);
                    bodies_left -= 1;
                    if bodies_left == 0 {
                        guarded.section(&code);
                    }
                }
                other => {
                    if let Some((id, range)) = other.as_section() {
                        guarded.section(&RawSection { id, data: &source[range] });
                    }
                }
            }
        }
        Ok(Cow::Owned(guarded.finish()))
    }
}

#[cfg(all(test, feature = "wasmi.lazy"))]
mod tests {
    use remuda_model::ModuleLimits;

    use super::guard_selects;
    use crate::Module;

    fn popcnts(text: &str) -> usize {
        let module = Module::parse(wat::parse_str(text).unwrap(), &ModuleLimits::default()).unwrap();
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
