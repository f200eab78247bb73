//! A calibration on disk, and the host that it holds for.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use remuda_engine::{Known, Registry};
use remuda_scheduler::{Calibration, EngineCalibration};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{automatic, cores};

const FILE_NAME: &str = "calibration.json";
/// The version of the file's layout.
const SCHEMA_VERSION: u32 = 2;
/// A larger file was not written by this program.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The properties that decide how long things take on a host, as far as a program can tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFingerprint {
    /// The CPU's model, as the operating system names it.
    pub cpu_model: String,
    /// The number of cores that this process may use.
    pub cores: usize,
    /// The engines that are chosen without being asked for: their versions, configurations, and the CPU features they
    /// compile for.
    pub engines: Vec<String>,
}

impl HostFingerprint {
    /// The fingerprint of the host that this runs on.
    #[must_use]
    pub fn of(registry: &Registry) -> Self {
        Self { cpu_model: cpu_model(), cores: cores(), engines: automatic(registry).map(Known::fingerprint).collect() }
    }
}

/// The CPU's model. Linux names it under one of several keys, and on some machines not at all. On a host with many
/// processors Linux writes a page about each, and the first page is enough.
fn cpu_model() -> String {
    let mut first = [0; 4096];
    let read = fs::File::open("/proc/cpuinfo").and_then(|mut file| file.read(&mut first)).unwrap_or(0);
    let info = String::from_utf8_lossy(&first[..read]);
    let value = |key: &str| {
        info.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            (name.trim() == key).then(|| value.trim().to_owned())
        })
    };
    ["model name", "Model", "Hardware", "CPU part", "uarch"]
        .into_iter()
        .find_map(value)
        .unwrap_or_else(|| std::env::consts::ARCH.to_owned())
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibrationFile {
    schema_version: u32,
    host: HostFingerprint,
    engines: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    engine: String,
    #[serde(flatten)]
    costs: EngineCalibration,
}

/// The reason why a calibration on disk is not used.
#[derive(Debug, thiserror::Error)]
pub enum LoadCalibrationError {
    /// There is no calibration.
    #[error("there is no calibration")]
    None,
    /// The calibration cannot be read.
    #[error("{path:?} cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The calibration is damaged.
    #[error("{path:?} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The calibration holds for another host.
    #[error("{path:?} was measured on another host or with other engines")]
    OtherHost {
        /// The file.
        path: PathBuf,
    },
}

/// Reads the calibration of a data directory.
///
/// # Errors
///
/// Returns an error if there is no calibration that holds for this host. The way out is to measure.
pub fn load(data_dir: &Path, registry: &Registry) -> Result<Calibration, LoadCalibrationError> {
    let path = data_dir.join(FILE_NAME);
    let at = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => LoadCalibrationError::None,
        _ => LoadCalibrationError::Io { path: path.clone(), source },
    };
    let damaged = |reason: String| LoadCalibrationError::Damaged { path: path.clone(), reason };
    let file_bytes = fs::metadata(&path).map_err(at)?.len();
    if file_bytes > FILE_BYTES_MAX {
        return Err(damaged(format!("it has {file_bytes} bytes")));
    }
    let file: CalibrationFile =
        serde_json::from_slice(&fs::read(&path).map_err(at)?).map_err(|error| damaged(error.to_string()))?;
    if file.schema_version != SCHEMA_VERSION {
        return Err(damaged(format!("its schema version is {}, not {SCHEMA_VERSION}", file.schema_version)));
    }
    if file.host != HostFingerprint::of(registry) {
        return Err(LoadCalibrationError::OtherHost { path });
    }
    let mut engines: Vec<(_, EngineCalibration)> = Vec::new();
    for Row { engine, costs } in file.engines {
        let known = registry.find(&engine).map_err(|error| damaged(error.to_string()))?;
        if !costs.is_plausible() || engines.iter().any(|(id, _)| *id == known.id) {
            return Err(damaged(format!("what it says of {engine} is not plausible")));
        }
        engines.push((known.id, costs));
    }
    if engines.is_empty() {
        return Err(damaged("it has no engine".into()));
    }
    Ok(Calibration::new(engines))
}

/// Keeps a calibration in a data directory, whole or not at all, and returns the file's path.
///
/// # Errors
///
/// Returns an error if the directory cannot be written.
pub fn save(data_dir: &Path, registry: &Registry, calibration: &Calibration) -> io::Result<PathBuf> {
    let file = CalibrationFile {
        schema_version: SCHEMA_VERSION,
        host: HostFingerprint::of(registry),
        engines: calibration
            .measured()
            .map(|(engine, costs)| Row { engine: engine.as_str().to_owned(), costs })
            .collect(),
    };
    let path = data_dir.join(FILE_NAME);
    let mut draft = NamedTempFile::new_in(data_dir)?;
    serde_json::to_writer_pretty(&mut draft, &file)?;
    draft.write_all(b"\n")?;
    draft.persist(&path).map_err(|error| error.error)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use remuda_model::Tier;
    use remuda_scheduler::EngineCalibration;

    use super::*;

    fn calibration(registry: &Registry) -> Calibration {
        let engine = registry.find("wasmi.lazy").unwrap();
        let costs = EngineCalibration { slowdown: 10.0, ..EngineCalibration::shipped(Tier::Interpreter) };
        Calibration::new(vec![(engine.id, costs)])
    }

    #[test]
    fn what_was_kept_is_found_again() {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        assert!(matches!(load(dir.path(), &registry), Err(LoadCalibrationError::None)));
        save(dir.path(), &registry, &calibration(&registry)).unwrap();
        assert_eq!(load(dir.path(), &registry).unwrap(), calibration(&registry));
    }

    /// Keeps a calibration, changes its text, and returns what loading it says.
    fn changed(from: &str, to: &str) -> String {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let path = save(dir.path(), &registry, &calibration(&registry)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&path, text.replace(from, to)).unwrap();
        load(dir.path(), &registry).expect_err("it must not be used").to_string()
    }

    #[test]
    fn what_does_not_hold_here_is_not_used() {
        for (from, to, complaint) in [
            ("{", "[", "damaged"),
            ("\"schema_version\": 2", "\"schema_version\": 1", "schema version is 1"),
            ("\"cores\": ", "\"cores\": 1", "another host"),
            ("\"cpu_model\": \"", "\"cpu_model\": \"Not ", "another host"),
            ("\"slowdown\": 10.0", "\"slowdown\": -10.0", "not plausible"),
            ("\"slowdown\": 10.0", "\"slowdown\": 1e9", "not plausible"),
            ("\"slowdown\": 10.0", "\"slowdown\": 1e999", "damaged"),
            ("\"instantiate_ns\"", "\"instantiate_us\"", "damaged"),
            ("\"engine\": \"wasmi.lazy\"", "\"engine\": \"v8\"", "no engine named"),
        ] {
            let said = changed(from, to);
            assert!(said.contains(complaint), "{from} -> {to}: {said}");
        }
    }

    #[test]
    fn a_huge_file_is_not_read() {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        fs::File::create(dir.path().join(FILE_NAME)).unwrap().set_len(1 << 40).unwrap();
        let said = load(dir.path(), &registry).unwrap_err().to_string();
        assert!(said.contains("damaged"), "{said}");
    }
}
