//! A client that only knows get and set, as a [`Cache`].

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use super::{Cache, Cached, Fill, Loaded, Lookup, MemoryCache, MemoryLease, MemoryWait};
use crate::Position;
use crate::rt::time::Instant;

/// A client of some store that knows no leases. What fails is a miss, or does nothing; its own
/// timeouts are its own.
pub trait GetSet<K, V>: Send + Sync {
    /// The value of `key`, if there is one.
    fn get(&self, key: &K) -> impl Future<Output = Option<V>> + Send;

    /// Stores a value.
    fn set(&self, key: &K, value: V) -> impl Future<Output = ()> + Send;

    /// Removes a value.
    fn delete(&self, key: &K) -> impl Future<Output = ()> + Send;
}

/// A [`GetSet`] client as a [`Cache`]: leases are this process's.
///
/// The guarantee is weaker than that of a cache which knows leases itself. Within this process no
/// load begun before an invalidation is stored after it, except while a `set` is on its way: that
/// is waited for and deleted again, but in between it can be read. What **another process** loaded
/// before this one's invalidation may be stored after it; only the store's own expiry ends that.
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
}

/// The right to fill one key of a [`GetSetCache`], in this process.
pub struct GetSetLease<K: Clone + Eq + Hash> {
    key: K,
    lease: MemoryLease<K, ()>,
}

impl<K: Clone + Eq + Hash, G> GetSetCache<K, G> {
    /// Wraps the client.
    pub fn new(client: G) -> Self {
        Self(Arc::new(Inner { client, leases: MemoryCache::new(KEYS) }))
    }
}

/// What the leases' stamps are made for; more keys cost misses.
const KEYS: usize = 10_000;

impl<K, V, G> Cache<K, V> for GetSetCache<K, G>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send,
    G: GetSet<K, V>,
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
        let GetSetLease { key, lease } = lease;
        let may = self.0.leases.may_store(&lease, loaded.as_of.as_ref(), &loaded.tags);
        if let Err(refused) = may {
            return refused;
        }
        self.0.client.set(&key, loaded.value).await;
        // Invalidated meanwhile: the delete may have come before the set.
        if lease.is_current() {
            return Fill::Stored;
        }
        self.0.client.delete(&key).await;
        Fill::Revoked
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
