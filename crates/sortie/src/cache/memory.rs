//! The cache of one process.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};

use super::lease::{LeaseId, Leases, Taken};
use super::stamps::{Stamp, Stamps};
use super::{Cache, Cached, Fill, Loaded, Lookup};
use crate::Position;
use crate::rt::time::{Instant, timeout_at};

/// A [`Cache`] in this process, bounded by its number of values. Cheap to clone.
///
/// Which values stay when it is full is `quick_cache`'s to decide. Without ages, the default, a
/// value stays until it is evicted or invalidated, and a hit reads no clock.
///
/// # Examples
///
/// ```
/// use sortie::{Cache, Fill, Lookup, MemoryCache};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cache: MemoryCache<u64, String> = MemoryCache::new(1_000);
/// let Lookup::Miss(lease) = cache.get(&42).await else { panic!("nothing was stored") };
/// cache.invalidate(&42).await; // Somebody writes while the value is being loaded…
/// let too_old = "before the write".to_owned();
/// assert_eq!(cache.fill(lease, too_old.into()).await, Fill::Revoked);
/// assert!(matches!(cache.get(&42).await, Lookup::Miss(_)));
/// # }
/// ```
pub struct MemoryCache<K, V>(Arc<Inner<K, V>>);

/// Settings for a [`MemoryCache`]; see [`MemoryCache::builder`].
#[must_use = "a builder makes nothing until `build` is called"]
pub struct MemoryCacheBuilder<K, V> {
    makes: PhantomData<fn(K) -> V>,
    capacity: usize,
    soft_ttl: Option<Duration>,
    hard_ttl: Option<Duration>,
    cooling: Duration,
    lease_max: Duration,
}

/// The right to fill one key of a [`MemoryCache`].
pub struct MemoryLease<K: Clone + Eq + Hash, V>(Box<Leased<K, V>>);

/// Boxed, so that a hit does not carry room for it.
struct Leased<K: Clone + Eq + Hash, V> {
    cache: MemoryCache<K, V>,
    key: K,
    hash: u64,
    id: LeaseId,
    stamp: Stamp,
    began: Instant,
}

/// Ends when somebody else's lease on a key of a [`MemoryCache`] does, or is too old.
pub struct MemoryWait(Pin<Box<dyn Future<Output = ()> + Send>>);

struct Inner<K, V> {
    values: QuickCache<K, Arc<Stored<V>>, UnitWeighter, DefaultHashBuilder>,
    stamps: Stamps,
    leases: Leases<K>,
    hasher: DefaultHashBuilder,
    epoch: Instant,
    ttl: Option<Ttl>,
}

/// The ages in nanoseconds past which a value is stale, and is no more.
struct Ttl {
    soft: u64,
    hard: u64,
}

#[derive(Clone)]
struct Stored<V> {
    stamp: Stamp,
    /// When its load got its lease.
    began: SinceEpoch,
    cached: Cached<V>,
}

/// A moment, in nanoseconds since the cache was made. Half as wide as an `Instant`.
type SinceEpoch = u64;

enum Age {
    Fresh,
    Soft,
    Hard,
}

impl<K, V> MemoryCache<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// Creates a cache of at most `capacity` values, with the default settings.
    ///
    /// # Panics
    ///
    /// Panics if `capacity` is 0.
    #[track_caller]
    pub fn new(capacity: usize) -> Self {
        Self::builder(capacity).build()
    }

    /// Starts from the default settings of a cache of at most `capacity` values.
    ///
    /// # Panics
    ///
    /// Panics if `capacity` is 0.
    #[track_caller]
    pub fn builder(capacity: usize) -> MemoryCacheBuilder<K, V> {
        assert!(capacity > 0, "a cache holds at least one value");
        MemoryCacheBuilder {
            makes: PhantomData,
            capacity,
            soft_ttl: None,
            hard_ttl: None,
            cooling: Duration::from_secs(1),
            lease_max: Duration::from_secs(5),
        }
    }

    #[inline]
    fn look_up(&self, key: &K) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        let Some(stored) = self.0.read(key) else { return self.miss(key) };
        match self.0.age(&stored) {
            Age::Fresh => Lookup::Hit(stored.cached.clone()),
            Age::Soft => self.stale(key, stored.cached.clone()),
            Age::Hard => self.miss(key),
        }
    }

    // The paths that are not a hit are kept out of its way.
    #[cold]
    fn stale(&self, key: &K, cached: Cached<V>) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        Lookup::Stale(cached, self.lease(key).ok())
    }

    #[cold]
    fn miss(&self, key: &K) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        let lease = match self.lease(key) {
            Ok(lease) => lease,
            Err(wait) => return Lookup::Pending(wait),
        };
        // The last holder may have stored a value since this caller looked.
        match self.0.read(key) {
            Some(stored) if matches!(self.0.age(&stored), Age::Fresh) => {
                Lookup::Hit(stored.cached.clone())
            }
            _ => Lookup::Miss(lease),
        }
    }

    fn lease(&self, key: &K) -> Result<MemoryLease<K, V>, MemoryWait> {
        let inner = &*self.0;
        let (hash, began) = (inner.hasher.hash_one(key), Instant::now());
        match inner.leases.take(key, hash, began) {
            Taken::Lease(id) => Ok(MemoryLease(Box::new(Leased {
                cache: self.clone(),
                key: key.clone(),
                hash,
                id,
                // Read once the lease is in the table: an invalidation either revokes the lease
                // or has moved the slot on before.
                stamp: inner.stamps.of(hash),
                began,
            }))),
            Taken::Held(ended, over_at) => Err(MemoryWait(Box::pin(async move {
                match over_at {
                    Some(over_at) => drop(timeout_at(over_at, ended).await),
                    None => ended.await,
                }
            }))),
        }
    }

    fn store(&self, lease: &MemoryLease<K, V>, loaded: Loaded<V>) -> Fill {
        let (inner, Leased { key, hash, id, stamp, began, .. }) = (&*self.0, &*lease.0);
        if let Err(refused) = inner.stamps.admits(*stamp, *began, loaded.as_of.as_ref()) {
            return refused;
        }
        if !inner.stamps.is_current(*stamp) || !inner.leases.begin_fill(key, *hash, *id) {
            return Fill::Revoked;
        }
        let cached = Cached::new(loaded.value, loaded.as_of).began(*began);
        let stored = Stored { stamp: *stamp, began: inner.since_epoch(*began), cached };
        inner.values.insert(key.clone(), Arc::new(stored));
        // Whatever was invalidated up to here, the stamp keeps readers away from the value.
        if inner.stamps.is_current(*stamp) { Fill::Stored } else { Fill::Revoked }
    }

    fn forget(&self, key: &K, position: Option<&Position>) {
        let inner = &*self.0;
        let hash = inner.hasher.hash_one(key);
        if let Some(position) = position {
            inner.stamps.raise(hash, position);
        }
        inner.stamps.move_on(hash);
        inner.leases.revoke(key, hash);
        drop(inner.values.remove(key));
    }
}

