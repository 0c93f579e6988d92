//! Why statements are not shared, what sharing would save, and what is under way.

use std::collections::HashMap;
use std::time::Duration;

use sortie_testkit::{Batch, Wire};
use tokio::time::{sleep, timeout};

use crate::console::{Place, table, until};
use crate::relay::count;
use crate::support::{all_ask, among_others};

/// Longer than anything here takes by itself.
const WITHIN: Duration = Duration::from_secs(30);

/// Takes about a second on a quiet machine, and is the same to everybody.
const SLOW: &str = "SELECT count(*) FROM t a, t b, t c WHERE a.a + b.a + c.a > 7";

/// The number in a column.
fn number(row: &HashMap<String, String>, column: &str) -> u64 {
    row[column].parse().unwrap()
}

/// The row of `SHOW WHY` about a statement, for this reason.
async fn why(place: &Place, statement: &str, reason: &str) -> Option<HashMap<String, String>> {
    let rows = place.rows("WHY").await;
    let is_it = |row: &HashMap<String, String>| {
        row["reason"] == reason && row.get("statement").is_some_and(|it| it.contains(statement))
    };
    rows.into_iter().find(is_it)
}

/// Waits until the tables are known, so that statements are judged; returns how often that metric
/// has gone up by then.
async fn known(place: &Place, metric: &str) -> i64 {
    let mut wire = place.wire("tester", "bank").await;
    until(async || {
        wire.rows("SELECT a FROM t LIMIT 1").await;
        count(&place.server.metrics().await, metric, &[]) > 0
    })
    .await;
    // What is counted at its end has been, then.
    count(&place.server.idle().await, metric, &[])
}

#[tokio::test]
async fn statements_that_are_not_shared_are_told_with_the_reason() {
    let _others = among_others().await;
    let place = Place::with("", "").await;
    known(&place, "sortie_attempts_total").await;
    let mut wire = place.wire("tester", "bank").await;
    for number in 0..3 {
        wire.rows(&format!("SELECT a, random() FROM t WHERE a = {number} /* {number} */")).await;
    }
    for _ in 0..2 {
        let batch = Batch::new().statement("SELECT now(), $1::int", &[Some(b"7")]).sync();
        wire.ask(&batch).await;
    }
    wire.rows("SELECT count(*) FROM t").await;
    wire.rows("BEGIN; SELECT now()").await;
    wire.rows("SELECT a FROM t").await;
    wire.rows("COMMIT").await;
    let random = why(&place, "SELECT a, random() FROM t WHERE a = ?", "function").await.unwrap();
    assert_eq!((number(&random, "count"), &*random["lane"]), (3, "pipe"));
    assert!(number(&random, "server_time_us") > 0 && random["meaning"].contains("function"));
    let now = why(&place, "SELECT now(), $1::int", "function").await.unwrap();
    assert_eq!(number(&now, "count"), 2);
    assert!(why(&place, "count(*)", "function").await.is_none(), "it was shared");
    let rows = place.rows("WHY").await;
    let within = rows.iter().find(|row| row["reason"] == "transaction").unwrap();
    assert!(number(within, "count") >= 1, "{rows:?}");
    place.stop().await;
}

