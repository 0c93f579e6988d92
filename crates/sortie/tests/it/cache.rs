//! The in-process cache: leases, stamps, ages, positions.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use proptest::prelude::*;
use sortie::{
    Cache, Fill, Loaded, Lookup, MemoryCache, MemoryLease, MemoryWait, Position, ShardId, WalPoint,
};
use tokio::time::advance;

type Found<V> = Lookup<V, MemoryLease<u64, V>, MemoryWait>;

fn look<V: Clone + Send + Sync + 'static>(cache: &MemoryCache<u64, V>, key: u64) -> Found<V> {
    cache.get(&key).now_or_never().expect("a cache in memory answers at once")
}

#[track_caller]
fn lease<V: Clone + Send + Sync + 'static>(
    cache: &MemoryCache<u64, V>,
    key: u64,
) -> MemoryLease<u64, V> {
    match look(cache, key) {
        Lookup::Miss(lease) | Lookup::Stale(_, Some(lease)) => lease,
        _ => panic!("the lease of {key} is not to be had"),
    }
}

fn fill(cache: &MemoryCache<u64, u64>, lease: MemoryLease<u64, u64>, value: Loaded<u64>) -> Fill {
    cache.fill(lease, value).now_or_never().expect("a cache in memory answers at once")
}

fn invalidate(cache: &MemoryCache<u64, u64>, key: u64) {
    cache.invalidate(&key).now_or_never().expect("a cache in memory answers at once");
}

fn invalidate_at(cache: &MemoryCache<u64, u64>, key: u64, position: &Position) {
    cache.invalidate_at(&key, position).now_or_never().expect("answered at once");
}

fn read(cache: &MemoryCache<u64, u64>, key: u64) -> Option<u64> {
    match look(cache, key) {
        Lookup::Hit(cached) | Lookup::Stale(cached, _) => Some(cached.value),
        _ => None,
    }
}

fn at(timeline: u32, lsn: u64) -> Position {
    Position::of([(ShardId::new(0), WalPoint { system: 7, timeline, lsn })])
}

#[tokio::test]
async fn a_value_is_read_once_it_was_filled() {
    let cache = MemoryCache::new(10);
    assert_eq!(fill(&cache, lease(&cache, 1), Loaded::at(10, at(1, 5))), Fill::Stored);
    let Lookup::Hit(cached) = look(&cache, 1) else { panic!("it was stored") };
    assert_eq!((cached.value, cached.as_of), (10, Some(at(1, 5))));
    assert_eq!(read(&cache, 2), None);
}

