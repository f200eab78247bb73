//! Text for a terminal.

use std::fmt::Write as _;

use super::{Cell, LETTERS, alignment, cells, letters, rows, sections};
use crate::comparison::{Comparison, NotShown};
use crate::function::Line;
use crate::judge::{Criticism, percent};
use crate::machine::Class;
use crate::metrics::{ALL, Metrics};
use crate::overview::Overview;

/// How text is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The number of characters in a line.
    pub width: usize,
    /// Whether instructions are coloured by class.
    pub colours: bool,
}

/// The narrowest column that can be read: offsets, marks and most instructions. If columns would be narrower, engines
/// stand under one another.
const COLUMN_MIN: usize = 44;
/// What stands between two columns.
const BETWEEN: &str = " │ ";
/// How many functions an overview lists.
const FUNCTIONS_SHOWN: usize = 25;

/// A comparison as text.
#[must_use]
pub fn comparison(comparison: &Comparison, layout: Layout) -> String {
    let mut out = String::new();
    let function = &comparison.function;
    let name = function.name.as_deref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
    let _ = writeln!(
        out,
        "{}, function {}{name}: {} bytes of WebAssembly at {:#x}, {} operators, {} loops",
        printable(&comparison.module),
        function.index,
        function.end - function.start,
        function.start,
        function.operators.len(),
        function.loops.len()
    );
    let polls =
        if comparison.has_polls { "as Remuda runs it, with polls (p)" } else { "without polls, as --plain asks" };
    let _ = writeln!(out, "The code {polls}. Marks: {LETTERS}.");
    for column in &comparison.engines {
        let _ = writeln!(
            out,
            "{} {}: {} bytes of code and {} of data; {}{}",
            column.engine,
            column.version,
            column.code.metrics.bytes,
            column.code.data_bytes,
            alignment(column),
            unknown_jumps(column.code.unknown_jumps.into()),
        );
    }
    not_shown(&mut out, &comparison.not_shown);
    if let Some(profile) = &comparison.profile {
        let _ = writeln!(
            out,
            "In the run that was counted, {} of {} operators were executed in this function ({}).",
            profile.in_function,
            profile.operators,
            percent(profile.in_function, profile.operators)
        );
    }
    code(&mut out, comparison, layout);
    counts(&mut out, comparison);
    for column in &comparison.engines {
        criticisms(&mut out, &column.engine, &column.criticisms);
    }
    reasons(&mut out, &comparison.reasons);
    out
}

fn unknown_jumps(count: u64) -> String {
    if count == 0 {
        return String::new();
    }
    format!("; {count} indirect jumps lead to places that were not found, so that code may be missing")
}

fn not_shown(out: &mut String, engines: &[NotShown]) {
    for NotShown { engine, reason } in engines {
        let _ = writeln!(out, "{engine}: {reason}");
    }
}

/// Text from a module, without what a terminal would obey.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn code(out: &mut String, comparison: &Comparison, layout: Layout) {
    let count = comparison.engines.len();
    if count == 0 {
        return;
    }
    let between = BETWEEN.chars().count() * (count - 1);
    let column_width = layout.width.saturating_sub(between) / count;
    let side_by_side = column_width >= COLUMN_MIN;
    for section in sections(comparison) {
        let share = comparison.share(section.source).map(|share| format!(", {share:.1} % of the run"));
        let _ = writeln!(out, "\n── {}{}", section.title, share.unwrap_or_default());
        if side_by_side {
            let names: Vec<String> =
                comparison.engines.iter().map(|column| pad(&column.engine, column_width)).collect();
            let _ = writeln!(out, "{}", names.join(BETWEEN).trim_end());
            for row in rows(&section.columns) {
                let cells: Vec<String> = row
                    .iter()
                    .map(|content| match content {
                        Some(content) => cell(*content, column_width, layout.colours),
                        None => " ".repeat(column_width),
                    })
                    .collect();
                let _ = writeln!(out, "{}", cells.join(BETWEEN).trim_end());
            }
        } else {
            for (column, lines) in comparison.engines.iter().zip(&section.columns) {
                let _ = writeln!(out, "{}", column.engine);
                for content in cells(lines) {
                    let _ = writeln!(out, "{}", cell(content, layout.width, layout.colours).trim_end());
                }
            }
        }
    }
}

fn cell(content: Cell<'_>, width: usize, colours: bool) -> String {
    let Cell::Line(line) = content else { return pad("      ···", width) };
    let wasm = line.wasm_offset.map(|offset| format!("@{offset:x}")).unwrap_or_default();
    let head = format!("{:>5x} {:<3} ", line.offset, letters(line));
    let text_width = width.saturating_sub(head.chars().count() + wasm.len() + 1);
    let text = pad(&shorten(&printable(&line.text), text_width), text_width);
    let text = if colours { format!("{}{text}\x1b[0m", colour(line)) } else { text };
    format!("{head}{text} {wasm}")
}

/// The escape sequence for an instruction's class.
fn colour(line: &Line) -> &'static str {
    if line.is_poll {
        return "\x1b[2m";
    }
    match line.class {
        Class::Load => "\x1b[32m",
        Class::Store => "\x1b[33m",
        Class::Stack => "\x1b[31m",
        Class::Move => "\x1b[35m",
        Class::Compute => "\x1b[0m",
        Class::Branch => "\x1b[34m",
        Class::Call => "\x1b[36m",
        Class::Trap => "\x1b[2m",
    }
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn pad(text: &str, width: usize) -> String {
    let text = shorten(text, width);
    let missing = width.saturating_sub(text.chars().count());
    text + &" ".repeat(missing)
}

