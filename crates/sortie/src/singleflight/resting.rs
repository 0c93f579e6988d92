//! A load that nobody but its leader has asked for.
//!
//! It costs no task: it *rests* in the table between two polls of its leader. Whoever else comes
//! for its key takes it from there and gives it a task of its own, so a leader that is parked keeps
//! nobody waiting. If the leader is just polling it, there is nothing to be taken; the leader finds
//! the newcomer after its poll and gives up the load itself. Should nobody come, it is handed over
//! after a short while all the same ([`watch`](super::watch)).
//!
//! # Invariants
//!
//! 1. A load is in one place: with its leader, who polls it, or in its entry, or with its task.
//! 2. Whoever takes a load out of its entry seats the leader in the same step, and leaves word of
//!    that seat (`handed`) until the leader comes for it or is dropped.

use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use hashbrown::HashMap;
use tracing::Span;

use crate::observe::{Ends, Event};
use crate::rt::task::RuntimeId;
use crate::rt::time::Instant;
use crate::singleflight::SingleFlight;
use crate::singleflight::call::{Landed, Role};
use crate::singleflight::config::Idle;
use crate::singleflight::contained::Contained;
use crate::singleflight::entry::Entry;
use crate::singleflight::error::FlightError;
use crate::singleflight::flight::Flight;
use crate::singleflight::flying::Stage;
use crate::singleflight::launch::{self, Airborne, Bell, Loader, Loading};
use crate::singleflight::lineage::{self, Frame};
use crate::singleflight::lone::{Rest, Resting};
use crate::singleflight::party::Outcome;
use crate::singleflight::seat::Seat;
use crate::singleflight::table::{Desks, SeatId, Seated, Table};
use crate::singleflight::takeoff::Takeoff;
use crate::singleflight::traffic::Traffic;

/// Polls a load inside its lineage; its panic is an outcome.
fn poll<V, E>(
    resting: &mut Resting<V, E>,
    (registry, flight): (usize, u64),
    task: &mut Context<'_>,
) -> Poll<Outcome<V, E>> {
    let work = AssertUnwindSafe(|| resting.as_mut().poll(task));
    match lineage::within(registry, flight, || catch_unwind(work)) {
        Ok(polled) => polled,
        Err(payload) => Poll::Ready(Err(FlightError::panicked(&*payload))),
    }
}

impl<V, E> Traffic<V, E> {
    pub(super) fn flights_mut(&mut self) -> impl Iterator<Item = &mut Flight<V, E>> {
        self.running.iter_mut().chain(&mut self.next).map(|flight| &mut **flight)
    }

    /// The flight whose load rests with its leader.
    pub(super) fn resting_mut(&mut self) -> Option<&mut Flight<V, E>> {
        self.flights_mut().find(|flight| flight.rests.is_some())
    }

    /// The flight with this id, if it is all there is and nobody but its leader waits for it.
    pub(super) fn alone(&mut self, id: u64) -> Option<&mut Flight<V, E>> {
        let alone = self.is_unshared() && id >= self.fence;
        self.running.as_deref_mut().filter(|it| alone && it.id == id)
    }

    /// Whether there is one flight, and nobody but its leader waits.
    pub(super) fn is_unshared(&self) -> bool {
        let alone = self.next.is_none() && self.waiting.is_none();
        alone && self.running.as_deref().is_some_and(Flight::is_unshared)
    }
}

/// The seats of leaders whose loads were taken from them and who have not been polled since, by
/// flight. As many as such callers live, for each takes its own away when it is dropped.
pub(super) type Handed<V, E> = HashMap<u64, Seated<V, E>>;

/// A load on its way from its leader to a task.
pub(super) struct HandOver<V, E> {
    pub(super) id: u64,
    pub(super) loading: Loading<V, E>,
    pub(super) span: Option<Span>,
    pub(super) loader: Loader<V, E>,
    pub(super) bell: Option<Bell>,
    pub(super) alarm: Option<Instant>,
}

