//! Flights that nobody drives any more: those who wait for them go on by themselves.
//!
//! A load is lost with the runtime of its task, or with the caller that drives it
//! ([`run_local`](super::SingleFlight::run_local)). Its callers are *orphans* then: all of them are
//! woken, and the first that is polled has the load begun again, in its own runtime, or leads with
//! a load of its own. Nobody is appointed, so one that is parked or gone keeps nobody waiting.
//!
//! A flight that its leader drives has no task, so its followers *watch* it: they look when it
//! grows old and when it is spent.

use std::hash::Hash;
use std::mem;
use std::sync::Arc;
use std::task::Waker;

use tracing::span::Id;

use crate::observe::Ends;
use crate::rt::task::Handle;
use crate::rt::time::Instant;
use crate::singleflight::config::Config;
use crate::singleflight::entry::Entry;
use crate::singleflight::error::FlightError;
use crate::singleflight::flight::{Desk, Effects, Flight, Waiting};
use crate::singleflight::launch::Loader;
use crate::singleflight::party::Party;
use crate::singleflight::table::{Desks, SeatId, Table};
use crate::singleflight::traffic::Traffic;

/// How often a load is begun again that was lost with a runtime.
const LOSSES_MAX: u32 = 3;

/// What a caller is to do that waits and has no outcome yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    /// Wait, and look again at that moment.
    Wait(Option<Instant>),
    /// Give up its seat and arrive anew: its own load is needed.
    Arrive,
    /// Nothing will come.
    Aborted,
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Ends a flight whose driver is gone: its callers become orphans.
    pub(super) fn lose(self: &Arc<Self>, hash: u64, id: u64, span: Option<Id>) {
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        self.transition(hash, found, |traffic, desk, fx| traffic.lose(id, span, desk, fx));
    }

    /// Has a seat wake another waker, and says what its caller is to do. If it `takes` a load that
    /// rests with its leader, that is given a task.
    pub(super) fn rewake(self: &Arc<Self>, seat: SeatId, waker: &Waker, takes: bool) -> Turn {
        let mut shard = self.shard(seat.hash).lock();
        let Desks { entries, handed, .. } = &mut *shard;
        let found = entries.find_mut(seat.hash, |entry| entry.has_party(seat.party));
        // Not found: the cell is set.
        let Some(traffic) = found.and_then(Entry::full) else { return Turn::Wait(None) };
        let party = traffic.party_mut(seat.party);
        let old = party.and_then(|party| party.rewake(seat.seat, waker));
        let (orphaned, watch) = (traffic.is_orphan(seat.party), traffic.watch(&self.config, None));
        let over = if takes { self.take_over(seat.hash, traffic, handed) } else { None };
        drop(shard);
        drop(old);
        if let Some(over) = over {
            self.hand_over(seat.hash, over);
        }
        if orphaned { self.adopt(seat) } else { Turn::Wait(watch) }
    }

    fn adopt(self: &Arc<Self>, seat: SeatId) -> Turn {
        let handle = Handle::try_current().ok();
        let found = |entry: &Entry<K, V, E>| entry.has_party(seat.party);
        let turn = self.transition(seat.hash, found, |traffic, desk, fx| {
            traffic.adopt(seat.party, handle, desk, fx)
        });
        turn.unwrap_or(Turn::Wait(None))
    }

    /// Looks after flights without a task, for a caller whose watch has rung.
    pub(super) fn look(self: &Arc<Self>, seat: SeatId) -> Turn {
        let found = |entry: &Entry<K, V, E>| entry.has_party(seat.party);
        let turn = self
            .transition(seat.hash, found, |traffic, desk, fx| traffic.look(seat.party, desk, fx));
        turn.unwrap_or(Turn::Wait(None))
    }
}

impl<V, E> Traffic<V, E> {
    fn lose(&mut self, id: u64, span: Option<Id>, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) {
        let flight = self.flight(id).expect("the caller has found the flight");
        let now = Instant::now();
        let again = flight.losses < LOSSES_MAX && (flight.local || flight.loader.is_some());
        if !again || flight.party.answered() || flight.interest(now) == 0 {
            // Nothing of the user's is in it.
            drop(self.land(id, Err(FlightError::Aborted), (span, None), desk, fx));
            return;
        }
        let slots = [&mut self.running, &mut self.next];
        let slot = slots.into_iter().find(|it| it.as_ref().is_some_and(|it| it.id == id));
        let mut flight = slot.and_then(Option::take).expect("found above");
        desk.ended(&flight, Ends::Aborted, 0, fx);
        if let Some(next) = &mut self.next {
            // It began later, so it is late enough for all.
            next.inherit(&mut flight, fx);
        } else {
            let new = || Box::new(Waiting::new(Party::new(desk.ids.next()), None));
            self.waiting.get_or_insert_with(new).inherit(&mut flight, fx);
        }
        fx.rubbish.push(*flight);
        self.settle(desk, now, fx);
    }

