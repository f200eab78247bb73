//! What follows from the counts: whether the criticisms of 2021 still hold, and why one engine's code is slower.

use serde::Serialize;

use crate::function::Function;
use crate::machine::Architecture;
use crate::metrics::Metrics;

/// One of the criticisms that "Characterization and Implication of Edge WebAssembly Runtimes" (HPCC 2021, Fig. 6) made of
/// Cranelift's code, checked on counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Criticism {
    /// Its name for programs.
    pub key: &'static str,
    /// What was criticised.
    pub criticism: &'static str,
    /// How often it was found.
    pub count: u64,
    /// Among how many places where it could be.
    pub of: u64,
    /// Whether the architecture has what was criticised. If not, nothing was overcome: there was nothing to do wrong.
    pub applies: bool,
    /// Whether it was found at all.
    pub holds: bool,
    /// What holds today, as a sentence.
    pub today: String,
}

impl Criticism {
    /// The criticism as it is of code for an architecture, which may not have what was criticised.
    #[must_use]
    pub(crate) fn on(self, architecture: Architecture) -> Self {
        let missing = match (architecture, self.key) {
            (Architecture::Aarch64, "redundant-rex") => "AArch64 has no prefixes",
            (Architecture::Aarch64, "load-operate") => "AArch64 computes with registers and constants alone",
            _ => return self,
        };
        Self { applies: false, holds: false, today: format!("does not apply: {missing}"), ..self }
    }
}