fn counts(out: &mut String, comparison: &Comparison) {
    if comparison.engines.is_empty() {
        return;
    }
    let whole: Vec<Option<&Metrics>> = comparison.engines.iter().map(|column| Some(&column.code.metrics)).collect();
    let names: Vec<&str> = comparison.engines.iter().map(|column| column.engine.as_str()).collect();
    let _ = writeln!(out, "\n── counts: the whole function");
    table(out, &names, &whole);
    for index in 0..comparison.function.loops.len() {
        let columns: Vec<Option<&Metrics>> =
            comparison.engines.iter().map(|column| column.code_loop(index).map(|found| &found.metrics)).collect();
        if columns.iter().all(Option::is_none) {
            continue;
        }
        let inner = if comparison.function.loops[index].is_innermost { "" } else { ", with the loops in it" };
        let _ = writeln!(out, "\n── counts: {}{inner}", comparison.loop_words(index));
        table(out, &names, &columns);
    }
}

fn table(out: &mut String, names: &[&str], columns: &[Option<&Metrics>]) {
    let widths: Vec<usize> = names.iter().map(|name| name.len().max(8)).collect();
    let mut row = |head: &str, cells: Vec<String>| {
        let cells: String = cells.iter().zip(&widths).map(|(cell, width)| format!("  {cell:>width$}")).collect();
        let _ = writeln!(out, "{head:<22}{cells}");
    };
    row("", names.iter().map(|name| (*name).to_owned()).collect());
    for (key, words, of) in ALL {
        let cells = |of: &dyn Fn(&Metrics) -> String| {
            columns.iter().map(|metrics| metrics.map_or_else(|| "-".to_owned(), of)).collect::<Vec<_>>()
        };
        row(words, cells(&|metrics| of(metrics).to_string()));
        if key == "bytes" {
            row("bytes per instruction", cells(&|metrics| format!("{:.2}", metrics.bytes_per_instruction())));
        }
    }
}

fn criticisms(out: &mut String, engine: &str, criticisms: &[Criticism]) {
    let _ = writeln!(out, "\n── what holds today of 2021's criticisms: {engine}");
    for criticism in criticisms {
        let _ = writeln!(out, "{}: {}", criticism.criticism, criticism.today);
    }
}

fn reasons(out: &mut String, sentences: &[String]) {
    if !sentences.is_empty() {
        let _ = writeln!(out, "\n── why code is longer (instructions in the code, not executed ones)");
    }
    for sentence in sentences {
        let _ = writeln!(out, "{sentence}");
    }
}

/// An overview as text.
#[must_use]
pub fn overview(overview: &Overview) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: {} functions", printable(&overview.module), overview.functions.len());
    not_shown(&mut out, &overview.not_shown);
    for total in &overview.engines {
        let _ = writeln!(
            out,
            "{} {}: {} bytes of code and {} of data{}",
            total.engine,
            total.version,
            total.metrics.bytes,
            total.data_bytes,
            unknown_jumps(total.unknown_jumps)
        );
    }
    let names: Vec<&str> = overview.engines.iter().map(|total| total.engine.as_str()).collect();
    if !names.is_empty() {
        let _ = writeln!(out, "\n── counts: all functions");
        table(&mut out, &names, &overview.engines.iter().map(|total| Some(&total.metrics)).collect::<Vec<_>>());
        let _ = writeln!(out, "\n── counts: all innermost loops");
        let innermost: Vec<_> = overview.engines.iter().map(|total| Some(&total.innermost_metrics)).collect();
        table(&mut out, &names, &innermost);
    }
    for total in &overview.engines {
        criticisms(&mut out, &total.engine, &total.criticisms);
    }
    let mut rows: Vec<_> = overview.functions.iter().collect();
    rows.sort_by_key(|row| {
        (std::cmp::Reverse(row.executed.unwrap_or(0)), std::cmp::Reverse(row.wasm_bytes), row.index)
    });
    let shown = rows.len().min(FUNCTIONS_SHOWN);
    let total: u64 = rows.iter().filter_map(|row| row.executed).sum();
    let is_counted = rows.iter().any(|row| row.executed.is_some());
    let order = if is_counted { "that execute most" } else { "largest" };
    let _ = writeln!(out, "\n── {shown} of {} functions, those {order}: instructions by engine", rows.len());
    let heads: String = names.iter().map(|name| format!("  {name:>18}")).collect();
    let executed = if is_counted { "  EXECUTED" } else { "" };
    let _ = writeln!(out, "{:>6} {:>10}{executed}{heads}  NAME", "INDEX", "WASM BYTES");
    for row in rows.into_iter().take(shown) {
        let cells: String = row.metrics.iter().map(|metrics| format!("  {:>18}", metrics.instructions)).collect();
        let name = row.name.as_deref().map(printable).unwrap_or_default();
        let share = row.executed.map(|count| format!("{:>10}", percent(count, total))).unwrap_or_default();
        let _ = writeln!(out, "{:>6} {:>10}{share}{cells}  {name}", row.index, row.wasm_bytes);
    }
    out
}
