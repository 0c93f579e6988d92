//! Who is in flight: a sharded table of keys, each shard behind a short lock.
//!
//! # Invariants
//!
//! 1. Publishing an outcome and removing its flight are one step under the shard lock: nobody joins
//!    a flight that has ended. Flights are removed by id, so an old one never removes a later one.
//! 2. No user code runs under a shard lock but the keys' `Eq`, a borrowed key's `ToOwned`, and
//!    `Clone` where somebody looks at all flights:
//!    wakers are woken, tasks aborted, and keys, values and closures dropped after it is released.
//! 3. Interest is counted under the same lock: nobody joins a flight that is being deserted.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use hashbrown::{DefaultHashBuilder, HashTable};
use tracing::span::Id;

use crate::observe::{Begins, Event, Observer};
use crate::rt::sync::Mutex;
use crate::rt::task::RuntimeId;
use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::clock::Clock;
use crate::singleflight::config::Config;
use crate::singleflight::entry::Entry;
use crate::singleflight::flight::{Desk, Effects, Ids};
use crate::singleflight::launch::{Begin, Bell, Loader, launch};
use crate::singleflight::lineage::{self, Waits};
use crate::singleflight::lingering::Lingering;
use crate::singleflight::pace::Pace;
use crate::singleflight::party::{Cell, Seats, Sitter};
use crate::singleflight::resting::Handed;
use crate::singleflight::retry::Retries;
use crate::singleflight::settle::Due;
use crate::singleflight::shared::Shared;
use crate::singleflight::stats::{FlightStats, Lone};
use crate::singleflight::traffic::{Departed, Seat, Traffic};
use crate::singleflight::watch::Watches;

/// The table of one registry.
pub(super) struct Table<K, V, E> {
    pub(super) config: Config,
    shards: Box<[Shard<K, V, E>]>,
    hasher: DefaultHashBuilder,
    pub(super) clock: Clock,
    /// Keys in flight, and the spare places that shards have put by.
    pub(super) keys: Apart<AtomicUsize>,
    /// How many places a shard may put by: at most 1 in 128 of `flights_max` over all shards.
    pub(super) spare_max: usize,
    pub(super) waiters: Apart<AtomicUsize>,
    pub(super) lingering: Lingering,
    pub(super) watches: Watches,
    pub(super) pace: Option<Pace>,
    pub(super) retries: Option<Arc<Retries<E>>>,
    pub(super) shared: Option<Arc<Shared<V>>>,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

/// What all cores write, apart from what they only read.
///
/// Two cache lines: the prefetcher of x86 fetches them in pairs.
#[repr(align(128))]
pub(super) struct Apart<T>(pub(super) T);

#[repr(align(128))]
struct Shard<K, V, E>(Mutex<Desks<K, V, E>>);

/// In this order, so that what a load needs that nobody shares lies together.
#[repr(C)]
pub(super) struct Desks<K, V, E> {
    pub(super) entries: HashTable<Entry<K, V, E>>,
    /// Places under `flights_max` for the next keys of this shard: most calls need no counter that
    /// all cores share.
    pub(super) spare: usize,
    pub(super) ids: Ids,
    pub(super) lone: Lone,
    pub(super) handed: Handed<V, E>,
    /// The runtimes whose watchers look after loads that rest here.
    pub(super) watched: Vec<RuntimeId>,
    pub(super) stats: FlightStats,
}

/// A caller's place among those who wait: enough to find it again.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeatId {
    pub(super) hash: u64,
    /// The id of the flight that the party came with, or of its wait for one.
    pub(super) party: u64,
    pub(super) seat: usize,
}

/// A leader's, with what it is inside of.
type SeatedLeader<V, E> = (Seated<V, E>, Option<Box<Waits>>);

/// A seat, and the cell to be read once its waker was woken.
pub(super) type Seated<V, E> = (SeatId, Arc<Cell<V, E>>);

/// Apart, so that the way of a call that nobody observes is short.
#[cold]
fn observed(observer: &dyn Observer, event: impl FnOnce() -> Event) {
    observer.event(&event());
}

