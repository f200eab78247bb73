//! Everything that all requests of one host share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arc_swap::ArcSwap;
use remuda_engine::{Artifact, Known, Registry, StoredArtifact};
use remuda_model::{EngineId, ModuleDigest, Observation};
use remuda_scheduler::{Calibration, World};

use crate::artifact::compile::{self, Compiler};
use crate::artifact::slot::Slot;
use crate::artifact::store::ArtifactStore;
use crate::cores::Cores;
use crate::counters::Counters;
use crate::deadline::Deadlines;
use crate::idle::appointments::Appointments;
use crate::idle::background::Background;
use crate::learn::calibrate::{self, LoadCalibrationError};
use crate::learn::housekeeper::{Keeper, NotKept, Task};
use crate::learn::row::CompileObservation;
use crate::time::unix_ms;

/// Everything that a request needs of its host.
pub(crate) struct Shared {
    /// See [`HostConfig::one_call`](crate::HostConfig::one_call).
    pub(crate) one_call: bool,
    /// See [`HostConfig::moves`](crate::HostConfig::moves).
    pub(crate) moves: bool,
    /// See [`HostConfig::inline`](crate::HostConfig::inline).
    pub(crate) inline: bool,
    /// Whether a thread has been told to set up what the first part of a module will need.
    pub(crate) are_parts_prepared: AtomicBool,
    pub(crate) registry: Registry,
    pub(crate) store: Option<Arc<ArtifactStore>>,
    pub(crate) deadlines: Arc<Deadlines>,
    pub(crate) compiler: Compiler,
    pub(crate) cores: Arc<Cores>,
    pub(crate) background: Background,
    pub(crate) appointments: Appointments,
    pub(crate) counters: Counters,
    pub(crate) calibration: ArcSwap<Calibration>,
    pub(crate) keeper: Keeper,
}

impl Shared {
    /// Calls `decide` with what a decision depends on beside the function, as it is now.
    pub(crate) fn with_world<T>(&self, decide: impl FnOnce(&World<'_>) -> T) -> T {
        self.with_world_at(self.cores.now_ns(), decide)
    }

    /// Like [`Shared::with_world`], at `now_ns` on the scheduler's clock.
    pub(crate) fn with_world_at<T>(&self, now_ns: u64, decide: impl FnOnce(&World<'_>) -> T) -> T {
        let calibration = self.calibration.load();
        decide(&World { calibration: &calibration, load: self.cores.load(), now_ns })
    }

    pub(crate) fn observe(&self, observations: Vec<Observation>) {
        self.hand_over(Task::Observed(observations));
    }

    /// Notes how long a compile took that no request waited for.
    pub(crate) fn observe_compile(&self, module: ModuleDigest, engine: EngineId, ns: u64) {
        self.hand_over(Task::Compiled(CompileObservation { module, engine, ns, unix_ms: unix_ms() }));
    }

    /// Hands over a task that writes to the data directory.
    fn hand_over(&self, task: Task) {
        self.keeper.hand_over(task);
    }

    /// Makes decisions go by the calibration in a data directory from now on, if there is one of this host. Returns
    /// whether there is.
    pub(crate) fn load_calibration(&self, data_dir: &Path) -> bool {
        match calibrate::load(data_dir, &self.registry) {
            Ok(calibration) => self.install(calibration),
            Err(LoadCalibrationError::None) => return false,
            Err(error) => {
                tracing::warn!(%error, "estimates begin with what is shipped; `remuda calibrate` measures anew");
                return false;
            }
        }
        true
    }

    /// Makes decisions go by this calibration from now on.
    pub(crate) fn install(&self, calibration: Calibration) {
        self.calibration.store(Arc::new(calibration));
    }

    /// Has a new artifact written to the store, later and outside the request.
    pub(crate) fn keep(
        &self,
        module: ModuleDigest,
        known: &'static Known,
        slot: &Arc<Slot>,
        artifact: &Arc<dyn Artifact>,
        serialized: Option<StoredArtifact>,
    ) {
        let Some(store) = self.store.as_ref().filter(|store| store.keeps_any()) else { return };
        let (store, slot, artifact) = (Arc::clone(store), Arc::clone(slot), Arc::clone(artifact));
        self.hand_over(Task::Do(Box::new(move || {
            let not_kept = |reason: String| NotKept { what: format!("an artifact of {}", known.id), reason };
            let bytes = match &serialized {
                Some(serialized) => compile::read(serialized).map(Some).map_err(|error| error.to_string()),
                None => artifact.serialize().map_err(|error| error.to_string()),
            };
            let Some(bytes) = bytes.map_err(not_kept)? else { return Ok(()) };
            let compile_ns = slot.compile_ns().unwrap_or(0);
            store.save(module, known, &bytes, compile_ns).map_err(|error| not_kept(error.to_string()))?;
            slot.note_on_disk();
            Ok(())
        })));
    }
}
