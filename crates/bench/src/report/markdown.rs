//! The report as Markdown: sentences and tables, without pictures.

use super::page::{Page, Part, Table};

pub(super) fn render(page: &Page) -> String {
    let mut text = format!("# {}\n\n", page.title);
    text += "Measured by Remuda, after \"Characterization and Implication of Edge WebAssembly Runtimes\" (HPCC 2021). \
             Times are wall times; brackets are 95 % bootstrap intervals over fresh processes.\n\n";
    for fact in &page.facts {
        let value = if fact.literal { format!("`{}`", fact.value) } else { escape(&fact.value) };
        text += &format!("- {}: {value}\n", fact.name);
    }
    text += "\n## How far to trust it\n\n";
    if page.warnings.is_empty() {
        text += "The machine was quiet enough: nothing to warn of.\n";
    }
    for warning in &page.warnings {
        text += &format!("- Noise: {}. Remedy: {}.\n", escape(&warning.what), escape(&warning.remedy));
    }
    for section in &page.sections {
        text += &format!("\n## {}\n\n{}\n", section.title, section.lead);
        for claim in &section.claims {
            text += &format!(
                "\n> {}: {}{}\n>\n> Today: **{}**. {}\n",
                claim.whose,
                escape(&claim.claim),
                if claim.scope.is_empty() { String::new() } else { format!(" ({})", claim.scope) },
                claim.verdict.words(),
                escape(&claim.finding)
            );
        }
        for part in &section.parts {
            match part {
                Part::Heading(words) => text += &format!("\n### {words}\n"),
                Part::Words(words) => text += &format!("\n{}\n", escape(words)),
                Part::Table(rows) => text += &table(rows),
                // The table after the picture has the same numbers.
                Part::Picture(_) => {}
            }
        }
    }
    if !page.failures.rows.is_empty() {
        text += "\n## Failures\n";
        text += &table(&page.failures);
    }
    text
}

fn table(table: &Table) -> String {
    let mut text = format!("\n{}:\n\n", escape(&table.caption));
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    text += &line(table.columns.iter().map(|column| escape(column)).collect());
    let numbers = std::iter::repeat_n("---:".to_owned(), table.columns.len() - 1);
    text += &line(std::iter::once("---".to_owned()).chain(numbers).collect());
    for row in &table.rows {
        let cells = row.iter().map(|cell| {
            let words = escape(&cell.text);
            if cell.strong { format!("**{words}**") } else { words }
        });
        text += &line(cells.collect());
    }
    text
}

/// Escapes characters that Markdown would take for markup.
fn escape(words: &str) -> String {
    let mut escaped = String::new();
    for letter in words.chars() {
        match letter {
            '|' | '*' | '_' | '<' | '\\' => escaped.extend(['\\', letter]),
            '\n' => escaped.push(' '),
            letter => escaped.push(letter),
        }
    }
    escaped
}
