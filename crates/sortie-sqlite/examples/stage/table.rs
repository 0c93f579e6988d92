//! The table that the examples print, and what they say durations and errors with.

use std::error::Error;
use std::time::Duration;

/// What a scene returns: a failure of the stage itself, never of what is shown on it.
pub(crate) type Fallible<T = ()> = Result<T, Box<dyn Error>>;

/// An error with all its causes, as a reporter would print it.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A table of text: a header, then one row for each run.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(ToString::to_string).collect()] }
    }

    pub(crate) fn row(&mut self, cells: &[&dyn ToString]) {
        self.rows.push(cells.iter().map(|cell| cell.to_string()).collect());
    }

    /// Prints the rows: what was tried and by which rule to the left, figures to the right.
    #[expect(clippy::print_stdout, reason = "printing is what the examples are for")]
    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |at: usize| {
            self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max()
        };
        let widths: Vec<usize> = (0..columns).map(|at| width(at).unwrap_or(0)).collect();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| match at {
                0 | 1 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
            println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
    }
}

/// A duration in whole milliseconds.
pub(crate) fn ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}
