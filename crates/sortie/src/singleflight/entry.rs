//! One key of the table, small as long as nobody else asks for it.

use std::sync::Arc;
use std::time::Duration;

use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::flight::Flight;
use crate::singleflight::lineage;
use crate::singleflight::traffic::Traffic;

/// A key in flight.
pub(super) struct Entry<K, V, E> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) state: State<V, E>,
}

pub(super) enum State<V, E> {
    /// A load in its leader's first poll that nobody has asked for since: all that a ready load
    /// needs.
    Light {
        id: u64,
        began: Instant,
    },
    Full(Box<Traffic<V, E>>),
}

impl<V, E> State<V, E> {
    /// A load in its leader's first poll.
    #[inline]
    pub(super) fn first(
        id: u64,
        began: Instant,
        soft_age: Duration,
        gate: Option<&Arc<Gate>>,
    ) -> Self {
        match gate {
            None => Self::Light { id, began },
            Some(gate) => {
                let flight = Flight::inline(id, began, soft_age, Some(Arc::clone(gate)));
                Self::Full(Box::new(Traffic::new(flight)))
            }
        }
    }
}

impl<K, V, E> Entry<K, V, E> {
    /// The flights of this key, with all that goes with being asked for twice.
    pub(super) fn traffic(&mut self, soft_age: Duration) -> &mut Traffic<V, E> {
        if let State::Light { id, began } = self.state {
            self.state =
                State::Full(Box::new(Traffic::new(Flight::inline(id, began, soft_age, None))));
        }
        self.full().expect("made full above")
    }

    /// As `traffic`, of a key that was asked for twice or whose load was not ready.
    pub(super) fn full(&mut self) -> Option<&mut Traffic<V, E>> {
        match &mut self.state {
            State::Full(traffic) => Some(traffic),
            State::Light { .. } => None,
        }
    }

    pub(super) fn has_flight(&self, flight: u64) -> bool {
        match &self.state {
            State::Light { id, .. } => *id == flight,
            State::Full(traffic) => traffic.flight(flight).is_some(),
        }
    }

    pub(super) fn has_party(&self, party: u64) -> bool {
        matches!(&self.state, State::Full(traffic) if traffic.has_party(party))
    }

    pub(super) fn inside_own_load(&self, registry: usize) -> bool {
        match &self.state {
            State::Light { id, .. } => lineage::inside_flight(registry, *id),
            State::Full(traffic) => {
                traffic.flights().any(|flight| lineage::inside_flight(registry, flight.id))
            }
        }
    }
}
