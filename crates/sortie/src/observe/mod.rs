//! What flights and caches do, told while it happens, to whoever wants to know.
//!
//! An [`Observer`] is given to a registry when it is built
//! ([`SingleFlightBuilder::observer`](crate::SingleFlightBuilder::observer)) and hears of each
//! [`Event`]: who joined what and how old it was, who was refused and why, how long callers waited
//! against how long the load took, how loads ended. Without one nothing is measured and no event
//! is made. Counters that cost nothing are in [`FlightStats`](crate::FlightStats).
//!
//! Two observers are ready-made: [`Traced`] writes `tracing` events and links the spans of
//! followers to the span of their load; `Metered` (feature `metrics`) records the `metrics` crate's
//! counters and histograms.

#[cfg(feature = "metrics")]
mod metered;
mod traced;

use std::time::Duration;

use tracing::span::Id;

#[cfg(feature = "metrics")]
pub use self::metered::Metered;
pub use self::traced::Traced;
use crate::{Fill, FlightId, Role, Why};

/// Hears what happens.
///
/// It is called in the place where it happened, by callers and by the tasks of flights, never
/// under a lock; whoever is concerned has been woken before. So it should be quick, must not wait,
/// and must not panic.
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &Event);
}

/// What has happened.
///
/// More kinds and more fields may be added: match with `..` and a last `_`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A load begins.
    #[non_exhaustive]
    Begun {
        /// Its flight.
        flight: FlightId,
        /// What for.
        how: Begins,
    },
    /// A caller shares a load that it did not start, or waits for the next one.
    #[non_exhaustive]
    Joined {
        /// How long the load had been running; `None` when it has not begun.
        age: Option<Duration>,
        /// How many callers wait with it now, itself among them.
        fan_out: usize,
    },
    /// A caller could not share a load.
    #[non_exhaustive]
    Limited {
        /// What kept it from that.
        why: Limit,
        /// Whether its load runs for it alone instead; otherwise it was refused.
        solo: bool,
    },
    /// A caller has got an outcome.
    #[non_exhaustive]
    Answered {
        /// Its part in the flight.
        role: Role,
        /// Whether it got a value.
        ok: bool,
        /// How long it waited.
        waited: Duration,
        /// How long ago the load that answered it began.
        load: Duration,
        /// The span of that load, if its flight had a task and a subscriber wanted the span.
        span: Option<Id>,
    },
    /// A caller has given up: it was dropped, or its own deadline passed.
    #[non_exhaustive]
    Left {
        /// Its part in the flight.
        role: Role,
        /// How long it had waited.
        waited: Duration,
        /// The span of the load it waited for, if that has begun and has one.
        span: Option<Id>,
    },
    /// A load has failed and is tried again by its flight.
    #[non_exhaustive]
    Retried {
        /// Its flight.
        flight: FlightId,
        /// The number of the attempt that follows, from 2.
        attempt: u32,
        /// How long the flight pauses before it.
        pause: Duration,
    },
    /// A load has ended, and so has its flight.
    #[non_exhaustive]
    Ended {
        /// Its flight.
        flight: FlightId,
        /// How it ended.
        how: Ends,
        /// How long it ran.
        took: Duration,
        /// How many callers got its outcome.
        fan_out: usize,
    },
    /// A value was loaded and served, and the cache did not store it.
    FillRefused {
        /// Why not.
        why: Fill,
    },
    /// A caller was given a value that is older than it should be.
    StaleServed {
        /// Why.
        why: Why,
        /// How long ago its load began, if the cache knows.
        age: Option<Duration>,
    },
}

/// What a load begins for.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Begins {
    /// A caller found none to share.
    Leader,
    /// Callers waited for one that begins after they arrived.
    Next,
    /// The running one was past its soft age.
    Successor,
}

/// How a flight ends.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Ends {
    /// With a value, or with the answer that there is none.
    Landed,
    /// With the load's own error.
    Failed,
    /// With a panic of the load.
    Panicked,
    /// By `flight_max`.
    TimedOut,
    /// Nobody waited for it any more, or its runtime was shut down.
    Aborted,
    /// A later flight had answered its callers.
    Superseded,
}

/// What kept a caller from sharing a load.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Limit {
    /// `flights_max` keys were in flight.
    Flights,
    /// `waiters_max` callers were waiting.
    Waiters,
    /// `shared_bytes_max` bytes had not been taken by their callers.
    Bytes,
    /// Both flights of its key are past their soft age.
    Stuck,
    /// Its deadline comes before the load is expected to end.
    TooLate,
    /// It asked from inside the load that it would have waited for.
    Reentrant,
}

macro_rules! labels {
    ($name:ident: $($variant:ident => $label:literal),* $(,)?) => {
        impl $name {
            #[cfg(feature = "metrics")]
            pub(super) const ALL: [Self; [$($label),*].len()] = [$(Self::$variant),*];

            /// One lower-case word, for labels and logs.
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

labels!(Begins: Leader => "leader", Next => "next", Successor => "successor");
labels!(Ends:
    Landed => "landed",
    Failed => "failed",
    Panicked => "panicked",
    TimedOut => "timed_out",
    Aborted => "aborted",
    Superseded => "superseded",
);
labels!(Limit:
    Flights => "flights",
    Waiters => "waiters",
    Bytes => "bytes",
    Stuck => "stuck",
    TooLate => "too_late",
    Reentrant => "reentrant",
);
