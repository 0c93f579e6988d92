//! The sample table: the embedded cluster's rows, where PostgreSQL would put them.

use std::fmt::Write;

use sortie::ShardMap;
use sortie_lab::{Lab, LabConfig};

#[test]
fn rows_are_the_embedded_clusters_and_lie_where_the_map_says() {
    let config = LabConfig::default();
    let lab = Lab::start(&config, |step| println!("{step}")).unwrap();
    let map = ShardMap::pg_hash(config.shards);
    let mut expected = vec![String::new(); 2];
    for id in 1..=config.rows {
        let shard = map.shard_of(i64::from(id)).index() as usize;
        let (name, balance) = (sortie_sqlite::name(id), sortie_sqlite::balance(id));
        writeln!(expected[shard], "{id}|{name}|{balance}").unwrap();
    }
    for (shard, expected) in lab.shards().iter().zip(&expected) {
        for server in shard.servers() {
            let rows = server.script("sortie", "SELECT * FROM users ORDER BY user_id").unwrap();
            assert!(
                rows == *expected,
                "{}: {} bytes, {}",
                server.name(),
                rows.len(),
                expected.len()
            );
        }
    }
    let home = lab.home().to_owned();
    lab.stop().unwrap();
    assert!(!home.exists(), "its files are gone");
}