/// Where a leader finds itself when it comes back to its flight.
enum Found<V, E> {
    Load(Resting<V, E>),
    Seat(Seated<V, E>),
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Lays a load down in its entry. It comes back if others have asked for the key meanwhile.
    pub(super) fn rest(
        self: &Arc<Self>,
        hash: u64,
        id: u64,
        runtime: RuntimeId,
        resting: Resting<V, E>,
    ) -> Result<(), Resting<V, E>> {
        let mut shard = self.shard(hash).lock();
        let Desks { entries, watched, .. } = &mut *shard;
        let found = entries.find_mut(hash, |entry| entry.has_flight(id));
        let Some((bed, began)) = found.and_then(|entry| entry.bed(id)) else { return Err(resting) };
        let resting = bed.insert(resting);
        // Models have no timers.
        if cfg!(sortie_shuttle) || watched.contains(&runtime) {
            return Ok(());
        }
        let handle = resting.rest().expect("its leader has said where").handle.clone();
        watched.push(runtime);
        drop(shard);
        self.watch(&handle, began);
        Ok(())
    }

    fn find(&self, hash: u64, id: u64) -> Found<V, E> {
        let mut shard = self.shard(hash).lock();
        let Desks { entries, handed, .. } = &mut *shard;
        let found = entries.find_mut(hash, |entry| entry.has_flight(id));
        if let Some(resting) = found.and_then(|entry| entry.wake(id)) {
            return Found::Load(resting);
        }
        Found::Seat(handed.remove(&id).expect("a load that was taken left its leader a seat"))
    }

    /// A leader is gone. The seat is what it may still have in its flight.
    fn desert(self: &Arc<Self>, hash: u64, id: u64, began: Instant) -> Option<Seated<V, E>> {
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, stats, handed, .. } = &mut *shard;
        if let Some(seated) = handed.remove(&id) {
            return Some(seated);
        }
        let found = entries.find_entry(hash, |entry| entry.has_flight(id)).ok()?;
        let rests = found.get().resting().is_some_and(|(flight, _, _)| flight == id);
        let unshared = found.get().is_unshared();
        if rests && (!unshared || self.config.idle != Idle::Abort) {
            drop(shard);
            // It goes on without its leader.
            self.part(hash, id);
            return self.shard(hash).lock().handed.remove(&id);
        }
        if !unshared {
            return None;
        }
        // Without its load, the leader was unwound while it had it.
        let (entry, _) = found.remove();
        stats.count(Ends::Aborted);
        self.give_key(spare);
        drop(shard);
        self.tell(|| Event::ended(id, Ends::Aborted, began, 0));
        let span = entry.resting().and_then(|(_, _, rest)| rest.span_id());
        self.tell(|| Event::Left { role: Role::Leader, waited: began.elapsed(), span });
        None
    }

    /// Takes a load from its leader, if it still rests with it.
    pub(super) fn part(self: &Arc<Self>, hash: u64, id: u64) {
        let rests =
            |entry: &Entry<K, V, E>| entry.resting().is_some_and(|(flight, _, _)| flight == id);
        self.transition(hash, rests, |_, _, _| ());
    }

    /// Gives a load that was taken from its leader its task.
    pub(super) fn hand_over(self: &Arc<Self>, hash: u64, over: HandOver<V, E>) {
        let HandOver { id, loading, span, loader, bell, alarm } = over;
        let span = span.unwrap_or_else(Span::none);
        let airborne = Airborne::new(self, hash, id, &span);
        let mut frames = loader.ancestors;
        frames.push(Frame::flight(self.address(), id));
        let load = Contained::running(loading, frames, span);
        if let Some(handle) = loader.handle {
            launch::depart(airborne, load, alarm, bell, &handle);
        }
    }

    /// Takes the load of a key from its leader, if it rests with it, and counts the leader among
    /// those who wait. To be called under the lock of the key's shard.
    pub(super) fn take_over(
        &self,
        hash: u64,
        traffic: &mut Traffic<V, E>,
        handed: &mut Handed<V, E>,
    ) -> Option<HandOver<V, E>> {
        let flight = traffic.resting_mut()?;
        let mut loading = flight.rests.take()?;
        let load = loading.as_mut().load();
        let rest = loading.as_mut().rest_mut().take();
        let Rest { handle, span, waker, until } = rest.expect("its leader has left it here");
        // A load that was called from inside of another does not rest.
        let loader = Loader { load, ancestors: Vec::new(), handle: Some(handle) };
        let (id, seat) = (flight.id, flight.party.take_in(waker, until));
        let seat = SeatId { hash, party: flight.party.id, seat };
        handed.insert(id, (seat, Arc::clone(&flight.party.cell)));
        flight.inline = false;
        flight.loader = Some(loader.clone());
        flight.bell = launch::bell(&self.config);
        let (bell, alarm) = (flight.bell.clone(), flight.alarm(&self.config, flight.began));
        self.waiters.0.fetch_add(1, Relaxed);
        let span = span.map(|span| *span);
        Some(HandOver { id, loading, span, loader, bell, alarm })
    }
}

