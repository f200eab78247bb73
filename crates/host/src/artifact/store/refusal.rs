//! Notes beside the artifacts. A note says that an engine was set aside for a module, so that the next process does not
//! spend the same time to find it out again. A note holds for a day, or until the budget that was too small is raised.
//!
//! A note is not secret and not vouched for. A user who can write here can at worst keep an engine from being used.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The time for which a note holds.
pub(super) const HOLDS: Duration = Duration::from_hours(24);

/// The extension of a note's file, in place of an artifact's.
pub(super) const SUFFIX: &str = "refused";

/// The reason why a compile came to nothing, and the budget that it had.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) time_max: Duration,
    pub(crate) memory_bytes_max: u64,
}

/// Reads a note that still holds.
pub(super) fn read(path: &Path) -> Option<Refusal> {
    let text = fs::read(path).ok()?;
    if !is_fresh(path) {
        return None;
    }
    serde_json::from_slice(&text).ok()
}

/// Whether a note still holds. A note that a wrong clock has dated to the future does not.
pub(super) fn is_fresh(path: &Path) -> bool {
    let age = |modified: SystemTime| SystemTime::now().duration_since(modified).ok();
    path.metadata().and_then(|metadata| metadata.modified()).ok().and_then(age).is_some_and(|age| age < HOLDS)
}

/// Writes a whole note, while the store is locked.
pub(super) fn write(dir: &Path, draft_prefix: &str, path: &Path, refusal: &Refusal, _lock: &File) -> io::Result<()> {
    let draft = tempfile::Builder::new().prefix(draft_prefix).tempfile_in(dir)?;
    serde_json::to_writer(draft.as_file(), refusal)?;
    draft.persist(path).map_err(|error| error.error)?;
    Ok(())
}
