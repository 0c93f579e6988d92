//! What is wrong with a configuration: all of it at once, each with its place and what is right.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// As many are shown; one slip can cause many.
const SHOWN_MAX: usize = 20;

/// Why a configuration can't be used.
#[derive(Debug)]
pub(crate) struct ConfigError {
    /// The file, or the flag.
    pub(super) source: PathBuf,
    /// In the order of the text, never empty.
    pub(super) problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Problem {
    /// Line and column, counted from 1, in characters; `None` where the whole is meant.
    pub(super) place: Option<(usize, usize)>,
    pub(super) what: String,
}

/// Collects problems while a text is read.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    found: RefCell<Vec<(usize, Problem)>>,
}

impl<'t> Problems<'t> {
    pub(super) fn of(text: &'t str) -> Self {
        Self { text, found: RefCell::default() }
    }

    /// Adds one; `span` is where in the text it is, in bytes.
    pub(super) fn add(&self, span: Range<usize>, what: impl Into<String>) {
        let place = Some(place(self.text, span.start));
        self.found.borrow_mut().push((span.start, Problem { place, what: what.into() }));
    }

    /// Adds one that has no place of its own.
    pub(super) fn add_whole(&self, what: impl Into<String>) {
        let problem = Problem { place: None, what: what.into() };
        self.found.borrow_mut().push((usize::MAX, problem));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.borrow().is_empty()
    }

    /// All of them, in the order of the text.
    pub(super) fn into_found(self) -> Vec<Problem> {
        let mut found = self.found.into_inner();
        found.sort_by_key(|(at, _problem)| *at);
        found.into_iter().map(|(_at, problem)| problem).collect()
    }
}

impl std::error::Error for ConfigError {}

/// `FILE:LINE:COLUMN: what`, a line for each, as compilers write it.
impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.source.display();
        for (nth, Problem { place, what }) in self.problems.iter().take(SHOWN_MAX).enumerate() {
            let end = if nth == 0 { "" } else { "\n" };
            match place {
                Some((line, column)) => write!(f, "{end}{file}:{line}:{column}: {what}")?,
                None => write!(f, "{end}{file}: {what}")?,
            }
        }
        match self.problems.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(f, "\n{file}: and {more} more"),
        }
    }
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}
