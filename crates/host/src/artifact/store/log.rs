//! What processes have added to the store and used of it that did not open its index: a line of JSON for each. It is
//! advice, as the index is: a line that cannot be read is left out.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A log that is longer is read into the index by who has made it so: that takes a millisecond, about once in 600 calls.
pub(super) const BYTES_MAX: u64 = 64 << 10;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// An artifact was added.
    Saved {
        /// Its file's name.
        name: String,
        /// Its file's size.
        bytes: u64,
        /// What it took to compile.
        cost_ns: u64,
    },
    /// One was used.
    Loaded {
        /// Its file's name.
        name: String,
        /// How often.
        uses: u64,
    },
}

/// Adds lines; returns how many bytes the log has now.
pub(super) fn add(path: &Path, entries: &[Entry]) -> io::Result<u64> {
    let mut text = Vec::new();
    for entry in entries {
        serde_json::to_writer(&mut text, entry)?;
        text.push(b'\n');
    }
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    // One write: others who append at the same time do not get in between.
    file.write_all(&text)?;
    Ok(file.metadata()?.len())
}

/// Takes all lines out of the log. The caller holds the store's lock; who appends does not, and what is written to the file
/// after it was read here is lost.
pub(super) fn take(path: &Path) -> Vec<Entry> {
    let taken = path.with_extension("log.taken");
    if fs::rename(path, &taken).is_err() {
        return Vec::new();
    }
    let text = fs::read(&taken).unwrap_or_default();
    let _ = fs::remove_file(&taken);
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
