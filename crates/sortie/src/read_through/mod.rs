//! Read-through: a cache, and behind it one flight per key, and behind that a loader.
//!
//! # Invariants
//!
//! 1. When `invalidate` has returned, no load that began before it was called is joined by a
//!    later `get`, stored, or read from the cache.
//! 2. A miss loads through the flight table, whoever holds the cache's lease. Only the flight
//!    waits for somebody else's lease, and never longer than `pending_max`.
//! 3. A stale value is served at once; its refresh is a flight like any other, so a miss joins it.
//! 4. A value that the cache refuses is still given to those who waited for it.

use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, TryFutureExt};
use parking_lot::Mutex;
use tracing::{Instrument, debug, debug_span};

use crate::rt::time::{Instant, timeout_at};
use crate::{
    Cache, Call, Fill, FlightError, Idle, Loaded, Lookup, MemoryCache, Position, SingleFlight,
};

/// A choice, not a measurement: longer than an ordinary load and than the lease of a process that
/// died, shorter than a caller's patience.
const PENDING_MAX: Duration = Duration::from_secs(3);

/// How often it looks again meanwhile: each time a lease was given back without a value.
const LOOKS_MAX: usize = 8;

/// How long a load runs on that nobody waits for any more, a refresh for example.
const LINGER_MAX: Duration = Duration::from_secs(10);

/// Values by key, from a cache or else from a loader that concurrent callers share.
///
/// A cheap handle: clones share the cache and the flights.
///
/// # Examples
///
/// ```
/// use sortie::{FlightError, MemoryCache, ReadThrough};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), FlightError<std::io::Error>> {
/// let balances = ReadThrough::new(MemoryCache::new(10_000), |user: u64| async move {
///     Ok(user * 100) // Ask the database here.
/// });
/// assert_eq!(balances.get(&42).await?, 4_200);
/// balances.invalidate(&42).await; // After the write, before it is acknowledged.
/// # Ok(())
/// # }
/// ```
pub struct ReadThrough<K, V, E, C = MemoryCache<K, V>> {
    source: Arc<Source<K, V, E, C>>,
    flights: SingleFlight<K, V, E>,
    pending_max: Duration,
}

type BoxLoad<V, E> = Pin<Box<dyn Future<Output = Result<Loaded<V>, E>> + Send>>;

struct Source<K, V, E, C> {
    cache: C,
    load: Box<dyn Fn(K) -> BoxLoad<V, E> + Send + Sync>,
    holds: PhantomData<fn() -> V>,
}

/// What a caller's own look at the cache left it with: for its flight, if it leads one.
enum Seed<L, W> {
    Lease(L),
    Wait(W),
}