    fn is_orphan(&self, party: u64) -> bool {
        let waiting = self.waiting.as_ref().filter(|waiting| waiting.orphaned);
        waiting.is_some_and(|waiting| waiting.parties().any(|its| its.id == party))
    }

    /// The load of orphans is begun again in this runtime, if one of them has left it.
    fn adopt(
        &mut self,
        party: u64,
        handle: Option<Handle>,
        desk: &mut Desk<'_>,
        fx: &mut Effects<V, E>,
    ) -> Turn {
        let orphan = self.is_orphan(party);
        let Some(waiting) = self.waiting.as_mut().filter(|_| orphan) else {
            return Turn::Wait(self.watch(desk.config, None));
        };
        let Some(loader) = &mut waiting.loader else { return Turn::Arrive };
        // A caller outside of every runtime can begin nothing; another may.
        let Some(handle) = handle else { return Turn::Aborted };
        (loader.handle, waiting.orphaned) = (Some(handle), false);
        self.settle(desk, Instant::now(), fx);
        Turn::Wait(None)
    }

    fn look(&mut self, party: u64, desk: &mut Desk<'_>, fx: &mut Effects<V, E>) -> Turn {
        let now = Instant::now();
        self.settle(desk, now, fx);
        let spent = self.flights().filter(|it| it.local && it.is_spent(desk.config, now));
        for id in spent.map(|flight| flight.id).collect::<Vec<_>>() {
            // The end of the other may have been its end too.
            if self.flight(id).is_some() {
                drop(self.land(id, Err(FlightError::TimedOut), (None, None), desk, fx));
            }
        }
        let behind = |flight: &Flight<V, E>| {
            flight.local && flight.late(now) && flight.parties().any(|its| its.id == party)
        };
        if self.next.is_none() && self.running.as_deref().is_some_and(behind) {
            return Turn::Arrive;
        }
        Turn::Wait(self.watch(desk.config, Some(now)))
    }

    /// When a caller must look after flights without a task, if there are any.
    pub(super) fn watch(&self, config: &Config, seen: Option<Instant>) -> Option<Instant> {
        let local = self.flights().filter(|flight| flight.local);
        local.filter_map(|flight| flight.watch(config, seen)).min()
    }
}

impl<V, E> Flight<V, E> {
    /// Whoever still waits in its parties, in that order.
    fn leave_parties(&mut self) -> impl Iterator<Item = Party<V, E>> {
        let party = mem::replace(&mut self.party, Party::new(self.id));
        let parties = std::iter::once(party).chain(mem::take(&mut self.inherited));
        parties.filter(|party| party.taken() > 0)
    }

    /// Takes over the callers of an earlier flight that has ended without an answer for them.
    pub(super) fn inherit(&mut self, earlier: &mut Self, fx: &mut Effects<V, E>) {
        for party in earlier.leave_parties() {
            if self.local {
                fx.wakes.extend(party.wakers());
            }
            self.inherited.push(party);
        }
        if self.local && self.loader.is_none() {
            self.loader = earlier.loader.take().map(Loader::anywhere);
        }
    }

    /// When its callers look after it, who have no task that does.
    fn watch(&self, config: &Config, seen: Option<Instant>) -> Option<Instant> {
        let ages = [self.soft_age, config.flight_max];
        let moments = ages.into_iter().filter_map(|age| self.began.checked_add(age));
        moments.filter(|moment| seen.is_none_or(|seen| *moment > seen)).min()
    }
}

impl<V, E> Waiting<V, E> {
    pub(super) fn new(party: Party<V, E>, loader: Option<Loader<V, E>>) -> Self {
        Self { party, inherited: Vec::new(), loader, orphaned: false, losses: 0 }
    }

    pub(super) fn parties(&self) -> impl Iterator<Item = &Party<V, E>> {
        std::iter::once(&self.party).chain(&self.inherited)
    }

    pub(super) fn parties_mut(&mut self) -> impl Iterator<Item = &mut Party<V, E>> {
        std::iter::once(&mut self.party).chain(&mut self.inherited)
    }

    pub(super) fn wanted(&self, now: Instant) -> usize {
        self.parties().map(|party| party.wanted(now)).sum()
    }

    /// Takes in the callers of a flight that was lost.
    fn inherit(&mut self, lost: &mut Flight<V, E>, fx: &mut Effects<V, E>) {
        self.inherited.extend(lost.leave_parties());
        if self.loader.is_none() {
            (self.loader, self.orphaned) = (lost.loader.take(), true);
            self.losses = lost.losses + 1;
            fx.wakes.extend(self.wakers());
        }
    }

    /// Whether their load can be begun for them. If not, they are orphans from now on, and know.
    pub(super) fn is_ready(&mut self, fx: &mut Effects<V, E>) -> bool {
        if self.loader.is_none() && !mem::replace(&mut self.orphaned, true) {
            fx.wakes.extend(self.wakers());
        }
        !self.orphaned
    }

    pub(super) fn wakers(&self) -> Vec<Waker> {
        self.parties().flat_map(Party::wakers).collect()
    }
}
