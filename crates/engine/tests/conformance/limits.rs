//! Limits on what a guest may use of the host, for each instance separately: memories, tables and stack.

use std::sync::Arc;

use remuda_engine::{EngineError, Interruption, Module};
use remuda_model::{Cause, Interrupt, Limit, ModuleLimits, TrapKind, Value};

use crate::support::{End, Setup, able, compile, export, live, open, parse};

const PAGE: u64 = 1 << 16;

struct Case {
    what: &'static str,
    /// The module, which exports `run`.
    text: &'static str,
    /// The guest's limits: bytes of memory, elements of tables.
    caps: (u64, u64),
    expected: Expected,
    /// Whether the guest is refused growth by its limits; growth that a module's own maximum refuses does not count.
    refused: bool,
}

enum Expected {
    Returns(&'static [i32]),
    Ends(End),
    /// The guest ends in this way while it is instantiated.
    Fails(End),
}

use Expected::{Ends, Fails, Returns};

const MEMORY: End = End::Exceeded(Limit::Memory);
const TABLE: End = End::Exceeded(Limit::Table);

const CASES: &[Case] = &[
    Case {
        what: "memory.grow up to the cap, and not past it",
        text: r#"(module (memory 1) (func (export "run") (result i32 i32 i32 i32)
            (memory.grow (i32.const 2)) (memory.grow (i32.const 1)) (memory.grow (i32.const 0)) (memory.size)))"#,
        caps: (3 * PAGE, 0),
        expected: Returns(&[1, -1, 3, 3]),
        refused: true,
    },
    Case {
        what: "a cap that is no multiple of a page",
        text: r#"(module (memory 1) (func (export "run") (result i32 i32)
            (memory.grow (i32.const 1)) (memory.grow (i32.const 1))))"#,
        caps: (3 * PAGE - 1, 0),
        expected: Returns(&[1, -1]),
        refused: true,
    },
    Case {
        what: "memory that was refused is not there, and what was granted is",
        text: r#"(module (memory 1) (func (export "run") (result i32)
            (drop (memory.grow (i32.const 1)))
            (drop (memory.grow (i32.const 1)))
            (i32.store (i32.const 131068) (i32.const 7))
            (i32.load (i32.const 131068))))"#,
        caps: (2 * PAGE, 0),
        expected: Returns(&[7]),
        refused: true,
    },
    Case {
        what: "memory beyond a refused growth cannot be touched",
        text: r#"(module (memory 1) (func (export "run") (result i32)
            (drop (memory.grow (i32.const 1))) (i32.load (i32.const 65536))))"#,
        caps: (PAGE, 0),
        expected: Ends(MEMORY),
        refused: true,
    },
    Case {
        what: "initial memory at the cap",
        text: r#"(module (memory 4) (func (export "run") (result i32) (memory.size)))"#,
        caps: (4 * PAGE, 0),
        expected: Returns(&[4]),
        refused: false,
    },
    Case {
        what: "initial memory beyond the cap",
        text: r#"(module (memory 4) (func (export "run")))"#,
        caps: (4 * PAGE - 1, 0),
        expected: Fails(MEMORY),
        refused: true,
    },
    Case {
        what: "a memory of 4 GiB",
        text: r#"(module (memory 65536) (func (export "run")))"#,
        caps: (256 << 20, 0),
        expected: Fails(MEMORY),
        refused: true,
    },
    Case {
        what: "several memories count together when they grow",
        text: r#"(module (memory $a 1) (memory $b 1) (func (export "run") (result i32 i32 i32 i32)
            (memory.grow $a (i32.const 1)) (memory.grow $b (i32.const 1)) (memory.size $a) (memory.size $b)))"#,
        caps: (3 * PAGE, 0),
        expected: Returns(&[1, -1, 2, 1]),
        refused: true,
    },
    Case {
        what: "several memories count together from the start",
        text: r#"(module (memory 2) (memory 2) (func (export "run")))"#,
        caps: (3 * PAGE, 0),
        expected: Fails(MEMORY),
        refused: true,
    },
    Case {
        what: "64-bit memories",
        text: r#"(module (memory i64 1) (func (export "run") (result i32 i32 i32)
            (i32.wrap_i64 (memory.grow (i64.const 1))) (i32.wrap_i64 (memory.grow (i64.const 1)))
            (i32.wrap_i64 (memory.grow (i64.const 0x1000000000000)))))"#,
        caps: (2 * PAGE, 0),
        expected: Returns(&[1, -1, -1]),
        refused: true,
    },
    Case {
        what: "pages of one byte",
        text: r#"(module (memory 10 (pagesize 1)) (func (export "run") (result i32 i32 i32)
            (memory.grow (i32.const 90)) (memory.grow (i32.const 1)) (memory.size)))"#,
        caps: (100, 0),
        expected: Returns(&[10, -1, 100]),
        refused: true,
    },
    Case {
        what: "what the module's own maximum refuses costs nothing",
        text: r#"(module (memory 1 3) (func (export "run") (result i32 i32 i32 i32 i32)
            (memory.grow (i32.const 3)) (memory.grow (i32.const 3)) (memory.grow (i32.const 60000))
            (memory.grow (i32.const 2)) (memory.grow (i32.const 1))))"#,
        caps: (4 * PAGE, 0),
        expected: Returns(&[-1, -1, -1, 1, -1]),
        refused: false,
    },
    Case {
        what: "what the module's own maximum refuses is not the cap's refusal, even where the cap is lower",
        text: r#"(module (memory 1 3) (func (export "run") (result i32 i32)
            (memory.grow (i32.const 3)) (memory.grow (i32.const 65535))))"#,
        caps: (2 * PAGE, 0),
        expected: Returns(&[-1, -1]),
        refused: false,
    },
    Case {
        what: "a guest that its own maximum refused traps for itself",
        text: r#"(module (memory 1 3) (func (export "run")
            (if (i32.eq (memory.grow (i32.const 60000)) (i32.const -1)) (then (unreachable)))))"#,
        caps: (4 * PAGE, 0),
        expected: Ends(End::Trapped(TrapKind::Unreachable)),
        refused: false,
    },
    Case {
        what: "most of the cap in one growth",
        text: r#"(module (memory 1) (func (export "run") (result i32 i32 i32)
            (memory.grow (i32.const 1023)) (memory.grow (i32.const 1)) (memory.size)))"#,
        caps: (1024 * PAGE, 0),
        expected: Returns(&[1, -1, 1024]),
        refused: true,
    },
    Case {
        what: "table.grow up to the cap, and not past it",
        text: r#"(module (table 4 funcref) (func (export "run") (result i32 i32 i32)
            (table.grow (ref.null func) (i32.const 6)) (table.grow (ref.null func) (i32.const 1)) (table.size)))"#,
        caps: (0, 10),
        expected: Returns(&[4, -1, 10]),
        refused: true,
    },
    Case {
        what: "tables of host references",
        text: r#"(module (table 1 externref) (func (export "run") (result i32 i32)
            (table.grow (ref.null extern) (i32.const 1)) (table.grow (ref.null extern) (i32.const 1))))"#,
        caps: (0, 2),
        expected: Returns(&[1, -1]),
        refused: true,
    },
    Case {
        what: "several tables count together when they grow",
        text: r#"(module (table $a 1 funcref) (table $b 1 funcref) (func (export "run") (result i32 i32)
            (table.grow $a (ref.null func) (i32.const 2)) (table.grow $b (ref.null func) (i32.const 1))))"#,
        caps: (0, 4),
        expected: Returns(&[1, -1]),
        refused: true,
    },
    Case {
        what: "more tables than a pool holds",
        text: r#"(module
            (table $a 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table 1 funcref) (table $f 1 funcref)
            (func (export "run") (result i32 i32)
            (table.grow $a (ref.null func) (i32.const 2)) (table.grow $f (ref.null func) (i32.const 1))))"#,
        caps: (0, 8),
        expected: Returns(&[1, -1]),
        refused: true,
    },
    Case {
        what: "initial table beyond the cap",
        text: r#"(module (table 11 funcref) (func (export "run")))"#,
        caps: (0, 10),
        expected: Fails(TABLE),
        refused: true,
    },
    Case {
        what: "a table of ten million elements",
        text: r#"(module (table 10000000 funcref) (func (export "run")))"#,
        caps: (0, 1 << 20),
        expected: Fails(TABLE),
        refused: true,
    },
    Case {
        what: "what the table's own maximum refuses costs nothing",
        text: r#"(module (table 1 3 funcref) (func (export "run") (result i32 i32 i32)
            (table.grow (ref.null func) (i32.const 3)) (table.grow (ref.null func) (i32.const 3))
            (table.grow (ref.null func) (i32.const 2))))"#,
        caps: (0, 4),
        expected: Returns(&[-1, -1, 1]),
        refused: false,
    },
    Case {
        what: "what the table's own maximum refuses is not the cap's refusal, even where the cap is lower",
        text: r#"(module (table $a 1 3 funcref) (table $b 1 9 funcref) (func (export "run") (result i32 i32 i32)
            (table.grow $a (ref.null func) (i32.const 3)) (table.grow $a (ref.null func) (i32.const -1))
            (table.grow $a (ref.null func) (i32.const 2))))"#,
        caps: (0, 4),
        expected: Returns(&[-1, -1, 1]),
        refused: false,
    },
    Case {
        what: "the cap's refusal stays one when the table's own maximum refuses later",
        text: r#"(module (table 1 9 funcref) (func (export "run") (result i32 i32 i32)
            (table.grow (ref.null func) (i32.const 8)) (table.grow (ref.null func) (i32.const 9))
            (table.grow (ref.null func) (i32.const 3))))"#,
        caps: (0, 4),
        expected: Returns(&[-1, -1, 1]),
        refused: true,
    },
    Case {
        what: "more elements than any table has, with a cap that is higher still",
        text: r#"(module (table 1 funcref) (func (export "run") (result i32)
            (table.grow (ref.null func) (i32.const 10000000))))"#,
        caps: (0, u64::MAX),
        expected: Returns(&[-1]),
        refused: true,
    },
    Case {
        what: "most of the table's cap in one growth",
        text: r#"(module (table 1 funcref) (func (export "run") (result i32 i32 i32)
            (table.grow (ref.null func) (i32.const 1048575)) (table.grow (ref.null func) (i32.const 1)) (table.size)))"#,
        caps: (0, 1 << 20),
        expected: Returns(&[1, -1, 1 << 20]),
        refused: true,
    },
    Case {
        what: "a managed heap counts as memory",
        text: r#"(module (type $a (array (mut i64))) (type $cell (struct (field (ref $a)) (field (ref null $cell))))
            (func (export "run") (local $list (ref null $cell))
            (loop $again
              (local.set $list (struct.new $cell (array.new_default $a (i32.const 4096)) (local.get $list)))
              (br $again))))"#,
        caps: (8 << 20, 0),
        expected: Ends(MEMORY),
        refused: true,
    },
    Case {
        what: "one array that is larger than the cap",
        text: r#"(module (type $a (array (mut i64)))
            (func (export "run") (drop (array.len (array.new_default $a (i32.const 4000000))))))"#,
        caps: (8 << 20, 0),
        expected: Ends(MEMORY),
        refused: true,
    },
    Case {
        what: "calls nested 3000 deep",
        text: r#"(module (func $f (param i32) (result i32)
            (if (i32.eqz (local.get 0)) (then (return (i32.const 0))))
            (i32.add (i32.const 1) (call $f (i32.sub (local.get 0) (i32.const 1)))))
            (func (export "run") (result i32) (call $f (i32.const 3000))))"#,
        caps: (0, 0),
        expected: Returns(&[3000]),
        refused: false,
    },
    Case {
        what: "calls nested without end",
        text: r#"(module (func $f (param i32) (result i32) (i32.add (i32.const 1) (call $f (local.get 0))))
            (func (export "run") (result i32) (call $f (i32.const 1))))"#,
        caps: (0, 0),
        expected: Ends(End::Trapped(TrapKind::StackExhausted)),
        refused: false,
    },
];

