//! Getting an engine ready to run a function: the step from a function to its slot, and to the store for a new
//! artifact.

use remuda_model::{EngineId, Interrupt};

use crate::artifact::compile::Urgency;
use crate::artifact::make::{Maker, Prepared};
use crate::artifact::slot::NotPrepared;
use crate::function::{EngineSlot, Function};
use crate::shared::Shared;

/// Gets an engine ready to run a function, and has a new artifact kept in the store.
pub(crate) fn prepare(
    urgency: Urgency,
    shared: &Shared,
    function: &Function,
    engine: EngineId,
    interrupt: &Interrupt,
) -> Result<Prepared, NotPrepared> {
    let EngineSlot { known, slot, .. } = function.engine(engine);
    let maker = Maker { registry: &shared.registry, compiler: &shared.compiler, urgency };
    let mut prepared = slot.prepare(maker, known, &function.module, shared.store.as_deref(), interrupt)?;
    if prepared.compiled_here && known.capabilities.artifacts {
        let serialized = prepared.serialized.take();
        shared.keep(function.module.digest(), known, slot, &prepared.artifact, serialized);
    }
    Ok(prepared)
}
