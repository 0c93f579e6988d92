//! A caller that arrives: leads, follows, runs alone, or is refused.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::hash_table::Entry as Place;

use crate::observe::Limit;
use crate::rt::time::Instant;
use crate::singleflight::boarding::Gate;
use crate::singleflight::config::{AtLimit, Join};
use crate::singleflight::entry::{Entry, State};
use crate::singleflight::error::FlightError;
use crate::singleflight::launch::Loader;
use crate::singleflight::lineage::{self, Waits};
use crate::singleflight::party::Sitter;
use crate::singleflight::stats::FlightStats;
use crate::singleflight::table::{Desks, Seated, Table};
use crate::singleflight::traffic::Choice;

/// What an arriving caller is to do.
pub(super) enum Arrival<K, V, E> {
    Lead(u64),
    Follow(Seated<V, E>, Met, Option<Box<Waits>>),
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
}

/// A caller that arrives.
pub(super) struct Caller<'a, K> {
    pub(super) key: K,
    pub(super) hash: u64,
    pub(super) join: Join,
    pub(super) now: Instant,
    /// For the flight it leads, if loads say when they begin.
    pub(super) gate: Option<&'a Arc<Gate>>,
    pub(super) sitter: Sitter<'a>,
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
        let Caller { key, hash, join, now, gate, sitter } = caller;
        let soft_age = self.soft_age(hash);
        let nested = !lineage::is_empty();
        let in_solo = nested && lineage::inside_solo(self.address(), &key);
        let mut husk = None;
        let mut shard = self.shard(hash).lock();
        let Desks { entries, spare, ids, stats } = &mut *shard;
        let arrival = match entries.entry(hash, |entry| entry.key == key, |entry| entry.hash) {
            _ if in_solo => Self::reentrant(stats),
            Place::Occupied(found) if nested && found.get().inside_own_load(self.address()) => {
                Self::reentrant(stats)
            }
            Place::Vacant(_) if !self.take_key(spare) => self.at_limit(stats, key, Limit::Flights),
            Place::Vacant(place) => {
                let id = ids.next();
                stats.leaders += 1;
                place.insert(Entry { key, hash, state: State::first(id, now, soft_age, gate) });
                Arrival::Lead(id)
            }
            Place::Occupied(mut found) => 'found: {
                let traffic = found.get_mut().traffic(soft_age);
                let choice = traffic.choose(join, &self.config, now);
                match choice {
                    Choice::Lead => {
                        let id = ids.next();
                        stats.leaders += 1;
                        husk = traffic.lead(id, now, soft_age, gate.cloned());
                        Arrival::Lead(id)
                    }
                    Choice::JoinRunning | Choice::JoinNext | Choice::Wait
                        if self.too_late(hash, choice, traffic, (sitter.until, now)) =>
                    {
                        stats.busy += 1;
                        stats.busy_too_late += 1;
                        Arrival::Refused(FlightError::Busy, Limit::TooLate)
                    }
                    Choice::Busy => {
                        stats.busy += 1;
                        Arrival::Refused(FlightError::Busy, Limit::Stuck)
                    }
                    _ if !Self::take(&self.waiters, self.config.waiters_max) => {
                        self.at_limit(stats, key, Limit::Waiters)
                    }
                    choice => {
                        // Waiting for the next flight is waiting for those that run.
                        let flights = traffic.waited_for(choice);
                        let waits = nested.then(|| Waits::enter(self.address(), flights));
                        if matches!(waits, Some(None)) {
                            self.waiters.fetch_sub(1, Relaxed);
                            break 'found Self::reentrant(stats);
                        }
                        stats.followers += 1;
                        let (seat, met) = match choice {
                            Choice::Wait => traffic.wait(sitter, ids, loader),
                            begun => traffic.join(begun, sitter, |since, id| {
                                self.lingering.leave(since, (hash, id));
                            }),
                        };
                        Arrival::Follow(
                            Self::seated(hash, seat),
                            met,
                            waits.flatten().map(Box::new),
                        )
                    }
                }
            }
        };
        drop(shard);
        drop(husk);
        arrival
    }

    fn reentrant(stats: &mut FlightStats) -> Arrival<K, V, E> {
        stats.reentrant += 1;
        Arrival::Refused(FlightError::Reentrant, Limit::Reentrant)
    }

    fn at_limit(&self, stats: &mut FlightStats, key: K, why: Limit) -> Arrival<K, V, E> {
        match self.config.at_limit {
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
