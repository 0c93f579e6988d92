//! One key of the table, small as long as nobody but its leader asks for it.

use std::sync::Arc;
use std::time::Duration;

use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::config::Config;
use crate::singleflight::flight::Flight;
use crate::singleflight::resting::{HandOver, Handed, Resting};
use crate::singleflight::table::SeatId;
use crate::singleflight::traffic::Traffic;
use crate::singleflight::{launch, lineage};

/// A key in flight.
pub(super) struct Entry<K, V, E> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) state: State<V, E>,
}

pub(super) enum State<V, E> {
    /// A load that nobody but its leader has asked for: all that a ready load needs.
    Light {
        id: u64,
        /// Not known within the first poll of a load whose begin nobody asked for.
        began: Option<Instant>,
        /// It began earlier than that.
        vague: bool,
        /// Between two polls of its leader.
        rests: Option<Box<Resting<V, E>>>,
    },
    Full(Box<Traffic<V, E>>),
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
                Self::Full(Box::new(Traffic::new(flight)))
            }
        }
    }
}

impl<K, V, E> Entry<K, V, E> {
    /// The flights of this key, with all that goes with being asked for twice. A load that rests
    /// with its leader needs a task from now on, and its leader is seated.
    pub(super) fn traffic(
        &mut self,
        soft_age: Duration,
        (config, epoch): (&Config, Instant),
        handed: &mut Handed<V, E>,
    ) -> (&mut Traffic<V, E>, Option<HandOver<V, E>>) {
        let mut over = None;
        if let State::Light { id, began, vague, rests } = &mut self.state {
            let (id, began, vague) = (*id, began.unwrap_or_else(Instant::now), *vague);
            let mut flight = Flight::inline(id, began, soft_age, None);
            if vague {
                flight.not_before = epoch;
            }
            if let Some(resting) = rests.take() {
                let Resting { loading, loader, span, waker, until, .. } = *resting;
                let seat = flight.party.take_in(waker, until);
                let seat = SeatId { hash: self.hash, party: id, seat };
                handed.insert(id, (seat, Arc::clone(&flight.party.cell)));
                flight.inline = false;
                flight.loader = Some(loader.clone());
                flight.bell = launch::bell(config);
                let (bell, alarm) = (flight.bell.clone(), flight.alarm(config, began));
                over = Some(HandOver { id, loading, span, loader, bell, alarm });
            }
            self.state = State::Full(Box::new(Traffic::new(flight)));
        }
        (self.full().expect("made full above"), over)
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

    /// Whether a load rests here with its leader.
    pub(super) fn rests(&self) -> bool {
        matches!(self.state, State::Light { rests: Some(_), .. })
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
