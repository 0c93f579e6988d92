//! One connection: statements run one after another, each under its own progress handler.
//!
//! # Invariants
//!
//! 1. A statement can be ended only by the flag it was started with, and by the end of the whole
//!    cluster. The connection is never interrupted: an interrupt that comes late hits the next
//!    statement.
//! 2. The handler of a statement is gone before the next one starts.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OpenFlags, ToSql, params_from_iter};

use crate::error::Source;
use crate::{Rows, Value};

/// Instructions of SQLite's machine between two looks at the flag: some tens of microseconds.
const PROGRESS_OPS: i32 = 1_000;

/// Distinct statement texts a connection keeps compiled.
const STATEMENTS_MAX: usize = 64;

/// A read-only connection to one file of the cluster.
pub(crate) struct Reader {
    connection: Connection,
    closing: Arc<AtomicBool>,
}

impl Reader {
    /// Opens `file`; `closing` ends whatever runs on the connection. A `private` file has no
    /// writers; another one may be written to by other processes between two statements.
    pub(crate) fn open(
        file: &Path,
        private: bool,
        closing: &Arc<AtomicBool>,
    ) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(file, flags)?;
        // Pages come from the page cache that all workers share instead of one cache each.
        connection.execute_batch(
            "PRAGMA mmap_size = 268435456; PRAGMA temp_store = MEMORY; PRAGMA query_only = ON;",
        )?;
        if private {
            // The read lock is taken once and kept, which would keep a writer out for ever.
            connection.execute_batch("PRAGMA locking_mode = EXCLUSIVE")?;
        }
        connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
        Ok(Self { connection, closing: Arc::clone(closing) })
    }

    /// Runs one statement to its end, or until `cancelled` is raised.
    pub(crate) fn run(
        &self,
        sql: &str,
        params: &[Value],
        cancelled: &Arc<AtomicBool>,
    ) -> Result<Rows, Source> {
        let (cancelled, closing) = (Arc::clone(cancelled), Arc::clone(&self.closing));
        let over = move || cancelled.load(Relaxed) || closing.load(Relaxed);
        self.connection.progress_handler(PROGRESS_OPS, Some(over))?;
        let outcome = self.rows(sql, params);
        self.connection.progress_handler(0, None::<fn() -> bool>)?;
        outcome.map_err(|error| match error {
            // The statement's text in front of it is left out: the caller has it.
            rusqlite::Error::SqlInputError { msg, .. } => msg.into(),
            other => other.into(),
        })
    }

    fn rows(&self, sql: &str, params: &[Value]) -> rusqlite::Result<Rows> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let columns = statement.column_count();
        let mut found = statement.query(params_from_iter(params))?;
        let mut rows = Vec::new();
        while let Some(row) = found.next()? {
            let values = (0..columns).map(|column| value(column, row.get_ref(column)?));
            rows.push(values.collect::<rusqlite::Result<Vec<_>>>()?);
        }
        Ok(Rows { rows })
    }
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn value(column: usize, value: ValueRef<'_>) -> rusqlite::Result<Value> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(_) => Value::Text(value.as_str()?.into()),
        // The table has neither, and no statement of the endpoint computes one.
        ValueRef::Real(_) | ValueRef::Blob(_) => {
            let name = format!("column {column}");
            return Err(rusqlite::Error::InvalidColumnType(column, name, value.data_type()));
        }
    })
}
