//! Tests of wasmtime's grouped options: what they change, and that none is silently dropped.

use super::{Written, seen, typed};
use crate::support::{guest, text};

/// Runs a module with options, and returns the exit code and standard error.
fn with(options: &[&str], module: &str) -> (Option<i32>, String) {
    let line: Vec<&str> = options.iter().copied().chain([module]).collect();
    let (code, _, message) = seen(&typed(&line));
    (code, message)
}

#[test]
fn a_time_limit_of_wasmtime_s_ends_as_there() {
    let spin = guest("spin/spin.wasm");
    let (spin, noop) = (spin.to_str().unwrap(), guest("noop/noop.wasm"));
    for options in [
        &["-W", "timeout=100ms"][..],
        &["-Wtimeout=100ms"],
        &["-W=timeout=100ms"],
        &["--wasm", "timeout=100000us"],
        &["--wasm=simd,timeout=100ms"],
        &["-W", "timeout=5s", "-W", "timeout=100ms"],
        // The shorter limit counts.
        &["-W", "timeout=100ms", "--timeout", "1h"],
    ] {
        let (code, message) = with(options, spin);
        assert_eq!(code, Some(134), "{options:?}: {message}");
        assert!(message.contains("was stopped after -W timeout=100ms"), "{options:?}: {message}");
    }
    assert_eq!(with(&["-W", "timeout=1h", "--timeout", "100ms"], spin).0, Some(2), "an hour is no unit there");
    assert_eq!(with(&["-W", "timeout=3600s", "--timeout", "100ms"], spin).0, Some(124));
    assert_eq!(with(&["-W", "timeout=60"], noop.to_str().unwrap()), (Some(0), String::new()));
}

#[test]
fn memory_and_tables_are_limited_as_there() {
    // The guest exits with 1 if it is refused a hundred pages, and with 2 if it is refused a hundred elements.
    let grows = Written::new(
        r#"(module
            (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (table $t 1 funcref)
            (func (export "_start")
                (if (i32.eq (memory.grow (i32.const 100)) (i32.const -1)) (then (call $exit (i32.const 1))))
                (if (i32.eq (table.grow $t (ref.null func) (i32.const 100)) (i32.const -1))
                    (then (call $exit (i32.const 2))))))"#,
    );
    for (options, code) in [
        (&[][..], 0),
        (&["-W", "max-memory-size=65536"], 1),
        (&["-W", "max-memory-size=0x100000"], 1),
        (&["-W", "max-memory-size=10_000_000"], 0),
        (&["-W", "max-memory-size=10000000", "--max-memory", "64KiB"], 1),
        (&["-W", "max-table-elements=50"], 2),
        (&["-W", "max-table-elements=101"], 0),
        (&["-W", "max-instances=1,max-tables=1,max-memories=1"], 0),
    ] {
        assert_eq!(with(options, grows.text()), (Some(code), String::new()), "{options:?}");
    }
    for (option, complaint) in [
        ("max-instances=0", "makes 1 instances, and -W max-instances=0"),
        ("max-tables=0", "makes 1 tables, and -W max-tables=0"),
        ("max-memories=0", "makes 1 memories, and -W max-memories=0"),
    ] {
        let (code, message) = with(&["-W", option], grows.text());
        assert_eq!(code, Some(1), "{option}: {message}");
        assert!(message.contains(complaint), "{option}: {message}");
    }
}

