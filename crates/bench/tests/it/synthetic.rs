//! Made-up records: they are the same on every machine, and look about as real ones do.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use remuda_bench::row::{Failure, Pattern, Phase, Point, Record, Run, Sample};

/// The parameters of made-up records.
pub(crate) struct Synthetic {
    pub seed: u64,
    /// Fresh processes of each point.
    pub processes: u32,
    /// How far processes differ, as a share.
    pub noise: f64,
    /// The load average.
    pub load: f64,
    /// The name of the machine.
    pub machine: &'static str,
    /// An engine, and how many times as long as usual it executes.
    pub slower: Option<(&'static str, f64)>,
}

impl Default for Synthetic {
    fn default() -> Self {
        Self { seed: 7, processes: 7, noise: 0.02, load: 0.4, machine: "0123456789abcdef", slower: None }
    }
}

/// For each engine: its name, nanoseconds to compile a byte of code, nanoseconds to instantiate, and execution time as
/// a multiple of native code.
const ENGINES: [(&str, f64, f64, f64); 4] = [
    ("wasmtime.cranelift", 2_000.0, 28_000.0, 1.25),
    ("wasmtime.winch", 600.0, 52_000.0, 4.1),
    ("wasmer.singlepass", 190.0, 260_000.0, 4.6),
    ("wasmi.lazy", 2.0, 220_000.0, 14.0),
];

const KERNELS: [&str; 30] = [
    "2mm",
    "3mm",
    "adi",
    "atax",
    "bicg",
    "cholesky",
    "correlation",
    "covariance",
    "deriche",
    "doitgen",
    "durbin",
    "fdtd-2d",
    "floyd-warshall",
    "gemm",
    "gemver",
    "gesummv",
    "gramschmidt",
    "heat-3d",
    "jacobi-1d",
    "jacobi-2d",
    "lu",
    "ludcmp",
    "mvt",
    "nussinov",
    "seidel-2d",
    "symm",
    "syr2k",
    "syrk",
    "trisolv",
    "trmm",
];

/// For each application: its name, bytes of code, and native execution time in nanoseconds.
const APPLICATIONS: [(&str, f64, f64); 5] = [
    ("attitude", 16_000.0, 0.9e6),
    ("canny", 40_000.0, 9.0e6),
    ("lenet", 22_000.0, 1.6e6),
    ("plate", 61_000.0, 21.0e6),
    ("unzip", 30_000.0, 0.3e6),
];

impl Synthetic {
    pub(crate) fn records(&self) -> Vec<Record> {
        let mut random = Pcg64Mcg::seed_from_u64(self.seed);
        let mut records = vec![Record::Run(self.run())];
        for (index, kernel) in (0_u32..).zip(KERNELS) {
            let native_ns = 4.0e5 * f64::from(1 + index % 7) * f64::from(1 + index % 4);
            for pattern in [Pattern::Cold, Pattern::Steady] {
                self.guest(&mut records, &mut random, ("polybench", kernel, "medium"), pattern, 7_000.0, native_ns);
            }
        }
        for (application, code_bytes, native_ns) in APPLICATIONS {
            for pattern in [Pattern::Cold, Pattern::Fifty, Pattern::Warm] {
                self.guest(&mut records, &mut random, ("edge", application, "typical"), pattern, code_bytes, native_ns);
            }
        }
        for size in [10_u32, 50, 100, 200, 500] {
            let case = format!("f64-{size}");
            let native_ns = 1_000.0 + 0.8 * f64::from(size).powi(3);
            self.guest(&mut records, &mut random, ("matmul", "matmul", &case), Pattern::Cold, 6_000.0, native_ns);
        }
        self.guest(&mut records, &mut random, ("micro", "noop", "nothing"), Pattern::Cold, 200.0, 100.0);
        records.push(Record::Failure(Failure {
            run: self.run().run,
            point: point(("micro", "json", "small"), "wasmtime.winch", Pattern::Cold),
            process: 2,
            reason: "standard output is not the expected one: 3 bytes of 812 differ, the first at 17".into(),
        }));
        records
    }

    fn run(&self) -> Run {
        // The record is made from JSON as in files, so that optional fields are absent.
        let run = serde_json::json!({
            "schema": remuda_bench::row::SCHEMA,
            "run": format!("run-{}", self.seed),
            "seed": self.seed,
            "command": "remuda characterize --suite polybench,edge,matmul,micro --time-budget 20m --seed 7",
            "unix_ms": 1_764_021_600_000_u64,
            "remuda": "0.1.0",
            "commit": "0".repeat(40),
            "machine": {
                "fingerprint": self.machine,
                "cpu": "Made-up processor (family 0, model 0)",
                "cores": 2,
                "memory_bytes": 8_u64 << 30,
                "kernel": "Linux 0.0.0",
                "governor": null,
            },
        });
        serde_json::from_value(run).expect("a run")
    }

