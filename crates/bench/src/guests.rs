//! The workload suite, as each guest's `guest.toml` describes it (see guests/README.md).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// A guest: a folder with a `guest.toml`.
#[derive(Clone, Debug, PartialEq)]
pub struct Guest {
    /// The folder's path.
    pub folder: PathBuf,
    /// Its name, and that of its module.
    pub name: String,
    /// The suite, such as `polybench` or `edge`.
    pub suite: String,
    /// The names of further modules from the same source.
    pub variants: Vec<String>,
    /// Its inputs, with the expected results.
    pub cases: Vec<Case>,
}

/// One input of a guest, and the expected result. Paths are relative to the guest's folder.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Case {
    /// The name, which is unique among the guest's cases.
    pub name: String,
    /// Arguments after the program's name.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment, as `NAME=value`.
    #[serde(default)]
    env: Vec<String>,
    /// The file with the standard input; `None`: it is empty.
    pub stdin: Option<PathBuf>,
    /// The file with the output that the guest must write; `None`: it must write nothing.
    pub stdout: Option<PathBuf>,
    /// The exit code that the guest must end with; `None`: 0.
    pub exit_code: Option<i32>,
    /// The trap that the guest must end in. A case with a trap is not measured.
    trap: Option<String>,
    /// The folders that the guest needs. A case with folders is not measured.
    #[serde(default)]
    dir: Vec<toml::Value>,
}

/// The reason why a guest's description cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// A folder or file cannot be read.
    #[error("cannot read {path:?}: {source}")]
    Io {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A `guest.toml` has another form than it should; the parser's message shows the place.
    #[error("{path:?} does not describe a guest (see guests/README.md): {source}")]
    Syntax {
        /// The file's path.
        path: PathBuf,
        /// The parser's message.
        source: Box<toml::de::Error>,
    },
}

#[derive(Deserialize)]
struct RawGuest {
    name: String,
    suite: String,
    #[serde(default)]
    variant: Vec<RawVariant>,
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct RawVariant {
    name: String,
}

impl Guest {
    /// The path of the module, or of a variant of it; an empty `variant` means the plain module.
    #[must_use]
    pub fn module(&self, variant: &str) -> PathBuf {
        let dot = if variant.is_empty() { "" } else { "." };
        self.folder.join(format!("{}{dot}{variant}.wasm", self.name))
    }

    /// The case of that name, if it can be measured.
    #[must_use]
    pub fn case(&self, name: &str) -> Option<&Case> {
        self.measurable().find(|case| case.name == name)
    }

    /// The cases that end in an exit code and need no folders.
    pub fn measurable(&self) -> impl Iterator<Item = &Case> {
        self.cases.iter().filter(|case| case.trap.is_none() && case.dir.is_empty())
    }
}

impl Case {
    /// The environment, as names and values.
    #[must_use]
    pub fn env(&self) -> BTreeMap<String, String> {
        let split = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        self.env.iter().map(split).collect()
    }
}

/// Finds all guests in a folder and below it, sorted by name.
///
/// # Errors
///
/// Returns an error if a folder or file cannot be read, or if a `guest.toml` does not describe a guest.
pub fn find(folder: &Path) -> Result<Vec<Guest>, GuestError> {
    let mut guests = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let at = |source| GuestError::Io { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(at)? {
            let path = entry.map_err(at)?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name == "guest.toml") {
                guests.push(read(&path, &folder)?);
            }
        }
    }
    guests.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(guests)
}

fn read(path: &Path, folder: &Path) -> Result<Guest, GuestError> {
    let text = std::fs::read_to_string(path).map_err(|source| GuestError::Io { path: path.to_owned(), source })?;
    let raw: RawGuest = toml::from_str(&text)
        .map_err(|source| GuestError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
    Ok(Guest {
        folder: folder.to_owned(),
        name: raw.name,
        suite: raw.suite,
        variants: raw.variant.into_iter().map(|variant| variant.name).collect(),
        cases: raw.case,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suite_is_found_and_its_files_are_there() {
        let guests = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests")).unwrap();
        let count = |suite| guests.iter().filter(|guest| guest.suite == suite).count();
        assert_eq!((count("polybench"), count("edge"), count("matmul")), (30, 5, 1));
        let canny = guests.iter().find(|guest| guest.name == "canny").unwrap();
        assert!(canny.module("").is_file() && canny.module("simd").is_file());
        assert_eq!(canny.case("camera").unwrap().stdin.as_deref(), Some(Path::new("input/camera.png")));
        let trap = guests.iter().find(|guest| guest.name == "unreachable").unwrap();
        assert_eq!(trap.measurable().count(), 0);
    }

    #[test]
    fn what_describes_no_guest_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("guest.toml"), "name = \"a\"").unwrap();
        let error = find(dir.path()).unwrap_err().to_string();
        assert!(error.contains("guest.toml") && error.contains("missing field `suite`"), "{error}");
        let error = find(&dir.path().join("absent")).unwrap_err().to_string();
        assert!(error.contains("absent"), "{error}");
    }
}
