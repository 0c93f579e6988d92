//! A hit through [`ReadThrough`] against a plain get of the cache that it stands on.
//!
//! 4,096 keys that are all there, one thread. What sortie adds: the lease, the stamps that no value
//! outlives, the ages, and the way past the flights.
#![expect(clippy::unwrap_used, reason = "a benchmark that meets an error has failed")]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use sortie::{Cache, Lookup, MemoryCache, ReadThrough};
use tokio::runtime::Builder;
use tokio::time::Instant;

const KEYS: usize = 4096;

async fn burst(keys: &[String], calls: u64, get: &impl AsyncFn(&String) -> u64) -> Duration {
    let begun = Instant::now();
    for call in 0..calls {
        black_box(get(&keys[usize::try_from(call).unwrap() % KEYS]).await);
    }
    begun.elapsed()
}

fn hit(c: &mut Criterion) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let keys: Vec<String> = (0..KEYS).map(|key| format!("user:{key:08}")).collect();
    let mut group = c.benchmark_group("hit");

    let raw = quick_cache::sync::Cache::<String, u64>::new(KEYS * 4);
    for key in &keys {
        raw.insert(key.clone(), 7);
    }
    group.bench_function("floor: quick_cache", |b| {
        let get = async |key: &String| raw.get(key).unwrap();
        b.to_async(&runtime).iter_custom(|calls| burst(&keys, calls, &get));
    });

    let cache = MemoryCache::<String, u64>::new(KEYS * 4);
    let balances = ReadThrough::new(cache.clone(), |_key: String| async { Ok::<_, Infallible>(7) });
    runtime.block_on(async {
        for key in &keys {
            balances.get(key).await.unwrap();
        }
    });
    group.bench_function("sortie: MemoryCache", |b| {
        let get = async |key: &String| match cache.get(key).await {
            Lookup::Hit(cached) => cached.value,
            _ => panic!("it is there"),
        };
        b.to_async(&runtime).iter_custom(|calls| burst(&keys, calls, &get));
    });
    group.bench_function("sortie: ReadThrough", |b| {
        let get = async |key: &String| balances.get(key).await.unwrap();
        b.to_async(&runtime).iter_custom(|calls| burst(&keys, calls, &get));
    });
}

criterion_group!(benches, hit);
criterion_main!(benches);
