//! Statements that the session answers from its own state, without asking any shard.

mod parse;

use crate::sql::error::SqlError;
use crate::sql::settings::Settings;
use crate::sql::types::{Column, Type};
use crate::sql::value::Datum;

pub(super) use self::parse::parse;

/// A statement for the session itself.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Local {
    /// Nothing but whitespace and comments: answered with `EmptyQueryResponse`.
    Empty,
    /// `SELECT` without `FROM`: one row, or none where LIMIT, OFFSET or WHERE say so.
    Select(ConstRow),
    /// `SHOW name`: one row with one text column.
    Show(String),
    /// `SHOW ALL`: name, setting and description of every parameter.
    ShowAll,
    /// `SET [LOCAL] name = value`; `None` is `DEFAULT`.
    Set { name: String, value: Option<String>, local: bool },
    /// `RESET name`.
    Reset(String),
    /// `RESET ALL`.
    ResetAll,
    /// `SET TRANSACTION …`: accepted as it asks for what is the case anyway.
    SetTransaction,
    /// `DISCARD ALL`: resets every parameter and forgets every prepared statement.
    DiscardAll,
    /// `BEGIN` or, where `start` is set, `START TRANSACTION`.
    Begin { start: bool },
    /// `COMMIT` or `END`; with `chain` the next transaction begins at once.
    Commit { chain: bool },
    /// `ROLLBACK` or `ABORT`; with `chain` the next transaction begins at once.
    Rollback { chain: bool },
    /// `DEALLOCATE name`; `None` is `ALL`.
    Deallocate(Option<String>),
    /// Harmless because what it would undo can't be done here: only its tag is sent.
    Nothing(&'static str),
}

/// The row of a `SELECT` without `FROM`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ConstRow {
    pub(crate) items: Vec<ConstItem>,
    /// False where LIMIT 0, OFFSET or WHERE leave no row.
    pub(crate) present: bool,
}

/// One column of that row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ConstItem {
    Value(Datum),
    CurrentUser,
    CurrentDatabase,
    CurrentSchema,
    Version,
}

impl Local {
    /// The tag of `CommandComplete`; rows of a `SELECT` are counted by the session.
    ///
    /// `None` for the statements that end otherwise: [`Local::Empty`] and [`Local::Select`].
    pub(crate) fn tag(&self) -> Option<&'static str> {
        Some(match self {
            Self::Empty | Self::Select(_) => return None,
            Self::Show(_) | Self::ShowAll => "SHOW",
            Self::Set { .. } | Self::SetTransaction => "SET",
            Self::Reset(_) | Self::ResetAll => "RESET",
            Self::DiscardAll => "DISCARD ALL",
            Self::Begin { start: false } => "BEGIN",
            Self::Begin { start: true } => "START TRANSACTION",
            Self::Commit { .. } => "COMMIT",
            Self::Rollback { .. } => "ROLLBACK",
            Self::Deallocate(Some(_)) => "DEALLOCATE",
            Self::Deallocate(None) => "DEALLOCATE ALL",
            Self::Nothing(tag) => tag,
        })
    }

    /// The columns of a statement that is not a `SELECT`; `None` if it has none.
    ///
    /// # Errors
    ///
    /// 42704 for an unknown parameter.
    pub(super) fn columns(&self) -> Result<Option<Vec<Column>>, SqlError> {
        let names = match self {
            Self::Show(name) => vec![Settings::name_of(name)?],
            Self::ShowAll => vec!["name", "setting", "description"],
            _ => return Ok(None),
        };
        let column = |name: &str| Column { name: name.to_owned(), ty: Type::Text };
        Ok(Some(names.into_iter().map(column).collect()))
    }
}
