//! Values in a process's own memory over those in Redis.

use std::time::Duration;

use sortie::{Cache, Fill, Loaded, Lookup, Sweep};
use sortie_testkit::Redis;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PATIENCE, Servers, at, lease, put, read, settings, until};

const BOUND: Duration = Duration::from_secs(2);

#[tokio::test]
async fn an_invalidation_by_another_process_reaches_the_copies() {
    for servers in Servers::both().await {
        let local = || settings("a").local_max(100).local_bound(BOUND);
        let (one, two) = (servers.opened(local()).await, servers.opened(local()).await);
        // Notices are heard from some moment on; until then copies live for the bound.
        sleep(Duration::from_millis(300)).await;
        let mut slowest = Duration::ZERO;
        for turn in 0..30 {
            assert_eq!(read(&two, 1).await, None);
            put(&one, 1, turn).await;
            assert_eq!(read(&two, 1).await, Some(turn), "from Redis");
            let hits = two.stats().local_hits;
            assert_eq!(read(&two, 1).await, Some(turn));
            assert_eq!(two.stats().local_hits, hits + 1, "from memory");
            one.invalidate(&1).await;
            let told = Instant::now();
            assert_eq!(read(&one, 1).await, None, "its own copies at once");
            until("the notice arrives", || {
                let look = Box::pin(two.get(&1));
                !matches!(futures_now(look), Some(Lookup::Hit(_)))
            })
            .await;
            slowest = slowest.max(told.elapsed());
            // Whoever looked has the lease, or waits for it.
            one.invalidate(&1).await;
        }
        assert!(slowest < BOUND, "{slowest:?}");
        one.invalidate_all(None).await;
        assert_eq!(read(&one, 1).await, None);
    }
}

/// The first poll of a future.
fn futures_now<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(&mut future).poll(&mut cx) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test]
async fn while_redis_is_away_copies_live_for_the_bound() {
    let mut redis = Redis::start().await;
    let bound = Duration::from_millis(800);
    let hasty = settings("a").local_max(100).local_bound(bound);
    let cache = hasty.timeout(Duration::from_millis(300)).open(&redis.url()).unwrap();
    until("it is connected", || cache.is_there()).await;
    put(&cache, 1, 10).await;
    // Heard again and again, a copy outlives the bound; from some moment on.
    let outlives = async {
        loop {
            assert_eq!(read(&cache, 1).await, Some(10));
            sleep(bound * 2).await;
            let hits = cache.stats().local_hits;
            assert_eq!(read(&cache, 1).await, Some(10));
            if cache.stats().local_hits == hits + 1 {
                return;
            }
        }
    };
    timeout(PATIENCE, outlives).await.expect("a copy that outlives the bound");
    redis.kill().await;
    sleep(bound + Duration::from_millis(100)).await;
    assert_eq!(read(&cache, 1).await, None, "nobody knows whether it still holds");
    let held = lease(cache.get(&2).await);
    assert_eq!(cache.fill(held, 20.into()).await, Fill::Away);
    assert_eq!(read(&cache, 2).await, None, "nobody knows what it must have reached");
    cache.invalidate(&2).await;
    let held = lease(cache.get(&2).await);
    cache.fill(held, 21.into()).await;
    assert_eq!(read(&cache, 2).await, None, "not while its invalidation is owed");
    redis.restart().await;
    until("it is back", || cache.stats().owed == 0 && cache.is_there()).await;
    put(&cache, 2, 22).await;
    assert_eq!(read(&cache, 2).await, Some(22));
}

#[tokio::test]
async fn what_redis_could_not_compare_with_its_floor_is_not_kept_as_a_copy() {
    let redis = Redis::start().await;
    let hasty = || settings("a").local_max(100).timeout(Duration::from_millis(300));
    let (cache, other) = (hasty().open(&redis.url()).unwrap(), hasty().open(&redis.url()).unwrap());
    until("both are connected", || cache.is_there() && other.is_there()).await;
    other.invalidate_at(&1, &at(1, 100)).await;
    let held = lease(cache.get(&1).await);
    redis.pause();
    assert_eq!(cache.fill(held, Loaded::at(7, at(1, 99))).await, Fill::Away);
    assert_eq!(read(&cache, 1).await, None);
    redis.resume();
}
