//! Who is in flight: a sharded table of keys, each shard behind a short lock.
//!
//! # Invariants
//!
//! 1. Publishing an outcome and removing its flight are one step under the shard lock: nobody joins
//!    a flight that has ended. Flights are removed by id, so an old one never removes a later one.
//! 2. No user code runs under a shard lock but the keys' `Eq`: wakers are woken, tasks aborted, and
//!    keys, values and closures dropped after it is released.
//! 3. Interest is counted under the same lock: nobody joins a flight that is being deserted.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use hashbrown::hash_table::Entry as Place;
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::rt::sync::Mutex;
use crate::rt::task::AbortHandle;
use crate::rt::time::Instant;
use crate::singleflight::config::{AtLimit, Config, Join};
use crate::singleflight::entry::{Entry, State};
use crate::singleflight::error::FlightError;
use crate::singleflight::flight::{Desk, Effects, Ids};
use crate::singleflight::launch::{Bell, Loader, launch};
use crate::singleflight::lineage;
use crate::singleflight::party::{Cell, Outcome, Seats};
use crate::singleflight::settle::Due;
use crate::singleflight::stats::FlightStats;
use crate::singleflight::traffic::{Choice, Seat, Traffic};

/// The table of one registry.
pub(super) struct Table<K, V, E> {
    pub(super) config: Config,
    shards: Box<[Shard<K, V, E>]>,
    hasher: DefaultHashBuilder,
    /// Keys in flight, and the spare places that shards have put by.
    keys: AtomicUsize,
    /// How many places a shard may put by: at most 1 in 128 of `flights_max` over all shards.
    spare_max: usize,
    waiters: AtomicUsize,
}

// Two cache lines: the prefetcher of x86 fetches them in pairs.
#[repr(align(128))]
struct Shard<K, V, E>(Mutex<Desks<K, V, E>>);

struct Desks<K, V, E> {
    entries: HashTable<Entry<K, V, E>>,
    /// Places under `flights_max` for the next keys of this shard: most calls need no counter that
    /// all cores share.
    spare: usize,
    ids: Ids,
    stats: FlightStats,
}

/// A caller's place among those who wait: enough to find it again.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeatId {
    pub(super) hash: u64,
    /// The id of the flight that the party came with, or of its wait for one.
    pub(super) party: u64,
    seat: usize,
}

/// A seat, and the cell to be read once its waker was woken.
pub(super) type Seated<V, E> = (SeatId, Arc<Cell<V, E>>);

/// What an arriving caller is to do.
pub(super) enum Arrival<K, V, E> {
    Lead(u64),
    Follow(Seated<V, E>),
    Solo(K),
    Refused(FlightError<E>),
}

/// A caller that arrives.
pub(super) struct Caller<'a, K> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) join: Join,
    pub(super) now: Instant,
    pub(super) waker: &'a Waker,
}

impl<K, V, E> Table<K, V, E> {
    pub(super) fn new(config: Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let count = (cores * 4).next_power_of_two().clamp(64, 1024);
        let shard = |index| {
            let ids = Ids { last: index, stride: count as u64 };
            let entries = HashTable::new();
            Shard(Mutex::new(Desks { entries, spare: 0, ids, stats: FlightStats::default() }))
        };
        Self {
            config,
            spare_max: config.flights_max / (128 * count),
            shards: (0..count as u64).map(shard).collect(),
            hasher: DefaultHashBuilder::default(),
            keys: AtomicUsize::new(0),
            waiters: AtomicUsize::new(0),
        }
    }

