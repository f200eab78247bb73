//! V8, as Node.js brings it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::process::Launch;
use super::{Kind, WorkerEngine};
use crate::adapter::NODE_V8;
use crate::{Emulator, Engine, EngineError, Instances};

/// The oldest Node.js that is used: V8 has all that [`NODE_V8`] claims.
const MAJOR_MIN: u32 = 24;

/// Options of V8. Its own heap only holds what the worker's script allocates, which is little.
const OPTIONS: [&str; 3] = [
    "--max-old-space-size=256",
    "--disallow-code-generation-from-strings",
    // Node.js reads OpenSSL's configuration first of all, and ends if it may not read that file.
    "--openssl-config=/dev/null",
];

static KIND: Kind = Kind { known: &NODE_V8, check, shows_code: false };

pub(in crate::adapter) fn open(instances: Instances) -> Result<Arc<dyn Engine>, EngineError> {
    Ok(Arc::new(WorkerEngine::open(&KIND, launch()?, None, instances)?))
}

pub(in crate::adapter) fn open_emulated(emulator: &Emulator) -> Result<Arc<dyn Engine>, EngineError> {
    let launch = launch()?.emulated(&emulator.running);
    Ok(Arc::new(WorkerEngine::open(&KIND, launch, None, Instances::OnDemand)?))
}

fn launch() -> Result<Launch, EngineError> {
    let unavailable = |reason: String| EngineError::Unavailable { engine: NODE_V8.id, reason };
    let program = program().map_err(unavailable)?;
    let mut args = OPTIONS.map(str::to_owned).to_vec();
    args.extend(["--eval".into(), include_str!("worker.js").into()]);
    Ok(Launch::new(program, args))
}

/// The programs that are started, or why one of them is missing.
pub(in crate::adapter) fn programs() -> Result<Vec<PathBuf>, String> {
    Ok(vec![program()?])
}

/// The program: one that was installed for Remuda, or else the first on `PATH`.
fn program() -> Result<PathBuf, String> {
    super::installed::find(NODE_V8.id, Path::new("bin/node"), "node").ok_or_else(|| {
        format!(
            "there is no Node.js {MAJOR_MIN} or newer, neither installed for Remuda nor on PATH; run \
             `scripts/install-engines.sh {}`",
            NODE_V8.id
        )
    })
}

/// Makes sure that the program is new enough, and returns its version, which stands for that of V8.
fn check(versions: &[String]) -> Result<String, String> {
    let [node, _] = versions else { return Err("it does not say its versions".into()) };
    let major = node.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_none_or(|major| major < MAJOR_MIN) {
        return Err(format!(
            "it is Node.js {node}, and {MAJOR_MIN} is the oldest that is used; run `scripts/install-engines.sh {}`",
            NODE_V8.id
        ));
    }
    Ok(node.clone())
}
