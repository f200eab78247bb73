//! Where the operators of a rewritten module come from.

use wasmparser::{FunctionBody, Operator, Parser, Payload};

use super::InstrumentError;

/// Where an operator of a rewritten module comes from. Offsets are those of the module before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The operator at this offset.
    Operator(u32),
    /// A poll before the operator at this offset.
    Poll(u32),
}

/// The number of operators of a poll whose flag is in a memory.
const POLL_OPERATORS: usize = 5;
/// Which of them names the flag.
const NAMES_FLAG: usize = 1;

/// For each operator of `rewritten`, which [`super::instrument`] made of `module` with this memory as the flag: its
/// offset, and where it comes from. In the order of the offsets.
///
/// Nothing but polls can name the flag, and the rewriting keeps all operators in their order. So the bodies of the two
/// modules are walked side by side, and no poll is mistaken.
///
/// # Errors
///
/// Returns an error if one of the modules cannot be read.
pub(crate) fn origins(
    module: &[u8],
    rewritten: &[u8],
    flag_memory: u32,
) -> Result<Vec<(u32, Origin)>, InstrumentError> {
    let mut found = Vec::new();
    for (before, after) in bodies(module)?.iter().zip(&bodies(rewritten)?) {
        let (before, after) = (offsets(before, None)?, offsets(after, Some(flag_memory))?);
        let end = before.last().map_or(0, |(offset, _)| *offset);
        let mut before = before.into_iter().map(|(offset, _)| offset).peekable();
        let mut index = 0;
        while let Some((offset, _)) = after.get(index) {
            if after.get(index + NAMES_FLAG).is_some_and(|(_, names_flag)| *names_flag) {
                let next = before.peek().copied().unwrap_or(end);
                let poll = after.iter().skip(index).take(POLL_OPERATORS);
                found.extend(poll.map(|(offset, _)| (*offset, Origin::Poll(next))));
                index += POLL_OPERATORS;
            } else {
                found.extend(before.next().map(|origin| (*offset, Origin::Operator(origin))));
                index += 1;
            }
        }
    }
    Ok(found)
}

fn bodies(module: &[u8]) -> Result<Vec<FunctionBody<'_>>, InstrumentError> {
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(module) {
        if let Payload::CodeSectionEntry(body) = payload? {
            bodies.push(body);
        }
    }
    Ok(bodies)
}

/// The offsets of a body's operators, and whether each is a poll's load of the flag.
fn offsets(body: &FunctionBody<'_>, flag_memory: Option<u32>) -> Result<Vec<(u32, bool)>, InstrumentError> {
    let mut operators = body.get_operators_reader()?;
    let mut offsets = Vec::new();
    while !operators.eof() {
        let offset = operators.original_position() as u32;
        let names_flag = match operators.read()? {
            Operator::I32AtomicLoad8U { memarg } => Some(memarg.memory) == flag_memory,
            _ => false,
        };
        offsets.push((offset, names_flag));
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::super::instrument;
    use super::*;

    /// Each operator that is no poll is the operator of the old module that it is said to be, all of these occur once and
    /// in order, and the number of polls is right.
    #[track_caller]
    fn check(text: &str) {
        let module = wat::parse_str(text).unwrap();
        let instrumented = instrument(&module).unwrap();
        let found = origins(&module, &instrumented.bytes, instrumented.flag_memory).unwrap();
        let word = |bytes: &[u8], offset: u32| {
            let reader = wasmparser::BinaryReader::new(&bytes[offset as usize..], 0);
            let operator = wasmparser::OperatorsReader::new(reader).read().unwrap();
            format!("{operator:?}").split([' ', '(']).next().unwrap().to_owned()
        };
        let old: Vec<u32> =
            bodies(&module).unwrap().iter().flat_map(|body| offsets(body, None).unwrap()).map(|(at, _)| at).collect();
        let kept: Vec<u32> = found
            .iter()
            .filter_map(|(at, origin)| match *origin {
                Origin::Operator(before) => {
                    assert_eq!(word(&module, before), word(&instrumented.bytes, *at), "at {at:#x}");
                    Some(before)
                }
                Origin::Poll(_) => None,
            })
            .collect();
        assert_eq!(kept, old);
        let polls = found.iter().filter(|(_, origin)| matches!(origin, Origin::Poll(_))).count();
        assert_eq!(polls, POLL_OPERATORS * instrumented.poll_points as usize);
        assert!(found.is_sorted_by_key(|(at, _)| *at));
    }

    #[test]
    fn every_operator_has_its_origin() {
        check("(module (func (loop (br 0))))");
        check(
            r#"(module (import "wasi_snapshot_preview1" "sched_yield" (func $yield (result i32)))
            (memory 1) (func $f (param i32) (local i64) (loop $a (loop $b
                (i32.store (local.get 0) (i32.const 1)) (drop (call $yield)) (br_if $b (local.get 0)))
                (br_if $a (i32.load offset=4 (local.get 0)))) (call $f (i32.const 3)))
            (func (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))))"#,
        );
        // Loads of the same kind that are the guest's own.
        check("(module (memory 1 1 shared) (func (loop (drop (i32.atomic.load8_u (i32.const 0))) (br 0))))");
    }

    #[test]
    fn a_poll_at_a_loop_s_head_names_the_operator_behind_the_loop() {
        let module = wat::parse_str("(module (func (loop (nop) (br 0))))").unwrap();
        let instrumented = instrument(&module).unwrap();
        let found = origins(&module, &instrumented.bytes, instrumented.flag_memory).unwrap();
        let [(_, Origin::Operator(head)), (_, Origin::Poll(next)), ..] = found[..] else { panic!("{found:?}") };
        assert_eq!(next, head + 2, "a loop is two bytes long");
    }
}
