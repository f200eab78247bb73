use super::*;
use wasmparser::{Operator, Parser, Payload, Validator, WasmFeatures};

/// Rewrites `wat`, checks that the result is valid, and returns it as text.
#[track_caller]
fn check(wat: &str) -> (Instrumented, String) {
    let wasm = wat::parse_str(wat).expect("the test's module parses");
    validate(&wasm).expect("the test's module is valid");
    let out = instrument(&wasm).expect("it can be rewritten");
    let text = wasmprinter::print_bytes(&out.bytes).expect("the new module prints");
    if let Err(error) = validate(&out.bytes) {
        panic!("{error}\n{text}");
    }
    (out, text)
}

#[track_caller]
fn check_polls(wat: &str, polls: u32) {
    let (out, text) = check(wat);
    assert_eq!(out.poll_points, polls, "{text}");
}

#[track_caller]
fn refused(wasm: &[u8]) -> InstrumentError {
    instrument(wasm).expect_err("it must be refused")
}

fn validate(wasm: &[u8]) -> Result<(), wasmparser::Error> {
    Validator::new_with_features(WasmFeatures::all()).validate_all(wasm).map(drop)
}

fn wasm(wat: &str) -> Vec<u8> {
    wat::parse_str(wat).expect("the test's module parses")
}