impl<K, V, E, C> ReadThrough<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    C: Cache<K, V> + 'static,
    C::Lease: 'static,
    C::Wait: 'static,
{
    /// Puts `cache` in front of `load`.
    ///
    /// Its flights linger 10 s when their callers have left, so that a value that was paid for is
    /// kept; [`with_flights`](Self::with_flights) gives it others.
    pub fn new<F, Fut>(cache: C, load: F) -> Self
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<V, E>> + Send + 'static,
    {
        Self::positioned(cache, move |key| load(key).map_ok(Loaded::from))
    }

    /// As [`new`](Self::new), for a `load` that says up to where the replica that answered had
    /// replayed, so that its answers may be stored soon after an
    /// [`invalidate_at`](Self::invalidate_at).
    pub fn positioned<F, Fut>(cache: C, load: F) -> Self
    where
        F: Fn(K) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Loaded<V>, E>> + Send + 'static,
    {
        let load = Box::new(move |key| -> BoxLoad<V, E> { Box::pin(load(key)) });
        let flights = SingleFlight::builder().idle(Idle::Linger(LINGER_MAX)).build();
        let source = Arc::new(Source { cache, load, holds: PhantomData });
        Self { source, flights, pending_max: PENDING_MAX }
    }

    /// Loads through `flights` from now on. A stale value is only refreshed if they may go on
    /// without callers: under [`Idle::Abort`] a refresh ends where it first waits.
    #[must_use]
    pub fn with_flights(mut self, flights: SingleFlight<K, V, E>) -> Self {
        self.flights = flights;
        self
    }

    /// How long a flight waits for a lease that somebody else holds, in another process perhaps,
    /// before it loads without one; such a load is served and not stored. Default: 3 s.
    #[must_use]
    pub fn pending_max(mut self, pending_max: Duration) -> Self {
        self.pending_max = pending_max;
        self
    }

    /// Returns the value of `key`: from the cache, from a flight that runs, or from the loader.
    ///
    /// A stale value is returned at once, and the first caller that finds it stale begins one
    /// refresh.
    ///
    /// # Errors
    ///
    /// [`FlightError`], when the value is not cached and its load gives none.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: whoever else waits for the load is not affected, and the load goes on for
    /// those, or as long as the flights linger.
    pub async fn get(&self, key: &K) -> Result<V, FlightError<E>> {
        let seed = match self.source.cache.get(key).await {
            Lookup::Hit(cached) | Lookup::Stale(cached, None) => return Ok(cached.value),
            Lookup::Stale(cached, Some(lease)) => {
                // One poll begins the flight, or joins it; from there it is its own task's.
                let refresh = self.fly(key, Seed::Lease(lease)).now_or_never();
                return Ok(refresh.and_then(Result::ok).unwrap_or(cached.value));
            }
            Lookup::Miss(lease) => Seed::Lease(lease),
            Lookup::Pending(wait) => Seed::Wait(wait),
        };
        self.fly(key, seed).await
    }

    /// Forgets the value of `key`. To be called after the write was committed and before it is
    /// acknowledged: once this has returned, no `get` gives a value from a load begun earlier.
    ///
    /// # Cancel safety
    ///
    /// To be awaited to its end: dropped earlier, the cache may still hold the value.
    pub async fn invalidate(&self, key: &K) {
        self.source.cache.invalidate(key).await;
        // Last: a flight of before may have found the old value in the cache until just now.
        self.flights.forget(key);
    }

    /// As [`invalidate`](Self::invalidate), and keeps answers out of the cache that were read from
    /// a replica which had not replayed the write at `position`. Those who ask meanwhile may be
    /// served such an answer: to serve none, read where the write was made.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_at(&self, key: &K, position: &Position) {
        self.source.cache.invalidate_at(key, position).await;
        self.flights.forget(key);
    }

    /// The flights of this read-through, for their counters.
    pub fn flights(&self) -> &SingleFlight<K, V, E> {
        &self.flights
    }

    /// Boxed: a hit, which is the common case, must not carry room for a flight.
    fn fly(
        &self,
        key: &K,
        seed: Seed<C::Lease, C::Wait>,
    ) -> Pin<Box<dyn Future<Output = Result<V, FlightError<E>>> + Send>> {
        // The flight's load may be called again, by a successor: it looks for a lease itself then.
        let (source, wanted) = (Arc::clone(&self.source), key.clone());
        let seed = Mutex::new(Some(seed));
        let (flights, key, pending_max) = (self.flights.clone(), key.clone(), self.pending_max);
        Box::pin(async move {
            let load = move |_cx| {
                let (source, key, seed) = (Arc::clone(&source), wanted.clone(), seed.lock().take());
                async move { source.load(key, seed, pending_max).await }
                    .instrument(debug_span!("load"))
            };
            flights.run_with(key, Call::new(), load).await.map(|landed| landed.value)
        })
    }
}

impl<K, V, E, C> Source<K, V, E, C>
where
    K: Send + Sync + Clone,
    V: Send + Clone,
    C: Cache<K, V>,
{
    async fn load(
        &self,
        key: K,
        seed: Option<Seed<C::Lease, C::Wait>>,
        pending_max: Duration,
    ) -> Result<V, E> {
        let lease = match self.lease(&key, seed, pending_max).await {
            Ok(lease) => lease,
            Err(found) => return Ok(found),
        };
        let loaded = (self.load)(key).await?;
        let value = loaded.value.clone();
        if let Some(lease) = lease {
            let fill = self.cache.fill(lease, loaded).await;
            if fill != Fill::Stored {
                debug!(reason = ?fill, "a loaded value was served and not stored");
            }
        }
        Ok(value)
    }

    /// Gets the lease, or the value if somebody has stored it meanwhile; neither if somebody else
    /// holds the lease for too long.
    async fn lease(
        &self,
        key: &K,
        seed: Option<Seed<C::Lease, C::Wait>>,
        pending_max: Duration,
    ) -> Result<Option<C::Lease>, V> {
        let give_up = Instant::now() + pending_max;
        let mut wait = match seed {
            Some(Seed::Lease(lease)) => return Ok(Some(lease)),
            Some(Seed::Wait(wait)) => Some(wait),
            None => None,
        };
        for _look in 0..LOOKS_MAX {
            if let Some(wait) = wait.take()
                && timeout_at(give_up, wait).await.is_err()
            {
                break;
            }
            match self.cache.get(key).await {
                Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) => return Ok(Some(lease)),
                Lookup::Hit(cached) | Lookup::Stale(cached, None) => return Err(cached.value),
                Lookup::Pending(next) => wait = Some(next),
            }
        }
        debug!("somebody else holds the lease for too long: loading without it");
        Ok(None)
    }
}

impl<K, V, E, C> Clone for ReadThrough<K, V, E, C> {
    fn clone(&self) -> Self {
        let (source, flights) = (Arc::clone(&self.source), self.flights.clone());
        Self { source, flights, pending_max: self.pending_max }
    }
}

impl<K, V, E, C: fmt::Debug> fmt::Debug for ReadThrough<K, V, E, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough")
            .field("cache", &self.source.cache)
            .field("flights", &self.flights)
            .finish_non_exhaustive()
    }
}
