//! Leases: who may fill a key, and who waits for them.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use hashbrown::hash_map::{Entry, HashMap};
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::rt::sync::Mutex;
use crate::rt::time::Instant;

/// Locks over the leases; a power of two. Enough for the cores of one machine.
const PARTS: usize = 64;
/// Leases held at a time in each part. Beyond it a lease is not recorded: its holder is not alone
/// then, but the stamps hold for it as for the others.
const LEASES_PER_PART_MAX: usize = 1_024;

/// The leases handed out and not yet released.
#[derive(Debug)]
pub(super) struct Leases<K> {
    parts: Box<[Mutex<HashMap<K, Held, DefaultHashBuilder>>]>,
    ids: AtomicU64,
    /// The age at which a lease may be taken over. A holder that hangs stops nobody for longer.
    lease_max: Duration,
}

/// Names one lease among all that were ever handed out on its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct LeaseId(u64);

pub(super) enum Taken {
    Lease(LeaseId),
    /// Somebody else holds it, and what they loaded since then is up to date: to be told when that
    /// ends, and when it may be taken over.
    Held(Instant, OwnedNotified, Option<Instant>),
}

#[derive(Debug)]
struct Held {
    id: LeaseId,
    since: Instant,
    /// Loads that began before this may have been outdated by a sweep: when the lease was handed
    /// out, or when the last sweep that concerns it was noticed.
    valid_since: Instant,
    /// The last sweep that was noticed.
    sweep: u64,
    /// The value is being put in its place: not to be taken over any more.
    filling: bool,
    /// Made when the first one waits.
    waiting: Option<Arc<Notify>>,
}

impl LeaseId {
    /// A lease that is not in the table.
    const UNRECORDED: Self = Self(0);

    pub(super) fn is_recorded(self) -> bool {
        self != Self::UNRECORDED
    }
}

impl<K: Clone + Eq + Hash> Leases<K> {
    pub(super) fn new(lease_max: Duration) -> Self {
        Self {
            parts: (0..PARTS).map(|_| Mutex::default()).collect(),
            ids: AtomicU64::new(1),
            lease_max,
        }
    }

    /// `sweep` is the last one, as known before `now`. A sweep takes no lease away, for most keys
    /// lack its tag: those who come after it wait for the lease and share no load from before.
    pub(super) fn take(&self, key: &K, hash: u64, now: Instant, sweep: u64) -> Taken {
        let mut part = self.part(hash).lock();
        let full = part.len() >= LEASES_PER_PART_MAX;
        match part.entry(key.clone()) {
            Entry::Occupied(held) => {
                let held = held.into_mut();
                if held.filling || now.saturating_duration_since(held.since) < self.lease_max {
                    if held.sweep < sweep {
                        (held.valid_since, held.sweep) = (now, sweep);
                    }
                    let waiting = held.waiting.get_or_insert_default();
                    let ended = Arc::clone(waiting).notified_owned();
                    let over_at = held.since.checked_add(self.lease_max);
                    return Taken::Held(held.valid_since, ended, over_at);
                }
                // Those who wait for the old holder wait for the new one.
                held.id = self.next();
                (held.since, held.valid_since, held.sweep) = (now, now, sweep);
                Taken::Lease(held.id)
            }
            Entry::Vacant(_) if full => Taken::Lease(LeaseId::UNRECORDED),
            Entry::Vacant(free) => {
                let id = self.next();
                let (since, valid_since) = (now, now);
                free.insert(Held { id, since, valid_since, sweep, filling: false, waiting: None });
                Taken::Lease(id)
            }
        }
    }

    /// Says whether the lease is still good, and keeps it so until it is released or revoked.
    pub(super) fn begin_fill(&self, key: &K, hash: u64, id: LeaseId) -> bool {
        if id == LeaseId::UNRECORDED {
            return true;
        }
        let mut part = self.part(hash).lock();
        let held = part.get_mut(key).filter(|held| held.id == id);
        held.is_some_and(|held| {
            held.filling = true;
            true
        })
    }

    pub(super) fn release(&self, key: &K, hash: u64, id: LeaseId) {
        self.end(key, hash, |held| held.id == id);
    }

    pub(super) fn revoke(&self, key: &K, hash: u64) {
        self.end(key, hash, |_held| true);
    }

    fn end(&self, key: &K, hash: u64, is_meant: impl Fn(&Held) -> bool) {
        let ended = {
            let mut part = self.part(hash).lock();
            if !part.get(key).is_some_and(is_meant) {
                return;
            }
            part.remove_entry(key)
        };
        if let Some((_key, Held { waiting: Some(waiting), .. })) = ended {
            waiting.notify_waiters();
        }
    }

    fn next(&self) -> LeaseId {
        LeaseId(self.ids.fetch_add(1, Relaxed))
    }

    fn part(&self, hash: u64) -> &Mutex<HashMap<K, Held, DefaultHashBuilder>> {
        // Neither the low bits, which the values' table uses, nor the high ones of the slots.
        let part = (hash >> 24) as usize & (PARTS - 1);
        &self.parts[part]
    }
}
