//! What is left on a server by those who went away: nothing.

use std::time::Duration;

use sortie::{Hedge, ReplicaSet};
use sortie_postgres::{Frontend, Login, Server};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::{LONG, Place, config, place, query, settled, value};

const ACTIVE: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
     AND pid <> pg_backend_pid() AND (state <> 'idle' OR backend_xid IS NOT NULL)";

/// Waits until nobody but the one who looks does anything on the server.
async fn quiet(place: &Place) -> Duration {
    let begun = Instant::now();
    let watch = place.server(config(1));
    let mut watch = place.checkout(&watch).await.unwrap();
    while value(&mut watch, ACTIVE).await.unwrap() != "0" {
        assert!(begun.elapsed() < LONG, "something is still active");
        sleep(Duration::from_millis(5)).await;
    }
    begun.elapsed()
}

/// Starts a query, and drops it in its middle.
async fn abandon(server: Server, login: Login, text: &'static str, after: Duration) {
    let mut mine = server.checkout(&login, None, Instant::now() + LONG).await.unwrap();
    drop(timeout(after, mine.exchange(query(text))).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_abandoned_queries_leave_nothing() {
    let place = place().await;
    let server = place.server(config(40));
    for _ in 0..3 {
        let mut callers = JoinSet::new();
        for number in 0..100_u64 {
            let after = Duration::from_millis(20 + number % 7);
            callers.spawn(abandon(
                server.clone(),
                place.login.clone(),
                "SELECT pg_sleep(60)",
                after,
            ));
        }
        while let Some(caller) = callers.join_next().await {
            caller.unwrap();
        }
        quiet(&place).await;
        let stats = settled(&server).await;
        assert!(stats.idle > 0, "{stats:?}");
    }
    let stats = server.stats();
    assert!(stats.cancelled > 0 && stats.cancels_sent >= stats.cancelled, "{stats:?}");
    // All that are open can be used.
    let mut all = Vec::new();
    for _ in 0..40 {
        all.push(place.checkout(&server).await.unwrap());
    }
    for one in &mut all {
        assert_eq!(value(one, "SELECT 1").await.unwrap(), "1");
    }
    drop(all);
    assert_eq!(settled(&server).await.idle, 40, "full again");
}

/// Dropping the loser's future is all that a hedge does, and all that is needed.
#[tokio::test]
async fn a_hedges_loser_is_stopped_by_its_drop() {
    let place = place().await;
    let (slow, fast) = (place.server(config(2)), place.server(config(2)));
    let replicas = ReplicaSet::new([
        (slow.clone(), "SELECT 'slow' FROM pg_sleep(60)"),
        (fast.clone(), "SELECT 'fast'"),
    ]);
    let hedge = Hedge::after(Duration::from_millis(20));
    let answer = hedge
        .run(&replicas, async |(server, text)| {
            let mut mine = place.checkout(&server).await.map_err(|error| error.to_string())?;
            value(&mut mine, text).await.map_err(|error| error.to_string())
        })
        .await;
    assert_eq!(answer.unwrap(), "fast");
    quiet(&place).await;
    let stats = settled(&slow).await;
    assert_eq!((stats.cancelled, stats.idle, stats.closed), (1, 1, 0));
}

#[tokio::test]
async fn a_query_that_is_about_to_end_is_left_to_end() {
    let place = place().await;
    let mut config = config(1);
    config.drain_max = LONG;
    let server = place.server(config);
    let mut mine = place.checkout(&server).await.unwrap();
    drop(timeout(Duration::from_millis(10), value(&mut mine, "SELECT pg_sleep(0.02)")).await);
    mine.expect_end(Instant::now() + Duration::from_millis(1));
    drop(mine);
    let stats = settled(&server).await;
    assert_eq!((stats.drained, stats.cancels_sent, stats.idle), (1, 0, 1));
}

/// The same where nobody has said when it ends: it is waited for as long as a cancel would take.
#[tokio::test]
async fn queries_that_end_sooner_than_a_cancel_are_left_to_end() {
    let place = place().await;
    let server = place.server(config(1));
    for _ in 0..60 {
        let after = Duration::from_millis(3);
        abandon(server.clone(), place.login.clone(), "SELECT pg_sleep(0.006)", after).await;
    }
    let stats = settled(&server).await;
    assert_eq!((stats.killed, stats.idle), (0, 1), "{stats:?}");
    // On a busy machine some take longer than a cancel.
    assert!(stats.drained > stats.cancelled, "{stats:?}");
}

#[tokio::test]
async fn what_was_expected_to_end_and_does_not_is_cancelled() {
    let place = place().await;
    let server = place.server(config(1));
    let mut mine = place.checkout(&server).await.unwrap();
    drop(timeout(Duration::from_millis(10), value(&mut mine, "SELECT pg_sleep(60)")).await);
    mine.expect_end(Instant::now() + Duration::from_millis(1));
    drop(mine);
    let stats = settled(&server).await;
    assert_eq!((stats.drained, stats.cancelled, stats.idle), (0, 1, 1));
    quiet(&place).await;
}

#[tokio::test]
async fn open_transactions_are_rolled_back_and_soiled_sessions_cleaned() {
    let place = place().await;
    place.run("CREATE TABLE t (x int)").await;
    let server = place.server(config(1));
    let mut mine = place.checkout(&server).await.unwrap();
    value(&mut mine, "BEGIN").await.unwrap();
    value(&mut mine, "INSERT INTO t VALUES (1)").await.unwrap();
    drop(mine);
    let mut mine = place.checkout(&server).await.unwrap();
    assert_eq!(value(&mut mine, "SELECT count(*) FROM t").await.unwrap(), "0");
    value(&mut mine, "BEGIN").await.unwrap();
    value(&mut mine, "SELECT 1/0").await.unwrap_err();
    drop(mine);
    let mut mine = place.checkout(&server).await.unwrap();
    value(&mut mine, "SET work_mem = '77MB'").await.unwrap();
    mine.soil();
    drop(mine);
    let mut mine = place.checkout(&server).await.unwrap();
    assert_ne!(value(&mut mine, "SHOW work_mem").await.unwrap(), "77MB");
    assert_eq!(server.stats().opened, 1, "always the same connection");
}

#[tokio::test]
async fn batches_of_several_queries_are_stopped_one_after_the_other() {
    let place = place().await;
    let server = place.server(config(1));
    let mut mine = place.checkout(&server).await.unwrap();
    let mut frames = bytes::BytesMut::new();
    for _ in 0..3 {
        Frontend::Query { text: "SELECT pg_sleep(60)".into() }.encode(&mut frames);
    }
    mine.send(&mut frames).await.unwrap();
    assert_eq!(mine.owed(), 3);
    drop(mine);
    let stats = settled(&server).await;
    assert_eq!((stats.cancelled, stats.idle), (1, 1));
    // One that comes between two of the queries hits none, and is sent again. One may also hit two:
    // PostgreSQL signals its process and then the process's group.
    assert!((2..=6).contains(&stats.cancels_sent), "{stats:?}");
    quiet(&place).await;
}

/// A server that awaits data listens to no cancel; only the end of the connection stops it.
#[tokio::test]
async fn a_copy_without_its_end_and_a_batch_without_its_sync_are_closed() {
    let place = place().await;
    place.run("CREATE TABLE t (x int)").await;
    let server = place.server(config(3));
    let mut copying = place.checkout(&server).await.unwrap();
    let mut frames = bytes::BytesMut::new();
    Frontend::Query { text: "COPY t FROM STDIN".into() }.encode(&mut frames);
    copying.send(&mut frames).await.unwrap();
    let mut unsynced = place.checkout(&server).await.unwrap();
    let parse = Frontend::Parse {
        statement: "".into(),
        text: "INSERT INTO t VALUES (1)".into(),
        oids: vec![],
    };
    for frame in [
        parse,
        Frontend::Bind(sortie_postgres::Bind::default()),
        Frontend::Execute { portal: "".into(), rows_max: 0 },
        Frontend::Flush,
    ] {
        frame.encode(&mut frames);
    }
    unsynced.send(&mut frames).await.unwrap();
    let mut half = place.checkout(&server).await.unwrap();
    half.send(&mut &b"Q\0\0\0\x20SELECT"[..]).await.unwrap();
    sleep(Duration::from_millis(50)).await;
    drop((copying, unsynced, half));
    let stats = settled(&server).await;
    assert_eq!((stats.idle, stats.closed), (0, 3));
    quiet(&place).await;
    let mut mine = place.checkout(&server).await.unwrap();
    assert_eq!(value(&mut mine, "SELECT count(*) FROM t").await.unwrap(), "0", "none committed");
}

/// Past the bound connections are closed, and what they ran ends all the same.
#[tokio::test]
async fn too_many_at_once_are_closed_and_still_end() {
    let place = place().await;
    let mut config = config(8);
    (config.quarantined_max, config.cancels_max) = (Some(1), 1);
    config.check_interval = Duration::from_millis(100);
    let server = place.server(config);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(abandon(
            server.clone(),
            place.login.clone(),
            "SELECT pg_sleep(60)",
            Duration::from_millis(100),
        ));
    }
    while let Some(caller) = callers.join_next().await {
        caller.unwrap();
    }
    quiet(&place).await;
    let stats = settled(&server).await;
    assert!(stats.killed > 0, "{stats:?}");
}
