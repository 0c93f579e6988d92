//! The copies that a process keeps in its own memory.
//!
//! # Invariants
//!
//! 1. A copy is used only while its stamp is current. An invalidation of this process moves the
//!    stamp on before it returns; one of another process does when its notice arrives.
//! 2. A copy is used only until its load's begin, or the last moment up to which all notices are
//!    known to have arrived, is `bound` ago. So one that another process has outdated is never
//!    used for longer than `bound` after that, whatever becomes of the notice.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use quick_cache::sync::Cache as QuickCache;
use sortie::Cached;
use tokio::time::Instant;

use crate::names::{BUCKETS, Place};

/// Keys share these by their hash: a collision costs a miss.
const SLOTS: usize = 1 << 14;

pub(crate) struct Local<K, V> {
    copies: QuickCache<K, Arc<Copy<V>>>,
}

struct Copy<V> {
    cached: Cached<V>,
    stamp: Stamp,
    began: Instant,
    fresh_until: Instant,
}

/// What has been outdated, for those who keep copies, and how far that is known.
pub(crate) struct Outdated {
    slots: Box<[AtomicU64]>,
    buckets: [AtomicU64; BUCKETS as usize],
    epoch: Instant,
    /// In nanoseconds since the epoch: every notice from before has arrived.
    heard: AtomicU64,
    bound: Duration,
}

/// A key's part of [`Outdated`] at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Stamp {
    slot: usize,
    bucket: u8,
    counts: (u64, u64),
}

impl<K: Clone + Eq + Hash, V: Clone> Local<K, V> {
    pub(crate) fn new(max: usize) -> Self {
        Self { copies: QuickCache::new(max) }
    }

    #[inline]
    pub(crate) fn read(&self, key: &K, outdated: &Outdated) -> Option<Cached<V>> {
        let copy = self.copies.get(key)?;
        let now = Instant::now();
        // The stamp last: whatever was outdated before this look, is seen.
        let usable = now < copy.fresh_until
            && outdated.is_heard(copy.began, now)
            && outdated.of_again(copy.stamp) == copy.stamp;
        usable.then(|| copy.cached.clone())
    }

    pub(crate) fn keep(&self, key: K, stamp: Stamp, cached: Cached<V>, fresh_for: Duration) {
        let (now, began) = (Instant::now(), cached.began);
        let began = began.unwrap_or(now);
        if let Some(fresh_until) = now.checked_add(fresh_for) {
            self.copies.insert(key, Arc::new(Copy { cached, stamp, began, fresh_until }));
        }
    }

    pub(crate) fn forget(&self, key: &K) {
        drop(self.copies.remove(key));
    }
}

impl Outdated {
    pub(crate) fn new(bound: Duration) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
            buckets: [const { AtomicU64::new(0) }; BUCKETS as usize],
            epoch: Instant::now(),
            heard: AtomicU64::new(0),
            bound,
        }
    }

    pub(crate) fn bound(&self) -> Duration {
        self.bound
    }

    pub(crate) fn of(&self, place: &Place) -> Stamp {
        #[expect(clippy::cast_possible_truncation, reason = "14 bits are left")]
        let slot = place.hash as usize & (SLOTS - 1);
        self.of_again(Stamp { slot, bucket: place.bucket, counts: (0, 0) })
    }

    #[inline]
    fn of_again(&self, stamp: Stamp) -> Stamp {
        let slot = self.slots[stamp.slot].load(Ordering::Acquire);
        let bucket = self.buckets[usize::from(stamp.bucket)].load(Ordering::Acquire);
        Stamp { counts: (slot, bucket), ..stamp }
    }

    pub(crate) fn key(&self, place: &Place) {
        self.slots[self.of(place).slot].fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn bucket(&self, bucket: u8) {
        if let Some(count) = self.buckets.get(usize::from(bucket)) {
            count.fetch_add(1, Ordering::AcqRel);
        }
    }

    pub(crate) fn everything(&self) {
        (0..BUCKETS).for_each(|bucket| self.bucket(bucket));
    }

    /// Says that every notice from before `moment` has arrived.
    pub(crate) fn heard_until(&self, moment: Instant) {
        self.heard.store(self.since_epoch(moment), Ordering::Release);
    }

    #[inline]
    fn is_heard(&self, began: Instant, now: Instant) -> bool {
        let known = self.heard.load(Ordering::Acquire).max(self.since_epoch(began));
        self.since_epoch(now).saturating_sub(known) <= nanos(self.bound)
    }

    fn since_epoch(&self, moment: Instant) -> u64 {
        nanos(moment.saturating_duration_since(self.epoch))
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    fn kept(outdated: &Outdated) -> (Local<u32, u32>, Place) {
        let (local, place) = (Local::new(10), Place::of(vec![1]));
        let cached = Cached::new(7, None).began(Instant::now());
        local.keep(1, outdated.of(&place), cached, Duration::from_secs(60));
        (local, place)
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_is_used_for_the_bound_after_the_last_that_was_heard() {
        let outdated = Outdated::new(Duration::from_secs(1));
        let (local, _) = kept(&outdated);
        let read = || local.read(&1, &outdated).map(|cached| cached.value);
        advance(Duration::from_secs(1)).await;
        assert_eq!(read(), Some(7));
        advance(Duration::from_millis(1)).await;
        assert_eq!(read(), None);
        outdated.heard_until(Instant::now());
        advance(Duration::from_secs(1)).await;
        assert_eq!(read(), Some(7));
        advance(Duration::from_millis(1)).await;
        assert_eq!(read(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_from_before_an_invalidation_is_not_used() {
        let outdated = Outdated::new(Duration::from_secs(1));
        let (local, place) = kept(&outdated);
        outdated.key(&place);
        assert!(local.read(&1, &outdated).is_none());
        let (local, place) = kept(&outdated);
        assert!(local.read(&1, &outdated).is_some());
        outdated.bucket(place.bucket);
        assert!(local.read(&1, &outdated).is_none());
    }
}