#[test]
fn empty_module_gets_the_flag_alone() {
    let (out, text) = check("(module)");
    assert_eq!((out.flag_memory, out.poll_points), (0, 0));
    assert!(text.contains(r#"(import "remuda" "interrupt" (memory (;0;) 1 1 shared))"#), "{text}");
}

#[test]
fn own_memory_moves_up_by_one_everywhere() {
    let (out, text) = check(
        r#"(module
            (memory (export "memory") 1 9)
            (data (i32.const 8) "active")
            (data $passive "passive")
            (func (export "f") (param i32) (result i32)
                (i32.store offset=16 (local.get 0) (i32.load align=1 (local.get 0)))
                (memory.fill (local.get 0) (local.get 0) (local.get 0))
                (memory.copy (local.get 0) (local.get 0) (local.get 0))
                (memory.init $passive (local.get 0) (local.get 0) (local.get 0))
                (data.drop $passive)
                (v128.store (local.get 0) (v128.load8_lane 3 (local.get 0) (v128.const i64x2 0 0)))
                (drop (i64.atomic.rmw.add (local.get 0) (i64.const 1)))
                (i32.add (memory.grow (local.get 0)) (memory.size))))"#,
    );
    assert_eq!(out.flag_memory, 0);
    for part in [
        r#"(export "memory" (memory 1))"#,
        "(data (;0;) (memory 1) (i32.const 8) \"active\")",
        "i32.load 1 align=1",
        "i32.store 1 offset=16",
        "memory.fill 1",
        "memory.copy 1 1",
        "memory.init 1 $passive",
        "v128.load8_lane 1 3",
        "v128.store 1",
        "i64.atomic.rmw.add 1",
        "memory.grow 1",
        "memory.size 1",
    ] {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert_only_polls_reach_the_flag(&out);
}

#[test]
fn imported_memories_keep_their_index() {
    let (out, text) = check(
        r#"(module
            (import "env" "a" (memory 1))
            (import "env" "f" (func))
            (import "env" "b" (memory 1 2 shared))
            (memory 1)
            (memory i64 1)
            (export "b" (memory 1)) (export "own" (memory 2)) (export "wide" (memory 3))
            (data (memory 2) (i32.const 0) "x")
            (func (drop (i32.load 0 (i32.const 0))) (drop (i32.atomic.load 1 (i32.const 0)))
                (memory.copy 2 1 (i32.const 0) (i32.const 0) (i32.const 0))
                (drop (i64.load 3 (i64.const 0)))))"#,
    );
    assert_eq!(out.flag_memory, 2);
    for part in
        ["\"b\" (memory 1)", "\"own\" (memory 3)", "\"wide\" (memory 4)", "memory.copy 3 1", "i64.load 4", "(memory 3)"]
    {
        assert!(text.contains(part), "no `{part}` in {text}");
    }
    assert_only_polls_reach_the_flag(&out);
}

/// Asserts that every use of the flag's memory is the load of a poll.
#[track_caller]
fn assert_only_polls_reach_the_flag(out: &Instrumented) {
    let mut loads = 0;
    for payload in Parser::new(0).parse_all(&out.bytes) {
        match payload.expect("the new module is valid") {
            Payload::CodeSectionEntry(body) => {
                for operator in body.get_operators_reader().expect("it has operators") {
                    let operator = operator.expect("the new module is valid");
                    match operator {
                        Operator::I32AtomicLoad8U { memarg } if memarg.memory == out.flag_memory => loads += 1,
                        Operator::MemoryGrow { mem } | Operator::MemoryFill { mem } | Operator::MemorySize { mem } => {
                            assert_ne!(mem, out.flag_memory);
                        }
                        _ => {}
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.expect("the new module is valid");
                    assert!(export.kind != wasmparser::ExternalKind::Memory || export.index != out.flag_memory);
                }
            }
            _ => {}
        }
    }
    assert_eq!(loads, out.poll_points);
}

#[test]
fn loops_poll_and_straight_lines_do_not() {
    check_polls("(module (func (param i32) (result i32) (i32.add (local.get 0) (i32.const 1))))", 0);
    check_polls("(module (func (loop (br 0))))", 1);
    check_polls("(module (func (loop (loop (br 1)))))", 2);
    check_polls("(module (func (block (br 0) (loop (br 0)))))", 0);
    check_polls(
        "(module (func (param i32) (result i32) (local.get 0) (loop (param i32) (result i32) (br_if 0 (local.get 0)))))",
        1,
    );
}

#[test]
fn cycles_of_calls_poll_once_a_round() {
    check_polls("(module (func $f (call $f)))", 1);
    check_polls("(module (func $f (return_call $f)))", 1);
    check_polls("(module (func $even (call $odd)) (func $odd (call $even)))", 1);
    check_polls("(module (func $a (call $b)) (func $b (call $c)) (func $c))", 0);
    // The poll is on the way to the first recursive call, not at the entry: half of the calls of a binary tree are
    // leaves.
    check_polls("(module (func $f (if (i32.const 1) (then (call $f) (call $f)))))", 1);
    check_polls("(module (func $f (if (i32.const 1) (then (call $f)) (else (call $f)))))", 2);
    // Some paths to the second call have not polled.
    check_polls("(module (func $f (if (i32.const 1) (then (call $f))) (call $f)))", 2);
    check_polls("(module (func $f (loop (br_if 0 (i32.const 1))) (call $f)))", 1);
}

#[test]
fn what_may_run_long_polls_first() {
    check_polls("(module (import \"a\" \"b\" (func $host)) (func (call $host) (call $host)))", 2);
    check_polls("(module (table 1 funcref) (func (call_indirect (i32.const 0))))", 1);
    check_polls("(module (table 1 funcref) (func (return_call_indirect (i32.const 0))))", 1);
    check_polls("(module (type $t (func)) (func (param (ref $t)) (call_ref $t (local.get 0))))", 1);
    check_polls("(module (type $a (array i8)) (func (param i32) (drop (array.new_default $a (local.get 0)))))", 1);
    check_polls("(module (tag $t) (func (throw $t)))", 1);
    check_polls("(module (memory 1) (func (drop (memory.grow (i32.const 1)))))", 1);
    check_polls("(module (table 1 funcref) (func (table.fill (i32.const 0) (ref.null func) (i32.const 1))))", 1);
}

#[test]
fn long_straight_code_polls_in_between() {
    let adds = |n: usize| format!("(func (local i32) {})", "(local.set 0 (i32.const 1))".repeat(n / 2));
    check_polls(&format!("(module {})", adds(200)), 0);
    // A function with more work than a quarter of the limit polls at its entry; its callers then need not count it.
    check_polls(&format!("(module {})", adds(900)), 1);
    check_polls(&format!("(module {})", adds(10_000)), 1 + 10_000 / POLL_WORK_MAX);
}

/// Function f0 calls f1 twice, f1 calls f2 twice, and so on: no cycle, no loop, 2^64 calls.
#[test]
fn calls_that_multiply_poll_often_enough() {
    let chain: String = (0..64).map(|n| format!("(func $f{n} (call $f{0}) (call $f{0}))", n + 1)).collect();
    let (out, text) = check(&format!("(module {chain} (func $f64))"));
    assert!(out.poll_points >= 8, "{text}");
}

#[test]
fn a_skipped_poll_does_not_count() {
    let work = "(local.set 0 (i32.const 1))".repeat(300);
    // 600 operators, a loop that the branch jumps over, 600 operators more: together above the limit.
    check_polls(&format!("(module (func (local i32) {work} (block (br_if 0 (local.get 0)) (loop (nop))) {work}))"), 3);
    check_polls(&format!("(module (func (local i32) {work} (if (local.get 0) (then (loop (nop))) (else)) {work}))"), 3);
    // The poll of a loop that is on every path does count.
    check_polls(&format!("(module (func (local i32) {work} (loop (nop)) {work}))"), 2);
}

#[test]
fn a_handler_starts_with_the_work_of_its_body() {
    let work = "(local.set 0 (i32.const 1))".repeat(300);
    check_polls(
        &format!(
            "(module (func $g) (func (local i32)
                (block $h (try_table (catch_all $h) {work} (call $g) (loop (nop)))) {work}))"
        ),
        3,
    );
}

