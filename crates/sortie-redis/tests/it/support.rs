//! What these tests share: servers, caches on them, and short words for what is done with those.

use std::time::Duration;

use sortie::{Cache, Fill, Loaded, Lookup, Position, ShardId, WalPoint};
use sortie_redis::{Codec, RedisCache, RedisCacheBuilder, RedisLease, RedisWait};
use sortie_testkit::{Redis, RedisCluster};
use tokio::time::{sleep, timeout};

pub(crate) type Shared = RedisCache<u64, u64>;
pub(crate) type Found = Lookup<u64, RedisLease<u64>, RedisWait>;

/// On a loaded machine an answer may take its time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Numbers;

impl Codec<u64, u64> for Numbers {
    fn key(&self, key: &u64) -> Vec<u8> {
        format!("{key}}}").into_bytes() // A brace must not harm.
    }

    fn encode(&self, value: &u64) -> Vec<u8> {
        value.to_be_bytes().to_vec()
    }

    fn decode(&self, bytes: &[u8]) -> Option<u64> {
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }
}

/// One server, or three.
pub(crate) enum Servers {
    One(Redis),
    Cluster(RedisCluster),
}

impl Servers {
    pub(crate) async fn both() -> [Self; 2] {
        [Self::One(Redis::start().await), Self::Cluster(RedisCluster::start().await)]
    }

    pub(crate) fn open(&self, builder: RedisCacheBuilder<u64, u64>) -> Shared {
        match self {
            Self::One(redis) => builder.open(&redis.url()),
            Self::Cluster(cluster) => builder.open_cluster(cluster.urls()),
        }
        .expect("an address of the test kit can be read")
    }

    /// A cache that is connected.
    pub(crate) async fn opened(&self, builder: RedisCacheBuilder<u64, u64>) -> Shared {
        let cache = self.open(builder);
        until("it is connected", || cache.is_there()).await;
        cache
    }
}

/// Settings that don't fail on a loaded machine.
pub(crate) fn settings(name: &str) -> RedisCacheBuilder<u64, u64> {
    RedisCache::builder(name, Numbers).timeout(Duration::from_secs(5)).early(0.0)
}

pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !holds() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("in vain: until {what}"));
}

#[track_caller]
pub(crate) fn lease(found: Found) -> RedisLease<u64> {
    match found {
        Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) => lease,
        other => panic!("no lease: {other:?}"),
    }
}

#[track_caller]
pub(crate) fn wait(found: Found) -> RedisWait {
    match found {
        Lookup::Pending(wait) => wait,
        other => panic!("nobody has the lease: {other:?}"),
    }
}

pub(crate) async fn read(cache: &Shared, key: u64) -> Option<u64> {
    match cache.get(&key).await {
        Lookup::Hit(cached) | Lookup::Stale(cached, _) => Some(cached.value),
        _ => None,
    }
}

/// Takes the lease, once it is given back by whoever only looked, and fills it.
pub(crate) async fn put(cache: &Shared, key: u64, value: impl Into<Loaded<u64>>) -> Fill {
    let held = timeout(PATIENCE, async {
        loop {
            match cache.get(&key).await {
                Lookup::Pending(wait) => wait.await,
                other => return lease(other),
            }
        }
    });
    cache.fill(held.await.expect("the lease in time"), value.into()).await
}

pub(crate) fn at(timeline: u32, lsn: u64) -> Position {
    Position::of([(ShardId::new(0), WalPoint { system: 7, timeline, lsn })])
}
