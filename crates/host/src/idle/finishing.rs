//! Better code that is finished after the process that would have wanted it: one process for a data directory at a time,
//! and everybody can see what it is at.
//!
//! The process holds a lock ([flock(2)]) on a file that says what it does. The kernel takes the lock back from the dead, so
//! that what the file says only counts while it is locked.
//!
//! [flock(2)]: https://man7.org/linux/man-pages/man2/flock.2.html

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

const FILE_NAME: &str = "finishing.lock";

/// What is being compiled after the process that would have wanted it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finishing {
    /// The process that is at it.
    pub pid: u32,
    /// The SHA-256 of the module, in hexadecimal.
    pub module: String,
    /// The engine.
    pub engine: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

impl Finishing {
    /// Takes the lock and says what will be done; `None` if another process is at something. Dropping the file gives the
    /// lock back.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn begin(&self, data_dir: &Path) -> io::Result<Option<File>> {
        let path = data_dir.join(FILE_NAME);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        if !is_free(&file, FlockOperation::NonBlockingLockExclusive)? {
            return Ok(None);
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(self)?)?;
        Ok(Some(file))
    }

    /// What a process is at now, if one is.
    #[must_use]
    pub fn current(data_dir: &Path) -> Option<Self> {
        let mut file = File::open(data_dir.join(FILE_NAME)).ok()?;
        if is_free(&file, FlockOperation::NonBlockingLockShared).ok()? {
            return None;
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text).ok()?;
        serde_json::from_slice(&text).ok()
    }
}

/// Takes a lock if nobody has one that is in its way.
fn is_free(file: &File, operation: FlockOperation) -> io::Result<bool> {
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
