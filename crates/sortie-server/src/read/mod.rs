//! The read path: a bound statement goes through one flight per key to the shards, and the
//! shards' rows come back merged and encoded.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::sql::{BoundRead, SqlError};

/// Whose statement it is: all that may change an answer besides the statement itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Who {
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    /// Parameters set to other than their default, without those known not to change an answer.
    pub(crate) settings: Arc<[(&'static str, Box<str>)]>,
}

/// The rows of one statement, encoded once and shared by everybody who asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Reply {
    /// `DataRow` frames, one after the other.
    pub(crate) rows: Bytes,
    /// How many.
    pub(crate) count: u64,
}

/// The way of a read: key, flight, scatter, hedge, merge. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadPath {}

impl ReadPath {
    /// Reads what `bound` asks for, sharing the work with everybody who asks the same.
    ///
    /// `formats` are the result formats as in a Bind message; `deadline` is this caller's own.
    ///
    /// # Errors
    ///
    /// 57014 past the deadline; what the shards or the flight failed with, naming the shard.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the flight; it runs on for those who still wait.
    pub(crate) async fn read(
        &self,
        who: &Who,
        bound: &BoundRead,
        formats: &[i16],
        deadline: Option<Instant>,
    ) -> Result<Arc<Reply>, SqlError> {
        let _ = (who, bound, formats, deadline);
        Err(SqlError::unsupported("no shards"))
    }
}
