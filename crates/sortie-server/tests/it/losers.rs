//! Nothing is left of attempts that lose, legs that end with their scatter, and statements whose
//! time is up.

use std::net::SocketAddr;
use std::time::Duration;

use sortie_testkit::{Batch, Cluster, Frame, LabConfig, Node, Server, Wire, differ};
use tokio::time::{Instant, sleep, timeout};

use crate::leftovers::nothing_is_left;
use crate::relay::{start, until};
use crate::stage::{Setup, endpoint};
use crate::support::{all_ask, alone, among_others, connect};

const CLIENTS: usize = 20;
const ROUNDS: usize = 5;
/// Longer than anything here takes by itself.
const WITHIN: Duration = Duration::from_secs(20);

async fn observers(nodes: &[Node]) -> Vec<Wire> {
    let mut observers = Vec::new();
    for node in nodes {
        observers.push(Wire::connect_as(node.address(), "postgres").await);
    }
    observers
}

fn states(answers: &[Vec<Frame>]) -> Vec<String> {
    let reports = answers.iter().flatten().filter_map(Frame::report);
    reports.map(|report| report.sqlstate).collect()
}

#[tokio::test]
async fn of_legs_whose_scatter_has_failed() {
    let _alone = alone().await;
    let mut config = LabConfig::default();
    (config.shards, config.replicas) = (2, 1);
    let cluster = Cluster::private(config).await;
    let (good, bad) = (cluster.primary(0), cluster.primary(1));
    let url = |node: &Node| format!("postgres://reader@{}/sortie", node.address());
    let (server, _config) = start(&[url(&good), url(&bad)], 30).await;
    let mut wire = Wire::connect_as(server.listen(), "reader").await;
    let began = Instant::now();
    while wire.simple("SELECT count(*) FROM users").await.iter().any(|it| it.report().is_some()) {
        assert!(began.elapsed() < WITHIN, "the catalogs are not read");
        sleep(Duration::from_millis(50)).await;
    }
    // One leg waits for a lock that nobody gives back; the other fails.
    let mut keeper = Wire::try_connect_to(good.address(), "postgres", "sortie").await.unwrap();
    keeper.rows("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await;
    bad.script("REVOKE SELECT ON users FROM reader, PUBLIC").await;
    let mut observers = observers(&[good.clone(), bad.clone()]).await;
    let mut wires = Vec::new();
    for _ in 0..CLIENTS {
        wires.push(Wire::connect_as(server.listen(), "reader").await);
    }
    for round in 0..ROUNDS {
        let text = format!("SELECT count(*) FROM users WHERE user_id > {round}");
        let batch = Batch::new().query(&text);
        let asked = all_ask(wires, &batch);
        let (back, answers) = timeout(WITHIN, asked).await.expect("a failure ends all legs");
        wires = back;
        assert_eq!(states(&answers), vec!["42501"; CLIENTS]);
        nothing_is_left(&mut observers, &server).await;
    }
    let metrics = server.metrics().await;
    assert!(metrics.sum("sortie_scatter_legs_total", &["outcome=\"cancelled\""]) > 0.5);
    keeper.rows("ROLLBACK").await;
    drop((wires, wire));
    server.stop().await;
}

#[tokio::test]
async fn of_attempts_that_were_outrun() {
    let _alone = alone().await;
    let mut config = LabConfig::default();
    (config.shards, config.replicas, config.sample) = (1, 2, false);
    let cluster = Cluster::private(config).await;
    let primary = cluster.primary(0);
    primary.script_in("postgres", differ::prepare()).await;
    let (slow, fast) = (cluster.standby(0, 0), cluster.standby(0, 1));
    let standbys: Vec<SocketAddr> = cluster.standbys(0).iter().map(Node::address).collect();
    let setup = Setup { pipe_target: "replica", connections_max: 30, ..Setup::default() };
    let sortie = endpoint(primary.address(), &standbys, setup).await;
    let mut wires = connect(sortie.listen(), CLIENTS).await;
    for wire in &mut wires {
        wire.rows("SELECT label FROM items WHERE id = 1").await;
    }
    // A lock that only one of the standbys has replayed: reads wait there.
    fast.pause_replay().await;
    let mut keeper = Wire::connect_as(primary.address(), "postgres").await;
    lock(&mut keeper, &primary, &slow).await;
    let mut observers = observers(&[slow, fast.clone()]).await;
    let before = sortie.server.metrics().await;
    for round in 0..ROUNDS {
        let text = format!("SELECT label FROM items WHERE id > 990 AND id <> {round}");
        let batch = Batch::new().query(&text);
        let asked = all_ask(wires, &batch);
        let (back, answers) = timeout(WITHIN, asked).await.expect("the other standby answers");
        wires = back;
        assert_eq!(states(&answers), Vec::<String>::new());
        nothing_is_left(&mut observers, &sortie.server).await;
    }
    let after = sortie.server.metrics().await;
    let more = |name: &str| after.sum(name, &[]) - before.sum(name, &[]);
    assert!(more("sortie_losers_total") > 0.5, "nobody was outrun");
    assert!(more("sortie_abandoned_queries_total") > 0.5, "nobody was called back");
    keeper.rows("ROLLBACK").await;
    fast.resume_replay().await;
    drop(wires);
    sortie.stop().await;
}

#[tokio::test]
async fn of_statements_whose_time_is_up() {
    let _others = among_others().await;
    let cluster = crate::stage::prepared().await;
    let primary = cluster.primary(0);
    let setup = Setup { pipe_target: "replica", ..Setup::default() };
    let standby = cluster.standby(0, 0);
    let sortie = endpoint(primary.address(), &[standby.address()], setup).await;
    let mut hasty = Wire::connect(sortie.listen()).await;
    let read = "SELECT label FROM items WHERE id = 5";
    until_shared(&sortie.server, &mut hasty, read).await;
    let mut observers = observers(std::slice::from_ref(&standby)).await;
    // In the pipe lane it is the server that says so, and the session goes on.
    hasty.rows("SET statement_timeout = '300ms'").await;
    let began = Instant::now();
    let refused = hasty.refusal("SELECT pg_sleep(60)").await;
    assert_eq!(refused.sqlstate, "57014");
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    nothing_is_left(&mut observers, &sortie.server).await;
    // In the shared lane it is each reader's own: others wait longer, on the same flight.
    let mut keeper = Wire::connect_as(primary.address(), "postgres").await;
    lock(&mut keeper, &primary, &standby).await;
    let mut patient = Wire::connect(sortie.listen()).await;
    patient.rows("SET statement_timeout = '1min'").await;
    patient.send(Batch::new().query(read).bytes()).await;
    until(&sortie.server, |said| said.sum("sortie_flights_in_flight", &[]) > 0.5).await;
    let refused = timeout(WITHIN, hasty.refusal(read)).await.expect("its time is up");
    assert_eq!(refused.sqlstate, "57014");
    keeper.rows("ROLLBACK").await;
    let answer = timeout(WITHIN, patient.until_ready()).await.expect("the lock is gone");
    assert_eq!(answer[1].row().map(|row| row.len()), Some(1), "{answer:?}");
    assert_eq!(hasty.rows(read).await.len(), 1);
    // Alone on its flight: nothing runs on after it.
    lock(&mut keeper, &primary, &standby).await;
    assert_eq!(hasty.refusal(read).await.sqlstate, "57014");
    nothing_is_left(&mut observers, &sortie.server).await;
    keeper.rows("ROLLBACK").await;
    drop((hasty, patient));
    sortie.stop().await;
}

/// Locks the table; returns when the standby has replayed that, and has reads wait for it.
async fn lock(keeper: &mut Wire, primary: &Node, standby: &Node) {
    keeper.rows("BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE").await;
    // A commit, so that the log is written up to here.
    let commit = "SET synchronous_commit = local; CREATE TABLE IF NOT EXISTS seen (x int); \
                  INSERT INTO seen VALUES (1)";
    primary.script_in("postgres", commit).await;
    let mut there = Wire::connect_as(standby.address(), "postgres").await;
    let began = Instant::now();
    let held = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted \
                AND relation = 'items'::regclass";
    while there.rows(held).await[0][0].as_deref() == Some("0") {
        assert!(began.elapsed() < WITHIN, "the lock is not replayed");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn until_shared(server: &Server, wire: &mut Wire, read: &str) {
    let began = Instant::now();
    let shared =
        async || server.metrics().await.sum("sortie_lane_statements_total", &["lane=\"shared\""]);
    while shared().await < 0.5 {
        wire.rows(read).await;
        assert!(began.elapsed() < WITHIN, "nothing is shared");
        sleep(Duration::from_millis(50)).await;
    }
}
