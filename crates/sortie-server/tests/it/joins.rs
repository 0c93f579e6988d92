//! Which loads a session shares, as it says itself.

use std::time::Duration;

use sortie_testkit::{Batch, FaultProxy, Flow, Server, Way, Wire, cluster};
use tokio::time::sleep;

use crate::lazy::{TWO, attempts, before};
use crate::stage::{Setup, Stage};
use crate::support::{ROUNDS_MAX, among_others};

const BRIEF: &str = "SET sortie.max_join_age = '1ms'";

async fn shown(wire: &mut Wire, name: &str) -> String {
    let rows = wire.rows(&format!("SHOW sortie.{name}")).await;
    rows[0][0].clone().unwrap()
}

async fn both(wire: &mut Wire) -> [String; 2] {
    [shown(wire, "join").await, shown(wire, "max_join_age").await]
}

#[tokio::test]
async fn what_may_be_joined_is_set_where_it_is_wanted() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let more = "[clusters.postgres.users.walker]\njoin = \"running\"\nmax_join_age = \"2s\"";
    let endpoint = stage.endpoint(Setup { more, ..Setup::default() }).await;
    let mut wire = Wire::connect_as(endpoint.listen(), "tester").await;
    assert_eq!(both(&mut wire).await, ["fresh", "off"]);
    wire.simple("SET sortie.join TO running").await;
    wire.simple("SET sortie.max_join_age = '100ms'").await;
    assert_eq!(both(&mut wire).await, ["running", "100ms"]);
    wire.simple("RESET sortie.join").await;
    wire.simple("SET sortie.max_join_age = DEFAULT").await;
    assert_eq!(both(&mut wire).await, ["fresh", "off"]);
    for (set, code) in [
        ("SET sortie.join = stale", "22023"),
        ("SET sortie.max_join_age = 100", "22023"),
        ("SET sortie.max_lag = '1s'", "0A000"),
        ("SET sortie.floor = '16/B374D848'", "0A000"),
        ("SET sortie.floors = '16/B374D848'", "42704"),
    ] {
        let report = wire.refusal(set).await;
        assert_eq!(report.sqlstate, code, "{set}: {report:?}");
    }
    assert_eq!(shown(&mut wire, "max_lag").await, "off");
    drop(wire);
    endpoint.stop().await;
}

#[tokio::test]
async fn a_transaction_s_own_settings_end_with_it() {
    let _others = among_others().await;
    let there = cluster().await.primary(0).address();
    let (server, _config) = before(format!("postgres://reader@{there}/sortie"), "reader").await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let said = wire.simple("SET LOCAL sortie.join = running").await;
    let tags: Vec<u8> = said.iter().map(|frame| frame.tag).collect();
    assert_eq!(tags, *b"NCZ", "outside of a transaction it is warned of: {said:?}");
    for (end, after) in [("COMMIT", "1s"), ("ROLLBACK", "off")] {
        wire.simple("BEGIN").await;
        wire.simple("SET LOCAL sortie.join = running").await;
        wire.simple("SET sortie.max_join_age = '1s'").await;
        wire.rows(TWO).await;
        assert_eq!(both(&mut wire).await, ["running", "1s"]);
        wire.simple(end).await;
        assert_eq!(both(&mut wire).await, ["fresh", after], "{end}");
        wire.simple("RESET sortie.max_join_age").await;
    }
    drop(wire);
    server.stop().await;
}

/// How many reads are sent for two readers, the second of which asks this much later, with these
/// settings.
async fn sent(server: &Server, settings: &[&str], later: Duration) -> i64 {
    let mut first = Wire::connect_as(server.listen(), "reader").await;
    let mut second = Wire::connect_as(server.listen(), "reader").await;
    for text in settings {
        second.simple(text).await;
    }
    let before = attempts(&server.metrics().await);
    let ask = Batch::new().query(TWO);
    first.send(ask.bytes()).await;
    sleep(later).await;
    second.send(ask.bytes()).await;
    assert_eq!(first.until_ready().await, second.until_ready().await);
    attempts(&server.metrics().await) - before
}

#[tokio::test]
async fn a_load_that_runs_is_joined_by_who_will_have_it() {
    let _others = among_others().await;
    let there = cluster().await.primary(0).address();
    // Whatever a statement takes, its answer is late: far later than the second reader.
    let proxy = FaultProxy::start(there).await;
    proxy.spare("sortie watch");
    let url = format!("postgres://reader@{}/sortie", proxy.listen());
    let (server, _config) = before(url, "reader").await;
    proxy.flow(Way::Down, Flow::Delay(Duration::from_millis(1500)));
    let later = Duration::from_millis(200);
    let running = "SET sortie.join = running";
    for settings in [&["SET sortie.max_join_age = '1min'"][..], &[running, BRIEF]] {
        assert_eq!(sent(&server, settings, later).await, 2, "{settings:?}");
    }
    for settings in [&[running][..], &[running, "SET sortie.max_join_age = '1min'"]] {
        let mut rounds = 0;
        // The second reader may be late where much else runs.
        while sent(&server, settings, later).await != 1 {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "{settings:?}");
        }
    }
    proxy.flow(Way::Down, Flow::Free);
    server.stop().await;
}
