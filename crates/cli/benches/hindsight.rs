//! Cold calls against hindsight (development aid).
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use bytes::Bytes;
use remuda_host::{Call, FunctionSpec, Host, HostConfig};
use remuda_model::{Entry, GuestContext, GuestLimits, Sink, Stdin};
use remuda_scheduler::Policy;

fn guests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")
}

const CASES: &[(&str, &str, &[&str], &str)] = &[
    ("noop/noop", "noop", &[], ""),
    ("hello/hello", "hello", &[], ""),
    ("canny/canny", "canny", &[], "canny/input/camera.png"),
    ("lenet/lenet", "lenet", &[], "lenet/input/digit.pgm"),
    ("plate/plate", "plate", &[], "plate/input/scene-640.png"),
    ("unzip/unzip", "unzip", &[], "unzip/input/library.zip"),
    ("attitude/attitude", "attitude", &[], "attitude/input/medium.csv"),
    ("polybench/gemm/gemm", "gemm-m", &["MEDIUM"], ""),
    ("polybench/gemm/gemm", "gemm-s", &["SMALL"], ""),
    ("polybench/gemm/gemm", "gemm-l", &["LARGE"], ""),
    ("polybench/atax/atax", "atax-m", &["MEDIUM"], ""),
    ("polybench/durbin/durbin", "durbin-m", &["MEDIUM"], ""),
    ("polybench/nussinov/nussinov", "nussinov-m", &["MEDIUM"], ""),
    ("polybench/heat-3d/heat-3d", "heat3d-m", &["MEDIUM"], ""),
    ("polybench/floyd-warshall/floyd-warshall", "floyd-s", &["SMALL"], ""),
    ("polybench/jacobi-2d/jacobi-2d", "jacobi2d-m", &["MEDIUM"], ""),
    ("polybench/trisolv/trisolv", "trisolv-m", &["MEDIUM"], ""),
    ("matmul/matmul", "matmul-10", &["10"], ""),
    ("matmul/matmul", "matmul-50", &["50"], ""),
    ("matmul/matmul", "matmul-100", &["100"], ""),
    ("matmul/matmul", "matmul-500", &["500"], ""),
];

fn child(wasm: &str, args: &[String], stdin: &str, engine: &str, calls: usize) {
    if std::env::var_os("VERBOSE").is_some() {
        tracing_subscriber::fmt()
            .with_env_filter("remuda_host=debug")
            .with_target(false)
            .without_time()
            .with_ansi(false)
            .with_writer(std::io::stderr)
            .init();
    }
    let policy = match engine {
        "auto" => Policy::Hedged,
        "adaptive" => Policy::Adaptive,
        name => Policy::Single(remuda_engine::Registry::default().find(name).unwrap().id),
    };
    let host = Host::open(&HostConfig { policy, workers: 2, queue_max: 16, ..HostConfig::default() }).unwrap();
    for known in host.registry().known().filter(|known| known.is_built() && known.automatic) {
        host.registry().open(known.id).unwrap();
    }
    let spec = FunctionSpec {
        args: args.to_vec(),
        engines: matches!(policy, Policy::Hedged | Policy::Adaptive)
            .then(|| ["wasmi.lazy", "wasmtime.winch", "wasmtime.cranelift"].map(String::from).to_vec()),
        ..FunctionSpec::of_module(&guests().join(format!("{wasm}.wasm")))
    };
    let function = host.deploy(spec, Some(&Entry::Command)).unwrap();
    let body = if stdin.is_empty() { Bytes::new() } else { Bytes::from(std::fs::read(guests().join(stdin)).unwrap()) };
    let mut total = 0;
    let mut first = 0;
    for i in 0..calls {
        let context = GuestContext {
            args: std::iter::once("f".to_owned()).chain(args.iter().cloned()).collect(),
            stdin: if body.is_empty() { Stdin::Empty } else { Stdin::Bytes(body.clone()) },
            stdout: Sink::Capture { bytes_max: 16 << 20 },
            stderr: Sink::CaptureHead { bytes_max: 1 << 16 },
            ..GuestContext::default()
        };
        let call = Call { id: host.next_request_id(), entry: Entry::Command, context, limits: GuestLimits::default() };
        let (done, wait) = mpsc::channel();
        let began = Instant::now();
        let _ticket = host.submit(&function, call, move |answer| done.send(answer).unwrap()).unwrap();
        let answer = wait.recv().unwrap().unwrap();
        let took = began.elapsed().as_nanos();
        assert!(answer.outcome.is_success(), "{}", answer.outcome);
        total += took;
        if i == 0 {
            first = took;
        }
        if std::env::var_os("VERBOSE").is_some() {
            eprintln!("{i}: {:?} {} {:?} total {took}", answer.engine, answer.reason, answer.phases);
        }
    }
    println!("{first} {total}");
    std::process::exit(0);
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).is_some_and(|arg| arg == "child") {
        let guest_args: Vec<String> = args[6..].to_vec();
        child(&args[2], &guest_args, &args[3], &args[4], args[5].parse().unwrap());
    }
    let filter: Vec<&String> = args[1..].iter().filter(|arg| !arg.starts_with("--")).collect();
    let engines = ["wasmi.lazy", "wasmtime.winch", "wasmtime.cranelift", "auto"];
    let rounds = 3;
    let mut ratios: [Vec<f64>; 2] = [vec![], vec![]];
    let _: BTreeMap<(), ()> = BTreeMap::new();
    let _ = Arc::new(());
    for (wasm, name, guest_args, stdin) in CASES {
        if !filter.is_empty() && !filter.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let mut line = format!("{name:<12}");
        for (mode, calls) in [(0, 1), (1, 50)] {
            let mut medians = vec![];
            let mut samples = vec![vec![]; engines.len()];
            let rounds = if mode == 1 { 1 } else { rounds };
            for _ in 0..rounds {
                for (i, engine) in engines.iter().enumerate() {
                    if mode == 1 && medians.len() == 99 {
                        continue;
                    }
                    if mode == 1 && (*name == "gemm-l" || *name == "matmul-500") {
                        samples[i].push(1.0);
                        continue;
                    }
                    let output = Command::new(std::env::current_exe().unwrap())
                        .args(["child", wasm, stdin, engine, &calls.to_string()])
                        .args(*guest_args)
                        .output()
                        .unwrap();
                    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                    let text = String::from_utf8(output.stdout).unwrap();
                    let total: f64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
                    samples[i].push(total / 1e6);
                }
            }
            for sample in &mut samples {
                sample.sort_by(f64::total_cmp);
                medians.push(sample[sample.len() / 2]);
            }
            let best = medians[..3].iter().copied().fold(f64::INFINITY, f64::min);
            let ratio = medians[3] / best;
            ratios[mode].push(ratio);
            line += &format!(
                " | {calls:>2}: {:>9.3} {:>9.3} {:>9.3} auto {:>9.3} ratio {ratio:>5.2}",
                medians[0], medians[1], medians[2], medians[3]
            );
        }
        println!("{line}");
    }
    for (mode, ratios) in ratios.iter().enumerate() {
        let geomean = (ratios.iter().map(|r| r.ln()).sum::<f64>() / ratios.len() as f64).exp();
        println!("mode {mode}: geomean {geomean:.3} worst {:.2}", ratios.iter().copied().fold(0.0, f64::max));
    }
}
