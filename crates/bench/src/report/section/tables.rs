//! Tables with the numbers of every guest.

use super::*;

pub(super) fn section(results: &Results) -> Section {
    let mut section = Section {
        id: "guests",
        title: "Every guest".into(),
        lead: "Medians over fresh processes, with 95 % intervals in brackets; the best single engine in bold. `noop` does \
               nothing: its times are the floor below which nothing can be measured. The CSV format of this report has \
               every phase."
            .into(),
        ..Section::default()
    };
    for suite in results.suites() {
        let workloads = results.workloads(&suite);
        section.parts.push(Part::Heading(format!("Suite {suite}")));
        for pattern in results.patterns(&suite) {
            let engines = results.engines(|point| point.suite == suite && point.pattern == pattern);
            let rows: Vec<Vec<Cell>> = workloads
                .iter()
                .map(|workload| {
                    let name = Cell::new(label(workload, &workloads));
                    std::iter::once(name).chain(total_cells(results, workload, pattern, &engines)).collect()
                })
                .collect();
            section.parts.push(Part::Table(Table {
                caption: format!("{suite}: total time of {}", pattern_words(pattern)),
                rows,
                columns: columns("Guest", &engines),
                folded: true,
            }));
        }
        section.parts.extend(sizes(results, &suite));
    }
    if section.parts.is_empty() {
        section.parts.push(Part::Words("The results have no point with numbers.".into()));
    }
    section
}

/// A table of memory, code and artifact sizes of cold calls.
fn sizes(results: &Results, suite: &str) -> Option<Part> {
    let metrics = [(Metric::PeakMemory, "peak memory"), (Metric::Code, "code"), (Metric::Artifact, "artifact")];
    let mut rows = Vec::new();
    for point in results.points().filter(|point| point.suite == suite && point.pattern == Pattern::Cold) {
        let values = metrics.map(|(metric, _)| results.estimate(point, metric).map(|estimate| estimate.value));
        if values.iter().all(Option::is_none) {
            continue;
        }
        let mut row = vec![Cell::new(long_label(&point.into())), Cell::new(&point.engine)];
        row.extend(values.map(|value| Cell::new(value.map_or_else(|| "-".to_owned(), units::bytes))));
        rows.push(row);
    }
    let names = ["Guest", "Engine"].into_iter().chain(metrics.map(|(_, name)| name));
    (!rows.is_empty()).then(|| {
        Part::Table(Table {
            caption: format!("{suite}: memory, code and artifacts (one cold call)"),
            rows,
            columns: names.map(ToOwned::to_owned).collect(),
            folded: true,
        })
    })
}
