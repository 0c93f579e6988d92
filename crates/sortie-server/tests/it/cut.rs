//! Connections to servers that are cut anywhere in an answer: what a client got of it is true, and
//! what it did not get it is told of.

use std::time::Duration;

use sortie_testkit::{FaultProxy, Frame, Way, Wire};
use tokio::time::{Instant, sleep, timeout};

use crate::faults::{cluster, proxy_to, until_answered};
use crate::stage::{Setup, endpoint};
use crate::support::among_others;

const BIG: &str = "SELECT n, repeat('x', 1000) FROM generate_series(1, 300) n";
const WITHIN: Duration = Duration::from_secs(15);

/// How many bytes a frame is on the wire.
fn len(frame: &Frame) -> usize {
    5 + frame.body.len()
}

async fn ask(wire: &mut Wire) -> Result<Vec<Frame>, Vec<Frame>> {
    timeout(WITHIN, wire.try_simple(BIG)).await.expect("an answer, or the end")
}

#[tokio::test]
async fn half_an_answer_is_never_taken_for_one() {
    let _others = among_others().await;
    let cluster = cluster(1).await;
    let proxy = proxy_to(&cluster.primary(0)).await;
    let whole = Wire::connect(cluster.primary(0).address()).await.simple(BIG).await;
    let (head, row) = (len(&whole[0]), len(&whole[1]));
    let all: usize = whole.iter().map(len).sum();
    let places = [
        0,
        3,
        head,
        head + 100,
        head + 9 * row,
        // What is told next must not be taken for the end of a row.
        head + 3 * row - 20,
        head + 250 * row - 1,
        all - len(&whole[whole.len() - 1]),
    ];
    let (mut told, mut closed) = (0, 0);
    for mode in ["pipe", "share"] {
        let standby = cluster.standby(0, 0).address();
        let sortie = endpoint(proxy.listen(), &[standby], Setup { mode, ..Setup::default() }).await;
        for place in places {
            let mut wire = Wire::connect(sortie.listen()).await;
            assert!(ask(&mut wire).await.as_ref() == Ok(&whole));
            proxy.cut_after(Way::Down, place);
            let answer = ask(&mut wire).await;
            let (Ok(frames) | Err(frames)) = &answer;
            let (report, rest) = match frames.iter().position(|frame| frame.tag == b'E') {
                Some(at) => (frames[at].report(), &frames[..at]),
                None => (None, &frames[..]),
            };
            assert!(*rest == whole[..rest.len()], "{place}: another answer");
            let got: usize = rest.iter().map(len).sum();
            let Some(report) = report else {
                // In the middle of a frame nothing can be said. The reset may have taken some of
                // what came before it.
                assert!(answer.is_err(), "{place}: half an answer");
                assert!(got < place, "{place}: it was cut at a frame's end, and nobody said so");
                closed += 1;
                continue;
            };
            assert_eq!(report.sqlstate, "08006");
            assert!(answer.is_ok(), "{place}: the session ended");
            assert!(ask(&mut wire).await.as_ref() == Ok(&whole), "{place}");
            told += 1;
        }
        until_answered(sortie.listen(), BIG).await;
        sortie.stop().await;
    }
    assert!(told > 0 && closed > 0, "{told} were told, {closed} were closed to");
}

#[tokio::test]
async fn a_shared_answer_that_is_cut_comes_from_elsewhere() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let first = proxy_to(&cluster.standby(0, 0)).await;
    let second = proxy_to(&cluster.standby(0, 1)).await;
    let setup = Setup { pipe_target: "replica", ..Setup::default() };
    let standbys = [first.listen(), second.listen()];
    let sortie = endpoint(cluster.primary(0).address(), &standbys, setup).await;
    let mut direct = Wire::connect(cluster.primary(0).address()).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    let shared = async || {
        sortie.server.metrics().await.sum("sortie_lane_statements_total", &["lane=\"shared\""])
    };
    let end = Instant::now() + WITHIN;
    while shared().await < 0.5 {
        wire.rows("SELECT label FROM items WHERE id = 1").await;
        assert!(Instant::now() < end, "nothing is shared");
        sleep(Duration::from_millis(50)).await;
    }
    let cuts = |proxy: &FaultProxy| proxy.counts().cuts;
    for (nth, place) in [0, 4, 20, 60].into_iter().enumerate() {
        for proxy in [&first, &second] {
            let before = cuts(proxy);
            proxy.cut_after(Way::Down, place);
            let mut id = nth * 100;
            while cuts(proxy) == before {
                id += 1;
                assert!(id < (nth + 1) * 100, "nobody asked there");
                let sql = format!("SELECT label FROM items WHERE id = {id}");
                let answered = timeout(WITHIN, wire.rows(&sql)).await.expect("an answer");
                assert_eq!(answered, direct.rows(&sql).await, "{sql}");
            }
        }
    }
    drop(wire);
    sortie.stop().await;
}