#[test]
fn proposals_can_be_switched_off() {
    for (key, body) in [
        ("simd", "(func (drop (v128.const i64x2 0 0)))"),
        ("relaxed-simd", "(func (param v128) (drop (i32x4.relaxed_trunc_f32x4_s (local.get 0))))"),
        ("bulk-memory", "(memory 1) (func (memory.fill (i32.const 0) (i32.const 0) (i32.const 0)))"),
        ("multi-memory", "(memory 1) (memory 1)"),
        ("multi-value", "(func (result i32 i32) (i32.const 1) (i32.const 2))"),
        ("reference-types", "(func (drop (ref.null extern)))"),
        ("tail-call", "(func $f (return_call $f))"),
        ("memory64", "(memory i64 1)"),
        ("function-references", "(type $t (func)) (func (param (ref null $t)) (call_ref $t (local.get 0)))"),
        ("gc", "(type (struct (field i32)))"),
        ("custom-page-sizes", "(memory 1 (pagesize 1))"),
        ("wide-arithmetic", "(func (param i64) (drop (i64.mul_wide_u (local.get 0) (local.get 0))) (drop))"),
        ("extended-const", "(global i32 (i32.add (i32.const 1) (i32.const 2)))"),
        ("exceptions", "(tag) (func (throw 0))"),
    ] {
        let module = Written::new(&format!("(module {body})"));
        for on in ["", "=y", "=yes", "=true", "=n,all-proposals=y", "=n,all-proposals"] {
            let option = format!("{key}{on}");
            // Switching a proposal on changes nothing, because it is on anyway.
            assert_eq!(with(&["-W", &option], module.text()), (Some(0), String::new()), "{option}");
        }
        for off in [&format!("{key}=n"), &format!("{key}=no"), &format!("{key}=false"), &format!("{key}=y,{key}=n")] {
            let (code, message) = with(&["-W", off], module.text());
            assert_eq!(code, Some(1), "{off}: {message}");
            assert!(message.contains(key), "{off}: {message}");
            assert!(message.contains("-W switches off"), "{off}: {message}");
        }
        assert_eq!(with(&["-W", "all-proposals=n"], module.text()).0, Some(1), "{key}");
    }
    let plain = Written::new("(module (func))");
    assert_eq!(with(&["-W", "all-proposals=n"], plain.text()), (Some(0), String::new()));
    // No engine here has threads, whatever the options say.
    let shared = Written::new("(module (memory 1 1 shared))");
    for option in ["threads=y", "threads=y,shared-memory=y"] {
        let (code, message) = with(&["-W", option], shared.text());
        assert_eq!(code, Some(1), "{message}");
        assert!(message.contains("threads"), "{message}");
    }
}

#[test]
fn a_compiler_can_be_asked_for_by_wasmtime_s_name() {
    let noop = guest("noop/noop.wasm");
    let noop = noop.to_str().unwrap();
    for (name, engine) in [("cranelift", "wasmtime.cranelift"), ("winch", "wasmtime.winch")] {
        let option = format!("compiler={name}");
        for options in [&["-C", &option][..], &["-C", &option, "--engine", engine], &["--codegen", &option]] {
            let line: Vec<&str> = ["--explain"].iter().chain(options).copied().chain([noop]).collect();
            let (code, _, message) = seen(&typed(&line));
            assert_eq!(code, Some(0), "{line:?}: {message}");
            assert!(message.contains(&format!("engine       {engine}:")), "{line:?}: {message}");
        }
    }
    let (code, message) = with(&["-C", "compiler=winch", "--engine", "wasmi.lazy"], noop);
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("wasmtime.winch") && message.contains("wasmi.lazy"), "{message}");
}

#[test]
fn nothing_is_kept_if_code_is_not_to_be() {
    let noop = guest("noop/noop.wasm");
    for (option, keeps) in [("cache=n", false), ("cache=y", true), ("cache", true)] {
        let data = tempfile::tempdir().unwrap();
        let out = crate::support::output(
            crate::support::remuda()
                .args(["run", "-C", option, "--no-background-compile", "--engine", "wasmtime.winch", "--data-dir"])
                .arg(data.path())
                .arg(&noop),
            b"",
        );
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        assert_eq!(std::fs::read_dir(data.path()).unwrap().next().is_some(), keeps, "{option}");
    }
}

#[test]
fn what_changes_nothing_is_accepted() {
    let noop = guest("noop/noop.wasm");
    let noop = noop.to_str().unwrap();
    for options in [
        &["-S", "cli"][..],
        &["-S", "cli=y"],
        &["-S", "common=y"],
        &["-S", "preview2=y"],
        &["-S", "http=n,nn=n,threads=n,listenfd=n"],
        &["-S", "tcp=y,udp=y,inherit-network,allow-ip-name-lookup"],
        &["-S", "cwd=/"],
        &["-O", "opt-level=0"],
        &["-O", "opt-level=s"],
        &["-O", "pooling-allocator,pooling-total-memories=5,memory-init-cow=n"],
        &["-O", "memory-reservation=0x10000,signals-based-traps=y"],
        &["-C", "parallel-compilation=n,cranelift-opt_level=none,collector=null"],
        &["-D", "debug-info,address-map=y,logging=y,max-backtrace=5"],
        &["-W", "max-wasm-stack=1000"],
        &["-W", "max-wasm-stack=524288"],
        &["-W", "epoch-interruption=y,component-model=y,gc-support=y"],
        &["-W", "nan-canonicalization=n,relaxed-simd-deterministic=n,unknown-imports-trap=n"],
    ] {
        assert_eq!(with(options, noop), (Some(0), String::new()), "{options:?}");
    }
}

