//! What a client is told when a statement is refused or fails: PostgreSQL's error fields.

use std::fmt;

use bytes::Bytes;

/// SQLSTATE codes, named as in PostgreSQL's `errcodes.txt`.
pub(crate) mod state {
    pub(crate) const CONNECTION_FAILURE: &str = "08006";
    pub(crate) const FEATURE_NOT_SUPPORTED: &str = "0A000";
    pub(crate) const PROTOCOL_VIOLATION: &str = "08P01";
    pub(crate) const NUMERIC_VALUE_OUT_OF_RANGE: &str = "22003";
    pub(crate) const CHARACTER_NOT_IN_REPERTOIRE: &str = "22021";
    pub(crate) const INVALID_PARAMETER_VALUE: &str = "22023";
    pub(crate) const INVALID_ESCAPE_SEQUENCE: &str = "22025";
    pub(crate) const INVALID_BINARY_REPRESENTATION: &str = "22P03";
    pub(crate) const INVALID_ROW_COUNT_IN_LIMIT: &str = "2201W";
    pub(crate) const INVALID_ROW_COUNT_IN_OFFSET: &str = "2201X";
    pub(crate) const INVALID_TEXT_REPRESENTATION: &str = "22P02";
    pub(crate) const READ_ONLY_SQL_TRANSACTION: &str = "25006";
    pub(crate) const NO_ACTIVE_TRANSACTION: &str = "25P01";
    pub(crate) const IN_FAILED_SQL_TRANSACTION: &str = "25P02";
    pub(crate) const SYNTAX_ERROR: &str = "42601";
    pub(crate) const AMBIGUOUS_COLUMN: &str = "42702";
    pub(crate) const UNDEFINED_COLUMN: &str = "42703";
    pub(crate) const UNDEFINED_OBJECT: &str = "42704";
    pub(crate) const AMBIGUOUS_FUNCTION: &str = "42725";
    pub(crate) const GROUPING_ERROR: &str = "42803";
    pub(crate) const DATATYPE_MISMATCH: &str = "42804";
    pub(crate) const WRONG_OBJECT_TYPE: &str = "42809";
    pub(crate) const UNDEFINED_FUNCTION: &str = "42883";
    pub(crate) const INVALID_COLUMN_REFERENCE: &str = "42P10";
    pub(crate) const UNDEFINED_TABLE: &str = "42P01";
    pub(crate) const UNDEFINED_PARAMETER: &str = "42P02";
    pub(crate) const INDETERMINATE_DATATYPE: &str = "42P18";
    pub(crate) const INSUFFICIENT_RESOURCES: &str = "53000";
    pub(crate) const OUT_OF_MEMORY: &str = "53200";
    pub(crate) const TOO_MANY_CONNECTIONS: &str = "53300";
    pub(crate) const PROGRAM_LIMIT_EXCEEDED: &str = "54000";
    pub(crate) const STATEMENT_TOO_COMPLEX: &str = "54001";
    pub(crate) const NOT_IN_STATE: &str = "55000";
    pub(crate) const CANT_CHANGE_RUNTIME_PARAM: &str = "55P02";
    pub(crate) const QUERY_CANCELED: &str = "57014";
    pub(crate) const ADMIN_SHUTDOWN: &str = "57P01";
    pub(crate) const CANNOT_CONNECT_NOW: &str = "57P03";
    pub(crate) const IO_ERROR: &str = "58030";
    pub(crate) const INTERNAL_ERROR: &str = "XX000";
}

/// One error as a client sees it; the session turns it into an `ErrorResponse` frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct SqlError {
    /// The SQLSTATE, five characters.
    pub(crate) code: &'static str,
    /// The primary message, one line.
    pub(crate) message: String,
    /// More about it, where PostgreSQL has a DETAIL.
    pub(crate) detail: Option<String>,
    /// What to do about it, where PostgreSQL has a HINT.
    pub(crate) hint: Option<String>,
    /// The place in the statement, in characters from 1.
    pub(crate) position: Option<usize>,
    /// The `ErrorResponse` of the server that it comes from: what a client is told instead of
    /// everything else.
    pub(crate) report: Option<Box<Bytes>>,
}

impl SqlError {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            detail: None,
            hint: None,
            position: None,
            report: None,
        }
    }

    /// 08P01: a Bind with another number of values than its statement takes.
    pub(crate) fn misbound(name: &[u8], wanted: usize, given: usize) -> Self {
        let name = String::from_utf8_lossy(name);
        let message = format!(
            "bind message supplies {given} parameters, but prepared statement \"{name}\" \
             requires {wanted}"
        );
        Self::new(state::PROTOCOL_VIOLATION, message)
    }

    /// 25P02: all that a transaction answers which has failed, but to its end.
    pub(crate) fn aborted() -> Self {
        let message =
            "current transaction is aborted, commands ignored until end of transaction block";
        Self::new(state::IN_FAILED_SQL_TRANSACTION, message)
    }

    /// 0A000: valid SQL that this endpoint can't answer exactly, with the reason.
    pub(crate) fn unsupported(reason: impl fmt::Display) -> Self {
        Self::new(state::FEATURE_NOT_SUPPORTED, reason.to_string())
    }

    /// 25006 in PostgreSQL's words; `command` as its command tags name it.
    pub(crate) fn read_only(command: &str) -> Self {
        let message = format!("cannot execute {command} in a read-only transaction");
        Self::new(state::READ_ONLY_SQL_TRANSACTION, message)
    }

    #[must_use]
    pub(crate) fn at(mut self, position: usize) -> Self {
        self.position = Some(position);
        self
    }

    /// Sets the place unless one is already known: inner layers know it better.
    #[must_use]
    pub(crate) fn at_or(mut self, position: usize) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Moves the place when the statement began `characters` into what the client sent.
    #[must_use]
    pub(crate) fn shifted(mut self, characters: usize) -> Self {
        self.position = self.position.map(|position| position + characters);
        self
    }

    #[must_use]
    pub(crate) fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (SQLSTATE {})", self.message, self.code)
    }
}

impl std::error::Error for SqlError {}
