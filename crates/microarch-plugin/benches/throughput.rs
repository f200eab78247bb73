//! How fast programs run with the plugin: `cargo bench -p remuda-microarch-plugin`.
//!
//! Each way of running a program is timed by turns, several times, and the shortest time of each is printed. What qemu alone
//! takes stands beside it, since that differs by program and by machine. Times are CPU time, so that what else the machine does
//! matters less (programs that share a core's caches or its hardware threads still do).

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use remuda_microarch::{PLUGIN_FILE, Run, qemu_name};

/// Rounds of which the fastest counts.
const ROUNDS: usize = 5;

/// What is simulated, and the arguments that say so.
const WAYS: [(&str, &[&str]); 3] = [
    ("nothing simulated", &["icache=none", "dcache=none", "predictor=none", "btb=none", "ras=none"]),
    ("9 + 9 caches, 3 predictors", &[]),
    ("the same and TAGE", &["predictor=local:bimode:tournament:tage"]),
];

/// The CPU time of all processes that this one has started and seen end. Linux counts it in ticks of 10 ms (proc(5), fields 16
/// and 17 of `stat`), which is little beside a second.
fn children_cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux has /proc");
    // The second field, the program's name, stands in brackets and may have spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks: u64 = fields[13..15].iter().map(|ticks| ticks.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_millis(10 * ticks)
}

fn main() {
    // `cargo test --benches` starts this, too, to see that it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = tempfile::TempDir::new().expect("a folder for the programs");
    let elf = folder.path().join("programs");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/programs.c");
    let compiled = Command::new("gcc").args(["-O2", "-static", "-o"]).args([&elf, &source]).status();
    assert!(compiled.is_ok_and(|status| status.success()), "gcc is needed, and failed");
    let this = std::env::current_exe().expect("the path of this program");
    let plugin = this.parent().expect("a file has a folder").join(PLUGIN_FILE);
    let report = folder.path().join("report.json");

    println!("{:<10}{:<30}{:>10}{:>22}{:>12}", "program", "", "CPU s", "M instructions/s", "of qemu's");
    for (program, times) in [("gemm", "4"), ("quicksort", "4"), ("hash", "16")] {
        let mut alone = Duration::MAX;
        let mut fastest = [Duration::MAX; WAYS.len()];
        let mut instructions = 0;
        for _ in 0..ROUNDS {
            let before = children_cpu_time();
            let status = Command::new(qemu_name(remuda_microarch::InstructionSet::X86_64))
                .arg(&elf)
                .args([program, times])
                .stdout(std::process::Stdio::null())
                .status();
            alone = alone.min(children_cpu_time().saturating_sub(before));
            assert!(status.is_ok_and(|status| status.success()), "qemu-x86_64 is needed, and failed");
            for ((_, options), fastest) in WAYS.iter().zip(&mut fastest) {
                let run = Run {
                    program: elf.clone(),
                    arguments: vec![program.into(), times.into()],
                    stdin: None,
                    plugin: plugin.clone(),
                    options: [&["range=all"], *options].concat().iter().map(ToString::to_string).collect(),
                    report: report.clone(),
                    timeout: Duration::from_mins(10),
                };
                let before = children_cpu_time();
                let ran = run.run().unwrap_or_else(|error| panic!("{error}"));
                *fastest = (*fastest).min(children_cpu_time().saturating_sub(before));
                instructions = ran.report.instructions;
            }
        }
        let line = |way: &str, time: Duration| {
            let speed = instructions as f64 / time.as_secs_f64() / 1e6;
            let slower = time.as_secs_f64() / alone.as_secs_f64();
            println!("{program:<10}{way:<30}{:>10.2}{speed:>22.0}{slower:>12.1}", time.as_secs_f64());
        };
        line("qemu alone", alone);
        for ((way, _), time) in WAYS.iter().zip(fastest) {
            line(way, time);
        }
    }
}
