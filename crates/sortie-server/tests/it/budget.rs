//! Clients that together would hold more in memory than may wait there: who is ended, who is
//! refused, and that nobody else notices.

use std::time::Duration;

use sortie_testkit::{Batch, Frame, Metrics, Wire};
use tokio::time::timeout;

use crate::hostile::is_well;
use crate::relay::{count, until};
use crate::stage::{Setup, Stage};
use crate::support::{among_others, connect};

/// The least that may be configured.
const TOP: &str = "buffered_max = \"4MiB\"";
const PRESSED: i64 = 3 << 20;
/// A request that is gathered as a whole.
const LENGTH: usize = 250 << 10;

fn buffered(said: &Metrics) -> i64 {
    count(said, "sortie_buffered_bytes_in_flight", &[])
}

/// What an error says, and whether the session goes on.
fn told(frames: &Result<Vec<Frame>, Vec<Frame>>) -> Option<(String, bool)> {
    let (Ok(said) | Err(said)) = frames;
    let report = said.iter().find_map(Frame::report)?;
    Some((report.sqlstate, frames.is_ok()))
}

#[tokio::test]
async fn who_takes_no_large_answers_is_ended_before_they_fill_the_memory() {
    /// Fewer than there are connections to the server: of those they may hold one each.
    const SLOW: usize = 12;
    /// More than the sockets of both ends hold.
    const ANSWERS: usize = 12;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup { top: TOP, ..Setup::default() }).await;
    let mut slow = connect(endpoint.listen(), SLOW).await;
    for (number, wire) in slow.iter_mut().enumerate() {
        let text = |answer| {
            let length = 900_000 + number * ANSWERS + answer;
            format!("SELECT repeat('x', {length}) FROM items WHERE id = 7")
        };
        let asked = (0..ANSWERS).fold(Batch::new(), |asked, answer| asked.query(&text(answer)));
        wire.send(asked.bytes()).await;
    }
    until(&endpoint.server, |said| count(said, "sortie_client_evictions_total", &[]) > 0).await;
    // Who reads gets his answer, whole, whatever waits for others.
    let mut wire = Wire::connect(endpoint.listen()).await;
    let rows = wire.rows("SELECT repeat('y', 1000000) FROM items WHERE id = 7").await;
    assert_eq!(rows[0][0].as_ref().map(String::len), Some(1_000_000));
    is_well(endpoint.listen()).await;
    until(&endpoint.server, |said| buffered(said) <= PRESSED).await;
    let output = endpoint.server.output();
    let line = output.lines().find(|line| line.contains("(53200)"));
    let line = line.unwrap_or_else(|| panic!("{output}"));
    assert!(line.contains("user=\"tester\"") && line.contains("127.0.0.1:"), "{line}");
    drop((slow, wire));
    endpoint.stop().await;
}

#[tokio::test]
async fn who_sends_parts_of_requests_is_ended_before_they_fill_the_memory() {
    const SLOW: usize = 60;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let endpoint = stage.endpoint(Setup { top: TOP, ..Setup::default() }).await;
    let query = format!("SELECT length('{}')", "x".repeat(LENGTH));
    let batch = Batch::new().query(&query);
    let (begin, rest) = batch.bytes().split_at(LENGTH - 10_000);
    let mut slow = connect(endpoint.listen(), SLOW).await;
    for wire in &mut slow {
        wire.send(begin).await;
    }
    is_well(endpoint.listen()).await;
    until(&endpoint.server, |said| {
        let ended = count(said, "sortie_client_evictions_total", &[]);
        let holders = count(said, "sortie_buffering_clients_in_flight", &[]);
        // Each is one of them, and none is both any more.
        buffered(said) <= PRESSED && usize::try_from(ended + holders) == Ok(SLOW)
    })
    .await;
    let (mut ended, mut answered) = (0, 0);
    for mut wire in slow {
        match timeout(Duration::from_millis(300), wire.frame()).await {
            Ok(Some(frame)) => {
                assert_eq!(frame.report().map(|it| it.sqlstate).as_deref(), Some("53200"));
                assert_eq!(wire.frame().await, None);
                ended += 1;
            }
            Ok(None) => panic!("it is not told why"),
            Err(_silent) => {
                wire.send(rest).await;
                let rows = wire.until_ready().await;
                assert!(rows.iter().any(|frame| frame.row().is_some()), "{rows:?}");
                answered += 1;
            }
        }
    }
    assert!(ended > SLOW / 2 && answered > 0, "{ended} ended, {answered} answered");
    endpoint.stop().await;
}

#[tokio::test]
async fn while_too_much_waits_a_long_request_is_refused_and_a_short_one_is_not() {
    const ASKING: usize = 40;
    let _others = among_others().await;
    let stage = Stage::take().await;
    let more = "[clusters.postgres.timeouts]\nwait = \"60s\"";
    let setup = Setup { top: TOP, connections_max: 1, more, ..Setup::default() };
    let endpoint = stage.endpoint(setup).await;
    let mut busy = Wire::connect(endpoint.listen()).await;
    busy.send(Batch::new().query("SELECT pg_sleep(600)").bytes()).await;
    until(&endpoint.server, |said| count(said, "sortie_pins_in_flight", &[]) == 1).await;
    let mut waiting = connect(endpoint.listen(), ASKING).await;
    // By the pipe, which has no connection for them.
    let query = format!("SELECT length('{}'), random()", "x".repeat(LENGTH));
    for wire in &mut waiting {
        wire.send(Batch::new().query(&query).bytes()).await;
    }
    until(&endpoint.server, |said| count(said, "sortie_client_errors_total", &[]) > 0).await;
    assert!(buffered(&endpoint.server.metrics().await) < 12 << 20);
    // Small ones are shared meanwhile.
    let mut wire = Wire::connect(endpoint.listen()).await;
    assert_eq!(wire.rows("SELECT label FROM items WHERE id = 7").await.len(), 1);
    busy.cancel().await;
    busy.until_ready().await;
    let (mut refused, mut answered) = (0, 0);
    for mut wire in waiting {
        let frames = wire.until_ready_or_end().await;
        match told(&frames) {
            None => answered += 1,
            Some((sqlstate, goes_on)) => {
                assert_eq!(sqlstate, "53200", "{frames:?}");
                refused += 1;
                // It may have been ended for what it held by then.
                if goes_on && let Err(last) = wire.try_simple("SELECT 1").await {
                    assert_eq!(told(&Err(last)), Some(("53200".to_owned(), false)));
                }
            }
        }
    }
    assert!(refused > 0 && answered > 0, "{refused} refused, {answered} answered");
    drop((busy, wire));
    endpoint.stop().await;
}
