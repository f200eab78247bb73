//! A log of what was added to the store and used of it by processes that did not open the index: a line of JSON for
//! each addition and use. The log is advice, as the index is: a line that cannot be read is left out.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// When the log is longer than this many bytes, the process that wrote the last line reads it into the index. That
/// takes a millisecond, about once in 600 calls.
pub(super) const BYTES_MAX: u64 = 64 << 10;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Entry {
    /// An artifact was added.
    Saved {
        /// Its file's name.
        name: String,
        /// Its file's size in bytes.
        bytes: u64,
        /// The time that it took to compile, in nanoseconds.
        cost_ns: u64,
    },
    /// An artifact was used.
    Loaded {
        /// Its file's name.
        name: String,
        /// The number of uses.
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
    // The lines are written in one write, so that lines of other processes do not get in between.
    file.write_all(&text)?;
    Ok(file.metadata()?.len())
}

/// Takes all lines out of the log. The caller holds the store's lock, but a process that appends does not; a line that
/// is written to the file after it was read here is lost.
pub(super) fn take(path: &Path) -> Vec<Entry> {
    let taken = path.with_extension("log.taken");
    if fs::rename(path, &taken).is_err() {
        return Vec::new();
    }
    let text = fs::read(&taken).unwrap_or_default();
    let _ = fs::remove_file(&taken);
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
