//! The in-process cache: early refreshes, jitter, weights, tags, expiry, and clients that know
//! only get and set.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;
use sortie::{
    Cache, Fill, GetSet, GetSetCache, Loaded, Lookup, MemoryCache, MemoryLease, Position, ShardId,
    Sweep, Tag, WalPoint,
};
use tokio::time::{advance, sleep};

const USERS: Tag = Tag::named("users");
const TEAMS: Tag = Tag::named("teams");

async fn lease(cache: &MemoryCache<u64, u64>, key: u64) -> MemoryLease<u64, u64> {
    match cache.get(&key).await {
        Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) => lease,
        other => panic!("no lease: {other:?}"),
    }
}

async fn put(cache: &MemoryCache<u64, u64>, key: u64, loaded: impl Into<Loaded<u64>>) -> Fill {
    cache.fill(lease(cache, key).await, loaded.into()).await
}

async fn read(cache: &MemoryCache<u64, u64>, key: u64) -> Option<u64> {
    match cache.get(&key).await {
        Lookup::Hit(cached) | Lookup::Stale(cached, _) | Lookup::Early(cached, _) => {
            Some(cached.value)
        }
        _ => None,
    }
}

fn at(lsn: u64) -> Position {
    Position::of([(ShardId::new(0), WalPoint { system: 7, timeline: 1, lsn })])
}