    fn guest(
        &self,
        records: &mut Vec<Record>,
        random: &mut Pcg64Mcg,
        name: (&str, &str, &str),
        pattern: Pattern,
        code_bytes: f64,
        native_ns: f64,
    ) {
        let calls = match pattern {
            Pattern::Cold | Pattern::Warm => 1,
            Pattern::Fifty => 50,
            Pattern::Steady => 40,
        };
        let mut best_ns = f64::INFINITY;
        if pattern == Pattern::Cold {
            let phases = Phases { execute: native_ns, ..Phases::default() };
            self.point(records, random, (point(name, "native", pattern), 0), phases);
        }
        for (engine, compile, instantiate, slowdown) in ENGINES {
            let slowdown = slowdown * random.random_range(0.75..1.35);
            let slower = self.slower.filter(|(of, _)| *of == engine).map_or(1.0, |(_, factor)| factor);
            let phases = Phases {
                bootstrap: 3_500_000.0,
                compile: if pattern == Pattern::Warm { 0.0 } else { compile * code_bytes },
                load: if pattern == Pattern::Warm && engine != "wasmi.lazy" { 290_000.0 } else { 0.0 },
                instantiate,
                execute: slowdown * native_ns * slower,
            };
            best_ns = best_ns.min(phases.total(calls));
            self.point(records, random, (point(name, engine, pattern), calls), phases);
        }
        // Remuda's choice takes a little longer than the best engine, as if it had chosen that one.
        let ready = Phases { bootstrap: 3_500_000.0, instantiate: 30_000.0, ..Phases::default() };
        let execute = ((best_ns * 1.06 - ready.total(calls)) / f64::from(calls)).max(10_000.0);
        self.point(records, random, (point(name, "remuda.auto", pattern), calls), Phases { execute, ..ready });
    }

    fn point(&self, records: &mut Vec<Record>, random: &mut Pcg64Mcg, (point, calls): (Point, u32), phases: Phases) {
        for process in 0..self.processes {
            let luck = 1.0 + self.noise * random.random_range(-1.0..1.0_f64);
            let mut whole_ns = 900_000.0;
            for iteration in 0..calls {
                let wobble = luck * (1.0 + self.noise / 4.0 * random.random_range(-1.0..1.0_f64));
                let slow_start = if iteration < 6 && calls > 1 { 1.0 + 0.3 / f64::from(iteration + 1) } else { 1.0 };
                let first = if iteration == 0 { 1.0 } else { 0.0 };
                let wall = [
                    (Phase::Compile, phases.compile * first),
                    (Phase::Load, phases.load * first),
                    (Phase::Instantiate, phases.instantiate),
                    (Phase::Execute, phases.execute * slow_start),
                ];
                let mut wall_ns: BTreeMap<Phase, u64> =
                    wall.iter().filter(|(_, ns)| *ns > 0.0).map(|(phase, ns)| (*phase, whole(ns * wobble))).collect();
                let total = wall_ns.values().sum();
                whole_ns += total as f64;
                wall_ns.insert(Phase::Total, total);
                records.push(Record::Sample(self.sample(&point, process, Some(iteration), wall_ns)));
            }
            let whole_ns = whole_ns + phases.bootstrap + if calls == 0 { phases.execute * luck } else { 0.0 };
            let mut wall_ns = BTreeMap::from([(Phase::Total, whole(whole_ns))]);
            if calls > 0 {
                wall_ns.insert(Phase::Bootstrap, whole(phases.bootstrap * luck));
                wall_ns.insert(Phase::Deploy, whole(120_000.0 * luck));
            }
            let mut sample = self.sample(&point, process, None, wall_ns);
            sample.peak_memory_bytes = Some(whole(12e6 * luck));
            if point.engine != "native" {
                sample.code_bytes = Some(50_000);
                sample.artifact_bytes = (point.engine != "wasmi.lazy").then_some(70_000);
            }
            records.push(Record::Sample(sample));
        }
    }

    fn sample(&self, point: &Point, process: u32, iteration: Option<u32>, wall_ns: BTreeMap<Phase, u64>) -> Sample {
        Sample {
            run: self.run().run,
            point: point.clone(),
            digest: "0".repeat(64),
            engine_version: "1.2.3".into(),
            flags: String::new(),
            process,
            iteration,
            cpu_ns: wall_ns.clone(),
            wall_ns,
            peak_memory_bytes: None,
            code_bytes: None,
            artifact_bytes: None,
            answered_by: (point.engine == "remuda.auto").then(|| "wasmtime.winch".to_owned()),
            load: self.load,
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Phases {
    bootstrap: f64,
    compile: f64,
    load: f64,
    instantiate: f64,
    execute: f64,
}

impl Phases {
    /// The time of all calls, in nanoseconds, without the process around them.
    fn total(&self, calls: u32) -> f64 {
        self.compile + self.load + f64::from(calls) * (self.instantiate + self.execute)
    }
}

fn point((suite, guest, case): (&str, &str, &str), engine: &str, pattern: Pattern) -> Point {
    Point {
        guest: guest.into(),
        suite: suite.into(),
        variant: String::new(),
        case: case.into(),
        engine: engine.into(),
        pattern,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made-up times are positive and small")]
fn whole(value: f64) -> u64 {
    value.round() as u64
}
