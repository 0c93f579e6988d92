//! Prepared statements and portals.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use sortie_postgres::backend::{self, Field};

use crate::sql::{Bound, Column, Local, Prepared, SqlError, result_formats};

/// A prepared statement.
#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) prepared: Prepared,
    /// The length of its text, in bytes.
    pub(crate) text_len: usize,
}

/// A statement with its parameters, and how far it has run.
#[derive(Debug)]
pub(crate) struct Portal {
    pub(crate) statement: Arc<Statement>,
    pub(crate) bound: Bound,
    pub(crate) formats: Vec<i16>,
    pub(crate) progress: Progress,
}

/// How far a portal has run.
#[derive(Debug)]
pub(crate) enum Progress {
    /// Not at all.
    Fresh,
    /// There are rows, perhaps none any more.
    Rows(Rows),
    /// It was something without rows, and can't be run again.
    Spent,
    /// Its transaction has failed.
    Failed,
}

/// What a statement came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Rows, perhaps none.
    Rows(Rows),
    /// Something without rows; the tag of its `CommandComplete`.
    Done(&'static str),
    /// There was no statement.
    Empty,
}

/// Rows still to be sent.
#[derive(Debug)]
pub(crate) struct Rows {
    /// `DataRow` frames.
    pub(crate) frames: Bytes,
    /// How many.
    pub(crate) count: u64,
    /// The command that the `CommandComplete` names.
    pub(crate) command: &'static str,
}

impl Statement {
    /// Keeps a classified statement, whose text was `text_len` bytes long.
    pub(crate) fn new(prepared: Prepared, text_len: usize) -> Self {
        Self { prepared, text_len }
    }

    /// Returns the result's columns, or `None` when there are no rows to describe.
    pub(crate) fn columns(&self) -> Option<&[Column]> {
        self.prepared.columns()
    }

    /// Whether it ends a transaction, and so is run in a failed one.
    pub(crate) fn is_exit(&self) -> bool {
        self.constant().is_some_and(|bound| is_exit(&bound))
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.constant(), Some(Bound::Local(Local::Empty)))
    }

    /// What it is without parameters.
    fn constant(&self) -> Option<Bound> {
        let is_constant = self.prepared.params().is_empty();
        is_constant.then(|| self.prepared.bind(&[], &[]).ok()).flatten()
    }

    /// Says the columns in `formats`, as in a Bind message, or that there are none.
    ///
    /// # Errors
    ///
    /// 08P01 and 22023 for wrong formats.
    pub(crate) fn describe(&self, output: &mut BytesMut, formats: &[i16]) -> Result<(), SqlError> {
        let Some(columns) = self.columns() else {
            backend::no_data(output);
            return Ok(());
        };
        let binary = result_formats(formats, columns.len())?;
        let fields = columns.iter().zip(binary).map(|(column, binary)| Field {
            name: &column.name,
            table: 0,
            column: 0,
            oid: column.ty.oid(),
            size: column.ty.size(),
            modifier: -1,
            format: i16::from(binary),
        });
        backend::row_description(output, fields);
        Ok(())
    }
}

impl Portal {
    /// Whether running it ends a transaction.
    pub(crate) fn is_exit(&self) -> bool {
        is_exit(&self.bound) && !matches!(self.progress, Progress::Failed)
    }

    /// Whether there is nothing to run.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self.bound, Bound::Local(Local::Empty))
    }
}

impl Rows {
    /// Takes the first `rows_max` rows off, or all of them if it is `None`.
    pub(crate) fn take(&mut self, rows_max: Option<u64>) -> Self {
        let count = rows_max.map_or(self.count, |rows_max| rows_max.min(self.count));
        let frames = if count == self.count {
            // Not a slice: an empty one would keep all rows in memory until the portal closes.
            std::mem::take(&mut self.frames)
        } else {
            self.frames.split_to(self.length_of(count))
        };
        self.count -= count;
        Self { frames, count, command: self.command }
    }

    /// Returns the tag for so many rows as these.
    pub(crate) fn tag(&self) -> String {
        match self.command {
            "SELECT" => format!("SELECT {}", self.count),
            command => command.to_owned(),
        }
    }

    fn length_of(&self, count: u64) -> usize {
        let mut length = 0;
        for _row in 0..count {
            let mut field = &self.frames[length + 1..];
            // The frames are our own, so their lengths can be believed.
            length += 1 + field.get_u32() as usize;
        }
        length
    }
}

fn is_exit(bound: &Bound) -> bool {
    matches!(bound, Bound::Local(Local::Commit { .. } | Local::Rollback { .. }))
}
