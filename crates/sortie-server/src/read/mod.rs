//! The read path: a bound statement goes through one flight per key to the shards, and the
//! shards' rows come back merged and encoded.
//!
//! # Invariants
//!
//! 1. Two reads share an answer only if their keys are equal in full ([`key`]).
//! 2. What is merged is what one server with all rows would answer; there is no snapshot across
//!    shards, each contributes its own.
//! 3. A reader gets no answer that is older than it wishes ([`fresh`]).
//! 4. An answer is bounded in rows and bytes before it is held in memory.

mod error;
mod fresh;
mod key;
mod merge;
mod path;
mod postgres;
mod source;
mod sqlite;
mod stats;
mod too_big;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use sortie_postgres::Credential;

use crate::sql::{Decisive, Settings};

pub(crate) use self::fresh::{Fence, Floors, Landed, Mark, Wish};
pub(crate) use self::path::{ReadConfig, ReadPath};
pub(crate) use self::postgres::{
    Alone, AttemptStats, Large, PgReplica, checkout, kept, login, values_of_rows,
};
pub(crate) use self::stats::ReadStats;
pub(crate) use self::view::FlightSeen;

/// Whose statement it is: all that may change an answer besides the statement itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Who {
    pub(crate) database: Arc<str>,
    pub(crate) user: Arc<str>,
    /// What a role logs in to servers with, if not with what their URLs have.
    pub(crate) credential: Option<Arc<Credential>>,
    pub(crate) settings: Decisive,
}

impl From<&Settings> for Who {
    /// Somebody who asks as the login that is configured.
    fn from(settings: &Settings) -> Self {
        Self {
            database: Arc::clone(settings.database()),
            user: Arc::clone(settings.user()),
            credential: None,
            settings: Arc::clone(settings.decisive()),
        }
    }
}

/// What a statement takes and gives, as the frames that a server describes it with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Description {
    /// The `ParameterDescription` frame.
    pub(crate) parameters: Bytes,
    /// The `RowDescription` frame, all of it as text.
    pub(crate) head: Bytes,
    pub(crate) notices: Option<Arc<Notices>>,
}

/// Frames of notices that came with an answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Notices {
    /// When its statement was parsed: for those who have it parsed with the same batch.
    pub(crate) parsing: Bytes,
    /// When it was planned, and ran.
    pub(crate) running: Bytes,
}

/// The rows of one statement, encoded once and shared by everybody who asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Reply {
    /// The `RowDescription` frame; empty where whoever asked knows the columns.
    pub(crate) head: Bytes,
    /// `DataRow` frames, one after the other.
    pub(crate) rows: Bytes,
    /// How many.
    pub(crate) count: u64,
    /// There may be more: no more were wanted.
    pub(crate) is_suspended: bool,
    pub(crate) notices: Option<Arc<Notices>>,
}

impl Reply {
    /// So many rows at most of a whole answer; 0 means all.
    pub(crate) fn first(&self, rows_max: u32) -> Self {
        if rows_max == 0 || self.count < u64::from(rows_max) {
            return self.clone();
        }
        let count = u64::from(rows_max);
        let rows = self.rows.slice(..merge::length_of(&self.rows, count));
        Self { rows, count, is_suspended: true, ..self.clone() }
    }
}
