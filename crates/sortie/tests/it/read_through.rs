//! Read-through: one load per miss, stale values, leases held elsewhere, and never a value from
//! before an invalidation.

use std::future::ready;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Pending, join_all, pending};
use sortie::{
    Cache, Fill, FlightError, Idle, Loaded, Lookup, MemoryCache, Position, ReadThrough, ShardId,
    SingleFlight, WalPoint,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep};

const LOAD: Duration = Duration::from_millis(50);

type Counted = ReadThrough<u64, u64, io::Error>;

/// A loader that takes 50 ms and returns how often it was called, from 1.
fn counted(cache: MemoryCache<u64, u64>) -> (Counted, Arc<AtomicU64>) {
    let loads = Arc::new(AtomicU64::new(0));
    let load = {
        let loads = Arc::clone(&loads);
        move |_key| {
            let load = loads.fetch_add(1, Relaxed) + 1;
            async move {
                sleep(LOAD).await;
                Ok(load)
            }
        }
    };
    (ReadThrough::new(cache, load), loads)
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_share_one_load_and_later_reads_are_hits() {
    let (balances, loads) = counted(MemoryCache::new(10));
    let began = Instant::now();
    let all = join_all((0..200).map(|_| balances.get(&1))).await;
    assert!(all.into_iter().all(|value| value.unwrap() == 1));
    assert_eq!(began.elapsed(), LOAD);
    assert_eq!(balances.get(&1).await.unwrap(), 1);
    assert_eq!((began.elapsed(), loads.load(Relaxed)), (LOAD, 1));
}

#[tokio::test(start_paused = true)]
async fn an_error_is_shared_and_not_stored() {
    let loads = Arc::new(AtomicUsize::new(0));
    let load = {
        let loads = Arc::clone(&loads);
        move |_key: u64| {
            let first = loads.fetch_add(1, Relaxed) == 0;
            async move {
                sleep(LOAD).await;
                if first { Err(io::Error::other("down")) } else { Ok(7_u64) }
            }
        }
    };
    let balances = ReadThrough::new(MemoryCache::new(10), load);
    let (one, two) = futures::join!(balances.get(&1), balances.get(&1));
    assert!(matches!(one, Err(FlightError::Failed(_))) && two.is_err());
    assert_eq!(balances.get(&1).await.unwrap(), 7);
    assert_eq!(loads.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_keeps_nobody_from_the_value() {
    let (balances, loads) = counted(MemoryCache::new(10));
    assert!(balances.get(&1).now_or_never().is_none());
    sleep(LOAD + Duration::from_millis(1)).await;
    assert_eq!(balances.get(&1).now_or_never().unwrap().unwrap(), 1);
    assert_eq!(loads.load(Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_begun_before_an_invalidation_is_served_to_its_waiters_only() {
    let (balances, loads) = counted(MemoryCache::new(10));
    let mut early = Box::pin(balances.get(&1));
    assert!(early.as_mut().now_or_never().is_none());
    balances.invalidate(&1).await;
    let late = balances.get(&1);
    let (early, late) = futures::join!(early, late);
    assert_eq!((early.unwrap(), late.unwrap()), (1, 2));
    assert_eq!(balances.get(&1).await.unwrap(), 2);
    assert_eq!(loads.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_while_one_refresh_runs() {
    let (soft, hard) = (Duration::from_secs(1), Duration::from_secs(60));
    let (balances, loads) =
        counted(MemoryCache::builder(10).jitter(0.0).soft_ttl(soft).hard_ttl(hard).build());
    balances.get(&1).await.unwrap();
    advance(soft).await;
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(balances.get(&1).await.unwrap(), 1);
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
    sleep(LOAD + Duration::from_millis(1)).await;
    assert_eq!(balances.get(&1).await.unwrap(), 2);
    assert_eq!(loads.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_a_value_that_expired_meanwhile_is_joined() {
    let (soft, hard) = (Duration::from_millis(990), Duration::from_secs(1));
    let (balances, loads) =
        counted(MemoryCache::builder(10).jitter(0.0).soft_ttl(soft).hard_ttl(hard).build());
    balances.get(&1).await.unwrap();
    advance(Duration::from_millis(940)).await;
    assert_eq!(balances.get(&1).await.unwrap(), 1);
    sleep(Duration::from_millis(20)).await;
    assert_eq!(balances.get(&1).await.unwrap(), 2);
    assert_eq!(loads.load(Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn beside_a_load_that_hangs_its_successor_gets_the_lease() {
    let soft_age = Duration::from_millis(200);
    let flights = SingleFlight::builder()
        .idle(Idle::Linger(Duration::from_secs(60)))
        .soft_age(soft_age)
        .build();
    let cache = MemoryCache::builder(10).lease_max(soft_age).build();
    let loads = Arc::new(AtomicUsize::new(0));
    let load = {
        let loads = Arc::clone(&loads);
        move |_key: u64| {
            let hangs = loads.fetch_add(1, Relaxed) == 0;
            async move {
                if hangs {
                    pending::<()>().await;
                }
                sleep(LOAD).await;
                Ok::<_, io::Error>(7_u64)
            }
        }
    };
    let balances = ReadThrough::new(cache, load).with_flights(flights);
    let began = Instant::now();
    let all = join_all((0..200).map(|_| balances.get(&1))).await;
    assert!(all.into_iter().all(|value| value.unwrap() == 7));
    assert_eq!((began.elapsed(), loads.load(Relaxed)), (soft_age + LOAD, 2));
    assert_eq!(balances.get(&1).now_or_never().unwrap().unwrap(), 7, "it was stored");
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_a_replica_behind_the_write_is_served_and_not_stored() {
    let at = |lsn| Position::of([(ShardId::new(0), WalPoint { system: 7, timeline: 1, lsn })]);
    let replayed = Arc::new(AtomicU64::new(90));
    let load = {
        let replayed = Arc::clone(&replayed);
        move |_key: u64| {
            let lsn = replayed.load(Relaxed);
            ready(Ok::<_, io::Error>(Loaded::at(lsn, at(lsn))))
        }
    };
    let balances = ReadThrough::positioned(MemoryCache::new(10), load);
    balances.invalidate_at(&1, &at(100)).await;
    assert_eq!(balances.get(&1).await.unwrap(), 90);
    replayed.store(100, Relaxed);
    assert_eq!(balances.get(&1).await.unwrap(), 100, "the answer at 90 must not be stored");
    replayed.store(110, Relaxed);
    assert_eq!(balances.get(&1).await.unwrap(), 100, "the answer at 100 is");
}

/// A cache whose lease somebody in another process holds for ever.
struct HeldElsewhere;

impl Cache<u64, u64> for HeldElsewhere {
    type Lease = ();
    type Wait = Pending<()>;

    async fn get(&self, _key: &u64) -> Lookup<u64, (), Pending<()>> {
        Lookup::Pending(pending())
    }

    async fn fill(&self, (): (), _loaded: Loaded<u64>) -> Fill {
        Fill::Revoked
    }

    async fn invalidate(&self, _key: &u64) {}

    async fn invalidate_at(&self, _key: &u64, _position: &Position) {}
}

#[tokio::test(start_paused = true)]
async fn a_lease_held_elsewhere_delays_a_load_by_a_bounded_time() {
    let balances = ReadThrough::new(HeldElsewhere, |key| ready(Ok::<_, io::Error>(key)))
        .pending_max(Duration::from_secs(1));
    let began = Instant::now();
    assert_eq!(balances.get(&1).await.unwrap(), 1);
    assert_eq!(began.elapsed(), Duration::from_secs(1));
}

/// The same on real threads, where an invalidation may fall between any two steps of a fill.
#[test]
fn no_read_on_another_thread_gets_a_value_from_before_an_invalidation() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(3)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let (row, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let load = {
            let row = Arc::clone(&row);
            move |_key: u64| {
                let row = Arc::clone(&row);
                async move {
                    let value = row.load(Relaxed);
                    tokio::task::yield_now().await;
                    Ok::<_, io::Error>(value)
                }
            }
        };
        let through = ReadThrough::new(MemoryCache::new(100), load);
        let mut readers = JoinSet::new();
        let written = Arc::new(AtomicU64::new(0));
        for _ in 0..4 {
            let (through, written, stop) = (through.clone(), Arc::clone(&written), stop.clone());
            readers.spawn(async move {
                while !stop.load(Relaxed) {
                    let least = written.load(std::sync::atomic::Ordering::Acquire);
                    assert!(through.get(&1).await.unwrap() >= least);
                    tokio::task::yield_now().await;
                }
            });
        }
        for write in 1..20_000 {
            row.store(write, std::sync::atomic::Ordering::SeqCst);
            through.invalidate(&1).await;
            written.store(write, std::sync::atomic::Ordering::Release);
            tokio::task::yield_now().await;
        }
        stop.store(true, Relaxed);
        while let Some(ended) = readers.join_next().await {
            ended.unwrap();
        }
    });
}
