//! Tests of what reports say.

use remuda_bench::report::{Format, render};
use remuda_bench::results::Results;
use remuda_bench::row::{Pattern, Phase, Record};

use crate::synthetic::Synthetic;

fn results(of: &Synthetic, keep: impl Fn(&Record) -> bool) -> Results {
    Results::new(of.records().into_iter().filter(|record| keep(record)))
}

fn page(of: &Synthetic) -> String {
    render(&results(of, |_| true), Format::Html)
}

fn point_is(record: &Record, matches: impl Fn(&remuda_bench::row::Point) -> bool) -> bool {
    match record {
        Record::Run(_) => true,
        Record::Sample(sample) => matches(&sample.point),
        Record::Simulation(simulation) => matches(&simulation.point),
        Record::Counters(counters) => matches(&counters.point),
        Record::NoCounters(_) => true,
        Record::Failure(failure) => matches(&failure.point),
    }
}

/// `REMUDA_BLESS=1` writes the report anew instead of comparing it.
#[test]
fn the_markdown_is_as_it_was() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/expected/report.md");
    let found = render(&results(&Synthetic::default(), |_| true), Format::Markdown);
    if std::env::var_os("REMUDA_BLESS").is_some() {
        std::fs::write(&path, &found).expect("the expected report can be written");
    }
    let expected = std::fs::read_to_string(&path).expect("there is an expected report");
    for (number, (found, expected)) in (1..).zip(found.lines().zip(expected.lines())) {
        assert_eq!(found, expected, "line {number}; if that is meant: REMUDA_BLESS=1");
    }
    assert_eq!(found.lines().count(), expected.lines().count());
}

#[test]
fn the_choice_without_moves_stands_beside_the_choice() {
    let mut records = Synthetic::default().records();
    assert!(!render(&Results::new(records.clone()), Format::Markdown).contains("racing / best"));
    // `remuda.racing` takes twice as long as `remuda.auto`.
    let racing: Vec<Record> = records
        .iter()
        .filter_map(|record| match record {
            Record::Sample(sample) if sample.point.engine == "remuda.auto" => {
                let mut sample = sample.clone();
                sample.point.engine = "remuda.racing".into();
                sample.wall_ns.values_mut().for_each(|ns| *ns *= 2);
                Some(Record::Sample(sample))
            }
            _ => None,
        })
        .collect();
    records.extend(racing);
    let report = render(&Results::new(records), Format::Markdown);
    let rows = report.lines().filter(|line| line.contains("**geometric mean**"));
    let ratios: Vec<Vec<f64>> =
        rows.map(|row| row.split(['|', '[', ' ', '*']).filter_map(|cell| cell.parse().ok()).collect()).collect();
    let doubled = |row: &Vec<f64>| row.len() >= 2 && row.iter().any(|ratio| (ratio / row[0] - 2.0).abs() < 0.02);
    assert!(report.contains("racing / best") && ratios.iter().any(doubled), "{ratios:?}");
}

/// Adds an engine that takes, phase by phase, a multiple of what `wasmtime.cranelift` takes.
fn add_engine(records: &mut Vec<Record>, engine: &str, multiple: impl Fn(Phase) -> u64) {
    let like_cranelift = records.iter().filter_map(|record| match record {
        Record::Sample(sample) if sample.point.engine == "wasmtime.cranelift" => Some(sample.clone()),
        _ => None,
    });
    let added: Vec<Record> = like_cranelift
        .map(|mut sample| {
            sample.point.engine = engine.into();
            sample.wall_ns.iter_mut().for_each(|(phase, ns)| *ns *= multiple(*phase));
            if sample.iteration.is_some() {
                let parts = sample.wall_ns.iter().filter(|(phase, _)| **phase != Phase::Total);
                let total = parts.map(|(_, ns)| ns).sum();
                sample.wall_ns.insert(Phase::Total, total);
            }
            Record::Sample(sample)
        })
        .collect();
    records.extend(added);
}

/// The verdict on a claim in the section about the paper's runtimes.
fn verdict<'a>(report: &'a str, claim: &str) -> &'a str {
    let after = report.split_once(claim).unwrap_or_else(|| panic!("{claim:?} is not in the report")).1;
    after.split("**").nth(1).expect("a verdict follows")
}

