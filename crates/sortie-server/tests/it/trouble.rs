//! Slow, hanging and failing replicas: the second and the third pattern, seen from outside.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::Batch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::support::{ROUNDS_MAX, all_ask, alone, connect, ids_on, quantile, serve, spent};

const CLIENTS: usize = 4;
const READS: usize = 60;
/// Point reads on shard 0, whose replica 1 takes 200 ms; returns their 99th percentile in the
/// first round where that is `enough`, or in the last.
async fn p99_with(hedge: &[&str], enough: impl Fn(Duration) -> bool) -> Duration {
    let _alone = alone().await;
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let slow = ["--data", folder, "--latency", "0.1=fixed:200ms"];
    let server = serve(&[&slow, hedge].concat()).await;
    let ids = ids_on(data.path(), 0, CLIENTS * READS);
    let mut p99 = Duration::ZERO;
    for _ in 0..ROUNDS_MAX {
        p99 = quantile(&mut round(server.listen(), &ids).await, 0.99);
        println!("p99 with one slow replica in turn {hedge:?}: {p99:?}");
        if enough(p99) {
            break;
        }
    }
    let hedges = server.abandoned().await.sum("sortie_hedges_total", &[]);
    assert_eq!(hedges > 0.0, hedge.is_empty(), "{hedges} hedges with {hedge:?}");
    server.stop().await;
    p99
}

/// Every client reads its own ids, one after another; returns how long each read took.
async fn round(server: SocketAddr, ids: &[i64]) -> Vec<Duration> {
    let mut reading = JoinSet::new();
    for (wire, ids) in connect(server, CLIENTS).await.into_iter().zip(ids.chunks(READS)) {
        let (mut wire, ids) = (wire, ids.to_vec());
        reading.spawn(async move {
            let mut took = Vec::new();
            for id in ids {
                let sql = format!("SELECT balance FROM users WHERE user_id = {id}");
                let started = Instant::now();
                assert_eq!(wire.rows(&sql).await.len(), 1);
                took.push(started.elapsed());
            }
            took
        });
    }
    let took: Vec<Duration> = reading.join_all().await.concat();
    assert_eq!(took.len(), CLIENTS * READS);
    took
}

#[tokio::test]
async fn a_slow_replica_is_outrun() {
    let fast = |p99| p99 < Duration::from_millis(100);
    assert!(fast(p99_with(&[], fast).await));
}

#[tokio::test]
async fn without_hedges_a_slow_replica_is_felt() {
    let slow = |p99| p99 > Duration::from_millis(180);
    assert!(slow(p99_with(&["--hedge", "off"], slow).await));
}

#[tokio::test]
async fn a_failing_shard_is_named_at_once() {
    let _alone = alone().await;
    let server = serve(&["--fail", "1", "--latency", "0=fixed:2s"]).await;
    let mut wire = connect(server.listen(), 1).await.remove(0);
    let mut took = Vec::new();
    for _ in 0..20 {
        let started = Instant::now();
        let report = wire.refusal("SELECT count(*), sum(balance) FROM users").await;
        took.push(started.elapsed());
        assert!(report.message.contains("shard 1"), "{report:?}");
    }
    let p90 = quantile(&mut took, 0.9);
    println!("error of a failing shard while the other takes 2 s, p90 of 20: {p90:?}");
    assert!(p90 < Duration::from_millis(100), "{took:?}");
    let started = Instant::now();
    server.idle().await;
    assert!(started.elapsed() < Duration::from_secs(1), "the healthy shard's legs ran on");
    drop(wire);
    server.stop().await;
}

/// A load hangs, with 200 callers waiting for it: the flight's successor, which starts when that
/// is past its soft age, answers them all.
#[tokio::test]
async fn a_hanging_load_is_succeeded_by_one_other() {
    let _alone = alone().await;
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let trouble = ["--hedge", "off", "--latency", "0.0=fixed:30s", "--soft-age", "1s"];
    let server = serve(&[&["--data", folder], &trouble[..]].concat()).await;
    let mut herd = connect(server.listen(), 200).await;
    let mut first = herd.pop().unwrap();
    // Replicas are asked in turn, so one of three questions meets the one that hangs.
    for id in ids_on(data.path(), 0, 3) {
        let before = server.metrics().await;
        let started = Instant::now();
        let question =
            Batch::new().query(&format!("SELECT balance FROM users WHERE user_id = {id}"));
        first.send(question.bytes()).await;
        if timeout(Duration::from_millis(400), first.until_ready()).await.is_ok() {
            continue;
        }
        let ((herd, answers), answer) = tokio::join!(all_ask(herd, &question), first.until_ready());
        let took = started.elapsed();
        assert!(answers.iter().all(|other| *other == answer), "answers differ");
        assert!(answer.iter().any(|frame| frame.tag == b'D'), "{answer:?}");
        println!(
            "200 callers of a load that hangs, soft age 1 s: the last is answered in {took:?}"
        );
        assert!((Duration::from_secs(1)..Duration::from_millis(1_500)).contains(&took), "{took:?}");
        let spent = spent(&before, &server.metrics().await);
        assert!(spent.statements < 2.5, "more than two loads: {spent:?}");
        drop((herd, first));
        server.abandoned().await;
        server.stop().await;
        return;
    }
    panic!("none of three questions met the replica that hangs");
}
