//! One key of the table, small as long as nobody but its leader asks for it.

use std::sync::Arc;
use std::time::Duration;

use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::flight::Flight;
use crate::singleflight::lineage;
use crate::singleflight::lone::{Rest, Resting};
use crate::singleflight::traffic::Traffic;

/// A key in flight.
pub(super) struct Entry<K, V, E> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) state: State<V, E>,
}

/// Where a load lies between two polls of its leader.
pub(super) type Bed<V, E> = Option<Resting<V, E>>;

pub(super) enum State<V, E> {
    /// A load that nobody but its leader has asked for: all that a ready load needs.
    Light {
        id: u64,
        /// Not known of a load whose begin nobody has asked for yet.
        began: Option<Instant>,
        /// It began earlier than that, or later.
        vague: bool,
        /// Between two polls of its leader.
        rests: Bed<V, E>,
    },
    Full(Traffic<V, E>),
}

impl<V, E> State<V, E> {
    /// A load in its leader's first poll.
    #[inline]
    pub(super) fn first(
        id: u64,
        began: Option<Instant>,
        soft_age: Duration,
        gate: Option<&Arc<Gate>>,
    ) -> Self {
        match gate {
            None => Self::Light { id, began, vague: began.is_none(), rests: None },
            Some(gate) => {
                let began = began.unwrap_or_else(Instant::now);
                let flight = Flight::inline(id, began, soft_age, Some(Arc::clone(gate)));
                Self::Full(Traffic::new(flight))
            }
        }
    }
}

impl<K, V, E> Entry<K, V, E> {
    /// The flights of this key, with all that goes with being asked for twice.
    pub(super) fn traffic(
        &mut self,
        soft_age: Duration,
        epoch: Instant,
        now: impl FnOnce() -> Instant,
    ) -> &mut Traffic<V, E> {
        if let State::Light { id, began, vague, rests } = &mut self.state {
            let (id, began, vague) = (*id, began.unwrap_or_else(now), *vague);
            let mut flight = Flight::inline(id, began, soft_age, None);
            if vague {
                flight.not_before = epoch;
            }
            flight.rests = rests.take();
            self.state = State::Full(Traffic::new(flight));
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

    /// Whether this flight is all there is, and nobody but its leader has asked for it.
    pub(super) fn is_light(&self, flight: u64) -> bool {
        matches!(self.state, State::Light { id, .. } if id == flight)
    }

    /// Whether its one flight has no caller but the leader.
    pub(super) fn is_unshared(&self) -> bool {
        match &self.state {
            State::Light { .. } => true,
            State::Full(traffic) => traffic.is_unshared(),
        }
    }

    /// The leader of a load that rests here, and when that began, if it was noted.
    pub(super) fn resting(&self) -> Option<(u64, Option<Instant>, &Rest)> {
        match &self.state {
            State::Light { id, began, rests, .. } => Some((*id, *began, rests.as_deref()?.rest()?)),
            State::Full(traffic) => {
                let flight = traffic.flights().find(|flight| flight.rests.is_some())?;
                Some((flight.id, Some(flight.began), flight.rests.as_deref()?.rest()?))
            }
        }
    }

    /// A load whose begin nobody noted began then, as far as its age goes.
    pub(super) fn age_from(&mut self, moment: Instant) {
        if let State::Light { began, .. } = &mut self.state {
            began.get_or_insert(moment);
        }
    }

    /// Where the load of this flight rests between two polls of its leader, and when it began, if
    /// that was noted. `None` if others have asked for the key.
    pub(super) fn bed(&mut self, flight: u64) -> Option<(&mut Bed<V, E>, Option<Instant>)> {
        match &mut self.state {
            State::Light { began, rests, .. } => Some((rests, *began)),
            State::Full(traffic) => {
                let flight = traffic.alone(flight)?;
                Some((&mut flight.rests, Some(flight.began)))
            }
        }
    }

    /// Gives a load back to its leader, if it still rests here.
    pub(super) fn wake(&mut self, flight: u64) -> Option<Resting<V, E>> {
        match &mut self.state {
            State::Light { rests, .. } => rests.take(),
            State::Full(traffic) => traffic.flight_mut(flight)?.rests.take(),
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
