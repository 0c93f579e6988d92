//! Statements that can't be scattered, from a session that asks all shards: they are answered as
//! one server with all rows would, or refused; nobody is told one shard's rows.

use sortie_testkit::{Batch, Cluster, Frame, LabConfig, Wire};

use crate::support::{USERS, among_others, before_shards};

/// Nobody can say this of all shards.
const REFUSED: &[&str] = &[
    "SELECT name FROM users u JOIN users v USING (name)",
    "SELECT count(*) FROM users u, generate_series(1, 2) g",
    "SELECT * FROM users, LATERAL (SELECT 1) x",
    "WITH u AS (SELECT * FROM users) SELECT count(*) FROM u",
    "SELECT count(*) FROM (SELECT * FROM users LIMIT 10) u",
    "SELECT count(*) FROM users WHERE balance > (SELECT avg(balance) FROM users)",
    "SELECT count(*) FROM users WHERE EXISTS (SELECT 1 FROM users v WHERE v.user_id = 7)",
    "SELECT (SELECT count(*) FROM users)",
    "VALUES ((SELECT count(*) FROM users))",
    "SELECT row_number() OVER (ORDER BY balance) FROM users",
    "SELECT sum(balance) OVER () FROM users",
    "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY balance) FROM users",
    "SELECT array_agg(user_id) FROM users",
    "SELECT string_agg(name, ',') FROM users",
    "SELECT stddev(balance) FROM users",
    "SELECT count(*) FROM users TABLESAMPLE BERNOULLI (50)",
    "SELECT 1 UNION ALL SELECT count(*) FROM users",
    "SELECT user_id FROM users EXCEPT SELECT 1",
    "SELECT user_id FROM users INTERSECT SELECT 1",
    "SELECT count(*) FROM users GROUP BY ROLLUP (name)",
    "SELECT DISTINCT ON (balance) * FROM users",
    "SELECT random() FROM users",
    "SELECT ctid FROM users",
    "SELECT xmin FROM users",
    "SELECT * FROM users FOR UPDATE",
    "SELECT count(*) FROM everybody",
    "SELECT total()",
    "SELECT * FROM the_rich()",
    "SELECT query_to_xml('SELECT count(*) FROM users', true, true, '')",
    "COPY users TO STDOUT",
    "COPY (SELECT count(*) FROM users) TO STDOUT",
    "DECLARE c CURSOR WITH HOLD FOR SELECT * FROM users",
    "EXPLAIN ANALYZE SELECT count(*) FROM users",
    "CREATE TEMP TABLE t AS SELECT * FROM users",
    "SELECT * INTO TEMP t FROM users",
    "CREATE VIEW v AS SELECT * FROM users",
    "PREPARE p AS SELECT count(*) FROM users",
    "DO $$ BEGIN PERFORM count(*) FROM users; END $$",
    "INSERT INTO users VALUES (1, 'a', 1)",
    "UPDATE users SET balance = 0",
    "DELETE FROM users",
    "SELECT reltuples FROM pg_class WHERE relname = 'users'",
    "SELECT n_live_tup FROM pg_stat_user_tables WHERE relname = 'users'",
    "SELECT pg_total_relation_size('users')",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'users'",
];

/// In a transaction: what has begun on one server has that server's rows.
const IN_A_TRANSACTION: &[&str] = &[
    "SELECT count(*) FROM users",
    "SELECT balance FROM users WHERE user_id = 7",
    "DECLARE c CURSOR FOR SELECT * FROM users",
    "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT * FROM users",
    "LOCK TABLE users IN ACCESS SHARE MODE",
];

/// What is right of all shards together.
const ANSWERED: &[(&str, &str)] = &[
    ("SELECT count(*) FROM users", "100000"),
    ("SELECT max(user_id) FROM users", "100000"),
    ("SELECT avg(user_id) FROM users", "50000.500000000000"),
    ("SELECT count(*) FROM users WHERE user_id BETWEEN 11 AND 20", "10"),
    ("SELECT count(DISTINCT user_id) FROM users", "100000"),
    ("SELECT user_id FROM users ORDER BY user_id DESC LIMIT 1", "100000"),
    ("SELECT count(*) FROM pg_class WHERE relname = 'users'", "1"),
];

fn extended(text: &str) -> Batch {
    Batch::new().statement(text, &[]).sync()
}

/// Why it is refused, if it is, and the first value that it is answered with.
fn outcome(frames: &[Frame]) -> (Option<String>, Option<String>) {
    let refused = frames.iter().find_map(Frame::report).map(|report| report.sqlstate);
    (refused, frames.iter().find_map(Frame::row).and_then(|mut row| row.swap_remove(0)))
}

fn is_refused(text: &str, frames: &[Frame]) {
    let (refused, answer) = outcome(frames);
    let refused = refused.unwrap_or_else(|| panic!("{text}: it is answered, {answer:?}"));
    assert!(["0A000", "25006"].contains(&&*refused), "{text}: {refused}");
    assert_eq!(answer, None, "{text}");
    assert!(frames.iter().all(|frame| frame.tag != b'd'), "{text}");
}

#[tokio::test]
async fn is_never_passed_off_as_the_cluster() {
    assert!(REFUSED.len() >= 40);
    let _others = among_others().await;
    let mut config = LabConfig::default();
    (config.shards, config.replicas) = (2, 0);
    let cluster = Cluster::private(config).await;
    let more = "CREATE VIEW everybody AS SELECT * FROM users;
        CREATE FUNCTION total() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM users';
        CREATE FUNCTION the_rich() RETURNS SETOF users LANGUAGE sql STABLE
            AS 'SELECT * FROM users ORDER BY balance DESC LIMIT 3';
        GRANT SELECT ON everybody TO PUBLIC;";
    for shard in 0..2 {
        cluster.primary(shard).script(more).await;
    }
    let (server, _config, mut wire) = before_shards(&cluster).await;
    for text in REFUSED {
        is_refused(text, &wire.simple(text).await);
        is_refused(text, &wire.ask(&extended(text)).await);
        is_refused(text, &wire.simple(&format!("{text}; SELECT 1")).await);
        wire.rows("DISCARD ALL").await;
    }
    for begin in ["BEGIN; SELECT 1", "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"] {
        for text in IN_A_TRANSACTION {
            for batch in [Batch::new().query(text), extended(text)] {
                wire.rows(begin).await;
                is_refused(text, &wire.ask(&batch).await);
                wire.rows("ROLLBACK").await;
            }
        }
    }
    assert_eq!(USERS, 100_000);
    for (text, right) in ANSWERED {
        for batch in [Batch::new().query(text), extended(text)] {
            let (refused, answer) = outcome(&wire.ask(&batch).await);
            match refused {
                Some(refused) => assert_eq!(refused, "0A000", "{text}"),
                None => assert_eq!(answer.as_deref(), Some(*right), "{text}"),
            }
        }
    }
    // What they refused they have not done.
    assert_eq!(wire.rows(ANSWERED[0].0).await[0][0].as_deref(), Some(ANSWERED[0].1));
    drop(wire);
    server.stop().await;
    let mut direct =
        Wire::try_connect_to(cluster.primary(0).address(), "reader", "sortie").await.unwrap();
    assert!(direct.rows("SELECT FROM pg_class WHERE relname IN ('t', 'v')").await.is_empty());
}
