//! Every key of `wasmtime run`'s grouped options, in the order in which it lists them.

use remuda_engine::Proposal;
use remuda_model::ModuleLimits;

use super::Change;
use super::parse::{number, time};

/// The keys of one option.
#[derive(Debug)]
pub(crate) struct Group {
    /// The option's short form.
    pub(crate) short: char,
    /// The option's long form, which is also the name of its table in a configuration file.
    pub(crate) long: &'static str,
    pub(crate) value_name: &'static str,
    pub(crate) keys: &'static [Key],
}

#[derive(Debug)]
pub(crate) struct Key {
    /// The key's name; a name that ends with `*` stands for all keys that begin with the rest.
    pub(crate) name: &'static str,
    pub(crate) meaning: Meaning,
}

/// The meaning of a key here.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Meaning {
    /// `[=y|n]`: the key makes this change.
    Switch(fn(bool) -> Change),
    /// `=VALUE`: the function returns the change, or the reason why the value is refused. The text says which values
    /// there are.
    Value(&'static str, fn(&str) -> Result<Change, String>),
    /// `=VALUE`: the key changes nothing that a guest could notice, but the function may refuse the value.
    Checked(&'static str, fn(&str) -> Result<(), String>, &'static str),
    /// `[=y|n]`: the key changes nothing that a guest could notice.
    NoSwitch(&'static str),
    /// With or without a value: the key changes nothing that a guest could notice.
    NoValue(&'static str),
    /// `[=y]` is refused, `=n` is the case anyway.
    Never(&'static str),
    /// `=n` is refused, `[=y]` is the case anyway.
    Always(&'static str),
    /// With or without a value: the key is refused.
    Refused(&'static str),
}

use Meaning::{Always, Checked, Never, NoSwitch, NoValue, Refused, Switch, Value};

const VALUE_NAME: &str = "KEY[=VAL[,..]]";

/// All groups of keys.
pub(crate) const GROUPS: [&Group; 5] = [&WASM, &WASI, &CODEGEN, &OPTIMIZE, &DEBUG];

macro_rules! group {
    ($name:ident: $short:literal $long:literal { $($key:literal => $meaning:expr;)* }) => {
        pub(crate) static $name: Group = Group {
            short: $short,
            long: $long,
            value_name: VALUE_NAME,
            keys: &[$(Key { name: $key, meaning: $meaning }),*],
        };
    };
}

macro_rules! proposals {
    ($($proposal:ident),*) => {
        Switch(|on| Change::Proposals(&[$(Proposal::$proposal),*], on))
    };
}

const COMPONENTS: Meaning = NoValue("it is for components, which get what is the default there");
const NOTHING_ELSE: Meaning = Never("components have what commands of WASI 0.2 have, and nothing else");
const NO_ENGINE_HAS: Meaning = NoSwitch("a module that needs it is refused either way: no engine here has it");
const TUNING: Meaning = NoValue("it tunes Wasmtime, and a guest cannot tell");

group! { WASM: 'W' "wasm" {
    "nan-canonicalization" => Never("engines differ in NaN's bits, and none here makes them alike");
    "fuel" => Refused("what a guest may do is bounded in time; use --timeout or -W timeout=TIME");
    "epoch-interruption" => NoSwitch("a guest can be stopped at any time anyway");
    "max-wasm-stack" => Checked("BYTES", stack, "every guest has 524288 bytes of stack, and more is refused");
    "async-stack-size" => NoValue("guests run on the stack of a thread");
    "async-stack-zeroing" => NoSwitch("guests run on the stack of a thread");
    "unknown-exports-allow" => NoSwitch("exports that nobody knows do no harm");
    "unknown-imports-trap" => Never("a module whose imports nobody provides is refused before it runs");
    "unknown-imports-default" => Never("a module whose imports nobody provides is refused before it runs");
    "wmemcheck" => Never("no engine here checks a guest's own allocations");
    "max-memory-size" => Value("BYTES", |text| number(text).map(Change::Memory));
    "max-table-elements" => Value("N", |text| number(text).map(Change::TableElements));
    "max-instances" => Value("N", |text| number(text).map(Change::Instances));
    "max-tables" => Value("N", |text| number(text).map(Change::Tables));
    "max-memories" => Value("N", |text| number(text).map(Change::Memories));
    "trap-on-grow-failure" => Never("a guest that is refused memory is told so, and may go on");
    "timeout" => Value("TIME", |text| time(text).map(Change::Timeout));
    "all-proposals" => Switch(|on| Change::Proposals(Proposal::ALL, on));
    "bulk-memory" => proposals!(BulkMemory);
    "multi-memory" => proposals!(MultiMemory);
    "multi-value" => proposals!(MultiValue);
    "reference-types" => proposals!(ReferenceTypes, Externref, TableGrow);
    "simd" => proposals!(Simd);
    "relaxed-simd" => proposals!(RelaxedSimd);
    "relaxed-simd-deterministic" => Never("engines differ in what relaxed instructions return, and none here makes them alike");
    "tail-call" => proposals!(TailCall);
    "threads" => proposals!(Threads);
    "shared-memory" => NO_ENGINE_HAS;
    "shared-everything-threads" => NO_ENGINE_HAS;
    "memory64" => proposals!(Memory64);
    "component-model" => proposals!(ComponentModel);
    "component-model-async" => proposals!(ComponentModelAsync);
    "component-model-more-async-builtins" => NO_ENGINE_HAS;
    "component-model-async-stackful" => NO_ENGINE_HAS;
    "component-model-threading" => NO_ENGINE_HAS;
    "component-model-error-context" => NO_ENGINE_HAS;
    "component-model-gc" => NO_ENGINE_HAS;
    "component-model-map" => NO_ENGINE_HAS;
    "component-model-memory64" => NO_ENGINE_HAS;
    "function-references" => proposals!(FunctionReferences);
    "stack-switching" => NO_ENGINE_HAS;
    "gc" => proposals!(Gc);
    "custom-page-sizes" => proposals!(CustomPageSizes);
    "wide-arithmetic" => proposals!(WideArithmetic);
    "branch-hinting" => NoSwitch("hints change nothing that a guest could tell");
    "extended-const" => proposals!(ExtendedConst);
    "exceptions" => proposals!(Exceptions);
    "gc-support" => TUNING;
    "component-model-fixed-length-lists" => NO_ENGINE_HAS;
    "component-model-implements" => NO_ENGINE_HAS;
    "concurrency-support" => TUNING;
} }

const SOCKETS: Meaning = NoValue("guests have no network in which it could matter");

group! { WASI: 'S' "wasi" {
    "cli" => Always("a module that imports WASI needs it, and for others it changes nothing");
    "cli-exit-with-code" => COMPONENTS;
    "common" => Always("a module that imports WASI needs it, and for others it changes nothing");
    "nn" => Never("no engine here has WASI's neural networks");
    "threads" => Never("no engine here has WASI's threads");
    "http" => NoValue("components have it, but may send no requests; core modules cannot use it");
    "http-outgoing-body-buffer-chunks" => COMPONENTS;
    "http-outgoing-body-chunk-size" => COMPONENTS;
    "config" => NOTHING_ELSE;
    "keyvalue" => NOTHING_ELSE;
    "listenfd" => Never("guests are given no sockets; `remuda serve` answers HTTP");
    "tcplisten" => Refused("guests are given no sockets; `remuda serve` answers HTTP");
    "tls" => NOTHING_ELSE;
    "preview2" => Always("there is one implementation of preview 1 here, and it is that one");
    "nn-graph" => Refused("no engine here has WASI's neural networks");
    "inherit-network" => Switch(Change::Network);
    "allow-ip-name-lookup" => Switch(Change::Network);
    "tcp" => SOCKETS;
    "udp" => SOCKETS;
    "network-error-code" => SOCKETS;
    "preview0" => Switch(Change::Preview0);
    "inherit-env" => Switch(Change::InheritEnv);
    "inherit-stdin" => Switch(Change::InheritStdin);
    "inherit-stdout" => Switch(Change::InheritStdout);
    "inherit-stderr" => Switch(Change::InheritStderr);
    "cwd" => NoValue("previews 0 and 1 have no current directory; grant one with --dir HOST::.");
    "config-var" => COMPONENTS;
    "keyvalue-in-memory-data" => COMPONENTS;
    "p3" => COMPONENTS;
    "max-resources" => Refused("every guest may hold 1024 files, folders and streams open, no more and no less");
    "hostcall-fuel" => Refused("every call may copy 128 MiB, no more and no less");
    "max-component-handles" => COMPONENTS;
    "max-random-size" => COMPONENTS;
    "max-http-fields-size" => COMPONENTS;
} }

group! { CODEGEN: 'C' "codegen" {
    "compiler" => Value("cranelift|winch", compiler);
    "collector" => TUNING;
    "cranelift-debug-verifier" => TUNING;
    "cache" => Switch(Change::KeepArtifacts);
    "cache-config" => Refused("what was compiled is kept in the folder that --data-dir names, up to --artifact-disk");
    "parallel-compilation" => TUNING;
    "native-unwind-info" => TUNING;
    "inlining" => TUNING;
    "metadata-for-internal-asserts" => TUNING;
    "metadata-for-gc-heap-corruption" => TUNING;
    "cranelift-*" => TUNING;
} }

group! { OPTIMIZE: 'O' "optimize" {
    "opt-level" => Checked("0|1|2|s", |text| one_of(text, &["0", "1", "2", "s"]), "engines are chosen by what they cost");
    "regalloc-algorithm" => Checked(
        "backtracking|single-pass",
        |text| one_of(text, &["backtracking", "single-pass"]),
        "it tunes Wasmtime, and a guest cannot tell"
    );
    "memory-may-move" => TUNING;
    "memory-reservation" => TUNING;
    "memory-reservation-for-growth" => TUNING;
    "memory-guard-size" => TUNING;
    "gc-heap-may-move" => TUNING;
    "gc-heap-reservation" => TUNING;
    "gc-heap-reservation-for-growth" => TUNING;
    "gc-heap-guard-size" => TUNING;
    "gc-heap-initial-size" => TUNING;
    "guard-before-linear-memory" => TUNING;
    "table-lazy-init" => TUNING;
    "pooling-*" => TUNING;
    "memory-init-cow" => TUNING;
    "memory-guaranteed-dense-image-size" => TUNING;
    "signals-based-traps" => TUNING;
    "dynamic-memory-guard-size" => TUNING;
    "static-memory-guard-size" => TUNING;
    "static-memory-forced" => TUNING;
    "static-memory-maximum-size" => TUNING;
    "dynamic-memory-reserved-for-growth" => TUNING;
    "gc-zeal-alloc-counter" => TUNING;
} }

const DEBUGGER: &str = "Remuda has no debugger; run the module with another runtime to debug it";

group! { DEBUG: 'D' "debug" {
    "debug-info" => NoSwitch("native debuggers do not see guests here; a trap names its function where the engine can tell");
    "guest-debug" => Never(DEBUGGER);
    "address-map" => NoSwitch("a trap names its function where the engine can tell");
    "logging" => NoSwitch("the variable REMUDA_LOG chooses what is logged");
    "log-to-files" => Never("the log goes to standard error");
    "coredump" => Refused("no engine here writes one");
    "debugger" => Refused(DEBUGGER);
    "arg" => Refused(DEBUGGER);
    "inherit-stdin" => Never(DEBUGGER);
    "inherit-stdout" => Never(DEBUGGER);
    "inherit-stderr" => Never(DEBUGGER);
    "max-backtrace" => NoValue("a trap names one function at most");
    "symbols" => NoSwitch("it is for files of machine code, which are not written here");
} }

/// Checks the size of the stack. Every guest has the same stack, and a guest that asks for less cannot notice.
fn stack(text: &str) -> Result<(), String> {
    let (bytes, has) = (number(text)?, ModuleLimits::STACK_BYTES);
    if bytes > has {
        return Err(format!("every guest has {has} bytes of stack, and none can have more"));
    }
    Ok(())
}

fn compiler(text: &str) -> Result<Change, String> {
    match text {
        "cranelift" => Ok(Change::Engine("wasmtime.cranelift")),
        "winch" => Ok(Change::Engine("wasmtime.winch")),
        _ => Err("there is cranelift and winch; --engine knows more".into()),
    }
}

fn one_of(text: &str, values: &[&str]) -> Result<(), String> {
    if values.contains(&text) { Ok(()) } else { Err(format!("there is {}", values.join(", "))) }
}
