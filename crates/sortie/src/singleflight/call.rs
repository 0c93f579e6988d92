//! What a caller says to a flight, what a load is told, and what a caller gets back.

use std::sync::Arc;
use std::time::Duration;

use crate::rt::time::Instant;
use crate::singleflight::boarding::{Boarding, Gate};
use crate::singleflight::config::{AtLimit, Join};

/// One caller's wishes for one call; the defaults are the registry's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    pub(super) join: Option<Join>,
    pub(super) deadline: Option<Instant>,
    pub(super) at_limit: Option<AtLimit>,
}

impl Call {
    /// A call with the registry's join and no deadline of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for another join than the registry's.
    #[must_use]
    pub fn join(mut self, join: Join) -> Self {
        self.join = Some(join);
        self
    }

    /// Gives up with [`TimedOut`](crate::FlightError::TimedOut) at `deadline`; the flight and its
    /// other callers are not affected.
    #[must_use]
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Gives up at a limit, whatever the registry's callers do there: nobody waits for this one.
    #[must_use]
    pub(crate) fn gives_way(mut self) -> Self {
        self.at_limit = Some(AtLimit::Busy);
        self
    }
}

/// Which flight of a registry. Of two flights of one key, the later one has the greater id.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FlightId(pub(super) u64);

impl FlightId {
    /// The id as it stands in logs and spans.
    pub fn number(self) -> u64 {
        self.0
    }
}

/// What a load is told about its flight.
#[derive(Clone, Debug)]
pub struct FlightCx {
    pub(super) flight: FlightId,
    pub(super) began: Instant,
    pub(super) flight_max: Duration,
    /// Of its flight, or of all the flights of a load of many keys.
    pub(super) gates: Vec<Arc<Gate>>,
}

impl FlightCx {
    /// Which flight this is; zero for a load that runs for its caller alone.
    pub fn flight(&self) -> FlightId {
        self.flight
    }

    /// Says that the load has not begun, until what is returned is dropped.
    ///
    /// For a load that first waits for a connection, or for its turn: callers that come meanwhile
    /// share it, however they join, because its query is sent after they have arrived. Only in a
    /// registry that was told to expect it
    /// ([`boarding`](crate::SingleFlightBuilder::boarding)); elsewhere it does nothing.
    ///
    /// Nothing may be sent while it lives: that could reach callers who arrived after it was sent.
    ///
    /// # Examples
    ///
    /// ```
    /// use sortie::{Call, Join, SingleFlight};
    /// # async fn connection() {}
    /// # async fn query(_: ()) -> Result<u64, std::io::Error> { Ok(100) }
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// let flights = SingleFlight::builder().join(Join::Fresh).boarding(true).build();
    /// let load = flights.run_with(42, Call::new(), |cx| async move {
    ///     let boarding = cx.boarding();
    ///     let connection = connection().await; // Whoever asks now shares this load,
    ///     drop(boarding);
    ///     query(connection).await // and whoever asks now waits for the next one.
    /// });
    /// assert_eq!(load.await.unwrap().value, 100);
    /// # }
    /// ```
    pub fn boarding(&self) -> Boarding {
        for gate in &self.gates {
            gate.open();
        }
        Boarding(self.gates.clone())
    }

    /// When the flight was launched: not later than the call of the load.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// When the flight is ended whatever it does (`flight_max`), if ever.
    pub fn deadline(&self) -> Option<Instant> {
        self.began.checked_add(self.flight_max)
    }
}

/// A caller's part in the flight that answered it.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Role {
    /// This caller started the flight.
    Leader,
    /// This caller shared a flight that it did not start.
    Follower,
    /// A limit was reached: the load ran for this caller alone, outside the table.
    Solo,
}

/// A value, and how it was come by.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Landed<V> {
    /// What the load returned.
    pub value: V,
    /// This caller's part in the flight.
    pub role: Role,
    /// The flight that gave the value; zero for a load that ran for its caller alone.
    pub flight: FlightId,
    /// When the load that gave the value began. Under [`Join::Fresh`] never before the call.
    ///
    /// Never later than it did. Earlier if it was begun by [`run`](crate::SingleFlight::run) before
    /// anybody had called by another form: such a call doesn't read the clock.
    pub began: Instant,
}