#[test]
fn what_cannot_be_done_is_refused_by_name() {
    let noop = guest("noop/noop.wasm");
    let noop = noop.to_str().unwrap();
    for (options, complaint) in [
        (&["-W", "fuel=1000"][..], "-W fuel=1000: not supported: what a guest may do is bounded in time"),
        (&["-W", "max-wasm-stack=1000000"], "-W max-wasm-stack=1000000: every guest has 524288 bytes of stack"),
        (&["-W", "nan-canonicalization"], "-W nan-canonicalization: not supported"),
        (&["-W", "relaxed-simd-deterministic=y"], "not supported"),
        (&["-W", "trap-on-grow-failure=y"], "not supported"),
        (&["-W", "unknown-imports-trap"], "not supported"),
        (&["-W", "simd,wmemcheck=y"], "-W wmemcheck=y: not supported"),
        (&["-S", "cli=n"], "not supported"),
        (&["-S", "preview2=n"], "not supported"),
        (&["-S", "nn"], "not supported"),
        (&["-S", "threads"], "not supported"),
        (&["-S", "keyvalue"], "not supported: components have what commands"),
        (&["-S", "listenfd=y"], "not supported"),
        (&["-S", "tcplisten=127.0.0.1:80"], "not supported"),
        (&["-S", "max-resources=5"], "not supported"),
        (&["-C", "cache-config=x.toml"], "--data-dir"),
        (&["-D", "coredump=core"], "not supported"),
        (&["-D", "guest-debug=y"], "not supported"),
        // `wasmtime run` refuses these as well.
        (&["-W", "bogus"], "no such key; -W help lists them"),
        (&["-W", "max_memory_size=1"], "no such key"),
        (&["-W", ""], "no such key"),
        (&["-W", "help,simd"], "no such key"),
        (&["-W", "timeout"], "it needs a value; write timeout=TIME"),
        (&["-W", "timeout=x"], "no unit of time"),
        (&["-W", "timeout=1m"], "no unit of time"),
        (&["-W", "max-memory-size=1M"], "is no number"),
        (&["-W", "simd=maybe"], "\"maybe\" is neither y nor n"),
        (&["-W", "simd=1"], "neither y nor n"),
        (&["-O", "opt-level=5"], "there is 0, 1, 2, s"),
        (&["-O", "bogus=1"], "no such key"),
        (&["-O2"], "-O 2: `wasmtime run` has no such key"),
        (&["-C", "compiler=singlepass"], "there is cranelift and winch"),
    ] {
        let (code, message) = with(options, noop);
        assert_eq!(code, Some(2), "{options:?}: {message}");
        assert!(message.contains(complaint), "{options:?}: {message}");
    }
}

#[test]
fn help_lists_the_keys_and_needs_no_module() {
    for (option, key) in [
        ("-W", "max-memory-size=BYTES"),
        ("-S", "inherit-env[=y|n]"),
        ("-C", "compiler=cranelift|winch"),
        ("-O", "opt-level="),
        ("-D", "coredump"),
    ] {
        for help in ["help", "help-long"] {
            let (code, printed, message) = seen(&typed(&[option, help]));
            assert_eq!((code, message.as_str()), (Some(0), ""), "{option}");
            assert!(printed.contains(&format!("{option} {key}")), "{option}: {printed}");
        }
    }
}

#[test]
fn a_configuration_file_says_the_same_and_the_command_line_overrides_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    let config = file.to_str().unwrap();
    let spin = guest("spin/spin.wasm");
    let (spin, noop) = (spin.to_str().unwrap(), guest("noop/noop.wasm"));
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(
        "[wasm]\ntimeout = \"100ms\"\nsimd = true\n[optimize]\nopt-level = 2\n[codegen]\nparallel-compilation = false\n[debug]\nlogging = false\n",
    );
    let (code, message) = with(&["--config", config], spin);
    assert_eq!(code, Some(134), "{message}");
    assert!(message.contains("-W timeout=100ms"), "{message}");
    write("[wasm]\ntimeout = 3600\nmax-memory-size = 1\n");
    assert_eq!(with(&["--config", config, "-W", "timeout=100ms,max-memory-size=100000000"], spin).0, Some(134));
    for (text, complaint) in [
        ("[wasm]\nfuel = 5\n", "wasm.fuel: not supported"),
        ("[wasm]\nbogus = true\n", "wasm.bogus: `wasmtime run` has no such key"),
        ("[wasm]\nsimd = [1]\n", "wasm.simd: a array is no value of it"),
        ("[bogus]\n", "bogus: there is no such table; there is wasm, wasi, codegen, optimize, debug"),
        ("[wasm\n", "it is not TOML"),
    ] {
        write(text);
        let (code, message) = with(&["--config", config], noop.to_str().unwrap());
        assert_eq!(code, Some(1), "{text}: {message}");
        assert!(message.contains(complaint) && message.contains("--config"), "{text}: {message}");
    }
    let (code, message) = with(&["--config", "/nonexistent.toml"], noop.to_str().unwrap());
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("--config /nonexistent.toml: cannot read it"), "{message}");
}
