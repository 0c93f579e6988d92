//! The cache that processes share.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use sortie::{Cache, Cached, Fill, Loaded, Lookup, Position, Sweep, Tag};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::builder::RedisCacheBuilder;
use crate::codec::Codec;
use crate::lease::{Leased, RedisLease, RedisWait};
use crate::link::Away;
use crate::local::Local;
use crate::names::Place;
use crate::notices;
use crate::shared::{self, Shared};
use crate::steps::{Found, Got, Kind, Meta, Steps, Token};

/// A [`Cache`] on Redis or Valkey that many processes share, and one lease per key among all of
/// them. Cheap to clone.
///
/// * **Every step is one script**, so what it does it does at once. A fill needs the token of its
///   lease; an invalidation takes the token away. So what was loaded before an invalidation is not
///   stored after it, whoever loads and whoever invalidates.
/// * **Those who wait** for another process's lease are woken by a notice, and look themselves now
///   and then. A lease is renewed while its load runs; that of a process that died ends soon.
/// * **In this process too**, if [asked for](RedisCacheBuilder::local_max): then a hit asks nobody.
///   An invalidation by another process reaches such a value within a known time.
/// * **Redis away**: nobody waits longer than one timeout. Look-ups are misses whose lease stores
///   nothing, here neither: which position an answer must have reached, only Redis knows. Copies
///   from before live on for the known time. Invalidations are kept and delivered when Redis is
///   back, and until then nothing is read from there that they concern. What *other* processes
///   read meanwhile, if Redis is there for them, this one can't help.
///
/// What Redis loses by a failover (its replication is asynchronous), invalidations included, is
/// lost here as well; the hard age bounds how long that shows.
///
/// # Examples
///
/// ```
/// use sortie::ReadThrough;
/// use sortie_redis::{Codec, RedisCache};
///
/// # struct Balances;
/// # impl Codec<u64, i64> for Balances {
/// #     fn key(&self, user: &u64) -> Vec<u8> { user.to_be_bytes().to_vec() }
/// #     fn encode(&self, balance: &i64) -> Vec<u8> { balance.to_be_bytes().to_vec() }
/// #     fn decode(&self, bytes: &[u8]) -> Option<i64> {
/// #         Some(i64::from_be_bytes(bytes.try_into().ok()?))
/// #     }
/// # }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache = RedisCache::builder("balances", Balances)
///     .local_max(10_000)
///     .open("redis://127.0.0.1:1/")?; // Nobody is there: reads go on from their source.
/// let balances = ReadThrough::new(cache, |user: u64| async move {
///     Ok::<_, std::io::Error>(i64::try_from(user).unwrap_or(0) * 100)
/// });
/// assert_eq!(balances.get(&42).await?, 4_200);
/// # Ok(())
/// # }
/// ```
pub struct RedisCache<K, V>(Arc<Inner<K, V>>);

/// What a [`RedisCache`] did so far, and what it owes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct RedisStats {
    /// Look-ups answered from this process's memory.
    pub local_hits: u64,
    /// Look-ups answered by Redis.
    pub hits: u64,
    /// Look-ups that were given a lease.
    pub misses: u64,
    /// Look-ups that found somebody else's lease.
    pub pending: u64,
    /// Look-ups that did without Redis, because it was away or is owed an invalidation.
    pub away: u64,
    /// Invalidations that Redis has not been told yet.
    pub owed: usize,
}

struct Inner<K, V> {
    shared: Arc<Shared>,
    codec: Arc<dyn Codec<K, V>>,
    local: Option<Local<K, V>>,
    /// End with the last handle.
    _tasks: JoinSet<()>,
}

