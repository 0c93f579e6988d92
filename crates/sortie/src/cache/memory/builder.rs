//! How a cache in memory is made.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use quick_cache::Weighter;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};

use super::stored::{Ages, Stored};
use super::{Inner, MemoryCache};
use crate::cache::lease::Leases;
use crate::cache::stamps::Stamps;
use crate::rt::time::Instant;

/// How many values are prepared for when their weight is not known beforehand.
const EXPECTED_MAX: usize = 1 << 16;

/// Settings for a [`MemoryCache`]; see [`MemoryCache::builder`].
#[must_use = "a builder makes nothing until `build` is called"]
pub struct MemoryCacheBuilder<K, V> {
    capacity: usize,
    weigh: Weigh<K, V>,
    ages: Ages,
    cooling: Duration,
    lease_max: Duration,
}

/// One each, unless told otherwise.
pub(super) struct Weigh<K, V>(Option<Arc<WeightOf<K, V>>>);

type WeightOf<K, V> = dyn Fn(&K, &V) -> u64 + Send + Sync;

impl<K: Clone + Eq + Hash, V: Clone> MemoryCacheBuilder<K, V> {
    #[track_caller]
    pub(super) fn new(capacity: usize) -> Self {
        assert!(capacity > 0, "a cache holds at least one value");
        Self {
            capacity,
            weigh: Weigh(None),
            ages: Ages { early: None, soft: None, hard: None, jitter: 0.1 },
            cooling: Duration::from_secs(1),
            lease_max: Duration::from_secs(5),
        }
    }

    /// Bounds the cache by the weight of its values, e.g. their bytes, instead of their number:
    /// the capacity is what all of them may weigh together.
    pub fn weigh(mut self, weigh: impl Fn(&K, &V) -> u64 + Send + Sync + 'static) -> Self {
        self.weigh = Weigh(Some(Arc::new(weigh)));
        self
    }

    /// The age past which a value is stale: still used, and loaded anew. Counted from the begin of
    /// its load. Default: never.
    pub fn soft_ttl(mut self, soft_ttl: Duration) -> Self {
        self.ages.soft = Some(soft_ttl);
        self
    }

    /// The age past which a value is not used any more. Default: never.
    pub fn hard_ttl(mut self, hard_ttl: Duration) -> Self {
        self.ages.hard = Some(hard_ttl);
        self
    }

    /// The part by which the ages of a value are longer or shorter, at random: what was stored
    /// together does not end together. Default: 0.1, at most 0.5.
    pub fn jitter(mut self, jitter: f64) -> Self {
        self.ages.jitter = jitter.clamp(0.0, 0.5);
        self
    }

    /// The part of the soft age past which the first reader refreshes a value that is still fresh,
    /// e.g. 0.8. Default: nobody does.
    pub fn early(mut self, early: f64) -> Self {
        self.ages.early = Some(early.clamp(0.0, 1.0));
        self
    }

    /// How long after an `invalidate_at` nothing is stored that can't be compared with its
    /// position. It should exceed the replicas' lag. Default: 1 s.
    pub fn cooling(mut self, cooling: Duration) -> Self {
        self.cooling = cooling;
        self
    }

    /// The age at which a lease may be taken over from a holder that hangs. Default: 5 s, the
    /// soft age of a [`SingleFlight`](crate::SingleFlight). The two should be equal: then the
    /// flight that is started beside one that hangs gets the lease.
    pub fn lease_max(mut self, lease_max: Duration) -> Self {
        self.lease_max = lease_max;
        self
    }

    /// Makes the cache.
    pub fn build(self) -> MemoryCache<K, V> {
        let hasher = DefaultHashBuilder::default();
        let expected =
            if self.weigh.0.is_some() { self.capacity.min(EXPECTED_MAX) } else { self.capacity };
        MemoryCache(Arc::new(Inner {
            values: QuickCache::with(
                expected,
                self.capacity as u64,
                self.weigh,
                hasher.clone(),
                DefaultLifecycle::default(),
            ),
            stamps: Stamps::new(expected, self.cooling),
            leases: Leases::new(self.lease_max),
            hasher,
            epoch: Instant::now(),
            ages: self.ages,
        }))
    }
}

impl<K, V> Weighter<K, Stored<V>> for Weigh<K, V> {
    fn weight(&self, key: &K, stored: &Stored<V>) -> u64 {
        // What weighs nothing would never be evicted.
        self.0.as_ref().map_or(1, |weigh| weigh(key, &stored.value).max(1))
    }
}

impl<K, V> Clone for Weigh<K, V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K, V> fmt::Debug for MemoryCacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheBuilder")
            .field("capacity", &self.capacity)
            .field("by_weight", &self.weigh.0.is_some())
            .field("ages", &self.ages)
            .field("cooling", &self.cooling)
            .field("lease_max", &self.lease_max)
            .finish()
    }
}
