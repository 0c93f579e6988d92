//! How the flight table words its events.

use tracing::span::Id;

use crate::observe::{Ends, Event};
use crate::rt::time::Instant;
use crate::singleflight::call::{FlightId, Role};
use crate::singleflight::error::FlightError;
use crate::singleflight::party::Outcome;

impl Ends {
    pub(super) fn of<V, E>(outcome: &Outcome<V, E>) -> Self {
        match outcome {
            Ok(_) | Err(FlightError::NotFound) => Self::Landed,
            Err(FlightError::Panicked { .. }) => Self::Panicked,
            Err(FlightError::TimedOut) => Self::TimedOut,
            Err(FlightError::Aborted) => Self::Aborted,
            Err(_) => Self::Failed,
        }
    }
}

impl Event {
    /// A flight that began then has ended now.
    pub(super) fn ended(flight: u64, how: Ends, began: Instant, fan_out: usize) -> Self {
        Self::Ended { flight: FlightId(flight), how, took: began.elapsed(), fan_out }
    }

    /// A caller that arrived then is answered now.
    pub(super) fn answered(
        role: Role,
        ok: bool,
        arrived: Instant,
        began: Instant,
        span: Option<Id>,
    ) -> Self {
        Self::Answered { role, ok, waited: arrived.elapsed(), load: began.elapsed(), span }
    }
}
