//! Artifacts on disk. They are machine code, so what is loaded is only what this host wrote: each file ends in a MAC
//! under a key of the host's own, over the artifact and over everything that it was made for. Whatever else lies there
//! counts as absent and is compiled anew.
//!
//! A file is the artifact's bytes, then the MAC (32 bytes, keyed BLAKE3), the artifact's length (8 bytes, little
//! endian) and [`MAGIC`]. The artifact comes first so that an engine can map the file into memory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use remuda_engine::{Known, StoredArtifact};
use remuda_model::ModuleDigest;
use tempfile::NamedTempFile;

/// The end of every file of the store, with the format's version.
const MAGIC: &[u8; 8] = b"RMDART\x00\x01";
const MAC_BYTES: usize = 32;
const TRAILER_BYTES: usize = MAC_BYTES + 8 + MAGIC.len();
const KEY_FILE: &str = "artifact.key";

/// What went wrong with the store itself, as opposed to a file in it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A directory or file cannot be used.
    #[error("cannot use {path:?} for artifacts: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key is not a key.
    #[error("{path:?} is not an artifact key of 32 bytes; delete it, and artifacts will be compiled anew")]
    BadKey {
        /// Where.
        path: PathBuf,
    },
    /// Others can read the key, and so could forge artifacts.
    #[error("{path:?} can be read by others, who could then forge machine code; run: chmod 600 {path:?}")]
    KeyExposed {
        /// Where.
        path: PathBuf,
    },
}

/// The artifacts of one data directory. Several processes may use it at the same time.
pub(crate) struct ArtifactStore {
    dir: PathBuf,
    key: [u8; 32],
}

impl ArtifactStore {
    /// Opens the store in a data directory, making it and its key if there is none.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let dir = data_dir.join("artifacts");
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| StoreError::Io { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        let key_path = data_dir.join(KEY_FILE);
        let key = match read_key(&key_path) {
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                make_key(data_dir, &key_path).map_err(at(&key_path))?;
                // Perhaps another process was faster: what lies there now is the key of both.
                read_key(&key_path)?
            }
            other => other?,
        };
        Ok(Self { dir, key })
    }

    /// Whether there is a file that may be the artifact; only loading it tells.
    pub(crate) fn may_contain(&self, module: ModuleDigest, engine: &Known) -> bool {
        self.path(module, engine).exists()
    }

    /// Gets an artifact, or `None` if there is none that this host wrote.
    pub(crate) fn load(&self, module: ModuleDigest, engine: &Known) -> Option<StoredArtifact> {
        let path = self.path(module, engine);
        match self.open_authentic(&path, module, engine) {
            Ok(stored) => Some(stored),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "ignoring an artifact that cannot be trusted");
                None
            }
        }
    }

    /// Keeps an artifact. It is there whole or not at all, also after a crash and with other writers.
    pub(crate) fn save(&self, module: ModuleDigest, engine: &Known, artifact: &[u8]) -> Result<(), StoreError> {
        let path = self.path(module, engine);
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(&self.dir)?;
            file.write_all(artifact)?;
            let mut mac = self.mac(module, engine);
            mac.update(artifact);
            file.write_all(mac.finalize().as_bytes())?;
            file.write_all(&(artifact.len() as u64).to_le_bytes())?;
            file.write_all(MAGIC)?;
            file.persist(&path).map_err(|error| error.error)?;
            Ok(())
        };
        write().map_err(|source| StoreError::Io { path: path.clone(), source })
    }

    /// Removes an artifact that its engine did not accept.
    pub(crate) fn remove(&self, module: ModuleDigest, engine: &Known) {
        let path = self.path(module, engine);
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove an artifact");
        }
    }

    fn path(&self, module: ModuleDigest, engine: &Known) -> PathBuf {
        let fingerprint = blake3::hash(engine.fingerprint().as_bytes()).to_hex();
        self.dir.join(format!("{module:.32}-{}-{}.artifact", engine.id, &fingerprint[..16]))
    }

    /// A MAC that already covers what the artifact was made for.
    fn mac(&self, module: ModuleDigest, engine: &Known) -> blake3::Hasher {
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        let fingerprint = engine.fingerprint();
        mac.update(module.as_bytes());
        // With its length, so that no byte of it can pass for one of the artifact's.
        mac.update(&(fingerprint.len() as u64).to_le_bytes());
        mac.update(fingerprint.as_bytes());
        mac
    }

    fn open_authentic(&self, path: &Path, module: ModuleDigest, engine: &Known) -> io::Result<StoredArtifact> {
        let mut file = File::open(path)?;
        let untrusted = |reason: &str| io::Error::new(io::ErrorKind::InvalidData, reason);
        let file_bytes = file.metadata()?.len();
        let artifact_bytes = file_bytes
            .checked_sub(TRAILER_BYTES as u64)
            .and_then(|bytes| usize::try_from(bytes).ok())
            .ok_or_else(|| untrusted("it is too short"))?;

        file.seek(SeekFrom::Start(artifact_bytes as u64))?;
        let mut trailer = [0; TRAILER_BYTES];
        file.read_exact(&mut trailer)?;
        let (mac, rest) = trailer.split_at(MAC_BYTES);
        let (length, magic) = rest.split_at(8);
        if magic != MAGIC || length != (artifact_bytes as u64).to_le_bytes() {
            return Err(untrusted("it has no trailer of this store's format"));
        }

        file.seek(SeekFrom::Start(0))?;
        let mut computed = self.mac(module, engine);
        io::copy(&mut (&file).take(artifact_bytes as u64), &mut computed)?;
        let mac: [u8; MAC_BYTES] = mac.try_into().expect("the trailer was split at that length");
        // This comparison takes the same time wherever the difference is.
        if computed.finalize() != blake3::Hash::from_bytes(mac) {
            return Err(untrusted("its MAC is wrong: it was damaged, or somebody else wrote it"));
        }
        Ok(vouch(file, artifact_bytes))
    }
}

