//! How many connections there are: kept open before anybody asks, and what those are told who need
//! one of a server that takes no more, while the others go on.

use std::net::SocketAddr;

use sortie_testkit::{Node, Wire};

use crate::faults::{POINT, cluster, outcome, until_answered};
use crate::relay::until;
use crate::stage::{Setup, endpoint};
use crate::support::among_others;

/// Takes every place that a server has.
async fn fill(server: SocketAddr) -> Vec<Wire> {
    let mut taken = Vec::new();
    loop {
        match Wire::try_connect(server, "tester").await {
            Ok(wire) => taken.push(wire),
            Err(frames) => {
                let report = frames.iter().find_map(sortie_testkit::Frame::report);
                assert_eq!(report.unwrap().sqlstate, "53300");
                return taken;
            }
        }
        assert!(taken.len() < 1000, "it is never full");
    }
}

#[tokio::test]
async fn a_server_that_is_full_says_so() {
    let _others = among_others().await;
    let cluster = cluster(1).await;
    let primary = cluster.primary(0).address();
    let mut taken = fill(primary).await;
    let setup = Setup {
        mode: "pipe",
        more: "[clusters.postgres.timeouts]\nwait = \"1s\"",
        ..Setup::default()
    };
    let standbys: Vec<SocketAddr> = cluster.standbys(0).iter().map(Node::address).collect();
    let sortie = endpoint(primary, &standbys, setup).await;
    let full = || Err(Some("53300".to_owned()));
    for _ in 0..3 {
        assert_eq!(outcome(sortie.listen(), "SELECT 1").await, full());
    }
    // One place, and it is enough for all who come one after the other.
    while until_free(sortie.listen()).await.is_err() {
        taken.pop().expect("places were taken");
    }
    taken.extend(fill(primary).await);
    for _ in 0..10 {
        assert_eq!(outcome(sortie.listen(), "SELECT 1").await, Ok(()));
    }
    // Who holds all that there are keeps the others waiting, and no longer than configured.
    let mut holding = Vec::new();
    loop {
        let mut wire = Wire::connect(sortie.listen()).await;
        let begun = wire.try_simple("BEGIN; SELECT 1").await.unwrap();
        match begun.iter().find_map(sortie_testkit::Frame::report) {
            Some(report) => break assert_eq!(report.sqlstate, "53300"),
            None => holding.push(wire),
        }
        assert!(holding.len() < 5, "more than there were");
    }
    assert!(!holding.is_empty());
    for wire in &mut holding {
        wire.rows("SELECT 1").await;
        wire.rows("COMMIT").await;
    }
    assert_eq!(outcome(sortie.listen(), "SELECT 1").await, Ok(()));
    drop((taken, holding));
    until_answered(sortie.listen(), "BEGIN; SELECT 1; COMMIT").await;
    sortie.stop().await;
}

/// Asks once more than a pause after a failure to connect is long.
async fn until_free(listen: SocketAddr) -> Result<(), Option<String>> {
    let mut last = Ok(());
    for _ in 0..8 {
        last = outcome(listen, "SELECT 1").await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    last
}

#[tokio::test]
async fn a_standby_that_is_full_is_not_missed() {
    let _others = among_others().await;
    let cluster = cluster(2).await;
    let standbys: Vec<SocketAddr> = cluster.standbys(0).iter().map(Node::address).collect();
    for server in &standbys {
        let taken = fill(*server).await;
        let setup = Setup { pipe_target: "replica", ..Setup::default() };
        let sortie = endpoint(cluster.primary(0).address(), &standbys, setup).await;
        for _ in 0..20 {
            assert_eq!(outcome(sortie.listen(), POINT).await, Ok(()));
            assert_eq!(outcome(sortie.listen(), "SELECT now()").await, Ok(()));
        }
        drop(taken);
        sortie.stop().await;
    }
}

#[tokio::test]
async fn connections_are_there_before_anybody_asks_and_after_they_were_lost() {
    let _others = among_others().await;
    let cluster = cluster(1).await;
    let standby = cluster.standby(0, 0).address();
    let setup = Setup { pipe_target: "replica", more: "warm_min = 3", ..Setup::default() };
    let sortie = endpoint(cluster.primary(0).address(), &[standby], setup).await;
    let label = format!("server=\"postgres/{standby}\"");
    let idle = |said: &sortie_testkit::Metrics| {
        said.sum("sortie_server_connections_idle", &[&label]) > 2.5
    };
    until(&sortie.server, idle).await;
    let mut admin = Wire::connect_as(standby, "postgres").await;
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE usename = 'tester'";
    let opened =
        |said: &sortie_testkit::Metrics| said.sum("sortie_server_connections_total", &[&label]);
    let before = opened(&sortie.server.metrics().await);
    admin.rows(kill).await;
    // Whoever meets a broken one has others opened.
    for _ in 0..5 {
        until_answered(sortie.listen(), POINT).await;
    }
    until(&sortie.server, |said| idle(said) && opened(said) > before + 0.5).await;
    sortie.stop().await;
}