#[test]
fn the_paper_s_runtimes_are_held_against_its_claims() {
    let (wavm, lucet, node) = ("WAVM is the slowest on short", "Lucet starts fast", "NodeJS included");
    assert!(!render(&results(&Synthetic::default(), |_| true), Format::Markdown).contains(wavm));

    // A slow compiler whose code is no better, and a fast start with slow code.
    let mut records = Synthetic::default().records();
    add_engine(&mut records, "wavm.llvm", |phase| if phase == Phase::Compile { 10 } else { 1 });
    add_engine(&mut records, "lucet.cranelift", |phase| match phase {
        Phase::Load | Phase::Instantiate | Phase::Bootstrap => 0,
        _ => 3,
    });
    let four = "over the paper's four";
    assert!(!render(&Results::new(records.clone()), Format::Markdown).contains(four));
    add_engine(&mut records, "wasmer.cranelift", |_| 2);
    add_engine(&mut records, "node.v8", |phase| if phase == Phase::Compile { 0 } else { 2 });
    let report = render(&Results::new(records), Format::Markdown);
    assert_eq!(verdict(&report, wavm), "holds in part", "it is never the best");
    assert_eq!(verdict(&report, lucet), "holds");
    assert_eq!(verdict(&report, node), "holds");
    assert!(report.contains(four));

    // All the other way round.
    let mut records = Synthetic::default().records();
    add_engine(&mut records, "wavm.llvm", |_| 2);
    add_engine(&mut records, "lucet.cranelift", |_| 3);
    add_engine(&mut records, "node.v8", |_| 0);
    let report = render(&Results::new(records), Format::Markdown);
    assert_eq!(verdict(&report, wavm), "does not hold");
    assert_eq!(verdict(&report, lucet), "holds in part", "only its code is poor");
    assert_eq!(verdict(&report, node), "does not hold");
}

/// An engine that has to be asked for by name sets no mark for the choice.
#[test]
fn the_choice_is_held_against_the_engines_that_it_has() {
    let mean = |report: &str| {
        let table = report.split_once("Time over that of the best engine by hindsight").expect("there is a table").1;
        let row = table.lines().find(|line| line.contains("| remuda.auto |")).expect("the choice has a row");
        row.split('|').nth(2).expect("it has a mean").trim().to_owned()
    };
    let mut records = Synthetic::default().records();
    let before = mean(&render(&Results::new(records.clone()), Format::Markdown));
    add_engine(&mut records, "node.v8", |_| 0);
    assert_ne!(mean(&render(&Results::new(records.clone()), Format::Markdown)), before);
    for record in &mut records {
        if let Record::Sample(sample) = record
            && sample.point.engine == "remuda.auto"
        {
            sample.flags = "among wasmtime.cranelift 1 wasmtime.winch 1 wasmer.singlepass 1 wasmi.lazy 1".into();
        }
    }
    assert_eq!(mean(&render(&Results::new(records), Format::Markdown)), before);
}

#[test]
fn the_same_rows_give_the_same_page_in_whatever_order() {
    let mut records = Synthetic::default().records();
    let page = render(&Results::new(records.clone()), Format::Html);
    records[1..].reverse();
    assert_eq!(render(&Results::new(records), Format::Html), page);
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let page = page(&Synthetic::default());
    for reference in ["<script", "@import", "url(", "src=", "<iframe"] {
        assert!(!page.contains(reference), "{reference} in the page");
    }
    let addresses = page.matches("http").count();
    assert_eq!(addresses, page.matches("xmlns=\"http://www.w3.org/2000/svg\"").count(), "an address in the page");
}

/// Checks that without some of the records, a figure is replaced by a sentence that says what is missing.
#[track_caller]
fn check_missing(keep: impl Fn(&remuda_bench::row::Point) -> bool, section: &str, sentence: &str) {
    let results = results(&Synthetic::default(), |record| point_is(record, &keep));
    let page = render(&results, Format::Html);
    let from = page.find(&format!("<section id=\"{section}\">")).expect("the section is there");
    let section = &page[from..from + page[from..].find("</section>").expect("it ends")];
    assert!(section.contains(sentence), "{section}");
    assert!(section.contains("was not measured"), "{section}");
    assert!(!section.contains("<figure"), "{section}");
}

