//! What a client is told when a read fails: one exhaustive `match` per layer.

use sortie::{AttemptFailure, FlightError, HedgeErrorKind, LegFailure, ScatterError};
use sortie_sqlite::Rows;

use super::path::LegError;
use crate::sql::{SqlError, state};

/// 57014, in the words PostgreSQL has for `statement_timeout`.
pub(super) fn past_deadline() -> SqlError {
    SqlError::new(state::QUERY_CANCELED, "canceling statement due to statement timeout")
}

/// What a flight that brought no answer means to each of its callers.
pub(super) fn of_flight(error: &FlightError<SqlError>) -> SqlError {
    match error {
        FlightError::Failed(error) => SqlError::clone(error),
        FlightError::TimedOut => {
            SqlError::new(state::QUERY_CANCELED, "no answer from the replicas in the time allowed")
                .hint("See --soft-age, and whether a replica is stuck.")
        }
        FlightError::Busy => {
            SqlError::new(state::INSUFFICIENT_RESOURCES, "too many reads are in flight")
        }
        FlightError::Aborted => {
            SqlError::new(state::ADMIN_SHUTDOWN, "terminating read: the server is shutting down")
        }
        FlightError::Panicked { message } => internal(&format!("a read panicked: {message}")),
        // `FlightError` is open to new kinds; a read path has no other.
        other => internal(&other.to_string()),
    }
}

/// The earliest failure among the shards, with the shard's name first.
pub(super) fn of_scatter(error: &ScatterError<Rows, LegError>) -> SqlError {
    let leg = error.primary();
    let shard = &leg.label;
    let failed = match &leg.failure {
        LegFailure::Failed(failed) => failed,
        LegFailure::TimedOut => {
            return SqlError::new(state::QUERY_CANCELED, format!("shard {shard}: timed out"));
        }
        other => return internal(&format!("shard {shard}: {other:?}")),
    };
    let (code, reason) = match failed.error() {
        Some(cause) => (code(cause), cause.to_string()),
        None if failed.kind() == HedgeErrorKind::NoReplicas => {
            (state::CONNECTION_FAILURE, failed.to_string())
        }
        None => (state::INTERNAL_ERROR, failed.to_string()),
    };
    let attempts = failed.attempts().iter().map(|attempt| {
        let how = match &attempt.failure {
            AttemptFailure::Panicked(message) => format!("panicked: {message}"),
            failure => failure.error().map_or_else(|| "refused".to_owned(), ToString::to_string),
        };
        format!("{} after {:?}: {how}", attempt.replica, attempt.elapsed)
    });
    let attempts = attempts.collect::<Vec<_>>().join("; ");
    SqlError::new(code, format!("shard {shard}: {reason}"))
        .detail(format!("Replicas asked: {attempts}."))
}

/// The SQLSTATE of a replica's failure.
fn code(error: &sortie_sqlite::Error) -> &'static str {
    use sortie_sqlite::Error;
    match error {
        Error::Busy { .. } => state::INSUFFICIENT_RESOURCES,
        Error::Closed { .. } => state::CONNECTION_FAILURE,
        _ => state::IO_ERROR,
    }
}

fn internal(message: &str) -> SqlError {
    tracing::error!(message, "a read failed for a reason of our own");
    SqlError::new(state::INTERNAL_ERROR, message)
}