impl<K, V, E> Table<K, V, E> {
    pub(super) fn new(
        config: Config,
        retries: Option<Arc<Retries<E>>>,
        shared: Option<Arc<Shared<V>>>,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let count = (cores * 8).next_power_of_two().clamp(32, 1024);
        let desks = |index| {
            let ids = Ids { last: index, stride: count as u64 };
            let entries = HashTable::new();
            let (stats, lone) = (FlightStats::default(), Lone::default());
            let (handed, watched) = (Handed::new(), Vec::new());
            Shard(Mutex::new(Desks { entries, spare: 0, ids, lone, handed, watched, stats }))
        };
        Self {
            config,
            clock: Clock::new(&config, observer.is_some()),
            spare_max: config.flights_max / (128 * count),
            shards: (0..count as u64).map(desks).collect(),
            hasher: DefaultHashBuilder::default(),
            keys: Apart(AtomicUsize::new(0)),
            waiters: Apart(AtomicUsize::new(0)),
            lingering: Lingering::default(),
            watches: Watches::default(),
            retries,
            shared,
            pace: config.is_paced().then(Pace::new),
            observer,
        }
    }

    /// What tells this registry from every other that lives.
    pub(super) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    pub(super) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn shard(&self, hash: u64) -> &Mutex<Desks<K, V, E>> {
        // Hashbrown takes the lowest and the highest bits.
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        &self.shards[index].0
    }

    /// All of them, in order.
    pub(super) fn shards(&self) -> impl Iterator<Item = &Mutex<Desks<K, V, E>>> {
        self.shards.iter().map(|shard| &shard.0)
    }

    /// Tells the observer, if there is one.
    #[inline]
    pub(super) fn tell(&self, event: impl FnOnce() -> Event) {
        if let Some(observer) = &self.observer {
            observed(&**observer, event);
        }
    }

    /// The begin of a flight launched now, if loads say themselves when they begin.
    pub(super) fn gate(&self, now: Instant) -> Option<Arc<Gate>> {
        self.config.boarding.then(|| Gate::new(now))
    }

    pub(super) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    pub(super) fn seated(hash: u64, (party, seat, cell): Seat<V, E>) -> Seated<V, E> {
        (SeatId { hash, party, seat }, cell)
    }
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Takes a flight out of a poll of its leader and seats the leader, or tells it where the
    /// answer is already.
    pub(super) fn depart(
        self: &Arc<Self>,
        hash: u64,
        id: u64,
        loader: Option<Loader<V, E>>,
        bell: Option<Bell>,
        sitter: Sitter<'_>,
    ) -> Departed<SeatedLeader<V, E>, V, E> {
        let nested = !lineage::is_empty();
        self.waiters.0.fetch_add(1, Relaxed);
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let departed = self.transition(hash, found, |traffic, desk, fx| {
            let (seat, alarm) = traffic.depart(id, loader, bell, sitter, desk, fx)?;
            let waits = nested.then(|| Box::new(traffic.note_leader(self.address(), seat.0)));
            Ok(((Self::seated(hash, seat), waits), alarm))
        });
        let departed = departed.expect("nobody removes a flight that its leader polls");
        departed.inspect_err(|_answered| {
            self.waiters.0.fetch_sub(1, Relaxed);
        })
    }

    /// Takes a caller that has given up out of its party, and names the span of its load.
    pub(super) fn leave(self: &Arc<Self>, seat: SeatId) -> Option<Id> {
        let found = |entry: &Entry<K, V, E>| entry.has_party(seat.party);
        let left = self.transition(seat.hash, found, |traffic, desk, fx| {
            let waker = traffic.party_mut(seat.party)?.leave(seat.seat);
            let span = traffic.span_of(seat.party);
            traffic.settle(desk, Instant::now(), fx);
            Some((waker, span))
        });
        // Not found: the party was answered in this moment, and its seats were given back with it.
        let (_waker, span) = left.flatten()?;
        self.waiters.0.fetch_sub(1, Relaxed);
        span
    }

