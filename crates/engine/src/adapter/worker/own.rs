//! Engines whose programs are ours: those in the folder `workers`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::process::Launch;
use super::{Kind, WorkerEngine, installed};
use crate::{Emulator, Engine, EngineError, Instances, Known, adapter};

/// An engine of ours.
pub(in crate::adapter) struct Own {
    kind: Kind,
    /// What its programs say of themselves: the runtime, the compiler, and a number that changes with what artifacts are
    /// like.
    runtime: &'static str,
    compiler: &'static str,
    revision: &'static str,
    /// The program that runs guests.
    runs: &'static str,
    /// The program that compiles. If that is another one, it is because its compiler's library takes long to load.
    compiles: &'static str,
}

#[cfg(feature = "wasmer.cranelift")]
pub(in crate::adapter) static WASMER_CRANELIFT: Own = Own {
    kind: Kind {
        known: &adapter::WASMER_CRANELIFT,
        check: |versions| WASMER_CRANELIFT.check(versions),
        shows_code: true,
    },
    runtime: "wasmer",
    compiler: "cranelift",
    revision: WASMER_REVISION,
    runs: "remuda-wasmer",
    compiles: "remuda-wasmer",
};

#[cfg(feature = "wasmer.llvm")]
pub(in crate::adapter) static WASMER_LLVM: Own = Own {
    kind: Kind { known: &adapter::WASMER_LLVM, check: |versions| WASMER_LLVM.check(versions), shows_code: true },
    runtime: "wasmer",
    compiler: "llvm",
    revision: WASMER_REVISION,
    runs: "remuda-wasmer",
    compiles: "remuda-wasmer-llvm",
};

#[cfg(any(feature = "wasmer.cranelift", feature = "wasmer.llvm"))]
const WASMER_REVISION: &str = "2";

#[cfg(feature = "wavm.llvm")]
pub(in crate::adapter) static WAVM_LLVM: Own = Own {
    kind: Kind { known: &adapter::WAVM_LLVM, check: |versions| WAVM_LLVM.check(versions), shows_code: false },
    runtime: "wavm",
    compiler: "llvm",
    revision: "1",
    runs: "remuda-wavm",
    compiles: "remuda-wavm",
};

#[cfg(feature = "lucet.cranelift")]
pub(in crate::adapter) static LUCET_CRANELIFT: Own = Own {
    kind: Kind {
        known: &adapter::LUCET_CRANELIFT,
        check: |versions| LUCET_CRANELIFT.check(versions),
        shows_code: true,
    },
    runtime: "lucet",
    compiler: "cranelift",
    revision: "2",
    runs: "remuda-lucet",
    compiles: "remuda-lucet",
};

impl Own {
    pub(in crate::adapter) fn open(&'static self, instances: Instances) -> Result<Arc<dyn Engine>, EngineError> {
        let (running, compiling) = (self.launch(self.runs)?, self.launch(self.compiles)?);
        Ok(Arc::new(WorkerEngine::open(&self.kind, running, Some(compiling), instances)?))
    }

    pub(in crate::adapter) fn open_emulated(
        &'static self,
        emulator: &Emulator,
    ) -> Result<Arc<dyn Engine>, EngineError> {
        let running = self.launch(self.runs)?.emulated(&emulator.running);
        let compiling = self.launch(self.compiles)?.emulated(&emulator.compiling);
        Ok(Arc::new(WorkerEngine::open(&self.kind, running, Some(compiling), Instances::OnDemand)?))
    }

    fn launch(&self, program: &str) -> Result<Launch, EngineError> {
        let program = self.find(program);
        let program = program.map_err(|reason| EngineError::Unavailable { engine: self.kind.known.id, reason })?;
        Ok(Launch::new(program, vec![self.compiler.to_owned()]))
    }

    /// The programs that are started, or why one of them is missing.
    pub(in crate::adapter) fn programs(&self) -> Result<Vec<PathBuf>, String> {
        [self.runs, self.compiles].into_iter().map(|program| self.find(program)).collect()
    }

    fn find(&self, program: &str) -> Result<PathBuf, String> {
        let Known { id, .. } = self.kind.known;
        installed::find(*id, &Path::new("bin").join(program), program).ok_or_else(|| {
            format!(
                "there is no {program}, neither installed for Remuda nor on PATH; run \
                 `scripts/install-engines.sh {id}`"
            )
        })
    }

    /// Makes sure that a program is the one for this build, and returns the runtime's version.
    fn check(&self, versions: &[String]) -> Result<String, String> {
        let Known { id, version, .. } = self.kind.known;
        if *versions == [self.runtime, version, self.compiler, self.revision] {
            return Ok((*version).to_owned());
        }
        Err(format!(
            "it is another program ({}) than this build of remuda needs; run `scripts/install-engines.sh {id}` again",
            versions.join(" ")
        ))
    }
}

#[cfg(all(test, any(feature = "wasmer.cranelift", feature = "wasmer.llvm")))]
mod tests {
    use super::WASMER_REVISION;

    #[test]
    fn the_revision_is_that_of_the_program() {
        let program = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../workers/wasmer/src/main.rs"));
        assert!(program.unwrap().contains(&format!("const REVISION: &str = \"{WASMER_REVISION}\";")));
    }
}
