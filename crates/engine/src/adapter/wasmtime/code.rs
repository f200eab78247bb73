//! Machine code to be looked at, with the map from code to operators that artifacts do not have.

use wasmtime::{InstanceAllocationStrategy, Strategy};

use super::config;
use crate::instrument::instrument_within;
use crate::instrument::origins::{Origin, origins};
use crate::{CodeOrigin, EngineError, Form, Known, MachineCode, Module};

/// Compiles `module` with an engine of the same configuration that also makes the map, which changes no code.
pub(super) fn machine_code(
    known: &Known,
    strategy: Strategy,
    module: &Module,
    form: Form,
) -> Result<MachineCode, EngineError> {
    let failed = |reason: String| EngineError::Compile { engine: known.id, reason };
    let (bytes, map) = match form {
        Form::AsServed => {
            let instrumented =
                instrument_within(module.bytes(), module.bytes_max()).map_err(|error| failed(error.to_string()))?;
            module.check_rewritten(&instrumented.bytes).map_err(|error| failed(error.to_string()))?;
            let map = origins(module.bytes(), &instrumented.bytes, instrumented.flag_memory)
                .map_err(|error| failed(error.to_string()))?;
            (instrumented.bytes, Some(map))
        }
        Form::Plain => (module.bytes().to_vec(), None),
    };
    let mut config = config(known, strategy, InstanceAllocationStrategy::OnDemand);
    config.generate_address_map(true);
    let engine = wasmtime::Engine::new(&config)
        .map_err(|error| EngineError::Unavailable { engine: known.id, reason: format!("{error:#}") })?;
    let compiled = wasmtime::Module::from_binary(&engine, &bytes).map_err(|error| failed(format!("{error:#}")))?;

    let origin = |at: u32| match &map {
        None => CodeOrigin::Operator(at),
        Some(map) => match map.binary_search_by_key(&at, |(offset, _)| *offset) {
            Ok(index) => match map[index].1 {
                Origin::Operator(before) => CodeOrigin::Operator(before),
                Origin::Poll(before) => CodeOrigin::Poll(before),
            },
            Err(_) => CodeOrigin::None,
        },
    };
    let offset = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    Ok(MachineCode {
        architecture: std::env::consts::ARCH,
        text: compiled.text().to_vec(),
        functions: compiled
            .functions()
            .map(|function| (function.index.as_u32(), function.offset..function.offset + function.len))
            .collect(),
        origins: compiled
            .address_map()
            .map(|map| map.map(|(at, from)| (offset(at), from.map_or(CodeOrigin::None, origin))).collect()),
        flag: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown is what runs: the map changes no byte of the code.
    #[test]
    fn the_map_changes_no_code() {
        let guests = concat!(env!("CARGO_MANIFEST_DIR"), "/../../guests");
        for guest in ["polybench/gemm/gemm.wasm", "json/json.wasm", "noop/noop.wasm"] {
            let bytes = std::fs::read(format!("{guests}/{guest}")).unwrap_or_else(|error| panic!("{guest}: {error}"));
            let module = Module::parse(bytes, &remuda_model::ModuleLimits::default()).unwrap();
            for (known, strategy) in [
                #[cfg(feature = "wasmtime.winch")]
                (&crate::adapter::WASMTIME_WINCH, Strategy::Winch),
                #[cfg(feature = "wasmtime.cranelift")]
                (&crate::adapter::WASMTIME_CRANELIFT, Strategy::Cranelift),
            ] {
                let shown = machine_code(known, strategy, &module, Form::AsServed).unwrap();
                let map = shown.origins.expect("there is a map");
                assert!(map.is_sorted_by_key(|(at, _)| *at), "{guest} on {}", known.id);
                assert!(map.iter().any(|(_, origin)| matches!(origin, CodeOrigin::Operator(_))));
                // Served code comes from an engine with a pool, if the machine has the addresses for one.
                for allocation in
                    [InstanceAllocationStrategy::OnDemand, InstanceAllocationStrategy::Pooling(super::super::pool())]
                {
                    let Ok(engine) = wasmtime::Engine::new(&config(known, strategy, allocation)) else { continue };
                    let bytes = super::super::rewritten(&module).unwrap();
                    let served = wasmtime::Module::from_binary(&engine, &bytes).unwrap();
                    assert!(served.address_map().is_none());
                    assert!(served.text() == shown.text, "{guest} on {}: the code differs", known.id);
                }
            }
        }
    }
}
