//! Showing comparisons and overviews: as text for a terminal, and as a page.

pub mod html;
pub mod text;

use crate::comparison::{Column, Comparison};
use crate::function::{Alignment, Line};
use crate::metrics::Mark;

/// A part of a function that is shown at one height in all columns: a loop without the loops in it, or what is in none.
pub(crate) struct Section<'a> {
    /// The loop of the source; `None` for what is in no loop, or in one without a counterpart in the source.
    pub source: Option<usize>,
    pub title: String,
    /// Whether this is a part of the source: not what has no counterpart there.
    pub is_in_source: bool,
    /// For each engine, its instructions there.
    pub columns: Vec<Vec<&'a Line>>,
}

/// A function's sections: what is in no loop first, then the loops in the order of the source.
pub(crate) fn sections(comparison: &Comparison) -> Vec<Section<'_>> {
    let loops = comparison.function.loops.len();
    // The last section is for loops that the source does not have.
    let mut columns: Vec<Vec<Vec<&Line>>> = vec![vec![Vec::new(); comparison.engines.len()]; loops + 2];
    for (index, column) in comparison.engines.iter().enumerate() {
        for line in &column.code.lines {
            let section = match line.in_loop.map(|found| column.code.loops[found].source) {
                None => 0,
                Some(Some(source)) if source < loops => source + 1,
                Some(_) => loops + 1,
            };
            columns[section][index].push(line);
        }
    }
    let title = |index: usize| match index {
        0 if loops == 0 => "the function, which has no loop".to_owned(),
        0 => "outside of all loops".to_owned(),
        _ if index > loops => "loops that have no counterpart in the source".to_owned(),
        _ => {
            let source = index - 1;
            let found = &comparison.function.loops[source];
            let within = found.parent.map(|parent| format!(", in loop {parent}")).unwrap_or_default();
            let rest = if found.is_innermost { "" } else { ", without the loops in it" };
            let repeats = if found.repeats { "" } else { ", which never repeats" };
            format!("{}{within}{rest}{repeats}", comparison.loop_words(source))
        }
    };
    let mut sections = Vec::new();
    for (index, columns) in columns.into_iter().enumerate() {
        if index == 0 || columns.iter().any(|lines| !lines.is_empty()) {
            let source = index.checked_sub(1).filter(|source| *source < loops);
            sections.push(Section { source, title: title(index), is_in_source: index <= loops, columns });
        }
    }
    sections
}

/// How sure the alignment of a column is, in words.
pub(crate) fn alignment(column: &Column) -> String {
    let loops = column.code.loops.len();
    match column.code.alignment {
        Alignment::Offsets => "loops matched by the engine's map to WebAssembly".to_owned(),
        Alignment::Order => {
            format!("no map to WebAssembly: its loops ({loops}, as in the source) are matched by their order")
        }
        Alignment::Guess => format!(
            "no map to WebAssembly, and another number of loops ({loops}) than the source: matched by order and depth, \
             which is a guess"
        ),
    }
}

/// The letter for a mark.
pub(crate) fn letter(mark: Mark) -> char {
    match mark {
        Mark::RedundantRex => 'R',
        Mark::SetAndTest => 'T',
        Mark::LoadOperate => 'L',
        Mark::RedundantMove => 'M',
        Mark::Spill => 's',
        Mark::Reload => 'r',
    }
}

/// What the letters mean.
pub(crate) const LETTERS: &str = "p poll, s spill, r reload, R redundant REX prefix, T set-and-test chain, \
                                  L load-operate pair, M redundant move";

/// The letters of an instruction.
pub(crate) fn letters(line: &Line) -> String {
    let poll = if line.is_poll { "p" } else { "" };
    let mut letters: Vec<char> = line.marks.iter().map(|mark| letter(*mark)).collect();
    letters.dedup();
    format!("{poll}{}", letters.into_iter().collect::<String>())
}
