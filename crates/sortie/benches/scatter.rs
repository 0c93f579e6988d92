//! What a scatter costs beside doing nothing and beside its peers, and what a cache hit costs.
//!
//! Legs are ready at once or never: what is measured is the machinery, not a database.

use std::convert::Infallible;
use std::future::{pending, ready};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures::future::try_join_all;
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use hashbrown::DefaultHashBuilder;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache as QuickCache, DefaultLifecycle};
use sortie::{MemoryCache, ReadThrough, Scatter, ScatterLedger};
use tokio::runtime::{Builder, Runtime};
use tokio::task::yield_now;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime starts")
}

async fn answer(leg: u64) -> Result<u64, Infallible> {
    black_box(Ok(leg))
}

fn gather(c: &mut Criterion) {
    let runtime = runtime();
    let mut group = c.benchmark_group("scatter/gather_ready");
    for legs in [1_u64, 8, 64] {
        group.throughput(Throughput::Elements(legs));
        group.bench_with_input(BenchmarkId::new("floor", legs), &legs, |b, &legs| {
            b.to_async(&runtime).iter(|| async move {
                let mut answers = Vec::with_capacity(64);
                for leg in 0..legs {
                    answers.push(answer(leg).await?);
                }
                Ok::<_, Infallible>(answers)
            });
        });
        group.bench_with_input(BenchmarkId::new("try_join_all", legs), &legs, |b, &legs| {
            b.to_async(&runtime).iter(|| try_join_all((0..legs).map(answer)));
        });
        group.bench_with_input(BenchmarkId::new("FuturesUnordered", legs), &legs, |b, &legs| {
            b.to_async(&runtime).iter(|| async move {
                let all: FuturesUnordered<_> = (0..legs).map(answer).collect();
                all.try_collect::<Vec<_>>().await
            });
        });
        group.bench_with_input(BenchmarkId::new("Scatter", legs), &legs, |b, &legs| {
            b.to_async(&runtime).iter(|| Scatter::over(0..legs).run(answer));
        });
        let ledger = ScatterLedger::default();
        group.bench_with_input(BenchmarkId::new("Scatter, counted", legs), &legs, |b, &legs| {
            b.to_async(&runtime).iter(|| Scatter::over(0..legs).ledger(&ledger).run(answer));
        });
    }
    group.finish();
}

/// All legs but the last never answer; it fails at its first poll, or at its second.
async fn fail_last(leg: u64, at_once: bool) -> Result<u64, u64> {
    if leg < 63 {
        pending::<()>().await;
    }
    if !at_once {
        yield_now().await;
    }
    Err(leg)
}

fn first_error(c: &mut Criterion) {
    let runtime = runtime();
    // Above 30 futures `try_join_all` doesn't see an error before all futures ahead of it have
    // ended, and here they never do.
    let mut group = c.benchmark_group("scatter/first_error_of_64");
    for (name, at_once) in [("first poll", true), ("second poll", false)] {
        group.bench_function(BenchmarkId::new("FuturesUnordered", name), |b| {
            b.to_async(&runtime).iter(|| async move {
                let mut all: FuturesUnordered<_> =
                    (0..64).map(|leg| fail_last(leg, at_once)).collect();
                all.next().await
            });
        });
        group.bench_function(BenchmarkId::new("Scatter", name), |b| {
            b.to_async(&runtime).iter(|| Scatter::over(0..64).run(|leg| fail_last(leg, at_once)));
        });
    }
    group.finish();
}

fn cache_hit(c: &mut Criterion) {
    const KEYS: u64 = 1_000;
    let runtime = runtime();
    let mut group = c.benchmark_group("read_through/hit");
    let raw: QuickCache<u64, u64, _, _> = QuickCache::with(
        10_000,
        10_000,
        UnitWeighter,
        DefaultHashBuilder::default(),
        DefaultLifecycle::default(),
    );
    (0..KEYS).for_each(|key| raw.insert(key, key));
    let mut key = 0;
    let mut next = move || {
        key = (key + 7) % KEYS;
        key
    };
    group.bench_function("quick_cache", |b| {
        b.to_async(&runtime).iter(|| ready(raw.get(&next())));
    });

    let caches = [
        ("ReadThrough", MemoryCache::builder(10_000)),
        ("ReadThrough, with ages", MemoryCache::builder(10_000).soft_ttl(Duration::from_secs(900))),
    ];
    for (name, cache) in caches {
        let through =
            ReadThrough::new(cache.build(), |key: u64| async move { Ok::<_, Infallible>(key) });
        runtime.block_on(async {
            for key in 0..KEYS {
                through.get(&key).await.expect("the loader can't fail");
            }
        });
        group.bench_function(name, |b| {
            b.to_async(&runtime).iter(|| {
                let (through, key) = (&through, next());
                async move { through.get(&key).await.map(black_box).is_ok() }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, gather, first_error, cache_hit);
criterion_main!(benches);
