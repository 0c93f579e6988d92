//! What a client is told when a read fails, whoever holds the rows.
//!
//! | what failed | SQLSTATE |
//! |---|---|
//! | a shard's replicas | what [`Source::failed`] makes of it |
//! | the caller's deadline, or `flight_max` | 57014 `query_canceled` |
//! | no place for one more flight | 53000 `insufficient_resources` |
//! | no room for its answer | 53200 `out_of_memory` |
//! | the endpoint ends | 57P01 `admin_shutdown` |
//! | a panic, or a wrong kind of answer | XX000 `internal_error` |
//!
//! Whatever one shard of several failed with begins with its name: `shard 1: …`.

use std::time::Duration;

use sortie::{FlightError, HedgeError, LegFailure, ScatterError};
use tokio::time::Instant;

use super::source::Source;
use crate::budget::spent;
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
            statement_timeout()
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

/// What an answer's error is where there was room for a small one only.
pub(super) fn without_room(error: SqlError) -> SqlError {
    if error.code == state::PROGRAM_LIMIT_EXCEEDED { spent() } else { error }
}

/// What a caller is told past its own deadline.
pub(super) fn statement_timeout() -> SqlError {
    let message = "canceling statement due to statement timeout";
    SqlError::new(state::QUERY_CANCELED, message)
}

/// Whether what a shard failed with is such an error.
pub(super) fn is_of_leg<T, E>(
    error: &ScatterError<T, HedgeError<E>>,
    is: impl Fn(&HedgeError<E>) -> bool,
) -> bool {
    match &error.primary().failure {
        LegFailure::Failed(error) => is(error),
        _ => false,
    }
}

/// Why a shard's part is missing; the first one that failed is told.
pub(super) fn scatter<S: Source, T>(error: ScatterError<T, HedgeError<S::Error>>) -> SqlError {
    let (leg, _gathered) = error.into_parts();
    let error = match leg.failure {
        LegFailure::Failed(error) => S::failed(error),
        LegFailure::TimedOut | _ => {
            SqlError::new(state::QUERY_CANCELED, "no answer within the deadline")
        }
    };
    error.of_shard(&leg.label)
}
