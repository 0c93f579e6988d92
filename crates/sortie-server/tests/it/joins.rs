//! Which loads a session shares, as it says itself.

use std::time::Duration;

use sortie_testkit::{Batch, FaultProxy, Flow, Frame, Server, Way, Wire, cluster};
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

/// How a session comes to hold a connection, and whether it is in a transaction then.
const HOLDING: [(&[&str], bool); 3] = [
    (&["LISTEN a"], false),
    (&["BEGIN", "SELECT now()"], true),
    (&["LISTEN a", "BEGIN", "SELECT now()"], true),
];

#[tokio::test]
async fn a_session_that_holds_a_connection_has_its_switches_as_any_other() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    let tags = |frames: &[Frame]| Frame::tags(frames);
    for (texts, is_block) in HOLDING {
        let mut wire = Wire::connect(endpoint.listen()).await;
        for text in texts {
            wire.rows(text).await;
        }
        let (local, status) = if is_block { ("CZ", "T") } else { ("NCZ", "I") };
        for (name, value, default) in [
            ("lane", "pipe", "auto"),
            ("share", "off", "on"),
            ("join", "running", "fresh"),
            ("max_join_age", "'1s'", "off"),
        ] {
            let shows = Batch::new().parse("", &format!("SHOW sortie.{name}"), &[]);
            let shows = shows.describe(b'S', "").bind("", "", (0, &[]), 0).execute("").sync();
            assert_eq!(shown(&mut wire, name).await, default, "{texts:?}");
            let said = wire.simple(&format!("SET sortie.{name} = {value}")).await;
            assert_eq!(tags(&said), "CZ", "{said:?}");
            assert_eq!(said[1].body, status);
            let said = wire.simple(&format!("SET LOCAL sortie.{name} = '{default}'")).await;
            assert_eq!(tags(&said), local, "{said:?}");
            let said = wire.ask(&shows).await;
            assert_eq!(tags(&said), "1tT2DCZ", "{said:?}");
            assert_eq!(said[4].row().unwrap(), [Some(value.trim_matches('\'').to_owned())]);
            // Behind what is not answered yet.
            let reset = format!("RESET sortie.{name}");
            let batch = Batch::new().query("SELECT now()").query(&reset).then(&shows);
            wire.send(batch.bytes()).await;
            let said = [wire.until_ready().await, wire.until_ready().await].concat();
            assert_eq!(tags(&said), "TDCZCZ", "{said:?}");
            assert_eq!(wire.until_ready().await[4].row().unwrap(), [Some(default.to_owned())]);
        }
        assert_eq!(shown(&mut wire, "shard").await, "all");
        // What fails, fails the transaction.
        let set = "SET sortie.join = stale";
        let asked = Batch::new().statement(set, &[]).close(b'P', "").sync();
        for batch in [Batch::new().query(set), asked] {
            let said = wire.ask(&batch).await;
            let report = said.iter().find_map(Frame::report).expect("there is no such value");
            assert_eq!(report.sqlstate, "22023", "{said:?}");
            if is_block {
                for text in ["SHOW sortie.join", "SET sortie.join = running", "SELECT 1"] {
                    assert_eq!(wire.refusal(text).await.sqlstate, "25P02");
                    let said = wire.ask(&Batch::new().statement(text, &[]).sync()).await;
                    let report = said.iter().find_map(Frame::report).expect("it has failed");
                    assert_eq!(report.sqlstate, "25P02", "{said:?}");
                }
                wire.rows("ROLLBACK; BEGIN; SELECT now()").await;
            }
            assert_eq!(shown(&mut wire, "join").await, "fresh");
        }
        drop(wire);
    }
    endpoint.stop().await;
}

#[tokio::test]
async fn a_switch_is_set_behind_what_is_not_answered_yet() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup::default()).await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    let batch = Batch::new().query("SELECT now()").query("SET sortie.join = running");
    let batch = batch.statement("SHOW sortie.join", &[]).sync();
    wire.send(batch.bytes()).await;
    let said = [wire.until_ready().await, wire.until_ready().await].concat();
    assert_eq!(Frame::tags(&said), "TDCZCZ", "{said:?}");
    let said = wire.until_ready().await;
    assert_eq!(Frame::tags(&said), "12TDCZ", "{said:?}");
    assert_eq!(said[3].row().unwrap(), [Some("running".to_owned())]);
    drop(wire);
    endpoint.stop().await;
}
