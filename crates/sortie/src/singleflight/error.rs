//! Why a call got no value.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Why a flight gave a caller no value.
///
/// Cloning costs at most one reference count: one failure goes to all callers of the flight.
#[non_exhaustive]
pub enum FlightError<E> {
    /// The load ran and failed; all its callers share the error, which is also the `source()`.
    Failed(Arc<E>),
    /// The load panicked. Its panic is contained: no caller unwinds.
    Panicked {
        /// The panic's message, or a placeholder when its payload is not a string.
        message: Arc<str>,
    },
    /// The caller's own deadline passed, or the flight lasted longer than `flight_max`.
    TimedOut,
    /// A limit was reached and [`AtLimit::Busy`](crate::AtLimit::Busy) asked for a refusal, or both
    /// flights of the key hang and [`WhenStuck::Busy`](crate::WhenStuck::Busy) did.
    Busy,
    /// A load asked for its own key, or for one whose load waits for it: that would never end.
    Reentrant,
    /// The load of many keys had nothing for this one
    /// ([`run_many`](crate::SingleFlight::run_many)).
    NotFound,
    /// The load was ended by [`cancel`](crate::SingleFlight::cancel), or it was lost with its
    /// runtime, or with the caller that drove it, and could not be begun again: the caller is in no
    /// runtime, or it was lost several times.
    Aborted,
}

impl<E> FlightError<E> {
    /// Makes the shared error of a load's own failure.
    pub(super) fn failed(error: E) -> Self {
        Self::Failed(Arc::new(error))
    }

    /// Makes the shared error of a panic's payload.
    pub(super) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<&'static str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("a payload that is not a string");
        Self::Panicked { message: message.into() }
    }
}

// Not derived: a derive would ask for `E: Clone`.
impl<E> Clone for FlightError<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(Arc::clone(error)),
            Self::Panicked { message } => Self::Panicked { message: Arc::clone(message) },
            Self::TimedOut => Self::TimedOut,
            Self::Busy => Self::Busy,
            Self::Reentrant => Self::Reentrant,
            Self::NotFound => Self::NotFound,
            Self::Aborted => Self::Aborted,
        }
    }
}

impl<E: StdError + 'static> StdError for FlightError<E> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Failed(error) => Some(&**error),
            _ => None,
        }
    }
}

// This level only: a reporter walks `source()`, so no cause is printed twice.
impl<E> fmt::Display for FlightError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("the load failed"),
            Self::Panicked { message } => write!(f, "the load panicked: {message}"),
            Self::TimedOut => f.write_str("no answer before the deadline"),
            Self::Busy => f.write_str("too many flights or callers in flight"),
            Self::Reentrant => f.write_str("the load asked for its own key"),
            Self::NotFound => f.write_str("the load had nothing for this key"),
            Self::Aborted => f.write_str("the load was cancelled, or lost with its runtime"),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for FlightError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Panicked { message } => {
                f.debug_struct("Panicked").field("message", message).finish()
            }
            Self::TimedOut => f.write_str("TimedOut"),
            Self::Busy => f.write_str("Busy"),
            Self::Reentrant => f.write_str("Reentrant"),
            Self::NotFound => f.write_str("NotFound"),
            Self::Aborted => f.write_str("Aborted"),
        }
    }
}
