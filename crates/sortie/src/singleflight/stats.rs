//! What a registry has done, and what it is doing.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::observe::Ends;
use crate::singleflight::table::Table;

/// Counters and gauges of a [`SingleFlight`](crate::SingleFlight), read at one moment.
///
/// Callers: each call is counted once as leader, follower, solo, busy, reentrant or expired.
/// Flights: each one begun is counted once as leader's, `nexts` or `successors`, and each that
/// ended once as landed, failed, panicked, timed out, aborted or superseded; the difference is
/// `in_flight_flights`. A flight whose callers all leave before its task has run ends as aborted
/// without its load having been called.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct FlightStats {
    /// Callers that started a flight.
    pub leaders: u64,
    /// Callers that shared a flight they did not start.
    pub followers: u64,
    /// Callers whose load ran for them alone: a limit was reached, or they had asked for that.
    pub solos: u64,
    /// Callers refused with `Busy`.
    pub busy: u64,
    /// Those of them whose deadline came before the load was expected to end.
    pub busy_too_late: u64,
    /// Callers refused with `Reentrant`.
    pub reentrant: u64,
    /// Callers whose deadline had passed before they asked.
    pub expired: u64,
    /// Callers counted once more, because they went on where another had gone that drove its load
    /// ([`run_local`](crate::SingleFlight::run_local)).
    pub takeovers: u64,
    /// Flights begun for callers who waited for a fresh load.
    pub nexts: u64,
    /// Flights begun because the running one was past its soft age.
    pub successors: u64,
    /// Loads that were tried again, by flights that count once.
    pub retries: u64,
    /// Flights that ended with a value, or with the answer that there is none.
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
    /// Flights running now without a caller, under [`Idle::Linger`](crate::Idle::Linger).
    pub in_flight_lingering: u64,
    /// Callers waiting now.
    pub in_flight_waiters: u64,
    /// Bytes of values that callers have not taken yet, where they are
    /// [counted](crate::SingleFlightBuilder::shared_bytes_max).
    pub in_flight_bytes: u64,
}

/// What a shard notes of keys that only one caller has asked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lone {
    /// Their callers, and their flights that landed: counted most often, and so apart.
    pub(super) led: u64,
    pub(super) landed: u64,
}

impl Lone {
    pub(super) fn stats(self) -> FlightStats {
        FlightStats { leaders: self.led, landed: self.landed, ..FlightStats::default() }
    }
}

impl FlightStats {
    pub(super) fn begun(&self) -> u64 {
        self.leaders + self.nexts + self.successors
    }

    pub(super) fn ended(&self) -> u64 {
        let by_itself = self.landed + self.failed + self.panicked + self.timed_out;
        by_itself + self.aborted + self.superseded
    }

    /// Counts a flight that ends.
    pub(super) fn count(&mut self, how: Ends) {
        *match how {
            Ends::Landed => &mut self.landed,
            Ends::Failed => &mut self.failed,
            Ends::Panicked => &mut self.panicked,
            Ends::TimedOut => &mut self.timed_out,
            Ends::Aborted => &mut self.aborted,
            Ends::Superseded => &mut self.superseded,
        } += 1;
    }

    /// Adds the counters of another shard.
    pub(super) fn add(&mut self, other: &Self) {
        // Destructured, so that a counter that is added to the type cannot be forgotten here.
        let Self {
            leaders,
            followers,
            solos,
            busy,
            busy_too_late,
            reentrant,
            expired,
            takeovers,
            nexts,
            successors,
            landed,
            failed,
            panicked,
            timed_out,
            aborted,
            superseded,
            in_flight_flights: _,
            retries: _,
            in_flight_lingering: _,
            in_flight_waiters: _,
            in_flight_bytes: _,
        } = self;
        *leaders += other.leaders;
        *followers += other.followers;
        *solos += other.solos;
        *busy += other.busy;
        *busy_too_late += other.busy_too_late;
        *reentrant += other.reentrant;
        *expired += other.expired;
        *takeovers += other.takeovers;
        *nexts += other.nexts;
        *successors += other.successors;
        *landed += other.landed;
        *failed += other.failed;
        *panicked += other.panicked;
        *timed_out += other.timed_out;
        *aborted += other.aborted;
        *superseded += other.superseded;
    }
}

impl<K, V, E> Table<K, V, E> {
    /// Adds one to a counter of callers.
    pub(super) fn count(&self, hash: u64, counter: impl FnOnce(&mut FlightStats) -> &mut u64) {
        *counter(&mut self.shard(hash).lock().stats) += 1;
    }

    pub(super) fn stats(&self) -> FlightStats {
        let (mut sum, mut leaders) = (FlightStats::default(), 0);
        for shard in self.shards() {
            let shard = shard.lock();
            leaders += shard.entries.iter().filter(|entry| entry.resting().is_some()).count();
            sum.add(&shard.stats);
            sum.add(&shard.lone.stats());
        }
        sum.in_flight_flights = sum.begun() - sum.ended();
        sum.in_flight_lingering = self.lingering.count() as u64;
        sum.retries = self.retries.as_ref().map_or(0, |retries| retries.count());
        sum.in_flight_waiters = (self.waiters.0.load(Relaxed) + leaders) as u64;
        sum.in_flight_bytes = self.shared.as_ref().map_or(0, |shared| shared.bytes() as u64);
        sum
    }

    pub(super) fn take_key(&self, spare: &mut usize) -> bool {
        if *spare == 0 {
            return Self::take(&self.keys.0, self.config.flights_max);
        }
        *spare -= 1;
        true
    }

    pub(super) fn give_key(&self, spare: &mut usize) {
        if *spare < self.spare_max {
            *spare += 1;
        } else {
            self.keys.0.fetch_sub(1, Relaxed);
        }
    }

    pub(super) fn take(taken: &AtomicUsize, most: usize) -> bool {
        let free = taken.fetch_add(1, Relaxed) < most;
        if !free {
            taken.fetch_sub(1, Relaxed);
        }
        free
    }
}
