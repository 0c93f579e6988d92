//! Redis is away: nobody waits for it, and nothing old is read when it is back.

use std::time::Duration;

use sortie::{Cache, Fill, Loaded, Lookup};
use sortie_testkit::{Redis, RedisCluster};
use tokio::time::{Instant, sleep};

use crate::support::{Shared, at, lease, put, read, settings, until};

async fn one(redis: &Redis, owed_max: usize) -> Shared {
    let hasty = settings("a").timeout(Duration::from_millis(300)).owed_max(owed_max);
    let cache = hasty.open(&redis.url()).expect("an address of the test kit");
    until("it is connected", || cache.is_there()).await;
    cache
}

#[tokio::test]
async fn nothing_is_asked_of_a_server_that_is_not_there() {
    let cache = settings("a").open("redis://127.0.0.1:1/").unwrap();
    let began = Instant::now();
    for key in 0..100 {
        let held = lease(cache.get(&key).await);
        assert_eq!(cache.fill(held, key.into()).await, Fill::Away);
        assert_eq!(read(&cache, key).await, None);
        cache.invalidate(&key).await;
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!((cache.stats().away, cache.stats().owed), (200, 100));
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again() {
    let mut redis = Redis::start().await;
    let cache = one(&redis, 100).await;
    put(&cache, 1, 10).await;
    redis.kill().await;
    assert_eq!(read(&cache, 1).await, None);
    redis.restart().await;
    until("it is back", || cache.is_there()).await;
    assert_eq!(put(&cache, 1, 11).await, Fill::Stored);
    assert_eq!(read(&cache, 1).await, Some(11));
}

/// One of three halts. What it has is away, and nothing else; no call takes longer than a timeout.
#[tokio::test]
async fn a_part_of_a_cluster_that_halts_holds_up_nobody_and_nothing_old_is_read_from_it() {
    let mut cluster = RedisCluster::start().await;
    let hasty = settings("a").timeout(Duration::from_millis(300)).owed_max(100);
    let cache = hasty.open_cluster(cluster.urls()).expect("addresses of the test kit");
    until("it is connected", || cache.is_there()).await;
    for key in 0..30 {
        assert_eq!(put(&cache, key, key).await, Fill::Stored);
    }
    cluster.masters()[0].pause();
    for key in 0..30 {
        let began = Instant::now();
        cache.invalidate(&key).await;
        assert_eq!(read(&cache, key).await, None, "{key}");
        assert!(began.elapsed() < Duration::from_secs(3), "{key}: {:?}", began.elapsed());
    }
    assert!(cache.stats().owed > 0, "a third of them could not be told");
    cluster.masters()[0].resume();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for key in 0..30 {
            assert_eq!(read(&cache, key).await, None, "{key}");
        }
    }
    until("all is delivered", || cache.stats().owed == 0 && cache.is_there()).await;
    for key in 0..30 {
        assert_eq!(put(&cache, key, key + 1).await, Fill::Stored);
        assert_eq!(read(&cache, key).await, Some(key + 1));
    }
}

/// A server that halts keeps what it has: the old values are still there when it goes on.
#[tokio::test]
async fn nothing_is_read_before_the_invalidations_that_are_owed_were_delivered() {
    let redis = Redis::start().await;
    let cache = one(&redis, 100).await;
    for key in 0..20 {
        assert_eq!(put(&cache, key, Loaded::at(key, at(1, 5))).await, Fill::Stored);
    }
    redis.pause();
    let began = Instant::now();
    for key in 0..10 {
        cache.invalidate_at(&key, &at(1, 50 + key)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
    redis.resume();
    // While it comes back, and after.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for key in 0..10 {
            assert_eq!(read(&cache, key).await, None, "{key}");
        }
        sleep(Duration::from_millis(5)).await;
    }
    until("all is delivered", || cache.stats().owed == 0 && cache.is_there()).await;
    for key in 0..10 {
        assert_eq!(put(&cache, key, Loaded::at(1, at(1, 49))).await, Fill::Behind, "{key}");
    }
    for key in 10..20 {
        assert_eq!(read(&cache, key).await, Some(key), "the others are still there");
    }
}

#[tokio::test]
async fn over_the_bound_everything_is_invalidated() {
    let redis = Redis::start().await;
    let (cache, other) = (one(&redis, 5).await, one(&redis, 5).await);
    for key in 0..20 {
        put(&cache, key, key).await;
    }
    redis.pause();
    for key in 0..6 {
        cache.invalidate_at(&key, &at(1, 50)).await;
    }
    assert_eq!(cache.stats().owed, 1, "one debt instead of six");
    redis.resume();
    until("all is delivered", || cache.stats().owed == 0 && other.is_there()).await;
    for key in 0..20 {
        assert_eq!(read(&other, key).await, None, "{key}");
    }
    // The highest position holds for all: nobody knows whose it was.
    assert_eq!(put(&other, 19, Loaded::at(1, at(1, 49))).await, Fill::Behind);
    assert_eq!(put(&other, 19, Loaded::at(1, at(1, 50))).await, Fill::Stored);
}

#[tokio::test]
async fn a_fill_that_is_late_finds_its_lease_gone() {
    let redis = Redis::start().await;
    let (cache, other) = (one(&redis, 5).await, one(&redis, 5).await);
    let held = lease(cache.get(&1).await);
    redis.pause();
    let late = cache.fill(held, 1.into()).await; // It is on its way, and nobody knows.
    assert_eq!(late, Fill::Away);
    cache.invalidate(&1).await;
    redis.resume();
    until("all is delivered", || cache.stats().owed == 0 && cache.is_there()).await;
    assert_eq!(read(&cache, 1).await, None);
    assert!(!matches!(other.get(&1).await, Lookup::Hit(_)));
}

#[tokio::test]
async fn an_invalidation_whose_caller_leaves_is_still_owed() {
    let redis = Redis::start().await;
    let cache = one(&redis, 5).await;
    put(&cache, 1, 10).await;
    redis.pause();
    let left = tokio::time::timeout(Duration::from_millis(50), cache.invalidate(&1)).await;
    assert!(left.is_err());
    assert_eq!(cache.stats().owed, 1);
    redis.resume();
    until("it is delivered", || cache.stats().owed == 0).await;
    assert_eq!(read(&cache, 1).await, None);
}

#[tokio::test]
async fn an_invalidation_that_is_refused_lets_the_others_past() {
    let redis = Redis::start().await;
    let cache = one(&redis, 100).await;
    put(&cache, 1, 10).await;
    let entry = redis.ask(&["EVAL", "return redis.call('KEYS', ARGV[1])[1]", "0", "*:1}"]).await;
    // Something that no script can use stands in its place.
    redis.ask(&["SET", &entry, "a string"]).await;
    cache.invalidate(&1).await;
    assert_eq!(cache.stats().owed, 1, "it is refused");
    redis.pause();
    for key in 2..15 {
        cache.invalidate(&key).await;
    }
    assert_eq!(cache.stats().owed, 14);
    redis.resume();
    until("the others are delivered", || cache.stats().owed == 1).await;
    redis.ask(&["DEL", &entry]).await;
    until("all is delivered", || cache.stats().owed == 0).await;
}
