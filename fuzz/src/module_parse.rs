//! Modules from strangers: neither parsing nor rewriting may panic, and a valid module must still be valid when it is
//! rewritten.
//!
//! Input that begins like a module is used as it is. From any other input, wasm-smith generates a module with every
//! proposal that it knows, so that deep code is reached without a corpus.

use arbitrary::{Arbitrary as _, Unstructured};
use remuda_engine::{InstrumentError, Module, instrument};
use remuda_model::ModuleLimits;
use wasmparser::{Validator, WasmFeatures};

/// Parses and rewrites one module.
///
/// # Panics
///
/// Panics on a finding.
pub fn run(input: &[u8]) {
    if input.starts_with(b"\0asm") {
        check(input);
    } else if let Some(generated) = generate(input) {
        check(&generated);
    }
}

fn generate(input: &[u8]) -> Option<Vec<u8>> {
    let mut input = Unstructured::new(input);
    let config = wasm_smith::Config::arbitrary(&mut input).ok()?;
    Some(wasm_smith::Module::new(config, &mut input).ok()?.to_bytes())
}

fn check(module: &[u8]) {
    let limits = ModuleLimits { module_bytes_max: 1 << 20, functions_max: 2_000, ..ModuleLimits::default() };
    let parsed = Module::parse(module.to_vec(), &limits);
    let instrumented = instrument(module);
    if let Ok(parsed) = &parsed {
        assert_eq!(parsed.bytes(), module);
    }
    let valid = is_valid(module);
    assert!(valid || parsed.is_err(), "Remuda accepts a module that is not valid");
    match instrumented {
        Ok(instrumented) => {
            assert_eq!(
                is_valid(&instrumented.bytes),
                valid,
                "rewriting made a valid module invalid or an invalid one valid"
            );
            let again = instrument(&instrumented.bytes);
            assert!(matches!(again, Err(InstrumentError::ReservedImport)), "the flag can be imported a second time");
        }
        Err(InstrumentError::ReservedImport | InstrumentError::Waits { .. }) => {}
        Err(error) => assert!(!valid, "a valid module cannot be rewritten: {error}"),
    }
}

fn is_valid(module: &[u8]) -> bool {
    Validator::new_with_features(WasmFeatures::all()).validate_all(module).is_ok()
}
