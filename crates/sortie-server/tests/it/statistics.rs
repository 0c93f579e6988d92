//! Several shards' catalogs: definitions are the same on each, and any of them answers; statistics
//! are one server's, and nobody is told them as the cluster's.

use std::process::Command;

use sortie_testkit::{cluster, program, python, run, workspace};

use crate::support::{among_others, before_shards};

/// What only the servers know, each of its own rows.
const STATISTICS: &[&str] = &[
    "SELECT histogram_bounds FROM pg_stats WHERE tablename = 'users'",
    "SELECT count(*) FROM pg_stats_ext",
    "SELECT reltuples FROM pg_class WHERE relname = 'users'",
    "SELECT c.* FROM pg_class c WHERE c.relname = 'users'",
    "SELECT * FROM pg_class",
    "SELECT n_live_tup FROM pg_stat_user_tables",
    "SELECT heap_blks_read FROM pg_statio_user_tables",
    "SELECT datname, xact_commit FROM pg_stat_database",
    "SELECT count(*) FROM pg_stat_activity",
    "SELECT count(*) FROM pg_locks",
    "SELECT pg_total_relation_size('users')",
    "SELECT pg_size_pretty(pg_table_size('users'::regclass))",
    "SELECT pg_database_size(current_database())",
    "SELECT pg_stat_get_live_tuples('users'::regclass)",
    "SELECT last_value FROM pg_sequences",
    "SELECT txid_current()",
];

#[tokio::test]
async fn are_statistics_only_to_who_asks_one_shard() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let (server, _config, mut wire) = before_shards(&cluster).await;
    for text in STATISTICS {
        let refused = wire.refusal(text).await;
        assert_eq!(refused.sqlstate, "0A000", "{text}");
        assert!(refused.message.contains("of one server's rows"), "{refused:?}");
        assert!(refused.detail.contains("sortie.shard"), "{refused:?}");
    }
    wire.rows("SET sortie.shard = 1").await;
    for text in STATISTICS {
        wire.rows(text).await;
    }
    drop(wire);
    server.stop().await;
}

/// What psql and drivers ask to know a database goes on working, and says what one server says.
#[tokio::test]
async fn and_definitions_to_everybody() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let primary = |shard| cluster.primary(shard).address();
    let (server, _config, wire) = before_shards(&cluster).await;
    let client = |port: u16, database: &'static str| async move {
        let mut psql = Command::new(program("psql"));
        psql.args(["-X", "-w", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", "reader"]);
        psql.args(["-d", database, "-p", &port.to_string()]);
        let lists = ["d", "d users", "d+ users", "dt", "di", "dv", "ds", "dn", "du", "df", "dT"];
        let more = ["dp users", "dx", "l", "sf now", "dd", "dF", "drds", "dRp", "dX"];
        for command in lists.iter().chain(&more) {
            psql.args(["-c", &format!("\\{command}")]);
        }
        let mut script = Command::new(python());
        script.arg(workspace().join("tests/clients/introspection.py"));
        script.args([&port.to_string(), database]);
        let mut said = String::new();
        for command in [psql, script] {
            let ran = run(command).await;
            assert!(ran.success, "{}\n{}", ran.out, ran.err);
            said += &ran.out;
        }
        said
    };
    let theirs = client(primary(0).port(), "sortie").await;
    assert!(theirs.lines().count() > 60, "{theirs}");
    let ours = client(server.listen().port(), "postgres").await;
    for (theirs, ours) in theirs.lines().zip(ours.lines()) {
        assert_eq!(ours, theirs);
    }
    assert_eq!(ours.len(), theirs.len());
    drop(wire);
    server.stop().await;
}
