//! The most common meeting: a caller finds one flight of its key and shares it.
//!
//! Everything else (successors, those who wait for the next one, circles, flights without a task)
//! is [`Traffic`]'s and goes the long way of [`arrivals`](super::arrivals).

use std::hash::Hash;
use std::sync::Arc;
use std::task::Waker;

use crate::rt::time::Instant;
use crate::singleflight::arrivals::{Arrival, Met};
use crate::singleflight::config::Join;
use crate::singleflight::entry::{Entry, State};
use crate::singleflight::flight::Flight;
use crate::singleflight::party::Sitter;
use crate::singleflight::stats::FlightStats;
use crate::singleflight::table::{SeatId, Table};
use crate::singleflight::traffic::Traffic;

impl<V, E> Traffic<V, E> {
    /// The one flight of its key, if that is all there is and a caller who comes now may share it.
    #[inline]
    pub(super) fn open_to_all(&mut self, join: Join, now: Instant) -> Option<&mut Flight<V, E>> {
        let (fence, alone) = (self.fence, self.next.is_none() && self.waiting.is_none());
        self.running.as_deref_mut().filter(|it| {
            let driven = !it.local && it.idle_since.is_none() && it.inherited.is_empty();
            alone && driven && it.id >= fence && !it.late(now) && it.suits(join)
        })
    }

    /// Whether there is one flight, which needs none of its callers, and this is its party.
    fn is_all_for(&self, party: u64) -> bool {
        let alone = self.next.is_none() && self.waiting.is_none();
        alone
            && self
                .running
                .as_deref()
                .is_some_and(|it| !it.local && it.party.id == party && !it.party.answered())
    }
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Seats a caller with a flight that is open to all. `None` when too many wait already, or too
    /// much.
    #[inline]
    pub(super) fn share(
        &self,
        flight: &mut Flight<V, E>,
        (hash, now): (u64, Instant),
        sitter: Sitter<'_>,
        stats: &mut FlightStats,
    ) -> Option<Arrival<K, V, E>> {
        // A leader that its load rests with waits too.
        let rests = flight.rests.is_some();
        let waiters_max = self.config.waiters_max - usize::from(rests);
        if self.is_full() || !Self::take(&self.waiters.0, waiters_max) {
            return None;
        }
        stats.followers += 1;
        let party = &mut flight.party;
        let first = party.taken() == 0;
        let seat = SeatId { hash, party: party.id, seat: party.sit(sitter) };
        let seated = (seat, Arc::clone(&party.cell));
        let fan_out = usize::from(flight.inline) + flight.party.taken();
        // One of them sees to a load that rests: it takes it soon, and so does its leaving.
        let rests = rests && first;
        let met = Met { began: flight.begun(), fan_out, rests, watch: None };
        Some(Arrival::Follow(now, seated, met, None))
    }

    /// Has a seat wake another waker, if there is nothing else to be done for its flight.
    pub(super) fn stays(&self, seat: SeatId, waker: &Waker) -> bool {
        let all = |entry: &Entry<K, V, E>| match &entry.state {
            State::Full(traffic) => traffic.is_all_for(seat.party),
            State::Light { .. } => false,
        };
        let mut shard = self.shard(seat.hash).lock();
        let found = shard.entries.find_mut(seat.hash, all).and_then(Entry::full);
        let flight = found.and_then(|traffic| traffic.running.as_deref_mut());
        let old = flight.map(|flight| flight.party.rewake(seat.seat, waker));
        drop(shard);
        old.is_some()
    }
}