#[tokio::test(start_paused = true)]
async fn the_first_reader_past_the_early_age_refreshes() {
    let ages = MemoryCache::builder(10).jitter(0.0).soft_ttl(Duration::from_secs(10)).early(0.8);
    let cache = ages.build();
    put(&cache, 1, 10).await;
    advance(Duration::from_millis(7_999)).await;
    assert!(matches!(cache.get(&1).await, Lookup::Hit(_)));
    advance(Duration::from_millis(1)).await;
    let Lookup::Early(cached, refresh) = cache.get(&1).await else { panic!("it is early") };
    assert_eq!(cached.value, 10);
    for _ in 0..10 {
        assert!(matches!(cache.get(&1).await, Lookup::Hit(_)), "one is enough");
    }
    drop(refresh);
    advance(Duration::from_secs(2)).await;
    assert!(matches!(cache.get(&1).await, Lookup::Stale(_, Some(_))), "none came of it");
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_together_does_not_end_together() {
    let cache = MemoryCache::builder(1_000).hard_ttl(Duration::from_secs(100)).build();
    for key in 0..500 {
        put(&cache, key, key).await;
    }
    let mut left = Vec::new();
    for seconds in [89, 6, 5, 5, 6] {
        advance(Duration::from_secs(seconds)).await;
        let mut there = 0;
        for key in 0..500 {
            there += usize::from(read(&cache, key).await.is_some());
        }
        left.push(there);
    }
    assert_eq!((left[0], left[4]), (500, 0), "{left:?}");
    assert!(left.is_sorted_by(|one, two| one > two), "{left:?}");
    assert!((150..350).contains(&left[2]), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_value_may_bring_its_own_ages() {
    let cache = MemoryCache::builder(10).jitter(0.0).hard_ttl(Duration::from_secs(100)).build();
    let short = Loaded::from(10).ages(Duration::from_secs(1), Duration::from_secs(2));
    put(&cache, 1, short).await;
    advance(Duration::from_secs(1)).await;
    assert!(matches!(cache.get(&1).await, Lookup::Stale(..)));
    advance(Duration::from_secs(1)).await;
    assert_eq!(read(&cache, 1).await, None);
}

#[tokio::test]
async fn a_tag_invalidates_what_has_it_and_nothing_else() {
    let cache = MemoryCache::new(100);
    put(&cache, 1, Loaded::from(1).tagged(USERS)).await;
    put(&cache, 2, Loaded::from(2).tagged(TEAMS).tagged(USERS)).await;
    put(&cache, 3, Loaded::from(3).tagged(TEAMS)).await;
    put(&cache, 4, 4).await;
    let (before, other) = (lease(&cache, 5).await, lease(&cache, 6).await);
    cache.invalidate_tag(USERS, None).await;
    assert_eq!(cache.fill(before, Loaded::from(5).tagged(USERS)).await, Fill::Revoked);
    assert_eq!(cache.fill(other, Loaded::from(6).tagged(TEAMS)).await, Fill::Stored);
    let mut there = BTreeSet::new();
    for key in 1..=6 {
        there.extend(read(&cache, key).await);
    }
    assert_eq!(there, BTreeSet::from([3, 4, 6]));
    cache.invalidate_all(None).await;
    for key in 1..=6 {
        assert_eq!(read(&cache, key).await, None);
    }
    assert_eq!(put(&cache, 7, Loaded::from(7).tagged(USERS)).await, Fill::Stored);
    assert_eq!(read(&cache, 7).await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_tag_s_position_keeps_out_what_was_read_before_it() {
    let cache = MemoryCache::builder(100).cooling(Duration::from_millis(300)).build();
    cache.invalidate_tag(USERS, Some(&at(100))).await;
    let users = |lsn| Loaded::at(1, at(lsn)).tagged(USERS);
    assert_eq!(put(&cache, 1, users(99)).await, Fill::Behind);
    assert_eq!(put(&cache, 2, Loaded::from(1).tagged(USERS)).await, Fill::Cooling);
    assert_eq!(put(&cache, 3, Loaded::at(1, at(99)).tagged(TEAMS)).await, Fill::Stored);
    assert_eq!(put(&cache, 1, users(100)).await, Fill::Stored);
    cache.invalidate_all(Some(&at(200))).await;
    assert_eq!(put(&cache, 4, Loaded::at(1, at(199))).await, Fill::Behind);
    assert_eq!(put(&cache, 4, Loaded::at(1, at(200))).await, Fill::Stored);
}

#[tokio::test]
async fn a_value_that_expired_is_the_last_one_and_one_invalidated_is_not() {
    let cache = MemoryCache::new(10);
    put(&cache, 1, 10).await;
    cache.expire(&1).await;
    assert!(matches!(cache.get(&1).await, Lookup::Miss(_)));
    assert_eq!(cache.last(&1).await.map(|cached| cached.value), Some(10));
    let before = lease(&cache, 1).await;
    cache.expire(&1).await;
    assert_eq!(cache.fill(before, 11.into()).await, Fill::Revoked, "it began before");
    cache.invalidate(&1).await;
    assert!(cache.last(&1).await.is_none());
}

#[tokio::test]
async fn the_weight_of_all_values_is_bounded() {
    let cache = MemoryCache::builder(10_000).weigh(|_key, value: &u64| *value).build();
    for key in 0..200 {
        put(&cache, key, 500).await;
    }
    let mut weight = 0;
    for key in 0..200 {
        weight += read(&cache, key).await.unwrap_or(0);
    }
    assert!((5_000..=10_000).contains(&weight), "{weight}");
}

/// A store that takes its time to set.
#[derive(Default)]
struct Client {
    rows: Mutex<HashMap<u64, u64>>,
    slow: AtomicBool,
}

impl GetSet<u64, u64> for Client {
    async fn get(&self, key: &u64) -> Option<u64> {
        self.rows.lock().get(key).copied()
    }

    async fn set(&self, key: &u64, value: u64) {
        if self.slow.load(Relaxed) {
            sleep(Duration::from_millis(100)).await;
        }
        self.rows.lock().insert(*key, value);
    }

    async fn delete(&self, key: &u64) {
        self.rows.lock().remove(key);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_of_get_and_set_is_filled_under_a_local_lease() {
    let cache = GetSetCache::new(Client::default());
    let Lookup::Miss(before) = cache.get(&1).await else { panic!("nothing is there") };
    assert!(matches!(cache.get(&1).await, Lookup::Pending(_)));
    cache.invalidate(&1).await;
    assert_eq!(cache.fill(before, 1.into()).await, Fill::Revoked);
    cache.invalidate_at(&1, &at(100)).await;
    let Lookup::Miss(after) = cache.get(&1).await else { panic!("nothing is there") };
    assert_eq!(cache.fill(after, Loaded::at(2, at(99))).await, Fill::Behind);
    let Lookup::Miss(after) = cache.get(&1).await else { panic!("nothing is there") };
    assert_eq!(cache.fill(after, Loaded::at(2, at(100))).await, Fill::Stored);
    assert!(matches!(cache.get(&1).await, Lookup::Hit(cached) if cached.value == 2));
}

#[tokio::test(start_paused = true)]
async fn what_was_invalidated_while_it_was_being_set_is_deleted_again() {
    let client = Client::default();
    client.slow.store(true, Relaxed);
    let cache = GetSetCache::new(client);
    let Lookup::Miss(lease) = cache.get(&1).await else { panic!("nothing is there") };
    let invalidate = async {
        sleep(Duration::from_millis(50)).await;
        cache.invalidate(&1).await;
    };
    let (fill, ()) = futures::join!(cache.fill(lease, 1.into()), invalidate);
    assert_eq!(fill, Fill::Revoked);
    assert!(!matches!(cache.get(&1).await, Lookup::Hit(_)));
}
