//! A page of its own that loads nothing from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::text::printable;
use super::{Cell, LETTERS, Section, alignment, cells, letters, sections};
use crate::comparison::{Comparison, NotShown};
use crate::function::Line;
use crate::judge::{Criticism, percent};
use crate::machine::Class;
use crate::metrics::{ALL, Metrics};
use crate::overview::Overview;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
/// How many functions the page of an overview lists.
const FUNCTIONS_SHOWN: usize = 200;

/// A comparison as a page.
#[must_use]
pub fn comparison(comparison: &Comparison) -> String {
    let function = &comparison.function;
    let name = function.name.as_deref().map(printable).unwrap_or_default();
    let title = format!("{}: function {} {name}", printable(&comparison.module), function.index);
    let polls = if comparison.has_polls {
        "as Remuda runs it, with the polls that stop guests"
    } else {
        "without polls, as --plain asks"
    };
    page(
        title.trim_end(),
        &html! {
            p.lead {
                (function.end - function.start) " bytes of WebAssembly at " code { (format!("{:#x}", function.start)) } ", "
                (function.operators.len()) " operators, " (function.loops.len()) " loops. The code is shown " (polls)
                ". Offsets of WebAssembly are those in the module's file."
            }
            @if let Some(profile) = &comparison.profile {
                p {
                    "In the run that was counted, " (profile.in_function) " of " (profile.operators)
                    " operators were executed in this function (" (percent(profile.in_function, profile.operators)) ")."
                }
            }
            section id="engines" {
                h2 { "Engines" }
                ul {
                    @for column in &comparison.engines {
                        li {
                            strong { (column.engine) } " " (column.version) ": " (column.code.metrics.bytes)
                            " bytes of code and " (column.code.data_bytes) " of data; " (alignment(column))
                            (unknown_jumps(column.code.unknown_jumps.into()))
                        }
                    }
                    (not_shown(&comparison.not_shown))
                }
            }
            section id="reasons" {
                h2 { "Why code is longer" }
                p.lead { "Instructions in the code, not executed ones." }
                ul { @for reason in &comparison.reasons { li { (reason) } } }
            }
            (criticisms(&comparison.engines.iter().map(|it| (it.engine.as_str(), it.criticisms.as_slice())).collect::<Vec<_>>()))
            section id="code" {
                h2 { "Code" }
                p.legend {
                    @for (class, words) in CLASSES { span class=(class_name(class)) { (words) } }
                    span.poll { "poll" }
                }
                p.lead { "Marks: " (LETTERS) ". Point at a loop, or walk to it with the tabulator key, to see it in all columns." }
                @for section in sections(comparison) { (section_markup(comparison, &section)) }
            }
            section id="counts" {
                h2 { "Counts" }
                h3 { "The whole function" }
                (counts(&names(comparison), &comparison.engines.iter().map(|it| Some(&it.code.metrics)).collect::<Vec<_>>()))
                @for index in 0..function.loops.len() {
                    @let columns: Vec<Option<&Metrics>> =
                        comparison.engines.iter().map(|it| it.code_loop(index).map(|found| &found.metrics)).collect();
                    @if columns.iter().any(Option::is_some) {
                        details open[function.loops[index].is_innermost] {
                            summary {
                                (comparison.loop_words(index))
                                @if !function.loops[index].is_innermost { ", with the loops in it" }
                            }
                            (counts(&names(comparison), &columns))
                        }
                    }
                }
            }
        },
    )
}

/// An overview as a page.
#[must_use]
pub fn overview(overview: &Overview) -> String {
    let names: Vec<&str> = overview.engines.iter().map(|total| total.engine.as_str()).collect();
    let mut rows: Vec<_> = overview.functions.iter().collect();
    rows.sort_by_key(|row| {
        (std::cmp::Reverse(row.executed.unwrap_or(0)), std::cmp::Reverse(row.wasm_bytes), row.index)
    });
    let executed: u64 = rows.iter().filter_map(|row| row.executed).sum();
    let is_counted = rows.iter().any(|row| row.executed.is_some());
    page(
        &format!("{}: machine code", printable(&overview.module)),
        &html! {
            p.lead { (overview.functions.len()) " functions." }
            section id="engines" {
                h2 { "Engines" }
                ul {
                    @for total in &overview.engines {
                        li {
                            strong { (total.engine) } " " (total.version) ": " (total.metrics.bytes) " bytes of code and "
                            (total.data_bytes) " of data" (unknown_jumps(total.unknown_jumps))
                        }
                    }
                    (not_shown(&overview.not_shown))
                }
            }
            (criticisms(&overview.engines.iter().map(|it| (it.engine.as_str(), it.criticisms.as_slice())).collect::<Vec<_>>()))
            section id="counts" {
                h2 { "Counts" }
                h3 { "All functions" }
                (counts(&names, &overview.engines.iter().map(|total| Some(&total.metrics)).collect::<Vec<_>>()))
                h3 { "All innermost loops" }
                (counts(&names, &overview.engines.iter().map(|total| Some(&total.innermost_metrics)).collect::<Vec<_>>()))
            }
            section id="functions" {
                h2 { "Functions" }
                @if rows.len() > FUNCTIONS_SHOWN { p.lead { "The first " (FUNCTIONS_SHOWN) " of " (rows.len()) "." } }
                div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "Index" } th scope="col" { "Name" } th scope="col" { "WebAssembly bytes" }
                                @if is_counted { th scope="col" { "executed" } }
                                @for name in &names { th scope="col" { "instructions, " (name) } }
                            }
                        }
                        tbody {
                            @for row in rows.iter().take(FUNCTIONS_SHOWN) {
                                tr {
                                    th scope="row" { (row.index) }
                                    td { (row.name.as_deref().map(printable).unwrap_or_default()) }
                                    td { (row.wasm_bytes) }
                                    @if is_counted { td { (percent(row.executed.unwrap_or(0), executed)) } }
                                    @for metrics in &row.metrics { td { (metrics.instructions) } }
                                }
                            }
                        }
                    }
                }
            }
        },
    )
}

