//! Profiles as files, to be shipped and loaded before the first request. `docs/profile.schema.json` describes them.
//!
//! A file holds the very rows that profiles are made of, so that a host that imports it predicts what the exporter
//! predicted. What the rows add up to stands beside them for readers.

use std::io::{self, Read, Write};
use std::path::Path;

use remuda_engine::Registry;
use remuda_model::ModuleDigest;
use rusqlite::{TransactionBehavior, params};
use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::{COLUMNS, Profiles, forget, insert, read, size_class};
use crate::learn::calibrate::HostFingerprint;
use crate::learn::row::{CompileRow, ObservationRow, Wrong, parse_digest, wrong};

/// The version of the file's layout.
const SCHEMA_VERSION: u32 = 1;
/// A larger file is refused; a full database makes half as much.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What was measured of modules, as a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProfileFile {
    /// The version of the layout: 1.
    pub schema_version: u32,
    /// The host on which this was measured. It is for readers: speeds of another host are a start, and are replaced by
    /// what is measured.
    pub host: HostFingerprint,
    /// The profiles of the modules.
    pub modules: Vec<ModuleProfile>,
}

/// What was measured of one module.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleProfile {
    /// The SHA-256 of the module's bytes in the binary format, in hexadecimal.
    pub module_sha256: String,
    /// What the rows add up to. It may be left out, and must be right if it is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub engines: Vec<EngineSummary>,
    /// The requests, oldest first.
    pub observations: Vec<ObservationRow>,
    /// The compiles that no request waited for, oldest first.
    #[serde(default)]
    pub compiles: Vec<CompileRow>,
}

/// What the rows of one engine add up to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSummary {
    /// The engine's name.
    pub engine: String,
    /// Times of compiles, including those that no request waited for.
    pub compile: Summary,
    /// Times of loads from disk.
    pub load: Summary,
    /// Times of instantiations, of successful requests.
    pub instantiate: Summary,
    /// Times of executions, of successful requests, by arguments and input size.
    pub size_classes: Vec<SizeClassSummary>,
}

/// Executions with the same arguments and inputs of about the same size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SizeClassSummary {
    /// A hash of the arguments, in hexadecimal.
    pub workload: String,
    /// The smallest input of this class in bytes; `null` for inputs whose size was not known beforehand.
    pub input_bytes_min: Option<u64>,
    /// The largest input of this class in bytes.
    pub input_bytes_max: Option<u64>,
    /// The time that the executions took.
    pub execute: Summary,
}

/// A duration that was measured several times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Summary {
    /// The number of times that it was measured.
    pub count: u64,
    /// The median in nanoseconds, which is the lower middle of an even number of times; `null` if there was none.
    pub median_ns: Option<u64>,
}

/// The reason why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is larger than any profile.
    #[error("{path:?} has more than {FILE_BYTES_MAX} bytes, and no profile has; is this the right file?")]
    TooLarge {
        /// The file.
        path: std::path::PathBuf,
    },
    /// The file is not JSON of the right shape; the parser shows the place.
    #[error("{path:?} is not a profile: {reason}; docs/profile.schema.json says what one looks like")]
    Syntax {
        /// The file.
        path: std::path::PathBuf,
        /// The parser's words.
        reason: String,
    },
    /// The file has another layout.
    #[error(
        "{path:?} has the schema version {found}, and this version of remuda reads {SCHEMA_VERSION}; export it again"
    )]
    SchemaVersion {
        /// The file.
        path: std::path::PathBuf,
        /// The version that the file has.
        found: u64,
    },
    /// A value makes no sense.
    #[error("{path:?}: {place}: {problem}")]
    Value {
        /// The file.
        path: std::path::PathBuf,
        /// The value's place, from the top.
        place: String,
        /// The problem with the value.
        problem: String,
    },
    /// The database cannot be written.
    #[error("cannot write the profile: {0}; nothing was imported")]
    Database(#[from] rusqlite::Error),
}

