//! Reads that take longer than a flight may: they are nobody's to share, and nobody's to end.

use std::time::Duration;

use sortie_testkit::Wire;
use tokio::time::{Instant, sleep};

use crate::faults::POINT;
use crate::relay::count;
use crate::stage::{Setup, Stage};
use crate::support::among_others;

/// Longer than it takes to look at a server's catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_read_that_takes_longer_than_a_flight_goes_on_by_itself() {
    let _others = among_others().await;
    let stage = Stage::take().await;
    let more = "[clusters.postgres.timeouts]\nflight = \"300ms\"";
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
    // Reads wait for this lock, on the standby as well once the commit behind it is there.
    let mut locker = Wire::connect_as(stage.cluster.primary(0).address(), "postgres").await;
    locker.rows("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await;
    stage.cluster.primary(0).script_in("postgres", "SELECT pg_current_xact_id()").await;
    let unlock = async {
        sleep(Duration::from_millis(1_500)).await;
        locker.rows("ROLLBACK").await;
    };
    let (rows, ()) = tokio::join!(wire.rows(POINT), unlock);
    assert_eq!(rows[0][0].as_deref(), Some("item 7"));
    let label = "reason=\"size\"";
    let said = sortie.server.metrics().await;
    assert_eq!(count(&said, "sortie_pipe_statements_total", &[label]), 1);
    drop((wire, locker));
    sortie.stop().await;
}