impl<K, V> RedisCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Starts from the default settings. All processes that name the same cache on the same
    /// servers share it.
    pub fn builder(name: &str, codec: impl Codec<K, V>) -> RedisCacheBuilder<K, V> {
        RedisCacheBuilder::new(name, codec)
    }

    pub(crate) fn start(steps: Steps, codec: Arc<dyn Codec<K, V>>, local_max: usize) -> Self {
        let (shared, dropped) = Shared::new(steps);
        let mut tasks = JoinSet::new();
        tasks.spawn(shared::keep(Arc::clone(&shared)));
        tasks.spawn(shared::release(Arc::clone(&shared), dropped));
        tasks.spawn(notices::listen(Arc::clone(&shared)));
        let local = (local_max > 0).then(|| Local::new(local_max));
        Self(Arc::new(Inner { shared, codec, local, _tasks: tasks }))
    }

    /// Says whether Redis is there, as far as is known.
    pub fn is_there(&self) -> bool {
        self.0.shared.steps.link.is_there()
    }

    /// Counts what happened so far.
    pub fn stats(&self) -> RedisStats {
        let counts = &self.0.shared.counts;
        RedisStats {
            local_hits: counts.local_hits.load(Relaxed),
            hits: counts.hits.load(Relaxed),
            misses: counts.misses.load(Relaxed),
            pending: counts.pending.load(Relaxed),
            away: counts.away.load(Relaxed),
            owed: self.0.shared.owed.len(),
        }
    }

    async fn ask(&self, key: &K) -> Lookup<V, RedisLease<K>, RedisWait> {
        let shared = &self.0.shared;
        let place = Place::of(self.0.codec.key(key));
        let token = Token::new();
        // Made first: its stamp misses no invalidation that is owed from here on; and dropped while
        // Redis is asked, it gives the lease back that may be coming.
        let mut leased = Leased::new(Arc::clone(shared), place.clone(), Some(token.clone()));
        if shared.owed.blocks(place.bucket) {
            leased.token = None;
            return self.away(key, place);
        }
        let asked = leased.began;
        match shared.steps.get(&place, &token).await {
            Ok(Got::Miss) => {
                shared.counts.misses.fetch_add(1, Relaxed);
                Lookup::Miss(leased.hold(key.clone()))
            }
            Ok(Got::Pending(others, swept)) => {
                shared.counts.pending.fetch_add(1, Relaxed);
                leased.token = None;
                Lookup::Pending(RedisWait::new(Arc::clone(shared), place, others, swept))
            }
            Ok(Got::Found(found)) => self.found(key, found, leased, asked).await,
            Err(_away) => {
                drop(leased);
                self.away(key, place)
            }
        }
    }

    async fn found(
        &self,
        key: &K,
        found: Found,
        mut leased: Leased,
        asked: Instant,
    ) -> Lookup<V, RedisLease<K>, RedisWait> {
        let shared = &self.0.shared;
        let Some(value) = self.0.codec.decode(&found.value) else {
            // Nobody can use it; away: it stays, and everybody loads.
            shared.steps.invalidate(&leased.place, None).await.ok();
            leased.token = None;
            return Lookup::Miss(leased.hold(key.clone()));
        };
        shared.counts.hits.fetch_add(1, Relaxed);
        let began = asked.checked_sub(found.age).unwrap_or(asked);
        let cached = Cached::new(value, found.as_of).began(began);
        match found.kind {
            Kind::Refresh => return Lookup::Stale(cached, Some(leased.hold(key.clone()))),
            Kind::Early => return Lookup::Early(cached, leased.hold(key.clone())),
            Kind::Hit | Kind::Stale => {}
        }
        leased.token = None;
        if found.kind == Kind::Stale {
            return Lookup::Stale(cached, None);
        }
        if let Some(local) = &self.0.local {
            local.keep(key.clone(), leased.stamp, cached.clone(), found.fresh_for);
        }
        Lookup::Hit(cached)
    }

    /// A miss whose lease stores nothing in Redis.
    fn away(&self, key: &K, place: Place) -> Lookup<V, RedisLease<K>, RedisWait> {
        self.0.shared.counts.away.fetch_add(1, Relaxed);
        Lookup::Miss(Leased::new(Arc::clone(&self.0.shared), place, None).hold(key.clone()))
    }

    async fn store(&self, lease: RedisLease<K>, loaded: Loaded<V>) -> Fill {
        let (shared, RedisLease { key, mut leased }) = (&self.0.shared, lease);
        // What was invalidated and is still owed revokes as what was delivered.
        if shared.owed.blocks(leased.place.bucket) {
            return if leased.token.is_some() { Fill::Revoked } else { Fill::Away };
        }
        let ages = shared.steps.settings.ages(loaded.fresh_for, loaded.usable_for);
        let fill = if let Some(token) = &leased.token {
            let value = self.0.codec.encode(&loaded.value);
            let meta = Meta { as_of: loaded.as_of.as_ref(), ages, tags: &loaded.tags };
            shared.steps.fill(&leased.place, token, &value, meta).await
        } else {
            Err(Away)
        };
        match fill {
            Ok(Fill::Stored) => {}
            Ok(refused) => {
                leased.token = None;
                return refused;
            }
            // Only Redis knows the positions below which nothing is stored: no copy either.
            Err(Away) => return Fill::Away,
        }
        if let Some(local) = &self.0.local {
            let fresh_for =
                Duration::from_millis(ages.fresh).saturating_sub(leased.began.elapsed());
            let cached = Cached::new(loaded.value, loaded.as_of).began(leased.began);
            local.keep(key, leased.stamp, cached, fresh_for);
        }
        leased.token = None;
        Fill::Stored
    }

    /// Reads this process's own copy.
    #[inline]
    fn local_hit(&self, key: &K) -> Option<Cached<V>> {
        let cached = self.0.local.as_ref()?.read(key, &self.0.shared.outdated)?;
        self.0.shared.counts.local_hits.fetch_add(1, Relaxed);
        Some(cached)
    }

    async fn sweep(&self, tag: Option<Tag>, position: Option<&Position>) {
        let shared = &self.0.shared;
        shared.outdated.everything();
        let mut told = Told { shared, place: None, position, delivered: false };
        told.delivered = shared.sweep(tag, position).await.is_ok();
        drop(told);
        shared.outdated.everything();
        shared.waits.wake_all();
    }

    async fn outdate(&self, key: &K, position: Option<&Position>) {
        let shared = &self.0.shared;
        let place = Place::of(self.0.codec.key(key));
        shared.outdated.key(&place);
        let mut told = Told { shared, place: Some(&place), position, delivered: false };
        told.delivered = shared.steps.invalidate(&place, position).await.is_ok();
        drop(told);
        // Again: Redis may have given the old value in between.
        shared.outdated.key(&place);
        if let Some(local) = &self.0.local {
            local.forget(key);
        }
        shared.waits.wake(&place.key);
    }
}

