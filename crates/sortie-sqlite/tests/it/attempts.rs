//! Attempts: their bounds, their cancellation, their end with the cluster.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sortie_sqlite::{Embedded, EmbeddedConfig, Error, Replica, Rows, Trouble, Value};
use tokio::time::{Instant, sleep, timeout};

use crate::{settle, small};

/// Counts to `n` inside SQLite: long, and without a row until the end.
fn count_to(replica: &Replica, n: i64) -> impl Future<Output = Result<Rows, Error>> + use<> {
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1) \
               SELECT count(*) FROM n";
    replica.query(sql.into(), [Value::Int(n)].into())
}

const FOR_EVER: i64 = 1_000_000_000_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_runs_where_it_is_spawned_and_is_counted() {
    let embedded = small(Trouble::default());
    let replica = embedded.shards()[0][0].clone();
    let sql: Arc<str> = "SELECT balance FROM users WHERE user_id = ?1 OR name = ?2".into();
    let query = replica.query(sql, [1.into(), Value::Null].into());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(query);
    let rows = tasks.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(rows.rows, [[Value::Int(sortie_sqlite::balance(1))]]);
    let stats = replica.stats();
    assert_eq!((stats.statements, stats.cancelled, stats.in_flight), (1, 0, 0));
    assert_eq!(embedded.shards()[0][1].stats().statements, 0);
}

#[tokio::test]
async fn what_sqlite_refuses_names_the_replica() {
    let embedded = small(Trouble::default());
    let refused = |sql: &str| embedded.shards()[1][0].query(sql.into(), [].into());
    let error = refused("SELECT wealth FROM users").await.unwrap_err();
    assert_eq!(error.to_string(), "1.0: no such column: wealth");
    let error = refused("DELETE FROM users").await.unwrap_err();
    assert!(error.to_string().contains("readonly"), "{error}");
    let error = refused("SELECT 0.5").await.unwrap_err();
    assert!(error.to_string().contains("Real"), "{error}");
}

#[tokio::test]
async fn a_running_attempt_that_is_dropped_gives_its_slot_back() {
    let embedded = small(Trouble::default());
    let replica = &embedded.shards()[0][0];
    for _ in 0..4 {
        let attempt = timeout(Duration::from_millis(5), count_to(replica, FOR_EVER));
        assert!(attempt.await.is_err(), "it can't have finished");
    }
    settle(replica).await;
    assert_eq!(replica.stats().cancelled, 4);
    assert_eq!(replica.stats().statements, 4, "each got one of the two slots");
}

/// A cancel that comes at any moment of a statement's life must not reach another one. The
/// moment that matters is when the worker is done with the victim and has the next statement
/// already, while the victim's caller has not looked yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_hits_its_own_statement_only() {
    let mut config = EmbeddedConfig::default();
    (config.replicas, config.rows, config.workers) = (1, 1_000, 1);
    let embedded = Embedded::create(&config).unwrap();
    let replica = &embedded.shards()[0][0];
    let over = Arc::new(AtomicBool::new(false));
    let mut bystanders = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (replica, over) = (replica.clone(), Arc::clone(&over));
        bystanders.spawn(async move {
            let mut answered = 0;
            while !over.load(Relaxed) {
                let outcome = count_to(&replica, 3_000).await;
                let rows = outcome.expect("a cancel hit a statement that was not its own").rows;
                assert_eq!(rows, [[Value::Int(3_000)]]);
                answered += 1;
            }
            answered
        });
    }

    let (mut answered, mut cancelled) = (0, 0);
    let mut typical = Duration::from_millis(1);
    for round in 0..3_000 {
        let mut victim = Box::pin(count_to(replica, 3_000));
        let began = Instant::now();
        // Cuts sweep from nothing to twice what a victim takes, so that many fall around its end.
        let cut = began + typical * (round % 40) / 20;
        let done = poll_fn(|cx| match victim.as_mut().poll(cx) {
            Poll::Pending if Instant::now() < cut => {
                cx.waker().wake_by_ref(); // A timer is too coarse to hit the end of a statement.
                Poll::Pending
            }
            state => Poll::Ready(state.is_ready()),
        });
        if done.await {
            typical = (typical * 7 + began.elapsed()) / 8;
            answered += 1;
        } else {
            cancelled += 1;
        }
    }
    over.store(true, Relaxed);
    let unharmed = bystanders.join_all().await;
    println!(
        "{answered} victims answered, {cancelled} cancelled; beside them {unharmed:?} answered"
    );
    assert!(answered > 100 && cancelled > 100, "the cancels came on one side of the end only");
    settle(replica).await;
    assert_eq!(replica.stats().cancelled, cancelled);
}

