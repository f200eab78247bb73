//! What the benchmarks share: their arguments, and where the guests are.

use std::path::{Path, PathBuf};

/// `[--rounds N] [NAME]...`
pub(crate) struct Arguments {
    /// How often everything is timed.
    pub(crate) rounds: usize,
    names: Vec<String>,
}

impl Arguments {
    /// The command line's, with `rounds` where it says nothing of them.
    pub(crate) fn parse(rounds: usize) -> Self {
        let mut arguments = Self { rounds, names: Vec::new() };
        // Cargo says `--bench` to every benchmark.
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

    /// Whether `name` is to be timed: it was asked for, or nothing of its kind was. A kind is told by the names in it.
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
