//! Components: commands of WASI 0.2 and 0.3.

use super::{run, seen};
use crate::http::post;
use crate::support::{Server, component_of, guest};

/// The engines that run components, and the one that is chosen among them.
const ENGINES: [&str; 3] = ["auto", "wasmtime.winch", "wasmtime.cranelift"];

#[test]
fn a_command_runs() {
    let dir = tempfile::tempdir().unwrap();
    let hello = component_of(&guest("hello/hello.wasm"), dir.path());
    let cat = component_of(&guest("cat/cat.wasm"), dir.path());
    let args = component_of(&guest("args/args.wasm"), dir.path());
    for engine in ENGINES {
        let (code, printed, message) = seen(&run(engine, &[], &hello, &[], b""));
        assert_eq!((code, message.as_str()), (Some(0), ""), "{engine}");
        assert!(printed.contains("Hello"), "{engine}: {printed}");
        let (code, printed, _) = seen(&run(engine, &[], &cat, &[], b"what comes in"));
        assert_eq!((code, printed.as_str()), (Some(0), "what comes in"), "{engine}");
        let (code, printed, _) = seen(&run(engine, &["--env", "A=B"], &args, &["one", "two"], b""));
        assert_eq!(code, Some(0), "{engine}");
        assert!(["one", "two"].iter().all(|word| printed.contains(word)), "{engine}: {printed}");
    }
}

#[test]
fn a_command_of_wasi_0_3_runs() {
    let p3 = guest("p3/p3.wasm");
    for engine in ENGINES {
        for (args, input, expected) in [
            (&[][..], "", (Some(0), "hello\n", "")),
            (&["cat"], "what comes in", (Some(0), "what comes in", "")),
            (&["exit"], "", (Some(7), "", "")),
            (&["something else"], "", (Some(1), "", "")),
            (&["trap"], "", (Some(134), "", "trapped: unreachable")),
        ] {
            let (code, printed, message) = seen(&run(engine, &[], &p3, args, input.as_bytes()));
            assert_eq!((code, printed.as_str()), (expected.0, expected.1), "{engine} {args:?}: {message}");
            assert!(message.contains(expected.2), "{engine} {args:?}: {message}");
        }
        for args in ["sleep", "spin"] {
            let (code, _, message) = seen(&run(engine, &["--timeout", "300ms"], &p3, &[args], b""));
            assert_ne!(code, Some(0), "{engine} {args}");
            assert!(message.contains("300ms"), "{engine} {args}: {message}");
        }
    }
}

#[test]
fn what_components_do_not_have_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let hello = component_of(&guest("hello/hello.wasm"), dir.path());
    for (engine, options, complaint) in [
        ("auto", &["--invoke", "run"][..], "entered at wasi:cli/run@0.2"),
        ("auto", &["-S", "inherit-network"], "given no network"),
        ("auto", &["-W", "component-model=n"], "switches off (component-model)"),
        ("wasmi.lazy", &[], "wasmi.lazy lacks component-model"),
    ] {
        let (code, printed, message) = seen(&run(engine, options, &hello, &[], b""));
        assert_eq!((code, printed.as_str()), (Some(1), ""), "{options:?}: {message}");
        assert!(message.contains(complaint), "{options:?}: {message}");
    }
    let proxy = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/serving/peers/noop.component.wasm");
    let (code, _, message) = seen(&run("auto", &[], proxy.as_ref(), &[], b""));
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("no command of WASI, but answers HTTP requests (see `remuda serve`)"), "{message}");
}

#[test]
fn a_command_is_served_like_any_other() {
    let dir = tempfile::tempdir().unwrap();
    let cat = component_of(&guest("cat/cat.wasm"), dir.path());
    let server = Server::start(
        &format!(
            "[[function]]\nname = \"cat\"\nmodule = {cat:?}\n[[function]]\nname = \"core\"\nmodule = \"@guests/cat/cat.wasm\"\n"
        ),
        &[],
    );
    // The requests are repeated, so that every engine is tried.
    for round in 0..20 {
        for path in ["/cat", "/core"] {
            let body = format!("round {round}").repeat(1000);
            let response = post(&server.address, path, body.as_bytes());
            assert_eq!((response.status, response.text()), (200, body), "{path}");
        }
    }
}
