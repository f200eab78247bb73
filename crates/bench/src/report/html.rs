//! The report as one HTML page that loads no script, font or picture from elsewhere.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::page::{Cell, Claim, Page, Part, Section, Table};

const STYLE: &str = include_str!("style.css");

pub(super) fn render(page: &Page) -> String {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) }
                // Without an icon here, browsers ask the server for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { (page.title) }
                    p.lead {
                        "Measured by Remuda, after “Characterization and Implication of Edge WebAssembly Runtimes” (HPCC "
                        "2021). Times are wall times; brackets are 95 % bootstrap intervals over fresh processes."
                    }
                    dl.facts {
                        @for fact in &page.facts {
                            div {
                                dt { (fact.name) }
                                dd { @if fact.literal { code { (fact.value) } } @else { (fact.value) } }
                            }
                        }
                    }
                }
                (summary(page))
                (warnings(page))
                main { @for section in &page.sections { (section_markup(section)) } }
                (failures(page))
            }
        }
    };
    markup.into_string()
}

/// The table of all claims at a glance.
fn summary(page: &Page) -> Markup {
    html! {
        section id="summary" {
            h2 { "At a glance" }
            div.scroll {
                table.summary {
                    thead { tr { th { "Where" } th { "Claim or aim" } th { "Today, on this machine" } } }
                    tbody {
                        @for section in &page.sections {
                            @for (index, claim) in section.claims.iter().enumerate() {
                                tr {
                                    td {
                                        @if index == 0 {
                                            a href={ "#" (section.id) } { (section.title.split(':').next().unwrap_or_default()) }
                                        }
                                    }
                                    td {
                                        (claim.whose) ": " (rich(&claim.claim))
                                        @if !claim.scope.is_empty() { " " span.scope { (claim.scope) } }
                                    }
                                    td { (verdict(claim)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Text with what stands between backticks as code, and with no line break before a percent sign.
fn rich(words: &str) -> Markup {
    let words = words.replace(" %", "\u{a0}%");
    html! {
        @for (index, part) in words.split('`').enumerate() {
            @if index % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn verdict(claim: &Claim) -> Markup {
    html! { span.verdict.(claim.verdict.class()) { (claim.verdict.words()) } }
}

fn warnings(page: &Page) -> Markup {
    html! {
        section id="warnings" {
            h2 { "How far to trust it" }
            @if page.warnings.is_empty() {
                p { "The machine was quiet enough: nothing to warn of." }
            } @else {
                ul.warnings {
                    @for warning in &page.warnings {
                        li {
                            strong { "Noise: " } (rich(&warning.what)) "."
                            br;
                            strong { "Remedy: " } (rich(&warning.remedy)) "."
                        }
                    }
                }
            }
            p {
                @if page.failures.rows.is_empty() {
                    "Every point that was tried has numbers: no output was wrong."
                } @else {
                    a href="#failures" { "Failed measurements: " (page.failures.rows.len()) }
                    ". Their points have no numbers here."
                }
            }
        }
    }
}

fn failures(page: &Page) -> Markup {
    html! {
        @if !page.failures.rows.is_empty() {
            section id="failures" { h2 { "Failures" } (table(&page.failures)) }
        }
    }
}

fn section_markup(section: &Section) -> Markup {
    html! {
        section id=(section.id) {
            h2 { (section.title) }
            p.lead { (rich(&section.lead)) }
            @for claim in &section.claims {
                div.claim {
                    p {
                        strong { (claim.whose) ": " } (rich(&claim.claim))
                        @if !claim.scope.is_empty() { " " span.scope { (claim.scope) } }
                    }
                    p { strong { "Today: " } (verdict(claim)) ". " (rich(&claim.finding)) }
                }
            }
            @for part in &section.parts {
                @match part {
                    Part::Heading(words) => { h3 { (words) } }
                    Part::Words(words) => { p { (rich(words)) } }
                    Part::Table(rows) => { (table(rows)) }
                    Part::Picture(picture) => {
                        figure {
                            div.wide { (PreEscaped(&picture.wide)) }
                            div.narrow { (PreEscaped(&picture.narrow)) }
                            figcaption { (picture.words) "." }
                        }
                    }
                }
            }
        }
    }
}

fn table(table: &Table) -> Markup {
    let rows = html! {
        div.scroll {
            table {
                @if !table.folded { caption { (table.caption) } }
                thead { tr { @for column in &table.columns { th scope="col" { (column) } } } }
                tbody {
                    @for row in &table.rows {
                        tr {
                            @for (index, cell) in row.iter().enumerate() {
                                @if index == 0 { th scope="row" { (inner(cell)) } } @else { td { (inner(cell)) } }
                            }
                        }
                    }
                }
            }
        }
    };
    html! {
        @if table.folded {
            details { summary { (table.caption) } (rows) }
        } @else {
            (rows)
        }
    }
}

fn inner(cell: &Cell) -> Markup {
    html! { @if cell.strong { strong { (cell.text) } } @else { (cell.text) } }
}