#[test]
fn what_is_missing_is_said() {
    check_missing(|point| point.suite != "polybench", "fig5", "no PolyBench kernel");
    check_missing(|point| point.suite != "edge", "fig7", "no cold and no fifty calls of edge applications");
    check_missing(|point| point.suite != "matmul", "fig8", "two sizes of the guest");
    check_missing(|point| point.suite != "edge", "fig9", "an edge application on two engines");
    check_missing(|point| point.engine != "remuda.auto", "table2", "remuda.auto beside another engine");
    check_missing(|point| point.engine != "remuda.auto", "regret", "remuda.auto");
    check_missing(|point| point.engine == "wasmi.lazy", "pareto", "of another engine");
    check_missing(|_| false, "fig5", "no PolyBench kernel");
}

#[test]
fn a_point_that_failed_once_has_no_numbers() {
    let csv = render(&results(&Synthetic::default(), |_| true), Format::Csv);
    assert!(csv.contains("edge,canny,,typical,wasmi.lazy,cold,total,ns,"));
    let mut records = Synthetic::default().records();
    let failure = records.iter().find_map(|record| match record {
        Record::Sample(sample)
            if sample.point.guest == "canny"
                && sample.point.engine == "wasmi.lazy"
                && sample.point.pattern == Pattern::Cold =>
        {
            Some(remuda_bench::row::Failure {
                run: sample.run.clone(),
                point: sample.point.clone(),
                process: 3,
                reason: "a wrong output".into(),
            })
        }
        _ => None,
    });
    records.push(Record::Failure(failure.expect("canny is there")));
    let csv = render(&Results::new(records), Format::Csv);
    assert!(!csv.contains("edge,canny,,typical,wasmi.lazy,cold,"));
    assert!(csv.contains("edge,canny,,typical,wasmi.lazy,fifty,"));
}

#[track_caller]
fn check_warning(of: &Synthetic, expected: &str) {
    let warnings = remuda_bench::noise::warnings(&results(of, |_| true));
    let found = warnings.iter().any(|warning| warning.what.contains(expected) && !warning.remedy.is_empty());
    assert!(found, "no {expected:?} in {warnings:?}");
}

#[test]
fn noise_is_told_with_a_remedy() {
    assert_eq!(remuda_bench::noise::warnings(&results(&Synthetic::default(), |_| true)), []);
    check_warning(&Synthetic { load: 3.5, ..Synthetic::default() }, "load was above the number of cores");
    check_warning(&Synthetic { processes: 3, ..Synthetic::default() }, "fewer than 5 processes");
    check_warning(&Synthetic { noise: 0.4, ..Synthetic::default() }, "no better than ±10 %");
    check_warning(&Synthetic { noise: 0.4, ..Synthetic::default() }, "differ from one another");
    let mut records = Synthetic::default().records();
    records.extend(Synthetic { seed: 8, machine: "another", ..Synthetic::default() }.records());
    let warnings = remuda_bench::noise::warnings(&Results::new(records));
    assert!(warnings.iter().any(|warning| warning.what.contains("2 machines")), "{warnings:?}");
}

#[test]
fn nothing_is_concluded_from_one_process() {
    let once = Synthetic { processes: 1, ..Synthetic::default() };
    let text = render(&results(&once, |_| true), Format::Markdown);
    assert!(text.contains("[?]"), "{text}");
    assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
    let regret =
        &text[text.find("## Regret").expect("there is regret")..text.find("## Compile").expect("there is more")];
    assert_eq!(regret.matches("Today: **cannot be told**").count(), 4, "{regret}");
    let finding = &text[text.find("## The finding").expect("there is a finding")..];
    assert!(finding[..600].contains("Today: **cannot be told**"), "{finding}");
}

#[test]
fn engines_are_compared_within_a_run() {
    // In the second run, everything takes twice as long. Only one engine was measured in both runs.
    let mut records = Synthetic::default().records();
    let again = Synthetic { seed: 8, ..Synthetic::default() };
    records.extend(
        again.records().into_iter().filter(|record| point_is(record, |point| point.engine == "wasmi.lazy")).map(
            |mut record| {
                if let Record::Sample(sample) = &mut record {
                    sample.wall_ns.values_mut().for_each(|ns| *ns *= 2);
                }
                record
            },
        ),
    );
    let (once, twice) = (results(&Synthetic::default(), |_| true), Results::new(records));
    let workload = &once.workloads("edge")[0];
    let [slow, fast] = ["wasmi.lazy", "wasmtime.cranelift"].map(|engine| workload.on(engine, Pattern::Cold));
    let ratio = |results: &Results| {
        results.ratio(&slow, &fast, remuda_bench::results::Metric::Total).expect("both were measured").value
    };
    assert!((ratio(&once) / ratio(&twice) - 1.0).abs() < 1e-12);
}
