//! Hedged reads against their floor: what the pattern costs when nothing goes wrong.
//!
//! The floor is the attempt itself, awaited with nothing around it. `skeleton` is the shape that a
//! straightforward hedge has: a queue and a timer first, then the attempt.
#![expect(clippy::unwrap_used, reason = "in a benchmark it is an assertion")]

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use sortie::{Cluster, Hedge, ReplicaSet, ShardMap, first_ok};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

const DELAY: Duration = Duration::from_millis(70);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

async fn answer(replica: u64) -> Result<u64, Infallible> {
    Ok(black_box(replica))
}

/// Waits once, as a query does, but for nothing: what is measured is what surrounds it.
async fn answer_after_a_turn(replica: u64) -> Result<u64, Infallible> {
    tokio::task::yield_now().await;
    answer(replica).await
}

async fn fail_on_even(replica: u64) -> Result<u64, ()> {
    if replica.is_multiple_of(2) { Err(()) } else { Ok(black_box(replica)) }
}

async fn skeleton(replica: u64) -> u64 {
    let mut running = FuturesUnordered::from_iter([answer(replica)]);
    timeout(DELAY, running.next()).await.unwrap().unwrap().unwrap()
}

fn fast_first_replica(c: &mut Criterion) {
    let runtime = runtime();
    let (hedge, replicas) = (Hedge::after(DELAY), ReplicaSet::new([1, 2, 3]));
    let cluster = Cluster::new(ShardMap::pg_hash(1), [ReplicaSet::new([1, 2, 3])], hedge.clone());
    let mut group = c.benchmark_group("hedge/fast_first_replica");
    group.bench_function("floor", |b| b.to_async(&runtime).iter(|| answer(1)));
    group.bench_function("skeleton", |b| b.to_async(&runtime).iter(|| skeleton(1)));
    group.bench_function("hedge", |b| {
        b.to_async(&runtime).iter(|| hedge.run(&replicas, answer));
    });
    group.bench_function("cluster", |b| {
        b.to_async(&runtime).iter(|| cluster.read(black_box(42), answer));
    });
    group.bench_function("first_ok", |b| {
        b.to_async(&runtime).iter(|| first_ok([1, 2, 3], answer));
    });
    group.finish();
}

fn first_replica_waits(c: &mut Criterion) {
    let runtime = runtime();
    let (hedge, replicas) = (Hedge::after(DELAY), ReplicaSet::new([1, 2, 3]));
    let mut group = c.benchmark_group("hedge/first_replica_waits");
    group.bench_function("floor", |b| b.to_async(&runtime).iter(|| answer_after_a_turn(1)));
    group.bench_function("timeout", |b| {
        b.to_async(&runtime).iter(|| timeout(DELAY, answer_after_a_turn(1)));
    });
    group.bench_function("hedge", |b| {
        b.to_async(&runtime).iter(|| hedge.run(&replicas, answer_after_a_turn));
    });
    group.finish();
}

fn failover(c: &mut Criterion) {
    let runtime = runtime();
    let (hedge, replicas) = (Hedge::off(), ReplicaSet::new([2, 4, 1]));
    let mut group = c.benchmark_group("hedge/failover");
    group.bench_function("zero_to_two", |b| {
        b.to_async(&runtime).iter(|| hedge.run(&replicas, fail_on_even));
    });
    group.finish();
}

criterion_group!(benches, fast_first_replica, first_replica_waits, failover);
criterion_main!(benches);
