//! The file that results are written to as they arrive.

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::row::{self, Point, ReadError, Record, Run};

/// The destination of results: a file or a stream.
pub struct ResultsFile {
    to: Box<dyn Write>,
}

/// The content of an earlier run's file.
#[derive(Debug)]
pub struct Earlier {
    /// The last run's record.
    pub run: Run,
    /// The processes that were measured: the point, and the process's number.
    pub done: HashSet<(Point, u32)>,
}

/// The reason why results cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file cannot be used.
    #[error("cannot write results to {path:?}: {source}; name another file with -o")]
    Io {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file of an earlier run cannot be used.
    #[error("cannot go on with {path:?}: {source}; name a file that `remuda characterize` has written")]
    Resume {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is not a results file.
    #[error("{path:?} cannot be taken up again: {source}")]
    Read {
        /// The file's path.
        path: PathBuf,
        /// The reason.
        source: ReadError,
    },
    /// The file holds no run that can be resumed.
    #[error("{path:?} cannot be taken up again: it holds no run that says what was to be measured")]
    NoRun {
        /// The file's path.
        path: PathBuf,
    },
    /// The file exists already, and is not overwritten.
    #[error("{path:?} is there already; go on with it by --resume {path:?}, or name another file with -o")]
    Exists {
        /// The file's path.
        path: PathBuf,
    },
}

impl ResultsFile {
    /// Results go to a new file.
    ///
    /// # Errors
    ///
    /// Returns an error if the file exists already, or cannot be made.
    pub fn create(path: &Path) -> Result<Self, ResultsError> {
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::AlreadyExists => ResultsError::Exists { path },
                _ => ResultsError::Io { path, source },
            }
        })?;
        Ok(Self { to: Box::new(file) })
    }

    /// Results go to a stream.
    #[must_use]
    pub fn stream(to: impl Write + 'static) -> Self {
        Self { to: Box::new(to) }
    }

    /// Results go to the end of a file that an earlier run has left. Lines and processes that a crash has left
    /// unfinished are cut off.
    ///
    /// # Errors
    ///
    /// Returns an error if the file cannot be read or written, or is not a results file.
    pub fn resume(path: &Path) -> Result<(Self, Earlier), ResultsError> {
        let resume = |source| ResultsError::Resume { path: path.to_owned(), source };
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(resume)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(resume)?;
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        let mut records =
            row::read(&mut bytes.as_slice()).map_err(|source| ResultsError::Read { path: path.to_owned(), source })?;
        let mut runs = records.iter().filter_map(|record| match record {
            Record::Run(run) if run.request.is_some() => Some(run),
            _ => None,
        });
        let run = runs.next_back().cloned().ok_or_else(|| ResultsError::NoRun { path: path.to_owned() })?;

        // A process's record comes after the records of its calls. Calls without it belong to an unfinished process.
        let is_call = |record: &Record| matches!(record, Record::Sample(sample) if sample.iteration.is_some());
        records.truncate(records.iter().rposition(|record| !is_call(record)).map_or(0, |last| last + 1));
        let whole: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(records.len()).map(<[u8]>::len).sum();
        file.set_len(whole as u64).map_err(resume)?;
        file.seek(SeekFrom::End(0)).map_err(resume)?;
        let done = records.into_iter().filter_map(|record| match record {
            Record::Sample(sample) if sample.iteration.is_none() => Some((sample.point, sample.process)),
            _ => None,
        });
        Ok((Self { to: Box::new(file) }, Earlier { run, done: done.collect() }))
    }

    /// Writes the record that every run begins with.
    ///
    /// # Errors
    ///
    /// Returns an error if the record cannot be written.
    pub fn begin(&mut self, run: Run) -> io::Result<()> {
        self.write(&[Record::Run(run)])
    }

    /// Writes records that belong together. After a crash in between, [`ResultsFile::resume`] cuts off the part that was
    /// written.
    pub(crate) fn write(&mut self, records: &[Record]) -> io::Result<()> {
        let mut lines = Vec::new();
        for record in records {
            row::write(&mut lines, record)?;
        }
        self.to.write_all(&lines)?;
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::row::{Failure, Machine, Pattern, Phase, Sample};

    fn point(guest: &str) -> Point {
        Point {
            guest: guest.into(),
            suite: "micro".into(),
            variant: String::new(),
            case: "a".into(),
            engine: "mock".into(),
            pattern: Pattern::Cold,
        }
    }

    fn sample(guest: &str, process: u32, iteration: Option<u32>) -> Record {
        Record::Sample(Sample {
            run: "r".into(),
            point: point(guest),
            digest: String::new(),
            engine_version: String::new(),
            flags: String::new(),
            process,
            iteration,
            wall_ns: [(Phase::Total, 5)].into(),
            cpu_ns: BTreeMap::default(),
            peak_memory_bytes: None,
            code_bytes: None,
            artifact_bytes: None,
            answered_by: None,
            load: 0.0,
        })
    }

    fn run() -> Record {
        Record::Run(Run {
            schema: row::SCHEMA,
            run: "r".into(),
            seed: 7,
            command: String::new(),
            unix_ms: 0,
            remuda: String::new(),
            commit: String::new(),
            machine: Machine::default(),
            request: Some(crate::plan::tests::request(&[])),
        })
    }

    #[test]
    fn what_a_crash_left_unfinished_is_cut_off_and_measured_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        let failure =
            Record::Failure(Failure { run: "r".into(), point: point("b"), process: 0, reason: "wrong".into() });
        let whole = [run(), sample("a", 0, Some(0)), sample("a", 0, None), failure];
        ResultsFile::create(&path).unwrap().write(&whole).unwrap();
        let good = std::fs::read(&path).unwrap();

        let mut more = Vec::new();
        for record in [sample("a", 1, Some(0)), sample("a", 1, Some(1)), sample("a", 1, None)] {
            row::write(&mut more, &record).unwrap();
        }
        // Wherever the crash happens: unless the process's own record is complete, no record of the process counts.
        for length in 0..more.len() {
            std::fs::write(&path, [&good, &more[..length]].concat()).unwrap();
            let (mut results, earlier) = ResultsFile::resume(&path).unwrap();
            assert_eq!(earlier.run.seed, 7);
            assert_eq!(earlier.done, HashSet::from([(point("a"), 0)]), "a failure is no result; {length}");
            assert_eq!(std::fs::read(&path).unwrap(), good, "{length}");
            results.write(&[sample("c", 0, None)]).unwrap();
            let records = row::read(&mut std::fs::read(&path).unwrap().as_slice()).unwrap();
            assert_eq!(records.len(), whole.len() + 1, "{length}");
        }
        std::fs::write(&path, [&good, &more[..]].concat()).unwrap();
        assert_eq!(ResultsFile::resume(&path).unwrap().1.done.len(), 2);
    }

    #[test]
    fn a_file_is_neither_overwritten_nor_taken_for_what_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.jsonl");
        std::fs::write(&path, "").unwrap();
        let error = ResultsFile::create(&path).err().unwrap().to_string();
        assert!(error.contains("--resume"), "{error}");
        let error = ResultsFile::resume(&path).err().unwrap().to_string();
        assert!(error.contains("holds no run"), "{error}");
        std::fs::write(&path, "{}\n").unwrap();
        let error = ResultsFile::resume(&path).err().unwrap().to_string();
        assert!(error.contains("line 1"), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), b"{}\n", "it was left alone");
    }
}
