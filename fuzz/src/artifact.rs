//! Files in the artifact store that this host did not write: they must never be loaded, and a new compile must replace
//! them.
//!
//! The store is used as in ordinary use: a host with a data directory runs a function, and says where the artifact was
//! when the request came. The mock engine's artifacts are small, and the store does not look into them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use arbitrary::{Arbitrary, Unstructured};
use remuda_host::{Answer, Call, FunctionSpec, Host, HostConfig};
use remuda_model::{ArtifactState, Entry, GuestContext, GuestLimits, Interrupt};
use remuda_scheduler::Policy;
use tempfile::TempDir;

/// The file that is put into the store.
#[derive(Arbitrary, Debug)]
enum File {
    /// The authentic file with some bytes changed: for each, the place and the bits to flip.
    Changed(Vec<(u8, u8)>),
    /// The authentic file without so many bytes at its end.
    Cut(u8),
    /// The authentic file with these bytes after it.
    Followed(Vec<u8>),
    /// The authentic file with these bytes before it.
    Preceded(Vec<u8>),
    /// Any bytes, with the trailer that every file of the store has.
    Ended { artifact: Vec<u8>, mac: [u8; 32] },
    /// Any bytes.
    Any(Vec<u8>),
}

/// A data directory in which one function's artifact is kept.
struct Store {
    home: TempDir,
    spec: FunctionSpec,
    /// The artifact's file.
    path: PathBuf,
    /// The bytes that the host wrote there.
    authentic: Vec<u8>,
}

static STORE: LazyLock<Store> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    let module = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x07\x0a\x01\x06_start\0\0\x0a\x04\x01\x02\0\x0b";
    fs::write(home.path().join("a.wasm"), module).expect("a file can be written there");
    let spec = FunctionSpec::of_module(&home.path().join("a.wasm"));
    let first = request(home.path(), &spec);
    assert_eq!(first.artifact, ArtifactState::Absent);
    let path = only_artifact(home.path());
    let authentic = fs::read(&path).expect("the artifact can be read");
    Store { home, spec, path, authentic }
});

fn only_artifact(home: &Path) -> PathBuf {
    let files = fs::read_dir(home.join("data/artifacts")).expect("the store has a folder");
    let mut files: Vec<PathBuf> = files.map(|file| file.expect("it can be listed").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// Makes one request to a new host on the data directory. When the function returns, the host has written everything
/// that it keeps.
fn request(home: &Path, spec: &FunctionSpec) -> Answer {
    let mock = remuda_engine::Registry::default().find("mock").expect("the mock engine is built").id;
    let config = HostConfig {
        data_dir: Some(home.join("data")),
        policy: Policy::Single(mock),
        ..HostConfig::default()
    };
    let host = Host::open(&config).expect("a host can be opened there");
    let function = host.deploy(spec.clone(), Some(&Entry::Command)).expect("the function can be deployed");
    let call = Call {
        id: host.next_request_id(),
        entry: Entry::Command,
        context: GuestContext { args: vec!["a".into()], ..GuestContext::default() },
        limits: GuestLimits::default(),
    };
    host.call(&function, &Arc::new(call), &Interrupt::new()).expect("the mock engine answers")
}

/// Puts one file into the store and lets a host find it.
///
/// # Panics
///
/// Panics on a finding.
pub fn run(input: &[u8]) {
    let Ok(file) = Unstructured::new(input).arbitrary::<File>() else { return };
    let store = &*STORE;
    let bytes = file.bytes(&store.authentic);
    fs::write(&store.path, &bytes).expect("the artifact's file can be written");
    let answer = request(store.home.path(), &store.spec);
    let expected = if bytes == store.authentic { ArtifactState::OnDisk } else { ArtifactState::Absent };
    assert_eq!(answer.artifact, expected, "{file:?}");
    only_artifact(store.home.path());
    let again = request(store.home.path(), &store.spec);
    assert_eq!(again.artifact, ArtifactState::OnDisk, "what was compiled anew did not replace the file of {file:?}");
}

impl File {
    fn bytes(&self, authentic: &[u8]) -> Vec<u8> {
        match self {
            Self::Changed(changes) => {
                let mut bytes = authentic.to_vec();
                for (at, change) in changes {
                    let at = usize::from(*at) % bytes.len();
                    bytes[at] ^= change;
                }
                bytes
            }
            Self::Cut(bytes) => authentic[..authentic.len().saturating_sub(usize::from(*bytes))].to_vec(),
            Self::Followed(bytes) => [authentic, bytes].concat(),
            Self::Preceded(bytes) => [bytes, authentic].concat(),
            Self::Ended { artifact, mac } => {
                let magic = &authentic[authentic.len() - 8..];
                [artifact, &mac[..], &(artifact.len() as u64).to_le_bytes(), magic].concat()
            }
            Self::Any(bytes) => bytes.clone(),
        }
    }
}
