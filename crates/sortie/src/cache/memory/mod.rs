//! The cache of one process.

mod builder;
mod stored;

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hashbrown::DefaultHashBuilder;
use quick_cache::sync::{Cache as QuickCache, EntryAction, EntryResult};

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
/// Each reader clones the value, under a lock that writers of other keys may wait for: what is dear
/// to clone belongs into an `Arc`, and a clone must not call the cache.
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
    values: QuickCache<K, Stored<V>, Weigh<K, V>, DefaultHashBuilder>,
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

    fn look_up(&self, key: &K) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        match self.0.values.get(key) {
            Some(stored) if self.0.serves(&stored) => Lookup::Hit(stored.cached()),
            Some(stored) if self.0.holds(stored.stamp, stored.tags.as_slice()) => {
                self.aged(key, stored)
            }
            _ => self.miss(key),
        }
    }

    // The paths that are not a hit are kept out of its way.
    #[cold]
    fn aged(&self, key: &K, stored: Stored<V>) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        let now = self.0.now();
        match stored.age(now) {
            Age::Early if self.0.change(key, |stored| stored.is_first(now)) == Some(true) => {
                match self.lease(key) {
                    Ok(lease) => Lookup::Early(stored.cached(), lease),
                    Err(_held) => Lookup::Hit(stored.cached()),
                }
            }
            Age::Fresh | Age::Early => Lookup::Hit(stored.cached()),
            Age::Soft => Lookup::Stale(stored.cached(), self.lease(key).ok()),
            Age::Hard => self.miss(key),
        }
    }

    #[cold]
    fn miss(&self, key: &K) -> Lookup<V, MemoryLease<K, V>, MemoryWait> {
        let lease = match self.lease(key) {
            Ok(lease) => lease,
            Err(wait) => return Lookup::Pending(wait),
        };
        // The last holder may have stored a value since this caller looked.
        match self.0.values.get(key) {
            Some(stored) if self.0.serves(&stored) => Lookup::Hit(stored.cached()),
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
        let ages = (&inner.ages, chance(*hash, since));
        let mut stored = Stored::new(*stamp, loaded, (*began, since), ages);
        let (tags, ages) = (stored.tags.clone(), stored.waits());
        inner.values.insert(key.clone(), stored);
        // It may be read once the lease is known to be good while it lies there: whoever expires
        // the key has revoked that before, or finds the value after. What is gone was evicted.
        let good = inner.leases.begin_fill(key, *hash, *id)
            && inner.change(key, |stored| stored.begins(ages)) != Some(false);
        // Whatever was invalidated up to here, the stamp keeps readers away from the value.
        if good && inner.holds(*stamp, tags.as_slice()) { Fill::Stored } else { Fill::Revoked }
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
        if inner.holds(*stamp, tags) && inner.leases.begin_fill(key, *hash, *id) {
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
    /// Says whether the value may be given, and needs no closer look.
    #[inline]
    fn serves(&self, stored: &Stored<V>) -> bool {
        self.holds(stored.stamp, stored.tags.as_slice()) && stored.is_fresh(|| self.now())
    }

    /// Says whether a value may be used as far as invalidations go.
    #[inline]
    fn holds(&self, stamp: Stamp, tags: &[Tag]) -> bool {
        self.stamps.is_current(stamp) && (tags.is_empty() || self.stamps.are_current(tags, stamp))
    }

    fn expire(&self, key: &K) {
        self.change(key, Stored::expire);
    }

    /// Changes what is stored under the key, if anything is.
    fn change<T>(&self, key: &K, change: impl FnOnce(&mut Stored<V>) -> T) -> Option<T> {
        let stored = |_: &K, stored: &mut Stored<V>| EntryAction::Retain(change(stored));
        // Nobody else loads through this table: there is nothing to wait for.
        match self.values.entry(key, Some(Duration::ZERO), stored) {
            EntryResult::Retained(changed) => Some(changed),
            _ => None,
        }
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

    async fn get(&self, key: &K) -> Lookup<V, Self::Lease, Self::Wait> {
        self.look_up(key)
    }

    #[inline]
    fn at_hand(&self, key: &K) -> Option<V> {
        // Looked at without being moved: that costs more than the lookup.
        let found = self.0.values.get(key);
        if !found.as_ref().is_some_and(|stored| self.0.serves(stored)) {
            return None;
        }
        found.map(|stored| stored.value)
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
        self.0.expire(key);
    }

    fn is_exclusive(&self, lease: &Self::Lease) -> bool {
        lease.is_exclusive()
    }

    fn held_since(&self, wait: &MemoryWait) -> Option<Instant> {
        Some(wait.since())
    }

    async fn last(&self, key: &K) -> Option<Cached<V>> {
        let stored = self.0.values.get(key)?;
        self.0.holds(stored.stamp, stored.tags.as_slice()).then(|| stored.cached())
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
