//! Prepared reads that nobody else asks for at the time are read by their session, until somebody
//! asks for the same.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use sortie_testkit::{Batch, FaultProxy, Flow, Frame, Metrics, Way, Wire, cluster};
use tokio::time::sleep;

use crate::lazy::{attempts, before, before_with};
use crate::relay::{count, start, until};
use crate::support::among_others;

/// More than a statement is read in the shared lane before it is read alone.
const LONG: u32 = 40;

pub(crate) fn lone(said: &Metrics) -> i64 {
    count(said, "sortie_lone_statements_total", &[])
}

fn bound(id: &str) -> Batch {
    let bind = Batch::new().bind("", "one", (0, &[Some(id.as_bytes())]), 0);
    bind.describe(b'P', "").execute("").sync()
}

async fn reader(listen: SocketAddr) -> Wire {
    reader_of(listen, "SELECT min(user_id) FROM users WHERE user_id >= $1").await
}

async fn reader_of(listen: SocketAddr, text: &str) -> Wire {
    let mut wire = Wire::connect_as(listen, "reader").await;
    wire.ask(&Batch::new().parse("one", text, &[20]).sync()).await;
    wire
}

/// Reads so often, and never what another reader of this test reads.
async fn read_alone(wire: &mut Wire, from: u32) {
    for id in from..from + LONG {
        let answer = wire.ask(&bound(&id.to_string())).await;
        assert_eq!(Frame::tags(&answer), "2TDCZ");
        let found = answer.iter().find_map(Frame::row).and_then(|row| row[0].clone());
        // Of two rows one is on another shard, by and large.
        let found: u32 = found.expect("it is not null").parse().unwrap();
        assert!((id..id + 40).contains(&found), "{found} for {id}");
    }
}