#[test]
fn every_proposal_stays_valid() {
    let modules = [
        // start, elements, ref.func, globals
        r#"(module (start $f) (func $f (loop (nop))) (table 2 funcref) (elem (i32.const 0) $f $f) (elem declare func $f)
            (global funcref (ref.func $f)) (func (result funcref) (ref.func $f)))"#,
        // exceptions
        r#"(module (tag $t (param i32)) (func $f (result i32)
            (block $h (result i32) (try_table (result i32) (catch $t $h) (loop (result i32) (throw $t (i32.const 1)))))))"#,
        r#"(module (tag $t) (func (block $h (result exnref) (try_table (catch_all_ref $h) (loop (throw $t))) (return)) (throw_ref)))"#,
        // GC
        r#"(module (rec (type $s (sub (struct (field (mut (ref null $s))))))) (type $a (array (mut i8)))
            (func (result (ref $s)) (loop (result (ref $s)) (struct.new $s (ref.null $s))))
            (func (param anyref) (result i32) (block $no (result anyref) (br_on_cast_fail $no anyref (ref $s) (local.get 0))
                (drop) (return (i32.const 1))) (drop) (i32.const 0))
            (func (param (ref $a)) (array.fill $a (local.get 0) (i32.const 0) (i32.const 1) (i32.const 2))))"#,
        // SIMD, relaxed SIMD
        r#"(module (memory 1) (func (result v128) (loop (result v128) (v128.load16x4_s offset=3 (i32.const 0)))
            (v128.const i64x2 1 2) (f32x4.relaxed_min)))"#,
        // memory64, custom page sizes, table64
        r#"(module (memory i64 1) (memory 1 (pagesize 1)) (table i64 1 funcref) (data (i64.const 0) "a")
            (func (result i64) (loop (result i64) (memory.copy 0 0 (i64.const 0) (i64.const 0) (i64.const 1)) (memory.size))))"#,
        // multi-value loops, and code that is never reached
        r#"(module (func (param i32 i64) (result i32 i64) (local.get 0) (local.get 1)
            (loop (param i32 i64) (result i32 i64) (br 0)) ) (func (unreachable) (loop (br 0)) (i32.add) (drop)))"#,
        // operands that wait below a loop
        r#"(module (func (result i32) (i32.const 1) (loop (result i32) (i32.const 2)) (i32.add)))"#,
        // threads
        r#"(module (memory 1 1 shared) (func (drop (memory.atomic.notify (i32.const 0) (i32.const 1))) (atomic.fence)))"#,
        // stack switching
        r#"(module (type $f (func)) (type $c (cont $f)) (tag $e) (elem declare func $g) (func $g (suspend $e))
            (func (loop (block $on (result (ref $c)) (resume $c (on $e $on) (cont.new $c (ref.func $g))) (return)) (drop) (br 0))))"#,
    ];
    for module in modules {
        assert_only_polls_reach_the_flag(&check(module).0);
    }
}

