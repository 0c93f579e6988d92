//! `CancelRequest`: the statement ends, the connection lives, nobody else is touched.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::time::{Instant, sleep, timeout};

use crate::stage::{Setup, Stage};
use crate::support::{among_others, serve};

const SQL: &str = "SELECT balance FROM users WHERE user_id = 7";

#[tokio::test]
async fn a_cancelled_caller_is_told_so_and_a_follower_gets_the_row() {
    let _others = among_others().await;
    let server = serve(&["--latency", "fixed:2s", "--hedge", "off"]).await;
    let (mut one, mut other) =
        (Wire::connect(server.listen()).await, Wire::connect(server.listen()).await);
    one.send(Batch::new().query(SQL).bytes()).await;
    other.send(Batch::new().query(SQL).bytes()).await;
    sleep(Duration::from_millis(200)).await;
    let asked = Instant::now();
    one.cancel().await;
    let answer = one.until_ready().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let report = answer.iter().find_map(Frame::report).unwrap();
    assert_eq!(report.sqlstate, "57014", "{report:?}");
    assert!(other.until_ready().await.iter().any(|frame| frame.tag == b'D'));
    assert_eq!(one.rows("SELECT 1").await, [[Some("1".to_owned())]]);
    server.idle().await;
    drop((one, other));
    server.stop().await;
}

#[tokio::test]
async fn a_cancel_that_comes_late_hits_nothing() {
    let _others = among_others().await;
    let server = serve(&[]).await;
    let mut wire = Wire::connect(server.listen()).await;
    for _ in 0..50 {
        wire.rows(SQL).await;
        wire.cancel().await;
        assert_eq!(wire.rows(SQL).await.len(), 1);
    }
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_whose_sync_has_not_come_is_cancelled_too() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    let mut watch = Wire::connect(stage.primary()).await;
    let sleeping = "SELECT count(*) FROM pg_stat_activity \
                    WHERE state = 'active' AND query = 'SELECT pg_sleep(300)'";
    let batch = Batch::new().parse("", "SELECT pg_sleep(300)", &[]).bind("", "", (0, &[]), 0);
    wire.send(batch.execute("").flush().bytes()).await;
    let until_it_sleeps = async {
        while watch.rows(sleeping).await != [[Some("1".to_owned())]] {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), until_it_sleeps).await.expect("it never begins");
    wire.cancel().await;
    let refused = async {
        loop {
            if let Some(report) = wire.frame().await.unwrap().report() {
                return report;
            }
        }
    };
    let refused = timeout(Duration::from_secs(60), refused).await.expect("it sleeps on");
    assert_eq!(refused.sqlstate, "57014", "{refused:?}");
    wire.send(Batch::new().sync().bytes()).await;
    wire.until_ready().await;
    assert_eq!(wire.rows("SELECT 1").await, [[Some("1".to_owned())]]);
    drop((wire, watch));
    endpoint.stop().await;
}

/// Whether a shared read is called back by its client, or by its own clock, what it had been told
/// by then is what PostgreSQL says.
#[tokio::test]
async fn what_ran_until_it_was_called_back_is_told_as_postgresql_does() {
    const SLOW: &str = "SELECT id, label, (SELECT count(*) FROM generate_series(1, 50000000)) \
                        FROM items WHERE id < 9";
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    let mut shared = Wire::connect(endpoint.listen()).await;
    let mut direct = Wire::connect(stage.primary()).await;
    let batch = Batch::new;
    let bind = |batch: Batch, name: &str| batch.bind("", name, (0, &[]), 1);
    let plain = batch().parse("", SLOW, &[]).bind("", "", (0, &[]), 0);
    for (nth, asked) in [
        batch().query(SLOW),
        plain.clone().describe(b'P', "").execute("").sync(),
        plain.execute("").sync(),
        bind(batch().parse("", SLOW, &[]).describe(b'S', ""), "").execute("").sync(),
        bind(batch(), "slow").describe(b'P', "").execute("").sync(),
        bind(batch(), "slow").execute("").sync(),
    ]
    .iter()
    .enumerate()
    {
        for by_itself in [false, true] {
            let mut said = Vec::new();
            for wire in [&mut direct, &mut shared] {
                if nth == 4 && !by_itself {
                    wire.ask(&batch().parse("slow", SLOW, &[]).describe(b'S', "slow").sync()).await;
                }
                if by_itself {
                    wire.rows("SET statement_timeout = '400ms'").await;
                }
                wire.send(asked.bytes()).await;
                if !by_itself {
                    sleep(Duration::from_millis(300)).await;
                    wire.cancel().await;
                }
                let frames = wire.until_ready().await;
                let report = frames.iter().find_map(Frame::report).unwrap();
                wire.rows("RESET statement_timeout").await;
                let told: Vec<_> = frames.into_iter().filter(|frame| frame.tag != b'E').collect();
                said.push((told, report.sqlstate, report.message));
            }
            let tags = |at: usize| Frame::tags(&said[at].0);
            assert_eq!(tags(1), tags(0), "{asked:?}");
            assert_eq!(said[1], said[0], "{asked:?}");
        }
    }
    let lanes = endpoint.server.metrics().await;
    assert!(lanes.sum("sortie_lane_statements_total", &["lane=\"shared\""]) >= 12.0);
    drop((shared, direct));
    endpoint.stop().await;
}
