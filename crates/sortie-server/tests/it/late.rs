//! Reads that take longer than a flight may: they are nobody's to share, and nobody's to end.

use std::time::Duration;

use sortie_testkit::Wire;
use tokio::time::Instant;

use crate::faults::POINT;
use crate::relay::count;
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
