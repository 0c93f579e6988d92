//! Answers that are too big to be shared.

use std::time::Duration;

use sortie_testkit::differ::{Mode, Script, Target, differences};
use sortie_testkit::{Batch, Frame, Wire};
use tokio::time::{sleep, timeout};

use crate::relay::{count, until};
use crate::stage::{Endpoint, Setup, Stage};
use crate::support::{all_ask, among_others, connect};

/// Longer than anything here takes.
const WITHIN: Duration = Duration::from_secs(60);

/// Two megabytes of 1,000 rows.
const LARGE: &str = "SELECT id, repeat(label, 250) FROM items ORDER BY id";
/// Fifty megabytes.
const GIANT: &str = "SELECT a.id, repeat(a.label, 1000) FROM items a, items b WHERE b.id < 7";
/// It fails behind more rows than are shared.
const FAILING: &str = "SELECT 10 / (id - 900), repeat(label, 250) FROM items ORDER BY id";
/// Rows that are longer than what is held.
const LONG: &str = "SELECT id, repeat(label, 50000) FROM items WHERE id < 7 ORDER BY id";

/// An endpoint that shares already.
async fn sharing(stage: &Stage, top: &'static str) -> Endpoint {
    let endpoint = stage.endpoint(Setup { top, ..Setup::default() }).await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    while said(&endpoint, "sortie_lane_statements_total", &["lane=\"shared\""]).await == 0 {
        wire.rows("SELECT label FROM items WHERE id = 7").await;
        sleep(Duration::from_millis(20)).await;
    }
    endpoint
}

async fn said(endpoint: &Endpoint, name: &str, labels: &[&str]) -> i64 {
    count(&endpoint.server.metrics().await, name, labels)
}

fn rows(frames: &[Frame]) -> usize {
    frames.iter().filter(|frame| frame.tag == b'D').count()
}

#[tokio::test]
async fn an_answer_too_big_to_share_is_the_same_for_all_and_needs_no_pipe() {
    const READERS: usize = 24;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = sharing(&stage, "").await;
    let batch = Batch::new().query(LARGE);
    let expected = Wire::connect(stage.primary()).await.ask(&batch).await;
    let wires = connect(endpoint.listen(), READERS).await;
    let (wires, answers) = all_ask(wires, &batch).await;
    assert!(rows(&expected) == 1_000 && answers.iter().all(|answer| *answer == expected));
    let readers = i64::try_from(READERS).unwrap();
    assert_eq!(said(&endpoint, "sortie_large_answers_total", &[]).await, readers);
    assert_eq!(said(&endpoint, "sortie_pipe_statements_total", &["reason=\"size\""]).await, 0);
    drop(wires);
    endpoint.stop().await;
}

#[tokio::test]
async fn what_is_passed_on_is_what_postgresql_says() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = sharing(&stage, "").await;
    let all = [LARGE, FAILING, LONG];
    let extended = |text| Batch::new().statement(text, &[]);
    let mut scripts = Vec::new();
    for text in all {
        let named = Batch::new().parse("s", text, &[]).sync();
        let bound = Batch::new().bind("", "s", (0, &[]), 1).execute_some("", 800).sync();
        let script = Script::new(format!("large: {text}")).query(text).ask(named).ask(bound);
        let script = script.ask(extended(text).sync().then(&extended("SELECT 1").sync()));
        let script = script.query("BEGIN").query(text).ask(extended(text).sync());
        scripts.push(script.query("SHOW transaction_isolation").query("COMMIT").query(text));
    }
    let servers = [stage.primary(), stage.cluster.standby(0, 0).address()];
    let targets = (&Target::endpoint(endpoint.listen(), &servers), &Target::postgres(servers[0]));
    let modes = [Mode::AsWritten, Mode::Pipelined];
    assert_eq!(differences(scripts, &modes, targets, 2).await, "");
    assert!(said(&endpoint, "sortie_large_answers_total", &[]).await > 12);
    endpoint.stop().await;
}

#[tokio::test]
async fn who_reads_slowly_stops_nobody_and_is_ended() {
    const SLOW: usize = 12;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = sharing(&stage, "stall_max = \"3s\"").await;
    let mut slow = connect(endpoint.listen(), SLOW).await;
    for wire in &mut slow {
        wire.send(Batch::new().query(GIANT).bytes()).await;
    }
    let large = "sortie_large_answers_total";
    let began = i64::try_from(SLOW).unwrap();
    until(&endpoint.server, |said| count(said, large, &[]) >= began.min(8)).await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    let healthy = async {
        assert_eq!(wire.rows("SELECT label FROM items WHERE id = 8").await.len(), 1);
        assert_eq!(rows(&wire.simple(GIANT).await), 6_000);
    };
    timeout(WITHIN, healthy).await.expect("nobody waits for those who read nothing");
    let stalls = "sortie_client_stalls_total";
    until(&endpoint.server, |said| count(said, stalls, &[]) == began).await;
    drop((slow, wire));
    endpoint.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_passed_on_can_be_cancelled() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = sharing(&stage, "").await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    for _ in 0..3 {
        wire.send(Batch::new().query(GIANT).bytes()).await;
        assert_eq!(wire.frame().await.unwrap().tag, b'T');
        wire.cancel().await;
        let rest = wire.until_ready().await;
        let report = rest.iter().find_map(Frame::report).expect("it is told");
        assert_eq!(report.sqlstate, "57014");
        assert!(rows(&rest) < 6_000);
        assert_eq!(wire.rows("SELECT 1").await.len(), 1);
    }
    drop(wire);
    endpoint.stop().await;
}
