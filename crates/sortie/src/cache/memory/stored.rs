//! One value in memory, and how old it is.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use crate::Position;
use crate::cache::stamps::Stamp;
use crate::cache::{Cached, Loaded, Tag};
use crate::rt::time::Instant;

/// A moment, in nanoseconds since the cache was made. Half as wide as an `Instant`.
pub(super) type SinceEpoch = u64;

/// Never.
const NEVER: SinceEpoch = SinceEpoch::MAX;

/// Copied by each reader, under the lock that it takes anyway: counting readers, as an `Arc` does,
/// costs more than all else that a hit adds to the table's own get.
#[derive(Clone)]
pub(super) struct Stored<V> {
    pub(super) stamp: Stamp,
    pub(super) tags: Tags,
    pub(super) value: V,
    as_of: Option<Position>,
    began: Instant,
    ages: Moments,
}

/// When a value is old.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) struct Moments {
    /// When it is to be looked at more closely: never, for a value that does not age.
    next: SinceEpoch,
    soft: SinceEpoch,
    hard: SinceEpoch,
}

/// Most values have none.
#[derive(Clone)]
pub(super) struct Tags(Option<Arc<Vec<Tag>>>);

pub(super) enum Age {
    Fresh,
    /// Fresh, and to be refreshed by the first one who finds it so.
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
    fn of<V>(&self, loaded: &Loaded<V>, began: SinceEpoch, chance: f64) -> Moments {
        let factor = 1.0 + chance * self.jitter;
        let after = |age: Duration| began.saturating_add(nanos(age.mul_f64(factor)));
        let hard = loaded.usable_for.or(self.hard).map_or(NEVER, after);
        let soft = loaded.fresh_for.or(self.soft);
        let early = soft.zip(self.early).map_or(NEVER, |(soft, part)| after(soft.mul_f64(part)));
        let soft = soft.map_or(NEVER, after).min(hard);
        Moments { next: early.min(soft), soft, hard }
    }
}

impl Moments {
    /// Both are long ago.
    const EXPIRED: Self = Self { next: 0, soft: 0, hard: 0 };
    const WAITS: Self = Self { next: 1, soft: 1, hard: 1 };
}

impl<V> Stored<V> {
    /// Its load began at `began`, which is `since` for the cache.
    pub(super) fn new(
        stamp: Stamp,
        loaded: Loaded<V>,
        (began, since): (Instant, SinceEpoch),
        (ages, chance): (&Ages, f64),
    ) -> Self {
        let ages = ages.of(&loaded, since, chance);
        let Loaded { value, as_of, tags, .. } = loaded;
        Self { stamp, tags: Tags::of(tags), value, as_of, began, ages }
    }

    #[inline]
    pub(super) fn cached(self) -> Cached<V> {
        Cached::new(self.value, self.as_of).began(self.began)
    }

    /// Says whether it needs no closer look. Without ages no clock is read.
    #[inline]
    pub(super) fn is_fresh(&self, now: impl FnOnce() -> SinceEpoch) -> bool {
        self.ages.next == NEVER || now() < self.ages.next
    }

    pub(super) fn age(&self, now: SinceEpoch) -> Age {
        match now {
            _ if now >= self.ages.hard => Age::Hard,
            _ if now >= self.ages.soft => Age::Soft,
            _ if now >= self.ages.next => Age::Early,
            _ => Age::Fresh,
        }
    }

    /// Says whether this is the first one that finds it early. For all others it is fresh from here
    /// on, until it is stale.
    pub(super) fn is_first(&mut self, now: SinceEpoch) -> bool {
        let first = matches!(self.age(now), Age::Early);
        if first {
            self.ages.next = self.ages.soft;
        }
        first
    }

    /// Makes it too old to be used.
    pub(super) fn expire(&mut self) {
        self.ages = Moments::EXPIRED;
    }

    /// Makes it too old until it [begins](Self::begins), with the ages that it has.
    pub(super) fn waits(&mut self) -> Moments {
        mem::replace(&mut self.ages, Moments::WAITS)
    }

    /// Says whether it has not expired while it waited.
    pub(super) fn begins(&mut self, ages: Moments) -> bool {
        let waits = self.ages == Moments::WAITS;
        if waits {
            self.ages = ages;
        }
        waits
    }
}

impl Tags {
    fn of(tags: Vec<Tag>) -> Self {
        Self((!tags.is_empty()).then(|| Arc::new(tags)))
    }

    #[inline]
    pub(super) fn as_slice(&self) -> &[Tag] {
        self.0.as_ref().map_or(&[], |tags| tags)
    }
}

/// `u64` nanoseconds last for 584 years.
pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
