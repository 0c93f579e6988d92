//! One value in memory, and how old it is.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::cache::stamps::Stamp;
use crate::cache::{Cached, Loaded, Tag};
use crate::rt::sync::AtomicU64;

/// A moment, in nanoseconds since the cache was made. Half as wide as an `Instant`.
pub(super) type SinceEpoch = u64;

/// Never.
const NEVER: SinceEpoch = SinceEpoch::MAX;

pub(super) struct Stored<V> {
    pub(super) stamp: Stamp,
    pub(super) tags: Box<[Tag]>,
    pub(super) cached: Cached<V>,
    /// When it is to be looked at more closely: never, for a value that does not age.
    next_at: AtomicU64,
    soft_at: AtomicU64,
    hard_at: AtomicU64,
}

pub(super) enum Age {
    Fresh,
    /// Fresh, and this caller is the one to refresh it.
    Early,
    Soft,
    Hard,
}

/// The ages past which values are refreshed, stale, and no more.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ages {
    pub(super) early: Option<f64>,
    pub(super) soft: Option<Duration>,
    pub(super) hard: Option<Duration>,
    pub(super) jitter: f64,
}

impl Ages {
    /// When a value whose load began at `began` is refreshed, stale and no more. `chance` is
    /// between -1 and 1: values that were stored together should not end together.
    fn of<V>(&self, loaded: &Loaded<V>, began: SinceEpoch, chance: f64) -> [SinceEpoch; 3] {
        let factor = 1.0 + chance * self.jitter;
        let after = |age: Duration| began.saturating_add(nanos(age.mul_f64(factor)));
        let hard = loaded.usable_for.or(self.hard).map_or(NEVER, after);
        let soft = loaded.fresh_for.or(self.soft);
        let early = soft.zip(self.early).map_or(NEVER, |(soft, part)| after(soft.mul_f64(part)));
        let soft = soft.map_or(NEVER, after).min(hard);
        [early.min(soft), soft, hard]
    }
}

impl<V> Stored<V> {
    pub(super) fn new(
        stamp: Stamp,
        loaded: Loaded<V>,
        cached: impl FnOnce(V, Option<crate::Position>) -> Cached<V>,
        began: SinceEpoch,
        (ages, chance): (&Ages, f64),
    ) -> Self {
        let [next, soft, hard] = ages.of(&loaded, began, chance).map(AtomicU64::new);
        let tags = loaded.tags.into_boxed_slice();
        let cached = cached(loaded.value, loaded.as_of);
        Self { stamp, tags, cached, next_at: next, soft_at: soft, hard_at: hard }
    }

    /// Says whether it needs no closer look. Without ages no clock is read.
    #[inline]
    pub(super) fn is_fresh(&self, now: impl FnOnce() -> SinceEpoch) -> bool {
        let next_at = self.next_at.load(Relaxed);
        next_at == NEVER || now() < next_at
    }

    #[cold]
    pub(super) fn age(&self, now: SinceEpoch) -> Age {
        let (next, soft) = (self.next_at.load(Relaxed), self.soft_at.load(Relaxed));
        if now >= self.hard_at.load(Relaxed) {
            return Age::Hard;
        }
        if now >= soft {
            return Age::Soft;
        }
        // The first one refreshes it; for the others it is fresh until it is stale.
        let first =
            now >= next && self.next_at.compare_exchange(next, soft, Relaxed, Relaxed).is_ok();
        if first { Age::Early } else { Age::Fresh }
    }

    /// Makes it too old to be used.
    pub(super) fn expire(&self) {
        for at in [&self.hard_at, &self.soft_at, &self.next_at] {
            at.store(0, Relaxed);
        }
    }
}

/// `u64` nanoseconds last for 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
