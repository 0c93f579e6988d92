//! What a client is told when a server fails.

use std::io;

use super::stub::PoolError;

use crate::sql::{SqlError, state};

/// No server is configured for what was asked.
pub(super) fn no_server() -> SqlError {
    SqlError::new(state::CONNECTION_FAILURE, "no server of the shard is known")
}

/// A connection failed while a statement ran.
pub(super) fn lost(error: &io::Error) -> SqlError {
    let mut told = SqlError::new(
        state::CONNECTION_FAILURE,
        "the connection to the server was lost before it answered",
    );
    told.detail = Some(error.to_string());
    told
}

/// No connection could be had.
pub(super) fn of_pool(error: &PoolError) -> SqlError {
    SqlError::new(state::CONNECTION_FAILURE, error.to_string())
}