/// A leader that polls its own load.
pub(super) struct Lead<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    flights: &'a SingleFlight<K, V, E>,
    hash: u64,
    id: u64,
    began: Instant,
    over: bool,
}

/// What a leader comes to.
pub(super) enum Led<'a, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    Landed(Outcome<Landed<V>, E>),
    /// Its load has a task: it waits like everybody else.
    Seated(Seat<'a, K, V, E>),
}

impl<'a, K, V, E> Led<'a, K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Of a leader in its first poll.
    #[cold]
    pub(super) fn takeoff(self, stage: &mut Stage<'a, K, V, E>) -> Takeoff<K, V, E> {
        match self {
            Self::Landed(landed) => return Takeoff::Landed(landed),
            Self::Seated(seat) => stage.set(Stage::Waits(seat)),
        }
        Takeoff::Flies
    }
}

impl<'a, K, V, E> Lead<'a, K, V, E>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Of a load that lies in its entry.
    #[inline]
    pub(super) fn new(
        flights: &'a SingleFlight<K, V, E>,
        hash: u64,
        (id, began): (u64, Instant),
    ) -> Self {
        Self { flights, hash, id, began, over: false }
    }

    /// Polls the load, if it is still this caller's to be polled.
    pub(super) fn poll(&mut self, task: &mut Context<'_>) -> Poll<Led<'a, K, V, E>> {
        let Self { flights, hash, id, began, .. } = *self;
        let mut resting = match flights.table.find(hash, id) {
            Found::Load(resting) => resting,
            Found::Seat(seated) => {
                self.over = true;
                let seat = Seat::new(&flights.table, seated, Role::Leader, began).polled();
                return Poll::Ready(Led::Seated(seat));
            }
        };
        if let Poll::Ready(outcome) = poll(&mut resting, (flights.table.address(), id), task) {
            self.over = true;
            let span = resting.rest().and_then(Rest::span_id);
            let landed = flights.landed(hash, id, outcome, began, span);
            return Poll::Ready(Led::Landed(landed));
        }
        let rest = resting.as_mut().rest_mut().as_mut().expect("its leader has left it here");
        // Which copies it only if it is another.
        rest.waker.clone_from(task.waker());
        let runtime = rest.handle.id();
        match flights.table.rest(hash, id, runtime, resting) {
            Ok(()) => Poll::Pending,
            Err(resting) => {
                self.over = true;
                Poll::Ready(flights.part(hash, (id, began), resting, task))
            }
        }
    }
}

impl<K, V, E> Drop for Lead<'_, K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let table = &self.flights.table;
        if let Some((seat, cell)) = table.desert(self.hash, self.id, self.began) {
            drop(Seat::new(table, (seat, cell), Role::Leader, self.began));
        }
    }
}