fn page(title: &str, body: &Markup) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                // Without an icon here, browsers ask the server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header { h1 { (title) } }
                main { (body) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    markup.into_string()
}

const CLASSES: [(Class, &str); 8] = [
    (Class::Compute, "computes"),
    (Class::Load, "loads"),
    (Class::Store, "stores"),
    (Class::Stack, "stack"),
    (Class::Move, "copies a register"),
    (Class::Branch, "jumps"),
    (Class::Call, "calls, returns"),
    (Class::Trap, "traps"),
];

fn class_name(class: Class) -> &'static str {
    match class {
        Class::Load => "load",
        Class::Store => "store",
        Class::Stack => "stack",
        Class::Move => "move",
        Class::Compute => "compute",
        Class::Branch => "branch",
        Class::Call => "call",
        Class::Trap => "trap",
    }
}

fn names(comparison: &Comparison) -> Vec<&str> {
    comparison.engines.iter().map(|column| column.engine.as_str()).collect()
}

fn unknown_jumps(count: u64) -> Markup {
    html! { @if count > 0 { "; " (count) " indirect jumps lead to places that were not found, so that code may be missing" } }
}

fn not_shown(engines: &[NotShown]) -> Markup {
    html! { @for engine in engines { li { strong { (engine.engine) } ": " (engine.reason) } } }
}

fn criticisms(engines: &[(&str, &[Criticism])]) -> Markup {
    let first = engines.first().map(|(_, criticisms)| *criticisms).unwrap_or_default();
    html! {
        section id="criticisms" {
            h2 { "What holds today of 2021's criticisms" }
            p.lead {
                "“Characterization and Implication of Edge WebAssembly Runtimes” (HPCC 2021, Fig. 6) found five "
                "weaknesses in the Cranelift of that time. Each is counted here."
            }
            div.scroll {
                table.words {
                    thead { tr { th scope="col" { "Criticism" } @for (engine, _) in engines { th scope="col" { (engine) } } } }
                    tbody {
                        @for (index, criticism) in first.iter().enumerate() {
                            tr {
                                th scope="row" { (criticism.criticism) }
                                @for (_, all) in engines {
                                    td class=(verdict(&all[index])) { (all[index].today) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The class of a criticism's cell, which gives it its colour: none if it does not apply.
fn verdict(criticism: &Criticism) -> &'static str {
    match criticism {
        Criticism { applies: false, .. } => "apart",
        Criticism { holds: true, .. } => "holds",
        Criticism { .. } => "fails",
    }
}

fn counts(names: &[&str], columns: &[Option<&Metrics>]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { th scope="col" { "Count" } @for name in names { th scope="col" { (name) } } } }
                tbody {
                    @for (key, words, of) in ALL {
                        tr {
                            th scope="row" { (words) }
                            @for metrics in columns { td { @match metrics { Some(metrics) => (of(metrics)), None => "-" } } }
                        }
                        @if key == "bytes" {
                            tr {
                                th scope="row" { "bytes per instruction" }
                                @for metrics in columns {
                                    td {
                                        @match metrics {
                                            Some(metrics) => (format!("{:.2}", metrics.bytes_per_instruction())),
                                            None => "-",
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn section_markup(comparison: &Comparison, section: &Section<'_>) -> Markup {
    let around: Vec<String> = std::iter::successors(section.source, |index| comparison.function.loops[*index].parent)
        .map(|index| index.to_string())
        .collect();
    let operators = comparison
        .function
        .operators
        .iter()
        .filter(|operator| section.is_in_source && operator.in_loop == section.source);
    let count = format!("--count: {}", comparison.engines.len() + 1);
    let own = section.source.map(|source| source.to_string()).unwrap_or_default();
    html! {
        section.loop tabindex="0" data-loop=(own) data-around=(around.join(" ")) aria-label=(section.title) {
            h3 {
                (section.title)
                @if let Some(share) = comparison.share(section.source) {
                    span.share { (format!(", {share:.1} % of the run")) }
                }
            }
            div.columns style=(count) {
                div.column.wasm {
                    h4 { "WebAssembly" }
                    @for operator in operators {
                        div.line data-at=(operator.offset) {
                            span.at { (format!("{:x}", operator.offset)) }
                            span { (" ".repeat(operator.nesting.min(20) as usize)) (printable(&operator.text)) }
                        }
                    }
                }
                @for (column, lines) in comparison.engines.iter().zip(&section.columns) {
                    div.column { h4 { (column.engine) } (lines_markup(lines)) }
                }
            }
        }
    }
}

fn lines_markup(lines: &[&Line]) -> Markup {
    html! {
        @for cell in cells(lines) {
            @match cell {
                Cell::Gap => { div.gap { "···" } }
                Cell::Line(line) => {
                    div.line data-at=[line.wasm_offset] title=(line.bytes) {
                        span.at { (format!("{:x}", line.offset)) }
                        span.marks { (letters(line)) }
                        span class=(if line.is_poll { "poll" } else { class_name(line.class) }) { (printable(&line.text)) }
                        span.from { @if let Some(offset) = line.wasm_offset { (format!("{offset:x}")) } }
                    }
                }
            }
        }
    }
}
