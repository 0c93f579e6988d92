//! What a session is told that asks all shards for something that only one server could answer.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Report, Server, Wire, cluster};
use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::relay::start;
use crate::support::among_others;

const READ: &str = "SELECT count(*) FROM users";
/// After this nobody knows what the session has set.
const DIRTY: &str = "SELECT 1, set_config('work_mem', '1MB', false)";
const WITHIN: Duration = Duration::from_secs(20);

async fn rig() -> (Server, NamedTempFile, Wire) {
    let cluster = cluster().await;
    let url = |shard| format!("postgres://reader@{}/sortie", cluster.primary(shard).address());
    let (server, config) = start(&[url(0), url(1)], 5).await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let began = Instant::now();
    while wire.simple(READ).await.iter().any(|it| it.report().is_some()) {
        assert!(began.elapsed() < WITHIN, "the catalogs are not read");
        sleep(Duration::from_millis(50)).await;
    }
    (server, config, wire)
}

/// Insists that the message names the reason, and the hint what to do about it.
fn says(report: &Report, reason: &str, cure: &str) {
    assert_eq!(report.sqlstate, "0A000", "{report:?}");
    assert!(report.message.contains(reason), "{reason}: {report:?}");
    assert!(report.detail.contains(cure), "{cure}: {report:?}");
}

pub(crate) async fn set_mode(server: &Server, mode: &str) {
    let mut admin = TcpStream::connect(server.admin()).await.unwrap();
    let text =
        format!("POST /mode/postgres/{mode} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    admin.write_all(text.as_bytes()).await.unwrap();
    let mut said = String::new();
    admin.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test]
async fn the_reason_and_what_to_do_about_it() {
    let _others = among_others().await;
    let (server, _config, mut wire) = rig().await;
    for (before, reason, cure, after) in [
        ("BEGIN; SELECT 1", "in a transaction", "outside of a transaction", "ROLLBACK"),
        ("SET sortie.lane = pipe", "sortie.lane = pipe", "RESET sortie.lane", "RESET sortie.lane"),
        (
            "SET sortie.share = off",
            "sortie.share = off",
            "RESET sortie.share",
            "RESET sortie.share",
        ),
        (DIRTY, "keeps its server connection", "DISCARD ALL", "DISCARD ALL"),
    ] {
        wire.rows(before).await;
        says(&wire.refusal(READ).await, reason, cure);
        wire.rows(after).await;
        wire.rows(READ).await;
    }
    says(
        &wire.refusal("/* sortie: lane=pipe */ SELECT count(*) FROM users").await,
        "sortie.lane = pipe",
        "comment",
    );
    says(&wire.refusal("SELECT 1; SELECT count(*) FROM users").await, "", "one by one");
    // Where the rest could be asked for.
    wire.rows("BEGIN").await;
    let portions = Batch::new().parse("", "SELECT balance FROM users", &[]);
    let portions = portions.bind("", "", (0, &[]), 0).execute_some("", 1).sync();
    let frames = wire.ask(&portions).await;
    let report = frames.iter().find_map(Frame::report).unwrap();
    says(&report, "in a transaction", "outside of a transaction");
    wire.rows("ROLLBACK").await;
    wire.rows(READ).await;
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn a_mode_that_relays_everything_is_named_and_counts_no_refusal_as_observed() {
    let _others = among_others().await;
    let (server, _config, mut wire) = rig().await;
    let counted = async |name: &str, labels: &[&str]| server.metrics().await.sum(name, labels);
    for (mode, cure) in [("observe", "sortie.shard"), ("pipe", "sortie.shard")] {
        set_mode(&server, mode).await;
        let reason = format!("reason=\"{}\"", if mode == "pipe" { "lane" } else { mode });
        let piped = counted("sortie_pipe_statements_total", &[&reason]).await;
        let observed = counted("sortie_observed_statements_total", &[]).await;
        let refused = counted("sortie_lane_statements_total", &["lane=\"refused\""]).await;
        says(&wire.refusal(READ).await, &format!("mode = {mode}"), cure);
        says(&wire.refusal(READ).await, &format!("mode = {mode}"), "mode");
        wire.rows("SELECT 1").await;
        let now = counted("sortie_lane_statements_total", &["lane=\"refused\""]).await;
        assert!((now - refused - 2.0).abs() < 0.5, "{mode}: {refused} and {now}");
        let now = counted("sortie_observed_statements_total", &[]).await;
        assert!((now - observed).abs() < 0.5, "{mode}: {observed} and {now}");
        // What is no read of all shards is relayed.
        let now = counted("sortie_pipe_statements_total", &[&reason]).await;
        assert!(now - piped < 1.5, "{mode}: {piped} and {now}");
    }
    set_mode(&server, "configured").await;
    wire.rows(READ).await;
    drop(wire);
    server.stop().await;
}

#[tokio::test]
async fn a_shard_that_is_set_in_a_way_that_nobody_can_follow() {
    let _others = among_others().await;
    let (server, _config, mut wire) = rig().await;
    let long = format!("/* {} */ SET sortie.shard = 0; SELECT 1", "x".repeat(400));
    for text in [
        "SET sortie.shard = 0; SET sortie.shard = 1",
        "SET sortie.shard = 0; SELECT count(*) FROM users",
        "SELECT set_config('sortie.shard', '0', true)",
        "SELECT 1, set_config('sortie.shard', '0', false)",
        "SELECT set_config('sortie.shard', '0', false)",
        "SET LOCAL sortie.shard = 0",
        "SET LOCAL \"sortie.shard\" = 0",
        "SET \"sortie.shard\" = 0; SELECT count(*) FROM users",
        &long,
    ] {
        let refused = wire.refusal(text).await;
        assert!(["55P02", "0A000"].contains(&refused.sqlstate.as_str()), "{text}: {refused:?}");
        assert_eq!(wire.rows("SHOW sortie.shard").await[0][0].as_deref(), Some("all"), "{text}");
    }
    let all = wire.rows(READ).await;
    // Alone it is followed, however it is said.
    for text in [
        &*format!("/* {} */ SET sortie.shard = 0", "x".repeat(400)),
        "SET SESSION \"sortie\".\"shard\" TO '0'",
        "SET \"Sortie.shard\" = 0",
    ] {
        wire.rows(text).await;
        assert_eq!(wire.rows("SHOW sortie.shard").await[0][0].as_deref(), Some("0"), "{text}");
        assert_ne!(wire.rows(READ).await, all, "{text}");
        wire.rows("RESET sortie.shard").await;
    }
    // Where the connection is the session's own, and where a transaction is open.
    for before in [DIRTY, "BEGIN; SELECT 1"] {
        wire.rows(before).await;
        assert_eq!(wire.refusal("SET sortie.shard = 1").await.sqlstate, "55P02", "{before}");
        wire.simple("ROLLBACK").await;
        wire.rows(before).await;
        assert_eq!(wire.refusal("SET \"sortie.shard\" = 1").await.sqlstate, "55P02", "{before}");
        wire.simple("ROLLBACK").await;
        wire.rows("DISCARD ALL").await;
        assert_eq!(wire.rows("SHOW sortie.shard").await[0][0].as_deref(), Some("all"));
    }
    let pipelined = Batch::new().statement("SELECT 1", &[]).statement("SET sortie.shard = 1", &[]);
    let frames = wire.ask(&pipelined.sync()).await;
    assert_eq!(frames.iter().find_map(Frame::report).unwrap().sqlstate, "55P02");
    drop(wire);
    server.stop().await;
}
