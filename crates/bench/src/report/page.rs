//! The content of a report, independent of its format (HTML page or Markdown).

use super::canvas::Picture;

/// The judgement of a claim or an aim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The claim is true.
    Holds,
    /// The claim is true for a part of what was measured.
    InPart,
    /// The claim is false.
    Fails,
    /// The intervals are too wide to tell.
    Open,
    /// The results do not have the numbers that a judgement needs.
    Missing,
}

impl Verdict {
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::InPart => "holds in part",
            Self::Fails => "does not hold",
            Self::Open => "cannot be told",
            Self::Missing => "was not measured",
        }
    }

    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::InPart => "part",
            Self::Fails => "fails",
            Self::Open | Self::Missing => "open",
        }
    }
}

/// A claim of the paper, or an aim of this project, with what was found.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// The claim's origin: `The paper`, or `Aim`.
    pub whose: &'static str,
    /// The claim itself, as a sentence.
    pub claim: String,
    /// The part of the results that the claim is checked on, if a section checks it on several parts.
    pub scope: String,
    /// The judgement on these results.
    pub verdict: Verdict,
    /// A sentence about what was found.
    pub finding: String,
}

/// A cell of a table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub text: String,
    pub strong: bool,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), strong: false }
    }

    pub(crate) fn strong(text: impl Into<String>) -> Self {
        Self { text: text.into(), strong: true }
    }
}

/// A table. The first column holds the rows' names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub caption: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    /// Whether the reader must open the table to see it.
    pub folded: bool,
}

/// One of the paper's figures or tables, or one of ours.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub id: &'static str,
    pub title: String,
    /// The introduction: what the section shows.
    pub lead: String,
    pub claims: Vec<Claim>,
    pub parts: Vec<Part>,
}

/// A part of a section.
#[derive(Debug)]
pub(crate) enum Part {
    Heading(String),
    Picture(Picture),
    Table(Table),
    Words(String),
}

/// A fact about where the results come from.
#[derive(Debug)]
pub(crate) struct Fact {
    pub name: &'static str,
    pub value: String,
    /// Whether the value is to be typed or compared, so that it is shown as code.
    pub literal: bool,
}

/// A report.
#[derive(Debug)]
pub(crate) struct Page {
    pub title: String,
    pub facts: Vec<Fact>,
    pub warnings: Vec<crate::noise::Warning>,
    pub failures: Table,
    pub sections: Vec<Section>,
}
