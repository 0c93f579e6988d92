//! Creation, reuse, refusal; which rows lie where.

use std::fs;
use std::path::Path;

use sortie_sqlite::{Embedded, EmbeddedConfig, Error, Oracle, Value, balance, name};
use tokio::time::Instant;

fn config(dir: &Path, rows: u32) -> EmbeddedConfig {
    let mut config = EmbeddedConfig::default();
    (config.data, config.rows, config.workers) = (Some(dir.to_owned()), rows, 1);
    config
}

fn refusal(config: &EmbeddedConfig) -> String {
    match Embedded::create(config) {
        Err(error @ Error::NotOurs { .. }) => error.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn the_default_cluster_is_there_in_a_moment_and_gone_without_a_trace() {
    let began = Instant::now();
    let embedded = Embedded::create(&EmbeddedConfig::default()).unwrap();
    println!("created 100,000 rows on 2 x 3 replicas in {:?}", began.elapsed());
    let dir = embedded.dir().to_owned();
    assert!(embedded.is_new() && embedded.is_temporary());
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 7, "six files and a manifest");
    drop(embedded);
    assert!(!dir.exists(), "the temporary directory is left behind");
}

#[tokio::test]
async fn rows_lie_where_postgresql_would_put_them_and_hold_what_is_documented() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::create(&config(dir.path(), 5_000)).unwrap();
    let mut users = Vec::new();
    for (shard, replicas) in embedded.shards().iter().enumerate() {
        for (at, replica) in replicas.iter().enumerate() {
            assert_eq!(replica.label(), format!("{shard}.{at}"));
            let all = replica.query("SELECT * FROM users ORDER BY 1".into(), [].into());
            for row in all.await.unwrap().rows {
                let [Value::Int(id), Value::Text(text), Value::Int(amount)] = &row[..] else {
                    panic!("{row:?}");
                };
                let user = u32::try_from(*id).unwrap();
                assert_eq!((text, *amount), (&name(user), balance(user)));
                users.push((at, user, shard));
            }
        }
    }
    users.sort_unstable();
    let expected = (0..3).flat_map(|at| (1..=5_000).map(move |user| (at, user)));
    assert!(users.iter().map(|(at, user, _)| (*at, *user)).eq(expected), "lost or doubled");
    // Remainders of 2 as PostgreSQL computes them for int8 1 to 15 (those of 4, modulo 2).
    let shards = users[..15].iter().map(|(_, _, shard)| *shard).collect::<Vec<_>>();
    assert_eq!(shards, [0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1]);
}

#[tokio::test]
async fn the_oracle_holds_what_all_shards_hold() {
    let dir = tempfile::tempdir().unwrap();
    let oracle = Oracle::create(&dir.path().join("all.sqlite"), 2_000).unwrap();
    let embedded = Embedded::create(&config(&dir.path().join("cluster"), 2_000)).unwrap();
    let sql = "SELECT user_id, name, balance FROM users WHERE user_id > ?1";
    let mut found = Vec::new();
    for replicas in embedded.shards() {
        let rows = replicas[0].query(sql.into(), [Value::Int(500)].into()).await.unwrap();
        found.extend(rows.rows);
    }
    found.sort();
    assert_eq!(found, oracle.query(sql, &[500.into()]).unwrap().rows);
    assert_eq!(found.len(), 1_500);
}

#[test]
fn a_directory_is_reused_when_it_holds_the_same_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(&dir.path().join("new/deep"), 500);
    assert!(Embedded::create(&config).unwrap().is_new());
    let again = Embedded::create(&config).unwrap();
    assert!(!again.is_new() && !again.is_temporary());
    drop(again);
    assert!(config.data.unwrap().exists(), "data that was asked for is kept");
}

#[test]
fn a_directory_with_another_cluster_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::create(&config(dir.path(), 500)).unwrap());
    let text = refusal(&config(dir.path(), 501));
    assert!(text.contains("rows 500") && text.contains("rows 501"), "{text}");
    assert!(!Embedded::create(&config(dir.path(), 500)).unwrap().is_new());
}

#[test]
fn a_directory_of_somebody_else_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.txt"), "irreplaceable").unwrap();
    let text = refusal(&config(dir.path(), 500));
    assert!(text.contains("not empty"), "{text}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_creation_that_was_cut_short_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::create(&config(dir.path(), 500)).unwrap());
    fs::remove_file(dir.path().join("sortie-embedded")).unwrap();
    fs::write(dir.path().join("sortie-embedded.unfinished"), "").unwrap();
    fs::write(dir.path().join("shard-1-replica-0.sqlite"), "half a file").unwrap();
    assert!(Embedded::create(&config(dir.path(), 500)).unwrap().is_new());
    assert!(!Embedded::create(&config(dir.path(), 500)).unwrap().is_new());
}

#[test]
fn a_file_that_lost_rows_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    drop(Embedded::create(&config(dir.path(), 500)).unwrap());
    let shard = |shard: u32| dir.path().join(format!("shard-{shard}-replica-2.sqlite"));
    fs::copy(shard(0), shard(1)).unwrap();
    assert!(refusal(&config(dir.path(), 500)).contains("replica 2"));
}

#[test]
fn a_cluster_that_can_not_exist_is_refused() {
    let mut config = EmbeddedConfig::default();
    config.shards = 0;
    let error = Embedded::create(&config).unwrap_err();
    assert_eq!(error.to_string(), "shards must be 1 to 64, not 0");
}

#[tokio::test]
async fn a_kept_directory_may_be_written_by_others_between_two_statements() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::create(&config(dir.path(), 10)).unwrap();
    let replica = embedded.shards()[0][0].clone();
    let balance = || replica.query("SELECT balance FROM users WHERE user_id = 1".into(), [].into());
    balance().await.unwrap();
    let writer = rusqlite::Connection::open(dir.path().join("shard-0-replica-0.sqlite")).unwrap();
    for written in [1, 2] {
        let update = "UPDATE users SET balance = ?1 WHERE user_id = 1";
        assert_eq!(writer.execute(update, [written]).unwrap(), 1);
        assert_eq!(balance().await.unwrap().rows, [[Value::Int(written)]]);
    }
}
