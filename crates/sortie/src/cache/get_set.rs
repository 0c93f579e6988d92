//! A client that only knows get and set, as a [`Cache`].

use std::fmt;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

use super::{Cache, Cached, Fill, Loaded, Lookup, MemoryCache, MemoryLease, MemoryWait};
use crate::Position;
use crate::rt::time::Instant;

/// A client of some store that knows no leases. What fails is a miss, or does nothing; its own
/// timeouts are its own.
pub trait GetSet<K, V>: Send + Sync {
    /// The value of `key`, if there is one.
    fn get(&self, key: &K) -> impl Future<Output = Option<V>> + Send;

    /// Stores a value. Once begun it is awaited to its end, whoever leaves meanwhile.
    fn set(&self, key: &K, value: V) -> impl Future<Output = ()> + Send;

    /// Removes a value.
    fn delete(&self, key: &K) -> impl Future<Output = ()> + Send;
}

/// A [`GetSet`] client as a [`Cache`]: leases are this process's.
///
/// The guarantee is weaker than that of a cache which knows leases itself. Within this process no
/// load begun before an invalidation is stored after it, except while a `set` is on its way: that
/// is waited for, by a task of the cache if its caller leaves, and deleted again, but in between it
/// can be read. Only a runtime that is shut down meanwhile keeps it from that. What **another
/// process** loaded before this one's invalidation may be stored after it; only the store's own
/// expiry ends that.
/// Ages are the store's: it says for how long it keeps a value.
///
/// # Examples
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
///
/// use sortie::{GetSet, GetSetCache, ReadThrough};
///
/// struct Client(Mutex<HashMap<u64, i64>>);
///
/// impl GetSet<u64, i64> for Client {
///     async fn get(&self, key: &u64) -> Option<i64> {
///         self.0.lock().unwrap().get(key).copied()
///     }
///
///     async fn set(&self, key: &u64, value: i64) {
///         self.0.lock().unwrap().insert(*key, value);
///     }
///
///     async fn delete(&self, key: &u64) {
///         self.0.lock().unwrap().remove(key);
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), sortie::FlightError<std::io::Error>> {
/// let cache = GetSetCache::new(Client(Mutex::default()));
/// let balances = ReadThrough::new(cache, |user: u64| async move { Ok(user as i64 * 100) });
/// assert_eq!(balances.get(&42).await?, 4_200);
/// # Ok(())
/// # }
/// ```
pub struct GetSetCache<K, G>(Arc<Inner<K, G>>);

struct Inner<K, G> {
    client: G,
    /// Holds no values: only its leases, stamps and floors are used.
    leases: MemoryCache<K, ()>,
    /// For each `set` on its way.
    ways: Arc<Semaphore>,
    /// Those whose callers have left.
    left: Mutex<JoinSet<Fill>>,
}

/// The right to fill one key of a [`GetSetCache`], in this process.
pub struct GetSetLease<K: Clone + Eq + Hash> {
    key: K,
    lease: MemoryLease<K, ()>,
}

impl<K: Clone + Eq + Hash, G> GetSetCache<K, G> {
    /// Wraps the client.
    pub fn new(client: G) -> Self {
        Self(Arc::new(Inner {
            client,
            leases: MemoryCache::new(KEYS),
            ways: Arc::new(Semaphore::new(SETS_MAX)),
            left: Mutex::default(),
        }))
    }
}

/// What the leases' stamps are made for; more keys cost misses.
const KEYS: usize = 10_000;

/// How many values may be on their way to the store at once. Beyond it a value is not stored.
const SETS_MAX: usize = 1_024;

impl<K: Clone + Eq + Hash, G> Inner<K, G> {
    /// Holds the lease until all is done: nobody stores what a late `set` would overwrite.
    async fn set<V>(&self, lease: GetSetLease<K>, value: V, _way: OwnedSemaphorePermit) -> Fill
    where
        G: GetSet<K, V>,
    {
        let GetSetLease { key, lease } = &lease;
        self.client.set(key, value).await;
        // Invalidated meanwhile: the delete may have come before the set.
        if lease.is_current() {
            return Fill::Stored;
        }
        self.client.delete(key).await;
        Fill::Revoked
    }
}

/// A `set` that goes on without its caller.
struct Setting<'c, K, G> {
    inner: &'c Inner<K, G>,
    set: Option<Pin<Box<dyn Future<Output = Fill> + Send>>>,
}

impl<K, G> Future for Setting<'_, K, G> {
    type Output = Fill;

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Fill> {
        let Some(set) = &mut self.set else { return Poll::Pending };
        let done = set.as_mut().poll(task);
        if done.is_ready() {
            self.set = None;
        }
        done
    }
}

impl<K, G> Drop for Setting<'_, K, G> {
    fn drop(&mut self) {
        // What was sent may arrive though nobody waits for it.
        if let (Some(set), Ok(runtime)) = (self.set.take(), Handle::try_current()) {
            let mut left = self.inner.left.lock();
            while left.try_join_next().is_some() {}
            left.spawn_on(set, &runtime);
        }
    }
}

impl<K, V, G> Cache<K, V> for GetSetCache<K, G>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + 'static,
    G: GetSet<K, V> + 'static,
{
    type Lease = GetSetLease<K>;
    type Wait = MemoryWait;

    async fn get(&self, key: &K) -> Lookup<V, Self::Lease, Self::Wait> {
        if let Some(value) = self.0.client.get(key).await {
            return Lookup::Hit(Cached::new(value, None));
        }
        match self.0.leases.lease(key) {
            Ok(lease) => Lookup::Miss(GetSetLease { key: key.clone(), lease }),
            Err(wait) => Lookup::Pending(wait),
        }
    }

    async fn fill(&self, lease: Self::Lease, loaded: Loaded<V>) -> Fill {
        let may = self.0.leases.may_store(&lease.lease, loaded.as_of.as_ref(), &loaded.tags);
        if let Err(refused) = may {
            return refused;
        }
        let Ok(way) = Arc::clone(&self.0.ways).try_acquire_owned() else { return Fill::Away };
        let inner = Arc::clone(&self.0);
        let set = Box::pin(async move { inner.set(lease, loaded.value, way).await });
        Setting { inner: &self.0, set: Some(set) }.await
    }

    async fn invalidate(&self, key: &K) {
        self.0.leases.forget(key, None);
        self.0.client.delete(key).await;
    }

    async fn invalidate_at(&self, key: &K, position: &Position) {
        self.0.leases.forget(key, Some(position));
        self.0.client.delete(key).await;
    }

    fn is_exclusive(&self, lease: &Self::Lease) -> bool {
        lease.lease.is_exclusive()
    }

    fn held_since(&self, wait: &MemoryWait) -> Option<Instant> {
        Some(wait.since())
    }
}

impl<K, G> Clone for GetSetCache<K, G> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, G: fmt::Debug> fmt::Debug for GetSetCache<K, G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GetSetCache").field(&self.0.client).finish()
    }
}

impl<K: Clone + Eq + Hash> fmt::Debug for GetSetLease<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GetSetLease").field(&self.lease).finish()
    }
}