impl ProfileFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file is not a profile that can be imported; the error says where and why.
    pub fn read(path: &Path, registry: &Registry) -> Result<Self, ImportError> {
        let at = |source| ImportError::Io { path: path.to_owned(), source };
        let file = std::fs::File::open(path).map_err(at)?;
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(at)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(ImportError::TooLarge { path: path.to_owned() });
        }
        let syntax =
            |error: serde_json::Error| ImportError::Syntax { path: path.to_owned(), reason: error.to_string() };
        // The version comes first: for a file of another version, the error should name the version, and not a missing
        // field.
        #[derive(Deserialize)]
        struct Versioned {
            schema_version: u64,
        }
        let Versioned { schema_version: found } = serde_json::from_slice(&text).map_err(syntax)?;
        if found != u64::from(SCHEMA_VERSION) {
            return Err(ImportError::SchemaVersion { path: path.to_owned(), found });
        }
        let file: Self = serde_json::from_slice(&text).map_err(syntax)?;
        file.check(registry).map_err(|Wrong { place, problem }| ImportError::Value {
            path: path.to_owned(),
            place,
            problem,
        })?;
        Ok(file)
    }

    /// Writes the file, whole or not at all.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut draft = NamedTempFile::new_in(folder)?;
        self.write_to(&mut io::BufWriter::new(&mut draft))?;
        draft.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Writes the profile as indented JSON.
    ///
    /// # Errors
    ///
    /// Returns an error if writing to `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *out, self)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    fn check(&self, registry: &Registry) -> Result<(), Wrong> {
        let mut seen = std::collections::HashSet::new();
        for (i, module) in self.modules.iter().enumerate() {
            let place = format!("modules[{i}]");
            let digest = parse_digest(&module.module_sha256)
                .ok_or_else(|| wrong(format!("{place}.module_sha256"), "is not 64 hexadecimal digits"))?;
            if !seen.insert(digest) {
                return Err(wrong(format!("{place}.module_sha256"), "stands in the file twice"));
            }
            for (j, row) in module.observations.iter().enumerate() {
                row.check(registry).map_err(|error| error.within(&format!("{place}.observations[{j}]")))?;
            }
            for (j, row) in module.compiles.iter().enumerate() {
                row.check(registry).map_err(|error| error.within(&format!("{place}.compiles[{j}]")))?;
            }
            if !module.engines.is_empty() && module.engines != module.summarize() {
                let problem = "does not follow from the observations; leave it out";
                return Err(wrong(format!("{place}.engines"), problem));
            }
        }
        Ok(())
    }
}

impl ModuleProfile {
    /// Adds the rows up, engine by engine in the order of their names.
    #[must_use]
    pub fn summarize(&self) -> Vec<EngineSummary> {
        let engines: std::collections::BTreeSet<&str> = self
            .observations
            .iter()
            .map(|row| row.engine.as_str())
            .chain(self.compiles.iter().map(|row| row.engine.as_str()))
            .collect();
        engines.into_iter().map(|engine| self.summarize_engine(engine)).collect()
    }

    fn summarize_engine(&self, engine: &str) -> EngineSummary {
        let rows = || self.observations.iter().filter(move |row| row.engine == engine);
        let compiles = self.compiles.iter().filter(|row| row.engine == engine).map(|row| row.compile_ns);
        let succeeded = || rows().filter(|row| row.success);
        let mut classes = std::collections::BTreeMap::<(&str, i64), Vec<u64>>::new();
        for row in succeeded() {
            classes.entry((&row.workload, size_class(row.input_bytes))).or_default().push(row.execute_ns);
        }
        EngineSummary {
            engine: engine.to_owned(),
            compile: Summary::of(rows().map(|row| row.compile_ns).filter(|ns| *ns > 0).chain(compiles)),
            load: Summary::of(rows().map(|row| row.load_ns).filter(|ns| *ns > 0)),
            instantiate: Summary::of(succeeded().map(|row| row.instantiate_ns)),
            size_classes: classes
                .into_iter()
                .map(|((workload, class), execute_ns)| {
                    let bits = u32::try_from(class).ok();
                    SizeClassSummary {
                        workload: workload.to_owned(),
                        input_bytes_min: bits.map(|bits| if bits == 0 { 0 } else { 1 << (bits - 1) }),
                        input_bytes_max: bits.map(|bits| if bits == 0 { 0 } else { u64::MAX >> (u64::BITS - bits) }),
                        execute: Summary::of(execute_ns),
                    }
                })
                .collect(),
        }
    }
}

impl Summary {
    fn of(durations: impl IntoIterator<Item = u64>) -> Self {
        let mut sorted: Vec<u64> = durations.into_iter().collect();
        sorted.sort_unstable();
        Self { count: sorted.len() as u64, median_ns: sorted.get(sorted.len().saturating_sub(1) / 2).copied() }
    }
}

