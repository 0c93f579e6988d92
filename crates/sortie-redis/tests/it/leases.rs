//! One lease per key among all processes: two caches on the same servers are two processes here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use sortie::{
    Cache, Fill, Loaded, Lookup, Position, ReadThrough, ShardId, SingleFlight, Sweep, Tag, WalPoint,
};
use sortie_testkit::Redis;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{PATIENCE, Servers, at, lease, put, read, settings, until, wait};

#[tokio::test]
async fn a_value_is_read_by_all_once_it_was_filled() {
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        for key in 0..50 {
            assert_eq!(put(&one, key, Loaded::at(key * 10, at(1, key))).await, Fill::Stored);
            let Lookup::Hit(cached) = two.get(&key).await else { panic!("it was stored") };
            assert_eq!((cached.value, cached.as_of), (key * 10, Some(at(1, key))));
            assert!(cached.began.is_some_and(|began| began.elapsed() < PATIENCE));
        }
        let other = servers.opened(settings("b")).await;
        assert_eq!(read(&other, 1).await, None, "another cache");
        assert_eq!((two.stats().hits, one.stats().misses), (50, 50));
    }
}

#[tokio::test]
async fn one_process_gets_the_lease_and_the_others_are_woken() {
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        let held = lease(one.get(&1).await);
        let (in_one, in_two) = (wait(one.get(&1).await), wait(two.get(&1).await));
        let both = async {
            in_one.await;
            in_two.await;
        };
        let mut both = Box::pin(both);
        assert!(timeout(Duration::from_millis(200), &mut both).await.is_err());
        assert_eq!(one.fill(held, 10.into()).await, Fill::Stored);
        timeout(PATIENCE, both).await.unwrap();
        assert_eq!(read(&two, 1).await, Some(10));
        let held = lease(two.get(&2).await);
        let woken = wait(one.get(&2).await);
        drop(held);
        timeout(PATIENCE, woken).await.unwrap();
        drop(lease(one.get(&2).await));
    }
}

/// Who waits looks itself after 50 ms at the earliest: who is sooner was told.
#[tokio::test]
async fn those_who_wait_in_another_process_are_told_and_need_not_look() {
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        let mut told = 0;
        for key in 0..20 {
            let held = lease(one.get(&key).await);
            let mut woken = Box::pin(wait(two.get(&key).await));
            // Until it has a place.
            assert!(timeout(Duration::from_millis(5), &mut woken).await.is_err());
            let began = Instant::now();
            if key % 2 == 0 {
                assert_eq!(one.fill(held, key.into()).await, Fill::Stored);
            } else {
                drop(held);
            }
            timeout(PATIENCE, woken).await.unwrap();
            told += usize::from(began.elapsed() < Duration::from_millis(40));
        }
        assert!(told > 10, "{told} of 20 within 40 ms");
    }
}

#[tokio::test]
async fn an_invalidation_by_anybody_revokes_the_lease() {
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        let before = lease(one.get(&1).await);
        let waits = wait(two.get(&1).await);
        two.invalidate(&1).await;
        timeout(PATIENCE, waits).await.unwrap();
        let after = lease(two.get(&1).await);
        assert_eq!(one.fill(before, 1.into()).await, Fill::Revoked);
        assert_eq!(two.fill(after, 2.into()).await, Fill::Stored);
        assert_eq!(read(&one, 1).await, Some(2));
        one.invalidate(&1).await;
        assert_eq!(read(&two, 1).await, None);
    }
}

#[tokio::test]
async fn an_invalidation_of_everything_outdates_values_and_leases() {
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        for key in 0..100 {
            assert_eq!(put(&one, key, key).await, Fill::Stored);
        }
        let before = lease(one.get(&100).await);
        two.invalidate_all(None).await;
        assert_eq!(one.fill(before, 1.into()).await, Fill::Revoked);
        for key in 0..=100 {
            assert_eq!(read(&one, key).await, None, "{key}");
        }
        assert_eq!(put(&two, 1000, 7).await, Fill::Stored);
        assert_eq!(read(&one, 1000).await, Some(7));
    }
}

#[tokio::test]
async fn a_tag_invalidates_what_has_it_in_all_processes() {
    const USERS: Tag = Tag::named("users");
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        for key in 0..20 {
            let loaded = Loaded::from(key);
            let loaded = if key % 2 == 0 { loaded.tagged(USERS) } else { loaded };
            assert_eq!(put(&one, key, loaded).await, Fill::Stored);
        }
        let before = lease(one.get(&100).await);
        two.invalidate_tag(USERS, Some(&at(1, 50))).await;
        let users = |lsn| Loaded::at(1, at(1, lsn)).tagged(USERS);
        assert_eq!(one.fill(before, users(60)).await, Fill::Revoked);
        for key in 0..20 {
            assert_eq!(read(&one, key).await, Some(key).filter(|key| key % 2 == 1), "{key}");
        }
        assert_eq!(put(&one, 100, users(49)).await, Fill::Behind);
        assert_eq!(put(&one, 100, users(50)).await, Fill::Stored);
        assert_eq!(put(&one, 101, Loaded::at(1, at(1, 49))).await, Fill::Stored, "another table");
    }
}

