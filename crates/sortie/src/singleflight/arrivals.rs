//! A caller that arrives: leads, follows, runs alone, or is refused.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use hashbrown::hash_table::Entry as Place;

use crate::observe::Limit;
use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::config::{AtLimit, Join};
use crate::singleflight::entry::{Entry, State};
use crate::singleflight::error::FlightError;
use crate::singleflight::flight::{Ids, Waiting};
use crate::singleflight::launch::Loader;
use crate::singleflight::lineage::{self, Waits};
use crate::singleflight::party::Sitter;
use crate::singleflight::sought::Sought;
use crate::singleflight::stats::FlightStats;
use crate::singleflight::table::{Desks, Seated, Table};
use crate::singleflight::traffic::{Choice, Traffic};

/// What an arriving caller is to do.
pub(super) enum Arrival<K, V, E> {
    Lead(u64),
    /// With the moment at which it arrived.
    Follow(Instant, Seated<V, E>, Met, Option<Box<Waits>>),
    Solo(K, Limit),
    Refused(FlightError<E>, Limit),
}

/// What a follower found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    /// When the load it shares began, if it has.
    pub(super) began: Option<Instant>,
    /// Who waits with it now, itself among them.
    pub(super) fan_out: usize,
    /// A load that it waits for rests with its leader, and it is this caller who sees to that.
    pub(super) rests: bool,
    /// When it must look after what it waits for, if no task does.
    pub(super) watch: Option<Instant>,
}

/// A caller that arrives.
pub(super) struct Caller<'a, S> {
    pub(super) key: S,
    pub(super) hash: u64,
    pub(super) join: Join,
    /// When it arrives; `None` if nobody wants to know when its load began.
    pub(super) now: Option<Instant>,
    /// As the registry does, if it says nothing.
    pub(super) at_limit: Option<AtLimit>,
    /// For the flight it leads, if loads say when they begin.
    pub(super) gate: Option<&'a Arc<Gate>>,
    pub(super) sitter: Sitter<'a>,
}

/// What a caller asks for, besides its key.
#[derive(Clone, Copy)]
struct Asked<'a> {
    hash: u64,
    join: Join,
    now: Instant,
    gate: Option<&'a Arc<Gate>>,
    sitter: Sitter<'a>,
    soft_age: Duration,
    nested: bool,
}

