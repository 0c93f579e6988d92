//! `CancelRequest`: the statement ends, the connection lives, nobody else is touched.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Wire};
use tokio::time::{Instant, sleep};

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
