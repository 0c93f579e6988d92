//! The cache of one process.

mod builder;
mod stored;

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hashbrown::DefaultHashBuilder;
use quick_cache::sync::Cache as QuickCache;

pub use self::builder::MemoryCacheBuilder;
use self::builder::Weigh;
use self::stored::{Age, Ages, SinceEpoch, Stored, nanos};
use super::lease::{LeaseId, Leases, Taken};
use super::stamps::{Stamp, Stamps, Under};
use super::{Cache, Cached, Fill, Loaded, Lookup, Sweep, Tag};
use crate::Position;
use crate::rt::time::{Instant, timeout_at};

/// A [`Cache`] in this process, bounded by its number of values or by their weight. Cheap to
/// clone.
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
pub struct MemoryWait {
    since: Instant,
    ended: Pin<Box<dyn Future<Output = ()> + Send>>,
}

struct Inner<K, V> {
    values: QuickCache<K, Arc<Stored<V>>, Weigh<K, V>, DefaultHashBuilder>,
    stamps: Stamps,
    leases: Leases<K>,
    hasher: DefaultHashBuilder,
    epoch: Instant,
    ages: Ages,
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
        MemoryCacheBuilder::new(capacity)
    }

    #[inline]
    fn look_up(&self, key: &K) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        let Some(stored) = self.0.read(key) else { return self.miss(key) };
        if stored.is_fresh(|| self.0.now()) {
            return Lookup::Hit(stored.cached.clone());
        }
        self.aged(key, &stored)
    }

    #[cold]
    fn aged(&self, key: &K, stored: &Stored<V>) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        match stored.age(self.0.now()) {
            Age::Fresh => Lookup::Hit(stored.cached.clone()),
            Age::Early => match self.lease(key) {
                Ok(lease) => Lookup::Early(stored.cached.clone(), lease),
                Err(_held) => Lookup::Hit(stored.cached.clone()),
            },
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
            Some(stored) if stored.is_fresh(|| self.0.now()) => Lookup::Hit(stored.cached.clone()),
            _ => Lookup::Miss(lease),
        }
    }

    pub(super) fn lease(&self, key: &K) -> Result<MemoryLease<K, V>, MemoryWait> {
        let inner = &*self.0;
        let (hash, sweep) = (inner.hasher.hash_one(key), inner.stamps.last_sweep());
        let began = Instant::now();
        match inner.leases.take(key, hash, began, sweep) {
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
            Taken::Held(since, ended, over_at) => {
                let ended = Box::pin(async move {
                    match over_at {
                        Some(over_at) => drop(timeout_at(over_at, ended).await),
                        None => ended.await,
                    }
                });
                Err(MemoryWait { since, ended })
            }
        }
    }

    fn store(&self, lease: &MemoryLease<K, V>, loaded: Loaded<V>) -> Fill {
        let (inner, Leased { key, hash, id, stamp, began, .. }) = (&*self.0, &*lease.0);
        if let Err(refused) = self.may_store(lease, loaded.as_of.as_ref(), &loaded.tags) {
            return refused;
        }
        let since = inner.since_epoch(*began);
        let cached = |value, as_of| Cached::new(value, as_of).began(*began);
        let ages = (&inner.ages, chance(*hash, since));
        let stored = Arc::new(Stored::new(*stamp, loaded, cached, since, ages));
        inner.values.insert(key.clone(), Arc::clone(&stored));
        // Expired meanwhile, perhaps before there was something to expire.
        if !inner.leases.begin_fill(key, *hash, *id) {
            stored.expire();
            return Fill::Revoked;
        }
        // Whatever was invalidated up to here, the stamp keeps readers away from the value.
        if inner.holds(&stored) { Fill::Stored } else { Fill::Revoked }
    }

    /// Says whether the lease is good for such a value, and keeps it so.
    pub(super) fn may_store(
        &self,
        lease: &MemoryLease<K, V>,
        as_of: Option<&Position>,
        tags: &[Tag],
    ) -> Result<(), Fill> {
        let (inner, Leased { key, hash, id, stamp, began, .. }) = (&*self.0, &*lease.0);
        inner.stamps.admits(*stamp, *began, as_of, tags)?;
        let current = inner.stamps.is_current(*stamp) && inner.stamps.are_current(tags, *stamp);
        if current && inner.leases.begin_fill(key, *hash, *id) {
            return Ok(());
        }
        Err(Fill::Revoked)
    }

    pub(super) fn forget(&self, key: &K, position: Option<&Position>) {
        let inner = &*self.0;
        let hash = inner.hasher.hash_one(key);
        if let Some(position) = position {
            inner.stamps.raise(inner.stamps.under(hash), position);
        }
        inner.stamps.move_on(hash);
        inner.leases.revoke(key, hash);
        drop(inner.values.remove(key));
    }

    fn sweep(&self, under: Under, position: Option<&Position>) {
        if let Some(position) = position {
            self.0.stamps.raise(under, position);
        }
        self.0.stamps.sweep(under);
    }
}

