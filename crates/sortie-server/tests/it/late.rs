//! Reads that come late, and reads that take longer than a flight may.

use std::time::Duration;

use sortie_testkit::{Wire, cluster};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::faults::POINT;
use crate::lazy::{TWO, attempts, before};
use crate::relay::{count, until};
use crate::stage::{Setup, Stage};
use crate::support::among_others;

/// A read that may be shared, and that takes a server some hundred milliseconds.
const LONG: &str = "SELECT count(*) FROM items, generate_series(1, 5000000) WHERE id = 7";

/// Longer than it takes to look at a server's catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_read_that_takes_longer_than_a_flight_goes_on_by_itself() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let more = "[clusters.postgres.timeouts]\nflight = \"50ms\"";
    let sortie = stage.endpoint(Setup { more, ..Setup::default() }).await;
    let mut wire = Wire::connect(sortie.listen()).await;
    let began = Instant::now();
    let shared = async || {
        let label = "lane=\"shared\"";
        count(&sortie.server.metrics().await, "sortie_lane_statements_total", &[label])
    };
    while shared().await == 0 {
        assert!(began.elapsed() < LOOKED_MAX, "the catalogs are not read");
        wire.rows(POINT).await;
    }
    assert_eq!(wire.rows(LONG).await[0][0].as_deref(), Some("5000000"));
    let label = "reason=\"size\"";
    let said = sortie.server.metrics().await;
    assert_eq!(count(&said, "sortie_pipe_statements_total", &[label]), 1, "{said:?}");
    drop(wire);
    sortie.stop().await;
}

/// A read that waits for a connection has read nothing: whoever comes meanwhile is in time.
#[tokio::test]
async fn who_comes_while_a_read_waits_for_a_connection_shares_it() {
    let _others = among_others().await;
    let cluster = cluster().await;
    let url = format!("postgres://reader@{}/sortie", cluster.primary(0).address());
    let (server, _config) = before(url, "reader").await;
    let mut holding = Vec::new();
    // As many as there are connections.
    for _ in 0..5 {
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        wire.rows("BEGIN; SELECT 1").await;
        holding.push(wire);
    }
    let begin = attempts(&server.metrics().await);
    let mut readers = JoinSet::new();
    for nth in 0..4 {
        let mut wire = Wire::connect_as(server.listen(), "reader").await;
        readers.spawn(async move { wire.rows(TWO).await });
        until(&server, |said| count(said, "sortie_waiters_in_flight", &[]) == nth + 1).await;
    }
    drop(holding);
    while let Some(rows) = readers.join_next().await {
        assert_eq!(rows.unwrap().len(), 1);
    }
    assert_eq!(attempts(&server.abandoned().await) - begin, 1);
    server.stop().await;
}
