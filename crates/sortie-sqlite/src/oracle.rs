//! All rows in one file: what a cluster's answers are compared with.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::worker::Reader;
use crate::{Error, Rows, Value, data};

/// One SQLite file that holds every row of a cluster, and one connection to it.
pub struct Oracle {
    reader: Reader,
    never: Arc<AtomicBool>,
}

impl Oracle {
    /// Writes users 1 to `rows` to `file`, which must not exist, and opens it.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] or [`Error::Io`] when the file can't be written.
    pub fn create(file: &Path, rows: u32) -> Result<Self, Error> {
        data::write(file, 1..=rows)?;
        let never = Arc::default();
        let reader = Reader::open(file, true, &never).map_err(|source| data::at(file, source))?;
        Ok(Self { reader, never })
    }

    /// Runs one statement to its end, on the calling thread.
    ///
    /// # Errors
    ///
    /// [`Error::Sqlite`] when SQLite refuses the statement.
    pub fn query(&self, sql: &str, params: &[Value]) -> Result<Rows, Error> {
        let outcome = self.reader.run(sql, params, &self.never);
        outcome.map_err(|source| Error::Sqlite { at: "oracle".into(), source })
    }
}

impl std::fmt::Debug for Oracle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Oracle").finish_non_exhaustive()
    }
}
