//! A verdict holds as long as what it was given by, on every server that it is read from.

use std::time::Duration;

use sortie_testkit::{Batch, Cluster, LabConfig, Postgres, Wire};
use tokio::time::{Instant, sleep};

use crate::lazy::{pins, shared};
use crate::relay::start;
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

const HELD: &str = "CREATE ROLE tester LOGIN;
    CREATE TABLE held (id int8 PRIMARY KEY, tenant text);
    INSERT INTO held VALUES (1, 't1'), (2, 't2');
    GRANT SELECT ON held TO tester;
    ALTER TABLE held ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON held USING (tenant = current_setting('app.tenant', true));";

#[tokio::test]
async fn what_a_role_has_set_by_default_holds_for_whoever_comes_later() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    postgres.script(HELD).await;
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    let (server, _config) = start(&[url], 5).await;
    let read = "SELECT id FROM held";
    let mut first = Wire::connect(server.listen()).await;
    assert_eq!(first.rows(read).await.len(), 0);
    for (zone, tenant, id) in [("Asia/Tokyo", "t1", "1"), ("Europe/Paris", "t2", "2")] {
        let set = "ALTER ROLE tester SET";
        let script = format!("{set} timezone = '{zone}'; {set} app.tenant = '{tenant}';");
        postgres.script(&script).await;
        let began = Instant::now();
        loop {
            let mut wire = Wire::connect(server.listen()).await;
            if wire.parameter("TimeZone") == Some(zone) {
                // By each lane, and on any connection.
                let before = shared(&server.metrics().await);
                for begin in ["", "SET sortie.lane = pipe"] {
                    wire.simple(begin).await;
                    for _ in 0..3 {
                        assert_eq!(wire.rows(read).await, [[Some(id.to_owned())]], "{begin}");
                        let shown = wire.rows("SHOW timezone").await;
                        assert_eq!(shown, [[Some(zone.to_owned())]]);
                    }
                }
                assert_eq!(shared(&server.metrics().await) - before, 3);
                break;
            }
            assert!(began.elapsed() < LOOKED_MAX, "{:?}", wire.parameter("TimeZone"));
            sleep(Duration::from_millis(200)).await;
        }
    }
    drop(first);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}

#[tokio::test]
async fn defaults_that_say_what_holds_anyway_keep_nobody_from_sharing() {
    let _others = among_others().await;
    let postgres = Postgres::start().await;
    let usual = "CREATE DATABASE other;
        ALTER ROLE tester SET client_encoding TO 'utf8';
        ALTER ROLE tester SET default_transaction_isolation TO 'read committed';
        ALTER DATABASE other SET default_transaction_isolation TO 'serializable';
        ALTER DATABASE other SET standard_conforming_strings TO off;
        ALTER DATABASE postgres SET standard_conforming_strings TO on;";
    postgres.script(TABLE).await;
    postgres.script(usual).await;
    let url = format!("postgres://tester@{}/postgres", postgres.listen());
    let (server, _config) = start(&[url], 5).await;
    let mut wire = Wire::connect(server.listen()).await;
    let read = "SELECT value FROM things WHERE id = 1";
    for text in [read, "BEGIN", read, "COMMIT"] {
        wire.simple(text).await;
    }
    let said = server.metrics().await;
    assert_eq!((shared(&said), pins(&said)), (2, 0), "{said:?}");
    drop(wire);
    server.abandoned().await;
    server.stop().await;
    postgres.stop().await;
}