#[tokio::test]
async fn observing_says_what_sharing_would_save_and_shares_nothing() {
    let _others = among_others().await;
    let place = Place::with("", "mode = \"observe\"").await;
    let listen = place.server.listen();
    let before = known(&place, "sortie_observed_statements_total").await;
    let mut one = Wire::try_connect_to(listen, "tester", "bank").await.unwrap();
    // One at a time: nothing would be saved.
    for _ in 0..3 {
        one.rows("SELECT count(*) FROM t /* traceparent */").await;
    }
    let said = place.server.idle().await;
    assert_eq!(count(&said, "sortie_observed_statements_total", &[]), before + 3);
    assert_eq!(count(&said, "sortie_observed_saved_statements_total", &[]), 0);
    // Twelve at once, in words that differ in their comments: two loads would do for them.
    let mut wires = Vec::new();
    for _ in 0..12 {
        wires.push(Wire::try_connect_to(listen, "tester", "bank").await.unwrap());
    }
    let (wires, answers) = all_ask(wires, &Batch::new().query(SLOW)).await;
    assert!(answers.iter().all(|frames| frames.iter().all(|frame| frame.report().is_none())));
    until(async || {
        let said = place.server.metrics().await;
        count(&said, "sortie_observed_statements_total", &[]) == before + 15
    })
    .await;
    let said = place.server.metrics().await;
    let saved = count(&said, "sortie_observed_saved_statements_total", &[]);
    // On a slow machine not all of them are there at the same time.
    assert!((1..=10).contains(&saved), "{saved}");
    assert!(count(&said, "sortie_observed_saved_microseconds_total", &[]) > 0);
    assert_eq!(count(&said, "sortie_attempts_total", &[]), 0, "nothing is shared");
    let seen = why(&place, "FROM t a, t b", "observe").await.unwrap();
    assert_eq!((number(&seen, "count"), number(&seen, "saved")), (12, saved.unsigned_abs()));
    // What has other values is something else, and so is what another role asks.
    let mut other = Wire::try_connect_to(listen, "tester", "bank").await.unwrap();
    for value in [b"1", b"2"] {
        let batch = Batch::new().statement("SELECT a FROM t WHERE a = $1", &[Some(value)]).sync();
        other.ask(&batch).await;
    }
    other.rows("SELECT a, random() FROM t").await;
    assert_eq!(number(&why(&place, "a = $1", "observe").await.unwrap(), "count"), 2);
    assert_eq!(number(&why(&place, "random()", "function").await.unwrap(), "count"), 1);
    drop((one, wires, other));
    place.server.abandoned().await;
    let end = place.server.end("TERM").await;
    assert!(end.output.contains("would have been shared"), "{}", end.output);
    place.postgres.stop().await;
}

#[tokio::test]
async fn what_is_under_way_is_shown_with_who_waits_and_where() {
    let _others = among_others().await;
    let place = Place::with("", "").await;
    known(&place, "sortie_attempts_total").await;
    let mut wires = Vec::new();
    for _ in 0..4 {
        wires.push(place.wire("tester", "bank").await);
    }
    let mut looks = place.wire("tester", "sortie").await;
    let slow = SLOW.replace("t c", "t c, t d");
    let batch = Batch::new().query(&slow);
    let looking = async {
        // A flight is seen while it runs, whatever runs beside it.
        loop {
            let rows = table(&looks.simple("SHOW FLIGHTS").await);
            let seen = rows.iter().find(|row| row["statement"].contains("t d"));
            if let Some(seen) = seen
                && number(seen, "waiters") + number(seen, "waiting_for_next") == 4
            {
                break seen.clone();
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    let asks = all_ask(wires, &batch);
    let mut asks = std::pin::pin!(asks);
    let seen = tokio::select! {
        seen = timeout(WITHIN, looking) => seen.unwrap(),
        _ = &mut asks => panic!("it has ended before it was seen"),
    };
    assert_eq!((&*seen["user"], &*seen["protocol"]), ("tester", "simple"));
    assert_eq!(seen["replicas"], place.postgres.listen().to_string());
    let replicas = place.rows("REPLICAS").await;
    assert_eq!((replicas.len(), number(&replicas[0], "in_flight")), (1, 1), "{replicas:?}");
    assert!(number(&replicas[0], "attempts") >= 2 && number(&replicas[0], "latency_us") > 0);
    assert_eq!(replicas[0]["state"], "up");
    // Nobody waits for their answers any more: they are called back.
    let ids = table(&place.wire("tester", "sortie").await.simple("SHOW CLIENTS").await);
    let mut ops = place.wire("tester", "sortie").await;
    for id in ids.iter().filter(|row| row["database"] == "bank").map(|row| &row["id"]) {
        ops.simple(&format!("KILL {id}")).await;
    }
    until(async || table(&ops.simple("SHOW FLIGHTS").await).is_empty()).await;
    place.stop().await;
}