#[tokio::test]
async fn a_load_from_before_a_sweep_by_another_process_is_not_shared_after_it() {
    for servers in Servers::both().await {
        let (one, two) = (servers.opened(settings("a")).await, servers.opened(settings("a")).await);
        let held = lease(one.get(&1).await);
        let asked = Instant::now();
        assert!(one.held_since(&wait(one.get(&1).await)).unwrap() < asked, "it is its own load");
        two.invalidate_tag(Tag::named("users"), None).await;
        let swept = Instant::now();
        assert!(one.held_since(&wait(one.get(&1).await)).unwrap() >= swept);
        let others = Loaded::from(7).tagged(Tag::named("others"));
        assert_eq!(one.fill(held, others).await, Fill::Stored, "it was not concerned");
        assert_eq!(read(&two, 1).await, Some(7));
    }
}

#[tokio::test]
async fn what_expired_is_the_last_value_and_what_was_invalidated_is_not() {
    for servers in Servers::both().await {
        let keeps = settings("a").hard_ttl(Duration::from_millis(200)).keep(PATIENCE);
        let (one, two) = (servers.opened(keeps).await, servers.opened(settings("a")).await);
        put(&one, 1, 10).await;
        put(&two, 2, 20).await;
        sleep(Duration::from_millis(250)).await;
        two.expire(&2).await;
        for (key, value) in [(1, 10), (2, 20)] {
            assert_eq!(read(&one, key).await, None);
            assert_eq!(two.last(&key).await.map(|cached| cached.value), Some(value));
            two.invalidate(&key).await;
            assert!(one.last(&key).await.is_none());
        }
    }
}

#[tokio::test]
async fn only_an_answer_that_reached_the_position_is_stored() {
    for servers in Servers::both().await {
        let (one, two) = (
            servers.opened(settings("a").cooling(Duration::from_millis(300))).await,
            servers.opened(settings("a")).await,
        );
        one.invalidate_at(&1, &at(1, 100)).await;
        assert_eq!(put(&two, 1, Loaded::at(7, at(1, 99))).await, Fill::Behind);
        assert_eq!(put(&two, 1, Loaded::at(7, at(2, 900))).await, Fill::Cooling);
        assert_eq!(put(&two, 1, 7).await, Fill::Cooling);
        assert_eq!(put(&two, 1, Loaded::at(7, at(1, 100))).await, Fill::Stored);
        one.invalidate_at(&1, &at(1, 90)).await; // An older write, told of late, lowers nothing.
        assert_eq!(put(&two, 1, Loaded::at(7, at(1, 99))).await, Fill::Behind);
        one.invalidate(&1).await; // Nor does one without a position.
        assert_eq!(put(&two, 1, Loaded::at(7, at(1, 99))).await, Fill::Behind);
        sleep(Duration::from_millis(301)).await;
        assert_eq!(put(&two, 1, Loaded::at(7, at(1, 99))).await, Fill::Behind);
        assert_eq!(put(&two, 1, 7).await, Fill::Stored, "the window is over");
    }
}

#[tokio::test]
async fn what_is_behind_on_one_shard_is_never_stored_whatever_the_others_are() {
    let on = |shard, lsn| {
        Position::of([(ShardId::new(shard), WalPoint { system: 7, timeline: 1, lsn })])
    };
    for servers in Servers::both().await {
        let cache = servers.opened(settings("a").cooling(Duration::from_millis(1))).await;
        cache.invalidate_at(&1, &on(0, 10)).await;
        cache.invalidate_at(&1, &on(1, 20)).await;
        sleep(Duration::from_millis(20)).await;
        assert_eq!(put(&cache, 1, Loaded::at(7, on(0, 5))).await, Fill::Behind);
        assert_eq!(put(&cache, 1, Loaded::at(7, on(1, 19))).await, Fill::Behind);
        assert_eq!(put(&cache, 1, Loaded::at(7, on(0, 10))).await, Fill::Stored);
    }
}