impl<K: Clone + Eq + Hash, V> MemoryLease<K, V> {
    pub(super) fn is_exclusive(&self) -> bool {
        self.0.id.is_recorded()
    }

    /// Says whether the key was not invalidated since.
    pub(super) fn is_current(&self) -> bool {
        self.0.cache.0.stamps.is_current(self.0.stamp)
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Inner<K, V> {
    /// Reads a value that may be used as far as invalidations go.
    #[inline]
    fn read(&self, key: &K) -> Option<Arc<Stored<V>>> {
        self.values.get(key).filter(|stored| self.holds(stored))
    }

    #[inline]
    fn holds(&self, stored: &Stored<V>) -> bool {
        self.stamps.is_current(stored.stamp)
            && (stored.tags.is_empty() || self.stamps.are_current(&stored.tags, stored.stamp))
    }

    fn now(&self) -> SinceEpoch {
        self.since_epoch(Instant::now())
    }

    fn since_epoch(&self, moment: Instant) -> SinceEpoch {
        nanos(moment.saturating_duration_since(self.epoch))
    }
}

impl<K, V> Cache<K, V> for MemoryCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
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

    async fn expire(&self, key: &K) {
        // First: a load that runs must not store over it what began before.
        self.0.leases.revoke(key, self.0.hasher.hash_one(key));
        if let Some(stored) = self.0.values.get(key) {
            stored.expire();
        }
    }

    fn is_exclusive(&self, lease: &Self::Lease) -> bool {
        lease.is_exclusive()
    }

    fn held_since(&self, wait: &MemoryWait) -> Option<Instant> {
        Some(wait.since())
    }

    async fn last(&self, key: &K) -> Option<Cached<V>> {
        self.0.read(key).map(|stored| stored.cached.clone())
    }
}

impl<K, V> Sweep<K, V> for MemoryCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn invalidate_tag(&self, tag: Tag, position: Option<&Position>) {
        self.sweep(Under::tag(tag), position);
    }

    async fn invalidate_all(&self, position: Option<&Position>) {
        self.sweep(Under::Everything, position);
    }
}

/// Between -1 and 1, as good as at random: it differs from key to key and from load to load.
fn chance(hash: u64, began: SinceEpoch) -> f64 {
    let mixed = (hash ^ began.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // 31 bits: exact in an f64.
    f64::from((mixed >> 33) as u32) / f64::from(1_u32 << 30) - 1.0
}

impl<K: Clone + Eq + Hash, V> Drop for Leased<K, V> {
    fn drop(&mut self) {
        self.cache.0.leases.release(&self.key, self.hash, self.id);
    }
}

impl MemoryWait {
    pub(super) fn since(&self) -> Instant {
        self.since
    }
}

impl Future for MemoryWait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.as_mut().poll(cx)
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
