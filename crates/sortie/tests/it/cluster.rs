//! Clusters: a key's own shard is asked, and nobody else.

use std::time::Duration;

use sortie::{Cluster, Hedge, ReplicaSet, Scatter, ShardId, ShardMap};
use tokio::time::{Instant, sleep};

/// Three shards of two replicas, each a `(shard, replica)`; the first replica of each is slow.
fn cluster() -> Cluster<(u32, u32)> {
    let shards = (0..3).map(|shard| ReplicaSet::new((0..2).map(move |replica| (shard, replica))));
    Cluster::new(ShardMap::pg_hash(3), shards, Hedge::after(Duration::from_millis(10)))
}

async fn ask((shard, replica): (u32, u32)) -> Result<(u32, u32), std::io::Error> {
    sleep(Duration::from_millis(if replica == 0 { 500 } else { 1 })).await;
    Ok((shard, replica))
}

#[tokio::test(start_paused = true)]
async fn a_key_is_read_from_the_fastest_replica_of_its_shard() {
    let cluster = cluster();
    for (key, shard) in [(1, 2), (42, 0), (7, 1)] {
        let begun = Instant::now();
        assert_eq!(cluster.read(key, ask).await.unwrap(), (shard, 1));
        assert_eq!(begun.elapsed(), Duration::from_millis(11));
    }
    assert_eq!(cluster.read("hello", ask).await.unwrap(), (1, 1));
    assert_eq!(cluster.read(String::from("hello"), ask).await.unwrap().0, 1);
    let ledger = cluster.hedge().ledger();
    assert_eq!((ledger.requests, ledger.hedge_wins, ledger.in_flight()), (5, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn every_shard_is_read_by_scattering_over_the_cluster() {
    let cluster = cluster();
    let legs = Scatter::over(cluster.shards()).label(|shard| *shard);
    let asked = cluster.clone();
    let answers = legs.run(move |shard| asked.read_shard(shard, ask)).await.unwrap();
    assert_eq!(answers, [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(cluster.hedge().ledger().hedges, 3);
}

#[test]
fn keys_route_as_the_map_says() {
    let (cluster, map) = (cluster(), ShardMap::pg_hash(3));
    for key in -500..500_i64 {
        assert_eq!(cluster.shard_of(key), map.shard_of(key));
    }
    assert_eq!(cluster.shards().map(ShardId::index).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(cluster.replicas(ShardId::new(2)).len(), 2);
}

#[test]
#[should_panic(expected = "each shard of the map has a replica set")]
fn a_shard_without_replicas_is_a_mistake_of_the_caller() {
    drop(Cluster::new(ShardMap::pg_hash(2), [ReplicaSet::new([0])], Hedge::off()));
}

#[test]
#[should_panic(expected = "shard 3 of a cluster with 3 shards")]
fn a_shard_that_does_not_exist_is_a_mistake_of_the_caller() {
    let _ = cluster().replicas(ShardId::new(3)).len();
}