    /// What tells this registry from every other that lives.
    pub(super) fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }

    pub(super) fn hash(&self, key: &K) -> u64
    where
        K: Hash,
    {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> &Mutex<Desks<K, V, E>> {
        // Hashbrown takes the lowest and the highest bits.
        let index = (hash >> 32) as usize & (self.shards.len() - 1);
        &self.shards[index].0
    }

    /// Adds one to a counter of callers.
    pub(super) fn count(&self, hash: u64, counter: impl FnOnce(&mut FlightStats) -> &mut u64) {
        *counter(&mut self.shard(hash).lock().stats) += 1;
    }

    pub(super) fn stats(&self) -> FlightStats {
        let mut sum = FlightStats::default();
        for shard in &self.shards {
            sum.add(&shard.0.lock().stats);
        }
        sum.in_flight_flights = sum.begun() - sum.ended();
        sum.in_flight_waiters = self.waiters.load(Relaxed) as u64;
        sum
    }

    fn at_limit(&self, stats: &mut FlightStats, key: K) -> Arrival<K, V, E> {
        match self.config.at_limit {
            AtLimit::Solo => {
                stats.solos += 1;
                Arrival::Solo(key)
            }
            AtLimit::Busy => {
                stats.busy += 1;
                Arrival::Refused(FlightError::Busy)
            }
        }
    }

    fn take_key(&self, spare: &mut usize) -> bool {
        if *spare == 0 {
            return Self::take(&self.keys, self.config.flights_max);
        }
        *spare -= 1;
        true
    }

    fn give_key(&self, spare: &mut usize) {
        if *spare < self.spare_max {
            *spare += 1;
        } else {
            self.keys.fetch_sub(1, Relaxed);
        }
    }

    fn take(taken: &AtomicUsize, most: usize) -> bool {
        let free = taken.fetch_add(1, Relaxed) < most;
        if !free {
            taken.fetch_sub(1, Relaxed);
        }
        free
    }

    fn seated(hash: u64, (party, seat, cell): Seat<V, E>) -> Seated<V, E> {
        (SeatId { hash, party, seat }, cell)
    }
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Finds a caller its place. `loader` is asked for only if its load may be begun by others.
    pub(super) fn arrive(
        self: &Arc<Self>,
        caller: Caller<'_, K>,
        loader: impl FnOnce() -> Loader<V, E>,
    ) -> Arrival<K, V, E> {
        let Caller { key, hash, join, now, waker } = caller;
        let nested = !lineage::is_empty();
        let in_solo = nested && lineage::inside_solo(self.address(), &key);
        let mut husk = None;
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, ids, stats } = &mut *shard;
        let arrival = match entries.entry(hash, |entry| entry.key == key, |entry| entry.hash) {
            _ if in_solo => {
                stats.reentrant += 1;
                Arrival::Refused(FlightError::Reentrant)
            }
            Place::Occupied(found) if nested && found.get().inside_own_load(self.address()) => {
                stats.reentrant += 1;
                Arrival::Refused(FlightError::Reentrant)
            }
            Place::Vacant(_) if !self.take_key(spare) => self.at_limit(stats, key),
            Place::Vacant(place) => {
                let id = ids.next();
                stats.leaders += 1;
                place.insert(Entry { key, hash, state: State::Light { id, began: now } });
                Arrival::Lead(id)
            }
            Place::Occupied(mut found) => {
                let traffic = found.get_mut().traffic();
                match traffic.choose(join, &self.config, now) {
                    Choice::Lead => {
                        let id = ids.next();
                        stats.leaders += 1;
                        husk = traffic.lead(id, now);
                        Arrival::Lead(id)
                    }
                    Choice::Busy => {
                        stats.busy += 1;
                        Arrival::Refused(FlightError::Busy)
                    }
                    _ if !Self::take(&self.waiters, self.config.waiters_max) => {
                        self.at_limit(stats, key)
                    }
                    choice => {
                        stats.followers += 1;
                        let seat = match choice {
                            Choice::Wait => traffic.wait(waker, ids, loader),
                            begun => traffic.join(begun, waker),
                        };
                        Arrival::Follow(Self::seated(hash, seat))
                    }
                }
            }
        };
        drop(shard);
        drop(husk);
        arrival
    }

    /// Takes a flight out of its leader's first poll and seats the leader, or tells it where the
    /// answer is already.
    pub(super) fn depart(
        self: &Arc<Self>,
        hash: u64,
        id: u64,
        loader: Loader<V, E>,
        bell: Option<Bell>,
        waker: &Waker,
    ) -> Result<Seated<V, E>, Arc<Cell<V, E>>> {
        self.waiters.fetch_add(1, Relaxed);
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let departed = self.transition(hash, found, |traffic, desk, fx| {
            traffic.depart(id, loader, bell, waker, desk, fx)
        });
        match departed.expect("nobody removes a flight in its first poll") {
            Ok(seat) => Ok(Self::seated(hash, seat)),
            Err(cell) => {
                self.waiters.fetch_sub(1, Relaxed);
                Err(cell)
            }
        }
    }

    /// Hands the entry the task of its flight, or the task back if the flight is gone.
    pub(super) fn own(&self, hash: u64, id: u64, task: AbortHandle) -> Result<(), AbortHandle> {
        match self.shard(hash).lock().entries.find_mut(hash, |entry| entry.has_flight(id)) {
            Some(entry) => entry.traffic().own(id, task),
            None => Err(task),
        }
    }

    /// Publishes the outcome of a flight and removes it. The outcome comes back if nobody took it.
    pub(super) fn land(
        self: &Arc<Self>,
        hash: u64,
        id: u64,
        outcome: Outcome<V, E>,
    ) -> Result<Arc<Cell<V, E>>, Outcome<V, E>> {
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, stats, .. } = &mut *shard;
        let light =
            |entry: &Entry<K, V, E>| matches!(entry.state, State::Light { id: it, .. } if it == id);
        if let Ok(found) = entries.find_entry(hash, light) {
            let (entry, _) = found.remove();
            stats.tally(&outcome);
            self.give_key(spare);
            drop(shard);
            drop(entry);
            return Err(outcome);
        }
        drop(shard);
        let mut untaken = Some(outcome);
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let landed = self.transition(hash, found, |traffic, desk, fx| {
            let outcome = untaken.take()?;
            desk.stats.tally(&outcome);
            match traffic.land(id, outcome, desk, fx) {
                Ok(cell) => Some(cell),
                Err(outcome) => {
                    untaken = Some(outcome);
                    None
                }
            }
        });
        landed.flatten().ok_or_else(|| untaken.expect("it was not taken"))
    }

    /// Takes a caller that has given up out of its party.
    pub(super) fn leave(self: &Arc<Self>, seat: SeatId) {
        let found = |entry: &Entry<K, V, E>| entry.has_party(seat.party);
        let waker = self.transition(seat.hash, found, |traffic, desk, fx| {
            let waker = traffic.party_mut(seat.party)?.leave(seat.seat);
            traffic.settle(desk, Instant::now(), fx);
            Some(waker)
        });
        // Not found: the party was answered in this moment, and its seats were given back with it.
        if waker.is_some() {
            self.waiters.fetch_sub(1, Relaxed);
        }
    }

    /// Has a seat wake another waker. Not found: the cell is set.
    pub(super) fn rewake(&self, seat: SeatId, waker: &Waker) {
        let mut shard = self.shard(seat.hash).lock();
        let found = shard.entries.find_mut(seat.hash, |entry| entry.has_party(seat.party));
        let party = found.and_then(|entry| entry.traffic().party_mut(seat.party));
        let old = party.and_then(|party| party.rewake(seat.seat, waker));
        drop(shard);
        drop(old);
    }

    /// Closes the flights of a key to every later call.
    pub(super) fn forget(self: &Arc<Self>, key: &K) {
        let hash = self.hash(key);
        self.transition(hash, |entry| entry.key == *key, Traffic::forget);
    }

    /// What the task of a flight has to do now that a timer or its bell rang.
    pub(super) fn due(self: &Arc<Self>, hash: u64, id: u64) -> Due {
        let found = |entry: &Entry<K, V, E>| entry.has_flight(id);
        let due = self.transition(hash, found, |traffic, desk, fx| traffic.due(id, desk, fx));
        due.unwrap_or(Due::Gone)
    }

    /// Changes an entry under its lock, removes it if it is over, and does outside the lock what
    /// follows from that.
    fn transition<R>(
        self: &Arc<Self>,
        hash: u64,
        found: impl FnMut(&Entry<K, V, E>) -> bool,
        change: impl FnOnce(&mut Traffic<V, E>, &mut Desk<'_>, &mut Effects<V, E>) -> R,
    ) -> Option<R> {
        let mut fx = Effects::default();
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, ids, stats } = &mut *shard;
        let mut found = entries.find_entry(hash, found).ok()?;
        let traffic = found.get_mut().traffic();
        let changed = change(traffic, &mut Desk { config: &self.config, stats, ids }, &mut fx);
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
        let seats = fx.landed.iter().map(Seats::taken).sum();
        self.waiters.fetch_sub(seats, Relaxed);
        fx.landed.into_iter().for_each(Seats::wake);
        if let Some(begin) = fx.begin {
            launch(self, hash, begin);
        }
        for task in fx.aborts {
            task.abort();
        }
        for bell in fx.bells {
            bell.notify_one();
        }
    }
}
