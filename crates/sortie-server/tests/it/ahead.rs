//! A cancel that comes while a session's own is sent ahead of what its client has asked for: it is
//! for the client's statement, which has not begun yet.

use std::time::Duration;

use sortie_testkit::{Batch, FaultProxy, Flow, Frame, Way, Wire};
use tokio::time::{Instant, sleep};

use crate::relay::until;
use crate::stage::{Endpoint, Setup, Stage, endpoint};
use crate::support::among_others;

const LONG: &str = "SELECT pg_sleep(20)";
/// Far less than that statement takes.
const WITHIN: Duration = Duration::from_secs(12);

async fn rig(stage: &Stage, connections_max: u32) -> (Endpoint, FaultProxy) {
    let proxy = FaultProxy::start(stage.primary()).await;
    let setup = Setup { mode: "pipe", connections_max, ..Setup::default() };
    let sortie = endpoint(proxy.listen(), &[stage.cluster.standby(0, 0).address()], setup).await;
    (sortie, proxy)
}

/// Sends a batch, and a cancel while nothing of the server's comes back; returns the answer.
async fn cancelled(
    (sortie, proxy): (&Endpoint, &FaultProxy),
    wire: &mut Wire,
    batch: &Batch,
) -> Vec<Frame> {
    let pins = sortie.server.metrics().await.sum("sortie_pins_total", &[]);
    let began = Instant::now();
    proxy.flow(Way::Down, Flow::Stall);
    wire.send(batch.bytes()).await;
    until(&sortie.server, |now| now.sum("sortie_pins_total", &[]) > pins + 0.5).await;
    let goes_on = async {
        sleep(Duration::from_millis(200)).await;
        proxy.flow(Way::Down, Flow::Free);
    };
    tokio::join!(wire.cancel(), goes_on);
    let answer = wire.until_ready().await;
    assert!(began.elapsed() < WITHIN, "{:?}: {answer:?}", began.elapsed());
    answer
}

fn sqlstates(frames: &[Frame]) -> Vec<String> {
    frames.iter().filter_map(Frame::report).map(|report| report.sqlstate).collect()
}

#[tokio::test]
async fn of_a_statement_settings_are_set_again() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (sortie, proxy) = rig(&stage, 1).await;
    let (mut wire, mut other) =
        (Wire::connect(sortie.listen()).await, Wire::connect(sortie.listen()).await);
    wire.rows("SET work_mem = '3MB'").await;
    for batch in [Batch::new().query(LONG), Batch::new().statement(LONG, &[]).sync()] {
        other.rows("SELECT 1").await;
        let answer = cancelled((&sortie, &proxy), &mut wire, &batch).await;
        assert_eq!(sqlstates(&answer), ["57014"], "{answer:?}");
        // It is spent.
        let set = wire.rows("SELECT current_setting('work_mem'), pg_sleep(0.3)").await;
        assert_eq!(set[0][0].as_deref(), Some("3MB"));
    }
    drop((wire, other));
    sortie.stop().await;
}

#[tokio::test]
async fn of_a_query_statements_are_prepared() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (sortie, proxy) = rig(&stage, 2).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    wire.ask(&Batch::new().parse("long", LONG, &[]).sync()).await;
    // One holds the connection where it is prepared, and another one leaves one that is new.
    let (mut first, mut second) =
        (Wire::connect(sortie.listen()).await, Wire::connect(sortie.listen()).await);
    let opened = async || sortie.server.metrics().await.sum("sortie_pins_in_flight", &[]);
    first.rows("BEGIN; SELECT 1").await;
    second.rows("BEGIN; SELECT 1").await;
    assert!(opened().await > 1.5);
    second.rows("COMMIT").await;
    let batch = Batch::new().query("EXECUTE long");
    let answer = cancelled((&sortie, &proxy), &mut wire, &batch).await;
    assert_eq!(sqlstates(&answer), ["57014"], "{answer:?}");
    assert_eq!(wire.rows("SELECT 1, pg_sleep(0.3)").await[0][0].as_deref(), Some("1"));
    drop((wire, first, second));
    sortie.stop().await;
}

#[tokio::test]
async fn but_of_nothing_that_is_sent_later() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let (sortie, _proxy) = rig(&stage, 1).await;
    let (mut wire, mut other) =
        (Wire::connect(sortie.listen()).await, Wire::connect(sortie.listen()).await);
    wire.rows("SET work_mem = '3MB'").await;
    for _ in 0..20 {
        other.rows("SELECT 1").await;
        wire.cancel().await;
        wire.rows("SELECT pg_sleep(0.02)").await;
    }
    drop((wire, other));
    sortie.stop().await;
}