/// Checks the five criticisms on counts: of the whole code, and of its innermost loops together.
#[must_use]
pub(crate) fn criticisms(whole: &Metrics, innermost: &Metrics, loops: usize) -> [Criticism; 5] {
    let found = |key, criticism, count: u64, of: u64, of_what: &str| Criticism {
        key,
        criticism,
        count,
        of,
        applies: true,
        holds: count > 0,
        today: match (count, of) {
            (_, 0) => format!("there are no {of_what}"),
            (0, _) => format!("does not hold: none of {of} {of_what}"),
            _ => format!("holds for {count} of {of} {of_what} ({})", percent(count, of)),
        },
    };
    let operands = whole.load_operate_pairs + whole.folded_operands;
    let stack = innermost.spills + innermost.reloads;
    let in_loops = if loops == 0 {
        "innermost loops".to_owned()
    } else {
        format!(
            "instructions of {loops} innermost {} ({} spills, {} reloads)",
            plural(loops as u64, "loop"),
            innermost.spills,
            innermost.reloads
        )
    };
    [
        found(
            "redundant-rex",
            "REX prefixes that change nothing",
            whole.redundant_rex_prefixes,
            whole.rex_prefixes,
            "REX prefixes",
        ),
        found(
            "set-and-test",
            "comparisons that are turned into a truth value and tested again",
            whole.set_and_test_chains,
            whole.conditional_jumps,
            "conditional jumps",
        ),
        found(
            "load-operate",
            "loads apart from the operation that could take its operand from memory",
            whole.load_operate_pairs,
            operands,
            "operations on memory",
        ),
        found(
            "redundant-move",
            "copies of registers for nothing",
            whole.redundant_moves,
            whole.moves,
            "register moves",
        ),
        found("spills-in-loops", "values on the stack in loops", stack, innermost.instructions, &in_loops),
    ]
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

/// A share in percent, as a word.
pub(crate) fn percent(count: u64, of: u64) -> String {
    if of == 0 {
        return "0 %".to_owned();
    }
    let share = 100.0 * count as f64 / of as f64;
    if share > 0.0 && share < 0.1 { "< 0.1 %".to_owned() } else { format!("{share:.1} %") }
}

/// The counts of all innermost loops together, and how many there are.
pub(crate) fn innermost(function: &Function) -> (Metrics, usize) {
    let loops = function.loops.iter().filter(|found| found.is_innermost);
    (loops.clone().map(|found| found.metrics).sum(), loops.count())
}

/// What makes code longer, each with its words. Instructions of different kinds may be counted twice: a spill of which
/// the REX prefix is redundant, say.
const CAUSES: [(&str, fn(&Metrics) -> u64); 10] = [
    ("reloads from the stack", |m| m.reloads),
    ("spills to the stack", |m| m.spills),
    ("register moves", |m| m.moves),
    ("loads", |m| m.loads),
    ("stores", |m| m.stores),
    ("conditional jumps", |m| m.conditional_jumps),
    ("set-and-test chains", |m| m.set_and_test_chains),
    ("load-operate pairs", |m| m.load_operate_pairs),
    ("calls", |m| m.calls),
    ("instructions of polls", |m| m.poll_instructions),
];
/// How many causes are named.
const CAUSES_SHOWN: usize = 4;

/// For each engine but the one with the fewest instructions, a sentence that says what it has more of. `place` says where
/// that is.
pub(crate) fn reasons(place: &str, columns: &[(&str, &Metrics)]) -> Vec<String> {
    let Some((best, fewest)) = columns.iter().min_by_key(|(_, metrics)| metrics.instructions) else {
        return Vec::new();
    };
    let mut sentences = Vec::new();
    for (engine, metrics) in columns.iter().filter(|(engine, _)| engine != best) {
        if metrics.instructions == fewest.instructions {
            sentences.push(format!("{place}, {engine} has as many instructions as {best} ({})", fewest.instructions));
            continue;
        }
        let mut causes: Vec<(u64, &str)> = CAUSES
            .iter()
            .map(|(words, count)| (count(metrics).saturating_sub(count(fewest)), *words))
            .filter(|(more, _)| *more > 0)
            .collect();
        causes.sort_by_key(|(more, _)| std::cmp::Reverse(*more));
        let causes: Vec<String> =
            causes.iter().take(CAUSES_SHOWN).map(|(more, words)| format!("{more} more {words}")).collect();
        let causes = if causes.is_empty() { "more arithmetic".to_owned() } else { causes.join(", ") };
        sentences.push(format!(
            "{place}, {engine} has {} instructions, {:.1} times the {} of {best}: {causes}",
            metrics.instructions,
            metrics.instructions as f64 / fewest.instructions.max(1) as f64,
            fewest.instructions
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_come_from_the_counts() {
        let whole = Metrics { rex_prefixes: 8, redundant_rex_prefixes: 2, conditional_jumps: 3, ..Metrics::default() };
        let inner = Metrics { instructions: 40, spills: 1, reloads: 3, ..Metrics::default() };
        let words = criticisms(&whole, &inner, 1).map(|criticism| criticism.today);
        assert_eq!(
            words,
            [
                "holds for 2 of 8 REX prefixes (25.0 %)",
                "does not hold: none of 3 conditional jumps",
                "there are no operations on memory",
                "there are no register moves",
                "holds for 4 of 40 instructions of 1 innermost loop (1 spills, 3 reloads) (10.0 %)",
            ]
        );
    }

    #[test]
    fn what_an_architecture_does_not_have_is_not_overcome() {
        let whole = Metrics { conditional_jumps: 3, ..Metrics::default() };
        let on = |architecture| {
            criticisms(&whole, &Metrics::default(), 0)
                .map(|found| found.on(architecture))
                .map(|it| (it.applies, it.today))
        };
        let found = criticisms(&whole, &Metrics::default(), 0).map(|it| (true, it.today));
        assert_eq!(on(Architecture::X86_64), found);
        let [rex, set_and_test, load_operate, redundant_move, spills] = on(Architecture::Aarch64);
        assert_eq!([set_and_test, redundant_move, spills], [found[1].clone(), found[3].clone(), found[4].clone()]);
        assert_eq!(rex, (false, "does not apply: AArch64 has no prefixes".to_owned()));
        assert_eq!(
            load_operate,
            (false, "does not apply: AArch64 computes with registers and constants alone".to_owned())
        );
    }

    #[test]
    fn the_longer_code_says_what_it_has_more_of() {
        let short = Metrics { instructions: 10, loads: 2, ..Metrics::default() };
        let long = Metrics { instructions: 25, loads: 3, reloads: 6, spills: 4, ..Metrics::default() };
        let words = reasons("in loop 0", &[("long", &long), ("short", &short), ("same", &short)]);
        assert_eq!(
            words,
            [
                "in loop 0, long has 25 instructions, 2.5 times the 10 of short: 6 more reloads from the stack, 4 more spills \
             to the stack, 1 more loads",
                "in loop 0, same has as many instructions as short (10)",
            ]
        );
        assert!(reasons("here", &[]).is_empty());
    }
}
