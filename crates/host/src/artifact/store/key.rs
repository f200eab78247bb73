//! The key under which this host vouches for its artifacts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::StoreError;
use crate::artifact::seal::Key;

pub(super) const KEY_FILE: &str = "artifact.key";

/// Reads a data directory's key, or makes one.
pub(super) fn obtain(data_dir: &Path) -> Result<Key, StoreError> {
    match read(data_dir) {
        Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let path = data_dir.join(KEY_FILE);
            make(data_dir, &path).map_err(|source| StoreError::Io { path, source })?;
            // Perhaps another process was faster: the key that lies there now is the key of both.
            read(data_dir)
        }
        other => other,
    }
}

/// Reads a data directory's key.
pub(super) fn read(data_dir: &Path) -> Result<Key, StoreError> {
    let path = data_dir.join(KEY_FILE);
    let at = |source| StoreError::Io { path: path.clone(), source };
    let mut file = File::open(&path).map_err(at)?;
    if file.metadata().map_err(at)?.permissions().mode() & 0o077 != 0 {
        return Err(StoreError::KeyExposed { path });
    }
    let mut key = Vec::new();
    file.read_to_end(&mut key).map_err(at)?;
    key.try_into().map_err(|_| StoreError::BadKey { path })
}

fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let draft = data_dir.join(format!("{KEY_FILE}.{}", std::process::id()));
    let result = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(&key))
        // Unlike renaming, linking fails if another process has made the key meanwhile.
        .and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match result {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => removed,
        other => other.and(removed),
    }
}
