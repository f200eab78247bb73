//! Measures an engine's artifact of a module, apart from any call: code in memory, bytes on disk, and CPU time.

use std::path::Path;

use remuda_engine::{Module, Registry};
use remuda_host::read_module;
use remuda_model::ModuleLimits;

use super::{Clocks, Weight};

pub(super) fn weigh(engine: &str, module: &Path) -> anyhow::Result<Weight> {
    let registry = Registry::default();
    let engine = registry.open(registry.find(engine)?.id)?;
    let module = Module::parse(read_module(module)?, &ModuleLimits::default())?;
    let began = Clocks::now();
    let artifact = engine.compile(&module)?;
    let compile = began.elapsed();
    let artifact_bytes = artifact.serialize()?.map(|bytes| bytes.len() as u64);
    Ok(Weight { compile, code_bytes: artifact.memory_bytes(), artifact_bytes })
}