#[tokio::test]
async fn a_queued_attempt_that_is_dropped_never_begins() {
    let embedded = small("0.0=fixed:30ms".parse::<sortie_sqlite::Latency>().unwrap().into());
    let replica = &embedded.shards()[0][0];
    let mut running = [pin!(count_to(replica, 1)), pin!(count_to(replica, 1))];
    let cx = &mut Context::from_waker(Waker::noop());
    for attempt in &mut running {
        assert!(attempt.as_mut().poll(cx).is_pending());
    }
    {
        let mut queued = pin!(count_to(replica, 1));
        assert!(queued.as_mut().poll(cx).is_pending());
        assert_eq!((replica.stats().in_flight, replica.stats().running), (3, 2));
    }
    assert_eq!((replica.stats().in_flight, replica.stats().cancelled), (2, 1));
    for attempt in running {
        attempt.await.unwrap();
    }
    settle(replica).await;
    assert_eq!(replica.stats().statements, 2);
}

#[tokio::test]
async fn an_attempt_that_is_dropped_in_its_delay_frees_its_slot_at_once() {
    let embedded = small("fixed:1h".parse::<sortie_sqlite::Latency>().unwrap().into());
    let replica = &embedded.shards()[0][0];
    let began = Instant::now();
    for _ in 0..10 {
        assert!(timeout(Duration::from_millis(2), count_to(replica, 1)).await.is_err());
        assert_eq!(replica.stats().in_flight, 0);
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!((replica.stats().statements, replica.stats().cancelled), (10, 10));
}

#[tokio::test]
async fn an_attempt_that_was_never_polled_never_was() {
    let embedded = small(Trouble::default());
    let replica = &embedded.shards()[0][0];
    drop(count_to(replica, FOR_EVER));
    assert_eq!(replica.stats(), embedded.shards()[1][1].stats());
}

#[tokio::test]
async fn a_full_queue_answers_busy_at_once() {
    let embedded = small("fixed:1h".parse::<sortie_sqlite::Latency>().unwrap().into());
    let replica = &embedded.shards()[0][0];
    let mut held = Vec::new();
    let cx = &mut Context::from_waker(Waker::noop());
    for _ in 0..10 {
        let mut attempt = Box::pin(count_to(replica, 1));
        assert!(attempt.as_mut().poll(cx).is_pending());
        held.push(attempt);
    }
    let error = count_to(replica, 1).await.unwrap_err();
    assert!(matches!(error, Error::Busy { queue_max: 8, .. }), "{error}");
    assert_eq!(replica.stats().in_flight, 10);
    drop(held);
    assert_eq!(replica.stats().in_flight, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_is_dropped_ends_what_runs_and_closes_its_replicas() {
    let embedded = small("1=fixed:1h".parse::<sortie_sqlite::Latency>().unwrap().into());
    let [running, sleeping] =
        [&embedded.shards()[0][0], &embedded.shards()[1][0]].map(Clone::clone);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        tasks.spawn(count_to(&running, FOR_EVER));
    }
    while running.stats().in_flight < 3 {
        sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    tokio::task::spawn_blocking(move || drop(embedded)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(2), "took {:?}", began.elapsed());
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap().expect_err("nobody can count that far");
    }
    let error = count_to(&sleeping, 1).await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert_eq!(running.stats().in_flight, 0);
}