#[tokio::test]
async fn a_stale_value_is_served_and_one_process_refreshes_it() {
    for servers in Servers::both().await {
        let aged = || {
            let (soft, hard) = (Duration::from_millis(300), Duration::from_secs(2));
            settings("a").soft_ttl(soft).hard_ttl(hard)
        };
        let (one, two) = (servers.opened(aged()).await, servers.opened(aged()).await);
        put(&one, 1, 10).await;
        sleep(Duration::from_millis(340)).await;
        let Lookup::Stale(cached, Some(refresh)) = two.get(&1).await else { panic!("stale") };
        assert_eq!(cached.value, 10);
        assert!(matches!(one.get(&1).await, Lookup::Stale(_, None)));
        assert_eq!(two.fill(refresh, 11.into()).await, Fill::Stored);
        assert_eq!(read(&one, 1).await, Some(11));
        sleep(Duration::from_millis(2_200)).await;
        assert!(matches!(one.get(&1).await, Lookup::Miss(_)), "too old to be used");
    }
}

#[tokio::test]
async fn a_lease_is_kept_while_it_is_held_but_not_for_ever() {
    let servers = Servers::both().await;
    let hasty = || {
        let (lease, max) = (Duration::from_millis(200), Duration::from_millis(1_500));
        settings("a").lease(lease).lease_max(max)
    };
    let (one, two) = (servers[0].opened(hasty()).await, servers[0].opened(hasty()).await);
    let (hangs, began) = (lease(one.get(&1).await), Instant::now());
    let waits = wait(two.get(&1).await);
    timeout(PATIENCE, waits).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
    let taken = lease(two.get(&1).await);
    assert_eq!(one.fill(hangs, 1.into()).await, Fill::Revoked);
    assert_eq!(two.fill(taken, 2.into()).await, Fill::Stored);
    assert_eq!(read(&one, 1).await, Some(2));
}

#[tokio::test]
async fn a_look_up_that_is_dropped_gives_back_the_lease_that_was_coming() {
    let servers = Servers::both().await;
    let long = || settings("a").lease(PATIENCE).lease_max(PATIENCE);
    let (one, two) = (servers[0].opened(long()).await, servers[0].opened(long()).await);
    for key in 0..20 {
        let mut look = Box::pin(one.get(&key));
        // Asked, and left before the answer.
        tokio::select! { biased; _ = &mut look => {}, () = tokio::task::yield_now() => {} }
        drop(look);
        timeout(PATIENCE / 2, async {
            while !matches!(two.get(&key).await, Lookup::Miss(_)) {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
    }
}

/// Reads that are given up while they load: rueidis#1010 left the lock of each.
#[tokio::test]
async fn rueidis_1010_reads_that_are_given_up_leave_no_lease_and_no_key() {
    // As many as are given back at once; beyond that they would end by themselves.
    const KEYS: u64 = 1_000;
    let redis = Redis::start().await;
    let count = async || redis.ask(&["DBSIZE"]).await.trim_matches(':').parse::<u64>().unwrap();
    let cache = settings("a").lease(PATIENCE * 10).open(&redis.url()).expect("an address");
    until("it is connected", || cache.is_there()).await;
    let begun = Arc::new(AtomicU64::new(0));
    let counts = Arc::clone(&begun);
    let flights = SingleFlight::new(); // Whose loads end with their last caller.
    let rows = ReadThrough::new(cache, move |_key: u64| {
        counts.fetch_add(1, SeqCst);
        std::future::pending::<Result<u64, std::io::Error>>()
    })
    .with_flights(flights);
    let mut reads = JoinSet::new();
    for key in 0..KEYS {
        let rows = rows.clone();
        reads.spawn(async move { rows.get(&key).await });
    }
    until("all of them load", || begun.load(SeqCst) == KEYS).await;
    // Beside the leases there are the cache's own few keys, which stay.
    let few = count().await.checked_sub(KEYS).expect("a lease for each");
    assert!(few < 100, "{few}");
    drop(reads);
    let gone = timeout(PATIENCE, async {
        while count().await != few {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(gone.await.is_ok(), "{} leases stay", count().await - few);
    assert_eq!(rows.flights().stats().in_flight_flights, 0);
}

#[tokio::test]
async fn early_readers_refresh_a_value_before_it_is_stale() {
    let servers = Servers::both().await;
    let eager = settings("a").soft_ttl(Duration::from_secs(60)).early(10_000.0);
    let cache = servers[0].opened(eager).await;
    let slow = lease(cache.get(&1).await);
    sleep(Duration::from_millis(20)).await;
    cache.fill(slow, 10.into()).await;
    // A load of 20 ms, and up to some 10,000 of them early: all of 60 s.
    let mut refreshed = false;
    for _ in 0..50 {
        refreshed |= matches!(cache.get(&1).await, Lookup::Early(cached, _) if cached.value == 10);
    }
    assert!(refreshed);
}