#[test]
fn custom_sections_stay_only_if_they_stay_right() {
    let mut source = wasm(
        r#"(module $m (func $loops (loop $l (nop))) (memory $own 1) (export "loops" (func $loops))
            (@custom ".debug_info" "1") (@custom "producers" "\00") (@custom "sourceMappingURL" "\01x")
            (@custom "target_features" "\00") (@custom "metadata.code.trace_inst" "x"))"#,
    );
    let out = instrument(&source).expect("it can be rewritten");
    let mut sections = Vec::new();
    for payload in Parser::new(0).parse_all(&out.bytes) {
        if let Payload::CustomSection(section) = payload.expect("the new module is valid") {
            sections.push(section.name().to_string());
        }
    }
    sections.sort();
    assert_eq!(sections, ["metadata.code.branch_hint", "name", "producers", "target_features"]);
    let text = wasmprinter::print_bytes(&out.bytes).expect("the new module prints");
    assert!(text.contains("(func $loops") && text.contains("(memory $own (;1;) 1)"), "{text}");

    // A name section that cannot be read is dropped, not an error.
    source = wasm(r#"(module (@custom "name" "\00\ff\ff"))"#);
    assert!(instrument(&source).is_ok());
}

#[test]
fn branch_hints_of_the_guest_move_along() {
    let (_, text) = check(
        r#"(module (memory 1) (func (export "f") (param i32) (loop (nop))
            (i32.store (i32.const 0) (i32.const 0))
            (@metadata.code.branch_hint "\01") (if (local.get 0) (then (nop)))))"#,
    );
    let hints: Vec<_> = text.lines().filter(|line| line.contains("branch_hint")).map(str::trim).collect();
    assert_eq!(hints, [r#"(@metadata.code.branch_hint "\00")"#, r#"(@metadata.code.branch_hint "\01")"#], "{text}");
}

#[test]
fn the_flag_is_out_of_reach() {
    let reserved = wasm(r#"(module (import "remuda" "interrupt" (memory 1 1 shared)))"#);
    assert!(matches!(refused(&reserved), InstrumentError::ReservedImport));
    let reserved = wasm(r#"(module (import "remuda" "interrupt" (func)))"#);
    assert!(matches!(refused(&reserved), InstrumentError::ReservedImport));
    // A module that has been rewritten cannot be rewritten once more.
    let (once, _) = check("(module (func (loop (br 0))))");
    assert!(matches!(refused(&once.bytes), InstrumentError::ReservedImport));
    // An invalid module must not become a valid one that owns the flag.
    for body in [
        "(drop (i32.load (i32.const 0)))",
        "(drop (memory.grow (i32.const 0)))",
        "(i32.store8 7 (i32.const 0) (i32.const 0))",
    ] {
        let invalid = wasm(&format!("(module (func {body}))"));
        assert!(matches!(refused(&invalid), InstrumentError::UndefinedMemory { .. }));
    }
    let invalid = wasm(r#"(module (export "m" (memory 0)))"#);
    assert!(matches!(refused(&invalid), InstrumentError::UndefinedMemory { memory: 0 }));
}

#[test]
fn what_no_flag_can_stop_is_refused() {
    let waits = wasm(
        "(module (memory 1 1 shared) (func)
            (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))",
    );
    assert!(matches!(refused(&waits), InstrumentError::Waits { function: 1 }));
    // On a memory that is not shared, waiting traps, and is accepted.
    check("(module (memory 1) (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))");
    let component = wasm("(component)");
    assert!(matches!(refused(&component), InstrumentError::Component));
}

#[test]
fn the_same_bytes_give_the_same_bytes() {
    let source = wasm("(module (memory 1) (func $f (loop (call $f) (br 0))))");
    assert_eq!(instrument(&source).expect("it can be rewritten"), instrument(&source).expect("it can be rewritten"));
}

/// A generator of pseudo-random numbers from a fixed seed: the tests are the same every time.
fn xorshift(mut state: u64) -> impl FnMut() -> u64 {
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn random_modules_stay_valid() {
    let mut random = xorshift(0x5eed);
    let mut polls = 0;
    let mut modules = 0;
    while modules < 500 {
        let bytes: Vec<u8> = (0..4096).map(|_| random() as u8).collect();
        let mut input = arbitrary::Unstructured::new(&bytes);
        let config = wasm_smith::Config {
            max_memories: 4,
            min_funcs: 2,
            min_memories: (random() % 3) as u32,
            memory64_enabled: true,
            multi_value_enabled: true,
            simd_enabled: true,
            relaxed_simd_enabled: true,
            bulk_memory_enabled: true,
            reference_types_enabled: true,
            tail_call_enabled: true,
            exceptions_enabled: true,
            gc_enabled: true,
            threads_enabled: true,
            custom_page_sizes_enabled: true,
            wide_arithmetic_enabled: true,
            extended_const_enabled: true,
            ..wasm_smith::Config::default()
        };
        // Sometimes the bytes do not suffice for the smallest module that the configuration allows.
        let Ok(module) = wasm_smith::Module::new(config, &mut input) else { continue };
        let module = module.to_bytes();
        modules += 1;
        validate(&module).expect("what wasm-smith makes is valid");
        match instrument(&module) {
            Ok(out) => {
                validate(&out.bytes).expect("the new module is valid");
                assert_only_polls_reach_the_flag(&out);
                polls += out.poll_points;
            }
            Err(InstrumentError::Waits { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    assert!(polls > 500, "only {polls} polls: the modules have no code");
}

/// Whatever the bytes are, the result is an error or a module, never a panic.
#[test]
fn damaged_modules_do_not_panic() {
    let sources = [
        wasm(
            r#"(module (import "a" "b" (func)) (memory 1) (data (i32.const 0) "abc") (table 2 funcref) (elem (i32.const 0) $f)
            (func $f (param i32) (result i32) (loop (br_if 0 (i32.load (local.get 0)))) (call 0) (call $f (local.get 0)))
            (@custom "name" "\01\02\00\00") (export "f" (func $f)))"#,
        ),
        wasm(
            r#"(module (tag $t) (type $s (struct (field i32))) (func (block $h (try_table (catch_all $h) (throw $t))))
            (func (param i32) (block (block (block (br_table 0 1 2 (local.get 0)))))) (func (drop (struct.new_default $s))))"#,
        ),
    ];
    let mut random = xorshift(0xbad5eed);
    for source in &sources {
        for end in 0..source.len() {
            let _ = instrument(&source[..end]);
        }
        for _ in 0..20_000 {
            let mut damaged = source.clone();
            for _ in 0..=random() % 4 {
                let at = random() as usize % damaged.len();
                damaged[at] = random() as u8;
            }
            // A valid module becomes a valid one; an invalid one may become anything, but causes no panic.
            if let Ok(out) = instrument(&damaged)
                && validate(&damaged).is_ok()
            {
                validate(&out.bytes).expect("the new module is valid");
            }
        }
    }
}

/// Rewrites a component, checks that the result is valid, and returns it as text.
#[track_caller]
fn check_component(component: &[u8]) -> String {
    validate(component).expect("the component is valid");
    let new = instrument_component(component, u64::MAX).expect("it can be rewritten");
    let text = wasmprinter::print_bytes(&new).expect("the new component prints");
    if let Err(error) = validate(&new) {
        panic!("{error}\n{text}");
    }
    text
}

#[test]
fn every_module_of_a_component_polls_the_components_own_flag() {
    let text = check_component(&wasm(
        r#"(component
            (import "wasi:a/b" (instance $i (export "f" (func (param "s" string) (result string)))))
            (type $unused (list string))
            (core module $memory
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 8)))
            (core instance $memory (instantiate $memory))
            (alias core export $memory "memory" (core memory $m))
            (core func $f (canon lower (func $i "f") (memory $m) (realloc (func $memory "realloc"))))
            (core module $main
                (import "host" "f" (func $f (param i32 i32 i32)))
                (import "memory" "memory" (memory 1))
                (func (export "run") (result i32)
                    (loop (call $f (i32.const 0) (i32.const 1) (i32.const 16)) (br 0))
                    (i32.load (i32.const 16))))
            (core instance $main (instantiate $main
                (with "host" (instance (export "f" (func $f))))
                (with "memory" (instance $memory))))
            (type $run (func (result u32)))
            (component $nested
                (alias outer 1 $run (type $same))
                (import "run" (func $run (type $same)))
                (export "run" (func $run)))
            (func $run (type $run) (canon lift (core func $main "run")))
            (instance $out (export "run" (func $run)))
            (export "a:b/c" (instance $out)))"#,
    ));
    assert_eq!(text.matches(r#"(import "remuda" "interrupt" (memory (;"#).count(), 2, "{text}");
    assert_eq!(text.matches(r#"(with "remuda" (instance 0))"#).count(), 2, "{text}");
    // At the head of the loop, and before the call.
    assert_eq!(text.matches("i32.atomic.load8_u 1").count(), 2, "{text}");
    assert!(text.contains("i32.load\n"), "a memory that is imported keeps its index: {text}");
}

#[test]
fn components_of_the_suite_can_be_rewritten() {
    for guest in ["http/http.wasm", "p3/p3.wasm"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests").join(guest);
        check_component(&std::fs::read(path).expect("it is committed"));
    }
}

/// What is valid stays valid, whatever its indices are.
#[test]
fn damaged_components_that_are_valid_become_valid_ones() {
    let source =
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests/p3/p3.wasm")).expect("it is committed");
    // The core module's code would take most of the damage.
    let module = 8..source.windows(4).position(|bytes| bytes == b"wasi").expect("it imports WASI");
    let after = source.len() - 20_000..source.len();
    let mut random = xorshift(0xc0ffee);
    let mut valid = 0;
    for i in 0..4000 {
        let range = if i % 2 == 0 { module.clone() } else { after.clone() };
        let mut damaged = source.clone();
        damaged[range.start + random() as usize % range.len()] = random() as u8;
        if validate(&damaged).is_ok() {
            valid += 1;
            match instrument_component(&damaged, u64::MAX) {
                Ok(new) => validate(&new).expect("the new component is valid"),
                Err(InstrumentError::ReservedImport | InstrumentError::Nested) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(valid > 100, "{valid}");
}

#[test]
fn components_that_cannot_be_rewritten_are_refused() {
    let refused = |wat: &str| instrument_component(&wasm(wat), u64::MAX).expect_err("it must be refused");
    let within = "(component (component (core module)))";
    assert!(matches!(refused(within), InstrumentError::Nested));
    let from_outside = "(component (core module $m)
        (component (alias outer 1 $m (core module $n)) (core instance (instantiate $n))))";
    assert!(matches!(refused(from_outside), InstrumentError::Nested));
    let own = r#"(component
        (core module $m (memory (export "interrupt") 1 1))
        (core module $n (import "remuda" "interrupt" (memory 1 1)))
        (core instance $i (instantiate $m))
        (core instance (instantiate $n (with "remuda" (instance $i)))))"#;
    assert!(matches!(refused(own), InstrumentError::ReservedImport));
    assert!(instrument_component(b"\0asm\x0d\0\x01\0nonsense", u64::MAX).is_err());
}
