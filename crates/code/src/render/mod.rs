//! Showing comparisons and overviews: as text for a terminal, and as a page.

pub mod html;
pub mod text;

use std::collections::BTreeMap;

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

/// A cell of a section in which columns stand side by side.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cell<'a> {
    /// An instruction.
    Line(&'a Line),
    /// Other sections' code stands here.
    Gap,
}

/// The lines of a column, with gaps.
pub(crate) fn cells<'a>(lines: &[&'a Line]) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    let mut end = None;
    for line in lines {
        if end.is_some_and(|end| end != line.offset as usize) {
            cells.push(Cell::Gap);
        }
        cells.push(Cell::Line(line));
        end = Some(line.offset as usize + line.bytes.len() / 2);
    }
    cells
}

/// The rows of a section. Columns with a map stand so that what comes from the same operator begins at the same height.
/// A compiler may move instructions ahead of others: these stay where they are in its code. Columns without a map are
/// laid out from the top on.
pub(crate) fn rows<'a>(columns: &[Vec<&'a Line>]) -> Vec<Vec<Option<Cell<'a>>>> {
    // For each column with a map, its cells by the last offset that was reached.
    let groups: Vec<Option<BTreeMap<u32, Vec<Cell<'a>>>>> = columns
        .iter()
        .map(|lines| {
            lines.iter().any(|line| line.wasm_offset.is_some()).then(|| {
                let mut groups: BTreeMap<u32, Vec<Cell<'a>>> = BTreeMap::new();
                let mut reached = 0;
                for cell in cells(lines) {
                    if let Cell::Line(line) = cell {
                        reached = reached.max(line.wasm_offset.unwrap_or(0));
                    }
                    groups.entry(reached).or_default().push(cell);
                }
                groups
            })
        })
        .collect();
    let mut heights: BTreeMap<u32, usize> = BTreeMap::new();
    for (offset, cells) in groups.iter().flatten().flatten() {
        let height = heights.entry(*offset).or_default();
        *height = cells.len().max(*height);
    }
    let laid_out: Vec<Vec<Option<Cell<'a>>>> = groups
        .iter()
        .zip(columns)
        .map(|(groups, lines)| match groups {
            None => cells(lines).into_iter().map(Some).collect(),
            Some(groups) => {
                let mut column = Vec::new();
                for (offset, height) in &heights {
                    let cells = groups.get(offset).map_or(&[][..], Vec::as_slice);
                    column.extend(cells.iter().copied().map(Some));
                    column.extend(std::iter::repeat_n(None, height - cells.len()));
                }
                column
            }
        })
        .collect();
    let height = laid_out.iter().map(Vec::len).max().unwrap_or(0);
    (0..height).map(|row| laid_out.iter().map(|column| column.get(row).copied().flatten()).collect()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Class;

    fn line(offset: u32, wasm_offset: Option<u32>) -> Line {
        Line {
            offset,
            bytes: "90".into(),
            text: "nop".into(),
            class: Class::Compute,
            wasm_offset,
            is_poll: false,
            in_loop: None,
            marks: Vec::new(),
        }
    }

    #[test]
    fn what_comes_from_one_operator_begins_at_one_height() {
        let one = [line(0, Some(5)), line(1, Some(5)), line(2, Some(7)), line(4, Some(9))];
        // The third was moved behind what follows it in the source.
        let two = [line(0, Some(5)), line(1, Some(9)), line(2, Some(7)), line(3, None)];
        let three = [line(0, None), line(1, None)];
        let columns = [&one[..], &two, &three].map(|lines| lines.iter().collect::<Vec<_>>());
        let shown: Vec<String> = rows(&columns)
            .iter()
            .map(|row| {
                let word = |cell: &Option<Cell<'_>>| match cell {
                    None => ".".to_owned(),
                    Some(Cell::Gap) => "gap".to_owned(),
                    Some(Cell::Line(line)) => line.offset.to_string(),
                };
                row.iter().map(word).collect::<Vec<_>>().join(" ")
            })
            .collect();
        assert_eq!(shown, ["0 0 0", "1 . 1", "2 . .", "gap . .", "4 1 .", ". 2 .", ". 3 ."]);
    }
}
