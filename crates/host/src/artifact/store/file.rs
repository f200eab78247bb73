//! The format of an artifact's file: the artifact, what it was made for, and a MAC over both.
//!
//! | part | bytes |
//! |---|---|
//! | the artifact; first, so that an engine can map the file into memory | any |
//! | [`Made`]: module digest (32), cost in ns (8, little endian), fingerprint of the engine | at least 40 |
//! | MAC: keyed BLAKE3 over the artifact's length and all of the above | 32 |
//! | the artifact's length, little endian | 8 |
//! | [`MAGIC`], with the format's version | 8 |

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};

use remuda_engine::{Known, StoredArtifact};
use remuda_model::ModuleDigest;

use crate::artifact::seal::Key;

const MAGIC: &[u8; 8] = b"RMDART\x00\x02";
const DIGEST_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
const NUMBER_BYTES: usize = 8;
const TRAILER_BYTES: usize = MAC_BYTES + NUMBER_BYTES + MAGIC.len();
const MADE_BYTES_MIN: usize = DIGEST_BYTES + NUMBER_BYTES;
/// The most bytes of [`Made`] that are read: far more than any fingerprint needs, and few enough to read from any file.
const MADE_BYTES_MAX: usize = 16 << 10;

/// What an artifact was made for, and at what cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Made {
    pub(super) module: ModuleDigest,
    /// See [`Known::fingerprint`].
    pub(super) fingerprint: String,
    /// The time that the compile took, in nanoseconds.
    pub(super) cost_ns: u64,
}

impl Made {
    pub(crate) fn new(module: ModuleDigest, engine: &Known, cost_ns: u64) -> Self {
        Self { module, fingerprint: engine.fingerprint(), cost_ns }
    }

    /// The first two words of the fingerprint: the engine, and its version.
    pub(super) fn engine_and_version(&self) -> (&str, &str) {
        let mut words = self.fingerprint.split(' ');
        (words.next().unwrap_or_default(), words.next().unwrap_or_default())
    }

    /// The file's name in the store.
    pub(super) fn file_name(&self) -> String {
        file_name(self.module, self.engine_and_version().0, &self.fingerprint)
    }

    fn to_bytes(&self) -> Vec<u8> {
        [self.module.as_bytes(), &self.cost_ns.to_le_bytes()[..], self.fingerprint.as_bytes()].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (module, rest) = bytes.split_first_chunk::<DIGEST_BYTES>()?;
        let (cost, fingerprint) = rest.split_first_chunk::<NUMBER_BYTES>()?;
        Some(Self {
            module: ModuleDigest::from_bytes(*module),
            fingerprint: str::from_utf8(fingerprint).ok()?.to_owned(),
            cost_ns: u64::from_le_bytes(*cost),
        })
    }
}

pub(super) const SUFFIX: &str = ".artifact";

/// The name of the file for a module on an engine.
pub(super) fn file_name(module: ModuleDigest, engine: &str, fingerprint: &str) -> String {
    let hash = blake3::hash(fingerprint.as_bytes()).to_hex();
    format!("{module:.32}-{engine}-{}{SUFFIX}", &hash[..16])
}

/// The length in bytes of the file of an artifact.
pub(super) fn file_bytes(artifact: &[u8], made: &Made) -> u64 {
    (artifact.len() + MADE_BYTES_MIN + made.fingerprint.len() + TRAILER_BYTES) as u64
}

/// Writes a whole file.
pub(crate) fn write(mut file: impl Write, key: &Key, artifact: &[u8], made: &Made) -> io::Result<()> {
    let made = made.to_bytes();
    let length = (artifact.len() as u64).to_le_bytes();
    let mut mac = blake3::Hasher::new_keyed(key);
    // The length comes first, so that no byte of one part can pass for one of the other.
    mac.update(&length).update(artifact).update(&made);
    file.write_all(artifact)?;
    file.write_all(&made)?;
    file.write_all(mac.finalize().as_bytes())?;
    file.write_all(&length)?;
    file.write_all(MAGIC)
}

/// The end of a file. Nothing in it is to be trusted before [`check`].
pub(super) struct Trailer {
    pub(super) made: Made,
    artifact_bytes: usize,
    made_bytes: usize,
    mac: [u8; MAC_BYTES],
}

/// Reads what a file says about itself.
pub(super) fn read_trailer(file: &File) -> io::Result<Trailer> {
    let mut file = file;
    let foreign = || untrusted("it has no trailer of this store's format");
    let before =
        file.metadata()?.len().checked_sub(TRAILER_BYTES as u64).ok_or_else(|| untrusted("it is too short"))?;
    file.seek(SeekFrom::Start(before))?;
    let mut trailer = [0; TRAILER_BYTES];
    file.read_exact(&mut trailer)?;
    let (mac, rest) = trailer.split_first_chunk::<MAC_BYTES>().ok_or_else(foreign)?;
    let (length, magic) = rest.split_first_chunk::<NUMBER_BYTES>().ok_or_else(foreign)?;
    let artifact_bytes = u64::from_le_bytes(*length);
    let made_bytes = before
        .checked_sub(artifact_bytes)
        .and_then(|bytes| usize::try_from(bytes).ok())
        .filter(|bytes| magic == MAGIC && (MADE_BYTES_MIN..=MADE_BYTES_MAX).contains(bytes))
        .ok_or_else(foreign)?;
    file.seek(SeekFrom::Start(artifact_bytes))?;
    let mut made = vec![0; made_bytes];
    file.read_exact(&mut made)?;
    let made = Made::from_bytes(&made).ok_or_else(foreign)?;
    Ok(Trailer { made, artifact_bytes: usize::try_from(artifact_bytes).map_err(|_| foreign())?, made_bytes, mac: *mac })
}

/// Checks the MAC over all of a file.
pub(super) fn check(file: &File, key: &Key, trailer: &Trailer) -> io::Result<()> {
    let mut file = file;
    file.seek(SeekFrom::Start(0))?;
    let mut computed = blake3::Hasher::new_keyed(key);
    computed.update(&(trailer.artifact_bytes as u64).to_le_bytes());
    computed.update_reader(file.take((trailer.artifact_bytes + trailer.made_bytes) as u64))?;
    // This comparison takes the same time wherever the difference is.
    if computed.finalize() == blake3::Hash::from_bytes(trailer.mac) {
        return Ok(());
    }
    Err(untrusted("its MAC is wrong: it was damaged, or somebody else wrote it"))
}

/// Opens an artifact for an engine to execute, if this host made it for exactly this engine and module.
pub(crate) fn open_authentic(
    file: File,
    key: &Key,
    module: ModuleDigest,
    engine: &Known,
) -> io::Result<StoredArtifact> {
    let trailer = read_trailer(&file)?;
    if trailer.made.module != module || trailer.made.fingerprint != engine.fingerprint() {
        return Err(untrusted("it was made for something else"));
    }
    check(&file, key, &trailer)?;
    Ok(vouch(file, trailer.artifact_bytes))
}

#[expect(unsafe_code, reason = "this is the artifact loader, the one place that vouches for machine code")]
fn vouch(file: File, artifact_bytes: usize) -> StoredArtifact {
    // SAFETY: the caller has just verified the MAC over these bytes, their module, engine, version, flags and CPU
    // features, under a key that only this host's user can read; and the file lies in a directory that only this
    // host's user can change, whose processes replace and unlink files and never write into them. Or the key was made
    // for the one compile that wrote the file, which lies in memory and was sealed against every change before.
    unsafe { StoredArtifact::assume_authentic(file, artifact_bytes) }
}

fn untrusted(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
