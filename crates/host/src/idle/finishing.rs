//! Better code that is finished after the process that would have wanted it. One process for a data directory does this
//! at a time, and everybody can see what it is doing. Here are the lock and the note; the compile is not made here.
//!
//! The process holds a lock ([flock(2)]) on a file that says what the process does. The kernel takes the lock back when
//! the process dies, so the text in the file only counts while the file is locked.
//!
//! [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "finishing.lock";

/// A compile that is made after the process that would have wanted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finishing {
    /// The id of the process that compiles.
    pub pid: u32,
    /// The SHA-256 of the module, in hexadecimal.
    pub module: String,
    /// The engine's name.
    pub engine: String,
    /// The time at which the compile began, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

impl Finishing {
    /// Takes the lock and writes down what will be done; returns `None` if another process has the lock. Dropping the
    /// file gives the lock back.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn begin(&self, data_dir: &Path) -> io::Result<Option<File>> {
        let path = data_dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if !try_lock(&file, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(None);
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(Some(file))
    }

    /// The compile that a process is at now, if there is one.
    #[must_use]
    pub fn current(data_dir: &Path) -> Option<Self> {
        let mut file = File::open(data_dir.join(FILE_NAME)).ok()?;
        if try_lock(&file, FlockOperation::NonBlockingLockShared).ok()? {
            return None;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Takes a lock if no process has one that is in its way. Returns whether it was taken.
fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_what_the_dead_were_at_counts_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let finishing =
            |pid| Finishing { pid, module: "00".repeat(32), engine: "wasmtime.cranelift".into(), since_unix_ms: 5 };
        assert_eq!(Finishing::current(dir.path()), None);
        let lock = finishing(1).begin(dir.path()).unwrap().expect("nobody is at anything");
        assert_eq!(Finishing::current(dir.path()), Some(finishing(1)));
        assert!(finishing(2).begin(dir.path()).unwrap().is_none());
        drop(lock);
        assert_eq!(Finishing::current(dir.path()), None);
        assert!(finishing(3).begin(dir.path()).unwrap().is_some());
    }
}