impl<K, V, E> Table<K, V, E>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
    E: Send + Sync + 'static,
{
    /// Finds a caller its place. `loader` is asked for only if its load may be begun by others.
    #[inline]
    pub(super) fn arrive(
        self: &Arc<Self>,
        caller: Caller<'_, impl Sought<K>>,
        loader: impl FnOnce() -> Option<Loader<V, E>>,
    ) -> Arrival<K, V, E> {
        let Caller { key, hash, join, now, at_limit, gate, sitter } = caller;
        let at_limit = at_limit.unwrap_or(self.config.at_limit);
        let soft_age = self.soft_age(hash);
        let nested = !lineage::is_empty();
        let in_solo = nested && Self::inside_solo(self.address(), &key);
        let (mut husk, mut over) = (None, None);
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, ids, lone, stats, handed, .. } = &mut *shard;
        let arrival = match entries.entry(hash, |entry| key.is(&entry.key), |entry| entry.hash) {
            _ if in_solo => Self::reentrant(stats),
            Place::Occupied(found) if nested && found.get().inside_own_load(self.address()) => {
                Self::reentrant(stats)
            }
            Place::Vacant(_) if !self.take_key(spare) => {
                Self::at_limit(at_limit, stats, key.own(), Limit::Flights)
            }
            Place::Vacant(place) => {
                let (id, key) = (ids.next(), key.own());
                lone.led += 1;
                place.insert(Entry { key, hash, state: State::first(id, now, soft_age, gate) });
                // At once: most callers lead, and nothing else comes of that.
                return Arrival::Lead(id);
            }
            Place::Occupied(mut found) => {
                let now = now.unwrap_or_else(Instant::now);
                let traffic = found.get_mut().traffic(soft_age, self.clock.made, || now);
                let asked = Asked { hash, join, now, gate, sitter, soft_age, nested };
                let met = self.meet(traffic, asked, (ids, stats), &mut husk, loader);
                if matches!(met, Some(Arrival::Lead(_))) {
                    over = self.take_over(hash, traffic, handed);
                }
                met.unwrap_or_else(|| {
                    let why = if self.is_full() { Limit::Bytes } else { Limit::Waiters };
                    Self::at_limit(at_limit, stats, key.own(), why)
                })
            }
        };
        drop(shard);
        if let Some(husk) = husk {
            drop(husk);
        }
        if let Some(over) = over {
            self.hand_over(hash, over);
        }
        arrival
    }

    /// Finds a caller its place among those who asked for its key before it. `None` when too many
    /// wait already, or too much.
    fn meet(
        self: &Arc<Self>,
        traffic: &mut Traffic<V, E>,
        asked: Asked<'_>,
        (ids, stats): (&mut Ids, &mut FlightStats),
        husk: &mut Option<Box<Waiting<V, E>>>,
        loader: impl FnOnce() -> Option<Loader<V, E>>,
    ) -> Option<Arrival<K, V, E>> {
        let Asked { hash, join, now, gate, sitter, soft_age, nested } = asked;
        let hopes = sitter.until.is_none() || !self.config.join_in_time;
        if hopes
            && !nested
            && let Some(flight) = traffic.open_to_all(join, now)
        {
            return self.share(flight, (hash, now), sitter, stats);
        }
        let choice = traffic.choose(join, &self.config, now);
        match choice {
            Choice::Lead => {
                let id = ids.next();
                stats.leaders += 1;
                *husk = traffic.lead(id, now, soft_age, gate.cloned());
                return Some(Arrival::Lead(id));
            }
            Choice::Busy => {
                stats.busy += 1;
                return Some(Arrival::Refused(FlightError::Busy, Limit::Stuck));
            }
            Choice::JoinRunning | Choice::JoinNext | Choice::Wait => {}
        }
        if self.too_late(hash, choice, traffic, (sitter.until, now)) {
            stats.busy += 1;
            stats.busy_too_late += 1;
            return Some(Arrival::Refused(FlightError::Busy, Limit::TooLate));
        }
        // A leader that its load rests with waits too.
        let rests = traffic.resting_mut().is_some();
        let waiters_max = self.config.waiters_max - usize::from(rests);
        if self.is_full() || !Self::take(&self.waiters.0, waiters_max) {
            return None;
        }
        // Waiting for the next flight is waiting for those that run.
        let party = traffic.party_of(choice).unwrap_or_else(|| ids.next());
        let waits = nested.then(|| Waits::enter(self.address(), party, traffic.waited_for(choice)));
        if matches!(waits, Some(None)) {
            self.waiters.0.fetch_sub(1, Relaxed);
            return Some(Self::reentrant(stats));
        }
        stats.followers += 1;
        let (seat, met) = match choice {
            Choice::Wait => traffic.wait(sitter, party, loader),
            begun => traffic.join(begun, sitter, loader, |since, id| {
                self.lingering.leave(since, (hash, id));
            }),
        };
        if nested && let Some(party) = traffic.party_mut(party) {
            party.note(self.address());
        }
        let met = Met { rests, watch: traffic.watch(&self.config, None), ..met };
        let waits = waits.flatten().map(Box::new);
        Some(Arrival::Follow(now, Self::seated(hash, seat), met, waits))
    }

    #[cold]
    fn inside_solo(registry: usize, key: &impl Sought<K>) -> bool {
        lineage::inside_solo(registry, |solo| key.is(solo))
    }

    /// Whether callers have left too much untaken for more to be shared.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.is_full())
    }

    #[cold]
    fn reentrant(stats: &mut FlightStats) -> Arrival<K, V, E> {
        stats.reentrant += 1;
        Arrival::Refused(FlightError::Reentrant, Limit::Reentrant)
    }

    #[cold]
    fn at_limit(does: AtLimit, stats: &mut FlightStats, key: K, why: Limit) -> Arrival<K, V, E> {
        match does {
            AtLimit::Solo => {
                stats.solos += 1;
                Arrival::Solo(key, why)
            }
            AtLimit::Busy => {
                stats.busy += 1;
                Arrival::Refused(FlightError::Busy, why)
            }
        }
    }
}
