//! The shard map routes as PostgreSQL does.

use sortie::{ShardId, ShardKey, ShardMap};

/// What `satisfies_hash_partition` of a PostgreSQL 15.18 server (UTF8, C.UTF-8) says: the key's
/// type, the key, and its remainder for each of [`MODULI`].
const GOLDEN: &str = include_str!("golden.tsv");
const MODULI: [u32; 5] = [2, 3, 7, 16, 1000];

#[test]
fn keys_route_as_a_server_says() {
    let mut keys = 0;
    for line in GOLDEN.lines() {
        let mut fields = line.split('\t');
        let (kind, key) = (fields.next().unwrap(), fields.next().unwrap());
        let key: ShardKey<'_> = match kind {
            "int2" => key.parse::<i16>().unwrap().into(),
            "int4" => key.parse::<i32>().unwrap().into(),
            "int8" => key.parse::<i64>().unwrap().into(),
            "text" | "varchar" => key.into(),
            other => panic!("no key is of type {other}"),
        };
        for (modulus, remainder) in MODULI.into_iter().zip(fields) {
            let shard = ShardMap::pg_hash(modulus).shard_of(key.clone());
            assert_eq!(shard.index(), remainder.parse::<u32>().unwrap(), "{line} mod {modulus}");
        }
        keys += 1;
    }
    assert_eq!(keys, 170, "the table was read whole");
}

#[test]
fn small_integers_route_as_a_server_says() {
    let of = |shards| {
        let map = ShardMap::pg_hash(shards);
        (0..16_i64).map(move |key| map.shard_of(key).index()).collect::<Vec<_>>()
    };
    assert_eq!(of(3), [2, 2, 0, 1, 0, 2, 0, 1, 0, 2, 1, 2, 2, 1, 1, 0]);
    assert_eq!(of(4), [0, 0, 2, 1, 3, 1, 3, 3, 1, 1, 3, 1, 0, 2, 0, 3]);
}

#[test]
fn every_key_of_a_cluster_with_one_shard_is_on_it() {
    let map = ShardMap::pg_hash(1);
    assert!((-99..99_i64).all(|key| map.shard_of(key) == ShardId::new(0)));
    assert_eq!(map.shards().collect::<Vec<_>>(), [ShardId::new(0)]);
}

#[test]
fn keys_spread_evenly() {
    let map = ShardMap::pg_hash(2);
    let on_first = (1..=100_000_i64).filter(|&key| map.shard_of(key).index() == 0).count();
    assert!((49_500..=50_500).contains(&on_first), "{on_first} of 100,000");
}

#[test]
#[should_panic(expected = "at least one shard")]
fn a_cluster_without_shards_is_a_mistake_of_the_caller() {
    let _ = ShardMap::pg_hash(0);
}