impl<K: Clone + Eq + Hash, V: Clone> MemoryCacheBuilder<K, V> {
    /// The age past which a value is stale: still used, and loaded anew. Default: never.
    pub fn soft_ttl(mut self, soft_ttl: Duration) -> Self {
        self.soft_ttl = Some(soft_ttl);
        self
    }

    /// The age past which a value is not used any more. Default: never.
    pub fn hard_ttl(mut self, hard_ttl: Duration) -> Self {
        self.hard_ttl = Some(hard_ttl);
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
        let ttl = (self.soft_ttl.is_some() || self.hard_ttl.is_some()).then(|| Ttl {
            soft: self.soft_ttl.map_or(u64::MAX, nanos),
            hard: self.hard_ttl.map_or(u64::MAX, nanos),
        });
        MemoryCache(Arc::new(Inner {
            values: QuickCache::with(
                self.capacity,
                self.capacity as u64,
                UnitWeighter,
                hasher.clone(),
                DefaultLifecycle::default(),
            ),
            stamps: Stamps::new(self.capacity, self.cooling),
            leases: Leases::new(self.lease_max),
            hasher,
            epoch: Instant::now(),
            ttl,
        }))
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Inner<K, V> {
    /// Reads a value that may be used as far as invalidations go.
    #[inline]
    fn read(&self, key: &K) -> Option<Arc<Stored<V>>> {
        self.values.get(key).filter(|stored| self.stamps.is_current(stored.stamp))
    }

    #[inline]
    fn age(&self, stored: &Stored<V>) -> Age {
        let Some(ttl) = &self.ttl else { return Age::Fresh };
        let lived = self.since_epoch(Instant::now()).saturating_sub(stored.began);
        match (lived >= ttl.soft, lived >= ttl.hard) {
            (_, true) => Age::Hard,
            (true, false) => Age::Soft,
            (false, false) => Age::Fresh,
        }
    }

    fn since_epoch(&self, moment: Instant) -> SinceEpoch {
        nanos(moment.saturating_duration_since(self.epoch))
    }
}

/// `u64` nanoseconds last for 584 years.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl<K, V> Cache<K, V> for MemoryCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync,
    V: Clone + Send + Sync,
{
    type Lease = MemoryLease<K, V>;
    type Wait = MemoryWait;

    #[inline]
    async fn get(&self, key: &K) -> Lookup<V, Self::Lease, Self::Wait> {
        self.look_up(key)
    }

    async fn fill(&self, lease: Self::Lease, loaded: Loaded<V>) -> Fill {
        self.store(&lease, loaded)
    }

    async fn invalidate(&self, key: &K) {
        self.forget(key, None);
    }

    async fn invalidate_at(&self, key: &K, position: &Position) {
        self.forget(key, Some(position));
    }
}

impl<K: Clone + Eq + Hash, V> Drop for Leased<K, V> {
    fn drop(&mut self) {
        self.cache.0.leases.release(&self.key, self.hash, self.id);
    }
}

impl Future for MemoryWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

impl<K, V> Clone for MemoryCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for MemoryCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCache").finish_non_exhaustive()
    }
}

impl<K, V> fmt::Debug for MemoryCacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryCacheBuilder")
            .field("capacity", &self.capacity)
            .field("soft_ttl", &self.soft_ttl)
            .field("hard_ttl", &self.hard_ttl)
            .field("cooling", &self.cooling)
            .field("lease_max", &self.lease_max)
            .finish()
    }
}

impl<K: Clone + Eq + Hash, V> fmt::Debug for MemoryLease<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryLease").field("id", &self.0.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for MemoryWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryWait")
    }
}