#[tokio::test(start_paused = true)]
async fn one_caller_gets_the_lease_and_the_others_wait() {
    let cache = MemoryCache::new(10);
    let held = lease(&cache, 1);
    let Lookup::Pending(mut wait) = look(&cache, 1) else { panic!("the lease is held") };
    assert!((&mut wait).now_or_never().is_none());
    assert_eq!(fill(&cache, held, 10.into()), Fill::Stored);
    wait.await;
    assert_eq!(read(&cache, 1), Some(10));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_lease_is_free_again() {
    let cache = MemoryCache::<u64, u64>::new(10);
    let held = lease(&cache, 1);
    let Lookup::Pending(wait) = look(&cache, 1) else { panic!("the lease is held") };
    drop(held);
    wait.await;
    drop(lease(&cache, 1));
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_too_old_is_taken_over() {
    let cache = MemoryCache::builder(10).lease_max(Duration::from_secs(2)).build();
    let hangs = lease(&cache, 1);
    advance(Duration::from_millis(500)).await;
    let Lookup::Pending(wait) = look(&cache, 1) else { panic!("the lease is held") };
    tokio::time::timeout(Duration::from_millis(1_501), wait).await.unwrap();
    let taken = lease(&cache, 1);
    assert_eq!(fill(&cache, hangs, 1.into()), Fill::Revoked);
    assert_eq!(fill(&cache, taken, 2.into()), Fill::Stored);
    assert_eq!(read(&cache, 1), Some(2));
}

#[tokio::test]
async fn an_invalidation_revokes_the_lease() {
    let cache = MemoryCache::new(10);
    let before = lease(&cache, 1);
    let Lookup::Pending(wait) = look(&cache, 1) else { panic!("the lease is held") };
    invalidate(&cache, 1);
    assert!(wait.now_or_never().is_some(), "who waits for it looks again at once");
    let after = lease(&cache, 1);
    assert_eq!(fill(&cache, before, 1.into()), Fill::Revoked);
    assert_eq!(fill(&cache, after, 2.into()), Fill::Stored);
    assert_eq!(read(&cache, 1), Some(2));
    invalidate(&cache, 1);
    assert_eq!(read(&cache, 1), None);
}

#[tokio::test]
async fn beyond_the_leases_it_records_a_cache_still_refuses_what_is_too_old() {
    let cache = MemoryCache::new(10);
    let leases: Vec<_> = (0..70_000).map(|key| (key, lease(&cache, key))).collect();
    for (key, lease) in leases {
        invalidate(&cache, key);
        assert_eq!(fill(&cache, lease, key.into()), Fill::Revoked);
        assert_eq!(read(&cache, key), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_and_one_caller_may_refresh_it() {
    let (soft, hard) = (Duration::from_secs(1), Duration::from_secs(3));
    let cache = MemoryCache::builder(10).jitter(0.0).soft_ttl(soft).hard_ttl(hard).build();
    fill(&cache, lease(&cache, 1), 10.into());
    advance(Duration::from_millis(999)).await;
    assert!(matches!(look(&cache, 1), Lookup::Hit(_)));
    advance(Duration::from_millis(1)).await;
    let Lookup::Stale(cached, Some(refresh)) = look(&cache, 1) else { panic!("it is stale") };
    assert_eq!(cached.value, 10);
    assert!(matches!(look(&cache, 1), Lookup::Stale(_, None)));
    fill(&cache, refresh, 11.into());
    assert!(matches!(look(&cache, 1), Lookup::Hit(cached) if cached.value == 11));
    advance(hard).await;
    assert!(matches!(look(&cache, 1), Lookup::Miss(_)));
}

#[tokio::test(start_paused = true)]
async fn a_ttl_counts_from_the_begin_of_the_load() {
    let cache = MemoryCache::builder(10).jitter(0.0).hard_ttl(Duration::from_secs(3)).build();
    let slow = lease(&cache, 1);
    advance(Duration::from_secs(2)).await;
    fill(&cache, slow, 10.into());
    assert_eq!(read(&cache, 1), Some(10));
    advance(Duration::from_secs(1)).await;
    assert_eq!(read(&cache, 1), None);
}

#[tokio::test(start_paused = true)]
async fn only_an_answer_that_reached_the_position_is_stored() {
    let cache = MemoryCache::new(10);
    invalidate_at(&cache, 1, &at(1, 100));
    let store = |as_of| fill(&cache, lease(&cache, 1), Loaded::at(7, as_of));
    assert_eq!(store(at(1, 99)), Fill::Behind);
    assert_eq!(store(at(1, 100)), Fill::Stored);
    invalidate_at(&cache, 1, &at(1, 90)); // An older write, told of late, lowers nothing.
    let store = |as_of| fill(&cache, lease(&cache, 1), Loaded::at(7, as_of));
    assert_eq!(store(at(1, 99)), Fill::Behind);
    assert_eq!(store(at(1, 100)), Fill::Stored);
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_unknown_position_waits_for_the_cooling_window() {
    let cache = MemoryCache::builder(10).cooling(Duration::from_millis(300)).build();
    invalidate_at(&cache, 1, &at(1, 100));
    assert_eq!(fill(&cache, lease(&cache, 1), 7.into()), Fill::Cooling);
    assert_eq!(fill(&cache, lease(&cache, 1), Loaded::at(7, at(2, 900))), Fill::Cooling);
    advance(Duration::from_millis(299)).await;
    let began_early = lease(&cache, 1);
    advance(Duration::from_millis(1)).await;
    assert_eq!(fill(&cache, began_early, 7.into()), Fill::Cooling, "it began inside the window");
    assert_eq!(fill(&cache, lease(&cache, 1), Loaded::at(7, at(1, 99))), Fill::Behind);
    assert_eq!(fill(&cache, lease(&cache, 1), 7.into()), Fill::Stored);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_on_one_shard_is_never_stored_whatever_the_others_are() {
    let cooling = Duration::from_millis(300);
    let cache = MemoryCache::builder(10).cooling(cooling).build();
    let on = |shard, lsn| {
        Position::of([(ShardId::new(shard), WalPoint { system: 7, timeline: 1, lsn })])
    };
    invalidate_at(&cache, 1, &on(0, 10));
    invalidate_at(&cache, 1, &on(1, 20));
    advance(cooling).await;
    for (shard, lsn) in [(0, 5), (1, 19)] {
        let held = lease(&cache, 1);
        assert_eq!(fill(&cache, held, Loaded::at(7, on(shard, lsn))), Fill::Behind);
    }
    assert_eq!(fill(&cache, lease(&cache, 1), Loaded::at(7, on(0, 10))), Fill::Stored);
}

#[tokio::test]
async fn the_capacity_bounds_what_is_held() {
    let (cache, alive) = (MemoryCache::new(100), Arc::new(()));
    for key in 0..10_000 {
        let stored = cache.fill(lease(&cache, key), Arc::clone(&alive).into()).await;
        assert_eq!(stored, Fill::Stored);
    }
    assert!(Arc::strong_count(&alive) <= 101, "{} values", Arc::strong_count(&alive) - 1);
}

#[derive(Clone, Debug)]
enum Step {
    Look(u64),
    Fill(usize),
    Drop(usize),
    Invalidate(u64),
    InvalidateAt(u64, u64),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u64).prop_map(Step::Look),
        3 => (0..8_usize).prop_map(Step::Fill),
        1 => (0..8_usize).prop_map(Step::Drop),
        1 => (0..4_u64).prop_map(Step::Invalidate),
        1 => (0..4_u64, 0..50_u64).prop_map(|(key, lsn)| Step::InvalidateAt(key, lsn)),
        1 => (0..400_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    // A lease carries the number of the step that took it, and its load reads at that position.
    // The model is three rules: what is read was leased after the last invalidation of the key,
    // was read above the highest position told, and is there if its fill said so.
    #[test]
    fn what_is_read_was_leased_after_the_last_invalidation(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let cache = MemoryCache::new(1_000);
            let mut leases = Vec::new();
            let (mut invalidated, mut floors) = (HashMap::new(), HashMap::new());
            for (now, step) in (0_u64..).zip(steps) {
                match step {
                    Step::Look(key) => match look(&cache, key) {
                        Lookup::Hit(cached) => {
                            prop_assert!(Some(&cached.value) > invalidated.get(&key));
                            prop_assert!(Some(&cached.value) >= floors.get(&key));
                        }
                        Lookup::Miss(lease) => leases.push((key, now, lease)),
                        Lookup::Pending(_) => {
                            prop_assert!(leases.iter().any(|(leased, ..)| *leased == key));
                        }
                        _ => prop_assert!(false, "nothing grows stale here"),
                    },
                    Step::Fill(place) if place < leases.len() => {
                        let (key, leased, lease) = leases.remove(place);
                        let filled = fill(&cache, lease, Loaded::at(leased, at(1, leased)));
                        let after = Some(&leased) > invalidated.get(&key);
                        prop_assert!(filled != Fill::Stored || after);
                        if filled == Fill::Stored {
                            prop_assert_eq!(read(&cache, key), Some(leased));
                        }
                    }
                    Step::Drop(place) if place < leases.len() => drop(leases.remove(place)),
                    Step::Invalidate(key) => {
                        invalidate(&cache, key);
                        invalidated.insert(key, now);
                    }
                    Step::InvalidateAt(key, lsn) => {
                        invalidate_at(&cache, key, &at(1, lsn));
                        invalidated.insert(key, now);
                        let floor = floors.entry(key).or_insert(lsn);
                        *floor = lsn.max(*floor);
                    }
                    Step::Wait(ms) => advance(Duration::from_millis(ms)).await,
                    Step::Fill(_) | Step::Drop(_) => {}
                }
            }
            Ok(())
        })?;
    }
}
