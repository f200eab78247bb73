//! Manifests: any text must give a deployment that makes sense, or an error that names the file.

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use remuda_manifest::{Deployment, ServedFunction};
use tempfile::TempDir;

/// A folder with files that a manifest can refer to: `a.wasm`, `b.wasm` and the folder `d`.
static HOME: LazyLock<TempDir> = LazyLock::new(|| {
    let home = tempfile::tempdir().expect("a temporary folder can be made");
    for name in ["a.wasm", "b.wasm"] {
        fs::write(home.path().join(name), b"\0asm\x01\0\0\0").expect("a file can be written there");
    }
    fs::create_dir(home.path().join("d")).expect("a folder can be made there");
    home
});

/// Parses one manifest.
///
/// # Panics
///
/// Panics on a finding.
pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let path: PathBuf = HOME.path().join("remuda.toml");
    match Deployment::parse(text, &path) {
        Ok(deployment) => check(&deployment),
        Err(error) => assert!(error.to_string().contains("remuda.toml"), "the error does not name the file: {error}"),
    }
}

fn check(deployment: &Deployment) {
    assert!(!deployment.functions.is_empty());
    assert_ne!(deployment.server.workers, Some(0));
    for (i, ServedFunction { spec, endpoint }) in deployment.functions.iter().enumerate() {
        assert!(endpoint.route.starts_with('/'), "{:?}", endpoint.route);
        assert!(!spec.name.is_empty());
        assert!(!spec.limits.timeout.is_zero());
        assert!(spec.module.is_file());
        assert!(spec.preopens.iter().all(|preopen| preopen.host.is_dir()));
        for earlier in &deployment.functions[..i] {
            assert_ne!(earlier.spec.name, spec.name);
            assert_ne!(earlier.endpoint.route, endpoint.route);
        }
    }
}
