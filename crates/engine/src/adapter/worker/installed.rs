//! Where the programs of worker engines are looked for.

use std::env;
use std::path::{Path, PathBuf};

use remuda_model::EngineId;

use crate::adapter::variable;

/// Finds an engine's program: in the engine's folder, where `scripts/install-engines.sh` puts it, or else by name on
/// `PATH`.
pub(super) fn find(engine: EngineId, program: &Path, name: &str) -> Option<PathBuf> {
    let installed = folder().map(|folder| folder.join(engine.as_str()).join(program));
    let found = installed.filter(|path| path.is_file()).or_else(|| {
        let path = env::var_os(variable::PATH)?;
        env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file())
    })?;
    // A worker starts in another folder.
    std::path::absolute(found).ok()
}

/// The folder with a folder for each installed engine.
fn folder() -> Option<PathBuf> {
    let of_variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    of_variable(variable::ENGINES).or_else(|| {
        let data = of_variable(variable::DATA).or_else(|| Some(of_variable(variable::HOME)?.join(".local/share")))?;
        Some(data.join("remuda/engines"))
    })
}
