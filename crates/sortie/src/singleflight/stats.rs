//! What a registry has done, and what it is doing.

/// Counters and gauges of a [`SingleFlight`](crate::SingleFlight), read at one moment.
///
/// Callers: each call is counted once as leader, follower, solo, busy, reentrant or expired.
/// Flights: each one begun is counted once as leader's, `nexts` or `successors`, and each that
/// ended once as landed, failed, panicked, timed out, aborted or superseded; the difference is
/// `in_flight_flights`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct FlightStats {
    /// Callers that started a flight.
    pub leaders: u64,
    /// Callers that shared a flight they did not start.
    pub followers: u64,
    /// Callers whose load ran for them alone because a limit was reached.
    pub solos: u64,
    /// Callers refused with `Busy`.
    pub busy: u64,
    /// Callers refused with `Reentrant`.
    pub reentrant: u64,
    /// Callers whose deadline had passed before they asked.
    pub expired: u64,
    /// Flights begun for callers who waited for a fresh load.
    pub nexts: u64,
    /// Flights begun because the running one was past its soft age.
    pub successors: u64,
    /// Flights that ended with a value.
    pub landed: u64,
    /// Flights that ended with the load's own error.
    pub failed: u64,
    /// Flights that ended with a panic of the load.
    pub panicked: u64,
    /// Flights ended by `flight_max`.
    pub timed_out: u64,
    /// Flights aborted: nobody waited for them any more, or their runtime was shut down.
    pub aborted: u64,
    /// Flights aborted because a later one had answered their callers.
    pub superseded: u64,
    /// Flights running now.
    pub in_flight_flights: u64,
    /// Callers waiting now.
    pub in_flight_waiters: u64,
}
