//! How a cache is made.

use std::error::Error as StdError;
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use redis::{ConnectionInfo, IntoConnectionInfo, RedisError};

use crate::RedisCache;
use crate::codec::Codec;
use crate::link::{Link, Target};
use crate::names::Names;
use crate::settings::Settings;
use crate::steps::Steps;

/// Settings for a [`RedisCache`]; see [`RedisCache::builder`].
#[must_use = "a builder makes nothing until `open` is called"]
pub struct RedisCacheBuilder<K, V> {
    name: String,
    codec: Arc<dyn Codec<K, V>>,
    settings: Settings,
}

/// An address of Redis can't be read.
#[derive(Debug)]
pub struct AddressError(Cause);

#[derive(Debug)]
enum Cause {
    Url(RedisError),
    None,
}

impl<K, V> RedisCacheBuilder<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(name: &str, codec: impl Codec<K, V>) -> Self {
        Self { name: name.to_owned(), codec: Arc::new(codec), settings: Settings::default() }
    }

    /// The age past which a value is stale: still used, and loaded anew. Counted from the begin of
    /// its load, and a tenth longer or shorter at random. Default: never.
    pub fn soft_ttl(mut self, soft_ttl: Duration) -> Self {
        self.settings.soft_ttl = Some(soft_ttl);
        self
    }

    /// The age past which a value is not used any more; counted as the soft one. Redis forgets it
    /// then. Default: one hour.
    pub fn hard_ttl(mut self, hard_ttl: Duration) -> Self {
        self.settings.hard_ttl = hard_ttl;
        self
    }

    /// For how long past its hard age Redis keeps a value, so that it can be given
    /// [instead of an error](sortie::ReadThrough::stale_if_error). Default: 0.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.settings.keep = keep;
        self
    }

    /// How eagerly a value is refreshed before it is stale, in the times its load takes: at 1, the
    /// default, one reader among all processes begins about one load time early. At 0 nobody does.
    pub fn early(mut self, early: f64) -> Self {
        self.settings.early = if early.is_finite() { early.max(0.0) } else { 0.0 };
        self
    }

    /// How long after an `invalidate_at` nothing is stored that can't be compared with its
    /// position. It should exceed the replicas' lag. Default: 1 s.
    pub fn cooling(mut self, cooling: Duration) -> Self {
        self.settings.cooling = cooling;
        self
    }

    /// How long the position of an `invalidate_at` is kept: longer than a replica ever lags and a
    /// load ever lasts. Default: 10 min.
    pub fn floor_ttl(mut self, floor_ttl: Duration) -> Self {
        self.settings.floor_ttl = floor_ttl;
        self
    }

    /// For how long a lease holds without being renewed: so long others wait for a process that
    /// died. It is renewed three times as often. Default: 1 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.settings.lease = lease.max(Duration::from_millis(10));
        self
    }

    /// How old a lease becomes at most: so long others wait for a load that hangs. Default: 5 s,
    /// the soft age of a [`SingleFlight`](sortie::SingleFlight).
    pub fn lease_max(mut self, lease_max: Duration) -> Self {
        self.settings.lease_max = lease_max;
        self
    }

    /// How long one step waits for Redis. Default: 100 ms.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = timeout;
        self
    }

    /// Keeps up to `local_max` values in this process too. Default: 0, none.
    ///
    /// An invalidation by this process holds for them at once. One by another process does when
    /// its notice arrives, ordinarily within a round trip, and in any case within
    /// [`local_bound`](Self::local_bound).
    pub fn local_max(mut self, local_max: usize) -> Self {
        self.settings.local_max = local_max;
        self
    }

    /// For how long a value in this process may be used after another process has invalidated it,
    /// whatever becomes of the notice; and for how long after its load while Redis is away.
    /// Default: 1 s.
    pub fn local_bound(mut self, local_bound: Duration) -> Self {
        self.settings.local_bound = local_bound;
        self
    }

    /// How many keys' invalidations are kept while Redis is away; over it everything is invalidated
    /// when Redis is back. Default: 10,000.
    pub fn owed_max(mut self, owed_max: usize) -> Self {
        self.settings.owed_max = owed_max;
        self
    }

    /// Opens the cache on one server, e.g. `redis://127.0.0.1:6379/`. The server need not be
    /// there yet.
    ///
    /// # Errors
    ///
    /// [`AddressError`], when the URL is none.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime: the cache's tasks run there until its last clone is dropped.
    pub fn open(self, url: &str) -> Result<RedisCache<K, V>, AddressError> {
        let target = Target::Node(address(url)?);
        Ok(self.open_at(target))
    }

    /// Opens the cache on a cluster of which these servers are known.
    ///
    /// # Errors
    ///
    /// [`AddressError`], when a URL is none, or there is none.
    ///
    /// # Panics
    ///
    /// As [`open`](Self::open).
    pub fn open_cluster<U: AsRef<str>>(
        self,
        urls: impl IntoIterator<Item = U>,
    ) -> Result<RedisCache<K, V>, AddressError> {
        let seeds: Result<Vec<_>, _> = urls.into_iter().map(|url| address(url.as_ref())).collect();
        let seeds = seeds?;
        if seeds.is_empty() {
            return Err(AddressError(Cause::None));
        }
        Ok(self.open_at(Target::Cluster(seeds)))
    }

    fn open_at(self, target: Target) -> RedisCache<K, V> {
        let link = Link::new(target, self.settings.timeout);
        let local_max = self.settings.local_max;
        let steps = Steps::new(link, Names::new(&self.name), self.settings);
        RedisCache::start(steps, self.codec, local_max)
    }
}

fn address(url: &str) -> Result<ConnectionInfo, AddressError> {
    url.into_connection_info().map_err(|error| AddressError(Cause::Url(error)))
}

impl StdError for AddressError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Cause::Url(error) => Some(error),
            Cause::None => None,
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Cause::Url(_) => "an address of Redis can't be read",
            Cause::None => "a cluster needs the address of at least one server",
        })
    }
}

impl<K, V> fmt::Debug for RedisCacheBuilder<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCacheBuilder")
            .field("name", &self.name)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}