/// An invalidation that is owed unless it was delivered, also when its caller leaves.
struct Told<'t> {
    shared: &'t Shared,
    /// None: everything.
    place: Option<&'t Place>,
    position: Option<&'t Position>,
    delivered: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        match self.place {
            _ if self.delivered => {}
            Some(place) => self.shared.owe(place, self.position),
            None => self.shared.owe_everything(self.position),
        }
    }
}

impl<K, V> Cache<K, V> for RedisCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    type Lease = RedisLease<K>;
    type Wait = RedisWait;

    async fn get(&self, key: &K) -> Lookup<V, Self::Lease, Self::Wait> {
        if let Some(cached) = self.local_hit(key) {
            return Lookup::Hit(cached);
        }
        // Boxed: a hit in memory must not carry room for it.
        Box::pin(self.ask(key)).await
    }

    #[inline]
    fn at_hand(&self, key: &K) -> Option<V> {
        self.local_hit(key).map(|cached| cached.value)
    }

    async fn fill(&self, lease: Self::Lease, loaded: Loaded<V>) -> Fill {
        self.store(lease, loaded).await
    }

    async fn invalidate(&self, key: &K) {
        self.outdate(key, None).await;
    }

    async fn invalidate_at(&self, key: &K, position: &Position) {
        self.outdate(key, Some(position)).await;
    }

    async fn expire(&self, key: &K) {
        let shared = &self.0.shared;
        let place = Place::of(self.0.codec.key(key));
        if shared.steps.expire(&place).await.is_err() {
            // Redis can't say later how old it was by then.
            shared.owe(&place, None);
        }
        shared.outdated.key(&place);
    }

    fn is_exclusive(&self, lease: &Self::Lease) -> bool {
        lease.leased.token.is_some()
    }

    fn held_since(&self, wait: &RedisWait) -> Option<Instant> {
        Some(wait.since)
    }

    async fn last(&self, key: &K) -> Option<Cached<V>> {
        let place = Place::of(self.0.codec.key(key));
        if self.0.shared.owed.blocks(place.bucket) {
            return None;
        }
        let asked = Instant::now();
        let (value, as_of, age) = self.0.shared.steps.last(&place).await.ok()??;
        let began = asked.checked_sub(age).unwrap_or(asked);
        Some(Cached::new(self.0.codec.decode(&value)?, as_of).began(began))
    }
}

impl<K, V> Sweep<K, V> for RedisCache<K, V>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    async fn invalidate_tag(&self, tag: Tag, position: Option<&Position>) {
        self.sweep(Some(tag), position).await;
    }

    async fn invalidate_all(&self, position: Option<&Position>) {
        self.sweep(None, position).await;
    }
}

impl<K, V> Clone for RedisCache<K, V> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K, V> fmt::Debug for RedisCache<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("name", &self.0.shared.steps.names)
            .field("is_there", &self.0.shared.steps.link.is_there())
            .finish_non_exhaustive()
    }
}
