//! What a client is told when a read fails.
//!
//! | what failed | SQLSTATE |
//! |---|---|
//! | every replica of a shard, by its own trouble | 58030 `io_error` |
//! | a shard's queues are full | 53000 `insufficient_resources` |
//! | the replicas are closed, or the endpoint ends | 57P01 `admin_shutdown` |
//! | a shard without replicas | 08006 `connection_failure` |
//! | the caller's deadline, or `flight_max` | 57014 `query_canceled` |
//! | no place for one more flight | 53000 `insufficient_resources` |
//! | a panic, or a wrong kind of answer | XX000 `internal_error` |
//!
//! Whatever a shard failed with begins with its name: `shard 1: …`.

use std::time::Duration;

use sortie::{AttemptFailure, FlightError, HedgeError, LegFailure, ScatterError};
use sortie_sqlite::Error;
use tokio::time::Instant;

use crate::sql::{SqlError, state};

/// Why a flight has no answer for this caller.
pub(super) fn flight(
    error: &FlightError<SqlError>,
    deadline: Option<Instant>,
    flight_max: Duration,
) -> SqlError {
    match error {
        FlightError::Failed(error) => error.as_ref().clone(),
        FlightError::TimedOut if deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
            let message = "canceling statement due to statement timeout";
            SqlError::new(state::QUERY_CANCELED, message)
        }
        FlightError::TimedOut => {
            let message = format!("canceling statement: no answer within {flight_max:?}");
            SqlError::new(state::QUERY_CANCELED, message)
        }
        FlightError::Panicked { message } => {
            let message = format!("the read panicked: {message}");
            SqlError::new(state::INTERNAL_ERROR, message)
        }
        FlightError::Busy => {
            let message = "too many reads are in flight";
            SqlError::new(state::INSUFFICIENT_RESOURCES, message).hint("Try again later.")
        }
        FlightError::Aborted => {
            SqlError::new(state::ADMIN_SHUTDOWN, "terminating read: the endpoint is shutting down")
        }
        // A load never asks for its own key.
        FlightError::Reentrant | _ => SqlError::new(state::INTERNAL_ERROR, error.to_string()),
    }
}

/// Why a shard's part is missing; the first one that failed is told.
pub(super) fn scatter<T>(error: ScatterError<T, HedgeError<Error>>) -> SqlError {
    let (leg, _gathered) = error.into_parts();
    let error = match leg.failure {
        LegFailure::Failed(error) => hedge(&error),
        LegFailure::TimedOut | _ => {
            SqlError::new(state::QUERY_CANCELED, "no answer within the deadline")
        }
    };
    SqlError { message: format!("shard {}: {}", leg.label, error.message), ..error }
}

/// Why no replica of a shard answered.
fn hedge(error: &HedgeError<Error>) -> SqlError {
    let Some(attempt) = error.representative() else {
        return SqlError::new(state::CONNECTION_FAILURE, error.to_string());
    };
    let (code, reason) = match &attempt.failure {
        AttemptFailure::Answered(error)
        | AttemptFailure::Failed(error)
        | AttemptFailure::Abstained(error) => (replica(error), error.to_string()),
        AttemptFailure::Panicked(message) => (state::INTERNAL_ERROR, message.to_string()),
        AttemptFailure::Refused | _ => (state::INTERNAL_ERROR, "a refused answer".to_owned()),
    };
    let failed = error.attempts().len();
    let detail = format!("{failed} attempts failed; of replica {}: {reason}", attempt.replica);
    SqlError::new(code, format!("{error}: {reason}")).detail(detail)
}

/// The code for one replica's error.
fn replica(error: &Error) -> &'static str {
    match error {
        Error::Failing { .. } | Error::Sqlite { .. } | Error::Io { .. } => state::IO_ERROR,
        Error::Busy { .. } => state::INSUFFICIENT_RESOURCES,
        Error::Closed { .. } => state::ADMIN_SHUTDOWN,
        _ => state::INTERNAL_ERROR,
    }
}