#[tokio::test]
async fn who_never_meets_anybody_reads_alone_and_a_herd_of_them_shares() {
    let _others = among_others().await;
    let proxy = FaultProxy::start(cluster().await.primary(0).address()).await;
    proxy.spare("sortie watch");
    let url = format!("postgres://reader@{}/sortie", proxy.listen());
    let (server, _config) = before_with(url, "reader", 30).await;
    let mut wires = Vec::new();
    for nth in 0..20 {
        // Each names itself, as traces and pools do.
        let text = "SELECT min(user_id) FROM users WHERE user_id >= $1";
        let text = format!("/* host={nth} */ {text}");
        let mut wire = reader_of(server.listen(), &text).await;
        read_alone(&mut wire, 1 + nth * LONG).await;
        wires.push(wire);
    }
    let long = server.metrics().await;
    assert!(lone(&long) > 20 * i64::from(LONG) / 3, "{long:?}");
    // An error is the server's own, and nobody else's.
    let answer = wires[0].ask(&bound("x")).await;
    assert_eq!(answer.iter().find_map(Frame::report).map(|it| it.sqlstate), Some("22P02".into()));
    read_alone(&mut wires[0], 1).await;
    // All of them ask for the same, and its answer is late.
    let before = server.metrics().await;
    proxy.flow(Way::Down, Flow::Delay(Duration::from_secs(2)));
    let herd = bound("4242");
    let answers = join_all(wires.iter_mut().map(|wire| wire.ask(&herd))).await;
    proxy.flow(Way::Down, Flow::Free);
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    assert_eq!(Frame::tags(&answers[0]), "2TDCZ");
    let after = server.metrics().await;
    let (alone, shared) = (lone(&after) - lone(&before), attempts(&after) - attempts(&before));
    // One is alone, one flies, and all others wait for the next flight.
    assert!(alone <= 1 && alone + shared <= 3, "{alone} alone, {shared} shared");
    until(&server, |now| now.sum("sortie_pins_in_flight", &[]) < 0.5).await;
    drop(wires);
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn one_that_runs_alone_is_seen_by_whoever_comes_next() {
    let _others = among_others().await;
    let proxy = FaultProxy::start(cluster().await.primary(0).address()).await;
    proxy.spare("sortie watch");
    let url = format!("postgres://reader@{}/sortie", proxy.listen());
    let (server, _config) = before(url, "reader").await;
    let (mut one, mut two) = (reader(server.listen()).await, reader(server.listen()).await);
    read_alone(&mut one, 1).await;
    read_alone(&mut two, 1001).await;
    let before = server.metrics().await;
    proxy.flow(Way::Down, Flow::Delay(Duration::from_secs(1)));
    one.send(bound("77").bytes()).await;
    sleep(Duration::from_millis(300)).await;
    let second = two.ask(&bound("77")).await;
    assert_eq!(one.until_ready().await, second);
    proxy.flow(Way::Down, Flow::Free);
    let after = server.metrics().await;
    assert_eq!(lone(&after) - lone(&before), 1, "the second one had company");
    assert_eq!(attempts(&after) - attempts(&before), 1);
    drop((one, two));
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn one_that_runs_alone_is_cancelled_cut_and_failed_like_any_other() {
    let _others = among_others().await;
    let proxy = FaultProxy::start(cluster().await.primary(0).address()).await;
    proxy.spare("sortie watch");
    let url = format!("postgres://reader@{}/sortie", proxy.listen());
    // One connection: no other that is cut, too, and has not been heard of.
    let (server, _config) = before_with(url, "reader", 1).await;
    let mut wire = reader(server.listen()).await;
    read_alone(&mut wire, 1).await;
    let cancelled = async |wire: &mut Wire, id: &str| {
        proxy.flow(Way::Down, Flow::Delay(Duration::from_secs(2)));
        wire.send(bound(id).bytes()).await;
        sleep(Duration::from_millis(300)).await;
        wire.cancel().await;
        let said = wire.until_ready().await;
        proxy.flow(Way::Down, Flow::Free);
        said.iter().find_map(Frame::report).map(|it| it.sqlstate)
    };
    assert_eq!(cancelled(&mut wire, "7").await, Some("57014".into()));
    read_alone(&mut wire, 1).await;
    // Its connection is lost with the answer on its way: another one is opened.
    let before = server.metrics().await;
    proxy.flow(Way::Down, Flow::Delay(Duration::from_secs(2)));
    wire.send(bound("77").bytes()).await;
    sleep(Duration::from_millis(300)).await;
    proxy.cut();
    proxy.flow(Way::Down, Flow::Free);
    assert_eq!(Frame::tags(&wire.until_ready().await), "2TDCZ");
    let after = server.metrics().await;
    assert_eq!(lone(&after) - lone(&before), 0);
    assert_eq!(attempts(&after) - attempts(&before), 1);
    // What is sent ahead of its answer comes behind it.
    read_alone(&mut wire, 1).await;
    let both = bound("5").query("SELECT 7").then(&bound("6"));
    wire.send(both.bytes()).await;
    let mut said = Vec::new();
    for _ in 0..3 {
        said.extend(wire.until_ready().await);
    }
    assert_eq!(Frame::tags(&said), "2TDCZTDCZ2TDCZ");
    drop(wire);
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn who_parses_with_each_read_joins_running_ones_all_the_same() {
    let _others = among_others().await;
    let proxy = FaultProxy::start(cluster().await.primary(0).address()).await;
    proxy.spare("sortie watch");
    let url = format!("postgres://reader@{}/sortie", proxy.listen());
    let (server, _config) = before(url, "reader").await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        wire.simple("SET sortie.join = running").await;
        wires.push(wire);
    }
    let read = Batch::new().statement("SELECT name FROM users WHERE user_id = 2", &[]).sync();
    let before = server.metrics().await;
    proxy.flow(Way::Down, Flow::Delay(Duration::from_secs(1)));
    for wire in &mut wires {
        wire.send(read.bytes()).await;
        sleep(Duration::from_millis(300)).await;
    }
    for wire in &mut wires {
        assert_eq!(Frame::tags(&wire.until_ready().await), "12TDCZ");
    }
    proxy.flow(Way::Down, Flow::Free);
    assert_eq!(attempts(&server.metrics().await) - attempts(&before), 1, "one for both");
    drop(wires);
    server.abandoned().await;
    server.stop().await;
}

#[tokio::test]
async fn where_another_replica_could_be_asked_nobody_reads_alone() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let urls = [cluster.standby(0, 0).url("reader"), cluster.standby(0, 1).url("reader")];
    let (server, _config) = start(&urls, 5).await;
    let mut wire = reader(server.listen()).await;
    while attempts(&server.metrics().await) == 0 {
        wire.rows("SELECT count(*) FROM users WHERE user_id = 1").await;
        sleep(Duration::from_millis(50)).await;
    }
    read_alone(&mut wire, 1).await;
    let said = server.metrics().await;
    assert_eq!(lone(&said), 0);
    assert!(attempts(&said) >= i64::from(LONG), "{said:?}");
    drop(wire);
    server.abandoned().await;
    server.stop().await;
}
