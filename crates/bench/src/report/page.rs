//! What a report says, before anybody knows whether it becomes a page, Markdown or something else.

use super::canvas::Picture;

/// Whether something that was claimed, or aimed at, is so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is.
    Holds,
    /// For a part of what was measured.
    InPart,
    /// It is not.
    Fails,
    /// The intervals are too wide to tell.
    Open,
    /// The results do not have what it takes.
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

/// What somebody says.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    /// Who: `The paper`, or `Aim`.
    pub whose: &'static str,
    /// What.
    pub claim: String,
    /// What it is looked at for, if a section looks at several things.
    pub scope: String,
    /// Whether it is so today.
    pub verdict: Verdict,
    /// What was found.
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

/// A table. Its first column names the row.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub caption: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
    /// Shown only when asked for.
    pub folded: bool,
}

/// One of the paper's figures or tables, or one of ours.
#[derive(Debug, Default)]
pub(crate) struct Section {
    pub id: &'static str,
    pub title: String,
    /// What is shown.
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

/// Where the results come from.
#[derive(Debug)]
pub(crate) struct Fact {
    pub name: &'static str,
    pub value: String,
    /// To be typed or compared, and not read.
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