#[test]
fn limits_hold() {
    let mut failures = Vec::new();
    for case in CASES {
        let module = parse(case.text);
        for known in able(&module) {
            if let Err(failure) = check(&compile(known, &module), case) {
                failures.push(format!("{} on {}: {failure}", case.what, known.id));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn check(artifact: &Arc<dyn remuda_engine::Artifact>, case: &Case) -> Result<(), String> {
    let setup = Setup::limited(case.caps.0, case.caps.1);
    // Each case runs twice: a limit belongs to one instance, and an instance that exceeded it does not affect the next.
    for _ in 0..2 {
        let ended = live(artifact, &export("run", &[]), &setup).map_err(|error| error.to_string())?;
        let right = match case.expected {
            Returns(numbers) => {
                let values: Vec<Value> = numbers.iter().copied().map(Value::I32).collect();
                ended.end() == End::Returned && ended.called.values == values
            }
            Ends(end) => ended.end() == end && !ended.at_start,
            Fails(end) => ended.end() == end && ended.at_start,
        };
        if !right || (!ended.at_start && ended.called.refused_growth != case.refused) {
            return Err(format!("{ended:?}"));
        }
    }
    Ok(())
}

/// Of several instances that live at the same time, each can use its limits in full.
#[test]
fn limits_are_each_instance_s_own() {
    let module = parse(
        r#"(module (memory 1) (table 1 funcref) (func (export "run") (result i32 i32)
            (memory.grow (i32.const 3)) (table.grow (ref.null func) (i32.const 9))))"#,
    );
    let Setup { context, limits, interrupt } = Setup::limited(4 * PAGE, 10);
    for known in able(&module) {
        let artifact = compile(known, &module);
        let mut instances: Vec<_> =
            (0..20).map(|_| Arc::clone(&artifact).instantiate(&context, &limits, &interrupt).unwrap()).collect();
        for instance in &mut instances {
            let called = instance.call(&export("run", &[])).unwrap();
            assert_eq!(called.values, [Value::I32(1), Value::I32(1)], "{}", known.id);
            let called = instance.call(&export("run", &[])).unwrap();
            assert_eq!(called.values, [Value::I32(-1), Value::I32(-1)], "{}", known.id);
        }
    }
}

/// More instances live at once than fit the pool of an engine that has one. They are instances of two modules.
#[test]
fn hundreds_of_instances_live_at_once() {
    let text = |n| {
        format!(
            r#"(module (memory 1) (table 1 funcref) (global $g (mut i32) (i32.const {n}))
            (data (i32.const 0) "\07")
            (func (export "run") (param i32) (result i32 i32)
                (global.set $g (i32.add (global.get $g) (local.get 0)))
                (i32.store8 (i32.const 0) (i32.add (i32.load8_u (i32.const 0)) (i32.const 1)))
                (global.get $g) (i32.load8_u (i32.const 0)))
            (func (export "grow") (result i32 i32) (memory.grow (i32.const 1)) (memory.grow (i32.const 1)))
            (func (export "trap") (unreachable))
            (func (export "spin") (loop (br 0))))"#
        )
    };
    let modules = [parse(&text(0)), parse(&text(1000))];
    for known in able(&modules[0]) {
        // If each instance is a process, hundreds of them would not fit the memory of every machine.
        let count = if known.has_workers() { 40_i32 } else { 300 };
        let artifacts = modules.each_ref().map(|module| compile(known, module));
        let Setup { context, limits, .. } = Setup::limited(2 * PAGE, 10);
        let interrupts: Vec<Interrupt> = (0..count).map(|_| Interrupt::new()).collect();
        let mut instances: Vec<_> = (0..count)
            .zip(&interrupts)
            .map(|(n, interrupt)| {
                let artifact = Arc::clone(&artifacts[usize::from(n % 3 == 0)]);
                artifact
                    .instantiate(&context, &limits, interrupt)
                    .unwrap_or_else(|error| panic!("instance {n} on {}: {error}", known.id))
            })
            .collect();
        for (n, instance) in (0..).zip(&mut instances) {
            let first = if n % 3 == 0 { 1000 } else { 0 };
            let mut run = |entry: &str, args: &[i32]| {
                let args: Vec<Value> = args.iter().copied().map(Value::I32).collect();
                instance.call(&export(entry, &args)).unwrap()
            };
            assert_eq!(run("run", &[n]).values, [Value::I32(first + n), Value::I32(8)], "{n} on {}", known.id);
            let grown = run("grow", &[]);
            assert_eq!(grown.values, [Value::I32(1), Value::I32(-1)], "{n} on {}", known.id);
            assert!(grown.refused_growth, "{n} on {}", known.id);
            assert_eq!(run("run", &[1]).values, [Value::I32(first + n + 1), Value::I32(9)], "{n} on {}", known.id);
        }
        // The last instances can be stopped and can trap like the first ones.
        for n in [0, count - 1] {
            let (instance, interrupt) =
                (&mut instances[n.cast_unsigned() as usize], &interrupts[n.cast_unsigned() as usize]);
            interrupt.raise(Cause::Deadline);
            let outcome = instance.call(&export("spin", &[])).unwrap().outcome;
            assert_eq!(End::from(&outcome), End::Interrupted(Cause::Deadline), "{n} on {}", known.id);
        }
        let outcome = instances[count.cast_unsigned() as usize - 2].call(&export("trap", &[])).unwrap().outcome;
        // The guest was refused growth before.
        assert_eq!(End::from(&outcome), MEMORY, "{}", known.id);
    }
}

/// A loop is three bytes long, and its poll several times as long: the bounds hold not only for the module that was
/// deployed, but also for the one that compilers see.
#[test]
fn bounds_hold_for_what_rewriting_makes_of_a_module() {
    let loops = "(loop)".repeat(1000);
    let text = format!(r#"(module (func (export "run") {loops}))"#);
    let bytes = wat::parse_str(&text).unwrap();
    let twice = 2 * bytes.len() as u64;
    let cases = [
        (ModuleLimits { module_bytes_max: twice, ..ModuleLimits::default() }, "module", twice),
        (ModuleLimits { function_bytes_max: twice, ..ModuleLimits::default() }, "function", twice),
    ];
    for (limits, what, limit) in cases {
        let module = Module::parse(bytes.clone(), &limits).unwrap();
        for known in able(&module) {
            let compiled = open(known).compile(&module);
            if known.capabilities.interruption != Interruption::Flag {
                assert!(compiled.is_ok(), "{} rewrites no loops", known.id);
                continue;
            }
            let Err(EngineError::Compile { engine, reason }) = compiled else {
                panic!("{} compiles a {what} of more than {limit} bytes", known.id);
            };
            assert_eq!(engine, known.id);
            for part in ["rewritten", what, &limit.to_string()] {
                assert!(reason.contains(part), "{} does not say {part:?}: {reason}", known.id);
            }
        }
        // With the default bounds, the same module is compiled.
        let module = Module::parse(bytes.clone(), &ModuleLimits::default()).unwrap();
        for known in able(&module) {
            let ended = live(&compile(known, &module), &export("run", &[]), &Setup::default()).unwrap();
            assert_eq!(ended.end(), End::Returned, "{}", known.id);
        }
    }
}

/// A straight line of growth instructions, each of which takes some of the host's stack on some engines, does not take
/// all of it.
#[test]
fn a_long_line_of_growth_is_survived() {
    for grow in ["(memory.grow (local.get 0))", "(table.grow (ref.null func) (local.get 0))"] {
        for times in [1_000, 20_000] {
            let line = format!("(drop {grow})").repeat(times);
            let text = format!(
                r#"(module (memory 1) (table 1 funcref) (func (export "run") (param i32) (result i32) {line} (memory.size)))"#
            );
            let module = parse(&text);
            for known in able(&module) {
                // An engine may refuse such a module, but it must not crash.
                let Ok(artifact) = open(known).compile(&module) else {
                    assert!(times > 1_000, "{} refuses {times} times {grow}", known.id);
                    continue;
                };
                let setup = Setup::limited(4 * PAGE, 10);
                let ended = live(&artifact, &export("run", &[Value::I32(0)]), &setup).unwrap();
                assert_eq!(ended.called.values, [Value::I32(1)], "{} {times} times {grow}", known.id);
            }
        }
    }
}
