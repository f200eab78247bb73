//! Code that the benchmarks share: their arguments, and where the guests are.

use std::path::{Path, PathBuf};

/// The arguments of a benchmark: `[--rounds N] [NAME]...`.
pub(crate) struct Arguments {
    /// The number of times that everything is timed.
    pub(crate) rounds: usize,
    names: Vec<String>,
}

impl Arguments {
    /// Reads the command line, with `rounds` as the default number of rounds.
    pub(crate) fn parse(rounds: usize) -> Self {
        let mut arguments = Self { rounds, names: Vec::new() };
        // Cargo passes `--bench` to every benchmark.
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            if word == "--rounds" {
                let rounds = words.next().and_then(|rounds| rounds.parse().ok()).filter(|rounds| *rounds > 0);
                arguments.rounds = rounds.expect("--rounds takes a number");
            } else {
                arguments.names.push(word);
            }
        }
        arguments
    }

    /// Whether `name` is to be timed: it was asked for, or no name of its kind was. A kind is given by all names in it.
    pub(crate) fn has<'a>(&self, name: &str, kind: impl IntoIterator<Item = &'a str>) -> bool {
        let asked_for = |name: &str| self.names.iter().any(|asked| asked == name);
        asked_for(name) || !kind.into_iter().any(asked_for)
    }
}

/// The folder of the suite's guests.
pub(crate) fn guests() -> PathBuf {
    std::env::var_os("REMUDA_GUESTS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests"), PathBuf::from)
}