#[expect(unsafe_code, reason = "this is the artifact loader, the one place that vouches for machine code")]
fn vouch(file: File, artifact_bytes: usize) -> StoredArtifact {
    // SAFETY: the caller has just verified the MAC over these bytes, their module, engine, version, flags and CPU
    // features, under a key that only this host's user can read; and the file lies in a directory that only this
    // host's user can change, whose processes replace files and never write into them.
    unsafe { StoredArtifact::assume_authentic(file, artifact_bytes) }
}

fn read_key(path: &Path) -> Result<[u8; 32], StoreError> {
    let at = |source| StoreError::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(at)?;
    if file.metadata().map_err(at)?.permissions().mode() & 0o077 != 0 {
        return Err(StoreError::KeyExposed { path: path.to_owned() });
    }
    let mut key = Vec::new();
    file.read_to_end(&mut key).map_err(at)?;
    key.try_into().map_err(|_| StoreError::BadKey { path: path.to_owned() })
}

fn make_key(data_dir: &Path, path: &Path) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use remuda_engine::Registry;

    use super::*;

    fn engine() -> &'static Known {
        Registry::default().find("mock").unwrap()
    }

    fn only_file(dir: &Path) -> PathBuf {
        let files: Vec<_> = fs::read_dir(dir.join("artifacts")).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files[0].clone()
    }

    #[test]
    fn what_was_saved_is_loaded_also_by_the_next_process() {
        let dir = tempfile::tempdir().unwrap();
        let module = ModuleDigest::of(b"module");
        let store = ArtifactStore::open(dir.path()).unwrap();
        assert!(store.load(module, engine()).is_none());
        store.save(module, engine(), b"machine code").unwrap();
        let again = ArtifactStore::open(dir.path()).unwrap();
        let stored = again.load(module, engine()).unwrap();
        assert_eq!(stored.artifact_bytes(), 12);
        let mut bytes = [0; 12];
        stored.file().unwrap().seek(SeekFrom::Start(0)).unwrap();
        stored.file().unwrap().read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"machine code");
        again.remove(module, engine());
        assert!(!again.may_contain(module, engine()));
    }

    #[test]
    fn a_flipped_bit_anywhere_is_never_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let module = ModuleDigest::of(b"module");
        let store = ArtifactStore::open(dir.path()).unwrap();
        store.save(module, engine(), b"machine code").unwrap();
        let path = only_file(dir.path());
        let good = fs::read(&path).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bad).unwrap();
            assert!(store.load(module, engine()).is_none(), "bit {bit}");
        }
        for length in 0..good.len() {
            fs::write(&path, &good[..length]).unwrap();
            assert!(store.load(module, engine()).is_none(), "cut to {length} bytes");
        }
        fs::write(&path, &good).unwrap();
        assert!(store.load(module, engine()).is_some());
    }

    #[test]
    fn an_artifact_is_only_good_for_what_it_was_made_for() {
        let dir = tempfile::tempdir().unwrap();
        let (module, other) = (ModuleDigest::of(b"module"), ModuleDigest::of(b"other"));
        let store = ArtifactStore::open(dir.path()).unwrap();
        store.save(module, engine(), b"machine code").unwrap();
        fs::copy(store.path(module, engine()), store.path(other, engine())).unwrap();
        assert!(store.load(other, engine()).is_none());
        let elsewhere = tempfile::tempdir().unwrap();
        let stranger = ArtifactStore::open(elsewhere.path()).unwrap();
        fs::copy(store.path(module, engine()), stranger.path(module, engine())).unwrap();
        assert!(stranger.load(module, engine()).is_none(), "another host's key");
        // The version stands for all of the engine's fingerprint: configuration and CPU features, too.
        let mut newer = *engine();
        newer.version = "99.0.0";
        assert!(!store.may_contain(module, &newer));
        fs::copy(store.path(module, engine()), store.path(module, &newer)).unwrap();
        assert!(store.load(module, &newer).is_none(), "another version of the engine");
        assert!(store.load(module, engine()).is_some());
    }

    #[test]
    fn bad_keys_are_named_with_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        ArtifactStore::open(dir.path()).unwrap();
        let key = dir.path().join(KEY_FILE);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        let error = ArtifactStore::open(dir.path()).err().unwrap();
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&key, b"short").unwrap();
        let error = ArtifactStore::open(dir.path()).err().unwrap();
        assert!(error.to_string().contains("delete it"), "{error}");
    }
}