impl Profiles {
    /// Makes a file of what is known of these modules.
    ///
    /// # Errors
    ///
    /// Returns an error if the database cannot be read.
    pub fn export(&self, modules: &[ModuleDigest], registry: &Registry) -> rusqlite::Result<ProfileFile> {
        Ok(ProfileFile {
            schema_version: SCHEMA_VERSION,
            host: HostFingerprint::of(registry),
            modules: modules.iter().map(|module| self.export_module(*module, registry)).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn export_module(&self, module: ModuleDigest, registry: &Registry) -> rusqlite::Result<ModuleProfile> {
        let mut rows = Vec::new();
        let mut compiles = Vec::new();
        let mut select = self
            .connection
            .prepare_cached(&format!("SELECT {COLUMNS} FROM observation WHERE module = ?1 AND engine = ?2"))?;
        for known in registry.known() {
            let found =
                select.query_map(params![module.as_bytes(), known.id.as_str()], |row| read(row, module, known.id))?;
            for row in found {
                rows.push(row?);
            }
            compiles.extend(self.compiles(module, known)?.iter().map(CompileRow::of));
        }
        rows.sort_unstable_by_key(|(id, _)| *id);
        let mut profile = ModuleProfile {
            module_sha256: module.to_string(),
            engines: Vec::new(),
            observations: rows.iter().map(|(_, observation)| ObservationRow::of(observation)).collect(),
            compiles,
        };
        profile.engines = profile.summarize();
        Ok(profile)
    }

    /// Takes over a file that [`ProfileFile::read`] has checked. What was known of its modules is forgotten; what is
    /// known of others stays. Returns the number of rows taken.
    ///
    /// # Errors
    ///
    /// Returns an error if the database cannot be written; then nothing has changed.
    pub fn import(&mut self, file: &ProfileFile, registry: &Registry) -> Result<usize, ImportError> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut taken = 0;
        for module in &file.modules {
            let Some(digest) = parse_digest(&module.module_sha256) else { continue };
            forget(&transaction, Some(digest))?;
            let rows: Vec<_> = module.observations.iter().filter_map(|row| row.observation(digest, registry)).collect();
            let compiles: Vec<_> = module.compiles.iter().filter_map(|row| row.compile(digest, registry)).collect();
            insert(&transaction, &rows, &compiles)?;
            taken += rows.len() + compiles.len();
        }
        transaction.commit()?;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use remuda_model::{ArtifactState, EngineId, Observation, Outcome, Phases};

    use super::super::CompileObservation;
    use super::super::testing::{MODULE, WINCH, observation};
    use super::*;

    /// A profile with several engines, workloads, sizes, failures and compiles.
    fn filled(dir: &Path) -> Profiles {
        let mut profiles = Profiles::open(dir).unwrap();
        let wasmi = EngineId::new("wasmi.lazy");
        for i in 0..60 {
            let rows = [
                Observation { input_bytes: Some(i * 1_000), ..observation(50_000 + i * 77) },
                Observation { workload: u64::MAX, input_bytes: None, ..observation(9_000 + i % 7) },
                Observation { engine: wasmi, artifact: ArtifactState::InMemory, ..observation(400_000 - i) },
                Observation {
                    phases: Phases { load_ns: 70 + i, ..Phases::default() },
                    artifact: ArtifactState::OnDisk,
                    outcome: Outcome::Exited { code: 1 },
                    ..observation(0)
                },
            ];
            let compile = CompileObservation { module: MODULE, engine: WINCH, ns: 1_000_000 + i, unix_ms: i };
            profiles.append(&rows, &[compile]).unwrap();
        }
        profiles
    }

    #[test]
    fn what_is_imported_predicts_what_the_exporter_predicted() {
        let (here, there, registry) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Registry::default());
        let exporter = filled(here.path());
        let file = exporter.export(&exporter.modules().unwrap(), &registry).unwrap();
        let path = there.path().join("exported.json");
        file.write(&path).unwrap();
        let read = ProfileFile::read(&path, &registry).unwrap();
        assert_eq!(read, file);

        let mut importer = Profiles::open(there.path()).unwrap();
        // The rows that are known of this module give way, and those of other modules do not.
        let other = ModuleDigest::from_bytes([8; 32]);
        importer.append(&[observation(1), Observation { module: other, ..observation(2) }], &[]).unwrap();
        importer.import(&read, &registry).unwrap();
        for workload in [1, u64::MAX, 3] {
            let expected = exporter.load(MODULE, workload, &registry).unwrap();
            assert_eq!(importer.load(MODULE, workload, &registry).unwrap(), expected, "{workload}");
            assert!(expected.engine(WINCH).unwrap().compile.count() > 0);
        }
        assert_eq!(importer.load(other, 1, &registry).unwrap().engine(WINCH).unwrap().execute.count(), 1);
        assert_eq!(importer.export(&[MODULE], &registry).unwrap(), file, "nothing is lost on the way");
    }

    #[test]
    fn the_summary_is_by_engine_arguments_and_size() {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let mut profiles = Profiles::open(dir.path()).unwrap();
        let sized = |bytes, ns| Observation { input_bytes: Some(bytes), ..observation(ns) };
        profiles.append(&[sized(4, 10), sized(7, 30), sized(8, 50), sized(6, 20), sized(5, 40)], &[]).unwrap();
        let file = profiles.export(&[MODULE], &registry).unwrap();
        let [winch] = file.modules[0].engines.as_slice() else { panic!("{:?}", file.modules[0].engines) };
        let classes: Vec<_> = winch
            .size_classes
            .iter()
            .map(|class| (class.input_bytes_min, class.input_bytes_max, class.execute.count, class.execute.median_ns))
            .collect();
        assert_eq!(classes, [(Some(4), Some(7), 4, Some(20)), (Some(8), Some(15), 1, Some(50))]);
        assert_eq!((winch.compile.count, winch.load), (5, Summary { count: 0, median_ns: None }));
    }

    /// Returns what reading a profile says after something in it was changed.
    fn changed(change: impl FnOnce(&mut Value)) -> String {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let file = filled(dir.path()).export(&[MODULE], &registry).unwrap();
        let mut json = serde_json::to_value(file).unwrap();
        change(&mut json);
        let path = dir.path().join("changed.json");
        std::fs::write(&path, json.to_string()).unwrap();
        match ProfileFile::read(&path, &registry) {
            Ok(_) => "no complaint".into(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn hostile_files_are_refused_with_the_place_and_the_reason() {
        let set = |pointer: &'static str, value: Value| {
            changed(move |json| *json.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value)
        };
        for (pointer, value, complaint) in [
            ("", json!([]), "is not a profile"),
            ("", json!({}), "missing field `schema_version`"),
            ("/schema_version", json!(2), "schema version 2"),
            ("/schema_version", json!(-1), "is not a profile"),
            ("/modules/0/module_sha256", json!("../../etc/passwd"), "module_sha256: is not 64 hexadecimal digits"),
            ("/modules/0/module_sha256", json!("A".repeat(64)), "module_sha256: is not 64 hexadecimal digits"),
            (
                "/modules/0/observations/3/engine",
                json!("v8"),
                "observations[3].engine: there is no engine named \"v8\"",
            ),
            (
                "/modules/0/observations/0/execute_ns",
                json!(u64::MAX),
                "observations[0].execute_ns: is 18446744073709551615",
            ),
            ("/modules/0/observations/0/execute_ns", json!(-5), "is not a profile"),
            ("/modules/0/observations/0/execute_ns", json!(1.5), "is not a profile"),
            ("/modules/0/observations/0/input_bytes", json!(1u64 << 60), "observations[0].input_bytes"),
            ("/modules/0/observations/0/unix_ms", json!(u64::MAX), "observations[0].unix_ms"),
            ("/modules/0/observations/0/workload", json!("1"), "workload: is not 16 hexadecimal digits"),
            ("/modules/0/observations/0/artifact", json!("lost"), "is not a profile"),
            ("/modules/0/compiles/0/compile_ns", json!(u64::MAX), "compiles[0].compile_ns"),
            ("/modules/0/compiles/0/engine", json!(""), "compiles[0].engine"),
            ("/modules/0/engines/0/compile/count", json!(1), "modules[0].engines: does not follow"),
        ] {
            let said = set(pointer, value.clone());
            assert!(said.contains(complaint), "{pointer} = {value}: {said}");
        }
        let said = changed(|json| {
            let twin = json["modules"][0].clone();
            json["modules"].as_array_mut().unwrap().push(twin);
        });
        assert!(said.contains("modules[1].module_sha256: stands in the file twice"), "{said}");
        let said = changed(|json| json["modules"][0]["observations"][0]["execute_us"] = json!(1));
        assert!(said.contains("unknown field `execute_us`"), "{said}");
        let said = changed(|json| drop(json["modules"][0].as_object_mut().unwrap().remove("engines")));
        assert_eq!(said, "no complaint", "the summary may be left out");
    }

    #[test]
    fn huge_and_missing_files_are_refused() {
        let (dir, registry) = (tempfile::tempdir().unwrap(), Registry::default());
        let path = dir.path().join("huge.json");
        let missing = ProfileFile::read(&path, &registry).unwrap_err();
        assert!(matches!(missing, ImportError::Io { .. }), "{missing}");
        std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        let huge = ProfileFile::read(&path, &registry).unwrap_err();
        assert!(matches!(huge, ImportError::TooLarge { .. }), "{huge}");
    }
}
