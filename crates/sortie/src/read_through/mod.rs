//! Read-through: a cache, and behind it one flight per key, and behind that a loader.
//!
//! # Invariants
//!
//! 1. When `invalidate` has returned, no load that began before it was called is joined by a
//!    later `get`, stored, or read from the cache.
//!    Also when somebody else invalidates who shares the cache only: a flight that may have lost
//!    its lease is not believed by callers who came later.
//! 2. A miss loads through the flight table, whoever holds the cache's lease. Only the flight
//!    waits for somebody else's lease, and never longer than `pending_max`.
//! 3. A stale value is served at once; its refresh is a flight like any other, so a miss joins it.
//! 4. A failed load is answered with an older value only if its owner asked for that, and never
//!    with one that was invalidated.
//! 5. A value that the cache refuses is still given to those who waited for it.

mod backoff;
mod get;
mod many;
mod read;
mod source;

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::TryFutureExt;

use self::backoff::{Backoff, Pauses};
use self::read::Want;
pub use self::read::{Answer, How, Read, Why};
use self::source::{BoxLoad, LoadMany, Negative, Policy, Source};
use crate::observe::Observer;
use crate::rt::time::Instant;
use crate::{
    Cache, Cached, FlightError, Idle, Loaded, MemoryCache, Position, SingleFlight, Sweep, Tag,
};

/// A choice, not a measurement: longer than an ordinary load and than the lease of a process that
/// died, shorter than a caller's patience.
const PENDING_MAX: Duration = Duration::from_secs(3);

/// Between attempts at a key whose loads fail, while an older value serves.
const PAUSES: Pauses =
    Pauses { first: Duration::from_millis(100), longest: Duration::from_secs(10) };

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
    flights: SingleFlight<K, Cached<V>, E>,
    policy: Arc<Policy<V>>,
    many: Option<Arc<LoadMany<K, V, E>>>,
    swept: Arc<Swept>,
}

/// When many keys were invalidated at once: no flight from before is joined after.
struct Swept {
    epoch: Instant,
    /// In nanoseconds after the epoch; 0 for never.
    at: AtomicU64,
}

impl<K, V, E, C> ReadThrough<K, V, E, C>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    E: Send + Sync + 'static,
    C: Cache<K, V> + 'static,
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
        let load = Box::new(move |key| -> BoxLoad<Loaded<V>, E> { Box::pin(load(key)) });
        let flights = SingleFlight::builder().idle(Idle::Linger(LINGER_MAX)).build();
        let policy = Policy {
            pending_max: PENDING_MAX,
            stale_if_error: None,
            pauses: PAUSES,
            negative: None,
            observer: None,
        };
        Self {
            source: Arc::new(Source { cache, load, backoff: Backoff::new() }),
            flights,
            policy: Arc::new(policy),
            many: None,
            swept: Arc::new(Swept { epoch: Instant::now(), at: AtomicU64::new(0) }),
        }
    }

    /// Loads through `flights` from now on. A stale value is only refreshed if they may go on
    /// without callers: under [`Idle::Abort`] a refresh ends where it first waits.
    #[must_use]
    pub fn with_flights(mut self, flights: SingleFlight<K, Cached<V>, E>) -> Self {
        self.flights = flights;
        self
    }

    /// How long a flight waits for a lease that somebody else holds, in another process perhaps,
    /// before it loads without one; such a load is served and not stored. Default: 3 s.
    #[must_use]
    pub fn pending_max(mut self, pending_max: Duration) -> Self {
        Arc::make_mut(&mut self.policy).pending_max = pending_max;
        self
    }

    /// Loads what [`get_many`](Self::get_many) misses with one call. `load` is given keys, each
    /// once, and returns what it has, in any order.
    #[must_use]
    pub fn batched<F, Fut>(mut self, load: F) -> Self
    where
        F: Fn(Vec<K>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(K, Loaded<V>)>, E>> + Send + 'static,
    {
        self.many = Some(Arc::new(move |keys| -> BoxLoad<_, E> { Box::pin(load(keys)) }));
        self
    }

    /// When a load fails or gives no answer in time, gives the value that was stored last instead
    /// of the error, if its own load began at most `max_age` ago and nothing has invalidated it.
    /// Meanwhile the key is tried again after 100 ms, and twice as long after each failure, up to
    /// 10 s. Default: an error is an error.
    #[must_use]
    pub fn stale_if_error(mut self, max_age: Duration) -> Self {
        Arc::make_mut(&mut self.policy).stale_if_error = Some(max_age);
        self
    }

    /// Keeps values that mean "there is nothing", e.g. `Option::is_none`, only for `ttl`. They are
    /// invalidated as all others are: whoever inserts the row invalidates its key.
    #[must_use]
    pub fn negative(
        mut self,
        ttl: Duration,
        is: impl Fn(&V) -> bool + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.policy).negative = Some(Negative { ttl, is: Arc::new(is) });
        self
    }

    /// Tells `observer` of each value that was served and not stored, or served stale, and why.
    /// Flights have [their own](crate::SingleFlightBuilder::observer).
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        Arc::make_mut(&mut self.policy).observer = Some(observer);
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
        match self.source.cache.at_hand(key) {
            Some(value) => Ok(value),
            None => self.beyond(key, Want::ANY).await.map(|answer| answer.value),
        }
    }

    /// As [`get`](Self::get), with this caller's own wishes, and told how the value was come by.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    ///
    /// # Cancel safety
    ///
    /// As [`get`](Self::get). A read that [bypasses](Read::bypass) everything is this future alone.
    pub async fn get_with(&self, key: &K, read: Read) -> Result<Answer<V>, FlightError<E>> {
        Box::pin(self.ask(key, read)).await
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

    /// Makes the value of `key` too old to be used: the next `get` loads it. Unlike one that was
    /// invalidated it may still be given [instead of an error](Self::stale_if_error).
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn expire(&self, key: &K) {
        self.source.cache.expire(key).await;
        self.flights.forget(key);
    }

    /// As [`invalidate`](Self::invalidate), for every value with this tag, in constant time; and
    /// as [`invalidate_at`](Self::invalidate_at), if there is a position.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_tag(&self, tag: Tag, position: Option<&Position>)
    where
        C: Sweep<K, V>,
    {
        self.source.cache.invalidate_tag(tag, position).await;
        self.swept.now();
    }

    /// As [`invalidate_tag`](Self::invalidate_tag), for every value.
    ///
    /// # Cancel safety
    ///
    /// As [`invalidate`](Self::invalidate).
    pub async fn invalidate_all(&self, position: Option<&Position>)
    where
        C: Sweep<K, V>,
    {
        self.source.cache.invalidate_all(position).await;
        self.swept.now();
    }

    /// The flights of this read-through, for their counters.
    pub fn flights(&self) -> &SingleFlight<K, Cached<V>, E> {
        &self.flights
    }
}

impl Swept {
    fn now(&self) {
        let nanos = self.epoch.elapsed().as_nanos();
        // 584 years fit.
        self.at.fetch_max(u64::try_from(nanos).unwrap_or(u64::MAX).max(1), Ordering::AcqRel);
    }

    fn moment(&self) -> Option<Instant> {
        match self.at.load(Ordering::Acquire) {
            0 => None,
            nanos => self.epoch.checked_add(Duration::from_nanos(nanos)),
        }
    }
}

impl<K, V, E, C> Clone for ReadThrough<K, V, E, C> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            flights: self.flights.clone(),
            policy: Arc::clone(&self.policy),
            many: self.many.clone(),
            swept: Arc::clone(&self.swept),
        }
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