    /// Closes the flights of a key to every later call.
    pub(super) fn forget(self: &Arc<Self>, key: &K) {
        let hash = self.hash(key);
        self.transition(hash, |entry| entry.key == *key, Traffic::forget);
    }

    pub(super) fn forget_if(self: &Arc<Self>, key: &K, id: u64) -> bool {
        let found = |entry: &Entry<K, V, E>| entry.key == *key && entry.has_flight(id);
        let close = |traffic: &mut Traffic<V, E>, desk: &mut Desk<'_>, fx: &mut Effects<V, E>| {
            traffic.forget_up_to(id, desk, fx);
        };
        self.transition(self.hash(key), found, close).is_some()
    }

    /// Closes the flights of a key and ends those that have a task.
    pub(super) fn cancel(self: &Arc<Self>, key: &K) {
        let hash = self.hash(key);
        self.transition(hash, |entry| entry.key == *key, Traffic::cancel);
    }

    /// What the task of a flight has to do now that a timer or its bell rang.
    pub(super) fn due(self: &Arc<Self>, hash: u64, id: u64) -> Due {
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let due = self.transition(hash, found, |traffic, desk, fx| traffic.due(id, desk, fx));
        due.unwrap_or(Due::Gone)
    }

    /// As `due`, for a flight of a load of many keys: its successor is handed back, to be launched
    /// with the others'.
    pub(super) fn due_in_group(self: &Arc<Self>, hash: u64, id: u64) -> (Due, Option<Begin<V, E>>) {
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let due = self.transition(hash, found, |traffic, desk, fx| {
            let due = traffic.due(id, desk, fx);
            (due, fx.begin.take_if(|begin| begin.how == Begins::Successor))
        });
        due.unwrap_or((Due::Gone, None))
    }

    /// Changes an entry under its lock, removes it if it is over, and does outside the lock what
    /// follows from that.
    pub(super) fn transition<R>(
        self: &Arc<Self>,
        hash: u64,
        found: impl FnMut(&Entry<K, V, E>) -> bool,
        change: impl FnOnce(&mut Traffic<V, E>, &mut Desk<'_>, &mut Effects<V, E>) -> R,
    ) -> Option<R> {
        let (mut fx, soft_age) = (Effects::default(), self.soft_age(hash));
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, ids, stats, handed, .. } = &mut *shard;
        let mut found = entries.find_entry(hash, found).ok()?;
        let traffic = found.get_mut().traffic(soft_age, self.clock.made, Instant::now);
        fx.over = self.take_over(hash, traffic, handed);
        let observed = self.is_observed();
        let (config, lingering) = (&self.config, &self.lingering);
        let mut desk = Desk { config, stats, ids, hash, soft_age, lingering, observed };
        let changed = change(traffic, &mut desk, &mut fx);
        let over = traffic.is_over().then(|| found.remove().0);
        if over.is_some() {
            self.give_key(spare);
        }
        drop(shard);
        self.carry_out(hash, fx);
        drop(over);
        Some(changed)
    }

    fn carry_out(self: &Arc<Self>, hash: u64, fx: Effects<V, E>) {
        if let Some(over) = fx.over {
            self.hand_over(hash, over);
        }
        let seats = fx.landed.iter().map(Seats::taken).sum();
        self.waiters.0.fetch_sub(seats, Relaxed);
        fx.landed.into_iter().for_each(Seats::wake);
        fx.wakes.into_iter().for_each(Waker::wake);
        if let Some(begin) = fx.begin {
            launch(self, hash, begin);
        }
        for task in fx.aborts {
            task.abort();
        }
        for bell in fx.bells {
            bell.notify_one();
        }
        for (hash, id) in fx.evicted {
            let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
            self.transition(hash, found, |traffic, desk, fx| traffic.evict(id, desk, fx));
        }
        for event in fx.events {
            self.tell(|| event);
        }
    }
}
