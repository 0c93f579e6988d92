//! A verdict holds as long as what it was given by, on every server that it is read from.

use std::time::Duration;

use sortie_testkit::{Batch, Cluster, LabConfig, Wire};
use tokio::time::{Instant, sleep};

use crate::lazy::shared;
use crate::stage::{self, Setup};
use crate::support::among_others;

/// Longer than two looks at the servers' catalogs.
const LOOKED_MAX: Duration = Duration::from_secs(60);

const TABLE: &str = "CREATE ROLE tester LOGIN;
    CREATE TABLE things (id int8 PRIMARY KEY, value int8);
    INSERT INTO things VALUES (1, 1);
    GRANT SELECT ON things TO tester;";

/// Its standbys that have not replayed it still have the table.
const VIEW: &str = "SET synchronous_commit = local; BEGIN;
    ALTER TABLE things RENAME TO stored;
    CREATE VIEW things AS SELECT id, value FROM stored;
    GRANT SELECT ON things TO tester; COMMIT;";

#[tokio::test]
async fn a_prepared_read_is_shared_no_more_once_one_server_has_a_view_of_that_name() {
    let _others = among_others().await;
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 2, false);
    let cluster = Cluster::private(config).await;
    let (primary, standbys) = (cluster.primary(0), cluster.standbys(0));
    primary.script_in("postgres", TABLE).await;
    let addresses: Vec<_> = standbys.iter().map(sortie_testkit::Node::address).collect();
    let setup = Setup { pipe_target: "replica", ..Setup::default() };
    let endpoint = stage::endpoint(primary.address(), &addresses, setup).await;
    let mut wire = Wire::connect(endpoint.listen()).await;
    let parse = Batch::new().parse("s", "SELECT value FROM things WHERE id = $1", &[]).sync();
    wire.ask(&parse).await;
    let bound = Batch::new().bind("", "s", (0, &[Some(b"1")]), 0).execute("").sync();
    let began = Instant::now();
    // Until it is known, and then until it is known no more.
    for known in [true, false] {
        loop {
            let before = shared(&endpoint.server.metrics().await);
            wire.ask(&bound).await;
            if (shared(&endpoint.server.metrics().await) > before) == known {
                break;
            }
            assert!(began.elapsed() < LOOKED_MAX, "known: {known}");
            sleep(Duration::from_millis(200)).await;
        }
        if known {
            // The one that is looked at first.
            standbys[0].pause_replay().await;
            primary.script_in("postgres", VIEW).await;
        }
    }
    standbys[0].resume_replay().await;
    drop(wire);
    endpoint.stop().await;
}
