//! What became of the reads of several paths, taken together.

use sortie::{FlightStats, HedgeLedger, ScatterStats};

/// The counters of one path, or the sums of several.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadStats {
    pub(crate) flights: FlightStats,
    /// Of what statements take and give.
    pub(crate) descriptions: FlightStats,
    pub(crate) hedges: HedgeLedger,
    pub(crate) legs: ScatterStats,
}

/// Adds the fields of one struct to those of another.
macro_rules! add {
    ($total:expr, $more:expr, $($field:ident)*) => {
        $($total.$field += $more.$field;)*
    };
}

impl std::iter::Sum for ReadStats {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |mut total, more| {
            add!(total.flights, more.flights, leaders followers solos busy reentrant expired nexts
                successors landed failed panicked timed_out aborted superseded in_flight_flights
                in_flight_waiters in_flight_bytes);
            add!(total.descriptions, more.descriptions, leaders followers solos nexts successors);
            add!(total.hedges, more.hedges, requests requests_ok requests_err requests_abandoned
                firsts hedges failovers won hedge_wins failover_wins answered failed_over
                abstained panicked lost abandoned);
            add!(total.legs, more.legs, ok failed cancelled timed_out not_started in_flight);
            total
        })
    }
}
