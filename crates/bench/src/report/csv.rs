//! The report's numbers as CSV, one line for each point and metric.

use crate::results::{Metric, Results, pattern_name};
use crate::stats::Interval;

const METRICS: [(Metric, &str, &str); 8] = [
    (Metric::Total, "total", "ns"),
    (Metric::Execute, "execute", "ns"),
    (Metric::StartUp, "start_up", "ns"),
    (Metric::Compile, "compile", "ns"),
    (Metric::Process, "process", "ns"),
    (Metric::PeakMemory, "peak_memory", "bytes"),
    (Metric::Code, "code", "bytes"),
    (Metric::Artifact, "artifact", "bytes"),
];

pub(super) fn render(results: &Results) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = [
        "suite",
        "guest",
        "variant",
        "case",
        "engine",
        "pattern",
        "metric",
        "unit",
        "median",
        "low",
        "high",
        "processes",
    ];
    let written = "a string takes everything";
    writer.write_record(header).expect(written);
    for point in results.points() {
        for (metric, name, unit) in METRICS {
            let Some(estimate) = results.estimate(point, metric) else { continue };
            let Interval { low, high } = estimate.interval();
            let interval = |end: f64| if high.is_finite() { format!("{end:.1}") } else { String::new() };
            let numbers = [format!("{:.1}", estimate.value), interval(low), interval(high)];
            let words = [
                &point.suite,
                &point.guest,
                &point.variant,
                &point.case,
                &point.engine,
                pattern_name(point.pattern),
                name,
                unit,
            ];
            let processes = estimate.processes.to_string();
            let record = words.into_iter().chain(numbers.iter().map(String::as_str)).chain([processes.as_str()]);
            writer.write_record(record).expect(written);
        }
    }
    String::from_utf8(writer.into_inner().expect(written)).expect("only strings were written")
}
